/* test_limits.c: bad input and full measures, over the memory store: every limit names itself, a wrong argument is told
   by name, an answer to nobody costs nothing for ever, and poll returns however much the agents have to say. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include "test.h"

#define OVER_PAYLOAD "the data is larger than limits.payload_size_max, or than the store takes"

static struct {
    pagent_memory *memory;
    pagent_engine *engine;
    pagent_config config;
    pagent_receipt receipt;
    uint64_t now;
    uint32_t told;    /* signals to itself */
    uint32_t rung;    /* timers that came */
    uint32_t begun;   /* calls */
    uint32_t ended;   /* results and failures of calls */
    int32_t end_code; /* the last one's */
    pagent_call_id ids[4];
    pagent_bytes at_once; /* what a call answers at once; NULL: later */
    int slow;             /* appends are answered by finish_append */
    const pagent_append *append;
    pagent_store store; /* the memory's own */
    uint32_t refused;   /* traced */
    int32_t refused_code;
} w;

/* ---- the machine: most signals make it go over one measure ---- */

static int overdo(void *ctx, pagent_step *step, uint32_t tag)
{
    static const uint8_t big[200];
    int i, result = PAGENT_OK;
    (void)ctx;
    switch (tag) {
    case 'c': return pagent_resize_context(step, 1001);
    case 'r': return pagent_remember(step, 1, big, 101);
    case 'q': return pagent_begin_call(step, "ask", big, 101, NULL);
    case 'o': return pagent_send_signal(step, "other", "ping", big, 101);
    case 'e':
        for (i = 0; i < 5 && result == PAGENT_OK; i++) result = pagent_ask_approval(step, "plan", "?", 1, 9, NULL);
        return result;
    case 'm':
        for (i = 0; i < 4 && result == PAGENT_OK; i++) result = pagent_begin_call(step, "ask", "?", 1, NULL);
        return result;
    case 't': return pagent_set_timer(step, "bell", pagent_now_ms(step) + 10);
    case 'b':
        for (i = 0; i < 9 && result == PAGENT_OK; i++) result = pagent_remember(step, 1, big, 100);
        return result;
    default: /* not for ever, so that a poll that does not return fails rather than hangs */
        return w.told++ < 1000 ? pagent_send_signal(step, pagent_agent_name(step), "again", NULL, 0) : PAGENT_OK;
    }
}

static int note(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    (void)ctx;
    if (tag == 't') w.rung++;
    else w.ended++;
    w.end_code = event->code;
    return PAGENT_OK;
}

static const pagent_call_spec calls[] = {{"ask", PAGENT_CRASH_REPEAT, 0, 0, 0, 0, 0, 0}};
static const pagent_state states[] = {{"idle", NULL, "ask plan", NULL, NULL, NULL, 0, 0},
                                      {"held", NULL, NULL, NULL, NULL, NULL, PAGENT_DEFER, 0}};
static const pagent_transition transitions[] = {
    {"idle", "context", NULL, overdo, NULL, 'c'},   {"idle", "entry", NULL, overdo, NULL, 'r'},
    {"idle", "request", NULL, overdo, NULL, 'q'},   {"idle", "tell", NULL, overdo, NULL, 'o'},
    {"idle", "effects", NULL, overdo, NULL, 'e'},   {"idle", "block", NULL, overdo, NULL, 'b'},
    {"idle", "again", NULL, overdo, NULL, 0},       {"idle", "hold", NULL, NULL, "held", 0},
    {"held", "free", NULL, NULL, "idle", 0},        {"idle", "ask.result", NULL, note, NULL, 0},
    {"idle", "many", NULL, overdo, NULL, 'm'},      {"idle", "ring", NULL, overdo, NULL, 't'},
    {"idle", "bell.timer", NULL, note, NULL, 't'},  {"idle", "ask.failure", NULL, note, NULL, 0},
    {"idle", "plan.approved", NULL, NULL, NULL, 0}, {"idle", "plan.rejected", NULL, NULL, NULL, 0},
    {"idle", "plan.expired", NULL, NULL, NULL, 0}};
static const pagent_machine machine = {sizeof machine,
                                       1,
                                       "glutton",
                                       NULL,
                                       8,
                                       "context entry request tell effects block again hold free ping many ring",
                                       "bell",
                                       "plan",
                                       PAGENT_ROWS(calls),
                                       PAGENT_ROWS(states),
                                       PAGENT_ROWS(transitions)};

/* ---- the host ---- */

static uint64_t clock_ms(void *ctx)
{
    (void)ctx;
    return w.now;
}

