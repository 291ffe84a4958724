// A static server for the pages of the tests: the package's own folder, and one empty page.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const own = fileURLToPath(new URL('../..', import.meta.url)); // wasm/
const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
  '.map': 'application/json',
  '.ts': 'text/plain; charset=utf-8',
};
const page = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>test</title>';

/** Resolves to { url, close() }. The address is the loopback's: pages from it are secure contexts. Another `root` has its own index.html. */
export async function serve(port = 0, root = own) {
  const server = createServer(async (request, response) => {
    let path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    const headers = { 'cache-control': 'no-store' };
    if (path === '/' && root !== own) path = '/index.html';
    if (path === '/') return response.writeHead(200, { ...headers, 'content-type': types['.html'] }).end(page);
    const file = normalize(join(root, path));
    try {
      if (!file.startsWith(root) || file.includes(`${sep}node_modules${sep}`)) throw new Error('outside');
      const body = await readFile(file);
      response
        .writeHead(200, { ...headers, 'content-type': types[extname(file)] ?? 'application/octet-stream' })
        .end(body);
    } catch {
      response.writeHead(404, headers).end('not found');
    }
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://localhost:${server.address().port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}
