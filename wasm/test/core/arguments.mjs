// What a program may hand in wrongly: it is told so by name, and nothing else happens.

import { PagentError, open } from '../../index.js';
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

// ---- names and data

const NAMES = {
  'a zero': 'a\0x',
  'half a character': 'a\ud800',
  'too many bytes': 'é'.repeat(64),
  nothing: '',
  'a number': 5,
  'an object': { a: 1 },
  null: null,
  undefined,
  'a symbol': Symbol('x'),
};
const naming = {
  create: (engine, name) => engine.create(name, 'm'),
  'create: machine': (engine, name) => engine.create('c', name),
  post: (engine, name) => engine.post(name, 'add'),
  'post: signal': (engine, name) => engine.post('a', name),
  'post: id': (engine, name) => engine.post('a', 'add', 1, { id: name ?? null }),
  'approve: who': (engine, name) => engine.approve('a', { who: name || null }),
  fork: (engine, name) => engine.fork('a', 1, name),
  view: (engine, name) => engine.view(name),
  has: (engine, name) => engine.has(name),
  history: (engine, name) => engine.history(name).next(),
  'import: id': async (engine, name) => engine.import(await engine.export('a'), { as: 'c', id: name ?? null }),
};
for (const [where, ask] of Object.entries(naming))
  test(`${where}: what is no name is refused`, async () => {
    const engine = await opened();
    for (const [what, name] of Object.entries(NAMES)) {
      const error = await fails('E_ARGUMENT', () => ask(engine, name));
      check(error instanceof PagentError && error.message.length > 30, `${what}: ${error.message}`);
    }
    equal((await engine.view('a')).version, 1);
    equal(await engine.has('c'), false);
    await engine.close();
  });

test('what names are: up to 127 bytes of UTF-8, a byte order mark among them', async () => {
  const engine = await opened();
  const there = await open({ machines: [doing()] });
  for (const name of ['x'.repeat(127), `x${'é'.repeat(63)}`, '\ufeffbot', 'x'.repeat(31), 'x'.repeat(32)]) {
    await engine.create(name, 'm');
    equal((await engine.view(name)).name, name);
    await engine.moveOut(name);
    equal(await there.import(await engine.export(name)), name);
    equal((await there.view(name)).name, name);
  }
  equal((await engine.approve('a', { who: '' }).catch((error) => error)).code, 'E_NOT_FOUND');
  await Promise.all([engine.close(), there.close()]);
});

const cycle = {};
cycle.cycle = cycle;
const NO_DATA = {
  'a cycle': cycle,
  'a BigInt': 5n,
  'a function': () => 1,
  'a symbol': Symbol('x'),
  'a Map': new Map([[1, 2]]),
  'a promise': Promise.resolve(1),
  'a Response': new Response('x'),
  'a getter that throws': {
    get x() {
      throw new Error('mine');
    },
  },
  'what becomes undefined': { toJSON() {} },
};
test('data that is neither bytes nor text nor JSON is refused', async () => {
  const engine = await opened();
  for (const data of Object.values(NO_DATA)) {
    const error = await fails('E_ARGUMENT', () => engine.post('a', 'add', data));
    check(error.message.startsWith('data: '), error.message);
    await fails('E_ARGUMENT', () => engine.cancel('a', { reason: data }));
    equal((await gone((step) => void step.call('work', data))).status, 'parked');
  }
  await fails('E_MEMORY', () => engine.post('a', 'add', new Uint8Array(1.1e9)));
  equal((await engine.view('a')).version, 1);
  await engine.close();
});

test('data that is: bytes of any kind, text, plain values', async () => {
  const seen = [];
  const engine = await opened((step) => void seen.push(step.event.text()));
  class Point {
    x = 1;
  }
  const bytes = new Uint8Array([104, 105]);
  const data = [
    bytes,
    bytes.buffer,
    new DataView(bytes.buffer),
    '\ufeffhi',
    {},
    Object.create(null),
    [],
    new Point(),
    null,
  ];
  for (const value of [...data, undefined]) await engine.post('a', 'go', value);
  equal(JSON.stringify(seen), JSON.stringify(['hi', 'hi', 'hi', '\ufeffhi', '{}', '{}', '[]', '{"x":1}', 'null', '']));
  await engine.close();
  const read = await gone((step) => void (step.context = step.event.json() ?? 'nothing'));
  equal(read.context, 'nothing');
});

// ---- machines

const WRONG_MACHINES = {
  'no object': null,
  'no name': { name: undefined },
  'a name with a zero': { name: 'm\0x' },
  'no states': { states: undefined },
  'a state that is null': { states: { on: null } },
  'a state with a number for a name': { states: { 2: {}, 1: { final: true } } },
  'a misspelt key': { transition: [] },
  'a misspelt key of a row': { transitions: [{ form: 'on' }] },
  'a misspelt key of a call': { calls: { work: { tries: 2 } } },
  'a guard that is no function': { transitions: [{ from: 'on', event: 'cancel', guard: 'yes' }] },
  'an enter that is no function': { states: { on: { enter: 5 }, off: { final: true } } },
  'transitions that are no array': { transitions: {} },
  'signals that are no array': { signals: 'go' },
  'a signal with a space': { signals: ['go now'] },
  'a call without a description': { calls: { work: undefined } },
  'a crash policy that is none': { calls: { work: { crash: 'twice' } } },
  'half an attempt': { calls: { work: { attempts: 0.5 } } },
  'a version that is no number': { version: 'x' },
  'a negative version': { version: -1 },
  'a context of another kind': { context: 'xml' },
  'an initial that is no JSON': { initial: 5n },
  'bytes of no number': { context: 'bytes', initial: 'x' },
  'fewer bytes than none': { context: 'bytes', initial: -1 },
  'more bytes than memory': { context: 'bytes', initial: 4e9 },
  'more bytes than the limit': { context: 'bytes', initial: (16 << 20) + 1 },
};
for (const [what, wrong] of Object.entries(WRONG_MACHINES))
  test(`a machine with ${what} does not open`, async () => {
    const error = await fails('E_MACHINE', () => open({ machines: [wrong && { ...doing(), ...wrong }] }));
    check(error instanceof PagentError && /^machine ('m|number 0)/.test(error.message), error.message);
  });

test("a context's limit is that of the machine, too", async () => {
  const machine = doing(undefined, { machine: { context: 'bytes', initial: 9 } });
  await fails('E_MACHINE', () => open({ machines: [machine], limits: { contextSizeMax: 8 } }));
  const engine = await open({ machines: [machine], limits: { contextSizeMax: 9 } });
  await engine.create('a', 'm');
  equal((await engine.view('a')).context.length, 9);
  await engine.close();
});

await finish();
