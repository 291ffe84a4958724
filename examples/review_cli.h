/* review_cli.h - the review program's command line: options, help, and how things are printed for people and for
   scripts. */

#ifndef REVIEW_CLI_H
#define REVIEW_CLI_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum review_exit {
    REVIEW_EXIT_OK = 0,
    REVIEW_EXIT_REFUSED = 1, /* refused, not found, or a document failed */
    REVIEW_EXIT_USAGE = 2,
    REVIEW_EXIT_STORAGE = 3, /* the store or a file cannot be used */
    REVIEW_EXIT_WAITING = 4  /* queued: the owner of the store has not answered yet */
};

enum {
    REVIEW_WORDS_MAX = 4096
};

typedef struct review_options {
    const char *store;
    const char *out;
    const char *who;
    const char *reason;
    const char *model_url;
    const char *model;
    const char *key_env;
    const char *witness;
    uint64_t expected_version;
    uint64_t kill_at;
    uint64_t seed;
    uint64_t threshold;
    uint64_t deadline_s;
    uint64_t jobs;
    uint64_t wait_s;
    int json;
    int watch;
    int force;
    int dot;
    int log_per_agent;
    int truncate_suspect;
    int no_dir_sync;
    int help;
    int version;
    int word_count;
    const char *words[REVIEW_WORDS_MAX]; /* the verb and what it is about */
} review_options;

static const char *const review_help[] =
    {/* in parts: C99 promises strings of 4,095 bytes only */
     "review - reads documents, asks a person about the risky ones, publishes a report on each, once\n"
     "\n"
     "Usage: review [OPTION...] FILE|DIR...          start these documents and run\n"
     "       review [OPTION...] VERB [ARGUMENT...]\n"
     "\n"
     "Documents\n"
     "  start FILE|DIR...        begin a review of each document (again: nothing happens)\n"
     "  run [FILE|DIR...]        work until all is settled or waits for a person\n"
     "      --watch              stay, for decisions and new documents, until interrupted\n"
     "  status [ID...]           one line for each document\n"
     "  show ID                  all about one document: report, question, notes\n"
     "\n"
     "Decisions\n"
     "  approve ID               publish the report as it is\n"
     "  reject ID [--reason TEXT]\n"
     "  edit ID FILE             publish it with the summary in FILE ('-': standard input)\n"
     "  cancel ID                end the review\n"
     "\n"
     "Versions\n"
     "  history ID               every step of a document's journal\n"
     "  rollback ID VERSION [--force]\n"
     "                           go back to a version; across a publication only with --force\n"
     "  fork ID VERSION [NEW-ID] a second review that goes on from there\n"
     "  retry ID                 go on with a review that failed or was parked, where it stopped\n"
     "  diagram [--dot] [ID]     the state machine, as Mermaid or Graphviz; ID marks where that one is\n"
     "\n"
     "All verbs work while another process runs, and while none does. An ID may be shortened as long as it is unique.\n"
     "\n",
     "Options\n"
     "  --store DIR              where the journal is (./review-store)\n"
     "  --out DIR                where reports go (./reports)\n"
     "  --threshold N            for start: risk, 0 to 100, from which a person decides (60; 101: never)\n"
     "  --deadline SECONDS       for start: how long each of two questions waits (86400; 0: for ever)\n"
     "  --as NAME                who decides ($USER)\n"
     "  --expected-version N     refuse if the document has changed since version N\n"
     "  --wait SECONDS           how long to wait for the process that owns the store (10)\n"
     "  --jobs N                 documents read side by side (4)\n"
     "  --log-per-agent          a new store gets one journal for each document, not one for all\n"
     "  --truncate-suspect       the journal's last block is damaged: cut it off, even if it was once acknowledged\n"
     "  --no-dir-sync            for WASI hosts that cannot sync a folder: safe from a kill, not from a power cut\n"
     "  --json                   for scripts: JSON, one value a line\n"
     "  --help, --version\n"
     "\n"
     "Models: the built-in reader needs nothing and is the default; or any OpenAI-compatible server:\n"
     "  --model-url URL          http://127.0.0.1:8080 or https://host/v1\n"
     "  --model NAME             as the server calls it\n"
     "  --key-env VARIABLE       where the key is (OPENAI_API_KEY)\n"
     "\n"
     "Testing\n"
     "  --kill-at N              SIGKILL itself at the N-th call of the host that changes something\n"
     "  --seed N                 how much of a write survives when that call is one (0: nothing)\n"
     "  --witness FILE           append each call begun and each report written, whatever the journal says\n"
     "  audit                    prove from the journal and the reports that nothing was lost or done twice\n"
     "\n"
     "Exit status: 0 done; 1 refused, not found, a document failed, or audit found a fault; 2 usage; 3 the store or a\n"
     "file cannot be used; 4 queued, but the process that owns the store has not answered yet.\n"};

