/* world.h: a whole small world around the engine, that can be ended at any point and goes on.

   One machine, "worker", runs a program given to each agent when it is created: two characters for each thing to do.
       F0 a call of a model, answered later      F1-F3 it fails that many times first   F4 not sent at first
       F5 answered at once    F6 the callback returns an error first                    F9 fails for good
       P0 a call that must never be repeated (crash policy ONCE, irreversible)          P1 not sent at first
       H0 a call whose answer survives our crash (crash policy WAIT)
       A0 a person approves   A1 rejects   A2 edits   A3 never answers: it expires
       T0 a timer             W0 wait for "go" from another agent   W1 … from outside    Sx send "go" to agent x
       E0 a handler fails; an on_error state takes over      K0 a handler fails; the agent is parked and retried
       L0 the context grows
   Each thing done adds a letter to the log in the agent's context, so that what must come out is known beforehand.
   Posted "note"s are counted by number: each acknowledged one exactly once. The world remembers every call that was
   begun: its key, how often, for what. */
#ifndef WORLD_H
#define WORLD_H

#include "sim_store.h"

enum {
    WORLD_AGENTS = 4,
    WORLD_ASKS = 64,
    WORLD_CALLS = 64,
    WORLD_NOTES = 16,
    WORLD_LIVES = 12
};
enum world_kind {
    WORLD_MEMORY,
    WORLD_SHARED,
    WORLD_PER_AGENT,
    WORLD_KINDS
};
enum {
    WORLD_CRASHED = 9999
};

typedef struct memo { /* an agent's context */
    char program[24];
    char log[32];
    uint8_t at; /* place in the program. Single bytes all: journals are the same on every machine */
    uint8_t log_size;
    uint8_t gos;
    uint8_t notes[WORLD_NOTES];
} memo;

typedef struct play { /* what is to happen */
    const char *name;
    const char *programs[WORLD_AGENTS]; /* of agents "a", "b" … */
    uint32_t notes;                     /* posted to "a" */
    const char *cancelled;              /* an agent that is cancelled once it waits; NULL: none */
} play;

enum ask_phase {
    ASK_NEW,
    ASK_SENT,
    ASK_SETTLED
};

typedef struct ask { /* a request and what came of it */
    pagent_request request;
    pagent_receipt receipt;
    char agent[8], id[40];
    uint8_t data[32];
    int phase;
    int once; /* made by a person who looked: not asked again after a restart */
} ask;

typedef struct outside_call { /* as the service at the other end knows it */
    char key[PAGENT_KEY_SIZE], agent[8], name[12], request[16];
    uint32_t starts, sent, last_attempt, last_life;
    uint32_t refused; /* times it was made to fail so far */
} outside_call;

typedef struct outside_answer { /* on its way to us */
    pagent_call_id id;
    pagent_answer answer;
    char text[32];
    uint32_t life;
    int survives;
} outside_answer;

typedef struct side { /* one process with its engine; the tests of zombies have two */
    sim_process process;
    sim_host host;
    sim_store store;
    pagent_dir dir;
    pagent_files *files;
    pagent_engine *engine;
    uint32_t life;    /* no two have the same */
    int wants_reopen; /* an agent is out of order until the store is opened again: the host sees it in the trace */
} side;

typedef struct world {
    uint32_t kind;
    uint64_t seed;
    const play *plays;
    sim_disk disk;
    sim_host store_host;  /* the memory store's own: it outlives the engine */
    sim_host sender_host; /* of the process that puts messages into the inbox */
    sim_process sender;
    pagent_dir sender_dir;
    sim_random random;
    pagent_file_options options;
    pagent_limits limits;
    pagent_memory *memory;
    uint32_t use_inbox;
    uint32_t hold_effects;
    const pagent_machine *const *machines; /* NULL: the worker alone */
    uint32_t machine_count;
    uint32_t healed; /* the handler of K no longer fails */
    uint32_t idle;
    uint32_t agent_count;
    uint64_t host_fail_at; /* the call callback (from 1) that returns an error */
    uint64_t host_calls;
    uint32_t call_offs;        /* answers that the engine no longer wants … */
    pagent_call_id called_off; /* … of this call the last time */
    ask asks[WORLD_ASKS];
    uint32_t ask_count;
    outside_call calls[WORLD_CALLS];
    uint32_t call_count;
    outside_answer answers[WORLD_CALLS];
    uint32_t answer_count;
    uint64_t traces[PAGENT_TRACE_SNAPSHOT + 1];
    uint32_t patience; /* rounds after which a life is ended that gets nowhere; 0: that is a failure */
    int rivals;        /* other engines run as well: being fenced is no surprise */
    uint32_t lives;
    int crashed_once; /* calls of policy ONCE may be in doubt from now on */
    char text[PAGENT_TEXT_SIZE];
} world;

static world w;
static side sides[2];
static side *on = &sides[0]; /* the one that runs */

/* ---- the machine ------------------------------------------------------------------------------------------------ */

static memo *memo_of(pagent_step *step)
{
    return (memo *)pagent_context(step, NULL);
}

static void memo_log(pagent_step *step, char letter)
{
    memo *m = memo_of(step);
    if (m->log_size + 1u < sizeof m->log) m->log[m->log_size++] = letter;
    m->at = (uint8_t)(m->at + 2);
}

