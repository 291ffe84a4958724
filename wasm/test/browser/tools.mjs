// What tests are written with, in pages and outside.

export class Skip extends Error {}

export const tools = {
  check(value, what = 'a check') {
    if (value !== true) throw new Error(`${what}: ${value}`);
  },
  equal(got, wanted, what = 'values') {
    const texts = [got, wanted].map((value) => JSON.stringify(value, (_, v) => (v === Infinity ? 'Infinity' : v)));
    if (texts[0] !== texts[1]) throw new Error(`${what}: got ${texts[0]}, wanted ${texts[1]}`);
  },
  async throws(promise, pattern) {
    let value;
    try {
      value = await promise;
    } catch (error) {
      if (pattern.test(error.message)) return error;
      throw new Error(`threw ${error}, not ${pattern}`);
    }
    throw new Error(`did not throw ${pattern} but gave ${JSON.stringify(value)}`);
  },
  skip(reason) {
    throw new Skip(reason);
  },
};

// ---- called by run.mjs, in the page ----

export async function namesOf(module) {
  return Object.keys((await import(module)).tests);
}

export async function runTest(module, name) {
  try {
    await (await import(module)).tests[name](tools);
    return {};
  } catch (error) {
    if (error instanceof Skip) return { skip: error.message };
    throw error;
  }
}

// ---- blocks as stores see them: a header, and noise that tells whose it is ----

/** `based`: how many versions ago the newest snapshot was; 0: this block carries one. */
export function makeBlock({ stream, version, epoch = 1, based = version - 1, payload = 192, salt = 0 }) {
  const padded = Math.max(64, Math.ceil(payload / 64) * 64),
    block = new Uint8Array(64 + padded),
    view = new DataView(block.buffer);
  block.set([0xe5, 0xa9, 0xd1, 0xb7]);
  view.setBigUint64(16, BigInt(`0x${stream}`), true);
  view.setBigUint64(24, BigInt(version), true);
  view.setBigUint64(32, BigInt(epoch), true);
  view.setUint32(48, payload, true);
  block[56] = 4;
  block[57] = based === 0 ? 1 : 0;
  view.setUint16(58, based, true);
  let x = (version * 2654435761 + salt * 40503 + 1) >>> 0;
  for (let at = 64; at < block.length; at += 4) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    view.setInt32(at, x, true);
  }
  return block;
}

/** An append of `count` blocks after `expected`. */
export function makeAppend({
  stream,
  expected,
  epoch = 1,
  count = 1,
  first = expected + 1,
  due = Infinity,
  flags = 0,
  ...more
}) {
  const blocks = [];
  for (let i = 0; i < count; i++) blocks.push(makeBlock({ stream, version: first + i, epoch, ...more }));
  const version = first + count - 1;
  return {
    stream,
    expected,
    epoch,
    first,
    blocks,
    summary: { stream, version, due, time: 1000 + version, state: 3, status: 'waiting', flags },
  };
}

export const streamOf = (number) =>
  ((BigInt(number + 1) * 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn).toString(16).padStart(16, '0');

export const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
