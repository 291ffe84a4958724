/* review.c - reviews documents: one agent for each, which reads it, asks a model for a summary, a category and the
   risky passages, asks a person when the risk is high, and publishes a report exactly once. Kill it whenever you
   like.

       review start docs/ && review run --watch         one terminal
       review status; review approve contract-1a2b      another

   'review --help' says the rest. The agent itself is in review_machine.h; this file is the program around it.

   [build: -lcurl if curl/curl.h] [build: -lcjson if cjson/cJSON.h] */

#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#if defined(HAVE_CURL_CURL_H) && defined(HAVE_CJSON_CJSON_H) && !defined(REVIEW_WITH_OPENAI)
#define REVIEW_WITH_OPENAI
#endif

#include "review_machine.h"
#include "review_host.h"
#include "review_cli.h"
#include "review_audit.h"

typedef struct review_app {
    review_options options;
    pagent_host lent;
    pagent_dir dir;
    review_fault fault;
    pagent_files *files;
    pagent_engine *engine;
    pagent_machine machine;
    review_desk desk;
    review_host host;
    int terminal;     /* progress is one line that changes */
    int line_is_open; /* that line is on the screen */
    int nobody_runs;  /* the last request was applied by ourselves */
    uint64_t failed;  /* documents that failed or were parked during this run */
    uint64_t drawn_ms;
} review_app;

static uint64_t review_clock(review_app *app)
{
    return app->lent.clock_ms(app->lent.ctx);
}

static void review_sleep(uint64_t ms)
{
    struct timespec time;
    time.tv_sec = (time_t)(ms / 1000);
    time.tv_nsec = (long)(ms % 1000) * 1000000;
    (void)nanosleep(&time, NULL); /* a signal may end it early: so much the better */
}

/* ---- Opening and closing --------------------------------------------------------------------------------------- */

enum review_mode {
    REVIEW_READ, /* takes no lock, changes nothing */
    REVIEW_HOLD, /* applies requests; calls wait for the next owner */
    REVIEW_RUN
};

static void review_on_discard(void *ctx, const pagent_damage_report *report)
{
    (void)ctx;
    if (report->damage <= PAGENT_DIRTY) return;
    (void)review_say_error(0, "%s", report->text);
}

static void review_on_trace(void *ctx, const pagent_trace *record);

static int review_open_files(review_app *app, int mode, char *text)
{
    pagent_file_options options;
    int result, turn;
    for (turn = 0; turn < 2; turn++) { /* the second turn: the store was made the other way */
        memset(&options, 0, sizeof options);
        options.size = sizeof options;
        options.read_only = mode == REVIEW_READ;
        options.log_per_agent = (uint32_t)(app->options.log_per_agent ^ turn);
        options.truncate_suspect = (uint32_t)app->options.truncate_suspect;
        options.on_discard = mode == REVIEW_READ ? NULL : review_on_discard;
        result = pagent_open_files(&app->files, &app->dir, &app->lent, &options, text);
        if (result != PAGENT_E_ARGUMENT) break;
    }
    return result;
}

static int review_open_engine(review_app *app, int mode, char *text)
{
    const pagent_machine *machines[1];
    pagent_config config;
    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.hold_effects = mode == REVIEW_HOLD;
    config.read_only = mode == REVIEW_READ;
    config.host = app->lent;
    config.host.ctx = &app->host;
    config.host.call = review_on_call;
    config.host.call_cancel = review_on_call_cancel;
    config.host.trace = mode == REVIEW_RUN ? review_on_trace : NULL;
    config.store = pagent_files_store(app->files);
    if (app->options.no_dir_sync) config.store.caps &= ~(uint32_t)PAGENT_STORE_POWER;
    config.limits.size = sizeof config.limits;
    machines[0] = &app->machine;
    config.machines = machines;
    config.machine_count = 1;
    return pagent_open_engine(&app->engine, &config, text);
}

static int review_open_folder(review_app *app, pagent_dir *dir, int flags, char *text)
{
    if (app->options.no_dir_sync) flags |= PAGENT_POSIX_NO_DIR_SYNC;
    return pagent_open_posix(dir, app->options.store, flags, text);
}

/* OK, E_LOCKED (another process owns the store), or an error; `text` says what it is. */
static int review_open(review_app *app, int mode, char text[PAGENT_TEXT_SIZE])
{
    int result;
    text[0] = 0;
    memset(&app->fault.inner, 0, sizeof app->fault.inner);
    result = review_open_folder(app, &app->fault.inner, mode != REVIEW_READ ? PAGENT_POSIX_CREATE : 0, text);
    if (result != PAGENT_OK) return result;
    app->dir = review_faulty_dir(&app->fault);
    result = review_open_files(app, mode, text);
    if (result == PAGENT_OK) {
        result = review_open_engine(app, mode, text);
        if (result != PAGENT_OK) (void)pagent_close_files(app->files);
    }
    if (result != PAGENT_OK) pagent_close_posix(&app->fault.inner);
    return result;
}

static int review_close(review_app *app)
{
    int result = pagent_close_engine(app->engine), closed = pagent_close_files(app->files);
    pagent_close_posix(&app->fault.inner);
    review_drop_all_jobs(&app->host);
    return result != PAGENT_OK ? result : closed;
}

static int review_say_storage(review_app *app, int result, const char *text)
{
    const char *why = result == PAGENT_E_STORAGE ? review_why_storage(app->options.store) : ""; /* its cure */
    if (result == PAGENT_E_NOT_FOUND) {
        return review_say_error(REVIEW_EXIT_STORAGE,
                                "there is no store in %s, and none can be made there: 'review start FILE' begins one "
                                "(--store DIR says where)",
                                app->options.store);
    }
    if (why[0] != 0) text = why;
    return review_say_error(REVIEW_EXIT_STORAGE, "the store %s: %s%s%s", app->options.store, pagent_message(result),
                            text[0] != 0 ? ": " : "", text);
}

static int review_open_reader(review_app *app)
{
    char text[PAGENT_TEXT_SIZE];
    int result = review_open(app, REVIEW_READ, text);
    return result == PAGENT_OK ? 0 : review_say_storage(app, result, text);
}

/* ---- Asking for something: by oneself when nobody owns the store, else through its inbox ------------------------- */

static void review_make_id(review_app *app, char id[40])
{
    unsigned char bytes[16];
    int i;
    if (app->lent.random(app->lent.ctx, bytes, sizeof bytes) != 0) memset(bytes, 0, sizeof bytes);
    for (i = 0; i < 16; i++) (void)snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}

static void review_request(pagent_request *request, uint32_t verb, const char *agent)
{
    memset(request, 0, sizeof *request);
    request->size = sizeof *request;
    request->verb = verb;
    request->agent = agent;
}

/* Polls until the requests are settled and the engine has nothing more to do now. */
static int review_settle(review_app *app, const pagent_receipt *receipts, size_t count)
{
    size_t i = 0;
    for (;;) {
        int result = pagent_poll(app->engine);
        if (result < 0) return result;
        while (i < count && receipts[i].result != PAGENT_PENDING) i++;
        if (result != PAGENT_OK && i == count) return PAGENT_OK;
        if (result != PAGENT_OK) review_sleep(1);
    }
}

