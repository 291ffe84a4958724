// The engine over IndexedDB, as pages/engine.mjs and drives/engine.mjs use it.

import { open } from '../../../index.js';
import { indexedDB as openStore } from '../../../stores/indexeddb.js';
import { until as untilTrue } from '../../within.mjs';

export const pause = (ms) =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
  });

/** A model's plan, a person's approval, a nap, a payment. */
const traveller = {
  name: 'traveller',
  timers: ['nap'],
  approvals: ['plan'],
  calls: { model: { attempts: 3, backoffMs: 5 }, pay: {} },
  states: {
    thinking: {
      waits: ['model'],
      enter(step) {
        Object.assign(step.context, step.event.json());
        step.call('model', { where: step.context.where });
      },
    },
    asking: {
      waits: ['plan'],
      enter: (step) => {
        step.context.plan = step.event.text();
        step.ask('plan', step.context.plan);
      },
    },
    napping: { enter: (step) => step.timer('nap', step.now + step.context.napMs) },
    paying: {
      waits: ['pay'],
      enter: (step) => {
        step.call('pay', step.context.plan);
      },
    },
    done: {
      final: true,
      enter: (step) => {
        step.context.receipt = step.event.text();
      },
    },
    dropped: { final: true, failure: true },
  },
  transitions: [
    { from: 'thinking', event: 'model.result', to: 'asking' },
    { from: 'thinking', event: 'model.failure', to: 'dropped' },
    {
      from: 'asking',
      event: 'plan.approved',
      to: 'napping',
      action: (step) => {
        step.context.who = step.event.who;
      },
    },
    {
      from: 'asking',
      event: 'plan.edited',
      to: 'napping',
      action: (step) => {
        step.context.plan = step.event.text();
      },
    },
    { from: 'asking', event: 'plan.rejected', to: 'dropped' },
    { from: 'asking', event: 'plan.expired', to: 'dropped' },
    { from: 'napping', event: 'nap.timer', to: 'paying' },
    { from: 'paying', event: 'pay.result', to: 'done' },
    { from: 'paying', event: 'pay.failure', to: 'dropped' },
  ],
};

/** Notes who added what, in order. */
const ledger = {
  name: 'ledger',
  signals: ['add', 'fill'],
  initial: { entries: [], fills: 0 },
  states: { open: {}, end: { final: true } },
  transitions: [
    {
      from: 'open',
      event: 'add',
      action: (step) => {
        step.context.entries.push(step.event.text());
      },
    },
    {
      from: 'open',
      event: 'fill',
      action: (step) => {
        step.context.fills++;
      },
    },
    { from: 'open', event: 'cancel', to: 'end' },
  ],
};

/** Calls, and counts the answers, up to a limit; an answer that is not the next one's is noted. */
const looper = {
  name: 'looper',
  calls: { work: { attempts: 5, backoffMs: 5 } },
  initial: { answered: 0, wrong: 0, limit: 1e9 },
  states: {
    working: {
      waits: ['work'],
      enter: (step) => {
        step.call('work', { number: step.context.answered });
      },
    },
    done: { final: true },
    dropped: { final: true, failure: true },
  },
  transitions: [
    {
      from: 'working',
      event: 'start',
      action: (step) => {
        if (step.event.data.length) step.context.limit = step.event.json();
      },
    },
    {
      from: 'working',
      event: 'work.result',
      guard: (step) => step.context.answered + 1 === step.context.limit,
      action: count,
      to: 'done',
    },
    { from: 'working', event: 'work.result', action: count, to: 'working' },
    { from: 'working', event: 'work.failure', to: 'dropped' },
  ],
};

function count(step) {
  if (step.event.json() !== step.context.answered) step.context.wrong++;
  step.context.answered++;
}

export const plain = {
  model: async (request, call) => `Walk to ${call.json().where}.`,
  pay: async (request, call) => `paid for "${call.text()}"`,
  work: async (request, call) => call.json().number,
};

export const start = async (name, calls = {}, more = {}) =>
  open({
    machines: [traveller, ledger, looper],
    store: more.store ?? (await openStore(name)),
    calls: { ...plain, ...calls },
    ...more,
  });

export async function until(engine, agent, wanted) {
  let view;
  const look = async () => wanted((view = await engine.view(agent)));
  const text = () =>
    `${agent} never became what was wanted, but ${view.status}, ${view.state}: ${JSON.stringify(view.context)}`;
  await untilTrue(look, text);
  return view;
}

