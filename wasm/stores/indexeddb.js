// persistent-agent/indexeddb: agents that live in a browser's IndexedDB, shared by all tabs and workers of an origin.
//
//   heads   stream -> { stream, version, epoch, base, due, time, state, status, flags }     never deleted
//           index "due" over [due, stream]; an agent that is never due has due: null, and is not in it
//   blocks  [stream, version] -> Uint8Array
//   meta    "id" -> a random name drawn when the database was made
//           "writer" -> the random name of the connection that wrote heads last
//           "recent" -> the heads that were written last: of their agents, those in `heads` are out of date
//
// One commit() is one readwrite transaction. The browser runs overlapping ones after each other, in all tabs, so a
// compare inside the transaction is sound without any lock. It begins boldly: the heads are asked for and the blocks
// are added in the same breath, and the answer about the heads decides whether to commit or to abort. That saves a
// round trip to the browser's storage process per commit. Only after an abort is it done again cautiously, head by
// head, to find out which appends are refused.
//
// What a commit costs is the number of its requests. So the heads that it moves are written as one value, `recent`, in
// which the agents that go on step after step have their heads moved again and again; one that is not touched for a
// while goes to its place in `heads`. And a connection that finds its own name as the writer knows that nobody else has
// written a head since: those that it wrote itself are what it remembers, and one question, who wrote last, takes the
// place of one for each agent. Schema 1 is the same with neither, schema 2 without `recent`: pages of these must not
// write any more, which is all that the upgrade is for.

const SCHEMA = 3;
const CHUNK_MAX = 256; // blocks per getAll: bounds the memory that one wrong guess of their sizes costs
const HEADS_MAX = 1024; // heads per getAll
const MANY = 16; // reads of one transaction whose heads are asked for together
const TRIM_MAX = 256; // agents per transaction of trim: writers wait for no longer than that
const REMEMBERED_MAX = 16384; // heads
const RECENT = { least: 8, most: 256 }; // heads in `recent`; in between, twice as many as a commit moves
const LAST = '\uffff'; // above every stream

// How a commit goes about it; the next one is tried where one has to be aborted.
const TRUSTING = 0, // judged by the heads that are remembered
  BOLD = 1,
  CAUTIOUS = 2;

/** Opens the database, makes it if there is none. */
export async function indexedDB(name, options = {}) {
  const store = new IndexedDBStore(name, options);
  await store.connect();
  return store;
}

class IndexedDBStore {
  durability = 'process';
  #name;
  #options;
  #strength;
  #database = null;
  #memory = null; // of the connection's
  #id = null;
  #connecting = null;
  #ended = null; // why nothing goes on here
  #channel = null;
  #reads = []; // asked for, and not begun
  #blockSize = 1024; // a guess: the largest block of the last chunk read

  constructor(name, options) {
    this.#name = name;
    this.#options = options;
    this.#strength = { durability: options.durability ?? 'strict' };
    this.readOnly = options.readOnly ?? false;
    if (options.changed) {
      this.#channel = new BroadcastChannel(`persistent-agent:${name}`);
      if (typeof options.changed === 'function') this.#channel.onmessage = ({ data }) => options.changed(data);
    }
  }

  commit(appends) {
    if (this.readOnly) return Promise.reject(new Error(`${this.#name}: opened for reading only`));
    if (appends.length === 0) return Promise.resolve([]);
    if (!this.#database) return this.connect().then(() => this.commit(appends));
    return this.#write(appends, this.#memory.allows(appends) ? TRUSTING : BOLD);
  }

  read(request) {
    return new Promise((resolve, reject) => {
      this.#reads.push({ request, resolve, reject });
      if (this.#reads.length === 1) queueMicrotask(() => this.#readTogether());
    });
  }

  /** What is asked for in one breath is read in one transaction: it costs more than what is read in it. */
  async #readTogether() {
    const reads = this.#reads.splice(0),
      answers = [];
    try {
      if (!this.#database) await this.connect();
      await this.#run('readonly', (transaction) => {
        let recent;
        readRecent(transaction, (heads) => {
          recent = heads; // answers come in the order of the questions
        });
        readHeads(transaction.objectStore('heads'), reads, ({ request }, i, old) => {
          const head = recent.get(request.stream) ?? old;
          answers[i] = { version: 0, blocks: [] };
          if (head) this.#find(transaction, request, head, answers[i]);
        });
      });
      for (const [i, { resolve }] of reads.entries()) resolve(answers[i]);
    } catch (error) {
      for (const { reject } of reads) reject(error);
    }
  }

