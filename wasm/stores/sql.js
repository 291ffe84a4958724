// The store of SQLite databases, whoever runs them: sqlite.js and durable-object.js bring the connection.
// One row per head, never deleted; one row per block, or several where a value may not be as large as a block.

import { advance, begin, inspect, refusal, RUNS } from './shared.js';

/** Summary flags of what an engine must look after though no time is due: calls under way, and work. */
export const BUSY = 9;

export const schema = (prefix) => [
  `CREATE TABLE IF NOT EXISTS ${prefix}head (stream TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL,
    epoch INTEGER NOT NULL, base INTEGER NOT NULL, first INTEGER NOT NULL, due INTEGER, time INTEGER NOT NULL,
    state INTEGER NOT NULL, status TEXT NOT NULL, flags INTEGER NOT NULL) WITHOUT ROWID`,
  `CREATE TABLE IF NOT EXISTS ${prefix}block (stream TEXT NOT NULL, version INTEGER NOT NULL, part INTEGER NOT NULL,
    base INTEGER NOT NULL, size INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (stream, version, part)) WITHOUT ROWID`,
  `CREATE INDEX IF NOT EXISTS ${prefix}due ON ${prefix}head (due, stream) WHERE due IS NOT NULL`,
  `CREATE INDEX IF NOT EXISTS ${prefix}busy ON ${prefix}head (stream) WHERE (flags & ${BUSY}) != 0`,
];

/**
 * head.base: the newest snapshot; block.base: that at or before it, as its header says; due is NULL where it is Infinity;
 * block.size: of the whole block, in part 0.
 */
const summaryOf = (row) => ({
  stream: row.stream,
  version: row.version,
  due: row.due ?? Infinity,
  time: row.time,
  state: row.state,
  status: row.status,
  flags: row.flags,
});

export const dueOf = ({ due }) => (due === Infinity ? null : due);

/**
 * What is done inside a transaction that the caller has begun. `all(sql, ...values)` gives rows as objects, `run` none.
 */
