#define PERSISTENT_AGENT_IMPLEMENTATION
#include "persistent_agent.h"
#include <stdio.h>

static int think(void *ctx, pagent_step *step, uint32_t tag) // a handler only stages effects
{
    (void)ctx, (void)tag;
    return pagent_begin_call(step, "model", "What shall we do?", 17, NULL);
}
static int ask(void *ctx, pagent_step *step, uint32_t tag) // the event is the model's answer
{
    const pagent_event *event = pagent_current_event(step);
    (void)ctx, (void)tag;
    return pagent_ask_approval(step, "plan", event->data.data, event->data.size, PAGENT_FOREVER, NULL);
}
static int model(void *ctx, const pagent_call *call, pagent_answer *answer) // begins a call
{
    (void)ctx, (void)call;
    answer->data.data = "Sleep well.";
    answer->data.size = 11;
    return PAGENT_OK;
}
static const pagent_call_spec calls[] = {{"model", PAGENT_CRASH_REPEAT, PAGENT_CALL_MODEL, 0, 0, 0, 0, 0}};
static const pagent_state states[] = {{"thinking", NULL, "model", think, NULL, NULL, 0, 0},
                                      {"asking", NULL, "plan", ask, NULL, NULL, 0, 0},
                                      {"done", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0},
                                      {"dropped", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0}};
static const pagent_transition transitions[] = {{"thinking", "model.result", NULL, NULL, "asking", 0},
                                                {"thinking", "model.failure", NULL, NULL, "dropped", 0},
                                                {"asking", "plan.approved", NULL, NULL, "done", 0},
                                                {"asking", "plan.rejected", NULL, NULL, "dropped", 0},
                                                {"asking", "plan.expired", NULL, NULL, "dropped", 0}};
static const pagent_machine planner = {sizeof planner, 1, "planner", NULL, 0, NULL, NULL, "plan",
                                       PAGENT_ROWS(calls), PAGENT_ROWS(states), PAGENT_ROWS(transitions)};

int main(int count, char **words) // run it twice: the second time with your name, to approve
{
    const pagent_machine *machines[] = {&planner};
    char text[PAGENT_TEXT_SIZE] = "";
    pagent_config config = {0};
    pagent_receipt created, said;
    pagent_engine *engine = NULL;
    pagent_files *files = NULL;
    pagent_view *view = NULL;
    pagent_info info;
    pagent_dir dir;

    config.size = sizeof config;
    config.machines = machines;
    config.machine_count = 1;
    pagent_posix_host(&config.host);
    config.host.call = model;
    if (pagent_open_posix(&dir, "hello-store", 1, text) < 0 ||
        pagent_open_files(&files, &dir, &config.host, NULL, text) < 0) {
        return fprintf(stderr, "%s\n", text), 1;
    }
    config.store = pagent_files_store(files);
    if (pagent_open_engine(&engine, &config, text) < 0) return fprintf(stderr, "%s\n", text), 1;

    (void)pagent_create(engine, "first", "planner", NULL, 0, &created); // refused when it exists: it goes on then
    if (count > 1) (void)pagent_decide(engine, "first", NULL, words[1], PAGENT_APPROVE, NULL, 0, PAGENT_ANY, &said);
    while (pagent_poll(engine) == PAGENT_OK) {
    }
    if (pagent_open_view(engine, "first", 0, &view) == PAGENT_OK && pagent_view_info(view, &info) == PAGENT_OK) {
        printf("%s is %s at version %lu\n", info.name, info.state, (unsigned long)info.version);
    }
    pagent_close_view(view);
    (void)pagent_close_engine(engine);
    (void)pagent_close_files(files);
    pagent_close_posix(&dir);
    return 0;
}
