// Writes a GGUF file: a llama of two layers and 32 dimensions, with weights from a seed and a vocabulary of bytes. What
// it says has no meaning; that real inference code loads it, samples it and holds it to a schema is what is tested.
// usage: node tiny_model.mjs FILE
import { writeFileSync } from 'node:fs';

const embedding = 32, layers = 2, heads = 4, hidden = 64, context = 2048;
const UINT32 = 4, FLOAT32 = 6, STRING = 8, ARRAY = 9, INT32 = 5;

function number(size, method, value) {
  const bytes = Buffer.alloc(size);
  bytes[method](value);
  return bytes;
}
const u32 = (value) => number(4, 'writeUInt32LE', value);
const i32 = (value) => number(4, 'writeInt32LE', value);
const f32 = (value) => number(4, 'writeFloatLE', value);
const u64 = (value) => number(8, 'writeBigUInt64LE', BigInt(value));
const text = (value) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const encoders = { [UINT32]: u32, [INT32]: i32, [FLOAT32]: f32, [STRING]: text };

const one = (key, type, value) => Buffer.concat([text(key), u32(type), encoders[type](value)]);
const array = (type, values) => Buffer.concat([u32(type), u64(values.length), ...values.map(encoders[type])]);
const list = (key, type, values) => Buffer.concat([text(key), u32(ARRAY), array(type, values)]);

// Three control tokens, the 256 bytes, and the word separator that this kind of tokenizer expects.
const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
const tokens = ['<unk>', '<s>', '</s>', ...bytes, '\u2581'];
const UNKNOWN = 2, CONTROL = 3, NORMAL = 1, BYTE = 6;
const kinds = [UNKNOWN, CONTROL, CONTROL, ...bytes.map(() => BYTE), NORMAL];

const metadata = [
  one('general.architecture', STRING, 'llama'),
  one('general.name', STRING, 'tiny random weights'),
  one('llama.context_length', UINT32, context),
  one('llama.embedding_length', UINT32, embedding),
  one('llama.block_count', UINT32, layers),
  one('llama.feed_forward_length', UINT32, hidden),
  one('llama.attention.head_count', UINT32, heads),
  one('llama.attention.head_count_kv', UINT32, heads),
  one('llama.attention.layer_norm_rms_epsilon', FLOAT32, 1e-5),
  one('llama.rope.dimension_count', UINT32, embedding / heads),
  one('llama.vocab_size', UINT32, tokens.length),
  one('tokenizer.ggml.model', STRING, 'llama'),
  list('tokenizer.ggml.tokens', STRING, tokens),
  list('tokenizer.ggml.scores', FLOAT32, tokens.map((_, at) => -at)),
  list('tokenizer.ggml.token_type', INT32, kinds),
  one('tokenizer.ggml.unknown_token_id', UINT32, 0),
  one('tokenizer.ggml.bos_token_id', UINT32, 1),
  one('tokenizer.ggml.eos_token_id', UINT32, 2),
];

// GGUF gives dimensions innermost first.
const tensors = [
  ['token_embd.weight', embedding, tokens.length],
  ['output_norm.weight', embedding],
  ['output.weight', embedding, tokens.length],
  ...Array.from({ length: layers }, (_, at) => [
    [`blk.${at}.attn_norm.weight`, embedding],
    [`blk.${at}.attn_q.weight`, embedding, embedding],
    [`blk.${at}.attn_k.weight`, embedding, embedding],
    [`blk.${at}.attn_v.weight`, embedding, embedding],
    [`blk.${at}.attn_output.weight`, embedding, embedding],
    [`blk.${at}.ffn_norm.weight`, embedding],
    [`blk.${at}.ffn_gate.weight`, embedding, hidden],
    [`blk.${at}.ffn_up.weight`, embedding, hidden],
    [`blk.${at}.ffn_down.weight`, hidden, embedding],
  ]).flat(),
];

let seed = 7;
function random() { // xorshift32, -1 ... 1
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) / 2147483648 - 1;
}

const infos = [], blobs = [];
let offset = 0;
for (const [name, ...dimensions] of tensors) {
  const count = dimensions.reduce((product, each) => product * each, 1);
  const weights = new Float32Array(count);
  for (let at = 0; at < count; at++) weights[at] = name.includes('norm') ? 1 : random() * 0.3;
  const padded = Buffer.alloc(Math.ceil(weights.byteLength / 32) * 32);
  Buffer.from(weights.buffer).copy(padded);
  const shape = Buffer.concat([u32(dimensions.length), ...dimensions.map(u64)]);
  infos.push(Buffer.concat([text(name), shape, u32(0 /* F32 */), u64(offset)]));
  blobs.push(padded);
  offset += padded.length;
}

const counts = Buffer.concat([u32(3 /* the format's version */), u64(tensors.length), u64(metadata.length)]);
const head = Buffer.concat([Buffer.from('GGUF'), counts, ...metadata, ...infos]);
const gap = Buffer.alloc((32 - (head.length % 32)) % 32);
writeFileSync(process.argv[2], Buffer.concat([head, gap, ...blobs]));
