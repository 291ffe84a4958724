import type { Store } from '../index.js';

/**
 * Agents in Deno KV: `denoKv(await Deno.openKv(path))`. Several processes may open it. Blocks of any size: those that are
 * too large for one atomic operation are written ahead, and referred to by the head. What crashed in between is removed by
 * trim(), an hour later. The database stays open: it is yours.
 */
export function denoKv(
  kv: object,
  options?: {
    /** of its keys; default ["pagent"] */
    prefix?: (string | number)[];
    /** while the database is locked; then "again". Default 20. */
    tries?: number;
  },
): Store;