static int review_do_myself(review_app *app, const pagent_request *requests, pagent_receipt *receipts, size_t count)
{
    size_t i;
    int result = PAGENT_OK, closed;
    for (i = 0; i < count; i++) {
        receipts[i].result = PAGENT_PENDING;
        result = pagent_submit(app->engine, &requests[i], &receipts[i]);
        if (result < 0) {
            receipts[i].result = result;
            review_copy_text(receipts[i].text, sizeof receipts[i].text, pagent_message(result),
                             strlen(pagent_message(result)));
        }
    }
    result = review_settle(app, receipts, count);
    if (result < 0) (void)review_say_storage(app, result, pagent_error_text(app->engine));
    closed = review_close(app);
    return result < 0 ? result : closed;
}

/* The messages are in the inbox. Waits for their receipts; when the owner has gone away, works them off itself. */
static int review_await(review_app *app, const pagent_dir *inbox, const pagent_request *requests,
                        pagent_receipt *receipts, size_t count)
{
    uint64_t until = review_clock(app) + app->options.wait_s * 1000;
    char text[PAGENT_TEXT_SIZE];
    size_t i = 0;
    int turn;
    for (turn = 0;; turn++) {
        for (; i < count; i++) {
            int result = pagent_read_receipt(inbox, requests[i].id, &receipts[i]);
            if (result == PAGENT_PENDING) break;
            if (result < 0) return result;
        }
        if (i == count) return PAGENT_OK;
        if (review_clock(app) >= until) return PAGENT_E_TIMEOUT;
        if (turn % 10 == 9 && review_open(app, REVIEW_HOLD, text) == PAGENT_OK) {
            int result = review_settle(app, NULL, 0), closed = review_close(app);
            if (result < 0 || closed < 0) return result < 0 ? result : closed;
        }
        review_sleep(10);
    }
}

static int review_do_by_message(review_app *app, pagent_request *requests, pagent_receipt *receipts, size_t count)
{
    char(*ids)[40] = (char(*)[40])calloc(count, sizeof *ids);
    pagent_dir inbox;
    size_t i;
    int result;
    memset(&inbox, 0, sizeof inbox);
    if (ids == NULL) return PAGENT_E_MEMORY;
    result = review_open_folder(app, &inbox, 0, NULL);
    for (i = 0; i < count && result == PAGENT_OK; i++) {
        review_make_id(app, ids[i]);
        requests[i].id = ids[i];
        receipts[i].result = PAGENT_PENDING;
        result = pagent_send_message(&inbox, &app->lent, &requests[i]);
    }
    if (result == PAGENT_OK) result = review_await(app, &inbox, requests, receipts, count);
    pagent_close_posix(&inbox);
    free(ids);
    return result;
}

/* 0 when every receipt is there; else the exit status, and the user has been told. */
static int review_ask(review_app *app, pagent_request *requests, pagent_receipt *receipts, size_t count)
{
    char text[PAGENT_TEXT_SIZE];
    int result = review_open(app, REVIEW_HOLD, text);
    app->nobody_runs = result == PAGENT_OK;
    if (result == PAGENT_OK) {
        result = review_do_myself(app, requests, receipts, count);
        return result < 0 ? REVIEW_EXIT_STORAGE : 0;
    }
    if (result != PAGENT_E_LOCKED) return review_say_storage(app, result, text);
    result = review_do_by_message(app, requests, receipts, count);
    if (result == PAGENT_E_TIMEOUT) {
        return review_say_error(
            REVIEW_EXIT_WAITING,
            "queued, but the process that owns %s has not answered within %llu s; it will be applied "
            "when that process goes on, or by the next 'review'",
            app->options.store, (unsigned long long)app->options.wait_s);
    }
    return result == PAGENT_OK ? 0 : review_say_storage(app, result, "");
}

/* Refused because of what was asked, or because the store could not do it? */
static int review_refusal_code(int result)
{
    static const int storage[] = {PAGENT_E_NO_SPACE, PAGENT_E_IN_DOUBT, PAGENT_E_STORAGE,   PAGENT_E_CORRUPT,
                                  PAGENT_E_SUSPECT,  PAGENT_E_FOREIGN,  PAGENT_E_LOST_TAIL, PAGENT_E_NEWER,
                                  PAGENT_E_FENCED,   PAGENT_E_MEMORY,   PAGENT_E_CLOSED};
    size_t i;
    for (i = 0; i < sizeof storage / sizeof storage[0]; i++)
        if (storage[i] == result) return REVIEW_EXIT_STORAGE;
    return REVIEW_EXIT_REFUSED;
}

/* ---- Finding documents ----------------------------------------------------------------------------------------- */

/* The agent whose name is `word`, or the only one whose name begins with it. Needs an open reader. */
static int review_find(review_app *app, const char *word, char name[PAGENT_NAME_MAX + 1])
{
    pagent_summary summary;
    pagent_view *view;
    pagent_info info;
    uint64_t cursor = 0;
    int found = 0, unreadable = 0, result;
    result = pagent_open_view(app->engine, word, 0, &view);
    if (result == PAGENT_OK) {
        pagent_close_view(view);
        review_copy_text(name, PAGENT_NAME_MAX + 1, word, strlen(word));
        return 0;
    }
    while (pagent_next_agent(app->engine, &cursor, &summary) == PAGENT_OK) {
        result = pagent_open_view_stream(app->engine, summary.stream, 0, &view);
        if (result != PAGENT_OK) {
            unreadable = result;
            continue;
        }
        if (pagent_view_info(view, &info) == PAGENT_OK && strncmp(info.name, word, strlen(word)) == 0) {
            if (found++ == 0) review_copy_text(name, PAGENT_NAME_MAX + 1, info.name, strlen(info.name));
        }
        pagent_close_view(view);
    }
    if (found == 1) return 0;
    if (found == 0 && unreadable != 0) { /* it may be the one */
        return review_say_error(REVIEW_EXIT_STORAGE, "no document '%s' can be read: %s; 'review status' says which are",
                                word, pagent_message(unreadable));
    }
    if (found == 0) return review_say_error(REVIEW_EXIT_REFUSED, "no document '%s'; 'review status' lists them", word);
    return review_say_error(REVIEW_EXIT_REFUSED, "'%s' begins the names of %d documents; give more of it", word, found);
}

/* The same, with the reader opened and closed around it. */
static int review_look_up(review_app *app, const char *word, char name[PAGENT_NAME_MAX + 1])
{
    int code = review_open_reader(app);
    if (code != 0) return code;
    code = review_find(app, word, name);
    (void)review_close(app);
    return code;
}

/* The newest state of an agent; NULL, and the user has been told, when it cannot be read. */
static pagent_view *review_view(review_app *app, const char *name, uint64_t version, pagent_info *info)
{
    pagent_view *view;
    int result = pagent_open_view(app->engine, name, version, &view);
    if (result == PAGENT_OK) result = pagent_view_info(view, info);
    if (result == PAGENT_OK) return view;
    (void)review_say_error(0, "%s: %s", name, pagent_message(result));
    return NULL;
}

static const review_context *review_view_context(const pagent_info *info)
{
    static const review_context empty;
    return info->context.size >= sizeof empty ? (const review_context *)info->context.data : &empty;
}

