/* engine.c: persistent_agent.h for JavaScript hosts, freestanding: no libc, named imports.

     clang --target=wasm32 -Oz -mllvm -inline-threshold=-50 -mllvm -disable-lsr -mllvm -enable-load-pre=false \
         -ffreestanding -mbulk-memory -ffunction-sections -I.. -c engine.c -o engine.o
     wasm-ld --no-entry --strip-all --compress-relocations -O2 -z stack-size=65536 engine.o [agents.o] \
         -o persistent_agent.wasm

   One instance holds one engine: its host is known to JavaScript by the instance, so no callback needs a context.
   Versions and times cross as double: exact up to 2^53, FOREVER as infinity; operations as BigInt. Structs are read and
   written in linear memory by the offsets of layout.js. With PAW_FILES the file store is in it, over a directory that
   the host lends.

   An agent written in C is compiled beside this file (./build.sh wasm FILE.c) and declares its machines:

     const pagent_machine *const paw_own_machines[] = {&planner, NULL}; */
#define PERSISTENT_AGENT_IMPLEMENTATION
#define PAGENT_NO_POSIX
#define PAGENT_PORTABLE_CRC
#ifndef PAW_FILES
#define PAGENT_NO_FILE
#endif
#include <stdint.h>

/* The leaves under everything that is read and written: a step takes a third less with these inlined, and the module
   hardly grows. All else is called (-inline-threshold), which makes it 4 % smaller than -Oz alone would. */
#define INLINE static inline __attribute__((always_inline))
INLINE uint16_t pai_get16(const uint8_t *p);
INLINE uint32_t pai_get32(const uint8_t *p);
INLINE uint64_t pai_get64(const uint8_t *p);
INLINE void pai_put16(uint8_t *p, uint32_t value);
INLINE void pai_put32(uint8_t *p, uint32_t value);
INLINE void pai_put64(uint8_t *p, uint64_t value);
#include "persistent_agent.h"

#define EXPORT(name) __attribute__((export_name(#name)))
#define IMPORT(name) __attribute__((import_module("host"), import_name(#name)))

/* ---- what the host lends ---------------------------------------------------------------------------------------- */

IMPORT(random) int host_random(void *buffer, size_t size);
IMPORT(clock) double host_clock(void);
IMPORT(handle) int host_handle(void *machine, int which, uint32_t tag, pagent_step *step);
IMPORT(call) int host_call(const pagent_call *call, pagent_answer *answer);
IMPORT(call_cancel) void host_call_cancel(const pagent_call_id *id);
IMPORT(trace) void host_trace(const pagent_trace *record);
IMPORT(append) int host_append(const pagent_append *request, pagent_io *io);
IMPORT(read) int host_read(const pagent_read *request, pagent_io *io);
IMPORT(list) int host_list(const pagent_list *request, pagent_io *io);
IMPORT(trim) int host_trim(const pagent_trim *request, pagent_io *io);
IMPORT(write) void host_write(const char *text, size_t size);

static double as_number(uint64_t value)
{
    return value == PAGENT_FOREVER ? __builtin_inf() : (double)value;
}

static uint64_t from_number(double number)
{
    if (!(number > 0)) return 0;
    return number < 18446744073709549568.0 ? (uint64_t)number : PAGENT_FOREVER;
}

/* ---- memory: freed pieces wait in lists by size class, four classes to a doubling; new ones come from the end ---- */

extern uint8_t __heap_base;
static uintptr_t heap_end;
static void *heap_free[112];

static uint32_t heap_class(size_t size, size_t *rounded)
{
    uint32_t shift = 2, class;
    if (size < 16) size = 16;
    while (size > (size_t)8 << shift) shift++;   /* size is in (4 << shift, 8 << shift] */
    class = (uint32_t)((size - 1) >> shift) - 3; /* 1 … 4 */
    *rounded = (size_t)(class + 4) << shift;
    return (shift - 2) * 4 + class - 1;
}

static void *heap_take(size_t size)
{
    size_t rounded, pages;
    uint32_t class = heap_class(size, &rounded);
    void *piece = heap_free[class];
    if (piece != NULL) {
        heap_free[class] = *(void **)piece;
        return piece;
    }
    if (heap_end == 0) heap_end = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
    rounded = (rounded + 15) & ~(size_t)15;
    if (rounded > UINT32_MAX - heap_end) return NULL;
    pages = (heap_end + rounded + 65535) / 65536;
    if (pages > __builtin_wasm_memory_size(0) &&
        __builtin_wasm_memory_grow(0, pages - __builtin_wasm_memory_size(0)) == (size_t)-1) {
        return NULL;
    }
    piece = (void *)heap_end;
    heap_end += rounded;
    return piece;
}

