// The IndexedDB store inside one page.

import { indexedDB as openStore, persist, estimate, leader } from '../../../stores/indexeddb.js';
import { makeAppend, makeBlock, same, streamOf } from '../tools.mjs';

let number = 0;
const fresh = (options) => openStore(`page-${Date.now()}-${++number}`, options);
const a = streamOf(0),
  b = streamOf(1),
  c = streamOf(2);
const versions = (blocks) =>
  blocks.map((block) => Number(new DataView(block.buffer, block.byteOffset).getBigUint64(24, true)));
const newest = (stream, maxBytes = 1 << 20) => ({ stream, mode: 'newest', version: 0, maxBytes });

/** Opens the database past the store. */
const raw = (name, version, upgrade) =>
  new Promise((resolve, reject) => {
    const request = globalThis.indexedDB.open(name, version);
    request.onupgradeneeded = () => upgrade?.(request.result);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** What of a kind is asked of object stores while `work` runs. */
async function counted(kind, work) {
  const { prototype } = IDBObjectStore,
    real = prototype[kind];
  let count = 0;
  prototype[kind] = function (...args) {
    count++;
    return real.apply(this, args);
  };
  try {
    await work();
  } finally {
    prototype[kind] = real;
  }
  return count;
}

/** Two connections to one database; the first has written these agents alone, up to version 3, and judges by memory. */
async function twoConnections(streams) {
  const name = `page-${Date.now()}-${++number}`,
    [mine, other] = [await openStore(name), await openStore(name)];
  for (let expected = 0; expected < 3; expected++)
    await mine.commit(streams.map((stream) => makeAppend({ stream, expected, based: expected })));
  return { name, mine, other };
}

/** Two versions, the latter with a snapshot; then what is before is removed, so that nothing stands where the first was. */
async function moveOn(store, stream, expected = 3) {
  const append = makeAppend({ stream, expected, count: 2 });
  append.blocks[1] = makeBlock({ stream, version: expected + 2, based: 0 });
  const [answer] = await Promise.all([store.commit([append]), store.trim()]);
  return answer;
}

const request = (asked) =>
  new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });

