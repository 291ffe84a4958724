// An agent that drafts the answer to a question with a model, and sends it only as a person has approved it.
//
//   drafting -> asking -> (approved or edited) sending -> sent
//      ^ a model  | comment: drafts again       \-> (refused for good) failed
//      \----------+-> (rejected) dropped, (nobody decided) expired

const HOUR = 3600 * 1000;

function onStart(step) {
  let request;
  try {
    request = step.event.json();
  } catch {
    step.fail('the request is not JSON');
  }
  const { question, system = '', deadlineMs = 72 * HOUR, remindMs = 24 * HOUR } = request ?? {};
  if (typeof question !== 'string' || question.trim() === '') step.fail('there is no "question"');
  step.context = { question, system, deadlineMs, remindMs, comments: [], drafts: 0, reminders: 0 };
}

function askModel(step) {
  const { system, question, draft, comments } = step.context;
  step.context.drafts++;
  const messages = [
    { role: 'system', content: system || 'Answer the question in a few plain sentences.' },
    { role: 'user', content: question },
  ];
  if (comments.length !== 0) {
    messages.push({ role: 'assistant', content: draft });
    messages.push({ role: 'user', content: `Write it again. ${comments.join(' ')}` });
  }
  step.call('model', { messages });
}

function askPerson(step) {
  const { context, now } = step;
  context.asked = step.ask('send', { answer: context.draft }, { deadline: now + context.deadlineMs });
  step.timer('reminder', now + context.remindMs);
}

/** A new draft is another question to the person: the old one must not be approved any more. */
function redraft(step) {
  const { context } = step;
  context.comments.push(step.event.json().text);
  step.cancel(context.asked);
  delete context.asked;
}

function remind(step) {
  step.context.reminders++;
  step.timer('reminder', step.now + step.context.remindMs);
}

function decided(step, decision) {
  const { context, event } = step;
  Object.assign(context, { decision, who: event.who || 'somebody', decidedAt: step.now });
  if (decision === 'edited') context.draft = event.text();
  if (decision === 'rejected') context.why = event.text();
}

const failed = (what) => (step) => {
  step.context.failure = `${what}: ${step.event.text().slice(0, 300) || `code ${step.event.code}`}`;
};
const attempts = { attempts: 50, backoffMs: 1000, backoffMaxMs: 60000, attemptTimeoutMs: 60000 };

/** @type {import('../../index.js').Machine} */
export const answer = {
  name: 'answer',
  signals: ['comment'],
  timers: ['reminder'],
  approvals: ['send'],
  calls: {
    model: { model: true, ...attempts, attemptTimeoutMs: 5 * 60000 },
    deliver: { irreversible: true, ...attempts },
  },
  states: {
    opening: { parent: 'open', initial: true },
    open: { onError: 'failed' },
    drafting: { parent: 'open', waits: ['model'], defer: true, enter: askModel },
    asking: { parent: 'open', waits: ['send'], enter: askPerson, exit: (step) => step.clearTimer('reminder') },
    sending: {
      parent: 'open',
      waits: ['deliver'],
      enter: (step) => {
        step.call('deliver', { answer: step.context.draft });
      },
    },
    sent: { final: true },
    dropped: { final: true },
    expired: { final: true },
    cancelled: { final: true },
    failed: { final: true, failure: true },
  },
  transitions: [
    { from: 'opening', event: 'start', action: onStart, to: 'drafting' },
    {
      from: 'drafting',
      event: 'model.result',
      to: 'asking',
      action: (step) => {
        step.context.draft = step.event.text();
      },
    },
    { from: 'drafting', event: 'model.failure', to: 'failed', action: failed('the model gave no answer') },
    { from: 'asking', event: 'comment', to: 'drafting', action: redraft },
    { from: 'asking', event: 'reminder.timer', action: remind },
    { from: 'asking', event: 'send.approved', to: 'sending', action: (step) => decided(step, 'approved') },
    { from: 'asking', event: 'send.edited', to: 'sending', action: (step) => decided(step, 'edited') },
    { from: 'asking', event: 'send.rejected', to: 'dropped', action: (step) => decided(step, 'rejected') },
    { from: 'asking', event: 'send.expired', to: 'expired' },
    {
      from: 'sending',
      event: 'deliver.result',
      to: 'sent',
      action: (step) => {
        step.context.receipt = step.event.text();
      },
    },
    { from: 'sending', event: 'deliver.failure', to: 'failed', action: failed('it could not be sent') },
    { from: 'sending', event: 'cancel' }, // too late: it may be out already
    { from: 'open', event: 'cancel', to: 'cancelled' },
  ],
};

/** What is wrong with a signal's or a new agent's data; undefined: nothing. Checked before it is journaled. */
export function wrongWith(what, data) {
  if (data === null || typeof data !== 'object') return 'the body is not a JSON object';
  if (what === 'create') {
    if (typeof data.question !== 'string' || data.question.trim() === '') return '"question" is not a text';
    if (data.system !== undefined && typeof data.system !== 'string') return '"system" is not a text';
    for (const name of ['deadlineMs', 'remindMs']) {
      if (data[name] !== undefined && !(Number.isSafeInteger(data[name]) && data[name] > 0 && data[name] < 1e12))
        return `"${name}" is not a number of milliseconds`;
    }
  }
  if (what === 'comment' && typeof data.text !== 'string') return '"text" is not a text';
  return undefined;
}
