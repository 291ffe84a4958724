/* The machine that travels: for native.c, and for journey.c, which becomes WebAssembly. Where it sets out it arms three
   timers and asks three people, all at once; each is settled somewhere else. */
typedef struct journey {
    uint32_t steps;
    uint32_t rings;
} journey;

static int set_out(void *ctx, pagent_step *step, uint32_t tag)
{
    static const char *const timers[] = {"soon", "later", "last"};
    static const char *const approvals[] = {"gate", "bridge", "home"};
    uint32_t i;
    int result = PAGENT_OK;
    (void)ctx, (void)tag;
    for (i = 0; i < 3 && result == PAGENT_OK; i++) {
        result = pagent_set_timer(step, timers[i], 1500000 + 1000000 * (uint64_t)i);
        if (result == PAGENT_OK) result = pagent_ask_approval(step, approvals[i], "pass?", 5, PAGENT_FOREVER, NULL);
    }
    return result;
}

static int note(void *ctx, pagent_step *step, uint32_t tag)
{
    journey *context = (journey *)pagent_context(step, NULL);
    const pagent_event *event = pagent_current_event(step);
    const pagent_bytes *data = &event->data;
    (void)ctx, (void)tag;
    if (event->kind == PAGENT_EVENT_TIMER) context->rings++;
    else if (event->kind == PAGENT_EVENT_SIGNAL) context->steps++;
    return pagent_remember(step, event->kind, data->data, data->size);
}

static const pagent_state states[] = {{"walking", NULL, "gate bridge home", set_out, NULL, NULL, 0, 0},
                                      {"arrived", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0},
                                      {"lost", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0}};
static const pagent_transition transitions[] = {{"walking", "walk", NULL, note, NULL, 0},
                                                {"walking", "soon.timer", NULL, note, NULL, 0},
                                                {"walking", "later.timer", NULL, note, NULL, 0},
                                                {"walking", "last.timer", NULL, note, NULL, 0},
                                                {"walking", "gate.approved", NULL, note, NULL, 0},
                                                {"walking", "gate.rejected", NULL, NULL, "lost", 0},
                                                {"walking", "gate.expired", NULL, NULL, "lost", 0},
                                                {"walking", "bridge.approved", NULL, note, NULL, 0},
                                                {"walking", "bridge.rejected", NULL, NULL, "lost", 0},
                                                {"walking", "bridge.expired", NULL, NULL, "lost", 0},
                                                {"walking", "home.approved", NULL, note, "arrived", 0},
                                                {"walking", "home.rejected", NULL, NULL, "lost", 0},
                                                {"walking", "home.expired", NULL, NULL, "lost", 0}};
static const pagent_machine journey_machine = {sizeof journey_machine,
                                               1,
                                               "journey",
                                               NULL,
                                               sizeof(journey),
                                               "walk",
                                               "soon later last",
                                               "gate bridge home",
                                               NULL,
                                               0,
                                               PAGENT_ROWS(states),
                                               PAGENT_ROWS(transitions)};
