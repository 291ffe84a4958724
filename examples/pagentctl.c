/* pagentctl: looks into the store of any program that uses persistent_agent.h, without that program's machines.

       cc -O2 -o pagentctl pagentctl.c
       pagentctl STORE list

   `pagentctl --help` says the rest. Reading takes no lock and changes nothing: it is safe beside a running owner. Only
   import, and export with --move, write. */

#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    EXIT_GOOD = 0,
    EXIT_REFUSED = 1,
    EXIT_DAMAGED = 2,
    EXIT_TROUBLE = 3
};
enum {
    CELL = 160,
    COLUMNS_MAX = 8,
    SHORT = 60,
    WAIT_S = 10
};

static const char usage[] =
    "usage: pagentctl STORE VERB [ARGUMENTS] [--json]\n"
    "\n"
    "STORE is the directory of a file store. Reading takes no lock: it is safe while a program owns the store.\n"
    "AGENT is a name, the beginning of only one name, or the 16 hex digits of a stream.\n"
    "\n"
    "  list                         all agents: status, state, what each waits for\n"
    "  show AGENT [--at VERSION]    one agent: context, transcript, what is outstanding\n"
    "  log [AGENT]                  its blocks, oldest first; without AGENT every block of every file\n"
    "  verify                       reads everything, changes nothing\n"
    "  export AGENT FILE [--move]   one agent as one file; --move: it never steps here again\n"
    "  import FILE [--as NAME]      a moved agent goes on here; --as: a fork of it under a new name;\n"
    "                               --again: all of it is here already, and it lives nowhere else\n"
    "\n"
    "  --json            for programs: one object per line, complete\n"
    "  --full            show, log: do not shorten data\n"
    "  --create          import: make the store if there is none\n"
    "  --wait SECONDS    export --move: for the store's owner to answer (10)\n"
    "  --help, --version\n"
    "\n"
    "exit status:\n"
    "  0  done; verify: clean\n"
    "  1  refused (no such agent, a name that exists, ...); verify: only what opening repairs, such as a torn tail\n"
    "  2  damaged: corrupt, suspect, foreign or too new; verify says where\n"
    "  3  wrong usage, or a file or directory that cannot be read or written\n";

typedef struct program {
    const char *store;
    const char *verb;
    const char *arguments[2];
    int argument_count;
    int json, full, move, create, again;
    const char *as;
    uint64_t at;     /* --at */
    uint64_t wait_s; /* --wait */
    uint32_t given;  /* enum option */
    pagent_host host;
    pagent_dir dir;
    pagent_files *files;
    pagent_engine *engine;
    int dir_open;
    int status; /* the worst so far */
} program;

/* ---- errors --------------------------------------------------------------------------------------------------- */

static int complain(program *p, int status, const char *format, ...)
{
    va_list list;
    (void)fflush(stdout);
    (void)fputs("pagentctl: ", stderr);
    va_start(list, format);
    (void)vfprintf(stderr, format, list);
    va_end(list);
    (void)fputc('\n', stderr);
    if (p->status < status) p->status = status;
    return status;
}

static int status_of(int result)
{
    switch (result) {
    case PAGENT_E_CORRUPT:
    case PAGENT_E_SUSPECT:
    case PAGENT_E_FOREIGN:
    case PAGENT_E_NEWER:
    case PAGENT_E_LOST_TAIL: return EXIT_DAMAGED;
    case PAGENT_E_ARGUMENT:
    case PAGENT_E_MEMORY:
    case PAGENT_E_STORAGE:
    case PAGENT_E_NO_SPACE:
    case PAGENT_E_IN_DOUBT:
    case PAGENT_E_LOCKED: return EXIT_TROUBLE;
    default: return result >= 0 ? EXIT_GOOD : EXIT_REFUSED;
    }
}

static int complain_of(program *p, int result, const char *what)
{
    return complain(p, status_of(result), "%s: %s", what, pagent_message(result));
}

static void *need_memory(void *made)
{
    if (made == NULL) {
        (void)fputs("pagentctl: out of memory\n", stderr);
        exit(EXIT_TROUBLE);
    }
    return made;
}

/* ---- text for people ------------------------------------------------------------------------------------------ */

/* Bytes of the printable UTF-8 character at p; 0: a control character, or not UTF-8. */
static size_t printable(const unsigned char *p, size_t left)
{
    size_t more, i;
    if (p[0] < 0x80) return p[0] >= 0x20 && p[0] != 0x7F;
    if (p[0] < 0xC2 || p[0] > 0xF4) return 0;
    more = p[0] < 0xE0 ? 1u : p[0] < 0xF0 ? 2u : 3u;
    if (left <= more) return 0;
    for (i = 1; i <= more; i++) {
        if (p[i] < 0x80 || p[i] > 0xBF) return 0;
    }
    if (p[0] == 0xC2 && p[1] < 0xA0) return 0;                                    /* C1 controls */
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xF0 && p[1] < 0x90)) return 0; /* overlong */
    if ((p[0] == 0xED && p[1] > 0x9F) || (p[0] == 0xF4 && p[1] > 0x8F)) return 0; /* surrogate, too far */
    if (p[0] == 0xE2 &&
        ((p[1] == 0x80 && p[2] >= 0xAA && p[2] <= 0xAE) || (p[1] == 0x81 && p[2] >= 0xA6 && p[2] <= 0xA9)))
        return 0; /* changes of direction */
    return more + 1;
}

static int is_text(const unsigned char *p, size_t size)
{
    size_t at = 0, step, odd = 0;
    while (at < size) {
        step = printable(p + at, size - at);
        if (step == 0 && p[at] != '\n' && p[at] != '\t' && p[at] != '\r' && ++odd > 1 + size / 16) return 0;
        at += step != 0 ? step : 1;
    }
    return 1;
}

static size_t put_escape(char *to, unsigned char c)
{
    switch (c) {
    case '\n': memcpy(to, "\\n", 3); return 2;
    case '\r': memcpy(to, "\\r", 3); return 2;
    case '\t': memcpy(to, "\\t", 3); return 2;
    default: (void)snprintf(to, 5, "\\x%02x", (unsigned)c); return 4;
    }
}

/* Text as far as it fits, everything else escaped; never a control character. `to` holds `room` bytes, at least 16.
   Returns whether all of it did fit. */
static int escape(char *to, size_t room, const void *data, size_t size)
{
    const unsigned char *p = (const unsigned char *)data;
    size_t at = 0, made = 0, step;
    while (at < size && made + 8 < room) {
        step = printable(p + at, size - at);
        if (step == 0) {
            made += put_escape(to + made, p[at]);
            at++;
        } else {
            if (p[at] == '\\') to[made++] = '\\';
            memcpy(to + made, p + at, step);
            made += step;
            at += step;
        }
    }
    if (at < size) {
        memcpy(to + made, "...", 3);
        made += 3;
    }
    to[made] = 0;
    return at == size;
}

/* "all of the text", or "its begi..." (123 bytes), or 00 ff 17 (3 bytes) */
static void describe(char *to, size_t room, const void *data, size_t size)
{
    const unsigned char *p = (const unsigned char *)data;
    size_t made = 0, i;
    if (is_text(p, size)) {
        int complete;
        to[0] = '"';
        complete = escape(to + 1, room - 32, data, size);
        made = strlen(to);
        (void)snprintf(to + made, room - made, "\"");
        if (!complete) (void)snprintf(to + made + 1, room - made - 1, " (%zu bytes)", size);
        return;
    }
    for (i = 0; i < size && made + 40 < room; i++) made += (size_t)snprintf(to + made, 4, "%02x ", (unsigned)p[i]);
    (void)snprintf(to + made, 40, "%s(%zu bytes)", i < size ? "... " : "", size);
}

static void print_data(const program *p, const char *before, pagent_bytes data)
{
    size_t room = p->full ? (size_t)data.size * 4 + 64 : SHORT + 32;
    char *text = (char *)need_memory(malloc(room));
    describe(text, room, data.data, data.size);
    (void)printf("%s%s\n", before, text);
    free(text);
}

