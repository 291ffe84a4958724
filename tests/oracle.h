/* oracle.h: what must be in a store and what may be, kept as naively as possible.

   For every block that was ever handed to append it remembers stream, version and a digest of the canonical bytes.
   A block is CLAIMED (may be there) until append or flush said OK: then it is ACKED (must be there). Invariant I:
   what a store gives back is, per stream, versions without a gap, each one a block that was handed in under that
   version, linked to the one before, and none of the ACKED is missing. What a reader has been shown is as good as
   acknowledged. */
#ifndef ORACLE_H
#define ORACLE_H

#include "sim.h"

enum {
    ORACLE_STREAMS = 8
};
enum oracle_state {
    ORACLE_GONE,
    ORACLE_CLAIMED,
    ORACLE_ACKED
};
enum oracle_allow { /* what a check may forgive */
    ORACLE_STRICT = 0,
    ORACLE_ERRORS = 1, /* the store may say that something is wrong, instead */
    ORACLE_TAIL = 2,   /* acknowledged blocks may be missing at the end (lost where nobody can know) */
    ORACLE_LOOK = 4    /* a reader beside the writer: what it sees is not acknowledged thereby */
};

typedef struct oracle_block {
    uint64_t stream, version, digest;
    int state;
    uint32_t writer;
    uint32_t shown; /* the last reading that met it */
} oracle_block;

typedef struct oracle {
    oracle_block *blocks;
    uint32_t count, room;
    uint64_t first[ORACLE_STREAMS]; /* of each stream: versions below may have been trimmed */
    uint64_t streams[ORACLE_STREAMS];
    uint32_t readings;
    uint32_t writer; /* who hands in blocks: with several at a time each is told only of its own */
    pai_crc crc;
} oracle;

typedef struct oracle_seen { /* a stream, as it was read */
    uint64_t version, link, epoch, first;
    uint32_t based, count;
    int result; /* OK, or the error of the read that failed */
} oracle_seen;

static inline void oracle_reset(oracle *o)
{
    o->count = o->readings = o->writer = 0;
    memset(o->first, 0, sizeof o->first);
    memset(o->streams, 0, sizeof o->streams);
    pai_crc_init(&o->crc);
}

static inline void oracle_free(oracle *o)
{
    free(o->blocks);
    memset(o, 0, sizeof *o);
}

static inline uint64_t oracle_digest(const uint8_t *block, uint32_t size)
{
    return pai_hash(block + 16, 44) ^ pai_mix(pai_hash(block + 64, size - 64u));
}

static inline uint32_t oracle_slot(oracle *o, uint64_t stream)
{
    uint32_t i;
    for (i = 0; i < ORACLE_STREAMS; i++) {
        if (o->streams[i] == 0) o->streams[i] = stream;
        if (o->streams[i] == stream) return i;
    }
    abort();
}

/* These blocks are about to be handed to append. */
static inline void oracle_claim(oracle *o, const uint8_t *blocks, uint32_t size)
{
    uint32_t at = 0;
    while (at < size) {
        uint32_t length = 64u + pai_padded(pai_get32(blocks + at + 48));
        oracle_block *made;
        o->blocks = (oracle_block *)sim_grow(o->blocks, &o->room, o->count, sizeof(oracle_block));
        made = &o->blocks[o->count++];
        made->stream = pai_get64(blocks + at + 16);
        made->version = pai_get64(blocks + at + 24);
        made->digest = oracle_digest(blocks + at, length);
        made->state = ORACLE_CLAIMED;
        made->writer = o->writer;
        made->shown = 0;
        (void)oracle_slot(o, made->stream);
        at += length;
    }
}

/* The writer's newest block that was claimed under this version: is acknowledged, or was refused for certain. */
static inline void oracle_decide(oracle *o, uint64_t stream, uint64_t version, int state)
{
    uint32_t i = o->count;
    while (i-- != 0) {
        oracle_block *block = &o->blocks[i];
        if (block->stream != stream || block->version != version || block->state != ORACLE_CLAIMED ||
            block->writer != o->writer) {
            continue;
        }
        block->state = state;
        return;
    }
}

static inline uint64_t oracle_acked(const oracle *o, uint64_t stream)
{
    uint64_t version = 0;
    uint32_t i;
    for (i = 0; i < o->count; i++) {
        const oracle_block *block = &o->blocks[i];
        if (block->stream == stream && block->state == ORACLE_ACKED && block->version > version)
            version = block->version;
    }
    return version;
}

