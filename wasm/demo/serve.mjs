// Serves the demo: node serve.mjs [PORT]. The package's folder is the root, so that the page loads the library as it is.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url)); // wasm/
const modules = join(root, 'demo', 'node_modules', 'mermaid', 'dist', sep); // the only foreign files a page may ask for
const types = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json',
};
const headers = {
  'cache-control': 'no-cache',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  // Mermaid writes styles into its drawing.
  'content-security-policy':
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; " +
    "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
};

async function answer(request, response) {
  try {
    if (request.method !== 'GET' && request.method !== 'HEAD') return response.writeHead(405, headers).end();
    let path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    if (path === '/') return response.writeHead(302, { ...headers, location: '/demo/' }).end();
    if (path.endsWith('/')) path += 'index.html';
    const file = normalize(join(root, path)),
      parts = file.slice(root.length).split(sep);
    const foreign = parts.includes('node_modules') && !file.startsWith(modules);
    const type = types[extname(file)];
    if (!file.startsWith(root) || foreign || type === undefined || parts.some((part) => part.startsWith('.')))
      throw new Error('not served');
    const body = await readFile(file);
    response.writeHead(200, { ...headers, 'content-type': type, 'content-length': body.length });
    response.end(request.method === 'HEAD' ? undefined : body);
  } catch {
    response.writeHead(404, { ...headers, 'content-type': 'text/plain; charset=utf-8' }).end('Not found\n');
  }
}

/** Resolves to { url, close() }. The loopback's address is a secure context: service workers and locks work there. */
export async function serve(port = 0) {
  const server = createServer(answer);
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return {
    url: `http://localhost:${server.address().port}/demo/`,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await serve(Number(process.argv[2] ?? 8080));
  console.log(url);
}
