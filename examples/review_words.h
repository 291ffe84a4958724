/* review_words.h - what review_text.h knows about words: those that say nothing, those that speak for a category, and
   the phrases that a person should look at. Add to these tables whatever your documents need.

   A pattern is groups joined by '&', all of which must be found in one sentence; a group is phrases joined by '|', or,
   after '!', phrases none of which may be found. A phrase matches where words begin: "warrant" finds "warranties", and
   "no " with its space only "no". Sentences are matched in lower case with one space between words. */

#ifndef REVIEW_WORDS_H
#define REVIEW_WORDS_H

#include <stddef.h>
#include <stdint.h>

typedef struct review_category {
    const char *name;
    const char *words; /* phrases that speak for it, joined by '|' */
} review_category;

typedef struct review_rule {
    const char *kind;
    uint32_t score; /* 0 ... 100 */
    const char *reason;
    const char *patterns[4];
} review_rule;

/* clang-format off */

/* Words that say nothing about what a text is about. Sorted. */
static const char *const review_stop_words[] = {
    "about", "above", "after", "again", "against", "all", "also", "and", "another", "any", "are", "because", "been",
    "before", "being", "below", "between", "both", "but", "can", "cannot", "could", "did", "does", "doing", "down",
    "during", "each", "either", "else", "even", "ever", "every", "few", "for", "from", "further", "had", "has",
    "have", "having", "her", "here", "hers", "him", "his", "how", "however", "into", "its", "itself", "just", "least",
    "less", "let", "like", "made", "make", "many", "may", "might", "more", "most", "much", "must", "need", "neither",
    "never", "nor", "not", "now", "off", "once", "one", "only", "other", "our", "ours", "out", "over", "own", "per",
    "same", "shall", "she", "should", "since", "some", "still", "such", "than", "that", "the", "their", "them",
    "then", "there", "these", "they", "this", "those", "through", "thus", "too", "under", "until", "upon", "use",
    "used", "using", "very", "via", "was", "well", "were", "what", "when", "where", "whether", "which", "while",
    "who", "whom", "why", "will", "with", "within", "without", "would", "yet", "you", "your", "yours"};

static const review_category review_categories[] = {
    {"licence",
     "license|licence|licensor|licensee|copyright|warranty|derivative work|redistribut|sublicens|public domain|"
     "modified version|source code form|patent"},
    {"contract",
     "agreement|party|parties|hereby|hereinafter|obligation|governing law|terminat|indemnif|breach|services|fees|"
     "invoice|customer|supplier"},
    {"privacy",
     "personal data|personal information|privacy|consent|cookies|data subject|controller|processor|retention|gdpr|"
     "third parties|opt out"},
    {"policy",
     "policy|compliance|employees|procedure|approval|responsible for|violation|security contact|report a|"
     "vulnerabilit|disclosure"},
    {"specification",
     "must |must not|shall |format|field|byte|bytes|header|encoding|offset|protocol|checksum|version|specification|"
     "little-endian|block"},
    {"design",
     "design|architecture|decided|because|state machine|component|trade-off|interface|engine|callback|layer|"
     "we choose|contract|law"},
    {"guide",
     "install|run the|example|usage|build|command|option|configure|getting started|how to|step |click|open the|"
     "download|tutorial"},
    {"report",
     "measured|results|benchmark|percent|median|figure|compared|study|findings|table|survey|feature|"
     "analysis|verified|quarter"},
    {"changelog",
     "added|changed|fixed|removed|deprecated|unreleased|changelog|release|breaking"},
    {"correspondence",
     "dear |sincerely|regards|thank you|meeting|agenda|minutes|attendees|action items"}};