/* The question to a person that is open; 0: there is none. */
static int review_open_question(const pagent_view *view, const pagent_info *info, pagent_effect *question)
{
    uint32_t i;
    for (i = 0; i < info->effect_count; i++) {
        if (pagent_view_effect(view, i, question) == PAGENT_OK && question->kind == PAGENT_EFFECT_APPROVAL) return 1;
    }
    return 0;
}

static pagent_bytes review_view_entry(const pagent_view *view, const pagent_info *info, uint32_t kind)
{
    pagent_entry entry;
    pagent_bytes none = {"", 0};
    uint32_t index = info->transcript_count;
    while (index-- != 0) {
        if (pagent_view_entry(view, index, &entry) == PAGENT_OK && entry.kind == kind) return entry.data;
    }
    return none;
}

static const char *review_status_name(uint32_t status)
{
    static const char *const names[] = {"", "running", "waiting", "parked", "done", "failed", "cancelled", "moved"};
    return status < sizeof names / sizeof names[0] ? names[status] : "unknown";
}

/* ---- start ----------------------------------------------------------------------------------------------------- */

enum {
    REVIEW_BATCH = 32,
    REVIEW_FOLDER_DEPTH = 16
};

typedef struct review_batch { /* documents on their way into the store */
    review_app *app;
    pagent_request requests[REVIEW_BATCH];
    pagent_receipt receipts[REVIEW_BATCH];
    char names[REVIEW_BATCH][PAGENT_NAME_MAX + 1];
    char *paths[REVIEW_BATCH];
    size_t count;
    uint64_t started, known, failed;
    int code;
} review_batch;

static void review_report_start(review_batch *batch, size_t i)
{
    const pagent_receipt *receipt = &batch->receipts[i];
    int known = receipt->result == PAGENT_E_EXISTS || receipt->result == PAGENT_DUPLICATE;
    if (!known && receipt->result < 0) {
        batch->failed++;
        if (review_refusal_code(receipt->result) != REVIEW_EXIT_REFUSED) batch->code = REVIEW_EXIT_STORAGE;
        (void)review_say_error(0, "%s: %s", batch->paths[i],
                               receipt->text[0] != 0 ? receipt->text : pagent_message(receipt->result));
        return;
    }
    if (known) batch->known++;
    else batch->started++;
    if (batch->app->options.json) {
        review_print_member(1, "id", batch->names[i]);
        review_print_member(0, "file", batch->paths[i]);
        printf(",\"started\":%s}\n", known ? "false" : "true");
    } else {
        printf("%-10s %s  %s\n", known ? "known" : "started", batch->names[i], batch->paths[i]);
    }
}

static void review_flush_batch(review_batch *batch)
{
    size_t i;
    int code = batch->count != 0 ? review_ask(batch->app, batch->requests, batch->receipts, batch->count) : 0;
    if (code != 0 && batch->code == 0) batch->code = code;
    for (i = 0; i < batch->count; i++) {
        if (code == 0) review_report_start(batch, i);
        free((void *)(uintptr_t)batch->requests[i].data.data);
        free(batch->paths[i]);
    }
    batch->count = 0;
}

static void review_start_file(review_batch *batch, const char *path, int named)
{
    const review_options *options = &batch->app->options;
    char *full = review_real_path(path), *record = NULL;
    const char *wrong;
    uint32_t size = 0;
    size_t i;
    pagent_request *request = &batch->requests[batch->count];
    if (full == NULL) wrong = strerror(errno);
    else if (strchr(full, '\n') != NULL) wrong = "its path holds a line break";
    else
        wrong = review_load_document(full, (uint32_t)options->threshold, (uint32_t)options->deadline_s, &record, &size);
    if (wrong != NULL) {
        (void)review_say_error(0, "%s: %s%s", path, named ? "" : "left out: ", wrong);
        if (named) batch->failed++;
        free(full);
        return;
    }
    review_agent_id(full, batch->names[batch->count]);
    for (i = 0; i < batch->count && strcmp(batch->names[i], batch->names[batch->count]) != 0; i++) continue;
    if (i < batch->count) { /* a second link to the same file */
        free(full);
        free(record);
        return;
    }
    review_request(request, PAGENT_CREATE, batch->names[batch->count]);
    request->event = "review";
    request->data.data = record;
    request->data.size = size;
    batch->paths[batch->count++] = full;
    if (batch->count == REVIEW_BATCH) review_flush_batch(batch);
}

static int review_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Every visible file below, in the order of names. Folders behind symbolic links are left out: they may lead back. */
static void review_start_path(review_batch *batch, const char *path, int depth)
{
    struct dirent **entries;
    struct stat about;
    int count, i;
    if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) {
        review_start_file(batch, path, depth == 0);
        return;
    }
    if (depth != 0 && lstat(path, &about) == 0 && S_ISLNK(about.st_mode)) return;
    if (depth == REVIEW_FOLDER_DEPTH) {
        (void)review_say_error(0, "%s: left out: more than %d folders deep", path, REVIEW_FOLDER_DEPTH);
        return;
    }
    count = scandir(path, &entries, review_visible, alphasort);
    if (count < 0) {
        batch->failed++;
        (void)review_say_error(0, "%s: %s", path, strerror(errno));
        return;
    }
    for (i = 0; i < count; i++) {
        char below[REVIEW_PATH_SIZE];
        int size = snprintf(below, sizeof below, "%s/%s", path, entries[i]->d_name);
        if (size > 0 && (size_t)size < sizeof below) review_start_path(batch, below, depth + 1);
        free(entries[i]);
    }
    free(entries);
}

static int review_start(review_app *app, int first)
{
    review_batch *batch = (review_batch *)calloc(1, sizeof *batch);
    int i, code;
    if (batch == NULL) return review_say_error(REVIEW_EXIT_STORAGE, "out of memory");
    batch->app = app;
    for (i = first; i < app->options.word_count; i++) review_start_path(batch, app->options.words[i], 0);
    review_flush_batch(batch);
    if (!app->options.json && batch->started + batch->known + batch->failed != 1) {
        printf("%llu started, %llu known before\n", (unsigned long long)batch->started,
               (unsigned long long)batch->known);
    }
    code = batch->code != 0 ? batch->code : batch->failed != 0 ? REVIEW_EXIT_REFUSED : REVIEW_EXIT_OK;
    free(batch);
    return code;
}

static int review_verb_start(review_app *app)
{
    return review_start(app, 1);
}

/* ---- run ------------------------------------------------------------------------------------------------------- */

typedef struct review_tally { /* how many documents are where */
    uint64_t in_state[REVIEW_STATE_COUNT];
    uint64_t total;
    uint64_t ended;
    uint64_t parked;
    uint64_t damaged;
    uint64_t busy; /* not ended, and not only waiting for a person */
} review_tally;

static void review_count_all(review_app *app, review_tally *tally)
{
    pagent_summary summary;
    uint64_t cursor = 0;
    memset(tally, 0, sizeof *tally);
    while (pagent_next_agent(app->engine, &cursor, &summary) == PAGENT_OK) {
        tally->total++;
        if (summary.flags & PAGENT_IS_DAMAGED) {
            tally->damaged++;
            continue;
        }
        if (summary.state < REVIEW_STATE_COUNT) tally->in_state[summary.state]++;
        if (summary.status == PAGENT_PARKED) tally->parked++;
        else if (summary.status > PAGENT_PARKED) tally->ended++;
        else if (summary.status == PAGENT_RUNNING || (summary.flags & (PAGENT_HAS_CALLS | PAGENT_HAS_WORK)))
            tally->busy++;
    }
}

