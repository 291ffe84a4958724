// One journal everywhere: a machine in C, compiled natively and into WebAssembly. An agent that is paused natively goes by
// way of pagentctl's file into a browser's tab, from there into a Worker, and comes home. Wherever it stays, what it does is
// also done by the native program, at the same time and with the same nonce: the canonical bytes must be the same.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { memory } from '../../stores/memory.js';
import { header, previousLink, split } from '../../block.js';
import { link } from '../../kit.js';
import { Skip, check, equal, finish, test } from '../harness.mjs';
import { missing as noWorkerd, needNode22, start } from '../workerd.mjs';
import { launch, missing as noBrowser } from '../browser/browsers.mjs';
import { serve } from '../browser/server.mjs';
import { fromBase64, openStation, visit } from './station.mjs';

if (noWorkerd() === undefined) needNode22(import.meta.url);
const root = fileURLToPath(new URL('../../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'journey-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
const at = (name) => join(folder, name);
const run = (command, ...words) =>
  execFileSync(command, words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const pagentctl = (store, ...words) => run(at('pagentctl'), at(store), ...words);
const native = (store, { time, nonce, verbs, file }) =>
  JSON.parse(
    run(at('native'), at(store), `${time}`, `${nonce}`, ...verbs.map((verb) => verb.replace(/^in$/, `in:${file}`))),
  );

// The stations, two visits each: the engine of the first is gone when the second begins. The machine's timers are due at
// 1500000, 2500000 and 3500000; "rings" is how many have come.
const home = { time: 1_000_000, nonce: 1, verbs: ['create', 'walk:first', 'walk:second'] };
const tab = [
  { time: 1_200_000, nonce: 2, verbs: ['in'] },
  { time: 2_000_000, nonce: 3, verbs: ['rings:1', 'walk:first', 'walk:third', 'approve:gate', 'out'] },
];
const worker = [
  { time: 2_200_000, nonce: 4, verbs: ['in'] },
  { time: 3_000_000, nonce: 5, byAlarm: true, verbs: ['rings:2', 'walk:fourth', 'approve:bridge', 'out'] },
];
const back = { time: 4_000_000, nonce: 6, verbs: ['rings:3', 'walk:second', 'approve:home'] };

const events = [
  'start, walk, walk, moved', // home
  'claim, soon.timer, walk, gate.approved, moved', // tab
  'claim, later.timer, walk, bridge.approved, moved', // worker
  'claim, last.timer, home.approved', // home
].join(', ');

let wasm;
function compile() {
  if (existsSync(at('native'))) return;
  try {
    run('clang', '--version');
  } catch {
    throw new Skip('clang is missing: install the packages clang and lld');
  }
  const cc = process.env.CC ?? 'cc';
  run(cc, '-O1', '-I.', '-o', at('native'), 'wasm/test/journey/native.c');
  run(cc, '-O1', '-I.', '-o', at('pagentctl'), 'examples/pagentctl.c');
  run('./build.sh', 'wasm', 'wasm/test/journey/journey.c');
  wasm = readFileSync(join(root, 'build/wasm/journey.wasm'));
}

/** The canonical bytes of a file's blocks, whose chain is checked. */
function canonical(bytes) {
  const [, ...blocks] = split(bytes); // the head is one, too
  blocks.forEach((block, index) => {
    equal(header(block).version, index + 1);
    if (index > 0) equal(previousLink(block), link(blocks[index - 1]));
  });
  return blocks.map((block) => Buffer.concat([block.subarray(16, 60), block.subarray(64)]).toString('hex'));
}

const same = (found, wanted, what) =>
  check(
    JSON.stringify(found) === JSON.stringify(wanted),
    `${what}: ${JSON.stringify(found)}, wanted ${JSON.stringify(wanted)}`,
  );
const begins = (longer, shorter, what) =>
  check(longer.length > shorter.length && shorter.every((block, index) => block === longer[index]), what);
const armed = ({ effects }) => effects.map(([name]) => name).join(' ');

/** The events of all versions, or the types of those without one. */
const chainOf = (store) =>
  pagentctl(store, 'log', 'wanderer', '--json')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .map(({ event, type }) => event || type)
    .join(', ');

/** Sets out natively, is paused, and leaves by way of pagentctl: { path, bytes, left }. */
function setOut(store) {
  const left = native(store, home);
  equal(left.state, 'walking');
  equal(armed(left), 'soon gate later bridge last home');
  const path = at(`${store}.pagent`);
  pagentctl(store, 'export', 'wanderer', path, '--move');
  return { path, bytes: readFileSync(path), left };
}

/** The same two visits natively: the file with which the agent leaves that station. */
function twin(name, [first, second], path) {
  native(name, { ...first, file: path });
  const out = at(`${name}.pagent`);
  native(name, second);
  pagentctl(name, 'export', 'wanderer', out);
  return readFileSync(out);
}

/** Both visits at a station, and what must be so after them. */
async function stayAt(name, visits, arriving, stay) {
  const path = at(`to-${name}.pagent`);
  writeFileSync(path, arriving.bytes);
  const came = await stay({ ...visits[0], file: Buffer.from(arriving.bytes).toString('base64') });
  same(came.agent.effects, arriving.left.effects, `${name}: what is armed, with its ids, times and digests`);
  const { agent, out } = await stay(visits[1]);
  const bytes = fromBase64(out);
  const blocks = canonical(bytes);
  begins(blocks, canonical(arriving.bytes), `${name}: the blocks that came stay as they were`);
  same(blocks, canonical(twin(`${name}-natively`, visits, path)), `${name}: the native program's blocks`);
  console.log(
    `  ${name}: ${arriving.left.version} … ${agent.version} versions, the same bytes as natively; armed: ${armed(came.agent)}`,
  );
  return { bytes, left: agent };
}

test('one machine, compiled natively and into WebAssembly, has one hash', async () => {
  compile();
  const engine = await openStation({ wasm, store: memory(), clock: () => 1, nonce: 1 });
  equal(engine.machineHash('journey'), run(at('native'), 'none', '0', '0', 'hash').trim());
  await engine.close();
});

test('in Node.js: the same bytes as natively', async () => {
  compile();
  const data = new Map();
  const stay = async ({ time, nonce, verbs, file }) => {
    const engine = await openStation({ wasm, store: memory({ data }), clock: () => time, nonce });
    try {
      return await visit(engine, verbs, file && fromBase64(file));
    } finally {
      await engine.close();
    }
  };
  await stayAt('node', tab, setOut('home-of-node'), stay);
});

/** Two pages, one after the other: the first is closed with its engine open. */
async function openTab(ending) {
  const server = await serve();
  ending.push(() => server.close());
  const browser = await launch('chromium', { profile: at('profile') });
  ending.push(() => browser.kill());
  let page;
  return async (options) => {
    await page?.close();
    page = await browser.page(server.url);
    return page.call('/test/journey/page.mjs', 'stay', { wasm: wasm.toString('base64'), ...options });
  };
}

/** Two lives of one Durable Object: the first ends with SIGKILL. */
async function openWorker(ending) {
  const from = join(root, 'wasm/');
  const scripts = [
    ...['worker', 'station'].map((name) => `test/journey/${name}.mjs`),
    ...readdirSync(from).filter((name) => name.endsWith('.js')),
    ...['durable-object', 'sql', 'shared'].map((name) => `stores/${name}.js`),
  ];
  const modules = scripts.map((name) => ({
    type: 'ESModule',
    path: join(from, name),
    contents: readFileSync(join(from, name), 'utf8'),
  }));
  modules.push({ type: 'CompiledWasm', path: join(from, 'test/journey/journey.wasm'), contents: wasm });
  const begin = () =>
    start({
      modules,
      modulesRoot: from,
      compatibilityDate: '2026-01-01',
      durableObjects: { STATION: { className: 'Station', useSQLite: true } },
      durableObjectsPersist: at('objects'),
    });
  let server;
  ending.push(() => server?.stop());
  return async (options) => {
    await server?.kill();
    server = await begin();
    const body = JSON.stringify(options);
    const response = await fetch(server.url, { method: 'POST', body, signal: AbortSignal.timeout(280_000) });
    const { error, ...answer } = await response.json();
    if (error !== undefined) throw new Error(error);
    return answer;
  };
}

test('native, a tab of Chromium, a Worker, native again: timers and approvals stay armed', async () => {
  compile();
  const lacks = noBrowser('chromium') ?? noWorkerd();
  if (lacks !== undefined) throw new Skip(lacks);
  const ending = [];
  try {
    const paused = setOut('home');
    const fromTab = await stayAt('tab', tab, paused, await openTab(ending));
    const fromWorker = await stayAt('worker', worker, fromTab, await openWorker(ending));
    const path = at('to-home.pagent');
    writeFileSync(path, fromWorker.bytes);
    pagentctl('home-again', 'import', path, '--create');
    const arrived = native('home-again', back);
    same([arrived.state, arrived.steps, arrived.rings], ['arrived', 4, 3], 'at home');
    check(/clean/.test(pagentctl('home-again', 'verify')), 'verify');
    pagentctl('home-again', 'export', 'wanderer', at('last.pagent'));
    begins(
      canonical(readFileSync(at('last.pagent'))),
      canonical(fromWorker.bytes),
      'home: the blocks stay as they were',
    );
    same(chainOf('home-again'), events, 'what has happened, in order');
  } finally {
    for (const end of ending.reverse()) await end();
  }
}, 900_000);

await finish();
