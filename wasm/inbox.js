// The inbox of a directory whose owner is another process, native or not: messages to it, and its receipts. No engine
// runs here; the frames are written and read by the same C as everywhere.

import * as layout from './layout.js';
import { OK, PENDING, PagentError, nameOf, result } from './errors.js';
import { Linear, toBytes } from './linear.js';

const VERBS = {
  create: 1,
  post: 2,
  approve: 3,
  reject: 3,
  edit: 3,
  cancel: 4,
  rollback: 5,
  fork: 6,
  retry: 7,
  moveOut: 8,
};
const DECISIONS = { approve: 1, reject: 2, edit: 3 };
const OUTCOMES = { 5: 'duplicate', 7: 'deferred' };
const FIELDS = [
  'verb',
  'agent',
  'id',
  'machine',
  'signal',
  'newAgent',
  'who',
  'effect',
  'digest',
  'version',
  'expectedVersion',
  'force',
  'data',
];

export class Inbox {
  #exports;
  #linear;
  #directory;

  /** `module`: compiled, with the file store in it. `directory`: of a store. */
  constructor(module, directory) {
    const unused = Object.fromEntries(
      ['handle', 'call', 'call_cancel', 'trace', 'append', 'read', 'list', 'trim', 'write'].map((name) => [
        name,
        () => result.E_STORAGE,
      ]),
    );
    this.#directory = directory;
    this.#exports = new WebAssembly.Instance(module, {
      host: {
        ...unused,
        clock: () => Date.now(),
        random: (at, size) => {
          globalThis.crypto.getRandomValues(this.#linear.u8.subarray(at, at + size)); // a few bytes of a file's name
          return OK;
        },
        ...directory.imports(() => this.#linear),
      },
    }).exports;
    this.#linear = new Linear(this.#exports);
  }

  #error(code) {
    return new PagentError(nameOf(code), this.#linear.text(this.#exports.message(code)), {
      cause: this.#directory.error,
    });
  }

  /** Durable when it returns. Sending the same again under the same id is sending once. */
  send(message) {
    for (const key of Object.keys(message)) {
      if (!FIELDS.includes(key)) throw new PagentError('E_ARGUMENT', `message: '${key}' is not known`);
    }
    if (VERBS[message.verb] === undefined)
      throw new PagentError('E_ARGUMENT', `message: verb '${message.verb}' is not known`);
    if (!message.id) throw new PagentError('E_ARGUMENT', 'message: it needs an id that no other has');
    const linear = this.#linear,
      of = layout.request;
    const code = linear.frame(() => {
      const at = linear.push(of.SIZE),
        data = toBytes(message.data);
      linear.setU32(at + of.size, of.SIZE);
      linear.setU32(at + of.verb, VERBS[message.verb]);
      linear.setU32(at + of.agent, linear.pushText(message.agent));
      linear.setU32(at + of.id, linear.pushText(message.id));
      linear.setNumber(at + of.expected_version, message.expectedVersion ?? 0);
      linear.setU32(at + of.event, linear.pushText(message.machine ?? message.signal));
      linear.setU32(at + of.target, linear.pushText(message.newAgent));
      linear.setU32(at + of.who, linear.pushText(message.who));
      if (message.effect !== undefined) linear.setEffectId(at + of.effect, message.effect);
      if (message.digest !== undefined) linear.setHex(at + of.digest, message.digest);
      linear.setNumber(at + of.version, message.version ?? 0);
      linear.setU32(at + of.decision, DECISIONS[message.verb] ?? 0);
      linear.setU32(at + of.force, message.force ? 1 : 0);
      linear.setBytes(at + of.data, linear.pushBytes(data), data.length);
      return this.#exports.send_message(at);
    });
    if (code !== OK) throw this.#error(code);
  }

  /** The owner's answer, which is removed with that; undefined while there is none. Throws what was refused. */
  receipt(id) {
    const linear = this.#linear,
      of = layout.receipt;
    const said = linear.frame(() => {
      const at = linear.push(of.SIZE),
        code = this.#exports.read_receipt(linear.pushText(id), at);
      if (code !== OK) return { code };
      return {
        code,
        result: linear.i32(at + of.result),
        version: linear.number(at + of.version),
        text: linear.text(at + of.text),
      };
    });
    if (said.code === PENDING) return undefined;
    if (said.code !== OK) throw this.#error(said.code);
    const { version, text } = said;
    if (said.result < OK) {
      throw new PagentError(nameOf(said.result), text || this.#linear.text(this.#exports.message(said.result)), {
        version: version || undefined,
      });
    }
    return { version, outcome: OUTCOMES[said.result] ?? 'done' };
  }
}
