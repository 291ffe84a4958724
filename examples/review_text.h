/* review_text.h - reads a document without asking anybody: summary, outline, category, and the passages that a
   person should look at before the document goes out.

   The summary is extractive: sentences of the document itself, chosen by how well their words stand for the whole
   (TF-IDF centroid), where they stand, how long they are, and how little they repeat what was chosen before. The
   risks are found by rules over words and phrases, and by a few scanners for secrets, amounts of money and periods of
   time.

   The work is done in slices (review_reader_work), so that a program can read many documents side by side and go on
   answering the rest of the world. No libc: it also runs inside a WebAssembly module. */

#ifndef REVIEW_TEXT_H
#define REVIEW_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "review_words.h"

#define REVIEW_DOCUMENT_MAX (1024u * 1024u) /* bytes of one document */
#define REVIEW_PASSAGES_MAX 12u
#define REVIEW_HEADINGS_MAX 24u
#define REVIEW_SENTENCES_MAX 7u /* of a summary */
#define REVIEW_SUMMARY_SIZE 3072u

typedef struct review_passage {
    uint32_t line;  /* where it begins; 0: not found in the document */
    uint32_t score; /* 0 ... 100 */
    char kind[32];
    char quote[420];
    char reason[200];
} review_passage;

typedef struct review_heading {
    uint32_t line;
    char title[80];
} review_heading;

typedef struct review_analysis { /* what any model, built in or remote, has to say about a document */
    char model[48];
    char category[24];
    char summary[REVIEW_SUMMARY_SIZE]; /* Markdown */
    uint32_t risk;                     /* 0 ... 100, of the whole */
    uint32_t passage_count;
    uint32_t heading_count;
    review_passage passages[REVIEW_PASSAGES_MAX];
    review_heading headings[REVIEW_HEADINGS_MAX];
} review_analysis;

typedef struct review_memory { /* realloc with the old size, as pagent_host has it */
    void *(*allocate)(void *ctx, void *old, size_t old_size, size_t new_size);
    void *ctx;
} review_memory;

/* ---- Text ------------------------------------------------------------------------------------------------------ */

typedef struct review_out { /* text built piece by piece into a fixed buffer, always terminated */
    char *text;
    size_t size;
    size_t capacity; /* with the final zero */
    int cut;         /* something did not fit and was left out */
} review_out;

static review_out review_out_begin(char *buffer, size_t capacity)
{
    review_out out = {buffer, 0, capacity, 0};
    buffer[0] = 0;
    return out;
}

static size_t review_length(const char *text)
{
    size_t length = 0;
    while (text[length] != 0) length++;
    return length;
}

static int review_same(const char *left, const char *right)
{
    while (*left != 0 && *left == *right) left++, right++;
    return *left == *right;
}

static void review_add(review_out *out, const char *piece, size_t size)
{
    size_t i;
    if (out->size + size + 1 > out->capacity) {
        out->cut = 1;
        return;
    }
    for (i = 0; i < size; i++) out->text[out->size + i] = piece[i];
    out->size += size;
    out->text[out->size] = 0;
}

static void review_say(review_out *out, const char *piece)
{
    review_add(out, piece, review_length(piece));
}

static void review_say_number(review_out *out, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + (char)(number % 10u));
        number /= 10u;
    } while (number != 0);
    review_add(out, digits + at, sizeof digits - at);
}

/* Copies what fits, never half a character of UTF-8. */
static void review_copy_text(char *to, size_t capacity, const char *from, size_t size)
{
    size_t i;
    if (size >= capacity) {
        size = capacity - 1;
        while (size != 0 && ((unsigned char)from[size] & 0xC0u) == 0x80u) size--;
    }
    for (i = 0; i < size; i++) to[i] = from[i];
    to[size] = 0;
}

static int review_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static int review_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int review_is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static int review_is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

/* Letters of any script: every byte outside ASCII counts as one. */
static int review_is_letter(char c)
{
    return review_is_upper(c) || review_is_lower(c) || (unsigned char)c >= 0x80u;
}

static int review_is_word(char c)
{
    return review_is_letter(c) || review_is_digit(c);
}

static char review_lower(char c)
{
    return review_is_upper(c) ? (char)(c + 32) : c;
}

static float review_root(float x)
{
    float guess = x > 1.0f ? x : 1.0f;
    int i;
    for (i = 0; i < 24; i++) guess = 0.5f * (guess + x / guess);
    return guess;
}

/* log2, exact at powers of two and straight lines between them: good enough to weigh words. */
static float review_log2(float x)
{
    float result = 0;
    while (x >= 2.0f) x *= 0.5f, result += 1.0f;
    return result + (x - 1.0f);
}

enum {
    REVIEW_CATEGORY_COUNT = sizeof review_categories / sizeof review_categories[0],
    REVIEW_CATEGORY_WORDS = 20,     /* of one category, at most */
    REVIEW_CATEGORY_SENTENCES = 200 /* the front of a long document is enough */
};

/* ---- Sentences ------------------------------------------------------------------------------------------------- */

enum review_kind {
    REVIEW_PROSE = 1,
    REVIEW_ITEM,
    REVIEW_HEADING,
    REVIEW_CODE,
    REVIEW_TABLE
};

typedef struct review_sentence { /* a piece of the document; code and tables count a line as one */
    uint32_t start;
    uint32_t size;
    uint32_t line;
    uint32_t section; /* how many headings came before */
    uint32_t term_first;
    uint32_t term_count;
    uint32_t words;
    uint32_t place; /* in its section, from 0 */
    float score;
    uint8_t kind;
    uint8_t chosen;
} review_sentence;

typedef struct review_term {
    uint32_t start; /* where it stands first */
    uint32_t size;
    uint32_t count;
    uint32_t sentences;
    uint32_t last_sentence;
    float weight;
} review_term;

enum review_phase {
    REVIEW_PHASE_SPLIT,
    REVIEW_PHASE_TERMS,
    REVIEW_PHASE_WEIGH,
    REVIEW_PHASE_CATEGORY,
    REVIEW_PHASE_SCORE,
    REVIEW_PHASE_CHOOSE,
    REVIEW_PHASE_RISKS,
    REVIEW_PHASE_DONE
};

typedef struct review_reader {
    const char *text; /* borrowed until the reader is closed */
    size_t size;
    review_memory memory;
    int phase;
    int failed; /* out of memory */
    size_t cursor;

    uint32_t line; /* splitting: where the cursor is */
    uint32_t section;
    uint32_t place;
    uint32_t paragraph_start;
    uint32_t paragraph_end;
    uint32_t paragraph_line;
    uint32_t paragraph_lines;
    uint8_t paragraph_kind;
    char fence; /* inside a fenced block: its character */
    int markdown;
    int appendix; /* scoring: what follows is no longer the document proper */

    review_sentence *sentences;
    uint32_t sentence_count, sentence_capacity;
    uint32_t *tokens; /* terms of all sentences, one after the other */
    uint32_t token_count, token_capacity;
    review_term *terms;
    uint32_t term_count, term_capacity;
    uint32_t *buckets; /* open addressing: term + 1 */
    uint32_t bucket_count;
    uint32_t word_count;
    uint32_t category_counts[REVIEW_CATEGORY_COUNT][REVIEW_CATEGORY_WORDS];
    uint32_t chosen[REVIEW_SENTENCES_MAX]; /* of the summary */
    uint32_t chosen_count;

    review_analysis *result;
} review_reader;

