// What every host of the API must do.

import { until } from '../within.mjs';

export function api(url) {
  const ask = async (path, options) => {
    const send = () => fetch(new URL(path, url), { ...options, signal: AbortSignal.timeout(120_000) });
    // A host that has refused a body unread closes the connection, under the next request perhaps, which it never saw.
    const response = await send().catch((error) => {
      if (error.name === 'TimeoutError') throw error;
      return send();
    });
    const text = await response.text();
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      body = text;
    }
    return { status: response.status, type: response.headers.get('content-type'), headers: response.headers, body };
  };
  const self = {
    ask: (method, path) => ask(path, { method }),
    get: (path, headers = {}) => ask(path, { headers }),
    post: (path, body, headers = {}) =>
      ask(path, { method: 'POST', headers, body: typeof body === 'string' ? body : JSON.stringify(body) }),
    wait: (body, what) => until(body, what, { pauseMs: 25 }),
    until(name, state) {
      let last;
      return self.wait(
        async () => {
          last = await self.get(`/agents/${encodeURIComponent(name)}`);
          return last.body.state === state && last.body;
        },
        () => `${name} ${state}: ${JSON.stringify(last)}`,
      );
    },
  };
  return self;
}

const approvalOf = (view) => view.effects.find(({ kind }) => kind === 'approval');

