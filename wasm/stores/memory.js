// Agents that die with the process, and the shortest store that keeps the contract: read this one before writing yours.

import { advance, begin, inspect, listed, refusal, RUNS } from './shared.js';

/** `data`: share it, and a second store sees the same agents: for tests of what a new engine finds. */
export function memory({ data = new Map() } = {}) {
  function append(request, blocks) {
    const held = data.get(request.stream);
    const refused = refusal(request, blocks, held?.head);
    if (refused) return refused;
    const kept = held?.blocks ?? [];
    for (const { bytes } of blocks) kept.push(bytes.slice());
    data.set(request.stream, { head: advance(request, blocks, held?.head), blocks: kept });
    return { result: 'ok' };
  }

  return {
    durability: 'none',

    commit(appends) {
      const inspected = appends.map((request) => inspect(request));
      return appends.map((request, i) => append(request, inspected[i]));
    },

    read(request) {
      const held = data.get(request.stream);
      let { result, from, before } = begin(request, held?.head);
      if (result) return result;
      const { head, blocks } = held;
      const snapshot = (version) => (blocks[version - head.first][57] & 1) !== 0;
      while (before && from >= head.first && !snapshot(from)) from--;
      if (from < head.first) return { version: head.version, blocks: [], trimmed: true };
      const found = [];
      for (let size = 0, i = from - head.first; i < blocks.length; i++) {
        size += blocks[i].length;
        if (size > request.maxBytes && found.length > 0) break;
        found.push(blocks[i].slice());
      }
      return { version: head.version, blocks: found };
    },

    list: (request) =>
      listed(
        request,
        Array.from(data.values(), (held) => held.head.summary),
      ),

    trim() {
      let count = 0;
      for (const { head, blocks } of data.values()) {
        if (head.base <= head.first || head.summary.flags & RUNS) continue;
        count += blocks.splice(0, head.base - head.first).length;
        head.first = head.base;
      }
      return count;
    },
  };
}
