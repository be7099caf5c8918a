// Loads the models and runs them, beside the page, so that typing never waits. Each message {id, call, …} is answered
// by {id, …} or {id, error}; {told: …} comes in between.
import { inTurns } from "./stopwatch.js";

let manifest, ort, tokenizer, backend;
const kept = {}; // sessions by model, precision and part; weights by model and precision
const early = {}; // files that are fetched while the runtime is, by address
const say = (message) => self.postMessage({ told: message });

// A file's bytes: from the cache where it was loaded before, checked against its hash, unpacked.
async function load(file, what) {
  if (file.random) return random(file.random);
  const cache = self.caches && await caches.open(`distilnb-demo-${manifest.build}`);
  let answer = cache && await cache.match(file.url);
  try {
    if (!answer) {
      answer = await fetch(file.url, { integrity: file.integrity });
      if (!answer.ok) throw new Error(answer.status);
      const whole = await answer.arrayBuffer(); // read to its end: only then was it compared with its hash
      answer = new Response(whole);
      if (cache) await cache.put(file.url, answer.clone());
      say({ bytes: file.bytes || whole.byteLength });
    }
    const stream = file.gzip ? answer.body.pipeThrough(new DecompressionStream("gzip")) : answer.body;
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (error) {
    throw new Error(`${what} did not arrive whole. Check the connection and reload the page; if that does not help, `
      + "the file on the server is damaged.");
  }
}

// What was fetched early, once; else fetched now.
function arrive(file, what) {
  const coming = early[file.url];
  delete early[file.url];
  return coming ?? load(file, what);
}

// Any weights take the same time: these are made here, of a full-size model that would be 180 MB to fetch.
function random(count) {
  const bytes = new Uint8Array(count), words = new Uint32Array(bytes.buffer, 0, count >> 2);
  let state = 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
    words[i] = state;
  }
  return bytes;
}

const asModule = async (file, what) =>
  URL.createObjectURL(new Blob([await load(file, what)], { type: "text/javascript" }));

async function begin({ threads, runs, facts, precision }) {
  manifest = facts;
  backend = runs;
  const runtime = manifest.vendor[backend];
  for (const name of ["student", "teacher"]) {
    for (const part of ["whole", "weights"]) {
      const file = manifest.models[name][precision][part];
      early[file.url] = load(file, `The ${name}`);
      early[file.url].catch(() => {}); // told where it is used
    }
  }
  const [code, glue, wasm, spelling] = await Promise.all([
    asModule(runtime.ort, "The runtime"), asModule(runtime.glue, "The runtime"), load(runtime.wasm, "The runtime"),
    asModule(manifest.vendor.tokenizers.code, "The tokenizer"),
  ]);
  ort = await import(code);
  ort.env.wasm.wasmPaths = { mjs: glue };
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  session("student", manifest.models.student, precision, "whole").catch(() => {}); // the wasm is made ready meanwhile
  const { Tokenizer } = await import(spelling);
  const [words, settings] = await Promise.all(manifest.tokenizer.map((file) => load(file, "The vocabulary")));
  const read = (bytes) => JSON.parse(new TextDecoder().decode(bytes));
  tokenizer = new Tokenizer(read(words), read(settings));
  tokenizer.mask = read(settings).mask_token ?? "[MASK]";
  tokenizer.unknown = tokenizer.token_to_id(read(settings).unk_token ?? "[UNK]");
  return {};
}

// A session of one part ("whole" or "encoder") of a model; `entry` is what the manifest has of it.
async function session(name, entry, precision, part) {
  const files = entry[precision], key = `${name} ${precision}`, title = `The ${name}`;
  return kept[`${key} ${part}`] ??= (async () => {
    const [graph, weights] = await Promise.all([arrive(files[part], title), kept[key] ??= arrive(files.weights, title)]);
    try {
      return await ort.InferenceSession.create(graph, {
        executionProviders: [backend], externalData: [{ path: "weights", data: weights }], logSeverityLevel: 3,
      });
    } catch (error) {
      throw new Error(`${title} cannot be run by this browser (${String(error.message ?? error).slice(0, 120)}).`);
    }
  })().catch((error) => { delete kept[key]; delete kept[`${key} ${part}`]; throw error; });
}

function feeds(entry, ids) {
  const whole = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, ids.length]);
  const made = { input_ids: ids, attention_mask: ids.map(() => 1), token_type_ids: ids.map(() => 0) };
  return Object.fromEntries(entry.inputs.map((name) => [name, whole(made[name])]));
}

// The ids of a sentence and the place of its blank; an Error that says what to change.
function read(text) {
  const blanks = text.match(/_{2,}|\[MASK\]/g) ?? [];
  if (blanks.length !== 1) {
    throw new Error(blanks.length ? "One blank at a time: write ___ once." : "Write ___ in place of one word.");
  }
  const { ids } = tokenizer.encode(text.replace(blanks[0], tokenizer.mask));
  if (ids.length > manifest.longest) {
    throw new Error(`That is ${ids.length} pieces, and ${manifest.longest} can be read: shorten it.`);
  }
  if (ids.includes(tokenizer.unknown)) throw new Error("A character here is in no model's vocabulary: write another.");
  return { ids: Array.from(ids, Number), at: ids.indexOf(tokenizer.token_to_id(tokenizer.mask)) };
}

async function guess({ text, name, precision }) {
  const { ids, at } = read(text), entry = manifest.models[name];
  const runner = await session(name, entry, precision, "whole");
  const { logits } = await runner.run(feeds(entry, ids), ["logits"]);
  const start = at * logits.dims[2]; // of as many rows as the model has, which may be more than there are words
  return { logits: logits.data.slice(start, start + entry.words), ids };
}

const word = ({ ids }) => ({ words: ids.map((id) => tokenizer.id_to_token(id)) });

// The two encoders in turns at each length, on random words.
async function time({ full, precision, lengths, rounds }) {
  const entries = full ? manifest.full : manifest.models, taken = {};
  const runners = {};
  for (const name of ["teacher", "student"]) {
    runners[name] = await session(full ? `full-size ${name}` : name, entries[name], precision, "encoder");
  }
  for (const [place, length] of lengths.entries()) {
    const ids = Array.from({ length }, (_, i) => (i * 7919) % entries.teacher.words);
    const runs = Object.fromEntries(Object.entries(runners).map(([name, runner]) => {
      const fed = feeds(entries[name], ids);
      return [name, () => runner.run(fed)];
    }));
    taken[length] = await inTurns(runs, rounds, 30, (round) => say({ done: (place + round / rounds) / lengths.length }));
  }
  return { taken };
}

const calls = { begin, guess, word, time, prepare: async ({ name, precision }) => {
  await session(name, manifest.models[name], precision, "whole");
  return {};
} };

let turn = Promise.resolve(); // a session answers one question at a time
self.onmessage = ({ data: { id, call, ...given } }) => {
  turn = turn.then(async () => {
    try {
      self.postMessage({ id, ...await calls[call](given) });
    } catch (error) {
      self.postMessage({ id, error: error.message });
    }
  });
};
