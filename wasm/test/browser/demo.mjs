// Clicks the demo through in Chromium: node demo.mjs. Screenshots go into build/demo/.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { serve } from '../../demo/serve.mjs';
import { missing, startChromium } from './browsers.mjs';

const skipAll = (why) => {
  console.log(`skipped the page: ${why}\n0 passed, 0 failed, 1 skipped`);
  process.exit(0);
};
if (missing('chromium')) skipAll(missing('chromium'));

const shots = fileURLToPath(new URL('../../../build/demo/', import.meta.url));
mkdirSync(shots, { recursive: true });
const profile = mkdtempSync(join(tmpdir(), 'review-demo-'));
let server = await serve(0);
const port = Number(new URL(server.url).port),
  { url } = server;
let browser;

async function launch() {
  const { browser: connection, kill } = await startChromium(profile, ['--hide-scrollbars']);
  const [context] = connection.contexts();
  browser = {
    faults: [],
    kill,
    async page(at = url, { width = 1440, height = 900, dark = false } = {}) {
      const page = await context.newPage();
      page.on('pageerror', (error) => browser.faults.push(error));
      page.on('console', (message) => {
        if (message.type() === 'error')
          browser.faults.push(new Error(`console: ${message.text()} ${message.location().url}`));
      });
      page.setDefaultTimeout(120_000);
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: dark ? 'dark' : 'light', reducedMotion: 'reduce' });
      await page.goto(at);
      await page.waitForFunction(() => document.getElementById('role').dataset.role !== 'starting');
      return page;
    },
  };
}

// ---- what a page shows

const text = (page, selector) => page.locator(selector).innerText();
const state = (page, wanted) =>
  page.waitForFunction(
    (words) => document.getElementById('state').textContent === words && !document.getElementById('sheet').hidden,
    wanted,
  );
const role = (page, wanted) =>
  page.waitForFunction((name) => document.getElementById('role').dataset.role === name, wanted);
const names = (page) => page.locator('#list .name').allInnerTexts();
const open = (page, name) => page.locator(`#list button[data-name="${name}"]`).click();
const versions = (page) =>
  page.locator('#timeline button').evaluateAll((items) => items.map((item) => Number(item.dataset.version)));
const journal = (page) => page.locator('#timeline .what').allInnerTexts();
const drawn = (page) => page.waitForSelector('#diagram[data-drawn] svg', { timeout: 120_000 });
const shot = async (page, name, fullPage = true) => {
  await drawn(page);
  await page.waitForFunction(() => !document.getElementById('toast').classList.contains('on'));
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage });
};

/** Files dropped onto the page, as the browser would hand them over. */
async function drop(page, files) {
  const transfer = await page.evaluateHandle((list) => {
    const data = new DataTransfer();
    for (const [name, content] of list) data.items.add(new File([content], name, { type: 'text/plain' }));
    return data;
  }, files);
  for (const type of ['dragenter', 'dragover', 'drop'])
    await page.dispatchEvent('#drop', type, { dataTransfer: transfer });
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}
function equal(found, wanted) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`found ${a}, wanted ${b}`);
}

// ---- the tests, in this order: each goes on where the one before has stopped

const tests = [];
const test = (name, body) => tests.push([name, body]);
let page, second;
const risky =
  'Terms\n\nIn no event shall the seller be liable for consequential damages or lost profits. You shall indemnify and hold us harmless.\n';

test('a first visit is empty and says what to do', async () => {
  page = await browser.page();
  await role(page, 'running');
  check(await page.locator('#empty').isVisible(), 'the page explains itself');
  await shot(page, 'empty');
});

test('three sample texts: two wait for a person, one is published', async () => {
  await page.click('#samples');
  await page.waitForFunction(() => document.querySelectorAll('#list li').length === 3);
  await page.waitForFunction(
    () =>
      [...document.querySelectorAll('#list .sub')].map((item) => item.textContent).join() ===
      'Waiting for a decision,Waiting for a decision,Published',
  );
  await state(page, 'Waiting for a decision');
  check(
    (await text(page, '#passages')).includes('risk') || (await page.locator('#passages li').count()) > 3,
    'passages are shown',
  );
  check((await page.locator('#diagram svg').count()) === 1 || (await drawn(page)), 'the diagram is drawn');
  await shot(page, 'desktop-light');
  await page.click('#whole');
  await page.waitForSelector('#whole-dialog[open] svg');
  await page.screenshot({ path: join(shots, 'machine.png') });
  await page.keyboard.press('Escape');
});

