/* native: the twin in C of counter.mjs's machine, over a native file store.

     native DIR hash                     the machine's hash
     native DIR add AGENT NUMBER         creates AGENT where it is missing, posts "add" so often
     native DIR ask AGENT 1              posts "ask": it waits for the approval then
     native DIR approve AGENT 1
     native DIR show AGENT 0             state, version, count, transcript entries
     native DIR hold                     keeps the store open until its input ends

   A last word "each": one log for each agent. Writes one line. Exit status 1: refused, with the result's name. */
#define PERSISTENT_AGENT_IMPLEMENTATION
#include "../../../persistent_agent.h"
#include "counter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void settle(pagent_engine *engine)
{
    while (pagent_poll(engine) == PAGENT_OK) {
    }
}

static int refused(int result, const char *text)
{
    fprintf(stderr, "%s %s\n", pagent_result_name(result), text);
    return 1;
}

static int act(pagent_engine *engine, const char *verb, const char *agent, int number)
{
    pagent_receipt receipt;
    int i;
    if (strcmp(verb, "show") == 0) return PAGENT_OK;
    if (strcmp(verb, "add") == 0) {
        (void)pagent_create(engine, agent, "counter", NULL, 0, &receipt);
        settle(engine);
        if (receipt.result != PAGENT_OK && receipt.result != PAGENT_E_EXISTS) return receipt.result;
    }
    for (i = 0; i < number; i++) {
        int result = strcmp(verb, "approve") == 0
                         ? pagent_decide(engine, agent, NULL, "native", PAGENT_APPROVE, NULL, 0, PAGENT_ANY, &receipt)
                         : pagent_post(engine, agent, verb, NULL, "n", 1, &receipt);
        settle(engine);
        if (result < 0) return result;
        if (receipt.result != PAGENT_OK) return receipt.result;
    }
    return PAGENT_OK;
}

static int show(pagent_engine *engine, const char *agent)
{
    pagent_view *view = NULL;
    pagent_info info;
    uint32_t count = 0, i;
    int result = pagent_open_view(engine, agent, 0, &view);
    if (result == PAGENT_OK) result = pagent_view_info(view, &info);
    if (result == PAGENT_OK) {
        for (i = 0; i < info.context.size && i < 4; i++)
            count |= (uint32_t)((const uint8_t *)info.context.data)[i] << 8 * i;
        printf("%s %lu %u %u\n", info.state, (unsigned long)info.version, count, info.transcript_count);
    }
    pagent_close_view(view);
    return result;
}

int main(int count, char **words)
{
    const pagent_machine *machines[] = {&counter};
    char text[PAGENT_TEXT_SIZE] = "";
    pagent_file_options options = {0};
    pagent_config config = {0};
    pagent_engine *engine = NULL;
    pagent_files *files = NULL;
    pagent_dir dir;
    int result, closed;
    if (count < 3) return 2;
    if (strcmp(words[2], "hash") == 0) {
        printf("%016llx\n", (unsigned long long)pagent_machine_hash(&counter));
        return 0;
    }
    options.size = sizeof options;
    options.log_per_agent = count > 5 && strcmp(words[5], "each") == 0;
    options.read_only = strcmp(words[2], "show") == 0;
    config.size = sizeof config;
    config.machines = machines;
    config.machine_count = 1;
    config.read_only = options.read_only;
    pagent_posix_host(&config.host);
    result = pagent_open_posix(&dir, words[1], 1, NULL);
    if (result < 0) return refused(result, words[1]);
    result = pagent_open_files(&files, &dir, &config.host, &options, text);
    if (result < 0) return refused(result, text);
    config.store = pagent_files_store(files);
    result = pagent_open_engine(&engine, &config, text);
    if (result < 0) return refused(result, text);
    if (strcmp(words[2], "hold") == 0) {
        puts("held");
        fflush(stdout);
        while (getchar() != EOF) {
        }
    } else if (count > 3) {
        result = act(engine, words[2], words[3], count > 4 ? atoi(words[4]) : 1);
        if (result == PAGENT_OK) result = show(engine, words[3]);
    }
    closed = pagent_close_engine(engine);
    if (result == PAGENT_OK) result = closed;
    closed = pagent_close_files(files);
    if (result == PAGENT_OK) result = closed;
    pagent_close_posix(&dir);
    return result == PAGENT_OK ? 0 : refused(result, "");
}
