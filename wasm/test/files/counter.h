/* The machine of counter.mjs in C: for native.c, and for own.c, which becomes WebAssembly. */
static int add(void *ctx, pagent_step *step, uint32_t tag)
{
    uint32_t size;
    uint8_t *context = (uint8_t *)pagent_context(step, &size);
    uint32_t i;
    (void)ctx, (void)tag;
    for (i = 0; i < size; i++) {
        if (++context[i] != 0) break; /* little-endian, with carry */
    }
    return pagent_remember(step, 1, pagent_current_event(step)->data.data, pagent_current_event(step)->data.size);
}

static int ask(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx, (void)tag;
    return pagent_ask_approval(step, "more", "go on?", 6, PAGENT_FOREVER, NULL);
}

static const pagent_state states[] = {{"counting", NULL, NULL, NULL, NULL, NULL, 0, 0},
                                      {"asking", NULL, "more", ask, NULL, NULL, PAGENT_DEFER, 0},
                                      {"done", NULL, NULL, NULL, NULL, NULL, PAGENT_FINAL, 0}};
static const pagent_transition transitions[] = {{"counting", "add", NULL, add, NULL, 0},
                                                {"counting", "ask", NULL, NULL, "asking", 0},
                                                {"asking", "more.approved", NULL, NULL, "counting", 0},
                                                {"asking", "more.rejected", NULL, NULL, "done", 0},
                                                {"asking", "more.expired", NULL, NULL, "done", 0}};
static const pagent_machine counter = {
    sizeof counter,          1, "counter", NULL, 4, "add ask", NULL, "more", NULL, 0, PAGENT_ROWS(states),
    PAGENT_ROWS(transitions)};
