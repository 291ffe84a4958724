// The conformance kit: run it on a store of your own. It uses no test framework, and runs in any runtime.

import type { Store } from './index.js';

export interface KitOptions {
  /**
   * A store over the data of this name; empty at the first call. Called again while the first is open, it gives another
   * instance over the same data, as another process would have.
   */
  open: (name: string) => Store | Promise<Store>;
  /** After close(); by default `open`. A store whose durability is "none" is reopened only if this is given. */
  reopen?: (name: string) => Store | Promise<Store>;
  /** Ends the store of this name as a crash would, in the middle of commits. `open` then finds what is left. */
  kill?: (name: string) => void | Promise<void>;
  log?: (line: string) => void;
  /** Only checks whose names contain this. */
  only?: string;
  /** There is never a second instance: what needs one is skipped. */
  singleWriter?: boolean;
  timeoutMs?: number;
  /** What names begin with. */
  names?: string;
}

export interface KitOutcome {
  passed: number;
  failed: number;
  skipped: number;
  failures: { name: string; error: unknown }[];
  skips: { name: string; reason: string }[];
}

export function runKit(options: KitOptions): Promise<KitOutcome>;
export const checkNames: string[];

export interface Acked {
  stream: string;
  version: number;
  link: string;
}

/**
 * For crash tests from outside: appends until it is stopped, or its process killed. `report` is told of each append that
 * the store has acknowledged; it should write that where the kill does not reach.
 */
export function startWriter(
  store: Store,
  report: (acked: Acked) => void | Promise<void>,
  options?: {
    /** of the blocks' content: one number for each writer that races on the same store */
    writer?: number;
    /** streams */
    count?: number;
    /** of a payload */
    sizeMax?: number;
    seed?: number;
    /** It stops by itself after this many acknowledged appends. */
    limit?: number;
  },
): { stop(): void; done: Promise<{ acked: number; conflicts: number; again: number; doubts: number }> };

/** After the crash: `lost` names every acknowledged version that is not there as it was written, and every broken chain. */
export function checkWritten(store: Store, acked: Iterable<Acked>): Promise<{ lost: string[]; blocks: number }>;

/** One block with a true header and a random payload that wrongBlock() knows again. */
export function makeBlock(fields: {
  stream: string;
  version: number;
  epoch?: number;
  previous?: string;
  snapshot?: boolean;
  based?: number;
  size?: number;
  writer?: number;
}): Uint8Array;
/** What is wrong with such a block; '' if nothing is. */
export function wrongBlock(block: Uint8Array): string;
/** What the previousLink() of the block after this one is. */
export function link(block: Uint8Array): string;
