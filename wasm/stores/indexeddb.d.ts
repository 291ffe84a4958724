import type { Store } from '../index.js';

export interface IndexedDBOptions {
  /** "strict" (default): survives a power cut, as far as browser and disk do as told. "relaxed": survives the browser. */
  durability?: 'strict' | 'relaxed';
  readOnly?: boolean;
  /**
   * After each commit the other tabs that also gave this option are told which agents have changed; a function hears
   * of theirs. A hint only: it may come late, or never.
   */
  changed?: true | ((streams: string[]) => void);
  /** The store has ended by itself: another tab brings a newer schema, or deletes the database. */
  closed?: (reason: Error) => void;
  /** Opening waits for another tab that has not let go of an older schema. */
  blocked?: () => void;
  /** Absent: the global one. A storage bucket has its own. */
  factory?: IDBFactory;
}

/** Agents in the browser's IndexedDB, shared by all tabs and workers of the origin. */
export function indexedDB(name: string, options?: IndexedDBOptions): Promise<IndexedDBStore>;

export interface IndexedDBStore extends Store {
  /** "power" only where the browser confirms strict durability. */
  readonly durability: 'process' | 'power';
  readonly readOnly: boolean;
  trim(): Promise<number>;
  close(): void;
}

/** Asks the browser not to evict this origin's data when space runs low. Whether it will not. */
export function persist(): Promise<boolean>;

/** In bytes. */
export function estimate(): Promise<{ usage: number; quota: number; persisted: boolean }>;

/**
 * Resolves when this tab is the one that should run the engine: give `signal` to `open`. Web Locks give liveness only;
 * what keeps two engines apart is the store. Rejects when `signal` is aborted before.
 */
export function leader(name: string, options?: { signal?: AbortSignal }): Promise<Leadership>;

export interface Leadership {
  /** Aborted when the leadership ends: released, or stolen by another tab. */
  readonly signal: AbortSignal;
  release(): void;
}
