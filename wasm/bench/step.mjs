// node wasm/bench/step.mjs [--rounds=25]      after ./build.sh bench-web has built step.c both ways
//
// The processor's time of a step, all threads, over the memory store. A machine in C: the same loop, in WebAssembly and as a native
// program. A machine in JavaScript: the engine's post, awaited one by one, against writing the context alone.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { open } from '../index.js';
import { memory } from '../stores/memory.js';
import { Table, compared, takeTurns, words } from './kit.mjs';

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const rounds = Number(words({ rounds: '25' }).rounds);
const table = new Table();
/** Of all threads: collecting garbage is in it. */
function processorNs() {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

const us = (ns) => `${(ns / 1000).toFixed(2)} µs`;

// ---- a machine in C

const STEPS = 4000;

/** Nanoseconds of a step in the native program. */
function native() {
  const child = spawn(path('../../build/bench-web/step'), { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting = [];
  let text = '';
  child.stdout.on('data', (piece) => {
    const lines = (text + piece).split('\n');
    text = lines.pop();
    for (const line of lines) waiting.shift()(Number(line));
  });
  return {
    step: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        child.stdin.write(`${STEPS}\n`);
      }),
    end: () => child.stdin.end(),
  };
}

/** The same in WebAssembly. The bench's own engine asks nothing of its host. */
function inWasm() {
  const module = new WebAssembly.Module(readFileSync(path('../../build/wasm/step.wasm')));
  const host = Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, () => 0]));
  const { bench_open, bench_steps, bench_trim } = new WebAssembly.Instance(module, { host }).exports;
  const must = (result) => {
    if (result !== 0) throw new Error(`the bench in WebAssembly: ${result}`);
  };
  must(bench_open());
  return () => {
    const begun = processorNs();
    must(bench_steps(STEPS));
    const ns = (processorNs() - begun) / STEPS;
    must(bench_trim());
    return ns;
  };
}

async function inC() {
  if (!existsSync(path('../../build/bench-web/step'))) {
    table.skip('a machine in C', 'step.c is not built: ./build.sh bench-web builds it');
    return;
  }
  const beside = native(),
    step = inWasm();
  for (let i = 0; i < 5; i++) step(); // until it is compiled for good
  const { ours, theirs, ratio } = compared(await takeTurns(rounds, step, beside.step));
  beside.end();
  table.line({
    what: 'memory store, machine in C, 1 KiB context, 64 bytes changed: a step',
    measured: us(ours),
    floor: `${us(theirs)} native, portable CRC`,
    value: ratio,
    most: 3,
    bar: '≤ 3 × native',
  });
}

// ---- a machine in JavaScript

/** 1,024 bytes of JSON, as an agent's context may look. */
function contextOf() {
  const context = {
    count: 100000,
    title: 'Quarterly report: what changed, and why it did',
    model: 'small',
    budget: { tokens: 20000, spent: 1289, currency: 'EUR', cents: 31 },
    open: true,
    tags: ['report', 'finance', 'draft'],
    turns: Array.from({ length: 6 }, (_, turn) => ({
      turn,
      role: turn % 2 === 0 ? 'user' : 'assistant',
      text: 'Compare the figures of both halves, and name the three largest differences.',
    })),
    note: '',
  };
  context.note = '.'.repeat(1024 - JSON.stringify(context).length);
  return context;
}

const worker = {
  name: 'worker',
  signals: ['go'],
  initial: contextOf(),
  states: { working: {}, stopped: { final: true } },
  transitions: [
    { from: 'working', event: 'go', action: (step) => void step.context.count++ },
    { from: 'working', event: 'cancel', to: 'stopped' },
  ],
};

/** What no engine that keeps JSON can avoid. */
function floorOf(count) {
  const encoder = new TextEncoder(),
    bytes = new Uint8Array(4096),
    context = contextOf();
  return () => {
    const begun = processorNs();
    let written = 0;
    for (let i = 0; i < count; i++) {
      context.count++;
      written += encoder.encodeInto(JSON.stringify(context), bytes).written;
    }
    if (written !== 1024 * count) throw new Error(`${written} bytes`);
    return (processorNs() - begun) / count;
  };
}

async function inJavaScript(what, store, judged, together = 1) {
  const count = 2000;
  const engine = await open({ machines: [worker], store, limits: { fullSnapshots: true } });
  await engine.create('a', 'worker');
  const step = async () => {
    const begun = processorNs();
    if (together === 1) for (let i = 0; i < count; i++) await engine.post('a', 'go');
    else
      for (let i = 0; i < count; i += together)
        await Promise.all(Array.from({ length: together }, () => engine.post('a', 'go')));
    const ns = (processorNs() - begun) / count;
    await engine.trim();
    return ns;
  };
  for (let i = 0; i < 5; i++) await step();
  const { ours, theirs, ratio } = compared(await takeTurns(rounds, step, floorOf(count)));
  await engine.close();
  table.line({
    what,
    measured: us(ours),
    floor: `${us(theirs)} JSON.stringify + encodeInto`,
    value: ratio,
    ...(judged && { most: 3, bar: '≤ 3 × the floor' }),
  });
}

await inC();
await inJavaScript('the same, machine in JavaScript, 1 KiB of JSON', undefined, true);
await inJavaScript('the same, 32 posts at a time', undefined, false, 32);
await inJavaScript("the same, one by one, over the store 'persistent-agent/memory'", memory(), false);
process.exit(
  table.print(`The processor's time of a step: medians of ${rounds} interleaved rounds, Node ${process.version}`),
);
