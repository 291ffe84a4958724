// node wasm/test/files/inbox.mjs [filter]        (bun and deno too: deno run -A …)
// Messages to the owner of a directory, from another process or thread; the owner is JavaScript, or native.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { open } from '../../index.js';
import { files, inbox } from '../../stores/node.js';
import { check, equal, fails, finish, test } from '../harness.mjs';
import { until } from '../within.mjs';
import { counter, countOf } from './counter.mjs';

const at = (name) => fileURLToPath(new URL(name, import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'persistent-agent-inbox-'));
process.on('exit', () => rmSync(root, { recursive: true, force: true }));
let number = 0;
const fresh = () => join(root, `store-${++number}`);
const program = join(root, 'native');
execFileSync(process.env.CC ?? 'cc', ['-O1', '-o', program, at('native.c')]);
const native = (...words) => execFileSync(program, words, { encoding: 'utf8' }).trim();
const start = (path) => open({ machines: [counter], store: files(path), limits: { inboxIntervalMs: 5 } });

const answered = (letters, id) => until(() => letters.receipt(id), `the receipt of ${id}`);

test('an owner in JavaScript answers', async () => {
  const path = fresh(),
    engine = await start(path);
  const letters = await inbox(path);
  equal(letters.receipt('m1'), undefined);
  letters.send({ verb: 'create', agent: 'a', machine: 'counter', id: 'm1' });
  const made = await answered(letters, 'm1');
  equal(`${made.version} ${made.outcome}`, '1 done');
  equal(letters.receipt('m1'), undefined, 'it was removed');
  letters.send({ verb: 'post', agent: 'a', signal: 'add', data: { n: 1 }, id: 'm2' });
  letters.send({ verb: 'post', agent: 'a', signal: 'add', data: { n: 1 }, id: 'm2' });
  equal((await answered(letters, 'm2')).version, 2);
  letters.send({ verb: 'post', agent: 'a', signal: 'ask', id: 'm3' });
  await answered(letters, 'm3');
  letters.send({ verb: 'approve', agent: 'a', who: 'Bea', id: 'm4' });
  await answered(letters, 'm4');
  const view = await engine.view('a');
  equal(countOf(view.context), 1);
  equal(view.state, 'counting');
  letters.send({ verb: 'fork', agent: 'a', version: 2, newAgent: 'b', id: 'm5' });
  await answered(letters, 'm5');
  check(await engine.has('b'), 'the fork');
  await engine.close();
});

test('what the owner refuses is thrown, with its name', async () => {
  const path = fresh(),
    engine = await start(path),
    letters = await inbox(path);
  letters.send({ verb: 'post', agent: 'nobody', signal: 'add', id: 'm1' });
  await fails('E_NOT_FOUND', () => answered(letters, 'm1'));
  await engine.create('a', 'counter');
  await engine.post('a', 'add');
  letters.send({ verb: 'post', agent: 'a', signal: 'add', expectedVersion: 1, id: 'm2' });
  equal((await fails('E_CONFLICT', () => answered(letters, 'm2'))).version, 2);
  await engine.close();
});

test('what can not be sent', async () => {
  const path = fresh(),
    engine = await start(path),
    letters = await inbox(path);
  await engine.close();
  await fails('E_ARGUMENT', () => letters.send({ verb: 'post', agent: 'a', signal: 'add' }));
  await fails('E_ARGUMENT', () => letters.send({ verb: 'bake', agent: 'a', id: 'm1' }));
  await fails('E_ARGUMENT', () => letters.send({ verb: 'post', agent: 'a', event: 'add', id: 'm1' }));
  letters.send({ verb: 'post', agent: 'a', signal: 'add', id: 'm1' });
  await fails('E_EXISTS', () => letters.send({ verb: 'post', agent: 'b', signal: 'add', id: 'm1' }));
  equal(readdirSync(join(path, 'inbox')).length, 1, 'one message, nothing half written');
  await fails('E_NOT_FOUND', () => inbox(join(root, 'nowhere')));
});

test('messages wait for the next owner: a native one', async () => {
  const path = fresh(),
    engine = await start(path);
  await engine.create('a', 'counter');
  await engine.close();
  const letters = await inbox(path);
  for (let i = 0; i < 3; i++)
    letters.send({ verb: 'post', agent: 'a', signal: 'add', data: 'from JavaScript', id: `m${i}` });
  equal(letters.receipt('m0'), undefined);
  const [state, , count] = native(path, 'add', 'a', '2').split(' ');
  equal(`${state} ${count}`, 'counting 5');
  for (let i = 0; i < 3; i++) check(letters.receipt(`m${i}`)?.version > 1, `receipt ${i}`);
  equal(readdirSync(join(path, 'inbox')).length, 0, 'all collected');
});

test('a damaged message is answered with E_CORRUPT', async () => {
  const path = fresh();
  await (await start(path)).close();
  const letters = await inbox(path);
  letters.send({ verb: 'create', agent: 'a', machine: 'counter', id: 'm1' });
  const [name] = readdirSync(join(path, 'inbox'));
  writeFileSync(join(path, 'inbox', name), 'no message at all, but some bytes');
  const engine = await start(path);
  await fails('E_CORRUPT', () => answered(letters, 'm1'));
  await engine.close();
});

await finish();
