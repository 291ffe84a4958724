// The Deno example over HTTP: a whole life, refusals, races, a model that is down, SIGKILL.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../free-port.mjs';
import { finish, tally } from '../stores/harness.mjs';
import { api, life, refusals } from './kit.mjs';
import { startModel } from './model.mjs';

const total = tally();
const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const deno = file('../node_modules/@deno/linux-x64-glibc/deno');
const missing = !existsSync(deno)
  ? 'not installed: npm ci in wasm/test'
  : !existsSync(file('../../persistent_agent.wasm'))
    ? 'persistent_agent.wasm is not built'
    : undefined;
if (missing !== undefined) {
  total.skip('deno', missing);
  finish(total.total);
  process.exit();
}
const folder = mkdtempSync(join(tmpdir(), 'pagent-edge-'));
const model = await startModel();
const assert = (condition, what) => {
  if (!condition) throw new Error(typeof what === 'string' ? what : JSON.stringify(what));
};
let child, agents;

/** Again if it ends: the port may be another's by then. */
async function start(left = 4) {
  const port = await freePort();
  agents = api(`http://127.0.0.1:${port}`);
  child = spawn(
    deno,
    ['run', '-A', '--no-lock', '--config', file('../../examples/deno/deno.json'), file('../../examples/deno/main.js')],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {
        ...process.env,
        PORT: `${port}`,
        KV_PATH: join(folder, 'kv'),
        MODEL_URL: model.url,
        MODEL_KEY: 'the model key',
        MODEL_NAME: 'small',
        DELIVER_URL: `${model.url}/deliver`,
        NO_COLOR: '1',
      },
    },
  );
  const ended = () => child.exitCode !== null || child.signalCode !== null;
  const answers = () =>
    agents.get('/').then(
      () => true,
      () => false,
    );
  await agents.wait(async () => (await answers()) || ended(), 'deno');
  if (!ended()) return;
  assert(left > 0, 'deno ended');
  await start(left - 1);
}
async function kill(signal = 'SIGKILL') {
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
  await start();
}

await start();
await life(total, () => ({ agents, model, assert }));
await refusals(total, () => ({ agents, model, assert }));

for (const signal of ['SIGTERM', 'SIGKILL']) {
  await total.check(
    `${signal} between the question and the approval: goes on, and the model is not asked again`,
    async () => {
      const name = `between-${signal}`;
      model.asked.length = model.delivered.length = 0;
      await agents.post(`/agents/${name}`, { question: 'When?' });
      await agents.until(name, 'asking');
      await kill(signal);
      assert((await agents.post(`/agents/${name}/approve`, { who: 'Ada' })).status === 200, 'approve');
      await agents.until(name, 'sent');
      assert(model.asked.length === 1 && model.delivered.length === 1, [model.asked.length, model.delivered.length]);
    },
  );
}

await total.check('the model is down, then up, with SIGKILL in between', async () => {
  model.asked.length = 0;
  model.answer = () => ({ status: 503 });
  await agents.post('/agents/down', { question: 'Now?' });
  await agents.wait(() => model.asked.length >= 1, 'the question');
  await kill();
  model.answer = () => ({ text: 'At last.' });
  assert((await agents.until('down', 'asking')).context.draft === 'At last.', 'another draft');
  assert(new Set(model.asked.map(({ key }) => key)).size === 1, 'another key');
});

child.kill('SIGKILL');
await model.stop();
rmSync(folder, { recursive: true, force: true });
finish(total.total);
