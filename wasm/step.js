// One event being handled: what a handler written in JavaScript sees, and may stage.

import * as layout from './layout.js';
import { OK, isObject, isPromise, known, moment, nameOf, refuse, result, printable, whole } from './errors.js';
import { bytesOf, encoder, jsonOf, toBytes } from './linear.js';
import { contextOf } from './machine.js';
import { readEntry, readEvent } from './records.js';

const CACHE_MAX = 4096;

const NONE = new Uint8Array(0);

/** The objects of a value, each before those that are in it. */
function objectsOf(value) {
  const found = [];
  const look = (value) => isObject(value) && found.push(value);
  look(value);
  for (const object of found) for (const key in object) look(object[key]);
  return found;
}

/** Whether a value is what its JSON would be read as, of objects that nobody else has: those made here, each once. */
function isMade(value, made) {
  let next = 0;
  const fits = (value) =>
    typeof value === 'string' ||
    Number.isFinite(value) ||
    (isObject(value) ? value === made[next++] : typeof value === 'boolean' || value === null);
  if (!fits(value)) return false;
  for (let at = 0; at < next; at++) {
    const object = made[at];
    if (Array.isArray(object)) {
      for (let i = 0; i < object.length; i++) if (!fits(object[i])) return false; // faster than by keys
    } else for (const key in object) if (!fits(object[key])) return false;
  }
  return true;
}

/**
 * JSON contexts as live objects. The truth is the UTF-8 text that the engine holds: an object is used again only while
 * that text is the one that it was written as, so a step that was undone can leave nothing behind; and only while it is
 * made of nothing but what was read here: what a handler put in, others may have, too. The object's text is kept in
 * linear memory: it is encoded there once, and compared and copied there.
 */
class Contexts {
  #linear;
  #kept = new Map(); // by the address of the agent's name

  constructor(linear) {
    this.#linear = linear;
  }

  #keep(agent) {
    let kept = this.#kept.get(agent);
    if (kept === undefined) {
      if (this.#kept.size >= CACHE_MAX) for (const other of [...this.#kept.keys()]) this.forget(other);
      kept = { at: 0, bytes: NONE, size: 0, room: 0, value: undefined, made: NONE };
      this.#kept.set(agent, kept);
    }
    return kept;
  }

  /** The context as a value; then comes `write`, or `forget`. */
  take(agent, step, read) {
    const kept = this.#keep(agent);
    if (kept.value === undefined || this.#linear.exports.step_is_context(step, kept.at, kept.size) === 0) {
      kept.value = read();
      kept.made = objectsOf(kept.value);
    }
    return kept.value;
  }

  /** Writes it as JSON into the engine's context. Returns the engine's result. */
  write(agent, step, value) {
    const text = jsonOf(value, 'the context');
    const kept = this.#keep(agent);
    kept.size = this.#encode(kept, text);
    kept.value = isMade(value, kept.made) ? value : undefined;
    return this.#linear.exports.step_set_context(step, kept.at, kept.size);
  }

  #encode(kept, text) {
    const { length } = text;
    if (kept.room < length) this.#grow(kept, length + (length >> 2) + 64);
    for (;;) {
      if (kept.bytes.length === 0) kept.bytes = this.#linear.u8.subarray(kept.at, kept.at + kept.room); // memory grew
      const { read, written } = encoder.encodeInto(text, kept.bytes);
      if (read === length) return written;
      this.#grow(kept, length * 3);
    }
  }

  #grow(kept, room) {
    this.#linear.release(kept.at, kept.room);
    kept.at = kept.room = 0;
    kept.bytes = NONE;
    kept.at = this.#linear.allocate(room);
    kept.room = room;
  }

  /** A handler failed: what it did to the object must not be seen again. */
  forget(agent) {
    const kept = this.#kept.get(agent);
    if (kept === undefined) return;
    this.#kept.delete(agent);
    this.#linear.release(kept.at, kept.room);
  }
}

/** Ends a handler with a result of the engine. */
export class StepError extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

export class Step {
  #linear;
  #contexts;
  #step = 0; // address; 0: over
  #machine;
  #guard;
  #touched = false;
  #value;
  #event;
  #size; // address of the context's size, as the engine tells it

  constructor(linear) {
    this.#linear = linear;
    this.#contexts = new Contexts(linear);
    this.#size = linear.allocate(4);
  }

