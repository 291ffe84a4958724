/* bench.c: speed and size. Every number stands beside a floor that was measured in the same run: floor and subject take
   turns, and what is reported is the median of the ratios, pair by pair.
   [build: -lsqlite3 if sqlite3.h]

   bench [--quick] [--markdown] [--only ROW] [--list] [DIRECTORY]

   DIRECTORY (build/bench.work if not given) must be on the disk that is to be measured; it is emptied. --quick is a
   smoke run: a few rounds, nothing judged. Exit: 0, also when a bar is missed; 1 when something does not work; 2 bad
   usage. */
#define _GNU_SOURCE
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include "bench_kit.h"
#ifdef HAVE_SQLITE3_H
#include <sqlite3.h>
#endif

/* ---- the machines ----------------------------------------------------------------------------------------------- */

typedef struct work {    /* what one step of a machine does */
    uint32_t changed;    /* contiguous bytes of the context, further on each time */
    uint32_t entry_size; /* of the transcript entry it adds; 0: none */
} work;

static int do_work(void *ctx, pagent_step *step, uint32_t tag)
{
    const work *todo = (const work *)ctx;
    uint32_t size, at, i;
    uint8_t *context = (uint8_t *)pagent_context(step, &size);
    (void)tag;
    if (todo->changed != 0) {
        at = (uint32_t)(pagent_version(step) % (size / todo->changed)) * todo->changed;
        for (i = at; i < at + todo->changed; i += 8) { /* every byte changes */
            uint64_t word;
            memcpy(&word, context + i, 8);
            word ^= UINT64_C(0x0101010101010101) * (1 + pagent_version(step) % 255);
            memcpy(context + i, &word, 8);
        }
    }
    return todo->entry_size != 0 ? pagent_remember(step, 1, raw_bytes, todo->entry_size) : PAGENT_OK;
}

static const pagent_state work_states[] = {
    {"working", NULL, NULL, NULL, NULL, NULL, 0, 0},
    {"stopped", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0},
};
static const pagent_transition work_rows[] = {
    {"working", "go", NULL, do_work, NULL, 0},
    {"working", "stop", NULL, NULL, "stopped", 0},
};

static int begin_work(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)tag;
    return pagent_begin_call(step, "work", "do it", 5, NULL);
}

static int ask(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)tag;
    return pagent_ask_approval(step, "release", "the exact action", 16, PAGENT_FOREVER, NULL);
}

static int publish(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)tag;
    return pagent_begin_call(step, "publish", "publish it", 10, NULL);
}

static const pagent_call_spec approval_calls[] = {
    {.name = "work", .crash_policy = PAGENT_CRASH_REPEAT},
    {.name = "publish", .crash_policy = PAGENT_CRASH_REPEAT},
};
static const pagent_state approval_states[] = {
    {.name = "working", .waits = "work", .enter = begin_work},    {.name = "asking", .waits = "release", .enter = ask},
    {.name = "publishing", .waits = "publish", .enter = publish}, {.name = "done", .flags = PAGENT_FINAL},
    {.name = "failed", .flags = PAGENT_FINAL | PAGENT_FAILURE},
};
static const pagent_transition approval_rows[] = {
    {"working", "work.result", NULL, NULL, "asking", 0},
    {"working", "work.failure", NULL, NULL, "failed", 0},
    {"asking", "release.approved", NULL, NULL, "publishing", 0},
    {"asking", "release.rejected", NULL, NULL, "failed", 0},
    {"asking", "release.expired", NULL, NULL, "failed", 0},
    {"publishing", "publish.result", NULL, NULL, "done", 0},
    {"publishing", "publish.failure", NULL, NULL, "failed", 0},
};
/* Waits for an approval, and has made no call: what one agent costs in memory. */
static const pagent_state waiting_states[] = {
    {.name = "asking", .waits = "release", .enter = ask},
    {.name = "done", .flags = PAGENT_FINAL},
};
static const pagent_transition waiting_rows[] = {
    {"asking", "release.approved", NULL, NULL, "done", 0},
    {"asking", "release.rejected", NULL, NULL, "done", 0},
    {"asking", "release.expired", NULL, NULL, "done", 0},
};

enum {
    STEP_CONTEXT = 1024,
    SMALL_CONTEXT = 1024,
    BLOCK_CONTEXT = 352 * 4,
    WAITING_CONTEXT = 64
};

static work step_work = {1024, 0}, small_work = {64, 0}, talk_work = {0, 200}, tiny_work = {8, 0},
            block_work = {352, 0};

#define WORKER(machine_name, todo, bytes)                                                                              \
    {                                                                                                                  \
        .size = sizeof(pagent_machine), .version = 1, .name = (machine_name), .ctx = (todo), .context_size = (bytes),  \
        .signals = "go stop", .states = work_states, .state_count = 2, .transitions = work_rows, .transition_count = 2 \
    }

static const pagent_machine step_machine = WORKER("step", &step_work, STEP_CONTEXT);
static const pagent_machine small_machine = WORKER("small", &small_work, SMALL_CONTEXT);
static const pagent_machine talk_machine = WORKER("talk", &talk_work, 0);
static const pagent_machine tiny_machine = WORKER("tiny", &tiny_work, 64);
static const pagent_machine block_machine = WORKER("block", &block_work, BLOCK_CONTEXT);
static const pagent_machine approval_machine = {
    .size = sizeof(pagent_machine),
    .version = 1,
    .name = "approval",
    .context_size = 64,
    .approvals = "release",
    .calls = approval_calls,
    .call_count = 2,
    .states = approval_states,
    .state_count = 5,
    .transitions = approval_rows,
    .transition_count = 7,
};
static const pagent_machine waiting_machine = {
    .size = sizeof(pagent_machine),
    .version = 1,
    .name = "waiting",
    .context_size = WAITING_CONTEXT,
    .approvals = "release",
    .states = waiting_states,
    .state_count = 2,
    .transitions = waiting_rows,
    .transition_count = 3,
};

static const pagent_machine *const *bench_machines(uint32_t *count)
{
    static const pagent_machine *const machines[] = {&step_machine,  &small_machine,    &talk_machine,   &tiny_machine,
                                                     &block_machine, &approval_machine, &waiting_machine};
    *count = (uint32_t)(sizeof machines / sizeof machines[0]);
    return machines;
}

