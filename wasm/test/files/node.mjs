// node wasm/test/files/node.mjs [filter]        (bun and deno too: deno run -A …)
// The file store over node:fs, against the native one: needs a C compiler, $CC or cc.

import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL, fileURLToPath } from 'node:url';
import { open } from '../../index.js';
import { files } from '../../stores/node.js';
import { check, equal, fails, finish, Skip, test } from '../harness.mjs';
import { counter, countOf } from './counter.mjs';

const at = (name) => fileURLToPath(new URL(name, import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'persistent-agent-files-'));
process.on('exit', () => rmSync(root, { recursive: true, force: true }));
let number = 0;
const fresh = () => join(root, `store-${++number}`);

function compile(source, name) {
  const program = join(root, name);
  execFileSync(process.env.CC ?? 'cc', ['-O1', '-o', program, at(source)]);
  return program;
}

const nativeProgram = compile('native.c', 'native');
const pagentctl = compile('../../../examples/pagentctl.c', 'pagentctl');

/** Runs the native twin (path, verb, agent, times, "each"): { state, version, count, entries }, or throws with the code of what it was refused with. */
function native(path, verb, agent, times = 1, each = '') {
  try {
    const [state, version, count, entries] = execFileSync(nativeProgram, [path, verb, agent, `${times}`, each], {
      encoding: 'utf8',
      stdio: 'pipe',
    })
      .trim()
      .split(' ');
    return { state, version: Number(version), count: Number(count), entries: Number(entries) };
  } catch (error) {
    throw Object.assign(new Error(error.stderr || error.message), {
      code: /^E_\w+/.exec(`${error.stderr}`.replace('PAGENT_', ''))?.[0],
    });
  }
}

