// What the page shows. The models run in worker.js; here are the controls, the bars and the curve.
import { median, quantile } from "./stopwatch.js";

const $ = (id) => document.getElementById(id);
const ORDER = ["student", "teacher", "undistilled"]; // the smallest first, so that something is there soon
const TITLES = { teacher: "Teacher", student: "Student", undistilled: "Twin without a teacher" };
const LENGTHS = [16, 32, 64, 128], ROUNDS = 10, SHOWN = 5;
const manifest = await (await fetch("demo.json")).json();
const logits = {}, tops = {}; // of each model: its logits at the blank, its best guess's share in percent
const loaded = new Set(["teacher", "student"]);
let worker, waiting, asked = 0, received = 0, busy = false, stale = false, opened, result;

// the worker

function start(threads, runs = "wasm") {
  worker?.terminate();
  for (const settle of Object.values(waiting ?? {})) settle({ error: "Stopped." });
  waiting = {};
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data: { id, told, ...answer } }) => {
    if (told?.bytes) progress((received += told.bytes) / total(["teacher", "student"]));
    if (told?.done) $("timing").textContent = `Timing … ${Math.round(100 * told.done)} %`;
    if (id) {
      waiting[id](answer);
      delete waiting[id];
    }
  };
  worker.onerror = () => say("This browser is too old for the page: it cannot start its worker.", true);
  return call("begin", { threads, runs, facts: manifest, precision: precision() });
}

function call(name, given = {}) {
  const id = ++asked;
  worker.postMessage({ id, call: name, ...given });
  return new Promise((resolve, reject) => {
    waiting[id] = ({ error, ...answer }) => (error ? reject(new Error(error)) : resolve(answer));
  });
}

const precision = () => document.querySelector("[name=precision]:checked").value;
const bytes = (name, form = precision()) =>
  ["whole", "weights"].reduce((sum, part) => sum + manifest.models[name][form][part].bytes, 0);
const sum = (files) => Object.values(files).reduce((all, file) => all + file.bytes, 0);
const total = (names) => sum(manifest.vendor.wasm) + sum(manifest.vendor.tokenizers) + sum(manifest.tokenizer)
  + names.reduce((all, name) => all + bytes(name), 0);
const megabytes = (count) => `${(count / 1e6).toFixed(1)} MB`;
const millions = (count) => `${(count / 1e6).toFixed(1)} M`;

function progress(share) {
  $("progress").value = share;
}

function say(text, bad = false) {
  $("say").textContent = text;
  $("say").classList.toggle("bad", bad);
}

// the blank

function probabilities(name) {
  const heat = name === "teacher" ? Number($("temperature").value) : 1;
  const top = logits[name].reduce((most, x) => Math.max(most, x), -Infinity);
  const powers = Array.from(logits[name], (x) => Math.exp((x - top) / heat));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

// Between how many equally likely words one would be as undecided: the exponential of the entropy.
const choices = (shares) => Math.exp(-shares.reduce((sum, share) => sum + (share && share * Math.log(share)), 0));

function card(name) {
  const box = document.createElement("article"), facts = manifest.models[name];
  box.className = `card ${name} waiting`;
  box.id = `card-${name}`;
  box.setAttribute("aria-label", TITLES[name]);
  box.innerHTML = `<h3>${TITLES[name]}</h3><small>${facts.layers} layers, ${millions(facts.parameters)} parameters, `
    + `<span class="size"></span></small><ol></ol>`;
  if (!loaded.has(name)) {
    const more = document.createElement("button");
    more.type = "button";
    more.textContent = `Load it too (${megabytes(bytes(name))})`;
    more.onclick = () => { loaded.add(name); more.disabled = true; more.textContent = "Loading …"; guess(); };
    box.querySelector("ol").append(more);
  }
  return box;
}

async function draw(name) {
  const shares = probabilities(name);
  const best = Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a]).slice(0, SHOWN);
  const { words } = await call("word", { ids: best });
  tops[name] = 100 * shares[best[0]];
  if (name === "teacher") $("undecided").textContent = Math.round(choices(shares)).toLocaleString("en");
  $("cards").style.setProperty("--most", Math.max(...Object.values(tops)));
  const box = $(`card-${name}`);
  box.classList.remove("waiting");
  box.querySelector("ol").replaceChildren(...best.map((id, place) => {
    const item = document.createElement("li"), share = 100 * shares[id];
    item.style.setProperty("--share", share);
    item.append(...[words[place], `${share < 0.1 ? share.toFixed(2) : share.toFixed(1)} %`].map((text) => {
      const span = document.createElement("span");
      span.textContent = text;
      return span;
    }));
    return item;
  }));
}

