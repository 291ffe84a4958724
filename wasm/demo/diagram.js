// The machine's diagram: drawn by Mermaid where it is installed, and its text where not.

let loading;
let drawn = 0;
const kept = new Map();

async function mermaid() {
  loading ??= (async () => {
    // Once the service worker sees requests, what is loaded now is there without a network, too.
    if (navigator.serviceWorker && !navigator.serviceWorker.controller) {
      await Promise.race([
        new Promise((resolve) => navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true })),
        new Promise((resolve) => {
          setTimeout(resolve, 3000);
        }),
      ]);
    }
    return (await import('./node_modules/mermaid/dist/mermaid.esm.min.mjs')).default;
  })();
  return loading;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The states and the ways between them, each once and without its events: what a narrow column can show. */
export function compact(text) {
  const seen = new Set();
  return text
    .split('\n')
    .flatMap((line) => {
      const way = /^(\s*)(\S+) --> (\S+)/.exec(line);
      if (way === null) return [line];
      const short = `${way[2]} --> ${way[3]}`,
        mark = way[3] === '[*]' || (way[2] === '[*]' && way[1].length > 4);
      if (mark || way[2] === way[3] || seen.has(short)) return [];
      seen.add(short);
      return [`${way[1]}${short}`];
    })
    .join('\n');
}

/** Resolves to SVG text; undefined: no Mermaid here. */
export async function draw(text) {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches,
    key = `${dark} ${text}`;
  if (kept.has(key)) return kept.get(key);
  let tool;
  try {
    tool = await mermaid();
  } catch {
    loading = undefined;
    return undefined;
  }
  const [ink, soft, line, panel, accent, onAccent] = [
    '--ink',
    '--ink-soft',
    '--line-strong',
    '--panel',
    '--accent',
    '--on-accent',
  ].map(colour);
  tool.initialize({
    startOnLoad: false,
    securityLevel: 'strict',
    theme: 'base',
    deterministicIds: true,
    fontFamily: 'system-ui, sans-serif',
    state: { useMaxWidth: false, nodeSpacing: 24, rankSpacing: 30 },
    themeVariables: {
      darkMode: dark,
      background: panel,
      primaryColor: panel,
      primaryTextColor: ink,
      primaryBorderColor: line,
      lineColor: soft,
      textColor: ink,
      mainBkg: panel,
      nodeBorder: line,
      clusterBkg: colour('--page'),
      clusterBorder: line,
      edgeLabelBackground: panel,
      compositeBackground: colour('--page'),
      compositeTitleBackground: colour('--page'),
      compositeBorder: line,
      stateBkg: panel,
      stateBorder: line,
      stateLabelColor: ink,
      labelBackgroundColor: panel,
      transitionColor: soft,
      transitionLabelColor: soft,
      specialStateColor: soft,
      innerEndBackground: panel,
      altBackground: colour('--page'),
      fontSize: '14px',
    },
  });
  const { svg } = await tool.render(
    `diagram-${++drawn}`,
    text.replace(/classDef here.*/, `classDef here fill:${accent},stroke:${accent},color:${onAccent},font-weight:600`),
  );
  kept.set(key, svg);
  return svg;
}

/** Marks a state in what `draw` drew of a diagram that marks none. */
export function mark(element, state) {
  for (const node of element.querySelectorAll('.node')) {
    node.classList.toggle('here', state !== undefined && node.id.includes(`state-${state}-`));
  }
}
