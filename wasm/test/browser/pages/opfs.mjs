// The OPFS store, in dedicated workers of one page.

import { Actor, supported } from '../parts/opfs.mjs';

const pause = (ms) =>
  new Promise((done) => {
    setTimeout(done, ms);
  });

let number = 0;
const fresh = () => `opfs-${Date.now()}-${++number}`;

/** Gives the test an actor and a path; ends all actors made with `actor()`. */
const withActor = (body) => async (t) => {
  if (!(await supported())) t.skip('no file handles in workers here');
  const actors = [];
  const actor = () => {
    actors.push(new Actor());
    return actors.at(-1);
  };
  try {
    await body(t, actor(), fresh(), actor);
  } finally {
    for (const each of actors) each.end();
  }
};

const code = async (promise) =>
  promise.then(
    () => 'OK',
    (error) => error.code,
  );

export const tests = Object.fromEntries(
  Object.entries({
    async 'agents are there again'(t, worker, path) {
      t.equal(await worker.run('open', path), []);
      t.equal(await worker.run('facts'), { durability: 'process', readOnly: false });
      t.equal(await worker.run('add', 'a', 50), 51);
      await worker.run('close');
      t.equal(await worker.run('open', path), []);
      t.equal(await worker.run('look', 'a'), { version: 51, count: 50, entries: 50, state: 'counting' });
      await worker.run('add', 'a', 1);
      t.equal(await worker.run('versions'), { a: 52 });
      await worker.run('close');
    },

    async 'one worker owns the folder'(t, worker, path, actor) {
      await worker.run('open', path);
      const other = actor();
      t.equal(await code(other.run('open', path)), 'E_LOCKED');
      t.equal(await code(worker.run('open', path)), 'E_LOCKED', 'nor a second store of the same worker');
      t.equal(await code(other.run('open', path, { readOnly: true })), 'E_LOCKED', 'nor a reader');
    },

    async "it is another's after close, and after the end of the worker"(t, worker, path, actor) {
      await worker.run('open', path);
      await worker.run('add', 'a', 3);
      await worker.run('close');
      const other = actor();
      await other.run('open', path);
      t.equal((await other.run('look', 'a')).count, 3);
      other.end();
      await worker.run('open', path, { waitMs: 120000 });
      t.equal((await worker.run('look', 'a')).count, 3);
      await worker.run('close');
    },

    async 'terminated in the middle of appends: nothing acknowledged is lost'(t, worker, path, actor) {
      let known = {};
      for (let round = 0; round < 6; round++) {
        const current = round === 0 ? worker : actor();
        await current.run('open', path, { waitMs: 120000, segmentSize: 20000 });
        const found = await current.run('versions');
        for (const [agent, version] of Object.entries(known))
          t.check(found[agent] >= version, `${agent}: ${version} was acknowledged, ${found[agent]} found`);
        await current.run('appendForEver', 3);
        const end = Date.now() + 150 + 61 * round;
        while (Date.now() < end || Object.keys(current.acknowledged).length < 3) await pause(5);
        current.end();
        known = { ...found, ...current.acknowledged };
      }
      t.check(Object.values(known).reduce((sum, version) => sum + version, 0) > 50, 'it got somewhere');
    },

    async 'a log for each agent: the pool grows with them'(t, worker, path) {
      const agents = 24, // Firefox syncs its disk several times for each file that is opened or closed
        options = { logPerAgent: true, reserve: 2 };
      await worker.run('open', path, options);
      t.equal(await worker.run('createAll', agents), agents);
      t.equal((await worker.run('files')).length, agents);
      let before = 0,
        pool = await worker.run('poolSize', path);
      while (pool > before && pool <= 3 * agents) {
        before = pool; // it may be growing still
        await pause(500);
        pool = await worker.run('poolSize', path);
      }
      t.check(pool <= 3 * agents, `${pool} files in the pool for ${agents}`);
      await worker.run('close');
      await worker.run('open', path, options);
      t.equal(Object.keys(await worker.run('versions')).length, agents);
      await worker.run('close');
      t.equal(await code(worker.run('open', path)), 'E_ARGUMENT', 'it has a log for each agent');
    },

    async 'a pool that cannot grow is an error, in the end'(t, worker, path) {
      const options = { logPerAgent: true, reserve: 2 };
      await worker.run('open', path, options, { retryPauseMs: 10 });
      await worker.run('createAll', 2);
      for (const [i, name] of ['NoModificationAllowedError', 'UnknownError'].entries()) {
        await worker.run('refuse', name);
        const found = await code(worker.run('createAll', 20, 100 * (i + 1)));
        t.check(/^E_(STORAGE|IN_DOUBT)$/.test(found), `${name}: ${found}`);
        await worker.run('mend');
        await worker.run('close').catch(() => worker.run('closeStore'));
        await worker.run('open', path, options, { retryPauseMs: 10 });
        t.equal(Object.keys(await worker.run('versions')).length >= 2, true);
      }
      await worker.run('close');
    },

    async 'a browser that never answers is an error'(t, worker, path) {
      await worker.run('refuse');
      const error = await t.throws(worker.run('open', path), /has not answered/);
      t.equal(error.code, 'E_STORAGE');
      await worker.run('mend');
      await worker.run('open', path);
      await worker.run('close');
    },

    async 'segments follow each other; trim gives their files back'(t, worker, path) {
      const limits = { fullSnapshots: true, snapshotFloor: 1000 };
      await worker.run('open', path, { segmentSize: 8192, reserve: 2 }, limits);
      await worker.run('add', 'a', 200, 'y'.repeat(200));
      const before = (await worker.run('files')).length;
      t.check(before > 4, `${before} segments`);
      const gone = await worker.run('trim');
      t.check(gone > 0, `${gone} gone`);
      t.equal((await worker.run('files')).length < before, true);
      await worker.run('add', 'a', 100, 'z'.repeat(200));
      const most = Math.max(before, (await worker.run('files')).length);
      await worker.run('close');
      const pool = await worker.run('poolSize', path);
      t.check(pool <= 2 * most, `${pool} files in the pool for ${most}`);
      await worker.run('open', path, { segmentSize: 8192, reserve: 2 }, limits);
      t.equal((await worker.run('look', 'a')).count, 300);
      await worker.run('close');
    },

    async 'a torn header leaves what its other half says'(t, worker, path) {
      await worker.run('open', path);
      await worker.run('add', 'a', 5);
      await worker.run('close');
      const name = 'log.00000001';
      for (const half of [4096, 0]) {
        await worker.run('spoil', path, name, [{ at: half + 30, bytes: [1, 2, 3] }]);
        t.equal(await worker.run('open', path), [], `half ${half}`);
        t.equal((await worker.run('look', 'a')).count, 5);
        await worker.run('close');
      }
    },

    async 'a header that is lost is an error, and changes nothing'(t, worker, path) {
      await worker.run('open', path);
      await worker.run('add', 'a', 5);
      await worker.run('close');
      await worker.run('spoil', path, 'log.00000001', [
        { at: 4096 + 40, bytes: [9] },
        { at: 40, bytes: [9] },
      ]);
      t.equal(await code(worker.run('open', path)), 'E_CORRUPT');
      t.equal(await code(worker.run('open', path)), 'E_CORRUPT', 'again');
    },

    async 'of two files with one name the newer one counts'(t, worker, path) {
      await worker.run('open', path);
      await worker.run('add', 'a', 5);
      await worker.run('close');
      await worker.run('twin', path, 'log.00000001', [1, 2, 3, 4]);
      t.equal(await worker.run('open', path), []);
      t.equal((await worker.run('look', 'a')).count, 5);
      t.equal(
        (await worker.run('files')).map(({ name }) => name),
        ['log.00000001'],
      );
      await worker.run('close');
      t.equal(await worker.run('open', path), [], 'and it is free for good');
      await worker.run('close');
    },

    async 'a torn tail is told, and cut off'(t, worker, path) {
      await worker.run('open', path);
      await worker.run('add', 'a', 5, 'w'.repeat(1000));
      await worker.run('closeStore'); // as a crash: no seal
      const zeros = Array.from({ length: 300 }, () => 0);
      const fresh = new Actor();
      try {
        await fresh.run('open', path, { waitMs: 120000 });
        await fresh.run('add', 'a', 1, 'w'.repeat(1000));
        await fresh.run('closeStore');
        fresh.end();
        const last = await worker.run('tail', path, 'log.00000002');
        await worker.run('spoil', path, 'log.00000002', [{ at: last, bytes: zeros }]);
        const found = await worker.run('open', path, { waitMs: 120000 });
        t.equal(
          found.map(({ damage, file }) => [damage, file]),
          [['torn', 'log.00000002']],
        );
        t.check(found[0].bytes > 0, 'with its bytes');
        t.equal((await worker.run('look', 'a')).count, 5);
        t.equal(
          await worker
            .run('add', 'a', 1)
            .then(() => worker.run('look', 'a'))
            .then(({ count }) => count),
          6,
        );
        await worker.run('close');
      } finally {
        fresh.end();
      }
    },

    async 'short reads and writes'(t, worker, path) {
      await worker.run('shorten');
      await worker.run('open', path, { segmentSize: 16384 });
      await worker.run('add', 'a', 60, 'v'.repeat(500));
      await worker.run('close');
      t.equal(await worker.run('open', path, { segmentSize: 16384 }), []);
      t.equal((await worker.run('look', 'a')).count, 60);
      await worker.run('close');
      await worker.run('mend');
      t.equal(await worker.run('open', path), []);
      t.equal((await worker.run('look', 'a')).count, 60);
      await worker.run('close');
    },

    async 'a full quota is E_NO_SPACE, and passes'(t, worker, path) {
      await worker.run('open', path, {}, { retryPauseMs: 10 });
      const first = await worker.run('add', 'a', 3);
      await worker.run('fill', 3000);
      t.equal(await code(worker.run('add', 'a', 100, 'u'.repeat(1000))), 'E_NO_SPACE');
      const { count } = await worker.run('look', 'a');
      await worker.run('mend');
      await worker.run('add', 'a', 100, 'u'.repeat(1000));
      t.equal((await worker.run('look', 'a')).count, count + 100);
      await worker.run('close');
      t.equal(await worker.run('open', path), []);
      t.equal((await worker.run('look', 'a')).count, count + 100);
      t.check(first === 4, 'before');
      await worker.run('close');
    },

    async 'readers write nothing'(t, worker, path, actor) {
      t.equal(await code(worker.run('open', path, { readOnly: true })), 'E_NOT_FOUND', 'nothing there');
      await worker.run('open', path);
      await worker.run('add', 'a', 2);
      await worker.run('close');
      await worker.run('open', path, { readOnly: true });
      t.equal((await worker.run('look', 'a')).count, 2);
      t.equal(await code(worker.run('add', 'a', 1)), 'E_READ_ONLY');
      const other = actor();
      const second = await code(other.run('open', path, { readOnly: true }));
      t.check(second === 'OK' || second === 'E_LOCKED', second); // as the browser knows such handles
      await worker.run('close');
    },

    async 'options that are not known'(t, worker, path) {
      t.equal(await code(worker.run('open', path, { logPerAgents: true })), 'E_ARGUMENT');
      t.equal(await code(worker.run('open', path, { reserve: 0 })), 'E_ARGUMENT');
      await worker.run('open', path);
      await worker.run('close');
    },
  }).map(([name, body]) => [name, withActor(body)]),
);
