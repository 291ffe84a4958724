// What runs in workerd: the Durable Object store and the Workers KV store under the kit, and the doors of crash tests.

import { DurableObject } from 'cloudflare:workers';
import { checkWritten, link, makeBlock, runKit, startWriter } from '../../kit.js';
import { durableObject } from '../../stores/durable-object.js';
import { crc32c } from '../../stores/shared.js';
import { kv } from '../../stores/kv.js';

const STREAM = '00000000000000aa';

/** An object with some of its properties replaced. */
const bent = (object, changes) =>
  new Proxy(object, {
    get(_, key) {
      const value = key in changes ? changes[key] : object[key];
      return typeof value === 'function' ? value.bind(object) : value;
    },
  });

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
        const storage = bent(ctx.storage, {
          setAlarm(time) {
            this.setAlarm(time);
            throw new Error('after the alarm');
          },
        });
        let thrown = '';
        try {
          await durableObject(storage, { alarm: true }).commit([
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
      case '/steps': {
        /* the same appends, each as one statement where it can be, and each in a transaction: what both leave */
        const leave = async (prefix, refuse) => {
          let transactions = 0;
          const store = durableObject(
            bent(ctx.storage, {
              transactionSync(work) {
                transactions++;
                return this.transactionSync(work);
              },
              sql: bent(ctx.storage.sql, {
                exec(text, ...values) {
                  if (refuse && text.includes(`INSERT INTO ${prefix}step`)) throw new Error('refused');
                  return this.exec(text, ...values);
                },
              }),
            }),
            { prefix },
          );
          const results = [];
          const append = async (expected, epoch, specs, summary) => {
            const first = expected + 1;
            const blocks = specs.map((spec, i) => makeBlock({ ...spec, stream: STREAM, version: first + i, epoch }));
            const version = expected + blocks.length;
            const rest = { due: Infinity, time: 1e12 + version, state: 0, status: 'waiting', flags: 0, ...summary };
            const before = transactions;
            const [result] = await store.commit([
              { stream: STREAM, expected, epoch, first, blocks, summary: { stream: STREAM, version, ...rest } },
            ]);
            results.push({ ...result, transactions: transactions - before });
          };
          await append(0, 1, [{ snapshot: true }]);
          await append(1, 1, [{ based: 1 }], { due: 5e12 });
          await append(2, 1, [{ snapshot: true }], { state: 2, status: 'running', flags: 9 });
          await append(3, 2, [{ based: 1 }]);
          await append(3, 2, [{ based: 1, writer: 1 }]); /* a conflict */
          await append(4, 1, [{ based: 2 }]); /* fenced */
          await append(4, 2, [{ based: 2 }, { based: 3 }], { due: 6e12 });
          await append(6, 3, [{ based: 4, size: 3 << 20 }], { flags: 1 }); /* in parts */
          await append(7, 3, [{ snapshot: true, size: 1 }], { state: 65535, status: 'done' });
          const rows = (table) =>
            ctx.storage.sql
              .exec(`SELECT * FROM ${prefix}${table}`)
              .toArray()
              .map(({ bytes, ...row }) => ({ ...row, ...(bytes && { sum: crc32c(new Uint8Array(bytes)) }) }));
          return { results, left: { head: rows('head'), block: rows('block') } };
        };
        return Response.json([await leave('one_', false), await leave('many_', true)]);
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
