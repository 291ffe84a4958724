// Runs in Deno: the kit, and (with arguments) a writer to be killed, and the check of what it wrote.

import { checkWritten, link, makeBlock, runKit, startWriter } from '../../kit.js';
import { denoKv } from '../../stores/deno-kv.js';
import { finish, tally } from './harness.mjs';

const [task, path, writer, acks, limit] = Deno.args;
const lines = (name) =>
  Deno.readTextFileSync(name)
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));

if (task === 'write') {
  const store = denoKv(await Deno.openKv(path));
  const report = (ack) => Deno.writeTextFileSync(acks, `${JSON.stringify(ack)}\n`, { append: true });
  console.log(
    JSON.stringify(
      await startWriter(store, report, {
        writer: Number(writer),
        limit: limit ? Number(limit) : Infinity,
        sizeMax: 900000,
      }).done,
    ),
  );
} else if (task === 'check') {
  console.log(JSON.stringify(await checkWritten(denoKv(await Deno.openKv(path)), writer.split(',').flatMap(lines))));
} else {
  const folder = Deno.makeTempDirSync();
  let opened = [];
  async function open(name) {
    const kv = await Deno.openKv(`${folder}/${name}`);
    opened.push(kv);
    return {
      ...denoKv(kv),
      close() {
        kv.close();
        opened = opened.filter((one) => one !== kv);
      },
    };
  }
  const total = tally();
  total.add(
    await runKit({
      open,
      kill() {
        opened.forEach((kv) => kv.close());
        opened = [];
      },
    }),
  );

  const append = (version, size, previous) => ({
    stream: '00000000000000aa',
    expected: version - 1,
    epoch: 1,
    first: version,
    blocks: [
      makeBlock({ stream: '00000000000000aa', version, previous, snapshot: version === 1, based: version - 1, size }),
    ],
    summary: { stream: '00000000000000aa', version, due: 1000, time: 1, state: 0, status: 'waiting', flags: 0 },
  });
  const count = async (kv, what) => {
    let number = 0;
    for await (const _ of kv.list({ prefix: ['pagent', what] })) number++;
    return number;
  };
  /* `bend(commit, body)` stands in for an atomic operation's commit */
  const bent = (kv, bend) =>
    new Proxy(kv, {
      get(target, name) {
        if (name !== 'atomic') return typeof target[name] === 'function' ? target[name].bind(target) : target[name];
        return () => {
          const operation = target.atomic();
          const commit = operation.commit.bind(operation);
          operation.commit = () => bend(commit);
          return operation;
        };
      },
    });
  const assert = (condition, what) => {
    if (!condition) throw new Error(String(what));
  };

  await total.check('locked for ever: again, and nothing was applied', async () => {
    const kv = await Deno.openKv(`${folder}/locked`);
    const store = denoKv(
      bent(kv, () => {
        throw new Error('database is locked');
      }),
      { tries: 3 },
    );
    const [{ result }] = await store.commit([append(1, 100)]);
    assert(result === 'again', result);
    assert((await count(kv, 'head')) === 0, 'applied');
    kv.close();
  });
  await total.check('locked for a while: a commit and a read go through', async () => {
    const kv = await Deno.openKv(`${folder}/while`);
    let refusals = 0;
    const store = denoKv(
      new Proxy(kv, {
        get(target, name) {
          const value = target[name];
          if (typeof value !== 'function') return value;
          return (...args) => {
            if (name !== 'atomic' && refusals-- > 0) throw new Error('database is locked');
            return value.apply(target, args);
          };
        },
      }),
      { tries: 4 },
    );
    refusals = 3;
    const [{ result }] = await store.commit([append(1, 100)]);
    assert(result === 'ok', result);
    refusals = 3;
    const { version } = await store.read({ stream: '00000000000000aa', mode: 'newest', version: 0, maxBytes: 1 });
    assert(version === 1, version);
    refusals = 3;
    assert((await store.list({ limit: 10 })).items.length === 1, 'not listed');
    kv.close();
  });
  await total.check('"locked", though it had happened: ok', async () => {
    const kv = await Deno.openKv(`${folder}/lied`);
    let number = 0;
    const store = denoKv(
      bent(kv, async (commit) => {
        const result = await commit();
        if (number++ === 0) throw new Error('database is locked');
        return result;
      }),
    );
    const [{ result }] = await store.commit([append(1, 100)]);
    assert(result === 'ok', result);
    kv.close();
  });
  await total.check('another error is in doubt, and leaves no large blocks behind for ever', async () => {
    const kv = await Deno.openKv(`${folder}/doubt`);
    const store = denoKv(
      bent(kv, () => {
        throw new Error('the connection is gone');
      }),
    );
    for (const size of [100, 1000000]) {
      let thrown = '';
      try {
        await store.commit([append(1, size)]);
      } catch (error) {
        thrown = error.message;
      }
      assert(thrown === 'the connection is gone', thrown);
    }
    assert((await count(kv, 'mark')) === 1, 'no mark');
    const good = denoKv(kv);
    const first = append(1, 1000000);
    assert((await good.commit([first]))[0].result === 'ok', 'the identical block again');
    assert((await good.commit([append(1, 1000000)]))[0].result === 'conflict', 'and again');
    await good.trim();
    assert((await count(kv, 'mark')) === 1, 'the mark of a commit that may still come was removed');
    const now = Date.now;
    Date.now = () => now() + 4000000;
    await good.trim();
    Date.now = now;
    assert((await count(kv, 'mark')) === 0, 'the mark stays');
    assert(
      (await count(kv, 'far')) === Math.ceil(first.blocks[0].length / 61440),
      'other parts than those of the head',
    );
    assert((await good.commit([append(2, 100, link(first.blocks[0]))]))[0].result === 'ok', 'it does not go on');
    kv.close();
  });
  await total.check('rate', async () => {
    const store = await open('rate');
    const begun = performance.now();
    let version = 0,
      previous;
    while (performance.now() - begun < 1000) {
      const next = append(++version, 512, previous);
      previous = link(next.blocks[0]);
      await store.commit([next]);
    }
    store.close();
    return `${Math.round(version / ((performance.now() - begun) / 1000))} commits/s`;
  });
  Deno.removeSync(folder, { recursive: true });
  finish(total.total);
}
