// The station in a browser's tab.

import { indexedDB as openStore, persist } from '../../stores/indexeddb.js';
import { fromBase64, openStation, visit } from './station.mjs';

let kept; // the engine of this page: it ends with it

export async function stay({ wasm, time, nonce, verbs, file }) {
  await persist();
  const store = await openStore('journey');
  kept = await openStation({ wasm: fromBase64(wasm), store, clock: () => time, nonce });
  return visit(kept, verbs, file && fromBase64(file));
}
