/* pagent_openai.h under a real engine: retries by policy, Retry-After, failures that are final, deadlines, cancelling,
   many at once, and a call that was under way when its engine was closed.
   usage: test_engine PORT            against misbehave.mjs
          test_engine PORT inference  against inference.mjs, a real inference server */

#define PERSISTENT_AGENT_IMPLEMENTATION
#include "persistent_agent.h"
#define PAGENT_OPENAI_IMPLEMENTATION
#include "pagent_openai.h"

#include "harness.h"

/* ---- the agent: asks, and notes what came back ---------------------------------------------------------------- */

static int ask(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    (void)ctx;
    (void)tag;
    return pagent_begin_call(step, "ask", event->data.data, event->data.size, NULL);
}

static int note(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    (void)ctx;
    (void)tag;
    return pagent_remember(step, event->attempt, event->data.data, event->data.size);
}

static const pagent_call_spec calls[] = {{"ask", PAGENT_CRASH_REPEAT, PAGENT_CALL_MODEL, 6, 10, 100, 5000, 0}};

static const pagent_state states[] = {
    {"asking", NULL, "ask", NULL, NULL, NULL, 0, 0},
    {"answered", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0},
    {"failed", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL | PAGENT_FAILURE, 0},
};

static const pagent_transition transitions[] = {
    {"asking", "start", NULL, ask, NULL, 0},
    {"asking", "ask.result", NULL, note, "answered", 0},
    {"asking", "ask.failure", NULL, note, "failed", 0},
};

static const pagent_machine machine = {
    sizeof(pagent_machine),  1, "asker", NULL, 16, NULL, NULL, NULL, PAGENT_ROWS(calls), PAGENT_ROWS(states),
    PAGENT_ROWS(transitions)};

/* ---- the program ---------------------------------------------------------------------------------------------- */

typedef struct program {
    pagent_host host;
    pagent_memory *memory;
    pagent_engine *engine;
    pagent_openai *openai;
    const char *user;
    const char *schema;
    uint64_t skipped_ms;                     /* how far the clock was put forward: no test waits for a deadline */
    uint64_t last_call_ms, longest_pause_ms; /* from one attempt to the next */
    uint32_t calls, cancels, retries, repeated;
    char key[PAGENT_KEY_SIZE];
} program;

static pagent_host posix;

static uint64_t program_clock(void *ctx)
{
    return posix.clock_ms(posix.ctx) + ((program *)ctx)->skipped_ms;
}

static void *program_allocate(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx;
    return posix.allocate(posix.ctx, old, old_size, new_size);
}

static int program_random(void *ctx, void *buffer, size_t size)
{
    (void)ctx;
    return posix.random(posix.ctx, buffer, size);
}

static int program_call(void *ctx, const pagent_call *call, pagent_answer *answer)
{
    program *p = (program *)ctx;
    pagent_openai_chat chat = {0};
    uint64_t now = program_clock(p);
    (void)answer;
    if (p->calls++ != 0 && now - p->last_call_ms > p->longest_pause_ms) p->longest_pause_ms = now - p->last_call_ms;
    p->last_call_ms = now;
    p->repeated += call->repeated != 0;
    (void)snprintf(p->key, sizeof p->key, "%s", call->key);
    chat.user = p->user;
    chat.document = call->request;
    chat.schema_json = p->schema;
    return pagent_openai_begin(p->openai, call, &chat);
}

static void program_cancel(void *ctx, const pagent_call_id *id)
{
    program *p = (program *)ctx;
    p->cancels++;
    pagent_openai_cancel(p->openai, id);
}

static void program_trace(void *ctx, const pagent_trace *record)
{
    if (record->kind == PAGENT_TRACE_RETRY) ((program *)ctx)->retries++;
}

static void open_engine(program *p)
{
    static const pagent_machine *const machines[] = {&machine};
    pagent_config config = {0};
    char text[PAGENT_TEXT_SIZE];
    config.size = sizeof config;
    config.host = p->host;
    config.store = pagent_memory_store(p->memory);
    config.machines = machines;
    config.machine_count = 1;
    if (pagent_open_engine(&p->engine, &config, text) != PAGENT_OK) {
        printf("cannot open: %s\n", text);
        exit(1);
    }
}

static void open_client(program *p, int port, const char *mode)
{
    pagent_openai_options options = {0};
    char url[128], text[PAGENT_TEXT_SIZE];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s%s", port, mode[0] != 0 ? "/" : "", mode);
    options.size = sizeof options;
    options.url = url;
    options.model = "tiny";
    options.key_env = "PAGENT_TEST_NO_KEY";
    options.host = &p->host;
    options.extra_json = "{\"seed\":3,\"max_tokens\":200}";
    if (pagent_openai_open(&p->openai, &options, text) != PAGENT_OK) {
        printf("cannot open: %s\n", text);
        exit(1);
    }
}

