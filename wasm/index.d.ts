// persistent-agent: agents that survive their process, in any JavaScript runtime.
// One engine owns many agents over one store. Handlers are synchronous and pure; calls are async functions.

/** Why something was refused or failed: the names of persistent_agent.h's results, e.g. "E_CONFLICT". */
export class PagentError extends Error {
  readonly name: 'PagentError';
  /**
   * Nothing was done: "E_ARGUMENT", "E_LIMIT", "E_UNDECLARED", "E_REFUSED" what was asked is wrong, too much, unknown
   * to the machine, or not allowed now; "E_NOT_FOUND", "E_EXISTS", "E_CONFLICT" (look again first), "E_FUTURE" the
   * agent, or its version, is another; "E_STALE", "E_SETTLED", "E_EXPIRED", "E_IRREVERSIBLE" it is too late for that;
   * "E_FINISHED", "E_PARKED" the agent takes no more, or not before retry(); "E_TRIMMED" that old version is gone.
   * "E_MACHINE", "E_MACHINE_CHANGED" a machine could get stuck, or the agent's is not registered.
   * "E_TIMEOUT": a call's.
   *
   * Ask again later: "E_AGAIN", "E_MEMORY", "E_NO_SPACE", "E_LOCKED" (another process has the store).
   *
   * "E_FENCED": another engine took the agent over. This one refuses it from then on, also after the other was closed:
   * close it and open again. "E_READ_ONLY".
   *
   * Nobody knows whether it was done; asking again under the same id is safe: "E_IN_DOUBT", "E_CLOSED" (of what was
   * under way at close), "E_STORAGE" (when idle() rejects with it the engine is over: open again; `cause` is what the
   * store threw). The store's bytes are wrong: "E_CORRUPT", "E_SUSPECT", "E_FOREIGN", "E_LOST_TAIL"; "E_NEWER": a newer
   * program's.
   */
  readonly code: string;
  /** E_CONFLICT: the agent's current version. */
  readonly version?: number;
}

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
/**
 * Data handed in: bytes as they are, a string as UTF-8, anything else as JSON. What JSON has no text for (a function, a
 * cycle, a BigInt), or makes {} of (a Map, a Response, a promise), is E_ARGUMENT.
 * Names, of agents, machines, signals and the like, and ids: strings of 1 to 127 bytes of UTF-8, without zeros and half
 * characters. All that is handed in is checked, also for keys that are not known: E_ARGUMENT says where, E_MACHINE in
 * which machine; in a handler it ends the step.
 */
export type Data = Uint8Array | string | Json | undefined;

// ---- machines -------------------------------------------------------------------------------------------------------

export interface CallSpec {
  /** What a crash does to a call under way: repeat it under the same key (default), deliver CALL.in_doubt, or wait. */
  crash?: 'repeat' | 'once' | 'wait';
  irreversible?: boolean;
  model?: boolean;
  attempts?: number;
  backoffMs?: number;
  backoffMaxMs?: number;
  attemptTimeoutMs?: number;
  totalTimeoutMs?: number;
}

export type Handler<C> = (step: Step<C>) => void;
/** Only looks: what it does to the context is forgotten, and beginning something or assigning the context fails the step. */
export type Guard<C> = (step: Step<C>) => boolean;

export interface State<C> {
  parent?: string;
  /** Calls and approvals that may be outstanding here: each of their outcomes needs a row here or in a parent. */
  waits?: string[];
  enter?: Handler<C>;
  exit?: Handler<C>;
  onError?: string;
  final?: boolean;
  /** With final: the agent ends as failed. */
  failure?: boolean;
  /** The child that entering the parent enters. */
  initial?: boolean;
  /** Events without a row wait in the mailbox. */
  defer?: boolean;
}

export interface Transition<C> {
  from: string;
  event: string;
  guard?: Guard<C>;
  action?: Handler<C>;
  /** Absent: internal, nothing is left or entered. */
  to?: string;
}

export interface Machine<C = any> {
  name: string;
  version?: number;
  /** "json" (default): step.context is a live object, its UTF-8 JSON is what is journaled. "bytes": a Uint8Array. */
  context?: 'json' | 'bytes';
  /** Bytes of a new agent's context, all zero ("bytes"; up to contextSizeMax), or its first value ("json"; default {}). */
  initial?: number | C;
  signals?: string[];
  timers?: string[];
  approvals?: string[];
  calls?: Record<string, CallSpec>;
  /** In order; the first is where an agent starts. No name is a number: JavaScript would put it before the others. */
  states: Record<string, State<C>>;
  transitions: Transition<C>[];
}

