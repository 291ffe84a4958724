// A chat-completions server that misbehaves on purpose. The path's first part says how: POST /MODE/chat/completions.
// It speaks raw TCP, because most of what it does no HTTP library would do. It listens on 127.0.0.1 only, prints its
// port, and ends when its standard input ends. usage: node misbehave.mjs [FILE.pem]
// With a key and certificate it listens with TLS, too, and prints that port behind the other.
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

const seen = new Map();     // idempotency key -> requests with it
const held = new Map();     // mode -> connections that wait for the others

function completion(content, extra = {}) {
  const choice = { index: 0, finish_reason: 'stop', message: { role: 'assistant', content }, ...extra };
  return JSON.stringify({ id: 'x', object: 'chat.completion', choices: [choice] });
}

function reply(socket, status, headers, body, { length = Buffer.byteLength(body), end = false } = {}) {
  const head = Object.entries({ 'Content-Type': 'application/json', 'Content-Length': length, ...headers })
    .map(([name, value]) => `${name}: ${value}\r\n`).join('');
  socket.write(`HTTP/1.1 ${status} Whatever\r\n${head}\r\n${body}`);
  if (end) socket.end();
}

const hint = (socket) => socket.write('HTTP/1.1 103 Early Hints\r\nRetry-After: 99\r\n\r\n');

// A body whose announced length is off by `extra`, of which only `sent` bytes come.
function wrong_length(socket, extra, sent) {
  const body = completion('the length is wrong');
  reply(socket, 200, {}, body.slice(0, sent), { length: body.length + extra, end: true });
}

const good = (socket, content, extra) => reply(socket, 200, {}, completion(content, extra));

// Writes one byte at a time; each is flushed before the next.
async function drip(socket, text) {
  socket.setNoDelay(true);
  for (const byte of Buffer.from(text)) {
    await new Promise((done) => socket.write(Buffer.from([byte]), done));
    await new Promise((done) => setImmediate(done));
  }
}

// Answers nobody before `count` requests are here, and, after a pause in which more might come, all of them.
function hold(socket, mode, count, pause_ms) {
  const waiting = held.get(mode) ?? [];
  held.set(mode, waiting);
  waiting.push(socket);
  if (waiting.length !== count) return;
  setTimeout(() => {
    const all = waiting.splice(0);
    for (const each of all) good(each, `${all.length} at once`);
  }, pause_ms);
}