// Ask all loaded models; what is typed meanwhile is asked when they are done.
async function guess() {
  stale = true;
  if (busy) return;
  working(true);
  while (stale) {
    stale = false;
    try {
      let failure; // of one model, which does not keep the others from guessing
      for (const name of ORDER.filter((name) => loaded.has(name))) {
        try {
          ({ logits: logits[name] } = await call("guess", { text: $("sentence").value, name, precision: precision() }));
          await draw(name);
          opened ??= performance.now() / 1000; // since the page was asked for
        } catch (error) {
          failure ??= error;
        }
      }
      if (failure) throw failure;
      const kept = navigator.serviceWorker ? " It also works without a network from now on." : "";
      say(document.documentElement.dataset.ready ? "" : `The first guess took ${opened.toFixed(1)} s.${kept}`);
      document.documentElement.dataset.ready = "yes";
      $("progress").hidden = true;
      ready(true);
    } catch (error) {
      say(error.message, true);
    }
  }
  working(false);
}

function working(now) {
  busy = now;
  $("cards").setAttribute("aria-busy", now);
}

function sizes() {
  for (const name of Object.keys(manifest.models)) {
    $(`card-${name}`).querySelector(".size").textContent = megabytes(bytes(name));
  }
}

// the stopwatch

const spelt = (threads) => `${threads} ${threads > 1 ? "threads" : "thread"}`;
const runs = () => ($("runs").value === "webgpu" ? ["webgpu", 1] : ["wasm", Number($("runs").value)]);

// Begin anew with other threads or on the graphics processor, which computes in float32.
async function restart() {
  const [backend, threads] = runs(), [whole, rounded] = ["float32", "int8"].map((form) =>
    document.querySelector(`[name=precision][value=${form}]`));
  if (backend === "webgpu") whole.checked = true;
  rounded.disabled = backend === "webgpu";
  sizes();
  ready(false);
  $("cards").setAttribute("aria-busy", true);
  say("Loading …");
  try {
    await start(threads, backend);
    guess();
  } catch (error) {
    $("cards").setAttribute("aria-busy", false);
    say(error.message, true);
  }
}

function ready(now) {
  $("time").disabled = !now;
  $("full").disabled = !now || runs()[0] === "webgpu"; // it is sent in int8 alone
}

async function time(full) {
  ready(false);
  $("result").hidden = true;
  $("timing").classList.remove("bad");
  $("timing").textContent = "Getting ready …";
  const began = performance.now(), [backend, threads] = runs();
  try {
    const form = full ? "int8" : precision();
    const { taken } = await call("time", { full, precision: form, lengths: LENGTHS, rounds: ROUNDS });
    result = {
      kind: "device", format: 1, build: manifest.build, scale: full ? "base" : manifest.scale, weights: full ? "random" : "trained",
      runtime: manifest.runtime, backend, precision: form, threads, taken, opened,
      models: Object.fromEntries(["teacher", "student"].map((name) => {
        const { layers, width, parameters } = (full ? manifest.full : manifest.models)[name];
        return [name, { layers, width, parameters }];
      })),
      browser: navigator.userAgent, cores: navigator.hardwareConcurrency ?? null, memory_gb: navigator.deviceMemory ?? null,
      made: new Date().toISOString(), seconds: (performance.now() - began) / 1000,
    };
    show();
    $("timing").textContent = `Done in ${result.seconds.toFixed(0)} s.`;
    $("result").focus({ preventScroll: true });
  } catch (error) {
    $("timing").textContent = error.message;
    $("timing").classList.add("bad");
  }
  ready(true);
}

