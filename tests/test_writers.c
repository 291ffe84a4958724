/* test_writers.c: up to three processes write to one directory at a time, each believing that it is the only one: row
   20 of the fault matrix. Whatever the order of their steps, and wherever one of them stands still in the middle of a
   step while the others go on: there is one chain, nothing that was acknowledged is lost, and who was overtaken is
   refused.

   Each writer is a thread, but only one runs at a time: it hands the baton back when its step is done, or at the call
   of the directory before which it is to stand still. So every schedule is repeated exactly.   [build: -pthread] */
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include "kit_store.h"

#include <pthread.h>

enum {
    SHARED = 0,
    PER_AGENT = 1,
    WRITERS = 3,
    STEPS = 4
};
#define WHOLE UINT64_MAX /* calls: until the step is done */

enum step {
    STEP_OPEN,  /* closes first what was open */
    STEP_WRITE, /* to stream 0 */
    STEP_OTHER, /* to stream 1 */
    STEP_BATCH, /* to both */
    STEP_SEAL,
    STEP_TRIM, /* a snapshot of both, then trim */
    STEPS_KNOWN
};

static const char *const step_names[] = {"open", "write", "other", "batch", "seal", "trim"};

typedef struct writer {
    sim_process process;
    sim_host host;
    pagent_dir dir;
    pagent_host callbacks;
    pagent_files *files;
    kit k;
    uint32_t done; /* steps */
    int busy;      /* in the middle of one */
    int what;      /* the step to do; -1: the thread ends */
    int result;    /* of the last step */
    pthread_t thread;
} writer;

static struct {
    sim_disk disk;
    writer writers[WRITERS + 1]; /* the last one comes afterwards and looks */
    pagent_file_options options;
    oracle facts; /* the one oracle, lent to whoever runs */
    uint32_t salt;
    uint32_t openings;
    int strict; /* steps are whole: nothing excuses a failed opening */
    char text[PAGENT_TEXT_SIZE];
} w;

/* ---- one step of one writer -------------------------------------------------------------------------------------- */

/* Where a stream ends, as this writer sees it, who may have been overtaken meanwhile. */
static int find_end(writer *it, kit_stream *stream)
{
    uint8_t buffer[16384];
    pagent_read request;
    pagent_io io;
    uint32_t at = 0;
    int result;
    memset(&request, 0, sizeof request);
    memset(&io, 0, sizeof io);
    request.op = 77;
    request.stream = stream->id;
    request.mode = PAGENT_READ_NEWEST;
    request.buffer = buffer;
    request.capacity = (uint32_t)sizeof buffer;
    result = it->k.store.read(it->k.store.ctx, &request, &io);
    stream->version = 0;
    stream->link = stream->based = 0;
    stream->epoch = 1;
    while (result == PAGENT_OK && io.count-- != 0) {
        stream->version = pai_get64(buffer + at + 24) - 1;
        stream->epoch = pai_get64(buffer + at + 32) + 1;
        stream->based = pai_get16(buffer + at + 58);
        kit_moved_on(&it->k, stream, buffer + at);
        at += 64u + pai_padded(pai_get32(buffer + at + 48));
    }
    stream->staged_from = 0;
    return result;
}

/* An opening writer goes on from what it reads. When steps are whole, that must be all that was acknowledged. */
static int look_around(writer *it)
{
    int result = PAGENT_OK;
    uint32_t s;
    for (s = 0; s < 2 && result == PAGENT_OK; s++) {
        result = find_end(it, &it->k.streams[s]);
        if (w.strict) (void)oracle_check(&it->k.facts, &it->k.store, it->k.streams[s].id, ORACLE_LOOK);
    }
    return result;
}

static int close_writer(writer *it)
{
    int result = it->files != NULL ? pagent_close_files(it->files) : PAGENT_OK;
    it->files = NULL;
    CHECK_EQ(it->host.memory.count, 0);
    CHECK_EQ(sim_open_handles(&w.disk, it->process.id), 0);
    return result;
}

static int open_writer(writer *it)
{
    char text[PAGENT_TEXT_SIZE] = "";
    int result;
    (void)close_writer(it);
    it->process.id += WRITERS + 1;
    it->host.random.state = test.seed + 1000u * ++w.openings;
    it->k.broken = 0;
    result = pagent_open_files(&it->files, &it->dir, &it->callbacks, &w.options, text);
    if (result != PAGENT_OK) {
        CHECK(it->files == NULL && text[0] != 0);
        it->k.broken = result;
        return result;
    }
    it->k.store = pagent_files_store(it->files);
    return look_around(it);
}

