// What the engine puts into structs, as the objects of index.d.ts: each is read from its address.

import * as layout from './layout.js';
import { fromBytes } from './linear.js';

const STATUS = ' running waiting parked done failed cancelled moved'.split(' ');
const TRACES = ' commit refused call answer retry doubt load unload claim error parked snapshot'.split(' ');
const EFFECTS = ' call approval timer signal'.split(' ');
const PHASES = ' open paused held'.split(' ');
const EVENTS =
  ' start signal result failure in_doubt approved rejected edited expired timer cancel restored always claim'.split(
    ' ',
  );

/** A number by its name; one that has none yet, as it is. */
const named = (names, number) => names[number] ?? `${number}`;

/** Bytes with their two usual readings. */
export function readable(object) {
  object.text = () => fromBytes(object.data);
  object.json = () =>
    object.data.length === 0 ? undefined : JSON.parse(fromBytes(object.data).replace(/^\ufeff/, ''));
  return object;
}

export function readSummary(linear, at, stream = linear.hex(at + layout.summary_stream)) {
  return {
    stream,
    version: linear.number(at + layout.summary_version),
    due: linear.number(at + layout.summary_due_ms),
    time: linear.number(at + layout.summary_time_ms),
    state: linear.view.getUint16(at + layout.summary_state, true),
    status: named(STATUS, linear.u8[at + layout.summary_status]),
    flags: linear.u8[at + layout.summary_flags],
  };
}

export function writeSummary(linear, at, summary) {
  linear.setHex(at + layout.summary_stream, summary.stream);
  linear.setNumber(at + layout.summary_version, summary.version);
  linear.setNumber(at + layout.summary_due_ms, summary.due);
  linear.setNumber(at + layout.summary_time_ms, summary.time);
  linear.view.setUint16(at + layout.summary_state, summary.state, true);
  linear.u8[at + layout.summary_status] = STATUS.indexOf(summary.status);
  linear.u8[at + layout.summary_flags] = summary.flags;
}

export const readEvent = (linear, at) =>
  readable({
    kind: named(EVENTS, linear.u32(at + layout.event_kind)),
    name: linear.textAt(at + layout.event_name),
    code: linear.i32(at + layout.event_code),
    attempt: linear.u32(at + layout.event_attempt),
    effect: linear.effectId(at + layout.event_effect),
    who: linear.textAt(at + layout.event_who),
    data: linear.bytes(at + layout.event_data),
  });

/** What a call is told, but for its signal. */
export const readCall = (linear, at) =>
  readable({
    data: linear.bytes(at + layout.call_request),
    agent: linear.textAt(at + layout.call_agent),
    name: linear.textAt(at + layout.call_name),
    key: linear.textAt(at + layout.call_key),
    attempt: linear.u32(at + layout.call_id + layout.call_id_attempt),
    repeated: linear.u32(at + layout.call_repeated) !== 0,
    deadline: linear.number(at + layout.call_deadline_ms),
  });

export const readTrace = (linear, at) => ({
  kind: named(TRACES, linear.u32(at + layout.trace_kind)),
  code: linear.i32(at + layout.trace_code),
  stream: linear.hex(at + layout.trace_stream),
  version: linear.number(at + layout.trace_version),
  time: linear.number(at + layout.trace_time_ms),
  agent: linear.textAt(at + layout.trace_agent),
  name: linear.textAt(at + layout.trace_name),
  from: linear.textAt(at + layout.trace_from),
  to: linear.textAt(at + layout.trace_to),
  blockSize: linear.u32(at + layout.trace_block_size),
});

/** A view, but for its context as a value, its entries and its effects. */
export function readInfo(linear, at) {
  const parent = linear.textAt(at + layout.info_parent_agent);
  const code = linear.i32(at + layout.info_error);
  return {
    name: linear.text(at + layout.info_name),
    stream: linear.hex(at + layout.info_stream),
    version: linear.number(at + layout.info_version),
    changedVersion: linear.number(at + layout.info_changed_version),
    link: linear.hex(at + layout.info_link),
    machine: linear.textAt(at + layout.info_machine),
    machineVersion: linear.u32(at + layout.info_machine_version),
    state: linear.textAt(at + layout.info_state),
    status: named(STATUS, linear.u32(at + layout.info_status)),
    due: linear.number(at + layout.info_due_ms),
    time: linear.number(at + layout.info_time_ms),
    created: linear.number(at + layout.info_created_ms),
    ...(parent !== '' && { parent: { agent: parent, version: linear.number(at + layout.info_parent_version) } }),
    ...(code !== 0 && { error: { code, text: linear.textAt(at + layout.info_error_text) } }),
    contextBytes: linear.bytes(at + layout.info_context),
    mailboxCount: linear.u32(at + layout.info_mailbox_count),
  };
}

export const readEntry = (linear, at) =>
  readable({ kind: linear.u32(at + layout.entry_kind), data: linear.bytes(at + layout.entry_data) });

export function readEffect(linear, at) {
  const payload = linear.bytes(at + layout.effect_payload);
  return readable({
    id: linear.effectId(at + layout.effect_id),
    kind: named(EFFECTS, linear.u32(at + layout.effect_kind)),
    phase: named(PHASES, linear.u32(at + layout.effect_phase)),
    name: linear.textAt(at + layout.effect_name),
    target: linear.textAt(at + layout.effect_target),
    attempt: linear.u32(at + layout.effect_attempt),
    due: linear.number(at + layout.effect_due_ms),
    deadline: linear.number(at + layout.effect_deadline_ms),
    data: payload,
    payload,
    digest: linear.hex(at + layout.effect_digest),
    key: linear.textAt(at + layout.effect_key),
  });
}

/** A block, but for its raw bytes. */
export const readBlock = (linear, at) =>
  readable({
    version: linear.number(at + layout.block_info_version),
    epoch: linear.number(at + layout.block_info_epoch),
    link: linear.hex(at + layout.block_info_link),
    time: linear.number(at + layout.block_info_time_ms),
    type: linear.textAt(at + layout.block_info_type),
    event: linear.textAt(at + layout.block_info_event),
    outcome: linear.textAt(at + layout.block_info_outcome),
    from: linear.textAt(at + layout.block_info_from),
    to: linear.textAt(at + layout.block_info_to),
    size: linear.u32(at + layout.block_info_block_size),
    effectsIssued: linear.u32(at + layout.block_info_effects_issued),
    effectsSettled: linear.u32(at + layout.block_info_effects_settled),
    entries: linear.u32(at + layout.block_info_transcript_entries),
    contextChanged: linear.u32(at + layout.block_info_context_changed),
    data: linear.bytes(at + layout.block_info_data),
    who: linear.textAt(at + layout.block_info_who),
  });
