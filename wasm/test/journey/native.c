/* native: the machine of journey.h over a native file store, at a time and with a nonce that are given.

     native DIR TIME NONCE VERB[:WORD] …    create | walk:ID | approve:NAME | out | in:FILE |
                                           rings:COUNT (how many timers have come), one after the other
     native none 0 0 hash                   the machine's hash

   All the engine's random bytes are NONCE: what it does then is known byte for byte. Writes the agent as one line of
   JSON. Exit status 1: refused, with the result's name. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../../../persistent_agent.h"
#include "journey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char agent[] = "wanderer";
static uint64_t now;
static int nonce;

static uint64_t given_clock(void *ctx)
{
    (void)ctx;
    return now;
}

static int given_random(void *ctx, void *buffer, size_t size)
{
    (void)ctx;
    memset(buffer, nonce, size);
    return PAGENT_OK;
}

static int refused(int result, const char *text)
{
    fprintf(stderr, "%s %s\n", pagent_result_name(result), text);
    return 1;
}

static int bring_in(pagent_engine *engine, const char *path, pagent_request *request)
{
    static uint8_t bytes[1 << 20];
    pagent_portable head;
    const char *what;
    size_t size, at;
    int result;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return PAGENT_E_NOT_FOUND;
    size = fread(bytes, 1, sizeof bytes, file);
    (void)fclose(file);
    result = pagent_portable_open(&head, bytes, size, &at, &what);
    request->verb = PAGENT_MOVE_IN;
    return result == PAGENT_OK ? pagent_import_blocks(engine, bytes + at, size - at, NULL) : result;
}

/* The open approval of that name. */
static int find_approval(pagent_engine *engine, const char *name, pagent_request *request)
{
    pagent_view *view = NULL;
    pagent_effect effect;
    uint32_t i;
    int found = 0, result = pagent_open_view(engine, agent, 0, &view);
    for (i = 0; result == PAGENT_OK && !found && pagent_view_effect(view, i, &effect) == PAGENT_OK; i++) {
        found = effect.kind == PAGENT_EFFECT_APPROVAL && strcmp(effect.name, name) == 0;
        request->effect = effect.id;
        request->digest = effect.digest;
    }
    pagent_close_view(view);
    return result != PAGENT_OK ? result : found ? PAGENT_OK : PAGENT_E_NOT_FOUND;
}

static int check_rings(pagent_engine *engine, unsigned wanted)
{
    pagent_view *view = NULL;
    pagent_info info;
    journey context = {0, 0};
    int result = pagent_open_view(engine, agent, 0, &view);
    if (result == PAGENT_OK) result = pagent_view_info(view, &info);
    if (result == PAGENT_OK && info.context.size == sizeof context) memcpy(&context, info.context.data, sizeof context);
    pagent_close_view(view);
    return result != PAGENT_OK ? result : context.rings == wanted ? PAGENT_OK : PAGENT_E_CONFLICT;
}

static int act(pagent_engine *engine, const char *verb, const char *word)
{
    pagent_request request = {0};
    pagent_receipt receipt;
    int result = PAGENT_OK;
    if (strcmp(verb, "rings") == 0) return check_rings(engine, (unsigned)atoi(word));
    request.size = sizeof request;
    request.agent = agent;
    request.expected_version = PAGENT_ANY;
    if (strcmp(verb, "create") == 0) {
        request.verb = PAGENT_CREATE;
        request.event = "journey";
    } else if (strcmp(verb, "walk") == 0) {
        request.verb = PAGENT_POST;
        request.event = "walk";
        request.id = word;
        request.data.data = word;
        request.data.size = (uint32_t)strlen(word);
    } else if (strcmp(verb, "approve") == 0) {
        request.verb = PAGENT_DECIDE;
        request.decision = PAGENT_APPROVE;
        request.who = "ann";
        result = find_approval(engine, word, &request);
    } else if (strcmp(verb, "out") == 0) {
        request.verb = PAGENT_MOVE_OUT;
    } else {
        result = strcmp(verb, "in") == 0 ? bring_in(engine, word, &request) : PAGENT_E_ARGUMENT;
    }
    if (result == PAGENT_OK) result = pagent_submit(engine, &request, &receipt);
    while (pagent_poll(engine) == PAGENT_OK) {
    }
    return result < 0 ? result : receipt.result;
}

static int show(pagent_engine *engine)
{
    pagent_view *view = NULL;
    pagent_info info;
    pagent_effect effect;
    journey context = {0, 0};
    uint32_t i;
    int result = pagent_open_view(engine, agent, 0, &view);
    if (result == PAGENT_OK) result = pagent_view_info(view, &info);
    if (result == PAGENT_OK) {
        if (info.context.size == sizeof context) memcpy(&context, info.context.data, sizeof context);
        printf("{\"state\":\"%s\",\"version\":%lu,\"link\":\"%016llx\",\"steps\":%u,\"rings\":%u,\"entries\":%u,"
               "\"effects\":[",
               info.state, (unsigned long)info.version, (unsigned long long)info.link, context.steps, context.rings,
               info.transcript_count);
        for (i = 0; pagent_view_effect(view, i, &effect) == PAGENT_OK; i++)
            printf("%s[\"%s\",%lu,%u,%.0f,\"%016llx\"]", i == 0 ? "" : ",", effect.name,
                   (unsigned long)effect.id.version, effect.id.index,
                   effect.due_ms == PAGENT_FOREVER ? -1.0 : (double)effect.due_ms, (unsigned long long)effect.digest);
        puts("]}");
    }
    pagent_close_view(view);
    return result;
}

static int visit(pagent_engine *engine, char **verbs)
{
    int result = PAGENT_OK;
    while (pagent_poll(engine) == PAGENT_OK) {
    }
    for (; *verbs != NULL && result >= 0; verbs++) {
        char *word = strchr(*verbs, ':');
        if (word != NULL) *word++ = 0;
        result = act(engine, *verbs, word != NULL ? word : "");
        if (result < 0) return refused(result, *verbs);
    }
    while (pagent_poll(engine) == PAGENT_OK) {
    }
    result = show(engine);
    return result == PAGENT_OK ? 0 : refused(result, "show");
}

int main(int count, char **words)
{
    const pagent_machine *machines[] = {&journey_machine};
    char text[PAGENT_TEXT_SIZE] = "";
    pagent_config config = {0};
    pagent_engine *engine = NULL;
    pagent_files *files = NULL;
    pagent_dir dir;
    int result, status;
    if (count < 4) return 2;
    if (count > 4 && strcmp(words[4], "hash") == 0) {
        printf("%016llx\n", (unsigned long long)pagent_machine_hash(&journey_machine));
        return 0;
    }
    now = strtoull(words[2], NULL, 10);
    nonce = atoi(words[3]);
    config.size = sizeof config;
    config.machines = machines;
    config.machine_count = 1;
    pagent_posix_host(&config.host);
    result = pagent_open_posix(&dir, words[1], 1, NULL);
    if (result < 0) return refused(result, words[1]);
    result = pagent_open_files(&files, &dir, &config.host, NULL, text); /* its own names stay random */
    if (result < 0) return refused(result, text);
    config.store = pagent_files_store(files);
    config.host.clock_ms = given_clock;
    config.host.random = given_random;
    result = pagent_open_engine(&engine, &config, text);
    if (result < 0) return refused(result, text);
    status = visit(engine, words + 4);
    result = pagent_close_engine(engine);
    if (result == PAGENT_OK) result = pagent_close_files(files);
    pagent_close_posix(&dir);
    return result == PAGENT_OK ? status : refused(result, "close");
}
