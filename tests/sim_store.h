/* sim_store.h: a store between the engine and a real one. It completes late, out of order and twice, says IN_DOUBT,
   refuses, and remembers what the engine has been told is durable: the order checker asks it at every release. */
#ifndef SIM_STORE_H
#define SIM_STORE_H

#include "sim.h"

enum {
    SIM_OPS = 256,
    SIM_TOLD = 64
};

enum sim_op_kind {
    SIM_APPEND = 1,
    SIM_FLUSH,
    SIM_READ_OP,
    SIM_LIST_OP,
    SIM_TRIM_OP,
    SIM_COLLECT,
    SIM_SETTLE
};

enum sim_doubt { /* what the append that fails does, beside its result */
    SIM_NOT_APPLIED = 0,
    SIM_APPLIED,     /* it is in the store all the same */
    SIM_APPLIED_LATE /* it arrives after the engine has looked for it */
};

typedef struct sim_op {
    pagent_op op;
    const void *request; /* the engine keeps it valid until the completion */
    uint32_t kind;
    int done; /* carried out when it was begun; only the answer is late */
    int result;
    pagent_io io;
} sim_op;

typedef struct sim_told {
    uint64_t stream, version, staged;
} sim_told;

typedef struct sim_store {
    pagent_store inner;
    pagent_engine *engine;
    sim_random random;
    sim_disk *points; /* its cut points stand before and after every operation; NULL: none */
    uint32_t late;    /* of 100 operations so many are PENDING; 0: all are answered at once */
    sim_op ops[SIM_OPS];
    uint32_t op_count;
    uint64_t calls; /* of all callbacks */
    uint64_t appends;
    uint64_t fail_at; /* the call (from 1) that fails; 0: none */
    int fail_code;
    int fail_forever;
    int fail_doubt; /* enum sim_doubt, for appends */
    uint32_t failed_kind;
    uint64_t stale;      /* duplicates that were refused */
    uint8_t *late_block; /* APPLIED_LATE: a copy of the append */
    pagent_append late_append;
    int late_armed;
    sim_told told[SIM_TOLD];
} sim_store;

static inline sim_told *sim_told_of(sim_store *store, uint64_t stream)
{
    uint32_t i;
    for (i = 0; i < SIM_TOLD; i++) {
        if (store->told[i].stream == 0) store->told[i].stream = stream;
        if (store->told[i].stream == stream) return &store->told[i];
    }
    abort();
}

/* Has the engine been told, or has it read, that this block is durable? */
static inline int sim_was_told(sim_store *store, uint64_t stream, uint64_t version)
{
    return sim_told_of(store, stream)->version >= version;
}

static inline void sim_learn(sim_store *store, const sim_op *op)
{
    uint32_t i;
    if (op->kind == SIM_APPEND) {
        const pagent_append *request = (const pagent_append *)op->request;
        sim_told *told = sim_told_of(store, request->stream);
        uint64_t last = request->first + request->count - 1;
        if (op->result == PAGENT_OK) told->version = last;
        if (op->result == PAGENT_STAGED) told->staged = last;
    } else if (op->kind == SIM_FLUSH) {
        for (i = 0; i < SIM_TOLD; i++) {
            if (op->result == PAGENT_OK && store->told[i].staged > store->told[i].version) {
                store->told[i].version = store->told[i].staged;
            }
            store->told[i].staged = 0;
        }
    } else if (op->kind == SIM_READ_OP && op->result == PAGENT_OK) {
        const pagent_read *request = (const pagent_read *)op->request;
        sim_told *told = sim_told_of(store, request->stream);
        uint32_t at = 0, count = op->io.count;
        while (count-- != 0) {
            uint64_t version = pai_get64(request->buffer + at + 24);
            if (version > told->version) told->version = version;
            at += 64u + pai_padded(pai_get32(request->buffer + at + 48));
        }
    }
}

/* The append that was IN_DOUBT arrives, after all. */
static inline void sim_land(sim_store *store)
{
    pagent_io io;
    int result;
    if (!store->late_armed) return;
    store->late_armed = 0;
    memset(&io, 0, sizeof io);
    result = store->inner.append(store->inner.ctx, &store->late_append, &io);
    if (result == PAGENT_STAGED) (void)store->inner.flush(store->inner.ctx, 1, &io);
    free(store->late_block);
    store->late_block = NULL;
}

