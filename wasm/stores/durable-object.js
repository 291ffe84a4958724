// Agents in a SQLite-backed Durable Object: its storage, and its alarm as their clock.

import { inspect } from './shared.js';
import { BUSY, commitAll, dueOf, schema, tables } from './sql.js';

const PART = 1 << 20; /* a row may have 2 MB */

/* An append of one block as one statement, which happens or fails as a whole. */
const stepSchema = (prefix) => [
  `CREATE VIEW IF NOT EXISTS ${prefix}step (stream, expected, epoch, snapshot, due, time, state, status, flags, base, bytes)
    AS SELECT stream, version, epoch, NULL, due, time, state, status, flags, base, NULL FROM ${prefix}head`,
  `CREATE TRIGGER IF NOT EXISTS ${prefix}append INSTEAD OF INSERT ON ${prefix}step BEGIN
    UPDATE ${prefix}head SET version = NEW.expected + 1, epoch = NEW.epoch, base = COALESCE(NEW.snapshot, base),
      due = NEW.due, time = NEW.time, state = NEW.state, status = NEW.status, flags = NEW.flags
      WHERE stream = NEW.stream AND version = NEW.expected AND epoch <= NEW.epoch;
    SELECT RAISE(ABORT, 'no such head') WHERE changes() = 0;
    INSERT INTO ${prefix}block VALUES (NEW.stream, NEW.expected + 1, 0, NEW.base, LENGTH(NEW.bytes), NEW.bytes);
  END`,
];

/**
 * `alarm`: keeps the object's alarm at the earliest due time, in the transaction that changes it. Agents with calls under
 * way or work left have no due time of their own: for them it comes after `watchMs`, so that an object that was evicted in
 * the middle is started again.
 */
export function durableObject(context, { alarm = false, prefix = 'pagent_', watchMs = 60000, clock = Date.now } = {}) {
  const storage = context.storage ?? context;
  if (typeof storage.transactionSync !== 'function' || !storage.sql) {
    throw new TypeError('durableObject: it is not SQLite-backed: declare its class under new_sqlite_classes');
  }
  if (!/^[A-Za-z][A-Za-z0-9_]*$/.test(prefix)) throw new TypeError('durableObject: the prefix is not a name');
  const sql = tables({
    prefix,
    partSize: PART,
    all: (text, ...values) => storage.sql.exec(text, ...values).toArray(),
    run: (text, ...values) => {
      storage.sql.exec(text, ...values).toArray();
    },
  });
  storage.transactionSync(() => {
    for (const text of [...schema(prefix), ...stepSchema(prefix)]) storage.sql.exec(text);
  });
  let armed; /* when the alarm will come, as far as this instance knows; undefined: it does not know */

  const wish = ({ due, busy }) => (busy ? Math.min(due, clock() + watchMs) : due);

  /* Whether the alarm is early enough for what these appends ask for. For all else it was before. */
  function suffices(summaries) {
    if (armed === undefined || armed <= clock()) return false;
    const due = Math.min(...summaries.map((summary) => summary.due));
    const need = wish({ due, busy: summaries.some(({ flags }) => (flags & BUSY) !== 0) });
    return need === armed || (armed < need && need < Infinity);
  }

  /* Inside a transaction. An alarm that comes too early is harmless, and not moved for agents that are only watched. */
  function arm(earliest = 0) {
    const outlook = sql.outlook(),
      wanted = Math.max(wish(outlook), earliest);
    const kept =
      armed !== undefined && (armed === wanted || (armed <= wanted && armed > clock() && wanted < outlook.due));
    if (kept) return null;
    armed = wanted;
    return wanted === Infinity ? storage.deleteAlarm() : storage.setAlarm(wanted);
  }

  /* An alarm that failed too often, or that a host forgot when it was restarted, comes again once the object is used. */
  if (alarm && wish(sql.outlook()) !== Infinity)
    storage
      .transactionSync(() => arm())
      ?.catch(() => {
        armed = undefined;
      });

  const STEP = `INSERT INTO ${prefix}step VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

  /** Whether this append was one that a single statement does. It needs no transaction around it, which costs as much. */
  function step(append) {
    const { stream, expected, epoch, blocks, summary } = append;
    if (expected === 0 || blocks.length !== 1 || blocks[0].length > PART) return false;
    const [{ version, snapshot, based, bytes }] = inspect(append);
    const { time, state, status, flags } = summary;
    try {
      const rebased = snapshot ? version : null;
      const due = dueOf(summary);
      storage.sql.exec(STEP, stream, expected, epoch, rebased, due, time, state, status, flags, version - based, bytes);
      return true;
    } catch {
      return false; /* why, the transaction will find */
    }
  }

  async function durable(promise) {
    try {
      if (promise) await promise;
      await storage.sync();
    } catch (error) {
      armed = undefined;
      throw error;
    }
  }

  return {
    durability: 'power',

    async commit(appends) {
      const arms = alarm && !suffices(appends.map(({ summary }) => summary));
      if (!arms && appends.length === 1 && step(appends[0])) {
        await durable();
        return [{ result: 'ok' }];
      }
      let set = null;
      const before = armed;
      let results;
      try {
        results = commitAll(
          appends,
          (body) =>
            storage.transactionSync(() => {
              body();
              if (arms) set = arm();
            }),
          sql,
          (error) => (/SQLITE_FULL|database or disk is full/.test(error?.message) ? 'no-space' : null),
        );
      } catch (error) {
        armed = undefined;
        throw error;
      }
      if (results.some(({ result }) => result === 'no-space')) armed = before;
      if (results.some(({ result }) => result === 'ok')) await durable(set);
      return results;
    },

    read: (request) => sql.read(request),
    list: (request) => sql.list(request),

    async trim() {
      let count = 0;
      for (const stream of sql.trimmable()) count += storage.transactionSync(() => sql.trim(stream));
      await storage.sync();
      return count;
    },

    /**
     * For the object's alarm(). The alarm that came is spent, and after six failures it would not come again: so the next
     * one is set first, and only then the engine runs.
     */
    async onAlarm(engine, { retryMs = 30000 } = {}) {
      armed = undefined;
      await durable(storage.transactionSync(() => arm(clock() + retryMs)));
      await engine.wake();
      armed = undefined;
      await durable(storage.transactionSync(() => arm()));
    },
  };
}
