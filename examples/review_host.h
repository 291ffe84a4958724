/* review_host.h - what the review program lends to the engine on a POSIX system: model calls worked off in small
   slices, the tool that publishes a report once, and a directory whose every call can be made the program's last
   (--kill-at).

   Include persistent_agent.h and review_machine.h first. */

#ifndef REVIEW_HOST_H
#define REVIEW_HOST_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef REVIEW_WITH_OPENAI
#define PAGENT_OPENAI_STATIC
#define PAGENT_OPENAI_IMPLEMENTATION
#include "adapters/pagent_openai.h"
#endif

#define REVIEW_BUILT_IN "built-in reader"

enum {
    REVIEW_SLICE = 40,
    REVIEW_PATH_SIZE = 4096
};

/* ---- What WASI lacks: signals, and paths that are the same from everywhere --------------------------------------- */

#if defined(__wasi__)

enum {
    review_stop = 0
};

static void review_catch_signals(void)
{
}

static void review_kill_oneself(void)
{
    _Exit(128 + 9);
}

static char *review_real_path(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 ? strdup(path) : NULL;
}

/* wasmtime and Deno open directories that they cannot sync. */
static const char *review_why_storage(const char *folder)
{
    int file = open(folder, O_RDONLY | O_DIRECTORY), done;
    if (file < 0) return "";
    done = fsync(file);
    (void)close(file);
    return done == 0 ? "" : "this host cannot sync a folder, see --no-dir-sync";
}

#else

#include <signal.h>

static volatile sig_atomic_t review_stop; /* a signal asked for a clean end */

static void review_on_signal(int number)
{
    (void)number;
    review_stop = 1;
}

static void review_catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = review_on_signal;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

static void review_kill_oneself(void)
{
    (void)kill(getpid(), SIGKILL);
    for (;;) (void)pause();
}

static char *review_real_path(const char *path)
{
    return realpath(path, NULL);
}

static const char *review_why_storage(const char *folder)
{
    (void)folder;
    return "";
}

#endif

/* ---- Being killed ---------------------------------------------------------------------------------------------- */

typedef struct review_fault { /* counts what is asked of the host and changes something outside */
    pagent_dir inner;
    uint64_t count;
    uint64_t kill_at; /* 0: never */
    uint64_t seed;
} review_fault;

static int review_fault_is_due(review_fault *fault)
{
    fault->count++;
    return fault->count == fault->kill_at;
}

static void review_die(void)
{
    fflush(NULL);
    review_kill_oneself();
}

static void review_host_call(review_fault *fault)
{
    if (review_fault_is_due(fault)) review_die();
}

/* A write that is the last call leaves a seeded part of its bytes behind: a torn block. Whole lines of 64 bytes, as a
   disk's sectors are: a finer tear is for the caller of the library to judge (see --truncate-suspect). */
static int64_t review_dev_pwrite(void *ctx, int file, const void *buffer, uint32_t size, uint64_t offset)
{
    review_fault *fault = (review_fault *)ctx;
    const pagent_dev *dev = &fault->inner.dev;
    if (review_fault_is_due(fault)) {
        uint32_t part = (uint32_t)((fault->seed * UINT64_C(0x9E3779B97F4A7C15) >> 20) % (size + 1));
        part -= part % 64;
        if (part != 0) (void)dev->pwrite(dev->ctx, file, buffer, part, offset);
        review_die();
    }
    return dev->pwrite(dev->ctx, file, buffer, size, offset);
}

static int64_t review_dev_pread(void *ctx, int file, void *buffer, uint32_t size, uint64_t offset)
{
    const pagent_dev *dev = &((review_fault *)ctx)->inner.dev;
    return dev->pread(dev->ctx, file, buffer, size, offset);
}

static int review_dev_sync(void *ctx, int file)
{
    const pagent_dev *dev = &((review_fault *)ctx)->inner.dev;
    review_host_call((review_fault *)ctx);
    return dev->sync(dev->ctx, file);
}

static int review_dev_truncate(void *ctx, int file, uint64_t size)
{
    const pagent_dev *dev = &((review_fault *)ctx)->inner.dev;
    review_host_call((review_fault *)ctx);
    return dev->truncate(dev->ctx, file, size);
}

static int64_t review_dev_file_size(void *ctx, int file)
{
    const pagent_dev *dev = &((review_fault *)ctx)->inner.dev;
    return dev->file_size(dev->ctx, file);
}

static int review_dir_open(void *ctx, const char *name, uint32_t flags)
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    return dir->open(dir->ctx, name, flags);
}

