// What stores need to know of a block: the fields of its 64-byte header (persistent_agent.h, [FORMAT]).

export const HEADER_SIZE = 64;
const SNAPSHOT = 1;

let latest, text;

/** 64 bits in hex: mostly those that were asked for before, the one agent's stream. */
export function hex64(view, at) {
  const number = view.getBigUint64(at, true);
  if (number !== latest) text = (latest = number).toString(16).padStart(16, '0');
  return text;
}

/** Exact to 2^53; Infinity where the upper half is all ones. */
export function number(view, at) {
  const high = view.getUint32(at + 4, true);
  return high === 0xffffffff ? Infinity : high * 2 ** 32 + view.getUint32(at, true);
}

const sizeOf = (view) => HEADER_SIZE + Math.ceil(view.getUint32(48, true) / 64) * 64;

const viewOf = (block) => new DataView(block.buffer, block.byteOffset, block.byteLength);

export function header(block) {
  const view = viewOf(block);
  return {
    stream: hex64(view, 16),
    version: number(view, 24),
    epoch: number(view, 32),
    size: sizeOf(view),
    snapshot: (view.getUint8(57) & SNAPSHOT) !== 0,
    based: view.getUint16(58, true),
  };
}

/** The link of the block before it, in hex. */
export const previousLink = (block) => hex64(viewOf(block), 40);

/** Whole blocks, end to end, as an array of views. */
export function split(bytes) {
  const blocks = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes.length - at < HEADER_SIZE) throw new RangeError('these bytes end inside a block');
    const size = sizeOf(new DataView(bytes.buffer, bytes.byteOffset + at, HEADER_SIZE));
    if (size > bytes.length - at) throw new RangeError('these bytes end inside a block');
    blocks.push(at === 0 && size === bytes.length ? bytes : bytes.subarray(at, at + size));
    at += size;
  }
  return blocks;
}
