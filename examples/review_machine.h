/* review_machine.h - the agent that reviews one document: its context, its records, its handlers, its tables.

       reading -> summarising -> judging -+-> approval -> (expired) escalated -> (expired) rejected
                   asks a model           |        approved or edited |
                                          +-> publishing <------------+-> published
                                              (a tool call that happens once)

   Include persistent_agent.h first. Nothing here knows files, processes or the network, and nothing needs a libc: the
   same machine runs in a server and in a browser. */

#ifndef REVIEW_MACHINE_H
#define REVIEW_MACHINE_H

#include "review_answer.h"

#define REVIEW_REPORT_MAX (32u * 1024u)
#define REVIEW_EDIT_MAX 8192u /* bytes of a summary that a person has written */

typedef struct review_context { /* journaled as it stands: a store stays with machines of one byte order */
    uint64_t opened_ms;
    uint64_t decided_ms;
    uint32_t threshold;  /* a person decides when the risk is this or more */
    uint32_t deadline_s; /* for each of two questions to a person */
    uint32_t risk;
    uint32_t passages;
    uint32_t words;
    uint32_t lines;
    uint32_t asked;    /* how often the model was asked */
    uint32_t decision; /* enum review_decision */
    char category[24];
    char who[64];
} review_context;

enum review_decision {
    REVIEW_UNDECIDED = 0,
    REVIEW_APPROVED = 1,
    REVIEW_EDITED = 2,
    REVIEW_REJECTED = 3
};

enum review_entry {            /* kinds of transcript entries */
    REVIEW_ENTRY_DOCUMENT = 1, /* the record that the agent was started with */
    REVIEW_ENTRY_ANALYSIS,     /* the model's answer */
    REVIEW_ENTRY_SUMMARY,      /* a summary that a person put in its place */
    REVIEW_ENTRY_NOTE          /* what happened, in words */
};

enum {
    REVIEW_ASK_MAX = 3
}; /* a model whose answers are not usable is asked so many times */

typedef struct review_desk { /* the machine's ctx: room to work on one report at a time */
    review_analysis analysis;
    char report[REVIEW_REPORT_MAX];
    char summary[REVIEW_EDIT_MAX + 1];
} review_desk;

/* ---- Records: texts with a head of "name: value" lines, an empty line, and a body ------------------------------- */

typedef struct review_document { /* points into the record */
    const char *path;
    const char *text;
    uint32_t path_size;
    uint32_t text_size;
    uint32_t threshold;
    uint32_t deadline_s;
} review_document;

#define REVIEW_DOCUMENT_HEAD "review-document 1\n"
#define REVIEW_ACTION_HEAD "review-publish 1\n"

/* The value of "name: " in a record's head; *size is 0 when there is none. */
static const char *review_field(const char *record, size_t record_size, const char *name, uint32_t *size)
{
    const char *at = record, *end = record + record_size;
    *size = 0;
    while (at < end && *at != '\n') {
        const char *line = at, *value;
        while (at < end && *at != '\n') at++;
        value = line + review_length(name);
        if (value + 2 <= at && review_starts(line, name) && value[0] == ':' && value[1] == ' ') {
            *size = (uint32_t)(at - value - 2);
            return value + 2;
        }
        if (at < end) at++;
    }
    return NULL;
}

/* What follows the head. */
static const char *review_body(const char *record, size_t record_size, uint32_t *size)
{
    size_t at;
    for (at = 1; at < record_size; at++) {
        if (record[at] != '\n' || record[at - 1] != '\n') continue;
        *size = (uint32_t)(record_size - at - 1);
        return record + at + 1;
    }
    *size = 0;
    return NULL;
}

static int review_field_number(const char *record, size_t record_size, const char *name, uint32_t max, uint32_t *number)
{
    uint32_t size, i;
    const char *value = review_field(record, record_size, name, &size);
    *number = 0;
    if (size == 0 || size > 9) return 0;
    for (i = 0; i < size; i++) {
        if (!review_is_digit(value[i])) return 0;
        *number = *number * 10 + (uint32_t)(value[i] - '0');
    }
    return *number <= max;
}