static int on_start(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    memo *m = memo_of(step);
    (void)ctx;
    (void)tag;
    if (event->data.size >= sizeof m->program) return PAGENT_E_LIMIT;
    memcpy(m->program, event->data.data, event->data.size);
    return 0;
}

static int next_is(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    return (uint32_t)memo_of(step)->program[memo_of(step)->at] == tag;
}

static int enter_state(void *ctx, pagent_step *step, uint32_t tag)
{
    const memo *m = memo_of(step);
    char text[16], target[2];
    (void)ctx;
    snprintf(text, sizeof text, "%s:%u", pagent_agent_name(step), (unsigned)m->at);
    target[0] = m->program[m->at + 1];
    target[1] = 0;
    switch (tag) {
    case 'F': return pagent_begin_call(step, "fetch", text, (uint32_t)strlen(text), NULL);
    case 'P': return pagent_begin_call(step, "publish", text, (uint32_t)strlen(text), NULL);
    case 'H': return pagent_begin_call(step, "hook", text, (uint32_t)strlen(text), NULL);
    case 'A':
        return pagent_ask_approval(step, "review", text, (uint32_t)strlen(text), pagent_now_ms(step) + 3600000u, NULL);
    case 'S': return pagent_send_signal(step, target, "go", text, (uint32_t)strlen(text));
    case 'L': return pagent_resize_context(step, (uint32_t)sizeof(memo) + 1000u * (m->at + 1u));
    default: return pagent_set_timer(step, "nap", pagent_now_ms(step) + 1000u);
    }
}

/* What was waited for has come: the tag is the letter for the log. */
static int on_done(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    char want[40];
    (void)ctx;
    if (tag == 'F' || tag == 'P' || tag == 'H') {
        snprintf(want, sizeof want, "answer to %s:%u", pagent_agent_name(step), (unsigned)memo_of(step)->at);
        if (event->data.size != strlen(want) || memcmp(event->data.data, want, event->data.size) != 0) tag = '!';
    }
    if (tag == 'W') memo_of(step)->gos++;
    memo_log(step, (char)tag);
    return pagent_remember(step, tag, event->data.data, event->data.size);
}

static int on_note(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    const uint8_t *number = (const uint8_t *)event->data.data;
    (void)ctx;
    (void)tag;
    if (event->data.size == 0 || *number >= WORLD_NOTES) return PAGENT_E_ARGUMENT;
    memo_of(step)->notes[*number]++;
    return pagent_remember(step, 'n', event->data.data, event->data.size);
}

static int on_fail(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    memo_of(step)->log[0] = '#'; /* must not stay */
    (void)pagent_remember(step, tag, "never", 5);
    (void)pagent_send_signal(step, "a", "note", "\1", 1);
    return pagent_fail(step, -7, "it does not work");
}

static int on_stuck(void *ctx, pagent_step *step, uint32_t tag)
{
    if (!w.healed) return on_fail(ctx, step, tag);
    memo_log(step, 'K');
    return 0;
}

static int enter_rescued(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    memo_log(step, (char)tag);
    return 0;
}

static const pagent_call_spec worker_calls[] = {
    {.name = "fetch", .flags = PAGENT_CALL_MODEL, .attempts_max = 12, .backoff_ms = 100},
    {.name = "publish", .crash_policy = PAGENT_CRASH_ONCE, .flags = PAGENT_CALL_IRREVERSIBLE, .attempts_max = 6},
    {.name = "hook", .crash_policy = PAGENT_CRASH_WAIT, .attempts_max = 6, .attempt_timeout_ms = 60000}};

static const pagent_state worker_states[] = {
    {.name = "boot", .flags = PAGENT_DEFER},
    {.name = "hub", .flags = PAGENT_DEFER},
    {.name = "fetching", .waits = "fetch", .enter = enter_state, .tag = 'F', .flags = PAGENT_DEFER},
    {.name = "publishing", .waits = "publish", .enter = enter_state, .tag = 'P', .flags = PAGENT_DEFER},
    {.name = "hooking", .waits = "hook", .enter = enter_state, .tag = 'H', .flags = PAGENT_DEFER},
    {.name = "asking", .waits = "review", .enter = enter_state, .tag = 'A', .flags = PAGENT_DEFER},
    {.name = "napping", .enter = enter_state, .tag = 'T', .flags = PAGENT_DEFER},
    {.name = "waiting"},
    {.name = "sending", .enter = enter_state, .tag = 'S', .flags = PAGENT_DEFER},
    {.name = "growing", .enter = enter_state, .tag = 'L', .flags = PAGENT_DEFER},
    {.name = "failing", .enter = enter_state, .tag = 'E', .on_error = "rescued", .flags = PAGENT_DEFER},
    {.name = "rescued", .enter = enter_rescued, .tag = 'E', .flags = PAGENT_DEFER},
    {.name = "stuck", .enter = enter_state, .tag = 'K', .flags = PAGENT_DEFER},
    {.name = "done", .flags = PAGENT_FINAL}};

