/* test_requests.c: what everybody outside may ask of an agent, one rule at a time: versions and conflicts, duplicates,
   decisions, rollback, fork, cancel, trim, held effects, and requests as bytes. On every kind of store. Each deed that
   turns an agent from its course is cut at every point: it is done, or it never was. */
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
        CHECK_TEXT(pagent_error_text(on->engine), "");
        again();
        CHECK_EQ(note("a", 1, NULL, PAGENT_ANY), PAGENT_E_MACHINE_CHANGED);
        CHECK_TEXT(pagent_error_text(on->engine),
                   "1 agent waits for tables that are not registered; for machine worker version 1: a");
        CHECK_EQ(request(&what), PAGENT_E_MACHINE_CHANGED);
        what = new_request(PAGENT_MOVE_OUT, "a"); /* where it goes to, its tables may be */
        CHECK_EQ(request(&what), PAGENT_OK);
        CHECK_TEXT(pagent_error_text(on->engine), "");
        what.verb = PAGENT_MOVE_IN;
        CHECK_EQ(request(&what), PAGENT_OK);
        what = new_request(PAGENT_RETRY, "a");
        CHECK_EQ(request(&what), PAGENT_E_MACHINE_CHANGED);
        CHECK(pagent_error_text(on->engine)[0] == '1');
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

/* ---- a step's own verbs, and the shorthands ---------------------------------------------------------------------- */

/* "racing" has a call, two timers and a question under way. What its steps do to them is in their signals' names. */
static pagent_effect_id racing_call, racing_question;

static int on_race(void *ctx, pagent_step *step, uint32_t tag)
{
    uint64_t now = pagent_now_ms(step);
    (void)ctx;
    (void)tag;
    CHECK_EQ(pagent_set_timer(step, "nap", now + 50), PAGENT_OK);
    CHECK_EQ(pagent_set_timer(step, "nap", now + 5000), PAGENT_OK); /* replaces it, in the same block */
    CHECK_EQ(pagent_set_timer(step, "bell", now + 9000), PAGENT_OK);
    CHECK_EQ(pagent_ask_approval(step, "review", "a:0", 3, PAGENT_FOREVER, &racing_question), PAGENT_OK);
    return pagent_begin_call(step, "fetch", "a:0", 3, &racing_call);
}

static int on_stop(void *ctx, pagent_step *step, uint32_t tag)
{
    pagent_effect_id nothing_there = {pagent_version(step) + 1, 0};
    (void)ctx;
    (void)tag;
    CHECK_EQ(pagent_cancel_effect(step, &nothing_there), PAGENT_E_NOT_FOUND);
    CHECK_EQ(pagent_cancel_effect(step, &racing_call), PAGENT_OK);
    CHECK_EQ(pagent_cancel_effect(step, &racing_call), PAGENT_E_NOT_FOUND); /* it is not outstanding any more */
    CHECK_EQ(pagent_cancel_effect(step, &racing_question), PAGENT_OK);
    CHECK_EQ(pagent_clear_timer(step, "nap"), PAGENT_OK);
    CHECK_EQ(pagent_clear_timer(step, "nap"), PAGENT_OK); /* there is none: nothing to do */
    CHECK_EQ(pagent_clear_timer(step, "unheard-of"), PAGENT_E_UNDECLARED);
    memo_log(step, 's');
    return 0;
}

/* What one step begins and cancels never was. */
static int on_flash(void *ctx, pagent_step *step, uint32_t tag)
{
    pagent_effect_id id;
    (void)ctx;
    (void)tag;
    CHECK_EQ(pagent_begin_call(step, "fetch", "a:0", 3, &id), PAGENT_OK);
    CHECK(id.version == pagent_version(step));
    CHECK_EQ(pagent_cancel_effect(step, &id), PAGENT_OK);
    CHECK_EQ(pagent_set_timer(step, "nap", pagent_now_ms(step) + 100), PAGENT_OK);
    CHECK_EQ(pagent_clear_timer(step, "nap"), PAGENT_OK);
    memo_log(step, 'f');
    return 0;
}

