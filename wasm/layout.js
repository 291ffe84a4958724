// Made by tools/layout.mjs from persistent_agent.h: offsets and sizes in linear memory.

export const bytes = { SIZE: 8, data: 0, size: 4 };
export const effect_id = { SIZE: 16, version: 0, index: 8 };
export const call_id = { SIZE: 24, stream: 0, version: 8, index: 16, attempt: 20 };
export const state = { SIZE: 32, name: 0, parent: 4, waits: 8, enter: 12, exit: 16, on_error: 20, flags: 24, tag: 28 };
export const transition = { SIZE: 24, from: 0, event: 4, guard: 8, action: 12, to: 16, tag: 20 };
export const call_spec = {
  SIZE: 32,
  name: 0,
  crash_policy: 4,
  flags: 8,
  attempts_max: 12,
  backoff_ms: 16,
  backoff_max_ms: 20,
  attempt_timeout_ms: 24,
  total_timeout_ms: 28,
};
export const machine = {
  SIZE: 56,
  size: 0,
  version: 4,
  name: 8,
  ctx: 12,
  context_size: 16,
  signals: 20,
  timers: 24,
  approvals: 28,
  calls: 32,
  call_count: 36,
  states: 40,
  state_count: 44,
  transitions: 48,
  transition_count: 52,
};
export const event = { SIZE: 48, kind: 0, code: 4, name: 8, effect: 16, attempt: 32, data: 36, who: 44 };
export const entry = { SIZE: 12, kind: 0, data: 4 };
export const call = {
  SIZE: 64,
  id: 0,
  agent: 24,
  name: 28,
  request: 32,
  key: 40,
  deadline_ms: 48,
  flags: 56,
  repeated: 60,
};
export const answer = { SIZE: 20, outcome: 0, code: 4, data: 8, retry_after_ms: 16 };
export const trace = {
  SIZE: 56,
  kind: 0,
  code: 4,
  stream: 8,
  version: 16,
  time_ms: 24,
  agent: 32,
  name: 36,
  from: 40,
  to: 44,
  block_size: 48,
};
export const summary = { SIZE: 40, stream: 0, version: 8, due_ms: 16, time_ms: 24, state: 32, status: 34, flags: 35 };
export const io = { SIZE: 40, size: 0, count: 4, version: 8, next_due_ms: 16, stream: 24, cursor: 32 };
export const append = {
  SIZE: 96,
  op: 0,
  stream: 8,
  expected: 16,
  epoch: 24,
  blocks: 32,
  size: 36,
  count: 40,
  flags: 44,
  first: 48,
  summary: 56,
};
export const read = { SIZE: 40, op: 0, stream: 8, mode: 16, version: 24, buffer: 32, capacity: 20 };
export const list = { SIZE: 40, op: 0, cursor: 8, due_before_ms: 16, flags: 24, capacity: 28, items: 32 };
export const trim = { SIZE: 8, op: 0 };
export const limits = {
  SIZE: 68,
  size: 0,
  context_size_max: 4,
  payload_size_max: 8,
  block_size_max: 12,
  effects_max: 16,
  mailbox_max: 20,
  dedupe_count: 24,
  loaded_max: 28,
  requests_max: 32,
  always_max: 36,
  splices_max: 40,
  snapshot_factor: 44,
  snapshot_floor: 48,
  inbox_interval_ms: 52,
  idle_seal_ms: 56,
  retry_pause_ms: 60,
  full_snapshots: 64,
};
export const request = {
  SIZE: 88,
  size: 0,
  verb: 4,
  agent: 8,
  id: 12,
  expected_version: 16,
  event: 24,
  target: 28,
  who: 32,
  effect: 40,
  digest: 56,
  version: 64,
  decision: 72,
  force: 76,
  data: 80,
};
export const receipt = { SIZE: 136, result: 0, verb: 4, version: 8, text: 16 };
export const info = {
  SIZE: 264,
  name: 0,
  stream: 128,
  version: 136,
  changed_version: 144,
  link: 160,
  due_ms: 176,
  time_ms: 184,
  created_ms: 192,
  machine: 200,
  state: 204,
  parent_agent: 208,
  parent_version: 216,
  machine_version: 224,
  status: 228,
  flags: 232,
  error: 236,
  error_text: 240,
  context: 244,
  transcript_count: 252,
  effect_count: 256,
  mailbox_count: 260,
};
export const effect = {
  SIZE: 80,
  id: 0,
  kind: 16,
  phase: 20,
  name: 24,
  target: 28,
  attempt: 32,
  due_ms: 40,
  deadline_ms: 48,
  payload: 56,
  digest: 64,
  key: 72,
};
export const block_info = {
  SIZE: 88,
  version: 0,
  epoch: 8,
  link: 16,
  time_ms: 24,
  type: 32,
  event: 36,
  outcome: 40,
  from: 44,
  to: 48,
  block_size: 52,
  effects_issued: 56,
  effects_settled: 60,
  transcript_entries: 64,
  context_changed: 68,
  data: 72,
  who: 80,
};
export const portable = {
  SIZE: 184,
  name: 0,
  log: 128,
  moved: 136,
  count: 144,
  first: 152,
  last: 160,
  link: 168,
  bytes: 176,
};
export const damage_report = {
  SIZE: 184,
  damage: 0,
  result: 4,
  file: 8,
  offset: 16,
  size: 24,
  stream: 32,
  version: 40,
  text: 60,
};
export const file_options = {
  SIZE: 32,
  size: 0,
  log_per_agent: 4,
  read_only: 8,
  truncate_suspect: 12,
  segment_size: 16,
  preallocate_max: 20,
  on_discard: 24,
};
