// persistent-agent/opfs: the file store in the browser's origin-private file system, for a dedicated worker.
//
// The engine's calls of a directory are synchronous; of OPFS only a file that is open for itself is. So a pool of files
// named 0, 1, 2 … is open from the start, and a header in each says which file of the store it is:
//
//   0     slot | magic:4 crc:4 sequence:8 length:4 (zero):4 name:104 |   zeros to 4096
//   4096  slot, the same again                                           zeros to 8192
//   8192  the file's bytes
//
// A change of name is one slot written and flushed, then the other one: a torn slot leaves what stands in its twin, and
// rot in one slot is mended from the other. Sequences count over the whole pool: the higher one wins, also between two
// files of one name (a crash between replacing a file and freeing the old one). A slot of zeros, or without a name, is a
// free file: a file that is not published yet has no name here, so a crash leaves nothing to sweep.

import { directoryStore, refusal } from '../directory.js';
import { crc32c } from './shared.js';

const MAGIC = 0x9d57a3f1;
const SLOT = 128;
const SLOTS = [0, 4096];
const DATA = 8192;
const NAME = 24; // where it begins in a slot
const RESERVE_MAX = 256;
const GROWTHS_MAX = 5; // so many that failed, one after the other, and it is not a matter of waiting any more
const PATIENCE_MS = 60_000; // for one answer of the browser
const ZEROS = new Uint8Array(64 * 1024);
const CODES = {
  NotFoundError: 'E_NOT_FOUND',
  QuotaExceededError: 'E_NO_SPACE',
  NoModificationAllowedError: 'E_LOCKED',
};

const decoder = new TextDecoder();
const encoder = new TextEncoder();

const named = (error) =>
  typeof error?.code === 'string'
    ? error
    : refusal(CODES[error?.name] ?? 'E_STORAGE', error?.message ?? String(error), error);

function system(work) {
  try {
    return work();
  } catch (error) {
    throw named(error);
  }
}

/** What the browser answers; E_STORAGE if it never does: then `late` gets what comes after all. */
async function answered(what, promise, late = () => {}) {
  let timer;
  const never = new Promise((_, reject) => {
    timer = setTimeout(() => {
      promise.then(late, () => {});
      reject(refusal('E_STORAGE', `the browser has not answered within ${PATIENCE_MS / 1000} s: ${what}`));
    }, PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, never]);
  } finally {
    clearTimeout(timer);
  }
}

function encodeSlot(sequence, name) {
  const slot = new Uint8Array(SLOT),
    view = new DataView(slot.buffer),
    text = encoder.encode(name);
  if (text.length > SLOT - NAME) throw refusal('E_ARGUMENT', `${name}: a name of at most ${SLOT - NAME} bytes`);
  view.setUint32(0, MAGIC, true);
  view.setBigUint64(8, BigInt(sequence), true);
  view.setUint32(16, text.length, true);
  slot.set(text, NAME);
  view.setUint32(4, crc32c(slot.subarray(8)), true);
  return slot;
}

/** { sequence, name }; undefined: torn, or damaged. */
function decodeSlot(slot) {
  if (slot.every((byte) => byte === 0)) return { sequence: 0, name: '' };
  const view = new DataView(slot.buffer, slot.byteOffset),
    length = view.getUint32(16, true);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== crc32c(slot.subarray(8)) || length > SLOT - NAME)
    return undefined;
  return { sequence: Number(view.getBigUint64(8, true)), name: decoder.decode(slot.subarray(NAME, NAME + length)) };
}

/** Bytes from `at` on, as many as there are. */
function readAll(access, bytes, at) {
  let got = 0;
  while (got < bytes.length) {
    const done = system(() => access.read(bytes.subarray(got), { at: at + got }));
    if (done <= 0) break;
    got += done;
  }
  return got;
}