const ratios = (length) => result.taken[length].teacher.map((ms, round) => ms / result.taken[length].student[round]);
const faster = (length, share = 0.5) => Math.round(100 * (quantile(ratios(length), share) - 1));
const signed = (value) => String(value).replace("-", "−");
const milliseconds = (values) => `${median(values) < 100 ? median(values).toPrecision(3) : median(values).toFixed(0)}\u00a0ms`;

function show() {
  const longest = LENGTHS.at(-1), gain = faster(longest), { teacher, student } = result.models;
  $("result").hidden = false;
  $("faster").textContent = `The student is ${Math.abs(gain)} % ${gain < 0 ? "slower" : "faster"} here.`;
  const run = result.backend === "webgpu" ? "WebGPU" : `${spelt(result.threads)} of WebAssembly`;
  $("where").textContent = `Sentences of ${longest} pieces, ${result.precision}, ${run}, ${millions(student.parameters)} against `
    + `${millions(teacher.parameters)} parameters${result.weights === "random" ? " with random weights" : ""}. `
    + "The paper: 71 % on an iPhone 7 Plus."
    + (faster(longest, 0.75) - faster(longest, 0.25) > 40 ? " The rounds differ much: something else kept this device "
      + "busy. Close it and time again." : "");
  $("rows").replaceChildren(...LENGTHS.map((length) => {
    const row = document.createElement("tr"), times = result.taken[length];
    row.innerHTML = `<th scope="row">${length}</th><td>${milliseconds(times.teacher)}</td>`
      + `<td>${milliseconds(times.student)}</td><td>${signed(faster(length))} % <small>${signed(faster(length, 0.25))} to `
      + `${signed(faster(length, 0.75))}</small></td>`;
    return row;
  }));
  $("curve").innerHTML = curve();
}

function curve() {
  const names = ["teacher", "student"], at = (name, length, share) => quantile(result.taken[length][name], share);
  const most = Math.max(...LENGTHS.map((length) => at("teacher", length, 0.75)));
  const x = (length) => 60 + 400 * Math.log2(length / LENGTHS[0]) / 3, y = (ms) => 260 - 225 * ms / most;
  const spoken = LENGTHS.map((length) => `${length} pieces, ${names.map((name) =>
    `${name} ${milliseconds(result.taken[length][name])}`).join(", ")}`);
  return [
    `<title>Milliseconds by length: ${spoken.join("; ")}</title>`,
    ...[0, most / 2, most].map((ms) => `<line class="axis" x1="50" x2="470" y1="${y(ms)}" y2="${y(ms)}"/>`
      + `<text x="44" y="${y(ms) + 5}" text-anchor="end">${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)}</text>`),
    ...LENGTHS.map((length) => `<text x="${x(length)}" y="284" text-anchor="middle">${length}</text>`),
    ...names.flatMap((name) => [
      `<path class="${name}" d="M${LENGTHS.map((n) => `${x(n)},${y(at(name, n, 0.5))}`).join("L")}"/>`,
      ...LENGTHS.map((n) => `<line class="${name}" x1="${x(n)}" x2="${x(n)}" y1="${y(at(name, n, 0.25))}" `
        + `y2="${y(at(name, n, 0.75))}" stroke-width="6"/>`),
      `<text class="${name}" x="472" y="${y(at(name, LENGTHS.at(-1), 0.5)) + 5}">${name}</text>`,
    ]),
  ].join("");
}

const told = () => JSON.stringify(result, null, 1);

