// What a program may throw, return, abort or close, and when: the engine says so, and nobody waits for ever.

import { CallFailure, open } from '../../index.js';
import { memory } from '../../stores/memory.js';
import { check, equal, fails, finish, test } from '../harness.mjs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until as untilTrue, within } from '../within.mjs';

const SOON_MS = 120_000; // of what would otherwise take for ever
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
  let view;
  const look = async () => wanted((view = await engine.view(agent)));
  await untilTrue(look, () => `${agent} never became what was wanted: ${JSON.stringify(view.context)}`, { pauseMs: 1 });
  return view;
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

// ---- calls

const detached = new Uint8Array(10);
structuredClone(detached, { transfer: [detached.buffer] });

for (const [what, call, failure] of [
  ['a symbol', throws(Symbol), [0, 'something without a text']],
  ['an object without a prototype', throws(() => Object.create(null)), [0, 'something without a text']],
  [
    'a message that throws',
    throws(() => ({
      get message() {
        throw new Error('the getter');
      },
    })),
    [0, 'something without a text'],
  ],
  ['a code that is a bigint', throws(() => new CallFailure('big', { final: true, code: 5n })), [5, 'big']],
  ['a code that is a symbol', throws(() => new CallFailure('odd', { code: Symbol() })), [0, 'odd']],
  ['an answer that was given away', () => detached, [-1003, 'what the call answered cannot be kept']],
  ['an answer above the limit', () => new Uint8Array(5000), [-1003, 'what the call answered cannot be kept']],
  [
    'an error longer than the limit',
    throws(() => new Error('x'.repeat(5000))),
    [-1003, 'what the call answered cannot be kept'],
  ],
]) {
  test(`a call with ${what} is a failure`, () =>
    isQuiet(async () => {
      const engine = await start({ calls: { c: call }, limits: { payloadSizeMax: 4096 } });
      await engine.create('a', 'counter');
      await engine.post('a', 'ask');
      const view = await until(engine, 'a', ({ context }) => context.failure !== undefined);
      equal(JSON.stringify(view.context.failure), JSON.stringify(failure));
      await engine.close();
    }));
}

for (const [retryAfterMs, least, most] of [
  [-50, 0, 60_000],
  [2 ** 32, 2 ** 31, Infinity],
  [Infinity, 2 ** 31, Infinity],
  [NaN, 0, 60_000],
]) {
  test(`retryAfterMs ${retryAfterMs} is no other time`, async () => {
    const calls = { c: throws(() => new CallFailure('busy', { retryAfterMs })) };
    const now = Date.now(), // it stands still: no second attempt is due while the first one's end is looked at
      policy = { attempts: 9, backoffMs: 1000, backoffMaxMs: 1000 };
    const engine = await start({ calls, clock: () => now }, { policy });
    await engine.create('a', 'counter');
    await engine.post('a', 'ask');
    const { effects } = await until(engine, 'a', (view) => view.effects[0]?.attempt === 2);
    const pause = effects[0].due - now;
    check(pause >= least && pause <= most, `a pause of ${pause} ms`);
    await engine.close();
  });
}

test('a call has a function of its own', async () => {
  const machine = counter();
  machine.calls = { toString: {} };
  machine.states.on.waits = ['toString'];
  machine.transitions = JSON.parse(JSON.stringify(machine.transitions).replaceAll('"c.', '"toString.'));
  machine.transitions[1].action = (step) => void step.call('toString');
  machine.transitions[4].action = (step) => void (step.context.failure = step.event.code);
  const engine = await start({ machines: [machine], calls: {} });
  await engine.create('a', 'counter');
  await engine.post('a', 'ask');
  equal((await until(engine, 'a', ({ context }) => context.failure !== undefined)).context.failure, -1014);
  await engine.close();
  await fails('E_ARGUMENT', () => start({ limits: { constructor: 5 } }));
});

// ---- closing

const places = {
  'a handler': (close) => ({ more: { act: close } }),
  'a trace': (close) => ({ options: { trace: ({ kind }) => kind === 'commit' && close() } }),
  'the clock': (close) => ({
    options: {
      clock() {
        close();
        return Date.now();
      },
    },
  }),
  "a store's commit": (close, { store, inner, instead }) => {
    instead.commit = (batch) => (close(), inner.commit(batch));
    return { options: { store } };
  },
  "a store's read": (close, { store, inner, instead }) => {
    instead.read = (request) => (close(), inner.read(request));
    return { options: { store } };
  },
};