export type EventKind =
  | 'start'
  | 'signal'
  | 'result'
  | 'failure'
  | 'in_doubt'
  | 'approved'
  | 'rejected'
  | 'edited'
  | 'expired'
  | 'timer'
  | 'cancel'
  | 'restored'
  | 'always'
  | 'claim';

export interface Event {
  kind: EventKind;
  /** of the signal, call, approval or timer; "" for the others */
  name: string;
  /** failure: the answer's code, or that of E_TIMEOUT */
  code: number;
  attempt: number;
  effect: EffectId;
  data: Uint8Array;
  text(): string;
  json(): any;
  who: string;
}

/** "12.0": the block that issued it, and its place in that block. */
export type EffectId = string;

export interface Step<C> {
  readonly event: Event;
  readonly agent: string;
  /** of the block that this step will become */
  readonly version: number;
  /** the clock, read once per step: milliseconds since 1970 */
  readonly now: number;
  /**
   * Read it, change it, or assign it. It is what its JSON says: of a date the next step finds the text, of a Map {}. Do
   * not keep it, nor anything in it, beyond the step.
   */
  context: C;
  call(name: string, request?: Data): EffectId;
  ask(approval: string, payload?: Data, options?: { deadline?: number }): EffectId;
  /** `at`: milliseconds since 1970 */
  timer(name: string, at: number): void;
  clearTimer(name: string): void;
  send(agent: string, signal: string, data?: Data): void;
  cancel(effect: EffectId): void;
  remember(kind: number, data: Data): void;
  readonly transcriptCount: number;
  transcript(index: number): Entry;
  /** Ends the step as an error: its changes are dropped, the agent goes to on_error or is parked. Never returns. */
  fail(text: string, code?: number): never;
}

export interface Entry {
  kind: number;
  data: Uint8Array;
  text(): string;
  json(): any;
}

// ---- calls ----------------------------------------------------------------------------------------------------------

export interface CallContext {
  agent: string;
  name: string;
  /** The same for every attempt and restart of this call, never used for another one. */
  key: string;
  attempt: number;
  /** An earlier attempt was under way when its engine died, and may have happened. */
  repeated: boolean;
  /** of this attempt; Infinity: none */
  deadline: number;
  /** Aborted when the engine does not want the answer any more. */
  signal: AbortSignal;
  text(): string;
  json(): any;
}

/**
 * Resolves to the answer. Throws: tried again by the call's policy; a CallFailure says more. An answer that cannot be
 * kept, above limits.payloadSizeMax or of a buffer that was given away, is a final failure with E_LIMIT's code, -1003.
 */
export type Call = (request: Uint8Array, context: CallContext) => Data | Promise<Data>;

export class CallFailure extends Error {
  constructor(
    message: string,
    options?: { final?: boolean; code?: number; retryAfterMs?: number; notSent?: boolean; cause?: unknown },
  );
}

// ---- the engine -----------------------------------------------------------------------------------------------------

/** Bytes, a URL (fetched, or read from disk), a Response, or a compiled module. */
export type WasmSource = BufferSource | WebAssembly.Module | URL | string | Response | Promise<Response>;

export interface Options {
  /** Absent: agents die with the process. */
  store?: Store | { readonly directory: object; readonly readOnly?: boolean };
  machines?: Machine<any>[];
  /** By name, as properties of its own; of all machines. */
  calls?: Record<string, Call>;
  /** The engine: by default the one beside this module. One with your own machines in C is built by `build.sh wasm`. */
  wasm?: WasmSource;
  limits?: Limits;
  readOnly?: boolean;
  /** Commit steps but start no call: the next engine starts them. */
  holdEffects?: boolean;
  /** Ends it like close(). Aborted before: open() throws its reason. */
  signal?: AbortSignal;
  /**
   * The longest timer that the engine sets; what is due later is left to whoever calls wake(), like a Durable Object's
   * alarm: an object with a timer of its own cannot hibernate. Absent: timers for everything.
   */
  timerMaxMs?: number;
  /** For tests: milliseconds since 1970. One that throws ends the engine: E_ARGUMENT, with its error as the cause. */
  clock?: () => number;
  random?: (bytes: Uint8Array) => void;
  /** What it throws is an uncaught exception of the program; the engine goes on. */
  trace?: (record: Trace) => void;
}

