import type { Store } from '../index.js';

/** node:sqlite's DatabaseSync, bun:sqlite's Database, or better-sqlite3's. */
export interface SqliteDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): { all(...values: any[]): any[]; run(...values: any[]): unknown };
}

/**
 * Agents in a SQLite database file that you have opened, in tables of their own. It is set to journal_mode WAL and
 * synchronous FULL; `:memory:` has durability "none". Several processes may open the file: one that does not get its turn
 * within busyTimeoutMs (which blocks its thread) answers "again". Not on network file systems.
 * With several connections use SQLite 3.51.3, 3.50.7, 3.44.6 or newer: older ones can lose a reset of the WAL.
 * After an error in COMMIT that is not a full disk, the store refuses everything: close the database and open it again.
 * close() leaves the database open.
 */
export function sqlite(options: {
  database: SqliteDatabase;
  /** of its tables' names; default "pagent_" */
  prefix?: string;
  /** default 1,000 */
  busyTimeoutMs?: number;
}): Store;