/* ---- SQLite, doing the least that a journal needs: compare and set the head, insert the block -------------------- */

#ifdef HAVE_SQLITE3_H
typedef struct rival {
    sqlite3 *db;
    sqlite3_stmt *begin, *head, *insert, *commit;
    sqlite3_int64 version;
} rival;

static void rival_must(const rival *r, int result, int expected)
{
    if (result != expected) broken("SQLite", sqlite3_errmsg(r->db));
}

static void rival_prepare(rival *r, sqlite3_stmt **made, const char *words)
{
    rival_must(r, sqlite3_prepare_v2(r->db, words, -1, made, NULL), SQLITE_OK);
}

static void rival_open(rival *r)
{
    static const char *const setup[] = {
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "CREATE TABLE head (stream INTEGER PRIMARY KEY, version INTEGER, epoch INTEGER)",
        "CREATE TABLE block (id INTEGER PRIMARY KEY, stream INTEGER, version INTEGER, bytes BLOB)",
        "INSERT INTO head VALUES (1, 0, 1)",
    };
    uint32_t i;
    (void)unlink(path_in("rival.db"));
    (void)unlink(path_in("rival.db-wal"));
    (void)unlink(path_in("rival.db-shm"));
    r->version = 0;
    rival_must(r, sqlite3_open(path_in("rival.db"), &r->db), SQLITE_OK);
    for (i = 0; i < sizeof setup / sizeof setup[0]; i++) {
        rival_must(r, sqlite3_exec(r->db, setup[i], NULL, NULL, NULL), SQLITE_OK);
    }
    rival_prepare(r, &r->begin, "BEGIN IMMEDIATE");
    rival_prepare(r, &r->head, "UPDATE head SET version = ?1 + 1 WHERE stream = 1 AND version = ?1 AND epoch <= 1");
    rival_prepare(r, &r->insert, "INSERT INTO block (stream, version, bytes) VALUES (1, ?1, ?2)");
    rival_prepare(r, &r->commit, "COMMIT");
}

static void rival_run(const rival *r, sqlite3_stmt *statement)
{
    rival_must(r, sqlite3_step(statement), SQLITE_DONE);
    rival_must(r, sqlite3_reset(statement), SQLITE_OK);
}

static void rival_write(rival *r, uint32_t size)
{
    rival_run(r, r->begin);
    (void)sqlite3_bind_int64(r->head, 1, r->version);
    rival_run(r, r->head);
    must_be(sqlite3_changes(r->db) == 1, "SQLite's compare and set");
    (void)sqlite3_bind_int64(r->insert, 1, ++r->version);
    (void)sqlite3_bind_blob(r->insert, 2, raw_bytes, (int)size, SQLITE_STATIC);
    rival_run(r, r->insert);
    rival_run(r, r->commit);
}

static void rival_close(rival *r)
{
    (void)sqlite3_finalize(r->begin);
    (void)sqlite3_finalize(r->head);
    (void)sqlite3_finalize(r->insert);
    (void)sqlite3_finalize(r->commit);
    (void)sqlite3_close(r->db);
    (void)unlink(path_in("rival.db"));
}
#endif

/* ---- one agent, durable steps; and SQLite ----------------------------------------------------------------------- */

/* Writes what the subject wrote: as many times, the same sizes. */
static double timed_raw(raw *file, const place *subject)
{
    uint64_t begun = wall_ns();
    uint32_t i;
    for (i = 0; i < subject->size_count; i++) raw_write(file, subject->sizes[i]);
    return (double)(wall_ns() - begun) / 1e9;
}

static void row_step(void)
{
    uint32_t rounds = bench_rounds(25), count = bench_count(120, 20), round;
    place *shared = make_place("shared", 0, 1), *own = make_place("own", 1, 1);
    raw zeroed, reserved;
    series zeroed_rate = {.count = 0}, reserved_rate = {.count = 0}, shared_rate = {.count = 0},
           own_rate = {.count = 0};
    const series *floor_rate;
#ifdef HAVE_SQLITE3_H
    series rival_rate = {.count = 0};
    rival r;
    rival_open(&r);
#endif
    open_place(shared);
    open_place(own);
    create_agent(shared, "a", "step");
    create_agent(own, "a", "step");
    raw_open(&zeroed, "zeroed", 32u << 20, 1);
    raw_open(&reserved, "reserved", 32u << 20, 0);
    settle_disk();
    (void)timed_steps(own, "a", 0, count);
    (void)timed_steps(shared, "a", 0, count);
    (void)timed_raw(&zeroed, shared);
    (void)timed_raw(&reserved, shared);
    for (round = 0; round < rounds; round++) {
        add_value(&zeroed_rate, count / timed_raw(&zeroed, shared));
        add_value(&reserved_rate, count / timed_raw(&reserved, shared));
        add_value(&shared_rate, count / timed_steps(shared, "a", 0, count));
        add_value(&own_rate, count / timed_steps(own, "a", 0, count));
#ifdef HAVE_SQLITE3_H
        {
            uint64_t begun = wall_ns();
            uint32_t i;
            for (i = 0; i < count; i++) rival_write(&r, shared->sizes[i]);
            add_value(&rival_rate, count / ((double)(wall_ns() - begun) / 1e9));
        }
#endif
    }
    floor_rate = median(&zeroed_rate) > median(&reserved_rate) ? &zeroed_rate : &reserved_rate;
    {
        double ratio = median_ratio(&shared_rate, floor_rate), own_ratio = median_ratio(&own_rate, floor_rate);
        const char *floor_text = text("%.0f/s raw pwrite + fdatasync, %s", median(floor_rate),
                                      floor_rate == &zeroed_rate ? "pre-zeroed" : "fallocated");
        add_line("one agent, durable steps of 1 KiB changed bytes (its whole context), shared log",
                 text("%.0f steps/s", median(&shared_rate)), floor_text, text("%.3f ×", ratio), ratio,
                 at_least(0.95, "≥ 0.95 × raw"));
        add_line("the same, one log for each agent", text("%.0f steps/s", median(&own_rate)), floor_text,
                 text("%.3f ×", own_ratio), own_ratio, at_least(0.95, "≥ 0.95 × raw"));
        add_note(text(
            "Raw floors: pre-zeroed %.0f/s (we reach %.3f ×), fallocated %.0f/s (%.3f ×); %.0f B a step, snapshots "
            "that ride along included",
            median(&zeroed_rate), median_ratio(&shared_rate, &zeroed_rate), median(&reserved_rate),
            median_ratio(&shared_rate, &reserved_rate),
            (double)(shared->commit_bytes + shared->snapshot_bytes) / ((double)(rounds + 1) * count)));
    }
#ifdef HAVE_SQLITE3_H
    {
        double ratio = median_ratio(&shared_rate, &rival_rate);
        add_line("the same, against SQLite", text("%.0f steps/s", median(&shared_rate)),
                 text("%.0f/s SQLite %s, WAL, FULL, head CAS + insert", median(&rival_rate), sqlite3_libversion()),
                 text("%.2f ×", ratio), ratio, at_least(1.15, "≥ 1.15 ×"));
    }
    rival_close(&r);
#else
    add_note("SQLite: sqlite3.h is not there; install libsqlite3-dev to compare");
#endif
    raw_close(&zeroed, "zeroed");
    raw_close(&reserved, "reserved");
    drop_place(shared);
    drop_place(own);
}