static const pagent_transition worker_transitions[] = {
    {.from = "boot", .event = "start", .action = on_start, .to = "hub"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'F', .to = "fetching"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'P', .to = "publishing"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'H', .to = "hooking"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'A', .to = "asking"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'T', .to = "napping"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'W', .to = "waiting"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'S', .to = "sending"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'L', .to = "growing"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'E', .to = "failing"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 'K', .to = "stuck"},
    {.from = "hub", .event = "always", .guard = next_is, .tag = 0, .to = "done"},
    {.from = "fetching", .event = "fetch.result", .action = on_done, .tag = 'F', .to = "hub"},
    {.from = "fetching", .event = "fetch.failure", .action = on_done, .tag = 'f', .to = "hub"},
    {.from = "publishing", .event = "publish.result", .action = on_done, .tag = 'P', .to = "hub"},
    {.from = "publishing", .event = "publish.failure", .action = on_done, .tag = 'p', .to = "hub"},
    {.from = "publishing", .event = "publish.in_doubt", .action = on_done, .tag = 'd', .to = "hub"},
    {.from = "hooking", .event = "hook.result", .action = on_done, .tag = 'H', .to = "hub"},
    {.from = "hooking", .event = "hook.failure", .action = on_done, .tag = 'h', .to = "hub"},
    {.from = "asking", .event = "review.approved", .action = on_done, .tag = 'A', .to = "hub"},
    {.from = "asking", .event = "review.rejected", .action = on_done, .tag = 'R', .to = "hub"},
    {.from = "asking", .event = "review.edited", .action = on_done, .tag = 'X', .to = "hub"},
    {.from = "asking", .event = "review.expired", .action = on_done, .tag = 'x', .to = "hub"},
    {.from = "napping", .event = "nap.timer", .action = on_done, .tag = 'T', .to = "hub"},
    {.from = "waiting", .event = "go", .action = on_done, .tag = 'W', .to = "hub"},
    {.from = "sending", .event = "always", .action = on_done, .tag = 'S', .to = "hub"},
    {.from = "growing", .event = "always", .action = on_done, .tag = 'L', .to = "hub"},
    {.from = "failing", .event = "nap.timer", .action = on_fail, .tag = 'E', .to = "hub"},
    {.from = "rescued", .event = "always", .to = "hub"},
    {.from = "stuck", .event = "nap.timer", .action = on_stuck, .tag = 'K', .to = "hub"},
    {.from = "*", .event = "note", .action = on_note}};

static const pagent_machine worker = {.size = sizeof(pagent_machine),
                                      .version = 1,
                                      .name = "worker",
                                      .context_size = sizeof(memo),
                                      .signals = "go note",
                                      .timers = "nap",
                                      .approvals = "review",
                                      .calls = PAGENT_ROWS(worker_calls),
                                      .states = PAGENT_ROWS(worker_states),
                                      .transitions = PAGENT_ROWS(worker_transitions)};
static const pagent_machine *const workers[] = {&worker};

/* The log that a program must leave. '?' stands for what a crash may turn from P into d. */
static void expected_log(const char *program, char *log)
{
    for (; *program != 0; program += 2) {
        char what = program[0];
        if (what == 'F' && program[1] == '9') what = 'f';
        if (what == 'P' && w.crashed_once) what = '?';
        if (what == 'A') what = "ARXx"[program[1] - '0'];
        *log++ = what;
    }
    *log = 0;
}

/* ---- the outside: a service that is called ----------------------------------------------------------------------- */

static outside_call *outside_find(const pagent_call *call)
{
    outside_call *found = NULL;
    char request[16];
    uint32_t i;
    memset(request, 0, sizeof request);
    memcpy(request, call->request.data, call->request.size < 15 ? call->request.size : 15);
    for (i = 0; i < w.call_count; i++) {
        outside_call *known = &w.calls[i];
        int same_key = strcmp(known->key, call->key) == 0;
        int same_effect = strcmp(known->agent, call->agent) == 0 && strcmp(known->request, request) == 0;
        if (same_key != same_effect) {
            FAIL("key %s of %s/%s is %s %s/%s", call->key, call->agent, request,
                 same_key ? "also of" : "not the one of", known->agent, known->request);
        }
        if (same_key) found = known;
    }
    if (found != NULL || w.call_count == WORLD_CALLS) return found;
    found = &w.calls[w.call_count++];
    memset(found, 0, sizeof *found);
    snprintf(found->key, sizeof found->key, "%s", call->key);
    snprintf(found->agent, sizeof found->agent, "%s", call->agent);
    snprintf(found->name, sizeof found->name, "%s", call->name);
    memcpy(found->request, request, sizeof request);
    return found;
}

/* Law 1: the block that issues the call is durable, and the engine knows it. */
static void outside_check_order(uint64_t stream, uint64_t version)
{
    if (!sim_was_told(&on->store, stream, version)) {
        FAIL("released before the store said OK: version %llu", (unsigned long long)version);
    }
    if (w.kind != WORLD_MEMORY && !sim_is_durable(&w.disk, stream, version)) {
        FAIL("released before it is durable: version %llu", (unsigned long long)version);
    }
}

static int outside_answers_now(const outside_call *known, char digit, pagent_answer *answer)
{
    static char text[40];
    snprintf(text, sizeof text, "answer to %s", known->request);
    answer->outcome = PAGENT_ANSWERED;
    answer->data.data = text;
    answer->data.size = (uint32_t)strlen(text);
    if (digit == '9') {
        answer->outcome = PAGENT_FAILED_FINAL;
        answer->code = -400;
    } else if (digit >= '1' && digit <= '3' && known->refused < (uint32_t)(digit - '0')) {
        answer->outcome = PAGENT_FAILED;
        answer->code = -503;
    }
    return answer->outcome != PAGENT_ANSWERED;
}

