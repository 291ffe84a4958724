// What open() and the requests take as options: E_ARGUMENT for everything else.

import * as layout from './layout.js';
import { callable, known, refuse, whole } from './errors.js';
import { NONE, VERBS } from './request.js';

const OPEN = 'store machines calls wasm limits readOnly holdEffects signal timerMaxMs clock random trace'.split(' ');
const MORE = {
  [VERBS.decide]: 'who effect digest data',
  [VERBS.cancel]: 'reason',
  [VERBS.rollback]: 'version force',
  [VERBS.fork]: 'version',
};

/** The limits, and where each goes. */
export const LIMITS = {
  contextSizeMax: layout.limits_context_size_max,
  payloadSizeMax: layout.limits_payload_size_max,
  blockSizeMax: layout.limits_block_size_max,
  effectsMax: layout.limits_effects_max,
  mailboxMax: layout.limits_mailbox_max,
  dedupeCount: layout.limits_dedupe_count,
  loadedMax: layout.limits_loaded_max,
  requestsMax: layout.limits_requests_max,
  alwaysMax: layout.limits_always_max,
  splicesMax: layout.limits_splices_max,
  snapshotFactor: layout.limits_snapshot_factor,
  snapshotFloor: layout.limits_snapshot_floor,
  inboxIntervalMs: layout.limits_inbox_interval_ms,
  idleSealMs: layout.limits_idle_seal_ms,
  retryPauseMs: layout.limits_retry_pause_ms,
  fullSnapshots: layout.limits_full_snapshots,
};

export const requestOptions = (verb, options = NONE) =>
  options === null || options === NONE
    ? NONE
    : known(options, `id expectedVersion ${MORE[verb] ?? ''}`.trim().split(' '), 'options');

const isStore = (store) =>
  typeof store.directory?.imports === 'function' ||
  ['commit', 'read', 'list'].every((name) => typeof store[name] === 'function');

export function openOptions(options) {
  const { store, machines = [], calls, limits = {}, timerMaxMs = Infinity, signal } = known(options, OPEN, 'options');
  if (store !== undefined && !isStore(store ?? {})) refuse('store: it needs commit, read and list, or a directory');
  if (!Array.isArray(machines)) refuse('machines: not an array');
  for (const key of ['clock', 'random', 'trace']) callable(options[key], key);
  for (const name in calls) callable(calls[name], `calls: '${name}'`);
  for (const key in known(limits, Object.keys(LIMITS), 'limits'))
    if (limits[key] !== undefined && key !== 'fullSnapshots') whole(limits[key], `limits: ${key}`);
  if (signal !== undefined && typeof signal?.throwIfAborted !== 'function') refuse('signal: not an AbortSignal');
  if (!(timerMaxMs >= 0)) refuse('timerMaxMs: not a number of milliseconds');
  return options;
}
