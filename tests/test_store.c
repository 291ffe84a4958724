/* test_store.c: the file store against a simulated disk that may fail in every way: journal.md's fault matrix, for the
   shared log and for one log per agent. Blocks are synthetic (kit_store.h); the oracle says what must be there. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include "kit_store.h"

/* ---- the world ------------------------------------------------------------------------------------------------ */

enum {
    SHARED = 0,
    PER_AGENT = 1,
    CRASHED = 9999
};

typedef struct world {
    sim_disk disk;
    sim_host host;
    sim_process process;
    pagent_dir dir;
    pagent_host callbacks;
    pagent_file_options options;
    pagent_files *files;
    kit k;
    uint64_t seed;
    uint32_t openings;
    int stubborn;     /* a refused append is tried again */
    int refused;      /* the last refusal that was tried again */
    uint32_t reports; /* of on_discard */
    uint32_t damage;  /* the last one's */
    int32_t repair_bit;
    uint64_t damage_offset, damage_bytes, damage_size;
    uint32_t messages; /* sent to the inbox with OK */
    char text[PAGENT_TEXT_SIZE];
} world;

static world w;

static void on_discard(void *ctx, const pagent_damage_report *report)
{
    world *it = (world *)ctx;
    it->reports++;
    it->damage = report->damage;
    it->repair_bit = report->repair_bit;
    it->damage_offset = report->offset;
    it->damage_bytes = report->bytes.size;
    it->damage_size = report->size;
    CHECK(report->file != NULL && report->text[0] != 0);
}

static void world_begin(uint32_t log_per_agent, uint64_t seed)
{
    sim_free_disk(&w.disk);
    sim_init_disk(&w.disk);
    sim_init_host(&w.host, seed);
    kit_reset(&w.k);
    memset(&w.options, 0, sizeof w.options);
    w.options.size = (uint32_t)sizeof w.options;
    w.options.log_per_agent = log_per_agent;
    w.options.segment_size = 4096;
    w.options.on_discard = on_discard;
    w.options.ctx = &w;
    w.process.disk = &w.disk;
    w.process.id = 1;
    w.dir = sim_dir(&w.process);
    w.callbacks = sim_host_of(&w.host);
    w.files = NULL;
    w.seed = seed;
    w.openings = 0;
    w.stubborn = w.refused = 0;
    w.reports = w.damage = 0;
    w.messages = 0;
    w.text[0] = 0;
}

static void world_end(void)
{
    sim_release(&w.host.memory);
    sim_free_disk(&w.disk);
    kit_free(&w.k);
}

/* A new process opens the directory. */
static int world_open(void)
{
    int result;
    w.process.id++;
    w.host.random.state = w.seed + 1000u * ++w.openings;
    w.text[0] = 0;
    w.files = NULL;
    result = pagent_open_files(&w.files, &w.dir, &w.callbacks, &w.options, w.text);
    if (result != PAGENT_OK) {
        CHECK(w.files == NULL);
        if (w.text[0] == 0) FAIL("opening fails with %s and says nothing", pagent_result_name(result));
        CHECK_EQ(sim_open_handles(&w.disk, w.process.id), 0);
        CHECK_EQ(w.host.memory.count, 0);
        return result;
    }
    w.k.store = pagent_files_store(w.files);
    kit_claim(&w.k);
    return result;
}

/* Closes in good order: nothing stays open or allocated, whatever happened before. */
static int world_close(void)
{
    int result = w.files != NULL ? pagent_close_files(w.files) : PAGENT_OK;
    w.files = NULL;
    CHECK_EQ(sim_open_handles(&w.disk, w.process.id), 0);
    CHECK_EQ(w.host.memory.count, 0);
    CHECK(w.disk.lock_broken || w.disk.lock_owner != w.process.id);
    return result;
}

#define TRY(expression)                                                                                                \
    do {                                                                                                               \
        int try_result = (expression);                                                                                 \
        if (try_result != PAGENT_OK) return try_result;                                                                \
    } while (0)

static int put(uint32_t s, uint32_t size, int payload)
{
    int result = kit_write(&w.k, s, size, payload), tries;
    for (tries = 0; w.stubborn && kit_is_refusal(result) && tries < 3; tries++) {
        w.refused = result;
        result = kit_write(&w.k, s, size, payload);
    }
    return result;
}

static int stage(uint32_t s, uint32_t size, int payload)
{
    int result = kit_stage(&w.k, s, size, payload);
    return result == PAGENT_STAGED ? PAGENT_OK : result;
}

/* ---- scenarios: written once, run under every fault ------------------------------------------------------------ */

static int run_create(void)
{
    TRY(world_open());
    TRY(put(0, 40, KIT_NOISE));
    TRY(put(1, 900, KIT_ZEROS));
    return world_close();
}

static int run_append(void)
{
    TRY(world_open());
    TRY(put(0, 40, KIT_NOISE));
    TRY(put(0, 8, KIT_NOISE));
    TRY(put(0, 700, KIT_JOURNAL));
    TRY(put(0, 1500, KIT_ZEROS));
    TRY(put(0, 0, KIT_NOISE));
    TRY(put(0, 300, KIT_ONES));
    return world_close();
}

static int run_batch(void)
{
    uint32_t s, round;
    TRY(world_open());
    for (round = 0; round < 3; round++) {
        for (s = 0; s < KIT_STREAMS; s++) TRY(stage(s, 60 + 150 * s * round, (int)((s + round) % 4)));
        TRY(kit_flush(&w.k));
    }
    return world_close();
}

static int run_rotate(void)
{
    uint32_t i;
    TRY(world_open());
    for (i = 0; i < 12; i++) {
        TRY(put(i % 2, 800, KIT_NOISE));
        if (i % 3 == 2) TRY(kit_snapshot(&w.k, i % 2, 500));
    }
    return world_close();
}

static int run_claim(void)
{
    uint32_t i;
    for (i = 0; i < 4; i++) {
        TRY(world_open());
        TRY(put(0, 100, KIT_NOISE));
        if (i != 2) TRY(put(1, 100, KIT_ZEROS));
        TRY(world_close());
    }
    return PAGENT_OK;
}

static int run_trim(void)
{
    uint32_t i;
    TRY(world_open());
    for (i = 0; i < 12; i++) {
        TRY(put(i % 2, 800, KIT_NOISE));
        if (i % 4 == 3) {
            TRY(kit_snapshot(&w.k, 0, 300));
            TRY(kit_snapshot(&w.k, 1, 300));
        }
        if (i == 6 || i == 11) TRY(kit_trim(&w.k));
    }
    TRY(put(0, 100, KIT_NOISE));
    return world_close();
}

static int run_close(void)
{
    TRY(world_open());
    TRY(put(0, 100, KIT_NOISE));
    TRY(kit_flush(&w.k)); /* nothing staged: idle */
    TRY(kit_flush(&w.k));
    TRY(put(0, 100, KIT_NOISE));
    TRY(put(1, 100, KIT_NOISE));
    TRY(kit_flush(&w.k));
    TRY(world_close());
    TRY(world_open());
    TRY(world_close()); /* nothing done */
    TRY(world_open());
    TRY(kit_flush(&w.k));
    TRY(put(1, 100, KIT_NOISE));
    return world_close();
}

static int run_sleep(void) /* logs of agents leave memory, sealed or not, and come back */
{
    uint32_t i;
    TRY(world_open());
    for (i = 0; i < 9; i++) {
        TRY(put(i % 2, 800, KIT_NOISE));
        if (i % 3 != 1) pai_drop_logs(w.files);
        if (i == 4 || i == 8) TRY(kit_flush(&w.k)); /* idle */
        if (i == 6) TRY(kit_snapshot(&w.k, 0, 500));
    }
    TRY(put(1, 100, KIT_NOISE));
    pai_drop_logs(w.files);
    return world_close();
}

typedef int (*scenario)(void);
static const scenario scenarios[] = {run_create, run_append, run_batch, run_rotate,
                                     run_claim,  run_trim,   run_close, run_sleep};
enum {
    SCENARIOS = sizeof scenarios / sizeof scenarios[0]
};

/* Runs it on an empty disk; returns its result, or CRASHED when the armed cut ended it. */
static int world_run(scenario run, uint64_t cut)
{
    int result;
    w.disk.cut = cut;
    result = sim_live(run, CRASHED);
    w.disk.cut = UINT64_MAX;
    if (result == CRASHED) {
        sim_release(&w.host.memory);
        w.files = NULL;
    }
    return result;
}

/* How many calls the scenario makes when nothing goes wrong. */
static uint64_t world_count(scenario run, uint32_t mode)
{
    uint64_t calls;
    int result;
    test.at = TEST_ANY_CASE;
    world_begin(mode, test.seed);
    result = world_run(run, UINT64_MAX);
    if (result != PAGENT_OK) FAIL("without a fault: %s (%s)", pagent_result_name(result), w.text);
    calls = w.disk.calls;
    world_end();
    return result == PAGENT_OK ? calls : 0;
}

/* After any crash: verify, open, compare; append to every stream, close, open again, compare. Returns OK, or the error
   that stopped it (only where `allow` has ORACLE_ERRORS). */
static int world_recover(int allow)
{
    uint32_t s, torn = 0;
    uint64_t written;
    int result;
    sim_disarm(&w.disk);
    sim_release(&w.host.memory);
    w.process.id++;
    written = w.disk.bytes_written + w.disk.count[SIM_CREATE] + w.disk.count[SIM_REMOVE] + w.disk.count[SIM_TRUNCATE];
    result = pagent_verify_files(&w.dir, &w.callbacks, NULL, NULL, &torn);
    if (result != PAGENT_OK && !(allow & ORACLE_ERRORS)) FAIL("verify: %s", pagent_result_name(result));
    CHECK_EQ(w.disk.bytes_written + w.disk.count[SIM_CREATE] + w.disk.count[SIM_REMOVE] + w.disk.count[SIM_TRUNCATE],
             written);
    CHECK_EQ(sim_open_handles(&w.disk, w.process.id), 0);
    result = world_open();
    if (result == PAGENT_OK) result = kit_check(&w.k, allow);
    if (result != PAGENT_OK) {
        if (!(allow & ORACLE_ERRORS)) FAIL("recovery: %s (%s)", pagent_result_name(result), w.text);
        if (w.files != NULL) (void)world_close();
        return result;
    }
    kit_claim(&w.k);
    for (s = 0; s < KIT_STREAMS; s++) CHECK_EQ(kit_write(&w.k, s, 90, KIT_NOISE), PAGENT_OK);
    (void)kit_check(&w.k, ORACLE_STRICT);
    CHECK_EQ(world_close(), PAGENT_OK);
    result = world_open();
    if (!CHECK_EQ(result, PAGENT_OK)) return result;
    (void)kit_check(&w.k, ORACLE_STRICT);
    CHECK_EQ(world_close(), PAGENT_OK);
    return PAGENT_OK;
}

/* Opens, looks, and dies: what was shown must be durable by then. */
static void world_glance(int allow)
{
    sim_disarm(&w.disk);
    if (world_open() == PAGENT_OK) (void)kit_check(&w.k, allow);
    sim_release(&w.host.memory);
    w.files = NULL;
}

/* ---- rows 1, 3, 4: every cut, every kind of crash --------------------------------------------------------------- */

static void sweep_crashes(scenario run)
{
    uint32_t mode, crash, again, agains = (uint32_t)test_effort(2);
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        uint64_t calls = world_count(run, mode), cut;
        for (cut = 0; cut < 2 * calls; cut++) {
            for (crash = 0; crash < SIM_CRASHES * agains; crash++) {
                uint64_t id = (cut * 2 + mode) * 1000 + crash;
                int kind = (int)(crash % SIM_CRASHES), allow = sim_crash_is_clean(kind) ? ORACLE_STRICT : ORACLE_ERRORS;
                again = crash / SIM_CRASHES;
                if (!test_sweep(id)) continue;
                world_begin(mode, test.seed + again);
                CHECK_EQ(world_run(run, cut), CRASHED);
                sim_power_cut(&w.disk, kind, test.seed * 7919u + id);
                if (kind == SIM_KILL || (again & 1u)) {
                    world_glance(allow);
                    sim_power_cut(&w.disk, SIM_LOSE, id);
                }
                (void)world_recover(allow);
                world_end();
            }
        }
    }
}

TEST(crash_create)
{
    sweep_crashes(run_create);
}
TEST(crash_append)
{
    sweep_crashes(run_append);
}
TEST(crash_batch)
{
    sweep_crashes(run_batch);
}
TEST(crash_rotate)
{
    sweep_crashes(run_rotate);
}
TEST(crash_claim)
{
    sweep_crashes(run_claim);
}
TEST(crash_trim)
{
    sweep_crashes(run_trim);
}
TEST(crash_close)
{
    sweep_crashes(run_close);
}
TEST(crash_sleep)
{
    sweep_crashes(run_sleep);
}