static void format_time(char to[32], uint64_t time_ms)
{
    time_t seconds = (time_t)(time_ms / 1000u);
    struct tm parts;
    size_t size;
    if (time_ms == PAGENT_FOREVER || time_ms == 0 || gmtime_r(&seconds, &parts) == NULL || parts.tm_year > 8099) {
        (void)snprintf(to, 32, "-");
        return;
    }
    size = strftime(to, 32, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(to + size, 32 - size, ".%03uZ", (unsigned)(time_ms % 1000u));
}

static const char *status_name(uint32_t status)
{
    static const char *const names[] = {"?", "running", "waiting", "parked", "done", "failed", "cancelled", "moved"};
    return status < sizeof names / sizeof names[0] ? names[status] : "?";
}

static const char *effect_name(uint32_t kind)
{
    static const char *const names[] = {"?", "call", "approval", "timer", "signal"};
    return kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}

static const char *phase_name(uint32_t phase)
{
    static const char *const names[] = {"?", "open", "paused", "held"};
    return phase < sizeof names / sizeof names[0] ? names[phase] : "?";
}

static const char *damage_name(uint32_t damage)
{
    static const char *const names[] = {"clean",   "dirty",   "torn",  "corrupt",  "chain",
                                        "foreign", "suspect", "newer", "lost-tail"};
    return damage < sizeof names / sizeof names[0] ? names[damage] : "?";
}

/* ---- tables --------------------------------------------------------------------------------------------------- */

typedef struct table {
    uint32_t columns;
    uint32_t right; /* bit n: column n is aligned to the right */
    uint32_t rows, capacity;
    char (*cells)[COLUMNS_MAX][CELL];
} table;

static void add_row(table *t, const char *const *cells)
{
    uint32_t i;
    if (t->rows == t->capacity) {
        t->capacity = t->capacity != 0 ? t->capacity * 2 : 16;
        t->cells = (char(*)[COLUMNS_MAX][CELL])need_memory(realloc(t->cells, t->capacity * sizeof *t->cells));
    }
    for (i = 0; i < t->columns; i++) (void)snprintf(t->cells[t->rows][i], CELL, "%s", cells[i]);
    t->rows++;
}

static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != 0; text++) width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static void print_spaces(size_t count)
{
    while (count-- != 0) (void)putchar(' ');
}

static void print_table(table *t)
{
    size_t widths[COLUMNS_MAX] = {0}, width, pending;
    uint32_t row, i;
    for (row = 0; row < t->rows; row++) {
        for (i = 0; i < t->columns; i++) {
            width = width_of(t->cells[row][i]);
            if (widths[i] < width) widths[i] = width;
        }
    }
    for (row = 0; row < t->rows; row++) {
        for (pending = 0, i = 0; i < t->columns; i++) { /* spaces wait for what comes behind them: none end a line */
            width = widths[i] - width_of(t->cells[row][i]);
            if (t->right >> i & 1u) pending += width;
            if (t->cells[row][i][0] != 0) {
                print_spaces(pending);
                pending = 0;
            }
            (void)fputs(t->cells[row][i], stdout);
            if ((t->right >> i & 1u) == 0) pending += width;
            pending += 2;
        }
        (void)putchar('\n');
    }
    free(t->cells);
    t->cells = NULL;
    t->rows = t->capacity = 0;
}

/* ---- JSON ----------------------------------------------------------------------------------------------------- */

typedef struct json {
    int count; /* members written into the object that is open */
} json;

static json begin_json(void)
{
    json j = {0};
    (void)putchar('{');
    return j;
}

static void json_name(json *j, const char *name)
{
    (void)printf("%s\"%s\":", j->count++ != 0 ? "," : "", name);
}

static void put_json_text(const void *data, size_t size)
{
    const unsigned char *p = (const unsigned char *)data;
    size_t i;
    (void)putchar('"');
    for (i = 0; i < size; i++) {
        if (p[i] == '"' || p[i] == '\\') (void)printf("\\%c", p[i]);
        else if (p[i] == '\n') (void)fputs("\\n", stdout);
        else if (p[i] < 0x20 || p[i] == 0x7F) (void)printf("\\u%04x", (unsigned)p[i]);
        else (void)putchar(p[i]);
    }
    (void)putchar('"');
}

static int is_utf8(const unsigned char *p, size_t size)
{
    size_t at = 0, step;
    for (; at < size; at += step) {
        step = p[at] < 0x80 ? 1 : printable(p + at, size - at);
        if (step == 0 && p[at] == 0xC2 && at + 1 < size && p[at + 1] >= 0x80 && p[at + 1] < 0xA0) step = 2;
        if (step == 0 && p[at] == 0xE2 && at + 2 < size && (p[at + 1] == 0x80 || p[at + 1] == 0x81)) step = 3;
        if (step == 0) return 0;
    }
    return 1;
}

/* Names in a journal may be any bytes: what is not UTF-8 is shown escaped. */
static void json_text(json *j, const char *name, const char *text)
{
    char safe[4 * PAGENT_NAME_MAX + 64];
    json_name(j, name);
    if (text != NULL && !is_utf8((const unsigned char *)text, strlen(text))) {
        (void)escape(safe, sizeof safe, text, strlen(text));
        text = safe;
    }
    if (text == NULL) (void)fputs("null", stdout);
    else put_json_text(text, strlen(text));
}

static void json_number(json *j, const char *name, uint64_t number)
{
    json_name(j, name);
    (void)printf("%" PRIu64, number);
}

static void json_signed(json *j, const char *name, int64_t number)
{
    json_name(j, name);
    (void)printf("%" PRId64, number);
}

static void json_hex(json *j, const char *name, uint64_t number)
{
    json_name(j, name);
    (void)printf("\"%016" PRIx64 "\"", number);
}

/* Milliseconds since 1970; null for never. */
static void json_time(json *j, const char *name, uint64_t time_ms)
{
    json_name(j, name);
    if (time_ms == PAGENT_FOREVER) (void)fputs("null", stdout);
    else (void)printf("%" PRIu64, time_ms);
}

static void put_base64(const unsigned char *p, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t at;
    (void)putchar('"');
    for (at = 0; at < size; at += 3) {
        uint32_t bits = (uint32_t)p[at] << 16;
        if (at + 1 < size) bits |= (uint32_t)p[at + 1] << 8;
        if (at + 2 < size) bits |= p[at + 2];
        (void)putchar(digits[bits >> 18]);
        (void)putchar(digits[bits >> 12 & 63u]);
        (void)putchar(at + 1 < size ? digits[bits >> 6 & 63u] : '=');
        (void)putchar(at + 2 < size ? digits[bits & 63u] : '=');
    }
    (void)putchar('"');
}

/* "NAME": text, or "NAME_base64": what is not UTF-8. */
static void json_data(json *j, const char *name, pagent_bytes data)
{
    const unsigned char *p = (const unsigned char *)data.data;
    if (is_utf8(p, data.size)) {
        json_name(j, name);
        put_json_text(p, data.size);
    } else {
        (void)printf("%s\"%s_base64\":", j->count++ != 0 ? "," : "", name);
        put_base64(p, data.size);
    }
}

/* ---- the store ------------------------------------------------------------------------------------------------ */

static int open_dir(program *p, int create)
{
    char text[PAGENT_TEXT_SIZE];
    int result = pagent_open_posix(&p->dir, p->store, create, text);
    if (result != PAGENT_OK) return complain(p, EXIT_TROUBLE, "this store cannot be opened: %s", text);
    p->dir_open = 1;
    return EXIT_GOOD;
}

static void close_store(program *p)
{
    if (p->engine != NULL) (void)pagent_close_engine(p->engine);
    if (p->files != NULL) {
        int result = pagent_close_files(p->files);
        if (result != PAGENT_OK) (void)complain_of(p, result, p->store);
    }
    p->engine = NULL;
    p->files = NULL;
}

/* For writing: as the directory is, one shared log or one for each agent. */
static int open_files(program *p, int write, char text[PAGENT_TEXT_SIZE])
{
    pagent_file_options options = {0};
    int result;
    options.size = sizeof options;
    options.read_only = write ? 0 : 1;
    result = pagent_open_files(&p->files, &p->dir, &p->host, &options, text);
    if (result == PAGENT_E_ARGUMENT && write) {
        options.log_per_agent = 1;
        result = pagent_open_files(&p->files, &p->dir, &p->host, &options, text);
    }
    return result;
}

/* E_LOCKED is left to the caller: it is not always an error. */
static int open_store(program *p, int write)
{
    pagent_config config = {0};
    char text[PAGENT_TEXT_SIZE] = "";
    int result = open_files(p, write, text);
    if (result == PAGENT_OK) {
        config.size = sizeof config;
        config.host = p->host;
        config.store = pagent_files_store(p->files);
        config.read_only = write ? 0 : 1;
        config.hold_effects = 1;
        config.store.collect = NULL; /* without their machines, other people's messages could only be refused */
        config.store.settle = NULL;
        result = pagent_open_engine(&p->engine, &config, text);
    }
    if (result != PAGENT_OK && result != PAGENT_E_LOCKED) {
        (void)complain(p, status_of(result), "%s: %s", p->store, text[0] != 0 ? text : pagent_message(result));
    }
    return result;
}

/* ---- finding agents ------------------------------------------------------------------------------------------- */

typedef struct found {
    pagent_summary summary;
    char name[PAGENT_NAME_MAX + 1];
    int result; /* of reading it */
} found;

typedef struct found_list {
    found *items;
    size_t count, capacity;
} found_list;

static int by_name(const void *left, const void *right)
{
    return strcmp(((const found *)left)->name, ((const found *)right)->name);
}

