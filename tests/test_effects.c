/* test_effects.c: what calls, the mailbox and the transcript promise, one rule at a time, over the memory store:
   answers of another life, crash policies, backoff and its cap, deadlines, deferred events in order, parked agents,
   signals that arrive once, transcripts that stay in their own blocks, conflicts, broken chains. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include "test.h"

enum {
    BEGUN_MAX = 64,
    LOG_MAX = 32
};

typedef struct diary { /* the context */
    char log[LOG_MAX]; /* a letter for each event that was taken */
} diary;

static struct {
    pagent_memory *memory;
    pagent_engine *engine;
    pagent_store store; /* the memory's own, behind the one that the engine sees */
    uint64_t now;
    uint64_t random;
    uint32_t begun;
    pagent_call_id ids[BEGUN_MAX];
    uint32_t repeated[BEGUN_MAX];
    const pagent_answer *at_once; /* of the host, to each call; NULL: none */
    uint32_t broken;              /* the handler of "break" fails */
    uint64_t denied;              /* stream whose appends … */
    uint32_t denied_after;        /* … are refused from the one with this number on … */
    int denied_with;              /* … with this */
    uint64_t unchained;           /* version that reading shows with another predecessor */
    uint64_t swapped;    /* version that reading shows with another context, and all links as they have to be */
    uint32_t swapped_at; /* the byte of it */
    uint32_t doubts;     /* appends from now on that are done, and answered IN_DOUBT */
    uint32_t deaf;       /* readings from now on that are answered AGAIN */
    uint32_t stolen; /* the next append is in doubt, and somebody else's block, so many bytes longer, stands there */
} w;

/* ---- the machine ---- */

static int log_letter(void *ctx, pagent_step *step, uint32_t tag)
{
    diary *agent = (diary *)pagent_context(step, NULL);
    size_t size = strlen(agent->log);
    (void)ctx;
    if (size + 1 < sizeof agent->log) agent->log[size] = (char)tag;
    return PAGENT_OK;
}

static int begin(void *ctx, pagent_step *step, uint32_t tag)
{
    static const char *const names[] = {"tool", "short", "hook", "twice", "once"};
    (void)ctx;
    return pagent_begin_call(step, names[tag], "?", 1, NULL);
}

static int remember(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    (void)ctx, (void)tag;
    return pagent_remember(step, 7, event->data.data, event->data.size);
}

static int tell(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx, (void)tag;
    return pagent_send_signal(step, "y", "a", NULL, 0);
}

static int break_down(void *ctx, pagent_step *step, uint32_t tag)
{
    if (w.broken) return pagent_fail(step, -7, "it is broken");
    return log_letter(ctx, step, tag);
}

