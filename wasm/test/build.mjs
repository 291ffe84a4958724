// The compiled engine: the committed bytes are what the sources give, and they ask nothing of their host but what is said.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { brotliCompressSync } from 'node:zlib';
import { Skip, check, equal, finish, test } from './harness.mjs';

const root = new URL('../../', import.meta.url).pathname;
const run = (command, ...words) =>
  execFileSync(command, words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');
const names = ['persistent_agent', 'persistent_agent_files'];

function clang() {
  try {
    return /version (\d+)/.exec(run('clang', '--version'))[1];
  } catch {
    throw new Skip('clang is missing: install the packages clang and lld');
  }
}

test('offsets are those of the header', () => {
  clang();
  run('node', 'wasm/tools/layout.mjs', '--check');
});

for (const name of names) {
  test(`${name}.wasm is reproducible`, () => {
    if (clang() !== '14')
      throw new Skip(`clang ${clang()} makes other bytes than clang 14, which made the committed ones`);
    run('./build.sh', 'wasm-check', name);
    equal(hash(readFileSync(`${root}build/wasm-check/${name}.wasm`)), hash(readFileSync(`${root}wasm/${name}.wasm`)));
  });

  test(`${name}.wasm imports its host alone`, async () => {
    const bytes = readFileSync(`${root}wasm/${name}.wasm`);
    const module = await WebAssembly.compile(bytes);
    for (const { module: from, kind, name: import_ } of WebAssembly.Module.imports(module)) {
      equal(from, 'host');
      equal(kind, 'function');
      check(name.endsWith('_files') || !/^(file|dir)_/.test(import_), `${import_} belongs to files`);
    }
    console.log(`  ${name}.wasm: ${bytes.length} bytes, ${brotliCompressSync(bytes).length} with brotli`);
  });
}

await finish('');