static char program_digit(const char *agent, const char *request)
{
    const char *colon = strchr(request, ':');
    unsigned long at = colon != NULL ? strtoul(colon + 1, NULL, 10) : 0;
    const char *program = w.plays->programs[agent[0] - 'a'];
    return at + 1 < strlen(program) ? program[at + 1] : '0';
}

static int host_call(void *ctx, const pagent_call *call, pagent_answer *answer)
{
    outside_call *known;
    outside_answer *later;
    char digit;
    (void)ctx;
    sim_point(&w.disk); /* nothing has happened yet */
    outside_check_order(call->id.stream, call->id.version);
    w.host_calls++;
    known = outside_find(call);
    if (known == NULL) return PAGENT_E_LIMIT;
    digit = program_digit(call->agent, known->request);
    CHECK(w.rivals || call->id.attempt > known->last_attempt || known->sent == 0 || strcmp(call->name, "hook") == 0);
    if (!w.rivals && known->last_attempt != 0 && known->last_life != on->life && known->sent != 0 &&
        strcmp(call->name, "fetch") == 0) {
        CHECK(call->repeated != 0 || known->refused != 0);
    }
    known->starts++;
    known->last_attempt = call->id.attempt;
    known->last_life = on->life;
    if (w.host_fail_at != 0 && w.host_calls == w.host_fail_at) return PAGENT_NOT_SENT;
    if ((digit == '4' || (digit == '1' && call->name[0] == 'p')) && known->refused == 0) {
        known->refused++;
        return PAGENT_NOT_SENT;
    }
    if (digit == '6' && known->refused == 0) {
        known->refused++;
        return -77;
    }
    known->sent++;
    if (strcmp(call->name, "publish") == 0) CHECK_EQ(known->sent, 1); /* ONCE */
    if (digit == '5') {
        (void)outside_answers_now(known, digit, answer);
        sim_point(&w.disk);
        return PAGENT_OK;
    }
    if (w.answer_count == WORLD_CALLS) return PAGENT_E_LIMIT;
    later = &w.answers[w.answer_count++];
    memset(later, 0, sizeof *later);
    later->id = call->id;
    if (strcmp(call->name, "publish") != 0 && outside_answers_now(known, digit, &later->answer)) known->refused++;
    if (strcmp(call->name, "publish") == 0) (void)outside_answers_now(known, '0', &later->answer);
    snprintf(later->text, sizeof later->text, "answer to %s", known->request);
    later->life = on->life;
    later->survives = strcmp(call->name, "hook") == 0;
    sim_point(&w.disk); /* the service has it; we may die before anybody knows */
    return PAGENT_PENDING;
}

static void host_call_cancel(void *ctx, const pagent_call_id *id)
{
    (void)ctx;
    w.call_offs++;
    w.called_off = *id;
}

static void host_trace(void *ctx, const pagent_trace *record)
{
    (void)ctx;
    if (record->kind <= PAGENT_TRACE_SNAPSHOT) w.traces[record->kind]++;
    if (record->code == PAGENT_E_FENCED && !w.rivals) FAIL("fenced, although there is no other engine");
    if (record->code == PAGENT_E_FENCED) on->wants_reopen = 1;
    if (record->kind == PAGENT_TRACE_ERROR && record->name != NULL && strcmp(record->name, "load") == 0) {
        on->wants_reopen = 1;
    }
    if (test.verbose && test.at == test.only) {
        printf("    trace %u code %d %s v%llu %s %s>%s\n", (unsigned)record->kind, (int)record->code,
               record->agent != NULL ? record->agent : "?", (unsigned long long)record->version,
               record->name != NULL ? record->name : "", record->from != NULL ? record->from : "",
               record->to != NULL ? record->to : "");
    }
}

/* Hands one answer in; also twice, for another attempt and for another agent: those are refused. 1: something
   happened. */
static int deliver_answer(void)
{
    outside_answer later;
    pagent_call_id wrong;
    uint32_t at, i;
    int result;
    for (i = 0; i < w.answer_count;) {
        const outside_answer *answer = &w.answers[i];
        int alive = (sides[0].engine != NULL && sides[0].life == answer->life) ||
                    (sides[1].engine != NULL && sides[1].life == answer->life);
        if (alive || answer->survives) i++;
        else w.answers[i] = w.answers[--w.answer_count]; /* whom it was meant for is dead */
    }
    if (w.answer_count == 0) return 0;
    at = (uint32_t)sim_below(&w.random, w.answer_count);
    for (i = 0; i < w.answer_count && w.answers[at].life != on->life && !w.answers[at].survives; i++) {
        at = (at + 1) % w.answer_count;
    }
    if (i == w.answer_count) return 0;
    later = w.answers[at];
    later.answer.data.data = later.text;
    later.answer.data.size = (uint32_t)strlen(later.text);
    /* OK is possible for an agent that is not in memory: it is looked up first, and the answer refused then */
    wrong = later.id;
    wrong.stream ^= 1;
    (void)pagent_call_done(on->engine, &wrong, &later.answer);
    wrong = later.id;
    wrong.attempt++;
    (void)pagent_call_done(on->engine, &wrong, &later.answer);
    result = pagent_call_done(on->engine, &later.id, &later.answer);
    (void)pagent_call_done(on->engine, &later.id, &later.answer);
    if (result == PAGENT_E_MEMORY || result == PAGENT_E_AGAIN) return 0; /* tried again later */
    if (result != PAGENT_OK && result != PAGENT_E_STALE) FAIL("call_done: %s", pagent_result_name(result));
    w.answers[at] = w.answers[--w.answer_count];
    return 1;
}