static const pagent_call_spec calls[] = {
    {"tool", PAGENT_CRASH_REPEAT, 0, 40, 1000, 3000, 0, 0}, {"short", PAGENT_CRASH_REPEAT, 0, 10, 1000, 60000, 0, 5000},
    {"hook", PAGENT_CRASH_WAIT, 0, 0, 0, 0, 0, 0},          {"twice", PAGENT_CRASH_REPEAT, 0, 2, 0, 0, 0, 0},
    {"once", PAGENT_CRASH_ONCE, 0, 0, 0, 0, 0, 0},
};
static const pagent_state states[] = {
    {"idle", NULL, NULL, NULL, NULL, NULL, 0, 0},
    {"tooling", NULL, "tool", begin, NULL, NULL, 0, 0},
    {"hurrying", NULL, "short", begin, NULL, NULL, 0, 1},
    {"hooked", NULL, "hook", begin, NULL, NULL, 0, 2},
    {"trying", NULL, "twice", begin, NULL, NULL, 0, 3},
    {"daring", NULL, "once", begin, NULL, NULL, 0, 4},
    {"held", NULL, NULL, NULL, NULL, NULL, PAGENT_DEFER, 0},
    {"over", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0},
};
static const pagent_transition transitions[] = {
    {"idle", "use", NULL, NULL, "tooling", 0},
    {"idle", "hurry", NULL, NULL, "hurrying", 0},
    {"idle", "hang", NULL, NULL, "hooked", 0},
    {"idle", "try", NULL, NULL, "trying", 0},
    {"idle", "dare", NULL, NULL, "daring", 0},
    {"idle", "hold", NULL, NULL, "held", 0},
    {"idle", "a", NULL, log_letter, NULL, 'a'},
    {"idle", "b", NULL, log_letter, NULL, 'b'},
    {"idle", "say", NULL, remember, NULL, 0},
    {"idle", "tell", NULL, tell, NULL, 0},
    {"idle", "break", NULL, break_down, NULL, 'k'},
    {"idle", "end", NULL, NULL, "over", 0},
    {"held", "free", NULL, NULL, "idle", 0},
    {"tooling", "leave", NULL, NULL, "idle", 0},
    {"tooling", "tool.result", NULL, log_letter, "idle", 'R'},
    {"tooling", "tool.failure", NULL, log_letter, "idle", 'F'},
    {"hurrying", "short.result", NULL, log_letter, "idle", 'R'},
    {"hurrying", "short.failure", NULL, log_letter, "idle", 'F'},
    {"hooked", "hook.result", NULL, log_letter, "idle", 'R'},
    {"hooked", "hook.failure", NULL, log_letter, "idle", 'F'},
    {"daring", "once.result", NULL, log_letter, "idle", 'R'},
    {"daring", "once.failure", NULL, log_letter, "idle", 'F'},
    {"daring", "once.in_doubt", NULL, log_letter, "idle", 'D'},
    {"trying", "twice.result", NULL, log_letter, "idle", 'R'},
    {"trying", "twice.failure", NULL, log_letter, "idle", 'F'},
};
static const pagent_machine machine = {sizeof machine,
                                       1,
                                       "worker",
                                       NULL,
                                       sizeof(diary),
                                       "use hurry hang try dare hold free leave a b say tell break end",
                                       NULL,
                                       NULL,
                                       PAGENT_ROWS(calls),
                                       PAGENT_ROWS(states),
                                       PAGENT_ROWS(transitions)};

/* ---- the host, and a store that can be made to fail ---- */

static void *host_allocate(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx, (void)old_size;
    if (new_size != 0) return realloc(old, new_size);
    free(old);
    return NULL;
}

static int host_random(void *ctx, void *buffer, size_t size)
{
    uint8_t *to = (uint8_t *)buffer;
    (void)ctx;
    while (size-- != 0) {
        w.random = pai_mix(w.random);
        *to++ = (uint8_t)(w.random >> 40);
    }
    return PAGENT_OK;
}

static uint64_t host_clock(void *ctx)
{
    (void)ctx;
    return w.now;
}

static int host_call(void *ctx, const pagent_call *call, pagent_answer *answer)
{
    (void)ctx;
    if (!CHECK(w.begun < BEGUN_MAX)) return PAGENT_NOT_SENT;
    w.repeated[w.begun] = call->repeated;
    w.ids[w.begun++] = call->id;
    if (w.at_once != NULL) {
        *answer = *w.at_once;
        return PAGENT_OK;
    }
    return PAGENT_PENDING;
}

/* Somebody else was quicker: another owner's block, of the same event, stands where the engine's was to go. */
static int steal(void *ctx, const pagent_append *request, pagent_io *io)
{
    pagent_append theirs = *request;
    uint8_t *block = (uint8_t *)malloc(request->size + w.stolen + 128u);
    uint32_t size, longer = w.stolen;
    pai_block header;
    pai_crc crc;
    pai_crc_init(&crc);
    w.stolen = 0;
    if (block == NULL || request->count != 1) abort();
    memcpy(block, request->blocks, request->size);
    CHECK_EQ(pai_decode_header(&crc, block, 0, &header), PAGENT_OK);
    size = header.payload_size;
    if (header.flags & PAI_WHITE) pai_whiten(block + 64, pai_padded(size), header.stream, header.version);
    if (longer > 8) {
        memset(block + 64 + size, 0x5A, longer);
        pai_put_section(block + 64 + size, PAI_TAG_PAD, 0, longer - 8);
        size += longer;
    }
    header.epoch++;
    pai_finish_block(&crc, block, &header, &size);
    theirs.blocks = block;
    theirs.size = pai_block_size(&header);
    theirs.epoch++;
    CHECK_EQ(w.store.append(ctx, &theirs, io), PAGENT_OK);
    free(block);
    return PAGENT_E_IN_DOUBT;
}

