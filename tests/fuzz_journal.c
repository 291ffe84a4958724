/* fuzz_journal.c: hostile journals. The input becomes payloads of blocks whose checksums and chain are made right, so
   that
   what lies behind them is reached: sections that do not fit, lengths that overflow, effects that were never issued,
   deltas beyond the context, runs that point nowhere. Nothing may crash, hang, leak or take more memory than the limits
   allow. Built for libFuzzer by `./build.sh fuzz`; with FUZZ_REPLAY it is a program that runs the files it is given. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#define PAGENT_NO_FILE
#include "../persistent_agent.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *allocate(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx, (void)old_size;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    return new_size > (64u << 20) ? NULL : realloc(old, new_size);
}

static int randomly(void *ctx, void *buffer, size_t size)
{
    (void)ctx;
    memset(buffer, 0x5A, size);
    return 0;
}

static uint64_t clock_ms(void *ctx)
{
    (void)ctx;
    return 1000000;
}

/* Cuts the input into blocks: a byte for the type, a byte for flags, two for the size, then the payload. */
static size_t make_blocks(const pai_crc *crc, const uint8_t *data, size_t size, uint8_t *blocks, size_t room)
{
    size_t at = 0, made = 0;
    uint64_t version = 1, link = 0;
    while (size - at >= 4) {
        static const uint8_t types[] = {PAI_CREATE, PAI_COMMIT, PAI_SNAPSHOT, PAI_ROLLBACK, PAI_CLAIM, PAI_MOVED, 11};
        pai_block header;
        uint32_t payload = (uint32_t)(data[at + 2] | data[at + 3] << 8);
        memset(&header, 0, sizeof header);
        header.type = types[data[at] % sizeof types];
        header.flags = data[at + 1] & PAI_CARRIES_SNAPSHOT;
        at += 4;
        if (payload > size - at) payload = (uint32_t)(size - at);
        if (payload < 8 || made + PAI_HEADER + payload + 256 > room) break;
        header.stream = 7;
        header.version = version++;
        header.epoch = 1;
        header.previous = link;
        memcpy(blocks + made + PAI_HEADER, data + at, payload);
        at += payload;
        if (payload >= PAI_SECTION + PAI_SUMMARY_SIZE) pai_finish_block(crc, blocks + made, &header, &payload);
        else break;
        link = pai_link(crc, blocks + made);
        made += PAI_HEADER + pai_padded(payload);
    }
    return made;
}

static void look_at(pagent_engine *engine, const char *agent, uint64_t version)
{
    pagent_view *view = NULL;
    pagent_info info;
    pagent_block_info block;
    pagent_effect effect;
    pagent_entry entry;
    uint32_t i;
    if (pagent_open_view(engine, agent, version, &view) != PAGENT_OK) return;
    do {
        if (pagent_view_info(view, &info) != PAGENT_OK) break;
        (void)pagent_view_block(view, &block);
        for (i = 0; i < info.effect_count; i++) (void)pagent_view_effect(view, i, &effect);
        for (i = 0; i < info.transcript_count; i++) (void)pagent_view_entry(view, i, &entry);
    } while (pagent_view_next(view) == PAGENT_OK);
    pagent_close_view(view);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t blocks[1 << 17];
    static pai_crc crc;
    pagent_config config;
    pagent_memory *memory = NULL;
    pagent_engine *engine = NULL;
    pagent_request request;
    pagent_receipt receipt;
    size_t made;
    pai_crc_init(&crc);
    (void)pagent_decode_request(data, (uint32_t)size, &request);
    (void)pagent_decode_receipt(data, (uint32_t)size, &receipt);
    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.host.size = sizeof config.host;
    config.host.allocate = allocate;
    config.host.random = randomly;
    config.host.clock_ms = clock_ms;
    if (pagent_open_memory(&memory, &config.host) != PAGENT_OK) return 0;
    config.store = pagent_memory_store(memory);
    if (pagent_open_engine(&engine, &config, NULL) == PAGENT_OK) {
        made = make_blocks(&crc, data, size, blocks, sizeof blocks);
        if (made != 0) {
            (void)pagent_import_blocks(engine, blocks, made, NULL);
            if (pagent_import_blocks(engine, blocks, made, "fork") == PAGENT_OK) look_at(engine, "fork", PAGENT_OLDEST);
        }
        (void)pagent_import_blocks(engine, data, size, "raw");
        (void)pagent_poll(engine);
        (void)pagent_close_engine(engine);
    }
    pagent_close_memory(memory);
    return 0;
}

#ifdef FUZZ_REPLAY
int main(int count, char **files)
{
    int i;
    for (i = 1; i < count; i++) {
        static uint8_t data[1 << 20];
        FILE *file = fopen(files[i], "rb");
        size_t size;
        if (file == NULL) return 1;
        size = fread(data, 1, sizeof data, file);
        (void)fclose(file);
        (void)LLVMFuzzerTestOneInput(data, size);
    }
    return 0;
}
#endif
