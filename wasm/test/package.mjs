// The package as users get it: packed, installed into an empty project, and used from there, bundled and not.

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch, missing } from './browser/browsers.mjs';
import { serve } from './browser/server.mjs';
import { Skip, check, equal, finish, test } from './harness.mjs';

const here = new URL('./', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'package-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const run = (command, words, cwd = folder) =>
  execFileSync(command, words, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

const program = `
import { open } from 'persistent-agent';
import { memory } from 'persistent-agent/memory';
const machine = {
  name: 'm', signals: ['go'], states: { a: {}, end: { final: true } },
  transitions: [{ from: 'a', event: 'go', to: 'end', action(step) { step.context.who = step.agent; } }],
};
const engine = await open({ machines: [machine], store: memory(), ...globalThis.more });
await engine.create('x', 'm');
await engine.post('x', 'go');
const { state, context } = await engine.view('x');
const copy = await engine.import(await engine.export('x'), { as: 'y' });
await engine.close();
console.log(state, JSON.stringify(context), copy);
`;
const printed = 'end {"who":"x"} y\n';

const portable = `
import { open } from 'persistent-agent';
import { exportAgent, importAgent } from 'persistent-agent/portable';
const engine = await open({ machines: [{ name: 'm', states: { end: { final: true } } }] });
await engine.create('x', 'm');
console.log(await importAgent(engine, await exportAgent(engine, 'x'), { as: 'y' }));
await engine.close();
`;

test('packed, and used from an empty project', () => {
  const [{ filename, files }] = JSON.parse(
    run('npm', ['pack', '--json', '--pack-destination', folder], join(here, '..')),
  );
  const names = files.map(({ path }) => path);
  for (const wanted of [
    'index.js',
    'index.d.ts',
    'persistent_agent.wasm',
    'stores/indexeddb.js',
    'stores/indexeddb.d.ts',
  ]) {
    check(names.includes(wanted), `${wanted} is not packed`);
  }
  check(!names.some((name) => /^(test|demo|bench|examples)\//.test(name)), `too much is packed: ${names}`);
  writeFileSync(join(folder, 'package.json'), '{"type":"module","private":true}');
  run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--offline', join(folder, filename)]);
  writeFileSync(join(folder, 'program.mjs'), program);
  equal(run('node', ['program.mjs']), printed);
  writeFileSync(join(folder, 'portable.mjs'), portable);
  equal(run('node', ['portable.mjs']), 'y\n');
  const { exports } = JSON.parse(readFileSync(join(here, '../package.json'), 'utf8'));
  for (const [name, target] of Object.entries(exports)) {
    for (const file of typeof target === 'string' ? [target] : Object.values(target)) {
      check(existsSync(join(folder, 'node_modules/persistent-agent', file)), `${name}: ${file} is not there`);
    }
  }
});

for (const [how, ...flags] of [
  ['one file', '--outfile=one/program.mjs'],
  ['files that load others', '--splitting', '--out-extension:.js=.mjs', '--outdir=several'],
]) {
  test(`bundled by esbuild: ${how}`, () => {
    const bundler = join(here, 'node_modules/esbuild/bin/esbuild');
    if (!existsSync(bundler)) throw new Skip('the npm package esbuild is not installed');
    writeFileSync(join(folder, 'program.mjs'), program);
    run('node', [bundler, 'program.mjs', '--bundle', '--minify', '--format=esm', ...flags]);
    const out = flags.at(-1).split(/[=/]/)[1];
    cpSync(join(here, '../persistent_agent.wasm'), join(folder, out, 'persistent_agent.wasm'));
    equal(run('node', [`${out}/program.mjs`]), printed);
  });
}

// ---- by Vite, built and from its own server: two pages, the second finds what the first has left

const app = `
import { open } from 'persistent-agent';
import { indexedDB } from 'persistent-agent/indexeddb';
const machine = {
  name: 'm', signals: ['go'], states: { a: {}, end: { final: true } },
  transitions: [{ from: 'a', event: 'go', to: 'end', action(step) { step.context.who = step.agent; } }],
};
globalThis.outcome = (async () => {
  const engine = await open({ machines: [machine], store: await indexedDB('vite') });
  if (await engine.has('x')) await engine.post('x', 'go');
  else await engine.create('x', 'm');
  const { state, context } = await engine.view('x');
  const copy = await engine.import(await engine.export('x'), { as: 'copy of ' + state });
  await engine.close();
  return state + ' ' + JSON.stringify(context) + ' ' + copy;
})();
`;

async function vite() {
  if (!existsSync(join(here, 'node_modules/vite'))) throw new Skip('the npm package vite is not installed');
  const reason = missing('chromium');
  if (reason !== undefined) throw new Skip(reason);
  writeFileSync(
    join(folder, 'index.html'),
    '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/app.js"></script>',
  );
  writeFileSync(join(folder, 'app.js'), app);
  return import('vite');
}

async function inChromium(url) {
  const profile = mkdtempSync(join(tmpdir(), 'package-profile-')); // not in the folder: Vite's server watches that
  process.on('exit', () => rmSync(profile, { recursive: true, force: true, maxRetries: 5 }));
  const browser = await launch('chromium', { profile });
  try {
    for (const wanted of ['a {} copy of a', 'end {"who":"x"} copy of end']) {
      const page = await browser.page(url);
      equal(await page.call('data:text/javascript,export const outcome=()=>globalThis.outcome', 'outcome'), wanted);
      await page.close();
    }
  } finally {
    await browser.kill();
  }
}

test('built by Vite, in Chromium', async () => {
  const { build } = await vite();
  await build({ root: folder, configFile: false, logLevel: 'error' });
  const server = await serve(0, join(folder, 'dist/'));
  try {
    await inChromium(server.url);
  } finally {
    await server.close();
  }
}, 600_000);

test("from Vite's development server, in Chromium", async () => {
  const { createServer } = await vite();
  const server = await createServer({ root: folder, configFile: false, logLevel: 'error', server: { port: 0 } });
  try {
    await server.listen();
    await inChromium(server.resolvedUrls.local[0]);
  } finally {
    await server.close();
  }
}, 600_000);

await finish('');