static int store_append(void *ctx, const pagent_append *request, pagent_io *io)
{
    if (w.stolen != 0) return steal(ctx, request, io);
    if (request->stream == w.denied) {
        if (w.denied_after == 0) return w.denied_with;
        w.denied_after--;
    }
    if (w.doubts != 0) {
        w.doubts--;
        CHECK_EQ(w.store.append(ctx, request, io), PAGENT_OK);
        return PAGENT_E_IN_DOUBT;
    }
    return w.store.append(ctx, request, io);
}

static void swap_context(const pai_crc *crc, uint8_t *block, pai_block *header)
{
    uint32_t padded = pai_padded(header->payload_size), at = 0, found = 0;
    pai_section section;
    if (header->flags & PAI_WHITE) pai_whiten(block + 64, padded, header->stream, header->version);
    while (pai_next_section(block + 64, header->payload_size, &at, &section) == PAGENT_OK) {
        if (section.tag != PAI_TAG_CONTEXT || !CHECK(w.swapped_at < section.size)) continue;
        block[(size_t)(section.data - block) + w.swapped_at] ^= 1;
        found = 1;
    }
    CHECK(found);
    if (header->flags & PAI_WHITE) pai_whiten(block + 64, padded, header->stream, header->version);
    header->payload_crc = pai_crc32c(crc, 0, block + 64, padded);
}

static int store_read(void *ctx, const pagent_read *request, pagent_io *io)
{
    int result = w.deaf != 0 ? PAGENT_E_AGAIN : w.store.read(ctx, request, io);
    uint64_t link = 0;
    uint32_t at = 0;
    pai_crc crc;
    pai_block header;
    pai_crc_init(&crc);
    if (w.deaf != 0) w.deaf--;
    while (result == PAGENT_OK && at < io->size) {
        uint8_t *block = request->buffer + at;
        if (pai_decode_header(&crc, block, 0, &header) != PAGENT_OK) break;
        if (header.version == w.unchained) header.previous ^= 1;
        if (header.version == w.swapped) swap_context(&crc, block, &header);
        if (w.swapped != 0 && header.version > w.swapped) header.previous = link;
        pai_encode_header(&crc, block, &header, 0);
        link = pai_link(&crc, block);
        at += pai_block_size(&header);
    }
    return result;
}

static void open_engine(void)
{
    static const pagent_machine *const machines[] = {&machine};
    char text[PAGENT_TEXT_SIZE] = "";
    pagent_config config;
    memset(&config, 0, sizeof config);
    config.size = (uint32_t)sizeof config;
    config.host.size = (uint32_t)sizeof config.host;
    config.host.allocate = host_allocate;
    config.host.random = host_random;
    config.host.clock_ms = host_clock;
    config.host.call = host_call;
    config.limits.size = (uint32_t)sizeof config.limits;
    config.limits.snapshot_floor = 1024;
    config.limits.snapshot_factor = 1;
    config.machines = machines;
    config.machine_count = 1;
    if (w.memory == NULL) CHECK_EQ(pagent_open_memory(&w.memory, &config.host), PAGENT_OK);
    w.store = pagent_memory_store(w.memory);
    config.store = w.store;
    config.store.append = store_append;
    config.store.read = store_read;
    if (pagent_open_engine(&w.engine, &config, text) != PAGENT_OK) FAIL("%s", text);
}

static void poll_all(void)
{
    int tries;
    for (tries = 0; tries < 1000 && pagent_poll(w.engine) == PAGENT_OK; tries++) {
    }
    CHECK(tries < 1000);
}

/* The process dies: what was not durable is gone, what is under way is in doubt. */
static void live_again(void)
{
    (void)pagent_close_engine(w.engine);
    open_engine();
    poll_all();
}