/* ---- many agents at once ---------------------------------------------------------------------------------------- */

static uint64_t sum_of_sizes(const place *p)
{
    uint64_t sum = 0;
    uint32_t i;
    for (i = 0; i < p->size_count; i++) sum += p->sizes[i];
    return sum;
}

static double timed_together(place *p, uint32_t agents, uint32_t times)
{
    uint64_t begun = wall_ns();
    uint32_t i;
    p->size_count = 0;
    for (i = 0; i < times; i++) together(p, agents);
    return (double)(wall_ns() - begun) / 1e9;
}

static void row_group(void)
{
    uint32_t rounds = bench_rounds(15), many = bench_count(1000, 100), ones = bench_count(100, 10), round;
    place *p = make_place("group", 0, 1);
    raw file;
    series one = {.count = 0}, some = {.count = 0}, all = {.count = 0}, raw_some = {.count = 0}, raw_all = {.count = 0};
    double ratio;
    open_place(p);
    create_many(p, "step", many);
    raw_open(&file, "grouped", 160u << 20, 0);
    settle_disk();
    (void)timed_together(p, many, 2);
    for (round = 0; round < rounds; round++) {
        uint64_t begun;
        uint32_t i;
        add_value(&one, ones / timed_steps(p, "0", 0, ones));
        add_value(&some, 32 * 8 / timed_together(p, 32, 8));
        begun = wall_ns();
        for (i = 0; i < 8; i++) raw_write(&file, sum_of_sizes(p) / 8);
        add_value(&raw_some, 32 * 8 / ((double)(wall_ns() - begun) / 1e9));
        add_value(&all, many * 4 / timed_together(p, many, 4));
        begun = wall_ns();
        for (i = 0; i < 4; i++) raw_write(&file, sum_of_sizes(p) / 4);
        add_value(&raw_all, many * 4 / ((double)(wall_ns() - begun) / 1e9));
    }
    ratio = median_ratio(&some, &one);
    add_line("32 agents ready at once, one shared log", text("%.0f steps/s", median(&some)),
             text("%.0f/s one agent", median(&one)), text("%.1f ×", ratio), ratio, at_least(12, "≥ 12 × one agent"));
    ratio = median_ratio(&all, &one);
    add_line(text("%u agents ready at once", many), text("%.0f steps/s", median(&all)),
             text("%.0f/s one agent", median(&one)), text("%.1f ×", ratio), ratio, at_least(40, "≥ 40 × one agent"));
    add_note(text(
        "The same bytes raw, one write and one sync a batch: 32: %.0f steps/s (we reach %.2f ×), %u: %.0f (%.2f ×)",
        median(&raw_some), median_ratio(&some, &raw_some), many, median(&raw_all), median_ratio(&all, &raw_all)));
    raw_close(&file, "grouped");
    drop_place(p);
}

/* ---- the processor's part of a step; bytes of a step ------------------------------------------------------------ */

/* What no implementation can avoid: the changed bytes copied, and the block's three checksums. */
static double floor_of_encoding(const pai_crc *crc, uint32_t block_size, uint32_t count)
{
    static uint8_t block[512];
    uint64_t begun = cpu_ns();
    uint32_t i, sum = 0;
    for (i = 0; i < count; i++) {
        memcpy(block + 128, raw_bytes + (i & 0xFFFF), 80);
        sum += pai_crc32c(crc, 0, block + 64, block_size - 64);
        sum += pai_crc32c(crc, 0, block + 8, 56);
        sum += pai_crc32c(crc, 0, block + 16, 44);
    }
    block[0] = (uint8_t)sum; /* so that it is not left out */
    return (double)(cpu_ns() - begun) / count;
}

