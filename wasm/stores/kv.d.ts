import type { Json, Store } from '../index.js';

/** Where a stream stood: `version` and `link` of View. */
export interface Anchor {
  version: number;
  /** 16 hex digits; absent: only the version is checked */
  link?: string;
}

export interface KvStore extends Store {
  /** Where a stream stands now. Keep it elsewhere, and give it to the next opening as its anchor. */
  anchor(stream: string): Promise<Anchor>;
}

/**
 * Agents in Workers KV: only where a Durable Object can not be had. KV compares nothing, so there must be one writer, and
 * nobody but you can see to that; and it shows what was written only after a while, so whoever opens it must wait, or know.
 * - Without `singleWriter: true` it throws.
 * - An agent can be written when its anchor is what can be seen, or 60 seconds after the store was opened (by then all is
 *   visible that was written before). Until then commits answer "again". Agents that are new are no exception: what can
 *   not be seen may exist. The anchor of an agent that does not exist is { version: 0 }.
 * - A second writer is found out: read and commit of that agent throw an error with code "E_FOREIGN". A stale or shortened
 *   view throws "E_LOST_TAIL". list() shows such an agent with flag 128. Nothing is ever overwritten.
 * - One put for each append; list() walks over all keys once.
 */
export function kv(
  namespace: object,
  options: {
    singleWriter: true;
    anchors?:
      | Record<string, Anchor>
      | Map<string, Anchor>
      | ((stream: string) => Anchor | undefined | null | Promise<Anchor | undefined | null>);
    /** of its keys; default "agent" */
    prefix?: string;
    /** How long KV may hide what was written; default 60,000. */
    settleMs?: number;
    /** No writer has written since this time, as the host knows: milliseconds since 1970. By default the opening. */
    idleSince?: number;
    /** of one put, `retryMs`, twice as much, … apart; then it throws. Default 4, and 1,000. */
    tries?: number;
    retryMs?: number;
    /** For tests. */
    clock?: () => number;
    /** Of blocks kept in memory; default 8 MiB. */
    cacheBytes?: number;
  },
): KvStore;

/** Puts an exported agent under a key. Readers elsewhere see it within a minute; the newest put wins. */
export function exportTo(
  namespace: object,
  key: string,
  bytes: Uint8Array,
  options?: {
    /** seconds, 60 at least */
    expirationTtl?: number;
    metadata?: Record<string, Json>;
  },
): Promise<void>;
/** What exportTo has put there, perhaps not the newest; null: nothing that can be seen. */
export function importFrom(namespace: object, key: string): Promise<Uint8Array | null>;
/** JSON near those who read it, made anew when it has expired: `ttl` is in seconds, 60 at least. */
export function cached<T extends Json>(
  namespace: object,
  key: string,
  make: () => T | Promise<T>,
  options?: { ttl?: number },
): Promise<T>;
