// One event being handled: what a handler written in JavaScript sees, and may stage.

import * as layout from './layout.js';
import { OK, PagentError, nameOf, result } from './errors.js';
import { fromBytes, toBytes } from './linear.js';

const EVENT_KINDS = [
  '',
  'start',
  'signal',
  'result',
  'failure',
  'in_doubt',
  'approved',
  'rejected',
  'edited',
  'expired',
  'timer',
  'cancel',
  'restored',
  'always',
  'claim',
];
const CACHE_MAX = 4096;

export const kindOfEvent = (kind) => EVENT_KINDS[kind] ?? `${kind}`;

/** Bytes with their two usual readings. */
export function readable(object) {
  object.text = () => fromBytes(object.data);
  object.json = () => (object.data.length === 0 ? undefined : JSON.parse(fromBytes(object.data)));
  return object;
}

const encoder = new TextEncoder();

function same(left, right) {
  if (left.length !== right.length) return false;
  for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return false;
  return true;
}

/**
 * JSON contexts as live objects. The truth is the UTF-8 text in linear memory: an object is used again only while the
 * bytes there are those that it was written as, so a step that was undone can leave nothing behind.
 */
export class Contexts {
  #linear;
  #objects = new Map(); // by the address of the agent's name: { bytes, value }

  constructor(linear) {
    this.#linear = linear;
  }

  read(agent, at, size, initial) {
    const bytes = this.#linear.u8.subarray(at, at + size);
    const known = this.#objects.get(agent);
    if (known !== undefined && same(known.bytes, bytes)) return known.value;
    return JSON.parse(size === 0 ? initial : fromBytes(bytes));
  }

