/* kit_store.h: the conformance kit for stores: synthetic blocks, a writer that keeps the oracle up to date, and the
   contract of pagent_store (header [STORE]) as a list of checks. It runs on every synchronous store; give it a function
   that opens an empty one. */
#ifndef KIT_STORE_H
#define KIT_STORE_H

#include "oracle.h"

enum {
    KIT_STREAMS = 4,
    KIT_BLOCK_MAX = 1 << 17
};

enum kit_payload { /* what the synthetic payload is made of */
    KIT_NOISE = 0,
    KIT_ZEROS,  /* whole lines of zero: must be whitened */
    KIT_ONES,   /* 0xFF */
    KIT_JOURNAL /* copies of an intact block: an agent that reads its own log */
};

typedef struct kit_stream {
    uint64_t id, version, link, epoch;
    uint32_t based;
    uint64_t due_ms;
    uint8_t status, flags;
    /* staged, not yet flushed */
    uint64_t staged_from;
} kit_stream;

typedef struct kit {
    pagent_store store;
    oracle facts;
    kit_stream streams[KIT_STREAMS];
    pai_crc crc;
    uint8_t *block; /* the last one made */
    uint8_t *copy;  /* an earlier intact one */
    uint32_t copy_size;
    uint32_t salt; /* makes equal blocks differ */
    uint64_t op;
    int broken; /* the store's sticky error */
    uint64_t acks;
} kit;

static inline void kit_reset(kit *k)
{
    uint32_t i;
    if (k->block == NULL) k->block = (uint8_t *)malloc(KIT_BLOCK_MAX * 2u);
    if (k->copy == NULL) k->copy = (uint8_t *)malloc(KIT_BLOCK_MAX * 2u);
    if (k->block == NULL || k->copy == NULL) abort();
    k->copy_size = 0;
    k->salt = 0;
    k->op = 100;
    k->broken = 0;
    k->acks = 0;
    pai_crc_init(&k->crc);
    oracle_reset(&k->facts);
    memset(k->streams, 0, sizeof k->streams);
    for (i = 0; i < KIT_STREAMS; i++) {
        char name[16];
        snprintf(name, sizeof name, "agent-%u", (unsigned)i);
        k->streams[i].id = pai_hash_text(name);
        k->streams[i].epoch = 1;
        k->streams[i].status = PAGENT_WAITING;
        k->streams[i].due_ms = PAGENT_FOREVER;
    }
}

static inline void kit_free(kit *k)
{
    free(k->block);
    free(k->copy);
    oracle_free(&k->facts);
    memset(k, 0, sizeof *k);
}

static inline void kit_fill(kit *k, uint8_t *at, uint32_t size, const kit_stream *stream, int payload)
{
    sim_random random;
    uint32_t i;
    random.state = stream->id ^ pai_mix(stream->version * 64u + k->salt);
    for (i = 0; i < size; i++) {
        if (payload == KIT_NOISE) at[i] = (uint8_t)(sim_next(&random) >> 33);
        else if (payload == KIT_JOURNAL && k->copy_size != 0) at[i] = k->copy[i % k->copy_size];
        else at[i] = payload == KIT_ONES ? 0xFF : 0;
    }
}

