/* test.h: the test harness.

   A program is some TEST(name) { ... } functions and, last, TEST_MAIN(ROW(name), ...). A test that sweeps asks
   test_case(id), or test_sweep(id), before each case: the id (a cut point, a bit, a length ...) and the seed repeat
   exactly that case:

       tests/store crash_append --seed 1 --cut 1234

   Options: a name (or the beginning of one), --list, --seed S, --cut N, --effort N (cases in hundredths of the usual
   number; above 100 only random sweeps grow), --verbose. Exit: 0 all passed or skipped, 1 something failed, 2 bad
   usage. */
#ifndef TEST_H
#define TEST_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST_ANY_CASE UINT64_MAX
/* A sanitizer costs five times the time: there a part of each large sweep is the default. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_EFFORT 25
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define TEST_EFFORT 25
#endif
#ifndef TEST_EFFORT
#define TEST_EFFORT 100
#endif

#define TEST_FAILURES_SHOWN 6u /* per test */
#define TEST_FAILURES_MAX 200u /* per test; then its sweep ends */

typedef struct test_row {
    const char *name;
    void (*run)(void);
} test_row;

typedef struct test_state {
    const char *program;
    const char *name;    /* of the test that runs */
    const char *skipped; /* why */
    uint64_t seed;
    uint64_t only; /* --cut */
    uint64_t at;   /* the case that runs */
    uint64_t cases;
    uint64_t matched;
    uint32_t failures;
    uint32_t effort;
    uint32_t verbose;
    uint32_t option; /* of the program itself: see test_option */
} test_state;

static test_state test;

/* A program may accept one option of its own, such as --write-golden. */
#ifndef TEST_OPTION
#define TEST_OPTION ""
#endif

static inline void test_failed(const char *file, int line, const char *format, ...)
{
    va_list list;
    if (++test.failures > TEST_FAILURES_SHOWN && !test.verbose) return;
    printf("  FAILED %s:%d: ", file, line);
    va_start(list, format);
    (void)vprintf(format, list);
    va_end(list);
    printf("\n    again: %s %s --seed %llu", test.program, test.name, (unsigned long long)test.seed);
    if (test.at != TEST_ANY_CASE) printf(" --cut %llu", (unsigned long long)test.at);
    printf("\n");
    (void)fflush(stdout);
}

static inline int test_check(int good, const char *file, int line, const char *text)
{
    if (!good) test_failed(file, line, "%s", text);
    return good;
}

static inline int test_equal(int64_t left, int64_t right, const char *file, int line, const char *text)
{
    if (left != right) test_failed(file, line, "%s: %lld, not %lld", text, (long long)left, (long long)right);
    return left == right;
}

static inline int test_text(const char *left, const char *right, const char *file, int line, const char *text)
{
    int good = left != NULL && right != NULL && strcmp(left, right) == 0;
    if (!good)
        test_failed(file, line, "%s: \"%s\", not \"%s\"", text, left ? left : "(null)", right ? right : "(null)");
    return good;
}

/* Each is an expression, true when the check holds: `if (!CHECK(x)) return;` */
#define CHECK(condition) test_check((condition) != 0, __FILE__, __LINE__, #condition)
#define CHECK_EQ(left, right) test_equal((int64_t)(left), (int64_t)(right), __FILE__, __LINE__, #left " == " #right)
#define CHECK_TEXT(left, right) test_text((left), (right), __FILE__, __LINE__, #left)
#define FAIL(...) test_failed(__FILE__, __LINE__, __VA_ARGS__)
#define SKIP(reason)                                                                                                   \
    do {                                                                                                               \
        test.skipped = (reason);                                                                                       \
        return;                                                                                                        \
    } while (0)

/* Is this case of a sweep to be run? With --cut only that one is; after too many failures none is. */
static inline int test_case(uint64_t id)
{
    if (test.only != TEST_ANY_CASE && test.only != id) return 0;
    if (test.failures >= TEST_FAILURES_MAX) return 0;
    test.at = id;
    test.cases++;
    return 1;
}

/* As test_case, for large sweeps: below effort 100 only so many of a hundred cases are run; which, the seed says. */
static inline int test_sweep(uint64_t id)
{
    uint64_t x = (id ^ test.seed << 40) * UINT64_C(0x9E3779B97F4A7C15);
    if (test.only == TEST_ANY_CASE && test.effort < 100 && (x ^ x >> 29) % 100u >= test.effort) return 0;
    return test_case(id);
}

