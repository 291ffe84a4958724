// One journal everywhere: a machine in C, compiled natively and into WebAssembly, and its twin in JavaScript. An agent
// goes from a native store through pagentctl's file into JavaScript stores and back; its blocks stay the same bytes.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { open, load } from '../../index.js';
import { memory } from '../../stores/memory.js';
import { Skip, check, equal, finish, test } from '../harness.mjs';
import { counter, countOf } from './counter.mjs';

const here = new URL('./', import.meta.url).pathname;
const root = join(here, '../../..');
const folder = mkdtempSync(join(tmpdir(), 'everywhere-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const run = (command, ...words) =>
  execFileSync(command, words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const native = (...words) => run(join(folder, 'native'), join(folder, words.shift()), ...words).trim();
const pagentctl = (store, ...words) => run(join(folder, 'pagentctl'), join(folder, store), ...words);

function compile() {
  run('cc', '-O1', '-I.', '-o', join(folder, 'native'), 'wasm/test/files/native.c');
  run('cc', '-O1', '-I.', '-o', join(folder, 'pagentctl'), 'examples/pagentctl.c');
}

async function ownModule() {
  try {
    run('clang', '--version');
  } catch {
    throw new Skip('clang is missing: install the packages clang and lld');
  }
  run('./build.sh', 'wasm', 'wasm/test/files/own.c');
  return load(readFileSync(join(root, 'build/wasm/own.wasm')));
}

async function rawOf(engine, agent) {
  const blocks = [];
  for await (const { raw } of engine.history(agent))
    blocks.push(Buffer.from(raw.slice(16, 60)).toString('hex') + Buffer.from(raw.slice(64)).toString('hex'));
  return blocks;
}

test('a machine in C, natively and as WebAssembly, and its twin in JavaScript have one hash', async () => {
  compile();
  const engine = await open({ wasm: await ownModule() });
  equal(engine.machineHash('counter'), native('none', 'hash'));
  await engine.close();
  const twin = await open({ machines: [counter] });
  equal(twin.machineHash('counter'), native('none', 'hash'));
  await twin.close();
});

test('native, C in WebAssembly, JavaScript, native again', async () => {
  compile();
  const wasm = await ownModule();
  native('first', 'add', 'wanderer', '5');
  native('first', 'ask', 'wanderer', '1');
  pagentctl('first', 'export', 'wanderer', join(folder, 'one.pagent'), '--move');

  const inC = await open({ wasm, store: memory() });
  equal(await inC.import(readFileSync(join(folder, 'one.pagent'))), 'wanderer');
  const asked = await inC.view('wanderer');
  equal(asked.state, 'asking');
  equal(asked.effects[0].text(), 'go on?');
  await inC.approve('wanderer', { who: 'wasm', digest: asked.effects[0].digest });
  await inC.post('wanderer', 'add', 'n');
  equal(countOf((await inC.view('wanderer')).context), 6);
  await inC.moveOut('wanderer');
  const two = await inC.export('wanderer');
  const before = await rawOf(inC, 'wanderer');
  await inC.close();

  const inJs = await open({ machines: [counter], store: memory() });
  await inJs.import(two);
  await inJs.post('wanderer', 'add', 'n');
  await inJs.post('wanderer', 'ask');
  equal(countOf((await inJs.view('wanderer')).context), 7);
  await inJs.moveOut('wanderer');
  writeFileSync(join(folder, 'three.pagent'), await inJs.export('wanderer'));
  const after = await rawOf(inJs, 'wanderer');
  check(
    before.every((block, index) => block === after[index]),
    'the blocks stay the same bytes',
  );
  await inJs.close();

  pagentctl('last', 'import', join(folder, 'three.pagent'), '--create');
  native('last', 'approve', 'wanderer', '1');
  const [state, version, count] = native('last', 'add', 'wanderer', '1').split(' ');
  equal(state, 'counting');
  equal(Number(count), 8);
  check(Number(version) > after.length, 'versions go on');
  check(/clean|no damage|^\d+ agent/im.test(pagentctl('last', 'verify')), 'verify');
});

await finish();