/* Grows an array by doubling; 0 when there is no memory. */
static int review_grow(review_reader *reader, void **array, uint32_t *capacity, uint32_t need, size_t item)
{
    uint32_t wanted = *capacity != 0 ? *capacity : 64;
    void *grown;
    if (need <= *capacity) return 1;
    while (wanted < need) wanted *= 2;
    grown = reader->memory.allocate(reader->memory.ctx, *array, *capacity * item, wanted * item);
    if (grown == NULL) {
        reader->failed = 1;
        return 0;
    }
    *array = grown;
    *capacity = wanted;
    return 1;
}

static void review_add_sentence(review_reader *reader, uint32_t start, uint32_t end, uint32_t line, uint8_t kind)
{
    review_sentence *sentence;
    void *array = reader->sentences;
    while (start < end && review_is_space(reader->text[start])) {
        if (reader->text[start] == '\n') line++;
        start++;
    }
    while (end > start && review_is_space(reader->text[end - 1])) end--;
    if (start == end) return;
    if (!review_grow(reader, &array, &reader->sentence_capacity, reader->sentence_count + 1, sizeof *sentence)) return;
    reader->sentences = (review_sentence *)array;
    if (kind == REVIEW_HEADING) {
        reader->section++;
        reader->place = 0;
    }
    sentence = &reader->sentences[reader->sentence_count++];
    sentence->start = start;
    sentence->size = end - start;
    sentence->line = line;
    sentence->section = reader->section;
    sentence->term_first = 0;
    sentence->term_count = 0;
    sentence->words = 0;
    sentence->place = reader->place;
    sentence->score = 0;
    sentence->kind = kind;
    sentence->chosen = 0;
    if (kind == REVIEW_PROSE || kind == REVIEW_ITEM) reader->place++;
}

/* Is the dot at `at` the end of an abbreviation, an initial or a number rather than of a sentence? */
static int review_is_abbreviation(const char *text, uint32_t start, uint32_t at)
{
    static const char *const known[] = {"e.g",   "i.e",  "etc",  "cf",  "vs", "no",     "mr",   "mrs",
                                        "ms",    "dr",   "inc",  "ltd", "co", "st",     "corp", "art",
                                        "sec",   "fig",  "p",    "pp",  "al", "approx", "v",    "u.s",
                                        "a.k.a", "resp", "incl", "viz", "ca", "vol",    "ch",   NULL};
    char word[12];
    uint32_t from = at, i, size;
    while (from > start && (review_is_word(text[from - 1]) || text[from - 1] == '.')) from--;
    size = at - from;
    if (size == 0 || size >= sizeof word) return 0;
    if (size == 1 && review_is_upper(text[from])) return 1;
    for (i = 0; i < size; i++) word[i] = review_lower(text[from + i]);
    word[size] = 0;
    for (i = 0; known[i] != NULL; i++) {
        if (review_same(word, known[i])) return 1;
    }
    /* A paragraph's number: "2. Grant ..." */
    for (i = 0; i < size && (review_is_digit(word[i]) || word[i] == '.'); i++) continue;
    return i == size && from <= start + 1;
}

static int review_opens_sentence(char c)
{
    return review_is_upper(c) || review_is_digit(c) || (unsigned char)c >= 0x80u || c == '"' || c == '\'' || c == '(' ||
           c == '[' || c == '`' || c == '*' || c == '_' || c == '<';
}

/* Where the sentence that begins at `from` ends; not behind `end`. */
static uint32_t review_sentence_end(const char *text, uint32_t from, uint32_t end)
{
    uint32_t at;
    int code = 0, depth = 0;
    for (at = from; at < end; at++) {
        char c = text[at];
        uint32_t after = at + 1, next;
        if (c == '`') code = !code;
        if (code && at - from < 400) continue;
        if (c == '(') depth++;
        if (c == ')' && depth > 0) depth--;
        if (c == ';' && at - from > 240 && depth == 0) return after;
        if (c != '.' && c != '!' && c != '?') continue;
        if (depth > 0 && at - from < 300) continue;
        while (after < end && (text[after] == '"' || text[after] == ')' || text[after] == '*' || text[after] == '\''))
            after++;
        if (after < end && !review_is_space(text[after])) continue;
        if (c == '.' && review_is_abbreviation(text, from, at)) continue;
        for (next = after; next < end && review_is_space(text[next]); next++) continue;
        if (next == end || review_opens_sentence(text[next])) return after;
    }
    return end;
}

/* "2. Grant of Patent License. Subject to ...": how long the title in front of the text is; 0: there is none. */
static uint32_t review_run_in_title(const char *text, uint32_t start, uint32_t end)
{
    uint32_t at = start, words = 0, capitals = 0;
    if (at == end || !review_is_digit(text[at])) return 0;
    while (at < end && (review_is_digit(text[at]) || text[at] == '.' || text[at] == ')')) at++;
    while (at < end && review_is_space(text[at])) at++;
    while (at < end && at - start < 80) {
        if (text[at] == '.' && at + 1 < end && review_is_space(text[at + 1])) {
            return words != 0 && words <= 9 && capitals * 2 >= words ? at + 1 - start : 0;
        }
        if (!review_is_letter(text[at]) && text[at] != ' ' && text[at] != ',' && text[at] != '-' && text[at] != '\'')
            return 0;
        if (review_is_letter(text[at]) && !review_is_letter(text[at - 1])) {
            words++;
            if (review_is_upper(text[at])) capitals++;
        }
        at++;
    }
    return 0;
}

static void review_end_paragraph(review_reader *reader)
{
    uint32_t at = reader->paragraph_start, end = reader->paragraph_end, line = reader->paragraph_line;
    uint32_t title, next, i;
    if (reader->paragraph_lines == 0) return;
    reader->paragraph_lines = 0;
    title = review_run_in_title(reader->text, at, end);
    if (title != 0) {
        review_add_sentence(reader, at, at + title, line, REVIEW_HEADING);
        for (i = at; i < at + title; i++) line += reader->text[i] == '\n';
        at += title;
    }
    while (at < end) {
        next = review_sentence_end(reader->text, at, end);
        review_add_sentence(reader, at, next, line, reader->paragraph_kind);
        for (i = at; i < next; i++) line += reader->text[i] == '\n';
        at = next;
    }
}

/* The size of a list marker ("- ", "1. ", "(a) ", "b) ") at the start of a line; 0: none. */
static uint32_t review_marker(const char *line, uint32_t size)
{
    uint32_t at = 0, body;
    if (size < 3) return 0;
    if ((line[0] == '-' || line[0] == '*' || line[0] == '+') && line[1] == ' ') return 2;
    if (size > 4 && (unsigned char)line[0] == 0xE2 && (unsigned char)line[1] == 0x80 && (unsigned char)line[2] == 0xA2)
        return 3;
    if (line[0] == '(') at = 1;
    body = at;
    while (at < size && at - body < 4 && review_is_digit(line[at])) at++;
    if (at == body && (review_is_lower(line[at]) || review_is_upper(line[at]))) at++;
    if (at == body || at + 1 >= size) return 0;
    if (line[at] != ')' && (line[at] != '.' || !review_is_digit(line[body]))) return 0;
    return review_is_space(line[at + 1]) ? at + 2 : 0;
}

