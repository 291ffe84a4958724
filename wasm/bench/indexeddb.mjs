// node wasm/bench/indexeddb.mjs [--browsers=chromium,firefox,webkit] [--rounds=11] [--ms=300] [filter]
//
// How fast the engine over IndexedDB, and the store alone, are, against a bare strict transaction of the same shape: get
// the head, then add the block and put the head, done at oncomplete; without index, copy or checks. Both run in one page
// in alternating rounds, each on its own database; a ratio is the median over the pairs of neighbouring rounds. A step of the engine is a signal posted and handled: one block, durable when the promise resolves.
// The same file runs in the page.

import { counter } from './counter.js';
import { Table, compared, median, rate, takeTurns, words } from './kit.mjs';

const streamOf = (number) =>
  ((BigInt(number + 1) * 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn).toString(16).padStart(16, '0');

// ---- in the page ----------------------------------------------------------------------------------------------------

function openBare(name) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore('heads', { keyPath: 'stream' });
      request.result.createObjectStore('blocks');
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function commitBare(database, appends) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(['heads', 'blocks'], 'readwrite', { durability: 'strict' });
    const heads = transaction.objectStore('heads'),
      blocks = transaction.objectStore('blocks');
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
    for (const {
      stream,
      expected,
      blocks: [block],
    } of appends) {
      const get = heads.get(stream);
      get.onsuccess = () => {
        if ((get.result?.version ?? 0) !== expected) {
          transaction.abort();
          return;
        }
        blocks.add(block, [stream, expected + 1]);
        heads.put({ stream, version: expected + 1 });
      };
    }
  });
}

/** A subject appends for its agents, one block each: `step()` is one commit. */
function subject(commit, makeBlock, { agents, due, size }) {
  const heads = Array.from({ length: agents }, (_, i) => ({ stream: streamOf(i), version: 0 }));
  return async () => {
    await commit(
      heads.map(({ stream, version }) => ({
        stream,
        expected: version,
        epoch: 1,
        first: version + 1,
        blocks: [makeBlock({ stream, version: version + 1, based: version % 200, payload: size - 64 })],
        summary: {
          stream,
          version: version + 1,
          due: due ? 1.8e12 + version : Infinity,
          time: 1.8e12,
          state: 3,
          status: 'waiting',
          flags: due ? 1 : 0,
        },
      })),
    );
    for (const head of heads) head.version++;
  };
}

/** A step of each of the agents, all asked for at once. */
async function engineSubject({ agents }, name) {
  const [{ open }, { indexedDB: openStore }] = [await import('../index.js'), await import('../stores/indexeddb.js')];
  const engine = await open({
    machines: [counter],
    store: await openStore(name),
    limits: { requestsMax: 2048, loadedMax: 2048 },
  });
  const names = Array.from({ length: agents }, (_, i) => `agent-${i}`);
  await Promise.all(names.map((agent) => engine.create(agent, 'counter')));
  const step =
    agents === 1
      ? () => engine.post('agent-0', 'go')
      : () => Promise.all(names.map((agent) => engine.post(agent, 'go')));
  return { step, engine, close: () => engine.close() };
}

/** Bytes of a block that the engine writes for a step. */
export async function blockSize() {
  const name = `bench-size-${Date.now()}`,
    { step, engine, close } = await engineSubject({ agents: 1 }, name),
    sizes = [];
  for (let i = 0; i < 20; i++) await step();
  for await (const { raw } of engine.history('agent-0')) sizes.push(raw.length);
  await close();
  indexedDB.deleteDatabase(name);
  return median(sizes.slice(2));
}