static int call(void *ctx, const pagent_call *begun, pagent_answer *answer)
{
    (void)ctx;
    w.ids[w.begun++ % 4] = begun->id;
    answer->data = w.at_once;
    return w.at_once.data != NULL ? PAGENT_OK : PAGENT_PENDING;
}

/* While it is slow, an append waits for finish_append. */
static int append(void *ctx, const pagent_append *request, pagent_io *io)
{
    (void)ctx;
    if (!w.slow) return w.store.append(w.store.ctx, request, io);
    w.append = request;
    return PAGENT_PENDING;
}

static void finish_append(void)
{
    const pagent_append *request = w.append;
    pagent_io io;
    int result;
    memset(&io, 0, sizeof io);
    w.append = NULL;
    if (request == NULL) return;
    result = w.store.append(w.store.ctx, request, &io);
    CHECK_EQ(pagent_store_done(w.engine, request->op, result, &io), PAGENT_OK);
}

static void trace(void *ctx, const pagent_trace *record)
{
    (void)ctx;
    if (record->kind != PAGENT_TRACE_REFUSED) return;
    w.refused++;
    w.refused_code = record->code;
}

static void begin_world(void)
{
    static const pagent_machine *const machines[] = {&machine};
    pagent_limits *limits = &w.config.limits;
    memset(&w, 0, sizeof w);
    w.config.size = sizeof w.config;
    pagent_posix_host(&w.config.host);
    w.config.host.clock_ms = clock_ms;
    w.config.host.call = call;
    w.config.host.trace = trace;
    w.config.machines = machines;
    w.config.machine_count = 1;
    limits->size = sizeof *limits;
    limits->payload_size_max = 100;
    limits->context_size_max = 1000;
    limits->block_size_max = 1000;
    limits->effects_max = 4;
    limits->mailbox_max = 2;
    limits->requests_max = 3;
    CHECK_EQ(pagent_open_memory(&w.memory, &w.config.host), PAGENT_OK);
    w.store = w.config.store = pagent_memory_store(w.memory);
    w.config.store.append = append;
}

static int poll_all(void)
{
    int i, result = PAGENT_OK;
    w.now += 60000; /* past every pause */
    for (i = 0; i < 100 && result == PAGENT_OK; i++) result = pagent_poll(w.engine);
    return result;
}

static void open_world(void)
{
    char text[PAGENT_TEXT_SIZE] = "";
    begin_world();
    CHECK_EQ(pagent_open_engine(&w.engine, &w.config, text), PAGENT_OK);
    CHECK_TEXT(text, "");
    CHECK_EQ(pagent_create(w.engine, "x", "glutton", NULL, 0, NULL), PAGENT_OK);
    CHECK_EQ(poll_all(), PAGENT_IDLE);
}

static void end_world(void)
{
    CHECK_EQ(pagent_close_engine(w.engine), PAGENT_OK);
    pagent_close_memory(w.memory);
}

static int post(const char *signal, uint32_t size)
{
    static const uint8_t data[101];
    int result = pagent_post(w.engine, "x", signal, NULL, data, size, &w.receipt);
    if (result != PAGENT_OK) return result;
    CHECK_EQ(poll_all(), PAGENT_IDLE);
    return w.receipt.result;
}

/* ---- limits ---- */

/* An agent whose handler returned the limit's error is parked, and says which limit. */
TEST(a_step_names_its_limit)
{
    static const struct {
        const char *signal, *text;
    } cases[] = {{"context", "the context is larger than limits.context_size_max"},
                 {"entry", OVER_PAYLOAD},
                 {"request", OVER_PAYLOAD},
                 {"tell", OVER_PAYLOAD},
                 {"effects", "more effects are outstanding than limits.effects_max"}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pagent_view *view = NULL;
        pagent_info info;
        open_world();
        CHECK_EQ(post(cases[i].signal, 0), PAGENT_OK);
        if (CHECK_EQ(pagent_open_view(w.engine, "x", 0, &view), PAGENT_OK)) {
            CHECK_EQ(pagent_view_info(view, &info), PAGENT_OK);
            CHECK_EQ(info.status, PAGENT_PARKED);
            CHECK_EQ(info.error, PAGENT_E_LIMIT);
            CHECK_TEXT(info.error_text, cases[i].text);
        }
        pagent_close_view(view);
        end_world();
    }
}