/* In text without Markdown a heading is a short line on its own: numbered, in capitals, or with its words
   capitalised. */
static int review_is_plain_heading(const char *line, uint32_t size)
{
    uint32_t i, letters = 0, capitals = 0, words = 0, big_words = 0;
    char last = line[size - 1];
    int numbered = review_is_digit(line[0]) || (size > 8 && line[0] == 'A' && line[1] == 'R' && line[2] == 'T');
    if (size < 4 || size > 76 || last == ',' || last == ';' || last == ':' || (last == '.' && !numbered)) return 0;
    for (i = 0; i < size; i++) {
        if (line[i] == '@' || line[i] == '/' || line[i] == '<' || line[i] == '=') return 0;
        if (!review_is_letter(line[i])) continue;
        letters++;
        if (review_is_upper(line[i])) capitals++;
        if (i == 0 || review_is_space(line[i - 1])) {
            uint32_t word = i;
            while (word < size && review_is_letter(line[word])) word++;
            if (word - i < 4 && i != 0) continue; /* of, and, the */
            words++;
            if (review_is_upper(line[i])) big_words++;
        }
    }
    if (letters < 4 || words == 0 || words > 9) return 0;
    if (line[0] == '(' || line[0] == '"' || line[0] == '<') return 0;
    if (size > 9 && line[0] == 'C' && line[1] == 'o' && line[2] == 'p' && line[3] == 'y' && line[9] == ' ') return 0;
    return big_words == words || capitals == letters || (numbered && review_is_upper(line[size > 3 ? 3 : 0]));
}

static int review_is_rule(const char *line, uint32_t size)
{
    uint32_t i;
    for (i = 0; i < size; i++) {
        if (review_is_word(line[i])) return 0;
    }
    return size != 0;
}

static int review_is_table(const review_reader *reader, const char *line, uint32_t size)
{
    uint32_t i, bars = 0;
    if (line[0] == '|') return 1;
    for (i = 1; i + 1 < size; i++) bars += line[i] == '|' && line[i - 1] == ' ' && line[i + 1] == ' ';
    return reader->markdown && bars >= 2;
}

/* Is the line behind the one that ends at `at` empty? */
static int review_blank_follows(const review_reader *reader, size_t at)
{
    for (at++; at < reader->size && reader->text[at] != '\n'; at++) {
        if (!review_is_space(reader->text[at])) return 0;
    }
    return 1;
}

static void review_begin_paragraph(review_reader *reader, uint32_t start, uint32_t end, uint8_t kind)
{
    reader->paragraph_start = start;
    reader->paragraph_end = end;
    reader->paragraph_line = reader->line;
    reader->paragraph_lines = 1;
    reader->paragraph_kind = kind;
}

/* One line of the document: `start` ... `end` without surrounding white space, `line_end` where the newline is. */
static void review_split_line(review_reader *reader, uint32_t start, uint32_t end, uint32_t indent, size_t line_end)
{
    const char *line = reader->text + start;
    uint32_t size = end - start, marker, hashes = 0;
    if (size == 0) {
        review_end_paragraph(reader);
        return;
    }
    if (size >= 3 && (line[0] == '`' || line[0] == '~') && line[1] == line[0] && line[2] == line[0] &&
        (reader->fence == 0 || reader->fence == line[0])) {
        review_end_paragraph(reader);
        reader->fence = reader->fence == 0 ? line[0] : 0;
        return;
    }
    if (reader->fence != 0 ||
        (reader->markdown && indent >= 4 && reader->paragraph_lines == 0 && review_marker(line, size) == 0)) {
        review_add_sentence(reader, start, end, reader->line, REVIEW_CODE);
        return;
    }
    while (hashes < size && line[hashes] == '#') hashes++;
    if (reader->markdown && hashes != 0 && hashes <= 6 && hashes < size && line[hashes] == ' ') {
        review_end_paragraph(reader);
        review_add_sentence(reader, start + hashes, end, reader->line, REVIEW_HEADING);
        return;
    }
    if (review_is_rule(line, size)) { /* under a single line it makes that line a heading */
        if (reader->paragraph_lines == 1 && size >= 3 && (line[0] == '=' || line[0] == '-')) {
            review_add_sentence(reader, reader->paragraph_start, reader->paragraph_end, reader->paragraph_line,
                                REVIEW_HEADING);
            reader->paragraph_lines = 0;
        }
        if (line[0] != '|') review_end_paragraph(reader);
        return;
    }
    if (review_is_table(reader, line, size) || (line[0] == '<' && line[size - 1] == '>')) {
        review_end_paragraph(reader);
        review_add_sentence(reader, start, end, reader->line, REVIEW_TABLE);
        return;
    }
    if (line[0] == '>' && size > 2) start += 2, line += 2, size -= 2;
    if (reader->paragraph_lines == 0 && review_blank_follows(reader, line_end) && review_is_plain_heading(line, size)) {
        review_add_sentence(reader, start, end, reader->line, REVIEW_HEADING);
        return;
    }
    marker = review_marker(line, size);
    if (marker != 0 && line[0] == '*' && line[size - 1] == '*' && size > 8) { /* a box drawn around a paragraph */
        for (end--; end > start + 2 && review_is_space(reader->text[end - 1]);) end--;
        if (reader->paragraph_lines == 0) review_begin_paragraph(reader, start + marker, end, REVIEW_PROSE);
        reader->paragraph_end = end;
        reader->paragraph_lines++;
    } else if (marker != 0) {
        review_end_paragraph(reader);
        if (review_run_in_title(reader->text, start, end) != 0) marker = 0; /* the number belongs to the title */
        review_begin_paragraph(reader, start + marker, end, REVIEW_ITEM);
    } else if (reader->paragraph_lines == 0) {
        review_begin_paragraph(reader, start, end, REVIEW_PROSE);
    } else {
        reader->paragraph_end = end;
        reader->paragraph_lines++;
    }
}

static void review_split(review_reader *reader, uint32_t lines)
{
    while (lines-- != 0 && reader->cursor < reader->size) {
        size_t at = reader->cursor, end = at, first;
        uint32_t indent = 0;
        while (end < reader->size && reader->text[end] != '\n') end++;
        for (first = at; first < end && review_is_space(reader->text[first]); first++)
            indent += reader->text[first] == '\t' ? 4 : 1;
        at = end;
        while (at > first && review_is_space(reader->text[at - 1])) at--;
        review_split_line(reader, (uint32_t)first, (uint32_t)at, indent, end);
        reader->cursor = end + 1;
        reader->line++;
    }
    if (reader->cursor >= reader->size) review_end_paragraph(reader);
}

/* Markdown shows itself by a heading with '#' or a fence at the start of a line. */
static int review_looks_like_markdown(const char *text, size_t size)
{
    size_t at;
    for (at = 0; at + 3 < size; at++) {
        if (at != 0 && text[at - 1] != '\n') continue;
        if (text[at] == '`' && text[at + 1] == '`' && text[at + 2] == '`') return 1;
        if (text[at] == '#' &&
            (text[at + 1] == ' ' || (text[at + 1] == '#' && (text[at + 2] == ' ' || text[at + 2] == '#'))))
            return 1;
    }
    return 0;
}

