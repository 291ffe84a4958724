// What a kill leaves of Chromium's IndexedDB, which is a LevelDB: whether its log ends in a torn record.
//
// Chromium writes a record's header and its data one after the other. A kill between the two leaves the header alone, and
// nothing acknowledged is lost by that: the next opening reads up to there. But then it writes on behind the tear, in the
// same log. The opening after that one takes the tear for damage, and Chromium deletes the database, whatever it held (seen
// with Chromium 156). So after a torn kill a test may open the database once more, and must not go on with a third one.

import { appendFileSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const BLOCK = 32768,
  HEADER = 7; // crc:4 size:2 type:1

/** The newest of the files that Chromium goes on writing after a restart. */
function newest(profile, pattern) {
  const folder = join(profile, 'Default/IndexedDB');
  const database = readdirSync(folder).find((name) => name.endsWith('.leveldb'));
  const files = readdirSync(join(folder, database)).filter((name) => pattern.test(name));
  return join(folder, database, files.sort().at(-1));
}

/** Whether something stands behind the last whole record. The browser must have ended. */
export const torn = (profile) => [/\.log$/, /^MANIFEST-/].some((pattern) => behind(newest(profile, pattern)) !== 0);

function behind(file) {
  const bytes = readFileSync(file);
  let at = 0;
  while (at < bytes.length) {
    const left = BLOCK - (at % BLOCK);
    if (left < HEADER) at += left;
    else {
      const next = at + HEADER + (at + HEADER <= bytes.length ? bytes.readUInt16LE(at + 4) : 0);
      if (next > bytes.length) return bytes.length - at;
      at = next;
    }
  }
  return 0;
}

/** Leaves what such a kill leaves: a header without its data. */
export function tear(profile) {
  appendFileSync(newest(profile, /\.log$/), Uint8Array.of(1, 2, 3, 4, 200, 0, 1));
}