static int review_read_document(const void *data, size_t size, review_document *document)
{
    const char *record = (const char *)data;
    if (size < sizeof REVIEW_DOCUMENT_HEAD || !review_starts(record, REVIEW_DOCUMENT_HEAD)) return 0;
    document->path = review_field(record, size, "file", &document->path_size);
    document->text = review_body(record, size, &document->text_size);
    return document->path_size != 0 && document->text_size != 0 && document->text_size <= REVIEW_DOCUMENT_MAX &&
           review_field_number(record, size, "threshold", 101, &document->threshold) &&
           review_field_number(record, size, "deadline", 999999999, &document->deadline_s);
}

/* The record's head; the text follows it. */
static void review_write_document_head(review_out *out, const char *path, uint32_t threshold, uint32_t deadline_s)
{
    review_say(out, REVIEW_DOCUMENT_HEAD "file: ");
    review_say(out, path);
    review_say(out, "\nthreshold: ");
    review_say_number(out, threshold);
    review_say(out, "\ndeadline: ");
    review_say_number(out, deadline_s);
    review_say(out, "\n\n");
}

/* ---- What the agent knows -------------------------------------------------------------------------------------- */

static review_context *review_context_of(pagent_step *step)
{
    uint32_t size;
    return (review_context *)pagent_context(step, &size);
}

/* The newest committed entry of a kind; size 0: none. */
static pagent_bytes review_last_entry(pagent_step *step, uint32_t kind)
{
    uint32_t index = pagent_transcript_count(step);
    pagent_entry entry;
    while (index-- != 0) {
        if (pagent_transcript_entry(step, index, &entry) == PAGENT_OK && entry.kind == kind) return entry.data;
    }
    entry.data.data = "";
    entry.data.size = 0;
    return entry.data;
}

/* Entries of the step that is being handled are not in the transcript yet: then the event still has the bytes. */
static pagent_bytes review_event_or_entry(pagent_step *step, uint32_t event_kind, uint32_t entry_kind)
{
    const pagent_event *event = pagent_current_event(step);
    if (event->kind == event_kind && event->data.size != 0) return event->data;
    return review_last_entry(step, entry_kind);
}

static int review_note(pagent_step *step, const char *first, const char *second, const char *third)
{
    char text[320];
    review_out out = review_out_begin(text, sizeof text);
    review_say(&out, first);
    review_say(&out, second);
    review_say(&out, third);
    return pagent_remember(step, REVIEW_ENTRY_NOTE, text, (uint32_t)out.size);
}

/* Brings the model's answer to the desk, with every quotation looked up. NULL, or what is wrong with the answer. */
static const char *review_take_analysis(review_desk *desk, pagent_step *step)
{
    pagent_bytes answer = review_event_or_entry(step, PAGENT_EVENT_RESULT, REVIEW_ENTRY_ANALYSIS);
    pagent_bytes record = review_last_entry(step, REVIEW_ENTRY_DOCUMENT);
    review_document document;
    const char *wrong = review_read_answer(answer.data, answer.size, &desk->analysis);
    if (wrong != NULL) return wrong;
    if (!review_read_document(record.data, record.size, &document)) return "the document's record is damaged";
    review_check_quotes(&desk->analysis, document.text, document.text_size);
    return NULL;
}

/* ---- The report ------------------------------------------------------------------------------------------------ */

static void review_say_two(review_out *out, uint32_t number)
{
    if (number < 10) review_say(out, "0");
    review_say_number(out, number);
}

/* 2026-11-23 07:04 UTC. Days to a date: the calendar repeats every 400 years, counted from 1 March of year 0. */
static void review_say_time(review_out *out, uint64_t time_ms)
{
    uint64_t minutes = time_ms / 60000, days = minutes / 1440 + 719468;
    uint32_t era = (uint32_t)(days / 146097), day = (uint32_t)(days % 146097);
    uint32_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365, month;
    day -= 365 * year + year / 4 - year / 100;
    month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    review_say_number(out, era * 400 + year + (month >= 10));
    review_say(out, "-");
    review_say_two(out, month < 10 ? month + 3 : month - 9);
    review_say(out, "-");
    review_say_two(out, day + 1);
    review_say(out, " ");
    review_say_two(out, (uint32_t)(minutes / 60 % 24));
    review_say(out, ":");
    review_say_two(out, (uint32_t)(minutes % 60));
    review_say(out, " UTC");
}

static const char *review_risk_word(uint32_t risk)
{
    return risk >= 75 ? "high" : risk >= 50 ? "elevated" : risk >= 25 ? "moderate" : "low";
}

