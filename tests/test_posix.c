/* test_posix.c: what only a real directory shows: other kinds of files in the place of ours, who may read what, fork
   and locks, which directories are synced, and a process that is killed at each of its calls. The simulated disk of
   test_store.c has none of these. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int counted_fsync(int descriptor);
#define fsync counted_fsync
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"
#undef fsync

#include "test.h"

#include <ftw.h>

/* ---- a directory, a store in it, and what it says ---------------------------------------------------------------- */

static struct {
    char path[64]; /* a new directory: the store is in path/store */
    char place[96];
    pagent_dir dir;
    pagent_host host;
    pagent_file_options options;
    pagent_files *files;
    pagent_store store;
    uint32_t reports;
    uint64_t bytes; /* of the last report */
    char said[PAGENT_TEXT_SIZE];
    char text[PAGENT_TEXT_SIZE];
} w;

static struct {
    ino_t of[64]; /* directories, in the order in which they were synced */
    uint32_t count;
} syncs;

static int counted_fsync(int descriptor)
{
    struct stat found;
    if (syncs.count < 64 && fstat(descriptor, &found) == 0) syncs.of[syncs.count++] = found.st_ino;
    return fsync(descriptor);
}

static uint32_t syncs_of(const char *path)
{
    struct stat found;
    uint32_t i, count = 0;
    if (!CHECK(stat(path, &found) == 0)) return 0;
    for (i = 0; i < syncs.count; i++) count += syncs.of[i] == found.st_ino;
    return count;
}

static void on_discard(void *ctx, const pagent_damage_report *report)
{
    (void)ctx;
    w.reports++;
    w.bytes = report->bytes.size;
    snprintf(w.said, sizeof w.said, "%s", report->text);
}

static const char *in_store(const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", w.place, name);
    return path;
}

