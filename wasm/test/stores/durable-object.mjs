// Durable Objects in workerd: the kit, 40 racers, the alarm, SIGKILL.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkNames } from '../../kit.js';
import { until } from '../within.mjs';
import { missing, needNode22 } from '../workerd.mjs';
import { finish, tally } from './harness.mjs';

const total = tally();
const reason = missing();
if (reason !== undefined) {
  total.skip('durable objects', reason);
  finish(total.total);
  process.exit();
}
needNode22(import.meta.url);
const { startWorkerd } = await import('./workerd.mjs');
const folder = mkdtempSync(join(tmpdir(), 'pagent-do-'));
let server = await startWorkerd(folder);
const assert = (condition, what) => {
  if (!condition) throw new Error(typeof what === 'string' ? what : JSON.stringify(what));
};

async function kill() {
  await server.kill();
  server = await startWorkerd(folder);
}

// One after the other, in requests that a slow disk does not draw out; part of a name asks for all that have it.
const asked = checkNames.filter((name) => !checkNames.some((other) => other !== name && name.includes(other)));
for (const [number, name] of asked.entries()) {
  const kit = await server.json(`/object/kit-${number}/kit?only=${encodeURIComponent(name)}`);
  for (const line of kit.lines) console.log(line);
  total.add(kit);
}

await total.check('40 racers, one winner', async () => {
  for (let expected = 0; expected < 5; expected++) {
    const results = await Promise.all(
      Array.from({ length: 40 }, (_, writer) => server.json(`/object/race/race?expected=${expected}&writer=${writer}`)),
    );
    assert(results.filter(({ result }) => result === 'ok').length === 1, results);
    assert(
      results.filter(({ result, version }) => result === 'conflict' && version === expected + 1).length === 39,
      results,
    );
  }
});

await total.check('one statement leaves what a transaction would', async () => {
  const [one, many] = await server.json('/object/steps/steps');
  const of = ({ results }, what) => results.map((result) => result[what]).join(' ');
  assert(JSON.stringify(one.left) === JSON.stringify(many.left), [one.left, many.left]);
  assert(one.left.head.length === 1 && one.left.block.length === 11, one.left);
  assert(of(one, 'result') === 'ok ok ok ok conflict fenced ok ok ok', one.results);
  assert(of(many, 'result') === of(one, 'result') && one.results[4].version === 4, many.results);
  assert(of(one, 'transactions') === '1 0 0 0 1 1 1 1 0', one.results);
  assert(of(many, 'transactions') === '1 1 1 1 1 1 1 1 1', many.results);
});

await total.check('a transaction that ends takes its alarm along', async () => {
  const found = await server.json('/object/bad/bad');
  assert(found.thrown === 'after the alarm' && found.version === 0 && found.after === null, found);
});

await total.check('the alarm follows the earliest due time', async () => {
  const at = (stream, more) => server.json(`/object/follow/append?stream=${stream}${more}`);
  const state = () => server.json('/object/follow/state');
  await at('000000000000000a', '&in=500000');
  const far = (await state()).alarm;
  await at('000000000000000b', '&in=300000');
  const near = (await state()).alarm;
  assert(near < far && near === (await state()).nextDue, [near, far]);
  await at('000000000000000b', '');
  assert((await state()).alarm === far, 'not moved back');
  await at('000000000000000a', '');
  assert((await state()).alarm === null, 'not deleted');
  const before = Date.now() - 1000; // the clock of workerd stands still between what it is told
  await at('000000000000000c', '&flags=1');
  const watched = (await state()).alarm;
  assert(
    watched >= before + 60000 && watched <= Date.now() + 60000,
    `calls under way are looked after in ${watched - before} ms`,
  );
  await at('000000000000000c', '');
  assert((await state()).alarm === null, 'not deleted after the call');
});

await total.check('an alarm comes, and what it woke is due no more', async () => {
  await server.json('/object/wake/append?in=200');
  const found = await until(async () => {
    const state = await server.json('/object/wake/state');
    return state.woken > 0 && state.alarm === null && state;
  }, 'the alarm');
  assert(found.items[0].version === 2 && found.nextDue === null, found);
});

await total.check('an alarm comes again when waking fails, ten times', async () => {
  await server.json('/object/fails/append?in=100&failures=10');
  await until(async () => {
    const state = await server.json('/object/fails/state');
    return state.woken === 1 && state.alarm === null && state.nextDue === null;
  }, 'the alarm');
});

await total.check('an alarm comes after a restart', async () => {
  await server.json('/object/restart/append?in=1500');
  await server.stop();
  server = await startWorkerd(folder);
  await until(async () => (await server.json('/object/restart/state')).woken > 0, 'the alarm');
});

await total.check('an alarm comes after SIGKILL', async () => {
  await server.json('/object/killed/append?in=1500');
  await kill();
  const found = await until(async () => {
    const state = await server.json('/object/killed/state');
    return state.woken > 0 && state.nextDue === null && state;
  }, 'the alarm');
  assert(found.items[0].version === 2, found);
});

await total.check('SIGKILL in the middle of appends, 5 times', async () => {
  const acked = [];
  let blocks = 0;
  for (let round = 0; round < 5; round++) {
    const response = await server.fetch(`/object/crash/write?writer=${round + 1}`);
    const before = acked.length;
    let text = '',
      killed;
    try {
      for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
        const lines = (text + piece).split('\n');
        text = lines.pop();
        for (const line of lines) acked.push(JSON.parse(line));
        if (!killed && acked.length > before + 50 + round * 17) killed = kill();
      }
    } catch {
      /* the kill */
    }
    assert(killed, 'the writer ended by itself');
    await killed;
    const found = await server.json('/object/crash/check', { method: 'POST', body: JSON.stringify(acked) });
    assert(found.lost.length === 0, found.lost);
    blocks = found.blocks;
  }
  return `${acked.length} acknowledged, ${blocks} blocks`;
});

await total.check('rate', async () => {
  const begun = performance.now();
  let commits = 0; // in requests that a slow disk does not draw out
  const append = async (stream) => {
    while (performance.now() - begun < 1500) {
      await (await server.fetch(`/object/rate/rate?stream=${stream}&count=10`)).text();
      commits += 10;
    }
  };
  await Promise.all(['01', '02', '03', '04'].map(append));
  return `${Math.round(commits / ((performance.now() - begun) / 1000))} commits/s, 4 at a time`;
});

await server.stop();
rmSync(folder, { recursive: true, force: true });
finish(total.total);
