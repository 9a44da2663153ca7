"use strict";

// The page of `reelmill serve`: it uses the same endpoints as every other client.

const $ = (id) => document.getElementById(id);
const form = $("form"), easel = $("easel"), progress = $("progress"), closer = $("closer");
const LABELS = { size: "size", seed: "seed", stream: "picture", guidance: "guidance", negative: "without",
  temperature: "temperature", top_k: "top-k", top_p: "top-p" };
const PARTIALS = 24;
let running = null;  // the AbortController of the request that is running
let entries = [];    // of the gallery, the newest first
let shown = -1;      // which of them the dialog shows

function say(message) { progress.textContent = message; }

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

// Server-sent events of a response: [name, data] each; comments are named "".
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith(":")) { yield ["", JSON.parse(block.slice(1))]; continue; }
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) { const parsed = JSON.parse(data.slice(6)); yield [parsed.type ?? "error", parsed]; }
    }
  }
}

async function problem(response) {
  let message = `the server answers ${response.status}`;
  try { message = (await response.json()).error.message; } catch { /* no JSON: the status says enough */ }
  return message.charAt(0).toUpperCase() + message.slice(1) + ".";
}

function requestBody() {
  const body = { prompt: form.prompt.value, size: form.size.value, stream: true, partial_images: PARTIALS,
    negative_prompt: form.negative_prompt.value };
  for (const name of ["n", "guidance", "temperature", "top_k", "top_p"]) body[name] = form.elements[name].valueAsNumber;
  if (form.seed.value !== "") body.seed = form.seed.valueAsNumber;
  return body;
}

// Empty sheets of the right shape, one for each picture.
function layOut(body) {
  easel.replaceChildren(...Array.from({ length: body.n }, (_, index) => {
    const figure = document.createElement("figure"), sheet = document.createElement("div");
    const bar = document.createElement("progress");
    sheet.className = "sheet";
    sheet.style.aspectRatio = body.size.replace(":", " / ");
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `Picture ${index + 1}`);
    figure.append(sheet, bar);
    return figure;
  }));
}

function put(event, prompt) {
  const figure = easel.children[event.index], sheet = figure.firstElementChild;
  const image = sheet.firstElementChild ?? sheet.appendChild(new Image());
  image.alt = prompt;
  image.src = `data:image/png;base64,${event.b64_json}`;
  sheet.style.aspectRatio = event.size.replace("x", " / ");
  if (event.type === "image_generation.completed") figure.querySelector("progress")?.remove();
}

function tell(news, began) {
  if (news.queue_position > 0 && !news.rows.some(Boolean)) { say(`Waiting, ${news.queue_position} ahead of you`); return; }
  news.rows.forEach((rows, index) => {
    const bar = easel.children[index].querySelector("progress");
    if (bar) bar.value = rows / news.total_rows;
  });
  const done = news.rows.reduce((sum, rows) => sum + rows, 0), all = news.total_rows * news.rows.length;
  const left = done ? Math.ceil((performance.now() - began) / 1000 * (all - done) / done) : 0;
  say(`Row ${done} of ${all}` + (left ? `, about ${left} s left` : ""));
}

