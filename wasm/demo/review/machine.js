// The agent that reviews one document, as the native example has it (examples/review_machine.h): its handlers and its tables.
//
//   reading -> summarising -> judging -+-> approval -> (expired) escalated -> (expired) rejected
//               asks a model           |        approved or edited |
//                                      +-> publishing <------------+-> published

import { analyse, count, DOCUMENT_MAX } from './text.js';

export { DOCUMENT_MAX };
export const EDIT_MAX = 8192; // characters of a summary that a person has written
const ASK_MAX = 3; // a model whose answers are not usable is asked so many times

/** Kinds of transcript entries. */
export const ENTRY = { document: 1, analysis: 2, summary: 3, note: 4 };

export const riskWord = (risk) => (risk >= 75 ? 'high' : risk >= 50 ? 'elevated' : risk >= 25 ? 'moderate' : 'low');

/** The newest committed entry of a kind; undefined: none. */
function last(step, kind) {
  for (let index = step.transcriptCount; index-- !== 0;) {
    const entry = step.transcript(index);
    if (entry.kind === kind) return entry;
  }
  return undefined;
}

// Entries of the step that is being handled are not in the transcript yet: then the event still has the bytes.
const documentOf = (step) => (step.event.kind === 'start' ? step.event : last(step, ENTRY.document)).json();
const answerOf = (step) => (step.event.kind === 'result' ? step.event : last(step, ENTRY.analysis)).json();

function wrongWith(answer) {
  if (typeof answer?.summary !== 'string' || answer.summary === '') return 'the answer has no summary';
  if (!Number.isInteger(answer.risk) || answer.risk < 0 || answer.risk > 100)
    return 'the answer has no risk from 0 to 100';
  return Array.isArray(answer.passages) && Array.isArray(answer.headings) ? undefined : 'the answer has no passages';
}

function takeAnswer(step) {
  try {
    const answer = answerOf(step);
    return { answer, wrong: wrongWith(answer) };
  } catch {
    return { wrong: 'the answer is not JSON' };
  }
}

const note = (step, text) => step.remember(ENTRY.note, text);
const moment = (ms) => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

/** The exact action: which file is to be written, and what into it. A person is shown the bytes that the tool is handed. */
function compose(step) {
  const { file } = documentOf(step),
    context = step.context,
    { answer } = takeAnswer(step);
  const edited =
    context.decision === 'edited'
      ? (step.event.kind === 'edited' ? step.event : last(step, ENTRY.summary)).text()
      : undefined;
  const { decision, who, words, lines, threshold } = context;
  const reading = words >= 460 ? `: about ${Math.floor((words + 115) / 230)} minutes to read` : '';
  const decided =
    decision === undefined
      ? context.risk >= threshold
        ? 'waiting for a person'
        : 'none needed'
      : `${decision === 'edited' ? 'summary rewritten and approved' : 'approved'} by ${who}, ${moment(context.decided)}`;
  const rows = [
    ['Document', `\`${file}\``],
    ['Length', `${words} words on ${lines} ${lines === 1 ? 'line' : 'lines'}${reading}`],
    ['Category', answer.category],
    ['Risk', `**${answer.risk}** of 100: ${riskWord(answer.risk)} (from ${threshold} on a person decides)`],
    ['Summary by', edited !== undefined ? who : answer.model],
    ['Decision', decided],
  ];
  const passages = answer.passages.map(
    ({ kind, line, score, reason, quote }, index) =>
      `\n${index + 1}. **${kind}**, ${line ? `line ${line}` : '*not found in the document*'}, risk ${score}. ${reason}\n   > ${quote}\n`,
  );
  const outline =
    answer.headings.length < 2
      ? ''
      : `\n## Outline\n\n${answer.headings.map(({ title, line }) => `- ${title} (line ${line})\n`).join('')}`;
  return {
    file: `${step.agent}.md`,
    text:
      `# Review: ${file}\n\n| | |\n|---|---|\n${rows.map(([name, value]) => `| ${name} | ${value} |`).join('\n')}\n\n` +
      `## Summary\n\n${edited ?? answer.summary}\n\n## What a person should look at\n${passages.join('') || '\nNothing stood out.\n'}${outline}`,
  };
}

// ---- handlers

function onStart(step) {
  const document = step.event.json(),
    { file, text, threshold, deadline } = document;
  if (typeof text !== 'string' || text === '' || text.length > DOCUMENT_MAX || !file)
    step.fail('not a document: empty, or over 1 MiB');
  step.context = { file, opened: step.now, threshold, deadline, risk: 0, passages: 0, asked: 0, ...count(text) };
  step.remember(ENTRY.document, document);
}

function askModel(step) {
  step.context.asked++;
  step.call('analyse', documentOf(step));
}

