// Writes ../layout.js: where the fields of the header's structs are in linear memory, as the compiler says it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const structs = {
  bytes: 'data size',
  effect_id: 'version index',
  call_id: 'stream version index attempt',
  state: 'name parent waits enter exit on_error flags tag',
  transition: 'from event guard action to tag',
  call_spec: 'name crash_policy flags attempts_max backoff_ms backoff_max_ms attempt_timeout_ms total_timeout_ms',
  machine: `size version name ctx context_size signals timers approvals calls call_count states state_count
            transitions transition_count`,
  event: 'kind code name effect attempt data who',
  entry: 'kind data',
  call: 'id agent name request key deadline_ms flags repeated',
  answer: 'outcome code data retry_after_ms',
  trace: 'kind code stream version time_ms agent name from to block_size',
  summary: 'stream version due_ms time_ms state status flags',
  io: 'size count version next_due_ms stream cursor',
  append: 'op stream expected epoch blocks size count flags first summary',
  read: 'op stream mode version buffer capacity last',
  list: 'op cursor due_before_ms flags capacity items',
  trim: 'op',
  limits: `size context_size_max payload_size_max block_size_max effects_max mailbox_max dedupe_count loaded_max
           requests_max always_max splices_max snapshot_factor snapshot_floor inbox_interval_ms idle_seal_ms
           retry_pause_ms full_snapshots`,
  request: 'size verb agent id expected_version event target who effect digest version decision force data',
  receipt: 'result verb version text',
  info: `name stream version changed_version link due_ms time_ms created_ms machine state parent_agent parent_version
         machine_version status flags error error_text context transcript_count effect_count mailbox_count`,
  effect: 'id kind phase name target attempt due_ms deadline_ms payload digest key',
  block_info: `version epoch link time_ms type event outcome from to block_size effects_issued effects_settled
               transcript_entries context_changed data who`,
  portable: 'name log moved count first last link bytes',
  damage_report: 'damage result file offset size stream version text',
  file_options: 'size log_per_agent read_only truncate_suspect segment_size preallocate_max on_discard',
};

const here = dirname(fileURLToPath(import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'layout-'));
try {
  const rows = Object.entries(structs).map(([name, fields]) => [name, fields.split(/\s+/)]);
  const numbers = rows.flatMap(([name, fields]) => [
    `sizeof(pagent_${name})`,
    ...fields.map((field) => `offsetof(pagent_${name}, ${field})`),
  ]);
  writeFileSync(
    join(folder, 'l.c'),
    `#include "persistent_agent.h"
    __attribute__((export_name("layout"))) const uint32_t *layout(void) {
      static const uint32_t numbers[] = {${numbers}}; return numbers; }`,
  );
  const run = (command, ...words) => execFileSync(command, words, { stdio: 'inherit' });
  run(
    'clang',
    '--target=wasm32',
    '-O1',
    '-ffreestanding',
    `-I${join(here, '../..')}`,
    '-c',
    join(folder, 'l.c'),
    '-o',
    join(folder, 'l.o'),
  );
  run('wasm-ld', '--no-entry', join(folder, 'l.o'), '-o', join(folder, 'l.wasm'));
  const { instance } = await WebAssembly.instantiate(readFileSync(join(folder, 'l.wasm')));
  const found = new Uint32Array(instance.exports.memory.buffer, instance.exports.layout(), numbers.length);
  let at = 0;
  const constants = rows.map(([name, fields]) => {
    const members = ['SIZE', ...fields].map((field) => `${name}_${field} = ${found[at++]}`);
    return `export const ${members.join(', ')};\n`;
  });
  const text = `// Made by tools/layout.mjs from persistent_agent.h: STRUCT_FIELD is that field's offset in linear memory, STRUCT_SIZE
// its struct's size. Constants one by one: bundlers put the number where it is used.

${constants.join('')}`;
  if (process.argv[2] === '--check') {
    if (readFileSync(join(here, '../layout.js'), 'utf8') !== text)
      throw new Error('layout.js is not what the header says: run node wasm/tools/layout.mjs');
  } else {
    writeFileSync(join(here, '../layout.js'), text);
  }
} finally {
  rmSync(folder, { recursive: true });
}