/* The transcript that a step sees is of committed steps; its own entries come after it. */
static int on_recall(void *ctx, pagent_step *step, uint32_t tag)
{
    uint32_t count = pagent_transcript_count(step), i;
    pagent_entry entry;
    uint8_t number;
    (void)ctx;
    (void)tag;
    for (i = 0; i < count; i++) {
        if (!CHECK_EQ(pagent_transcript_entry(step, i, &entry), PAGENT_OK)) break;
        CHECK(entry.kind == 'r' && entry.data.size == 1 && *(const uint8_t *)entry.data.data == i);
    }
    number = (uint8_t)count;
    CHECK_EQ(pagent_remember(step, 'r', &number, 1), PAGENT_OK);
    CHECK_EQ(pagent_transcript_count(step), count);
    CHECK_EQ(pagent_transcript_entry(step, count, &entry), PAGENT_E_NOT_FOUND);
    memo_log(step, 'r');
    return 0;
}

static int on_stray(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)tag;
    return pagent_set_timer(step, "unheard-of", pagent_now_ms(step)); /* and parks: it is an error */
}

/* A call that the state reached does not wait for: a fault of the machine. */
static int on_wrong(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)tag;
    return pagent_begin_call(step, "fetch", "a:0", 3, NULL);
}

static int enter_worse(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)tag;
    return pagent_fail(step, -8, "and the error state fails too");
}

static const pagent_call_spec racer_calls[] = {{.name = "fetch", .attempts_max = 12, .backoff_ms = 100}};
static const pagent_state racer_states[] = {{.name = "boot"},
                                            {.name = "racing", .waits = "fetch review", .enter = on_race},
                                            {.name = "resting"},
                                            {.name = "faulty", .on_error = "worse"},
                                            {.name = "worse", .enter = enter_worse},
                                            {.name = "over", .flags = PAGENT_FINAL}};
static const pagent_transition racer_transitions[] = {
    {.from = "boot", .event = "start", .action = on_start, .to = "racing"},
    {.from = "racing", .event = "fetch.result", .action = on_done, .tag = 'F'},
    {.from = "racing", .event = "fetch.failure", .action = on_done, .tag = '!'},
    {.from = "racing", .event = "review.approved", .action = on_done, .tag = 'A'},
    {.from = "racing", .event = "review.rejected", .action = on_done, .tag = '!'},
    {.from = "racing", .event = "review.expired", .action = on_done, .tag = '!'},
    {.from = "racing", .event = "nap.timer", .action = on_done, .tag = 'T'},
    {.from = "racing", .event = "stop", .action = on_stop},
    {.from = "racing", .event = "flash", .action = on_flash},
    {.from = "racing", .event = "rest", .to = "resting"},
    {.from = "racing", .event = "wrong", .action = on_wrong, .to = "resting"},
    {.from = "racing", .event = "trip", .to = "faulty"},
    {.from = "faulty", .event = "wrong", .action = on_fail},
    {.from = "faulty", .event = "end", .to = "over"},
    {.from = "worse", .event = "end", .to = "over"},
    {.from = "resting", .event = "race", .to = "racing"},
    {.from = "resting", .event = "end", .to = "over"},
    {.from = "*", .event = "bell.timer", .action = on_done, .tag = 'B'},
    {.from = "*", .event = "note", .action = on_note},
    {.from = "*", .event = "recall", .action = on_recall},
    {.from = "*", .event = "stray", .action = on_stray}};
static const pagent_machine racer = {.size = sizeof(pagent_machine),
                                     .version = 1,
                                     .name = "racer",
                                     .context_size = sizeof(memo),
                                     .signals = "stop flash rest race end recall stray wrong trip note",
                                     .timers = "nap bell",
                                     .approvals = "review",
                                     .calls = PAGENT_ROWS(racer_calls),
                                     .states = PAGENT_ROWS(racer_states),
                                     .transitions = PAGENT_ROWS(racer_transitions)};
static const pagent_machine *const racers[] = {&worker, &racer};

static int signal_to(const char *agent, const char *signal)
{
    pagent_request what = new_request(PAGENT_POST, agent);
    what.event = signal;
    return request(&what);
}

