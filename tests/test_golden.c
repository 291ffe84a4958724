/* test_golden.c: journals written by this library are the ones in tests/golden, byte for byte, on every machine; and
   what stands there is still read. `--write-golden` writes them anew: do that only when the format changes on
   purpose. */
#define TEST_OPTION "--write-golden"
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include "world.h"

static const struct golden {
    uint32_t kind;
    play what;
} goldens[] = {{WORLD_SHARED, {"steps", {"F1A2T0"}, 2, NULL}},
               {WORLD_SHARED, {"agents", {"F0SbW0", "W0P0Sa", "E0K0"}, 0, NULL}},
               {WORLD_PER_AGENT, {"own_logs", {"H0L0", "A1F9"}, 1, NULL}}};
enum {
    GOLDENS = sizeof goldens / sizeof goldens[0]
};

static const char *const type_names[] = {"?",        "LOG",      "CLAIM", "CREATE",    "COMMIT",
                                         "ROLLBACK", "SNAPSHOT", "MOVED", "TOMBSTONE", "INDEX"};

static const char *section_name(uint32_t tag)
{
    static const char *const names[] = {"?",     "SUMMARY",   "STEP",          "EVENT", "CONTEXT",  "DELTA",
                                        "ENTRY", "EFFECT",    "EFFECT_CHANGE", "CLAIM", "IDENTITY", "MACHINE",
                                        "MAIL",  "MAIL_DONE", "RECEIPT",       "ERROR", "STATE",    "RUN",
                                        "PAD"};
    if (tag < sizeof names / sizeof names[0]) return names[tag];
    return tag == PAI_TAG_LOG ? "LOG" : tag == PAI_TAG_INDEX ? "INDEX" : tag == PAI_TAG_SEAL ? "SEAL" : "?";
}

/* ---- a growing text -------------------------------------------------------------------------------------------- */

static sim_bytes text;

static void add(const char *format, ...)
{
    char line[512];
    va_list list;
    int size;
    va_start(list, format);
    size = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (size < 0 || (size_t)size >= sizeof line) abort();
    sim_put(&text, text.size, line, (size_t)size);
}

static void add_hex(const uint8_t *bytes, size_t size)
{
    size_t at;
    for (at = 0; at < size; at++) add("%02x%s", bytes[at], at + 1 == size || at % 32 == 31 ? "\n" : "");
}

/* One block: what it is, its sections, its bytes. */
static void add_block(const uint8_t *bytes, uint64_t offset, const pai_block *block)
{
    uint8_t *plain = (uint8_t *)malloc(pai_padded(block->payload_size));
    pai_section section;
    uint32_t at = 0;
    if (plain == NULL) abort();
    memcpy(plain, bytes + 64, pai_padded(block->payload_size));
    if (block->flags & PAI_WHITE) {
        pai_whiten(plain, pai_padded(block->payload_size), block->stream, block->version);
    }
    add("# offset %llu: %s, stream %016llx, version %llu, epoch %llu%s%s, based %u, unproven %u\n",
        (unsigned long long)offset,
        block->type == PAI_SEAL ? "SEAL"
        : block->type < 10      ? type_names[block->type]
                                : "?",
        (unsigned long long)block->stream, (unsigned long long)block->version, (unsigned long long)block->epoch,
        block->flags & PAI_CARRIES_SNAPSHOT ? ", snapshot" : "", block->flags & PAI_WHITE ? ", white" : "",
        (unsigned)block->based, (unsigned)block->unproven);
    while (pai_next_section(plain, block->payload_size, &at, &section) == PAGENT_OK) {
        add("#   %s %u\n", section_name(section.tag), (unsigned)section.size);
    }
    free(plain);
    add_hex(bytes, pai_block_size(block));
}

static void add_file(const char *name, const sim_bytes *bytes)
{
    static pai_crc crc;
    pai_block block;
    size_t at = 0, end = bytes->size;
    pai_crc_init(&crc);
    while (end != 0 && bytes->data[end - 1] == 0) end--;
    add("\nfile %s %llu\n", name, (unsigned long long)bytes->size);
    while (at + 64 <= bytes->size && pai_decode_header(&crc, bytes->data + at, at, &block) == PAGENT_OK &&
           at + pai_block_size(&block) <= bytes->size) {
        add_block(bytes->data + at, at, &block);
        at += pai_block_size(&block);
    }
    if (at < end) add_hex(bytes->data + at, end - at); /* not a journal: a message, a receipt */
}

static int by_name(const void *left, const void *right)
{
    return strcmp(((const sim_name *)left)->text, ((const sim_name *)right)->text);
}

static void render(const play *what)
{
    uint32_t i;
    text.size = 0;
    add("# Play \"%s\" (tests/world.h). Written by tests/test_golden --write-golden; compared byte for byte.\n",
        what->name);
    add("# `file NAME SIZE`, then its bytes in hex; what is missing up to SIZE is zero. Lines with # say what stands "
        "there.\n");
    for (i = 0; i < w.agent_count; i++) add("# agent %c: %s\n", (char)('a' + (int)i), what->programs[i]);
    qsort(w.disk.durable.items, w.disk.durable.count, sizeof(sim_name), by_name);
    for (i = 0; i < w.disk.durable.count; i++) {
        add_file(w.disk.durable.items[i].text, &w.disk.files[w.disk.durable.items[i].file].durable);
    }
}

