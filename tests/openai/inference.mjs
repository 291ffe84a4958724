// A small OpenAI-compatible server over real inference code: POST /v1/chat/completions, with answers held to the
// request's JSON Schema. usage: node inference.mjs MODEL.gguf   Runs in the folder where its packages are installed;
// prints its port; ends when its standard input ends.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const require = createRequire(path.join(process.cwd(), 'package.json'));
const library = pathToFileURL(require.resolve('node-llama-cpp')).href;
const { getLlama, LlamaChatSession, GeneralChatWrapper } = await import(library);

// Several threads, which wait for each other in a loop, are a hundred times slower on a busy machine: one is enough.
const llama = await getLlama({
  build: 'never', gpu: false, maxThreads: 1, skipDownload: true, progressLogs: false, logLevel: 'error',
});
const model = await llama.loadModel({ modelPath: process.argv[2] });
const context = await model.createContext({ contextSize: 2048, sequences: 1, threads: 1 });
let turn = Promise.resolve(); // one sequence: one answer at a time

async function complete(request) {
  const sequence = context.getSequence();
  try {
    const system = request.messages.find((message) => message.role === 'system')?.content;
    const prompt = request.messages.at(-1).content;
    const session = new LlamaChatSession({
      contextSequence: sequence, systemPrompt: system, chatWrapper: new GeneralChatWrapper(),
    });
    const schema = request.response_format?.json_schema?.schema;
    const grammar = schema ? await llama.createGrammarForJsonSchema(schema) : undefined;
    const { responseText, stopReason } = await session.promptWithMeta(prompt, {
      grammar, seed: request.seed ?? 1, temperature: request.temperature ?? 1, maxTokens: request.max_tokens ?? 64,
    });
    return { content: responseText, finish_reason: stopReason === 'maxTokens' ? 'length' : 'stop' };
  } finally {
    sequence.dispose();
  }
}

const server = createServer(async (request, response) => {
  const send = (status, body) => {
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  try {
    if (request.method !== 'POST' || request.url !== '/v1/chat/completions') {
      send(404, { error: { message: `no ${request.method} ${request.url} here` } });
      return;
    }
    let body = '';
    for await (const piece of request.setEncoding('utf8')) body += piece;
    const parsed = JSON.parse(body);
    const mine = turn.then(() => complete(parsed));
    turn = mine.catch(() => {});
    const { content, finish_reason } = await mine;
    const choice = { index: 0, finish_reason, message: { role: 'assistant', content } };
    send(200, { object: 'chat.completion', choices: [choice] });
  } catch (error) {
    console.error(error);
    send(500, { error: { message: String(error) } });
  }
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