async function draw() {
  if (running || !form.reportValidity()) return;
  const body = requestBody(), began = performance.now();
  let working = 0, whole = 0;
  running = new AbortController();
  $("draw").disabled = true;
  $("stop").hidden = false;
  fail("");
  layOut(body);
  $("now").scrollIntoView({ block: "nearest" });
  say("Sent");
  try {
    const response = await fetch("v1/images/generations", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: running.signal,
    });
    if (!response.ok) throw new Error(await problem(response));
    for await (const [name, data] of events(response)) {
      if (name === "error") throw new Error(`${data.error.message}.`);
      if (name === "") { working ||= performance.now(); tell(data, working); continue; }
      put(data, body.prompt);
      if (name === "image_generation.completed") { whole += 1; refresh(); }
    }
    if (whole < body.n) throw new Error("The server ended before the picture was complete.");
    say(`Generated in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  } catch (error) {
    easel.querySelectorAll("progress").forEach((bar) => bar.remove());
    if (!easel.querySelector("img")) easel.replaceChildren();
    if (error.name === "AbortError") say("Stopped");
    else { say(""); fail(error instanceof TypeError ? "The server does not answer. Is it still running?" : error.message); }
  } finally {
    running = null;
    $("draw").disabled = false;
    $("stop").hidden = true;
  }
}

async function refresh() {
  const response = await fetch("gallery");
  if (!response.ok) { fail(await problem(response)); return; }
  entries = (await response.json()).data;
  $("empty").hidden = entries.length > 0;
  const known = new Map([...$("pictures").children].map((item) => [item.dataset.name, item]));
  $("pictures").replaceChildren(...entries.map((entry) => known.get(entry.name) ?? item(entry)));
}

function item(entry) {
  const item = document.createElement("li"), button = document.createElement("button");
  const frame = document.createElement("span"), image = new Image(), caption = document.createElement("span");
  item.dataset.name = entry.name;
  image.loading = "lazy";
  image.src = `gallery/${entry.name}`;
  image.alt = "";
  frame.className = "frame";
  frame.append(image);
  caption.className = "caption";
  caption.textContent = entry.prompt || "(no prompt)";
  button.type = "button";
  button.append(frame, caption);
  button.addEventListener("click", () => open(entries.findIndex((each) => each.name === entry.name)));
  item.append(button);
  return item;
}

function open(index) {
  const entry = entries[index];
  if (!entry) return;
  shown = index;
  $("closer-image").src = `gallery/${entry.name}`;
  $("closer-image").alt = entry.prompt;
  $("closer-prompt").textContent = entry.prompt || "(no prompt)";
  $("closer-settings").replaceChildren(...Object.entries(LABELS).filter(([name]) => entry[name] !== "").map(([name, label]) => {
    const row = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = label;
    value.textContent = name === "stream" ? entry[name] + 1 : String(entry[name]);
    row.append(term, value);
    return row;
  }));
  $("download").href = `gallery/${entry.name}`;
  $("newer").disabled = index === 0;
  $("older").disabled = index === entries.length - 1;
  if (!closer.open) closer.showModal();
}

// The shape whose ratio is nearest to a size in pixels.
function shape(size) {
  const [width, height] = size.split("x").map(Number);
  const off = (option) => { const [w, h] = option.value.split(":"); return Math.abs(Math.log((w / h) / (width / height))); };
  return [...form.size.options].reduce((best, option) => (off(option) < off(best) ? option : best)).value;
}

function again() {
  const entry = entries[shown];
  for (const name of ["prompt", "guidance", "temperature", "top_k", "top_p", "seed"]) form.elements[name].value = entry[name];
  form.negative_prompt.value = entry.negative;
  form.size.value = shape(entry.size);
  form.n.value = entry.stream + 1;  // the pictures of one seed are numbered
  $("more").open = true;
  outputs();
  closer.close();
  form.prompt.focus();
}

function outputs() {
  for (const output of form.querySelectorAll("output")) {
    const value = form.elements[output.htmlFor[0]].value;
    output.value = output.htmlFor[0] === "guidance" && Number(value) === 1 ? "off" : value;
  }
}

async function watch() {
  try {
    const found = await (await fetch("health")).json();
    $("state").textContent = found.running ? `${found.running} running, ${found.waiting} waiting, ${Math.round(found.tokens_per_s)} tokens/s` : "idle";
  } catch { $("state").textContent = "no answer"; }
}

async function start() {
  const response = await fetch("settings");
  if (!response.ok) { fail(await problem(response)); return; }
  const settings = await response.json();
  $("model").textContent = settings.model;
  $("model").title = settings.checkpoint;
  document.title = `${settings.model} · reelmill`;
  form.n.max = settings.max_images;
  for (const [name, value] of Object.entries(settings.defaults)) form.elements[name].value = value;
  outputs();
  await refresh();
  watch();
  setInterval(() => { if (!document.hidden) watch(); }, 2000);
}

form.addEventListener("submit", (event) => { event.preventDefault(); draw(); });
form.addEventListener("input", outputs);
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); draw(); }
});
$("stop").addEventListener("click", () => { running?.abort(); $("draw").focus(); });
$("again").addEventListener("click", again);
$("close").addEventListener("click", () => closer.close());
$("newer").addEventListener("click", () => open(shown - 1));
$("older").addEventListener("click", () => open(shown + 1));
closer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") open(shown - 1);
  if (event.key === "ArrowRight") open(shown + 1);
});
closer.addEventListener("click", (event) => { if (event.target === closer) closer.close(); });
start();