static void heap_give(void *piece, size_t size)
{
    size_t rounded;
    uint32_t class = heap_class(size, &rounded);
    *(void **)piece = heap_free[class];
    heap_free[class] = piece;
}

static void *heap_allocate(void *ctx, void *old, size_t old_size, size_t new_size)
{
    void *piece = NULL;
    size_t old_rounded, new_rounded;
    (void)ctx;
    if (new_size > UINT32_MAX / 4) return NULL;
    if (old != NULL && new_size != 0 && heap_class(old_size, &old_rounded) == heap_class(new_size, &new_rounded))
        return old;
    if (new_size != 0) {
        piece = heap_take(new_size);
        if (piece == NULL) return NULL;
        if (old != NULL) __builtin_memcpy(piece, old, old_size < new_size ? old_size : new_size);
    }
    if (old != NULL) heap_give(old, old_size);
    return piece;
}

EXPORT(allocate) void *paw_allocate(size_t size)
{
    return heap_allocate(NULL, NULL, 0, size);
}

EXPORT(release) void paw_release(void *piece, size_t size)
{
    if (piece != NULL) heap_give(piece, size);
}

/* ---- callbacks: each hands over what it was given, by address --------------------------------------------------- */

static int on_random(void *ctx, void *buffer, size_t size)
{
    (void)ctx;
    return host_random(buffer, size);
}

static uint64_t on_clock(void *ctx)
{
    (void)ctx;
    return from_number(host_clock());
}

static int on_call(void *ctx, const pagent_call *call, pagent_answer *answer)
{
    (void)ctx;
    return host_call(call, answer);
}

static void on_call_cancel(void *ctx, const pagent_call_id *id)
{
    (void)ctx;
    host_call_cancel(id);
}

static void on_trace(void *ctx, const pagent_trace *record)
{
    (void)ctx;
    host_trace(record);
}

static int on_append(void *ctx, const pagent_append *request, pagent_io *io)
{
    (void)ctx;
    return host_append(request, io);
}

static int on_read(void *ctx, const pagent_read *request, pagent_io *io)
{
    (void)ctx;
    return host_read(request, io);
}

static int on_list(void *ctx, const pagent_list *request, pagent_io *io)
{
    (void)ctx;
    return host_list(request, io);
}

static int on_trim(void *ctx, const pagent_trim *request, pagent_io *io)
{
    (void)ctx;
    return host_trim(request, io);
}

static void on_write(void *ctx, const char *text, size_t size)
{
    (void)ctx;
    host_write(text, size);
}

/* A row's tag says which pair of functions it has: guard and action, or enter and exit. `ctx`: the machine's number. */
static int on_first(void *ctx, pagent_step *step, uint32_t tag)
{
    return host_handle(ctx, 0, tag, step);
}

static int on_second(void *ctx, pagent_step *step, uint32_t tag)
{
    return host_handle(ctx, 1, tag, step);
}

EXPORT(handler) pagent_handler paw_handler(int which)
{
    return which == 0 ? on_first : on_second;
}

/* ---- the engine -------------------------------------------------------------------------------------------------- */

extern const pagent_machine *const paw_own_machines[] __attribute__((weak));

/* Machine number `index` of those compiled in; NULL behind the last. */
EXPORT(own_machine) const pagent_machine *paw_own_machine(uint32_t index)
{
    return paw_own_machines != NULL ? paw_own_machines[index] : NULL;
}

static pagent_engine *engine;
static pagent_memory *memory;
#ifdef PAW_FILES
static pagent_files *files;
#endif

static pagent_host make_host(void)
{
    pagent_host host = {sizeof host, NULL, heap_allocate, on_random, on_clock, on_call, on_call_cancel, on_trace};
    return host;
}

enum {
    PAW_READ_ONLY = 1,
    PAW_HOLD = 2,
    PAW_HOST_STORE = 4, /* otherwise: memory, or files where these are open */
    PAW_CAN_TRIM = 8
};