static int review_dir_create_temp(void *ctx, const char *name)
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    review_host_call((review_fault *)ctx);
    return dir->create_temp(dir->ctx, name);
}

static int review_dir_publish(void *ctx, int file, const char *name, int exclusive)
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    review_host_call((review_fault *)ctx);
    return dir->publish(dir->ctx, file, name, exclusive);
}

static int review_dir_close(void *ctx, int file)
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    return dir->close(dir->ctx, file);
}

static int review_dir_remove(void *ctx, const char *name)
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    review_host_call((review_fault *)ctx);
    return dir->remove(dir->ctx, name);
}

static int review_dir_exists(void *ctx, const char *name)
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    return dir->exists(dir->ctx, name);
}

static int review_dir_list(void *ctx, const char *folder, uint32_t index, char name[PAGENT_NAME_MAX + 1])
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    return dir->list(dir->ctx, folder, index, name);
}

static int review_dir_sync(void *ctx, const char *folder)
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    review_host_call((review_fault *)ctx);
    return dir->sync_dir(dir->ctx, folder);
}

static int review_dir_lock(void *ctx)
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    return dir->lock(dir->ctx);
}

static int review_dir_unlock(void *ctx)
{
    const pagent_dir *dir = &((review_fault *)ctx)->inner;
    return dir->unlock(dir->ctx);
}

/* A directory that does what fault->inner does, and counts. */
static pagent_dir review_faulty_dir(review_fault *fault)
{
    pagent_dir dir;
    memset(&dir, 0, sizeof dir);
    dir.size = sizeof dir;
    dir.ctx = fault;
    dir.dev.size = sizeof dir.dev;
    dir.dev.ctx = fault;
    dir.dev.pread = review_dev_pread;
    dir.dev.pwrite = review_dev_pwrite;
    dir.dev.sync = review_dev_sync;
    dir.dev.truncate = review_dev_truncate;
    dir.dev.file_size = review_dev_file_size;
    dir.open = review_dir_open;
    dir.create_temp = review_dir_create_temp;
    dir.publish = review_dir_publish;
    dir.close = review_dir_close;
    dir.remove = review_dir_remove;
    dir.exists = review_dir_exists;
    dir.list = review_dir_list;
    dir.sync_dir = review_dir_sync;
    dir.lock = review_dir_lock;
    dir.unlock = review_dir_unlock;
    return dir;
}

/* ---- Calls under way ------------------------------------------------------------------------------------------- */

typedef struct review_job { /* one call that this process works on */
    struct review_job *next;
    pagent_call_id id;
    char key[PAGENT_KEY_SIZE];
    char *request; /* copied: the call's is gone when the callback returns */
    uint32_t size;
    int publish; /* else: analyse */
    int begun;
    review_reader reader;
    review_analysis analysis;
} review_job;

typedef struct review_host {
    review_job *first;
    review_job **last;
    uint32_t jobs_max; /* documents read side by side */
    const char *out;   /* folder for the reports */
    int no_dir_sync;
    int witness; /* file descriptor of --witness; -1: none */
    review_fault *fault;
    review_memory memory;
    void *program; /* for the trace callback */
#ifdef REVIEW_WITH_OPENAI
    pagent_openai *openai; /* NULL: the built-in reader */
#endif
} review_host;

static void review_host_init(review_host *host, const pagent_host *lent, review_fault *fault)
{
    memset(host, 0, sizeof *host);
    host->last = &host->first;
    host->witness = -1;
    host->fault = fault;
    host->memory.allocate = lent->allocate;
    host->memory.ctx = lent->ctx;
}

/* One line in the witness file: what this process did to the world, whatever the journal says. */
static void review_witness(review_host *host, const char *what, const char *key, uint32_t attempt)
{
    char line[160];
    int size;
    if (host->witness < 0) return;
    size = snprintf(line, sizeof line, "%s %s %u\n", what, key, (unsigned)attempt);
    if (size > 0 && write(host->witness, line, (size_t)size) != size) perror("review: --witness");
}

static void review_free_job(review_job *job)
{
    review_reader_close(&job->reader);
    free(job->request);
    free(job);
}

static void review_drop_job(review_host *host, review_job **at)
{
    review_job *job = *at;
    *at = job->next;
    if (host->last == &job->next) host->last = at;
    review_free_job(job);
}

static void review_drop_all_jobs(review_host *host)
{
    while (host->first != NULL) review_drop_job(host, &host->first);
}