/* ---- Words ----------------------------------------------------------------------------------------------------- */

static int review_is_stop_word(const char *word)
{
    size_t low = 0, high = sizeof review_stop_words / sizeof review_stop_words[0];
    while (low < high) {
        size_t middle = (low + high) / 2, i = 0;
        const char *other = review_stop_words[middle];
        while (word[i] != 0 && word[i] == other[i]) i++;
        if (word[i] == other[i]) return 1;
        if ((unsigned char)word[i] < (unsigned char)other[i]) high = middle;
        else low = middle + 1;
    }
    return 0;
}

/* "licenses" and "license", "copies" and "copy" are one term. */
static uint32_t review_stem(char *word, uint32_t size)
{
    if (size > 4 && word[size - 1] == 's' && word[size - 2] == 'e' && word[size - 3] == 'i') {
        word[size - 3] = 'y';
        size -= 2;
    } else if (size > 3 && word[size - 1] == 's' && word[size - 2] != 's' && word[size - 2] != 'u' &&
               word[size - 2] != 'i') {
        size--;
    }
    word[size] = 0;
    return size;
}

static uint32_t review_hash(const char *word, uint32_t size)
{
    uint32_t hash = 2166136261u, i;
    for (i = 0; i < size; i++) hash = (hash ^ (unsigned char)word[i]) * 16777619u;
    return hash ^ hash >> 15;
}

/* The next word at or behind *at, lower case and stemmed, into `word`; 0: no more. Sets *raw to its length in the
   text. */
static uint32_t review_next_word(const char *text, uint32_t *at, uint32_t end, char word[32], uint32_t *raw)
{
    uint32_t from, size = 0;
    while (*at < end && !review_is_letter(text[*at])) *at += 1;
    if (*at == end) return 0;
    from = *at;
    while (*at < end && (review_is_word(text[*at]) || ((text[*at] == '\'' || text[*at] == '-') && *at + 1 < end &&
                                                       review_is_letter(text[*at + 1])))) {
        if (size < 31) word[size++] = review_lower(text[*at]);
        *at += 1;
    }
    *raw = *at - from;
    if (size > 2 && word[size - 2] == '\'' && word[size - 1] == 's') size -= 2;
    word[size] = 0;
    return size;
}

static int review_term_is(const review_reader *reader, const review_term *term, const char *word, uint32_t size)
{
    char other[32];
    uint32_t at = term->start, raw, length = review_next_word(reader->text, &at, term->start + term->size, other, &raw),
             i;
    length = review_stem(other, length);
    if (length != size) return 0;
    for (i = 0; i < size && other[i] == word[i]; i++) continue;
    return i == size;
}

static int review_grow_buckets(review_reader *reader)
{
    uint32_t count = reader->bucket_count != 0 ? reader->bucket_count * 2 : 1024, i;
    size_t old_size = reader->bucket_count * sizeof *reader->buckets;
    uint32_t *buckets = (uint32_t *)reader->memory.allocate(reader->memory.ctx, NULL, 0, count * sizeof *buckets);
    if (buckets == NULL) {
        reader->failed = 1;
        return 0;
    }
    for (i = 0; i < count; i++) buckets[i] = 0;
    for (i = 0; i < reader->term_count; i++) {
        const review_term *term = &reader->terms[i];
        char word[32];
        uint32_t at = term->start, raw, slot;
        uint32_t size = review_next_word(reader->text, &at, term->start + term->size, word, &raw);
        size = review_stem(word, size);
        slot = review_hash(word, size) & (count - 1);
        while (buckets[slot] != 0) slot = (slot + 1) & (count - 1);
        buckets[slot] = i + 1;
    }
    if (reader->buckets != NULL) (void)reader->memory.allocate(reader->memory.ctx, reader->buckets, old_size, 0);
    reader->buckets = buckets;
    reader->bucket_count = count;
    return 1;
}

/* The number of a term, new or known; UINT32_MAX without memory. */
static uint32_t review_term_of(review_reader *reader, const char *word, uint32_t size, uint32_t start, uint32_t raw)
{
    void *array = reader->terms;
    review_term *term;
    uint32_t slot;
    if (reader->term_count * 2 >= reader->bucket_count && !review_grow_buckets(reader)) return UINT32_MAX;
    slot = review_hash(word, size) & (reader->bucket_count - 1);
    while (reader->buckets[slot] != 0) {
        if (review_term_is(reader, &reader->terms[reader->buckets[slot] - 1], word, size))
            return reader->buckets[slot] - 1;
        slot = (slot + 1) & (reader->bucket_count - 1);
    }
    if (!review_grow(reader, &array, &reader->term_capacity, reader->term_count + 1, sizeof *term)) return UINT32_MAX;
    reader->terms = (review_term *)array;
    term = &reader->terms[reader->term_count];
    term->start = start;
    term->size = raw;
    term->count = term->sentences = 0;
    term->last_sentence = UINT32_MAX;
    term->weight = 0;
    reader->buckets[slot] = ++reader->term_count;
    return reader->term_count - 1;
}

static void review_count_terms(review_reader *reader, uint32_t index)
{
    review_sentence *sentence = &reader->sentences[index];
    uint32_t at = sentence->start, end = sentence->start + sentence->size, raw, size;
    char word[32];
    sentence->term_first = reader->token_count;
    while ((size = review_next_word(reader->text, &at, end, word, &raw)) != 0) {
        void *array = reader->tokens;
        uint32_t term;
        sentence->words++;
        if (size < 3 || review_is_stop_word(word)) continue;
        size = review_stem(word, size);
        term = review_term_of(reader, word, size, at - raw, raw);
        if (term == UINT32_MAX ||
            !review_grow(reader, &array, &reader->token_capacity, reader->token_count + 1, sizeof *reader->tokens))
            return;
        reader->tokens = (uint32_t *)array;
        reader->tokens[reader->token_count++] = term;
        sentence->term_count++;
        if (sentence->kind == REVIEW_CODE || sentence->kind == REVIEW_TABLE) continue;
        reader->terms[term].count++;
        if (reader->terms[term].last_sentence == index) continue;
        reader->terms[term].last_sentence = index;
        reader->terms[term].sentences++;
    }
    if (sentence->kind != REVIEW_CODE) reader->word_count += sentence->words;
}

/* Words that come often here, but not in every sentence, stand for the document. Words of headings count more. */
static void review_weigh_terms(review_reader *reader)
{
    uint32_t i, k, prose = 0;
    for (i = 0; i < reader->sentence_count; i++) prose += reader->sentences[i].kind <= REVIEW_HEADING;
    for (i = 0; i < reader->term_count; i++) {
        review_term *term = &reader->terms[i];
        if (term->sentences == 0) continue;
        term->weight =
            review_log2(1.0f + (float)term->count) * review_log2(1.0f + (float)prose / (float)term->sentences);
        if (term->count == 1) term->weight *= 0.4f; /* said once: a detail */
    }
    for (i = 0; i < reader->sentence_count; i++) {
        const review_sentence *sentence = &reader->sentences[i];
        if (sentence->kind != REVIEW_HEADING) continue;
        for (k = 0; k < sentence->term_count; k++) {
            review_term *term = &reader->terms[reader->tokens[sentence->term_first + k]];
            if (term->last_sentence == UINT32_MAX) continue; /* has had its share */
            term->weight *= i < 3 ? 1.5f : 1.25f;
            term->last_sentence = UINT32_MAX;
        }
    }
}

