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
static const pagent_call_spec calls[] = {{.name = "model", .flags = PAGENT_CALL_MODEL}};
static const pagent_state states[] = {
    {.name = "thinking", .waits = "model", .enter = think},
    {.name = "asking", .waits = "plan", .enter = ask},
    {.name = "done", .flags = PAGENT_FINAL},
    {.name = "dropped", .flags = PAGENT_FINAL}};
static const pagent_transition transitions[] = {
    {.from = "thinking", .event = "model.result", .to = "asking"},
    {.from = "thinking", .event = "model.failure", .to = "dropped"},
    {.from = "asking", .event = "plan.approved", .to = "done"},
    {.from = "asking", .event = "plan.rejected", .to = "dropped"},
    {.from = "asking", .event = "plan.expired", .to = "dropped"}};
static const pagent_machine planner = {sizeof planner, 1, "planner", NULL, 0, NULL, NULL, "plan",
                                       PAGENT_ROWS(calls), PAGENT_ROWS(states), PAGENT_ROWS(transitions)};

int main(int count, char **words) // run it twice: the second time with your name, to approve
{
    const pagent_machine *machines[] = {&planner};
    pagent_config config = {.size = sizeof config, .machines = machines, .machine_count = 1, .host.call = model};
    char text[PAGENT_TEXT_SIZE];
    pagent_engine *engine;
    pagent_view *view;
    pagent_info info;

    if (pagent_open_path(&engine, "hello-store", &config, text) < 0) return fprintf(stderr, "%s\n", text), 1;
    pagent_create(engine, "first", "planner", NULL, 0, NULL); // refused when it exists: it goes on then
    if (count > 1) pagent_decide(engine, "first", NULL, words[1], PAGENT_APPROVE, NULL, 0, PAGENT_ANY, NULL);
    while (pagent_poll(engine) == PAGENT_OK) continue;
    if (pagent_open_view(engine, "first", 0, &view) == PAGENT_OK && pagent_view_info(view, &info) == PAGENT_OK) {
        printf("%s is %s at version %lu\n", info.name, info.state, (unsigned long)info.version);
    }
    pagent_close_view(view);
    return pagent_close_engine(engine) != PAGENT_OK;
}
