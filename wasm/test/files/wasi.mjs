// examples/review.c as a program of WASI: the file store over the directories of Node, Bun, Deno and wasmtime, real
// documents, killed in the middle, and what it wrote read by the native programs.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Skip, check, equal, finish, test } from '../harness.mjs';

const root = new URL('../../../', import.meta.url).pathname;
const scratch = mkdtempSync(join(tmpdir(), 'wasi-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
const packages = join(root, 'wasm/test/node_modules');
const host = join(root, 'wasm/test/files/wasi-host.mjs');
const review = join(root, 'build/wasi/review.wasm');
const BLIND = ['--no-dir-sync'];

// The wasmtime in wizer runs a program's _start, but gives it no arguments: words.c takes them from the environment.
const wizer = (folder, words) => [
  [join(packages, '@bytecodealliance/wizer-linux-x64/wizer'), '--allow-wasi', '--inherit-env=true', '-f', '_start'],
  ['--mapdir', `/box::${folder}`, join(root, 'build/wasi/words.wasm'), '-o', '/dev/null'],
  { WORDS: words.join('\n') },
];
const script =
  (...program) =>
  (folder, words) => [program, [host, review, folder, ...words], {}];
const hosts = {
  'node:wasi': { command: script(process.execPath), options: [] },
  Bun: { command: script(join(packages, '@oven/bun-linux-x64/bin/bun')), options: [] },
  Deno: { command: script(join(packages, '@deno/linux-x64-glibc/deno'), 'run', '-A'), options: BLIND },
  wasmtime: { command: wizer, options: BLIND },
};

/** A host's command for these words, for spawn. */
function programOf({ command }, folder, words) {
  const [[program, ...first], rest, env] = command(folder, [
    ...words,
    '--store',
    '/box/store',
    '--out',
    '/box/reports',
  ]);
  return [program, [...first, ...rest], { ...env, PATH: process.env.PATH, NO_COLOR: '1', NODE_NO_WARNINGS: '1' }];
}

/** { status, said }; with `untilSaid`, killed as soon as it says that. */
function run(where, folder, words, untilSaid) {
  const [program, rest, env] = programOf(where, folder, words);
  const child = spawn(program, rest, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: 200_000 });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (piece) => {
      said += piece;
      if (untilSaid !== undefined && said.includes(untilSaid)) child.kill('SIGKILL');
    });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, said }));
  });
}

async function succeed(where, folder, ...words) {
  const { status, said } = await run(where, folder, [...words, ...where.options]);
  check(status === 0, `${words.join(' ')}: exit status ${status}: ${said}`);
  return said;
}

const agentsOf = (said) => said.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
const native = (name, ...words) => execFileSync(join(scratch, name), words, { encoding: 'utf8' });

let built = false;
function build() {
  if (built) return;
  const quietly = (command, ...words) => execFileSync(command, words, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  for (const source of ['examples/review.c', 'wasm/test/files/words.c'])
    quietly('./build.sh', 'wasm', '--wasi', source);
  for (const name of ['pagentctl', 'review'])
    quietly(process.env.CC ?? 'cc', '-O1', '-I.', '-o', join(scratch, name), `examples/${name}.c`);
  built = true;
}

/** A folder with real texts in it, as many as there are in the repository, and some longer ones. */
function newFolder(name) {
  const folder = join(scratch, name);
  mkdirSync(join(folder, 'docs'), { recursive: true });
  for (const text of ['README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md', 'build.sh'])
    writeFileSync(join(folder, 'docs', text), readFileSync(join(root, text)));
  return folder;
}

/** What the native programs say of it: whole, and nothing done twice. */
function judge(folder) {
  const words = [join(folder, 'store'), 'verify'];
  check(/clean/.test(native('pagentctl', ...words)), 'pagentctl verify');
  const paths = ['--store', join(folder, 'store'), '--out', join(folder, 'reports')];
  native('review', 'audit', ...paths, '--witness', join(folder, 'witness'));
}

for (const [name, where] of Object.entries(hosts)) {
  const isHere = (folder) => {
    const [program] = programOf(where, folder, []);
    build();
    if (!existsSync(program)) throw new Skip(`${name} is not installed: no npm package of it for this machine`);
  };

  test(`${name}: documents are reviewed, decided, published`, async () => {
    const folder = newFolder(`${name}-whole`);
    isHere(folder);
    check((await succeed(where, folder, 'start', '/box/docs')).includes('5 started'), 'all are started');
    check((await succeed(where, folder, 'start', '/box/docs')).includes('0 started, 5 known'), 'and known again');
    await succeed(where, folder, 'run', '--witness', '/box/witness');
    const asking = agentsOf(await succeed(where, folder, 'status', '--json')).filter(({ question }) => question);
    check(asking.length !== 0, 'one asks a person');
    for (const { id } of asking) await succeed(where, folder, 'approve', id, '--as', 'wasi');
    await succeed(where, folder, 'run', '--witness', '/box/witness');
    for (const { id, state } of agentsOf(await succeed(where, folder, 'status', '--json')))
      check(state === 'published', `${id} is ${state}`);
    equal(readdirSync(join(folder, 'reports')).length, 5);
    const history = await succeed(where, folder, 'history', asking[0].id);
    check(history.includes('wasi') && history.includes('published'), history);
    check(native('pagentctl', join(folder, 'store'), 'log', asking[0].id).includes('wasi'), 'natively, too');
    judge(folder);
  });

  test(`${name}: killed in the middle, it goes on`, async () => {
    const folder = newFolder(`${name}-killed`);
    isHere(folder);
    await succeed(where, folder, 'start', '/box/docs', '--threshold', '101');
    for (const at of ['3', '9', '14']) {
      const words = ['run', '--kill-at', at, '--seed', at, '--witness', '/box/witness', ...where.options];
      const { status, said } = await run(where, folder, words);
      check(status !== 0, `not killed at ${at}: ${said}`);
    }
    for (const word of ['started', '->', 'published']) {
      writeFileSync(join(folder, 'docs', `${word.length}.c`), readFileSync(join(root, 'examples/review.c')));
      const words = [
        'run',
        '/box/docs',
        '--threshold',
        '101',
        '--watch',
        '--witness',
        '/box/witness',
        ...where.options,
      ];
      const { signal, said } = await run(where, folder, words, word);
      check(signal === 'SIGKILL' && said.includes(word), `not killed: ${said}`);
    }
    await succeed(where, folder, 'run', '--witness', '/box/witness');
    const agents = agentsOf(await succeed(where, folder, 'status', '--json'));
    equal(agents.filter(({ state }) => state === 'published').length, 8);
    judge(folder);
  });

  if (where.options.length === 0) continue;
  test(`${name}: says that it cannot sync a directory`, async () => {
    const folder = newFolder(`${name}-blind`);
    isHere(folder);
    const { status, said } = await run(where, folder, ['start', '/box/docs']);
    check(status !== 0 && said.includes('--no-dir-sync'), `exit status ${status}: ${said}`);
  });
}

await finish();