static int begin_race(uint32_t kind)
{
    if (!begin(kind)) return 0;
    programs("F0", NULL);
    w.machines = racers;
    w.machine_count = 2;
    again();
    memset(&last, 0, sizeof last);
    CHECK_EQ(pagent_create(on->engine, "a", "racer", "F0", 2, &last), PAGENT_OK);
    poll_until_idle();
    return CHECK_EQ(last.result, PAGENT_OK);
}

static void end_race(void)
{
    end();
    w.machines = NULL;
}

#define EACH_RACE(kind)                                                                                                \
    for (kind = 0; kind < WORLD_KINDS; kind++)                                                                         \
        if (begin_race(kind))

static void only_the_bell(void)
{
    pagent_view *view = NULL;
    pagent_effect effect;
    pagent_info info;
    if (!CHECK_EQ(look("a", 0, &view), PAGENT_OK)) return;
    CHECK_EQ(pagent_view_info(view, &info), PAGENT_OK);
    CHECK_EQ(info.effect_count, 1);
    CHECK_EQ(pagent_view_effect(view, 0, &effect), PAGENT_OK);
    CHECK_EQ(effect.kind, PAGENT_EFFECT_TIMER);
    CHECK_TEXT(effect.name, "bell");
    pagent_close_view(view);
}

/* A step cancels its call, its question and its timer: none of them is heard of again, by this engine or the next. The
   other timer is still armed. */
TEST(step_cancels)
{
    uint32_t kind;
    EACH_RACE(kind)
    {
        pagent_call_id id;
        pagent_answer answer;
        pagent_info info;
        memset(&answer, 0, sizeof answer);
        answer.data.data = "answer to a:0";
        answer.data.size = 13;
        (void)memo_at("a", 0, &info);
        CHECK_EQ(info.effect_count, 4); /* the second "nap" has replaced the first */
        CHECK_EQ(w.host_calls, 1);
        id = w.answers[0].id;
        CHECK_EQ(signal_to("a", "flash"), PAGENT_OK);
        CHECK_EQ(w.host_calls, 1);
        (void)memo_at("a", 0, &info);
        CHECK_EQ(info.effect_count, 3); /* "flash" has replaced and cleared the nap as well */
        CHECK_EQ(w.call_offs, 0);       /* of what was never begun nobody is told */
        CHECK_EQ(signal_to("a", "stop"), PAGENT_OK);
        CHECK_EQ(w.call_offs, 1);
        CHECK(memcmp(&w.called_off, &id, sizeof id) == 0);
        only_the_bell();
        CHECK_EQ(pagent_call_done(on->engine, &id, &answer), PAGENT_E_STALE);
        CHECK_EQ(decide("a", PAGENT_APPROVE, racing_question, 0), PAGENT_E_SETTLED);
        again();
        wait_ms(8000);
        CHECK_TEXT(memo_at("a", 0, NULL).log, "fs");
        CHECK_EQ(w.host_calls, 1);
        wait_ms(1500);
        CHECK_TEXT(memo_at("a", 0, NULL).log, "fsB");
        end_race();
    }
}

/* A state's effects end with it: the timer whose row only "racing" has does; the one whose row the root has does not.
   */
TEST(timers_end_with_their_state)
{
    uint32_t kind;
    EACH_RACE(kind)
    {
        CHECK_EQ(signal_to("a", "rest"), PAGENT_OK);
        only_the_bell();
        CHECK_EQ(w.call_offs, 1);
        again();
        wait_ms(9500);
        CHECK_TEXT(memo_at("a", 0, NULL).log, "B");
        CHECK_EQ(signal_to("a", "end"), PAGENT_OK);
        poll_until_idle();
        CHECK(pagent_is_quiet(on->engine));
        end_race();
    }
}

TEST(step_recalls)
{
    uint32_t kind, i;
    EACH_RACE(kind)
    {
        for (i = 0; i < 6; i++) {
            CHECK_EQ(signal_to("a", "recall"), PAGENT_OK);
            if (i % 2 == 1) again();
        }
        CHECK_TEXT(memo_at("a", 0, NULL).log, "rrrrrr");
        end_race();
    }
}

