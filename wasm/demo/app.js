// The page: shows what the desk reads, and hands it what a person decides.

import { Desk, report } from './desk.js';
import { compact, draw, mark } from './diagram.js';
import { bytes, eventOf, h, plainly, stateOf, time, toneOf } from './parts.js';
import { ENTRY, DOCUMENT_MAX, riskWord } from './review/machine.js';
import { samples } from './samples.js';

const $ = (id) => document.getElementById(id);
const desk = new Desk();
const documents = new Map(); // by name: the newest view
let chosen; // name of the document that is shown
let version = 0; // of the one shown; 0: newest
let shown; // its view at that version
let blocks = [];

// ---- settings: this tab's own, not the agent's

const settings = {
  who: '',
  threshold: 60,
  deadline: 0,
  keys: true,
  ...JSON.parse(localStorage.getItem('review-settings') ?? '{}'),
};
for (const name of Object.keys(settings)) {
  const field = $(name),
    property = field.type === 'checkbox' ? 'checked' : 'value';
  field[property] = settings[name];
  field.addEventListener('change', () => {
    const value =
      typeof settings[name] === 'number'
        ? Math.round(Math.min(field.max || Infinity, Math.max(field.min || 0, Number(field.value) || 0)))
        : field[property];
    settings[name] = value;
    field[property] = value;
    localStorage.setItem('review-settings', JSON.stringify(settings));
  });
}
const who = () => settings.who.trim() || 'you';

// ---- telling

let fading;
function say(text) {
  $('live').textContent = text;
  $('toast').textContent = text;
  $('toast').classList.add('on');
  clearTimeout(fading);
  fading = setTimeout(() => $('toast').classList.remove('on'), 3500);
}

function fault(error) {
  console.error(error);
  $('fault').textContent = plainly(error);
  $('fault').hidden = false;
}

/** Runs what a person asked for; says what was refused. */
const act =
  (work) =>
  async (...words) => {
    try {
      $('fault').hidden = true;
      return await work(...words);
    } catch (error) {
      say(plainly(error));
      void refresh();
      return undefined;
    }
  };

// ---- adding documents

const slug = (name) =>
  name
    .replace(/\.[^.]*$/, '')
    .normalize('NFKD')
    .replace(/[^\w-]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .toLowerCase()
    .slice(0, 60) || 'document';

async function add(files) {
  let first;
  for (const { name, text } of files) {
    if (text === '' || text.length > DOCUMENT_MAX || text.includes('\0')) {
      say(`${name} is ${text === '' ? 'empty' : text.includes('\0') ? 'not a text' : 'over 1 MiB'}: left out`);
      continue;
    }
    const data = { file: name, text, threshold: settings.threshold, deadline: Number(settings.deadline) };
    for (let number = 1; ; number++) {
      const agent = number === 1 ? slug(name) : `${slug(name)}-${number}`;
      try {
        await desk.ask('create', agent, 'review', data, {});
        first ??= agent;
        break;
      } catch (error) {
        if (error.code !== 'E_EXISTS' || number === 99) throw error;
      }
    }
  }
  if (first !== undefined) {
    say(files.length === 1 ? `${files[0].name} added` : `${files.length} documents added`);
    await choose(first);
  }
}

const addFiles = act(async (list) =>
  add(await Promise.all([...list].map(async (file) => ({ name: file.name, text: await file.text() })))),
);
$('files').addEventListener('change', async () => {
  await addFiles($('files').files);
  $('files').value = '';
});
$('samples').addEventListener(
  'click',
  act(() => add(samples)),
);
for (const type of ['dragenter', 'dragover']) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    $('drop').classList.add('over');
  });
}
document.addEventListener('dragleave', (event) => event.relatedTarget === null && $('drop').classList.remove('over'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  $('drop').classList.remove('over');
  if (event.dataTransfer.files.length !== 0) void addFiles(event.dataTransfer.files);
});

// ---- showing

const fileOf = (view) => view.context.file ?? view.name;
const titleOf = (view) => {
  const file = fileOf(view),
    alone = slug(file) === view.name;
  return alone ? file : `${file} (${view.name})`;
};

