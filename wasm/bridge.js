// Between the engine's store callbacks and a Store: appends of one poll become one commit, answers find their operation.

import * as layout from './layout.js';
import { OK, PENDING, result } from './errors.js';
import { split } from './block.js';

const STATUS = ['', 'running', 'waiting', 'parked', 'done', 'failed', 'cancelled', 'moved'];
const MODES = ['newest', 'base', 'from'];
const REFUSALS = { conflict: 'E_CONFLICT', again: 'E_AGAIN', 'no-space': 'E_NO_SPACE', fenced: 'E_FENCED' };

export const statusName = (status) => STATUS[status] ?? `${status}`;

export function readSummary(linear, at, stream = linear.hex(at + layout.summary.stream)) {
  const of = layout.summary;
  return {
    stream,
    version: linear.number(at + of.version),
    due: linear.number(at + of.due_ms),
    time: linear.number(at + of.time_ms),
    state: linear.view.getUint16(at + of.state, true),
    status: statusName(linear.u8[at + of.status]),
    flags: linear.u8[at + of.flags],
  };
}

function writeSummary(linear, at, summary) {
  const of = layout.summary;
  linear.setHex(at + of.stream, summary.stream);
  linear.setNumber(at + of.version, summary.version);
  linear.setNumber(at + of.due_ms, summary.due);
  linear.setNumber(at + of.time_ms, summary.time);
  linear.view.setUint16(at + of.state, summary.state, true);
  linear.u8[at + of.status] = STATUS.indexOf(summary.status);
  linear.u8[at + of.flags] = summary.flags;
}

/** A store's error as a result: what it names, otherwise `unknown`. */
const resultOf = (error, unknown) => result[error?.code] ?? result[unknown];

const isPromise = (value) => typeof value?.then === 'function';

export class Bridge {
  #store;
  #linear;
  #exports;
  #wake; // called when an operation was completed outside a poll
  #queue = []; // appends not yet handed over
  #cursors = new Map();
  #cursor = 0;
  error; // the store's last one, as thrown
  outstanding = 0;
  committing = false;

  constructor(store, linear, exports, wake) {
    this.#store = store;
    this.#linear = linear;
    this.#exports = exports;
    this.#wake = wake;
  }