static int do_step(writer *it, int what)
{
    int result = PAGENT_OK;
    if (what == STEP_OPEN) return open_writer(it);
    if (it->files == NULL) return it->k.broken;
    switch (what) {
    case STEP_WRITE: return kit_write(&it->k, 0, 90, KIT_NOISE);
    case STEP_OTHER: return kit_write(&it->k, 1, 40, KIT_NOISE);
    case STEP_BATCH:
        result = kit_stage(&it->k, 0, 300, KIT_NOISE);
        if (result == PAGENT_STAGED) result = kit_stage(&it->k, 1, 20, KIT_ZEROS);
        return result == PAGENT_STAGED ? kit_flush(&it->k) : result;
    case STEP_SEAL: return kit_flush(&it->k);
    default:
        result = kit_snapshot(&it->k, 0, 500);
        if (result == PAGENT_OK) result = kit_snapshot(&it->k, 1, 500);
        return result == PAGENT_OK ? kit_trim(&it->k) : result;
    }
}

/* ---- the baton --------------------------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t passed;
    int holder; /* writer number; -1: the schedule */
} baton = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, -1};

static void pass_baton(int from, int to)
{
    (void)pthread_mutex_lock(&baton.mutex);
    baton.holder = to;
    (void)pthread_cond_broadcast(&baton.passed);
    while (from >= -1 && baton.holder != from) (void)pthread_cond_wait(&baton.passed, &baton.mutex);
    (void)pthread_mutex_unlock(&baton.mutex);
}

static void await_baton(int number)
{
    (void)pthread_mutex_lock(&baton.mutex);
    while (baton.holder != number) (void)pthread_cond_wait(&baton.passed, &baton.mutex);
    (void)pthread_mutex_unlock(&baton.mutex);
}

/* disk.meanwhile, in the thread of the writer that runs. */
static void stand_still(void *ctx)
{
    (void)ctx;
    pass_baton(baton.holder, -1);
}

static void *live(void *ctx)
{
    writer *it = (writer *)ctx;
    int number = (int)(it - w.writers);
    await_baton(number);
    while (it->what >= 0) {
        it->result = do_step(it, it->what);
        it->busy = 0;
        pass_baton(number, -1);
    }
    pass_baton(-2, -1); /* and does not wait */
    return NULL;
}

/* Writer `number` goes on with its step, or begins `what`, for so many calls of the directory. */
static void run(int number, int what, uint64_t calls)
{
    writer *it = &w.writers[number];
    it->k.facts = w.facts;
    it->k.facts.writer = (uint32_t)number + 1;
    it->k.salt = w.salt;
    w.disk.pause_at = calls == WHOLE ? UINT64_MAX : w.disk.calls + calls;
    if (!it->busy) it->what = what;
    if (test.verbose && test.at == test.only) {
        printf("   writer %d, %s, %lld calls\n", number, it->busy ? "goes on" : step_names[what], (long long)calls);
    }
    if (calls == WHOLE && !it->busy) {
        it->result = do_step(it, what); /* no thread is needed */
    } else {
        it->busy = 1;
        pass_baton(-1, number);
    }
    if (!it->busy) it->done++;
    if (test.verbose && test.at == test.only) {
        printf("   %s\n", it->busy ? "(stands still)" : pagent_result_name(it->result));
    }
    w.disk.pause_at = UINT64_MAX;
    w.facts = it->k.facts;
    w.salt = it->k.salt;
}

static void begin_threads(void)
{
    int i;
    for (i = 0; i < WRITERS; i++) {
        w.writers[i].busy = w.writers[i].what = 0;
        if (pthread_create(&w.writers[i].thread, NULL, live, &w.writers[i]) != 0) abort();
    }
}

static void end_threads(void)
{
    int i;
    for (i = 0; i < WRITERS; i++) {
        w.writers[i].what = -1;
        pass_baton(-1, i);
        (void)pthread_join(w.writers[i].thread, NULL);
    }
}

/* ---- one schedule ------------------------------------------------------------------------------------------------ */