EXPORT(open)
int paw_open(const pagent_machine *const *machines, uint32_t count, const pagent_limits *limits, uint32_t flags,
             uint32_t caps, uint32_t block_size_max, char *text)
{
    pagent_config config = {0};
    int result;
    config.size = sizeof config;
    config.hold_effects = flags & PAW_HOLD;
    config.read_only = flags & PAW_READ_ONLY;
    config.host = make_host();
    config.limits = *limits;
    config.machines = machines;
    config.machine_count = count;
    if (flags & PAW_HOST_STORE) {
        config.store.size = sizeof config.store;
        config.store.caps = caps;
        config.store.block_size_max = block_size_max;
        config.store.append = on_append;
        config.store.read = on_read;
        config.store.list = on_list;
        if (flags & PAW_CAN_TRIM) config.store.trim = on_trim;
#ifdef PAW_FILES
    } else if (files != NULL) {
        config.store = pagent_files_store(files);
#endif
    } else {
        result = pagent_open_memory(&memory, &config.host);
        if (result != PAGENT_OK) return result;
        config.store = pagent_memory_store(memory);
    }
    return pagent_open_engine(&engine, &config, text);
}

EXPORT(close) int paw_close(void)
{
    int result = pagent_close_engine(engine);
    if (result != PAGENT_OK) return result; /* it is being used */
    engine = NULL;
    pagent_close_memory(memory);
    memory = NULL;
    return result;
}

EXPORT(poll) int paw_poll(void)
{
    return pagent_poll(engine);
}

EXPORT(next_deadline) double paw_next_deadline(void)
{
    return as_number(pagent_next_deadline(engine));
}

EXPORT(call_done) int paw_call_done(const pagent_call_id *id, const pagent_answer *answer)
{
    return pagent_call_done(engine, id, answer);
}

EXPORT(store_done) int paw_store_done(pagent_op op, int result, const pagent_io *io)
{
    return pagent_store_done(engine, op, result, io);
}

EXPORT(submit) int paw_submit(const pagent_request *request, pagent_receipt *receipt)
{
    return pagent_submit(engine, request, receipt);
}

/* Receipts that are not written yet: of all that were handed in, so many are still PENDING. */
EXPORT(receipts_due) uint32_t paw_receipts_due(void)
{
    return engine != NULL ? engine->receipts_due : 0;
}

EXPORT(trim_store) int paw_trim_store(pagent_receipt *receipt)
{
    return pagent_trim_store(engine, receipt);
}

EXPORT(error_text) const char *paw_error_text(void)
{
    return pagent_error_text(engine);
}

EXPORT(message) const char *paw_message(int result)
{
    return pagent_message(result);
}

EXPORT(import_blocks) int paw_import_blocks(const uint8_t *blocks, size_t size, const char *as)
{
    return pagent_import_blocks(engine, blocks, size, as);
}

EXPORT(portable_head) uint32_t paw_portable_head(const pagent_portable *file, uint8_t *head)
{
    return pagent_portable_head(file, head);
}

EXPORT(portable_add) uint32_t paw_portable_add(pagent_portable *file, uint8_t *block, uint32_t size)
{
    return pagent_portable_add(file, block, size);
}

EXPORT(portable_open)
int paw_portable_open(pagent_portable *file, uint8_t *bytes, size_t size, size_t *at, const char **what)
{
    return pagent_portable_open(file, bytes, size, at, what);
}

EXPORT(next_agent) int paw_next_agent(uint64_t *cursor, pagent_summary *summary)
{
    return pagent_next_agent(engine, cursor, summary);
}

EXPORT(stream_of) void paw_stream_of(const char *agent, uint64_t *stream)
{
    *stream = pagent_stream_of(agent);
}

EXPORT(machine_hash) void paw_machine_hash(const pagent_machine *machine, uint64_t *hash)
{
    *hash = pagent_machine_hash(machine);
}

EXPORT(diagram) int paw_diagram(const pagent_machine *machine, int mark, int dot)
{
    return dot ? pagent_write_dot(machine, mark, on_write, NULL) : pagent_write_mermaid(machine, mark, on_write, NULL);
}

/* ---- views ------------------------------------------------------------------------------------------------------- */

EXPORT(view_open) int paw_view_open(const char *agent, double version, pagent_view **view)
{
    return pagent_open_view(engine, agent, from_number(version), view);
}

EXPORT(view_open_stream) int paw_view_open_stream(const uint64_t *stream, double version, pagent_view **view)
{
    return pagent_open_view_stream(engine, *stream, from_number(version), view);
}

EXPORT(view_ready) int paw_view_ready(pagent_view *view)
{
    return pagent_view_ready(view);
}

EXPORT(view_next) int paw_view_next(pagent_view *view)
{
    return pagent_view_next(view);
}

EXPORT(view_close) void paw_view_close(pagent_view *view)
{
    pagent_close_view(view);
}

EXPORT(view_info) int paw_view_info(const pagent_view *view, pagent_info *info)
{
    return pagent_view_info(view, info);
}

