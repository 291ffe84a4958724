// What runs in workerd: the Durable Object store and the Workers KV store under the kit, and the doors of crash tests.

import { DurableObject } from 'cloudflare:workers';
import { checkWritten, link, makeBlock, runKit, startWriter } from '../../kit.js';
import { durableObject } from '../../stores/durable-object.js';
import { kv } from '../../stores/kv.js';

const STREAM = '00000000000000aa';

export class Agents extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.store = durableObject(ctx, { alarm: true });
  }

  async alarm() {
    const swallow = () => {}; /* the host's own retries must not be what brings it again */
    await this.store
      .onAlarm(
        {
          wake: async () => {
            const failures = (await this.ctx.storage.get('failures')) ?? 0;
            if (failures > 0) {
              await this.ctx.storage.put('failures', failures - 1);
              throw new Error('the engine failed');
            }
            const tries = (await this.ctx.storage.get('woken')) ?? 0;
            await this.ctx.storage.put('woken', tries + 1);
            /* as an engine would: what is due goes on, and is due later or never */
            for (const { stream } of this.store.list({ dueBefore: Date.now(), limit: 10 }).items)
              await this.append(stream, Infinity);
          },
        },
        { retryMs: 200 },
      )
      .catch(swallow);
  }

  async append(stream, due, flags = 0, size = 200, writer = 0) {
    const { version, blocks } = this.store.read({ stream, mode: 'newest', version: 0, maxBytes: 1e9 });
    const previous = version ? link(blocks.at(-1)) : undefined;
    const block = makeBlock({ stream, version: version + 1, previous, snapshot: true, size, writer });
    const [result] = await this.store.commit([
      {
        stream,
        expected: version,
        epoch: 1,
        first: version + 1,
        blocks: [block],
        summary: { stream, version: version + 1, due, time: 1, state: 0, status: 'waiting', flags },
      },
    ]);
    return { ...result, made: version + 1 };
  }

  async fetch(request) {
    const url = new URL(request.url);
    const number = (name) => Number(url.searchParams.get(name));
    const { ctx } = this;
    switch (url.pathname) {
      case '/kit': {
        const lines = [];
        const open = (name) => durableObject(ctx, { prefix: `${name.replaceAll('-', '_')}_` });
        const only = url.searchParams.get('only');
        const outcome = await runKit({ open, only, log: (line) => lines.push(line) });
        return Response.json({ ...outcome, failures: undefined, lines });
      }
      case '/race': {
        /* all racers have read version `expected` */
        const block = makeBlock({
          stream: STREAM,
          version: number('expected') + 1,
          snapshot: true,
          writer: number('writer'),
        });
        const summary = {
          stream: STREAM,
          version: number('expected') + 1,
          due: Infinity,
          time: 1,
          state: 0,
          status: 'waiting',
          flags: 0,
        };
        return Response.json(
          (
            await this.store.commit([
              {
                stream: STREAM,
                expected: number('expected'),
                epoch: 1,
                first: number('expected') + 1,
                blocks: [block],
                summary,
              },
            ])
          )[0],
        );
      }
      case '/append': {
        await ctx.storage.put('failures', number('failures'));
        const due = url.searchParams.get('in');
        return Response.json(
          await this.append(
            url.searchParams.get('stream') ?? STREAM,
            due ? Date.now() + Number(due) : Infinity,
            number('flags'),
          ),
        );
      }
      case '/bad': {
        /* the transaction ends after the alarm was set: both must go */
        const before = await ctx.storage.getAlarm();
        const blocks = [makeBlock({ stream: STREAM, version: 1, snapshot: true })];
        const setAlarm = ctx.storage.setAlarm;
        const bent = new Proxy(ctx.storage, {
          get(target, key) {
            if (key === 'setAlarm')
              return (time) => {
                setAlarm.call(target, time);
                throw new Error('after the alarm');
              };
            const value = target[key];
            return typeof value === 'function' ? value.bind(target) : value;
          },
        });
        let thrown = '';
        try {
          await durableObject(bent, { alarm: true }).commit([
            {
              stream: STREAM,
              expected: 0,
              epoch: 1,
              first: 1,
              blocks,
              summary: { stream: STREAM, version: 1, due: 5e12, time: 1, state: 0, status: 'waiting', flags: 0 },
            },
          ]);
        } catch (error) {
          thrown = error.message;
        }
        const { version } = this.store.read({ stream: STREAM, mode: 'newest', version: 0, maxBytes: 1 });
        return Response.json({ thrown, version, before, after: await ctx.storage.getAlarm() });
      }
      case '/state': {
        const { items, nextDue } = this.store.list({ limit: 100 });
        return Response.json({
          alarm: await ctx.storage.getAlarm(),
          woken: (await ctx.storage.get('woken')) ?? 0,
          items,
          nextDue: nextDue === Infinity ? null : nextDue,
        });
      }
      case '/write': {
        /* acknowledgements leave as a stream, each after its "ok" */
        const { readable, writable } = new TransformStream();
        const out = writable.getWriter();
        const text = new TextEncoder();
        const store = durableObject(ctx, { prefix: 'crash_' });
        const run = startWriter(store, (ack) => out.write(text.encode(`${JSON.stringify(ack)}\n`)), {
          writer: number('writer'),
        });
        ctx.waitUntil(run.done.catch(() => {}));
        return new Response(readable);
      }
      case '/check':
        return Response.json(await checkWritten(durableObject(ctx, { prefix: 'crash_' }), await request.json()));
      case '/rate': {
        /* the clock of workerd stands still without I/O: who asks measures */
        for (let i = 0; i < number('count'); i++)
          await this.append(`00000000000000${url.searchParams.get('stream')}`, Infinity, 0, 512);
        return new Response('done');
      }
      default:
        return new Response('not found', { status: 404 });
    }
  }
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname.startsWith('/object/')) {
      const [, , name, ...rest] = url.pathname.split('/');
      url.pathname = `/${rest.join('/')}`;
      return env.AGENTS.get(env.AGENTS.idFromName(name)).fetch(new Request(url, request));
    }
    if (url.pathname === '/kv') {
      const lines = [];
      const open = (name) => kv(env.KV, { singleWriter: true, settleMs: 0, prefix: name });
      const outcome = await runKit({ open, singleWriter: true, log: (line) => lines.push(line) });
      return Response.json({ ...outcome, failures: undefined, lines });
    }
    return new Response('not found', { status: 404 });
  },
};