static void read_name(program *p, found *item)
{
    pagent_view *view = NULL;
    pagent_info info;
    item->result = pagent_open_view_stream(p->engine, item->summary.stream, 0, &view);
    if (item->result == PAGENT_OK) item->result = pagent_view_info(view, &info);
    if (item->result == PAGENT_OK) (void)snprintf(item->name, sizeof item->name, "%s", info.name);
    else (void)snprintf(item->name, sizeof item->name, "%016" PRIx64, item->summary.stream);
    pagent_close_view(view);
}

static int find_all(program *p, found_list *list)
{
    uint64_t cursor = 0;
    pagent_summary summary;
    int result;
    list->items = NULL;
    list->count = list->capacity = 0;
    while ((result = pagent_next_agent(p->engine, &cursor, &summary)) == PAGENT_OK) {
        if (list->count == list->capacity) {
            list->capacity = list->capacity != 0 ? list->capacity * 2 : 64;
            list->items = (found *)need_memory(realloc(list->items, list->capacity * sizeof *list->items));
        }
        list->items[list->count].summary = summary;
        read_name(p, &list->items[list->count++]);
    }
    if (result != PAGENT_END) return complain_of(p, result, p->store);
    if (list->count != 0) qsort(list->items, list->count, sizeof *list->items, by_name);
    return EXIT_GOOD;
}

static int parse_stream(const char *text, uint64_t *stream)
{
    char *end;
    if (strlen(text) != 16 || strspn(text, "0123456789abcdefABCDEF") != 16) return 0;
    *stream = strtoull(text, &end, 16);
    return *end == 0;
}

/* A name that is meant exactly wins over a stream, and that over the beginning of names: `matches` of them in order. */
static const found *match_agent(const found_list *list, const char *given, size_t *matches)
{
    size_t size = strlen(given), i, end;
    uint64_t stream = 0;
    *matches = 1;
    for (i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, given) == 0) return &list->items[i];
    }
    for (i = 0; parse_stream(given, &stream) && i < list->count; i++) {
        if (list->items[i].summary.stream == stream) return &list->items[i];
    }
    for (i = 0; i < list->count && strncmp(list->items[i].name, given, size) != 0; i++) {
    }
    for (end = i; end < list->count && strncmp(list->items[end].name, given, size) == 0; end++) {
    }
    *matches = end - i;
    return list->items + i;
}

static int find_agent(program *p, const char *given, found *agent)
{
    found_list list;
    const found *match;
    size_t matches;
    int status = find_all(p, &list);
    memset(agent, 0, sizeof *agent);
    if (status != EXIT_GOOD) return status;
    match = match_agent(&list, given, &matches);
    if (matches == 1) {
        *agent = *match;
        if (agent->result != PAGENT_OK) status = complain_of(p, agent->result, agent->name);
    } else if (matches == 0) {
        status = complain(p, EXIT_REFUSED, "%s: no agent of this name in %s", given, p->store);
    } else {
        status = complain(p, EXIT_REFUSED, "%s: the beginning of %zu names: %s, %s%s", given, matches, match[0].name,
                          match[1].name, matches > 2 ? ", ..." : "");
    }
    free(list.items);
    return status;
}

/* ---- list ----------------------------------------------------------------------------------------------------- */

static void describe_waits(const pagent_view *view, const pagent_info *info, char to[CELL])
{
    char name[64];
    size_t made = 0;
    uint32_t i;
    to[0] = 0;
    for (i = 0; i < info->effect_count && made + 80 < CELL; i++) {
        pagent_effect effect;
        if (pagent_view_effect(view, i, &effect) != PAGENT_OK) break;
        (void)escape(name, sizeof name, effect.name, strlen(effect.name));
        made +=
            (size_t)snprintf(to + made, CELL - made, "%s%s %s", made != 0 ? ", " : "", effect_name(effect.kind), name);
    }
    if (i < info->effect_count) (void)snprintf(to + made, CELL - made, ", %u more", (unsigned)(info->effect_count - i));
    if (info->effect_count == 0 && info->status == PAGENT_PARKED)
        (void)escape(to, CELL, info->error_text, strlen(info->error_text));
}

static void json_effect(const pagent_effect *effect)
{
    json j = begin_json();
    char id[48];
    (void)snprintf(id, sizeof id, "%" PRIu64 ".%u", effect->id.version, (unsigned)effect->id.index);
    json_text(&j, "id", id);
    json_text(&j, "kind", effect_name(effect->kind));
    json_text(&j, "name", effect->name);
    json_text(&j, "phase", phase_name(effect->phase));
    if (effect->kind == PAGENT_EFFECT_SIGNAL) json_text(&j, "target", effect->target);
    if (effect->kind == PAGENT_EFFECT_CALL) {
        json_number(&j, "attempt", effect->attempt);
        json_text(&j, "key", effect->key);
    }
    json_time(&j, "due_ms", effect->due_ms);
    json_time(&j, "deadline_ms", effect->deadline_ms);
    json_hex(&j, "digest", effect->digest);
    json_data(&j, "payload", effect->payload);
    (void)putchar('}');
}

static void json_effects(json *j, const pagent_view *view, const pagent_info *info)
{
    pagent_effect effect;
    uint32_t i;
    json_name(j, "outstanding");
    (void)putchar('[');
    for (i = 0; i < info->effect_count && pagent_view_effect(view, i, &effect) == PAGENT_OK; i++) {
        if (i != 0) (void)putchar(',');
        json_effect(&effect);
    }
    (void)putchar(']');
}

static void json_info(json *j, const pagent_info *info)
{
    json_text(j, "agent", info->name);
    json_hex(j, "stream", info->stream);
    json_text(j, "status", status_name(info->status));
    json_text(j, "state", info->state);
    json_number(j, "version", info->version);
    json_number(j, "changed_version", info->changed_version);
    json_number(j, "epoch", info->epoch);
    json_hex(j, "link", info->link);
    json_text(j, "machine", info->machine);
    json_number(j, "machine_version", info->machine_version);
    json_hex(j, "machine_hash", info->machine_hash);
    json_time(j, "created_ms", info->created_ms);
    json_time(j, "time_ms", info->time_ms);
    json_time(j, "due_ms", info->due_ms);
    json_number(j, "mailbox", info->mailbox_count);
    json_number(j, "transcript_count", info->transcript_count);
    if (info->parent_agent[0] != 0) {
        json_text(j, "parent_agent", info->parent_agent);
        json_number(j, "parent_version", info->parent_version);
    }
    if (info->error != 0) {
        json_signed(j, "error", info->error);
        json_text(j, "error_text", info->error_text);
    }
}

static void list_damaged(program *p, const found *item, table *t)
{
    char name[CELL];
    const char *cells[COLUMNS_MAX] = {name, "damaged", "-", "-", "-", "-", pagent_message(item->result)};
    (void)escape(name, sizeof name, item->name, strlen(item->name));
    if (p->json) {
        json j = begin_json();
        json_text(&j, "agent", NULL);
        json_hex(&j, "stream", item->summary.stream);
        json_text(&j, "status", "damaged");
        json_text(&j, "error_text", pagent_message(item->result));
        (void)puts("}");
    } else {
        add_row(t, cells);
    }
    if (p->status < status_of(item->result)) p->status = status_of(item->result);
}

static void list_one(program *p, const found *item, table *t)
{
    char name[CELL], version[24], state[64], next[32], last[32], waits[CELL];
    const char *cells[COLUMNS_MAX] = {name, "", state, version, last, next, waits};
    pagent_view *view = NULL;
    pagent_info info;
    if (item->result != PAGENT_OK || pagent_open_view_stream(p->engine, item->summary.stream, 0, &view) != PAGENT_OK ||
        pagent_view_info(view, &info) != PAGENT_OK) {
        list_damaged(p, item, t);
        pagent_close_view(view);
        return;
    }
    if (p->json) {
        json j = begin_json();
        json_info(&j, &info);
        json_effects(&j, view, &info);
        (void)puts("}");
    } else {
        cells[1] = status_name(info.status);
        (void)escape(name, sizeof name, info.name, strlen(info.name));
        (void)escape(state, sizeof state, info.state, strlen(info.state));
        (void)snprintf(version, sizeof version, "%" PRIu64, info.version);
        format_time(last, info.time_ms);
        format_time(next, info.due_ms);
        describe_waits(view, &info, waits);
        add_row(t, cells);
    }
    pagent_close_view(view);
}

static int verb_list(program *p)
{
    static const char *const titles[COLUMNS_MAX] = {"AGENT",     "STATUS", "STATE",    "VERSION",
                                                    "LAST STEP", "NEXT",   "WAITS FOR"};
    table t = {0};
    found_list list;
    size_t i;
    if (find_all(p, &list) != EXIT_GOOD) return p->status;
    t.columns = 7;
    t.right = 1u << 3;
    if (!p->json) add_row(&t, titles);
    for (i = 0; i < list.count; i++) list_one(p, &list.items[i], &t);
    if (!p->json) {
        print_table(&t);
        (void)printf("%zu agent%s\n", list.count, list.count == 1 ? "" : "s");
    }
    free(list.items);
    return p->status;
}

/* ---- show ----------------------------------------------------------------------------------------------------- */