static int post(const char *agent, const char *signal, const void *data, uint32_t size)
{
    pagent_receipt receipt;
    memset(&receipt, 0, sizeof receipt);
    CHECK_EQ(pagent_post(w.engine, agent, signal, NULL, data, size, &receipt), PAGENT_OK);
    poll_all();
    return receipt.result;
}

static void begin_world(void)
{
    pagent_receipt receipt;
    memset(&w, 0, sizeof w);
    w.now = 1000000;
    w.random = test.seed;
    open_engine();
    memset(&receipt, 0, sizeof receipt);
    CHECK_EQ(pagent_create(w.engine, "x", "worker", NULL, 0, &receipt), PAGENT_OK);
    poll_all();
    CHECK_EQ(receipt.result, PAGENT_OK);
}

static void end_world(void)
{
    (void)pagent_close_engine(w.engine);
    pagent_close_memory(w.memory);
}

static int answer(uint32_t number, uint32_t outcome)
{
    pagent_answer given;
    int result;
    memset(&given, 0, sizeof given);
    given.outcome = outcome;
    given.code = outcome == PAGENT_ANSWERED ? 0 : -5;
    result = pagent_call_done(w.engine, &w.ids[number], &given);
    if (result == PAGENT_OK) poll_all();
    return result;
}

/* The agent as the journal has it: its letters, and in `info` and `effect` what else is asked for. */
static diary look_at(const char *agent, pagent_info *info, pagent_effect *effect)
{
    diary found;
    pagent_view *view = NULL;
    pagent_info other;
    memset(&found, 0, sizeof found);
    if (info == NULL) info = &other;
    memset(info, 0, sizeof *info);
    if (CHECK_EQ(pagent_open_view(w.engine, agent, 0, &view), PAGENT_OK)) {
        CHECK_EQ(pagent_view_info(view, info), PAGENT_OK);
        if (CHECK_EQ(info->context.size, sizeof found)) memcpy(&found, info->context.data, sizeof found);
        if (effect != NULL) CHECK_EQ(pagent_view_effect(view, 0, effect), PAGENT_OK);
    }
    pagent_close_view(view);
    return found;
}

/* ---- the rules ---- */

/* An answer to an attempt of the life before, given before the agent was looked at: refused; the new one stays open. */
TEST(answer_of_another_life)
{
    pagent_answer given;
    begin_world();
    CHECK_EQ(post("x", "use", NULL, 0), PAGENT_OK);
    CHECK_EQ(w.begun, 1);
    (void)pagent_close_engine(w.engine);
    open_engine();
    memset(&given, 0, sizeof given);
    (void)pagent_call_done(w.engine, &w.ids[0], &given);
    poll_all();
    CHECK_EQ(w.begun, 2);
    CHECK_EQ(w.ids[1].attempt, 2);
    CHECK(w.repeated[1] != 0);
    CHECK_TEXT(look_at("x", NULL, NULL).log, "");
    CHECK_EQ(answer(0, PAGENT_ANSWERED), PAGENT_E_STALE);
    CHECK_EQ(answer(1, PAGENT_ANSWERED), PAGENT_OK);
    CHECK_TEXT(look_at("x", NULL, NULL).log, "R");
    CHECK_EQ(answer(1, PAGENT_ANSWERED), PAGENT_E_STALE);
    end_world();
}

/* Crash policy WAIT: not begun again, in no life; the first attempt's answer is taken in the third. */
TEST(waiting_calls)
{
    begin_world();
    CHECK_EQ(post("x", "hang", NULL, 0), PAGENT_OK);
    live_again();
    live_again();
    CHECK_EQ(w.begun, 1);
    CHECK_EQ(answer(0, PAGENT_ANSWERED), PAGENT_OK);
    CHECK_TEXT(look_at("x", NULL, NULL).log, "R");
    end_world();
}

/* Crash policy ONCE: not begun again; the machine is told that nobody knows, and the late answer is refused. */
TEST(calls_in_doubt)
{
    begin_world();
    CHECK_EQ(post("x", "dare", NULL, 0), PAGENT_OK);
    live_again();
    CHECK_EQ(w.begun, 1);
    CHECK_TEXT(look_at("x", NULL, NULL).log, "D");
    CHECK_EQ(answer(0, PAGENT_ANSWERED), PAGENT_E_STALE);
    live_again();
    CHECK_TEXT(look_at("x", NULL, NULL).log, "D");
    end_world();
}

