// The OPFS store under what only a driver can do: a killed browser, a full quota, its files read by a native program.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const module = '/test/browser/parts/opfs.mjs';
const root = fileURLToPath(new URL('../../../..', import.meta.url));

let program;
/** Once for all browsers. */
function compiled() {
  if (program === undefined) {
    const folder = mkdtempSync(join(tmpdir(), 'persistent-agent-ctl-'));
    process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
    execFileSync(process.env.CC ?? 'cc', ['-O1', '-o', join(folder, 'pagentctl'), join(root, 'examples/pagentctl.c')]);
    program = join(folder, 'pagentctl');
  }
  return program;
}

const supported = async (t, page) => {
  if (!(await page.call(module, 'supported'))) t.skip('no file handles in workers here');
};

export const tests = {
  async 'SIGKILL in the middle of appends: nothing acknowledged is lost'(t) {
    if (t.kind === 'webkit') t.skip('its automation sessions are ephemeral: no profile survives');
    const rounds = t.long ? 6 : 2;
    let known = {};
    for (let round = 0; round <= rounds; round++) {
      const browser = await t.launch(),
        page = await browser.page(t.url);
      if (round === 0) await supported(t, page);
      await page.call(module, 'begin', 'open', 'kill', { waitMs: 120000, segmentSize: 50000 });
      const found = await page.call(module, 'run', 'versions');
      for (const [agent, version] of Object.entries(known)) {
        t.check(found[agent] >= version, `${agent}: version ${version} was acknowledged, found ${found[agent]}`);
      }
      known = found;
      if (round === rounds) {
        await page.call(module, 'run', 'close');
        await browser.close();
        break;
      }
      await page.call(module, 'run', 'appendForEver', round % 2 === 0 ? 1 : 10);
      const end = Date.now() + 700 + round * 230;
      while (Date.now() < end || Object.keys(known).length === 0) {
        if (Date.now() > end + 120_000) throw new Error('nothing was acknowledged');
        known = { ...known, ...(await page.call(module, 'acknowledged')) };
      }
      await browser.kill();
    }
    console.log(`        ${Object.values(known).reduce((sum, version) => sum + version, 0)} appends`);
  },

  async 'a full quota is E_NO_SPACE, and passes'(t) {
    if (t.kind !== 'chromium') t.skip('only Chromium lets a driver set a quota');
    const browser = await t.launch(),
      page = await browser.page(t.url);
    await page.call(module, 'begin', 'open', 'quota', {}, { retryPauseMs: 20 });
    await page.call(module, 'run', 'add', 'a', 3);
    const usage = await page.call(module, 'usage');
    await page.quota(usage + (3 << 20));
    await t.throws(page.call(module, 'run', 'add', 'a', 4000, 'q'.repeat(20000)), /E_NO_SPACE/);
    const { count } = await page.call(module, 'run', 'look', 'a');
    t.check(count > 3, `after ${count}`);
    await page.quota(undefined);
    await page.call(module, 'run', 'add', 'a', 20, 'q'.repeat(20000));
    t.equal((await page.call(module, 'run', 'look', 'a')).count, count + 20);
    await page.call(module, 'run', 'close');
    await page.call(module, 'run', 'open', 'quota');
    t.equal((await page.call(module, 'run', 'look', 'a')).count, count + 20);
  },

  async 'its files are a native store'(t) {
    if (t.kind === 'webkit') t.skip('it has no OPFS');
    const browser = await t.launch(),
      page = await browser.page(t.url);
    await supported(t, page);
    await page.call(module, 'begin', 'open', 'native', { segmentSize: 20000 });
    await page.call(module, 'run', 'add', 'a', 120);
    await page.call(module, 'run', 'add', 'b', 30);
    await page.call(module, 'run', 'close');
    await page.call(module, 'run', 'open', 'native');
    const files = await page.call(module, 'run', 'base64'),
      store = join(t.profile, 'native-store');
    await page.call(module, 'run', 'close');
    await browser.close();
    mkdirSync(store);
    for (const [name, text] of files) writeFileSync(join(store, name), Buffer.from(text, 'base64'));
    const program = compiled();
    t.equal(execFileSync(program, [store, 'verify'], { encoding: 'utf8' }).includes('clean'), true);
    const agents = execFileSync(program, [store, 'list', '--json'], { encoding: 'utf8' });
    t.check(agents.includes('"a"') && agents.includes('"b"'), agents);
  },
};
