// node wasm/bench/size.mjs
//
// What a page loads: bytes as they are, and with brotli.

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync } from 'node:zlib';
import { Table } from './kit.mjs';

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const kib = (count) => `${(count / 1024).toFixed(1)} KiB`;
const table = new Table();

/** `files`: each is packed by itself, as it is sent. */
function size(what, files, raw, brotli) {
  const total = (sizes) => sizes.reduce((sum, one) => sum + one, 0);
  const line = (how, count, most) =>
    table.line({
      what: `${what}, ${how}`,
      measured: `${count} bytes`,
      value: count,
      result: kib(count),
      ...(most && { most: most * 1024, bar: `≤ ${most} KiB` }),
    });
  line('as it is', total(files.map((bytes) => bytes.length)), raw);
  line('brotli', total(files.map((bytes) => brotliCompressSync(bytes).length)), brotli);
}

size("the engine's .wasm", [readFileSync(path('../persistent_agent.wasm'))], 48, 20);
size('the .wasm with the file store', [readFileSync(path('../persistent_agent_files.wasm'))]);

/** What esbuild makes of index.js: what is there before the first engine opens, and what is loaded when it is wanted. */
function bundled(bundler, folder) {
  const flags = ['--bundle', '--minify', '--format=esm', '--splitting', '--log-level=error', `--outdir=${folder}`];
  const meta = join(folder, 'meta.json');
  execFileSync(process.execPath, [bundler, path('../index.js'), ...flags, `--metafile=${meta}`], { cwd: folder });
  const { outputs } = JSON.parse(readFileSync(meta));
  const first = new Set([Object.keys(outputs).find((name) => outputs[name].entryPoint?.endsWith('/index.js'))]);
  for (const name of first)
    for (const { path, kind } of outputs[name].imports) if (kind === 'import-statement') first.add(path);
  const contents = (names) => names.map((name) => readFileSync(join(folder, name)));
  return { core: contents([...first]), later: contents(Object.keys(outputs).filter((name) => !first.has(name))) };
}

const bundler = path('../test/node_modules/esbuild/bin/esbuild');
if (existsSync(bundler)) {
  const folder = mkdtempSync(join(tmpdir(), 'size-'));
  try {
    const { core, later } = bundled(bundler, folder);
    size('the JavaScript core, minified', core, undefined, 12);
    size('loaded by the first export or import', later);
  } finally {
    rmSync(folder, { recursive: true });
  }
} else {
  table.skip('the JavaScript core', 'the npm package esbuild is not installed');
}
process.exit(table.print('Size'));
