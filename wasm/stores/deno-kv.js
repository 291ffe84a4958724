// Agents in Deno KV. Keys, below the prefix:
//   head, STREAM               the head, never deleted; its versionstamp is what commits check
//   due, TIME, STREAM          an index of due times, changed with the head
//   block, STREAM, VERSION, PART   up to 60 KiB of a block; or, in place of part 0, { nonce, last }: blocks VERSION … last
//   far, STREAM, NONCE, VERSION, PART   … are here, as they were more than one atomic operation can hold
//   mark, STREAM, NONCE        such blocks were written, and no head refers to them yet

import { advance, begin, inspect, refusal, RUNS } from './shared.js';
import { header } from '../block.js';

const PART = 60 * 1024; /* a value may have 64 KiB */
const ATOMIC_BYTES = 600 * 1024; /* an atomic operation about 800 KB, keys included, */
const ATOMIC_PARTS = 400; /* 1,000 mutations, and 80 KiB of keys */
const ATOMIC_STREAMS = 50; /* 100 checks */
const STALE_MS = 3600000;

const locked = (error) => /database is locked|SQLITE_BUSY|database table is locked/i.test(error?.message ?? '');
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function denoKv(kv, { prefix = ['pagent'], tries = 20 } = {}) {
  const key = (...rest) => [...prefix, ...rest];

  /* Two processes get in each other's way: whoever is refused comes again a little later. */
  async function patiently(body) {
    for (let attempt = 1; ; attempt++) {
      try {
        return await body(attempt);
      } catch (error) {
        if (!locked(error) || attempt >= tries) throw error;
        await pause(Math.random() * Math.min(2 ** attempt, 100));
      }
    }
  }

  const getHead = (stream) => patiently(() => kv.get(key('head', stream)));
  const collect = (selector, options) =>
    patiently(async () => {
      const entries = [];
      for await (const entry of kv.list(selector, options)) entries.push(entry);
      return entries;
    });

  function* partsOf(blocks) {
    for (const { bytes, version } of blocks) {
      for (let at = 0, part = 0; at < bytes.length; at += PART, part++)
        yield { version, part, value: bytes.slice(at, at + PART) };
    }
  }
  const partCount = (blocks) => blocks.reduce((sum, { bytes }) => sum + Math.ceil(bytes.length / PART), 0);
  const byteCount = (blocks) => blocks.reduce((sum, { bytes }) => sum + bytes.length, 0);

  /* Parts ahead of their head: in as many operations as they need. */
  async function writeFar(stream, blocks) {
    const nonce = `${Date.now().toString(16).padStart(12, '0')}${Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
    const { versionstamp } = await patiently(() => kv.set(key('mark', stream, nonce), 0));
    let group = [],
      bytes = 0;
    const flush = () =>
      patiently(() => {
        const operation = kv.atomic();
        for (const { version, part, value } of group) operation.set(key('far', stream, nonce, version, part), value);
        return operation.commit();
      });
    for (const piece of partsOf(blocks)) {
      if (group.length >= ATOMIC_PARTS || (group.length > 0 && bytes + piece.value.length > ATOMIC_BYTES)) {
        await flush();
        group = [];
        bytes = 0;
      }
      group.push(piece);
      bytes += piece.value.length;
    }
    await flush();
    return { nonce, versionstamp };
  }

  async function removeAll(selector, below) {
    const keys = [];
    for (const entry of await collect(selector)) if (!below || below(entry)) keys.push(entry.key);
    for (let at = 0; at < keys.length; at += ATOMIC_PARTS) {
      await patiently(() => {
        const operation = kv.atomic();
        for (const one of keys.slice(at, at + ATOMIC_PARTS)) operation.delete(one);
        return operation.commit();
      });
    }
    return keys;
  }
  const removeFar = (stream, nonce) => removeAll({ prefix: key('far', stream, nonce) });

  /*
   * Commits appends of one group in one atomic operation: results, or null when a head has moved meanwhile.
   * `far`: the only append's blocks are written already.
   */
  async function attempt(group, far) {
    const heads = new Map(); /* as they were found, and as they will be */
    const results = [];
    const operation = kv.atomic();
    const nonce = crypto.randomUUID();
    for (const { append, blocks } of group) {
      const { stream } = append;
      const known =
        heads.get(stream) ??
        (await getHead(stream).then(({ value, versionstamp }) => ({ before: value, now: value, versionstamp })));
      heads.set(stream, known);
      const refused = refusal(append, blocks, known.now);
      results.push(refused ?? { result: 'ok' });
      if (refused) continue;
      known.now = advance(append, blocks, known.now);
      if (far) {
        operation.set(key('block', stream, append.first, 0), { nonce: far.nonce, last: append.summary.version });
        operation
          .check({ key: key('mark', stream, far.nonce), versionstamp: far.versionstamp })
          .delete(key('mark', stream, far.nonce));
      } else {
        for (const { version, part, value } of partsOf(blocks))
          operation.set(key('block', stream, version, part), value);
      }
    }
    const changed = [...heads].filter(([, { before, now }]) => now !== before);
    if (changed.length === 0) return results;
    for (const [stream, { before, now, versionstamp }] of changed) {
      operation.check({ key: key('head', stream), versionstamp }).set(key('head', stream), { ...now, nonce });
      const [old, due] = [before?.summary.due ?? Infinity, now.summary.due];
      if (old !== due) {
        if (old !== Infinity) operation.delete(key('due', old, stream));
        if (due !== Infinity) operation.set(key('due', due, stream), 0);
      }
    }
    let lockedOut = false;
    try {
      const { ok } = await patiently((number) => {
        if (number > 1) lockedOut = true;
        return operation.commit();
      });
      if (ok) return results;
    } catch (error) {
      if (!locked(error)) throw error; /* in doubt */
      lockedOut = true;
    }
    /* "locked" may have been said of what had happened: the head tells, by the nonce of who wrote it */
    const [stream] = changed[0];
    if (!lockedOut) return null;
    const { value } = await getHead(stream);
    if (value?.nonce === nonce) return results;
    if (value && value.version >= changed[0][1].now.version) {
      /* somebody wrote after what may have been ours: the blocks tell */
      const mine = group.find(({ append }, i) => append.stream === stream && results[i].result === 'ok');
      const found = await read({ stream, mode: 'from', version: mine.append.first, maxBytes: 1 });
      const bytes = found.blocks[0];
      if (
        bytes &&
        bytes.length === mine.blocks[0].bytes.length &&
        bytes.every((byte, i) => byte === mine.blocks[0].bytes[i])
      )
        return results;
    }
    return null;
  }

  async function settle(group, far) {
    for (let number = 0; number < tries; number++) {
      const results = await attempt(group, far);
      if (results) return results;
      if (group.length > 1 && number > 0) {
        /* one stream must not keep the others waiting */
        const alone = [];
        for (const one of group) alone.push(...(await settle([one])));
        return alone;
      }
      await pause(Math.random() * Math.min(2 ** number, 50));
    }
    return group.map(() => ({ result: 'again' }));
  }

  async function settleFar(one) {
    const { value } = await getHead(one.append.stream);
    const refused = refusal(one.append, one.blocks, value);
    if (refused) return refused;
    const far = await writeFar(one.append.stream, one.blocks);
    const [result] = await settle([one], far);
    if (result.result !== 'ok') {
      await removeFar(one.append.stream, far.nonce);
      await patiently(() => kv.delete(key('mark', one.append.stream, far.nonce)));
    }
    return result;
  }

  async function commit(appends) {
    const all = appends.map((append) => ({ append, blocks: inspect(append) }));
    const results = [];
    let group = [],
      bytes = 0,
      parts = 0;
    const flush = async () => {
      if (group.length > 0) results.push(...(await settle(group)));
      group = [];
      bytes = parts = 0;
    };
    for (const one of all) {
      const [size, count] = [byteCount(one.blocks), partCount(one.blocks)];
      const large = size > ATOMIC_BYTES || count > ATOMIC_PARTS;
      if (large || bytes + size > ATOMIC_BYTES || parts + count > ATOMIC_PARTS || group.length >= ATOMIC_STREAMS)
        await flush();
      if (large) results.push(await settleFar(one));
      else {
        group.push(one);
        bytes += size;
        parts += count;
      }
    }
    await flush();
    return results;
  }

  /* The parts of versions `from` … `to`, in order, wherever they are. */
  async function* pieces(stream, from, to, maxBytes) {
    const batchSize = Math.max(1, Math.min(100, Math.ceil(maxBytes / 512)));
    let start = from;
    for await (const entry of kv.list(
      { start: key('block', stream), end: key('block', stream, from + 1) },
      { limit: 1, reverse: true },
    )) {
      start = entry.key.at(-2); /* the block itself, or blocks that are far and begin before it */
      if (entry.value instanceof Uint8Array) start = from;
    }
    for await (const { key: found, value } of kv.list(
      { start: key('block', stream, start), end: key('block', stream, to + 1) },
      { batchSize },
    )) {
      const version = found.at(-2);
      if (value instanceof Uint8Array) yield { version, value };
      else {
        const range = {
          start: key('far', stream, value.nonce, Math.max(from, version)),
          end: key('far', stream, value.nonce, Math.min(value.last, to) + 1),
        };
        for await (const far of kv.list(range, { batchSize })) yield { version: far.key.at(-2), value: far.value };
      }
    }
  }

  async function readOnce(request) {
    const { stream } = request;
    const head = (await kv.get(key('head', stream))).value;
    let { result, from, before } = begin(request, head);
    if (result) return result;
    const upTo = async (first, maxBytes) => {
      const blocks = [];
      let bytes = 0,
        version = 0,
        block,
        filled = 0;
      for await (const piece of pieces(stream, first, head.version, maxBytes)) {
        if (piece.version !== version) {
          if (piece.version !== (version || first - 1) + 1) return null; /* trimmed meanwhile */
          const { size } = header(piece.value);
          bytes += size;
          if (bytes > maxBytes && blocks.length > 0) return blocks;
          blocks.push((block = new Uint8Array(size)));
          filled = 0;
          version = piece.version;
        }
        block.set(piece.value, filled);
        filled += piece.value.length;
      }
      return version < head.version ? null : blocks;
    };
    if (before) {
      const [block] = (await upTo(from, 1)) ?? [];
      if (!block) return null;
      from -= header(block).based;
    }
    if (from < head.first) return { version: head.version, blocks: [], trimmed: true };
    const blocks = await upTo(from, request.maxBytes);
    return blocks && { version: head.version, blocks };
  }

  async function read(request) {
    for (let number = 0; number < 5; number++) {
      const result = await patiently(() => readOnce(request));
      if (result) return result;
    }
    throw new Error(`deno-kv: blocks of ${request.stream} are missing`);
  }

  /* Due agents come by time, from their index; what depends on flags comes by stream, from the heads. */
  async function list({ cursor, dueBefore, flags, limit }) {
    const items = [];
    let next;
    const [later] = await collect(
      { start: key('due', (dueBefore ?? -1) + 1), end: key('due', Infinity) },
      { limit: 1 },
    );
    const nextDue = later ? later.key.at(-2) : Infinity;
    if (dueBefore && !flags) {
      const [time, stream] = cursor ? cursor.split(' ') : [-1, ''];
      const entries = await collect(
        { start: key('due', Number(time), `${stream}\0`), end: key('due', Math.floor(dueBefore) + 1) },
        { limit: limit + 1 },
      );
      for (const entry of entries.slice(0, limit)) {
        const { value } = await getHead(entry.key.at(-1));
        if (value.summary.due <= dueBefore) items.push(value.summary);
        next = `${entry.key.at(-2)} ${entry.key.at(-1)}`;
      }
      return { items, cursor: entries.length > limit ? next : undefined, nextDue };
    }
    const selector = { start: key('head', cursor ? `${cursor}\0` : ''), end: key('head', 'g') };
    return patiently(async () => {
      items.length = 0;
      for await (const {
        value: { summary },
      } of kv.list(selector)) {
        if ((dueBefore || flags) && !(summary.due <= (dueBefore ?? -1) || summary.flags & (flags ?? 0))) continue;
        if (items.length === limit) return { items, cursor: items.at(-1).stream, nextDue };
        items.push(summary);
      }
      return { items, cursor: undefined, nextDue };
    });
  }

  async function trim() {
    let count = 0;
    for (const { key: at, value: head, versionstamp } of await collect({ prefix: key('head') })) {
      const { stream } = head.summary;
      if (head.base > head.first && !(head.summary.flags & RUNS)) {
        /* first the head says that they are gone, then they go */
        const { ok } = await patiently(() =>
          kv
            .atomic()
            .check({ key: at, versionstamp })
            .set(at, { ...head, first: head.base })
            .commit(),
        );
        if (!ok) continue;
        count += head.base - head.first;
        head.first = head.base;
      }
      if (head.first === 1) continue;
      for (const entry of await collect({ start: key('block', stream), end: key('block', stream, head.first) })) {
        if (entry.value instanceof Uint8Array) continue;
        await removeAll({
          start: key('far', stream, entry.value.nonce),
          end: key('far', stream, entry.value.nonce, head.first),
        });
      }
      await removeAll(
        { start: key('block', stream), end: key('block', stream, head.first) },
        ({ value }) => value instanceof Uint8Array || value.last < head.first,
      );
    }
    /* blocks of commits that never came: without their mark no head can refer to them any more */
    for (const { key: at, versionstamp } of await collect({ prefix: key('mark') })) {
      const [stream, nonce] = at.slice(-2);
      if (parseInt(nonce.slice(0, 12), 16) > Date.now() - STALE_MS) continue;
      const { ok } = await patiently(() => kv.atomic().check({ key: at, versionstamp }).delete(at).commit());
      if (ok) await removeFar(stream, nonce);
    }
    return count;
  }

  return { durability: 'power', commit, read, list, trim };
}
