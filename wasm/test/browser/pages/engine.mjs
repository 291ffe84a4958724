// The engine over IndexedDB inside one page.

import { memory } from '../../../stores/memory.js';
import { historyOf, pause, start, until } from '../parts/engine.mjs';

let number = 0;
const fresh = () => `engine-${Date.now()}-${++number}`;

export const tests = {
  async 'a whole life: create, call, approve, timer, call'(t) {
    const engine = await start(fresh());
    t.equal((await engine.create('ada', 'traveller', { where: 'Rome', napMs: 20 })).version, 1);
    const asking = await until(engine, 'ada', ({ state }) => state === 'asking');
    t.equal(
      asking.effects.map(({ kind, name }) => [kind, name]),
      [['approval', 'plan']],
    );
    t.equal(asking.effects[0].text(), 'Walk to Rome.');
    await t.throws(engine.approve('ada', { digest: '00000000000000aa' }), /./);
    await engine.approve('ada', { who: 'Bea', digest: asking.effects[0].digest });
    const done = await until(engine, 'ada', ({ status }) => status === 'done');
    t.equal([done.context.receipt, done.context.who], ['paid for "Walk to Rome."', 'Bea']);
    t.equal((await historyOf(engine, 'ada')).length, done.version);
    t.equal((await engine.view('ada', 1)).state, 'thinking');
    await engine.close();
  },

  async 'a new engine goes on where the old one was'(t) {
    const name = fresh(),
      keys = [];
    const first = await start(name, {
      pay: (request, { key }) => {
        keys.push(key);
        return new Promise(() => {});
      },
    });
    await first.create('ada', 'traveller', { where: 'Rome', napMs: 1 });
    await until(first, 'ada', ({ state }) => state === 'asking');
    await first.approve('ada');
    while (keys.length === 0) await pause(5);
    await first.close();
    const second = await start(name, {
      pay: async (request, { key, attempt, repeated }) => {
        keys.push(key, attempt, repeated);
        return 'paid';
      },
    });
    await until(second, 'ada', ({ status }) => status === 'done');
    t.equal(keys, [keys[0], keys[0], 2, true]);
    await second.close();
  },

  async 'the later of two engines has the agent'(t) {
    const name = fresh(),
      first = await start(name);
    await first.create('shared', 'ledger');
    const second = await start(name);
    await second.post('shared', 'add', 'second');
    t.equal((await t.throws(first.post('shared', 'add', 'first'), /./)).code, 'E_FENCED');
    await second.post('shared', 'add', 'again');
    t.equal((await second.view('shared')).context.entries, ['second', 'again']);
    await first.close();
    await second.close();
  },

  async 'a hundred agents, rollback and fork'(t) {
    const engine = await start(fresh());
    const agents = Array.from({ length: 100 }, (_, i) => `agent-${i}`);
    await Promise.all(agents.map((agent) => engine.create(agent, 'traveller', { where: agent, napMs: 1 })));
    for (const agent of agents) await until(engine, agent, ({ state }) => state === 'asking');
    await Promise.all(agents.map((agent) => engine.approve(agent)));
    for (const agent of agents) await until(engine, agent, ({ status }) => status === 'done');
    let listed = 0;
    for await (const { status } of engine.agents()) listed += status === 'done' ? 1 : 0;
    t.equal(listed, 100);
    await engine.fork('agent-0', 1, 'forked');
    await until(engine, 'forked', ({ state }) => state === 'asking');
    const { version } = await engine.view('agent-1');
    await engine.rollback('agent-1', 1);
    t.check((await engine.view('agent-1')).version > version, 'a rollback is a new version');
    await engine.close();
  },

  /* Hidden pages have their timers held back for a second and more. */
  async 'a loop of posts lets the page have its turn, and waits for no timer'(t) {
    const engine = await start(fresh(), {}, { store: memory() }),
      { setTimeout: real } = globalThis,
      { port1, port2 } = new MessageChannel();
    let timers = 0,
      turns = 0;
    globalThis.setTimeout = (work, ms = 0) => {
      if (ms < 100) timers++;
      return real(work, ms);
    };
    port1.onmessage = () => {
      turns++;
      port2.postMessage(0);
    };
    port2.postMessage(0);
    try {
      await engine.create('a', 'ledger');
      for (let n = 0; n < 100_000 && turns < 5; n++) await engine.post('a', 'fill');
    } finally {
      globalThis.setTimeout = real;
      port1.close();
    }
    t.check(turns === 5, 'a message came in between, five times');
    t.equal(timers, 0);
    await engine.close();
  },
};