/* Each line alone of what a batch had written when the power went: what stands behind it does not make it damage. */
TEST(each_line_of_a_batch_lost)
{
    uint32_t mode;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        uint64_t calls = world_count(run_batch, mode), cut, line;
        int more = 1;
        for (cut = 0; cut < 2 * calls; cut++) {
            for (line = 0, more = 1; more && line < 1000; line++) {
                uint64_t id = (cut * 2 + mode) * 1000 + line;
                if (!test_case(id)) continue;
                world_begin(mode, test.seed);
                CHECK_EQ(world_run(run_batch, cut), CRASHED);
                more = sim_power_cut_but_line(&w.disk, line);
                if (more) (void)world_recover(ORACLE_STRICT);
                world_end();
            }
        }
    }
}

/* Row 2: a crash, another within its recovery, another within the recovery of that. */
static void crash_thrice(scenario run, uint32_t mode, uint64_t first, uint64_t second, uint64_t seed)
{
    sim_random random;
    uint32_t round;
    random.state = seed;
    world_begin(mode, test.seed);
    CHECK_EQ(world_run(run, first), CRASHED);
    for (round = 0; round < 2; round++) {
        sim_power_cut(&w.disk, (int)(sim_next(&random) % SIM_BYTES), sim_next(&random));
        sim_restart_count(&w.disk);
        sim_disarm(&w.disk);
        if (world_run(world_open, round == 0 ? second : sim_below(&random, 2 * second + 1)) == CRASHED) continue;
        if (w.files == NULL) FAIL("recovery: %s", w.text);
        else (void)kit_check(&w.k, ORACLE_STRICT);
        sim_release(&w.host.memory);
        w.files = NULL;
    }
    sim_power_cut(&w.disk, (int)(sim_next(&random) % SIM_BYTES), sim_next(&random));
    (void)world_recover(ORACLE_STRICT);
    world_end();
}

TEST(crash_in_recovery)
{
    uint64_t rounds = test_effort(30), round, second;
    uint32_t mode, which;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (which = 0; which < SCENARIOS; which++) {
            uint64_t calls = world_count(scenarios[which], mode);
            for (round = 0; calls != 0 && round < rounds; round++) {
                uint64_t id = ((round * SCENARIOS + which) * 2 + mode) * 1000, first, recovery;
                first = pai_mix(test.seed * 31u + id) % (2 * calls);
                test.at = TEST_ANY_CASE;
                world_begin(mode, test.seed); /* how many calls the recovery makes */
                CHECK_EQ(world_run(scenarios[which], first), CRASHED);
                sim_power_cut(&w.disk, SIM_KEEP, id);
                sim_restart_count(&w.disk);
                sim_disarm(&w.disk);
                CHECK_EQ(world_open(), PAGENT_OK);
                recovery = w.disk.calls;
                world_end();
                for (second = 0; second < 2 * recovery && second < 1000; second++) {
                    if (test_case(id + second))
                        crash_thrice(scenarios[which], mode, first, second, test.seed * 131u + id + second);
                }
            }
        }
    }
}

/* ---- damage to a journal at rest -------------------------------------------------------------------------------- */

static sim_disk golden;     /* an intact directory */
static oracle golden_facts; /* and what is in it */

static void facts_copy(oracle *to, const oracle *from)
{
    free(to->blocks);
    *to = *from;
    to->blocks = (oracle_block *)malloc(from->room * sizeof(oracle_block));
    if (to->blocks == NULL) abort();
    memcpy(to->blocks, from->blocks, from->count * sizeof(oracle_block));
}

/* The process is killed; what it leaves is kept, to be damaged. */
static void golden_keep(void)
{
    sim_release(&w.host.memory);
    sim_power_cut(&w.disk, SIM_KEEP, 1);
    sim_copy_disk(&golden, &w.disk);
    facts_copy(&golden_facts, &w.k.facts);
    world_end();
}

/* Three streams, twelve blocks; sealed by closing, or left as a killed process leaves it. */
static void golden_make(uint32_t mode, int sealed)
{
    uint32_t i;
    world_begin(mode, test.seed);
    w.options.segment_size = 1 << 20;
    CHECK_EQ(world_open(), PAGENT_OK);
    for (i = 0; i < 11; i++) CHECK_EQ(kit_write(&w.k, i % 3, 40 + 90 * (i % 4), (int)(i % 4)), PAGENT_OK);
    CHECK_EQ(kit_snapshot(&w.k, 0, 200), PAGENT_OK);
    if (sealed) CHECK_EQ(world_close(), PAGENT_OK);
    golden_keep();
}

static void golden_load(uint32_t mode)
{
    world_begin(mode, test.seed + 1);
    sim_copy_disk(&w.disk, &golden);
    facts_copy(&w.k.facts, &golden_facts);
    w.options.segment_size = 1 << 20;
    w.openings = 100;
}

static void golden_free(void)
{
    sim_free_disk(&golden);
    oracle_free(&golden_facts);
}

/* Journal files of the golden directory: index among its names, or -1 after the last. */
static int golden_file(uint32_t number)
{
    uint32_t i;
    for (i = 0; i < golden.durable.count; i++) {
        const sim_bytes *bytes = &golden.files[golden.durable.items[i].file].durable;
        if (bytes->size < 128 || pai_get32(bytes->data) != SIM_MAGIC) continue;
        if (number-- == 0) return (int)i;
    }
    return -1;
}

/* Of the block at `at`, with its header. */
static size_t block_size(const sim_bytes *bytes, size_t at)
{
    return 64 + (size_t)pai_padded(pai_get32(bytes->data + at + 48));
}

/* Where the blocks of a file end: what follows is preallocated zeros. *last: where the last block begins. */
static size_t golden_end(const sim_bytes *bytes, size_t *last)
{
    size_t at = 0;
    *last = 0;
    while (at + 128 <= bytes->size && pai_get32(bytes->data + at) == SIM_MAGIC) {
        *last = at;
        at += block_size(bytes, at);
    }
    return at;
}

/* Does a block begin here? */
static int golden_begins(const sim_bytes *bytes, size_t offset)
{
    size_t at = 0;
    while (at < offset) at += block_size(bytes, at);
    return at == offset;
}

static sim_bytes *loaded(int file)
{
    return &w.disk.files[file].durable;
}

static void loaded_touch(int file)
{
    sim_copy_bytes(&w.disk.files[file].now, &w.disk.files[file].durable);
}

/* What a damaged directory may do: say so, or (where the damage does not show) be complete. Never anything wrong.
   With ORACLE_TAIL it may also look like the log's earlier end. `verify` must have said so if `must_tell`. */
static void expect_honest(int allow, int must_tell)
{
    uint32_t torn = 0;
    int verified = pagent_verify_files(&w.dir, &w.callbacks, NULL, NULL, &torn), opened;
    if (must_tell && verified == PAGENT_OK) FAIL("verify does not see the damage");
    opened = world_open();
    if (opened == PAGENT_OK) {
        if (kit_check(&w.k, allow | ORACLE_ERRORS) == PAGENT_OK) {
            kit_claim(&w.k);
            CHECK_EQ(kit_write(&w.k, 0, 50, KIT_NOISE), PAGENT_OK);
            (void)kit_check(&w.k, ORACLE_STRICT);
        }
        (void)world_close();
    }
}

/* Runs `each` for every journal file of an intact directory: of both kinds of store, sealed and not. `last`: where its
   last block begins; `end`: where that ends; *id: of the next case. */
typedef void (*damage_one)(uint32_t mode, int name, size_t last, size_t end, uint64_t *id);

static void damage_each_file(damage_one each)
{
    uint32_t mode, sealed, number;
    uint64_t id = 0;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (sealed = 0; sealed < 2; sealed++) {
            int name;
            golden_make(mode, (int)sealed);
            for (number = 0; (name = golden_file(number)) >= 0; number++) {
                size_t last, end = golden_end(&golden.files[golden.durable.items[name].file].durable, &last);
                each(mode, name, last, end, &id);
            }
            golden_free();
        }
    }
}

static void golden_load_flipped(uint32_t mode, int name, size_t bit)
{
    golden_load(mode);
    loaded(name)->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    loaded_touch(name);
}

static void flip_bits_of(uint32_t mode, int name, size_t last, size_t end, uint64_t *id)
{
    size_t bit;
    for (bit = 0; bit < end * 8; bit++, ++*id) {
        if (!test_sweep(*id)) continue;
        golden_load_flipped(mode, name, bit);
        expect_honest(ORACLE_STRICT, 1);
        if (bit / 8 >= last) { /* the last block: suspect; the report knows the bit; the caller may decide to cut */
            sim_release(&w.host.memory);
            golden_load_flipped(mode, name, bit);
            CHECK_EQ(world_open(), mode == SHARED ? PAGENT_E_SUSPECT : PAGENT_OK);
            (void)world_close();
            CHECK_EQ(w.damage, PAGENT_DAMAGE_SUSPECT);
            CHECK_EQ((uint64_t)w.repair_bit + w.damage_offset * 8, bit);
            w.options.truncate_suspect = 1;
            CHECK_EQ(world_open(), PAGENT_OK);
            (void)kit_check(&w.k, ORACLE_TAIL);
            (void)world_close();
        }
        world_end();
    }
}

/* Row 8: every bit of every block. */
TEST(flip_each_bit)
{
    damage_each_file(flip_bits_of);
}

static uint64_t id_of(uint32_t s)
{
    char name[16];
    snprintf(name, sizeof name, "agent-%u", (unsigned)s);
    return pai_hash_text(name);
}

static const char *segment_of(uint32_t s, uint32_t number)
{
    static char name[32];
    snprintf(name, sizeof name, "%016llx.%08u", (unsigned long long)id_of(s), (unsigned)number);
    return name;
}

/* The flags that the store lists for a stream. */
static uint32_t flags_of(uint64_t stream)
{
    pagent_summary items[8];
    pagent_list request;
    pagent_io io;
    uint32_t i;
    memset(&request, 0, sizeof request);
    memset(&io, 0, sizeof io);
    request.op = 1;
    request.items = items;
    request.capacity = 8;
    CHECK_EQ(w.k.store.list(w.k.store.ctx, &request, &io), PAGENT_OK);
    for (i = 0; i < io.count && items[i].stream != stream; i++) continue;
    return CHECK(i < io.count) ? items[i].flags : 0;
}

static int read_newest(uint64_t stream)
{
    uint8_t buffer[16384];
    pagent_read request;
    pagent_io io;
    memset(&request, 0, sizeof request);
    memset(&io, 0, sizeof io);
    request.op = 1;
    request.stream = stream;
    request.mode = PAGENT_READ_NEWEST;
    request.buffer = buffer;
    request.capacity = sizeof buffer;
    return w.k.store.read(w.k.store.ctx, &request, &io);
}

/* Damage in stream number `hit` stops that one, unless it does not need what is damaged: the others go on, in this
   opening and in the next, and what the damaged one has is never trimmed. */
static void expect_contained(uint32_t hit, int superseded)
{
    uint64_t stream = w.k.streams[hit].id;
    uint32_t s, round;
    for (round = 0; round < 2; round++) {
        if (!CHECK_EQ(world_open(), PAGENT_OK)) return;
        CHECK(round != 0 || w.reports != 0);
        for (s = 0; s < 3; s++) {
            if (s == hit && !superseded) continue;
            if (s == hit) w.k.streams[s].version = 5;
            if (s != hit) CHECK_EQ(kit_check_stream(&w.k, s, ORACLE_STRICT), PAGENT_OK);
            if (s != hit) CHECK_EQ(kit_write(&w.k, s, 50, KIT_NOISE), PAGENT_OK);
        }
        CHECK_EQ(flags_of(stream) & PAGENT_IS_DAMAGED, superseded ? 0 : PAGENT_IS_DAMAGED);
        CHECK_EQ(read_newest(stream), superseded ? PAGENT_OK : PAGENT_E_CORRUPT);
        if (!superseded) CHECK_EQ(kit_write(&w.k, hit, 50, KIT_NOISE), PAGENT_E_CORRUPT);
        w.k.broken = 0;
        CHECK_EQ(kit_trim(&w.k), PAGENT_OK);
        if (!superseded) CHECK_EQ(read_newest(stream), PAGENT_E_CORRUPT);
        CHECK_EQ(world_close(), PAGENT_OK);
    }
}

