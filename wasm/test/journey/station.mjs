// What is done to the agent of journey.h at a station: in Node.js, in a tab, in a Worker. native.c does the same.

import { open } from '../../index.js';

const AGENT = 'wanderer';

export const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
export const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));

/** The engine there: all its random bytes are `nonce`, its time is what clock() says. */
export const openStation = ({ wasm, store, clock, nonce }) =>
  open({ wasm, store, clock, random: (bytes) => bytes.fill(nonce) });

/** As native.c tells it. */
export async function told(engine) {
  const view = await engine.view(AGENT);
  const context = new DataView(view.context.buffer, view.context.byteOffset);
  return {
    state: view.state,
    version: view.version,
    link: view.link,
    steps: context.getUint32(0, true),
    rings: context.getUint32(4, true),
    entries: view.transcript.length,
    effects: view.effects.map(({ name, id, due, digest }) => [
      name,
      ...id.split('.').map(Number),
      due === Infinity ? -1 : due,
      digest,
    ]),
  };
}

/** `verbs` as native.c has them; `file` is what "in" brings. The agent, and its file as base64 after "out". */
export async function visit(engine, verbs, file) {
  let out;
  for (const text of verbs) {
    const [verb, word] = text.split(':');
    if (verb === 'in') await engine.import(file);
    else if (verb === 'rings') await rung(engine, Number(word));
    else if (verb === 'walk') await engine.post(AGENT, 'walk', word, { id: word });
    else if (verb === 'approve') {
      const { id, digest } = (await engine.view(AGENT)).effects.find(({ name }) => name === word);
      await engine.approve(AGENT, { who: 'ann', effect: id, digest });
    } else if (verb === 'out') {
      await engine.moveOut(AGENT);
      out = toBase64(await engine.export(AGENT));
    } else throw new Error(`what is ${verb}?`);
  }
  return { agent: await told(engine), out };
}

/** Until so many timers have come. */
async function rung(engine, count) {
  for (let tries = 0; tries < 12_000; tries++) {
    const { rings } = await told(engine);
    if (rings === count) return;
    if (rings > count) break;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${(await told(engine)).rings} timers have come, not ${count}`);
}
