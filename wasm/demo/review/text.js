// Reads a document without asking anybody: summary, outline, category, and the passages that a person should look at.
// The native review agent's reader (examples/review_text.h) in JavaScript, by the same rules and weights: the summary is
// sentences of the document itself (TF-IDF centroid), the risks are found by rules over words and phrases.

import { categories, rules, stopWords } from './words.js';

export const DOCUMENT_MAX = 1024 * 1024; // characters
const PASSAGES_MAX = 12,
  HEADINGS_MAX = 24,
  SENTENCES_MAX = 7,
  CATEGORY_SENTENCES = 200,
  PLAIN_SIZE = 2045;
const PROSE = 1,
  ITEM = 2,
  HEADING = 3,
  CODE = 4,
  TABLE = 5;

const isSpace = (c) => c === ' ' || c === '\t' || c === '\n' || c === '\r' || c === '\f';
const isDigit = (c) => c >= '0' && c <= '9';
const isUpper = (c) => c >= 'A' && c <= 'Z';
const isLower = (c) => c >= 'a' && c <= 'z';
const isLetter = (c) => c !== undefined && (isUpper(c) || isLower(c) || c >= '\x80');
const isWord = (c) => isLetter(c) || isDigit(c);
const log2 = (x) => {
  let whole = 0;
  for (; x >= 2; x /= 2) whole++;
  return whole + x - 1;
};

// ---- sentences

const ABBREVIATIONS = new Set([
  'e.g',
  'i.e',
  'etc',
  'cf',
  'vs',
  'no',
  'mr',
  'mrs',
  'ms',
  'dr',
  'inc',
  'ltd',
  'co',
  'st',
  'corp',
  'art',
  'sec',
  'fig',
  'p',
  'pp',
  'al',
  'approx',
  'v',
  'u.s',
  'a.k.a',
  'resp',
  'incl',
  'viz',
  'ca',
  'vol',
  'ch',
]);

function isAbbreviation(text, start, at) {
  let from = at;
  while (from > start && (isWord(text[from - 1]) || text[from - 1] === '.')) from--;
  const word = text.slice(from, at);
  if (word.length === 0 || word.length >= 12) return false;
  if (word.length === 1 && isUpper(word)) return true;
  return ABBREVIATIONS.has(word.toLowerCase()) || (/^[\d.]+$/.test(word) && from <= start + 1);
}

const opensSentence = (c) => isUpper(c) || isDigit(c) || c >= '\x80' || '"\'([`*_<'.includes(c);

function sentenceEnd(text, from, end) {
  let code = false,
    depth = 0;
  for (let at = from; at < end; at++) {
    const c = text[at];
    let after = at + 1;
    if (c === '`') code = !code;
    if (code && at - from < 400) continue;
    if (c === '(') depth++;
    if (c === ')' && depth > 0) depth--;
    if (c === ';' && at - from > 240 && depth === 0) return after;
    if (c !== '.' && c !== '!' && c !== '?') continue;
    if (depth > 0 && at - from < 300) continue;
    while (after < end && '")*\''.includes(text[after])) after++;
    if (after < end && !isSpace(text[after])) continue;
    if (c === '.' && isAbbreviation(text, from, at)) continue;
    let next = after;
    while (next < end && isSpace(text[next])) next++;
    if (next === end || opensSentence(text[next])) return after;
  }
  return end;
}

/** "2. Grant of Patent License. Subject to ...": how long the title in front of the text is; 0: there is none. */
function runInTitle(text, start, end) {
  let at = start,
    words = 0,
    capitals = 0;
  if (at === end || !isDigit(text[at])) return 0;
  while (at < end && (isDigit(text[at]) || text[at] === '.' || text[at] === ')')) at++;
  while (at < end && isSpace(text[at])) at++;
  for (; at < end && at - start < 80; at++) {
    if (text[at] === '.' && at + 1 < end && isSpace(text[at + 1])) {
      return words !== 0 && words <= 9 && capitals * 2 >= words ? at + 1 - start : 0;
    }
    if (!isLetter(text[at]) && !" ,-'".includes(text[at])) return 0;
    if (isLetter(text[at]) && !isLetter(text[at - 1])) {
      words++;
      if (isUpper(text[at])) capitals++;
    }
  }
  return 0;
}