/** Exit status 0: clean; 1: only what opening repairs. */
function verify(path, wanted = 0) {
  let status = 0,
    text;
  try {
    text = execFileSync(pagentctl, [path, 'verify'], { encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    status = error.status;
    text = `${error.stdout}${error.stderr}`;
  }
  check(status <= wanted, `pagentctl verify: exit status ${status}: ${text}`);
  if (wanted === 0) check(/clean/.test(text), `not clean: ${text}`);
  return text;
}

const start = (path, options = {}, more = {}) => open({ machines: [counter], store: files(path, options), ...more });

async function adds(engine, agent, times) {
  for (let i = 0; i < times; i++) await engine.post(agent, 'add', 'js');
}

async function inEngine(path, options, work) {
  const engine = await start(path, options);
  try {
    return await work(engine);
  } finally {
    await engine.close();
  }
}

/** The owner of counter.mjs, until it is killed: what it was acknowledged, by agent. */
async function owner(path, agents, { limit, afterMs } = {}) {
  const words = [
    ...process.execArgv,
    ...(globalThis.Deno ? ['run', '-A'] : []),
    at('counter.mjs'),
    path,
    String(agents),
  ];
  if (limit !== undefined) words.push(String(limit));
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '',
    begun = false; // all agents have been acknowledged something
  const ended = new Promise((resolve) => child.on('close', (_, signal) => resolve(signal)));
  child.stdout.on('data', (data) => {
    text += data;
    const heard = Array.from({ length: agents }, (_, i) => text.includes(`agent-${i} `)).every(Boolean);
    if (afterMs === undefined || begun || !heard) return;
    begun = true;
    setTimeout(() => child.kill('SIGKILL'), afterMs);
  });
  const signal = await ended;
  const acknowledged = {};
  for (const line of text.split('\n').slice(0, -1)) {
    const [agent, version] = line.split(' ');
    acknowledged[agent] = Number(version);
  }
  return { signal, acknowledged };
}

test('the twins have one hash', async () => {
  const engine = await open({ machines: [counter] });
  equal(engine.machineHash('counter'), execFileSync(nativeProgram, ['.', 'hash'], { encoding: 'utf8' }).trim());
  await engine.close();
});

for (const each of [false, true]) {
  const word = each ? 'each' : '',
    options = { logPerAgent: each };
  const logs = each ? 'a log for each agent' : 'one log';

  test(`native, JavaScript, native, JavaScript: ${logs}`, async () => {
    const path = fresh();
    equal(native(path, 'add', 'a', 3, word).count, 3);
    equal(native(path, 'ask', 'a', 1, word).state, 'asking');
    await inEngine(path, options, async (engine) => {
      const view = await engine.view('a');
      equal(view.state, 'asking');
      equal(countOf(view.context), 3);
      equal(view.transcript.length, 3);
      equal(view.effects[0].text(), 'go on?');
      await engine.approve('a', { who: 'js', digest: view.effects[0].digest });
      await adds(engine, 'a', 2);
      await engine.create('b', 'counter');
      await adds(engine, 'b', 1);
      await engine.post('b', 'ask');
    });
    verify(path);
    const shown = native(path, 'show', 'a', 0, word);
    equal(`${shown.state} ${shown.count} ${shown.entries}`, 'counting 5 5');
    equal(native(path, 'approve', 'b', 1, word).state, 'counting');
    equal(native(path, 'add', 'a', 4, word).count, 9);
    verify(path);
    await inEngine(path, options, async (engine) => {
      equal(countOf((await engine.view('a')).context), 9);
      equal(countOf((await engine.view('a', 1)).context), 0);
      let blocks = 0;
      for await (const block of engine.history('a', { from: 1 })) equal(block.version, ++blocks);
      check(blocks >= 12, `${blocks} blocks`);
      const names = [];
      for await (const { stream } of engine.agents()) names.push(stream);
      equal(names.length, 2);
    });
    equal(
      readdirSync(path).some((name) => /^[0-9a-f]{16}\./.test(name)),
      each,
    );
    verify(path);
  });

  test(`the same from JavaScript on, over many segments: ${logs}`, async () => {
    const path = fresh();
    for (let round = 1; round <= 3; round++) {
      await inEngine(path, { ...options, segmentSize: 4096 }, async (engine) => {
        await Promise.all(
          ['a', 'b', 'c'].map(async (agent) => {
            if (!(await engine.has(agent))) await engine.create(agent, 'counter');
            await adds(engine, agent, 40);
          }),
        );
      });
      verify(path);
      equal(native(path, 'add', 'a', 5, word).count, round * 45);
    }
    check(readdirSync(path).filter((name) => /\.\d{8}$/.test(name)).length > 6, 'segments');
    check(!readdirSync(path).some((name) => name.startsWith('tmp-')), 'nothing left over');
    verify(path);
  });
}

test('a URL, a directory that is missing, one that is not to be made', async () => {
  const path = join(fresh(), 'in', 'it');
  await fails('E_NOT_FOUND', () => start(path, { readOnly: true }));
  check(!existsSync(path), 'not made');
  await inEngine(pathToFileURL(path), {}, (engine) => engine.create('a', 'counter'));
  equal(native(path, 'show', 'a').version, 1);
  writeFileSync(`${path}-file`, 'x');
  const error = await fails('E_NOT_FOUND', () => start(`${path}-file/store`)); // ENOTDIR
  check(error.message.includes('-file'), error.message);
  await fails('E_ARGUMENT', () => start(path, { segmentsize: 1 }));
});

test('trim gives segments back, and native goes on', async () => {
  const path = fresh();
  const segments = () => readdirSync(path).filter((name) => name.startsWith('log.')).length;
  const limits = { fullSnapshots: true, snapshotFloor: 1, snapshotFactor: 1 };
  const engine = await start(path, { segmentSize: 8192 }, { limits });
  await engine.create('a', 'counter');
  await adds(engine, 'a', 200);
  const before = segments(),
    removed = await engine.trim();
  check(removed > 0 && segments() < before, `${removed} of ${before} removed, ${segments()} left`);
  await adds(engine, 'a', 3);
  await fails('E_TRIMMED', () => engine.view('a', 1));
  await engine.close();
  verify(path);
  equal(native(path, 'add', 'a', 2).count, 205);
});

test('read-only beside a live owner', async () => {
  const path = fresh();
  const writer = await start(path);
  await writer.create('a', 'counter');
  await adds(writer, 'a', 3);
  const before = readdirSync(path).join();
  const reader = await start(path, { readOnly: true });
  equal(countOf((await reader.view('a')).context), 3);
  await adds(writer, 'a', 2);
  equal(countOf((await reader.view('a')).context), 5);
  await fails('E_READ_ONLY', () => reader.post('a', 'add'));
  await reader.close();
  const other = await start(path, {}, { readOnly: true }); // open's own option says it, too
  equal(countOf((await other.view('a')).context), 5);
  await other.close();
  equal(readdirSync(path).join(), before);
  await writer.close();
});

test('one engine at a time in a thread, and one per store object', async () => {
  const path = fresh(),
    store = files(path);
  const first = await open({ machines: [counter], store });
  await fails('E_LOCKED', () => open({ machines: [counter], store }));
  await fails('E_LOCKED', () => start(join(path, '..', path.split('/').at(-1))));
  await first.create('a', 'counter');
  await first.close();
  const second = await open({ machines: [counter], store });
  await adds(second, 'a', 1);
  await second.close();
  verify(path);
});

test('a native owner is seen, on Linux', async () => {
  if (process.platform !== 'linux') throw new Skip('not Linux');
  const path = fresh();
  native(path, 'add', 'a', 1);
  const child = spawn(nativeProgram, [path, 'hold'], { stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  try {
    const shown = readFileSync('/proc/locks', 'utf8').includes(`:${statSync(join(path, 'lock')).ino} `);
    if (!shown) throw new Skip('/proc/locks does not show it');
    await fails('E_LOCKED', () => start(path));
  } finally {
    child.stdin.end();
    await new Promise((resolve) => child.on('close', resolve));
  }
  await inEngine(path, {}, (engine) => adds(engine, 'a', 1));
  equal(native(path, 'show', 'a').count, 2);
});

const locks = process.getBuiltinModule?.(globalThis.Bun ? 'bun:sqlite' : 'node:sqlite') !== undefined;

test('the lock keeps native programs and other processes out, and goes with its process', async () => {
  if (!locks) throw new Skip('no SQLite in this runtime');
  const path = fresh(),
    engine = await start(path);
  await engine.create('a', 'counter');
  await fails('E_LOCKED', async () => native(path, 'add', 'a', 1));
  const words = [...process.execArgv, ...(globalThis.Deno ? ['run', '-A'] : []), at('counter.mjs'), path, '1', '1'];
  const refused = await new Promise((resolve) => {
    let text = '';
    const child = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr.on('data', (data) => {
      text += data;
    });
    child.on('close', () => resolve(text));
  });
  check(/E_LOCKED|owns this store/.test(refused), refused);
  await adds(engine, 'a', 1);
  await engine.close();
  check(
    readdirSync(path).every((name) => ['inbox', 'lock'].includes(name) || name.startsWith('log.')),
    `${readdirSync(path)}`,
  );
  equal(statSync(join(path, 'lock')).size, 0);
  equal(native(path, 'add', 'a', 1).count, 2);
  const { signal } = await owner(path, 1, { limit: 3 });
  equal(signal, 'SIGKILL');
  equal(native(path, 'add', 'a', 1).count, 3);
  verify(path, 1);
});

test('a native program that takes over fences the one in JavaScript, and loses nothing', async () => {
  const path = fresh();
  const engine = await start(path);
  await engine.create('a', 'counter');
  await adds(engine, 'a', 3);
  rmSync(join(path, 'lock')); // as if there were none: a new file is another lock
  equal(native(path, 'add', 'a', 2).count, 5);
  await fails('E_FENCED', () => engine.post('a', 'add'));
  await engine.close().catch(() => {});
  verify(path, 1);
  const { count } = native(path, 'show', 'a');
  equal(count, 5);
  equal(
    await inEngine(path, {}, async (again) => {
      await adds(again, 'a', 1);
      return countOf((await again.view('a')).context);
    }),
    6,
  );
  verify(path, 1);
});

test('killed in the middle of appends: nothing acknowledged is lost', async () => {
  const path = fresh();
  const sums = {};
  for (let round = 0; round < 6; round++) {
    const { signal, acknowledged } = await owner(path, 3, { afterMs: 20 + 37 * round });
    equal(signal, 'SIGKILL');
    verify(path, 1);
    const reports = [];
    await inEngine(path, { onDiscard: (report) => reports.push(report) }, async (engine) => {
      for (const [agent, version] of Object.entries(acknowledged)) {
        sums[agent] = version;
      }
      for (const [agent, version] of Object.entries(sums)) {
        const view = await engine.view(agent);
        check(view.version >= version, `${agent}: acknowledged ${version}, found ${view.version}`);
        equal(countOf(view.context), view.transcript.length);
      }
    });
    check(
      reports.every(({ damage }) => damage === 'torn' || damage === 'dirty'),
      JSON.stringify(reports),
    );
    verify(path);
  }
  check(Object.keys(sums).length === 3, 'all agents were acknowledged something');
  check(native(path, 'add', 'agent-0', 1).version > sums['agent-0'], 'native goes on');
});

/** Where the last block of the newest segment is: { file, offset, size }. */
function lastBlock(path) {
  const file = join(
    path,
    readdirSync(path)
      .filter((name) => name.startsWith('log.'))
      .sort()
      .at(-1),
  );
  const bytes = readFileSync(file);
  let found;
  for (let offset = 0; offset + 64 <= bytes.length && bytes.readUInt32BE(offset) === 0xe5a9d1b7;) {
    const size = 64 + Math.ceil(bytes.readUInt32LE(offset + 48) / 64) * 64;
    found = {
      file,
      offset,
      size,
      version: Number(bytes.readBigUInt64LE(offset + 24)),
      stream: bytes
        .readBigUInt64LE(offset + 16)
        .toString(16)
        .padStart(16, '0'),
    };
    offset += size;
  }
  return found;
}

test('a torn tail is told to onDiscard, and cut', async () => {
  const path = fresh();
  const { acknowledged } = await owner(path, 1, { limit: 10 });
  const last = lastBlock(path);
  equal(last.version, acknowledged['agent-0']);
  const descriptor = openSync(last.file, 'r+');
  writeSync(descriptor, new Uint8Array(64), 0, 64, last.offset + last.size - 64);
  closeSync(descriptor);
  check(/torn/.test(verify(path, 1)), 'pagentctl says torn');
  cpSync(path, `${path}-copy`, { recursive: true });
  const looked = [];
  await inEngine(path, { readOnly: true, onDiscard: (report) => looked.push(report) }, async (engine) => {
    equal((await engine.view('agent-0')).version, last.version - 1);
  });
  const reports = [];
  await inEngine(path, { onDiscard: (report) => reports.push(report) }, async (engine) => {
    equal((await engine.view('agent-0')).version, last.version - 1);
    await adds(engine, 'agent-0', 1);
  });
  equal(reports.length, 1);
  const [report] = reports;
  equal(report.damage, 'torn');
  equal(report.code, 'OK');
  equal(report.offset, last.offset);
  equal(report.version, last.version);
  equal(report.stream, last.stream);
  equal(join(path, report.file), last.file);
  check(report.bytes.length >= 64 && report.bytes[0] === 0xe5, `what is cut off: ${report.bytes.length} bytes`);
  check(report.text !== '', 'a text');
  verify(path);
  equal(native(`${path}-copy`, 'add', 'agent-0', 1).version >= last.version, true);
});

test('damage in the middle is refused, with the store as it was', async () => {
  const path = fresh();
  await inEngine(path, {}, async (engine) => {
    await engine.create('a', 'counter');
    await adds(engine, 'a', 10);
  });
  const { file, offset } = lastBlock(path);
  const bytes = readFileSync(file);
  bytes[offset - 64 * 20] ^= 0xff;
  bytes[offset - 64 * 20 + 7] ^= 0xff;
  writeFileSync(file, bytes);
  const reports = [];
  const engine = await start(path, { onDiscard: (report) => reports.push(report) }).catch((error) => error);
  if (engine instanceof Error) check(/^E_(CORRUPT|SUSPECT|LOST_TAIL|FOREIGN)$/.test(engine.code), engine.code);
  else {
    await fails('E_CORRUPT', () => engine.post('a', 'add'));
    await engine.close();
  }
  check(reports.length > 0, 'told');
  check(Buffer.compare(readFileSync(file), bytes) === 0, 'nothing was written');
});

test('a full disk: E_NO_SPACE, and it goes on when there is space', async () => {
  const path = fresh();
  execFileSync('mkdir', ['-p', path]);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=160k', 'tmpfs', path], { stdio: 'pipe' });
  } catch {
    throw new Skip('no file system of its own can be mounted here');
  }
  try {
    const store = files(join(path, 'store')),
      ballast = join(path, 'ballast');
    const engine = await open({ machines: [counter], store });
    await engine.create('a', 'counter');
    writeFileSync(ballast, new Uint8Array(64 * 1024));
    let posted = 0,
      refusedWith;
    while (refusedWith === undefined && posted < 2000) {
      await engine.post('a', 'add', 'x'.repeat(200)).then(
        () => posted++,
        (error) => {
          refusedWith = error.code;
        },
      );
    }
    equal(refusedWith, 'E_NO_SPACE');
    equal(countOf((await engine.view('a')).context), posted);
    rmSync(ballast);
    await adds(engine, 'a', 3);
    equal(countOf((await engine.view('a')).context), posted + 3);
    await engine.close();
    verify(join(path, 'store'));
  } finally {
    execFileSync('umount', [path]);
  }
});

await finish();