const modes = {
  good: (socket) => good(socket, 'hello'),
  empty_text: (socket) => good(socket, ''),
  unicode: (socket) => good(socket, 'gr\u00fc\u00dfe \u4f60\u597d \ud83d\ude00 "\\\n'),
  // What the server was sent, as the answer's text.
  echo: (socket, request) => good(socket, JSON.stringify(request)),
  drip: (socket) => {
    const body = completion('drop by drop');
    drip(socket, `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  },
  chunked: (socket) => {
    const body = completion('in chunks');
    const half = body.length >> 1;
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
    socket.write(`${half.toString(16)}\r\n${body.slice(0, half)}\r\n`);
    setImmediate(() => socket.write(`${(body.length - half).toString(16)}\r\n${body.slice(half)}\r\n0\r\n\r\n`));
  },
  interim: (socket) => { hint(socket); good(socket, 'after a hint'); },
  interim_busy: (socket) => { hint(socket); reply(socket, 503, {}, ''); },
  never: () => {},
  headers_only: (socket) => { socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n'); },
  hang_up: (socket) => socket.destroy(),
  reset: (socket) => socket.resetAndDestroy(),
  cut_off: (socket) => wrong_length(socket, 0, 30),
  cut_chunk: (socket) => { socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"choices":'); },
  cut_headers: (socket) => { socket.end('HTTP/1.1 200 OK\r\nContent-Le'); },
  length_short: (socket) => wrong_length(socket, -9),
  length_long: (socket) => wrong_length(socket, 9),
  length_negative: (socket) => reply(socket, 200, {}, completion('x'), { length: -1, end: true }),
  chunk_garbage: (socket) => { socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n{}\r\n'); },
  garbage: (socket) => { socket.end(Buffer.from([0, 1, 2, 255, 254, 253, 10, 13, 0, 0, 7])); },
  garbage_headers: (socket) => {
    socket.write('HTTP/1.1 200 OK\r\n');
    socket.write(Buffer.alloc(64, 0xff));
    socket.end('\r\n: :\r\n\0\r\n\r\n');
  },
  endless_headers: (socket) => {
    socket.write('HTTP/1.1 200 OK\r\n');
    const line = `X-Filler: ${'x'.repeat(8000)}\r\n`;
    const more = () => { while (!socket.destroyed && socket.write(line)); };
    socket.on('drain', more);
    more();
  },
  busy: (socket) => reply(socket, 429, { 'Retry-After': '7' }, '{"error":{"message":"slow down"}}'),
  busy_plain: (socket) => reply(socket, 429, {}, ''),
  busy_odd: (socket) => reply(socket, 429, { 'Retry-After': 'soon' }, '{}'),
  busy_negative: (socket) => reply(socket, 429, { 'Retry-After': '-5' }, '{}'),
  busy_huge: (socket) => reply(socket, 429, { 'RETRY-AFTER': '99999999999999999999999' }, '{}'),
  // The client's clock is the test's: it stands at 2030-01-01T00:00:00Z.
  busy_date: (socket) => reply(socket, 503, { 'Retry-After': 'Tue, 01 Jan 2030 00:00:30 GMT' }, 'try later'),
  busy_past: (socket) => reply(socket, 503, { 'Retry-After': 'Mon, 31 Dec 2029 23:00:00 GMT' }, ''),
  error_500: (socket) => reply(socket, 500, {}, '<html>\x1b[31mInternal\r\n\r\nError</html>'),
  error_502_cut: (socket) => reply(socket, 502, {}, 'bad gate', { length: 500, end: true }),
  error_529: (socket) => reply(socket, 529, { 'Retry-After': '2' }, '{"type":"x","error":{"message":"Overloaded"}}'),
  error_400: (socket) => reply(socket, 400, {}, '{"error":{"message":"the prompt is too long","code":"too_long"}}'),
  error_401: (socket, request) => {
    reply(socket, 401, {}, JSON.stringify({ error: { message: `bad key: ${request.headers.authorization}` } }));
  },
  error_404: (socket) => reply(socket, 404, {}, '{"message":"no such model"}'),
  error_404_text: (socket) => reply(socket, 404, {}, 'x'.repeat(5000)),
  error_408: (socket) => reply(socket, 408, {}, ''),
  error_409: (socket) => reply(socket, 409, {}, '{"error":"the same key is being worked on"}'),
  error_422_huge: (socket) => { reply(socket, 422, {}, 'y'.repeat(200000)); },
  error_425: (socket) => reply(socket, 425, {}, ''),
  redirect: (socket) => reply(socket, 307, { Location: '/good/chat/completions' }, ''),
  redirect_file: (socket) => reply(socket, 301, { Location: 'file:///etc/passwd' }, ''),
  no_content: (socket) => { socket.write('HTTP/1.1 204 No Content\r\n\r\n'); },
  empty: (socket) => reply(socket, 200, {}, ''),
  not_json: (socket) => reply(socket, 200, { 'Content-Type': 'text/html' }, '<html>Welcome to the hotel</html>'),
  half_json: (socket) => reply(socket, 200, {}, completion('half').slice(0, 60)),
  trailing: (socket) => reply(socket, 200, {}, `${completion('then garbage')}garbage`),
  spaces: (socket) => reply(socket, 200, {}, ` \r\n${completion('with spaces')}\r\n \t`),
  nested: (socket) => reply(socket, 200, {}, '['.repeat(40000)),
  zero_byte: (socket) => reply(socket, 200, {}, completion('a\\b').replace('a', 'a\0b')),
  zero_escape: (socket) => good(socket, 'approve\u0000reject'),
  zero_text: (socket) => good(socket, 'a backslash, then u0000: \\u0000'),
  not_utf8: (socket) => {
    const body = Buffer.from(completion('xyz'));
    body[body.indexOf('y')] = 0xff;
    reply(socket, 200, {}, '', { length: body.length });
    socket.write(body);
  },
  null_json: (socket) => reply(socket, 200, {}, 'null'),
  no_choices: (socket) => reply(socket, 200, {}, '{"choices":[]}'),
  choices_object: (socket) => reply(socket, 200, {}, '{"choices":{"message":{"content":"x"}}}'),
  content_null: (socket) => good(socket, null),
  content_list: (socket) => good(socket, [{ type: 'text', text: 'x' }]),
  content_number: (socket) => good(socket, 7),
  wrong_case: (socket) => reply(socket, 200, {}, '{"Choices":[{"Message":{"Content":"x"}}]}'),
  error_in_200: (socket) => reply(socket, 200, {}, '{"error":{"message":"upstream is down"}}'),
  length_reason: (socket) => good(socket, 'a fragm', { finish_reason: 'length' }),
  filtered: (socket) => good(socket, '', { finish_reason: 'content_filter' }),
  refused: (socket) => reply(socket, 200, {}, '{"choices":[{"message":{"content":null,"refusal":"I will not"}}]}'),
  huge: (socket) => reply(socket, 200, {}, completion('z'.repeat(100000))),
  huge_claim: (socket) => { socket.write('HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n{'); },
  huge_chunks: (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
    const chunk = `1000\r\n${'w'.repeat(4096)}\r\n`;
    const more = () => { while (!socket.destroyed && socket.write(chunk)); };
    socket.on('drain', more);
    more();
  },
  together_8: (socket) => hold(socket, 'together_8', 8, 0),
  together_2: (socket) => hold(socket, 'together_2', 2, 60),
  // A bad server that gets well: each request with the same key gets the next of these.
  recovers: (socket, request) => {
    const turn = seen.get(request.headers['idempotency-key']);
    if (turn === 1) return modes.error_500(socket);
    if (turn === 2) return reply(socket, 429, { 'Retry-After': '1' }, '{"error":{"message":"wait a second"}}');
    if (turn === 3) return modes.cut_off(socket);
    if (turn === 4) return modes.half_json(socket);
    return good(socket, `well again at request ${turn}`);
  },
  requests: (socket, request) => good(socket, String(seen.get(request.json.messages.at(-1).content) ?? 0)),
};

function parse(head, body) {
  const [line, ...rest] = head.split('\r\n');
  const [method, path, protocol] = line.split(' ');
  const headers = {};
  for (const each of rest) {
    const at = each.indexOf(':');
    headers[each.slice(0, at).toLowerCase()] = each.slice(at + 1).trim();
  }
  let json = null;
  try { json = JSON.parse(body); } catch { /* the client sent something else: json stays null and the test sees it */ }
  return { method, path, protocol, headers, json };
}

function serve(socket, request) {
  const mode = request.path.split('/')[1];
  const key = request.headers['idempotency-key'];
  seen.set(key, (seen.get(key) ?? 0) + 1);
  if (modes[mode]) modes[mode](socket, request);
  else reply(socket, 404, {}, '{"error":{"message":"no such mode"}}');
}

function listen(socket) {
  let text = '';
  socket.setEncoding('utf8');
  socket.on('error', () => {});
  socket.on('data', (data) => {
    text += data;
    for (;;) {
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return;
      const size = Number(/content-length: *(\d+)/i.exec(text.slice(0, end))?.[1] ?? 0);
      const body = Buffer.from(text.slice(end + 4));
      if (body.length < size) return;
      const request = parse(text.slice(0, end), body.subarray(0, size).toString());
      text = body.subarray(size).toString();
      serve(socket, request);
    }
  });
}

const servers = [net.createServer(listen)];
if (process.argv[2]) {
  const pem = readFileSync(process.argv[2]);
  servers.push(tls.createServer({ key: pem, cert: pem }, listen).on('tlsClientError', () => {}));
}
for (const server of servers) await new Promise((done) => server.listen(0, '127.0.0.1', done));
console.log(servers.map((server) => server.address().port).join(' '));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
