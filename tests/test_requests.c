/* test_requests.c: what everybody outside may ask of an agent, one rule at a time: versions and conflicts, duplicates,
   decisions, rollback, fork, cancel, trim, held effects, and requests as bytes. On every kind of store. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include "guard.h"
#include "world.h"

static pagent_receipt last; /* of the last request */

/* Polls until there is nothing to do now. Answers stay where they are. */
static void poll_until_idle(void)
{
    uint32_t tries;
    int result = PAGENT_OK;
    for (tries = 0; tries < 1000; tries++) {
        result = pagent_poll(on->engine);
        if (result != PAGENT_OK && !sim_complete(&on->store)) break;
    }
    if (result != PAGENT_IDLE) FAIL("poll: %s (%s)", pagent_result_name(result), pagent_error_text(on->engine));
}

/* Submits, polls, and gives the receipt's result. */
static int request(const pagent_request *what)
{
    int result;
    memset(&last, 0, sizeof last);
    result = pagent_submit(on->engine, what, &last);
    if (result != PAGENT_OK) return result;
    poll_until_idle();
    if (last.result == PAGENT_OK) outside_check_order(pagent_stream_of(what->agent), last.version);
    if (last.result < 0 && last.text[0] == 0) FAIL("refused with %s and no text", pagent_result_name(last.result));
    return last.result;
}

static pagent_request new_request(uint32_t verb, const char *agent)
{
    pagent_request made;
    memset(&made, 0, sizeof made);
    made.size = (uint32_t)sizeof made;
    made.verb = verb;
    made.agent = agent;
    return made;
}

static int create(const char *agent, const char *program)
{
    pagent_request what = new_request(PAGENT_CREATE, agent);
    what.event = "worker";
    what.data.data = program;
    what.data.size = (uint32_t)strlen(program);
    return request(&what);
}

static int note(const char *agent, uint8_t number, const char *id, uint64_t expected)
{
    pagent_request what = new_request(PAGENT_POST, agent);
    what.event = "note";
    what.id = id;
    what.expected_version = expected;
    what.data.data = &number;
    what.data.size = 1;
    return request(&what);
}

static int decide(const char *agent, uint32_t decision, pagent_effect_id effect, uint64_t digest)
{
    pagent_request what = new_request(PAGENT_DECIDE, agent);
    what.who = "somebody";
    what.decision = decision;
    what.effect = effect;
    what.digest = digest;
    what.data.data = "edited";
    what.data.size = decision == PAGENT_EDIT ? 6 : 0;
    return request(&what);
}

static int roll_back(const char *agent, uint64_t version, uint32_t force)
{
    pagent_request what = new_request(PAGENT_ROLLBACK, agent);
    what.version = version;
    what.force = force;
    return request(&what);
}

/* An agent as it is, or was: its context, and the rest in `info` (whose pointers do not hold). */
static memo memo_at(const char *agent, uint64_t version, pagent_info *info)
{
    pagent_view *view = NULL;
    pagent_info other;
    memo m;
    int result = look(agent, version, &view);
    memset(&m, 0, sizeof m);
    if (info == NULL) info = &other;
    memset(info, 0, sizeof *info);
    if (result < 0) {
        FAIL("%s at %llu: %s", agent, (unsigned long long)version, pagent_result_name(result));
        return m;
    }
    CHECK_EQ(pagent_view_info(view, info), PAGENT_OK);
    if (CHECK(info->context.size >= sizeof m)) memcpy(&m, info->context.data, sizeof m);
    info->context.data = NULL;
    pagent_close_view(view);
    return m;
}

static int effect_of(const char *agent, uint32_t index, pagent_effect *effect)
{
    pagent_view *view = NULL;
    int result = look(agent, 0, &view);
    if (result < 0) return result;
    result = pagent_view_effect(view, index, effect);
    pagent_close_view(view);
    return result;
}

/* Delivers every answer that is on its way, and what follows from them. */
static void deliver_all(void)
{
    uint32_t tries;
    poll_until_idle();
    for (tries = 0; tries < 100 && deliver_answer(); tries++) poll_until_idle();
}