EXPORT(view_block) int paw_view_block(const pagent_view *view, pagent_block_info *info)
{
    return pagent_view_block(view, info);
}

EXPORT(view_raw) int paw_view_raw(const pagent_view *view, pagent_bytes *block)
{
    return pagent_view_raw(view, block);
}

EXPORT(view_effect) int paw_view_effect(const pagent_view *view, uint32_t index, pagent_effect *effect)
{
    return pagent_view_effect(view, index, effect);
}

EXPORT(view_entry) int paw_view_entry(const pagent_view *view, uint32_t index, pagent_entry *entry)
{
    return pagent_view_entry(view, index, entry);
}

/* ---- steps: valid while the host handles one -------------------------------------------------------------------- */

EXPORT(step_event) const pagent_event *paw_step_event(const pagent_step *step)
{
    return pagent_current_event(step);
}

EXPORT(step_agent) const char *paw_step_agent(const pagent_step *step)
{
    return pagent_agent_name(step);
}

EXPORT(step_version) double paw_step_version(const pagent_step *step)
{
    return as_number(pagent_version(step));
}

EXPORT(step_now) double paw_step_now(const pagent_step *step)
{
    return as_number(pagent_now_ms(step));
}

EXPORT(step_context) void *paw_step_context(pagent_step *step, uint32_t *size)
{
    return pagent_context(step, size);
}

/* Whether the context is these bytes. */
EXPORT(step_is_context) int paw_step_is_context(pagent_step *step, const uint8_t *bytes, uint32_t size)
{
    uint32_t found, at = 0;
    const uint8_t *context = (const uint8_t *)pagent_context(step, &found);
    if (found != size) return 0;
    for (; size - at >= 8; at += 8) {
        uint64_t left, right;
        __builtin_memcpy(&left, bytes + at, 8);
        __builtin_memcpy(&right, context + at, 8);
        if (left != right) return 0;
    }
    while (at < size && bytes[at] == context[at]) at++;
    return at == size;
}

EXPORT(step_set_context) int paw_step_set_context(pagent_step *step, const void *bytes, uint32_t size)
{
    int result = pagent_resize_context(step, size);
    if (result == PAGENT_OK && size != 0) __builtin_memcpy(pagent_context(step, NULL), bytes, size);
    return result;
}

EXPORT(step_remember) int paw_step_remember(pagent_step *step, uint32_t kind, const void *data, uint32_t size)
{
    return pagent_remember(step, kind, data, size);
}

EXPORT(step_entries) uint32_t paw_step_entries(const pagent_step *step)
{
    return pagent_transcript_count(step);
}

EXPORT(step_entry) int paw_step_entry(const pagent_step *step, uint32_t index, pagent_entry *entry)
{
    return pagent_transcript_entry(step, index, entry);
}

EXPORT(step_call)
int paw_step_call(pagent_step *step, const char *call, const void *request, uint32_t size, pagent_effect_id *id)
{
    return pagent_begin_call(step, call, request, size, id);
}

EXPORT(step_ask)
int paw_step_ask(pagent_step *step, const char *approval, const void *payload, uint32_t size, double deadline,
                 pagent_effect_id *id)
{
    return pagent_ask_approval(step, approval, payload, size, from_number(deadline), id);
}

EXPORT(step_timer) int paw_step_timer(pagent_step *step, const char *timer, double due)
{
    return pagent_set_timer(step, timer, from_number(due));
}

EXPORT(step_clear_timer) int paw_step_clear_timer(pagent_step *step, const char *timer)
{
    return pagent_clear_timer(step, timer);
}

EXPORT(step_send)
int paw_step_send(pagent_step *step, const char *agent, const char *signal, const void *data, uint32_t size)
{
    return pagent_send_signal(step, agent, signal, data, size);
}

EXPORT(step_cancel) int paw_step_cancel(pagent_step *step, const pagent_effect_id *id)
{
    return pagent_cancel_effect(step, id);
}

EXPORT(step_fail) int paw_step_fail(pagent_step *step, int code, const char *text)
{
    return pagent_fail(step, code, text);
}

#ifdef PAW_FILES
/* ---- files: the file store over a directory of the host; the same bytes as the native one ------------------------ */

