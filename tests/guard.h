/* guard.h: bytes that end where memory ends, so that who reads one too many is caught. Include it after
   persistent_agent.h with its implementation. */
#ifndef GUARD_H
#define GUARD_H

#include <stdint.h>
#include <stdlib.h>

enum {
    GUARD_ROOM = 64 * 1024 /* before the end, at the least */
};

#if defined(__wasm__) /* no pages there: the same checks, without the guard */

static inline uint8_t *guard_end(void)
{
    static uint64_t room[GUARD_ROOM / 8];
    return (uint8_t *)room + sizeof room;
}

#else

#include <sys/mman.h>
#include <unistd.h>

/* Behind it is memory that nobody may touch. */
static inline uint8_t *guard_end(void)
{
    static uint8_t *end;
    if (end == NULL) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (GUARD_ROOM + page - 1) / page * page;
        void *made = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (made == MAP_FAILED) abort();
        end = (uint8_t *)made + room;
        if (mprotect(end, page, PROT_NONE) != 0) abort();
    }
    return end;
}

#endif

#endif /* GUARD_H */