static void open_program(program *p, int port, const char *mode, const char *name)
{
    memset(p, 0, sizeof *p);
    begin_test(name);
    pagent_posix_host(&posix);
    p->host = posix;
    p->host.ctx = p;
    p->host.allocate = program_allocate;
    p->host.clock_ms = program_clock;
    p->host.random = program_random;
    p->host.call = program_call;
    p->host.call_cancel = program_cancel;
    p->host.trace = program_trace;
    p->user = "Answer.";
    if (pagent_open_memory(&p->memory, &p->host) != PAGENT_OK) exit(1);
    open_client(p, port, mode);
    open_engine(p);
}

static void close_program(program *p)
{
    (void)pagent_close_engine(p->engine);
    pagent_openai_close(p->openai);
    pagent_close_memory(p->memory);
}

static void create(program *p, const char *agent)
{
    static const char document[] = "The quick brown fox.";
    CHECK(pagent_create(p->engine, agent, "asker", document, sizeof document - 1, NULL) == PAGENT_OK);
}

/* One turn; between transfers the clock goes on to the next deadline at once; with `jump`, beside them too. */
static int turn(program *p, int jump)
{
    uint64_t next;
    int result = pagent_poll(p->engine);
    if (result < 0) return result;
    if (result == PAGENT_OK) return PAGENT_OK;
    if (pagent_openai_outstanding(p->openai) != 0) {
        int delivered = pagent_openai_perform(p->openai, p->engine, jump ? 50 : 1000);
        if (delivered != 0 || !jump) return delivered < 0 ? delivered : PAGENT_OK;
    }
    next = pagent_next_deadline(p->engine);
    if (next == PAGENT_FOREVER) return PAGENT_OK;
    if (next > program_clock(p)) p->skipped_ms += next - program_clock(p);
    return PAGENT_OK;
}

static uint32_t status_of(program *p, const char *agent, char text[512])
{
    pagent_view *view = NULL;
    pagent_info info;
    pagent_entry entry;
    uint32_t status = 0;
    text[0] = 0;
    if (pagent_open_view(p->engine, agent, 0, &view) == PAGENT_OK && pagent_view_info(view, &info) == PAGENT_OK) {
        status = info.status;
        if (info.transcript_count != 0 && pagent_view_entry(view, info.transcript_count - 1, &entry) == PAGENT_OK) {
            (void)snprintf(text, 512, "%.*s", (int)entry.data.size, (const char *)entry.data.data);
        }
    }
    pagent_close_view(view);
    return status;
}

static uint32_t run_until_settled(program *p, const char *agent, int jump, char text[512])
{
    uint32_t status = 0, turns;
    for (turns = 0; turns < 10000; turns++) {
        if (!CHECK(turn(p, jump) >= 0)) return 0;
        status = status_of(p, agent, text);
        if (status >= PAGENT_DONE) return status;
    }
    return status;
}

/* ---- against the misbehaving server --------------------------------------------------------------------------- */

static void test_settles(int port, const char *mode, uint32_t status, uint32_t attempts, const char *part)
{
    program p;
    char text[512];
    open_program(&p, port, mode, mode);
    create(&p, "a");
    CHECK(run_until_settled(&p, "a", strcmp(mode, "never") == 0, text) == status);
    if (!CHECK(strstr(text, part) != NULL)) printf("       %s\n", text);
    if (!CHECK(p.calls == attempts)) printf("       %u attempts\n", (unsigned)p.calls);
    CHECK(p.retries == attempts - 1);
    if (strcmp(mode, "recovers") == 0)
        CHECK(p.longest_pause_ms >= 1000 && p.longest_pause_ms < 100000); /* Retry-After: 1 */
    if (strcmp(mode, "busy") == 0) CHECK(p.longest_pause_ms >= 7000);
    CHECK(pagent_openai_outstanding(p.openai) == 0);
    close_program(&p);
}

static void test_many(int port)
{
    program p;
    char name[16], text[512];
    int i;
    open_program(&p, port, "together_8", "many at once");
    for (i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof name, "a%d", i);
        create(&p, name);
    }
    for (i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof name, "a%d", i);
        CHECK(run_until_settled(&p, name, 0, text) == PAGENT_DONE);
        CHECK(strcmp(text, "8 at once") == 0);
    }
    CHECK(p.calls == 8);
    close_program(&p);
}

