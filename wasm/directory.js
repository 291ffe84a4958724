// The file store of persistent_agent.h over a directory that JavaScript lends: what all such directories have in common.
//
// A folder is an object of synchronous functions, which throw: an error whose `code` is a result's name, or anything
// else, which is E_STORAGE. Files are numbers above 0.
//
//   prepare(readOnly)                    before the first call of an opening; release() behind the last
//   read(file, bytes, offset) → count    possibly fewer than asked; 0 only at the end
//   write(file, bytes, offset) → count   possibly fewer than asked
//   sync(file)                           E_FENCED where the file was removed: then nothing was kept
//   truncate(file, size), size(file)     what truncate adds is zero, and backed by space
//   open(name, write), create(name), publish(file, name, exclusive), close(file), remove(name), exists(name)
//   list(folder) → names, syncDirectory(folder), lock(), unlock()

import * as layout from './layout.js';
import { END, OK, result } from './errors.js';

const NAME_MAX = 127;
const TEXT_SIZE = 120;
const DAMAGES = ['clean', 'dirty', 'torn', 'middle', 'chain', 'foreign', 'suspect', 'newer', 'lost_tail'];
const NAMES = Object.fromEntries(Object.entries(result).map(([name, code]) => [code, name]));
const encoder = new TextEncoder();

/** An error that the file store understands. */
export function refusal(code, message, cause) {
  return Object.assign(new Error(message, cause !== undefined ? { cause } : undefined), { name: 'PagentError', code });
}

function readReport(linear, at) {
  return {
    damage: DAMAGES[linear.u32(at + layout.damage_report_damage)] ?? 'unknown',
    code: NAMES[linear.i32(at + layout.damage_report_result)] ?? 'OK',
    file: linear.textAt(at + layout.damage_report_file),
    offset: linear.number(at + layout.damage_report_offset),
    size: linear.number(at + layout.damage_report_size),
    stream: linear.hex(at + layout.damage_report_stream),
    version: linear.number(at + layout.damage_report_version),
    bytes: linear.bytes(at + layout.damage_report_version + 8), // behind the version: bytes, repair_bit, text
    repairBit: linear.i32(at + layout.damage_report_text - 4),
    text: linear.text(at + layout.damage_report_text),
  };
}

const OPTIONS = ['logPerAgent', 'readOnly', 'truncateSuspect', 'segmentSize', 'onDiscard'];

/** A store for `open`. `more`: option names of this folder's own. */
export function directoryStore(folder, options, more = []) {
  for (const key of Object.keys(options)) {
    if (!OPTIONS.includes(key) && !more.includes(key)) throw refusal('E_ARGUMENT', `options: '${key}' is not known`);
  }
  const { logPerAgent = false, readOnly = false, truncateSuspect = false, segmentSize = 0, onDiscard } = options;
  let owner; // the exports of the instance that has it open
  const directory = { error: undefined }; // what the system said last when storing failed or space ran out

  /** Calls `work` for the engine, which is never to see an exception. */
  const guarded = (work) => {
    try {
      return work() ?? OK;
    } catch (error) {
      const code = result[error?.code] ?? result.E_STORAGE;
      if (code === result.E_STORAGE || code === result.E_NO_SPACE) directory.error = error;
      return code;
    }
  };

  const imports = (getLinear) => {
    const lists = {};
    const text = (at) => getLinear().text(at);
    const piece = (at, size) => getLinear().u8.subarray(at, at + size);
    return {
      file_read: (file, at, size, offset) => guarded(() => folder.read(file, piece(at, size), offset)),
      file_write: (file, at, size, offset) => guarded(() => folder.write(file, piece(at, size), offset)),
      file_sync: (file) => guarded(() => folder.sync(file)),
      file_truncate: (file, size) => guarded(() => folder.truncate(file, size)),
      file_size: (file) => guarded(() => folder.size(file)),
      dir_open: (name, flags) => guarded(() => folder.open(text(name), (flags & 1) !== 0)),
      dir_create: (name) => guarded(() => folder.create(text(name))),
      dir_publish: (file, name, exclusive) => guarded(() => folder.publish(file, text(name), exclusive !== 0)),
      dir_close: (file) => guarded(() => folder.close(file)),
      dir_remove: (name) => guarded(() => folder.remove(text(name))),
      dir_exists: (name) => guarded(() => (folder.exists(text(name)) ? 1 : 0)),
      dir_list: (name, index, out) =>
        guarded(() => {
          const key = text(name);
          if (index === 0 || lists[key] === undefined) {
            // read in one go: it does not change while it is walked
            lists[key] = folder
              .list(key)
              .map((entry) => encoder.encode(entry))
              .filter(({ length }) => length <= NAME_MAX);
          }
          const found = lists[key][index];
          if (found === undefined) return END;
          const { u8 } = getLinear();
          u8.set(found, out);
          u8[out + found.length] = 0;
          return OK;
        }),
      dir_sync: (name) => guarded(() => folder.syncDirectory(text(name))),
      dir_lock: () => guarded(() => folder.lock()),
      dir_unlock: () => guarded(() => folder.unlock()),
      discard: (at) => {
        if (onDiscard === undefined) return;
        const report = readReport(getLinear(), at);
        try {
          onDiscard(report);
        } catch (error) {
          queueMicrotask(() => {
            throw error;
          }); // the listener's own fault: not the store's
        }
      },
    };
  };

  Object.assign(directory, {
    imports,

    open(linear, exports, text, reading = readOnly) {
      reading ||= readOnly;
      const say = (message) => {
        const { written } = encoder.encodeInto(message, linear.u8.subarray(text, text + TEXT_SIZE - 1));
        linear.u8[text + written] = 0;
      };
      if (owner !== undefined) {
        say('this store object is open in another engine');
        return result.E_LOCKED;
      }
      directory.error = undefined;
      const prepared = guarded(() => {
        try {
          folder.prepare(reading);
        } catch (error) {
          say(error.message);
          throw error;
        }
      });
      if (prepared !== OK) return prepared;
      const code = linear.frame(() => {
        const at = linear.push(layout.file_options_SIZE);
        linear.setU32(at + layout.file_options_size, layout.file_options_SIZE);
        linear.setU32(at + layout.file_options_log_per_agent, Number(logPerAgent));
        linear.setU32(at + layout.file_options_read_only, Number(reading));
        linear.setU32(at + layout.file_options_truncate_suspect, Number(truncateSuspect));
        linear.setU32(at + layout.file_options_segment_size, segmentSize);
        return exports.open_files(at, text);
      });
      if (code === OK) owner = exports;
      else {
        if (linear.u8[text] === 0 && directory.error !== undefined) say(directory.error.message);
        guarded(() => folder.release());
      }
      return code;
    },

    close(exports) {
      if (owner !== exports) return OK;
      owner = undefined;
      const code = exports.close_files();
      const released = guarded(() => folder.release());
      return code !== OK ? code : released;
    },
  });
  return { durability: 'power', readOnly, directory };
}
