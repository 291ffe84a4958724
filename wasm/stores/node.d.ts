import type { Data, EffectId, Receipt } from '../index.js';
import type { DirectoryOptions, DirectoryStore } from './directory.js';

/**
 * Agents in the files of a directory, by node:fs: Node, Bun, Deno. The bytes are those of the native file store: a
 * program in C, `pagentctl` and this one can go on with each other's work, one after the other.
 *
 * Every commit is synced with fdatasync before it is acknowledged, on the caller's thread.
 *
 * Only one engine writes at a time, and what enforces that is not the lock: each writer appends only to segments that it
 * has published itself under the next free number, and acknowledges only while no higher one is there. So the newest
 * writer wins, and an older one that is still running gets E_FENCED, with nothing lost that was acknowledged.
 * The lock only keeps writers from disturbing each other: with one, the second is refused with E_LOCKED. It is the
 * system's, ends with the process, and a native owner heeds it, in Bun, in Deno, and in Node from 22.13 on: their SQLite
 * takes it on the empty file `lock`. An older Node has none: it sees (on Linux) the locks of others, but neither another
 * one of its kind nor a native program sees it, and the later one takes over. Start one.
 *
 * Not on network file systems, nor where there are no hard links (FAT).
 */
export function files(path: string | URL, options?: DirectoryOptions): DirectoryStore;

/**
 * The inbox of a directory that another process owns, native or not: takes no lock, reads no agent. The owner collects
 * messages between its steps (limits.inboxIntervalMs) and leaves a receipt for each.
 * Needs the directory: E_NOT_FOUND where there is none.
 */
export function inbox(path: string | URL): Promise<Inbox>;

export interface Inbox {
  /** Durable when it returns. The same message again under the same id is the same message; another one is E_EXISTS. */
  send(message: Message): void;
  /** The owner's receipt, which is removed with that; undefined while there is none. Throws what the owner refused. */
  receipt(id: string): Receipt | undefined;
}

/** What an engine's methods of these names take. */
export interface Message {
  verb: 'create' | 'post' | 'approve' | 'reject' | 'edit' | 'cancel' | 'rollback' | 'fork' | 'retry' | 'moveOut';
  agent: string;
  /** up to 127 bytes, and used for nothing else */
  id: string;
  /** create */
  machine?: string;
  /** post */
  signal?: string;
  /** fork */
  newAgent?: string;
  /** approve, reject, edit */
  who?: string;
  effect?: EffectId;
  digest?: string;
  /** rollback, fork */
  version?: number;
  /** rollback */
  force?: boolean;
  expectedVersion?: number;
  data?: Data;
}
