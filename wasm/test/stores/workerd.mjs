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
  // A connection each: workerd may close one that waited, under the next request, which then fails.
  const ask = async (path, options) => {
    try {
      const signal = AbortSignal.timeout(280_000);
      return await fetch(new URL(path, server.url), { ...options, headers: { connection: 'close' }, signal });
    } catch (error) {
      throw new Error(`${path}: ${error.message}: ${error.cause ?? ''}`, { cause: error });
    }
  };
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
