// persistent-agent: agents that survive their process, in any JavaScript runtime. See index.d.ts for the manual.

import { Engine } from './engine.js';

export { header, previousLink } from './block.js';
export { CallFailure, PagentError } from './errors.js';

// Literal, so that bundlers see which files are wanted.
const beside = {
  engine: () => new URL('./persistent_agent.wasm', import.meta.url),
  files: () => new URL('./persistent_agent_files.wasm', import.meta.url), // with the file store, for directories
};

async function fetched(url) {
  if (url.protocol === 'file:' && globalThis.process?.versions?.node !== undefined) {
    const files = 'node:fs/promises'; // not for bundlers to follow
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ files)).readFile(url);
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

export async function load(source = beside.engine()) {
  source = await source;
  if (source instanceof WebAssembly.Module) return source;
  if (typeof source === 'string') source = new URL(source, globalThis.location?.href ?? import.meta.url);
  if (source instanceof URL) source = await fetched(source);
  if (typeof Response !== 'undefined' && source instanceof Response) source = await source.arrayBuffer();
  return WebAssembly.compile(source);
}

const compiled = {};

export async function open(options = {}) {
  const kind = options?.store?.directory !== undefined ? 'files' : 'engine';
  const module = options?.wasm !== undefined ? load(options.wasm) : (compiled[kind] ??= load(beside[kind]()));
  return new Engine(await module, options);
}