/* The next block of a stream, at `at`. Its payload holds a SUMMARY and `size` bytes of an ENTRY. Returns its size. */
static inline uint32_t kit_make(kit *k, uint8_t *at, const kit_stream *stream, uint32_t type, uint32_t size,
                                int payload)
{
    pagent_summary summary;
    pai_block block;
    uint32_t used = PAI_SECTION + PAI_SUMMARY_SIZE, whole = (size + 7u) & ~7u;
    memset(&summary, 0, sizeof summary);
    memset(&block, 0, sizeof block);
    summary.due_ms = stream->due_ms;
    summary.time_ms = 1000 + stream->version;
    summary.state = 3;
    summary.status = stream->status;
    summary.flags = stream->flags;
    pai_put_section(at + 64, PAI_TAG_SUMMARY, PAI_TAG_CRITICAL, PAI_SUMMARY_SIZE);
    pai_put_summary(at + 64 + PAI_SECTION, &summary);
    pai_put_section(at + 64 + used, PAI_TAG_ENTRY, PAI_TAG_CRITICAL, size);
    memset(at + 64 + used + PAI_SECTION, 0, whole);
    kit_fill(k, at + 64 + used + PAI_SECTION, size, stream, payload);
    used += PAI_SECTION + whole;
    block.stream = stream->id;
    block.version = stream->version + 1;
    block.epoch = stream->epoch;
    block.previous = stream->link;
    block.type = type;
    if (type == PAI_CREATE || type == PAI_SNAPSHOT) block.flags = PAI_CARRIES_SNAPSHOT;
    block.based = block.flags & PAI_CARRIES_SNAPSHOT ? 0 : stream->based + 1;
    pai_finish_block(&k->crc, at, &block, &used);
    if (payload != KIT_JOURNAL && pai_block_size(&block) <= 1024) {
        memcpy(k->copy, at, pai_block_size(&block));
        k->copy_size = pai_block_size(&block);
    }
    return pai_block_size(&block);
}

static inline pagent_append kit_request(kit *k, const kit_stream *stream, const uint8_t *blocks, uint32_t size)
{
    pagent_append request;
    memset(&request, 0, sizeof request);
    request.op = ++k->op;
    request.stream = stream->id;
    request.expected = stream->version;
    request.epoch = stream->epoch;
    request.blocks = blocks;
    request.size = size;
    request.count = 1;
    request.first = stream->version + 1;
    request.summary.stream = stream->id;
    request.summary.version = stream->version + 1;
    request.summary.due_ms = stream->due_ms;
    request.summary.time_ms = 1000 + stream->version;
    request.summary.state = 3;
    request.summary.status = stream->status;
    request.summary.flags = stream->flags;
    return request;
}

static inline int kit_is_refusal(int result)
{
    return result == PAGENT_E_CONFLICT || result == PAGENT_E_AGAIN || result == PAGENT_E_NO_SPACE ||
           result == PAGENT_E_FENCED;
}

static inline void kit_moved_on(kit *k, kit_stream *stream, const uint8_t *block)
{
    stream->version++;
    stream->link = pai_link(&k->crc, block);
    stream->based = block[57] & PAI_CARRIES_SNAPSHOT ? 0 : stream->based + 1;
}

/* Appends one block to stream number `s`, without a flush. The oracle learns what the store answered. */
static inline int kit_stage_type(kit *k, uint32_t s, uint32_t type, uint32_t size, int payload)
{
    kit_stream *stream = &k->streams[s];
    pagent_append request;
    pagent_io io;
    uint64_t version = stream->version + 1;
    uint32_t bytes;
    int result;
    if (k->broken != 0) return k->broken;
    k->salt++;
    bytes = kit_make(k, k->block, stream, type, size, payload);
    request = kit_request(k, stream, k->block, bytes);
    memset(&io, 0, sizeof io);
    oracle_claim(&k->facts, k->block, bytes);
    result = k->store.append(k->store.ctx, &request, &io);
    if (result == PAGENT_OK || result == PAGENT_STAGED) {
        if (result == PAGENT_OK) {
            oracle_decide(&k->facts, stream->id, version, ORACLE_ACKED);
            k->acks++;
        } else if (stream->staged_from == 0) {
            stream->staged_from = version;
        }
        kit_moved_on(k, stream, k->block);
    } else if (kit_is_refusal(result)) {
        oracle_decide(&k->facts, stream->id, version, ORACLE_GONE);
    } else {
        if (result > 0) FAIL("append answers %s", pagent_result_name(result));
        k->broken = result;
    }
    return result;
}

static inline int kit_stage(kit *k, uint32_t s, uint32_t size, int payload)
{
    return kit_stage_type(k, s, k->streams[s].version == 0 ? (uint32_t)PAI_CREATE : (uint32_t)PAI_COMMIT, size,
                          payload);
}

