/* test_posix.c: what only a real directory shows: other kinds of files in the place of ours, who may read what, fork
   and locks, and which directories are synced. The simulated disk of test_store.c has none of these. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
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
    int result = pagent_open_posix(&w.dir, w.place, !w.options.read_only);
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
    alarm(10);
    for (w.options.read_only = 0; w.options.read_only < 2; w.options.read_only++) {
        CHECK_EQ(open_store(), PAGENT_E_STORAGE);
        CHECK(strstr(w.text, "log.00000002") != NULL);
    }
    alarm(0);
    end();
}

static int send_note(const char *id)
{
    pagent_request message;
    memset(&message, 0, sizeof message);
    message.size = (uint32_t)sizeof message;
    message.verb = PAGENT_POST;
    message.agent = "agent";
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
    CHECK_EQ(send_note("one"), PAGENT_OK);
    CHECK_EQ(send_note("two"), PAGENT_OK);
    alarm(10);
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
    CHECK_EQ(send_note("one"), PAGENT_OK);
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

/* Nor does it sync a directory when it is told that the host cannot. */
TEST(no_dir_sync)
{
    pagent_dir dir;
    begin();
    syncs.count = 0;
    CHECK_EQ(pagent_open_posix(&dir, w.place, PAGENT_POSIX_CREATE | PAGENT_POSIX_NO_DIR_SYNC), PAGENT_OK);
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
    CHECK_EQ(send_note("one"), PAGENT_E_NOT_FOUND);
    CHECK(mkdir(in_store("inbox"), 0777) == 0);
    syncs.count = 0;
    CHECK_EQ(send_note("one"), PAGENT_OK);
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

TEST_MAIN(ROW(pipe_for_segment), ROW(bad_letters_skipped), ROW(unreadable_letter_skipped), ROW(path_made_durable),
          ROW(no_dir_sync), ROW(inbox_made_again), ROW(fork_and_lock))