static void wait_ms(uint64_t pause)
{
    on->host.now_ms += pause;
    poll_until_idle();
}

static const play nothing = {"nothing", {NULL}, 0, NULL};

static int begin(uint32_t kind)
{
    if (!test_case(kind)) return 0;
    world_begin(kind, &nothing, test.seed);
    if (CHECK_EQ(world_open(), PAGENT_OK)) return 1;
    world_end();
    return 0;
}

static void again(void)
{
    CHECK_EQ(world_close(), PAGENT_OK);
    CHECK_EQ(world_open(), PAGENT_OK);
}

static void end(void)
{
    CHECK_EQ(world_close(), PAGENT_OK);
    world_end();
}

#define EACH_KIND(kind)                                                                                                \
    for (kind = 0; kind < WORLD_KINDS; kind++)                                                                         \
        if (begin(kind))

static const pagent_effect_id any_effect = {0, 0};

/* ---- the rules --------------------------------------------------------------------------------------------------- */

/* world.h looks programs up by the agent's letter: give them to it. */
static play given;
static void programs(const char *a, const char *b)
{
    memset(&given, 0, sizeof given);
    given.name = "given";
    given.programs[0] = a;
    given.programs[1] = b;
    w.plays = &given;
}

TEST(conflicts)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_info info;
        uint64_t seen;
        programs("W1", NULL);
        CHECK_EQ(create("a", "W1"), PAGENT_OK);
        CHECK_EQ(create("a", "W1"), PAGENT_E_EXISTS);
        (void)memo_at("a", 0, &info);
        seen = info.changed_version;
        CHECK_EQ(note("a", 1, NULL, seen), PAGENT_OK);
        CHECK_EQ(note("a", 2, NULL, seen), PAGENT_E_CONFLICT);
        (void)memo_at("a", 0, &info);
        CHECK_EQ(last.version, info.changed_version);
        CHECK_EQ(note("a", 2, NULL, last.version), PAGENT_OK);
        (void)memo_at("a", 0, &info);
        seen = info.changed_version;
        again(); /* a claim by itself changes nothing that anybody can see */
        wait_ms(5000);
        CHECK_EQ(note("a", 3, NULL, seen), PAGENT_OK);
        CHECK_EQ(note("a", 3, NULL, seen + 1000), PAGENT_E_FUTURE); /* a journal restored from an old copy */
        CHECK_EQ(memo_at("a", 0, NULL).notes[3], 1);
        end();
    }
}

/* The last 16 ids are known, over snapshots and restarts, whoever sends them again. */
TEST(duplicates)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        uint64_t versions[WORLD_NOTES];
        uint32_t i, round;
        char id[16];
        programs("W1", NULL);
        w.limits.snapshot_floor = 1;
        again();
        CHECK_EQ(create("a", "W1"), PAGENT_OK);
        for (i = 0; i < WORLD_NOTES; i++) {
            snprintf(id, sizeof id, "id-%u", (unsigned)i);
            CHECK_EQ(note("a", (uint8_t)i, id, PAGENT_ANY), PAGENT_OK);
            versions[i] = last.version;
        }
        for (round = 0; round < 3; round++) {
            for (i = 0; i < WORLD_NOTES; i++) {
                snprintf(id, sizeof id, "id-%u", (unsigned)i);
                CHECK_EQ(note("a", (uint8_t)i, id, PAGENT_ANY), PAGENT_DUPLICATE);
                CHECK_EQ(last.version, versions[i]);
            }
            again();
        }
        for (i = 0; i < WORLD_NOTES; i++) CHECK_EQ(memo_at("a", 0, NULL).notes[i], 1);
        /* an id that was refused was not applied: it may come again */
        CHECK_EQ(note("a", 0, "late", 1), PAGENT_E_CONFLICT);
        CHECK_EQ(note("a", 0, "late", PAGENT_ANY), PAGENT_OK);
        end();
    }
}

