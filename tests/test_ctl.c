/* pagentctl, run inside this program against stores that a small machine makes: what it prints, what it exits with,
   what it finds wrong, and that an agent really goes on where it was imported. */

int pagentctl_main(int argc, char **argv);
#define main pagentctl_main
#include "../examples/pagentctl.c"
#undef main

#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- the program whose stores are looked at ------------------------------------------------------------------- */

enum {
    IDLE,
    ASKING
};

static int remember(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    uint32_t size = 0;
    uint8_t *context = (uint8_t *)pagent_context(step, &size);
    (void)ctx;
    (void)tag;
    if (context != NULL && size != 0) context[0]++;
    return pagent_remember(step, 1, event->data.data, event->data.size);
}

static int ask(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)tag;
    return pagent_ask_approval(step, "sign", "pay 10\n\x1b[31m", 12, PAGENT_FOREVER, NULL);
}

static const pagent_state errand_states[] = {
    {"idle", NULL, NULL, NULL, NULL, NULL, 0, 0},
    {"asking", NULL, "sign", ask, NULL, NULL, 0, 0},
    {"signed", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0},
    {"refused", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL | PAGENT_FAILURE, 0},
};

static const pagent_transition errand_transitions[] = {
    {"idle", "start", NULL, remember, NULL, 0},
    {"idle", "note", NULL, remember, NULL, 0},
    {"idle", "ask", NULL, NULL, "asking", 0},
    {"asking", "sign.approved", NULL, NULL, "signed", 0},
    {"asking", "sign.rejected", NULL, NULL, "refused", 0},
    {"asking", "sign.expired", NULL, NULL, "refused", 0},
};

static const pagent_machine errand = {sizeof(pagent_machine),
                                      1,
                                      "errand",
                                      NULL,
                                      300,
                                      "note ask",
                                      NULL,
                                      "sign",
                                      NULL,
                                      0,
                                      PAGENT_ROWS(errand_states),
                                      PAGENT_ROWS(errand_transitions)};

static char folder[64]; /* of this run */

typedef struct owner {
    pagent_host host;
    pagent_dir dir;
    pagent_files *files;
    pagent_engine *engine;
} owner;

static const char *path_of(const char *name)
{
    static char paths[8][128];
    static int at;
    at = (at + 1) % 8;
    (void)snprintf(paths[at], sizeof paths[at], "%s/%s", folder, name);
    return paths[at];
}

static int open_owner(owner *o, const char *store, uint32_t log_per_agent)
{
    static const pagent_machine *const machines[] = {&errand};
    pagent_file_options options = {0};
    pagent_config config = {0};
    char text[PAGENT_TEXT_SIZE] = "";
    int result;
    memset(o, 0, sizeof *o);
    pagent_posix_host(&o->host);
    options.size = sizeof options;
    options.log_per_agent = log_per_agent;
    options.segment_size = 1 << 16;
    result = pagent_open_posix(&o->dir, path_of(store), 1, NULL);
    if (result == PAGENT_OK) result = pagent_open_files(&o->files, &o->dir, &o->host, &options, text);
    if (result == PAGENT_OK) {
        config.size = sizeof config;
        config.host = o->host;
        config.store = pagent_files_store(o->files);
        config.machines = machines;
        config.machine_count = 1;
        config.limits.size = sizeof config.limits;
        config.limits.full_snapshots = 1; /* so that old segments can be trimmed */
        config.limits.snapshot_floor = 8192;
        result = pagent_open_engine(&o->engine, &config, text);
    }
    if (result != PAGENT_OK) FAIL("cannot open %s: %d %s", store, result, text);
    return result == PAGENT_OK;
}

static void close_owner(owner *o)
{
    if (o->engine != NULL) (void)pagent_close_engine(o->engine);
    if (o->files != NULL) CHECK_EQ(pagent_close_files(o->files), PAGENT_OK);
    pagent_close_posix(&o->dir);
}

/* Until the receipt is written: every store here is synchronous, so a bounded number of polls will do. */
static int settle(owner *o, const pagent_receipt *receipt)
{
    int polls;
    for (polls = 0; receipt->result == PAGENT_PENDING && polls < 1000; polls++) {
        if (pagent_poll(o->engine) < 0) break;
    }
    if (receipt->result < 0) FAIL("refused: %s: %s", pagent_message(receipt->result), receipt->text);
    return receipt->result;
}

static int create(owner *o, const char *agent, const char *data)
{
    pagent_receipt receipt;
    receipt.result = PAGENT_PENDING;
    CHECK_EQ(pagent_create(o->engine, agent, "errand", data, (uint32_t)strlen(data), &receipt), PAGENT_OK);
    return settle(o, &receipt);
}

static int post(owner *o, const char *agent, const char *signal, const char *data)
{
    pagent_receipt receipt;
    receipt.result = PAGENT_PENDING;
    CHECK_EQ(pagent_post(o->engine, agent, signal, NULL, data, (uint32_t)strlen(data), &receipt), PAGENT_OK);
    return settle(o, &receipt);
}

static int approve(owner *o, const char *agent)
{
    pagent_effect_id any = {0, 0};
    pagent_receipt receipt;
    receipt.result = PAGENT_PENDING;
    CHECK_EQ(pagent_decide(o->engine, agent, &any, "erika", PAGENT_APPROVE, NULL, 0, PAGENT_ANY, &receipt), PAGENT_OK);
    return settle(o, &receipt);
}

static uint32_t status_in(owner *o, const char *agent)
{
    pagent_view *view = NULL;
    pagent_info info;
    uint32_t status = 0;
    if (pagent_open_view(o->engine, agent, 0, &view) == PAGENT_OK && pagent_view_info(view, &info) == PAGENT_OK)
        status = info.status;
    pagent_close_view(view);
    return status;
}

