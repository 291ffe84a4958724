// node wasm/bench/page.mjs [--agents=1000] [--steps=50] [--rounds=5]
//
// The reviewer's page over IndexedDB with many documents: how long it takes from the navigation until all of them are
// listed, and the longest frame while the engine works, somebody approves, and the list follows. Floor of the opening: the
// same page without a document. Half of the documents wait for an approval, the others are published; the steps
// that a review does not have are rollbacks to where the document stands. The same file runs in the page.

import { Table, median, words } from './kit.mjs';

// ---- in the page ----------------------------------------------------------------------------------------------------

const nameOf = (number) => `document-${String(number + 1).padStart(4, '0')}`;
const textOf = (number) =>
  `Agreement ${number + 1}\n\nThe supplier shall indemnify the customer without limit. The parties may terminate this ` +
  `agreement at any time without notice. Payment is due within ${10 + (number % 50)} days.\n`;

export async function fill(agents, steps) {
  const { open } = await import('../index.js');
  const { indexedDB: database } = await import('../stores/indexeddb.js');
  const { analyseCall, review } = await import('../demo/review/machine.js');
  const store = await database('document-review', { durability: 'relaxed' });
  const engine = await open({
    store,
    machines: [review],
    calls: { analyse: analyseCall, publish: async (request) => request.json?.().file ?? 'report' },
    limits: { loadedMax: agents },
  });
  const names = Array.from({ length: agents }, (_, number) => nameOf(number));
  await Promise.all(
    names.map((name, number) =>
      engine.create(name, 'review', {
        file: `${name}.txt`,
        text: textOf(number),
        threshold: number % 2 === 0 ? 0 : 101,
        deadline: 0,
      }),
    ),
  );
  await engine.idle();
  const views = new Map();
  for (;;) {
    views.clear();
    for (const name of names) views.set(name, await engine.view(name));
    if ([...views.values()].every(({ state }) => ['approval', 'published'].includes(state))) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await Promise.all(
    names.map(async (name) => {
      const { version } = views.get(name);
      for (let at = version; at < steps; at += 2) await engine.rollback(name, version); // and the step that asks again
    }),
  );
  const versions = [];
  for (const name of [names[0], names.at(-1)]) versions.push((await engine.view(name)).version);
  await engine.close();
  store.close();
  return versions;
}

const listed = () => document.querySelectorAll('#list button').length;

/** Milliseconds from the navigation until that many documents are listed. */
export async function opened(agents) {
  while (listed() < agents || document.getElementById('role').dataset.role === 'starting')
    await new Promise((resolve) => requestAnimationFrame(resolve));
  return performance.now();
}

export async function drawn() {
  while (document.querySelector('#diagram svg, #diagram pre') === null)
    await new Promise((resolve) => setTimeout(resolve, 50));
}

/** Approves documents one after the other as a person would, by the page; the longest frames meanwhile. */
export async function work(from, count) {
  const frames = [];
  let last = performance.now(),
    working = true;
  const frame = (now) => {
    frames.push(now - last);
    last = now;
    if (working) requestAnimationFrame(frame);
  };
  requestAnimationFrame((now) => {
    last = now;
    requestAnimationFrame(frame);
  });
  const began = performance.now();
  for (let index = 0; index < count; index++) {
    const button = document.querySelector(`#list button[data-name="${nameOf(2 * (from + index))}"]`);
    button.click();
    const there = () =>
      button.dataset.name === document.querySelector('#list button[aria-current="true"]')?.dataset.name &&
      !document.getElementById('decide').hidden;
    while (!there()) await new Promise((resolve) => requestAnimationFrame(resolve));
    document.getElementById('approve').click();
    while (!document.getElementById('decide').hidden) await new Promise((resolve) => requestAnimationFrame(resolve));
  }
  const took = performance.now() - began;
  working = false;
  frames.sort((a, b) => b - a);
  return { longest: frames[0], frames: frames.length, each: took / count };
}

// ---- outside --------------------------------------------------------------------------------------------------------

async function main() {
  const { mkdtemp, rm } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  const { join } = await import('node:path');
  const { binaries, startChromium } = await import('../test/browser/browsers.mjs');
  const { serve } = await import('../demo/serve.mjs');
  const options = words({ agents: '1000', steps: '50', rounds: '5' });
  const [agents, steps, rounds] = [options.agents, options.steps, options.rounds].map(Number);
  const table = new Table();
  if (!binaries.chromium) {
    table.skip('the page', 'no chromium here');
    return table.print('The page');
  }
  const profile = await mkdtemp(join(tmpdir(), 'persistent-agent-')),
    server = await serve(0),
    chromium = await startChromium(profile),
    context = chromium.browser.contexts()[0];
  const call = (page, name, ...args) =>
    page.evaluate(
      async ([module, called, given]) => (await import(module))[called](...given),
      [new URL('../bench/page.mjs', server.url).href, name, args],
    );
  const timed = async (count) => {
    const page = await context.newPage();
    await page.goto(server.url, { waitUntil: 'commit' });
    const ms = await call(page, 'opened', count);
    return { page, ms };
  };
  try {
    const empty = [],
      full = [],
      longest = [],
      each = [];
    for (let round = 0; round < rounds; round++) {
      const { page, ms } = await timed(0);
      empty.push(ms);
      await page.close();
    }
    const page = await context.newPage();
    await page.goto(new URL('../bench/', server.url).href.replace(/bench\/$/, 'demo/icon.svg'));
    const versions = await call(page, 'fill', agents, steps);
    await page.close();
    for (let round = 0; round < rounds; round++) {
      const opened = await timed(agents);
      full.push(opened.ms);
      await call(opened.page, 'drawn'); // once, by Mermaid, and not counted here
      const run = await call(opened.page, 'work', round * 5, 5);
      longest.push(run.longest);
      each.push(run.each);
      await opened.page.close();
    }
    table.line({
      what: `page, ${agents} agents of ${versions[0]} steps in IndexedDB: all listed`,
      measured: `${Math.round(median(full))} ms`,
      floor: `${Math.round(median(empty))} ms without an agent`,
      value: median(full),
      result: `${Math.round(median(full))} ms`,
      most: 1000,
      bar: '≤ 1000 ms',
    });
    table.line({
      what: 'the same, while documents are chosen and approved: longest frame',
      measured: `${Math.round(median(longest))} ms`,
      floor: `${Math.round(median(each))} ms for one of them`,
      value: median(longest),
      result: `${Math.round(Math.max(...longest))} ms`,
      most: 100,
      bar: '≤ 100 ms',
    });
  } catch (error) {
    table.fail('the page', error);
  } finally {
    await chromium.close();
    await server.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
  return table.print(`The page, medians of ${rounds} rounds`);
}

if (typeof process !== 'undefined' && process.versions?.node) process.exit(await main());
