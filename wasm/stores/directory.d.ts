/** What stores over a directory have in common: persistent-agent/node and persistent-agent/opfs. */
export interface DirectoryOptions {
  /** One log for each agent. Default: one shared log, with group commit over all agents. For a new store. */
  logPerAgent?: boolean;
  /** Takes no lock, repairs and writes nothing: safe beside an owner. */
  readOnly?: boolean;
  /** A SUSPECT tail is cut off like a torn one: you have decided. */
  truncateSuspect?: boolean;
  /** A new segment after so many bytes. Absent: as fast opening wants it. */
  segmentSize?: number;
  /** Told of everything that is not clean, before anything is changed. What it throws is the program's to catch. */
  onDiscard?: (report: DamageReport) => void;
}

export interface DamageReport {
  /** "dirty": stray bits behind the end, scrubbed. "torn": a block that was being written, cut off. Others stay. */
  damage: 'dirty' | 'torn' | 'middle' | 'chain' | 'foreign' | 'suspect' | 'newer' | 'lost_tail' | 'unknown';
  /** the error it leads to, or "OK" */
  code: string;
  file: string;
  /** bytes from the start of that file */
  offset: number;
  size: number;
  /** the agent, where known; all zeros: the log */
  stream: string;
  /** of the block expected there, where known */
  version: number;
  /** torn: what is cut off */
  bytes: Uint8Array;
  /** suspect: flipping this bit of the block makes it valid; -1: no single bit does */
  repairBit: number;
  text: string;
}

/** For `open`, one engine at a time. It is made in JavaScript; its blocks are written by the engine itself. */
export interface DirectoryStore {
  readonly durability: 'power';
  readonly readOnly: boolean;
  /** `error`: what the system said last when storing failed or space ran out. */
  readonly directory: { readonly error?: Error };
}