static void review_clear_line(review_app *app)
{
    if (app->line_is_open) fputs("\r\033[K", stdout);
    app->line_is_open = 0;
}

static void review_draw_line(review_app *app)
{
    uint64_t now = review_clock(app);
    review_tally tally;
    int i;
    if (!app->terminal || (app->line_is_open && now - app->drawn_ms < 100)) return;
    review_count_all(app, &tally);
    review_clear_line(app);
    printf("%llu of %llu settled", (unsigned long long)tally.ended, (unsigned long long)tally.total);
    for (i = 0; i < REVIEW_STATE_COUNT; i++) {
        if (tally.in_state[i] == 0 || (review_states[i].flags & PAGENT_FINAL)) continue;
        printf("  %llu %s", (unsigned long long)tally.in_state[i], review_states[i].name);
    }
    fflush(stdout);
    app->line_is_open = 1;
    app->drawn_ms = now;
}

/* One plain line for each change of state; on a terminal only for those that a person would want to know of. */
static void review_print_change(review_app *app, const pagent_trace *record)
{
    if (app->options.json) {
        review_print_member(1, "id", record->agent);
        review_print_member(0, "from", record->from);
        review_print_member(0, "to", record->to);
        printf(",\"version\":%llu}\n", (unsigned long long)record->version);
        return;
    }
    if (app->terminal && (strcmp(record->to, "summarising") == 0 || strcmp(record->to, "publishing") == 0)) return;
    review_clear_line(app);
    printf("%-40s %s -> %s\n", record->agent, record->from, record->to);
}

static void review_on_trace(void *ctx, const pagent_trace *record)
{
    review_app *app = (review_app *)((review_host *)ctx)->program;
    const char *agent = record->agent != NULL ? record->agent : "the store";
    switch (record->kind) {
    case PAGENT_TRACE_COMMIT:
        if (record->agent == NULL || record->from == NULL || record->to == NULL) return;
        if (strcmp(record->from, record->to) == 0) return;
        if (strcmp(record->to, "failed") == 0) app->failed++;
        review_print_change(app, record);
        return;
    case PAGENT_TRACE_RETRY:
        review_clear_line(app);
        (void)review_say_error(0, "%s: %s failed (code %d) and will be tried again", agent,
                               record->name != NULL ? record->name : "a call", (int)record->code);
        return;
    case PAGENT_TRACE_PARKED:
    case PAGENT_TRACE_ERROR:
        review_clear_line(app);
        if (record->kind == PAGENT_TRACE_PARKED) app->failed++;
        (void)review_say_error(0, "%s: %s%s", agent, record->kind == PAGENT_TRACE_PARKED ? "parked: " : "",
                               pagent_message(record->code));
        return;
    default: return;
    }
}

/* What pagent_run calls when there is nothing to do but to wait: a slice of work on calls, or a short sleep. */
static int review_wait(void *ctx, pagent_engine *engine, uint64_t deadline_ms)
{
    review_app *app = (review_app *)ctx;
    review_tally tally;
    uint64_t now;
    if (review_stop) return 1;
    review_draw_line(app);
    if (review_work(&app->host, engine)) return 0;
#ifdef REVIEW_WITH_OPENAI
    if (app->host.openai != NULL && pagent_openai_outstanding(app->host.openai) != 0) {
        int result = pagent_openai_perform(app->host.openai, engine, 100);
        return result < 0 ? result : 0;
    }
#endif
    review_count_all(app, &tally);
    if (!app->options.watch && tally.busy == 0) return 1;
    fflush(stdout);
    now = review_clock(app);
    if (deadline_ms > now) review_sleep(deadline_ms - now < 100 ? deadline_ms - now : 100);
    return 0;
}

static int review_sum_up(review_app *app)
{
    review_tally tally;
    uint64_t waiting;
    review_count_all(app, &tally);
    review_clear_line(app);
    waiting = tally.in_state[REVIEW_APPROVAL] + tally.in_state[REVIEW_ESCALATED];
    if (app->options.json) {
        printf("{\"documents\":%llu", (unsigned long long)tally.total);
        review_print_count("settled", tally.ended);
        review_print_count("published", tally.in_state[REVIEW_PUBLISHED]);
        review_print_count("waiting", waiting);
        review_print_count("failed", tally.in_state[REVIEW_FAILED]);
        review_print_count("parked", tally.parked);
        review_print_count("damaged", tally.damaged);
        printf("}\n");
    } else {
        printf("%llu of %llu settled, %llu published", (unsigned long long)tally.ended, (unsigned long long)tally.total,
               (unsigned long long)tally.in_state[REVIEW_PUBLISHED]);
        if (waiting != 0)
            printf("; %llu wait%s for a person: review status, review show ID, review approve ID",
                   (unsigned long long)waiting, waiting == 1 ? "s" : "");
        if (tally.in_state[REVIEW_FAILED] != 0)
            printf("; %llu failed: review retry ID", (unsigned long long)tally.in_state[REVIEW_FAILED]);
        if (tally.parked != 0) printf("; %llu parked: review retry ID", (unsigned long long)tally.parked);
        if (tally.damaged != 0)
            printf("; %llu damaged: review status, pagentctl verify", (unsigned long long)tally.damaged);
        printf("\n");
    }
    if (tally.damaged != 0) return REVIEW_EXIT_STORAGE;
    return app->failed != 0 ? REVIEW_EXIT_REFUSED : REVIEW_EXIT_OK;
}

/* The model server, if one is wanted. */
static int review_open_model(review_app *app)
{
    const review_options *options = &app->options;
    if (options->model_url == NULL) return 0;
#ifdef REVIEW_WITH_OPENAI
    {
        pagent_openai_options how;
        char text[PAGENT_TEXT_SIZE];
        memset(&how, 0, sizeof how);
        how.size = sizeof how;
        how.url = options->model_url;
        how.model = options->model;
        how.key_env = options->key_env;
        how.concurrent_max = (uint32_t)options->jobs;
        how.host = &app->lent;
        if (pagent_openai_open(&app->host.openai, &how, text) == PAGENT_OK) return 0;
        return review_say_error(REVIEW_EXIT_USAGE, "--model-url: %s", text);
    }
#else
    return review_say_error(REVIEW_EXIT_USAGE,
                            "--model-url: this program was built without libcurl and cJSON. Install them "
                            "(Debian: libcurl4-openssl-dev libcjson-dev), build again, or leave the option out");
#endif
}

static int review_open_witness(review_app *app)
{
    const char *path = app->options.witness;
    if (path == NULL) return 0;
    app->host.witness = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (app->host.witness >= 0) return 0;
    return review_say_error(REVIEW_EXIT_STORAGE, "%s: %s", path, strerror(errno));
}

