// The engine in JavaScript: what a program sees of it, over a store that answers at once and over one that answers late.
// ENGINE_WASM names a module that was built otherwise (./build.sh wasm --toolchain …).

import * as engines from '../../index.js';
import { PagentError, CallFailure } from '../../index.js';
import { memory } from '../../stores/memory.js';
import { check, equal, fails, finish, test } from '../harness.mjs';
import { until as untilTrue } from '../within.mjs';

const other = globalThis.process?.env?.ENGINE_WASM;
const wasm = other && new URL(other, `file://${process.cwd()}/`);
const load = () => engines.load(wasm);
const open = (options) => engines.open({ wasm, ...options });

const planner = {
  name: 'planner',
  signals: ['note', 'ping'],
  timers: ['nap'],
  approvals: ['plan'],
  calls: { model: { model: true, attempts: 3, backoffMs: 1 }, pay: { crash: 'once', irreversible: true } },
  states: {
    thinking: {
      waits: ['model'],
      enter(step) {
        step.context.turns = (step.context.turns ?? 0) + 1;
        step.remember(1, { asked: step.agent });
        step.call('model', { prompt: 'What shall we do?' });
      },
    },
    asking: {
      waits: ['plan'],
      enter: (step) => {
        step.context.plan = step.event.text();
        step.ask('plan', step.event.data);
      },
    },
    paying: {
      waits: ['pay'],
      enter: (step) => {
        step.call('pay', '5');
      },
    },
    napping: { enter: (step) => step.timer('nap', step.now + 1) },
    done: { final: true },
    dropped: { final: true },
    broken: {},
  },
  transitions: [
    { from: 'thinking', event: 'model.result', to: 'asking' },
    { from: 'thinking', event: 'model.failure', to: 'dropped' },
    {
      from: '*',
      event: 'note',
      action(step) {
        (step.context.notes ??= []).push(step.event.data.length === 0 ? null : step.event.json());
      },
    },
    {
      from: 'asking',
      event: 'ping',
      action() {
        throw new Error('the action is broken');
      },
    },
    { from: 'asking', event: 'plan.approved', to: 'paying', guard: (step) => step.event.who !== 'nobody' },
    { from: 'asking', event: 'plan.approved', to: 'broken' },
    {
      from: 'asking',
      event: 'plan.edited',
      to: 'napping',
      action: (step) => {
        step.context.plan = step.event.text();
      },
    },
    { from: 'asking', event: 'plan.rejected', to: 'dropped' },
    { from: 'asking', event: 'plan.expired', to: 'dropped' },
    { from: 'paying', event: 'pay.result', to: 'done' },
    { from: 'paying', event: 'pay.failure', to: 'dropped' },
    { from: 'paying', event: 'pay.in_doubt', to: 'asking' },
    { from: 'napping', event: 'nap.timer', to: 'done' },
    { from: 'broken', event: 'note', to: 'done' },
  ],
};

/** The same store, answering when other work has had its turn. */
function late(store) {
  const later = (name) =>
    store[name] &&
    (async (...words) => {
      await new Promise((resolve) => setTimeout(resolve, 0));
      return store[name](...words);
    });
  return { ...store, commit: later('commit'), read: later('read'), list: later('list'), trim: later('trim') };
}

const kinds = {
  'compiled-in memory': () => {
    let kept;
    return { store: undefined, again: false, kept };
  },
  'a store that answers at once': () => {
    const data = new Map();
    return {
      again: true,
      get store() {
        return memory({ data });
      },
    };
  },
  'a store that answers late': () => {
    const data = new Map();
    return {
      again: true,
      get store() {
        return late(memory({ data }));
      },
    };
  },
};

const calls = { model: async () => 'Sleep well.', pay: async () => 'paid' };

async function until(engine, agent, wanted) {
  let view;
  const look = async () => wanted((view = await engine.view(agent)));
  await untilTrue(look, () => `${agent} never became what was wanted: ${view.state}`, { pauseMs: 2 });
  return view;
}