/* Repeats after a crash count against attempts_max. */
TEST(repeats_count)
{
    begin_world();
    CHECK_EQ(post("x", "try", NULL, 0), PAGENT_OK);
    live_again();
    CHECK_EQ(w.begun, 2);
    live_again();
    CHECK_EQ(w.begun, 2);
    CHECK_TEXT(look_at("x", NULL, NULL).log, "F");
    end_world();
}

/* An answer that pagent_call_done would refuse is none when it comes at once, either: the call has failed. */
TEST(answers_that_cannot_be_taken)
{
    static const uint8_t byte = 1;
    static const pagent_answer bad[] = {{0, 0, {NULL, 9}, 0},
                                        {0, 0, {&byte, 2200000000u}, 0},
                                        {0, 0, {&byte, (16u << 20) + 1u}, 0},
                                        {77, 0, {NULL, 0}, 0}};
    uint32_t i;
    for (i = 0; i < 4; i++) {
        int too_large = bad[i].data.data != NULL;
        begin_world();
        w.at_once = &bad[i];
        CHECK_EQ(post("x", "try", NULL, 0), PAGENT_OK);
        poll_all();
        w.now += 60000; /* the pause before it is repeated */
        poll_all();
        CHECK_EQ(w.begun, too_large ? 1 : 2); /* else it is made again */
        CHECK_TEXT(look_at("x", NULL, NULL).log, "F");
        CHECK_EQ(post("x", "dare", NULL, 0), PAGENT_OK);
        poll_all();
        CHECK_EQ(w.begun, too_large ? 2 : 3);
        CHECK_TEXT(look_at("x", NULL, NULL).log, "FF"); /* not to be repeated: final, E_LIMIT or E_IN_DOUBT */
        end_world();
    }
}

/* The pause doubles, within a quarter of it, up to the cap. */
TEST(backoff)
{
    uint32_t number;
    begin_world();
    CHECK_EQ(post("x", "use", NULL, 0), PAGENT_OK);
    for (number = 0; number < 30; number++) {
        uint64_t pause = number == 0 ? 1000 : number == 1 ? 2000 : 3000, found;
        pagent_effect effect;
        if (!CHECK_EQ(w.begun, number + 1)) break;
        CHECK_EQ(answer(number, PAGENT_FAILED), PAGENT_OK);
        (void)look_at("x", NULL, &effect);
        CHECK_EQ(effect.phase, PAGENT_PHASE_PAUSED);
        found = effect.due_ms - w.now;
        if (found < pause - pause / 4 || found > pause + pause / 4) {
            FAIL("attempt %u: a pause of %llu ms", (unsigned)number + 2, (unsigned long long)found);
        }
        w.now = effect.due_ms - 1;
        poll_all();
        CHECK_EQ(w.begun, number + 1);
        w.now++;
        poll_all();
    }
    end_world();
}

/* No attempt is begun that could not be answered before the deadline of all attempts together. */
TEST(total_deadline)
{
    uint32_t number;
    pagent_info info;
    begin_world();
    CHECK_EQ(post("x", "hurry", NULL, 0), PAGENT_OK);
    for (number = 0; number < 3; number++) {
        pagent_effect effect;
        if (!CHECK_EQ(w.begun, number + 1)) break;
        CHECK_EQ(answer(number, PAGENT_FAILED), PAGENT_OK);
        if (number == 2) break;
        (void)look_at("x", NULL, &effect);
        w.now = effect.due_ms;
        poll_all();
    }
    CHECK_TEXT(look_at("x", &info, NULL).log, "F"); /* 3 s at least to the fourth, and 2.75 s at most are left */
    CHECK_EQ(info.effect_count, 0);
    end_world();
}