/* The last part of a path. */
static const char *review_base_name(const char *path, uint32_t size, uint32_t *base_size)
{
    uint32_t from = size;
    while (from != 0 && path[from - 1] != '/') from--;
    *base_size = size - from;
    return path + from;
}

static void review_say_decision(review_out *out, const review_context *context)
{
    review_say(out, "\n| Decision | ");
    if (context->decision == REVIEW_UNDECIDED) {
        review_say(out, context->risk >= context->threshold ? "waiting for a person" : "none needed");
    } else {
        review_say(out, context->decision == REVIEW_EDITED ? "summary rewritten and approved by " : "approved by ");
        review_say(out, context->who);
        review_say(out, ", ");
        review_say_time(out, context->decided_ms);
    }
    review_say(out, " |");
}

static void review_say_table(review_out *out, const review_context *context, const review_document *document,
                             const review_analysis *analysis, int edited)
{
    review_say(out, "| | |\n|---|---|\n| Document | `");
    review_add(out, document->path, document->path_size);
    review_say(out, "` |\n| Length | ");
    review_say_number(out, context->words);
    review_say(out, " words on ");
    review_say_number(out, context->lines);
    review_say(out, context->lines == 1 ? " line" : " lines");
    if (context->words >= 460) {
        review_say(out, ": about ");
        review_say_number(out, (context->words + 115) / 230);
        review_say(out, " minutes to read");
    }
    review_say(out, " |\n| Category | ");
    review_say(out, analysis->category);
    review_say(out, " |\n| Risk | **");
    review_say_number(out, analysis->risk);
    review_say(out, "** of 100: ");
    review_say(out, review_risk_word(analysis->risk));
    review_say(out, " (from ");
    review_say_number(out, context->threshold);
    review_say(out, " on a person decides) |\n| Summary by | ");
    review_say(out, edited ? context->who : analysis->model[0] != 0 ? analysis->model : "a language model");
    review_say(out, " |");
    review_say_decision(out, context);
}

static void review_say_passages(review_out *out, const review_analysis *analysis)
{
    uint32_t i;
    review_say(out, "\n\n## What a person should look at\n");
    if (analysis->passage_count == 0) review_say(out, "\nNothing stood out.\n");
    for (i = 0; i < analysis->passage_count; i++) {
        const review_passage *passage = &analysis->passages[i];
        review_say(out, "\n");
        review_say_number(out, i + 1);
        review_say(out, ". **");
        review_say(out, passage->kind);
        review_say(out, "**, ");
        if (passage->line != 0) {
            review_say(out, "line ");
            review_say_number(out, passage->line);
        } else {
            review_say(out, "*not found in the document*");
        }
        review_say(out, ", risk ");
        review_say_number(out, passage->score);
        review_say(out, ". ");
        review_say(out, passage->reason);
        review_say(out, "\n   > ");
        review_say(out, passage->quote);
        review_say(out, "\n");
    }
}

static void review_say_outline(review_out *out, const review_analysis *analysis)
{
    uint32_t i;
    if (analysis->heading_count < 2) return;
    review_say(out, "\n## Outline\n\n");
    for (i = 0; i < analysis->heading_count; i++) {
        review_say(out, "- ");
        review_say(out, analysis->headings[i].title);
        review_say(out, " (line ");
        review_say_number(out, analysis->headings[i].line);
        review_say(out, ")\n");
    }
}

/* The exact action: which file is to be written, and what into it. The same bytes are shown to the person who decides
   and handed to the tool, but for the line that says who decided. */