/* ---- Matching -------------------------------------------------------------------------------------------------- */

#define REVIEW_PLAIN_SIZE 2048u

/* A sentence as rules see it: lower case, one space between words and at both ends, curly quotes straightened. */
static void review_plain(const char *text, uint32_t size, char plain[REVIEW_PLAIN_SIZE])
{
    uint32_t i, at = 1;
    plain[0] = ' ';
    for (i = 0; i < size && at < REVIEW_PLAIN_SIZE - 3; i++) {
        char c = review_lower(text[i]);
        if (i + 2 < size && (unsigned char)c == 0xE2 && (unsigned char)text[i + 1] == 0x80 &&
            (unsigned char)text[i + 2] >= 0x98 && (unsigned char)text[i + 2] <= 0x9D) {
            c = (unsigned char)text[i + 2] <= 0x99 ? '\'' : '"';
            i += 2;
        }
        if (review_is_space(c) || c == '*' || c == '_') c = c == '_' ? '_' : ' ';
        if (c == ' ' && plain[at - 1] == ' ') continue;
        plain[at++] = c;
    }
    if (plain[at - 1] != ' ') plain[at++] = ' ';
    plain[at] = 0;
}

/* Where `phrase` (up to '|', '&' or the end) begins a word of `plain`; NULL: nowhere. */
static const char *review_find_phrase(const char *plain, const char *phrase)
{
    const char *at;
    for (at = plain; *at != 0; at++) {
        size_t i = 0;
        if (*at != *phrase || (at != plain && review_is_word(at[-1]) && review_is_word(*at))) continue;
        while (phrase[i] != 0 && phrase[i] != '|' && phrase[i] != '&' && at[i] == phrase[i]) i++;
        if (phrase[i] == 0 || phrase[i] == '|' || phrase[i] == '&') return at;
    }
    return NULL;
}

/* A pattern: groups joined by '&', all of which must be found; a group is phrases joined by '|', or, after '!', phrases
   none of which may be found. Phrases match the beginnings of words: "warrant" finds "warranties". */
static int review_matches(const char *plain, const char *pattern)
{
    while (*pattern != 0) {
        int found = 0, none = *pattern == '!';
        if (none) pattern++;
        for (;;) {
            if (!found && review_find_phrase(plain, pattern) != NULL) found = 1;
            while (*pattern != 0 && *pattern != '|' && *pattern != '&') pattern++;
            if (*pattern != '|') break;
            pattern++;
        }
        if (found == none) return 0;
        if (*pattern == '&') pattern++;
    }
    return 1;
}

/* ---- Summary --------------------------------------------------------------------------------------------------- */

static float review_similarity(const review_reader *reader, const review_sentence *left, const review_sentence *right)
{
    float both = 0, of_left = 0, of_right = 0;
    uint32_t i, k;
    for (i = 0; i < left->term_count; i++) {
        uint32_t term = reader->tokens[left->term_first + i];
        float weight = reader->terms[term].weight;
        of_left += weight * weight;
        for (k = 0; k < right->term_count && reader->tokens[right->term_first + k] != term; k++) continue;
        if (k < right->term_count) both += weight * weight;
    }
    for (k = 0; k < right->term_count; k++) {
        float weight = reader->terms[reader->tokens[right->term_first + k]].weight;
        of_right += weight * weight;
    }
    return of_left > 0 && of_right > 0 ? both / review_root(of_left * of_right) : 0;
}

/* What the form of a sentence says about its worth in a summary, whatever its words mean. */
static float review_form(const review_reader *reader, const review_sentence *sentence)
{
    static const char *const says[] = {
        " this document| this license| this agreement| this licence| this policy| this page",
        " purpose| goal| in short| in summary| means that| therefore| important| designed to",
        " permission| permitted| grant| allow| require| must | provided that| condition",
        " you may | you must | you can | your rights| the right to", " is a | are the | is the | is an "};
    static const char *const leans[] = {" however", " but ",   " and ",      " or ",         " these ",
                                        " those ",  " such ",  " it ",       " they ",       " this is ",
                                        " also ",   " if not", " otherwise", " for example", " then ",
                                        " so ",     " thus ",  " that ",     " see ",        " note that"};
    char plain[REVIEW_PLAIN_SIZE];
    float form = 1.0f;
    uint32_t i, signs = 0, letters = 0;
    char last = reader->text[sentence->start + sentence->size - 1];
    review_plain(reader->text + sentence->start, sentence->size, plain);
    for (i = 0; i < sizeof says / sizeof says[0]; i++) {
        if (review_matches(plain, says[i])) form *= 1.1f;
    }
    for (i = 0; i < sizeof leans / sizeof leans[0]; i++) {
        if (review_find_phrase(plain, leans[i]) == plain) form *= 0.6f; /* leans on the sentence before */
    }
    for (i = 0; i < sentence->size; i++) {
        char c = reader->text[sentence->start + i];
        letters += (uint32_t)review_is_letter(c);
        signs += !review_is_word(c) && !review_is_space(c) && c != ',' && c != '.' && c != '\'' && c != '"';
    }
    if (signs * 12 > letters) form *= 0.6f;
    if (signs * 6 > letters) form *= 0.4f;
    if (last == ':' || last == ',') form *= 0.35f;
    if (last != '.' && last != '!' && last != ';' && last != '"' && last != ')') form *= 0.6f;
    if (sentence->words < 7) form *= 0.3f;
    if (sentence->words > 45) form *= 0.7f;
    if (sentence->words > 70) form *= 0.5f;
    if (review_is_lower(reader->text[sentence->start])) form *= 0.6f;
    if (review_matches(plain, "copyright (c)|all rights reserved|everyone is permitted|http:|https:|www.|(c) "))
        form *= 0.25f;
    if (review_matches(plain,
                       "shall mean|\" means|\" is defined|\" refers to|for purposes of this|for the purposes of"))
        form *= 0.5f;
    if (plain[1] == '"' && review_matches(plain, "means| are terms| is a | refers to")) form *= 0.5f; /* a definition */
    if (plain[1] == '(' || review_matches(plain, " e.g.| i.e.|above-|below.|section ")) form *= 0.7f;
    if (sentence->kind == REVIEW_ITEM) form *= 0.85f;
    return form;
}

static void review_score(review_reader *reader, uint32_t index)
{
    review_sentence *sentence = &reader->sentences[index];
    float sum = 0, place = 1.0f;
    uint32_t i, k, different = 0;
    if (sentence->kind == REVIEW_HEADING) {
        char plain[REVIEW_PLAIN_SIZE];
        review_plain(reader->text + sentence->start, sentence->size, plain);
        if (review_matches(plain, "end of terms|how to apply|appendix|addendum")) reader->appendix = 1;
    }
    if (sentence->kind > REVIEW_ITEM || sentence->term_count == 0) return;
    for (i = 0; i < sentence->term_count; i++) {
        uint32_t term = reader->tokens[sentence->term_first + i];
        for (k = 0; k < i && reader->tokens[sentence->term_first + k] != term; k++) continue;
        if (k < i) continue;
        different++;
        sum += reader->terms[term].weight;
    }
    if (sentence->place == 0) place = 1.2f;
    if (index * 20 < reader->sentence_count || index < 6) place *= 1.35f; /* openings say what it is about */
    if (index * 10 > reader->sentence_count * 9 && sentence->section > 3) place *= 0.7f; /* the end holds details */
    if (reader->appendix) place *= 0.4f;
    sentence->score = sum / ((float)different + 6.0f) * place * review_form(reader, sentence);
}