for (const [place, make] of Object.entries(places)) {
  for (const way of ['close', 'signal']) {
    test(`${way} inside ${place}`, () =>
      isQuiet(async () => {
        const controller = new AbortController();
        let engine,
          armed = false;
        const close = () => {
          if (armed) way === 'close' ? void engine.close() : controller.abort();
        };
        const { options, more } = make(close, replaceable());
        engine = await start({ ...options, signal: controller.signal }, more);
        await engine.create('a', 'counter');
        await engine.idle();
        armed = true;
        const settled = await soon(
          'both settle',
          Promise.all([outcome(engine.post('a', 'add')), outcome(engine.create('b', 'counter'))]),
        );
        check(/^((OK|E_CLOSED),?)+$/.test(settled), `${settled}`);
        await soon('it closes', engine.close());
        equal(engine.closed, true);
        await fails('E_CLOSED', () => engine.post('a', 'add'));
        await fails('E_CLOSED', () => engine.view('a'));
      }));
  }
}

test('close inside the abort listener of a call that is not wanted any more', () =>
  isQuiet(async () => {
    const closed = gate();
    const c = (request, { signal }) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => {
          engine.close().then(closed.resolve, closed.reject);
          reject(signal.reason);
        });
      });
    const engine = await start({ calls: { c } });
    await engine.create('a', 'counter');
    await engine.post('a', 'ask');
    await engine.idle();
    engine.post('a', 'end').catch(() => {});
    await soon('it closes', closed.promise);
  }));

test('close while agents keep each other busy', async () => {
  const machine = {
    name: 'player',
    signals: ['ping'],
    states: { on: {}, off: { final: true } },
    transitions: [
      { from: 'on', event: 'ping', action: (step) => step.send(step.agent === 'a' ? 'b' : 'a', 'ping') },
      { from: 'on', event: 'cancel', to: 'off' },
    ],
  };
  const { store, inner, instead } = replaceable();
  instead.commit = async (batch) => {
    await new Promise((resolve) => setTimeout(resolve, 0));
    return inner.commit(batch);
  };
  const engine = await open({ machines: [machine], store });
  await engine.create('a', 'player');
  await engine.create('b', 'player');
  await engine.post('a', 'ping');
  await soon('it closes', engine.close());
});

test('close tells the sender what the store was still writing, and begins nothing more', async () => {
  const { store, inner, instead } = replaceable();
  const engine = await start({ store });
  await engine.create('a', 'counter');
  const begun = gate(),
    ended = gate();
  let commits = 0;
  instead.commit = async (batch) => {
    commits++;
    begun.resolve();
    await ended.promise;
    return inner.commit(batch);
  };
  const first = engine.post('a', 'add');
  await begun.promise;
  const second = outcome(engine.post('a', 'add'));
  const closed = engine.close();
  equal(engine.closed, true);
  ended.resolve();
  equal((await first).version, 2);
  equal(await second, 'E_CLOSED');
  await closed;
  equal(commits, 1);
});

test('close does not wait for ever for a commit that never ends', async () => {
  const { store, instead } = replaceable();
  const engine = await start({ store });
  await engine.create('a', 'counter');
  const begun = gate();
  instead.commit = () => {
    begun.resolve();
    return new Promise(() => {});
  };
  const post = outcome(engine.post('a', 'add')),
    idle = outcome(engine.idle());
  await begun.promise;
  await soon('it closes', engine.close({ withinMs: 1 }));
  equal(await post, 'E_CLOSED');
  equal(await idle, 'E_CLOSED');
  await engine.close();
});

test('a commit whose promise is a thenable of little worth', async () => {
  const { store, inner, instead } = replaceable();
  const engine = await start({ store });
  await engine.create('a', 'counter');
  const begun = gate();
  instead.commit = (batch) => {
    begun.resolve();
    return { then: (resolve) => void setTimeout(() => resolve(inner.commit(batch)), 1) };
  };
  const post = engine.post('a', 'add');
  await begun.promise;
  await soon('it closes', engine.close());
  equal((await post).version, 2);
});