/* Damage is contained: in a shared log where the framing can be read, in a log of its own always. */
TEST(damage_stops_one_agent)
{
    uint32_t mode, sealed, number, s;
    uint64_t id = 0;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (sealed = 0; sealed < 2; sealed++) {
            int name;
            golden_make(mode, (int)sealed);
            for (number = 0; (name = golden_file(number)) >= 0; number++) {
                const sim_bytes *bytes = &golden.files[golden.durable.items[name].file].durable;
                size_t last, end = golden_end(bytes, &last), block, size, at;
                for (block = 0; block < end; block += size) {
                    uint64_t stream = pai_get64(bytes->data + block + 16);
                    size = 64 + (size_t)pai_padded(pai_get32(bytes->data + block + 48));
                    if (mode == PER_AGENT) stream = pai_get64(bytes->data + 64 + 32 + 8 + 56);
                    for (s = 0; s < 3 && id_of(s) != stream; s++) continue;
                    if (s == 3 || (mode == SHARED && block == last)) continue;
                    for (at = mode == SHARED ? 64 : 0; at < size; at += 5, id++) {
                        if (!test_sweep(id)) continue;
                        golden_load(mode);
                        loaded(name)->data[block + at] ^= (uint8_t)(1u << at % 8);
                        loaded_touch(name);
                        expect_contained(s, at >= 64 && s == 0 && block != 0 && block != last &&
                                                pai_get64(bytes->data + block + 24) < 5);
                        world_end();
                    }
                }
            }
            golden_free();
        }
    }
}

/* What a damaged agent still has, a trim leaves alone. */
TEST(damage_keeps_history)
{
    char name[32];
    uint32_t i, number = 0;
    size_t at = 0;
    int file = -1, found;
    world_begin(SHARED, test.seed);
    w.options.segment_size = 1024;
    CHECK_EQ(world_open(), PAGENT_OK);
    for (i = 0; i < 60; i++) {
        CHECK_EQ(i % 6 < 3 ? kit_snapshot(&w.k, i % 3, 200) : kit_write(&w.k, i % 3, 200, KIT_NOISE), PAGENT_OK);
    }
    CHECK_EQ(kit_write(&w.k, 1, 200, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(world_close(), PAGENT_OK);
    do {
        snprintf(name, sizeof name, "log.%08u", (unsigned)++number);
        found = sim_find(&w.disk.durable, name);
        if (found >= 0) file = w.disk.durable.items[found].file;
    } while (found >= 0);
    if (!CHECK(number > 4)) return;
    while (pai_get64(w.disk.files[file].durable.data + at + 16) == 0) {
        at += 64 + (size_t)pai_padded(pai_get32(w.disk.files[file].durable.data + at + 48));
    }
    w.disk.files[file].durable.data[at + 200] ^= 4; /* in the newest segment's first block of an agent */
    sim_copy_bytes(&w.disk.files[file].now, &w.disk.files[file].durable);
    CHECK_EQ(world_open(), PAGENT_OK);
    CHECK(flags_of(pai_get64(w.disk.files[file].durable.data + at + 16)) & PAGENT_IS_DAMAGED);
    CHECK_EQ(kit_write(&w.k, 0, 50, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(kit_trim(&w.k), PAGENT_OK);
    CHECK_EQ(w.dir.exists(w.dir.ctx, "log.00000001"), 1);
    CHECK_EQ(world_close(), PAGENT_OK);
    world_end();
}

enum {
    SLEEPER_FLIPS = 30,
    SLEEPER_DAMAGES = SLEEPER_FLIPS + 2
};

/* The last block of agent 0, at `at`: a bit flipped, a line zeroed, or all of it. */
static void damage_sleeper(sim_bytes *bytes, size_t at, uint32_t how)
{
    size_t size = block_size(bytes, at);
    if (how < SLEEPER_FLIPS) bytes->data[at + (how * 37u) % size] ^= (uint8_t)(1u << how % 8);
    else if (how == SLEEPER_FLIPS) memset(bytes->data + at + 128, 0, 64);
    else memset(bytes->data + at, 0, size);
}

/* While an agent's log is out of memory its last block goes bad, sealed or not. Whatever loads the log again (an
   append, the seal of an idle store, a look at old history) stops the agent, which is not told of a conflict; nothing
   is written to that log any more, and the others go on. */
static void damage_while_asleep(uint32_t sealed, uint32_t how, uint32_t what)
{
    uint8_t buffer[4096];
    pagent_io io;
    sim_bytes kept;
    size_t last = 0;
    int file;
    uint32_t i;
    world_begin(PER_AGENT, test.seed);
    w.options.segment_size = 1 << 20;
    CHECK_EQ(world_open(), PAGENT_OK);
    for (i = 0; i < 4; i++) CHECK_EQ(kit_write(&w.k, i % 2, 200, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(kit_snapshot(&w.k, 0, 100), PAGENT_OK);
    CHECK_EQ(kit_write(&w.k, 0, 300, KIT_NOISE), PAGENT_OK);
    if (sealed) CHECK_EQ(kit_flush(&w.k), PAGENT_OK);
    pai_drop_logs(w.files);
    file = w.disk.durable.items[sim_find(&w.disk.durable, segment_of(0, 1))].file;
    while (pai_get64(loaded(file)->data + last + 24) != 4) last += block_size(loaded(file), last);
    damage_sleeper(loaded(file), last, how);
    loaded_touch(file);
    memset(&kept, 0, sizeof kept);
    sim_copy_bytes(&kept, loaded(file));
    if (what == 1) CHECK_EQ(kit_flush(&w.k), PAGENT_OK);
    if (what == 2) (void)kit_read(&w.k, PAGENT_READ_BASE, 1, buffer, sizeof buffer, &io);
    for (i = 0; i < 2; i++) {
        CHECK_EQ(kit_write(&w.k, 0, 50, KIT_NOISE), PAGENT_E_CORRUPT);
        w.k.broken = 0;
        CHECK_EQ(read_newest(id_of(0)), PAGENT_E_CORRUPT);
        CHECK_EQ(kit_write(&w.k, 1, 50, KIT_NOISE), PAGENT_OK);
        pai_drop_logs(w.files);
        (void)kit_read(&w.k, PAGENT_READ_BASE, 1, buffer, sizeof buffer, &io);
    }
    CHECK_EQ(kit_check_stream(&w.k, 1, ORACLE_STRICT), PAGENT_OK);
    CHECK_EQ(world_close(), PAGENT_OK);
    CHECK(w.reports != 0 && sim_find(&w.disk.durable, segment_of(0, 2)) < 0);
    CHECK(kept.size == w.disk.files[file].now.size && memcmp(kept.data, w.disk.files[file].now.data, kept.size) == 0);
    free(kept.data);
    world_end();
}

TEST(damage_stops_a_sleeper)
{
    uint32_t sealed, how, what;
    uint64_t id = 0;
    for (sealed = 0; sealed < 2; sealed++) {
        for (how = 0; how < SLEEPER_DAMAGES; how++) {
            for (what = 0; what < 3; what++) {
                if (test_case(id++)) damage_while_asleep(sealed, how, what);
            }
        }
    }
}

/* The segments of one agent's log are not all there: that agent stops. */
TEST(missing_segment_stops_one_agent)
{
    uint32_t s, i;
    for (s = 0; s < 3; s++) {
        world_begin(PER_AGENT, test.seed + s);
        w.options.segment_size = 1024;
        CHECK_EQ(world_open(), PAGENT_OK);
        for (i = 0; i < 48; i++) {
            CHECK_EQ(i % 12 >= 9 ? kit_snapshot(&w.k, i % 3, 500) : kit_write(&w.k, i % 3, 500, KIT_NOISE), PAGENT_OK);
        }
        CHECK_EQ(world_close(), PAGENT_OK);
        CHECK_EQ(w.dir.remove(w.dir.ctx, segment_of(s, 2)), PAGENT_OK);
        CHECK_EQ(w.dir.sync_dir(w.dir.ctx, ""), PAGENT_OK);
        w.reports = 0;
        expect_contained(s, 0);
        world_end();
    }
}

/* ---- a directory that is read while somebody rotates and trims */

static struct {
    const char *left_out; /* a name that the listing misses, */
    const char *gone;     /* or one that it shows though it is gone: */
    uint32_t times;       /* in so many readings from the first on */
    uint32_t readings;
} listing;

static int torn_list(void *ctx, const char *folder, uint32_t index, char *name)
{
    uint32_t at;
    int result = PAGENT_OK, missed = 0;
    if (index == 0 && folder[0] == 0) listing.readings++;
    for (at = 0; result == PAGENT_OK && at <= index + (uint32_t)missed; at++) {
        result = sim_list(ctx, folder, at, name);
        if (result != PAGENT_OK || listing.readings > listing.times || folder[0] != 0) continue;
        missed |= listing.left_out != NULL && strcmp(name, listing.left_out) == 0;
    }
    if (listing.gone == NULL || listing.readings > listing.times || folder[0] != 0) return result;
    if (result == PAGENT_END && at == index + 1) { /* behind the last one */
        snprintf(name, PAGENT_NAME_MAX + 1, "%s", listing.gone);
        return PAGENT_OK;
    }
    return result;
}

/* Reader, owner and verify read the directory again; nobody speaks of a gap. */
static void expect_whole(const char *left_out, const char *gone)
{
    pagent_dir dir = w.dir, torn_dir = w.dir;
    uint32_t round, tails = 0;
    torn_dir.list = torn_list;
    listing.left_out = left_out;
    listing.gone = gone;
    listing.times = 1;
    w.reports = 0;
    for (round = 0; round < 2; round++) {
        w.options.read_only = round == 0;
        listing.readings = 0;
        w.dir = torn_dir;
        CHECK_EQ(world_open(), PAGENT_OK);
        CHECK(listing.readings >= 2);
        CHECK_EQ(kit_check(&w.k, ORACLE_STRICT), PAGENT_OK);
        CHECK_EQ(world_close(), PAGENT_OK);
        w.dir = dir;
    }
    listing.readings = 0;
    CHECK_EQ(pagent_verify_files(&torn_dir, &w.callbacks, on_discard, &w, &tails), PAGENT_OK);
    CHECK_EQ(w.reports, 0);
}

static void name_of(uint32_t mode, uint32_t s, uint32_t number, char name[32])
{
    if (mode == SHARED) snprintf(name, 32, "log.%08u", (unsigned)number);
    else snprintf(name, 32, "%s", segment_of(s, number));
}

/* The newest segment of agent `s`, or of the log that all share. */
static uint32_t newest_of(uint32_t mode, uint32_t s)
{
    uint32_t number, newest = 0;
    char name[32];
    for (number = 1; number < 64; number++) {
        name_of(mode, s, number, name);
        if (w.dir.exists(w.dir.ctx, name) == 1) newest = number;
    }
    return newest;
}

static void fill_segments(uint32_t mode)
{
    uint32_t i;
    world_begin(mode, test.seed);
    w.options.segment_size = 1024;
    CHECK_EQ(world_open(), PAGENT_OK);
    for (i = 0; i < 72; i++) {
        CHECK_EQ(i % 12 >= 9 ? kit_snapshot(&w.k, i % 3, 500) : kit_write(&w.k, i % 3, 500, KIT_NOISE), PAGENT_OK);
    }
}

TEST(torn_listing)
{
    uint32_t mode, number, newest;
    char name[32];
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        fill_segments(mode);
        CHECK_EQ(world_close(), PAGENT_OK);
        newest = newest_of(mode, 1);
        if (!CHECK(newest >= 4)) return;
        for (number = 2; number < newest; number++) {
            name_of(mode, 1, number, name);
            expect_whole(name, NULL);
        }
        world_end();
        fill_segments(mode);
        CHECK_EQ(kit_trim(&w.k), PAGENT_OK);
        CHECK_EQ(world_close(), PAGENT_OK);
        name_of(mode, 1, 2, name);
        CHECK_EQ(w.dir.exists(w.dir.ctx, name), 0);
        name_of(mode, 1, 1, name);
        CHECK_EQ(w.dir.exists(w.dir.ctx, name), 0);
        expect_whole(NULL, name);
        world_end();
    }
}

/* What verify finds behind a gap, and in the logs of others. */
TEST(verify_behind_a_gap)
{
    uint32_t mode, tails, newest;
    char name[32];
    int file;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        fill_segments(mode);
        CHECK_EQ(world_close(), PAGENT_OK);
        name_of(mode, 0, 2, name);
        CHECK_EQ(w.dir.remove(w.dir.ctx, name), PAGENT_OK);
        CHECK_EQ(w.dir.sync_dir(w.dir.ctx, ""), PAGENT_OK);
        w.reports = 0;
        CHECK_EQ(pagent_verify_files(&w.dir, &w.callbacks, on_discard, &w, &tails), PAGENT_E_CORRUPT);
        CHECK_EQ(w.reports, 1);
        newest = newest_of(mode, mode == SHARED ? 0 : 2);
        CHECK(newest >= 4);
        name_of(mode, mode == SHARED ? 0 : 2, newest - 1, name);
        file = w.disk.durable.items[sim_find(&w.disk.durable, name)].file;
        loaded(file)->data[block_size(loaded(file), 0) + 100] ^= 4;
        loaded_touch(file);
        w.reports = 0;
        CHECK_EQ(pagent_verify_files(&w.dir, &w.callbacks, on_discard, &w, &tails), PAGENT_E_CORRUPT);
        CHECK(w.reports >= 2);
        world_end();
    }
}

/* Row 8, the preallocated space: up to four stray bits are scrubbed and reported, and nothing is lost. */
TEST(flip_preallocated)
{
    uint32_t mode, bits;
    uint64_t id = 0;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        int name;
        golden_make(mode, 0);
        name = golden_file(0);
        for (bits = 1; bits <= 4; bits++) {
            int file = golden.durable.items[name].file, round;
            size_t last, end = golden_end(&golden.files[file].durable, &last), size = golden.files[file].durable.size;
            for (round = 0; round < 200; round++, id++) {
                sim_random random;
                uint32_t i;
                if (size <= end || !test_case(id)) continue;
                random.state = test.seed + id;
                golden_load(mode);
                for (i = 0; i < bits; i++) {
                    size_t at = end + (size_t)sim_below(&random, size - end);
                    loaded(name)->data[at] |= (uint8_t)(1u << sim_below(&random, 8));
                }
                loaded_touch(name);
                (void)world_recover(ORACLE_STRICT);
                CHECK(w.reports != 0 && w.damage == PAGENT_DIRTY);
                world_end();
            }
        }
        golden_free();
    }
}

static void cut_lengths_of(uint32_t mode, int name, size_t last, size_t end, uint64_t *id)
{
    size_t length;
    (void)last;
    for (length = 0; length <= end; length++, ++*id) {
        if (!test_sweep(*id)) continue;
        golden_load(mode);
        loaded(name)->size = length;
        loaded_touch(name);
        expect_honest(ORACLE_TAIL, 0);
        world_end();
    }
}

/* Row 10: every length of every file: the longest valid prefix, or an error. */
TEST(cut_each_length)
{
    damage_each_file(cut_lengths_of);
}

/* Row 10: something is appended: zeros are clean, all else is told. */
TEST(extend_with_anything)
{
    uint32_t mode, kind, size;
    uint64_t id = 0;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        golden_make(mode, 0);
        for (kind = 0; kind < 5; kind++) {
            for (size = 1; size <= 1024; size += size < 70 ? 1 : 37, id++) {
                int name = golden_file(0);
                size_t last, end, at;
                sim_random random;
                if (!test_case(id)) continue;
                random.state = test.seed + id;
                golden_load(mode);
                end = golden_end(loaded(name), &last);
                if (loaded(name)->size < end + size) sim_set_size(loaded(name), end + size);
                for (at = 0; at < size; at++) {
                    uint8_t *byte = &loaded(name)->data[end + at];
                    if (kind == 1) *byte = 0xFF;
                    else if (kind == 2) *byte = (uint8_t)sim_next(&random);
                    else if (kind == 3) *byte = loaded(name)->data[at]; /* the file's own beginning */
                    else if (kind == 4) *byte = loaded(name)->data[last + at % (end - last)]; /* its last block */
                }
                loaded_touch(name);
                expect_honest(ORACLE_STRICT, 0);
                if (kind == 0) CHECK_EQ(w.reports, 0);
                else CHECK(w.reports != 0);
                world_end();
            }
        }
        golden_free();
    }
}

static void zero_lines_of(uint32_t mode, int name, size_t last, size_t end, uint64_t *id)
{
    uint32_t kind;
    size_t at;
    for (kind = 0; kind < 3; kind++) {
        for (at = 0; at < end; at += kind == 1 ? 512 : 64, ++*id) {
            size_t size = kind == 0 ? 64 : kind == 1 ? 512 : end - at;
            if (!test_case(*id)) continue;
            if (size > end - at) size = end - at;
            golden_load(mode);
            memset(loaded(name)->data + at, 0, size);
            loaded_touch(name);
            /* what reaches the last block may be a torn write; before it, it is damage, and told */
            expect_honest(at + size > last ? ORACLE_TAIL : ORACLE_STRICT, at + size <= last);
            world_end();
        }
    }
}

/* Row 11: each line, each sector, and everything from each line on is zeroed. */
TEST(zero_each_line)
{
    damage_each_file(zero_lines_of);
}

/* Row 6: each block written over each other block's place, in its own file and in the others. */
TEST(misdirected_blocks)
{
    uint32_t mode, from_number, to_number;
    uint64_t id = 0;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        int from_name, to_name;
        golden_make(mode, 1);
        for (from_number = 0; (from_name = golden_file(from_number)) >= 0; from_number++) {
            const sim_bytes *from = &golden.files[golden.durable.items[from_name].file].durable;
            for (to_number = 0; (to_name = golden_file(to_number)) >= 0; to_number++) {
                const sim_bytes *to = &golden.files[golden.durable.items[to_name].file].durable;
                size_t last, from_end = golden_end(from, &last), to_end = golden_end(to, &last), source, target;
                for (source = 0; source < from_end; source += block_size(from, source)) {
                    size_t size = block_size(from, source);
                    for (target = 0; target <= to_end; target += 64, id++) {
                        if (from == to && source == target) continue;
                        if (!test_sweep(id)) continue;
                        golden_load(mode);
                        sim_put(loaded(to_name), target, from->data + source, size);
                        loaded_touch(to_name);
                        expect_honest(target + size > last ? ORACLE_TAIL : ORACLE_STRICT, target < last);
                        world_end();
                    }
                }
            }
        }
        golden_free();
    }
}

/* A whole block, or several, cut out of the middle: the rest moves up. */
TEST(excised_blocks)
{
    uint32_t mode;
    uint64_t id = 0;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        const sim_bytes *bytes;
        size_t from, to, last, end;
        int name, whole;
        golden_make(mode, 1);
        name = golden_file(0);
        bytes = &golden.files[golden.durable.items[name].file].durable;
        end = golden_end(bytes, &last);
        for (from = 0; from < end; from += 64) {
            for (to = from + 64; to < end && to <= from + 2048; to += 64, id++) {
                if (!test_sweep(id)) continue;
                golden_load(mode);
                memmove(loaded(name)->data + from, loaded(name)->data + to, end - to);
                memset(loaded(name)->data + (end - (to - from)), 0, to - from);
                loaded_touch(name);
                /* a cut within a block may look like a write that was torn; between blocks nothing excuses it */
                whole = golden_begins(bytes, from) && golden_begins(bytes, to);
                expect_honest(whole ? ORACLE_STRICT : ORACLE_TAIL, whole);
                world_end();
            }
        }
        golden_free();
    }
}