TEST(decisions)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_effect effect;
        pagent_effect_id unknown = {1, 77}, future = {5000, 0};
        memo m;
        programs("A0A2A3", NULL);
        CHECK_EQ(decide("a", PAGENT_APPROVE, any_effect, 0), PAGENT_E_NOT_FOUND);
        CHECK_EQ(create("a", "A0A2A3"), PAGENT_OK);
        CHECK_EQ(effect_of("a", 0, &effect), PAGENT_OK);
        CHECK_EQ(effect.kind, PAGENT_EFFECT_APPROVAL);
        CHECK(effect.digest == pagent_digest("a:0", 3));
        CHECK(decide("a", PAGENT_APPROVE, effect.id, effect.digest ^ 1) < 0); /* another payload was shown */
        CHECK(decide("a", PAGENT_APPROVE, unknown, 0) < 0);
        CHECK_EQ(decide("a", PAGENT_APPROVE, future, 0), PAGENT_E_FUTURE);
        CHECK_EQ(memo_at("a", 0, NULL).log_size, 0);
        CHECK_EQ(decide("a", PAGENT_APPROVE, effect.id, effect.digest), PAGENT_OK);
        CHECK_EQ(decide("a", PAGENT_REJECT, effect.id, 0), PAGENT_E_SETTLED);
        CHECK_EQ(decide("a", PAGENT_EDIT, any_effect, 0), PAGENT_OK);
        again();
        CHECK_EQ(effect_of("a", 0, &effect), PAGENT_OK);
        on->host.now_ms =
            effect.due_ms + 1; /* the decision and the deadline are due together: the deadline was first */
        CHECK_EQ(decide("a", PAGENT_APPROVE, effect.id, 0), PAGENT_E_EXPIRED);
        m = memo_at("a", 0, NULL);
        CHECK_TEXT(m.log, "AXx");
        CHECK(decide("a", PAGENT_APPROVE, any_effect, 0) < 0);
        end();
    }
}

/* Every version can be looked at, later and after a restart, and is what it was. */
TEST(versions_stay)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        static memo seen[64];
        pagent_info info;
        uint64_t newest = 0, version;
        uint32_t i;
        programs("L0F0A0L0", NULL);
        w.limits.snapshot_floor = 1;
        again();
        memset(seen, 0, sizeof seen);
        memset(&info, 0, sizeof info);
        CHECK_EQ(create("a", "L0F0A0L0"), PAGENT_OK);
        for (i = 0; i < 8; i++) {
            CHECK_EQ(note("a", (uint8_t)(i % 4), NULL, PAGENT_ANY), PAGENT_OK);
            if (last.version < 64) seen[last.version] = memo_at("a", 0, NULL);
            newest = last.version;
            if (i == 4) again();
        }
        for (version = 1; version <= newest && version < 64; version++) {
            memo m = memo_at("a", version, &info);
            CHECK_EQ(info.version, version);
            if (seen[version].program[0] != 0) CHECK(memcmp(&m, &seen[version], sizeof m) == 0);
        }
        {
            pagent_view *view = NULL;
            CHECK_EQ(look("a", newest + 50, &view), PAGENT_E_NOT_FOUND);
        }
        check_history("a", info.version);
        end();
    }
}

TEST(rollback)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_info info;
        uint64_t first;
        memo m;
        programs("F0A0P0A0", NULL);
        CHECK_EQ(create("a", "F0A0P0A0"), PAGENT_OK);
        deliver_all();
        (void)memo_at("a", 0, &info); /* asked */
        first = info.version;
        CHECK_EQ(note("a", 5, NULL, PAGENT_ANY), PAGENT_OK);
        CHECK_EQ(memo_at("a", 0, NULL).notes[5], 1);
        CHECK_EQ(roll_back("a", first, 0), PAGENT_OK); /* the note never was; the question is asked anew */
        CHECK(last.version > first);
        m = memo_at("a", 0, &info);
        CHECK_EQ(m.notes[5], 0);
        CHECK_TEXT(m.log, "F");
        CHECK_EQ(info.effect_count, 1);
        CHECK_EQ(roll_back("a", first + 1, 0), PAGENT_OK); /* a rollback of the rollback */
        CHECK_EQ(memo_at("a", 0, NULL).notes[5], 1);
        again();
        CHECK_EQ(memo_at("a", 0, NULL).notes[5], 1);
        CHECK_EQ(decide("a", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        deliver_all(); /* published: that cannot be taken back */
        CHECK_TEXT(memo_at("a", 0, NULL).log, "FAP");
        CHECK_EQ(roll_back("a", first, 0), PAGENT_E_IRREVERSIBLE);
        again();
        CHECK_EQ(roll_back("a", first, 0), PAGENT_E_IRREVERSIBLE);
        CHECK_EQ(roll_back("a", 5000, 0), PAGENT_E_NOT_FOUND);
        CHECK_EQ(roll_back("a", first, 1), PAGENT_OK); /* unless forced */
        CHECK_TEXT(memo_at("a", 0, NULL).log, "F");
        (void)memo_at("a", 0, &info);
        check_history("a", info.version);
        end();
    }
}