for (const [kind, make] of Object.entries(kinds)) {
  const start = (where, more = {}) => open({ machines: [planner], calls, store: where.store, ...more });

  test(`${kind}: a whole life`, async () => {
    const engine = await start(make());
    equal((await engine.create('a', 'planner')).version, 1);
    const asking = await until(engine, 'a', (view) => view.state === 'asking');
    equal(asking.context.plan, 'Sleep well.');
    equal(asking.context.turns, 1);
    equal(asking.transcript.length, 1);
    equal(asking.transcript[0].json().asked, 'a');
    equal(asking.effects.length, 1);
    equal(asking.effects[0].text(), 'Sleep well.');
    await engine.post('a', 'note', { n: 1 });
    await engine.post('a', 'note', { n: 2 }, { id: 'two' });
    equal((await engine.post('a', 'note', { n: 2 }, { id: 'two' })).outcome, 'duplicate');
    await engine.approve('a', { who: 'Ada', digest: asking.effects[0].digest });
    const done = await until(engine, 'a', (view) => view.state === 'done');
    equal(JSON.stringify(done.context.notes), '[{"n":1},{"n":2}]');
    equal(done.status, 'done');
    const versions = [];
    for await (const block of engine.history('a')) versions.push(block.version);
    check(
      versions.every((version, index) => version === index + 1),
      `versions are contiguous: ${versions}`,
    );
    equal(versions.length, done.version);
    const agents = [];
    for await (const agent of engine.agents()) agents.push(agent.stream);
    equal(agents.length, 1);
    equal(agents[0], done.stream);
    await engine.close();
    await fails('E_CLOSED', () => engine.view('a'));
  });

  test(`${kind}: refusals have names`, async () => {
    const engine = await start(make());
    await fails('E_NOT_FOUND', () => engine.view('nobody'));
    await fails('E_NOT_FOUND', () => engine.post('nobody', 'note'));
    await fails('E_NOT_FOUND', () => engine.create('a', 'no such machine'));
    equal(await engine.has('a'), false);
    await engine.create('a', 'planner');
    equal(await engine.has('a'), true);
    await fails('E_EXISTS', () => engine.create('a', 'planner'));
    await until(engine, 'a', (view) => view.state === 'asking');
    const conflict = await fails('E_CONFLICT', () => engine.post('a', 'note', 1, { expectedVersion: 1 }));
    check(conflict.version > 1, 'a conflict tells the version');
    check(conflict instanceof PagentError && conflict.message.length > 5, 'an error says something');
    await fails('E_CONFLICT', () => engine.approve('a', { digest: '00000000000000aa' }));
    for (const wrong of [{ effect: 'zz' }, { digest: 'zz' }, { expectedVersion: 1.5 }, { expectedVersion: -1 }]) {
      const refused = await fails('E_ARGUMENT', () => engine.approve('a', wrong));
      check(refused instanceof PagentError && refused.message.length > 5, `${JSON.stringify(wrong)}: ${refused}`);
    }
    await fails('E_UNDECLARED', () => engine.post('a', 'nothing'));
    await fails('E_NOT_FOUND', () => engine.view('a', 99));
    await engine.close();
  });

  test(`${kind}: a handler that throws changes nothing`, async () => {
    const engine = await start(make());
    await engine.create('a', 'planner');
    await until(engine, 'a', (view) => view.state === 'asking');
    await engine.post('a', 'note', ['kept']);
    await engine.post('a', 'ping').catch(() => {});
    const parked = await until(engine, 'a', (view) => view.status === 'parked');
    equal(parked.error.text, 'Error: the action is broken');
    equal(JSON.stringify(parked.context.notes), '[["kept"]]');
    await engine.close();
  });

  test(`${kind}: edit, timer, guard`, async () => {
    const engine = await start(make());
    await engine.create('a', 'planner');
    await engine.create('b', 'planner');
    await until(engine, 'a', (view) => view.state === 'asking');
    await engine.edit('a', 'Run.', { who: 'Ada' });
    equal((await until(engine, 'a', (view) => view.state === 'done')).context.plan, 'Run.');
    await until(engine, 'b', (view) => view.state === 'asking');
    await engine.approve('b', { who: 'nobody' });
    equal((await engine.view('b')).state, 'broken');
    await engine.close();
  });

  test(`${kind}: versions, rollback, fork, cancel`, async () => {
    const engine = await start(make());
    await engine.create('a', 'planner');
    const asking = await until(engine, 'a', (view) => view.state === 'asking');
    equal((await engine.view('a', 1)).state, 'thinking');
    await engine.fork('a', asking.version, 'b');
    await engine.post('a', 'note', 1);
    await engine.rollback('a', asking.version);
    const back = await engine.view('a');
    equal(back.context.notes, undefined);
    check(back.version > asking.version, 'a rollback is a new version');
    const fork = await engine.view('b');
    equal(fork.parent.agent, 'a');
    await engine.cancel('b', { reason: 'enough' });
    equal((await engine.view('b')).status, 'cancelled');
    await engine.approve('a');
    await until(engine, 'a', (view) => view.state === 'done');
    await fails('E_IRREVERSIBLE', () => engine.rollback('a', asking.version));
    await engine.rollback('a', asking.version, { force: true });
    await engine.close();
  });

  test(`${kind}: a call's failures`, async () => {
    let count = 0;
    const keys = new Set();
    const engine = await start(make(), {
      calls: {
        ...calls,
        async model(request, { key, attempt, json }) {
          keys.add(key);
          equal(attempt, ++count);
          if (count < 3) throw new CallFailure('busy', { retryAfterMs: 2 });
          return 'At last.';
        },
      },
    });
    await engine.create('a', 'planner');
    equal((await until(engine, 'a', (view) => view.state === 'asking')).context.plan, 'At last.');
    equal(keys.size, 1);
    await engine.close();
    const final = await start(make(), {
      calls: {
        model: () => {
          throw new CallFailure('never', { final: true });
        },
      },
    });
    await final.create('a', 'planner');
    await until(final, 'a', (view) => view.state === 'dropped');
    await final.close();
  });

  test(`${kind}: an import that is sent again under its id is one`, async () => {
    const here = await start(make());
    const there = await start(make());
    await here.create('a', 'planner');
    await until(here, 'a', (view) => view.state === 'asking');
    await here.moveOut('a');
    const bytes = await here.export('a');
    equal(await there.import(bytes, { id: 'once' }), 'a');
    const { version } = await there.view('a');
    equal(await there.import(bytes, { id: 'once' }), 'a');
    equal((await there.view('a')).version, version);
    await there.approve('a');
    await until(there, 'a', (view) => view.state === 'done');
    equal(await there.import(bytes, { id: 'once' }), 'a');
    await fails('E_EXISTS', () => there.import(bytes, { id: 'twice' }));
    await here.close();
    await there.close();
  });

  test(`${kind}: moved by a file, and forked`, async () => {
    const here = await start(make());
    const there = await start(make());
    await here.create('a', 'planner');
    await until(here, 'a', (view) => view.state === 'asking');
    const copy = await here.export('a');
    await fails('E_REFUSED', () => there.import(copy));
    equal(await there.import(copy, { as: 'twin' }), 'twin');
    equal((await there.view('twin')).parent.agent, 'a');
    await here.moveOut('a');
    await fails('E_FINISHED', () => here.post('a', 'note', 1));
    const moved = await here.export('a');
    equal(await there.import(moved), 'a');
    await fails('E_EXISTS', () => there.import(moved));
    await fails('E_EXISTS', () => there.import(moved, { id: 'another' }));
    await fails('E_EXISTS', () => here.import(moved, { id: 'another' }));
    equal((await here.view('a')).status, 'moved');
    equal(await there.import(copy, { as: 'twin', id: 'again' }), 'twin');
    await fails('E_EXISTS', () => there.import(moved, { as: 'twin', id: 'again' }));
    const bad = moved.slice();
    bad[bad.length - 9] ^= 1;
    await fails('E_CORRUPT', () => there.import(bad, { as: 'b' }));
    const asking = await there.view('a');
    equal(asking.state, 'asking');
    equal(asking.effects.length, 1);
    await there.approve('a');
    await until(there, 'a', (view) => view.state === 'done');
    const links = [];
    for await (const block of here.history('a')) links.push(block.link);
    let index = 0;
    for await (const block of there.history('a')) if (index < links.length) equal(block.link, links[index++]);
    await here.close();
    await there.close();
  });

  test(`${kind}: there and back again`, async () => {
    const home = await start(make());
    const abroad = await start(make());
    await home.create('a', 'planner');
    await until(home, 'a', (view) => view.state === 'asking');
    await home.moveOut('a');
    const first = await home.export('a');
    await fails('E_EXISTS', () => home.import(first)); // it may live elsewhere by now
    equal(await home.import(first, { again: true }), 'a'); // a change of mind; an import that was cut short looks the same
    await fails('E_EXISTS', () => home.import(first, { again: true }));
    await home.moveOut('a');
    await fails('E_EXISTS', () => home.import(first, { again: true })); // older than what is here
    await abroad.import(await home.export('a'));
    await abroad.post('a', 'note', 1);
    await abroad.moveOut('a');
    const back = await abroad.export('a');
    equal(await home.import(back), 'a');
    await fails('E_EXISTS', () => home.import(back));
    await home.approve('a');
    await until(home, 'a', (view) => view.state === 'done');
    equal((await abroad.view('a')).status, 'moved');
    await home.close();
    await abroad.close();
  });

  if (make().again) {
    test(`${kind}: a new engine goes on`, async () => {
      const where = make();
      const first = await start(where, {
        calls: { model: () => new Promise(() => {}), pay: () => new Promise(() => {}) },
      });
      await first.create('a', 'planner');
      await first.create('b', 'planner');
      await first.close();
      const repeated = [];
      const second = await start(where, {
        calls: {
          ...calls,
          model: async (request, call) => {
            repeated.push(call.repeated, call.attempt);
            return 'Again.';
          },
        },
      });
      equal((await until(second, 'a', (view) => view.state === 'asking')).context.plan, 'Again.');
      await until(second, 'b', (view) => view.state === 'asking');
      equal(JSON.stringify(repeated), '[true,2,true,2]');
      await second.close();
    });

    test(`${kind}: ${'crash'} policy once is in doubt`, async () => {
      const where = make();
      const first = await start(where, { calls: { ...calls, pay: () => new Promise(() => {}) } });
      await first.create('a', 'planner');
      await until(first, 'a', (view) => view.state === 'asking');
      await first.approve('a');
      await first.close();
      const second = await start(where, {
        calls: {
          ...calls,
          pay: async () => {
            throw new Error('must not be called');
          },
        },
      });
      const asked = await until(second, 'a', (view) => view.state === 'asking');
      equal(asked.context.turns, 1);
      await second.close();
    });

    test(`${kind}: two engines: the older one is fenced`, async () => {
      const where = make();
      const first = await start(where);
      await first.create('a', 'planner');
      await until(first, 'a', (view) => view.state === 'asking');
      const second = await start(where);
      await second.post('a', 'note', 2);
      await fails('E_FENCED', () => first.post('a', 'note', 1));
      equal(JSON.stringify((await second.view('a')).context.notes), '[2]');
      await first.close();
      await second.close();
    });

    test(`${kind}: a hundred agents share commits`, async () => {
      let commits = 0,
        appends = 0;
      const data = new Map();
      const inner = kind.endsWith('late') ? late(memory({ data })) : memory({ data });
      const engine = await open({
        machines: [planner],
        calls,
        store: {
          ...inner,
          commit: (batch) => {
            commits++;
            appends += batch.length;
            return inner.commit(batch);
          },
        },
      });
      await Promise.all(Array.from({ length: 100 }, (_, n) => engine.create(`agent-${n}`, 'planner')));
      for (let n = 0; n < 100; n++) await until(engine, `agent-${n}`, (view) => view.state === 'asking');
      check(appends >= 200 && commits * 8 <= appends, `${appends} appends in ${commits} commits`);
      await engine.close();
    });

    test(`${kind}: a store in doubt is asked again`, async () => {
      for (const applied of [true, false]) {
        const data = new Map();
        const inner = memory({ data });
        let doubt = 0;
        const store = {
          ...inner,
          async commit(batch) {
            if (++doubt === 2) {
              if (applied) inner.commit(batch);
              throw new Error('the connection was lost');
            }
            return inner.commit(batch);
          },
        };
        const engine = await open({ machines: [planner], calls, store });
        await engine.create('a', 'planner');
        await until(engine, 'a', (view) => view.state === 'asking');
        const versions = [];
        for await (const block of engine.history('a')) versions.push(block.version);
        equal(versions.length, versions.at(-1));
        await engine.close();
      }
    });
  }
}

