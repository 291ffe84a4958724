// node wasm/test/browser/run.mjs [filter] [--browsers=chromium,firefox,webkit]
//
// pages/*.mjs run in a page of each browser: each export `tests` is { name: async (t) => … }; t.check(true, what),
// t.equal(a, b, what), t.throws(promise, pattern), t.skip(reason).
// drives/*.mjs run here and drive browsers: `tests` is the same, with t.kind, t.url, t.profile (an empty folder) and
// t.launch() as well. The filter is a part of "browser/file/test".

import { rmSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch, missing } from './browsers.mjs';
import { serve } from './server.mjs';
import { Skip, tools } from './tools.mjs';
import { within } from '../within.mjs';

const LIMIT_MS = 480_000; // for one test
const long = process.env.WEB_LONG !== undefined; // more kills

const options = process.argv.slice(2).filter((word) => word.startsWith('--'));
const [filter = ''] = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const kinds = options
  .find((word) => word.startsWith('--browsers='))
  ?.slice(11)
  .split(',') ?? ['chromium', 'firefox', 'webkit'];
const counts = { passed: 0, failed: 0, skipped: 0 };

function report(name, error, ms) {
  if (error === undefined) {
    counts.passed++;
    console.log(`ok      ${name} (${Math.round(ms)} ms)`);
  } else if (error instanceof Skip) {
    counts.skipped++;
    console.log(`skipped ${name}: ${error.message}`);
  } else {
    counts.failed++;
    console.log(`FAILED  ${name}\n        ${(error.stack ?? String(error)).replaceAll('\n', '\n        ')}`);
    console.log(`        again: node wasm/test/browser/run.mjs '${name}'`);
  }
}

async function timed(name, body) {
  const start = performance.now();
  try {
    await body();
    report(name, undefined, performance.now() - start);
  } catch (error) {
    report(name, error);
  }
}

/** KEEP=1 in the environment leaves the profiles of tests that failed. */
async function folder(body) {
  const path = await mkdtemp(join(tmpdir(), 'persistent-agent-'));
  let kept = false;
  const remove = () => rmSync(path, { recursive: true, force: true });
  process.once('exit', remove); // of a run that is ended in the middle
  try {
    return await body(path);
  } catch (error) {
    kept = process.env.KEEP !== undefined && !(error instanceof Skip);
    if (kept) console.log(`        kept: ${path}`);
    throw error;
  } finally {
    process.off('exit', remove);
    if (!kept) await rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

const modules = async (name) =>
  (await readdir(new URL(name, import.meta.url))).filter((file) => file.endsWith('.mjs')).sort();

/** All page modules in one browser, each in a page of its own. */
async function runPages(kind, url, profile) {
  const browser = await launch(kind, { profile });
  try {
    for (const file of await modules('pages/')) {
      const page = await browser.page(url),
        at = `/test/browser/pages/${file}`;
      const listed = page.call('/test/browser/tools.mjs', 'namesOf', at);
      const names = await within(LIMIT_MS, `the names of the tests in ${file}`, listed);
      for (const test of names) {
        const name = `${kind}/${file.slice(0, -4)}/${test}`;
        if (!name.includes(filter)) continue;
        await timed(name, async () => {
          const run = page.call('/test/browser/tools.mjs', 'runTest', at, test);
          const { skip } = await within(LIMIT_MS, 'the end of the test', run);
          if (skip !== undefined) throw new Skip(skip);
        });
      }
      await within(LIMIT_MS, `the page of ${file} closes`, page.close());
    }
  } finally {
    await browser.close();
  }
}

async function runDrives(kind, url) {
  for (const file of await modules('drives/')) {
    const { tests } = await import(`./drives/${file}`);
    for (const [test, body] of Object.entries(tests)) {
      const name = `${kind}/${file.slice(0, -4)}/${test}`;
      if (!name.includes(filter)) continue;
      await timed(name, () =>
        folder(async (profile) => {
          const started = [];
          const start = async (more) => {
            const browser = await launch(kind, { profile, ...more });
            started.push(browser);
            return browser;
          };
          try {
            await within(LIMIT_MS, 'the end of the test', body({ ...tools, kind, url, profile, long, launch: start }));
          } finally {
            for (const browser of started) await browser.kill(); // of a test that hangs, too: then it fails there
          }
        }),
      );
    }
  }
}

async function runKind(kind, url) {
  const reason = missing(kind);
  if (reason !== undefined) return report(kind, new Skip(reason));
  try {
    await folder((profile) => runPages(kind, url, profile));
    await runDrives(kind, url);
  } catch (error) {
    report(kind, error);
  }
}

const server = await serve();
await Promise.all(kinds.map((kind) => runKind(kind, server.url))); // they mostly wait for the disk
await server.close();
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed === 0 ? 0 : 1);