static inline int sim_perform(sim_store *store, uint32_t kind, const void *request, pagent_op op, pagent_io *io)
{
    const pagent_store *inner = &store->inner;
    switch (kind) {
    case SIM_APPEND: return inner->append(inner->ctx, (const pagent_append *)request, io);
    case SIM_FLUSH: return inner->flush != NULL ? inner->flush(inner->ctx, op, io) : PAGENT_OK;
    case SIM_READ_OP: return inner->read(inner->ctx, (const pagent_read *)request, io);
    case SIM_LIST_OP: return inner->list(inner->ctx, (const pagent_list *)request, io);
    case SIM_TRIM_OP: return inner->trim(inner->ctx, (const pagent_trim *)request, io);
    case SIM_COLLECT: return inner->collect(inner->ctx, (const pagent_collect *)request, io);
    default: return inner->settle(inner->ctx, (const pagent_settle *)request, io);
    }
}

/* Carried out for an answer that comes later: STAGED is an answer at once only, so it is made durable first. */
static inline int sim_perform_late(sim_store *store, uint32_t kind, const void *request, pagent_op op, pagent_io *io)
{
    int result = sim_perform(store, kind, request, op, io);
    pagent_io flushed;
    if (result != PAGENT_STAGED) return result;
    memset(&flushed, 0, sizeof flushed);
    return store->inner.flush(store->inner.ctx, op, &flushed) == PAGENT_OK ? PAGENT_OK : PAGENT_E_IN_DOUBT;
}

static inline void sim_fail_append(sim_store *store, const pagent_append *request)
{
    pagent_io io;
    memset(&io, 0, sizeof io);
    if (store->fail_doubt == SIM_APPLIED) {
        int result = store->inner.append(store->inner.ctx, request, &io);
        if (result == PAGENT_STAGED) (void)store->inner.flush(store->inner.ctx, 1, &io);
    } else if (store->fail_doubt == SIM_APPLIED_LATE && !store->late_armed) {
        store->late_append = *request;
        store->late_block = (uint8_t *)malloc(request->size);
        if (store->late_block == NULL) abort();
        memcpy(store->late_block, request->blocks, request->size);
        store->late_append.blocks = store->late_block;
        store->late_armed = 1;
    }
}

static inline void sim_show_op(const char *what, uint32_t kind, pagent_op op, int result)
{
    static const char *const names[] = {"?", "append", "flush", "read", "list", "trim", "collect", "settle"};
    if (!test.verbose || test.only == TEST_ANY_CASE || test.at != test.only) return;
    printf("    %s %s %llx: %s\n", what, names[kind], (unsigned long long)op, pagent_result_name(result));
}

static inline int sim_begin_op(sim_store *store, uint32_t kind, const void *request, pagent_op op, pagent_io *io)
{
    sim_op *made;
    int fails;
    store->calls++;
    if (kind == SIM_APPEND) store->appends++;
    fails = store->fail_at != 0 &&
            (store->calls == store->fail_at || (store->fail_forever && store->calls > store->fail_at));
    if (store->op_count == SIM_OPS) abort();
    made = &store->ops[store->op_count];
    memset(made, 0, sizeof *made);
    made->op = op;
    made->request = request;
    made->kind = kind;
    if (fails && kind == SIM_FLUSH) { /* what a flush did not do stays staged below: it may fail only after doing it */
        int certain = store->fail_code == PAGENT_E_AGAIN || store->fail_code == PAGENT_E_NO_SPACE;
        made->done = 1;
        made->result = sim_perform(store, kind, request, op, &made->io);
        if (!certain && made->result == PAGENT_OK) made->result = store->fail_code;
    } else if (fails) {
        store->failed_kind = kind;
        if (kind == SIM_APPEND) sim_fail_append(store, (const pagent_append *)request);
        made->done = 1;
        made->result = store->fail_code;
    }
    if (sim_below(&store->random, 100) < store->late) {
        if (!made->done && sim_coin(&store->random)) {
            made->result = sim_perform_late(store, kind, request, op, &made->io);
            made->done = 1;
        }
        store->op_count++;
        return PAGENT_PENDING;
    }
    if (!made->done) made->result = sim_perform(store, kind, request, op, &made->io);
    *io = made->io;
    sim_learn(store, made);
    if (kind == SIM_READ_OP && store->late_armed) sim_land(store);
    return made->result;
}

