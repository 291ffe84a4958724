// The Worker under test, with eyes: GET /agents/NAME/eyes tells its alarm. With NO_TIMERS the engine's own timers are taken
// away, as a hibernating object loses them: then only alarms can bring back what is due.

import worker, { Agent } from '../../examples/cloudflare/src/worker.js';

const born = Date.now();
const { setTimeout } = globalThis;

export class Counted extends Agent {
  constructor(ctx, env) {
    if (env.NO_TIMERS) globalThis.setTimeout = (body, ms, ...words) => (ms > 0 ? 0 : setTimeout(body, 0, ...words));
    super(ctx, env);
    this.count = 0;
  }

  async alarm() {
    this.count++;
    await super.alarm();
  }

  async fetch(request) {
    if (!new URL(request.url).pathname.endsWith('/eyes')) return super.fetch(request);
    const tables = this.ctx.storage.sql
      .exec("SELECT name FROM sqlite_master WHERE name GLOB 'pagent_*'")
      .toArray().length;
    return Response.json({ alarm: await this.ctx.storage.getAlarm(), count: this.count, tables, born });
  }
}

export default {
  fetch(request, env) {
    const [, , name, verb] = new URL(request.url).pathname.split('/');
    if (verb === 'eyes') return env.AGENTS.get(env.AGENTS.idFromName(decodeURIComponent(name))).fetch(request);
    return worker.fetch(request, env);
  },
};