/* Faults of handlers park the agent with a text that says which; what the step staged is dropped, and the call that was
   under way before goes on. */
TEST(faults_are_named)
{
    static const struct {
        const char *first, *signal;
        int error;
        const char *text, *state;
        uint32_t effects;
    } faults[] = {{NULL, "stray", PAGENT_E_UNDECLARED, "unheard-of", "racing", 4},
                  {NULL, "wrong", PAGENT_E_UNDECLARED, "state \"resting\" does not wait for \"fetch\"", "racing", 4},
                  {"trip", "wrong", -8, "and the error state fails too", "faulty", 1}};
    uint32_t kind, i;
    for (i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        EACH_RACE(kind)
        {
            pagent_view *view = NULL;
            pagent_info info;
            if (faults[i].first != NULL) CHECK_EQ(signal_to("a", faults[i].first), PAGENT_OK);
            (void)signal_to("a", faults[i].signal);
            CHECK_EQ(look("a", 0, &view), PAGENT_OK);
            CHECK_EQ(pagent_view_info(view, &info), PAGENT_OK);
            CHECK_EQ(info.status, PAGENT_PARKED);
            CHECK_EQ(info.error, faults[i].error);
            if (strstr(info.error_text, faults[i].text) == NULL) FAIL("it says: %s", info.error_text);
            CHECK_TEXT(info.state, faults[i].state);
            CHECK_EQ(info.effect_count, faults[i].effects);
            pagent_close_view(view);
            CHECK_EQ(w.host_calls, 1);
            CHECK_EQ(w.call_offs, faults[i].effects == 1);
            end_race();
        }
    }
}

/* What senders were promised stays: mail that came after the version that is restored, or forked, and was not handled
   by then. */
