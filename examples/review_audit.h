/* review_audit.h - the proof: what the journal, the reports and (if there is one) the witness file say about each
   other.

   It trusts no counter of the program that ran. From the journal it walks every version of every document and follows
   each call from the block that issued it to the block that used its answer; from the folder it reads every report
   back; from the witness file it takes what really was begun and written, by processes that were killed since. */

#ifndef REVIEW_AUDIT_H
#define REVIEW_AUDIT_H

#include <dirent.h>

#include "review_cli.h"

enum review_call_end {
    REVIEW_CALL_OPEN,
    REVIEW_CALL_ANSWERED,
    REVIEW_CALL_FAILED,
    REVIEW_CALL_DROPPED
};

typedef struct review_traced_call {
    pagent_effect_id id;
    char name[16];
    char key[PAGENT_KEY_SIZE];
    char *request;
    uint32_t request_size;
    uint32_t attempts;   /* the highest that the journal has seen */
    uint32_t begun;      /* witness: attempts begun */
    uint32_t last_begun; /* witness: the highest attempt begun */
    uint32_t written;    /* witness: how often its report was written */
    uint32_t reports;    /* files with this key */
    int end;             /* enum review_call_end */
    int seen;            /* outstanding at the version that is being looked at */
} review_traced_call;

typedef struct review_audit {
    const char *out;
    int json;
    review_traced_call *calls;
    size_t call_count;
    size_t call_capacity;
    size_t first; /* of the document being walked */
    uint64_t documents, settled, published, waiting, other_ends, blocks, owners;
    uint64_t calls_issued, answers, failures, dropped, repeated, begun, found, reports;
    uint64_t retried; /* of those: after a failure that the journal shows, and not after a kill */
    uint64_t faults;
} review_audit;

static void review_fault_found(review_audit *audit, const char *agent, uint64_t version, const char *what)
{
    audit->faults++;
    if (audit->json) {
        review_print_member(1, "wrong", agent);
        review_print_count("version", version);
        review_print_member(0, "text", what);
        printf("}\n");
        return;
    }
    printf("WRONG: %s", agent);
    if (version != 0) printf(", version %llu", (unsigned long long)version);
    printf(": %s\n", what);
}

/* ---- The journal ----------------------------------------------------------------------------------------------- */

static review_traced_call *review_trace_call(review_audit *audit, const pagent_effect *effect)
{
    review_traced_call *call;
    size_t i;
    for (i = audit->first; i < audit->call_count; i++) {
        call = &audit->calls[i];
        if (call->id.version == effect->id.version && call->id.index == effect->id.index) return call;
    }
    if (audit->call_count == audit->call_capacity) {
        size_t capacity = audit->call_capacity != 0 ? audit->call_capacity * 2 : 64;
        void *grown = realloc(audit->calls, capacity * sizeof *call);
        if (grown == NULL) return NULL;
        audit->calls = (review_traced_call *)grown;
        audit->call_capacity = capacity;
    }
    call = &audit->calls[audit->call_count++];
    memset(call, 0, sizeof *call);
    call->id = effect->id;
    review_copy_text(call->name, sizeof call->name, effect->name, strlen(effect->name));
    review_copy_text(call->key, sizeof call->key, effect->key, strlen(effect->key));
    if (strcmp(call->name, "publish") == 0) call->request = (char *)malloc(effect->payload.size + 1);
    if (call->request != NULL) {
        memcpy(call->request, effect->payload.data, effect->payload.size);
        call->request_size = effect->payload.size;
    }
    audit->calls_issued++;
    return call;
}

/* Notes every call that is outstanding at this version. An attempt may only grow where a new owner claims the document
   or where the last attempt has failed. */
