import type { DirectoryOptions, DirectoryStore } from './directory.js';

export interface OpfsOptions extends DirectoryOptions {
  /** Opens nothing for writing, so that many may read at once, where the browser knows such handles; not beside an owner. */
  readOnly?: boolean;
  /** Files that are kept open and free, for new segments. Default: 8, or 32 with logPerAgent; grows with what is used. */
  reserve?: number;
  /** How long to try while another worker has the store: one that was just terminated lets go of it a moment later. 0. */
  waitMs?: number;
}

/**
 * Agents in a folder of the browser's origin-private file system. In a dedicated worker only: the engine runs there too.
 * The file store's own bytes, in a pool of files that stay open; a commit is flushed before it is acknowledged.
 *
 * One worker of the origin owns the folder: for a second one opening is refused with E_LOCKED, until the first calls
 * close() or ends. A full quota is E_NO_SPACE, and goes by itself. Rejects with E_CORRUPT where a pool file's name is lost.
 * Ask navigator.storage.persist(), or the browser may remove it all when space runs low.
 */
export function opfs(path: string, options?: OpfsOptions): Promise<OpfsStore>;

export interface OpfsStore extends Omit<DirectoryStore, 'durability'> {
  /** Flushed; but whether the folder itself survives a power cut, no browser says. */
  readonly durability: 'process';
  /** The files, whole, by name: written to a directory they are a native store. While no engine runs. */
  contents(): IterableIterator<[name: string, bytes: Uint8Array]>;
  /** After the engine's close(): lets go of all files, for another worker. */
  close(): Promise<void>;
}