/* One block that was read: was it ever handed in, and does it follow the one before? */
static inline int oracle_check_block(oracle *o, uint64_t stream, const uint8_t *bytes, uint32_t size, oracle_seen *seen)
{
    pai_block block;
    oracle_block *found = NULL;
    uint64_t digest;
    uint32_t i;
    int replaced = 0;
    if (!CHECK_EQ(pai_decode_header(&o->crc, bytes, 0, &block), PAGENT_OK)) return 0;
    if (!CHECK(pai_block_size(&block) <= size) || !CHECK_EQ(pai_check_payload(&o->crc, bytes, &block), 0)) return 0;
    if (!CHECK(block.stream == stream)) return 0;
    if (seen->count != 0 && (!CHECK_EQ(block.version, seen->version + 1) || !CHECK(block.previous == seen->link) ||
                             !CHECK(block.epoch >= seen->epoch))) {
        return 0;
    }
    digest = oracle_digest(bytes, pai_block_size(&block));
    for (i = 0; i < o->count; i++) {
        oracle_block *known = &o->blocks[i];
        if (known->stream != stream || known->version != block.version || known->state == ORACLE_GONE) continue;
        if (known->digest == digest) found = known;
        else if (known->state == ORACLE_ACKED) replaced = 1;
    }
    if (found == NULL || replaced) {
        FAIL("stream %llx version %llu: the store gives a block that %s", (unsigned long long)stream,
             (unsigned long long)block.version, replaced ? "replaces an acknowledged one" : "must not exist");
        return 0;
    }
    found->shown = o->readings;
    if (seen->count++ == 0) seen->first = block.version;
    seen->version = block.version;
    seen->link = pai_link(&o->crc, bytes);
    seen->epoch = block.epoch;
    seen->based = block.flags & PAI_CARRIES_SNAPSHOT ? 0 : block.based;
    return 1;
}

/* Reads a stream from its oldest block, in pieces of `capacity` bytes; every block is checked. */
static inline oracle_seen oracle_read(oracle *o, const pagent_store *store, uint64_t stream, uint32_t capacity)
{
    oracle_seen seen;
    uint8_t *buffer = (uint8_t *)malloc(capacity);
    pagent_read request;
    pagent_io io;
    uint32_t at, left;
    memset(&seen, 0, sizeof seen);
    memset(&request, 0, sizeof request);
    if (buffer == NULL) abort();
    o->readings++;
    for (;;) {
        request.op = 77;
        request.stream = stream;
        request.mode = PAGENT_READ_FROM;
        request.version = seen.count != 0 ? seen.version + 1 : 1;
        request.buffer = buffer;
        request.capacity = capacity;
        memset(&io, 0, sizeof io);
        seen.result = store->read(store->ctx, &request, &io);
        if (seen.result == PAGENT_E_TRIMMED && seen.count == 0) { /* then from the oldest snapshot that is kept */
            request.mode = PAGENT_READ_BASE;
            request.version = 0;
            memset(&io, 0, sizeof io);
            seen.result = store->read(store->ctx, &request, &io);
        }
        if (seen.result == PAGENT_E_LIMIT && io.size > capacity) { /* one block is larger than the buffer */
            capacity = io.size;
            free(buffer);
            buffer = (uint8_t *)malloc(capacity);
            if (buffer == NULL) abort();
            continue;
        }
        if (seen.result != PAGENT_OK || io.count == 0) break;
        if (!CHECK(io.size <= capacity)) break;
        for (at = 0, left = io.count; left != 0; left--) {
            uint32_t length = at + 64 <= io.size ? 64u + pai_padded(pai_get32(buffer + at + 48)) : 0;
            if (!CHECK(length != 0 && at + length <= io.size)) break;
            if (!oracle_check_block(o, stream, buffer + at, length, &seen)) break;
            at += length;
        }
        if (left != 0) break;
    }
    free(buffer);
    return seen;
}

/* Invariant I for one stream. What was shown is acknowledged from now on, and what was not shown must never appear. */
static inline oracle_seen oracle_check(oracle *o, const pagent_store *store, uint64_t stream, int allow)
{
    oracle_seen seen = oracle_read(o, store, stream, 8192);
    uint64_t acked = oracle_acked(o, stream);
    uint32_t i;
    if (seen.result != PAGENT_OK) {
        if (!(allow & ORACLE_ERRORS)) FAIL("reading a stream: %s", pagent_result_name(seen.result));
        return seen;
    }
    if (seen.count != 0 && seen.first > 1 && seen.first > o->first[oracle_slot(o, stream)]) {
        FAIL("stream begins at version %llu", (unsigned long long)seen.first);
    }
    if (seen.version < acked && !(allow & ORACLE_TAIL)) {
        FAIL("stream %llx: version %llu was acknowledged, the store ends at %llu", (unsigned long long)stream,
             (unsigned long long)acked, (unsigned long long)seen.version);
    }
    if (allow & ORACLE_LOOK) return seen;
    for (i = 0; i < o->count; i++) {
        oracle_block *block = &o->blocks[i];
        if (block->stream != stream || block->state == ORACLE_GONE) continue;
        if (seen.count != 0 && block->version < seen.first && block->state == ORACLE_ACKED) continue; /* trimmed */
        block->state = block->shown == o->readings ? ORACLE_ACKED : ORACLE_GONE;
    }
    return seen;
}

#endif /* ORACLE_H */