/* ---- forged blocks: every checksum holds, and still the block does not belong where it stands ---- */

enum forgery {
    FORGE_PREVIOUS, /* it names another predecessor; what follows names it */
    FORGE_VERSION,  /* it leaves one out; what follows names it */
    FORGE_EPOCH,    /* of an owner before its predecessor's; what follows names it */
    FORGE_OWNER,    /* the same payload, of another owner: what follows names the one that was there */
    FORGE_TYPE,     /* the same payload, of another type: likewise */
    FORGE_PAYLOAD,  /* another payload: likewise */
    FORGERIES
};

/* The next block of a stream at or behind `at`; 0: there is none. */
static size_t next_of_stream(const sim_bytes *bytes, size_t at, size_t end, uint64_t stream)
{
    while (at < end && pai_get64(bytes->data + at + 16) != stream) at += block_size(bytes, at);
    return at < end ? at : 0;
}

static void forge(sim_bytes *bytes, size_t at, size_t end, uint32_t how)
{
    const pai_crc *crc = &w.k.crc;
    uint8_t *block = bytes->data + at;
    pai_block header;
    if (!CHECK_EQ(pai_decode_header(crc, block, at, &header), PAGENT_OK)) return;
    if (how == FORGE_PREVIOUS) header.previous ^= 1;
    if (how == FORGE_VERSION) header.version++;
    if (how == FORGE_EPOCH) header.epoch--;
    if (how == FORGE_OWNER) header.epoch++;
    if (how == FORGE_TYPE) header.type = PAI_ROLLBACK;
    if (how == FORGE_PAYLOAD) {
        block[64 + header.payload_size - 1] ^= 0x40;
        header.payload_crc = pai_crc32c(crc, 0, block + 64, pai_padded(header.payload_size));
    }
    pai_encode_header(crc, block, &header, at);
    while (how <= FORGE_EPOCH) {
        uint64_t link = pai_link(crc, bytes->data + at), version = pai_get64(bytes->data + at + 24);
        at = next_of_stream(bytes, at + block_size(bytes, at), end, header.stream);
        if (at == 0 || !CHECK_EQ(pai_decode_header(crc, bytes->data + at, at, &header), PAGENT_OK)) break;
        header.previous = link;
        header.version = version + 1;
        pai_encode_header(crc, bytes->data + at, &header, at);
    }
}

static void forge_blocks_of(uint32_t mode, int name, size_t last, size_t end, uint64_t *id)
{
    const sim_bytes *bytes = &golden.files[golden.durable.items[name].file].durable;
    size_t at, size;
    uint32_t how;
    (void)last;
    for (at = 0; at < end; at += size) {
        uint64_t stream = pai_get64(bytes->data + at + 16), version = pai_get64(bytes->data + at + 24);
        size = block_size(bytes, at);
        for (how = 0; how < FORGERIES; how++, ++*id) {
            uint32_t torn = 0;
            int opened;
            if (stream == 0 || (how <= FORGE_EPOCH && version == 1)) continue; /* nothing is known before it */
            if (how > FORGE_EPOCH && next_of_stream(bytes, at + size, end, stream) == 0) continue; /* … after it */
            if (!test_case(*id)) continue;
            golden_load(mode);
            forge(loaded(name), at, end, how);
            loaded_touch(name);
            CHECK_EQ(pagent_verify_files(&w.dir, &w.callbacks, NULL, NULL, &torn), PAGENT_E_CORRUPT);
            w.options.truncate_suspect = 1; /* does not excuse it */
            opened = world_open();
            CHECK(opened == PAGENT_E_CORRUPT || (opened == PAGENT_OK && (flags_of(stream) & PAGENT_IS_DAMAGED)));
            CHECK(w.damage == PAGENT_DAMAGE_CHAIN || w.damage == PAGENT_DAMAGE_MIDDLE);
            if (w.files != NULL) (void)world_close();
            world_end();
        }
    }
}

/* Row 6, by somebody who knows the format, or by the history of another: no block is accepted that does not follow the
   one before it, in version, link and epoch; and a link covers the identity of a block as well as its payload. */
TEST(forged_blocks)
{
    damage_each_file(forge_blocks_of);
}

/* The same at append: the version is right, but the writer knows another history. It is refused, and nothing staged. */
TEST(foreign_history)
{
    uint32_t mode, how;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (how = 0; how < 4; how++) {
            kit_stream *stream = &w.k.streams[0], saved;
            pagent_append request;
            pagent_io io;
            uint32_t size;
            if (!test_case(how * 2 + mode)) continue;
            world_begin(mode, test.seed);
            CHECK_EQ(world_open(), PAGENT_OK);
            stream->epoch = 7;
            CHECK_EQ(put(0, 40, KIT_NOISE), PAGENT_OK);
            CHECK_EQ(put(0, 40, KIT_NOISE), PAGENT_OK);
            if (how % 2 != 0) CHECK_EQ(stage(0, 40, KIT_NOISE), PAGENT_OK); /* what is staged counts */
            saved = *stream;
            if (how < 2) stream->link ^= UINT64_C(1) << 40;
            size = kit_make(&w.k, w.k.block, stream, PAI_COMMIT, 40, KIT_NOISE);
            if (how >= 2) { /* of two blocks in one request the second does not follow the first */
                stream->version++;
                if (how == 2) stream->link = pai_link(&w.k.crc, w.k.block) ^ 1;
                if (how == 3) stream->link = pai_link(&w.k.crc, w.k.block);
                if (how == 3) stream->epoch = 6;
                size += kit_make(&w.k, w.k.block + size, stream, PAI_COMMIT, 40, KIT_NOISE);
            }
            *stream = saved;
            request = kit_request(&w.k, stream, w.k.block, size);
            request.count = how < 2 ? 1 : 2;
            memset(&io, 0, sizeof io);
            CHECK_EQ(w.k.store.append(w.k.store.ctx, &request, &io), PAGENT_E_CONFLICT);
            CHECK_EQ(put(0, 60, KIT_NOISE), PAGENT_OK); /* the one that knows it goes on */
            (void)kit_check(&w.k, ORACLE_STRICT);
            CHECK_EQ(stream->version, how % 2 != 0 ? 4 : 3);
            CHECK_EQ(world_close(), PAGENT_OK);
            (void)world_recover(ORACLE_STRICT);
            world_end();
        }
    }
}

/* Rule c of the lost tail: once a log is sealed, damage to its last block is known as damage. It is not cut off as
   something that may never have been acknowledged, whatever the caller allows. */