function writeAll(access, bytes, at) {
  for (let sent = 0; sent < bytes.length;) {
    const done = system(() => access.write(bytes.subarray(sent), { at: at + sent }));
    if (!(done > 0)) throw refusal('E_NO_SPACE', 'the file system takes no more');
    sent += done;
  }
}

/** One file of the pool. */
class Place {
  name = ''; // '': free, or published under no name yet
  temp; // the name until then
  users = 0; // handles of the engine
  gone = false; // removed while it was open

  constructor(number, access) {
    this.number = number;
    this.access = access;
  }

  /** What its header says: the higher of two sequences. `spoilt`: the slots that do not say so. */
  header() {
    const found = SLOTS.map((at) => {
      const slot = new Uint8Array(SLOT); // what is missing in a file that was being made is zero
      readAll(this.access, slot, at);
      return { at, ...decodeSlot(slot) };
    });
    const best = found.reduce((a, b) => ((b.sequence ?? -1) > (a.sequence ?? -1) ? b : a));
    if (best.sequence === undefined)
      throw refusal('E_CORRUPT', `pool file ${this.number}: both halves of its header are damaged`);
    return { ...best, spoilt: found.filter(({ sequence }) => sequence !== best.sequence).map(({ at }) => at) };
  }

  /** One slot at a time: at no moment may both be torn. */
  write(slots, sequence, name) {
    const slot = encodeSlot(sequence, name);
    try {
      for (const at of slots) {
        writeAll(this.access, slot, at);
        this.access.flush();
      }
    } catch (error) {
      throw refusal('E_STORAGE', `pool file ${this.number}: ${error.message}`, error); // nobody knows what it is called
    }
  }

  rename(name, sequence) {
    this.write(SLOTS, sequence, name);
    this.name = name;
  }

  /** Gives its space back. */
  empty() {
    system(() => this.access.truncate(DATA));
  }
}

class Folder {
  #root;
  #reading;
  #places = []; // all
  #free = [];
  #names = new Map(); // name: place
  #files = new Map(); // handle: place
  #handle = 0;
  #next = 0; // number of the pool's next file
  #sequence = 0;
  #reserve;
  #growing; // a promise
  #short = false; // more were wanted at once than ever before
  #fault; // of the last growth
  #faults = 0; // growths that failed, one after the other
  #closed = false;

  constructor(reading, reserve) {
    this.#reading = reading;
    this.#reserve = reserve;
  }

  // ---- between the engine's calls

