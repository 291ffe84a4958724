// The tests' harness: named tests, run in order, and a last line `N passed, N failed, N skipped`.

const tests = [];
let faults = [];

/**
 * `limitMs`: what takes longer hangs. A body that ran a whole test program returns what passed and what was skipped there:
 * `{ passed, skipped }`.
 */
export const test = (name, body, limitMs = 480_000) => tests.push({ name, body, limitMs });

export function check(holds, what = 'a check') {
  if (!holds) faults.push(new Error(what));
  return Boolean(holds);
}

export function equal(found, wanted) {
  return check(Object.is(found, wanted), `found ${String(found)}, wanted ${String(wanted)}`);
}

/** The error, which must have that code. */
export async function fails(code, work) {
  try {
    await work();
  } catch (error) {
    check(error.code === code, `wanted ${code}, got ${error.code}: ${error.message}`);
    return error;
  }
  check(false, `wanted ${code}, but it succeeded`);
  return new Error('it succeeded');
}

export class Skip extends Error {}

/** Runs the tests whose names contain the filter; sets the exit code. */
export async function finish(filter = globalThis.process?.argv[2] ?? '') {
  const count = { passed: 0, failed: 0, skipped: 0 };
  for (const { name, body, limitMs } of tests) {
    if (!name.includes(filter)) continue;
    faults = [];
    let skipped, counted;
    try {
      counted = await Promise.race([
        body(),
        new Promise((_, reject) =>
          setTimeout(() => reject(new Error(`hangs: not done within ${limitMs} ms`)), limitMs).unref?.(),
        ),
      ]);
    } catch (error) {
      if (error instanceof Skip) skipped = error.message;
      else faults.push(error);
    }
    if (faults.length !== 0) {
      count.failed++;
      console.log(`FAILED ${name}`);
      for (const fault of faults) console.log(`  ${fault.stack?.split('\n').slice(0, 4).join('\n  ') ?? fault}`);
    } else if (skipped !== undefined) {
      count.skipped++;
      console.log(`skipped ${name}: ${skipped}`);
    } else {
      if (counted?.passed === undefined) count.passed++;
      console.log(`ok ${name}`);
    }
    count.passed += counted?.passed ?? 0;
    count.skipped += counted?.skipped ?? 0;
  }
  console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
  if (globalThis.process !== undefined) globalThis.process.exit(count.failed === 0 ? 0 : 1);
  return count;
}