/* The document's words without line breaks and Markdown's signs, into `out`; cut with "..." at about `limit` bytes. */
static void review_render(const char *text, uint32_t size, size_t limit, review_out *out)
{
    uint32_t i;
    int code = 0;
    size_t from = out->size;
    for (i = 0; i < size; i++) {
        char c = text[i];
        if (c == '`') code = !code;
        if (review_is_space(c) || (c == '>' && i != 0 && text[i - 1] == '\n')) c = ' ';
        if (c == ' ' && (out->size == from || out->text[out->size - 1] == ' ')) continue;
        if (!code && (c == '*' || (c == '_' && (i == 0 || !review_is_word(text[i - 1])) && i + 1 < size &&
                                   review_is_letter(text[i + 1]))))
            continue;
        if (!code && c == '[' && i + 1 < size) { /* [text](address) */
            uint32_t close = i + 1, end;
            while (close < size && text[close] != ']') close++;
            if (close + 1 < size && text[close + 1] == '(') {
                for (end = close; end < size && text[end] != ')'; end++) continue;
                if (end < size) {
                    review_render(text + i + 1, close - i - 1, limit, out);
                    i = end;
                    continue;
                }
            }
        }
        if (out->size - from >= limit && ((unsigned char)c & 0xC0u) != 0x80u && !review_is_word(c)) {
            review_say(out, " ...");
            return;
        }
        review_add(out, &c, 1);
    }
    if (out->size > from && out->text[out->size - 1] == ' ') out->text[--out->size] = 0;
}

static uint32_t review_summary_length(const review_reader *reader)
{
    uint32_t wanted = 3 + reader->word_count / 1000;
    return wanted > REVIEW_SENTENCES_MAX ? REVIEW_SENTENCES_MAX : wanted;
}

/* Chooses one more sentence: the best that does not repeat what is there, and rather from another section. */
static int review_choose(review_reader *reader)
{
    review_sentence *best = NULL;
    float best_value = 0;
    uint32_t i, k;
    if (reader->chosen_count == review_summary_length(reader)) return 0;
    for (i = 0; i < reader->sentence_count; i++) {
        review_sentence *sentence = &reader->sentences[i];
        float value = sentence->score, alike = 0;
        if (sentence->chosen || value <= best_value) continue;
        for (k = 0; k < reader->chosen_count; k++) {
            const review_sentence *other = &reader->sentences[reader->chosen[k]];
            float same = review_similarity(reader, sentence, other);
            if (same > alike) alike = same;
            if (other->section == sentence->section) value *= 0.75f;
        }
        value *= alike > 0.6f ? 0.05f : 1.0f - alike;
        if (value > best_value) {
            best_value = value;
            best = sentence;
        }
    }
    if (best == NULL) return 0;
    best->chosen = 1;
    reader->chosen[reader->chosen_count++] = (uint32_t)(best - reader->sentences);
    return 1;
}

static void review_write_summary(review_reader *reader)
{
    review_out out = review_out_begin(reader->result->summary, sizeof reader->result->summary);
    uint32_t i;
    for (i = 0; i < reader->sentence_count; i++) {
        const review_sentence *sentence = &reader->sentences[i];
        if (!sentence->chosen) continue;
        review_say(&out, out.size == 0 ? "- " : "\n- ");
        review_render(reader->text + sentence->start, sentence->size, 340, &out);
        review_say(&out, " (line ");
        review_say_number(&out, sentence->line);
        review_say(&out, ")");
    }
    if (out.size == 0) review_say(&out, "The document holds no sentence to quote: only headings, tables, or code.");
}

static void review_write_outline(review_reader *reader)
{
    uint32_t i, taken = 0;
    for (i = 0; i < reader->sentence_count && taken < REVIEW_HEADINGS_MAX; i++) {
        const review_sentence *sentence = &reader->sentences[i];
        review_heading *heading = &reader->result->headings[taken];
        review_out out;
        if (sentence->kind != REVIEW_HEADING) continue;
        out = review_out_begin(heading->title, sizeof heading->title);
        review_render(reader->text + sentence->start, sentence->size, 66, &out);
        heading->line = sentence->line;
        taken++;
    }
    reader->result->heading_count = taken;
}

/* One more sentence: which words of which category does it hold? A title says more than a sentence. */
static void review_count_category(review_reader *reader, uint32_t index)
{
    const review_sentence *sentence = &reader->sentences[index];
    char plain[REVIEW_PLAIN_SIZE];
    uint32_t weight = sentence->kind != REVIEW_HEADING ? 1 : index < 2 ? 40 : 3, phrase;
    size_t category;
    review_plain(reader->text + sentence->start, sentence->size, plain);
    for (category = 0; category < REVIEW_CATEGORY_COUNT; category++) {
        const char *at = review_categories[category].words;
        for (phrase = 0; *at != 0 && phrase < REVIEW_CATEGORY_WORDS; phrase++) {
            if (review_find_phrase(plain, at) != NULL) reader->category_counts[category][phrase] += weight;
            while (*at != 0 && *at != '|') at++;
            if (*at == '|') at++;
        }
    }
}

/* Many different words of a category count for more than one word many times. */
static void review_find_category(review_reader *reader)
{
    const char *name = "general";
    float best = reader->word_count < 400 ? 1.5f : 4.0f;
    size_t category;
    uint32_t phrase;
    for (category = 0; category < REVIEW_CATEGORY_COUNT; category++) {
        float value = 0;
        for (phrase = 0; phrase < REVIEW_CATEGORY_WORDS; phrase++) {
            value += review_log2(1.0f + (float)reader->category_counts[category][phrase]);
        }
        if (value <= best) continue;
        best = value;
        name = review_categories[category].name;
    }
    review_copy_text(reader->result->category, sizeof reader->result->category, name, review_length(name));
}

/* ---- Risks ----------------------------------------------------------------------------------------------------- */

#define REVIEW_RULE_COUNT (sizeof review_rules / sizeof review_rules[0])

static int review_starts(const char *at, const char *with)
{
    while (*with != 0 && *at == *with) at++, with++;
    return *with == 0;
}

/* "$ 1,200", "EUR 50", "30 euros": where it stands; NULL: no amount of money. */
static const char *review_find_money(const char *plain)
{
    static const char *const before[] = {"$", "\xE2\x82\xAC", "\xC2\xA3", "usd ", "eur ", "gbp ", "chf "};
    static const char *const after[] = {" euro", " dollar", " usd", " eur ", " gbp", " pounds"};
    const char *at;
    size_t i;
    for (at = plain; *at != 0; at++) {
        for (i = 0; i < sizeof before / sizeof before[0]; i++) {
            const char *number = at + review_length(before[i]);
            if (!review_starts(at, before[i]) || (at != plain && review_is_word(at[-1]) && review_is_word(*at)))
                continue;
            if (*number == ' ') number++;
            /* One digit behind '$' is a shell's parameter, not a sum. */
            if (review_is_digit(number[0]) && (at[0] != '$' || review_is_digit(number[1]))) return at;
        }
        if (!review_is_digit(*at)) continue;
        for (i = 0; i < sizeof after / sizeof after[0]; i++) {
            if (review_starts(at + 1, after[i])) return at;
        }
    }
    return NULL;
}

