// The kit itself: each way to break a store must be seen by it.

import { runKit } from '../../kit.js';
import { header } from '../../block.js';
import { memory } from '../../stores/memory.js';
import { finish, tally } from './harness.mjs';

/* `bend(store, data)` overrides functions of a memory store. */
function broken(bend) {
  const worlds = new Map();
  return (name) => {
    if (!worlds.has(name)) worlds.set(name, new Map());
    const store = memory({ data: worlds.get(name) });
    return { ...store, ...bend(store, worlds.get(name)) };
  };
}
const one = (store) => (append) => store.commit([append])[0];
const bends = {
  'commits whatever is expected': (store, data) => ({
    commit: (appends) =>
      appends.map((append) => {
        const held = data.get(append.stream);
        if (held && held.head.version !== append.expected) {
          held.head.version = append.expected;
          held.blocks.length = append.expected - held.head.first + 1;
        }
        return one(store)(append);
      }),
  }),
  'says conflict without the version': (store) => ({
    commit: (appends) =>
      store.commit(appends).map(({ result }) => (result === 'conflict' ? { result, version: 0 } : { result })),
  }),
  'fences nobody': (store, data) => ({
    commit: (appends) =>
      appends.map((append) => {
        const held = data.get(append.stream);
        if (held) held.head.epoch = 0;
        return one(store)(append);
      }),
  }),
  'refuses a batch as a whole': (store, data) => ({
    commit(appends) {
      const before = new Map(
        Array.from(data, ([stream, held]) => [stream, { head: { ...held.head }, blocks: [...held.blocks] }]),
      );
      const results = store.commit(appends);
      const bad = results.find(({ result }) => result !== 'ok');
      if (!bad) return results;
      data.clear();
      for (const [stream, held] of before) data.set(stream, held);
      return results.map((result) => (result.result === 'ok' ? bad : result));
    },
  }),
  'takes only the first block': (store, data) => ({
    commit: (appends) =>
      appends.map((append) => {
        const result = one(store)(append);
        if (result.result === 'ok' && append.blocks.length > 1)
          data.get(append.stream).blocks.splice(1 - append.blocks.length);
        return result;
      }),
  }),
  'looks at all heads before it writes any': (store, data) => ({
    commit(appends) {
      const heads = appends.map(({ stream }) => data.get(stream)?.head.version ?? 0);
      return appends.map((append, i) =>
        append.expected === heads[i] ? one(store)(append) : { result: 'conflict', version: heads[i] },
      );
    },
  }),
  'imports without a snapshot': (store, data) => ({
    commit: (appends) =>
      appends.map((append) => {
        if (append.expected !== 0 || data.has(append.stream)) return one(store)(append);
        const blocks = append.blocks.map((block) => block.slice());
        const had = blocks[0][57];
        blocks[0][57] |= 1;
        const result = one(store)({ ...append, blocks });
        data.get(append.stream).blocks[0][57] = had;
        return result;
      }),
  }),
  'keeps the whole buffer of a view': (store) => ({
    read: (request) => {
      const found = store.read(request);
      return { ...found, blocks: found.blocks.map((block) => new Uint8Array(block.buffer.byteLength + 56).fill(0)) };
    },
  }),
  'flips a bit in large blocks': (store) => ({
    read: (request) => {
      const found = store.read(request);
      for (const block of found.blocks) if (block.length > 60000) block[59999] ^= 1;
      return found;
    },
  }),
  'reads "base" one snapshot too late': (store) => ({
    read: (request) =>
      request.mode === 'base' && request.version > 0 ? store.read({ ...request, mode: 'newest' }) : store.read(request),
  }),
  'reads "newest" from the start': (store) => ({
    read: (request) => store.read(request.mode === 'newest' ? { ...request, mode: 'base', version: 0 } : request),
  }),
  'ignores maxBytes': (store) => ({ read: (request) => store.read({ ...request, maxBytes: Infinity }) }),
  'returns nothing when one block is above maxBytes': (store) => ({
    read: (request) => {
      const found = store.read(request);
      return found.blocks[0]?.length > request.maxBytes ? { ...found, blocks: [] } : found;
    },
  }),
  'sorts versions as text': (store) => ({
    read: (request) => {
      const found = store.read(request);
      found.blocks.sort((a, b) => (String(header(a).version) < String(header(b).version) ? -1 : 1));
      return found;
    },
  }),
  'loses precision above 2^52': (store) => ({
    read: (request) => {
      const found = store.read(request);
      return { ...found, version: found.version > 2 ** 52 ? found.version - 1 : found.version };
    },
  }),
  'lists due agents of another time': (store) => ({
    list: (request) => store.list({ ...request, dueBefore: request.dueBefore && request.dueBefore - 1 }),
  }),
  'lists no flags': (store) => ({
    list: (request) => store.list(request.dueBefore ? { ...request, flags: 0 } : request),
  }),
  'nextDue is only of this page': (store) => ({
    list: (request) => {
      const found = store.list(request);
      return {
        ...found,
        nextDue: Math.min(
          Infinity,
          ...found.items.map(({ due }) => due).filter((due) => due > (request.dueBefore ?? -1)),
        ),
      };
    },
  }),
  'forgets the cursor': (store) => ({ list: (request) => ({ ...store.list(request), cursor: undefined }) }),
  'has no cursor at all': (store) => ({ list: (request) => store.list({ ...request, cursor: undefined }) }),
  'lists old summaries': (store, data) => ({
    commit: (appends) =>
      appends.map((append) => {
        const old = data.get(append.stream)?.head.summary;
        const result = one(store)(append);
        if (old && result.result === 'ok') data.get(append.stream).head.summary = { ...append.summary, due: old.due };
        return result;
      }),
  }),
  'trims the head too': (store, data) => ({
    trim() {
      const count = store.trim();
      for (const [stream, { head }] of data) if (head.first > 1) data.delete(stream);
      return count;
    },
  }),
  'trims what transcripts need': (store, data) => ({
    trim() {
      for (const { head } of data.values()) head.summary.flags &= ~16;
      return store.trim();
    },
  }),
  'reads trimmed versions as none': (store) => ({
    read: (request) => {
      const { trimmed, ...found } = store.read(request);
      return found;
    },
  }),
  'lets old versions be made again after trim': (store, data) => ({
    commit: (appends) =>
      appends.map((append) => {
        const held = data.get(append.stream);
        return held && append.first < held.head.first ? { result: 'ok' } : one(store)(append);
      }),
  }),
  'compares, and later writes': (store, data) => ({
    async commit(appends) {
      const heads = appends.map(({ stream }) => data.get(stream)?.head.version ?? 0);
      await null;
      return appends.map((append, i) => {
        const held = data.get(append.stream);
        if (append.expected === heads[i] && held) {
          held.head.version = append.expected;
          held.blocks.length = append.expected - held.head.first + 1;
        }
        return one(store)(append);
      });
    },
  }),
};
/* These need two instances that differ, or a store that is reopened. */
const caches = (name, worlds) => {
  const shared = worlds.get(name) ?? worlds.set(name, new Map()).get(name);
  return shared;
};
function stale() {
  const worlds = new Map();
  return (name) => {
    const store = memory({ data: caches(name, worlds) });
    const cache = new Map();
    return {
      ...store,
      commit(appends) {
        cache.clear();
        return store.commit(appends);
      },
      read(request) {
        const key = JSON.stringify(request);
        if (!cache.has(key)) cache.set(key, store.read(request));
        return cache.get(key);
      },
    };
  };
}
function forgetful() {
  const worlds = new Map();
  return (name) => {
    const data = caches(name, worlds);
    for (const { head } of data.values()) head.summary.due = Infinity;
    return memory({ data });
  };
}

