/* words.c: the review program for a host that gives no arguments: they are in the environment, one a line. */
int review_main(int argc, char **argv);
#define main review_main
#include "../../../examples/review.c"
#undef main

int main(void)
{
    static char words[4096];
    const char *given = getenv("WORDS");
    char *arguments[64];
    char *word = words;
    int count = 0;
    (void)snprintf(words, sizeof words, "review\n%s", given != NULL ? given : "");
    while (word != NULL && count < 63) {
        char *end = strchr(word, '\n');
        arguments[count++] = word;
        if (end != NULL) *end++ = 0;
        word = end;
    }
    arguments[count] = NULL;
    return review_main(count, arguments);
}