static const review_rule review_rules[] = {
    {"liability", 68, "Limits or excludes what the other side has to pay when things go wrong.",
     {" liab&in no event|not be liable|nor |neither|limitation of|exclud|no liability|not liable",
      "consequential damages|incidental damages|punitive damages|indirect damages",
      "assume the cost of all", NULL}},
    {"indemnity", 74, "You may have to pay for claims that others raise.",
     {"indemnif|indemnity",
      "hold&harmless",
      "defend&against&claim", NULL}},
    {"warranty", 58, "Promises about fitness or quality are excluded: the risk is with the user.",
     {"no warrant|without warrant|any warrant",
      " as is&warrant|provided|basis|without",
      "disclaim&warrant|liabilit",
      "entire risk"}},
    {"termination", 54, "Rights can end, and what happens then matters.",
     {"terminat&rights|license|licence|agreement|automatically|contract&!determinat",
      "revoke&rights|licen|access|permission",
      "cease to exist|forfeit", NULL}},
    {"patents", 60, "Grants, limits or takes away patent rights.",
     {"patent&litigation|retaliat|infring|lawsuit",
      "patent licen|patent claims|essential patent|patent right", NULL, NULL}},
    {"irrevocable", 62, "Cannot be taken back once given.",
     {"irrevocabl",
      "perpetual&licen|right",
      "waive|relinquish|surrender|abandon&right|claim|copyright", NULL}},
    {"copyleft", 50, "What you build on it must be passed on under the same terms, or with its source.",
     {"you must|must be|must also|provided that|only if|shall&source code|corresponding source&distribut|convey|"
      "accompan|available",
      "derivative|modified|based on&under the terms of this|under this license|licensed as a whole|same license&"
      "must|provided|shall|only|cause", NULL, NULL}},
    {"restriction", 42, "Forbids something that a user may expect to be allowed.",
     {"you may not|may not be used|shall not|not permitted|prohibited|not allowed to&!may not apply|warrant",
      NULL, NULL, NULL}},
    {"discretion", 57, "One side decides alone, or may change the terms later.",
     {"sole discretion|sole judgment|absolute discretion",
      "without notice|without prior notice",
      "reserve&right to&change|modify|suspend|terminate|refuse",
      "may publish revised|revised versions|new versions&may|time to time"}},
    {"exclusivity", 64, "Binds you to one partner, or keeps you from competing.",
     {"non-compete|noncompete|not compete",
      "exclusive right|exclusively licens|exclusivity&!non-exclusive", NULL, NULL}},
    {"confidentiality", 50, "Information must be kept secret, with consequences when it is not.",
     {"confidential&shall|must|disclos|agree",
      "trade secret",
      "non-disclosure", NULL}},
    {"disputes", 46, "Says where and how a dispute is settled.",
     {"exclusive jurisdiction|governing law|courts of|laws of the state|governed by the laws",
      "arbitrat&!arbitrary",
      "class action|jury trial|attorneys' fees", NULL}},
    {"penalty", 60, "Names a punishment or a sum to be paid.",
     {"liquidated damages|late fee|contractual penalty|fine of|penalties|criminal", NULL, NULL, NULL}},
    {"compliance", 44, "Law outside this text applies: export, sanctions or statute.",
     {"export law|export control|export regulation|export restriction",
      "sanction",
      "statute&comply|impossible|violat", NULL}},
    {"personal data", 66, "Speaks of data about people: law applies to it, and they must be told.",
     {"personal data|personal information|personally identif|sensitive data",
      "date of birth|social security|passport number|health record|location data",
      "share|disclose|transfer|sell&your data|your information|user data", NULL}},
    {"irreversible", 62, "Describes something that cannot be undone.",
     {"rm -rf|drop table|drop database|truncate table|mkfs|push --force|git reset --hard|format c:|dd if=",
      "permanently delet|permanently remov|cannot be undone|can't be undone|no way back|not reversible|destroys all",
      "irreversibl&!refus|unless|approv",
      "delete from &!where"}},
    {"data loss", 56, "Data can be lost or damaged.",
     {"data loss|lose data|loses data|lost data|may lose|silent loss|"
      "silently drop|silently lost",
      "corrupt&can |may |could |drops |races |lead|caus|bug",
      "not power-safe|not durable", NULL}},
    {"security", 60, "Weakens the protection of a system.",
     {"chmod 777|--no-sandbox|verify=false|--insecure|no-check-certificate|strict-ssl false",
      "disable&tls|ssl|authentication|firewall|verification|sandbox",
      "curl&bash|sudo sh",
      "run as root|hard-coded password|default password|plain text password"}},
    {"safety claim", 48, "Promises something without a limit; somebody may hold you to it.",
     {"we guarantee|is guaranteed|are guaranteed|guarantees that|100 % |100% &!no guarantee|not guarantee",
      "unlimited&use|access|support|liabil|number",
      "under all circumstances|in all cases|at all times&will|must|shall|guarante",
      "never fails|can never fail"}},
    {"unfinished", 34, "Not finished or not checked: settle it before others rely on it.",
     {"todo|fixme|tbd |to be decided|to be confirmed|not verified|not yet verified|unverified|needs checking|"
      "need checking|check before quoting",
      "open point|open question|weak spot", NULL, NULL}},
    {"known defect", 46, "Names a defect or a limit that users will meet.",
     {"known bug|known issue|workaround|does not work|is broken|fails to|not supported&!no ",
      "traps:|pitfall|caveat|beware", NULL, NULL}}};

/* clang-format on */

#endif /* REVIEW_WORDS_H */