test('the secret of a text is not copied into the report', async () => {
  await open(page, 'deploy-notes');
  await page.waitForFunction(() => document.getElementById('title').textContent === 'deploy-notes.md');
  check((await text(page, '#passages')).includes('blacked out'), 'it is blacked out');
  check(!(await page.locator('#action').textContent()).includes('81c27de605b3'), 'the report does not hold it');
});

test('dropped and chosen files become documents', async () => {
  await drop(page, [
    ['terms.txt', risky],
    ['second terms.md', risky],
  ]);
  await page.waitForFunction(() => document.querySelectorAll('#list li').length === 5);
  await page.setInputFiles('#files', { name: 'terms.txt', mimeType: 'text/plain', buffer: Buffer.from(risky) });
  await page.waitForFunction(() => document.querySelectorAll('#list li').length === 6);
  await page.screenshot({ path: join(shots, 'list.png') });
  check((await names(page)).includes('terms.txt (terms-2)'), 'a second document of a name has its own');
  await state(page, 'Waiting for a decision');
});

test('approve by key: published, and the journal names who', async () => {
  await page.evaluate(() => {
    document.querySelector('.settings').open = true;
  });
  await page.fill('#who', 'Ada');
  await page.locator('#who').blur();
  await page.evaluate(() => {
    document.querySelector('.settings').open = false;
  });
  await open(page, 'services-agreement');
  await page.waitForFunction(() => document.getElementById('title').textContent === 'services-agreement.txt');
  await page.keyboard.press('a');
  await state(page, 'Published');
  check((await text(page, '#timeline')).includes('Ada'), 'the timeline names her');
  check((await text(page, '#notes')).includes('approved by Ada'), 'so do the notes');
  const [saved] = await Promise.all([page.waitForEvent('download'), page.click('#download')]);
  equal(saved.suggestedFilename(), 'services-agreement.md');
});

test("edit by key: the person's summary is published", async () => {
  await open(page, 'deploy-notes');
  await state(page, 'Waiting for a decision');
  await page.keyboard.press('e');
  await page.waitForSelector('#edit-dialog[open]');
  await page.screenshot({ path: join(shots, 'edit.png') });
  await page.fill('#edit-text', 'How the shop is deployed. Take the token out.');
  await page.keyboard.press('Control+Enter');
  await state(page, 'Published');
  check((await text(page, '#summary')).includes('Take the token out.'), 'the summary is hers');
});

test('reject by key, with a reason', async () => {
  await open(page, 'terms');
  await state(page, 'Waiting for a decision');
  await page.keyboard.press('r');
  await page.fill('#reject-text', 'too one-sided');
  await page.keyboard.press('Enter');
  await state(page, 'Rejected');
  check((await text(page, '#notes')).includes('rejected by Ada: too one-sided'), 'the reason is kept');
});

test('travel: an earlier version is shown, and nothing there can be decided', async () => {
  await open(page, 'services-agreement');
  await state(page, 'Published');
  const all = await versions(page);
  await page.keyboard.press('[');
  await page.keyboard.press('[');
  await page.waitForFunction(() => !document.getElementById('past').hidden);
  await page.locator('#timeline button[data-version="2"]').click();
  await state(page, 'Waiting for a decision');
  check(!(await page.locator('#decide').isVisible()), 'no decision in the past');
  check(page.url().endsWith('#services-agreement@2'), 'the address holds the version');
  await shot(page, 'travel');
  await page.keyboard.press('Escape');
  await state(page, 'Published');
  equal(await versions(page), all);
});

test('fork: a copy goes on from an earlier version', async () => {
  await page.locator('#timeline button[data-version="2"]').click();
  await state(page, 'Waiting for a decision');
  await page.keyboard.press('f');
  await page.fill('#fork-name', 'agreement-again');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.getElementById('title').textContent.includes('agreement-again'));
  await state(page, 'Waiting for a decision');
  check((await text(page, '#facts')).includes('services-agreement, version 2'), 'it names where it comes from');
});

