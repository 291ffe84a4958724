// Agents in Workers KV, which compares nothing and shows what was written only after a while. One writer, who says so.
// One key per append, written once and never changed: PREFIX/STREAM/VERSION/NONCE, VERSION of its last block, its summary
// in the key's metadata. A second writer therefore shows as two keys of one version, and is refused by name.

import { advance, begin, failure, inspect, link, listed, refusal, RUNS } from './shared.js';
import { header, previousLink, split } from '../block.js';

const DAMAGED = 128; /* summary flag */
const PART = 24 << 20; /* a value may have 25 MiB */
const NONE = '0000000000000000';
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const nonceOf = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('');

export function kv(
  namespace,
  {
    singleWriter,
    anchors,
    prefix = 'agent',
    settleMs = 60000,
    idleSince,
    tries = 4,
    retryMs = 1000,
    clock = Date.now,
    cacheBytes = 8 << 20,
  } = {},
) {
  if (singleWriter !== true) {
    throw new TypeError(
      'kv: Workers KV can not tell two writers apart. Say { singleWriter: true } if there is only ever one, or use a Durable Object',
    );
  }
  /* What anybody wrote before this moment is visible `settleMs` after it; since then there is only this writer. */
  const since = Math.min(clock(), idleSince ?? Infinity);
  const streams = new Map(); /* stream → promise of what open() gives */
  const cache = new Map(); /* key → bytes: the newest, as a key just written is not visible everywhere */
  let cached = 0,
    turn = Promise.resolve(),
    listedAll = false;

  const keyOf = (stream, version, nonce) => `${prefix}/${stream}/${String(version).padStart(16, '0')}/${nonce}`;
  const partOf = (name, part) => `${prefix}-part/${name.slice(prefix.length + 1)}/${part}`;

  function remember(name, bytes) {
    cached += bytes.length - (cache.get(name)?.length ?? 0);
    cache.delete(name);
    cache.set(name, bytes);
    for (const [old, { length }] of cache) {
      if (cached <= cacheBytes || old === name) break;
      cached -= length;
      cache.delete(old);
    }
  }

  async function keysBelow(start) {
    const keys = [];
    for (let cursor; ;) {
      const page = await namespace.list({ prefix: start, cursor });
      keys.push(...page.keys);
      if (page.list_complete) return keys;
      cursor = page.cursor;
    }
  }

  /*
   * What the visible keys of a stream say. metadata: { first, base, epoch, from, link, parts, summary }; `from` is what the
   * first block of the key names as the link before it, `link` its last block's.
   */
  function chain(stream, keys) {
    const entries = new Map(); /* version → entry */
    for (const { name, metadata } of keys) {
      const version = Number(name.split('/').at(-2));
      if (!metadata?.summary || !(version >= metadata.first))
        throw failure('E_FOREIGN', `${name} was not written by this store`);
      const known = entries.get(version);
      if (known && (known.link !== metadata.link || known.first !== metadata.first)) {
        throw failure(
          'E_FOREIGN',
          `${stream}: version ${version} exists twice (${known.name}, ${name}): there was a second writer`,
        );
      }
      if (!known) entries.set(version, { ...metadata, name, version });
    }
    const newest = Math.max(0, ...entries.keys());
    if (newest === 0) return null;
    const sorted = [...entries.values()].sort((a, b) => a.version - b.version);
    const kept = [];
    for (let entry = entries.get(newest), next = newest + 1; entry; entry = entries.get(next - 1)) {
      if (kept.length > 0 && kept[0].from !== entry.link) {
        throw failure(
          'E_FOREIGN',
          `${stream}: version ${next} does not follow version ${entry.version}: there was a second writer`,
        );
      }
      kept.unshift(entry);
      next = entry.first;
    }
    /* two keys that overlap without ending at one version */
    for (const entry of sorted) {
      if (!kept.includes(entry) && entry.version >= kept[0].first) {
        throw failure(
          'E_FOREIGN',
          `${stream}: versions ${entry.first} … ${entry.version} exist twice (${entry.name}): there was a second writer`,
        );
      }
    }
    const { base, epoch, summary } = kept.at(-1);
    if (kept[0].first > 1 && base < kept[0].first) {
      throw failure('E_LOST_TAIL', `${stream}: version ${kept[0].first - 1} is not visible, and ${newest} needs it`);
    }
    /* After trim the first kept key may begin before the oldest snapshot that a read can begin with */
    let first = kept[0].first;
    if (first > 1) first = Math.min(base, ...kept.map((entry) => entry.snapshot || Infinity));
    return {
      entries: kept,
      head: {
        version: newest,
        epoch,
        base,
        first,
        link: kept.at(-1).link,
        summary: { ...summary, due: summary.due ?? Infinity },
      },
    };
  }

  async function open(stream, keys) {
    const settled = clock() >= since + settleMs;
    const found = chain(stream, keys ?? (await keysBelow(`${prefix}/${stream}/`)));
    const version = found?.head.version ?? 0;
    const anchor = await (typeof anchors === 'function'
      ? anchors(stream)
      : anchors instanceof Map
        ? anchors.get(stream)
        : anchors?.[stream]);
    if (anchor) {
      if (anchor.version > version) {
        throw failure(
          'E_LOST_TAIL',
          `${stream}: its anchor says version ${anchor.version}, ${version} is what can be seen`,
        );
      }
      const entry = found?.entries.find((one) => one.version >= anchor.version && one.first <= anchor.version);
      if (entry && anchor.link) {
        let at = entry.link;
        if (entry.version !== anchor.version)
          at = link((await load(entry)).find((block) => header(block).version === anchor.version));
        if (at !== anchor.link)
          throw failure('E_FOREIGN', `${stream}: version ${anchor.version} is not the one of its anchor`);
      }
    }
    return {
      found,
      writable: settled || (anchor !== undefined && anchor !== null && anchor.version === version),
      doubt: null,
    };
  }

  /* A stream is looked up once; until it may be written, again at each use. A failed look-up is not kept. */
  async function stateOf(stream, keys) {
    let state = streams.get(stream);
    if (!state || !state.writable) {
      state = await open(stream, keys);
      streams.set(stream, state);
    }
    if (state.doubt) await finish(stream, state);
    return state;
  }

  async function put(name, bytes, metadata) {
    for (let number = 1; ; number++) {
      try {
        return await namespace.put(name, bytes, metadata && { metadata });
      } catch (error) {
        /* the same bytes under the same key: harmless to repeat */
        if (number >= tries) throw error;
        await pause(retryMs * number);
      }
    }
  }

  async function write(name, bytes, metadata) {
    const { parts } = metadata;
    for (let part = 0; part < parts; part++) await put(partOf(name, part), bytes.slice(part * PART, (part + 1) * PART));
    await put(name, parts ? new Uint8Array(0) : bytes, metadata);
  }

  /* What may or may not have been written is written again, under its key: only so is there an answer to a read. */
  async function finish(stream, state) {
    const { name, bytes, metadata } = state.doubt;
    await write(name, bytes, metadata);
    adopt(state, state.doubt);
    state.doubt = null;
  }

  function adopt(state, { name, bytes, metadata, head }) {
    const entries = state.found?.entries ?? [];
    entries.push({ ...metadata, name, version: head.version });
    state.found = { entries, head };
    remember(name, bytes);
  }

  async function load(entry) {
    let bytes = cache.get(entry.name);
    if (!bytes) {
      const names = entry.parts
        ? Array.from({ length: entry.parts }, (_, part) => partOf(entry.name, part))
        : [entry.name];
      const values = [];
      for (const name of names) {
        const value = await namespace.get(name, { type: 'arrayBuffer' });
        if (!value) throw failure('E_LOST_TAIL', `${name} is listed, and can not be read yet`);
        values.push(new Uint8Array(value));
      }
      bytes = values.length === 1 ? values[0] : join(values);
    }
    const blocks = split(bytes);
    let previous = entry.from;
    for (const block of blocks) {
      if (previousLink(block) !== previous)
        throw failure('E_FOREIGN', `${entry.name}: version ${header(block).version} does not follow the one before it`);
      previous = link(block);
    }
    if (previous !== entry.link)
      throw failure('E_FOREIGN', `${entry.name}: its bytes are not those it was written with`);
    remember(entry.name, bytes);
    return blocks;
  }

  async function append(request) {
    const blocks = inspect(request);
    const state = await stateOf(request.stream);
    const head = state.found?.head;
    const refused = refusal(request, blocks, head);
    if (refused) return refused;
    if (!state.writable) return { result: 'again' };
    const from = previousLink(request.blocks[0]);
    const known = head?.link ?? (request.first === 1 ? NONE : from); // what begins later may follow anything
    if (from !== known)
      throw failure(
        'E_FOREIGN',
        `${request.stream}: version ${request.first} does not follow the one that can be seen`,
      );
    const bytes = join(request.blocks);
    const next = advance(request, blocks, head);
    const linked = link(request.blocks.at(-1));
    const metadata = {
      first: request.first,
      base: next.base,
      epoch: next.epoch,
      from,
      link: linked,
      snapshot: blocks.find(({ snapshot }) => snapshot)?.version,
      parts: bytes.length > PART ? Math.ceil(bytes.length / PART) : 0,
      summary: { ...next.summary, due: next.summary.due === Infinity ? null : next.summary.due },
    };
    const made = {
      name: keyOf(request.stream, next.version, nonceOf()),
      bytes,
      metadata,
      head: { ...next, link: linked },
    };
    state.doubt = made;
    await write(made.name, bytes, metadata);
    state.doubt = null;
    adopt(state, made);
    return { result: 'ok' };
  }

  async function read(request) {
    const { found } = await stateOf(request.stream);
    let { result, from, before } = begin(request, found?.head);
    if (result) return result;
    const { entries, head } = found;
    let at = entries.findIndex(({ version }) => version >= from);
    if (before) {
      const block = (await load(entries[at])).find((one) => header(one).version === from);
      from -= header(block).based;
      if (from < head.first) return { version: head.version, blocks: [], trimmed: true };
      at = entries.findIndex(({ version }) => version >= from);
    }
    const blocks = [];
    for (let bytes = 0; at < entries.length; at++) {
      for (const block of await load(entries[at])) {
        if (header(block).version < from) continue;
        bytes += block.length;
        if (bytes > request.maxBytes && blocks.length > 0) return { version: head.version, blocks };
        blocks.push(block.slice());
      }
    }
    return { version: head.version, blocks };
  }

  async function all() {
    const settled = clock() >= since + settleMs;
    if (!listedAll) {
      const groups = new Map();
      for (const key of await keysBelow(`${prefix}/`)) {
        const stream = key.name.split('/').at(-3);
        if (!groups.has(stream)) groups.set(stream, []);
        groups.get(stream).push(key);
      }
      for (const [stream, keys] of groups) {
        if (streams.get(stream)?.writable) continue;
        try {
          streams.set(stream, await open(stream, keys));
        } catch (error) {
          /* this agent's fault, and no other's: read and commit will say what it is */
          if (error.code !== 'E_FOREIGN' && error.code !== 'E_LOST_TAIL') throw error;
          const known = keys.at(-1).metadata?.summary ?? {
            version: 0,
            due: null,
            time: 0,
            state: 0,
            status: 'parked',
            flags: 0,
          };
          streams.set(stream, {
            damaged: { ...known, stream, due: known.due ?? Infinity, flags: known.flags | DAMAGED },
          });
        }
      }
      listedAll = settled; /* before that, more may come to light */
    }
    return [...streams.values()];
  }

  async function trim() {
    let count = 0;
    for (const { found, writable } of await all()) {
      if (!found || !writable) continue;
      const { entries, head } = found;
      if (head.base <= head.first || head.summary.flags & RUNS) continue;
      count += head.base - head.first;
      head.first = head.base;
      while (entries[0].version < head.base) {
        /* a key goes as a whole; the newest one always stays */
        const { name, parts } = entries.shift();
        await namespace.delete(name);
        for (let part = 0; part < parts; part++) await namespace.delete(partOf(name, part));
      }
    }
    return count;
  }

  /* One thing at a time: there is nothing in the namespace that would keep two apart. */
  const alone = (body) => (request) => {
    const result = turn.then(() => body(request));
    turn = result.catch(() => {});
    return result;
  };

  return {
    durability: 'power',
    commit: alone(async (appends) => {
      for (const request of appends) inspect(request);
      const results = [];
      for (const request of appends) results.push(await append(request));
      return results;
    }),
    read: alone(read),
    list: alone(async (request) =>
      listed(request, (await all()).map(({ found, damaged }) => damaged ?? found?.head.summary).filter(Boolean)),
    ),
    trim: alone(trim),
    /** Where a stream stands: keep it where the next opening finds it. */
    anchor: alone(async (stream) => {
      const { found } = await stateOf(stream);
      return found ? { version: found.head.version, link: found.head.link } : { version: 0, link: NONE };
    }),
  };
}

