// Deno KV: the kit, two processes that race, SIGKILL in the middle of appends.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { finish, tally } from './harness.mjs';
import { processes } from './processes.mjs';

const total = tally();
const deno = fileURLToPath(new URL('../node_modules/@deno/linux-x64-glibc/deno', import.meta.url));
if (existsSync(deno)) {
  await processes(total, {
    name: 'deno-kv',
    program: deno,
    env: {},
    args: ['run', '-A', '--unstable-kv', '--no-lock', fileURLToPath(new URL('deno-kv-inner.mjs', import.meta.url))],
  });
} else total.skip('deno-kv', 'not installed: npm ci in wasm/test');
finish(total.total);
