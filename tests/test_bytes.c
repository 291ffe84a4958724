/* test_bytes.c: checksums, headers, whitening, sections: the bytes below every block. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../persistent_agent.h"

#include "guard.h"
#include "sim.h"

static pai_crc fast, slow; /* the processor's instruction where there is one; tables */

static void checksums_begin(void)
{
    uint32_t i, k;
    pai_crc_init(&fast);
    slow.hardware = 0;
    for (i = 0; i < 256; i++) { /* an independent table, bit by bit */
        uint32_t c = i;
        for (k = 0; k < 8; k++) c = (c & 1u) != 0 ? c >> 1 ^ UINT32_C(0x82F63B78) : c >> 1;
        slow.table[0][i] = c;
    }
    for (i = 0; i < 256; i++) {
        for (k = 1; k < 8; k++)
            slow.table[k][i] = slow.table[k - 1][i] >> 8 ^ slow.table[0][slow.table[k - 1][i] & 255u];
    }
}

static uint32_t crc_by_bits(const uint8_t *p, size_t size)
{
    uint32_t c = UINT32_MAX;
    int k;
    while (size-- != 0) {
        c ^= *p++;
        for (k = 0; k < 8; k++) c = (c & 1u) != 0 ? c >> 1 ^ UINT32_C(0x82F63B78) : c >> 1;
    }
    return ~c;
}

