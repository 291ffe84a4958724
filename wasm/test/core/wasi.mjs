// The engine's own tests, compiled with a C library for WebAssembly and run by node:wasi: the same C, another machine.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { Skip, check, finish, test } from '../harness.mjs';

const root = new URL('../../../', import.meta.url).pathname;
const build = `${root}build/wasi`;
const run = (command, ...words) =>
  execFileSync(command, words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const runner = `
  import { readFileSync } from 'node:fs';
  import { WASI } from 'node:wasi';
  const wasi = new WASI({ version: 'preview1', args: ['test'], env: {}, preopens: {}, returnOnExit: true });
  const module = await WebAssembly.compile(readFileSync(process.argv[1]));
  process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));`;

for (const name of ['test_effects', 'test_machine']) {
  test(`tests/${name}.c`, () => {
    if (!existsSync('/usr/include/wasm32-wasi/stdio.h')) throw new Skip('the package wasi-libc is not installed');
    mkdirSync(build, { recursive: true });
    run(
      'clang',
      '--target=wasm32-wasi',
      '-O1',
      '-I.',
      '-DPAGENT_NO_POSIX',
      '-o',
      `${build}/${name}.wasm`,
      `tests/${name}.c`,
    );
    const said = run('node', '--no-warnings', '--input-type=module', '-e', runner, `${build}/${name}.wasm`);
    const [, passed, failed] = /(\d+) passed, (\d+) failed, 0 skipped\s*$/.exec(said) ?? [];
    check(Number(passed) > 0 && failed === '0', said.slice(-2000));
    console.log(`  ${passed} passed`);
  });
}

// Those that cut a process off in the middle of a call need setjmp, which WebAssembly's C library does not have.
await finish('');
