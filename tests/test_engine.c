/* test_engine.c: the engine in a small world (world.h) where everything may fail at every point. Each play is written
   once, and run under every cut, every failing callback, every store, late and doubtful answers, strange clocks. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include "world.h"

static const play plays[] = {{"call", {"F0"}, 0, NULL},
                             {"retries", {"F2F5F4"}, 0, NULL},
                             {"failures", {"F9F6F3"}, 1, NULL},
                             {"approvals", {"A0A1"}, 2, NULL},
                             {"edit_expire", {"A2A3"}, 0, NULL},
                             {"once", {"P0P1"}, 0, NULL},
                             {"hook", {"H0F0"}, 0, NULL},
                             {"timers", {"T0T0"}, 1, NULL},
                             {"signals", {"F0SbW0", "W0F0Sa"}, 0, NULL},
                             {"early_signal", {"Sb", "F0T0W0"}, 0, NULL},
                             {"outside_signal", {"W1F0"}, 2, NULL},
                             {"errors", {"E0K0"}, 1, NULL},
                             {"growing", {"L0F0L0"}, 3, NULL},
                             {"cancel", {"W1", "W0"}, 0, "b"},
                             {"notes", {"F1T0A0"}, 12, NULL},
                             {"review", {"F1A0P0", "F0A2P0", "F0A1", "F5A3"}, 3, NULL}};
enum {
    PLAYS = sizeof plays / sizeof plays[0],
    SMALL_PLAYS = 3
};

/* Runs a play without faults and says how many cut points it has; 0: it does not even work so. */
static uint64_t rehearse(uint32_t kind, const play *what, uint32_t late, uint32_t inbox)
{
    uint64_t points;
    int result;
    test.at = TEST_ANY_CASE;
    world_begin(kind, what, test.seed);
    on->store.late = late;
    w.use_inbox = inbox;
    result = world_live(UINT64_MAX);
    if (result != PAGENT_OK)
        FAIL("play %s fails without a fault: %s (%s)", what->name, pagent_result_name(result), w.text);
    points = w.disk.calls;
    world_check();
    world_end();
    return result == PAGENT_OK ? points : 0;
}

/* Lives on until everything has been done. The first life has the faults that are armed. */
static void live_on(int crash, uint64_t seed)
{
    uint32_t lives;
    int result = PAGENT_E_CLOSED;
    for (lives = 0; lives < WORLD_LIVES; lives++) {
        result = world_live(w.disk.cut);
        if (result == PAGENT_OK) return;
        if (result != WORLD_CRASHED) world_die();
        if (result != WORLD_CRASHED || crash == SIM_KILL) sim_end_process(&w.disk, on->process.id);
        else sim_power_cut(&w.disk, crash, seed + lives);
        world_disarm();
    }
    FAIL("after %u lives it still says %s (%s)", (unsigned)lives, pagent_result_name(result), w.text);
}

TEST(plays_end_well)
{
    uint32_t kind, i, late;
    for (kind = 0; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < PLAYS; i++) {
            for (late = 0; late <= 100; late += 50) {
                if (!test_case((i * 3 + late / 50) * WORLD_KINDS + kind)) continue;
                world_begin(kind, &plays[i], test.seed + i);
                on->store.late = late;
                CHECK_EQ(world_live(UINT64_MAX), PAGENT_OK);
                world_check();
                world_end();
            }
        }
    }
}

/* ---- crashes ---------------------------------------------------------------------------------------------------- */

/* The number of kinds of crash that make sense: memory has only one. */
static int crash_of(uint32_t kind, uint64_t id)
{
    return kind == WORLD_MEMORY ? SIM_KILL : (int)(id % SIM_BYTES);
}

static void sweep_cuts(uint32_t kind, uint32_t inbox)
{
    uint32_t i, again, agains = (uint32_t)test_effort(1);
    for (i = 0; i < PLAYS; i++) {
        uint64_t points = rehearse(kind, &plays[i], 0, inbox), cut;
        for (cut = 0; cut < 2 * points; cut++) {
            for (again = 0; again < agains; again++) {
                uint64_t id = (cut * PLAYS + i) * 100 + again;
                if (!test_sweep(id)) continue;
                world_begin(kind, &plays[i], test.seed);
                w.use_inbox = inbox;
                w.disk.cut = cut;
                live_on(crash_of(kind, pai_mix(id)), id);
                world_check();
                world_end();
            }
        }
    }
}