// The list is by when the documents came. A row is made once, and then follows its document.

const rows = new Map(); // by name: { view, item, button, title, risk, words }
const later = (a, b) => a.created - b.created || (a.name < b.name ? -1 : 1);

function makeRow({ name }) {
  const [title, risk, words] = ['name', 'risk', 'sub'].map((part) => h('span', { class: part }));
  const button = h('button', { type: 'button', 'data-name': name, onclick: () => void pick(name) }, title, risk, words);
  return { item: h('li', {}, button), button, title, risk, words };
}

function showRow(row, view) {
  const [words, tone] = stateOf(view),
    risk = view.context.category === undefined ? '' : String(view.context.risk);
  row.view = view;
  row.title.textContent = titleOf(view);
  row.words.textContent = words;
  row.words.dataset.tone = tone;
  row.risk.title = risk && `Risk ${risk} of 100`;
  row.risk.replaceChildren(...(risk === '' ? [] : [h('span', { class: 'unseen' }, 'risk '), risk]));
}

function showList(views) {
  const made = [];
  for (const view of views) {
    if (!rows.has(view.name)) {
      rows.set(view.name, makeRow(view));
      made.push(rows.get(view.name));
    }
    showRow(rows.get(view.name), view);
  }
  if (made.length !== 0) {
    const newest = $('list').lastElementChild?.firstElementChild.dataset.name;
    made.sort((a, b) => later(a.view, b.view));
    $('list').append(...made.map(({ item }) => item));
    if (newest !== undefined && later(made[0].view, documents.get(newest)) < 0) sortList();
  }
  $('no-documents').hidden = documents.size !== 0;
}

function sortList() {
  const items = [...rows.values()].sort((a, b) => later(a.view, b.view)).map(({ item }) => item);
  items.forEach((item, at) => {
    if ($('list').children[at] !== item) $('list').insertBefore(item, $('list').children[at]);
  });
}

function markList() {
  for (const button of $('list').querySelectorAll('[aria-current]')) {
    if (button.dataset.name !== chosen) button.removeAttribute('aria-current');
  }
  rows.get(chosen)?.button.setAttribute('aria-current', 'true');
}

const lastOf = (view, kind) => view.transcript.findLast((entry) => entry.kind === kind);

function lineLink(line) {
  return h('button', { type: 'button', class: 'line', onclick: () => showLine(line) }, `line ${line}`);
}

function showLine(line) {
  $('source-part').open = true;
  const row = $('source').children[line - 1];
  for (const other of $('source').querySelectorAll('.hit')) other.classList.remove('hit');
  row?.classList.add('hit');
  row?.scrollIntoView({ block: 'center' });
  $('source').focus({ preventScroll: true });
}

function showSummary(view, analysis) {
  const edited = view.context.decision === 'edited' ? lastOf(view, ENTRY.summary)?.text() : undefined;
  const text = edited ?? analysis?.summary;
  if (text === undefined)
    return $('summary').replaceChildren(h('p', { class: 'quiet' }, 'Not there yet at this version.'));
  const lines = text.split('\n').filter((line) => line.trim() !== ''),
    items = lines.every((line) => line.startsWith('- '));
  if (!items) return $('summary').replaceChildren(h('p', {}, text));
  return $('summary').replaceChildren(
    h(
      'ul',
      {},
      ...lines.map((line) => {
        const found = / \(line (\d+)\)$/.exec(line);
        return h(
          'li',
          {},
          line.slice(2, found ? found.index : undefined),
          found ? ' ' : '',
          found ? lineLink(Number(found[1])) : '',
        );
      }),
    ),
  );
}

const approvalOf = (view) => view?.effects.find(({ kind, name }) => kind === 'approval' && name === 'publication');

function showDecision(view) {
  const open = version === 0 && ['approval', 'escalated'].includes(view.state) ? approvalOf(view) : undefined;
  $('decide').hidden = open === undefined;
  if (open === undefined) return;
  const { file } = open.json(),
    until = Number.isFinite(open.deadline) && open.deadline > 0 ? ` Decide until ${time(open.deadline)}.` : '';
  $('decide-text').textContent =
    `The risk is ${view.context.risk}, and from ${view.context.threshold} on a person decides. ` +
    `Approving writes the report ${file}.${until}`;
}