static void flip_bits_behind(uint32_t mode, int name, size_t from, size_t end, int sealed)
{
    size_t bit;
    int opened;
    for (bit = from * 8; bit < end * 8; bit++) {
        if (!test_sweep((bit * 2 + mode) * 2 + (uint64_t)sealed)) continue;
        golden_load_flipped(mode, name, bit);
        w.options.truncate_suspect = 1;
        opened = world_open();
        CHECK(opened == PAGENT_OK || (sealed && opened == PAGENT_E_CORRUPT));
        CHECK_EQ(w.damage, sealed ? PAGENT_DAMAGE_MIDDLE : PAGENT_TORN);
        if (w.files != NULL && !sealed) (void)kit_check(&w.k, ORACLE_TAIL);
        if (w.files != NULL && sealed) CHECK_EQ(kit_check(&w.k, ORACLE_STRICT | ORACLE_ERRORS), PAGENT_E_CORRUPT);
        if (w.files != NULL) (void)world_close();
        world_end();
    }
}

TEST(seal_proves_the_last_block)
{
    uint32_t mode;
    int sealed;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (sealed = 0; sealed < 2; sealed++) {
            const sim_bytes *bytes;
            size_t at, next, last, end;
            uint64_t stream;
            int name;
            world_begin(mode, test.seed);
            stream = w.k.streams[0].id;
            CHECK_EQ(world_open(), PAGENT_OK);
            CHECK_EQ(put(0, 40, KIT_NOISE), PAGENT_OK);
            CHECK_EQ(put(0, 40, KIT_NOISE), PAGENT_OK);
            if (sealed) CHECK_EQ(kit_flush(&w.k), PAGENT_OK); /* nothing is staged: the engine goes idle */
            golden_keep();
            name = golden_file(0);
            bytes = &golden.files[golden.durable.items[name].file].durable;
            end = golden_end(bytes, &last);
            at = next_of_stream(bytes, 0, end, stream);
            while ((next = next_of_stream(bytes, at + block_size(bytes, at), end, stream)) != 0) at = next;
            CHECK_EQ(at != last, sealed);
            flip_bits_behind(mode, name, at, at + block_size(bytes, at), sealed);
            golden_free();
        }
    }
}

/* Row 30: random damage of any kind and number. */
TEST(random_damage)
{
    uint64_t round, rounds = test_effort(20000);
    uint32_t mode;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        golden_make(mode, 0);
        for (round = 0; round < rounds; round++) {
            sim_random random;
            uint32_t hits, files = 0;
            if (!test_case(round * 2 + mode)) continue;
            random.state = test.seed * 17u + round;
            golden_load(mode);
            while (golden_file(files) >= 0) files++;
            for (hits = 1 + (uint32_t)sim_below(&random, 3); hits != 0; hits--) {
                int name = golden_file((uint32_t)sim_below(&random, files));
                sim_bytes *bytes = loaded(name);
                size_t last, end = golden_end(&golden.files[golden.durable.items[name].file].durable, &last), at, size,
                             i;
                uint32_t kind = (uint32_t)sim_below(&random, 5);
                if (end == 0) break;
                at = (size_t)sim_below(&random, end);
                size = 1 + (size_t)sim_below(&random, 200);
                if (size > bytes->size - at) size = bytes->size - at;
                for (i = at; i < at + size; i++) {
                    if (kind == 0) bytes->data[i] = 0;
                    else if (kind == 1) bytes->data[i] = 0xFF;
                    else if (kind == 2) bytes->data[i] = (uint8_t)sim_next(&random);
                    else if (kind == 3) bytes->data[i] ^= (uint8_t)(1u << sim_below(&random, 8));
                    else bytes->data[i] = bytes->data[(size_t)sim_below(&random, end)];
                }
            }
            for (hits = 0; hits < files; hits++) loaded_touch(golden_file(hits));
            expect_honest(ORACLE_TAIL, 0);
            world_end();
        }
        golden_free();
    }
}

/* ---- a disk that lies, fails, fills ------------------------------------------------------------------------------ */

/* Row 5: each sync in turn loses what it said was durable. */
TEST(sync_lies)
{
    uint32_t mode, which;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (which = 0; which < SCENARIOS; which++) {
            uint64_t lie, syncs;
            (void)world_count(scenarios[which], mode);
            world_begin(mode, test.seed);
            (void)world_run(scenarios[which], UINT64_MAX);
            syncs = w.disk.count[SIM_SYNC];
            world_end();
            for (lie = 0; lie < syncs; lie++) {
                if (!test_case((lie * SCENARIOS + which) * 2 + mode)) continue;
                world_begin(mode, test.seed);
                w.disk.lie_at = lie;
                (void)world_run(scenarios[which], UINT64_MAX);
                sim_release(&w.host.memory);
                sim_power_cut(&w.disk, SIM_LOSE, lie);
                sim_disarm(&w.disk);
                w.stubborn = 0;
                expect_honest(ORACLE_TAIL, 0);
                world_end();
            }
        }
    }
}

/* Row 16: a sync fails; the pages are clean but readable, or written, or still dirty. The handle is poisoned; what a
   new process reads is made durable before it is shown. */
TEST(sync_fails)
{
    uint32_t mode, which, variant, crash;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (which = 0; which < SCENARIOS; which++) {
            uint64_t calls = world_count(scenarios[which], mode), at;
            for (at = 0; at < calls; at++) {
                for (variant = 0; variant < 3; variant++) {
                    for (crash = SIM_KILL; crash <= SIM_LOSE; crash++) {
                        uint64_t id = (((at * SCENARIOS + which) * 3 + variant) * 2 + crash) * 2 + mode;
                        uint32_t s;
                        if (!test_sweep(id)) continue;
                        world_begin(mode, test.seed);
                        w.disk.fail_at = at;
                        w.disk.fail_variant = (int)variant;
                        (void)world_run(scenarios[which], UINT64_MAX);
                        if (w.disk.poisoned && w.files != NULL && w.k.broken != 0) {
                            w.k.broken = 0; /* whoever asks again is refused, however often */
                            for (s = 0; s < KIT_STREAMS; s++) {
                                int result = kit_write(&w.k, s, 50, KIT_NOISE);
                                if (mode == SHARED && result == PAGENT_OK) FAIL("a poisoned log takes a block");
                                w.k.broken = 0;
                            }
                        }
                        sim_release(&w.host.memory);
                        sim_power_cut(&w.disk, (int)crash, id);
                        world_glance(ORACLE_STRICT);
                        sim_power_cut(&w.disk, SIM_LOSE, id);
                        (void)world_recover(ORACLE_STRICT);
                        world_end();
                    }
                }
            }
        }
    }
}

/* Row 14: each call fails: once, for ever, or all of its kind; done or not done. Then the machine restarts. */
TEST(each_call_fails)
{
    static const int codes[] = {PAGENT_E_STORAGE, PAGENT_E_NO_SPACE, -5};
    uint32_t mode, which, code, forever, variant;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (which = 0; which < SCENARIOS; which++) {
            uint64_t calls = world_count(scenarios[which], mode), at;
            for (at = 0; at < calls; at++) {
                for (code = 0; code < 27; code++) {
                    uint64_t id = ((at * SCENARIOS + which) * 27 + code) * 2 + mode;
                    int result;
                    forever = code / 3 % 3;
                    variant = code / 9;
                    if (!test_sweep(id)) continue;
                    world_begin(mode, test.seed);
                    w.disk.fail_at = at;
                    w.disk.fail_code = codes[code % 3];
                    w.disk.fail_forever = (int)forever;
                    w.disk.fail_variant = (int)variant;
                    w.stubborn = (int)(id & 1u);
                    result = world_run(scenarios[which], UINT64_MAX);
                    if (result > 0) FAIL("a result > 0: %d", result);
                    if (w.files != NULL) (void)world_close(); /* frees and closes everything, whatever fails */
                    sim_power_cut(&w.disk, SIM_KILL + (int)(id / 2 % 2), id);
                    if (id / 2 % 2 == 0) {
                        world_glance(ORACLE_STRICT);
                        sim_power_cut(&w.disk, SIM_LOSE, id);
                    }
                    (void)world_recover(ORACLE_STRICT);
                    world_end();
                }
            }
        }
    }
}

/* Row 17: the disk is full at any number of bytes; it says NO_SPACE, nothing is lost, and it goes on when there is
   room. */
TEST(disk_full)
{
    uint32_t mode, which;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (which = 0; which < SCENARIOS; which++) {
            uint64_t most, capacity;
            (void)world_count(scenarios[which], mode);
            world_begin(mode, test.seed);
            (void)world_run(scenarios[which], UINT64_MAX);
            most = sim_used(&w.disk) + w.disk.bytes_written;
            world_end();
            for (capacity = 64; capacity < most; capacity += capacity < 8192 ? 192 : 1472) {
                int result;
                uint32_t s;
                if (!test_sweep((capacity * SCENARIOS + which) * 2 + mode)) continue;
                world_begin(mode, test.seed);
                w.disk.capacity = capacity;
                result = world_run(scenarios[which], UINT64_MAX);
                if (result != PAGENT_OK && result != PAGENT_E_NO_SPACE) {
                    FAIL("a full disk gives %s (%s)", pagent_result_name(result), w.text);
                }
                w.disk.capacity = 0; /* somebody makes room */
                if (w.files != NULL) {
                    for (s = 0; s < KIT_STREAMS; s++) CHECK_EQ(kit_write(&w.k, s, 700, KIT_NOISE), PAGENT_OK);
                    (void)kit_check(&w.k, ORACLE_STRICT);
                    CHECK_EQ(world_close(), PAGENT_OK);
                }
                sim_power_cut(&w.disk, SIM_LOSE, capacity);
                (void)world_recover(ORACLE_STRICT);
                world_end();
            }
        }
    }
}

/* Row 18: reads and writes that move one byte, or three, at a time leave the same directory. */
TEST(short_reads_and_writes)
{
    static sim_disk want;
    uint32_t mode, which, most;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (which = 0; which < SCENARIOS; which++) {
            world_begin(mode, test.seed);
            CHECK_EQ(world_run(scenarios[which], UINT64_MAX), PAGENT_OK);
            sim_copy_disk(&want, &w.disk);
            world_end();
            for (most = 1; most <= 65; most += 16) {
                uint32_t i;
                if (!test_case((most * SCENARIOS + which) * 2 + mode)) continue;
                world_begin(mode, test.seed);
                w.disk.io_max = most;
                CHECK_EQ(world_run(scenarios[which], UINT64_MAX), PAGENT_OK);
                CHECK_EQ(w.disk.durable.count, want.durable.count);
                for (i = 0; i < want.durable.count && i < w.disk.durable.count; i++) {
                    int at = sim_find(&w.disk.durable, want.durable.items[i].text);
                    const sim_bytes *left = &want.files[want.durable.items[i].file].durable, *right;
                    if (!CHECK(at >= 0)) continue;
                    right = &w.disk.files[w.disk.durable.items[at].file].durable;
                    CHECK(left->size == right->size && memcmp(left->data, right->data, left->size) == 0);
                }
                w.disk.io_max = most;
                (void)world_recover(ORACLE_STRICT);
                world_end();
            }
        }
    }
    sim_free_disk(&want);
}

/* Row 13: each allocation fails, once or from then on; nothing leaks, nothing is lost. */
TEST(each_allocation_fails)
{
    uint32_t mode, which, forever;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (which = 0; which < SCENARIOS; which++) {
            uint64_t at, calls;
            (void)world_count(scenarios[which], mode);
            world_begin(mode, test.seed);
            (void)world_run(scenarios[which], UINT64_MAX);
            calls = w.host.memory.calls;
            world_end();
            for (at = 1; at <= calls; at++) {
                for (forever = 0; forever < 2; forever++) {
                    int result;
                    if (!test_sweep(((at * SCENARIOS + which) * 2 + forever) * 2 + mode)) continue;
                    world_begin(mode, test.seed);
                    w.host.memory.fail_at = at;
                    w.host.memory.fail_forever = (int)forever;
                    result = world_run(scenarios[which], UINT64_MAX);
                    if (result != PAGENT_OK && result != PAGENT_E_MEMORY && result != PAGENT_E_AGAIN) {
                        FAIL("no memory gives %s (%s)", pagent_result_name(result), w.text);
                    }
                    if (w.files != NULL) (void)world_close();
                    w.host.memory.fail_at = 0;
                    sim_power_cut(&w.disk, SIM_LOSE, at);
                    (void)world_recover(ORACLE_STRICT);
                    world_end();
                }
            }
        }
    }
}

/* ---- several processes ------------------------------------------------------------------------------------------- */

static struct { /* the other process */
    sim_process process;
    sim_host host;
    pagent_dir dir;
    pagent_host callbacks;
    pagent_files *files;
    kit_stream streams[KIT_STREAMS]; /* as it knows them */
    uint32_t what;
    uint32_t dies; /* not 0: so many cut points after it has worked, the first one dies */
    int result;
} other;

static void other_begin(int id)
{
    sim_release(&other.host.memory);
    memset(&other, 0, sizeof other);
    sim_init_host(&other.host, test.seed + 4242u);
    other.process.disk = &w.disk;
    other.process.id = id;
    other.dir = sim_dir(&other.process);
    other.callbacks = sim_host_of(&other.host);
}

/* While the first one stands still, the other takes over, appends, perhaps trims, perhaps closes. The kit's writer is
   lent to it, so that the oracle hears of both. */