TEST(a_receipt_names_its_limit)
{
    pagent_receipt others[3];
    uint32_t i;
    open_world();
    CHECK_EQ(post("block", 101), PAGENT_E_LIMIT);
    CHECK_TEXT(w.receipt.text, OVER_PAYLOAD);
    CHECK_EQ(post("block", 0), PAGENT_E_LIMIT);
    CHECK_TEXT(w.receipt.text, "a block would be larger than limits.block_size_max, or than the store takes");
    CHECK_EQ(post("hold", 0), PAGENT_OK);
    CHECK_EQ(post("entry", 0), PAGENT_DEFERRED);
    CHECK_EQ(post("entry", 0), PAGENT_DEFERRED);
    CHECK_EQ(post("entry", 0), PAGENT_E_LIMIT);
    CHECK_TEXT(w.receipt.text, "its mailbox holds limits.mailbox_max events");
    for (i = 0; i < 3; i++) CHECK_EQ(pagent_post(w.engine, "x", "entry", NULL, NULL, 0, &others[i]), PAGENT_OK);
    CHECK_EQ(pagent_post(w.engine, "x", "entry", NULL, NULL, 0, &w.receipt), PAGENT_E_LIMIT);
    CHECK_EQ(w.receipt.result, PAGENT_E_LIMIT);
    CHECK_TEXT(w.receipt.text, "limits.requests_max are waiting: poll first");
    CHECK_EQ(poll_all(), PAGENT_IDLE);
    end_world();
}

TEST(trimming_needs_snapshots)
{
    open_world();
    CHECK_EQ(pagent_trim_store(w.engine, &w.receipt), PAGENT_E_ARGUMENT);
    CHECK_EQ(w.receipt.result, PAGENT_E_ARGUMENT);
    CHECK_TEXT(w.receipt.text, "trimming needs limits.full_snapshots, and a store that can be trimmed");
    CHECK_EQ(poll_all(), PAGENT_IDLE);
    end_world();
}

/* What a store takes at once bounds what an engine accepts. */
TEST(limits_fit_the_store)
{
    static const uint8_t data[5000];
    begin_world();
    w.config.limits.payload_size_max = w.config.limits.block_size_max = 0;
    w.config.store.block_size_max = 4096;
    CHECK_EQ(pagent_open_engine(&w.engine, &w.config, NULL), PAGENT_OK);
    CHECK_EQ(pagent_create(w.engine, "x", "glutton", data, 4097, &w.receipt), PAGENT_E_LIMIT);
    CHECK_EQ(pagent_create(w.engine, "x", "glutton", data, 4000, &w.receipt), PAGENT_OK);
    CHECK_EQ(poll_all(), PAGENT_IDLE);
    CHECK_EQ(w.receipt.result, PAGENT_E_LIMIT); /* the block has more in it */
    CHECK_EQ(pagent_create(w.engine, "x", "glutton", data, 2000, &w.receipt), PAGENT_OK);
    CHECK_EQ(poll_all(), PAGENT_IDLE);
    CHECK_EQ(w.receipt.result, PAGENT_OK);
    end_world();
}

/* Answers of agents that are not in memory are looked at by poll: until then only so many are kept. */
TEST(foreign_answers_are_bounded)
{
    pagent_call_id id = {0, 1, 0, 1};
    pagent_answer answer = {0, 0, {NULL, 0}, 0};
    int i, round;
    open_world();
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 3; i++) {
            id.stream++;
            CHECK_EQ(pagent_call_done(w.engine, &id, &answer), PAGENT_OK);
        }
        CHECK_EQ(pagent_call_done(w.engine, &id, &answer), PAGENT_E_AGAIN);
        w.refused = 0;
        CHECK_EQ(poll_all(), PAGENT_IDLE);
        CHECK_EQ(w.refused, 3);
        CHECK_EQ(w.refused_code, PAGENT_E_NOT_FOUND);
    }
    end_world();
}

/* Those to calls that are known to be under way are not counted against it, also while a commit is. */
TEST(awaited_answers_are_taken)
{
    pagent_answer answer = {0, 0, {"fine", 4}, 0};
    uint32_t i;
    open_world();
    CHECK_EQ(post("many", 0), PAGENT_OK);
    CHECK_EQ(w.begun, 4);
    w.slow = 1;
    for (i = 0; i < 4; i++) {
        CHECK_EQ(pagent_call_done(w.engine, &w.ids[i], &answer), PAGENT_OK);
        (void)pagent_poll(w.engine);
        CHECK(w.append != NULL);
    }
    for (i = 0; i < 8; i++) {
        finish_append();
        (void)pagent_poll(w.engine);
    }
    CHECK_EQ(w.ended, 4);
    CHECK_EQ(w.end_code, PAGENT_OK);
    w.slow = 0;
    end_world();
}