function showSheet(view) {
  const analysis = lastOf(view, ENTRY.analysis)?.json(),
    source = lastOf(view, ENTRY.document)?.json();
  const [words, tone] = stateOf(view),
    { context } = view;
  $('empty').hidden = true;
  $('sheet').hidden = false;
  $('past').hidden = version === 0;
  $('past').textContent =
    version === 0
      ? ''
      : `You are looking at version ${version} of ${blocks.at(-1)?.version ?? version}. Nothing here can be decided; it can be forked or rolled back to.`;
  $('state').textContent = words;
  $('state').dataset.tone = tone;
  $('title').textContent = titleOf(view);
  const facts = [
    ['Risk', analysis && `${context.risk} of 100, ${riskWord(context.risk)}`],
    ['Category', context.category],
    ['Length', context.words !== undefined && `${context.words} words`],
    ['Decided by', context.who],
    ['Forked from', view.parent && `${view.parent.agent}, version ${view.parent.version}`],
    ['Version', String(view.version)],
  ];
  $('facts').replaceChildren(
    ...facts.filter(([, value]) => value).map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))),
  );
  showDecision(view);
  $('error').hidden = view.error === undefined;
  $('error').textContent = view.error?.text ?? '';
  showSummary(view, analysis);
  const passages = analysis?.passages ?? [];
  $('passages').replaceChildren(
    ...passages.map(({ kind, line, score, reason, quote }) =>
      h(
        'li',
        {},
        h(
          'span',
          { class: 'score', 'data-tone': toneOf(score) },
          h('span', { class: 'unseen' }, 'risk '),
          String(score),
        ),
        h(
          'div',
          {},
          h('span', { class: 'kind' }, kind),
          ' ',
          lineLink(line),
          h('p', { class: 'why' }, reason),
          h('blockquote', {}, quote),
        ),
      ),
    ),
  );
  if (passages.length === 0)
    $('passages').append(
      h('p', { class: 'quiet' }, analysis ? 'Nothing stood out.' : 'Not there yet at this version.'),
    );
  const notes = view.transcript.filter(({ kind }) => kind === ENTRY.note).map((entry) => entry.text());
  $('notes-part').hidden = notes.length === 0;
  $('notes').replaceChildren(...notes.map((note) => h('li', {}, note)));
  const action = view.effects.find(({ name }) => name === 'publication' || name === 'publish');
  $('action-part').hidden = action === undefined;
  $('action').textContent = action?.json().text ?? '';
  const key = `${view.name} ${source?.text.length}`;
  if ($('source').dataset.key !== key) {
    $('source').dataset.key = key;
    $('source').replaceChildren(
      ...(source?.text ?? '')
        .replace(/\n$/, '')
        .split('\n')
        .map((line) => h('div', {}, line)),
    );
  }
  $('download').hidden = view.state !== 'published' || version !== 0;
  $('retry').hidden = view.status !== 'parked' || version !== 0;
  $('cancel').hidden = version !== 0 || !['running', 'waiting', 'parked'].includes(view.status);
  document.title = `${titleOf(view)}: ${words.toLowerCase()}`;
}

function showJournal() {
  const newest = blocks.at(-1)?.version ?? 1,
    at = version || newest,
    oldest = blocks[0]?.version ?? 1;
  $('journal-part').hidden = blocks.length === 0;
  $('journal-count').textContent =
    `${blocks.length} ${blocks.length === 1 ? 'block' : 'blocks'}, ${bytes(blocks.reduce((sum, { size }) => sum + size, 0))}`;
  Object.assign($('slider'), { min: oldest, max: newest, value: at, disabled: newest === oldest });
  $('slider').setAttribute('aria-valuetext', `version ${at} of ${newest}`);
  $('earlier').disabled = at <= oldest;
  $('later').disabled = at >= newest;
  $('now').disabled = version === 0;
  $('rollback').disabled = version === 0;
  const focused = document.activeElement?.dataset?.version;
  $('timeline').replaceChildren(
    ...blocks.toReversed().map((block) => {
      const { what, more } = eventOf(block);
      return h(
        'li',
        { class: block.version > at ? 'later' : undefined },
        h(
          'button',
          {
            type: 'button',
            'data-version': block.version,
            'aria-current': block.version === at ? 'true' : undefined,
            onclick: () => void travel(block.version),
          },
          h('span', { class: 'version' }, h('span', { class: 'unseen' }, 'version '), String(block.version)),
          h('span', { class: 'what' }, what),
          h('span', { class: 'size' }, bytes(block.size)),
          ...more.map((line) => h('span', { class: 'more' }, line)),
        ),
      );
    }),
  );
  if (focused !== undefined && document.activeElement === document.body)
    $('timeline').querySelector(`[data-version="${focused}"]`)?.focus({ preventScroll: true });
}

