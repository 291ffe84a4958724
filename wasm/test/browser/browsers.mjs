// Starts browsers, headless, and calls functions of page modules in them.
//
//   launch(kind, { profile, preferences? }) -> { kind, pid, page(url) -> { call(module, name, ...args), close(), quota(bytes)? },
//                                                kill(), close() }
//
// `kind` is chromium, firefox or webkit. The profile is a folder; the same one again is the same origin storage, as
// after a restart of the browser. `preferences` are Firefox's. kill() ends what was started here with SIGKILL, by process id.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../free-port.mjs';
import { within } from '../within.mjs';

const first = (...paths) => paths.find((path) => path && existsSync(path));
export const binaries = {
  chromium: first(process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'),
  firefox: first(process.env.FIREFOX, '/usr/lib/firefox-esr/firefox-esr', '/usr/bin/firefox'),
  webkit: first(process.env.WEBKIT_DRIVER, '/usr/bin/WebKitWebDriver'),
};

/** Why a browser cannot be tested here; undefined: it can. */
export function missing(kind) {
  if (!binaries[kind]) return `no ${kind} here`;
  if (kind === 'webkit') return first('/usr/bin/Xvfb') ? undefined : 'no Xvfb here';
  const driver = kind === 'chromium' ? 'playwright-core' : 'puppeteer-core';
  if (!existsSync(new URL(`node_modules/${driver}`, import.meta.url))) return `${driver} is not installed`;
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

// ---- processes: each browser is the head of a group of its own, and all of it ends with it ----

const PATIENCE_MS = 120_000;
const LAUNCHES = 3; // a browser that does not come up is started again; what is checked in it never is
const groups = new Set();

process.on('exit', () => {
  for (const id of groups) signal(id);
});
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => process.exit(1));

function signal(group) {
  try {
    process.kill(-group, 'SIGKILL');
  } catch {
    /* it has ended */
  }
}

function spawnGroup(program, words, options) {
  const child = spawn(program, words, { ...options, detached: true });
  if (child.pid !== undefined) groups.add(child.pid);
  return child;
}

/** Whether a process of the group is left that can still write files. */
function living(group) {
  return readdirSync('/proc').some((id) => {
    if (!/^\d+$/.test(id)) return false;
    try {
      const stat = readFileSync(`/proc/${id}/stat`, 'utf8');
      const [state, , itsGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return Number(itsGroup) === group && !'ZX'.includes(state);
    } catch {
      return false; // it has ended just now
    }
  });
}

async function gone(child) {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
}

/** SIGKILL for all of them; when it returns none of them is left. */
async function end(child) {
  if (child.pid === undefined) return;
  const deadline = Date.now() + PATIENCE_MS;
  do {
    signal(child.pid);
    if (Date.now() > deadline) throw new Error(`processes of ${child.pid} are left`);
    await pause(5);
  } while (living(child.pid));
  await within(PATIENCE_MS, `the end of ${child.pid}`, gone(child));
  groups.delete(child.pid);
}

/** The child, and what `pattern` finds in what it says. */
async function spawnTalking(program, words, pattern) {
  const child = spawnGroup(program, words, { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  const found = new Promise((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (data) => {
      text = (text + data).slice(-65536);
      const match = pattern.exec(text);
      if (match) resolve(match[1]);
    });
    child.once('exit', (code, name) => reject(new Error(`it ended with ${code ?? name}`)));
    child.once('error', reject);
  });
  try {
    return { child, address: await within(PATIENCE_MS, 'its address', found) };
  } catch (error) {
    await end(child);
    throw new Error(`${program}: ${error.message}\n${text}`);
  }
}

/** What a launch gives; again if it fails. */
async function again(start) {
  for (let left = LAUNCHES - 1; ; left--) {
    try {
      return await start();
    } catch (error) {
      if (left === 0) throw error;
      console.log(`        launched again: ${error.message.split('\n', 1)[0]}`);
    }
  }
}

/** kill() and close(): `quit` asks the browser to end, `leave` ends the connection to it. */
const endings = (child, quit, leave) => ({
  async kill() {
    await end(child);
    await within(5000, 'the driver lets go', leave()).catch(() => {});
  },
  async close() {
    await within(
      PATIENCE_MS,
      'the browser ends',
      quit().then(() => gone(child)),
    ).catch(() => {});
    await this.kill();
  },
});

// ---- Chromium: driven over its own protocol ----

const chromiumWords = [
  '--headless=new',
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-gpu',
  '--remote-debugging-port=0',
];

async function quitChromium(browser) {
  const session = await browser.newBrowserCDPSession();
  await session.send('Browser.close').catch(() => {}); // it does not always answer
}

/** { child, browser: playwright's, kill(), close() } */
export async function startChromium(profile, more = []) {
  const { chromium } = await import('playwright-core');
  return again(async () => {
    const { child, address } = await spawnTalking(
      binaries.chromium,
      [...chromiumWords, ...more, `--user-data-dir=${profile}`, 'about:blank'],
      /DevTools listening on (ws:\S+)/,
    );
    try {
      const browser = await chromium.connectOverCDP(address, { timeout: PATIENCE_MS });
      const ends = endings(
        child,
        () => quitChromium(browser),
        () => browser.close(),
      );
      return { child, browser, ...ends };
    } catch (error) {
      await end(child);
      throw error;
    }
  });
}

async function launchChromium({ profile }) {
  const { child, browser, kill, close } = await startChromium(profile);
  const context = browser.contexts()[0];
  return {
    kind: 'chromium',
    pid: child.pid,
    async page(url) {
      const page = await context.newPage();
      await page.goto(url, { timeout: PATIENCE_MS });
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
    kill,
    close,
  };
}

// ---- Firefox: over WebDriver BiDi. puppeteer would launch it, too, but sets the profile's preferences aside for that,
// and puts them back when it has ended: perhaps under the next one, after a kill ----

const firefoxPreferences = {
  'app.normandy.api_url': '',
  'app.update.disabledForTesting': true,
  'browser.newtabpage.enabled': false,
  'browser.pagethumbnails.capturing_disabled': true,
  'browser.safebrowsing.blockedURIs.enabled': false,
  'browser.safebrowsing.downloads.enabled': false,
  'browser.safebrowsing.malware.enabled': false,
  'browser.safebrowsing.phishing.enabled': false,
  'browser.search.update': false,
  'browser.sessionstore.resume_from_crash': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.homepage': 'about:blank',
  'browser.startup.homepage_override.mstone': 'ignore',
  'browser.startup.page': 0,
  'browser.uitour.enabled': false,
  'browser.warnOnQuit': false,
  'datareporting.healthreport.service.enabled': false,
  'datareporting.healthreport.uploadEnabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'datareporting.policy.dataSubmissionPolicyBypassNotification': true,
  'dom.ipc.reportProcessHangs': false,
  'dom.max_chrome_script_run_time': 0,
  'dom.max_script_run_time': 0,
  'extensions.enabledScopes': 5,
  'extensions.getAddons.cache.enabled': false,
  'extensions.installDistroAddons': false,
  'extensions.update.enabled': false,
  'fission.webContentIsolationStrategy': 0,
  'hangmonitor.timeout': 0,
  'media.gmp-manager.updateEnabled': false,
  'media.sanity-test.disabled': true,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'network.http.speculative-parallel-limit': 0,
  'network.manage-offline-status': false,
  'services.settings.server': 'http://dummy.test/dummy/blocklist/',
  'startup.homepage_welcome_url': 'about:blank',
  'toolkit.cosmeticAnimations.enabled': false,
  'toolkit.startup.max_resumed_crashes': -1, // never the safe mode after a kill
};

async function launchFirefox({ profile, preferences = {} }) {
  const { default: puppeteer } = await import('puppeteer-core');
  const lines = Object.entries({ ...firefoxPreferences, ...preferences }).map(
    ([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`,
  );
  writeFileSync(join(profile, 'user.js'), lines.join(''));
  const { child, browser } = await again(async () => {
    const { child, address } = await spawnTalking(
      binaries.firefox,
      ['--profile', profile, '--headless', '--no-remote', '--remote-debugging-port=0', 'about:blank'],
      /WebDriver BiDi listening on (ws:\S+)/,
    );
    try {
      const connected = puppeteer.connect({
        browserWSEndpoint: `${address}/session`,
        protocol: 'webDriverBiDi',
        protocolTimeout: 600_000,
      });
      return { child, browser: await within(PATIENCE_MS, 'its session', connected) };
    } catch (error) {
      await end(child);
      throw error;
    }
  });
  return {
    kind: 'firefox',
    pid: child.pid,
    async page(url) {
      const page = await browser.newPage();
      await page.goto(url, { timeout: PATIENCE_MS });
      return {
        call: async (module, name, ...args) =>
          unwrap(await page.evaluate(invoke, [new URL(module, url).href, name, args])),
        close: () => page.close(),
      };
    },
    ...endings(
      child,
      () => browser.close(),
      () => browser.disconnect(),
    ),
  };
}

// ---- WebKitGTK: over classic WebDriver; its automation sessions forget everything when they end ----

const launchWebKit = () => again(startWebKit);

async function startWebKit() {
  const display = spawnGroup('Xvfb', ['-displayfd', '3', '-screen', '0', '800x600x24', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  });
  const shown = new Promise((resolve, reject) => {
    display.stdio[3].once('data', (data) => resolve(String(data).trim()));
    display.once('exit', (code) => reject(new Error(`Xvfb ended with ${code}`)));
    display.once('error', reject);
  });
  const number = await within(PATIENCE_MS, 'the number of the display', shown).catch(async (error) => {
    await end(display);
    throw error;
  });
  const port = await freePort();
  const child = spawnGroup(binaries.webkit, [`--port=${port}`], {
    stdio: 'ignore',
    env: { ...process.env, DISPLAY: `:${number}`, WEBKIT_DISABLE_COMPOSITING_MODE: '1' },
  });
  const send = async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  };
  const endBoth = async () => {
    await end(child);
    await end(display);
  };
  try {
    const deadline = Date.now() + PATIENCE_MS;
    const ready = () =>
      send('GET', '/status').then(
        () => true,
        () => false,
      );
    while (!(await ready())) {
      if (Date.now() > deadline) throw new Error('its driver does not answer');
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
      kill: endBoth,
      async close() {
        await within(PATIENCE_MS, 'the session ends', send('DELETE', at)).catch(() => {});
        await endBoth();
      },
    };
  } catch (error) {
    await endBoth();
    throw error;
  }
}