/* What a state deferred is handled in the order in which it came, each once, also by the next life. */
TEST(deferred_in_order)
{
    uint32_t again;
    for (again = 0; again < 2; again++) {
        pagent_info info;
        begin_world();
        CHECK_EQ(post("x", "hold", NULL, 0), PAGENT_OK);
        CHECK_EQ(post("x", "a", NULL, 0), PAGENT_DEFERRED);
        CHECK_EQ(post("x", "b", NULL, 0), PAGENT_DEFERRED);
        CHECK_EQ(post("x", "a", NULL, 0), PAGENT_DEFERRED);
        if (again) live_again();
        CHECK_TEXT(look_at("x", NULL, NULL).log, "");
        CHECK_EQ(post("x", "free", NULL, 0), PAGENT_OK);
        CHECK_TEXT(look_at("x", &info, NULL).log, "aba");
        CHECK_EQ(info.mailbox_count, 0);
        end_world();
    }
}

/* A parked agent handles nothing until it is retried; then the event that failed comes first. */
TEST(parked)
{
    pagent_request retry;
    pagent_receipt receipt;
    pagent_info info;
    begin_world();
    w.broken = 1;
    (void)post("x", "break", NULL, 0);
    CHECK_TEXT(look_at("x", &info, NULL).log, "");
    CHECK_EQ(info.status, PAGENT_PARKED);
    CHECK_EQ(info.error, -7);
    CHECK_EQ(post("x", "a", NULL, 0), PAGENT_DEFERRED);
    CHECK_TEXT(look_at("x", &info, NULL).log, "");
    CHECK_EQ(info.status, PAGENT_PARKED);
    CHECK_EQ(info.mailbox_count, 2);
    w.broken = 0;
    live_again();
    CHECK_TEXT(look_at("x", NULL, NULL).log, "");
    memset(&retry, 0, sizeof retry);
    memset(&receipt, 0, sizeof receipt);
    retry.size = (uint32_t)sizeof retry;
    retry.verb = PAGENT_RETRY;
    retry.agent = "x";
    CHECK_EQ(pagent_submit(w.engine, &retry, &receipt), PAGENT_OK);
    poll_all();
    CHECK_EQ(receipt.result, PAGENT_OK);
    CHECK_TEXT(look_at("x", &info, NULL).log, "ka");
    CHECK_EQ(info.mailbox_count, 0);
    end_world();
}

/* A state's calls end with it: the answer comes too late. */
TEST(calls_end_with_their_state)
{
    pagent_info info;
    begin_world();
    CHECK_EQ(post("x", "use", NULL, 0), PAGENT_OK);
    CHECK_EQ(post("x", "leave", NULL, 0), PAGENT_OK);
    (void)look_at("x", &info, NULL);
    CHECK_EQ(info.effect_count, 0);
    CHECK_EQ(answer(0, PAGENT_ANSWERED), PAGENT_E_STALE);
    CHECK_TEXT(look_at("x", NULL, NULL).log, "");
    end_world();
}

/* The sender dies after the addressee's block and before its own: the signal comes again, and is a duplicate. */
TEST(signals_arrive_once)
{
    pagent_info info;
    begin_world();
    CHECK_EQ(pagent_create(w.engine, "y", "worker", NULL, 0, NULL), PAGENT_OK);
    poll_all();
    w.denied = pagent_stream_of("x");
    w.denied_after = 1;
    w.denied_with = PAGENT_E_AGAIN;
    CHECK_EQ(post("x", "tell", NULL, 0), PAGENT_OK);
    CHECK_TEXT(look_at("y", NULL, NULL).log, "a");
    (void)look_at("x", &info, NULL);
    CHECK_EQ(info.effect_count, 1);
    w.denied = 0;
    live_again();
    CHECK_TEXT(look_at("y", NULL, NULL).log, "a");
    (void)look_at("x", &info, NULL);
    CHECK_EQ(info.effect_count, 0);
    end_world();
}

