// node wasm/bench/indexeddb.mjs [--browsers=chromium,firefox,webkit] [--rounds=11] [--ms=400] [filter]
//
// How fast the IndexedDB store is, against a bare strict transaction of the same shape: get the head, then add the
// block and put the head, done at oncomplete; without index, copy or checks. Both run in one page in alternating rounds,
// each on its own database; a ratio is the median over the pairs of neighbouring rounds. 1 or more is good.
// The same file runs in the page.

const streamOf = (number) => (BigInt(number + 1) * 0x9e3779b97f4a7c15n & 0xffffffffffffffffn).toString(16).padStart(16, '0');
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

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
    const heads = transaction.objectStore('heads'), blocks = transaction.objectStore('blocks');
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
    for (const { stream, expected, blocks: [block] } of appends) {
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
    await commit(heads.map(({ stream, version }) => ({
      stream, expected: version, epoch: 1, first: version + 1,
      blocks: [makeBlock({ stream, version: version + 1, based: version % 200, payload: size - 64 })],
      summary: { stream, version: version + 1, due: due ? 1.8e12 + version : Infinity, time: 1.8e12, state: 3, status: 'waiting', flags: due ? 1 : 0 },
    })));
    for (const head of heads) head.version++;
  };
}

async function rate(step, ms) {
  const start = performance.now();
  let count = 0, now;
  do {
    await step();
    count++;
    now = performance.now();
  } while (now - start < ms);
  return count * 1000 / (now - start);
}

/** Rates in commits a second, of each round, of both. */
export async function compare({ rounds, ms, ours, theirs }) {
  const { indexedDB: openStore } = await import('../stores/indexeddb.js');
  const { makeBlock } = await import('../test/browser/tools.mjs');
  const start = async (shape, name) => {
    if (shape.bare) {
      const database = await openBare(name);
      return { step: subject((appends) => commitBare(database, appends), makeBlock, shape), close: () => database.close() };
    }
    const store = await openStore(name);
    const commit = async (appends) => {
      for (const { result } of await store.commit(appends)) if (result !== 'ok') throw new Error(result);
    };
    return { step: subject(commit, makeBlock, shape), close: () => store.close() };
  };
  const name = `bench-${Date.now()}`, a = await start(ours, `${name}-a`), b = await start(theirs, `${name}-b`);
  const rates = { ours: [], theirs: [] };
  await rate(a.step, ms);
  await rate(b.step, ms);
  for (let round = 0; round < rounds; round++) { // a b, b a, a b …
    for (const first of [round % 2 === 0, round % 2 !== 0]) {
      if (first) rates.ours.push(await rate(a.step, ms));
      else rates.theirs.push(await rate(b.step, ms));
    }
  }
  a.close();
  b.close();
  for (const database of ['a', 'b']) indexedDB.deleteDatabase(`${name}-${database}`);
  return rates;
}

/** Blocks a second, read in pieces of 1 MiB; against one getAll of everything. */
export async function reading({ rounds, blocks: count, size }) {
  const { indexedDB: openStore } = await import('../stores/indexeddb.js');
  const { makeBlock } = await import('../test/browser/tools.mjs');
  const name = `bench-${Date.now()}`, store = await openStore(name), stream = streamOf(0), rates = { ours: [], theirs: [] };
  for (let expected = 0; expected < count; expected += 1000) {
    const blocks = Array.from({ length: 1000 }, (_, i) => makeBlock({ stream, version: expected + 1 + i, based: expected + i, payload: size - 64 }));
    await store.commit([{ stream, expected, epoch: 1, first: expected + 1, blocks, summary: { stream, version: expected + 1000, due: Infinity, time: 0, state: 0, status: 'waiting', flags: 0 } }]);
  }
  const bare = await new Promise((resolve) => { indexedDB.open(name).onsuccess = ({ target }) => resolve(target.result); });
  for (let round = 0; round < rounds; round++) {
    let start = performance.now();
    for (let version = 1; version <= count;) version += (await store.read({ stream, mode: 'from', version, maxBytes: 1 << 20 })).blocks.length;
    rates.ours.push(count * 1000 / (performance.now() - start));
    start = performance.now();
    await new Promise((resolve) => { bare.transaction('blocks').objectStore('blocks').getAll().onsuccess = resolve; });
    rates.theirs.push(count * 1000 / (performance.now() - start));
  }
  bare.close();
  store.close();
  indexedDB.deleteDatabase(name);
  return rates;
}

