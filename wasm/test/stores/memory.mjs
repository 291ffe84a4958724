import { runKit } from '../../kit.js';
import { memory } from '../../stores/memory.js';
import { finish } from './harness.mjs';

const worlds = new Map();
const open = (name) => {
  if (!worlds.has(name)) worlds.set(name, new Map());
  return memory({ data: worlds.get(name) });
};
finish(await runKit({ open, reopen: open }));
