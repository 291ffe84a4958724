// Waiting that ends. A limit is the last resort: what is waited for is an event, and a slow machine may take its time.

const LIMIT_MS = 120_000;

/** The promise's value; an error that names `what` when it takes longer. */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What `look` gives once that is true; an error that says `what`, a text or a function, if it never is. */
export async function until(look, what, { limitMs = LIMIT_MS, pauseMs = 5 } = {}) {
  const end = performance.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > end)
      throw new Error(`not within ${limitMs} ms: ${typeof what === 'function' ? what() : what}`);
    await new Promise((resolve) => {
      setTimeout(resolve, pauseMs);
    });
  }
}