/* What a rollback or a cancellation has ended is not answered any more; what is issued again has a new key. */
TEST(rollback_of_a_call)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_call_id old;
        pagent_answer answer;
        pagent_effect effect;
        char key[PAGENT_KEY_SIZE];
        programs("A0F0", NULL);
        CHECK_EQ(create("a", "A0F0"), PAGENT_OK);
        CHECK_EQ(decide("a", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        poll_until_idle();
        if (!CHECK_EQ(w.answer_count, 1) || !CHECK_EQ(w.call_count, 1)) continue;
        old = w.answers[0].id;
        snprintf(key, sizeof key, "%s", w.calls[0].key);
        w.answer_count = w.call_count = 0;
        CHECK_EQ(roll_back("a", 1, 0), PAGENT_OK);
        memset(&answer, 0, sizeof answer);
        answer.data.data = "answer to a:2";
        answer.data.size = 13;
        CHECK_EQ(pagent_call_done(on->engine, &old, &answer), PAGENT_E_STALE);
        poll_until_idle();
        CHECK_EQ(memo_at("a", 0, NULL).log_size, 0);
        CHECK_EQ(decide("a", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        poll_until_idle();
        if (CHECK_EQ(w.call_count, 1)) CHECK(strcmp(w.calls[0].key, key) != 0);
        CHECK_EQ(effect_of("a", 0, &effect), PAGENT_OK);
        deliver_all();
        CHECK_TEXT(memo_at("a", 0, NULL).log, "AF");
        end();
    }
}

TEST(forks)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_request what = new_request(PAGENT_FORK, "a");
        pagent_info info, before;
        programs("A0F0", "A0F0");
        CHECK_EQ(create("a", "A0F0"), PAGENT_OK);
        CHECK_EQ(note("a", 7, NULL, PAGENT_ANY), PAGENT_OK);
        (void)memo_at("a", 0, &before);
        what.target = "b";
        what.version = 1;
        CHECK_EQ(request(&what), PAGENT_OK);
        CHECK_EQ(request(&what), PAGENT_E_EXISTS);
        what.target = "c";
        what.version = 5000;
        CHECK_EQ(request(&what), PAGENT_E_NOT_FOUND);
        again();
        CHECK_EQ(memo_at("b", 0, &info).notes[7], 0);
        CHECK_EQ(info.parent_version, 1);
        CHECK_EQ(memo_at("a", 0, &info).notes[7], 1);
        CHECK_EQ(info.changed_version, before.changed_version); /* the source is as it was */
        CHECK_EQ(decide("b", PAGENT_REJECT, any_effect, 0), PAGENT_OK);
        CHECK_EQ(decide("a", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        deliver_all();
        /* the fork has its own name, but the program's text still says whose it was: look at the letters only */
        CHECK_EQ(memo_at("b", 0, NULL).log[0], 'R');
        CHECK_TEXT(memo_at("a", 0, NULL).log, "AF");
        check_history("b", memo_at("b", 0, &info).log_size != 0 ? info.version : 0);
        end();
    }
}

TEST(cancel)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_request what = new_request(PAGENT_CANCEL, "a");
        pagent_call_id id;
        pagent_answer answer;
        pagent_info info;
        programs("F0", NULL);
        CHECK_EQ(create("a", "F0"), PAGENT_OK);
        if (!CHECK_EQ(w.answer_count, 1)) continue;
        id = w.answers[0].id;
        memset(&answer, 0, sizeof answer);
        what.expected_version = 99;
        CHECK_EQ(request(&what), PAGENT_E_FUTURE);
        what.expected_version = PAGENT_ANY;
        CHECK_EQ(request(&what), PAGENT_OK);
        (void)memo_at("a", 0, &info);
        CHECK_EQ(info.status, PAGENT_CANCELLED);
        CHECK_EQ(info.effect_count, 0);
        CHECK_EQ(pagent_call_done(on->engine, &id, &answer), PAGENT_E_STALE);
        CHECK_EQ(note("a", 1, NULL, PAGENT_ANY), PAGENT_E_FINISHED);
        CHECK_EQ(request(&what), PAGENT_E_FINISHED);
        again();
        (void)memo_at("a", 0, &info);
        CHECK_EQ(info.status, PAGENT_CANCELLED);
        poll_until_idle();
        CHECK(pagent_is_quiet(on->engine));
        end();
    }
}

