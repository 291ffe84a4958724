// The engine over IndexedDB under what only a driver can do: closed pages, two tabs, a killed browser, a full disk.

import { until } from '../../within.mjs';
import { tear, torn } from '../leveldb.mjs';

const module = '/test/browser/parts/engine.mjs';

export const tests = {
  async 'pages close in the middle of a life, the next one goes on'(t) {
    const browser = await t.launch();
    let page;
    const on = async (what) => {
      await page?.close();
      page = await browser.page(t.url);
      return page.call(module, what, 'life');
    };
    const asking = await on('setOut');
    t.equal([asking.state, asking.context.plan], ['asking', 'Walk to Rome.']);
    t.equal((await on('approveAndGo')).state, 'napping', 'approved in another page');
    const [hanging] = await on('hangInPayment'); // after the timer of the page before
    t.equal([hanging.attempt, hanging.repeated], [1, false]);
    const { view, calls, events } = await on('arrive');
    t.equal(
      calls.map(({ key, attempt, repeated }) => [key, attempt, repeated]),
      [[hanging.key, 2, true]],
      'the same call, once more',
    );
    t.equal([view.status, view.context.receipt, view.context.who], ['done', 'paid', 'Bea']);
    t.equal(events, ['model.result', 'plan.approved', 'nap.timer', 'pay.result'], 'each once');
  },

  async 'two tabs on one agent: one wins, the other is fenced, nothing is lost or doubled'(t) {
    if (t.kind === 'webkit') t.skip('the driver gives one page a session');
    const browser = await t.launch(),
      tabs = [await browser.page(t.url), await browser.page(t.url)],
      rounds = 4;
    const [one, two] = await Promise.all(tabs.map((tab, i) => tab.call(module, 'contend', 'contend', rounds, i + 1)));
    for (let round = 0; round < rounds; round++) {
      t.equal([one.ends[round], two.ends[round]].sort(), ['fenced', 'won'], `round ${round}`);
    }
    const entries = await tabs[0].call(module, 'ledgerOf', 'contend');
    t.equal([...entries].sort(), [...one.acked, ...two.acked].sort(), 'what was acknowledged, each once');
    console.log(
      `        ${entries.length} posts; tab 1 won ${one.ends.filter((end) => end === 'won').length} of ${rounds} rounds`,
    );
  },

  async 'two tabs run the same agents: no step is doubled'(t) {
    if (t.kind === 'webkit') t.skip('the driver gives one page a session');
    const browser = await t.launch(),
      tabs = [await browser.page(t.url), await browser.page(t.url)],
      count = 5,
      limit = 40;
    const both = await Promise.all(
      tabs.map((tab, i) => tab.call(module, 'runTogether', 'together', count, limit, i + 1)),
    );
    for (const { found } of both)
      t.equal(found, Array(count).fill([limit, 0, limit]), 'answers counted, out of order, in the history');
    console.log(`        calls begun: ${both.map(({ begun }) => begun)}; steps: ${count * limit}`);
  },

  async 'SIGKILL in the middle of steps: nothing acknowledged is lost, nothing is doubled'(t) {
    if (t.kind === 'webkit') t.skip('its automation sessions are ephemeral: no profile survives');
    const count = 5,
      name = 'kill';
    let rounds = t.long ? 5 : 2,
      added = -1,
      answered = {},
      id;
    for (let round = 0; round <= rounds; round++) {
      const browser = await t.launch(),
        page = await browser.page(t.url);
      const found = await page.call(module, 'survey', name, count);
      id ??= found.id;
      t.equal(found.id, id, `round ${round}: the database, of which ${added + 1} posts were acknowledged`);
      t.check(
        found.entries.length >= added + 1,
        `round ${round}: ${added + 1} posts were acknowledged, found ${found.entries.length}`,
      );
      t.equal(
        found.entries,
        Array.from(found.entries, (_, i) => `${i}`),
        'each once, in order',
      );
      t.equal(found.wrong, 0, 'answers out of order');
      for (const [agent, steps] of Object.entries(answered)) {
        t.check(found.answered[agent] >= steps, `${agent}: ${steps} steps were seen, found ${found.answered[agent]}`);
      }
      if (round === rounds) {
        console.log(`        ${found.entries.length} posts, ${Object.values(found.answered)} steps`);
        await browser.close();
        break;
      }
      await page.call(module, 'workForEver', name, added + 1, count); // what was in doubt is sent again
      const before = added,
        end = Date.now() + 600 + round * 210;
      while (Date.now() < end || added === before) {
        if (Date.now() > end + 120_000) throw new Error('nothing was acknowledged');
        const acks = await page.call(module, 'acknowledged');
        added = Math.max(added, acks.added);
        answered = { ...answered, ...acks.answered };
      }
      await browser.kill();
      if (t.kind === 'chromium' && torn(t.profile)) {
        console.log(
          `        after kill ${round + 1} its log ends torn: opened once more, not killed again (see leveldb.mjs)`,
        );
        rounds = round + 1;
      }
    }
  },

  async "a kill that tears Chromium's log: what was acknowledged is there at the next opening"(t) {
    if (t.kind !== 'chromium') t.skip('the log is that of Chromium');
    let found = [],
      added = -1;
    for (let opening = 0; opening < 3; opening++) {
      const browser = await t.launch(),
        page = await browser.page(t.url);
      const { entries } = await page.call(module, 'survey', 'torn', 1);
      if (opening < 2) t.check(entries.length > added, `${added + 1} posts were acknowledged, found ${entries.length}`);
      found.push(entries.length);
      if (opening < 2) {
        await page.call(module, 'workForEver', 'torn', entries.length, 1);
        const wanted = added + 20;
        await until(async () => {
          added = Math.max(added, (await page.call(module, 'acknowledged')).added);
          return added >= wanted;
        }, '20 more acknowledged');
      }
      await browser.kill();
      if (opening === 0 && !torn(t.profile)) tear(t.profile);
    }
    console.log(`        at the opening after that: ${found[2]} of ${added + 1} (see leveldb.mjs)`);
  },

  async 'quota: E_NO_SPACE, and then on'(t) {
    if (t.kind === 'webkit') t.skip('its driver cannot set a quota');
    const limit = (kib) => ({ preferences: { 'dom.quotaManager.temporaryStorage.fixedLimit': kib } }); // Firefox's
    let browser = await t.launch(limit(30 << 10)),
      page = await browser.page(t.url);
    await page.quota?.(6 << 20);
    const full = await page.call(module, 'fillUp', 'quota', 600);
    t.equal([full.refused, full.counted], ['E_NO_SPACE', full.fills]);
    t.check(full.fills > 0, 'some fitted');
    await page.quota?.(undefined);
    if (t.kind === 'firefox') {
      await browser.close();
      browser = await t.launch(limit(300 << 10));
      page = await browser.page(t.url);
    }
    const on = await page.call(module, 'goOn', 'quota', t.kind === 'firefox');
    t.equal(on, { fills: full.fills + 1, receipt: 'paid for "Walk to Rome."' });
    console.log(`        full after ${full.fills} posts of 50 KB`);
  },
};