/* Check values of RFC 3720 (iSCSI), appendix B.4, and the usual "123456789". */
TEST(crc_known_answers)
{
    uint8_t bytes[32];
    int i;
    checksums_begin();
    CHECK_EQ(pai_crc32c(&fast, 0, "123456789", 9), UINT32_C(0xE3069283));
    CHECK_EQ(pai_crc32c(&slow, 0, "123456789", 9), UINT32_C(0xE3069283));
    memset(bytes, 0, 32);
    CHECK_EQ(pai_crc32c(&fast, 0, bytes, 32), UINT32_C(0x8A9136AA));
    CHECK_EQ(pai_crc32c(&slow, 0, bytes, 32), UINT32_C(0x8A9136AA));
    memset(bytes, 0xFF, 32);
    CHECK_EQ(pai_crc32c(&fast, 0, bytes, 32), UINT32_C(0x62A8AB43));
    CHECK_EQ(pai_crc32c(&slow, 0, bytes, 32), UINT32_C(0x62A8AB43));
    for (i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    CHECK_EQ(pai_crc32c(&fast, 0, bytes, 32), UINT32_C(0x46DD794E));
    CHECK_EQ(pai_crc32c(&slow, 0, bytes, 32), UINT32_C(0x46DD794E));
    for (i = 0; i < 32; i++) bytes[i] = (uint8_t)(31 - i);
    CHECK_EQ(pai_crc32c(&fast, 0, bytes, 32), UINT32_C(0x113FDB5C));
    CHECK_EQ(pai_crc32c(&slow, 0, bytes, 32), UINT32_C(0x113FDB5C));
    CHECK_EQ(pai_crc32c(&fast, 0, bytes, 0), 0);
}

/* Instruction, tables and bits agree at every length, alignment and split; nothing is read past the end. */
TEST(crc_agrees)
{
    uint8_t *end = guard_end();
    sim_random random;
    size_t size, i;
    checksums_begin();
    random.state = test.seed;
    for (i = 1; i <= 1024; i++) end[-(ptrdiff_t)i] = (uint8_t)sim_next(&random);
    for (size = 0; size <= 700; size++) {
        const uint8_t *at = end - size;
        uint32_t want = crc_by_bits(at, size), split;
        if (!test_case(size)) continue;
        CHECK_EQ(pai_crc32c(&fast, 0, at, size), want);
        CHECK_EQ(pai_crc32c(&slow, 0, at, size), want);
        split = (uint32_t)sim_below(&random, size + 1);
        CHECK_EQ(pai_crc32c(&fast, pai_crc32c(&fast, 0, at, split), at + split, size - split), want);
        CHECK_EQ(pai_crc32c(&slow, pai_crc32c(&slow, 0, at, split), at + split, size - split), want);
    }
}

#ifdef PAGENT_PORTABLE_CRC
/* The library's own tables, which it builds only where the processor has no instruction for them. */
TEST(crc_tables)
{
    checksums_begin();
    CHECK(!fast.hardware);
    CHECK(memcmp(fast.table, slow.table, sizeof fast.table) == 0);
}
#define PORTABLE_ROWS ROW(crc_tables),
#else
#define PORTABLE_ROWS /* test_bytes_portable.c has them */
#endif

static void example_header(pai_block *block)
{
    memset(block, 0, sizeof *block);
    block->log = UINT64_C(0x1122334455667788);
    block->stream = UINT64_C(0x99AABBCCDDEEFF01);
    block->version = 7;
    block->epoch = 3;
    block->previous = UINT64_C(0xFEDCBA9876543210);
    block->payload_size = 100;
    block->payload_crc = UINT32_C(0xCAFEF00D);
    block->type = PAI_COMMIT;
    block->flags = PAI_CARRIES_SNAPSHOT;
    block->based = 513;
    block->unproven = 9;
}

/* The 64 bytes of the format's table, spelled out. */
TEST(header_layout)
{
    static const uint8_t want[64] = {0xE5, 0xA9, 0xD1, 0xB7, 0,    0,    0,    0,    0x88, 0x77, 0x66, 0x55, 0x44,
                                     0x33, 0x22, 0x11, 0x01, 0xFF, 0xEE, 0xDD, 0xCC, 0xBB, 0xAA, 0x99, 7,    0,
                                     0,    0,    0,    0,    0,    0,    3,    0,    0,    0,    0,    0,    0,
                                     0,    0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE, 100,  0,    0,    0,
                                     0x0D, 0xF0, 0xFE, 0xCA, 4,    1,    1,    2,    9,    0,    0,    0};
    uint8_t bytes[64], seeded[64];
    pai_block block, back;
    checksums_begin();
    example_header(&block);
    pai_encode_header(&fast, bytes, &block, 4096);
    CHECK(memcmp(bytes, want, 4) == 0);
    CHECK(memcmp(bytes + 8, want + 8, 56) == 0);
    memcpy(seeded, bytes + 8, 56);
    memset(seeded + 56, 0, 8);
    seeded[57] = 0x10; /* offset 4096, little-endian */
    CHECK_EQ(pai_get32(bytes + 4), crc_by_bits(seeded, 64));
    CHECK_EQ(pai_decode_header(&fast, bytes, 4096, &back), PAGENT_OK);
    CHECK(back.log == block.log && back.stream == block.stream && back.version == 7 && back.epoch == 3);
    CHECK(back.previous == block.previous && back.payload_size == 100 && back.payload_crc == block.payload_crc);
    CHECK(back.type == PAI_COMMIT && back.flags == PAI_CARRIES_SNAPSHOT && back.based == 513 && back.unproven == 9);
    CHECK_EQ(pai_block_size(&back), 192);
}

/* Every bit of a header, and its place, matter. */
TEST(header_bits)
{
    uint8_t bytes[64];
    pai_block block, back;
    uint32_t bit, other;
    uint64_t offset;
    checksums_begin();
    example_header(&block);
    pai_encode_header(&fast, bytes, &block, 4096);
    for (bit = 0; bit < 512; bit++) {
        if (!test_case(bit)) continue;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(pai_decode_header(&fast, bytes, 4096, &back), PAGENT_E_CORRUPT);
        for (other = 0; other < bit; other++) { /* all pairs */
            bytes[other / 8] ^= (uint8_t)(1u << other % 8);
            if (pai_decode_header(&fast, bytes, 4096, &back) == PAGENT_OK) FAIL("bits %u and %u", bit, other);
            bytes[other / 8] ^= (uint8_t)(1u << other % 8);
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (offset = 0; offset < 65536; offset += 64) {
        int want = offset == 4096 ? PAGENT_OK : PAGENT_E_CORRUPT;
        CHECK_EQ(pai_decode_header(&fast, bytes, offset, &back), want);
    }
}

/* Sizes and versions that no writer makes are refused although their checksum is right. */
TEST(header_limits)
{
    static const struct {
        uint32_t size;
        uint64_t version;
        int want;
    } rows[] = {{0, 1, PAGENT_E_CORRUPT},
                {1, 1, PAGENT_OK},
                {PAI_PAYLOAD_MAX, 1, PAGENT_OK},
                {PAI_PAYLOAD_MAX + 1, 1, PAGENT_E_CORRUPT},
                {UINT32_MAX, 1, PAGENT_E_CORRUPT},
                {UINT32_MAX - 62, 1, PAGENT_E_CORRUPT},
                {1, (UINT64_C(1) << 53) - 1, PAGENT_OK},
                {1, UINT64_C(1) << 53, PAGENT_E_CORRUPT},
                {1, UINT64_MAX, PAGENT_E_CORRUPT}};
    uint8_t bytes[64];
    pai_block block, back;
    uint32_t i;
    checksums_begin();
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!test_case(i)) continue;
        example_header(&block);
        block.payload_size = rows[i].size;
        block.version = rows[i].version;
        pai_encode_header(&fast, bytes, &block, 0);
        CHECK_EQ(pai_decode_header(&fast, bytes, 0, &back), rows[i].want);
    }
}

static uint32_t make_block(uint8_t *at, pai_block *block, uint32_t size, int fill, uint64_t seed)
{
    pagent_summary summary;
    sim_random random;
    uint32_t used = PAI_SECTION + PAI_SUMMARY_SIZE, i;
    memset(&summary, 0, sizeof summary);
    summary.due_ms = 12345;
    summary.state = 2;
    summary.status = PAGENT_WAITING;
    summary.flags = PAGENT_HAS_TIMERS;
    random.state = seed;
    pai_put_section(at + 64, PAI_TAG_SUMMARY, PAI_TAG_CRITICAL, PAI_SUMMARY_SIZE);
    pai_put_summary(at + 64 + PAI_SECTION, &summary);
    pai_put_section(at + 64 + used, PAI_TAG_ENTRY, PAI_TAG_CRITICAL, size);
    used += PAI_SECTION;
    for (i = 0; i < ((size + 7u) & ~7u); i++) at[64 + used + i] = i < size && fill < 0 ? (uint8_t)sim_next(&random) : 0;
    if (fill > 0) memset(at + 64 + used, fill, size);
    used += (size + 7u) & ~7u;
    pai_finish_block(&fast, at, block, &used);
    return used;
}

/* Whatever the payload, no stored line is all zero, and unwhitening gives the sections back. */
TEST(blocks_have_no_zero_line)
{
    static uint8_t bytes[8192], plain[8192];
    uint32_t size, fill;
    checksums_begin();
    for (size = 0; size <= 2000; size += size < 300 ? 1 : 61) {
        for (fill = 0; fill < 3; fill++) {
            pai_block block, back;
            pai_section section;
            pagent_summary summary;
            uint32_t used, at = 0, entries = 0;
            if (!test_case(size * 3 + fill)) continue;
            example_header(&block);
            block.version = size + 1;
            used = make_block(bytes, &block, size, fill == 0 ? 0 : fill == 1 ? 0xFF : -1, size);
            CHECK_EQ(pai_decode_header(&fast, bytes, 0, &back), PAGENT_OK);
            CHECK_EQ(pai_check_payload(&fast, bytes, &back), PAGENT_OK);
            CHECK_EQ(back.payload_size, used);
            CHECK(!pai_has_zero_line(bytes, pai_block_size(&back)));
            CHECK((back.flags & PAI_WHITE) == 0 || fill == 0);
            CHECK_EQ(pai_block_summary(bytes, &back, &summary), PAGENT_OK);
            CHECK(summary.due_ms == 12345 && summary.state == 2 && summary.flags == PAGENT_HAS_TIMERS);
            memcpy(plain, bytes + 64, pai_padded(used));
            if (back.flags & PAI_WHITE) pai_whiten(plain, pai_padded(used), back.stream, back.version);
            while (pai_next_section(plain, used, &at, &section) == PAGENT_OK) {
                if (section.tag != PAI_TAG_ENTRY) continue;
                entries++;
                CHECK_EQ(section.size, size);
                if (fill != 2 && size != 0) CHECK_EQ(section.data[size - 1], fill == 0 ? 0 : 0xFF);
            }
            CHECK_EQ(at, used);
            CHECK_EQ(entries, 1);
        }
    }
}

/* A payload that whitening itself would turn into a zero line: its bytes are the whitening stream. A PAD section
   moves it. */
TEST(blocks_resist_whitening)
{
    static uint8_t bytes[1024], plain[1024];
    uint32_t line;
    checksums_begin();
    for (line = 1; line <= 4; line++) {
        pai_block block, back;
        pai_section section;
        pagent_summary summary;
        uint32_t used = PAI_SECTION + PAI_SUMMARY_SIZE, size = 448, at = 0, pads = 0;
        uint8_t stream[640];
        if (!test_case(line)) continue;
        memset(&summary, 0, sizeof summary);
        memset(stream, 0, sizeof stream);
        example_header(&block);
        pai_whiten(stream, sizeof stream, block.stream, block.version); /* the stream itself: zero XOR stream */
        pai_put_section(bytes + 64, PAI_TAG_SUMMARY, PAI_TAG_CRITICAL, PAI_SUMMARY_SIZE);
        pai_put_summary(bytes + 64 + PAI_SECTION, &summary);
        pai_put_section(bytes + 64 + used, PAI_TAG_ENTRY, PAI_TAG_CRITICAL, size);
        used += PAI_SECTION;
        memset(bytes + 64 + used, 0, size);                     /* zero lines, so that it must be whitened … */
        memcpy(bytes + 64 + line * 64, stream + line * 64, 64); /* … and one line that whitening clears */
        used += size;
        pai_finish_block(&fast, bytes, &block, &used);
        CHECK_EQ(pai_decode_header(&fast, bytes, 0, &back), PAGENT_OK);
        CHECK((back.flags & PAI_WHITE) != 0);
        CHECK(!pai_has_zero_line(bytes, pai_block_size(&back)));
        memcpy(plain, bytes + 64, pai_padded(used));
        pai_whiten(plain, pai_padded(used), back.stream, back.version);
        while (pai_next_section(plain, used, &at, &section) == PAGENT_OK) pads += section.tag == PAI_TAG_PAD;
        CHECK_EQ(at, used);
        CHECK_EQ(pads, 1);
    }
}

/* One, two and many flipped bits, and bursts, of a whole block are always noticed. */
TEST(block_damage)
{
    static uint8_t bytes[1024], hurt[1024];
    pai_block block, back;
    sim_random random;
    uint32_t size, bit;
    uint64_t i, rounds = test_effort(200000);
    checksums_begin();
    example_header(&block);
    size = 64 + pai_padded(make_block(bytes, &block, 500, -1, 9));
    random.state = test.seed;
    for (bit = 0; bit < size * 8; bit++) {
        if (!test_case(bit)) continue;
        memcpy(hurt, bytes, size);
        hurt[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(pai_decode_header(&fast, hurt, 0, &back) != PAGENT_OK ||
              pai_check_payload(&fast, hurt, &back) != PAGENT_OK);
    }
    for (i = 0; i < rounds; i++) {
        uint32_t flips = 2 + (uint32_t)sim_below(&random, 5), k;
        if (test.only == TEST_ANY_CASE || test.only == 100000 + i) memcpy(hurt, bytes, size);
        if (sim_coin(&random)) { /* a burst of at most 32 bits */
            uint64_t burst = sim_next(&random) | 1u, from = sim_below(&random, size * 8 - 32);
            for (k = 0; k < 32; k++) hurt[(from + k) / 8] ^= (uint8_t)((burst >> k & 1u) << (from + k) % 8);
        } else {
            uint32_t at[8];
            for (k = 0; k < flips; k++) at[k] = (uint32_t)sim_below(&random, size * 8);
            for (k = 0; k < flips; k++) hurt[at[k] / 8] ^= (uint8_t)(1u << at[k] % 8);
        }
        if (!test_case(100000 + i) || memcmp(hurt, bytes, size) == 0) continue;
        CHECK(pai_decode_header(&fast, hurt, 0, &back) != PAGENT_OK ||
              pai_check_payload(&fast, hurt, &back) != PAGENT_OK);
    }
}

/* A section never reaches past the payload, whatever its size field says; the payload ends at an inaccessible page. */
TEST(sections_stay_inside)
{
    uint8_t *end = guard_end();
    uint32_t size, claim;
    sim_random random;
    uint64_t i;
    random.state = test.seed;
    for (size = 0; size <= 40; size++) {
        for (claim = 0; claim < 48; claim++) {
            uint8_t *payload = end - size;
            pai_section section;
            uint32_t at = 0;
            int result;
            if (!test_case(size * 64 + claim)) continue;
            if (size != 0) memset(payload, 0, size);
            if (size >= 8) pai_put_section(payload, PAI_TAG_ENTRY, 0, claim < 40 ? claim : UINT32_MAX - (claim - 40));
            result = pai_next_section(payload, size, &at, &section);
            if (size == 0) CHECK_EQ(result, PAGENT_END);
            else if (size < 8 || claim >= 40 || ((claim + 7u) & ~7u) > size - 8) CHECK_EQ(result, PAGENT_E_CORRUPT);
            else if (CHECK_EQ(result, PAGENT_OK)) CHECK(at <= size && section.data + section.size <= end);
        }
    }
    for (i = 0; i < test_effort(100000); i++) { /* random sections: walking them ends and stays inside */
        uint32_t at = 0, steps = 0, k, bytes = (uint32_t)sim_below(&random, 200);
        uint8_t *payload = end - bytes;
        pai_section section;
        for (k = 0; k < bytes; k++) payload[k] = (uint8_t)(sim_next(&random) & sim_next(&random) & sim_next(&random));
        if (!test_case(10000 + i)) continue;
        while (pai_next_section(payload, bytes, &at, &section) == PAGENT_OK) {
            if (!CHECK(section.data + section.size <= end) || !CHECK(++steps <= 26)) break;
        }
    }
}

/* The summary of a block with any bytes in its first line: an answer or an error, never a read outside. */
TEST(summary_of_anything)
{
    uint8_t *block = guard_end() - 128;
    sim_random random;
    uint64_t i;
    random.state = test.seed;
    for (i = 0; i < test_effort(100000); i++) {
        pagent_summary summary;
        pai_block header;
        uint32_t k;
        for (k = 0; k < 128; k++) block[k] = (uint8_t)(sim_next(&random) & sim_next(&random));
        if (sim_coin(&random)) pai_put_section(block + 64, PAI_TAG_SUMMARY, 0, (uint32_t)sim_below(&random, 80));
        if (!test_case(i)) continue;
        example_header(&header);
        header.payload_size = (uint32_t)sim_below(&random, 64) + 1;
        header.flags = sim_coin(&random) ? PAI_WHITE : 0;
        (void)pai_block_summary(block, &header, &summary);
    }
}

/* What links blocks covers every canonical byte and none of the container's. */
TEST(link_covers)
{
    uint8_t bytes[64], hurt[64];
    pai_block block;
    uint32_t i;
    uint64_t want;
    checksums_begin();
    example_header(&block);
    pai_encode_header(&fast, bytes, &block, 0);
    want = pai_link(&fast, bytes);
    for (i = 0; i < 64; i++) {
        if (!test_case(i)) continue;
        memcpy(hurt, bytes, 64);
        hurt[i] ^= 0x10;
        CHECK((pai_link(&fast, hurt) == want) == (i < 16 || i >= 60));
    }
    pai_place_block(&fast, bytes, 5, 8192, 77);
    CHECK(pai_link(&fast, bytes) == want);
    CHECK_EQ(pai_decode_header(&fast, bytes, 8192, &block), PAGENT_OK);
    CHECK(block.log == 5 && block.unproven == 77);
}

TEST(numbers_and_texts)
{
    uint8_t bytes[8];
    char text[24];
    pai_text build;
    pai_put64(bytes, UINT64_C(0x0102030405060708));
    CHECK(bytes[0] == 8 && bytes[7] == 1);
    CHECK(pai_get64(bytes) == UINT64_C(0x0102030405060708));
    CHECK_EQ(pai_get32(bytes), 0x05060708);
    CHECK_EQ(pai_get16(bytes), 0x0708);
    pai_hex64(text, UINT64_C(0xFEDCBA9876543210));
    CHECK_TEXT(text, "fedcba9876543210");
    build = pai_text_begin(text, 8);
    pai_text_number(&build, 0);
    pai_text_add(&build, "-");
    pai_text_number(&build, UINT64_MAX);
    CHECK_TEXT(text, "0-18446");
    CHECK(pai_hash_text("a") != pai_hash_text("b") && pai_hash_text("") != 0);
    CHECK(pai_same_text("ab", "ab") && !pai_same_text("ab", "abc") && !pai_same_text(NULL, "a"));
}

TEST(buffers_grow)
{
    sim_host host;
    pai_heap heap;
    pai_buffer buffer;
    uint32_t i, fail;
    memset(&host, 0, sizeof host);
    sim_init_host(&host, test.seed);
    heap.allocate = sim_host_allocate;
    heap.ctx = &host;
    for (fail = 0; fail < 8; fail++) {
        if (!test_case(fail)) continue;
        memset(&buffer, 0, sizeof buffer);
        host.memory.calls = 0;
        host.memory.fail_at = fail;
        for (i = 0; i < 1000; i++) {
            size_t before = buffer.size;
            uint8_t bytes[4];
            int result;
            pai_put32(bytes, i);
            result = pai_append_bytes(&heap, &buffer, bytes, sizeof bytes);
            if (result != PAGENT_OK) {
                CHECK_EQ(result, PAGENT_E_MEMORY);
                CHECK_EQ(buffer.size, before);
                i--; /* once only: trying again works */
            }
        }
        CHECK_EQ(buffer.size, 4000);
        for (i = 0; i < 1000; i++) CHECK_EQ(pai_get32(buffer.data + 4 * i), i);
        CHECK(host.memory.calls < 40);
        pai_free_buffer(&heap, &buffer);
        CHECK_EQ(host.memory.count, 0);
    }
}

/* The arena: what is freed comes back in one piece, what moves keeps its bytes, and nothing comes from elsewhere. */
TEST(arena)
{
    static uint64_t room[512];
    pagent_arena arena;
    uint8_t *a, *b, *c;
    void *all;
    uint32_t i;
    pagent_init_arena(&arena, room, sizeof room);
    a = (uint8_t *)pagent_arena_allocate(&arena, NULL, 0, 100);
    b = (uint8_t *)pagent_arena_allocate(&arena, NULL, 0, 200);
    c = (uint8_t *)pagent_arena_allocate(&arena, NULL, 0, 300);
    if (!CHECK(a != NULL && b != NULL && c != NULL)) return;
    CHECK((uintptr_t)b % 8 == 0 && b >= a + 100 && c >= b + 200);
    for (i = 0; i < 100; i++) a[i] = (uint8_t)i;
    a = (uint8_t *)pagent_arena_allocate(&arena, a, 100, 1000); /* b stands in the way: it moves */
    if (!CHECK(a != NULL)) return;
    for (i = 0; i < 100; i++) CHECK_EQ(a[i], i);
    CHECK(pagent_arena_allocate(&arena, NULL, 0, sizeof room) == NULL);
    CHECK(pagent_arena_allocate(&arena, b, 200, 0) == NULL);
    CHECK(pagent_arena_allocate(&arena, a, 1000, 0) == NULL);
    CHECK(pagent_arena_allocate(&arena, c, 300, 0) == NULL);
    all = pagent_arena_allocate(&arena, NULL, 0, sizeof room - 256);
    CHECK(all != NULL && arena.used <= sizeof room);
}

TEST_MAIN(ROW(arena), ROW(crc_known_answers), ROW(crc_agrees), PORTABLE_ROWS ROW(header_layout), ROW(header_bits),
          ROW(header_limits), ROW(blocks_have_no_zero_line), ROW(blocks_resist_whitening), ROW(block_damage),
          ROW(sections_stay_inside), ROW(summary_of_anything), ROW(link_covers), ROW(numbers_and_texts),
          ROW(buffers_grow))