IMPORT(file_read) int host_file_read(int file, void *buffer, uint32_t size, double offset);
IMPORT(file_write) int host_file_write(int file, const void *buffer, uint32_t size, double offset);
IMPORT(file_sync) int host_file_sync(int file);
IMPORT(file_truncate) int host_file_truncate(int file, double size);
IMPORT(file_size) double host_file_size(int file);
IMPORT(dir_open) int host_dir_open(const char *name, uint32_t flags);
IMPORT(dir_create) int host_dir_create(const char *name);
IMPORT(dir_publish) int host_dir_publish(int file, const char *name, int exclusive);
IMPORT(dir_close) int host_dir_close(int file);
IMPORT(dir_remove) int host_dir_remove(const char *name);
IMPORT(dir_exists) int host_dir_exists(const char *name);
IMPORT(dir_list) int host_dir_list(const char *folder, uint32_t index, char *name);
IMPORT(dir_sync) int host_dir_sync(const char *folder);
IMPORT(dir_lock) int host_dir_lock(void);
IMPORT(dir_unlock) int host_dir_unlock(void);
IMPORT(discard) void host_discard(const pagent_damage_report *report);

static int64_t on_pread(void *ctx, int file, void *buffer, uint32_t size, uint64_t offset)
{
    (void)ctx;
    return host_file_read(file, buffer, size < (1u << 30) ? size : 1u << 30, as_number(offset));
}

static int64_t on_pwrite(void *ctx, int file, const void *buffer, uint32_t size, uint64_t offset)
{
    (void)ctx;
    return host_file_write(file, buffer, size < (1u << 30) ? size : 1u << 30, as_number(offset));
}

static int on_sync(void *ctx, int file)
{
    (void)ctx;
    return host_file_sync(file);
}

static int on_truncate(void *ctx, int file, uint64_t size)
{
    (void)ctx;
    return host_file_truncate(file, as_number(size));
}

static int64_t on_file_size(void *ctx, int file)
{
    (void)ctx;
    return (int64_t)host_file_size(file);
}

static int on_dir_open(void *ctx, const char *name, uint32_t flags)
{
    (void)ctx;
    return host_dir_open(name, flags);
}

static int on_dir_create(void *ctx, const char *name)
{
    (void)ctx;
    return host_dir_create(name);
}

static int on_dir_publish(void *ctx, int file, const char *name, int exclusive)
{
    (void)ctx;
    return host_dir_publish(file, name, exclusive);
}

static int on_dir_close(void *ctx, int file)
{
    (void)ctx;
    return host_dir_close(file);
}

static int on_dir_remove(void *ctx, const char *name)
{
    (void)ctx;
    return host_dir_remove(name);
}

static int on_dir_exists(void *ctx, const char *name)
{
    (void)ctx;
    return host_dir_exists(name);
}

static int on_dir_list(void *ctx, const char *folder, uint32_t index, char name[PAGENT_NAME_MAX + 1])
{
    (void)ctx;
    return host_dir_list(folder, index, name);
}

static int on_dir_sync(void *ctx, const char *folder)
{
    (void)ctx;
    return host_dir_sync(folder);
}

static int on_dir_lock(void *ctx)
{
    (void)ctx;
    return host_dir_lock();
}

static int on_dir_unlock(void *ctx)
{
    (void)ctx;
    return host_dir_unlock();
}

static void on_discard(void *ctx, const pagent_damage_report *report)
{
    (void)ctx;
    host_discard(report);
}

static pagent_dir make_dir(void)
{
    pagent_dir dir = {
        sizeof dir,   NULL,          {sizeof dir.dev, NULL, on_pread, on_pwrite, on_sync, on_truncate, on_file_size},
        on_dir_open,  on_dir_create, on_dir_publish,
        on_dir_close, on_dir_remove, on_dir_exists,
        on_dir_list,  on_dir_sync,   on_dir_lock,
        on_dir_unlock};
    return dir;
}

/* Before open. `options` without its callback. */
EXPORT(open_files) int paw_open_files(pagent_file_options *options, char *text)
{
    pagent_host host = make_host();
    pagent_dir dir = make_dir();
    options->on_discard = on_discard;
    return pagent_open_files(&files, &dir, &host, options, text);
}

EXPORT(close_files) int paw_close_files(void)
{
    int result = pagent_close_files(files);
    files = NULL;
    return result;
}

/* The inbox of a directory that another process owns: nothing is opened for these two. */
EXPORT(send_message) int paw_send_message(const pagent_request *request)
{
    pagent_host host = make_host();
    pagent_dir dir = make_dir();
    return pagent_send_message(&dir, &host, request);
}

EXPORT(read_receipt) int paw_read_receipt(const char *id, pagent_receipt *receipt)
{
    pagent_dir dir = make_dir();
    return pagent_read_receipt(&dir, id, receipt);
}
#endif