/* Snapshots leave a dense transcript where it is; it is put together again in every life. */
TEST(transcript_stays_in_its_blocks)
{
    char entry[200];
    uint32_t number, i;
    pagent_view *view = NULL;
    pagent_info info;
    begin_world();
    for (number = 0; number < 100; number++) {
        memset(entry, (int)('a' + number % 26), sizeof entry);
        memcpy(entry, &number, sizeof number);
        CHECK_EQ(post("x", "say", entry, sizeof entry), PAGENT_OK);
        if (number % 10 == 9) live_again();
    }
    if (CHECK_EQ(pagent_open_view(w.engine, "x", 0, &view), PAGENT_OK)) {
        CHECK_EQ(pagent_view_info(view, &info), PAGENT_OK);
        CHECK(info.flags & PAGENT_HAS_RUNS);
        CHECK_EQ(info.transcript_count, 100);
        for (i = 0; i < info.transcript_count; i++) {
            pagent_entry found;
            uint32_t written = 0;
            CHECK_EQ(pagent_view_entry(view, i, &found), PAGENT_OK);
            if (!CHECK_EQ(found.data.size, sizeof entry)) continue;
            memcpy(&written, found.data.data, sizeof written);
            CHECK_EQ(written, i);
            CHECK_EQ(((const char *)found.data.data)[199], 'a' + i % 26);
        }
    }
    pagent_close_view(view);
    end_world();
}

/* A conflict after our claim means that another owner writes: this engine does nothing more with the agent. */
TEST(conflict_fences)
{
    begin_world();
    CHECK_EQ(post("x", "a", NULL, 0), PAGENT_OK);
    w.denied = pagent_stream_of("x");
    w.denied_with = PAGENT_E_CONFLICT;
    CHECK_EQ(post("x", "a", NULL, 0), PAGENT_E_FENCED);
    w.denied = 0;
    CHECK_EQ(post("x", "a", NULL, 0), PAGENT_E_FENCED);
    live_again();
    CHECK_EQ(post("x", "b", NULL, 0), PAGENT_OK);
    CHECK_TEXT(look_at("x", NULL, NULL).log, "ab");
    end_world();
}

/* Row 15: an append is in doubt, and what reading finds there is somebody else's, as long as ours or longer. Ours is
   not written as well. An owner is fenced, and starts nothing; who had not claimed the agent yet takes it over. */
TEST(doubt_finds_another)
{
    uint32_t longer;
    for (longer = 8; longer <= 512; longer += 504) {
        pagent_info before, after;
        if (!test_case(longer)) continue;
        begin_world();
        CHECK_EQ(post("x", "a", NULL, 0), PAGENT_OK);
        (void)look_at("x", &before, NULL);
        w.stolen = longer;
        CHECK_EQ(post("x", "use", NULL, 0), PAGENT_E_FENCED);
        CHECK_EQ(w.begun, 0);
        CHECK_EQ(post("x", "a", NULL, 0), PAGENT_E_FENCED);
        (void)look_at("x", &after, NULL);
        CHECK_EQ(after.version, before.version + 1);
        CHECK_EQ(w.begun, 0);
        end_world();
        begin_world();
        (void)pagent_close_engine(w.engine);
        open_engine();
        w.stolen = longer;
        CHECK_EQ(post("x", "b", NULL, 0), PAGENT_OK);
        CHECK_TEXT(look_at("x", &after, NULL).log, "bb"); /* theirs and ours */
        end_world();
    }
}

/* An append is in doubt, and the store is too busy to say what stands there: the question stays open, nothing is begun
   and nobody is answered, until it can be read; then once. */
TEST(doubt_waits)
{
    pagent_receipt receipt;
    uint32_t i;
    begin_world();
    CHECK_EQ(post("x", "a", NULL, 0), PAGENT_OK);
    memset(&receipt, 0, sizeof receipt);
    receipt.result = PAGENT_PENDING;
    w.doubts = 1;
    w.deaf = 3;
    CHECK_EQ(pagent_post(w.engine, "x", "use", NULL, NULL, 0, &receipt), PAGENT_OK);
    for (i = 3; i-- != 0;) {
        poll_all();
        poll_all(); /* not before the pause is over */
        CHECK_EQ(w.deaf, i);
        CHECK_EQ(receipt.result, PAGENT_PENDING);
        CHECK_EQ(w.begun, 0);
        CHECK(pagent_next_deadline(w.engine) > w.now && pagent_next_deadline(w.engine) <= w.now + 500);
        w.now += 499;
        poll_all();
        CHECK_EQ(w.deaf, i);
        w.now = i == 1 ? w.now - 100000 : w.now + 1; /* a clock that is set back does not make it wait */
    }
    poll_all();
    CHECK_EQ(receipt.result, PAGENT_OK);
    CHECK_EQ(w.begun, 1);
    CHECK_EQ(answer(0, PAGENT_ANSWERED), PAGENT_OK);
    CHECK_TEXT(look_at("x", NULL, NULL).log, "aR");
    end_world();
}

