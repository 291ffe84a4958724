import type { Store } from '../index.js';

/**
 * Agents that die with the process. `data` may be shared: a second store over it finds what the first one wrote, which is
 * how tests see what a new engine makes of an old journal.
 */
export function memory(options?: { data?: Map<string, unknown> }): Store;