test('roll back: refused over a published report, unless forced', async () => {
  await open(page, 'services-agreement');
  await state(page, 'Published');
  const before = (await versions(page)).length;
  await page.locator('#timeline button[data-version="2"]').click();
  await page.waitForFunction(() => !document.getElementById('rollback').disabled);
  await page.keyboard.press('b');
  await page.click('#rollback-yes');
  await page.waitForSelector('#force-part:not([hidden])');
  check(await page.locator('#rollback-yes').isDisabled(), 'it must be agreed to');
  await page.check('#force');
  await page.click('#rollback-yes');
  await page.waitForFunction(() => document.getElementById('past').hidden);
  await state(page, 'Waiting for a decision');
  check((await versions(page)).length > before, 'the journal has grown, not shrunk');
  check((await journal(page)).includes('rolled back'), 'and says so');
});

test('two tabs show one truth', async () => {
  second = await browser.page();
  await role(second, 'reading');
  await second.waitForFunction(
    (count) => document.querySelectorAll('#list li').length === count,
    (await names(page)).length,
  );
  equal(await names(second), await names(page));
  await open(second, 'agreement-again');
  await state(second, 'Waiting for a decision');
  await open(page, 'agreement-again');
  await state(page, 'Waiting for a decision');
  await second.keyboard.press('a');
  await state(second, 'Published');
  await state(page, 'Published');
});

test('two tabs decide at the same moment: one step, and the other is told', async () => {
  await Promise.all([page, second].map((tab) => open(tab, 'terms-2')));
  await Promise.all([page, second].map((tab) => state(tab, 'Waiting for a decision')));
  const before = (await versions(page)).length;
  await Promise.all([page, second].map((tab) => tab.evaluate(() => document.getElementById('approve').click())));
  await Promise.all([page, second].map((tab) => state(tab, 'Published')));
  const events = await journal(page);
  equal(events.filter((event) => event === 'approved').length, 1);
  equal(events.filter((event) => event === 'report written').length, 1);
  equal((await versions(page)).length, before + 2);
  equal(await versions(second), await versions(page));
});

test('the running tab closes: the other takes over; and hands it back when asked', async () => {
  await page.close();
  await role(second, 'running');
  page = await browser.page();
  await role(page, 'reading');
  await page.click('#take-over');
  await role(page, 'running');
  await role(second, 'reading');
  await open(second, 'second-terms');
  await state(second, 'Waiting for a decision');
  check(await second.locator('#diagram').isVisible(), 'it is usable');
});

test('the browser is killed: everything is back, and goes on', async () => {
  const before = [await names(page), await page.locator('#list .sub').allInnerTexts()];
  await open(page, 'second-terms');
  await state(page, 'Waiting for a decision');
  const blocks = await versions(page);
  check(browser.faults.length === 0, `faults in the pages: ${browser.faults.join('\n')}`);
  await browser.kill();
  await launch();
  page = await browser.page(`${url}#second-terms`);
  await role(page, 'running');
  await state(page, 'Waiting for a decision');
  equal([await names(page), await page.locator('#list .sub').allInnerTexts()], before);
  equal(
    (await versions(page)).filter((version) => version <= blocks[0]),
    blocks,
  );
  await page.keyboard.press('a');
  await state(page, 'Published');
});

test('without the server: the page opens, draws, and works', async () => {
  await drawn(page);
  await page.waitForFunction(async () => {
    // what has been loaded is being kept
    const loaded = performance.getEntriesByType('resource').map(({ name }) => name);
    const mine = loaded.filter((name) => new URL(name).origin === location.origin);
    return (await Promise.all(mine.map((name) => caches.match(name)))).every(Boolean);
  });
  await server.close();
  await page.reload();
  await role(page, 'running');
  await state(page, 'Published');
  await drawn(page);
  await drop(page, [['offline.txt', risky]]);
  await page.waitForFunction(() => document.getElementById('title').textContent === 'offline.txt');
  await state(page, 'Waiting for a decision');
  await page.keyboard.press('a');
  await state(page, 'Published');
  const [saved] = await Promise.all([page.waitForEvent('download'), page.click('#export')]); // never loaded until now
  equal(saved.suggestedFilename(), 'offline.pagent');
  browser.faults = []; // the browser reports each file that the network did not have
  server = await serve(port);
});

