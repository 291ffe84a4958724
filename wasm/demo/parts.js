// Words and numbers as the page shows them, and a helper to build its parts.

/** h('li', { class: 'x', onclick }, 'text', child …) */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null && child !== ''));
  return element;
}

const STATES = {
  reading: ['Reading', ''],
  summarising: ['Being summarised', ''],
  judging: ['Being judged', ''],
  approval: ['Waiting for a decision', 'wait'],
  escalated: ['Waiting for a decision, asked a second time', 'wait'],
  publishing: ['Being published', ''],
  published: ['Published', 'good'],
  rejected: ['Rejected', 'bad'],
  cancelled: ['Cancelled', ''],
  failed: ['Failed', 'bad'],
};

/** [words, tone] */
export function stateOf({ state, status }) {
  if (status === 'parked') return ['Stopped by an error', 'bad'];
  if (status === 'moved') return ['Moved to another place', ''];
  return STATES[state] ?? [state, ''];
}

export const toneOf = (score) => (score >= 75 ? 'bad' : score >= 50 ? 'wait' : '');

export function bytes(size) {
  return size < 1000 ? `${size} B` : `${(size / 1024).toFixed(size < 10240 ? 1 : 0)} KiB`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
export const time = (ms) => (new Date(ms).toDateString() === new Date().toDateString() ? clock : day).format(ms);

const some = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

const EVENTS = {
  start: 'document received',
  'analyse.result': 'summary received',
  'analyse.failure': 'no summary',
  'publication.approved': 'approved',
  'publication.edited': 'summary edited',
  'publication.rejected': 'rejected',
  'publication.expired': 'nobody decided in time',
  'publish.result': 'report written',
  'publish.failure': 'report not written',
  restored: 'taken up again',
  cancel: 'cancelled',
  always: 'went on',
};

/** What a block says happened: { what, more }. */
export function eventOf(block) {
  let what = EVENTS[block.event] ?? block.event;
  if (block.type === 'create' && block.outcome === 'forked') what = 'forked from another document';
  else if (block.type !== 'create' && block.type !== 'commit')
    what =
      { rollback: 'rolled back', claim: 'engine took it over', snapshot: 'snapshot', moved: 'moved out' }[block.type] ??
      block.type;
  const moved = block.from === block.to ? block.to : [block.from, block.to].filter(Boolean).join(' \u2192 ');
  const effects = [
    block.effectsIssued && `${some(block.effectsIssued, 'effect')} begun`,
    block.effectsSettled && `${block.effectsSettled} settled`,
    block.entries && some(block.entries, 'entry', 'entries'),
  ]
    .filter(Boolean)
    .join(', ');
  return { what, more: [moved, effects, [block.who, time(block.time)].filter(Boolean).join(', ')].filter(Boolean) };
}

/** Why something was refused, in plain words. */
export function plainly({ code, message }) {
  return (
    {
      E_CONFLICT: 'Somebody has changed this document in the meantime. Look again, then decide.',
      E_SETTLED: 'This has been decided already.',
      E_EXPIRED: 'The time to decide is over.',
      E_STALE: 'This question is no longer open.',
      E_FINISHED: 'This review has ended: nothing can change it but a rollback.',
      E_EXISTS: 'There is a document of that name already.',
      E_NO_SPACE: 'The browser has no room left for this site.',
    }[code] ?? message
  );
}