/** Whole numbers; 0 or absent is the default. What would exceed one is E_LIMIT. */
export interface Limits {
  /** bytes of one agent's context: 16 MiB */
  contextSizeMax?: number;
  /** bytes of one event, request, answer, entry: 16 MiB */
  payloadSizeMax?: number;
  /** bytes of one block: 64 MiB */
  blockSizeMax?: number;
  /** outstanding per agent: 1,024 */
  effectsMax?: number;
  /** unhandled events per agent: 1,024 */
  mailboxMax?: number;
  /** senders' ids that are remembered per agent: 16; up to 4,096. See RequestOptions.id */
  dedupeCount?: number;
  /** agents in memory before idle ones are dropped: 4,096 */
  loadedMax?: number;
  /** asked and not yet settled: 65,536 */
  requestsMax?: number;
  /** "always" transitions in one step: 64 */
  alwaysMax?: number;
  /** per change of a context: 16, which is also the most */
  splicesMax?: number;
  /** a snapshot is written when the changes since the last exceed this many times its size: 4 … */
  snapshotFactor?: number;
  /** … and this many bytes: 64 KiB */
  snapshotFloor?: number;
  /** how often a directory's inbox is looked into: 200 */
  inboxIntervalMs?: number;
  /** idle for so long, a directory's log is sealed: 1,000 */
  idleSealMs?: number;
  /** after E_NO_SPACE, E_AGAIN, E_MEMORY: 500 */
  retryPauseMs?: number;
  /** Snapshots hold the whole transcript, so that trim() can remove what is older: false */
  fullSnapshots?: boolean;
}

/** Compiles the engine once, for many `open`. */
export function load(source?: WasmSource): Promise<WebAssembly.Module>;
export function open(options?: Options): Promise<Engine>;

export interface RequestOptions {
  /**
   * Sender's id: the same id is applied once, while it is among the last limits.dedupeCount (16) that the agent was sent.
   * One who asks again after so many others asks twice: raise the limit to what can be under way, or what an outage can
   * hold back, for one agent.
   */
  id?: string;
  /** 1 or more. Refused with E_CONFLICT when the agent has changed since. */
  expectedVersion?: number;
}

/** What is durable when a request's promise resolves. */
export interface Receipt {
  /** of the block that holds it */
  version: number;
  /** "duplicate": applied earlier under this id. "deferred": waits in the mailbox. */
  outcome: 'done' | 'duplicate' | 'deferred';
}

export interface Engine extends AsyncDisposable {
  create(agent: string, machine: string, data?: Data, options?: RequestOptions): Promise<Receipt>;
  post(agent: string, signal: string, data?: Data, options?: RequestOptions): Promise<Receipt>;
  approve(agent: string, options?: DecideOptions): Promise<Receipt>;
  reject(agent: string, options?: DecideOptions): Promise<Receipt>;
  edit(agent: string, data: Data, options?: DecideOptions): Promise<Receipt>;
  cancel(agent: string, options?: RequestOptions & { reason?: Data }): Promise<Receipt>;
  rollback(agent: string, version: number, options?: RequestOptions & { force?: boolean }): Promise<Receipt>;
  /** A new agent that goes on from a version; 0: the newest. */
  fork(agent: string, version: number, newAgent: string, options?: RequestOptions): Promise<Receipt>;
  retry(agent: string, options?: RequestOptions): Promise<Receipt>;
  /** The agent ends here as moved: then export it. */
  moveOut(agent: string, options?: RequestOptions): Promise<Receipt>;

  /** The agent at a version (0 or absent: newest). E_NOT_FOUND, E_CORRUPT, E_TRIMMED. */
  view(agent: string | { stream: string }, version?: number): Promise<View>;
  has(agent: string | { stream: string }): Promise<boolean>;
  /** Every block, oldest first: from a version on; 0 or absent: from the oldest that is kept. */
  history(
    agent: string | { stream: string },
    options?: { from?: number; signal?: AbortSignal },
  ): AsyncIterableIterator<Block>;
  /** All agents of the store, in no order. */
  agents(options?: { signal?: AbortSignal }): AsyncIterableIterator<Summary>;
  /** What happens from now on. */
  traces(options?: { signal?: AbortSignal }): AsyncIterableIterator<Trace>;