static int review_compose(review_desk *desk, pagent_step *step, review_out *out)
{
    const review_context *context = review_context_of(step);
    pagent_bytes record = review_last_entry(step, REVIEW_ENTRY_DOCUMENT), edited;
    review_document document;
    const char *name, *wrong = review_take_analysis(desk, step);
    uint32_t name_size;
    if (wrong != NULL) return pagent_fail(step, PAGENT_E_CORRUPT, wrong);
    if (!review_read_document(record.data, record.size, &document)) {
        return pagent_fail(step, PAGENT_E_CORRUPT, "the document's record is damaged");
    }
    edited = review_event_or_entry(step, PAGENT_EVENT_EDITED, REVIEW_ENTRY_SUMMARY);
    if (context->decision != REVIEW_EDITED) edited.size = 0;
    name = review_base_name(document.path, document.path_size, &name_size);
    *out = review_out_begin(desk->report, sizeof desk->report);
    review_say(out, REVIEW_ACTION_HEAD "file: ");
    review_say(out, pagent_agent_name(step));
    review_say(out, ".md\n\n# Review: ");
    review_add(out, name, name_size);
    review_say(out, "\n\n");
    review_say_table(out, context, &document, &desk->analysis, edited.size != 0);
    review_say(out, "\n\n## Summary\n\n");
    if (edited.size != 0) {
        review_add(out, (const char *)edited.data, edited.size);
    } else {
        review_say(out, desk->analysis.summary);
    }
    review_say_passages(out, &desk->analysis);
    review_say_outline(out, &desk->analysis);
    return out->cut ? pagent_fail(step, PAGENT_E_LIMIT, "the report is longer than 32 KiB") : PAGENT_OK;
}

/* ---- Handlers: each changes the context, writes down what happened, and stages what comes next ------------------- */

static void review_count(const review_document *document, review_context *context)
{
    uint32_t i, inside = 0;
    context->lines = document->text[document->text_size - 1] != '\n';
    for (i = 0; i < document->text_size; i++) {
        context->lines += document->text[i] == '\n';
        if (!review_is_word(document->text[i])) {
            inside = 0;
        } else if (!inside) {
            inside = 1;
            context->words++;
        }
    }
}

static int review_on_start(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    review_context *context = review_context_of(step);
    review_document document;
    (void)ctx;
    (void)tag;
    if (!review_read_document(event->data.data, event->data.size, &document)) {
        return pagent_fail(step, PAGENT_E_ARGUMENT, "not a document's record: empty, over 1 MiB, or without its head");
    }
    context->opened_ms = pagent_now_ms(step);
    context->threshold = document.threshold;
    context->deadline_s = document.deadline_s;
    review_count(&document, context);
    return pagent_remember(step, REVIEW_ENTRY_DOCUMENT, event->data.data, event->data.size);
}

/* Entering "summarising": the request is the document's record. */
static int review_ask_model(void *ctx, pagent_step *step, uint32_t tag)
{
    pagent_bytes record = review_event_or_entry(step, PAGENT_EVENT_START, REVIEW_ENTRY_DOCUMENT);
    (void)ctx;
    (void)tag;
    review_context_of(step)->asked++;
    return pagent_begin_call(step, "analyse", record.data, record.size, NULL);
}

static int review_answer_is_usable(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)tag;
    return review_take_analysis((review_desk *)ctx, step) == NULL;
}

static int review_may_ask_again(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)tag;
    return review_context_of(step)->asked < REVIEW_ASK_MAX;
}

static int review_on_answer(void *ctx, pagent_step *step, uint32_t tag)
{
    review_desk *desk = (review_desk *)ctx;
    const pagent_event *event = pagent_current_event(step);
    review_context *context = review_context_of(step);
    (void)tag;
    context->risk = desk->analysis.risk; /* the guard has brought the answer to the desk */
    context->passages = desk->analysis.passage_count;
    review_copy_text(context->category, sizeof context->category, desk->analysis.category,
                     review_length(desk->analysis.category));
    return pagent_remember(step, REVIEW_ENTRY_ANALYSIS, event->data.data, event->data.size);
}

static int review_on_unusable(void *ctx, pagent_step *step, uint32_t tag)
{
    const char *wrong = review_take_analysis((review_desk *)ctx, step);
    return review_note(step, wrong != NULL ? wrong : "", tag != 0 ? "; asked too often" : "; asking again", "");
}

static int review_on_call_failed(void *ctx, pagent_step *step, uint32_t tag)
{
    static const char *const what[] = {"the model gave no answer: ", "the report could not be written: "};
    const pagent_event *event = pagent_current_event(step);
    char text[200];
    (void)ctx;
    review_copy_text(text, sizeof text, (const char *)event->data.data, event->data.size);
    return review_note(step, what[tag], text[0] != 0 ? text : pagent_message(event->code), "");
}

static int review_is_risky(void *ctx, pagent_step *step, uint32_t tag)
{
    const review_context *context = review_context_of(step);
    (void)ctx;
    (void)tag;
    return context->risk >= context->threshold;
}

