// The agent of the benches over durable stores: notes how often it was told to go.

export const counter = {
  name: 'counter',
  signals: ['go'],
  initial: { count: 0, name: 'a small context', list: [1, 2, 3] },
  states: { on: {}, off: { final: true } },
  transitions: [
    { from: 'on', event: 'go', action: (step) => void step.context.count++ },
    { from: 'on', event: 'cancel', to: 'off' },
  ],
};