/* Answers: once, to the attempt that is under way. */
TEST(answers)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_call_id id, wrong;
        pagent_answer answer;
        programs("F1T0", NULL);
        CHECK_EQ(create("a", "F1T0"), PAGENT_OK);
        if (!CHECK_EQ(w.answer_count, 1)) continue;
        id = w.answers[0].id;
        CHECK_EQ(id.attempt, 1);
        memset(&answer, 0, sizeof answer);
        answer.data.data = "answer to a:0";
        answer.data.size = 13;
        wrong = id;
        wrong.attempt = 2;
        CHECK_EQ(pagent_call_done(on->engine, &wrong, &answer), PAGENT_E_STALE);
        wrong = id;
        wrong.index++;
        CHECK_EQ(pagent_call_done(on->engine, &wrong, &answer), PAGENT_E_STALE);
        wrong = id;
        wrong.version += 100;
        CHECK_EQ(pagent_call_done(on->engine, &wrong, &answer), PAGENT_E_FUTURE);
        answer.outcome = PAGENT_FAILED;
        answer.retry_after_ms = 5000;
        CHECK_EQ(pagent_call_done(on->engine, &id, &answer), PAGENT_OK);
        answer.outcome = PAGENT_ANSWERED;
        CHECK_EQ(pagent_call_done(on->engine, &id, &answer), PAGENT_E_STALE); /* it has been answered */
        w.answer_count = 0;
        w.calls[0].refused = 1;
        poll_until_idle();
        CHECK(pagent_next_deadline(on->engine) <= on->host.now_ms + 5000);
        wait_ms(4000); /* the server said: not before five seconds */
        CHECK_EQ(w.answer_count, 0);
        wait_ms(1100);
        CHECK_EQ(w.answer_count, 1);
        CHECK_EQ(pagent_call_done(on->engine, &id, &answer), PAGENT_E_STALE); /* the first attempt is over */
        deliver_all();
        CHECK_TEXT(memo_at("a", 0, NULL).log, "F");
        wait_ms(1100);
        CHECK_TEXT(memo_at("a", 0, NULL).log, "FT");
        end();
    }
}

/* No answer before the deadline: the attempt fails, and the next one follows. */
TEST(timeouts)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        uint32_t attempt;
        programs("F0", NULL);
        CHECK_EQ(create("a", "F0"), PAGENT_OK);
        for (attempt = 1; attempt < 20 && memo_at("a", 0, NULL).log_size == 0; attempt++) {
            w.answer_count = 0;
            wait_ms(200000);
            wait_ms(70000);
            if (attempt == 5) again();
        }
        CHECK_TEXT(memo_at("a", 0, NULL).log, "f");
        CHECK_EQ(w.calls[0].last_attempt, 12); /* attempts_max */
        CHECK_EQ(w.call_count, 1);             /* one key */
        end();
    }
}