  remember(agent, at, size, value) {
    const known = this.#objects.get(agent);
    const bytes = this.#linear.u8.subarray(at, at + size);
    if (known !== undefined && known.bytes.length === size) {
      known.bytes.set(bytes);
      known.value = value;
      return;
    }
    if (this.#objects.size >= CACHE_MAX) this.#objects.clear();
    this.#objects.set(agent, { bytes: bytes.slice(), value });
  }

  /** A handler failed: what it did to the object must not be seen again. */
  forget(agent) {
    this.#objects.delete(agent);
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
  #host; // { exports, linear, contexts }
  #step = 0; // address; 0: over
  #machine;
  #touched = false;
  #value;
  #event;

  constructor(host) {
    this.#host = host;
  }

  /** For the engine alone: calls a handler. Returns what the engine is to be told. */
  run(handler, machine, step, guard) {
    const { exports } = this.#host;
    this.#step = step;
    this.#machine = machine;
    this.#touched = false;
    this.#event = undefined;
    try {
      const answer = handler(this);
      if (guard) return answer ? 1 : 0;
      if (answer !== undefined && typeof answer?.then === 'function') {
        answer.then(undefined, () => {});
        throw new TypeError('a handler must be synchronous: begin a call instead');
      }
      if (this.#touched) this.#writeContext();
      return OK;
    } catch (error) {
      if (this.#touched) this.#host.contexts.forget(exports.step_agent(step));
      if (error instanceof StepError && error.code === result.E_MEMORY) return error.code;
      return this.#host.linear.frame(() =>
        exports.step_fail(
          step,
          error instanceof StepError ? error.code : result.E_ARGUMENT,
          this.#host.linear.pushText(error instanceof StepError ? error.message : `${error}`),
        ),
      );
    } finally {
      this.#step = 0;
      this.#value = undefined;
    }
  }

  get #at() {
    if (this.#step === 0) throw new PagentError('E_ARGUMENT', 'the step is over: handlers must not keep it');
    return this.#step;
  }

  #check(code, what) {
    if (code >= OK) return code;
    throw new StepError(code, `${what}: ${this.#host.linear.text(this.#host.exports.message(code))} (${nameOf(code)})`);
  }

  get event() {
    if (this.#event !== undefined) return this.#event;
    const { linear, exports } = this.#host;
    const at = exports.step_event(this.#at);
    const of = layout.event;
    this.#event = readable({
      kind: kindOfEvent(linear.u32(at + of.kind)),
      name: linear.text(linear.u32(at + of.name)),
      code: linear.i32(at + of.code),
      attempt: linear.u32(at + of.attempt),
      effect: linear.effectId(at + of.effect),
      who: linear.text(linear.u32(at + of.who)),
      data: linear.bytes(at + of.data),
    });
    return this.#event;
  }

  get agent() {
    return this.#host.linear.text(this.#host.exports.step_agent(this.#at));
  }

  get version() {
    return this.#host.exports.step_version(this.#at);
  }

  get now() {
    return this.#host.exports.step_now(this.#at);
  }

  /** [address, bytes] of the context. */
  #contextPlace() {
    const { linear, exports } = this.#host;
    return linear.frame(() => {
      const size = linear.push(4);
      const at = exports.step_context(this.#at, size);
      return [at, linear.u32(size)];
    });
  }

  get context() {
    if (this.#touched) return this.#value;
    const { linear, exports, contexts } = this.#host;
    const [at, size] = this.#contextPlace();
    this.#value = this.#machine.json
      ? contexts.read(exports.step_agent(this.#step), at, size, this.#machine.initial)
      : linear.copy(at, size);
    this.#touched = true;
    return this.#value;
  }

  set context(value) {
    void this.#at;
    this.#value = value;
    this.#touched = true;
  }

  #writeContext() {
    const { linear, exports, contexts } = this.#host;
    const text = this.#machine.json ? JSON.stringify(this.#value) : undefined;
    if (this.#machine.json && text === undefined) throw new TypeError('the context cannot be written as JSON');
    linear.frame(() => {
      const room = this.#machine.json ? text.length * 3 : this.#value.length;
      const from = linear.push(room);
      const size = this.#machine.json ? encoder.encodeInto(text, linear.u8.subarray(from, from + room)).written : room;
      if (!this.#machine.json) linear.u8.set(this.#value, from);
      if (this.#contextPlace()[1] !== size) this.#check(exports.step_resize(this.#step, size), 'the context');
      const [to] = this.#contextPlace();
      linear.u8.copyWithin(to, from, from + size);
      if (this.#machine.json) contexts.remember(exports.step_agent(this.#step), to, size, this.#value);
    });
  }

  /** A verb with a name, data, and an effect id as its outcome. */
  #issue(what, name, data, verb) {
    const { linear } = this.#host;
    return linear.frame(() => {
      const bytes = toBytes(data);
      const id = linear.push(layout.effect_id.SIZE);
      this.#check(
        verb(this.#at, linear.pushText(name), linear.pushBytes(bytes), bytes.length, id),
        `${what} '${name}'`,
      );
      return linear.effectId(id);
    });
  }

  call(name, request) {
    return this.#issue('call', name, request, (...words) => this.#host.exports.step_call(...words));
  }

  ask(approval, payload, { deadline = Infinity } = {}) {
    return this.#issue('approval', approval, payload, (step, name, data, size, id) =>
      this.#host.exports.step_ask(step, name, data, size, deadline, id),
    );
  }

  timer(name, at) {
    const { linear, exports } = this.#host;
    linear.frame(() => this.#check(exports.step_timer(this.#at, linear.pushText(name), Number(at)), `timer '${name}'`));
  }

  clearTimer(name) {
    const { linear, exports } = this.#host;
    linear.frame(() => this.#check(exports.step_clear_timer(this.#at, linear.pushText(name)), `timer '${name}'`));
  }

  send(agent, signal, data) {
    const { linear, exports } = this.#host;
    const bytes = toBytes(data);
    linear.frame(() =>
      this.#check(
        exports.step_send(
          this.#at,
          linear.pushText(agent),
          linear.pushText(signal),
          linear.pushBytes(bytes),
          bytes.length,
        ),
        `signal '${signal}' to '${agent}'`,
      ),
    );
  }

  cancel(effect) {
    const { linear, exports } = this.#host;
    linear.frame(() => {
      const id = linear.push(layout.effect_id.SIZE);
      linear.setEffectId(id, effect);
      this.#check(exports.step_cancel(this.#at, id), `effect ${effect}`);
    });
  }

  remember(kind, data) {
    const { linear, exports } = this.#host;
    const bytes = toBytes(data);
    linear.frame(() =>
      this.#check(exports.step_remember(this.#at, kind, linear.pushBytes(bytes), bytes.length), 'remember'),
    );
  }

  get transcriptCount() {
    return this.#host.exports.step_entries(this.#at);
  }

  transcript(index) {
    const { linear, exports } = this.#host;
    return linear.frame(() => {
      const entry = linear.push(layout.entry.SIZE);
      this.#check(exports.step_entry(this.#at, index, entry), `transcript entry ${index}`);
      return readable({ kind: linear.u32(entry + layout.entry.kind), data: linear.bytes(entry + layout.entry.data) });
    });
  }

  fail(text, code = -1) {
    throw new StepError(code < 0 ? code : -code || -1, `${text}`);
  }
}