static void row_cpu(void)
{
    uint32_t rounds = bench_rounds(15), count = bench_count(20000, 200), round;
    place *p = make_place(NULL, 0, 0), *bytes = make_place(NULL, 0, 1);
    series ours = {.count = 0}, floor_ns = {.count = 0};
    uint64_t calls;
    double per_step, size;
    pai_crc *crc = (pai_crc *)calloc(1, sizeof *crc);
    must_be(crc != NULL, "memory");
    pai_crc_init(crc);
    open_place(bytes);
    create_agent(bytes, "a", "small");
    one_step(bytes, "a", 16); /* an agent's first step of an engine may carry a claim */
    bytes->commit_count = bytes->commit_bytes = bytes->snapshot_bytes = 0;
    many_steps(bytes, "a", 16, count);
    size = (double)bytes->commit_bytes / (double)bytes->commit_count;
    open_place(p);
    create_agent(p, "a", "small");
    many_steps(p, "a", 16, bench_count(5000, 500));
    calls = p->engine_heap.calls;
    for (round = 0; round < rounds; round++) {
        uint64_t begun;
        add_value(&floor_ns, floor_of_encoding(crc, (uint32_t)size, count));
        begun = cpu_ns();
        many_steps(p, "a", 16, count);
        add_value(&ours, (double)(cpu_ns() - begun) / count);
    }
    per_step = (double)(p->engine_heap.calls - calls) / ((double)rounds * count);
    add_line("memory store, 1 KiB context, 64 contiguous bytes changed: CPU of a step", text("%.0f ns", median(&ours)),
             text("%.0f ns copy + CRC of the block", median(&floor_ns)), text("%.3f µs", median(&ours) / 1000),
             median(&ours) / 1000, at_most(1.5, "≤ 1.5 µs"));
    add_line("the same: engine allocations a step, steady state",
             text("%.0f in %.0f steps", (double)(p->engine_heap.calls - calls), (double)rounds * count), "",
             text("%.4f", per_step), per_step, at_most(1e-9, "0"));
    add_line("journal bytes of such a step (event 16 B), snapshots apart", text("%.0f B", size), "16 + 64 B of content",
             text("64 + %.0f B", size - 64), size, at_most(256, "≤ 64 + 192 B"));
    if (count > bytes->commit_count) {
        double riding = count - (double)bytes->commit_count; /* commits that a snapshot rides in */
        add_note(text("Snapshots add %.1f B a step (one rides along about every %.0f steps)",
                      ((double)bytes->snapshot_bytes - riding * size) / count, count / riding));
    }
    free(crc);
    drop_place(p);
    drop_place(bytes);
}

/* ---- a growing transcript --------------------------------------------------------------------------------------- */

enum {
    TALK_SPAN = 200,
    TALK_TURN = 20
};

/* Seconds of the first and of the last steps of two agents that take turns. */
static void talk_pair(place *p, const char *fresh, const char *old, uint64_t (*clock)(void), series *first,
                      series *last)
{
    uint64_t times[2] = {0, 0};
    uint32_t turn;
    for (turn = 0; turn < TALK_SPAN / TALK_TURN; turn++) {
        uint64_t begun = clock(), middle;
        many_steps(p, fresh, 0, TALK_TURN);
        middle = clock();
        many_steps(p, old, 0, TALK_TURN);
        times[0] += middle - begun;
        times[1] += clock() - middle;
    }
    add_value(first, TALK_SPAN / ((double)times[0] / 1e9));
    add_value(last, TALK_SPAN / ((double)times[1] / 1e9));
}

/* A store that says yes and keeps nothing: its own growth is not what is measured. */
static int forget_append(void *ctx, const pagent_append *request, pagent_io *io)
{
    (void)ctx;
    (void)request;
    (void)io;
    return PAGENT_OK;
}

static void talk_on_disk(uint32_t steps, uint32_t rounds)
{
    series first = {.count = 0}, last = {.count = 0};
    place *p = make_place("talk", 0, 1);
    double ratio, bytes = 0, snapshots = 0;
    uint32_t i;
    open_place(p);
    bench.no_sync = 1;
    for (i = 0; i < rounds; i++) {
        create_agent(p, text("old %u", i), "talk");
        create_agent(p, text("new %u", i), "talk");
        p->commit_count = p->commit_bytes = p->snapshot_bytes = 0;
        many_steps(p, text("old %u", i), 0, steps - TALK_SPAN);
        bytes = (double)p->commit_bytes / (double)p->commit_count;
        snapshots = (double)(steps - TALK_SPAN - p->commit_count); /* commits that one rides in */
        snapshots = ((double)p->snapshot_bytes - snapshots * bytes) / (steps - TALK_SPAN);
    }
    bench.no_sync = 0;
    settle_disk();
    for (i = 0; i < rounds; i++) talk_pair(p, text("new %u", i), text("old %u", i), wall_ns, &first, &last);
    drop_place(p);
    ratio = median_ratio(&last, &first);
    add_line(text("transcript of 200-byte messages growing to %u, durable: last 200 steps", steps),
             text("%.0f steps/s", median(&last)), text("%.0f/s the first 200", median(&first)), text("%.3f ×", ratio),
             ratio, at_least(0.95, "≥ 0.95 × the first 200"));
    add_line("the same, journal bytes a step", text("%.0f B", bytes), "200 B of content",
             text("200 + %.0f B", bytes - 200), bytes, at_most(392, "≤ 200 + 192 B"));
    add_note(text("Transcript to %u: snapshots add %.1f B a step", steps, snapshots));
}

/* The old agents' lengths spread over half as much again, so that no growth of a buffer, which comes once in as many
   steps, falls into all of them or none. */
static void talk_in_memory(uint32_t steps, uint32_t rounds)
{
    series first = {.count = 0}, last = {.count = 0};
    double ratio;
    uint32_t i;
    begin_region(64u << 20);
    for (i = 0; i < rounds; i++) {
        place *p = make_place(NULL, 0, 0);
        region.used = 0;
        open_place(p);
        p->engine->store.append = forget_append;
        create_agent(p, "old", "talk");
        create_agent(p, "new", "talk");
        many_steps(p, "old", 0, steps - TALK_SPAN + steps / 2 * i / rounds);
        talk_pair(p, "new", "old", cpu_ns, &first, &last);
        drop_place(p);
    }
    end_region();
    ratio = median_ratio(&last, &first);
    add_line("the same, CPU of the engine", text("%.2f µs", 1e6 / median(&last)),
             text("%.2f µs the first 200", 1e6 / median(&first)), text("%.3f ×", ratio), ratio,
             at_least(0.95, "≥ 0.95 × the first 200"));
}

static void row_talk(void)
{
    uint32_t steps = bench_count(2000, 400);
    talk_on_disk(steps, bench_rounds(15));
    talk_in_memory(steps, bench_rounds(15));
    steps = bench_count(20000, 600);
    talk_on_disk(steps, bench_rounds(9));
    talk_in_memory(steps, bench_rounds(15));
}

/* ---- paused for approval, killed, restarted, approved ----------------------------------------------------------- */

/* Starts this program again, with its standard output at the other end of a pipe. No fork: copying pages on their first
   write would be measured as if it were the engine's work. */