/* Effects that an engine holds back are started by the next one, and are not in doubt. */
TEST(held_effects)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_effect effect;
        programs("P0", NULL);
        CHECK_EQ(world_close(), PAGENT_OK);
        w.hold_effects = 1;
        CHECK_EQ(world_open(), PAGENT_OK);
        CHECK_EQ(create("a", "P0"), PAGENT_OK);
        CHECK_EQ(w.host_calls, 0);
        CHECK_EQ(effect_of("a", 0, &effect), PAGENT_OK);
        CHECK_EQ(effect.phase, PAGENT_PHASE_HELD);
        again();
        wait_ms(1000000);
        CHECK_EQ(w.host_calls, 0);
        CHECK_EQ(world_close(), PAGENT_OK);
        w.hold_effects = 0;
        CHECK_EQ(world_open(), PAGENT_OK);
        deliver_all();
        CHECK_EQ(w.host_calls, 1);
        CHECK_TEXT(memo_at("a", 0, NULL).log, "P");
        end();
    }
}

TEST(bad_requests)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_request what;
        char name[PAGENT_NAME_MAX + 2];
        programs("W1", NULL);
        CHECK_EQ(note("a", 1, NULL, PAGENT_ANY), PAGENT_E_NOT_FOUND);
        what = new_request(PAGENT_CREATE, "a");
        what.event = "nobody";
        CHECK_EQ(request(&what), PAGENT_E_NOT_FOUND); /* no such machine */
        CHECK_EQ(create("a", "W1"), PAGENT_OK);
        what = new_request(PAGENT_POST, "a");
        what.event = "unheard-of";
        CHECK_EQ(request(&what), PAGENT_E_UNDECLARED);
        what = new_request(PAGENT_RETRY, "a");
        CHECK_EQ(request(&what), PAGENT_E_REFUSED);
        what = new_request(99, "a");
        CHECK_EQ(request(&what), PAGENT_E_ARGUMENT);
        what = new_request(PAGENT_CANCEL, "");
        CHECK_EQ(request(&what), PAGENT_E_ARGUMENT);
        memset(name, 'n', sizeof name - 1);
        name[sizeof name - 1] = 0;
        what = new_request(PAGENT_CANCEL, name);
        CHECK_EQ(request(&what), PAGENT_E_ARGUMENT);
        what = new_request(PAGENT_CANCEL, "a");
        what.size = 8;
        CHECK_EQ(request(&what), PAGENT_E_ARGUMENT);
        what = new_request(PAGENT_POST, "a");
        what.event = "note";
        what.data.size = 5;
        CHECK_EQ(request(&what), PAGENT_E_ARGUMENT); /* data is NULL */
        end();
    }
}

/* After trimming, old history is gone by name, and agents go on. */
/* An agent keeps to the tables that made it: without them it waits, and with them it goes on beside newer ones. */
TEST(changed_tables)
{
    static pagent_machine newer;
    static const pagent_machine *const only_new[] = {&newer}, *const both[] = {&worker, &newer};
    uint32_t kind;
    newer = worker;
    newer.version = worker.version + 1;
    EACH_KIND(kind)
    {
        pagent_request what = new_request(PAGENT_RETRY, "a");
        pagent_info info;
        programs("W1", "W1");
        CHECK_EQ(create("a", "W1"), PAGENT_OK);
        w.machines = only_new;
        w.machine_count = 1;
        again();
        CHECK_EQ(note("a", 1, NULL, PAGENT_ANY), PAGENT_E_MACHINE_CHANGED);
        CHECK_EQ(request(&what), PAGENT_E_MACHINE_CHANGED);
        w.machines = both;
        w.machine_count = 2;
        again();
        CHECK_EQ(note("a", 1, NULL, PAGENT_ANY), PAGENT_OK);
        CHECK_EQ(create("b", "W1"), PAGENT_OK);
        (void)memo_at("a", 0, &info);
        CHECK_EQ(info.machine_version, worker.version);
        (void)memo_at("b", 0, &info);
        CHECK_EQ(info.machine_version, newer.version);
        end();
        w.machines = NULL;
    }
}

