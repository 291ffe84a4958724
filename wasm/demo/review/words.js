// What text.js knows about words, as the native review agent has it (examples/review_words.h): those that say nothing,
// those that speak for a category, and the phrases that a person should look at.
//
// A pattern is groups joined by '&', all of which must be found in one sentence; a group is phrases joined by '|', or,
// after '!', phrases none of which may be found. A phrase matches where words begin: "warrant" finds "warranties".

export const stopWords = new Set([
  'about', 'above', 'after', 'again', 'against', 'all', 'also', 'and', 'another', 'any', 'are', 'because', 'been',
  'before', 'being', 'below', 'between', 'both', 'but', 'can', 'cannot', 'could', 'did', 'does', 'doing', 'down',
  'during', 'each', 'either', 'else', 'even', 'ever', 'every', 'few', 'for', 'from', 'further', 'had', 'has', 'have',
  'having', 'her', 'here', 'hers', 'him', 'his', 'how', 'however', 'into', 'its', 'itself', 'just', 'least', 'less',
  'let', 'like', 'made', 'make', 'many', 'may', 'might', 'more', 'most', 'much', 'must', 'need', 'neither', 'never',
  'nor', 'not', 'now', 'off', 'once', 'one', 'only', 'other', 'our', 'ours', 'out', 'over', 'own', 'per', 'same',
  'shall', 'she', 'should', 'since', 'some', 'still', 'such', 'than', 'that', 'the', 'their', 'them', 'then',
  'there', 'these', 'they', 'this', 'those', 'through', 'thus', 'too', 'under', 'until', 'upon', 'use', 'used',
  'using', 'very', 'via', 'was', 'well', 'were', 'what', 'when', 'where', 'whether', 'which', 'while', 'who', 'whom',
  'why', 'will', 'with', 'within', 'without', 'would', 'yet', 'you', 'your', 'yours',
]);

export const categories = [
  { name: 'licence', words: 'license|licence|licensor|licensee|copyright|warranty|derivative work|redistribut|sublicens|public domain|modified version|source code form|patent' },
  { name: 'contract', words: 'agreement|party|parties|hereby|hereinafter|obligation|governing law|terminat|indemnif|breach|services|fees|invoice|customer|supplier' },
  { name: 'privacy', words: 'personal data|personal information|privacy|consent|cookies|data subject|controller|processor|retention|gdpr|third parties|opt out' },
  { name: 'policy', words: 'policy|compliance|employees|procedure|approval|responsible for|violation|security contact|report a|vulnerabilit|disclosure' },
  { name: 'specification', words: 'must |must not|shall |format|field|byte|bytes|header|encoding|offset|protocol|checksum|version|specification|little-endian|block' },
  { name: 'design', words: 'design|architecture|decided|because|state machine|component|trade-off|interface|engine|callback|layer|we choose|contract|law' },
  { name: 'guide', words: 'install|run the|example|usage|build|command|option|configure|getting started|how to|step |click|open the|download|tutorial' },
  { name: 'report', words: 'measured|results|benchmark|percent|median|figure|compared|study|findings|table|survey|feature|analysis|verified|quarter' },
  { name: 'changelog', words: 'added|changed|fixed|removed|deprecated|unreleased|changelog|release|breaking' },
  { name: 'correspondence', words: 'dear |sincerely|regards|thank you|meeting|agenda|minutes|attendees|action items' },
];

