/* test_machine.c: machines as tables: what registration refuses and how it says so, in which order nested states are
   left and entered, where errors lead, and the diagrams. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#define PAGENT_NO_FILE
#include "../persistent_agent.h"

#include "test.h"

/* ---- refusals: one sound machine, and one fault at a time ---- */

typedef struct draft { /* a machine that can be changed */
    pagent_call_spec calls[2];
    pagent_state states[6];
    pagent_transition rows[9];
    pagent_machine machine;
} draft;

static draft sound(void)
{
    static const pagent_call_spec calls[2] = {{"ask", PAGENT_CRASH_REPEAT, 0, 0, 0, 0, 0, 0},
                                              {"pay", PAGENT_CRASH_ONCE, 0, 0, 0, 0, 0, 0}};
    static const pagent_state states[6] = {
        {"open", NULL, NULL, NULL, NULL, NULL, 0, 0},
        {"asking", "open", "ask", NULL, NULL, NULL, PAGENT_INITIAL, 0},
        {"judging", "open", "yes", NULL, NULL, NULL, 0, 0},
        {"paying", NULL, "pay", NULL, NULL, NULL, 0, 0},
        {"done", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0},
        {"lost", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL | PAGENT_FAILURE, 0},
    };
    static const pagent_transition rows[9] = {
        {"asking", "ask.result", NULL, NULL, "judging", 0},
        {"open", "ask.failure", NULL, NULL, "lost", 0},
        {"judging", "yes.approved", NULL, NULL, "paying", 0},
        {"judging", "yes.rejected", NULL, NULL, "lost", 0},
        {"judging", "yes.expired", NULL, NULL, "lost", 0},
        {"paying", "pay.result", NULL, NULL, "done", 0},
        {"paying", "pay.failure", NULL, NULL, "lost", 0},
        {"paying", "pay.in_doubt", NULL, NULL, "lost", 0},
        {"*", "nudge", NULL, NULL, NULL, 0},
    };
    draft made;
    memset(&made, 0, sizeof made);
    memcpy(made.calls, calls, sizeof calls);
    memcpy(made.states, states, sizeof states);
    memcpy(made.rows, rows, sizeof rows);
    made.machine.size = (uint32_t)sizeof made.machine;
    made.machine.version = 1;
    made.machine.name = "payer";
    made.machine.signals = "nudge";
    made.machine.approvals = "yes";
    made.machine.call_count = 2;
    made.machine.state_count = 6;
    made.machine.transition_count = 9;
    return made;
}

/* Points the machine at its own tables, and demands that it is refused with these words; NULL: accepted. */
static void expect(draft *drafted, const char *words)
{
    char text[PAGENT_TEXT_SIZE];
    int result;
    drafted->machine.calls = drafted->calls;
    drafted->machine.states = drafted->states;
    drafted->machine.transitions = drafted->rows;
    result = pagent_check_machine(&drafted->machine, text);
    CHECK_EQ(result, words == NULL ? PAGENT_OK : PAGENT_E_MACHINE);
    if (words == NULL ? text[0] != 0 : strstr(text, words) == NULL) FAIL("it says \"%s\", not \"%s\"", text, words);
}

TEST(refusals_name_the_row)
{
    draft d = sound();
    expect(&d, NULL);
    d.rows[4].event = "yes.approved",
    expect(&d, "transitions[4] \"yes.approved\" from judging: an earlier row always wins");
    d = sound(), d.rows[4].event = "nudge",
    expect(&d, "states[2] \"judging\" waits for yes; add a row for yes.expired");
    d = sound(), d.rows[1].from = "judging",
    expect(&d, "states[1] \"asking\" waits for ask; add a row for ask.failure");
    d = sound(), d.rows[7].event = "nudge",
    expect(&d, "states[3] \"paying\" waits for pay; add a row for pay.in_doubt");
    d = sound(), d.rows[0].to = "judgin", expect(&d, "transitions[0] \"ask.result\": unknown target judgin");
    d = sound(), d.rows[0].from = "askin", expect(&d, "transitions[0] \"ask.result\": unknown state askin");
    d = sound(), d.rows[0].event = "ask.answer", expect(&d, "transitions[0] \"ask.answer\": no such event");
    d = sound(), d.rows[0].event = "always", d.rows[0].to = NULL,
    expect(&d, "transitions[0] \"always\" needs a target");
    d = sound(), d.rows[8].from = "done", expect(&d, "transitions[8] \"nudge\" leaves the final state done");
    d = sound(), d.rows[8].event = "start", expect(&d, NULL); /* a signal that is sent only */
    d = sound(), d.states[1].flags = 0, expect(&d, "states[0] \"open\" has children: mark exactly one PAGENT_INITIAL");
    d = sound(), d.states[1].parent = "opn", expect(&d, "states[1] \"asking\": unknown parent opn");
    d = sound(), d.states[0].parent = "asking", expect(&d, "parents in a circle");
    d = sound(), d.states[5].name = "done", expect(&d, "states[5] \"done\" twice");
    d = sound(), d.states[5].name = "", expect(&d, "states[5] \"\": bad name");
    d = sound(), d.states[5].flags = PAGENT_FAILURE, expect(&d, "states[5] \"lost\": FAILURE without FINAL");
    d = sound(), d.states[5].flags = 0, expect(&d, "states[5] \"lost\" has no way out");
    d = sound(), d.states[4].waits = "ask", expect(&d, "states[4] \"done\" is final");
    d = sound(), d.states[3].on_error = "none", expect(&d, "states[3] \"paying\": unknown on_error state none");
    d = sound(), d.states[1].waits = "beg", expect(&d, "states[1] \"asking\" waits for beg: no such call or approval");
    d = sound(), d.states[1].waits = NULL, expect(&d, "calls[0] \"ask\": no state waits for it");
    d = sound(), d.rows[5].to = "lost", expect(&d, "states[4] \"done\" can never be reached");
    d = sound(), d.calls[1].name = "ask", expect(&d, "calls[1] \"ask\" twice");
    d = sound(), d.calls[1].crash_policy = 9, expect(&d, "calls[1] \"pay\": unknown crash_policy");
    d = sound(), d.machine.approvals = "yes pay", expect(&d, "calls[1] \"pay\" is also an approval");
    d = sound(), d.machine.signals = "nudge start", expect(&d, "signals[1] \"start\" is reserved");
    d = sound(), d.machine.timers = "tick", expect(&d, "timers[0] \"tick\": add a row for tick.timer");
    d = sound(), d.machine.name = "a b", expect(&d, "machine \"a b\": bad name");
    d = sound(), d.machine.size = 8, expect(&d, "size is not sizeof(pagent_machine)");
    d = sound(), d.machine.state_count = 0, expect(&d, "needs 1-1024 states");
}