static void begin(void)
{
    memset(&w, 0, sizeof w);
    memset(&syncs, 0, sizeof syncs);
    snprintf(w.path, sizeof w.path, "%s/pagent-test-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(w.path) == NULL) abort();
    snprintf(w.place, sizeof w.place, "%s/store", w.path);
    pagent_posix_host(&w.host);
    w.options.size = (uint32_t)sizeof w.options;
    w.options.on_discard = on_discard;
}

static int open_store(void)
{
    int result = pagent_open_posix(&w.dir, w.place, !w.options.read_only, w.text);
    if (result != PAGENT_OK) return result;
    w.text[0] = 0;
    result = pagent_open_files(&w.files, &w.dir, &w.host, &w.options, w.text);
    if (result == PAGENT_OK) w.store = pagent_files_store(w.files);
    else pagent_close_posix(&w.dir);
    return result;
}

static int close_store(void)
{
    int result = pagent_close_files(w.files);
    pagent_close_posix(&w.dir);
    return result;
}

static int remove_one(const char *path, const struct stat *found, int kind, struct FTW *at)
{
    (void)found;
    (void)kind;
    (void)at;
    return remove(path);
}

static void end(void)
{
    CHECK(nftw(w.path, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

/* ---- other kinds of files ---------------------------------------------------------------------------------------- */

/* A pipe is refused, where it once made the reader wait for a writer that never comes. */
TEST(pipe_for_segment)
{
    begin();
    CHECK_EQ(open_store(), PAGENT_OK);
    CHECK_EQ(close_store(), PAGENT_OK);
    CHECK(mkfifo(in_store("log.00000002"), 0666) == 0);
    alarm(120);
    for (w.options.read_only = 0; w.options.read_only < 2; w.options.read_only++) {
        CHECK_EQ(open_store(), PAGENT_E_STORAGE);
        CHECK(strstr(w.text, "log.00000002") != NULL);
    }
    alarm(0);
    end();
}

static int send_note(const char *agent, const char *id)
{
    pagent_request message;
    memset(&message, 0, sizeof message);
    message.size = (uint32_t)sizeof message;
    message.verb = PAGENT_POST;
    message.agent = agent;
    message.event = "note";
    message.id = id;
    return pagent_send_message(&w.dir, &w.host, &message);
}

/* Collects from the beginning; the number of messages that come. */
static uint32_t collect_all(void)
{
    uint8_t bytes[512];
    pagent_collect request;
    pagent_io io;
    uint32_t count = 0;
    memset(&request, 0, sizeof request);
    request.buffer = bytes;
    request.capacity = (uint32_t)sizeof bytes;
    do {
        memset(&io, 0, sizeof io);
        if (!CHECK_EQ(w.store.collect(w.store.ctx, &request, &io), PAGENT_OK)) break;
        count += io.size != 0;
        request.cursor = io.cursor;
    } while (io.cursor != 0);
    return count;
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) abort();
}

/* What stands in the inbox and is no readable message, or cannot be answered, is told of once; the others come. */
TEST(bad_letters_skipped)
{
    begin();
    CHECK_EQ(open_store(), PAGENT_OK);
    CHECK_EQ(send_note("agent", "one"), PAGENT_OK);
    CHECK_EQ(send_note("agent", "two"), PAGENT_OK);
    alarm(120);
    CHECK(mkdir(in_store("inbox/m-0000000000000001"), 0777) == 0);
    CHECK(mkfifo(in_store("inbox/m-0000000000000002"), 0666) == 0);
    write_text(in_store("inbox/m-0000000000000003"), "damaged");
    CHECK(mkdir(in_store("inbox/r-0000000000000003"), 0777) == 0);
    CHECK_EQ(collect_all(), 2);
    CHECK_EQ(w.reports, 3);
    CHECK(strstr(w.said, "skipped") != NULL);
    CHECK_EQ(collect_all(), 2);
    CHECK_EQ(w.reports, 3);
    CHECK(rmdir(in_store("inbox/r-0000000000000003")) == 0); /* now it can be refused */
    CHECK_EQ(collect_all(), 2);
    CHECK_EQ(w.reports, 4);
    CHECK_EQ(w.bytes, 7);
    alarm(0);
    CHECK_EQ(close_store(), PAGENT_OK);
    end();
}

/* A message that the owner may not read. */
TEST(unreadable_letter_skipped)
{
    if (geteuid() == 0) SKIP("root may read everything");
    begin();
    CHECK_EQ(open_store(), PAGENT_OK);
    CHECK_EQ(send_note("agent", "one"), PAGENT_OK);
    write_text(in_store("inbox/m-0000000000000001"), "secret");
    CHECK(chmod(in_store("inbox/m-0000000000000001"), 0) == 0);
    CHECK_EQ(collect_all(), 1);
    CHECK_EQ(w.reports, 1);
    CHECK_EQ(close_store(), PAGENT_OK);
    end();
}

/* Whoever made a directory died before it was durable: the next opening makes it so; a later one need not. */
TEST(path_made_durable)
{
    begin();
    CHECK(mkdir(w.place, 0777) == 0);
    CHECK_EQ(open_store(), PAGENT_OK);
    CHECK(syncs_of(w.path) != 0);
    CHECK_EQ(close_store(), PAGENT_OK);
    syncs.count = 0;
    CHECK_EQ(open_store(), PAGENT_OK);
    CHECK_EQ(syncs_of(w.path), 0);
    CHECK_EQ(close_store(), PAGENT_OK);
    end();
}

/* What cannot be a store's directory is named, with the system's reason. */
TEST(opening_says_why)
{
    char wanted[sizeof w.path + 64], text[PAGENT_TEXT_SIZE] = "";
    char file[sizeof w.path + 16];
    pagent_dir dir;
    FILE *made;
    begin();
    snprintf(file, sizeof file, "%s/file", w.path);
    made = fopen(file, "w");
    if (CHECK(made != NULL)) fclose(made);
    CHECK_EQ(pagent_open_posix(&dir, file, PAGENT_POSIX_CREATE, text), PAGENT_E_NOT_FOUND);
    snprintf(wanted, sizeof wanted, "%s: %s", strerror(ENOTDIR), file);
    CHECK_TEXT(text, wanted);
    CHECK_EQ(pagent_open_posix(&dir, w.place, 0, text), PAGENT_E_NOT_FOUND);
    snprintf(wanted, sizeof wanted, "%s: %s", strerror(ENOENT), w.place);
    CHECK_TEXT(text, wanted);
    CHECK_EQ(pagent_open_posix(&dir, "", PAGENT_POSIX_CREATE, text), PAGENT_E_ARGUMENT);
    CHECK_TEXT(text, "an argument is wrong: dir, path");
    CHECK_EQ(pagent_open_posix(&dir, w.place, 0, NULL), PAGENT_E_NOT_FOUND);
    end();
}

/* Nor does it sync a directory when it is told that the host cannot. */
TEST(no_dir_sync)
{
    pagent_dir dir;
    begin();
    syncs.count = 0;
    CHECK_EQ(pagent_open_posix(&dir, w.place, PAGENT_POSIX_CREATE | PAGENT_POSIX_NO_DIR_SYNC, NULL), PAGENT_OK);
    CHECK_EQ(dir.sync_dir(dir.ctx, ""), PAGENT_OK);
    CHECK_EQ(syncs.count, 0);
    pagent_close_posix(&dir);
    end();
}

/* An inbox that was removed and made again is the one that is synced. */
TEST(inbox_made_again)
{
    begin();
    CHECK_EQ(open_store(), PAGENT_OK);
    CHECK(rmdir(in_store("inbox")) == 0);
    CHECK_EQ(send_note("agent", "one"), PAGENT_E_NOT_FOUND);
    CHECK(mkdir(in_store("inbox"), 0777) == 0);
    syncs.count = 0;
    CHECK_EQ(send_note("agent", "one"), PAGENT_OK);
    CHECK_EQ(syncs_of(in_store("inbox")), 1);
    CHECK_EQ(close_store(), PAGENT_OK);
    end();
}

/* ---- fork -------------------------------------------------------------------------------------------------------- */

/* A child has the lock's file open, too. The parent's lock ends when the parent closes, all the same. */
TEST(fork_and_lock)
{
    pagent_files *second = NULL;
    pid_t child;
    int status = 0, pipes[2];
    begin();
    CHECK_EQ(open_store(), PAGENT_OK);
    if (pipe(pipes) != 0 || (child = fork()) < 0) abort();
    if (child == 0) { /* it writes nothing, lives until the parent has opened again, and frees nothing then */
        char byte;
        int fenced = pai_posix_create_temp(w.dir.ctx, "tmp-child") == PAGENT_E_FENCED;
        close(pipes[1]);
        fenced &= read(pipes[0], &byte, 1) == 1 && w.dir.unlock(w.dir.ctx) == PAGENT_OK;
        _exit(!fenced);
    }
    CHECK_EQ(pagent_open_files(&second, &w.dir, &w.host, &w.options, w.text), PAGENT_E_LOCKED);
    CHECK_EQ(close_store(), PAGENT_OK);
    CHECK_EQ(open_store(), PAGENT_OK);
    CHECK(write(pipes[1], "", 1) == 1);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ(pagent_open_files(&second, &w.dir, &w.host, &w.options, w.text), PAGENT_E_LOCKED);
    close(pipes[0]);
    close(pipes[1]);
    CHECK_EQ(close_store(), PAGENT_OK);
    end();
}

/* ---- SIGKILL ----------------------------------------------------------------------------------------------------- */

/* The real directory, with a count of the calls that change it: killed before the n-th. */
static struct {
    pagent_dir dir;
    uint64_t count, at; /* UINT64_MAX: never */
    uint64_t now;
} real;

static void tick(void)
{
    if (real.count++ == real.at) (void)raise(SIGKILL);
}

#define KILLED(type, name, parameters, call)                                                                           \
    static type killed_##name parameters                                                                               \
    {                                                                                                                  \
        (void)ctx;                                                                                                     \
        tick();                                                                                                        \
        return real.dir.call;                                                                                          \
    }
KILLED(int64_t, pwrite, (void *ctx, int file, const void *from, uint32_t size, uint64_t at),
       dev.pwrite(real.dir.dev.ctx, file, from, size, at))
KILLED(int, sync, (void *ctx, int file), dev.sync(real.dir.dev.ctx, file))
KILLED(int, truncate, (void *ctx, int file, uint64_t size), dev.truncate(real.dir.dev.ctx, file, size))
KILLED(int, open, (void *ctx, const char *name, uint32_t flags), open(real.dir.ctx, name, flags))
KILLED(int, create_temp, (void *ctx, const char *name), create_temp(real.dir.ctx, name))
KILLED(int, publish, (void *ctx, int file, const char *name, int exclusive),
       publish(real.dir.ctx, file, name, exclusive))
KILLED(int, remove, (void *ctx, const char *name), remove(real.dir.ctx, name))
KILLED(int, sync_dir, (void *ctx, const char *folder), sync_dir(real.dir.ctx, folder))
KILLED(int, lock, (void *ctx), lock(real.dir.ctx))
KILLED(int, unlock, (void *ctx), unlock(real.dir.ctx))

static uint64_t hasty_clock(void *ctx)
{
    (void)ctx;
    return real.now += 20; /* nobody waits for the next look into the inbox */
}

/* An agent that counts its notes in its transcript, and always has a question open. */
static int take_note(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx, (void)tag;
    return pagent_remember(step, 'n', "a note of some length, so that old blocks are worth being trimmed away", 70);
}

static int ask_about_it(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx, (void)tag;
    return pagent_ask_approval(step, "shut", "?", 1, PAGENT_FOREVER, NULL);
}

static const pagent_state jar_states[] = {{"open", NULL, "shut", ask_about_it, NULL, NULL, 0, 0},
                                          {"closed", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0}};
static const pagent_transition jar_transitions[] = {{"open", "note", NULL, take_note, NULL, 0},
                                                    {"open", "shut.approved", NULL, NULL, "closed", 0},
                                                    {"open", "shut.rejected", NULL, NULL, "closed", 0},
                                                    {"open", "shut.expired", NULL, NULL, "closed", 0}};
static const pagent_machine jar = {sizeof jar,
                                   1,
                                   "jar",
                                   NULL,
                                   0,
                                   "note",
                                   NULL,
                                   "shut",
                                   NULL,
                                   0,
                                   PAGENT_ROWS(jar_states),
                                   PAGENT_ROWS(jar_transitions)};

static struct {
    pagent_engine *engine;
    int noted;    /* an earlier life has posted all notes: also after a rollback they are known */
    int progress; /* a pipe: a letter for each deed that was acknowledged; -1: none */
    uint8_t blocks[1 << 16];
} jars;

static int open_jars(void)
{
    static const pagent_machine *const machines[] = {&jar};
    pagent_config config;
    pagent_dir dir;
    int result = pagent_open_posix(&real.dir, w.place, 1, NULL);
    if (result != PAGENT_OK) return result;
    dir = w.dir = real.dir;
    dir.dev.pwrite = killed_pwrite;
    dir.dev.sync = killed_sync;
    dir.dev.truncate = killed_truncate;
    dir.open = killed_open;
    dir.create_temp = killed_create_temp;
    dir.publish = killed_publish;
    dir.remove = killed_remove;
    dir.sync_dir = killed_sync_dir;
    dir.lock = killed_lock;
    dir.unlock = killed_unlock;
    w.dir = dir;
    w.options.segment_size = 2048;
    memset(&config, 0, sizeof config);
    config.size = (uint32_t)sizeof config;
    config.host = w.host;
    config.limits.size = (uint32_t)sizeof config.limits;
    config.limits.full_snapshots = 1;
    config.limits.snapshot_floor = 300;
    config.limits.snapshot_factor = 1;
    config.machines = machines;
    config.machine_count = 1;
    result = pagent_open_files(&w.files, &w.dir, &w.host, &w.options, w.text);
    if (result != PAGENT_OK) return result;
    config.store = pagent_files_store(w.files);
    return pagent_open_engine(&jars.engine, &config, w.text);
}

static int close_jars(void)
{
    int result = pagent_close_engine(jars.engine), closed = pagent_close_files(w.files);
    pagent_close_posix(&real.dir);
    return result != PAGENT_OK ? result : closed;
}

static uint32_t notes_of(const char *agent, pagent_info *info)
{
    pagent_view *view = NULL;
    pagent_info other;
    if (info == NULL) info = &other;
    memset(info, 0, sizeof *info);
    if (pagent_open_view(jars.engine, agent, 0, &view) == PAGENT_OK) (void)pagent_view_info(view, info);
    pagent_close_view(view);
    return info->transcript_count;
}

/* The first version at which it had taken so many notes. */
static uint64_t version_with(const char *agent, uint32_t notes)
{
    pagent_view *view = NULL;
    pagent_info info;
    uint64_t version = 0;
    if (pagent_open_view(jars.engine, agent, PAGENT_OLDEST, &view) == PAGENT_OK) {
        do {
            if (pagent_view_info(view, &info) == PAGENT_OK && info.transcript_count == notes) version = info.version;
        } while (version == 0 && pagent_view_next(view) == PAGENT_OK);
    }
    pagent_close_view(view);
    return version;
}

static int ask_jar(uint32_t verb, const char *agent, const char *id, uint64_t version, uint64_t expected)
{
    pagent_request what;
    pagent_receipt receipt;
    uint32_t tries;
    memset(&what, 0, sizeof what);
    memset(&receipt, 0, sizeof receipt);
    what.size = (uint32_t)sizeof what;
    what.verb = verb;
    what.agent = agent;
    what.event = verb == PAGENT_CREATE ? "jar" : "note";
    what.target = "b";
    what.id = id;
    what.version = version;
    what.expected_version = expected;
    receipt.result = PAGENT_PENDING;
    if (!CHECK_EQ(pagent_submit(jars.engine, &what, &receipt), PAGENT_OK)) return PAGENT_E_ARGUMENT;
    for (tries = 0; tries < 1000 && (pagent_poll(jars.engine) == PAGENT_OK || receipt.result == PAGENT_PENDING);
         tries++) {
    }
    return receipt.result;
}

static void acknowledge(char letter)
{
    if (jars.progress >= 0 && write(jars.progress, &letter, 1) != 1) abort();
}

/* Every deed that changes a store. Each may have been done before: a life that was killed is lived again. */
static void live_jars(void)
{
    pagent_receipt receipt;
    pagent_info info;
    pagent_view *view = NULL;
    pagent_bytes block;
    size_t size = 0;
    uint32_t i;
    char id[16];
    int result = open_jars();
    if (result != PAGENT_OK) {
        FAIL("opening: %s (%s)", pagent_result_name(result), w.text);
        return;
    }
    result = ask_jar(PAGENT_CREATE, "a", NULL, 0, PAGENT_ANY);
    CHECK(result == PAGENT_OK || result == PAGENT_E_EXISTS);
    acknowledge('c');
    for (i = 0; i < 12; i++) {
        snprintf(id, sizeof id, "note-%u", (unsigned)i);
        result = ask_jar(PAGENT_POST, "a", id, 0, PAGENT_ANY);
        CHECK(result == PAGENT_DUPLICATE || (result == PAGENT_OK && !jars.noted));
    }
    acknowledge('n');
    if (notes_of("b", &info) == 0 && info.version == 0) {
        CHECK_EQ(ask_jar(PAGENT_FORK, "a", NULL, version_with("a", 4), PAGENT_ANY), PAGENT_OK);
    }
    acknowledge('f');
    if (notes_of("a", &info) == 12) {
        CHECK_EQ(ask_jar(PAGENT_ROLLBACK, "a", NULL, version_with("a", 8), info.changed_version), PAGENT_OK);
    }
    acknowledge('r');
    memset(&receipt, 0, sizeof receipt);
    receipt.result = PAGENT_PENDING;
    CHECK_EQ(pagent_trim_store(jars.engine, &receipt), PAGENT_OK);
    for (i = 0; i < 1000 && (pagent_poll(jars.engine) == PAGENT_OK || receipt.result == PAGENT_PENDING); i++) {
    }
    CHECK_EQ(receipt.result, PAGENT_OK);
    acknowledge('t');
    CHECK_EQ(send_note("b", "letter"), PAGENT_OK);
    acknowledge('s');
    memset(&receipt, 0, sizeof receipt);
    for (i = 0; i < 1000 && (result = pagent_read_receipt(&w.dir, "letter", &receipt)) == PAGENT_PENDING; i++) {
        CHECK(pagent_poll(jars.engine) >= 0);
    }
    CHECK_EQ(result, PAGENT_OK);
    CHECK(receipt.result == PAGENT_OK || receipt.result == PAGENT_DUPLICATE);
    acknowledge('l');
    result = ask_jar(PAGENT_MOVE_OUT, "b", NULL, 0, PAGENT_ANY);
    CHECK(result == PAGENT_OK || result == PAGENT_E_FINISHED);
    CHECK_EQ(pagent_open_view(jars.engine, "b", PAGENT_OLDEST, &view), PAGENT_OK);
    do {
        if (!CHECK_EQ(pagent_view_raw(view, &block), PAGENT_OK) || size + block.size > sizeof jars.blocks) break;
        memcpy(jars.blocks + size, block.data, block.size);
        size += block.size;
    } while (pagent_view_next(view) == PAGENT_OK);
    pagent_close_view(view);
    result = pagent_import_blocks(jars.engine, jars.blocks, size, "c");
    CHECK(result == PAGENT_OK || result == PAGENT_E_EXISTS);
    acknowledge('i');
    CHECK_EQ(ask_jar(PAGENT_MOVE_IN, "b", NULL, 0, PAGENT_ANY), PAGENT_OK);
    acknowledge('m');
    real.now += 5000; /* idle: the log is sealed */
    while (pagent_poll(jars.engine) == PAGENT_OK) {
    }
    CHECK_EQ(close_jars(), PAGENT_OK);
}

/* What was acknowledged is there; then all of it is done, to the end. */
static void check_jars(const char *seen)
{
    uint32_t torn = 0, notes;
    pagent_info info;
    real.at = UINT64_MAX;
    CHECK_EQ(pagent_open_posix(&w.dir, w.place, 1, NULL), PAGENT_OK);
    CHECK_EQ(pagent_verify_files(&w.dir, &w.host, NULL, NULL, &torn), PAGENT_OK);
    pagent_close_posix(&w.dir);
    if (!CHECK_EQ(open_jars(), PAGENT_OK)) return;
    notes = notes_of("a", &info);
    if (strchr(seen, 'c') != NULL) CHECK(info.version != 0);
    if (strchr(seen, 'n') != NULL) CHECK(notes == 12 || notes == 8);
    if (strchr(seen, 'r') != NULL) CHECK_EQ(notes, 8);
    notes = notes_of("b", &info);
    if (strchr(seen, 'f') != NULL) CHECK(info.parent_version != 0 && notes >= 4);
    if (strchr(seen, 'l') != NULL) CHECK_EQ(notes, 5);
    if (strchr(seen, 'm') != NULL) CHECK(info.status != PAGENT_MOVED);
    notes = notes_of("c", &info);
    if (strchr(seen, 'i') != NULL) CHECK_EQ(notes, 5);
    CHECK_EQ(close_jars(), PAGENT_OK);
    jars.noted = strchr(seen, 'n') != NULL;
    live_jars();
    jars.noted = 0;
    if (!CHECK_EQ(open_jars(), PAGENT_OK)) return;
    CHECK_EQ(notes_of("a", NULL), 8);
    CHECK_EQ(notes_of("b", NULL), 5);
    CHECK_EQ(notes_of("c", NULL), 5);
    CHECK_EQ(close_jars(), PAGENT_OK);
}

/* SIGKILL before each call that changes the directory: creating, posting, forking, rolling back, trimming, the inbox,
   moving, importing, sealing. */
TEST(killed_at_each_call)
{
    uint64_t at;
    uint32_t mode;
    for (mode = 0; mode < 2; mode++) {
        for (at = 0;; at++) {
            char seen[64];
            int pipes[2], status = 0;
            ssize_t got, size = 0;
            pid_t child;
            if (!test_sweep(at * 2 + mode)) {
                if (at > 4000) break;
                continue;
            }
            begin();
            w.host.clock_ms = hasty_clock;
            w.options.log_per_agent = mode;
            real.now = UINT64_C(1800000000000);
            real.count = 0;
            real.at = at;
            if (pipe(pipes) != 0) abort();
            (void)fflush(stdout);
            child = fork();
            if (child < 0) abort();
            if (child == 0) {
                uint32_t failures = test.failures;
                close(pipes[0]);
                jars.progress = pipes[1];
                live_jars();
                (void)fflush(stdout);
                _exit(test.failures != failures);
            }
            close(pipes[1]);
            jars.progress = -1;
            while ((got = read(pipes[0], seen + size, sizeof seen - 1 - (size_t)size)) > 0) size += got;
            seen[size] = 0;
            close(pipes[0]);
            CHECK(waitpid(child, &status, 0) == child);
            if (!WIFSIGNALED(status)) { /* it came to its end: there is no such call */
                CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
                CHECK_TEXT(seen, "cnfrtslim");
                end();
                break;
            }
            CHECK_EQ(WTERMSIG(status), SIGKILL);
            check_jars(seen);
            end();
        }
    }
}

/* Directory, files and engine by one opening, and by one closing. */
TEST(all_in_one)
{
    static const pagent_machine *const machines[] = {&jar};
    pagent_config config;
    pagent_engine *engine = NULL, *second = NULL;
    pagent_machine stuck = jar;
    const pagent_machine *wrong[] = {&stuck};
    pagent_summary summary;
    char text[PAGENT_TEXT_SIZE];
    uint64_t cursor = 0;
    uint32_t i;
    begin();
    memset(&config, 0, sizeof config);
    config.machines = machines;
    config.machine_count = 1;
    CHECK_EQ(pagent_open_path(&engine, w.place, &config, text), PAGENT_E_ARGUMENT);
    CHECK_TEXT(text, "config.size is not sizeof(pagent_config)");
    CHECK_EQ(pagent_open_path(&engine, w.place, NULL, NULL), PAGENT_E_ARGUMENT);
    config.size = sizeof config;
    config.read_only = 1;
    CHECK_EQ(pagent_open_path(&engine, w.place, &config, text), PAGENT_E_NOT_FOUND);
    CHECK(strstr(text, w.place) != NULL);
    CHECK(access(w.place, F_OK) != 0);
    config.read_only = 0;
    CHECK_EQ(pagent_open_path(&engine, w.place, &config, text), PAGENT_OK);
    CHECK_EQ(pagent_create(engine, "x", "jar", NULL, 0, NULL), PAGENT_OK);
    for (i = 0; i < 10; i++) (void)pagent_poll(engine);
    CHECK_EQ(pagent_open_path(&second, w.place, &config, text), PAGENT_E_LOCKED);
    CHECK(strncmp(text, "this store is open for writing elsewhere", 40) == 0);
    CHECK(second == NULL);
    CHECK_EQ(pagent_close_engine(engine), PAGENT_OK);
    stuck.transition_count = 0;
    config.machines = wrong;
    CHECK_EQ(pagent_open_path(&engine, w.place, &config, text), PAGENT_E_MACHINE);
    CHECK(engine == NULL);
    config.machines = machines;
    for (i = 0; i < 2; i++) { /* nobody holds the lock; and once without it */
        config.read_only = i;
        if (!CHECK_EQ(pagent_open_path(&engine, w.place, &config, text), PAGENT_OK)) break;
        cursor = 0;
        CHECK_EQ(pagent_next_agent(engine, &cursor, &summary), PAGENT_OK);
        CHECK(summary.stream == pagent_stream_of("x"));
        CHECK_EQ(pagent_close_engine(engine), PAGENT_OK);
    }
    end();
}

TEST_MAIN(ROW(pipe_for_segment), ROW(bad_letters_skipped), ROW(unreadable_letter_skipped), ROW(path_made_durable),
          ROW(opening_says_why), ROW(all_in_one), ROW(no_dir_sync), ROW(inbox_made_again), ROW(fork_and_lock),
          ROW(killed_at_each_call))