const looks = {
  view: (engine) => engine.view('a').then(({ name, version, context }) => `${name} ${version} ${context.n}`),
  export: (engine) => engine.export('a').then((bytes) => `${bytes.length > 400}`),
  async history(engine) {
    const versions = [];
    for await (const { version } of engine.history('a')) versions.push(version);
    return versions.join(' ');
  },
  async agents(engine) {
    let count = 0;
    for await (const { version } of engine.agents()) count += version;
    return `${count}`;
  },
};

test('looking while it closes tells the truth, or E_CLOSED', async () => {
  const right = { view: 'a 4 3', export: 'true', history: '1 2 3 4', agents: '5' };
  for (const store of [() => memory(), () => undefined]) {
    for (const [kind, look] of Object.entries(looks)) {
      const seen = new Set();
      for (let turns = 0; turns < 14; turns++) {
        const engine = await start({ store: store() });
        await engine.create('a', 'counter');
        await engine.create('b', 'counter');
        for (let n = 0; n < 3; n++) await engine.post('a', 'add');
        const found = look(engine).catch(({ code }) => code);
        let later = Promise.resolve();
        for (let turn = 0; turn < turns; turn++) later = later.then(() => {});
        await later.then(() => engine.close());
        seen.add(await soon(kind, found));
      }
      for (const found of seen) check(found === 'E_CLOSED' || found === right[kind], `${kind}: ${found}`);
      check(seen.has('E_CLOSED'), `${kind} was never cut short`);
    }
  }
});

test('agents() of a store of JavaScript notices that the engine was closed, and has named errors', async () => {
  const { store, instead } = replaceable();
  const engine = await start({ store });
  await engine.create('a', 'counter');
  await engine.create('b', 'counter');
  await engine.idle();
  for (const list of [throws(() => new Error('disk')), () => undefined, async () => ({})]) {
    instead.list = list;
    const error = await fails('E_STORAGE', () => engine.agents().next());
    check(error.cause !== undefined, 'a cause');
  }
  instead.list = undefined;
  const agents = engine.agents();
  await agents.next();
  await engine.close();
  await fails('E_CLOSED', () => agents.next());
});

// ---- options and traces

test('a signal that was aborted before, or is none', async () => {
  const reason = Object.assign(new Error('never mind'), { code: 'MINE' });
  await fails('MINE', () => start({ signal: AbortSignal.abort(reason) }));
  await fails('E_ARGUMENT', () => start({ signal: new AbortController() }));
  const engine = await start();
  equal((await soon('traces', engine.traces({ signal: AbortSignal.abort() }).next())).done, true);
  await engine.close();
  await fails('E_CLOSED', async () => soon('traces', engine.traces().next()));
});