  /**
   * One agent as portable bytes; `pagentctl import` reads them, and the other way round. Its code, and that of import, is
   * loaded when it is first called: see portable.d.ts.
   */
  export(agent: string | { stream: string }): Promise<Uint8Array>;
  /**
   * A moved agent goes on here under its name; one that was moved out of this store comes home with what is new. `as`: a
   * fork of it under a new name. Resolves to the name. With an `id` it may be sent again: an agent that came by it (or is
   * that fork) is no E_EXISTS. `again`: all of it is here, and it is still moved: as after an import that was cut short, or
   * where it was moved out; it goes on here, which is right only if it does so nowhere else.
   */
  import(bytes: Uint8Array, options?: { as?: string; id?: string; again?: boolean }): Promise<string>;
  /**
   * Removes what no agent's newest snapshot needs. Needs limits.fullSnapshots: otherwise E_ARGUMENT. Resolves to what was removed: blocks, in a
   * directory segments. Agents whose transcript stands in older blocks (Summary.flags 16) keep them all.
   */
  trim(): Promise<number>;

  /** Resolves when there is nothing to do before the next deadline or answer; rejects when the store has failed. */
  idle(): Promise<void>;
  /** When it wants to run next: milliseconds since 1970; Infinity: only after something from outside. */
  readonly nextDeadline: number;
  /** Runs what is due now: for hosts that are woken by an alarm (see timerMaxMs). Otherwise timers do it. */
  wake(): Promise<void>;
  /** Mermaid or DOT of a machine, with a state highlighted. */
  diagram(machine: string, options?: { format?: 'mermaid' | 'dot'; state?: string }): string;
  /** The hash over names and structure: twins in C and JavaScript have the same. 16 hex digits. */
  machineHash(machine: string): string;
  /**
   * Ends it; from anywhere, also inside a handler or a store's function. Nothing durable is lost; calls under way are
   * aborted and are in doubt for the next engine. Nothing new begins. What the store is writing just then is waited
   * for, and told to its senders, for `withinMs` milliseconds at most (5,000): a commit that ends later may still become
   * durable. All other promises reject with E_CLOSED. Closing again is waiting for the same end.
   */
  close(options?: { withinMs?: number }): Promise<void>;
  readonly closed: boolean;
}

export interface DecideOptions extends RequestOptions {
  who?: string;
  /** Which approval; absent: the only open one. */
  effect?: EffectId;
  /** Of the payload that the person saw (Effect.digest): refused when it is another. */
  digest?: string;
  /** reject: why */
  data?: Data;
}

export type Status = 'running' | 'waiting' | 'parked' | 'done' | 'failed' | 'cancelled' | 'moved';

export interface Summary {
  /** 16 hex digits: the hash of the agent's name */
  stream: string;
  version: number;
  /** milliseconds since 1970; Infinity: never */
  due: number;
  time: number;
  /** the state's row in its machine */
  state: number;
  status: Status;
  /** bits: 1 calls, 2 approvals, 4 timers, 8 work, 16 runs, 128 damaged */
  flags: number;
}

export interface View {
  name: string;
  stream: string;
  version: number;
  /** what expectedVersion is compared with */
  changedVersion: number;
  /** 16 hex digits: with version, an anchor to keep elsewhere */
  link: string;
  machine: string;
  machineVersion: number;
  state: string;
  status: Status;
  due: number;
  time: number;
  created: number;
  parent?: { agent: string; version: number };
  error?: { code: number; text: string };
  /** JSON contexts parsed; others as bytes */
  context: any;
  contextBytes: Uint8Array;
  transcript: Entry[];
  effects: Effect[];
  mailboxCount: number;
}

export interface Effect {
  id: EffectId;
  kind: 'call' | 'approval' | 'timer' | 'signal';
  phase: 'open' | 'paused' | 'held';
  name: string;
  target: string;
  attempt: number;
  due: number;
  deadline: number;
  payload: Uint8Array;
  digest: string;
  key: string;
  text(): string;
  json(): any;
}

export interface Block {
  version: number;
  epoch: number;
  link: string;
  time: number;
  /** "create", "commit", "claim", "snapshot", "rollback", "moved" … */
  type: string;
  event: string;
  outcome: string;
  from: string;
  to: string;
  size: number;
  effectsIssued: number;
  effectsSettled: number;
  entries: number;
  contextChanged: number;
  data: Uint8Array;
  who: string;
  /** The block itself, header first: canonical bytes with the container's fields cleared. */
  raw: Uint8Array;
}

