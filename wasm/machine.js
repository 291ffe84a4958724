// Machines written as plain objects, built as the header's const tables in linear memory.

import * as layout from './layout.js';
import { PagentError, callable, known, refuse, printable, whole } from './errors.js';
import { NAME_MAX, fromBytes, jsonOf, nameBytes, toBytes } from './linear.js';

const CRASH = ['repeat', 'once', 'wait'];
const MACHINE = `name version context initial signals timers approvals calls states transitions`.split(' ');
const STATE = `parent waits enter exit onError final failure initial defer`.split(' ');
const TRANSITION = `from event guard action to`.split(' ');
const TIMES = `backoffMs backoffMaxMs attemptTimeoutMs totalTimeoutMs`.split(' ');
const CALL = ['crash', 'irreversible', 'model', 'attempts', ...TIMES];

/** The machine with what the engine needs beside it: its address, and the functions of each row. Throws E_MACHINE. */
export function buildMachine(linear, source, number, handler, contextSizeMax) {
  try {
    return build(linear, source, number, handler, contextSizeMax);
  } catch (error) {
    const name = typeof source?.name === 'string' ? `'${source.name}'` : `number ${number}`;
    throw new PagentError('E_MACHINE', `machine ${name}: ${printable(error?.message ?? error)}`, { cause: error });
  }
}

function build(linear, source, number, handler, contextSizeMax) {
  known(source, MACHINE, 'machine');
  const { name, version = 1, context = 'json', initial, states, transitions = [], calls = {} } = source;
  if (context !== 'json' && context !== 'bytes')
    refuse(`context: '${printable(context)}' is neither "json" nor "bytes"`);
  if (!Array.isArray(transitions)) refuse('transitions: not an array');
  const names = Object.keys(known(states, Object.keys(states ?? {}), 'states'));
  const specs = Object.entries(known(calls, Object.keys(calls ?? {}), 'calls'));

  const text = (value, what, most) =>
    value === undefined || value === null ? 0 : linear.keep(nameBytes(value, what, most));
  const list = (values, what) => {
    values ??= [];
    if (!Array.isArray(values)) refuse(`${what}: not an array of names`);
    for (const value of values) {
      nameBytes(value, what);
      if (/\s/.test(value)) refuse(`${what}: '${value}' has a space`);
    }
    return values.length === 0 ? 0 : linear.keep(toBytes(`${values.join(' ')}\0`));
  };
  const pointer = (value, which, what) => (callable(value, what) === undefined ? 0 : handler(which));
  /** A table of structs, one of `fields(value, row)` for each value: its words by their offsets. */
  const table = (size, values, fields) => {
    const at = linear.allocate(size * Math.max(1, values.length));
    values.forEach((value, row) => {
      for (const [offset, word] of Object.entries(fields(value, row)))
        linear.setU32(at + row * size + Number(offset), word);
    });
    return at;
  };

  const address = table(layout.machine_SIZE, [source], () => ({
    [layout.machine_size]: layout.machine_SIZE,
    [layout.machine_version]: whole(version, 'version'),
    [layout.machine_name]: linear.keep(nameBytes(name, 'name')),
    [layout.machine_ctx]: number,
    [layout.machine_context_size]:
      context === 'bytes' ? whole(initial ?? 0, 'initial: the bytes', 0, contextSizeMax) : 0,
    [layout.machine_signals]: list(source.signals, 'signals'),
    [layout.machine_timers]: list(source.timers, 'timers'),
    [layout.machine_approvals]: list(source.approvals, 'approvals'),
    [layout.machine_calls]: table(layout.call_spec_SIZE, specs, ([name, from]) => {
      const what = `call '${name}'`;
      known(from, CALL, what);
      const crash = CRASH.indexOf(from.crash ?? 'repeat');
      if (crash < 0) refuse(`${what}: crash '${printable(from.crash)}' is not one of ${CRASH}`);
      const number = (key) => whole(from[key] ?? 0, `${what}: ${key}`);
      return {
        [layout.call_spec_name]: text(name, what),
        [layout.call_spec_crash_policy]: crash,
        [layout.call_spec_flags]: (from.irreversible ? 1 : 0) | (from.model ? 2 : 0),
        [layout.call_spec_attempts_max]: number('attempts'),
        [layout.call_spec_backoff_ms]: number('backoffMs'),
        [layout.call_spec_backoff_max_ms]: number('backoffMaxMs'),
        [layout.call_spec_attempt_timeout_ms]: number('attemptTimeoutMs'),
        [layout.call_spec_total_timeout_ms]: number('totalTimeoutMs'),
      };
    }),
    [layout.machine_call_count]: specs.length,
    [layout.machine_states]: table(layout.state_SIZE, names, (name, row) => {
      const from = states[name],
        what = `state '${name}'`;
      known(from, STATE, what);
      if (/^\d+$/.test(name)) refuse(`${what}: a number, which JavaScript puts before the others`);
      return {
        [layout.state_name]: text(name, what),
        [layout.state_parent]: text(from.parent, `${what}: parent`),
        [layout.state_waits]: list(from.waits, `${what}: waits`),
        [layout.state_enter]: pointer(from.enter, 0, `${what}: enter`),
        [layout.state_exit]: pointer(from.exit, 1, `${what}: exit`),
        [layout.state_on_error]: text(from.onError, `${what}: onError`),
        [layout.state_flags]:
          (from.final ? 1 : 0) | (from.initial ? 2 : 0) | (from.defer ? 4 : 0) | (from.failure ? 8 : 0),
        [layout.state_tag]: row,
      };
    }),
    [layout.machine_state_count]: names.length,
    [layout.machine_transitions]: table(layout.transition_SIZE, transitions, (from, row) => {
      const what = `transition ${row}`;
      known(from, TRANSITION, what);
      return {
        [layout.transition_from]: text(from.from, `${what}: from`),
        [layout.transition_event]: text(from.event, `${what}: event`, 2 * NAME_MAX),
        [layout.transition_guard]: pointer(from.guard, 0, `${what}: guard`),
        [layout.transition_action]: pointer(from.action, 1, `${what}: action`),
        [layout.transition_to]: text(from.to, `${what}: to`),
        [layout.transition_tag]: names.length + row,
      };
    }),
    [layout.machine_transition_count]: transitions.length,
  }));
  return {
    name,
    address,
    names,
    handlers: [
      ...names.map((name) => [states[name].enter, states[name].exit]),
      ...transitions.map(({ guard, action }) => [guard, action]),
    ],
    json: context === 'json',
    initial: context === 'json' ? jsonOf(initial ?? {}, 'initial') : 'null',
  };
}

/** The functions of a row, [enter, exit] or [guard, action], by its tag: the states first, then the transitions. */
export const handlerOf = (machine, which, tag) => machine.handlers[tag][which];

export const isGuard = (machine, which, tag) => which === 0 && tag >= machine.names.length;

/** A context, as a machine in JavaScript sees it; one that none is known for, as bytes. */
export function contextOf(machine, bytes) {
  if (!machine?.json) return bytes;
  return JSON.parse(bytes.length === 0 ? machine.initial : fromBytes(bytes));
}