let diagramShown;

/** Drawn once: Mermaid takes its time. Where the document is, is a mark on the drawing. */
async function showDiagram() {
  const text = desk.diagram(),
    svg = await draw(compact(text)),
    state = shown?.state;
  $('diagram').setAttribute('aria-label', `Diagram of the states${state ? `; the document is in ${state}` : ''}`);
  if (svg === undefined) $('diagram').replaceChildren(h('pre', { tabindex: 0 }, desk.diagram(state)));
  else if (svg !== diagramShown) $('diagram').innerHTML = svg; // Mermaid's own, made safe by it
  diagramShown = svg;
  mark($('diagram'), state);
  $('diagram').toggleAttribute('data-drawn', svg !== undefined);
  $('diagram').setAttribute('role', svg !== undefined ? 'img' : 'group');
  $('diagram-note').hidden = svg !== undefined;
  $('whole').hidden = svg === undefined;
  $('diagram-note').textContent = 'Run npm install in this folder to see it drawn by Mermaid.';
}

// ---- keeping up with the journal: one look at a time, and one more if something came in between

let looking,
  again = false,
  changed = new Set(); // streams to be read again; undefined: all

/** Looks again, at what is chosen and at these streams; `null`: at all of them. */
function refresh(streams = []) {
  again = true;
  if (streams === null) changed = undefined;
  else for (const stream of streams) changed?.add(stream);
  looking ??= (async () => {
    while (again) {
      again = false;
      const wanted = changed;
      changed = new Set();
      try {
        await look(wanted && [...wanted]);
      } catch (error) {
        if (wanted === undefined) changed = undefined;
        else for (const stream of wanted) changed?.add(stream);
        if (error.code !== 'E_CLOSED') fault(error); // closed: the role changes, and brings a new look
      }
    }
    looking = undefined;
  })();
  return looking;
}

async function look(streams) {
  const views = await desk.documents(streams);
  for (const view of views) {
    // said aloud, wherever it happened
    const [words] = stateOf(view),
      before = documents.get(view.name);
    documents.set(view.name, view);
    if (before !== undefined && stateOf(before)[0] !== words) say(`${fileOf(view)}: ${words.toLowerCase()}`);
  }
  showList(views);
  const newest = documents.get(chosen);
  if (newest === undefined) chosen = undefined;
  markList();
  if (chosen === undefined) {
    shown = undefined;
    $('sheet').hidden = true;
    $('empty').hidden = false;
    $('journal-part').hidden = true;
  } else {
    const name = chosen,
      wanted = version;
    const reading = desk.history(name, newest.version);
    const [history, view] = await Promise.all([reading, wanted === 0 ? newest : desk.view(name, wanted)]);
    if (name !== chosen || wanted !== version) {
      again = true;
      return;
    }
    blocks = history;
    shown = view;
    showSheet(view);
    showJournal();
  }
  showFeatures();
  void showDiagram();
}

function showFeatures() {
  const can = desk.can;
  $('export').disabled = !can.export;
  $('export-note').textContent = can.export ? '' : 'This build of the library cannot export yet.';
  $('import-file').disabled = !can.import;
  $('import-label').setAttribute('aria-disabled', String(!can.import));
  $('import-note').textContent = can.import
    ? 'A journal exported here or by pagentctl.'
    : 'This build of the library cannot import yet.';
}