TEST(hash_covers_names_and_structure)
{
    draft a = sound(), b = sound();
    expect(&a, NULL);
    expect(&b, NULL);
    CHECK(pagent_machine_hash(&a.machine) == pagent_machine_hash(&b.machine));
    b.rows[0].tag = 7; /* tags and handlers are the program's own affair */
    CHECK(pagent_machine_hash(&a.machine) == pagent_machine_hash(&b.machine));
    b.rows[1].to = "done";
    CHECK(pagent_machine_hash(&a.machine) != pagent_machine_hash(&b.machine));
    b = sound();
    expect(&b, NULL);
    b.machine.version = 2;
    CHECK(pagent_machine_hash(&a.machine) != pagent_machine_hash(&b.machine));
}

/* ---- diagrams ---- */

typedef struct sheet {
    char text[4096];
    size_t size;
} sheet;

static void write_on(void *ctx, const char *text, size_t size)
{
    sheet *on = (sheet *)ctx;
    if (size > sizeof on->text - 1 - on->size) size = sizeof on->text - 1 - on->size;
    memcpy(on->text + on->size, text, size);
    on->size += size;
    on->text[on->size] = 0;
}

TEST(diagrams)
{
    draft d = sound();
    sheet on = {.size = 0};
    expect(&d, NULL);
    CHECK_EQ(pagent_write_mermaid(&d.machine, 2, write_on, &on), PAGENT_OK);
    CHECK(strncmp(on.text, "stateDiagram-v2\n    [*] --> open\n    state open {\n        [*] --> asking\n", 40) == 0);
    CHECK(strstr(on.text, "        judging : judging\n    }\n    paying : paying\n") != NULL);
    CHECK(strstr(on.text, "    judging --> paying : yes.approved\n") != NULL);
    CHECK(strstr(on.text, "    lost --> [*]\n") != NULL);
    CHECK(strstr(on.text, "    class judging here\n") != NULL);
    memset(&on, 0, sizeof on);
    CHECK_EQ(pagent_write_dot(&d.machine, -1, write_on, &on), PAGENT_OK);
    CHECK(strncmp(on.text, "digraph \"payer\" {\n", 18) == 0);
    CHECK(strstr(on.text, "subgraph \"cluster_open\" {\n") != NULL);
    CHECK(strstr(on.text, "\"open\" -> \"lost\" [label=\"ask.failure\", ltail=\"cluster_open\"];\n") != NULL);
    CHECK(strcmp(on.text + on.size - 2, "}\n") == 0);
    d.machine.state_count = 0;
    CHECK_EQ(pagent_write_dot(&d.machine, -1, write_on, &on), PAGENT_E_MACHINE);
}

/* ---- running: each handler writes a letter; states have capitals for entering and small ones for leaving ---- */

static int mark(pagent_step *step, uint32_t letter)
{
    char *log = (char *)pagent_context(step, NULL);
    size_t length = strlen(log);
    if (length < 30) log[length] = (char)letter;
    return PAGENT_OK;
}

static int enter(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    return mark(step, tag);
}

static int leave(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    return mark(step, tag + ('a' - 'A'));
}

static int fail(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)mark(step, '!'); /* undone with the rest of the step */
    return tag == 0 ? pagent_fail(step, -42, "as asked") : PAGENT_OK;
}

static int never(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx, (void)step, (void)tag;
    return 0;
}

