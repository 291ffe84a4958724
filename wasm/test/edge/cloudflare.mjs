// The Cloudflare example over HTTP: a whole life, refusals, races, a model that is down, alarms, restarts, SIGKILL.

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { finish, tally } from '../stores/harness.mjs';
import { missing, needNode22 } from '../workerd.mjs';
import { api, life, refusals } from './kit.mjs';
import { startModel } from './model.mjs';

const total = tally();
const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const reason = missing() ?? (existsSync(file('../../persistent_agent.wasm')) ? undefined : 'its .wasm is not built');
if (reason !== undefined) {
  total.skip('cloudflare', reason);
  finish(total.total);
  process.exit();
}
needNode22(import.meta.url);
const { startWorker } = await import('./workerd.mjs');

const folder = mkdtempSync(join(tmpdir(), 'pagent-edge-'));
const model = await startModel();
const bindings = {
  MODEL_URL: model.url,
  MODEL_KEY: 'the model key',
  MODEL_NAME: 'small',
  DELIVER_URL: `${model.url}/deliver`,
};
const assert = (condition, what) => {
  if (!condition) throw new Error(typeof what === 'string' ? what : JSON.stringify(what));
};
let server, agents;

async function start(more = {}) {
  server = await startWorker(folder, { ...bindings, ...more });
  agents = api(server.url);
}
async function restart(more) {
  await server.stop();
  await start(more);
}
async function kill(more) {
  await server.kill();
  await start(more);
}
const eyes = async (name) => (await agents.get(`/agents/${name}/eyes`)).body;

await start();
await life(total, () => ({ agents, model, assert }));
await refusals(total, () => ({ agents, model, assert }));

await total.check('a name that is only asked about leaves nothing behind', async () => {
  assert((await agents.get('/agents/ghost')).status === 404, 'it is there');
  assert((await agents.post('/agents/ghost/approve', {})).status === 404, 'it is there');
  const { tables, alarm } = await eyes('ghost');
  assert(tables === 0 && alarm === null, { tables, alarm });
});

for (const [how, again] of [
  ['restarted', restart],
  ['killed', kill],
]) {
  await total.check(
    `${how} between the question and the approval: goes on, and the model is not asked again`,
    async () => {
      const name = `between-${how}`;
      model.asked.length = model.delivered.length = 0;
      await agents.post(`/agents/${name}`, { question: 'When?' });
      const before = await agents.until(name, 'asking');
      const { born } = await eyes(name);
      await again();
      const after = (await agents.get(`/agents/${name}`)).body;
      assert(after.state === 'asking' && after.context.draft === 'Sleep well.', after);
      assert(
        after.effects.find(({ kind }) => kind === 'approval').digest ===
          before.effects.find(({ kind }) => kind === 'approval').digest,
        'another question',
      );
      const approved = await agents.post(`/agents/${name}/approve`, {
        who: 'Ada',
        expectedVersion: before.changedVersion,
      });
      assert(approved.status === 200, approved);
      await agents.until(name, 'sent');
      assert((await eyes(name)).born !== born, 'it was never ended');
      assert(model.asked.length === 1, `asked ${model.asked.length} times`);
      assert(model.delivered.length === 1, `delivered ${model.delivered.length} times`);
    },
  );
}

await total.check('killed while the model thinks: asked again under the same key', async () => {
  model.asked.length = 0;
  model.answer = () => ({ hang: true });
  await agents.post('/agents/thinking', { question: 'Why?' });
  await agents.wait(() => model.asked.length === 1, 'the question');
  model.answer = () => ({ text: 'Because.' });
  await kill();
  const { context } = await agents.until('thinking', 'asking');
  assert(context.draft === 'Because.' && model.asked.length === 2, [context, model.asked.length]);
  assert(
    model.asked[0].key === model.asked[1].key,
    model.asked.map(({ key }) => key),
  );
  model.answer = () => ({ text: 'Sleep well.' });
});