/* `count` at the default effort. */
static inline uint64_t test_effort(uint64_t count)
{
    uint64_t scaled = count * test.effort / 100u;
    return scaled != 0 ? scaled : 1;
}

static inline int test_usage(const char *wrong)
{
    fprintf(stderr, "%s: %s\nusage: %s [NAME] [--list] [--seed S] [--cut N] [--effort N] [--verbose] %s\n",
            test.program, wrong, test.program, TEST_OPTION);
    return 2;
}

static inline int test_number(const char *text, uint64_t *number)
{
    char *end = NULL;
    *number = text != NULL ? strtoull(text, &end, 10) : 0;
    return text != NULL && *text != 0 && *end == 0;
}

static inline void test_run_row(const test_row *row, uint32_t *passed, uint32_t *failed, uint32_t *skipped)
{
    test.name = row->name;
    test.skipped = NULL;
    test.failures = 0;
    test.cases = 0;
    test.at = TEST_ANY_CASE;
    row->run();
    if (test.failures == 0 && test.skipped == NULL && test.only != TEST_ANY_CASE && test.cases == 0) {
        test_failed(__FILE__, __LINE__, "there is no case %llu", (unsigned long long)test.only);
    }
    if (test.failures != 0) {
        ++*failed;
        printf("FAILED %s (%u checks)\n", row->name, (unsigned)test.failures);
    } else if (test.skipped != NULL) {
        ++*skipped;
        printf("skipped %s: %s\n", row->name, test.skipped);
    } else {
        ++*passed;
        if (test.cases != 0) printf("ok %s (%llu cases)\n", row->name, (unsigned long long)test.cases);
        else printf("ok %s\n", row->name);
    }
    (void)fflush(stdout);
}

static inline int test_main(const test_row *rows, uint32_t count, int argc, char **argv)
{
    const char *wanted = NULL;
    uint64_t number = 0;
    uint32_t passed = 0, failed = 0, skipped = 0, i;
    int at, list = 0, whole = 0;
    test.program = argc > 0 ? argv[0] : "test";
    test.seed = 1;
    test.only = TEST_ANY_CASE;
    test.effort = TEST_EFFORT;
    for (at = 1; at < argc; at++) {
        const char *word = argv[at], *value = at + 1 < argc ? argv[at + 1] : NULL;
        if (strcmp(word, "--list") == 0) list = 1;
        else if (strcmp(word, "--verbose") == 0) test.verbose = 1;
        else if (TEST_OPTION[0] != 0 && strcmp(word, TEST_OPTION) == 0) test.option = 1;
        else if (strcmp(word, "--seed") == 0 && test_number(value, &test.seed)) at++;
        else if (strcmp(word, "--cut") == 0 && test_number(value, &test.only)) at++;
        else if (strcmp(word, "--effort") == 0 && test_number(value, &number) && number < 1000000) {
            test.effort = (uint32_t)number;
            at++;
        } else if (word[0] == '-' || wanted != NULL) return test_usage(word);
        else wanted = word;
    }
    if (!list) printf("%s: seed %llu, effort %u\n", test.program, (unsigned long long)test.seed, (unsigned)test.effort);
    for (i = 0; i < count; i++) whole |= wanted != NULL && strcmp(rows[i].name, wanted) == 0;
    for (i = 0; i < count; i++) {
        if (wanted != NULL && strncmp(rows[i].name, wanted, strlen(wanted) + (whole ? 1u : 0u)) != 0) continue;
        test.matched++;
        if (list) printf("%s\n", rows[i].name);
        else test_run_row(&rows[i], &passed, &failed, &skipped);
    }
    if (test.matched == 0) return test_usage("no test has this name");
    if (!list) printf("%u passed, %u failed, %u skipped\n", (unsigned)passed, (unsigned)failed, (unsigned)skipped);
    return failed != 0;
}

#define TEST(name) static void test_##name(void)
#define ROW(name)                                                                                                      \
    {                                                                                                                  \
#name, test_##name                                                                                             \
    }
#define TEST_MAIN(...)                                                                                                 \
    int main(int argc, char **argv)                                                                                    \
    {                                                                                                                  \
        static const test_row rows[] = {__VA_ARGS__};                                                                  \
        return test_main(rows, (uint32_t)(sizeof rows / sizeof rows[0]), argc, argv);                                  \
    }

#endif /* TEST_H */