test('machines that can get stuck do not load', async () => {
  const broken = { ...planner, transitions: planner.transitions.filter(({ event }) => event !== 'plan.expired') };
  const error = await fails('E_MACHINE', () => open({ machines: [broken] }));
  check(/plan|expired/.test(error.message), error.message);
  await fails('E_MACHINE', () =>
    open({ machines: [{ ...planner, states: { ...planner.states, extra: { wait: [] } } }] }),
  );
  await fails('E_ARGUMENT', () => open({ limits: { nonsense: 1 } }));
});

test('a context that a failed step had changed is as it was, though the step had written it', async () => {
  const machine = {
    name: 'm',
    signals: ['go', 'look'],
    initial: { text: 'ä'.repeat(300), list: [] },
    states: {
      a: { onError: 'c' },
      b: {
        enter() {
          throw new Error('not here');
        },
      },
      c: {},
      end: { final: true },
    },
    transitions: [
      { from: 'a', event: 'go', action: (step) => step.context.list.push('lost'), to: 'b' },
      { from: '*', event: 'look', action: (step) => step.context.list.push(step.context.text.length) },
      { from: 'c', event: 'go', action: (step) => (step.context.text += '世'.repeat(4000)), to: 'a' },
      { from: '*', event: 'cancel', to: 'end' },
    ],
  };
  const engine = await open({ machines: [machine] });
  const agents = ['x', 'y', 'z'];
  await Promise.all(agents.map((agent) => engine.create(agent, 'm')));
  const all = (signal) => Promise.all(agents.map((agent) => engine.post(agent, signal).catch(() => {})));
  for (const signal of ['look', 'go', 'look', 'go', 'look']) await all(signal);
  for (const agent of agents) {
    const { state, context } = await engine.view(agent);
    equal(state, 'a');
    equal(JSON.stringify(context.list), '[300,300,4300]');
    equal(context.text, 'ä'.repeat(300) + '世'.repeat(4000));
  }
  await engine.close();
});

