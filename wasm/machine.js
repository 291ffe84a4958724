// Machines written as plain objects, built as the header's const tables in linear memory.

import * as layout from './layout.js';
import { PagentError, callable, known, refuse, printable, whole } from './errors.js';
import { NAME_MAX, fromBytes, jsonOf, nameBytes, toBytes } from './linear.js';

const CRASH = ['repeat', 'once', 'wait'];
const MACHINE = 'name version context initial signals timers approvals calls states transitions'.split(' ');

// ---- what a field may be: checked, and made a word of its struct

const text = (linear, value, what, most) =>
  value === undefined || value === null ? 0 : linear.keep(nameBytes(value, what, most));

const eventName = (linear, value, what) => text(linear, value, what, 2 * NAME_MAX);

function list(linear, values, what) {
  values ??= [];
  if (!Array.isArray(values)) refuse(`${what}: not an array of names`);
  for (const value of values) {
    nameBytes(value, what);
    if (/\s/.test(value)) refuse(`${what}: '${value}' has a space`);
  }
  return values.length === 0 ? 0 : linear.keep(toBytes(`${values.join(' ')}\0`));
}

function crash(linear, value, what) {
  const policy = CRASH.indexOf(value ?? 'repeat');
  if (policy < 0) refuse(`${what} '${printable(value)}' is not one of ${CRASH}`);
  return policy;
}

const number = (linear, value, what) => whole(value ?? 0, what);
const flag = (bit) => (linear, value) => (value ? bit : 0);
const handler = (which) => (linear, value, what) =>
  callable(value, what) === undefined ? 0 : linear.exports.handler(which);

// ---- the rows of each table: what may stand in them, and where that goes

const CALL = {
  crash: [crash, layout.call_spec_crash_policy],
  irreversible: [flag(1), layout.call_spec_flags],
  model: [flag(2), layout.call_spec_flags],
  attempts: [number, layout.call_spec_attempts_max],
  backoffMs: [number, layout.call_spec_backoff_ms],
  backoffMaxMs: [number, layout.call_spec_backoff_max_ms],
  attemptTimeoutMs: [number, layout.call_spec_attempt_timeout_ms],
  totalTimeoutMs: [number, layout.call_spec_total_timeout_ms],
};
const STATE = {
  parent: [text, layout.state_parent],
  waits: [list, layout.state_waits],
  enter: [handler(0), layout.state_enter],
  exit: [handler(1), layout.state_exit],
  onError: [text, layout.state_on_error],
  final: [flag(1), layout.state_flags],
  failure: [flag(8), layout.state_flags],
  initial: [flag(2), layout.state_flags],
  defer: [flag(4), layout.state_flags],
};
const TRANSITION = {
  from: [text, layout.transition_from],
  event: [eventName, layout.transition_event],
  guard: [handler(0), layout.transition_guard],
  action: [handler(1), layout.transition_action],
  to: [text, layout.transition_to],
};

/** A table of such rows; `rows`: what each is called, it, and its other words by offset. Returns its address. */
function table(linear, size, fields, rows) {
  const address = linear.allocate(size * Math.max(1, rows.length));
  rows.forEach(([what, row, words], index) => {
    const at = address + index * size;
    known(row, Object.keys(fields), what);
    for (const key in fields) {
      const [read, offset] = fields[key];
      linear.setU32(at + offset, linear.u32(at + offset) | read(linear, row[key], `${what}: ${key}`));
    }
    for (const offset in words) linear.setU32(at + Number(offset), words[offset]);
  });
  return address;
}

/** The machine with what the engine needs beside it: its address, and the functions of each row. Throws E_MACHINE. */
export function buildMachine(linear, source, number, contextSizeMax) {
  try {
    return build(linear, source, number, contextSizeMax);
  } catch (error) {
    const name = typeof source?.name === 'string' ? `'${source.name}'` : `number ${number}`;
    throw new PagentError('E_MACHINE', `machine ${name}: ${printable(error?.message ?? error)}`, { cause: error });
  }
}

function build(linear, source, number, contextSizeMax) {
  known(source, MACHINE, 'machine');
  const { name, version = 1, context = 'json', initial, states, transitions = [], calls = {} } = source;
  if (context !== 'json' && context !== 'bytes')
    refuse(`context: '${printable(context)}' is neither "json" nor "bytes"`);
  if (!Array.isArray(transitions)) refuse('transitions: not an array');
  const names = Object.keys(known(states, Object.keys(states ?? {}), 'states'));
  const specs = Object.keys(known(calls, Object.keys(calls ?? {}), 'calls'));

  const callRow = (name) => {
    const what = `call '${name}'`;
    return [what, calls[name], { [layout.call_spec_name]: text(linear, name, what) }];
  };
  const stateRow = (name, tag) => {
    const what = `state '${name}'`;
    if (/^\d+$/.test(name)) refuse(`${what}: a number, which JavaScript puts before the others`);
    return [what, states[name], { [layout.state_name]: text(linear, name, what), [layout.state_tag]: tag }];
  };
  const transitionRow = (from, row) => [`transition ${row}`, from, { [layout.transition_tag]: names.length + row }];

  const words = {
    [layout.machine_size]: layout.machine_SIZE,
    [layout.machine_version]: whole(version, 'version'),
    [layout.machine_name]: linear.keep(nameBytes(name, 'name')),
    [layout.machine_ctx]: number,
    [layout.machine_context_size]:
      context === 'bytes' ? whole(initial ?? 0, 'initial: the bytes', 0, contextSizeMax) : 0,
    [layout.machine_signals]: list(linear, source.signals, 'signals'),
    [layout.machine_timers]: list(linear, source.timers, 'timers'),
    [layout.machine_approvals]: list(linear, source.approvals, 'approvals'),
    [layout.machine_calls]: table(linear, layout.call_spec_SIZE, CALL, specs.map(callRow)),
    [layout.machine_call_count]: specs.length,
    [layout.machine_states]: table(linear, layout.state_SIZE, STATE, names.map(stateRow)),
    [layout.machine_state_count]: names.length,
    [layout.machine_transitions]: table(linear, layout.transition_SIZE, TRANSITION, transitions.map(transitionRow)),
    [layout.machine_transition_count]: transitions.length,
  };
  return {
    name,
    address: table(linear, layout.machine_SIZE, {}, [['machine', {}, words]]),
    names,
    handlers: [
      // by tag: the states first, then the transitions
      ...names.map((name) => [states[name].enter, states[name].exit]),
      ...transitions.map(({ guard, action }) => [guard, action]),
    ],
    json: context === 'json',
    initial: context === 'json' ? jsonOf(initial ?? {}, 'initial') : 'null',
  };
}

/** A machine that is compiled in. */
export function ownMachine(linear, address) {
  const states = linear.u32(address + layout.machine_states);
  const names = Array.from({ length: linear.u32(address + layout.machine_state_count) }, (_, row) =>
    linear.textAt(states + row * layout.state_SIZE + layout.state_name),
  );
  return { name: linear.textAt(address + layout.machine_name), address, names };
}

/** A context, as a machine in JavaScript sees it; one that none is known for, as bytes. */
export function contextOf(machine, bytes) {
  if (!machine?.json) return bytes;
  return JSON.parse(bytes.length === 0 ? machine.initial : fromBytes(bytes));
}
