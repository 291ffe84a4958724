/* bench_kit.h: clocks, medians, the raw disk, a store to be measured, and the table that bench prints. */
#ifndef BENCH_KIT_H
#define BENCH_KIT_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- what the command line says --------------------------------------------------------------------------------- */

static struct bench {
    const char *program;   /* to start it again */
    const char *directory; /* on the disk that is measured */
    int quick;             /* a smoke run: few rounds, and numbers that mean nothing */
    int markdown;
    int no_sync; /* while a long history is being built: sync does nothing */
} bench;

static uint32_t bench_rounds(uint32_t rounds)
{
    return bench.quick ? 2 : rounds;
}

static uint32_t bench_count(uint32_t count, uint32_t quick)
{
    return bench.quick ? quick : count;
}

/* A text that stays for the next 31 calls. */
__attribute__((format(printf, 1, 2))) static const char *text(const char *format, ...)
{
    static char buffers[32][256];
    static uint32_t next;
    char *buffer = buffers[next++ % 32u];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(buffer, sizeof buffers[0], format, list);
    va_end(list);
    return buffer;
}

/* Something does not work: a number would be a lie. */
__attribute__((noreturn)) static void broken(const char *what, const char *why)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static void must(int result, const char *what)
{
    if (result < 0) broken(what, pagent_message(result));
}

static void must_be(int condition, const char *what)
{
    if (!condition) broken(what, "not as it must be");
}

static const char *path_in(const char *name)
{
    return text("%s/%s", bench.directory, name);
}