static void other_takes_over(void *ctx)
{
    kit_stream saved[KIT_STREAMS];
    pagent_store store = w.k.store;
    uint8_t *block = w.k.block; /* the first one's append may be under way: its bytes stay */
    int broken = w.k.broken, result;
    uint32_t s;
    (void)ctx;
    memcpy(saved, w.k.streams, sizeof saved);
    w.k.block = (uint8_t *)malloc(KIT_BLOCK_MAX * 2u);
    if (w.k.block == NULL) abort();
    result = pagent_open_files(&other.files, &other.dir, &other.callbacks, &w.options, w.text);
    other.result = result;
    if (result == PAGENT_OK) {
        w.k.store = pagent_files_store(other.files);
        w.k.broken = 0;
        (void)kit_check(&w.k, ORACLE_STRICT | ORACLE_ERRORS);
        kit_claim(&w.k);
        for (s = 0; s < 2; s++) CHECK_EQ(kit_write(&w.k, s, 120, KIT_NOISE), PAGENT_OK);
        for (s = 0; s < ((other.what & 4u) != 0 ? 8u : 2u) && (other.what & 5u) != 0; s++) {
            CHECK_EQ(kit_snapshot(&w.k, s % 2, (other.what & 4u) != 0 ? 3000 : 100), PAGENT_OK);
        }
        if (other.what & 5u) CHECK_EQ(kit_trim(&w.k), PAGENT_OK);
        if (other.what & 2u) CHECK_EQ(pagent_close_files(other.files), PAGENT_OK);
        if (other.what & 2u) other.files = NULL;
    } else {
        FAIL("the other process cannot open: %s (%s)", pagent_result_name(result), w.text);
    }
    memcpy(other.streams, w.k.streams, sizeof saved);
    memcpy(w.k.streams, saved, sizeof saved);
    free(w.k.block);
    w.k.block = block;
    w.k.store = store;
    w.k.broken = broken;
    if (other.dies != 0) w.disk.cut = 2 * w.disk.calls + other.dies;
}

/* Row 20, 21: a writer is paused before any of its calls; meanwhile another takes over although the first still
   believes in its lock. Whatever either is told OK must be there in the end, and there is one block at each version.
   `deaths`: the zombie dies soon after it wakes, so many times each. */
static void sweep_zombies(uint32_t what, uint32_t deaths)
{
    uint32_t mode, which;
    for (mode = SHARED; mode <= ((what & 4u) != 0 ? SHARED : PER_AGENT); mode++) {
        for (which = 0; which < SCENARIOS; which++) {
            uint64_t calls = world_count(scenarios[which], mode), at;
            for (at = 0; at < calls * (deaths + 1); at++) {
                uint64_t id = (at * SCENARIOS + which) * 2 + mode;
                uint32_t s;
                if ((deaths != 0 && at < calls) || !test_sweep(id)) continue;
                world_begin(mode, test.seed);
                other_begin(5000);
                other.what = what;
                if (deaths != 0) other.dies = 1 + (uint32_t)(pai_mix(test.seed * 31u + id) % 48);
                w.disk.lock_broken = 1;
                w.disk.pause_at = at % calls;
                w.disk.meanwhile = other_takes_over;
                (void)world_run(scenarios[which], UINT64_MAX);
                w.disk.cut = UINT64_MAX;
                if (w.files != NULL) { /* the zombie tries on */
                    for (s = 0; s < 2; s++) (void)kit_write(&w.k, s, 80, KIT_NOISE);
                    (void)world_close();
                }
                if (other.files != NULL) { /* and the other is not disturbed */
                    memcpy(w.k.streams, other.streams, sizeof other.streams);
                    w.k.store = pagent_files_store(other.files);
                    w.k.broken = 0;
                    (void)pagent_close_files(other.files);
                }
                sim_power_cut(&w.disk, SIM_LOSE, at);
                (void)world_recover(ORACLE_STRICT);
                sim_release(&other.host.memory);
                w.disk.lock_broken = 0;
                world_end();
            }
        }
    }
}

TEST(zombie)
{
    sweep_zombies(0, 0);
}
TEST(zombie_trim)
{
    sweep_zombies(1, 0);
}
TEST(zombie_close)
{
    sweep_zombies(2, 0);
}

/* Rule H: the other goes so far that it trims numbers that the zombie believes free. Made again, they are nobody's;
   also when the zombie dies at once. (The shared log only: with a log per agent, a zombie that has never seen an agent
   cannot know that its first segment was there before.) */
TEST(zombie_remakes)
{
    sweep_zombies(4, 0);
}
TEST(zombie_dies)
{
    sweep_zombies(4, 3);
}

/* Row 19: the second opener is told so; after the first has gone it gets the store. */
/* Creations that died before they were acknowledged leave segments without a block. Trimmed or not (an older version
   did, or somebody by hand), their numbers are not made again. */
TEST(create_after_deaths)
{
    uint32_t deaths, trimmed, i;
    for (deaths = 1; deaths <= 3; deaths++) {
        for (trimmed = 0; trimmed < 2 * deaths; trimmed++) {
            if (!test_case(deaths * 10 + trimmed)) continue;
            world_begin(PER_AGENT, test.seed);
            for (i = 0; i < deaths; i++) {
                CHECK_EQ(world_open(), PAGENT_OK);
                (void)kit_check(&w.k, ORACLE_STRICT);
                CHECK_EQ(stage(0, 50, KIT_NOISE), PAGENT_OK);
                sim_release(&w.host.memory);
                sim_power_cut(&w.disk, SIM_KEEP, 1);
            }
            for (i = 1; i <= trimmed / 2; i++) CHECK_EQ(w.dir.remove(w.dir.ctx, segment_of(0, i)), PAGENT_OK);
            CHECK_EQ(world_open(), PAGENT_OK);
            (void)kit_check(&w.k, ORACLE_STRICT);
            if (trimmed % 2 != 0) CHECK_EQ(kit_trim(&w.k), PAGENT_OK);
            CHECK_EQ(put(0, 50, KIT_NOISE), PAGENT_OK);
            CHECK_EQ(put(1, 50, KIT_NOISE), PAGENT_OK);
            CHECK_EQ(world_close(), PAGENT_OK);
            (void)world_recover(ORACLE_STRICT);
            world_end();
        }
    }
}

/* Somebody who was overtaken trims: what it does not know of is not its to remove. */
TEST(zombie_trims_unknown)
{
    pagent_trim request;
    pagent_io io;
    uint32_t i;
    world_begin(PER_AGENT, test.seed);
    w.disk.lock_broken = 1;
    CHECK_EQ(world_open(), PAGENT_OK);
    CHECK_EQ(put(0, 100, KIT_NOISE), PAGENT_OK);
    for (i = 0; i < 2; i++) { /* another makes agent 1, and takes it over from itself */
        other_begin(60 + (int)i);
        CHECK_EQ(pagent_open_files(&other.files, &other.dir, &other.callbacks, &w.options, w.text), PAGENT_OK);
        w.k.store = pagent_files_store(other.files);
        CHECK_EQ(put(1, 100, KIT_NOISE), PAGENT_OK);
        CHECK_EQ(pagent_close_files(other.files), PAGENT_OK);
    }
    memset(&request, 0, sizeof request);
    memset(&io, 0, sizeof io);
    w.k.store = pagent_files_store(w.files);
    CHECK_EQ(w.k.store.trim(w.k.store.ctx, &request, &io), PAGENT_OK);
    CHECK_EQ(io.count, 0);
    CHECK_EQ(world_close(), PAGENT_OK);
    (void)world_recover(ORACLE_STRICT);
    world_end();
}

/* The disk is full in the middle of a batch, and somebody takes over before it is erased: what that one has built on
   stays. */
TEST(zombie_erases)
{
    uint32_t mode;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        int result;
        if (!test_case(mode)) continue;
        world_begin(mode, test.seed);
        w.disk.lock_broken = 1;
        other_begin(70);
        CHECK_EQ(world_open(), PAGENT_OK);
        CHECK_EQ(put(0, 100, KIT_NOISE), PAGENT_OK);
        CHECK_EQ(put(1, 100, KIT_NOISE), PAGENT_OK);
        CHECK_EQ(stage(0, 111, KIT_NOISE), PAGENT_OK);
        CHECK_EQ(stage(0, 111, KIT_NOISE), PAGENT_OK);
        w.disk.fail_at = w.disk.calls; /* the write: half of it is done */
        w.disk.fail_code = PAGENT_E_NO_SPACE;
        w.disk.fail_variant = 2;
        w.disk.pause_at = w.disk.calls + 1;
        w.disk.meanwhile = other_takes_over;
        result = kit_flush(&w.k);
        CHECK(result == PAGENT_E_IN_DOUBT && other.files != NULL);
        (void)pagent_close_files(w.files);
        w.files = NULL;
        (void)pagent_close_files(other.files);
        memcpy(w.k.streams, other.streams, sizeof other.streams);
        w.k.broken = 0;
        (void)world_recover(ORACLE_STRICT);
        world_end();
    }
}

/* Opening removes what a crash left half made, not what looks a little like it; and does without. */
TEST(foreign_names)
{
    static const char *const names[] = {"tmp-notes.txt", "tmp-0123456789abcdef-0123456789abcdeg",
                                        "tmp-0123456789abcdef-0123456789abcdef"};
    uint32_t i;
    world_begin(SHARED, test.seed);
    CHECK_EQ(run_append(), PAGENT_OK);
    for (i = 0; i < 3; i++) {
        int file = w.dir.create_temp(w.dir.ctx, names[i]);
        CHECK(file > 0 && w.dir.close(w.dir.ctx, file) == PAGENT_OK);
    }
    CHECK_EQ(world_open(), PAGENT_OK);
    for (i = 0; i < 3; i++) CHECK_EQ(w.dir.exists(w.dir.ctx, names[i]), i < 2);
    CHECK_EQ(world_close(), PAGENT_OK);
    world_end();
}

TEST(second_opener)
{
    uint32_t mode;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        if (!test_case(mode)) continue;
        world_begin(mode, test.seed);
        other_begin(5000);
        CHECK_EQ(world_open(), PAGENT_OK);
        CHECK_EQ(put(0, 100, KIT_NOISE), PAGENT_OK);
        CHECK_EQ(pagent_open_files(&other.files, &other.dir, &other.callbacks, &w.options, w.text), PAGENT_E_LOCKED);
        CHECK(w.text[0] != 0);
        CHECK_EQ(other.host.memory.count, 0);
        CHECK_EQ(put(0, 100, KIT_NOISE), PAGENT_OK);
        CHECK_EQ(world_close(), PAGENT_OK);
        CHECK_EQ(pagent_open_files(&other.files, &other.dir, &other.callbacks, &w.options, w.text), PAGENT_OK);
        CHECK_EQ(pagent_close_files(other.files), PAGENT_OK);
        CHECK_EQ(other.host.memory.count, 0);
        (void)world_recover(ORACLE_STRICT);
        world_end();
    }
}

/* A reader beside the writer: takes no lock, writes nothing, sees everything that was acknowledged, and nothing
   wrong. */
static void other_reads(void *ctx)
{
    pagent_file_options options = w.options;
    pagent_store store;
    uint64_t writes = w.disk.count[SIM_WRITE] + w.disk.count[SIM_TRUNCATE] + w.disk.count[SIM_CREATE] +
                      w.disk.count[SIM_REMOVE] + w.disk.count[SIM_PUBLISH] + w.disk.count[SIM_LOCK];
    char text[PAGENT_TEXT_SIZE];
    uint32_t s;
    int result;
    (void)ctx;
    options.read_only = 1;
    options.on_discard = NULL;
    result = pagent_open_files(&other.files, &other.dir, &other.callbacks, &options, text);
    if (result == PAGENT_E_NOT_FOUND && w.k.acks == 0) return; /* there is nothing yet */
    if (!CHECK_EQ(result, PAGENT_OK)) return;
    store = pagent_files_store(other.files);
    CHECK((store.caps & PAGENT_STORE_READS) != 0);
    for (s = 0; s < KIT_STREAMS; s++) (void)oracle_check(&w.k.facts, &store, w.k.streams[s].id, ORACLE_LOOK);
    CHECK_EQ(pagent_close_files(other.files), PAGENT_OK);
    CHECK_EQ(w.disk.count[SIM_WRITE] + w.disk.count[SIM_TRUNCATE] + w.disk.count[SIM_CREATE] +
                 w.disk.count[SIM_REMOVE] + w.disk.count[SIM_PUBLISH] + w.disk.count[SIM_LOCK],
             writes);
    CHECK_EQ(other.host.memory.count, 0);
    CHECK_EQ(sim_open_handles(&w.disk, other.process.id), 0);
}

