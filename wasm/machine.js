// Machines written as plain objects, built as the header's const tables in linear memory.

import * as layout from './layout.js';
import { PagentError } from './errors.js';

const CRASH = { repeat: 0, once: 1, wait: 2 };

const list = (names) => (names?.length ? names.join(' ') : undefined);

function wrong(machine, text) {
  return new PagentError('E_MACHINE', `machine '${machine.name}': ${text}`);
}

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

/** The machine with what the engine needs beside it: its number, its state rows, its address. */
export function buildMachine(linear, source, number, handler) {
  if (typeof source?.name !== 'string' || source.states === null || typeof source.states !== 'object') {
    throw new PagentError('E_MACHINE', `machine number ${number}: it needs a name and states`);
  }
  const context = source.context ?? 'json';
  if (context !== 'json' && context !== 'bytes') throw wrong(source, `context '${context}': "json" or "bytes"`);
  const names = Object.keys(source.states);
  const transitions = source.transitions ?? [];
  const calls = Object.entries(source.calls ?? {});
  const size = context === 'bytes' ? (source.initial ?? 0) : 0;
  if (!Number.isInteger(size)) throw wrong(source, 'initial: of a "bytes" context it is a number of bytes');
  const pointer = (present, which) => (present ? handler(which) : 0);
  const known = (object, keys, where) => {
    for (const key of Object.keys(object))
      if (!keys.includes(key)) throw wrong(source, `${where}: '${key}' is not known`);
  };

  const states = linear.allocate(layout.state.SIZE * Math.max(1, names.length));
  names.forEach((name, row) => {
    const from = source.states[name];
    const at = states + row * layout.state.SIZE;
    known(
      from,
      ['parent', 'waits', 'enter', 'exit', 'onError', 'final', 'failure', 'initial', 'defer'],
      `state '${name}'`,
    );
    linear.setU32(at + layout.state.name, linear.keepText(name));
    linear.setU32(at + layout.state.parent, linear.keepText(from.parent));
    linear.setU32(at + layout.state.waits, linear.keepText(list(from.waits)));
    linear.setU32(at + layout.state.enter, pointer(from.enter, 0));
    linear.setU32(at + layout.state.exit, pointer(from.exit, 1));
    linear.setU32(at + layout.state.on_error, linear.keepText(from.onError));
    linear.setU32(
      at + layout.state.flags,
      (from.final ? 1 : 0) | (from.initial ? 2 : 0) | (from.defer ? 4 : 0) | (from.failure ? 8 : 0),
    );
    linear.setU32(at + layout.state.tag, stateTag(row));
  });

  const rows = linear.allocate(layout.transition.SIZE * Math.max(1, transitions.length));
  transitions.forEach((from, row) => {
    const at = rows + row * layout.transition.SIZE;
    known(from, ['from', 'event', 'guard', 'action', 'to'], `transition ${row}`);
    linear.setU32(at + layout.transition.from, linear.keepText(from.from));
    linear.setU32(at + layout.transition.event, linear.keepText(from.event));
    linear.setU32(at + layout.transition.guard, pointer(from.guard, 0));
    linear.setU32(at + layout.transition.action, pointer(from.action, 1));
    linear.setU32(at + layout.transition.to, linear.keepText(from.to));
    linear.setU32(at + layout.transition.tag, transitionTag(row));
  });

  const specs = linear.allocate(layout.call_spec.SIZE * Math.max(1, calls.length));
  calls.forEach(([name, from], row) => {
    const at = specs + row * layout.call_spec.SIZE;
    const crash = CRASH[from.crash ?? 'repeat'];
    known(
      from,
      ['crash', 'irreversible', 'model', 'attempts', 'backoffMs', 'backoffMaxMs', 'attemptTimeoutMs', 'totalTimeoutMs'],
      `call '${name}'`,
    );
    if (crash === undefined) throw wrong(source, `call '${name}': crash '${from.crash}': "repeat", "once" or "wait"`);
    linear.setU32(at + layout.call_spec.name, linear.keepText(name));
    linear.setU32(at + layout.call_spec.crash_policy, crash);
    linear.setU32(at + layout.call_spec.flags, (from.irreversible ? 1 : 0) | (from.model ? 2 : 0));
    linear.setU32(at + layout.call_spec.attempts_max, from.attempts ?? 0);
    linear.setU32(at + layout.call_spec.backoff_ms, from.backoffMs ?? 0);
    linear.setU32(at + layout.call_spec.backoff_max_ms, from.backoffMaxMs ?? 0);
    linear.setU32(at + layout.call_spec.attempt_timeout_ms, from.attemptTimeoutMs ?? 0);
    linear.setU32(at + layout.call_spec.total_timeout_ms, from.totalTimeoutMs ?? 0);
  });

  const at = linear.allocate(layout.machine.SIZE);
  linear.setU32(at + layout.machine.size, layout.machine.SIZE);
  linear.setU32(at + layout.machine.version, source.version ?? 1);
  linear.setU32(at + layout.machine.name, linear.keepText(source.name));
  linear.setU32(at + layout.machine.ctx, number);
  linear.setU32(at + layout.machine.context_size, size);
  linear.setU32(at + layout.machine.signals, linear.keepText(list(source.signals)));
  linear.setU32(at + layout.machine.timers, linear.keepText(list(source.timers)));
  linear.setU32(at + layout.machine.approvals, linear.keepText(list(source.approvals)));
  linear.setU32(at + layout.machine.calls, specs);
  linear.setU32(at + layout.machine.call_count, calls.length);
  linear.setU32(at + layout.machine.states, states);
  linear.setU32(at + layout.machine.state_count, names.length);
  linear.setU32(at + layout.machine.transitions, rows);
  linear.setU32(at + layout.machine.transition_count, transitions.length);
  return {
    name: source.name,
    address: at,
    names,
    rows: names.map((name) => source.states[name]),
    transitions,
    json: context === 'json',
    initial: JSON.stringify(context === 'json' ? (source.initial ?? {}) : null),
  };
}