static inline int sim_begin(sim_store *store, uint32_t kind, const void *request, pagent_op op, pagent_io *io)
{
    int result;
    if (store->points != NULL) sim_point(store->points);
    result = sim_begin_op(store, kind, request, op, io);
    sim_show_op("store", kind, op, result);
    if (store->points != NULL) sim_point(store->points);
    return result;
}

static inline int sim_store_append(void *ctx, const pagent_append *request, pagent_io *io)
{
    return sim_begin((sim_store *)ctx, SIM_APPEND, request, request->op, io);
}

static inline int sim_store_flush(void *ctx, pagent_op op, pagent_io *io)
{
    return sim_begin((sim_store *)ctx, SIM_FLUSH, NULL, op, io);
}

static inline int sim_store_read(void *ctx, const pagent_read *request, pagent_io *io)
{
    return sim_begin((sim_store *)ctx, SIM_READ_OP, request, request->op, io);
}

static inline int sim_store_list(void *ctx, const pagent_list *request, pagent_io *io)
{
    return sim_begin((sim_store *)ctx, SIM_LIST_OP, request, request->op, io);
}

static inline int sim_store_trim(void *ctx, const pagent_trim *request, pagent_io *io)
{
    return sim_begin((sim_store *)ctx, SIM_TRIM_OP, request, request->op, io);
}

static inline int sim_store_collect(void *ctx, const pagent_collect *request, pagent_io *io)
{
    return sim_begin((sim_store *)ctx, SIM_COLLECT, request, request->op, io);
}

static inline int sim_store_settle(void *ctx, const pagent_settle *request, pagent_io *io)
{
    return sim_begin((sim_store *)ctx, SIM_SETTLE, request, request->op, io);
}

/* Completes any one of the pending operations; sometimes twice, sometimes one that never was: both are refused.
   0 when nothing is pending. */
static inline int sim_complete(sim_store *store)
{
    sim_op op;
    uint32_t at;
    if (store->op_count == 0) return 0;
    at = (uint32_t)sim_below(&store->random, store->op_count);
    op = store->ops[at];
    store->ops[at] = store->ops[--store->op_count];
    if (!op.done) op.result = sim_perform_late(store, op.kind, op.request, op.op, &op.io);
    sim_learn(store, &op);
    sim_show_op("late", op.kind, op.op, op.result);
    if (op.kind == SIM_READ_OP && store->late_armed) sim_land(store);
    CHECK_EQ(pagent_store_done(store->engine, op.op, op.result, &op.io), PAGENT_OK);
    if (sim_below(&store->random, 4) == 0) {
        CHECK_EQ(pagent_store_done(store->engine, op.op, op.result, &op.io), PAGENT_E_STALE);
        CHECK_EQ(pagent_store_done(store->engine, op.op + (UINT64_C(7) << 32), PAGENT_OK, &op.io), PAGENT_E_STALE);
        CHECK_EQ(pagent_store_done(store->engine, UINT64_C(0xFFFFFF), PAGENT_OK, &op.io), PAGENT_E_STALE);
        store->stale++;
    }
    return 1;
}

/* The engine is gone: what was pending is forgotten; what the engine knew is, too. */
static inline void sim_forget(sim_store *store)
{
    store->op_count = 0;
    store->engine = NULL;
    memset(store->told, 0, sizeof store->told);
}

static inline void sim_init_store(sim_store *store, uint64_t seed)
{
    free(store->late_block);
    memset(store, 0, sizeof *store);
    store->random.state = seed ^ UINT64_C(0x5702E);
    store->fail_code = PAGENT_E_IN_DOUBT;
}

static inline pagent_store sim_store_of(sim_store *store, const pagent_store *inner)
{
    pagent_store made = *inner;
    store->inner = *inner;
    made.ctx = store;
    made.append = sim_store_append;
    made.flush = inner->flush != NULL ? sim_store_flush : NULL;
    made.read = sim_store_read;
    made.list = sim_store_list;
    made.trim = inner->trim != NULL ? sim_store_trim : NULL;
    made.collect = inner->collect != NULL ? sim_store_collect : NULL;
    made.settle = inner->settle != NULL ? sim_store_settle : NULL;
    return made;
}

#endif /* SIM_STORE_H */
