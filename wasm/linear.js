// Linear memory of one engine: typed views that survive its growth, text and bytes in and out, a stack for arguments.

import * as layout from './layout.js';
import { hex64, number } from './block.js';
import { PagentError, refuse, printable } from './errors.js';

export const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const STACK_SIZE = 1 << 16;
const SHORT = 32; // below that a loop is faster than the coders, where the text is ASCII
export const NAME_MAX = 127;

const NOTHING = new Uint8Array(0);

/** undefined: these are no bytes. */
export function bytesOf(data) {
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function isPlain(object) {
  const prototype = Object.getPrototypeOf(object);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** JSON's text of a value. What has none is refused, and what would be {} though it is a Map, a Response or the like. */
export function jsonOf(value, what) {
  let text, why;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    why = printable(error);
  }
  if (text === undefined || (text === '{}' && !isPlain(value)))
    refuse(`${what}: ${why ?? `${{}.toString.call(value)} is neither bytes nor text nor JSON`}`);
  return text;
}

/** Bytes as they are, a string as UTF-8, anything else as JSON. */
export function toBytes(data) {
  if (data === undefined) return NOTHING;
  return typeof data === 'string' ? encoder.encode(data) : (bytesOf(data) ?? encoder.encode(jsonOf(data, 'data')));
}

export function joined(pieces) {
  const bytes = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

export const fromBytes = (bytes) => decoder.decode(bytes);

/** With a final zero. Of what C would cut or could not tell from others nothing goes in. */
export function nameBytes(name, what, most = NAME_MAX) {
  const bytes = typeof name === 'string' && !/[\0\p{Surrogate}]/u.test(name) ? encoder.encode(`${name}\0`) : NOTHING;
  if (bytes.length < 2 || bytes.length > most + 1)
    refuse(
      `${what}: '${printable(name)}' is no name: a string of 1 to ${most} bytes of UTF-8, without zeros and half characters`,
    );
  return bytes;
}

export class Linear {
  #memory;
  exports; // of the instance
  #u8;
  #view;
  #top;
  #end;

  constructor(exports) {
    this.exports = exports;
    this.#memory = exports.memory;
    this.#look();
    this.#top = this.allocate(STACK_SIZE);
    this.#end = this.#top + STACK_SIZE;
  }

  #look() {
    this.#u8 = new Uint8Array(this.#memory.buffer);
    this.#view = new DataView(this.#memory.buffer);
  }

  /** Views last until the memory grows: then they have no length any more. */
  get u8() {
    if (this.#u8.length === 0) this.#look();
    return this.#u8;
  }

  get view() {
    if (this.#u8.length === 0) this.#look();
    return this.#view;
  }

  allocate(size) {
    const at = this.exports.allocate(size);
    if (at === 0) throw new PagentError('E_MEMORY', `WebAssembly memory: no room for ${size} bytes`);
    this.u8.fill(0, at, at + size);
    return at;
  }

  release(at, size) {
    this.exports.release(at, size);
  }

  /** Calls `work`; what it pushes is gone afterwards. */
  frame(work) {
    this.begin();
    try {
      return work();
    } finally {
      this.end();
    }
  }

  #frames = []; // #top, and how many pieces are large, when each frame began
  #large = []; // address and size of what the stack is too small for

  begin() {
    this.#frames.push(this.#top, this.#large.length);
  }

  end() {
    const count = this.#frames.pop();
    this.#top = this.#frames.pop();
    while (this.#large.length > count) this.release(...this.#large.pop());
  }

  #room(size) {
    const rounded = (size + 7) & ~7;
    if (this.#top + rounded > this.#end) {
      const at = this.allocate(size);
      this.#large.push([at, size]);
      return at;
    }
    const at = this.#top;
    this.#top += rounded;
    return at;
  }

  /** Room for `size` zeroed bytes until the frame ends. */
  push(size) {
    const at = this.#room(size);
    this.u8.fill(0, at, at + size);
    return at;
  }

  pushBytes(bytes) {
    const at = this.#room(bytes.length);
    this.u8.set(bytes, at);
    return at;
  }

  /** A name, with a final zero. */
  pushText(text, what) {
    if (typeof text === 'string' && text !== '' && text.length < SHORT) {
      const at = this.#room(SHORT),
        u8 = this.u8;
      let i = 0;
      for (let code; i < text.length && (code = text.charCodeAt(i)) < 128 && code > 0; i++) u8[at + i] = code;
      u8[at + i] = 0;
      if (i === text.length) return at;
    }
    return this.pushBytes(nameBytes(text, what));
  }

  /** A name that may be absent: address 0. */
  pushOptional(text, what) {
    return text === undefined ? 0 : this.pushText(text, what);
  }

  /** Data handed in: its address and size. */
  pushData(data) {
    const bytes = toBytes(data);
    return [this.pushBytes(bytes), bytes.length];
  }

  /** An operation of the engine, kept until it is done. */
  op(at) {
    return this.view.getBigUint64(at, true);
  }

  /** Bytes, for as long as the engine lives. */
  keep(bytes) {
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

  /** The lower 32 bits of a number, which may be negative. */
  setU32(at, value) {
    this.view.setUint32(at, value, true);
  }

  /** A version or a time: exact to 2^53; all ones are Infinity. */
  number(at) {
    return number(this.view, at);
  }

  setNumber(at, value) {
    const forever = value === Infinity;
    if (!forever && !(Number.isInteger(value) && value >= 0)) refuse(`${printable(value)} is not a whole number`);
    this.setU32(at, forever ? -1 : value);
    this.setU32(at + 4, forever ? -1 : value / 2 ** 32);
  }

  hex(at) {
    return hex64(this.view, at);
  }

  setHex(at, text, what = 'stream') {
    if (typeof text !== 'string' || !/^[0-9a-f]{1,16}$/i.test(text))
      refuse(`${what}: '${printable(text)}' is not 1 to 16 hex digits`);
    this.view.setBigUint64(at, BigInt(`0x${text}`), true);
  }

  text(at) {
    if (at === 0) return '';
    const u8 = this.u8;
    let text = '';
    for (let i = at; i < at + SHORT; i++) {
      const code = u8[i];
      if (code === 0) return text;
      if (code > 127) break;
      text += String.fromCharCode(code);
    }
    return decoder.decode(u8.subarray(at, u8.indexOf(0, at)));
  }

  /** What a result means, in words. */
  message(code) {
    return this.text(this.exports.message(code));
  }

  /** The text whose address is here. */
  textAt(at) {
    return this.text(this.u32(at));
  }

  copy(at, size) {
    return this.u8.slice(at, at + size);
  }

  /** The bytes that a pagent_bytes at this address borrows, copied. */
  bytes(at) {
    return this.copy(this.u32(at + layout.bytes_data), this.u32(at + layout.bytes_size));
  }

  setBytes(at, address, size) {
    this.setU32(at + layout.bytes_data, address);
    this.setU32(at + layout.bytes_size, size);
  }

  effectId(at) {
    return `${this.number(at + layout.effect_id_version)}.${this.u32(at + layout.effect_id_index)}`;
  }

  setEffectId(at, id) {
    const [, version, index] = /^(\d{1,15})\.(\d{1,9})$/.exec(printable(id)) ?? [];
    if (version === undefined) refuse(`effect: '${printable(id)}' is not an effect's id like "12.0"`);
    this.setNumber(at + layout.effect_id_version, Number(version));
    this.setU32(at + layout.effect_id_index, Number(index));
  }
}