TEST(cut_memory)
{
    sweep_cuts(WORLD_MEMORY, 0);
}
TEST(cut_shared)
{
    sweep_cuts(WORLD_SHARED, 0);
}
TEST(cut_per_agent)
{
    sweep_cuts(WORLD_PER_AGENT, 0);
}
TEST(cut_inbox_memory)
{
    sweep_cuts(WORLD_MEMORY, 1);
}
TEST(cut_inbox_shared)
{
    sweep_cuts(WORLD_SHARED, 1);
}

/* All pairs of cuts of the small plays; on disk every ninth of each. The second counts from the restart. */
TEST(cut_twice)
{
    uint32_t kind, i;
    for (kind = 0; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < SMALL_PLAYS; i++) {
            uint64_t points = rehearse(kind, &plays[i], 0, 0), first, second, step = kind == WORLD_MEMORY ? 1 : 9;
            for (first = test.seed % step; first < 2 * points; first += step) {
                for (second = test.seed % step; second < 2 * points; second += step) {
                    uint64_t id = (first * 10000 + second) * 10 + i * 3 + kind;
                    int result;
                    if (!test_sweep(id)) continue;
                    world_begin(kind, &plays[i], test.seed);
                    result = world_live(first);
                    CHECK_EQ(result, WORLD_CRASHED);
                    sim_power_cut(&w.disk, crash_of(kind, pai_mix(id)), id);
                    sim_restart_count(&w.disk);
                    w.disk.cut = second;
                    live_on(crash_of(kind, pai_mix(id + 1)), id + 1);
                    world_check();
                    world_end();
                }
            }
        }
    }
}

/* Crashes at random, again and again. */
TEST(cut_often)
{
    uint64_t round, rounds = test_effort(1500);
    for (round = 0; round < rounds; round++) {
        sim_random random;
        uint32_t kind, lives;
        if (!test_case(round)) continue;
        random.state = test.seed * 65537u + round;
        kind = (uint32_t)sim_below(&random, WORLD_KINDS);
        world_begin(kind, &plays[sim_below(&random, PLAYS)], test.seed + round);
        w.use_inbox = sim_below(&random, 3) == 0;
        on->store.late = (uint32_t)sim_below(&random, 3) * 40;
        for (lives = 0; lives < 6; lives++) {
            sim_restart_count(&w.disk);
            if (world_live(sim_below(&random, 500)) != WORLD_CRASHED) break;
            sim_power_cut(&w.disk, crash_of(kind, sim_next(&random)), sim_next(&random));
            if (sim_below(&random, 4) == 0) on->host.now_ms += sim_below(&random, 100000);
        }
        world_disarm();
        live_on(SIM_KILL, round);
        world_check();
        world_end();
    }
}

/* Closed in good order after any number of rounds, with commits under way: a message whose step is not durable is still
   in the inbox. Its sender waits; it does not send again. */
TEST(close_with_mail)
{
    uint32_t kind, i, rounds;
    for (kind = 0; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < PLAYS; i++) {
            if (plays[i].notes == 0) continue;
            for (rounds = 1; rounds <= 60; rounds++) {
                int result;
                if (!test_sweep((rounds * PLAYS + i) * WORLD_KINDS + kind)) continue;
                world_begin(kind, &plays[i], test.seed + rounds);
                w.use_inbox = 1;
                on->store.late = 100;
                CHECK_EQ(world_open(), PAGENT_OK);
                w.patience = rounds;
                result = world_work();
                CHECK(result == PAGENT_OK || result == PAGENT_E_TIMEOUT);
                CHECK_EQ(world_close(), PAGENT_OK);
                w.crashed_once = 1; /* what was called is in doubt */
                world_disarm();
                on->store.late = 0;
                CHECK_EQ(world_live(UINT64_MAX), PAGENT_OK);
                world_check();
                world_end();
            }
        }
    }
}

/* ---- failing callbacks ------------------------------------------------------------------------------------------- */

/* Each call of the directory and the device: once, for ever, all of its kind; done and not done. */
TEST(disk_call_fails)
{
    uint32_t kind, i, how;
    for (kind = WORLD_SHARED; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < PLAYS; i++) {
            uint64_t points = rehearse(kind, &plays[i], 0, 0), at;
            for (at = 0; at < points; at++) {
                for (how = 0; how < 4; how++) {
                    uint64_t id = ((at * PLAYS + i) * 4 + how) * 2 + kind - 1;
                    if (!test_sweep(id)) continue;
                    world_begin(kind, &plays[i], test.seed);
                    w.disk.fail_at = at;
                    w.disk.fail_code = how % 2 == 0 ? PAGENT_E_STORAGE : PAGENT_E_NO_SPACE;
                    w.disk.fail_forever = how == 0 || how == 3 ? 0 : (int)how;
                    w.disk.fail_variant = (int)(pai_mix(id) % 3);
                    if (w.disk.fail_code == PAGENT_E_NO_SPACE && w.disk.fail_variant == 1) w.disk.fail_variant = 0;
                    w.rivals = w.disk.fail_variant == 1; /* a rename that is done all the same looks like a rival's */
                    w.disk.cut = UINT64_MAX;
                    w.patience = w.disk.fail_forever != 0 ? 300 : 0; /* waiting does not help: end that life */
                    live_on(SIM_LOSE, id);
                    world_check();
                    world_end();
                }
            }
        }
    }
}

