// The conformance kit: does a store keep the contract of `Store`? It needs nothing but the store, and runs in any
// runtime. Its blocks have true headers, links and checksums; their payload is random, and made again to be compared.

import { HEADER_SIZE, header, previousLink } from './block.js';
import { crc32c, link } from './stores/shared.js';

export { link };

const NONE = '0000000000000000';
const SNAPSHOT = 1;

// ---- blocks ---------------------------------------------------------------------------------------------------------

/* Payload: the writer's number, then a sequence that stream, version and writer determine. */
function fill(payload, stream, version, writer) {
  const words = new Uint32Array((payload.length + 3) >> 2);
  let x =
    (Number(BigInt(`0x${stream}`) % 4294967291n) ^
      Math.imul(version % 4294967296, 2654435761) ^
      Math.imul(writer + 1, 40503)) |
    1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  words[0] = writer;
  payload.set(new Uint8Array(words.buffer, 0, payload.length));
}

/** A block, as a view into a larger buffer: a store that keeps `.buffer` keeps the wrong bytes. */
export function makeBlock({
  stream,
  version,
  epoch = 1,
  previous = NONE,
  snapshot = false,
  based = 0,
  size = 200,
  writer = 0,
}) {
  const padded = Math.ceil(size / 64) * 64;
  const room = new Uint8Array(HEADER_SIZE + padded + 128).fill(0xee);
  const block = room.subarray(56, 56 + HEADER_SIZE + padded).fill(0);
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  fill(block.subarray(HEADER_SIZE, HEADER_SIZE + size), stream, version, writer);
  block.set([0xe5, 0xa9, 0xd1, 0xb7]);
  view.setBigUint64(16, BigInt(`0x${stream}`), true);
  view.setBigUint64(24, BigInt(version), true);
  view.setBigUint64(32, BigInt(epoch), true);
  view.setBigUint64(40, BigInt(`0x${previous}`), true);
  view.setUint32(48, size, true);
  view.setUint32(52, crc32c(block.subarray(HEADER_SIZE)), true);
  view.setUint8(56, version === 1 ? 3 : 4);
  view.setUint8(57, snapshot ? SNAPSHOT : 0);
  view.setUint16(58, based, true);
  const checked = new Uint8Array(HEADER_SIZE); /* bytes 8 … 63, then the file's offset: 0 */
  checked.set(block.subarray(8, HEADER_SIZE));
  view.setUint32(4, crc32c(checked), true);
  return block;
}

/** What is wrong with a block that makeBlock made; '' if nothing is. */
export function wrongBlock(block) {
  const { stream, version, size } = header(block);
  if (size !== block.length) return `${block.length} bytes, its header says ${size}`;
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const payload = block.subarray(HEADER_SIZE);
  if (crc32c(payload) !== view.getUint32(52, true)) return 'the payload is damaged';
  const made = new Uint8Array(payload.length);
  fill(
    made.subarray(0, view.getUint32(48, true)),
    stream,
    version,
    new DataView(payload.buffer, payload.byteOffset).getUint32(0, true),
  );
  return same(made, payload) ? '' : 'the payload is of another block';
}

