// The machine of native.c in JavaScript; and, run as a program, an owner of a store that is killed:
//   counter.mjs DIR AGENTS [LIMIT]   posts round after round, writes "AGENT VERSION" for each receipt; kills itself
//                                    after LIMIT receipts

import { writeSync } from 'node:fs';
import { open } from '../../index.js';
import { files } from '../../stores/node.js';

export const counter = {
  name: 'counter',
  version: 1,
  context: 'bytes',
  initial: 4,
  signals: ['add', 'ask'],
  approvals: ['more'],
  states: {
    counting: {},
    asking: {
      waits: ['more'],
      defer: true,
      enter: (step) => {
        step.ask('more', 'go on?');
      },
    },
    done: { final: true },
  },
  transitions: [
    {
      from: 'counting',
      event: 'add',
      action(step) {
        const context = step.context.slice();
        new DataView(context.buffer).setUint32(0, countOf(context) + 1, true);
        step.context = context;
        step.remember(1, step.event.data);
      },
    },
    { from: 'counting', event: 'ask', to: 'asking' },
    { from: 'asking', event: 'more.approved', to: 'counting' },
    { from: 'asking', event: 'more.rejected', to: 'done' },
    { from: 'asking', event: 'more.expired', to: 'done' },
  ],
};

export const countOf = (context) => new DataView(context.buffer, context.byteOffset).getUint32(0, true);

/** Posts for ever; each receipt is told before the next post of its agent. */
async function serve(path, agents, limit = Infinity) {
  const engine = await open({ machines: [counter], store: files(path, { segmentSize: 20_000 }) });
  let count = 0;
  await Promise.all(
    Array.from({ length: agents }, async (_, number) => {
      const agent = `agent-${number}`;
      if (!(await engine.has(agent))) await engine.create(agent, 'counter');
      for (;;) {
        const { version } = await engine.post(agent, 'add', 'js');
        writeSync(1, `${agent} ${version}\n`);
        if (++count >= limit) process.kill(process.pid, 'SIGKILL');
      }
    }),
  );
}

if (process.argv[1]?.endsWith('counter.mjs'))
  await serve(process.argv[2], Number(process.argv[3]), Number(process.argv[4] ?? Infinity));
