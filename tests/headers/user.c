/* A second file of a program: it uses the library that another file implements (or, static, its own). */
#include "../../persistent_agent.h"

static int same(const char *left, const char *right)
{
    while (*left != 0 && *left == *right) {
        left++;
        right++;
    }
    return *left == *right;
}

int main(void)
{
    static unsigned char room[4096];
    pagent_arena arena;
    void *made;
    pagent_init_arena(&arena, room, sizeof room);
    made = pagent_arena_allocate(&arena, NULL, 0, 100);
    if (made == NULL) return 1;
    if (!same(pagent_result_name(PAGENT_E_CONFLICT), "E_CONFLICT")) return 2;
    if (pagent_stream_of("a") == pagent_stream_of("b")) return 3;
    return 0;
}