function same(a, b) {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** One stream as its writer sees it: makes appends, and knows what the store must hold. */
class Journal {
  constructor(stream, { epoch = 1, writer = 0 } = {}) {
    Object.assign(this, {
      stream,
      epoch,
      writer,
      version: 0,
      previous: NONE,
      base: 0,
      blocks: new Map(),
      summary: null,
    });
  }

  /** The next append; `took` makes it so. */
  make(specs = [{}], { due = Infinity, flags = 0, status = 'waiting', state = 0, epoch = this.epoch, first } = {}) {
    const blocks = [];
    let { previous, base } = this;
    let version = first === undefined ? this.version : first - 1;
    for (const spec of specs) {
      version++;
      const snapshot = spec.snapshot ?? version === 1;
      if (snapshot) base = version;
      const based = Math.min(version - base, 65535);
      blocks.push(
        makeBlock({ ...spec, stream: this.stream, version, epoch, previous, snapshot, based, writer: this.writer }),
      );
      previous = link(blocks.at(-1));
    }
    return {
      stream: this.stream,
      expected: this.version,
      epoch,
      first: version - specs.length + 1,
      blocks,
      summary: { stream: this.stream, version, due, time: 1.7e12 + (version % 1e6), state, status, flags },
    };
  }

  took(append) {
    append.blocks.forEach((block, i) => {
      this.blocks.set(append.first + i, block);
      if (header(block).snapshot) this.base = append.first + i;
    });
    this.version = append.summary.version;
    this.epoch = append.epoch;
    this.previous = link(append.blocks.at(-1));
    this.summary = append.summary;
    return append;
  }

  /** Goes on from what the store holds, whoever wrote it. */
  async reload(store) {
    const { version, blocks } = await readAll(store, { stream: this.stream, mode: 'newest', version: 0 });
    this.version = version;
    this.previous = version ? link(blocks.at(-1)) : NONE;
    this.base = version ? header(blocks[0]).version : 0;
    return this;
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Commits; what is refused with "again" is sent again. */
async function commit(store, ...appends) {
  let results = await store.commit(appends);
  for (let tries = 0; tries < 200 && results.some(({ result }) => result === 'again'); tries++) {
    await pause(5);
    const places = results.flatMap(({ result }, i) => (result === 'again' ? [i] : []));
    const later = await store.commit(places.map((i) => appends[i]));
    results = results.map((result, i) => (places.includes(i) ? later[places.indexOf(i)] : result));
  }
  return results;
}

/** A whole read: on by "from" until there is nothing more. */
async function readAll(store, { stream, mode = 'base', version = 0, maxBytes = 1 << 20 }) {
  const first = await store.read({ stream, mode, version, maxBytes });
  const blocks = [...first.blocks];
  while (blocks.length > 0 && header(blocks.at(-1)).version < first.version) {
    const version = header(blocks.at(-1)).version + 1;
    const next = await store.read({ stream, mode: 'from', version, maxBytes });
    if (next.blocks.length === 0) throw new Error('a read ends before the head');
    if (header(next.blocks[0]).version !== version) throw new Error(`a read from ${version} begins elsewhere`);
    blocks.push(...next.blocks);
  }
  return { ...first, blocks };
}

async function listAll(store, request = {}) {
  const items = [];
  let cursor, nextDue;
  do {
    const page = await store.list({ limit: 100, ...request, cursor });
    if (page.items.length > (request.limit ?? 100)) throw new Error('a list returns more than its limit');
    if (nextDue !== undefined && page.nextDue !== nextDue) throw new Error('nextDue differs from page to page');
    ({ cursor, nextDue } = page);
    items.push(...page.items);
    if (items.length > 1e5) throw new Error('a list does not end');
  } while (cursor !== undefined);
  return { items, nextDue };
}

// ---- what checks say -----------------------------------------------------------------------------------------------

const shown = (value) =>
  JSON.stringify(value, (_, v) => (v === Infinity ? 'Infinity' : v instanceof Uint8Array ? `${v.length} bytes` : v));

function equal(found, wanted, what) {
  if (shown(found) !== shown(wanted)) throw new Error(`${what}: ${shown(found)} instead of ${shown(wanted)}`);
}

function ok(condition, what) {
  if (!condition) throw new Error(what);
}

class Skipped extends Error {}

/** The store holds versions `from` … `to` of the journal, byte by byte. */
function holds(blocks, journal, from, to = journal.version) {
  equal(
    blocks.map((block) => header(block).version),
    Array.from({ length: to - from + 1 }, (_, i) => from + i),
    'versions',
  );
  for (const block of blocks) {
    ok(block instanceof Uint8Array, 'a block is not a Uint8Array');
    const { version } = header(block);
    ok(same(block, journal.blocks.get(version)), `version ${version} has other bytes than were written`);
  }
}

const oks = (count) => Array(count).fill('ok');
const names = (results) => results.map(({ result }) => result);

async function grow(store, journal, specs, options) {
  for (const spec of specs) {
    const append = journal.make([spec], options);
    equal(names(await commit(store, append)), ['ok'], `append of version ${append.first}`);
    journal.took(append);
  }
  return journal;
}

/* Hard cases first: all zeros, all ones, and the sign of a 64-bit integer. */
const streams = (count) =>
  [
    '0000000000000001',
    'ffffffffffffffff',
    '7fffffffffffffff',
    '8000000000000000',
    '00000000000000ff',
    '0000000000000100',
    ...Array.from(
      { length: Math.max(0, count - 6) },
      (_, i) =>
        crc32c(Uint8Array.of(i, i >> 8))
          .toString(16)
          .padStart(8, '0') + (i + 1).toString(16).padStart(8, '0'),
    ),
  ].slice(0, count);

// ---- the checks ----------------------------------------------------------------------------------------------------

const checks = {
  async 'append, then read'(kit) {
    const store = await kit.open();
    const [stream] = streams(1);
    equal(
      await store.read({ stream, mode: 'newest', version: 0, maxBytes: 1e6 }),
      { version: 0, blocks: [] },
      'no such stream',
    );
    const journal = new Journal(stream);
    for (let i = 1; i <= 5; i++) {
      await grow(store, journal, [{ size: i * 100 }]);
      const { version, blocks, trimmed } = await store.read({ stream, mode: 'newest', version: 0, maxBytes: 1e6 });
      equal(version, i, "the head's version, read after the commit");
      ok(!trimmed, 'trimmed, though nothing is');
      holds(blocks, journal, 1);
    }
  },

  async 'conflict names the head'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(1)[0]);
    equal(
      await commit(store, wrong(journal, 4)),
      [{ result: 'conflict', version: 0 }],
      'expected 3, and there is no such stream',
    );
    const create = journal.make([{}]);
    await grow(store, journal, [{}, {}, {}]);
    equal(await commit(store, create), [{ result: 'conflict', version: 3 }], 'created twice');
    for (const at of [2, 3, 5, 9]) {
      equal(
        await commit(store, wrong(journal, at)),
        [{ result: 'conflict', version: 3 }],
        `expected ${at - 1}, the head is 3`,
      );
    }
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
    const append = journal.make();
    await commit(store, append);
    journal.took(append);
    equal(await commit(store, append), [{ result: 'conflict', version: 4 }], 'the identical append again');
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
  },

  async 'epochs fence'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(2)[1], { epoch: 7 });
    await grow(store, journal, [{}, {}]);
    equal(names(await commit(store, journal.make([{}], { epoch: 6 }))), ['fenced'], "an epoch below the head's");
    equal(
      (await store.read({ stream: journal.stream, mode: 'newest', version: 0, maxBytes: 1e6 })).version,
      2,
      'the head',
    );
    await grow(store, journal, [{}], { epoch: 7 });
    await grow(store, journal, [{}], { epoch: 2 ** 40 });
    equal(names(await commit(store, journal.make([{}], { epoch: 2 ** 40 - 1 }))), ['fenced'], 'an epoch just below');
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
  },

  async 'in a batch each stream succeeds alone'(kit) {
    const store = await kit.open();
    const journals = streams(8).map((stream) => new Journal(stream));
    for (let round = 0; round < 4; round++) {
      const appends = journals.map((journal, i) =>
        i % 4 === 2 && round
          ? wrong(journal, journal.version + 5)
          : i % 4 === 3 && round
            ? journal.make([{}], { epoch: 0 })
            : journal.make([{ size: 64 + i }]),
      );
      const results = await commit(store, ...appends);
      equal(
        results,
        journals.map((journal, i) =>
          i % 4 === 2 && round
            ? { result: 'conflict', version: journal.version }
            : { result: i % 4 === 3 && round ? 'fenced' : 'ok' },
        ),
        'results',
      );
      results.forEach(({ result }, i) => result === 'ok' && journals[i].took(appends[i]));
    }
    for (const journal of journals) holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
    equal(await commit(store), [], 'an empty batch');
  },

  async 'several blocks in one append'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(3)[2]);
    for (const count of [3, 1, 40]) {
      const append = journal.make(
        Array.from({ length: count }, (_, i) => ({ size: 64 * (i + 1), snapshot: i === 1 || undefined })),
      );
      equal(names(await commit(store, append)), ['ok'], `${count} blocks`);
      journal.took(append);
    }
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
    equal(names(await commit(store, { ...journal.make([{}, {}, {}], { epoch: 0 }) })), ['fenced'], 'refused together');
    equal(
      (await store.read({ stream: journal.stream, mode: 'newest', version: 0, maxBytes: 1e6 })).version,
      44,
      'the head',
    );
    holds((await readAll(store, { stream: journal.stream, mode: 'newest' })).blocks, journal, 6);
  },

  async 'a stream twice in one batch'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(4)[3]);
    const other = new Journal(streams(5)[4]);
    const appends = [
      journal.took(journal.make()),
      other.took(other.make()),
      journal.took(journal.make([{}, {}])),
      journal.took(journal.make()),
    ];
    equal(names(await commit(store, ...appends)), oks(4), 'results');
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
    const follows = journal.make();
    equal(
      await commit(store, follows, journal.make([{ size: 99 }])),
      [{ result: 'ok' }, { result: 'conflict', version: 5 }],
      'the second expects what the first has changed',
    );
    journal.took(follows);
    equal(
      names(await commit(store, wrong(journal, 9), journal.took(journal.make()))),
      ['conflict', 'ok'],
      'the first is refused',
    );
    for (const one of [journal, other]) holds((await readAll(store, { stream: one.stream })).blocks, one, 1);
  },

  async 'import of a trimmed journal'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(1)[0]);
    const bare = journal.make([{ snapshot: false }, {}], { first: 40 });
    let refused;
    try {
      refused = names(await commit(store, bare))[0] !== 'ok';
    } catch {
      refused = true;
    }
    ok(refused, 'it begins without a snapshot, and was taken');
    equal(
      await store.read({ stream: journal.stream, mode: 'newest', version: 0, maxBytes: 1e6 }),
      { version: 0, blocks: [] },
      'the refused one',
    );
    const append = journal.make([{ snapshot: true }, {}, {}], { first: 40 });
    equal(names(await commit(store, append)), ['ok'], 'the import');
    journal.took(append);
    holds((await readAll(store, { stream: journal.stream, mode: 'newest' })).blocks, journal, 40);
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 40);
    equal(
      (await store.read({ stream: journal.stream, mode: 'from', version: 39, maxBytes: 1e6 })).trimmed,
      true,
      'from 39: trimmed',
    );
    equal(
      (await store.read({ stream: journal.stream, mode: 'base', version: 39, maxBytes: 1e6 })).trimmed,
      true,
      'base 39: trimmed',
    );
    equal(await commit(store, append), [{ result: 'conflict', version: 42 }], 'imported twice');
    const again = new Journal(journal.stream);
    equal(
      await commit(store, again.make([{ snapshot: true }], { first: 80 })),
      [{ result: 'conflict', version: 42 }],
      'another import',
    );
    equal(await commit(store, again.make([{}])), [{ result: 'conflict', version: 42 }], 'created over it');
    await grow(store, journal, [{}, {}]);
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 40);
  },

  async 'versions up to 2^53'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(2)[1]);
    const append = journal.make([{ snapshot: true }], { first: Number.MAX_SAFE_INTEGER - 3 });
    equal(names(await commit(store, append)), ['ok'], 'the import');
    journal.took(append);
    await grow(store, journal, [{}, {}]);
    equal(
      await commit(store, wrong(journal, journal.version)),
      [{ result: 'conflict', version: Number.MAX_SAFE_INTEGER - 1 }],
      'conflict',
    );
    await grow(store, journal, [{}]);
    const { version, blocks } = await readAll(store, { stream: journal.stream });
    equal(version, Number.MAX_SAFE_INTEGER, 'the head');
    holds(blocks, journal, Number.MAX_SAFE_INTEGER - 3);
    equal(
      (await listAll(store)).items.map(({ version }) => version),
      [Number.MAX_SAFE_INTEGER],
      'listed',
    );
  },

  async 'the three ways to read'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(6)[5]);
    const snapshots = [1, 5, 12];
    await grow(
      store,
      journal,
      Array.from({ length: 15 }, (_, i) => ({ snapshot: snapshots.includes(i + 1), size: 50 + i })),
    );
    const read = (mode, version, maxBytes = 1e6) => store.read({ stream: journal.stream, mode, version, maxBytes });
    holds((await read('newest', 0)).blocks, journal, 12);
    holds((await read('base', 0)).blocks, journal, 1);
    for (const [version, from] of [
      [1, 1],
      [4, 1],
      [5, 5],
      [6, 5],
      [11, 5],
      [12, 12],
      [15, 12],
      [99, 12],
    ]) {
      const { blocks, version: head, trimmed } = await read('base', version);
      equal([head, trimmed ?? false], [15, false], `base ${version}: head, trimmed`);
      holds(blocks, journal, from);
    }
    for (let version = 1; version <= 15; version++) holds((await read('from', version)).blocks, journal, version);
    for (const version of [16, 99]) equal(await read('from', version), { version: 15, blocks: [] }, `from ${version}`);
  },

  async 'maxBytes ends a read'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(1)[0]);
    await grow(
      store,
      journal,
      Array.from({ length: 20 }, (_, i) => ({ size: i === 10 ? 5000 : 100 })),
    );
    for (const maxBytes of [1, 191, 192, 193, 384, 1000, 5200]) {
      for (const from of [1, 8, 11, 20]) {
        const { blocks, version } = await store.read({ stream: journal.stream, mode: 'from', version: from, maxBytes });
        equal(version, 20, 'the head');
        ok(blocks.length > 0, `maxBytes ${maxBytes}: no block at all`);
        const size = blocks.reduce((sum, block) => sum + block.length, 0);
        ok(size <= maxBytes || blocks.length === 1, `maxBytes ${maxBytes}: ${blocks.length} blocks of ${size} bytes`);
        holds(blocks, journal, from, from + blocks.length - 1);
      }
      holds((await readAll(store, { stream: journal.stream, maxBytes })).blocks, journal, 1);
    }
    for (const last of [5, 9, 99]) {
      const { blocks, version } = await store.read({
        stream: journal.stream,
        mode: 'from',
        version: 5,
        maxBytes: 1e6,
        last,
      });
      equal(version, 20, 'the head');
      ok(blocks.length > Math.min(last, 20) - 5, `last ${last}: only ${blocks.length} blocks`);
      holds(blocks, journal, 5, 4 + blocks.length);
    }
  },

  async 'order over many versions'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(2)[1]);
    for (const count of [90, 20, 150, 10]) {
      /* over 9, 99, 127, 255 */
      const append = journal.make(Array.from({ length: count }, () => ({ size: 60 })));
      equal(names(await commit(store, append)), ['ok'], `${count} blocks`);
      journal.took(append);
    }
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
    holds(
      (await readAll(store, { stream: journal.stream, mode: 'from', version: 99, maxBytes: 3000 })).blocks,
      journal,
      99,
    );
  },

  async 'streams do not mix'(kit) {
    const store = await kit.open();
    const journals = streams(12).map((stream) => new Journal(stream));
    for (let round = 0; round < 6; round++)
      for (const journal of journals) await grow(store, journal, [{ size: 64 + round }]);
    for (const journal of journals) holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
    equal((await listAll(store)).items.map(({ stream }) => stream).sort(), streams(12).sort(), 'listed');
  },

  async 'large blocks'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(3)[2]);
    const most = (Math.min(store.blockSizeMax ?? 5e6, 5e6) - HEADER_SIZE) & -64;
    const sizes = [1, 63, 64, 65, 4095, 65472, 65536, 65537, 1 << 20, 2e6, 2 ** 21, most].filter(
      (size) => size <= most,
    );
    await grow(
      store,
      journal,
      sizes.map((size, i) => ({ size, snapshot: i === 0 })),
    );
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
    holds(
      (await store.read({ stream: journal.stream, mode: 'from', version: journal.version, maxBytes: 1 })).blocks,
      journal,
      journal.version,
    );
    const other = new Journal(streams(4)[3]);
    const appends = [
      other.took(other.make([{ size: 300000 }, { size: 300000 }])),
      journal.took(journal.make([{ size: most, snapshot: true }, {}])),
      other.took(other.make()),
    ];
    equal(names(await commit(store, ...appends)), oks(3), 'small and large in one batch');
    holds((await readAll(store, { stream: journal.stream, mode: 'newest' })).blocks, journal, sizes.length + 1);
    holds((await readAll(store, { stream: other.stream })).blocks, other, 1);
  },

  async 'a large append'(kit) {
    const store = await kit.open();
    const journal = new Journal(streams(3)[2]);
    const import_ = journal.make(Array.from({ length: 1200 }, (_, i) => ({ size: 1000, snapshot: i % 100 === 0 })));
    equal(names(await commit(store, import_)), ['ok'], '1,200 blocks');
    journal.took(import_);
    await grow(store, journal, [{}, {}]);
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
    for (const version of [1, 500, 1150, 1200, 1202]) {
      holds((await readAll(store, { stream: journal.stream, mode: 'from', version })).blocks, journal, version);
    }
    holds((await readAll(store, { stream: journal.stream, mode: 'base', version: 777 })).blocks, journal, 701);
    equal(await commit(store, wrong(journal, 700)), [{ result: 'conflict', version: 1202 }], 'conflict');
  },

  async list(kit) {
    const store = await kit.open();
    equal(await listAll(store), { items: [], nextDue: Infinity }, 'an empty store');
    const journals = streams(25).map((stream) => new Journal(stream));
    const due = (i) => (i % 5 === 4 ? Infinity : 1.7e12 + ((i * 7) % 25));
    for (const [i, journal] of journals.entries()) {
      await grow(store, journal, [{}], { due: 5 });
      await grow(store, journal, [{}], {
        due: due(i),
        flags: i % 3 === 0 ? 8 : i % 3 === 1 ? 3 : 0,
        state: i,
        status: i % 2 ? 'parked' : 'running',
      });
    }
    const byStream = (a, b) => (a.stream < b.stream ? -1 : 1);
    const expect = async (request, wanted, what) => {
      const next = Math.min(
        ...journals.map(({ summary }) => summary.due).filter((time) => time > (request.dueBefore ?? -1)),
        Infinity,
      );
      const summaries = journals
        .map(({ summary }) => summary)
        .filter(wanted)
        .sort(byStream)
        .map(plain);
      for (const limit of [100, 7, 1]) {
        const { items, nextDue } = await listAll(store, { ...request, limit });
        equal(items.sort(byStream).map(plain), summaries, `${what}, by ${limit}`);
        equal(nextDue, next, `nextDue, ${what}`);
      }
    };
    await expect({}, () => true, 'all');
    for (const time of [4, 1.7e12, 1.7e12 + 1, 1.7e12 + 12, 1.7e12 + 24, 1.8e12]) {
      await expect({ dueBefore: time }, (summary) => summary.due <= time, `due before ${time}`);
      await expect(
        { dueBefore: time, flags: 8 },
        (summary) => summary.due <= time || summary.flags & 8,
        `due before ${time} or flag 8`,
      );
    }
    for (const flags of [1, 2, 8, 10, 4]) await expect({ flags }, (summary) => summary.flags & flags, `flags ${flags}`);
    await grow(store, journals[0], [{}], { due: 3 });
    await grow(store, journals[1], [{}], { due: Infinity });
    await expect({ dueBefore: 10 }, (summary) => summary.due <= 10, 'due after a change');
    const refused = wrong(journals[2], 9);
    refused.summary.due = 1;
    await commit(store, refused);
    await expect({ dueBefore: 10 }, (summary) => summary.due <= 10, 'due after a refusal');
  },

  async trim(kit) {
    let store = await kit.open();
    if (!store.trim) throw new Skipped('this store has no trim');
    const [journal, runs, whole] = streams(3).map((stream) => new Journal(stream));
    const specs = Array.from({ length: 10 }, (_, i) => ({ snapshot: [1, 5, 8].includes(i + 1) }));
    await grow(store, journal, specs);
    await grow(store, runs, specs, { flags: 16 });
    await grow(
      store,
      whole,
      specs.map((_, i) => ({ snapshot: i === 0 })),
    );
    const create = new Journal(journal.stream).make();
    equal(await store.trim(), 7, 'blocks that went');
    for (let round = 0; round < 2; round++) {
      const read = (mode, version) => readAll(store, { stream: journal.stream, mode, version });
      holds((await read('newest', 0)).blocks, journal, 8);
      holds((await read('base', 0)).blocks, journal, 8);
      holds((await read('base', 9)).blocks, journal, 8);
      holds((await read('from', 9)).blocks, journal, 9);
      for (const [mode, version] of [
        ['from', 1],
        ['from', 7],
        ['base', 7],
        ['base', 1],
      ]) {
        equal(await read(mode, version), { version: 10, blocks: [], trimmed: true }, `${mode} ${version}`);
      }
      /* rule H: what is gone can not be made again */
      equal(await commit(store, create), [{ result: 'conflict', version: 10 }], 'creating it again');
      for (const at of [3, 7, 8, 10]) {
        equal(await commit(store, wrong(journal, at)), [{ result: 'conflict', version: 10 }], `version ${at} again`);
      }
      equal(
        await commit(store, new Journal(journal.stream).make([{ snapshot: true }], { first: 3 })),
        [{ result: 'conflict', version: 10 }],
        'importing over it',
      );
      equal((await listAll(store)).items.length, 3, 'listed');
      equal(await store.trim(), 0, 'a second trim');
      if (round === 0 && store.durability !== 'none') store = await kit.reopen(store);
    }
    holds((await readAll(store, { stream: runs.stream })).blocks, runs, 1); /* its transcript stands in them */
    holds((await readAll(store, { stream: whole.stream })).blocks, whole, 1);
    await grow(store, journal, [{}, { snapshot: true }, {}]);
    equal(await store.trim(), 4, 'blocks that went after a new snapshot');
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 12);
  },

  async 'trim of large blocks and large appends'(kit) {
    const store = await kit.open();
    if (!store.trim) throw new Skipped('this store has no trim');
    const journal = new Journal(streams(1)[0]);
    const size = Math.min(store.blockSizeMax ?? 1e6, 1e6) - HEADER_SIZE;
    for (const specs of [
      [{ size }, { size: 70000 }],
      [{ snapshot: true, size }, {}, {}],
      [{}, { size, snapshot: true }, {}],
    ]) {
      const append = journal.make(specs);
      equal(names(await commit(store, append)), ['ok'], 'append');
      journal.took(append);
    }
    equal(await store.trim(), 6, 'blocks that went');
    holds((await readAll(store, { stream: journal.stream })).blocks, journal, 7);
    equal(
      (await store.read({ stream: journal.stream, mode: 'from', version: 6, maxBytes: 1e6 })).trimmed,
      true,
      'from 6: trimmed',
    );
    await grow(store, journal, [{ size }]);
    holds((await readAll(store, { stream: journal.stream, mode: 'newest' })).blocks, journal, 7);
  },

  async reopening(kit) {
    let store = await kit.open();
    if (store.durability === 'none' && !kit.canReopen) throw new Skipped('durability is "none"');
    const journals = streams(10).map((stream) => new Journal(stream));
    for (let round = 0; round < 3; round++) {
      for (const [i, journal] of journals.entries()) {
        await grow(store, journal, [{ size: 100 * (i + 1) }, { size: 100000, snapshot: round === 1 }], {
          due: 1000 + i,
          flags: i,
        });
      }
      store = await kit.reopen(store);
      for (const journal of journals) {
        holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
        equal(
          await commit(store, wrong(journal, journal.version)),
          [{ result: 'conflict', version: journal.version }],
          'an old version',
        );
      }
      const { items, nextDue } = await listAll(store);
      equal(
        items.map(plain).sort((a, b) => (a.stream < b.stream ? -1 : 1)),
        journals.map(({ summary }) => plain(summary)).sort((a, b) => (a.stream < b.stream ? -1 : 1)),
        'summaries',
      );
      equal(nextDue, 1000, 'nextDue');
    }
  },

  async 'what one instance wrote, the other reads'(kit) {
    const [a, b] = await kit.two();
    const journal = new Journal(streams(1)[0]);
    for (let i = 0; i < 10; i++) {
      await grow(i % 2 ? a : b, journal, [{}], { due: 1000 + i });
      holds((await readAll(i % 2 ? b : a, { stream: journal.stream })).blocks, journal, 1);
      equal((await listAll(i % 2 ? b : a)).nextDue, 1000 + i, 'nextDue');
    }
    for (let i = 0; i < 4; i++) {
      await grow(a, journal, [{}]);
      holds((await readAll(b, { stream: journal.stream })).blocks, journal, 1);
    }
    equal(await commit(a, wrong(journal, 3)), [{ result: 'conflict', version: 14 }], 'conflict');
    await grow(b, journal, [{}], { epoch: 5 });
    equal(names(await commit(a, journal.make([{}], { epoch: 4 }))), ['fenced'], 'the epoch that the other one wrote');
  },

  async 'racing writers: one wins'(kit) {
    const stores = await kit.two();
    const journal = new Journal(streams(2)[1]);
    const wins = [0, 0];
    for (let round = 0; round < 20; round++) {
      const appends = Array.from({ length: 8 }, (_, i) => {
        journal.writer = round * 8 + i;
        return journal.make([{ size: 64 + i * 200 }, {}]);
      });
      const results = (await Promise.all(appends.map((append, i) => commit(stores[i % 2], append)))).flat();
      const winners = results.flatMap(({ result }, i) => (result === 'ok' ? [i] : []));
      equal(winners.length, 1, `round ${round}: winners among ${shown(results)}`);
      ok(
        results.every(
          (one, i) => i === winners[0] || (one.result === 'conflict' && one.version === journal.version + 2),
        ),
        `round ${round}: ${shown(results)}`,
      );
      journal.took(appends[winners[0]]);
      wins[winners[0] % 2]++;
      for (const store of stores) holds((await readAll(store, { stream: journal.stream })).blocks, journal, 1);
    }
    kit.note(`wins ${wins.join(' : ')}`);
  },

  async 'parallel commits of different streams'(kit) {
    const stores = kit.singleWriter ? Array(2).fill(await kit.open()) : await kit.two();
    const journals = streams(16).map((stream) => new Journal(stream));
    await Promise.all(
      journals.map((journal, i) =>
        grow(
          stores[i % 2],
          journal,
          Array.from({ length: 10 }, () => ({ size: 100 + i })),
        ),
      ),
    );
    for (const journal of journals) holds((await readAll(stores[0], { stream: journal.stream })).blocks, journal, 1);
  },

  async 'a crash loses nothing acknowledged'(kit) {
    if (!kit.canKill) throw new Skipped('no `kill` was given');
    const acked = [];
    for (let round = 0; round < 3; round++) {
      const store = await kit.open();
      const writer = startWriter(
        store,
        (ack) => {
          acked.push(ack);
        },
        { seed: round },
      );
      const before = acked.length;
      let failed;
      const done = writer.done.catch((error) => {
        failed = error;
      });
      while (acked.length < before + 20 && !failed) await pause(1);
      if (failed) throw failed;
      await kit.kill();
      writer.stop();
      await done;
    }
    const { lost, blocks } = await checkWritten(await kit.open(), acked);
    equal(lost, [], 'lost');
    kit.note(`${acked.length} acknowledged, ${blocks} blocks`);
  },
};