static void print_field(const char *name, const char *format, ...)
{
    va_list list;
    (void)printf("%-12s", name);
    va_start(list, format);
    (void)vprintf(format, list);
    va_end(list);
    (void)putchar('\n');
}

static void print_escaped(const char *name, const char *text)
{
    char safe[4 * PAGENT_NAME_MAX + 64];
    (void)escape(safe, sizeof safe, text, strlen(text));
    print_field(name, "%s", safe);
}

/*   000000  72 65 61 64  ...   read...      A line that repeats the one before is left out, many of them as one '*'. */
static void print_dump(const program *p, pagent_bytes data)
{
    const unsigned char *bytes = (const unsigned char *)data.data;
    uint32_t at, i, end = p->full || data.size < 256 ? data.size : 256;
    int repeats = 0;
    for (at = 0; at < end; at += 16) {
        if (at != 0 && at + 16 < end && memcmp(bytes + at - 16, bytes + at, 16) == 0) {
            if (repeats++ == 0) (void)puts("  *");
            continue;
        }
        repeats = 0;
        (void)printf("  %06x  ", (unsigned)at);
        for (i = at; i < at + 16; i++) {
            if (i < data.size) (void)printf("%02x ", (unsigned)bytes[i]);
            else (void)fputs("   ", stdout);
        }
        (void)putchar(' ');
        for (i = at; i < at + 16 && i < data.size; i++)
            (void)putchar(bytes[i] >= 0x20 && bytes[i] < 0x7F ? bytes[i] : '.');
        (void)putchar('\n');
    }
    if (end < data.size) (void)printf("  ... %u more bytes: --full shows them\n", (unsigned)(data.size - end));
}

static void show_effects(const program *p, const pagent_view *view, const pagent_info *info)
{
    char due[32], name[CELL], before[512];
    uint32_t i;
    print_field("outstanding", "%u", (unsigned)info->effect_count);
    for (i = 0; i < info->effect_count; i++) {
        pagent_effect effect;
        if (pagent_view_effect(view, i, &effect) != PAGENT_OK) return;
        format_time(due, effect.due_ms);
        (void)escape(name, sizeof name, effect.name, strlen(effect.name));
        (void)snprintf(before, sizeof before, "  %" PRIu64 ".%u  %s %s, %s%s%s  ", effect.id.version,
                       (unsigned)effect.id.index, effect_name(effect.kind), name, phase_name(effect.phase),
                       due[0] != '-' ? ", next " : "", due[0] != '-' ? due : "");
        print_data(p, before, effect.payload);
        if (effect.kind == PAGENT_EFFECT_CALL) {
            (void)printf("        attempt %u, key %s\n", (unsigned)effect.attempt, effect.key);
        } else if (effect.kind == PAGENT_EFFECT_SIGNAL) {
            (void)escape(name, sizeof name, effect.target, strlen(effect.target));
            (void)printf("        to %s\n", name);
        }
    }
}

static void show_transcript(const program *p, const pagent_view *view, const pagent_info *info)
{
    uint32_t i = 0;
    char before[48];
    print_field("transcript", "%u", (unsigned)info->transcript_count);
    if (!p->full && info->transcript_count > 20) {
        i = info->transcript_count - 20;
        (void)printf("  ... %u earlier ones: --full shows them\n", (unsigned)i);
    }
    for (; i < info->transcript_count; i++) {
        pagent_entry entry;
        if (pagent_view_entry(view, i, &entry) != PAGENT_OK) return;
        (void)snprintf(before, sizeof before, "  %u  kind %u  ", (unsigned)i, (unsigned)entry.kind);
        print_data(p, before, entry.data);
    }
}

static void show_info(const pagent_info *info)
{
    char time[32];
    print_escaped("agent", info->name);
    print_field("stream", "%016" PRIx64, info->stream);
    print_field("status", "%s", status_name(info->status));
    print_escaped("state", info->state);
    if (info->error != 0) print_field("error", "%d", (int)info->error);
    if (info->error != 0) print_escaped("", info->error_text);
    print_field("machine", "%s, version %u, hash %016" PRIx64, info->machine, (unsigned)info->machine_version,
                info->machine_hash);
    print_field("version", "%" PRIu64 ", last changed by %" PRIu64, info->version, info->changed_version);
    print_field("link", "%016" PRIx64, info->link);
    print_field("epoch", "%" PRIu64, info->epoch);
    format_time(time, info->created_ms);
    print_field("created", "%s", time);
    format_time(time, info->time_ms);
    print_field("last step", "%s", time);
    format_time(time, info->due_ms);
    print_field("next", "%s", time);
    if (info->parent_agent[0] != 0) {
        print_escaped("fork of", info->parent_agent);
        print_field("", "at version %" PRIu64, info->parent_version);
    }
    print_field("mailbox", "%u", (unsigned)info->mailbox_count);
}

static void json_show(const pagent_view *view, const pagent_info *info)
{
    json j = begin_json();
    uint32_t i;
    json_info(&j, info);
    json_effects(&j, view, info);
    json_data(&j, "context", info->context);
    json_name(&j, "transcript");
    (void)putchar('[');
    for (i = 0; i < info->transcript_count; i++) {
        pagent_entry entry;
        json inner;
        if (pagent_view_entry(view, i, &entry) != PAGENT_OK) break;
        if (i != 0) (void)putchar(',');
        inner = begin_json();
        json_number(&inner, "kind", entry.kind);
        json_data(&inner, "data", entry.data);
        (void)putchar('}');
    }
    (void)puts("]}");
}

static int verb_show(program *p)
{
    pagent_view *view = NULL;
    pagent_info info;
    found agent;
    int result;
    if (find_agent(p, p->arguments[0], &agent) != EXIT_GOOD) return p->status;
    result = pagent_open_view_stream(p->engine, agent.summary.stream, p->at, &view);
    if (result == PAGENT_OK) result = pagent_view_info(view, &info);
    if (result != PAGENT_OK) {
        pagent_close_view(view);
        return complain_of(p, result, agent.name);
    }
    if (p->json) {
        json_show(view, &info);
    } else {
        show_info(&info);
        show_effects(p, view, &info);
        show_transcript(p, view, &info);
        print_field("context", "%u bytes", (unsigned)info.context.size);
        print_dump(p, info.context);
    }
    pagent_close_view(view);
    return p->status;
}

/* ---- log ------------------------------------------------------------------------------------------------------ */

typedef struct place { /* where a block was found; file NULL: not asked */
    const char *file;
    uint64_t offset;
    int width; /* of the column of names */
} place;

static void json_block(const char *agent, uint64_t stream, const place *where, const pagent_block_info *block)
{
    json j = begin_json();
    if (where->file != NULL) {
        json_text(&j, "file", where->file);
        json_number(&j, "offset", where->offset);
    }
    json_text(&j, "agent", agent);
    json_hex(&j, "stream", stream);
    json_number(&j, "version", block->version);
    json_number(&j, "epoch", block->epoch);
    json_hex(&j, "link", block->link);
    json_time(&j, "time_ms", block->time_ms);
    json_text(&j, "type", block->type);
    json_text(&j, "event", block->event);
    json_text(&j, "outcome", block->outcome);
    json_text(&j, "from", block->from);
    json_text(&j, "to", block->to);
    json_text(&j, "who", block->who);
    json_number(&j, "block_size", block->block_size);
    json_number(&j, "effects_issued", block->effects_issued);
    json_number(&j, "effects_settled", block->effects_settled);
    json_number(&j, "transcript_entries", block->transcript_entries);
    json_number(&j, "context_changed", block->context_changed);
    json_data(&j, "data", block->data);
    (void)puts("}");
}

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

static void print_counts(const pagent_block_info *block)
{
    if (block->effects_issued != 0)
        (void)printf("  +%u effect%s", (unsigned)block->effects_issued, block->effects_issued == 1 ? "" : "s");
    if (block->effects_settled != 0)
        (void)printf("  -%u effect%s", (unsigned)block->effects_settled, block->effects_settled == 1 ? "" : "s");
    if (block->transcript_entries != 0) (void)printf("  +%u to transcript", (unsigned)block->transcript_entries);
    if (block->context_changed != 0)
        (void)printf("  context %u byte%s", (unsigned)block->context_changed, block->context_changed == 1 ? "" : "s");
    (void)printf("  [%u bytes]\n", (unsigned)block->block_size);
}