/* An answer at once that is too large ends its call, which has been made: it is not made again. */
TEST(large_answers_are_final)
{
    static const uint8_t data[101];
    open_world();
    w.at_once.data = data;
    w.at_once.size = sizeof data;
    CHECK_EQ(post("many", 0), PAGENT_OK);
    CHECK_EQ(poll_all(), PAGENT_IDLE);
    CHECK_EQ(w.begun, 4);
    CHECK_EQ(w.ended, 4);
    CHECK_EQ(w.end_code, PAGENT_E_LIMIT);
    end_world();
}

/* An agent that always has something to tell itself reaches its deadlines all the same. */
TEST(deadlines_come_in_turns)
{
    int i;
    open_world();
    CHECK_EQ(post("ring", 0), PAGENT_OK);
    CHECK_EQ(pagent_post(w.engine, "x", "again", NULL, NULL, 0, NULL), PAGENT_OK);
    for (i = 0; i < 20; i++) {
        w.now++;
        CHECK_EQ(pagent_poll(w.engine), PAGENT_OK);
    }
    CHECK_EQ(w.rung, 1);
    end_world();
}

static int stop_at_once(void *ctx, pagent_engine *engine, uint64_t deadline_ms)
{
    (void)engine;
    CHECK(deadline_ms <= w.now);
    ++*(int *)ctx;
    return 1;
}

/* Nor does it keep the host out. */
TEST(run_lets_the_host_in)
{
    int waits = 0;
    open_world();
    CHECK_EQ(pagent_post(w.engine, "x", "again", NULL, NULL, 0, NULL), PAGENT_OK);
    CHECK_EQ(pagent_run(w.engine, stop_at_once, &waits), PAGENT_OK);
    CHECK_EQ(waits, 1);
    CHECK(w.told > 10 && w.told < 1000);
    end_world();
}

/* An agent that always has something to tell itself makes one step in a poll. */
TEST(poll_returns)
{
    pagent_view *view = NULL;
    pagent_info info;
    uint64_t before = 0;
    int i;
    open_world();
    CHECK_EQ(pagent_post(w.engine, "x", "again", NULL, NULL, 0, NULL), PAGENT_OK);
    for (i = 0; i < 20; i++) {
        CHECK_EQ(pagent_poll(w.engine), PAGENT_OK);
        if (!CHECK_EQ(pagent_open_view(w.engine, "x", 0, &view), PAGENT_OK)) break;
        CHECK_EQ(pagent_view_info(view, &info), PAGENT_OK);
        pagent_close_view(view);
        if (i != 0) CHECK(info.version <= before + 1);
        before = info.version;
    }
    CHECK(before >= 10);
    end_world();
}

/* ---- arguments ---- */

TEST(requests_are_checked_by_name)
{
    char long_name[129];
    pagent_request good, bad;
    memset(long_name, 'n', 128);
    long_name[128] = 0;
    memset(&good, 0, sizeof good);
    good.size = sizeof good;
    good.verb = PAGENT_POST;
    good.agent = "x";
    good.event = "hold";
    open_world();
#define REFUSES(change, sentence)                                                                                      \
    do {                                                                                                               \
        bad = good;                                                                                                    \
        change;                                                                                                        \
        CHECK_EQ(pagent_submit(w.engine, &bad, &w.receipt), PAGENT_E_ARGUMENT);                                        \
        CHECK_EQ(w.receipt.result, PAGENT_E_ARGUMENT);                                                                 \
        CHECK_TEXT(w.receipt.text, sentence);                                                                          \
    } while (0)
    REFUSES(bad.size--, "request.size is not sizeof(pagent_request)");
    REFUSES(bad.verb = 0, "request.verb is none of enum pagent_verb");
    REFUSES(bad.verb = PAGENT_MOVE_IN + 1, "request.verb is none of enum pagent_verb");
    REFUSES(bad.agent = NULL, "an agent's name is 1 to 127 bytes");
    REFUSES(bad.agent = "", "an agent's name is 1 to 127 bytes");
    REFUSES(bad.agent = long_name, "an agent's name is 1 to 127 bytes");
    REFUSES(bad.id = long_name, "id, who: at most 127 bytes");
    REFUSES(bad.who = long_name, "id, who: at most 127 bytes");
    REFUSES(bad.event = NULL, "a machine or a signal must be named");
    REFUSES(bad.verb = PAGENT_FORK, "the new agent's name is 1 to 127 bytes");
    REFUSES(bad.verb = PAGENT_DECIDE, "request.decision is none of enum pagent_decision");
    REFUSES(bad.data.size = 1, "request.data is NULL, but has a size");
#undef REFUSES
    CHECK_EQ(pagent_submit(w.engine, &good, &w.receipt), PAGENT_OK);
    CHECK_EQ(w.receipt.result, PAGENT_PENDING);
    CHECK_EQ(poll_all(), PAGENT_IDLE);
    CHECK_EQ(w.receipt.result, PAGENT_OK);
    end_world();
}