/** The size of a list marker ("- ", "1. ", "(a) ", "b) ") at the start of a line; 0: none. */
function marker(line) {
  if (line.length < 3) return 0;
  if ('-*+•'.includes(line[0]) && line[1] === ' ') return 2;
  return /^\(?(?:\d{1,4}(?:\)|\.)|[A-Za-z]\))\s/.exec(line)?.[0].length ?? 0;
}

/** In text without Markdown: a short line on its own, numbered, in capitals, or with its words capitalised. */
function isPlainHeading(line) {
  const last = line.at(-1),
    numbered = isDigit(line[0]) || (line.length > 8 && line.startsWith('ART'));
  if (line.length < 4 || line.length > 76 || ',;:'.includes(last) || (last === '.' && !numbered)) return false;
  if (/[@/<=]/.test(line) || /^[("<]/.test(line) || /^Copy.{5} /.test(line)) return false;
  let letters = 0,
    capitals = 0,
    words = 0,
    bigWords = 0;
  for (let i = 0; i < line.length; i++) {
    if (!isLetter(line[i])) continue;
    letters++;
    if (isUpper(line[i])) capitals++;
    if (i !== 0 && !isSpace(line[i - 1])) continue;
    let word = i;
    while (word < line.length && isLetter(line[word])) word++;
    if (word - i < 4 && i !== 0) continue; // of, and, the
    words++;
    if (isUpper(line[i])) bigWords++;
  }
  if (letters < 4 || words === 0 || words > 9) return false;
  return bigWords === words || capitals === letters || (numbered && isUpper(line[line.length > 3 ? 3 : 0]));
}

function split(text) {
  const sentences = [],
    markdown = /^(?:```|#[ ]|##[ #])/m.test(text);
  let section = 0,
    place = 0,
    number = 1,
    fence = '',
    paragraph;

  const add = (start, end, line, kind) => {
    for (; start < end && isSpace(text[start]); start++) if (text[start] === '\n') line++;
    while (end > start && isSpace(text[end - 1])) end--;
    if (start === end) return;
    if (kind === HEADING) {
      section++;
      place = 0;
    }
    sentences.push({
      text: text.slice(start, end),
      line,
      kind,
      section,
      place,
      terms: [],
      words: 0,
      score: 0,
      chosen: false,
    });
    if (kind <= ITEM) place++;
  };
  const linesIn = (from, to) => {
    let count = 0;
    for (let i = from; i < to; i++) if (text[i] === '\n') count++;
    return count;
  };
  const endParagraph = () => {
    if (paragraph === undefined) return;
    let { start: at, line } = paragraph;
    const { end, kind } = paragraph;
    paragraph = undefined;
    const title = runInTitle(text, at, end);
    if (title !== 0) {
      add(at, at + title, line, HEADING);
      line += linesIn(at, at + title);
      at += title;
    }
    while (at < end) {
      const next = sentenceEnd(text, at, end);
      add(at, next, line, kind);
      line += linesIn(at, next);
      at = next;
    }
  };
  const begin = (start, end, kind) => {
    paragraph = { start, end, kind, line: number, lines: 1 };
  };
  const goOn = (end) => {
    paragraph.end = end;
    paragraph.lines++;
  };
  const blankFollows = (at) => {
    for (at++; at < text.length && text[at] !== '\n'; at++) if (!isSpace(text[at])) return false;
    return true;
  };

  const takeLine = (start, end, indent, lineEnd) => {
    let line = text.slice(start, end);
    if (line === '') return endParagraph();
    if (/^(```|~~~)/.test(line) && (fence === '' || fence === line[0])) {
      endParagraph();
      fence = fence === '' ? line[0] : '';
      return;
    }
    if (fence !== '' || (markdown && indent >= 4 && paragraph === undefined && marker(line) === 0))
      return add(start, end, number, CODE);
    const hashes = /^#{1,6}(?= )/.exec(line)?.[0].length ?? 0;
    if (markdown && hashes !== 0) {
      endParagraph();
      return add(start + hashes, end, number, HEADING);
    }
    if (![...line].some(isWord)) {
      // under a single line it makes that line a heading
      if (paragraph?.lines === 1 && line.length >= 3 && '=-'.includes(line[0])) {
        const { start: first, end: last, line: at } = paragraph;
        paragraph = undefined;
        add(first, last, at, HEADING);
      }
      if (line[0] !== '|') endParagraph();
      return;
    }
    if (
      line[0] === '|' ||
      (markdown && (line.match(/ \|(?= )/g)?.length ?? 0) >= 2) ||
      (line[0] === '<' && line.at(-1) === '>')
    ) {
      endParagraph();
      return add(start, end, number, TABLE);
    }
    if (line[0] === '>' && line.length > 2) line = text.slice((start += 2), end);
    if (paragraph === undefined && blankFollows(lineEnd) && isPlainHeading(line))
      return add(start, end, number, HEADING);
    const mark = marker(line);
    if (mark !== 0 && line[0] === '*' && line.at(-1) === '*' && line.length > 8) {
      // a box drawn around a paragraph
      for (end--; end > start + 2 && isSpace(text[end - 1]);) end--;
      if (paragraph === undefined) begin(start + mark, end, PROSE);
      else goOn(end);
    } else if (mark !== 0) {
      endParagraph();
      begin(start + (runInTitle(text, start, end) !== 0 ? 0 : mark), end, ITEM); // a title keeps its number
    } else if (paragraph === undefined) {
      begin(start, end, PROSE);
    } else {
      goOn(end);
    }
  };

  for (let at = 0; at < text.length; number++) {
    let end = text.indexOf('\n', at),
      first = at,
      indent = 0;
    if (end < 0) end = text.length;
    for (; first < end && isSpace(text[first]); first++) indent += text[first] === '\t' ? 4 : 1;
    let last = end;
    while (last > first && isSpace(text[last - 1])) last--;
    takeLine(first, last, indent, end);
    at = end + 1;
  }
  endParagraph();
  return sentences;
}

// ---- words

/** "licenses" and "license", "copies" and "copy" are one term. */
function stem(word) {
  if (word.length > 4 && word.endsWith('ies')) return `${word.slice(0, -3)}y`;
  return word.length > 3 && /[^sui]s$/.test(word) ? word.slice(0, -1) : word;
}

const WORD = /[A-Za-z\x80-\uffff](?:[A-Za-z0-9\x80-\uffff]|['-](?=[A-Za-z\x80-\uffff]))*/g;

function countTerms(sentences) {
  const terms = new Map();
  let words = 0;
  for (const [index, sentence] of sentences.entries()) {
    for (const [raw] of sentence.text.matchAll(WORD)) {
      const word = raw.slice(0, 31).toLowerCase().replace(/'s$/, '');
      sentence.words++;
      if (word.length < 3 || stopWords.has(word)) continue;
      const name = stem(word);
      if (!terms.has(name)) terms.set(name, { count: 0, sentences: 0, last: -1, weight: 0 });
      const term = terms.get(name);
      sentence.terms.push(term);
      if (sentence.kind >= CODE) continue;
      term.count++;
      if (term.last === index) continue;
      term.last = index;
      term.sentences++;
    }
    if (sentence.kind !== CODE) words += sentence.words;
  }
  return { terms, words };
}

/** Words that come often here, but not in every sentence, stand for the document. Words of headings count more. */
function weighTerms(sentences, terms) {
  const prose = sentences.filter(({ kind }) => kind <= HEADING).length,
    had = new Set();
  for (const term of terms.values()) {
    if (term.sentences === 0) continue;
    term.weight = log2(1 + term.count) * log2(1 + prose / term.sentences) * (term.count === 1 ? 0.4 : 1);
  }
  for (const [index, sentence] of sentences.entries()) {
    if (sentence.kind !== HEADING) continue;
    for (const term of sentence.terms) {
      if (had.has(term)) continue;
      had.add(term);
      term.weight *= index < 3 ? 1.5 : 1.25;
    }
  }
}

// ---- matching

/** A sentence as rules see it: lower case, one space between words and at both ends, curly quotes straightened. */
function plainOf(text) {
  const plain = ` ${text
    .replace(/[\u2018\u2019]/g, "'")
    .replace(/[\u201a-\u201d]/g, '"')
    .replace(/[A-Z]/g, (c) => c.toLowerCase())} `.replace(/[\s*]+/g, ' ');
  return plain.length > PLAIN_SIZE ? `${plain.slice(0, PLAIN_SIZE)} ` : plain;
}

/** Where `phrase` begins a word of `plain`; -1: nowhere. */
function find(plain, phrase) {
  for (let at = plain.indexOf(phrase); at >= 0; at = plain.indexOf(phrase, at + 1)) {
    if (at === 0 || !isWord(plain[at - 1]) || !isWord(plain[at])) return at;
  }
  return -1;
}

const patterns = new Map();

function matches(plain, pattern) {
  let groups = patterns.get(pattern);
  if (groups === undefined) {
    groups = pattern
      .split('&')
      .map((group) => ({ none: group[0] === '!', phrases: group.replace(/^!/, '').split('|') }));
    patterns.set(pattern, groups);
  }
  return groups.every(({ none, phrases }) => phrases.some((phrase) => find(plain, phrase) >= 0) !== none);
}

// ---- summary

function similarity(left, right) {
  let both = 0,
    ofLeft = 0,
    ofRight = 0;
  for (const term of left.terms) {
    ofLeft += term.weight ** 2;
    if (right.terms.includes(term)) both += term.weight ** 2;
  }
  for (const term of right.terms) ofRight += term.weight ** 2;
  return ofLeft > 0 && ofRight > 0 ? both / Math.sqrt(ofLeft * ofRight) : 0;
}

const SAYS = [
  ' this document| this license| this agreement| this licence| this policy| this page',
  ' purpose| goal| in short| in summary| means that| therefore| important| designed to',
  ' permission| permitted| grant| allow| require| must | provided that| condition',
  ' you may | you must | you can | your rights| the right to',
  ' is a | are the | is the | is an ',
];
const LEANS = [
  ' however',
  ' but ',
  ' and ',
  ' or ',
  ' these ',
  ' those ',
  ' such ',
  ' it ',
  ' they ',
  ' this is ',
  ' also ',
  ' if not',
  ' otherwise',
  ' for example',
  ' then ',
  ' so ',
  ' thus ',
  ' that ',
  ' see ',
  ' note that',
];

/** What the form of a sentence says about its worth in a summary, whatever its words mean. */
function formOf(sentence) {
  const plain = plainOf(sentence.text),
    last = sentence.text.at(-1);
  let form = 1,
    signs = 0,
    letters = 0;
  for (const pattern of SAYS) if (matches(plain, pattern)) form *= 1.1;
  for (const phrase of LEANS) if (plain.startsWith(phrase)) form *= 0.6; // leans on the sentence before
  for (const c of sentence.text) {
    if (isLetter(c)) letters++;
    if (!isWord(c) && !isSpace(c) && !',.\'"'.includes(c)) signs++;
  }
  if (signs * 12 > letters) form *= 0.6;
  if (signs * 6 > letters) form *= 0.4;
  if (':,'.includes(last)) form *= 0.35;
  if (!'.!;")'.includes(last)) form *= 0.6;
  if (sentence.words < 7) form *= 0.3;
  if (sentence.words > 45) form *= 0.7;
  if (sentence.words > 70) form *= 0.5;
  if (isLower(sentence.text[0])) form *= 0.6;
  if (matches(plain, 'copyright (c)|all rights reserved|everyone is permitted|http:|https:|www.|(c) ')) form *= 0.25;
  if (matches(plain, 'shall mean|" means|" is defined|" refers to|for purposes of this|for the purposes of'))
    form *= 0.5;
  if (plain[1] === '"' && matches(plain, 'means| are terms| is a | refers to')) form *= 0.5; // a definition
  if (plain[1] === '(' || matches(plain, ' e.g.| i.e.|above-|below.|section ')) form *= 0.7;
  return sentence.kind === ITEM ? form * 0.85 : form;
}

function scoreSentences(sentences) {
  let appendix = false;
  for (const [index, sentence] of sentences.entries()) {
    if (sentence.kind === HEADING && matches(plainOf(sentence.text), 'end of terms|how to apply|appendix|addendum'))
      appendix = true;
    if (sentence.kind > ITEM || sentence.terms.length === 0) continue;
    const different = new Set(sentence.terms);
    let sum = 0,
      place = 1;
    for (const term of different) sum += term.weight;
    if (sentence.place === 0) place = 1.2;
    if (index * 20 < sentences.length || index < 6) place *= 1.35; // openings say what it is about
    if (index * 10 > sentences.length * 9 && sentence.section > 3) place *= 0.7; // the end holds details
    if (appendix) place *= 0.4;
    sentence.score = (sum / (different.size + 6)) * place * formOf(sentence);
  }
}

/** The document's words without line breaks and Markdown's signs; cut with "..." at about `limit` characters. */
function render(text, limit, rendered = '') {
  let out = rendered,
    code = false;
  for (let i = 0; i < text.length; i++) {
    let c = text[i];
    if (c === '`') code = !code;
    if (isSpace(c) || (c === '>' && text[i - 1] === '\n')) c = ' ';
    if (c === ' ' && (out === '' || out.endsWith(' '))) continue;
    if (!code && (c === '*' || (c === '_' && !isWord(text[i - 1]) && isLetter(text[i + 1])))) continue;
    if (!code && c === '[') {
      // [text](address)
      const close = text.indexOf(']', i + 1),
        end = close >= 0 && text[close + 1] === '(' ? text.indexOf(')', close) : -1;
      if (end >= 0) {
        out += render(text.slice(i + 1, close), limit);
        i = end;
        continue;
      }
    }
    if (out.length >= limit && !isWord(c)) return `${out} ...`;
    out += c;
  }
  return out.trimEnd();
}

function choose(sentences, wanted) {
  const chosen = [];
  while (chosen.length < wanted) {
    let best,
      bestValue = 0;
    for (const sentence of sentences) {
      let value = sentence.score,
        alike = 0;
      if (sentence.chosen || value <= bestValue) continue;
      for (const other of chosen) {
        alike = Math.max(alike, similarity(sentence, other));
        if (other.section === sentence.section) value *= 0.75;
      }
      value *= alike > 0.6 ? 0.05 : 1 - alike;
      if (value > bestValue) [best, bestValue] = [sentence, value];
    }
    if (best === undefined) break;
    best.chosen = true;
    chosen.push(best);
  }
  const summary = sentences
    .filter(({ chosen: taken }) => taken)
    .map(({ text, line }) => `- ${render(text, 340)} (line ${line})`);
  return summary.join('\n') || 'The document holds no sentence to quote: only headings, tables, or code.';
}

/** Many different words of a category count for more than one word many times. */
function categoryOf(sentences, words) {
  const front = sentences.slice(0, CATEGORY_SENTENCES).map((sentence, index) => ({
    plain: plainOf(sentence.text),
    weight: sentence.kind !== HEADING ? 1 : index < 2 ? 40 : 3,
  }));
  let name = 'general',
    best = words < 400 ? 1.5 : 4;
  for (const category of categories) {
    let value = 0;
    for (const phrase of category.words.split('|').slice(0, 20)) {
      value += log2(1 + front.reduce((sum, { plain, weight }) => sum + (find(plain, phrase) >= 0 ? weight : 0), 0));
    }
    if (value > best) [name, best] = [category.name, value];
  }
  return name;
}

// ---- risks

/** "$ 1,200", "EUR 50", "30 euros". One digit behind '$' is a shell's parameter, not a sum. */
const MONEY =
  /\$ ?\d\d|[€£] ?\d|(?<![a-z0-9\x80-\uffff])(?:usd|eur|gbp|chf)  ?\d|\d(?: euro| dollar| usd| eur | gbp| pounds)/;

const UNIT = '(?:day|week|month|year|hour|business day|working day)';
const PERIOD_IN_DIGITS = new RegExp(`\\d\\)? ${UNIT}`),
  PERIOD_IN_WORDS = new RegExp(`[a-z]\\)? ${UNIT}`);

/** An obligation that a calendar must know. */
function hasPeriod(plain) {
  if (matches(plain, 'no later than|not later than|deadline is|due by|expires on')) return true;
  if (!matches(plain, 'must|shall|within|prior to|no later than|at least|deadline|after you|notice|valid for|expire'))
    return false;
  if (PERIOD_IN_DIGITS.test(plain) && matches(plain, 'within|prior|after|at least|before|valid|notice|expire|no later'))
    return true;
  return (
    PERIOD_IN_WORDS.test(plain) &&
    matches(plain, ' one |two |three |five |seven |ten |thirty |sixty |ninety ') &&
    matches(plain, 'within |valid for at least|at least three|no later than')
  );
}

const TOKEN = '[A-Za-z0-9\\x80-\\uffff_/+.-]*';
const SECRETS = [
  {
    at: /(?<![A-Za-z0-9])(?:AKIA|ghp_|gho_|github_pat_|glpat-|sk-|xoxb-|xoxp-|AIza|eyJhbGci)/g,
    skip: 0,
    shown: 4,
    least: 19,
  },
  {
    at: /(?<![A-Za-z0-9])(?:password|passwd|secret|api_key|api-key|apikey|access_token|auth_token|token)[ "]*[=:][ "']*/gi,
    shown: 2,
    least: 8,
  },
];

/** A private key, a token, a password written out: where the secret part begins and how long it is. */
function findSecret(text) {
  const line = text.slice(0, 511),
    found = [];
  const key = line.indexOf('-----BEGIN ');
  if (key >= 0 && line.includes('PRIVATE KEY', key)) found.push({ at: key + 11, size: 0 });
  for (const { at, skip, shown, least } of SECRETS) {
    for (const match of line.matchAll(at)) {
      const start = match.index + (skip ?? match[0].length),
        value = new RegExp(`^${TOKEN}`).exec(line.slice(start))[0];
      if (value.length < least || /^(?:[<${%]|your|xxx|example|change)/.test(value)) continue;
      const digits = value.replace(/\D/g, '').length,
        letters = [...value].filter(isLetter).length;
      if (digits >= 2 && letters >= 2) found.push({ at: start + shown, size: value.length - shown });
    }
  }
  return found.sort((a, b) => a.at - b.at)[0];
}

/** A passage that is not worth more than one that says nearly the same, or than the third of its kind, is left out. */
function addPassage(passages, made) {
  let sameKind = 0,
    worstSame = -1,
    worst = -1;
  for (const [index, other] of passages.entries()) {
    let alike = 0;
    while (alike < 60 && alike < other.quote.length && other.quote[alike] === made.quote[alike]) alike++;
    if (alike >= 40) return;
    if (worst < 0 || other.score < passages[worst].score) worst = index;
    if (other.kind !== made.kind) continue;
    if (Math.abs(made.line - other.line) < 3) {
      // the next sentence says the same again
      if (made.score > other.score) passages[index] = made;
      return;
    }
    sameKind++;
    if (worstSame < 0 || other.score < passages[worstSame].score) worstSame = index;
  }
  if (sameKind < 2 && passages.length < PASSAGES_MAX) passages.push(made);
  else {
    const slot = sameKind >= 2 ? worstSame : worst;
    if (made.score > passages[slot].score) passages[slot] = made;
  }
}

function findRisks(passages, sentence) {
  const prose = sentence.kind <= ITEM;
  if (sentence.kind === HEADING) return;
  const add = (kind, reason, score) =>
    addPassage(passages, {
      kind,
      reason,
      score: Math.min(100, score),
      line: sentence.line,
      quote: render(sentence.text, 380),
    });
  const secret = findSecret(sentence.text);
  if (secret !== undefined) {
    // the secret itself must not be copied into a report
    addPassage(passages, {
      kind: 'secret',
      score: 92,
      line: sentence.line,
      reason: 'Looks like a key, token or password written out (blacked out here). Take it out, and replace it.',
      quote: `${render(sentence.text.slice(0, secret.at), 160)} [blacked out, ${secret.size} characters]`,
    });
    return;
  }
  const plain = plainOf(sentence.text);
  let best,
    also = 0,
    emphasis = 0;
  for (const rule of rules) {
    const found = rule.patterns.filter((pattern) => matches(plain, pattern)).length;
    if (found === 0) continue;
    also++;
    if (best !== undefined && rule.score <= best.score) continue;
    best = rule;
    emphasis = (found - 1) * 2;
  }
  if (best !== undefined) {
    if (!prose && best.score < 55) return;
    const upper = sentence.text.replace(/[^A-Z]/g, '').length,
      lower = sentence.text.replace(/[^a-z]/g, '').length;
    let score = best.score + (also > 3 ? 9 : (also - 1) * 3) + emphasis + (upper > 20 && lower * 10 < upper ? 3 : 0);
    if (!prose) score -= 14; // a table or a piece of code is an example more often than a promise
    if (sentence.words < 8) score -= 8;
    add(best.kind, best.reason, score);
  } else if (prose && MONEY.test(plain)) {
    add('money', 'Names an amount of money.', 48);
  } else if (prose && hasPeriod(plain)) {
    add('deadline', 'Sets a period that somebody has to keep.', 40);
  }
}

/** What the whole amounts to: the worst passage, raised a little by each of the others. */
function riskOf(passages) {
  passages.sort((a, b) => b.score - a.score || a.line - b.line);
  if (passages.length === 0) return 0;
  return Math.floor(
    100 - passages.slice(1).reduce((left, { score }) => left * (1 - score / 800), 100 - passages[0].score),
  );
}

const turn = () =>
  new Promise((resolve) => {
    setTimeout(resolve, 0);
  });

/** Resolves to { model, category, summary, risk, passages, headings }; other work has its turn in between. */
export async function analyse(text, { signal } = {}) {
  const sentences = split(text.slice(0, DOCUMENT_MAX));
  const { terms, words } = countTerms(sentences);
  weighTerms(sentences, terms);
  await turn();
  const category = categoryOf(sentences, words);
  scoreSentences(sentences);
  await turn();
  const summary = choose(sentences, Math.min(SENTENCES_MAX, 3 + Math.floor(words / 1000)));
  const headings = sentences
    .filter(({ kind }) => kind === HEADING)
    .slice(0, HEADINGS_MAX)
    .map(({ text: title, line }) => ({ title: render(title, 66), line }));
  const passages = [];
  for (const [index, sentence] of sentences.entries()) {
    if (index % 500 === 499) {
      await turn();
      signal?.throwIfAborted();
    }
    findRisks(passages, sentence);
  }
  return { model: 'the built-in reader', category, summary, risk: riskOf(passages), passages, headings };
}

export function count(text) {
  return {
    lines: text === '' ? 0 : text.split('\n').length - (text.endsWith('\n') ? 1 : 0),
    words: text.match(/[A-Za-z0-9\x80-\uffff]+/g)?.length ?? 0,
  };
}