/** Milliseconds from nothing to all agents listed with an engine that runs them; to the view of one; and of a bare getAll. */
export async function listing({ rounds, agents, steps }) {
  const name = `bench-list-${Date.now()}`,
    { step, close } = await engineSubject({ agents }, name);
  for (let i = 1; i < steps; i++) await step();
  await close();
  const [{ open, load }, { indexedDB: openStore }] = [
    await import('../index.js'),
    await import('../stores/indexeddb.js'),
  ];
  const wasm = await load(),
    times = { list: [], view: [], bare: [] };
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    const engine = await open({ wasm, machines: [counter], store: await openStore(name) });
    let count = 0;
    for await (const { version } of engine.agents()) count += version === steps ? 1 : 0;
    times.list.push(performance.now() - start);
    if (count !== agents) throw new Error(`${count} agents of ${steps} steps`);
    const viewing = performance.now(),
      { context } = await engine.view(`agent-${(round * 31) % agents}`);
    times.view.push(performance.now() - viewing);
    if (context.count !== steps - 1) throw new Error(`${context.count} steps counted`);
    await engine.close();
    const reading = performance.now();
    await new Promise((resolve) => {
      indexedDB.open(name).onsuccess = ({ target: { result: bare } }) => {
        bare.transaction('heads').objectStore('heads').getAll().onsuccess = () => {
          bare.close();
          resolve();
        };
      };
    });
    times.bare.push(performance.now() - reading);
  }
  indexedDB.deleteDatabase(name);
  return times;
}

/** Rates in commits a second, of each round, of both. */
export async function compare({ rounds, ms, ours, theirs }) {
  const { indexedDB: openStore } = await import('../stores/indexeddb.js');
  const { makeBlock } = await import('../test/browser/tools.mjs');
  const start = async (shape, name) => {
    if (shape.engine) return engineSubject(shape, name);
    if (shape.bare) {
      const database = await openBare(name);
      return {
        step: subject((appends) => commitBare(database, appends), makeBlock, shape),
        close: () => database.close(),
      };
    }
    const store = await openStore(name);
    const commit = async (appends) => {
      for (const { result } of await store.commit(appends)) if (result !== 'ok') throw new Error(result);
    };
    return { step: subject(commit, makeBlock, shape), close: () => store.close() };
  };
  const name = `bench-${Date.now()}`,
    a = await start(ours, `${name}-a`),
    b = await start(theirs, `${name}-b`);
  const rates = await takeTurns(
    rounds,
    () => rate(a.step, ms),
    () => rate(b.step, ms),
  );
  await a.close();
  await b.close();
  for (const database of ['a', 'b']) indexedDB.deleteDatabase(`${name}-${database}`);
  return rates;
}

/** Blocks a second, read in pieces of 1 MiB; against one getAll of everything. */
export async function reading({ rounds, blocks: count, size }) {
  const { indexedDB: openStore } = await import('../stores/indexeddb.js');
  const { makeBlock } = await import('../test/browser/tools.mjs');
  const name = `bench-${Date.now()}`,
    store = await openStore(name),
    stream = streamOf(0),
    rates = { ours: [], theirs: [] };
  for (let expected = 0; expected < count; expected += 1000) {
    const blocks = Array.from({ length: 1000 }, (_, i) =>
      makeBlock({ stream, version: expected + 1 + i, based: expected + i, payload: size - 64 }),
    );
    await store.commit([
      {
        stream,
        expected,
        epoch: 1,
        first: expected + 1,
        blocks,
        summary: { stream, version: expected + 1000, due: Infinity, time: 0, state: 0, status: 'waiting', flags: 0 },
      },
    ]);
  }
  const bare = await new Promise((resolve) => {
    indexedDB.open(name).onsuccess = ({ target }) => resolve(target.result);
  });
  for (let round = 0; round < rounds; round++) {
    let start = performance.now();
    for (let version = 1; version <= count;)
      version += (await store.read({ stream, mode: 'from', version, maxBytes: 1 << 20 })).blocks.length;
    rates.ours.push((count * 1000) / (performance.now() - start));
    start = performance.now();
    await new Promise((resolve) => {
      bare.transaction('blocks').objectStore('blocks').getAll().onsuccess = resolve;
    });
    rates.theirs.push((count * 1000) / (performance.now() - start));
  }
  bare.close();
  store.close();
  indexedDB.deleteDatabase(name);
  return rates;
}

// ---- outside --------------------------------------------------------------------------------------------------------