static void begin_world(uint32_t mode, int strict)
{
    uint32_t i;
    sim_init_disk(&w.disk);
    w.disk.lock_broken = 1; /* everybody gets it: the lock is liveness, not safety */
    w.disk.meanwhile = stand_still;
    w.strict = strict;
    w.salt = w.openings = 0;
    memset(&w.options, 0, sizeof w.options);
    w.options.size = (uint32_t)sizeof w.options;
    w.options.log_per_agent = mode;
    w.options.segment_size = 2048;
    for (i = 0; i <= WRITERS; i++) {
        writer *it = &w.writers[i];
        sim_init_host(&it->host, test.seed + i);
        it->process.disk = &w.disk;
        it->process.id = (int)i + 1;
        it->dir = sim_dir(&it->process);
        it->callbacks = sim_host_of(&it->host);
        it->files = NULL;
        it->k.facts = w.facts;
        kit_reset(&it->k);
        w.facts = it->k.facts;
        it->done = 0;
        it->result = PAGENT_OK;
        it->k.broken = PAGENT_E_CLOSED;
    }
}

/* All steps are finished and all stores closed; then the power goes. Who comes afterwards finds one chain with all that
   was acknowledged, and goes on with it. */
static void end_world(void)
{
    uint32_t i, s, torn = 0;
    writer *last = &w.writers[WRITERS];
    for (i = 0; i < WRITERS; i++) {
        while (w.writers[i].busy) run((int)i, 0, WHOLE);
    }
    for (i = 0; i < WRITERS; i++) (void)close_writer(&w.writers[i]);
    sim_power_cut(&w.disk, SIM_LOSE, 1);
    CHECK_EQ(pagent_verify_files(&last->dir, &last->callbacks, NULL, NULL, &torn), PAGENT_OK);
    w.strict = 1;
    for (i = 0; i < 2; i++) {
        last->k.facts = w.facts;
        last->k.facts.writer = WRITERS + 1;
        last->k.salt = w.salt;
        CHECK_EQ(open_writer(last), PAGENT_OK);
        if (last->files == NULL) break;
        CHECK_EQ(kit_check(&last->k, ORACLE_STRICT), PAGENT_OK);
        for (s = 0; s < 2; s++) CHECK_EQ(kit_write(&last->k, s, 60, KIT_NOISE), PAGENT_OK);
        CHECK_EQ(kit_check(&last->k, ORACLE_STRICT), PAGENT_OK);
        CHECK_EQ(close_writer(last), PAGENT_OK);
        w.facts = last->k.facts;
        w.salt = last->k.salt;
    }
    for (i = 0; i <= WRITERS; i++) sim_release(&w.writers[i].host.memory);
    sim_free_disk(&w.disk);
}

/* The blocks of all schedules are in one table. */
static void free_world(void)
{
    uint32_t i;
    for (i = 0; i <= WRITERS; i++) {
        free(w.writers[i].k.block);
        free(w.writers[i].k.copy);
        memset(&w.writers[i], 0, sizeof w.writers[i]);
    }
    oracle_free(&w.facts);
}

/* ---- every order of whole steps ---------------------------------------------------------------------------------- */

