// Starts workerd, by miniflare, with worker.mjs and what it imports.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Miniflare } from 'miniflare';

const root = new URL('../../', import.meta.url);
const files = [
  'test/stores/worker.mjs',
  'kit.js',
  'block.js',
  'stores/shared.js',
  'stores/sql.js',
  'stores/durable-object.js',
  'stores/kv.js',
];

export async function startWorkerd(folder, only = files) {
  const modules = only.map((path) => ({
    type: 'ESModule',
    path: fileURLToPath(new URL(path, root)),
    contents: readFileSync(new URL(path, root), 'utf8'),
  }));
  const miniflare = new Miniflare({
    modules,
    modulesRoot: fileURLToPath(root),
    compatibilityDate: '2026-01-01',
    durableObjects: { AGENTS: { className: 'Agents', useSQLite: true } },
    kvNamespaces: ['KV'],
    durableObjectsPersist: `${folder}/objects`,
    kvPersist: `${folder}/kv`,
  });
  const url = await miniflare.ready;
  return {
    miniflare,
    fetch: (path, options) => fetch(new URL(path, url), options),
    json: async (path, options) => {
      const response = await fetch(new URL(path, url), options);
      const text = await response.text();
      try {
        return JSON.parse(text);
      } catch {
        throw new Error(`${path}: ${text}`);
      }
    },
    stop: () => miniflare.dispose(),
  };
}

/** The processes that this one has started and that are workerd: their ids. */
export function workerds() {
  const { readdirSync } = process.getBuiltinModule('node:fs');
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
