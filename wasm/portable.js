// Carrying an agent elsewhere, in files that pagentctl reads and writes, too.

import * as layout from './layout.js';
import { REFUSALS } from './bridge.js';
import { DUPLICATE, known, printable, refuse, result } from './errors.js';
import { PagentError, header, open, previousLink } from './index.js';
import { bytesOf, joined, nameBytes, toBytes } from './linear.js';

const HEAD_SIZE = 512;

/** engine.export: the newest state's blocks, oldest first. */
export async function exportAgent(engine, agent) {
  const { linear, must, random, blocksOf } = engine.raw;
  const { moved, name, blocks } = await blocksOf(agent);
  return linear.frame(() => {
    const file = linear.push(layout.portable_SIZE),
      head = linear.push(HEAD_SIZE);
    linear.u8.set(toBytes(name), file + layout.portable_name);
    random(file + layout.portable_log, 8);
    linear.setU32(file + layout.portable_moved, moved ? 1 : 0);
    const placed = blocks.map((block) =>
      linear.frame(() => {
        const at = linear.pushBytes(block);
        if (linear.exports.portable_add(file, at, block.length) === 0) must(result.E_CORRUPT);
        return linear.copy(at, block.length);
      }),
    );
    return joined([linear.copy(head, linear.exports.portable_head(file, head)), ...placed]);
  });
}

/** Checks portable bytes: { name, moved, last, blocks: their bytes, end to end }. */
function openPortable({ linear, must }, bytes) {
  return linear.frame(() => {
    const file = linear.push(layout.portable_SIZE),
      at = linear.push(4),
      what = linear.push(4),
      copy = linear.pushBytes(bytes);
    const code = linear.exports.portable_open(file, copy, bytes.length, at, what);
    must(code, `offset ${linear.u32(at)}: ${linear.textAt(what)}`);
    return {
      name: linear.text(file + layout.portable_name),
      moved: linear.u32(file + layout.portable_moved) !== 0,
      last: linear.number(file + layout.portable_last),
      blocks: linear.copy(copy + linear.u32(at), bytes.length - linear.u32(at)),
    };
  });
}

/** engine.import: resolves to the agent's name here. */
export async function importAgent(engine, file, options) {
  const { live, moveIn } = engine.raw;
  live();
  const bytes = bytesOf(file) ?? refuse(`import: ${printable(file)} is not bytes`);
  const { as, id, again } = known(options ?? {}, ['as', 'id', 'again'], 'import');
  if (id !== undefined) nameBytes(id, 'id'); // before anything is imported
  const { name, moved, last, blocks } = openPortable(engine.raw, bytes);
  const here = as ?? name;
  if (as === undefined && !moved)
    throw new PagentError(
      'E_REFUSED',
      `a copy of ${name}, which was not moved out and may go on where it is: import it as a fork`,
    );
  if (id !== undefined && (await engine.has(here)) && (await cameBy(engine, name, last, as, id))) return here;
  if (!(await importNews(engine, blocks, here, as)) && !again)
    throw new PagentError(
      'E_EXISTS',
      `'${name}' is in this store, and moved out: if it lives nowhere else, let it go on with { again: true }`,
    );
  if (as === undefined) await moveIn(name, { id });
  return here;
}

/** Whether the agent that is here came by this very import: it knows the id, or is that fork. */
async function cameBy(engine, name, last, as, id) {
  if (as !== undefined) {
    const { parent } = await engine.view(as);
    return parent?.agent === name && parent.version === last;
  }
  try {
    const never = { id, expectedVersion: Number.MAX_SAFE_INTEGER }; // an id that it knows is looked for before
    return (await engine.raw.moveIn(name, never)).outcome === 'duplicate';
  } catch (error) {
    if (error.code === 'E_CONFLICT' || error.code === 'E_FUTURE') return false;
    throw error;
  }
}

/** Whether there was anything new. */
async function importNews(engine, blocks, name, as) {
  const { store } = engine.raw.options;
  if (store === undefined || store.directory !== undefined) return importBlocks(engine, blocks, as);
  return importInto(store, engine, blocks, name, as);
}

function importBlocks(engine, blocks, as) {
  const { linear, live, must } = engine.raw;
  live();
  return linear.frame(() => {
    const at = linear.pushBytes(blocks);
    return must(linear.exports.import_blocks(at, blocks.length, linear.pushOptional(as, 'as'))) !== DUPLICATE;
  });
}

/** By way of an engine in memory, which checks the blocks, or forks what they end in. */
async function importInto(store, engine, blocks, name, as) {
  const { module, options } = engine.raw;
  const memory = await open({ wasm: module, clock: options.clock, random: options.random });
  try {
    importBlocks(memory, blocks, as);
    const here = await standing(engine, name);
    const made = (await memory.raw.blocksOf(name)).blocks.filter((block) => header(block).version > here.version);
    const before = made.length === 0 ? (await standing(memory, name)).link : previousLink(made[0]);
    if (here.version !== 0 && (as !== undefined || before !== here.link)) throw exists(name);
    if (made.length === 0) return false;
    const { version: first } = header(made[0]),
      { epoch } = header(made.at(-1));
    for await (const summary of memory.agents()) {
      const append = { stream: summary.stream, expected: here.version, epoch, first, blocks: made, summary };
      const [{ result: answer }] = await store.commit([append]);
      if (answer === 'conflict') throw exists(name);
      if (answer !== 'ok')
        throw new PagentError(REFUSALS[answer] ?? 'E_IN_DOUBT', `the store refuses '${name}': ${answer}`);
    }
    return true;
  } finally {
    await memory.close();
  }
}

const exists = (name) => new PagentError('E_EXISTS', `an agent '${name}' is in this store`);

/** Where an agent that was moved out stands here; version 0: there is none. */
async function standing(engine, name) {
  if (!(await engine.has(name))) return { version: 0 };
  const { status, version, link } = await engine.view(name);
  if (status !== 'moved') throw exists(name);
  return { version, link };
}