/* "within 30 days", "60 days after", "no later than", "at least three years": an obligation that a calendar must
   know. */
static int review_has_period(const char *plain)
{
    static const char *const units[] = {"day", "week", "month", "year", "hour", "business day", "working day"};
    const char *at;
    size_t i;
    int binds = review_matches(
        plain, "must|shall|within|prior to|no later than|at least|deadline|after you|notice|valid for|expire");
    if (review_matches(plain, "no later than|not later than|deadline is|due by|expires on")) return 1;
    if (!binds) return 0;
    for (at = plain; *at != 0; at++) {
        const char *unit = at + 1;
        if (!(review_is_digit(*at) ||
              (review_is_lower(*at) &&
               review_matches(plain, " one |two |three |five |seven |ten |thirty |sixty |ninety "))))
            continue;
        if (*unit == ')') unit++; /* thirty (30) days */
        if (*unit != ' ') continue;
        for (i = 0; i < sizeof units / sizeof units[0]; i++) {
            if (!review_starts(unit + 1, units[i])) continue;
            if (review_is_digit(*at) &&
                review_matches(plain, "within|prior|after|at least|before|valid|notice|expire|no later"))
                return 1;
            if (review_is_lower(*at) &&
                review_matches(plain, "within |valid for at least|at least three|no later than"))
                return 1;
        }
    }
    return 0;
}

/* How long the run of characters of a key or token is. */
static size_t review_token_length(const char *at)
{
    size_t length = 0;
    while (review_is_word(at[length]) || at[length] == '-' || at[length] == '_' || at[length] == '/' ||
           at[length] == '+' || at[length] == '.')
        length++;
    return length;
}

/* Does `value` look like a secret and not like an example's placeholder? */
static int review_is_secret_value(const char *value, size_t length)
{
    size_t i, digits = 0, letters = 0;
    if (length < 8 || *value == '<' || *value == '$' || *value == '{' || *value == '%') return 0;
    for (i = 0; i < length; i++) {
        digits += (size_t)review_is_digit(value[i]);
        letters += (size_t)review_is_letter(value[i]);
    }
    if (review_starts(value, "your") || review_starts(value, "xxx") || review_starts(value, "example") ||
        review_starts(value, "change"))
        return 0;
    return digits >= 2 && letters >= 2;
}

/* A private key, a token, a password written out. Sets where the secret part begins, and how long it is. */
static int review_find_secret(const char *text, uint32_t size, uint32_t *secret, uint32_t *secret_size)
{
    static const char *const tokens[] = {"AKIA", "ghp_",  "gho_",  "github_pat_", "glpat-",
                                         "sk-",  "xoxb-", "xoxp-", "AIza",        "eyJhbGci"};
    static const char *const names[] = {"password", "passwd",       "secret",     "api_key", "api-key",
                                        "apikey",   "access_token", "auth_token", "token"};
    char line[512];
    uint32_t at;
    size_t i;
    review_copy_text(line, sizeof line, text, size);
    size = (uint32_t)review_length(line);
    for (at = 0; at < size; at++) {
        if (review_starts(line + at, "-----BEGIN ") && review_matches(line + at, "PRIVATE KEY")) {
            *secret = at + 11;
            *secret_size = 0;
            return 1;
        }
        if (at != 0 && review_is_word(line[at - 1])) continue;
        for (i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
            size_t length = review_token_length(line + at);
            if (!review_starts(line + at, tokens[i]) || length < 19 || !review_is_secret_value(line + at, length))
                continue;
            *secret = at + 4;
            *secret_size = (uint32_t)length - 4;
            return 1;
        }
        for (i = 0; i < sizeof names / sizeof names[0]; i++) {
            uint32_t value = at;
            size_t k = 0;
            while (names[i][k] != 0 && review_lower(line[value]) == names[i][k]) k++, value++;
            if (names[i][k] != 0) continue;
            while (line[value] == ' ' || line[value] == '"') value++;
            if (line[value] != '=' && line[value] != ':') continue;
            for (value++; line[value] == ' ' || line[value] == '"' || line[value] == '\''; value++) continue;
            k = review_token_length(line + value);
            if (!review_is_secret_value(line + value, k)) continue;
            *secret = value + 2;
            *secret_size = (uint32_t)k - 2;
            return 1;
        }
    }
    return 0;
}

/* A passage that is not worth more than one that says nearly the same, or than the third of its kind, is left out. */
static int review_has_room(review_reader *reader, const review_passage *made, uint32_t *slot)
{
    review_analysis *result = reader->result;
    uint32_t i, k, same_kind = 0, worst_same = UINT32_MAX, worst = UINT32_MAX;
    for (i = 0; i < result->passage_count; i++) {
        const review_passage *other = &result->passages[i];
        for (k = 0; k < 60 && other->quote[k] != 0 && other->quote[k] == made->quote[k]; k++) continue;
        if (k >= 40) return 0;
        if (worst == UINT32_MAX || other->score < result->passages[worst].score) worst = i;
        if (!review_same(other->kind, made->kind)) continue;
        if (made->line < other->line + 3 && other->line < made->line + 3) { /* the next sentence says the same again */
            *slot = i;
            return made->score > other->score;
        }
        same_kind++;
        if (worst_same == UINT32_MAX || other->score < result->passages[worst_same].score) worst_same = i;
    }
    if (same_kind >= 2) {
        *slot = worst_same;
        return made->score > result->passages[worst_same].score;
    }
    if (result->passage_count < REVIEW_PASSAGES_MAX) {
        *slot = result->passage_count++;
        return 1;
    }
    *slot = worst;
    return made->score > result->passages[worst].score;
}

static void review_add_passage(review_reader *reader, const review_sentence *sentence, const char *kind,
                               const char *reason, uint32_t score)
{
    review_passage made;
    review_out out = review_out_begin(made.quote, sizeof made.quote);
    uint32_t slot;
    review_render(reader->text + sentence->start, sentence->size, 380, &out);
    review_copy_text(made.kind, sizeof made.kind, kind, review_length(kind));
    review_copy_text(made.reason, sizeof made.reason, reason, review_length(reason));
    made.line = sentence->line;
    made.score = score > 100 ? 100 : score;
    if (review_has_room(reader, &made, &slot)) reader->result->passages[slot] = made;
}

/* The secret itself must not be copied into a report. */
static void review_add_secret(review_reader *reader, const review_sentence *sentence, uint32_t secret,
                              uint32_t secret_size)
{
    review_passage made;
    review_out out = review_out_begin(made.quote, sizeof made.quote);
    const char *kind = "secret",
               *reason =
                   "Looks like a key, token or password written out (blacked out here). Take it out, and replace it.";
    uint32_t slot;
    review_render(reader->text + sentence->start, secret, 160, &out);
    review_say(&out, " [blacked out, ");
    review_say_number(&out, secret_size);
    review_say(&out, " characters]");
    review_copy_text(made.kind, sizeof made.kind, kind, review_length(kind));
    review_copy_text(made.reason, sizeof made.reason, reason, review_length(reason));
    made.line = sentence->line;
    made.score = 92;
    if (review_has_room(reader, &made, &slot)) reader->result->passages[slot] = made;
}