test('handlers must be synchronous', async () => {
  const engine = await open({
    machines: [
      {
        name: 'm',
        signals: ['go'],
        states: { a: { async enter() {} }, end: { final: true } },
        transitions: [{ from: 'a', event: 'go', to: 'end' }],
      },
    ],
  });
  await engine.create('x', 'm').catch(() => {});
  const view = await engine.view('x');
  equal(view.status, 'parked');
  check(/synchronous/.test(view.error.text), view.error.text);
  await engine.close();
});

test('large contexts, memory growth, bytes', async () => {
  const counter = {
    name: 'counter',
    context: 'bytes',
    initial: 8,
    signals: ['grow'],
    states: { a: {}, end: { final: true } },
    transitions: [
      {
        from: 'a',
        event: 'grow',
        action(step) {
          const bytes = new Uint8Array(step.context.length * 2 + 1);
          bytes.set(step.context);
          bytes[0]++;
          step.context = bytes;
        },
      },
      { from: 'a', event: 'cancel', to: 'end' },
    ],
  };
  const engine = await open({ machines: [counter] });
  await engine.create('x', 'counter');
  for (let n = 0; n < 18; n++) await engine.post('x', 'grow');
  const view = await engine.view('x');
  equal(view.context[0], 18);
  equal(view.context.length, 9 * 2 ** 18 - 1);
  await engine.close();
});

