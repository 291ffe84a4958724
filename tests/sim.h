/* sim.h: the test host: clock, random bytes, a counting and failing allocator, and a simulated directory of files.

   Include it after persistent_agent.h with its implementation: it decodes block headers with the library's own code to
   say what is durable.

   The disk keeps, for every file, the durable bytes and the writes since the last sync, and for the directory the
   durable names and the changes since the last sync_dir. sim_power_cut() lets any part of what is pending survive.
   Every call of pagent_dir and pagent_dev has a number n; cut 2n is just before it, cut 2n + 1 just after. At the cut
   the life that sim_live() began ends there: what it had allocated is freed by sim_release(). */
#ifndef SIM_H
#define SIM_H

#include "test.h"

/* ---- lives ------------------------------------------------------------------------------------------------------

   sim_live() gives what `life` returns, or `ended` when sim_end_life() was called somewhere below it; the innermost
   ends. In WebAssembly, whose C library has no setjmp, the host calls the function, throws, and catches. */

#if defined(__wasm__)

#define SIM_IMPORT(name) __attribute__((import_module("sim"), import_name(#name)))
SIM_IMPORT(live) int sim_live(int (*life)(void), int ended);
SIM_IMPORT(end_life) __attribute__((noreturn)) void sim_end_life(void);

#else

#include <setjmp.h>

static jmp_buf *sim_end; /* of the innermost life */

static inline int sim_live(int (*life)(void), int ended)
{
    jmp_buf here, *outer = sim_end;
    int result;
    sim_end = &here;
    if (setjmp(here) != 0) {
        sim_end = outer;
        return ended;
    }
    result = life();
    sim_end = outer;
    return result;
}

static inline void sim_end_life(void)
{
    longjmp(*sim_end, 1);
}

#endif

/* ---- random numbers ------------------------------------------------------------------------------------------ */

typedef struct sim_random {
    uint64_t state;
} sim_random;

