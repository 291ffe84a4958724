// Agents in a SQLite database that you have opened: node:sqlite, bun:sqlite or better-sqlite3.

import { commitAll, schema, tables } from './sql.js';
import { failure } from './shared.js';

const [BUSY, LOCKED, FULL] = [5, 6, 13];

/* SQLite's primary result: node has a number in errcode, bun in errno, better-sqlite3 a name in code. */
function resultOf(error) {
  const number = error?.errcode ?? error?.errno;
  if (typeof number === 'number') return number & 255;
  const name = /^SQLITE_(BUSY|LOCKED|FULL)/.exec(error?.code ?? '');
  return name ? { BUSY, LOCKED, FULL }[name[1]] : 0;
}

export function sqlite({ database, prefix = 'pagent_', busyTimeoutMs = 1000 }) {
  if (typeof database?.prepare !== 'function' || typeof database.exec !== 'function') {
    throw new TypeError('sqlite: `database` is no DatabaseSync, bun:sqlite Database or better-sqlite3 Database');
  }
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(prefix)) throw new TypeError('sqlite: the prefix is not a name');
  const statements = new Map();
  const prepare = (text) => {
    let statement = statements.get(text);
    if (!statement) statements.set(text, (statement = database.prepare(text)));
    return statement;
  };
  const all = (text, ...values) => prepare(text).all(...values);
  const run = (text, ...values) => {
    prepare(text).run(...values);
  };
  const pragma = (name) => Object.values(database.prepare(`PRAGMA ${name}`).all()[0] ?? {})[0];

  /* WAL: readers do not stop the writer. FULL: synced before COMMIT returns. fullfsync: macOS syncs to the disk only so. */
  database.exec(`PRAGMA busy_timeout = ${Math.max(busyTimeoutMs, 5000)}`);
  for (let tries = 1; ; tries++) {
    try {
      database.prepare('PRAGMA journal_mode = WAL').all();
      break;
    } catch (error) {
      /* two processes change a new file: here SQLite does not wait by itself, in BEGIN it does */
      if (resultOf(error) !== BUSY || tries === 100) throw error;
      try {
        database.exec('BEGIN IMMEDIATE');
      } catch {
        continue;
      }
      database.exec('COMMIT');
    }
  }
  for (const text of ['synchronous = FULL', 'fullfsync = ON', 'checkpoint_fullfsync = ON'])
    database.exec(`PRAGMA ${text}`);
  const mode = String(pragma('journal_mode')).toLowerCase();
  if (mode !== 'wal' && mode !== 'memory') throw new Error(`sqlite: journal_mode is ${mode}, not wal`);
  const made = database
    .prepare('SELECT COUNT(*) AS count FROM sqlite_schema WHERE name IN (?, ?, ?, ?)')
    .all(...['head', 'block', 'due', 'busy'].map((name) => prefix + name))[0].count;
  if (made < 4) {
    database.exec('BEGIN IMMEDIATE');
    try {
      for (const text of schema(prefix)) database.exec(text);
      database.exec('COMMIT');
    } catch (error) {
      rollback();
      throw error;
    }
  }
  database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);

  const sql = tables({ all, run, prefix });
  let broken;

  function rollback() {
    try {
      database.exec('ROLLBACK');
    } catch {
      /* SQLite has done so itself */
    }
  }

  /* An error in COMMIT is told apart: only there nobody knows whether it happened. */
  function transaction(how, body) {
    if (broken)
      throw failure('E_STORAGE', 'the database failed in a COMMIT: close it, and open it again', { cause: broken });
    prepare(how).run();
    let result;
    try {
      result = body();
    } catch (error) {
      rollback();
      throw error;
    }
    try {
      prepare('COMMIT').run();
    } catch (error) {
      rollback();
      if (resultOf(error) !== FULL) broken = error;
      throw failure('E_IN_DOUBT', `COMMIT: ${error.message}`, { cause: error });
    }
    return result;
  }

  return {
    durability: mode === 'wal' ? 'power' : 'none',
    blockSizeMax: 999999936 /* SQLITE_MAX_LENGTH, less the other columns */,

    commit: (appends) =>
      appends.length === 0
        ? []
        : commitAll(
            appends,
            (body) => transaction('BEGIN IMMEDIATE', body),
            sql,
            (error) => {
              if (error.code === 'E_IN_DOUBT' || broken) return null;
              return { [BUSY]: 'again', [LOCKED]: 'again', [FULL]: 'no-space' }[resultOf(error)];
            },
          ),
    read: (request) => transaction('BEGIN', () => sql.read(request)),
    list: (request) => transaction('BEGIN', () => sql.list(request)),

    trim() {
      let count = 0;
      for (const stream of transaction('BEGIN', sql.trimmable))
        count += transaction('BEGIN IMMEDIATE', () => sql.trim(stream));
      return count;
    },

    /** The database stays open: it is yours. */
    close() {
      for (const statement of statements.values()) statement.finalize?.();
      statements.clear();
    },
  };
}
