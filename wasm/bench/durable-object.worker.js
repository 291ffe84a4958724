// The Durable Object that durable-object.mjs measures: the engine's steps, and a bare transaction of the same shape.

import { DurableObject } from 'cloudflare:workers';
import wasm from './persistent_agent.wasm';
import { open } from '../index.js';
import { durableObject } from '../stores/durable-object.js';
import { counter } from './counter.js';

const STREAM = '00000000000000aa';

/** Compares and sets a head, adds a block: the least that a journal needs. */
function bare(storage, size) {
  for (const text of [
    'CREATE TABLE IF NOT EXISTS head (stream TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID',
    `CREATE TABLE IF NOT EXISTS block (stream TEXT NOT NULL, version INTEGER NOT NULL, bytes BLOB NOT NULL,
      PRIMARY KEY (stream, version)) WITHOUT ROWID`,
  ]) {
    storage.sql.exec(text);
  }
  storage.sql.exec('INSERT OR IGNORE INTO head VALUES (?, 0)', STREAM);
  const block = crypto.getRandomValues(new Uint8Array(size));
  let expected = storage.sql.exec('SELECT version FROM head WHERE stream = ?', STREAM).one().version;
  return async () => {
    storage.transactionSync(() => {
      const [{ version }] = storage.sql.exec('SELECT version FROM head WHERE stream = ?', STREAM).toArray();
      if (version !== expected) throw new Error('a conflict');
      storage.sql.exec('INSERT INTO block VALUES (?, ?, ?)', STREAM, version + 1, block);
      storage.sql.exec('UPDATE head SET version = ? WHERE stream = ?', version + 1, STREAM);
    });
    await storage.sync();
    expected++;
  };
}

async function engineOf(context, alarm) {
  const engine = await open({ wasm, machines: [counter], store: durableObject(context, { alarm }) });
  await engine.create('a', 'counter');
  return engine;
}

export class Bench extends DurableObject {
  #step;
  #engine;

  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const count = Number(searchParams.get('count'));
    if (pathname === '/bare') {
      this.#step ??= bare(this.ctx.storage, Number(searchParams.get('size')));
    } else {
      this.#engine ??= await engineOf(this.ctx, searchParams.has('alarm'));
      this.#step ??= () => this.#engine.post('a', 'go');
    }
    for (let i = 0; i < count; i++) await this.#step();
    const sizes = [];
    if (pathname === '/sizes') for await (const { size } of this.#engine.history('a')) sizes.push(size);
    return Response.json(sizes);
  }
}

export default {
  fetch(request, env) {
    const name = new URL(request.url).searchParams.get('object');
    return env.BENCH.get(env.BENCH.idFromName(name)).fetch(request);
  },
};
