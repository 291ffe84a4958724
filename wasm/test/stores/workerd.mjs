// Starts workerd, by miniflare, with worker.mjs and what it imports.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { start } from '../workerd.mjs';

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
  const server = await start({
    modules,
    modulesRoot: fileURLToPath(root),
    compatibilityDate: '2026-01-01',
    durableObjects: { AGENTS: { className: 'Agents', useSQLite: true } },
    kvNamespaces: ['KV'],
    durableObjectsPersist: `${folder}/objects`,
    kvPersist: `${folder}/kv`,
  });
  const ask = (path, options) => fetch(new URL(path, server.url), { ...options, signal: AbortSignal.timeout(60_000) });
  return {
    ...server,
    fetch: ask,
    json: async (path, options) => {
      const response = await ask(path, options);
      const text = await response.text();
      try {
        return JSON.parse(text);
      } catch {
        throw new Error(`${path}: ${text}`);
      }
    },
  };
}
