// Starts browsers, headless, and calls functions of page modules in them.
//
//   launch(kind, { profile, preferences? }) -> { kind, pid, page(url) -> { call(module, name, ...args), close(), quota(bytes)? },
//                                                kill(), close() }
//
// `kind` is chromium, firefox or webkit. The profile is a folder; the same one again is the same origin storage, as
// after a restart of the browser. `preferences` are Firefox's. kill() ends what was started here with SIGKILL, by process id.

import { spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const first = (...paths) => paths.find((path) => path && existsSync(path));
export const binaries = {
  chromium: first(process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'),
  firefox: first(process.env.FIREFOX, '/usr/lib/firefox-esr/firefox-esr', '/usr/bin/firefox'),
  webkit: first(process.env.WEBKIT_DRIVER, '/usr/bin/WebKitWebDriver'),
};

/** Why a browser cannot be tested here; undefined: it can. */
export function missing(kind) {
  if (!binaries[kind]) return `no ${kind} here`;
  if (kind === 'webkit' && !first('/usr/bin/Xvfb')) return 'no Xvfb here';
  return undefined;
}

export const launch = (kind, options) =>
  ({ chromium: launchChromium, firefox: launchFirefox, webkit: launchWebKit })[kind](options);

// Runs in the page. Errors cross as text.
const invoke = async ([module, name, args]) => {
  try {
    return { value: await (await import(module))[name](...args) };
  } catch (error) {
    return { error: error?.stack?.includes(error.message) ? error.stack : `${error}\n${error?.stack ?? ''}` };
  }
};

function unwrap({ value, error }) {
  if (error !== undefined) throw new Error(error);
  return value;
}

async function gone(child) {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
}

// ---- Chromium: started by hand, so that its process is ours; driven over its own protocol ----

async function launchChromium({ profile }) {
  const { chromium } = await import('playwright-core');
  const child = spawn(
    binaries.chromium,
    [
      '--headless=new',
      '--no-sandbox',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--disable-gpu',
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
      'about:blank',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'], detached: true },
  ); // its own group: helpers end with it
  const address = await new Promise((resolve, reject) => {
    let text = '';
    child.stderr.on('data', (data) => {
      text += data;
      const found = /DevTools listening on (ws:\S+)/.exec(text);
      if (found) resolve(found[1]);
    });
    child.once('exit', (code) => reject(new Error(`chromium ended with ${code}\n${text}`)));
    child.once('error', reject);
  });
  const browser = await chromium.connectOverCDP(address);
  const context = browser.contexts()[0];
  return {
    kind: 'chromium',
    pid: child.pid,
    async page(url) {
      const page = await context.newPage();
      await page.goto(url);
      return {
        call: async (module, name, ...args) =>
          unwrap(await page.evaluate(invoke, [new URL(module, url).href, name, args])),
        async quota(bytes) {
          // undefined: as before
          const session = await context.newCDPSession(page);
          await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(url).origin, quotaSize: bytes });
        },
        close: () => page.close(),
      };
    },
    async kill() {
      process.kill(-child.pid, 'SIGKILL');
      await gone(child);
      await browser.close().catch(() => {});
    },
    async close() {
      const session = await browser.newBrowserCDPSession();
      await session.send('Browser.close').catch(() => {});
      await gone(child);
      await browser.close().catch(() => {});
    },
  };
}

// ---- Firefox: over WebDriver BiDi ----

async function launchFirefox({ profile, preferences = {} }) {
  const { default: puppeteer } = await import('puppeteer-core');
  const start = async (tries) => {
    writeFileSync(join(profile, 'user.js'), ''); // of an earlier run: puppeteer sets it aside, and must find it
    try {
      return await puppeteer.launch({
        browser: 'firefox',
        executablePath: binaries.firefox,
        headless: true,
        userDataDir: profile,
        protocolTimeout: 600000,
        extraPrefsFirefox: preferences,
      });
    } catch (error) {
      // those of the run before were being put back just then
      if (tries === 1 || !/(user|prefs)\.js|Failed to launch/.test(error.message)) throw error;
      await pause(200);
      return start(tries - 1);
    }
  };
  const browser = await start(5);
  const child = browser.process();
  return {
    kind: 'firefox',
    pid: child.pid,
    async page(url) {
      const page = await browser.newPage();
      await page.goto(url);
      return {
        call: async (module, name, ...args) =>
          unwrap(await page.evaluate(invoke, [new URL(module, url).href, name, args])),
        close: () => page.close(),
      };
    },
    async kill() {
      process.kill(child.pid, 'SIGKILL');
      await gone(child);
      await browser.close().catch(() => {});
    },
    close: () => browser.close(),
  };
}

// ---- WebKitGTK: over classic WebDriver; its automation sessions forget everything when they end ----

async function launchWebKit() {
  const display = spawn('Xvfb', ['-displayfd', '3', '-screen', '0', '800x600x24', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  });
  const number = await new Promise((resolve, reject) => {
    display.stdio[3].once('data', (data) => resolve(String(data).trim()));
    display.once('exit', (code) => reject(new Error(`Xvfb ended with ${code}`)));
  });
  const port = 20000 + Math.floor(Math.random() * 20000);
  const child = spawn(binaries.webkit, [`--port=${port}`], {
    stdio: 'ignore',
    detached: true,
    env: { ...process.env, DISPLAY: `:${number}`, WEBKIT_DISABLE_COMPOSITING_MODE: '1' },
  });
  const send = async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  };
  const end = async () => {
    process.kill(-child.pid, 'SIGKILL');
    display.kill('SIGKILL');
    await Promise.all([gone(child), gone(display)]);
  };
  try {
    for (let i = 0; i < 100; i++) {
      if (
        await send('GET', '/status').then(
          () => true,
          () => false,
        )
      )
        break;
      await pause(50);
    }
    const { sessionId } = await send('POST', '/session', {
      capabilities: { alwaysMatch: { timeouts: { script: 600000 } } },
    });
    const at = `/session/${sessionId}`;
    let used = false;
    return {
      kind: 'webkit',
      pid: child.pid,
      async page(url) {
        if (used) throw new Error('one page at a time');
        used = true;
        await send('POST', `${at}/url`, { url });
        return {
          call: async (module, name, ...args) =>
            unwrap(
              await send('POST', `${at}/execute/async`, {
                script: `(${invoke})(arguments[0]).then(arguments[1])`,
                args: [[new URL(module, url).href, name, args]],
              }),
            ),
          close: async () => {
            used = false;
          },
        };
      },
      kill: end,
      async close() {
        await send('DELETE', at).catch(() => {});
        await end();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}
