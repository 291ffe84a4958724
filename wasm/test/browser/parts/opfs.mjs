// The OPFS store in a dedicated worker, as pages/opfs.mjs and drives/opfs.mjs use it. This module is the worker, too.

import { within } from '../../within.mjs';

const ANSWER_MS = 180_000; // below what a whole test may take
const inWorker = typeof DedicatedWorkerGlobalScope !== 'undefined';

export async function supported() {
  if (navigator.storage?.getDirectory === undefined || typeof Worker === 'undefined') return false;
  const actor = new Actor();
  try {
    return await actor.run('supported');
  } catch {
    return false;
  } finally {
    actor.end(); // held until then: a worker that nobody holds may be collected before it answers
  }
}

/** A worker that runs the functions below. */
export class Actor {
  #worker = new Worker(new URL(import.meta.url), { type: 'module' });
  #waiting = new Map();
  #number = 0;
  #fault;
  acknowledged = {}; // agent: version, as the worker tells while it appends

  constructor() {
    this.#worker.onmessage = ({ data: { number, value, error, ack } }) => {
      if (ack !== undefined) {
        this.acknowledged[ack.agent] = ack.version;
        return;
      }
      const { resolve, reject } = this.#waiting.get(number);
      this.#waiting.delete(number);
      if (error === undefined) resolve(value);
      else reject(Object.assign(new Error(`${error.code}: ${error.text}`), { code: error.code }));
    };
    this.#worker.onerror = (event) => this.#fail(event.message || 'the worker does not start');
    this.#worker.onmessageerror = () => this.#fail('an answer that cannot be read');
  }

  #fail(text) {
    this.#fault = new Error(text);
    for (const { reject } of this.#waiting.values()) reject(this.#fault);
    this.#waiting.clear();
  }

  /** What the worker answers; an error that tells what was asked if it never does. */
  run(name, ...words) {
    if (this.#fault !== undefined) return Promise.reject(this.#fault);
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(++this.#number, { resolve, reject });
      this.#worker.postMessage({ number: this.#number, name, words });
    });
    return within(ANSWER_MS, `the worker's answer to ${name}(${JSON.stringify(words).slice(1, 80)}`, answer);
  }

  end() {
    this.#worker.terminate();
    this.#fail('the worker was ended');
  }
}

// ---- for drives: one worker of the page

let actor;
export const begin = async (...words) => {
  actor = new Actor();
  return actor.run(...words);
};
export const run = (...words) => actor.run(...words);
export const acknowledged = () => actor.acknowledged;
export const usage = async () => (await navigator.storage.estimate()).usage;

// ---- in the worker

const counter = {
  name: 'counter',
  signals: ['add', 'end'],
  context: 'bytes',
  initial: 4,
  states: { counting: {}, done: { final: true } },
  transitions: [
    {
      from: 'counting',
      event: 'add',
      action(step) {
        const context = step.context.slice(),
          view = new DataView(context.buffer);
        view.setUint32(0, view.getUint32(0, true) + 1, true);
        step.context = context;
        step.remember(1, step.event.data);
      },
    },
    { from: 'counting', event: 'end', to: 'done' },
  ],
};

const countOf = ({ context }) => new DataView(context.buffer, context.byteOffset).getUint32(0, true);
const prototype = globalThis.FileSystemSyncAccessHandle?.prototype;
const own = prototype && { write: prototype.write, read: prototype.read, truncate: prototype.truncate };
const ownOpen = globalThis.FileSystemFileHandle?.prototype.createSyncAccessHandle;
const ownTimeout = globalThis.setTimeout;

let store, engine, reports, library;

async function load() {
  const [{ open }, { opfs }] = await Promise.all([import('../../../index.js'), import('../../../stores/opfs.js')]);
  library = { open, opfs };
}

const fault = (name) => Object.assign(new Error('a fault of the test'), { name });

