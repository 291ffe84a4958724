// One agent in one Durable Object: its journal in the object's SQLite, its timers and retries by the object's alarm.

import { DurableObject } from 'cloudflare:workers';
import { open } from 'persistent-agent';
import { durableObject } from 'persistent-agent/durable-object';
import wasm from 'persistent-agent/persistent_agent.wasm';
import { authorize, Refusal, refusal, respond, route } from '../../shared/api.js';
import { callsOf } from '../../shared/calls.js';
import { answer } from '../../shared/machine.js';

export class Agent extends DurableObject {
  #store;
  #engine; // a promise, once there is an agent

  constructor(ctx, env) {
    super(ctx, env);
    // An object that was evicted or killed in the middle of something goes on with whatever starts it: a request or its alarm.
    if (this.#born()) void ctx.blockConcurrencyWhile(() => this.#open());
  }

  /** A name that somebody only asks about must not leave tables behind. */
  #born() {
    return (
      this.ctx.storage.sql.exec("SELECT 1 FROM sqlite_master WHERE name GLOB 'pagent_*' LIMIT 1").toArray().length !== 0
    );
  }

  #open() {
    return (this.#engine ??= (async () => {
      try {
        this.#store = durableObject(this.ctx, { alarm: true });
        const calls = callsOf(this.env);
        // Timers of its own would keep the object in memory: what is far away comes by the alarm.
        return await open({ store: this.#store, wasm, machines: [answer], calls, timerMaxMs: 5000 });
      } catch (error) {
        this.#engine = undefined;
        throw error;
      }
    })());
  }

  /** An engine whose storage has failed is of no more use: the next one reads what is there. */
  async #check(error) {
    if (!['E_STORAGE', 'E_CORRUPT', 'E_CLOSED'].includes(error.code) || this.#engine === undefined) return;
    const engine = this.#engine;
    this.#engine = undefined;
    await engine.then((old) => old.close()).catch(() => {});
  }

  async fetch(request) {
    try {
      const found = route(request);
      if (found.verb !== 'create' && !this.#born()) throw new Refusal(404, 'E_NOT_FOUND', 'no such agent');
      return await respond(await this.#open(), request, found);
    } catch (error) {
      await this.#check(error);
      return refusal(error);
    }
  }

  async alarm() {
    const engine = await this.#open();
    try {
      await this.#store.onAlarm(engine);
    } catch (error) {
      await this.#check(error);
      throw error; // the next alarm is set already
    }
  }
}

export default {
  async fetch(request, env) {
    try {
      await authorize(request, env);
      const { agent } = route(request);
      return await env.AGENTS.get(env.AGENTS.idFromName(agent)).fetch(request);
    } catch (error) {
      return refusal(error);
    }
  },
};