/* Three agents: alpha asks, alpine has taken notes, beta is new. */
static int make_store(const char *store, uint32_t log_per_agent)
{
    owner o;
    int good = open_owner(&o, store, log_per_agent);
    if (good) {
        CHECK_EQ(create(&o, "alpha", "hello \x01 world"), PAGENT_OK);
        CHECK_EQ(create(&o, "alpine", "\xff\xfe\x80"), PAGENT_OK);
        CHECK_EQ(create(&o, "beta", "a \"quoted\" back\\slash"), PAGENT_OK);
        CHECK_EQ(post(&o, "alpine", "note", "one"), PAGENT_OK);
        CHECK_EQ(post(&o, "alpha", "ask", ""), PAGENT_OK);
        CHECK_EQ(post(&o, "alpine", "note", "two"), PAGENT_OK);
    }
    close_owner(&o);
    return good;
}

/* ---- running it ----------------------------------------------------------------------------------------------- */

static char output_text[1 << 20], error_text[1 << 14];

static void slurp(const char *path, char *to, size_t room)
{
    FILE *file = fopen(path, "rb");
    size_t size = file != NULL ? fread(to, 1, room - 1, file) : 0;
    to[size] = 0;
    if (file != NULL) (void)fclose(file);
}

static int redirect(int descriptor, const char *path)
{
    int saved = dup(descriptor), file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    (void)dup2(file, descriptor);
    (void)close(file);
    return saved;
}

static void restore(int descriptor, int saved)
{
    (void)dup2(saved, descriptor);
    (void)close(saved);
}

/* pagentctl with these words, up to the first NULL. Its output is in output_text and error_text. */
static int ctl(const char *first, ...)
{
    char words[12][160];
    char *argv[14];
    const char *word = first;
    int argc = 1, out, err, status;
    va_list list;
    argv[0] = strcpy(words[0], "pagentctl");
    va_start(list, first);
    for (; word != NULL && argc < 12; word = va_arg(list, const char *)) {
        (void)snprintf(words[argc], sizeof words[argc], "%s", word);
        argv[argc] = words[argc];
        argc++;
    }
    va_end(list);
    argv[argc] = NULL;
    (void)fflush(stdout);
    out = redirect(1, path_of("out"));
    err = redirect(2, path_of("err"));
    status = pagentctl_main(argc, argv);
    (void)fflush(stdout);
    restore(1, out);
    restore(2, err);
    slurp(path_of("out"), output_text, sizeof output_text);
    slurp(path_of("err"), error_text, sizeof error_text);
    return status;
}

static int says(const char *text)
{
    if (strstr(output_text, text) != NULL) return 1;
    FAIL("the output lacks '%s':\n%.2000s%.500s", text, output_text, error_text);
    return 0;
}

static int complains(const char *text)
{
    if (strstr(error_text, text) != NULL) return 1;
    FAIL("the errors lack '%s': %.500s", text, error_text);
    return 0;
}

/* ---- JSON: is it any, and is it one object a line? ------------------------------------------------------------ */

static const char *skip_json_string(const char *p)
{
    if (*p++ != '"') return NULL;
    for (; *p != '"'; p++) {
        if ((unsigned char)*p < 0x20) return NULL;
        if (*p == '\\' && strchr("\"\\/bfnrtu", *++p) == NULL) return NULL;
    }
    return p + 1;
}

/* After a value comes ',' or the end of what is open. Enough to catch what a generator gets wrong. */
static const char *skip_json_object(const char *p)
{
    char open[32];
    int depth = 0, named = 0;
    for (;;) {
        if (*p == '{' || *p == '[') {
            if (depth == 31) return NULL;
            open[depth++] = *p++;
            named = 0;
            if (*p == '}' || *p == ']') goto close;
            if (open[depth - 1] == '[') continue;
        }
        if (open[depth - 1] == '{' && !named) {
            p = skip_json_string(p);
            if (p == NULL || *p++ != ':') return NULL;
            named = 1;
            continue;
        }
        if (*p == '"') p = skip_json_string(p);
        else p += strspn(p, "-0123456789truefalsn");
        if (p == NULL) return NULL;
    close:
        while (*p == '}' || *p == ']') {
            if (depth == 0 || open[--depth] != (*p == '}' ? '{' : '[')) return NULL;
            p++;
            if (depth == 0) return p;
        }
        if (*p++ != ',') return NULL;
        named = 0;
    }
}

/* Lines that are one JSON object each; -1 when one is not. */
static int json_lines(void)
{
    const char *p = output_text, *end;
    int lines = 0;
    for (; *p != 0; p = end + 1, lines++) {
        end = *p == '{' ? skip_json_object(p) : NULL;
        if (end == NULL || *end != '\n') {
            FAIL("line %d is not a JSON object: %.300s", lines + 1, p);
            return -1;
        }
    }
    return lines;
}

static int count_of(const char *text)
{
    const char *at = output_text;
    int count = 0;
    for (; (at = strstr(at, text)) != NULL; at++) count++;
    return count;
}

static void no_controls(void)
{
    const char *at;
    for (at = output_text; *at != 0; at++) {
        if ((unsigned char)*at < 0x20 && *at != '\n') {
            FAIL("byte %02x reaches the terminal", (unsigned)(unsigned char)*at);
            return;
        }
    }
}

/* ---- files ---------------------------------------------------------------------------------------------------- */

static uint8_t *load(const char *path, size_t *size)
{
    program p;
    memset(&p, 0, sizeof p);
    return read_file(&p, path, size);
}

static void save(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) FAIL("cannot write %s", path);
}

static void remove_tree(const char *path)
{
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0) FAIL("cannot remove %s", path);
}

static void copy_tree(const char *from, const char *to)
{
    char command[512];
    (void)snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s'", to, from, to);
    if (system(command) != 0) FAIL("cannot copy %s", from);
}