static int remove_one(const char *path, const struct stat *found, int kind, struct FTW *where)
{
    (void)found;
    (void)kind;
    (void)where;
    return remove(path);
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* What was written without a sync must not be paid for by the next measured one. */
static void settle_disk(void)
{
    int descriptor = open(bench.directory, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) broken(bench.directory, strerror(errno));
    (void)syncfs(descriptor);
    (void)close(descriptor);
}

/* ---- clocks and medians ----------------------------------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t which)
{
    struct timespec now;
    (void)clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t wall_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

enum {
    SERIES_MAX = 64
};

typedef struct series {
    double value[SERIES_MAX];
    uint32_t count;
} series;

static void add_value(series *values, double value)
{
    must_be(values->count < SERIES_MAX, "the length of a series");
    values->value[values->count++] = value;
}

static int compare_doubles(const void *left, const void *right)
{
    double l = *(const double *)left, r = *(const double *)right;
    return l < r ? -1 : l > r;
}

static double median(const series *values)
{
    double sorted[SERIES_MAX];
    uint32_t count = values->count;
    must_be(count != 0, "the length of a series");
    memcpy(sorted, values->value, count * sizeof sorted[0]);
    qsort(sorted, count, sizeof sorted[0], compare_doubles);
    return count % 2 != 0 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/* The median of the ratios, pair by pair. */
static double median_ratio(const series *above, const series *below)
{
    series ratios;
    uint32_t i;
    ratios.count = 0;
    must_be(above->count == below->count, "the number of pairs");
    for (i = 0; i < above->count; i++) add_value(&ratios, above->value[i] / below->value[i]);
    return median(&ratios);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

enum {
    LINES_MAX = 40,
    NOTES_MAX = 60
};

typedef struct line {
    char what[160];
    char measured[120];
    char floor[120];
    char result[80];
    char bar[80];
    char verdict[80];
} line;

static struct table {
    line lines[LINES_MAX];
    char notes[NOTES_MAX][256];
    uint32_t line_count, note_count, missed;
} table;

static void put(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%s", from);
}

static void add_note(const char *note)
{
    must_be(table.note_count < NOTES_MAX, "the number of notes");
    put(table.notes[table.note_count++], sizeof table.notes[0], note);
}

typedef struct bar {
    double least; /* 0: none */
    double most;  /* 0: none */
    const char *text;
} bar;

static bar at_least(double least, const char *words)
{
    bar made = {least, 0, words};
    return made;
}

static bar at_most(double most, const char *words)
{
    bar made = {0, most, words};
    return made;
}

/* `value` is what the bar is about; `result` is how it is shown. */
static void add_line(const char *what, const char *measured, const char *floor, const char *result, double value,
                     bar must_reach)
{
    line *made = &table.lines[table.line_count++];
    double missed = 0;
    must_be(table.line_count < LINES_MAX, "the number of lines");
    if (must_reach.least > 0 && value < must_reach.least) missed = 1 - value / must_reach.least;
    if (must_reach.most > 0 && value > must_reach.most) missed = value / must_reach.most - 1;
    put(made->what, sizeof made->what, what);
    put(made->measured, sizeof made->measured, measured);
    put(made->floor, sizeof made->floor, floor);
    put(made->result, sizeof made->result, result);
    put(made->bar, sizeof made->bar, must_reach.text);
    if (missed > 0) table.missed++;
    if (bench.quick) missed = 0;
    put(made->verdict, sizeof made->verdict,
        bench.quick  ? "not judged"
        : missed > 0 ? text("MISSED by %.3g %%", missed * 100)
                     : "met");
    if (!bench.markdown) {
        (void)printf("  %-11s %s: %s (bar: %s)\n", made->verdict, what, result, must_reach.text);
        (void)fflush(stdout);
    }
}

/* Columns, not bytes: the texts hold signs of two bytes. */
static uint32_t width_of(const char *words)
{
    uint32_t width = 0;
    for (; *words != 0; words++) width += ((uint8_t)*words & 0xC0u) != 0x80u;
    return width;
}

static void print_cell(const char *words, uint32_t width)
{
    uint32_t i;
    (void)fputs(words, stdout);
    for (i = width_of(words); i < width; i++) (void)putchar(' ');
}

static const char *cell_of(const line *of, uint32_t column)
{
    const char *cells[6];
    cells[0] = of->what;
    cells[1] = of->measured;
    cells[2] = of->floor;
    cells[3] = of->result;
    cells[4] = of->bar;
    cells[5] = of->verdict;
    return cells[column];
}

static void print_table(void)
{
    static const line head = {"what", "measured", "floor, in the same run", "result", "must reach", ""};
    uint32_t width[6], column, i, k;
    for (column = 0; column < 6; column++) {
        width[column] = width_of(cell_of(&head, column));
        for (i = 0; i < table.line_count; i++) {
            uint32_t found = width_of(cell_of(&table.lines[i], column));
            if (found > width[column]) width[column] = found;
        }
    }
    (void)putchar('\n');
    for (i = 0; i <= table.line_count; i++) {
        const line *of = i == 0 ? &head : &table.lines[i - 1];
        for (column = 0; column < 6; column++) {
            (void)fputs(bench.markdown ? "| " : column != 0 ? "  " : "", stdout);
            print_cell(cell_of(of, column), width[column]);
            if (bench.markdown) (void)putchar(' ');
        }
        (void)puts(bench.markdown ? "|" : "");
        if (i != 0) continue;
        for (column = 0; column < 6; column++) {
            (void)fputs(bench.markdown ? "|" : column != 0 ? "  " : "", stdout);
            for (k = 0; k < width[column] + (bench.markdown ? 2u : 0u); k++) (void)putchar('-');
        }
        (void)puts(bench.markdown ? "|" : "");
    }
    (void)putchar('\n');
    for (i = 0; i < table.note_count; i++) (void)printf("%s%s\n", bench.markdown ? "- " : "  ", table.notes[i]);
}

/* ---- the processor must not fall asleep between two syncs ------------------------------------------------------- */

/* An idle virtual processor may be woken only at its next tick, 4 ms later, and a sync then seems to take that long. */
static pid_t hold_wakeups(void)
{
    int32_t none = 0;
    int descriptor = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
    pid_t child;
    if (descriptor >= 0 && write(descriptor, &none, sizeof none) == (ssize_t)sizeof none) {
        add_note("CPU wake-up latency: held at 0 through /dev/cpu_dma_latency"); /* kept open until the end */
        return 0;
    }
    child = fork();
    if (child == 0) {
        pid_t parent = getppid();
        (void)nice(19);
        while (getppid() == parent) {
            volatile uint32_t spin = 1000000;
            while (spin != 0) spin--;
        }
        _exit(0);
    }
    add_note(child > 0 ? "CPU wake-up latency: /dev/cpu_dma_latency cannot be written; a process spins instead"
                       : "CPU wake-up latency: NOT held; durable rates may be those of a sleeping processor");
    return child > 0 ? child : 0;
}

/* On a machine that others use too, their turns would be measured. */
static void raise_priority(void)
{
    if (setpriority(PRIO_PROCESS, 0, -20) == 0) {
        add_note("Priority: raised to -20");
    } else {
        add_note("Priority: as it was; run on a quiet machine");
    }
}

static void release_wakeups(pid_t child)
{
    if (child <= 0) return;
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
}

static void describe_machine(void)
{
    struct utsname system;
    char words[200], *model = NULL;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && model == NULL && fgets(words, sizeof words, file) != NULL) {
        if (strncmp(words, "model name", 10) == 0) model = strchr(words, ':');
    }
    if (file != NULL) (void)fclose(file);
    if (model != NULL) model[strcspn(model, "\n")] = 0;
    (void)uname(&system);
    add_note(text("Machine:%s, %ld processors, %s %s; compiler %s", model != NULL ? model + 1 : " ?",
                  sysconf(_SC_NPROCESSORS_ONLN), system.sysname, system.release, __VERSION__));
}

/* ---- the raw disk ----------------------------------------------------------------------------------------------- */

typedef struct raw {
    int descriptor;
    uint64_t at, size;
} raw;

static uint8_t raw_bytes[4u << 20]; /* what the floors write: never zero */

static void fill_raw_bytes(void)
{
    size_t i;
    for (i = 0; i < sizeof raw_bytes; i++) raw_bytes[i] = (uint8_t)(pai_mix(i) | 1u);
}

/* Preallocated in one of two ways: zeros written, or space reserved. */
static void raw_open(raw *file, const char *name, uint64_t size, int zeroed)
{
    static const uint8_t zeros[1u << 16];
    uint64_t done;
    file->descriptor = open(path_in(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file->descriptor < 0) broken(path_in(name), strerror(errno));
    file->at = 0;
    file->size = size;
    for (done = 0; zeroed && done < size; done += sizeof zeros) {
        must_be(pwrite(file->descriptor, zeros, sizeof zeros, (off_t)done) == (ssize_t)sizeof zeros, "writing zeros");
    }
    if (!zeroed) must_be(posix_fallocate(file->descriptor, 0, (off_t)size) == 0, "reserving space");
    must_be(fsync(file->descriptor) == 0, "a sync");
}

/* `size` bytes made durable, once. */
static void raw_write(raw *file, size_t size)
{
    must_be(size <= sizeof raw_bytes && file->at + size <= file->size, "the room of a floor's file");
    must_be(pwrite(file->descriptor, raw_bytes, size, (off_t)file->at) == (ssize_t)size, "a write");
    must_be(fdatasync(file->descriptor) == 0, "a sync");
    file->at += size;
}

static void raw_close(raw *file, const char *name)
{
    (void)close(file->descriptor);
    (void)unlink(path_in(name));
}

/* ---- a store and an engine to be measured ----------------------------------------------------------------------- */

typedef struct heap {
    uint64_t calls; /* that gave memory */
    uint64_t bytes; /* outstanding */
} heap;

enum {
    SIZES_MAX = 8192,
    NAMES_MAX = 1024
};

typedef struct place {
    char path[512];
    pagent_dir dir;
    pagent_files *files;
    pagent_memory *memory;
    pagent_engine *engine;
    pagent_host host, store_host;
    heap engine_heap, store_heap;
    int per_agent, in_memory, traced;
    pagent_limits limits;
    uint32_t sizes[SIZES_MAX]; /* of the commits since sizes_count was set to 0, if `traced` */
    uint32_t size_count;
    uint64_t commit_count, commit_bytes; /* without snapshots */
    uint64_t snapshot_bytes;             /* commits that a snapshot rides in, less a mean commit's bytes */
    int snapshot_rides;
    uint32_t works, publishes, repeats; /* calls begun */
    uint8_t published[NAMES_MAX];
} place;

static pagent_host posix_host;
static int (*posix_sync)(void *ctx, int file);

/* Memory that the system has handed out already, so that its page faults are not taken for work of the engine. What is
   not on top is given back only when all is. */
static struct region {
    uint8_t *base;
    size_t size, used;
    int on;
} region;

static void begin_region(size_t size)
{
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must_be(made != MAP_FAILED, "memory");
    memset(made, 1, size);
    region.base = (uint8_t *)made;
    region.size = size;
    region.used = 0;
    region.on = 1;
}

static void end_region(void)
{
    (void)munmap(region.base, region.size);
    region.on = 0;
}

static void *region_allocate(void *old, size_t old_size, size_t new_size)
{
    size_t old_room = (old_size + 63u) & ~(size_t)63, new_room = (new_size + 63u) & ~(size_t)63;
    uint8_t *made = (uint8_t *)old;
    if (old != NULL && made + old_room == region.base + region.used) {
        region.used -= old_room; /* it is on top: grows and shrinks where it is */
    } else {
        made = region.base + region.used;
    }
    must_be(region.used + new_room <= region.size, "the room of the prepared memory");
    region.used += new_room;
    if (new_size == 0) return NULL;
    if (old != NULL && made != (uint8_t *)old) memcpy(made, old, old_size < new_size ? old_size : new_size);
    return made;
}

static void *count_allocation(heap *of, void *old, size_t old_size, size_t new_size)
{
    void *made = region.on ? region_allocate(old, old_size, new_size)
                           : posix_host.allocate(posix_host.ctx, old, old_size, new_size);
    if (new_size != 0 && made == NULL) return NULL;
    if (new_size != 0) of->calls++;
    of->bytes += new_size;
    of->bytes -= old_size;
    return made;
}

static void *allocate_for_engine(void *ctx, void *old, size_t old_size, size_t new_size)
{
    return count_allocation(&((place *)ctx)->engine_heap, old, old_size, new_size);
}

static void *allocate_for_store(void *ctx, void *old, size_t old_size, size_t new_size)
{
    return count_allocation(&((place *)ctx)->store_heap, old, old_size, new_size);
}

static int fill_random(void *ctx, void *buffer, size_t size)
{
    (void)ctx;
    return posix_host.random(posix_host.ctx, buffer, size);
}

static uint64_t read_clock(void *ctx)
{
    (void)ctx;
    return posix_host.clock_ms(posix_host.ctx);
}

static int switched_sync(void *ctx, int file)
{
    return bench.no_sync ? PAGENT_OK : posix_sync(ctx, file);
}

static void note_trace(void *ctx, const pagent_trace *record)
{
    place *p = (place *)ctx;
    if (record->kind == PAGENT_TRACE_SNAPSHOT) p->snapshot_rides = 1;
    if (record->kind != PAGENT_TRACE_COMMIT) return;
    if (p->size_count < SIZES_MAX) p->sizes[p->size_count++] = record->block_size;
    if (p->snapshot_rides) {
        p->snapshot_bytes += record->block_size;
    } else {
        p->commit_count++;
        p->commit_bytes += record->block_size;
    }
    p->snapshot_rides = 0;
}

static int answer_call(void *ctx, const pagent_call *call, pagent_answer *answer)
{
    place *p = (place *)ctx;
    unsigned long number = strtoul(call->agent, NULL, 10);
    if (call->repeated) p->repeats++;
    if (strcmp(call->name, "work") == 0) {
        p->works++;
    } else {
        p->publishes++;
        if (number < NAMES_MAX && p->published[number]++ != 0) p->repeats++;
    }
    answer->data.data = "done";
    answer->data.size = 4;
    return PAGENT_OK;
}

static const pagent_machine *const *bench_machines(uint32_t *count);

/* Opens what stands at p->path, or makes it. Set path and options before; everything else is set here. */
static void open_place(place *p)
{
    pagent_config config;
    pagent_file_options options;
    char words[PAGENT_TEXT_SIZE];
    memset(&config, 0, sizeof config);
    memset(&options, 0, sizeof options);
    memset(&p->host, 0, sizeof p->host);
    p->host.size = sizeof p->host;
    p->host.ctx = p;
    p->host.allocate = allocate_for_engine;
    p->host.random = fill_random;
    p->host.clock_ms = read_clock;
    p->host.call = answer_call;
    p->host.trace = p->traced ? note_trace : NULL;
    p->store_host = p->host;
    p->store_host.allocate = allocate_for_store;
    if (p->in_memory) {
        must(pagent_open_memory(&p->memory, &p->store_host), "opening a memory store");
        config.store = pagent_memory_store(p->memory);
    } else {
        must(pagent_open_posix(&p->dir, p->path, 1, NULL), p->path);
        posix_sync = p->dir.dev.sync;
        p->dir.dev.sync = switched_sync;
        options.size = sizeof options;
        options.log_per_agent = p->per_agent ? 1 : 0;
        if (pagent_open_files(&p->files, &p->dir, &p->store_host, &options, words) != PAGENT_OK) broken(p->path, words);
        config.store = pagent_files_store(p->files);
    }
    config.size = sizeof config;
    config.host = p->host;
    config.limits = p->limits;
    config.limits.size = sizeof config.limits;
    config.machines = bench_machines(&config.machine_count);
    if (pagent_open_engine(&p->engine, &config, words) != PAGENT_OK) broken("opening an engine", words);
}

static void close_place(place *p)
{
    must(pagent_close_engine(p->engine), "closing an engine");
    if (p->in_memory) {
        pagent_close_memory(p->memory);
    } else {
        must(pagent_close_files(p->files), "closing a store");
        pagent_close_posix(&p->dir);
    }
    must_be(p->engine_heap.bytes == 0 && p->store_heap.bytes == 0, "memory given back at closing");
}

/* A new, empty one. */
static place *make_place(const char *name, int per_agent, int traced)
{
    place *p = (place *)calloc(1, sizeof *p);
    must_be(p != NULL, "memory");
    p->per_agent = per_agent;
    p->traced = traced;
    p->in_memory = name == NULL;
    if (name != NULL) {
        put(p->path, sizeof p->path, path_in(name));
        remove_tree(p->path);
    }
    return p;
}

static void drop_place(place *p)
{
    close_place(p);
    if (!p->in_memory) remove_tree(p->path);
    free(p);
}

/* ---- driving it ------------------------------------------------------------------------------------------------- */

static void poll_until_idle(place *p)
{
    int result;
    do {
        result = pagent_poll(p->engine);
        if (result < 0) broken("poll", pagent_error_text(p->engine));
    } while (result == PAGENT_OK);
}

static void await(place *p, const pagent_receipt *receipt, const char *what)
{
    while (receipt->result == PAGENT_PENDING) must(pagent_poll(p->engine), what);
    if (receipt->result != PAGENT_OK) broken(what, receipt->text);
}

static void create_agent(place *p, const char *name, const char *machine)
{
    pagent_receipt receipt;
    must(pagent_create(p->engine, name, machine, NULL, 0, &receipt), "create");
    await(p, &receipt, "create");
    poll_until_idle(p);
}

/* One durable step: an event posted, handled, committed. */
static void one_step(place *p, const char *name, uint32_t event_size)
{
    static const uint8_t event[16] = "sixteen bytes..";
    pagent_receipt receipt;
    must(pagent_post(p->engine, name, "go", NULL, event, event_size, &receipt), "post");
    await(p, &receipt, "post");
}

static void many_steps(place *p, const char *name, uint32_t event_size, uint32_t count)
{
    while (count-- != 0) one_step(p, name, event_size);
}

static double timed_steps(place *p, const char *name, uint32_t event_size, uint32_t count)
{
    uint64_t begun = wall_ns();
    p->size_count = 0;
    many_steps(p, name, event_size, count);
    return (double)(wall_ns() - begun) / 1e9;
}

/* Agents "0" … as one batch: all events are there before the store is asked to make anything durable. */
static void together(place *p, uint32_t count)
{
    static pagent_receipt receipts[NAMES_MAX];
    char name[16];
    uint32_t i;
    for (i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "%u", i);
        must(pagent_post(p->engine, name, "go", NULL, NULL, 0, &receipts[i]), "post");
    }
    for (i = 0; i < count; i++) await(p, &receipts[i], "post");
}

static void create_many(place *p, const char *machine, uint32_t count)
{
    static pagent_receipt receipts[NAMES_MAX];
    char name[16];
    uint32_t i;
    for (i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "%u", i);
        must(pagent_create(p->engine, name, machine, NULL, 0, &receipts[i]), "create");
    }
    for (i = 0; i < count; i++) await(p, &receipts[i], "create");
    poll_until_idle(p);
}

/* Loads the agent and shows that it is ready: a signal that its machine does not declare is refused by the agent
   itself,
   and nothing is written. */
static void make_ready(place *p, const char *name)
{
    pagent_receipt receipt;
    must(pagent_post(p->engine, name, "undeclared", NULL, NULL, 0, &receipt), "post");
    while (receipt.result == PAGENT_PENDING) must(pagent_poll(p->engine), "loading");
    if (receipt.result != PAGENT_E_UNDECLARED) broken("loading", receipt.text);
}

#endif
