// The engine built by other compilers passes the same core tests, over modules of theirs.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Skip, check, finish, test } from '../harness.mjs';

const root = new URL('../../../', import.meta.url).pathname;
const run = (env, command, ...words) =>
  execFileSync(command, words, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });

const toolchains = {
  emscripten: () =>
    process.env.PATH.split(':').some((folder) => existsSync(`${folder}/emcc`)) || 'emcc is not installed',
  'wasi-sdk': () => existsSync(`${process.env.WASI_SDK_PATH}/bin/clang`) || 'WASI_SDK_PATH names none',
};

for (const [name, isHere] of Object.entries(toolchains)) {
  test(`${name}: the core tests`, () => {
    const here = isHere();
    if (here !== true) throw new Skip(here);
    run({}, './build.sh', 'wasm', '--toolchain', name);
    const module = `build/wasm/${name}/persistent_agent.wasm`;
    const said = run({ ENGINE_WASM: module }, 'node', 'wasm/test/core/engine.mjs');
    const [, passed, failed] = /(\d+) passed, (\d+) failed, 0 skipped\s*$/.exec(said) ?? [];
    check(Number(passed) > 0 && failed === '0', said.slice(-2000));
    return { passed: Number(passed) };
  });
}

await finish();
