// All agents in one process: their journals in Deno KV, their timers and retries by the engine's own timers.

import { open } from 'persistent-agent';
import { denoKv } from 'persistent-agent/deno-kv';
import { authorize, refusal, respond, route } from '../shared/api.js';
import { callsOf } from '../shared/calls.js';
import { answer } from '../shared/machine.js';

const env = Deno.env.toObject();
const kv = await Deno.openKv(env.KV_PATH); // absent: Deno's own place for this script
const engine = await open({ store: denoKv(kv), machines: [answer], calls: callsOf(env) });

const server = Deno.serve({ port: Number(env.PORT ?? 8000), hostname: env.HOST ?? '127.0.0.1' }, async (request) => {
  try {
    await authorize(request, env);
    return await respond(engine, request, route(request));
  } catch (error) {
    if (error.code === 'E_STORAGE') setTimeout(() => Deno.exit(1), 100); // whoever supervises this starts it again
    return refusal(error);
  }
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  Deno.addSignalListener(signal, async () => {
    await server.shutdown();
    await engine.close();
    kv.close();
    Deno.exit();
  });
}