const total = tally();
for (const [name, open] of [
  ...Object.entries(bends).map(([name, bend]) => [name, broken(bend)]),
  ['reads from a cache of its own', stale()],
  ['forgets due times when reopened', forgetful()],
]) {
  await total.check(`seen: ${name}`, async () => {
    const { failed, failures, passed } = await runKit({ open, reopen: open, log: () => {} });
    if (failed === 0) throw new Error('the kit sees nothing');
    if (passed === 0) throw new Error('everything failed, which proves nothing');
    return failures.map((failure) => failure.name).join(', ');
  });
}
await total.check('a store without a fault passes', async () => {
  const { failed, failures } = await runKit({ open: broken(() => ({})), reopen: undefined, log: () => {} });
  if (failed) throw failures[0].error;
});
await total.check('a kill is survived, or seen', async () => {
  const worlds = new Map();
  const live = new Map();
  const open = (name) => {
    const store = memory({ data: caches(name, worlds) });
    live.set(name, store);
    let dead = false;
    const guard = (body) => (request) => {
      if (dead) throw new Error('killed');
      return body(request);
    };
    return Object.assign(store, {
      commit: guard(store.commit),
      read: guard(store.read),
      die() {
        dead = true;
      },
    });
  };
  const kill = (name) => live.get(name).die();
  const good = await runKit({ open, kill, only: 'a crash', log: () => {} });
  if (good.failed || !good.passed) throw good.failures[0].error;
  const bad = await runKit({
    open,
    only: 'a crash',
    log: () => {},
    kill: (name) => {
      kill(name);
      for (const { head, blocks } of worlds.get(name).values())
        if (head.version > 5) {
          blocks.pop();
          head.version--;
        }
    },
  });
  if (!bad.failed) throw new Error('a lost block was not seen');
});
finish(total.total);