function onAnswer(step) {
  const { risk, passages, category } = step.event.json();
  Object.assign(step.context, { risk, category, passages: passages.length });
  step.remember(ENTRY.analysis, step.event.data);
}

function askPerson(step) {
  delete step.context.decision;
  const { deadline } = step.context;
  step.ask('publication', compose(step), deadline === 0 ? {} : { deadline: step.now + deadline * 1000 });
}

const decide = (step, decision) =>
  Object.assign(step.context, { decision, decided: step.now, who: step.event.who || 'somebody' });

function onApproved(step) {
  decide(step, 'approved');
  note(step, `approved by ${step.context.who}`);
}

function onEdited(step) {
  const text = step.event.text();
  if (text.length > EDIT_MAX) step.fail('the new summary is over 8 KiB');
  decide(step, text === '' ? 'approved' : 'edited');
  note(step, `summary rewritten by ${step.context.who}`);
  if (text !== '') step.remember(ENTRY.summary, text);
}

function onRejected(step) {
  decide(step, 'rejected');
  const why = step.event.text().slice(0, 200);
  note(step, `rejected by ${step.context.who}${why && `: ${why}`}`);
}

const onUnusable = (again) => (step) =>
  note(step, `${takeAnswer(step).wrong}; ${again ? 'asking again' : 'asked too often'}`);
const onCallFailed = (what) => (step) =>
  note(step, `${what}: ${step.event.text().slice(0, 200) || `code ${step.event.code}`}`);

const attempts = { attempts: 60, backoffMs: 500, backoffMaxMs: 20000 };

/** @type {import('../../index.js').Machine} */
export const review = {
  name: 'review',
  approvals: ['publication'],
  calls: {
    analyse: { crash: 'repeat', model: true, ...attempts, attemptTimeoutMs: 6 * 3600 * 1000 },
    publish: { crash: 'repeat', irreversible: true, ...attempts, attemptTimeoutMs: 60000 },
  },
  states: {
    reading: { parent: 'open', initial: true },
    open: { onError: 'failed' },
    summarising: { parent: 'open', waits: ['analyse'], enter: askModel },
    judging: { parent: 'open' },
    deciding: { parent: 'open' },
    approval: { parent: 'deciding', initial: true, waits: ['publication'], enter: askPerson },
    escalated: { parent: 'deciding', waits: ['publication'], enter: askPerson },
    publishing: {
      parent: 'open',
      waits: ['publish'],
      enter: (step) => {
        step.call('publish', compose(step));
      },
    },
    published: { final: true },
    rejected: { final: true },
    cancelled: { final: true },
    failed: { final: true, failure: true },
  },
  transitions: [
    { from: 'reading', event: 'start', action: onStart, to: 'summarising' },
    {
      from: 'summarising',
      event: 'analyse.result',
      guard: (step) => takeAnswer(step).wrong === undefined,
      action: onAnswer,
      to: 'judging',
    },
    {
      from: 'summarising',
      event: 'analyse.result',
      guard: (step) => step.context.asked < ASK_MAX,
      action: onUnusable(true),
      to: 'summarising',
    },
    { from: 'summarising', event: 'analyse.result', action: onUnusable(false), to: 'failed' },
    { from: 'summarising', event: 'analyse.failure', action: onCallFailed('the model gave no answer'), to: 'failed' },
    { from: 'judging', event: 'always', guard: ({ context }) => context.risk >= context.threshold, to: 'approval' },
    { from: 'judging', event: 'always', to: 'publishing' },
    { from: 'deciding', event: 'publication.approved', action: onApproved, to: 'publishing' },
    { from: 'deciding', event: 'publication.edited', action: onEdited, to: 'publishing' },
    { from: 'deciding', event: 'publication.rejected', action: onRejected, to: 'rejected' },
    {
      from: 'approval',
      event: 'publication.expired',
      to: 'escalated',
      action: (step) => note(step, 'nobody decided in time; asking a second time'),
    },
    {
      from: 'escalated',
      event: 'publication.expired',
      to: 'rejected',
      action(step) {
        decide(step, 'rejected');
        note(step, 'nobody decided in time, twice: rejected');
      },
    },
    {
      from: 'publishing',
      event: 'publish.result',
      to: 'published',
      action: (step) => note(step, `published as ${step.event.text()}`),
    },
    {
      from: 'publishing',
      event: 'publish.failure',
      action: onCallFailed('the report could not be written'),
      to: 'failed',
    },
    {
      from: 'publishing',
      event: 'cancel',
      action: (step) => note(step, 'cancelling came too late: the report is being written'),
    },
    { from: 'open', event: 'cancel', action: (step) => note(step, 'cancelled'), to: 'cancelled' },
  ],
};

/** The built-in reader as the model. */
export const analyseCall = async (request, context) => {
  const { text } = context.json();
  return analyse(text, context);
};
