// A model server: /v1/chat/completions as OpenAI's is, and a webhook at /deliver. What it was asked is kept.

import { createServer } from 'node:http';

export async function startModel() {
  const model = { asked: [], delivered: [], answer: () => ({ text: 'Sleep well.' }) };
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const piece of request) text += piece;
    const body = JSON.parse(text);
    const seen = {
      key: request.headers['idempotency-key'],
      authorization: request.headers.authorization,
      body,
      at: Date.now(),
    };
    if (request.url === '/deliver') {
      model.delivered.push(seen);
      response.writeHead(204).end();
      return;
    }
    model.asked.push(seen);
    const {
      status = 200,
      text: content,
      headers = {},
      hang,
    } = request.url === '/v1/chat/completions' ? model.answer(seen) : { status: 404 };
    if (hang) return;
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(
      JSON.stringify(
        status === 200
          ? {
              object: 'chat.completion',
              choices: [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content } }],
            }
          : { error: { message: `status ${status}` } },
      ),
    );
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  model.url = `http://127.0.0.1:${server.address().port}`;
  model.stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return model;
}