export const rules = [
  {
    kind: 'liability', score: 68, reason: 'Limits or excludes what the other side has to pay when things go wrong.',
    patterns: [
      ' liab&in no event|not be liable|nor |neither|limitation of|exclud|no liability|not liable',
      'consequential damages|incidental damages|punitive damages|indirect damages',
      'assume the cost of all',
    ],
  },
  {
    kind: 'indemnity', score: 74, reason: 'You may have to pay for claims that others raise.',
    patterns: [
      'indemnif|indemnity',
      'hold&harmless',
      'defend&against&claim',
    ],
  },
  {
    kind: 'warranty', score: 58, reason: 'Promises about fitness or quality are excluded: the risk is with the user.',
    patterns: [
      'no warrant|without warrant|any warrant',
      ' as is&warrant|provided|basis|without',
      'disclaim&warrant|liabilit',
      'entire risk',
    ],
  },
  {
    kind: 'termination', score: 54, reason: 'Rights can end, and what happens then matters.',
    patterns: [
      'terminat&rights|license|licence|agreement|automatically|contract&!determinat',
      'revoke&rights|licen|access|permission',
      'cease to exist|forfeit',
    ],
  },
  {
    kind: 'patents', score: 60, reason: 'Grants, limits or takes away patent rights.',
    patterns: [
      'patent&litigation|retaliat|infring|lawsuit',
      'patent licen|patent claims|essential patent|patent right',
    ],
  },
  {
    kind: 'irrevocable', score: 62, reason: 'Cannot be taken back once given.',
    patterns: [
      'irrevocabl',
      'perpetual&licen|right',
      'waive|relinquish|surrender|abandon&right|claim|copyright',
    ],
  },
  {
    kind: 'copyleft', score: 50, reason: 'What you build on it must be passed on under the same terms, or with its source.',
    patterns: [
      'you must|must be|must also|provided that|only if|shall&source code|corresponding source&distribut|convey|accompan|available',
      'derivative|modified|based on&under the terms of this|under this license|licensed as a whole|same license&must|provided|shall|only|cause',
    ],
  },
  {
    kind: 'restriction', score: 42, reason: 'Forbids something that a user may expect to be allowed.',
    patterns: [
      'you may not|may not be used|shall not|not permitted|prohibited|not allowed to&!may not apply|warrant',
    ],
  },
  {
    kind: 'discretion', score: 57, reason: 'One side decides alone, or may change the terms later.',
    patterns: [
      'sole discretion|sole judgment|absolute discretion',
      'without notice|without prior notice',
      'reserve&right to&change|modify|suspend|terminate|refuse',
      'may publish revised|revised versions|new versions&may|time to time',
    ],
  },
  {
    kind: 'exclusivity', score: 64, reason: 'Binds you to one partner, or keeps you from competing.',
    patterns: [
      'non-compete|noncompete|not compete',
      'exclusive right|exclusively licens|exclusivity&!non-exclusive',
    ],
  },
  {
    kind: 'confidentiality', score: 50, reason: 'Information must be kept secret, with consequences when it is not.',
    patterns: [
      'confidential&shall|must|disclos|agree',
      'trade secret',
      'non-disclosure',
    ],
  },
  {
    kind: 'disputes', score: 46, reason: 'Says where and how a dispute is settled.',
    patterns: [
      'exclusive jurisdiction|governing law|courts of|laws of the state|governed by the laws',
      'arbitrat&!arbitrary',
      'class action|jury trial|attorneys\' fees',
    ],
  },
  {
    kind: 'penalty', score: 60, reason: 'Names a punishment or a sum to be paid.',
    patterns: [
      'liquidated damages|late fee|contractual penalty|fine of|penalties|criminal',
    ],
  },
  {
    kind: 'compliance', score: 44, reason: 'Law outside this text applies: export, sanctions or statute.',
    patterns: [
      'export law|export control|export regulation|export restriction',
      'sanction',
      'statute&comply|impossible|violat',
    ],
  },
  {
    kind: 'personal data', score: 66, reason: 'Speaks of data about people: law applies to it, and they must be told.',
    patterns: [
      'personal data|personal information|personally identif|sensitive data',
      'date of birth|social security|passport number|health record|location data',
      'share|disclose|transfer|sell&your data|your information|user data',
    ],
  },
  {
    kind: 'irreversible', score: 62, reason: 'Describes something that cannot be undone.',
    patterns: [
      'rm -rf|drop table|drop database|truncate table|mkfs|push --force|git reset --hard|format c:|dd if=',
      'permanently delet|permanently remov|cannot be undone|can\'t be undone|no way back|not reversible|destroys all',
      'irreversibl&!refus|unless|approv',
      'delete from &!where',
    ],
  },
  {
    kind: 'data loss', score: 56, reason: 'Data can be lost or damaged.',
    patterns: [
      'data loss|lose data|loses data|lost data|may lose|silent loss|silently drop|silently lost',
      'corrupt&can |may |could |drops |races |lead|caus|bug',
      'not power-safe|not durable',
    ],
  },
  {
    kind: 'security', score: 60, reason: 'Weakens the protection of a system.',
    patterns: [
      'chmod 777|--no-sandbox|verify=false|--insecure|no-check-certificate|strict-ssl false',
      'disable&tls|ssl|authentication|firewall|verification|sandbox',
      'curl&bash|sudo sh',
      'run as root|hard-coded password|default password|plain text password',
    ],
  },
  {
    kind: 'safety claim', score: 48, reason: 'Promises something without a limit; somebody may hold you to it.',
    patterns: [
      'we guarantee|is guaranteed|are guaranteed|guarantees that|100 % |100% &!no guarantee|not guarantee',
      'unlimited&use|access|support|liabil|number',
      'under all circumstances|in all cases|at all times&will|must|shall|guarante',
      'never fails|can never fail',
    ],
  },
  {
    kind: 'unfinished', score: 34, reason: 'Not finished or not checked: settle it before others rely on it.',
    patterns: [
      'todo|fixme|tbd |to be decided|to be confirmed|not verified|not yet verified|unverified|needs checking|need checking|check before quoting',
      'open point|open question|weak spot',
    ],
  },
  {
    kind: 'known defect', score: 46, reason: 'Names a defect or a limit that users will meet.',
    patterns: [
      'known bug|known issue|workaround|does not work|is broken|fails to|not supported&!no ',
      'traps:|pitfall|caveat|beware',
    ],
  },
];
