// persistent-agent/node: a directory of files, the same bytes as the file store of persistent_agent.h writes natively.
// Over node:fs's synchronous calls: Node, Bun, and Deno (with --allow-read and --allow-write for the directory).
//
// A file's handle is its descriptor + 1. What follows mirrors the header's [POSIX] section, call by call, but for the
// lock: node:fs has none (see systemLock). Nothing but liveness depends on it, see node.d.ts.

import {
  accessSync,
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { directoryStore, refusal } from '../directory.js';
import { Inbox } from '../inbox.js';
import { load } from '../index.js';

const ZEROS = new Uint8Array(64 * 1024);
const CODES = {
  ENOENT: 'E_NOT_FOUND',
  ENOTDIR: 'E_NOT_FOUND',
  EEXIST: 'E_EXISTS',
  ENOSPC: 'E_NO_SPACE',
  EDQUOT: 'E_NO_SPACE',
  EFBIG: 'E_NO_SPACE',
  ENOMEM: 'E_MEMORY',
};
const opened = new Set(); // real paths locked in this thread

/** Calls of the system, again after EINTR; their errors by the names of persistent_agent.h. */
function system(work) {
  for (;;) {
    try {
      return work();
    } catch (error) {
      if (error.code === 'EINTR') continue;
      throw refusal(CODES[error.code] ?? 'E_STORAGE', error.message, error);
    }
  }
}

class Folder {
  #path;
  #files = new Map(); // handle: { name, temp, size } — size only where nobody else writes to it
  #locked; // its real path
  #lock; // of the system

  constructor(path) {
    this.#path = path;
  }

  #at(name) {
    return join(this.#path, name);
  }

  prepare(readOnly) {
    this.#path = resolve(this.#path); // chdir() does not move it
    if (readOnly) {
      if (!system(() => statSync(this.#path)).isDirectory())
        throw refusal('E_NOT_FOUND', `${this.#path} is no directory`);
      return;
    }
    const first = system(() => mkdirSync(this.#path, { recursive: true }));
    for (let made = this.#path; first !== undefined; made = dirname(made)) {
      this.#syncPath(dirname(made));
      if (made.length <= resolve(first).length) break;
    }
    let made = true;
    try {
      system(() => mkdirSync(this.#at('inbox')));
    } catch (error) {
      if (error.code !== 'E_EXISTS') throw error;
      made = false;
    }
    if (made || !this.exists('lock')) this.#syncPath(this.#path); // where it is, an earlier opening has come past here
  }

  release() {
    for (const file of [...this.#files.keys()]) this.close(file);
    this.unlock();
  }

  read(file, bytes, offset) {
    return system(() => readSync(file - 1, bytes, 0, bytes.length, offset));
  }

  write(file, bytes, offset) {
    const entry = this.#files.get(file);
    const done = system(() => writeSync(file - 1, bytes, 0, bytes.length, offset));
    if (entry?.size < offset + done) entry.size = offset + done;
    return done;
  }

  /** Also tells when the file was removed. By its name: fstat makes Linux give the next write a fresh time to sync. */
  sync(file) {
    system(() => fdatasyncSync(file - 1));
    const { name } = this.#files.get(file) ?? {};
    if (name !== undefined && !this.exists(name)) throw refusal('E_FENCED', `${this.#at(name)} was removed`);
  }

  /** Zeros are written: there is no fallocate here, and a hole is not backed by space. */
  truncate(file, size) {
    const before = this.size(file);
    const entry = this.#files.get(file);
    let at = before;
    try {
      while (at < size) at += this.write(file, ZEROS.subarray(0, Math.min(ZEROS.length, size - at)), at);
      if (before <= size) return;
    } catch (error) {
      ftruncateSync(file - 1, before); // as long as it was
      if (entry?.size !== undefined) entry.size = before;
      throw error;
    }
    system(() => ftruncateSync(file - 1, size));
    if (entry?.size !== undefined) entry.size = size;
  }

  size(file) {
    return this.#files.get(file)?.size ?? system(() => fstatSync(file - 1)).size;
  }

  open(name, write) {
    const file = system(() => openSync(this.#at(name), write ? 'r+' : 'r')) + 1;
    this.#files.set(file, { name });
    return file;
  }

  create(name) {
    const file = system(() => openSync(this.#at(name), 'wx+')) + 1;
    this.#files.set(file, { name, temp: true, size: 0 });
    return file;
  }

  publish(file, name, exclusive) {
    const entry = this.#files.get(file);
    if (!entry?.temp) throw refusal('E_ARGUMENT', `file ${file} is published already`);
    const from = this.#at(entry.name),
      to = this.#at(name);
    if (exclusive) {
      system(() => linkSync(from, to)); // does not replace
      try {
        unlinkSync(from);
      } catch {
        // a second name that stays is removed as a leftover
      }
    } else {
      system(() => renameSync(from, to));
    }
    entry.name = name;
    entry.temp = false;
  }

  close(file) {
    this.#files.delete(file);
    try {
      closeSync(file - 1);
    } catch (error) {
      // never again after EINTR: the descriptor is gone, and may be another's already
      if (error.code !== 'EINTR') throw refusal('E_STORAGE', error.message, error);
    }
  }

  remove(name) {
    system(() => unlinkSync(this.#at(name)));
  }

  exists(name) {
    try {
      system(() => accessSync(this.#at(name), constants.F_OK));
      return true;
    } catch (error) {
      if (error.code === 'E_NOT_FOUND') return false;
      throw error;
    }
  }

  list(folder) {
    return system(() => readdirSync(this.#at(folder)));
  }

  #syncPath(path) {
    let descriptor;
    try {
      descriptor = openSync(path, 'r');
      fsyncSync(descriptor);
    } catch (error) {
      // no such thing on this system (Windows) or file system
      if (!['EINVAL', 'EISDIR', 'EPERM', 'ENOTSUP'].includes(error.code))
        throw refusal('E_STORAGE', error.message, error);
    } finally {
      if (descriptor !== undefined) closeSync(descriptor);
    }
  }

  syncDirectory(folder) {
    this.#syncPath(this.#at(folder));
  }

  /** A lock of the system where this runtime can take one; otherwise only a look at those of others. */
  lock() {
    const path = system(() => realpathSync(this.#path));
    if (opened.has(path)) throw refusal('E_LOCKED', `${path} is open in another engine`);
    this.#lock = systemLock(join(path, 'lock'));
    if (this.#lock === undefined) {
      const descriptor = system(() => openSync(join(path, 'lock'), 'a+', 0o666));
      try {
        if (lockedOnLinux(fstatSync(descriptor, { bigint: true }))) throw refusal('E_LOCKED', `${path} is locked`);
      } finally {
        closeSync(descriptor);
      }
    }
    opened.add(path);
    this.#locked = path;
  }

  unlock() {
    if (this.#locked !== undefined) opened.delete(this.#locked);
    this.#locked = undefined;
    this.#lock?.close();
    this.#lock = undefined;
  }
}

/** The runtime's own SQLite; undefined: it has none. */
function ownSqlite() {
  const { process } = globalThis,
    { emitWarning } = process;
  try {
    process.emitWarning = () => {}; // that it is experimental: no table is ever made
    const { Database, DatabaseSync } = process.getBuiltinModule(globalThis.Bun ? 'bun:sqlite' : 'node:sqlite');
    return Database ?? DatabaseSync;
  } catch {
    return undefined;
  } finally {
    process.emitWarning = emitWarning;
  }
}

/**
 * node:fs has no locks, but SQLite takes the system's: of an empty database that is locked exclusively it locks bytes,
 * and writes none. A native owner's lock covers those bytes, too: each keeps the other out. It is gone with the process;
 * and with any descriptor of the file that is closed here, so nothing else in this module opens it.
 */
function systemLock(path) {
  const Database = ownSqlite();
  if (Database === undefined) return undefined;
  let database;
  try {
    database = new Database(path);
    database.exec('PRAGMA busy_timeout = 0');
    database.exec('PRAGMA journal_mode = MEMORY'); // no file beside it
    database.exec('BEGIN EXCLUSIVE');
    return database;
  } catch (error) {
    database?.close();
    if (/locked/.test(error.message)) throw refusal('E_LOCKED', `${path} is locked`, error);
    return undefined;
  }
}

/** Does /proc/locks name this file? Where it can not be read, nobody knows: no. */
function lockedOnLinux({ dev, ino }) {
  if (globalThis.process?.platform !== 'linux') return false;
  let locks;
  try {
    locks = readFileSync('/proc/locks', 'utf8');
  } catch {
    return false;
  }
  const hex = (number) => number.toString(16).padStart(2, '0');
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn),
    minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return locks
    .split('\n')
    .some(
      (line) => / WRITE /.test(line) && !line.includes('->') && line.includes(` ${hex(major)}:${hex(minor)}:${ino} `),
    );
}

const textOf = (path) => (path instanceof URL ? fileURLToPath(path) : path);

/** Agents in the files of a directory, which is made where it is missing. */
export function files(path, options = {}) {
  return directoryStore(new Folder(textOf(path)), options);
}

let module;

/** The inbox of a directory that another process owns. */
export async function inbox(path) {
  const folder = new Folder(textOf(path));
  folder.prepare(true);
  module ??= load(new URL('../persistent_agent_files.wasm', import.meta.url));
  return new Inbox(await module, directoryStore(folder, {}).directory);
}