export async function life(total, at) {
  await total.check('a whole life over HTTP', async () => {
    const { agents, model, assert } = at();
    model.asked.length = model.delivered.length = 0;
    model.answer = ({ body }) => ({ text: body.messages.length === 2 ? 'Sleep well.' : 'Sleep.' });
    const made = await agents.post(
      '/agents/ada%20%C3%BC',
      { question: 'What shall I do?' },
      { 'idempotency-key': 'one' },
    );
    assert(made.status === 201 && made.body.version === 1 && made.body.outcome === 'done', made);
    const twice = await agents.post(
      '/agents/ada%20%C3%BC',
      { question: 'What shall I do?' },
      { 'idempotency-key': 'one' },
    );
    assert(twice.status === 200 && twice.body.outcome === 'duplicate', twice);
    const first = await agents.until('ada ü', 'asking');
    assert(
      first.status === 'waiting' && first.name === 'ada ü' && approvalOf(first).payload.answer === 'Sleep well.',
      first,
    );
    assert(Date.parse(approvalOf(first).deadline) > Date.now() + 71 * 3600e3, approvalOf(first));
    const comment = await agents.post('/agents/ada%20%C3%BC/events/comment', { text: 'Shorter.' });
    assert(comment.status === 200, comment);
    const second = await agents.wait(async () => {
      const { body } = await agents.get('/agents/ada%20%C3%BC');
      return body.state === 'asking' && body.context.draft === 'Sleep.' && body;
    }, 'the second draft');
    assert(second.effects.filter(({ kind }) => kind === 'approval').length === 1, second.effects);
    const old = await agents.post('/agents/ada%20%C3%BC/approve', { effect: approvalOf(first).id });
    assert(old.status === 409, old);
    const { digest, id } = approvalOf(second);
    const wrong = await agents.post('/agents/ada%20%C3%BC/approve', { effect: id, digest: approvalOf(first).digest });
    assert(wrong.status === 409 && wrong.body.error.code === 'E_CONFLICT', wrong);
    const approved = await agents.post('/agents/ada%20%C3%BC/approve', { who: 'Grace', effect: id, digest });
    assert(approved.status === 200, approved);
    const { context, status, effects } = await agents.until('ada ü', 'sent');
    assert(
      status === 'done' && context.who === 'Grace' && context.receipt === 'delivered: HTTP 204' && effects.length === 0,
      context,
    );
    assert(model.asked.length === 2 && model.delivered.length === 1, [model.asked.length, model.delivered.length]);
    assert(
      model.asked[0].authorization === 'Bearer the model key' && model.asked[0].body.model === 'small',
      model.asked[0],
    );
    assert(model.asked[1].body.messages.at(-1).content.includes('Shorter.'), model.asked[1].body);
    assert(
      model.delivered[0].body.answer === 'Sleep.' && model.delivered[0].body.agent === 'ada ü',
      model.delivered[0],
    );
    const keys = [...model.asked, ...model.delivered].map(({ key }) => key);
    assert(keys.every(Boolean) && new Set(keys).size === 3, keys);
    const history = await agents.get('/agents/ada%20%C3%BC/history');
    const lines = history.body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert(history.status === 200 && history.type === 'application/x-ndjson', history.type);
    assert(lines.every(({ version }, index) => version === index + 1) && lines.at(-1).to === 'sent', lines);
    assert(
      lines.some(({ event, who }) => event === 'send.approved' && who === 'Grace') ||
        lines.some(({ who }) => who === 'Grace'),
      lines,
    );
    model.answer = () => ({ text: 'Sleep well.' });
    return `${lines.length} blocks`;
  });

  await total.check('edited, rejected, cancelled', async () => {
    const { agents, model, assert } = at();
    model.delivered.length = 0;
    for (const name of ['edited', 'rejected', 'called-off'])
      await agents.post(`/agents/${name}`, { question: 'What?' });
    for (const name of ['edited', 'rejected', 'called-off']) await agents.until(name, 'asking');
    assert((await agents.post('/agents/edited/edit', { text: 'Run.', who: 'Ada' })).status === 200, 'edit');
    assert((await agents.post('/agents/rejected/reject', { why: 'no', who: 'Ada' })).status === 200, 'reject');
    assert((await agents.post('/agents/called-off/cancel', {})).status === 200, 'cancel');
    assert((await agents.until('edited', 'sent')).context.draft === 'Run.', 'edited');
    const { context } = await agents.until('rejected', 'dropped');
    assert(context.why === 'no' && context.who === 'Ada', context);
    assert((await agents.until('called-off', 'cancelled')).status !== 'running', 'cancelled');
    assert(model.delivered.length === 1 && model.delivered[0].body.answer === 'Run.', model.delivered);
  });

  await total.check('20 approvals at once: one wins', async () => {
    const { agents, model, assert } = at();
    model.delivered.length = 0;
    await agents.post('/agents/race', { question: 'Who?' });
    const { changedVersion } = await agents.until('race', 'asking');
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        agents.post('/agents/race/approve', { who: `w${n}`, expectedVersion: changedVersion }),
      ),
    );
    const won = results.findIndex(({ status }) => status === 200);
    assert(
      results.filter(({ status }) => status === 200).length === 1,
      results.map(({ status }) => status),
    );
    const lost = results.filter(({ status }) => status !== 200);
    assert(
      lost.every(({ status, body }) => status === 409 && /^E_[A-Z]+$/.test(body.error.code)),
      lost,
    );
    const { context } = await agents.until('race', 'sent');
    assert(context.who === `w${won}` && model.delivered.length === 1, [context, model.delivered.length]);
    return [...new Set(lost.map(({ body }) => body.error.code))].join(', ');
  });

  await total.check('20 approvals at once without a version: one wins', async () => {
    const { agents, assert } = at();
    await agents.post('/agents/race2', { question: 'Who?' });
    await agents.until('race2', 'asking');
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, n) => agents.post('/agents/race2/approve', { who: `w${n}` })),
    );
    assert(
      results.filter(({ status }) => status === 200).length === 1,
      results.map(({ status }) => status),
    );
    assert(
      results.filter(({ status }) => status === 409).length === 19,
      results.map(({ status }) => status),
    );
    return [
      ...new Set(
        results.filter(({ status }) => status !== 200).map(({ status, body }) => `${status} ${body.error.code}`),
      ),
    ].join(', ');
  });
}

