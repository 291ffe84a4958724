// What a program may throw, return, abort or close, and when: the engine says so, and nobody waits for ever.

import { CallFailure, open } from '../../index.js';
import { memory } from '../../stores/memory.js';
import { check, equal, fails, finish, test } from '../harness.mjs';
import { within } from '../within.mjs';

const SOON_MS = 10_000; // of what would otherwise take for ever
const soon = (what, promise) => within(SOON_MS, what, promise);

/** Calls whatever `more` has as `act` when an "add" arrives. */
const counter = (more = {}) => ({
  name: 'counter',
  signals: ['add', 'ask', 'end'],
  calls: { c: { attempts: 2, backoffMs: 1, ...more.policy } },
  states: { on: { waits: ['c'] }, off: { final: true } },
  transitions: [
    {
      from: 'on',
      event: 'add',
      action(step) {
        step.context.n = (step.context.n ?? 0) + 1;
        more.act?.(step);
      },
    },
    { from: 'on', event: 'ask', action: (step) => void step.call('c') },
    { from: 'on', event: 'end', to: 'off' },
    { from: 'on', event: 'c.result', action: (step) => void (step.context.answer = step.event.text()) },
    {
      from: 'on',
      event: 'c.failure',
      action: (step) => void (step.context.failure = [step.event.code, step.event.text()]),
    },
  ],
});

const start = (options = {}, more = {}) => open({ machines: [counter(more)], store: memory(), ...options });

/** A memory store of which some functions can be replaced later. */
function replaceable(data = new Map()) {
  const inner = memory({ data });
  const instead = {};
  const store = { ...inner };
  for (const name of ['commit', 'read', 'list', 'trim']) store[name] = (word) => (instead[name] ?? inner[name])(word);
  return { store, inner, instead };
}

const throws = (make) => () => {
  throw make();
};

/** A promise, and what settles it. */
function gate() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

async function until(engine, agent, wanted) {
  for (let tries = 0; tries < 1000; tries++) {
    const view = await engine.view(agent);
    if (wanted(view)) return view;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`${agent} never became what was wanted`);
}

const outcome = (promise) =>
  promise.then(
    () => 'OK',
    (error) => error.code,
  );

/** What reaches the process meanwhile: that would end it. */
async function uncaught(work) {
  const found = [];
  const note = (error) => found.push(error);
  process.on('uncaughtException', note).on('unhandledRejection', note);
  try {
    await work();
    await new Promise((resolve) => setTimeout(resolve, 5));
  } finally {
    process.off('uncaughtException', note).off('unhandledRejection', note);
  }
  return found;
}

async function isQuiet(work) {
  const [error] = await uncaught(work);
  check(error === undefined, `the process would have ended: ${String(error?.stack)}`);
}

// ---- stores of any shape

const WRONG = {
  read: [
    () => undefined,
    () => null,
    () => ({ blocks: [] }),
    () => ({ version: 3 }),
    () => ({ version: 3, blocks: [new ArrayBuffer(8)] }),
    throws(() => new Error('disk')),
    () => ({
      get then() {
        throw new Error('no promise');
      },
    }),
  ],
  commit: [
    () => undefined,
    () => [],
    (batch) => batch.map(() => null),
    (batch) => batch.map(() => ({ result: 'conflict', version: NaN })),
    throws(() => new Error('disk')),
  ],
  list: [
    () => undefined,
    () => ({ items: [], nextDue: NaN }),
    () => ({ items: [{ stream: 'zz' }], nextDue: Infinity }),
    throws(() => new Error('disk')),
  ],
};

for (const [name, answers] of Object.entries(WRONG)) {
  for (const [index, answer] of answers.entries()) {
    for (const late of [false, true]) {
      test(`${name} that answers wrongly, way ${index}${late ? ', late' : ''}`, () =>
        isQuiet(async () => {
          const data = new Map();
          const before = await start({ store: memory({ data }) });
          await before.create('a', 'counter');
          await before.close();
          const { store, instead } = replaceable(data);
          instead[name] = late ? async (word) => answer(word) : answer;
          let engine = await start({ store, limits: { retryPauseMs: 1 } });
          const error = await soon('it settles', engine.post('a', 'add', '', { id: 'one' })).catch((error) => error);
          check(/^E_(STORAGE|IN_DOUBT|CORRUPT)$/.test(error.code), `${error}`);
          instead[name] = undefined;
          await outcome(soon('idle', engine.idle()));
          await soon('it closes', engine.close());
          engine = await start({ store });
          await soon('it goes on', engine.post('a', 'add', '', { id: 'one' }));
          equal((await engine.view('a')).context.n, 1);
          await engine.close();
        }));
    }
  }
}

test('a list longer than was asked for is refused before it is copied', () =>
  isQuiet(async () => {
    const { store, instead } = replaceable();
    const summary = { version: 1, due: 1, time: 1, state: 0, status: 'running', flags: 8 };
    instead.list = async ({ limit }) => ({
      items: Array.from({ length: limit + 1 }, (_, index) => ({ ...summary, stream: index.toString(16) })),
      nextDue: Infinity,
    });
    const engine = await start({ store });
    const error = await fails('E_STORAGE', () => engine.create('a', 'counter'));
    check(/65 items, where the limit was 64/.test(error.message), error.message);
    await engine.close();
  }));

// ---- many posts under way

test('what a step costs does not grow with the posts under way', async () => {
  const engine = await start();
  await engine.create('a', 'counter');
  const { linear } = engine.raw;
  let looks = 0;
  const i32 = linear.i32;
  linear.i32 = function (at) {
    looks++;
    return i32.call(this, at);
  };
  const COUNT = 1000;
  await Promise.all(Array.from({ length: COUNT }, () => engine.post('a', 'add')));
  equal((await engine.view('a')).context.n, COUNT);
  check(looks < 20 * COUNT, `${looks} looks for ${COUNT} posts`);
  await engine.close();
});

test('receipts that are settled out of order', async () => {
  const { store, inner, instead } = replaceable();
  const engine = await start({ store });
  for (const agent of ['a', 'b']) await engine.create(agent, 'counter');
  const order = [];
  const post = (agent, signal) =>
    engine.post(agent, signal).then(
      () => order.push(agent),
      ({ code }) => order.push(code),
    );
  const held = gate(),
    begun = gate();
  instead.commit = async (batch) => {
    begun.resolve();
    await held.promise;
    return inner.commit(batch);
  };
  const posts = [post('a', 'add')];
  await begun.promise;
  posts.push(post('a', 'add'), post('b', 'nope'), post('a', 'add'));
  await soon('the refusal', posts[2]);
  equal(order.join(), 'E_UNDECLARED');
  held.resolve();
  await soon('the others', Promise.all(posts));
  equal(order.join(), 'E_UNDECLARED,a,a,a');
  await engine.close();
});

await finish();