// ---- outside --------------------------------------------------------------------------------------------------------

async function main() {
  const { mkdtemp, rm } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  const { join } = await import('node:path');
  const { launch, missing } = await import('../test/browser/browsers.mjs');
  const { serve } = await import('../test/browser/server.mjs');
  const options = { browsers: 'chromium,firefox,webkit', rounds: '11', ms: '400' };
  let filter = '';
  for (const word of process.argv.slice(2)) {
    const [, name, value] = /^--(\w+)=(.*)$/.exec(word) ?? [];
    if (name) options[name] = value;
    else filter = word;
  }
  const rounds = Number(options.rounds), ms = Number(options.ms), size = 512;
  const one = { agents: 1, size }, hundred = { agents: 100, size };
  const lines = [
    ['one agent', 'bare, one agent', 1, 1, { ours: one, theirs: { ...one, bare: true } }],
    ['one agent, a new due time each step', 'bare, one agent', 1, 1, { ours: { ...one, due: true }, theirs: { ...one, bare: true } }],
    ['one agent, 16 KiB blocks', 'bare, the same', 1, 1, { ours: { ...one, size: 16384 }, theirs: { ...one, size: 16384, bare: true } }],
    ['100 agents in one commit()', 'bare, 100 x get, add, put', 100, 100, { ours: hundred, theirs: { ...hundred, bare: true } }],
    ['100 agents in one commit()', 'one agent', 100, 1, { ours: hundred, theirs: one }],
  ];
  const server = await serve();
  const show = (kind, subject, other, rates, ourScale, theirScale) => {
    const ratio = median(rates.ours.map((value, i) => value * ourScale / (rates.theirs[i] * theirScale)));
    const cells = [median(rates.ours) * ourScale, median(rates.theirs) * theirScale].map((value) => Math.round(value).toString().padStart(7));
    console.log(`| ${kind.padEnd(8)} | ${subject.padEnd(36)} | ${other.padEnd(25)} | ${cells.join(' | ')} | ${ratio.toFixed(2).padStart(5)} |`);
  };
  console.log(`Durable appends a second of ${size} bytes (strict), medians of ${rounds} interleaved rounds of ${ms} ms\n`);
  console.log(`| browser  | ${'store'.padEnd(36)} | ${'against'.padEnd(25)} |   store | against | ratio |`);
  console.log(`|---|---|---|--:|--:|--:|`);
  for (const kind of options.browsers.split(',')) {
    const reason = missing(kind);
    if (reason) {
      console.log(`skipped ${kind}: ${reason}`);
      continue;
    }
    const profile = await mkdtemp(join(tmpdir(), 'persistent-agent-')), browser = await launch(kind, { profile });
    try {
      const page = await browser.page(server.url);
      for (const [subject, other, ourScale, theirScale, shapes] of lines) {
        if (!subject.includes(filter)) continue;
        show(kind, subject, other, await page.call('/bench/indexeddb.mjs', 'compare', { rounds, ms, ...shapes }), ourScale, theirScale);
      }
      if ('reading'.includes(filter)) {
        const rates = await page.call('/bench/indexeddb.mjs', 'reading', { rounds, blocks: 20000, size });
        show(kind, 'reading 20,000 blocks by 1 MiB', 'one bare getAll of them', rates, 1, 1);
      }
    } finally {
      await browser.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    }
  }
  await server.close();
}

if (typeof process !== 'undefined' && process.versions?.node) await main();