  list(request) {
    if (!this.#database) return this.connect().then(() => this.list(request));
    return this.#run('readonly', (transaction, done) => {
      const answer = { items: [], nextDue: Infinity };
      readRecent(transaction, (recent) => list(transaction.objectStore('heads'), recent, request, answer));
      done(answer);
    });
  }

  /** Agents whose transcripts still stand in older blocks keep them all (flag 16). */
  async trim() {
    if (this.readOnly) throw new Error(`${this.#name}: opened for reading only`);
    let from = '',
      removed = 0;
    while (from !== undefined) {
      if (!this.#database) await this.connect();
      const part = await this.#run('readwrite', (transaction, done) => trimSome(transaction, from, done));
      from = part.next;
      removed += part.removed;
    }
    return removed;
  }

  close() {
    this.#end(new Error(`${this.#name}: the store is closed`), false);
  }

  /** After the browser has closed the connection by itself (it does so to pages that sleep), the next request opens
      it again; not if the data was cleared meanwhile, for then versions would begin anew. */
  connect() {
    if (this.#ended) return Promise.reject(this.#ended);
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = null;
    });
    return this.#connecting;
  }

  async #connect() {
    const database = await openDatabase(this.#name, this.#options);
    database.onversionchange = ({ newVersion }) => {
      this.#end(
        new Error(
          newVersion === null
            ? `${this.#name} is being deleted by another tab`
            : `${this.#name} is being upgraded by another tab, with a newer persistent-agent: reload this one`,
        ),
        true,
      );
    };
    database.onclose = () => {
      if (this.#database === database) this.#database = null;
    };
    const { id, durability } = await readMeta(database, this.#strength).catch((error) => {
      database.close(); // nobody else would
      throw error;
    });
    this.#id ??= id;
    if (id !== this.#id) this.#end(new Error(`${this.#name}: its data was cleared while it was in use`), true);
    if (this.#ended) {
      database.close();
      throw this.#ended;
    }
    this.durability = durability === 'strict' ? 'power' : 'process';
    this.#database = database;
    this.#memory = new Memory();
  }

  #end(reason, tell) {
    if (this.#ended) return;
    this.#ended = reason;
    this.#database?.close(); // transactions under way still end well
    this.#database = null;
    this.#channel?.close();
    this.#channel = null;
    if (tell) this.#options.closed?.(reason);
  }

  #begin(mode) {
    try {
      return this.#database.transaction(['heads', 'blocks', 'meta'], mode, this.#strength);
    } catch (error) {
      if (error.name === 'InvalidStateError') this.#database = null; // closed under us: the next request reconnects
      throw error;
    }
  }

  /** `done` is called inside the transaction; its value is what the promise resolves to when that is complete. */
  #run(mode, body) {
    return new Promise((resolve, reject) => {
      const transaction = this.#begin(mode);
      let answer;
      transaction.oncomplete = () => resolve(answer);
      transaction.onabort = () => reject(failure(this.#name, transaction.error));
      body(transaction, (value) => {
        answer = value;
      });
    });
  }

  #write(appends, way) {
    const memory = this.#memory;
    return new Promise((resolve, reject) => {
      const transaction = this.#begin('readwrite'),
        commit = new Commit(transaction, appends, way, memory);
      memory.open++;
      transaction.oncomplete = () => {
        memory.open--;
        memory.learn(commit);
        this.#tell(appends, commit.results);
        resolve(commit.results);
      };
      transaction.onabort = () => {
        memory.open--;
        memory.forget();
        const name = transaction.error?.name;
        if (name === 'QuotaExceededError') resolve(appends.map(() => ({ result: 'no-space' })));
        else if (way !== CAUTIOUS && (commit.refused || name === 'ConstraintError'))
          resolve(this.#again(appends, way + 1));
        else reject(failure(this.#name, transaction.error));
      };
      try {
        commit.begin();
      } catch (error) {
        // a block that cannot be cloned
        reject(error);
        transaction.abort();
      }
    });
  }

  /** Nothing of it went in, and the connection may be closed meanwhile. */
  async #again(appends, way) {
    if (!this.#database) await this.connect();
    return this.#write(appends, way);
  }

  #tell(appends, results) {
    if (!this.#channel) return;
    const streams = appends.filter((_, i) => results[i].result === 'ok').map(({ stream }) => stream);
    if (streams.length !== 0) this.#channel.postMessage(streams);
  }

  /** Where the reading begins; then the blocks. */
  #find(transaction, { stream, mode, version, maxBytes, last = Infinity }, head, answer) {
    const blocks = transaction.objectStore('blocks'),
      end = Math.min(head.version, last);
    answer.version = head.version;
    const from = (first) => {
      if (first <= end)
        this.#collect(blocks, { stream, next: first, last: end, room: maxBytes, exact: first !== 0 }, answer);
    };
    if (mode === 'newest') from(head.base);
    else if (mode === 'from') from(version || -1);
    else if (version === 0) from(0);
    else {
      const wanted = Math.min(version, head.version),
        at = blocks.get([stream, wanted]);
      at.onsuccess = () => {
        if (at.result) from(wanted - based(at.result));
        else answer.trimmed = true;
      };
    }
  }

  /** In chunks, for nobody knows how long the blocks are: by the largest of the chunk before. */
  #collect(blocks, at, answer) {
    const count = Math.max(1, Math.min(CHUNK_MAX, Math.ceil(at.room / this.#blockSize), at.last - at.next + 1));
    const range = IDBKeyRange.bound([at.stream, at.next], [at.stream, at.last]);
    const get = blocks.getAll(range, count);
    get.onsuccess = () => {
      const chunk = get.result;
      if (chunk.length === 0) return;
      const first = versionOf(chunk[0]);
      if (at.exact && first !== at.next) {
        answer.trimmed = true;
        return;
      }
      let largest = 64;
      for (const block of chunk) {
        if (block.length > at.room && answer.blocks.length !== 0) return;
        answer.blocks.push(block);
        at.room -= block.length;
        largest = Math.max(largest, block.length);
      }
      this.#blockSize = largest;
      at.next = first + chunk.length;
      at.exact = true;
      if (at.room > 0 && at.next <= at.last) this.#collect(blocks, at, answer);
    };
  }
}

// ---- what a commit does ---------------------------------------------------------------------------------------------

class Commit {
  results;
  refused = false; // so not in this way
  alone = false; // nobody else has written since this connection did
  made = new Map(); // heads, by stream
  recent; // as they are after it
  #transaction;
  #way;
  #memory;
  #heads;
  #blocks;
  #meta;
  #found = new Map(); // heads that were asked for
  #first = new Set(); // agents that had none
  #moved; // the head after each append
  #open = 0; // answers that are missing

  constructor(transaction, appends, way, memory) {
    this.#transaction = transaction;
    this.appends = appends;
    this.#way = way;
    this.#memory = memory;
    this.#moved = appends.map(moved); // now: the caller's bytes may change as soon as the blocks are cloned
    [this.#heads, this.#blocks, this.#meta] = ['heads', 'blocks', 'meta'].map((name) => transaction.objectStore(name));
  }

  begin() {
    const trusting = this.#way === TRUSTING;
    this.#ask(this.#meta, 'writer', (name) => {
      this.alone = name === this.#memory.name;
      this.refused = trusting && !this.alone;
    });
    if (trusting) this.recent = new Map(this.#memory.recent);
    else this.#ask(this.#meta, 'recent', (heads) => (this.recent = byStream(heads)));
    for (const append of this.appends) {
      const { stream } = append;
      if (!trusting || !this.#memory.heads.has(stream))
        this.#ask(this.#heads, stream, (head) => this.#found.set(stream, head));
      if (this.#way !== CAUTIOUS) this.#add(append);
    }
  }

  #ask(objects, key, take) {
    const get = objects.get(key);
    this.#open++;
    get.onsuccess = () => {
      take(get.result);
      if (--this.#open === 0) this.#answered();
    };
  }

  #add({ stream, first, blocks }) {
    for (let i = 0; i < blocks.length; i++) this.#blocks.add(whole(blocks[i]), [stream, first + i]);
  }

  #headOf(stream) {
    const trusted = this.#way === TRUSTING && this.#memory.heads.get(stream);
    return this.made.get(stream) ?? (trusted || (this.recent.get(stream) ?? this.#found.get(stream)));
  }

  #answered() {
    this.results = this.appends.map((append, i) => {
      const head = this.#headOf(append.stream),
        answer = judge(append, head);
      if (answer.result !== 'ok') this.refused = true;
      else {
        if (!head) this.#first.add(append.stream);
        this.made.set(append.stream, this.#moved[i]);
        if (this.#way === CAUTIOUS) this.#add(append);
      }
      return answer;
    });
    if (this.refused && this.#way !== CAUTIOUS) {
      this.#transaction.abort();
      return;
    }
    if (this.made.size !== 0) this.#putHeads();
    this.#transaction.commit?.(); // rather than after one more round trip
  }

  /** The first of an agent goes to its place at once: so all agents have one there, and are listed by it. */
  #putHeads() {
    const most = Math.min(Math.max(2 * this.made.size, RECENT.least), RECENT.most);
    for (const [stream, head] of this.made) {
      this.recent.delete(stream); // the one moved longest ago comes first
      if (this.#first.has(stream)) this.#heads.put(head);
      else this.recent.set(stream, head);
    }
    for (const [stream, head] of this.recent) {
      if (this.recent.size <= most) break;
      this.#heads.put(head);
      this.recent.delete(stream);
    }
    this.#meta.put([...this.recent.values()], 'recent');
    if (!this.alone) this.#meta.put(this.#memory.name, 'writer');
  }
}

/**
 * The heads that a connection has written, for as long as it is the one that wrote last. A new connection begins with
 * none and with a new name: what the browser keeps of an earlier one's writing after a crash is not known here.
 */
class Memory {
  name = crypto.getRandomValues(new Uint32Array(4)).join(' ');
  heads = new Map(); // stream -> head, the one written longest ago first
  recent; // of these, what the database holds under that name
  open = 0; // commits under way, whose end is not known
  #alone = false;

  /** Whether appends may be tried without asking for the heads that are in here. Refused ones have to be asked for. */
  allows(appends) {
    if (!this.#alone || this.open !== 0) return false;
    const made = new Map();
    for (const append of appends) {
      const { stream, epoch, summary } = append,
        head = made.get(stream) ?? this.heads.get(stream);
      if (head === undefined) continue;
      if (judge(append, head).result !== 'ok') return false;
      made.set(stream, { version: summary.version, epoch });
    }
    return true;
  }

  /** Only a commit that found this connection's name lets the next one trust: tabs that take turns would abort each. */
  learn({ alone, made, recent }) {
    if (!alone) this.heads.clear();
    this.#alone = alone;
    this.recent = recent;
    for (const [stream, { version, epoch }] of made) {
      this.heads.delete(stream);
      this.heads.set(stream, { version, epoch });
    }
    for (const stream of this.heads.keys()) {
      if (this.heads.size <= REMEMBERED_MAX) break;
      this.heads.delete(stream);
    }
  }

  forget() {
    this.heads.clear();
    this.#alone = false;
  }
}

function judge({ expected, epoch, first, blocks: [block] }, head) {
  const version = head?.version ?? 0;
  if (version !== expected) return { result: 'conflict', version };
  if (!head && first !== 1 && (block[57] & SNAPSHOT) === 0) return { result: 'conflict', version }; // could never be read
  return { result: head && head.epoch > epoch ? 'fenced' : 'ok' };
}

/** The head after an append. */
function moved({ stream, epoch, first, blocks, summary: { due, time, state, status, flags } }) {
  const version = first + blocks.length - 1,
    base = version - based(blocks[blocks.length - 1]);
  return { stream, version, epoch, base, due: due === Infinity ? null : due, time, state, status, flags };
}

const byStream = (heads = []) => new Map(heads.map((head) => [head.stream, head]));

/** Of these agents, the heads in `heads` are out of date. */
function readRecent(transaction, take) {
  const get = transaction.objectStore('meta').get('recent');
  get.onsuccess = () => take(byStream(get.result));
}

/** Calls `found` with each of the reads, its index, and its head where there is one. */
function readHeads(heads, reads, found) {
  const ask = (read, i) => {
    const get = heads.get(read.request.stream);
    get.onsuccess = () => found(read, i, get.result);
  };
  if (reads.length < MANY) reads.forEach(ask);
  else readNeighbours(heads, reads, found, ask);
}

/** Many at once mostly come from a list, and stand side by side: one request for all of them, then for the few others. */
function readNeighbours(heads, reads, found, ask) {
  const streams = reads.map(({ request }) => request.stream).sort(),
    count = 2 * streams.length;
  const get = heads.getAll(IDBKeyRange.bound(streams[0], streams.at(-1)), count);
  get.onsuccess = () => {
    const near = byStream(get.result),
      seen = get.result.length < count ? LAST : get.result.at(-1).stream;
    for (const [i, read] of reads.entries()) {
      const { stream } = read.request;
      if (stream <= seen) found(read, i, near.get(stream));
      else ask(read, i);
    }
  };
}

/** A clone of a view takes all of the memory below it along. */
function whole(block) {
  return block.buffer instanceof ArrayBuffer && block.buffer.byteLength === block.length ? block : block.slice();
}

// Of the block's header (block.js): whether it carries a snapshot, how far back the newest one is, and the version.
const SNAPSHOT = 1;
const based = (block) => block[58] | (block[59] << 8);

function versionOf(block) {
  const view = new DataView(block.buffer, block.byteOffset, 32);
  return view.getUint32(24, true) + view.getUint32(28, true) * 4294967296;
}

// ---- listing --------------------------------------------------------------------------------------------------------

function list(heads, recent, { dueBefore, flags = 0, cursor, limit }, answer) {
  const all = dueBefore === undefined && flags === 0;
  nextDue(heads, recent, dueBefore ?? -Infinity, answer);
  if (flags === 0 && !all) listDue(heads, recent, dueBefore, cursor, limit, answer);
  else listHeads(heads, recent, { all, dueBefore: dueBefore ?? -Infinity, flags }, cursor ?? '', limit, answer);
}

function nextDue(heads, recent, dueBefore, answer) {
  for (const { due } of recent.values())
    if (due !== null && due > dueBefore && due < answer.nextDue) answer.nextDue = due;
  const later = heads.index('due').openKeyCursor(IDBKeyRange.lowerBound([dueBefore, LAST]));
  later.onsuccess = () => {
    const found = later.result;
    if (found && recent.has(found.primaryKey)) found.continue();
    else if (found) answer.nextDue = Math.min(answer.nextDue, found.key[0]);
  };
}

const byDue = (a, b) => a.due - b.due || (a.stream < b.stream ? -1 : 1);

function listDue(heads, recent, dueBefore, cursor, limit, answer) {
  let low = { due: -Infinity, stream: '' };
  if (cursor !== undefined) {
    const [due, stream] = cursor.split(' ');
    low = { due: Number(due), stream };
  }
  if (low.due > dueBefore) return; // the clock went back between two pages
  const range = IDBKeyRange.bound([low.due, low.stream], [dueBefore, LAST], cursor !== undefined);
  const get = heads.index('due').getAll(range, limit + 1 + recent.size); // those of `recent` are left out
  get.onsuccess = () => {
    const found = get.result.filter(({ stream }) => !recent.has(stream));
    for (const head of recent.values())
      if (head.due !== null && head.due <= dueBefore && (cursor === undefined || byDue(low, head) < 0))
        found.push(head);
    found.sort(byDue);
    for (const head of found.slice(0, limit)) answer.items.push(summaryOf(head));
    if (found.length > limit) answer.cursor = `${found[limit - 1].due} ${found[limit - 1].stream}`;
  };
}

function listHeads(heads, recent, wanted, from, limit, answer) {
  const { all, dueBefore, flags } = wanted,
    count = all ? limit - answer.items.length + 1 : HEADS_MAX;
  const get = heads.getAll(IDBKeyRange.lowerBound(from, true), count);
  get.onsuccess = () => {
    for (const old of get.result) {
      const head = recent.get(old.stream) ?? old,
        isDue = head.due !== null && head.due <= dueBefore;
      if (!all && !isDue && (head.flags & flags) === 0) continue;
      if (answer.items.length === limit) {
        answer.cursor = answer.items[limit - 1].stream;
        return;
      }
      answer.items.push(summaryOf(head));
    }
    if (get.result.length === count) listHeads(heads, recent, wanted, get.result[count - 1].stream, limit, answer);
  };
}

function summaryOf({ stream, version, due, time, state, status, flags }) {
  return { stream, version, due: due ?? Infinity, time, state, status, flags };
}

// ---- trimming -------------------------------------------------------------------------------------------------------

const KEEPS_BLOCKS = 16; // summary flag: the transcript stands in blocks before the snapshot

function trimSome(transaction, from, done) {
  const heads = transaction.objectStore('heads'),
    blocks = transaction.objectStore('blocks');
  const answer = { removed: 0, next: undefined };
  let recent;
  done(answer);
  readRecent(transaction, (found) => {
    recent = found;
  });
  const get = heads.getAll(IDBKeyRange.lowerBound(from, true), TRIM_MAX);
  get.onsuccess = () => {
    const found = get.result;
    if (found.length === TRIM_MAX) answer.next = found[TRIM_MAX - 1].stream;
    for (const old of found) {
      const { stream, base, flags } = recent.get(old.stream) ?? old;
      if (flags & KEEPS_BLOCKS || base <= 1) continue;
      const range = IDBKeyRange.bound([stream, 0], [stream, base], false, true),
        count = blocks.count(range);
      count.onsuccess = () => {
        answer.removed += count.result;
        if (count.result !== 0) blocks.delete(range);
      };
    }
  };
}

// ---- the database ---------------------------------------------------------------------------------------------------

function openDatabase(name, { factory = globalThis.indexedDB, blocked }) {
  return new Promise((resolve, reject) => {
    const request = factory.open(name, SCHEMA);
    request.onupgradeneeded = ({ oldVersion }) => {
      if (oldVersion !== 0) return;
      const database = request.result;
      database.createObjectStore('heads', { keyPath: 'stream' }).createIndex('due', ['due', 'stream']);
      database.createObjectStore('blocks');
      database.createObjectStore('meta').put(crypto.randomUUID?.() ?? String(Math.random()), 'id');
    };
    request.onblocked = () => blocked?.(); // an older tab has not let go yet: this goes on when it does
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => {
      reject(
        request.error.name !== 'VersionError'
          ? failure(name, request.error)
          : new Error(`${name} was made by a newer persistent-agent: reload this page`, { cause: request.error }),
      );
    };
  });
}

/** Also what durability the browser really gives: an old one ignores the wish. */
function readMeta(database, strength) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction('meta', 'readwrite', strength),
      get = transaction.objectStore('meta').get('id');
    transaction.oncomplete = () => resolve({ id: get.result, durability: transaction.durability });
    transaction.onabort = () => reject(failure(database.name, transaction.error));
  });
}

function failure(name, cause) {
  return new Error(`${name}: ${cause ? `${cause.name}: ${cause.message}` : 'the transaction was aborted'}`, { cause });
}

// ---- helpers --------------------------------------------------------------------------------------------------------

/** Asks the browser not to evict this origin's data when space runs low. */
export async function persist() {
  const storage = globalThis.navigator?.storage;
  if (!storage?.persist) return false;
  return (await storage.persisted()) || storage.persist();
}

/** Bytes. */
export async function estimate() {
  const storage = globalThis.navigator?.storage;
  const { usage = 0, quota = Infinity } = (await storage?.estimate?.()) ?? {};
  return { usage, quota, persisted: (await storage?.persisted?.()) ?? false };
}

/** Waits until this tab is the one that runs the engine. For liveness only: what keeps two engines apart is the store. */
export function leader(name, { signal } = {}) {
  return new Promise((resolve, reject) => {
    const ended = new AbortController();
    let release;
    const held = new Promise((done) => {
      release = done;
    });
    const leadership = {
      signal: ended.signal,
      release() {
        release();
        ended.abort();
      },
    };
    navigator.locks
      .request(`persistent-agent:${name}`, { signal }, () => {
        signal?.addEventListener('abort', leadership.release, { once: true });
        resolve(leadership);
        return held;
      })
      .then(
        () => ended.abort(),
        (error) => {
          // stolen, or never had
          ended.abort(error);
          reject(error);
        },
      );
  });
}