/* The newest segment of a shared log in a store, and where its last block that is not zero begins. */
static void newest_segment(const char *store, char path[160], uint8_t **bytes, size_t *size)
{
    int number;
    path[0] = 0;
    for (number = 1; number < 1000; number++) {
        char name[160];
        (void)snprintf(name, sizeof name, "%s/log.%08d", path_of(store), number);
        if (access(name, F_OK) != 0) break;
        (void)snprintf(path, 160, "%s", name);
    }
    *bytes = NULL;
    *size = 0;
    if (path[0] == 0) FAIL("%s has no segment", store);
    else *bytes = load(path, size);
}

typedef struct span {
    size_t offset, size;
    uint32_t type;
} span;

static size_t find_blocks(const uint8_t *bytes, size_t size, span *spans, size_t capacity)
{
    pai_crc crc;
    pai_block header;
    size_t at = 0, count = 0;
    pai_crc_init(&crc);
    while (at + PAI_HEADER <= size && count < capacity &&
           pai_decode_header(&crc, bytes + at, at, &header) == PAGENT_OK) {
        spans[count].offset = at;
        spans[count].size = pai_block_size(&header);
        spans[count].type = header.type;
        at += spans[count++].size;
    }
    return count;
}

/* ================================================================================================================ */

TEST(list)
{
    uint32_t mode;
    for (mode = 0; mode < 2; mode++) {
        if (!make_store("list", mode)) return;
        CHECK_EQ(ctl(path_of("list"), "list", NULL), 0);
        CHECK(says("AGENT") && says("3 agents"));
        CHECK(says("alpha   waiting") && says("asking") && says("approval sign"));
        CHECK(strstr(output_text, "alpha") < strstr(output_text, "alpine"));
        CHECK(strstr(output_text, "alpine") < strstr(output_text, "beta"));
        no_controls();
        CHECK_EQ(ctl("--json", path_of("list"), "list", NULL), 0);
        CHECK_EQ(json_lines(), 3);
        CHECK(says("\"agent\":\"alpha\"") && says("\"kind\":\"approval\"") && says("\"machine\":\"errand\""));
        CHECK(says("\"payload\":\"pay 10\\n\\u001b[31m\""));
        remove_tree(path_of("list"));
    }
}

TEST(show)
{
    char stream[20];
    if (!make_store("show", 0)) return;
    CHECK_EQ(ctl(path_of("show"), "show", "alpha", NULL), 0);
    CHECK(says("agent       alpha") && says("state       asking") && says("approval sign") &&
          says("\"hello \\x01 world\""));
    CHECK(says("\"pay 10\\n\\x1b[31m\"") && says("300 bytes") && says("... 44 more bytes"));
    no_controls();
    CHECK_EQ(ctl(path_of("show"), "show", "alpha", "--full", NULL), 0);
    CHECK_EQ(count_of("more bytes"), 0);
    CHECK_EQ(ctl(path_of("show"), "show", "alpine", NULL), 0);
    CHECK(says("ff fe 80 (3 bytes)") && says("transcript  3"));
    CHECK_EQ(ctl(path_of("show"), "show", "alpine", "--at", "1", "--json", NULL), 0);
    CHECK_EQ(json_lines(), 1);
    CHECK(says("\"transcript_count\":1,") && says("\"version\":1,") && says("\"data_base64\":\"//6A\""));
    /* every way to name an agent */
    CHECK_EQ(ctl(path_of("show"), "show", "be", NULL), 0);
    CHECK(says("agent       beta"));
    (void)snprintf(stream, sizeof stream, "%016" PRIx64, pagent_stream_of("beta"));
    CHECK_EQ(ctl(path_of("show"), "show", stream, NULL), 0);
    CHECK(says("agent       beta"));
    CHECK_EQ(ctl(path_of("show"), "show", "alp", NULL), 1);
    CHECK(complains("2 names: alpha, alpine"));
    CHECK_EQ(ctl(path_of("show"), "show", "gamma", NULL), 1);
    CHECK(complains("gamma: no agent"));
    CHECK_EQ(ctl(path_of("show"), "show", "beta", "--at", "99", NULL), 1);
    CHECK_EQ(output_text[0], 0);
    remove_tree(path_of("show"));
}

TEST(log)
{
    uint32_t mode;
    int all;
    for (mode = 0; mode < 2; mode++) {
        if (!make_store("log", mode)) return;
        CHECK_EQ(ctl(path_of("log"), "log", "alpine", NULL), 0);
        CHECK(says("create") && says("note") && says("\"two\"") && says("ff fe 80"));
        no_controls();
        CHECK_EQ(ctl(path_of("log"), "log", "alpine", "--json", NULL), 0);
        CHECK_EQ(json_lines(), 3);
        CHECK(says("\"version\":1,") && says("\"version\":2,") && says("\"version\":3,") && says("\"event\":\"note\""));
        CHECK_EQ(ctl(path_of("log"), "log", "--json", NULL), 0);
        all = json_lines();
        CHECK(all >= 7); /* 6 of agents, and the logs' own */
        CHECK_EQ(count_of("\"agent\":\"alpine\""), 3);
        CHECK_EQ(count_of("not in the agent's history"), 0);
        CHECK_EQ(count_of("\"type\":\"log\""), mode == 0 ? 1 : 3);
        CHECK_EQ(ctl(path_of("log"), "log", NULL), 0);
        CHECK(says("alpine") && says("log"));
        no_controls();
        remove_tree(path_of("log"));
    }
}