/* How many are on their way to the engine that runs. */
static uint32_t own_answers(void)
{
    uint32_t i, count = 0;
    for (i = 0; i < w.answer_count; i++) count += w.answers[i].life == on->life;
    return count;
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static ask *new_ask(uint32_t verb, const char *agent, const char *event, const char *id, const void *data, size_t size)
{
    ask *made;
    if (w.ask_count == WORLD_ASKS) abort();
    made = &w.asks[w.ask_count++];
    memset(made, 0, sizeof *made);
    snprintf(made->agent, sizeof made->agent, "%s", agent);
    snprintf(made->id, sizeof made->id, "%s", id);
    if (size > sizeof made->data) abort();
    if (size != 0) memcpy(made->data, data, size);
    made->request.size = (uint32_t)sizeof made->request;
    made->request.verb = verb;
    made->request.agent = made->agent;
    made->request.id = id[0] != 0 ? made->id : NULL;
    made->request.event = event;
    made->request.data.data = made->data;
    made->request.data.size = (uint32_t)size;
    return made;
}

static ask *find_ask(const char *id)
{
    uint32_t i;
    for (i = 0; i < w.ask_count; i++) {
        if (strcmp(w.asks[i].id, id) == 0) return &w.asks[i];
    }
    return NULL;
}

/* Refusals that are the last word; every other error is tried again. A note may come before its agent is created. */
static int is_final_refusal(const ask *it)
{
    int result = it->receipt.result;
    if (result == PAGENT_E_NOT_FOUND && it->request.verb == PAGENT_POST) return 0;
    if (result == PAGENT_E_REFUSED && w.rivals) return 0; /* a zombie refuses by what it knows: ask its successor */
    return result == PAGENT_E_FINISHED || result == PAGENT_E_REFUSED || result == PAGENT_E_EXISTS ||
           result == PAGENT_E_CONFLICT || result == PAGENT_E_SETTLED || result == PAGENT_E_EXPIRED ||
           result == PAGENT_E_NOT_FOUND;
}

static void settle_ask(ask *it)
{
    int result = it->receipt.result;
    if (test.verbose && test.at == test.only) {
        printf("    receipt %s: %s, version %llu %s\n", it->id, pagent_result_name(result),
               (unsigned long long)it->receipt.version, it->receipt.text);
    }
    if (result == PAGENT_OK || result == PAGENT_DUPLICATE || result == PAGENT_DEFERRED) {
        it->phase = ASK_SETTLED;
        if (on->engine != NULL && !w.use_inbox && result != PAGENT_DUPLICATE && it->receipt.version != 0) {
            outside_check_order(pagent_stream_of(it->agent), it->receipt.version);
        }
    } else if (is_final_refusal(it)) {
        it->phase = ASK_SETTLED;
    } else {
        it->phase = ASK_NEW;
    }
}

/* Where agents send signals, each is created only when the ones before it are there: a signal to nobody is refused. */
static int must_wait(const ask *it)
{
    const ask *other;
    uint32_t i;
    for (i = 0; i < WORLD_AGENTS && w.plays->programs[i] != NULL; i++) {
        if (strchr(w.plays->programs[i], 'S') != NULL) break;
    }
    if (i == WORLD_AGENTS || w.plays->programs[i] == NULL) return 0;
    for (other = w.asks; other < it; other++) {
        if (other->request.verb == PAGENT_CREATE && other->phase != ASK_SETTLED) return 1;
    }
    return 0;
}

static void send_asks(void)
{
    uint32_t i;
    for (i = 0; i < w.ask_count; i++) {
        ask *it = &w.asks[i];
        int result;
        if (it->phase != ASK_NEW || must_wait(it)) continue;
        memset(&it->receipt, 0, sizeof it->receipt);
        it->receipt.result = PAGENT_PENDING;
        if (w.use_inbox) {
            pagent_host host = sim_host_of(&w.sender_host);
            result = w.memory != NULL ? pagent_memory_message(w.memory, &it->request)
                                      : pagent_send_message(&w.sender_dir, &host, &it->request);
            if (result == PAGENT_OK || result == PAGENT_E_EXISTS || result == PAGENT_DUPLICATE) it->phase = ASK_SENT;
            continue;
        }
        it->phase = ASK_SENT; /* before the call: the receipt is written at any time from now on */
        result = pagent_submit(on->engine, &it->request, &it->receipt);
        if (result != PAGENT_OK) {
            it->phase = ASK_NEW;
            if (result != PAGENT_E_MEMORY && result != PAGENT_E_LIMIT) FAIL("submit: %s", pagent_result_name(result));
        }
    }
}

static void harvest_asks(void)
{
    uint32_t i;
    for (i = 0; i < w.ask_count; i++) {
        ask *it = &w.asks[i];
        if (it->phase != ASK_SENT) continue;
        if (w.use_inbox) {
            int result = w.memory != NULL ? pagent_memory_receipt(w.memory, it->id, &it->receipt)
                                          : pagent_read_receipt(&w.sender_dir, it->id, &it->receipt);
            if (result == PAGENT_OK) settle_ask(it);
            else if (result != PAGENT_PENDING) it->phase = ASK_NEW;
        } else if (it->receipt.result != PAGENT_PENDING) {
            settle_ask(it);
        }
    }
}

static uint32_t open_asks(void)
{
    uint32_t i, count = 0;
    for (i = 0; i < w.ask_count; i++) count += w.asks[i].phase != ASK_SETTLED;
    return count;
}

/* ---- looking at agents ------------------------------------------------------------------------------------------- */

static int look(const char *agent, uint64_t version, pagent_view **view)
{
    int result = pagent_open_view(on->engine, agent, version, view);
    uint32_t tries;
    for (tries = 0; result == PAGENT_PENDING && tries < 1000; tries++) {
        (void)sim_complete(&on->store);
        result = pagent_view_ready(*view);
    }
    if (result < 0 && *view != NULL) {
        pagent_close_view(*view);
        *view = NULL;
    }
    return result;
}

/* What a person, or a supervisor, does about an agent. 1: something new was asked. */
static int tend_agent(const char *name, uint64_t *due_ms, int *ended)
{
    pagent_view *view = NULL;
    pagent_info info;
    memo m;
    int acted = 0, result = look(name, 0, &view);
    char id[40];
    uint32_t i;
    *ended = 0;
    if (result < 0) return 0;
    CHECK_EQ(pagent_view_info(view, &info), PAGENT_OK);
    *ended = info.status == PAGENT_DONE || info.status == PAGENT_FAILED_STATUS || info.status == PAGENT_CANCELLED;
    if (!CHECK(info.context.size >= sizeof m)) {
        pagent_close_view(view);
        return 0;
    }
    memcpy(&m, info.context.data, sizeof m);
    for (i = 0; i < info.effect_count; i++) {
        pagent_effect effect;
        char digit = m.program[m.at + 1];
        if (!CHECK_EQ(pagent_view_effect(view, i, &effect), PAGENT_OK)) break;
        if (effect.kind != PAGENT_EFFECT_SIGNAL && effect.due_ms < *due_ms) *due_ms = effect.due_ms;
        if (effect.kind != PAGENT_EFFECT_APPROVAL || digit == '3') continue;
        snprintf(id, sizeof id, "decide-%s-%llu", name, (unsigned long long)effect.id.version);
        if (find_ask(id) == NULL) {
            ask *it = new_ask(PAGENT_DECIDE, name, NULL, id, "edited", digit == '2' ? 6 : 0);
            it->request.effect = effect.id;
            it->request.digest = effect.digest;
            it->request.who = "somebody";
            it->request.decision = (uint32_t)(digit - '0') + PAGENT_APPROVE;
            acted = 1;
        }
    }
    if (info.status == PAGENT_PARKED && m.program[m.at] == 'K') {
        w.healed = 1;
        snprintf(id, sizeof id, "retry-%s-%llu", name, (unsigned long long)info.version);
        if (find_ask(id) == NULL) {
            (void)new_ask(PAGENT_RETRY, name, NULL, id, NULL, 0);
            acted = 1;
        }
    }
    if (m.program[m.at] == 'W' && m.program[m.at + 1] == '1') {
        snprintf(id, sizeof id, "go-%s-%u", name, (unsigned)m.at);
        if (find_ask(id) == NULL) {
            (void)new_ask(PAGENT_POST, name, "go", id, NULL, 0);
            acted = 1;
        }
    }
    if (w.plays->cancelled != NULL && strcmp(w.plays->cancelled, name) == 0 && find_ask("cancel") == NULL) {
        (void)new_ask(PAGENT_CANCEL, name, NULL, "cancel", "enough", 6);
        acted = 1;
    }
    pagent_close_view(view);
    return acted;
}

/* ---- one life ---------------------------------------------------------------------------------------------------- */

static int world_open(void)
{
    pagent_config config;
    pagent_store store;
    int result;
    on->life = ++w.lives;
    on->wants_reopen = 0;
    on->process.id++;
    on->host.random.state = w.seed * 1000u + on->life;
    if (w.kind == WORLD_MEMORY) {
        pagent_host host = sim_host_of(&w.store_host);
        if (w.memory == NULL && (result = pagent_open_memory(&w.memory, &host)) != PAGENT_OK) return result;
        store = pagent_memory_store(w.memory);
    } else {
        pagent_host host = sim_host_of(&on->host);
        on->files = NULL;
        result = pagent_open_files(&on->files, &on->dir, &host, &w.options, w.text);
        if (result != PAGENT_OK) {
            if (test.verbose) printf("    open: %s\n", w.text);
            return result;
        }
        store = pagent_files_store(on->files);
    }
    memset(&config, 0, sizeof config);
    config.size = (uint32_t)sizeof config;
    config.host = sim_host_of(&on->host);
    config.host.call = host_call;
    config.host.call_cancel = host_call_cancel;
    config.host.trace = host_trace;
    config.store = sim_store_of(&on->store, &store);
    config.limits = w.limits;
    config.hold_effects = w.hold_effects;
    config.machines = w.machines != NULL ? w.machines : workers;
    config.machine_count = w.machines != NULL ? w.machine_count : 1;
    result = pagent_open_engine(&on->engine, &config, w.text);
    on->store.engine = on->engine;
    if (result != PAGENT_OK) {
        CHECK(on->engine == NULL && w.text[0] != 0);
        if (on->files != NULL) (void)pagent_close_files(on->files);
        on->files = NULL;
    }
    return result;
}

/* Ends this life in good order: afterwards nothing is open or allocated. */
static int world_close(void)
{
    int result = PAGENT_OK, closed;
    if (on->engine != NULL) result = pagent_close_engine(on->engine);
    harvest_asks();
    on->engine = NULL;
    sim_forget(&on->store);
    if (on->files != NULL) {
        closed = pagent_close_files(on->files);
        if (result == PAGENT_OK) result = closed;
    }
    on->files = NULL;
    CHECK_EQ(on->host.memory.count, 0);
    CHECK_EQ(sim_open_handles(&w.disk, on->process.id), 0);
    return result;
}

/* This life is over, without a word to anybody. */
static void world_die(void)
{
    uint32_t i;
    on->engine = NULL;
    harvest_asks();
    sim_forget(&on->store);
    sim_release(&on->host.memory);
    sim_release(&w.sender_host.memory);
    on->files = NULL;
    w.crashed_once = 1;
    for (i = 0; i < w.ask_count; i++) {
        if (w.asks[i].phase == ASK_SENT) w.asks[i].phase = ASK_NEW; /* the sender died too: it asks again, same id */
    }
}

/* Nothing is left to do now: a moment passes, or all the time until an agent wants to be looked at. (The engine's
   own next deadline is mostly its next look into the inbox.) */
static void advance_clock(uint64_t due_ms)
{
    uint64_t deadline = pagent_next_deadline(on->engine);
    if (due_ms != PAGENT_FOREVER) CHECK(deadline <= due_ms || deadline <= on->host.now_ms + 1000);
    if (w.idle++ % 2 == 0 || due_ms == PAGENT_FOREVER || due_ms <= on->host.now_ms || open_asks() != 0)
        on->host.now_ms += 250;
    else on->host.now_ms = due_ms;
}

/* Goes on until every agent has ended and every request is settled, or the engine fails. */
static int world_work(void)
{
    uint32_t round, i;
    for (round = 0; round < (w.patience != 0 ? w.patience : 6000); round++) {
        uint64_t due_ms = PAGENT_FOREVER;
        int result, acted = 0, ended = 0;
        send_asks();
        result = pagent_poll(on->engine);
        harvest_asks();
        if (result < 0) return result;
        if (result == PAGENT_OK) continue;
        if (result != PAGENT_IDLE && result != PAGENT_PENDING) FAIL("poll answers %s", pagent_result_name(result));
        if (sim_complete(&on->store)) continue;
        if (on->wants_reopen) return PAGENT_E_STORAGE;
        if (deliver_answer()) continue;
        for (i = 0; i < w.agent_count; i++) {
            char name[2] = {(char)('a' + i), 0};
            int over = 0;
            acted |= tend_agent(name, &due_ms, &over);
            ended += over;
        }
        if (acted) continue;
        if (ended == (int)w.agent_count && open_asks() == 0 && own_answers() == 0) return PAGENT_OK;
        advance_clock(due_ms);
    }
    if (w.patience == 0) FAIL("it never ends (%u requests open)", (unsigned)open_asks());
    return PAGENT_E_TIMEOUT;
}

static int world_life(void)
{
    int result = world_open();
    if (result != PAGENT_OK) return result;
    result = world_work();
    if (result != PAGENT_OK) {
        (void)world_close();
        return result;
    }
    return world_close();
}

/* One life that may be ended at `cut`. (Not every program that includes this sweeps.) */
__attribute__((unused)) static int world_live(uint64_t cut)
{
    int result;
    w.disk.cut = cut;
    result = sim_live(world_life, WORLD_CRASHED);
    if (result == WORLD_CRASHED) world_die();
    return result;
}

static void world_begin(uint32_t kind, const play *what, uint64_t seed)
{
    uint32_t i;
    w.kind = kind;
    w.plays = what;
    w.seed = seed;
    w.random.state = seed ^ 0x77;
    sim_init_disk(&w.disk);
    sim_init_host(&w.store_host, seed + 1);
    for (i = 0; i < 2; i++) {
        on = &sides[i];
        sim_init_host(&on->host, seed + i);
        sim_init_store(&on->store, seed + i);
        on->store.points = &w.disk;
        on->process.disk = &w.disk;
        on->process.id = 1 + (int)i * 10000;
        on->dir = sim_dir(&on->process);
        on->files = NULL;
        on->engine = NULL;
    }
    on = &sides[0];
    sim_init_host(&w.sender_host, seed + 2);
    w.sender.disk = &w.disk;
    w.sender.id = 900000;
    w.sender_dir = sim_dir(&w.sender);
    memset(&w.options, 0, sizeof w.options);
    w.options.size = (uint32_t)sizeof w.options;
    w.options.log_per_agent = kind == WORLD_PER_AGENT;
    w.options.segment_size = 8192;
    memset(&w.limits, 0, sizeof w.limits);
    w.limits.size = (uint32_t)sizeof w.limits;
    w.limits.snapshot_floor = 600;
    w.limits.snapshot_factor = 1;
    w.memory = NULL;
    w.lives = w.hold_effects = w.use_inbox = w.healed = w.idle = 0;
    w.host_calls = w.host_fail_at = w.call_offs = 0;
    w.ask_count = w.call_count = w.answer_count = 0;
    w.crashed_once = w.rivals = 0;
    w.agent_count = w.patience = 0;
    while (w.agent_count < WORLD_AGENTS && what->programs[w.agent_count] != NULL) w.agent_count++;
    for (i = w.agent_count; i-- != 0;) { /* "a" last: it is the one that sends first */
        char name[2] = {(char)('a' + i), 0}, id[16];
        snprintf(id, sizeof id, "create-%s", name);
        (void)new_ask(PAGENT_CREATE, name, "worker", id, what->programs[i], strlen(what->programs[i]));
    }
    for (i = 0; i < what->notes; i++) {
        uint8_t number = (uint8_t)i;
        char id[16];
        snprintf(id, sizeof id, "note-%u", (unsigned)i);
        (void)new_ask(PAGENT_POST, "a", "note", id, &number, 1);
    }
}

static void world_end(void)
{
    uint32_t i;
    if (w.memory != NULL) pagent_close_memory(w.memory);
    w.memory = NULL;
    CHECK_EQ(w.store_host.memory.count, 0);
    CHECK_EQ(w.sender_host.memory.count, 0);
    for (i = 0; i < 2; i++) {
        sim_release(&sides[i].host.memory);
        free(sides[i].store.late_block);
        sides[i].store.late_block = NULL;
    }
    sim_release(&w.store_host.memory);
    sim_free_disk(&w.disk);
}

static void world_disarm(void)
{
    w.patience = 0;
    sim_disarm(&w.disk);
    on->store.fail_at = 0;
    on->host.memory.fail_at = 0;
    on->host.random_fail_at = 0;
    w.host_fail_at = 0;
}

/* ---- the end: is everything as it had to be? --------------------------------------------------------------------- */

static void check_history(const char *name, uint64_t newest)
{
    pagent_view *view = NULL;
    pagent_block_info block;
    uint64_t version = 0;
    int result = look(name, PAGENT_OLDEST, &view);
    if (result < 0) {
        FAIL("history of %s: %s", name, pagent_result_name(result));
        return;
    }
    for (;;) {
        if (!CHECK_EQ(pagent_view_block(view, &block), PAGENT_OK)) break;
        if (version != 0) CHECK_EQ(block.version, version + 1);
        version = block.version;
        while ((result = pagent_view_next(view)) == PAGENT_PENDING) (void)sim_complete(&on->store);
        if (result != PAGENT_OK) break;
    }
    CHECK_EQ(result, PAGENT_END);
    CHECK_EQ(version, newest);
    pagent_close_view(view);
}

static void check_agent(uint32_t number)
{
    char name[2] = {(char)('a' + number), 0}, want[32], id[16];
    pagent_view *view = NULL;
    pagent_info info;
    uint32_t i;
    memo m;
    int result = look(name, 0, &view), cancelled = w.plays->cancelled != NULL && strcmp(w.plays->cancelled, name) == 0;
    if (result < 0) {
        FAIL("agent %s: %s", name, pagent_result_name(result));
        return;
    }
    CHECK_EQ(pagent_view_info(view, &info), PAGENT_OK);
    if (cancelled) CHECK(info.status == PAGENT_CANCELLED || info.status == PAGENT_DONE);
    else CHECK_EQ(info.status, PAGENT_DONE);
    CHECK_EQ(info.effect_count, 0);
    memset(&m, 0, sizeof m);
    if (CHECK(info.context.size >= sizeof m)) memcpy(&m, info.context.data, sizeof m);
    expected_log(w.plays->programs[number], want);
    for (i = 0; want[i] != 0 && m.log[i] != 0; i++) {
        if (want[i] == '?' && (m.log[i] == 'P' || m.log[i] == 'd')) want[i] = m.log[i];
    }
    if (cancelled) want[m.log_size] = 0;
    CHECK_TEXT(m.log, want);
    for (i = 0; number == 0 && i < w.plays->notes; i++) {
        const ask *it;
        int expected;
        snprintf(id, sizeof id, "note-%u", (unsigned)i);
        it = find_ask(id);
        expected = it != NULL && (it->receipt.result == PAGENT_OK || it->receipt.result == PAGENT_DUPLICATE);
        if (it != NULL && it->receipt.result == PAGENT_DEFERRED)
            expected = m.notes[i] != 0; /* it may have ended before */
        if (m.notes[i] != expected) {
            FAIL("note %u was answered %s and counted %u times", (unsigned)i,
                 it != NULL ? pagent_result_name(it->receipt.result) : "?", (unsigned)m.notes[i]);
        }
    }
    pagent_close_view(view);
    check_history(name, info.version);
}

/* Opens once more, without faults, and compares every agent with what its program must have left. */
__attribute__((unused)) static void world_check(void)
{
    uint32_t i, torn = 0;
    int result;
    world_disarm();
    on->store.late = 0;
    if (w.kind != WORLD_MEMORY) {
        pagent_host host = sim_host_of(&on->host);
        CHECK_EQ(pagent_verify_files(&on->dir, &host, NULL, NULL, &torn), PAGENT_OK);
    }
    result = world_open();
    if (result != PAGENT_OK) {
        FAIL("opening at the end: %s (%s)", pagent_result_name(result), w.text);
        return;
    }
    while ((result = pagent_poll(on->engine)) == PAGENT_OK) continue;
    CHECK_EQ(result, PAGENT_IDLE);
    for (i = 0; i < w.agent_count; i++) check_agent(i);
    CHECK(pagent_is_quiet(on->engine));
    CHECK_EQ(world_close(), PAGENT_OK);
}

#endif /* WORLD_H */
