// What a program in TypeScript looks like; types.mjs compiles it.

import { CallFailure, PagentError, open, type Machine } from '../index.js';
import { memory } from '../stores/memory.js';

interface Plan {
  text?: string;
  turns: number;
}

const planner: Machine<Plan> = {
  name: 'planner',
  initial: { turns: 0 },
  approvals: ['plan'],
  calls: { model: { model: true, crash: 'repeat', attempts: 3 } },
  states: {
    thinking: {
      waits: ['model'],
      enter(step) {
        step.context.turns++;
        step.call('model', { agent: step.agent });
      },
    },
    asking: {
      waits: ['plan'],
      enter(step) {
        step.context.text = step.event.text();
        step.ask('plan', step.event.data, { deadline: step.now + 60_000 });
      },
    },
    done: { final: true },
  },
  transitions: [
    { from: 'thinking', event: 'model.result', to: 'asking' },
    { from: 'thinking', event: 'model.failure', to: 'done' },
    { from: 'asking', event: 'plan.approved', to: 'done', guard: (step) => step.event.who !== '' },
    { from: 'asking', event: 'plan.rejected', to: 'done' },
    { from: 'asking', event: 'plan.expired', to: 'done' },
  ],
};

export async function main(): Promise<string> {
  await using engine = await open({
    machines: [planner],
    store: memory(),
    calls: {
      async model(request, { key, signal, attempt }) {
        if (attempt > 2) throw new CallFailure('busy', { retryAfterMs: 1000 });
        const response = await fetch('https://model.example/', {
          method: 'POST',
          body: new Uint8Array(request),
          headers: { 'Idempotency-Key': key },
          signal,
        });
        return response.text();
      },
    },
  });
  try {
    const { version } = await engine.create('first', 'planner');
    for await (const block of engine.history('first')) if (block.version === version) return block.to;
  } catch (error) {
    if (error instanceof PagentError && error.code === 'E_EXISTS') return (await engine.view('first')).state;
    throw error;
  }
  return '';
}
