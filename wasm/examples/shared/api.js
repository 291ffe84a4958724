// The HTTP API of one engine: what a request asks for, and how its refusals look.
//
//   POST /agents/NAME                  { question, system?, deadlineMs?, remindMs? }
//   POST /agents/NAME/events/SIGNAL    the signal's data
//   POST /agents/NAME/approve          { who?, effect?, digest?, expectedVersion? }
//   POST /agents/NAME/reject           … and { why? }
//   POST /agents/NAME/edit             … and { text }
//   POST /agents/NAME/cancel           { why? }
//   GET  /agents/NAME                  the status
//   GET  /agents/NAME/history          NDJSON, a line for each block
//
// With an Idempotency-Key header a POST is applied once, however often it comes.

import { wrongWith } from './machine.js';

const BODY_MAX = 256 * 1024;

const STATUS = {
  E_ARGUMENT: 400,
  E_NOT_FOUND: 404,
  E_LIMIT: 413,
  E_UNDECLARED: 422,
  E_REFUSED: 422,
  E_MACHINE: 422,
  E_EXISTS: 409,
  E_CONFLICT: 409,
  E_STALE: 409,
  E_SETTLED: 409,
  E_EXPIRED: 409,
  E_FINISHED: 409,
  E_PARKED: 409,
  E_IRREVERSIBLE: 409,
  E_IN_DOUBT: 409,
  E_FUTURE: 409,
  E_FENCED: 503,
  E_LOCKED: 503,
  E_AGAIN: 503,
  E_CLOSED: 503,
  E_STORAGE: 503,
  E_NO_SPACE: 507,
};

export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

export function refusal(error) {
  const status = error.status ?? STATUS[error.code] ?? 500;
  if (status === 500) console.error(error);
  const body = {
    code: error.code ?? 'INTERNAL',
    message: error.code === undefined ? 'an internal error' : error.message,
  };
  if (error.version !== undefined) body.version = error.version;
  return Response.json(
    { error: body },
    {
      status,
      headers: {
        ...(status === 503 && { 'retry-after': '1' }),
        ...(error.allow && { allow: error.allow }),
        ...(status === 401 && { 'www-authenticate': 'Bearer' }),
      },
    },
  );
}

/** { agent, verb, signal }; throws a Refusal. */
export function route(request) {
  const { pathname } = new URL(request.url);
  const parts = pathname.split('/').slice(1);
  let agent, signal;
  try {
    [, agent, , signal] = parts.map(decodeURIComponent);
  } catch {
    throw new Refusal(400, 'E_ARGUMENT', 'the path is not UTF-8');
  }
  if (parts[0] !== 'agents' || !agent || parts.length > 4) throw new Refusal(404, 'NO_ROUTE', 'no such path');
  const verb = parts[2] ?? '';
  const shape = { '': 2, history: 3, approve: 3, reject: 3, edit: 3, cancel: 3, events: 4 }[verb];
  if (shape !== parts.length || (verb === 'events' && !signal)) throw new Refusal(404, 'NO_ROUTE', 'no such path');
  const allowed = verb === '' ? ['GET', 'POST'] : verb === 'history' ? ['GET'] : ['POST'];
  if (!allowed.includes(request.method)) {
    throw Object.assign(new Refusal(405, 'METHOD', `${request.method} is not allowed here`), {
      allow: allowed.join(', '),
    });
  }
  return { agent, verb: verb === '' ? (request.method === 'GET' ? 'status' : 'create') : verb, signal };
}

/** With API_KEY set, only who knows it is let in. */
export async function authorize(request, env) {
  if (!env.API_KEY) return;
  const hash = async (text) => new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
  const [given, wanted] = await Promise.all([
    hash(request.headers.get('authorization') ?? ''),
    hash(`Bearer ${env.API_KEY}`),
  ]);
  if (given.reduce((differ, byte, index) => differ | (byte ^ wanted[index]), 0) !== 0)
    throw new Refusal(401, 'UNAUTHORIZED', 'a bearer token is wanted');
}

async function bodyOf(request) {
  const tooLarge = () => new Refusal(413, 'E_LIMIT', `the body is over ${BODY_MAX} bytes`);
  if (Number(request.headers.get('content-length') ?? 0) > BODY_MAX) throw tooLarge();
  const bytes = await request.arrayBuffer();
  if (bytes.byteLength > BODY_MAX) throw tooLarge();
  if (bytes.byteLength === 0) return {};
  let body;
  try {
    body = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new Refusal(400, 'BAD_JSON', 'the body is not JSON');
  }
  if (body === null || typeof body !== 'object') throw new Refusal(422, 'BAD_BODY', 'the body is not a JSON object');
  return body;
}