/* ---- Messages -------------------------------------------------------------------------------------------------- */

static int review_say_error(int code, const char *format, ...)
{
    va_list list;
    fflush(stdout);
    fputs("review: ", stderr);
    va_start(list, format);
    (void)vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    return code;
}

/* ---- Options --------------------------------------------------------------------------------------------------- */

enum review_option_kind {
    REVIEW_FLAG,
    REVIEW_TEXT,
    REVIEW_NUMBER
};

typedef struct review_option {
    const char *name;
    int kind;
    size_t offset; /* in review_options */
    uint64_t max;
} review_option;

static const review_option review_option_table[] = {
    {"--store", REVIEW_TEXT, offsetof(review_options, store), 0},
    {"--out", REVIEW_TEXT, offsetof(review_options, out), 0},
    {"--as", REVIEW_TEXT, offsetof(review_options, who), 0},
    {"--reason", REVIEW_TEXT, offsetof(review_options, reason), 0},
    {"--model-url", REVIEW_TEXT, offsetof(review_options, model_url), 0},
    {"--model", REVIEW_TEXT, offsetof(review_options, model), 0},
    {"--key-env", REVIEW_TEXT, offsetof(review_options, key_env), 0},
    {"--witness", REVIEW_TEXT, offsetof(review_options, witness), 0},
    {"--expected-version", REVIEW_NUMBER, offsetof(review_options, expected_version), UINT64_MAX / 16},
    {"--kill-at", REVIEW_NUMBER, offsetof(review_options, kill_at), UINT64_MAX / 16},
    {"--seed", REVIEW_NUMBER, offsetof(review_options, seed), UINT64_MAX / 16},
    {"--threshold", REVIEW_NUMBER, offsetof(review_options, threshold), 101},
    {"--deadline", REVIEW_NUMBER, offsetof(review_options, deadline_s), 999999999},
    {"--jobs", REVIEW_NUMBER, offsetof(review_options, jobs), 1000},
    {"--wait", REVIEW_NUMBER, offsetof(review_options, wait_s), 86400},
    {"--json", REVIEW_FLAG, offsetof(review_options, json), 0},
    {"--watch", REVIEW_FLAG, offsetof(review_options, watch), 0},
    {"--force", REVIEW_FLAG, offsetof(review_options, force), 0},
    {"--dot", REVIEW_FLAG, offsetof(review_options, dot), 0},
    {"--log-per-agent", REVIEW_FLAG, offsetof(review_options, log_per_agent), 0},
    {"--truncate-suspect", REVIEW_FLAG, offsetof(review_options, truncate_suspect), 0},
    {"--no-dir-sync", REVIEW_FLAG, offsetof(review_options, no_dir_sync), 0},
    {"--help", REVIEW_FLAG, offsetof(review_options, help), 0},
    {"-h", REVIEW_FLAG, offsetof(review_options, help), 0},
    {"--version", REVIEW_FLAG, offsetof(review_options, version), 0}};

/* A number in decimal digits, up to max. 0: it is none. */
static int review_parse_number(const char *text, uint64_t max, uint64_t *number)
{
    *number = 0;
    if (*text == 0) return 0;
    for (; *text != 0; text++) {
        if (*text < '0' || *text > '9' || *number > UINT64_MAX / 16) return 0;
        *number = *number * 10 + (uint64_t)(*text - '0');
    }
    return *number <= max;
}

static const review_option *review_find_option(const char *word, size_t size)
{
    size_t i;
    for (i = 0; i < sizeof review_option_table / sizeof review_option_table[0]; i++) {
        const review_option *option = &review_option_table[i];
        if (strlen(option->name) == size && memcmp(option->name, word, size) == 0) return option;
    }
    return NULL;
}

/* Stores one option; `value` may be the next word of the command line, and then *used is set. */
static int review_set_option(review_options *options, const char *word, const char *next, int *used)
{
    size_t size = strcspn(word, "=");
    const review_option *option = review_find_option(word, size);
    const char *value = word[size] == '=' ? word + size + 1 : next;
    char *at;
    if (option == NULL) {
        return review_say_error(REVIEW_EXIT_USAGE, "unknown option %s; 'review --help' lists them", word);
    }
    at = (char *)options + option->offset;
    if (option->kind == REVIEW_FLAG) {
        if (word[size] == '=') return review_say_error(REVIEW_EXIT_USAGE, "%s takes no value", option->name);
        *(int *)(void *)at = 1;
        return 0;
    }
    if (value == NULL) return review_say_error(REVIEW_EXIT_USAGE, "%s needs a value", option->name);
    *used = word[size] != '=';
    if (option->kind == REVIEW_TEXT) {
        *(const char **)(void *)at = value;
        return 0;
    }
    if (!review_parse_number(value, option->max, (uint64_t *)(void *)at)) {
        return review_say_error(REVIEW_EXIT_USAGE, "%s takes a whole number from 0 to %llu, not '%s'", option->name,
                                (unsigned long long)option->max, value);
    }
    return 0;
}