export const tests = {
  async 'an append is read back'(t) {
    const store = await fresh();
    t.equal(store.durability, 'power', 'durability');
    const append = makeAppend({ stream: a, expected: 0, based: 0 });
    t.equal(await store.commit([append]), [{ result: 'ok' }]);
    const read = await store.read(newest(a));
    t.equal(read.version, 1);
    t.check(same(read.blocks[0], append.blocks[0]), 'same bytes');
    t.equal(await store.read(newest(b)), { version: 0, blocks: [] });
    store.close();
  },

  async 'each append of a batch is judged alone'(t) {
    const store = await fresh();
    await store.commit([
      makeAppend({ stream: a, expected: 0, based: 0 }),
      makeAppend({ stream: b, expected: 0, epoch: 7, based: 0 }),
    ]);
    const results = await store.commit([
      makeAppend({ stream: a, expected: 0 }),
      makeAppend({ stream: b, expected: 1, epoch: 6 }),
      makeAppend({ stream: c, expected: 0, based: 0 }),
      makeAppend({ stream: c, expected: 1, count: 2 }),
      makeAppend({ stream: c, expected: 1 }),
    ]);
    t.equal(results, [
      { result: 'conflict', version: 1 },
      { result: 'fenced' },
      { result: 'ok' },
      { result: 'ok' },
      { result: 'conflict', version: 3 },
    ]);
    t.equal((await store.read(newest(a))).version, 1);
    t.equal((await store.read(newest(b))).version, 1);
    const { version, blocks } = await store.read(newest(c));
    t.equal([version, versions(blocks)], [3, [1, 2, 3]]);
    t.equal(await store.commit([makeAppend({ stream: c, expected: 3 }), makeAppend({ stream: c, expected: 4 })]), [
      { result: 'ok' },
      { result: 'ok' },
    ]);
    t.equal(await store.commit([]), []);
    store.close();
  },

  async 'concurrent commits: one winner'(t) {
    const store = await fresh();
    for (let round = 0; round < 20; round++) {
      const racers = Array.from({ length: 8 }, (_, salt) =>
        store.commit([makeAppend({ stream: a, expected: round, salt })]),
      );
      const results = (await Promise.all(racers)).map(([{ result }]) => result);
      t.equal(results.filter((result) => result === 'ok').length, 1);
      t.equal(results.filter((result) => result === 'conflict').length, 7);
    }
    store.close();
  },

  async 'who wrote alone asks who wrote last, and for no head'(t) {
    const streams = Array.from({ length: 100 }, (_, i) => streamOf(i)),
      others = streams.map((_, i) => streamOf(100 + i)),
      { mine, other } = await twoConnections(streams);
    const gets = (store, list, expected) =>
      counted('get', async () => {
        const results = await store.commit(list.map((stream) => makeAppend({ stream, expected })));
        t.equal(results.filter(({ result }) => result === 'ok').length, 100, 'all go in');
      });
    t.equal(await gets(mine, streams, 3), 1, 'alone');
    t.equal(await gets(other, others, 0), 102, 'not known yet');
    t.equal(await gets(mine, streams, 4), 103, 'tried, aborted, asked for');
    t.equal(await gets(other, others, 1), 102, 'in turns: nothing is tried in vain');
    t.equal(await gets(mine, streams, 5), 102, 'in turns');
    t.equal(await gets(mine, streams, 6), 102, 'alone, as it turns out');
    t.equal(await gets(mine, streams, 7), 1, 'alone again');
    const c = streamOf(200),
      mixed = [makeAppend({ stream: streams[0], expected: 8 }), makeAppend({ stream: c, expected: 0, based: 0 })];
    t.equal(
      await counted('get', async () => t.equal(await mine.commit(mixed), [{ result: 'ok' }, { result: 'ok' }])),
      2,
      'and for a head that is new here',
    );
    t.equal(
      await mine.commit([makeAppend({ stream: streams[0], expected: 9 }), makeAppend({ stream: c, expected: 0 })]),
      [{ result: 'ok' }, { result: 'conflict', version: 1 }],
      'each judged alone',
    );
    for (const store of [mine, other]) store.close();
  },

  async 'heads that are moved together are one value'(t) {
    const streams = Array.from({ length: 300 }, (_, i) => streamOf(i)).sort(),
      store = await fresh(),
      commit = (list, expected) =>
        counted('put', async () => {
          const results = await store.commit(list.map((stream) => makeAppend({ stream, expected })));
          t.equal(results.filter(({ result }) => result === 'ok').length, list.length, 'all go in');
        });
    const [left, right] = [streams.slice(0, 100), streams.slice(100, 200)];
    t.equal(await commit(streams, 0), 302, 'the first of each agent in its place; nobody recent; who wrote');
    for (let expected = 1; expected < 4; expected++) {
      t.equal(await commit(left, expected), 1);
      t.equal(await commit(right, expected), 1, 'two crowds that take turns');
    }
    t.equal(await commit([streams[0]], 4), 193, 'the crowd is over: all but eight go to their places');
    for (let i = 193; i < 200; i++) t.equal(await commit([streams[i]], 4), 1, 'those eight stay');
    t.equal(await commit([streams[1]], 4), 2, 'one comes, and the one moved longest ago goes');
    t.equal(await commit(streams.slice(2, 193), 4), 1, 'a crowd again');
    t.equal(await commit(streams.slice(200), 1), 100, 'and another: twice as many as are moved are kept');
    for (const [i, stream] of streams.entries())
      t.equal((await store.read(newest(stream))).version, i < 200 ? 5 : 2, `agent ${i}`);
    store.close();
  },

  /* Whoever writes, and wherever a head stands: what is read, listed and refused is as if each stood in its place. */
  async 'three connections agree with a plain map'(t) {
    let seed = 20261123;
    const random = (below) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 4294967296) * below);
    };
    const name = `page-${Date.now()}-${++number}`,
      stores = [await openStore(name), await openStore(name), await openStore(name)],
      streams = Array.from({ length: 60 }, (_, i) => streamOf(i)),
      heads = new Map(); // the plain map
    const some = () => {
      const count = [1, 1, 2, 9, 40][random(5)],
        from = random(streams.length);
      return Array.from({ length: count }, (_, i) => streams[(from + i * (1 + random(3))) % streams.length]);
    };
    let trimmed = 0;
    for (let round = 0; round < 400; round++) {
      const store = stores[random(8) < 5 ? 0 : random(3)]; // mostly the same, so that it trusts itself
      const wanted = [],
        appends = [...new Set(some())].map((stream) => {
          const head = heads.get(stream),
            wrong = random(40) === 0,
            version = head?.version ?? 0,
            append = makeAppend({
              stream,
              expected: wrong ? version + 1 : version,
              epoch: Math.max(1, (head?.epoch ?? 1) + [0, 0, 0, 0, 0, 0, 1, -1][random(8)]),
              based: random(5) === 0 ? 0 : version - (head?.base ?? version + 1) + 1,
              due: [Infinity, 1000 + random(50)][random(2)],
              flags: random(3) === 0 ? 8 : 0,
            });
          if (wrong) wanted.push({ result: 'conflict', version });
          else if (head && head.epoch > append.epoch) wanted.push({ result: 'fenced' });
          else {
            wanted.push({ result: 'ok' });
            const based = append.blocks[0][58] | (append.blocks[0][59] << 8);
            heads.set(stream, { ...append.summary, epoch: append.epoch, base: version + 1 - based });
          }
          return append;
        });
      t.equal(await store.commit(appends), wanted, `commit ${round}`);
      if (random(10) === 0) trimmed += await stores[random(3)].trim();
      if (random(4) !== 0) continue;
      const asked = stores[random(3)],
        dueBefore = 1000 + random(50),
        limit = 1 + random(20);
      const pages = async (request) => {
        const items = [];
        let answer = {};
        do {
          answer = await asked.list({ ...request, limit, ...(answer.cursor && { cursor: answer.cursor }) });
          items.push(...answer.items);
        } while (answer.cursor !== undefined);
        return [items, answer.nextDue];
      };
      const expected = (wish, order, after) => [
        [...heads.values()]
          .filter(wish)
          .sort((x, y) => order(x, y) || (x.stream < y.stream ? -1 : 1))
          .map(({ epoch, base, ...summary }) => summary),
        Math.min(Infinity, ...[...heads.values()].map(({ due }) => due).filter((due) => due > after)),
      ];
      const none = () => 0,
        byDue = (x, y) => x.due - y.due;
      t.equal(
        await pages({}),
        expected(() => true, none, -Infinity),
        `all, round ${round}`,
      );
      t.equal(
        await pages({ dueBefore }),
        expected(({ due }) => due <= dueBefore, byDue, dueBefore),
        `due, round ${round}`,
      );
      t.equal(
        await pages({ dueBefore, flags: 8 }),
        expected(({ due, flags }) => due <= dueBefore || flags === 8, none, dueBefore),
        `due or flagged, round ${round}`,
      );
      const answers = await Promise.all(streams.map((stream) => asked.read(newest(stream))));
      for (const [i, { version, blocks }] of answers.entries()) {
        const head = heads.get(streams[i]);
        t.equal(
          [version, versions(blocks)[0] ?? 0],
          [head?.version ?? 0, head?.base ?? 0],
          `agent ${i}, round ${round}`,
        );
      }
    }
    t.check(trimmed > 100, `${trimmed} blocks were trimmed`);
    for (const store of stores) store.close();
  },

  async 'a head that another connection moved is not known any more: rule H'(t) {
    const { mine, other } = await twoConnections([a]);
    t.equal(await moveOn(other, a), [{ result: 'ok' }]);
    t.equal(await mine.commit([makeAppend({ stream: a, expected: 3 })]), [{ result: 'conflict', version: 5 }]);
    t.equal(
      (await mine.read({ stream: a, mode: 'from', version: 4, maxBytes: 999 })).trimmed,
      true,
      'nothing came back',
    );
    t.equal((await mine.read(newest(a))).version, 5);
    t.equal(await mine.commit([makeAppend({ stream: a, expected: 5 })]), [{ result: 'ok' }]);
    for (const store of [mine, other]) store.close();
  },

  async 'nor is one after commits to other agents'(t) {
    const { mine, other } = await twoConnections([a, b]);
    const both = (expected) => mine.commit([a, b].map((stream) => makeAppend({ stream, expected })));
    t.equal(await other.commit([makeAppend({ stream: c, expected: 0, based: 0 })]), [{ result: 'ok' }]);
    t.equal(await both(3), [{ result: 'ok' }, { result: 'ok' }], 'tried, aborted, asked for');
    t.equal(await moveOn(other, b, 4), [{ result: 'ok' }]);
    for (let expected = 4; expected < 7; expected++)
      t.equal(await mine.commit([makeAppend({ stream: a, expected })]), [{ result: 'ok' }], 'alone again');
    t.equal(await mine.commit([makeAppend({ stream: b, expected: 4 })]), [{ result: 'conflict', version: 6 }]);
    t.equal(await mine.commit([makeAppend({ stream: c, expected: 0, based: 0 })]), [
      { result: 'conflict', version: 1 },
    ]);
    t.equal(await other.commit([makeAppend({ stream: a, expected: 6 })]), [{ result: 'conflict', version: 7 }]);
    t.equal((await mine.read(newest(b))).version, 6);
    for (const store of [mine, other]) store.close();
  },

  async 'an epoch that another connection raised fences'(t) {
    const { mine, other } = await twoConnections([a, b]);
    t.equal(await other.commit([makeAppend({ stream: a, expected: 3, epoch: 2 })]), [{ result: 'ok' }]);
    t.equal(await mine.commit([makeAppend({ stream: b, expected: 3 }), makeAppend({ stream: a, expected: 4 })]), [
      { result: 'ok' },
      { result: 'fenced' },
    ]);
    t.equal(await mine.commit([makeAppend({ stream: b, expected: 4, epoch: 2 })]), [{ result: 'ok' }]);
    t.equal(await mine.commit([makeAppend({ stream: b, expected: 5, epoch: 2 })]), [{ result: 'ok' }]);
    t.equal(await mine.commit([makeAppend({ stream: b, expected: 6 })]), [{ result: 'fenced' }], 'from memory, too');
    for (const store of [mine, other]) store.close();
  },

  async 'commits under way are not judged by what was before them'(t) {
    const { mine, other } = await twoConnections([a]);
    const [moved, [late]] = await Promise.all([moveOn(mine, a), mine.commit([makeAppend({ stream: a, expected: 3 })])]);
    t.equal([...moved, late], [{ result: 'ok' }, { result: 'conflict', version: 5 }]);
    await mine.commit([makeAppend({ stream: a, expected: 5 })]);
    await mine.commit([makeAppend({ stream: a, expected: 6 })]); // judged by memory again
    const append = makeAppend({ stream: a, expected: 7 });
    append.summary.status = () => {};
    const [broken, next] = await Promise.allSettled([
      mine.commit([append]),
      mine.commit([makeAppend({ stream: a, expected: 8 })]),
    ]);
    t.equal(
      [broken.status, next.value],
      ['rejected', [{ result: 'conflict', version: 7 }]],
      'what is aborted never was',
    );
    t.equal(await mine.commit([makeAppend({ stream: a, expected: 7 })]), [{ result: 'ok' }]);
    for (const store of [mine, other]) store.close();
  },

  async 'a database that was made anew below a connection does not look unchanged'(t) {
    const { name, mine, other } = await twoConnections([a]),
      database = await raw(name);
    const transaction = database.transaction(['heads', 'blocks', 'meta'], 'readwrite');
    for (const part of ['heads', 'blocks', 'meta']) transaction.objectStore(part).clear();
    await new Promise((resolve) => {
      transaction.oncomplete = resolve;
    });
    database.close();
    t.equal(await mine.commit([makeAppend({ stream: a, expected: 3 })]), [{ result: 'conflict', version: 0 }]);
    t.equal((await mine.list({ limit: 9 })).items, [], 'nothing was written');
    for (const store of [mine, other]) store.close();
  },

  async 'a database of the first schema goes on, and pages of it do not write any more'(t) {
    const name = `page-${Date.now()}-${++number}`;
    const old = await raw(name, 1, (database) => {
      database.createObjectStore('heads', { keyPath: 'stream' }).createIndex('due', ['due', 'stream']);
      database.createObjectStore('blocks');
      database.createObjectStore('meta').put('its id', 'id');
    });
    const write = (expected) => {
      const { blocks, summary } = makeAppend({ stream: a, expected, based: expected, due: 77 });
      const transaction = old.transaction(['heads', 'blocks'], 'readwrite');
      transaction.objectStore('blocks').add(blocks[0], [a, expected + 1]);
      transaction.objectStore('heads').put({ ...summary, epoch: 4, base: 1 });
      return new Promise((resolve) => {
        transaction.oncomplete = resolve;
      });
    };
    for (let expected = 0; expected < 3; expected++) await write(expected);
    let blocked = 0,
      told = 0;
    old.onversionchange = () => {
      told++;
    };
    const opening = openStore(name, {
      blocked: () => {
        blocked++;
        old.close(); // as a page of the first schema does when it is told
      },
    });
    const store = await opening;
    t.equal([told, blocked], [1, 1], 'it waits for the older page');
    await t.throws(raw(name, 1), /version/i);
    const { version, blocks } = await store.read(newest(a));
    t.equal([version, versions(blocks)], [3, [1, 2, 3]], 'nothing is lost');
    for (let expected = 0; expected < 3; expected++)
      t.check(same(blocks[expected], makeAppend({ stream: a, expected, based: expected }).blocks[0]), 'same bytes');
    const due = await store.list({ dueBefore: 77, limit: 9 });
    t.equal(
      due.items.map((item) => item.stream),
      [a],
      'the index too',
    );
    t.equal(await store.commit([makeAppend({ stream: a, expected: 3 })]), [{ result: 'fenced' }]);
    t.equal(await store.commit([makeAppend({ stream: a, expected: 2, epoch: 4 })]), [
      { result: 'conflict', version: 3 },
    ]);
    for (let expected = 3; expected < 7; expected++)
      t.equal(await store.commit([makeAppend({ stream: a, expected, epoch: 4 })]), [{ result: 'ok' }]);
    store.close();
    const database = await raw(name);
    t.equal(await request(database.transaction('meta').objectStore('meta').get('id')), 'its id', 'the same database');
    database.close();
  },

  async 'views of a larger memory, and shared ones, are copied'(t) {
    const name = `page-${Date.now()}-${++number}`,
      store = await openStore(name);
    const append = makeAppend({ stream: a, expected: 0, based: 0 }),
      block = append.blocks[0],
      memory = new Uint8Array(1 << 20);
    memory.set(block, 4096);
    append.blocks[0] = memory.subarray(4096, 4096 + block.length);
    const commit = store.commit([append]);
    memory.fill(7); // the caller's memory may move on at once
    await commit;
    const read = (await store.read(newest(a))).blocks[0];
    t.check(same(read, block), 'same bytes');
    t.equal(read.buffer.byteLength, block.length, 'no more than the block is stored');
    store.close();
  },

  async 'read: newest, base, from'(t) {
    const store = await fresh();
    for (let version = 1; version <= 20; version++) {
      // snapshots at 1, 8, 15
      t.equal(await store.commit([makeAppend({ stream: a, expected: version - 1, based: (version - 1) % 7 })]), [
        { result: 'ok' },
      ]);
    }
    const read = async (mode, version, maxBytes = 1 << 20) => {
      const answer = await store.read({ stream: a, mode, version, maxBytes });
      return [answer.version, versions(answer.blocks), answer.trimmed ?? false];
    };
    const upTo20 = (from) => Array.from({ length: 21 - from }, (_, i) => from + i);
    t.equal(await read('newest', 0), [20, upTo20(15), false], 'newest');
    t.equal(await read('base', 0), [20, upTo20(1), false], 'base 0');
    t.equal(await read('base', 7), [20, upTo20(1), false], 'base 7');
    t.equal(await read('base', 8), [20, upTo20(8), false], 'base 8');
    t.equal(await read('base', 14), [20, upTo20(8), false], 'base 14');
    t.equal(await read('base', 99), [20, upTo20(15), false], 'base beyond the head');
    t.equal(await read('from', 19), [20, [19, 20], false], 'from 19');
    t.equal(await read('from', 21), [20, [], false], 'from 21');
    t.equal(await read('from', 3, 1), [20, [3], false], 'one block at least');
    t.equal(await read('from', 3, 256), [20, [3], false], 'exactly one');
    t.equal(await read('from', 3, 513), [20, [3, 4], false], 'exactly two');
    for (const [last, wanted] of [
      [3, [3]],
      [6, [3, 4, 5, 6]],
      [99, upTo20(3)],
    ]) {
      const answer = await store.read({ stream: a, mode: 'from', version: 3, maxBytes: 1 << 20, last });
      t.equal([answer.version, versions(answer.blocks)], [20, wanted], `from 3 to ${last}`);
    }
    t.equal(await store.trim(), 14);
    t.equal(await store.trim(), 0);
    t.equal(await read('newest', 0), [20, upTo20(15), false], 'newest after trim');
    t.equal(await read('base', 0), [20, upTo20(15), false], 'base 0 after trim');
    t.equal(await read('base', 14), [20, [], true], 'base 14 after trim');
    t.equal(await read('from', 14), [20, [], true], 'from 14 after trim');
    t.equal(
      await store.commit([makeAppend({ stream: a, expected: 0, based: 0 })]),
      [{ result: 'conflict', version: 20 }],
      'rule H',
    );
    t.equal(
      await store.commit([makeAppend({ stream: a, expected: 13 })]),
      [{ result: 'conflict', version: 20 }],
      'rule H',
    );
    store.close();
  },

  async 'reads at once answer as each alone'(t) {
    const store = await fresh(),
      streams = Array.from({ length: 300 }, (_, i) => streamOf(i)).sort(),
      there = streams.filter((_, i) => i % 7 !== 3);
    await store.commit(there.map((stream) => makeAppend({ stream, expected: 0, based: 0 })));
    await store.commit(there.slice(0, 99).map((stream) => makeAppend({ stream, expected: 1 })));
    const answers = ({ version, blocks }) => [version, versions(blocks)];
    for (const [what, some, heads] of [
      ['side by side, some of them missing', streams.slice(100, 150), 0],
      ['few among many', streams.filter((_, i) => i % 15 === 0), 16],
      ['the last of all, and one above', [...streams.slice(-20), 'ffffffffffffffff'], 0],
      ['one twice', [...streams.slice(5, 25), streams[10]], 0],
      ['few', streams.slice(95, 105), 10],
    ]) {
      const requests = some.map((stream, i) =>
        i % 2 ? newest(stream) : { ...newest(stream), mode: 'from', version: 1 },
      );
      let together;
      const gets = await counted('get', async () => {
        together = await Promise.all(requests.map((request) => store.read(request)));
      });
      t.equal(gets, 1 + heads, `${what}: the recent ones, and those asked one by one`);
      for (const [i, request] of requests.entries())
        t.equal(answers(together[i]), answers(await store.read(request)), `${what}, number ${i}`);
    }
    store.close();
  },

  async 'trim leaves blocks that the transcript stands in'(t) {
    const store = await fresh();
    await store.commit([
      makeAppend({ stream: a, expected: 0, based: 0 }),
      makeAppend({ stream: b, expected: 0, based: 0 }),
    ]);
    await store.commit([
      makeAppend({ stream: a, expected: 1, based: 0, flags: 16 }),
      makeAppend({ stream: b, expected: 1, based: 0 }),
    ]);
    t.equal(await store.trim(), 1);
    t.equal(versions((await store.read({ stream: a, mode: 'base', version: 0, maxBytes: 9999 })).blocks), [1, 2]);
    store.close();
  },

  async 'a trimmed journal is imported'(t) {
    const store = await fresh();
    const append = makeAppend({ stream: a, expected: 0, first: 41, count: 3 });
    append.blocks = [41, 42, 43].map((version) => makeBlock({ stream: a, version, based: version - 41 }));
    t.equal(await store.commit([append]), [{ result: 'ok' }]);
    t.equal(versions((await store.read(newest(a))).blocks), [41, 42, 43]);
    t.equal(await store.read({ stream: a, mode: 'from', version: 40, maxBytes: 999 }), {
      version: 43,
      blocks: [],
      trimmed: true,
    });
    t.equal(await store.commit([makeAppend({ stream: a, expected: 43 })]), [{ result: 'ok' }]);
    store.close();
  },

  async 'list: all, due, flags; pages; nextDue'(t) {
    const store = await fresh(),
      streams = Array.from({ length: 250 }, (_, i) => streamOf(i));
    await store.commit(
      streams.map((stream, i) =>
        makeAppend({
          stream,
          expected: 0,
          based: 0,
          due: i % 10 === 0 ? Infinity : 1000 + i,
          flags: i % 50 === 7 ? 8 : 0,
        }),
      ),
    );
    const all = async (request) => {
      const found = [];
      let answer = {};
      do {
        answer = await store.list({
          limit: 7,
          ...request,
          ...(answer.cursor !== undefined && { cursor: answer.cursor }),
        });
        t.check(answer.items.length <= 7, 'the limit');
        found.push(...answer.items);
      } while (answer.cursor !== undefined);
      return { found, nextDue: answer.nextDue };
    };
    const set = (found) => found.map(({ stream }) => streams.indexOf(stream)).sort((x, y) => x - y);
    const numbers = (wanted) => streams.map((_, i) => i).filter(wanted);
    const everything = await all({});
    t.equal(
      set(everything.found),
      numbers(() => true),
      'all',
    );
    t.equal(everything.nextDue, 1001);
    t.equal(
      everything.found.find(({ stream }) => stream === streams[10]),
      { stream: streams[10], version: 1, due: Infinity, time: 1001, state: 3, status: 'waiting', flags: 0 },
    );
    const due = await all({ dueBefore: 1100 });
    t.equal(
      set(due.found),
      numbers((i) => i % 10 !== 0 && i <= 100),
      'due',
    );
    t.equal(due.nextDue, 1101);
    t.equal(
      due.found.map((item) => item.due),
      due.found.map((item) => item.due).sort((x, y) => x - y),
      'the most urgent first',
    );
    t.equal(
      set((await all({ flags: 8 })).found),
      numbers((i) => i % 50 === 7),
      'flags',
    );
    t.equal(
      set((await all({ flags: 8 | 1, dueBefore: 1020 })).found),
      numbers((i) => i % 50 === 7 || (i % 10 !== 0 && i <= 20)),
      'either',
    );
    t.equal(await store.list({ limit: 5, dueBefore: 2000 }).then(({ nextDue }) => nextDue), Infinity);
    t.equal((await store.list({ limit: 250 })).cursor, undefined, 'a full last page is the last');
    await store.commit([makeAppend({ stream: streams[1], expected: 1 })]);
    t.equal((await store.list({ limit: 5, dueBefore: 1001 })).items, [], 'not due any more');
    store.close();
  },

  async 'a large history is read in pieces'(t) {
    const store = await fresh(),
      count = 20000;
    for (let expected = 0; expected < count; expected += 1000) {
      const append = makeAppend({ stream: a, expected, count: 1000, based: 1 });
      if (expected === 0) append.blocks[0] = makeBlock({ stream: a, version: 1, based: 0, payload: 300000 });
      await store.commit([append]);
    }
    let version = 1;
    const start = performance.now();
    while (version <= count) {
      const { blocks } = await store.read({ stream: a, mode: 'from', version, maxBytes: 1 << 20 });
      t.check(blocks.length > 0, 'goes on');
      t.check(blocks.length === 1 || blocks.reduce((sum, block) => sum + block.length, 0) <= 1 << 20, 'the limit');
      for (const [i, found] of versions(blocks).entries()) if (found !== version + i) t.equal(found, version + i);
      version += blocks.length;
    }
    console.log(`${Math.round(count / (performance.now() - start))} blocks/ms`);
    store.close();
  },

  async 'blocks above 64 KiB, and of some megabytes'(t) {
    const store = await fresh();
    for (const [i, payload] of [65536, 200000, 9 << 20].entries()) {
      const append = makeAppend({ stream: a, expected: i, based: i, payload });
      t.equal(await store.commit([append]), [{ result: 'ok' }]);
      const { blocks } = await store.read({ stream: a, mode: 'from', version: i + 1, maxBytes: 1 });
      t.check(same(blocks[0], append.blocks[0]), 'same bytes');
    }
    store.close();
  },

  async 'a newer schema in another tab: closes and says so'(t) {
    const name = `page-${Date.now()}-${++number}`;
    let told;
    const store = await openStore(name, {
      closed: (reason) => {
        told = reason.message;
      },
    });
    const commit = store.commit([makeAppend({ stream: a, expected: 0, based: 0 })]); // under way: ends well
    const newer = await raw(name, 99, () => {});
    t.equal(await commit, [{ result: 'ok' }]);
    t.check(/upgraded by another tab/.test(told), `told "${told}"`);
    await t.throws(store.commit([makeAppend({ stream: a, expected: 1 })]), /upgraded by another tab/);
    await t.throws(store.read(newest(a)), /upgraded by another tab/);
    await t.throws(openStore(name), /made by a newer persistent-agent/);
    newer.close();
  },

  async 'opening waits for a tab that holds an older schema'(t) {
    const name = `page-${Date.now()}-${++number}`;
    (await raw(name, 1, () => {})).close();
    globalThis.indexedDB.deleteDatabase(name);
    const old = await raw(name, 1, () => {}),
      gone = globalThis.indexedDB.deleteDatabase(name);
    let blocked = 0;
    gone.onblocked = () => {
      blocked++;
    };
    const opening = openStore(name);
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
    old.close();
    const store = await opening;
    t.equal(await store.commit([makeAppend({ stream: a, expected: 0, based: 0 })]), [{ result: 'ok' }]);
    store.close();
  },

  async 'closed stores and read-only ones refuse'(t) {
    const name = `page-${Date.now()}-${++number}`,
      store = await openStore(name);
    await store.commit([makeAppend({ stream: a, expected: 0, based: 0 })]);
    store.close();
    await t.throws(store.commit([makeAppend({ stream: a, expected: 1 })]), /closed/);
    const reader = await openStore(name, { readOnly: true });
    t.equal(reader.readOnly, true);
    t.equal((await reader.read(newest(a))).version, 1);
    await t.throws(reader.commit([makeAppend({ stream: a, expected: 1 })]), /for reading only/);
    await t.throws(reader.trim(), /for reading only/);
    reader.close();
  },

  async 'a commit that would be tried again says that the store was closed meanwhile'(t) {
    const store = await fresh();
    t.equal(await store.commit([makeAppend({ stream: a, expected: 0, based: 0 })]), [{ result: 'ok' }]);
    const refused = store.commit([makeAppend({ stream: a, expected: 0, based: 0 })]);
    store.close();
    await t.throws(refused, /is closed/);
  },

  async 'a database that was deleted and made again is another one'(t) {
    const name = `page-${Date.now()}-${++number}`,
      factory = globalThis.indexedDB;
    const opened = [];
    const watched = {
      open: (...args) => {
        const request = factory.open(...args);
        request.addEventListener('success', () => opened.push(request.result));
        return request;
      },
    };
    const store = await openStore(name, { factory: watched });
    await store.commit([makeAppend({ stream: a, expected: 0, based: 0 })]);
    opened[0].close(); // as a browser does to a page that sleeps
    await t.throws(store.commit([makeAppend({ stream: a, expected: 1 })]), /./);
    t.equal(await store.commit([makeAppend({ stream: a, expected: 1 })]), [{ result: 'ok' }], 'reconnects');
    opened[1].close();
    await t.throws(store.read(newest(a)), /./);
    await new Promise((resolve) => {
      factory.deleteDatabase(name).onsuccess = resolve;
    });
    await t.throws(store.read(newest(a)), /was cleared/);
    await t.throws(store.commit([makeAppend({ stream: a, expected: 0 })]), /was cleared/);
  },

  async 'what cannot be cloned is refused, and leaves nothing behind'(t) {
    const store = await fresh(),
      append = makeAppend({ stream: a, expected: 0, based: 0 });
    append.summary.status = () => {};
    await t.throws(store.commit([makeAppend({ stream: b, expected: 0, based: 0 }), append]), /./);
    t.equal((await store.read(newest(a))).version, 0);
    t.equal((await store.read(newest(b))).version, 0);
    store.close();
  },

  async 'other tabs hear what has changed'(t) {
    const name = `page-${Date.now()}-${++number}`;
    const writer = await openStore(name, { changed: true });
    let hear;
    const heard = new Promise((resolve) => {
        hear = resolve;
      }),
      listener = await openStore(name, { changed: hear });
    await writer.commit([makeAppend({ stream: b, expected: 5 })]); // refused: nothing to tell
    await writer.commit([makeAppend({ stream: a, expected: 0, based: 0 })]);
    t.equal(await heard, [a]);
    writer.close();
    listener.close();
  },

  async 'one leader at a time'(t) {
    if (!navigator.locks) t.skip('no Web Locks');
    const name = `leader-${Date.now()}`,
      first = await leader(name),
      order = [];
    const second = leader(name).then((leadership) => {
      order.push('second');
      return leadership;
    });
    await t.throws(leader(name, { signal: AbortSignal.timeout(20) }), /./);
    order.push('released');
    t.equal(first.signal.aborted, false);
    first.release();
    t.equal(first.signal.aborted, true);
    const held = await second;
    t.equal(order, ['released', 'second']);
    const thief = new Promise((resolve) => {
      navigator.locks.request(
        `persistent-agent:${name}`,
        { steal: true },
        () =>
          new Promise((done) => {
            resolve(done);
          }),
      );
    });
    const letGo = await thief;
    if (!held.signal.aborted)
      await new Promise((resolve) => {
        held.signal.onabort = resolve;
      });
    letGo();
    const stop = new AbortController(),
      last = await leader(name, { signal: stop.signal });
    stop.abort();
    t.equal(last.signal.aborted, true);
    (await leader(name)).release();
  },

  async 'estimate and persist'(t) {
    const found = await estimate();
    t.equal([typeof found.usage, typeof found.quota, typeof found.persisted], ['number', 'number', 'boolean']);
    if (!/Firefox/.test(navigator.userAgent)) t.equal(typeof (await persist()), 'boolean'); // Firefox asks the person
  },
};