  /** For the engine alone: calls a handler. Returns what the engine is to be told. */
  run(machine, which, tag, step) {
    const linear = this.#linear,
      { exports } = linear;
    this.#step = step;
    this.#machine = machine;
    this.#guard = which === 0 && tag >= machine.names.length;
    this.#touched = false;
    this.#event = undefined;
    try {
      const handler = machine.handlers[tag][which],
        answer = handler(this);
      if (isPromise(answer)) {
        answer.then(undefined, () => {});
        throw new TypeError('handlers and guards must be synchronous: begin a call instead');
      }
      if (this.#guard) return answer ? 1 : 0;
      if (this.#touched) this.#writeContext();
      return OK;
    } catch (error) {
      if (this.#touched) this.#contexts.forget(exports.step_agent(step));
      if (error instanceof StepError && error.code === result.E_MEMORY) return error.code;
      const [code, text] =
        error instanceof StepError ? [error.code, error.message] : [result.E_ARGUMENT, printable(error)];
      return linear.frame(() => exports.step_fail(step, code, linear.pushBytes(toBytes(`${text}\0`))));
    } finally {
      this.#step = 0;
      this.#value = undefined;
    }
  }

  get #at() {
    if (this.#step === 0) refuse('the step is over: handlers must not keep it');
    return this.#step;
  }

  /** The address, for what changes or begins something. */
  get #acting() {
    if (this.#guard) refuse('a guard only looks: change and begin things in an action');
    return this.#at;
  }

  #check(code, what) {
    if (code >= OK) return code;
    throw new StepError(code, `${what}: ${this.#linear.message(code)} (${nameOf(code)})`);
  }

  get event() {
    const step = this.#at;
    if (this.#event !== undefined) return this.#event;
    this.#event = readEvent(this.#linear, this.#linear.exports.step_event(step));
    return this.#event;
  }

  get agent() {
    return this.#linear.text(this.#linear.exports.step_agent(this.#at));
  }

  get version() {
    return this.#linear.exports.step_version(this.#at);
  }

  get now() {
    return this.#linear.exports.step_now(this.#at);
  }

  get context() {
    const step = this.#at;
    if (this.#touched) return this.#value;
    const contexts = this.#contexts,
      { exports } = this.#linear;
    this.#value =
      this.#machine.json && !this.#guard
        ? contexts.take(exports.step_agent(step), step, this.#readContext)
        : this.#readContext(); // a guard's own: what it does to it must not be seen again
    this.#touched = true;
    return this.#value;
  }

  set context(value) {
    void this.#acting;
    this.#value = value;
    this.#touched = true;
  }

  #readContext = () => {
    const linear = this.#linear,
      { exports } = linear;
    const at = exports.step_context(this.#step, this.#size);
    return contextOf(this.#machine, linear.copy(at, linear.u32(this.#size)));
  };

  #writeContext() {
    const linear = this.#linear,
      contexts = this.#contexts,
      { exports } = linear;
    const step = this.#step;
    const write = () => {
      const bytes = bytesOf(this.#value) ?? refuse(`the context: ${printable(this.#value)} is not bytes`);
      return exports.step_set_context(step, linear.pushBytes(bytes), bytes.length);
    };
    const code = this.#machine.json ? contexts.write(exports.step_agent(step), step, this.#value) : linear.frame(write);
    if (code < OK) this.#check(code, 'the context');
  }

  /** Changes or begins something: `verb` has the step's address, and room for an effect's id. Returns that id. */
  #stage(what, verb) {
    const linear = this.#linear,
      { exports } = linear;
    return linear.frame(() => {
      const id = linear.push(layout.effect_id_SIZE);
      this.#check(verb(exports, this.#acting, linear, id), what);
      return linear.effectId(id);
    });
  }

  call(name, request) {
    return this.#stage(`call '${name}'`, (exports, step, linear, id) =>
      exports.step_call(step, linear.pushText(name, 'call'), ...linear.pushData(request), id),
    );
  }

  ask(approval, payload, options = {}) {
    const { deadline = Infinity } = known(options, ['deadline'], 'ask: options');
    moment(deadline, 'ask: deadline');
    return this.#stage(`approval '${approval}'`, (exports, step, linear, id) =>
      exports.step_ask(step, linear.pushText(approval, 'approval'), ...linear.pushData(payload), deadline, id),
    );
  }

  timer(name, at) {
    moment(at, `timer '${name}'`);
    this.#stage(`timer '${name}'`, (exports, step, linear) =>
      exports.step_timer(step, linear.pushText(name, 'timer'), at),
    );
  }

  clearTimer(name) {
    this.#stage(`timer '${name}'`, (exports, step, linear) =>
      exports.step_clear_timer(step, linear.pushText(name, 'timer')),
    );
  }

  send(agent, signal, data) {
    this.#stage(`signal '${signal}' to '${agent}'`, (exports, step, linear) =>
      exports.step_send(
        step,
        linear.pushText(agent, 'agent'),
        linear.pushText(signal, 'signal'),
        ...linear.pushData(data),
      ),
    );
  }

  cancel(effect) {
    this.#stage(`effect ${effect}`, (exports, step, linear, id) => {
      linear.setEffectId(id, effect);
      return exports.step_cancel(step, id);
    });
  }

  remember(kind, data) {
    this.#stage('remember', (exports, step, linear) =>
      exports.step_remember(step, whole(kind, 'kind'), ...linear.pushData(data)),
    );
  }

  get transcriptCount() {
    return this.#linear.exports.step_entries(this.#at);
  }

  transcript(index) {
    const linear = this.#linear,
      { exports } = linear;
    return linear.frame(() => {
      const entry = linear.push(layout.entry_SIZE);
      this.#check(exports.step_entry(this.#at, whole(index, 'index'), entry), `transcript entry ${index}`);
      return readEntry(linear, entry);
    });
  }

  fail(text, code = -1) {
    throw new StepError(-Math.abs(code | 0) || -1, printable(text));
  }
}