/* Each callback of the store, with each answer that it may give. */
TEST(store_call_fails)
{
    static const int codes[] = {PAGENT_E_AGAIN,
                                PAGENT_E_NO_SPACE,
                                PAGENT_E_IN_DOUBT,
                                PAGENT_E_IN_DOUBT,
                                PAGENT_E_IN_DOUBT,
                                PAGENT_E_STORAGE,
                                -5};
    uint32_t kind, i, how;
    for (kind = 0; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < PLAYS; i++) {
            uint64_t at, calls;
            if (rehearse(kind, &plays[i], 0, 0) == 0) continue;
            world_begin(kind, &plays[i], test.seed);
            (void)world_live(UINT64_MAX);
            calls = on->store.calls;
            world_end();
            for (at = 1; at <= calls; at++) {
                for (how = 0; how < 14; how++) {
                    uint64_t id = ((at * PLAYS + i) * 14 + how) * WORLD_KINDS + kind;
                    if (how >= 7 && (at + i) % 7 != 0) continue; /* late: a part of them */
                    if (!test_sweep(id)) continue;
                    world_begin(kind, &plays[i], test.seed);
                    on->store.fail_at = at;
                    on->store.fail_code = codes[how % 7];
                    on->store.fail_doubt = how % 7 == 3   ? SIM_APPLIED
                                           : how % 7 == 4 ? SIM_APPLIED_LATE
                                                          : SIM_NOT_APPLIED;
                    on->store.late = how >= 7 ? 60 : 0;
                    w.disk.cut = UINT64_MAX;
                    live_on(SIM_KILL, id);
                    world_check();
                    world_end();
                }
            }
        }
    }
}

/* The same, where every request is a message: a receipt that the store does not take is offered again. */
TEST(mail_call_fails)
{
    static const int codes[] = {PAGENT_E_AGAIN, PAGENT_E_NO_SPACE, PAGENT_E_STORAGE};
    uint32_t kind, i, how;
    for (kind = 0; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < PLAYS; i++) {
            uint64_t at, calls;
            /* not "review": there a look that fails lets the world's clock run to a deadline */
            if (plays[i].notes < 2 || i == PLAYS - 1 || rehearse(kind, &plays[i], 0, 1) == 0) continue;
            world_begin(kind, &plays[i], test.seed);
            w.use_inbox = 1;
            (void)world_live(UINT64_MAX);
            calls = on->store.calls;
            world_end();
            for (at = 1; at <= calls; at++) {
                for (how = 0; how < 3; how++) {
                    uint64_t id = ((at * PLAYS + i) * 3 + how) * WORLD_KINDS + kind;
                    if (!test_sweep(id)) continue;
                    world_begin(kind, &plays[i], test.seed);
                    w.use_inbox = 1;
                    on->store.fail_at = at;
                    on->store.fail_code = codes[how];
                    on->store.late = at % 3 == 0 ? 60 : 0;
                    w.disk.cut = UINT64_MAX;
                    live_on(SIM_KILL, id);
                    world_check();
                    world_end();
                }
            }
        }
    }
}

/* Each allocation: once, and from then on. */
TEST(allocation_fails)
{
    uint32_t kind, i, forever;
    for (kind = 0; kind < 2; kind++) {
        for (i = 0; i < PLAYS; i++) {
            uint64_t at, calls;
            if (rehearse(kind, &plays[i], 0, 0) == 0) continue;
            world_begin(kind, &plays[i], test.seed);
            (void)world_live(UINT64_MAX);
            calls = on->host.memory.calls;
            world_end();
            for (at = 1; at <= calls; at++) {
                for (forever = 0; forever < 2; forever++) {
                    uint64_t id = ((at * PLAYS + i) * 2 + forever) * 2 + kind;
                    if (!test_sweep(id)) continue;
                    world_begin(kind, &plays[i], test.seed);
                    on->host.memory.fail_at = at;
                    on->host.memory.fail_forever = (int)forever;
                    w.disk.cut = UINT64_MAX;
                    w.patience = forever != 0 ? 300 : 0; /* waiting does not help: end that life */
                    live_on(SIM_KILL, id);
                    world_check();
                    world_end();
                }
            }
        }
    }
}

