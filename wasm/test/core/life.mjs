// Runs one of the engine's own test programs under node:wasi:   node life.mjs PROGRAM.wasm [ARGS]
// Lends it what tests/sim.h wants of its host: a life that ends in the middle of a call.

import { readFileSync } from 'node:fs';
import { WASI } from 'node:wasi';

const [file, ...words] = process.argv.slice(2);
const end = Symbol('the end of a life');
let instance;

const sim = {
  live(life, ended) {
    const { __indirect_function_table: functions, __stack_pointer: stack } = instance.exports;
    const top = stack.value;
    try {
      return functions.get(life)();
    } catch (thrown) {
      if (thrown !== end) throw thrown;
      stack.value = top;
      return ended;
    }
  },
  end_life() {
    throw end;
  },
};

const wasi = new WASI({
  version: 'preview1',
  args: [file, ...words],
  preopens: { 'tests/golden': 'tests/golden' },
  returnOnExit: true,
});
const module = await WebAssembly.compile(readFileSync(file));
instance = await WebAssembly.instantiate(module, { ...wasi.getImportObject(), sim });
process.exitCode = wasi.start(instance);