/* ---- files of this repository ------------------------------------------------------------------------------------ */

static void golden_path(char *path, size_t size, const char *name)
{
    const char *here = __FILE__, *slash = strrchr(here, '/');
    snprintf(path, size, "%.*s/golden/%s.txt", slash != NULL ? (int)(slash - here) : 1, slash != NULL ? here : ".",
             name);
}

static int read_golden(const char *name, sim_bytes *bytes)
{
    char path[512], piece[4096];
    size_t got;
    FILE *file;
    golden_path(path, sizeof path, name);
    file = fopen(path, "rb");
    bytes->size = 0;
    if (file == NULL) {
        FAIL("cannot read %s", path);
        return 0;
    }
    while ((got = fread(piece, 1, sizeof piece, file)) != 0) sim_put(bytes, bytes->size, piece, got);
    fclose(file);
    return 1;
}

static void write_golden(const char *name)
{
    char path[512];
    FILE *file;
    golden_path(path, sizeof path, name);
    file = fopen(path, "wb");
    if (file == NULL || fwrite(text.data, 1, text.size, file) != text.size || fclose(file) != 0) {
        FAIL("cannot write %s", path);
    }
}

/* Makes the directory that a golden text describes. */
static void load_golden(const sim_bytes *golden)
{
    const char *at = (const char *)golden->data, *end = at + golden->size;
    sim_bytes *bytes = NULL;
    size_t filled = 0;
    while (at < end) {
        const char *stop = (const char *)memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) stop = end;
        if (strncmp(at, "file ", 5) == 0) {
            sim_change change;
            unsigned long long size = 0;
            memset(&change, 0, sizeof change);
            if (!CHECK(sscanf(at, "file %150s %llu", change.to, &size) == 2)) return;
            w.disk.files = (sim_file *)sim_grow(w.disk.files, &w.disk.file_room, w.disk.file_count, sizeof(sim_file));
            memset(&w.disk.files[w.disk.file_count], 0, sizeof(sim_file));
            change.file = (int)w.disk.file_count++;
            sim_apply_change(&w.disk.now, &change);
            sim_apply_change(&w.disk.durable, &change);
            bytes = &w.disk.files[change.file].durable;
            sim_set_size(bytes, size);
            filled = 0;
        } else if (*at != '#' && bytes != NULL) {
            for (; at + 1 < stop && filled < bytes->size; at += 2, filled++) {
                char digits[3] = {at[0], at[1], 0};
                bytes->data[filled] = (uint8_t)strtoul(digits, NULL, 16);
            }
        }
        at = stop + 1;
    }
}

TEST(journals_are_the_same)
{
    sim_bytes golden;
    uint32_t i;
    memset(&golden, 0, sizeof golden);
    for (i = 0; i < GOLDENS; i++) {
        size_t at;
        if (!test_case(i)) continue;
        world_begin(goldens[i].kind, &goldens[i].what, 1);
        CHECK_EQ(world_live(UINT64_MAX), PAGENT_OK);
        sim_power_cut(&w.disk, SIM_KEEP, 1);
        render(&goldens[i].what);
        if (test.option) write_golden(goldens[i].what.name);
        if (read_golden(goldens[i].what.name, &golden)) {
            uint32_t line = 1;
            for (at = 0; at < text.size && at < golden.size && text.data[at] == golden.data[at]; at++) {
                line += text.data[at] == '\n';
            }
            if (at != text.size || at != golden.size) {
                FAIL("tests/golden/%s.txt differs in line %u", goldens[i].what.name, (unsigned)line);
            }
        }
        world_end();
    }
    free(golden.data);
    free(text.data);
    memset(&text, 0, sizeof text);
}

/* The directory that the text describes opens, is whole, and holds what the play leaves; agents go on in it. */
TEST(journals_are_read)
{
    sim_bytes golden;
    uint32_t i, k;
    memset(&golden, 0, sizeof golden);
    for (i = 0; i < GOLDENS; i++) {
        if (!test_case(i) || !read_golden(goldens[i].what.name, &golden)) continue;
        world_begin(goldens[i].kind, &goldens[i].what, 99); /* another seed: nothing in it is known */
        load_golden(&golden);
        for (k = 0; k < w.disk.file_count; k++) sim_copy_bytes(&w.disk.files[k].now, &w.disk.files[k].durable);
        for (k = 0; k < w.ask_count; k++) w.asks[k].receipt.result = PAGENT_OK; /* it was all done */
        world_check();
        for (k = 0; k < w.ask_count; k++)
            w.asks[k].phase = ASK_NEW; /* asked again: it is known, or the agent has ended */
        CHECK_EQ(world_live(UINT64_MAX), PAGENT_OK);
        for (k = 0; k < w.ask_count; k++) {
            int result = w.asks[k].receipt.result;
            CHECK(result == PAGENT_DUPLICATE || result == PAGENT_E_EXISTS || result == PAGENT_E_FINISHED);
            w.asks[k].receipt.result = PAGENT_OK;
        }
        world_check();
        world_end();
    }
    free(golden.data);
}

TEST_MAIN(ROW(journals_are_the_same), ROW(journals_are_read))
