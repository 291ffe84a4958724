// Under one runtime and driver: the kit, what is particular to SQLite, and (with arguments) a writer to be killed.

import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkWritten, link, makeBlock, runKit, startWriter } from '../../kit.js';
import { sqlite } from '../../stores/sqlite.js';
import { driver, open } from './databases.mjs';
import { finish, tally } from './harness.mjs';

const [, , task, path, writer, acks, limit] = process.argv;

/* Versions 1 and on of one stream. */
function appendOf(stream, version, size = 200, previous = undefined, epoch = 1) {
  const block = makeBlock({ stream, version, epoch, previous, snapshot: version === 1, based: version - 1, size });
  const summary = { stream, version, due: 1000, time: 1, state: 0, status: 'waiting', flags: 0 };
  return { stream, expected: version - 1, epoch, first: version, blocks: [block], summary };
}

if (task === 'write') {
  const store = sqlite({ database: open(path), busyTimeoutMs: 20 });
  const run = startWriter(store, (ack) => appendFileSync(acks, `${JSON.stringify(ack)}\n`), {
    writer: Number(writer),
    limit: limit ? Number(limit) : Infinity,
  });
  console.log(JSON.stringify(await run.done));
} else if (task === 'check') {
  const acked = writer.split(',').flatMap((name) =>
    readFileSync(name, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line)),
  );
  console.log(JSON.stringify(await checkWritten(sqlite({ database: open(path) }), acked)));
} else {
  const folder = mkdtempSync(join(tmpdir(), 'pagent-sqlite-'));
  const file = (name) => join(folder, `${name}.db`);
  const openStore = (name) => {
    const database = open(file(name));
    const store = sqlite({ database });
    const close = store.close;
    store.close = () => {
      close();
      database.close();
    };
    return store;
  };
  const total = tally();
  let current; /* a kill from inside: the connection goes while its writer still works */
  total.add(
    await runKit({
      open: (name) => (current = openStore(name)),
      kill() {
        current.close();
      },
    }),
  );

  await total.check('settings', () => {
    const database = open(file('settings'));
    const store = sqlite({ database });
    const pragma = (name) => Object.values(database.prepare(`PRAGMA ${name}`).all()[0])[0];
    if (pragma('journal_mode') !== 'wal' || pragma('synchronous') !== 2 || pragma('fullfsync') !== 1)
      throw new Error('not as documented');
    if (store.durability !== 'power') throw new Error(`durability ${store.durability}`);
    if (sqlite({ database: open(':memory:') }).durability !== 'none') throw new Error(':memory: survives nothing');
    return `SQLite ${database.prepare('SELECT sqlite_version() AS v').all()[0].v}`;
  });

  await total.check('busy: again, and nothing was applied', () => {
    const store = sqlite({ database: open(file('busy')), busyTimeoutMs: 1 });
    const other = open(file('busy'));
    other.exec('BEGIN IMMEDIATE');
    const append = appendOf('00000000000000aa', 1);
    const [{ result }] = store.commit([append]);
    if (result !== 'again') throw new Error(result);
    if (store.read({ stream: append.stream, mode: 'newest', version: 0, maxBytes: 1e6 }).version !== 0)
      throw new Error('applied');
    other.exec('ROLLBACK');
    if (store.commit([append])[0].result !== 'ok') throw new Error('not ok afterwards');
  });

  await total.check('full: no-space, and nothing was applied', () => {
    const database = open(file('full'));
    const store = sqlite({ database });
    const first = appendOf('00000000000000aa', 1);
    store.commit([first]);
    const pages = Object.values(database.prepare('PRAGMA page_count').all()[0])[0];
    database.prepare(`PRAGMA max_page_count = ${pages + 2}`).all();
    const stale = appendOf('00000000000000aa', 5);
    const large = appendOf('00000000000000aa', 2, 100000, link(first.blocks[0]));
    const results = store.commit([stale, appendOf('00000000000000bb', 1), large]).map(({ result }) => result);
    if (`${results}` !== 'conflict,no-space,no-space') throw new Error(`${results}`);
    if (store.read({ stream: '00000000000000bb', mode: 'newest', version: 0, maxBytes: 1e6 }).version !== 0)
      throw new Error('applied');
    database.prepare('PRAGMA max_page_count = 100000').all();
    if (store.commit([large])[0].result !== 'ok') throw new Error('not ok when there is space');
  });

  await total.check('an error in COMMIT is in doubt, and the store ends', () => {
    const database = open(file('doubt'));
    let fail = false;
    const bent = {
      exec: (text) => database.exec(text),
      prepare(text) {
        const statement = database.prepare(text);
        return {
          all: (...values) => statement.all(...values),
          run(...values) {
            if (fail && text === 'COMMIT')
              throw Object.assign(new Error('disk I/O error'), { errcode: 10, errno: 10, code: 'SQLITE_IOERR' });
            return statement.run(...values);
          },
        };
      },
    };
    const store = sqlite({ database: bent });
    const append = appendOf('00000000000000aa', 1);
    fail = true;
    for (const wanted of ['E_IN_DOUBT', 'E_STORAGE']) {
      try {
        store.commit([append]);
        throw new Error('it returned');
      } catch (error) {
        if (error.code !== wanted) throw error;
      }
      fail = false;
    }
    database.exec('BEGIN'); /* no transaction was left open */
    database.exec('COMMIT');
    if (sqlite({ database }).commit([append])[0].result !== 'ok') throw new Error('a new store does not go on');
  });

  for (const batch of [1, 32]) {
    await total.check(`rate, ${batch} in a batch`, () => {
      const store = openStore(`rate${batch}`);
      const ends = Array.from({ length: batch }, () => undefined);
      const begun = performance.now();
      let version = 0;
      while (performance.now() - begun < 1000) {
        version++;
        const appends = ends.map((previous, i) =>
          appendOf((i + 1).toString(16).padStart(16, '0'), version, 512, previous),
        );
        appends.forEach((append, i) => {
          ends[i] = link(append.blocks[0]);
        });
        if (store.commit(appends).some(({ result }) => result !== 'ok')) throw new Error('refused');
      }
      const seconds = (performance.now() - begun) / 1000;
      store.close();
      return `${driver}: ${Math.round((version * batch) / seconds)} blocks/s`;
    });
  }
  rmSync(folder, { recursive: true });
  finish(total.total);
}
