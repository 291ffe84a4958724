// A program of WASI in the runtime that runs this file:   node wasi-host.mjs PROGRAM.wasm FOLDER [ARGS]
// It sees FOLDER as /box.

import { readFileSync } from 'node:fs';
import process from 'node:process';
import { WASI } from 'node:wasi';

const [file, folder, ...words] = process.argv.slice(2);
const wasi = new WASI({
  version: 'preview1',
  args: [file, ...words],
  env: {},
  preopens: { '/box': folder },
  returnOnExit: true,
});
const module = await WebAssembly.compile(readFileSync(file));
const imports = wasi.getImportObject?.() ?? { wasi_snapshot_preview1: wasi.wasiImport }; // the latter: Bun
process.exitCode = wasi.start(await WebAssembly.instantiate(module, imports));