/* Random bytes are not to be had; a call is refused by the host. */
TEST(host_call_fails)
{
    uint32_t kind, i;
    for (kind = 0; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < PLAYS; i++) {
            uint64_t at;
            for (at = 1; at <= 12; at++) {
                if (!test_case((at * PLAYS + i) * WORLD_KINDS + kind)) continue;
                world_begin(kind, &plays[i], test.seed);
                w.host_fail_at = at;
                on->host.random_fail_at = at;
                w.disk.cut = UINT64_MAX;
                live_on(SIM_KILL, at);
                world_check();
                world_end();
            }
        }
    }
}

/* Everything is answered late and out of order, and something fails or dies as well. */
TEST(late_and_failing)
{
    static const int codes[] = {PAGENT_E_AGAIN, PAGENT_E_NO_SPACE, PAGENT_E_IN_DOUBT, PAGENT_E_STORAGE};
    uint64_t round, rounds = test_effort(3000);
    for (round = 0; round < rounds; round++) {
        sim_random random;
        uint32_t kind;
        if (!test_case(round)) continue;
        random.state = test.seed * 257u + round;
        kind = (uint32_t)sim_below(&random, WORLD_KINDS);
        world_begin(kind, &plays[sim_below(&random, PLAYS)], test.seed + round);
        on->store.late = 30 + (uint32_t)sim_below(&random, 71);
        on->store.fail_at = 1 + sim_below(&random, 120);
        on->store.fail_code = codes[sim_below(&random, 4)];
        on->store.fail_doubt = (int)sim_below(&random, 3);
        w.disk.cut = sim_coin(&random) ? sim_below(&random, 800) : UINT64_MAX;
        live_on(crash_of(kind, sim_next(&random)), round);
        world_check();
        world_end();
    }
}

/* The disk is full after so many bytes; later there is room again. */
TEST(full_disk)
{
    uint32_t kind, i;
    for (kind = WORLD_SHARED; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < PLAYS; i++) {
            uint64_t most, capacity;
            if (rehearse(kind, &plays[i], 0, 0) == 0) continue;
            world_begin(kind, &plays[i], test.seed);
            (void)world_live(UINT64_MAX);
            most = sim_used(&w.disk);
            world_end();
            for (capacity = 64; capacity < most; capacity += 576) {
                int result;
                if (!test_sweep((capacity * PLAYS + i) * 2 + kind - 1)) continue;
                world_begin(kind, &plays[i], test.seed);
                w.disk.capacity = capacity;
                w.patience = 300;
                result = world_live(UINT64_MAX);
                if (result != PAGENT_OK && result != PAGENT_E_TIMEOUT && result != PAGENT_E_NO_SPACE) {
                    FAIL("a full disk gives %s (%s)", pagent_result_name(result), w.text);
                }
                if (result != PAGENT_OK) {
                    world_die();
                    sim_power_cut(&w.disk, SIM_LOSE, capacity);
                    world_disarm();
                    live_on(SIM_KILL, capacity);
                }
                world_check();
                world_end();
            }
        }
    }
}

/* The same, with room made while the engine lives: it goes on by itself. */
TEST(full_disk_then_room)
{
    uint32_t kind, i;
    for (kind = WORLD_SHARED; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < PLAYS; i++) {
            uint64_t capacity;
            for (capacity = 4096; capacity < 20000; capacity += 1024) {
                int result, round;
                if (!test_sweep((capacity * PLAYS + i) * 2 + kind - 1)) continue;
                world_begin(kind, &plays[i], test.seed);
                if (!CHECK_EQ(world_open(), PAGENT_OK)) continue;
                w.disk.capacity = capacity;
                send_asks();
                for (round = 0; round < 300; round++) {
                    result = pagent_poll(on->engine);
                    harvest_asks();
                    if (result < 0) break;
                    if (result == PAGENT_IDLE && !deliver_answer()) on->host.now_ms += 100;
                }
                if (result < 0) FAIL("a full disk stops the engine: %s", pagent_error_text(on->engine));
                w.disk.capacity = 0;
                if (result >= 0) CHECK_EQ(world_work(), PAGENT_OK);
                CHECK_EQ(world_close(), PAGENT_OK);
                if (result < 0) live_on(SIM_KILL, 1);
                world_check();
                world_end();
            }
        }
    }
}

/* ---- two engines ------------------------------------------------------------------------------------------------- */