/* An append of this stream that begins at another version than the next. */
function wrong(journal, first) {
  const other = new Journal(journal.stream, { epoch: journal.epoch, writer: 99 });
  other.version = first - 1;
  return other.make([{ snapshot: true }]);
}

const plain = ({ stream, version, due, time, state, status, flags }) => ({
  stream,
  version,
  due,
  time,
  state,
  status,
  flags,
});

// ---- running them --------------------------------------------------------------------------------------------------

/**
 * Runs every check on stores of its own.
 * `open(name)`: a store over the data of that name; a second call while the first is open: another instance over the same.
 */
export async function runKit({
  open,
  reopen,
  kill,
  log = console.log,
  only,
  singleWriter = false,
  timeoutMs = 120000,
  names: prefix = `kit${Math.floor(Math.random() * 1e9).toString(36)}`,
}) {
  const outcome = { passed: 0, failed: 0, skipped: 0, failures: [], skips: [] };
  let number = 0;
  for (const [what, check] of Object.entries(checks)) {
    if (only && !what.includes(only)) continue;
    const name = `${prefix}-${++number}`;
    const opened = new Set();
    let note = '';
    const kit = {
      singleWriter,
      canReopen: reopen !== undefined,
      canKill: kill !== undefined,
      note: (text) => {
        note = ` (${text})`;
      },
      async open() {
        const store = await open(name);
        opened.add(store);
        return store;
      },
      async two() {
        if (singleWriter) throw new Skipped('this store has a single writer');
        return [await kit.open(), await kit.open()];
      },
      async reopen(store) {
        opened.delete(store);
        await store.close?.();
        const next = await (reopen ?? open)(name);
        opened.add(next);
        return next;
      },
      async kill() {
        opened.clear();
        await kill(name);
      },
    };
    let timer;
    try {
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not done after ${timeoutMs} ms`)), timeoutMs);
      });
      await Promise.race([check(kit), late]);
      outcome.passed++;
      log(`ok ${what}${note}`);
    } catch (error) {
      if (error instanceof Skipped) {
        outcome.skipped++;
        outcome.skips.push({ name: what, reason: error.message });
        log(`skipped ${what}: ${error.message}`);
      } else {
        outcome.failed++;
        outcome.failures.push({ name: what, error });
        log(`FAILED ${what}: ${error?.stack ?? error}`);
      }
    } finally {
      clearTimeout(timer);
      for (const store of opened)
        try {
          await store.close?.();
        } catch {
          /* the check has failed already */
        }
    }
  }
  return outcome;
}

/** The names of the checks, in order. */
export const checkNames = Object.keys(checks);

// ---- crashes: from outside -----------------------------------------------------------------------------------------

/**
 * Appends to a few streams until it is stopped or killed, and reports what the store has acknowledged: `report` gets
 * { stream, version, link } after the "ok", and should write it where the kill does not reach. Several writers, in one
 * process or many, may work on the same streams, each under a number of its own.
 */
export function startWriter(
  store,
  report,
  { writer = 1, count = 4, sizeMax = 8000, seed = writer, limit = Infinity } = {},
) {
  let stopped = false,
    x = Math.imul(seed + 1, 2654435761) | 1;
  const random = (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
  const journals = streams(count).map((stream) => new Journal(stream, { writer }));
  async function run() {
    const totals = { acked: 0, conflicts: 0, again: 0, doubts: 0 };
    for (const journal of journals) await journal.reload(store);
    while (!stopped && totals.acked < limit) {
      const chosen = journals.filter(() => random(2));
      if (chosen.length === 0) continue;
      const appends = chosen.map((journal) =>
        journal.make(
          Array.from({ length: 1 + random(3) }, () => ({
            size: 4 + random(random(20) ? 600 : sizeMax),
            snapshot: journal.version === 0 || random(10) === 0,
          })),
        ),
      );
      /* version 1 carries a snapshot, and nobody is fenced: all have epoch 1 */
      let results;
      try {
        results = await store.commit(appends);
      } catch {
        totals.doubts++;
      }
      for (const [i, journal] of chosen.entries()) {
        const result = results?.[i].result;
        if (result === 'ok') {
          journal.took(appends[i]);
          journal.blocks.clear();
          totals.acked++;
          await report({ stream: journal.stream, version: journal.version, link: journal.previous });
        } else {
          if (result === 'conflict') totals.conflicts++;
          if (result === 'again') totals.again++;
          await journal.reload(store);
        }
      }
      await pause(0); /* a synchronous store would otherwise let nothing else run */
    }
    return totals;
  }
  return {
    stop() {
      stopped = true;
    },
    done: run(),
  };
}

/**
 * Is all that was acknowledged there, byte by byte, and is each journal whole? `acked`: what startWriter reported. A
 * version that two writers were both told to be theirs shows as lost for one of them.
 */
export async function checkWritten(store, acked) {
  const links = new Map(),
    lost = [];
  let blocks = 0;
  for (const stream of new Set(Array.from(acked, (ack) => ack.stream))) {
    const read = await readAll(store, { stream });
    let previous = NONE,
      version = 0;
    for (const block of read.blocks) {
      const found = header(block),
        wrongness = wrongBlock(block);
      if (wrongness) lost.push(`${stream} version ${found.version}: ${wrongness}`);
      if (found.version !== ++version) lost.push(`${stream}: version ${found.version} where ${version} belongs`);
      if (previousLink(block) !== previous)
        lost.push(`${stream} version ${found.version} does not follow the one before it`);
      previous = link(block);
      links.set(`${stream}.${found.version}`, previous);
      blocks++;
    }
    if (read.version !== version) lost.push(`${stream}: the head is ${read.version}, the last block ${version}`);
  }
  for (const ack of acked) {
    const found = links.get(`${ack.stream}.${ack.version}`);
    if (found === undefined) lost.push(`${ack.stream} version ${ack.version} was acknowledged, and is gone`);
    else if (found !== ack.link)
      lost.push(`${ack.stream} version ${ack.version} was acknowledged, and is another one now`);
  }
  return { lost, blocks };
}
