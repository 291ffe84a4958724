// What drives/indexeddb.mjs calls in its pages.

import { indexedDB as openStore, leader } from '../../../stores/indexeddb.js';
import { makeAppend, makeBlock, same, streamOf } from '../tools.mjs';

export const pause = (ms) =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
  });

/** Both tabs meet before each round, then append to the same head at once. The versions that this tab won. */
export async function race(name, rounds, me) {
  const store = await openStore(name),
    stream = streamOf(0),
    channel = new BroadcastChannel(name),
    won = [];
  let theirs = 0,
    meet = () => {};
  channel.onmessage = ({ data }) => {
    if (data === 'where?') channel.postMessage(mine);
    else theirs = data;
    meet();
  };
  let mine = 0;
  channel.postMessage('where?');
  for (let expected = 0; expected < rounds; expected++) {
    mine = expected + 1;
    channel.postMessage(mine);
    while (theirs < mine)
      await new Promise((resolve) => {
        meet = resolve;
      });
    const [{ result, version }] = await store.commit([makeAppend({ stream, expected, payload: 256, salt: me })]);
    if (result === 'ok') won.push(expected + 1);
    else if (result !== 'conflict' || version !== expected + 1)
      throw new Error(`round ${expected}: ${result}, at ${version}`);
  }
  store.close();
  return won;
}

/** Which tab made each of the blocks. */
export async function winners(name) {
  const store = await openStore(name),
    stream = streamOf(0);
  const { blocks } = await store.read({ stream, mode: 'base', version: 0, maxBytes: 1 << 24 });
  return blocks.map(
    (block, i) => [1, 2].find((salt) => same(block, makeBlock({ stream, version: i + 1, payload: 256, salt }))) ?? 0,
  );
}

let leadership;
export async function lead(name) {
  leadership = await leader(name);
  return leadership.signal.aborted ? 'lost' : 'leads';
}

// ---- killing ----

const payloads = [100, 1000, 5000, 100000]; // the last is stored outside the database's file in some browsers
const based = (version) => (version - 1) % 50;
const payload = (version) => payloads[version % 37 === 0 ? 3 : version % 3];
const acks = {};

export const acknowledged = () => acks;

/** Returns at once. `width` agents step in each commit; a report of what was acknowledged leaves the page while it goes on. */
export async function appendForEver(name, width) {
  const store = await openStore(name),
    heads = {};
  for (let i = 0; i < width; i++)
    heads[streamOf(i)] = (await store.read({ stream: streamOf(i), mode: 'newest', version: 0, maxBytes: 1 })).version;
  (async () => {
    for (;;) {
      const appends = Object.entries(heads).map(([stream, expected]) =>
        makeAppend({
          stream,
          expected,
          based: based(expected + 1),
          payload: payload(expected + 1),
        }),
      );
      const results = await store.commit(appends);
      for (const [i, { result }] of results.entries()) {
        if (result !== 'ok') throw new Error(result);
        acks[appends[i].stream] = ++heads[appends[i].stream];
      }
    }
  })();
}

/** Reads every block of every agent and compares it with what was written. Stream -> version. */
export async function verify(name) {
  const store = await openStore(name),
    found = {},
    { items } = await store.list({ limit: 1000 });
  for (const { stream, version } of items) {
    for (let at = 1; at <= version;) {
      const { blocks, version: head } = await store.read({ stream, mode: 'from', version: at, maxBytes: 1 << 20 });
      if (head !== version || blocks.length === 0) throw new Error(`${stream}: ${at} of ${head}, listed ${version}`);
      for (const block of blocks) {
        const wanted = makeBlock({ stream, version: at, based: based(at), payload: payload(at) });
        if (!same(block, wanted)) throw new Error(`${stream}: block ${at} is damaged`);
        at++;
      }
    }
    const { blocks } = await store.read({ stream, mode: 'newest', version: 0, maxBytes: 1 });
    if ((blocks[0][57] & 1) !== 1) throw new Error(`${stream}: the newest snapshot is not one`);
    found[stream] = version;
  }
  store.close();
  return found;
}

// ---- quota ----

export async function fill(name, count) {
  const store = await openStore(name),
    stream = streamOf(0);
  let { version } = await store.read({ stream, mode: 'from', version: 1, maxBytes: 1 }),
    result = 'ok';
  while (version < count && result === 'ok') {
    [{ result }] = await store.commit([makeAppend({ stream, expected: version, payload: 200000 })]);
    if (result === 'ok') version++;
  }
  store.close();
  return { result, version };
}

export async function together(name, expected) {
  const store = await openStore(name);
  const results = await store.commit([
    makeAppend({ stream: streamOf(0), expected, payload: 30 << 20 }),
    makeAppend({ stream: streamOf(1), expected: 0, based: 0 }),
  ]);
  store.close();
  return results.map(({ result }) => result);
}

/** Every agent's version, where it also has that many blocks. */
export async function heads(name) {
  const store = await openStore(name),
    { items } = await store.list({ limit: 100 });
  for (const { stream, version } of items) {
    const { blocks } = await store.read({ stream, mode: 'base', version: 0, maxBytes: Infinity });
    if (blocks.length !== version) throw new Error(`${stream}: ${blocks.length} blocks, version ${version}`);
  }
  store.close();
  return items.map(({ version }) => version);
}