/* A machine whose calls nobody can begin does not open, unless none is ever begun. */
TEST(somebody_must_begin_calls)
{
    char text[PAGENT_TEXT_SIZE] = "";
    begin_world();
    w.config.host.call = NULL;
    CHECK_EQ(pagent_open_engine(&w.engine, &w.config, text), PAGENT_E_ARGUMENT);
    CHECK_TEXT(text, "config.host.call is missing, and call \"ask\" is declared");
    CHECK(w.engine == NULL);
    w.config.hold_effects = 1;
    CHECK_EQ(pagent_open_engine(&w.engine, &w.config, text), PAGENT_OK);
    CHECK_EQ(pagent_close_engine(w.engine), PAGENT_OK);
    w.config.hold_effects = 0;
    w.config.read_only = 1;
    CHECK_EQ(pagent_open_engine(&w.engine, &w.config, text), PAGENT_OK);
    end_world();
}

TEST(null_tables)
{
    pagent_machine bad = machine;
    pagent_host host;
    pagent_memory *memory = NULL;
    char text[PAGENT_TEXT_SIZE] = "";
    bad.calls = NULL;
    CHECK_EQ(pagent_check_machine(&bad, text), PAGENT_E_MACHINE);
    CHECK_TEXT(text, "machine \"glutton\": a table is NULL, but has rows");
    bad = machine;
    bad.states = NULL;
    CHECK_EQ(pagent_check_machine(&bad, text), PAGENT_E_MACHINE);
    bad = machine;
    bad.transitions = NULL;
    CHECK_EQ(pagent_check_machine(&bad, text), PAGENT_E_MACHINE);
    begin_world();
    w.config.machines = NULL;
    CHECK_EQ(pagent_open_engine(&w.engine, &w.config, text), PAGENT_E_ARGUMENT);
    CHECK_TEXT(text, "config.machines is NULL, but has a count");
    end_world();
    memset(&host, 0, sizeof host);
    CHECK_EQ(pagent_open_memory(&memory, NULL), PAGENT_E_ARGUMENT);
    CHECK_EQ(pagent_open_memory(&memory, &host), PAGENT_E_ARGUMENT);
    host.size = sizeof host;
    CHECK_EQ(pagent_open_memory(&memory, &host), PAGENT_E_ARGUMENT);
    CHECK(memory == NULL);
}

/* After an opening that failed there is no engine, and a program that goes on all the same is told so. */
TEST(no_engine)
{
    pagent_call_id id = {1, 1, 0, 1};
    pagent_answer answer = {0, 0, {NULL, 0}, 0};
    CHECK_EQ(pagent_poll(NULL), PAGENT_E_ARGUMENT);
    CHECK_EQ(pagent_create(NULL, "x", "glutton", NULL, 0, NULL), PAGENT_E_ARGUMENT);
    CHECK_EQ(pagent_call_done(NULL, &id, &answer), PAGENT_E_ARGUMENT);
    CHECK_EQ(pagent_store_done(NULL, 1, PAGENT_OK, NULL), PAGENT_E_STALE);
    CHECK_EQ(pagent_trim_store(NULL, NULL), PAGENT_E_ARGUMENT);
    CHECK(pagent_next_deadline(NULL) == PAGENT_FOREVER);
    CHECK(!pagent_is_quiet(NULL));
    CHECK_TEXT(pagent_error_text(NULL), "there is no engine");
    CHECK_EQ(pagent_close_engine(NULL), PAGENT_OK);
}

TEST_MAIN(ROW(a_step_names_its_limit), ROW(a_receipt_names_its_limit), ROW(trimming_needs_snapshots),
          ROW(limits_fit_the_store), ROW(foreign_answers_are_bounded), ROW(awaited_answers_are_taken),
          ROW(large_answers_are_final), ROW(deadlines_come_in_turns), ROW(run_lets_the_host_in), ROW(poll_returns),
          ROW(requests_are_checked_by_name), ROW(somebody_must_begin_calls), ROW(null_tables), ROW(no_engine))