/* Entering "approval" and "escalated": the question's payload is the exact action. */
static int review_ask_person(void *ctx, pagent_step *step, uint32_t tag)
{
    review_context *context = review_context_of(step);
    uint64_t deadline = PAGENT_FOREVER;
    review_out action = {0};
    int result;
    (void)tag;
    context->decision = REVIEW_UNDECIDED;
    result = review_compose((review_desk *)ctx, step, &action);
    if (result != PAGENT_OK) return result;
    if (context->deadline_s != 0) deadline = pagent_now_ms(step) + (uint64_t)context->deadline_s * 1000;
    return pagent_ask_approval(step, "publication", action.text, (uint32_t)action.size, deadline, NULL);
}

static void review_record_decision(pagent_step *step, uint32_t decision)
{
    const char *who = pagent_current_event(step)->who;
    review_context *context = review_context_of(step);
    context->decision = decision;
    context->decided_ms = pagent_now_ms(step);
    review_copy_text(context->who, sizeof context->who, who, review_length(who));
    if (who[0] == 0) review_copy_text(context->who, sizeof context->who, "somebody", 8);
}

static int review_on_approved(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    (void)tag;
    review_record_decision(step, REVIEW_APPROVED);
    return review_note(step, "approved by ", review_context_of(step)->who, "");
}

static int review_on_edited(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    int result;
    (void)ctx;
    (void)tag;
    review_record_decision(step, event->data.size != 0 ? REVIEW_EDITED : REVIEW_APPROVED);
    if (event->data.size > REVIEW_EDIT_MAX) return pagent_fail(step, PAGENT_E_LIMIT, "the new summary is over 8 KiB");
    result = review_note(step, "summary rewritten by ", review_context_of(step)->who, "");
    if (result != PAGENT_OK || event->data.size == 0) return result;
    return pagent_remember(step, REVIEW_ENTRY_SUMMARY, event->data.data, event->data.size);
}

static int review_on_rejected(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    char text[320];
    review_out note = review_out_begin(text, sizeof text);
    (void)ctx;
    (void)tag;
    review_record_decision(step, REVIEW_REJECTED);
    review_say(&note, "rejected by ");
    review_say(&note, review_context_of(step)->who);
    if (event->data.size != 0) review_say(&note, ": ");
    review_add(&note, (const char *)event->data.data, event->data.size < 200 ? event->data.size : 200);
    return pagent_remember(step, REVIEW_ENTRY_NOTE, text, (uint32_t)note.size);
}

static int review_on_expired(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    if (tag == 0) return review_note(step, "nobody decided in time; asking a second time", "", "");
    review_record_decision(step, REVIEW_REJECTED);
    return review_note(step, "nobody decided in time, twice: rejected", "", "");
}

/* Entering "publishing". */
static int review_publish(void *ctx, pagent_step *step, uint32_t tag)
{
    review_out action = {0};
    int result = review_compose((review_desk *)ctx, step, &action);
    (void)tag;
    if (result != PAGENT_OK) return result;
    return pagent_begin_call(step, "publish", action.text, (uint32_t)action.size, NULL);
}

static int review_on_published(void *ctx, pagent_step *step, uint32_t tag)
{
    const pagent_event *event = pagent_current_event(step);
    char file[160];
    (void)ctx;
    (void)tag;
    review_copy_text(file, sizeof file, (const char *)event->data.data, event->data.size);
    return review_note(step, "published as ", file, "");
}

static int review_on_cancel(void *ctx, pagent_step *step, uint32_t tag)
{
    (void)ctx;
    return tag == 0 ? review_note(step, "cancelled", "", "")
                    : review_note(step, "cancelling came too late: the report is being written", "", "");
}

/* ---- Tables ---------------------------------------------------------------------------------------------------- */

static const pagent_call_spec review_calls[] = {
    /* Every restart with the call under way counts as an attempt: hence so many. A transfer has its own limit. */
    {"analyse", PAGENT_CRASH_REPEAT, PAGENT_CALL_MODEL, 60, 500, 20000, 6 * 3600 * 1000, 0},
    {"publish", PAGENT_CRASH_REPEAT, PAGENT_CALL_IRREVERSIBLE, 60, 500, 20000, 60000, 0}};

