/* step.c: one loop of steps over the memory store, to be compiled twice: by ./build.sh wasm, beside engine.c; and
   natively, where it is a program that runs as many steps as a line of its input says, and answers with a step's
   nanoseconds of processor time.

     cc -O2 -DPAGENT_PORTABLE_CRC -I../.. -o step step.c */
#ifndef __wasm__
#define _POSIX_C_SOURCE 200809L
#define PERSISTENT_AGENT_IMPLEMENTATION
#define PAGENT_NO_FILE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#endif
#include "persistent_agent.h"

enum {
    CONTEXT = 1024,
    CHANGED = 64
};

/* Changes 64 contiguous bytes, further on each time: as the machine "small" of tests/bench.c. */
static int on_go(void *ctx, pagent_step *step, uint32_t tag)
{
    uint32_t size, at, i;
    uint8_t *context = (uint8_t *)pagent_context(step, &size);
    (void)ctx;
    (void)tag;
    at = (uint32_t)pagent_version(step) % (size / CHANGED) * CHANGED;
    for (i = at; i < at + CHANGED; i += 8) {
        uint64_t word;
        __builtin_memcpy(&word, context + i, 8);
        word ^= UINT64_C(0x0101010101010101) * (1 + pagent_version(step) % 255);
        __builtin_memcpy(context + i, &word, 8);
    }
    return PAGENT_OK;
}

static const pagent_state states[] = {
    {"working", NULL, NULL, NULL, NULL, NULL, 0, 0},
    {"stopped", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0},
};
static const pagent_transition rows[] = {
    {"working", "go", NULL, on_go, NULL, 0},
    {"working", "cancel", NULL, NULL, "stopped", 0},
};
static const pagent_machine worker = {
    sizeof(pagent_machine), 1, "worker", NULL, CONTEXT, "go", NULL, NULL, NULL, 0, states, 2, rows, 2};

/* ---- the host: memory from wherever there is some; a clock and random numbers that cost nothing ------------------ */

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(#name)))
void *paw_allocate(size_t size);
void paw_release(void *piece, size_t size);
#else
#define EXPORT(name)
static void *paw_allocate(size_t size)
{
    return malloc(size);
}

static void paw_release(void *piece, size_t size)
{
    (void)size;
    free(piece);
}
#endif

static void *on_allocate(void *ctx, void *old, size_t old_size, size_t new_size)
{
    void *piece = new_size != 0 ? paw_allocate(new_size) : NULL;
    (void)ctx;
    if (new_size != 0 && piece == NULL) return NULL;
    if (old != NULL && piece != NULL) __builtin_memcpy(piece, old, old_size < new_size ? old_size : new_size);
    if (old != NULL) paw_release(old, old_size);
    return piece;
}

static int on_random(void *ctx, void *buffer, size_t size)
{
    (void)ctx;
    __builtin_memset(buffer, 7, size);
    return PAGENT_OK;
}

static uint64_t on_clock(void *ctx)
{
    static uint64_t now = 1800000000000;
    (void)ctx;
    return now++;
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static pagent_memory *store;
static pagent_engine *bench;

static int await(const pagent_receipt *receipt)
{
    while (receipt->result == PAGENT_PENDING) {
        int result = pagent_poll(bench);
        if (result < PAGENT_OK) return result;
    }
    return receipt->result;
}

/* Machines of engine.c are called by way of the host: here they are not. */
const pagent_machine *const paw_own_machines[] = {&worker, NULL};

EXPORT(bench_open) int bench_open(void);
EXPORT(bench_open) int bench_open(void)
{
    pagent_config config = {0};
    pagent_receipt receipt;
    int result;
    config.size = sizeof config;
    config.host.size = sizeof config.host;
    config.host.allocate = on_allocate;
    config.host.random = on_random;
    config.host.clock_ms = on_clock;
    config.machines = paw_own_machines;
    config.machine_count = 1;
    result = pagent_open_memory(&store, &config.host);
    if (result != PAGENT_OK) return result;
    config.store = pagent_memory_store(store);
    config.limits.size = sizeof config.limits;
    config.limits.full_snapshots = 1; /* for the trim */
    result = pagent_open_engine(&bench, &config, NULL);
    if (result != PAGENT_OK) return result;
    result = pagent_create(bench, "a", "worker", NULL, 0, &receipt);
    return result != PAGENT_OK ? result : await(&receipt);
}

EXPORT(bench_steps) int bench_steps(uint32_t count);
EXPORT(bench_steps) int bench_steps(uint32_t count)
{
    static const uint8_t event[16] = "sixteen bytes..";
    pagent_receipt receipt;
    int result = PAGENT_OK;
    while (count-- != 0 && result == PAGENT_OK) {
        result = pagent_post(bench, "a", "go", NULL, event, sizeof event, &receipt);
        if (result == PAGENT_OK) result = await(&receipt);
    }
    return result;
}

/* Frees the blocks that nothing needs: rounds are to find the same memory. */
EXPORT(bench_trim) int bench_trim(void);
EXPORT(bench_trim) int bench_trim(void)
{
    pagent_receipt receipt;
    int result = pagent_trim_store(bench, &receipt);
    return result != PAGENT_OK ? result : await(&receipt);
}

#ifndef __wasm__
static double now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int main(void)
{
    char line[32];
    if (bench_open() != PAGENT_OK) return 1;
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint32_t count = (uint32_t)strtoul(line, NULL, 10);
        double begun = now_ns();
        if (count == 0 || bench_steps(count) != PAGENT_OK) return 1;
        (void)printf("%.1f\n", (now_ns() - begun) / count);
        (void)fflush(stdout);
        if (bench_trim() != PAGENT_OK) return 1;
    }
    return 0;
}
#endif