await total.check('20 agents, killed while their models are down: all of them go on', async () => {
  model.answer = () => ({ status: 503 });
  await Promise.all(Array.from({ length: 20 }, (_, n) => agents.post(`/agents/many-${n}`, { question: `${n}?` })));
  await kill();
  model.answer = ({ body }) => ({ text: `to ${body.messages[1].content}` });
  await Promise.all(
    Array.from({ length: 20 }, async (_, n) => {
      const { context } = await agents.until(`many-${n}`, 'asking');
      assert(context.draft === `to ${n}?`, context);
    }),
  );
  model.answer = () => ({ text: 'Sleep well.' });
});

await restart({ NO_TIMERS: true });

await total.check('the model is down, then up: its retries come by the alarm', async () => {
  model.asked.length = 0;
  model.answer = () => (model.asked.length < 3 ? { status: 503 } : { text: 'At last.' });
  await agents.post('/agents/down', { question: 'Now?' });
  await agents.wait(async () => model.asked.length >= 1 && (await eyes('down')).alarm !== null, 'an alarm');
  await agents.wait(() => model.asked.length === 3, 'three questions'); // nobody touches the object meanwhile
  const { context } = await agents.until('down', 'asking');
  const { count, alarm } = await eyes('down');
  assert(context.draft === 'At last.' && new Set(model.asked.map(({ key }) => key)).size === 1, context);
  assert(count >= 2 && alarm !== null, { count, alarm });
  return `${count} alarms`;
});

await total.check('retry-after is kept, by the alarm', async () => {
  model.asked.length = 0;
  model.answer = () =>
    model.asked.length === 1 ? { status: 429, headers: { 'retry-after': '3' } } : { text: 'At last.' };
  await agents.post('/agents/busy', { question: 'Now?' });
  await agents.wait(() => model.asked.length === 2, 'the second question');
  const waited = model.asked[1].at - model.asked[0].at;
  assert(waited >= 2950, `after ${waited} ms`); // without it, it would have been about 1000
  await agents.until('busy', 'asking');
  return `${waited} ms`;
});

await total.check('a reminder and a deadline come by the alarm; then there is none', async () => {
  model.answer = () => ({ text: 'Sleep well.' });
  await agents.post('/agents/late', { question: 'Now?', remindMs: 300, deadlineMs: 4000 });
  const still = async () => (await eyes('late')).alarm === null;
  await agents.wait(still, 'the end of the alarms'); // its eyes alone do not wake the engine
  const { context, effects } = await agents.until('late', 'expired');
  assert(context.reminders >= 1 && effects.length === 0, context);
  await agents.wait(still, 'no alarm');
  const { count } = await eyes('late');
  assert(count >= 1, { count });
  return `${context.reminders} reminders, ${count} alarms`;
});

await total.check('killed while it waits for a retry: the alarm brings it back', async () => {
  model.asked.length = 0;
  model.answer = () => ({ status: 500 });
  await agents.post('/agents/gone', { question: 'Now?' });
  await agents.wait(() => model.asked.length >= 1, 'the question');
  model.answer = () => ({ text: 'Back.' });
  await kill({ NO_TIMERS: true });
  const { context } = await agents.until('gone', 'asking');
  assert(context.draft === 'Back.' && new Set(model.asked.map(({ key }) => key)).size === 1, context);
});

await restart({ API_KEY: 'the key' });

await total.check('with API_KEY nobody comes in without it', async () => {
  assert((await agents.get('/agents/down')).status === 401, 'let in');
  assert((await agents.post('/agents/down/approve', {}, { authorization: 'Bearer the kez' })).status === 401, 'let in');
  assert((await agents.get('/agents/down', { authorization: 'Bearer the key' })).status === 200, 'kept out');
});

await server.stop();
await model.stop();
rmSync(folder, { recursive: true, force: true });
finish(total.total);