export interface Trace {
  kind:
    | 'commit'
    | 'refused'
    | 'call'
    | 'answer'
    | 'retry'
    | 'doubt'
    | 'load'
    | 'unload'
    | 'claim'
    | 'error'
    | 'parked'
    | 'snapshot';
  code: number;
  stream: string;
  version: number;
  time: number;
  agent: string;
  name: string;
  from: string;
  to: string;
  blockSize: number;
}

// ---- stores ---------------------------------------------------------------------------------------------------------

/**
 * Where blocks live. The rules that every store keeps (test yours with persistent-agent/kit):
 * - commit() is one atomic unit as far as the backend can, but each append in it succeeds or is refused alone.
 * - "ok" means durable, and that every later read, anywhere, returns it.
 * - "conflict", "again", "no-space" and "fenced" mean: definitely not applied. Anything else throws, which means that
 *   nobody knows: the engine reads to find out, and sends the identical block again if it is not there.
 * - An append is refused with "conflict" unless the head's version is `expected`, with "fenced" if the head's epoch is
 *   above `epoch`. The head is never deleted, not even by trim: a stalled writer must not make an old version again.
 * - Blocks are opaque, but for their headers: see `header`.
 * An answer of another shape is the store's error like one thrown: E_STORAGE, of a commit E_IN_DOUBT.
 */
export interface Store {
  readonly durability: 'none' | 'process' | 'power';
  /** Refuses commit. */
  readonly readOnly?: boolean;
  /** bytes of one block; absent: no limit of its own */
  readonly blockSizeMax?: number;
  commit(appends: Append[]): Promise<AppendResult[]> | AppendResult[];
  read(request: Read): Promise<ReadResult> | ReadResult;
  list(request: List): Promise<ListResult> | ListResult;
  /** Removes blocks below every head's newest snapshot ("base"). Resolves to how many blocks went. */
  trim?(): Promise<number> | number;
  /** For whoever made it: engines, of which there may be several, do not call it. */
  close?(): Promise<void> | void;
}

export interface Append {
  /** the agent: 16 lower-case hex digits */
  stream: string;
  /** the head's version; 0: there must be none */
  expected: number;
  /** the head's must not be above it */
  epoch: number;
  /** Version of the first block: expected + 1, except at import of a trimmed journal (expected 0). */
  first: number;
  /** One or more whole blocks of consecutive versions. The store may keep the arrays. */
  blocks: Uint8Array[];
  /** of the last of them; to be stored with the head in the same transaction */
  summary: Summary;
}

export type AppendResult =
  | { result: 'ok' }
  /** `version`: the head's */
  | { result: 'conflict'; version: number }
  | { result: 'again' | 'no-space' | 'fenced' };

export interface Read {
  stream: string;
  /**
   * "newest": from the newest block that carries a snapshot, to the head. "base": from the newest such block at or
   * before `version` (version 0: from the oldest kept one), to the head. "from": from `version` exactly.
   */
  mode: 'newest' | 'base' | 'from';
  version: number;
  /** Stop before exceeding this many bytes, but return one block at least: the engine reads on by "from". */
  maxBytes: number;
  /** Those after this version are not wanted, but a store may return some all the same. Absent: to the head. */
  last?: number;
}

export interface ReadResult {
  /** the head's version; 0: there is no such stream */
  version: number;
  /** contiguous, ascending; empty when there is nothing from there on */
  blocks: Uint8Array[];
  /** the version asked for was trimmed away */
  trimmed?: boolean;
}

export interface List {
  /** absent: from the start */
  cursor?: string;
  /** agents due at or before this time … */
  dueBefore?: number;
  /** … or with one of these summary flags; neither: all agents */
  flags?: number;
  limit: number;
}

export interface ListResult {
  items: Summary[];
  /** absent: that was all */
  cursor?: string;
  /** the earliest due time after dueBefore, of all agents; Infinity: none */
  nextDue: number;
}

/** The fields of a block's header that stores need. */
export function header(block: Uint8Array): {
  stream: string;
  version: number;
  epoch: number;
  size: number;
  snapshot: boolean;
  based: number;
};
/** The link of the block before it: 16 hex digits. */
export function previousLink(block: Uint8Array): string;