test('an open that fails leaves no directory locked', async () => {
  const { mkdtempSync, rmSync } = await import('node:fs');
  const { files } = await import('../../stores/node.js');
  const folder = mkdtempSync(join(tmpdir(), 'lifetimes-'));
  try {
    const store = files(folder);
    for (const wrong of [{ signal: new AbortController() }, { limits: { loadedMax: Symbol() } }, { machines: [{}] }]) {
      const found = await start({ store, ...wrong }).catch((error) => error);
      check(found instanceof Error, 'it opened');
    }
    const engine = await start({ store });
    await engine.create('a', 'counter');
    await engine.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('traces that nobody reads any more are not kept', async () => {
  const engine = await start();
  const unread = engine.traces(),
    read = engine.traces();
  equal((await unread.return('over')).value, 'over');
  equal((await unread.next()).done, true);
  await engine.create('a', 'counter');
  equal((await read.next()).value.agent, 'a');
  equal((await unread.next()).done, true);
  await read.return();
  let records = 0;
  const texts = engine.raw.linear.hex;
  engine.raw.linear.hex = function (at) {
    records++;
    return texts.call(this, at);
  };
  await engine.post('a', 'add');
  equal(records, 1); // the append's stream: no record of a trace was made
  await engine.close();
});

test('several readers of one iterator, and its end', async () => {
  const engine = await start();
  const traces = engine.traces();
  const first = traces.next(),
    second = traces.next();
  await engine.create('a', 'counter');
  check((await first).value.kind !== undefined && (await second).value.kind !== undefined, 'two records');
  await engine.idle();
  const rest = (async () => {
    let count = 0;
    for await (const { kind } of traces) count += kind.length !== 0;
    return count;
  })();
  await engine.post('a', 'add');
  await engine.close();
  check((await soon('the end', rest)) > 0, 'what was there before the end');
});

// ---- the host's functions

test("a tracer's error is the program's, and not the engine's", async () => {
  const mine = new Error('the tracer');
  let engine;
  const found = await uncaught(async () => {
    engine = await start({ trace: throws(() => mine) });
    await engine.create('a', 'counter');
    equal((await engine.post('a', 'add')).version, 2);
  });
  check(found.length !== 0 && found.every((error) => error === mine), `${found}`);
  await engine.close();
});

test('a clock that throws ends the engine, with its error', () =>
  isQuiet(async () => {
    const data = new Map();
    const mine = new Error('no time');
    let broken = false;
    const clock = () => {
      if (broken) throw mine;
      return Date.now();
    };
    const engine = await start({ store: memory({ data }), clock });
    await engine.create('a', 'counter');
    broken = true;
    equal((await fails('E_ARGUMENT', () => engine.post('a', 'add'))).cause, mine);
    await fails('E_ARGUMENT', () => engine.idle());
    await engine.close();
    const next = await start({ store: memory({ data }) });
    const blocks = [];
    for await (const { time } of next.history('a')) blocks.push(time);
    check(
      blocks.every((time) => time > 1e12),
      `a block of no time: ${blocks}`,
    );
    await next.close();
  }));

test('random that throws', () =>
  isQuiet(async () => {
    const mine = new Error('no luck');
    equal((await fails('E_STORAGE', () => start({ random: throws(() => mine) }))).cause, mine);
  }));

test('what goes wrong between polls ends the engine, and nobody waits', () =>
  isQuiet(async () => {
    const mine = new RangeError('no room');
    const engine = await start();
    await engine.create('a', 'counter');
    const post = engine.post('a', 'add'),
      idle = engine.idle();
    engine.raw.linear.begin = throws(() => mine);
    for (const promise of [post, idle])
      equal((await fails('E_ARGUMENT', () => soon('it settles', promise))).cause, mine);
    delete engine.raw.linear.begin;
    await soon('it closes', engine.close());
  }));

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

test("a store's error is the cause of a refusal, and in its text", async () => {
  const { store, instead } = replaceable();
  const engine = await start({ store, limits: { loadedMax: 1 } });
  for (const agent of ['a', 'b', 'c']) await engine.create(agent, 'counter');
  await engine.idle();
  const mine = new Error('the disk is on fire');
  instead.read = throws(() => mine);
  for (const ask of [() => engine.post('a', 'add'), () => engine.view('b')]) {
    const error = await fails('E_STORAGE', ask);
    equal(error.cause, mine);
    check(error.message.includes(mine.message), error.message);
  }
  instead.read = undefined;
  await engine.close();
});

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

/* Of an agent that has to be read first, the engine takes only so many answers: the others come again. */
test('answers that come while their agent is read anew are all taken', async () => {
  const { store, inner, instead } = replaceable();
  const gates = [gate(), gate(), gate()],
    refused = gate();
  let begun = 0;
  const engine = await start({
    store,
    calls: { c: () => gates[begun++].promise },
    limits: { requestsMax: 1, retryPauseMs: 200 },
  });
  await engine.create('a', 'counter');
  for (let i = 0; i < 3; i++) await engine.post('a', 'ask');
  await untilTrue(
    () => begun === 3,
    () => `${begun} calls were begun`,
    { pauseMs: 1 },
  );
  instead.commit = (batch) => {
    delete instead.commit;
    refused.resolve();
    return batch.map(() => ({ result: 'again' })); // what is in memory is given up, and read anew after the pause
  };
  gates[0].resolve('one');
  await soon('the refused commit', refused.promise);
  for (const { resolve } of gates) resolve('another');
  const taken = async () => {
    let count = 0;
    for await (const { event } of engine.history('a')) count += event === 'c.result' ? 1 : 0;
    return count === 3;
  };
  await soon(
    'the answers',
    untilTrue(taken, () => 'not all answers were taken'),
  );
  await engine.close();
});

await finish();
