// Keeps the page's files, so that it opens without a network. Documents are not here: they are in the journal.

const CACHE = 'review-1';
const FILES = [
  './',
  './style.css',
  './app.js',
  './desk.js',
  './diagram.js',
  './parts.js',
  './samples.js',
  './icon.svg',
  './manifest.webmanifest',
  './review/machine.js',
  './review/text.js',
  './review/words.js',
  '../index.js',
  '../engine.js',
  '../block.js',
  '../bridge.js',
  '../errors.js',
  '../layout.js',
  '../linear.js',
  '../machine.js',
  '../options.js',
  '../portable.js',
  '../records.js',
  '../request.js',
  '../step.js',
  '../stores/indexeddb.js',
  '../stores/shared.js',
  '../persistent_agent.wasm',
];

self.addEventListener('install', (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(CACHE);
      await Promise.all(FILES.map((file) => cache.add(file)));
      await self.skipWaiting();
    })(),
  );
});

self.addEventListener('activate', (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name !== CACHE) await caches.delete(name);
      await self.clients.claim();
    })(),
  );
});

// The network first, so that a new version is never hidden by an old one; what it answers is kept for when it is gone.
self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(
    (async () => {
      const cache = await caches.open(CACHE);
      try {
        const response = await fetch(request);
        if (response.ok && response.type === 'basic' && !response.redirected)
          event.waitUntil(cache.put(request, response.clone()));
        return response;
      } catch (error) {
        const kept = await cache.match(request, { ignoreSearch: true });
        if (kept === undefined) throw error;
        return kept;
      }
    })(),
  );
});
