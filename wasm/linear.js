// Linear memory of one engine: typed views that survive its growth, text and bytes in and out, a stack for arguments.

import * as layout from './layout.js';

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const STACK_SIZE = 1 << 16;

export const FOREVER = Infinity;

/** Bytes as they are, a string as UTF-8, anything else as JSON. */
export function toBytes(data) {
  if (data === undefined) return new Uint8Array(0);
  if (typeof data === 'string') return encoder.encode(data);
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return encoder.encode(JSON.stringify(data));
}

export const fromBytes = (bytes) => decoder.decode(bytes);

export class Linear {
  #memory;
  #exports;
  #u8;
  #view;
  #top;
  #end;

  constructor(exports) {
    this.#exports = exports;
    this.#memory = exports.memory;
    this.#look();
    this.#top = this.allocate(STACK_SIZE);
    this.#end = this.#top + STACK_SIZE;
  }

  #look() {
    this.#u8 = new Uint8Array(this.#memory.buffer);
    this.#view = new DataView(this.#memory.buffer);
  }

  get u8() {
    if (this.#u8.buffer !== this.#memory.buffer) this.#look();
    return this.#u8;
  }

  get view() {
    if (this.#view.buffer !== this.#memory.buffer) this.#look();
    return this.#view;
  }

  allocate(size) {
    const at = this.#exports.allocate(size);
    if (at === 0) throw new RangeError(`WebAssembly memory: no room for ${size} bytes`);
    this.u8.fill(0, at, at + size);
    return at;
  }

  release(at, size) {
    this.#exports.release(at, size);
  }

  /** Calls `work`; what it pushes is gone afterwards. */
  frame(work) {
    const top = this.#top;
    const large = this.#large;
    this.#large = [];
    try {
      return work();
    } finally {
      for (const [at, size] of this.#large) this.release(at, size);
      this.#large = large;
      this.#top = top;
    }
  }

  #large = [];

  /** Room for `size` zeroed bytes until the frame ends. */
  push(size) {
    const rounded = (size + 7) & ~7;
    if (this.#top + rounded > this.#end) {
      const at = this.allocate(size || 1);
      this.#large.push([at, size || 1]);
      return at;
    }
    const at = this.#top;
    this.#top += rounded;
    this.u8.fill(0, at, at + rounded);
    return at;
  }

  pushBytes(bytes) {
    const at = this.push(bytes.length);
    this.u8.set(bytes, at);
    return at;
  }

  /** With a final zero; null and undefined are address 0. */
  pushText(text) {
    if (text === undefined || text === null) return 0;
    return this.pushBytes(encoder.encode(`${text}\0`));
  }

  /** For as long as the engine lives. */
  keepText(text) {
    if (text === undefined || text === null) return 0;
    const bytes = encoder.encode(`${text}\0`);
    const at = this.allocate(bytes.length);
    this.u8.set(bytes, at);
    return at;
  }

  u32(at) {
    return this.view.getUint32(at, true);
  }

  i32(at) {
    return this.view.getInt32(at, true);
  }

  setU32(at, value) {
    this.view.setUint32(at, value, true);
  }

  /** A version or a time: exact to 2^53; all ones are Infinity. */
  number(at) {
    const high = this.view.getUint32(at + 4, true);
    return high === 0xffffffff ? FOREVER : high * 4294967296 + this.view.getUint32(at, true);
  }

  setNumber(at, value) {
    if (value === FOREVER) value = 0xffffffffffffffffn;
    this.view.setBigUint64(at, BigInt(value), true);
  }

  hex(at) {
    return this.view.getBigUint64(at, true).toString(16).padStart(16, '0');
  }

  setHex(at, text) {
    this.view.setBigUint64(at, BigInt(`0x${text}`), true);
  }

  text(at) {
    if (at === 0) return '';
    const u8 = this.u8;
    return decoder.decode(u8.subarray(at, u8.indexOf(0, at)));
  }

  copy(at, size) {
    return this.u8.slice(at, at + size);
  }

  /** The bytes that a pagent_bytes at this address borrows, copied. */
  bytes(at) {
    return this.copy(this.u32(at + layout.bytes.data), this.u32(at + layout.bytes.size));
  }

  setBytes(at, address, size) {
    this.setU32(at + layout.bytes.data, address);
    this.setU32(at + layout.bytes.size, size);
  }

  effectId(at) {
    return `${this.number(at + layout.effect_id.version)}.${this.u32(at + layout.effect_id.index)}`;
  }

  setEffectId(at, id) {
    const [, version, index] = /^(\d+)\.(\d+)$/.exec(id) ?? [];
    if (version === undefined) throw new TypeError(`'${id}' is not an effect's id like "12.0"`);
    this.setNumber(at + layout.effect_id.version, Number(version));
    this.setU32(at + layout.effect_id.index, Number(index));
  }
}