/* What a writer that lost the store still put behind the cut of its segment counts for nothing, and is shown so. */
TEST(zombie_block)
{
    char path[160];
    uint8_t *bytes, *longer;
    size_t size, count, i, from = 0;
    span spans[64];
    pai_block header;
    pai_crc crc;
    owner o;
    pai_crc_init(&crc);
    if (!make_store("zombie", 0)) return;
    newest_segment("zombie", path, &bytes, &size);
    if (bytes == NULL) return;
    count = find_blocks(bytes, size, spans, 64);
    if (open_owner(&o, "zombie", 0)) CHECK_EQ(post(&o, "alpine", "note", "mine"), PAGENT_OK);
    close_owner(&o);
    for (i = 0; i < count; i++) { /* alpine's third and last block in this segment, made its fourth */
        CHECK_EQ(pai_decode_header(&crc, bytes + spans[i].offset, spans[i].offset, &header), PAGENT_OK);
        if (header.stream == pagent_stream_of("alpine") && header.version == 3) from = i;
    }
    CHECK(from != 0);
    size = spans[count - 1].offset + spans[count - 1].size;
    longer = (uint8_t *)need_memory(malloc(size + spans[from].size));
    memcpy(longer, bytes, size);
    memcpy(longer + size, bytes + spans[from].offset, spans[from].size);
    CHECK_EQ(pai_decode_header(&crc, longer + size, spans[from].offset, &header), PAGENT_OK);
    header.version = 4;
    pai_encode_header(&crc, longer + size, &header, size);
    save(path, longer, size + spans[from].size);
    CHECK_EQ(ctl(path_of("zombie"), "log", "--json", NULL), 0);
    CHECK_EQ(count_of("not in the agent's history"), 1);
    CHECK(says("\"data\":\"mine\""));
    CHECK_EQ(ctl(path_of("zombie"), "log", "alpine", "--json", NULL), 0);
    CHECK_EQ(json_lines(), 4);
    free(longer);
    free(bytes);
    remove_tree(path_of("zombie"));
}

TEST(verify)
{
    char path[160], number[32];
    uint8_t *bytes;
    size_t size, count;
    span spans[64], *last;
    if (!make_store("whole", 0)) return;
    CHECK_EQ(ctl(path_of("whole"), "verify", NULL), 0);
    CHECK(says("3 agents, 6 blocks: clean"));
    newest_segment("whole", path, &bytes, &size);
    if (bytes == NULL) return;
    count = find_blocks(bytes, size, spans, 64);
    CHECK(count >= 7);
    last = &spans[count - 1];
    CHECK_EQ(last->type, PAI_SEAL);
    free(bytes);

    /* torn: the seal and what follows is gone, and of the block before it only the first line is left */
    copy_tree(path_of("whole"), path_of("broken"));
    newest_segment("broken", path, &bytes, &size);
    last = &spans[count - 2];
    memset(bytes + last->offset + 64, 0, size - last->offset - 64);
    save(path, bytes, size);
    free(bytes);
    CHECK_EQ(ctl(path_of("broken"), "verify", NULL), 1);
    (void)snprintf(number, sizeof number, "offset %zu", last->offset);
    CHECK(says("torn") && says(number) && says("log."));
    CHECK_EQ(ctl(path_of("broken"), "verify", "--json", NULL), 1);
    CHECK_EQ(json_lines(), 1);
    CHECK(says("\"class\":\"torn\"") && says("\"offset\":"));
    CHECK_EQ(ctl(path_of("broken"), "list", NULL), 0); /* readers take what is whole */

    /* corrupt: one bit in the middle, with an intact block behind it */
    copy_tree(path_of("whole"), path_of("broken"));
    newest_segment("broken", path, &bytes, &size);
    bytes[spans[2].offset + 70] ^= 4;
    save(path, bytes, size);
    CHECK_EQ(ctl(path_of("broken"), "verify", NULL), 2);
    (void)snprintf(number, sizeof number, "offset %zu", spans[2].offset);
    CHECK(says("corrupt") && says(number));
    CHECK_EQ(ctl(path_of("broken"), "verify", "--json", NULL), 2);
    CHECK(json_lines() >= 1);
    CHECK(says("\"class\":\"corrupt\""));

    /* suspect: one bit in the last block, nothing behind it */
    bytes[spans[2].offset + 70] ^= 4;
    memset(bytes + spans[count - 1].offset, 0, size - spans[count - 1].offset);
    bytes[spans[count - 2].offset + 70] ^= 4;
    save(path, bytes, size);
    CHECK_EQ(ctl(path_of("broken"), "verify", NULL), 2);
    CHECK(says("suspect") && says("flipping bit"));
    free(bytes);

    /* too new, foreign, or none at all */
    CHECK_EQ(ctl(path_of("nothing"), "verify", NULL), 3);
    CHECK(complains("nothing"));
    remove_tree(path_of("whole"));
    remove_tree(path_of("broken"));
}