enum review_state {
    REVIEW_READING,
    REVIEW_OPEN,
    REVIEW_SUMMARISING,
    REVIEW_JUDGING,
    REVIEW_DECIDING,
    REVIEW_APPROVAL,
    REVIEW_ESCALATED,
    REVIEW_PUBLISHING,
    REVIEW_PUBLISHED,
    REVIEW_REJECTED_STATE,
    REVIEW_CANCELLED,
    REVIEW_FAILED,
    REVIEW_STATE_COUNT
};

/* clang-format off */
static const pagent_state review_states[] = {
    /* name          parent      waits          enter               exit  on_error  flags           tag */
    {"reading",     "open",     NULL,          NULL,               NULL, NULL,     PAGENT_INITIAL, 0},
    {"open",        NULL,       NULL,          NULL,               NULL, "failed", 0,              0},
    {"summarising", "open",     "analyse",     review_ask_model,   NULL, NULL,     0,              0},
    {"judging",     "open",     NULL,          NULL,               NULL, NULL,     0,              0},
    {"deciding",    "open",     NULL,          NULL,               NULL, NULL,     0,              0},
    {"approval",    "deciding", "publication", review_ask_person,  NULL, NULL,     PAGENT_INITIAL, 0},
    {"escalated",   "deciding", "publication", review_ask_person,  NULL, NULL,     0,              1},
    {"publishing",  "open",     "publish",     review_publish,     NULL, NULL,     0,              0},
    {"published",   NULL,       NULL,          NULL,               NULL, NULL,     PAGENT_FINAL,   0},
    {"rejected",    NULL,       NULL,          NULL,               NULL, NULL,     PAGENT_FINAL,   0},
    {"cancelled",   NULL,       NULL,          NULL,               NULL, NULL,     PAGENT_FINAL,   0},
    {"failed",      NULL,       NULL,          NULL,               NULL, NULL,     PAGENT_FINAL | PAGENT_FAILURE, 0}};

static const pagent_transition review_transitions[] = {
    /* from          event                    guard                    action                 to            tag */
    {"reading",     "start",                 NULL,                    review_on_start,       "summarising", 0},
    {"summarising", "analyse.result",        review_answer_is_usable, review_on_answer,      "judging",     0},
    {"summarising", "analyse.result",        review_may_ask_again,    review_on_unusable,    "summarising", 0},
    {"summarising", "analyse.result",        NULL,                    review_on_unusable,    "failed",      1},
    {"summarising", "analyse.failure",       NULL,                    review_on_call_failed, "failed",      0},
    {"judging",     "always",                review_is_risky,         NULL,                  "approval",    0},
    {"judging",     "always",                NULL,                    NULL,                  "publishing",  0},
    {"deciding",    "publication.approved",  NULL,                    review_on_approved,    "publishing",  0},
    {"deciding",    "publication.edited",    NULL,                    review_on_edited,      "publishing",  0},
    {"deciding",    "publication.rejected",  NULL,                    review_on_rejected,    "rejected",    0},
    {"approval",    "publication.expired",   NULL,                    review_on_expired,     "escalated",   0},
    {"escalated",   "publication.expired",   NULL,                    review_on_expired,     "rejected",    1},
    {"publishing",  "publish.result",        NULL,                    review_on_published,   "published",   0},
    {"publishing",  "publish.failure",       NULL,                    review_on_call_failed, "failed",      1},
    {"publishing",  "cancel",                NULL,                    review_on_cancel,      NULL,          1},
    {"open",        "cancel",                NULL,                    review_on_cancel,      "cancelled",   0}};
/* clang-format on */

/* The machine, on this desk. Both outlive the engine. */
static void review_machine(pagent_machine *machine, review_desk *desk)
{
    static const pagent_machine empty;
    *machine = empty;
    machine->size = sizeof *machine;
    machine->version = 1;
    machine->name = "review";
    machine->ctx = desk;
    machine->context_size = sizeof(review_context);
    machine->approvals = "publication";
    machine->calls = review_calls;
    machine->call_count = sizeof review_calls / sizeof review_calls[0];
    machine->states = review_states;
    machine->state_count = sizeof review_states / sizeof review_states[0];
    machine->transitions = review_transitions;
    machine->transition_count = sizeof review_transitions / sizeof review_transitions[0];
}

#endif /* REVIEW_MACHINE_H */
