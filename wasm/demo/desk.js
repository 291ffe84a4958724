// Which tab runs the engine, and how the others reach it.
//
// One tab of the origin holds a Web Lock and runs the engine. The others read the same database with an engine that only
// reads, and send what a person decides to the running tab over a BroadcastChannel. Each request has an id that the engine
// applies once: a tab that hears nothing, because the running one was killed, sends it again to the next, or takes over.
// The lock is for liveness; that no step is ever made twice is the store's doing.

import { open } from '../index.js';
import { indexedDB as database, leader } from '../stores/indexeddb.js';
import { analyseCall, review } from './review/machine.js';

const NAME = 'document-review';
const TOGETHER = 100; // views that are asked for at a time
const VERBS = ['create', 'approve', 'reject', 'edit', 'cancel', 'rollback', 'fork', 'retry', 'import'];

// ---- the publisher: a folder of reports in a database of its own

function reports(mode, work) {
  return new Promise((resolve, reject) => {
    const opening = globalThis.indexedDB.open('document-review-reports', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('reports', { keyPath: 'file' });
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction('reports', mode, { durability: 'strict' });
      const request = work(transaction.objectStore('reports'));
      transaction.oncomplete = () => {
        opening.result.close();
        resolve(request.result);
      };
      transaction.onabort = () => {
        opening.result.close();
        reject(transaction.error);
      };
    };
  });
}

/** The same key writes the same report: a call that is repeated after a crash changes nothing. */
async function publishCall(request, context) {
  const { file, text } = context.json();
  await reports('readwrite', (store) => store.put({ file, text, key: context.key }));
  return file;
}

export const report = (file) => reports('readonly', (store) => store.get(file));

// ---- the desk

export class Desk extends EventTarget {
  role = 'starting'; // "running", "reading"
  #engine;
  #store;
  #leadership;
  #channel = new BroadcastChannel(NAME);
  #waiting = new Map(); // by request id: { message, resolve, reject }

  async start() {
    this.#channel.onmessage = ({ data }) => void this.#hear(data);
    this.#compete();
    const { held } = await navigator.locks.query();
    if (held.some(({ name }) => name === `persistent-agent:${NAME}`)) await this.#become('reading');
    else if (this.role === 'starting')
      await new Promise((resolve) => this.addEventListener('role', resolve, { once: true }));
  }

  /** Waits for the lock for as long as it takes, then runs the engine until another tab asks for it. */
  async #compete() {
    const leadership = await leader(NAME);
    this.#leadership = leadership;
    leadership.signal.addEventListener('abort', () => {
      if (this.#leadership === leadership) void this.#standDown();
    });
    await this.#become('running', leadership.signal);
    this.#channel.postMessage({ kind: 'running' });
    for (const { message } of this.#waiting.values()) void this.#serve(message);
  }

  #turn = Promise.resolve();
  #history; // of the document looked at last: { agent, version, blocks }

  /** One change of role after the other. */
  #become(role, signal) {
    this.#turn = this.#turn
      .then(async () => {
        if (role === 'reading' && this.role === 'running' && this.#leadership) return;
        await this.#close();
        const changed = (streams) => this.#say('changed', { streams });
        const readOnly = role === 'reading';
        this.#history = undefined;
        this.#store = await database(NAME, { durability: 'strict', readOnly, changed });
        this.#engine = await open({
          store: this.#store,
          machines: [review],
          calls: { analyse: analyseCall, publish: publishCall },
          readOnly,
          signal,
          trace: ({ kind, stream }) => kind === 'commit' && changed([stream]),
        });
        this.role = role;
        this.#say('role', { role });
      })
      .catch((error) => this.#say('fault', { error }));
    return this.#turn;
  }

  async #close() {
    await this.#engine?.close();
    this.#store?.close();
    this.#engine = this.#store = undefined;
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  async #hear(message) {
    if (message.kind === 'request' && this.role === 'running') await this.#serve(message);
    if (message.kind === 'answer') this.#settle(message);
    if (message.kind === 'running') {
      for (const { message: again } of this.#waiting.values()) this.#channel.postMessage(again);
    }
    if (message.kind === 'give way' && this.role === 'running') await this.#standDown();
  }

  async #standDown() {
    const leadership = this.#leadership;
    this.#leadership = undefined;
    await this.#turn;
    await this.#close(); // nothing of this engine is under way when the lock is let go
    this.role = 'starting';
    leadership.release();
    await this.#become('reading');
    void this.#compete();
  }

  /** Asks the running tab to let go of the engine; this tab is next in the line, unless others wait longer. */
  takeOver() {
    this.#channel.postMessage({ kind: 'give way' });
  }

  async #serve({ id, verb, words }) {
    const answer = { kind: 'answer', id };
    try {
      if (!VERBS.includes(verb)) throw new Error(`'${verb}' is not known`);
      answer.value = await this.#engine[verb](...words);
      if (verb === 'import') this.#say('changed', { streams: null }); // it comes into the store by no step of this engine
    } catch (error) {
      if (error.code === 'E_CLOSED' || this.role !== 'running') return; // asked again where the engine goes on
      answer.error = { code: error.code, message: error.message, version: error.version };
    }
    this.#settle(answer);
    this.#channel.postMessage(answer);
  }

  #settle({ id, value, error }) {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    if (error !== undefined) waiting.reject(Object.assign(new Error(error.message), error));
    else waiting.resolve(value);
  }

  /** One of the engine's requests, wherever the engine runs. Options come last in `words`, and get an id. */
  ask(verb, ...words) {
    const id = crypto.randomUUID();
    words[words.length - 1] = { ...words.at(-1), id };
    const message = { kind: 'request', id, verb, words };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { message, resolve, reject });
      if (this.role === 'running') void this.#serve(message);
      else this.#channel.postMessage(message);
    });
  }

  // ---- reading, in every tab by itself

  get can() {
    return { export: typeof this.#engine?.export === 'function', import: typeof this.#engine?.import === 'function' };
  }

  view(agent, version) {
    return this.#engine.view(agent, version);
  }

  /** All blocks up to the newest version, which the caller knows. */
  async history(agent, version) {
    const known = this.#history;
    if (known?.agent === agent && known.version === version) return known.blocks;
    const blocks = [];
    for await (const block of this.#engine.history(agent)) blocks.push(block);
    this.#history = { agent, version: blocks.at(-1)?.version, blocks };
    return blocks;
  }

  /** The newest views of these streams, or of all documents; the first are read while the others are being listed. */
  async documents(streams) {
    const engine = this.#engine,
      views = [];
    let some = [],
      reading;
    const read = async () => {
      await reading;
      reading = Promise.all(some.splice(0).map((stream) => engine.view({ stream }))).then((found) => {
        views.push(...found);
      });
      reading.catch(() => {}); // heard at the next await
    };
    for await (const { stream } of streams?.map((stream) => ({ stream })) ?? engine.agents()) {
      some.push(stream);
      if (some.length >= TOGETHER) await read();
    }
    await read();
    await reading;
    return views;
  }

  diagram(state) {
    return this.#engine.diagram('review', { state });
  }

  export(agent) {
    return this.#engine.export(agent);
  }
}