function remember() {
  const hash = chosen === undefined ? '' : `#${encodeURIComponent(chosen)}${version === 0 ? '' : `@${version}`}`;
  if (location.hash !== hash) history.replaceState(null, '', hash || location.pathname);
}

function recall() {
  const found = /^#([^@]+)(?:@(\d+))?$/.exec(location.hash);
  if (found) [chosen, version] = [decodeURIComponent(found[1]), Number(found[2] ?? 0)];
}
addEventListener('hashchange', () => {
  recall();
  void refresh();
});

async function choose(name) {
  [chosen, version] = [name, 0];
  remember();
  await refresh();
}

/** Chosen by hand: where the page is one column, the document is somewhere below. */
async function pick(name) {
  await choose(name);
  if (matchMedia('(max-width: 44rem)').matches) $('document').scrollIntoView();
}

async function travel(to) {
  const newest = blocks.at(-1)?.version ?? 0;
  version = to >= newest ? 0 : Math.max(blocks[0]?.version ?? 1, to);
  remember();
  await refresh();
  $('live').textContent =
    version === 0 ? 'The newest version' : `Version ${version}: ${stateOf(shown)[0].toLowerCase()}`;
}
const step = (by) => travel((version || (blocks.at(-1)?.version ?? 1)) + by);

// ---- deciding

/** Opens a dialog; resolves to whether it was agreed to. */
function agree(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = '';
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
    dialog.showModal();
  });
}

/** Names the question and the bytes that the person saw: it is refused where they are others. */
function seen() {
  const { id: effect, digest } = approvalOf(shown);
  return { agent: chosen, options: { who: who(), effect, digest } };
}

const decidable = () => !$('decide').hidden && !$('sheet').hidden;

const approve = act(async () => {
  const { agent, options } = seen();
  await desk.ask('approve', agent, options);
});

const edit = act(async () => {
  const { agent, options } = seen();
  const analysis = lastOf(shown, ENTRY.analysis).json();
  $('edit-text').value = analysis.summary;
  if (!(await agree($('edit-dialog')))) return;
  await desk.ask('edit', agent, $('edit-text').value.trim(), options);
});

const reject = act(async () => {
  const { agent, options } = seen();
  $('reject-text').value = '';
  if (!(await agree($('reject-dialog')))) return;
  const why = $('reject-text').value.trim();
  await desk.ask('reject', agent, { ...options, ...(why && { data: why }) });
});

const fork = act(async () => {
  const agent = chosen,
    at = shown.version;
  $('fork-text').textContent = `A copy of ${fileOf(shown)} goes on from version ${at}. The original stays as it is.`;
  let name = `${agent}-fork`;
  for (let number = 2; documents.has(name); number++) name = `${agent}-fork-${number}`;
  $('fork-name').value = name;
  if (!(await agree($('fork-dialog')))) return;
  name = $('fork-name').value.trim();
  await desk.ask('fork', agent, at, name, {});
  say(`Forked as ${name}`);
  await choose(name);
});

const rollback = act(async () => {
  const agent = chosen,
    at = version;
  $('rollback-text').textContent =
    `The document goes on from version ${at}. Nothing is erased: the journal keeps what came after, and the rollback becomes its newest block.`;
  $('force-part').hidden = true;
  $('force').checked = false;
  $('rollback-yes').disabled = false;
  if (!(await agree($('rollback-dialog')))) return;
  try {
    await desk.ask('rollback', agent, at, {});
  } catch (error) {
    if (error.code !== 'E_IRREVERSIBLE') throw error;
    $('rollback-text').textContent = 'The report has been published since, and that cannot be undone.';
    $('force-part').hidden = false;
    $('rollback-yes').disabled = true;
    if (!(await agree($('rollback-dialog')))) return;
    await desk.ask('rollback', agent, at, { force: true });
  }
  say(`Rolled back to version ${at}`);
  await choose(agent);
});
$('force').addEventListener('change', () => {
  $('rollback-yes').disabled = !$('force').checked;
});