/* Every bit of a block in the middle: never clean, never a crash. */
TEST(verify_bits)
{
    char path[160];
    uint8_t *bytes;
    size_t size, bit, count;
    span spans[64];
    if (!make_store("bits", 0)) return;
    newest_segment("bits", path, &bytes, &size);
    if (bytes == NULL) return;
    count = find_blocks(bytes, size, spans, 64);
    CHECK(count > 3);
    for (bit = 0; bit < spans[2].size * 8; bit += 1 + 1000 / test_effort(100)) {
        if (!test_case(bit)) continue;
        bytes[spans[2].offset + bit / 8] ^= (uint8_t)(1u << bit % 8);
        save(path, bytes, size);
        CHECK_EQ(ctl(path_of("bits"), "verify", NULL), 2);
        bytes[spans[2].offset + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(bytes);
    remove_tree(path_of("bits"));
}

TEST(export_copy)
{
    owner o;
    if (!make_store("source", 0)) return;
    CHECK_EQ(ctl(path_of("source"), "export", "alpha", path_of("alpha.pagent"), NULL), 0);
    CHECK(says("alpha: 2 blocks to version 2"));
    CHECK_EQ(ctl(path_of("source"), "export", "alpha", path_of("alpha.pagent"), NULL), 3);
    CHECK(complains("exists"));
    CHECK_EQ(ctl(path_of("target"), "import", path_of("alpha.pagent"), NULL), 3);
    CHECK_EQ(ctl(path_of("target"), "import", path_of("alpha.pagent"), "--create", NULL), 1);
    CHECK(complains("--as NAME"));
    CHECK_EQ(ctl(path_of("target"), "import", path_of("alpha.pagent"), "--create", "--as", "twin", NULL), 0);
    CHECK(says("twin: a fork of alpha at version 2"));
    CHECK_EQ(ctl(path_of("target"), "verify", NULL), 0);
    CHECK_EQ(ctl(path_of("target"), "show", "twin", NULL), 0);
    CHECK(says("fork of     alpha") && says("\"hello \\x01 world\""));
    CHECK_EQ(ctl(path_of("target"), "import", path_of("alpha.pagent"), "--as", "twin", NULL), 1);
    CHECK(complains("already"));
    /* the fork runs: its enter handler asks again, and the answer is taken */
    if (open_owner(&o, "target", 0)) {
        int polls;
        for (polls = 0; polls < 50; polls++) (void)pagent_poll(o.engine);
        CHECK_EQ(status_in(&o, "twin"), PAGENT_WAITING);
        CHECK_EQ(approve(&o, "twin"), PAGENT_OK);
        CHECK_EQ(status_in(&o, "twin"), PAGENT_DONE);
    }
    close_owner(&o);
    /* the source knows nothing of it */
    if (open_owner(&o, "source", 0)) CHECK_EQ(approve(&o, "alpha"), PAGENT_OK);
    close_owner(&o);
    CHECK_EQ(ctl(path_of("target"), "verify", NULL), 0);
    remove_tree(path_of("source"));
    remove_tree(path_of("target"));
    (void)remove(path_of("alpha.pagent"));
}

static void move_and_go_on(uint32_t from_mode, uint32_t to_mode)
{
    static char history[sizeof output_text];
    owner o;
    pagent_receipt receipt;
    if (!make_store("source", from_mode)) return;
    CHECK_EQ(ctl(path_of("source"), "log", "alpha", "--json", NULL), 0);
    memcpy(history, output_text, sizeof history);
    CHECK_EQ(ctl(path_of("source"), "export", "--move", "alpha", path_of("alpha.pagent"), "--json", NULL), 0);
    CHECK_EQ(json_lines(), 1);
    CHECK(says("\"moved\":true"));
    CHECK_EQ(ctl(path_of("source"), "list", NULL), 0);
    CHECK(says("moved"));
    /* here it never steps again */
    if (open_owner(&o, "source", from_mode)) {
        pagent_effect_id any = {0, 0};
        receipt.result = PAGENT_PENDING;
        (void)pagent_decide(o.engine, "alpha", &any, "erika", PAGENT_APPROVE, NULL, 0, PAGENT_ANY, &receipt);
        while (receipt.result == PAGENT_PENDING && pagent_poll(o.engine) >= 0) {
        }
        CHECK(receipt.result < 0);
        CHECK_EQ(status_in(&o, "alpha"), PAGENT_MOVED);
    }
    close_owner(&o);
    CHECK_EQ(ctl(path_of("source"), "export", "alpha", path_of("again.pagent"), "--move", NULL),
             0); /* once more, if the file was lost */
    /* there it goes on, with its history */
    if (open_owner(&o, "target", to_mode)) CHECK_EQ(create(&o, "resident", "x"), PAGENT_OK);
    close_owner(&o);
    CHECK_EQ(ctl(path_of("target"), "import", path_of("alpha.pagent"), NULL), 0);
    CHECK(says("alpha: goes on here"));
    CHECK_EQ(ctl(path_of("target"), "log", "alpha", "--json", NULL), 0);
    CHECK(strncmp(output_text, history, strlen(history)) == 0); /* the same blocks, link by link */
    if (open_owner(&o, "target", to_mode)) {
        CHECK_EQ(status_in(&o, "alpha"), PAGENT_WAITING);
        CHECK_EQ(approve(&o, "alpha"), PAGENT_OK);
        CHECK_EQ(status_in(&o, "alpha"), PAGENT_DONE);
    }
    close_owner(&o);
    CHECK_EQ(ctl(path_of("target"), "verify", NULL), 0);
    CHECK_EQ(ctl(path_of("target"), "import", path_of("again.pagent"), NULL), 1);
    CHECK_EQ(ctl(path_of("source"), "verify", NULL), 0);
    remove_tree(path_of("source"));
    remove_tree(path_of("target"));
    (void)remove(path_of("alpha.pagent"));
    (void)remove(path_of("again.pagent"));
}

TEST(export_move)
{
    move_and_go_on(0, 0);
    move_and_go_on(1, 0);
    move_and_go_on(0, 1);
}

/* A history over several segments whose beginning was trimmed away: what is left is whole, and moves. */
TEST(trimmed)
{
    char note[600];
    pagent_receipt receipt;
    owner o;
    int i, turns, blocks;
    memset(note, 'n', sizeof note - 1);
    note[sizeof note - 1] = 0;
    if (open_owner(&o, "source", 0)) {
        CHECK_EQ(create(&o, "alpine", "a"), PAGENT_OK);
        CHECK_EQ(create(&o, "beta", "b"), PAGENT_OK);
        for (i = 0; i < 300; i++) CHECK_EQ(post(&o, i % 100 == 0 ? "beta" : "alpine", "note", note), PAGENT_OK);
        for (turns = 0; turns < 20; turns++) {
            receipt.result = PAGENT_PENDING;
            CHECK_EQ(pagent_trim_store(o.engine, &receipt), PAGENT_OK);
            if (settle(&o, &receipt) != PAGENT_OK) break;
        }
    }
    close_owner(&o);
    CHECK(access(path_of("source/log.00000001"), F_OK) != 0);
    CHECK_EQ(ctl(path_of("source"), "verify", NULL), 0);
    CHECK_EQ(ctl(path_of("source"), "log", "alpine", "--json", NULL), 0);
    blocks = json_lines();
    CHECK(blocks > 0 && blocks < 300);
    CHECK_EQ(count_of("\"version\":1,"), 0);
    CHECK_EQ(ctl(path_of("source"), "show", "alpine", "--at", "1", NULL), 1);
    CHECK(complains("trimmed"));
    CHECK_EQ(ctl(path_of("source"), "log", "--json", NULL), 0);
    CHECK(json_lines() > blocks);
    CHECK_EQ(ctl(path_of("source"), "export", "alpine", path_of("x.pagent"), "--move", NULL), 0);
    CHECK_EQ(ctl(path_of("target"), "import", path_of("x.pagent"), "--create", NULL), 0);
    CHECK_EQ(ctl(path_of("target"), "show", "alpine", "--json", NULL), 0);
    CHECK(says("\"transcript_count\":298,"));
    CHECK_EQ(ctl(path_of("target"), "verify", NULL), 0);
    if (open_owner(&o, "target", 0)) CHECK_EQ(post(&o, "alpine", "note", "here"), PAGENT_OK);
    close_owner(&o);
    remove_tree(path_of("source"));
    remove_tree(path_of("target"));
    (void)remove(path_of("x.pagent"));
}

/* Away and back again: the store that it left takes it in once more, with what happened to it elsewhere. */
TEST(there_and_back)
{
    owner o;
    if (!make_store("source", 0)) return;
    CHECK_EQ(ctl(path_of("source"), "export", "--move", "alpine", path_of("x.pagent"), NULL), 0);
    CHECK_EQ(ctl(path_of("target"), "import", "--create", path_of("x.pagent"), NULL), 0);
    if (open_owner(&o, "target", 0)) CHECK_EQ(post(&o, "alpine", "note", "abroad"), PAGENT_OK);
    close_owner(&o);
    (void)remove(path_of("x.pagent"));
    CHECK_EQ(ctl(path_of("target"), "export", "--move", "alpine", path_of("x.pagent"), NULL), 0);
    CHECK_EQ(ctl(path_of("source"), "import", path_of("x.pagent"), NULL), 0);
    CHECK_EQ(ctl(path_of("source"), "verify", NULL), 0);
    if (open_owner(&o, "source", 0)) CHECK_EQ(post(&o, "alpine", "note", "home"), PAGENT_OK);
    close_owner(&o);
    CHECK_EQ(ctl(path_of("source"), "log", "alpine", NULL), 0);
    CHECK(says("\"one\"") && says("\"abroad\"") && says("\"home\""));
    CHECK_EQ(ctl(path_of("source"), "import", path_of("x.pagent"), NULL), 1); /* it is here, and has gone on */
    CHECK_EQ(ctl(path_of("source"), "verify", NULL), 0);
    remove_tree(path_of("source"));
    remove_tree(path_of("target"));
    (void)remove(path_of("x.pagent"));
}

/* An import that died before the agent was told that it may go on is done once more, and who moved out may change his
   mind: when they say so, for the agent may live elsewhere by now. */
TEST(import_interrupted)
{
    const char *const stores[] = {"target", "source"};
    static uint8_t bytes[1 << 20];
    pagent_portable head;
    const char *what;
    size_t size, at;
    owner o;
    uint32_t i;
    FILE *file;
    if (!make_store("source", 0)) return;
    CHECK_EQ(ctl(path_of("source"), "export", "--move", "alpine", path_of("x.pagent"), NULL), 0);
    file = fopen(path_of("x.pagent"), "rb");
    if (!CHECK(file != NULL)) return;
    size = fread(bytes, 1, sizeof bytes, file);
    (void)fclose(file);
    CHECK_EQ(pagent_portable_open(&head, bytes, size, &at, &what), PAGENT_OK);
    if (open_owner(&o, "target", 0)) {
        CHECK_EQ(pagent_import_blocks(o.engine, bytes + at, size - at, NULL), PAGENT_OK);
        CHECK_EQ(status_in(&o, "alpine"), PAGENT_MOVED);
        CHECK_EQ(pagent_import_blocks(o.engine, bytes + at, size - at, NULL), PAGENT_DUPLICATE);
    }
    close_owner(&o);
    for (i = 0; i < 2; i++) {
        CHECK_EQ(ctl(path_of(stores[i]), "import", path_of("x.pagent"), NULL), 1);
        CHECK(complains("--again"));
        CHECK_EQ(ctl(path_of(stores[i]), "import", path_of("x.pagent"), "--again", NULL), 0);
        CHECK(says("alpine: goes on here"));
        if (open_owner(&o, stores[i], 0)) CHECK_EQ(post(&o, "alpine", "note", "here"), PAGENT_OK);
        close_owner(&o);
        CHECK_EQ(ctl(path_of(stores[i]), "import", path_of("x.pagent"), "--again", NULL), 1); /* it has gone on */
        CHECK_EQ(ctl(path_of(stores[i]), "verify", NULL), 0);
    }
    remove_tree(path_of("source"));
    remove_tree(path_of("target"));
    (void)remove(path_of("x.pagent"));
}

/* A file whose every checksum is right, and that is wrong all the same. */
enum {
    FORGE_NAME = 100,
    FORGE_PREVIOUS,
    FORGE_LINK,
    FORGE_BYTES,
    FORGE_NOTHING
};

/* Writes an export anew from the blocks of a good one: without block `forge`, or with what the enum says. */
static void forge(const uint8_t *bytes, size_t size, size_t forge, const char *path)
{
    uint8_t *made = (uint8_t *)need_memory(malloc(size + 512)), front[512];
    pagent_portable head;
    int result;
    span spans[16];
    size_t count = find_blocks(bytes, size, spans, 16), out, i;
    pai_crc crc;
    pai_crc_init(&crc);
    memset(&head, 0, sizeof head);
    CHECK(pai_portable_read_head(&crc, bytes, size, &head, &result) != 0);
    CHECK_EQ(count, head.count + 1);
    if (forge == FORGE_NAME) (void)snprintf(head.name, sizeof head.name, "mallory");
    out = pagent_portable_head(&head, front); /* where the blocks begin */
    for (head.count = head.bytes = 0, i = 1; i < count; i++) {
        pai_block header;
        if (i == forge) continue;
        memcpy(made + out, bytes + spans[i].offset, spans[i].size);
        CHECK_EQ(pai_decode_header(&crc, made + out, spans[i].offset, &header), PAGENT_OK);
        if (forge == FORGE_PREVIOUS && i == count - 1) header.previous ^= 1;
        pai_encode_header(&crc, made + out, &header, out);
        head.last = header.version;
        if (head.count++ == 0) head.first = head.last;
        head.link = pai_link(&crc, made + out);
        head.bytes += spans[i].size;
        out += spans[i].size;
    }
    if (forge == FORGE_LINK) head.link ^= 1;
    if (forge == FORGE_BYTES) head.bytes -= 64;
    memcpy(made, front, pagent_portable_head(&head, front));
    save(path, made, out);
    free(made);
}

TEST(import_forged)
{
    static const struct {
        size_t forge;
        int status;
        const char *complaint;
    } rows[] = {
        {1, 2, ""}, /* what is left does not begin with a snapshot */
        {2, 2, "does not follow"},
        {FORGE_NAME, 2, "does not follow"},
        {FORGE_PREVIOUS, 2, "does not follow"},
        {FORGE_LINK, 2, "the file's head announces"},
        {FORGE_BYTES, 2, "cut off"},
        {4, 1, ""}, /* without the block that moved it out, it has not left */
        {FORGE_NOTHING, 0, ""},
    };
    uint8_t *bytes;
    size_t size, i;
    if (!make_store("source", 0)) return;
    CHECK_EQ(ctl(path_of("source"), "export", "--move", "alpine", path_of("good.pagent"), NULL), 0);
    bytes = load(path_of("good.pagent"), &size);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        forge(bytes, size, rows[i].forge, path_of("bad.pagent"));
        CHECK_EQ(ctl(path_of("target"), "import", "--create", path_of("bad.pagent"), NULL), rows[i].status);
        CHECK(complains(rows[i].complaint));
    }
    free(bytes);
    remove_tree(path_of("source"));
    remove_tree(path_of("target"));
    (void)remove(path_of("good.pagent"));
    (void)remove(path_of("bad.pagent"));
}

/* Any damage to the file is found, and nothing of it is imported. */
TEST(import_damaged)
{
    uint8_t *bytes;
    size_t size, at;
    if (!make_store("source", 0)) return;
    CHECK_EQ(ctl(path_of("source"), "export", "--move", "alpine", path_of("good.pagent"), NULL), 0);
    bytes = load(path_of("good.pagent"), &size);
    CHECK(size > 256 && size % 64 == 0);
    for (at = 0; at < size; at += 1 + 500 / test_effort(100)) { /* one byte changed; cut off before it */
        if (test_case(2 * at)) {
            bytes[at] ^= 0x10;
            save(path_of("bad.pagent"), bytes, size);
            bytes[at] ^= 0x10;
            CHECK_EQ(ctl(path_of("target"), "import", path_of("bad.pagent"), "--create", NULL), 2);
            if (at >= 4) CHECK(complains("offset ")); /* before that it is no export at all */
        }
        if (test_case(2 * at + 1)) {
            save(path_of("bad.pagent"), bytes, at);
            CHECK_EQ(ctl(path_of("target"), "import", path_of("bad.pagent"), "--create", NULL), 2);
        }
    }
    if (test.only == TEST_ANY_CASE) {
        uint8_t *longer = (uint8_t *)need_memory(malloc(size * 2));
        memcpy(longer, bytes, size);
        memcpy(longer + size, bytes, size);
        save(path_of("bad.pagent"), longer, size * 2);
        free(longer);
        CHECK_EQ(ctl(path_of("target"), "import", path_of("bad.pagent"), "--create", NULL), 2);
        CHECK_EQ(ctl(path_of("target"), "import", path_of("none.pagent"), "--create", NULL), 3);
        save(path_of("bad.pagent"), (const uint8_t *)"#!/bin/sh\n", 10);
        CHECK_EQ(ctl(path_of("target"), "import", path_of("bad.pagent"), "--create", NULL), 2);
        CHECK(complains("not a file that"));
        CHECK_EQ(ctl(path_of("target"), "list", NULL), 0);
        CHECK(says("0 agents"));
        CHECK_EQ(ctl(path_of("target"), "import", path_of("good.pagent"), NULL), 0);
    }
    free(bytes);
    remove_tree(path_of("source"));
    remove_tree(path_of("target"));
    (void)remove(path_of("good.pagent"));
    (void)remove(path_of("bad.pagent"));
}

/* ---- beside a running owner ----------------------------------------------------------------------------------- */

/* The child owns the store and takes notes until it is told to end; returns its id once it is ready. */
static pid_t start_owner(const char *store, int *control)
{
    int ready[2], end[2];
    char byte = 0;
    pid_t child;
    if (pipe(ready) != 0 || pipe(end) != 0) return -1;
    (void)fflush(stdout);
    child = fork();
    if (child == 0) {
        owner o;
        int good = open_owner(&o, store, 0);
        (void)close(end[1]);
        (void)fcntl(end[0], F_SETFL, O_NONBLOCK);
        if (good && write(ready[1], "r", 1) == 1) {
            while (read(end[0], &byte, 1) < 0 && errno == EAGAIN) {
                (void)post(&o, "alpine", "note", "again and again");
                pause_ms(1);
            }
        }
        close_owner(&o);
        _exit(test.failures != 0);
    }
    (void)close(ready[1]);
    (void)close(end[0]);
    if (read(ready[0], &byte, 1) != 1) FAIL("the owner did not start");
    (void)close(ready[0]);
    *control = end[1];
    return child;
}

static void stop_owner(pid_t child, int control)
{
    int status = -1;
    (void)close(control);
    if (waitpid(child, &status, 0) != child || status != 0) FAIL("the owner ended with %d", status);
}

TEST(beside_an_owner)
{
    int control = -1, round;
    pid_t child;
    if (!make_store("live", 0)) return;
    child = start_owner("live", &control);
    if (child <= 0) return;
    for (round = 0; round < (int)test_effort(30); round++) { /* readers see a prefix, never damage */
        int status = ctl(path_of("live"), "verify", NULL);
        if (status != 0 && status != 1) FAIL("round %d: %d\n%s%s", round, status, output_text, error_text);
        CHECK_EQ(ctl(path_of("live"), "list", NULL), 0);
        CHECK(says("3 agents"));
    }
    save(path_of("x.pagent"), (const uint8_t *)"", 0);
    (void)remove(path_of("x.pagent"));
    /* through the inbox */
    CHECK_EQ(ctl(path_of("live"), "export", "alpha", path_of("x.pagent"), "--move", "--wait", "120", NULL), 0);
    CHECK(says("it goes on where that file is imported"));
    CHECK_EQ(ctl(path_of("live"), "import", path_of("x.pagent"), "--as", "copy", NULL), 3);
    CHECK(complains("owns this store"));
    stop_owner(child, control);
    CHECK_EQ(ctl(path_of("live"), "verify", NULL), 0);
    CHECK_EQ(ctl(path_of("live"), "show", "alpha", "--json", NULL), 0);
    CHECK(says("\"status\":\"moved\""));
    remove_tree(path_of("live"));
    (void)remove(path_of("x.pagent"));
}

/* A message that waits in the inbox belongs to a program with the machine for it: pagentctl leaves it there. */
TEST(inbox_is_left_alone)
{
    owner o;
    pagent_request request = {0};
    pagent_receipt receipt;
    pagent_dir dir;
    int result, polls;
    if (!make_store("inbox", 0)) return;
    pagent_posix_host(&o.host);
    CHECK_EQ(pagent_open_posix(&dir, path_of("inbox"), 0, NULL), PAGENT_OK);
    request.size = sizeof request;
    request.verb = PAGENT_CREATE;
    request.agent = "gamma";
    request.event = "errand";
    request.id = "message-1";
    CHECK_EQ(pagent_send_message(&dir, &o.host, &request), PAGENT_OK);
    CHECK_EQ(ctl(path_of("inbox"), "export", "beta", path_of("beta.pagent"), "--move", NULL), 0);
    CHECK_EQ(pagent_read_receipt(&dir, "message-1", &receipt), PAGENT_PENDING);
    if (open_owner(&o, "inbox", 0)) {
        result = PAGENT_PENDING;
        for (polls = 0; polls < 1000 && result == PAGENT_PENDING; polls++) {
            (void)pagent_poll(o.engine);
            result = pagent_read_receipt(&dir, "message-1", &receipt);
        }
        CHECK_EQ(result, PAGENT_OK);
        CHECK_EQ(receipt.result, PAGENT_OK);
        CHECK_EQ(status_in(&o, "gamma"), PAGENT_WAITING);
    }
    close_owner(&o);
    pagent_close_posix(&dir);
    remove_tree(path_of("inbox"));
    (void)remove(path_of("beta.pagent"));
}

TEST(command_line)
{
    CHECK_EQ(ctl("--help", NULL), 0);
    CHECK(says("exit status:") && says("export AGENT FILE"));
    CHECK_EQ(ctl("--version", NULL), 0);
    CHECK(says(PAGENT_VERSION));
    CHECK_EQ(ctl(NULL, NULL), 3);
    CHECK(complains("STORE and VERB are missing"));
    CHECK_EQ(ctl(folder, NULL), 3);
    CHECK_EQ(ctl(folder, "frobnicate", NULL), 3);
    CHECK(complains("unknown verb 'frobnicate'"));
    CHECK_EQ(ctl(folder, "show", NULL), 3);
    CHECK(complains("show AGENT"));
    CHECK_EQ(ctl(folder, "list", "x", NULL), 3);
    CHECK_EQ(ctl(folder, "export", "a", "b", "c", NULL), 3);
    CHECK_EQ(ctl(folder, "list", "--move", NULL), 3); /* an option of another verb */
    CHECK(complains("usage: pagentctl STORE list [--json]"));
    CHECK_EQ(ctl(folder, "export", "a", "b", "--wait", "soon", NULL), 3);
    CHECK(complains("--wait: 'soon'"));
    CHECK_EQ(ctl(folder, "list", "--frob", NULL), 3);
    CHECK(complains("--frob"));
    CHECK_EQ(ctl(folder, "import", "x", "--as", NULL), 3);
    CHECK_EQ(ctl(folder, "show", "x", "--at", "x1", NULL), 3);
    CHECK_EQ(ctl(folder, "show", "x", "--at=0", NULL), 3);
    CHECK_EQ(ctl(path_of("no/such/store"), "list", NULL), 3);
    CHECK(complains("no/such/store"));
    CHECK_EQ(output_text[0], 0);
}

static const test_row all_tests[] = {ROW(list),
                                     ROW(show),
                                     ROW(log),
                                     ROW(zombie_block),
                                     ROW(verify),
                                     ROW(verify_bits),
                                     ROW(export_copy),
                                     ROW(export_move),
                                     ROW(there_and_back),
                                     ROW(trimmed),
                                     ROW(import_interrupted),
                                     ROW(import_forged),
                                     ROW(import_damaged),
                                     ROW(command_line),
                                     ROW(beside_an_owner),
                                     ROW(inbox_is_left_alone)};

int main(int argc, char **argv)
{
    const char *base = getenv("TMPDIR");
    int status;
    (void)snprintf(folder, sizeof folder, "%.40s/pagentctl-XXXXXX", base != NULL && strlen(base) <= 40 ? base : "/tmp");
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        return 1;
    }
    status = test_main(all_tests, (uint32_t)(sizeof all_tests / sizeof all_tests[0]), argc, argv);
    remove_tree(folder);
    return status;
}