/* Opens as the owner. A verb that has the lock for a moment is waited for; an owner that stays is not. */
static int review_open_as_owner(review_app *app, char text[PAGENT_TEXT_SIZE])
{
    uint64_t until = review_clock(app) + 2000;
    for (;;) {
        int result = review_open(app, REVIEW_RUN, text);
        if (result != PAGENT_E_LOCKED || review_clock(app) >= until || review_stop) return result;
        review_sleep(20);
    }
}

static void review_close_model(review_app *app)
{
#ifdef REVIEW_WITH_OPENAI
    pagent_openai_close(app->host.openai);
    app->host.openai = NULL;
#endif
    if (app->host.witness >= 0) (void)close(app->host.witness);
    app->host.witness = -1;
}

/* The model and the witness are open. */
static int review_own(review_app *app)
{
    char text[PAGENT_TEXT_SIZE];
    int result = review_open_as_owner(app, text), code;
    if (result == PAGENT_E_LOCKED) {
        return review_say_error(REVIEW_EXIT_STORAGE, "another process already runs the documents of %s",
                                app->options.store);
    }
    if (result != PAGENT_OK) return review_say_storage(app, result, text);
    result = pagent_run(app->engine, review_wait, app);
    code = result < 0 ? review_say_storage(app, result, pagent_error_text(app->engine)) : review_sum_up(app);
    result = review_close(app);
    return result < 0 && code == 0 ? review_say_storage(app, result, "") : code;
}

static int review_run(review_app *app)
{
    int code = review_open_model(app);
    if (code == 0) code = review_open_witness(app);
    if (code == 0) {
        review_catch_signals();
        app->terminal = isatty(STDOUT_FILENO) && !app->options.json;
        code = review_own(app);
    }
    review_close_model(app);
    return code;
}

/* Documents that cannot be begun do not keep the others from being reviewed. */
static int review_start_and_run(review_app *app, int first)
{
    int code = review_start(app, first), ran;
    if (code != REVIEW_EXIT_OK && code != REVIEW_EXIT_REFUSED) return code;
    ran = review_run(app);
    return ran != REVIEW_EXIT_OK ? ran : code;
}

static int review_verb_run(review_app *app)
{
    return app->options.word_count > 1 ? review_start_and_run(app, 1) : review_run(app);
}

/* ---- status, show, history, diagram ---------------------------------------------------------------------------- */

static void review_print_status(review_app *app, const pagent_view *view, const pagent_info *info)
{
    const review_context *context = review_view_context(info);
    pagent_effect question;
    char span[32] = "";
    int asked = review_open_question(view, info, &question);
    if (app->options.json) {
        uint32_t size;
        pagent_bytes record = review_view_entry(view, info, REVIEW_ENTRY_DOCUMENT);
        const char *file = review_field((const char *)record.data, record.size, "file", &size);
        review_print_member(1, "id", info->name);
        review_print_member(0, "state", info->state);
        review_print_member(0, "status", review_status_name(info->status));
        review_print_count("version", info->version);
        review_print_count("risk", context->risk);
        review_print_member(0, "category", context->category);
        printf(",\"file\":");
        review_print_json(file, size);
        printf(",\"question\":%s", asked ? "true" : "false");
        if (asked && question.deadline_ms != PAGENT_FOREVER) review_print_count("deadline_ms", question.deadline_ms);
        printf("}\n");
        return;
    }
    printf("%-32s %-12s", info->name, info->state);
    if (context->category[0] != 0) printf(" %3u  %-14s", (unsigned)context->risk, context->category);
    else printf("   -  %-14s", "-");
    review_format_span(span, review_clock(app), info->time_ms);
    printf(" %s", span);
    if (asked || info->status == PAGENT_PARKED || info->status == PAGENT_FAILED_STATUS)
        printf("%*s", strlen(span) < 11 ? 11 - (int)strlen(span) : 0, "");
    if (asked) {
        review_format_span(span, review_clock(app), question.deadline_ms);
        printf(" asks a person%s%s", question.deadline_ms == PAGENT_FOREVER ? "" : ", expires ",
               question.deadline_ms == PAGENT_FOREVER ? "" : span);
    } else if (info->status == PAGENT_PARKED || info->status == PAGENT_FAILED_STATUS) {
        pagent_bytes note = review_view_entry(view, info, REVIEW_ENTRY_NOTE);
        printf(" ");
        if (info->error_text != NULL && info->error_text[0] != 0)
            review_print_text(info->error_text, strlen(info->error_text));
        else review_print_text((const char *)note.data, note.size);
    }
    printf("\n");
}

static int review_verb_status(review_app *app)
{
    pagent_summary summary;
    pagent_view *view;
    pagent_info info;
    uint64_t cursor = 0, count = 0;
    int i, code = review_open_reader(app), found = 0;
    if (code != 0) return code;
    if (!app->options.json)
        printf("%-32s %-12s %4s  %-14s %-11s %s\n", "DOCUMENT", "STATE", "RISK", "CATEGORY", "CHANGED", "NOTE");
    for (i = 1; i < app->options.word_count; i++) {
        char name[PAGENT_NAME_MAX + 1];
        found = review_find(app, app->options.words[i], name);
        if (found == 0 && (view = review_view(app, name, 0, &info)) != NULL) {
            review_print_status(app, view, &info);
            pagent_close_view(view);
        } else {
            code = REVIEW_EXIT_REFUSED;
        }
    }
    while (app->options.word_count == 1 && pagent_next_agent(app->engine, &cursor, &summary) == PAGENT_OK) {
        int result = pagent_open_view_stream(app->engine, summary.stream, 0, &view);
        count++;
        if (result == PAGENT_OK && pagent_view_info(view, &info) == PAGENT_OK) review_print_status(app, view, &info);
        else
            code = review_say_error(REVIEW_EXIT_STORAGE, "agent %016llx: %s", (unsigned long long)summary.stream,
                                    pagent_message(result));
        if (result == PAGENT_OK) pagent_close_view(view);
    }
    (void)review_close(app);
    return code;
}

static void review_show_json(const pagent_view *view, const pagent_info *info, const pagent_effect *question)
{
    const review_context *context = review_view_context(info);
    pagent_bytes analysis = review_view_entry(view, info, REVIEW_ENTRY_ANALYSIS);
    pagent_entry entry;
    uint32_t i, first = 1;
    review_print_member(1, "id", info->name);
    review_print_member(0, "state", info->state);
    review_print_member(0, "status", review_status_name(info->status));
    review_print_count("version", info->version);
    review_print_count("changed_version", info->changed_version);
    review_print_count("risk", context->risk);
    review_print_count("threshold", context->threshold);
    review_print_member(0, "category", context->category);
    review_print_member(0, "who", context->who);
    review_print_member(0, "error", info->error_text);
    printf(",\"question\":");
    if (question == NULL) printf("null");
    else {
        printf("{\"effect\":\"%llu.%u\"", (unsigned long long)question->id.version, (unsigned)question->id.index);
        if (question->deadline_ms != PAGENT_FOREVER) review_print_count("deadline_ms", question->deadline_ms);
        printf(",\"digest\":\"%016llx\",\"action\":", (unsigned long long)question->digest);
        review_print_json((const char *)question->payload.data, question->payload.size);
        printf("}");
    }
    printf(",\"analysis\":");
    review_print_json(analysis.size != 0 ? (const char *)analysis.data : NULL, analysis.size);
    printf(",\"notes\":[");
    for (i = 0; i < info->transcript_count; i++) {
        if (pagent_view_entry(view, i, &entry) != PAGENT_OK || entry.kind != REVIEW_ENTRY_NOTE) continue;
        if (!first) putchar(',');
        first = 0;
        review_print_json((const char *)entry.data.data, entry.data.size);
    }
    printf("]}\n");
}