static int review_begin_job(review_host *host, const pagent_call *call, int publish)
{
    review_job *job = (review_job *)calloc(1, sizeof *job);
    if (job == NULL) return PAGENT_NOT_SENT;
    job->request = (char *)malloc(call->request.size + 1);
    if (job->request == NULL) {
        free(job);
        return PAGENT_NOT_SENT;
    }
    memcpy(job->request, call->request.data, call->request.size);
    job->request[call->request.size] = 0;
    job->size = call->request.size;
    job->id = call->id;
    job->publish = publish;
    review_copy_text(job->key, sizeof job->key, call->key, strlen(call->key));
    *host->last = job;
    host->last = &job->next;
    return PAGENT_PENDING;
}

#ifdef REVIEW_WITH_OPENAI
static int review_ask_server(review_host *host, const pagent_call *call)
{
    review_document document;
    pagent_openai_chat chat;
    memset(&chat, 0, sizeof chat);
    if (!review_read_document(call->request.data, call->request.size, &document)) return PAGENT_E_ARGUMENT;
    chat.system = REVIEW_SYSTEM_TEXT;
    chat.user = REVIEW_USER_TEXT;
    chat.document.data = document.text;
    chat.document.size = document.text_size;
    chat.schema_name = "review";
    chat.schema_json = REVIEW_SCHEMA;
    return pagent_openai_begin(host->openai, call, &chat);
}
#endif

/* pagent_host.call */
static int review_on_call(void *ctx, const pagent_call *call, pagent_answer *answer)
{
    review_host *host = (review_host *)ctx;
    (void)answer;
    review_host_call(host->fault);
    review_witness(host, call->name, call->key, call->id.attempt);
    if (review_same(call->name, "publish")) return review_begin_job(host, call, 1);
#ifdef REVIEW_WITH_OPENAI
    if (host->openai != NULL) return review_ask_server(host, call);
#endif
    return review_begin_job(host, call, 0);
}

static int review_same_call(const pagent_call_id *left, const pagent_call_id *right)
{
    return left->stream == right->stream && left->version == right->version && left->index == right->index &&
           left->attempt == right->attempt;
}

/* pagent_host.call_cancel */
static void review_on_call_cancel(void *ctx, const pagent_call_id *id)
{
    review_host *host = (review_host *)ctx;
    review_job **at = &host->first;
    while (*at != NULL && !review_same_call(&(*at)->id, id)) at = &(*at)->next;
    if (*at != NULL) {
        review_drop_job(host, at);
        return;
    }
#ifdef REVIEW_WITH_OPENAI
    if (host->openai != NULL) pagent_openai_cancel(host->openai, id);
#endif
}

/* ---- The tool that publishes ----------------------------------------------------------------------------------- */

/* A published report ends with this line; the key in it is how a repeated attempt knows its own work. */
#define REVIEW_KEY_LINE "Published once, under the key "

/* Is `name` in the folder a report with this key in its last line? 1, 0, or -1 with errno (ENOENT: no such file). */
static int review_has_key(const char *folder, const char *name, const char *key)
{
    char path[REVIEW_PATH_SIZE], tail[256], wanted[160];
    FILE *file;
    size_t size;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    file = fopen(path, "rb");
    if (file == NULL) return -1;
    if (fseek(file, -(long)(sizeof tail - 1), SEEK_END) != 0) rewind(file);
    size = fread(tail, 1, sizeof tail - 1, file);
    tail[size] = 0;
    (void)fclose(file);
    (void)snprintf(wanted, sizeof wanted, REVIEW_KEY_LINE "`%s`.", key);
    return strstr(tail, wanted) != NULL;
}

