// What a program may hand in wrongly: it is told so by name, and nothing else happens.

import { PagentError, open } from '../../index.js';
import { memory } from '../../stores/memory.js';
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
    { from: 'on', event: 'add', action: more.add ?? ((step) => void (step.context.n = (step.context.n ?? 0) + 1)) },
    ...(more.rows ?? []).map(([event, action]) => ({ from: 'on', event, action })),
    ...['nap.timer', 'work.result', 'work.failure', 'ok.approved', 'ok.rejected', 'ok.expired']
      .filter((event) => !more.rows?.some(([own]) => own === event))
      .map((event) => ({ from: 'on', event })),
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

// ---- guards and contexts

const guarded = (guard) => ({ row: { guard }, machine: { initial: { n: 5 } } });

test('a guard that changes the context in place changes nothing', async () => {
  const tries = (step) => (step.context.n -= 100) > 0;
  const engine = await opened(undefined, guarded(tries));
  await fails('E_REFUSED', () => engine.post('a', 'go'));
  await engine.post('a', 'add');
  await fails('E_REFUSED', () => engine.post('a', 'go'));
  await engine.post('a', 'add');
  equal((await engine.view('a')).context.n, 7);
  await engine.close();
});

const acting = {
  'assigns the context': (step) => void (step.context = { n: 1 }),
  'begins a call': (step) => step.call('work'),
  'asks for approval': (step) => step.ask('ok'),
  'sets a timer': (step) => step.timer('nap', 1),
  'clears a timer': (step) => step.clearTimer('nap'),
  'sends a signal': (step) => step.send('b', 'add'),
  'cancels an effect': (step) => step.cancel('1.0'),
  'remembers something': (step) => step.remember(1, 'x'),
};
for (const [what, act] of Object.entries(acting))
  test(`a guard that ${what} fails`, async () => {
    for (const answer of [true, false]) {
      const { status, error, context, effects, transcript } = await gone(
        undefined,
        guarded((step) => (act(step), answer)),
      );
      equal(status, 'parked');
      check(/a guard only looks/.test(error.text), error.text);
      equal(context.n, 5);
      equal(effects.length + transcript.length, 0);
    }
  });

test('a guard that is asynchronous fails', async () => {
  for (const guard of [
    async () => false,
    async () => {
      throw new Error('later');
    },
  ]) {
    const { status, error, context } = await gone((step) => void (step.context.n = 0), guarded(guard));
    equal(status, 'parked');
    check(/synchronous/.test(error.text), error.text);
    equal(context.n, 5);
  }
});

test('agents that were given the same object do not share it', async () => {
  const SHARED = { list: [], n: 0 };
  const ways = {
    'as a whole': (step) => void (step.context = SHARED),
    within: (step) => void (step.context.inner = SHARED),
    twice: (step) => void Object.assign(step.context, { n: 0, list: (step.context.other = []) }),
  };
  for (const [what, action] of Object.entries(ways)) {
    const add = (step) => void (step.context.inner ?? step.context).list.push(1);
    const engine = await opened(action, { machine: { signals: ['go', 'add', 'push'] }, rows: [['push', add]] });
    for (const agent of ['a', 'b']) await engine.post(agent, 'go');
    for (let n = 0; n < 3; n++) await engine.post('a', 'push');
    await engine.post('b', 'push');
    const [a, b] = [await engine.view('a'), await engine.view('b')];
    equal(JSON.stringify((a.context.inner ?? a.context).list), '[1,1,1]');
    equal(JSON.stringify((b.context.inner ?? b.context).list), '[1]');
    equal(JSON.stringify(a.context.other ?? []), '[]');
    equal(SHARED.list.length, 0);
    check(b.status === 'waiting' || b.status === 'running', `${what}: ${b.status}`);
    await engine.close();
  }
});