/* The next order of the writers' steps, in the order of dictionaries; 0: that was the last. */
static int next_order(uint8_t *order, uint32_t count)
{
    uint32_t i = count - 1, j = count - 1;
    while (i != 0 && order[i - 1] >= order[i]) i--;
    if (i == 0) return 0;
    while (order[j] <= order[i - 1]) j--;
    {
        uint8_t kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
    for (j = count - 1; i < j; i++, j--) {
        uint8_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    return 1;
}

/* The writers do the same: of the orders that differ only in who is who, the one in which 0 comes before 1 before 2. */
static int is_first_of_its_kind(const uint8_t *order, uint32_t count)
{
    uint32_t i;
    uint8_t next = 0;
    for (i = 0; i < count; i++) {
        if (order[i] > next) return 0;
        if (order[i] == next) next++;
    }
    return 1;
}

/* One order of whole steps, with what each writer must be told. Overtaken: another writer's block was acknowledged
   since it looked: it is refused. Alone: nobody else has written since: it is not. */
static void run_order(const uint8_t *order, uint32_t mode)
{
    static const int steps[STEPS] = {STEP_OPEN, STEP_WRITE, STEP_SEAL, STEP_WRITE};
    uint32_t opened[WRITERS] = {0}, tried[WRITERS] = {0}, acked[WRITERS] = {0}, at, i;
    begin_world(mode, 1);
    for (at = 0; at < WRITERS * STEPS; at++) {
        int number = order[at], step = steps[w.writers[number].done], overtaken = 0, alone = 1, result;
        for (i = 0; i < WRITERS; i++) {
            if (i == (uint32_t)number) continue;
            if (acked[i] > opened[number]) overtaken = 1;
            if (tried[i] > opened[number]) alone = 0;
        }
        run(number, step, WHOLE);
        result = w.writers[number].result;
        if (step == STEP_OPEN) {
            CHECK_EQ(result, PAGENT_OK);
            opened[number] = at + 1;
        }
        if (step != STEP_WRITE) continue;
        tried[number] = at + 1;
        if (result == PAGENT_OK) acked[number] = at + 1;
        if (alone) CHECK_EQ(result, PAGENT_OK);
        if (overtaken) CHECK(result == PAGENT_E_FENCED || result == PAGENT_E_CONFLICT);
        CHECK(result == PAGENT_OK || result == PAGENT_E_FENCED || result == PAGENT_E_CONFLICT);
    }
    end_world();
}

TEST(each_order_of_steps)
{
    uint32_t mode, i;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        uint8_t order[WRITERS * STEPS];
        uint64_t id = mode;
        for (i = 0; i < sizeof order; i++) order[i] = (uint8_t)(i / STEPS);
        do {
            if (is_first_of_its_kind(order, sizeof order) && test_sweep(id)) run_order(order, mode);
            id += 2;
        } while (next_order(order, sizeof order));
    }
    free_world();
}

/* ---- in the middle of a step ------------------------------------------------------------------------------------- */

/* A, who has written, and B, who is taking over, stand still before each of their calls, and a third may come between;
   then they go on in either order. */
static void run_pauses(uint32_t mode, uint32_t how, uint64_t first, uint64_t second)
{
    int late = (how & 1u) != 0 ? STEP_OTHER : STEP_WRITE;
    begin_world(mode, 0);
    run(0, STEP_OPEN, WHOLE);
    run(0, STEP_BATCH, WHOLE);
    run(1, STEP_OPEN, WHOLE);
    run(1, STEP_WRITE, first);
    run(0, late, second);
    if (how & 4u) run(2, STEP_OPEN, WHOLE);
    if (how & 4u) run(2, STEP_WRITE, WHOLE);
    run((how & 2u) != 0, STEP_OTHER, WHOLE);
    run((how & 2u) == 0, STEP_OTHER, WHOLE);
    run(0, STEP_WRITE, WHOLE);
    run(1, STEP_WRITE, WHOLE);
    end_world();
}

TEST(each_pair_of_pauses)
{
    uint32_t mode, how;
    uint64_t first, second;
    begin_threads();
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (how = 0; how < 8; how++) {
            for (first = 0; first < 26; first++) {
                for (second = 0; second < 12; second++) {
                    if (test_sweep(((first * 12 + second) * 8 + how) * 2 + mode)) run_pauses(mode, how, first, second);
                }
            }
        }
    }
    end_threads();
    free_world();
}

/* Any steps, in any order, with any pauses. (Nothing is trimmed with a log per agent: who has not seen an agent cannot
   know there that the first segment that he makes for it was there before, and trimmed.) */
TEST(any_schedule)
{
    uint64_t round, rounds = test_effort(3000);
    begin_threads();
    for (round = 0; round < rounds; round++) {
        sim_random random;
        uint32_t turns, mode;
        if (!test_case(round)) continue;
        random.state = test.seed * 8191u + round;
        mode = (uint32_t)sim_coin(&random);
        begin_world(mode, 0);
        for (turns = 0; turns < 40; turns++) {
            int number = (int)sim_below(&random, WRITERS);
            writer *it = &w.writers[number];
            int what = it->done == 0 ? STEP_OPEN : (int)sim_below(&random, mode == SHARED ? STEPS_KNOWN : STEP_TRIM);
            uint64_t calls = sim_coin(&random) ? WHOLE : sim_below(&random, 40);
            if (it->done >= STEPS && !it->busy) continue;
            run(number, what, calls);
        }
        end_world();
    }
    end_threads();
    free_world();
}

TEST_MAIN(ROW(each_order_of_steps), ROW(each_pair_of_pauses), ROW(any_schedule))
