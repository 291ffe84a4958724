// Machines written as plain objects, built as the header's const tables in linear memory.

import * as layout from './layout.js';
import { PagentError, callable, known, refuse, printable, whole } from './errors.js';
import { NAME_MAX, jsonOf, nameBytes, toBytes } from './linear.js';

const CRASH = ['repeat', 'once', 'wait'];
const MACHINE = `name version context initial signals timers approvals calls states transitions`.split(' ');
const STATE = `parent waits enter exit onError final failure initial defer`.split(' ');
const TRANSITION = `from event guard action to`.split(' ');
const TIMES = `backoffMs backoffMaxMs attemptTimeoutMs totalTimeoutMs`.split(' ');
const CALL = ['crash', 'irreversible', 'model', 'attempts', ...TIMES];

/** What a row's tag says: its number, and which table it stands in. */
const stateTag = (row) => row * 2;
const transitionTag = (row) => row * 2 + 1;

/** The functions of a row: [guard or enter, action or exit]. */
export function handlerOf(machine, which, tag) {
  const row = tag >> 1;
  if (tag & 1) return which === 0 ? machine.transitions[row].guard : machine.transitions[row].action;
  const state = machine.rows[row];
  return which === 0 ? state.enter : state.exit;
}

export const isGuard = (which, tag) => which === 0 && (tag & 1) === 1;

/** The machine with what the engine needs beside it: its number, its state rows, its address. Throws E_MACHINE. */
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
  /** A table of structs, one of `fields(value, row)` for each value. */
  const table = (of, values, fields) => {
    const at = linear.allocate(of.SIZE * Math.max(1, values.length));
    values.forEach((value, row) => {
      for (const [field, word] of Object.entries(fields(value, row)))
        linear.setU32(at + row * of.SIZE + of[field], word);
    });
    return at;
  };

  const address = table(layout.machine, [source], () => ({
    size: layout.machine.SIZE,
    version: whole(version, 'version'),
    name: linear.keep(nameBytes(name, 'name')),
    ctx: number,
    context_size: context === 'bytes' ? whole(initial ?? 0, 'initial: the bytes', 0, contextSizeMax) : 0,
    signals: list(source.signals, 'signals'),
    timers: list(source.timers, 'timers'),
    approvals: list(source.approvals, 'approvals'),
    calls: table(layout.call_spec, specs, ([name, from]) => {
      const what = `call '${name}'`;
      known(from, CALL, what);
      const crash = CRASH.indexOf(from.crash ?? 'repeat');
      if (crash < 0) refuse(`${what}: crash '${printable(from.crash)}' is not one of ${CRASH}`);
      const number = (key) => whole(from[key] ?? 0, `${what}: ${key}`);
      return {
        name: text(name, what),
        crash_policy: crash,
        flags: (from.irreversible ? 1 : 0) | (from.model ? 2 : 0),
        attempts_max: number('attempts'),
        backoff_ms: number('backoffMs'),
        backoff_max_ms: number('backoffMaxMs'),
        attempt_timeout_ms: number('attemptTimeoutMs'),
        total_timeout_ms: number('totalTimeoutMs'),
      };
    }),
    call_count: specs.length,
    states: table(layout.state, names, (name, row) => {
      const from = states[name],
        what = `state '${name}'`;
      known(from, STATE, what);
      if (/^\d+$/.test(name)) refuse(`${what}: a number, which JavaScript puts before the others`);
      return {
        name: text(name, what),
        parent: text(from.parent, `${what}: parent`),
        waits: list(from.waits, `${what}: waits`),
        enter: pointer(from.enter, 0, `${what}: enter`),
        exit: pointer(from.exit, 1, `${what}: exit`),
        on_error: text(from.onError, `${what}: onError`),
        flags: (from.final ? 1 : 0) | (from.initial ? 2 : 0) | (from.defer ? 4 : 0) | (from.failure ? 8 : 0),
        tag: stateTag(row),
      };
    }),
    state_count: names.length,
    transitions: table(layout.transition, transitions, (from, row) => {
      const what = `transition ${row}`;
      known(from, TRANSITION, what);
      return {
        from: text(from.from, `${what}: from`),
        event: text(from.event, `${what}: event`, 2 * NAME_MAX),
        guard: pointer(from.guard, 0, `${what}: guard`),
        action: pointer(from.action, 1, `${what}: action`),
        to: text(from.to, `${what}: to`),
        tag: transitionTag(row),
      };
    }),
    transition_count: transitions.length,
  }));
  return {
    name,
    address,
    names,
    rows: names.map((name) => states[name]),
    transitions,
    json: context === 'json',
    initial: context === 'json' ? jsonOf(initial ?? {}, 'initial') : 'null',
  };
}
