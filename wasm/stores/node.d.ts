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
 * The lock only keeps writers from disturbing each other. A native owner takes one that JavaScript can not take (it is on
 * an open file description): opening here is refused with E_LOCKED for a second engine of the same thread and, on Linux,
 * while a native owner runs. Two processes in JavaScript do not see each other, and a native program does not see one in
 * JavaScript: the later one takes over. Start one.
 *
 * Not on network file systems, nor where there are no hard links (FAT).
 */
export function files(path: string | URL, options?: DirectoryOptions): DirectoryStore;