function decision(body, id) {
  const { who, effect, digest, expectedVersion } = body;
  const wants = (name, holds) => {
    if (body[name] !== undefined && !holds) throw new Refusal(422, 'BAD_BODY', `"${name}" is not valid`);
  };
  wants('who', typeof who === 'string');
  wants('effect', /^\d{1,15}\.\d{1,9}$/.test(effect));
  wants('digest', /^[0-9a-f]{16}$/.test(digest));
  wants('expectedVersion', Number.isSafeInteger(expectedVersion) && expectedVersion > 0);
  return { who, effect, digest, expectedVersion, id };
}

const time = (ms) => (Number.isFinite(ms) && ms !== 0 ? new Date(ms).toISOString() : undefined);

/** What is open: what a person decides on, and what the agent waits for. */
const shown = (effect) => ({
  id: effect.id,
  kind: effect.kind,
  phase: effect.phase,
  name: effect.name,
  attempt: effect.attempt,
  digest: effect.digest,
  due: time(effect.due),
  deadline: time(effect.deadline),
  ...(effect.kind === 'approval' && { payload: effect.json() }),
});

async function status(engine, agent) {
  const view = await engine.view(agent);
  const { name, machine, state, status: how, version, changedVersion, error, context, effects } = view;
  return Response.json({
    name,
    machine,
    state,
    status: how,
    version,
    changedVersion,
    created: time(view.created),
    changed: time(view.time),
    due: time(view.due),
    error,
    context,
    effects: effects.map(shown),
  });
}

/** The first block is waited for, so that an agent that is not there is a 404. */
async function history(engine, agent) {
  const blocks = engine.history(agent);
  let next = await blocks.next();
  const text = new TextEncoder();
  return new Response(
    new ReadableStream({
      async pull(controller) {
        if (next.done) return controller.close();
        const { version, type, event, outcome, from, to, who, time: at, size, link } = next.value;
        controller.enqueue(
          text.encode(
            `${JSON.stringify({ version, type, event, outcome, from, to, who, time: time(at), size, link })}\n`,
          ),
        );
        next = await blocks.next();
      },
      cancel: () => blocks.return?.(),
    }),
    { headers: { 'content-type': 'application/x-ndjson' } },
  );
}

/** "Not found" is also what somebody gets who decides too late: told apart, as it is no fault of the path. */
async function decide(engine, agent, work) {
  try {
    return await work();
  } catch (error) {
    if (error.code !== 'E_NOT_FOUND' || !(await engine.has(agent))) throw error;
    throw new Refusal(409, 'NOTHING_TO_DECIDE', 'no such question is open: it was decided, or has not been asked yet');
  }
}

/** Answers what `route` found. Throws; `refusal` makes it a response. */
export async function respond(engine, request, { agent, verb, signal }) {
  if (verb === 'status') return status(engine, agent);
  if (verb === 'history') return history(engine, agent);
  const body = await bodyOf(request);
  const id = request.headers.get('idempotency-key') ?? undefined;
  const wrong = wrongWith(verb === 'events' ? signal : verb, body);
  if (wrong !== undefined) throw new Refusal(422, 'BAD_BODY', wrong);
  const text = (name) => {
    if (body[name] !== undefined && typeof body[name] !== 'string')
      throw new Refusal(422, 'BAD_BODY', `"${name}" is not a text`);
    return body[name] ?? '';
  };
  const done = (receipt, code = 200) => Response.json({ agent, ...receipt }, { status: code });
  switch (verb) {
    case 'create': {
      const receipt = await engine.create(agent, 'answer', body, { id });
      return done(receipt, receipt.outcome === 'duplicate' ? 200 : 201);
    }
    case 'events': {
      const receipt = await engine.post(agent, signal, body, { id });
      return done(receipt, receipt.outcome === 'deferred' ? 202 : 200);
    }
    case 'approve':
      return decide(engine, agent, async () => done(await engine.approve(agent, decision(body, id))));
    case 'reject':
      return decide(engine, agent, async () =>
        done(await engine.reject(agent, { ...decision(body, id), data: text('why') })),
      );
    case 'edit':
      if (text('text') === '') throw new Refusal(422, 'BAD_BODY', '"text" is not a text');
      return decide(engine, agent, async () => done(await engine.edit(agent, body.text, decision(body, id))));
    default:
      return done(await engine.cancel(agent, { id, reason: text('why') }));
  }
}
