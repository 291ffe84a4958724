// Between the engine's store callbacks and a Store: appends of one poll become one commit, answers find their operation.

import * as layout from './layout.js';
import { OK, PENDING, isPromise, result } from './errors.js';
import { split } from './block.js';
import { readSummary, writeSummary } from './records.js';

const MODES = ['newest', 'base', 'from'];
/** What a store may answer to an append instead of "ok", as errors. */
export const REFUSALS = { conflict: 'E_CONFLICT', again: 'E_AGAIN', 'no-space': 'E_NO_SPACE', fenced: 'E_FENCED' };

export class Bridge {
  #store;
  #linear;
  #wake; // called when an operation was completed outside a poll
  #queue = []; // appends not yet handed over
  #cursors = new Map();
  #cursor = 0;
  error; // the store's last one, as thrown
  outstanding = 0;
  committing = false;

  constructor(store, linear, wake) {
    this.#store = store;
    this.#linear = linear;
    this.#wake = wake;
  }

  // ---- the engine's imports: each returns a result, or PENDING and completes its operation later

  /** Queued, for `commit`. */
  append(request) {
    const linear = this.#linear;
    const stream = linear.hex(request + layout.append_stream);
    this.#queue.push({
      op: linear.op(request + layout.append_op),
      append: {
        stream,
        expected: linear.number(request + layout.append_expected),
        epoch: linear.number(request + layout.append_epoch),
        first: linear.number(request + layout.append_first),
        blocks: split(
          linear.copy(linear.u32(request + layout.append_blocks), linear.u32(request + layout.append_size)),
        ),
        summary: readSummary(linear, request + layout.append_summary, stream),
      },
    });
    return PENDING;
  }

  read(request, io) {
    const linear = this.#linear;
    const last = linear.number(request + layout.read_last);
    const ask = () =>
      this.#store.read({
        stream: linear.hex(request + layout.read_stream),
        mode: MODES[linear.u32(request + layout.read_mode)],
        version: linear.number(request + layout.read_version),
        maxBytes: linear.u32(request + layout.read_capacity),
        ...(last !== 0 && { last }),
      });
    return this.#answer(request + layout.read_op, io, ask, (answer, to) => this.#readDone(request, answer, to));
  }

  list(request, io) {
    const linear = this.#linear;
    const number = linear.number(request + layout.list_cursor);
    const due = linear.number(request + layout.list_due_before_ms);
    const flags = linear.u32(request + layout.list_flags);
    const cursor = this.#cursors.get(number);
    this.#cursors.delete(number);
    const ask = () =>
      this.#store.list({
        ...(cursor !== undefined && { cursor }),
        ...(due !== 0 && { dueBefore: due }),
        ...(flags !== 0 && { flags }),
        limit: linear.u32(request + layout.list_capacity),
      });
    return this.#answer(request + layout.list_op, io, ask, (answer, to) => this.#listDone(request, answer, to));
  }

  trim(request, io) {
    const done = (count, to) => {
      this.#linear.setU32(to + layout.io_count, count);
      return OK;
    };
    return this.#answer(request + layout.trim_op, io, () => this.#store.trim(), done);
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
    const kept = this.#linear.op(op);
    this.outstanding++;
    Promise.resolve(answer).then(
      (value) => this.#complete(kept, (to) => this.#filled(fill, value, to)),
      (error) => this.#complete(kept, () => this.failed(error)),
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

  /** Keeps what a store threw. Returns its result: what it names, otherwise E_STORAGE. */
  failed(error) {
    this.error = error ?? new Error('the store threw nothing');
    return result[error?.code] ?? result.E_STORAGE;
  }

  /** A store has answered later: goes on with `work`, unless the engine has ended by then. */
  #later(work) {
    if (this.closed) return;
    work();
    this.#wake();
  }

  #complete(op, fill) {
    this.outstanding--;
    this.#later(() => this.#done(op, fill));
  }

  #done(op, fill) {
    const linear = this.#linear;
    linear.frame(() => {
      const io = linear.push(layout.io_SIZE);
      linear.exports.store_done(op, fill(io), io);
    });
  }

  // ---- appends

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
    this.#later(() => this.#committed(batch, results));
  }

  #committed(batch, results) {
    batch.forEach(({ op }, index) =>
      this.#done(op, (io) => this.#filled(this.#readResult, results?.[index], io, result.E_IN_DOUBT)),
    );
  }

  #readResult = (answer, io) => {
    if (answer?.result === 'ok') return OK;
    if (answer?.version !== undefined) this.#linear.setNumber(io + layout.io_version, answer.version);
    return result[REFUSALS[answer?.result]] ?? result.E_IN_DOUBT;
  };

  get busy() {
    return this.committing || this.outstanding !== 0 || this.#queue.length !== 0;
  }

  // ---- reads

  #readDone(request, answer, io) {
    const linear = this.#linear;
    const capacity = linear.u32(request + layout.read_capacity);
    const buffer = linear.u32(request + layout.read_buffer);
    let size = 0,
      count = 0;
    linear.setNumber(io + layout.io_version, answer.version);
    if (answer.trimmed) return result.E_TRIMMED;
    for (const block of answer.blocks) {
      if (!ArrayBuffer.isView(block)) throw new TypeError('read: a block is not bytes');
      if (size + block.length > capacity) break;
      linear.u8.set(block, buffer + size);
      size += block.length;
      count++;
    }
    const tooLarge = count === 0 && answer.blocks.length !== 0;
    linear.setU32(io + layout.io_count, count);
    linear.setU32(io + layout.io_size, tooLarge ? answer.blocks[0].length : size);
    return tooLarge ? result.E_LIMIT : OK;
  }

  #listDone(request, answer, io) {
    const linear = this.#linear;
    const items = linear.u32(request + layout.list_items);
    const capacity = linear.u32(request + layout.list_capacity);
    if (answer.items.length > capacity) {
      throw new RangeError(`list: ${answer.items.length} items, where the limit was ${capacity}`);
    }
    answer.items.forEach((item, index) => writeSummary(linear, items + index * layout.summary_SIZE, item));
    linear.setU32(io + layout.io_count, answer.items.length);
    linear.setNumber(io + layout.io_next_due_ms, answer.nextDue ?? Infinity);
    if (answer.cursor !== undefined) {
      this.#cursors.set(++this.#cursor, answer.cursor);
      linear.setNumber(io + layout.io_cursor, this.#cursor);
    }
    return OK;
  }
}