static void test_cancel(int port)
{
    program p;
    char text[512];
    int i;
    open_program(&p, port, "headers_only", "cancel");
    create(&p, "a");
    for (i = 0; i < 20 && p.calls == 0; i++) CHECK(pagent_poll(p.engine) >= 0);
    CHECK(pagent_openai_perform(p.openai, p.engine, 50) == 0 && pagent_openai_outstanding(p.openai) == 1);
    CHECK(pagent_cancel(p.engine, "a", PAGENT_ANY, NULL) == PAGENT_OK);
    for (i = 0; i < 20; i++) CHECK(pagent_poll(p.engine) >= 0);
    CHECK(status_of(&p, "a", text) == PAGENT_CANCELLED);
    CHECK(p.cancels == 1 && pagent_openai_outstanding(p.openai) == 0);
    close_program(&p);
}

/* The engine dies while the server works. The next one asks again, under the same key: the server sees it twice. */
static void test_crash(int port)
{
    program p;
    char text[512], key[PAGENT_KEY_SIZE], first[PAGENT_KEY_SIZE];
    int i;
    open_program(&p, port, "never", "crash");
    create(&p, "a");
    for (i = 0; i < 20 && p.calls == 0; i++) CHECK(pagent_poll(p.engine) >= 0);
    for (i = 0; i < 5; i++) CHECK(pagent_openai_perform(p.openai, p.engine, 50) == 0); /* the request is out */
    (void)snprintf(first, sizeof first, "%s", p.key);
    (void)pagent_close_engine(p.engine);
    pagent_openai_close(p.openai);
    open_client(&p, port, "good");
    open_engine(&p);
    CHECK(run_until_settled(&p, "a", 0, text) == PAGENT_DONE);
    CHECK(p.calls == 2 && p.repeated == 1 && strcmp(p.key, first) == 0 && first[0] != 0);
    (void)snprintf(key, sizeof key, "%s", p.key);
    pagent_openai_close(p.openai);
    open_client(&p, port, "requests");
    p.user = key;
    CHECK(pagent_create(p.engine, "b", "asker", "", 0, NULL) == PAGENT_OK);
    CHECK(run_until_settled(&p, "b", 0, text) == PAGENT_DONE);
    CHECK(strcmp(text, "2") == 0);
    close_program(&p);
}

/* ---- against a real inference server -------------------------------------------------------------------------- */

static void test_inference(int port)
{
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"category\":{\"enum\":[\"letter\",\"contract\"]},"
        "\"risky\":{\"type\":\"boolean\"}},\"required\":[\"category\",\"risky\"]}";
    program p;
    char text[512], name[16];
    cJSON *answer;
    const char *category;
    int i;
    open_program(&p, port, "", "inference");
    p.schema = schema;
    for (i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "a%d", i);
        create(&p, name);
    }
    for (i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "a%d", i);
        if (!CHECK(run_until_settled(&p, name, 0, text) == PAGENT_DONE)) printf("       %s\n", text);
        answer = cJSON_Parse(text);
        category = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "category"));
        CHECK(category != NULL && (strcmp(category, "letter") == 0 || strcmp(category, "contract") == 0));
        CHECK(cJSON_IsBool(cJSON_GetObjectItemCaseSensitive(answer, "risky")));
        cJSON_Delete(answer);
    }
    CHECK(p.calls >= 3 && p.calls == 3 + p.retries); /* a slow machine may take longer than an attempt may */
    close_program(&p);

    /* Free text from random weights has no end: the token limit cuts it off, and that is said. */
    open_program(&p, port, "", "inference without schema");
    create(&p, "free");
    CHECK(run_until_settled(&p, "free", 0, text) == PAGENT_FAILED_STATUS);
    CHECK(strstr(text, "token limit") != NULL);
    close_program(&p);
}

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 0;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (port == 0) {
        fprintf(stderr, "usage: test_engine PORT [inference]\n");
        return 2;
    }
    if (argc > 2) {
        test_inference(port);
    } else {
        test_settles(port, "good", PAGENT_DONE, 1, "hello");
        test_settles(port, "drip", PAGENT_DONE, 1, "drop by drop");
        test_settles(port, "recovers", PAGENT_DONE, 5, "well again at request 5");
        test_settles(port, "error_400", PAGENT_FAILED_STATUS, 1, "the server answered 400: the prompt is too long");
        test_settles(port, "busy", PAGENT_FAILED_STATUS, 6, "slow down");
        test_settles(port, "not_json", PAGENT_FAILED_STATUS, 6, "not JSON");
        test_settles(port, "never", PAGENT_FAILED_STATUS, 6, "");
        test_many(port);
        test_cancel(port);
        test_crash(port);
    }
    return end_tests();
}