/* Of several machines the text names the one that is wrong. */
TEST(wrong_machine_is_named)
{
    static pagent_machine wrong;
    static const pagent_machine *const machines[] = {&worker, &wrong};
    wrong = worker;
    wrong.name = "clerk";
    wrong.timers = "nap never";
    if (!begin(0)) return;
    CHECK_EQ(world_close(), PAGENT_OK);
    w.machines = machines;
    w.machine_count = 2;
    CHECK_EQ(world_open(), PAGENT_E_MACHINE);
    CHECK_TEXT(w.text, "machine clerk: timers[1] \"never\": add a row for never.timer");
    w.machines = NULL;
    CHECK_EQ(world_open(), PAGENT_OK);
    end();
}

TEST(trimming)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_info info;
        pagent_view *view = NULL;
        pagent_receipt receipt;
        uint32_t i;
        programs("W1", "A0");
        w.limits.full_snapshots = 1;
        w.limits.snapshot_floor = 300;
        w.options.segment_size = 2048;
        again();
        CHECK_EQ(create("a", "W1"), PAGENT_OK);
        CHECK_EQ(create("b", "A0"), PAGENT_OK);
        for (i = 0; i < 60; i++) CHECK_EQ(note("a", (uint8_t)(i % 8), NULL, PAGENT_ANY), PAGENT_OK);
        memset(&receipt, 0, sizeof receipt);
        receipt.result = PAGENT_PENDING;
        CHECK_EQ(pagent_trim_store(on->engine, &receipt), PAGENT_OK);
        poll_until_idle();
        CHECK_EQ(receipt.result, PAGENT_OK);
        (void)memo_at("a", 0, &info);
        CHECK_EQ(info.transcript_count, 60);
        CHECK_EQ(look("a", 2, &view), PAGENT_E_TRIMMED);
        CHECK_EQ(roll_back("a", 2, 0), PAGENT_E_TRIMMED);
        again();
        CHECK_EQ(memo_at("a", 0, NULL).notes[3], 8);
        check_history("a", memo_at("a", 0, &info).log_size == 0 ? info.version : 0);
        CHECK_EQ(note("a", 3, NULL, PAGENT_ANY), PAGENT_OK);
        CHECK_EQ(decide("b", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        CHECK_TEXT(memo_at("b", 0, NULL).log, "A");
        CHECK_EQ(memo_at("a", 0, NULL).notes[3], 9);
        end();
    }
}

/* ---- requests as bytes ------------------------------------------------------------------------------------------- */

static int same(const char *left, const char *right)
{
    if (left == NULL || left[0] == 0) return right == NULL || right[0] == 0;
    return right != NULL && strcmp(left, right) == 0;
}

/* The engine's tables grow with a crowd, and shrink after it when the engine goes idle. */
TEST(crowd)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pai_agent *agents[200];
        uint32_t i;
        programs("W1", "A0");
        CHECK_EQ(create("a", "W1"), PAGENT_OK);
        CHECK_EQ(create("b", "A0"), PAGENT_OK);
        for (i = 0; i < 200; i++) {
            agents[i] = pai_get_agent(on->engine, i + 1);
            if (!CHECK(agents[i] != NULL)) break;
            pai_set_wake(on->engine, agents[i], on->host.now_ms + 1000000u + i * 77u % 100u);
        }
        pai_shrink(on->engine); /* all are there: nothing to shrink */
        CHECK_EQ(on->engine->bucket_count, 256);
        while (i-- != 0) {
            CHECK(pai_find_agent(on->engine, i + 1) == agents[i]);
            pai_free_agent(on->engine, agents[i]);
        }
        on->host.now_ms += 2000;
        poll_until_idle();
        CHECK_EQ(on->engine->bucket_count, 64);
        CHECK_EQ(note("a", 1, NULL, PAGENT_ANY), PAGENT_OK);
        CHECK_EQ(decide("b", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        end();
    }
}

