// What the benches share: rounds that take turns, medians, and the table that tests/bench.c prints, too. Every number
// stands beside a floor measured in the same run, and is judged by the median of the ratios, pair by pair.
// The same file runs in pages and in workerd.

export const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** Medians of both, and of the ratios pair by pair. */
export const compared = ({ ours, theirs }) => ({
  ours: median(ours),
  theirs: median(theirs),
  ratio: median(ours.map((value, i) => value / theirs[i])),
});

/** Values of two measurements, or of promises of them, that take turns: a b, b a, a b … after one of each as a warm-up. */
export async function takeTurns(rounds, ours, theirs) {
  const values = { ours: [], theirs: [] };
  await ours();
  await theirs();
  for (let round = 0; round < rounds; round++) {
    for (const first of [round % 2 === 0, round % 2 !== 0]) {
      if (first) values.ours.push(await ours());
      else values.theirs.push(await theirs());
    }
  }
  return values;
}

/** How often `step` is done in a second, for about `ms`. */
export async function rate(step, ms) {
  const start = performance.now();
  let count = 0,
    now;
  do {
    await step();
    count++;
    now = performance.now();
  } while (now - start < ms);
  return (count * 1000) / (now - start);
}

/** Words of a command line: --name=value, and the one that filters. */
export function words(options) {
  let filter = '';
  for (const word of process.argv.slice(2)) {
    const [, name, value] = /^--(\w+)=(.*)$/.exec(word) ?? [];
    if (name) options[name] = value;
    else filter = word;
  }
  return { ...options, filter };
}

const HEAD = {
  what: 'what',
  measured: 'measured',
  floor: 'floor, in the same run',
  result: 'result',
  bar: 'must reach',
};
const COLUMNS = ['what', 'measured', 'floor', 'result', 'bar', 'verdict'];
const LEAST = [66, 16, 44, 9, 18, 0]; // so that the tables of several benches stand in line

export class Table {
  #lines = [];
  #notes = [];
  #trouble = 0;

  /** `value` is judged: at most `most`, at least `least`, or by neither. */
  line({ what, measured, floor = '', value, result = `${value.toFixed(2)} ×`, least, most, bar = '' }) {
    const missed = least !== undefined ? 1 - value / least : most !== undefined ? value / most - 1 : 0;
    const verdict =
      least === undefined && most === undefined
        ? ''
        : missed > 0
          ? `MISSED by ${(missed * 100).toFixed(missed < 0.1 ? 1 : 0)} %`
          : 'met';
    this.#lines.push({ what, measured, floor, result, bar, verdict });
  }

  note(text) {
    this.#notes.push(text);
  }

  skip(what, why) {
    this.#notes.push(`skipped ${what}: ${why}`);
  }

  fail(what, error) {
    this.#trouble++;
    this.#notes.push(`FAILED ${what}: ${error.stack ?? error}`);
  }

  /** The exit code: a bar that is missed is no failure. */
  print(title) {
    const rows = [{ ...HEAD, verdict: '' }, ...this.#lines];
    const width = COLUMNS.map((name, i) => Math.max(LEAST[i], ...rows.map((row) => row[name].length)));
    const show = (cells) =>
      console.log(
        cells
          .map((cell, i) => cell.padEnd(width[i]))
          .join('  ')
          .trimEnd(),
      );
    console.log(`\n${title}\n`);
    rows.forEach((row, i) => {
      show(COLUMNS.map((name) => row[name]));
      if (i === 0) show(width.map((count) => '-'.repeat(count)));
    });
    if (this.#notes.length !== 0) console.log('');
    for (const note of this.#notes) console.log(`  ${note}`);
    return this.#trouble === 0 ? 0 : 1;
  }
}