static inline uint64_t sim_next(sim_random *random)
{
    uint64_t x = random->state += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static inline uint64_t sim_below(sim_random *random, uint64_t limit)
{
    return limit != 0 ? sim_next(random) % limit : 0;
}

static inline int sim_coin(sim_random *random)
{
    return (int)(sim_next(random) >> 40 & 1u);
}

/* ---- the allocator -------------------------------------------------------------------------------------------- */

typedef struct sim_memory {
    union sim_chunk *first; /* everything that is allocated, newest first */
    uint64_t calls;         /* that ask for memory */
    uint64_t fail_at;       /* the call that fails, from 1; 0: none */
    int fail_forever;       /* … and all later ones */
    int64_t count;
    int64_t bytes;
} sim_memory;

typedef union sim_chunk {
    struct {
        union sim_chunk *next, *previous;
        size_t size;
        sim_memory *owner;
    } is;
    long double align[3];
} sim_chunk;

static inline void sim_unlink_chunk(sim_memory *memory, sim_chunk *chunk)
{
    if (chunk->is.previous != NULL) chunk->is.previous->is.next = chunk->is.next;
    else memory->first = chunk->is.next;
    if (chunk->is.next != NULL) chunk->is.next->is.previous = chunk->is.previous;
    memory->count--;
    memory->bytes -= (int64_t)chunk->is.size;
}

/* host.allocate. New memory is filled with 0xA5, so that nobody counts on zeros; a resize always moves. */
static inline void *sim_allocate(void *ctx, void *old, size_t old_size, size_t new_size)
{
    sim_memory *memory = (sim_memory *)ctx;
    sim_chunk *was = old != NULL ? (sim_chunk *)old - 1 : NULL, *made = NULL;
    if (was != NULL && (was->is.owner != memory || was->is.size != old_size)) {
        FAIL("allocator: given back with size %llu, was %llu", (unsigned long long)old_size,
             (unsigned long long)was->is.size);
        old_size = was->is.size;
    }
    if (was == NULL && old_size != 0) FAIL("allocator: NULL given back with size %llu", (unsigned long long)old_size);
    if (new_size != 0) {
        memory->calls++;
        if (memory->fail_at != 0 &&
            (memory->calls == memory->fail_at || (memory->fail_forever && memory->calls > memory->fail_at))) {
            return NULL;
        }
        made = (sim_chunk *)malloc(sizeof(sim_chunk) + new_size);
        if (made == NULL) return NULL;
        memset(made + 1, 0xA5, new_size);
        if (was != NULL) memcpy(made + 1, was + 1, old_size < new_size ? old_size : new_size);
        made->is.size = new_size;
        made->is.owner = memory;
        made->is.previous = NULL;
        made->is.next = memory->first;
        if (memory->first != NULL) memory->first->is.previous = made;
        memory->first = made;
        memory->count++;
        memory->bytes += (int64_t)new_size;
    }
    if (was != NULL) {
        sim_unlink_chunk(memory, was);
        memset(was, 0xDD, sizeof(sim_chunk) + old_size);
        free(was);
    }
    return made != NULL ? made + 1 : NULL;
}

/* The process is gone: so is its memory. */
static inline void sim_release(sim_memory *memory)
{
    while (memory->first != NULL) {
        sim_chunk *chunk = memory->first;
        sim_unlink_chunk(memory, chunk);
        free(chunk);
    }
}

/* ---- the disk ------------------------------------------------------------------------------------------------- */

#define SIM_MAGIC UINT32_C(0xB7D1A9E5) /* the first four bytes of every block */
enum {
    SIM_SECTOR = 512,
    SIM_NAME = PAGENT_NAME_MAX + 32
};

enum sim_kind { /* of a call */
    SIM_OPEN,
    SIM_CREATE,
    SIM_PUBLISH,
    SIM_CLOSE,
    SIM_REMOVE,
    SIM_EXISTS,
    SIM_LIST,
    SIM_SYNC_DIR,
    SIM_LOCK,
    SIM_UNLOCK,
    SIM_READ,
    SIM_WRITE,
    SIM_SYNC,
    SIM_TRUNCATE,
    SIM_SIZE,
    SIM_KINDS
};

enum sim_crash { /* what is left of what was pending */
    SIM_KILL,    /* the process died, the system lives: all is readable, still not durable */
    SIM_LOSE,    /* nothing */
    SIM_KEEP,    /* everything */
    SIM_PREFIX,  /* of each file the first writes, the last of them torn at a 64-byte line */
    SIM_REORDER, /* any subset of whole writes */
    SIM_SECTORS, /* any subset of 512-byte sectors */
    SIM_LINES,   /* any subset of 64-byte lines */
    SIM_ZERO,    /* any subset of sectors; the sizes survive, so that what is lost reads as zero */
    SIM_BYTES,   /* as PREFIX, torn at any byte: the tail may look SUSPECT */
    SIM_GARBLE,  /* any subset of sectors, and one of them is garbage: an explicit error is as good */
    SIM_CRASHES
};
/* What a crash of this kind leaves must open without an error. */
static inline int sim_crash_is_clean(int crash)
{
    return crash != SIM_BYTES && crash != SIM_GARBLE;
}

typedef struct sim_bytes {
    uint8_t *data;
    size_t size, room;
} sim_bytes;

typedef struct sim_write {
    uint64_t offset;
    uint32_t size;
    uint8_t *data; /* NULL: the file was made `offset` bytes long */
} sim_write;

typedef struct sim_file {
    sim_bytes now, durable;
    sim_write *pending;
    uint32_t count, room;
} sim_file;

typedef struct sim_name {
    char text[SIM_NAME];
    int file;
} sim_name;

typedef struct sim_names {
    sim_name *items;
    uint32_t count, room;
} sim_names;

typedef struct sim_change { /* of the directory: `from` ends to be, `to` means `file` */
    char from[SIM_NAME], to[SIM_NAME];
    int file;
} sim_change;

typedef struct sim_handle {
    int file;
    int process;
    int open, writes, failed;
    char temporary[SIM_NAME]; /* "" once it is published */
} sim_handle;

typedef struct sim_disk {
    sim_file *files;
    uint32_t file_count, file_room;
    sim_names now, durable;
    sim_change *changes;
    uint32_t change_count, change_room;
    sim_handle *handles;
    uint32_t handle_count, handle_room;
    int lock_owner; /* process; 0: free */

    /* what is to go wrong */
    uint64_t cut; /* see above; UINT64_MAX: none */
    int crashed;
    uint64_t fail_at; /* call number that fails; UINT64_MAX: none */
    int fail_code;
    int fail_forever;  /* 1: every later call too; 2: every later call of the same kind */
    int fail_variant;  /* 0: nothing was done; 1: it was done all the same; 2: half of it */
    int fail_kind;     /* of the call that failed: set by the disk; -1 before */
    int poisoned;      /* a sync of a published file has failed */
    uint64_t lie_at;   /* this sync says OK and loses the writes; UINT64_MAX: none */
    uint32_t io_max;   /* bytes a read or write moves at most; 0: no limit */
    uint64_t capacity; /* bytes of all files together; 0: no limit */
    int lock_broken;   /* everybody gets the lock */
    uint64_t pause_at; /* just before this call `meanwhile` runs, once: another process; UINT64_MAX: never */
    void (*meanwhile)(void *ctx);
    void *meanwhile_ctx;

    /* what happened */
    uint64_t calls;
    uint64_t count[SIM_KINDS];
    uint64_t bytes_written;
} sim_disk;

typedef struct sim_process { /* the ctx of one pagent_dir */
    sim_disk *disk;
    int id;
} sim_process;

static inline void *sim_grow(void *items, uint32_t *room, uint32_t count, size_t size)
{
    if (count < *room) return items;
    *room = *room != 0 ? *room * 2u : 8u;
    items = realloc(items, *room * size);
    if (items == NULL) abort();
    return items;
}

static inline void sim_set_size(sim_bytes *bytes, uint64_t size)
{
    if (size > bytes->room) {
        size_t room = (size_t)size + (size_t)size / 2u + 64u;
        bytes->data = (uint8_t *)realloc(bytes->data, room);
        if (bytes->data == NULL) abort();
        bytes->room = room;
    }
    if (size > bytes->size) memset(bytes->data + bytes->size, 0, (size_t)size - bytes->size);
    bytes->size = (size_t)size;
}

static inline void sim_put(sim_bytes *bytes, uint64_t offset, const void *data, size_t size)
{
    if (offset + size > bytes->size) sim_set_size(bytes, offset + size);
    if (size != 0) memcpy(bytes->data + offset, data, size);
}

static inline void sim_copy_bytes(sim_bytes *to, const sim_bytes *from)
{
    to->size = 0;
    sim_put(to, 0, from->data, from->size);
}

static inline void sim_free_pending(sim_file *file)
{
    uint32_t i;
    for (i = 0; i < file->count; i++) free(file->pending[i].data);
    file->count = 0;
}

static inline void sim_free_disk(sim_disk *disk)
{
    uint32_t i;
    for (i = 0; i < disk->file_count; i++) {
        sim_free_pending(&disk->files[i]);
        free(disk->files[i].pending);
        free(disk->files[i].now.data);
        free(disk->files[i].durable.data);
    }
    free(disk->files);
    free(disk->now.items);
    free(disk->durable.items);
    free(disk->changes);
    free(disk->handles);
    memset(disk, 0, sizeof *disk);
}

/* No faults from here on. */
static inline void sim_disarm(sim_disk *disk)
{
    disk->cut = disk->fail_at = disk->lie_at = disk->pause_at = UINT64_MAX;
    disk->fail_forever = disk->fail_variant = 0;
    disk->fail_code = PAGENT_E_STORAGE;
    disk->fail_kind = -1;
    disk->io_max = 0;
    disk->capacity = 0;
    disk->crashed = disk->poisoned = 0;
}

static inline void sim_init_disk(sim_disk *disk)
{
    memset(disk, 0, sizeof *disk);
    sim_disarm(disk);
}

/* Counts from 0 again, so that cuts and failures mean the calls that follow. */
static inline void sim_restart_count(sim_disk *disk)
{
    disk->calls = 0;
    memset(disk->count, 0, sizeof disk->count);
    disk->bytes_written = 0;
}

static inline int sim_find(const sim_names *names, const char *text)
{
    uint32_t i;
    for (i = 0; i < names->count; i++) {
        if (strcmp(names->items[i].text, text) == 0) return (int)i;
    }
    return -1;
}

static inline void sim_apply_change(sim_names *names, const sim_change *change)
{
    int at;
    if (change->from[0] != 0 && (at = sim_find(names, change->from)) >= 0) {
        names->count--;
        memmove(names->items + at, names->items + at + 1, (names->count - (uint32_t)at) * sizeof(sim_name));
    }
    if (change->to[0] == 0) return;
    at = sim_find(names, change->to);
    if (at < 0) {
        names->items = (sim_name *)sim_grow(names->items, &names->room, names->count, sizeof(sim_name));
        at = (int)names->count++;
        snprintf(names->items[at].text, SIM_NAME, "%s", change->to);
    }
    names->items[at].file = change->file;
}

static inline void sim_change_names(sim_disk *disk, const char *from, const char *to, int file)
{
    sim_change *change;
    disk->changes = (sim_change *)sim_grow(disk->changes, &disk->change_room, disk->change_count, sizeof(sim_change));
    change = &disk->changes[disk->change_count++];
    snprintf(change->from, SIM_NAME, "%s", from);
    snprintf(change->to, SIM_NAME, "%s", to);
    change->file = file;
    sim_apply_change(&disk->now, change);
}

static inline int sim_in_folder(const char *name, const char *folder)
{
    size_t length = strlen(folder);
    if (length == 0) return strchr(name, '/') == NULL;
    return strncmp(name, folder, length) == 0 && name[length] == '/';
}

static inline void sim_apply_write(sim_bytes *bytes, const sim_write *write)
{
    if (write->data == NULL) sim_set_size(bytes, write->offset);
    else sim_put(bytes, write->offset, write->data, write->size);
}

static inline void sim_make_durable(sim_file *file)
{
    uint32_t i;
    for (i = 0; i < file->count; i++) sim_apply_write(&file->durable, &file->pending[i]);
    sim_free_pending(file);
}

/* -- crashes -- */

/* Writes the pieces of one pending write that survive, in units that begin at multiples of `unit` in the file. */
static inline void sim_scatter(sim_bytes *bytes, const sim_write *write, uint64_t unit, sim_random *random)
{
    uint64_t at = write->offset, end = write->offset + write->size;
    while (at < end) {
        uint64_t next = (at / unit + 1u) * unit;
        if (next > end) next = end;
        if (sim_coin(random)) sim_put(bytes, at, write->data + (at - write->offset), (size_t)(next - at));
        at = next;
    }
}

static inline void sim_tear(sim_bytes *bytes, const sim_write *write, uint64_t unit, sim_random *random)
{
    uint64_t end = write->offset + sim_below(random, (uint64_t)write->size + 1u);
    end -= end % unit;
    if (end > write->offset) sim_put(bytes, write->offset, write->data, (size_t)(end - write->offset));
}

static inline void sim_garble(sim_bytes *bytes, const sim_file *file, sim_random *random)
{
    const sim_write *write = &file->pending[sim_below(random, file->count)];
    uint64_t unit = sim_coin(random) ? SIM_SECTOR : 64u, at, end, i;
    if (write->data == NULL || write->size == 0) return;
    at = write->offset + sim_below(random, write->size);
    at -= at % unit;
    end = at + unit;
    if (at < write->offset) at = write->offset;
    if (end > write->offset + write->size) end = write->offset + write->size;
    for (i = at; i < end; i++) {
        uint8_t byte = (uint8_t)sim_next(random);
        sim_put(bytes, i, &byte, 1);
    }
}

static inline void sim_cut_file(sim_file *file, int crash, sim_random *random)
{
    uint32_t i, whole = (uint32_t)sim_below(random, (uint64_t)file->count + 1u);
    uint64_t size = file->now.size;
    if (crash == SIM_KEEP) {
        sim_make_durable(file);
    } else if (crash != SIM_LOSE) {
        for (i = 0; i < file->count; i++) {
            const sim_write *write = &file->pending[i];
            int prefix = crash == SIM_PREFIX || crash == SIM_BYTES;
            if (prefix && i > whole) break;
            if (write->data == NULL || (prefix && i < whole) || crash == SIM_REORDER) {
                if ((prefix && i < whole) || sim_coin(random)) sim_apply_write(&file->durable, write);
            } else if (prefix) {
                sim_tear(&file->durable, write, crash == SIM_BYTES ? 1u : 64u, random);
            } else {
                sim_scatter(&file->durable, write, crash == SIM_LINES ? 64u : SIM_SECTOR, random);
            }
        }
        if (crash == SIM_GARBLE && file->count != 0) sim_garble(&file->durable, file, random);
        if (file->count != 0 && size > file->durable.size && (crash == SIM_ZERO || sim_coin(random))) {
            sim_set_size(&file->durable, size);
        }
    }
    sim_free_pending(file);
    sim_copy_bytes(&file->now, &file->durable);
}

/* The process is gone: its files are closed, its lock is free. */
static inline void sim_end_process(sim_disk *disk, int process)
{
    uint32_t i;
    for (i = 0; i < disk->handle_count; i++) {
        if (disk->handles[i].process == process) disk->handles[i].open = 0;
    }
    if (disk->lock_owner == process) disk->lock_owner = 0;
}

/* The machine stops: every process ends, and of what was pending only what `crash` says is left. */
static inline void sim_power_cut(sim_disk *disk, int crash, uint64_t seed)
{
    sim_random random;
    uint32_t i;
    random.state = seed ^ UINT64_C(0xC7A54);
    for (i = 0; i < disk->handle_count; i++) disk->handles[i].open = 0;
    disk->lock_owner = 0;
    if (crash == SIM_KILL) return;
    for (i = 0; i < disk->file_count; i++) sim_cut_file(&disk->files[i], crash, &random);
    for (i = 0; i < disk->change_count; i++) {
        if (crash == SIM_KEEP || (crash != SIM_LOSE && sim_coin(&random))) {
            sim_apply_change(&disk->durable, &disk->changes[i]);
        }
    }
    disk->change_count = 0;
    disk->now.count = 0;
    for (i = 0; i < disk->durable.count; i++) {
        sim_change change;
        change.from[0] = 0;
        memcpy(change.to, disk->durable.items[i].text, SIM_NAME);
        change.file = disk->durable.items[i].file;
        sim_apply_change(&disk->now, &change);
    }
}

/* The machine stops: all that was pending is kept but its n-th line, which stays as it was. 0: it has no such line. */
static inline int sim_power_cut_but_line(sim_disk *disk, uint64_t n)
{
    uint32_t i, j;
    for (i = 0; i < disk->file_count; i++) {
        sim_file *file = &disk->files[i];
        for (j = 0; j < file->count; j++) {
            const sim_write *write = &file->pending[j];
            uint64_t lines = write->data == NULL ? 0 : (write->size + 63u) / 64u;
            if (n < lines) {
                uint64_t at = write->offset + 64u * n, size = write->size - 64u * n, k;
                uint8_t before[64] = {0};
                if (size > 64) size = 64;
                for (k = 0; k < size && at + k < file->durable.size; k++) before[k] = file->durable.data[at + k];
                sim_power_cut(disk, SIM_KEEP, n);
                sim_put(&file->durable, at, before, (size_t)size);
                sim_put(&file->now, at, before, (size_t)size);
                return 1;
            }
            n -= lines;
        }
    }
    return 0;
}

/* -- the callbacks -- */

static inline void sim_cut_here(sim_disk *disk)
{
    disk->crashed = 1;
    disk->cut = UINT64_MAX;
    sim_end_life();
}

static const char *const sim_kind_names[] = {"open",   "create", "publish",  "close",    "remove",
                                             "exists", "list",   "sync_dir", "lock",     "unlock",
                                             "pread",  "pwrite", "sync",     "truncate", "file_size"};

/* With --cut and --verbose: every call as it is made. */
static inline void sim_show(const sim_disk *disk, int kind, const char *name, uint64_t offset, uint64_t size)
{
    if (!test.verbose || test.only == TEST_ANY_CASE || test.at != test.only) return;
    printf("    %llu %s %s %llu+%llu\n", (unsigned long long)disk->calls, sim_kind_names[kind], name,
           (unsigned long long)offset, (unsigned long long)size);
}

static inline const char *sim_file_name(const sim_disk *disk, int file)
{
    uint32_t i;
    for (i = 0; i < disk->now.count; i++) {
        if (disk->now.items[i].file == file) return disk->now.items[i].text;
    }
    return "(removed)";
}

/* Numbers the call; ends the process if the cut is before it. Returns 0, or the error that the call is to have. */
static inline int sim_enter(sim_disk *disk, int kind)
{
    uint64_t number = disk->calls;
    int fails = 0;
    if (disk->pause_at == number) {
        disk->pause_at = UINT64_MAX;
        disk->meanwhile(disk->meanwhile_ctx);
        number = disk->calls;
    }
    if (disk->cut == 2u * number) sim_cut_here(disk);
    disk->calls++;
    disk->count[kind]++;
    if (number == disk->fail_at) {
        disk->fail_kind = kind;
        fails = 1;
    } else if (disk->fail_at != UINT64_MAX && number > disk->fail_at) {
        fails = disk->fail_forever == 1 || (disk->fail_forever == 2 && kind == disk->fail_kind);
    }
    return fails ? disk->fail_code : 0;
}

static inline void sim_leave(sim_disk *disk)
{
    if (disk->cut == 2u * (disk->calls - 1u) + 1u) sim_cut_here(disk);
}

/* A cut point that is no call of the disk: before and after a callback of the host. */
static inline void sim_point(sim_disk *disk)
{
    if (disk->pause_at == disk->calls) {
        disk->pause_at = UINT64_MAX;
        disk->meanwhile(disk->meanwhile_ctx);
    }
    if (disk->cut == 2u * disk->calls) sim_cut_here(disk);
    disk->calls++;
    sim_leave(disk);
}

static inline int sim_done(sim_disk *disk, int error, int result)
{
    sim_leave(disk);
    return error != 0 ? error : result;
}

/* Is the call to be carried out although (or because) it reports `error`? */
static inline int sim_acts(const sim_disk *disk, int error)
{
    return error == 0 || disk->fail_variant == 1;
}

static inline sim_handle *sim_handle_of(sim_process *process, int file, const char *what)
{
    sim_disk *disk = process->disk;
    sim_handle *handle = file > 0 && (uint32_t)file <= disk->handle_count ? &disk->handles[file - 1] : NULL;
    if (handle == NULL || !handle->open || handle->process != process->id) {
        FAIL("the store uses file handle %d, which is not open (%s)", file, what);
        return NULL;
    }
    return handle;
}

static inline int sim_new_handle(sim_process *process, int file, int writes)
{
    sim_disk *disk = process->disk;
    sim_handle *handle;
    disk->handles = (sim_handle *)sim_grow(disk->handles, &disk->handle_room, disk->handle_count, sizeof(sim_handle));
    handle = &disk->handles[disk->handle_count++];
    memset(handle, 0, sizeof *handle);
    handle->file = file;
    handle->process = process->id;
    handle->open = 1;
    handle->writes = writes;
    return (int)disk->handle_count;
}

static inline uint64_t sim_used(const sim_disk *disk)
{
    uint64_t used = 0;
    uint32_t i;
    for (i = 0; i < disk->now.count; i++) used += disk->files[disk->now.items[i].file].now.size;
    return used;
}

static inline sim_write *sim_add_pending(sim_file *file)
{
    file->pending = (sim_write *)sim_grow(file->pending, &file->room, file->count, sizeof(sim_write));
    memset(&file->pending[file->count], 0, sizeof(sim_write));
    return &file->pending[file->count++];
}

static inline int64_t sim_pread(void *ctx, int file, void *buffer, uint32_t size, uint64_t offset)
{
    sim_process *process = (sim_process *)ctx;
    sim_disk *disk = process->disk;
    int error = sim_enter(disk, SIM_READ); /* another process may run within */
    sim_handle *handle = sim_handle_of(process, file, "pread");
    const sim_bytes *bytes;
    uint64_t left;
    sim_show(disk, SIM_READ, handle != NULL ? sim_file_name(disk, handle->file) : "?", offset, size);
    if (handle == NULL || error != 0) return sim_done(disk, error, PAGENT_E_STORAGE);
    bytes = &disk->files[handle->file].now;
    left = offset < bytes->size ? bytes->size - offset : 0;
    if (size > left) size = (uint32_t)left;
    if (disk->io_max != 0 && size > disk->io_max) size = disk->io_max;
    if (size != 0) memcpy(buffer, bytes->data + offset, size);
    sim_leave(disk);
    return size;
}

static inline int64_t sim_pwrite(void *ctx, int file, const void *buffer, uint32_t size, uint64_t offset)
{
    sim_process *process = (sim_process *)ctx;
    sim_disk *disk = process->disk;
    int error = sim_enter(disk, SIM_WRITE); /* another process may run within */
    sim_handle *handle = sim_handle_of(process, file, "pwrite");
    sim_file *target;
    sim_write *write;
    sim_show(disk, SIM_WRITE, handle != NULL ? sim_file_name(disk, handle->file) : "?", offset, size);
    if (handle == NULL) return PAGENT_E_STORAGE;
    if (!handle->writes) FAIL("the store writes to a file that it opened for reading");
    if (handle->failed) FAIL("the store writes to a file whose sync has failed");
    if (error != 0 && disk->fail_variant == 0) return sim_done(disk, error, 0);
    if (error != 0 && disk->fail_variant == 2) size = size / 2u & ~63u; /* a tear within a line is SIM_BYTES's */
    if (disk->io_max != 0 && size > disk->io_max) size = disk->io_max;
    target = &disk->files[handle->file];
    if (disk->capacity != 0 && offset + size > target->now.size) {
        uint64_t used = sim_used(disk), room = used < disk->capacity ? disk->capacity - used : 0;
        uint64_t fits = target->now.size + room > offset ? target->now.size + room - offset : 0;
        if (fits == 0) return sim_done(disk, PAGENT_E_NO_SPACE, 0);
        if (size > fits) size = (uint32_t)fits;
    }
    write = sim_add_pending(target);
    write->offset = offset;
    write->size = size;
    write->data = (uint8_t *)malloc(size != 0 ? size : 1u);
    if (write->data == NULL) abort();
    memcpy(write->data, buffer, size);
    sim_apply_write(&target->now, write);
    disk->bytes_written += size;
    sim_leave(disk);
    return error != 0 ? error : (int64_t)size;
}

static inline int sim_sync(void *ctx, int file)
{
    sim_process *process = (sim_process *)ctx;
    sim_disk *disk = process->disk;
    uint64_t number = disk->count[SIM_SYNC];
    int error = sim_enter(disk, SIM_SYNC); /* another process may run within */
    sim_handle *handle = sim_handle_of(process, file, "sync");
    sim_show(disk, SIM_SYNC, handle != NULL ? sim_file_name(disk, handle->file) : "?", 0, 0);
    if (handle == NULL) return PAGENT_E_STORAGE;
    if (handle->failed) FAIL("the store syncs a file whose sync has failed");
    if (error != 0) {
        handle->failed = 1;
        if (handle->temporary[0] == 0) disk->poisoned = 1;
        /* 0: the pages are marked clean: readable, never written; 1: written all the same; 2: still to be written */
        if (disk->fail_variant == 0) sim_free_pending(&disk->files[handle->file]);
        if (disk->fail_variant == 1) sim_make_durable(&disk->files[handle->file]);
        return sim_done(disk, error, 0);
    }
    if (number == disk->lie_at) sim_free_pending(&disk->files[handle->file]);
    else sim_make_durable(&disk->files[handle->file]);
    return sim_done(disk, 0, 0);
}

static inline int sim_truncate(void *ctx, int file, uint64_t size)
{
    sim_process *process = (sim_process *)ctx;
    sim_disk *disk = process->disk;
    int error = sim_enter(disk, SIM_TRUNCATE); /* another process may run within */
    sim_handle *handle = sim_handle_of(process, file, "truncate");
    sim_file *target;
    sim_write *write;
    sim_show(disk, SIM_TRUNCATE, handle != NULL ? sim_file_name(disk, handle->file) : "?", size, 0);
    if (handle == NULL) return PAGENT_E_STORAGE;
    if (!handle->writes) FAIL("the store truncates a file that it opened for reading");
    if (handle->failed) FAIL("the store truncates a file whose sync has failed");
    if (!sim_acts(disk, error)) return sim_done(disk, error, 0);
    target = &disk->files[handle->file];
    if (disk->capacity != 0 && size > target->now.size && sim_used(disk) + (size - target->now.size) > disk->capacity) {
        return sim_done(disk, PAGENT_E_NO_SPACE, 0);
    }
    write = sim_add_pending(target);
    write->offset = size;
    sim_apply_write(&target->now, write);
    return sim_done(disk, error, 0);
}

static inline int64_t sim_file_size(void *ctx, int file)
{
    sim_process *process = (sim_process *)ctx;
    int error = sim_enter(process->disk, SIM_SIZE); /* another process may run within */
    sim_handle *handle = sim_handle_of(process, file, "file_size");
    sim_leave(process->disk);
    if (handle == NULL) return PAGENT_E_STORAGE;
    return error != 0 ? error : (int64_t)process->disk->files[handle->file].now.size;
}

static inline int sim_open(void *ctx, const char *name, uint32_t flags)
{
    sim_process *process = (sim_process *)ctx;
    sim_disk *disk = process->disk;
    int error = sim_enter(disk, SIM_OPEN), at = sim_find(&disk->now, name), result;
    sim_show(disk, SIM_OPEN, name, flags, 0);
    if (error != 0) return sim_done(disk, error, 0);
    result = at < 0 ? PAGENT_E_NOT_FOUND
                    : sim_new_handle(process, disk->now.items[at].file, (flags & PAGENT_OPEN_WRITE) != 0);
    return sim_done(disk, 0, result);
}

static inline int sim_create_temp(void *ctx, const char *name)
{
    sim_process *process = (sim_process *)ctx;
    sim_disk *disk = process->disk;
    int error = sim_enter(disk, SIM_CREATE), result;
    sim_show(disk, SIM_CREATE, name, 0, 0);
    if (!sim_acts(disk, error)) return sim_done(disk, error, 0);
    if (sim_find(&disk->now, name) >= 0) return sim_done(disk, error, PAGENT_E_EXISTS);
    disk->files = (sim_file *)sim_grow(disk->files, &disk->file_room, disk->file_count, sizeof(sim_file));
    memset(&disk->files[disk->file_count], 0, sizeof(sim_file));
    sim_change_names(disk, "", name, (int)disk->file_count);
    result = sim_new_handle(process, (int)disk->file_count++, 1);
    snprintf(disk->handles[result - 1].temporary, SIM_NAME, "%s", name);
    if (error != 0) disk->handles[result - 1].open = 0;
    return sim_done(disk, error, result);
}

static inline int sim_publish(void *ctx, int file, const char *name, int exclusive)
{
    sim_process *process = (sim_process *)ctx;
    sim_disk *disk = process->disk;
    int error = sim_enter(disk, SIM_PUBLISH); /* another process may run within */
    sim_handle *handle = sim_handle_of(process, file, "publish");
    sim_show(disk, SIM_PUBLISH, name, 0, 0);
    if (handle == NULL) return PAGENT_E_STORAGE;
    if (handle->temporary[0] == 0) FAIL("the store publishes a file that is not temporary, as %s", name);
    if (disk->files[handle->file].count != 0) FAIL("the store publishes %s, which is not synced", name);
    if (!sim_acts(disk, error)) return sim_done(disk, error, 0);
    if (exclusive && sim_find(&disk->now, name) >= 0) return sim_done(disk, error, PAGENT_E_EXISTS);
    sim_change_names(disk, handle->temporary, name, handle->file);
    handle->temporary[0] = 0;
    return sim_done(disk, error, 0);
}

static inline int sim_close(void *ctx, int file)
{
    sim_process *process = (sim_process *)ctx;
    int error = sim_enter(process->disk, SIM_CLOSE); /* another process may run within */
    sim_handle *handle = sim_handle_of(process, file, "close");
    if (handle == NULL) return PAGENT_E_STORAGE;
    handle->open = 0; /* also when it reports an error: it must not be closed twice */
    return sim_done(process->disk, error, 0);
}

static inline int sim_remove(void *ctx, const char *name)
{
    sim_disk *disk = ((sim_process *)ctx)->disk;
    int error = sim_enter(disk, SIM_REMOVE);
    sim_show(disk, SIM_REMOVE, name, 0, 0);
    if (!sim_acts(disk, error)) return sim_done(disk, error, 0);
    if (sim_find(&disk->now, name) < 0) return sim_done(disk, error, PAGENT_E_NOT_FOUND);
    sim_change_names(disk, name, "", -1);
    return sim_done(disk, error, 0);
}

static inline int sim_exists(void *ctx, const char *name)
{
    sim_disk *disk = ((sim_process *)ctx)->disk;
    int error = sim_enter(disk, SIM_EXISTS);
    return sim_done(disk, error, sim_find(&disk->now, name) >= 0);
}

static inline int sim_list(void *ctx, const char *folder, uint32_t index, char name[PAGENT_NAME_MAX + 1])
{
    sim_disk *disk = ((sim_process *)ctx)->disk;
    int error = sim_enter(disk, SIM_LIST);
    uint32_t i, seen = 0;
    if (error != 0) return sim_done(disk, error, 0);
    for (i = 0; i < disk->now.count; i++) {
        const char *text = disk->now.items[i].text;
        if (!sim_in_folder(text, folder) || seen++ != index) continue;
        if (folder[0] != 0) text += strlen(folder) + 1;
        if (strlen(text) > PAGENT_NAME_MAX) FAIL("a file name is too long to be listed: %s", text);
        strncpy(name, text, PAGENT_NAME_MAX);
        name[PAGENT_NAME_MAX] = 0;
        return sim_done(disk, 0, 0);
    }
    return sim_done(disk, 0, PAGENT_END);
}

static inline int sim_sync_dir(void *ctx, const char *folder)
{
    sim_disk *disk = ((sim_process *)ctx)->disk;
    int error = sim_enter(disk, SIM_SYNC_DIR);
    uint32_t i, kept = 0;
    sim_show(disk, SIM_SYNC_DIR, folder, 0, 0);
    if (!sim_acts(disk, error)) return sim_done(disk, error, 0);
    for (i = 0; i < disk->change_count; i++) {
        sim_change *change = &disk->changes[i];
        const char *name = change->to[0] != 0 ? change->to : change->from;
        if (sim_in_folder(name, folder)) sim_apply_change(&disk->durable, change);
        else disk->changes[kept++] = *change;
    }
    disk->change_count = kept;
    return sim_done(disk, error, 0);
}

static inline int sim_lock(void *ctx)
{
    sim_process *process = (sim_process *)ctx;
    sim_disk *disk = process->disk;
    int error = sim_enter(disk, SIM_LOCK);
    if (error != 0) return sim_done(disk, error, 0);
    if (disk->lock_owner != 0 && !disk->lock_broken) return sim_done(disk, 0, PAGENT_E_LOCKED);
    disk->lock_owner = process->id;
    return sim_done(disk, 0, 0);
}

static inline int sim_unlock(void *ctx)
{
    sim_process *process = (sim_process *)ctx;
    sim_disk *disk = process->disk;
    int error = sim_enter(disk, SIM_UNLOCK);
    if (disk->lock_owner == process->id) disk->lock_owner = 0;
    else if (!disk->lock_broken) FAIL("the store frees a lock that it does not hold");
    return sim_done(disk, error, 0);
}

static inline pagent_dir sim_dir(sim_process *process)
{
    pagent_dir dir;
    memset(&dir, 0, sizeof dir);
    dir.size = (uint32_t)sizeof dir;
    dir.ctx = process;
    dir.dev.size = (uint32_t)sizeof dir.dev;
    dir.dev.ctx = process;
    dir.dev.pread = sim_pread;
    dir.dev.pwrite = sim_pwrite;
    dir.dev.sync = sim_sync;
    dir.dev.truncate = sim_truncate;
    dir.dev.file_size = sim_file_size;
    dir.open = sim_open;
    dir.create_temp = sim_create_temp;
    dir.publish = sim_publish;
    dir.close = sim_close;
    dir.remove = sim_remove;
    dir.exists = sim_exists;
    dir.list = sim_list;
    dir.sync_dir = sim_sync_dir;
    dir.lock = sim_lock;
    dir.unlock = sim_unlock;
    return dir;
}

static inline uint32_t sim_open_handles(const sim_disk *disk, int process)
{
    uint32_t i, count = 0;
    for (i = 0; i < disk->handle_count; i++) count += disk->handles[i].open && disk->handles[i].process == process;
    return count;
}

/* A new disk with what is durable on another. */
static inline void sim_copy_disk(sim_disk *to, const sim_disk *from)
{
    uint32_t i;
    sim_free_disk(to);
    sim_init_disk(to);
    for (i = 0; i < from->durable.count; i++) {
        sim_change change;
        to->files = (sim_file *)sim_grow(to->files, &to->file_room, to->file_count, sizeof(sim_file));
        memset(&to->files[i], 0, sizeof(sim_file));
        sim_copy_bytes(&to->files[i].durable, &from->files[from->durable.items[i].file].durable);
        sim_copy_bytes(&to->files[i].now, &to->files[i].durable);
        change.from[0] = 0;
        memcpy(change.to, from->durable.items[i].text, SIM_NAME);
        change.file = (int)to->file_count++;
        sim_apply_change(&to->durable, &change);
        sim_apply_change(&to->now, &change);
    }
}

/* ---- what is durable ------------------------------------------------------------------------------------------ */

/* Is there, in the bytes that a power cut now would leave at the least, a block of this stream and version? */
static inline int sim_is_durable(const sim_disk *disk, uint64_t stream, uint64_t version)
{
    static pai_crc crc;
    static int ready;
    uint32_t i;
    if (!ready) pai_crc_init(&crc);
    ready = 1;
    for (i = 0; i < disk->durable.count; i++) {
        const sim_bytes *bytes = &disk->files[disk->durable.items[i].file].durable;
        size_t at;
        for (at = 0; at + 128 <= bytes->size; at += 64) {
            pai_block block;
            if (pai_get32(bytes->data + at) != SIM_MAGIC || pai_get64(bytes->data + at + 16) != stream ||
                pai_get64(bytes->data + at + 24) != version) {
                continue;
            }
            if (pai_decode_header(&crc, bytes->data + at, at, &block) != PAGENT_OK) continue;
            if (at + pai_block_size(&block) > bytes->size) continue;
            if (pai_check_payload(&crc, bytes->data + at, &block) == PAGENT_OK) return 1;
        }
    }
    return 0;
}

/* ---- the host ------------------------------------------------------------------------------------------------- */

typedef struct sim_host {
    sim_memory memory;
    sim_random random;
    uint64_t now_ms;
    int64_t clock_step_ms; /* added at every look; may be negative */
    uint64_t random_calls;
    uint64_t random_fail_at; /* from 1; 0: none */
} sim_host;

static inline void *sim_host_allocate(void *ctx, void *old, size_t old_size, size_t new_size)
{
    return sim_allocate(&((sim_host *)ctx)->memory, old, old_size, new_size);
}

static inline int sim_host_random(void *ctx, void *buffer, size_t size)
{
    sim_host *host = (sim_host *)ctx;
    uint8_t *at = (uint8_t *)buffer;
    if (++host->random_calls == host->random_fail_at) return PAGENT_E_STORAGE;
    while (size-- != 0) *at++ = (uint8_t)(sim_next(&host->random) >> 24);
    return 0;
}

static inline uint64_t sim_host_clock(void *ctx)
{
    sim_host *host = (sim_host *)ctx;
    host->now_ms = (uint64_t)((int64_t)host->now_ms + host->clock_step_ms);
    return host->now_ms;
}

static inline void sim_init_host(sim_host *host, uint64_t seed)
{
    sim_release(&host->memory);
    memset(host, 0, sizeof *host);
    host->random.state = seed;
    host->now_ms = UINT64_C(1800000000000);
}

static inline pagent_host sim_host_of(sim_host *host)
{
    pagent_host made;
    memset(&made, 0, sizeof made);
    made.size = (uint32_t)sizeof made;
    made.ctx = host;
    made.allocate = sim_host_allocate;
    made.random = sim_host_random;
    made.clock_ms = sim_host_clock;
    return made;
}

#endif /* SIM_H */
