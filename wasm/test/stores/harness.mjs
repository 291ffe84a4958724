// What the store tests share: adding up outcomes, and the last line.

export function tally() {
  const total = { passed: 0, failed: 0, skipped: 0 };
  return {
    total,
    add(outcome) {
      for (const key in total) total[key] += outcome[key];
    },
    async check(name, body) {
      try {
        const note = await body();
        total.passed++;
        console.log(`ok ${name}${note ? ` (${note})` : ''}`);
      } catch (error) {
        total.failed++;
        console.log(`FAILED ${name}: ${error?.stack ?? error}`);
      }
    },
    skip(name, reason) {
      total.skipped++;
      console.log(`skipped ${name}: ${reason}`);
    },
  };
}

/** The last line, and the exit code. */
export function finish({ passed, failed, skipped }) {
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  globalThis.process ? (process.exitCode = failed ? 1 : 0) : globalThis.Deno && (Deno.exitCode = failed ? 1 : 0);
}
