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

function size(what, bytes, raw, brotli) {
  const packed = brotliCompressSync(bytes).length;
  const line = (how, count, most) =>
    table.line({
      what: `${what}, ${how}`,
      measured: `${count} bytes`,
      value: count,
      result: kib(count),
      ...(most && { most: most * 1024, bar: `≤ ${most} KiB` }),
    });
  line('as it is', bytes.length, raw);
  line('brotli', packed, brotli);
}

size("the engine's .wasm", readFileSync(path('../persistent_agent.wasm')), 48, 20);
size('the .wasm with the file store', readFileSync(path('../persistent_agent_files.wasm')));

const bundler = path('../test/node_modules/esbuild/bin/esbuild');
if (existsSync(bundler)) {
  const folder = mkdtempSync(join(tmpdir(), 'size-'));
  try {
    const out = join(folder, 'core.js');
    const flags = ['--bundle', '--minify', '--format=esm', '--log-level=error', `--outfile=${out}`];
    execFileSync(process.execPath, [bundler, path('../index.js'), ...flags]);
    size('the JavaScript core, minified', readFileSync(out), undefined, 12);
  } finally {
    rmSync(folder, { recursive: true });
  }
} else {
  table.skip('the JavaScript core', 'the npm package esbuild is not installed');
}
process.exit(table.print('Size'));