async function copy() {
  try {
    await navigator.clipboard.writeText(told());
    $("timing").textContent = "Copied.";
  } catch {
    $("timing").textContent = "This browser does not let the page copy: save the file instead.";
  }
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([told()], { type: "application/json" }));
  link.download = "my-device.json";
  link.click();
}

// the page

function controls() {
  $("examples").replaceChildren(...manifest.sentences.map((text) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.onclick = () => { $("sentence").value = text; guess(); };
    return button;
  }));
  $("sentence").value = manifest.sentences[0];
  $("sentence").oninput = guess;
  $("blank").onclick = () => {
    const box = $("sentence"), text = box.value.replace(/ *_{2,} */g, " ");
    const at = Math.min(box.selectionStart ?? text.length, text.length);
    box.value = `${text.slice(0, at).trimEnd()} ___ ${text.slice(at).trimStart()}`.trim();
    box.focus();
    guess();
  };
  $("temperature").oninput = () => {
    $("degrees").textContent = Number($("temperature").value).toFixed(1);
    if (logits.teacher && !busy) draw("teacher");
  };
  for (const button of document.querySelectorAll("[name=precision]")) {
    button.onchange = () => { sizes(); say(`Loading ${precision()} …`); guess(); };
    $(`${button.value}-size`).textContent = `${megabytes(bytes("teacher", button.value) + bytes("student", button.value))} to fetch`;
  }
  const rounded = ["teacher", "student"].map((name) => manifest.models[name].int8);
  const off = (100 * Math.max(...rounded.map((form) => form.error))).toPrecision(2);
  const blocks = rounded.some((form) => form.rounding === "blocks") ? ", rounded in blocks" : "";
  $("int8-size").textContent += `; at most ${off} % off float32's scores${blocks}`;
  for (const name of ["teacher", "student"]) $(`${name}-layers`).textContent = ` of ${manifest.models[name].layers} layers`;
  $("words").textContent = `${manifest.models.teacher.words.toLocaleString("en")} words`;
  const most = crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency ?? 1) : 1;
  $("runs").replaceChildren(...Array.from({ length: most }, (_, i) => new Option(spelt(i + 1), i + 1)));
  $("runs-label").hidden = most === 1;
  $("runs").onchange = restart;
  navigator.gpu?.requestAdapter().then((adapter) => {
    if (!adapter) return;
    const fetched = sum(manifest.vendor.webgpu) + bytes("teacher", "float32") + bytes("student", "float32");
    $("runs").append(new Option(`WebGPU, ${megabytes(fetched)} to fetch`, "webgpu"));
    $("runs-label").hidden = false;
  }).catch(() => {});
  $("time").onclick = () => time(false);
  $("copy").onclick = copy;
  $("save").onclick = save;
  $("facts").textContent = `Models of scale ${manifest.scale}, ${manifest.runtime}, build ${manifest.build}.`;
  if (manifest.full) {
    const count = ["teacher", "student"].reduce((sum, name) => sum + manifest.full[name].int8.weights.random, 0);
    const fetched = ["teacher", "student"].reduce((sum, name) => sum + manifest.full[name].int8.encoder.bytes, 0);
    $("full").hidden = $("full-note").hidden = false;
    $("full").onclick = () => time(true);
    $("full-note").innerHTML = `<small>Full size is BERT-base against DistilBERT in int8. Speed needs no trained weights: `
      + `${Math.round(count / 1e6)} MB of random ones are made in memory, ${megabytes(fetched)} is fetched. It takes a `
      + "few minutes, and an old phone may run out of memory.</small>";
  }
}

$("cards").replaceChildren(...Object.keys(TITLES).filter((name) => manifest.models[name]).map(card));
controls();
sizes();
say(`Loading ${megabytes(total(["teacher", "student"]))} …`);
if (navigator.serviceWorker) navigator.serviceWorker.register("sw.js").catch(() => {});
start(1).then(guess).catch((error) => say(error.message, true));