function join(pieces) {
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

// ---- what Workers KV is good for: copies ----------------------------------------------------------------------------

/** Puts an exported agent under a key. Readers elsewhere see it within a minute; the newest put wins. */
export async function exportTo(namespace, key, bytes, { expirationTtl, metadata } = {}) {
  await namespace.put(key, bytes, {
    metadata: { size: bytes.length, ...metadata },
    ...(expirationTtl && { expirationTtl }),
  });
}

/** What exportTo has put there, perhaps not the newest; null: nothing that can be seen. */
export async function importFrom(namespace, key) {
  const { value, metadata } = await namespace.getWithMetadata(key, { type: 'arrayBuffer' });
  if (!value) return null;
  if (metadata?.size !== undefined && metadata.size !== value.byteLength)
    throw failure('E_CORRUPT', `${key}: ${value.byteLength} bytes, ${metadata.size} were put`);
  return new Uint8Array(value);
}

/** A view of an agent, or anything of JSON, near those who read it: at most `ttl` seconds and a minute old. */
export async function cached(namespace, key, make, { ttl = 60 } = {}) {
  const found = await namespace.get(key, { type: 'json' });
  if (found !== null) return found;
  const value = await make();
  await namespace.put(key, JSON.stringify(value), { expirationTtl: Math.max(60, ttl) });
  return value;
}