static pid_t run_self(const char *what, const char *first, const char *second, int *end)
{
    extern char **environ;
    posix_spawn_file_actions_t actions;
    char *arguments[5];
    int ends[2];
    pid_t child;
    arguments[0] = (char *)(uintptr_t)bench.program;
    arguments[1] = (char *)(uintptr_t)what;
    arguments[2] = (char *)(uintptr_t)first;
    arguments[3] = (char *)(uintptr_t)second;
    arguments[4] = NULL;
    must_be(pipe2(ends, O_CLOEXEC) == 0, "a pipe");
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    must_be(posix_spawn(&child, bench.program, &actions, NULL, arguments, environ) == 0, "starting a process");
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    *end = ends[0];
    return child;
}

/* The child's part: makes the agents, brings each to its approval, and waits to be killed. */
static void pause_there(const char *path, uint32_t count)
{
    const struct timespec tick = {0, 20000000};
    pid_t parent = getppid();
    place *p = make_place(NULL, 0, 0);
    p->in_memory = 0;
    put(p->path, sizeof p->path, path);
    open_place(p);
    create_many(p, "approval", count);
    must_be(p->works == count, "one call of each agent before the kill");
    must_be(write(1, "!", 1) == 1, "a pipe");
    while (getppid() == parent) (void)nanosleep(&tick, NULL);
    _exit(1);
}

/* Returns after that process's death. */
static void pause_and_kill(place *p, uint32_t count)
{
    int end, status;
    char byte;
    pid_t child;
    remove_tree(p->path);
    child = run_self("--pause", p->path, text("%u", count), &end);
    must_be(read(end, &byte, 1) == 1, "the process that pauses");
    (void)close(end);
    must_be(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status), "a kill");
    p->works = p->publishes = p->repeats = 0;
    memset(p->published, 0, sizeof p->published);
}

/* Every agent has ended well, published once, and done nothing twice. */
static void check_approved(place *p, uint32_t count)
{
    uint64_t cursor = 0;
    uint32_t done = 0;
    pagent_summary summary;
    while (pagent_next_agent(p->engine, &cursor, &summary) == PAGENT_OK) done += summary.status == PAGENT_DONE;
    must_be(done == count, "the number of agents that are done");
    must_be(p->works == 0 && p->repeats == 0, "no call repeated after the kill");
    must_be(p->publishes == count, "one publishing call of each agent");
}

static void approve(place *p, uint32_t number, pagent_receipt *receipt)
{
    char name[16];
    (void)snprintf(name, sizeof name, "%u", number);
    must(pagent_decide(p->engine, name, NULL, "somebody", PAGENT_APPROVE, NULL, 0, PAGENT_ANY, receipt), "decide");
}

/* Two small blocks for each of `count` agents, each in a sync of its own. */
static double timed_two_syncs(raw *file, uint32_t count)
{
    uint64_t begun = wall_ns();
    uint32_t i;
    for (i = 0; i < count; i++) {
        raw_write(file, 320);
        raw_write(file, 256);
    }
    return (double)(wall_ns() - begun) / 1e9;
}

static void approve_one_by_one(raw *file, uint32_t count)
{
    uint32_t chunk = bench_count(50, 20), i, k;
    place *p = make_place("approvals", 0, 0);
    series ours = {.count = 0}, floor_rate = {.count = 0};
    double ratio;
    pause_and_kill(p, count);
    settle_disk();
    open_place(p);
    for (i = 0; i < count; i += chunk) {
        uint64_t begun;
        add_value(&floor_rate, chunk / timed_two_syncs(file, chunk));
        begun = wall_ns();
        for (k = i; k < i + chunk; k++) {
            pagent_receipt receipt;
            approve(p, k, &receipt);
            await(p, &receipt, "decide");
            poll_until_idle(p);
        }
        add_value(&ours, chunk / ((double)(wall_ns() - begun) / 1e9));
    }
    check_approved(p, count);
    ratio = median_ratio(&ours, &floor_rate);
    add_line(text("%u agents paused, killed, restarted, approved one by one", count),
             text("%.0f agents/s", median(&ours)), text("%.0f/s two syncs each", median(&floor_rate)),
             text("%.2f ×, 0 calls repeated", ratio), ratio, at_least(0.5, "≥ 0.5 ×, 0 calls repeated"));
    drop_place(p);
}

static void approve_together(raw *file, uint32_t count)
{
    static pagent_receipt receipts[NAMES_MAX];
    uint32_t rounds = bench_rounds(11), round, i;
    place *p = make_place("approvals", 0, 0);
    series ours = {.count = 0}, floor_rate = {.count = 0};
    double ratio;
    for (round = 0; round < rounds; round++) {
        uint64_t begun;
        pause_and_kill(p, count);
        settle_disk();
        add_value(&floor_rate, 50 / timed_two_syncs(file, 50));
        open_place(p);
        begun = wall_ns();
        for (i = 0; i < count; i++) approve(p, i, &receipts[i]);
        poll_until_idle(p);
        add_value(&ours, count / ((double)(wall_ns() - begun) / 1e9));
        for (i = 0; i < count; i++) must_be(receipts[i].result == PAGENT_OK, "a receipt");
        check_approved(p, count);
        close_place(p);
    }
    ratio = median_ratio(&ours, &floor_rate);
    add_line("the same, approved together", text("%.0f agents/s", median(&ours)),
             text("%.0f/s two syncs each", median(&floor_rate)), text("%.1f ×, 0 calls repeated", ratio), ratio,
             at_least(20, "≥ 20 ×, 0 calls repeated"));
    remove_tree(p->path);
    free(p);
}

static void row_approve(void)
{
    uint32_t count = bench_count(1000, 100);
    raw file;
    raw_open(&file, "syncs", 4u << 20, 0);
    approve_one_by_one(&file, count);
    approve_together(&file, count);
    raw_close(&file, "syncs");
}

/* ---- from process start to an agent ready ----------------------------------------------------------------------- */

/* The child's part: opens, loads, and says when it was ready. */
static void say_ready(const char *path, int per_agent)
{
    place *p = make_place(NULL, per_agent, 0);
    uint64_t now;
    p->in_memory = 0;
    put(p->path, sizeof p->path, path);
    open_place(p);
    make_ready(p, "a");
    now = wall_ns();
    must_be(write(1, &now, sizeof now) == (ssize_t)sizeof now, "a pipe");
}

