// The IndexedDB store under what only a driver can do: two tabs, a killed browser, a full disk.

import { torn } from '../leveldb.mjs';

const module = '/test/browser/parts/indexeddb.mjs';

export const tests = {
  async 'two tabs on one head: exactly one winner a round'(t) {
    if (t.kind === 'webkit') t.skip('the driver gives one page a session');
    const browser = await t.launch(),
      tabs = [await browser.page(t.url), await browser.page(t.url)];
    const rounds = 300,
      name = 'race';
    const won = await Promise.all(tabs.map((tab, i) => tab.call(module, 'race', name, rounds, i + 1)));
    t.equal(
      won.flat().sort((a, b) => a - b),
      Array.from({ length: rounds }, (_, i) => i + 1),
      'each version was won once',
    );
    console.log(`        the tabs won ${won.map((list) => list.length)}`);
    t.equal(
      await tabs[0].call(module, 'winners', name),
      Array.from({ length: rounds }, (_, i) => (won[0].includes(i + 1) ? 1 : 2)),
      'the blocks are those of the winners',
    );
  },

  async 'a leader that dies is followed'(t) {
    if (t.kind === 'webkit') t.skip('the driver gives one page a session');
    const browser = await t.launch(),
      tabs = [await browser.page(t.url), await browser.page(t.url)];
    await tabs[0].call(module, 'lead', 'followed');
    const next = tabs[1].call(module, 'lead', 'followed');
    t.equal(await Promise.race([next, tabs[1].call(module, 'pause', 200)]), undefined, 'waits');
    await tabs[0].close();
    t.equal(await next, 'leads');
  },

  async 'SIGKILL in the middle of appends: nothing acknowledged is lost'(t) {
    if (t.kind === 'webkit') t.skip('its automation sessions are ephemeral: no profile survives');
    const name = 'kill';
    let rounds = t.long ? 6 : 2,
      known = {},
      doubtful = 0; // stream -> version acknowledged
    for (let round = 0; round <= rounds; round++) {
      const browser = await t.launch(),
        page = await browser.page(t.url);
      const found = await page.call(module, 'verify', name);
      for (const [stream, version] of Object.entries(known)) {
        t.check(found[stream] >= version, `${stream}: version ${version} was acknowledged, found ${found[stream]}`);
        if (found[stream] > version) doubtful++;
      }
      known = found;
      if (round === rounds) {
        await browser.close();
        break;
      }
      await page.call(module, 'appendForEver', name, round % 2 === 0 ? 1 : 20);
      const end = Date.now() + 700 + round * 230;
      let count = 0;
      while (Date.now() < end || count === 0) {
        if (Date.now() > end + 120_000) throw new Error('nothing was acknowledged');
        const acks = await page.call(module, 'acknowledged');
        count = Object.values(acks).reduce((sum, version) => sum + version, 0);
        known = { ...known, ...acks };
      }
      await browser.kill();
      if (t.kind === 'chromium' && torn(t.profile)) {
        console.log(
          `        after kill ${round + 1} its log ends torn: opened once more, not killed again (see leveldb.mjs)`,
        );
        rounds = round + 1;
      }
    }
    console.log(
      `        ${Object.values(known).reduce((sum, version) => sum + version, 0)} appends, ${doubtful} agents went on beyond their last report`,
    );
  },

  async 'quota: no-space, and then on'(t) {
    if (t.kind === 'webkit') t.skip('its driver cannot set a quota');
    const limit = (kib) => ({ preferences: { 'dom.quotaManager.temporaryStorage.fixedLimit': kib } }); // Firefox's
    let browser = await t.launch(limit(30 << 10)),
      page = await browser.page(t.url);
    await page.quota?.(6 << 20); // before the database is opened: Chromium remembers for a while how much room there was
    const full = await page.call(module, 'fill', 'quota', 150);
    t.equal(full.result, 'no-space');
    t.check(full.version > 0 && full.version < 150, `after ${full.version} blocks`);
    t.equal(await page.call(module, 'together', 'quota', full.version), ['no-space', 'no-space'], 'all of a batch');
    t.equal(await page.call(module, 'heads', 'quota'), [full.version], 'definitely not applied');
    await page.quota?.(undefined);
    if (t.kind === 'firefox') {
      await browser.close();
      browser = await t.launch(limit(300 << 10));
      page = await browser.page(t.url);
    }
    t.equal(await page.call(module, 'fill', 'quota', full.version + 10), { result: 'ok', version: full.version + 10 });
    t.equal(await page.call(module, 'heads', 'quota'), [full.version + 10]);
  },
};