/* Does what can be done for a while, without asking for anything. */
static void side_works(uint32_t rounds)
{
    while (rounds-- != 0 && on->engine != NULL) {
        int result = pagent_poll(on->engine);
        if (result < 0) break;
        if (result == PAGENT_OK || sim_complete(&on->store) || deliver_answer()) continue;
        sides[0].host.now_ms += 250;
        sides[1].host.now_ms += 250;
    }
}

/* While the first engine stands still somewhere, the other takes the store over and works. */
static void rival_takes_over(void *ctx)
{
    const uint64_t *rounds = (const uint64_t *)ctx;
    on = &sides[1];
    on->host.now_ms = sides[0].host.now_ms;
    if (CHECK_EQ(world_open(), PAGENT_OK)) side_works((uint32_t)*rounds);
    on = &sides[0];
}

/* The first engine is paused before and after each call of the store; then it wakes as a zombie and goes on. Later
   it is opened again, and the other is the zombie. Nothing is done twice, nothing acknowledged is lost. */
static void sweep_rivals(uint32_t kind)
{
    static uint64_t rounds;
    uint32_t i;
    for (i = 0; i < PLAYS; i++) {
        uint64_t points = rehearse(kind, &plays[i], 0, 0), at;
        for (at = 1; at < points; at++) {
            for (rounds = 2; rounds <= 32; rounds *= 4) {
                int result;
                if (!test_sweep((at * PLAYS + i) * 100 + rounds)) continue;
                world_begin(kind, &plays[i], test.seed);
                w.rivals = w.crashed_once = 1;
                w.disk.lock_broken = 1;
                w.disk.pause_at = at;
                w.disk.meanwhile = rival_takes_over;
                w.disk.meanwhile_ctx = &rounds;
                w.patience = 400;
                result = world_live(UINT64_MAX);
                w.disk.pause_at = UINT64_MAX;
                if (result != PAGENT_OK) {
                    world_die();
                    sim_end_process(&w.disk, on->process.id);
                    live_on(SIM_KILL, at);
                }
                on = &sides[1];
                if (on->engine != NULL) {
                    side_works(20);
                    (void)world_close();
                }
                on = &sides[0];
                w.rivals = 0;
                w.disk.lock_broken = 0;
                w.disk.lock_owner = 0;
                world_check();
                world_end();
            }
        }
    }
}

TEST(rivals_memory)
{
    sweep_rivals(WORLD_MEMORY);
}
TEST(rivals_shared)
{
    sweep_rivals(WORLD_SHARED);
}
TEST(rivals_per_agent)
{
    sweep_rivals(WORLD_PER_AGENT);
}

/* ---- clocks ------------------------------------------------------------------------------------------------------ */

TEST(strange_clocks)
{
    uint32_t kind, i, how;
    for (kind = 0; kind < WORLD_KINDS; kind++) {
        for (i = 0; i < PLAYS; i++) {
            for (how = 0; how < 5; how++) {
                uint64_t cut = UINT64_MAX;
                if (!test_case((i * 5 + how) * WORLD_KINDS + kind)) continue;
                if (strstr(plays[i].name, "approvals") != NULL && how == 1)
                    continue; /* a year later they have expired */
                world_begin(kind, &plays[i], test.seed);
                if (how == 0) on->host.clock_step_ms = -3;               /* each look is earlier than the last */
                if (how == 1) on->host.clock_step_ms = 40;               /* time flies */
                if (how == 2) on->host.now_ms = UINT64_C(2147483647999); /* 2038 */
                if (how == 3) cut = 200;                                 /* restarted on a machine an hour behind */
                if (how == 4) cut = 150;                                 /* … or a day ahead */
                if (world_live(cut) == WORLD_CRASHED) {
                    sim_power_cut(&w.disk, SIM_KILL, 1);
                    world_disarm();
                    if (how == 3) on->host.now_ms -= 3600000u;
                    if (how == 4) on->host.now_ms += 60000u;
                    live_on(SIM_KILL, 1);
                }
                on->host.clock_step_ms = 0;
                world_check();
                world_end();
            }
        }
    }
}

TEST_MAIN(ROW(plays_end_well), ROW(cut_memory), ROW(cut_shared), ROW(cut_per_agent), ROW(cut_inbox_memory),
          ROW(cut_inbox_shared), ROW(cut_twice), ROW(cut_often), ROW(close_with_mail), ROW(disk_call_fails),
          ROW(store_call_fails), ROW(mail_call_fails), ROW(allocation_fails), ROW(host_call_fails),
          ROW(late_and_failing), ROW(full_disk), ROW(full_disk_then_room), ROW(strange_clocks), ROW(rivals_memory),
          ROW(rivals_shared), ROW(rivals_per_agent))
