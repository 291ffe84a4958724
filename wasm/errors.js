// Results of the engine as errors, and the other way round.

const NAMES = `E_ARGUMENT E_MEMORY E_LIMIT E_MACHINE E_MACHINE_CHANGED E_NOT_FOUND E_EXISTS E_CONFLICT E_FENCED E_LOCKED
  E_STALE E_SETTLED E_EXPIRED E_UNDECLARED E_REFUSED E_FINISHED E_IRREVERSIBLE E_PARKED E_NO_SPACE E_AGAIN E_IN_DOUBT
  E_STORAGE E_CORRUPT E_SUSPECT E_FOREIGN E_NEWER E_LOST_TAIL E_TRIMMED E_READ_ONLY E_TIMEOUT E_CLOSED E_FUTURE`.split(
  /\s+/,
);

/** The number of a result by its name: result.E_ARGUMENT is -1001. */
export const result = Object.fromEntries(NAMES.map((name, index) => [name, -1001 - index]));
export const OK = 0,
  PENDING = 1,
  IDLE = 3,
  END = 4,
  DUPLICATE = 5,
  NOT_SENT = 6,
  DEFERRED = 7;

export const nameOf = (code) => NAMES[-1001 - code] ?? `${code}`;

export class PagentError extends Error {
  constructor(code, message, options = {}) {
    super(message, options.cause !== undefined ? { cause: options.cause } : undefined);
    this.name = 'PagentError';
    this.code = code;
    if (options.version !== undefined) this.version = options.version;
  }
}

/** What was thrown or handed in, as a text that C can hold. Never throws. */
export function printable(value) {
  try {
    return String(value)
      .slice(0, 4096)
      .replace(/[\0\p{Surrogate}]/gu, '\ufffd');
  } catch {
    return `${typeof value} without a text`;
  }
}

/** What was thrown, in words, however many: it may be anything. */
export function textOf(error) {
  try {
    return `${error?.message ?? error}`;
  } catch {
    return 'something without a text';
  }
}

// ---- checks of what callers hand in: each names it, and says what it may be

export function refuse(text) {
  throw new PagentError('E_ARGUMENT', text);
}

export const isObject = (value) => typeof value === 'object' && value !== null;

export const isPromise = (value) => typeof value?.then === 'function';

/** An object of these keys and no others: what is misspelt must not be as if it were absent. */
export function known(object, keys, what) {
  if (!isObject(object)) refuse(`${what}: ${printable(object)} is not an object`);
  for (const key in object) if (!keys.includes(key)) refuse(`${what}: '${key}' is not one of ${keys.join(', ')}`);
  return object;
}

/** A function, or none: undefined. */
export function callable(value, what) {
  if (value === null || value === undefined || typeof value === 'function') return value ?? undefined;
  refuse(`${what}: ${printable(value)} is not a function`);
}

export function whole(value, what, least = 0, most = 2 ** 32 - 1) {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  refuse(`${what}: ${printable(value)} (${typeof value}) is not a whole number from ${least} to ${most}`);
}

/** A block's number. */
export const wholeVersion = (value, what, least = 0) => whole(value, what, least, Number.MAX_SAFE_INTEGER);

/** Of time: Infinity is never. */
export function moment(value, what) {
  if (typeof value !== 'number' || value !== value)
    refuse(`${what}: ${printable(value)} is not milliseconds since 1970`);
}

/** Thrown by a call: how it failed. */
export class CallFailure extends Error {
  constructor(message, { final = false, code = 0, retryAfterMs = 0, notSent = false, cause } = {}) {
    super(message, cause !== undefined ? { cause } : undefined);
    this.name = 'CallFailure';
    Object.assign(this, { final, code, retryAfterMs, notSent });
  }
}
