// The conformance kit on IndexedDB: each of its checks is a test. (Its crash is drives/indexeddb.mjs's.)

import { checkNames, runKit } from '../../../kit.js';
import { indexedDB as openStore } from '../../../stores/indexeddb.js';

const run = `kit-${Date.now()}`;
const names = checkNames.filter((name) => !name.startsWith('a crash'));

export const tests = Object.fromEntries(
  names.map((name, number) => [
    name,
    async (t) => {
      const outcome = await runKit({
        open: (data) => openStore(`${run}-${number}-${data}`),
        reopen: (data) => openStore(`${run}-${number}-${data}`),
        only: name,
      });
      for (const { error } of outcome.failures) throw error;
      for (const { reason } of outcome.skips) t.skip(reason);
      t.check(outcome.passed > 0, 'it ran');
    },
  ]),
);
