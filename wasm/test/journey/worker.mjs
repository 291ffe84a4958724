// The station in a Worker: one Durable Object. Where the agent has timers, only the object's alarm opens the engine: the
// visit that names a time lets the alarm pass that has been waiting for it, and goes on when it has woken the engine.

import { DurableObject } from 'cloudflare:workers';
import wasm from './journey.wasm';
import { durableObject } from '../../stores/durable-object.js';
import { fromBase64, openStation, visit } from './station.mjs';

export class Station extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.store = durableObject(ctx, { alarm: true });
    this.evening = Promise.withResolvers(); // resolves to { time, nonce }
    this.woken = Promise.withResolvers();
  }

  start({ time, nonce }) {
    this.engine ??= openStation({ wasm, store: this.store, clock: () => time, nonce });
    return this.engine;
  }

  async alarm() {
    const engine = await this.start(await this.evening.promise);
    await this.store.onAlarm(engine);
    this.woken.resolve();
  }

  async fetch(request) {
    const { time, nonce, verbs, file, byAlarm } = await request.json();
    try {
      if (byAlarm) {
        this.evening.resolve({ time, nonce });
        await this.woken.promise;
      }
      const answer = await visit(await this.start({ time, nonce }), verbs, file && fromBase64(file));
      return Response.json({ ...answer, alarm: await this.ctx.storage.getAlarm() });
    } catch (error) {
      return Response.json({ error: error.stack });
    }
  }
}

export default {
  fetch: (request, env) => env.STATION.get(env.STATION.idFromName('wayside')).fetch(request),
};