static void review_trace_outstanding(review_audit *audit, const pagent_view *view, const pagent_info *info,
                                     int new_owner, int retry)
{
    uint32_t i;
    for (i = 0; i < info->effect_count; i++) {
        pagent_effect effect;
        review_traced_call *call;
        if (pagent_view_effect(view, i, &effect) != PAGENT_OK || effect.kind != PAGENT_EFFECT_CALL) continue;
        call = review_trace_call(audit, &effect);
        if (call == NULL) {
            review_fault_found(audit, info->name, info->version, "out of memory");
            return;
        }
        if (call->end != REVIEW_CALL_OPEN) {
            review_fault_found(audit, info->name, info->version, "a settled call is outstanding again");
        }
        if (strcmp(call->key, effect.key) != 0) {
            review_fault_found(audit, info->name, info->version, "a call's idempotency key has changed");
        }
        if (call->attempts != 0 && effect.attempt > call->attempts) {
            audit->repeated += effect.attempt - call->attempts;
            if (retry) audit->retried += effect.attempt - call->attempts;
            if (!retry && !new_owner) {
                review_fault_found(audit, info->name, info->version, "a call was repeated while its owner was alive");
            }
        }
        if (effect.attempt > call->attempts) call->attempts = effect.attempt;
        call->seen = 1;
    }
}

static int review_ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/* Calls that were outstanding and no longer are: this block has used their answer, or dropped them. */
static void review_trace_ends(review_audit *audit, const pagent_info *info, const pagent_block_info *block)
{
    int answered = review_ends_with(block->event, ".result"), failed = review_ends_with(block->event, ".failure");
    size_t i;
    uint32_t used = 0;
    if (strcmp(block->outcome, "taken") != 0) answered = failed = 0;
    for (i = audit->first; i < audit->call_count; i++) {
        review_traced_call *call = &audit->calls[i];
        size_t name_size = strlen(call->name);
        if (call->seen || call->end != REVIEW_CALL_OPEN) continue;
        if ((answered || failed) && strncmp(block->event, call->name, name_size) == 0 &&
            block->event[name_size] == '.') {
            call->end = answered ? REVIEW_CALL_ANSWERED : REVIEW_CALL_FAILED;
            used++;
        } else {
            call->end = REVIEW_CALL_DROPPED;
            audit->dropped++;
        }
    }
    if (!answered && !failed) return;
    if (used != 1) review_fault_found(audit, info->name, info->version, "an answer that settles no call, or several");
    if (answered) audit->answers++;
    if (failed) audit->failures++;
}

static void review_walk(review_audit *audit, const char *name, pagent_view *view)
{
    uint64_t version = 0, epoch = 0;
    pagent_info info;
    pagent_block_info block;
    int result = PAGENT_OK;
    size_t i;
    audit->first = audit->call_count;
    while (result == PAGENT_OK) {
        if (pagent_view_info(view, &info) != PAGENT_OK) break;
        for (i = audit->first; i < audit->call_count; i++) audit->calls[i].seen = 0;
        if (pagent_view_block(view, &block) != PAGENT_OK) break;
        review_trace_outstanding(audit, view, &info, info.epoch != epoch, strcmp(block.outcome, "retry") == 0);
        if (pagent_view_block(view, &block) != PAGENT_OK) break; /* again: the effects have used the view's texts */
        if (block.version != version + 1) review_fault_found(audit, name, block.version, "is not the next version");
        if (block.epoch < epoch) review_fault_found(audit, name, block.version, "the epoch went back");
        if (block.epoch != epoch) audit->owners++;
        review_trace_ends(audit, &info, &block);
        version = block.version;
        epoch = block.epoch;
        audit->blocks++;
        result = pagent_view_next(view);
    }
    if (result != PAGENT_END) {
        review_fault_found(audit, name, version, result < 0 ? pagent_message(result) : "cannot be read");
        return;
    }
    audit->documents++;
    if (info.status == PAGENT_DONE || info.status == PAGENT_CANCELLED) {
        audit->settled++;
        if (strcmp(info.state, "published") == 0) audit->published++;
    } else if (info.status == PAGENT_FAILED_STATUS) {
        audit->settled++;
        audit->other_ends++;
        review_fault_found(audit, name, version, "the review failed");
    } else {
        audit->waiting++;
        review_fault_found(audit, name, version, "is not settled");
    }
}