static int review_parse_options(review_options *options, int argc, char **argv)
{
    int i, only_words = 0;
    memset(options, 0, sizeof *options);
    options->store = "review-store";
    options->out = "reports";
    options->threshold = 60;
    options->deadline_s = 86400;
    options->jobs = 4;
    options->wait_s = 10;
    for (i = 1; i < argc; i++) {
        int used = 0, code;
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = 1;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != 0) {
            code = review_set_option(options, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used);
            if (code != 0) return code;
            i += used;
        } else if (options->word_count == REVIEW_WORDS_MAX) {
            return review_say_error(REVIEW_EXIT_USAGE, "more than %d arguments: name a directory", REVIEW_WORDS_MAX);
        } else {
            options->words[options->word_count++] = argv[i];
        }
    }
    if (options->jobs == 0) options->jobs = 1;
    if (options->who == NULL) options->who = getenv("USER");
    if (options->who == NULL || options->who[0] == 0) options->who = "somebody";
    return 0;
}

/* ---- Printing -------------------------------------------------------------------------------------------------- */

/* The inside of a JSON string. Bytes that are not UTF-8 become '?'. */
static void review_print_escaped(const char *text, size_t size)
{
    size_t at = 0;
    while (at < size) {
        size_t length = review_utf8_size(text + at, size - at);
        unsigned char c = (unsigned char)text[at];
        if (length == 0) {
            putchar('?');
        } else if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c < 0x20 || c == 0x7F) {
            printf("\\u%04x", c);
        } else {
            (void)fwrite(text + at, 1, length, stdout);
        }
        at += length != 0 ? length : 1;
    }
}

/* A JSON string; NULL is null. */
static void review_print_json(const char *text, size_t size)
{
    if (text == NULL) {
        fputs("null", stdout);
        return;
    }
    putchar('"');
    review_print_escaped(text, size);
    putchar('"');
}

/* "name":"text", with a comma before it unless it is the first. */
static void review_print_member(int first, const char *name, const char *text)
{
    printf("%s\"%s\":", first ? "{" : ",", name);
    review_print_json(text, text != NULL ? strlen(text) : 0);
}

static void review_print_count(const char *name, uint64_t number)
{
    printf(",\"%s\":%llu", name, (unsigned long long)number);
}

/* Text of a document or a model on a terminal: control characters could move the cursor, so they do not get there. */
static void review_print_text(const char *text, size_t size)
{
    size_t at;
    for (at = 0; at < size; at++) {
        unsigned char c = (unsigned char)text[at];
        putchar((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F ? '?' : text[at]);
    }
}

/* "in 23 h", "3 min ago" */
static void review_format_span(char text[32], uint64_t from_ms, uint64_t to_ms)
{
    uint64_t seconds = (to_ms > from_ms ? to_ms - from_ms : from_ms - to_ms) / 1000;
    char span[24];
    if (seconds < 120) {
        (void)snprintf(span, sizeof span, "%u s", (unsigned)seconds);
    } else if (seconds < 7200) {
        (void)snprintf(span, sizeof span, "%u min", (unsigned)(seconds / 60));
    } else if (seconds < 172800) {
        (void)snprintf(span, sizeof span, "%u h", (unsigned)(seconds / 3600));
    } else {
        (void)snprintf(span, sizeof span, "%u days", (unsigned)(seconds / 86400 % 1000000));
    }
    (void)snprintf(text, 32, to_ms > from_ms ? "in %s" : "%s ago", span);
}

static void review_format_time(char text[32], uint64_t time_ms)
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm local;
    if (localtime_r(&seconds, &local) == NULL || strftime(text, 32, "%Y-%m-%d %H:%M:%S", &local) == 0) {
        (void)snprintf(text, 32, "%llu", (unsigned long long)time_ms);
    }
}

/* ctx: an int, whether the piece is part of a JSON string. */
static void review_print_piece(void *ctx, const char *text, size_t size)
{
    if (*(int *)ctx) review_print_escaped(text, size);
    else (void)fwrite(text, 1, size, stdout);
}

#endif /* REVIEW_CLI_H */
