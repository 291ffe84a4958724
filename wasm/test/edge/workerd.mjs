// The Cloudflare example in workerd, by miniflare, as wrangler would have put it together.

import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { start } from '../workerd.mjs';

const root = new URL('../../', import.meta.url);
const scripts = [
  'test/edge/counted.mjs',
  'examples/cloudflare/src/worker.js',
  ...readdirSync(new URL('examples/shared/', root))
    .filter((name) => name.endsWith('.js'))
    .map((name) => `examples/shared/${name}`),
  ...readdirSync(root).filter((name) => name.endsWith('.js')),
  ...['durable-object', 'sql', 'shared'].map((name) => `stores/${name}.js`),
];

// The package's names, which a bundler resolves: modules that stand where workerd looks for them.
const names = [
  ['examples/cloudflare/src/persistent-agent', '../../../index.js'],
  ['examples/shared/persistent-agent', '../../index.js'],
  ['examples/cloudflare/src/persistent-agent/durable-object', '../../../../stores/durable-object.js'],
];

const path = (name) => fileURLToPath(new URL(name, root));
const modules = [
  ...scripts.map((name) => ({ type: 'ESModule', path: path(name), contents: readFileSync(path(name), 'utf8') })),
  ...names.map(([name, to]) => ({ type: 'ESModule', path: path(name), contents: `export * from '${to}';` })),
  {
    type: 'CompiledWasm',
    path: path('examples/cloudflare/src/persistent-agent/persistent_agent.wasm'),
    contents: readFileSync(path('persistent_agent.wasm')),
  },
];

export const startWorker = (folder, bindings) =>
  start({
    modules,
    modulesRoot: fileURLToPath(root),
    compatibilityDate: '2026-01-01',
    bindings,
    durableObjects: { AGENTS: { className: 'Counted', useSQLite: true } },
    durableObjectsPersist: `${folder}/objects`,
  });
