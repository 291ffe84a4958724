/* harness.h: tests by name, one after the other, and the closing line that run.sh counts. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdint.h>
#include <stdio.h>

static uint32_t passed, failed, skipped, failures; /* tests; failed checks of the test that runs */
static const char *about;                          /* it */

/* Ends the test before it; NULL: that was the last one. */
static void begin_test(const char *name)
{
    if (about != NULL && failures == 0) passed++;
    if (about != NULL && failures != 0) failed++;
    failures = 0;
    about = name;
}

static int check(int good, const char *what, int line)
{
    if (!good) {
        failures++;
        printf("FAILED %s: %s (line %d)\n", about, what, line);
    }
    return good;
}
#define CHECK(condition) check((condition) ? 1 : 0, #condition, __LINE__)

/* What main returns. */
static int end_tests(void)
{
    begin_test(NULL);
    printf("%u passed, %u failed, %u skipped\n", (unsigned)passed, (unsigned)failed, (unsigned)skipped);
    return failed != 0;
}

#endif /* HARNESS_H */
