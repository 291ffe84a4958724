// What stores need to know of a block: the fields of its 64-byte header (persistent_agent.h, [FORMAT]).

export const HEADER_SIZE = 64;
const SNAPSHOT = 1;

export const hex64 = (view, at) => view.getBigUint64(at, true).toString(16).padStart(16, '0');

export function header(block) {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  return {
    stream: hex64(view, 16),
    version: Number(view.getBigUint64(24, true)),
    epoch: Number(view.getBigUint64(32, true)),
    previous: hex64(view, 40),
    size: HEADER_SIZE + Math.ceil(view.getUint32(48, true) / 64) * 64,
    snapshot: (view.getUint8(57) & SNAPSHOT) !== 0,
    based: view.getUint16(58, true),
  };
}

/** Whole blocks, end to end, as an array of views. */
export function split(bytes) {
  const blocks = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes.length - at < HEADER_SIZE) throw new RangeError('these bytes end inside a block');
    const { size } = header(bytes.subarray(at, at + HEADER_SIZE));
    if (size > bytes.length - at) throw new RangeError('these bytes end inside a block');
    blocks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return blocks;
}