  /** The engine's imports. Each returns a result, or PENDING and completes its operation later. */
  get imports() {
    return {
      append: (request) => this.#append(request),
      read: (request, io) =>
        this.#answer(
          request + layout.read.op,
          io,
          () => this.#read(request),
          (answer, to) => this.#readDone(request, answer, to),
        ),
      list: (request, io) =>
        this.#answer(
          request + layout.list.op,
          io,
          () => this.#list(request),
          (answer, to) => this.#listDone(request, answer, to),
        ),
      trim: (request, io) =>
        this.#answer(
          request + layout.trim.op,
          io,
          () => this.#store.trim(),
          (count, to) => {
            this.#linear.setU32(to + layout.io.count, count);
            return OK;
          },
        ),
    };
  }

  /** Runs `ask`; `fill` puts its answer into the io at an address and returns the result. */
  #answer(op, io, ask, fill) {
    let answer;
    try {
      answer = ask();
      if (!isPromise(answer)) return this.#filled(fill, answer, io);
    } catch (error) {
      return this.failed(error);
    }
    const copy = this.#linear.copy(op, 8);
    this.outstanding++;
    Promise.resolve(answer).then(
      (value) => this.#complete(copy, (to) => this.#filled(fill, value, to)),
      (error) => this.#complete(copy, () => this.failed(error)),
    );
    return PENDING;
  }

  /** The result of an answer, which may have any shape. */
  #filled(fill, answer, io, otherwise = result.E_STORAGE) {
    try {
      return fill(answer, io);
    } catch (error) {
      this.error = error;
      return otherwise;
    }
  }

  /** Keeps what a store threw. Returns its result. */
  failed(error) {
    this.error = error ?? new Error('the store threw nothing');
    return resultOf(error, 'E_STORAGE');
  }

  #complete(op, fill) {
    this.outstanding--;
    if (this.closed) return;
    this.#done(op, fill);
    this.#wake();
  }

  #done(op, fill) {
    const linear = this.#linear;
    linear.frame(() => {
      const io = linear.push(layout.io.SIZE);
      const code = fill(io);
      this.#exports.store_done(linear.pushBytes(op), code, io);
    });
  }

  // ---- appends

  #append(request) {
    const linear = this.#linear;
    const of = layout.append;
    const stream = linear.hex(request + of.stream);
    this.#queue.push({
      op: linear.copy(request + of.op, 8),
      append: {
        stream,
        expected: linear.number(request + of.expected),
        epoch: linear.number(request + of.epoch),
        first: linear.number(request + of.first),
        blocks: split(linear.copy(linear.u32(request + of.blocks), linear.u32(request + of.size))),
        summary: readSummary(linear, request + of.summary, stream),
      },
    });
    return PENDING;
  }

  /** Hands over what has been queued, unless a commit is under way. True when something was completed at once. */
  commit() {
    if (this.committing || this.#queue.length === 0) return false;
    const batch = this.#queue;
    this.#queue = [];
    let answer;
    try {
      answer = this.#store.commit(batch.map(({ append }) => append));
      if (isPromise(answer)) {
        this.committing = true;
        this.settled = Promise.resolve(answer).then(
          (results) => this.#committedLater(batch, results),
          (error) => this.#committedLater(batch, void this.failed(error)),
        );
        return false;
      }
    } catch (error) {
      this.failed(error);
    }
    this.#committed(batch, answer);
    return true;
  }

  #committedLater(batch, results) {
    this.committing = false;
    if (this.closed) return;
    this.#committed(batch, results);
    this.#wake();
  }

  #committed(batch, results) {
    batch.forEach(({ op }, index) =>
      this.#done(op, (io) => this.#filled(this.#readResult, results?.[index], io, result.E_IN_DOUBT)),
    );
  }

  #readResult = (answer, io) => {
    if (answer?.result === 'ok') return OK;
    if (answer?.version !== undefined) this.#linear.setNumber(io + layout.io.version, answer.version);
    return result[REFUSALS[answer?.result]] ?? result.E_IN_DOUBT;
  };

  get busy() {
    return this.committing || this.outstanding !== 0 || this.#queue.length !== 0;
  }

  // ---- reads

  #read(request) {
    const linear = this.#linear;
    const of = layout.read;
    const last = linear.number(request + of.last);
    return this.#store.read({
      stream: linear.hex(request + of.stream),
      mode: MODES[linear.u32(request + of.mode)],
      version: linear.number(request + of.version),
      maxBytes: linear.u32(request + of.capacity),
      ...(last !== 0 && { last }),
    });
  }

  #readDone(request, answer, io) {
    const linear = this.#linear;
    const of = layout.read;
    const capacity = linear.u32(request + of.capacity);
    const buffer = linear.u32(request + of.buffer);
    let size = 0,
      count = 0;
    linear.setNumber(io + layout.io.version, answer.version);
    if (answer.trimmed) return result.E_TRIMMED;
    for (const block of answer.blocks) {
      if (!ArrayBuffer.isView(block)) throw new TypeError('read: a block is not bytes');
      if (size + block.length > capacity) break;
      linear.u8.set(block, buffer + size);
      size += block.length;
      count++;
    }
    const tooLarge = count === 0 && answer.blocks.length !== 0;
    linear.setU32(io + layout.io.count, count);
    linear.setU32(io + layout.io.size, tooLarge ? answer.blocks[0].length : size);
    return tooLarge ? result.E_LIMIT : OK;
  }

  #list(request) {
    const linear = this.#linear;
    const of = layout.list;
    const number = linear.number(request + of.cursor);
    const due = linear.number(request + of.due_before_ms);
    const flags = linear.u32(request + of.flags);
    const cursor = this.#cursors.get(number);
    this.#cursors.delete(number);
    return this.#store.list({
      ...(cursor !== undefined && { cursor }),
      ...(due !== 0 && { dueBefore: due }),
      ...(flags !== 0 && { flags }),
      limit: linear.u32(request + of.capacity),
    });
  }

  #listDone(request, answer, io) {
    const linear = this.#linear;
    const items = linear.u32(request + layout.list.items);
    const capacity = linear.u32(request + layout.list.capacity);
    if (answer.items.length > capacity) {
      throw new RangeError(`list: ${answer.items.length} items, where the limit was ${capacity}`);
    }
    answer.items.forEach((item, index) => writeSummary(linear, items + index * layout.summary.SIZE, item));
    linear.setU32(io + layout.io.count, answer.items.length);
    linear.setNumber(io + layout.io.next_due_ms, answer.nextDue ?? Infinity);
    if (answer.cursor !== undefined) {
      this.#cursors.set(++this.#cursor, answer.cursor);
      linear.setNumber(io + layout.io.cursor, this.#cursor);
    }
    return OK;
  }

  /** The store, for what needs no engine. */
  get store() {
    return this.#store;
  }
}