test('what a context holds is what its JSON says, already in the next step', async () => {
  const seen = [];
  const look = ({ context }) => void seen.push(typeof context.date, context.nan, 'none' in context, context.map);
  const engine = await opened(
    (step) =>
      Object.assign(step.context, { date: new Date(0), nan: NaN, none: undefined, map: { m: new Map([[1, 2]]) } }) &&
      undefined,
    { machine: { signals: ['go', 'add', 'look'] }, rows: [['look', look]] },
  );
  await engine.post('a', 'go');
  await engine.post('a', 'look');
  equal(JSON.stringify(seen), '["string",null,false,{"m":{}}]');
  await engine.close();
});

for (const [what, value] of Object.entries({
  text: 'hello',
  'a number': 5,
  'a list': [1],
  null: null,
  undefined,
  object: {},
}))
  test(`a context of bytes that is assigned ${what} fails`, async () => {
    const { status, error, contextBytes } = await gone((step) => void (step.context = value), {
      machine: { context: 'bytes', initial: 2 },
      add: () => {},
    });
    equal(status, 'parked');
    check(/is not bytes/.test(error.text), error.text);
    equal(`${contextBytes}`, '0,0');
  });

test('a context of bytes takes bytes of any kind', async () => {
  const bytes = new Uint8Array([1, 2, 3, 4]);
  for (const value of [bytes, bytes.buffer, new DataView(bytes.buffer), new Float32Array(bytes.buffer)]) {
    const more = { machine: { context: 'bytes', initial: 2 }, add: () => {} };
    equal(`${(await gone((step) => void (step.context = value), more)).contextBytes}`, '1,2,3,4');
  }
});

for (const [what, action] of Object.entries({
  'a timer at no time': (step) => step.timer('nap'),
  'a timer at NaN': (step) => step.timer('nap', NaN),
  'a timer at a text': (step) => step.timer('nap', '12'),
  'a deadline of NaN': (step) => step.ask('ok', 1, { deadline: NaN }),
  'a misspelt deadline': (step) => step.ask('ok', 1, { deadlineMs: 5 }),
  'an entry of no kind': (step) => step.remember('note', 1),
  'a signal to a name with a zero': (step) => step.send('b\0zz', 'add'),
  "an effect's id that is none": (step) => step.cancel('x'),
}))
  test(`${what} fails`, async () => {
    const { status, error, effects } = await gone((step) => void action(step));
    equal(status, 'parked');
    check(/^PagentError: /.test(error.text), error.text);
    equal(effects.length, 0);
  });

