// What a program may hand in wrongly: it is told so by name, and nothing else happens.

import { open } from '../../index.js';
import { check, equal, fails, finish, test } from '../harness.mjs';

/** A machine that does one thing when told to go, and counts when told to add. */
const doing = (action, more = {}) => ({
  name: 'm',
  signals: ['go', 'add'],
  timers: ['nap'],
  approvals: ['ok'],
  calls: { work: {} },
  states: { on: { waits: ['work', 'ok'] }, off: { final: true } },
  transitions: [
    { from: 'on', event: 'go', action, ...more.row },
    { from: 'on', event: 'add', action: (step) => void (step.context.n = (step.context.n ?? 0) + 1) },
    ...['nap.timer', 'work.result', 'work.failure', 'ok.approved', 'ok.rejected', 'ok.expired'].map((event) => ({
      from: 'on',
      event,
    })),
    { from: 'on', event: 'cancel', to: 'off' },
  ],
  ...more.machine,
});

async function opened(action, more, options) {
  const engine = await open({ machines: [doing(action, more)], calls: { work: async () => 'done' }, ...options });
  await engine.create('a', 'm');
  await engine.create('b', 'm');
  return engine;
}

/** What becomes of an agent that is told to go; another one goes on. */
async function gone(action, more) {
  const engine = await opened(action, more);
  await engine.post('a', 'go').catch(() => {});
  equal((await engine.post('b', 'add')).outcome, 'done');
  const view = await engine.view('a');
  await engine.close();
  return view;
}

const mute = Object.create(null);

const throwing = {
  'a symbol': () => {
    throw Symbol('x');
  },
  'an object without a text': () => {
    throw mute;
  },
  'an error whose text throws': () => {
    throw {
      toString() {
        throw new Error('no');
      },
    };
  },
  'a text with half characters and zeros': () => {
    throw 'x\0\ud800';
  },
  'a BigInt as a code': (step) => step.fail('x', 5n),
  'a symbol as a text': (step) => step.fail(Symbol('x')),
  'a context that throws': (step) => {
    Object.defineProperty(step.context, 'x', {
      enumerable: true,
      get() {
        throw mute;
      },
    });
  },
};
for (const [what, action] of Object.entries(throwing))
  test(`a handler fails with ${what}: its agent is parked`, async () => {
    const { status, error } = await gone(action);
    equal(status, 'parked');
    check(error.text !== '', 'it has a text');
  });

await finish();
