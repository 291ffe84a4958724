// What is asked of an agent, as the header's struct.

import * as layout from './layout.js';
import { wholeVersion } from './errors.js';

export const VERBS = {
  create: 1,
  post: 2,
  decide: 3,
  cancel: 4,
  rollback: 5,
  fork: 6,
  retry: 7,
  moveOut: 8,
  moveIn: 9,
};
export const DECISIONS = { approve: 1, reject: 2, edit: 3 };

/** Pushes a request with the options of index.d.ts, and `event`, `target`, `decision`, `data`. Throws E_ARGUMENT. */
export function pushRequest(linear, verb, agent, options, { event, target, decision, data = options.data }) {
  const at = linear.push(layout.request_SIZE);
  linear.setU32(at + layout.request_size, layout.request_SIZE);
  linear.setU32(at + layout.request_verb, verb);
  linear.setU32(at + layout.request_agent, linear.pushText(agent, 'agent'));
  if (verb <= VERBS.post)
    linear.setU32(at + layout.request_event, linear.pushText(event, verb === VERBS.post ? 'signal' : 'machine'));
  if (verb === VERBS.fork) linear.setU32(at + layout.request_target, linear.pushText(target, 'newAgent'));
  if (decision !== undefined) linear.setU32(at + layout.request_decision, decision);
  if (data !== undefined) linear.setBytes(at + layout.request_data, ...linear.pushData(data));
  if (options === NONE) return at;
  const { id, expectedVersion, who, effect, digest, version, force } = options;
  linear.setU32(at + layout.request_id, linear.pushOptional(id, 'id'));
  linear.setU32(at + layout.request_who, linear.pushOptional(who === '' ? undefined : who, 'who'));
  if (expectedVersion !== undefined)
    linear.setNumber(at + layout.request_expected_version, wholeVersion(expectedVersion, 'expectedVersion', 1));
  if (effect !== undefined) linear.setEffectId(at + layout.request_effect, effect);
  if (digest !== undefined) linear.setHex(at + layout.request_digest, digest, 'digest');
  if (verb === VERBS.rollback || verb === VERBS.fork)
    linear.setNumber(at + layout.request_version, wholeVersion(version, 'version', verb === VERBS.fork ? 0 : 1));
  if (force) linear.setU32(at + layout.request_force, 1);
  return at;
}

export const NONE = {};