/* The report as it would be, or was, published: the question's action, or what the model said. */
static void review_show_report(review_app *app, const pagent_view *view, const pagent_info *info,
                               const pagent_effect *question)
{
    pagent_bytes answer = review_view_entry(view, info, REVIEW_ENTRY_ANALYSIS);
    pagent_bytes edited = review_view_entry(view, info, REVIEW_ENTRY_SUMMARY);
    uint32_t size, i;
    if (question != NULL) {
        const char *body = review_body((const char *)question->payload.data, question->payload.size, &size);
        if (body != NULL) review_print_text(body, size);
        return;
    }
    if (answer.size == 0 || review_read_answer(answer.data, answer.size, &app->desk.analysis) != NULL) return;
    printf("Summary%s\n", edited.size != 0 ? " (rewritten by a person)" : "");
    if (edited.size != 0) review_print_text((const char *)edited.data, edited.size);
    else review_print_text(app->desk.analysis.summary, strlen(app->desk.analysis.summary));
    printf("\n\nWhat a person should look at\n");
    for (i = 0; i < app->desk.analysis.passage_count; i++) {
        const review_passage *passage = &app->desk.analysis.passages[i];
        printf("%3u  %s, line %u: ", (unsigned)passage->score, passage->kind, (unsigned)passage->line);
        review_print_text(passage->quote, strlen(passage->quote));
        printf("\n");
    }
}

static void review_show(review_app *app, const pagent_view *view, const pagent_info *info,
                        const pagent_effect *question)
{
    const review_context *context = review_view_context(info);
    pagent_entry entry;
    char time[32], span[32];
    uint32_t i;
    review_format_time(time, info->time_ms);
    printf("%s\n  state       %s (%s) since %s\n  version     %llu\n", info->name, info->state,
           review_status_name(info->status), time, (unsigned long long)info->version);
    if (context->category[0] != 0)
        printf("  risk        %u of 100 (a person decides from %u on)\n  category    %s\n", (unsigned)context->risk,
               (unsigned)context->threshold, context->category);
    if (info->parent_agent != NULL && info->parent_agent[0] != 0)
        printf("  forked from %s, version %llu\n", info->parent_agent, (unsigned long long)info->parent_version);
    if (info->error != 0) printf("  error       %s\n", info->error_text);
    for (i = 0; i < info->effect_count; i++) {
        pagent_effect effect;
        if (pagent_view_effect(view, i, &effect) != PAGENT_OK || effect.kind != PAGENT_EFFECT_CALL) continue;
        printf("  call        %s, attempt %u%s\n", effect.name, (unsigned)effect.attempt,
               effect.phase == PAGENT_PHASE_HELD     ? ", for the next 'review run'"
               : effect.phase == PAGENT_PHASE_PAUSED ? ", paused"
                                                     : "");
    }
    for (i = 0; i < info->transcript_count; i++) {
        if (pagent_view_entry(view, i, &entry) != PAGENT_OK || entry.kind != REVIEW_ENTRY_NOTE) continue;
        printf("  note        ");
        review_print_text((const char *)entry.data.data, entry.data.size);
        printf("\n");
    }
    if (question != NULL) {
        review_format_span(span, review_clock(app), question->deadline_ms);
        printf("  question    publish this report?%s%s: review approve|reject|edit %s\n",
               question->deadline_ms == PAGENT_FOREVER ? "" : " It expires ",
               question->deadline_ms == PAGENT_FOREVER ? "" : span, info->name);
    }
    printf("\n");
    review_show_report(app, view, info, question);
}

static int review_verb_show(review_app *app)
{
    char name[PAGENT_NAME_MAX + 1];
    pagent_effect question;
    pagent_view *view;
    pagent_info info;
    int code = review_open_reader(app), asked;
    if (code != 0) return code;
    code = review_find(app, app->options.words[1], name);
    view = code == 0 ? review_view(app, name, 0, &info) : NULL;
    if (view != NULL) {
        asked = review_open_question(view, &info, &question);
        if (app->options.json) review_show_json(view, &info, asked ? &question : NULL);
        else review_show(app, view, &info, asked ? &question : NULL);
        pagent_close_view(view);
    } else if (code == 0) {
        code = REVIEW_EXIT_STORAGE;
    }
    (void)review_close(app);
    return code;
}

static void review_print_block(review_app *app, const pagent_block_info *block)
{
    char time[32];
    if (app->options.json) {
        printf("{\"version\":%llu", (unsigned long long)block->version);
        review_print_count("epoch", block->epoch);
        review_print_count("time_ms", block->time_ms);
        review_print_member(0, "type", block->type);
        review_print_member(0, "event", block->event);
        review_print_member(0, "outcome", block->outcome);
        review_print_member(0, "from", block->from);
        review_print_member(0, "to", block->to);
        review_print_member(0, "who", block->who);
        review_print_count("bytes", block->block_size);
        review_print_count("effects_issued", block->effects_issued);
        review_print_count("effects_settled", block->effects_settled);
        printf("}\n");
        return;
    }
    review_format_time(time, block->time_ms);
    printf("%5llu  %s  %-9s", (unsigned long long)block->version, time, block->type);
    if (strcmp(block->type, "claim") == 0) {
        printf(" another process took over\n");
        return;
    }
    printf(" %-21s %s", block->event, block->outcome);
    if (block->to != NULL && (block->from == NULL || strcmp(block->from, block->to) != 0))
        printf("%*s", strlen(block->outcome) < 9 ? 9 - (int)strlen(block->outcome) : 0, "");
    if (block->from != NULL && block->to != NULL && strcmp(block->from, block->to) != 0)
        printf(" %s -> %s", block->from, block->to);
    if (block->who != NULL && block->who[0] != 0) printf("  (%s)", block->who);
    printf("\n");
}

static int review_verb_history(review_app *app)
{
    char name[PAGENT_NAME_MAX + 1];
    pagent_block_info block;
    pagent_view *view;
    pagent_info info;
    int code = review_open_reader(app), result;
    if (code != 0) return code;
    code = review_find(app, app->options.words[1], name);
    view = code == 0 ? review_view(app, name, PAGENT_OLDEST, &info) : NULL;
    if (view == NULL) {
        (void)review_close(app);
        return code != 0 ? code : REVIEW_EXIT_STORAGE;
    }
    if (!app->options.json)
        printf("%5s  %-19s  %-9s %-21s %-9s %s\n", "#", "TIME", "BLOCK", "EVENT", "OUTCOME", "STATE");
    do {
        if (pagent_view_block(view, &block) == PAGENT_OK) review_print_block(app, &block);
    } while ((result = pagent_view_next(view)) == PAGENT_OK);
    if (result != PAGENT_END) code = review_say_error(REVIEW_EXIT_STORAGE, "%s: %s", name, pagent_message(result));
    pagent_close_view(view);
    (void)review_close(app);
    return code;
}