/* Milliseconds from before the process exists until it says that it is ready. */
static double start_process(const char *what, const char *path, const char *per_agent)
{
    uint64_t begun = wall_ns(), ready;
    int end, status;
    pid_t child = run_self(what, path, per_agent, &end);
    must_be(read(end, &ready, sizeof ready) == (ssize_t)sizeof ready, "the process that was started");
    (void)close(end);
    must_be(waitpid(child, &status, 0) == child && status == 0, "the end of the process that was started");
    return (double)(ready - begun) / 1e6;
}

static void row_start(void)
{
    uint32_t rounds = bench_rounds(21), steps = bench_count(2000, 200), kind, round;
    for (kind = 0; kind < 2; kind++) {
        place *p = make_place("start", (int)kind, 0);
        series ours = {.count = 0}, floor_ms = {.count = 0};
        open_place(p);
        bench.no_sync = 1;
        create_agent(p, "a", "talk");
        many_steps(p, "a", 0, steps);
        bench.no_sync = 0;
        close_place(p);
        settle_disk();
        for (round = 0; round < rounds; round++) {
            add_value(&floor_ms, start_process("--nothing", "-", "-"));
            add_value(&ours, start_process("--ready", p->path, kind != 0 ? "1" : "0"));
        }
        add_line(text("from process start to an agent ready, %u steps of history, %s", steps,
                      kind != 0 ? "own log" : "shared log"),
                 text("%.2f ms", median(&ours)), text("%.2f ms a process that does nothing", median(&floor_ms)),
                 text("%.2f ms", median(&ours)), median(&ours), at_most(4, "≤ 4 ms"));
        remove_tree(p->path);
        free(p);
    }
}

/* ---- opening does not depend on age ----------------------------------------------------------------------------- */

static int (*posix_publish)(void *ctx, int file, const char *name, int exclusive);
static uint32_t published; /* segments */

static int count_publish(void *ctx, int file, const char *name, int exclusive)
{
    published++;
    return posix_publish(ctx, file, name, exclusive);
}

/* At least so many steps, and then more until the newest segment is nearly full: what opening reads is then the most
   that
   it ever reads. */
static void build_history(place *p, uint32_t steps)
{
    uint32_t i, seen, last = 0, gap = 0;
    open_place(p);
    posix_publish = p->files->dir.publish;
    p->files->dir.publish = count_publish;
    bench.no_sync = 1;
    create_agent(p, "a", "tiny");
    seen = published;
    for (i = 0; i < steps || (i - last < gap - gap / 50 && i < steps + steps / 2); i++) {
        one_step(p, "a", 0);
        if (published == seen) continue;
        seen = published;
        gap = i - last;
        last = i;
    }
    close_place(p);
    bench.no_sync = 0;
}

static double timed_open(place *p)
{
    uint64_t begun = wall_ns();
    double took;
    open_place(p);
    make_ready(p, "a");
    took = (double)(wall_ns() - begun) / 1e6;
    close_place(p);
    return took;
}

static void row_age(void)
{
    uint32_t rounds = bench_rounds(15), young_steps = 1000, old_steps = bench_count(1000000, 3000), kind, round;
    for (kind = 0; kind < 2; kind++) {
        place *young = make_place("young", (int)kind, 0), *old = make_place("old", (int)kind, 0);
        series young_ms = {.count = 0}, old_ms = {.count = 0};
        uint64_t begun = wall_ns();
        double ratio;
        build_history(young, young_steps);
        build_history(old, old_steps);
        settle_disk();
        add_note(
            text("Building %u steps (and up to half as many more, until the newest segment is nearly full) without a "
                 "sync, %s: %.1f s",
                 old_steps, kind != 0 ? "own log" : "shared log", (double)(wall_ns() - begun) / 1e9));
        for (round = 0; round < rounds; round++) {
            add_value(&young_ms, timed_open(young));
            add_value(&old_ms, timed_open(old));
        }
        ratio = median_ratio(&old_ms, &young_ms);
        add_line(text("open an agent with %u steps of history, %s", old_steps, kind != 0 ? "own log" : "shared log"),
                 text("%.2f ms", median(&old_ms)), text("%.2f ms with %u", median(&young_ms), young_steps),
                 text("%.2f ×", ratio), ratio, at_most(3, text("≤ 3 × the one with %u", young_steps)));
        remove_tree(young->path);
        remove_tree(old->path);
        free(young);
        free(old);
    }
}

/* ---- validation scan -------------------------------------------------------------------------------------------- */

enum {
    SCAN_BLOCK = 512,
    SCAN_BLOCKS = 40000
};

static struct captured {
    int (*append)(void *ctx, const pagent_append *request, pagent_io *io);
    uint8_t *create; /* the agent's first block, which carries its state */
    uint8_t *bytes;
    size_t size;
} captured;

static int capture(void *ctx, const pagent_append *request, pagent_io *io)
{
    if (request->expected == 0) {
        captured.create = (uint8_t *)malloc(request->size);
        must_be(captured.create != NULL, "memory");
        memcpy(captured.create, request->blocks, request->size);
    } else {
        must_be(request->size == SCAN_BLOCK, "the size of a block");
        memcpy(captured.bytes + captured.size, request->blocks, request->size);
        captured.size += request->size;
    }
    return captured.append(ctx, request, io);
}

/* Blocks of exactly 512 bytes, made by an engine. */
static void capture_blocks(uint32_t count)
{
    place *p = make_place(NULL, 0, 0);
    p->limits.snapshot_floor = UINT32_MAX;
    open_place(p);
    captured.bytes = (uint8_t *)malloc((size_t)count * SCAN_BLOCK);
    must_be(captured.bytes != NULL, "memory");
    captured.size = 0;
    captured.append = p->engine->store.append;
    p->engine->store.append = capture;
    create_agent(p, "a", "block");
    many_steps(p, "a", 0, count);
    p->engine->store.append = captured.append;
    must_be(captured.size == (size_t)count * SCAN_BLOCK, "the number of blocks");
    drop_place(p);
}

