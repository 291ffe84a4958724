// Opens a database file with whatever SQLite this runtime has; better-sqlite3 where it is asked for.

export const driver = globalThis.Bun ? 'bun:sqlite' : (process.env.SQLITE_DRIVER ?? 'node:sqlite');

const { open } = await {
  async 'bun:sqlite'() {
    const { Database } = await import('bun:sqlite');
    return { open: (path) => new Database(path) };
  },
  async 'node:sqlite'() {
    const { DatabaseSync } = await import('node:sqlite');
    return { open: (path) => new DatabaseSync(path) };
  },
  async 'better-sqlite3'() {
    const { default: Database } = await import('better-sqlite3');
    return { open: (path) => new Database(path) };
  },
}[driver]();

export { open };