export async function refusals(total, at) {
  await total.check('refusals have status and code', async () => {
    const { agents, model, assert } = at();
    await agents.post('/agents/refused', { question: 'What?' });
    const { changedVersion } = await agents.until('refused', 'asking');
    const wanted = [
      ['GET', '/agents/nobody', undefined, 404, 'E_NOT_FOUND'],
      ['GET', '/agents/nobody/history', undefined, 404, 'E_NOT_FOUND'],
      ['POST', '/agents/nobody/approve', {}, 404, 'E_NOT_FOUND'],
      ['POST', '/agents/nobody/events/comment', { text: 'x' }, 404, 'E_NOT_FOUND'],
      ['POST', '/agents/refused', { question: 'What?' }, 409, 'E_EXISTS'],
      ['POST', '/agents/refused/approve', { expectedVersion: changedVersion - 1 }, 409, 'E_CONFLICT'],
      ['POST', '/agents/refused/approve', { digest: '00000000000000aa' }, 409, 'E_CONFLICT'],
      ['POST', '/agents/refused/approve', { effect: 'first' }, 422, 'BAD_BODY'],
      ['POST', '/agents/refused/approve', { effect: 5 }, 422, 'BAD_BODY'],
      ['POST', '/agents/refused/approve', { expectedVersion: '2' }, 422, 'BAD_BODY'],
      ['POST', '/agents/refused/approve', { effect: '99.0' }, 409, 'E_FUTURE'],
      ['POST', '/agents/refused/edit', {}, 422, 'BAD_BODY'],
      ['POST', '/agents/refused/events/nothing', {}, 422, 'E_UNDECLARED'],
      ['POST', '/agents/refused/events/comment', {}, 422, 'BAD_BODY'],
      ['POST', '/agents/refused/events/comment', '{', 400, 'BAD_JSON'],
      ['POST', '/agents/refused/events/comment', '[]', 422, 'BAD_BODY'],
      ['POST', '/agents/new', {}, 422, 'BAD_BODY'],
      ['POST', '/agents/new', { question: 'x', deadlineMs: 'soon' }, 422, 'BAD_BODY'],
      ['POST', `/agents/${'x'.repeat(500)}`, { question: 'x' }, 400, 'E_ARGUMENT'],
      ['POST', '/agents/refused/events/comment', JSON.stringify({ text: 'x'.repeat(300000) }), 413, 'E_LIMIT'],
      ['GET', '/agents/%ff', undefined, 400, 'E_ARGUMENT'],
      ['GET', '/', undefined, 404, 'NO_ROUTE'],
      ['GET', '/agents/refused/nothing', undefined, 404, 'NO_ROUTE'],
      ['DELETE', '/agents/refused', undefined, 405, 'METHOD'],
    ];
    const faults = [];
    for (const [method, path, body, status, code] of wanted) {
      const found =
        method === 'POST'
          ? await agents.post(path, body)
          : method === 'GET'
            ? await agents.get(path)
            : await agents.ask(method, path);
      if (found.status !== status || found.body?.error?.code !== code || !found.body.error.message)
        faults.push([method, path.slice(0, 40), status, code, found.status, found.body]);
    }
    assert(faults.length === 0, faults);
    const conflict = await agents.post('/agents/refused/approve', { expectedVersion: changedVersion - 1 });
    assert(conflict.body.error.version === changedVersion, conflict);
    assert((await agents.get('/agents/refused')).body.changedVersion === changedVersion, 'it has changed');
    assert((await agents.post('/agents/refused/reject', {})).status === 200, 'reject');
    const ended = await agents.post('/agents/refused/approve', {});
    assert(ended.status === 409 && ended.body.error.code === 'E_FINISHED', ended);
    void model;
    return `${wanted.length + 2}`;
  });

  await total.check('a model that refuses for good ends the agent', async () => {
    const { agents, model, assert } = at();
    model.asked.length = 0;
    model.answer = () => ({ status: 400 });
    await agents.post('/agents/bad-request', { question: 'What?' });
    const { status, context } = await agents.until('bad-request', 'failed');
    assert(status === 'failed' && context.failure.startsWith('the model gave no answer: HTTP 400'), context);
    assert(model.asked.length === 1, 'asked again');
    model.answer = () => ({ text: 'Sleep well.' });
  });
}