TEST(reader_beside_writer)
{
    uint32_t mode, which;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (which = 0; which < SCENARIOS; which++) {
            uint64_t calls = world_count(scenarios[which], mode), at;
            if (scenarios[which] == run_trim) continue; /* see reader_beside_trim */
            for (at = 0; at < calls; at++) {
                if (!test_sweep((at * SCENARIOS + which) * 2 + mode)) continue;
                world_begin(mode, test.seed);
                other_begin(5000);
                w.disk.pause_at = at;
                w.disk.meanwhile = other_reads;
                CHECK_EQ(world_run(scenarios[which], UINT64_MAX), PAGENT_OK);
                sim_power_cut(&w.disk, SIM_LOSE, at);
                (void)world_recover(ORACLE_STRICT);
                world_end();
            }
        }
    }
}

static void writer_goes_on(void *ctx)
{
    uint32_t s;
    (void)ctx;
    for (s = 0; s < 2; s++) {
        CHECK_EQ(kit_snapshot(&w.k, s, 700), PAGENT_OK);
        CHECK_EQ(put(s, 700, KIT_NOISE), PAGENT_OK);
        CHECK_EQ(kit_snapshot(&w.k, s, 700), PAGENT_OK);
        CHECK_EQ(put(s, 700, KIT_NOISE), PAGENT_OK);
    }
    CHECK_EQ(kit_trim(&w.k), PAGENT_OK);
}

/* Row 24: the reader is the one that stands still, while the writer rotates and trims. It may say that what it was
   reading has gone; it never shows anything wrong. */
TEST(reader_beside_trim)
{
    uint32_t mode, s;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        uint64_t at = 0;
        int paused = 1;
        for (at = 0; paused && at < 2000; at++) {
            pagent_file_options options;
            pagent_store store;
            char text[PAGENT_TEXT_SIZE];
            if (!test_case(at * 2 + mode)) continue;
            world_begin(mode, test.seed);
            other_begin(5000);
            CHECK_EQ(world_open(), PAGENT_OK);
            writer_goes_on(NULL);
            sim_restart_count(&w.disk);
            w.disk.pause_at = at;
            w.disk.meanwhile = writer_goes_on;
            options = w.options;
            options.read_only = 1;
            options.on_discard = NULL;
            if (pagent_open_files(&other.files, &other.dir, &other.callbacks, &options, text) == PAGENT_OK) {
                store = pagent_files_store(other.files);
                for (s = 0; s < KIT_STREAMS; s++) {
                    (void)oracle_check(&w.k.facts, &store, w.k.streams[s].id,
                                       ORACLE_LOOK | ORACLE_ERRORS | ORACLE_TAIL);
                }
                CHECK_EQ(pagent_close_files(other.files), PAGENT_OK);
            }
            paused = w.disk.pause_at == UINT64_MAX;
            w.disk.pause_at = UINT64_MAX;
            CHECK_EQ(other.host.memory.count, 0);
            (void)kit_check(&w.k, ORACLE_STRICT);
            CHECK_EQ(world_close(), PAGENT_OK);
            (void)world_recover(ORACLE_STRICT);
            world_end();
        }
    }
}

/* ---- the inbox --------------------------------------------------------------------------------------------------- */

enum {
    MESSAGES = 3
};
static struct { /* what the senders know */
    int sent[MESSAGES], answered[MESSAGES], consumed[MESSAGES];
} mail;

static pagent_request message_of(uint32_t i, char id[24])
{
    pagent_request made;
    memset(&made, 0, sizeof made);
    snprintf(id, 24, "message-%u", (unsigned)i);
    made.size = (uint32_t)sizeof made;
    made.verb = PAGENT_POST;
    made.agent = "agent-0";
    made.event = "note";
    made.id = id;
    made.data.data = "some text";
    made.data.size = i * 3;
    return made;
}

/* The next message from the inbox: its number, or -1 when there is none. */
static int collect_one(uint64_t *cursor, int *result)
{
    uint8_t bytes[512];
    pagent_collect request;
    pagent_request message, want;
    pagent_io io;
    char id[24];
    uint32_t i;
    memset(&request, 0, sizeof request);
    memset(&io, 0, sizeof io);
    request.op = 5;
    request.cursor = *cursor;
    request.buffer = bytes;
    request.capacity = (uint32_t)sizeof bytes;
    *result = w.k.store.collect(w.k.store.ctx, &request, &io);
    if (*result != PAGENT_OK || io.size == 0) return -1;
    *cursor = io.cursor;
    if (!CHECK_EQ(pagent_decode_request(bytes, io.size, &message), PAGENT_OK) || !CHECK(message.id != NULL)) return -1;
    for (i = 0; i < MESSAGES; i++) {
        want = message_of(i, id);
        if (strcmp(id, message.id) != 0) continue;
        CHECK(message.data.size == want.data.size && memcmp(message.data.data, "some text", want.data.size) == 0);
        return (int)i;
    }
    FAIL("a message that nobody sent: %s", message.id);
    return -1;
}

static int settle_as(const char *id, uint32_t i)
{
    uint8_t bytes[512];
    pagent_receipt receipt;
    pagent_settle request;
    pagent_io io;
    int size;
    memset(&receipt, 0, sizeof receipt);
    memset(&request, 0, sizeof request);
    memset(&io, 0, sizeof io);
    receipt.verb = PAGENT_POST;
    receipt.version = 100 + i;
    size = pagent_encode_receipt(&receipt, bytes, sizeof bytes);
    if (!CHECK(size > 0)) return PAGENT_E_ARGUMENT;
    request.op = 6;
    request.message = pai_hash_text(id);
    request.receipt = bytes;
    request.size = (uint32_t)size;
    return w.k.store.settle(w.k.store.ctx, &request, &io);
}

static int settle_one(uint32_t i)
{
    char id[24];
    (void)message_of(i, id);
    return settle_as(id, i);
}

static int read_one(uint32_t i)
{
    pagent_receipt receipt;
    char id[24];
    int result;
    (void)message_of(i, id);
    memset(&receipt, 0, sizeof receipt);
    result = pagent_read_receipt(&other.dir, id, &receipt);
    if (result == PAGENT_OK) CHECK(receipt.version == 100 + i && receipt.verb == PAGENT_POST);
    return result;
}

/* Senders write, the owner collects and settles, senders read. */
static int run_inbox(void)
{
    uint32_t i, tries;
    char id[24];
    TRY(world_open());
    for (i = 0; i < MESSAGES; i++) {
        pagent_request message = message_of(i, id);
        TRY(pagent_send_message(&other.dir, &other.callbacks, &message));
        mail.sent[i] = 1;
    }
    for (tries = 0; tries < MESSAGES; tries++) {
        uint64_t cursor = 0;
        int result, found = collect_one(&cursor, &result);
        if (result < 0) return result;
        if (found < 0 && w.reports != 0) break; /* it could not be read, and was skipped */
        if (!CHECK(found >= 0)) break;
        TRY(settle_one((uint32_t)found));
        mail.answered[found] = 1;
    }
    for (i = 0; i < MESSAGES - 1; i++) { /* the last one stays */
        int result;
        mail.consumed[i] = 1; /* from now on it may be gone */
        result = read_one(i);
        if (result != PAGENT_OK) return result;
    }
    return world_close();
}

static void inbox_begin(uint32_t mode)
{
    world_begin(mode, test.seed);
    other_begin(900000);
    memset(&mail, 0, sizeof mail);
}

/* Nothing that was sent is lost: the message is there, or its receipt. */
static void check_inbox(void)
{
    int there[MESSAGES] = {0}, result, found;
    uint64_t cursor = 0;
    uint32_t i, tries;
    if (!CHECK_EQ(world_open(), PAGENT_OK)) return;
    for (tries = 0; tries < 20; tries++) {
        found = collect_one(&cursor, &result);
        if (result < 0) FAIL("collect: %s", pagent_result_name(result));
        if (found >= 0) there[found] = 1;
        if (found < 0 || cursor == 0) break;
    }
    CHECK(tries < 20);
    for (i = 0; i < MESSAGES; i++) {
        int receipt;
        if (there[i] && !mail.answered[i]) CHECK_EQ(settle_one(i), PAGENT_OK);
        receipt = read_one(i);
        if (mail.consumed[i]) continue;
        if (mail.sent[i] && receipt != PAGENT_OK) {
            FAIL("message %u was sent%s; now there is %s", (unsigned)i, mail.answered[i] ? " and answered" : "",
                 there[i] ? "the message, and settling it makes no receipt" : "neither it nor a receipt");
        }
        if (mail.answered[i] && receipt != PAGENT_OK) FAIL("the receipt of message %u is gone", (unsigned)i);
    }
    CHECK_EQ(world_close(), PAGENT_OK);
}

TEST(crash_inbox)
{
    uint32_t mode, crash;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        uint64_t calls, cut;
        inbox_begin(mode);
        CHECK_EQ(world_run(run_inbox, UINT64_MAX), PAGENT_OK);
        calls = w.disk.calls;
        world_end();
        for (cut = 0; cut < 2 * calls; cut++) {
            for (crash = 0; crash < SIM_CRASHES; crash++) {
                if (!sim_crash_is_clean((int)crash) || !test_sweep((cut * SIM_CRASHES + crash) * 2 + mode)) continue;
                inbox_begin(mode);
                CHECK_EQ(world_run(run_inbox, cut), CRASHED);
                sim_release(&other.host.memory);
                sim_power_cut(&w.disk, (int)crash, cut * 77u + crash);
                sim_disarm(&w.disk);
                check_inbox();
                world_end();
            }
        }
    }
}

TEST(inbox_call_fails)
{
    uint32_t mode, how;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        uint64_t calls, at;
        inbox_begin(mode);
        CHECK_EQ(world_run(run_inbox, UINT64_MAX), PAGENT_OK);
        calls = w.disk.calls;
        world_end();
        for (at = 0; at < calls; at++) {
            for (how = 0; how < 9; how++) {
                if (!test_sweep((at * 9 + how) * 2 + mode)) continue;
                inbox_begin(mode);
                w.disk.fail_at = at;
                w.disk.fail_forever = (int)how / 3;
                w.disk.fail_variant = (int)how % 3;
                (void)world_run(run_inbox, UINT64_MAX);
                if (w.files != NULL) (void)world_close();
                CHECK_EQ(other.host.memory.count, 0);
                CHECK_EQ(sim_open_handles(&w.disk, other.process.id), 0);
                sim_power_cut(&w.disk, SIM_LOSE, at);
                sim_disarm(&w.disk);
                check_inbox();
                world_end();
            }
        }
    }
}

/* A request under an id that is taken is never answered by the receipt of another: while that waits it is refused. */
TEST(message_ids)
{
    static const char *const ids[] = {"VJlf73r7AUo", "BqVPQmXUHuc"}; /* of one hash */
    uint32_t mode, stage;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        pagent_request message, longer, collides;
        pagent_receipt receipt;
        char id[24];
        CHECK(pai_hash_text(ids[0]) == pai_hash_text(ids[1]));
        inbox_begin(mode);
        CHECK_EQ(world_open(), PAGENT_OK);
        message = longer = collides = message_of(1, id);
        message.id = longer.id = ids[0];
        collides.id = ids[1];
        longer.data.size++;
        CHECK_EQ(pagent_send_message(&other.dir, &other.callbacks, &message), PAGENT_OK);
        for (stage = 0; stage < 2; stage++) { /* the message waits; then its receipt does */
            other.host.now_ms += 1000;
            if (stage == 1) CHECK_EQ(settle_as(ids[0], 1), PAGENT_OK);
            CHECK_EQ(pagent_send_message(&other.dir, &other.callbacks, &message), PAGENT_OK);
            CHECK_EQ(pagent_send_message(&other.dir, &other.callbacks, &longer), PAGENT_E_EXISTS);
            CHECK_EQ(pagent_send_message(&other.dir, &other.callbacks, &collides), PAGENT_E_EXISTS);
            CHECK_EQ(pagent_read_receipt(&other.dir, ids[1], &receipt), PAGENT_PENDING);
        }
        CHECK_EQ(pagent_read_receipt(&other.dir, ids[0], &receipt), PAGENT_OK);
        CHECK_EQ(pagent_send_message(&other.dir, &other.callbacks, &collides), PAGENT_OK);
        CHECK_EQ(settle_as(ids[1], 1), PAGENT_OK);
        CHECK_EQ(settle_as(ids[1], 1), PAGENT_OK); /* again: nothing is left of it */
        CHECK_EQ(pagent_read_receipt(&other.dir, ids[1], &receipt), PAGENT_OK);
        CHECK_EQ(pagent_read_receipt(&other.dir, ids[1], &receipt), PAGENT_PENDING);
        CHECK_EQ(world_close(), PAGENT_OK);
        world_end();
    }
}

static int take_receipt(uint32_t i)
{
    pagent_receipt receipt;
    char id[24];
    (void)message_of(i, id);
    return pagent_read_receipt(&other.dir, id, &receipt);
}