TEST(mail_outlives_rollback)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_info info;
        programs("A0F0W0", "A0F0W0");
        CHECK_EQ(create("a", "A0F0W0"), PAGENT_OK);
        CHECK_EQ(signal_to("a", "go"), PAGENT_DEFERRED);
        CHECK_EQ(decide("a", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        CHECK_EQ(signal_to("a", "go"), PAGENT_DEFERRED);
        CHECK_EQ(roll_back("a", 1, 0), PAGENT_OK);
        (void)memo_at("a", 0, &info);
        CHECK_EQ(info.mailbox_count, 2); /* both came after version 1 */
        w.answer_count = w.call_count = 0;
        again();
        memset(&last, 0, sizeof last);
        CHECK_EQ(pagent_fork(on->engine, "a", 0, "b", &last), PAGENT_OK);
        poll_until_idle();
        CHECK_EQ(last.result, PAGENT_OK);
        (void)memo_at("b", 0, &info);
        CHECK_EQ(info.mailbox_count, 2);
        CHECK_EQ(decide("a", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        deliver_all();
        CHECK_TEXT(memo_at("a", 0, &info).log, "AFW");
        CHECK_EQ(info.status, PAGENT_DONE);
        CHECK_EQ(decide("b", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        (void)memo_at("b", 0, &info);
        CHECK_EQ(info.mailbox_count, 2);
        check_history("b", info.version);
        end();
    }
}

/* The mail that a fork brings is handled once, each, beside the mail that comes to it under the same versions. */
TEST(forked_mail)
{
    static const char program[] = "A0W0W0W0W0W0W0";
    uint32_t kind, i;
    EACH_KIND(kind)
    {
        pagent_info info;
        programs(program, program);
        CHECK_EQ(create("a", program), PAGENT_OK);
        for (i = 0; i < 3; i++) CHECK_EQ(signal_to("a", "go"), PAGENT_DEFERRED);
        memset(&last, 0, sizeof last);
        CHECK_EQ(pagent_fork(on->engine, "a", 0, "b", &last), PAGENT_OK);
        poll_until_idle();
        CHECK_EQ(last.result, PAGENT_OK);
        for (i = 0; i < 3; i++) CHECK_EQ(signal_to("b", "go"), PAGENT_DEFERRED);
        (void)memo_at("b", 0, &info);
        CHECK_EQ(info.mailbox_count, 6);
        CHECK_EQ(roll_back("b", 1, 0), PAGENT_OK); /* where it had three: the others came after that, and stay */
        (void)memo_at("b", 0, &info);
        CHECK_EQ(info.mailbox_count, 6);
        again();
        CHECK_EQ(decide("b", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
        poll_until_idle();
        CHECK_TEXT(memo_at("b", 0, &info).log, "AWWWWWW");
        CHECK_EQ(info.status, PAGENT_DONE);
        CHECK_EQ(info.mailbox_count, 0);
        (void)memo_at("a", 0, &info);
        CHECK_EQ(info.mailbox_count, 3);
        end();
    }
}

/* pagent_run: `wait` is called when there is nothing to do, and its word is the end. */
static struct {
    uint32_t calls, until;
    int says;
    int wrong;
} waiting;

static int wait_here(void *ctx, pagent_engine *engine, uint64_t deadline_ms)
{
    waiting.wrong |= ctx != &waiting || engine != on->engine || deadline_ms != pagent_next_deadline(engine);
    if (++waiting.calls == waiting.until) return waiting.says;
    if (sim_complete(&on->store) || deliver_answer()) return 0;
    if (deadline_ms != PAGENT_FOREVER && deadline_ms > on->host.now_ms) on->host.now_ms = deadline_ms;
    return 0;
}

TEST(runs_until_told)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        pagent_receipt receipt;
        memset(&waiting, 0, sizeof waiting);
        memset(&receipt, 0, sizeof receipt);
        programs("F2T0", NULL);
        CHECK_EQ(pagent_create(on->engine, "a", "worker", "F2T0", 4, &receipt), PAGENT_OK);
        waiting.until = 300;
        waiting.says = 1;
        CHECK_EQ(pagent_run(on->engine, wait_here, &waiting), PAGENT_OK);
        CHECK_EQ(waiting.calls, 300);
        CHECK_EQ(receipt.result, PAGENT_OK);
        CHECK_TEXT(memo_at("a", 0, NULL).log, "FT");
        waiting.calls = 0;
        waiting.until = 3;
        waiting.says = -77;
        CHECK_EQ(pagent_run(on->engine, wait_here, &waiting), -77);
        CHECK_EQ(waiting.calls, 3);
        CHECK_EQ(waiting.wrong, 0);
        end();
    }
}

/* Idle agents over loaded_max leave memory, and come back when their time has come or somebody asks. */
TEST(unloading)
{
    uint32_t kind;
    EACH_KIND(kind)
    {
        uint32_t i;
        char name[8];
        programs("T0W1", "T0W1");
        w.limits.loaded_max = 2;
        again();
        for (i = 0; i < 12; i++) {
            snprintf(name, sizeof name, "a%u", (unsigned)i);
            CHECK_EQ(create(name, i % 2 == 0 ? "T0W1" : "A0"), PAGENT_OK);
            CHECK(on->engine->agent_count <= 3);
        }
        CHECK(w.traces[PAGENT_TRACE_UNLOAD] >= 9);
        CHECK(pagent_next_deadline(on->engine) <= on->host.now_ms + 1000);
        for (i = 0; i < 30; i++) wait_ms(200);
        for (i = 0; i < 12; i++) {
            snprintf(name, sizeof name, "a%u", (unsigned)i);
            if (i % 2 == 1) CHECK_EQ(decide(name, PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
            CHECK_TEXT(memo_at(name, 0, NULL).log, i % 2 == 0 ? "T" : "A");
            CHECK(on->engine->agent_count <= 3);
        }
        end();
    }
}

/* ---- deeds, cut at every point ----------------------------------------------------------------------------------- */

/* The agent "a": it was approved once, has a note, and waits for its call. Version 1 is the question. */
static void prepare_worker(void)
{
    programs("A0F0A0", "A0F0A0");
    CHECK_EQ(create("a", "A0F0A0"), PAGENT_OK);
    CHECK_EQ(note("a", 5, NULL, PAGENT_ANY), PAGENT_OK);
    CHECK_EQ(decide("a", PAGENT_APPROVE, any_effect, 0), PAGENT_OK);
}

static void prepare_racer(void)
{
    programs("F0", NULL);
    memset(&last, 0, sizeof last);
    CHECK_EQ(pagent_create(on->engine, "a", "racer", "F0", 2, &last), PAGENT_OK);
    poll_until_idle();
    CHECK_EQ(last.result, PAGENT_OK);
}

static void prepare_notes(void)
{
    uint32_t i;
    programs("W1", "A0");
    CHECK_EQ(create("a", "W1"), PAGENT_OK);
    CHECK_EQ(create("b", "A0"), PAGENT_OK);
    for (i = 0; i < 24; i++) CHECK_EQ(note("a", (uint8_t)(i % 8), NULL, PAGENT_ANY), PAGENT_OK);
}

static void prepare_moved(void)
{
    pagent_request what = new_request(PAGENT_MOVE_OUT, "a");
    prepare_worker();
    CHECK_EQ(request(&what), PAGENT_OK);
}

/* The agent's blocks, as they are carried elsewhere; then an empty store. */
static struct {
    uint8_t bytes[1 << 16];
    size_t size;
} luggage;

static void pack(void)
{
    pagent_view *view = NULL;
    pagent_bytes block;
    luggage.size = 0;
    if (!CHECK_EQ(look("a", PAGENT_OLDEST, &view), PAGENT_OK)) return;
    do {
        if (!CHECK_EQ(pagent_view_raw(view, &block), PAGENT_OK) || luggage.size + block.size > sizeof luggage.bytes)
            break;
        memcpy(luggage.bytes + luggage.size, block.data, block.size);
        luggage.size += block.size;
    } while (pagent_view_next(view) == PAGENT_OK);
    pagent_close_view(view);
}

static void prepare_luggage(void)
{
    uint32_t kind = w.kind;
    prepare_moved();
    pack();
    CHECK_EQ(world_close(), PAGENT_OK);
    world_end();
    world_begin(kind, &nothing, test.seed + 1);
    CHECK_EQ(world_open(), PAGENT_OK);
    programs("A0F0A0", NULL);
}

static void prepare_copy(void)
{
    prepare_worker();
    pack();
}

static int receive(int submitted)
{
    if (submitted != PAGENT_OK) return submitted;
    poll_until_idle();
    return last.result;
}
static int ask_rollback(void)
{
    return receive(pagent_rollback(on->engine, "a", 1, 0, 3, &last));
}
static int ask_fork(void)
{
    return receive(pagent_fork(on->engine, "a", 1, "b", &last));
}
static int ask_fork_newest(void)
{
    return receive(pagent_fork(on->engine, "a", 0, "b", &last));
}
static int ask_cancel(void)
{
    return receive(pagent_cancel(on->engine, "a", 3, &last));
}
static int ask_trim(void)
{
    return receive(pagent_trim_store(on->engine, &last));
}
static int ask_move_out(void)
{
    pagent_request what = new_request(PAGENT_MOVE_OUT, "a");
    return receive(pagent_submit(on->engine, &what, &last));
}
static int ask_move_in(void)
{
    pagent_request what = new_request(PAGENT_MOVE_IN, "a");
    return receive(pagent_submit(on->engine, &what, &last));
}
static int ask_import(void)
{
    return pagent_import_blocks(on->engine, luggage.bytes, luggage.size, NULL);
}
static int ask_import_as(void)
{
    int result = pagent_import_blocks(on->engine, luggage.bytes, luggage.size, "b");
    poll_until_idle();
    return result;
}
static int ask_stop(void)
{
    return receive(pagent_post(on->engine, "a", "stop", "stop", NULL, 0, &last));
}

static int is_there(const char *agent)
{
    pagent_view *view = NULL;
    int result = look(agent, 0, &view);
    if (result == PAGENT_OK) pagent_close_view(view);
    else if (result != PAGENT_E_NOT_FOUND) FAIL("%s: %s", agent, pagent_result_name(result));
    return result == PAGENT_OK;
}

/* Each says whether the deed is done, and checks that it is done in full, or not at all. */
static int is_as_before(void)
{
    memo m = memo_at("a", 0, NULL);
    CHECK_TEXT(m.log, "A");
    CHECK_EQ(m.notes[5], 1);
    return 1;
}
static int is_rolled_back(void)
{
    pagent_info info;
    pagent_effect effect;
    memo m = memo_at("a", 0, &info);
    CHECK_EQ(info.effect_count, 1);
    CHECK_EQ(effect_of("a", 0, &effect), PAGENT_OK);
    CHECK_EQ(effect.kind, m.log_size == 0 ? PAGENT_EFFECT_APPROVAL : PAGENT_EFFECT_CALL);
    CHECK_EQ(m.notes[5], m.log_size != 0);
    return m.log_size == 0;
}
static int is_forked(void)
{
    pagent_info info;
    (void)is_as_before();
    if (!is_there("b")) return 0;
    CHECK_EQ(memo_at("b", 0, &info).log_size, 0);
    CHECK_EQ(info.parent_version, 1);
    CHECK_EQ(info.effect_count, 1);
    return 1;
}
static int is_copied(void)
{
    pagent_info info;
    (void)is_as_before();
    if (!is_there("b")) return 0;
    CHECK_TEXT(memo_at("b", 0, &info).log, "A");
    CHECK(info.parent_version >= 3);
    CHECK_EQ(info.effect_count, 1);
    return 1;
}
static int is_cancelled(void)
{
    pagent_info info;
    (void)is_as_before();
    (void)memo_at("a", 0, &info);
    CHECK_EQ(info.effect_count, info.status != PAGENT_CANCELLED);
    return info.status == PAGENT_CANCELLED;
}
static int is_trimmed(void)
{
    pagent_view *view = NULL;
    pagent_info info;
    int result;
    CHECK_EQ(memo_at("a", 0, &info).notes[3], 3);
    CHECK_EQ(info.transcript_count, 24);
    (void)memo_at("b", 0, &info);
    CHECK_EQ(info.effect_count, 1);
    result = look("a", 2, &view);
    if (result == PAGENT_OK) pagent_close_view(view);
    else CHECK_EQ(result, PAGENT_E_TRIMMED);
    return result != PAGENT_OK;
}
static int is_moved_out(void)
{
    pagent_info info;
    (void)is_as_before();
    (void)memo_at("a", 0, &info);
    CHECK(info.status == PAGENT_MOVED || info.status == PAGENT_WAITING);
    return info.status == PAGENT_MOVED;
}
static int is_moved_in(void)
{
    return !is_moved_out();
}
static int is_imported(void)
{
    pagent_info info;
    if (!is_there("a")) return 0;
    CHECK(is_moved_out());
    (void)memo_at("a", 0, &info);
    check_history("a", info.version);
    return 1;
}
static int is_stopped(void)
{
    pagent_info info;
    memo m = memo_at("a", 0, &info);
    CHECK_EQ(info.effect_count, m.log_size != 0 ? 1 : 4);
    return m.log_size != 0;
}

typedef struct deed {
    const char *name;
    void (*prepare)(void);
    int (*ask)(void);
    int (*is_done)(void);
    int again; /* what a second time is answered with */
} deed;

static const deed deeds[] = {{"rollback", prepare_worker, ask_rollback, is_rolled_back, PAGENT_E_CONFLICT},
                             {"fork", prepare_worker, ask_fork, is_forked, PAGENT_E_EXISTS},
                             {"fork_newest", prepare_worker, ask_fork_newest, is_copied, PAGENT_E_EXISTS},
                             {"cancel", prepare_worker, ask_cancel, is_cancelled, PAGENT_E_CONFLICT},
                             {"trim", prepare_notes, ask_trim, is_trimmed, PAGENT_OK},
                             {"move_out", prepare_worker, ask_move_out, is_moved_out, PAGENT_E_FINISHED},
                             {"move_in", prepare_moved, ask_move_in, is_moved_in, PAGENT_E_REFUSED},
                             {"import", prepare_luggage, ask_import, is_imported, PAGENT_DUPLICATE},
                             {"import_as", prepare_copy, ask_import_as, is_copied, PAGENT_E_EXISTS},
                             {"stop", prepare_racer, ask_stop, is_stopped, PAGENT_DUPLICATE}};
enum {
    DEEDS = sizeof deeds / sizeof deeds[0]
};

static void begin_deed(uint32_t kind, const deed *what)
{
    world_begin(kind, &nothing, test.seed);
    w.machines = racers;
    w.machine_count = 2;
    w.options.segment_size = 2048;
    w.limits.full_snapshots = 1;
    w.limits.snapshot_floor = 300;
    CHECK_EQ(world_open(), PAGENT_OK);
    what->prepare();
    CHECK_EQ(what->is_done(), 0);
    memset(&last, 0, sizeof last);
    sim_restart_count(&w.disk);
}

static const deed *living;

static int deed_life(void)
{
    int result = living->ask();
    if (result == PAGENT_OK) w.idle = 1; /* it was promised */
    (void)world_close();
    return result;
}

/* The deed, in a process that ends at `cut` at the latest. */
static int live_deed(const deed *what, uint64_t cut)
{
    int result;
    w.disk.cut = cut;
    living = what;
    result = sim_live(deed_life, WORLD_CRASHED);
    if (result == WORLD_CRASHED) world_die();
    return result;
}

static void sweep_deeds(uint32_t kind)
{
    uint32_t i, crashes = kind == WORLD_MEMORY ? 1 : SIM_BYTES;
    for (i = 0; i < DEEDS; i++) {
        uint64_t points, cut;
        test.at = TEST_ANY_CASE;
        begin_deed(kind, &deeds[i]);
        CHECK_EQ(live_deed(&deeds[i], UINT64_MAX), PAGENT_OK);
        points = w.disk.calls;
        CHECK(points >= 2);
        world_end();
        for (cut = 0; cut < 2 * points * crashes; cut++) { /* each with every kind of crash */
            uint64_t id = cut * DEEDS + i;
            int crash = (int)(cut % crashes), done, result;
            if (!test_sweep(id)) continue;
            begin_deed(kind, &deeds[i]);
            w.idle = 0;
            if (!CHECK_EQ(live_deed(&deeds[i], cut / crashes), WORLD_CRASHED))
                FAIL("%s has no such cut", deeds[i].name);
            sim_power_cut(&w.disk, crash, id);
            w.crashed_once = 1;
            world_disarm();
            if (CHECK_EQ(world_open(), PAGENT_OK)) {
                poll_until_idle();
                done = deeds[i].is_done();
                if (w.idle && !done) FAIL("%s was promised, and is not done", deeds[i].name);
                memset(&last, 0, sizeof last);
                result = deeds[i].ask();
                if (result != (done ? deeds[i].again : PAGENT_OK)) {
                    FAIL("%s, %s, is answered with %s", deeds[i].name, done ? "done" : "not done",
                         pagent_result_name(result));
                }
                CHECK_EQ(deeds[i].is_done(), 1);
                again();
                CHECK_EQ(deeds[i].is_done(), 1);
                CHECK_EQ(world_close(), PAGENT_OK);
            }
            world_end();
        }
    }
    w.machines = NULL;
}

TEST(cut_deeds_memory)
{
    sweep_deeds(WORLD_MEMORY);
}
TEST(cut_deeds_shared)
{
    sweep_deeds(WORLD_SHARED);
}
TEST(cut_deeds_per_agent)
{
    sweep_deeds(WORLD_PER_AGENT);
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
          ROW(changed_tables), ROW(wrong_machine_is_named), ROW(trimming), ROW(crowd), ROW(requests_as_bytes),
          ROW(step_cancels), ROW(timers_end_with_their_state), ROW(step_recalls), ROW(faults_are_named),
          ROW(mail_outlives_rollback), ROW(forked_mail), ROW(runs_until_told), ROW(unloading), ROW(cut_deeds_memory),
          ROW(cut_deeds_shared), ROW(cut_deeds_per_agent))