static const pagent_state nested[] = {
    {"outer", NULL, NULL, enter, leave, "broken", 0, 'O'},
    {"first", "outer", NULL, enter, leave, NULL, PAGENT_INITIAL, 'F'},
    {"second", "outer", NULL, enter, leave, NULL, 0, 'S'},
    {"inner", "second", NULL, enter, leave, NULL, PAGENT_INITIAL, 'I'},
    {"broken", NULL, NULL, enter, leave, NULL, 0, 'B'},
    {"end", NULL, NULL, enter, NULL, NULL, PAGENT_FINAL, 'E'},
};
static const pagent_transition moves[] = {
    {"first", "go", never, NULL, "end", 0},     {"first", "go", NULL, enter, "second", '1'},
    {"inner", "up", NULL, enter, "first", '2'}, {"outer", "again", NULL, enter, "outer", '3'},
    {"outer", "stay", NULL, enter, NULL, '4'},  {"outer", "wreck", NULL, fail, NULL, 0},
    {"broken", "wreck", NULL, fail, NULL, 0},   {"broken", "always", never, NULL, "end", 0},
    {"*", "stop", NULL, NULL, "end", 0},
};
static const pagent_machine order = {
    sizeof order,      1, "order", NULL, 32, "go up again stay wreck stop", NULL, NULL, NULL, 0, PAGENT_ROWS(nested),
    PAGENT_ROWS(moves)};

static void *allocate(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx, (void)old_size;
    if (new_size != 0) return realloc(old, new_size);
    free(old);
    return NULL;
}

static int same_bytes(void *ctx, void *buffer, size_t size)
{
    (void)ctx;
    memset(buffer, 0x5A, size);
    return PAGENT_OK;
}

static uint64_t noon(void *ctx)
{
    (void)ctx;
    return 1000000;
}

/* Posts the signals, one after the other, and compares what the handlers wrote, the state, and its status. */
static void run(const char *signals, const char *log, const char *state, uint32_t status)
{
    static const pagent_machine *const machines[] = {&order};
    pagent_config config;
    pagent_memory *memory = NULL;
    pagent_engine *engine = NULL;
    pagent_view *view = NULL;
    pagent_info info;
    const char *at;
    size_t size;
    memset(&config, 0, sizeof config);
    config.size = (uint32_t)sizeof config;
    config.host.size = (uint32_t)sizeof config.host;
    config.host.allocate = allocate;
    config.host.random = same_bytes;
    config.host.clock_ms = noon;
    config.machines = machines;
    config.machine_count = 1;
    CHECK_EQ(pagent_open_memory(&memory, &config.host), PAGENT_OK);
    config.store = pagent_memory_store(memory);
    CHECK_EQ(pagent_open_engine(&engine, &config, NULL), PAGENT_OK);
    CHECK_EQ(pagent_create(engine, "x", "order", NULL, 0, NULL), PAGENT_OK);
    while ((at = pai_next_name(&signals, &size)) != NULL) {
        char signal[16] = "";
        memcpy(signal, at, size < 15 ? size : 15);
        CHECK_EQ(pagent_post(engine, "x", signal, NULL, NULL, 0, NULL), PAGENT_OK);
    }
    while (pagent_poll(engine) == PAGENT_OK) {
    }
    CHECK_EQ(pagent_open_view(engine, "x", 0, &view), PAGENT_OK);
    CHECK_EQ(pagent_view_info(view, &info), PAGENT_OK);
    CHECK_TEXT((const char *)info.context.data, log);
    CHECK_TEXT(info.state, state);
    CHECK_EQ(info.status, status);
    if (status == PAGENT_PARKED) CHECK_TEXT(info.error_text, "as asked");
    pagent_close_view(view);
    (void)pagent_close_engine(engine);
    pagent_close_memory(memory);
}

TEST(entering_and_leaving)
{
    run("", "OF", "first", PAGENT_WAITING);              /* from the outside in, down to the initial child */
    run("go", "OFf1SI", "inner", PAGENT_WAITING);        /* the parent of both stays */
    run("go up", "OFf1SIis2F", "first", PAGENT_WAITING); /* from the inside out */
    run("again", "OFfo3OF", "first", PAGENT_WAITING);    /* to itself: left and entered */
    run("stay", "OF4", "first", PAGENT_WAITING);         /* no target: nothing is left */
    run("stop", "OFfoE", "end", PAGENT_DONE);            /* a row of the root */
    run("up", "OF", "first", PAGENT_WAITING);            /* no row: refused, nothing changed */
}

TEST(errors_lead_somewhere)
{
    run("wreck", "OFB", "broken", PAGENT_WAITING);           /* undone, then on_error, without exit handlers */
    run("wreck wreck", "OFB", "broken", PAGENT_PARKED);      /* nowhere to go */
    run("wreck wreck stop", "OFB", "broken", PAGENT_PARKED); /* waits in the mailbox */
}

TEST_MAIN(ROW(refusals_name_the_row), ROW(hash_covers_names_and_structure), ROW(diagrams), ROW(entering_and_leaving),
          ROW(errors_lead_somewhere))