static int review_verb_diagram(review_app *app)
{
    char name[PAGENT_NAME_MAX + 1];
    pagent_view *view;
    pagent_info info;
    int mark = -1, code = 0;
    if (app->options.word_count > 1) {
        if ((code = review_open_reader(app)) != 0) return code;
        code = review_find(app, app->options.words[1], name);
        view = code == 0 ? review_view(app, name, 0, &info) : NULL;
        for (mark = REVIEW_STATE_COUNT - 1;
             view != NULL && mark >= 0 && strcmp(review_states[mark].name, info.state) != 0;)
            mark--;
        if (view != NULL) pagent_close_view(view);
        (void)review_close(app);
        if (view == NULL) return code != 0 ? code : REVIEW_EXIT_STORAGE;
    }
    if (app->options.json) printf("{\"%s\":\"", app->options.dot ? "dot" : "mermaid");
    if (app->options.dot) (void)pagent_write_dot(&app->machine, mark, review_print_piece, &app->options.json);
    else (void)pagent_write_mermaid(&app->machine, mark, review_print_piece, &app->options.json);
    if (app->options.json) printf("\"}\n");
    return 0;
}

/* ---- approve, reject, edit, cancel, rollback, fork, retry -------------------------------------------------------- */

static int review_outcome(review_app *app, const char *name, const pagent_receipt *receipt)
{
    pagent_view *view;
    pagent_info info;
    if (app->options.json) {
        review_print_member(1, "id", name);
        review_print_member(0, "result", pagent_result_name(receipt->result));
        review_print_count("version", receipt->version);
        review_print_member(0, "text", receipt->text);
        printf("}\n");
    }
    if (receipt->result < 0) {
        const char *text = receipt->text[0] != 0 ? receipt->text : pagent_message(receipt->result);
        if (receipt->result != PAGENT_E_CONFLICT)
            return review_say_error(review_refusal_code(receipt->result), "%s: refused: %s", name, text);
        return review_say_error(REVIEW_EXIT_REFUSED,
                                "%s: refused: it has changed: version %llu now; look again with 'review show %s'", name,
                                (unsigned long long)receipt->version, name);
    }
    if (app->options.json || review_open_reader(app) != 0) return 0;
    view = review_view(app, name, 0, &info);
    if (view != NULL) {
        printf("%s: %s, version %llu%s\n", name, info.state, (unsigned long long)info.version,
               app->nobody_runs && (info.flags & PAGENT_HAS_WORK) != 0 ? "; 'review run' goes on with it" : "");
        pagent_close_view(view);
    }
    (void)review_close(app);
    return 0;
}

static int review_send(review_app *app, pagent_request *request, const char *name)
{
    pagent_receipt receipt;
    int code;
    memset(&receipt, 0, sizeof receipt);
    request->expected_version = app->options.expected_version;
    code = review_ask(app, request, &receipt, 1);
    return code != 0 ? code : review_outcome(app, name, &receipt);
}

/* Decides about exactly what the journal shows now: the question's id and the digest of its action go along. */
static int review_decide(review_app *app, uint32_t decision, const char *data, size_t size)
{
    char name[PAGENT_NAME_MAX + 1];
    pagent_request request;
    pagent_effect question;
    pagent_view *view;
    pagent_info info;
    int code = review_open_reader(app);
    if (code != 0) return code;
    code = review_find(app, app->options.words[1], name);
    review_request(&request, PAGENT_DECIDE, name);
    view = code == 0 ? review_view(app, name, 0, &info) : NULL;
    if (view != NULL) {
        if (review_open_question(view, &info, &question)) {
            request.effect = question.id;
            request.digest = question.digest;
        } else {
            code = review_say_error(REVIEW_EXIT_REFUSED, "%s: there is nothing to decide: it is %s", name, info.state);
        }
        pagent_close_view(view);
    } else if (code == 0) {
        code = REVIEW_EXIT_STORAGE;
    }
    (void)review_close(app);
    if (code != 0) return code;
    request.decision = decision;
    request.who = app->options.who;
    request.data.data = data;
    request.data.size = (uint32_t)size;
    return review_send(app, &request, name);
}

static int review_verb_approve(review_app *app)
{
    return review_decide(app, PAGENT_APPROVE, NULL, 0);
}

static int review_verb_reject(review_app *app)
{
    const char *reason = app->options.reason != NULL ? app->options.reason : "";
    return review_decide(app, PAGENT_REJECT, reason, strlen(reason));
}

static int review_verb_edit(review_app *app)
{
    static char raw[REVIEW_EDIT_MAX + 1], text[2 * REVIEW_EDIT_MAX + 2];
    const char *path = app->options.words[2];
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    size_t size;
    int failed;
    if (file == NULL) return review_say_error(REVIEW_EXIT_REFUSED, "%s: %s", path, strerror(errno));
    size = fread(raw, 1, sizeof raw, file);
    failed = ferror(file) ? errno : 0;
    if (file != stdin) (void)fclose(file);
    if (failed != 0) return review_say_error(REVIEW_EXIT_REFUSED, "%s: %s", path, strerror(failed));
    size = review_to_utf8(text, raw, size);
    while (size != 0 && review_is_space(text[size - 1])) size--;
    if (size == 0) return review_say_error(REVIEW_EXIT_REFUSED, "%s: empty: the new summary goes there", path);
    if (size > REVIEW_EDIT_MAX)
        return review_say_error(REVIEW_EXIT_REFUSED, "%s: longer than %d bytes", path, (int)REVIEW_EDIT_MAX);
    return review_decide(app, PAGENT_EDIT, text, size);
}

static int review_simple(review_app *app, uint32_t verb)
{
    char name[PAGENT_NAME_MAX + 1];
    pagent_request request;
    int code = review_look_up(app, app->options.words[1], name);
    if (code != 0) return code;
    review_request(&request, verb, name);
    return review_send(app, &request, name);
}

static int review_verb_cancel(review_app *app)
{
    return review_simple(app, PAGENT_CANCEL);
}

/* The newest version at which the agent had not failed; 0: none is kept. */
static uint64_t review_version_before_failure(review_app *app, const char *name)
{
    pagent_info info;
    pagent_view *view = review_view(app, name, PAGENT_OLDEST, &info);
    uint64_t version = 0;
    if (view == NULL) return 0;
    do {
        if (pagent_view_info(view, &info) == PAGENT_OK && info.status != PAGENT_FAILED_STATUS) version = info.version;
    } while (pagent_view_next(view) == PAGENT_OK);
    pagent_close_view(view);
    return version;
}

/* A parked review handles its event again. One that failed has ended: it returns to where it was before, which enters
   that state again and begins its call anew. */
static int review_verb_retry(review_app *app)
{
    char name[PAGENT_NAME_MAX + 1];
    pagent_request request;
    pagent_view *view;
    pagent_info info;
    int code = review_open_reader(app);
    if (code != 0) return code;
    code = review_find(app, app->options.words[1], name);
    view = code == 0 ? review_view(app, name, 0, &info) : NULL;
    if (code == 0 && view == NULL) code = REVIEW_EXIT_STORAGE;
    if (view != NULL) pagent_close_view(view);
    review_request(&request, PAGENT_RETRY, name);
    if (code == 0 && info.status == PAGENT_FAILED_STATUS) {
        request.verb = PAGENT_ROLLBACK;
        request.version = review_version_before_failure(app, name);
        if (app->options.expected_version == PAGENT_ANY) app->options.expected_version = info.changed_version;
        if (request.version == 0) code = review_say_error(REVIEW_EXIT_REFUSED, "%s: its history is not kept", name);
    }
    (void)review_close(app);
    return code != 0 ? code : review_send(app, &request, name);
}