test('export and import', async () => {
  if (await page.locator('#export').isDisabled()) {
    check((await text(page, '#export-note')).includes('cannot export yet'), 'the page says why');
    throw Object.assign(new Error('the engine cannot export yet'), { skip: true });
  }
  const [saved] = await Promise.all([page.waitForEvent('download'), page.click('#export')]);
  const file = join(profile, 'journal.pagent');
  await saved.saveAs(file);
  await page.evaluate(() => {
    document.querySelector('.settings').open = true;
  });
  const before = (await names(page)).length;
  await page.setInputFiles('#import-file', file);
  await page.waitForSelector('#fork-dialog[open]'); // it was not moved out: a fork of it
  equal(await page.inputValue('#fork-name'), 'journal-copy');
  await page.click('#fork-dialog .main');
  await page.waitForFunction((count) => document.querySelectorAll('#list li').length === count + 1, before);
  await page.waitForFunction(() => location.hash === '#journal-copy');
  check((await journal(page)).length > 0, 'its journal is shown');
});

test('dark, and on a phone', async () => {
  const dark = await browser.page(`${url}#second-terms`, { dark: true });
  await open(dark, 'picnic');
  await open(dark, 'services-agreement');
  await state(dark, 'Waiting for a decision');
  await shot(dark, 'desktop-dark');
  await dark.close();
  for (const night of [false, true]) {
    const phone = await browser.page(`${url}#services-agreement`, { width: 360, height: 740, dark: night });
    await state(phone, 'Waiting for a decision');
    await shot(phone, `phone-${night ? 'dark' : 'light'}`);
    const wide = await phone.evaluate(() => document.documentElement.scrollWidth);
    check(wide <= 360, `it scrolls sideways: ${wide}`);
    await shot(phone, `phone-${night ? 'dark' : 'light'}-top`, false);
    await open(phone, 'services-agreement');
    await phone.waitForFunction(() => scrollY > 0);
    await shot(phone, `phone-${night ? 'dark' : 'light'}-document`, false);
    await phone.locator('#machine-title').evaluate((element) => element.scrollIntoView());
    await shot(phone, `phone-${night ? 'dark' : 'light'}-machine`, false);
    await phone.locator('#journal-title').evaluate((element) => element.scrollIntoView());
    await shot(phone, `phone-${night ? 'dark' : 'light'}-journal`, false);
    await phone.close();
  }
});

test('every control has a name, in both colour schemes text has contrast', async () => {
  for (const [dark, at] of [
    [false, ''],
    [true, ''],
    [false, '@2'],
    [true, '@2'],
  ]) {
    const tab = await browser.page(`${url}#services-agreement${at}`, { dark });
    await state(tab, 'Waiting for a decision');
    const poor = await tab.evaluate(() => {
      const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
      const light = ([r, g, b]) =>
        [r, g, b]
          .map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
          .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
      const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
          const colour = parse(getComputedStyle(at).backgroundColor);
          if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
      };
      const found = [];
      for (const element of document.querySelectorAll('body *:not(script, noscript, option)')) {
        if (
          element.closest('svg, dialog, :disabled, [hidden], .toast, noscript') ||
          element.matches('kbd') ||
          !element.checkVisibility()
        )
          continue;
        if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== '')) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5)
          found.push(`${element.tagName}.${element.className} ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
      }
      for (const control of document.querySelectorAll('button, input, select, textarea')) {
        if (!control.innerText?.trim() && !control.getAttribute('aria-label') && !control.labels?.length)
          found.push(`no name: ${control.id}`);
      }
      return found;
    });
    equal(poor, []);
    await tab.close();
  }
});

const count = { passed: 0, failed: 0, skipped: 0 };
await launch();
try {
  for (const [name, body] of tests) {
    try {
      await body();
      if (browser.faults.length !== 0)
        throw new Error(
          `faults in the pages: ${browser.faults
            .splice(0)
            .map((error) => error.stack)
            .join('\n')}`,
        );
      count.passed++;
      console.log(`ok ${name}`);
    } catch (error) {
      if (error.skip) {
        count.skipped++;
        console.log(`skipped ${name}: ${error.message}`);
        continue;
      }
      count.failed++;
      console.log(`FAILED ${name}\n  ${error.stack.split('\n').slice(0, 6).join('\n  ')}`);
      if (page && !page.isClosed())
        await page.screenshot({ path: join(shots, `failed-${count.failed}.png`) }).catch(() => {});
    }
  }
} finally {
  await browser.kill().catch(() => {});
  await server.close();
  writeFileSync(join(shots, 'result.txt'), `${JSON.stringify(count)}\n`);
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
process.exit(count.failed === 0 ? 0 : 1);