static inline int kit_flush(kit *k)
{
    pagent_io io;
    uint32_t s;
    int result;
    if (k->broken != 0) return k->broken;
    if (k->store.flush == NULL) return PAGENT_OK;
    memset(&io, 0, sizeof io);
    result = k->store.flush(k->store.ctx, ++k->op, &io);
    if (result != PAGENT_OK) {
        k->broken = result; /* what was staged is in doubt */
        return result;
    }
    for (s = 0; s < KIT_STREAMS; s++) {
        kit_stream *stream = &k->streams[s];
        uint64_t version;
        for (version = stream->staged_from; version != 0 && version <= stream->version; version++) {
            oracle_decide(&k->facts, stream->id, version, ORACLE_ACKED);
            k->acks++;
        }
        stream->staged_from = 0;
    }
    return result;
}

static inline int kit_write_type(kit *k, uint32_t s, uint32_t type, uint32_t size, int payload)
{
    int result = kit_stage_type(k, s, type, size, payload);
    return result == PAGENT_STAGED ? kit_flush(k) : result;
}

/* Appends one block and makes it durable. */
static inline int kit_write(kit *k, uint32_t s, uint32_t size, int payload)
{
    int result = kit_stage(k, s, size, payload);
    return result == PAGENT_STAGED ? kit_flush(k) : result;
}

static inline int kit_snapshot(kit *k, uint32_t s, uint32_t size)
{
    return kit_write_type(k, s, PAI_SNAPSHOT, size, KIT_NOISE);
}

/* Invariant I of one stream; what the writer knows is taken from what was read. Returns the read's error. */
static inline int kit_check_stream(kit *k, uint32_t s, int allow)
{
    kit_stream *stream = &k->streams[s];
    oracle_seen seen = oracle_check(&k->facts, &k->store, stream->id, allow);
    if (seen.result != PAGENT_OK || (allow & ORACLE_LOOK)) return seen.result;
    stream->version = seen.version;
    stream->link = seen.link;
    stream->based = seen.based;
    stream->staged_from = 0;
    if (seen.epoch >= stream->epoch) stream->epoch = seen.epoch;
    return PAGENT_OK;
}

/* The same of every stream. Returns the first read's error. */
static inline int kit_check(kit *k, int allow)
{
    uint32_t s;
    int result = PAGENT_OK;
    for (s = 0; s < KIT_STREAMS; s++) {
        int read = kit_check_stream(k, s, allow);
        if (result == PAGENT_OK) result = read;
    }
    return result;
}

/* A newly opened store: the writer takes its streams under the next epoch. */
static inline void kit_claim(kit *k)
{
    uint32_t s;
    for (s = 0; s < KIT_STREAMS; s++) k->streams[s].epoch++;
    k->broken = 0;
}

/* Trims until the store has nothing more to ask for. Returns the last result. */
static inline int kit_trim(kit *k)
{
    pagent_trim request;
    pagent_io io;
    uint32_t tries, s;
    int result = PAGENT_OK;
    for (tries = 0; tries < 16 && k->broken == 0; tries++) {
        memset(&io, 0, sizeof io);
        memset(&request, 0, sizeof request);
        request.op = ++k->op;
        for (s = 0; s < KIT_STREAMS; s++) { /* before the call: a crash within may or may not have trimmed */
            uint32_t i;
            for (i = 0; i < k->facts.count; i++) {
                const oracle_block *block = &k->facts.blocks[i];
                if (block->stream == k->streams[s].id && block->state == ORACLE_ACKED) {
                    k->facts.first[oracle_slot(&k->facts, block->stream)] = block->version;
                }
            }
        }
        result = k->store.trim(k->store.ctx, &request, &io);
        if (result != PAGENT_OK) return result;
        if (io.stream == 0) break;
        for (s = 0; s < KIT_STREAMS && k->streams[s].id != io.stream; s++) continue;
        if (!CHECK(s < KIT_STREAMS)) break;
        if ((result = kit_snapshot(k, s, 64)) != PAGENT_OK) return result;
    }
    return result;
}