/* All that recovery checks of a block before it believes it: header, payload, place in the chain. */
static void scan_blocks(const pai_crc *crc)
{
    pai_block header;
    size_t at;
    uint64_t version = 1, link = pai_link(crc, captured.create);
    for (at = 0; at < captured.size; at += pai_block_size(&header)) {
        const uint8_t *block = captured.bytes + at;
        must_be(pai_decode_header(crc, block, 0, &header) == PAGENT_OK, "a header");
        must_be(pai_check_payload(crc, block, &header) == PAGENT_OK, "a payload");
        must_be(header.version == ++version && header.previous == link, "a chain");
        link = pai_link(crc, block);
    }
}

static void apply_blocks(const pai_crc *crc)
{
    pai_heap allocator;
    pai_state state;
    pai_apply how;
    pai_buffer scratch;
    pai_block header;
    size_t at;
    allocator.allocate = posix_host.allocate;
    allocator.ctx = posix_host.ctx;
    memset(&state, 0, sizeof state);
    memset(&how, 0, sizeof how);
    memset(&scratch, 0, sizeof scratch);
    state.heap = &allocator;
    state.leaf = PAI_NONE;
    how.crc = crc;
    how.window = 16;
    how.scratch = &scratch;
    must(pai_decode_header(crc, captured.create, 0, &header), "a header");
    must(pai_apply_block(&state, captured.create, &header, 0, &how), "applying a block");
    for (at = 0; at < captured.size; at += SCAN_BLOCK) {
        must(pai_decode_header(crc, captured.bytes + at, 0, &header), "a header");
        must(pai_apply_block(&state, captured.bytes + at, &header, 0, &how), "applying a block");
    }
    must_be(state.context.size == BLOCK_CONTEXT, "the context");
    pai_free_state(&state);
    pai_free_buffer(&allocator, &scratch);
}

static void read_blocks(const pai_crc *crc)
{
    uint64_t sum = 0, word;
    size_t at;
    (void)crc;
    for (at = 0; at < captured.size; at += 8) {
        memcpy(&word, captured.bytes + at, 8);
        sum += word;
    }
    must_be(sum != 0, "the sum of all words"); /* so that it is not left out */
}

static double gigabytes_per_second(void (*pass)(const pai_crc *crc), const pai_crc *crc)
{
    uint64_t begun = cpu_ns();
    pass(crc);
    return (double)captured.size / (double)(cpu_ns() - begun);
}

/* pai_crc_init builds these only where there is no instruction. */
static void build_tables(pai_crc *crc)
{
    uint32_t i, k;
    crc->hardware = 0;
    for (i = 0; i < 256; i++) {
        uint32_t c = i;
        for (k = 0; k < 8; k++) c = c >> 1 ^ (UINT32_C(0x82F63B78) & (0u - (c & 1u)));
        crc->table[0][i] = c;
    }
    for (i = 0; i < 256; i++) {
        for (k = 1; k < 8; k++)
            crc->table[k][i] = crc->table[k - 1][i] >> 8 ^ crc->table[0][crc->table[k - 1][i] & 255u];
    }
}

static void row_scan(void)
{
    uint32_t rounds = bench_rounds(15), count = bench_count(SCAN_BLOCKS, 2000), round;
    pai_crc *hardware = (pai_crc *)calloc(2, sizeof *hardware), *portable = hardware + 1;
    series fast = {.count = 0}, slow = {.count = 0}, apply = {.count = 0}, memory = {.count = 0};
    must_be(hardware != NULL, "memory");
    pai_crc_init(hardware);
    build_tables(portable);
    capture_blocks(count);
    scan_blocks(hardware);
    scan_blocks(portable);
    for (round = 0; round < rounds; round++) {
        add_value(&memory, gigabytes_per_second(read_blocks, NULL));
        add_value(&fast, gigabytes_per_second(scan_blocks, hardware));
        add_value(&slow, gigabytes_per_second(scan_blocks, portable));
        add_value(&apply, gigabytes_per_second(apply_blocks, hardware));
    }
    if (hardware->hardware) {
        add_line("validation scan, 512 B blocks in RAM, the processor's CRC", text("%.2f GB/s", median(&fast)),
                 text("%.1f GB/s reading the same memory", median(&memory)),
                 text("%.2f × of reading", median_ratio(&fast, &memory)), median(&fast), at_least(5, "≥ 5 GB/s"));
    } else {
        add_note("This processor has no CRC instruction that we use: only the portable scan is measured");
    }
    add_line("the same, portable CRC", text("%.2f GB/s", median(&slow)),
             text("%.1f GB/s reading the same memory", median(&memory)),
             text("%.2f × of reading", median_ratio(&slow, &memory)), median(&slow), at_least(1.5, "≥ 1.5 GB/s"));
    add_note(text("Applying these blocks to a state, apart: %.2f GB/s, %.0f ns a block (352 changed bytes each)",
                  median(&apply), SCAN_BLOCK / median(&apply)));
    free(captured.create);
    free(captured.bytes);
    free(hardware);
}

/* ---- memory and code -------------------------------------------------------------------------------------------- */

static double bytes_of(const place *p)
{
    return (double)(p->engine_heap.bytes + p->store_heap.bytes);
}

/* Bytes for each further agent that waits for an approval: over many, since tables grow in leaps. */
static double bytes_per_agent(uint32_t count, int per_agent, uint32_t loaded_max)
{
    place *p = make_place("memory", per_agent, 0);
    double before = 0, after;
    uint32_t i;
    p->limits.loaded_max = loaded_max;
    open_place(p);
    bench.no_sync = 1;
    for (i = 0; i < 9 * count; i++) {
        if (i == count) before = bytes_of(p);
        create_agent(p, text("%u", i), "waiting");
    }
    after = bytes_of(p);
    bench.no_sync = 0;
    drop_place(p);
    return (after - before) / (8 * count);
}

/* The same when all are made at once: what a burst leaves in the engine's pools. */
static double bytes_after_burst(uint32_t count)
{
    place *p = make_place("memory", 0, 0);
    double before, after;
    p->limits.loaded_max = 1;
    open_place(p);
    bench.no_sync = 1;
    create_agent(p, "before", "waiting");
    before = bytes_of(p);
    create_many(p, "waiting", count);
    after = bytes_of(p);
    bench.no_sync = 0;
    drop_place(p);
    return (after - before) / count;
}