static int review_parse_version(const char *word, uint64_t *version)
{
    if (review_parse_number(word, UINT64_C(1) << 53, version) && *version != 0) return 0;
    return review_say_error(REVIEW_EXIT_USAGE,
                            "'%s' is not a version: a whole number from 1 on; 'review history ID' lists them", word);
}

static int review_verb_rollback(review_app *app)
{
    char name[PAGENT_NAME_MAX + 1];
    pagent_request request;
    uint64_t version;
    int code = review_parse_version(app->options.words[2], &version);
    if (code == 0) code = review_look_up(app, app->options.words[1], name);
    if (code != 0) return code;
    review_request(&request, PAGENT_ROLLBACK, name);
    request.version = version;
    request.force = (uint32_t)app->options.force;
    return review_send(app, &request, name);
}

static int review_verb_fork(review_app *app)
{
    char name[PAGENT_NAME_MAX + 1], fork[PAGENT_NAME_MAX + 32];
    pagent_request request;
    uint64_t version;
    int code = review_parse_version(app->options.words[2], &version);
    if (code == 0) code = review_look_up(app, app->options.words[1], name);
    if (code != 0) return code;
    if (app->options.word_count > 3) (void)snprintf(fork, sizeof fork, "%.150s", app->options.words[3]);
    else (void)snprintf(fork, sizeof fork, "%s-fork%llu", name, (unsigned long long)version);
    if (strlen(fork) > PAGENT_NAME_MAX ||
        strspn(fork, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != strlen(fork) ||
        fork[0] == 0 || fork[0] == '.' || fork[0] == '-') {
        return review_say_error(REVIEW_EXIT_USAGE,
                                "'%s' is not a name for a fork: 1 to %u letters, digits, '-', '_' and '.'", fork,
                                PAGENT_NAME_MAX);
    }
    review_request(&request, PAGENT_FORK, name);
    request.version = version;
    request.target = fork;
    code = review_send(app, &request, fork);
    return code;
}

/* ---- audit ----------------------------------------------------------------------------------------------------- */

static int review_verb_audit(review_app *app)
{
    review_audit audit;
    pagent_summary summary;
    pagent_view *view;
    pagent_info info;
    uint64_t cursor = 0;
    int code = review_open_reader(app), result;
    if (code != 0) return code;
    memset(&audit, 0, sizeof audit);
    audit.out = app->options.out;
    audit.json = app->options.json;
    while (pagent_next_agent(app->engine, &cursor, &summary) == PAGENT_OK) {
        char name[PAGENT_NAME_MAX + 1];
        result = pagent_open_view_stream(app->engine, summary.stream, PAGENT_OLDEST, &view);
        if (result != PAGENT_OK) {
            review_fault_found(&audit, "a journal", 0, pagent_message(result));
            continue;
        }
        result = pagent_view_info(view, &info);
        if (result == PAGENT_OK) {
            review_copy_text(name, sizeof name, info.name, strlen(info.name));
            review_walk(&audit, name, view);
        } else {
            review_fault_found(&audit, "a journal", 0, pagent_message(result));
        }
        pagent_close_view(view);
    }
    (void)review_close(app);
    return review_finish_audit(&audit, &app->options);
}

/* ---- main ------------------------------------------------------------------------------------------------------ */

typedef struct review_verb {
    const char *name;
    int words_min; /* behind the verb */
    int words_max;
    int (*run)(review_app *app);
    const char *usage;
} review_verb;

static const review_verb review_verbs[] = {{"start", 1, REVIEW_WORDS_MAX, review_verb_start, "start FILE|DIR..."},
                                           {"run", 0, REVIEW_WORDS_MAX, review_verb_run, "run [--watch] [FILE|DIR...]"},
                                           {"status", 0, REVIEW_WORDS_MAX, review_verb_status, "status [ID...]"},
                                           {"show", 1, 1, review_verb_show, "show ID"},
                                           {"approve", 1, 1, review_verb_approve, "approve ID"},
                                           {"reject", 1, 1, review_verb_reject, "reject ID [--reason TEXT]"},
                                           {"edit", 2, 2, review_verb_edit, "edit ID FILE"},
                                           {"cancel", 1, 1, review_verb_cancel, "cancel ID"},
                                           {"history", 1, 1, review_verb_history, "history ID"},
                                           {"rollback", 2, 2, review_verb_rollback, "rollback ID VERSION [--force]"},
                                           {"fork", 2, 3, review_verb_fork, "fork ID VERSION [NEW-ID]"},
                                           {"retry", 1, 1, review_verb_retry, "retry ID"},
                                           {"diagram", 0, 1, review_verb_diagram, "diagram [--dot] [ID]"},
                                           {"audit", 0, 0, review_verb_audit, "audit [--witness FILE]"}};

static int review_dispatch(review_app *app)
{
    const review_options *options = &app->options;
    struct stat about;
    size_t i;
    for (i = 0; i < sizeof review_verbs / sizeof review_verbs[0]; i++) {
        const review_verb *verb = &review_verbs[i];
        if (strcmp(options->words[0], verb->name) != 0) continue;
        if (options->word_count - 1 < verb->words_min || options->word_count - 1 > verb->words_max) {
            return review_say_error(REVIEW_EXIT_USAGE, "usage: review %s", verb->usage);
        }
        return verb->run(app);
    }
    if (stat(options->words[0], &about) != 0) {
        return review_say_error(REVIEW_EXIT_USAGE, "'%s' is neither a verb nor a file; see 'review --help'",
                                options->words[0]);
    }
    return review_start_and_run(app, 0);
}

int main(int argc, char **argv)
{
    static review_app app; /* the desk is large */
    int code = review_parse_options(&app.options, argc, argv);
    if (code != 0) return code;
    if (app.options.help) {
        size_t i;
        for (i = 0; i < sizeof review_help / sizeof review_help[0]; i++) fputs(review_help[i], stdout);
        return 0;
    }
    if (app.options.version) {
        printf("review, with persistent_agent.h %s%s\n", PAGENT_VERSION,
#ifdef REVIEW_WITH_OPENAI
               ", with model servers"
#else
               ", without model servers (no libcurl or cJSON when it was built)"
#endif
        );
        return 0;
    }
    if (app.options.word_count == 0)
        return review_say_error(REVIEW_EXIT_USAGE, "what? 'review --help' says what it can do");
    pagent_posix_host(&app.lent);
    app.fault.kill_at = app.options.kill_at;
    app.fault.seed = app.options.seed;
    review_host_init(&app.host, &app.lent, &app.fault);
    app.host.program = &app;
    app.host.jobs_max = (uint32_t)app.options.jobs;
    app.host.out = app.options.out;
    app.host.no_dir_sync = app.options.no_dir_sync;
    review_machine(&app.machine, &app.desk);
    code = review_dispatch(&app);
    fflush(stdout);
    return code;
}
