// What the stores have in common: whether an append may go in, what a list returns, how blocks are chained.

import { HEADER_SIZE, header } from '../block.js';

/** Summary flag: the transcript stands in blocks before the newest snapshot, which trim must leave (PAGENT_HAS_RUNS). */
export const RUNS = 16;

/**
 * The blocks of an append as what header() says of each, with its `bytes`. Throws for what no engine sends, before
 * anything is written.
 */
export function inspect(append, sizeMax = Infinity) {
  const { stream, expected, first, epoch, blocks, summary } = append;
  if (!/^[0-9a-f]{16}$/.test(stream)) throw new RangeError(`append: stream ${stream} is not 16 hex digits`);
  if (blocks.length === 0) throw new RangeError('append: no block');
  if (expected !== 0 && first !== expected + 1) throw new RangeError('append: first is not expected + 1');
  const found = blocks.map((bytes, i) => {
    const block = bytes.length >= HEADER_SIZE ? header(bytes) : { size: -1 };
    if (block.size !== bytes.length) throw new RangeError('append: not one whole block');
    if (block.stream !== stream) throw new RangeError('append: a block of another stream');
    if (block.version !== first + i || block.version > Number.MAX_SAFE_INTEGER) {
      throw new RangeError('append: versions are not consecutive');
    }
    if (bytes.length > sizeMax) throw new RangeError('append: block above blockSizeMax');
    block.bytes = bytes;
    return block;
  });
  if (summary.version !== first + blocks.length - 1) throw new RangeError("append: summary is not the last block's");
  if (!(epoch >= 0)) throw new RangeError('append: no epoch');
  return found;
}

/**
 * The refusal of an append, or null: it may go in. `head` is { version, epoch }, or null where there is no such stream.
 * A journal may begin after version 1 only with a snapshot: without one nothing could ever be read back.
 */
export function refusal(append, blocks, head) {
  const version = head ? head.version : 0;
  if (version !== append.expected) return { result: 'conflict', version };
  if (head && head.epoch > append.epoch) return { result: 'fenced' };
  if (version === 0 && append.first !== 1 && !blocks[0].snapshot) return { result: 'conflict', version };
  return null;
}

/** The head after an append: what every store keeps beside the blocks, and never deletes. */
export function advance(append, blocks, head) {
  let base = head ? head.base : 0;
  for (const block of blocks) if (block.snapshot) base = block.version;
  return {
    version: append.summary.version,
    epoch: append.epoch,
    base,
    first: head ? head.first : append.first,
    summary: { ...append.summary, stream: append.stream },
  };
}

/**
 * Where a read begins, or what it returns at once: { version, blocks } or { from }. "base" leaves { from, before: true }:
 * the newest snapshot at or before `from`.
 */
export function begin(request, head) {
  if (!head) return { result: { version: 0, blocks: [] } };
  const nothing = { version: head.version, blocks: [] };
  if (request.mode === 'newest') return { from: head.base || head.first };
  if (request.mode === 'base') {
    if (request.version === 0) return { from: head.first };
    if (request.version < head.first) return { result: { ...nothing, trimmed: true } };
    return { from: Math.min(request.version, head.version), before: true };
  }
  if (request.version < head.first) return { result: { ...nothing, trimmed: true } };
  return request.version > head.version ? { result: nothing } : { from: request.version };
}

/** Whether a list wants this agent. No due time and no flags: it wants all. */
export const wanted = (request, summary) =>
  (!request.dueBefore && !request.flags) ||
  summary.due <= (request.dueBefore ?? -1) ||
  (summary.flags & (request.flags ?? 0)) !== 0;

/** A list over summaries that are all in memory, in any order. */
export function listed(request, summaries) {
  const items = [];
  let nextDue = Infinity;
  for (const summary of summaries) {
    if (summary.due > (request.dueBefore ?? -1) && summary.due < nextDue) nextDue = summary.due;
    if ((request.cursor ?? '') < summary.stream && wanted(request, summary)) items.push({ ...summary });
  }
  items.sort((a, b) => (a.stream < b.stream ? -1 : 1));
  const page = items.slice(0, request.limit);
  return { items: page, cursor: page.length < items.length ? page.at(-1).stream : undefined, nextDue };
}

const table = new Uint32Array(256).map((_, i) => {
  for (let bit = 0; bit < 8; bit++) i = i & 1 ? (i >>> 1) ^ 0x82f63b78 : i >>> 1;
  return i;
});

export function crc32c(bytes) {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = table[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** What the next block's previousLink() is: CRC-32C of header bytes 16 … 59, then the payload's, as 16 hex digits. */
export function link(block) {
  const payload = new DataView(block.buffer, block.byteOffset).getUint32(52, true);
  const digits = (number) => number.toString(16).padStart(8, '0');
  return digits(crc32c(block.subarray(16, 60))) + digits(payload);
}

/** An error with one of persistent_agent.h's names. */
export function failure(code, message, options) {
  return Object.assign(new Error(message, options), { name: 'PagentError', code });
}