/* .text of the header compiled as it is, or -1. */
static long text_size(const char *flags)
{
    static const char *const source = "bench_size.c", *const object = "bench_size.o";
    char here[] = __FILE__, *slash = strrchr(here, '/'), words[256];
    FILE *file = fopen(path_in(source), "w");
    long size = -1;
    char *real;
    if (slash != NULL) *slash = 0;
    real = realpath(slash != NULL ? text("%s/../persistent_agent.h", here) : "../persistent_agent.h", NULL);
    if (file == NULL || real == NULL) {
        if (file != NULL) (void)fclose(file);
        free(real);
        return -1;
    }
    (void)fprintf(file, "#define PERSISTENT_AGENT_IMPLEMENTATION\n#include \"%s\"\n", real);
    (void)fclose(file);
    free(real);
    (void)snprintf(words, sizeof words, "%s -std=c99 -Os %s -c -o '%s' '%s' 2>/dev/null && size '%s' 2>/dev/null",
                   getenv("CC") != NULL ? getenv("CC") : "cc", flags, path_in(object), path_in(source),
                   path_in(object));
    file = popen(words, "r");
    if (file != NULL) {
        if (fgets(words, sizeof words, file) != NULL && fgets(words, sizeof words, file) != NULL) {
            size = strtol(words, NULL, 10);
        }
        (void)pclose(file);
    }
    (void)unlink(path_in(source));
    (void)unlink(path_in(object));
    return size > 0 ? size : -1;
}

static void row_memory(void)
{
    uint32_t count = bench_count(1000, 100);
    double loaded = bytes_per_agent(count, 0, 9 * count), asleep = bytes_per_agent(count, 0, 1);
    double own_asleep = bytes_per_agent(bench_count(250, 50), 1, 1); /* a file for each */
    long all = text_size(""), core = text_size("-DPAGENT_NO_FILE");
    add_line("memory of an agent asleep, waiting for an approval, shared log", text("%.0f B", asleep), "",
             text("%.0f B", asleep), asleep, at_most(128, "≤ 128 B"));
    add_line("the same, one log for each agent", text("%.0f B", own_asleep), "", text("%.0f B", own_asleep), own_asleep,
             at_most(128, "≤ 128 B"));
    add_line(text("memory of an agent loaded, its context of %u B apart", (uint32_t)WAITING_CONTEXT),
             text("%.0f B", loaded - WAITING_CONTEXT), text("%.0f B asleep", asleep),
             text("%.0f B", loaded - WAITING_CONTEXT), loaded - WAITING_CONTEXT,
             at_most(768, "≤ 768 B + context and transcript"));
    add_note(text("%u agents made at once and then asleep: %.0f B each, pools for the next burst included", count,
                  bytes_after_burst(count)));
    if (all > 0 && core > 0) {
        add_note(text("Code, -Os: %ld bytes of text with the file store, %ld without", all, core));
    } else {
        add_note("Code size: not measured (needs a C compiler and the program size)");
    }
}

/* ---- main ------------------------------------------------------------------------------------------------------- */

static const struct row {
    const char *name;
    void (*run)(void);
} rows[] = {
    {"step", row_step},   {"group", row_group}, {"cpu", row_cpu},   {"talk", row_talk},     {"approve", row_approve},
    {"start", row_start}, {"age", row_age},     {"scan", row_scan}, {"memory", row_memory},
};
enum {
    ROW_COUNT = sizeof rows / sizeof rows[0]
};

static int usage(const char *why)
{
    (void)fprintf(stderr, "bench: %s\nusage: bench [--quick] [--markdown] [--only ROW] [--list] [DIRECTORY]\n", why);
    return 2;
}

static void make_directory(void)
{
    static char resolved[4096];
    char *part, made[2048];
    put(made, sizeof made, bench.directory);
    for (part = made + 1; *part != 0; part++) {
        if (*part != '/') continue;
        *part = 0;
        (void)mkdir(made, 0700);
        *part = '/';
    }
    if (mkdir(made, 0700) != 0 && errno != EEXIST) broken(made, strerror(errno));
    if (realpath(made, resolved) == NULL) broken(made, strerror(errno));
    bench.directory = resolved;
}

int main(int count, char **arguments)
{
    const char *only = NULL;
    uint32_t i, ran = 0;
    pid_t spinner;
    bench.program = "/proc/self/exe";
    pagent_posix_host(&posix_host);
    if (count == 4 && strcmp(arguments[1], "--nothing") == 0) {
        uint64_t now = wall_ns();
        return write(1, &now, sizeof now) == (ssize_t)sizeof now ? 0 : 1;
    }
    if (count == 4 && strcmp(arguments[1], "--ready") == 0) {
        say_ready(arguments[2], arguments[3][0] == '1');
        _exit(0);
    }
    if (count == 4 && strcmp(arguments[1], "--pause") == 0) {
        pause_there(arguments[2], (uint32_t)strtoul(arguments[3], NULL, 10));
    }
    bench.directory = "build/bench.work";
    for (i = 1; i < (uint32_t)count; i++) {
        const char *argument = arguments[i];
        if (strcmp(argument, "--quick") == 0) {
            bench.quick = 1;
        } else if (strcmp(argument, "--markdown") == 0) {
            bench.markdown = 1;
        } else if (strcmp(argument, "--list") == 0) {
            for (i = 0; i < ROW_COUNT; i++) (void)puts(rows[i].name);
            return 0;
        } else if (strcmp(argument, "--only") == 0) {
            if (++i == (uint32_t)count) return usage("--only needs a row's name (--list shows them)");
            only = arguments[i];
        } else if (argument[0] == '-') {
            return usage(text("unknown option %s", argument));
        } else {
            bench.directory = argument;
        }
    }
    make_directory();
    fill_raw_bytes();
    describe_machine();
    spinner = hold_wakeups();
    raise_priority();
    for (i = 0; i < ROW_COUNT; i++) {
        if (only != NULL && strcmp(only, rows[i].name) != 0) continue;
        rows[i].run();
        ran++;
    }
    release_wakeups(spinner);
    if (ran == 0) return usage(text("no row is called %s (--list shows them)", only));
    print_table();
    if (!bench.quick) (void)printf("\n%u bars, %u missed\n", table.line_count, table.missed);
    if (bench.quick) (void)printf("\na quick run: everything works, nothing was judged\n");
    return 0;
}