/* One line for what happened, a second for the event's data. */
static void print_block(const program *p, const char *agent, const place *where, const pagent_block_info *block)
{
    char time[32], name[CELL], event[CELL], from[CELL], to[CELL], who[CELL], what[2 * CELL + 64];
    size_t width;
    format_time(time, block->time_ms);
    (void)escape(event, sizeof event, or_empty(block->event), strlen(or_empty(block->event)));
    (void)escape(from, sizeof from, or_empty(block->from), strlen(or_empty(block->from)));
    (void)escape(to, sizeof to, or_empty(block->to), strlen(or_empty(block->to)));
    (void)escape(who, sizeof who, or_empty(block->who), strlen(or_empty(block->who)));
    if (where->file != NULL) {
        (void)escape(name, sizeof name, agent, strlen(agent));
        (void)printf("%s:%-10" PRIu64 "  %s", where->file, where->offset, name);
        print_spaces((size_t)where->width -
                     (width_of(name) < (size_t)where->width ? width_of(name) : (size_t)where->width));
    }
    (void)printf("%5" PRIu64 "  %-24s  %-8s", block->version, time, block->type);
    if (strcmp(event, block->type) == 0) event[0] = 0;
    (void)snprintf(what, sizeof what, "%s%s%s%s%s%s", event, who[0] != 0 ? " by " : "", who, event[0] != 0 ? " (" : "",
                   or_empty(block->outcome), event[0] != 0 ? ")" : "");
    width = width_of(what);
    (void)printf("  %s", what);
    print_spaces(width < 32 ? 32 - width : 0);
    if (to[0] != 0 && strcmp(from, to) != 0) (void)printf("  %s%s-> %s", from, from[0] != 0 ? " " : "", to);
    print_counts(block);
    if (block->data.size != 0) print_data(p, "       data ", block->data);
}

static void emit_block(program *p, const char *agent, uint64_t stream, const place *where,
                       const pagent_block_info *block)
{
    if (p->json) json_block(agent, stream, where, block);
    else print_block(p, agent, where, block);
}

static int log_agent(program *p, const found *agent)
{
    static const place nowhere = {NULL, 0, 0};
    pagent_view *view = NULL;
    pagent_block_info block;
    int result = pagent_open_view_stream(p->engine, agent->summary.stream, PAGENT_OLDEST, &view);
    while (result == PAGENT_OK) {
        result = pagent_view_block(view, &block);
        if (result != PAGENT_OK) break;
        emit_block(p, agent->name, agent->summary.stream, &nowhere, &block);
        result = pagent_view_next(view);
    }
    pagent_close_view(view);
    if (result != PAGENT_END) return complain_of(p, result, agent->name);
    return p->status;
}

/* -- every block of every file: the container's own, and what belongs to no agent any more, as well -- */

typedef struct follower { /* one agent's view, moved on block by block as its blocks turn up in the files */
    uint64_t stream;
    pagent_view *view;
    uint64_t version; /* 0: none shown yet */
} follower;

typedef struct walk {
    program *p;
    pai_crc crc;
    follower *followers;
    size_t count, capacity;
    uint8_t *buffer;
    size_t buffer_size;
    int width; /* of the longest name */
} walk;

static follower *follow(walk *w, uint64_t stream)
{
    size_t i;
    for (i = w->count; i-- != 0;) {
        if (w->followers[i].stream == stream) return &w->followers[i];
    }
    if (w->count == w->capacity) {
        w->capacity = w->capacity != 0 ? w->capacity * 2 : 64;
        w->followers = (follower *)need_memory(realloc(w->followers, w->capacity * sizeof *w->followers));
    }
    w->followers[w->count].stream = stream;
    w->followers[w->count].view = NULL;
    w->followers[w->count].version = 0;
    return &w->followers[w->count++];
}

static const char *type_name(uint32_t type)
{
    static const char *const names[] = {"?",        "log",      "claim", "create",    "commit",
                                        "rollback", "snapshot", "moved", "tombstone", "index"};
    if (type == PAI_SEAL) return "seal";
    return type < sizeof names / sizeof names[0] ? names[type] : "?";
}

/* The block as its agent's history knows it; 0 when that history does not contain it, as after a cut. */
static int follow_block(walk *w, const pai_block *header, uint64_t link, char name[PAGENT_NAME_MAX + 1],
                        pagent_block_info *block)
{
    follower *at = follow(w, header->stream);
    pagent_info info;
    if (at->version != 0 && header->version == at->version + 1) {
        if (pagent_view_next(at->view) == PAGENT_OK) at->version++;
    } else {
        pagent_close_view(at->view);
        at->view = NULL;
        at->version = 0;
        if (pagent_open_view_stream(w->p->engine, header->stream, header->version, &at->view) != PAGENT_OK) return 0;
        at->version = header->version;
    }
    if (at->version != header->version || pagent_view_info(at->view, &info) != PAGENT_OK ||
        pagent_view_block(at->view, block) != PAGENT_OK || block->link != link) {
        return 0;
    }
    (void)snprintf(name, PAGENT_NAME_MAX + 1, "%s", info.name);
    return 1;
}

static void log_found(walk *w, const char *file, uint64_t offset, const pai_block *header)
{
    pagent_block_info block;
    char name[PAGENT_NAME_MAX + 1];
    place where;
    where.file = file;
    where.offset = offset;
    where.width = w->width;
    memset(&block, 0, sizeof block);
    if (header->stream == 0 || !follow_block(w, header, pai_link(&w->crc, w->buffer), name, &block)) {
        memset(&block, 0, sizeof block);
        if (header->stream == 0) (void)snprintf(name, sizeof name, "-");
        else (void)snprintf(name, sizeof name, "%016" PRIx64, header->stream);
        block.version = header->version;
        block.epoch = header->epoch;
        block.link = pai_link(&w->crc, w->buffer);
        block.type = type_name(header->type);
        block.outcome = header->stream == 0 ? "" : "not in the agent's history";
        block.event = block.from = block.to = block.who = "";
        block.block_size = pai_block_size(header);
    }
    emit_block(w->p, name, header->stream, &where, &block);
}

static int read_fully(program *p, int file, void *buffer, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        int64_t count =
            p->dir.dev.pread(p->dir.dev.ctx, file, (uint8_t *)buffer + done, (uint32_t)(size - done), offset + done);
        if (count <= 0) return count < 0 ? (int)count : PAGENT_END;
        done += (size_t)count;
    }
    return PAGENT_OK;
}

/* From block to block; at the first that does not validate the file ends for this purpose: verify says what it is. */
static int log_file(walk *w, const char *name)
{
    uint64_t offset = 0;
    pai_block header;
    int result, file = w->p->dir.open(w->p->dir.ctx, name, 0);
    if (file < 0) return file == PAGENT_E_NOT_FOUND ? PAGENT_OK : file;
    for (;;) {
        uint32_t size;
        result = read_fully(w->p, file, w->buffer, PAI_HEADER, offset);
        if (result != PAGENT_OK || pai_decode_header(&w->crc, w->buffer, offset, &header) != PAGENT_OK) break;
        size = pai_block_size(&header);
        if (w->buffer_size < size) {
            w->buffer = (uint8_t *)need_memory(realloc(w->buffer, size));
            w->buffer_size = size;
        }
        result = read_fully(w->p, file, w->buffer, size, offset);
        if (result != PAGENT_OK || pai_check_payload(&w->crc, w->buffer, &header) != PAGENT_OK) break;
        log_found(w, name, offset, &header);
        offset += size;
    }
    (void)w->p->dir.close(w->p->dir.ctx, file);
    return result < 0 ? result : PAGENT_OK;
}

static int text_order(const void *left, const void *right)
{
    return strcmp((const char *)left, (const char *)right);
}

/* log.00000012 or 0123456789abcdef.00000012 */
static int is_segment(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && dot != name && strlen(dot) >= 9 && strspn(dot + 1, "0123456789") == strlen(dot + 1);
}

/* Names of all segments, in order: they are numbered with leading zeros. */
static char (*list_files(program *p, size_t *count))[PAGENT_NAME_MAX + 1]
{
    char(*names)[PAGENT_NAME_MAX + 1] = NULL;
    size_t capacity = 0;
    uint32_t index;
    *count = 0;
    for (index = 0;; index++) {
        if (*count == capacity) {
            capacity = capacity != 0 ? capacity * 2 : 64;
            names = (char(*)[PAGENT_NAME_MAX + 1]) need_memory(realloc(names, capacity * sizeof *names));
        }
        if (p->dir.list(p->dir.ctx, "", index, names[*count]) != PAGENT_OK) break;
        if (is_segment(names[*count])) ++*count;
    }
    qsort(names, *count, sizeof *names, text_order);
    return names;
}

static int log_files(program *p)
{
    walk w = {0};
    found_list list;
    size_t count, i;
    char(*names)[PAGENT_NAME_MAX + 1] = list_files(p, &count);
    w.p = p;
    w.buffer_size = PAI_HEADER;
    w.buffer = (uint8_t *)need_memory(malloc(w.buffer_size));
    pai_crc_init(&w.crc);
    w.width = 1;
    if (find_all(p, &list) == EXIT_GOOD) {
        for (i = 0; i < list.count; i++) {
            if (width_of(list.items[i].name) > (size_t)w.width) w.width = (int)width_of(list.items[i].name);
        }
        free(list.items);
    }
    for (i = 0; i < count; i++) {
        int result = log_file(&w, names[i]);
        if (result != PAGENT_OK) (void)complain_of(p, result, names[i]);
    }
    for (i = 0; i < w.count; i++) pagent_close_view(w.followers[i].view);
    free(w.followers);
    free(w.buffer);
    free(names);
    return p->status;
}