test('a step that is over says so, whatever is asked of it', async () => {
  let kept;
  const engine = await opened((step) => {
    kept = step;
    step.context.n = 1;
    void step.event;
  });
  await engine.post('a', 'go');
  for (const word of ['context', 'event', 'agent', 'version', 'now', 'transcriptCount'])
    check(/the step is over/.test((await fails('E_ARGUMENT', () => kept[word])).message), word);
  await fails('E_ARGUMENT', () => kept.call('work'));
  await fails('E_ARGUMENT', () => (kept.context = 1));
  await engine.close();
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

test('a call that answers with no data has failed', async () => {
  for (const data of Object.values(NO_DATA)) {
    if (data instanceof Promise) continue; // is waited for
    let told;
    const failed = new Promise((resolve) => (told = (step) => resolve(step.event.text())));
    const more = { machine: { calls: { work: { attempts: 1 } } }, rows: [['work.failure', (step) => told(step)]] };
    const engine = await opened((step) => void step.call('work'), more, { calls: { work: async () => data } });
    await engine.post('a', 'go');
    check((await failed).startsWith('data: '), 'it says so');
    await engine.close();
  }
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

// ---- options

const { commit, read } = memory();
const WRONG_OPTIONS = {
  'of no object': null,
  'with a misspelt key': { stores: memory() },
  'with an empty store': { store: {} },
  'with a store of half its functions': { store: { commit, read } },
  'with the promise of a store': { store: Promise.resolve(memory()) },
  'with a store that is null': { store: null },
  'with one machine that is not in an array': { machines: doing() },
  'with a call that is no function': { calls: { work: 'work' } },
  'with a clock that is a number': { clock: 5 },
  'with a tracer that is no function': { trace: {} },
  'with a timer of no length': { timerMaxMs: 'x' },
  'with a misspelt limit': { limits: { contextSize: 5 } },
  'with a limit that is a text': { limits: { contextSizeMax: 'x' } },
  'with a limit below none': { limits: { contextSizeMax: -1 } },
  'with a limit of half a byte': { limits: { payloadSizeMax: 0.5 } },
  'with a limit beyond 32 bits': { limits: { blockSizeMax: 2 ** 32 + 1 } },
};
for (const [what, options] of Object.entries(WRONG_OPTIONS))
  test(`options ${what} do not open`, async () => {
    const error = await fails('E_ARGUMENT', () => open(options));
    check(error instanceof PagentError && error.message !== 'an argument is wrong', error.message);
  });

const every = async (items) => {
  const found = [];
  for await (const item of items) found.push(item.version);
  return found;
};
const WRONG_ARGUMENTS = {
  'post: a misspelt option': (engine) => engine.post('a', 'add', 1, { expectedversion: 1 }),
  'post: an option of another verb': (engine) => engine.post('a', 'add', 1, { force: true }),
  'post: options of no object': (engine) => engine.post('a', 'add', 1, 'once'),
  'post: no version': (engine) => engine.post('a', 'add', 1, { expectedVersion: 0 }),
  'post: a version as a text': (engine) => engine.post('a', 'add', 1, { expectedVersion: '1' }),
  'post: a version without an end': (engine) => engine.post('a', 'add', 1, { expectedVersion: Infinity }),
  'post: a version that is a symbol': (engine) => engine.post('a', 'add', 1, { expectedVersion: Symbol('x') }),
  'approve: an effect of another kind': (engine) => engine.approve('a', { effect: Symbol('x') }),
  'approve: a digest that is a number': (engine) => engine.approve('a', { digest: 5 }),
  'rollback: no version': (engine) => engine.rollback('a'),
  'rollback: version 0': (engine) => engine.rollback('a', 0),
  'fork: no version': (engine) => engine.fork('a', undefined, 'c'),
  'view: NaN': (engine) => engine.view('a', NaN),
  'view: below 0': (engine) => engine.view('a', -1),
  'view: half a version': (engine) => engine.view('a', 1.9),
  'view: a text': (engine) => engine.view('a', 'x'),
  'view: beyond all': (engine) => engine.view('a', 1e300),
  'view: a stream of no hex digits': (engine) => engine.view({ stream: 'zz' }),
  'view: a misspelt stream': (engine) => engine.view({ streams: '00' }),
  'history: a misspelt option': (engine) => every(engine.history('a', { form: 1 })),
  'history: below 0': (engine) => every(engine.history('a', { from: -1 })),
  'agents: a misspelt option': (engine) => every(engine.agents({ signals: 1 })),
  'import: nothing': (engine) => engine.import(),
  'import: a text': (engine) => engine.import('abc'),
  'import: a misspelt option': (engine) => engine.import(new Uint8Array(200), { name: 'c' }),
  'diagram: another format': async (engine) => engine.diagram('m', { format: 'svg' }),
  'diagram: a misspelt option': async (engine) => engine.diagram('m', { mark: 'on' }),
  'trim: without full snapshots': (engine) => engine.trim(),
};
for (const [what, ask] of Object.entries(WRONG_ARGUMENTS))
  test(`${what}: refused, and told why`, async () => {
    const engine = await opened();
    const error = await fails('E_ARGUMENT', () => ask(engine));
    check(error instanceof PagentError && error.message !== 'an argument is wrong', error.message);
    equal((await engine.view('a')).version, 1);
    await engine.close();
  });

test('an id is applied once while it is among the last limits.dedupeCount', async () => {
  for (const dedupeCount of [undefined, 32]) {
    const engine = await opened(undefined, undefined, { limits: { dedupeCount } });
    const post = async (id) => (await engine.post('a', 'add', undefined, { id })).outcome;
    const most = dedupeCount ?? 16;
    equal(await post('x'), 'done');
    for (let n = 1; n < most; n++) await post(`${n}`);
    equal(await post('x'), 'duplicate');
    equal(await post('one more'), 'done');
    equal(await post('x'), 'done');
    await engine.close();
  }
});

test('a refusal is a rejection, not an exception', async () => {
  const engine = await opened();
  for (const promise of [
    engine.post(),
    engine.post('a', 'add', 5n),
    engine.approve('a', 5),
    engine.view(),
    engine.import(),
  ])
    equal(
      await promise.then(
        () => undefined,
        (error) => error.code,
      ),
      'E_ARGUMENT',
    );
  await engine.close();
});

test('what is left out, or null, is no option; a history begins where it is told to', async () => {
  const engine = await opened();
  await engine.post('a', 'add', 1, null);
  await engine.post('a', 'add', 1, { id: undefined, expectedVersion: undefined });
  equal(`${await every(engine.history('a', null))}`, '1,2,3');
  equal(`${await every(engine.history('a', { from: 0 }))}`, '1,2,3');
  equal(`${await every(engine.history('a', { from: 2 }))}`, '2,3');
  equal((await engine.view('a', 0)).version, 3);
  await engine.close();
});

test('an agent of which only the stream is known can be looked at, and carried elsewhere', async () => {
  const engine = await opened();
  const { stream, name } = await engine.view('a');
  equal((await engine.view({ stream })).name, name);
  equal(`${await every(engine.history({ stream }))}`, '1');
  equal(await engine.import(await engine.export({ stream }), { as: 'c' }), 'c');
  equal((await engine.view('c')).parent.agent, 'a');
  await engine.close();
});

test('export and import take what they are given as it is when they are called', async () => {
  const engine = await opened();
  const agent = { stream: (await engine.view('a')).stream };
  const exporting = engine.export(agent);
  agent.stream = 'f'.repeat(16);
  const bytes = await exporting;
  const options = {};
  for (const [as, given] of [
    ['bytes', bytes.slice()],
    ['view', new Uint8Array([0, ...bytes]).subarray(1)],
    ['buffer', globalThis.Buffer?.from(bytes) ?? bytes.slice()], // whose slice() is no copy
  ]) {
    options.as = as;
    const importing = engine.import(given, options);
    options.as = 'other';
    given.fill(0);
    equal(await importing, as);
  }
  await engine.close();
});

test('what is null is as if it were absent', async () => {
  const machine = {
    name: 'caller',
    calls: { go: { crash: null, attempts: null, backoffMs: null } },
    states: { going: { waits: ['go'], enter: (step) => step.call('go', '') }, done: { final: true } },
    transitions: [
      { from: 'going', event: 'go.result', to: 'done' },
      { from: 'going', event: 'go.failure', to: 'done' },
    ],
  };
  const none = { random: null, clock: null, trace: null };
  const engine = await open({ machines: [machine], calls: { go: async () => '' }, ...none });
  await engine.create('a', 'caller');
  await engine.close();
});

test('handlers have no `this`', async () => {
  const seen = [];
  const machine = {
    name: 'bare',
    signals: ['go'],
    states: {
      idle: {
        enter() {
          seen.push(this);
        },
      },
      done: { final: true },
    },
    transitions: [
      {
        from: 'idle',
        event: 'go',
        to: 'done',
        guard() {
          seen.push(this);
          return true;
        },
      },
    ],
  };
  const engine = await open({ machines: [machine] });
  await engine.create('a', 'bare');
  await engine.post('a', 'go');
  equal(seen.length >= 2 && seen.every((it) => it === undefined), true);
  await engine.close();
});

test('limits that are inherited hold', async () => {
  await fails('E_LIMIT', () => opened(undefined, undefined, { limits: Object.create({ blockSizeMax: 100 }) }));
});

await finish();