/* Receipts that nobody reads do not pile up; the host is told before the oldest are dropped, and how many. */
TEST(receipts_are_dropped_aloud)
{
    enum {
        KEPT = 1000,
        MANY = 1250
    };
    uint32_t i;
    char id[24];
    int result;
    inbox_begin(SHARED);
    CHECK_EQ(world_open(), PAGENT_OK);
    for (i = 0; i <= MANY; i++) {
        uint64_t cursor = 0;
        pagent_request message = message_of(i, id);
        message.data.size = 0;
        w.host.now_ms = other.host.now_ms = UINT64_C(1800000000000) + i;
        CHECK_EQ(pagent_send_message(&other.dir, &other.callbacks, &message), PAGENT_OK);
        CHECK_EQ(settle_as(id, i), PAGENT_OK);
        if (i != MANY - 1) continue;
        CHECK_EQ(collect_one(&cursor, &result), -1);
        CHECK_EQ(w.reports, 0); /* by the hundred, not one by one */
    }
    {
        uint64_t cursor = 0;
        CHECK_EQ(collect_one(&cursor, &result), -1);
        CHECK_EQ(result, PAGENT_OK);
        CHECK_EQ(w.reports, 1);
        CHECK_EQ(w.damage, PAGENT_CLEAN);
        CHECK_EQ(w.damage_size, MANY + 1 - KEPT);
        CHECK_EQ(collect_one(&cursor, &result), -1);
        CHECK_EQ(w.reports, 1);
    }
    CHECK_EQ(take_receipt(0), PAGENT_PENDING);
    CHECK_EQ(take_receipt(MANY - KEPT), PAGENT_PENDING);
    CHECK_EQ(take_receipt(MANY - KEPT + 1), PAGENT_OK); /* the newest ones stay */
    CHECK_EQ(take_receipt(MANY), PAGENT_OK);
    CHECK_EQ(world_close(), PAGENT_OK);
    world_end();
}

/* The file of a letter: a message ('m'), or the receipt that answers it ('r'). NULL: there is none. */
static sim_bytes *letter_of(char kind)
{
    uint32_t i;
    for (i = 0; i < w.disk.now.count; i++) {
        const char *name = w.disk.now.items[i].text;
        if (sim_in_folder(name, "inbox") && name[6] == kind) return &w.disk.files[w.disk.now.items[i].file].now;
    }
    return NULL;
}

static sim_bytes *letter_begin(uint32_t mode, char kind, char id[24])
{
    pagent_request message;
    sim_bytes *letter;
    inbox_begin(mode);
    CHECK_EQ(world_open(), PAGENT_OK);
    message = message_of(2, id);
    CHECK_EQ(pagent_send_message(&other.dir, &other.callbacks, &message), PAGENT_OK);
    if (kind == 'r') CHECK_EQ(settle_one(2), PAGENT_OK);
    letter = letter_of(kind);
    CHECK(letter != NULL && letter->size != 0);
    return letter;
}

/* A damaged message is never handed on: it is reported, and its sender told. A damaged receipt says nothing. */
static void damage_letter(uint32_t mode, char kind, size_t bit, size_t length)
{
    char id[24];
    sim_bytes *letter = letter_begin(mode, kind, id);
    pagent_receipt receipt;
    uint64_t cursor = 0, size;
    int result;
    if (letter == NULL) return;
    if (bit < letter->size * 8) letter->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    if (length < letter->size) letter->size = length;
    size = letter->size;
    memset(&receipt, 0, sizeof receipt);
    if (kind == 'm') {
        CHECK_EQ(collect_one(&cursor, &result), -1);
        CHECK_EQ(result, PAGENT_OK);
        CHECK_EQ(w.reports, 1);
        CHECK_EQ(w.damage_bytes, size);
        CHECK_EQ(pagent_read_receipt(&other.dir, id, &receipt), PAGENT_OK);
        CHECK_EQ(receipt.result, PAGENT_E_CORRUPT);
        CHECK(letter_of('m') == NULL);
    } else {
        CHECK_EQ(pagent_read_receipt(&other.dir, id, &receipt), PAGENT_E_CORRUPT);
        CHECK_EQ(receipt.version, 0);
    }
    CHECK_EQ(world_close(), PAGENT_OK);
    world_end();
}

/* Rows 8 and 10 for the inbox: every bit and every length of a message and of a receipt. */
TEST(damaged_letters)
{
    uint32_t mode, kind;
    uint64_t id = 0;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (kind = 0; kind < 2; kind++) {
            char word[24];
            const sim_bytes *letter = letter_begin(mode, "mr"[kind], word);
            size_t size = letter != NULL ? letter->size : 0, at;
            CHECK_EQ(world_close(), PAGENT_OK);
            world_end();
            for (at = 0; at < size * 9; at++, id++) {
                size_t bit = at < size * 8 ? at : SIZE_MAX, length = at < size * 8 ? SIZE_MAX : at - size * 8;
                if (test_sweep(id)) damage_letter(mode, "mr"[kind], bit, length);
            }
        }
    }
}

/* ---- the contract of pagent_store -------------------------------------------------------------------------------- */

TEST(contract_of_file_store)
{
    uint32_t mode, which;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (which = 0; which < KIT_CONTRACTS; which++) {
            if (!test_case(which * 2 + mode)) continue;
            world_begin(mode, test.seed);
            if (CHECK_EQ(world_open(), PAGENT_OK)) {
                kit_contracts[which](&w.k);
                (void)kit_check(&w.k, ORACLE_STRICT);
                CHECK_EQ(world_close(), PAGENT_OK);
                (void)world_recover(ORACLE_STRICT);
            }
            world_end();
        }
    }
}

/* An append of three blocks, the last one bad in one way: nothing of it is there, nor is what it superseded gone. */
TEST(bad_block_refused)
{
    enum {
        PAYLOAD,
        HEADER,
        STREAM,
        VERSION,
        LINK,
        COUNT,
        SIZE,
        WAYS
    };
    uint32_t mode, way, i;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        for (way = 0; way < WAYS; way++) {
            if (!test_case(way * 2 + mode)) continue;
            world_begin(mode, test.seed);
            if (CHECK_EQ(world_open(), PAGENT_OK)) {
                kit_stream *stream = &w.k.streams[0], saved;
                uint8_t *blocks = w.k.block;
                uint32_t size = 0, last = 0;
                pagent_append request;
                pagent_io io;
                CHECK_EQ(kit_write(&w.k, 0, 40, KIT_NOISE), PAGENT_OK);
                CHECK_EQ(kit_stage(&w.k, 0, 40, KIT_NOISE), PAGENT_STAGED);
                CHECK_EQ(kit_stage(&w.k, 1, 40, KIT_NOISE), PAGENT_STAGED);
                saved = *stream;
                for (i = 0; i < 3; i++) {
                    last = size;
                    if (i == 2) {
                        stream->id ^= way == STREAM;
                        stream->version += way == VERSION;
                        stream->link ^= way == LINK;
                    }
                    size += kit_make(&w.k, blocks + last, stream, i == 0 ? PAI_SNAPSHOT : PAI_COMMIT, 99, KIT_NOISE);
                    kit_moved_on(&w.k, stream, blocks + last);
                }
                *stream = saved;
                blocks[last + 64 + 50] ^= way == PAYLOAD;
                blocks[last + 40] ^= way == HEADER;
                request = kit_request(&w.k, stream, blocks, way == SIZE ? size - 64 : size);
                request.count = way == COUNT ? 2 : 3;
                memset(&io, 0, sizeof io);
                CHECK_EQ(w.k.store.append(w.k.store.ctx, &request, &io), way == STREAM || way == VERSION || way == COUNT
                                                                             ? PAGENT_E_ARGUMENT
                                                                         : way == LINK ? PAGENT_E_CONFLICT
                                                                                       : PAGENT_E_CORRUPT);
                CHECK_EQ(kit_write(&w.k, 0, 40, KIT_NOISE), PAGENT_OK);
                CHECK_EQ(kit_check(&w.k, ORACLE_STRICT), PAGENT_OK);
                CHECK_EQ(stream->version, 3);
                CHECK_EQ(world_close(), PAGENT_OK);
                (void)world_recover(ORACLE_STRICT);
            }
            world_end();
        }
    }
}

TEST(contract_of_memory_store)
{
    uint32_t which;
    for (which = 0; which < KIT_CONTRACTS; which++) {
        pagent_memory *memory;
        if (!test_case(which)) continue;
        world_begin(SHARED, test.seed);
        if (CHECK_EQ(pagent_open_memory(&memory, &w.callbacks), PAGENT_OK)) {
            w.k.store = pagent_memory_store(memory);
            kit_contracts[which](&w.k);
            (void)kit_check(&w.k, ORACLE_STRICT);
            pagent_close_memory(memory);
            CHECK_EQ(w.host.memory.count, 0);
        }
        world_end();
    }
}

/* A store opened for reading refuses what would write. */
TEST(read_only_refuses)
{
    uint32_t mode;
    for (mode = SHARED; mode <= PER_AGENT; mode++) {
        pagent_append request;
        pagent_io io;
        uint32_t size;
        if (!test_case(mode)) continue;
        world_begin(mode, test.seed);
        CHECK_EQ(run_append(), PAGENT_OK);
        w.options.read_only = 1;
        if (CHECK_EQ(world_open(), PAGENT_OK)) {
            (void)kit_check(&w.k, ORACLE_STRICT);
            size = kit_make(&w.k, w.k.block, &w.k.streams[0], PAI_COMMIT, 40, KIT_NOISE);
            request = kit_request(&w.k, &w.k.streams[0], w.k.block, size);
            memset(&io, 0, sizeof io);
            CHECK_EQ(w.k.store.append(w.k.store.ctx, &request, &io), PAGENT_E_READ_ONLY);
            CHECK_EQ(world_close(), PAGENT_OK);
        }
        w.options.read_only = 0;
        (void)world_recover(ORACLE_STRICT);
        world_end();
    }
}

/* Logs of agents that nobody asks for take no memory, and are sealed all the same when the store goes idle. */
TEST(logs_asleep)
{
    const uint32_t count = 600;
    uint32_t i, most = 0;
    pai_log *log;
    world_begin(PER_AGENT, test.seed);
    if (CHECK_EQ(world_open(), PAGENT_OK)) {
        for (i = 0; i < count; i++) {
            kit_stream one = w.k.streams[0];
            pagent_append request;
            pagent_io io;
            memset(&io, 0, sizeof io);
            one.id = i + 1;
            request = kit_request(&w.k, &one, w.k.block, kit_make(&w.k, w.k.block, &one, PAI_CREATE, 40, KIT_NOISE));
            CHECK_EQ(w.k.store.append(w.k.store.ctx, &request, &io), PAGENT_STAGED);
            CHECK_EQ(w.k.store.flush(w.k.store.ctx, 1, &io), PAGENT_OK);
            if (w.files->logs.count > most) most = w.files->logs.count;
        }
        CHECK_EQ(most, PAI_LOGS_KEPT);
        CHECK_EQ(kit_flush(&w.k), PAGENT_OK);
        CHECK_EQ(w.files->unsealed, 0);
        for (i = 0; i < count; i++) {
            CHECK_EQ(pai_use_log(w.files, i + 1, &log), PAGENT_OK);
            CHECK(log->end > log->cut); /* a SEAL stands behind the block */
        }
        CHECK_EQ(world_close(), PAGENT_OK);
    }
    world_end();
}

TEST_MAIN(ROW(contract_of_file_store), ROW(bad_block_refused), ROW(contract_of_memory_store), ROW(read_only_refuses),
          ROW(second_opener), ROW(create_after_deaths), ROW(zombie_trims_unknown), ROW(zombie_erases),
          ROW(foreign_names), ROW(crash_create), ROW(crash_append), ROW(crash_batch), ROW(crash_rotate),
          ROW(each_line_of_a_batch_lost), ROW(crash_claim), ROW(crash_trim), ROW(crash_close), ROW(crash_sleep),
          ROW(logs_asleep), ROW(crash_in_recovery), ROW(flip_each_bit), ROW(damage_stops_one_agent),
          ROW(damage_stops_a_sleeper), ROW(missing_segment_stops_one_agent), ROW(torn_listing),
          ROW(verify_behind_a_gap), ROW(damage_keeps_history), ROW(flip_preallocated), ROW(cut_each_length),
          ROW(extend_with_anything), ROW(zero_each_line), ROW(misdirected_blocks), ROW(excised_blocks),
          ROW(forged_blocks), ROW(foreign_history), ROW(seal_proves_the_last_block), ROW(random_damage), ROW(sync_lies),
          ROW(sync_fails), ROW(each_call_fails), ROW(disk_full), ROW(short_reads_and_writes),
          ROW(each_allocation_fails), ROW(zombie), ROW(zombie_trim), ROW(zombie_close), ROW(zombie_remakes),
          ROW(zombie_dies), ROW(reader_beside_writer), ROW(reader_beside_trim), ROW(crash_inbox), ROW(inbox_call_fails),
          ROW(message_ids), ROW(receipts_are_dropped_aloud), ROW(damaged_letters))