async function measure(page, kind, { rounds, ms, filter }, table) {
  const size = 512,
    one = { agents: 1, size },
    hundred = { agents: 100, size },
    step = { agents: 1, engine: true },
    steps = { agents: 100, engine: true };
  const written = await page.call('/bench/indexeddb.mjs', 'blockSize');
  const bare = (shape) => ({ ...shape, bare: true });
  const show = (what, floor, rates, [a, b], judged) => {
    const { ours, theirs, ratio } = compared(rates);
    table.line({
      what: `${kind}: ${what}`,
      measured: `${Math.round(ours * a)}/s`,
      floor: `${Math.round(theirs * b)}/s ${floor}`,
      value: (ratio * a) / b,
      ...judged,
    });
  };
  const lines = [
    // what, floor, shapes, agents in a commit of each, bar
    [
      'engine, one agent: durable steps',
      'bare strict transaction',
      step,
      bare({ agents: 1, size: written }),
      [1, 1],
      { least: 0.9, bar: '≥ 0.9 × bare' },
    ],
    [
      'engine, 100 agents ready at once',
      'engine, one agent',
      steps,
      step,
      [100, 1],
      { least: 8, bar: '≥ 8 × one agent' },
    ],
    [
      'engine, 100 agents ready at once',
      'bare, 100 x get, add, put',
      steps,
      bare({ agents: 100, size: written }),
      [100, 100],
    ],
    ['store, one agent', 'bare, one agent', one, bare(one), [1, 1]],
    ['store, one agent, a new due time each step', 'bare, one agent', { ...one, due: true }, bare(one), [1, 1]],
    [
      'store, one agent, 16 KiB blocks',
      'bare, the same',
      { ...one, size: 16384 },
      bare({ ...one, size: 16384 }),
      [1, 1],
    ],
    ['store, 100 agents in one commit()', 'bare, 100 x get, add, put', hundred, bare(hundred), [100, 100]],
    ['store, 100 agents in one commit()', 'store, one agent', hundred, one, [100, 1]],
  ];
  for (const [what, floor, ours, theirs, scales, judged] of lines) {
    if (!what.includes(filter)) continue;
    const rates = await page.call('/bench/indexeddb.mjs', 'compare', { rounds, ms, ours, theirs });
    show(what, floor, rates, scales, judged);
  }
  if ('reading'.includes(filter)) {
    const rates = await page.call('/bench/indexeddb.mjs', 'reading', { rounds, blocks: 20000, size });
    show('reading 20,000 blocks by 1 MiB', 'one bare getAll of them', rates, [1, 1]);
  }
  if ('list'.includes(filter)) {
    const times = await page.call('/bench/indexeddb.mjs', 'listing', { rounds, agents: 1000, steps: 50 });
    const [list, view, all] = [times.list, times.view, times.bare].map((values) => median(values).toFixed(1));
    table.note(
      `${kind}: 1,000 agents of 50 steps: engine open and all of them listed in ${list} ms ` +
        `(a bare getAll of the heads: ${all} ms), then the view of one in ${view} ms`,
    );
  }
  table.note(`${kind}: blocks of a step: ${written} bytes, also in the bare transaction; the store's alone: ${size}`);
}

async function main() {
  const { mkdtemp, rm } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  const { join } = await import('node:path');
  const { launch, missing } = await import('../test/browser/browsers.mjs');
  const { serve } = await import('../test/browser/server.mjs');
  const { browsers, filter, ...options } = words({ browsers: 'chromium', rounds: '11', ms: '300' });
  const rounds = Number(options.rounds),
    ms = Number(options.ms),
    table = new Table();
  const server = await serve();
  for (const kind of browsers.split(',')) {
    const reason = missing(kind);
    if (reason) {
      table.skip(kind, reason);
      continue;
    }
    const profile = await mkdtemp(join(tmpdir(), 'persistent-agent-')),
      browser = await launch(kind, { profile });
    try {
      await measure(await browser.page(server.url), kind, { rounds, ms, filter }, table);
    } catch (error) {
      table.fail(kind, error);
    } finally {
      await browser.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    }
  }
  await server.close();
  return table.print(`IndexedDB, strict: medians of ${rounds} interleaved rounds of ${ms} ms`);
}

if (typeof process !== 'undefined' && process.versions?.node) process.exit(await main());