test('many engines of one module; text beyond ASCII', async () => {
  const module = await load();
  const engines = await Promise.all(
    Array.from({ length: 20 }, () =>
      open({ wasm: module, machines: [planner], calls: { model: async (request, { json }) => 'Schlaf gut, 世界 🌍' } }),
    ),
  );
  await Promise.all(engines.map((engine, n) => engine.create(`агент-${n}`, 'planner')));
  for (const [n, engine] of engines.entries())
    equal((await until(engine, `агент-${n}`, (view) => view.state === 'asking')).context.plan, 'Schlaf gut, 世界 🌍');
  equal(new Set(engines.map((engine) => engine.machineHash('planner'))).size, 1);
  await Promise.all(engines.map((engine) => engine.close()));
});

test('traces, diagrams, signals that abort', async () => {
  const controller = new AbortController();
  const engine = await open({ machines: [planner], calls, signal: controller.signal });
  const seen = [];
  const reading = (async () => {
    for await (const record of engine.traces()) seen.push(record.kind);
  })();
  await engine.create('a', 'planner');
  await until(engine, 'a', (view) => view.state === 'asking');
  check(engine.diagram('planner', { state: 'asking' }).startsWith('stateDiagram'), 'Mermaid');
  check(engine.diagram('planner', { format: 'dot' }).startsWith('digraph'), 'DOT');
  controller.abort();
  await reading;
  check(seen.includes('commit') && seen.includes('call'), `${seen}`);
  equal(engine.closed, true);
});