static int verb_log(program *p)
{
    found agent;
    if (p->argument_count == 0) return log_files(p);
    if (find_agent(p, p->arguments[0], &agent) != EXIT_GOOD) return p->status;
    return log_agent(p, &agent);
}

/* ---- verify --------------------------------------------------------------------------------------------------- */

typedef struct finding {
    pagent_damage_report report;
    char file[PAGENT_NAME_MAX + 1];
} finding;

typedef struct findings {
    finding *items;
    size_t count, capacity;
} findings;

static void collect_finding(void *ctx, const pagent_damage_report *report)
{
    findings *all = (findings *)ctx;
    finding *made;
    if (report->damage == PAGENT_CLEAN) return;
    if (all->count == all->capacity) {
        all->capacity = all->capacity != 0 ? all->capacity * 2 : 16;
        all->items = (finding *)need_memory(realloc(all->items, all->capacity * sizeof *all->items));
    }
    made = &all->items[all->count++];
    made->report = *report;
    (void)snprintf(made->file, sizeof made->file, "%s", or_empty(report->file));
}

static void name_stream(program *p, uint64_t stream, char name[PAGENT_NAME_MAX + 1])
{
    found item;
    if (stream == 0) {
        (void)snprintf(name, PAGENT_NAME_MAX + 1, "-");
        return;
    }
    item.summary.stream = stream;
    item.result = PAGENT_E_NOT_FOUND;
    if (p->engine != NULL) read_name(p, &item);
    if (item.result == PAGENT_OK) memcpy(name, item.name, PAGENT_NAME_MAX + 1);
    else (void)snprintf(name, PAGENT_NAME_MAX + 1, "%016" PRIx64, stream);
}

static int finding_status(uint32_t damage)
{
    if (damage == PAGENT_CLEAN) return EXIT_GOOD;
    return damage == PAGENT_TORN || damage == PAGENT_DIRTY ? EXIT_REFUSED : EXIT_DAMAGED;
}

static void json_finding(const char *class_name, const char *agent, const char *file,
                         const pagent_damage_report *report)
{
    json j = begin_json();
    json_text(&j, "class", class_name);
    json_text(&j, "agent", agent);
    json_hex(&j, "stream", report->stream);
    json_text(&j, "file", file);
    json_number(&j, "offset", report->offset);
    json_number(&j, "size", report->size);
    json_number(&j, "version", report->version);
    json_text(&j, "result", pagent_result_name(report->result));
    if (report->damage == PAGENT_DAMAGE_SUSPECT) json_signed(&j, "repair_bit", report->repair_bit);
    json_text(&j, "text", report->text);
    (void)puts("}");
}

/* torn  log-3 offset 8192, 512 bytes, agent review-1, version 13: what it means */
static void print_finding(program *p, const finding *item)
{
    const pagent_damage_report *report = &item->report;
    char name[PAGENT_NAME_MAX + 1], safe[CELL];
    name_stream(p, report->stream, name);
    if (p->json) {
        json_finding(damage_name(report->damage), name, item->file, report);
        return;
    }
    (void)escape(safe, sizeof safe, name, strlen(name));
    (void)printf("%s  %s offset %" PRIu64 ", %" PRIu64 " bytes", damage_name(report->damage), item->file,
                 report->offset, report->size);
    if (report->stream != 0) (void)printf(", agent %s", safe);
    if (report->version != 0) (void)printf(", version %" PRIu64, report->version);
    if (report->text[0] != 0) (void)printf(": %s", report->text);
    (void)putchar('\n');
    if (report->damage == PAGENT_DAMAGE_SUSPECT && report->repair_bit >= 0) {
        (void)printf("         flipping bit %d of this block makes it valid again\n", (int)report->repair_bit);
    }
}

/* Every version is put together once: this checks what the blocks' own checksums cannot, such as a delta's base. */
static int verify_agent(program *p, const found *agent, uint64_t *blocks)
{
    pagent_view *view = NULL;
    pagent_damage_report report;
    uint64_t version = 0;
    int result = pagent_open_view_stream(p->engine, agent->summary.stream, PAGENT_OLDEST, &view);
    while (result == PAGENT_OK) {
        pagent_info info;
        if (pagent_view_info(view, &info) == PAGENT_OK) version = info.version;
        ++*blocks;
        result = pagent_view_next(view);
    }
    pagent_close_view(view);
    if (result == PAGENT_END && version >= agent->summary.version)
        return EXIT_GOOD; /* its owner may have gone on since */
    if (result == PAGENT_END) result = PAGENT_E_LOST_TAIL;
    memset(&report, 0, sizeof report);
    report.damage = result == PAGENT_E_LOST_TAIL ? PAGENT_DAMAGE_LOST_TAIL : PAGENT_DAMAGE_CHAIN;
    report.result = result;
    report.stream = agent->summary.stream;
    report.version = version + 1;
    report.repair_bit = -1;
    if (p->json) {
        (void)snprintf(report.text, sizeof report.text, "%s", pagent_message(result));
        json_finding("history", agent->name, NULL, &report);
    } else {
        (void)printf("history  agent %s cannot be read at version %" PRIu64 ": %s\n", agent->name, version + 1,
                     pagent_message(result));
    }
    return status_of(result) == EXIT_TROUBLE ? EXIT_TROUBLE : EXIT_DAMAGED;
}

static void verify_histories(program *p)
{
    found_list list;
    uint64_t blocks = 0;
    size_t i;
    if (find_all(p, &list) != EXIT_GOOD) return;
    for (i = 0; i < list.count; i++) {
        int status = verify_agent(p, &list.items[i], &blocks);
        if (p->status < status) p->status = status;
    }
    if (!p->json) {
        static const char *const words[] = {"clean", "opening it repairs the above", "DAMAGED", "could not be read"};
        (void)printf("%zu agent%s, %" PRIu64 " blocks: %s\n", list.count, list.count == 1 ? "" : "s", blocks,
                     words[p->status]);
    }
    free(list.items);
}

static int verb_verify(program *p)
{
    findings all = {0};
    uint32_t torn = 0;
    size_t i;
    int result = pagent_verify_files(&p->dir, &p->host, collect_finding, &all, &torn), status = status_of(result);
    if (status == EXIT_REFUSED) status = EXIT_TROUBLE; /* a result that is no damage is a failure to read */
    for (i = 0; i < all.count; i++) {
        if (status < finding_status(all.items[i].report.damage)) status = finding_status(all.items[i].report.damage);
    }
    if (open_store(p, 0) != PAGENT_OK && p->status == EXIT_GOOD) p->status = EXIT_TROUBLE;
    for (i = 0; i < all.count; i++) print_finding(p, &all.items[i]);
    if (result < 0 && all.count == 0) (void)complain_of(p, result, p->store);
    free(all.items);
    if (p->status < status) p->status = status;
    if (p->engine != NULL) verify_histories(p);
    /* A store too damaged to be opened has been reported: its damage is the news, not that it cannot be opened. */
    if (status == EXIT_DAMAGED && p->engine == NULL) p->status = EXIT_DAMAGED;
    return p->status;
}

/* ---- export --------------------------------------------------------------------------------------------------- */

typedef struct output {
    FILE *file;
    char path[4096];
    char temporary[4096 + 32];
} output;

static int open_output(program *p, output *out, const char *path)
{
    if (access(path, F_OK) == 0) {
        return complain(p, EXIT_TROUBLE, "%s exists: remove it, or choose another name", path);
    }
    if ((size_t)snprintf(out->path, sizeof out->path, "%s", path) >= sizeof out->path) {
        return complain(p, EXIT_TROUBLE, "the file's name is too long");
    }
    (void)snprintf(out->temporary, sizeof out->temporary, "%s.tmp-%ld", path, (long)getpid());
    out->file = fopen(out->temporary, "wb");
    if (out->file == NULL) return complain(p, EXIT_TROUBLE, "%s: %s", out->temporary, strerror(errno));
    return EXIT_GOOD;
}

/* Durable before it has its name. */
static int close_output(program *p, output *out, int keep)
{
    int good = fflush(out->file) == 0 && fsync(fileno(out->file)) == 0, error = errno;
    if (fclose(out->file) != 0) {
        good = 0;
        error = errno;
    }
    if (keep && good && rename(out->temporary, out->path) == 0) return EXIT_GOOD;
    if (keep) (void)complain(p, EXIT_TROUBLE, "%s: %s", out->path, strerror(good ? errno : error));
    (void)remove(out->temporary);
    return p->status;
}

static int put_output(program *p, output *out, const void *data, size_t size)
{
    if (fwrite(data, 1, size, out->file) != size) {
        return complain(p, EXIT_TROUBLE, "%s: %s", out->temporary, strerror(errno));
    }
    return EXIT_GOOD;
}