/* ---- The reports ----------------------------------------------------------------------------------------------- */

/* Is the file what the call was asked to write, and its key line, byte for byte? */
static int review_report_is(const char *text, size_t size, const review_traced_call *call)
{
    char last[192];
    uint32_t body_size;
    const char *body = review_body(call->request, call->request_size, &body_size);
    size_t last_size = (size_t)snprintf(last, sizeof last, "\n---\n\n" REVIEW_KEY_LINE "`%s`.\n", call->key);
    return body != NULL && size == body_size + last_size && memcmp(text, body, body_size) == 0 &&
           memcmp(text + body_size, last, last_size) == 0;
}

static void review_check_report(review_audit *audit, const char *name)
{
    static char text[REVIEW_REPORT_MAX + 4096];
    char path[4096];
    FILE *file;
    size_t size, i;
    (void)snprintf(path, sizeof path, "%s/%s", audit->out, name);
    file = fopen(path, "rb");
    if (file == NULL) {
        review_fault_found(audit, name, 0, "cannot be read");
        return;
    }
    size = fread(text, 1, sizeof text - 1, file);
    text[size] = 0;
    (void)fclose(file);
    audit->reports++;
    for (i = 0; i < audit->call_count; i++) {
        review_traced_call *call = &audit->calls[i];
        if (call->request == NULL || strstr(text, call->key) == NULL) continue;
        call->reports++;
        if (!review_report_is(text, size, call)) review_fault_found(audit, name, 0, "differs from what was approved");
        return;
    }
    review_fault_found(audit, name, 0, "is not in any journal");
}

static void review_check_folder(review_audit *audit)
{
    DIR *folder = opendir(audit->out);
    struct dirent *entry;
    size_t i;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (review_ends_with(entry->d_name, ".md")) {
            review_check_report(audit, entry->d_name);
        } else {
            review_fault_found(audit, entry->d_name, 0, "is left over in the folder for reports");
        }
    }
    if (folder != NULL) (void)closedir(folder);
    for (i = 0; i < audit->call_count; i++) {
        const review_traced_call *call = &audit->calls[i];
        uint32_t wanted = strcmp(call->name, "publish") == 0 && call->end == REVIEW_CALL_ANSWERED;
        if (wanted && call->reports != 1) {
            review_fault_found(audit, call->key, 0, "published by the journal, but not one report has this key");
        }
    }
}

/* ---- The witness ----------------------------------------------------------------------------------------------- */

static void review_check_witness_line(review_audit *audit, const char *what, const char *key, unsigned attempt)
{
    size_t i;
    for (i = 0; i < audit->call_count && strcmp(audit->calls[i].key, key) != 0; i++) continue;
    if (i == audit->call_count) {
        review_fault_found(audit, key, 0, "begun, but in no journal");
        return;
    }
    if (strcmp(what, "found") == 0) {
        audit->found++;
        return;
    }
    if (strcmp(what, "wrote") == 0) {
        if (audit->calls[i].written++ != 0) review_fault_found(audit, key, 0, "the report was written twice");
        return;
    }
    audit->begun++;
    if (attempt <= audit->calls[i].last_begun)
        review_fault_found(audit, key, attempt, "the same attempt was begun twice");
    if (attempt > audit->calls[i].attempts)
        review_fault_found(audit, key, attempt, "begun before it was in the journal");
    audit->calls[i].last_begun = attempt;
    audit->calls[i].begun++;
}

