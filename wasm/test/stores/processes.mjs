// What a store that several processes share goes through: the kit in one, two that race, one that is killed.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../within.mjs';

function start({ program, args, env }, more, show) {
  const child = spawn(program, [...args, ...more], {
    env: { ...process.env, ...env, NODE_NO_WARNINGS: '1', NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece) => {
    text += piece;
  });
  const done = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      if (show)
        for (const line of text.trim().split('\n').slice(0, -1))
          console.log(line.startsWith('ok') ? `  ${line}` : line);
      resolve({ code, last: text.trim().split('\n').at(-1) });
    });
  });
  return { child, done };
}
const ackedIn = (path) =>
  existsSync(path)
    ? readFileSync(path, 'utf8')
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line))
    : [];

/**
 * `driver` starts a program: without arguments it runs the kit; "write PATH WRITER ACKS [LIMIT]" is startWriter, "check PATH
 * ACKS,…" is checkWritten.
 */
export async function processes(total, driver) {
  const { name } = driver;
  const folder = mkdtempSync(join(tmpdir(), 'pagent-store-'));
  const check = (database, acks) =>
    start(driver, ['check', database, acks.join(',')], false).done.then(({ last }) => JSON.parse(last));

  console.log(`${name}:`);
  const { last, code } = await start(driver, [], true).done;
  const counts = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(last);
  if (counts) total.add({ passed: Number(counts[1]), failed: Number(counts[2]), skipped: Number(counts[3]) });
  else
    await total.check(`${name}: the kit`, () => {
      throw new Error(`ended with ${code}: ${last}`);
    });

  /** Both until each has so many acknowledged; one that starts late finds the other gone: then longer. */
  async function race(limit) {
    const database = join(folder, `race-${limit}`);
    const acks = [1, 2].map((writer) => `${database}.acks${writer}`);
    const results = await Promise.all(
      [1, 2].map((writer) => start(driver, ['write', database, writer, acks[writer - 1], limit], false).done),
    );
    const outcomes = results.map(({ last: line }) => JSON.parse(line));
    const { lost, blocks } = await check(database, acks);
    if (lost.length) throw new Error(lost.join('; '));
    if (!outcomes.some(({ conflicts }) => conflicts)) {
      if (limit > 10_000) throw new Error('they never met');
      return race(limit * 4);
    }
    return `${outcomes.map(({ acked, conflicts, again, doubts }) => `${acked} acknowledged, ${conflicts} conflicts, ${again} again, ${doubts} in doubt`).join(' / ')}; ${blocks} blocks`;
  }
  await total.check(`${name}: two processes race on the same agents`, () => race(300));

  await total.check(`${name}: SIGKILL in the middle of appends, 10 times`, async () => {
    const database = join(folder, 'kill');
    const acks = `${database}.acks`;
    let blocks = 0;
    for (let round = 0; round < 10; round++) {
      const before = ackedIn(acks).length;
      const { child, done } = start(driver, ['write', database, round + 1, acks], false);
      const wanted = before + 15 + round * 3;
      const ended = () => child.exitCode !== null || child.signalCode !== null;
      await until(() => ackedIn(acks).length >= wanted || ended(), `${wanted} acknowledged`, { pauseMs: 2 });
      if (ended()) throw new Error('the writer ended by itself');
      child.kill('SIGKILL');
      await done;
      const found = await check(database, [acks]);
      if (found.lost.length) throw new Error(`round ${round}: ${found.lost.join('; ')}`);
      blocks = found.blocks;
    }
    return `${ackedIn(acks).length} acknowledged, ${blocks} blocks`;
  });
  rmSync(folder, { recursive: true });
}