static int export_block(program *p, output *out, pagent_portable *head, pagent_bytes raw)
{
    uint8_t *copy = (uint8_t *)need_memory(malloc(raw.size));
    uint32_t size;
    int status;
    memcpy(copy, raw.data, raw.size);
    size = pagent_portable_add(head, copy, raw.size);
    status = size != 0 ? put_output(p, out, copy, size) : complain_of(p, PAGENT_E_CORRUPT, head->name);
    free(copy);
    return status;
}

static int export_blocks(program *p, output *out, pagent_portable *head, uint64_t stream)
{
    pagent_view *view = NULL;
    pagent_bytes raw;
    pagent_info info;
    int result = pagent_open_view_stream(p->engine, stream, PAGENT_OLDEST, &view);
    while (result == PAGENT_OK) {
        result = pagent_view_raw(view, &raw);
        if (result == PAGENT_OK && export_block(p, out, head, raw) != EXIT_GOOD) break;
        if (result == PAGENT_OK) result = pagent_view_info(view, &info);
        if (result == PAGENT_OK) {
            head->moved = info.status == PAGENT_MOVED;
            result = pagent_view_next(view);
        }
    }
    pagent_close_view(view);
    if (p->status == EXIT_GOOD && result != PAGENT_END) return complain_of(p, result, head->name);
    return p->status;
}

static int write_export(program *p, output *out, const found *agent, pagent_portable *head)
{
    uint8_t block[PAGENT_PORTABLE_HEAD];
    uint32_t size;
    memset(head, 0, sizeof *head);
    (void)snprintf(head->name, sizeof head->name, "%s", agent->name);
    if (p->host.random(p->host.ctx, &head->log, sizeof head->log) != 0) {
        return complain(p, EXIT_TROUBLE, "the system gives no random bytes");
    }
    size = pagent_portable_head(head, block); /* holds the place: its size depends on the name only */
    if (put_output(p, out, block, size) != EXIT_GOOD) return p->status;
    if (export_blocks(p, out, head, agent->summary.stream) != EXIT_GOOD) return p->status;
    if (pagent_portable_head(head, block) != size)
        return complain(p, EXIT_TROUBLE, "%s: the head changed its size", out->path);
    if (fseek(out->file, 0, SEEK_SET) != 0) return complain(p, EXIT_TROUBLE, "%s: %s", out->temporary, strerror(errno));
    return put_output(p, out, block, size);
}

static void pause_ms(long milliseconds)
{
    struct timespec time;
    time.tv_sec = milliseconds / 1000;
    time.tv_nsec = milliseconds % 1000 * 1000000L;
    (void)nanosleep(&time, NULL);
}

static int complain_of_receipt(program *p, const char *agent, const pagent_receipt *receipt)
{
    return complain(p, status_of(receipt->result), "%s: %s", agent,
                    receipt->text[0] != 0 ? receipt->text : pagent_message(receipt->result));
}

/* Our own engine: nobody owns the store. It starts nothing and reads no inbox. */
static int request_here(program *p, const pagent_request *request)
{
    pagent_receipt receipt;
    uint64_t end = p->host.clock_ms(p->host.ctx) + p->wait_s * 1000;
    int result;
    memset(&receipt, 0, sizeof receipt);
    receipt.result = PAGENT_PENDING;
    result = pagent_submit(p->engine, request, &receipt);
    while (result >= 0 && receipt.result == PAGENT_PENDING && p->host.clock_ms(p->host.ctx) < end) {
        result = pagent_poll(p->engine);
        if (result == PAGENT_IDLE && receipt.result == PAGENT_PENDING) pause_ms(10); /* a pause after a busy store */
    }
    if (result < 0) {
        const char *text = pagent_error_text(p->engine);
        return complain(p, status_of(result), "%s: %s", request->agent, text[0] != 0 ? text : pagent_message(result));
    }
    if (receipt.result == PAGENT_PENDING)
        return complain(p, EXIT_TROUBLE, "%s: the store did not answer in time", request->agent);
    return receipt.result < 0 ? complain_of_receipt(p, request->agent, &receipt) : EXIT_GOOD;
}

/* A message to the process that owns the store. */
static int request_there(program *p, const pagent_request *request)
{
    pagent_request message = *request;
    pagent_receipt receipt;
    uint64_t number = 0, waited;
    char id[48];
    int result = p->host.random(p->host.ctx, &number, sizeof number);
    (void)snprintf(id, sizeof id, "pagentctl-%016" PRIx64, number);
    message.id = id;
    memset(&receipt, 0, sizeof receipt);
    if (result == PAGENT_OK) result = pagent_send_message(&p->dir, &p->host, &message);
    if (result != PAGENT_OK) return complain_of(p, result, p->store);
    for (waited = 0, result = PAGENT_PENDING; result == PAGENT_PENDING && waited <= p->wait_s * 1000; waited += 20) {
        result = pagent_read_receipt(&p->dir, id, &receipt);
        if (result == PAGENT_PENDING) pause_ms(20);
    }
    if (result == PAGENT_PENDING) {
        return complain(
            p, EXIT_TROUBLE,
            "%s: the store's owner has not answered yet. The request stays in its inbox: export again later",
            request->agent);
    }
    if (result != PAGENT_OK) return complain_of(p, result, p->store);
    return receipt.result < 0 ? complain_of_receipt(p, request->agent, &receipt) : EXIT_GOOD;
}

/* Ends the agent here, by whoever can: us, or the process that owns the store. */
static int move_out(program *p, const char *agent)
{
    pagent_request request = {0};
    int result;
    request.size = sizeof request;
    request.verb = PAGENT_MOVE_OUT;
    request.agent = agent;
    close_store(p);
    result = open_store(p, 1);
    if (result == PAGENT_OK) (void)request_here(p, &request);
    else if (result == PAGENT_E_LOCKED) (void)request_there(p, &request);
    close_store(p);
    if (p->status == EXIT_GOOD && open_store(p, 0) != PAGENT_OK && p->status == EXIT_GOOD) p->status = EXIT_TROUBLE;
    return p->status;
}

static int verb_export(program *p)
{
    output out;
    pagent_portable head;
    found agent;
    pagent_view *view = NULL;
    pagent_info info;
    int moved = 0;
    memset(&head, 0, sizeof head);
    out.file = NULL;
    if (find_agent(p, p->arguments[0], &agent) != EXIT_GOOD) return p->status;
    if (pagent_open_view_stream(p->engine, agent.summary.stream, 0, &view) == PAGENT_OK &&
        pagent_view_info(view, &info) == PAGENT_OK) {
        moved = info.status == PAGENT_MOVED;
    }
    pagent_close_view(view);
    if (open_output(p, &out, p->arguments[1]) != EXIT_GOOD) return p->status;
    if (p->move && !moved) (void)move_out(p, agent.name);
    if (p->status == EXIT_GOOD) (void)write_export(p, &out, &agent, &head);
    if (p->status == EXIT_GOOD && p->move && !head.moved) {
        (void)complain(p, EXIT_REFUSED, "%s: was not moved out", agent.name);
    }
    if (close_output(p, &out, p->status == EXIT_GOOD) != EXIT_GOOD) return p->status;
    if (p->json) {
        json j = begin_json();
        json_text(&j, "agent", head.name);
        json_text(&j, "file", p->arguments[1]);
        json_number(&j, "blocks", head.count);
        json_number(&j, "version", head.last);
        json_hex(&j, "link", head.link);
        json_name(&j, "moved");
        (void)printf("%s}\n", head.moved ? "true" : "false");
    } else {
        (void)printf("%s: %" PRIu64 " blocks to version %" PRIu64 " written to %s%s\n", head.name, head.count,
                     head.last, p->arguments[1], head.moved ? "; it goes on where that file is imported" : "");
    }
    return p->status;
}

/* ---- import --------------------------------------------------------------------------------------------------- */

static uint8_t *read_file(program *p, const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    size_t capacity = 1 << 16, count = 0, got;
    uint8_t *bytes = NULL;
    *size = 0;
    if (file == NULL) {
        (void)complain(p, EXIT_TROUBLE, "%s: %s", path, strerror(errno));
        return NULL;
    }
    bytes = (uint8_t *)need_memory(malloc(capacity));
    while ((got = fread(bytes + count, 1, capacity - count, file)) != 0) {
        count += got;
        if (count == capacity) {
            capacity *= 2;
            bytes = (uint8_t *)need_memory(realloc(bytes, capacity));
        }
    }
    if (ferror(file)) (void)complain(p, EXIT_TROUBLE, "%s: %s", path, strerror(errno));
    (void)fclose(file);
    *size = count;
    return bytes;
}