static void review_check_witness(review_audit *audit, const char *path)
{
    FILE *file = fopen(path, "r");
    char line[160], what[16], key[PAGENT_KEY_SIZE], number[16], *end;
    size_t i;
    if (file == NULL) {
        review_fault_found(audit, path, 0, "cannot be read");
        return;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned long attempt = 0;
        end = NULL;
        if (sscanf(line, "%15s %79s %15s", what, key, number) == 3) attempt = strtoul(number, &end, 10);
        if (end != NULL && *end == 0 && attempt <= UINT32_MAX) {
            review_check_witness_line(audit, what, key, (unsigned)attempt);
        } else {
            review_fault_found(audit, path, 0, "has a line that is not \"what key attempt\"");
        }
    }
    (void)fclose(file);
    for (i = 0; i < audit->call_count; i++) {
        if (audit->calls[i].end == REVIEW_CALL_ANSWERED && audit->calls[i].begun == 0) {
            review_fault_found(audit, audit->calls[i].key, 0, "answered, but never begun");
        }
    }
}

/* ---- The verdict ----------------------------------------------------------------------------------------------- */

static void review_print_proof(const review_audit *audit, const char *witness)
{
    unsigned long long documents = audit->documents, settled = audit->settled;
    printf("  documents   %llu, settled %llu: %llu published, %llu rejected or cancelled\n", documents, settled,
           (unsigned long long)audit->published, (unsigned long long)(settled - audit->published - audit->other_ends));
    printf("  versions    %llu blocks, contiguous from 1 in every journal; %llu change%s of owner\n",
           (unsigned long long)audit->blocks, (unsigned long long)(audit->owners - documents),
           audit->owners - documents == 1 ? "" : "s");
    printf("  calls       %llu issued, %llu repeated%s", (unsigned long long)audit->calls_issued,
           (unsigned long long)audit->repeated,
           audit->repeated == audit->retried ? "" : ", all of them in flight when their process was killed");
    if (audit->retried != 0)
        printf("%s %llu after a failure", audit->repeated == audit->retried ? "," : " but for",
               (unsigned long long)audit->retried);
    printf("\n");
    if (witness != NULL) {
        printf(
            "  witness     really begun: %llu; a report found written already, by a process that was killed before it "
            "could say so: %llu\n",
            (unsigned long long)audit->begun, (unsigned long long)audit->found);
    }
    printf("  answers     %llu durable, each used once; %llu failure%s, %llu call%s dropped\n",
           (unsigned long long)audit->answers, (unsigned long long)audit->failures, audit->failures == 1 ? "" : "s",
           (unsigned long long)audit->dropped, audit->dropped == 1 ? "" : "s");
    printf("  reports     %llu file%s, each written once, byte for byte what its journal says\n",
           (unsigned long long)audit->reports, audit->reports == 1 ? "" : "s");
}

static void review_print_proof_json(const review_audit *audit)
{
    printf("{\"ok\":%s", audit->faults == 0 ? "true" : "false");
    review_print_count("faults", audit->faults);
    review_print_count("documents", audit->documents);
    review_print_count("settled", audit->settled);
    review_print_count("published", audit->published);
    review_print_count("blocks", audit->blocks);
    review_print_count("owners", audit->owners);
    review_print_count("calls", audit->calls_issued);
    review_print_count("repeated", audit->repeated);
    review_print_count("retried", audit->retried);
    review_print_count("begun", audit->begun);
    review_print_count("answers", audit->answers);
    review_print_count("failures", audit->failures);
    review_print_count("dropped", audit->dropped);
    review_print_count("reports", audit->reports);
    printf("}\n");
}

static int review_finish_audit(review_audit *audit, const review_options *options)
{
    size_t i;
    review_check_folder(audit);
    if (options->witness != NULL) review_check_witness(audit, options->witness);
    if (options->json) review_print_proof_json(audit);
    if (!options->json && audit->faults == 0) review_print_proof(audit, options->witness);
    for (i = 0; i < audit->call_count; i++) free(audit->calls[i].request);
    free(audit->calls);
    return audit->faults == 0 ? REVIEW_EXIT_OK : REVIEW_EXIT_REFUSED;
}

#endif /* REVIEW_AUDIT_H */
