// The engine as JavaScript sees it. It polls whenever something happened, and sets one timer for what comes due.

import * as layout from './layout.js';
import { Bridge } from './bridge.js';
import {
  CallFailure,
  DEFERRED,
  DUPLICATE,
  END,
  IDLE,
  NOT_SENT,
  OK,
  PENDING,
  PagentError,
  isObject,
  known,
  nameOf,
  printable,
  refuse,
  result,
  textOf,
  wholeVersion,
} from './errors.js';
import { Linear, bytesOf, fromBytes, joined, toBytes } from './linear.js';
import { buildMachine, contextOf, ownMachine } from './machine.js';
import { LIMITS, openOptions, requestOptions } from './options.js';
import { readBlock, readCall, readEffect, readEntry, readInfo, readSummary, readTrace } from './records.js';
import { DECISIONS, NONE, VERBS, pushRequest } from './request.js';
import { Step } from './step.js';

const CAPS = { none: 0, process: 1, power: 3 };
const TEXT_SIZE = 120;
const CLOSE_MS = 5000;
const SLICE_MS = 8; // then other work of the host has its turn
const TIMER_MAX_MS = 0x7fffffff;

/** Behind other work of the host. In browsers by a message: hidden pages have their timers held back for a second. */
const soon =
  globalThis.setImmediate ??
  (globalThis.MessageChannel && (globalThis.document || globalThis.importScripts)
    ? messenger()
    : (work) => setTimeout(work));

function messenger() {
  const { port1, port2 } = new MessageChannel();
  const works = [];
  port1.onmessage = () => works.shift()();
  return (work) => port2.postMessage(works.push(work));
}

const closedError = () => new PagentError('E_CLOSED', 'the engine is closed');

/** An async iterator over what `push` is given, until `end`. */
class Stream {
  #items = [];
  #waiting = [];
  #onEnd;

  constructor(onEnd) {
    this.#onEnd = onEnd;
  }