static int bring_in(program *p, const pagent_portable *head, const uint8_t *blocks, size_t size)
{
    pagent_request request = {0};
    int result = open_store(p, 1);
    if (result == PAGENT_E_LOCKED) {
        return complain(p, EXIT_TROUBLE, "%s: a process owns this store: stop it for the import", p->store);
    }
    if (result != PAGENT_OK) return p->status != EXIT_GOOD ? p->status : EXIT_TROUBLE;
    result = pagent_import_blocks(p->engine, blocks, size, p->as);
    if (result == PAGENT_E_EXISTS) {
        return complain(p, EXIT_REFUSED,
                        "%s: an agent of this name is in %s already; --as imports a fork under another name",
                        p->as != NULL ? p->as : head->name, p->store);
    }
    if (result < 0) return complain_of(p, result, p->arguments[0]);
    if (result == PAGENT_DUPLICATE && !p->again) {
        return complain(p, EXIT_REFUSED,
                        "%s: it is in %s already, and moved out: if an import was interrupted, or the move is to be "
                        "undone, and it lives nowhere else, let it go on here with --again",
                        head->name, p->store);
    }
    if (p->as != NULL) return EXIT_GOOD;
    request.size = sizeof request;
    request.verb = PAGENT_MOVE_IN;
    request.agent = head->name;
    return request_here(p, &request);
}

static int verb_import(program *p)
{
    pagent_portable head;
    const char *what;
    size_t size, at;
    uint8_t *bytes = read_file(p, p->arguments[0], &size);
    int result;
    if (p->status != EXIT_GOOD) {
        free(bytes);
        return p->status;
    }
    result = pagent_portable_open(&head, bytes, size, &at, &what);
    if (result == PAGENT_E_FOREIGN)
        (void)complain(p, EXIT_DAMAGED, "%s: not a file that `pagentctl export` wrote", p->arguments[0]);
    else if (result == PAGENT_E_NEWER)
        (void)complain(p, EXIT_DAMAGED, "%s: written by a newer pagentctl", p->arguments[0]);
    else if (result != PAGENT_OK) (void)complain(p, EXIT_DAMAGED, "%s: offset %zu: %s", p->arguments[0], at, what);
    else if (!head.moved && p->as == NULL) {
        (void)complain(p, EXIT_REFUSED,
                       "%s: a copy of %s, which was not moved out and may go on where it is: import it as a "
                       "fork, with --as NAME",
                       p->arguments[0], head.name);
    } else if (bring_in(p, &head, bytes + at, size - at) == EXIT_GOOD) {
        if (p->json) {
            json j = begin_json();
            json_text(&j, "agent", p->as != NULL ? p->as : head.name);
            json_text(&j, "from", head.name);
            json_number(&j, "version", head.last);
            json_name(&j, "fork");
            (void)printf("%s}\n", p->as != NULL ? "true" : "false");
        } else if (p->as != NULL) {
            (void)printf("%s: a fork of %s at version %" PRIu64 "\n", p->as, head.name, head.last);
        } else {
            (void)printf("%s: goes on here, from version %" PRIu64 "\n", head.name, head.last);
        }
    }
    free(bytes);
    return p->status;
}

/* ---- the command line ----------------------------------------------------------------------------------------- */

enum option { /* in the order of take_option */
    OPTION_JSON = 1,
    OPTION_FULL = 2,
    OPTION_MOVE = 4,
    OPTION_CREATE = 8,
    OPTION_AGAIN = 16,
    OPTION_AS = 32,
    OPTION_AT = 64,
    OPTION_WAIT = 128
};

typedef struct verb_row {
    const char *name;
    int arguments_min, arguments_max;
    int opens; /* the store for reading */
    uint32_t options;
    int (*run)(program *p);
    const char *synopsis;
} verb_row;

static const verb_row verbs[] = {
    {"list", 0, 0, 1, 0, verb_list, "list"},
    {"show", 1, 1, 1, OPTION_FULL | OPTION_AT, verb_show, "show AGENT [--at VERSION] [--full]"},
    {"log", 0, 1, 1, OPTION_FULL, verb_log, "log [AGENT] [--full]"},
    {"verify", 0, 0, 0, 0, verb_verify, "verify"},
    {"export", 2, 2, 1, OPTION_MOVE | OPTION_WAIT, verb_export, "export AGENT FILE [--move] [--wait SECONDS]"},
    {"import", 1, 1, 0, OPTION_AS | OPTION_CREATE | OPTION_AGAIN, verb_import,
     "import FILE [--as NAME] [--create] [--again]"},
};

static int wrong_usage(const char *format, const char *what)
{
    (void)fputs("pagentctl: ", stderr);
    (void)fprintf(stderr, format, what);
    (void)fputs("\npagentctl --help says how to use it\n", stderr);
    return EXIT_TROUBLE;
}

static int parse_number(const char *text, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0;
}

/* An option with a value, as two arguments or with '='. 0: not this option. */
static int option_value(const char *name, char **argv, int argc, int *at, const char **value)
{
    size_t size = strlen(name);
    if (strncmp(argv[*at], name, size) != 0) return 0;
    if (argv[*at][size] == '=') {
        *value = argv[*at] + size + 1;
        return 1;
    }
    if (argv[*at][size] != 0 || *at + 1 >= argc) return 0;
    *value = argv[++*at];
    return 1;
}

/* Switches set a number, the others a text. The verbs that take them are in `verbs`; --json goes with all. */
static int take_option(program *p, char **argv, int argc, int *at)
{
    static const char *const switches[] = {"--json", "--full", "--move", "--create", "--again"};
    static const char *const others[] = {"--as", "--at", "--wait"};
    int *const set[] = {&p->json, &p->full, &p->move, &p->create, &p->again};
    const char *const word = argv[*at];
    const char *value = NULL;
    uint32_t i, option;
    for (i = 0; i < 5; i++) {
        if (strcmp(word, switches[i]) != 0) continue;
        *set[i] = 1;
        p->given |= 1u << i;
        return EXIT_GOOD;
    }
    for (i = 0; i < 3 && !option_value(others[i], argv, argc, at, &value); i++) {
    }
    if (i == 3) return wrong_usage("unknown option '%s', or its value is missing", word);
    option = (uint32_t)OPTION_AS << i;
    p->given |= option;
    if (option == OPTION_AS) p->as = value;
    else if (option == OPTION_AT && (!parse_number(value, &p->at) || p->at == 0)) {
        return wrong_usage("--at: '%s' is not a version", value);
    } else if (option == OPTION_WAIT && (!parse_number(value, &p->wait_s) || p->wait_s > 86400)) {
        return wrong_usage("--wait: '%s' is not a number of seconds up to 86400", value);
    }
    return EXIT_GOOD;
}

static int take_word(program *p, const char *word)
{
    if (p->store == NULL) p->store = word;
    else if (p->verb == NULL) p->verb = word;
    else if (p->argument_count < 2) p->arguments[p->argument_count++] = word;
    else return wrong_usage("'%s' is one argument too many", word);
    return EXIT_GOOD;
}

static const verb_row *parse(program *p, int argc, char **argv)
{
    const verb_row *verb = NULL;
    size_t i;
    int at, words_only = 0;
    p->wait_s = WAIT_S;
    for (at = 1; at < argc; at++) {
        int is_option = !words_only && argv[at][0] == '-' && argv[at][1] != 0;
        if (is_option && strcmp(argv[at], "--") == 0) words_only = 1;
        else if ((is_option ? take_option(p, argv, argc, &at) : take_word(p, argv[at])) != EXIT_GOOD) return NULL;
    }
    if (p->verb == NULL) {
        (void)wrong_usage("%s", p->store == NULL ? "STORE and VERB are missing" : "VERB is missing");
        return NULL;
    }
    for (i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, p->verb) == 0) verb = &verbs[i];
    }
    if (verb == NULL) {
        (void)wrong_usage("unknown verb '%s'", p->verb);
        return NULL;
    }
    if (p->argument_count < verb->arguments_min || p->argument_count > verb->arguments_max ||
        (p->given & ~(verb->options | OPTION_JSON)) != 0) {
        (void)wrong_usage("usage: pagentctl STORE %s [--json]", verb->synopsis);
        return NULL;
    }
    return verb;
}

static int run(program *p, const verb_row *verb)
{
    pagent_posix_host(&p->host);
    if (open_dir(p, verb->run == verb_import && p->create) != EXIT_GOOD) return p->status;
    if (verb->opens && open_store(p, 0) != PAGENT_OK) {
        if (p->status == EXIT_GOOD) p->status = EXIT_TROUBLE;
    } else {
        (void)verb->run(p);
    }
    close_store(p);
    pagent_close_posix(&p->dir);
    return p->status;
}

int main(int argc, char **argv)
{
    program p;
    const verb_row *verb;
    int i;
    memset(&p, 0, sizeof p);
    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return fputs(usage, stdout) < 0 ? EXIT_TROUBLE : 0;
        if (strcmp(argv[i], "--version") == 0) return puts("pagentctl " PAGENT_VERSION) < 0 ? EXIT_TROUBLE : 0;
    }
    verb = parse(&p, argc, argv);
    if (verb == NULL) return EXIT_TROUBLE;
    (void)run(&p, verb);
    if (fflush(stdout) != 0 || ferror(stdout))
        return complain(&p, EXIT_TROUBLE, "standard output: %s", strerror(errno));
    return p.status;
}
