import type { Engine, Store } from '../index.js';

export interface DurableObjectStore extends Store {
  /**
   * For the object's alarm(): sets the next alarm, then wakes the engine. When waking fails the alarm comes again after
   * retryMs (default 30,000).
   */
  onAlarm(engine: Pick<Engine, 'wake'>, options?: { retryMs?: number }): Promise<void>;
}

/**
 * Agents in a SQLite-backed Durable Object: `durableObject(ctx, { alarm: true })`, or its `ctx.storage`. One engine for
 * each object. Blocks of any size: those above 1 MiB take several rows.
 */
export function durableObject(
  context: { storage: object } | object,
  options?: {
    /**
     * Keeps the object's alarm at the earliest due time; the object's alarm() must call onAlarm. An object has one alarm.
     * Open the engine with timerMaxMs (5000, say): with far timers of its own the object could not hibernate.
     */
    alarm?: boolean;
    /** of its tables' names; default "pagent_" */
    prefix?: string;
    /** While calls are under way the alarm comes this often, in case the object is evicted. Default 60,000. */
    watchMs?: number;
    /** For tests. */
    clock?: () => number;
  },
): DurableObjectStore;