test('far deadlines are left to an alarm', async () => {
  const napper = {
    name: 'napper',
    timers: ['nap'],
    states: { napping: { enter: (step) => step.timer('nap', step.now + 60_000) }, awake: { final: true } },
    transitions: [{ from: 'napping', event: 'nap.timer', to: 'awake' }],
  };
  const { setTimeout: real } = globalThis;
  let now = 1.8e12,
    timers = [];
  globalThis.setTimeout = (work, ms, ...words) => {
    timers.push(ms);
    return real(work, ms, ...words);
  };
  try {
    for (const timerMaxMs of [undefined, 1000]) {
      const engine = await open({ machines: [napper], store: memory(), clock: () => now, timerMaxMs });
      await engine.create('x', 'napper');
      now += 1000; // what an engine does once it has nothing to do is done
      timers = [];
      await engine.wake();
      const far = timers.filter((ms) => ms > 1000).length;
      equal(far, timerMaxMs === undefined ? 1 : 0);
      equal(engine.nextDeadline, now + 59_000);
      now += 59_000;
      await engine.wake();
      equal((await engine.view('x')).state, 'awake');
      await engine.close();
    }
  } finally {
    globalThis.setTimeout = real;
  }
});

test('a loop of posts lets other work have its turn', async () => {
  const engine = await open({ machines: [planner], calls, store: memory() });
  await engine.create('a', 'planner');
  await until(engine, 'a', (view) => view.state === 'asking');
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  for (let n = 0; n < 50_000 && ticks === 0; n++) await engine.post('a', 'note', n % 10);
  clearInterval(timer);
  check(ticks > 0, 'a timer ran meanwhile');
  await engine.close();
});

test('an agent that goes on by itself lets other work have its turn', async () => {
  const restless = {
    name: 'restless',
    timers: ['next'],
    initial: { count: 0 },
    states: {
      going: {
        enter(step) {
          if (++step.context.count < 30_000) step.timer('next', step.now);
        },
      },
      gone: { final: true },
    },
    transitions: [
      { from: 'going', event: 'next.timer', to: 'going' },
      { from: 'going', event: 'cancel', to: 'gone' },
    ],
  };
  const engine = await open({ machines: [restless], store: memory() });
  const created = engine.create('a', 'restless');
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  await created;
  await engine.idle();
  clearInterval(timer);
  equal((await engine.view('a')).context.count, 30_000);
  check(ticks > 1, `a timer ran ${ticks} times meanwhile`);
  await engine.close();
});

await finish();