export async function historyOf(engine, agent) {
  const blocks = [];
  for await (const block of engine.history(agent)) blocks.push(block);
  blocks.forEach((block, i) => {
    if (block.version !== i + 1) throw new Error(`${agent}: version ${block.version} at place ${i + 1}`);
  });
  return blocks;
}

const told = ({ state, status, version, context, effects }) => ({
  state,
  status,
  version,
  context,
  effects: effects.map(({ id, name, key, attempt }) => ({ id, name, key, attempt })),
});

// ---- a life over three pages: each ends with its engine open, and the next goes on ----

let kept; // the engine of this page

export async function setOut(name) {
  kept = await start(name, { pay: () => new Promise(() => {}) });
  await kept.create('ada', 'traveller', { where: 'Rome', napMs: 700 });
  return told(await until(kept, 'ada', (view) => view.state === 'asking'));
}

export async function approveAndGo(name) {
  const now = Date.now(); // it stands still: the nap ends in the next page only
  kept = await start(name, { pay: () => new Promise(() => {}) }, { clock: () => now });
  const asking = await kept.view('ada');
  await kept.approve('ada', { who: 'Bea', digest: asking.effects[0].digest });
  return told(await kept.view('ada'));
}

export async function hangInPayment(name) {
  const calls = [];
  kept = await start(name, {
    pay: (request, { key, attempt, repeated }) => {
      calls.push({ key, attempt, repeated });
      return new Promise(() => {});
    },
  });
  await until(kept, 'ada', (view) => view.state === 'paying');
  await untilTrue(() => calls.length !== 0, 'the payment');
  return calls;
}

export async function arrive(name) {
  const calls = [];
  kept = await start(name, {
    pay: async (request, call) => {
      calls.push({ key: call.key, attempt: call.attempt, repeated: call.repeated });
      return 'paid';
    },
  });
  const view = await until(kept, 'ada', ({ state }) => state === 'done');
  const events = (await historyOf(kept, 'ada')).map(({ event }) => event).filter((event) => event.includes('.'));
  await kept.close();
  return { view: told(view), calls, events };
}

// ---- two tabs ----

/** Two tabs that wait for each other: meet() returns when the other one has called it as often. */
class Meeting {
  #channel;
  #mine = 0;
  #theirs = 0;
  #came = () => {};
  heard = new Set();

  constructor(name) {
    this.#channel = new BroadcastChannel(`meeting-${name}`);
    this.#channel.onmessage = ({ data }) => {
      if (data === 'where?') this.#channel.postMessage(this.#mine);
      else if (typeof data === 'number') this.#theirs = data;
      else this.heard.add(data.said);
      this.#came();
    };
    this.#channel.postMessage('where?');
  }

  async meet() {
    this.#channel.postMessage(++this.#mine);
    while (this.#theirs < this.#mine)
      await new Promise((resolve) => {
        this.#came = resolve;
      });
  }

  say(said) {
    this.#channel.postMessage({ said });
  }
}

/** Each round: a new engine in both tabs, which post to one agent until one of them is refused. What was acknowledged, and how each round ended. */
export async function contend(name, rounds, me) {
  const meeting = new Meeting(name),
    acked = [],
    ends = [];
  if (me === 1) {
    const engine = await start(name);
    await engine.create('shared', 'ledger');
    await engine.close();
  }
  for (let round = 0; round < rounds; round++) {
    await meeting.meet();
    const engine = await start(name, {}, { limits: { retryPauseMs: 20 } });
    let end = 'won';
    for (let i = 0; !meeting.heard.has(`fenced ${round}`); i++) {
      const entry = `${me}.${round}.${i}`;
      try {
        const { outcome } = await engine.post('shared', 'add', entry, { id: entry });
        if (outcome !== 'done') throw new Error(`${entry}: ${outcome}`);
        acked.push(entry);
      } catch (error) {
        if (error.code !== 'E_FENCED') throw error;
        end = 'fenced';
        meeting.say(`fenced ${round}`);
        break;
      }
    }
    ends.push(end);
    if (end === 'fenced') {
      // and it stays so
      const again = await engine.post('shared', 'add', 'never').then(
        () => 'done',
        ({ code }) => code,
      );
      if (again !== 'E_FENCED') throw new Error(`after E_FENCED: ${again}`);
    }
    await engine.close();
  }
  return { acked, ends };
}

export async function ledgerOf(name) {
  const engine = await start(name);
  try {
    await historyOf(engine, 'shared');
    return (await engine.view('shared')).context.entries;
  } finally {
    await engine.close();
  }
}

