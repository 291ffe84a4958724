// The types: every declaration under TypeScript's strict rules, and a program that uses them.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { Skip, finish, test } from './harness.mjs';

const here = new URL('./', import.meta.url).pathname;
const compiler = `${here}node_modules/typescript/bin/tsc`;

function compile(...files) {
  if (!existsSync(compiler)) throw new Skip('the npm package typescript is not installed');
  try {
    execFileSync(
      'node',
      [
        compiler,
        '--strict',
        '--noEmit',
        '--target',
        'es2022',
        '--module',
        'nodenext',
        '--moduleResolution',
        'nodenext',
        '--lib',
        'es2022,dom,dom.iterable,esnext.disposable',
        ...files,
      ],
      { cwd: here, encoding: 'utf8' },
    );
  } catch (error) {
    throw new Error(error.stdout);
  }
}

const stores = readdirSync(`${here}../stores`).filter((name) => name.endsWith('.d.ts'));

test('the engine', () => compile('../index.d.ts'));
for (const name of stores) test(`stores/${name}`, () => compile(`../stores/${name}`));
test('portable', () => compile('../portable.d.ts'));
test('the kit', () => compile('../kit.d.ts'));
test('a program', () => compile('types.example.ts'));

await finish('');