  push(value) {
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) waiting({ value, done: false });
    else this.#items.push(value);
  }

  end() {
    this.#onEnd?.();
    this.#onEnd = undefined;
    for (const waiting of this.#waiting.splice(0)) waiting({ value: undefined, done: true });
  }

  iterator = {
    next: () =>
      new Promise((resolve) => {
        this.#waiting.push(resolve);
        if (this.#items.length !== 0) this.push(this.#items.shift());
        else if (this.#onEnd === undefined) this.end();
      }),
    return: async (value) => {
      this.#items = [];
      this.end();
      return { value, done: true };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

/** What a call threw, as an answer. */
function failureOf(error) {
  const answer = { outcome: 1, code: 0, retryAfter: 0, data: toBytes(textOf(error)) };
  try {
    if (!(error instanceof CallFailure) && error?.name !== 'CallFailure') return answer;
    if (error.final) answer.outcome = 2;
    answer.code = error.notSent ? NOT_SENT : Number(error.code ?? 0) | 0;
    answer.retryAfter = Math.min(Math.max(0, Number(error.retryAfterMs) || 0), 2 ** 32 - 1);
  } catch {
    // then it is one without particulars
  }
  return answer;
}

export class Engine {
  #module;
  #exports;
  #linear;
  #options;
  #machines = []; // as objects; then those compiled in
  #step;
  #bridge;
  #calls = new Map(); // by call id: AbortController
  #receipts = []; // { at, resolve, reject }: pending
  #spare = []; // addresses of receipts to be used again
  #waiters = new Set(); // functions that look whether what they wait for is there
  #streams = new Set();
  #views = new Set();
  #running = false;
  #scheduled = false;
  #burst = 0; // when we began to run again and again
  #turnDue = false; // the host has not had its turn since then
  #timer;
  #alarm = Infinity; // when the timer will come
  #clock;
  #written = [];
  #state = OK; // of the last poll
  #failure; // a PagentError once the store has failed
  #thrown; // what a callback of the host threw
  #closing; // the promise of close()
  #files; // of a store that is a directory
  closed = false;

  constructor(module, options) {
    this.#module = module;
    this.#options = openOptions(options);
    const clock = options.clock ?? Date.now;
    let now = 0;
    this.#clock = this.#walled(
      () => (now = Math.floor(clock())),
      () => now,
    );
    const store = options.store;
    const host = {
      random: (at, size) => this.#random(at, size),
      clock: this.#clock,
      handle: (number, which, tag, step) => this.#step.run(this.#machines[number], which, tag, step),
      call: (call, answer) => this.#beginCall(call, answer),
      call_cancel: (id) =>
        this.#calls
          .get(`${this.#linear.copy(id, layout.call_id_SIZE)}`)
          ?.abort(new PagentError('E_STALE', 'the answer is not wanted any more')),
      trace: (record) => this.#trace(record),
      write: (at, size) => this.#written.push(this.#linear.copy(at, size)),
      ...store?.directory?.imports(() => this.#linear),
    };
    for (const name of ['append', 'read', 'list', 'trim'])
      host[name] = (request, io) => this.#bridge[name](request, io);
    for (const name of Object.keys(host)) host[name] = this.#walled(host[name]);
    this.#exports = new WebAssembly.Instance(module, { host }).exports;
    this.#linear = new Linear(this.#exports);
    this.#step = new Step(this.#linear);
    if (store !== undefined && store.directory === undefined)
      this.#bridge = new Bridge(store, this.#linear, () => {
        this.#settle(); // who learns now that a step is durable asks for the next one before the poll
        this.#schedule();
      });
    try {
      this.#open();
    } catch (error) {
      this.#exports.close();
      this.#closeFiles();
      throw error;
    }
  }

  #random(at, size) {
    const bytes = this.#linear.u8.subarray(at, at + size);
    const { random } = this.#options;
    if (random) random(bytes);
    else globalThis.crypto.getRandomValues(bytes);
    return OK;
  }

  /** `work` for the engine, which is never to see an exception: that is kept, and fails the engine. */
  #walled(work, otherwise = () => result.E_STORAGE) {
    return (a, b, c, d) => {
      try {
        return work(a, b, c, d);
      } catch (error) {
        this.#thrown ??= error ?? new Error('nothing');
        return otherwise();
      }
    };
  }

  #open() {
    const linear = this.#linear,
      exports = this.#exports;
    const { machines = [], store, limits = {}, signal, readOnly, holdEffects } = this.#options;
    signal?.throwIfAborted();
    for (const [number, machine] of machines.entries())
      this.#machines.push(buildMachine(linear, machine, number, limits.contextSizeMax || 16 << 20));
    for (let index = 0, address; (address = exports.own_machine(index)) !== 0; index++) {
      this.#machines.push(ownMachine(linear, address));
    }
    linear.frame(() => {
      const text = linear.push(TEXT_SIZE);
      if (store?.directory !== undefined) {
        const code = store.directory.open(linear, exports, text, readOnly);
        if (code !== OK) throw this.#error(code, linear.text(text), undefined, store.directory.error);
        this.#files = store.directory;
      }
      const table = linear.push(4 * Math.max(1, this.#machines.length));
      this.#machines.forEach((machine, index) => linear.setU32(table + 4 * index, machine.address));
      const at = linear.push(layout.limits_SIZE);
      linear.setU32(at + layout.limits_size, layout.limits_SIZE);
      for (const key in limits) linear.setU32(at + LIMITS[key], Number(limits[key]));
      const flags =
        (readOnly || store?.readOnly ? 1 : 0) |
        (holdEffects ? 2 : 0) |
        (this.#bridge !== undefined ? 4 : 0) |
        (store?.trim !== undefined ? 8 : 0);
      const caps = (CAPS[store?.durability] ?? 0) | (store?.readOnly ? 4 : 0);
      const code = exports.open(table, this.#machines.length, at, flags, caps, store?.blockSizeMax ?? 0, text);
      this.#must(code, linear.text(text));
    });
    signal?.addEventListener('abort', () => this.close().catch(() => {}), { once: true });
    this.#schedule();
  }

  #error(code, text, version, cause = this.#cause(code)) {
    const message = text || this.#linear.message(code);
    const why = cause === undefined ? '' : textOf(cause);
    return new PagentError(nameOf(code), message.includes(why) ? message : `${message}: ${why}`, { version, cause });
  }

  /** A result that is no error, as it is; any other is thrown. */
  #must(code, text) {
    if (code < OK) throw this.#error(code, text);
    return code;
  }

  /** What the host or the store said last, where that may be why. */
  #cause(code) {
    const unclear = code === result.E_STORAGE || code === result.E_IN_DOUBT;
    return unclear ? (this.#thrown ?? this.#bridge?.error ?? this.#files?.error) : undefined;
  }

  // ---- running

  /** Polls soon, once for everything that is asked for in this turn; but other work of the host has its turn, too. */
  #schedule() {
    if (this.#scheduled || this.closed) return;
    this.#scheduled = true;
    const now = performance.now();
    // once for many polls: in workerd a timer costs as much as a poll
    if (Math.abs(now - this.#burst) >= SLICE_MS && !this.#turnDue) {
      this.#turnDue = true;
      this.#burst = now;
      soon(this.#endTurn);
    }
    // and queueMicrotask costs more than a promise
    if (Math.abs(now - this.#burst) < SLICE_MS) Promise.resolve().then(this.#runScheduled);
    else soon(this.#runScheduled);
  }

  #endTurn = () => {
    this.#turnDue = false;
  };

  #runScheduled = () => {
    this.#scheduled = false;
    if (!this.closed) this.#run();
  };

  #run() {
    if (this.#running) return;
    this.#running = true;
    let began = 0;
    try {
      for (;;) {
        this.#state = this.#failure === undefined ? this.#exports.poll() : IDLE;
        this.#settle();
        if (this.#failure === undefined && (this.#state < OK || this.#thrown !== undefined)) this.#fail(this.#state);
        if (this.closed) return; // begin nothing new
        if (this.#state !== OK && !this.#bridge?.commit()) break;
        const now = performance.now();
        began ||= now;
        if (now - began < SLICE_MS) continue;
        this.#bridge?.commit();
        this.#schedule();
        return;
      }
      this.#sleep(this.#exports.next_deadline());
    } catch (error) {
      this.#thrown ??= error;
      this.#fail(result.E_STORAGE);
    } finally {
      this.#running = false;
      if (this.#waiters.size !== 0) for (const look of this.#waiters) look();
    }
  }

  /**
   * One timer. One that comes too early is kept, since setting it anew at each step costs more than waking up once; but
   * not one whose time has passed: the clock jumped, and when it comes nobody knows.
   */
  #sleep(deadline) {
    const wanted = this.#failure === undefined ? deadline : Infinity;
    const now = this.#clock();
    if (this.#timer !== undefined) {
      if (now < this.#alarm && this.#alarm <= wanted && wanted !== Infinity) return;
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
    this.#alarm = wanted;
    if (wanted === Infinity) return;
    const ms = wanted - now;
    if (ms > (this.#options.timerMaxMs ?? Infinity)) return;
    this.#timer = setTimeout(this.#wakeUp, Math.min(Math.max(0, ms), TIMER_MAX_MS));
  }

  #wakeUp = () => {
    this.#timer = undefined;
    this.#run();
  };

  #fail(code) {
    const threw = this.#thrown !== undefined;
    const text = this.#linear.text(this.#exports.error_text()) || (threw ? 'a callback of the host threw' : '');
    this.#failure = this.#error(threw ? result.E_ARGUMENT : code, text, undefined, this.#cause(result.E_STORAGE));
    for (const { reject } of this.#receipts) reject(this.#failure);
    this.#receipts.length = 0; // the engine still knows their addresses: they are not used again
  }

  /** The engine knows how many it has written: mostly the oldest, so that the others need not be looked at. */
  #settle() {
    const receipts = this.#receipts;
    let written = receipts.length - this.#exports.receipts_due();
    if (written <= 0) return;
    let kept = 0,
      seen = 0;
    for (; written > 0 && seen < receipts.length; seen++) {
      const receipt = receipts[seen];
      if (this.#linear.i32(receipt.at + layout.receipt_result) === PENDING) {
        receipts[kept++] = receipt;
      } else {
        this.#settleOne(receipt);
        written--;
      }
    }
    receipts.splice(kept, seen - kept);
  }

  #settleOne({ at, resolve, reject }) {
    const linear = this.#linear;
    const code = linear.i32(at + layout.receipt_result);
    const version = linear.number(at + layout.receipt_version);
    if (code < OK) reject(this.#error(code, linear.text(at + layout.receipt_text), version || undefined));
    else resolve({ version, outcome: code === DUPLICATE ? 'duplicate' : code === DEFERRED ? 'deferred' : 'done' });
    this.#spare.push(at);
  }

  #live() {
    if (this.closed) throw closedError();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when `ready` says so; rejects when the engine ends first. */
  #until(ready) {
    return new Promise((resolve, reject) => {
      const look = () => {
        try {
          this.#live();
          if (!ready()) return;
          resolve();
        } catch (error) {
          reject(error);
        }
        this.#waiters.delete(look);
      };
      this.#waiters.add(look);
      look();
    });
  }

  idle() {
    this.#schedule();
    return this.#until(
      () =>
        !this.#scheduled && !this.#running && this.#state !== OK && this.#receipts.length === 0 && !this.#bridge?.busy,
    );
  }

  get nextDeadline() {
    return this.closed ? Infinity : this.#exports.next_deadline();
  }

  async wake() {
    this.#live();
    await this.idle();
  }

  // ---- calls

  #beginCall(at, answer) {
    const linear = this.#linear;
    const { calls = {} } = this.#options;
    const context = readCall(linear, at);
    if (!Object.hasOwn(calls, context.name)) {
      linear.setU32(answer + layout.answer_outcome, 2);
      linear.setU32(answer + layout.answer_code, result.E_UNDECLARED);
      return OK;
    }
    const id = linear.copy(at + layout.call_id, layout.call_id_SIZE);
    const controller = new AbortController();
    context.signal = controller.signal;
    this.#calls.set(`${id}`, controller);
    void this.#perform(calls[context.name], context, id);
    return PENDING;
  }

  async #perform(call, context, id) {
    const key = `${id}`,
      { data: request, signal } = context; // the call may change it
    let answer;
    await undefined; // never inside the poll that began it
    if (this.closed) return;
    try {
      answer = { outcome: 0, code: 0, retryAfter: 0, data: toBytes(await call(request, context)) };
    } catch (error) {
      answer = failureOf(error);
    }
    if (this.#calls.get(key)?.signal === signal) this.#calls.delete(key);
    if (this.closed) return;
    let refused;
    while ((refused = this.#answer(id, answer)) === result.E_AGAIN) {
      this.#schedule(); // its agent has to be read first
      await new Promise((go) => setTimeout(go, 50));
      if (this.closed) return;
    }
    if (refused === result.E_LIMIT || refused === result.E_MEMORY) {
      const data = toBytes('what the call answered cannot be kept');
      this.#answer(id, { ...answer, outcome: answer.outcome || 2, code: answer.code || refused, data });
    }
    this.#schedule();
  }

  #answer(id, { outcome, code, retryAfter, data }) {
    const linear = this.#linear;
    return linear.frame(() => {
      const at = linear.push(layout.answer_SIZE);
      linear.setU32(at + layout.answer_outcome, outcome);
      linear.setU32(at + layout.answer_code, code);
      linear.setU32(at + layout.answer_retry_after_ms, retryAfter);
      try {
        linear.setBytes(at + layout.answer_data, linear.pushBytes(data), data.length);
      } catch {
        return result.E_LIMIT; // more than there is memory, or bytes that were given away
      }
      return this.#exports.call_done(linear.pushBytes(id), at); // late or unwanted answers are refused there
    });
  }

  // ---- traces

  #trace(at) {
    if (this.#options.trace === undefined && this.#streams.size === 0) return;
    const record = readTrace(this.#linear, at);
    for (const stream of this.#streams) stream.push(record);
    try {
      this.#options.trace?.(record);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      }); // the tracer's own fault: not the step's
    }
  }

  traces({ signal } = {}) {
    this.#live();
    const stream = new Stream(() => this.#streams.delete(stream));
    this.#streams.add(stream);
    signal?.addEventListener('abort', () => stream.end(), { once: true });
    if (signal?.aborted) stream.end();
    return stream.iterator;
  }

  // ---- requests

  #submit(verb, agent, options, more = NONE) {
    const linear = this.#linear;
    return this.#awaited((receipt) =>
      linear.frame(() => {
        const request = pushRequest(linear, verb, agent, requestOptions(verb, options), more);
        return this.#exports.submit(request, receipt);
      }),
    );
  }

  /** The promise of a receipt that `ask` hands to the engine. What is thrown in here rejects it. */
  #awaited(ask) {
    return new Promise((resolve, reject) => {
      this.#live();
      const at = this.#spare.pop() ?? this.#linear.allocate(layout.receipt_SIZE);
      let code = result.E_ARGUMENT;
      try {
        code = ask(at);
      } finally {
        if (code !== OK) this.#spare.push(at);
      }
      if (code !== OK) throw this.#error(code, this.#linear.text(at + layout.receipt_text));
      this.#receipts.push({ at, resolve, reject });
      this.#schedule();
    });
  }

  create(agent, machine, data, options) {
    return this.#submit(VERBS.create, agent, options, { event: machine, data });
  }

  post(agent, signal, data, options) {
    return this.#submit(VERBS.post, agent, options, { event: signal, data });
  }

  approve(agent, options) {
    return this.#submit(VERBS.decide, agent, options, { decision: DECISIONS.approve });
  }

  reject(agent, options) {
    return this.#submit(VERBS.decide, agent, options, { decision: DECISIONS.reject });
  }

  edit(agent, data, options) {
    return this.#submit(VERBS.decide, agent, options, { decision: DECISIONS.edit, data });
  }

  cancel(agent, options) {
    return this.#submit(VERBS.cancel, agent, options, { data: options?.reason });
  }

  rollback(agent, version, options) {
    return this.#submit(VERBS.rollback, agent, { ...options, version });
  }

  fork(agent, version, newAgent, options) {
    return this.#submit(VERBS.fork, agent, { ...options, version }, { target: newAgent });
  }

  retry(agent, options) {
    return this.#submit(VERBS.retry, agent, options);
  }

  moveOut(agent, options) {
    return this.#submit(VERBS.moveOut, agent, options);
  }

  async trim() {
    const { store, limits, readOnly } = this.#options;
    if (!limits?.fullSnapshots || readOnly || (store?.commit !== undefined && store.trim === undefined))
      refuse('trim: it needs limits.fullSnapshots, a store with trim, and an engine that may write');
    return (await this.#awaited((receipt) => this.#exports.trim_store(receipt))).version;
  }

  // ---- looking

  /** Opens a view by name, or by { stream }; it is closed by #closeView. */
  async #openView(agent, version) {
    this.#live();
    const linear = this.#linear;
    const [code, view] = linear.frame(() => {
      const out = linear.push(4);
      let opened;
      if (isObject(agent)) {
        const stream = linear.push(8);
        linear.setHex(stream, known(agent, ['stream'], 'agent').stream);
        opened = this.#exports.view_open_stream(stream, version, out);
      } else {
        opened = this.#exports.view_open(linear.pushText(agent, 'agent'), version, out);
      }
      return [opened, linear.u32(out)];
    });
    if (view !== 0) this.#views.add(view);
    try {
      await this.#viewReady(view, code, agent);
    } catch (error) {
      this.#closeView(view);
      throw error;
    }
    return view;
  }

  async #viewReady(view, code, agent) {
    if (code === PENDING) await this.#until(() => (code = this.#exports.view_ready(view)) !== PENDING);
    if (code === OK || code === END) return code;
    const name = typeof agent === 'string' ? `agent '${agent}'` : `agent ${agent.stream}`;
    throw this.#error(code, `${name}: ${this.#linear.message(code)}`);
  }

  /** Whether there is a block behind the present one. */
  async #nextBlock(view, agent) {
    let code;
    do {
      this.#live(); // the view is gone with its engine
      code = this.#exports.view_next(view);
      await this.#viewReady(view, code, agent);
    } while (code === PENDING);
    return code === OK;
  }

  #closeView(view) {
    if (this.#views.delete(view)) this.#exports.view_close(view);
  }

  /** What the export `ask` has put into a struct of this size, as `read` makes of it. */
  #read(size, read, ask, ...words) {
    const linear = this.#linear;
    return linear.frame(() => {
      const at = linear.push(size);
      const code = this.#must(this.#exports[ask](...words, at));
      return code === END ? undefined : read(linear, at);
    });
  }

  #readView(view) {
    this.#live();
    return this.#read(
      layout.info_SIZE,
      (linear, at) => {
        const list = (count, size, read, ask) =>
          Array.from({ length: linear.u32(at + count) }, (_, index) => this.#read(size, read, ask, view, index));
        const info = readInfo(linear, at);
        return {
          ...info,
          context: contextOf(this.#known(info.machine), info.contextBytes),
          transcript: list(layout.info_transcript_count, layout.entry_SIZE, readEntry, 'view_entry'),
          effects: list(layout.info_effect_count, layout.effect_SIZE, readEffect, 'view_effect'),
        };
      },
      'view_info',
      view,
    );
  }

  #readBlock(view) {
    this.#live();
    const block = this.#read(layout.block_info_SIZE, readBlock, 'view_block', view);
    block.raw = this.#read(layout.bytes_SIZE, (linear, at) => linear.bytes(at), 'view_raw', view);
    return block;
  }

  /** What `work` makes of a view. */
  async #viewed(agent, version, work) {
    const view = await this.#openView(agent, version);
    try {
      return await work(view);
    } finally {
      this.#closeView(view);
    }
  }

  async view(agent, version = 0) {
    return this.#viewed(agent, wholeVersion(version, 'version'), (view) => this.#readView(view));
  }

  async has(agent) {
    try {
      return await this.#viewed(agent, 0, () => true);
    } catch (error) {
      if (error.code === 'E_NOT_FOUND') return false;
      throw error;
    }
  }

  /** The newest state's blocks, oldest first. */
  #blocksOf(agent) {
    return this.#viewed(agent, Infinity, async (view) => {
      const blocks = [];
      do blocks.push(this.#readBlock(view).raw);
      while (await this.#nextBlock(view, agent));
      const { status, name } = this.#readView(view);
      return { moved: status === 'moved', name, blocks };
    });
  }

  async *history(agent, options) {
    const { from = 0, signal } = known(options ?? NONE, ['from', 'signal'], 'history');
    const view = await this.#openView(agent, wholeVersion(from, 'from') || Infinity);
    try {
      do {
        signal?.throwIfAborted();
        yield this.#readBlock(view);
      } while (await this.#nextBlock(view, agent));
    } finally {
      this.#closeView(view);
    }
  }

  async *agents(options) {
    const { signal } = known(options ?? NONE, ['signal'], 'agents');
    this.#live();
    signal?.throwIfAborted();
    for await (const summary of this.#bridge !== undefined ? this.#listed() : this.#held()) {
      this.#live();
      yield summary;
      signal?.throwIfAborted();
    }
    this.#live();
  }

  /** The agents of the store. */
  async *#listed() {
    let cursor;
    do {
      let items;
      try {
        ({ items, cursor } = await this.#options.store.list({ ...(cursor !== undefined && { cursor }), limit: 256 }));
        items = [...items];
      } catch (error) {
        throw this.#error(this.#bridge.failed(error), undefined, undefined, error);
      }
      yield* items;
    } while (cursor !== undefined);
  }

  /** The agents of an engine that needs no store of JavaScript. */
  *#held() {
    const cursor = this.#linear.allocate(8);
    try {
      for (let summary; (summary = this.#read(layout.summary_SIZE, readSummary, 'next_agent', cursor));) yield summary;
    } finally {
      this.#linear.release(cursor, 8);
    }
  }

  // ---- carrying an agent elsewhere

  // Rarely wanted: loaded when it is.

  async export(agent) {
    const wanted = isObject(agent) ? { ...agent } : agent; // the caller may go on using it
    const { exportAgent } = await import('./portable.js');
    return exportAgent(this, wanted);
  }

  async import(file, options) {
    const bytes = bytesOf(file),
      given = bytes === undefined ? file : new Uint8Array(bytes), // a copy: a Buffer's slice() is none
      { as, id, again } = known(options ?? NONE, ['as', 'id', 'again'], 'import');
    const { importAgent } = await import('./portable.js');
    return importAgent(this, given, { as, id, again });
  }

  // ---- machines

  #known(name) {
    return this.#machines.findLast((machine) => machine.name === name);
  }

  #machine(name) {
    const machine = this.#known(name);
    if (machine === undefined) throw new PagentError('E_NOT_FOUND', `no machine '${printable(name)}'`);
    return machine;
  }

  diagram(name, options) {
    const { format = 'mermaid', state } = known(options ?? NONE, ['format', 'state'], 'diagram');
    if (format !== 'mermaid' && format !== 'dot')
      refuse(`diagram: format '${printable(format)}' is neither "mermaid" nor "dot"`);
    const machine = this.#machine(name);
    const mark = machine.names.indexOf(state);
    if (state !== undefined && mark < 0)
      throw new PagentError('E_NOT_FOUND', `machine '${name}' has no state '${printable(state)}'`);
    this.#written = [];
    this.#must(this.#exports.diagram(machine.address, mark, format === 'dot' ? 1 : 0));
    return fromBytes(joined(this.#written));
  }

  machineHash(name) {
    return this.#read(8, (linear, at) => linear.hex(at), 'machine_hash', this.#machine(name).address);
  }

  // ---- the end

  #closeFiles() {
    if (this.#files === undefined) return OK;
    const code = this.#files.close(this.#exports);
    this.#files = undefined;
    return code;
  }

  close({ withinMs = CLOSE_MS } = {}) {
    this.closed = true; // begin nothing new
    return (this.#closing ??= this.#close(withinMs));
  }

  async #close(withinMs) {
    clearTimeout(this.#timer);
    await undefined; // never inside a callback of the engine
    await this.#committed(withinMs);
    if (this.#bridge !== undefined) this.#bridge.closed = true;
    for (const view of this.#views) this.#exports.view_close(view);
    this.#views.clear();
    const code = this.#exports.close();
    const files = this.#closeFiles();
    this.#settle();
    for (const controller of this.#calls.values()) controller.abort(closedError());
    this.#calls.clear();
    for (const stream of this.#streams) stream.end();
    for (const look of [...this.#waiters]) look();
    if (code !== OK || files !== OK) throw this.#error(code !== OK ? code : files);
  }

  /** What the store is writing may still be told to its senders; but it does not hold the end for ever. */
  async #committed(withinMs) {
    if (!this.#bridge?.committing) return;
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, withinMs);
    });
    await Promise.race([this.#bridge.settled, late]);
    clearTimeout(timer);
  }

  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() {
    return this.close();
  }

  // ---- for portable.js, and for tests

  get raw() {
    return {
      module: this.#module,
      linear: this.#linear,
      options: this.#options,
      live: () => this.#live(),
      must: (code, text) => this.#must(code, text),
      random: (at, size) => this.#random(at, size),
      blocksOf: (agent) => this.#blocksOf(agent),
      moveIn: (agent, options) => this.#submit(VERBS.moveIn, agent, options),
    };
  }
}