function save(name, data, type) {
  const link = h('a', { href: URL.createObjectURL(new Blob([data], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Not submit buttons: Enter in a field presses the form's first one.
for (const button of document.querySelectorAll('[data-close]'))
  button.addEventListener('click', () => button.closest('dialog').close(''));

const help = () => $('help-dialog').showModal();

/** The diagram with its events, as large as it is drawn. */
const whole = act(async () => {
  $('whole-diagram').innerHTML = await draw(desk.diagram(shown?.state));
  $('whole-dialog').showModal();
});

const buttons = {
  whole,
  approve,
  edit,
  reject,
  fork,
  rollback,
  help,
  earlier: () => step(-1),
  later: () => step(1),
  now: () => travel(Infinity),
  'take-over': () => desk.takeOver(),
  cancel: act(() => desk.ask('cancel', chosen, {})),
  retry: act(() => desk.ask('retry', chosen, {})),
  download: act(async () => {
    const { file, text } = await report(`${chosen}.md`);
    save(file, text, 'text/markdown');
  }),
  export: act(async () => save(`${chosen}.pagent`, await desk.export(chosen), 'application/octet-stream')),
};
for (const [id, run] of Object.entries(buttons)) $(id).addEventListener('click', () => void run());
$('slider').addEventListener('input', () => void travel(Number($('slider').value)));
$('import-file').addEventListener('change', async () => {
  const [file] = $('import-file').files;
  $('import-file').value = '';
  if (!file) return;
  const name = await act(async () => {
    const bytes = new Uint8Array(await file.arrayBuffer());
    try {
      return await desk.ask('import', bytes, {});
    } catch (error) {
      if (error.code !== 'E_REFUSED') throw error;
    }
    const base = `${slug(file.name)}-copy`;
    let as = base;
    for (let number = 2; documents.has(as); number++) as = `${base}-${number}`;
    $('fork-text').textContent =
      'This journal was not moved out: it may go on where it came from. Here it becomes a fork of it, under a name of its own.';
    $('fork-name').value = as;
    if (!(await agree($('fork-dialog')))) return undefined;
    return desk.ask('import', bytes, { as: $('fork-name').value.trim() });
  })();
  if (name) await choose(name);
});

// ---- keys

function move(by) {
  const names = [...$('list').querySelectorAll('button')].map(({ dataset }) => dataset.name);
  const at = names.indexOf(chosen);
  const to = names[Math.min(names.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  if (to !== undefined) void choose(to);
}

const press = (id) => !$(id).disabled && !$(id).closest('[hidden]') && $(id).click();
const keys = {
  j: () => move(1),
  k: () => move(-1),
  a: () => decidable() && press('approve'),
  e: () => decidable() && press('edit'),
  r: () => decidable() && press('reject'),
  f: () => chosen && press('fork'),
  b: () => chosen && press('rollback'),
  '[': () => press('earlier'),
  ']': () => press('later'),
  Escape: () => press('now'),
  n: () => $('files').click(),
  '?': help,
};
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey && event.key === 'Enter' && $('edit-dialog').open) $('edit-dialog').querySelector('.main').click();
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (event.target.matches('input:not([type=checkbox], [type=range], [type=file]), select, textarea')) return;
  if (!settings.keys && event.key !== 'Escape') return;
  const run = keys[event.key];
  if (run === undefined) return;
  event.preventDefault();
  run();
});

// ---- the beginning

desk.addEventListener('role', ({ detail: { role } }) => {
  $('role').dataset.role = role;
  $('role').textContent = role === 'running' ? 'The agent runs in this tab' : 'The agent runs in another tab';
  $('take-over').hidden = role === 'running';
  void refresh(null);
});
desk.addEventListener('changed', ({ detail: { streams } }) => void refresh(streams));
desk.addEventListener('fault', ({ detail: { error } }) => fault(error));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => void showDiagram());
const network = () => {
  $('network').hidden = navigator.onLine;
};
for (const type of ['online', 'offline']) addEventListener(type, network);
network();

recall();
navigator.serviceWorker?.register('./service-worker.js').catch((error) => console.warn('no offline copy:', error));
try {
  await desk.start(); // its role, which has come, begins the first look
  await refresh();
} catch (error) {
  fault(error);
}