  async #take(number) {
    const what = `opening pool file ${number}`;
    const handle = await answered(what, this.#root.getFileHandle(String(number), { create: !this.#reading }));
    const access = await answered(
      what,
      handle.createSyncAccessHandle(this.#reading ? { mode: 'read-only' } : undefined),
      (late) => late.close(),
    );
    const place = new Place(number, access);
    this.#places.push(place);
    this.#next = Math.max(this.#next, number + 1);
    return place;
  }

  /** File 0 is the lock: whoever has it open may open the others. */
  async load(root) {
    this.#root = root;
    try {
      await this.#take(0);
      const names = this.#root.keys();
      for (;;) {
        const { value: name, done } = await answered('listing the pool', names.next());
        if (done) break;
        if (/^[1-9][0-9]{0,8}$/.test(name)) await this.#take(Number(name));
      }
      for (const place of this.#places) this.#adopt(place);
      if (!this.#reading) await this.#settle();
    } catch (error) {
      for (const place of this.#places.splice(0)) place.access.close();
      this.#free = [];
      this.#names.clear(); // it may be tried again
      throw named(error);
    }
  }

  #adopt(place) {
    const { name, sequence, spoilt } = place.header();
    Object.assign(place, { name, sequence, spoilt });
    this.#sequence = Math.max(this.#sequence, sequence);
    const other = this.#names.get(name);
    if (name !== '' && (other === undefined || other.sequence < sequence)) this.#names.set(name, place);
  }

  /** What a crash has left: half-written headers, replaced files, bytes of files without a name. */
  async #settle() {
    for (const place of this.#places) {
      if (place.spoilt.length !== 0) place.write(place.spoilt, place.sequence, place.name);
      if (place.name !== '' && this.#names.get(place.name) !== place) place.rename('', ++this.#sequence);
      if (place.name === '') {
        place.empty();
        this.#free.push(place);
      }
    }
    while (this.#free.length > 4 * this.#reserve && this.#free.at(-1).number !== 0) {
      const place = this.#free.pop();
      this.#places.splice(this.#places.indexOf(place), 1);
      place.access.close();
      await answered(`removing pool file ${place.number}`, this.#root.removeEntry(String(place.number)));
    }
    await this.grow();
    if (this.#free.length === 0 && this.#fault !== undefined) throw this.#fault;
  }

  /** Opens files until the reserve is there. */
  grow() {
    this.#growing ??= this.#fill().finally(() => {
      this.#growing = undefined;
    });
    return this.#growing;
  }

  /** Doubles the reserve once, however many were refused meanwhile: each of them asks again. */
  async #fill() {
    if (this.#short) this.#reserve = Math.min(2 * this.#reserve, RESERVE_MAX);
    this.#short = false;
    try {
      while (this.#free.length < this.#reserve && !this.#closed) {
        const number = this.#next,
          place = await this.#take(number);
        try {
          place.empty(); // not flushed: it is nothing yet
        } catch (error) {
          this.#places.pop().access.close();
          this.#next = number;
          throw error;
        }
        this.#free.push(place);
      }
      this.#fault = undefined;
      this.#faults = 0;
    } catch (error) {
      this.#fault = named(error);
      if (this.#fault.code !== 'E_NO_SPACE') {
        this.#faults++;
        this.#next++; // the next one may open
      }
    }
  }

  async end() {
    this.#closed = true;
    await this.#growing;
    for (const { access } of this.#places) access.close();
    this.#places = [];
    this.#free = [];
    this.#names.clear();
    this.#files.clear();
  }

  /** The store's files, whole: what a native directory would hold. */
  *contents() {
    for (const [name, place] of this.#names) {
      if (place.name === '') continue;
      const bytes = new Uint8Array(Math.max(0, system(() => place.access.getSize()) - DATA));
      yield [name, bytes.subarray(0, readAll(place.access, bytes, DATA))];
    }
  }

  // ---- for directory.js

  prepare() {
    if (this.#closed) throw refusal('E_CLOSED', 'the store is closed');
  }

  release() {
    for (const file of [...this.#files.keys()]) this.close(file);
  }

  #place(file) {
    const place = this.#files.get(file);
    if (place === undefined) throw refusal('E_ARGUMENT', `file ${file} is not open`);
    return place;
  }

  #handleOf(place) {
    place.users++;
    this.#files.set(++this.#handle, place);
    return this.#handle;
  }

  read(file, bytes, offset) {
    const { access } = this.#place(file);
    return system(() => access.read(bytes, { at: DATA + offset }));
  }

  write(file, bytes, offset) {
    const { access } = this.#place(file);
    return system(() => access.write(bytes, { at: DATA + offset }));
  }

  sync(file) {
    const place = this.#place(file);
    system(() => place.access.flush());
    if (place.gone) throw refusal('E_FENCED', 'the file was removed');
  }

  /** Zeros are written: a hole is not backed by space. */
  truncate(file, size) {
    const { access } = this.#place(file),
      before = this.size(file);
    try {
      for (let at = before; at < size; at += ZEROS.length) {
        writeAll(access, ZEROS.subarray(0, Math.min(ZEROS.length, size - at)), DATA + at);
      }
    } catch (error) {
      system(() => access.truncate(DATA + before)); // as long as it was
      throw error;
    }
    if (size < before) system(() => access.truncate(DATA + size));
  }

  size(file) {
    const { access } = this.#place(file);
    return Math.max(0, system(() => access.getSize()) - DATA);
  }

  open(name) {
    const place = this.#names.get(name);
    if (place === undefined) throw refusal('E_NOT_FOUND', `there is no ${name}`);
    return this.#handleOf(place);
  }

  create(name) {
    if (this.#names.has(name)) throw refusal('E_EXISTS', `${name} is there`);
    const place = this.#free.pop();
    if (place === undefined) {
      const fault = this.#fault;
      this.#short = true;
      void this.grow();
      if (fault?.code === 'E_NO_SPACE') throw fault;
      if (this.#faults >= GROWTHS_MAX) throw refusal('E_STORAGE', `the pool does not grow: ${fault.message}`, fault);
      throw refusal('E_AGAIN', 'the pool has no free file yet');
    }
    if (this.#free.length < this.#reserve) void this.grow();
    place.temp = name;
    this.#names.set(name, place);
    return this.#handleOf(place);
  }

  publish(file, name, exclusive) {
    const place = this.#place(file),
      other = this.#names.get(name);
    if (place.temp === undefined) throw refusal('E_ARGUMENT', `file ${file} is published already`);
    if (exclusive && other !== undefined) throw refusal('E_EXISTS', `${name} is there`);
    place.rename(name, ++this.#sequence);
    this.#names.delete(place.temp);
    this.#names.set(name, place);
    place.temp = undefined;
    if (other !== undefined) this.#drop(other);
  }

  remove(name) {
    const place = this.#names.get(name);
    if (place === undefined) throw refusal('E_NOT_FOUND', `there is no ${name}`);
    this.#drop(place);
    this.#names.delete(name);
  }

  /** Its name goes now; it is free when nobody has it open. */
  #drop(place) {
    if (place.name !== '') place.rename('', ++this.#sequence);
    place.temp = undefined;
    place.gone = true;
    this.#reuse(place);
  }

  #reuse(place) {
    if (!place.gone || place.users !== 0) return;
    place.empty();
    place.gone = false;
    this.#free.push(place);
  }

  close(file) {
    const place = this.#place(file);
    this.#files.delete(file);
    place.users--;
    this.#reuse(place);
  }

  exists(name) {
    return this.#names.has(name);
  }

  list(folder) {
    const names = [...this.#names.keys()];
    if (folder === '') return names.filter((name) => !name.includes('/'));
    return names.filter((name) => name.startsWith(`${folder}/`)).map((name) => name.slice(folder.length + 1));
  }

  syncDirectory() {} // names are flushed when they change

  lock() {} // the open files are the lock

  unlock() {}
}

const pause = (ms) =>
  new Promise((done) => {
    setTimeout(done, ms);
  });

/** Agents in a folder of the origin-private file system. */
export async function opfs(path, options = {}) {
  const { readOnly = false, logPerAgent = false, reserve = logPerAgent ? 32 : 8, waitMs = 0, ...common } = options;
  if (!Number.isInteger(reserve) || reserve < 1) throw refusal('E_ARGUMENT', 'reserve: a number of files');
  if (
    globalThis.FileSystemSyncAccessHandle === undefined ||
    globalThis.navigator?.storage?.getDirectory === undefined
  ) {
    throw refusal('E_ARGUMENT', 'OPFS needs a dedicated worker of a secure page');
  }
  const folder = new Folder(readOnly, reserve);
  const store = directoryStore(folder, { ...common, readOnly, logPerAgent });
  const until = performance.now() + waitMs;
  try {
    let root = await answered('the root', navigator.storage.getDirectory());
    for (const part of path.split('/').filter(Boolean))
      root = await answered(`opening the folder ${part}`, root.getDirectoryHandle(part, { create: !readOnly }));
    for (;;) {
      try {
        await folder.load(root);
        break;
      } catch (error) {
        if (error.code !== 'E_LOCKED' || performance.now() >= until) throw error;
        await pause(20);
      }
    }
  } catch (error) {
    throw named(error);
  }
  return Object.assign(store, {
    durability: 'process',
    contents: () => folder.contents(),
    close: () => folder.end(),
  });
}
