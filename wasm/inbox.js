// The inbox of a directory whose owner is another process, native or not: messages to it, and its receipts. No engine
// runs here; the frames are written and read by the same C as everywhere.

import * as layout from './layout.js';
import { OK, PENDING, PagentError, nameOf, result } from './errors.js';
import { Linear } from './linear.js';
import { DECISIONS, VERBS, pushRequest } from './request.js';

const SENT = ['create', 'post', 'approve', 'reject', 'edit', 'cancel', 'rollback', 'fork', 'retry', 'moveOut'];
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
    return new PagentError(nameOf(code), this.#linear.message(code), {
      cause: this.#directory.error,
    });
  }

  /** Durable when it returns. Sending the same again under the same id is sending once. */
  send(message) {
    for (const key of Object.keys(message)) {
      if (!FIELDS.includes(key)) throw new PagentError('E_ARGUMENT', `message: '${key}' is not known`);
    }
    const { verb: name, agent, machine, signal, newAgent } = message;
    if (!SENT.includes(name)) throw new PagentError('E_ARGUMENT', `message: verb '${name}' is not known`);
    if (!message.id) throw new PagentError('E_ARGUMENT', 'message: it needs an id that no other has');
    const linear = this.#linear,
      decision = DECISIONS[name],
      verb = decision !== undefined ? VERBS.decide : VERBS[name],
      more = { event: machine ?? signal, target: newAgent, decision };
    const code = linear.frame(() => this.#exports.send_message(pushRequest(linear, verb, agent, message, more)));
    if (code !== OK) throw this.#error(code);
  }

  /** The owner's answer, which is removed with that; undefined while there is none. Throws what was refused. */
  receipt(id) {
    const linear = this.#linear;
    const said = linear.frame(() => {
      const at = linear.push(layout.receipt_SIZE),
        code = this.#exports.read_receipt(linear.pushText(id, 'id'), at);
      if (code !== OK) return { code };
      return {
        code,
        result: linear.i32(at + layout.receipt_result),
        version: linear.number(at + layout.receipt_version),
        text: linear.text(at + layout.receipt_text),
      };
    });
    if (said.code === PENDING) return undefined;
    if (said.code !== OK) throw this.#error(said.code);
    const { version, text } = said;
    if (said.result < OK) {
      throw new PagentError(nameOf(said.result), text || this.#linear.message(said.result), {
        version: version || undefined,
      });
    }
    return { version, outcome: OUTCOMES[said.result] ?? 'done' };
  }
}