static int review_write_all(int file, const char *text, size_t size)
{
    while (size != 0) {
        ssize_t written = write(file, text, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return -1;
        text += written;
        size -= (size_t)written;
    }
    return 0;
}

static int review_sync_folder(review_host *host, const char *folder)
{
    int file, result;
    if (host->no_dir_sync) return 0;
    file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return -1;
    review_host_call(host->fault);
    result = fsync(file);
    (void)close(file);
    return result;
}

/* Temporary file, fsync, rename, fsync of the folder: after it the report is there whole, and before it not at
   all. Every step counts as a host call, so that --kill-at can end the program between any two of them. */
static int review_write_report(review_host *host, const char *name, const char *body, size_t size, const char *key)
{
    char temp[REVIEW_PATH_SIZE], path[REVIEW_PATH_SIZE], last[192];
    int file, length = snprintf(last, sizeof last, "\n---\n\n" REVIEW_KEY_LINE "`%s`.\n", key);
    if (snprintf(temp, sizeof temp, "%s/.%s.tmp", host->out, key) >= (int)sizeof temp ||
        snprintf(path, sizeof path, "%s/%s", host->out, name) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    review_host_call(host->fault);
    file = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) return -1;
    review_host_call(host->fault);
    if (review_write_all(file, body, size) != 0 || review_write_all(file, last, (size_t)length) != 0) goto failed;
    review_host_call(host->fault);
    if (fsync(file) != 0) goto failed;
    if (close(file) != 0) return -1;
    review_host_call(host->fault);
    if (rename(temp, path) != 0) return -1;
    review_witness(host, "wrote", key, 1);
    return review_sync_folder(host, host->out);
failed:
    (void)close(file);
    return -1;
}

/* Publishes, or finds that an earlier attempt with this key has. What has been published is never overwritten: a report
   that was published anew, after a forced rollback, goes beside the old one as NAME.2.md. */
static int review_publish_once(review_host *host, const char *action, size_t size, const char *key, char name[160])
{
    uint32_t name_size, body_size, number;
    const char *file = review_field(action, size, "file", &name_size);
    const char *body = review_body(action, size, &body_size);
    int found;
    errno = EINVAL;
    if (file == NULL || body == NULL || name_size < 4 || name_size > 150) return -1;
    if (memchr(file, '/', name_size) != NULL || file[0] == '.') return -1;
    if (mkdir(host->out, 0777) != 0 && errno != EEXIST) return -1;
    for (number = 1; number < 1000; number++) {
        if (number == 1) (void)snprintf(name, 160, "%.*s", (int)name_size, file);
        if (number > 1) (void)snprintf(name, 160, "%.*s.%u.md", (int)name_size - 3, file, (unsigned)number);
        found = review_has_key(host->out, name, key);
        if (found == 1) {
            review_witness(host, "found", key, 1);
            return review_sync_folder(host, host->out); /* the earlier attempt may have died before it did */
        }
        if (found < 0 && errno == ENOENT) return review_write_report(host, name, body, body_size, key);
        if (found < 0) return -1;
    }
    errno = EEXIST;
    return -1;
}

/* ---- Working off the calls ------------------------------------------------------------------------------------- */

static int review_answer(pagent_engine *engine, const review_job *job, const char *data, size_t size)
{
    pagent_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.outcome = PAGENT_ANSWERED;
    answer.data.data = data;
    answer.data.size = (uint32_t)size;
    return pagent_call_done(engine, &job->id, &answer);
}

static int review_answer_failure(pagent_engine *engine, const review_job *job, uint32_t outcome, const char *text)
{
    pagent_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.outcome = outcome;
    answer.code = -1;
    answer.data.data = text;
    answer.data.size = (uint32_t)strlen(text);
    return pagent_call_done(engine, &job->id, &answer);
}

static int review_work_on_publish(review_host *host, pagent_engine *engine, review_job *job)
{
    char name[160], text[256];
    if (review_publish_once(host, job->request, job->size, job->key, name) == 0) {
        return review_answer(engine, job, name, strlen(name));
    }
    (void)snprintf(text, sizeof text, "%.120s: %s", host->out, strerror(errno));
    return review_answer_failure(engine, job, errno == EINVAL ? PAGENT_FAILED_FINAL : PAGENT_FAILED, text);
}

/* One slice of reading; 1: answered. */
static int review_work_on_document(review_host *host, pagent_engine *engine, review_job *job)
{
    static char text[REVIEW_ANSWER_SIZE];
    review_document document;
    review_out out;
    int done;
    if (!job->begun) {
        if (!review_read_document(job->request, job->size, &document)) {
            (void)review_answer_failure(engine, job, PAGENT_FAILED_FINAL, "not a document's record");
            return 1;
        }
        review_reader_open(&job->reader, document.text, document.text_size, &host->memory, &job->analysis);
        review_copy_text(job->analysis.model, sizeof job->analysis.model, REVIEW_BUILT_IN, strlen(REVIEW_BUILT_IN));
        job->begun = 1;
    }
    done = review_reader_work(&job->reader, REVIEW_SLICE);
    if (done == 0) return 0;
    out = review_out_begin(text, sizeof text);
    review_write_answer(&job->analysis, &out);
    if (done < 0) {
        (void)review_answer_failure(engine, job, PAGENT_FAILED, "out of memory");
    } else if (out.cut) {
        (void)review_answer_failure(engine, job, PAGENT_FAILED_FINAL, "the analysis is longer than 32 KiB");
    } else {
        (void)review_answer(engine, job, out.text, out.size);
    }
    return 1;
}

/* A little work on calls under way; 1 when there was any. An answer that the engine no longer wants is dropped. */
static int review_work(review_host *host, pagent_engine *engine)
{
    review_job **at = &host->first;
    uint32_t documents = 0;
    int worked = 0;
    while (*at != NULL) {
        int done;
        if (!(*at)->publish && ++documents > host->jobs_max) {
            at = &(*at)->next;
            continue;
        }
        worked = 1;
        done = 1;
        if ((*at)->publish) {
            (void)review_work_on_publish(host, engine, *at);
        } else {
            done = review_work_on_document(host, engine, *at);
        }
        if (done) {
            review_drop_job(host, at);
        } else {
            at = &(*at)->next;
        }
    }
    return worked;
}

/* ---- Documents ------------------------------------------------------------------------------------------------- */

/* Old texts are often Latin-1: bytes that are not UTF-8 are taken as that. Returns the new size; `to` has room for
   twice the size. */
static size_t review_to_utf8(char *to, const char *from, size_t size)
{
    size_t at = 0, made = 0;
    while (at < size) {
        size_t length = review_utf8_size(from + at, size - at);
        if (length == 0) {
            made += review_put_utf8(to + made, (unsigned char)from[at]);
            at++;
            continue;
        }
        memcpy(to + made, from + at, length);
        made += length;
        at += length;
    }
    return made;
}

/* Reads a document into a record for "start": *record is malloc'ed. NULL when all is well, else why it cannot be. */
static const char *review_load_document(const char *path, uint32_t threshold, uint32_t deadline_s, char **record,
                                        uint32_t *record_size)
{
    static char raw[REVIEW_DOCUMENT_MAX + 1];
    struct stat about;
    FILE *file;
    size_t size, i;
    review_out out;
    *record = NULL;
    if (stat(path, &about) != 0) return strerror(errno);
    if (!S_ISREG(about.st_mode)) return "not a file: a pipe, a socket or a device"; /* opening it could wait for ever */
    file = fopen(path, "rb");
    if (file == NULL) return strerror(errno);
    size = fread(raw, 1, sizeof raw, file);
    if (ferror(file)) {
        (void)fclose(file);
        return "cannot be read";
    }
    (void)fclose(file);
    if (size > REVIEW_DOCUMENT_MAX) return "longer than 1 MiB: split it";
    for (i = 0; i < size && raw[i] != 0; i++) continue;
    if (i < size) return "not a text: it holds zero bytes";
    for (i = 0; i < size && review_is_space(raw[i]); i++) continue;
    if (i == size) return "empty";
    *record = (char *)malloc(2 * size + strlen(path) + 256);
    if (*record == NULL) return "out of memory";
    out = review_out_begin(*record, strlen(path) + 256);
    review_write_document_head(&out, path, threshold, deadline_s);
    size = review_to_utf8(*record + out.size, raw, size);
    *record_size = (uint32_t)(out.size + size);
    if (size > REVIEW_DOCUMENT_MAX) {
        free(*record);
        *record = NULL;
        return "longer than 1 MiB as UTF-8: split it";
    }
    return NULL;
}

/* A document's ending says nothing that a person wants to type. */
static uint32_t review_without_ending(const char *base, uint32_t size)
{
    static const char *const endings[] = {".md", ".txt", ".markdown", ".rst", ".text"};
    size_t i;
    for (i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        uint32_t length = (uint32_t)strlen(endings[i]);
        if (size > length && memcmp(base + size - length, endings[i], length) == 0) return size - length;
    }
    return size;
}

/* "GPL-3-1a2b3c4d": the document's name, as far as it is letters and digits, and 32 bits of its path's hash. */
static void review_agent_id(const char *path, char id[PAGENT_NAME_MAX + 1])
{
    uint32_t size, i, at = 0;
    const char *base = review_base_name(path, (uint32_t)strlen(path), &size);
    size = review_without_ending(base, size);
    for (i = 0; i < size && at < 48; i++) {
        char c = base[i];
        int plain = review_is_digit(c) || review_is_upper(c) || review_is_lower(c) || c == '-' || c == '_' || c == '.';
        if (!plain && (at == 0 || id[at - 1] == '-')) continue;
        id[at++] = plain ? c : '-';
    }
    while (at != 0 && (id[0] == '.' || id[0] == '-')) memmove(id, id + 1, at--);
    (void)snprintf(id + at, PAGENT_NAME_MAX + 1 - at, "%s%08x", at != 0 ? "-" : "",
                   (unsigned)(pagent_stream_of(path) >> 32));
}

#endif /* REVIEW_HOST_H */