TEST(requests_as_bytes)
{
    uint8_t *guard = guard_end();
    pagent_request what = new_request(PAGENT_DECIDE, "agent"), back;
    uint8_t bytes[1024];
    sim_random random;
    uint64_t i;
    int size, cut;
    what.id = "id-1";
    what.expected_version = 12;
    what.event = "event";
    what.target = "target";
    what.who = "somebody";
    what.effect.version = 7;
    what.effect.index = 3;
    what.digest = UINT64_C(0x123456789ABCDEF0);
    what.version = 9;
    what.decision = PAGENT_EDIT;
    what.force = 1;
    what.data.data = "some data";
    what.data.size = 9;
    size = pagent_encode_request(&what, NULL, 0);
    if (!CHECK(size > 0 && size < 1024)) return;
    CHECK_EQ(pagent_encode_request(&what, bytes, (uint32_t)size - 1), PAGENT_E_LIMIT);
    CHECK_EQ(pagent_encode_request(&what, bytes, (uint32_t)size), size);
    memcpy(guard - size, bytes, (size_t)size);
    CHECK_EQ(pagent_decode_request(guard - size, (uint32_t)size, &back), PAGENT_OK);
    CHECK(back.verb == what.verb && same(back.agent, what.agent) && same(back.id, what.id) &&
          back.expected_version == 12);
    CHECK(same(back.event, what.event) && same(back.target, what.target) && same(back.who, what.who));
    CHECK(back.effect.version == 7 && back.effect.index == 3 && back.digest == what.digest && back.version == 9);
    CHECK(back.decision == PAGENT_EDIT && back.force == 1 && back.data.size == 9);
    CHECK(memcmp(back.data.data, "some data", 9) == 0);
    for (cut = 0; cut < size; cut++) { /* every length; whatever it says must lie inside */
        memcpy(guard - cut, bytes, (size_t)cut);
        CHECK(pagent_decode_request(guard - cut, (uint32_t)cut, &back) < 0);
    }
    random.state = test.seed;
    for (i = 0; i < test_effort(100000); i++) { /* any bytes */
        uint32_t flips = 1 + (uint32_t)sim_below(&random, 4);
        memcpy(guard - size, bytes, (size_t)size);
        while (flips-- != 0) guard[-1 - (int)sim_below(&random, (uint64_t)size)] = (uint8_t)(sim_next(&random) >> 20);
        if (!test_case(i)) continue;
        if (pagent_decode_request(guard - size, (uint32_t)size, &back) != PAGENT_OK) continue;
        CHECK(back.agent == NULL || strlen(back.agent) < 1024);
        CHECK((const uint8_t *)back.data.data + back.data.size <= guard);
    }
    {
        pagent_receipt receipt, other;
        memset(&receipt, 0, sizeof receipt);
        receipt.result = PAGENT_E_CONFLICT;
        receipt.verb = PAGENT_POST;
        receipt.version = 44;
        snprintf(receipt.text, sizeof receipt.text, "changed");
        size = pagent_encode_receipt(&receipt, bytes, sizeof bytes);
        if (!CHECK(size > 0)) return;
        memcpy(guard - size, bytes, (size_t)size);
        CHECK_EQ(pagent_decode_receipt(guard - size, (uint32_t)size, &other), PAGENT_OK);
        CHECK(other.result == PAGENT_E_CONFLICT && other.verb == PAGENT_POST && other.version == 44);
        CHECK_TEXT(other.text, "changed");
        for (cut = 0; cut < size; cut++) {
            memcpy(guard - cut, bytes, (size_t)cut);
            CHECK(pagent_decode_receipt(guard - cut, (uint32_t)cut, &other) < 0);
        }
    }
}

TEST_MAIN(ROW(conflicts), ROW(duplicates), ROW(decisions), ROW(versions_stay), ROW(rollback), ROW(rollback_of_a_call),
          ROW(forks), ROW(cancel), ROW(answers), ROW(timeouts), ROW(held_effects), ROW(bad_requests),
          ROW(changed_tables), ROW(wrong_machine_is_named), ROW(trimming), ROW(crowd), ROW(requests_as_bytes))