/** Both tabs run all agents, as two engines that were opened by mistake do. How many calls began here. */
export async function runTogether(name, count, limit, me) {
  const meeting = new Meeting(name);
  let begun = 0;
  const calls = {
    work: async (request, call) => {
      begun++;
      await pause(call.json().number % 3);
      return call.json().number;
    },
  };
  if (me === 1) {
    const engine = await start(name, calls, { holdEffects: true });
    for (let i = 0; i < count; i++) await engine.create(`loop-${i}`, 'looper', limit);
    await engine.close();
  }
  await meeting.meet();
  const engine = await start(name, calls),
    found = [];
  for (let i = 0; i < count; i++) {
    const { context } = await until(engine, `loop-${i}`, ({ status }) => status === 'done' || status === 'failed');
    const answers = (await historyOf(engine, `loop-${i}`)).filter(({ event }) => event === 'work.result').length;
    found.push([context.answered, context.wrong, answers]);
  }
  await meeting.meet();
  await engine.close();
  return { found, begun };
}

// ---- killing ----

const acks = { added: -1, answered: {} };

export const acknowledged = () => acks;

/** Returns at once. Posts entries from `next` on, one after the other, while `count` agents loop. */
export async function workForEver(name, next, count) {
  // What is in doubt may be much: the driver only looks now and then at what was acknowledged.
  const engine = await start(name, {}, { limits: { dedupeCount: 4096 } });
  if (!(await engine.has('book'))) await engine.create('book', 'ledger');
  for (let i = 0; i < count; i++) if (!(await engine.has(`loop-${i}`))) await engine.create(`loop-${i}`, 'looper');
  (async () => {
    for (let i = next; ; i++) {
      await engine.post('book', 'add', `${i}`, { id: `add-${i}` });
      acks.added = i;
    }
  })();
  (async () => {
    for (;;) {
      for (let i = 0; i < count; i++) acks.answered[`loop-${i}`] = (await engine.view(`loop-${i}`)).context.answered;
      await pause(1);
    }
  })();
}

/** The name drawn when the database was made: after the browser has lost one, it is another. */
const idOf = (name) =>
  new Promise((resolve, reject) => {
    const request = indexedDB.open(name);
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const get = request.result.transaction('meta').objectStore('meta').get('id');
      get.onsuccess = () => {
        request.result.close();
        resolve(get.result);
      };
    };
  });

/** What a new engine finds, and that it can go on. */
export async function survey(name, count) {
  const engine = await start(name, {}, { holdEffects: true });
  const found = { id: await idOf(name), entries: [], answered: {}, wrong: 0 };
  try {
    if (!(await engine.has('book'))) return found;
    await historyOf(engine, 'book');
    found.entries = (await engine.view('book')).context.entries;
    for (let i = 0; i < count; i++) {
      if (!(await engine.has(`loop-${i}`))) continue;
      const { context } = await engine.view(`loop-${i}`),
        blocks = await historyOf(engine, `loop-${i}`);
      if (blocks.filter(({ event }) => event === 'work.result').length !== context.answered)
        throw new Error(`loop-${i}: its history has another count`);
      found.answered[`loop-${i}`] = context.answered;
      found.wrong += context.wrong;
    }
    return found;
  } finally {
    await engine.close();
  }
}

// ---- a full disk ----

/** Posts until it is refused. */
export async function fillUp(name, limit) {
  kept = await start(name, {}, { limits: { retryPauseMs: 50 } });
  await kept.create('shared', 'ledger');
  await kept.create('ada', 'traveller', { where: 'Rome', napMs: 1 });
  await until(kept, 'ada', (view) => view.state === 'asking');
  const data = crypto.getRandomValues(new Uint8Array(50000));
  let fills = 0,
    refused;
  while (refused === undefined && fills < limit)
    await kept.post('shared', 'fill', data).then(
      () => {
        fills++;
      },
      (error) => {
        refused = error.code;
      },
    );
  const view = await kept.view('shared');
  return { fills, refused, counted: view.context.fills };
}

/** There is room again. With the same engine; `anew`: with another one. */
export async function goOn(name, anew) {
  if (anew) kept = await start(name);
  await kept.post('shared', 'fill', new Uint8Array(50000));
  await kept.approve('ada');
  const view = await until(kept, 'ada', ({ status }) => status === 'done');
  await historyOf(kept, 'shared');
  const { fills } = (await kept.view('shared')).context;
  await kept.close();
  return { fills, receipt: view.context.receipt };
}