/* LAWYERS WRITE LIKE THIS what they want to be seen. */
static int review_shouts(const char *text, uint32_t size)
{
    uint32_t i, upper = 0, lower = 0;
    for (i = 0; i < size; i++) {
        upper += (uint32_t)review_is_upper(text[i]);
        lower += (uint32_t)review_is_lower(text[i]);
    }
    return upper > 20 && lower * 10 < upper;
}

static void review_find_risks(review_reader *reader, const review_sentence *sentence)
{
    char plain[REVIEW_PLAIN_SIZE];
    const review_rule *best = NULL;
    const char *text = reader->text + sentence->start;
    uint32_t secret, secret_size, also = 0, emphasis = 0;
    size_t i, k;
    int prose = sentence->kind == REVIEW_PROSE || sentence->kind == REVIEW_ITEM;
    if (sentence->kind == REVIEW_HEADING) return;
    if (review_find_secret(text, sentence->size, &secret, &secret_size)) {
        review_add_secret(reader, sentence, secret, secret_size);
        return;
    }
    review_plain(text, sentence->size, plain);
    for (i = 0; i < REVIEW_RULE_COUNT; i++) {
        const review_rule *rule = &review_rules[i];
        uint32_t matches = 0;
        for (k = 0; k < 4 && rule->patterns[k] != NULL; k++)
            matches += (uint32_t)review_matches(plain, rule->patterns[k]);
        if (matches == 0) continue;
        also++;
        if (best != NULL && rule->score <= best->score) continue;
        best = rule;
        emphasis = (matches - 1) * 2;
    }
    if (best != NULL && (prose || best->score >= 55)) {
        uint32_t score =
            best->score + (also > 3 ? 9 : (also - 1) * 3) + emphasis + (review_shouts(text, sentence->size) ? 3 : 0);
        if (!prose) score -= 14; /* a table or a piece of code is an example more often than a promise */
        if (sentence->words < 8) score -= 8;
        review_add_passage(reader, sentence, best->kind, best->reason, score);
    }
    if (best == NULL && prose && review_find_money(plain) != NULL) {
        review_add_passage(reader, sentence, "money", "Names an amount of money.", 48);
    } else if (best == NULL && prose && review_has_period(plain)) {
        review_add_passage(reader, sentence, "deadline", "Sets a period that somebody has to keep.", 40);
    }
}

/* Worst first; then what the whole amounts to: the worst passage, raised a little by each of the others. */
static void review_finish_risks(review_analysis *result)
{
    float left;
    uint32_t i, k;
    for (i = 1; i < result->passage_count; i++) {
        for (k = i; k != 0 && (result->passages[k].score > result->passages[k - 1].score ||
                               (result->passages[k].score == result->passages[k - 1].score &&
                                result->passages[k].line < result->passages[k - 1].line));
             k--) {
            review_passage swap = result->passages[k];
            result->passages[k] = result->passages[k - 1];
            result->passages[k - 1] = swap;
        }
    }
    result->risk = 0;
    if (result->passage_count == 0) return;
    left = 100.0f - (float)result->passages[0].score;
    for (i = 1; i < result->passage_count; i++) left *= 1.0f - (float)result->passages[i].score / 800.0f;
    result->risk = (uint32_t)(100.0f - left);
}

/* ---- The reader ------------------------------------------------------------------------------------------------ */

/* Begins to read `text`, which must stay where it is until the reader is closed. */
static void review_reader_open(review_reader *reader, const char *text, size_t size, const review_memory *memory,
                               review_analysis *result)
{
    static const review_reader empty;
    static const review_analysis nothing;
    *reader = empty;
    *result = nothing;
    reader->text = text;
    reader->size = size < REVIEW_DOCUMENT_MAX ? size : REVIEW_DOCUMENT_MAX;
    reader->memory = *memory;
    reader->line = 1;
    reader->markdown = review_looks_like_markdown(text, reader->size);
    reader->result = result;
}

static void review_reader_close(review_reader *reader)
{
    const review_memory *memory = &reader->memory;
    if (reader->sentences != NULL)
        (void)memory->allocate(memory->ctx, reader->sentences, reader->sentence_capacity * sizeof *reader->sentences,
                               0);
    if (reader->tokens != NULL)
        (void)memory->allocate(memory->ctx, reader->tokens, reader->token_capacity * sizeof *reader->tokens, 0);
    if (reader->terms != NULL)
        (void)memory->allocate(memory->ctx, reader->terms, reader->term_capacity * sizeof *reader->terms, 0);
    if (reader->buckets != NULL)
        (void)memory->allocate(memory->ctx, reader->buckets, reader->bucket_count * sizeof *reader->buckets, 0);
    reader->sentences = NULL;
    reader->tokens = NULL;
    reader->terms = NULL;
    reader->buckets = NULL;
}

static void review_next_phase(review_reader *reader)
{
    reader->phase++;
    reader->cursor = 0;
}

/* A slice of work: about `amount` lines or sentences. 1: the result is complete; 0: call again; -1: out of memory. */
static int review_reader_work(review_reader *reader, uint32_t amount)
{
    uint32_t i;
    if (reader->failed) return -1;
    switch (reader->phase) {
    case REVIEW_PHASE_SPLIT:
        review_split(reader, amount);
        if (reader->cursor >= reader->size) review_next_phase(reader);
        break;
    case REVIEW_PHASE_TERMS:
        for (i = 0; i < amount && reader->cursor < reader->sentence_count && !reader->failed; i++)
            review_count_terms(reader, (uint32_t)reader->cursor++);
        if (reader->cursor >= reader->sentence_count) review_next_phase(reader);
        break;
    case REVIEW_PHASE_WEIGH:
        review_weigh_terms(reader);
        review_next_phase(reader);
        break;
    case REVIEW_PHASE_CATEGORY:
        for (i = 0; i < amount && reader->cursor < reader->sentence_count; i++) {
            review_count_category(reader, (uint32_t)reader->cursor++);
        }
        if (reader->cursor < reader->sentence_count && reader->cursor < REVIEW_CATEGORY_SENTENCES) break;
        review_find_category(reader);
        review_next_phase(reader);
        break;
    case REVIEW_PHASE_SCORE:
        for (i = 0; i < amount && reader->cursor < reader->sentence_count; i++)
            review_score(reader, (uint32_t)reader->cursor++);
        if (reader->cursor >= reader->sentence_count) review_next_phase(reader);
        break;
    case REVIEW_PHASE_CHOOSE:
        if (!review_choose(reader)) {
            review_write_summary(reader);
            review_write_outline(reader);
            review_next_phase(reader);
        }
        break;
    case REVIEW_PHASE_RISKS:
        for (i = 0; i < amount && reader->cursor < reader->sentence_count; i++)
            review_find_risks(reader, &reader->sentences[reader->cursor++]);
        if (reader->cursor >= reader->sentence_count) {
            review_finish_risks(reader->result);
            review_next_phase(reader);
        }
        break;
    default: break;
    }
    if (reader->failed) return -1;
    return reader->phase == REVIEW_PHASE_DONE;
}

#endif /* REVIEW_TEXT_H */
