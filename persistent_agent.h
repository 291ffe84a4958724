/* persistent_agent.h 0.1.0: an agent that cannot be killed. A C99 library in one file, no dependency, MIT licence.

   An agent is a state machine that waits: for a model, a tool, a timer, a person, another agent, for seconds or for
   weeks. Every step it takes is one atomic, checksummed, versioned block in an append-only journal. A process killed at
   any instruction goes on from the last durable step, on any machine that can read the journal.

   Do this: in ONE source file #define PERSISTENT_AGENT_IMPLEMENTATION before the include; elsewhere just include.

   CONTENTS (search for the tag)
     [USE]      a whole program               [RESULTS]  every result and its sentence
     [MODEL]    what is promised, what not    [MACHINE]  states, transitions, calls as const tables
     [CRASH]    what reopening does           [STEP]     what a handler may do
     [ERRORS]   sticky? does a retry help?    [HOST] [STORE]  what the program lends to the engine
     [CONFIG]   macros                        [ENGINE] [REQUESTS] [VIEWS]  opening, polling, asking, looking
     [FORMAT]   the bytes                     [STORES]   memory, files, POSIX

   [USE] >>>
    #define PERSISTENT_AGENT_IMPLEMENTATION
    #include "persistent_agent.h"
    #include <stdio.h>

    static int think(void *ctx, pagent_step *step, uint32_t tag) // a handler only stages effects
    {
        (void)ctx, (void)tag;
        return pagent_begin_call(step, "model", "What shall we do?", 17, NULL);
    }
    static int ask(void *ctx, pagent_step *step, uint32_t tag) // the event is the model's answer
    {
        const pagent_event *event = pagent_current_event(step);
        (void)ctx, (void)tag;
        return pagent_ask_approval(step, "plan", event->data.data, event->data.size, PAGENT_FOREVER, NULL);
    }
    static int model(void *ctx, const pagent_call *call, pagent_answer *answer) // begins a call
    {
        (void)ctx, (void)call;
        answer->data.data = "Sleep well.";
        answer->data.size = 11;
        return PAGENT_OK;
    }
    static const pagent_call_spec calls[] = {{.name = "model", .flags = PAGENT_CALL_MODEL}};
    static const pagent_state states[] = {
        {.name = "thinking", .waits = "model", .enter = think},
        {.name = "asking", .waits = "plan", .enter = ask},
        {.name = "done", .flags = PAGENT_FINAL},
        {.name = "dropped", .flags = PAGENT_FINAL}};
    static const pagent_transition transitions[] = {
        {.from = "thinking", .event = "model.result", .to = "asking"},
        {.from = "thinking", .event = "model.failure", .to = "dropped"},
        {.from = "asking", .event = "plan.approved", .to = "done"},
        {.from = "asking", .event = "plan.rejected", .to = "dropped"},
        {.from = "asking", .event = "plan.expired", .to = "dropped"}};
    static const pagent_machine planner = {sizeof planner, 1, "planner", NULL, 0, NULL, NULL, "plan",
                                           PAGENT_ROWS(calls), PAGENT_ROWS(states), PAGENT_ROWS(transitions)};

    int main(int count, char **words) // run it twice: the second time with your name, to approve
    {
        const pagent_machine *machines[] = {&planner};
        pagent_config config = {.size = sizeof config, .machines = machines, .machine_count = 1, .host.call = model};
        char text[PAGENT_TEXT_SIZE];
        pagent_engine *engine;
        pagent_view *view;
        pagent_info info;

        if (pagent_open_path(&engine, "hello-store", &config, text) < 0) return fprintf(stderr, "%s\n", text), 1;
        pagent_create(engine, "first", "planner", NULL, 0, NULL); // refused when it exists: it goes on then
        if (count > 1) pagent_decide(engine, "first", NULL, words[1], PAGENT_APPROVE, NULL, 0, PAGENT_ANY, NULL);
        while (pagent_poll(engine) == PAGENT_OK) continue;
        if (pagent_open_view(engine, "first", 0, &view) == PAGENT_OK && pagent_view_info(view, &info) == PAGENT_OK) {
            printf("%s is %s at version %lu\n", info.name, info.state, (unsigned long)info.version);
        }
        pagent_close_view(view);
        return pagent_close_engine(engine) != PAGENT_OK;
    }
   <<< [USE]

   [MODEL]  What is promised
   1. Nothing is acted on before it is durable. Calls start, receipts are given, signals leave after the store said OK.
   2. One step, one block: consumed event, new state, context change, transcript, effects issued and settled, or
      nothing.
   3. Handlers are never replayed to rebuild state. Opening reads the newest snapshot and what follows it, so there are
      no determinism rules, and opening does not depend on the agent's age.
   4. Bad bytes are never dropped in silence. A torn tail is handed to on_discard, then cut. Anything else is reported
      with what, which agent, which offset, and stops that agent alone: it is listed as PAGENT_IS_DAMAGED, and its older
      versions can be read. Where a shared log does not show any more where blocks begin, or its last block may have
      been acknowledged, opening for writing fails; looking (a read-only store) is possible up to there.
   5. An answer is applied once. Late, duplicate, foreign and superseded answers are refused by name: at once, or, of an
      agent that must be read first, as PAGENT_TRACE_REFUSED.
   6. A call's idempotency key is the same for all its attempts and restarts, and never used for another call, not even
      by a restored backup: it begins with the nonce of the claim that issued it.
   What is not
   - Calls are at-least-once with a key. A call that was under way at a crash may have happened: choose its
     crash_policy. Exactly-once needs the other side to know the key, or CRASH_ONCE and a decision of yours.
   - The loss of the newest blocks together (an old copy of the directory) is undetectable from one journal alone. Keep
     an anchor (version and link of pagent_info) elsewhere, and ask pagent_check_anchor; a claim's nonce keeps keys
     apart.
   - Power-cut safety is the disk's: it holds where fsync is honest. A store declares what it survives (store.caps).
   - Checksums detect damage, not forgery. There is no encryption and no MAC yet.
   How a step goes: an event comes (start, signal, answer, decision, deadline). The first row that accepts it, from the
   innermost state outwards, runs: exit handlers, action, enter handlers, then "always" rows. What they staged and
   changed becomes one block. A state's effects end with it: what the state reached cannot handle (its waits, its timer
   rows) is cancelled, except in a DEFER state. An event without a row is refused and journaled, or deferred to the
   mailbox. After rollback and fork, calls, approvals and timers are cancelled; then "restored" is delivered (see
   [MACHINE]). Threads: an engine and its store belong to one thread at a time. There are no globals: as many engines as
   you like.

   [CRASH]  killed, or power lost …           then reopening …
     before the append                         finds the agent as before the event. A post was not acknowledged: send
                                               it again; an answer was not recorded: its call is in doubt
     during the append                         finds a torn block: cuts it, then as above. A batch survives as a prefix
     after it, before the call began           cannot know that: the call is in doubt
     while the call is under way               call in doubt: REPEAT issues attempt + 1 with the same key; ONCE delivers
                                               CALL.in_doubt; WAIT keeps the attempt open for its answer
     after the answer's block is durable       goes on from there. The answer is never asked for again
     in the middle of opening                  opens again: recovery changes nothing that it has not proved
     between a receipt and its delivery        finds the inbox message again, and that its id was applied: same receipt

   [ERRORS]  see [RESULTS] for all. Sticky for the engine (close, reopen): E_STORAGE, and what a store's flush or list
   returns. Sticky for one agent in this engine: E_FENCED, E_CORRUPT, E_NEWER, E_TRIMMED. A retry helps: E_AGAIN,
   E_NO_SPACE (when there is space: the engine keeps answers and deadlines and tries again by itself), E_MEMORY,
   E_LOCKED, E_CONFLICT (look again first). A retry does not help: the others. pagent_error_text says what is wrong with
   the engine.

   [CONFIG]  PERSISTENT_AGENT_IMPLEMENTATION  in one source file
             PERSISTENT_AGENT_STATIC          everything static: in every file that includes it with the implementation
             PAGENT_NO_FILE                   no file store (the core then needs no system at all: freestanding)
             PAGENT_NO_POSIX                  the file store, but not its POSIX directory, clock and random
             PAGENT_PORTABLE_CRC              never use the processor's CRC instruction
             PAGENT_ASSERT(condition)         told of callers' mistakes and ours; the checks stay in either case
   Limits are run-time: pagent_limits. No macro changes a struct. 32-bit systems: compile with -D_FILE_OFFSET_BITS=64.

   [FORMAT]  Little-endian. A block is a 64-byte header and a payload padded with zeros to 64 bytes; one commit.
      0  4 magic E5 A9 D1 B7     16  8 stream (agent)    48  4 payload bytes     57  1 flags: 1 snapshot, 2 whitened
      4  4 CRC-32C of 8 … 63     24  8 version           52  4 CRC-32C of the    58  2 versions since the snapshot
           and file offset:8     32  8 epoch                  padded payload     60  4 lines of 64 bytes before it that
      8  8 log (segment's id)    40  8 previous link     56  1 type                    were not proved durable
   link = CRC-32C of bytes 16 … 59, then the payload's. Bytes 16 … 59 and the payload are the canonical bytes, the same
   in every store; 0 … 15 and 60 … 63 belong to the container, 0 outside files (their CRC then counts offset 0).
   Types: 1 LOG 2 CLAIM 3 CREATE 4 COMMIT 5 ROLLBACK 6 SNAPSHOT 7 MOVED 8 TOMBSTONE 9 INDEX 129 SEAL; bit 7: may be
   skipped by readers that do not know it. A payload that would hold a line of zeros is XORed with splitmix64 from
   stream ^ version, so that a line of zeros in a file always means: torn.
   A payload is sections: tag:2 flags:2 size:4, bytes, zeros to 8. Flag 1: a reader that does not know the tag must
   refuse. Each is drawn, byte by byte, beside the code that writes it (search PAI_TAG_). The first is SUMMARY.
   Files: NAME.00000001, NAME.00000002 …; NAME is "log", or an agent's stream in hex. A segment begins with LOG (which
   names the end of the one before) and INDEX; every opening that writes begins a new one. inbox/ holds messages and
   receipts. */

#ifndef PERSISTENT_AGENT_H
#define PERSISTENT_AGENT_H

/* The POSIX part needs more of the system's headers than plain C99 shows; this must come before the first of them. */
#if defined(PERSISTENT_AGENT_IMPLEMENTATION) && !defined(PAGENT_NO_FILE) && !defined(PAGENT_NO_POSIX) &&               \
    !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif

#include <stddef.h>
#include <stdint.h>

#define PAGENT_VERSION "0.1.0"
#define PAGENT_FORMAT 1u /* of the journal; changes only when old readers must refuse */

#ifndef PERSISTENT_AGENT_STATIC
#define PAGENT_API extern
#elif defined(__GNUC__)
#define PAGENT_API static __attribute__((unused))
#else
#define PAGENT_API static
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- [RESULTS] ------------------------------------------------------------------------------------------------
   0: go on. Positive: news. Negative: an error of ours in -1000 … -1999; any other negative number comes from one of
   your own callbacks and is passed on unchanged. The third column is what pagent_message() returns. */

#define PAGENT_RESULTS(X)                                                                                              \
    X(OK, 0, "done")                                                                                                   \
    X(PENDING, 1, "begun; the answer follows")                                                                         \
    X(STAGED, 2, "staged; durable when flush returns OK")                                                              \
    X(IDLE, 3, "nothing to do before the next deadline")                                                               \
    X(END, 4, "no more items")                                                                                         \
    X(DUPLICATE, 5, "already applied earlier under this id")                                                           \
    X(NOT_SENT, 6, "the call was not begun, and nothing happened outside")                                             \
    X(DEFERRED, 7, "kept in the mailbox until a state accepts it")                                                     \
    X(E_ARGUMENT, -1001, "an argument is wrong")                                                                       \
    X(E_MEMORY, -1002, "the allocator returned nothing")                                                               \
    X(E_LIMIT, -1003, "a limit of pagent_limits would be exceeded")                                                    \
    X(E_MACHINE, -1004, "the machine's tables are not valid")                                                          \
    X(E_MACHINE_CHANGED, -1005, "the agent was made by other tables: register these too, before the new ones")         \
    X(E_NOT_FOUND, -1006, "no such agent, version, effect or machine")                                                 \
    X(E_EXISTS, -1007, "an agent of this name exists")                                                                 \
    X(E_CONFLICT, -1008, "the agent has changed since the expected version")                                           \
    X(E_FENCED, -1009, "another engine has taken this agent over")                                                     \
    X(E_LOCKED, -1010, "this store is open for writing elsewhere")                                                     \
    X(E_STALE, -1011, "late, duplicate or foreign answer: refused")                                                    \
    X(E_SETTLED, -1012, "this effect is already settled")                                                              \
    X(E_EXPIRED, -1013, "the deadline has passed")                                                                     \
    X(E_UNDECLARED, -1014, "the machine does not declare this here")                                                   \
    X(E_REFUSED, -1015, "the agent's state accepts no such event")                                                     \
    X(E_FINISHED, -1016, "the agent has ended")                                                                        \
    X(E_IRREVERSIBLE, -1017, "an irreversible call has happened since")                                                \
    X(E_PARKED, -1018, "the agent is parked: retry, cancel or roll back")                                              \
    X(E_NO_SPACE, -1019, "the store is full; nothing was written")                                                     \
    X(E_AGAIN, -1020, "busy: try again later; nothing was done")                                                       \
    X(E_IN_DOUBT, -1021, "the store cannot say whether it was written")                                                \
    X(E_STORAGE, -1022, "the storage failed")                                                                          \
    X(E_CORRUPT, -1023, "the journal is damaged")                                                                      \
    X(E_SUSPECT, -1024, "the last block is damaged and may have been acknowledged")                                    \
    X(E_FOREIGN, -1025, "these bytes belong to another journal")                                                       \
    X(E_NEWER, -1026, "written by a newer version of this library")                                                    \
    X(E_LOST_TAIL, -1027, "the journal ends before the version it must contain")                                       \
    X(E_TRIMMED, -1028, "this version was trimmed away")                                                               \
    X(E_READ_ONLY, -1029, "opened for reading only")                                                                   \
    X(E_TIMEOUT, -1030, "no answer before the deadline")                                                               \
    X(E_CLOSED, -1031, "the engine was closed first")                                                                  \
    X(E_FUTURE, -1032, "names a version that this journal has not reached: is it an old copy?")

enum pagent_result {
#define PAGENT_X(name, value, message) PAGENT_##name = value,
    PAGENT_RESULTS(PAGENT_X)
#undef PAGENT_X
    PAGENT_RESULT_LAST = -1999
};

/* The English sentence of a result, and its name ("E_CONFLICT"). Never NULL; static. */
PAGENT_API const char *pagent_message(int result);
PAGENT_API const char *pagent_result_name(int result);

/* ---- [BASICS] ------------------------------------------------------------------------------------------------- */

typedef struct pagent_bytes { /* borrowed: the function that takes or gives one says for how long */
    const void *data;
    uint32_t size;
} pagent_bytes;

#define PAGENT_NAME_MAX 127u      /* bytes of an agent's name, without the final zero */
#define PAGENT_KEY_SIZE 80u       /* bytes of an idempotency key's text, with the final zero */
#define PAGENT_TEXT_SIZE 120u     /* bytes of an error's text, with the final zero */
#define PAGENT_OLDEST UINT64_MAX  /* a view at the oldest version that is kept */
#define PAGENT_ANY 0u             /* expected_version: whatever it is */
#define PAGENT_FOREVER UINT64_MAX /* a due time that never comes */

/* A pointer may be NULL only where its comment says so. */
typedef struct pagent_engine pagent_engine; /* owns many agents over one store; single-threaded; no globals */
typedef struct pagent_step pagent_step;     /* one event being handled; valid inside the handler only */
typedef struct pagent_view pagent_view;     /* an agent as it was at one version; read-only */

/* What names an effect: the block that issued it and its place in that block. Text form "12.0". */
typedef struct pagent_effect_id {
    uint64_t version;
    uint32_t index;
} pagent_effect_id;

typedef struct pagent_call_id {
    uint64_t stream;  /* the agent: hash of its name */
    uint64_t version; /* the block that issued the call */
    uint32_t index;   /* its place in that block */
    uint32_t attempt; /* 1, 2, 3 … : an answer to an earlier attempt is refused */
} pagent_call_id;

/* ---- [MACHINE] ------------------------------------------------------------------------------------------------
   Const tables that outlive the engine. Names are unique in their table, 1 … 63 bytes of [A-Za-z0-9_-]. Lists of names
   are one string, separated by spaces.

   Events, as a transition names them:
     "start"                                      once, after the first state's enter handlers; needs no row
     NAME                                         a signal declared in machine.signals: posted, or sent by another agent
     CALL.result  CALL.failure  CALL.in_doubt     how a call ended (in_doubt: crash policy ONCE only)
     APPROVAL.approved .rejected .edited .expired how an approval ended (.edited falls back to .approved)
     TIMER.timer                                  a timer declared in machine.timers has come due
     "cancel"                                     somebody cancels; without a row for it the agent ends as CANCELLED
     "restored"                                   after rollback or fork; without a row the enter handlers run again
     "always"                                     not an event: taken at once after entering, if the guard lets it

   A machine does not load when it could get stuck: every outcome of what a state waits for needs a row there or in a
   parent; every state must be reachable and, unless FINAL, have a row that leads out (an agent that serves for ever
   ends by "cancel"); every call is waited for somewhere, every timer has a row; no row hides a later one. */

/* Guard, action, enter or exit. `ctx` is the machine's, `tag` the row's. A guard returns > 0 for yes and 0 for no. The
   others return 0, or an error below 0: then the step's changes are dropped, the event is consumed, and the agent goes
   on to the nearest on_error state, or is PARKED. PAGENT_E_MEMORY is different: the step is undone and tried again.
   Handlers must do nothing outside: they change the context and stage effects. They are never run again for a step that
   was committed; one that was not committed may be run again. */
typedef int (*pagent_handler)(void *ctx, pagent_step *step, uint32_t tag);

enum pagent_state_flags {
    PAGENT_FINAL = 1,   /* the agent ends here: DONE */
    PAGENT_INITIAL = 2, /* the child that entering the parent enters */
    PAGENT_DEFER = 4,   /* an event without a row waits in the mailbox for another state; otherwise it is refused */
    PAGENT_FAILURE = 8  /* with FINAL: the agent ends as FAILED */
};

typedef struct pagent_state {
    const char *name;
    const char *parent;   /* NULL: top level. An event without a row here is offered to the parent. */
    const char *waits;    /* calls and approvals that may be outstanding here: each of their outcomes needs a row
                             here or in a parent, or the machine does not load. NULL: none */
    pagent_handler enter; /* NULL: nothing to do */
    pagent_handler exit;
    const char *on_error; /* where a handler's error leads; NULL: ask the parent, and at the top PARK */
    uint32_t flags;
    uint32_t tag; /* handed to enter and exit */
} pagent_state;

typedef struct pagent_transition { /* in table order, the first row whose guard says yes wins */
    const char *from;              /* a state, or "*" for the root of all states */
    const char *event;
    pagent_handler guard;  /* NULL: yes */
    pagent_handler action; /* NULL: nothing */
    const char *to;        /* NULL: internal: nothing is left or entered */
    uint32_t tag;
} pagent_transition;

enum pagent_crash_policy {   /* a call was under way when its engine died: */
    PAGENT_CRASH_REPEAT = 0, /* issue the next attempt under the same key (the callback is told it may have happened) */
    PAGENT_CRASH_ONCE = 1,   /* never repeat: deliver CALL.in_doubt */
    PAGENT_CRASH_WAIT = 2    /* never repeat: the same attempt stays answerable until its deadline (webhooks) */
};

enum pagent_call_flags {
    PAGENT_CALL_IRREVERSIBLE = 1, /* once it has succeeded, rollback across it is refused unless forced */
    PAGENT_CALL_MODEL = 2         /* a model rather than a tool; shown in diagrams and traces */
};

typedef struct pagent_call_spec {
    const char *name;
    uint32_t crash_policy;       /* enum pagent_crash_policy */
    uint32_t flags;              /* enum pagent_call_flags */
    uint32_t attempts_max;       /* 0: 4 */
    uint32_t backoff_ms;         /* before attempt 2; doubles each time, ± 25 % jitter. 0: 500 */
    uint32_t backoff_max_ms;     /* 0: 60,000 */
    uint32_t attempt_timeout_ms; /* 0: 120,000 (crash policy WAIT: none) */
    uint32_t total_timeout_ms;   /* all attempts and pauses together; 0: none */
} pagent_call_spec;

typedef struct pagent_machine {
    uint32_t size; /* sizeof(pagent_machine) */
    uint32_t version;
    const char *name;
    void *ctx;             /* first argument of every handler */
    uint32_t context_size; /* bytes of a new agent's context, all zero */
    const char *signals;   /* that it takes, and those that it sends to others; lists of names; NULL: none */
    const char *timers;
    const char *approvals;
    const pagent_call_spec *calls;
    uint32_t call_count;
    const pagent_state *states; /* the first one is where an agent starts */
    uint32_t state_count;
    const pagent_transition *transitions;
    uint32_t transition_count;
} pagent_machine;

/* `calls`, `states` and `transitions` of a pagent_machine: a table and its count. */
#define PAGENT_ROWS(table) (table), (uint32_t)(sizeof(table) / sizeof((table)[0]))

/* Checks the tables as registering does. On PAGENT_E_MACHINE `text` says which row, and what to do. Allocates nothing.
   */
PAGENT_API int pagent_check_machine(const pagent_machine *machine, char text[PAGENT_TEXT_SIZE]);

/* 64 bits over names and structure: twins in two languages have the same. Only for a machine that checks. */
PAGENT_API uint64_t pagent_machine_hash(const pagent_machine *machine);

/* Writes the machine as a diagram through `write`, piece by piece, without a final zero. A mark >= 0 highlights that
   state (its row in the table); -1: none. */
typedef void (*pagent_write)(void *ctx, const char *text, size_t size);
PAGENT_API int pagent_write_mermaid(const pagent_machine *machine, int mark, pagent_write write, void *ctx);
PAGENT_API int pagent_write_dot(const pagent_machine *machine, int mark, pagent_write write, void *ctx);

/* ---- [STEP] ---------------------------------------------------------------------------------------------------
   Inside a handler. Verbs only stage: they take effect when the step is durable, or never. Each copies what it is
   given. */

enum pagent_event_kind {
    PAGENT_EVENT_START = 1,
    PAGENT_EVENT_SIGNAL,
    PAGENT_EVENT_RESULT,
    PAGENT_EVENT_FAILURE,
    PAGENT_EVENT_IN_DOUBT,
    PAGENT_EVENT_APPROVED,
    PAGENT_EVENT_REJECTED,
    PAGENT_EVENT_EDITED,
    PAGENT_EVENT_EXPIRED,
    PAGENT_EVENT_TIMER,
    PAGENT_EVENT_CANCEL,
    PAGENT_EVENT_RESTORED,
    PAGENT_EVENT_ALWAYS,
    PAGENT_EVENT_CLAIM /* in history only: a new engine took the agent over */
};

typedef struct pagent_event {
    uint32_t kind;           /* enum pagent_event_kind */
    int32_t code;            /* FAILURE: why: PAGENT_E_TIMEOUT, or the code of the answer */
    const char *name;        /* of the signal, call, approval or timer; "" for the others */
    pagent_effect_id effect; /* the call, approval or timer that ended */
    uint32_t attempt;        /* RESULT, FAILURE, IN_DOUBT */
    pagent_bytes data;       /* payload, answer, or edited text; valid during the step */
    const char *who;         /* APPROVED, REJECTED, EDITED: as given to decide; otherwise "" */
} pagent_event;

PAGENT_API const pagent_event *pagent_current_event(const pagent_step *step);
PAGENT_API const char *pagent_agent_name(const pagent_step *step);
PAGENT_API uint64_t pagent_version(const pagent_step *step); /* of the block that this step will become */
PAGENT_API uint64_t pagent_now_ms(const pagent_step *step); /* the clock, read once per step, milliseconds since 1970 */

/* The agent's own bytes, aligned to 8, to read and change in place; `size` may be NULL. The pointer is valid until the
   handler returns or resizes. A resize keeps the front and zeroes what it adds; E_LIMIT over context_size_max. */
PAGENT_API void *pagent_context(pagent_step *step, uint32_t *size);
PAGENT_API int pagent_resize_context(pagent_step *step, uint32_t size);

/* The transcript: append-only entries, journaled once each. `kind` is yours. */
typedef struct pagent_entry {
    uint32_t kind;
    pagent_bytes data;
} pagent_entry;
PAGENT_API int pagent_remember(pagent_step *step, uint32_t kind, const void *data, uint32_t size);
PAGENT_API uint32_t pagent_transcript_count(const pagent_step *step); /* those of committed steps */
PAGENT_API int pagent_transcript_entry(const pagent_step *step, uint32_t index, pagent_entry *entry);

/* Issues a call that the machine declares and the state that is reached may wait for. `id` may be NULL. */
PAGENT_API int pagent_begin_call(pagent_step *step, const char *call, const void *request, uint32_t size,
                                 pagent_effect_id *id);

/* Asks a person. `payload` is the exact action to approve; a decision carries its digest (pagent_digest). At
   `deadline_ms` (absolute; PAGENT_FOREVER: none) APPROVAL.expired is delivered. */
PAGENT_API int pagent_ask_approval(pagent_step *step, const char *approval, const void *payload, uint32_t size,
                                   uint64_t deadline_ms, pagent_effect_id *id);

/* Sets a named timer to an absolute time, replacing an earlier one of that name. Fires once, late rather than never. */
PAGENT_API int pagent_set_timer(pagent_step *step, const char *timer, uint64_t due_ms);
PAGENT_API int pagent_clear_timer(pagent_step *step, const char *timer);

/* Posts a signal to another agent of the same store, at least once until that agent's block holds it, deduplicated
   there. Both machines declare it. An agent that does not exist, has ended or refuses it drops it, and the sender is
   not told: to be sure, let it answer with a signal, and set a timer. */
PAGENT_API int pagent_send_signal(pagent_step *step, const char *agent, const char *signal, const void *data,
                                  uint32_t size);

/* Cancels an outstanding call or approval: its answer will be refused. E_NOT_FOUND when it is not outstanding. */
PAGENT_API int pagent_cancel_effect(pagent_step *step, const pagent_effect_id *id);

/* For `return pagent_fail(step, code, "text")`: gives the error a text that history and status show. `code` < 0. */
PAGENT_API int pagent_fail(pagent_step *step, int code, const char *text);

/* FNV-1a over the bytes, finished with a mixer: names an approval's payload. Not cryptographic. */
PAGENT_API uint64_t pagent_digest(const void *data, uint32_t size);

/* ---- [HOST] ---------------------------------------------------------------------------------------------------
   What the program lends to the engine. Of the same engine, call, call_cancel and trace may use pagent_submit and its
   shorthands; a callback uses nothing else of it. */

typedef struct pagent_call {
    pagent_call_id id;    /* for pagent_call_done */
    const char *agent;    /* name of the agent */
    const char *name;     /* which call, as the machine declares it */
    pagent_bytes request; /* valid until the callback returns */
    const char *key; /* idempotency key: the same for every attempt and restart of this call, never used for another */
    uint64_t deadline_ms; /* of this attempt, absolute; PAGENT_FOREVER: none */
    uint32_t flags;       /* enum pagent_call_flags */
    uint32_t repeated;    /* not 0: an earlier attempt was under way when its engine died, and may have happened */
} pagent_call;

enum pagent_outcome {
    PAGENT_ANSWERED = 0,    /* data is the answer: CALL.result */
    PAGENT_FAILED = 1,      /* may be tried again, after retry_after_ms if that is longer than the backoff */
    PAGENT_FAILED_FINAL = 2 /* trying again cannot help: CALL.failure at once */
};

typedef struct pagent_answer {
    uint32_t outcome; /* enum pagent_outcome */
    int32_t code;     /* yours; the machine sees it as event.code */
    pagent_bytes data;
    uint32_t retry_after_ms;
} pagent_answer;

enum pagent_trace_kind {
    PAGENT_TRACE_COMMIT = 1, /* a step is durable */
    PAGENT_TRACE_REFUSED,    /* an event found no row; or an answer or decision was refused: code says why */
    PAGENT_TRACE_CALL,       /* a call's attempt begins; code = attempt */
    PAGENT_TRACE_ANSWER,     /* an answer arrived; code = outcome */
    PAGENT_TRACE_RETRY,      /* an attempt failed and another follows at time_ms */
    PAGENT_TRACE_DOUBT,      /* a call of an earlier engine is in doubt */
    PAGENT_TRACE_LOAD,
    PAGENT_TRACE_UNLOAD,
    PAGENT_TRACE_CLAIM,
    PAGENT_TRACE_ERROR, /* code says what */
    PAGENT_TRACE_PARKED,
    PAGENT_TRACE_SNAPSHOT
};

typedef struct pagent_trace {
    uint32_t kind; /* enum pagent_trace_kind */
    int32_t code;
    uint64_t stream;
    uint64_t version;
    uint64_t time_ms;
    const char *agent; /* valid during the callback, as are the others; NULL where unknown */
    const char *name;  /* event, call, … */
    const char *from;  /* states, for COMMIT */
    const char *to;
    uint32_t block_size;
    uint32_t event_kind;
} pagent_trace;

typedef struct pagent_host {
    uint32_t size; /* sizeof(pagent_host) */
    void *ctx;     /* first argument of every callback */
    /* realloc with the old size; new_size 0 frees and returns NULL; NULL on failure. Aligned for any type.
       Required. pagent_arena_allocate is ready-made, and pagent_posix_host gives the heap. */
    void *(*allocate)(void *ctx, void *old, size_t old_size, size_t new_size);
    /* Fills the buffer with unpredictable bytes (log ids, nonces, jitter). 0 or an error. Required. */
    int (*random)(void *ctx, void *buffer, size_t size);
    /* Milliseconds since 1970. May go back, jump or stand still. Required. */
    uint64_t (*clock_ms)(void *ctx);
    /* Begins a call and returns at once: PAGENT_PENDING (pagent_call_done follows), PAGENT_OK with *answer filled (data
       valid until the next call into the engine), PAGENT_NOT_SENT (nothing happened; retried by policy), or an error <
       0 (as FAILED with that code). Must not wait. May be NULL when no call can begin: no machine declares one, or
       hold_effects, or read_only. */
    int (*call)(void *ctx, const pagent_call *call, pagent_answer *answer);
    /* The engine no longer wants this answer. Optional; may be ignored. */
    void (*call_cancel)(void *ctx, const pagent_call_id *id);
    void (*trace)(void *ctx, const pagent_trace *record); /* optional */
} pagent_host;

/* ---- [STORE] --------------------------------------------------------------------------------------------------
   Where blocks live. Every callback fills *io before it returns OK; or returns PENDING, and the host calls
   pagent_store_done(engine, request->op, result, io) once. The memory behind a request is valid until then; one append
   is in flight per stream. See [FORMAT] for blocks. */

typedef uint64_t pagent_op; /* slot | generation << 32: a late or second completion is refused */

enum pagent_status {
    PAGENT_RUNNING = 1, /* has events to handle */
    PAGENT_WAITING,     /* for a call, approval, timer or signal */
    PAGENT_PARKED,
    PAGENT_DONE,
    PAGENT_FAILED_STATUS,
    PAGENT_CANCELLED,
    PAGENT_MOVED
};

enum pagent_summary_flags {
    PAGENT_HAS_CALLS = 1,     /* calls under way: a new owner must look */
    PAGENT_HAS_APPROVALS = 2, /* a person is asked */
    PAGENT_HAS_TIMERS = 4,
    PAGENT_HAS_WORK = 8,    /* mailbox events to handle, signals to deliver, held calls: a new owner must look */
    PAGENT_HAS_RUNS = 16,   /* refers to transcript blocks before its newest snapshot: these must not be trimmed */
    PAGENT_IS_DAMAGED = 128 /* list only: damage in what this agent needs stops it, and no other. It answers E_CORRUPT;
                               versions before the damage can be read */
};

typedef struct pagent_summary { /* the first section of every block of an agent, and what list returns */
    uint64_t stream;
    uint64_t version;
    uint64_t due_ms;  /* when the agent wants to be looked at; PAGENT_FOREVER: never */
    uint64_t time_ms; /* of its last step */
    uint16_t state;   /* row in the machine's table */
    uint8_t status;   /* enum pagent_status */
    uint8_t flags;    /* enum pagent_summary_flags */
} pagent_summary;

typedef struct pagent_io { /* what a store callback answers */
    uint32_t size;         /* read, collect: bytes put into the buffer. E_LIMIT: bytes that it must hold */
    uint32_t count;        /* read: blocks; list: summaries; trim: segments removed */
    uint64_t version;      /* append: CONFLICT: the head's version; read: the head's; trim: see there */
    uint64_t next_due_ms;  /* list: earliest due time after the ones returned */
    uint64_t stream; /* trim: write a new snapshot of this agent first, then ask again. collect: the message's hash */
    uint64_t cursor; /* list, collect: give it back to go on; 0: that was all */
} pagent_io;

enum pagent_append_flags {
    PAGENT_APPEND_RESERVE = 1, /* may use the space kept for cancel and rollback */
    PAGENT_APPEND_WHOLE = 2    /* an import: all of its blocks survive, or none. Without it the first ones may alone */
};

typedef struct pagent_append {
    pagent_op op;
    uint64_t stream;
    uint64_t expected;     /* the head's version; 0: there must be none */
    uint64_t epoch;        /* the head's must not be above it */
    const uint8_t *blocks; /* 1 or more whole blocks, versions consecutive, container fields as outside files */
    uint32_t size;
    uint32_t count;
    uint32_t flags;
    uint64_t first; /* version of the first block: expected + 1, except at import of a trimmed journal (expected = 0) */
    pagent_summary summary; /* after the last block */
} pagent_append;

enum pagent_read_mode {
    PAGENT_READ_NEWEST = 0, /* from the newest block that carries a snapshot, to the head */
    PAGENT_READ_BASE = 1,   /* from the newest one at or before `version`; version 0: from the oldest block kept */
    PAGENT_READ_FROM = 2    /* from `version` exactly */
};

typedef struct pagent_read {
    pagent_op op;
    uint64_t stream;
    uint32_t mode; /* enum pagent_read_mode */
    uint32_t capacity;
    uint64_t version;
    uint8_t *buffer; /* receives whole blocks, ascending, as many as fit. None left: OK with count 0 */
    uint64_t last;   /* not 0: those after this version are not wanted, but a store may return some all the same */
} pagent_read;

typedef struct pagent_list {
    pagent_op op;
    uint64_t cursor;        /* 0: from the start */
    uint64_t due_before_ms; /* agents due at or before this time … */
    uint32_t flags;         /* … or with one of these summary flags; both 0: all agents */
    uint32_t capacity;      /* items in `items` */
    pagent_summary *items;
} pagent_list;

typedef struct pagent_trim { /* removes what no agent's newest snapshot needs; see pagent_trim_store */
    pagent_op op;
} pagent_trim;

typedef struct pagent_collect { /* the next message of the inbox, oldest first */
    pagent_op op;
    uint64_t cursor;
    uint8_t *buffer;
    uint32_t capacity;
} pagent_collect;

typedef struct pagent_settle { /* makes the receipt durable and visible to the sender, then removes the message */
    pagent_op op;
    uint64_t message; /* its id hash */
    const uint8_t *receipt;
    uint32_t size;
} pagent_settle;

enum pagent_store_caps {
    PAGENT_STORE_PROCESS = 1, /* survives the process */
    PAGENT_STORE_POWER = 2,   /* survives a power cut */
    PAGENT_STORE_READS = 4    /* opened for reading only: append is refused */
};

typedef struct pagent_store {
    uint32_t size; /* sizeof(pagent_store) */
    void *ctx;
    uint32_t caps;           /* enum pagent_store_caps */
    uint32_t block_size_max; /* bytes of one block; 0: no limit of its own */
    /* OK: durable. STAGED: durable when the next flush returns OK. CONFLICT, AGAIN, NO_SPACE, FENCED: not applied, for
       certain. IN_DOUBT, or any other error: unknown, and the engine reads to find out. */
    int (*append)(void *ctx, const pagent_append *request, pagent_io *io);
    /* Makes all staged appends durable, or none is acknowledged. Called once per poll that staged something. With
       nothing staged it means: the engine goes idle (a file store seals its log). NULL: append never stages. */
    int (*flush)(void *ctx, pagent_op op, pagent_io *io);
    int (*read)(void *ctx, const pagent_read *request, pagent_io *io);
    int (*list)(void *ctx, const pagent_list *request, pagent_io *io);
    int (*trim)(void *ctx, const pagent_trim *request, pagent_io *io);       /* optional */
    int (*collect)(void *ctx, const pagent_collect *request, pagent_io *io); /* optional: no inbox */
    int (*settle)(void *ctx, const pagent_settle *request, pagent_io *io);   /* with collect */
} pagent_store;

/* ---- [ENGINE] ------------------------------------------------------------------------------------------------- */

typedef struct pagent_limits {  /* 0 takes the default; exceeding one is E_LIMIT, and its text says which */
    uint32_t size;              /* sizeof(pagent_limits) */
    uint32_t context_size_max;  /* 16 MiB */
    uint32_t payload_size_max;  /* of one event, request, answer, entry: 16 MiB; never more than a block holds */
    uint32_t block_size_max;    /* of one block: 64 MiB */
    uint32_t effects_max;       /* outstanding per agent: 1,024 */
    uint32_t mailbox_max;       /* unhandled events per agent: 1,024 */
    uint32_t dedupe_count;      /* sender ids remembered per agent: 16 */
    uint32_t loaded_max;        /* agents in memory before idle ones are dropped: 4,096 */
    uint32_t requests_max;      /* submitted and not yet settled: 65,536 */
    uint32_t always_max;        /* "always" transitions in one step: 64 */
    uint32_t splices_max;       /* per context change, 1 … 16: 16 */
    uint32_t snapshot_factor;   /* snapshot when the changes since the last exceed this many times its size: 4 */
    uint32_t snapshot_floor;    /* … and this many bytes: 64 KiB */
    uint32_t inbox_interval_ms; /* 200 */
    uint32_t idle_seal_ms;      /* 1,000 */
    uint32_t retry_pause_ms;    /* after NO_SPACE, AGAIN, or no memory: 500 */
    uint32_t full_snapshots;    /* not 0: snapshots hold the whole transcript, so that old segments can be trimmed */
} pagent_limits;

typedef struct pagent_config {
    uint32_t size;         /* sizeof(pagent_config) */
    uint32_t hold_effects; /* not 0: commit steps but start no call: the next engine starts them */
    pagent_host host;
    pagent_store store;
    pagent_limits limits;
    const pagent_machine *const *machines; /* they outlive the engine. Of several with one name an agent keeps to the
                                              tables that made it (E_MACHINE_CHANGED: they are missing), and new agents
                                              get the last */
    uint32_t machine_count;
    uint32_t read_only; /* not 0: list and view only */
} pagent_config;

/* Copies the config, checks the machines. On an error *engine is NULL and `text` (may be NULL) says what and where.
   Opening goes on inside poll: agents with calls in doubt or due are looked up then. Close in reverse order: views,
   engine, store, directory. */
PAGENT_API int pagent_open_engine(pagent_engine **engine, const pagent_config *config, char text[PAGENT_TEXT_SIZE]);

/* Flushes nothing, cancels nothing: what is durable stays, the rest never was. Receipts that are still open become
   E_CLOSED. Frees everything. Store callbacks must not complete afterwards. Views must have been closed. */
PAGENT_API int pagent_close_engine(pagent_engine *engine);

/* Does what can be done now, and waits for nothing but a synchronous store. OK: call again, there is more.
   IDLE: come back at pagent_next_deadline, or after a submit, call_done or store_done. PENDING: as IDLE, and the store
   is busy. An error: the store failed; it is sticky; close, and open again. Each agent makes one step at most. */
PAGENT_API int pagent_poll(pagent_engine *engine);

/* When poll wants to be called next, absolute; PAGENT_FOREVER: only after something from outside. */
PAGENT_API uint64_t pagent_next_deadline(const pagent_engine *engine);

/* True when no agent has work, no call is under way and no deadline is armed. */
PAGENT_API int pagent_is_quiet(const pagent_engine *engine);

/* Poll until `wait` says stop. It is called with the next deadline when there is nothing to do, and now and then while
   there is, with one that has come. It is where the host sleeps and delivers answers; it returns 0 to go on, > 0 to
   stop (pagent_run returns OK), < 0 as an error. */
typedef int (*pagent_wait)(void *ctx, pagent_engine *engine, uint64_t deadline_ms);
PAGENT_API int pagent_run(pagent_engine *engine, pagent_wait wait, void *ctx);

/* The answer to a call that returned PENDING. Copies the data. E_STALE: not outstanding (late, duplicate, foreign,
   superseded attempt). OK does not mean durable yet; a crash before that is a call in doubt. Nor does it mean that the
   call is outstanding, when its agent must be read first: a refusal is traced then (PAGENT_TRACE_REFUSED). E_AGAIN: its
   agent must be read, and requests_max answers wait already: poll first. E_LIMIT: over payload_size_max. An answer that
   fits in no block together with its step becomes CALL.failure with that code. */
PAGENT_API int pagent_call_done(pagent_engine *engine, const pagent_call_id *id, const pagent_answer *answer);

/* The completion of a store callback that returned PENDING. E_STALE: unknown, late or duplicate op: nothing happened.
   */
PAGENT_API int pagent_store_done(pagent_engine *engine, pagent_op op, int result, const pagent_io *io);

/* What is wrong with the store, or with the agents: a sentence, "" when nothing is. Agents in memory that wait for
   tables which are not registered are counted, and one of them is named. */
PAGENT_API const char *pagent_error_text(const pagent_engine *engine);

/* ---- [REQUESTS] -----------------------------------------------------------------------------------------------
   Everything that anybody outside asks of an agent is one request. It goes in by pagent_submit from the owner's own
   process, or as a message through the store's inbox (pagent_send_message) from anywhere else; the outcome is one
   receipt. */

enum pagent_verb {
    PAGENT_CREATE = 1, /* event = machine's name; data = payload of the "start" event */
    PAGENT_POST,       /* event = signal; data */
    PAGENT_DECIDE,     /* effect, decision, who; data = the edited payload; digest of the payload that was shown */
    PAGENT_CANCEL,     /* data = why */
    PAGENT_ROLLBACK,   /* version to return to; force */
    PAGENT_FORK,       /* version (0: newest) and target = the new agent's name */
    PAGENT_RETRY,      /* a parked agent handles its event again */
    PAGENT_MOVE_OUT,   /* the agent ends here as MOVED: for export and move */
    PAGENT_MOVE_IN     /* after an import: MOVED becomes what it was before */
};

enum pagent_decision {
    PAGENT_APPROVE = 1,
    PAGENT_REJECT,
    PAGENT_EDIT
};

typedef struct pagent_request {
    uint32_t size;             /* sizeof(pagent_request) */
    uint32_t verb;             /* enum pagent_verb */
    const char *agent;         /* its name: 1 to 127 bytes of any kind but zero */
    const char *id;            /* sender's, up to 127 bytes: applied once, as long as it is among the agent's last
                                  limits.dedupe_count (16). NULL: none */
    uint64_t expected_version; /* or PAGENT_ANY; E_CONFLICT when the agent has changed since */
    const char *event;
    const char *target;
    const char *who;
    pagent_effect_id effect; /* DECIDE: version 0: the only open approval */
    uint64_t digest;         /* DECIDE: 0: not checked */
    uint64_t version;
    uint32_t decision; /* enum pagent_decision */
    uint32_t force;
    pagent_bytes data;
} pagent_request;

typedef struct pagent_receipt {
    int32_t result; /* PENDING until settled. OK, DUPLICATE, DEFERRED, or an error that says why it was refused */
    uint32_t verb;
    uint64_t version;            /* OK, DUPLICATE: of the block that holds it, durable. E_CONFLICT: the current one */
    char text[PAGENT_TEXT_SIZE]; /* the reason of a refusal, as a sentence */
} pagent_receipt;

/* Copies the request and queues it; poll works it off. `receipt` (may be NULL) says PENDING, is settled once, inside a
   later poll (or close), and must live until then. E_ARGUMENT, E_LIMIT, E_MEMORY, E_READ_ONLY, and what the engine
   failed with: at once, with a text in `receipt`, and nothing is queued. */
PAGENT_API int pagent_submit(pagent_engine *engine, const pagent_request *request, pagent_receipt *receipt);

/* Shorthands for pagent_submit. */
PAGENT_API int pagent_create(pagent_engine *engine, const char *agent, const char *machine, const void *data,
                             uint32_t size, pagent_receipt *receipt);
PAGENT_API int pagent_post(pagent_engine *engine, const char *agent, const char *signal, const char *id,
                           const void *data, uint32_t size, pagent_receipt *receipt);
PAGENT_API int pagent_decide(pagent_engine *engine, const char *agent, const pagent_effect_id *approval,
                             const char *who, uint32_t decision, const void *data, uint32_t size,
                             uint64_t expected_version, pagent_receipt *receipt);
PAGENT_API int pagent_cancel(pagent_engine *engine, const char *agent, uint64_t expected_version,
                             pagent_receipt *receipt);
PAGENT_API int pagent_rollback(pagent_engine *engine, const char *agent, uint64_t version, uint32_t force,
                               uint64_t expected_version, pagent_receipt *receipt);
PAGENT_API int pagent_fork(pagent_engine *engine, const char *agent, uint64_t version, const char *new_agent,
                           pagent_receipt *receipt);

/* A request as bytes, for an inbox. Encode returns the size, or an error (E_LIMIT: `capacity` is too small; NULL
   buffer: just the size). Decode points into the bytes. A receipt is encoded the same way. */
PAGENT_API int pagent_encode_request(const pagent_request *request, uint8_t *buffer, uint32_t capacity);
PAGENT_API int pagent_decode_request(const uint8_t *bytes, uint32_t size, pagent_request *request);
PAGENT_API int pagent_encode_receipt(const pagent_receipt *receipt, uint8_t *buffer, uint32_t capacity);
PAGENT_API int pagent_decode_receipt(const uint8_t *bytes, uint32_t size, pagent_receipt *receipt);

/* Asks the store to remove what is older than every agent's newest snapshot, writing new snapshots where one old agent
   holds many bytes back. History before that is gone: E_TRIMMED. Worked off by poll; needs limits.full_snapshots. */
PAGENT_API int pagent_trim_store(pagent_engine *engine, pagent_receipt *receipt);

/* ---- [VIEWS] --------------------------------------------------------------------------------------------------
   An agent at a version, read from the store; needs no machine, changes nothing. History is a view that moves on. */

typedef struct pagent_info {
    char name[PAGENT_NAME_MAX + 1];
    uint64_t stream;
    uint64_t version;         /* of the state shown */
    uint64_t changed_version; /* of the last state-changing block: what expected_version is compared with */
    uint64_t epoch;
    uint64_t link; /* of that block: with version, an anchor to keep elsewhere */
    uint64_t machine_hash;
    uint64_t due_ms;
    uint64_t time_ms; /* of the last step */
    uint64_t created_ms;
    const char *machine; /* valid while the view is, as the others */
    const char *state;
    const char *parent_agent; /* forked from, "" if not */
    uint64_t parent_version;
    uint32_t machine_version;
    uint32_t status; /* enum pagent_status */
    uint32_t flags;  /* enum pagent_summary_flags */
    int32_t error;   /* PARKED, FAILED: the code, and its text */
    const char *error_text;
    pagent_bytes context;
    uint32_t transcript_count;
    uint32_t effect_count;
    uint32_t mailbox_count;
} pagent_info;

enum pagent_effect_kind {
    PAGENT_EFFECT_CALL = 1,
    PAGENT_EFFECT_APPROVAL,
    PAGENT_EFFECT_TIMER,
    PAGENT_EFFECT_SIGNAL
};

enum pagent_effect_phase {
    PAGENT_PHASE_OPEN = 1, /* under way, asked, armed, being delivered */
    PAGENT_PHASE_PAUSED,   /* a call between two attempts: the next is at due_ms */
    PAGENT_PHASE_HELD      /* committed by an engine that starts nothing: not yet begun */
};

typedef struct pagent_effect { /* one that is outstanding */
    pagent_effect_id id;
    uint32_t kind;    /* enum pagent_effect_kind */
    uint32_t phase;   /* enum pagent_effect_phase */
    const char *name; /* SIGNAL: the signal; its addressee is `target` */
    const char *target;
    uint32_t attempt;
    uint64_t due_ms;      /* when the engine will act on it: deadline, next attempt, timer */
    uint64_t deadline_ms; /* of the whole */
    pagent_bytes payload; /* request, or what is to be approved */
    uint64_t digest;      /* of the payload */
    const char *key;      /* CALL: idempotency key; valid until the next pagent_view_effect */
} pagent_effect;

/* One block of history. */
typedef struct pagent_block_info {
    uint64_t version;
    uint64_t epoch;
    uint64_t link;
    uint64_t time_ms;
    const char *type;    /* "create", "commit", "claim", "snapshot", "rollback", "moved" … */
    const char *event;   /* "start", "summarise.result", … ; "" where there is none */
    const char *outcome; /* "taken", "refused", "deferred", "error", … */
    const char *from;
    const char *to;
    uint32_t block_size;
    uint32_t effects_issued;
    uint32_t effects_settled;
    uint32_t transcript_entries;
    uint32_t context_changed; /* bytes of context splices */
    pagent_bytes data;        /* the event's */
    const char *who;
} pagent_block_info;

/* Opens at `version` (0: newest). PENDING with an asynchronous store: call pagent_view_ready after its completions. */
PAGENT_API int pagent_open_view(pagent_engine *engine, const char *agent, uint64_t version, pagent_view **view);
PAGENT_API int pagent_open_view_stream(pagent_engine *engine, uint64_t stream, uint64_t version, pagent_view **view);
PAGENT_API int pagent_view_ready(pagent_view *view);
/* Goes on to the next version. END at the head; E_CORRUPT and its kin end the view where the damage begins. */
PAGENT_API int pagent_view_next(pagent_view *view);
PAGENT_API void pagent_close_view(pagent_view *view);
PAGENT_API int pagent_view_info(const pagent_view *view, pagent_info *info);
PAGENT_API int pagent_view_block(const pagent_view *view, pagent_block_info *info); /* the block that led here */
PAGENT_API int pagent_view_raw(const pagent_view *view, pagent_bytes *block);       /* its bytes, header first */
PAGENT_API int pagent_view_effect(const pagent_view *view, uint32_t index, pagent_effect *effect);
PAGENT_API int pagent_view_entry(const pagent_view *view, uint32_t index, pagent_entry *entry);

/* All agents of the store, in no order. *cursor starts at 0. OK: *summary is one; END. Only over a store that answers
   at once; E_ARGUMENT otherwise. */
PAGENT_API int pagent_next_agent(pagent_engine *engine, uint64_t *cursor, pagent_summary *summary);

/* Whether the journal still holds what an anchor names: version and link of a pagent_info that was kept elsewhere. OK;
   E_LOST_TAIL: it ends before that version; E_FOREIGN: another history stands there (a copy that went its own way);
   E_TRIMMED; PENDING is E_AGAIN: only over a store that answers at once. */
PAGENT_API int pagent_check_anchor(pagent_engine *engine, const char *agent, uint64_t version, uint64_t link);

/* The stream of a name: what stores, traces and call ids know an agent by. */
PAGENT_API uint64_t pagent_stream_of(const char *agent);

/* Brings the blocks of one agent, oldest first, from another store. The first must carry a snapshot. `as` NULL: the
   same canonical bytes under the same name; the agent must have been moved out (E_REFUSED otherwise), and MOVE_IN lets
   it go on here. What was moved out of this very store comes home with what is new. DUPLICATE: all of it is here, and
   still moved, as where it was moved out, or after an import that died before its MOVE_IN: send that one only if the
   agent lives nowhere else. `as` a new name: a fork of its newest state, moved or not. E_EXISTS: it lives here;
   E_CORRUPT at a broken chain. Synchronous stores only. */
PAGENT_API int pagent_import_blocks(pagent_engine *engine, const uint8_t *blocks, size_t size, const char *as);

/* One agent as a file that can be carried anywhere: a head, then its blocks, each bound to its place in the file. To
   write one: set `name`, `log` (random) and `moved`, write a head to hold the place, then every block from the oldest
   on (pagent_view_raw, copied), then the head again over the first. */
#define PAGENT_PORTABLE_HEAD 512u
typedef struct pagent_portable {
    char name[PAGENT_NAME_MAX + 1];
    uint64_t log;
    uint32_t moved; /* the agent was moved out: where this is imported it goes on */
    uint64_t count; /* of blocks; this and what follows is kept by pagent_portable_add */
    uint64_t first;
    uint64_t last;
    uint64_t link; /* of the last one */
    uint64_t bytes;
} pagent_portable;
/* Both return bytes to write. `add` rewrites the block for its place; 0: it is not the next whole block. */
PAGENT_API uint32_t pagent_portable_head(const pagent_portable *file, uint8_t head[PAGENT_PORTABLE_HEAD]);
PAGENT_API uint32_t pagent_portable_add(pagent_portable *file, uint8_t *block, uint32_t size);
/* Checks a whole file. OK: its blocks begin at bytes + *at, made ready for pagent_import_blocks. E_FOREIGN, E_NEWER,
   E_CORRUPT: *at is where, *what a sentence. */
PAGENT_API int pagent_portable_open(pagent_portable *file, uint8_t *bytes, size_t size, size_t *at, const char **what);

/* ---- [STORES] ------------------------------------------------------------------------------------------------- */

/* Memory: for tests, and for agents that may die with the process. Has an inbox. Frees all on close. */
typedef struct pagent_memory pagent_memory;
PAGENT_API int pagent_open_memory(pagent_memory **memory, const pagent_host *host); /* uses allocate only */
PAGENT_API pagent_store pagent_memory_store(pagent_memory *memory);
PAGENT_API int pagent_memory_message(pagent_memory *memory, const pagent_request *request); /* into its inbox */
PAGENT_API int pagent_memory_receipt(pagent_memory *memory, const char *id, pagent_receipt *receipt);
PAGENT_API void pagent_close_memory(pagent_memory *memory);

/* An allocator over the caller's buffer: for hosts without a heap. First fit, coalescing; no other memory is used. */
typedef struct pagent_arena {
    uint8_t *base;
    size_t size;
    size_t used; /* high-water mark */
} pagent_arena;
PAGENT_API void pagent_init_arena(pagent_arena *arena, void *buffer, size_t size);
PAGENT_API void *pagent_arena_allocate(void *arena, void *old, size_t old_size, size_t new_size); /* host.allocate */

/* A byte device and a directory: what the file store stands on. Every call of them is a crash point of the tests.
   A file is a handle > 0. Results: 0 or a count, or an error < 0: E_NO_SPACE, E_EXISTS, E_NOT_FOUND, E_LOCKED,
   E_STORAGE. Names are relative to the directory, with at most one '/': "inbox/…". */
typedef struct pagent_dev {
    uint32_t size; /* sizeof(pagent_dev) */
    void *ctx;
    /* Bytes read, possibly fewer than asked; 0 only at the end of the file. */
    int64_t (*pread)(void *ctx, int file, void *buffer, uint32_t size, uint64_t offset);
    /* Bytes written, possibly fewer than asked. What is written is durable after sync. */
    int64_t (*pwrite)(void *ctx, int file, const void *buffer, uint32_t size, uint64_t offset);
    /* Everything written and the file's size are durable when it returns 0. After an error the file is given up. */
    int (*sync)(void *ctx, int file);
    /* Makes the file exactly this long; what is added reads as zero and is backed by space. Durable after sync. */
    int (*truncate)(void *ctx, int file, uint64_t size);
    int64_t (*file_size)(void *ctx, int file);
} pagent_dev;

enum pagent_open_flags {
    PAGENT_OPEN_WRITE = 1
};

typedef struct pagent_dir {
    uint32_t size; /* sizeof(pagent_dir) */
    void *ctx;
    pagent_dev dev;
    int (*open)(void *ctx, const char *name, uint32_t flags); /* an existing file: a handle */
    int (*create_temp)(void *ctx, const char *name);          /* a new empty file under this name, "tmp-…" or
                                                                 "inbox/tmp-…"; E_EXISTS if there is one: a handle */
    int (*publish)(void *ctx, int file, const char *name, int exclusive); /* rename that file to `name`; exclusive:
                                                                   E_EXISTS if there is one, atomically. Keeps it
                                                                   open */
    int (*close)(void *ctx, int file);
    int (*remove)(void *ctx, const char *name); /* E_NOT_FOUND is not an error to the caller */
    int (*exists)(void *ctx, const char *name); /* 1, 0, or an error */
    /* Name number `index` of folder "" or "inbox", in any order that is stable while nothing changes; END. */
    int (*list)(void *ctx, const char *folder, uint32_t index, char name[PAGENT_NAME_MAX + 1]);
    int (*sync_dir)(void *ctx, const char *folder); /* creations, renames and removals are durable */
    int (*lock)(void *ctx);                         /* OK, or E_LOCKED. Freed when the process dies */
    int (*unlock)(void *ctx);
} pagent_dir;

/* How a journal was found when it was opened or verified. */
enum pagent_damage {
    PAGENT_CLEAN = 0,
    PAGENT_DIRTY = 1,         /* stray bits in the zeroed space after the end: scrubbed */
    PAGENT_TORN = 2,          /* a block that was being written: cut off after on_discard has seen it */
    PAGENT_DAMAGE_MIDDLE = 3, /* damage before the end: nothing is written */
    PAGENT_DAMAGE_CHAIN = 4,
    PAGENT_DAMAGE_FOREIGN = 5,
    PAGENT_DAMAGE_SUSPECT = 6,
    PAGENT_DAMAGE_NEWER = 7,
    PAGENT_DAMAGE_LOST_TAIL = 8
};

typedef struct pagent_damage_report {
    uint32_t damage;    /* enum pagent_damage */
    int32_t result;     /* the error it leads to, or OK */
    const char *file;   /* valid during the callback */
    uint64_t offset;    /* bytes from the start of that file */
    uint64_t size;      /* bytes concerned; receipts dropped: how many */
    uint64_t stream;    /* agent, where known; 0: the log */
    uint64_t version;   /* of the block expected there, where known */
    pagent_bytes bytes; /* TORN: what is cut off; a damaged message: all of it */
    int32_t repair_bit; /* SUSPECT: flipping this bit of the block makes it valid; -1: no single bit does */
    char text[PAGENT_TEXT_SIZE];
} pagent_damage_report;

typedef struct pagent_file_options {
    uint32_t size;             /* sizeof(pagent_file_options) */
    uint32_t log_per_agent;    /* 0: one shared log, group commit over all agents; 1: one log for each agent */
    uint32_t read_only;        /* takes no lock, repairs nothing; a live log's first invalid block is its end */
    uint32_t truncate_suspect; /* a SUSPECT tail is cut off like a torn one: the caller has decided */
    uint32_t segment_size;     /* a new segment after so many bytes; 0: as fast opening wants it: 2,200 blocks,
                                  or 4 MiB shared, 1 MiB for an agent */
    uint32_t preallocate_max;  /* 0: 544 KiB; for large batches 4 MiB shared, 1 MiB for an agent */
    /* Told of everything that is not clean, before anything is changed. Optional. */
    void (*on_discard)(void *ctx, const pagent_damage_report *report);
    void *ctx;
} pagent_file_options;

/* The file store: blocks in segments, over any pagent_dir. `dir` is copied; its contexts outlive the store. */
typedef struct pagent_files pagent_files;
PAGENT_API int pagent_open_files(pagent_files **files, const pagent_dir *dir, const pagent_host *host,
                                 const pagent_file_options *options, char text[PAGENT_TEXT_SIZE]);
PAGENT_API pagent_store pagent_files_store(pagent_files *files);
PAGENT_API int pagent_close_files(pagent_files *files); /* seals, syncs, unlocks; reports an error of these */

/* Reads every segment to its end, changes nothing; `report` is called for each finding, also when clean segments
   follow.
   Returns the worst: OK, or E_CORRUPT, E_SUSPECT …; *torn counts tails that opening would repair. */
PAGENT_API int pagent_verify_files(const pagent_dir *dir, const pagent_host *host,
                                   void (*report)(void *ctx, const pagent_damage_report *report), void *ctx,
                                   uint32_t *torn);

/* A message into a directory's inbox, durable when it returns OK; request->id is required and must be unique: E_EXISTS
   while another message, or another's receipt, is there under this id or one of the same hash. The receipt: OK when it
   is there (then it is removed), PENDING while it is not; the newest 1,000 that nobody reads are kept, and on_discard
   is told (damage CLEAN, size: how many) when older ones are dropped. */
PAGENT_API int pagent_send_message(const pagent_dir *dir, const pagent_host *host, const pagent_request *request);
PAGENT_API int pagent_read_receipt(const pagent_dir *dir, const char *id, pagent_receipt *receipt);

/* POSIX: a directory on disk, the heap, the clock, random bytes. Absent with PAGENT_NO_POSIX. WASI will do; but it has
   no locks: the second owner of a directory is not refused there, it fences the first. */
enum pagent_posix_flags {
    PAGENT_POSIX_CREATE = 1,     /* path and path/inbox */
    PAGENT_POSIX_NO_DIR_SYNC = 2 /* for hosts that cannot sync a directory (WASI in wasmtime and in Deno): the names of
                                     files may then not survive a power cut, so take PAGENT_STORE_POWER off the caps */
};
/* On an error `text` (may be NULL) says what and where; E_NOT_FOUND: no such directory. */
PAGENT_API int pagent_open_posix(pagent_dir *dir, const char *path, int flags, char text[PAGENT_TEXT_SIZE]);
PAGENT_API void pagent_close_posix(pagent_dir *dir);
PAGENT_API void pagent_posix_host(pagent_host *host); /* fills size, allocate, random, clock_ms; leaves the others 0 */
/* All in one: the directory, made if there is none (not if read_only), its file store with one shared log, an engine.
   config.store is not looked at; of config.host, size, allocate, random and clock_ms may be 0. pagent_close_engine
   closes them all, and returns an error of closing the store. */
PAGENT_API int pagent_open_path(pagent_engine **engine, const char *path, const pagent_config *config,
                                char text[PAGENT_TEXT_SIZE]);

#ifdef __cplusplus
}
#endif

#endif /* PERSISTENT_AGENT_H */

#ifdef PERSISTENT_AGENT_IMPLEMENTATION
#ifndef PERSISTENT_AGENT_IMPLEMENTED
#define PERSISTENT_AGENT_IMPLEMENTED

/* ================================================================================================================
   [BYTES]  copying, comparing, little-endian numbers, checksums, hashes, growable buffers
   Owns nothing. Nothing here fails but the allocator behind a buffer. */

#ifndef PAGENT_ASSERT /* a caller's mistake or ours; never bad bytes. Define it to your assert; the checks stay either
                         way */
#define PAGENT_ASSERT(condition) ((void)0)
#endif

/* Hosted compilers turn these into calls of memcpy and its kin; a freestanding one gets loops, so that the core needs
   no libc even where the compiler would call it for a struct. */
#if defined(__GNUC__) && (__STDC_HOSTED__ || defined(__wasm_bulk_memory__))
#define PAI_BUILTIN_MEMORY 1
#else
#define PAI_BUILTIN_MEMORY 0
#endif

static void pai_copy(void *to, const void *from, size_t size)
{
#if PAI_BUILTIN_MEMORY
    if (size != 0) (void)__builtin_memcpy(to, from, size);
#else
    uint8_t *t = (uint8_t *)to;
    const uint8_t *f = (const uint8_t *)from;
    while (size-- != 0) *t++ = *f++;
#endif
}

static void pai_move(void *to, const void *from, size_t size)
{
#if PAI_BUILTIN_MEMORY
    if (size != 0) (void)__builtin_memmove(to, from, size);
#else
    uint8_t *t = (uint8_t *)to;
    const uint8_t *f = (const uint8_t *)from;
    if (t < f) {
        while (size-- != 0) *t++ = *f++;
    } else {
        while (size-- != 0) t[size] = f[size];
    }
#endif
}

static void pai_clear(void *to, size_t size)
{
#if PAI_BUILTIN_MEMORY
    if (size != 0) (void)__builtin_memset(to, 0, size);
#else
    volatile uint8_t *t = (volatile uint8_t *)to;
    while (size-- != 0) *t++ = 0;
#endif
}

static int pai_equal(const void *left, const void *right, size_t size)
{
    const uint8_t *l = (const uint8_t *)left, *r = (const uint8_t *)right;
#if PAI_BUILTIN_MEMORY && __STDC_HOSTED__ /* WebAssembly's bulk memory copies and fills, but does not compare */
    return size == 0 || __builtin_memcmp(l, r, size) == 0;
#else
#if PAI_BUILTIN_MEMORY
    for (; size >= 8; size -= 8, l += 8, r += 8) {
        uint64_t a, b;
        (void)__builtin_memcpy(&a, l, 8);
        (void)__builtin_memcpy(&b, r, 8);
        if (a != b) return 0;
    }
#endif
    while (size-- != 0) {
        if (*l++ != *r++) return 0;
    }
    return 1;
#endif
}

static size_t pai_length(const char *text)
{
    const char *end = text;
    if (text == NULL) return 0;
    while (*end != 0) end++;
    return (size_t)(end - text);
}

static int pai_same_text(const char *left, const char *right)
{
    size_t length = pai_length(left);
    return left != NULL && right != NULL && length == pai_length(right) && pai_equal(left, right, length);
}

static uint16_t pai_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (uint32_t)p[1] << 8);
}

static uint32_t pai_get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t pai_get64(const uint8_t *p)
{
    return (uint64_t)pai_get32(p) | (uint64_t)pai_get32(p + 4) << 32;
}

/* Compilers join the bytes of a read by themselves, but not all join those of a write. */
#if PAI_BUILTIN_MEMORY && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
static void pai_put16(uint8_t *p, uint32_t value)
{
    (void)__builtin_memcpy(p, &value, 2);
}

static void pai_put32(uint8_t *p, uint32_t value)
{
    (void)__builtin_memcpy(p, &value, 4);
}

static void pai_put64(uint8_t *p, uint64_t value)
{
    (void)__builtin_memcpy(p, &value, 8);
}
#else
static void pai_put16(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static void pai_put32(uint8_t *p, uint32_t value)
{
    pai_put16(p, value);
    pai_put16(p + 2, value >> 16);
}

static void pai_put64(uint8_t *p, uint64_t value)
{
    pai_put32(p, (uint32_t)value);
    pai_put32(p + 4, (uint32_t)(value >> 32));
}
#endif

/* A text built piece by piece into a fixed buffer: cut at its end, always terminated. */
typedef struct pai_text {
    char *at;
    size_t room; /* without the final zero */
} pai_text;

static pai_text pai_text_begin(char *buffer, size_t size)
{
    pai_text text;
    text.at = buffer;
    text.room = size - 1;
    buffer[0] = 0;
    return text;
}

static void pai_text_add(pai_text *text, const char *piece)
{
    if (piece == NULL) return;
    while (*piece != 0 && text->room != 0) {
        *text->at++ = *piece++;
        text->room--;
    }
    *text->at = 0;
}

static void pai_text_number(pai_text *text, uint64_t number)
{
    char digits[21];
    size_t at = 20;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + (char)(number % 10u));
        number /= 10u;
    } while (number != 0);
    pai_text_add(text, digits + at);
}

static void pai_hex64(char text[17], uint64_t number)
{
    static const char digits[] = "0123456789abcdef";
    int i;
    for (i = 0; i < 16; i++) text[i] = digits[number >> (60 - 4 * i) & 15u];
    text[16] = 0;
}

/* splitmix64: a bijection that spreads every bit of its input over all of its output. */
static uint64_t pai_mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static uint64_t pai_hash(const void *data, size_t size)
{
    const uint8_t *p = (const uint8_t *)data;
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    size_t i;
    for (i = 0; i < size; i++) hash = (hash ^ p[i]) * UINT64_C(0x100000001B3);
    return pai_mix(hash);
}

/* Never 0: that is the log's own stream, and "no id". */
static uint64_t pai_hash_text(const char *text)
{
    uint64_t hash = pai_hash(text, pai_length(text));
    return hash != 0 ? hash : 1;
}

/* CRC-32C (Castagnoli, reflected 0x82F63B78). The tables are built at run time: 8 KiB of constants would not compress
   in a .wasm, and a processor with the instruction never looks at them. */
#if defined(__GNUC__) && defined(__x86_64__) && __STDC_HOSTED__ && !defined(PAGENT_PORTABLE_CRC)
#define PAI_CRC_X86 1
#elif defined(__ARM_FEATURE_CRC32) && defined(__aarch64__) && !defined(PAGENT_PORTABLE_CRC)
#define PAI_CRC_ARM 1
#endif

typedef struct pai_crc {
    uint32_t hardware;
    uint32_t table[8][256]; /* slicing by 8; built only without hardware */
} pai_crc;

static void pai_crc_init(pai_crc *crc)
{
    uint32_t i, k;
#if defined(PAI_CRC_X86)
    crc->hardware = __builtin_cpu_supports("sse4.2") ? 1u : 0u;
#elif defined(PAI_CRC_ARM)
    crc->hardware = 1;
#else
    crc->hardware = 0;
#endif
    if (crc->hardware) return;
    for (i = 0; i < 256; i++) {
        uint32_t c = i;
        for (k = 0; k < 8; k++) c = c >> 1 ^ (UINT32_C(0x82F63B78) & (0u - (c & 1u)));
        crc->table[0][i] = c;
    }
    for (i = 0; i < 256; i++) {
        for (k = 1; k < 8; k++) {
            uint32_t c = crc->table[k - 1][i];
            crc->table[k][i] = c >> 8 ^ crc->table[0][c & 255u];
        }
    }
}

#if defined(PAI_CRC_X86)
__attribute__((target("sse4.2"))) static uint32_t pai_crc_hardware(uint32_t c, const uint8_t *p, size_t size)
{
    uint64_t wide = c;
    for (; size >= 8; p += 8, size -= 8) {
        uint64_t word;
        (void)__builtin_memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    c = (uint32_t)wide;
    for (; size != 0; p++, size--) c = __builtin_ia32_crc32qi(c, *p);
    return c;
}
#elif defined(PAI_CRC_ARM)
static uint32_t pai_crc_hardware(uint32_t c, const uint8_t *p, size_t size)
{
    for (; size >= 8; p += 8, size -= 8) c = __builtin_aarch64_crc32cx(c, pai_get64(p));
    for (; size != 0; p++, size--) c = __builtin_aarch64_crc32cb(c, *p);
    return c;
}
#endif

static uint32_t pai_crc_portable(const pai_crc *crc, uint32_t c, const uint8_t *p, size_t size)
{
    const uint32_t(*t)[256] = crc->table;
    for (; size >= 8; p += 8, size -= 8) {
        uint32_t low = c ^ pai_get32(p), high = pai_get32(p + 4);
        c = t[7][low & 255u] ^ t[6][low >> 8 & 255u] ^ t[5][low >> 16 & 255u] ^ t[4][low >> 24] ^ t[3][high & 255u] ^
            t[2][high >> 8 & 255u] ^ t[1][high >> 16 & 255u] ^ t[0][high >> 24];
    }
    for (; size != 0; p++, size--) c = c >> 8 ^ t[0][(c ^ *p) & 255u];
    return c;
}

/* Continues from the checksum of what came before; 0 at the start. */
static uint32_t pai_crc32c(const pai_crc *crc, uint32_t before, const void *data, size_t size)
{
#if defined(PAI_CRC_X86) || defined(PAI_CRC_ARM)
    if (crc->hardware) return ~pai_crc_hardware(~before, (const uint8_t *)data, size);
#endif
    return ~pai_crc_portable(crc, ~before, (const uint8_t *)data, size);
}

typedef struct pai_heap { /* the host's allocator */
    void *(*allocate)(void *ctx, void *old, size_t old_size, size_t new_size);
    void *ctx;
} pai_heap;

static void *pai_allocate(const pai_heap *heap, size_t size)
{
    void *made = heap->allocate(heap->ctx, NULL, 0, size);
    if (made != NULL) pai_clear(made, size);
    return made;
}

static void pai_free(const pai_heap *heap, void *old, size_t size)
{
    if (old != NULL) (void)heap->allocate(heap->ctx, old, size, 0);
}

typedef struct pai_buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
} pai_buffer;

/* Makes room for `more` bytes behind what is there; grows by half, so that appending stays linear. */
static int pai_reserve(const pai_heap *heap, pai_buffer *buffer, size_t more)
{
    size_t need = buffer->size + more, capacity = buffer->capacity + buffer->capacity / 2;
    void *grown;
    if (need < more) return PAGENT_E_MEMORY;
    if (need <= buffer->capacity) return PAGENT_OK;
    if (capacity < need) capacity = need;
    if (capacity < 64) capacity = 64;
    grown = heap->allocate(heap->ctx, buffer->data, buffer->capacity, capacity);
    if (grown == NULL) return PAGENT_E_MEMORY;
    buffer->data = (uint8_t *)grown;
    buffer->capacity = capacity;
    return PAGENT_OK;
}

static int pai_append_bytes(const pai_heap *heap, pai_buffer *buffer, const void *data, size_t size)
{
    if (size == 0) return PAGENT_OK;
    if (pai_reserve(heap, buffer, size) != PAGENT_OK) return PAGENT_E_MEMORY;
    pai_copy(buffer->data + buffer->size, data, size);
    buffer->size += size;
    return PAGENT_OK;
}

static void pai_free_buffer(const pai_heap *heap, pai_buffer *buffer)
{
    pai_free(heap, buffer->data, buffer->capacity);
    pai_clear(buffer, sizeof *buffer);
}

/* ================================================================================================================
   [BLOCKS]  one commit as bytes: a header line, and payload lines made of sections
   Invariant: what pai_check_block accepts was written whole, at this offset of this log. Nothing here allocates. */

enum {
    PAI_LINE = 64,
    PAI_HEADER = 64,
    PAI_PAYLOAD_MAX = 1 << 28,
    PAI_BASED_MAX = 65535
};
static const uint32_t pai_magic = UINT32_C(0xB7D1A9E5);          /* bytes E5 A9 D1 B7 */
static const uint64_t pai_version_max = (UINT64_C(1) << 53) - 1; /* JavaScript backends hold versions as doubles */

enum pai_type { /* bit 7: older readers may skip the block; clear: they must refuse */
    PAI_LOG = 1,
    PAI_CLAIM = 2,
    PAI_CREATE = 3,
    PAI_COMMIT = 4,
    PAI_ROLLBACK = 5,
    PAI_SNAPSHOT = 6,
    PAI_MOVED = 7,
    PAI_TOMBSTONE = 8,
    PAI_SEAL = 0x81,
    PAI_INDEX = 9,
    PAI_SKIPPABLE = 0x80
};

enum pai_block_flags {
    PAI_CARRIES_SNAPSHOT = 1, /* the block holds the agent's complete state */
    PAI_WHITE = 2             /* the stored payload is whitened */
};

typedef struct pai_block { /* a header, decoded */
    uint64_t log;
    uint64_t stream;
    uint64_t version;
    uint64_t epoch;
    uint64_t previous; /* link of this stream's previous block; 0 for its first */
    uint32_t payload_size;
    uint32_t payload_crc;
    uint32_t type;
    uint32_t flags;
    uint32_t based;    /* versions since the last block that carries a snapshot */
    uint32_t unproven; /* 64-byte lines before this block not known durable when it was written */
} pai_block;

static uint32_t pai_padded(uint32_t payload_size)
{
    return (payload_size + (PAI_LINE - 1u)) & ~(uint32_t)(PAI_LINE - 1);
}

static uint32_t pai_block_size(const pai_block *block)
{
    return PAI_HEADER + pai_padded(block->payload_size);
}

/* The header's checksum covers bytes 8 … 63 and, so that a block in the wrong place fails, its offset in the file. */
static uint32_t pai_header_crc(const pai_crc *crc, const uint8_t *header, uint64_t offset)
{
    uint8_t place[8];
    pai_put64(place, offset);
    return pai_crc32c(crc, pai_crc32c(crc, 0, header + 8, 56), place, 8);
}

/* Writes the 64 header bytes for a payload that already stands, padded, behind them. */
static void pai_encode_header(const pai_crc *crc, uint8_t *block, const pai_block *header, uint64_t offset)
{
    pai_put32(block, pai_magic);
    pai_put64(block + 8, header->log);
    pai_put64(block + 16, header->stream);
    pai_put64(block + 24, header->version);
    pai_put64(block + 32, header->epoch);
    pai_put64(block + 40, header->previous);
    pai_put32(block + 48, header->payload_size);
    pai_put32(block + 52, header->payload_crc);
    block[56] = (uint8_t)header->type;
    block[57] = (uint8_t)header->flags;
    pai_put16(block + 58, header->based);
    pai_put32(block + 60, header->unproven);
    pai_put32(block + 4, pai_header_crc(crc, block, offset));
}

/* Rewrites what belongs to the container, not to the agent: which log, where in it, how much before was durable. */
static void pai_place_block(const pai_crc *crc, uint8_t *block, uint64_t log, uint64_t offset, uint32_t unproven)
{
    pai_put64(block + 8, log);
    pai_put32(block + 60, unproven);
    pai_put32(block + 4, pai_header_crc(crc, block, offset));
}

/* Trusts nothing but the 64 bytes given. OK, or E_CORRUPT: not a header that was written for this offset. */
static int pai_decode_header(const pai_crc *crc, const uint8_t *bytes, uint64_t offset, pai_block *block)
{
    if (pai_get32(bytes) != pai_magic || pai_get32(bytes + 4) != pai_header_crc(crc, bytes, offset)) {
        return PAGENT_E_CORRUPT;
    }
    block->log = pai_get64(bytes + 8);
    block->stream = pai_get64(bytes + 16);
    block->version = pai_get64(bytes + 24);
    block->epoch = pai_get64(bytes + 32);
    block->previous = pai_get64(bytes + 40);
    block->payload_size = pai_get32(bytes + 48);
    block->payload_crc = pai_get32(bytes + 52);
    block->type = bytes[56];
    block->flags = bytes[57];
    block->based = pai_get16(bytes + 58);
    block->unproven = pai_get32(bytes + 60);
    if (block->payload_size == 0 || block->payload_size > PAI_PAYLOAD_MAX || block->version > pai_version_max) {
        return PAGENT_E_CORRUPT;
    }
    return PAGENT_OK;
}

static int pai_check_payload(const pai_crc *crc, const uint8_t *block, const pai_block *header)
{
    uint32_t found = pai_crc32c(crc, 0, block + PAI_HEADER, pai_padded(header->payload_size));
    return found == header->payload_crc ? PAGENT_OK : PAGENT_E_CORRUPT;
}

/* What the next block of the stream names as its predecessor. Canonical bytes only, so it survives copy and export. */
static uint64_t pai_link(const pai_crc *crc, const uint8_t *block)
{
    return (uint64_t)pai_crc32c(crc, 0, block + 16, 44) << 32 | pai_get32(block + 52);
}

static int pai_is_zero_line(const uint8_t *line)
{
    uint32_t i = 0;
    while (i < PAI_LINE && pai_get64(line + i) == 0) i += 8; /* most often the first word tells */
    return i == PAI_LINE;
}

static int pai_has_zero_line(const uint8_t *bytes, size_t size)
{
    size_t at;
    for (at = 0; at + PAI_LINE <= size; at += PAI_LINE) {
        if (pai_is_zero_line(bytes + at)) return 1;
    }
    return 0;
}

/* XOR with a stream that only the block's identity determines; its own inverse. `size` is a multiple of 8. */
static void pai_whiten(uint8_t *payload, size_t size, uint64_t stream, uint64_t version)
{
    uint64_t seed = stream ^ version;
    size_t at;
    for (at = 0; at < size; at += 8) {
        seed += UINT64_C(0x9E3779B97F4A7C15);
        pai_put64(payload + at, pai_get64(payload + at) ^ pai_mix(seed));
    }
}

/* A section: tag, flags (bit 0: a reader that does not know the tag must refuse), size, bytes, zero padding to 8. */
enum pai_tag {
    PAI_TAG_SUMMARY = 1, /* first in every agent's block */
    PAI_TAG_STEP,
    PAI_TAG_EVENT,
    PAI_TAG_CONTEXT,
    PAI_TAG_DELTA,
    PAI_TAG_ENTRY,
    PAI_TAG_EFFECT,
    PAI_TAG_EFFECT_CHANGE,
    PAI_TAG_CLAIM,
    PAI_TAG_IDENTITY,
    PAI_TAG_MACHINE,
    PAI_TAG_MAIL,
    PAI_TAG_MAIL_DONE,
    PAI_TAG_RECEIPT,
    PAI_TAG_ERROR,
    PAI_TAG_STATE,
    PAI_TAG_RUN,
    PAI_TAG_PAD,
    PAI_TAG_LOG = 32, /* from here on stream 0: the container's own */
    PAI_TAG_INDEX,
    PAI_TAG_SEAL,
    PAI_TAG_PORTABLE,
    /* reserved, not written yet: 64 probe, 65 progress, 66 join, 67 rate, 68 budget, 69 undo, 70 child, 71 cron,
       72 migration, 73 blob, 74 codec, 75 mac, 76 token, 77 quorum, 78 escalation */
    PAI_TAG_CRITICAL = 1 /* flag */
};

enum {
    PAI_SECTION = 8,
    PAI_SUMMARY_SIZE = 24
};

typedef struct pai_section {
    uint32_t tag;
    uint32_t flags;
    uint32_t size;
    const uint8_t *data;
} pai_section;

/* The section at *at; moves *at behind it. END when there is none left; E_CORRUPT when it would not fit. */
static int pai_next_section(const uint8_t *payload, uint32_t size, uint32_t *at, pai_section *section)
{
    uint32_t left = size - *at, padded;
    if (left == 0) return PAGENT_END;
    if (left < PAI_SECTION) return PAGENT_E_CORRUPT;
    section->tag = pai_get16(payload + *at);
    section->flags = pai_get16(payload + *at + 2);
    section->size = pai_get32(payload + *at + 4);
    section->data = payload + *at + PAI_SECTION;
    left -= PAI_SECTION;
    if (section->size > left) return PAGENT_E_CORRUPT;
    padded = (section->size + 7u) & ~7u;
    if (padded > left) return PAGENT_E_CORRUPT;
    *at += PAI_SECTION + padded;
    return PAGENT_OK;
}

static void pai_put_section(uint8_t *at, uint32_t tag, uint32_t flags, uint32_t size)
{
    pai_put16(at, tag);
    pai_put16(at + 2, flags);
    pai_put32(at + 4, size);
}

/*  SUMMARY   due_ms:8  time_ms:8  state:2  status:1  flags:1  (zero):4 */
static void pai_put_summary(uint8_t *at, const pagent_summary *summary)
{
    pai_put64(at, summary->due_ms);
    pai_put64(at + 8, summary->time_ms);
    pai_put16(at + 16, summary->state);
    at[18] = summary->status;
    at[19] = summary->flags;
    pai_put32(at + 20, 0);
}

#ifndef PAGENT_NO_FILE
/* The summary of a checked block of an agent, for stores that rebuild their tables from blocks. */
static int pai_block_summary(const uint8_t *block, const pai_block *header, pagent_summary *summary)
{
    uint8_t front[PAI_LINE];
    pai_section section;
    uint32_t at = 0;
    pai_copy(front, block + PAI_HEADER, PAI_LINE);
    if (header->flags & PAI_WHITE) pai_whiten(front, PAI_LINE, header->stream, header->version);
    if (pai_next_section(front, PAI_LINE, &at, &section) != PAGENT_OK) return PAGENT_E_CORRUPT;
    if (section.tag != PAI_TAG_SUMMARY || section.size < PAI_SUMMARY_SIZE) return PAGENT_E_CORRUPT;
    summary->stream = header->stream;
    summary->version = header->version;
    summary->due_ms = pai_get64(section.data);
    summary->time_ms = pai_get64(section.data + 8);
    summary->state = pai_get16(section.data + 16);
    summary->status = section.data[18];
    summary->flags = section.data[19];
    return PAGENT_OK;
}
#endif

/* Finishes a block whose payload (unpadded) stands behind 64 free bytes: pads, whitens if a line is all zero,
   checksums.
   `*payload_size` grows when a PAD section had to be put in, because whitening itself made a zero line. The buffer
   holds 64 + pai_padded(*payload_size + 4 * 16) bytes at least. Fields of `header` that this sets: payload_size,
   payload_crc, flags. */
static void pai_finish_block(const pai_crc *crc, uint8_t *block, pai_block *header, uint32_t *payload_size)
{
    uint8_t *payload = block + PAI_HEADER;
    uint32_t padded = pai_padded(*payload_size), tries;
    pai_clear(payload + *payload_size, padded - *payload_size);
    header->flags &= ~(uint32_t)PAI_WHITE;
    if (pai_has_zero_line(payload, padded)) {
        header->flags |= PAI_WHITE;
        pai_whiten(payload, padded, header->stream, header->version);
        for (tries = 0; tries < 4 && pai_has_zero_line(payload, padded); tries++) {
            uint32_t front = PAI_SECTION + PAI_SUMMARY_SIZE;
            pai_whiten(payload, padded, header->stream, header->version);
            pai_move(payload + front + 16, payload + front, *payload_size - front);
            pai_put_section(payload + front, PAI_TAG_PAD, 0, 8);
            pai_clear(payload + front + 8, 8);
            *payload_size += 16;
            padded = pai_padded(*payload_size);
            pai_clear(payload + *payload_size, padded - *payload_size);
            pai_whiten(payload, padded, header->stream, header->version);
        }
    }
    header->payload_size = *payload_size;
    header->payload_crc = pai_crc32c(crc, 0, payload, padded);
    pai_encode_header(crc, block, header, 0);
}

/* ================================================================================================================
   [STATE]  an agent in memory, and its sections as bytes
   Owns names, context, transcript, outstanding effects, mailbox and receipts of one agent. Invariant: the state is what
   applying its blocks gives, nothing else: a live step changes it by applying the block that the step became, with the
   same function that recovery uses. May fail: E_MEMORY, E_CORRUPT, E_LIMIT; then the state must be dropped and
   reloaded. */

enum {
    PAI_NONE = 0xFFFF
}; /* no state, no name */

enum pai_name_table {
    PAI_STATES,
    PAI_SIGNALS,
    PAI_CALLS,
    PAI_APPROVALS,
    PAI_TIMERS,
    PAI_TABLES
};

/* A machine's names, as the journal carries them:
   hash:8  version:4  counts:2×5  (zero):2  machine\0  states\0…  signals\0…  calls\0…  approvals\0…  timers\0…  */
enum {
    PAI_NAMES_FRONT = 24
};

typedef struct pai_names {
    uint8_t *bytes; /* the section's */
    uint32_t size;
    uint32_t version;
    uint64_t hash;
    uint32_t first[PAI_TABLES]; /* index into text of each table's first name; text[0] is the machine's */
    uint32_t count[PAI_TABLES];
    const char **text;
    uint32_t text_count;
} pai_names;

static void pai_free_names(const pai_heap *heap, pai_names *names)
{
    pai_free(heap, (void *)names->text, names->text_count * sizeof names->text[0]);
    pai_free(heap, names->bytes, names->size);
    pai_clear(names, sizeof *names);
}

static const char *pai_name(const pai_names *names, uint32_t table, uint32_t index)
{
    if (names == NULL || table >= PAI_TABLES || index >= names->count[table]) return "";
    return names->text[names->first[table] + index];
}

static uint32_t pai_find_name(const pai_names *names, uint32_t table, const char *name)
{
    uint32_t i;
    for (i = 0; i < names->count[table]; i++) {
        if (pai_same_text(pai_name(names, table, i), name)) return i;
    }
    return PAI_NONE;
}

/* Copies and checks a MACHINE section. */
static int pai_parse_names(const pai_heap *heap, pai_names *names, const uint8_t *data, uint32_t size)
{
    uint32_t i, at = PAI_NAMES_FRONT, total = 1;
    pai_clear(names, sizeof *names);
    if (size < PAI_NAMES_FRONT + 1u || data[size - 1] != 0) return PAGENT_E_CORRUPT;
    for (i = 0; i < PAI_TABLES; i++) {
        names->first[i] = total;
        names->count[i] = pai_get16(data + 12 + 2 * i);
        total += names->count[i];
    }
    if (total > size - PAI_NAMES_FRONT) return PAGENT_E_CORRUPT;
    names->bytes = (uint8_t *)pai_allocate(heap, size);
    if (names->bytes == NULL) return PAGENT_E_MEMORY;
    names->size = size;
    names->text = (const char **)pai_allocate(heap, total * sizeof names->text[0]);
    if (names->text == NULL) {
        pai_free_names(heap, names);
        return PAGENT_E_MEMORY;
    }
    names->text_count = total;
    pai_copy(names->bytes, data, size);
    names->hash = pai_get64(data);
    names->version = pai_get32(data + 8);
    for (i = 0; i < total && at < size; i++) {
        names->text[i] = (const char *)names->bytes + at;
        at += (uint32_t)pai_length(names->text[i]) + 1;
    }
    if (i == total && at == size) return PAGENT_OK;
    pai_free_names(heap, names);
    return PAGENT_E_CORRUPT;
}

typedef struct pai_effect {
    uint64_t version;
    uint64_t due_ms;
    uint64_t deadline_ms;
    uint64_t nonce[2]; /* of the claim under which it was issued: half of its key */
    uint64_t retry_ms; /* a signal that was turned away: not before; never journaled */
    uint8_t *data;
    uint32_t data_size;
    uint32_t index;
    uint32_t attempt;
    uint16_t name;
    uint8_t kind;
    uint8_t phase;
    uint8_t flags;
    uint8_t released; /* enum pai_released; never journaled */
} pai_effect;

enum pai_released {
    PAI_UNRELEASED,
    PAI_RELEASED, /* begun by this engine, which expects its answer */
    PAI_ANSWERED, /* … which is queued */
    PAI_AWAITED   /* CRASH_WAIT: begun by some engine; the answer may come in weeks, and to any */
};
enum pai_effect_flags {
    PAI_EFFECT_IRREVERSIBLE = 1,
    PAI_EFFECT_REPEATED = 2
};

/*  EFFECT         version:8 index:4 kind:1 phase:1 name:2 attempt:4 flags:4 due:8 deadline:8 nonce:16 data…
                   (a signal's data: addressee\0 payload)
    EFFECT_CHANGE  version:8 index:4 what:1 flags:1 (zero):2 attempt:4 (zero):4 due:8  */
enum {
    PAI_EFFECT_FRONT = 56,
    PAI_CHANGE_SIZE = 32
};
enum pai_change {
    PAI_CHANGE_SETTLED = 1,
    PAI_CHANGE_PAUSED = 2,
    PAI_CHANGE_OPEN = 3,
    PAI_CHANGE_CANCELLED = 4
};
enum pai_change_flags {
    PAI_CHANGE_CROSSED = 1,  /* an irreversible call has succeeded */
    PAI_CHANGE_REPEATED = 2, /* an earlier attempt may have happened */
    PAI_CHANGE_CALL_OFF = 4  /* the host may be working on it: tell it */
};

typedef struct pai_mail { /* an event that waits in the mailbox; its bytes follow the struct */
    uint64_t version;
    uint64_t effect_version;
    uint32_t index;
    uint32_t effect_index;
    uint32_t attempt;
    int32_t code;
    uint32_t who_size; /* with its final zero, or 0 */
    uint32_t data_size;
    uint16_t name;
    uint8_t kind;
    uint8_t tried; /* no row here: wait until the state changes */
} pai_mail;

/*  MAIL       version:8 index:4 kind:1 flags:1 name:2 effect version:8 effect index:4 attempt:4 code:4 who size:4
               who data
    MAIL_DONE  version:8 index:4 (zero):4  */
enum {
    PAI_MAIL_FRONT = 40,
    PAI_MAIL_TRIED = 1
};

static uint8_t *pai_mail_bytes(const pai_mail *mail)
{
    return (uint8_t *)(uintptr_t)(const void *)(mail + 1);
}

typedef struct pai_seen { /* RECEIPT  id:8 version:8 : an id that was answered, and the block that holds the answer */
    uint64_t id;
    uint64_t version; /* with pai_seen_refused when the answer was no */
} pai_seen;

static const uint64_t pai_seen_refused = UINT64_C(1) << 63;

typedef struct pai_run { /* RUN  first:8 last:8 index:4 count:4 : transcript entries that stay in their own blocks */
    uint64_t first_version;
    uint64_t last_version;
    uint32_t first_index;
    uint32_t count;
} pai_run;

typedef struct pai_state {
    const pai_heap *heap;
    const pai_names *names; /* the registered machine's when the hash is the same, else own_names */
    pai_names *own_names;
    char *name; /* one allocation: name\0 parent\0 */
    uint32_t name_size;
    uint32_t parent_at;
    uint64_t stream;
    uint64_t version;
    uint64_t link;
    uint64_t changed; /* version of the last state-changing block */
    uint64_t epoch;
    uint64_t nonce[2]; /* of the last claim */
    uint64_t created_ms;
    uint64_t time_ms;
    uint64_t parent_version;
    uint64_t crossed; /* newest version at which an irreversible call succeeded; 0: none */
    pai_buffer context;
    pai_buffer entries; /* kind:4 size:4 bytes, padded to 8 */
    pai_buffer offsets; /* of each entry, in units of 8 bytes: 4 each */
    pai_effect *effects;
    pai_mail **mails;
    pai_seen *seen; /* oldest first */
    pai_run *runs;
    uint32_t effect_count, effect_capacity;
    uint32_t mail_count, mail_capacity;
    uint32_t run_count, run_capacity;
    uint16_t seen_count, seen_capacity;
    uint16_t leaf; /* the innermost state it is in */
    uint8_t status;
    uint8_t moved_status; /* what it was before MOVED */
    uint16_t crossed_name;
    int32_t error;
    char *error_text;          /* allocated, PAGENT_TEXT_SIZE */
    uint64_t snapshot_version; /* newest block that carries a snapshot … */
    uint32_t snapshot_size;    /* … its size, … */
    uint32_t snapshot_entries; /* … the entries that it knew, … */
    uint64_t since_size;       /* … bytes of blocks after it, … */
    uint64_t since_entries;    /* … and bytes of transcript entries in them */
} pai_state;

static uint32_t pai_entry_count(const pai_state *state)
{
    return (uint32_t)(state->offsets.size / 4);
}

static void pai_entry(const pai_state *state, uint32_t index, pagent_entry *entry)
{
    uint32_t unit;
    const uint8_t *at;
    pai_copy(&unit, state->offsets.data + (size_t)index * 4, 4);
    at = state->entries.data + (size_t)unit * 8;
    entry->kind = pai_get32(at);
    entry->data.size = pai_get32(at + 4);
    entry->data.data = at + 8;
}

static int pai_add_entry(const pai_heap *heap, pai_buffer *entries, pai_buffer *offsets, uint32_t kind,
                         const uint8_t *data, uint32_t size)
{
    size_t padded = 8 + (((size_t)size + 7u) & ~(size_t)7);
    uint32_t unit = (uint32_t)(entries->size / 8);
    if (entries->size / 8 > UINT32_MAX - padded / 8) return PAGENT_E_LIMIT;
    if (pai_reserve(heap, entries, padded) != PAGENT_OK) return PAGENT_E_MEMORY;
    if (pai_append_bytes(heap, offsets, &unit, 4) != PAGENT_OK) return PAGENT_E_MEMORY;
    pai_put32(entries->data + entries->size, kind);
    pai_put32(entries->data + entries->size + 4, size);
    pai_copy(entries->data + entries->size + 8, data, size);
    entries->size += padded;
    return PAGENT_OK;
}

/* Makes room for one more item in an array of the state. Grows by half from one: most agents wait for one thing. */
static int pai_grow(const pai_heap *heap, void **array, uint32_t count, uint32_t *capacity, size_t item)
{
    uint32_t wanted = *capacity + *capacity / 2 + 1;
    void *grown;
    if (count < *capacity) return PAGENT_OK;
    grown = heap->allocate(heap->ctx, *array, *capacity * item, wanted * item);
    if (grown == NULL) return PAGENT_E_MEMORY;
    *array = grown;
    *capacity = wanted;
    return PAGENT_OK;
}

static pai_effect *pai_find_effect(const pai_state *state, uint64_t version, uint32_t index)
{
    uint32_t i;
    for (i = 0; i < state->effect_count; i++) {
        pai_effect *effect = &state->effects[i];
        if (effect->version == version && effect->index == index) return effect;
    }
    return NULL;
}

static void pai_remove_effect(pai_state *state, pai_effect *effect)
{
    uint32_t at = (uint32_t)(effect - state->effects);
    pai_free(state->heap, effect->data, effect->data_size);
    state->effect_count--;
    pai_move(effect, effect + 1, (state->effect_count - at) * sizeof *effect);
}

static void pai_remove_mail(pai_state *state, uint32_t at)
{
    pai_mail *mail = state->mails[at];
    pai_free(state->heap, mail, sizeof *mail + mail->who_size + mail->data_size);
    state->mail_count--;
    pai_move((void *)(state->mails + at), (void *)(state->mails + at + 1),
             (state->mail_count - at) * sizeof state->mails[0]);
}

static uint64_t pai_seen_version(const pai_state *state, uint64_t id)
{
    uint32_t i;
    for (i = 0; i < state->seen_count; i++) {
        if (state->seen[i].id == id) return state->seen[i].version;
    }
    return 0;
}

/* Drops what a snapshot replaces; keeps identity, version and link. */
static void pai_reset_content(pai_state *state)
{
    while (state->effect_count != 0) pai_remove_effect(state, &state->effects[state->effect_count - 1]);
    while (state->mail_count != 0) pai_remove_mail(state, state->mail_count - 1);
    state->seen_count = 0;
    state->run_count = 0;
    state->context.size = 0;
    state->entries.size = 0;
    state->offsets.size = 0;
    state->error = 0;
}

static void pai_free_state(pai_state *state)
{
    const pai_heap *heap = state->heap;
    if (heap == NULL) return;
    pai_reset_content(state);
    pai_free(heap, state->effects, state->effect_capacity * sizeof state->effects[0]);
    pai_free(heap, (void *)state->mails, state->mail_capacity * sizeof state->mails[0]);
    pai_free(heap, state->seen, state->seen_capacity * sizeof state->seen[0]);
    pai_free(heap, state->runs, state->run_capacity * sizeof state->runs[0]);
    pai_free(heap, state->name, state->name_size);
    pai_free(heap, state->error_text, PAGENT_TEXT_SIZE);
    pai_free_buffer(heap, &state->context);
    pai_free_buffer(heap, &state->entries);
    pai_free_buffer(heap, &state->offsets);
    if (state->own_names != NULL) {
        pai_free_names(heap, state->own_names);
        pai_free(heap, state->own_names, sizeof *state->own_names);
    }
    pai_clear(state, sizeof *state);
    state->heap = heap;
}

static int pai_set_error(pai_state *state, int32_t code, const char *text, size_t size)
{
    state->error = code;
    if (state->error_text == NULL) {
        state->error_text = (char *)pai_allocate(state->heap, PAGENT_TEXT_SIZE);
        if (state->error_text == NULL) return PAGENT_E_MEMORY;
    }
    if (size > PAGENT_TEXT_SIZE - 1) size = PAGENT_TEXT_SIZE - 1;
    pai_copy(state->error_text, text, size);
    state->error_text[size] = 0;
    return PAGENT_OK;
}

static int pai_set_identity(pai_state *state, const char *name, size_t name_size, const char *parent,
                            size_t parent_size)
{
    char *made = (char *)pai_allocate(state->heap, name_size + parent_size + 2);
    if (made == NULL) return PAGENT_E_MEMORY;
    pai_copy(made, name, name_size);
    pai_copy(made + name_size + 1, parent, parent_size);
    pai_free(state->heap, state->name, state->name_size);
    state->name = made;
    state->name_size = (uint32_t)(name_size + parent_size + 2);
    state->parent_at = (uint32_t)name_size + 1;
    return PAGENT_OK;
}

/* ---- sections into the state ---- */

/*  IDENTITY  parent version:8 created:8 name size:2 parent size:2 (zero):4 name parent  */
static int pai_apply_identity(pai_state *state, const pai_section *section)
{
    uint32_t name_size, parent_size;
    const char *text = (const char *)section->data + 24;
    if (section->size < 24) return PAGENT_E_CORRUPT;
    name_size = pai_get16(section->data + 16);
    parent_size = pai_get16(section->data + 18);
    if (name_size == 0 || name_size > PAGENT_NAME_MAX || parent_size > PAGENT_NAME_MAX ||
        section->size != 24 + name_size + parent_size) {
        return PAGENT_E_CORRUPT;
    }
    state->parent_version = pai_get64(section->data);
    state->created_ms = pai_get64(section->data + 8);
    return pai_set_identity(state, text, name_size, text + name_size, parent_size);
}

static int pai_apply_machine(pai_state *state, const pai_section *section)
{
    pai_names *names;
    int result;
    if (section->size < PAI_NAMES_FRONT) return PAGENT_E_CORRUPT;
    if (state->names != NULL && state->names->hash == pai_get64(section->data)) return PAGENT_OK;
    if (state->own_names == NULL) {
        state->own_names = (pai_names *)pai_allocate(state->heap, sizeof *state->own_names);
        if (state->own_names == NULL) return PAGENT_E_MEMORY;
    } else {
        pai_free_names(state->heap, state->own_names);
    }
    names = state->own_names;
    result = pai_parse_names(state->heap, names, section->data, section->size);
    state->names = result == PAGENT_OK ? names : NULL;
    return result;
}

/* A named timer is there once: setting it again replaces it. */
static void pai_replace_timer(pai_state *state, uint32_t name)
{
    uint32_t i;
    for (i = 0; i < state->effect_count; i++) {
        pai_effect *effect = &state->effects[i];
        if (effect->kind != PAGENT_EFFECT_TIMER || effect->name != name) continue;
        pai_remove_effect(state, effect);
        return;
    }
}

/* A signal's data begins with its addressee, ended by a zero. */
static int pai_has_zero(const uint8_t *data, uint32_t size)
{
    while (size != 0 && *data != 0) {
        data++;
        size--;
    }
    return size != 0;
}

static void pai_parse_effect(const pai_section *section, pai_effect *effect)
{
    const uint8_t *p = section->data;
    pai_clear(effect, sizeof *effect);
    effect->version = pai_get64(p);
    effect->index = pai_get32(p + 8);
    effect->kind = p[12];
    effect->phase = p[13];
    effect->name = pai_get16(p + 14);
    effect->attempt = pai_get32(p + 16);
    effect->flags = p[20];
    effect->due_ms = pai_get64(p + 24);
    effect->deadline_ms = pai_get64(p + 32);
    effect->nonce[0] = pai_get64(p + 40);
    effect->nonce[1] = pai_get64(p + 48);
    effect->data_size = section->size - PAI_EFFECT_FRONT;
}

static int pai_apply_effect(pai_state *state, const pai_section *section)
{
    const uint8_t *data = section->data + PAI_EFFECT_FRONT;
    pai_effect effect;
    if (section->size < PAI_EFFECT_FRONT) return PAGENT_E_CORRUPT;
    pai_parse_effect(section, &effect);
    if (effect.kind < PAGENT_EFFECT_CALL || effect.kind > PAGENT_EFFECT_SIGNAL || effect.phase < PAGENT_PHASE_OPEN ||
        effect.phase > PAGENT_PHASE_HELD ||
        (effect.kind == PAGENT_EFFECT_SIGNAL && !pai_has_zero(data, effect.data_size))) {
        return PAGENT_E_CORRUPT;
    }
    if (effect.kind == PAGENT_EFFECT_TIMER) pai_replace_timer(state, effect.name);
    if (pai_grow(state->heap, (void **)&state->effects, state->effect_count, &state->effect_capacity, sizeof effect) !=
        PAGENT_OK) {
        return PAGENT_E_MEMORY;
    }
    if (effect.data_size != 0) {
        effect.data = (uint8_t *)state->heap->allocate(state->heap->ctx, NULL, 0, effect.data_size);
        if (effect.data == NULL) return PAGENT_E_MEMORY;
        pai_copy(effect.data, data, effect.data_size);
    }
    pai_copy(&state->effects[state->effect_count++], &effect, sizeof effect);
    return PAGENT_OK;
}

static int pai_apply_change(pai_state *state, const pai_section *section)
{
    const uint8_t *p = section->data;
    pai_effect *effect;
    if (section->size != PAI_CHANGE_SIZE) return PAGENT_E_CORRUPT;
    effect = pai_find_effect(state, pai_get64(p), pai_get32(p + 8));
    if (effect == NULL) return PAGENT_E_CORRUPT;
    if (p[13] & PAI_CHANGE_CROSSED) {
        state->crossed = state->version + 1;
        state->crossed_name = effect->name;
    }
    if (p[12] == PAI_CHANGE_SETTLED || p[12] == PAI_CHANGE_CANCELLED) {
        pai_remove_effect(state, effect);
        return PAGENT_OK;
    }
    if (p[12] != PAI_CHANGE_PAUSED && p[12] != PAI_CHANGE_OPEN) return PAGENT_E_CORRUPT;
    effect->phase = p[12] == PAI_CHANGE_OPEN ? PAGENT_PHASE_OPEN : PAGENT_PHASE_PAUSED;
    effect->attempt = pai_get32(p + 16);
    effect->due_ms = pai_get64(p + 24);
    effect->released = PAI_UNRELEASED;
    if (p[13] & PAI_CHANGE_REPEATED) effect->flags |= PAI_EFFECT_REPEATED;
    return PAGENT_OK;
}

static int pai_apply_mail(pai_state *state, const pai_section *section)
{
    const uint8_t *p = section->data;
    uint32_t bytes = section->size - PAI_MAIL_FRONT, who_size;
    pai_mail *mail;
    if (section->size < PAI_MAIL_FRONT) return PAGENT_E_CORRUPT;
    who_size = pai_get32(p + 36);
    if (who_size > bytes || (who_size != 0 && p[PAI_MAIL_FRONT + who_size - 1] != 0)) return PAGENT_E_CORRUPT;
    if (pai_grow(state->heap, (void **)&state->mails, state->mail_count, &state->mail_capacity,
                 sizeof state->mails[0]) != PAGENT_OK) {
        return PAGENT_E_MEMORY;
    }
    mail = (pai_mail *)pai_allocate(state->heap, sizeof *mail + bytes);
    if (mail == NULL) return PAGENT_E_MEMORY;
    mail->version = pai_get64(p);
    mail->index = pai_get32(p + 8);
    mail->kind = p[12];
    mail->tried = p[13] & PAI_MAIL_TRIED;
    mail->name = pai_get16(p + 14);
    mail->effect_version = pai_get64(p + 16);
    mail->effect_index = pai_get32(p + 24);
    mail->attempt = pai_get32(p + 28);
    mail->code = (int32_t)pai_get32(p + 32);
    mail->who_size = who_size;
    mail->data_size = bytes - who_size;
    pai_copy(pai_mail_bytes(mail), p + PAI_MAIL_FRONT, bytes);
    state->mails[state->mail_count++] = mail;
    return PAGENT_OK;
}

static int pai_apply_mail_done(pai_state *state, const pai_section *section)
{
    uint32_t i;
    if (section->size != 16) return PAGENT_E_CORRUPT;
    for (i = 0; i < state->mail_count; i++) {
        if (state->mails[i]->version == pai_get64(section->data) &&
            state->mails[i]->index == pai_get32(section->data + 8)) {
            pai_remove_mail(state, i);
            return PAGENT_OK;
        }
    }
    return PAGENT_E_CORRUPT;
}

/* The window slides: `window` ids are kept, the oldest goes first. */
static int pai_apply_receipt(pai_state *state, const pai_section *section, uint32_t window)
{
    if (section->size != 16) return PAGENT_E_CORRUPT;
    if (state->seen_capacity < window) {
        void *grown = state->heap->allocate(state->heap->ctx, state->seen, state->seen_capacity * sizeof(pai_seen),
                                            window * sizeof(pai_seen));
        if (grown == NULL) return PAGENT_E_MEMORY;
        state->seen = (pai_seen *)grown;
        state->seen_capacity = (uint16_t)window;
    }
    while (state->seen_count >= window) {
        pai_move(state->seen, state->seen + 1, (state->seen_count - 1u) * sizeof(pai_seen));
        state->seen_count--;
    }
    state->seen[state->seen_count].id = pai_get64(section->data);
    state->seen[state->seen_count].version = pai_get64(section->data + 8);
    state->seen_count++;
    return PAGENT_OK;
}

static int pai_set_context(pai_state *state, const uint8_t *data, uint32_t size)
{
    state->context.size = 0;
    return pai_append_bytes(state->heap, &state->context, data, size);
}

/*  DELTA  crc of what is replaced:4 count:2 (zero):2  then count × { offset:4 delete:4 insert:4 }  then the
           inserted bytes
    Offsets are into the context as it is when the splice's turn comes; ascending. */
static int pai_apply_delta(pai_state *state, const pai_crc *crc, const pai_section *section)
{
    const uint8_t *p = section->data, *end = section->data + section->size, *from;
    uint32_t count, i, check = 0;
    uint64_t inserted = 0;
    if (section->size < 8) return PAGENT_E_CORRUPT;
    if (pai_reserve(state->heap, &state->context, 1) != PAGENT_OK) return PAGENT_E_MEMORY; /* so that it is not NULL */
    count = pai_get16(p + 4);
    if (count > (section->size - 8) / 12) return PAGENT_E_CORRUPT;
    from = p + 8 + 12 * count;
    for (i = 0; i < count; i++) inserted += pai_get32(p + 8 + 12 * i + 8);
    if (inserted != (uint64_t)(end - from)) return PAGENT_E_CORRUPT;
    for (i = 0; i < count; i++) {
        const uint8_t *splice = p + 8 + 12 * i;
        uint32_t offset = pai_get32(splice), gone = pai_get32(splice + 4), come = pai_get32(splice + 8);
        size_t after;
        if (offset > state->context.size || gone > state->context.size - offset) return PAGENT_E_CORRUPT;
        check = pai_crc32c(crc, check, state->context.data + offset, gone);
        if (come > gone && pai_reserve(state->heap, &state->context, come - gone) != PAGENT_OK) return PAGENT_E_MEMORY;
        after = state->context.size - offset - gone;
        pai_move(state->context.data + offset + come, state->context.data + offset + gone, after);
        pai_copy(state->context.data + offset, from, come);
        state->context.size = offset + come + after;
        from += come;
    }
    return check == pai_get32(p) ? PAGENT_OK : PAGENT_E_CORRUPT;
}

static int pai_apply_run(pai_state *state, const pai_section *section)
{
    pai_run *run;
    if (section->size != 24) return PAGENT_E_CORRUPT;
    if (pai_grow(state->heap, (void **)&state->runs, state->run_count, &state->run_capacity, sizeof *run) !=
        PAGENT_OK) {
        return PAGENT_E_MEMORY;
    }
    run = &state->runs[state->run_count++];
    run->first_version = pai_get64(section->data);
    run->last_version = pai_get64(section->data + 8);
    run->first_index = pai_get32(section->data + 16);
    run->count = pai_get32(section->data + 20);
    return run->first_version <= run->last_version ? PAGENT_OK : PAGENT_E_CORRUPT;
}

/*  STATE  changed:8 created:8 entries:4 status before MOVED:1 (zero):1 crossed call:2 crossed version:8  */
static int pai_apply_state(pai_state *state, const pai_section *section)
{
    if (section->size != 32) return PAGENT_E_CORRUPT;
    state->changed = pai_get64(section->data);
    state->created_ms = pai_get64(section->data + 8);
    state->snapshot_entries = pai_get32(section->data + 16);
    state->moved_status = section->data[20];
    state->crossed_name = pai_get16(section->data + 22);
    state->crossed = pai_get64(section->data + 24);
    return PAGENT_OK;
}

static int pai_apply_summary(pai_state *state, const pai_section *section)
{
    uint16_t leaf;
    uint32_t i;
    if (section->size != PAI_SUMMARY_SIZE) return PAGENT_E_CORRUPT;
    leaf = pai_get16(section->data + 16);
    if (leaf != state->leaf || (state->status == PAGENT_PARKED && section->data[18] != PAGENT_PARKED)) {
        for (i = 0; i < state->mail_count; i++) state->mails[i]->tried = 0;
    }
    if (section->data[18] == PAGENT_MOVED && state->status != PAGENT_MOVED) state->moved_status = state->status;
    state->time_ms = pai_get64(section->data + 8);
    state->leaf = leaf;
    state->status = section->data[18];
    if (state->status != PAGENT_PARKED && state->status != PAGENT_FAILED_STATUS && state->status != PAGENT_MOVED) {
        state->error = 0;
    }
    return PAGENT_OK;
}

typedef struct pai_apply { /* how to apply a block */
    const pai_crc *crc;
    uint32_t window;     /* dedupe window */
    uint32_t live;       /* the handler has changed the context already */
    uint32_t only_runs;  /* a SNAPSHOT met in sequence: the state is there, only the bookkeeping changes */
    pai_buffer *scratch; /* for a whitened payload */
} pai_apply;

static int pai_apply_section(pai_state *state, const pai_section *section, const pai_apply *how)
{
    switch (section->tag) {
    case PAI_TAG_SUMMARY: return pai_apply_summary(state, section);
    case PAI_TAG_STATE: return pai_apply_state(state, section);
    case PAI_TAG_IDENTITY: return pai_apply_identity(state, section);
    case PAI_TAG_MACHINE: return pai_apply_machine(state, section);
    case PAI_TAG_EFFECT: return pai_apply_effect(state, section);
    case PAI_TAG_EFFECT_CHANGE: return pai_apply_change(state, section);
    case PAI_TAG_MAIL: return pai_apply_mail(state, section);
    case PAI_TAG_MAIL_DONE: return pai_apply_mail_done(state, section);
    case PAI_TAG_RECEIPT: return pai_apply_receipt(state, section, how->window);
    case PAI_TAG_RUN: return pai_apply_run(state, section);
    case PAI_TAG_CONTEXT: return how->live ? PAGENT_OK : pai_set_context(state, section->data, section->size);
    case PAI_TAG_DELTA: return how->live ? PAGENT_OK : pai_apply_delta(state, how->crc, section);
    case PAI_TAG_CLAIM:
        if (section->size != 16) return PAGENT_E_CORRUPT;
        state->nonce[0] = pai_get64(section->data);
        state->nonce[1] = pai_get64(section->data + 8);
        return PAGENT_OK;
    case PAI_TAG_ENTRY:
        if (section->size < 4) return PAGENT_E_CORRUPT;
        state->since_entries += section->size;
        return pai_add_entry(state->heap, &state->entries, &state->offsets, pai_get32(section->data), section->data + 4,
                             section->size - 4);
    case PAI_TAG_ERROR:
        if (section->size < 4) return PAGENT_E_CORRUPT;
        return pai_set_error(state, (int32_t)pai_get32(section->data), (const char *)section->data + 4,
                             section->size - 4);
    case PAI_TAG_STEP:
    case PAI_TAG_EVENT:
    case PAI_TAG_PAD: return PAGENT_OK;
    default: return section->flags & PAI_TAG_CRITICAL ? PAGENT_E_NEWER : PAGENT_OK;
    }
}

/* The payload of a checked block without its whitening: in place, or in `scratch`. NULL: no memory. */
static const uint8_t *pai_plain_payload(const pai_heap *heap, const uint8_t *block, const pai_block *header,
                                        pai_buffer *scratch)
{
    uint32_t padded = pai_padded(header->payload_size);
    if (!(header->flags & PAI_WHITE)) return block + PAI_HEADER;
    scratch->size = 0;
    if (pai_append_bytes(heap, scratch, block + PAI_HEADER, padded) != PAGENT_OK) return NULL;
    pai_whiten(scratch->data, padded, header->stream, header->version);
    return scratch->data;
}

/* The sections of one block. Its version and chain have been verified, its payload is plain. */
static int pai_apply_payload(pai_state *state, const uint8_t *payload, uint32_t size, const pai_apply *how)
{
    uint32_t at = 0;
    pai_section section;
    int result;
    if (how->only_runs) state->run_count = 0;
    while ((result = pai_next_section(payload, size, &at, &section)) == PAGENT_OK) {
        if (how->only_runs && section.tag != PAI_TAG_RUN) continue;
        result = pai_apply_section(state, &section, how);
        if (result != PAGENT_OK) return result;
    }
    return result == PAGENT_END ? PAGENT_OK : result;
}

/* What the header says, after the payload has been applied. */
static void pai_apply_header(pai_state *state, const pai_block *header, uint64_t link)
{
    state->stream = header->stream;
    state->version = header->version;
    state->epoch = header->epoch;
    state->link = link;
    if (header->type == PAI_CREATE || header->type == PAI_COMMIT || header->type == PAI_ROLLBACK ||
        header->type == PAI_MOVED) {
        state->changed = header->version;
    }
    if (header->flags & PAI_CARRIES_SNAPSHOT) {
        state->snapshot_version = header->version;
        state->snapshot_size = pai_block_size(header);
        if (header->type == PAI_CREATE) state->snapshot_entries = pai_entry_count(state);
        state->since_size = 0;
        state->since_entries = 0;
    } else {
        state->since_size += pai_block_size(header);
    }
}

/* A whole checked block, as recovery meets it. A SNAPSHOT in sequence (only_runs) changes nothing but the bookkeeping.
   */
static int pai_apply_block(pai_state *state, const uint8_t *block, const pai_block *header, uint64_t link,
                           const pai_apply *how)
{
    const uint8_t *payload = pai_plain_payload(state->heap, block, header, how->scratch);
    int result;
    if (payload == NULL) return PAGENT_E_MEMORY;
    if ((header->flags & PAI_CARRIES_SNAPSHOT) && !how->only_runs) pai_reset_content(state);
    result = pai_apply_payload(state, payload, header->payload_size, how);
    if (result != PAGENT_OK) return result;
    pai_apply_header(state, header, link);
    if (how->only_runs) state->snapshot_entries = pai_entry_count(state);
    return state->name != NULL && state->names != NULL ? PAGENT_OK : PAGENT_E_CORRUPT;
}

/* ---- the state into sections ---- */

/* A new section of `size` bytes behind the block in `out`, zeroed with its padding. NULL: no memory. The pointer holds
   until the next section. */
static uint8_t *pai_add_section(const pai_heap *heap, pai_buffer *out, uint32_t tag, uint32_t size)
{
    uint32_t padded = (size + 7u) & ~7u;
    uint8_t *at;
    if (size > PAI_PAYLOAD_MAX || pai_reserve(heap, out, PAI_SECTION + (size_t)padded) != PAGENT_OK) return NULL;
    at = out->data + out->size;
    pai_put_section(at, tag, PAI_TAG_CRITICAL, size);
    if (padded != size) pai_clear(at + PAI_SECTION + size, padded - size);
    out->size += PAI_SECTION + (size_t)padded;
    return at + PAI_SECTION;
}

static int pai_add_bytes_section(const pai_heap *heap, pai_buffer *out, uint32_t tag, const void *data, uint32_t size)
{
    uint8_t *at = pai_add_section(heap, out, tag, size);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_copy(at, data, size);
    return PAGENT_OK;
}

static int pai_add_identity(const pai_heap *heap, pai_buffer *out, const pai_state *state)
{
    uint32_t name_size = (uint32_t)pai_length(state->name), parent_size;
    const char *parent = state->name + state->parent_at;
    uint8_t *at;
    parent_size = (uint32_t)pai_length(parent);
    at = pai_add_section(heap, out, PAI_TAG_IDENTITY, 24 + name_size + parent_size);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put64(at, state->parent_version);
    pai_put64(at + 8, state->created_ms);
    pai_put16(at + 16, name_size);
    pai_put16(at + 18, parent_size);
    pai_put32(at + 20, 0);
    pai_copy(at + 24, state->name, name_size);
    pai_copy(at + 24 + name_size, parent, parent_size);
    return PAGENT_OK;
}

static int pai_add_claim(const pai_heap *heap, pai_buffer *out, const uint64_t nonce[2])
{
    uint8_t *at = pai_add_section(heap, out, PAI_TAG_CLAIM, 16);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put64(at, nonce[0]);
    pai_put64(at + 8, nonce[1]);
    return PAGENT_OK;
}

static int pai_add_state(const pai_heap *heap, pai_buffer *out, const pai_state *state)
{
    uint8_t *at = pai_add_section(heap, out, PAI_TAG_STATE, 32);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_clear(at, 32);
    pai_put64(at, state->changed);
    pai_put64(at + 8, state->created_ms);
    pai_put32(at + 16, pai_entry_count(state));
    at[20] = state->moved_status;
    pai_put16(at + 22, state->crossed_name);
    pai_put64(at + 24, state->crossed);
    return PAGENT_OK;
}

static int pai_add_effect(const pai_heap *heap, pai_buffer *out, const pai_effect *effect)
{
    uint8_t *at;
    if (effect->data_size > (uint32_t)PAI_PAYLOAD_MAX - (uint32_t)PAI_EFFECT_FRONT) return PAGENT_E_LIMIT;
    at = pai_add_section(heap, out, PAI_TAG_EFFECT, PAI_EFFECT_FRONT + effect->data_size);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put64(at, effect->version);
    pai_put32(at + 8, effect->index);
    at[12] = effect->kind;
    at[13] = effect->phase;
    pai_put16(at + 14, effect->name);
    pai_put32(at + 16, effect->attempt);
    pai_put32(at + 20, effect->flags);
    pai_put64(at + 24, effect->due_ms);
    pai_put64(at + 32, effect->deadline_ms);
    pai_put64(at + 40, effect->nonce[0]);
    pai_put64(at + 48, effect->nonce[1]);
    pai_copy(at + PAI_EFFECT_FRONT, effect->data, effect->data_size);
    return PAGENT_OK;
}

static int pai_add_change(const pai_heap *heap, pai_buffer *out, const pai_effect *effect, uint32_t what,
                          uint32_t flags, uint32_t attempt, uint64_t due_ms)
{
    uint8_t *at = pai_add_section(heap, out, PAI_TAG_EFFECT_CHANGE, PAI_CHANGE_SIZE);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_clear(at, PAI_CHANGE_SIZE);
    pai_put64(at, effect->version);
    pai_put32(at + 8, effect->index);
    at[12] = (uint8_t)what;
    at[13] = (uint8_t)flags;
    pai_put32(at + 16, attempt);
    pai_put64(at + 24, due_ms);
    return PAGENT_OK;
}

/* `bytes` is who, then data. */
static int pai_add_mail(const pai_heap *heap, pai_buffer *out, const pai_mail *mail, const void *who, const void *data)
{
    uint8_t *at;
    if (mail->data_size > (uint32_t)PAI_PAYLOAD_MAX - (uint32_t)PAI_MAIL_FRONT - 256u) return PAGENT_E_LIMIT;
    at = pai_add_section(heap, out, PAI_TAG_MAIL, PAI_MAIL_FRONT + mail->who_size + mail->data_size);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put64(at, mail->version);
    pai_put32(at + 8, mail->index);
    at[12] = mail->kind;
    at[13] = mail->tried ? PAI_MAIL_TRIED : 0;
    pai_put16(at + 14, mail->name);
    pai_put64(at + 16, mail->effect_version);
    pai_put32(at + 24, mail->effect_index);
    pai_put32(at + 28, mail->attempt);
    pai_put32(at + 32, (uint32_t)mail->code);
    pai_put32(at + 36, mail->who_size);
    pai_copy(at + PAI_MAIL_FRONT, who, mail->who_size);
    pai_copy(at + PAI_MAIL_FRONT + mail->who_size, data, mail->data_size);
    return PAGENT_OK;
}

static int pai_add_mail_done(const pai_heap *heap, pai_buffer *out, uint64_t version, uint32_t index)
{
    uint8_t *at = pai_add_section(heap, out, PAI_TAG_MAIL_DONE, 16);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put64(at, version);
    pai_put64(at + 8, index);
    return PAGENT_OK;
}

static int pai_add_receipt(const pai_heap *heap, pai_buffer *out, uint64_t id, uint64_t version)
{
    uint8_t *at = pai_add_section(heap, out, PAI_TAG_RECEIPT, 16);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put64(at, id);
    pai_put64(at + 8, version);
    return PAGENT_OK;
}

static int pai_add_error(const pai_heap *heap, pai_buffer *out, int32_t code, const char *text)
{
    uint32_t size = (uint32_t)pai_length(text);
    uint8_t *at = pai_add_section(heap, out, PAI_TAG_ERROR, 4 + size);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put32(at, (uint32_t)code);
    pai_copy(at + 4, text, size);
    return PAGENT_OK;
}

static int pai_add_entry_section(const pai_heap *heap, pai_buffer *out, uint32_t kind, const void *data, uint32_t size)
{
    uint8_t *at = size > PAI_PAYLOAD_MAX - 4 ? NULL : pai_add_section(heap, out, PAI_TAG_ENTRY, 4 + size);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put32(at, kind);
    pai_copy(at + 4, data, size);
    return PAGENT_OK;
}

static int pai_add_run(const pai_heap *heap, pai_buffer *out, const pai_run *run)
{
    uint8_t *at = pai_add_section(heap, out, PAI_TAG_RUN, 24);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put64(at, run->first_version);
    pai_put64(at + 8, run->last_version);
    pai_put32(at + 16, run->first_index);
    pai_put32(at + 20, run->count);
    return PAGENT_OK;
}

/* A step's context change: runs of differing 64-byte lines, trimmed to the differing bytes; at most `splices_max`, the
   last one taking the rest. Nothing is added when nothing differs. */
static int pai_add_delta(const pai_heap *heap, pai_buffer *out, const pai_crc *crc, const pai_buffer *before,
                         const pai_buffer *after, uint32_t splices_max)
{
    struct {
        size_t offset, gone, come;
    } splice[16];
    size_t common = before->size < after->size ? before->size : after->size, at = 0, bytes = 0;
    uint32_t count = 0, i, check = 0;
    uint8_t *to;
    PAGENT_ASSERT(splices_max >= 1 && splices_max <= 16);
    while (at < common) {
        size_t line = common - at < PAI_LINE ? common - at : (size_t)PAI_LINE, first, end;
        if (pai_equal(before->data + at, after->data + at, line)) {
            at += line;
            continue;
        }
        first = at;
        while (before->data[first] == after->data[first]) first++;
        do {
            at += line;
            line = common - at < PAI_LINE ? common - at : (size_t)PAI_LINE;
        } while (at < common && (count + 1 == splices_max || !pai_equal(before->data + at, after->data + at, line)));
        end = at;
        while (before->data[end - 1] == after->data[end - 1]) end--;
        splice[count].offset = first;
        splice[count].gone = splice[count].come = end - first;
        count++;
    }
    if (before->size != after->size) { /* the tail that one of them has more */
        if (count != 0 && count == splices_max) {
            size_t start = splice[count - 1].offset;
            splice[count - 1].gone = before->size - start;
            splice[count - 1].come = after->size - start;
        } else {
            splice[count].offset = common;
            splice[count].gone = before->size - common;
            splice[count].come = after->size - common;
            count++;
        }
    }
    if (count == 0) return PAGENT_OK;
    for (i = 0; i < count; i++) bytes += splice[i].come;
    if (bytes > PAI_PAYLOAD_MAX - 1024) return PAGENT_E_LIMIT;
    to = pai_add_section(heap, out, PAI_TAG_DELTA, (uint32_t)(8 + 12 * count + bytes));
    if (to == NULL) return PAGENT_E_MEMORY;
    pai_put16(to + 4, count);
    pai_put16(to + 6, 0);
    bytes = 8 + 12 * (size_t)count;
    for (i = 0; i < count; i++) {
        check = pai_crc32c(crc, check, before->data + splice[i].offset, splice[i].gone);
        pai_put32(to + 8 + 12 * i, (uint32_t)splice[i].offset);
        pai_put32(to + 12 + 12 * i, (uint32_t)splice[i].gone);
        pai_put32(to + 16 + 12 * i, (uint32_t)splice[i].come);
        pai_copy(to + bytes, after->data + splice[i].offset, splice[i].come);
        bytes += splice[i].come;
    }
    pai_put32(to, check);
    return PAGENT_OK;
}

/* When the next look at this agent is due, and what a new owner must know before it loads it. */
static void pai_make_summary(const pai_state *state, pagent_summary *summary)
{
    uint32_t i, ended = state->status == PAGENT_DONE || state->status == PAGENT_FAILED_STATUS ||
                        state->status == PAGENT_CANCELLED;
    pai_clear(summary, sizeof *summary);
    summary->stream = state->stream;
    summary->version = state->version;
    summary->time_ms = state->time_ms;
    summary->due_ms = PAGENT_FOREVER;
    summary->state = state->leaf;
    summary->status = state->status;
    if (state->run_count != 0) summary->flags |= PAGENT_HAS_RUNS;
    if (state->status == PAGENT_MOVED) return;
    for (i = 0; i < state->effect_count; i++) {
        const pai_effect *effect = &state->effects[i];
        if (effect->kind == PAGENT_EFFECT_CALL) summary->flags |= PAGENT_HAS_CALLS;
        if (effect->kind == PAGENT_EFFECT_APPROVAL) summary->flags |= PAGENT_HAS_APPROVALS;
        if (effect->kind == PAGENT_EFFECT_TIMER) summary->flags |= PAGENT_HAS_TIMERS;
        if (effect->kind == PAGENT_EFFECT_SIGNAL || effect->phase == PAGENT_PHASE_HELD) {
            summary->flags |= PAGENT_HAS_WORK;
        }
        if (effect->due_ms < summary->due_ms && state->status != PAGENT_PARKED) summary->due_ms = effect->due_ms;
    }
    for (i = 0; i < state->mail_count && !ended && state->status != PAGENT_PARKED; i++) {
        if (!state->mails[i]->tried) summary->flags |= PAGENT_HAS_WORK;
    }
}

/* Whether the entries since the last snapshot can stay where they are: when at least a quarter of the bytes there are
   theirs, reading them back costs little. */
static int pai_entries_are_dense(const pai_state *state)
{
    return state->since_entries * 4 >= state->since_size && state->since_entries != 0;
}

/* The transcript, in order: runs for what stays in its own blocks, entries for the rest. */
static int pai_add_transcript(const pai_heap *heap, pai_buffer *out, const pai_state *state, int inline_all)
{
    uint32_t count = pai_entry_count(state), at = 0, run = 0;
    pai_run last;
    int use_last = !inline_all && pai_entries_are_dense(state) && state->version > state->snapshot_version;
    pagent_entry entry;
    pai_clear(&last, sizeof last);
    if (use_last) {
        last.first_version = state->snapshot_version + 1;
        last.last_version = state->version;
        last.first_index = state->snapshot_entries;
        last.count = count - state->snapshot_entries;
    }
    while (at < count || (!inline_all && run < state->run_count)) {
        pai_run next = last;
        if (!inline_all && run < state->run_count && state->runs[run].first_index == at) {
            next = state->runs[run++];
            if (use_last && run == state->run_count && next.first_index + next.count == last.first_index &&
                next.last_version + 1 ==
                    state->snapshot_version) { /* the snapshot between them is skipped by readers */
                next.last_version = last.last_version;
                next.count += last.count;
            }
        } else if (!use_last || at != last.first_index) {
            pai_entry(state, at++, &entry);
            if (pai_add_entry_section(heap, out, entry.kind, entry.data.data, entry.data.size) != PAGENT_OK) {
                return PAGENT_E_MEMORY;
            }
            continue;
        }
        if (pai_add_run(heap, out, &next) != PAGENT_OK) return PAGENT_E_MEMORY;
        at += next.count;
        if (next.count == 0) return PAGENT_E_CORRUPT;
    }
    return PAGENT_OK;
}

enum pai_full_flags {
    PAI_FULL_INLINE = 1,   /* the whole transcript, no runs */
    PAI_FULL_RESTORED = 2, /* of another version: no effects, no receipts, and a RESTORED of its own */
    PAI_FULL_NO_MAIL = 4
};

/* Everything but SUMMARY and STEP: what makes a block "carry a snapshot". */
static int pai_add_full(const pai_heap *heap, pai_buffer *out, const pai_state *state, uint32_t flags)
{
    uint32_t i;
    int result = PAGENT_OK;
    if (pai_add_state(heap, out, state) != PAGENT_OK || pai_add_identity(heap, out, state) != PAGENT_OK ||
        pai_add_bytes_section(heap, out, PAI_TAG_MACHINE, state->names->bytes, state->names->size) != PAGENT_OK ||
        pai_add_claim(heap, out, state->nonce) != PAGENT_OK ||
        pai_add_bytes_section(heap, out, PAI_TAG_CONTEXT, state->context.data, (uint32_t)state->context.size) !=
            PAGENT_OK) {
        return PAGENT_E_MEMORY;
    }
    result = pai_add_transcript(heap, out, state, (flags & PAI_FULL_INLINE) != 0);
    for (i = 0; i < state->effect_count && result == PAGENT_OK && !(flags & PAI_FULL_RESTORED); i++) {
        result = pai_add_effect(heap, out, &state->effects[i]);
    }
    for (i = 0; i < state->mail_count && result == PAGENT_OK && !(flags & PAI_FULL_NO_MAIL); i++) {
        const pai_mail *mail = state->mails[i];
        if ((flags & PAI_FULL_RESTORED) && mail->kind == PAGENT_EVENT_RESTORED) continue;
        result = pai_add_mail(heap, out, mail, pai_mail_bytes(mail), pai_mail_bytes(mail) + mail->who_size);
    }
    for (i = 0; i < state->seen_count && result == PAGENT_OK && !(flags & PAI_FULL_RESTORED); i++) {
        result = pai_add_receipt(heap, out, state->seen[i].id, state->seen[i].version);
    }
    if (result == PAGENT_OK && state->error != 0) result = pai_add_error(heap, out, state->error, state->error_text);
    return result;
}

/* ================================================================================================================
   [TABLES]  machines: checked, compiled to numbers, drawn
   Owns a compiled copy of each registered machine. Invariant: a machine that passed pai_check can always go on: every
   interruption it declares is handled wherever it may arrive. May fail: E_MACHINE with a text, E_MEMORY. */

enum {
    PAI_STATES_MAX = 1024,
    PAI_DEPTH_MAX = 16,
    PAI_ROOT = 0xFFFE
};

/* Kinds of outcome, as the last part of an event's name. Index = enum pagent_event_kind. */
static const char *pai_event_suffix(uint32_t kind)
{
    switch (kind) {
    case PAGENT_EVENT_START: return "start";
    case PAGENT_EVENT_RESULT: return "result";
    case PAGENT_EVENT_FAILURE: return "failure";
    case PAGENT_EVENT_IN_DOUBT: return "in_doubt";
    case PAGENT_EVENT_APPROVED: return "approved";
    case PAGENT_EVENT_REJECTED: return "rejected";
    case PAGENT_EVENT_EDITED: return "edited";
    case PAGENT_EVENT_EXPIRED: return "expired";
    case PAGENT_EVENT_TIMER: return "timer";
    case PAGENT_EVENT_CANCEL: return "cancel";
    case PAGENT_EVENT_RESTORED: return "restored";
    case PAGENT_EVENT_ALWAYS: return "always";
    case PAGENT_EVENT_CLAIM: return "claim";
    default: return "";
    }
}

/* Which table of names an event's name is looked up in; PAI_TABLES: none. */
static uint32_t pai_event_table(uint32_t kind)
{
    switch (kind) {
    case PAGENT_EVENT_SIGNAL: return PAI_SIGNALS;
    case PAGENT_EVENT_RESULT:
    case PAGENT_EVENT_FAILURE:
    case PAGENT_EVENT_IN_DOUBT: return PAI_CALLS;
    case PAGENT_EVENT_APPROVED:
    case PAGENT_EVENT_REJECTED:
    case PAGENT_EVENT_EDITED:
    case PAGENT_EVENT_EXPIRED: return PAI_APPROVALS;
    case PAGENT_EVENT_TIMER: return PAI_TIMERS;
    default: return PAI_TABLES;
    }
}

/* The next name of a space-separated list; *list moves behind it. NULL: no more. */
static const char *pai_next_name(const char **list, size_t *size)
{
    const char *at = *list, *start;
    if (at == NULL) return NULL;
    while (*at == ' ') at++;
    start = at;
    while (*at != 0 && *at != ' ') at++;
    *list = at;
    *size = (size_t)(at - start);
    return *size != 0 ? start : NULL;
}

/* Position of a name in a list; PAI_NONE. */
static uint32_t pai_list_find(const char *list, const char *name, size_t size)
{
    const char *at;
    size_t length;
    uint32_t index = 0;
    while ((at = pai_next_name(&list, &length)) != NULL) {
        if (length == size && pai_equal(at, name, size)) return index;
        index++;
    }
    return PAI_NONE;
}

static uint32_t pai_list_count(const char *list)
{
    size_t length;
    uint32_t count = 0;
    while (pai_next_name(&list, &length) != NULL) count++;
    return count;
}

static uint32_t pai_state_find(const pagent_machine *m, const char *name)
{
    uint32_t i;
    for (i = 0; i < m->state_count; i++) {
        if (pai_same_text(m->states[i].name, name)) return i;
    }
    return PAI_NONE;
}

static uint32_t pai_call_find(const pagent_machine *m, const char *name, size_t size)
{
    uint32_t i;
    for (i = 0; i < m->call_count; i++) {
        if (pai_length(m->calls[i].name) == size && pai_equal(m->calls[i].name, name, size)) return i;
    }
    return PAI_NONE;
}

typedef struct pai_event_name {
    uint32_t kind, name;
} pai_event_name;

/* An event as a transition writes it: "start", SIGNAL, CALL.result … . 0: nothing declares it. */
static int pai_parse_event(const pagent_machine *m, const char *text, pai_event_name *event)
{
    size_t size = pai_length(text), dot = 0;
    const char *last;
    uint32_t kind;
    event->name = PAI_NONE;
    while (dot < size && text[dot] != '.') dot++;
    last = dot < size ? text + dot + 1 : NULL;
    for (kind = PAGENT_EVENT_START; kind < PAGENT_EVENT_CLAIM; kind++) {
        uint32_t table = pai_event_table(kind);
        const char *suffix = pai_event_suffix(kind);
        event->kind = kind;
        if (table == PAI_TABLES && pai_same_text(text, suffix)) return 1;
        if (table == PAI_TABLES || table == PAI_SIGNALS || !pai_same_text(last, suffix)) continue;
        if (table == PAI_CALLS) event->name = pai_call_find(m, text, dot);
        if (table == PAI_APPROVALS) event->name = pai_list_find(m->approvals, text, dot);
        if (table == PAI_TIMERS) event->name = pai_list_find(m->timers, text, dot);
        return event->name != PAI_NONE;
    }
    event->kind = PAGENT_EVENT_SIGNAL;
    event->name = pai_list_find(m->signals, text, size);
    return event->name != PAI_NONE;
}

static int pai_name_is_valid(const char *name, size_t size)
{
    size_t i;
    if (name == NULL || size == 0 || size > 63) return 0;
    for (i = 0; i < size; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-')) {
            return 0;
        }
    }
    return 1;
}

/* ---- checking: each function finds one kind of fault and says which row ---- */

typedef struct pai_check {
    const pagent_machine *m;
    char *text;
} pai_check;

static int pai_fault(const pai_check *check, const char *table, uint32_t row, const char *name, const char *what,
                     const char *detail, const char *cure)
{
    pai_text text = pai_text_begin(check->text, PAGENT_TEXT_SIZE);
    pai_text_add(&text, table);
    if (row != PAI_NONE) {
        pai_text_add(&text, "[");
        pai_text_number(&text, row);
        pai_text_add(&text, "]");
    }
    if (name != NULL) {
        pai_text_add(&text, " \"");
        pai_text_add(&text, name);
        pai_text_add(&text, "\"");
    }
    pai_text_add(&text, what);
    pai_text_add(&text, detail);
    pai_text_add(&text, cure);
    return PAGENT_E_MACHINE;
}

static int pai_check_list(const pai_check *check, const char *list, const char *table)
{
    const char *at, *rest = list;
    size_t size, i;
    uint32_t index = 0;
    while ((at = pai_next_name(&rest, &size)) != NULL) {
        char name[64];
        for (i = 0; i < size && i < 63; i++) name[i] = at[i];
        name[i] = 0;
        if (!pai_name_is_valid(at, size)) {
            return pai_fault(check, table, index, name, ": bad name", "", ": use 1-63 of A-Za-z0-9_-");
        }
        if (pai_list_find(list, at, size) != index) return pai_fault(check, table, index, name, " twice", "", "");
        if (pai_same_text(table, "signals") && (pai_same_text(name, "start") || pai_same_text(name, "cancel") ||
                                                pai_same_text(name, "restored") || pai_same_text(name, "always"))) {
            return pai_fault(check, table, index, name, " is reserved", "", ": choose another name");
        }
        index++;
    }
    return PAGENT_OK;
}

static int pai_check_calls(const pai_check *check)
{
    const pagent_machine *m = check->m;
    uint32_t i;
    for (i = 0; i < m->call_count; i++) {
        const char *name = m->calls[i].name;
        if (!pai_name_is_valid(name, pai_length(name))) {
            return pai_fault(check, "calls", i, name, ": bad name", "", ": use 1-63 of A-Za-z0-9_-");
        }
        if (pai_call_find(m, name, pai_length(name)) != i) return pai_fault(check, "calls", i, name, " twice", "", "");
        if (m->calls[i].crash_policy > PAGENT_CRASH_WAIT) {
            return pai_fault(check, "calls", i, name, ": unknown crash_policy", "", "");
        }
        if (pai_list_find(m->approvals, name, pai_length(name)) != PAI_NONE) {
            return pai_fault(check, "calls", i, name, " is also an approval", "", ": rename one");
        }
    }
    return PAGENT_OK;
}

static uint32_t pai_child_count(const pagent_machine *m, uint32_t state, uint32_t flags)
{
    uint32_t i, count = 0;
    for (i = 0; i < m->state_count; i++) {
        if (m->states[i].parent != NULL && pai_same_text(m->states[i].parent, m->states[state].name) &&
            (m->states[i].flags & flags) == flags) {
            count++;
        }
    }
    return count;
}

static int pai_check_states(const pai_check *check)
{
    const pagent_machine *m = check->m;
    uint32_t i;
    for (i = 0; i < m->state_count; i++) {
        const pagent_state *s = &m->states[i];
        uint32_t up = i, depth = 0;
        if (!pai_name_is_valid(s->name, pai_length(s->name))) {
            return pai_fault(check, "states", i, s->name, ": bad name", "", ": use 1-63 of A-Za-z0-9_-");
        }
        if (pai_state_find(m, s->name) != i) return pai_fault(check, "states", i, s->name, " twice", "", "");
        if (s->on_error != NULL && pai_state_find(m, s->on_error) == PAI_NONE) {
            return pai_fault(check, "states", i, s->name, ": unknown on_error state ", s->on_error, "");
        }
        while (m->states[up].parent != NULL) {
            const char *parent = m->states[up].parent;
            up = pai_state_find(m, parent);
            if (up == PAI_NONE) return pai_fault(check, "states", i, s->name, ": unknown parent ", parent, "");
            if (++depth > PAI_DEPTH_MAX) {
                return pai_fault(check, "states", i, s->name, ": parents in a circle, or deeper than 16", "", "");
            }
        }
    }
    for (i = 0; i < m->state_count; i++) {
        const pagent_state *s = &m->states[i];
        uint32_t children = pai_child_count(m, i, 0);
        if (children != 0 && pai_child_count(m, i, PAGENT_INITIAL) != 1) {
            return pai_fault(check, "states", i, s->name, " has children", "", ": mark exactly one PAGENT_INITIAL");
        }
        if ((s->flags & PAGENT_FINAL) && (children != 0 || s->waits != NULL)) {
            return pai_fault(check, "states", i, s->name, " is final", "", ": it can have no children and no waits");
        }
        if ((s->flags & (PAGENT_FINAL | PAGENT_FAILURE)) == PAGENT_FAILURE) {
            return pai_fault(check, "states", i, s->name, ": FAILURE without FINAL", "", "");
        }
    }
    return PAGENT_OK;
}

static int pai_check_transitions(const pai_check *check)
{
    const pagent_machine *m = check->m;
    uint32_t i, k;
    for (i = 0; i < m->transition_count; i++) {
        const pagent_transition *t = &m->transitions[i];
        pai_event_name event;
        uint32_t from = pai_state_find(m, t->from);
        if (!pai_same_text(t->from, "*") && from == PAI_NONE) {
            return pai_fault(check, "transitions", i, t->event, ": unknown state ", t->from, "");
        }
        if (t->event == NULL || !pai_parse_event(m, t->event, &event)) {
            return pai_fault(check, "transitions", i, t->event, ": no such event; declare its signal, call, approval",
                             "", " or timer");
        }
        if (t->to != NULL && pai_state_find(m, t->to) == PAI_NONE) {
            return pai_fault(check, "transitions", i, t->event, ": unknown target ", t->to, "");
        }
        if (event.kind == PAGENT_EVENT_ALWAYS && t->to == NULL) {
            return pai_fault(check, "transitions", i, t->event, " needs a target", "", ", or it would never end");
        }
        if (from != PAI_NONE && (m->states[from].flags & PAGENT_FINAL)) {
            return pai_fault(check, "transitions", i, t->event, " leaves the final state ", t->from, "");
        }
        for (k = 0; k < i; k++) {
            const pagent_transition *other = &m->transitions[k];
            if (!pai_same_text(other->from, t->from) || !pai_same_text(other->event, t->event)) continue;
            if (other->guard == NULL || (other->guard == t->guard && other->tag == t->tag)) {
                return pai_fault(check, "transitions", i, t->event, " from ", t->from,
                                 ": an earlier row always wins; guard it or remove this");
            }
        }
    }
    return PAGENT_OK;
}

/* Whether `state`, a parent or the root has a row for the event; `external`: any event, but one that leads elsewhere.
   */
static int pai_has_row(const pagent_machine *m, uint32_t state, const char *event, size_t event_size,
                       const char *suffix)
{
    uint32_t i;
    for (;;) {
        const char *from = state == PAI_NONE ? "*" : m->states[state].name;
        for (i = 0; i < m->transition_count; i++) {
            const pagent_transition *t = &m->transitions[i];
            size_t size = pai_length(t->event);
            if (!pai_same_text(t->from, from)) continue;
            if (suffix == NULL) {
                if (t->to != NULL && !pai_same_text(t->to, from)) return 1;
                continue;
            }
            if (size == event_size + 1 + pai_length(suffix) && pai_equal(t->event, event, event_size) &&
                pai_same_text(t->event + event_size + 1, suffix)) {
                return 1;
            }
        }
        if (state == PAI_NONE) return 0;
        state = m->states[state].parent != NULL ? pai_state_find(m, m->states[state].parent) : (uint32_t)PAI_NONE;
    }
}

static int pai_check_wait(const pai_check *check, uint32_t state, const char *name, size_t size)
{
    const pagent_machine *m = check->m;
    static const char *const of_call[] = {"result", "failure", "in_doubt"};
    static const char *const of_approval[] = {"approved", "rejected", "expired"};
    uint32_t call = pai_call_find(m, name, size), i;
    char shown[64];
    pai_copy(shown, name, size < 63 ? size : 63);
    shown[size < 63 ? size : 63] = 0;
    if (call == PAI_NONE && pai_list_find(m->approvals, name, size) == PAI_NONE) {
        return pai_fault(check, "states", state, m->states[state].name, " waits for ", shown,
                         ": no such call or approval");
    }
    for (i = 0; i < 3; i++) {
        const char *suffix = call != PAI_NONE ? of_call[i] : of_approval[i];
        if (call != PAI_NONE && i == 2 && m->calls[call].crash_policy != PAGENT_CRASH_ONCE) continue;
        if (!pai_has_row(m, state, name, size, suffix)) {
            pai_text text;
            (void)pai_fault(check, "states", state, m->states[state].name, " waits for ", shown, "; add a row for ");
            text = pai_text_begin(check->text + pai_length(check->text), PAGENT_TEXT_SIZE - pai_length(check->text));
            pai_text_add(&text, shown);
            pai_text_add(&text, ".");
            pai_text_add(&text, suffix);
            return PAGENT_E_MACHINE;
        }
    }
    return PAGENT_OK;
}

static int pai_check_waits(const pai_check *check)
{
    const pagent_machine *m = check->m;
    uint32_t i, k;
    for (i = 0; i < m->state_count; i++) {
        const char *list = m->states[i].waits, *name;
        size_t size;
        while ((name = pai_next_name(&list, &size)) != NULL) {
            int result = pai_check_wait(check, i, name, size);
            if (result != PAGENT_OK) return result;
        }
        if (!(m->states[i].flags & PAGENT_FINAL) && pai_child_count(m, i, 0) == 0 &&
            !pai_has_row(m, i, NULL, 0, NULL)) {
            return pai_fault(check, "states", i, m->states[i].name, " has no way out", "",
                             ": add a transition, or mark it PAGENT_FINAL");
        }
    }
    for (k = 0; k < m->call_count; k++) {
        const char *name = m->calls[k].name;
        for (i = 0; i < m->state_count; i++) {
            if (pai_list_find(m->states[i].waits, name, pai_length(name)) != PAI_NONE) break;
        }
        if (i == m->state_count) {
            return pai_fault(check, "calls", k, name, ": no state waits for it", "", ": name it in a state's waits");
        }
    }
    return PAGENT_OK;
}

static void pai_reach(const pagent_machine *m, uint8_t *reached, uint32_t state)
{
    while (state != PAI_NONE && !(reached[state / 8] >> state % 8 & 1)) {
        reached[state / 8] |= (uint8_t)(1u << state % 8);
        state = m->states[state].parent != NULL ? pai_state_find(m, m->states[state].parent) : (uint32_t)PAI_NONE;
    }
}

/* Entering a state enters its initial child too. */
static void pai_reach_down(const pagent_machine *m, uint8_t *reached, uint32_t state)
{
    uint32_t i;
    pai_reach(m, reached, state);
    for (i = 0; i < m->state_count; i++) {
        if ((m->states[i].flags & PAGENT_INITIAL) && m->states[i].parent != NULL &&
            pai_same_text(m->states[i].parent, m->states[state].name)) {
            pai_reach(m, reached, i);
            state = i;
            i = UINT32_MAX; /* start over from the child; ends because depth is bounded */
        }
    }
}

static int pai_check_reachable(const pai_check *check)
{
    const pagent_machine *m = check->m;
    uint8_t reached[PAI_STATES_MAX / 8];
    uint32_t i, round;
    pai_clear(reached, sizeof reached);
    pai_reach_down(m, reached, 0);
    for (round = 0; round < m->state_count; round++) {
        for (i = 0; i < m->transition_count; i++) {
            const pagent_transition *t = &m->transitions[i];
            uint32_t from = pai_state_find(m, t->from);
            if (t->to == NULL || (from != PAI_NONE && !(reached[from / 8] >> from % 8 & 1))) continue;
            pai_reach_down(m, reached, pai_state_find(m, t->to));
        }
        for (i = 0; i < m->state_count; i++) {
            if (m->states[i].on_error == NULL || !(reached[i / 8] >> i % 8 & 1)) continue;
            pai_reach_down(m, reached, pai_state_find(m, m->states[i].on_error));
        }
    }
    for (i = 0; i < m->state_count; i++) {
        if (!(reached[i / 8] >> i % 8 & 1)) {
            return pai_fault(check, "states", i, m->states[i].name, " can never be reached", "",
                             ": add a transition to it, or remove it");
        }
    }
    return PAGENT_OK;
}

/* A declared timer that no row anywhere handles. A signal may be declared to be sent only. */
static int pai_check_timers(const pai_check *check)
{
    const pagent_machine *m = check->m;
    const char *rest = m->timers, *name;
    size_t size;
    uint32_t index = 0, i;
    while ((name = pai_next_name(&rest, &size)) != NULL) {
        for (i = 0; i < m->transition_count; i++) {
            pai_event_name event;
            if (pai_parse_event(m, m->transitions[i].event, &event) && event.kind == PAGENT_EVENT_TIMER &&
                event.name == index)
                break;
        }
        if (i == m->transition_count) {
            char shown[64];
            pai_copy(shown, name, size); /* a name is checked by now: at most 63 bytes */
            shown[size] = 0;
            return pai_fault(check, "timers", index, shown, ": add a row for ", shown, ".timer");
        }
        index++;
    }
    return PAGENT_OK;
}

PAGENT_API int pagent_check_machine(const pagent_machine *machine, char text[PAGENT_TEXT_SIZE])
{
    char unused[PAGENT_TEXT_SIZE];
    pai_check check;
    int result;
    check.m = machine;
    check.text = text != NULL ? text : unused;
    check.text[0] = 0;
    if (machine == NULL || machine->size != sizeof *machine) {
        (void)pai_fault(&check, "machine", PAI_NONE, NULL, ": size is not sizeof(pagent_machine)", "", "");
        return PAGENT_E_MACHINE;
    }
    if (!pai_name_is_valid(machine->name, pai_length(machine->name))) {
        return pai_fault(&check, "machine", PAI_NONE, machine->name, ": bad name", "", ": use 1-63 of A-Za-z0-9_-");
    }
    if ((machine->calls == NULL && machine->call_count != 0) ||
        (machine->states == NULL && machine->state_count != 0) ||
        (machine->transitions == NULL && machine->transition_count != 0)) {
        return pai_fault(&check, "machine", PAI_NONE, machine->name, ": a table is NULL", "", ", but has rows");
    }
    if (machine->state_count == 0 || machine->state_count > PAI_STATES_MAX || machine->call_count > 1024 ||
        machine->transition_count > 65535 || pai_list_count(machine->signals) > 1024 ||
        pai_list_count(machine->timers) > 1024 || pai_list_count(machine->approvals) > 1024) {
        return pai_fault(&check, "machine", PAI_NONE, machine->name, ": needs 1-1024 states, and no table over 1024",
                         "", "");
    }
    if ((result = pai_check_list(&check, machine->signals, "signals")) != PAGENT_OK) return result;
    if ((result = pai_check_list(&check, machine->timers, "timers")) != PAGENT_OK) return result;
    if ((result = pai_check_list(&check, machine->approvals, "approvals")) != PAGENT_OK) return result;
    if ((result = pai_check_calls(&check)) != PAGENT_OK) return result;
    if ((result = pai_check_states(&check)) != PAGENT_OK) return result;
    if ((result = pai_check_transitions(&check)) != PAGENT_OK) return result;
    if ((result = pai_check_waits(&check)) != PAGENT_OK) return result;
    if ((result = pai_check_timers(&check)) != PAGENT_OK) return result;
    return pai_check_reachable(&check);
}

static uint64_t pai_hash_more(uint64_t hash, const char *text)
{
    return pai_mix(hash ^ (text != NULL ? pai_hash_text(text) : 0));
}

PAGENT_API uint64_t pagent_machine_hash(const pagent_machine *machine)
{
    uint64_t hash = pai_hash_more(machine->version, machine->name);
    uint32_t i;
    hash = pai_hash_more(pai_hash_more(pai_hash_more(hash, machine->signals), machine->timers), machine->approvals);
    for (i = 0; i < machine->call_count; i++) {
        hash = pai_hash_more(hash + machine->calls[i].crash_policy, machine->calls[i].name);
    }
    for (i = 0; i < machine->state_count; i++) {
        const pagent_state *s = &machine->states[i];
        hash = pai_hash_more(pai_hash_more(hash + s->flags, s->name), s->parent);
        hash = pai_hash_more(pai_hash_more(hash, s->waits), s->on_error);
    }
    for (i = 0; i < machine->transition_count; i++) {
        const pagent_transition *t = &machine->transitions[i];
        hash = pai_hash_more(pai_hash_more(pai_hash_more(hash, t->from), t->event), t->to);
    }
    return hash;
}

/* ---- compiled ---- */

typedef struct pai_row { /* a transition in numbers; rows of one state stand together, in table order */
    uint16_t source;     /* index into the machine's transitions */
    uint16_t name;
    uint16_t to; /* PAI_NONE: internal */
    uint8_t kind;
} pai_row;

typedef struct pai_place { /* a state in numbers */
    uint16_t parent;       /* PAI_NONE */
    uint16_t initial;      /* child; PAI_NONE: a leaf */
    uint16_t on_error;
    uint16_t depth;
    uint32_t row_first;
    uint32_t row_count;
} pai_place;

typedef struct pai_machine {
    const pagent_machine *source;
    pai_names names;
    pai_place *places; /* one for each state, and the root's rows last */
    pai_row *rows;
} pai_machine;

static void pai_free_machine(const pai_heap *heap, pai_machine *machine)
{
    if (machine->source == NULL) return;
    pai_free_names(heap, &machine->names);
    pai_free(heap, machine->places, (machine->source->state_count + 1) * sizeof machine->places[0]);
    pai_free(heap, machine->rows, machine->source->transition_count * sizeof machine->rows[0]);
    machine->source = NULL;
}

static int pai_put_names(const pai_heap *heap, pai_buffer *out, const char *list)
{
    const char *at;
    size_t size;
    static const char zero[1] = {0};
    while ((at = pai_next_name(&list, &size)) != NULL) {
        if (pai_append_bytes(heap, out, at, size) != PAGENT_OK || pai_append_bytes(heap, out, zero, 1) != PAGENT_OK) {
            return PAGENT_E_MEMORY;
        }
    }
    return PAGENT_OK;
}

static int pai_compile_names(const pai_heap *heap, pai_machine *machine)
{
    const pagent_machine *m = machine->source;
    pai_buffer bytes;
    uint8_t front[PAI_NAMES_FRONT];
    uint32_t i;
    int result;
    pai_clear(&bytes, sizeof bytes);
    pai_clear(front, sizeof front);
    pai_put64(front, pagent_machine_hash(m));
    pai_put32(front + 8, m->version);
    pai_put16(front + 12, m->state_count);
    pai_put16(front + 14, pai_list_count(m->signals));
    pai_put16(front + 16, m->call_count);
    pai_put16(front + 18, pai_list_count(m->approvals));
    pai_put16(front + 20, pai_list_count(m->timers));
    result = pai_append_bytes(heap, &bytes, front, sizeof front);
    if (result == PAGENT_OK) result = pai_put_names(heap, &bytes, m->name);
    for (i = 0; i < m->state_count && result == PAGENT_OK; i++) result = pai_put_names(heap, &bytes, m->states[i].name);
    if (result == PAGENT_OK) result = pai_put_names(heap, &bytes, m->signals);
    for (i = 0; i < m->call_count && result == PAGENT_OK; i++) result = pai_put_names(heap, &bytes, m->calls[i].name);
    if (result == PAGENT_OK) result = pai_put_names(heap, &bytes, m->approvals);
    if (result == PAGENT_OK) result = pai_put_names(heap, &bytes, m->timers);
    if (result == PAGENT_OK) result = pai_parse_names(heap, &machine->names, bytes.data, (uint32_t)bytes.size);
    pai_free_buffer(heap, &bytes);
    return result;
}

/* The machine has passed pagent_check_machine. */
static int pai_compile(const pai_heap *heap, pai_machine *machine, const pagent_machine *m)
{
    uint32_t i, k, rows = 0;
    machine->source = m;
    if (pai_compile_names(heap, machine) != PAGENT_OK) return PAGENT_E_MEMORY;
    machine->places = (pai_place *)pai_allocate(heap, (m->state_count + 1) * sizeof machine->places[0]);
    if (machine->places == NULL) return PAGENT_E_MEMORY;
    if (m->transition_count != 0) {
        machine->rows = (pai_row *)pai_allocate(heap, m->transition_count * sizeof machine->rows[0]);
        if (machine->rows == NULL) return PAGENT_E_MEMORY;
    }
    for (i = 0; i <= m->state_count; i++) {
        pai_place *place = &machine->places[i];
        const char *from = i < m->state_count ? m->states[i].name : "*";
        place->parent = place->initial = place->on_error = PAI_NONE;
        place->row_first = rows;
        for (k = 0; k < m->transition_count; k++) {
            pai_event_name event;
            if (!pai_same_text(m->transitions[k].from, from)) continue;
            (void)pai_parse_event(m, m->transitions[k].event, &event);
            machine->rows[rows].source = (uint16_t)k;
            machine->rows[rows].kind = (uint8_t)event.kind;
            machine->rows[rows].name = (uint16_t)event.name;
            machine->rows[rows].to =
                (uint16_t)(m->transitions[k].to != NULL ? pai_state_find(m, m->transitions[k].to) : (uint32_t)PAI_NONE);
            rows++;
        }
        place->row_count = rows - place->row_first;
        if (i == m->state_count) break;
        if (m->states[i].parent != NULL) place->parent = (uint16_t)pai_state_find(m, m->states[i].parent);
        if (m->states[i].on_error != NULL) place->on_error = (uint16_t)pai_state_find(m, m->states[i].on_error);
        for (k = 0; k < m->state_count; k++) {
            if ((m->states[k].flags & PAGENT_INITIAL) && m->states[k].parent != NULL &&
                pai_same_text(m->states[k].parent, m->states[i].name)) {
                place->initial = (uint16_t)k;
            }
        }
    }
    for (i = 0; i < m->state_count; i++) {
        for (k = machine->places[i].parent; k != PAI_NONE; k = machine->places[k].parent) machine->places[i].depth++;
    }
    return PAGENT_OK;
}

/* ---- diagrams ---- */

typedef struct pai_pen {
    pagent_write write;
    void *ctx;
    const pagent_machine *machine;
    int mark;
    int dot; /* Graphviz; 0: Mermaid */
} pai_pen;

static void pai_draw(const pai_pen *pen, const char *text)
{
    pen->write(pen->ctx, text, pai_length(text));
}

/* A name between two texts: quoted for Graphviz; for Mermaid, whose ids may hold no '-', with '_'. */
static void pai_draw_name(const pai_pen *pen, const char *before, const char *name, const char *after)
{
    pai_draw(pen, before);
    if (pen->dot) pai_draw(pen, "\"");
    for (; *name != 0; name++) pen->write(pen->ctx, *name == '-' && !pen->dot ? "_" : name, 1);
    if (pen->dot) pai_draw(pen, "\"");
    pai_draw(pen, after);
}

static void pai_draw_indent(const pai_pen *pen, uint32_t depth)
{
    while (depth-- != 0) pai_draw(pen, "    ");
}

/* The first child of `parent` (PAI_NONE: top level) at or behind row `from`. */
static uint32_t pai_child_from(const pagent_machine *m, uint32_t parent, uint32_t from)
{
    for (; from < m->state_count; from++) {
        const char *up = m->states[from].parent;
        if (parent == PAI_NONE ? up == NULL : pai_same_text(up, m->states[parent].name)) return from;
    }
    return PAI_NONE;
}

/* The next state in a walk that visits each parent before its children; `closes` counts the parents that end in
   between.
   PAI_NONE: done. Without recursion: the nesting is the user's input. */
static uint32_t pai_next_state(const pagent_machine *m, uint32_t state, uint32_t *closes)
{
    uint32_t next = pai_child_from(m, state, 0);
    *closes = 0;
    while (next == PAI_NONE && state != PAI_NONE) {
        const char *up = m->states[state].parent;
        uint32_t parent = up != NULL ? pai_state_find(m, up) : (uint32_t)PAI_NONE;
        next = pai_child_from(m, parent, state + 1);
        if (next == PAI_NONE && parent != PAI_NONE) (*closes)++;
        state = parent;
    }
    return next;
}

static void pai_draw_mermaid_state(const pai_pen *pen, uint32_t state, uint32_t depth, int has_children)
{
    const pagent_state *s = &pen->machine->states[state];
    pai_draw_name(pen, has_children ? "state " : "", s->name, has_children ? " {" : " : ");
    pai_draw(pen, has_children ? "" : s->name);
    pai_draw(pen, "\n");
    if (!(s->flags & PAGENT_INITIAL)) return;
    pai_draw_indent(pen, has_children ? depth + 1 : depth);
    pai_draw_name(pen, "[*] --> ", s->name, "\n");
}

/* One with children is a frame, and in it a point for arrows to end at. */
static void pai_draw_dot_state(const pai_pen *pen, uint32_t state, uint32_t depth, int has_children)
{
    const pagent_state *s = &pen->machine->states[state];
    if (has_children) {
        pai_draw(pen, "subgraph \"cluster_");
        pai_draw(pen, s->name);
        pai_draw(pen, "\" {\n");
        pai_draw_indent(pen, depth + 1);
        pai_draw_name(pen, "label=", s->name, "; ");
    }
    pai_draw_name(pen, "", s->name, has_children ? " [shape=point, style=invis]" : "");
    if (s->flags & PAGENT_FINAL) pai_draw(pen, " [peripheries=2]");
    if (pen->mark >= 0 && (uint32_t)pen->mark == state) pai_draw(pen, " [fillcolor=\"#ffd966\"]");
    pai_draw(pen, ";\n");
}

static void pai_draw_states(const pai_pen *pen)
{
    uint32_t state = PAI_NONE, closes, depth = 1;
    for (;;) {
        int has_children;
        state = pai_next_state(pen->machine, state, &closes);
        while (closes-- != 0) {
            pai_draw_indent(pen, --depth);
            pai_draw(pen, "}\n");
        }
        if (state == PAI_NONE) return;
        has_children = pai_child_from(pen->machine, state, 0) != PAI_NONE;
        pai_draw_indent(pen, depth);
        if (pen->dot) pai_draw_dot_state(pen, state, depth, has_children);
        else pai_draw_mermaid_state(pen, state, depth, has_children);
        if (has_children) depth++;
    }
}

/* An arrow from or to a state with children ends at the frame around them. */
static void pai_draw_end(const pai_pen *pen, const char *name, const char *end)
{
    if (pai_child_from(pen->machine, pai_state_find(pen->machine, name), 0) == PAI_NONE) return;
    pai_draw(pen, end);
    pai_draw(pen, "\"cluster_");
    pai_draw(pen, name);
    pai_draw(pen, "\"");
}

static void pai_draw_transitions(const pai_pen *pen)
{
    uint32_t i;
    for (i = 0; i < pen->machine->transition_count; i++) {
        const pagent_transition *t = &pen->machine->transitions[i];
        const char *from = pai_same_text(t->from, "*") ? pen->machine->states[0].name : t->from;
        pai_draw_name(pen, "    ", from, pen->dot ? " -> " : " --> ");
        pai_draw_name(pen, "", t->to != NULL ? t->to : from, pen->dot ? " [label=\"" : " : ");
        if (from != t->from) pai_draw(pen, "(any state) ");
        pai_draw(pen, t->event);
        if (t->guard != NULL) pai_draw(pen, " [guard]");
        if (pen->dot) {
            pai_draw(pen, "\"");
            pai_draw_end(pen, from, ", ltail=");
            if (t->to != NULL) pai_draw_end(pen, t->to, ", lhead=");
            pai_draw(pen, "];");
        }
        pai_draw(pen, "\n");
    }
}

static void pai_draw_mermaid(const pai_pen *pen)
{
    const pagent_machine *m = pen->machine;
    uint32_t i;
    pai_draw_name(pen, "stateDiagram-v2\n    [*] --> ", m->states[0].name, "\n");
    pai_draw_states(pen);
    pai_draw_transitions(pen);
    for (i = 0; i < m->state_count; i++) {
        if (m->states[i].flags & PAGENT_FINAL) pai_draw_name(pen, "    ", m->states[i].name, " --> [*]\n");
    }
    if (pen->mark < 0 || (uint32_t)pen->mark >= m->state_count) return;
    pai_draw(pen, "    classDef here fill:#ffd966,stroke:#7f6000,color:#000\n");
    pai_draw_name(pen, "    class ", m->states[pen->mark].name, " here\n");
}

static void pai_draw_dot(const pai_pen *pen)
{
    pai_draw_name(pen, "digraph ", pen->machine->name, " {\n    rankdir=LR; compound=true;\n");
    pai_draw(pen, "    node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\"];\n"
                  "    edge [fontname=\"sans-serif\", fontsize=10];\n"
                  "    \"\" [shape=point];\n");
    pai_draw_name(pen, "    \"\" -> ", pen->machine->states[0].name, ";\n");
    pai_draw_states(pen);
    pai_draw_transitions(pen);
    pai_draw(pen, "}\n");
}

static int pai_draw_machine(const pagent_machine *machine, int mark, pagent_write write, void *ctx, int dot)
{
    pai_pen pen;
    int result = pagent_check_machine(machine, NULL);
    pen.write = write;
    pen.ctx = ctx;
    pen.machine = machine;
    pen.mark = mark;
    pen.dot = dot;
    if (result != PAGENT_OK) return result;
    if (dot) pai_draw_dot(&pen);
    else pai_draw_mermaid(&pen);
    return PAGENT_OK;
}

PAGENT_API int pagent_write_mermaid(const pagent_machine *machine, int mark, pagent_write write, void *ctx)
{
    return pai_draw_machine(machine, mark, write, ctx, 0);
}

PAGENT_API int pagent_write_dot(const pagent_machine *machine, int mark, pagent_write write, void *ctx)
{
    return pai_draw_machine(machine, mark, write, ctx, 1);
}

/* ================================================================================================================
   [ENGINE]  many agents over one store
   Owns loaded agents, submitted requests, commits in flight. Invariants: an agent has at most one commit in flight; its
   memory is what its journal says, plus that commit; nothing outside hears of a block before the store said OK. */

typedef struct pai_agent pai_agent;
typedef struct pai_settling pai_settling;

/* ---- operations of the store that may complete later ---- */

enum pai_op_kind {
    PAI_OP_APPEND = 1,
    PAI_OP_FLUSH,
    PAI_OP_READ,
    PAI_OP_LIST,
    PAI_OP_TRIM,
    PAI_OP_COLLECT,
    PAI_OP_SETTLE,
    PAI_OP_ORPHAN
};

typedef struct pai_operation {
    void *owner; /* commit, reader … */
    uint32_t generation;
    uint8_t kind; /* 0: free */
} pai_operation;

/* ---- what waits to be handled ---- */

enum pai_verb {
    PAI_VERB_ANSWER = 64,
    PAI_VERB_SIGNAL,
    PAI_VERB_SIGNAL_DONE,
    PAI_VERB_SNAPSHOT
};

typedef struct pai_task { /* a request, an answer, a signal: copied, in one allocation with its texts and data */
    struct pai_task *next;
    pagent_receipt *receipt;
    size_t size;
    uint64_t stream;
    uint64_t id;            /* hash of the sender's id; 0: none */
    pai_settling *settling; /* of an inbox message: its receipt goes through the store */
    pagent_request request;
    pagent_answer answer;
    pagent_effect_id effect; /* ANSWER: the call. SIGNAL, SIGNAL_DONE: the signal in its sender */
    uint64_t sender;         /* SIGNAL: stream */
    uint32_t attempt;
    uint32_t verb;
} pai_task;

typedef struct pai_queue {
    pai_task *first;
    pai_task *last;
} pai_queue;

static void pai_push_task(pai_queue *queue, pai_task *task)
{
    task->next = NULL;
    if (queue->last != NULL) {
        queue->last->next = task;
    } else {
        queue->first = task;
    }
    queue->last = task;
}

static void pai_push_front(pai_queue *queue, pai_task *task)
{
    task->next = queue->first;
    queue->first = task;
    if (queue->last == NULL) queue->last = task;
}

static pai_task *pai_pop_task(pai_queue *queue)
{
    pai_task *task = queue->first;
    if (task == NULL) return NULL;
    queue->first = task->next;
    if (queue->first == NULL) queue->last = NULL;
    return task;
}

/* ---- one commit being made durable ---- */

typedef struct pai_retry { /* what the store would not take, or could not tell: once more, after a pause */
    struct pai_retry *next;
    uint64_t retry_ms;
    struct pai_commit *commit; /* in doubt; or NULL: */
    pai_settling *settling;
} pai_retry;

typedef struct pai_commit {
    struct pai_commit *next; /* in the list of free ones, or of staged ones */
    pai_agent *agent;
    pai_task *task;    /* settled when the commit is durable */
    pai_buffer buffer; /* one block, or a snapshot and one */
    size_t base;       /* where the block being written begins */
    uint64_t expected;
    pai_retry retry;  /* in doubt: asked again then */
    const char *over; /* the limit that was exceeded, as a sentence; NULL: that of blocks */
    uint32_t count;
    uint32_t flags;     /* of the append */
    uint32_t calls_off; /* calls of earlier attempts that end with it */
    int32_t result;     /* the task's, once durable */
    uint8_t event_kind;
    uint8_t outcome;
    uint8_t claims;
    uint8_t drop_agent; /* the block replaced the whole state: reload */
    uint8_t checking;   /* in doubt: being resolved by reading */
    uint8_t doubt;      /* how often; not 0: never given up */
    uint16_t from;
    uint16_t name;
    pagent_append request;
    pagent_read check;
} pai_commit;

/* ---- reading an agent ---- */

enum pai_reader_phase {
    PAI_READ_START,
    PAI_READ_BLOCKS,
    PAI_READ_RUNS,
    PAI_READ_READY,
    PAI_READ_FAILED
};

typedef struct pai_reader {
    pagent_engine *engine;
    pai_agent *owner; /* woken when a read completes; NULL: a view, which asks again */
    pai_state *state;
    uint64_t stream;
    uint64_t until; /* version to stop at; 0: the head; PAGENT_OLDEST: the first there is */
    uint64_t head;
    uint64_t run_version;
    uint32_t run;
    pai_buffer blocks;
    pai_buffer run_blocks;
    pai_buffer entries; /* the transcript being put together */
    pai_buffer offsets;
    size_t at;      /* the next block */
    size_t current; /* the block that led to the present state */
    uint32_t run_taken;
    uint32_t run_inlined;
    pagent_read request;
    pagent_io io;
    int result;
    uint8_t phase;
    uint8_t waiting;
    uint8_t filled; /* a read has completed and its bytes are not taken yet */
} pai_reader;

/* ---- a loaded agent ---- */

enum pai_agent_phase {
    PAI_AGENT_NEW,
    PAI_AGENT_LOADING,
    PAI_AGENT_READY,
    PAI_AGENT_COMMITTING,
    PAI_AGENT_PAST,
    PAI_AGENT_BROKEN
};

struct pai_agent {
    pai_state state;
    pai_agent *bucket_next;
    pai_agent *ready_next;
    pai_agent *older, *newer; /* by last use */
    const pai_machine *machine;
    pai_reader *reader; /* LOADING and PAST */
    pai_state *past;    /* PAST: the state being rolled back to or forked from */
    pai_queue tasks;
    uint64_t wake_ms;  /* place in the heap */
    uint64_t retry_ms; /* not before */
    uint32_t heap_at;  /* pai_nowhere */
    int32_t broken;
    uint16_t receipts_open;
    uint8_t phase;
    uint8_t exists;
    uint8_t claimed;
    uint8_t ready;
    uint8_t force_snapshot;
    uint8_t stranded;  /* its tables are not registered */
    uint8_t took_task; /* last; and nothing that was due since */
};

static const uint32_t pai_nowhere = UINT32_MAX;

typedef struct pai_flight {
    uint64_t message, stream;
} pai_flight;

enum {
    PAI_FLIGHT_MAX = 256,
    PAI_LIST_MAX = 64,
    PAI_POLLS_MAX = 256, /* before pagent_run lets the host in */
    PAI_DOUBTS_MAX = 8,
    PAI_TASK_SIZE = 512,
    PAI_FREE_MAX = 1024,
    PAI_FREE_IDLE = 8,
    PAI_TABLE_MIN = 64
};

struct pagent_engine {
    pagent_host host;
    pagent_store store;
    pagent_limits limits;
    pai_heap heap;
    pai_machine *machines;
    uint32_t machine_count;
    uint32_t hold, read_only;
    uint64_t nonce[2];
    uint64_t now;
    int32_t failed;          /* sticky */
    uint32_t stranded_count; /* agents in memory that wait for tables which are not registered */

    pai_agent **buckets;
    uint32_t bucket_count; /* a power of two, never below agent_count */
    uint32_t agent_count;
    pai_agent *oldest, *newest;
    pai_agent *ready_first, *ready_last;
    pai_agent **wake; /* heap by wake_ms, with room for bucket_count */
    uint32_t wake_count;

    pai_queue requests;
    uint32_t request_count;
    uint32_t answer_count; /* tasks that carry one */
    uint32_t receipts_due; /* handed in, and not written yet */
    uint64_t requests_ms;  /* no memory: not before */
    uint32_t calls_running;

    pai_operation *operations;
    uint32_t operation_count;
    uint32_t operation_free; /* hint */
    uint32_t operations_busy;

    pai_task *free_tasks; /* PAI_TASK_SIZE each, at most PAI_FREE_MAX */
    uint32_t free_task_count, free_commit_count;
    pai_commit *free_commits;
    pai_commit *staged, *staged_last;
    pai_commit *flushing;
    pai_retry *retries;
    uint8_t flush_busy;
    uint8_t sealed;
    uint64_t last_commit_ms;
    pagent_io flush_io;

    pagent_list list;
    pagent_io list_io;
    uint64_t store_due_ms; /* earliest due time of agents that are not loaded */
    uint64_t list_due_ms;
    uint8_t list_busy, list_again, opened;

    pagent_collect collect;
    pagent_io collect_io;
    pai_buffer collected;
    uint64_t inbox_ms;
    uint32_t flight_count;
    uint8_t collect_busy, inbox_open;

    pagent_trim trim;
    pagent_io trim_io;
    pagent_receipt *trim_receipt;
    uint64_t trim_stream;
    uint64_t trim_count; /* segments removed so far */
    uint8_t trim_on, trim_busy;

    pai_buffer before;  /* the context before the step */
    pai_buffer scratch; /* plain payloads */
    uint32_t views;
    uint32_t polling;
    int (*close_store)(void *owned); /* what was opened together with the engine; NULL: nothing */
    void *owned;

    /* What is large, behind all else: the distance to a member is part of every instruction that uses it. */
    char text[PAGENT_TEXT_SIZE];
    char stranded_text[2 * PAGENT_TEXT_SIZE];
    pai_flight flights[PAI_FLIGHT_MAX];
    pagent_summary summaries[PAI_LIST_MAX];
    pai_crc crc;
};

static int pai_fail_engine(pagent_engine *e, int result, const char *text)
{
    pai_text t;
    if (e->failed != 0) return e->failed;
    e->failed = result;
    t = pai_text_begin(e->text, PAGENT_TEXT_SIZE);
    pai_text_add(&t, text);
    pai_text_add(&t, pagent_message(result));
    return result;
}

static void pai_trace_at(pagent_engine *e, const pai_agent *agent, uint32_t kind, int32_t code, const char *name,
                         uint64_t time_ms)
{
    pagent_trace record;
    if (e->host.trace == NULL) return;
    pai_clear(&record, sizeof record);
    record.kind = kind;
    record.code = code;
    record.time_ms = time_ms;
    record.name = name;
    if (agent != NULL) {
        record.stream = agent->state.stream;
        record.version = agent->state.version;
        record.agent = agent->state.name;
    }
    e->host.trace(e->host.ctx, &record);
}

static void pai_trace(pagent_engine *e, const pai_agent *agent, uint32_t kind, int32_t code, const char *name)
{
    pai_trace_at(e, agent, kind, code, name, e->now);
}

/* ---- operations ---- */

static int pai_begin_operation(pagent_engine *e, uint32_t kind, void *owner, pagent_op *op)
{
    uint32_t i, slot = 0;
    for (i = 0; i < e->operation_count; i++) {
        slot = (e->operation_free + i) % e->operation_count;
        if (e->operations[slot].kind == 0) break;
    }
    if (i == e->operation_count) {
        uint32_t count = e->operation_count != 0 ? e->operation_count * 2 : 16;
        void *grown = e->heap.allocate(e->heap.ctx, e->operations, e->operation_count * sizeof e->operations[0],
                                       count * sizeof e->operations[0]);
        if (grown == NULL) return PAGENT_E_MEMORY;
        e->operations = (pai_operation *)grown;
        pai_clear(e->operations + e->operation_count, (count - e->operation_count) * sizeof e->operations[0]);
        slot = e->operation_count;
        e->operation_count = count;
    }
    e->operation_free = slot + 1 < e->operation_count ? slot + 1 : 0;
    e->operations[slot].kind = (uint8_t)kind;
    e->operations[slot].owner = owner;
    e->operations[slot].generation++;
    e->operations_busy++;
    *op = (uint64_t)slot | (uint64_t)e->operations[slot].generation << 32;
    return PAGENT_OK;
}

static pai_operation *pai_find_operation(pagent_engine *e, pagent_op op)
{
    uint32_t slot = (uint32_t)op;
    if (slot >= e->operation_count || e->operations[slot].kind == 0) return NULL;
    if (e->operations[slot].generation != (uint32_t)(op >> 32)) return NULL;
    return &e->operations[slot];
}

static void pai_end_operation(pagent_engine *e, pagent_op op)
{
    pai_operation *operation = pai_find_operation(e, op);
    PAGENT_ASSERT(operation != NULL);
    if (operation == NULL) return;
    operation->kind = 0;
    operation->owner = NULL;
    e->operation_free = (uint32_t)op;
    e->operations_busy--;
}

/* ---- agents in memory: by stream, by wake time, by last use ---- */

static pai_agent *pai_find_agent(pagent_engine *e, uint64_t stream)
{
    pai_agent *agent;
    if (e->bucket_count == 0) return NULL;
    agent = e->buckets[stream & (e->bucket_count - 1)];
    while (agent != NULL && agent->state.stream != stream) agent = agent->bucket_next;
    return agent;
}

/* Gives the buckets and the heap room for `count` agents, not fewer than there are. Without memory all stays. */
static int pai_resize_tables(pagent_engine *e, uint32_t count)
{
    size_t old_size = e->bucket_count * sizeof e->buckets[0], size = count * sizeof e->buckets[0];
    pai_agent **buckets = (pai_agent **)pai_allocate(&e->heap, size), *agent;
    void *wake = buckets != NULL ? e->heap.allocate(e->heap.ctx, (void *)e->wake, old_size, size) : NULL;
    PAGENT_ASSERT(count >= e->agent_count);
    if (wake == NULL) {
        pai_free(&e->heap, (void *)buckets, size);
        return PAGENT_E_MEMORY;
    }
    pai_free(&e->heap, (void *)e->buckets, old_size);
    e->wake = (pai_agent **)wake;
    e->buckets = buckets;
    e->bucket_count = count;
    for (agent = e->newest; agent != NULL; agent = agent->older) {
        agent->bucket_next = buckets[agent->state.stream & (count - 1)];
        buckets[agent->state.stream & (count - 1)] = agent;
    }
    return PAGENT_OK;
}

static void pai_wake_place(pagent_engine *e, uint32_t at, pai_agent *agent)
{
    e->wake[at] = agent;
    agent->heap_at = at;
}

static void pai_wake_up(pagent_engine *e, uint32_t at)
{
    pai_agent *agent = e->wake[at];
    while (at != 0 && e->wake[(at - 1) / 2]->wake_ms > agent->wake_ms) {
        pai_wake_place(e, at, e->wake[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    pai_wake_place(e, at, agent);
}

static void pai_wake_down(pagent_engine *e, uint32_t at)
{
    pai_agent *agent = e->wake[at];
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= e->wake_count) break;
        if (child + 1 < e->wake_count && e->wake[child + 1]->wake_ms < e->wake[child]->wake_ms) child++;
        if (e->wake[child]->wake_ms >= agent->wake_ms) break;
        pai_wake_place(e, at, e->wake[child]);
        at = child;
    }
    pai_wake_place(e, at, agent);
}

static void pai_unset_wake(pagent_engine *e, pai_agent *agent)
{
    uint32_t at = agent->heap_at;
    pai_agent *last;
    if (at == pai_nowhere) return;
    agent->heap_at = pai_nowhere;
    last = e->wake[--e->wake_count];
    if (last == agent) return;
    pai_wake_place(e, at, last);
    pai_wake_up(e, at);
    pai_wake_down(e, last->heap_at);
}

/* The heap has room for every loaded agent: see pai_resize_tables. */
static void pai_set_wake(pagent_engine *e, pai_agent *agent, uint64_t due_ms)
{
    if (due_ms == PAGENT_FOREVER) {
        pai_unset_wake(e, agent);
        return;
    }
    agent->wake_ms = due_ms;
    if (agent->heap_at == pai_nowhere) pai_wake_place(e, e->wake_count++, agent);
    pai_wake_up(e, agent->heap_at);
    pai_wake_down(e, agent->heap_at);
}

static void pai_mark_ready(pagent_engine *e, pai_agent *agent)
{
    if (agent->ready) return;
    agent->ready = 1;
    agent->ready_next = NULL;
    if (e->ready_last != NULL) {
        e->ready_last->ready_next = agent;
    } else {
        e->ready_first = agent;
    }
    e->ready_last = agent;
}

static void pai_unlink_use(pagent_engine *e, pai_agent *agent)
{
    if (agent->older != NULL) agent->older->newer = agent->newer;
    if (agent->newer != NULL) agent->newer->older = agent->older;
    if (e->oldest == agent) e->oldest = agent->newer;
    if (e->newest == agent) e->newest = agent->older;
    agent->older = agent->newer = NULL;
}

static void pai_link_use(pagent_engine *e, pai_agent *agent)
{
    agent->older = e->newest;
    if (e->newest != NULL) e->newest->newer = agent;
    e->newest = agent;
    if (e->oldest == NULL) e->oldest = agent;
}

static void pai_touch_use(pagent_engine *e, pai_agent *agent)
{
    if (e->newest == agent) return;
    pai_unlink_use(e, agent);
    pai_link_use(e, agent);
}

/* Finds the agent in memory, or makes an entry for it that is loaded when its turn comes. */
static pai_agent *pai_get_agent(pagent_engine *e, uint64_t stream)
{
    pai_agent *agent = pai_find_agent(e, stream);
    if (agent != NULL) return agent;
    if (e->agent_count == e->bucket_count &&
        pai_resize_tables(e, e->bucket_count != 0 ? e->bucket_count * 2 : (uint32_t)PAI_TABLE_MIN) != PAGENT_OK) {
        return NULL;
    }
    agent = (pai_agent *)pai_allocate(&e->heap, sizeof *agent);
    if (agent == NULL) return NULL;
    agent->state.heap = &e->heap;
    agent->state.stream = stream;
    agent->state.leaf = PAI_NONE;
    agent->heap_at = pai_nowhere;
    agent->bucket_next = e->buckets[stream & (e->bucket_count - 1)];
    e->buckets[stream & (e->bucket_count - 1)] = agent;
    e->agent_count++;
    pai_link_use(e, agent);
    return agent;
}

static void pai_drop_reader(pagent_engine *e, pai_agent *agent);

/* Calls that the host is working on: begun by this engine, not answered. */
static uint32_t pai_count_running(const pai_state *state)
{
    uint32_t i, count = 0;
    for (i = 0; i < state->effect_count; i++) {
        count += state->effects[i].kind == PAGENT_EFFECT_CALL && state->effects[i].released == PAI_RELEASED;
    }
    return count;
}

/* Agents whose tables are not registered can do nothing here: to be known before somebody asks one of them. */
static void pai_word_stranded(pagent_engine *e)
{
    pai_text t = pai_text_begin(e->stranded_text, sizeof e->stranded_text);
    const pai_agent *agent = e->newest;
    while (agent != NULL && !agent->stranded) agent = agent->older;
    if (agent == NULL) return;
    pai_text_number(&t, e->stranded_count);
    pai_text_add(&t, e->stranded_count == 1 ? " agent waits" : " agents wait");
    pai_text_add(&t, " for tables that are not registered; for machine ");
    pai_text_add(&t, agent->state.names->text[0]);
    pai_text_add(&t, " version ");
    pai_text_number(&t, agent->state.names->version);
    pai_text_add(&t, ": ");
    pai_text_add(&t, agent->state.name);
}

/* Forgets what is in memory; the journal is untouched. The entry stays. */
static void pai_reset_agent(pagent_engine *e, pai_agent *agent)
{
    uint64_t stream = agent->state.stream;
    e->calls_running -= pai_count_running(&agent->state);
    pai_drop_reader(e, agent);
    if (agent->past != NULL) {
        pai_free_state(agent->past);
        pai_free(&e->heap, agent->past, sizeof *agent->past);
        agent->past = NULL;
    }
    pai_free_state(&agent->state);
    agent->state.stream = stream;
    agent->state.leaf = PAI_NONE;
    agent->machine = NULL;
    agent->exists = 0;
    agent->claimed = 0;
    if (agent->stranded) {
        agent->stranded = 0;
        e->stranded_count--;
        pai_word_stranded(e);
    }
    agent->phase = PAI_AGENT_NEW;
    pai_unset_wake(e, agent);
}

/* The entry goes too. Not while it is in the ready list. */
static void pai_free_agent(pagent_engine *e, pai_agent *agent)
{
    pai_agent **at = &e->buckets[agent->state.stream & (e->bucket_count - 1)];
    PAGENT_ASSERT(!agent->ready && agent->tasks.first == NULL);
    pai_reset_agent(e, agent);
    while (*at != agent) at = &(*at)->bucket_next;
    *at = agent->bucket_next;
    pai_unlink_use(e, agent);
    e->agent_count--;
    pai_free(&e->heap, agent, sizeof *agent);
}

/* ---- tasks ---- */

static size_t pai_text_size(const char *text)
{
    return text != NULL ? pai_length(text) + 1 : 0;
}

static const char *pai_take_text(uint8_t **at, const char *text)
{
    char *made = (char *)*at;
    size_t size = pai_text_size(text);
    if (size == 0) return NULL;
    pai_copy(made, text, size);
    *at += size;
    return made;
}

/* Copies a request with all that it points to. NULL: no memory. */
static pai_task *pai_make_task(pagent_engine *e, const pagent_request *request, uint32_t verb, pagent_bytes data)
{
    size_t size = sizeof(pai_task) + data.size;
    pai_task *task;
    uint8_t *at;
    if (request != NULL) {
        size += pai_text_size(request->agent) + pai_text_size(request->id) + pai_text_size(request->event) +
                pai_text_size(request->target) + pai_text_size(request->who);
    }
    if (size <= PAI_TASK_SIZE) size = PAI_TASK_SIZE;
    task = e->free_tasks;
    if (task != NULL && size == PAI_TASK_SIZE) {
        e->free_tasks = task->next;
        e->free_task_count--;
        pai_clear(task, sizeof *task);
    } else {
        task = (pai_task *)pai_allocate(&e->heap, size);
        if (task == NULL) return NULL;
    }
    task->size = size;
    task->verb = verb;
    e->answer_count += verb == PAI_VERB_ANSWER;
    at = (uint8_t *)(task + 1);
    if (request != NULL) {
        pai_copy(&task->request, request, sizeof *request);
        task->request.agent = pai_take_text(&at, request->agent);
        task->request.id = pai_take_text(&at, request->id);
        task->request.event = pai_take_text(&at, request->event);
        task->request.target = pai_take_text(&at, request->target);
        task->request.who = pai_take_text(&at, request->who);
    }
    pai_copy(at, data.data, data.size);
    task->request.data.data = at;
    task->request.data.size = data.size;
    task->answer.data = task->request.data;
    return task;
}

static void pai_queue_task(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    pai_push_task(&agent->tasks, task);
    pai_mark_ready(e, agent);
}

struct pai_settling { /* the receipt of an inbox message, on its way into the store */
    pai_retry retry;
    pagent_settle request;
    pagent_io io;
    uint64_t stream;
    uint8_t bytes[192];
};

static uint64_t pai_later(const pagent_engine *e, uint32_t pause_ms)
{
    return e->now > PAGENT_FOREVER - pause_ms ? PAGENT_FOREVER : e->now + pause_ms;
}

static void pai_put_off(pagent_engine *e, pai_retry *retry)
{
    retry->retry_ms = pai_later(e, e->limits.retry_pause_ms);
    retry->next = e->retries;
    e->retries = retry;
}

static void pai_end_flight(pagent_engine *e, uint64_t message)
{
    uint32_t i;
    for (i = 0; i < e->flight_count; i++) {
        if (e->flights[i].message != message) continue;
        e->flights[i] = e->flights[--e->flight_count];
        return;
    }
}

/* Until the receipt is there the message stays in flight, and its agent takes nothing else: the id must not slide out
   of the window while the message may be found again. */
static void pai_end_settling(pagent_engine *e, pai_settling *settling, int result)
{
    pai_agent *agent = pai_find_agent(e, settling->stream);
    if (result < 0) {
        pai_trace(e, agent, PAGENT_TRACE_ERROR, result, "receipt");
        settling->retry.settling = settling;
        pai_put_off(e, &settling->retry);
        return;
    }
    pai_end_flight(e, settling->request.message);
    pai_free(&e->heap, settling, sizeof *settling);
    if (agent != NULL && agent->receipts_open != 0) {
        agent->receipts_open--;
        pai_mark_ready(e, agent);
    }
}

static void pai_send_receipt(pagent_engine *e, pai_settling *settling)
{
    int result = pai_begin_operation(e, PAI_OP_SETTLE, settling, &settling->request.op);
    if (result == PAGENT_OK) {
        result = e->store.settle(e->store.ctx, &settling->request, &settling->io);
        if (result == PAGENT_PENDING) return;
        pai_end_operation(e, settling->request.op);
    }
    pai_end_settling(e, settling, result);
}

/* Tells the sender of an inbox message what came of it. */
static void pai_answer_message(pagent_engine *e, pai_settling *settling, const pagent_receipt *receipt)
{
    pai_agent *agent = pai_find_agent(e, settling->stream);
    settling->request.receipt = settling->bytes;
    settling->request.size = (uint32_t)pagent_encode_receipt(receipt, settling->bytes, sizeof settling->bytes);
    if (agent != NULL) agent->receipts_open++;
    pai_send_receipt(e, settling);
}

static void pai_free_task(pagent_engine *e, pai_task *task)
{
    e->answer_count -= task->verb == PAI_VERB_ANSWER;
    if (task->size != PAI_TASK_SIZE || e->free_task_count == PAI_FREE_MAX) {
        pai_free(&e->heap, task, task->size);
        return;
    }
    task->next = e->free_tasks;
    e->free_tasks = task;
    e->free_task_count++;
}

static void pai_post_signal_done(pagent_engine *e, const pai_task *signal, int result)
{
    pai_agent *sender = pai_get_agent(e, signal->sender);
    pagent_bytes none;
    pai_task *task;
    none.data = NULL;
    none.size = 0;
    task = sender != NULL ? pai_make_task(e, NULL, PAI_VERB_SIGNAL_DONE, none) : NULL;
    if (task == NULL) return; /* delivered again after a restart, and found to be a duplicate */
    task->stream = signal->sender;
    task->effect = signal->effect;
    task->answer.code = result;
    pai_queue_task(e, sender, task);
}

static const char pai_over_payload[] = "the data is larger than limits.payload_size_max, or than the store takes";

/* `text` NULL: the result's own sentence. */
static void pai_fill_receipt(pagent_receipt *receipt, uint32_t verb, int result, uint64_t version, const char *text)
{
    pai_text t = pai_text_begin(receipt->text, PAGENT_TEXT_SIZE);
    receipt->result = result;
    receipt->verb = verb;
    receipt->version = version;
    if (result < 0) pai_text_add(&t, text != NULL ? text : pagent_message(result));
}

/* The outcome of a task, durable by now. Frees it. */
static void pai_settle_task(pagent_engine *e, pai_task *task, int result, uint64_t version, const char *text)
{
    pagent_receipt receipt;
    if (task == NULL) return;
    pai_fill_receipt(&receipt, task->verb, result, version, text);
    if (task->receipt != NULL) {
        pai_copy(task->receipt, &receipt, sizeof receipt);
        e->receipts_due--;
    }
    if (task->settling != NULL) pai_answer_message(e, task->settling, &receipt);
    if (task->verb == PAI_VERB_SIGNAL) pai_post_signal_done(e, task, result);
    if (task->verb < PAI_VERB_ANSWER) e->request_count--;
    if (result < 0) {
        pai_trace(e, pai_find_agent(e, task->stream), PAGENT_TRACE_REFUSED, result, task->request.event);
    }
    pai_free_task(e, task);
}

/* ---- building a block ---- */

static pai_commit *pai_take_commit(pagent_engine *e, pai_agent *agent)
{
    pai_commit *commit = e->free_commits;
    pai_buffer keep;
    if (commit != NULL) {
        e->free_commits = commit->next;
        e->free_commit_count--;
    } else {
        commit = (pai_commit *)pai_allocate(&e->heap, sizeof *commit);
        if (commit == NULL) return NULL;
    }
    keep = commit->buffer;
    pai_clear(commit, sizeof *commit);
    commit->buffer = keep;
    commit->buffer.size = 0;
    commit->agent = agent;
    commit->expected = agent->exists ? agent->state.version : 0;
    commit->from = agent->state.leaf;
    commit->name = PAI_NONE;
    return commit;
}

static void pai_give_commit(pagent_engine *e, pai_commit *commit)
{
    if (e->free_commit_count == PAI_FREE_MAX) {
        pai_free_buffer(&e->heap, &commit->buffer);
        pai_free(&e->heap, commit, sizeof *commit);
        return;
    }
    if (commit->buffer.capacity > 1u << 20) pai_free_buffer(&e->heap, &commit->buffer);
    commit->next = e->free_commits;
    e->free_commits = commit;
    e->free_commit_count++;
}

/*  STEP  kind:1 outcome:1 name:2 from:2 (zero):2 effect index:4 attempt:4 effect version:8  */
enum {
    PAI_STEP_SIZE = 24,
    PAI_STEP_AT = 64 + 8 + 24
}; /* behind header, section front and SUMMARY */

enum pai_outcome {
    PAI_TAKEN = 1,
    PAI_REFUSED,
    PAI_DEFERRED,
    PAI_ERROR,
    PAI_PARKED,
    PAI_RETRY,
    PAI_CLAIMED,
    PAI_CANCELLED,
    PAI_ROLLED_BACK,
    PAI_FORKED,
    PAI_RETRIED,
    PAI_MOVED_OUT,
    PAI_MOVED_IN,
    PAI_DELIVERED
};

static int pai_begin_block(pagent_engine *e, pai_commit *commit)
{
    commit->base = commit->buffer.size;
    if (pai_reserve(&e->heap, &commit->buffer, PAI_HEADER) != PAGENT_OK) return PAGENT_E_MEMORY;
    commit->buffer.size += PAI_HEADER;
    if (pai_add_section(&e->heap, &commit->buffer, PAI_TAG_SUMMARY, PAI_SUMMARY_SIZE) == NULL ||
        pai_add_section(&e->heap, &commit->buffer, PAI_TAG_STEP, PAI_STEP_SIZE) == NULL) {
        return PAGENT_E_MEMORY;
    }
    pai_clear(commit->buffer.data + commit->base + PAI_STEP_AT + PAI_SECTION, PAI_STEP_SIZE);
    return PAGENT_OK;
}

static uint8_t *pai_step_fields(const pai_commit *commit)
{
    return commit->buffer.data + commit->base + PAI_STEP_AT + PAI_SECTION;
}

static uint64_t pai_next_version(const pai_commit *commit)
{
    return commit->expected + commit->count + 1;
}

static uint64_t pai_commit_epoch(const pai_agent *agent)
{
    if (!agent->exists) return 1;
    return agent->claimed ? agent->state.epoch : agent->state.epoch + 1;
}

static int pai_check_block_size(const pagent_engine *e, const pai_commit *commit)
{
    size_t size = commit->buffer.size - commit->base + 192; /* what padding may add */
    return size > e->limits.block_size_max ? PAGENT_E_LIMIT : PAGENT_OK;
}

/* Pads, checksums and chains the block at commit->base. */
static int pai_chain_block(pagent_engine *e, pai_commit *commit, uint32_t type, uint32_t carries, pai_block *header)
{
    const pai_state *state = &commit->agent->state;
    uint32_t payload_size = (uint32_t)(commit->buffer.size - commit->base - PAI_HEADER);
    if (pai_check_block_size(e, commit) != PAGENT_OK) return PAGENT_E_LIMIT;
    if (pai_reserve(&e->heap, &commit->buffer, 192) != PAGENT_OK) return PAGENT_E_MEMORY;
    pai_clear(header, sizeof *header);
    header->stream = state->stream;
    header->version = pai_next_version(commit);
    header->epoch = pai_commit_epoch(commit->agent);
    header->previous = header->version == 1 ? 0 : state->link;
    header->type = type;
    header->flags = carries;
    header->based = carries ? 0 : (uint32_t)(header->version - state->snapshot_version);
    pai_finish_block(&e->crc, commit->buffer.data + commit->base, header, &payload_size);
    commit->buffer.size = commit->base + PAI_HEADER + pai_padded(payload_size);
    commit->count++;
    return PAGENT_OK;
}

/* The same, and the state takes over its header. */
static int pai_seal_block(pagent_engine *e, pai_commit *commit, uint32_t type, uint32_t carries)
{
    pai_block header;
    int result = pai_chain_block(e, commit, type, carries, &header);
    if (result != PAGENT_OK) return result;
    pai_apply_header(&commit->agent->state, &header, pai_link(&e->crc, commit->buffer.data + commit->base));
    return PAGENT_OK;
}

static void pai_live(pagent_engine *e, pai_apply *how, uint32_t only_runs)
{
    how->crc = &e->crc;
    how->window = e->limits.dedupe_count;
    how->live = 1;
    how->only_runs = only_runs;
    how->scratch = &e->scratch;
}

/* Applies what was added to the block since `from` to the state, by the same code that recovery uses. */
static int pai_apply_live(pagent_engine *e, pai_commit *commit, size_t from)
{
    pai_apply how;
    pai_live(e, &how, 0);
    return pai_apply_payload(&commit->agent->state, commit->buffer.data + from, (uint32_t)(commit->buffer.size - from),
                             &how);
}

static void pai_write_summary(pai_commit *commit, const pagent_summary *summary)
{
    pai_put_summary(commit->buffer.data + commit->base + PAI_HEADER + PAI_SECTION, summary);
}

static int pai_snapshot_is_due(const pagent_engine *e, const pai_agent *agent)
{
    const pai_state *state = &agent->state;
    if (!agent->exists) return 0;
    if (agent->force_snapshot || state->version - state->snapshot_version >= PAI_BASED_MAX - 16u) return 1;
    return state->since_size >= e->limits.snapshot_floor &&
           state->since_size >= (uint64_t)e->limits.snapshot_factor * state->snapshot_size;
}

/* Half of the key of every effect that this engine issues for an agent. */
static void pai_our_nonce(const pagent_engine *e, const pai_state *state, uint64_t nonce[2])
{
    nonce[0] = e->nonce[0];
    nonce[1] = e->nonce[1] ^ state->stream;
}

static int pai_is_ours(const pagent_engine *e, const pai_state *state)
{
    uint64_t nonce[2];
    pai_our_nonce(e, state, nonce);
    return state->nonce[0] == nonce[0] && state->nonce[1] == nonce[1];
}

/* A snapshot rides in front of the next commit: never in a sync of its own. */
static int pai_add_snapshot(pagent_engine *e, pai_commit *commit)
{
    pai_agent *agent = commit->agent;
    pagent_summary summary;
    pai_apply how;
    uint32_t inline_all = agent->force_snapshot || e->limits.full_snapshots ? PAI_FULL_INLINE : 0;
    int result = pai_begin_block(e, commit);
    if (!agent->claimed) pai_our_nonce(e, &agent->state, agent->state.nonce);
    if (result == PAGENT_OK) result = pai_add_full(&e->heap, &commit->buffer, &agent->state, inline_all);
    if (result == PAGENT_OK) result = pai_check_block_size(e, commit); /* before the state is touched */
    if (result != PAGENT_OK) return result;
    pai_live(e, &how, 1);
    result = pai_apply_payload(&agent->state, commit->buffer.data + commit->base + PAI_HEADER,
                               (uint32_t)(commit->buffer.size - commit->base - PAI_HEADER), &how);
    if (result != PAGENT_OK) return result;
    pai_make_summary(&agent->state, &summary);
    pai_write_summary(commit, &summary);
    result = pai_seal_block(e, commit, PAI_SNAPSHOT, PAI_CARRIES_SNAPSHOT);
    if (result != PAGENT_OK) return result;
    agent->state.snapshot_entries = pai_entry_count(&agent->state);
    agent->force_snapshot = 0;
    pai_trace(e, agent, PAGENT_TRACE_SNAPSHOT, 0, NULL);
    return PAGENT_OK;
}

static int pai_add_claim_if_new(pagent_engine *e, pai_commit *commit)
{
    uint64_t nonce[2];
    if (commit->agent->claimed) return PAGENT_OK;
    pai_our_nonce(e, &commit->agent->state, nonce);
    commit->claims = 1;
    return pai_add_claim(&e->heap, &commit->buffer, nonce);
}

/* Starts the commit that an agent makes next: a snapshot if one is due, then an open block with its claim. */
static int pai_begin_commit(pagent_engine *e, pai_agent *agent, pai_commit **out)
{
    pai_commit *commit = pai_take_commit(e, agent);
    int result = PAGENT_OK;
    *out = commit;
    if (commit == NULL) return PAGENT_E_MEMORY;
    if (pai_snapshot_is_due(e, agent)) result = pai_add_snapshot(e, commit);
    if (result == PAGENT_E_LIMIT && agent->state.version - agent->state.snapshot_version < PAI_BASED_MAX - 2u) {
        commit->buffer.size = 0; /* it does not fit in a block: go on from the older one */
        result = PAGENT_OK;
    }
    if (result == PAGENT_OK) result = pai_begin_block(e, commit);
    if (result == PAGENT_OK) result = pai_add_claim_if_new(e, commit);
    return result;
}

static int pai_ends(uint32_t status)
{
    return status == PAGENT_DONE || status == PAGENT_FAILED_STATUS || status == PAGENT_CANCELLED;
}

/* Fills SUMMARY and STEP, applies the block to the state, ends it. Sections that follow from the new state, such as
   effects that it can no longer handle, are added on the way. */
static int pai_end_commit(pagent_engine *e, pai_commit *commit, uint32_t type, uint32_t status, uint32_t leaf);

/* Settles a task with a trouble that is this engine's alone: an inbox message stays for the next owner. */
static void pai_leave_task(pagent_engine *e, pai_task *task, int result)
{
    if (task != NULL && task->settling != NULL) {
        pai_end_flight(e, task->settling->request.message);
        pai_free(&e->heap, task->settling, sizeof *task->settling);
        task->settling = NULL;
    }
    pai_settle_task(e, task, result, 0, NULL);
}

static int pai_is_trouble_of_ours(int result)
{
    return result == PAGENT_E_FENCED || result == PAGENT_E_STORAGE || result == PAGENT_E_MEMORY ||
           result == PAGENT_E_IN_DOUBT || result > -1000 || result < -1999;
}

/* All that waits for an agent that cannot go on in this engine is told why. */
static void pai_refuse_all(pagent_engine *e, pai_agent *agent)
{
    while (agent->tasks.first != NULL) {
        pai_task *task = pai_pop_task(&agent->tasks);
        if (pai_is_trouble_of_ours(agent->broken)) {
            pai_leave_task(e, task, agent->broken);
        } else {
            pai_settle_task(e, task, agent->broken, 0, NULL);
        }
    }
}

/* There are no tables for this agent: it waits for them, unless it is over, here at least. */
static void pai_strand(pagent_engine *e, pai_agent *agent)
{
    if (agent->stranded || e->machine_count == 0) return;
    if (pai_ends(agent->state.status) || agent->state.status == PAGENT_MOVED) return;
    agent->stranded = 1;
    e->stranded_count++;
    pai_word_stranded(e);
    pai_trace(e, agent, PAGENT_TRACE_ERROR, PAGENT_E_MACHINE_CHANGED, NULL);
}

/* Tells the host that no answer is wanted here any more, to any call of the agent; what is awaited (CRASH_WAIT) goes on
   when the agent does so elsewhere. */
static void pai_call_off_all(pagent_engine *e, const pai_agent *agent, int awaited_too)
{
    uint32_t i;
    for (i = 0; i < agent->state.effect_count && e->host.call_cancel != NULL; i++) {
        const pai_effect *effect = &agent->state.effects[i];
        pagent_call_id id;
        if (effect->kind != PAGENT_EFFECT_CALL) continue;
        if (effect->released != PAI_RELEASED && !(awaited_too && effect->released == PAI_AWAITED)) continue;
        id.stream = agent->state.stream;
        id.version = effect->version;
        id.index = effect->index;
        id.attempt = effect->attempt;
        e->host.call_cancel(e->host.ctx, &id);
    }
}

/* Terminal for this agent in this engine: nothing of it is begun any more, and all that waits is told why. */
static void pai_break(pagent_engine *e, pai_agent *agent, int result)
{
    pai_trace(e, agent, PAGENT_TRACE_ERROR, result, "broken");
    pai_call_off_all(e, agent, 0);
    pai_reset_agent(e, agent);
    agent->phase = PAI_AGENT_BROKEN;
    agent->broken = result;
    pai_refuse_all(e, agent);
}

static void pai_retry_later(pagent_engine *e, pai_agent *agent)
{
    agent->retry_ms = e->now + e->limits.retry_pause_ms;
    pai_set_wake(e, agent, agent->retry_ms);
}

/* Something in the middle of a commit failed before anything was written: memory is behind or ahead, so read it again.
   The task goes back to the front of the queue, unless it was the cause. */
static void pai_abandon(pagent_engine *e, pai_agent *agent, pai_commit *commit, pai_task *task, int result)
{
    const char *what = NULL;
    if (result == PAGENT_E_LIMIT) {
        what = commit != NULL ? commit->over : NULL;
        if (what == NULL) what = "a block would be larger than limits.block_size_max, or than the store takes";
    }
    if (commit != NULL) pai_give_commit(e, commit);
    pai_trace(e, agent, PAGENT_TRACE_ERROR, result, "commit");
    pai_reset_agent(e, agent);
    if (result == PAGENT_E_LIMIT || result == PAGENT_E_CORRUPT) {
        if (task != NULL && task->verb == PAI_VERB_ANSWER && task->answer.code != result) {
            task->answer.outcome = PAGENT_FAILED_FINAL; /* an answer that no block can hold */
            task->answer.code = result;
            task->answer.data.size = 0;
            pai_push_front(&agent->tasks, task);
        } else {
            if (task == NULL || task->verb == PAI_VERB_ANSWER) pai_break(e, agent, result);
            pai_settle_task(e, task, result, 0, what);
        }
    } else if (task != NULL && result == PAGENT_E_NO_SPACE && task->receipt != NULL) {
        pai_settle_task(e, task, result, 0, NULL);
    } else if (task != NULL) {
        pai_push_front(&agent->tasks, task);
    }
    pai_mark_ready(e, agent);
    if (result != PAGENT_E_CONFLICT) pai_retry_later(e, agent);
}

/* ---- calls ---- */

static void pai_key(char key[PAGENT_KEY_SIZE], const pai_effect *effect)
{
    char half[17];
    pai_text text = pai_text_begin(key, PAGENT_KEY_SIZE);
    pai_hex64(half, effect->nonce[0]);
    pai_text_add(&text, half);
    pai_hex64(half, effect->nonce[1]);
    pai_text_add(&text, half);
    pai_text_add(&text, "-");
    pai_text_number(&text, effect->version);
    pai_text_add(&text, "-");
    pai_text_number(&text, effect->index);
}

static void pai_fill_answer(pai_task *task, const pagent_call_id *id, const pagent_answer *answer)
{
    task->stream = id->stream;
    task->effect.version = id->version;
    task->effect.index = id->index;
    task->attempt = id->attempt;
    task->answer.outcome = answer->outcome;
    task->answer.code = answer->code;
    task->answer.retry_after_ms = answer->retry_after_ms;
}

static int pai_queue_answer(pagent_engine *e, pai_agent *agent, const pagent_call_id *id, const pagent_answer *answer)
{
    pai_task *task = pai_make_task(e, NULL, PAI_VERB_ANSWER, answer->data);
    if (task == NULL) return PAGENT_E_MEMORY;
    pai_fill_answer(task, id, answer);
    pai_queue_task(e, agent, task);
    return PAGENT_OK;
}

static uint8_t pai_released_as(const pai_agent *agent, const pai_effect *effect)
{
    uint32_t policy = agent->machine->source->calls[effect->name].crash_policy;
    return (uint8_t)(policy == PAGENT_CRASH_WAIT ? PAI_AWAITED : PAI_RELEASED);
}

/* Whether the host may be working on a call. */
static int pai_is_under_way(const pai_effect *effect)
{
    return effect->kind == PAGENT_EFFECT_CALL && (effect->released == PAI_RELEASED || effect->released == PAI_AWAITED);
}

/* Of an answer, whether it comes at once or by pagent_call_done. */
static int pai_check_answer(const pagent_engine *e, const pagent_answer *answer)
{
    if (answer->outcome > PAGENT_FAILED_FINAL || (answer->data.size != 0 && answer->data.data == NULL)) {
        return PAGENT_E_ARGUMENT;
    }
    return answer->data.size > e->limits.payload_size_max ? PAGENT_E_LIMIT : PAGENT_OK;
}

/* Hands a durable call to the host. An answer that comes at once is queued like any other. */
static void pai_start_call(pagent_engine *e, pai_agent *agent, pai_effect *effect)
{
    char key[PAGENT_KEY_SIZE];
    pagent_call call;
    pagent_answer answer;
    pai_task *spare;
    int result;
    pai_clear(&call, sizeof call);
    pai_clear(&answer, sizeof answer);
    spare = pai_make_task(e, NULL, PAI_VERB_ANSWER, answer.data); /* so that an answer that comes at once has a place */
    if (spare == NULL) {
        pai_retry_later(e, agent);
        return;
    }
    pai_key(key, effect);
    call.id.stream = agent->state.stream;
    call.id.version = effect->version;
    call.id.index = effect->index;
    call.id.attempt = effect->attempt;
    call.agent = agent->state.name;
    call.name = pai_name(agent->state.names, PAI_CALLS, effect->name);
    call.request.data = effect->data;
    call.request.size = effect->data_size;
    call.key = key;
    call.deadline_ms = effect->due_ms;
    call.flags = agent->machine->source->calls[effect->name].flags;
    call.repeated = effect->flags & PAI_EFFECT_REPEATED;
    effect->released = pai_released_as(agent, effect);
    e->calls_running += effect->released == PAI_RELEASED;
    pai_trace(e, agent, PAGENT_TRACE_CALL, (int32_t)effect->attempt, call.name);
    result = e->host.call(e->host.ctx, &call, &answer);
    if (result == PAGENT_PENDING) {
        pai_free_task(e, spare);
        return;
    }
    if (result != PAGENT_OK) {
        pai_clear(&answer, sizeof answer);
        answer.outcome = PAGENT_FAILED;
        answer.code = result;
    }
    e->calls_running -= effect->released == PAI_RELEASED;
    effect->released = PAI_ANSWERED;
    result = pai_check_answer(e, &answer);
    if (result == PAGENT_OK) result = pai_queue_answer(e, agent, &call.id, &answer);
    if (result == PAGENT_OK) {
        pai_free_task(e, spare);
        return;
    }
    /* An answer that cannot be taken is a failure: for good if it is too large, since another would be so too; else the
       call is made again, or is in doubt where it must not be. */
    answer.data.size = 0;
    answer.code = result;
    answer.outcome = PAGENT_FAILED_FINAL;
    if (result != PAGENT_E_LIMIT) {
        if (agent->machine->source->calls[effect->name].crash_policy != PAGENT_CRASH_REPEAT) {
            answer.code = PAGENT_E_IN_DOUBT;
        } else {
            answer.outcome = PAGENT_FAILED;
        }
    }
    pai_fill_answer(spare, &call.id, &answer);
    pai_queue_task(e, agent, spare);
}

static void pai_deliver_signal(pagent_engine *e, pai_agent *agent, pai_effect *effect)
{
    const char *target = (const char *)effect->data;
    uint32_t target_size = (uint32_t)pai_length(target) + 1;
    uint64_t id;
    pagent_request request;
    pai_agent *receiver;
    pai_task *task;
    pai_clear(&request, sizeof request);
    request.size = sizeof request;
    request.verb = PAGENT_POST;
    request.agent = target;
    request.event = pai_name(agent->state.names, PAI_SIGNALS, effect->name);
    request.data.data = effect->data + target_size;
    request.data.size = effect->data_size - target_size;
    receiver = pai_get_agent(e, pagent_stream_of(target));
    task = receiver != NULL ? pai_make_task(e, &request, PAI_VERB_SIGNAL, request.data) : NULL;
    if (task == NULL) {
        effect->retry_ms = pai_later(e, e->limits.retry_pause_ms);
        return;
    }
    effect->released = PAI_RELEASED;
    id = pai_mix(pai_mix(agent->state.stream ^ effect->version) + effect->index) ^ effect->nonce[0];
    task->id = id != 0 ? id : 1;
    task->stream = receiver->state.stream;
    task->sender = agent->state.stream;
    task->effect.version = effect->version;
    task->effect.index = effect->index;
    pai_queue_task(e, receiver, task);
}

/* Law 1: this runs only for blocks that the store has acknowledged. */
static void pai_release(pagent_engine *e, pai_agent *agent)
{
    uint32_t i;
    if (e->hold || agent->machine == NULL || agent->state.status == PAGENT_MOVED) return;
    for (i = 0; i < agent->state.effect_count; i++) {
        pai_effect *effect = &agent->state.effects[i];
        if (effect->released != PAI_UNRELEASED || effect->phase != PAGENT_PHASE_OPEN) continue;
        if (effect->kind == PAGENT_EFFECT_CALL && agent->claimed) pai_start_call(e, agent, effect);
        if (effect->kind == PAGENT_EFFECT_SIGNAL && effect->retry_ms <= e->now) pai_deliver_signal(e, agent, effect);
    }
}

/* Tells the host which calls a durable block has ended before their answer. */
static void pai_call_off(pagent_engine *e, const pai_commit *commit)
{
    const uint8_t *block = commit->buffer.data + commit->base;
    pai_block header;
    const uint8_t *payload;
    uint32_t at = 0;
    pai_section section;
    if (pai_decode_header(&e->crc, block, 0, &header) != PAGENT_OK) return;
    payload = pai_plain_payload(&e->heap, block, &header, &e->scratch);
    if (payload == NULL) return;
    while (pai_next_section(payload, header.payload_size, &at, &section) == PAGENT_OK) {
        pagent_call_id id;
        if (section.tag != PAI_TAG_EFFECT_CHANGE || !(section.data[13] & PAI_CHANGE_CALL_OFF)) continue;
        id.stream = header.stream;
        id.version = pai_get64(section.data);
        id.index = pai_get32(section.data + 8);
        id.attempt = pai_get32(section.data + 16) - (section.data[12] == PAI_CHANGE_PAUSED ? 1u : 0u);
        if (e->host.call_cancel != NULL) e->host.call_cancel(e->host.ctx, &id);
    }
}

/* ---- committing ---- */

static uint64_t pai_wake_time(const pagent_engine *e, const pai_agent *agent)
{
    uint64_t due = PAGENT_FOREVER;
    uint32_t i;
    const pai_state *state = &agent->state;
    if (agent->machine == NULL || state->status == PAGENT_MOVED) return due;
    for (i = 0; i < state->effect_count; i++) {
        const pai_effect *effect = &state->effects[i];
        uint64_t wanted = effect->due_ms;
        if (effect->kind == PAGENT_EFFECT_SIGNAL) {
            if (e->hold || effect->released != PAI_UNRELEASED) continue;
            wanted = effect->retry_ms;
        } else if (state->status == PAGENT_PARKED || (e->hold && effect->kind == PAGENT_EFFECT_CALL)) {
            continue;
        }
        if (wanted < due) due = wanted;
    }
    return due;
}

static void pai_commit_durable(pagent_engine *e, pai_commit *commit)
{
    pai_agent *agent = commit->agent;
    pagent_trace record;
    e->last_commit_ms = e->now;
    e->sealed = 0;
    agent->phase = PAI_AGENT_READY;
    agent->exists = 1;
    agent->claimed = 1;
    agent->retry_ms = 0;
    if (e->host.trace != NULL) {
        pai_clear(&record, sizeof record);
        record.kind = PAGENT_TRACE_COMMIT;
        record.code = commit->outcome;
        record.stream = commit->request.stream;
        record.version = commit->request.first + commit->count - 1;
        record.time_ms = e->now;
        record.agent = agent->state.name;
        record.event_kind = commit->event_kind;
        record.name = pai_name(agent->state.names, pai_event_table(commit->event_kind), commit->name);
        record.from = pai_name(agent->state.names, PAI_STATES, commit->from);
        record.to = pai_name(agent->state.names, PAI_STATES, agent->state.leaf);
        record.block_size = (uint32_t)commit->buffer.size;
        e->host.trace(e->host.ctx, &record);
        if (commit->claims) pai_trace(e, agent, PAGENT_TRACE_CLAIM, 0, NULL);
        if (commit->outcome == PAI_PARKED) pai_trace(e, agent, PAGENT_TRACE_PARKED, agent->state.error, NULL);
    }
    if (e->failed == 0) e->text[0] = 0;
    if (commit->calls_off) pai_call_off(e, commit);
    if (commit->outcome == PAI_MOVED_OUT) commit->drop_agent = 1;
    if (agent->machine == NULL && !commit->drop_agent) pai_strand(e, agent); /* it was moved in */
    if (commit->drop_agent) pai_call_off_all(e, agent, commit->outcome != PAI_MOVED_OUT);
    pai_settle_task(e, commit->task, commit->result, commit->request.first + commit->count - 1, NULL);
    if (commit->drop_agent) {
        pai_reset_agent(e, agent);
    } else {
        pai_release(e, agent);
        if (agent->retry_ms == 0) pai_set_wake(e, agent, pai_wake_time(e, agent));
    }
    pai_mark_ready(e, agent);
    pai_give_commit(e, commit);
}

static int pai_is_passing(int result);
static void pai_doubt_later(pagent_engine *e, pai_commit *commit);
static void pai_resolve_doubt(pagent_engine *e, pai_commit *commit);
static void pai_send_commit(pagent_engine *e, pai_commit *commit);

static void pai_commit_failed(pagent_engine *e, pai_commit *commit, int result)
{
    pai_agent *agent = commit->agent;
    pai_task *task = commit->task;
    if (commit->doubt != 0 && pai_is_passing(result)) {
        pai_doubt_later(e, commit);
        return;
    }
    if (commit->doubt != 0 && result == PAGENT_E_CONFLICT) { /* the one in doubt may have landed late: look once more */
        pai_resolve_doubt(e, commit);
        return;
    }
    if (result == PAGENT_E_FENCED || (result == PAGENT_E_CONFLICT && agent->claimed)) {
        pai_give_commit(e, commit);
        pai_break(e, agent, PAGENT_E_FENCED);
        pai_leave_task(e, task, PAGENT_E_FENCED);
        return;
    }
    if (result == PAGENT_E_CONFLICT || result == PAGENT_E_AGAIN || result == PAGENT_E_NO_SPACE ||
        result == PAGENT_E_LIMIT || result == PAGENT_E_MEMORY) {
        if (result == PAGENT_E_NO_SPACE) {
            pai_text t = pai_text_begin(e->text, PAGENT_TEXT_SIZE);
            pai_text_add(&t, pagent_message(result));
        }
        pai_abandon(e, agent, commit, task, result);
        return;
    }
    pai_resolve_doubt(e, commit);
}

/* The answer of an append, or of the flush that it waited for. */
static void pai_commit_answer(pagent_engine *e, pai_commit *commit, int result)
{
    if (result == PAGENT_OK) {
        pai_commit_durable(e, commit);
    } else if (result == PAGENT_STAGED) {
        commit->next = NULL;
        if (e->staged_last != NULL) {
            e->staged_last->next = commit;
        } else {
            e->staged = commit;
        }
        e->staged_last = commit;
    } else {
        pai_commit_failed(e, commit, result < 0 ? result : PAGENT_E_STORAGE);
    }
}

static void pai_send_commit(pagent_engine *e, pai_commit *commit)
{
    pagent_io io;
    int result;
    pai_clear(&io, sizeof io);
    commit->checking = 0;
    if (pai_begin_operation(e, PAI_OP_APPEND, commit, &commit->request.op) != PAGENT_OK) {
        pai_commit_failed(e, commit, PAGENT_E_MEMORY);
        return;
    }
    result = e->store.append(e->store.ctx, &commit->request, &io);
    if (result == PAGENT_PENDING) return;
    pai_end_operation(e, commit->request.op);
    pai_commit_answer(e, commit, result);
}

/* A finished commit goes to the store. */
static void pai_submit_commit(pagent_engine *e, pai_commit *commit)
{
    pai_agent *agent = commit->agent;
    pagent_append *request = &commit->request;
    agent->phase = PAI_AGENT_COMMITTING;
    request->stream = agent->state.stream;
    request->expected = commit->expected;
    request->first = commit->expected + 1;
    request->epoch = agent->state.epoch;
    request->blocks = commit->buffer.data;
    request->size = (uint32_t)commit->buffer.size;
    request->count = commit->count;
    request->flags = commit->flags;
    pai_make_summary(&agent->state, &request->summary);
    pai_send_commit(e, commit);
}

/* ---- A4: what the store could not say is found out by reading ---- */

static int pai_is_passing(int result)
{
    return result == PAGENT_E_AGAIN || result == PAGENT_E_NO_SPACE || result == PAGENT_E_MEMORY;
}

/* The question stays open: neither the bytes nor the event may be given up while they may stand in the journal. */
static void pai_doubt_later(pagent_engine *e, pai_commit *commit)
{
    commit->retry.commit = commit;
    pai_put_off(e, &commit->retry);
}

static void pai_doubt_answer(pagent_engine *e, pai_commit *commit, int result, const pagent_io *io)
{
    size_t size = commit->buffer.size;
    int stands =
        result == PAGENT_E_LIMIT || (result == PAGENT_OK && io->count != 0); /* LIMIT: a bigger block than ours */
    int ours =
        result == PAGENT_OK && stands && io->size >= size && pai_equal(commit->check.buffer, commit->buffer.data, size);
    pai_free(&e->heap, commit->check.buffer, commit->check.capacity);
    commit->check.buffer = NULL;
    if (pai_is_passing(result)) {
        pai_doubt_later(e, commit);
    } else if (ours) {
        pai_commit_durable(e, commit);
    } else if (stands || (result == PAGENT_OK && io->version > commit->expected)) {
        commit->doubt = 0;
        pai_commit_failed(e, commit, PAGENT_E_CONFLICT);
    } else if ((result == PAGENT_OK || result == PAGENT_E_NOT_FOUND) && commit->doubt < PAI_DOUBTS_MAX) {
        commit->doubt++;
        pai_send_commit(e, commit); /* not there: the identical bytes once more */
    } else {
        (void)pai_fail_engine(e, result < 0 && result != PAGENT_E_IN_DOUBT ? result : PAGENT_E_STORAGE,
                              "close the engine and open it again: ");
        commit->agent->phase = PAI_AGENT_BROKEN;
        commit->agent->broken = e->failed;
        pai_leave_task(e, commit->task, PAGENT_E_IN_DOUBT);
        pai_give_commit(e, commit);
    }
}

static void pai_resolve_doubt(pagent_engine *e, pai_commit *commit)
{
    pagent_io io;
    int result;
    pai_clear(&io, sizeof io);
    if (commit->doubt == 0) commit->doubt = 1;
    commit->check.stream = commit->request.stream;
    commit->check.mode = PAGENT_READ_FROM;
    commit->check.version = commit->request.first;
    commit->check.capacity = (uint32_t)commit->buffer.size;
    commit->check.buffer = (uint8_t *)e->heap.allocate(e->heap.ctx, NULL, 0, commit->check.capacity);
    commit->checking = 1;
    if (commit->check.buffer == NULL || pai_begin_operation(e, PAI_OP_APPEND, commit, &commit->check.op) != PAGENT_OK) {
        pai_doubt_answer(e, commit, PAGENT_E_MEMORY, &io);
        return;
    }
    result = e->store.read(e->store.ctx, &commit->check, &io);
    if (result == PAGENT_PENDING) return;
    pai_end_operation(e, commit->check.op);
    pai_doubt_answer(e, commit, result, &io);
}

/* Commits in doubt are looked up again; receipts that the store would not take are sent again. */
static void pai_try_again(pagent_engine *e)
{
    pai_retry *list = e->retries;
    e->retries = NULL;
    while (list != NULL) {
        pai_retry *retry = list;
        list = list->next;
        if (retry->retry_ms > e->now && retry->retry_ms <= pai_later(e, e->limits.retry_pause_ms)) {
            retry->next = e->retries;
            e->retries = retry;
        } else if (retry->commit != NULL) {
            pai_resolve_doubt(e, retry->commit);
        } else {
            pai_send_receipt(e, retry->settling);
        }
    }
}

/* ---- group commit ---- */

static void pai_flush_answer(pagent_engine *e, int result)
{
    pai_commit *commit = e->flushing;
    e->flushing = NULL;
    e->flush_busy = 0;
    if (result == PAGENT_STAGED || result > PAGENT_STAGED) result = PAGENT_E_STORAGE;
    while (commit != NULL) {
        pai_commit *next = commit->next;
        pai_commit_answer(e, commit, result);
        commit = next;
    }
}

static void pai_flush(pagent_engine *e, int idle)
{
    pagent_op op;
    int result;
    if (e->flush_busy || e->store.flush == NULL || (e->staged == NULL && !idle)) return;
    if (pai_begin_operation(e, PAI_OP_FLUSH, e, &op) != PAGENT_OK) return;
    e->flushing = e->staged;
    e->staged = e->staged_last = NULL;
    e->flush_busy = 1;
    result = e->store.flush(e->store.ctx, op, &e->flush_io);
    if (result == PAGENT_PENDING) return;
    pai_end_operation(e, op);
    if (idle && result < 0) (void)pai_fail_engine(e, result, "the idle log could not be sealed: ");
    pai_flush_answer(e, result);
}

/* ================================================================================================================
   [STEP]  one event handled as a transaction
   Owns nothing: writes into the engine's open block and the agent's context. Invariant: either the block holds the
   consumed event with all its consequences, or the context is what it was and the block is given back. */

struct pagent_step {
    pagent_engine *engine;
    pai_agent *agent;
    pai_commit *commit;
    pagent_event event;
    uint64_t version;
    size_t mark; /* of the block: what the handlers staged begins here */
    uint32_t mark_calls_off;
    uint32_t staged;  /* effects so far: the next one's index */
    uint32_t effects; /* issued in this step and before: against the limit */
    uint16_t leaf;
    int32_t error;
    int32_t text_code; /* what error_text is about */
    char error_text[PAGENT_TEXT_SIZE];
};

PAGENT_API const pagent_event *pagent_current_event(const pagent_step *step)
{
    return &step->event;
}

PAGENT_API const char *pagent_agent_name(const pagent_step *step)
{
    return step->agent->state.name;
}

PAGENT_API uint64_t pagent_version(const pagent_step *step)
{
    return step->version;
}

PAGENT_API uint64_t pagent_now_ms(const pagent_step *step)
{
    return step->engine->now;
}

PAGENT_API void *pagent_context(pagent_step *step, uint32_t *size)
{
    if (size != NULL) *size = (uint32_t)step->agent->state.context.size;
    return step->agent->state.context.data;
}

PAGENT_API int pagent_resize_context(pagent_step *step, uint32_t size)
{
    pai_buffer *context = &step->agent->state.context;
    if (size > step->engine->limits.context_size_max) {
        return pagent_fail(step, PAGENT_E_LIMIT, "the context is larger than limits.context_size_max");
    }
    if (size > context->size) {
        size_t more = size - context->size;
        if (pai_reserve(&step->engine->heap, context, more) != PAGENT_OK) return PAGENT_E_MEMORY;
        pai_clear(context->data + context->size, more);
    }
    context->size = size;
    return PAGENT_OK;
}

static int pai_check_data(pagent_step *step, uint32_t size)
{
    if (size <= step->engine->limits.payload_size_max) return PAGENT_OK;
    return pagent_fail(step, PAGENT_E_LIMIT, pai_over_payload);
}

PAGENT_API int pagent_remember(pagent_step *step, uint32_t kind, const void *data, uint32_t size)
{
    int result = pai_check_data(step, size);
    if (result != PAGENT_OK) return result;
    return pai_add_entry_section(&step->engine->heap, &step->commit->buffer, kind, data, size);
}

PAGENT_API uint32_t pagent_transcript_count(const pagent_step *step)
{
    return pai_entry_count(&step->agent->state);
}

PAGENT_API int pagent_transcript_entry(const pagent_step *step, uint32_t index, pagent_entry *entry)
{
    if (index >= pai_entry_count(&step->agent->state)) return PAGENT_E_NOT_FOUND;
    pai_entry(&step->agent->state, index, entry);
    return PAGENT_OK;
}

static uint64_t pai_after(uint64_t now, uint64_t pause)
{
    return now > PAGENT_FOREVER - pause ? PAGENT_FOREVER : now + pause;
}

static int pai_stage_effect(pagent_step *step, pai_effect *effect, pagent_effect_id *id)
{
    int result;
    if (step->effects >= step->engine->limits.effects_max) {
        return pagent_fail(step, PAGENT_E_LIMIT, "more effects are outstanding than limits.effects_max");
    }
    effect->version = step->version;
    effect->index = step->staged;
    result = pai_add_effect(&step->engine->heap, &step->commit->buffer, effect);
    if (result != PAGENT_OK) return result;
    if (id != NULL) {
        id->version = effect->version;
        id->index = effect->index;
    }
    step->staged++;
    step->effects++;
    return PAGENT_OK;
}

static uint32_t pai_or(uint32_t value, uint32_t otherwise)
{
    return value != 0 ? value : otherwise;
}

/* When the attempt that begins now has to be answered. */
static uint64_t pai_attempt_due(const pagent_call_spec *spec, uint64_t now, uint64_t deadline_ms)
{
    uint64_t due = PAGENT_FOREVER;
    if (spec->attempt_timeout_ms != 0) {
        due = pai_after(now, spec->attempt_timeout_ms);
    } else if (spec->crash_policy != PAGENT_CRASH_WAIT) {
        due = pai_after(now, 120000);
    }
    return due < deadline_ms ? due : deadline_ms;
}

/* A handler named what its machine does not declare: the text names it, and where to declare it. */
static int pai_undeclared(pagent_step *step, const char *list, const char *name)
{
    pai_text text = pai_text_begin(step->error_text, PAGENT_TEXT_SIZE);
    pai_text_add(&text, "\"");
    pai_text_add(&text, name);
    pai_text_add(&text, "\" is not declared: name it in the machine's ");
    pai_text_add(&text, list);
    step->text_code = PAGENT_E_UNDECLARED;
    return PAGENT_E_UNDECLARED;
}

PAGENT_API int pagent_begin_call(pagent_step *step, const char *call, const void *request, uint32_t size,
                                 pagent_effect_id *id)
{
    const pagent_machine *m = step->agent->machine->source;
    uint32_t name = pai_call_find(m, call, pai_length(call));
    const pagent_call_spec *spec;
    pai_effect effect;
    if (name == PAI_NONE) return pai_undeclared(step, "calls", call);
    if (pai_check_data(step, size) != PAGENT_OK) return PAGENT_E_LIMIT;
    spec = &m->calls[name];
    pai_clear(&effect, sizeof effect);
    effect.kind = PAGENT_EFFECT_CALL;
    effect.phase = step->engine->hold ? PAGENT_PHASE_HELD : PAGENT_PHASE_OPEN;
    effect.name = (uint16_t)name;
    effect.attempt = 1;
    effect.flags = spec->flags & PAGENT_CALL_IRREVERSIBLE ? PAI_EFFECT_IRREVERSIBLE : 0;
    effect.deadline_ms =
        spec->total_timeout_ms != 0 ? pai_after(step->engine->now, spec->total_timeout_ms) : PAGENT_FOREVER;
    effect.due_ms = pai_attempt_due(spec, step->engine->now, effect.deadline_ms);
    effect.nonce[0] = step->engine->nonce[0];
    effect.nonce[1] = step->engine->nonce[1] ^ step->agent->state.stream;
    effect.data = (uint8_t *)(uintptr_t)request;
    effect.data_size = size;
    return pai_stage_effect(step, &effect, id);
}

PAGENT_API int pagent_ask_approval(pagent_step *step, const char *approval, const void *payload, uint32_t size,
                                   uint64_t deadline_ms, pagent_effect_id *id)
{
    uint32_t name = pai_list_find(step->agent->machine->source->approvals, approval, pai_length(approval));
    pai_effect effect;
    if (name == PAI_NONE) return pai_undeclared(step, "approvals", approval);
    if (pai_check_data(step, size) != PAGENT_OK) return PAGENT_E_LIMIT;
    pai_clear(&effect, sizeof effect);
    effect.kind = PAGENT_EFFECT_APPROVAL;
    effect.phase = PAGENT_PHASE_OPEN;
    effect.name = (uint16_t)name;
    effect.due_ms = effect.deadline_ms = deadline_ms;
    effect.data = (uint8_t *)(uintptr_t)payload;
    effect.data_size = size;
    return pai_stage_effect(step, &effect, id);
}

PAGENT_API int pagent_set_timer(pagent_step *step, const char *timer, uint64_t due_ms)
{
    uint32_t name = pai_list_find(step->agent->machine->source->timers, timer, pai_length(timer));
    pai_effect effect;
    if (name == PAI_NONE) return pai_undeclared(step, "timers", timer);
    pai_clear(&effect, sizeof effect);
    effect.kind = PAGENT_EFFECT_TIMER;
    effect.phase = PAGENT_PHASE_OPEN;
    effect.name = (uint16_t)name;
    effect.due_ms = effect.deadline_ms = due_ms;
    return pai_stage_effect(step, &effect, NULL);
}

PAGENT_API int pagent_send_signal(pagent_step *step, const char *agent, const char *signal, const void *data,
                                  uint32_t size)
{
    uint32_t name = pai_list_find(step->agent->machine->source->signals, signal, pai_length(signal));
    size_t target_size = pai_length(agent) + 1;
    pai_buffer joined;
    pai_effect effect;
    int result;
    if (name == PAI_NONE) return pai_undeclared(step, "signals", signal);
    if (target_size < 2 || target_size > PAGENT_NAME_MAX + 1u) return PAGENT_E_ARGUMENT;
    result = pai_check_data(step, size);
    if (result != PAGENT_OK) return result;
    pai_clear(&joined, sizeof joined);
    result = pai_append_bytes(&step->engine->heap, &joined, agent, target_size);
    if (result == PAGENT_OK) result = pai_append_bytes(&step->engine->heap, &joined, data, size);
    if (result == PAGENT_OK) {
        pai_clear(&effect, sizeof effect);
        effect.kind = PAGENT_EFFECT_SIGNAL;
        effect.phase = PAGENT_PHASE_OPEN;
        effect.name = (uint16_t)name;
        effect.due_ms = effect.deadline_ms = PAGENT_FOREVER;
        effect.nonce[0] = step->engine->nonce[0];
        effect.nonce[1] = step->engine->nonce[1] ^ step->agent->state.stream;
        effect.data = joined.data;
        effect.data_size = (uint32_t)joined.size;
        result = pai_stage_effect(step, &effect, NULL);
    }
    pai_free_buffer(&step->engine->heap, &joined);
    return result;
}

/* What the block being written has done so far to one effect, or to one named timer (id NULL): the section's walk in
   order.
   Gives the effect that is outstanding now; 0: none. */
static int pai_outstanding(const pagent_step *step, const pagent_effect_id *id, uint32_t timer, pai_effect *found)
{
    const pai_state *state = &step->agent->state;
    const uint8_t *payload = step->commit->buffer.data + step->commit->base + PAI_HEADER;
    uint32_t size = (uint32_t)(step->commit->buffer.size - step->commit->base - PAI_HEADER), at = 0, i;
    pai_section section;
    int there = 0;
    for (i = 0; i < state->effect_count; i++) {
        const pai_effect *effect = &state->effects[i];
        if (id != NULL ? effect->version == id->version && effect->index == id->index
                       : effect->kind == PAGENT_EFFECT_TIMER && effect->name == timer) {
            pai_copy(found, effect, sizeof *found);
            there = 1;
        }
    }
    while (pai_next_section(payload, size, &at, &section) == PAGENT_OK) {
        if (section.tag == PAI_TAG_EFFECT) {
            pai_effect staged;
            pai_parse_effect(&section, &staged);
            if (id != NULL ? staged.version == id->version && staged.index == id->index
                           : staged.kind == PAGENT_EFFECT_TIMER && staged.name == timer) {
                pai_copy(found, &staged, sizeof *found);
                there = 1;
            }
        } else if (section.tag == PAI_TAG_EFFECT_CHANGE && there && pai_get64(section.data) == found->version &&
                   pai_get32(section.data + 8) == found->index) {
            there = 0;
        }
    }
    return there;
}

static int pai_stage_cancel(pagent_step *step, const pai_effect *effect)
{
    uint32_t flags = 0;
    if (pai_is_under_way(effect)) {
        flags = PAI_CHANGE_CALL_OFF;
        step->commit->calls_off++;
    }
    return pai_add_change(&step->engine->heap, &step->commit->buffer, effect, PAI_CHANGE_CANCELLED, flags,
                          effect->attempt, 0);
}

PAGENT_API int pagent_clear_timer(pagent_step *step, const char *timer)
{
    uint32_t name = pai_list_find(step->agent->machine->source->timers, timer, pai_length(timer));
    pai_effect effect;
    if (name == PAI_NONE) return pai_undeclared(step, "timers", timer);
    if (!pai_outstanding(step, NULL, name, &effect)) return PAGENT_OK;
    return pai_stage_cancel(step, &effect);
}

PAGENT_API int pagent_cancel_effect(pagent_step *step, const pagent_effect_id *id)
{
    pai_effect effect;
    if (!pai_outstanding(step, id, 0, &effect)) return PAGENT_E_NOT_FOUND;
    if (effect.kind != PAGENT_EFFECT_CALL && effect.kind != PAGENT_EFFECT_APPROVAL) return PAGENT_E_NOT_FOUND;
    return pai_stage_cancel(step, &effect);
}

PAGENT_API int pagent_fail(pagent_step *step, int code, const char *text)
{
    pai_text t = pai_text_begin(step->error_text, PAGENT_TEXT_SIZE);
    pai_text_add(&t, text);
    step->text_code = code < 0 ? code : PAGENT_E_REFUSED;
    return step->text_code;
}

PAGENT_API uint64_t pagent_digest(const void *data, uint32_t size)
{
    return pai_hash(data, size);
}

/* ---- moving through the states ---- */

static uint32_t pai_parent(const pai_machine *machine, uint32_t state)
{
    return state == PAI_NONE ? (uint32_t)PAI_NONE : machine->places[state].parent;
}

static int pai_is_inside(const pai_machine *machine, uint32_t state, uint32_t outer)
{
    while (state != PAI_NONE && state != outer) state = pai_parent(machine, state);
    return state == outer;
}

static int pai_run_handler(pagent_step *step, pagent_handler handler, uint32_t tag)
{
    return handler != NULL ? handler(step->agent->machine->source->ctx, step, tag) : PAGENT_OK;
}

static int pai_exit_up_to(pagent_step *step, uint32_t outer)
{
    const pai_machine *machine = step->agent->machine;
    while (step->leaf != PAI_NONE && step->leaf != outer) {
        const pagent_state *state = &machine->source->states[step->leaf];
        int result = pai_run_handler(step, state->exit, state->tag);
        if (result < 0) return result;
        step->leaf = (uint16_t)pai_parent(machine, step->leaf);
    }
    return PAGENT_OK;
}

/* From step->leaf, which is `target` or around it, down to `target` and its initial children. */
static int pai_enter_down_to(pagent_step *step, uint32_t target)
{
    const pai_machine *machine = step->agent->machine;
    while (step->leaf != target || machine->places[target].initial != PAI_NONE) {
        uint32_t next = target;
        const pagent_state *state;
        int result;
        if (step->leaf == target) {
            next = target = machine->places[target].initial;
        } else {
            while (pai_parent(machine, next) != step->leaf) next = pai_parent(machine, next);
        }
        step->leaf = (uint16_t)next;
        state = &machine->source->states[next];
        result = pai_run_handler(step, state->enter, state->tag);
        if (result < 0) return result;
    }
    return PAGENT_OK;
}

/* The transition of `row`, which stands in `source`'s rows (PAI_NONE: the root's). */
static int pai_take_row(pagent_step *step, const pai_row *row, uint32_t source)
{
    const pai_machine *machine = step->agent->machine;
    const pagent_transition *t = &machine->source->transitions[row->source];
    uint32_t outer;
    int result;
    if (row->to == PAI_NONE) return pai_run_handler(step, t->action, t->tag);
    outer = pai_parent(machine, source);
    while (outer != PAI_NONE && (!pai_is_inside(machine, row->to, outer) || outer == row->to)) {
        outer = pai_parent(machine, outer);
    }
    result = pai_exit_up_to(step, outer);
    if (result >= 0) result = pai_run_handler(step, t->action, t->tag);
    if (result >= 0) result = pai_enter_down_to(step, row->to);
    return result;
}

/* 1: a row was taken. 0: none accepts the event. Below 0: a handler's error. */
static int pai_offer(pagent_step *step, uint32_t kind, uint32_t name)
{
    const pai_machine *machine = step->agent->machine;
    uint32_t state = step->leaf, i;
    for (;;) {
        const pai_place *place = &machine->places[state != PAI_NONE ? state : machine->source->state_count];
        for (i = 0; i < place->row_count; i++) {
            const pai_row *row = &machine->rows[place->row_first + i];
            const pagent_transition *t = &machine->source->transitions[row->source];
            int yes = 1;
            if (row->kind != kind || row->name != name) continue;
            if (t->guard != NULL) yes = pai_run_handler(step, t->guard, t->tag);
            if (yes < 0) return yes;
            if (yes == 0) continue;
            yes = pai_take_row(step, row, state);
            return yes < 0 ? yes : 1;
        }
        if (state == PAI_NONE) return 0;
        state = pai_parent(machine, state);
    }
}

static int pai_run_always(pagent_step *step)
{
    uint32_t i;
    for (i = 0; i < step->engine->limits.always_max; i++) {
        int result = pai_offer(step, PAGENT_EVENT_ALWAYS, PAI_NONE);
        if (result <= 0) return result;
    }
    return pagent_fail(step, PAGENT_E_LIMIT, "\"always\" transitions never came to rest (limits.always_max)");
}

static int pai_chain_waits(const pai_machine *machine, uint32_t leaf, const char *name)
{
    for (; leaf != PAI_NONE; leaf = pai_parent(machine, leaf)) {
        if (pai_list_find(machine->source->states[leaf].waits, name, pai_length(name)) != PAI_NONE) return 1;
    }
    return 0;
}

/* Whether a state, a parent or the root has any row for an event, whatever its guard will say. */
static int pai_chain_has_row(const pai_machine *machine, uint32_t leaf, uint32_t kind, uint32_t name)
{
    for (;;) {
        const pai_place *place = &machine->places[leaf != PAI_NONE ? leaf : machine->source->state_count];
        uint32_t i;
        for (i = 0; i < place->row_count; i++) {
            const pai_row *row = &machine->rows[place->row_first + i];
            if (row->kind == kind && row->name == name) return 1;
        }
        if (leaf == PAI_NONE) return 0;
        leaf = pai_parent(machine, leaf);
    }
}

static int pai_chain_defers(const pai_machine *machine, uint32_t leaf)
{
    for (; leaf != PAI_NONE; leaf = pai_parent(machine, leaf)) {
        if (machine->source->states[leaf].flags & PAGENT_DEFER) return 1;
    }
    return 0;
}

/* Whether the state reached can do something with the outcome of an effect. */
static int pai_can_handle(const pai_machine *machine, uint32_t leaf, const pai_effect *effect)
{
    const pagent_machine *m = machine->source;
    if (effect->kind == PAGENT_EFFECT_SIGNAL || leaf == PAI_NONE) return 1;
    if (m->states[leaf].flags & PAGENT_FINAL) return 0;
    if (pai_chain_defers(machine, leaf)) return 1;
    if (effect->kind == PAGENT_EFFECT_TIMER) return pai_chain_has_row(machine, leaf, PAGENT_EVENT_TIMER, effect->name);
    return pai_chain_waits(
        machine, leaf,
        pai_name(&machine->names, effect->kind == PAGENT_EFFECT_CALL ? PAI_CALLS : PAI_APPROVALS, effect->name));
}

/* A call or approval staged for a state that does not wait for it would never be handled: that is a fault of the
   machine. */
static int pai_check_staged(pagent_step *step)
{
    const pai_machine *machine = step->agent->machine;
    const uint8_t *payload = step->commit->buffer.data + step->mark;
    uint32_t size = (uint32_t)(step->commit->buffer.size - step->mark), at = 0;
    pai_section section;
    while (pai_next_section(payload, size, &at, &section) == PAGENT_OK) {
        pai_effect effect;
        pai_text text;
        if (section.tag != PAI_TAG_EFFECT) continue;
        pai_parse_effect(&section, &effect);
        if (effect.kind != PAGENT_EFFECT_CALL && effect.kind != PAGENT_EFFECT_APPROVAL) continue;
        if (pai_can_handle(machine, step->leaf, &effect)) continue;
        text = pai_text_begin(step->error_text, PAGENT_TEXT_SIZE);
        pai_text_add(&text, "state \"");
        pai_text_add(&text, machine->source->states[step->leaf].name);
        pai_text_add(&text, "\" does not wait for \"");
        pai_text_add(&text, pai_name(&machine->names, effect.kind == PAGENT_EFFECT_CALL ? PAI_CALLS : PAI_APPROVALS,
                                     effect.name));
        pai_text_add(&text, "\": name it in its waits");
        step->text_code = PAGENT_E_UNDECLARED;
        return PAGENT_E_UNDECLARED;
    }
    return PAGENT_OK;
}

static int pai_restore_context(pagent_step *step)
{
    pai_buffer *before = &step->engine->before;
    return pai_set_context(&step->agent->state, before->data, (uint32_t)before->size);
}

/* Runs the handlers for the step's event. 1: taken, 0: no row, below 0: an error of theirs. */
static int pai_run_event(pagent_step *step, uint32_t kind, uint32_t name)
{
    int taken;
    if (kind == PAGENT_EVENT_START) {
        step->leaf = PAI_NONE;
        taken = pai_enter_down_to(step, 0);
        if (taken >= 0) taken = pai_offer(step, kind, PAI_NONE);
        if (taken == 0) taken = 1;
    } else if (kind == PAGENT_EVENT_RESTORED) {
        taken = pai_offer(step, kind, PAI_NONE);
        if (taken == 0) { /* ask and call again what the state asks and calls when it is entered */
            uint32_t leaf = step->leaf;
            step->leaf = PAI_NONE;
            taken = pai_enter_down_to(step, leaf);
            if (taken >= 0) taken = 1;
        }
    } else {
        taken = pai_offer(step, kind, name);
        if (taken == 0 && kind == PAGENT_EVENT_EDITED) taken = pai_offer(step, PAGENT_EVENT_APPROVED, name);
    }
    if (taken > 0) {
        int result = pai_run_always(step);
        if (result == PAGENT_OK) result = pai_check_staged(step);
        if (result < 0) taken = result;
    }
    return taken;
}

/* A handler failed: undo, then go to the nearest on_error state. 1: there, 0: park. E_MEMORY: undo all. */
static int pai_run_on_error(pagent_step *step)
{
    const pai_machine *machine = step->agent->machine;
    uint32_t state = step->commit->from == PAI_NONE ? 0 : step->commit->from, target = PAI_NONE;
    uint16_t leaf = step->commit->from;
    int result;
    for (; state != PAI_NONE && target == PAI_NONE; state = pai_parent(machine, state)) {
        target = machine->places[state].on_error;
    }
    for (;;) {
        step->commit->buffer.size = step->mark;
        step->staged = 0;
        step->effects = step->agent->state.effect_count;
        step->commit->calls_off = step->mark_calls_off;
        step->leaf = leaf;
        if (pai_restore_context(step) != PAGENT_OK) return PAGENT_E_MEMORY;
        if (target == PAI_NONE) return 0;
        do { /* out to what is around both, without exit handlers: they belong to what went wrong */
            step->leaf = (uint16_t)pai_parent(machine, step->leaf);
        } while (step->leaf != PAI_NONE && (step->leaf == target || !pai_is_inside(machine, target, step->leaf)));
        result = pai_enter_down_to(step, target);
        if (result >= 0) result = pai_run_always(step);
        if (result >= 0) result = pai_check_staged(step);
        if (result >= 0) return 1;
        if (result == PAGENT_E_MEMORY) return result;
        step->error = result; /* the error state fails too */
        target = PAI_NONE;
    }
}

/* ---- ending a commit ---- */

/* Cancels what the state reached cannot handle any more. */
static int pai_cancel_unhandled(pagent_engine *e, pai_commit *commit, uint32_t leaf, int all)
{
    pai_agent *agent = commit->agent;
    uint32_t i = 0;
    while (i < agent->state.effect_count) {
        pai_effect *effect = &agent->state.effects[i];
        size_t from = commit->buffer.size;
        uint32_t flags = 0;
        int keep = all ? effect->kind == PAGENT_EFFECT_SIGNAL : pai_can_handle(agent->machine, leaf, effect);
        int result;
        if (keep) {
            i++;
            continue;
        }
        if (pai_is_under_way(effect)) {
            flags = PAI_CHANGE_CALL_OFF;
            commit->calls_off++;
        }
        result = pai_add_change(&e->heap, &commit->buffer, effect, PAI_CHANGE_CANCELLED, flags, effect->attempt, 0);
        if (result == PAGENT_OK) result = pai_apply_live(e, commit, from);
        if (result != PAGENT_OK) return result;
    }
    return PAGENT_OK;
}

static int pai_end_block(pagent_engine *e, pai_commit *commit, uint32_t type, uint32_t status, uint32_t leaf)
{
    pai_agent *agent = commit->agent;
    pai_state *state = &agent->state;
    pagent_summary summary;
    uint8_t *step = pai_step_fields(commit);
    uint32_t carries = type == PAI_CREATE ? PAI_CARRIES_SNAPSHOT : 0;
    int result;
    step[0] = commit->event_kind;
    step[1] = commit->outcome;
    pai_put16(step + 2, commit->name);
    pai_put16(step + 4, commit->from);
    pai_clear(&summary, sizeof summary);
    summary.time_ms = e->now;
    summary.state = (uint16_t)leaf;
    summary.status = (uint8_t)status;
    pai_write_summary(commit, &summary);
    result = pai_apply_live(e, commit, commit->base + PAI_HEADER);
    if (result == PAGENT_OK && pai_ends(status)) {
        result = pai_cancel_unhandled(e, commit, leaf, 1);
    } else if (result == PAGENT_OK && leaf != commit->from && agent->machine != NULL) {
        result = pai_cancel_unhandled(e, commit, leaf, 0);
    }
    if (result != PAGENT_OK) return result;
    if (status == PAGENT_WAITING || status == PAGENT_RUNNING) {
        uint32_t i;
        state->status = PAGENT_WAITING;
        for (i = 0; i < state->mail_count; i++) {
            if (!state->mails[i]->tried) state->status = PAGENT_RUNNING;
        }
    }
    pai_make_summary(state, &summary);
    pai_write_summary(commit, &summary);
    return pai_seal_block(e, commit, type, carries);
}

static int pai_end_commit(pagent_engine *e, pai_commit *commit, uint32_t type, uint32_t status, uint32_t leaf)
{
    uint32_t running = pai_count_running(&commit->agent->state);
    int result = pai_end_block(e, commit, type, status, leaf);
    e->calls_running -= running - pai_count_running(&commit->agent->state);
    return result;
}

/* ---- one event ---- */

typedef struct pai_incoming { /* an event, wherever it comes from */
    uint32_t kind;
    uint32_t name;
    pagent_effect_id effect;
    uint32_t attempt;
    int32_t code;
    const char *who;
    pagent_bytes data;
    uint64_t id;         /* sender's, for the dedupe window */
    pai_mail *mail;      /* it comes out of the mailbox */
    pai_effect *settles; /* the call, approval or timer that ends with it */
    uint32_t crossed;    /* an irreversible call succeeded */
    pai_task *task;
} pai_incoming;

static int pai_add_fixed(pagent_step *step, const pai_incoming *in)
{
    pagent_engine *e = step->engine;
    pai_buffer *out = &step->commit->buffer;
    int result = PAGENT_OK;
    if (in->mail != NULL) result = pai_add_mail_done(&e->heap, out, in->mail->version, in->mail->index);
    if (result == PAGENT_OK && in->settles != NULL) {
        uint32_t flags = in->crossed ? PAI_CHANGE_CROSSED : 0;
        if (in->code == PAGENT_E_TIMEOUT && pai_is_under_way(in->settles)) {
            flags |= PAI_CHANGE_CALL_OFF;
            step->commit->calls_off++;
        }
        result = pai_add_change(&e->heap, out, in->settles, PAI_CHANGE_SETTLED, flags, in->settles->attempt, 0);
    }
    return result;
}

/*  EVENT  code:4 who size:4 who\0 data  */
static int pai_add_event(pagent_step *step, const pai_incoming *in)
{
    uint32_t who_size = in->who != NULL && in->who[0] != 0 ? (uint32_t)pai_length(in->who) + 1 : 0;
    uint8_t *at;
    if (who_size == 0 && in->data.size == 0 && in->code == 0) return PAGENT_OK;
    if (in->data.size > PAI_PAYLOAD_MAX - 1024u) return PAGENT_E_LIMIT;
    at = pai_add_section(&step->engine->heap, &step->commit->buffer, PAI_TAG_EVENT, 8 + who_size + in->data.size);
    if (at == NULL) return PAGENT_E_MEMORY;
    pai_put32(at, (uint32_t)in->code);
    pai_put32(at + 4, who_size);
    pai_copy(at + 8, in->who, who_size);
    pai_copy(at + 8 + who_size, in->data.data, in->data.size);
    return PAGENT_OK;
}

/* The event into the mailbox: it waits there for another state, or for a parked agent to be retried. */
static int pai_add_deferred(pagent_step *step, const pai_incoming *in)
{
    pai_mail mail;
    if (step->agent->state.mail_count >= step->engine->limits.mailbox_max && in->kind == PAGENT_EVENT_SIGNAL &&
        in->mail == NULL) {
        step->commit->over = "its mailbox holds limits.mailbox_max events";
        return PAGENT_E_LIMIT; /* the other kinds are bounded by effects_max */
    }
    pai_clear(&mail, sizeof mail);
    mail.version = step->version;
    mail.index = 0;
    mail.kind = (uint8_t)in->kind;
    mail.name = (uint16_t)in->name;
    mail.tried = 1;
    mail.effect_version = in->effect.version;
    mail.effect_index = in->effect.index;
    mail.attempt = in->attempt;
    mail.code = in->code;
    mail.who_size = in->who != NULL && in->who[0] != 0 ? (uint32_t)pai_length(in->who) + 1 : 0;
    mail.data_size = in->data.size;
    return pai_add_mail(&step->engine->heap, &step->commit->buffer, &mail, in->who, in->data.data);
}

static void pai_show_event(pagent_step *step, const pai_incoming *in)
{
    const pai_state *state = &step->agent->state;
    step->event.kind = in->kind;
    step->event.code = in->code;
    step->event.name = pai_name(state->names, pai_event_table(in->kind), in->name);
    step->event.effect = in->effect;
    step->event.attempt = in->attempt;
    step->event.data = in->data;
    step->event.who = in->who != NULL ? in->who : "";
}

static uint32_t pai_status_of(const pai_machine *machine, uint32_t leaf)
{
    uint32_t flags = leaf != PAI_NONE ? machine->source->states[leaf].flags : 0;
    if (flags & PAGENT_FAILURE) return PAGENT_FAILED_STATUS;
    return flags & PAGENT_FINAL ? PAGENT_DONE : PAGENT_WAITING;
}

/* Runs the handlers and says what became of the event: a pai_outcome, or an error that undoes the step. */
static int pai_decide_outcome(pagent_step *step, const pai_incoming *in)
{
    int taken;
    if (step->agent->state.status == PAGENT_PARKED && in->kind != PAGENT_EVENT_CANCEL &&
        in->kind != PAGENT_EVENT_RESTORED) {
        return PAI_DEFERRED;
    }
    taken = pai_run_event(step, in->kind, in->name);
    if (taken > 0) return PAI_TAKEN;
    if (taken == 0 && in->kind == PAGENT_EVENT_CANCEL) return PAI_CANCELLED;
    if (taken == 0) return pai_chain_defers(step->agent->machine, step->leaf) ? PAI_DEFERRED : PAI_REFUSED;
    if (taken == PAGENT_E_MEMORY) return PAGENT_E_MEMORY;
    step->error = taken;
    taken = pai_run_on_error(step);
    if (taken < 0) return taken;
    return taken > 0 ? PAI_ERROR : PAI_PARKED;
}

static int pai_stage_step(pagent_step *step, const pai_incoming *in)
{
    pagent_engine *e = step->engine;
    pai_state *state = &step->agent->state;
    pai_commit *commit = step->commit;
    uint32_t status;
    int outcome, result = pai_add_fixed(step, in);
    if (result != PAGENT_OK) return result;
    e->before.size = 0;
    result = pai_append_bytes(&e->heap, &e->before, state->context.data, state->context.size);
    if (result != PAGENT_OK) return result;
    step->mark = commit->buffer.size;
    step->mark_calls_off = commit->calls_off;
    outcome = pai_decide_outcome(step, in);
    if (outcome < 0) return outcome;
    if (outcome == PAI_DEFERRED && in->mail != NULL) {
        (void)pai_restore_context(step);
        return PAGENT_DEFERRED;
    }
    commit->outcome = (uint8_t)outcome;
    if (outcome == PAI_REFUSED) commit->result = PAGENT_E_REFUSED;
    if (in->id != 0) {
        result = pai_add_receipt(&e->heap, &commit->buffer, in->id,
                                 step->version | (outcome == PAI_REFUSED ? pai_seen_refused : 0));
        if (result != PAGENT_OK) return result;
    }
    if (outcome == PAI_DEFERRED) commit->result = PAGENT_DEFERRED;
    status = pai_status_of(step->agent->machine, step->leaf);
    if (outcome == PAI_CANCELLED) status = PAGENT_CANCELLED;
    if (outcome == PAI_PARKED || (outcome == PAI_DEFERRED && state->status == PAGENT_PARKED)) status = PAGENT_PARKED;
    if (outcome == PAI_DEFERRED || outcome == PAI_PARKED) {
        result = pai_add_deferred(step, in);
    } else {
        result = pai_add_event(step, in);
    }
    if (result == PAGENT_OK && (outcome == PAI_PARKED || outcome == PAI_ERROR)) {
        result = pai_add_error(&e->heap, &commit->buffer, step->error,
                               step->text_code == step->error ? step->error_text : pagent_message(step->error));
    }
    if (result == PAGENT_OK && !state->version) {
        result = pai_add_bytes_section(&e->heap, &commit->buffer, PAI_TAG_CONTEXT, state->context.data,
                                       (uint32_t)state->context.size);
    } else if (result == PAGENT_OK) {
        result = pai_add_delta(&e->heap, &commit->buffer, &e->crc, &e->before, &state->context, e->limits.splices_max);
    }
    if (result != PAGENT_OK) return result;
    return pai_end_commit(e, commit, step->agent->exists ? PAI_COMMIT : PAI_CREATE, status, step->leaf);
}

/* Handles one event as one commit, and sends it. OK: sent. DEFERRED: nothing to write, an event of the mailbox stays.
   Else the agent was reset and the task given back, refused or kept. */
static int pai_handle(pagent_engine *e, pai_agent *agent, const pai_incoming *in)
{
    pagent_step step;
    pai_commit *commit = NULL;
    uint8_t *fields;
    int result = pai_begin_commit(e, agent, &commit);
    if (result == PAGENT_OK && !agent->exists) {
        result = pai_add_identity(&e->heap, &commit->buffer, &agent->state);
        if (result == PAGENT_OK) {
            result = pai_add_bytes_section(&e->heap, &commit->buffer, PAI_TAG_MACHINE, agent->state.names->bytes,
                                           agent->state.names->size);
        }
        if (result == PAGENT_OK) result = pai_add_state(&e->heap, &commit->buffer, &agent->state);
    }
    if (result == PAGENT_OK) {
        pai_clear(&step, sizeof step);
        step.engine = e;
        step.agent = agent;
        step.commit = commit;
        step.version = pai_next_version(commit);
        step.leaf = agent->state.leaf;
        step.effects = agent->state.effect_count;
        commit->event_kind = (uint8_t)in->kind;
        commit->name = (uint16_t)in->name;
        fields = pai_step_fields(commit);
        pai_put32(fields + 8, in->effect.index);
        pai_put32(fields + 12, in->attempt);
        pai_put64(fields + 16, in->effect.version);
        pai_show_event(&step, in);
        result = pai_stage_step(&step, in);
    }
    if (result == PAGENT_DEFERRED && in->mail != NULL) {
        in->mail->tried = 1;
        if (commit->count == 0) {
            pai_give_commit(e, commit);
        } else { /* the snapshot that was to ride in front goes alone */
            commit->buffer.size = commit->base;
            commit->base = 0;
            commit->event_kind = 0;
            commit->calls_off = 0;
            pai_submit_commit(e, commit);
        }
        return PAGENT_DEFERRED;
    }
    if (result != PAGENT_OK) {
        pai_abandon(e, agent, commit, in->task, result);
        return result;
    }
    commit->task = in->task;
    if (in->kind == PAGENT_EVENT_CANCEL) commit->flags = PAGENT_APPEND_RESERVE;
    if (commit->outcome == PAI_REFUSED) {
        pai_trace(e, agent, PAGENT_TRACE_REFUSED, PAGENT_E_REFUSED, step.event.name);
    }
    pai_submit_commit(e, commit);
    return PAGENT_OK;
}

/* ================================================================================================================
   [READER]  blocks from the store into a state: loading, views, rollback
   Owns its buffers. Invariant: a state that is READY is exactly what the blocks up to its version say, each of them
   checked and chained to the one before. May fail: E_CORRUPT and its kin, E_TRIMMED, E_NOT_FOUND, E_MEMORY; sticky. */

enum {
    PAI_READ_SIZE = 32 * 1024
};

static pai_reader *pai_open_reader(pagent_engine *e, pai_agent *owner, pai_state *state, uint64_t stream,
                                   uint64_t until)
{
    pai_reader *reader = (pai_reader *)pai_allocate(&e->heap, sizeof *reader);
    if (reader == NULL) return NULL;
    reader->engine = e;
    reader->owner = owner;
    reader->state = state;
    reader->stream = stream;
    reader->until = until;
    state->heap = &e->heap;
    state->stream = stream;
    state->leaf = PAI_NONE;
    return reader;
}

static void pai_free_reader(pai_reader *reader)
{
    const pai_heap *heap = &reader->engine->heap;
    pai_free_buffer(heap, &reader->blocks);
    pai_free_buffer(heap, &reader->run_blocks);
    pai_free_buffer(heap, &reader->entries);
    pai_free_buffer(heap, &reader->offsets);
    pai_free(heap, reader, sizeof *reader);
}

/* A read that is under way keeps its buffer: the last one out is its completion. */
static void pai_close_reader(pai_reader *reader)
{
    if (reader == NULL) return;
    if (reader->waiting) {
        pai_operation *operation = pai_find_operation(reader->engine, reader->request.op);
        PAGENT_ASSERT(operation != NULL);
        if (operation != NULL) {
            operation->kind = PAI_OP_ORPHAN;
            return;
        }
    }
    pai_free_reader(reader);
}

static void pai_drop_reader(pagent_engine *e, pai_agent *agent)
{
    (void)e;
    pai_close_reader(agent->reader);
    agent->reader = NULL;
}

static int pai_reader_failed(pai_reader *reader, int result)
{
    reader->phase = PAI_READ_FAILED;
    reader->result = result;
    return result;
}

/* Asks the store for blocks; `last` 0: to the head. OK: reader->io says what is in the buffer. */
static int pai_reader_fetch(pai_reader *reader, pai_buffer *buffer, uint32_t mode, uint64_t version, uint64_t last)
{
    pagent_engine *e = reader->engine;
    int result;
    if (reader->waiting) return PAGENT_PENDING;
    for (;;) {
        if (reader->filled) {
            reader->filled = 0;
            result = reader->result;
        } else {
            if (buffer->capacity < PAI_READ_SIZE) {
                buffer->size = 0;
                if (pai_reserve(&e->heap, buffer, PAI_READ_SIZE) != PAGENT_OK) return PAGENT_E_MEMORY;
            }
            buffer->size = 0;
            pai_clear(&reader->io, sizeof reader->io);
            reader->request.stream = reader->stream;
            reader->request.mode = mode;
            reader->request.version = version;
            reader->request.buffer = buffer->data;
            reader->request.capacity = buffer->capacity > UINT32_MAX ? UINT32_MAX : (uint32_t)buffer->capacity;
            reader->request.last = last;
            result = pai_begin_operation(e, PAI_OP_READ, reader, &reader->request.op);
            if (result != PAGENT_OK) return result;
            reader->waiting = 1;
            result = e->store.read(e->store.ctx, &reader->request, &reader->io);
            if (result == PAGENT_PENDING) return PAGENT_PENDING;
            reader->waiting = 0;
            pai_end_operation(e, reader->request.op);
        }
        if (result != PAGENT_E_LIMIT) break;
        if (reader->io.size <= buffer->capacity || reader->io.size > PAI_PAYLOAD_MAX + 4096u) return PAGENT_E_LIMIT;
        buffer->size = 0;
        if (pai_reserve(&e->heap, buffer, reader->io.size) != PAGENT_OK) return PAGENT_E_MEMORY;
    }
    if (result != PAGENT_OK) return result < 0 ? result : PAGENT_E_STORAGE;
    if (reader->io.size > buffer->capacity) return PAGENT_E_STORAGE;
    buffer->size = reader->io.size;
    return PAGENT_OK;
}

/* The block at `at` of a buffer, checked by itself and for its stream. */
static int pai_check_block(const pagent_engine *e, const pai_buffer *buffer, size_t at, uint64_t stream,
                           pai_block *header)
{
    if (buffer->size - at < PAI_HEADER) return PAGENT_E_CORRUPT;
    if (pai_decode_header(&e->crc, buffer->data + at, 0, header) != PAGENT_OK) return PAGENT_E_CORRUPT;
    if (pai_block_size(header) > buffer->size - at || header->stream != stream) return PAGENT_E_CORRUPT;
    return pai_check_payload(&e->crc, buffer->data + at, header);
}

/* Applies the block at reader->at to the state. */
static int pai_reader_take(pai_reader *reader)
{
    pagent_engine *e = reader->engine;
    pai_state *state = reader->state;
    pai_block header;
    pai_apply how;
    int result = pai_check_block(e, &reader->blocks, reader->at, reader->stream, &header);
    int first = state->version == 0;
    if (result != PAGENT_OK) return result;
    if (header.version == 0) return PAGENT_E_CORRUPT;
    if (header.type > PAI_TOMBSTONE && !(header.type & PAI_SKIPPABLE)) return PAGENT_E_NEWER;
    if (first ? !(header.flags & PAI_CARRIES_SNAPSHOT)
              : header.version != state->version + 1 || header.previous != state->link || header.epoch < state->epoch) {
        return PAGENT_E_CORRUPT;
    }
    pai_clear(&how, sizeof how);
    how.crc = &e->crc;
    how.window = e->limits.dedupe_count;
    how.scratch = &e->scratch;
    how.only_runs = !first && header.type == PAI_SNAPSHOT;
    result = pai_apply_block(state, reader->blocks.data + reader->at, &header,
                             pai_link(&e->crc, reader->blocks.data + reader->at), &how);
    if (result != PAGENT_OK) return result;
    if ((header.flags & PAI_CARRIES_SNAPSHOT) && !how.only_runs && state->run_count != 0) reader->phase = PAI_READ_RUNS;
    reader->current = reader->at;
    reader->at += pai_block_size(&header);
    return PAGENT_OK;
}

static int pai_reader_read_blocks(pai_reader *reader)
{
    pai_state *state = reader->state;
    int result;
    for (;;) {
        uint64_t stop = reader->until == PAGENT_OLDEST ? state->version : reader->until;
        if (stop != 0 && state->version == stop) return PAGENT_OK;
        if (reader->at < reader->blocks.size) {
            result = pai_reader_take(reader);
            if (result != PAGENT_OK) return result;
            continue;
        }
        if (state->version != 0 && state->version >= reader->head) {
            return reader->until == 0 ? PAGENT_OK : PAGENT_E_NOT_FOUND;
        }
        if (state->version == 0) {
            result = pai_reader_fetch(reader, &reader->blocks,
                                      reader->until == 0 ? PAGENT_READ_NEWEST : PAGENT_READ_BASE, stop, 0);
        } else {
            result = pai_reader_fetch(reader, &reader->blocks, PAGENT_READ_FROM, state->version + 1, 0);
        }
        if (result != PAGENT_OK) return result;
        reader->at = 0;
        reader->head = reader->io.version;
        if (reader->blocks.size == 0) {
            if (state->version == 0) return PAGENT_E_NOT_FOUND;
            if (state->version < reader->head) return PAGENT_E_LOST_TAIL;
            return reader->until == 0 ? PAGENT_OK : PAGENT_E_NOT_FOUND;
        }
    }
}

/* Transcript entries that stand before run number reader->run are in the state already, inlined by the snapshot. */
static int pai_reader_copy_inlined(pai_reader *reader, uint32_t until_index)
{
    const pai_heap *heap = &reader->engine->heap;
    while (reader->offsets.size / 4 < until_index && reader->run_inlined < pai_entry_count(reader->state)) {
        pagent_entry entry;
        pai_entry(reader->state, reader->run_inlined++, &entry);
        if (pai_add_entry(heap, &reader->entries, &reader->offsets, entry.kind, (const uint8_t *)entry.data.data,
                          entry.data.size) != PAGENT_OK) {
            return PAGENT_E_MEMORY;
        }
    }
    return PAGENT_OK;
}

/* The entries of one block of a run. Blocks that carry a snapshot hold only what others hold too. */
static int pai_reader_take_run_block(pai_reader *reader, const uint8_t *block, const pai_block *header)
{
    pagent_engine *e = reader->engine;
    const uint8_t *payload = pai_plain_payload(&e->heap, block, header, &e->scratch);
    uint32_t at = 0;
    pai_section section;
    if (payload == NULL) return PAGENT_E_MEMORY;
    if (header->flags & PAI_CARRIES_SNAPSHOT) return PAGENT_OK;
    while (pai_next_section(payload, header->payload_size, &at, &section) == PAGENT_OK) {
        if (section.tag != PAI_TAG_ENTRY || section.size < 4) continue;
        if (pai_add_entry(&e->heap, &reader->entries, &reader->offsets, pai_get32(section.data), section.data + 4,
                          section.size - 4) != PAGENT_OK) {
            return PAGENT_E_MEMORY;
        }
        reader->run_taken++;
    }
    return PAGENT_OK;
}

/* Puts the transcript together from the blocks that hold it. */
static int pai_reader_read_runs(pai_reader *reader)
{
    pai_state *state = reader->state;
    size_t at;
    int result;
    for (; reader->run < state->run_count; reader->run++, reader->run_version = 0, reader->run_taken = 0) {
        const pai_run *run = &state->runs[reader->run];
        if (run->last_version >= state->snapshot_version ||
            (reader->run != 0 && run->first_version <= run[-1].last_version)) {
            return PAGENT_E_CORRUPT;
        }
        result = pai_reader_copy_inlined(reader, run->first_index);
        if (result != PAGENT_OK) return result;
        if (reader->offsets.size / 4 != run->first_index) return PAGENT_E_CORRUPT;
        if (reader->run_version == 0) reader->run_version = run->first_version;
        while (reader->run_version <= run->last_version) {
            result =
                pai_reader_fetch(reader, &reader->run_blocks, PAGENT_READ_FROM, reader->run_version, run->last_version);
            if (result != PAGENT_OK) return result;
            if (reader->run_blocks.size == 0) return PAGENT_E_CORRUPT;
            for (at = 0; at < reader->run_blocks.size && reader->run_version <= run->last_version;) {
                pai_block header;
                result = pai_check_block(reader->engine, &reader->run_blocks, at, reader->stream, &header);
                if (result == PAGENT_OK && header.version != reader->run_version) result = PAGENT_E_CORRUPT;
                if (result == PAGENT_OK) {
                    result = pai_reader_take_run_block(reader, reader->run_blocks.data + at, &header);
                }
                if (result != PAGENT_OK) return result;
                at += pai_block_size(&header);
                reader->run_version++;
            }
        }
        if (reader->run_taken != run->count) return PAGENT_E_CORRUPT;
    }
    result = pai_reader_copy_inlined(reader, UINT32_MAX);
    if (result != PAGENT_OK) return result;
    pai_free_buffer(&reader->engine->heap, &state->entries);
    pai_free_buffer(&reader->engine->heap, &state->offsets);
    state->entries = reader->entries;
    state->offsets = reader->offsets;
    pai_clear(&reader->entries, sizeof reader->entries);
    pai_clear(&reader->offsets, sizeof reader->offsets);
    reader->run = reader->run_inlined = reader->run_taken = 0;
    pai_free_buffer(&reader->engine->heap, &reader->run_blocks);
    return PAGENT_OK;
}

/* OK: the state is there. PENDING: call again after the store's completion. */
static int pai_reader_load(pai_reader *reader)
{
    int result = PAGENT_OK, runs;
    if (reader->phase == PAI_READ_READY) return PAGENT_OK;
    if (reader->phase == PAI_READ_FAILED) return reader->result;
    if (reader->phase == PAI_READ_START) reader->phase = PAI_READ_BLOCKS;
    if (reader->entries.size == 0 && reader->run == 0 && reader->run_version == 0) {
        result = pai_reader_read_blocks(reader);
    }
    runs = reader->state->run_count != 0;
    if (result == PAGENT_OK && runs) result = pai_reader_read_runs(reader);
    if (result == PAGENT_PENDING) return PAGENT_PENDING;
    if (result != PAGENT_OK) return pai_reader_failed(reader, result);
    reader->phase = PAI_READ_READY;
    return PAGENT_OK;
}

/* One version further. END at the head. */
static int pai_reader_next(pai_reader *reader)
{
    int result = PAGENT_OK;
    if (reader->phase == PAI_READ_FAILED) return reader->result;
    if (reader->phase != PAI_READ_RUNS) {
        if (reader->at >= reader->blocks.size) {
            result = pai_reader_fetch(reader, &reader->blocks, PAGENT_READ_FROM, reader->state->version + 1, 0);
            if (result == PAGENT_PENDING) return result;
            if (result != PAGENT_OK) return pai_reader_failed(reader, result);
            reader->at = 0;
            if (reader->blocks.size == 0) return PAGENT_END;
        }
        result = pai_reader_take(reader);
    }
    if (result == PAGENT_OK && reader->phase == PAI_READ_RUNS) result = pai_reader_read_runs(reader);
    if (result == PAGENT_PENDING) return result;
    if (result != PAGENT_OK) return pai_reader_failed(reader, result);
    reader->phase = PAI_READ_READY;
    return PAGENT_OK;
}

/* ================================================================================================================
   [TURNS]  what an agent does next: load, claim, mail, requests, deadlines
   Invariant: one turn makes at most one commit; requests of one agent are answered in the order they came. */

static const pai_machine *pai_find_machine(const pagent_engine *e, const pai_names *names)
{
    uint32_t i;
    for (i = 0; i < e->machine_count; i++) {
        if (e->machines[i].names.hash == names->hash) return &e->machines[i];
    }
    return NULL;
}

static const pai_machine *pai_machine_named(const pagent_engine *e, const char *name)
{
    uint32_t i;
    for (i = e->machine_count; i-- != 0;) { /* the last registered of a name is the newest */
        if (pai_same_text(e->machines[i].source->name, name)) return &e->machines[i];
    }
    return NULL;
}

static int pai_is_in_doubt(const pai_agent *agent, const pai_effect *effect)
{
    if (effect->kind != PAGENT_EFFECT_CALL || effect->phase != PAGENT_PHASE_OPEN) return 0;
    return agent->machine->source->calls[effect->name].crash_policy != PAGENT_CRASH_WAIT;
}

static int pai_name_fits(const pai_names *names, uint32_t table, uint32_t name)
{
    return table == PAI_TABLES || name < names->count[table];
}

/* Checksums vouch for bytes, not for sense: every number that will index the machine's tables. */
static int pai_fits_machine(const pai_state *state, const pai_machine *machine)
{
    uint32_t i;
    if (state->leaf != PAI_NONE &&
        (state->leaf >= machine->source->state_count || machine->places[state->leaf].initial != PAI_NONE)) {
        return 0;
    }
    for (i = 0; i < state->effect_count; i++) {
        const pai_effect *effect = &state->effects[i];
        uint32_t table = effect->kind == PAGENT_EFFECT_CALL       ? PAI_CALLS
                         : effect->kind == PAGENT_EFFECT_APPROVAL ? PAI_APPROVALS
                         : effect->kind == PAGENT_EFFECT_TIMER    ? PAI_TIMERS
                                                                  : PAI_SIGNALS;
        if (!pai_name_fits(state->names, table, effect->name)) return 0;
    }
    for (i = 0; i < state->mail_count; i++) {
        const pai_mail *mail = state->mails[i];
        if (mail->kind == 0 || mail->kind >= PAGENT_EVENT_ALWAYS) return 0;
        if (!pai_name_fits(state->names, pai_event_table(mail->kind), mail->name)) return 0;
    }
    return state->status >= PAGENT_RUNNING && state->status <= PAGENT_MOVED && state->moved_status < PAGENT_MOVED;
}

/* The state has been read: meet it. */
static void pai_adopt(pagent_engine *e, pai_agent *agent)
{
    uint32_t i;
    pai_state *state = &agent->state;
    agent->exists = 1;
    agent->phase = PAI_AGENT_READY;
    if (agent->machine != NULL && state->own_names != NULL) { /* names are shared where they are the same */
        pai_free_names(&e->heap, state->own_names);
        pai_free(&e->heap, state->own_names, sizeof *state->own_names);
        state->own_names = NULL;
        state->names = &agent->machine->names;
    }
    agent->claimed = (uint8_t)pai_is_ours(e, state);
    for (i = 0; i < state->effect_count; i++) {
        pai_effect *effect = &state->effects[i];
        if (effect->kind != PAGENT_EFFECT_CALL || effect->phase != PAGENT_PHASE_OPEN || agent->machine == NULL)
            continue;
        if (!pai_is_in_doubt(agent, effect) || (agent->claimed && !e->hold && state->status != PAGENT_MOVED)) {
            effect->released = pai_released_as(agent, effect);
        }
    }
    e->calls_running += pai_count_running(state);
    pai_set_wake(e, agent, pai_wake_time(e, agent));
    pai_trace(e, agent, PAGENT_TRACE_LOAD, 0, NULL);
    if (agent->machine == NULL) pai_strand(e, agent);
}

/* 1: there is a state, or certainty that there is none. 0: not yet, or broken. */
static int pai_load(pagent_engine *e, pai_agent *agent)
{
    int result;
    if (agent->phase == PAI_AGENT_READY) return 1;
    if (agent->phase == PAI_AGENT_NEW) {
        agent->reader = pai_open_reader(e, agent, &agent->state, agent->state.stream, 0);
        if (agent->reader == NULL) {
            pai_retry_later(e, agent);
            return 0;
        }
        agent->phase = PAI_AGENT_LOADING;
    }
    if (agent->phase != PAI_AGENT_LOADING) return 0;
    result = pai_reader_load(agent->reader);
    if (result == PAGENT_PENDING) return 0;
    pai_drop_reader(e, agent);
    agent->machine = result == PAGENT_OK ? pai_find_machine(e, agent->state.names) : NULL;
    if (agent->machine != NULL && !pai_fits_machine(&agent->state, agent->machine)) result = PAGENT_E_CORRUPT;
    if (result == PAGENT_OK) {
        pai_adopt(e, agent);
        return 1;
    }
    if (result == PAGENT_E_NOT_FOUND && agent->state.version == 0) {
        pai_reset_agent(e, agent);
        agent->phase = PAI_AGENT_READY;
        return 1;
    }
    if (result == PAGENT_E_MEMORY || result == PAGENT_E_AGAIN || result == PAGENT_E_NO_SPACE) {
        pai_reset_agent(e, agent);
        pai_retry_later(e, agent);
        return 0;
    }
    pai_trace(e, agent, PAGENT_TRACE_ERROR, result, "load");
    pai_break(e, agent, result);
    return 0;
}

/* ---- taking over calls of an earlier engine ---- */

static int pai_needs_claim(const pagent_engine *e, const pai_agent *agent)
{
    uint32_t i;
    if (e->hold || agent->machine == NULL || agent->state.status == PAGENT_MOVED) return 0;
    for (i = 0; i < agent->state.effect_count; i++) {
        const pai_effect *effect = &agent->state.effects[i];
        if (effect->kind == PAGENT_EFFECT_CALL && effect->phase == PAGENT_PHASE_HELD) return 1;
        if (!agent->claimed && pai_is_in_doubt(agent, effect)) return 1;
    }
    return 0;
}

/* A call of an earlier engine ends here: its outcome becomes an event of the mailbox. */
static int pai_add_doubt_mail(pagent_engine *e, pai_commit *commit, const pai_effect *effect, uint32_t kind,
                              uint32_t index)
{
    pai_mail mail;
    int result = pai_add_change(&e->heap, &commit->buffer, effect, PAI_CHANGE_SETTLED, 0, effect->attempt, 0);
    if (result != PAGENT_OK) return result;
    pai_clear(&mail, sizeof mail);
    mail.version = pai_next_version(commit);
    mail.index = index;
    mail.kind = (uint8_t)kind;
    mail.name = effect->name;
    mail.effect_version = effect->version;
    mail.effect_index = effect->index;
    mail.attempt = effect->attempt;
    mail.code = PAGENT_E_IN_DOUBT;
    return pai_add_mail(&e->heap, &commit->buffer, &mail, NULL, NULL);
}

static int pai_add_taken_over(pagent_engine *e, pai_commit *commit, const pai_effect *effect, uint32_t index)
{
    const pai_agent *agent = commit->agent;
    const pagent_call_spec *spec = &agent->machine->source->calls[effect->name];
    uint64_t due = pai_attempt_due(spec, e->now, effect->deadline_ms);
    if (e->hold) return PAGENT_OK;
    if (effect->phase == PAGENT_PHASE_HELD) {
        return pai_add_change(&e->heap, &commit->buffer, effect, PAI_CHANGE_OPEN, 0, effect->attempt, due);
    }
    if (agent->claimed || !pai_is_in_doubt(agent, effect)) return PAGENT_OK;
    pai_trace(e, agent, PAGENT_TRACE_DOUBT, (int32_t)effect->attempt, spec->name);
    if (spec->crash_policy == PAGENT_CRASH_ONCE) {
        return pai_add_doubt_mail(e, commit, effect, PAGENT_EVENT_IN_DOUBT, index);
    }
    if (effect->attempt >= pai_or(spec->attempts_max, 4)) {
        return pai_add_doubt_mail(e, commit, effect, PAGENT_EVENT_FAILURE, index);
    }
    return pai_add_change(&e->heap, &commit->buffer, effect, PAI_CHANGE_OPEN, PAI_CHANGE_REPEATED, effect->attempt + 1,
                          due);
}

/* The first commit of a new owner, when calls are under way: bumped attempts and doubts in one block, released after
   it.
   `task` is a MOVE_IN, or NULL. */
static void pai_commit_claim(pagent_engine *e, pai_agent *agent, pai_task *task, uint32_t status)
{
    pai_commit *commit = NULL;
    uint32_t i;
    int result = pai_begin_commit(e, agent, &commit);
    if (result == PAGENT_OK && task != NULL && task->id != 0) {
        result = pai_add_receipt(&e->heap, &commit->buffer, task->id, pai_next_version(commit));
    }
    for (i = 0; i < agent->state.effect_count && result == PAGENT_OK; i++) {
        if (agent->state.effects[i].kind != PAGENT_EFFECT_CALL) continue;
        result = pai_add_taken_over(e, commit, &agent->state.effects[i], i);
    }
    if (result == PAGENT_OK) {
        commit->event_kind = PAGENT_EVENT_CLAIM;
        commit->outcome = (uint8_t)(task != NULL ? PAI_MOVED_IN : PAI_CLAIMED);
        result = pai_end_commit(e, commit, PAI_CLAIM, status, agent->state.leaf);
    }
    if (result != PAGENT_OK) {
        pai_abandon(e, agent, commit, task, result);
        return;
    }
    commit->task = task;
    pai_submit_commit(e, commit);
}

/* A commit that runs no handler: a change of status, or of one effect. */
static int pai_commit_plain(pagent_engine *e, pai_agent *agent, pai_task *task, uint32_t type, uint32_t outcome,
                            uint32_t status, const pai_effect *effect, uint32_t what, uint32_t flags, uint32_t attempt,
                            uint64_t due_ms)
{
    pai_commit *commit = NULL;
    uint8_t *fields;
    int result = pai_begin_commit(e, agent, &commit);
    if (result == PAGENT_OK && effect != NULL) {
        commit->name = effect->name;
        fields = pai_step_fields(commit);
        pai_put32(fields + 8, effect->index);
        pai_put32(fields + 12, effect->attempt);
        pai_put64(fields + 16, effect->version);
        if (flags & PAI_CHANGE_CALL_OFF) commit->calls_off++;
        result = pai_add_change(&e->heap, &commit->buffer, effect, what, flags, attempt, due_ms);
    }
    if (result == PAGENT_OK && task != NULL && task->id != 0) {
        result = pai_add_receipt(&e->heap, &commit->buffer, task->id, pai_next_version(commit));
    }
    if (result == PAGENT_OK) {
        commit->outcome = (uint8_t)outcome;
        if (effect != NULL && effect->kind == PAGENT_EFFECT_CALL) commit->event_kind = PAGENT_EVENT_FAILURE;
        if (effect != NULL && effect->kind == PAGENT_EFFECT_SIGNAL) commit->event_kind = PAGENT_EVENT_SIGNAL;
        commit->task = task;
        result = pai_end_commit(e, commit, type, status, agent->state.leaf);
        commit->task = NULL;
    }
    if (result != PAGENT_OK) {
        pai_abandon(e, agent, commit, task, result);
        return result;
    }
    commit->task = task;
    pai_submit_commit(e, commit);
    return PAGENT_OK;
}

/* ---- calls that end ---- */

static uint64_t pai_random64(pagent_engine *e)
{
    uint8_t bytes[8];
    pai_clear(bytes, sizeof bytes);
    (void)e->host.random(e->host.ctx, bytes, sizeof bytes);
    return pai_get64(bytes);
}

/* The pause before attempt + 1: doubling, capped, ± 25 % so that a crowd does not come back at once. */
static uint32_t pai_backoff(pagent_engine *e, const pagent_call_spec *spec, uint32_t attempt)
{
    uint32_t pause = pai_or(spec->backoff_ms, 500), cap = pai_or(spec->backoff_max_ms, 60000), quarter;
    while (--attempt != 0 && pause < cap) pause = pause > UINT32_MAX / 2 ? cap : pause * 2;
    if (pause > cap) pause = cap;
    quarter = pause / 4;
    if (quarter == 0) return pause;
    return pause - quarter + (uint32_t)(pai_random64(e) >> 33) % (2 * quarter + 1);
}

/* An attempt has failed: another one later, or the end. 1: a commit was made. */
static int pai_call_failed(pagent_engine *e, pai_agent *agent, pai_effect *effect, pai_task *task, int32_t code,
                           int final, uint32_t retry_after_ms, pagent_bytes data)
{
    const pagent_call_spec *spec = &agent->machine->source->calls[effect->name];
    uint32_t pause = pai_backoff(e, spec, effect->attempt), flags = 0;
    uint64_t due;
    pai_incoming in;
    if (pause < retry_after_ms) pause = retry_after_ms;
    due = pai_after(e->now, pause);
    if (!final && effect->attempt < pai_or(spec->attempts_max, 4) && due < effect->deadline_ms &&
        agent->state.status != PAGENT_PARKED) {
        if (effect->released == PAI_RELEASED && code == PAGENT_E_TIMEOUT) flags = PAI_CHANGE_CALL_OFF;
        pai_trace_at(e, agent, PAGENT_TRACE_RETRY, code, spec->name, due);
        return pai_commit_plain(e, agent, task, PAI_COMMIT, PAI_RETRY, agent->state.status, effect, PAI_CHANGE_PAUSED,
                                flags, effect->attempt + 1, due) == PAGENT_OK;
    }
    pai_clear(&in, sizeof in);
    in.kind = PAGENT_EVENT_FAILURE;
    in.name = effect->name;
    in.effect.version = effect->version;
    in.effect.index = effect->index;
    in.attempt = effect->attempt;
    in.code = code;
    in.data = data;
    in.settles = effect;
    in.task = task;
    return pai_handle(e, agent, &in) == PAGENT_OK;
}

static void pai_take_answer(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    pai_effect *effect = pai_find_effect(&agent->state, task->effect.version, task->effect.index);
    pai_incoming in;
    if (effect == NULL || effect->kind != PAGENT_EFFECT_CALL || effect->phase != PAGENT_PHASE_OPEN ||
        effect->attempt != task->attempt || agent->state.status == PAGENT_MOVED) {
        pai_settle_task(e, task, task->effect.version > agent->state.version ? PAGENT_E_FUTURE : PAGENT_E_STALE, 0,
                        NULL);
        return;
    }
    pai_trace(e, agent, PAGENT_TRACE_ANSWER, (int32_t)task->answer.outcome,
              pai_name(agent->state.names, PAI_CALLS, effect->name));
    if (task->answer.outcome != PAGENT_ANSWERED) {
        (void)pai_call_failed(e, agent, effect, task, task->answer.code, task->answer.outcome == PAGENT_FAILED_FINAL,
                              task->answer.retry_after_ms, task->answer.data);
        return;
    }
    pai_clear(&in, sizeof in);
    in.kind = PAGENT_EVENT_RESULT;
    in.name = effect->name;
    in.effect = task->effect;
    in.attempt = effect->attempt;
    in.code = task->answer.code;
    in.data = task->answer.data;
    in.settles = effect;
    in.crossed = effect->flags & PAI_EFFECT_IRREVERSIBLE;
    in.task = task;
    (void)pai_handle(e, agent, &in);
}

/* ---- deadlines ---- */

/* 1: a commit was made. */
static int pai_take_due(pagent_engine *e, pai_agent *agent)
{
    pai_state *state = &agent->state;
    pai_effect *effect = NULL;
    pai_incoming in;
    pagent_bytes none;
    uint32_t i;
    if (state->status == PAGENT_PARKED || state->status == PAGENT_MOVED) return 0;
    for (i = 0; i < state->effect_count; i++) {
        pai_effect *candidate = &state->effects[i];
        if (e->hold && candidate->kind == PAGENT_EFFECT_CALL) continue;
        if (candidate->due_ms > e->now || candidate->kind == PAGENT_EFFECT_SIGNAL) continue;
        if (effect == NULL || candidate->due_ms < effect->due_ms) effect = candidate;
    }
    if (effect == NULL) return 0;
    none.data = NULL;
    none.size = 0;
    if (effect->kind == PAGENT_EFFECT_CALL && effect->phase == PAGENT_PHASE_PAUSED) {
        const pagent_call_spec *spec = &agent->machine->source->calls[effect->name];
        return pai_commit_plain(e, agent, NULL, PAI_COMMIT, PAI_RETRY, state->status, effect, PAI_CHANGE_OPEN, 0,
                                effect->attempt, pai_attempt_due(spec, e->now, effect->deadline_ms)) == PAGENT_OK;
    }
    if (effect->kind == PAGENT_EFFECT_CALL) {
        return pai_call_failed(e, agent, effect, NULL, PAGENT_E_TIMEOUT, effect->due_ms >= effect->deadline_ms, 0,
                               none);
    }
    pai_clear(&in, sizeof in);
    in.kind = effect->kind == PAGENT_EFFECT_TIMER ? PAGENT_EVENT_TIMER : PAGENT_EVENT_EXPIRED;
    in.name = effect->name;
    in.effect.version = effect->version;
    in.effect.index = effect->index;
    in.settles = effect;
    return pai_handle(e, agent, &in) == PAGENT_OK;
}

/* ---- the mailbox ---- */

/* 1: a commit was made. */
static int pai_take_mail(pagent_engine *e, pai_agent *agent)
{
    pai_state *state = &agent->state;
    uint32_t i;
    if (state->status == PAGENT_PARKED || state->status == PAGENT_MOVED || pai_ends(state->status)) return 0;
    for (i = 0; i < state->mail_count; i++) {
        pai_mail *mail = state->mails[i];
        pai_incoming in;
        int result;
        if (mail->tried) continue;
        pai_clear(&in, sizeof in);
        in.kind = mail->kind;
        in.name = mail->name;
        in.effect.version = mail->effect_version;
        in.effect.index = mail->effect_index;
        in.attempt = mail->attempt;
        in.code = mail->code;
        in.who = mail->who_size != 0 ? (const char *)pai_mail_bytes(mail) : "";
        in.data.data = pai_mail_bytes(mail) + mail->who_size;
        in.data.size = mail->data_size;
        in.mail = mail;
        result = pai_handle(e, agent, &in);
        if (result != PAGENT_DEFERRED) return 1;
        if (agent->phase != PAI_AGENT_READY) return 1;
    }
    return 0;
}

/* ---- requests ---- */

static void pai_refuse(pagent_engine *e, pai_agent *agent, pai_task *task, int result, const char *text)
{
    pai_settle_task(e, task, result, agent != NULL ? agent->state.version : 0, text);
}

/* The same answer as the first time. */
static void pai_settle_seen(pagent_engine *e, pai_task *task, uint64_t seen)
{
    pai_settle_task(e, task, seen & pai_seen_refused ? PAGENT_E_REFUSED : PAGENT_DUPLICATE, seen & ~pai_seen_refused,
                    NULL);
}

static void pai_take_create(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    const pai_machine *machine = pai_machine_named(e, task->request.event);
    pai_state *state = &agent->state;
    pai_incoming in;
    int result;
    if (agent->exists) {
        uint64_t seen = task->id != 0 ? pai_seen_version(state, task->id) : 0;
        if (!pai_same_text(state->name, task->request.agent)) {
            pai_refuse(e, agent, task, PAGENT_E_EXISTS, "another agent's name has the same hash: choose another name");
        } else if (seen != 0) {
            pai_settle_seen(e, task, seen);
        } else {
            pai_refuse(e, agent, task, PAGENT_E_EXISTS, NULL);
        }
        return;
    }
    if (machine == NULL) {
        pai_refuse(e, agent, task, PAGENT_E_NOT_FOUND, "no machine of this name is registered with the engine");
        return;
    }
    result = pai_set_identity(state, task->request.agent, pai_length(task->request.agent), "", 0);
    state->context.size = 0;
    if (result == PAGENT_OK) result = pai_reserve(&e->heap, &state->context, machine->source->context_size);
    if (result != PAGENT_OK) {
        pai_abandon(e, agent, NULL, task, result);
        return;
    }
    pai_clear(state->context.data, machine->source->context_size);
    state->context.size = machine->source->context_size;
    state->names = &machine->names;
    state->created_ms = e->now;
    state->status = PAGENT_RUNNING;
    agent->machine = machine;
    pai_clear(&in, sizeof in);
    in.kind = PAGENT_EVENT_START;
    in.name = PAI_NONE;
    in.data = task->request.data;
    in.id = task->id;
    in.task = task;
    (void)pai_handle(e, agent, &in);
}

static void pai_take_post(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    uint32_t name = pai_find_name(&agent->machine->names, PAI_SIGNALS, task->request.event);
    pai_incoming in;
    if (name == PAI_NONE) {
        pai_refuse(e, agent, task, PAGENT_E_UNDECLARED, "the agent's machine declares no such signal");
        return;
    }
    pai_clear(&in, sizeof in);
    in.kind = PAGENT_EVENT_SIGNAL;
    in.name = name;
    in.data = task->request.data;
    in.who = task->request.who;
    in.id = task->id;
    in.task = task;
    (void)pai_handle(e, agent, &in);
}

/* The approval that a decision means. NULL: refused, and the task is gone. */
static pai_effect *pai_find_approval(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    const pagent_effect_id *id = &task->request.effect;
    pai_effect *found = NULL;
    uint32_t i, open = 0;
    for (i = 0; i < agent->state.effect_count; i++) {
        pai_effect *effect = &agent->state.effects[i];
        if (effect->kind != PAGENT_EFFECT_APPROVAL) continue;
        open++;
        if (id->version == 0 || (effect->version == id->version && effect->index == id->index)) found = effect;
    }
    if (found != NULL && (id->version != 0 || open == 1)) return found;
    if (found != NULL) {
        pai_refuse(e, agent, task, PAGENT_E_ARGUMENT, "several approvals are open: name one");
    } else if (id->version > agent->state.version) {
        pai_refuse(e, agent, task, PAGENT_E_FUTURE, NULL);
    } else {
        pai_refuse(e, agent, task, id->version == 0 ? PAGENT_E_NOT_FOUND : PAGENT_E_SETTLED,
                   id->version == 0 ? "no approval is open" : "this approval is not open any more");
    }
    return NULL;
}

static void pai_take_decision(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    pai_effect *approval = pai_find_approval(e, agent, task);
    pai_incoming in;
    if (approval == NULL) return;
    if (approval->due_ms <= e->now) {
        pai_refuse(e, agent, task, PAGENT_E_EXPIRED, "the approval's deadline has passed");
        return;
    }
    if (task->request.digest != 0 && task->request.digest != pagent_digest(approval->data, approval->data_size)) {
        pai_refuse(e, agent, task, PAGENT_E_CONFLICT,
                   "the decision was made on another payload than the one that is open");
        return;
    }
    pai_clear(&in, sizeof in);
    in.kind = task->request.decision == PAGENT_APPROVE  ? PAGENT_EVENT_APPROVED
              : task->request.decision == PAGENT_REJECT ? PAGENT_EVENT_REJECTED
                                                        : PAGENT_EVENT_EDITED;
    in.name = approval->name;
    in.effect.version = approval->version;
    in.effect.index = approval->index;
    in.data = task->request.data;
    in.who = task->request.who;
    in.id = task->id;
    in.settles = approval;
    in.task = task;
    (void)pai_handle(e, agent, &in);
}

static void pai_take_cancel(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    pai_incoming in;
    pai_clear(&in, sizeof in);
    in.kind = PAGENT_EVENT_CANCEL;
    in.name = PAI_NONE;
    in.data = task->request.data;
    in.who = task->request.who;
    in.id = task->id;
    in.task = task;
    (void)pai_handle(e, agent, &in);
}

/* ---- rollback and fork: a block that holds another version's state ---- */

/* The RESTORED event, first in the mailbox of a state that came from elsewhere. */
static int pai_add_restored(pagent_engine *e, pai_commit *commit, int parked)
{
    pai_mail mail;
    pai_clear(&mail, sizeof mail);
    mail.version = pai_next_version(commit);
    mail.index = 0;
    mail.kind = PAGENT_EVENT_RESTORED;
    mail.name = PAI_NONE;
    mail.tried = (uint8_t)(parked != 0); /* until RETRY frees it */
    return pai_add_mail(&e->heap, &commit->buffer, &mail, NULL, NULL);
}

/* Mail of `state` that `other` does not have: what was promised to senders after the version that is restored. */
static int pai_add_newer_mail(pagent_engine *e, pai_commit *commit, const pai_state *state, const pai_state *other)
{
    uint32_t i, k;
    for (i = 0; i < state->mail_count; i++) {
        const pai_mail *mail = state->mails[i];
        for (k = 0; k < other->mail_count; k++) {
            if (other->mails[k]->version == mail->version && other->mails[k]->index == mail->index) break;
        }
        if (k == other->mail_count && mail->kind != PAGENT_EVENT_RESTORED && mail->effect_version == 0) {
            int result = pai_add_mail(&e->heap, &commit->buffer, mail, pai_mail_bytes(mail),
                                      pai_mail_bytes(mail) + mail->who_size);
            if (result != PAGENT_OK) return result;
        }
    }
    return PAGENT_OK;
}

static uint32_t pai_restored_status(const pai_state *past)
{
    if (past->status == PAGENT_MOVED) return past->moved_status;
    return past->status;
}

/* SUMMARY, full state of `past`, RESTORED. `agent` is the one whose block it becomes: the same, or a fork. */
static int pai_build_restored(pagent_engine *e, pai_agent *agent, pai_commit *commit, pai_state *past, uint32_t type,
                              pai_task *task)
{
    pagent_summary summary;
    pai_block header;
    uint32_t flags = PAI_FULL_RESTORED, signals = 0, i, status = pai_restored_status(past);
    uint8_t *step;
    int fork = type == PAI_CREATE, result;
    if (fork || e->limits.full_snapshots) flags |= PAI_FULL_INLINE;
    if (pai_ends(status)) flags |= PAI_FULL_NO_MAIL;
    for (i = 0; i < past->mail_count && fork; i++) { /* 0 is RESTORED's; the parent's numbers will come again */
        past->mails[i]->version = pai_next_version(commit);
        past->mails[i]->index = i + 1;
    }
    past->changed = pai_next_version(commit);
    pai_our_nonce(e, &agent->state, past->nonce);
    result = pai_begin_block(e, commit);
    if (result == PAGENT_OK && !pai_ends(status)) result = pai_add_restored(e, commit, status == PAGENT_PARKED);
    if (result == PAGENT_OK) result = pai_add_full(&e->heap, &commit->buffer, past, flags);
    if (result == PAGENT_OK && !fork) result = pai_add_newer_mail(e, commit, &agent->state, past);
    for (i = 0; i < agent->state.effect_count && result == PAGENT_OK && !fork;
         i++) { /* signals that were sent by then */
        const pai_effect *effect = &agent->state.effects[i];
        if (effect->kind != PAGENT_EFFECT_SIGNAL || effect->version > past->version) continue;
        result = pai_add_effect(&e->heap, &commit->buffer, effect);
        signals++;
    }
    for (i = 0; i < agent->state.seen_count && result == PAGENT_OK && !fork; i++) {
        result = pai_add_receipt(&e->heap, &commit->buffer, agent->state.seen[i].id, agent->state.seen[i].version);
    }
    if (result == PAGENT_OK && task->id != 0) {
        result = pai_add_receipt(&e->heap, &commit->buffer, task->id, pai_next_version(commit));
    }
    if (result != PAGENT_OK) return result;
    step = pai_step_fields(commit);
    step[1] = (uint8_t)(fork ? PAI_FORKED : PAI_ROLLED_BACK);
    pai_put16(step + 2, PAI_NONE);
    pai_put16(step + 4, fork ? (uint32_t)PAI_NONE : agent->state.leaf);
    pai_put64(step + 16, past->version);
    pai_clear(&summary, sizeof summary);
    summary.due_ms = PAGENT_FOREVER;
    summary.time_ms = e->now;
    summary.state = past->leaf;
    summary.status = (uint8_t)(pai_ends(status) || status == PAGENT_PARKED ? status : (uint32_t)PAGENT_RUNNING);
    summary.flags = (pai_ends(status) || status == PAGENT_PARKED) && signals == 0 ? 0 : PAGENT_HAS_WORK;
    if (!(flags & PAI_FULL_INLINE) && pai_entry_count(past) != 0) summary.flags |= PAGENT_HAS_RUNS;
    pai_write_summary(commit, &summary);
    result = pai_chain_block(e, commit, type, PAI_CARRIES_SNAPSHOT, &header);
    if (result != PAGENT_OK) return result;
    pai_copy(&commit->request.summary, &summary, sizeof summary);
    commit->request.summary.stream = header.stream;
    commit->request.summary.version = header.version;
    commit->request.epoch = header.epoch;
    return PAGENT_OK;
}

/* Sends the block; memory is dropped when it is durable, and read again. */
static void pai_commit_restored(pagent_engine *e, pai_agent *agent, pai_task *task, uint32_t type)
{
    pai_commit *commit = pai_take_commit(e, agent);
    int result = PAGENT_E_MEMORY;
    if (commit != NULL) result = pai_build_restored(e, agent, commit, agent->past, type, task);
    if (result != PAGENT_OK) {
        pai_abandon(e, agent, commit, task, result);
        return;
    }
    agent->phase = PAI_AGENT_COMMITTING;
    commit->outcome = (uint8_t)(type == PAI_CREATE ? PAI_FORKED : PAI_ROLLED_BACK);
    commit->task = task;
    commit->drop_agent = 1;
    commit->claims = !agent->claimed;
    commit->request.stream = agent->state.stream;
    commit->request.expected = commit->expected;
    commit->request.first = commit->expected + 1;
    commit->request.blocks = commit->buffer.data;
    commit->request.size = (uint32_t)commit->buffer.size;
    commit->request.count = commit->count;
    commit->request.flags = type == PAI_ROLLBACK ? PAGENT_APPEND_RESERVE : 0;
    pai_send_commit(e, commit);
}

static int pai_open_past(pagent_engine *e, pai_agent *agent, uint64_t stream, uint64_t until)
{
    agent->past = (pai_state *)pai_allocate(&e->heap, sizeof *agent->past);
    if (agent->past == NULL) return PAGENT_E_MEMORY;
    agent->past->heap = &e->heap;
    agent->reader = pai_open_reader(e, agent, agent->past, stream, until);
    if (agent->reader == NULL) return PAGENT_E_MEMORY;
    agent->phase = PAI_AGENT_PAST;
    return PAGENT_OK;
}

static void pai_close_past(pagent_engine *e, pai_agent *agent)
{
    pai_drop_reader(e, agent);
    if (agent->past != NULL) {
        pai_free_state(agent->past);
        pai_free(&e->heap, agent->past, sizeof *agent->past);
        agent->past = NULL;
    }
    if (agent->phase == PAI_AGENT_PAST) agent->phase = PAI_AGENT_READY;
}

static int pai_crosses(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    char text[PAGENT_TEXT_SIZE];
    pai_text t;
    if (agent->state.crossed <= task->request.version || task->request.force) return 0;
    t = pai_text_begin(text, PAGENT_TEXT_SIZE);
    pai_text_add(&t, "the irreversible call \"");
    pai_text_add(&t, pai_name(agent->state.names, PAI_CALLS, agent->state.crossed_name));
    pai_text_add(&t, "\" succeeded at version ");
    pai_text_number(&t, agent->state.crossed);
    pai_text_add(&t, ": force, or choose a later version");
    pai_refuse(e, agent, task, PAGENT_E_IRREVERSIBLE, text);
    return 1;
}

static void pai_take_rollback(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    int result = PAGENT_OK;
    if (agent->phase == PAI_AGENT_READY) {
        if (task->request.version == 0 || task->request.version > agent->state.version) {
            pai_refuse(e, agent, task, PAGENT_E_NOT_FOUND, "there is no such version to return to");
            return;
        }
        if (pai_crosses(e, agent, task)) return;
        result = pai_open_past(e, agent, agent->state.stream, task->request.version);
    }
    if (result == PAGENT_OK) result = pai_reader_load(agent->reader);
    if (result == PAGENT_PENDING) {
        pai_push_front(&agent->tasks, task);
        return;
    }
    if (result != PAGENT_OK) {
        pai_close_past(e, agent);
        pai_refuse(e, agent, task, result, NULL);
        return;
    }
    agent->past->crossed = agent->state.crossed; /* it has happened, whatever the state says */
    agent->past->crossed_name = agent->state.crossed_name;
    pai_commit_restored(e, agent, task, PAI_ROLLBACK);
}

/* Runs in the turn of the agent that is to be made. */
static void pai_take_fork(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    int result = PAGENT_OK;
    if (agent->phase == PAI_AGENT_READY) {
        if (agent->exists) {
            uint64_t seen = task->id != 0 ? pai_seen_version(&agent->state, task->id) : 0;
            if (seen != 0) {
                pai_settle_seen(e, task, seen);
            } else {
                pai_refuse(e, agent, task, PAGENT_E_EXISTS, NULL);
            }
            return;
        }
        pai_flush(e, 0); /* so that the version to fork from can be read */
        result = pai_open_past(e, agent, pagent_stream_of(task->request.agent), task->request.version);
    }
    if (result == PAGENT_OK) result = pai_reader_load(agent->reader);
    if (result == PAGENT_PENDING) {
        pai_push_front(&agent->tasks, task);
        return;
    }
    if (result == PAGENT_OK) {
        agent->past->parent_version = agent->past->version;
        agent->past->created_ms = e->now;
        agent->past->crossed = 0; /* the parent's versions say nothing here */
        result = pai_set_identity(agent->past, task->request.target, pai_length(task->request.target),
                                  task->request.agent, pai_length(task->request.agent));
    }
    if (result != PAGENT_OK) {
        pai_close_past(e, agent);
        pai_refuse(e, agent, task, result, NULL);
        return;
    }
    pai_commit_restored(e, agent, task, PAI_CREATE);
}

static void pai_take_status(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    pai_state *state = &agent->state;
    if (task->verb == PAGENT_RETRY) {
        if (state->status != PAGENT_PARKED) {
            pai_refuse(e, agent, task, PAGENT_E_REFUSED, "the agent is not parked");
            return;
        }
        (void)pai_commit_plain(e, agent, task, PAI_COMMIT, PAI_RETRIED, PAGENT_RUNNING, NULL, 0, 0, 0, 0);
    } else if (task->verb == PAGENT_MOVE_OUT) {
        (void)pai_commit_plain(e, agent, task, PAI_MOVED, PAI_MOVED_OUT, PAGENT_MOVED, NULL, 0, 0, 0, 0);
    } else if (state->status != PAGENT_MOVED) {
        pai_refuse(e, agent, task, PAGENT_E_REFUSED, "the agent was not moved out");
    } else if (agent->machine == NULL) {
        (void)pai_commit_plain(e, agent, task, PAI_CLAIM, PAI_MOVED_IN, state->moved_status, NULL, 0, 0, 0, 0);
    } else {
        agent->claimed = 0; /* even if it was this engine that let it go: its calls were called off */
        pai_commit_claim(e, agent, task, state->moved_status);
    }
}

static int pai_version_conflicts(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    uint64_t expected = task->request.expected_version;
    char text[PAGENT_TEXT_SIZE];
    pai_text t;
    if (expected == PAGENT_ANY || (expected >= agent->state.changed && expected <= agent->state.version)) return 0;
    if (expected > agent->state.version) {
        pai_refuse(e, agent, task, PAGENT_E_FUTURE, NULL);
        return 1;
    }
    t = pai_text_begin(text, PAGENT_TEXT_SIZE);
    pai_text_add(&t, "version ");
    pai_text_number(&t, expected);
    pai_text_add(&t, " was expected, and the agent is at ");
    pai_text_number(&t, agent->state.version);
    pai_refuse(e, agent, task, PAGENT_E_CONFLICT, text);
    return 1;
}

static void pai_take_signal_done(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    pai_effect *effect = pai_find_effect(&agent->state, task->effect.version, task->effect.index);
    int code = task->answer.code;
    if (effect == NULL || effect->kind != PAGENT_EFFECT_SIGNAL) {
        pai_free_task(e, task);
        return;
    }
    if (code < 0 && code != PAGENT_E_NOT_FOUND && code != PAGENT_E_FINISHED && code != PAGENT_E_REFUSED &&
        code != PAGENT_E_UNDECLARED) { /* not the receiver's own word: not delivered, and may yet be */
        if (code == PAGENT_E_NO_SPACE || code == PAGENT_E_AGAIN || code == PAGENT_E_MEMORY || code == PAGENT_E_LIMIT) {
            effect->released = PAI_UNRELEASED;
            effect->retry_ms = pai_later(e, e->limits.retry_pause_ms);
        } /* else by the next engine */
        pai_free_task(e, task);
        return;
    }
    (void)pai_commit_plain(e, agent, task, PAI_CLAIM, PAI_DELIVERED, agent->state.status, effect, PAI_CHANGE_SETTLED, 0,
                           effect->attempt, 0);
}

/* Why a request cannot be handled now; OK: it can. */
static int pai_check_task(pagent_engine *e, pai_agent *agent, pai_task *task)
{
    const pai_state *state = &agent->state;
    uint64_t seen = task->id != 0 && agent->exists ? pai_seen_version(state, task->id) : 0;
    uint32_t verb = task->verb;
    int needs_machine = verb == PAGENT_POST || verb == PAGENT_DECIDE || verb == PAGENT_CANCEL || verb == PAGENT_RETRY ||
                        verb == PAI_VERB_ANSWER || verb == PAI_VERB_SIGNAL;
    if (verb == PAGENT_CREATE || verb == PAGENT_FORK || verb == PAI_VERB_SNAPSHOT) return PAGENT_OK;
    if (!agent->exists) return PAGENT_E_NOT_FOUND;
    if (verb == PAI_VERB_SIGNAL_DONE || verb == PAI_VERB_ANSWER) {
        return needs_machine && agent->machine == NULL ? PAGENT_E_STALE : PAGENT_OK;
    }
    if (!pai_same_text(task->request.agent, state->name)) return PAGENT_E_NOT_FOUND;
    if (seen != 0) {
        pai_settle_seen(e, task, seen);
        return PAGENT_DUPLICATE;
    }
    if (pai_version_conflicts(e, agent, task)) return PAGENT_DUPLICATE;
    if (state->status == PAGENT_MOVED && verb != PAGENT_MOVE_IN) return PAGENT_E_FINISHED;
    if (pai_ends(state->status) && verb != PAGENT_ROLLBACK) return PAGENT_E_FINISHED;
    if (state->status == PAGENT_PARKED && verb == PAGENT_DECIDE) return PAGENT_E_PARKED;
    if (needs_machine && agent->machine == NULL) return PAGENT_E_MACHINE_CHANGED;
    return PAGENT_OK;
}

static void pai_force_snapshot(pagent_engine *e, pai_agent *agent)
{
    pai_commit *commit = pai_take_commit(e, agent);
    int result = PAGENT_E_MEMORY;
    agent->force_snapshot = 1;
    if (commit != NULL) result = pai_add_snapshot(e, commit);
    agent->force_snapshot = 0;
    if (result == PAGENT_E_LIMIT) { /* does not fit in a block: the agent stays as it is, and so do its old blocks */
        pai_give_commit(e, commit);
        return;
    }
    if (result != PAGENT_OK) {
        pai_abandon(e, agent, commit, NULL, result);
        return;
    }
    commit->base = 0;
    commit->claims = !agent->claimed;
    pai_submit_commit(e, commit);
}

/* Handles the first task of the queue. 0: nothing done, and it stays (waiting for a read). */
static int pai_take_task(pagent_engine *e, pai_agent *agent)
{
    pai_task *task = pai_pop_task(&agent->tasks);
    int result;
    if (task == NULL) return 0;
    if (agent->phase == PAI_AGENT_PAST) { /* goes on with what was begun */
        pai_reader *reader = agent->reader;
        if (task->verb == PAGENT_ROLLBACK) pai_take_rollback(e, agent, task);
        else pai_take_fork(e, agent, task);
        return !(agent->phase == PAI_AGENT_PAST && agent->reader == reader);
    }
    result = pai_check_task(e, agent, task);
    if (result == PAGENT_DUPLICATE) return 1;
    if (result != PAGENT_OK) {
        pai_refuse(e, agent, task, result, NULL);
        return 1;
    }
    switch (task->verb) {
    case PAGENT_CREATE: pai_take_create(e, agent, task); break;
    case PAGENT_POST:
    case PAI_VERB_SIGNAL: pai_take_post(e, agent, task); break;
    case PAGENT_DECIDE: pai_take_decision(e, agent, task); break;
    case PAGENT_CANCEL: pai_take_cancel(e, agent, task); break;
    case PAGENT_ROLLBACK: pai_take_rollback(e, agent, task); break;
    case PAGENT_FORK: pai_take_fork(e, agent, task); break;
    case PAI_VERB_ANSWER: pai_take_answer(e, agent, task); break;
    case PAI_VERB_SIGNAL_DONE: pai_take_signal_done(e, agent, task); break;
    case PAI_VERB_SNAPSHOT:
        pai_free_task(e, task);
        if (agent->exists && agent->state.status != PAGENT_MOVED)
            pai_force_snapshot(e, agent); /* it must be able to come back */
        break;
    default: pai_take_status(e, agent, task); break;
    }
    return agent->phase != PAI_AGENT_PAST;
}

/* An agent that always has something to handle comes to its deadlines too: in turns, behind answers that are there. */
static int pai_take_due_between(pagent_engine *e, pai_agent *agent)
{
    const pai_task *task;
    if (!agent->took_task || pai_wake_time(e, agent) > e->now) return 0;
    agent->took_task = 0;
    for (task = agent->tasks.first; task != NULL; task = task->next) {
        if (task->verb == PAI_VERB_ANSWER || task->verb == PAGENT_DECIDE) return 0;
    }
    return pai_take_due(e, agent);
}

/* One agent's turn: until it has made a commit, waits for the store, or has nothing to do. */
static void pai_turn(pagent_engine *e, pai_agent *agent)
{
    if (agent->phase == PAI_AGENT_BROKEN) {
        pai_refuse_all(e, agent);
        return;
    }
    if (agent->retry_ms > e->now && agent->retry_ms <= pai_after(e->now, e->limits.retry_pause_ms)) {
        pai_set_wake(e, agent, agent->retry_ms);
        return;
    }
    agent->retry_ms = 0;
    if (agent->phase != PAI_AGENT_PAST && !pai_load(e, agent)) return;
    pai_touch_use(e, agent);
    while (agent->phase == PAI_AGENT_READY || agent->phase == PAI_AGENT_PAST) {
        int exists = agent->phase == PAI_AGENT_READY && agent->exists, acts = exists && agent->machine != NULL;
        if (exists && pai_needs_claim(e, agent)) {
            pai_commit_claim(e, agent, NULL, agent->state.status);
            break;
        }
        if (exists) pai_release(e, agent);
        if (acts && pai_take_mail(e, agent)) break;
        if (agent->receipts_open != 0) break; /* a sender's receipt first: its id must not slide out of the window */
        if (agent->tasks.first == NULL) {
            agent->took_task = 0;
            if (acts) (void)pai_take_due(e, agent);
            break;
        }
        if (acts && pai_take_due_between(e, agent)) break;
        agent->took_task = 1;
        if (!pai_take_task(e, agent) || agent->ready) break; /* ready again: it made its commit at once */
    }
    if (agent->phase == PAI_AGENT_READY && agent->exists && agent->retry_ms == 0) {
        pai_set_wake(e, agent, pai_wake_time(e, agent));
    }
}

/* ================================================================================================================
   [POLL]  opening, polling, requests: what the program calls
   Invariant: poll does work that is due, bounded, and returns; nothing here waits. */

/* A block is no larger than the store takes, and what goes into one no larger than it. */
static void pai_set_limits(pagent_limits *limits, uint32_t store_block_max)
{
    uint32_t largest = pai_or(store_block_max, PAI_PAYLOAD_MAX);
    limits->size = sizeof *limits;
    limits->context_size_max = pai_or(limits->context_size_max, 16u << 20);
    limits->payload_size_max = pai_or(limits->payload_size_max, 16u << 20);
    limits->block_size_max = pai_or(limits->block_size_max, 64u << 20);
    limits->effects_max = pai_or(limits->effects_max, 1024);
    limits->mailbox_max = pai_or(limits->mailbox_max, 1024);
    limits->dedupe_count = pai_or(limits->dedupe_count, 16);
    limits->loaded_max = pai_or(limits->loaded_max, 4096);
    limits->requests_max = pai_or(limits->requests_max, 65536);
    limits->always_max = pai_or(limits->always_max, 64);
    limits->splices_max = pai_or(limits->splices_max, 16);
    limits->snapshot_factor = pai_or(limits->snapshot_factor, 4);
    limits->snapshot_floor = pai_or(limits->snapshot_floor, 64u << 10);
    limits->inbox_interval_ms = pai_or(limits->inbox_interval_ms, 200);
    limits->idle_seal_ms = pai_or(limits->idle_seal_ms, 1000);
    limits->retry_pause_ms = pai_or(limits->retry_pause_ms, 500);
    if (largest > PAI_PAYLOAD_MAX - 4096u) largest = PAI_PAYLOAD_MAX - 4096u;
    if (limits->block_size_max > largest) limits->block_size_max = largest;
    if (limits->payload_size_max > limits->block_size_max) limits->payload_size_max = limits->block_size_max;
}

static int pai_check_config(const pagent_config *config, char *text)
{
    pai_text t = pai_text_begin(text, PAGENT_TEXT_SIZE);
    const char *fault = NULL;
    if (config == NULL || config->size != sizeof *config) fault = "config.size is not sizeof(pagent_config)";
    else if (config->host.size != sizeof config->host) fault = "config.host.size is not sizeof(pagent_host)";
    else if (config->store.size != sizeof config->store) fault = "config.store.size is not sizeof(pagent_store)";
    else if (config->limits.size != 0 && config->limits.size != sizeof config->limits) {
        fault = "config.limits.size is not sizeof(pagent_limits)";
    } else if (config->host.allocate == NULL || config->host.random == NULL || config->host.clock_ms == NULL) {
        fault = "config.host needs allocate, random and clock_ms";
    } else if (config->store.append == NULL || config->store.read == NULL || config->store.list == NULL) {
        fault = "config.store needs append, read and list";
    } else if (config->limits.splices_max > 16 || config->limits.dedupe_count > 4096) {
        fault = "config.limits: splices_max is at most 16, dedupe_count at most 4096";
    } else if (config->limits.block_size_max > (uint32_t)PAI_PAYLOAD_MAX) {
        fault = "config.limits.block_size_max is at most 256 MiB";
    } else if (config->machine_count != 0 && config->machines == NULL) {
        fault = "config.machines is NULL, but has a count";
    }
    pai_text_add(&t, fault);
    return fault != NULL ? PAGENT_E_ARGUMENT : PAGENT_OK;
}

/* Of several machines: which one the text is about. */
static void pai_say_machine(const pagent_machine *machine, char *text)
{
    char said[PAGENT_TEXT_SIZE];
    pai_text whole;
    if (text == NULL || machine == NULL || machine->size != sizeof *machine) return;
    pai_copy(said, text, sizeof said);
    whole = pai_text_begin(text, PAGENT_TEXT_SIZE);
    pai_text_add(&whole, "machine ");
    pai_text_add(&whole, machine->name);
    pai_text_add(&whole, ": ");
    pai_text_add(&whole, said);
}

static int pai_check_can_call(const pagent_engine *e, const pagent_machine *machine, char *text)
{
    pai_text t = pai_text_begin(text, PAGENT_TEXT_SIZE);
    if (e->host.call != NULL || machine->call_count == 0 || e->hold || e->read_only) return PAGENT_OK;
    pai_text_add(&t, "config.host.call is missing, and call \"");
    pai_text_add(&t, machine->calls[0].name);
    pai_text_add(&t, "\" is declared");
    return PAGENT_E_ARGUMENT;
}

static int pai_register_machines(pagent_engine *e, const pagent_config *config, char *text)
{
    uint32_t i;
    if (config->machine_count == 0) return PAGENT_OK;
    e->machines = (pai_machine *)pai_allocate(&e->heap, config->machine_count * sizeof e->machines[0]);
    if (e->machines == NULL) return PAGENT_E_MEMORY;
    e->machine_count = config->machine_count;
    for (i = 0; i < config->machine_count; i++) {
        int result = pagent_check_machine(config->machines[i], text);
        if (result == PAGENT_OK) result = pai_check_can_call(e, config->machines[i], text);
        if (result != PAGENT_OK && config->machine_count > 1) pai_say_machine(config->machines[i], text);
        if (result == PAGENT_OK) result = pai_compile(&e->heap, &e->machines[i], config->machines[i]);
        if (result != PAGENT_OK) return result;
    }
    return PAGENT_OK;
}

static void pai_free_engine(pagent_engine *e)
{
    pai_heap heap = e->heap;
    uint32_t i;
    for (i = 0; i < e->machine_count; i++) pai_free_machine(&heap, &e->machines[i]);
    pai_free(&heap, e->machines, e->machine_count * sizeof e->machines[0]);
    pai_free(&heap, (void *)e->buckets, e->bucket_count * sizeof e->buckets[0]);
    pai_free(&heap, (void *)e->wake, e->bucket_count * sizeof e->wake[0]);
    while (e->free_tasks != NULL) {
        pai_task *next = e->free_tasks->next;
        pai_free(&heap, e->free_tasks, e->free_tasks->size);
        e->free_tasks = next;
    }
    pai_free(&heap, e->operations, e->operation_count * sizeof e->operations[0]);
    pai_free_buffer(&heap, &e->collected);
    pai_free_buffer(&heap, &e->before);
    pai_free_buffer(&heap, &e->scratch);
    pai_free(&heap, e, sizeof *e);
}

PAGENT_API int pagent_open_engine(pagent_engine **engine, const pagent_config *config, char text[PAGENT_TEXT_SIZE])
{
    char unused[PAGENT_TEXT_SIZE];
    pai_heap heap;
    pagent_engine *e;
    int result;
    *engine = NULL;
    if (text == NULL) text = unused;
    result = pai_check_config(config, text);
    if (result != PAGENT_OK) return result;
    heap.allocate = config->host.allocate;
    heap.ctx = config->host.ctx;
    e = (pagent_engine *)pai_allocate(&heap, sizeof *e);
    if (e == NULL) {
        pai_text t = pai_text_begin(text, PAGENT_TEXT_SIZE);
        pai_text_add(&t, pagent_message(PAGENT_E_MEMORY));
        return PAGENT_E_MEMORY;
    }
    e->heap = heap;
    pai_copy(&e->host, &config->host, sizeof e->host);
    pai_copy(&e->store, &config->store, sizeof e->store);
    pai_copy(&e->limits, &config->limits, sizeof e->limits);
    e->hold = config->hold_effects;
    e->read_only = config->read_only || (config->store.caps & PAGENT_STORE_READS);
    pai_set_limits(&e->limits, e->store.block_size_max);
    pai_crc_init(&e->crc);
    e->now = e->host.clock_ms(e->host.ctx);
    e->last_commit_ms = e->now;
    e->sealed = 1;
    e->store_due_ms = 0;
    result = pai_register_machines(e, config, text);
    if (result == PAGENT_OK) {
        uint8_t nonce[16];
        result = e->host.random(e->host.ctx, nonce, sizeof nonce);
        e->nonce[0] = pai_get64(nonce);
        e->nonce[1] = pai_get64(nonce + 8);
    }
    if (result == PAGENT_OK) result = pai_reserve(&heap, &e->before, 64);
    if (result != PAGENT_OK) {
        if (text[0] == 0) {
            pai_text t = pai_text_begin(text, PAGENT_TEXT_SIZE);
            pai_text_add(&t, pagent_message(result));
        }
        pai_free_engine(e);
        return result < 0 ? result : PAGENT_E_ARGUMENT;
    }
    *engine = e;
    return PAGENT_OK;
}

/* A message that never became durable stays in the inbox; a signal stays with its sender. */
static void pai_close_task(pagent_engine *e, pai_task *task)
{
    if (task == NULL) return;
    pai_free(&e->heap, task->settling, sizeof *task->settling);
    task->settling = NULL;
    if (task->verb == PAI_VERB_SIGNAL) task->verb = PAI_VERB_SIGNAL_DONE;
    pai_settle_task(e, task, PAGENT_E_CLOSED, 0, NULL);
}

static void pai_drop_commit(pagent_engine *e, pai_commit *commit, int settle)
{
    if (settle) pai_close_task(e, commit->task);
    pai_free_buffer(&e->heap, &commit->buffer);
    pai_free(&e->heap, commit, sizeof *commit);
}

static void pai_drop_commits(pagent_engine *e, pai_commit *list, int settle)
{
    while (list != NULL) {
        pai_commit *next = list->next;
        pai_drop_commit(e, list, settle);
        list = next;
    }
}

static void pai_drop_tasks(pagent_engine *e, pai_queue *queue)
{
    pai_task *task;
    while ((task = pai_pop_task(queue)) != NULL) pai_close_task(e, task);
}

PAGENT_API int pagent_close_engine(pagent_engine *engine)
{
    pagent_engine *e = engine;
    int (*close_store)(void *);
    void *owned;
    uint32_t i;
    if (e == NULL) return PAGENT_OK;
    if (e->views != 0 || e->polling) return PAGENT_E_ARGUMENT;
    e->host.trace = NULL;
    e->host.call_cancel = NULL;
    for (i = 0; i < e->operation_count; i++) { /* appends, reads and receipts that were under way */
        pai_operation *operation = &e->operations[i];
        if (operation->kind == PAI_OP_APPEND) {
            pai_commit *commit = (pai_commit *)operation->owner;
            if (commit->checking) pai_free(&e->heap, commit->check.buffer, commit->check.capacity);
            pai_drop_commit(e, commit, 1);
        }
        if (operation->kind == PAI_OP_SETTLE) pai_free(&e->heap, operation->owner, sizeof(pai_settling));
        if (operation->kind == PAI_OP_ORPHAN) pai_free_reader((pai_reader *)operation->owner);
        if (operation->kind != PAI_OP_READ) operation->kind = 0;
    }
    pai_drop_commits(e, e->staged, 1);
    pai_drop_commits(e, e->flushing, 1);
    while (e->retries != NULL) {
        pai_retry *retry = e->retries;
        e->retries = retry->next;
        if (retry->commit != NULL) pai_drop_commit(e, retry->commit, 1);
        else pai_free(&e->heap, retry->settling, sizeof(pai_settling));
    }
    pai_drop_commits(e, e->free_commits, 0);
    e->staged = e->flushing = e->free_commits = NULL;
    pai_drop_tasks(e, &e->requests);
    while (e->newest != NULL) {
        pai_agent *agent = e->newest;
        pai_drop_tasks(e, &agent->tasks);
        agent->ready = 0;
        pai_free_agent(e, agent);
    }
    for (i = 0; i < e->operation_count; i++) { /* reads of the agents just freed */
        if (e->operations[i].kind == PAI_OP_ORPHAN) pai_free_reader((pai_reader *)e->operations[i].owner);
    }
    if (e->trim_receipt != NULL) pai_fill_receipt(e->trim_receipt, 0, PAGENT_E_CLOSED, e->trim_count, NULL);
    close_store = e->close_store;
    owned = e->owned;
    pai_free_engine(e);
    return close_store != NULL ? close_store(owned) : PAGENT_OK;
}

/* ---- which agents of the store want to be looked at ---- */

static void pai_list_answer(pagent_engine *e, int result)
{
    uint32_t i;
    e->list_busy = 0;
    if (result == PAGENT_E_AGAIN) {
        e->list.cursor = 0;
        e->store_due_ms = pai_after(e->now, e->limits.retry_pause_ms);
        return;
    }
    if (result != PAGENT_OK && result != PAGENT_END) {
        (void)pai_fail_engine(e, result < 0 ? result : PAGENT_E_STORAGE, "the store could not be listed: ");
        return;
    }
    for (i = 0; i < e->list_io.count && i < PAI_LIST_MAX; i++) {
        pai_agent *agent = pai_find_agent(e, e->summaries[i].stream);
        if (agent != NULL) continue; /* its own deadline is known */
        if (e->summaries[i].status == PAGENT_MOVED) continue;
        agent = pai_get_agent(e, e->summaries[i].stream);
        if (agent != NULL) {
            pai_mark_ready(e, agent);
        } else {
            e->list_again = 1;
        }
    }
    if (e->list_io.next_due_ms < e->list_due_ms) e->list_due_ms = e->list_io.next_due_ms;
    e->list.cursor = e->list_io.cursor;
    if (e->list.cursor != 0) return;
    e->store_due_ms = e->list_again ? pai_after(e->now, e->limits.retry_pause_ms) : e->list_due_ms;
    if (!e->list_again) e->opened = 1;
}

static void pai_look_for_due(pagent_engine *e)
{
    uint32_t round;
    for (round = 0; round < 1024 && !e->list_busy; round++) {
        int result;
        if (e->list.cursor == 0) {
            if (e->store_due_ms > e->now || round != 0) return;
            e->list_due_ms = PAGENT_FOREVER;
            e->list_again = 0;
            e->list.due_before_ms = e->now;
            e->list.flags = e->opened ? 0 : PAGENT_HAS_WORK | PAGENT_HAS_CALLS;
        }
        e->list.items = e->summaries;
        e->list.capacity = PAI_LIST_MAX;
        pai_clear(&e->list_io, sizeof e->list_io);
        e->list_io.next_due_ms = PAGENT_FOREVER;
        if (pai_begin_operation(e, PAI_OP_LIST, e, &e->list.op) != PAGENT_OK) return;
        e->list_busy = 1;
        result = e->store.list(e->store.ctx, &e->list, &e->list_io);
        if (result == PAGENT_PENDING) return;
        pai_end_operation(e, e->list.op);
        pai_list_answer(e, result);
        if (e->failed != 0) return;
    }
}

/* ---- the inbox ---- */

static int pai_in_flight(const pagent_engine *e, uint64_t message, uint64_t stream, uint32_t *of_stream)
{
    uint32_t i;
    *of_stream = 0;
    for (i = 0; i < e->flight_count; i++) {
        if (e->flights[i].message == message) return 1;
        *of_stream += e->flights[i].stream == stream;
    }
    return 0;
}

static uint64_t pai_stream_of_request(const pagent_request *request)
{
    return pagent_stream_of(request->verb == PAGENT_FORK ? request->target : request->agent);
}

static int pai_check_request(const pagent_engine *e, const pagent_request *request, const char **what);

/* A message that cannot become a request: too big, damaged, or a newer program's. */
static int pai_refuse_message(pagent_engine *e, int result, const char *what)
{
    pai_settling *settling;
    pagent_receipt receipt;
    uint32_t of_stream;
    if (e->collect_io.stream == 0) return 0;
    if (pai_in_flight(e, e->collect_io.stream, 0, &of_stream)) return 1;
    settling = e->flight_count < PAI_FLIGHT_MAX ? (pai_settling *)pai_allocate(&e->heap, sizeof *settling) : NULL;
    if (settling == NULL) return 0;
    e->flights[e->flight_count].message = e->collect_io.stream;
    e->flights[e->flight_count++].stream = 0;
    settling->request.message = e->collect_io.stream;
    pai_fill_receipt(&receipt, 0, result, 0, what);
    pai_answer_message(e, settling, &receipt);
    return 1;
}

/* One message: into the queue, unless it is there already, or too many of its agent are. 0: stop collecting. */
static int pai_take_message(pagent_engine *e)
{
    pagent_request request;
    uint64_t message = e->collect_io.stream, stream;
    uint32_t of_stream;
    const pai_agent *agent;
    pai_task *task;
    const char *what = NULL;
    int result = pagent_decode_request(e->collected.data, e->collect_io.size, &request);
    if (result == PAGENT_OK && (request.id == NULL || pai_hash_text(request.id) != message)) result = PAGENT_E_ARGUMENT;
    if (result == PAGENT_OK) result = pai_check_request(e, &request, &what);
    if (result != PAGENT_OK) return pai_refuse_message(e, result, what);
    stream = pai_stream_of_request(&request);
    if (pai_in_flight(e, message, stream, &of_stream)) return 1;
    if (of_stream >= (e->limits.dedupe_count + 1) / 2) return 1; /* its agent has enough for now: later */
    agent = pai_find_agent(e, stream);
    if (agent != NULL && agent->phase == PAI_AGENT_BROKEN && pai_is_trouble_of_ours(agent->broken)) return 1;
    if (e->flight_count == PAI_FLIGHT_MAX) return 0;
    task = pai_make_task(e, &request, request.verb, request.data);
    if (task == NULL) return 0;
    task->settling = (pai_settling *)pai_allocate(&e->heap, sizeof *task->settling);
    if (task->settling == NULL) {
        pai_free_task(e, task);
        return 0;
    }
    task->settling->request.message = message;
    task->settling->stream = stream;
    task->id = message;
    task->stream = stream;
    e->flights[e->flight_count].message = message;
    e->flights[e->flight_count++].stream = stream;
    e->request_count++;
    pai_push_task(&e->requests, task);
    return 1;
}

static int pai_take_collected(pagent_engine *e, int result)
{
    const pagent_io *io = &e->collect_io;
    if (result == PAGENT_E_LIMIT && io->size > e->limits.payload_size_max + 1024u) {
        return pai_refuse_message(e, PAGENT_E_LIMIT, pai_over_payload);
    }
    if (result != PAGENT_OK || io->size > e->collected.capacity) return 0;
    return io->size != 0 ? pai_take_message(e) : pai_refuse_message(e, PAGENT_E_CORRUPT, NULL);
}

static void pai_collect_answer(pagent_engine *e, int result)
{
    e->collect_busy = 0;
    if (result == PAGENT_E_LIMIT && e->collect_io.size > e->collected.capacity &&
        e->collect_io.size <= e->limits.payload_size_max + 1024u) {
        e->collected.size = 0;
        if (pai_reserve(&e->heap, &e->collected, e->collect_io.size) == PAGENT_OK) return; /* again, with more room */
        result = PAGENT_E_MEMORY;
    }
    if (pai_take_collected(e, result)) {
        e->collect.cursor = e->collect_io.cursor;
        if (e->collect.cursor != 0) return;
    } else if (result < 0) {
        pai_trace(e, NULL, PAGENT_TRACE_ERROR, result, "inbox");
    }
    e->collect.cursor = 0;
    e->inbox_open = 0;
    e->inbox_ms = pai_after(e->now, e->limits.inbox_interval_ms);
}

static void pai_collect(pagent_engine *e)
{
    uint32_t round;
    if (e->store.collect == NULL || e->store.settle == NULL) return;
    if (!e->inbox_open) {
        if (e->inbox_ms > e->now && e->inbox_ms <= pai_after(e->now, e->limits.inbox_interval_ms)) return;
        e->inbox_open = 1;
        e->collect.cursor = 0;
    }
    for (round = 0; round < 2 * PAI_FLIGHT_MAX && e->inbox_open && !e->collect_busy; round++) {
        int result;
        if (e->collected.capacity == 0 && pai_reserve(&e->heap, &e->collected, 4096) != PAGENT_OK) return;
        e->collect.buffer = e->collected.data;
        e->collect.capacity = (uint32_t)e->collected.capacity;
        pai_clear(&e->collect_io, sizeof e->collect_io);
        if (pai_begin_operation(e, PAI_OP_COLLECT, e, &e->collect.op) != PAGENT_OK) return;
        e->collect_busy = 1;
        result = e->store.collect(e->store.ctx, &e->collect, &e->collect_io);
        if (result == PAGENT_PENDING) return;
        pai_end_operation(e, e->collect.op);
        pai_collect_answer(e, result);
    }
}

/* ---- trimming ---- */

static void pai_trim_answer(pagent_engine *e, int result)
{
    pai_agent *agent = NULL;
    pai_task *task = NULL;
    const char *what = NULL;
    pagent_bytes none;
    e->trim_busy = 0;
    e->trim_count += result == PAGENT_OK ? e->trim_io.count : 0;
    none.data = NULL;
    none.size = 0;
    if (result == PAGENT_OK && e->trim_io.stream != 0 && e->trim_io.stream != e->trim_stream) {
        e->trim_stream = e->trim_io.stream;
        agent = pai_get_agent(e, e->trim_io.stream);
        if (agent != NULL) task = pai_make_task(e, NULL, PAI_VERB_SNAPSHOT, none);
        if (task != NULL) {
            task->stream = e->trim_stream;
            pai_queue_task(e, agent, task);
            return;
        }
        result = PAGENT_E_MEMORY;
    }
    if (result == PAGENT_OK && e->trim_io.stream != 0) { /* asked before */
        result = PAGENT_E_LIMIT;
        what = "the snapshot of an agent with old blocks is larger than a block may be";
    }
    e->trim_on = 0;
    e->trim_stream = 0;
    if (e->trim_receipt != NULL) {
        pai_fill_receipt(e->trim_receipt, 0, result, e->trim_count, what);
        e->receipts_due--;
    }
    e->trim_receipt = NULL;
}

/* The agent that was asked for a snapshot has not written it yet. */
static int pai_trim_waits(pagent_engine *e)
{
    const pai_agent *agent = e->trim_stream != 0 ? pai_find_agent(e, e->trim_stream) : NULL;
    if (e->trim_busy) return 1;
    return agent != NULL && (agent->tasks.first != NULL || agent->phase == PAI_AGENT_COMMITTING ||
                             agent->phase == PAI_AGENT_LOADING || agent->phase == PAI_AGENT_PAST);
}

static void pai_trim(pagent_engine *e)
{
    uint32_t round;
    for (round = 0; round < 64 && e->trim_on && !pai_trim_waits(e); round++) {
        int result;
        pai_clear(&e->trim_io, sizeof e->trim_io);
        if (pai_begin_operation(e, PAI_OP_TRIM, e, &e->trim.op) != PAGENT_OK) return;
        e->trim_busy = 1;
        result = e->store.trim(e->store.ctx, &e->trim, &e->trim_io);
        if (result == PAGENT_PENDING) return;
        pai_end_operation(e, e->trim.op);
        pai_trim_answer(e, result);
    }
}

PAGENT_API int pagent_trim_store(pagent_engine *engine, pagent_receipt *receipt)
{
    pagent_engine *e = engine;
    const char *what = NULL;
    int result = PAGENT_OK;
    if (e == NULL) return PAGENT_E_ARGUMENT;
    if (e->read_only) {
        result = PAGENT_E_READ_ONLY;
    } else if (e->store.trim == NULL || !e->limits.full_snapshots) {
        result = PAGENT_E_ARGUMENT;
        what = "trimming needs limits.full_snapshots, and a store that can be trimmed";
    } else if (e->trim_on) {
        result = PAGENT_E_AGAIN;
    }
    if (receipt != NULL) pai_fill_receipt(receipt, 0, result == PAGENT_OK ? PAGENT_PENDING : result, 0, what);
    if (result != PAGENT_OK) return result;
    e->trim_on = 1;
    e->trim_stream = e->trim_count = 0;
    e->trim_receipt = receipt;
    e->receipts_due += receipt != NULL;
    return PAGENT_OK;
}

/* ---- poll ---- */

/* Requests that can be handed out now: what an earlier engine left comes first. */
static int pai_has_requests(const pagent_engine *e)
{
    return e->requests.first != NULL && e->opened && e->requests_ms <= e->now;
}

static void pai_hand_out_requests(pagent_engine *e)
{
    pai_task *task;
    if (!pai_has_requests(e)) return;
    while ((task = e->requests.first) != NULL) {
        pai_agent *agent = pai_get_agent(e, task->stream);
        if (agent == NULL) { /* no memory: later */
            e->requests_ms = pai_later(e, e->limits.retry_pause_ms);
            return;
        }
        (void)pai_pop_task(&e->requests);
        pai_queue_task(e, agent, task);
    }
}

static void pai_wake_due(pagent_engine *e)
{
    while (e->wake_count != 0 && e->wake[0]->wake_ms <= e->now) {
        pai_agent *agent = e->wake[0];
        pai_unset_wake(e, agent);
        pai_mark_ready(e, agent);
    }
}

/* Idle agents beyond the limit leave memory, least recently used first. One whose call is under way stays. */
static void pai_unload(pagent_engine *e)
{
    pai_agent *agent = e->oldest;
    while (agent != NULL && e->agent_count > e->limits.loaded_max) {
        pai_agent *next = agent->newer;
        int idle = agent->phase == PAI_AGENT_READY && !agent->ready && agent->tasks.first == NULL &&
                   agent->retry_ms == 0 && agent->receipts_open == 0 && pai_count_running(&agent->state) == 0 &&
                   e->trim_stream != agent->state.stream;
        if (idle) {
            uint64_t due = pai_wake_time(e, agent);
            if (due < e->store_due_ms) e->store_due_ms = due;
            if (due < e->list_due_ms) e->list_due_ms = due; /* a listing may be under way */
            pai_trace(e, agent, PAGENT_TRACE_UNLOAD, 0, NULL);
            pai_free_agent(e, agent);
        }
        agent = next;
    }
}

static void pai_run_ready(pagent_engine *e)
{
    pai_agent *agent = e->ready_first, *last = e->ready_last;
    while (agent != NULL && e->failed == 0) {
        e->ready_first = agent->ready_next;
        if (e->ready_first == NULL) e->ready_last = NULL;
        agent->ready = 0;
        pai_turn(e, agent);
        if (agent == last) break;
        agent = e->ready_first;
    }
}

/* What a burst left behind. */
static void pai_shrink(pagent_engine *e)
{
    uint32_t count = PAI_TABLE_MIN;
    while (count < 2 * e->agent_count) count *= 2;
    if (count < e->bucket_count) (void)pai_resize_tables(e, count);
    while (e->free_task_count > PAI_FREE_IDLE) {
        pai_task *task = e->free_tasks;
        e->free_tasks = task->next;
        e->free_task_count--;
        pai_free(&e->heap, task, task->size);
    }
    while (e->free_commit_count > PAI_FREE_IDLE) {
        pai_commit *commit = e->free_commits;
        e->free_commits = commit->next;
        e->free_commit_count--;
        pai_drop_commit(e, commit, 0);
    }
}

static void pai_seal_when_idle(pagent_engine *e)
{
    if (e->sealed || e->flush_busy || e->staged != NULL) return;
    if (e->now < pai_after(e->last_commit_ms, e->limits.idle_seal_ms) && e->now >= e->last_commit_ms) return;
    e->sealed = 1;
    pai_shrink(e);
    pai_flush(e, 1);
}

/* A clock that was set back must not make anything wait until it has caught up: pauses end, deadlines are looked up. */
static void pai_read_clock(pagent_engine *e)
{
    uint64_t before = e->now;
    pai_agent *agent;
    e->now = e->host.clock_ms(e->host.ctx);
    if (e->now >= before) return;
    for (agent = e->newest; agent != NULL; agent = agent->older) {
        if (agent->retry_ms == 0) continue;
        agent->retry_ms = 0;
        pai_mark_ready(e, agent);
    }
    e->store_due_ms = e->inbox_ms = e->requests_ms = 0;
}

PAGENT_API int pagent_poll(pagent_engine *engine)
{
    pagent_engine *e = engine;
    if (e == NULL) return PAGENT_E_ARGUMENT;
    if (e->failed != 0) return e->failed;
    if (e->polling) return PAGENT_E_ARGUMENT; /* a callback must not call back in */
    e->polling = 1;
    pai_read_clock(e);
    if (!e->read_only) {
        pai_look_for_due(e);
        if (e->retries != NULL) pai_try_again(e);
        pai_collect(e);
        pai_hand_out_requests(e);
        if (e->trim_on) pai_trim(e);
        pai_wake_due(e);
        pai_run_ready(e);
        pai_flush(e, 0);
        pai_seal_when_idle(e);
        if (e->agent_count > e->limits.loaded_max) pai_unload(e);
    }
    e->polling = 0;
    if (e->failed != 0) return e->failed;
    if (e->ready_first != NULL || pai_has_requests(e) || (e->trim_on && !pai_trim_waits(e))) return PAGENT_OK;
    return e->operations_busy != 0 ? PAGENT_PENDING : PAGENT_IDLE;
}

PAGENT_API uint64_t pagent_next_deadline(const pagent_engine *engine)
{
    const pagent_engine *e = engine;
    const pai_retry *retry;
    uint64_t due;
    if (e == NULL || e->read_only) return PAGENT_FOREVER;
    due = e->list_busy ? PAGENT_FOREVER : e->store_due_ms;
    if (e->ready_first != NULL || pai_has_requests(e)) return e->now;
    if (e->requests.first != NULL && e->opened && e->requests_ms < due) due = e->requests_ms;
    if (e->wake_count != 0 && e->wake[0]->wake_ms < due) due = e->wake[0]->wake_ms;
    if (e->store.collect != NULL && !e->collect_busy && e->inbox_ms < due) due = e->inbox_ms;
    for (retry = e->retries; retry != NULL; retry = retry->next) {
        if (retry->retry_ms < due) due = retry->retry_ms;
    }
    if (!e->sealed) {
        uint64_t seal = pai_after(e->last_commit_ms, e->limits.idle_seal_ms);
        if (seal < due) due = seal;
    }
    return due;
}

PAGENT_API int pagent_is_quiet(const pagent_engine *engine)
{
    const pagent_engine *e = engine;
    return e != NULL && e->failed == 0 && e->opened && e->ready_first == NULL && e->requests.first == NULL &&
           e->request_count == 0 && e->operations_busy == 0 && e->calls_running == 0 && e->wake_count == 0 &&
           !e->trim_on && e->store_due_ms == PAGENT_FOREVER;
}

PAGENT_API int pagent_run(pagent_engine *engine, pagent_wait wait, void *ctx)
{
    uint32_t polls;
    for (polls = 1;; polls++) {
        int result = pagent_poll(engine);
        if (result < 0) return result;
        if (result == PAGENT_OK && polls % PAI_POLLS_MAX != 0) continue;
        result = wait(ctx, engine, pagent_next_deadline(engine));
        if (result != 0) return result < 0 ? result : PAGENT_OK;
    }
}

PAGENT_API const char *pagent_error_text(const pagent_engine *engine)
{
    if (engine == NULL) return "there is no engine";
    if (engine->text[0] != 0 || engine->stranded_count == 0) return engine->text;
    return engine->stranded_text;
}

/* ---- completions ---- */

PAGENT_API int pagent_call_done(pagent_engine *engine, const pagent_call_id *id, const pagent_answer *answer)
{
    pagent_engine *e = engine;
    pai_agent *agent;
    pai_effect *effect;
    int result, unread;
    if (e == NULL || id == NULL || answer == NULL) return PAGENT_E_ARGUMENT;
    result = pai_check_answer(e, answer);
    if (result != PAGENT_OK) return result;
    if (id->stream == 0 || e->read_only) return PAGENT_E_STALE;
    agent = pai_find_agent(e, id->stream);
    unread = agent == NULL || agent->phase == PAI_AGENT_NEW || agent->phase == PAI_AGENT_LOADING;
    if (unread && e->answer_count >= e->limits.requests_max) return PAGENT_E_AGAIN;
    if (unread || agent->phase == PAI_AGENT_COMMITTING) { /* decided when the state is known to be durable */
        if (agent == NULL) agent = pai_get_agent(e, id->stream);
        return agent != NULL ? pai_queue_answer(e, agent, id, answer) : PAGENT_E_MEMORY;
    }
    effect = pai_find_effect(&agent->state, id->version, id->index);
    if (effect == NULL || effect->kind != PAGENT_EFFECT_CALL || effect->phase != PAGENT_PHASE_OPEN ||
        effect->attempt != id->attempt || effect->released == PAI_ANSWERED) {
        result = id->version > agent->state.version ? PAGENT_E_FUTURE : PAGENT_E_STALE;
        pai_trace(e, agent, PAGENT_TRACE_REFUSED, result, "answer");
        return result;
    }
    result = pai_queue_answer(e, agent, id, answer);
    if (result == PAGENT_OK && effect->released == PAI_RELEASED) e->calls_running--;
    if (result == PAGENT_OK) effect->released = PAI_ANSWERED;
    return result;
}

static void pai_reader_answer(pai_reader *reader, int result, const pagent_io *io)
{
    reader->waiting = 0;
    reader->filled = 1;
    reader->result = result;
    pai_copy(&reader->io, io, sizeof *io);
    if (reader->owner != NULL) pai_mark_ready(reader->engine, reader->owner);
}

PAGENT_API int pagent_store_done(pagent_engine *engine, pagent_op op, int result, const pagent_io *io)
{
    pagent_engine *e = engine;
    pai_operation *operation = e != NULL ? pai_find_operation(e, op) : NULL;
    pagent_io none;
    void *owner;
    uint32_t kind;
    if (operation == NULL) return PAGENT_E_STALE;
    if (result == PAGENT_PENDING) return PAGENT_E_ARGUMENT;
    pai_clear(&none, sizeof none);
    if (io == NULL) io = &none;
    owner = operation->owner;
    kind = operation->kind;
    pai_end_operation(e, op);
    e->now = e->host.clock_ms(e->host.ctx);
    switch (kind) {
    case PAI_OP_APPEND: {
        pai_commit *commit = (pai_commit *)owner;
        if (commit->checking) {
            pai_doubt_answer(e, commit, result, io);
        } else {
            pai_commit_answer(e, commit, result == PAGENT_STAGED ? PAGENT_E_STORAGE : result);
        }
        break;
    }
    case PAI_OP_FLUSH: pai_flush_answer(e, result); break;
    case PAI_OP_READ: pai_reader_answer((pai_reader *)owner, result, io); break;
    case PAI_OP_ORPHAN: pai_free_reader((pai_reader *)owner); break;
    case PAI_OP_LIST:
        pai_copy(&e->list_io, io, sizeof *io);
        pai_list_answer(e, result);
        break;
    case PAI_OP_TRIM:
        pai_copy(&e->trim_io, io, sizeof *io);
        pai_trim_answer(e, result);
        break;
    case PAI_OP_COLLECT:
        pai_copy(&e->collect_io, io, sizeof *io);
        pai_collect_answer(e, result);
        break;
    default: pai_end_settling(e, (pai_settling *)owner, result); break;
    }
    return PAGENT_OK;
}

/* ---- requests ---- */

static int pai_is_name(const char *name, int required)
{
    size_t length = pai_length(name);
    return length <= PAGENT_NAME_MAX && (!required || length != 0);
}

/* What is wrong with a request: a sentence in *what, NULL for that of the result. */
static int pai_check_request(const pagent_engine *e, const pagent_request *request, const char **what)
{
    uint32_t verb = request->verb;
    const char *fault = NULL;
    if (request->size == sizeof *request && request->data.size > e->limits.payload_size_max) {
        *what = pai_over_payload;
        return PAGENT_E_LIMIT;
    }
    if (request->size != sizeof *request) fault = "request.size is not sizeof(pagent_request)";
    else if (verb < PAGENT_CREATE || verb > PAGENT_MOVE_IN) fault = "request.verb is none of enum pagent_verb";
    else if (!pai_is_name(request->agent, 1)) fault = "an agent's name is 1 to 127 bytes";
    else if (!pai_is_name(request->id, 0) || !pai_is_name(request->who, 0)) fault = "id, who: at most 127 bytes";
    else if (!pai_is_name(request->event, verb == PAGENT_CREATE || verb == PAGENT_POST)) {
        fault = "a machine or a signal must be named";
    } else if (!pai_is_name(request->target, verb == PAGENT_FORK)) {
        fault = "the new agent's name is 1 to 127 bytes";
    } else if (verb == PAGENT_DECIDE && (request->decision < PAGENT_APPROVE || request->decision > PAGENT_EDIT)) {
        fault = "request.decision is none of enum pagent_decision";
    } else if (request->data.size != 0 && request->data.data == NULL) {
        fault = "request.data is NULL, but has a size";
    }
    *what = fault;
    return fault != NULL ? PAGENT_E_ARGUMENT : PAGENT_OK;
}

PAGENT_API int pagent_submit(pagent_engine *engine, const pagent_request *request, pagent_receipt *receipt)
{
    pagent_engine *e = engine;
    pai_task *task = NULL;
    const char *what;
    int result;
    if (e == NULL || request == NULL) return PAGENT_E_ARGUMENT;
    result = pai_check_request(e, request, &what);
    if (result == PAGENT_OK && e->read_only) result = PAGENT_E_READ_ONLY;
    if (result == PAGENT_OK && e->failed != 0) result = e->failed;
    if (result == PAGENT_OK && e->request_count >= e->limits.requests_max) {
        result = PAGENT_E_LIMIT;
        what = "limits.requests_max are waiting: poll first";
    }
    if (result == PAGENT_OK) task = pai_make_task(e, request, request->verb, request->data);
    if (result == PAGENT_OK && task == NULL) result = PAGENT_E_MEMORY;
    if (receipt != NULL) pai_fill_receipt(receipt, request->verb, task != NULL ? PAGENT_PENDING : result, 0, what);
    if (task == NULL) return result;
    task->receipt = receipt;
    task->id = request->id != NULL && request->id[0] != 0 ? pai_hash_text(request->id) : 0;
    task->stream = pai_stream_of_request(request);
    e->receipts_due += receipt != NULL;
    e->request_count++;
    pai_push_task(&e->requests, task);
    return PAGENT_OK;
}

static pagent_request pai_new_request(uint32_t verb, const char *agent, const void *data, uint32_t size)
{
    pagent_request request;
    pai_clear(&request, sizeof request);
    request.size = sizeof request;
    request.verb = verb;
    request.agent = agent;
    request.data.data = data;
    request.data.size = size;
    return request;
}

PAGENT_API int pagent_create(pagent_engine *engine, const char *agent, const char *machine, const void *data,
                             uint32_t size, pagent_receipt *receipt)
{
    pagent_request request = pai_new_request(PAGENT_CREATE, agent, data, size);
    request.event = machine;
    return pagent_submit(engine, &request, receipt);
}

PAGENT_API int pagent_post(pagent_engine *engine, const char *agent, const char *signal, const char *id,
                           const void *data, uint32_t size, pagent_receipt *receipt)
{
    pagent_request request = pai_new_request(PAGENT_POST, agent, data, size);
    request.event = signal;
    request.id = id;
    return pagent_submit(engine, &request, receipt);
}

PAGENT_API int pagent_decide(pagent_engine *engine, const char *agent, const pagent_effect_id *approval,
                             const char *who, uint32_t decision, const void *data, uint32_t size,
                             uint64_t expected_version, pagent_receipt *receipt)
{
    pagent_request request = pai_new_request(PAGENT_DECIDE, agent, data, size);
    if (approval != NULL) request.effect = *approval;
    request.who = who;
    request.decision = decision;
    request.expected_version = expected_version;
    return pagent_submit(engine, &request, receipt);
}

PAGENT_API int pagent_cancel(pagent_engine *engine, const char *agent, uint64_t expected_version,
                             pagent_receipt *receipt)
{
    pagent_request request = pai_new_request(PAGENT_CANCEL, agent, NULL, 0);
    request.expected_version = expected_version;
    return pagent_submit(engine, &request, receipt);
}

PAGENT_API int pagent_rollback(pagent_engine *engine, const char *agent, uint64_t version, uint32_t force,
                               uint64_t expected_version, pagent_receipt *receipt)
{
    pagent_request request = pai_new_request(PAGENT_ROLLBACK, agent, NULL, 0);
    request.version = version;
    request.force = force;
    request.expected_version = expected_version;
    return pagent_submit(engine, &request, receipt);
}

PAGENT_API int pagent_fork(pagent_engine *engine, const char *agent, uint64_t version, const char *new_agent,
                           pagent_receipt *receipt)
{
    pagent_request request = pai_new_request(PAGENT_FORK, agent, NULL, 0);
    request.version = version;
    request.target = new_agent;
    return pagent_submit(engine, &request, receipt);
}

/*  A request as bytes: verb:4 decision:4 force:4 effect index:4 effect version:8 digest:8 version:8 expected:8
    sizes of agent, id, event, target, who:2×5 (zero):2 data size:4  then the texts, each with its zero, then the
    data */
enum {
    PAI_REQUEST_FRONT = 64,
    PAI_RECEIPT_FRONT = 16
};

PAGENT_API int pagent_encode_request(const pagent_request *request, uint8_t *buffer, uint32_t capacity)
{
    const char *texts[5];
    size_t size = PAI_REQUEST_FRONT, i;
    uint8_t *at;
    texts[0] = request->agent;
    texts[1] = request->id;
    texts[2] = request->event;
    texts[3] = request->target;
    texts[4] = request->who;
    for (i = 0; i < 5; i++) {
        if (pai_length(texts[i]) > PAGENT_NAME_MAX) return PAGENT_E_ARGUMENT;
        size += pai_text_size(texts[i]);
    }
    if (request->data.size > (1u << 30)) return PAGENT_E_LIMIT;
    size += request->data.size;
    if (buffer == NULL) return (int)size;
    if (size > capacity) return PAGENT_E_LIMIT;
    pai_clear(buffer, PAI_REQUEST_FRONT);
    pai_put32(buffer, request->verb);
    pai_put32(buffer + 4, request->decision);
    pai_put32(buffer + 8, request->force);
    pai_put32(buffer + 12, request->effect.index);
    pai_put64(buffer + 16, request->effect.version);
    pai_put64(buffer + 24, request->digest);
    pai_put64(buffer + 32, request->version);
    pai_put64(buffer + 40, request->expected_version);
    for (i = 0; i < 5; i++) pai_put16(buffer + 48 + 2 * i, (uint32_t)pai_text_size(texts[i]));
    pai_put32(buffer + 60, request->data.size);
    at = buffer + PAI_REQUEST_FRONT;
    for (i = 0; i < 5; i++) (void)pai_take_text(&at, texts[i]);
    pai_copy(at, request->data.data, request->data.size);
    return (int)size;
}

PAGENT_API int pagent_decode_request(const uint8_t *bytes, uint32_t size, pagent_request *request)
{
    const char *texts[5];
    size_t at = PAI_REQUEST_FRONT, i;
    pai_clear(request, sizeof *request);
    if (size < PAI_REQUEST_FRONT) return PAGENT_E_CORRUPT;
    for (i = 0; i < 5; i++) {
        uint32_t length = pai_get16(bytes + 48 + 2 * i);
        texts[i] = length != 0 ? (const char *)bytes + at : NULL;
        if (length > PAGENT_NAME_MAX + 1u || length > size - at) return PAGENT_E_CORRUPT;
        if (length != 0 && (bytes[at + length - 1] != 0 || pai_length(texts[i]) + 1 != length)) return PAGENT_E_CORRUPT;
        at += length;
    }
    if (pai_get32(bytes + 60) != size - at) return PAGENT_E_CORRUPT;
    request->size = sizeof *request;
    request->verb = pai_get32(bytes);
    request->decision = pai_get32(bytes + 4);
    request->force = pai_get32(bytes + 8);
    request->effect.index = pai_get32(bytes + 12);
    request->effect.version = pai_get64(bytes + 16);
    request->digest = pai_get64(bytes + 24);
    request->version = pai_get64(bytes + 32);
    request->expected_version = pai_get64(bytes + 40);
    request->agent = texts[0];
    request->id = texts[1];
    request->event = texts[2];
    request->target = texts[3];
    request->who = texts[4];
    request->data.data = bytes + at;
    request->data.size = (uint32_t)(size - at);
    return PAGENT_OK;
}

/*  A receipt as bytes: result:4 verb:4 version:8 text\0  */
PAGENT_API int pagent_encode_receipt(const pagent_receipt *receipt, uint8_t *buffer, uint32_t capacity)
{
    uint32_t size = PAI_RECEIPT_FRONT + (uint32_t)pai_length(receipt->text) + 1;
    if (buffer == NULL) return (int)size;
    if (size > capacity) return PAGENT_E_LIMIT;
    pai_put32(buffer, (uint32_t)receipt->result);
    pai_put32(buffer + 4, receipt->verb);
    pai_put64(buffer + 8, receipt->version);
    pai_copy(buffer + PAI_RECEIPT_FRONT, receipt->text, size - PAI_RECEIPT_FRONT);
    return (int)size;
}

PAGENT_API int pagent_decode_receipt(const uint8_t *bytes, uint32_t size, pagent_receipt *receipt)
{
    pai_clear(receipt, sizeof *receipt);
    if (size <= PAI_RECEIPT_FRONT || size > PAI_RECEIPT_FRONT + PAGENT_TEXT_SIZE || bytes[size - 1] != 0) {
        return PAGENT_E_CORRUPT;
    }
    receipt->result = (int32_t)pai_get32(bytes);
    receipt->verb = pai_get32(bytes + 4);
    receipt->version = pai_get64(bytes + 8);
    pai_copy(receipt->text, bytes + PAI_RECEIPT_FRONT, size - PAI_RECEIPT_FRONT);
    return PAGENT_OK;
}

PAGENT_API uint64_t pagent_stream_of(const char *agent)
{
    return pai_hash_text(agent);
}

PAGENT_API const char *pagent_message(int result)
{
    switch (result) {
#define PAI_X(name, value, message)                                                                                    \
    case value: return message;
        PAGENT_RESULTS(PAI_X)
#undef PAI_X
    default: return "an error of the host's own";
    }
}

PAGENT_API const char *pagent_result_name(int result)
{
    switch (result) {
#define PAI_X(name, value, message)                                                                                    \
    case value: return #name;
        PAGENT_RESULTS(PAI_X)
#undef PAI_X
    default: return "HOST";
    }
}

/* ================================================================================================================
   [MEMORY]  a store that lives as long as the process, and an allocator over a buffer
   Owns every block ever appended, one growing run of bytes for each stream, and an inbox. May fail: E_MEMORY. */

typedef struct pai_log_block { /* where a block stands in its stream's bytes */
    size_t offset;
} pai_log_block;

typedef struct pai_memory_stream {
    uint64_t stream;
    uint64_t first;    /* version of the oldest block that is kept */
    uint64_t snapshot; /* version of the newest block that carries a snapshot */
    pagent_summary summary;
    uint64_t epoch;
    pai_buffer bytes;
    pai_buffer offsets; /* of each block, size_t each */
} pai_memory_stream;

typedef struct pai_memory_letter {
    struct pai_memory_letter *next;
    uint64_t message;
    uint64_t number;
    uint32_t size; /* of the bytes behind the struct */
    uint32_t settled;
} pai_memory_letter;

struct pagent_memory {
    pai_heap heap;
    pai_crc crc;
    pai_memory_stream *streams;
    uint32_t *index; /* open addressing: stream → position + 1 */
    uint32_t stream_count, stream_capacity, index_capacity;
    pai_memory_letter *letters;
    uint64_t letter_number;
};

static uint32_t pai_memory_slot(const pagent_memory *memory, uint64_t stream)
{
    uint32_t slot = (uint32_t)stream & (memory->index_capacity - 1);
    while (memory->index[slot] != 0 && memory->streams[memory->index[slot] - 1].stream != stream) {
        slot = (slot + 1) & (memory->index_capacity - 1);
    }
    return slot;
}

static pai_memory_stream *pai_memory_find(const pagent_memory *memory, uint64_t stream)
{
    uint32_t slot;
    if (memory->index_capacity == 0) return NULL;
    slot = pai_memory_slot(memory, stream);
    return memory->index[slot] != 0 ? &memory->streams[memory->index[slot] - 1] : NULL;
}

static int pai_memory_grow(pagent_memory *memory)
{
    uint32_t capacity = memory->index_capacity != 0 ? memory->index_capacity * 2 : 32, old = memory->index_capacity, i;
    uint32_t *grown = (uint32_t *)pai_allocate(&memory->heap, capacity * sizeof grown[0]);
    if (grown == NULL) return PAGENT_E_MEMORY;
    pai_free(&memory->heap, memory->index, old * sizeof grown[0]);
    memory->index = grown;
    memory->index_capacity = capacity;
    for (i = 0; i < memory->stream_count; i++)
        memory->index[pai_memory_slot(memory, memory->streams[i].stream)] = i + 1;
    return PAGENT_OK;
}

static pai_memory_stream *pai_memory_make(pagent_memory *memory, uint64_t stream)
{
    pai_memory_stream *made;
    if (memory->stream_count * 2 >= memory->index_capacity && pai_memory_grow(memory) != PAGENT_OK) return NULL;
    if (pai_grow(&memory->heap, (void **)&memory->streams, memory->stream_count, &memory->stream_capacity,
                 sizeof memory->streams[0]) != PAGENT_OK) {
        return NULL;
    }
    made = &memory->streams[memory->stream_count];
    pai_clear(made, sizeof *made);
    made->stream = stream;
    memory->index[pai_memory_slot(memory, stream)] = ++memory->stream_count;
    return made;
}

static int pai_memory_append(void *ctx, const pagent_append *request, pagent_io *io)
{
    pagent_memory *memory = (pagent_memory *)ctx;
    pai_memory_stream *stream = pai_memory_find(memory, request->stream);
    uint64_t head = stream != NULL ? stream->summary.version : 0;
    size_t at = 0, offset;
    uint64_t version = request->first;
    io->version = head;
    if (head != request->expected || (stream != NULL && request->epoch < stream->epoch)) return PAGENT_E_CONFLICT;
    if (stream == NULL) stream = pai_memory_make(memory, request->stream);
    if (stream == NULL || pai_reserve(&memory->heap, &stream->bytes, request->size) != PAGENT_OK ||
        pai_reserve(&memory->heap, &stream->offsets, request->count * sizeof offset) != PAGENT_OK) {
        return PAGENT_E_NO_SPACE;
    }
    if (head == 0) stream->first = request->first;
    for (at = 0; at < request->size; version++) {
        offset = stream->bytes.size + at;
        (void)pai_append_bytes(&memory->heap, &stream->offsets, &offset, sizeof offset);
        if (request->blocks[at + 57] & PAI_CARRIES_SNAPSHOT) stream->snapshot = version;
        at += PAI_HEADER + (size_t)pai_padded(pai_get32(request->blocks + at + 48));
    }
    (void)pai_append_bytes(&memory->heap, &stream->bytes, request->blocks, request->size);
    stream->epoch = request->epoch;
    pai_copy(&stream->summary, &request->summary, sizeof stream->summary);
    return PAGENT_OK;
}

static size_t pai_memory_offset(const pai_memory_stream *stream, uint64_t version)
{
    size_t offset;
    if (version > stream->summary.version) return stream->bytes.size;
    pai_copy(&offset, stream->offsets.data + (size_t)(version - stream->first) * sizeof offset, sizeof offset);
    return offset;
}

/* The newest block at or before `version` that carries a snapshot; 0: none is kept. */
static uint64_t pai_memory_base(const pai_memory_stream *stream, uint64_t version)
{
    for (; version >= stream->first && version != 0; version--) {
        if (stream->bytes.data[pai_memory_offset(stream, version) + 57] & PAI_CARRIES_SNAPSHOT) return version;
    }
    return 0;
}

static int pai_memory_read(void *ctx, const pagent_read *request, pagent_io *io)
{
    pagent_memory *memory = (pagent_memory *)ctx;
    const pai_memory_stream *stream = pai_memory_find(memory, request->stream);
    uint64_t from, next, last;
    size_t start, size = 0;
    if (stream == NULL || stream->summary.version == 0) return PAGENT_OK;
    last = io->version = stream->summary.version;
    if (request->last != 0 && request->last < last) last = request->last;
    from = request->mode == PAGENT_READ_NEWEST ? stream->snapshot : request->version;
    if (request->mode == PAGENT_READ_BASE) {
        if (from > stream->summary.version) from = stream->summary.version;
        if (from != 0) from = pai_memory_base(stream, from);
        else from = stream->first; /* the oldest there is */
    }
    if (from < stream->first) return PAGENT_E_TRIMMED;
    if (from > last) return PAGENT_OK;
    start = pai_memory_offset(stream, from);
    for (next = from; next <= last; next++) {
        size_t end = pai_memory_offset(stream, next + 1);
        if (end - start > request->capacity) break;
        size = end - start;
    }
    io->count = (uint32_t)(next - from);
    io->size = (uint32_t)size;
    if (io->count == 0) {
        io->size = (uint32_t)(pai_memory_offset(stream, from + 1) - start);
        return PAGENT_E_LIMIT;
    }
    pai_copy(request->buffer, stream->bytes.data + start, size);
    return PAGENT_OK;
}

static int pai_memory_list(void *ctx, const pagent_list *request, pagent_io *io)
{
    pagent_memory *memory = (pagent_memory *)ctx;
    uint64_t i;
    int all = request->due_before_ms == 0 && request->flags == 0;
    io->count = 0;
    io->cursor = 0;
    io->next_due_ms = PAGENT_FOREVER;
    for (i = request->cursor; i < memory->stream_count; i++) {
        const pagent_summary *summary = &memory->streams[i].summary;
        if (summary->version == 0) continue;
        if (!all && summary->due_ms > request->due_before_ms && !(summary->flags & request->flags)) {
            if (summary->due_ms < io->next_due_ms) io->next_due_ms = summary->due_ms;
            continue;
        }
        if (io->count == request->capacity) {
            io->cursor = i;
            return PAGENT_OK;
        }
        pai_copy(&request->items[io->count++], summary, sizeof *summary);
        if (summary->due_ms > request->due_before_ms && summary->due_ms < io->next_due_ms) {
            io->next_due_ms = summary->due_ms;
        }
    }
    return PAGENT_OK;
}

/* Blocks before each stream's newest snapshot go, except where its transcript still stands in them. */
static int pai_memory_trim(void *ctx, const pagent_trim *request, pagent_io *io)
{
    pagent_memory *memory = (pagent_memory *)ctx;
    uint32_t i;
    (void)request;
    for (i = 0; i < memory->stream_count; i++) {
        pai_memory_stream *stream = &memory->streams[i];
        uint64_t gone = stream->snapshot - stream->first, k;
        size_t cut;
        if (stream->summary.flags & PAGENT_HAS_RUNS) {
            io->stream = stream->stream;
            return PAGENT_OK;
        }
        if (stream->summary.version == 0 || gone == 0) continue;
        cut = pai_memory_offset(stream, stream->snapshot);
        stream->bytes.size -= cut;
        pai_move(stream->bytes.data, stream->bytes.data + cut, stream->bytes.size);
        stream->offsets.size -= (size_t)gone * sizeof cut;
        pai_move(stream->offsets.data, stream->offsets.data + (size_t)gone * sizeof cut, stream->offsets.size);
        stream->first = stream->snapshot;
        for (k = 0; k <= stream->summary.version - stream->first; k++) {
            size_t offset = pai_memory_offset(stream, stream->first + k) - cut;
            pai_copy(stream->offsets.data + (size_t)k * sizeof offset, &offset, sizeof offset);
        }
        io->count++;
    }
    return PAGENT_OK;
}

static int pai_memory_collect(void *ctx, const pagent_collect *request, pagent_io *io)
{
    const pagent_memory *memory = (const pagent_memory *)ctx;
    const pai_memory_letter *letter = memory->letters, *found = NULL;
    for (; letter != NULL; letter = letter->next) {
        if (letter->settled || letter->number <= request->cursor) continue;
        if (found == NULL || letter->number < found->number) found = letter;
    }
    if (found == NULL) return PAGENT_END;
    io->size = found->size;
    io->cursor = found->number;
    io->stream = found->message;
    if (found->size > request->capacity) return PAGENT_E_LIMIT;
    pai_copy(request->buffer, found + 1, found->size);
    return PAGENT_OK;
}

static pai_memory_letter *pai_memory_add_letter(pagent_memory *memory, uint64_t message, uint32_t size)
{
    pai_memory_letter *letter = (pai_memory_letter *)pai_allocate(&memory->heap, sizeof *letter + size);
    if (letter == NULL) return NULL;
    letter->message = message;
    letter->size = size;
    letter->number = ++memory->letter_number;
    letter->next = memory->letters;
    memory->letters = letter;
    return letter;
}

static void pai_memory_drop_letter(pagent_memory *memory, uint64_t message, uint32_t settled)
{
    pai_memory_letter **at = &memory->letters;
    while (*at != NULL && ((*at)->message != message || (*at)->settled != settled)) at = &(*at)->next;
    if (*at != NULL) {
        pai_memory_letter *gone = *at;
        *at = gone->next;
        pai_free(&memory->heap, gone, sizeof *gone + gone->size);
    }
}

static int pai_memory_settle(void *ctx, const pagent_settle *request, pagent_io *io)
{
    pagent_memory *memory = (pagent_memory *)ctx;
    pai_memory_letter *receipt = pai_memory_add_letter(memory, request->message, request->size);
    (void)io;
    if (receipt == NULL) return PAGENT_E_NO_SPACE;
    receipt->settled = 1;
    pai_copy((uint8_t *)(receipt + 1), request->receipt, request->size);
    pai_memory_drop_letter(memory, request->message, 0);
    return PAGENT_OK;
}

PAGENT_API int pagent_open_memory(pagent_memory **memory, const pagent_host *host)
{
    pai_heap heap;
    *memory = NULL;
    if (host == NULL || host->size != sizeof *host || host->allocate == NULL) return PAGENT_E_ARGUMENT;
    heap.allocate = host->allocate;
    heap.ctx = host->ctx;
    *memory = (pagent_memory *)pai_allocate(&heap, sizeof **memory);
    if (*memory == NULL) return PAGENT_E_MEMORY;
    (*memory)->heap = heap;
    pai_crc_init(&(*memory)->crc);
    return PAGENT_OK;
}

static void pai_memory_fill(pagent_memory *memory, pagent_store *store)
{
    pai_clear(store, sizeof *store);
    store->size = sizeof *store;
    store->ctx = memory;
    store->append = pai_memory_append;
    store->read = pai_memory_read;
    store->list = pai_memory_list;
    store->trim = pai_memory_trim;
    store->collect = pai_memory_collect;
    store->settle = pai_memory_settle;
}

PAGENT_API pagent_store pagent_memory_store(pagent_memory *memory)
{
    pagent_store store;
    pai_memory_fill(memory, &store);
    return store;
}

PAGENT_API int pagent_memory_message(pagent_memory *memory, const pagent_request *request)
{
    int size = pagent_encode_request(request, NULL, 0);
    pai_memory_letter *letter;
    if (size < 0 || request->id == NULL) return size < 0 ? size : PAGENT_E_ARGUMENT;
    letter = pai_memory_add_letter(memory, pai_hash_text(request->id), (uint32_t)size);
    if (letter == NULL) return PAGENT_E_MEMORY;
    (void)pagent_encode_request(request, (uint8_t *)(letter + 1), (uint32_t)size);
    return PAGENT_OK;
}

PAGENT_API int pagent_memory_receipt(pagent_memory *memory, const char *id, pagent_receipt *receipt)
{
    uint64_t message = pai_hash_text(id);
    const pai_memory_letter *letter = memory->letters;
    int result;
    while (letter != NULL && (letter->message != message || !letter->settled)) letter = letter->next;
    if (letter == NULL) return PAGENT_PENDING;
    result = pagent_decode_receipt((const uint8_t *)(letter + 1), letter->size, receipt);
    pai_memory_drop_letter(memory, message, 1);
    return result;
}

PAGENT_API void pagent_close_memory(pagent_memory *memory)
{
    pai_heap heap;
    uint32_t i;
    if (memory == NULL) return;
    heap = memory->heap;
    for (i = 0; i < memory->stream_count; i++) {
        pai_free_buffer(&heap, &memory->streams[i].bytes);
        pai_free_buffer(&heap, &memory->streams[i].offsets);
    }
    while (memory->letters != NULL) pai_memory_drop_letter(memory, memory->letters->message, memory->letters->settled);
    pai_free(&heap, memory->streams, memory->stream_capacity * sizeof memory->streams[0]);
    pai_free(&heap, memory->index, memory->index_capacity * sizeof memory->index[0]);
    pai_free(&heap, memory, sizeof *memory);
}

/* The arena: pieces in address order, each with a header; first fit; neighbours that are free are joined when looked
   at. */
typedef struct pai_piece {
    size_t size; /* of the piece with this header */
    size_t used; /* not 0: in use */
} pai_piece;

enum {
    PAI_PIECE = 16
};

static pai_piece *pai_piece_at(const pagent_arena *arena, size_t at)
{
    return (pai_piece *)(uintptr_t)(arena->base + at);
}

PAGENT_API void pagent_init_arena(pagent_arena *arena, void *buffer, size_t size)
{
    size_t skip = (PAI_PIECE - ((uintptr_t)buffer & (PAI_PIECE - 1))) & (PAI_PIECE - 1);
    arena->base = (uint8_t *)buffer + (skip < size ? skip : size);
    arena->size = size > skip ? (size - skip) & ~(size_t)(PAI_PIECE - 1) : 0;
    arena->used = 0;
    if (arena->size < 2 * PAI_PIECE) {
        arena->size = 0;
        return;
    }
    pai_piece_at(arena, 0)->size = arena->size;
    pai_piece_at(arena, 0)->used = 0;
}

static void *pai_arena_take(pagent_arena *arena, size_t size)
{
    size_t at = 0, need = PAI_PIECE + ((size + PAI_PIECE - 1) & ~(size_t)(PAI_PIECE - 1));
    if (need < size) return NULL;
    while (at < arena->size) {
        pai_piece *piece = pai_piece_at(arena, at);
        while (!piece->used && at + piece->size < arena->size && !pai_piece_at(arena, at + piece->size)->used) {
            piece->size += pai_piece_at(arena, at + piece->size)->size;
        }
        if (!piece->used && piece->size >= need) {
            if (piece->size - need >= 2 * PAI_PIECE) {
                pai_piece_at(arena, at + need)->size = piece->size - need;
                pai_piece_at(arena, at + need)->used = 0;
                piece->size = need;
            }
            piece->used = 1;
            if (at + piece->size > arena->used) arena->used = at + piece->size;
            return arena->base + at + PAI_PIECE;
        }
        at += piece->size;
    }
    return NULL;
}

PAGENT_API void *pagent_arena_allocate(void *arena, void *old, size_t old_size, size_t new_size)
{
    pai_piece *piece = old != NULL ? (pai_piece *)(uintptr_t)((uint8_t *)old - PAI_PIECE) : NULL;
    void *made;
    if (piece != NULL && new_size != 0 && new_size <= piece->size - PAI_PIECE) return old;
    made = new_size != 0 ? pai_arena_take((pagent_arena *)arena, new_size) : NULL;
    if (new_size != 0 && made == NULL) return NULL;
    if (piece != NULL) {
        if (made != NULL) pai_copy(made, old, old_size < new_size ? old_size : new_size);
        piece->used = 0;
    }
    return made;
}

#ifndef PAGENT_NO_FILE

/* ================================================================================================================
   [FILES]  the file store: logs, segments, recovery; then the directory's inbox, then POSIX
   Owns the files of one directory, and a table of the heads of all agents in it. Stands on pagent_dir alone.

     log.00000001  log.00000002 …              one shared log in numbered segments, or
     0123456789abcdef.00000001 …               one log for each agent, named by its stream: the same code
     inbox/m-…  inbox/r-…                      messages to the owner, and its receipts

     a segment   | LOG | INDEX … | blocks of agents … | SEAL | blocks … | zeros
                 |<- synced before it is published ->|    ^ all before it was durable when it was written

   LOG names the segment before it and its end there, the cut: what stands behind the cut counts for nothing. INDEX
   holds the head of every agent, and where its blocks stand since its newest snapshot: opening reads one segment.

   Invariants: 1. A writer appends only to segments that it has published itself, exclusively, under the next number.
   2. An append is acknowledged only if, after the sync, the next number was still free and our own file still there. So
   what one writer acknowledges is before the cut that the next writer chooses: that one looks once more behind the cut
   after publishing, and moves it with one more segment when somebody was acknowledged in between (the one it leaves is
   void). The directory's lock makes such meetings rare; nothing depends on it. 3. Nothing durable is ever overwritten.

   What may fail: the host's allocator, and every callback of the directory and its device. A failed sync ends the
   store (open it again); a full disk does not. */

enum {
    PAI_PAGE_ITEMS = 256,
    PAI_NODE_LINES = 3,
    PAI_WINDOW = 256 * 1024,
    PAI_INDEX_PAYLOAD = 256 * 1024, /* INDEX blocks are cut near here */
    PAI_INDEX_BLOCK_MAX = 1 << 20,  /* one agent's chain may be long: 65,535 places of 8 bytes */
    PAI_INDEX_RECORD = 56,
    PAI_LOG_SECTION = 88,
    PAI_LOG_BLOCK = 192,
    PAI_FRONT = 32,       /* a PAD section: leaves the first 32 payload bytes as pai_finish_block wants them */
    PAI_GROW_MIN = 4096,  /* preallocation doubles from here */
    PAI_ROOM_KEPT = 4096, /* preallocated, and left to cancel and rollback when the disk is full */
    PAI_SEGMENTS_OPEN = 64,
    PAI_TRIES = 8,
    PAI_FILE_NAME = 64,
    PAI_SKIPPED = 16,
    PAI_SEGMENT_MAX = 99999999,
    PAI_BLOCKS_MAX = 2200, /* opening reads the newest segment: blocks cost it time, bytes and INDEXes cost space */
    PAI_SEGMENT_BYTES = 4 << 20,
    PAI_INDEX_SHARE = 16,          /* INDEXes are at most 1/16 of what is written */
    PAI_GROW_SMALL = 544 * 1024,   /* for small steps: two hold an agent's segment, up to a snapshot past its limit */
    PAI_ZEROED = 1 << 20,          /* growing by so much at most is cheap, and makes small steps cheaper; */
    PAI_BATCH_LARGE = 64 * 1024,   /* batches that large gain nothing from it */
    PAI_LOGS_KEPT = 512,           /* logs of agents in memory, or four times what one batch needs */
    PAI_LOG_EMPTY = INT32_MAX - 2, /* not loaded; it has segments, and no block */
    PAI_LOG_UNSEALED = INT32_MAX - 1, /* not loaded; its newest segment is ours */
    PAI_LOG_OURS = INT32_MAX          /* the same, and sealed */
};

/* ---- Pages: an array that grows without moving or over-allocating. */
typedef struct pai_pages {
    uint8_t **page;
    uint32_t page_count;
    uint32_t page_room;
    uint32_t count;
    uint32_t item_size;
} pai_pages;

static void *pai_page_item(const pai_pages *pages, uint32_t index)
{
    return pages->page[index / PAI_PAGE_ITEMS] + (size_t)(index % PAI_PAGE_ITEMS) * pages->item_size;
}

static int pai_add_page(const pai_heap *heap, pai_pages *pages)
{
    uint8_t *page;
    if (pages->page_count == pages->page_room) {
        uint32_t room = pages->page_room != 0 ? pages->page_room * 2 : 8;
        void *grown =
            heap->allocate(heap->ctx, pages->page, pages->page_room * sizeof(uint8_t *), room * sizeof(uint8_t *));
        if (grown == NULL) return PAGENT_E_MEMORY;
        pages->page = (uint8_t **)grown;
        pages->page_room = room;
    }
    page = (uint8_t *)pai_allocate(heap, (size_t)PAI_PAGE_ITEMS * pages->item_size);
    if (page == NULL) return PAGENT_E_MEMORY;
    pages->page[pages->page_count++] = page;
    return PAGENT_OK;
}

/* A new item, all zero. */
static int pai_add_item(const pai_heap *heap, pai_pages *pages, uint32_t *index)
{
    if (pages->count == pages->page_count * PAI_PAGE_ITEMS) {
        int result = pages->count < UINT32_MAX / 2 ? pai_add_page(heap, pages) : PAGENT_E_LIMIT;
        if (result != PAGENT_OK) return result;
    }
    *index = pages->count++;
    pai_clear(pai_page_item(pages, *index), pages->item_size);
    return PAGENT_OK;
}

static void pai_free_pages(const pai_heap *heap, pai_pages *pages)
{
    uint32_t i;
    for (i = 0; i < pages->page_count; i++) pai_free(heap, pages->page[i], (size_t)PAI_PAGE_ITEMS * pages->item_size);
    pai_free(heap, pages->page, pages->page_room * sizeof(uint8_t *));
}

/* ---- The table: what is known of every agent while it sleeps. At most 128 bytes for an agent with 6 blocks since its
   snapshot: 64 here, 20 for each 3 blocks' places, 4 in the heap of due times, 5 to 11 in the hash index. */
typedef struct pai_head {
    uint64_t stream;
    uint64_t version; /* 0: there is none (a creation that was undone, or not begun) */
    uint64_t link;
    uint64_t due_ms;
    uint64_t time_ms;
    uint32_t epoch;
    uint32_t chain;       /* node with the newest places */
    uint32_t chain_count; /* blocks since and with the newest snapshot: all places */
    uint32_t due_place;   /* in the heap, + 1; 0: never due */
    uint32_t log;         /* a log per agent: which one, + 1; 0, or from PAI_LOG_EMPTY on: not loaded */
    uint16_t state;
    uint8_t status;
    uint8_t flags;
} pai_head;

typedef struct pai_node { /* places of blocks in one segment, the oldest first; line 0 (the LOG block) means none */
    uint32_t previous;
    uint32_t segment;
    uint32_t line[PAI_NODE_LINES];
} pai_node;

typedef struct pai_location {
    uint32_t segment;
    uint32_t line;
} pai_location;

typedef struct pai_heads {
    pai_pages heads; /* of pai_head */
    pai_pages nodes; /* of pai_node; item 0 is not used */
    pai_pages due;   /* of uint32_t: a binary heap of heads, by due_ms */
    uint32_t due_count;
    uint32_t free_node;
    uint32_t *index; /* open addressing: head + 1, 0: free */
    uint32_t index_room;
} pai_heads;

static pai_head *pai_head_at(const pai_heads *table, uint32_t index)
{
    return (pai_head *)pai_page_item(&table->heads, index);
}

static pai_node *pai_node_at(const pai_heads *table, uint32_t index)
{
    return (pai_node *)pai_page_item(&table->nodes, index);
}

static uint32_t *pai_due_at(const pai_heads *table, uint32_t index)
{
    return (uint32_t *)pai_page_item(&table->due, index);
}

/* Where the stream's head is in the index, or the free slot where it would be. */
static uint32_t pai_index_slot(const pai_heads *table, uint64_t stream)
{
    uint32_t mask = table->index_room - 1, slot = (uint32_t)pai_mix(stream) & mask;
    while (table->index[slot] != 0 && pai_head_at(table, table->index[slot] - 1)->stream != stream)
        slot = (slot + 1) & mask;
    return slot;
}

static pai_head *pai_find_head(const pai_heads *table, uint64_t stream)
{
    uint32_t slot = table->index_room != 0 ? pai_index_slot(table, stream) : 0;
    return table->index_room != 0 && table->index[slot] != 0 ? pai_head_at(table, table->index[slot] - 1) : NULL;
}

static uint32_t pai_head_index(const pai_heads *table, const pai_head *head)
{
    return table->index[pai_index_slot(table, head->stream)] - 1;
}

static int pai_grow_index(const pai_heap *heap, pai_heads *table)
{
    uint32_t *old = table->index, i, room = table->index_room, more = room != 0 ? room * 2 : 64;
    uint32_t *made = (uint32_t *)pai_allocate(heap, more * sizeof(uint32_t));
    if (made == NULL) return PAGENT_E_MEMORY;
    table->index = made;
    table->index_room = more;
    for (i = 0; i < table->heads.count; i++) made[pai_index_slot(table, pai_head_at(table, i)->stream)] = i + 1;
    pai_free(heap, old, room * sizeof(uint32_t));
    return PAGENT_OK;
}

/* The head of a stream, made when there is none; with its room in the heap of due times. */
static int pai_make_head(const pai_heap *heap, pai_heads *table, uint64_t stream, pai_head **head)
{
    uint32_t index, slot;
    int result = PAGENT_OK;
    *head = pai_find_head(table, stream);
    if (*head != NULL) return PAGENT_OK;
    if (table->heads.count >= table->index_room / 4 * 3) result = pai_grow_index(heap, table);
    while (result == PAGENT_OK && table->due.count <= table->heads.count)
        result = pai_add_item(heap, &table->due, &index);
    if (result != PAGENT_OK) return result;
    slot = pai_index_slot(table, stream);
    result = pai_add_item(heap, &table->heads, &index);
    if (result != PAGENT_OK) return result;
    *head = pai_head_at(table, index);
    (*head)->stream = stream;
    (*head)->due_ms = PAGENT_FOREVER;
    table->index[slot] = index + 1;
    return PAGENT_OK;
}

/* The heap of due times: place i has its children at 2i + 1 and 2i + 2. */
static uint64_t pai_due_ms(const pai_heads *table, uint32_t place)
{
    return pai_head_at(table, *pai_due_at(table, place))->due_ms;
}

static void pai_due_put(pai_heads *table, uint32_t place, uint32_t index)
{
    *pai_due_at(table, place) = index;
    pai_head_at(table, index)->due_place = place + 1;
}

static void pai_due_settle(pai_heads *table, uint32_t place)
{
    uint32_t index = *pai_due_at(table, place), child;
    uint64_t due_ms = pai_head_at(table, index)->due_ms;
    for (; place != 0 && pai_due_ms(table, (place - 1) / 2) > due_ms; place = (place - 1) / 2) {
        pai_due_put(table, place, *pai_due_at(table, (place - 1) / 2));
    }
    for (;; place = child) {
        child = 2 * place + 1;
        if (child + 1 < table->due_count && pai_due_ms(table, child + 1) < pai_due_ms(table, child)) child++;
        if (child >= table->due_count || pai_due_ms(table, child) >= due_ms) break;
        pai_due_put(table, place, *pai_due_at(table, child));
    }
    pai_due_put(table, place, index);
}

/* Gives a head its due time and moves it in, within, or out of the heap. */
static void pai_set_due(pai_heads *table, pai_head *head, uint64_t due_ms)
{
    uint32_t place = head->due_place;
    if (head->due_ms == due_ms) return;
    head->due_ms = due_ms;
    if (due_ms == PAGENT_FOREVER) {
        head->due_place = 0;
        table->due_count--;
        if (place - 1 == table->due_count) return;
        pai_due_put(table, place - 1, *pai_due_at(table, table->due_count));
    } else if (place == 0) {
        pai_due_put(table, table->due_count, pai_head_index(table, head));
        place = ++table->due_count;
    }
    pai_due_settle(table, place - 1);
}

/* The next place after `place` in a walk over those due at or before `limit_ms`; UINT32_MAX at the end. What is due
   later has nothing earlier below it, so the walk costs what it finds. *later_ms: the earliest due time passed by. */
static uint32_t pai_due_step(const pai_heads *table, uint32_t place, uint64_t limit_ms, uint64_t *later_ms)
{
    int enter = 1;
    for (;;) {
        uint32_t next = enter ? 2 * place + 1 : UINT32_MAX;
        while (next >= table->due_count) {
            if (place == 0) return UINT32_MAX;
            next = (place & 1u) != 0 ? place + 1 : UINT32_MAX;
            place = (place - 1) / 2;
        }
        if (pai_due_ms(table, next) <= limit_ms) return next;
        if (pai_due_ms(table, next) < *later_ms) *later_ms = pai_due_ms(table, next);
        place = next;
        enter = 0;
    }
}

/* The earliest due time above `limit_ms`. */
static uint64_t pai_due_after(const pai_heads *table, uint64_t limit_ms)
{
    uint64_t later_ms = PAGENT_FOREVER;
    uint32_t place = 0;
    if (table->due_count == 0) return PAGENT_FOREVER;
    if (pai_due_ms(table, 0) > limit_ms) return pai_due_ms(table, 0);
    while (place != UINT32_MAX) place = pai_due_step(table, place, limit_ms, &later_ms);
    return later_ms;
}

/* Frees the nodes of a chain from `index` back to, and without, `until`. */
static void pai_free_chain(pai_heads *table, uint32_t index, uint32_t until)
{
    while (index != 0 && index != until) {
        pai_node *node = pai_node_at(table, index);
        uint32_t previous = node->previous;
        node->previous = table->free_node;
        table->free_node = index;
        index = previous;
    }
}

static int pai_make_node(const pai_heap *heap, pai_heads *table, uint32_t *index)
{
    int result = PAGENT_OK;
    *index = table->free_node;
    if (*index != 0) {
        table->free_node = pai_node_at(table, *index)->previous;
        pai_clear(pai_node_at(table, *index), sizeof(pai_node));
        return PAGENT_OK;
    }
    while (result == PAGENT_OK && *index == 0) result = pai_add_item(heap, &table->nodes, index);
    return result;
}

static int pai_push_location(const pai_heap *heap, pai_heads *table, pai_head *head, uint32_t segment, uint32_t line)
{
    pai_node *node = head->chain != 0 ? pai_node_at(table, head->chain) : NULL;
    uint32_t at = 0, index;
    PAGENT_ASSERT(line != 0);
    if (node == NULL || node->segment != segment || node->line[PAI_NODE_LINES - 1] != 0) {
        int result = pai_make_node(heap, table, &index);
        if (result != PAGENT_OK) return result;
        node = pai_node_at(table, index);
        node->previous = head->chain;
        node->segment = segment;
        head->chain = index;
    }
    while (node->line[at] != 0) at++;
    node->line[at] = line;
    head->chain_count++;
    return PAGENT_OK;
}

/* The newest `count` places, newest first, of the chain that begins with `node`. */
static int pai_collect_chain(const pai_heap *heap, const pai_heads *table, const pai_node *node, uint32_t count,
                             pai_buffer *out)
{
    out->size = 0;
    if (pai_reserve(heap, out, (size_t)count * sizeof(pai_location)) != PAGENT_OK) return PAGENT_E_MEMORY;
    for (;; node = pai_node_at(table, node->previous)) {
        uint32_t at = PAI_NODE_LINES;
        while (at-- != 0 && count != 0) {
            pai_location place;
            if (node->line[at] == 0) continue;
            place.segment = node->segment;
            place.line = node->line[at];
            (void)pai_append_bytes(heap, out, &place, sizeof place);
            count--;
        }
        if (count == 0) return PAGENT_OK;
        if (node->previous == 0) return PAGENT_E_CORRUPT;
    }
}

/* The oldest segment that a chain reaches into. */
static uint32_t pai_chain_floor(const pai_heads *table, const pai_head *head)
{
    uint32_t index = head->chain, floor = UINT32_MAX;
    for (; index != 0; index = pai_node_at(table, index)->previous) floor = pai_node_at(table, index)->segment;
    return floor;
}

/* ---- The store. */
typedef struct pai_segment { /* an open file, and what its LOG says */
    uint64_t stream;         /* its log: 0 is the shared one */
    uint32_t number;
    int file; /* 0: this slot is free */
    uint64_t id;
    uint64_t start;     /* end of the INDEX */
    uint64_t size;      /* of the file, when it was looked at last */
    uint64_t before_id; /* the segment before this one: its id, its cut, the link before the cut */
    uint64_t before_cut;
    uint64_t before_link;
    uint32_t before; /* its number; 0: none */
    uint32_t used;   /* tick */
} pai_segment;

typedef struct pai_log { /* one log, as far as its newest segment has been checked or written */
    uint64_t stream;
    uint64_t id;
    uint64_t end;       /* where the next block goes, staged ones counted */
    uint64_t cut;       /* end of the last block that is not a SEAL: what the next segment will call our end */
    uint64_t durable;   /* up to here durable */
    uint64_t allocated; /* the file's size */
    uint64_t start;     /* end of the INDEX */
    uint64_t link_0;    /* link of the last block on stream 0 */
    uint64_t last_link; /* link of the last block before the cut */
    uint32_t number;    /* 0: there is no segment yet */
    uint32_t newest;    /* highest number that exists: above `number` when that one turned out void */
    uint32_t stream_0;  /* version of the last block on stream 0 */
    uint32_t grow;      /* next preallocation */
    uint32_t claimed;   /* the segment is ours */
    uint32_t unsealed;  /* blocks were written since the last SEAL */
    uint32_t blocks;    /* of agents in the segment */
    uint32_t follows;   /* the segment before it was another's, and has not been cut to its end yet */
} pai_log;

typedef struct pai_staged { /* an append that no flush has made durable yet, and what to put back if none will */
    pai_head before;
    pai_node node; /* the chain's newest node before */
    uint32_t head;
    uint32_t log;
    uint32_t size;
    uint32_t superseded; /* it brought a snapshot: the chain before it is not needed any more */
    uint64_t offset;
    uint64_t link; /* of its last block */
} pai_staged;

typedef struct pai_cursor { /* where the last read of old history stopped */
    uint64_t stream;
    uint64_t version; /* the one expected next */
    uint64_t offset;
    uint64_t limit; /* of the segment */
    uint32_t number;
    uint32_t next; /* the segment after it; 0: none */
} pai_cursor;

typedef struct pai_listed { /* a segment in the directory: log and number; or a file in the inbox: time and id */
    uint64_t major;
    uint64_t minor;
} pai_listed;

struct pagent_files {
    pagent_dir dir;
    pagent_host host;
    pagent_file_options options;
    pai_heap heap;
    pai_crc crc;
    pai_heads table;
    pai_pages logs; /* of pai_log; the shared one is item 0 */
    pai_segment segments[PAI_SEGMENTS_OPEN];
    uint32_t tick;
    uint32_t per_agent;
    uint32_t locked;
    uint32_t unsealed; /* logs, loaded or not */
    uint32_t emptying; /* segment that trim is emptying */
    int failed;        /* sticky: E_STORAGE, E_FENCED, or 0 */
    int window_file;   /* what the window shows; 0: nothing */
    uint64_t window_at;
    size_t window_ahead; /* how much to read: more and more while reading goes straight on */
    size_t last_batch;   /* bytes */
    pai_buffer window;
    pai_buffer batch;              /* staged blocks, placed */
    pai_buffer staged;             /* of pai_staged */
    pai_buffer scratch;            /* blocks of a new segment; messages */
    pai_buffer places;             /* of pai_location */
    pai_buffer listed;             /* of pai_listed: segments */
    pai_buffer inbox;              /* of pai_listed: messages, by time */
    uint64_t skipped[PAI_SKIPPED]; /* messages that are told to be unreadable */
    uint32_t skipped_count;
    pai_cursor cursor;
    char name[PAI_FILE_NAME];
    char text[PAGENT_TEXT_SIZE];
};

static pai_log *pai_log_at(const pagent_files *files, uint32_t index)
{
    return (pai_log *)pai_page_item(&files->logs, index);
}

static pai_staged *pai_staged_at(const pagent_files *files, size_t index)
{
    return (pai_staged *)(void *)files->staged.data + index;
}

static size_t pai_staged_count(const pagent_files *files)
{
    return files->staged.size / sizeof(pai_staged);
}

static pai_listed *pai_listed_at(const pai_buffer *listed, size_t index)
{
    return (pai_listed *)(void *)listed->data + index;
}

static size_t pai_listed_count(const pai_buffer *listed)
{
    return listed->size / sizeof(pai_listed);
}

/* "log.00000012", or "0123456789abcdef.00000012" */
static const char *pai_segment_name(pagent_files *files, uint64_t stream, uint32_t number)
{
    size_t length = stream == 0 ? 3 : 16, i;
    if (stream == 0) pai_copy(files->name, "log", 3);
    else pai_hex64(files->name, stream);
    files->name[length] = '.';
    for (i = 8; i >= 1; i--, number /= 10u) files->name[length + i] = (char)('0' + (int)(number % 10u));
    files->name[length + 9] = 0;
    return files->name;
}

/* 16 lower-case hex digits. */
static int pai_parse_hex64(const char *text, uint64_t *number)
{
    int i;
    for (i = 0, *number = 0; i < 16; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return 0;
        *number = *number << 4 | (uint64_t)digit;
    }
    return 1;
}

/* 1: the name of a segment; 0: of something else; -1: looks like one and is none. */
static int pai_parse_segment_name(const char *name, pai_listed *listed)
{
    size_t at = 4, length = pai_length(name);
    listed->major = 0;
    listed->minor = 0;
    if (length <= 4 || !pai_equal(name, "log.", 4)) {
        if (length <= 17 || name[16] != '.' || !pai_parse_hex64(name, &listed->major)) return 0;
        at = 17;
    }
    if (length - at != 8) return -1;
    for (; at < length; at++) {
        if (name[at] < '0' || name[at] > '9') return -1;
        listed->minor = listed->minor * 10 + (uint64_t)(name[at] - '0');
    }
    return listed->minor != 0 ? 1 : -1;
}

/* ---- Reports: one sentence that names the file, the offset, the agent, and what to do. */
static void pai_begin_report(pagent_damage_report *report, uint32_t damage, int result, uint64_t offset)
{
    pai_clear(report, sizeof *report);
    report->damage = damage;
    report->result = result;
    report->offset = offset;
    report->repair_bit = -1;
}

static int pai_send_report(pagent_files *files, pagent_damage_report *report, uint64_t log, uint32_t number,
                           const char *what)
{
    pai_text text = pai_text_begin(files->text, sizeof files->text);
    char agent[17];
    report->file = pai_segment_name(files, log, number);
    pai_text_add(&text, report->file);
    pai_text_add(&text, " at ");
    pai_text_number(&text, report->offset);
    if (report->stream != 0) {
        pai_hex64(agent, report->stream);
        pai_text_add(&text, ", agent ");
        pai_text_add(&text, agent);
    }
    pai_text_add(&text, ": ");
    pai_text_add(&text, what);
    pai_copy(report->text, files->text, sizeof report->text);
    if (files->options.on_discard != NULL) files->options.on_discard(files->options.ctx, report);
    return report->result;
}

static int pai_report(pagent_files *files, uint32_t damage, int result, uint64_t log, uint32_t number, uint64_t offset,
                      const char *what)
{
    pagent_damage_report report;
    pai_begin_report(&report, damage, result, offset);
    return pai_send_report(files, &report, log, number, what);
}

static int pai_say(pagent_files *files, int result, const char *name, const char *what)
{
    pai_text text = pai_text_begin(files->text, sizeof files->text);
    pai_text_add(&text, name);
    pai_text_add(&text, what);
    return result;
}

/* An error after which nobody knows what stands on the disk: only opening again can tell. */
static int pai_give_up(pagent_files *files, int result)
{
    files->failed = result == PAGENT_E_FENCED ? PAGENT_E_FENCED : PAGENT_E_STORAGE;
    return pai_say(files, result, "",
                   result == PAGENT_E_FENCED ? "another process has taken this store over"
                                             : "the storage failed; close and open again");
}

/* ---- Whole reads and writes over a device that may do less than asked. */
static int pai_write_all(const pagent_dev *dev, int file, const uint8_t *data, size_t size, uint64_t offset)
{
    while (size != 0) {
        uint32_t piece = size < (1u << 30) ? (uint32_t)size : 1u << 30;
        int64_t done = dev->pwrite(dev->ctx, file, data, piece, offset);
        if (done <= 0) return done < 0 ? (int)done : PAGENT_E_NO_SPACE;
        if (done > (int64_t)piece) return PAGENT_E_STORAGE;
        data += done;
        size -= (size_t)done;
        offset += (uint64_t)done;
    }
    return PAGENT_OK;
}

/* *got < size only at the end of the file. */
static int pai_read_all(const pagent_dev *dev, int file, uint8_t *data, size_t size, uint64_t offset, size_t *got)
{
    for (*got = 0; *got < size;) {
        size_t left = size - *got;
        uint32_t piece = left < (1u << 30) ? (uint32_t)left : 1u << 30;
        int64_t done = dev->pread(dev->ctx, file, data + *got, piece, offset + *got);
        if (done < 0) return (int)done;
        if (done == 0) break;
        if (done > (int64_t)piece) return PAGENT_E_STORAGE;
        *got += (size_t)done;
    }
    return PAGENT_OK;
}

/* `size` bytes at `offset`, through the window; valid until the next call. E_CORRUPT when the file ends before. Whoever
   writes, or waits for another's writing, sets window_file to 0. */
static int pai_window(pagent_files *files, int file, uint64_t offset, size_t size, uint8_t **bytes)
{
    int result;
    if (files->window_file != file || offset < files->window_at ||
        offset + size > files->window_at + files->window.size) {
        int straight =
            files->window_file == file && offset >= files->window_at && offset <= files->window_at + files->window.size;
        size_t want, got;
        files->window_ahead = !straight                          ? 4096
                              : files->window_ahead < PAI_WINDOW ? files->window_ahead * 2
                                                                 : (size_t)PAI_WINDOW;
        want = size > files->window_ahead ? size : files->window_ahead;
        files->window_file = 0;
        files->window.size = 0;
        result = pai_reserve(&files->heap, &files->window, want);
        if (result == PAGENT_OK) result = pai_read_all(&files->dir.dev, file, files->window.data, want, offset, &got);
        if (result != PAGENT_OK) return result;
        files->window.size = got;
        files->window_at = offset;
        files->window_file = file;
        if (got < size) return PAGENT_E_CORRUPT;
    }
    *bytes = files->window.data + (size_t)(offset - files->window_at);
    return PAGENT_OK;
}

/* ---- Segments: open files with their LOG read, the most recently used ones kept.
     LOG    format:4 min_reader:4 incompatible:4 mode:4 number:4 before:4 (zero):8 before_id:8 before_cut:8
            before_link:8 owner:8 nonce:16 start:8, behind a PAD section; the block is 192 bytes
     INDEX  for each agent: stream:8 version:8 link:8 due_ms:8 time_ms:8 epoch:4 state:2 status:1 flags:1 count:4
     (zero):4,
            then count times segment:4 line:4, the oldest first */
static int pai_look_at_size(const pagent_files *files, pai_segment *segment)
{
    int64_t size = files->dir.dev.file_size(files->dir.dev.ctx, segment->file);
    if (size < 0) return (int)size;
    segment->size = (uint64_t)size;
    return PAGENT_OK;
}

static int pai_close_segment(pagent_files *files, pai_segment *segment)
{
    int result = PAGENT_OK;
    if (segment->file > 0) result = files->dir.close(files->dir.ctx, segment->file);
    if (files->window_file == segment->file) files->window_file = 0;
    pai_clear(segment, sizeof *segment);
    return result;
}

/* Rule 8: the first block of a segment. Reports what is wrong with it. */
static int pai_read_log(pagent_files *files, pai_segment *segment)
{
    uint8_t block[PAI_LOG_BLOCK], *at = block + PAI_HEADER + PAI_FRONT + PAI_SECTION;
    pai_block header;
    size_t got = 0;
    uint32_t damage = PAGENT_DAMAGE_MIDDLE;
    const char *what = "the segment's head is damaged";
    int result = pai_look_at_size(files, segment), found = PAGENT_E_CORRUPT;
    if (result == PAGENT_OK) result = pai_read_all(&files->dir.dev, segment->file, block, sizeof block, 0, &got);
    if (result != PAGENT_OK) return result;
    if (got >= 4 && pai_get32(block) != pai_magic) {
        damage = PAGENT_DAMAGE_FOREIGN;
        found = PAGENT_E_FOREIGN;
        what = "this is no journal";
    } else if (got == sizeof block && pai_decode_header(&files->crc, block, 0, &header) == PAGENT_OK &&
               header.type == PAI_LOG && header.stream == 0) {
        int whole =
            pai_block_size(&header) == sizeof block && pai_check_payload(&files->crc, block, &header) == PAGENT_OK;
        if (whole && (header.flags & PAI_WHITE))
            pai_whiten(block + PAI_HEADER, sizeof block - PAI_HEADER, 0, header.version);
        if (pai_block_size(&header) != sizeof block ||
            (whole && (pai_get32(at + 4) > PAGENT_FORMAT || pai_get32(at + 8) != 0))) {
            damage = PAGENT_DAMAGE_NEWER;
            found = PAGENT_E_NEWER;
            what = "written by a newer version; use that one";
        } else if (whole && pai_get16(at - PAI_SECTION) == PAI_TAG_LOG && header.version == 1) {
            segment->id = header.log;
            segment->before = pai_get32(at + 20);
            segment->before_id = pai_get64(at + 32);
            segment->before_cut = pai_get64(at + 40);
            segment->before_link = pai_get64(at + 48);
            segment->start = pai_get64(at + 80);
            if (pai_get32(at + 16) == segment->number && pai_get64(at + 56) == segment->stream &&
                (pai_get32(at + 12) != 0) == (segment->stream != 0) && segment->before < segment->number) {
                return PAGENT_OK;
            }
            damage = PAGENT_DAMAGE_FOREIGN;
            found = PAGENT_E_FOREIGN;
            what = "its head names another log: was it renamed?";
        }
    }
    return pai_report(files, damage, found, segment->stream, segment->number, 0, what);
}

/* The segment, open. The pointer is valid until many others have been asked for. E_NOT_FOUND: there is no such file. */
static int pai_get_segment(pagent_files *files, uint64_t stream, uint32_t number, pai_segment **out)
{
    pai_segment *slot = &files->segments[0];
    uint32_t i;
    int result;
    for (i = 0; i < PAI_SEGMENTS_OPEN; i++) {
        pai_segment *other = &files->segments[i];
        if (other->file != 0 && other->number == number && other->stream == stream) {
            other->used = ++files->tick;
            *out = other;
            return PAGENT_OK;
        }
        if (slot->file != 0 && (other->file == 0 || files->tick - other->used > files->tick - slot->used)) slot = other;
    }
    (void)pai_close_segment(files, slot); /* whatever was written to it is synced */
    result = files->dir.open(files->dir.ctx, pai_segment_name(files, stream, number),
                             files->options.read_only ? 0u : (uint32_t)PAGENT_OPEN_WRITE);
    if (result == PAGENT_E_STORAGE) return pai_say(files, result, files->name, ": this file cannot be opened");
    if (result < 0) return result;
    slot->file = result;
    slot->stream = stream;
    slot->number = number;
    slot->used = ++files->tick;
    if (files->window_file == slot->file) files->window_file = 0;
    result = pai_read_log(files, slot);
    if (result != PAGENT_OK) (void)pai_close_segment(files, slot);
    *out = slot;
    return result;
}

/* Is there a segment of that number? 1, 0, or an error. */
static int pai_segment_exists(pagent_files *files, uint64_t stream, uint32_t number)
{
    return files->dir.exists(files->dir.ctx, pai_segment_name(files, stream, number));
}

/* ---- Scanning: block after block, until one does not validate. */
enum pai_bad {
    PAI_GOOD = 0,
    PAI_BAD_HEADER,
    PAI_BAD_PAYLOAD, /* its header is valid */
    PAI_BAD_CUT,     /* its header is valid, and the file ends inside it */
    PAI_BAD_CHAIN,   /* valid, and does not follow its stream */
    PAI_BAD_FOREIGN, /* its header is valid, of another log */
    PAI_BAD_NEWER,
    PAI_BAD_AGENT /* one agent's own affair: the scan goes on behind it */
};

/* The checksum over a payload that may be larger than the window. */
static int pai_scan_payload(pagent_files *files, int file, const pai_block *header, uint64_t offset)
{
    uint64_t at = offset + PAI_HEADER, end = offset + pai_block_size(header);
    uint32_t crc = 0;
    uint8_t *bytes;
    while (at < end) {
        size_t piece = end - at < PAI_WINDOW ? (size_t)(end - at) : (size_t)PAI_WINDOW;
        int result = pai_window(files, file, at, piece, &bytes);
        if (result != PAGENT_OK) return result;
        crc = pai_crc32c(&files->crc, crc, bytes, piece);
        at += piece;
    }
    return crc == header->payload_crc ? PAGENT_OK : PAGENT_E_CORRUPT;
}

/* Looks at the block at `offset`: its header, and with `deep` its payload. OK with *bad telling what is wrong with it,
   or an error of the device. On PAI_GOOD `front` has the header and the first line of the payload. */
static int pai_scan_block(pagent_files *files, const pai_segment *segment, uint64_t offset, int deep, pai_block *header,
                          uint8_t front[2 * PAI_LINE], enum pai_bad *bad)
{
    uint8_t *bytes;
    int result;
    *bad = PAI_BAD_HEADER;
    if (offset + PAI_HEADER > segment->size) return PAGENT_OK;
    result = pai_window(files, segment->file, offset, PAI_HEADER, &bytes);
    if (result == PAGENT_OK) {
        pai_copy(front, bytes, PAI_HEADER);
        if (pai_decode_header(&files->crc, front, offset, header) != PAGENT_OK) return PAGENT_OK;
        *bad = header->log != segment->id                        ? PAI_BAD_FOREIGN
               : offset + pai_block_size(header) > segment->size ? PAI_BAD_CUT
                                                                 : PAI_BAD_PAYLOAD;
        if (*bad != PAI_BAD_PAYLOAD) return PAGENT_OK;
        if (deep) result = pai_scan_payload(files, segment->file, header, offset);
        if (result == PAGENT_OK) result = pai_window(files, segment->file, offset + PAI_HEADER, PAI_LINE, &bytes);
        if (result == PAGENT_OK) {
            pai_copy(front + PAI_LINE, bytes, PAI_LINE);
            *bad = PAI_GOOD;
        }
    }
    return result == PAGENT_E_CORRUPT ? PAGENT_OK : result;
}

/* May a block follow this head? Where there is none: the first block of an agent, or of an import, with a snapshot. */
static int pai_follows(const pai_head *head, const pai_block *header)
{
    if (header->version == 0 || header->epoch > UINT32_MAX) return 0;
    if (head == NULL || head->version == 0) {
        return header->version == 1 ? header->previous == 0 : (header->flags & PAI_CARRIES_SNAPSHOT) != 0;
    }
    return header->version == head->version + 1 && header->previous == head->link && header->epoch >= head->epoch;
}

/* Does a whole block follow what is known of its stream? */
static enum pai_bad pai_check_chain(const pagent_files *files, const pai_log *log, const pai_block *header,
                                    const uint8_t *front, pagent_summary *summary)
{
    if (header->type > PAI_INDEX && (header->type & PAI_SKIPPABLE) == 0) return PAI_BAD_NEWER;
    if (header->stream == 0) { /* a SEAL, or something later that we may skip */
        return (header->type & PAI_SKIPPABLE) != 0 && header->version == (uint64_t)log->stream_0 + 1 &&
                       header->previous == log->link_0
                   ? PAI_GOOD
                   : PAI_BAD_CHAIN;
    }
    if (log->stream != 0 && header->stream != log->stream) return PAI_BAD_CHAIN;
    if (!pai_follows(pai_find_head(&files->table, header->stream), header)) return PAI_BAD_CHAIN;
    return pai_block_summary(front, header, summary) == PAGENT_OK ? PAI_GOOD : PAI_BAD_CHAIN;
}

static void pai_set_head(pai_heads *table, pai_head *head, const pagent_summary *summary, uint64_t link, uint64_t epoch)
{
    head->version = summary->version;
    head->link = link;
    head->epoch = (uint32_t)epoch;
    head->time_ms = summary->time_ms;
    head->state = summary->state;
    head->status = summary->status;
    head->flags = summary->flags;
    pai_set_due(table, head, summary->due_ms);
}

/* Damage stops the agent: no due time wakes it, nothing is appended, until a whole snapshot supersedes the damage. */
static void pai_taint(pai_heads *table, pai_head *head)
{
    head->flags |= PAGENT_IS_DAMAGED;
    pai_set_due(table, head, PAGENT_FOREVER);
}

static int pai_taint_stream(pagent_files *files, uint64_t stream)
{
    pai_head *head;
    int result = pai_make_head(&files->heap, &files->table, stream, &head);
    if (result == PAGENT_OK) pai_taint(&files->table, head);
    return result;
}

/* Enters a block into the table. `staged` (may be NULL) keeps the chain that a snapshot supersedes. */
static int pai_enter_block(pagent_files *files, const pai_block *header, const pagent_summary *summary, uint64_t link,
                           uint32_t segment, uint64_t offset, pai_staged *staged)
{
    pai_heads *table = &files->table;
    pai_head *head, before;
    int snapshot = (header->flags & PAI_CARRIES_SNAPSHOT) != 0;
    int result = pai_make_head(&files->heap, table, header->stream, &head);
    if (result != PAGENT_OK) return result;
    if (!snapshot && head->chain_count >= PAI_BASED_MAX) return PAGENT_E_LIMIT;
    before = *head;
    if (snapshot) head->chain = head->chain_count = 0;
    result = pai_push_location(&files->heap, table, head, segment, (uint32_t)(offset / PAI_LINE));
    if (result != PAGENT_OK) {
        head->chain = before.chain;
        head->chain_count = before.chain_count;
        return result;
    }
    if (snapshot)
        pai_free_chain(table, before.chain, staged != NULL ? staged->before.chain : 0); /* that, when durable */
    if (snapshot && staged != NULL) staged->superseded = 1;
    pai_set_head(table, head, summary, link, header->epoch);
    if (!snapshot && (before.flags & PAGENT_IS_DAMAGED)) pai_taint(table, head);
    return PAGENT_OK;
}

static int pai_isolate(pagent_files *files, const pai_log *log, const pai_segment *segment, pai_block *header,
                       uint8_t front[2 * PAI_LINE], pagent_summary *summary, enum pai_bad *bad);

/* Goes on from log.end over every block, entering them into the table; stops at the first that is not valid, with *bad
   saying how, unless its damage is one agent's affair. */
static int pai_scan_more(pagent_files *files, pai_log *log, uint64_t limit, pai_block *header, enum pai_bad *bad)
{
    uint8_t front[2 * PAI_LINE];
    pagent_summary summary;
    pai_segment *segment;
    int result = pai_get_segment(files, log->stream, log->number, &segment);
    *bad = PAI_GOOD;
    files->window_file = 0;
    if (result == PAGENT_OK) result = pai_look_at_size(files, segment);
    if (result != PAGENT_OK) return result;
    log->allocated = segment->size;
    while (log->end < limit) {
        uint64_t link, unproven;
        result = pai_scan_block(files, segment, log->end, 1, header, front, bad);
        if (result == PAGENT_OK && *bad == PAI_GOOD) *bad = pai_check_chain(files, log, header, front, &summary);
        if (result == PAGENT_OK && *bad != PAI_GOOD)
            result = pai_isolate(files, log, segment, header, front, &summary, bad);
        if (result != PAGENT_OK || (*bad != PAI_GOOD && *bad != PAI_BAD_AGENT)) return result;
        link = pai_link(&files->crc, front);
        if (header->stream != 0) {
            if (*bad == PAI_GOOD) result = pai_enter_block(files, header, &summary, link, log->number, log->end, NULL);
            if (result != PAGENT_OK) return result;
            log->blocks++;
            log->last_link = link;
            log->cut = log->end + pai_block_size(header);
        } else {
            log->stream_0++;
            log->link_0 = link;
        }
        unproven = (uint64_t)header->unproven * PAI_LINE;
        if (log->end > log->durable + unproven) log->durable = log->end - unproven;
        log->end += pai_block_size(header);
    }
    return PAGENT_OK;
}

/* ---- Classifying the first block that does not validate: the rules of [FORMAT], in their order. */
typedef struct pai_rest { /* what stands from X to the end of the file */
    uint64_t last;        /* end of the last line that is not zero */
    uint32_t bits;        /* set bits, counted to 5 */
    uint32_t evidence;    /* a later block says that X was durable */
} pai_rest;

static uint32_t pai_count_bits(const uint8_t *bytes, size_t size)
{
    uint32_t bits = 0;
    size_t i;
    for (i = 0; i < size && bits <= 4; i++) {
        uint32_t byte = bytes[i];
        for (; byte != 0; byte &= byte - 1) bits++;
    }
    return bits;
}

static int pai_look_ahead(pagent_files *files, const pai_segment *segment, uint64_t from, uint64_t look, pai_rest *rest)
{
    uint64_t at;
    pai_block later;
    pai_clear(rest, sizeof *rest);
    rest->last = from;
    for (at = from; at < segment->size; at += PAI_LINE) {
        size_t size = segment->size - at < PAI_LINE ? (size_t)(segment->size - at) : (size_t)PAI_LINE;
        uint8_t *line;
        int result = pai_window(files, segment->file, at, size, &line);
        if (result != PAGENT_OK) return result == PAGENT_E_CORRUPT ? PAGENT_OK : result;
        if (size == PAI_LINE && pai_is_zero_line(line)) continue;
        if (pai_count_bits(line, size) != 0) rest->last = at + size;
        if (rest->bits <= 4) rest->bits += pai_count_bits(line, size);
        if (size == PAI_LINE && at >= look && pai_decode_header(&files->crc, line, at, &later) == PAGENT_OK &&
            later.log == segment->id && at > from + (uint64_t)later.unproven * PAI_LINE) {
            rest->evidence = 1;
        }
    }
    return PAGENT_OK;
}

/* Rule 6: was the block at `at` cut off while it was written? Is one of its lines zero, or behind the end of the file;
   or, where its header does not say which are its own, the header or the next? */
static int pai_is_torn(pagent_files *files, const pai_segment *segment, uint64_t at, enum pai_bad bad,
                       const pai_block *header, int *torn)
{
    uint64_t end = at + (bad == PAI_BAD_PAYLOAD ? pai_block_size(header) : 2u * PAI_LINE);
    int result = PAGENT_OK;
    *torn = bad == PAI_BAD_CUT || end > segment->size;
    for (; !*torn && at < end; at += PAI_LINE) {
        uint8_t *line;
        result = pai_window(files, segment->file, at, PAI_LINE, &line);
        if (result != PAGENT_OK) return result;
        *torn = pai_is_zero_line(line);
    }
    return result;
}

static uint32_t pai_crc_zero_bits(uint32_t crc)
{
    uint32_t k;
    for (k = 0; k < 8; k++) crc = crc >> 1 ^ (UINT32_C(0x82F63B78) & (0u - (crc & 1u)));
    return crc;
}

/* Which single bit of `size` bytes explains that the checksum differs by `syndrome`? -1: none does. A flipped bit
   changes a CRC by a value that depends on its distance from the end alone, so one walk from the end finds it. */
static int32_t pai_find_bit(uint32_t syndrome, uint32_t size)
{
    uint32_t change[8], bit, at;
    for (bit = 0; bit < 8; bit++) change[bit] = pai_crc_zero_bits(1u << bit);
    for (at = size; at-- != 0;) {
        for (bit = 0; bit < 8; bit++) {
            if (change[bit] == syndrome) return (int32_t)(at * 8 + bit);
            change[bit] = pai_crc_zero_bits(change[bit]);
        }
    }
    return -1;
}

/* The bit of the suspect block at `at` that, flipped, makes it valid; -1: it is not that simple. */
static int pai_repair_bit(pagent_files *files, const pai_segment *segment, uint64_t at, enum pai_bad bad,
                          pai_block *header, int32_t *repair_bit)
{
    uint8_t line[PAI_LINE], *bytes;
    uint32_t bit, crc = 0, size, next;
    int result = pai_window(files, segment->file, at, PAI_LINE, &bytes);
    if (result != PAGENT_OK) return result;
    pai_copy(line, bytes, PAI_LINE);
    for (bit = 0; bad == PAI_BAD_HEADER && bit < 8 * PAI_LINE; bit++) {
        line[bit / 8] = (uint8_t)(line[bit / 8] ^ 1u << bit % 8);
        if (pai_decode_header(&files->crc, line, at, header) == PAGENT_OK && header->log == segment->id) {
            if (at + pai_block_size(header) > segment->size) return PAGENT_OK;
            result = pai_scan_payload(files, segment->file, header, at);
            if (result == PAGENT_OK) *repair_bit = (int32_t)bit;
            return result == PAGENT_E_CORRUPT ? PAGENT_OK : result;
        }
        line[bit / 8] = (uint8_t)(line[bit / 8] ^ 1u << bit % 8);
    }
    size = bad == PAI_BAD_PAYLOAD ? pai_padded(header->payload_size) : 0;
    if (size == 0 || size > (1u << 20)) return PAGENT_OK;
    for (next = 0; next < size; next += PAI_LINE) {
        result = pai_window(files, segment->file, at + PAI_HEADER + next, PAI_LINE, &bytes);
        if (result != PAGENT_OK) return result;
        crc = pai_crc32c(&files->crc, crc, bytes, PAI_LINE);
    }
    *repair_bit = pai_find_bit(crc ^ header->payload_crc, size);
    if (*repair_bit >= 0) *repair_bit += 8 * PAI_HEADER;
    return PAGENT_OK;
}

typedef struct pai_finding {
    pagent_damage_report report;
    const char *what;
} pai_finding;

static void pai_find_says(pai_finding *found, uint32_t damage, int result, const char *what)
{
    found->report.damage = damage;
    found->report.result = result;
    found->what = what;
}

/* What is wrong at `at`, where `bad` stopped the scan. PAGENT_CLEAN: nothing, the log ends there. */
static int pai_classify(pagent_files *files, const pai_segment *segment, uint64_t at, enum pai_bad bad,
                        pai_block *header, pai_finding *found)
{
    pai_rest rest;
    int torn = 0, result;
    pai_begin_report(&found->report, PAGENT_CLEAN, PAGENT_OK, at);
    if (bad == PAI_GOOD) return PAGENT_OK;
    if (bad != PAI_BAD_HEADER) {
        found->report.stream = header->stream;
        found->report.version = header->version;
    }
    result = pai_look_ahead(files, segment, at,
                            at + (bad != PAI_BAD_HEADER ? pai_block_size(header) : (uint32_t)PAI_LINE), &rest);
    if (result != PAGENT_OK || rest.bits == 0) return result;
    found->report.size = rest.last - at;
    if (rest.bits <= 4) {
        pai_find_says(found, PAGENT_DIRTY, PAGENT_OK, "stray bits after the end; scrubbed when opened for writing");
    } else if (rest.evidence) {
        pai_find_says(found, PAGENT_DAMAGE_MIDDLE, PAGENT_E_CORRUPT, "damaged; a later block proves it was durable");
    } else if (bad == PAI_BAD_FOREIGN) {
        pai_find_says(found, PAGENT_DAMAGE_FOREIGN, PAGENT_E_FOREIGN, "a block of another log; nothing was changed");
    } else if (bad == PAI_BAD_CHAIN) {
        pai_find_says(found, PAGENT_DAMAGE_CHAIN, PAGENT_E_CORRUPT, "does not follow the agent's last block");
    } else if (bad == PAI_BAD_NEWER) {
        pai_find_says(found, PAGENT_DAMAGE_NEWER, PAGENT_E_NEWER, "a block type of a newer version; use that");
    } else {
        pai_find_says(found, PAGENT_TORN, PAGENT_OK, "a block half written, never acknowledged; cut off");
        result = pai_is_torn(files, segment, at, bad, header, &torn);
        if (result != PAGENT_OK || torn) return result;
        pai_find_says(found, PAGENT_DAMAGE_SUSPECT, PAGENT_E_SUSPECT,
                      "the last block is damaged, maybe acknowledged; see truncate_suspect");
        return pai_repair_bit(files, segment, at, bad, header, &found->report.repair_bit);
    }
    return PAGENT_OK;
}

/* Damage in the middle of a log, in a block with a valid header, is the affair of the agent that the header names: the
   scan goes on behind it. On PAI_GOOD the block is to be entered, so that the chain of links goes on over it; on
   PAI_BAD_AGENT it does not follow the agent's last block, and is passed over. */
static int pai_isolate(pagent_files *files, const pai_log *log, const pai_segment *segment, pai_block *header,
                       uint8_t front[2 * PAI_LINE], pagent_summary *summary, enum pai_bad *bad)
{
    const pai_head *head;
    pai_finding found;
    int result = PAGENT_OK, again;
    for (again = 0; again < 2; again++) { /* seen half written, with its end proven right after? Then look once more */
        if ((*bad != PAI_BAD_PAYLOAD && *bad != PAI_BAD_CHAIN) || header->stream == 0) return PAGENT_OK;
        if (log->stream != 0 && log->stream != header->stream) return PAGENT_OK;
        result = pai_classify(files, segment, log->end, *bad, header, &found);
        if (result != PAGENT_OK || found.report.damage != PAGENT_DAMAGE_MIDDLE) return result;
        files->window_file = 0;
        result = pai_scan_block(files, segment, log->end, 1, header, front, bad);
        if (result == PAGENT_OK && *bad == PAI_GOOD) *bad = pai_check_chain(files, log, header, front, summary);
        if (result != PAGENT_OK || *bad == PAI_GOOD) return result;
    }
    if (*bad != PAI_BAD_PAYLOAD && *bad != PAI_BAD_CHAIN) return PAGENT_OK;
    head = pai_find_head(&files->table, header->stream);
    if (!pai_follows(head, header)) {
        if (head == NULL || !(head->flags & PAGENT_IS_DAMAGED)) {
            found.report.damage = PAGENT_DAMAGE_CHAIN;
            (void)pai_send_report(files, &found.report, log->stream, log->number,
                                  "does not follow the agent's last block; this agent stops");
        }
        *bad = PAI_BAD_AGENT;
        return pai_taint_stream(files, header->stream);
    }
    (void)pai_send_report(files, &found.report, log->stream, log->number, "damaged; this agent stops");
    pai_clear(summary, sizeof *summary);
    summary->version = header->version;
    summary->due_ms = PAGENT_FOREVER;
    summary->flags = PAGENT_IS_DAMAGED;
    if (head != NULL) {
        summary->time_ms = head->time_ms;
        summary->state = head->state;
        summary->status = head->status;
        summary->flags |= head->flags;
    }
    *bad = PAI_GOOD;
    return PAGENT_OK;
}

/* ---- INDEX blocks. */
typedef int (*pai_each_record)(pagent_files *files, void *ctx, const uint8_t *record, uint32_t count);

/* Checks the records of one INDEX section and hands them on. E_CORRUPT: it does not hold what it should. */
static int pai_read_records(pagent_files *files, const pai_segment *segment, const pai_section *section,
                            pai_each_record each, void *ctx)
{
    const uint8_t *at = section->data, *end = at + section->size;
    int result = PAGENT_OK;
    while (result == PAGENT_OK && at != end) {
        uint32_t count, i, last = 1;
        if (end - at < PAI_INDEX_RECORD) return PAGENT_E_CORRUPT;
        count = pai_get32(at + 48);
        if (pai_get64(at) == 0 || (segment->stream != 0 && pai_get64(at) != segment->stream) || count == 0 ||
            count > PAI_BASED_MAX || count > pai_get64(at + 8) || (size_t)(end - at - PAI_INDEX_RECORD) / 8 < count) {
            return PAGENT_E_CORRUPT;
        }
        for (i = 0; i < count; i++) {
            uint32_t number = pai_get32(at + PAI_INDEX_RECORD + 8 * i);
            if (number < last || number >= segment->number || pai_get32(at + PAI_INDEX_RECORD + 8 * i + 4) == 0) {
                return PAGENT_E_CORRUPT;
            }
            last = number;
        }
        if (each != NULL) result = each(files, ctx, at, count);
        at += PAI_INDEX_RECORD + 8 * count;
    }
    return result;
}

/* Reads the INDEX blocks of a segment. *link: of the last one (the segment's id when there is none); *blocks: how many.
   */
static int pai_read_index(pagent_files *files, const pai_segment *segment, pai_each_record each, void *ctx,
                          uint64_t *link, uint32_t *blocks)
{
    uint64_t at = PAI_LOG_BLOCK;
    int result = PAGENT_OK;
    *link = segment->id;
    *blocks = 0;
    while (result == PAGENT_OK && at != segment->start) {
        uint8_t front[2 * PAI_LINE], *payload;
        pai_block header;
        pai_section section;
        enum pai_bad bad;
        uint32_t next = 0;
        result = pai_scan_block(files, segment, at, 1, &header, front, &bad);
        if (result != PAGENT_OK) break;
        result = PAGENT_E_CORRUPT;
        if (bad != PAI_GOOD || header.stream != 0 || header.type != PAI_INDEX || header.previous != *link ||
            header.payload_size > PAI_INDEX_BLOCK_MAX || at + pai_block_size(&header) > segment->start) {
            break;
        }
        result = pai_window(files, segment->file, at + PAI_HEADER, pai_padded(header.payload_size), &payload);
        if (result != PAGENT_OK) break;
        if (header.flags & PAI_WHITE) {
            pai_whiten(payload, pai_padded(header.payload_size), 0, header.version);
            files->window_file = 0; /* the window is not what the file has any more */
        }
        do result = pai_next_section(payload, header.payload_size, &next, &section);
        while (result == PAGENT_OK && section.tag != PAI_TAG_INDEX);
        if (result == PAGENT_OK) result = pai_read_records(files, segment, &section, each, ctx);
        else result = PAGENT_E_CORRUPT;
        *link = pai_link(&files->crc, front);
        ++*blocks;
        if (result == PAGENT_OK) at += pai_block_size(&header);
    }
    if (result != PAGENT_E_CORRUPT) return result;
    return pai_report(files, PAGENT_DAMAGE_MIDDLE, result, segment->stream, segment->number, at,
                      "the segment's index is damaged");
}

/* Puts one record of an INDEX into the table, replacing what was there. */
static int pai_enter_record(pagent_files *files, void *ctx, const uint8_t *record, uint32_t count)
{
    pagent_summary summary;
    pai_head *head;
    uint32_t i;
    int result = pai_make_head(&files->heap, &files->table, pai_get64(record), &head);
    (void)ctx;
    if (result != PAGENT_OK) return result;
    pai_free_chain(&files->table, head->chain, 0);
    head->chain = head->chain_count = 0;
    for (i = 0; result == PAGENT_OK && i < count; i++) {
        const uint8_t *place = record + PAI_INDEX_RECORD + 8 * i;
        result = pai_push_location(&files->heap, &files->table, head, pai_get32(place), pai_get32(place + 4));
    }
    summary.version = pai_get64(record + 8);
    summary.due_ms = pai_get64(record + 24);
    summary.time_ms = pai_get64(record + 32);
    summary.state = pai_get16(record + 44);
    summary.status = record[46];
    summary.flags = record[47];
    pai_set_head(&files->table, head, &summary, pai_get64(record + 16), pai_get32(record + 40));
    return result;
}

/* The record of one agent, as the table has it. */
static int pai_put_record(pagent_files *files, const pai_head *head, uint8_t *at)
{
    uint32_t i;
    int result = pai_collect_chain(&files->heap, &files->table, pai_node_at(&files->table, head->chain),
                                   head->chain_count, &files->places);
    if (result != PAGENT_OK) return result;
    pai_put64(at, head->stream);
    pai_put64(at + 8, head->version);
    pai_put64(at + 16, head->link);
    pai_put64(at + 24, head->due_ms);
    pai_put64(at + 32, head->time_ms);
    pai_put32(at + 40, head->epoch);
    pai_put16(at + 44, head->state);
    at[46] = head->status;
    at[47] = head->flags;
    pai_put32(at + 48, head->chain_count);
    pai_put32(at + 52, 0);
    for (i = 0; i < head->chain_count; i++) { /* collected the newest first */
        const pai_location *place =
            (const pai_location *)(const void *)files->places.data + (head->chain_count - 1 - i);
        pai_put32(at + PAI_INDEX_RECORD + 8 * i, place->segment);
        pai_put32(at + PAI_INDEX_RECORD + 8 * i + 4, place->line);
    }
    return PAGENT_OK;
}

/* ---- The directory's listing, sorted: a heap sort, without recursion and without a worst case. */
static int pai_listed_before(const pai_listed *left, const pai_listed *right)
{
    return left->major < right->major || (left->major == right->major && left->minor < right->minor);
}

static void pai_sift_listed(pai_listed *items, size_t at, size_t count)
{
    for (;;) {
        size_t child = 2 * at + 1;
        pai_listed held;
        if (child + 1 < count && pai_listed_before(&items[child], &items[child + 1])) child++;
        if (child >= count || !pai_listed_before(&items[at], &items[child])) return;
        held = items[at];
        items[at] = items[child];
        items[child] = held;
        at = child;
    }
}

static void pai_sort_listed(pai_buffer *listed)
{
    pai_listed *items = (pai_listed *)(void *)listed->data, held;
    size_t at, count = pai_listed_count(listed);
    for (at = count / 2; at-- != 0;) pai_sift_listed(items, at, count);
    for (at = count; at-- > 1;) {
        held = items[0];
        items[0] = items[at];
        items[at] = held;
        pai_sift_listed(items, 0, at);
    }
}

/* Does a block of an agent stand at `at`, or behind SEALs there? The file is looked at as it is now. */
static int pai_has_block(pagent_files *files, pai_segment *segment, uint64_t at, int *found)
{
    uint8_t front[2 * PAI_LINE];
    enum pai_bad bad = PAI_BAD_HEADER;
    pai_block header;
    int result = pai_look_at_size(files, segment);
    files->window_file = 0;
    for (; result == PAGENT_OK; at += pai_block_size(&header)) {
        result = pai_scan_block(files, segment, at, 1, &header, front, &bad);
        if (result != PAGENT_OK || bad != PAI_GOOD || header.stream != 0) break;
    }
    *found = result == PAGENT_OK && bad == PAI_GOOD;
    return result;
}

/* "tmp-<time>-<random>": what pai_temp_name makes, and nothing of anybody else's. */
static int pai_is_temp_name(const char *name)
{
    uint64_t number;
    return pai_length(name) == 4 + 16 + 1 + 16 && pai_equal(name, "tmp-", 4) && name[20] == '-' &&
           pai_parse_hex64(name + 4, &number) && pai_parse_hex64(name + 21, &number);
}

/* Reads the names of all segments, once. With `clean`, removes what a crash left half made. */
static int pai_read_names(pagent_files *files, int clean)
{
    char name[PAGENT_NAME_MAX + 1];
    pagent_damage_report report;
    uint32_t index, i;
    int result, strange = 0;
    files->listed.size = 0;
    files->scratch.size = 0;
    for (index = 0;; index++) {
        pai_listed listed;
        int kind;
        result = files->dir.list(files->dir.ctx, "", index, name);
        if (result != PAGENT_OK) break;
        kind = pai_parse_segment_name(name, &listed);
        if (kind < 0) {
            strange = 1;
            pai_begin_report(&report, PAGENT_DAMAGE_FOREIGN, PAGENT_E_CORRUPT, 0);
            (void)pai_say(files, PAGENT_E_CORRUPT, name, ": not the name of a segment; move it elsewhere");
            pai_copy(report.text, files->text, sizeof report.text);
            report.file = name;
            if (files->options.on_discard != NULL) files->options.on_discard(files->options.ctx, &report);
        }
        if (kind > 0) result = pai_append_bytes(&files->heap, &files->listed, &listed, sizeof listed);
        if (clean && pai_is_temp_name(name)) {
            result = pai_append_bytes(&files->heap, &files->scratch, name, sizeof name);
        }
        if (result != PAGENT_OK) return result;
    }
    for (i = 0; result == PAGENT_END && i < files->scratch.size / sizeof name; i++) {
        (void)files->dir.remove(files->dir.ctx, (const char *)files->scratch.data + i * sizeof name); /* or next time */
    }
    if (result != PAGENT_END) return result;
    pai_sort_listed(&files->listed);
    if (strange) return PAGENT_E_CORRUPT;
    for (i = 1; i < pai_listed_count(&files->listed); i++) {
        if (pai_listed_at(&files->listed, i)->major != 0 && pai_listed_at(&files->listed, 0)->major == 0) {
            return pai_say(files, PAGENT_E_CORRUPT, "", "a shared log and logs of agents in one directory");
        }
    }
    return PAGENT_OK;
}

/* Is a number left out of the listing although its segment, or no longer the one before it, is in the directory? A
   directory is not read at one instant: where somebody rotates and trims meanwhile, it may show no segment that was
   there all the time, and one that is gone. 1, 0, or an error. */
static int pai_listing_is_stale(pagent_files *files)
{
    size_t i;
    int found;
    for (i = 1; i < pai_listed_count(&files->listed); i++) {
        const pai_listed *before = pai_listed_at(&files->listed, i - 1), *at = pai_listed_at(&files->listed, i);
        if (at->major != before->major || at->minor == before->minor + 1) continue;
        found = pai_segment_exists(files, before->major, (uint32_t)before->minor + 1);
        if (found != 0) return found;
        found = pai_segment_exists(files, before->major, (uint32_t)before->minor);
        if (found != 1) return found == 0 ? 1 : found;
    }
    return 0;
}

/* The names of all segments, in order; a gap among them is one in the directory, too. */
static int pai_list_segments(pagent_files *files, int clean)
{
    uint32_t tries;
    int result = PAGENT_OK, stale = 1;
    for (tries = 0; stale == 1 && tries < PAI_TRIES; tries++) {
        result = pai_read_names(files, clean);
        if (result != PAGENT_OK) return result;
        stale = pai_listing_is_stale(files);
    }
    return stale < 0 ? stale : PAGENT_OK;
}

/* Do none of the segments in the listing, items `first` to `last`, hold a block of an agent? */
static int pai_listed_are_empty(pagent_files *files, size_t first, size_t last, int *empty)
{
    int result = PAGENT_OK, found = 0;
    for (; first <= last && result == PAGENT_OK && !found; first++) {
        const pai_listed *listed = pai_listed_at(&files->listed, first);
        pai_segment *segment;
        result = pai_get_segment(files, listed->major, (uint32_t)listed->minor, &segment);
        if (result == PAGENT_OK) result = pai_has_block(files, segment, segment->start, &found);
    }
    *empty = !found;
    return result;
}

/* The segments of one log in the listing: items *first to *last. END: there is no log. E_CORRUPT: one in the middle is
   missing; missing ones at the front were trimmed. Empty ones before a gap are what a zombie made, with numbers that
   had been trimmed: they are left out. */
static int pai_listed_log(pagent_files *files, size_t *first, size_t *last)
{
    int result = PAGENT_OK;
    if (*first >= pai_listed_count(&files->listed)) return PAGENT_END;
    for (*last = *first; *last + 1 < pai_listed_count(&files->listed); ++*last) {
        const pai_listed *at = pai_listed_at(&files->listed, *last);
        int empty = 0, looked;
        if (at[1].major != at->major) break;
        if (at[1].minor == at->minor + 1) continue;
        looked = pai_listed_are_empty(files, *first, *last, &empty);
        if (looked == PAGENT_OK && empty) *first = *last + 1;
        else if (looked != PAGENT_OK) result = looked;
        else
            result = pai_report(files, PAGENT_DAMAGE_MIDDLE, PAGENT_E_CORRUPT, at->major, (uint32_t)at->minor + 1, 0,
                                "this segment is missing; put it back");
    }
    return result;
}

/* ---- Loading a log: LOG, INDEX, and every block after it. */

/* Forgets what the table says of a log's agents. */
static void pai_forget_heads(pagent_files *files, uint64_t stream)
{
    uint32_t i, count = stream != 0 ? 1 : files->table.heads.count;
    for (i = 0; i < count; i++) {
        pai_head *head = stream != 0 ? pai_find_head(&files->table, stream) : pai_head_at(&files->table, i);
        if (head == NULL) return;
        pai_free_chain(&files->table, head->chain, 0);
        pai_set_due(&files->table, head, PAGENT_FOREVER);
        head->version = head->link = 0;
        head->chain = head->chain_count = head->epoch = 0;
        head->flags = 0;
    }
}

static int pai_load_segment(pagent_files *files, pai_log *log, uint32_t number, uint64_t limit, pai_block *header,
                            enum pai_bad *bad)
{
    pai_segment *segment;
    uint32_t blocks;
    int result = pai_get_segment(files, log->stream, number, &segment);
    if (result != PAGENT_OK) return result;
    if (log->start != 0) pai_forget_heads(files, log->stream);
    log->number = number;
    log->start = segment->start;
    result = pai_look_at_size(files, segment);
    if (result == PAGENT_OK) result = pai_read_index(files, segment, pai_enter_record, NULL, &log->link_0, &blocks);
    if (result != PAGENT_OK) return result;
    log->id = segment->id;
    log->stream_0 = blocks + 1;
    log->blocks = 0;
    log->last_link = log->link_0;
    log->end = log->cut = log->durable = segment->start;
    return pai_scan_more(files, log, limit, header, bad);
}

/* A segment in which nobody was acknowledged yet may have been published with a cut that came too early: its maker died
   before it looked again. Then the segment before it goes on; or one between the two that was thought void itself, and
   in which its maker was acknowledged after all. *before: the one that goes on. */
static int pai_is_void(pagent_files *files, const pai_log *log, uint32_t *before, int *is_void)
{
    pai_segment *segment;
    uint64_t cut, id;
    uint32_t first, at;
    int result = pai_get_segment(files, log->stream, log->number, &segment);
    *is_void = 0;
    if (result != PAGENT_OK || segment->before == 0 || log->cut != log->start) return result;
    first = segment->before;
    cut = segment->before_cut;
    id = segment->before_id;
    for (at = log->number - 1; at >= first; at--) {
        result = pai_get_segment(files, log->stream, at, &segment);
        if (result == PAGENT_E_NOT_FOUND) return PAGENT_OK; /* trimmed: the store has gone on since */
        if (result == PAGENT_OK && at == first && segment->id != id) return PAGENT_OK; /* … and a zombie made another */
        if (result == PAGENT_OK) result = pai_has_block(files, segment, at == first ? cut : segment->start, is_void);
        *before = at;
        if (result != PAGENT_OK || *is_void) break;
    }
    return result;
}

/* Loads the newest segment that is not void. `newest` exists. */
static int pai_load_log(pagent_files *files, pai_log *log, uint32_t newest, pai_block *header, enum pai_bad *bad)
{
    uint32_t number = newest, tries;
    int result = PAGENT_OK, is_void = 1;
    files->cursor.stream = 0;
    log->newest = 0;
    for (tries = 0; result == PAGENT_OK && is_void && tries < PAI_TRIES; tries++) {
        result = pai_load_segment(files, log, number, UINT64_MAX, header, bad);
        if (result == PAGENT_OK) result = pai_is_void(files, log, &number, &is_void);
    }
    if (result == PAGENT_OK) log->newest = newest;
    return result;
}

/* ---- Making a segment. */

/* A temporary name: "tmp-<time>-<random>", in a folder or not. */
static int pai_temp_name(const pagent_host *host, const char *folder, char name[PAI_FILE_NAME])
{
    char hex[17];
    uint8_t bytes[8];
    pai_text text = pai_text_begin(name, PAI_FILE_NAME);
    int result = host->random(host->ctx, bytes, sizeof bytes);
    pai_text_add(&text, folder);
    pai_text_add(&text, "tmp-");
    pai_hex64(hex, host->clock_ms(host->ctx));
    pai_text_add(&text, hex);
    pai_text_add(&text, "-");
    pai_hex64(hex, pai_get64(bytes));
    pai_text_add(&text, hex);
    return result;
}

/* Room at the end of `out` for a block of stream 0 with one section of `size` bytes; *section is where its bytes go. */
static int pai_begin_log_block(pagent_files *files, pai_buffer *out, uint32_t tag, uint32_t size, uint8_t **section)
{
    uint32_t payload = (uint32_t)PAI_FRONT + PAI_SECTION + ((size + 7u) & ~7u);
    uint8_t *at;
    int result = pai_reserve(&files->heap, out, PAI_HEADER + (size_t)pai_padded(payload + 4 * 16));
    if (result != PAGENT_OK) return result;
    at = out->data + out->size;
    pai_clear(at, PAI_HEADER + (size_t)payload);
    pai_put_section(at + PAI_HEADER, PAI_TAG_PAD, 0, (uint32_t)PAI_FRONT - PAI_SECTION);
    pai_put_section(at + PAI_HEADER + PAI_FRONT, tag, PAI_TAG_CRITICAL, size);
    *section = at + PAI_HEADER + PAI_FRONT + PAI_SECTION;
    return PAGENT_OK;
}

static void pai_end_log_block(pagent_files *files, pai_buffer *out, pai_log *log, uint32_t type, uint32_t size)
{
    uint32_t payload = (uint32_t)PAI_FRONT + PAI_SECTION + ((size + 7u) & ~7u);
    uint8_t *at = out->data + out->size;
    pai_block header;
    pai_clear(&header, sizeof header);
    header.version = (uint64_t)log->stream_0 + 1;
    header.epoch = log->number;
    header.previous = log->link_0;
    header.type = type;
    pai_finish_block(&files->crc, at, &header, &payload);
    pai_place_block(&files->crc, at, log->id, log->end, 0);
    log->stream_0++;
    log->link_0 = pai_link(&files->crc, at);
    log->end += pai_block_size(&header);
    out->size += pai_block_size(&header);
}

/* One INDEX block with the heads from *next on, as many as are fine for one block. */
static int pai_make_index_block(pagent_files *files, pai_log *made, uint32_t *next)
{
    uint32_t from = *next, size = 0, at = 0;
    uint8_t *section = NULL;
    int pass, result = PAGENT_OK;
    for (pass = 0; pass < 2 && result == PAGENT_OK; pass++) { /* first measure, then fill */
        uint32_t i, last = pass == 0 ? files->table.heads.count : *next;
        for (i = from; i < last && result == PAGENT_OK; i++) {
            const pai_head *head = pai_head_at(&files->table, i);
            uint32_t record = (uint32_t)PAI_INDEX_RECORD + 8 * head->chain_count;
            if (head->version == 0 || (made->stream != 0 && head->stream != made->stream)) continue;
            if (pass == 0 && size != 0 && size + record > PAI_INDEX_PAYLOAD) break;
            if (pass == 0) size += record;
            if (pass == 1) result = pai_put_record(files, head, section + at);
            if (pass == 1) at += record;
        }
        if (pass == 0) *next = i;
        if (size == 0) return PAGENT_OK;
        if (pass == 0) result = pai_begin_log_block(files, &files->scratch, PAI_TAG_INDEX, size, &section);
    }
    if (result == PAGENT_OK) pai_end_log_block(files, &files->scratch, made, PAI_INDEX, size);
    return result;
}

/* LOG and INDEX of the segment `made`, in files->scratch: INDEX first, because LOG says where it ends. */
static int pai_make_segment_head(pagent_files *files, const pai_log *log, pai_log *made)
{
    uint8_t drawn[24], *at;
    uint32_t next = 0;
    pai_log first;
    pai_buffer block;
    int result = files->host.random(files->host.ctx, drawn, sizeof drawn);
    made->id = pai_get64(drawn) | 1u;
    made->link_0 = made->id;
    made->stream_0 = 1;
    made->end = PAI_LOG_BLOCK;
    files->scratch.size = 0;
    if (result == PAGENT_OK) result = pai_reserve(&files->heap, &files->scratch, PAI_LOG_BLOCK);
    files->scratch.size = PAI_LOG_BLOCK;
    while (result == PAGENT_OK && next < files->table.heads.count) result = pai_make_index_block(files, made, &next);
    if (result != PAGENT_OK) return result;
    first = *made;
    first.stream_0 = 0;
    first.link_0 = 0;
    first.end = 0;
    pai_clear(&block, sizeof block);
    result = pai_begin_log_block(files, &block, PAI_TAG_LOG, PAI_LOG_SECTION, &at);
    if (result != PAGENT_OK) return result;
    pai_put32(at, PAGENT_FORMAT);
    pai_put32(at + 4, PAGENT_FORMAT);
    pai_put32(at + 12, log->stream != 0);
    pai_put32(at + 16, made->number);
    pai_put32(at + 20, log->number);
    pai_put64(at + 32, log->id);
    pai_put64(at + 40, log->cut);
    pai_put64(at + 48, log->last_link);
    pai_put64(at + 56, log->stream);
    pai_copy(at + 64, drawn + 8, 16);
    pai_put64(at + 80, made->end);
    pai_end_log_block(files, &block, &first, PAI_LOG, PAI_LOG_SECTION);
    PAGENT_ASSERT(block.size == PAI_LOG_BLOCK);
    pai_copy(files->scratch.data, block.data, PAI_LOG_BLOCK);
    pai_free_buffer(&files->heap, &block);
    made->start = made->cut = made->durable = made->end;
    made->last_link = made->link_0;
    return PAGENT_OK;
}

/* Makes a file long enough for `need` bytes, and for more to come. NO_SPACE: it is as long as it was. */
static int pai_grow_file(pagent_files *files, pai_log *log, int file, uint64_t need)
{
    const pagent_dev *dev = &files->dir.dev;
    uint32_t most = files->options.preallocate_max;
    uint64_t size;
    int result;
    if (need <= log->allocated) return PAGENT_OK;
    if (most == 0) most = files->per_agent ? 1u << 20 : (uint32_t)PAI_SEGMENT_BYTES;
    if (files->last_batch >= PAI_BATCH_LARGE || files->batch.size >= PAI_BATCH_LARGE) log->grow = most;
    else if (most > PAI_GROW_SMALL) most = PAI_GROW_SMALL; /* with rounding and `need`, under PAI_ZEROED */
    if (log->grow > most) log->grow = most;
    size = (need + log->grow + (PAI_GROW_MIN - 1u)) & ~(uint64_t)(PAI_GROW_MIN - 1);
    files->window_file = 0;
    result = dev->truncate(dev->ctx, file, size);
    if (result == PAGENT_E_NO_SPACE) {
        size = need;
        result = dev->truncate(dev->ctx, file, size);
    }
    if (result != PAGENT_OK) return result;
    log->allocated = size;
    log->grow = log->grow < most / 2 ? log->grow * 2 : most;
    return PAGENT_OK;
}

/* Writes, syncs and publishes the segment in files->scratch. FENCED: somebody has published that number. After another
   error nothing is published, except where *published says that nobody knows. */
static int pai_publish_segment(pagent_files *files, pai_log *made, int *file, int *published)
{
    const pagent_dir *dir = &files->dir;
    char temp[PAI_FILE_NAME];
    int result = pai_temp_name(&files->host, "", temp);
    *published = 0;
    if (result != PAGENT_OK) return result;
    *file = dir->create_temp(dir->ctx, temp);
    if (*file <= 0) return *file < 0 ? *file : PAGENT_E_STORAGE;
    result = pai_grow_file(files, made, *file, made->end + PAI_ROOM_KEPT);
    if (result == PAGENT_OK) result = pai_write_all(&dir->dev, *file, files->scratch.data, files->scratch.size, 0);
    pai_free_buffer(&files->heap, &files->scratch); /* as large as the table */
    if (result == PAGENT_OK) result = dir->dev.sync(dir->dev.ctx, *file);
    if (result == PAGENT_OK) {
        result = dir->publish(dir->ctx, *file, pai_segment_name(files, made->stream, made->number), 1);
        *published = result != PAGENT_E_EXISTS && result != PAGENT_E_NO_SPACE;
        if (result == PAGENT_OK) result = dir->sync_dir(dir->ctx, "");
    }
    if (result == PAGENT_OK) return PAGENT_OK;
    (void)dir->close(dir->ctx, *file);
    if (!*published) (void)dir->remove(dir->ctx, temp); /* what is left over is removed when the store is opened */
    return result == PAGENT_E_EXISTS ? PAGENT_E_FENCED : result;
}

/* Writes the same bytes again where nobody knows that they are durable, and syncs: after a failed sync the system may
   show bytes that the disk does not have. */
static int pai_prove_tail(pagent_files *files, pai_log *log)
{
    const pagent_dev *dev = &files->dir.dev;
    pai_segment *segment;
    uint64_t at = log->durable;
    int result = PAGENT_OK;
    if (at >= log->cut) return PAGENT_OK;
    result = pai_get_segment(files, log->stream, log->number, &segment);
    while (result == PAGENT_OK && at < log->cut) {
        size_t piece = log->cut - at < PAI_WINDOW ? (size_t)(log->cut - at) : (size_t)PAI_WINDOW;
        uint8_t *bytes;
        result = pai_window(files, segment->file, at, piece, &bytes);
        if (result == PAGENT_OK) result = pai_write_all(dev, segment->file, bytes, piece, at);
        at += piece;
    }
    if (result == PAGENT_OK) result = dev->sync(dev->ctx, segment->file);
    if (result == PAGENT_OK) log->durable = log->end;
    return result;
}

/* Cuts a segment that takes no more blocks to its end: its preallocated space is given back. Only tidiness: its failure
   is none of ours. */
static void pai_release_segment(pagent_files *files, uint64_t stream, uint32_t number, uint64_t end)
{
    pai_segment *segment;
    if (number == 0 || pai_get_segment(files, stream, number, &segment) != PAGENT_OK) return;
    files->window_file = 0;
    (void)files->dir.dev.truncate(files->dir.dev.ctx, segment->file, end);
}

/* The same for a segment that was another's when we took over, now that a block of ours is acknowledged. Before that, a
   third may have found a late block of the other's behind our cut, and built on it. */
static void pai_release_followed(pagent_files *files, pai_log *log)
{
    pai_segment *segment;
    if (!log->follows || pai_get_segment(files, log->stream, log->number, &segment) != PAGENT_OK) return;
    log->follows = 0;
    pai_release_segment(files, log->stream, segment->before, segment->before_cut);
}

/* The highest number of a log's segments in the directory; 0: it has none. */
static int pai_find_newest(const pagent_files *files, uint64_t stream, uint32_t *newest)
{
    char name[PAGENT_NAME_MAX + 1];
    uint32_t index;
    pai_listed listed;
    int result = PAGENT_OK;
    for (*newest = 0, index = 0; result == PAGENT_OK; index++) {
        result = files->dir.list(files->dir.ctx, "", index, name);
        if (result != PAGENT_OK || pai_parse_segment_name(name, &listed) <= 0 || listed.major != stream) continue;
        if (listed.minor > *newest) *newest = (uint32_t)listed.minor;
    }
    return result == PAGENT_END ? PAGENT_OK : result;
}

/* We have published a segment: have we slept through another's claim? FENCED: one of the segments that were void when
   we looked has a block by now; or ours has a number that was used before, and trimmed: then it is removed again. */
static int pai_check_claim(pagent_files *files, const pai_log *log, const pai_log *made)
{
    const pagent_dir *dir = &files->dir;
    uint32_t at = log->number + 1, newest;
    int result = PAGENT_OK, slept = 0;
    if (log->number != 0) {
        slept = pai_segment_exists(files, log->stream, log->number);
        if (slept >= 0) slept = slept == 0;
    } else if (log->stream == 0) {
        slept = pai_find_newest(files, 0, &newest);
        if (slept >= 0) slept = newest > made->number;
    }
    if (slept < 0) return slept;
    if (slept) {
        (void)dir->remove(dir->ctx, pai_segment_name(files, made->stream, made->number));
        (void)dir->sync_dir(dir->ctx, "");
    }
    for (; log->number != 0 && !slept && result == PAGENT_OK && at < made->number; at++) {
        pai_segment *segment;
        result = pai_get_segment(files, log->stream, at, &segment);
        if (result == PAGENT_OK) result = pai_has_block(files, segment, segment->start, &slept);
    }
    return slept ? PAGENT_E_FENCED : result;
}

/* The next segment of a log, ours. `claim`: the one before it was another's, who may still be writing to it. */
static int pai_new_segment(pagent_files *files, pai_log *log, int claim)
{
    pai_log made;
    uint32_t tries;
    for (tries = 0; tries < PAI_TRIES; tries++) {
        uint64_t cut = log->cut;
        pai_block header;
        enum pai_bad bad;
        int published = 0, file = 0, result;
        if (log->newest >= PAI_SEGMENT_MAX) return PAGENT_E_LIMIT;
        pai_clear(&made, sizeof made);
        made.stream = log->stream;
        made.number = made.newest = log->newest + 1;
        made.claimed = 1;
        made.grow = log->grow != 0 ? log->grow : (uint32_t)PAI_GROW_MIN;
        result = pai_make_segment_head(files, log, &made);
        if (result == PAGENT_OK) result = pai_publish_segment(files, &made, &file, &published);
        if (result == PAGENT_E_FENCED || (result != PAGENT_OK && published)) return pai_give_up(files, result);
        if (result != PAGENT_OK) return result;
        (void)files->dir.close(files->dir.ctx, file); /* synced; opened again by its name */
        if (files->window_file == file) files->window_file = 0;
        log->newest = made.number;
        if (claim && log->number != 0) {
            result = pai_scan_more(files, log, UINT64_MAX, &header, &bad);
            if (result == PAGENT_OK && log->cut != cut) result = pai_prove_tail(files, log);
        }
        if (result == PAGENT_OK) result = pai_check_claim(files, log, &made);
        if (result != PAGENT_OK) return pai_give_up(files, result);
        if (log->cut == cut) break; /* otherwise it is void: somebody was acknowledged in between */
    }
    if (tries == PAI_TRIES) return pai_give_up(files, PAGENT_E_FENCED);
    if (log->unsealed) files->unsealed--;
    if (!claim) pai_release_segment(files, log->stream, log->number, log->cut);
    made.follows = claim != 0;
    *log = made;
    files->cursor.stream = 0;
    return PAGENT_OK;
}

/* ---- Opening, and looking again beside a live writer. */

/* Rules 1 to 7 for the end of a loaded log: what was torn off is reported and then cut off, by a segment of our own
   (until that is published, the old one may still be somebody's). Then what is left is made durable. `lost`: it ends
   before a block that was durable when it was loaded before, so nothing is to be cut off. */
static int pai_repair_log(pagent_files *files, pai_log *log, int lost, enum pai_bad bad, pai_block *header)
{
    pai_finding found;
    pai_segment *segment;
    size_t got = 0;
    int result = pai_get_segment(files, log->stream, log->number, &segment), repair;
    if (result == PAGENT_OK) result = pai_classify(files, segment, log->end, bad, header, &found);
    if (result != PAGENT_OK) return result;
    if (found.report.damage == PAGENT_DAMAGE_SUSPECT && files->options.truncate_suspect) {
        pai_find_says(&found, PAGENT_TORN, PAGENT_OK, "the last block is damaged; cut off as truncate_suspect says");
    }
    if (lost && (found.report.result == PAGENT_OK || found.report.result == PAGENT_E_SUSPECT)) {
        pai_find_says(&found, PAGENT_DAMAGE_LOST_TAIL, PAGENT_E_CORRUPT,
                      "a block that was acknowledged is damaged or gone; this agent stops");
    }
    repair = found.report.damage == PAGENT_TORN || found.report.damage == PAGENT_DIRTY;
    if (found.report.damage == PAGENT_TORN) {
        size_t size = found.report.size < PAI_PAYLOAD_MAX ? (size_t)found.report.size : (size_t)PAI_PAYLOAD_MAX;
        files->scratch.size = 0;
        result = pai_reserve(&files->heap, &files->scratch, size);
        if (result == PAGENT_OK) {
            result = pai_read_all(&files->dir.dev, segment->file, files->scratch.data, size, log->end, &got);
        }
        found.report.bytes.data = files->scratch.data;
        found.report.bytes.size = (uint32_t)got;
    }
    if (result == PAGENT_OK && found.report.damage != PAGENT_CLEAN) {
        result = pai_send_report(files, &found.report, log->stream, log->number, found.what);
    }
    if (result == PAGENT_OK) result = pai_prove_tail(files, log);
    return result == PAGENT_OK && repair ? pai_new_segment(files, log, 1) : result;
}

/* Is the agent's own log in memory? */
static int pai_is_loaded(const pai_head *head)
{
    return head->log != 0 && head->log < PAI_LOG_EMPTY;
}

/* The log of a stream (0: the shared one) as it is in memory: made, empty, when it is not there. */
static int pai_make_log(pagent_files *files, uint64_t stream, pai_log **log)
{
    pai_head *head = NULL;
    uint32_t index = 0;
    int result = PAGENT_OK;
    if (stream != 0) result = pai_make_head(&files->heap, &files->table, stream, &head);
    if (result != PAGENT_OK) return result;
    if (head == NULL ? files->logs.count == 0 : !pai_is_loaded(head)) {
        result = pai_add_item(&files->heap, &files->logs, &index);
        if (result != PAGENT_OK) return result;
        pai_log_at(files, index)->stream = stream;
        if (head != NULL) head->log = index + 1;
    } else if (head != NULL) {
        index = head->log - 1;
    }
    *log = pai_log_at(files, index);
    return PAGENT_OK;
}

/* Logs of agents that sleep take no memory: what is needed stands in their files. */
static void pai_drop_logs(pagent_files *files)
{
    uint32_t i;
    if (!files->per_agent || files->options.read_only || files->failed != 0 || pai_staged_count(files) != 0) return;
    for (i = 0; i < files->logs.count; i++) {
        const pai_log *log = pai_log_at(files, i);
        pai_head *head = pai_find_head(&files->table, log->stream);
        if (head == NULL) continue;
        if (log->claimed && !log->unsealed) pai_release_segment(files, log->stream, log->number, log->end);
        head->log = log->unsealed                            ? PAI_LOG_UNSEALED
                    : log->number != 0 && head->version == 0 ? PAI_LOG_EMPTY
                    : log->claimed                           ? PAI_LOG_OURS
                                                             : 0;
    }
    pai_free_pages(&files->heap, &files->logs);
    pai_clear(&files->logs, sizeof files->logs);
    files->logs.item_size = sizeof(pai_log);
}

/* How bad is what was found in a journal? 0: the error says nothing about the journal. */
static uint32_t pai_gravity(int result)
{
    switch (result) {
    case PAGENT_E_SUSPECT: return 1;
    case PAGENT_E_LOST_TAIL: return 2;
    case PAGENT_E_NEWER: return 3;
    case PAGENT_E_FOREIGN: return 4;
    case PAGENT_E_CORRUPT: return 5;
    default: return 0;
    }
}

/* The log that an agent's blocks are in, loaded; where the agent has none yet, empty. What is loaded again must still
   have the head that the table had, which was durable. */
static int pai_use_log(pagent_files *files, uint64_t stream, pai_log **log)
{
    const pai_head *head = pai_find_head(&files->table, stream);
    uint64_t version = head != NULL ? head->version : 0, link = head != NULL ? head->link : 0;
    int damaged = head != NULL && (head->flags & PAGENT_IS_DAMAGED) != 0;
    int ours = head != NULL && head->log >= PAI_LOG_UNSEALED, more = 1, result;
    int unsealed = head != NULL && head->log == PAI_LOG_UNSEALED;
    uint32_t newest = head != NULL && head->chain != 0 ? pai_node_at(&files->table, head->chain)->segment : 0;
    pai_block header;
    enum pai_bad bad;
    if (!files->per_agent) return pai_make_log(files, 0, log);
    if (head != NULL && pai_is_loaded(head)) return pai_make_log(files, stream, log);
    if (head != NULL && head->log == PAI_LOG_EMPTY) more = pai_find_newest(files, stream, &newest);
    while (more == 1) {
        more = pai_segment_exists(files, stream, newest + 1);
        if (more == 1) newest++;
    }
    if (more < 0) return more;
    result = pai_make_log(files, stream, log);
    if (result != PAGENT_OK || newest == 0) return result;
    (*log)->start = 1; /* the table has this log's agent: loading forgets it first */
    result = pai_load_log(files, *log, newest, &header, &bad);
    (*log)->grow = PAI_GROW_MIN;
    (*log)->claimed = ours && (*log)->number == newest;
    (*log)->unsealed = unsealed && (*log)->claimed;
    if (unsealed && !(*log)->claimed) files->unsealed--;
    if ((*log)->claimed) (*log)->durable = (*log)->end;
    head = pai_find_head(&files->table, stream);
    if (result == PAGENT_OK && damaged) {
        result = pai_taint_stream(files, stream); /* until the store is opened again */
    } else if (result == PAGENT_OK && !files->options.read_only) {
        int lost = head->version < version || (head->version == version && head->link != link);
        result = pai_repair_log(files, *log, lost, bad, &header);
    }
    if (result == PAGENT_OK && !(head->flags & PAGENT_IS_DAMAGED)) return PAGENT_OK;
    if (result != PAGENT_OK && pai_gravity(result) == 0) return pai_give_up(files, result);
    if (result != PAGENT_OK && pai_taint_stream(files, stream) != PAGENT_OK) return pai_give_up(files, result);
    if ((*log)->unsealed) files->unsealed--;
    (*log)->claimed = (*log)->unsealed = 0; /* nothing is written behind damage, not even a SEAL */
    return result;
}

/* Brings one log up to date with the directory: loads it when its newest segment is not the one known, or reads on. */
static int pai_update_log(pagent_files *files, uint64_t stream, uint32_t newest)
{
    pai_log *log;
    pai_block header;
    enum pai_bad bad = PAI_GOOD;
    int result = pai_make_log(files, stream, &log);
    if (result != PAGENT_OK) return result;
    if (log->newest == newest && log->number == newest) {
        result = pai_scan_more(files, log, UINT64_MAX, &header, &bad);
    } else { /* also a void one may have been written to since */
        result = pai_load_log(files, log, newest, &header, &bad);
    }
    if (result != PAGENT_OK) return result;
    if (!files->options.read_only) return pai_repair_log(files, log, 0, bad, &header);
    log->durable = log->end;
    return PAGENT_OK;
}

/* Brings all logs up to date (or one agent's: `stream`) with the directory, or with the listing of it that was just
   made. For a reader, segments may come and go while it looks. */
static int pai_update(pagent_files *files, uint64_t stream, int listed_now)
{
    uint32_t tries;
    int result = PAGENT_OK;
    for (tries = 0; tries < PAI_TRIES; tries++) {
        size_t first, last;
        int found;
        if (!listed_now || tries != 0) result = pai_list_segments(files, 0);
        if (result == PAGENT_OK && pai_listed_count(&files->listed) != 0)
            files->per_agent = pai_listed_at(&files->listed, 0)->major != 0;
        for (first = 0; result == PAGENT_OK; first = last + 1) {
            const pai_listed *newest;
            found = pai_listed_log(files, &first, &last);
            if (found == PAGENT_END) break;
            newest = pai_listed_at(&files->listed, last);
            if (stream != 0 && files->per_agent && newest->major != stream) continue;
            if (found == PAGENT_OK) found = pai_update_log(files, newest->major, (uint32_t)newest->minor);
            result = newest->major != 0 && pai_gravity(found) != 0 ? pai_taint_stream(files, newest->major) : found;
        }
        if (result != PAGENT_E_NOT_FOUND || !files->options.read_only) break;
    }
    return result;
}

static int pai_free_files(pagent_files *files)
{
    pai_heap heap = files->heap;
    int result = PAGENT_OK, closed;
    uint32_t i;
    for (i = 0; i < PAI_SEGMENTS_OPEN; i++) {
        closed = pai_close_segment(files, &files->segments[i]);
        if (closed != PAGENT_OK) result = closed;
    }
    if (files->locked) {
        closed = files->dir.unlock(files->dir.ctx);
        if (closed != PAGENT_OK) result = closed;
    }
    pai_free_pages(&heap, &files->table.heads);
    pai_free_pages(&heap, &files->table.nodes);
    pai_free_pages(&heap, &files->table.due);
    pai_free(&heap, files->table.index, files->table.index_room * sizeof(uint32_t));
    pai_free_pages(&heap, &files->logs);
    pai_free_buffer(&heap, &files->window);
    pai_free_buffer(&heap, &files->batch);
    pai_free_buffer(&heap, &files->staged);
    pai_free_buffer(&heap, &files->scratch);
    pai_free_buffer(&heap, &files->places);
    pai_free_buffer(&heap, &files->listed);
    pai_free_buffer(&heap, &files->inbox);
    pai_free(&heap, files, sizeof *files);
    return result;
}

static int pai_check_dir(const pagent_dir *dir)
{
    const pagent_dev *dev = &dir->dev;
    return dir->size == sizeof *dir && dev->size == sizeof *dev && dev->pread != NULL && dev->pwrite != NULL &&
           dev->sync != NULL && dev->truncate != NULL && dev->file_size != NULL && dir->open != NULL &&
           dir->create_temp != NULL && dir->publish != NULL && dir->close != NULL && dir->remove != NULL &&
           dir->exists != NULL && dir->list != NULL && dir->sync_dir != NULL && dir->lock != NULL &&
           dir->unlock != NULL;
}

/* A store with nothing opened yet. E_ARGUMENT: a callback is missing, or a size is not set. */
static int pai_make_files(pagent_files **made, const pagent_dir *dir, const pagent_host *host,
                          const pagent_file_options *options)
{
    pai_heap heap;
    pagent_files *files;
    if (dir == NULL || host == NULL || !pai_check_dir(dir) || host->allocate == NULL || host->random == NULL ||
        host->clock_ms == NULL || (options != NULL && options->size != sizeof *options)) {
        return PAGENT_E_ARGUMENT;
    }
    heap.allocate = host->allocate;
    heap.ctx = host->ctx;
    files = (pagent_files *)pai_allocate(&heap, sizeof *files);
    if (files == NULL) return PAGENT_E_MEMORY;
    files->dir = *dir;
    files->host = *host;
    if (options != NULL) files->options = *options;
    files->heap = heap;
    pai_crc_init(&files->crc);
    files->table.heads.item_size = sizeof(pai_head);
    files->table.nodes.item_size = sizeof(pai_node);
    files->table.due.item_size = sizeof(uint32_t);
    files->logs.item_size = sizeof(pai_log);
    *made = files;
    return PAGENT_OK;
}

/* Everything that opening does after the lock. */
static int pai_open_logs(pagent_files *files)
{
    pai_log *shared;
    uint32_t wanted = files->options.log_per_agent != 0;
    int result = pai_list_segments(files, !files->options.read_only);
    if (result != PAGENT_OK) return result;
    files->per_agent = pai_listed_count(&files->listed) != 0 ? pai_listed_at(&files->listed, 0)->major != 0 : wanted;
    if (!files->options.read_only && files->per_agent != wanted) {
        return pai_say(files, PAGENT_E_ARGUMENT, "",
                       wanted ? "the directory has one shared log: clear log_per_agent"
                              : "the directory has a log per agent: set log_per_agent");
    }
    if (!files->per_agent) result = pai_make_log(files, 0, &shared);
    if (result == PAGENT_OK) result = pai_update(files, 0, 1);
    pai_drop_logs(files);
    pai_free_buffer(&files->heap, &files->listed);
    return result;
}

PAGENT_API int pagent_open_files(pagent_files **out, const pagent_dir *dir, const pagent_host *host,
                                 const pagent_file_options *options, char text[PAGENT_TEXT_SIZE])
{
    pagent_files *files = NULL;
    pai_text say;
    int result = out != NULL ? pai_make_files(&files, dir, host, options) : PAGENT_E_ARGUMENT;
    if (out != NULL) *out = NULL;
    if (text != NULL) say = pai_text_begin(text, PAGENT_TEXT_SIZE);
    if (text != NULL && result != PAGENT_OK) {
        pai_text_add(&say, result == PAGENT_E_MEMORY ? "no memory"
                                                     : "dir, host, options: a callback is NULL or a size not set");
    }
    if (result != PAGENT_OK) return result;
    if (!files->options.read_only) {
        result = dir->lock(dir->ctx);
        files->locked = result == PAGENT_OK;
        if (result == PAGENT_E_LOCKED) {
            (void)pai_say(files, result, "",
                          "this store is open for writing elsewhere: send its owner messages, or stop it");
        }
        if (result == PAGENT_E_STORAGE) (void)pai_say(files, result, "lock", ": may this process write here?");
    }
    if (result == PAGENT_OK) result = pai_open_logs(files);
    if (result == PAGENT_OK) {
        *out = files;
        return PAGENT_OK;
    }
    if (files->text[0] == 0) (void)pai_say(files, result, "", pagent_message(result));
    if (text != NULL) pai_copy(text, files->text, PAGENT_TEXT_SIZE);
    (void)pai_free_files(files);
    return result;
}

/* ---- Appending: stage in memory; then one write and one sync for all. */

/* Time for a new segment? A shared log: when its blocks outgrow the limit, and the INDEX. An agent's log: at a block
   with a snapshot, so that opening needs no other segment. */
static int pai_wants_segment(const pagent_files *files, const pai_log *log, int has_snapshot)
{
    uint64_t bytes = log->end - log->start, limit = files->options.segment_size;
    if (log->durable != log->end) return 0; /* something is staged: not in the middle of a batch */
    if ((log->end + PAI_PAYLOAD_MAX) / PAI_LINE > UINT32_MAX) return 1;
    if (limit != 0) return files->per_agent ? has_snapshot && log->end >= limit : bytes >= limit && bytes >= log->start;
    if (log->blocks < PAI_BLOCKS_MAX && bytes < (files->per_agent ? 1u << 20 : (uint32_t)PAI_SEGMENT_BYTES)) return 0;
    return files->per_agent ? has_snapshot : bytes >= PAI_INDEX_SHARE * log->start;
}

/* Makes the log ours, and gives it a new segment when it is time. */
static int pai_ready_log(pagent_files *files, pai_log *log, int has_snapshot)
{
    int result;
    if (!log->claimed) return pai_new_segment(files, log, 1);
    if (!pai_wants_segment(files, log, has_snapshot)) return PAGENT_OK;
    result = pai_new_segment(files, log, 0);
    return result == PAGENT_E_NO_SPACE ? PAGENT_OK : result; /* go on in this one, as long as there is room */
}

/* Takes back what is staged from number `from` on, the newest first. */
static void pai_undo(pagent_files *files, size_t from)
{
    pai_heads *table = &files->table;
    size_t i;
    for (i = pai_staged_count(files); i-- > from;) {
        const pai_staged *staged = pai_staged_at(files, i);
        pai_head *head = pai_head_at(table, staged->head), now;
        pai_free_chain(table, head->chain, staged->superseded ? 0 : staged->before.chain);
        if (staged->before.chain != 0) *pai_node_at(table, staged->before.chain) = staged->node;
        pai_set_due(table, head, staged->before.due_ms);
        now = *head;
        *head = staged->before;
        head->due_place = now.due_place;
        head->log = now.log;
        pai_log_at(files, staged->log)->end = staged->offset;
        files->batch.size -= staged->size;
    }
    files->staged.size = from * sizeof(pai_staged);
}

/* Is the block at `block` whole, valid, the request's number `index`, and does it follow the head? */
static int pai_check_item(const pai_crc *crc, const pagent_append *request, uint32_t index, const pai_head *head,
                          const uint8_t *block, uint32_t size, pai_block *header, pagent_summary *summary)
{
    if (size < 2 * PAI_LINE || pai_decode_header(crc, block, 0, header) != PAGENT_OK || pai_block_size(header) > size ||
        pai_check_payload(crc, block, header) != PAGENT_OK || pai_block_summary(block, header, summary) != PAGENT_OK) {
        return PAGENT_E_CORRUPT;
    }
    if (header->stream != request->stream || header->version != request->first + index) return PAGENT_E_ARGUMENT;
    if (!pai_follows(head, header)) return head->version != 0 ? PAGENT_E_CONFLICT : PAGENT_E_ARGUMENT;
    return PAGENT_OK;
}

/* Copies the blocks into the batch, and checks, enters and places the copy block by block: all, or nothing. */
static int pai_stage(pagent_files *files, const pagent_append *request, pai_head *head, uint32_t log_index)
{
    pai_log *log = pai_log_at(files, log_index);
    size_t number = pai_staged_count(files);
    uint32_t at = 0, count = 0;
    uint8_t *blocks;
    pai_staged staged;
    int result = pai_reserve(&files->heap, &files->batch, request->size);
    pai_clear(&staged, sizeof staged);
    staged.before = *head;
    if (head->chain != 0) staged.node = *pai_node_at(&files->table, head->chain);
    staged.head = pai_head_index(&files->table, head);
    staged.log = log_index;
    staged.size = request->size;
    staged.offset = log->end;
    if (result == PAGENT_OK) result = pai_append_bytes(&files->heap, &files->staged, &staged, sizeof staged);
    if (result != PAGENT_OK) return result;
    blocks = files->batch.data + files->batch.size;
    pai_copy(blocks, request->blocks, request->size);
    files->batch.size += request->size;
    while (at < request->size && result == PAGENT_OK) {
        uint8_t *block = blocks + at;
        pai_block header;
        pagent_summary summary;
        result = pai_check_item(&files->crc, request, count++, head, block, request->size - at, &header, &summary);
        if (result == PAGENT_OK) {
            result = pai_enter_block(files, &header, &summary, pai_link(&files->crc, block), log->number, log->end,
                                     pai_staged_at(files, number));
        }
        if (result != PAGENT_OK) break;
        pai_place_block(&files->crc, block, log->id, log->end, (uint32_t)((log->end - log->durable) / PAI_LINE));
        log->end += pai_block_size(&header);
        at += pai_block_size(&header);
    }
    if (result == PAGENT_OK && count != request->count) result = PAGENT_E_ARGUMENT;
    if (result != PAGENT_OK) {
        pai_undo(files, number);
        return result;
    }
    log->blocks += count;
    pai_staged_at(files, number)->link = head->link;
    return PAGENT_OK;
}

/* Does the request go on from where the agent is? */
static int pai_check_head(const pagent_append *request, const pai_head *head)
{
    if (head->flags & PAGENT_IS_DAMAGED) return PAGENT_E_CORRUPT;
    if (head->version != request->expected) return PAGENT_E_CONFLICT;
    if (request->epoch < head->epoch) return PAGENT_E_FENCED;
    return request->first == request->expected + 1 || request->expected == 0 ? PAGENT_OK : PAGENT_E_ARGUMENT;
}

/* Space for the request and, except for what may use it, for the reserve behind it. */
static int pai_make_room(pagent_files *files, pai_log *log, const pagent_append *request)
{
    uint64_t need = log->end + request->size;
    pai_segment *segment;
    int result;
    if (need + PAI_ROOM_KEPT <= log->allocated) return PAGENT_OK;
    result = pai_get_segment(files, log->stream, log->number, &segment);
    if (result == PAGENT_OK) result = pai_grow_file(files, log, segment->file, need + PAI_ROOM_KEPT);
    if (result == PAGENT_E_NO_SPACE && (request->flags & PAGENT_APPEND_RESERVE) && need <= log->allocated) {
        result = PAGENT_OK;
    }
    if (result == PAGENT_OK || result == PAGENT_E_NO_SPACE || result == PAGENT_E_MEMORY) return result;
    return pai_give_up(files, result);
}

/* Of what was staged last everything but its first line is made durable: the flush writes that line, and with it all of
   it is there. Before that none of it counts: no later block says that its first one was durable. */
static int pai_write_ahead(pagent_files *files)
{
    const pagent_dev *dev = &files->dir.dev;
    const pai_staged *staged = pai_staged_at(files, pai_staged_count(files) - 1);
    const uint8_t *blocks = files->batch.data + files->batch.size - staged->size;
    const pai_log *log = pai_log_at(files, staged->log);
    pai_segment *segment;
    int result = pai_get_segment(files, log->stream, log->number, &segment);
    files->window_file = 0;
    if (result == PAGENT_OK) {
        result =
            pai_write_all(dev, segment->file, blocks + PAI_LINE, staged->size - PAI_LINE, staged->offset + PAI_LINE);
    }
    if (result == PAGENT_OK) result = dev->sync(dev->ctx, segment->file);
    return result == PAGENT_OK ? result : pai_give_up(files, result);
}

static int pai_files_append(void *ctx, const pagent_append *request, pagent_io *io)
{
    pagent_files *files = (pagent_files *)ctx;
    pai_head *head;
    pai_log *log;
    int result;
    if (files->failed != 0) return files->failed;
    if (files->options.read_only) return PAGENT_E_READ_ONLY;
    if (request->stream == 0 || request->blocks == NULL || request->size == 0 || request->epoch > UINT32_MAX) {
        return PAGENT_E_ARGUMENT;
    }
    if (request->size < 2 * PAI_LINE) return PAGENT_E_CORRUPT;
    result = pai_make_head(&files->heap, &files->table, request->stream, &head);
    if (result != PAGENT_OK) return result;
    result = pai_check_head(request, head);
    if (result == PAGENT_OK) result = pai_use_log(files, request->stream, &log);
    if (result == PAGENT_OK) result = pai_check_head(request, head); /* loading found damage, or others' blocks? */
    if (result == PAGENT_OK) result = pai_ready_log(files, log, (request->blocks[57] & PAI_CARRIES_SNAPSHOT) != 0);
    if (result == PAGENT_OK) result = pai_check_head(request, head); /* claiming found others' blocks? */
    if (result == PAGENT_OK) result = pai_make_room(files, log, request);
    if (result == PAGENT_OK) result = pai_stage(files, request, head, files->per_agent ? head->log - 1 : 0);
    if (result == PAGENT_OK && request->count > 1 && (request->flags & PAGENT_APPEND_WHOLE)) {
        result = pai_write_ahead(files);
    }
    if (result == PAGENT_E_CONFLICT) io->version = head->version;
    return result == PAGENT_OK ? PAGENT_STAGED : result;
}

/* ---- Flushing. */

/* Is the log's segment still ours to write to? The next number must be free, and then our own file still there: a
   writer that came after us, and has trimmed its traces away, removed ours first. */
static int pai_check_fence(pagent_files *files, const pai_log *log)
{
    int found = pai_segment_exists(files, log->stream, log->number + 1);
    if (found == 0) {
        found = pai_segment_exists(files, log->stream, log->number);
        if (found == 1) return PAGENT_OK;
    }
    return found < 0 ? found : PAGENT_E_FENCED;
}

/* A run: staged items from `at` on that are neighbours in one log. Returns where the next one begins. */
static size_t pai_batch_run(const pagent_files *files, size_t at, size_t *size)
{
    uint32_t log = pai_staged_at(files, at)->log;
    for (*size = 0; at < pai_staged_count(files) && pai_staged_at(files, at)->log == log; at++) {
        *size += pai_staged_at(files, at)->size;
    }
    return at;
}

/* Writes runs from item *at on, each with one write, as many as there may be open files; then syncs each once. */
static int pai_flush_runs(pagent_files *files, size_t *at, size_t *from)
{
    const pagent_dev *dev = &files->dir.dev;
    size_t end = *at, size, runs;
    pai_segment *segment;
    int result = PAGENT_OK;
    files->window_file = 0;
    for (runs = 0; end < pai_staged_count(files) && runs < PAI_SEGMENTS_OPEN / 2; runs++) {
        const pai_staged *first = pai_staged_at(files, end);
        const pai_log *log = pai_log_at(files, first->log);
        end = pai_batch_run(files, end, &size);
        result = pai_get_segment(files, log->stream, log->number, &segment);
        if (result == PAGENT_OK)
            result = pai_write_all(dev, segment->file, files->batch.data + *from, size, first->offset);
        if (result != PAGENT_OK) return result;
        *from += size;
    }
    while (*at < end) {
        const pai_staged *first = pai_staged_at(files, *at);
        pai_log *log = pai_log_at(files, first->log);
        *at = pai_batch_run(files, *at, &size);
        result = pai_get_segment(files, log->stream, log->number, &segment);
        if (result == PAGENT_OK) result = dev->sync(dev->ctx, segment->file);
        if (result == PAGENT_OK) result = pai_check_fence(files, log);
        if (result != PAGENT_OK) return result == PAGENT_E_FENCED ? result : PAGENT_E_IN_DOUBT;
        log->durable = log->cut = first->offset + size;
        log->last_link = pai_staged_at(files, *at - 1)->link;
        if (!log->unsealed) files->unsealed++;
        log->unsealed = 1;
    }
    return PAGENT_OK;
}

/* Zeroes what a batch left behind that met a full disk, so that no later open can take it for committed. Nothing is
   touched when that is too late: some of it is durable (of more logs than open files), or somebody has taken over, and
   may have built on it. */
static int pai_erase_batch(pagent_files *files)
{
    const pagent_dev *dev = &files->dir.dev;
    size_t i, count = pai_staged_count(files);
    int result = PAGENT_OK;
    pai_clear(files->batch.data, files->batch.size);
    for (i = 0; i < count && result == PAGENT_OK; i++) {
        const pai_log *log = pai_log_at(files, pai_staged_at(files, i)->log);
        result = log->durable > pai_staged_at(files, i)->offset ? PAGENT_E_STORAGE : pai_check_fence(files, log);
    }
    for (i = 0; i < count && result == PAGENT_OK; i++) {
        const pai_staged *staged = pai_staged_at(files, i);
        const pai_log *log = pai_log_at(files, staged->log);
        pai_segment *segment;
        result = pai_get_segment(files, log->stream, log->number, &segment);
        if (result == PAGENT_OK) {
            result = pai_write_all(dev, segment->file, files->batch.data, staged->size, staged->offset);
        }
        if (result == PAGENT_OK) result = dev->sync(dev->ctx, segment->file);
    }
    return result;
}

/* A SEAL: says that all before it was durable, so that damage found there later is known as damage. */
static int pai_seal_log(pagent_files *files, pai_log *log)
{
    const pagent_dev *dev = &files->dir.dev;
    pai_log sealed;
    pai_segment *segment;
    uint8_t *section;
    int result = pai_get_segment(files, log->stream, log->number, &segment);
    if (result == PAGENT_OK) result = pai_grow_file(files, log, segment->file, log->end + 4 * PAI_LINE);
    if (result == PAGENT_E_NO_SPACE) return PAGENT_OK; /* a seal is not worth an error */
    sealed = *log;
    files->scratch.size = 0;
    if (result == PAGENT_OK) result = pai_begin_log_block(files, &files->scratch, PAI_TAG_SEAL, 8, &section);
    if (result != PAGENT_OK) return result;
    pai_put64(section, files->host.clock_ms(files->host.ctx));
    pai_end_log_block(files, &files->scratch, &sealed, PAI_SEAL, 8);
    files->window_file = 0;
    result = pai_write_all(dev, segment->file, files->scratch.data, files->scratch.size, log->end);
    if (result == PAGENT_OK) result = dev->sync(dev->ctx, segment->file);
    if (result == PAGENT_OK) result = pai_check_fence(files, log);
    if (result != PAGENT_OK) return pai_give_up(files, result);
    *log = sealed;
    log->durable = log->end;
    log->unsealed = 0;
    files->unsealed--;
    return PAGENT_OK;
}

static int pai_seal_all(pagent_files *files)
{
    pai_log *log;
    uint32_t i;
    int result = PAGENT_OK;
    for (i = 0; i < files->logs.count && files->unsealed != 0 && result == PAGENT_OK; i++) {
        if (pai_log_at(files, i)->unsealed) result = pai_seal_log(files, pai_log_at(files, i));
    }
    for (i = 0; i < files->table.heads.count && files->unsealed != 0 && result == PAGENT_OK; i++) {
        const pai_head *head = pai_head_at(&files->table, i);
        if (head->log != PAI_LOG_UNSEALED) continue;
        if (files->logs.count >= PAI_PAGE_ITEMS) pai_drop_logs(files);
        result = pai_use_log(files, head->stream, &log);
        if (result == PAGENT_OK && log->unsealed) result = pai_seal_log(files, log);
        if (pai_gravity(result) != 0) result = PAGENT_OK; /* found damaged, and stopped: no affair of the others */
    }
    if (result == PAGENT_OK && files->logs.count > PAI_SEGMENTS_OPEN) pai_drop_logs(files);
    return result;
}

static int pai_files_flush(void *ctx, pagent_op op, pagent_io *io)
{
    pagent_files *files = (pagent_files *)ctx;
    size_t at = 0, from = 0, i, count = pai_staged_count(files);
    int result = PAGENT_OK;
    (void)op;
    (void)io;
    if (files->failed != 0) return files->failed;
    if (count == 0) return pai_seal_all(files);
    while (result == PAGENT_OK && at < count) result = pai_flush_runs(files, &at, &from);
    if (result == PAGENT_E_NO_SPACE) {
        result = pai_erase_batch(files);
        if (result == PAGENT_OK) pai_undo(files, 0);
        if (result == PAGENT_OK) return PAGENT_E_NO_SPACE;
        if (result == PAGENT_E_FENCED) result = PAGENT_E_IN_DOUBT; /* whoever took over may have taken it over, too */
    }
    if (result != PAGENT_OK) {
        pai_undo(files, 0);
        (void)pai_give_up(files, result);
        return result == PAGENT_E_FENCED ? result : PAGENT_E_IN_DOUBT;
    }
    for (i = 0; i < count; i++) {
        const pai_staged *staged = pai_staged_at(files, i);
        if (staged->superseded) pai_free_chain(&files->table, staged->before.chain, 0);
        pai_release_followed(files, pai_log_at(files, staged->log));
    }
    files->staged.size = 0;
    files->last_batch = files->batch.size;
    files->batch.size = 0;
    if (files->logs.count > PAI_LOGS_KEPT && files->logs.count > 4 * count) pai_drop_logs(files); /* most sleep */
    return PAGENT_OK;
}

/* ---- Reading. */
typedef struct pai_reading { /* a read under way */
    const pagent_read *request;
    pai_head head;    /* what is durable of it */
    pai_node node;    /* its chain's newest */
    pai_log *log;     /* for old history */
    uint64_t link;    /* of the block read last; 0: none yet */
    uint64_t version; /* of the block wanted next */
    uint64_t last;    /* no block after this one is wanted */
    uint32_t used;    /* bytes of the buffer */
    uint32_t count;
    uint32_t needed; /* bytes of the block that did not fit; 0: all did */
    uint32_t base;   /* `version` is to become that of the newest snapshot at or before it; */
    uint32_t oldest; /* or that of the oldest snapshot that is kept */
} pai_reading;

static int pai_read_damaged(pagent_files *files, const pai_reading *reading, uint32_t number, uint64_t offset,
                            const char *what)
{
    pagent_damage_report report;
    pai_begin_report(&report, PAGENT_DAMAGE_MIDDLE, PAGENT_E_CORRUPT, offset);
    report.stream = reading->head.stream;
    report.version = reading->version;
    return pai_send_report(files, &report, files->per_agent ? reading->head.stream : 0, number, what);
}

/* Reads the block at `offset` into the buffer if it fits and is the one expected: checked as if never seen before. */
static int pai_read_block(pagent_files *files, pai_reading *reading, const pai_segment *segment, uint64_t offset)
{
    const pagent_read *request = reading->request;
    uint8_t *bytes, *block = request->buffer + reading->used;
    pai_block header;
    uint32_t size;
    int result = pai_window(files, segment->file, offset, PAI_HEADER, &bytes);
    if (result != PAGENT_OK && result != PAGENT_E_CORRUPT) return result;
    if (result != PAGENT_OK || pai_decode_header(&files->crc, bytes, offset, &header) != PAGENT_OK ||
        header.log != segment->id || header.stream != reading->head.stream || header.version != reading->version ||
        (reading->link != 0 && header.previous != reading->link)) {
        return pai_read_damaged(files, reading, segment->number, offset, "not the block that must stand here");
    }
    size = pai_block_size(&header);
    if (size > request->capacity - reading->used) {
        reading->needed = size;
        return PAGENT_OK;
    }
    if (size > PAI_WINDOW) { /* not through the window: that stays small */
        size_t got;
        result = pai_read_all(&files->dir.dev, segment->file, block, size, offset, &got);
        if (result == PAGENT_OK && got != size) result = PAGENT_E_CORRUPT;
    } else {
        result = pai_window(files, segment->file, offset, size, &bytes);
        if (result == PAGENT_OK) pai_copy(block, bytes, size);
    }
    if (result == PAGENT_OK) result = pai_check_payload(&files->crc, block, &header);
    if (result == PAGENT_E_CORRUPT) {
        return pai_read_damaged(files, reading, segment->number, offset, "the block is damaged");
    }
    if (result != PAGENT_OK) return result;
    reading->link = pai_link(&files->crc, block);
    if (reading->version == reading->head.version && reading->link != reading->head.link) {
        return pai_read_damaged(files, reading, segment->number, offset, "another block than the one written last");
    }
    pai_place_block(&files->crc, block, 0, 0, 0);
    reading->used += size;
    reading->count++;
    reading->version++;
    return PAGENT_OK;
}

/* From a version that the chain has: where its block stands is known. */
static int pai_read_chain(pagent_files *files, pai_reading *reading)
{
    uint32_t count = (uint32_t)(reading->head.version - reading->version + 1);
    int result = pai_collect_chain(&files->heap, &files->table, &reading->node, count, &files->places);
    while (result == PAGENT_OK && count != 0 && reading->version <= reading->last && reading->needed == 0) {
        pai_location place = ((const pai_location *)(const void *)files->places.data)[--count];
        uint64_t offset = (uint64_t)place.line * PAI_LINE;
        pai_segment *segment;
        result = pai_get_segment(files, files->per_agent ? reading->head.stream : 0, place.segment, &segment);
        if (result == PAGENT_E_NOT_FOUND && !files->options.read_only) {
            return pai_read_damaged(files, reading, place.segment, offset, "the segment is missing; put it back");
        }
        if (result == PAGENT_OK) result = pai_read_block(files, reading, segment, offset);
    }
    if (files->places.capacity > PAI_WINDOW) pai_free_buffer(&files->heap, &files->places);
    return result;
}

/* ---- Older history: back from the newest segment, INDEX by INDEX, to the one that has the version; then forward,
   block by block. A cursor remembers where the last read stopped, so that reading on costs what it reads. */

/* Which segment comes after `number` (0: none), and where the blocks of `number` end. Several may name it: the one that
   is not void is the one that a later segment leads back to. */
static int pai_find_successor(pagent_files *files, const pai_log *log, uint32_t number, uint32_t *next, uint64_t *limit)
{
    pai_segment *segment;
    uint32_t at = number;
    int result = PAGENT_OK;
    *next = 0;
    *limit = log->durable;
    while (number != log->number && at < log->number) {
        result = pai_get_segment(files, log->stream, ++at, &segment);
        if (result != PAGENT_OK || segment->before > number) break;
    }
    while (result == PAGENT_OK && at > number) {
        result = pai_get_segment(files, log->stream, at, &segment);
        if (result == PAGENT_OK && segment->before == number) {
            *next = at;
            *limit = segment->before_cut;
            break;
        }
        if (result == PAGENT_OK) at = segment->before;
    }
    return result;
}

typedef struct pai_wanted {
    uint64_t stream;
    uint64_t version; /* its head's in the INDEX; 0: not there */
} pai_wanted;

static int pai_want_record(pagent_files *files, void *ctx, const uint8_t *record, uint32_t count)
{
    pai_wanted *wanted = (pai_wanted *)ctx;
    (void)files;
    (void)count;
    if (pai_get64(record) == wanted->stream) wanted->version = pai_get64(record + 8);
    return PAGENT_OK;
}

/* Sets the cursor to the first block of the segment that has the version wanted, or of the oldest one. */
static int pai_find_history(pagent_files *files, const pai_reading *reading)
{
    const pai_log *log = reading->log;
    uint32_t number = log->number, found = 0, blocks;
    uint64_t id = 0;
    int result;
    files->cursor.stream = 0;
    while (number != 0) {
        pai_segment *segment;
        pai_wanted wanted;
        uint64_t link;
        wanted.stream = reading->head.stream;
        wanted.version = 0;
        result = pai_get_segment(files, log->stream, number, &segment);
        if (result == PAGENT_E_NOT_FOUND) break;
        if (result == PAGENT_OK && id != 0 && segment->id != id) break; /* trimmed, and made again by a zombie */
        if (result == PAGENT_OK) result = pai_look_at_size(files, segment);
        if (result == PAGENT_OK) result = pai_read_index(files, segment, pai_want_record, &wanted, &link, &blocks);
        if (result != PAGENT_OK) return result;
        files->cursor.offset = segment->start;
        if (reading->oldest || wanted.version < reading->version) found = number;
        if (found != 0 && !reading->oldest) break;
        number = segment->before;
        id = segment->before_id;
    }
    if (found == 0) return PAGENT_E_TRIMMED;
    files->cursor.number = found;
    return pai_find_successor(files, log, found, &files->cursor.next, &files->cursor.limit);
}

/* One step of the walk: *here when the block under the cursor is the one wanted. Moves the cursor behind what it skips.
   */
static int pai_walk_step(pagent_files *files, pai_reading *reading, pai_segment **segment, pai_block *header, int *here)
{
    pai_cursor *cursor = &files->cursor;
    uint8_t front[2 * PAI_LINE];
    enum pai_bad bad;
    int result = pai_get_segment(files, reading->log->stream, cursor->number, segment);
    *here = 0;
    if (result == PAGENT_E_NOT_FOUND) return PAGENT_E_TRIMMED;
    if (result != PAGENT_OK) return result;
    if (cursor->number == reading->log->number) cursor->limit = reading->log->durable; /* it grows */
    if (cursor->offset >= cursor->limit) {
        if (cursor->next == 0) return PAGENT_END;
        cursor->number = cursor->next;
        result = pai_get_segment(files, reading->log->stream, cursor->number, segment);
        if (result != PAGENT_OK) return result;
        cursor->offset = (*segment)->start;
        return pai_find_successor(files, reading->log, cursor->number, &cursor->next, &cursor->limit);
    }
    if ((*segment)->size < cursor->limit) result = pai_look_at_size(files, *segment);
    if (result == PAGENT_OK) result = pai_scan_block(files, *segment, cursor->offset, 0, header, front, &bad);
    if (result != PAGENT_OK) return result;
    if (bad != PAI_GOOD) {
        return pai_read_damaged(files, reading, cursor->number, cursor->offset, "the block is damaged");
    }
    if (header->stream == reading->head.stream) {
        if (reading->oldest && (header->version == 1 || (header->flags & PAI_CARRIES_SNAPSHOT))) {
            reading->version = header->version;
            reading->oldest = 0;
        }
        if (!reading->oldest && header->version > reading->version) return PAGENT_E_TRIMMED;
        *here = !reading->oldest && header->version == reading->version;
    }
    if (!*here) cursor->offset += pai_block_size(header);
    return PAGENT_OK;
}

static int pai_read_history(pagent_files *files, pai_reading *reading)
{
    uint64_t stream = reading->head.stream;
    int result = PAGENT_OK, here;
    if (reading->oldest || reading->base || files->cursor.stream != stream ||
        files->cursor.version != reading->version) {
        result = pai_find_history(files, reading);
    }
    files->cursor.stream = 0;
    while (result == PAGENT_OK && reading->version <= reading->last && reading->needed == 0) {
        pai_segment *segment;
        pai_block header;
        result = pai_walk_step(files, reading, &segment, &header, &here);
        if (result != PAGENT_OK || !here) continue;
        if (reading->base) { /* this block knows where its snapshot is */
            reading->base = 0;
            if (header.based >= header.version) return PAGENT_E_CORRUPT;
            if (header.based == 0) continue;
            reading->version = header.version - header.based;
            result = pai_find_history(files, reading);
            continue;
        }
        result = pai_read_block(files, reading, segment, files->cursor.offset);
        if (reading->needed == 0) files->cursor.offset += pai_block_size(&header);
    }
    if (result == PAGENT_END) result = reading->count != 0 ? PAGENT_OK : PAGENT_E_TRIMMED;
    if (result != PAGENT_OK) return result;
    files->cursor.stream = stream;
    files->cursor.version = reading->version;
    return PAGENT_OK;
}

/* What is durable of a head: an append that is staged does not count yet. */
static void pai_durable_head(const pagent_files *files, const pai_head *head, pai_reading *reading)
{
    size_t i;
    uint32_t index = pai_head_index(&files->table, head);
    reading->head = *head;
    if (head->chain != 0) reading->node = *pai_node_at(&files->table, head->chain);
    for (i = 0; i < pai_staged_count(files); i++) {
        const pai_staged *staged = pai_staged_at(files, i);
        if (staged->head != index) continue;
        reading->head = staged->before;
        reading->node = staged->node;
        return;
    }
}

static int pai_read_once(pagent_files *files, const pagent_read *request, pagent_io *io)
{
    const pai_head *head = pai_find_head(&files->table, request->stream);
    pai_reading reading;
    uint64_t chain_first;
    int result = PAGENT_OK;
    if (head == NULL) return PAGENT_OK;
    pai_clear(&reading, sizeof reading);
    reading.request = request;
    pai_durable_head(files, head, &reading);
    io->version = reading.last = reading.head.version;
    if (request->last != 0 && request->last < reading.last) reading.last = request->last;
    if ((reading.head.flags & PAGENT_IS_DAMAGED) &&
        (request->mode == PAGENT_READ_NEWEST || reading.head.version == 0 || request->version > reading.head.version)) {
        return PAGENT_E_CORRUPT;
    }
    if (reading.head.version == 0) return PAGENT_OK;
    chain_first = reading.head.version - reading.head.chain_count + 1;
    reading.version = request->version;
    if (request->mode == PAGENT_READ_FROM && reading.version > reading.head.version) return PAGENT_OK;
    if (request->mode == PAGENT_READ_NEWEST || (request->mode == PAGENT_READ_BASE && reading.version >= chain_first)) {
        reading.version = chain_first;
    }
    if (reading.version == 0) {
        reading.version = 1;
        reading.oldest = request->mode == PAGENT_READ_BASE;
    } else {
        reading.base = request->mode == PAGENT_READ_BASE;
    }
    if (reading.version >= chain_first) {
        result = pai_read_chain(files, &reading);
    } else {
        if (files->logs.count > PAI_PAGE_ITEMS) pai_drop_logs(files);
        result = pai_use_log(files, request->stream, &reading.log);
        if (result == PAGENT_OK) result = pai_read_history(files, &reading);
    }
    if (result != PAGENT_OK && reading.count == 0) return result;
    io->size = reading.count != 0 ? reading.used : reading.needed;
    io->count = reading.count;
    return reading.count == 0 && reading.needed != 0 ? PAGENT_E_LIMIT : PAGENT_OK;
}

static int pai_files_read(void *ctx, const pagent_read *request, pagent_io *io)
{
    pagent_files *files = (pagent_files *)ctx;
    uint32_t tries;
    int result = PAGENT_OK;
    io->size = 0;
    io->count = 0;
    io->version = 0;
    if (files->failed == PAGENT_E_STORAGE) return PAGENT_E_STORAGE;
    if (request->mode > PAGENT_READ_FROM || (request->capacity != 0 && request->buffer == NULL))
        return PAGENT_E_ARGUMENT;
    for (tries = 0; tries < PAI_TRIES; tries++) {
        if (files->options.read_only) result = pai_update(files, request->stream, 0);
        if (result == PAGENT_OK) result = pai_read_once(files, request, io);
        if (result != PAGENT_E_NOT_FOUND || !files->options.read_only) break; /* trimmed while we looked: look again */
        result = PAGENT_OK;
    }
    return tries == PAI_TRIES ? PAGENT_E_AGAIN : result;
}

/* ---- Listing. */
static void pai_list_item(const pai_head *head, const pagent_list *request, pagent_io *io)
{
    pagent_summary *item = &request->items[io->count++];
    item->stream = head->stream;
    item->version = head->version;
    item->due_ms = head->due_ms;
    item->time_ms = head->time_ms;
    item->state = head->state;
    item->status = head->status;
    item->flags = head->flags;
}

/* By due time: a walk over the top of the heap; the cursor is a place in it, + 1. By flags, or all: a walk over the
   heads. */
static int pai_files_list(void *ctx, const pagent_list *request, pagent_io *io)
{
    pagent_files *files = (pagent_files *)ctx;
    const pai_heads *table = &files->table;
    uint64_t at = request->cursor, due = request->due_before_ms, later_ms = PAGENT_FOREVER;
    int result = PAGENT_OK;
    io->count = 0;
    io->cursor = 0;
    if (files->failed == PAGENT_E_STORAGE) return PAGENT_E_STORAGE;
    if (request->capacity == 0 || request->items == NULL) return PAGENT_E_ARGUMENT;
    if (files->options.read_only && request->cursor == 0) result = pai_update(files, 0, 0);
    if (result != PAGENT_OK) return result;
    io->next_due_ms = pai_due_after(table, due);
    if (request->flags == 0 && due != 0) {
        uint32_t place = at != 0 ? (uint32_t)at - 1 : 0;
        if (place >= table->due_count || pai_due_ms(table, place) > due) return PAGENT_OK;
        while (place != UINT32_MAX && io->count < request->capacity) {
            pai_list_item(pai_head_at(table, *pai_due_at(table, place)), request, io);
            place = pai_due_step(table, place, due, &later_ms);
        }
        if (place != UINT32_MAX) io->cursor = (uint64_t)place + 1;
        return PAGENT_OK;
    }
    for (; at < table->heads.count; at++) {
        const pai_head *head = pai_head_at(table, (uint32_t)at);
        int wanted = request->flags == 0 || (head->flags & request->flags) != 0 || (due != 0 && head->due_ms <= due);
        if ((head->version == 0 && !(head->flags & PAGENT_IS_DAMAGED)) || !wanted) continue;
        if (io->count == request->capacity) {
            io->cursor = at;
            return PAGENT_OK;
        }
        pai_list_item(head, request, io);
    }
    return PAGENT_OK;
}

/* ---- Trimming: whole segments, the oldest first, that no chain reaches into. */

/* How many bytes of a segment some chain still needs, and one agent that does. */
static int pai_live_bytes(pagent_files *files, uint32_t number, uint64_t *live, uint64_t *stream)
{
    const pai_heads *table = &files->table;
    uint32_t i, index, at;
    for (i = 0, *live = 0, *stream = 0; i < table->heads.count; i++) {
        for (index = pai_head_at(table, i)->chain; index != 0; index = pai_node_at(table, index)->previous) {
            const pai_node *node = pai_node_at(table, index);
            for (at = 0; node->segment == number && at < PAI_NODE_LINES && node->line[at] != 0; at++) {
                uint8_t front[PAI_HEADER];
                pai_segment *segment;
                size_t got;
                int result = pai_get_segment(files, 0, number, &segment);
                if (result == PAGENT_OK) {
                    result = pai_read_all(&files->dir.dev, segment->file, front, PAI_HEADER,
                                          (uint64_t)node->line[at] * PAI_LINE, &got);
                }
                if (result != PAGENT_OK) return result;
                *live += PAI_HEADER + (uint64_t)pai_padded(pai_get32(front + 48));
                *stream = pai_head_at(table, i)->stream;
            }
        }
    }
    return PAGENT_OK;
}

/* The newest segment of a log that we know of; 0: nothing is known of its agent. */
static uint32_t pai_known_segment(const pagent_files *files, uint64_t stream)
{
    const pai_head *head = stream != 0 ? pai_find_head(&files->table, stream) : NULL;
    if (stream == 0) return pai_log_at(files, 0)->number;
    if (head == NULL || head->version == 0) return 0;
    if (pai_is_loaded(head)) return pai_log_at(files, head->log - 1)->newest;
    return pai_node_at(&files->table, head->chain)->segment;
}

/* Below which segment nothing of a log is needed; an agent that refers to transcript entries in older blocks (*runs),
   and one whose chain begins in that segment (*holder). A damaged agent keeps everything: it may still be repaired.
   So does one of which the directory has a segment that we do not know, or that has no block yet: a number that was
   trimmed must not be made again by somebody who finds nothing above it. */
static uint32_t pai_log_floor(const pagent_files *files, uint64_t stream, uint32_t newest, uint64_t *runs,
                              uint64_t *holder)
{
    uint32_t i, floor = newest;
    *runs = *holder = 0;
    if (pai_known_segment(files, stream) != newest) return 0;
    for (i = 0; i < files->table.heads.count; i++) {
        const pai_head *head = pai_head_at(&files->table, i);
        uint32_t reach;
        if (stream != 0 && head->stream != stream) continue;
        if (head->flags & PAGENT_IS_DAMAGED) return 0;
        if (head->version == 0) continue;
        reach = pai_chain_floor(&files->table, head);
        if (reach < floor) *holder = head->stream;
        if (reach < floor) floor = reach;
        if (head->flags & PAGENT_HAS_RUNS) *runs = head->stream;
    }
    return floor;
}

/* Removes what one log does not need; items `first` to `last` of the listing are its segments. */
static int pai_trim_log(pagent_files *files, size_t first, size_t last, pagent_io *io)
{
    const pagent_dir *dir = &files->dir;
    uint64_t stream = pai_listed_at(&files->listed, first)->major, runs, holder, live, size;
    uint32_t newest = (uint32_t)pai_listed_at(&files->listed, last)->minor, number = 0, i;
    uint32_t floor = pai_log_floor(files, stream, newest, &runs, &holder);
    pai_segment *segment;
    int result = PAGENT_OK;
    for (; first < last; first++) {
        number = (uint32_t)pai_listed_at(&files->listed, first)->minor;
        if (number >= floor) break;
        io->stream = runs;
        if (runs != 0) return PAGENT_OK;
        for (i = 0; i < PAI_SEGMENTS_OPEN; i++) {
            segment = &files->segments[i];
            if (segment->stream == stream && segment->number == number) (void)pai_close_segment(files, segment);
        }
        result = dir->remove(dir->ctx, pai_segment_name(files, stream, number));
        if (result == PAGENT_OK || result == PAGENT_E_NOT_FOUND)
            result = dir->sync_dir(dir->ctx, ""); /* no gap, ever */
        if (result != PAGENT_OK) return result;
        io->count++;
    }
    files->cursor.stream = 0;
    if (stream != 0 || first == last || floor == 0) return PAGENT_OK;
    if (files->emptying != number) { /* held back by less than half of its bytes? */
        result = pai_get_segment(files, 0, number, &segment);
        if (result == PAGENT_OK) result = pai_look_at_size(files, segment);
        if (result != PAGENT_OK) return result;
        size = segment->size - segment->start;
        result = pai_live_bytes(files, number, &live, &holder);
        if (result != PAGENT_OK || live * 2 >= size) return result;
        files->emptying = number;
    }
    io->stream = holder;
    return PAGENT_OK;
}

static int pai_files_trim(void *ctx, const pagent_trim *request, pagent_io *io)
{
    pagent_files *files = (pagent_files *)ctx;
    size_t first, last;
    int result = PAGENT_OK;
    (void)request;
    io->count = 0;
    io->stream = 0;
    if (files->failed != 0) return files->failed;
    if (files->options.read_only) return PAGENT_E_READ_ONLY;
    if (pai_staged_count(files) != 0) return PAGENT_E_AGAIN;
    if (!files->per_agent) {
        pai_log *log = pai_log_at(files, 0);
        if (log->number == 0) return PAGENT_OK;
        result = log->claimed ? pai_check_fence(files, log) : pai_new_segment(files, log, 1);
        if (result == PAGENT_E_FENCED) (void)pai_give_up(files, result);
    }
    if (result == PAGENT_OK) result = pai_list_segments(files, 0);
    for (first = 0; result == PAGENT_OK && io->stream == 0; first = last + 1) {
        int found = pai_listed_log(files, &first, &last);
        if (found == PAGENT_END) break;
        if (found == PAGENT_OK) result = pai_trim_log(files, first, last, io);
        else if (!files->per_agent) result = found;
    }
    pai_free_buffer(&files->heap, &files->listed);
    return result;
}

/* ---- The store, and its end. */
static int pai_files_collect(void *ctx, const pagent_collect *request, pagent_io *io);
static int pai_files_settle(void *ctx, const pagent_settle *request, pagent_io *io);

PAGENT_API pagent_store pagent_files_store(pagent_files *files)
{
    pagent_store store;
    pai_clear(&store, sizeof store);
    store.size = sizeof store;
    store.ctx = files;
    store.caps = PAGENT_STORE_PROCESS | PAGENT_STORE_POWER;
    store.block_size_max = (uint32_t)PAI_HEADER + PAI_PAYLOAD_MAX;
    store.append = pai_files_append;
    store.flush = pai_files_flush;
    store.read = pai_files_read;
    store.list = pai_files_list;
    if (files->options.read_only) {
        store.caps |= PAGENT_STORE_READS;
        return store;
    }
    store.trim = pai_files_trim;
    store.collect = pai_files_collect;
    store.settle = pai_files_settle;
    return store;
}

PAGENT_API int pagent_close_files(pagent_files *files)
{
    int result = PAGENT_OK, freed;
    uint32_t i;
    if (files == NULL) return PAGENT_OK;
    pai_undo(files, 0); /* what was never flushed never was */
    if (files->failed == 0) result = pai_seal_all(files);
    for (i = 0; i < files->logs.count && files->failed == 0; i++) {
        const pai_log *log = pai_log_at(files, i);
        if (log->claimed) pai_release_segment(files, log->stream, log->number, log->end);
    }
    freed = pai_free_files(files);
    return result != PAGENT_OK ? result : freed;
}

/* ---- Verifying: every segment of every log, from the oldest to the newest; nothing is changed. */
typedef struct pai_verify {
    pagent_files *files;
    pai_log log;
    uint32_t records; /* agents that the INDEX names */
    uint32_t torn;
    int worst;
    void (*report)(void *ctx, const pagent_damage_report *report);
    void *ctx;
} pai_verify;

/* Every report comes through here, so nothing that is found can be left out of the answer. */
static void pai_verify_report(void *ctx, const pagent_damage_report *report)
{
    pai_verify *verify = (pai_verify *)ctx;
    if (pai_gravity(report->result) > pai_gravity(verify->worst)) verify->worst = report->result;
    if (verify->report != NULL) verify->report(verify->ctx, report);
}

/* The INDEX must say what the segments before it have shown. */
static int pai_compare_record(pagent_files *files, void *ctx, const uint8_t *record, uint32_t count)
{
    pai_verify *verify = (pai_verify *)ctx;
    const pai_head *head = pai_find_head(&files->table, pai_get64(record));
    pagent_damage_report report;
    (void)count;
    if (head == NULL || head->version == 0) return PAGENT_OK; /* its blocks were trimmed, or could not be read */
    verify->records++;
    if (head->version == pai_get64(record + 8) && head->link == pai_get64(record + 16)) return PAGENT_OK;
    pai_begin_report(&report, PAGENT_DAMAGE_CHAIN, PAGENT_E_CORRUPT, 0);
    report.stream = head->stream;
    report.version = pai_get64(record + 8);
    (void)pai_send_report(files, &report, verify->log.stream, verify->log.number,
                          "the index differs from the blocks before");
    return PAGENT_OK;
}

/* The end of a segment: the newest one is classified; an older one must reach the cut that its successor names. */
static int pai_verify_end(pai_verify *verify, const pai_segment *segment, uint64_t limit, uint64_t link,
                          enum pai_bad bad, pai_block *header)
{
    pagent_files *files = verify->files;
    const pai_log *log = &verify->log;
    pai_finding found;
    int result;
    if (limit != UINT64_MAX && log->end >= limit) {
        if (log->cut == limit && log->last_link == link) return PAGENT_OK; /* what is behind it counts for nothing */
        (void)pai_report(files, PAGENT_DAMAGE_CHAIN, PAGENT_E_CORRUPT, log->stream, log->number, limit,
                         "the next segment names another end");
        return PAGENT_OK;
    }
    result = pai_classify(files, segment, log->end, bad, header, &found);
    if (result != PAGENT_OK) return result;
    if (limit != UINT64_MAX && found.report.result == PAGENT_OK) {
        pai_find_says(&found, PAGENT_DAMAGE_LOST_TAIL, PAGENT_E_LOST_TAIL,
                      "ends before the end that the next one names");
    }
    if (found.report.damage == PAGENT_TORN || found.report.damage == PAGENT_DIRTY) verify->torn++;
    if (found.report.damage != PAGENT_CLEAN)
        (void)pai_send_report(files, &found.report, log->stream, log->number, found.what);
    return PAGENT_OK;
}

static uint32_t pai_count_heads(const pagent_files *files, uint64_t stream)
{
    uint32_t i, count = 0;
    for (i = 0; i < files->table.heads.count; i++) {
        const pai_head *head = pai_head_at(&files->table, i);
        if (head->version != 0 && (stream == 0 || head->stream == stream)) count++;
    }
    return count;
}

/* What was found has been reported, a segment that is missing by the listing: the rest is looked at all the same. */
static int pai_verify_goes_on(int result)
{
    return result == PAGENT_E_NOT_FOUND || pai_gravity(result) != 0 ? PAGENT_OK : result;
}

/* One segment; `limit` and `link` are what its successor says of its end (UINT64_MAX: there is none). */
static int pai_verify_segment(pai_verify *verify, uint32_t number, uint64_t limit, uint64_t link)
{
    pagent_files *files = verify->files;
    pai_log *log = &verify->log;
    pai_segment *segment;
    pai_block header;
    enum pai_bad bad;
    uint64_t link_0;
    uint32_t blocks, known = pai_count_heads(files, log->stream);
    int result = pai_get_segment(files, log->stream, number, &segment);
    log->number = number;
    log->start = 1; /* whatever follows, the table is not what it was */
    verify->records = 0;
    if (result == PAGENT_OK) result = pai_look_at_size(files, segment);
    if (result == PAGENT_OK) result = pai_read_index(files, segment, pai_compare_record, verify, &link_0, &blocks);
    if (result == PAGENT_OK && verify->records < known) { /* heads stay for ever */
        (void)pai_report(files, PAGENT_DAMAGE_CHAIN, PAGENT_E_CORRUPT, log->stream, number, 0,
                         "the index forgot an agent");
    }
    if (result == PAGENT_OK) result = pai_load_segment(files, log, number, limit, &header, &bad);
    else pai_forget_heads(files, log->stream);
    if (result == PAGENT_OK) result = pai_verify_end(verify, segment, limit, link, bad, &header);
    return pai_verify_goes_on(result);
}

/* The newest segment that is not void. */
static int pai_verify_newest(pai_verify *verify, pai_log *log)
{
    pagent_files *files = verify->files;
    int result = PAGENT_OK, is_void = 1;
    uint32_t number = log->number;
    while (is_void) {
        uint8_t front[2 * PAI_LINE];
        pai_segment *segment;
        pai_block header;
        enum pai_bad bad;
        log->number = number;
        result = pai_get_segment(files, log->stream, number, &segment);
        if (result == PAGENT_OK) result = pai_look_at_size(files, segment);
        if (result == PAGENT_OK) result = pai_scan_block(files, segment, segment->start, 1, &header, front, &bad);
        log->cut = result == PAGENT_OK && bad == PAI_GOOD && header.stream != 0 ? 1 : 0;
        if (result == PAGENT_OK) result = pai_is_void(files, log, &number, &is_void);
        if (result != PAGENT_OK) break;
    }
    return pai_verify_goes_on(result);
}

/* Is the segment one of the log's? An empty one that no other leads back to is not: a zombie made it, or it is void.
   Then *next is 0. */
static int pai_verify_place(pagent_files *files, uint64_t stream, uint32_t number, uint32_t *next)
{
    pai_segment *segment;
    uint64_t id = 0;
    int found = 0, result = PAGENT_OK;
    if (*next != 0) {
        result = pai_get_segment(files, stream, *next, &segment);
        if (result == PAGENT_OK) id = segment->before_id;
    }
    if (result == PAGENT_OK) result = pai_get_segment(files, stream, number, &segment);
    if (result != PAGENT_OK || (*next != 0 && segment->id == id)) return result;
    result = pai_has_block(files, segment, segment->start, &found);
    if (result == PAGENT_OK && !found) *next = 0;
    return result;
}

/* All segments of a log. One that is not there has been reported by the listing, or was trimmed since: what is behind
   it is looked at all the same. */
static int pai_verify_log(pai_verify *verify, uint64_t stream, uint32_t oldest, uint32_t newest)
{
    pagent_files *files = verify->files;
    pai_log ends;
    uint32_t number = oldest;
    int result;
    pai_clear(&ends, sizeof ends);
    ends.stream = stream;
    ends.number = newest;
    pai_clear(&verify->log, sizeof verify->log);
    verify->log.stream = stream;
    result = pai_verify_newest(verify, &ends);
    while (result == PAGENT_OK && number <= ends.number) {
        pai_segment *segment;
        uint64_t limit, link = 0;
        uint32_t next;
        result = pai_find_successor(files, &ends, number, &next, &limit);
        if (result == PAGENT_OK && number != ends.number) result = pai_verify_place(files, stream, number, &next);
        if (result == PAGENT_OK && next == 0 && number != ends.number) {
            number++;
            continue;
        }
        if (result == PAGENT_OK && next != 0) result = pai_get_segment(files, stream, next, &segment);
        if (result == PAGENT_OK && next != 0) link = segment->before_link;
        if (next == 0 || result != PAGENT_OK) limit = UINT64_MAX;
        result = pai_verify_goes_on(result);
        if (result != PAGENT_OK) break;
        result = pai_verify_segment(verify, number, limit, link);
        number = next > number ? next : number + 1;
    }
    return result;
}

PAGENT_API int pagent_verify_files(const pagent_dir *dir, const pagent_host *host,
                                   void (*report)(void *ctx, const pagent_damage_report *report), void *ctx,
                                   uint32_t *torn)
{
    pagent_file_options options;
    pai_verify verify;
    pagent_files *files = NULL;
    size_t first, last;
    int result;
    if (torn != NULL) *torn = 0;
    pai_clear(&verify, sizeof verify);
    verify.report = report;
    verify.ctx = ctx;
    pai_clear(&options, sizeof options);
    options.size = sizeof options;
    options.read_only = 1;
    options.on_discard = pai_verify_report;
    options.ctx = &verify;
    result = pai_make_files(&files, dir, host, &options);
    if (result != PAGENT_OK) return result;
    verify.files = files;
    result = pai_list_segments(files, 0);
    if (result == PAGENT_E_CORRUPT) { /* a strange name, or two kinds of logs: what there is can still be read */
        verify.worst = result;
        result = PAGENT_OK;
    }
    for (first = 0; result == PAGENT_OK; first = last + 1) {
        const pai_listed *listed;
        if (pai_listed_log(files, &first, &last) == PAGENT_END) break; /* a gap has been reported */
        listed = pai_listed_at(&files->listed, 0);
        result =
            pai_verify_log(&verify, listed[first].major, (uint32_t)listed[first].minor, (uint32_t)listed[last].minor);
    }
    (void)pai_free_files(files);
    if (torn != NULL) *torn = verify.torn;
    return result != PAGENT_OK ? result : verify.worst;
}

/* ================================================================================================================
   [INBOX]  messages to the owner of a directory, from any process
   A message is a file named by the hash of its id, so that sending twice is sending once; its receipt has the same
   hash. Invariant: a message is removed only after its receipt is durable. A frame: magic:4 size:4 crc:4 (zero):4
   time_ms:8, then bytes; the CRC covers time and bytes. A message's bytes are the encoded request; a receipt's are its
   origin, the frame's front and the id (padded with zeros to 128) of the message that it answers, all zero if that was
   damaged; then the encoded receipt. */
enum {
    PAI_FRAME = 24,
    PAI_ORIGIN = PAI_FRAME + PAGENT_NAME_MAX + 1,
    PAI_RECEIPT_BYTES = 1024,
    PAI_RECEIPT_SIZE_MAX = PAI_RECEIPT_BYTES - PAI_FRAME - PAI_ORIGIN,
    PAI_RECEIPTS_KEPT = 1000,
    PAI_TEMP_AGE_MS = 3600 * 1000
};
static const uint32_t pai_frame_magic = UINT32_C(0xA39C57E1);

static void pai_inbox_name(char name[PAI_FILE_NAME], char kind, uint64_t id)
{
    char hex[17];
    pai_text text = pai_text_begin(name, PAI_FILE_NAME);
    pai_text_add(&text, kind == 'm' ? "inbox/m-" : "inbox/r-");
    pai_hex64(hex, id);
    pai_text_add(&text, hex);
}

static void pai_put_frame(const pai_crc *crc, uint8_t *frame, uint32_t size, uint64_t time_ms)
{
    pai_put32(frame, pai_frame_magic);
    pai_put32(frame + 4, size);
    pai_put32(frame + 12, 0);
    pai_put64(frame + 16, time_ms);
    pai_put32(frame + 8, pai_crc32c(crc, 0, frame + 16, (size_t)size + 8));
}

/* Reads the first `capacity` bytes of a file; *size is how many there are in all. */
static int pai_read_file(const pagent_dir *dir, const char *name, uint8_t *bytes, size_t capacity, uint64_t *size,
                         size_t *got)
{
    int64_t found;
    int file = dir->open(dir->ctx, name, 0), result, closed;
    if (file < 0) return file;
    found = dir->dev.file_size(dir->dev.ctx, file);
    *size = found > 0 ? (uint64_t)found : 0;
    if (*size < capacity) capacity = (size_t)*size;
    result = found < 0 ? (int)found : pai_read_all(&dir->dev, file, bytes, capacity, 0, got);
    closed = dir->close(dir->ctx, file);
    return result != PAGENT_OK ? result : closed;
}

/* Makes a file with these bytes appear durably under `name`, whole or not at all. */
static int pai_write_file(const pagent_dir *dir, const char *temp, const char *name, const uint8_t *bytes, size_t size,
                          int exclusive)
{
    int file = dir->create_temp(dir->ctx, temp), result, closed;
    if (file < 0) return file;
    result = pai_write_all(&dir->dev, file, bytes, size, 0);
    if (result == PAGENT_OK) result = dir->dev.sync(dir->dev.ctx, file);
    if (result == PAGENT_OK) result = dir->publish(dir->ctx, file, name, exclusive);
    if (result != PAGENT_OK) (void)dir->remove(dir->ctx, temp);
    closed = dir->close(dir->ctx, file);
    if (result == PAGENT_OK) result = closed;
    return result == PAGENT_OK ? dir->sync_dir(dir->ctx, "inbox") : result;
}

/* The message that is there already: the same request? Then it is as good as sent. */
static int pai_same_message(const pagent_dir *dir, const pai_heap *heap, const char *name, const uint8_t *frame,
                            size_t size)
{
    uint64_t found = 0;
    size_t got = 0;
    uint8_t *other = (uint8_t *)pai_allocate(heap, size);
    int result;
    if (other == NULL) return PAGENT_E_MEMORY;
    result = pai_read_file(dir, name, other, size, &found, &got);
    if (result == PAGENT_OK &&
        (found != size || got != size || !pai_equal(other + PAI_FRAME, frame + PAI_FRAME, size - PAI_FRAME))) {
        result = PAGENT_E_EXISTS;
    }
    pai_free(heap, other, size);
    return result == PAGENT_OK ? dir->sync_dir(dir->ctx, "inbox") : result;
}

/* E_CORRUPT unless the frame is whole and says what its checksum says. */
static int pai_check_frame(const pai_crc *crc, const uint8_t *frame, size_t size)
{
    if (size < PAI_FRAME || pai_get32(frame) != pai_frame_magic || pai_get32(frame + 4) != size - PAI_FRAME ||
        pai_get32(frame + 12) != 0 || pai_get32(frame + 8) != pai_crc32c(crc, 0, frame + 16, size - 16)) {
        return PAGENT_E_CORRUPT;
    }
    return PAGENT_OK;
}

/* The receipt under the hash of `id`: OK, NOT_FOUND, or EXISTS when it answers another id. */
static int pai_read_answer(const pagent_dir *dir, const pai_crc *crc, const char *id, uint8_t frame[PAI_RECEIPT_BYTES],
                           size_t *got)
{
    const uint8_t *known = frame + PAI_FRAME + PAI_FRAME; /* the id in its origin */
    char name[PAI_FILE_NAME];
    uint64_t size = 0;
    int result;
    pai_inbox_name(name, 'r', pai_hash_text(id));
    result = pai_read_file(dir, name, frame, PAI_RECEIPT_BYTES, &size, got);
    if (result != PAGENT_OK) return result;
    if (size != *got || pai_check_frame(crc, frame, *got) != PAGENT_OK || *got < PAI_FRAME + PAI_ORIGIN ||
        known[PAGENT_NAME_MAX] != 0) {
        return PAGENT_E_CORRUPT;
    }
    return known[0] == 0 || pai_same_text((const char *)known, id) ? PAGENT_OK : PAGENT_E_EXISTS;
}

/* The receipt that is there already: of the same request? Its origin tells, once our frame has that one's time. */
static int pai_same_answer(const pagent_dir *dir, const pai_crc *crc, const char *id, uint8_t *frame, size_t size)
{
    uint8_t answer[PAI_RECEIPT_BYTES];
    const uint8_t *origin = answer + PAI_FRAME;
    size_t got = 0;
    int result = pai_read_answer(dir, crc, id, answer, &got);
    if (result != PAGENT_OK || pai_get32(origin) == 0) return result;
    pai_put_frame(crc, frame, (uint32_t)(size - PAI_FRAME), pai_get64(origin + 16));
    return pai_equal(origin, frame, PAI_FRAME) ? PAGENT_OK : PAGENT_E_EXISTS;
}

static int pai_send_frame(const pagent_dir *dir, const pagent_host *host, const pai_heap *heap, const pai_crc *crc,
                          const char *id, uint8_t *frame, size_t size)
{
    char temp[PAI_FILE_NAME], name[PAI_FILE_NAME];
    int result = pai_temp_name(host, "inbox/", temp), tries;
    if (result != PAGENT_OK) return result;
    pai_inbox_name(name, 'm', pai_hash_text(id));
    for (tries = 0; tries < PAI_TRIES; tries++) { /* it may be collected, settled and read meanwhile */
        result = pai_same_answer(dir, crc, id, frame, size);
        if (result != PAGENT_E_NOT_FOUND) return result; /* settled: the receipt is waiting */
        result = dir->exists(dir->ctx, name);
        if (result < 0) return result;
        result = result == 0 ? pai_write_file(dir, temp, name, frame, size, 1) : PAGENT_E_EXISTS;
        if (result != PAGENT_E_EXISTS) return result;
        result = pai_same_message(dir, heap, name, frame, size);
        if (result != PAGENT_E_NOT_FOUND) return result;
    }
    return PAGENT_E_AGAIN;
}

PAGENT_API int pagent_send_message(const pagent_dir *dir, const pagent_host *host, const pagent_request *request)
{
    pai_heap heap;
    pai_crc *crc;
    uint8_t *frame;
    size_t size;
    int encoded, result;
    if (dir == NULL || host == NULL || request == NULL || !pai_check_dir(dir) || host->allocate == NULL ||
        host->random == NULL || host->clock_ms == NULL || request->id == NULL || request->id[0] == 0) {
        return PAGENT_E_ARGUMENT;
    }
    encoded = pagent_encode_request(request, NULL, 0);
    if (encoded < 0) return encoded;
    heap.allocate = host->allocate;
    heap.ctx = host->ctx;
    size = PAI_FRAME + (size_t)encoded;
    frame = (uint8_t *)pai_allocate(&heap, size);
    crc = (pai_crc *)pai_allocate(&heap, sizeof *crc);
    result = frame != NULL && crc != NULL ? PAGENT_OK : PAGENT_E_MEMORY;
    if (result == PAGENT_OK) {
        int written = pagent_encode_request(request, frame + PAI_FRAME, (uint32_t)encoded);
        if (written != encoded) result = written < 0 ? written : PAGENT_E_ARGUMENT;
    }
    if (result == PAGENT_OK) {
        pai_crc_init(crc);
        pai_put_frame(crc, frame, (uint32_t)encoded, host->clock_ms(host->ctx));
        result = pai_send_frame(dir, host, &heap, crc, request->id, frame, size);
    }
    pai_free(&heap, crc, sizeof *crc);
    pai_free(&heap, frame, size);
    return result;
}

PAGENT_API int pagent_read_receipt(const pagent_dir *dir, const char *id, pagent_receipt *receipt)
{
    const uint32_t front = (uint32_t)PAI_FRAME + (uint32_t)PAI_ORIGIN;
    char name[PAI_FILE_NAME];
    uint8_t frame[PAI_RECEIPT_BYTES];
    size_t got = 0;
    pai_crc crc;
    int result;
    if (dir == NULL || id == NULL || id[0] == 0 || receipt == NULL || !pai_check_dir(dir)) return PAGENT_E_ARGUMENT;
    pai_crc_init(&crc);
    result = pai_read_answer(dir, &crc, id, frame, &got);
    if (result == PAGENT_E_NOT_FOUND || result == PAGENT_E_EXISTS) return PAGENT_PENDING;
    if (result == PAGENT_OK) result = pagent_decode_receipt(frame + front, (uint32_t)got - front, receipt);
    if (result != PAGENT_OK) return result;
    pai_inbox_name(name, 'r', pai_hash_text(id));
    result = dir->remove(dir->ctx, name);
    return result == PAGENT_E_NOT_FOUND ? PAGENT_OK : result;
}

/* ---- The owner's side. */

/* When a message or receipt was sent: its own frame says. 0: it cannot be read. */
static uint64_t pai_letter_time(const pagent_files *files, char kind, uint64_t id)
{
    char name[PAI_FILE_NAME];
    uint8_t frame[PAI_FRAME];
    uint64_t size;
    size_t got = 0;
    int result;
    pai_inbox_name(name, kind, id);
    result = pai_read_file(&files->dir, name, frame, sizeof frame, &size, &got);
    return result == PAGENT_OK && got == sizeof frame ? pai_get64(frame + 16) : 0;
}

/* What a sender that died left half written: removed when it is old. */
static void pai_drop_temp(const pagent_files *files, const char *name)
{
    char path[PAI_FILE_NAME];
    uint64_t made_ms, now_ms = files->host.clock_ms(files->host.ctx);
    pai_text text = pai_text_begin(path, sizeof path);
    if (pai_length(name) < 20 || !pai_parse_hex64(name + 4, &made_ms)) return;
    if (now_ms < made_ms || now_ms - made_ms < PAI_TEMP_AGE_MS) return;
    pai_text_add(&text, "inbox/");
    pai_text_add(&text, name);
    (void)files->dir.remove(files->dir.ctx, path);
}

/* All messages ('m') or receipts ('r') of the inbox: time and id, unsorted. With `times`, each file is looked into. */
static int pai_list_inbox(pagent_files *files, char kind, int times, pai_buffer *out)
{
    char name[PAGENT_NAME_MAX + 1];
    uint32_t index;
    size_t i;
    int result;
    out->size = 0;
    for (index = 0;; index++) {
        pai_listed item;
        result = files->dir.list(files->dir.ctx, "inbox", index, name);
        if (result != PAGENT_OK) break;
        if (pai_length(name) > 4 && pai_equal(name, "tmp-", 4)) pai_drop_temp(files, name);
        if (pai_length(name) != 18 || name[0] != kind || name[1] != '-' || !pai_parse_hex64(name + 2, &item.minor))
            continue;
        item.major = 0;
        result = pai_append_bytes(&files->heap, out, &item, sizeof item);
        if (result != PAGENT_OK) return result;
    }
    if (result == PAGENT_END || result == PAGENT_E_NOT_FOUND) result = PAGENT_OK;
    for (i = 0; times && i < pai_listed_count(out); i++) {
        pai_listed *item = pai_listed_at(out, i);
        item->major = pai_letter_time(files, kind, item->minor);
    }
    pai_sort_listed(out);
    return result;
}

/* Tells the host of receipts that nobody has read, before they are dropped. */
static void pai_report_receipts(const pagent_files *files, size_t count)
{
    pagent_damage_report report;
    pai_text text;
    pai_begin_report(&report, PAGENT_CLEAN, PAGENT_OK, 0);
    report.file = "inbox";
    report.size = count;
    text = pai_text_begin(report.text, sizeof report.text);
    pai_text_add(&text, "inbox: ");
    pai_text_number(&text, count);
    pai_text_add(&text, " receipts that nobody has read are dropped; the newest ");
    pai_text_number(&text, PAI_RECEIPTS_KEPT);
    pai_text_add(&text, " stay");
    if (files->options.on_discard != NULL) files->options.on_discard(files->options.ctx, &report);
}

/* Keeps the newest 1,000 receipts that nobody has read; drops by the hundred, not one by one. */
static int pai_drop_receipts(pagent_files *files)
{
    size_t i, count;
    int result = pai_list_inbox(files, 'r', 0, &files->inbox);
    if (result != PAGENT_OK || pai_listed_count(&files->inbox) <= PAI_RECEIPTS_KEPT + PAI_RECEIPTS_KEPT / 4)
        return result;
    result = pai_list_inbox(files, 'r', 1, &files->inbox);
    count = pai_listed_count(&files->inbox);
    if (result == PAGENT_OK && count > PAI_RECEIPTS_KEPT) pai_report_receipts(files, count - PAI_RECEIPTS_KEPT);
    for (i = 0; result == PAGENT_OK && i + PAI_RECEIPTS_KEPT < count; i++) {
        char name[PAI_FILE_NAME];
        pai_inbox_name(name, 'r', pai_listed_at(&files->inbox, i)->minor);
        (void)files->dir.remove(files->dir.ctx, name); /* what cannot be removed stays */
    }
    return result;
}

/* What a receipt says of the message that it answers. E_NOT_FOUND: that one is settled. */
static int pai_read_origin(const pagent_files *files, uint64_t id, uint8_t origin[PAI_ORIGIN])
{
    uint8_t front[(int)PAI_FRAME + (int)PAI_REQUEST_FRONT +
                  2 * (PAGENT_NAME_MAX + 1)]; /* two texts: the agent's name, the id */
    char name[PAI_FILE_NAME];
    uint64_t size = 0;
    size_t got = 0, at, length;
    int result;
    pai_clear(origin, PAI_ORIGIN);
    pai_inbox_name(name, 'm', id);
    result = pai_read_file(&files->dir, name, front, sizeof front, &size, &got);
    if (result != PAGENT_OK || got < (size_t)PAI_FRAME + PAI_REQUEST_FRONT || pai_get32(front) != pai_frame_magic)
        return result;
    at = (size_t)PAI_FRAME + PAI_REQUEST_FRONT + pai_get16(front + PAI_FRAME + 48);
    length = pai_get16(front + PAI_FRAME + 50);
    if (length == 0 || length > PAGENT_NAME_MAX + 1 || at + length > got || front[at + length - 1] != 0) return result;
    pai_copy(origin, front, PAI_FRAME);
    pai_copy(origin + PAI_FRAME, front + at, length);
    return result;
}

static int pai_write_receipt(const pagent_files *files, uint64_t id, const uint8_t origin[PAI_ORIGIN],
                             const uint8_t *receipt, uint32_t size)
{
    char temp[PAI_FILE_NAME], name[PAI_FILE_NAME];
    uint8_t frame[PAI_RECEIPT_BYTES];
    int result = pai_temp_name(&files->host, "inbox/", temp);
    if (result != PAGENT_OK) return result;
    pai_copy(frame + PAI_FRAME, origin, PAI_ORIGIN);
    pai_copy(frame + PAI_FRAME + PAI_ORIGIN, receipt, size);
    pai_put_frame(&files->crc, frame, (uint32_t)PAI_ORIGIN + size, files->host.clock_ms(files->host.ctx));
    pai_inbox_name(name, 'r', id);
    return pai_write_file(&files->dir, temp, name, frame, PAI_FRAME + PAI_ORIGIN + (size_t)size, 0);
}

static int pai_remove_message(const pagent_files *files, uint64_t id)
{
    char name[PAI_FILE_NAME];
    int result;
    pai_inbox_name(name, 'm', id);
    result = files->dir.remove(files->dir.ctx, name);
    return result == PAGENT_E_NOT_FOUND ? PAGENT_OK : result;
}

/* Tells the host of a message that is not delivered. `bytes` of it are in the scratch buffer. */
static void pai_report_letter(pagent_files *files, const char *name, int result, uint64_t size, size_t bytes,
                              const char *what)
{
    pagent_damage_report report;
    pai_text text;
    pai_begin_report(&report, PAGENT_DAMAGE_MIDDLE, result, 0);
    report.file = name;
    report.size = size;
    report.bytes.data = bytes != 0 ? files->scratch.data : NULL;
    report.bytes.size = (uint32_t)bytes;
    text = pai_text_begin(report.text, sizeof report.text);
    pai_text_add(&text, name);
    pai_text_add(&text, what);
    if (files->options.on_discard != NULL) files->options.on_discard(files->options.ctx, &report);
}

/* A message that can be neither read nor answered: it stays, and does not keep back the others. Told once, unless there
   are many such. */
static void pai_skip_letter(pagent_files *files, uint64_t id)
{
    char name[PAI_FILE_NAME];
    uint32_t i;
    for (i = 0; i < PAI_SKIPPED; i++) {
        if (files->skipped[i] == id) return;
    }
    files->skipped[files->skipped_count++ % PAI_SKIPPED] = id;
    pai_inbox_name(name, 'm', id);
    pai_report_letter(files, name, PAGENT_E_STORAGE, 0, 0, ": this message cannot be read, or not answered; skipped");
}

/* A message that is not what was sent: answered, told to the host, and only then removed. */
static int pai_refuse_letter(pagent_files *files, uint64_t id, const char *name, uint64_t size)
{
    pagent_receipt receipt;
    uint8_t bytes[PAI_RECEIPT_SIZE_MAX], origin[PAI_ORIGIN];
    size_t keep = size < PAI_PAYLOAD_MAX ? (size_t)size : (size_t)PAI_PAYLOAD_MAX, got = 0;
    pai_text text;
    int encoded, result;
    files->scratch.size = 0;
    result = pai_reserve(&files->heap, &files->scratch, keep);
    if (result == PAGENT_OK) result = pai_read_file(&files->dir, name, files->scratch.data, keep, &size, &got);
    if (result != PAGENT_OK) return result;
    pai_clear(&receipt, sizeof receipt);
    receipt.result = PAGENT_E_CORRUPT;
    text = pai_text_begin(receipt.text, sizeof receipt.text);
    pai_text_add(&text, "the message was damaged on its way; send it again under a new id");
    encoded = pagent_encode_receipt(&receipt, bytes, sizeof bytes);
    if (encoded < 0) return encoded;
    pai_clear(origin, sizeof origin);
    result = pai_write_receipt(files, id, origin, bytes, (uint32_t)encoded);
    if (result != PAGENT_OK) return result;
    pai_report_letter(files, name, PAGENT_E_CORRUPT, size, got, ": a damaged message; refused, send it again");
    return pai_remove_message(files, id);
}

/* One message: OK with io filled; E_NOT_FOUND: it is settled already; PENDING: it was damaged and is refused. */
static int pai_collect_letter(pagent_files *files, uint64_t id, const pagent_collect *request, pagent_io *io)
{
    char name[PAI_FILE_NAME];
    uint8_t front[PAI_FRAME];
    uint64_t size = 0;
    size_t got = 0;
    int result;
    pai_inbox_name(name, 'm', id);
    result = pai_read_file(&files->dir, name, front, sizeof front, &size, &got);
    if (result != PAGENT_OK) return result;
    if (got == sizeof front && pai_get32(front) == pai_frame_magic && pai_get32(front + 4) == size - PAI_FRAME &&
        size <= PAI_PAYLOAD_MAX) {
        if (size - PAI_FRAME > request->capacity) {
            io->size = (uint32_t)(size - PAI_FRAME);
            io->stream = id;
            return PAGENT_E_LIMIT;
        }
        files->scratch.size = 0;
        result = pai_reserve(&files->heap, &files->scratch, (size_t)size);
        if (result == PAGENT_OK)
            result = pai_read_file(&files->dir, name, files->scratch.data, (size_t)size, &size, &got);
        if (result != PAGENT_OK) return result;
        if (got == size && pai_check_frame(&files->crc, files->scratch.data, got) == PAGENT_OK) {
            io->size = (uint32_t)(size - PAI_FRAME);
            io->count = 1;
            io->stream = id;
            pai_copy(request->buffer, files->scratch.data + PAI_FRAME, io->size);
            return PAGENT_OK;
        }
    }
    result = pai_refuse_letter(files, id, name, size);
    return result == PAGENT_OK ? PAGENT_PENDING : result;
}

static int pai_files_collect(void *ctx, const pagent_collect *request, pagent_io *io)
{
    pagent_files *files = (pagent_files *)ctx;
    size_t at = (size_t)request->cursor, count;
    int result = PAGENT_OK;
    io->size = 0;
    io->count = 0;
    io->cursor = 0;
    if (request->capacity != 0 && request->buffer == NULL) return PAGENT_E_ARGUMENT;
    if (request->cursor == 0) {
        result = pai_drop_receipts(files);
        if (result == PAGENT_OK) result = pai_list_inbox(files, 'm', 1, &files->inbox);
    }
    if (result != PAGENT_OK) return result;
    count = pai_listed_count(&files->inbox);
    for (; at < count; at++) {
        result = pai_collect_letter(files, pai_listed_at(&files->inbox, at)->minor, request, io);
        if ((result == PAGENT_OK || result == PAGENT_E_LIMIT) && at + 1 < count) io->cursor = at + 1;
        if (result == PAGENT_E_STORAGE) pai_skip_letter(files, pai_listed_at(&files->inbox, at)->minor);
        else if (result != PAGENT_E_NOT_FOUND && result != PAGENT_PENDING) return result;
    }
    return PAGENT_OK;
}

static int pai_files_settle(void *ctx, const pagent_settle *request, pagent_io *io)
{
    const pagent_files *files = (const pagent_files *)ctx;
    uint8_t origin[PAI_ORIGIN];
    int result;
    (void)io;
    if (request->receipt == NULL || request->size > PAI_RECEIPT_SIZE_MAX) return PAGENT_E_ARGUMENT;
    result = pai_read_origin(files, request->message, origin);
    if (result != PAGENT_OK) return result == PAGENT_E_NOT_FOUND ? PAGENT_OK : result;
    result = pai_write_receipt(files, request->message, origin, request->receipt, request->size);
    return result == PAGENT_OK ? pai_remove_message(files, request->message) : result;
}

/* ================================================================================================================
   [POSIX]  a directory on disk, the heap, the clock, random bytes
   Owns a directory's descriptors and its lock. Safe against signals (EINTR); after fork() only the parent may write.
   May fail with what the system says: NO_SPACE, EXISTS, NOT_FOUND, LOCKED, MEMORY; everything else is E_STORAGE. */
#ifndef PAGENT_NO_POSIX

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#if defined(__GLIBC__) && (!defined(_POSIX_C_SOURCE) || _POSIX_C_SOURCE < 200809L)
#error "persistent_agent.h: include it before system headers, or compile with -D_POSIX_C_SOURCE=200809L"
#elif !defined(_POSIX_VERSION) || _POSIX_VERSION < 200809L
#error "persistent_agent.h: no POSIX.1-2008 here: define PAGENT_NO_POSIX, and bring a pagent_dir"
#endif

#if defined(__linux__)
#include <sys/syscall.h>
#endif
#if defined(__linux__) && defined(SYS_renameat2) &&                                                                    \
    (!defined(__GLIBC__) || defined(_DEFAULT_SOURCE) || defined(_GNU_SOURCE))
#define PAI_RENAMEAT2 1
#endif
#if defined(F_OFD_SETLK)
#define PAI_OFD_SETLK F_OFD_SETLK
#elif defined(__linux__)
#define PAI_OFD_SETLK 37 /* glibc shows the name to _GNU_SOURCE only; the number is the kernel's */
#endif
#if defined(__wasi__) /* neither processes nor locks: of two owners, the later one fences the earlier */
#include <wasi/api.h>
#undef PAI_OFD_SETLK
#define PAI_GETPID() 1
#define PAI_FLOCK(descriptor, how) ((void)(descriptor), (void)(how), 0)
#define PAI_OPENAT pai_wasi_openat
#else
#define PAI_GETPID() getpid()
#define PAI_FLOCK(descriptor, how) flock(descriptor, how)
#define PAI_OPENAT(root, name, flags) openat(root, name, flags, 0666)
#endif

enum {
    PAI_TEMPS = 8,
    PAI_ZEROS = 64 * 1024
};

typedef struct pai_posix {
    int root; /* descriptors */
    int lock;
    pid_t owner; /* who took the lock; 0: nobody */
    int no_dir_sync;
    struct {
        int file;
        char name[PAI_FILE_NAME];
    } temp[PAI_TEMPS]; /* files that are not published yet */
    struct {
        char *names; /* one after another, each with its final zero */
        size_t size;
        size_t room;
        size_t at; /* of name number `index` */
        uint32_t index;
    } listing[2]; /* root, inbox */
} pai_posix;

static int pai_posix_error(int code)
{
    switch (code) {
    case ENOENT:
    case ENOTDIR: return PAGENT_E_NOT_FOUND;
    case EEXIST: return PAGENT_E_EXISTS;
    case ENOSPC:
#ifdef EDQUOT
    case EDQUOT:
#endif
    case EFBIG: return PAGENT_E_NO_SPACE;
    case ENOMEM: return PAGENT_E_MEMORY;
    default: return PAGENT_E_STORAGE;
    }
}

/* In a child of the process that took the lock, nothing may be written: there must be one writer. */
static int pai_posix_is_child(const pai_posix *posix)
{
    return posix->owner != 0 && PAI_GETPID() != posix->owner;
}

static int64_t pai_posix_pread(void *ctx, int file, void *buffer, uint32_t size, uint64_t offset)
{
    ssize_t done;
    (void)ctx;
    do done = pread(file - 1, buffer, size, (off_t)offset);
    while (done < 0 && errno == EINTR);
    return done < 0 ? pai_posix_error(errno) : (int64_t)done;
}

static int64_t pai_posix_pwrite(void *ctx, int file, const void *buffer, uint32_t size, uint64_t offset)
{
    ssize_t done;
    if (pai_posix_is_child((const pai_posix *)ctx)) return PAGENT_E_FENCED;
    do done = pwrite(file - 1, buffer, size, (off_t)offset);
    while (done < 0 && errno == EINTR);
    return done < 0 ? pai_posix_error(errno) : (int64_t)done;
}

/* Has the file still a name? Where the system can say so without looking at its times: asking for those makes Linux
   give the next write a fresh time, and every write after a sync then costs half as much again. */
static int pai_posix_is_linked(int descriptor)
{
#if defined(__linux__) && defined(STATX_NLINK)
    struct statx found;
    if (statx(descriptor, "", AT_EMPTY_PATH, STATX_NLINK, &found) == 0) return found.stx_nlink != 0;
#elif defined(__wasi__)
    struct stat found;
    if (fstat(descriptor, &found) == 0) return found.st_nlink != 0;
#endif
    (void)descriptor;
    return 1;
}

/* A file, not a pipe, a directory or a device? Asked like the above. */
static int pai_posix_is_regular(int descriptor)
{
    struct stat found;
#if defined(__linux__) && defined(STATX_TYPE)
    struct statx asked;
    if (statx(descriptor, "", AT_EMPTY_PATH, STATX_TYPE, &asked) == 0) return S_ISREG(asked.stx_mode);
#endif
    return fstat(descriptor, &found) == 0 && S_ISREG(found.st_mode);
}

/* fdatasync; on macOS the drive's cache is flushed too. Also tells when the file was removed: then nothing was kept. */
static int pai_posix_sync(void *ctx, int file)
{
    int done;
    (void)ctx;
#if defined(__APPLE__)
    do done = fcntl(file - 1, F_FULLFSYNC);
    while (done < 0 && errno == EINTR);
    if (done < 0 && (errno == ENOTSUP || errno == EINVAL)) done = fsync(file - 1);
#else
    do done = fdatasync(file - 1);
    while (done < 0 && errno == EINTR);
#endif
    return done < 0 ? PAGENT_E_STORAGE : pai_posix_is_linked(file - 1) ? PAGENT_OK : PAGENT_E_FENCED;
}

/* Zeros from `at` to `size`, where the system cannot reserve space by itself. */
static int pai_posix_zeros(int descriptor, uint64_t at, uint64_t size)
{
    char *zeros = (char *)calloc(1, PAI_ZEROS);
    int result = zeros != NULL ? PAGENT_OK : PAGENT_E_MEMORY;
    while (result == PAGENT_OK && at < size) {
        size_t piece = size - at < PAI_ZEROS ? (size_t)(size - at) : (size_t)PAI_ZEROS;
        ssize_t done = pwrite(descriptor, zeros, piece, (off_t)at);
        if (done > 0) at += (uint64_t)done;
        if (done == 0) result = PAGENT_E_NO_SPACE;
        if (done < 0 && errno != EINTR) result = pai_posix_error(errno);
    }
    free(zeros);
    return result;
}

/* Space from `at` to `size`. What was only reserved costs each small write an entry in the file system's own journal,
   so a small piece is filled with zeros too; a large one is for large batches, which do not notice. */
static int pai_posix_extend(int descriptor, off_t at, uint64_t size)
{
#if defined(__linux__) || defined(__FreeBSD__)
    int done;
    do done = posix_fallocate(descriptor, at, (off_t)(size - (uint64_t)at));
    while (done == EINTR);
    if (done == 0 && size - (uint64_t)at > PAI_ZEROED) return PAGENT_OK;
    if (done != 0 && done != EOPNOTSUPP && done != EINVAL && done != ENODEV) return pai_posix_error(done);
#endif
    return pai_posix_zeros(descriptor, (uint64_t)at, size);
}

static int pai_posix_truncate(void *ctx, int file, uint64_t size)
{
    off_t before = lseek(file - 1, 0, SEEK_END);
    int done, result = PAGENT_OK;
    if (pai_posix_is_child((const pai_posix *)ctx)) return PAGENT_E_FENCED;
    if (before < 0) return pai_posix_error(errno);
    if ((uint64_t)before < size) {
        result = pai_posix_extend(file - 1, before, size);
        if (result == PAGENT_OK) return result;
        size = (uint64_t)before; /* as long as it was */
    }
    do done = ftruncate(file - 1, (off_t)size);
    while (done < 0 && errno == EINTR);
    return result != PAGENT_OK ? result : done < 0 ? pai_posix_error(errno) : PAGENT_OK;
}

static int64_t pai_posix_file_size(void *ctx, int file)
{
    off_t end = lseek(file - 1, 0, SEEK_END); /* not fstat: see pai_posix_is_linked */
    (void)ctx;
    return end >= 0 ? (int64_t)end : pai_posix_error(errno);
}

#if defined(__wasi__)
/* openat, but for the rights that it asks for: those of the directory, among which wasmtime does not name writing. */
static int pai_wasi_openat(int root, const char *name, int flags)
{
    __wasi_fdstat_t of;
    __wasi_fd_t made = 0;
    __wasi_errno_t error;
    if ((flags & O_RDWR) != O_RDWR) return openat(root, name, flags);
    error = __wasi_fd_fdstat_get((__wasi_fd_t)root, &of);
    if (error == 0) {
        error =
            __wasi_path_open((__wasi_fd_t)root, __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW, name,
                             (__wasi_oflags_t)(flags >> 12 & 0xFFF), of.fs_rights_inheriting | __WASI_RIGHTS_FD_WRITE,
                             of.fs_rights_inheriting, (__wasi_fdflags_t)(flags & 0xFFF), &made);
    }
    if (error != 0) errno = error;
    return error == 0 ? (int)made : -1;
}
#endif

static int pai_posix_open_at(const pai_posix *posix, const char *name, int flags)
{
    int descriptor;
    do descriptor = PAI_OPENAT(posix->root, name, flags | O_CLOEXEC);
    while (descriptor < 0 && errno == EINTR);
    return descriptor < 0 ? pai_posix_error(errno) : descriptor + 1;
}

/* A pipe put in the place of a file would make the opening, or the reading, wait for ever. */
static int pai_posix_open(void *ctx, const char *name, uint32_t flags)
{
    int access = ((flags & PAGENT_OPEN_WRITE) ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY;
    int file = pai_posix_open_at((const pai_posix *)ctx, name, access);
    if (file < 0 || pai_posix_is_regular(file - 1)) return file;
    (void)close(file - 1);
    return PAGENT_E_STORAGE;
}

static int pai_posix_create_temp(void *ctx, const char *name)
{
    pai_posix *posix = (pai_posix *)ctx;
    size_t i, length = strlen(name);
    int file;
    if (pai_posix_is_child(posix)) return PAGENT_E_FENCED;
    for (i = 0; i < PAI_TEMPS && posix->temp[i].file != 0; i++) {
    }
    if (i == PAI_TEMPS || length >= sizeof posix->temp[i].name) return PAGENT_E_LIMIT;
    file = pai_posix_open_at(posix, name, O_RDWR | O_CREAT | O_EXCL);
    if (file < 0) return file;
    posix->temp[i].file = file;
    memcpy(posix->temp[i].name, name, length + 1);
    return file;
}

/* A rename that does not replace: link and unlink, where the system has no better way. */
static int pai_posix_rename_new(const pai_posix *posix, const char *from, const char *to)
{
#if defined(PAI_RENAMEAT2)
    if (syscall(SYS_renameat2, posix->root, from, posix->root, to, 1u /* RENAME_NOREPLACE */) == 0) return PAGENT_OK;
    if (errno != EINVAL && errno != ENOSYS && errno != EPERM) return pai_posix_error(errno);
#endif
    if (linkat(posix->root, from, posix->root, to, 0) != 0) return pai_posix_error(errno);
    (void)unlinkat(posix->root, from, 0); /* a second name that stays is removed as a leftover */
    return PAGENT_OK;
}

static int pai_posix_publish(void *ctx, int file, const char *name, int exclusive)
{
    pai_posix *posix = (pai_posix *)ctx;
    int result;
    size_t i;
    if (pai_posix_is_child(posix)) return PAGENT_E_FENCED;
    for (i = 0; i < PAI_TEMPS && posix->temp[i].file != file; i++) {
    }
    if (i == PAI_TEMPS) return PAGENT_E_ARGUMENT;
    if (exclusive) {
        result = pai_posix_rename_new(posix, posix->temp[i].name, name);
    } else {
        result =
            renameat(posix->root, posix->temp[i].name, posix->root, name) == 0 ? PAGENT_OK : pai_posix_error(errno);
    }
    if (result == PAGENT_OK) posix->temp[i].file = 0;
    return result;
}

static int pai_posix_close(void *ctx, int file)
{
    pai_posix *posix = (pai_posix *)ctx;
    size_t i;
    for (i = 0; i < PAI_TEMPS; i++) {
        if (posix->temp[i].file == file) posix->temp[i].file = 0;
    }
    /* never again after EINTR: the descriptor is gone, and may be another's already */
    return close(file - 1) == 0 || errno == EINTR ? PAGENT_OK : PAGENT_E_STORAGE;
}

static int pai_posix_remove(void *ctx, const char *name)
{
    const pai_posix *posix = (const pai_posix *)ctx;
    if (pai_posix_is_child(posix)) return PAGENT_E_FENCED;
    return unlinkat(posix->root, name, 0) == 0 ? PAGENT_OK : pai_posix_error(errno);
}

static int pai_posix_exists(void *ctx, const char *name)
{
    const pai_posix *posix = (const pai_posix *)ctx;
    if (faccessat(posix->root, name, F_OK, 0) == 0) return 1;
    return errno == ENOENT || errno == ENOTDIR ? 0 : pai_posix_error(errno);
}

static int pai_posix_add_name(pai_posix *posix, int which, const char *name)
{
    size_t length = strlen(name) + 1;
    if (posix->listing[which].size + length > posix->listing[which].room) {
        size_t room = posix->listing[which].room * 2 + length + 1024;
        char *grown = (char *)realloc(posix->listing[which].names, room);
        if (grown == NULL) return PAGENT_E_MEMORY;
        posix->listing[which].names = grown;
        posix->listing[which].room = room;
    }
    memcpy(posix->listing[which].names + posix->listing[which].size, name, length);
    posix->listing[which].size += length;
    return PAGENT_OK;
}

static void pai_posix_free_names(pai_posix *posix, int which)
{
    free(posix->listing[which].names);
    memset(&posix->listing[which], 0, sizeof posix->listing[which]);
}

/* Reads a folder's names in one go: a listing does not change while it is walked. */
static int pai_posix_read_names(pai_posix *posix, int which)
{
    int result = PAGENT_OK, descriptor;
    DIR *stream;
    pai_posix_free_names(posix, which);
    descriptor = pai_posix_open_at(posix, which ? "inbox" : ".", O_RDONLY | O_DIRECTORY);
    if (descriptor < 0) return descriptor;
    stream = fdopendir(descriptor - 1);
    if (stream == NULL) {
        result = pai_posix_error(errno);
        (void)close(descriptor - 1);
        return result;
    }
    while (result == PAGENT_OK) {
        const struct dirent *entry;
        errno = 0;
        entry = readdir(stream);
        if (entry == NULL) {
            if (errno != 0) result = pai_posix_error(errno);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (strlen(entry->d_name) > PAGENT_NAME_MAX) continue; /* none of ours is that long */
        result = pai_posix_add_name(posix, which, entry->d_name);
    }
    if (closedir(stream) != 0 && result == PAGENT_OK) result = PAGENT_E_STORAGE;
    return result;
}

static int pai_posix_list(void *ctx, const char *folder, uint32_t index, char name[PAGENT_NAME_MAX + 1])
{
    pai_posix *posix = (pai_posix *)ctx;
    int which = folder[0] != 0;
    const char *at;
    if (index == 0 || index < posix->listing[which].index || posix->listing[which].names == NULL) {
        int result = pai_posix_read_names(posix, which);
        if (result != PAGENT_OK) return result;
    }
    for (;;) {
        if (posix->listing[which].at >= posix->listing[which].size) {
            pai_posix_free_names(posix, which);
            return PAGENT_END;
        }
        at = posix->listing[which].names + posix->listing[which].at;
        if (posix->listing[which].index == index) break;
        posix->listing[which].at += strlen(at) + 1;
        posix->listing[which].index++;
    }
    memcpy(name, at, strlen(at) + 1);
    return PAGENT_OK;
}

/* The inbox is opened each time: it may have been removed, and made again. */
static int pai_posix_sync_dir(void *ctx, const char *folder)
{
    const pai_posix *posix = (const pai_posix *)ctx;
    int file, done, code;
    if (pai_posix_is_child(posix)) return PAGENT_E_FENCED;
    if (posix->no_dir_sync) return PAGENT_OK;
    file = pai_posix_open_at(posix, folder[0] != 0 ? folder : ".", O_RDONLY | O_DIRECTORY);
    if (file < 0) return file;
    do done = fsync(file - 1);
    while (done < 0 && errno == EINTR);
    code = done == 0 ? 0 : errno;
    (void)close(file - 1);
    return code == 0 || code == EINVAL ? PAGENT_OK : PAGENT_E_STORAGE; /* EINVAL: no such thing on this file system */
}

/* Where open file descriptions can hold locks, those: the old kind is dropped when any descriptor of the file is closed
   in this process. */
static int pai_posix_set_lock(int descriptor, int locked)
{
#if defined(PAI_OFD_SETLK)
    struct flock range;
    memset(&range, 0, sizeof range);
    range.l_type = locked ? F_WRLCK : F_UNLCK;
    range.l_whence = SEEK_SET;
    if (fcntl(descriptor, PAI_OFD_SETLK, &range) == 0) return 0;
    if (errno != EINVAL) return -1;
#endif
    return PAI_FLOCK(descriptor, locked ? LOCK_EX | LOCK_NB : LOCK_UN);
}

/* The file `lock` is never removed: a lock is on the file, not on its name. */
static int pai_posix_lock(void *ctx)
{
    pai_posix *posix = (pai_posix *)ctx;
    int file, done;
    if (posix->lock >= 0) return PAGENT_E_LOCKED;
    file = pai_posix_open_at(posix, "lock", O_RDWR | O_CREAT);
    if (file < 0) return file;
    done = pai_posix_set_lock(file - 1, 1);
    if (done != 0) {
        int code = errno;
        (void)close(file - 1);
        return code == EAGAIN || code == EACCES || code == EWOULDBLOCK ? PAGENT_E_LOCKED : pai_posix_error(code);
    }
    posix->lock = file - 1;
    posix->owner = PAI_GETPID();
    return PAGENT_OK;
}

/* Frees the lock before the descriptor is closed: a child of ours has it open too, and would keep the lock. A child
   itself frees nothing. */
static int pai_posix_unlock(void *ctx)
{
    pai_posix *posix = (pai_posix *)ctx;
    int done = 0;
    if (posix->lock < 0) return PAGENT_OK;
    if (!pai_posix_is_child(posix)) {
        done = pai_posix_set_lock(posix->lock, 0);
        posix->owner = 0;
    }
    if (close(posix->lock) != 0) done = -1;
    posix->lock = -1;
    return done == 0 ? PAGENT_OK : PAGENT_E_STORAGE;
}

/* Syncs the directory in which `path` stands, so that its creation is durable. */
static int pai_posix_sync_parent(const char *path)
{
    char *parent = (char *)malloc(strlen(path) + 2);
    char *slash;
    int descriptor, done;
    if (parent == NULL) return PAGENT_E_MEMORY;
    memcpy(parent, path, strlen(path) + 1);
    slash = strrchr(parent, '/');
    if (slash == NULL) memcpy(parent, ".", 2);
    else slash[slash == parent] = 0;
    descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(parent);
    if (descriptor < 0) return pai_posix_error(errno);
    done = fsync(descriptor);
    if (done != 0 && errno == EINVAL) done = 0;
    return close(descriptor) == 0 && done == 0 ? PAGENT_OK : PAGENT_E_STORAGE;
}

/* Has an earlier opening come as far as its lock? Then `path` is durable. */
static int pai_posix_is_made(const char *path)
{
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), found;
    if (root < 0) return 0;
    found = faccessat(root, "lock", F_OK, 0) == 0;
    (void)close(root);
    return found;
}

/* Makes `path` and what is missing above it. What is there may be of one who died before it was synced: synced again,
   where we may. */
static int pai_posix_make_path(const char *path, int flags)
{
    int syncs = (flags & PAGENT_POSIX_NO_DIR_SYNC) == 0, made = !syncs || pai_posix_is_made(path);
    size_t length = strlen(path), at;
    char *part = (char *)malloc(length + 1);
    int result = PAGENT_OK, code;
    if (part == NULL) return PAGENT_E_MEMORY;
    for (at = 1; at <= length && result == PAGENT_OK; at++) {
        if (path[at] != '/' && path[at] != 0) continue;
        memcpy(part, path, at);
        part[at] = 0;
        if (part[at - 1] == '/') continue;
        if (mkdir(part, 0777) == 0) result = syncs ? pai_posix_sync_parent(part) : PAGENT_OK;
        else if (errno != EEXIST && errno != EISDIR) result = pai_posix_error(errno);
        else if (!made) (void)pai_posix_sync_parent(part);
    }
    code = errno;
    free(part);
    errno = code; /* for the error's text */
    return result;
}

static void pai_posix_free(pai_posix *posix)
{
    if (posix->root >= 0) (void)close(posix->root);
    (void)pai_posix_unlock(posix);
    pai_posix_free_names(posix, 0);
    pai_posix_free_names(posix, 1);
    free(posix);
}

static void pai_posix_fill(pagent_dir *dir, pai_posix *posix)
{
    dir->size = sizeof *dir;
    dir->ctx = posix;
    dir->dev.size = sizeof dir->dev;
    dir->dev.ctx = posix;
    dir->dev.pread = pai_posix_pread;
    dir->dev.pwrite = pai_posix_pwrite;
    dir->dev.sync = pai_posix_sync;
    dir->dev.truncate = pai_posix_truncate;
    dir->dev.file_size = pai_posix_file_size;
    dir->open = pai_posix_open;
    dir->create_temp = pai_posix_create_temp;
    dir->publish = pai_posix_publish;
    dir->close = pai_posix_close;
    dir->remove = pai_posix_remove;
    dir->exists = pai_posix_exists;
    dir->list = pai_posix_list;
    dir->sync_dir = pai_posix_sync_dir;
    dir->lock = pai_posix_lock;
    dir->unlock = pai_posix_unlock;
}

/* What the system said last, of which path. */
static int pai_posix_refuse(char *text, const char *path, int result)
{
    int code = errno;
    if (text != NULL) {
        pai_text t = pai_text_begin(text, PAGENT_TEXT_SIZE);
        pai_text_add(&t, code != 0 ? strerror(code) : pagent_message(result));
        pai_text_add(&t, ": ");
        pai_text_add(&t, path);
    }
    return result;
}

/* The directory at `path`, and its inbox. */
static int pai_posix_enter(pai_posix *posix, const char *path, int flags)
{
    int made;
    posix->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (posix->root < 0) return pai_posix_error(errno);
    if ((flags & PAGENT_POSIX_CREATE) == 0) return PAGENT_OK;
    made = mkdirat(posix->root, "inbox", 0777) == 0;
    if (!made && errno != EEXIST) return pai_posix_error(errno);
    /* durable; where there is a lock, an earlier opening has come past here */
    if (!made && pai_posix_exists(posix, "lock") == 1) return PAGENT_OK;
    return pai_posix_sync_dir(posix, "");
}

PAGENT_API int pagent_open_posix(pagent_dir *dir, const char *path, int flags, char text[PAGENT_TEXT_SIZE])
{
    pai_posix *posix;
    int result = PAGENT_OK;
    errno = 0;
    if (dir == NULL || path == NULL || path[0] == 0) return pai_posix_refuse(text, "dir, path", PAGENT_E_ARGUMENT);
    pai_clear(dir, sizeof *dir);
    if ((flags & PAGENT_POSIX_CREATE) != 0) result = pai_posix_make_path(path, flags);
    if (result != PAGENT_OK) return pai_posix_refuse(text, path, result);
    posix = (pai_posix *)calloc(1, sizeof *posix);
    if (posix == NULL) return pai_posix_refuse(text, path, PAGENT_E_MEMORY);
    posix->lock = -1;
    posix->no_dir_sync = (flags & PAGENT_POSIX_NO_DIR_SYNC) != 0;
    result = pai_posix_enter(posix, path, flags);
    if (result != PAGENT_OK) {
        (void)pai_posix_refuse(text, path, result);
        pai_posix_free(posix);
        return result;
    }
    pai_posix_fill(dir, posix);
    return PAGENT_OK;
}

PAGENT_API void pagent_close_posix(pagent_dir *dir)
{
    if (dir == NULL || dir->ctx == NULL) return;
    pai_posix_free((pai_posix *)dir->ctx);
    pai_clear(dir, sizeof *dir);
}

static void *pai_posix_allocate(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx;
    (void)old_size;
    if (new_size != 0) return realloc(old, new_size);
    free(old);
    return NULL;
}

#if defined(__wasi__)
static int pai_posix_random(void *ctx, void *buffer, size_t size)
{
    uint8_t *at = (uint8_t *)buffer;
    (void)ctx;
    while (size != 0) {
        size_t piece = size < 256 ? size : 256; /* getentropy gives no more at once */
        if (getentropy(at, piece) != 0) return PAGENT_E_STORAGE;
        at += piece;
        size -= piece;
    }
    return PAGENT_OK;
}
#else
static int pai_posix_random(void *ctx, void *buffer, size_t size)
{
    uint8_t *at = (uint8_t *)buffer;
    int descriptor;
    (void)ctx;
    do descriptor = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return PAGENT_E_STORAGE;
    while (size != 0) {
        ssize_t done = read(descriptor, at, size);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) break;
        at += done;
        size -= (size_t)done;
    }
    (void)close(descriptor);
    return size == 0 ? PAGENT_OK : PAGENT_E_STORAGE;
}
#endif

static uint64_t pai_posix_clock_ms(void *ctx)
{
    struct timespec now;
    (void)ctx;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return 0;
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

PAGENT_API void pagent_posix_host(pagent_host *host)
{
    pai_clear(host, sizeof *host);
    host->size = sizeof *host;
    host->allocate = pai_posix_allocate;
    host->random = pai_posix_random;
    host->clock_ms = pai_posix_clock_ms;
}

typedef struct pai_path { /* what an engine of pagent_open_path stands on */
    pagent_dir dir;
    pagent_files *files;
} pai_path;

static int pai_close_path(void *owned)
{
    pai_path *path = (pai_path *)owned;
    int result = pagent_close_files(path->files);
    pagent_close_posix(&path->dir);
    free(path);
    return result;
}

static void pai_fill_host(pagent_host *host)
{
    pagent_host ours;
    pagent_posix_host(&ours);
    host->size = ours.size;
    if (host->allocate == NULL) host->allocate = ours.allocate;
    if (host->random == NULL) host->random = ours.random;
    if (host->clock_ms == NULL) host->clock_ms = ours.clock_ms;
}

PAGENT_API int pagent_open_path(pagent_engine **engine, const char *path, const pagent_config *config,
                                char text[PAGENT_TEXT_SIZE])
{
    pagent_file_options options;
    pagent_config whole;
    pai_path *owned;
    int result;
    if (config == NULL || config->size != sizeof *config) return pagent_open_engine(engine, config, text);
    *engine = NULL;
    owned = (pai_path *)calloc(1, sizeof *owned);
    if (owned == NULL) return pai_posix_refuse(text, path, PAGENT_E_MEMORY);
    whole = *config;
    pai_fill_host(&whole.host);
    pai_clear(&options, sizeof options);
    options.size = sizeof options;
    options.read_only = config->read_only;
    result = pagent_open_posix(&owned->dir, path, config->read_only ? 0 : PAGENT_POSIX_CREATE, text);
    if (result == PAGENT_OK) result = pagent_open_files(&owned->files, &owned->dir, &whole.host, &options, text);
    if (result == PAGENT_OK) {
        whole.store = pagent_files_store(owned->files);
        result = pagent_open_engine(engine, &whole, text);
    }
    if (result != PAGENT_OK) {
        (void)pai_close_path(owned);
        return result;
    }
    (*engine)->close_store = pai_close_path;
    (*engine)->owned = owned;
    return PAGENT_OK;
}

#undef PAI_RENAMEAT2
#undef PAI_OFD_SETLK
#undef PAI_GETPID
#undef PAI_FLOCK
#undef PAI_OPENAT
#endif /* PAGENT_NO_POSIX */
#endif /* PAGENT_NO_FILE */

/* ================================================================================================================
   [VIEWS]  looking at an agent at any version, and carrying one elsewhere
   Owns a state of its own for each view. Invariant: nothing is written, no machine is needed. */

struct pagent_view {
    pagent_engine *engine;
    pai_state state;
    pai_reader *reader;
    pai_buffer plain; /* the payload of the present block, when it is stored whitened */
    int opened;
    char key[PAGENT_KEY_SIZE];
    char event[2 * 64 + 2];
};

PAGENT_API int pagent_open_view_stream(pagent_engine *engine, uint64_t stream, uint64_t version, pagent_view **view)
{
    pagent_view *v = (pagent_view *)pai_allocate(&engine->heap, sizeof *v);
    int result;
    *view = NULL;
    if (v == NULL) return PAGENT_E_MEMORY;
    v->engine = engine;
    v->state.heap = &engine->heap;
    v->reader = pai_open_reader(engine, NULL, &v->state, stream, version);
    if (v->reader == NULL) {
        pai_free(&engine->heap, v, sizeof *v);
        return PAGENT_E_MEMORY;
    }
    pai_flush(engine, 0);
    engine->views++;
    *view = v;
    result = pagent_view_ready(v);
    if (result < 0) {
        pagent_close_view(v);
        *view = NULL;
    }
    return result;
}

PAGENT_API int pagent_open_view(pagent_engine *engine, const char *agent, uint64_t version, pagent_view **view)
{
    int result = pagent_open_view_stream(engine, pagent_stream_of(agent), version, view);
    if (result == PAGENT_OK && !pai_same_text((*view)->state.name, agent)) { /* another name with this hash */
        pagent_close_view(*view);
        *view = NULL;
        result = PAGENT_E_NOT_FOUND;
    }
    return result;
}

PAGENT_API int pagent_view_ready(pagent_view *view)
{
    int result;
    if (!view->opened) {
        result = pai_reader_load(view->reader);
        if (result == PAGENT_OK) view->opened = 1;
        return result;
    }
    return view->reader->waiting ? PAGENT_PENDING : PAGENT_OK;
}

PAGENT_API int pagent_view_next(pagent_view *view)
{
    int result = view->opened ? pai_reader_next(view->reader) : pagent_view_ready(view);
    if (result < 0) view->opened = 0; /* there is nothing sound left to show */
    return result;
}

PAGENT_API void pagent_close_view(pagent_view *view)
{
    pagent_engine *e;
    if (view == NULL) return;
    e = view->engine;
    pai_close_reader(view->reader);
    pai_free_state(&view->state);
    pai_free_buffer(&e->heap, &view->plain);
    e->views--;
    pai_free(&e->heap, view, sizeof *view);
}

PAGENT_API int pagent_view_info(const pagent_view *view, pagent_info *info)
{
    const pai_state *state = &view->state;
    pagent_summary summary;
    if (!view->opened) return view->reader->result < 0 ? view->reader->result : PAGENT_PENDING;
    pai_clear(info, sizeof *info);
    pai_make_summary(state, &summary);
    pai_copy(info->name, state->name, pai_length(state->name));
    info->stream = state->stream;
    info->version = state->version;
    info->changed_version = state->changed;
    info->epoch = state->epoch;
    info->link = state->link;
    info->machine_hash = state->names->hash;
    info->due_ms = summary.due_ms;
    info->time_ms = state->time_ms;
    info->created_ms = state->created_ms;
    info->machine = state->names->text[0];
    info->state = pai_name(state->names, PAI_STATES, state->leaf);
    info->parent_agent = state->name + state->parent_at;
    info->parent_version = state->parent_version;
    info->machine_version = state->names->version;
    info->status = state->status;
    info->flags = summary.flags;
    info->error = state->error;
    info->error_text = state->error != 0 && state->error_text != NULL ? state->error_text : "";
    info->context.data = state->context.data;
    info->context.size = (uint32_t)state->context.size;
    info->transcript_count = pai_entry_count(state);
    info->effect_count = state->effect_count;
    info->mailbox_count = state->mail_count;
    return PAGENT_OK;
}

static const char *pai_type_name(uint32_t type)
{
    switch (type) {
    case PAI_CLAIM: return "claim";
    case PAI_CREATE: return "create";
    case PAI_COMMIT: return "commit";
    case PAI_ROLLBACK: return "rollback";
    case PAI_SNAPSHOT: return "snapshot";
    case PAI_MOVED: return "moved";
    case PAI_TOMBSTONE: return "tombstone";
    default: return "unknown";
    }
}

static const char *pai_outcome_name(uint32_t outcome)
{
    static const char *const names[] = {"",       "taken",   "refused",   "deferred",  "error",
                                        "parked", "retry",   "claimed",   "cancelled", "rolled back",
                                        "forked", "retried", "moved out", "moved in",  "delivered"};
    return outcome < sizeof names / sizeof names[0] ? names[outcome] : "unknown";
}

static const char *pai_event_name_of(pagent_view *view, uint32_t kind, uint32_t name)
{
    const char *subject = pai_name(view->state.names, pai_event_table(kind), name);
    pai_text text;
    if (kind == PAGENT_EVENT_SIGNAL) return subject;
    if (subject[0] == 0) return pai_event_suffix(kind);
    text = pai_text_begin(view->event, sizeof view->event);
    pai_text_add(&text, subject);
    pai_text_add(&text, ".");
    pai_text_add(&text, pai_event_suffix(kind));
    return view->event;
}

static void pai_count_section(const pai_section *section, pagent_block_info *info)
{
    if (section->tag == PAI_TAG_EFFECT) info->effects_issued++;
    if (section->tag == PAI_TAG_EFFECT_CHANGE && section->size == PAI_CHANGE_SIZE &&
        (section->data[12] == PAI_CHANGE_SETTLED || section->data[12] == PAI_CHANGE_CANCELLED)) {
        info->effects_settled++;
    }
    if (section->tag == PAI_TAG_ENTRY) info->transcript_entries++;
    if (section->tag == PAI_TAG_DELTA && section->size >= 8) {
        info->context_changed = section->size - 8 - 12u * pai_get16(section->data + 4);
    }
    if (section->tag == PAI_TAG_EVENT && section->size >= 8) {
        uint32_t who_size = pai_get32(section->data + 4);
        if (who_size > section->size - 8) return;
        info->who = who_size != 0 && section->data[8 + who_size - 1] == 0 ? (const char *)section->data + 8 : "";
        info->data.data = section->data + 8 + who_size;
        info->data.size = section->size - 8 - who_size;
    }
}

PAGENT_API int pagent_view_block(const pagent_view *view, pagent_block_info *info)
{
    pagent_view *v = (pagent_view *)(uintptr_t)(const void *)view;
    pagent_engine *e = v->engine;
    const uint8_t *block, *payload;
    pai_block header;
    pai_section section;
    uint32_t at = 0;
    pai_clear(info, sizeof *info);
    info->event = info->outcome = info->from = info->to = info->who = "";
    if (!v->opened || v->reader->current >= v->reader->blocks.size) return PAGENT_E_NOT_FOUND;
    block = v->reader->blocks.data + v->reader->current;
    if (pai_decode_header(&e->crc, block, 0, &header) != PAGENT_OK) return PAGENT_E_CORRUPT;
    payload = pai_plain_payload(&e->heap, block, &header, &v->plain);
    if (payload == NULL) return PAGENT_E_MEMORY;
    info->version = header.version;
    info->epoch = header.epoch;
    info->link = v->state.link;
    info->time_ms = v->state.time_ms;
    info->type = pai_type_name(header.type);
    info->to = pai_name(v->state.names, PAI_STATES, v->state.leaf);
    info->block_size = pai_block_size(&header);
    while (pai_next_section(payload, header.payload_size, &at, &section) == PAGENT_OK) {
        if (section.tag == PAI_TAG_STEP && section.size >= PAI_STEP_SIZE) {
            info->event = pai_event_name_of(v, section.data[0], pai_get16(section.data + 2));
            info->outcome = pai_outcome_name(section.data[1]);
            info->from = pai_name(v->state.names, PAI_STATES, pai_get16(section.data + 4));
        }
        pai_count_section(&section, info);
    }
    return PAGENT_OK;
}

PAGENT_API int pagent_view_raw(const pagent_view *view, pagent_bytes *block)
{
    pai_block header;
    const pai_reader *reader = view->reader;
    if (!view->opened || reader->current >= reader->blocks.size) return PAGENT_E_NOT_FOUND;
    block->data = reader->blocks.data + reader->current;
    if (pai_decode_header(&view->engine->crc, reader->blocks.data + reader->current, 0, &header) != PAGENT_OK) {
        return PAGENT_E_CORRUPT;
    }
    block->size = pai_block_size(&header);
    return PAGENT_OK;
}

PAGENT_API int pagent_view_effect(const pagent_view *view, uint32_t index, pagent_effect *effect)
{
    pagent_view *v = (pagent_view *)(uintptr_t)(const void *)view;
    const pai_effect *from;
    uint32_t table;
    if (!v->opened || index >= v->state.effect_count) return PAGENT_E_NOT_FOUND;
    from = &v->state.effects[index];
    pai_clear(effect, sizeof *effect);
    table = from->kind == PAGENT_EFFECT_CALL       ? PAI_CALLS
            : from->kind == PAGENT_EFFECT_APPROVAL ? PAI_APPROVALS
            : from->kind == PAGENT_EFFECT_TIMER    ? PAI_TIMERS
                                                   : PAI_SIGNALS;
    effect->id.version = from->version;
    effect->id.index = from->index;
    effect->kind = from->kind;
    effect->phase = from->phase;
    effect->name = pai_name(v->state.names, table, from->name);
    effect->target = effect->key = "";
    effect->attempt = from->attempt;
    effect->due_ms = from->due_ms;
    effect->deadline_ms = from->deadline_ms;
    effect->payload.data = from->data;
    effect->payload.size = from->data_size;
    if (from->kind == PAGENT_EFFECT_SIGNAL) {
        uint32_t target_size = (uint32_t)pai_length((const char *)from->data) + 1;
        effect->target = (const char *)from->data;
        effect->payload.data = from->data + target_size;
        effect->payload.size = from->data_size - target_size;
    }
    effect->digest = pagent_digest(effect->payload.data, effect->payload.size);
    if (from->kind == PAGENT_EFFECT_CALL) {
        pai_key(v->key, from);
        effect->key = v->key;
    }
    return PAGENT_OK;
}

PAGENT_API int pagent_view_entry(const pagent_view *view, uint32_t index, pagent_entry *entry)
{
    if (!view->opened || index >= pai_entry_count(&view->state)) return PAGENT_E_NOT_FOUND;
    pai_entry(&view->state, index, entry);
    return PAGENT_OK;
}

PAGENT_API int pagent_check_anchor(pagent_engine *engine, const char *agent, uint64_t version, uint64_t link)
{
    pagent_view *view = NULL;
    int result = version != 0 ? pagent_open_view(engine, agent, version, &view) : PAGENT_E_ARGUMENT;
    if (result == PAGENT_E_NOT_FOUND) return PAGENT_E_LOST_TAIL;
    if (result == PAGENT_PENDING) result = PAGENT_E_AGAIN;
    if (result == PAGENT_OK && view->state.link != link) result = PAGENT_E_FOREIGN;
    pagent_close_view(view);
    return result;
}

PAGENT_API int pagent_next_agent(pagent_engine *engine, uint64_t *cursor, pagent_summary *summary)
{
    pagent_list list;
    pagent_io io;
    int result;
    if (*cursor == PAGENT_FOREVER) return PAGENT_END;
    pai_clear(&list, sizeof list);
    pai_clear(&io, sizeof io);
    list.cursor = *cursor;
    list.items = summary;
    list.capacity = 1;
    pai_flush(engine, 0);
    result = pai_begin_operation(engine, PAI_OP_LIST, NULL, &list.op);
    if (result != PAGENT_OK) return result;
    result = engine->store.list(engine->store.ctx, &list, &io);
    pai_end_operation(engine, list.op);
    if (result == PAGENT_PENDING) return PAGENT_E_ARGUMENT;
    if (result != PAGENT_OK && result != PAGENT_END) return result;
    *cursor = io.cursor != 0 ? io.cursor : PAGENT_FOREVER;
    return io.count != 0 ? PAGENT_OK : PAGENT_END;
}

/* ---- import ---- */

/* Counts whole blocks; 0: these bytes are not blocks of one stream, end to end. */
static uint32_t pai_count_blocks(const pagent_engine *e, const uint8_t *blocks, size_t size)
{
    uint32_t count = 0;
    size_t at = 0;
    while (at < size) {
        pai_block header;
        if (size - at < PAI_HEADER || pai_decode_header(&e->crc, blocks + at, 0, &header) != PAGENT_OK) return 0;
        if (pai_block_size(&header) > size - at || header.stream != pai_get64(blocks + 16)) return 0;
        at += pai_block_size(&header);
        count++;
    }
    return count;
}

/* Reads foreign blocks from the first to the last as if they stood in a store: what cannot be read here must not come
   in. */
static int pai_replay(pagent_engine *e, pai_state *state, const uint8_t *blocks, size_t size, uint32_t count)
{
    pagent_store store;
    pagent_memory *memory;
    pagent_append request;
    pai_reader *reader;
    pagent_io io;
    int result = pagent_open_memory(&memory, &e->host);
    if (result != PAGENT_OK) return result;
    pai_clear(&request, sizeof request);
    pai_clear(&io, sizeof io);
    request.stream = pai_get64(blocks + 16);
    request.first = pai_get64(blocks + 24);
    request.blocks = blocks;
    request.size = (uint32_t)size;
    request.count = count;
    request.summary.stream = request.stream;
    request.summary.version = request.first + count - 1;
    result = pai_memory_append(memory, &request, &io);
    pai_copy(&store, &e->store, sizeof store);
    pai_memory_fill(memory, &e->store);
    reader = pai_open_reader(e, NULL, state, request.stream, PAGENT_OLDEST);
    if (reader == NULL) result = PAGENT_E_MEMORY;
    if (result == PAGENT_OK) result = pai_reader_load(reader);
    while (result == PAGENT_OK) result = pai_reader_next(reader);
    pai_close_reader(reader);
    pai_copy(&e->store, &store, sizeof store);
    pagent_close_memory(memory);
    if (result != PAGENT_END) return result < 0 ? result : PAGENT_E_CORRUPT;
    return state->version == request.summary.version ? PAGENT_OK : PAGENT_E_CORRUPT;
}

static int pai_append_now(pagent_engine *e, pagent_append *request)
{
    pagent_io io;
    int result;
    pai_clear(&io, sizeof io);
    result = pai_begin_operation(e, PAI_OP_APPEND, NULL, &request->op);
    if (result != PAGENT_OK) return result;
    result = e->store.append(e->store.ctx, request, &io);
    if (result == PAGENT_STAGED) result = e->store.flush(e->store.ctx, request->op, &io);
    pai_end_operation(e, request->op);
    if (result == PAGENT_E_CONFLICT) return PAGENT_E_EXISTS;
    e->sealed = 0;
    return result <= 0 ? result : PAGENT_E_ARGUMENT;
}

/* The blocks as they are. An agent that was moved out of this very store before brings only what is new. DUPLICATE: it
   brings nothing, as where an import died before MOVE_IN. */
static int pai_import_moved(pagent_engine *e, const uint8_t *blocks, size_t size, uint32_t count, pai_state *state)
{
    pagent_append request;
    pai_state here;
    pai_reader *reader;
    pai_agent *agent;
    pai_block header;
    size_t at = 0;
    int result, known = 0;
    if (state->status != PAGENT_MOVED) return PAGENT_E_REFUSED;
    pai_clear(&request, sizeof request);
    pai_clear(&here, sizeof here);
    reader = pai_open_reader(e, NULL, &here, state->stream, 0);
    result = reader != NULL ? pai_reader_load(reader) : PAGENT_E_MEMORY;
    if (result == PAGENT_PENDING) result = PAGENT_E_ARGUMENT;
    if (result == PAGENT_OK && here.status != PAGENT_MOVED) result = PAGENT_E_EXISTS;
    if (result == PAGENT_OK) {
        for (; at < size; at += pai_block_size(&header), count--) {
            if (pai_decode_header(&e->crc, blocks + at, 0, &header) != PAGENT_OK) break;
            if (header.version <= here.version) continue;
            if (header.version != here.version + 1 || header.previous != here.link) result = PAGENT_E_EXISTS;
            break;
        }
        request.expected = here.version;
        known = at >= size && here.version == state->version && here.link == state->link;
        if (at >= size && !known) result = PAGENT_E_EXISTS;
    } else if (result == PAGENT_E_NOT_FOUND) {
        result = PAGENT_OK;
    }
    pai_close_reader(reader);
    pai_free_state(&here);
    agent = pai_find_agent(e, state->stream);
    if (result == PAGENT_OK && agent != NULL &&
        (agent->phase == PAI_AGENT_COMMITTING || agent->phase == PAI_AGENT_PAST || agent->phase == PAI_AGENT_BROKEN)) {
        result = PAGENT_E_AGAIN;
    }
    if (result == PAGENT_OK && known) return PAGENT_DUPLICATE;
    if (result != PAGENT_OK) return result;
    request.stream = state->stream;
    request.first = pai_get64(blocks + at + 24);
    request.epoch = state->epoch;
    request.blocks = blocks + at;
    request.size = (uint32_t)(size - at);
    request.count = count;
    request.flags = PAGENT_APPEND_WHOLE;
    pai_make_summary(state, &request.summary);
    result = pai_append_now(e, &request);
    if (agent != NULL) { /* what is in memory is from before */
        pai_reset_agent(e, agent);
        pai_mark_ready(e, agent);
    }
    return result;
}

static int pai_import_fork(pagent_engine *e, pai_state *state, const char *as)
{
    pai_agent *agent = pai_get_agent(e, pagent_stream_of(as));
    pai_commit *commit;
    pai_task task;
    char parent[PAGENT_NAME_MAX + 1];
    size_t parent_size = pai_length(state->name);
    int result;
    if (agent == NULL) return PAGENT_E_MEMORY;
    if (!pai_load(e, agent)) return agent->broken != 0 ? agent->broken : PAGENT_E_AGAIN;
    if (agent->exists) return PAGENT_E_EXISTS;
    pai_clear(&task, sizeof task);
    pai_copy(parent, state->name, parent_size);
    state->parent_version = state->version;
    state->created_ms = e->now;
    state->crossed = 0;
    result = pai_set_identity(state, as, pai_length(as), parent, parent_size);
    commit = pai_take_commit(e, agent);
    if (result == PAGENT_OK && commit == NULL) result = PAGENT_E_MEMORY;
    if (result == PAGENT_OK) result = pai_build_restored(e, agent, commit, state, PAI_CREATE, &task);
    if (result == PAGENT_OK) {
        commit->request.stream = agent->state.stream;
        commit->request.first = 1;
        commit->request.blocks = commit->buffer.data;
        commit->request.size = (uint32_t)commit->buffer.size;
        commit->request.count = commit->count;
        result = pai_append_now(e, &commit->request);
    }
    if (commit != NULL) pai_give_commit(e, commit);
    pai_reset_agent(e, agent);
    pai_mark_ready(e, agent);
    return result;
}

PAGENT_API int pagent_import_blocks(pagent_engine *engine, const uint8_t *blocks, size_t size, const char *as)
{
    pagent_engine *e = engine;
    pai_state state;
    uint32_t count;
    int result;
    if (e->read_only) return PAGENT_E_READ_ONLY;
    if (e->failed != 0) return e->failed;
    if (size < PAI_HEADER || size > UINT32_MAX || (as != NULL && !pai_is_name(as, 1))) {
        return PAGENT_E_ARGUMENT;
    }
    e->now = e->host.clock_ms(e->host.ctx);
    pai_flush(e, 0);
    pai_clear(&state, sizeof state);
    state.heap = &e->heap;
    state.leaf = PAI_NONE;
    count = pai_count_blocks(e, blocks, size);
    if (count == 0) return PAGENT_E_CORRUPT;
    result = pai_replay(e, &state, blocks, size, count);
    if (result == PAGENT_OK) {
        result = as != NULL ? pai_import_fork(e, &state, as) : pai_import_moved(e, blocks, size, count, &state);
    }
    pai_free_state(&state);
    return result;
}

/* ---- portable files. The head is a block of stream 0 and type LOG, with one section:
     PORTABLE   format:4 flags:4 (1: moved) count:8 first:8 last:8 link:8 bytes:8, then the agent's name ---- */
enum {
    PAI_PORTABLE_FORMAT = 1,
    PAI_PORTABLE_FIXED = 48
};

PAGENT_API uint32_t pagent_portable_head(const pagent_portable *file, uint8_t head[PAGENT_PORTABLE_HEAD])
{
    uint8_t *payload = head + PAI_HEADER, *at = payload + PAI_SECTION;
    uint32_t size = (uint32_t)PAI_PORTABLE_FIXED + (uint32_t)pai_length(file->name);
    uint32_t payload_size = (uint32_t)PAI_SECTION + ((size + 7u) & ~7u);
    pai_block header;
    pai_crc crc;
    pai_crc_init(&crc);
    pai_clear(&header, sizeof header);
    pai_clear(head, PAGENT_PORTABLE_HEAD);
    pai_put_section(payload, PAI_TAG_PORTABLE, PAI_TAG_CRITICAL, size);
    pai_put32(at, PAI_PORTABLE_FORMAT);
    pai_put32(at + 4, file->moved != 0);
    pai_put64(at + 8, file->count);
    pai_put64(at + 16, file->first);
    pai_put64(at + 24, file->last);
    pai_put64(at + 32, file->link);
    pai_put64(at + 40, file->bytes);
    pai_copy(at + PAI_PORTABLE_FIXED, file->name, size - PAI_PORTABLE_FIXED);
    header.log = file->log;
    header.version = 1;
    header.type = PAI_LOG;
    pai_finish_block(&crc, head, &header, &payload_size);
    return pai_block_size(&header);
}

PAGENT_API uint32_t pagent_portable_add(pagent_portable *file, uint8_t *block, uint32_t size)
{
    uint8_t head[PAGENT_PORTABLE_HEAD];
    uint64_t version;
    pai_block header;
    pai_crc crc;
    pai_crc_init(&crc);
    if (size < PAI_HEADER || pai_decode_header(&crc, block, 0, &header) != PAGENT_OK) return 0;
    version = header.version;
    if (pai_block_size(&header) != size || (file->count != 0 && version != file->last + 1)) return 0;
    pai_place_block(&crc, block, file->log, pagent_portable_head(file, head) + file->bytes, 0);
    if (file->count++ == 0) file->first = version;
    file->last = version;
    file->link = pai_link(&crc, block);
    file->bytes += size;
    return size;
}

/* Checks the head. Returns its size, 0 with *result otherwise. */
static uint32_t pai_portable_read_head(const pai_crc *crc, const uint8_t *bytes, size_t size, pagent_portable *file,
                                       int *result)
{
    uint8_t payload[PAGENT_PORTABLE_HEAD];
    pai_section section;
    pai_block header;
    uint32_t at = 0, name_size, whole;
    *result = PAGENT_E_FOREIGN;
    if (size < PAI_HEADER || pai_get32(bytes) != pai_magic) return 0;
    *result = pai_decode_header(crc, bytes, 0, &header);
    if (*result != PAGENT_OK) return 0;
    *result = PAGENT_E_FOREIGN;
    whole = pai_block_size(&header);
    if (header.stream != 0 || header.type != PAI_LOG) return 0;
    if (whole == PAI_HEADER || whole > PAGENT_PORTABLE_HEAD) return 0;
    *result = PAGENT_E_CORRUPT;
    if (size < whole || pai_check_payload(crc, bytes, &header) != PAGENT_OK) return 0;
    pai_copy(payload, bytes + PAI_HEADER, whole - PAI_HEADER);
    if (header.flags & PAI_WHITE) pai_whiten(payload, whole - PAI_HEADER, header.stream, header.version);
    *result = PAGENT_E_FOREIGN;
    do { /* whitening may have put a PAD section before it */
        if (pai_next_section(payload, header.payload_size, &at, &section) != PAGENT_OK) return 0;
    } while (section.tag == PAI_TAG_PAD);
    if (section.tag != PAI_TAG_PORTABLE || section.size <= PAI_PORTABLE_FIXED) return 0;
    *result = PAGENT_E_NEWER;
    if (pai_get32(section.data) != PAI_PORTABLE_FORMAT) return 0;
    *result = PAGENT_E_CORRUPT;
    name_size = section.size - PAI_PORTABLE_FIXED;
    if (name_size > PAGENT_NAME_MAX) return 0;
    pai_copy(file->name, section.data + PAI_PORTABLE_FIXED, name_size);
    file->log = header.log;
    file->moved = pai_get32(section.data + 4) & 1u;
    file->count = pai_get64(section.data + 8);
    file->first = pai_get64(section.data + 16);
    file->last = pai_get64(section.data + 24);
    file->link = pai_get64(section.data + 32);
    file->bytes = pai_get64(section.data + 40);
    *result = PAGENT_OK;
    return whole;
}

PAGENT_API int pagent_portable_open(pagent_portable *file, uint8_t *bytes, size_t size, size_t *at, const char **what)
{
    uint64_t stream, version, link = 0, count = 0;
    uint32_t head;
    size_t place;
    pai_crc crc;
    int result;
    pai_crc_init(&crc);
    pai_clear(file, sizeof *file);
    *at = 0;
    *what = "the file's head is damaged";
    head = pai_portable_read_head(&crc, bytes, size, file, &result);
    if (result == PAGENT_E_FOREIGN) *what = "not an agent's portable file";
    if (result == PAGENT_E_NEWER) *what = "written by a newer version";
    if (result != PAGENT_OK) return result;
    stream = pagent_stream_of(file->name);
    version = file->first;
    *at = size;
    *what = "the file is cut off, or something was added";
    if (file->count == 0 || size - head != file->bytes) return PAGENT_E_CORRUPT;
    for (place = head; place < size; version++, count++) {
        pai_block block;
        *at = place;
        *what = "damaged: this is not a block that was written here";
        if (size - place < PAI_HEADER || pai_decode_header(&crc, bytes + place, place, &block) != PAGENT_OK) {
            return PAGENT_E_CORRUPT;
        }
        *what = "damaged: the block's checksum does not match";
        if (size - place < pai_block_size(&block) || pai_check_payload(&crc, bytes + place, &block) != PAGENT_OK) {
            return PAGENT_E_CORRUPT;
        }
        *what = "damaged: this block does not follow the one before it";
        if (block.log != file->log || block.stream != stream || block.version != version ||
            (count != 0 && block.previous != link)) {
            return PAGENT_E_CORRUPT;
        }
        link = pai_link(&crc, bytes + place);
        pai_place_block(&crc, bytes + place, 0, 0, 0);
        place += pai_block_size(&block);
    }
    *what = "damaged: the blocks are not those that the file's head announces";
    if (count != file->count || version - 1 != file->last || link != file->link) return PAGENT_E_CORRUPT;
    *at = head;
    *what = "";
    return PAGENT_OK;
}

#undef PAI_BUILTIN_MEMORY
#undef PAI_CRC_ARM
#undef PAI_CRC_X86

#endif /* PERSISTENT_AGENT_IMPLEMENTED */
#endif /* PERSISTENT_AGENT_IMPLEMENTATION */

/* MIT License

   Copyright (c) 2026 The persistent_agent.h authors

   Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
   documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
   rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
   permit persons to whom the Software is furnished to do so, subject to the following conditions:

   The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
   Software.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
   WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
   COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
   OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