/* A block whose checksums hold but which does not name the one before it is not read over. */
TEST(broken_chain)
{
    pagent_view *view = NULL;
    int result;
    begin_world();
    CHECK_EQ(post("x", "a", NULL, 0), PAGENT_OK);
    CHECK_EQ(post("x", "b", NULL, 0), PAGENT_OK);
    CHECK_TEXT(look_at("x", NULL, NULL).log, "ab");
    w.unchained = 2;
    result = pagent_open_view(w.engine, "x", 0, &view);
    CHECK_EQ(result, PAGENT_E_CORRUPT);
    pagent_close_view(view);
    (void)pagent_close_engine(w.engine);
    open_engine();
    CHECK_EQ(post("x", "a", NULL, 0), PAGENT_E_CORRUPT);
    end_world();
}

/* A change of the context is applied to the bytes that it was made from, or not at all: here the snapshot before it is
   another's, although every checksum and every link holds. */
TEST(change_of_another_context)
{
    uint32_t at;
    for (at = 0; at < 2; at++) {
        pagent_view *view = NULL;
        if (!test_case(at)) continue;
        begin_world();
        CHECK_EQ(post("x", "a", NULL, 0), PAGENT_OK); /* replaces byte 0 */
        CHECK_EQ(post("x", "b", NULL, 0), PAGENT_OK); /* byte 1 */
        w.swapped = 1;
        w.swapped_at = at;
        CHECK_EQ(pagent_open_view(w.engine, "x", 0, &view), PAGENT_E_CORRUPT);
        pagent_close_view(view);
        (void)pagent_close_engine(w.engine);
        open_engine();
        CHECK_EQ(post("x", "a", NULL, 0), PAGENT_E_CORRUPT);
        w.swapped = 0;
        live_again();
        CHECK_TEXT(look_at("x", NULL, NULL).log, "ab");
        end_world();
    }
}

/* Version and link, kept elsewhere, tell a journal that lost its end, or went another way, from the one that it was. */
TEST(anchors)
{
    pagent_view *view = NULL;
    pagent_info info;
    begin_world();
    CHECK_EQ(post("x", "a", NULL, 0), PAGENT_OK);
    CHECK_EQ(pagent_open_view(w.engine, "x", 0, &view), PAGENT_OK);
    CHECK_EQ(pagent_view_info(view, &info), PAGENT_OK);
    pagent_close_view(view);
    CHECK_EQ(post("x", "b", NULL, 0), PAGENT_OK);
    CHECK_EQ(pagent_check_anchor(w.engine, "x", info.version, info.link), PAGENT_OK);
    CHECK_EQ(pagent_check_anchor(w.engine, "x", info.version, info.link ^ 1), PAGENT_E_FOREIGN);
    CHECK_EQ(pagent_check_anchor(w.engine, "x", info.version + 2, info.link), PAGENT_E_LOST_TAIL);
    CHECK_EQ(pagent_check_anchor(w.engine, "nobody", 1, info.link), PAGENT_E_LOST_TAIL);
    CHECK_EQ(pagent_check_anchor(w.engine, "x", 0, info.link), PAGENT_E_ARGUMENT);
    end_world();
}

TEST_MAIN(ROW(anchors), ROW(answer_of_another_life), ROW(waiting_calls), ROW(calls_in_doubt), ROW(repeats_count),
          ROW(answers_that_cannot_be_taken), ROW(backoff), ROW(total_deadline), ROW(deferred_in_order), ROW(parked),
          ROW(calls_end_with_their_state), ROW(signals_arrive_once), ROW(transcript_stays_in_its_blocks),
          ROW(conflict_fences), ROW(doubt_finds_another), ROW(doubt_waits), ROW(broken_chain),
          ROW(change_of_another_context))
