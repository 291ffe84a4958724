// The engine's own tests, compiled for WASI and run by node:wasi: the same C, the same seeds, another machine. With them
// the simulated disk and its power cuts, and the journals of tests/golden, byte for byte.

import { execFileSync } from 'node:child_process';
import { finish, test } from '../harness.mjs';

const root = new URL('../../../', import.meta.url).pathname;
const run = (command, ...words) =>
  execFileSync(command, words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

// test_writers needs threads, test_posix and test_ctl processes; what is swept natively is sampled here.
const programs = {
  bytes: [],
  bytes_portable: [],
  machine: [],
  effects: [],
  golden: [],
  requests: [],
  store: ['--effort', '5'],
  engine: ['--effort', '5'],
};

for (const [name, words] of Object.entries(programs)) {
  test(`tests/test_${name}.c`, () => {
    const exports = '-Wl,--export-table,--export=__stack_pointer';
    run('./build.sh', 'wasm', '--wasi', `tests/test_${name}.c`, '-O1', exports);
    const said = outputOf('node', '--no-warnings', 'wasm/test/core/life.mjs', `build/wasi/test_${name}.wasm`, ...words);
    const [, passed, failed, skipped] = /(\d+) passed, (\d+) failed, (\d+) skipped\s*$/.exec(said) ?? [];
    if (failed !== '0' || passed === '0') throw new Error(said.slice(-2000));
    for (const [line] of said.matchAll(/^skipped .*/gm)) console.log(line);
    console.log(`  ${passed} passed`);
    return { passed: Number(passed), skipped: Number(skipped) };
  });
}

/** What it says, however it ends. */
function outputOf(...command) {
  try {
    return run(...command);
  } catch (error) {
    return `${error.stdout}${error.stderr}`;
  }
}

await finish();