/* ---- the contract ---------------------------------------------------------------------------------------------
   Each of these begins with an empty store in k->store and leaves it consistent. */

static inline void kit_contract_conflict(kit *k)
{
    kit_stream *stream = &k->streams[0], saved;
    pagent_append request;
    pagent_io io;
    uint32_t size;
    int result;
    CHECK_EQ(kit_write(k, 0, 40, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(kit_write(k, 0, 400, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(kit_write(k, 0, 40, KIT_NOISE), PAGENT_OK);
    saved = *stream;
    /* a writer that saw only version 1, one that believes there is none, one that is ahead */
    for (stream->version = 0; stream->version < 6; stream->version++) {
        if (stream->version == saved.version) continue;
        memset(&io, 0, sizeof io);
        size = kit_make(k, k->block, stream, stream->version == 0 ? PAI_CREATE : PAI_COMMIT, 40, KIT_NOISE);
        request = kit_request(k, stream, k->block, size);
        CHECK_EQ(k->store.append(k->store.ctx, &request, &io), PAGENT_E_CONFLICT);
        CHECK_EQ(io.version, saved.version);
    }
    *stream = saved;
    /* a stream that does not exist, said to be at 3 */
    stream = &k->streams[1];
    stream->version = 3;
    memset(&io, 0, sizeof io);
    size = kit_make(k, k->block, stream, PAI_COMMIT, 40, KIT_NOISE);
    request = kit_request(k, stream, k->block, size);
    result = k->store.append(k->store.ctx, &request, &io);
    CHECK_EQ(result, PAGENT_E_CONFLICT);
    CHECK_EQ(io.version, 0);
    stream->version = 0;
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
    CHECK_EQ(k->streams[0].version, 3);
    CHECK_EQ(k->streams[1].version, 0);
    CHECK_EQ(kit_write(k, 0, 8, KIT_NOISE), PAGENT_OK);
}

static inline void kit_contract_epoch(kit *k)
{
    kit_stream *stream = &k->streams[0];
    stream->epoch = 5;
    CHECK_EQ(kit_write(k, 0, 40, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(kit_write(k, 1, 40, KIT_NOISE), PAGENT_OK); /* another stream has its own */
    stream->epoch = 6;
    CHECK_EQ(kit_write(k, 0, 40, KIT_NOISE), PAGENT_OK);
    stream->epoch = 5; /* the zombie */
    {
        int result = kit_write(k, 0, 40, KIT_NOISE);
        CHECK(result == PAGENT_E_FENCED || result == PAGENT_E_CONFLICT);
    }
    stream->epoch = 6;
    CHECK_EQ(kit_write(k, 0, 40, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
    CHECK_EQ(stream->version, 3);
}

/* In a batch each stream succeeds or fails alone. */
static inline void kit_contract_batch(kit *k)
{
    kit_stream *bad = &k->streams[1];
    uint32_t s;
    int round;
    for (round = 0; round < 3; round++) {
        for (s = 0; s < KIT_STREAMS; s++) {
            int result = kit_stage(k, s, 100u + 700u * s, (int)s);
            CHECK(result == PAGENT_OK || result == PAGENT_STAGED);
        }
        if (round == 1) { /* a second writer of a stream whose block is already staged */
            bad->version--;
            CHECK_EQ(kit_stage(k, 1, 64, KIT_NOISE), PAGENT_E_CONFLICT);
            bad->version++;
        }
        CHECK_EQ(kit_flush(k), PAGENT_OK);
    }
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
    for (s = 0; s < KIT_STREAMS; s++) CHECK_EQ(k->streams[s].version, 3);
    /* several blocks of one stream in one batch */
    for (round = 0; round < 4; round++) {
        int result = kit_stage(k, 2, 200, KIT_NOISE);
        CHECK(result == PAGENT_OK || result == PAGENT_STAGED);
    }
    CHECK_EQ(kit_flush(k), PAGENT_OK);
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
    CHECK_EQ(k->streams[2].version, 7);
}

static inline void kit_contract_sizes(kit *k)
{
    static const uint32_t sizes[] = {0,  1,   7,   8,   9,   15,  16,  17,   23,   24,    25,    63,    64,
                                     65, 447, 448, 449, 511, 512, 513, 4000, 4096, 65535, 65536, 100000};
    uint32_t i, payload;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (payload = KIT_NOISE; payload <= KIT_JOURNAL; payload++) {
            if (!CHECK_EQ(kit_write(k, payload, sizes[i], (int)payload), PAGENT_OK)) return;
        }
    }
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
}

static inline int kit_read_until(kit *k, uint32_t mode, uint64_t version, uint64_t last, uint8_t *buffer,
                                 uint32_t capacity, pagent_io *io)
{
    pagent_read request;
    memset(&request, 0, sizeof request);
    memset(io, 0, sizeof *io);
    request.last = last;
    request.op = ++k->op;
    request.stream = k->streams[0].id;
    request.mode = mode;
    request.version = version;
    request.buffer = buffer;
    request.capacity = capacity;
    return k->store.read(k->store.ctx, &request, io);
}

static inline int kit_read(kit *k, uint32_t mode, uint64_t version, uint8_t *buffer, uint32_t capacity, pagent_io *io)
{
    return kit_read_until(k, mode, version, 0, buffer, capacity, io);
}

static inline void kit_contract_read(kit *k)
{
    uint8_t *buffer = k->block + KIT_BLOCK_MAX;
    pagent_io io;
    int i;
    CHECK_EQ(kit_read(k, PAGENT_READ_NEWEST, 0, buffer, 4096, &io), PAGENT_OK); /* there is none */
    CHECK_EQ(io.count, 0);
    CHECK_EQ(io.version, 0);
    for (i = 1; i <= 9; i++) {
        int result = i == 4 || i == 7 ? kit_snapshot(k, 0, 300) : kit_write(k, 0, 100, KIT_NOISE);
        CHECK_EQ(result, PAGENT_OK);
    }
    CHECK_EQ(kit_read(k, PAGENT_READ_NEWEST, 0, buffer, 16384, &io), PAGENT_OK);
    CHECK_EQ(io.count, 3);
    CHECK_EQ(io.version, 9);
    CHECK_EQ(pai_get64(buffer + 24), 7);
    CHECK_EQ(kit_read(k, PAGENT_READ_BASE, 9, buffer, 16384, &io), PAGENT_OK);
    CHECK_EQ(pai_get64(buffer + 24), 7);
    CHECK_EQ(kit_read(k, PAGENT_READ_BASE, 7, buffer, 16384, &io), PAGENT_OK);
    CHECK_EQ(pai_get64(buffer + 24), 7);
    CHECK_EQ(kit_read(k, PAGENT_READ_BASE, 6, buffer, 16384, &io), PAGENT_OK);
    CHECK_EQ(pai_get64(buffer + 24), 4);
    CHECK_EQ(kit_read(k, PAGENT_READ_BASE, 3, buffer, 16384, &io), PAGENT_OK);
    CHECK_EQ(pai_get64(buffer + 24), 1);
    CHECK_EQ(kit_read(k, PAGENT_READ_BASE, 0, buffer, 16384, &io), PAGENT_OK); /* the oldest that is kept */
    CHECK_EQ(pai_get64(buffer + 24), 1);
    CHECK_EQ(kit_read(k, PAGENT_READ_FROM, 5, buffer, 16384, &io), PAGENT_OK);
    CHECK_EQ(pai_get64(buffer + 24), 5);
    CHECK_EQ(io.count, 5);
    CHECK_EQ(io.version, 9);
    CHECK_EQ(kit_read_until(k, PAGENT_READ_FROM, 2, 6, buffer, 16384, &io), PAGENT_OK); /* some in the middle */
    CHECK_EQ(pai_get64(buffer + 24), 2);
    CHECK_EQ(io.count, 5);
    CHECK_EQ(io.version, 9);
    CHECK_EQ(kit_read_until(k, PAGENT_READ_FROM, 8, 99, buffer, 16384, &io), PAGENT_OK);
    CHECK_EQ(io.count, 2);
    CHECK_EQ(kit_read(k, PAGENT_READ_FROM, 10, buffer, 16384, &io), PAGENT_OK);
    CHECK_EQ(io.count, 0);
    CHECK_EQ(io.version, 9);
    /* a buffer for one block only, and one that is too small for any */
    CHECK_EQ(kit_read(k, PAGENT_READ_FROM, 1, buffer, 300, &io), PAGENT_OK);
    CHECK_EQ(io.count, 1);
    CHECK_EQ(kit_read(k, PAGENT_READ_FROM, 4, buffer, 100, &io), PAGENT_E_LIMIT);
    CHECK_EQ(io.size, 448);
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
}

static inline uint32_t kit_list(kit *k, uint64_t due_before_ms, uint32_t flags, uint32_t capacity, uint32_t *mask,
                                uint64_t *next_due_ms)
{
    pagent_summary items[KIT_STREAMS];
    pagent_list request;
    pagent_io io;
    uint32_t found = 0, i, s, tries;
    memset(&io, 0, sizeof io);
    memset(&request, 0, sizeof request);
    *mask = 0;
    *next_due_ms = PAGENT_FOREVER;
    for (tries = 0; tries < 20; tries++) {
        request.op = ++k->op;
        request.cursor = io.cursor;
        request.due_before_ms = due_before_ms;
        request.flags = flags;
        request.capacity = capacity;
        request.items = items;
        memset(&io, 0, sizeof io);
        if (!CHECK_EQ(k->store.list(k->store.ctx, &request, &io), PAGENT_OK) || !CHECK(io.count <= capacity)) break;
        for (i = 0; i < io.count; i++) {
            for (s = 0; s < KIT_STREAMS && k->streams[s].id != items[i].stream; s++) continue;
            if (!CHECK(s < KIT_STREAMS) || !CHECK((*mask >> s & 1u) == 0)) continue;
            CHECK_EQ(items[i].version, k->streams[s].version);
            CHECK_EQ(items[i].due_ms, k->streams[s].due_ms);
            CHECK_EQ(items[i].status, k->streams[s].status);
            CHECK_EQ(items[i].flags, k->streams[s].flags);
            CHECK_EQ(items[i].state, 3);
            *mask |= 1u << s;
        }
        found += io.count;
        if (io.next_due_ms != 0 && io.next_due_ms < *next_due_ms) *next_due_ms = io.next_due_ms;
        if (io.cursor == 0) break;
    }
    CHECK(tries < 20);
    return found;
}

static inline void kit_contract_list(kit *k)
{
    uint32_t mask, capacity, s;
    uint64_t next;
    CHECK_EQ(kit_list(k, 0, 0, 4, &mask, &next), 0);
    for (s = 0; s < KIT_STREAMS; s++) {
        k->streams[s].due_ms = s == 3 ? PAGENT_FOREVER : 1000u * (s + 1u);
        k->streams[s].flags = s == 2 ? PAGENT_HAS_CALLS : s == 3 ? PAGENT_HAS_APPROVALS : 0;
        CHECK_EQ(kit_write(k, s, 50, KIT_NOISE), PAGENT_OK);
    }
    for (capacity = 1; capacity <= KIT_STREAMS; capacity++) {
        CHECK_EQ(kit_list(k, 0, 0, capacity, &mask, &next), 4);
        CHECK_EQ(kit_list(k, 1999, 0, capacity, &mask, &next), 1);
        CHECK_EQ(mask, 1);
        CHECK_EQ(next, 2000);
        CHECK_EQ(kit_list(k, 2000, 0, capacity, &mask, &next), 2);
        CHECK_EQ(next, 3000);
        CHECK_EQ(kit_list(k, 1, PAGENT_HAS_CALLS, capacity, &mask, &next), 1);
        CHECK_EQ(mask, 4);
        CHECK_EQ(next, 1000);
        CHECK_EQ(kit_list(k, 1000, PAGENT_HAS_CALLS | PAGENT_HAS_APPROVALS, capacity, &mask, &next), 3);
        CHECK_EQ(mask, 13);
        CHECK_EQ(next, 2000);
    }
    k->streams[0].due_ms = PAGENT_FOREVER; /* the summary follows the newest block */
    CHECK_EQ(kit_write(k, 0, 50, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(kit_list(k, 1999, 0, 4, &mask, &next), 0);
    CHECK_EQ(next, 2000);
}

/* Trimming takes old versions away and never lets one be made again (rule H). */
static inline void kit_contract_trim(kit *k)
{
    kit_stream *stream = &k->streams[0], saved;
    pagent_append request;
    pagent_io io;
    uint32_t i, size;
    if (k->store.trim == NULL) return;
    for (i = 0; i < 40; i++) {
        CHECK_EQ(kit_write(k, 0, 600, KIT_NOISE), PAGENT_OK);
        CHECK_EQ(kit_write(k, 1, 600, KIT_NOISE), PAGENT_OK);
        if (i % 8 == 7) CHECK_EQ(kit_snapshot(k, 0, 600), PAGENT_OK);
        if (i % 8 == 7) CHECK_EQ(kit_snapshot(k, 1, 600), PAGENT_OK);
    }
    CHECK_EQ(kit_trim(k), PAGENT_OK);
    CHECK_EQ(kit_trim(k), PAGENT_OK); /* idempotent */
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
    saved = *stream;
    for (stream->version = 0; stream->version < saved.version; stream->version++) {
        size = kit_make(k, k->block, stream, stream->version == 0 ? PAI_CREATE : PAI_COMMIT, 40, KIT_NOISE);
        request = kit_request(k, stream, k->block, size);
        memset(&io, 0, sizeof io);
        if (!CHECK_EQ(k->store.append(k->store.ctx, &request, &io), PAGENT_E_CONFLICT)) break;
        CHECK_EQ(io.version, saved.version);
    }
    *stream = saved;
    CHECK_EQ(kit_write(k, 0, 40, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
}

/* Blocks of a trimmed journal come in with one append: expected 0, first above 1. */
static inline void kit_contract_import(kit *k)
{
    kit_stream *stream = &k->streams[2];
    pagent_append request;
    pagent_io io;
    uint32_t size = 0, i, bytes;
    int result;
    stream->version = 6;
    stream->link = 0x1234;
    for (i = 0; i < 3; i++) {
        bytes = kit_make(k, k->block + size, stream, i == 0 ? PAI_SNAPSHOT : PAI_COMMIT, 200, KIT_NOISE);
        kit_moved_on(k, stream, k->block + size);
        size += bytes;
    }
    oracle_claim(&k->facts, k->block, size);
    request = kit_request(k, stream, k->block, size);
    request.expected = 0;
    request.first = 7;
    request.count = 3;
    request.summary.version = 9;
    memset(&io, 0, sizeof io);
    result = k->store.append(k->store.ctx, &request, &io);
    if (result == PAGENT_STAGED) result = k->store.flush(k->store.ctx, ++k->op, &io);
    if (!CHECK_EQ(result, PAGENT_OK)) return;
    for (i = 7; i <= 9; i++) oracle_decide(&k->facts, stream->id, i, ORACLE_ACKED);
    k->facts.first[oracle_slot(&k->facts, stream->id)] = 7;
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
    CHECK_EQ(stream->version, 9);
    CHECK_EQ(kit_write(k, 2, 40, KIT_NOISE), PAGENT_OK);
    CHECK_EQ(kit_check(k, ORACLE_STRICT), PAGENT_OK);
    CHECK_EQ(stream->version, 10);
}

typedef void (*kit_contract)(kit *k);
static const kit_contract kit_contracts[] = {kit_contract_conflict, kit_contract_epoch, kit_contract_batch,
                                             kit_contract_sizes,    kit_contract_read,  kit_contract_list,
                                             kit_contract_trim,     kit_contract_import};
enum {
    KIT_CONTRACTS = sizeof kit_contracts / sizeof kit_contracts[0]
};

#endif /* KIT_STORE_H */