const parts = {
  supported: () => prototype !== undefined && typeof navigator.storage?.getDirectory === 'function',

  async open(path, options = {}, limits = {}) {
    reports = [];
    store = await library.opfs(path, {
      ...options,
      onDiscard: (report) => reports.push({ ...report, bytes: report.bytes.length }),
    });
    try {
      engine = await library.open({ machines: [counter], store, limits });
    } catch (error) {
      await store.close();
      throw error;
    }
    return reports.map(({ damage, file, bytes }) => ({ damage, file, bytes }));
  },

  async close() {
    await engine.close();
    await store.close();
  },

  closeStore: () => store.close(),

  facts: () => ({ durability: store.durability, readOnly: store.readOnly }),

  async add(agent, count, data = 'x') {
    if (!(await engine.has(agent))) await engine.create(agent, 'counter');
    let receipt;
    for (let i = 0; i < count; i++) receipt = await engine.post(agent, 'add', data);
    return receipt?.version;
  },

  createAll: async (count, first = 0) =>
    Promise.all(Array.from({ length: count }, (_, i) => engine.create(`agent-${first + i}`, 'counter'))).then(
      (receipts) => receipts.length,
    ),

  async look(agent) {
    const view = await engine.view(agent);
    return { version: view.version, count: countOf(view), entries: view.transcript.length, state: view.state };
  },

  async appendForEver(agents) {
    for (let number = 0; number < agents; number++) {
      void (async () => {
        const agent = `agent-${number}`;
        if (!(await engine.has(agent))) await engine.create(agent, 'counter');
        for (;;) {
          const { version } = await engine.post(agent, 'add', 'x'.repeat(300));
          postMessage({ ack: { agent, version } });
        }
      })();
    }
  },

  async versions() {
    const found = {};
    for await (const { stream, version } of engine.agents()) {
      let blocks = 0;
      for await (const block of engine.history({ stream })) blocks += block.version > 0 ? 1 : 0;
      if (blocks !== version) throw new Error(`${stream}: ${blocks} blocks, version ${version}`);
      found[(await engine.view({ stream })).name] = version;
    }
    return found;
  },

  trim: () => engine.trim(),

  files: () =>
    [...store.contents()]
      .map(([name, bytes]) => ({ name, size: bytes.length }))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),

  base64: () =>
    [...store.contents()].map(([name, bytes]) => {
      let text = '';
      for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
      return [name, btoa(text)];
    }),

  // ---- faults

  async poolSize(path) {
    let count = 0;
    for await (const [,] of (
      await navigator.storage.getDirectory().then((root) => root.getDirectoryHandle(path))
    ).entries())
      count++;
    return count;
  },

  /** Overwrites bytes of the pool file that has this name, past the store; `at` counts from the file's beginning. */
  async spoil(path, name, changes) {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(path);
    for await (const [number, handle] of root.entries()) {
      const access = await handle.createSyncAccessHandle();
      const slot = new Uint8Array(128);
      access.read(slot, { at: 0 });
      const found = new TextDecoder().decode(slot.subarray(24, 24 + slot[16]));
      if (found === name) {
        for (const { at, from, bytes, keep } of changes) {
          if (keep !== undefined) access.truncate(keep);
          else if (from !== undefined) {
            // one slot's bytes to another place
            const copy = new Uint8Array(128);
            access.read(copy, { at: from });
            access.write(copy, { at });
          } else access.write(new Uint8Array(bytes), { at: at < 0 ? access.getSize() + at : at });
        }
        access.flush();
        access.close();
        return number;
      }
      access.close();
    }
    throw new Error(`no pool file is ${name}`);
  },

  /** Where the last thing in that file begins to be zeros, less 300. */
  async tail(path, name) {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(path);
    for await (const [, handle] of root.entries()) {
      const access = await handle.createSyncAccessHandle(),
        bytes = new Uint8Array(access.getSize());
      access.read(bytes, { at: 0 });
      access.close();
      if (new TextDecoder().decode(bytes.subarray(24, 24 + bytes[16])) !== name) continue;
      return bytes.findLastIndex((byte) => byte !== 0) - 300;
    }
    throw new Error(`no pool file is ${name}`);
  },

  /** A second, free pool file that says it is `name` too, as an older one does after a crash between two renames. */
  async twin(path, name, bytes) {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(path);
    let slot, free;
    for await (const [, handle] of root.entries()) {
      const access = await handle.createSyncAccessHandle(),
        found = new Uint8Array(128);
      access.read(found, { at: 0 });
      if (new TextDecoder().decode(found.subarray(24, 24 + found[16])) === name) slot = found;
      else if (found[16] === 0 && free === undefined) {
        free = access;
        continue;
      }
      access.close();
    }
    const { crc32c } = await import('../../../stores/shared.js');
    const view = new DataView(slot.buffer);
    view.setBigUint64(8, view.getBigUint64(8, true) - 1n, true);
    view.setUint32(4, crc32c(slot.subarray(8)), true);
    for (const at of [0, 4096]) free.write(slot, { at });
    free.write(new Uint8Array(bytes), { at: 8192 });
    free.flush();
    free.close();
  },

  /** Reads and writes do less than asked. */
  shorten() {
    let turn = 0;
    const less = (work) =>
      function (bytes, options) {
        return work.call(
          this,
          bytes.subarray(0, Math.max(1, Math.min(bytes.length, 1 + ((turn += 37) % 613)))),
          options,
        );
      };
    prototype.write = less(own.write);
    prototype.read = less(own.read);
  },

  /** From now on no file can be opened, or no answer comes; and nobody waits longer than 50 ms for one. */
  refuse(name) {
    FileSystemFileHandle.prototype.createSyncAccessHandle = name
      ? () => Promise.reject(fault(name))
      : () => new Promise(() => {});
    globalThis.setTimeout = (work, ms, ...more) => ownTimeout(work, Math.min(ms, 50), ...more);
  },

  /** From now on there is room for so many bytes more. */
  fill(room) {
    prototype.write = function (bytes, { at }) {
      const more = Math.max(0, at + bytes.length - this.getSize());
      if (more > room) throw fault('QuotaExceededError');
      room -= more;
      return own.write.call(this, bytes, { at });
    };
  },

  mend() {
    Object.assign(prototype, own);
    FileSystemFileHandle.prototype.createSyncAccessHandle = ownOpen;
    globalThis.setTimeout = ownTimeout;
  },
};

if (inWorker) {
  const loaded = load();
  onmessage = async ({ data: { number, name, words } }) => {
    try {
      await loaded;
      postMessage({ number, value: await parts[name](...words) });
    } catch (error) {
      postMessage({ number, error: { code: error.code ?? error.name, text: `${error.message}\n${error.stack}` } });
    }
  };
}