export function tables({ all, run, prefix, partSize = Infinity }) {
  const [HEAD, BLOCK] = [`${prefix}head`, `${prefix}block`];
  const headOf = (stream) => all(`SELECT * FROM ${HEAD} WHERE stream = ?`, stream)[0];

  /* Compares and sets at once: what a statement costs is mostly that it is one. */
  function moveHead({ stream, expected, epoch, summary }, blocks) {
    const base = blocks.findLast((block) => block.snapshot)?.version ?? null;
    const { version, time, state, status, flags } = summary;
    return (
      all(
        `UPDATE ${HEAD} SET version = ?, epoch = ?, base = COALESCE(?, base), due = ?, time = ?, state = ?, status = ?,
        flags = ? WHERE stream = ? AND version = ? AND epoch <= ? RETURNING 1`,
        ...[version, epoch, base, dueOf(summary), time, state, status, flags, stream, expected, epoch],
      ).length !== 0
    );
  }

  function addHead(stream, { version, epoch, base, first, summary }) {
    const { time, state, status, flags } = summary;
    run(
      `INSERT INTO ${HEAD} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      ...[stream, version, epoch, base, first, dueOf(summary), time, state, status, flags],
    );
  }

  function addBlock(stream, { bytes, version, based }) {
    for (let at = 0, part = 0; at < bytes.length; at += partSize, part++) {
      const slice = bytes.length <= partSize ? bytes : bytes.subarray(at, at + partSize);
      run(
        `INSERT INTO ${BLOCK} VALUES (?, ?, ?, ?, ?, ?)`,
        ...[stream, version, part, version - based, part ? 0 : bytes.length, slice],
      );
    }
  }

  function append(request, blocks) {
    const { stream } = request;
    if (!moveHead(request, blocks)) {
      const head = headOf(stream);
      const refused = refusal(request, blocks, head);
      if (refused) return refused;
      addHead(stream, advance(request, blocks, head));
    }
    for (const block of blocks) addBlock(stream, block);
    return { result: 'ok' };
  }

  function read(request) {
    const { stream } = request;
    const head = headOf(stream);
    let { result, from, before } = begin(request, head);
    if (result) return result;
    if (before)
      from = all(`SELECT base FROM ${BLOCK} WHERE stream = ? AND version = ? AND part = 0`, stream, from)[0].base;
    if (from < head.first) return { version: head.version, blocks: [], trimmed: true };
    let to = from - 1,
      bytes = 0;
    const sizes = all(
      `SELECT version, size FROM ${BLOCK} WHERE stream = ? AND version >= ? AND part = 0
      ORDER BY version LIMIT 1000`,
      stream,
      from,
    );
    for (const { version, size } of sizes) {
      bytes += size;
      if (bytes > request.maxBytes && to >= from) break;
      to = version;
    }
    const blocks = [];
    let block, filled;
    for (const row of all(
      `SELECT part, size, bytes FROM ${BLOCK} WHERE stream = ? AND version BETWEEN ? AND ?
      ORDER BY version, part`,
      stream,
      from,
      to,
    )) {
      const found = new Uint8Array(row.bytes); /* a copy: a driver may use its memory again */
      if (row.part === 0 && row.size === found.length) blocks.push(found);
      else {
        if (row.part === 0) {
          blocks.push((block = new Uint8Array(row.size)));
          filled = 0;
        }
        block.set(found, filled);
        filled += found.length;
      }
    }
    return { version: head.version, blocks };
  }

  /* Due agents come by time, from their index; what depends on flags comes by stream. */
  function list(request) {
    const { dueBefore, flags, cursor = '', limit } = request;
    let rows, next;
    if (dueBefore && !flags) {
      const [time, stream] = cursor ? cursor.split(' ') : [-1, ''];
      rows = all(
        `SELECT * FROM ${HEAD} WHERE due <= ? AND (due, stream) > (?, ?) ORDER BY due, stream LIMIT ?`,
        dueBefore,
        Number(time),
        stream,
        limit + 1,
      );
      next = (row) => `${row.due} ${row.stream}`;
    } else {
      rows =
        dueBefore || flags
          ? all(
              `SELECT * FROM ${HEAD} WHERE (due <= ? OR (flags & ?) != 0) AND stream > ? ORDER BY stream LIMIT ?`,
              dueBefore ?? -1,
              flags ?? 0,
              cursor,
              limit + 1,
            )
          : all(`SELECT * FROM ${HEAD} WHERE stream > ? ORDER BY stream LIMIT ?`, cursor, limit + 1);
      next = (row) => row.stream;
    }
    const items = rows.slice(0, limit).map(summaryOf);
    return { items, cursor: rows.length > limit ? next(items.at(-1)) : undefined, nextDue: dueAfter(dueBefore ?? -1) };
  }

  const dueAfter = (time) =>
    all(`SELECT MIN(due) AS due FROM ${HEAD} WHERE due > ?`, Number.isFinite(time) ? time : 9e18)[0].due ?? Infinity;

  return {
    append,
    read,
    list,
    dueAfter,
    /** { due, busy }: the earliest due time, and whether an engine must look after any agent before. */
    outlook() {
      const [{ due, busy }] = all(
        `SELECT (SELECT MIN(due) FROM ${HEAD} WHERE due > -1) AS due,
        EXISTS (SELECT 1 FROM ${HEAD} WHERE (flags & ${BUSY}) != 0) AS busy`,
      );
      return { due: due ?? Infinity, busy: busy !== 0 };
    },
    trimmable: () =>
      all(`SELECT stream FROM ${HEAD} WHERE base > first AND (flags & ${RUNS}) = 0`).map((row) => row.stream),
    trim(stream) {
      const head = headOf(stream);
      if (head.base <= head.first || head.flags & RUNS) return 0;
      const { count } = all(
        `SELECT COUNT(*) AS count FROM ${BLOCK} WHERE stream = ? AND version < ? AND part = 0`,
        stream,
        head.base,
      )[0];
      run(`DELETE FROM ${BLOCK} WHERE stream = ? AND version < ?`, stream, head.base);
      run(`UPDATE ${HEAD} SET first = base WHERE stream = ?`, stream);
      return count;
    },
  };
}

/** Appends in one transaction: results, each alone. `failed(error)`: after it was rolled back, the refusal it means. */
export function commitAll(appends, transaction, sql, failed) {
  const inspected = appends.map((append) => inspect(append));
  let results = [];
  try {
    transaction(() => {
      results = [];
      for (const [i, append] of appends.entries()) results.push(sql.append(append, inspected[i]));
    });
    return results;
  } catch (error) {
    const result = failed(error);
    if (!result) throw error;
    /* nothing was applied: what was refused before stays refused */
    return appends.map((_, i) => (results[i] && results[i].result !== 'ok' ? results[i] : { result }));
  }
}
