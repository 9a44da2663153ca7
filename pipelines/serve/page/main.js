// The page of `reelmill serve`: starts it, and reads its form.

import { $ } from "./dom.js";
import { get } from "./api.js";
import { draw } from "./draw.js";
import { write } from "./story.js";
import { begin } from "./world.js";
import { send } from "./chat.js";
import { refresh } from "./gallery.js";
import { current, setUp } from "./modes.js";
import { fail, isRunning, stop } from "./running.js";

export const form = $("form");
const GO = { draw, edit: draw, video: draw, story: write, world: begin, chat: send };

// Parts of a message, one for each picture.
export const pictureParts = (uris) => uris.map((url) => ({ type: "image_url", image_url: { url } }));

// The numbers in these fields that are in use, and the seed.
export function sampling(names) {
  const found = Object.fromEntries(names.map((name) => [name, form.elements[name].valueAsNumber]).filter(([, value]) => !Number.isNaN(value)));
  return form.seed.value === "" ? found : { ...found, seed: form.seed.valueAsNumber };
}

// Those of words, under the names that the chat endpoint has for them.
export function textSampling() {
  const found = sampling(["text_temperature", "text_top_k", "text_top_p"]);
  return Object.fromEntries(Object.entries(found).map(([name, value]) => [name.replace("text_", ""), value]));
}

// The values beside the sliders.
export function outputs() {
  for (const output of form.querySelectorAll("output")) {
    const { name, value } = form.elements[output.htmlFor[0]];
    output.value = name.endsWith("guidance") && Number(value) === 1 ? "off" : value;
  }
}

function go() {
  if (isRunning() || !form.reportValidity()) return;
  GO[current()]();
}

const thousands = (number) => number.toLocaleString("en-US");

function tellTraining(training) {
  if (!training) return;
  const tokens = training.tokens ? ` on ${thousands(training.tokens)} tokens` : "";
  $("trained").textContent = `trained for ${thousands(training.steps)} steps${tokens}`;
  if (!training.few) return;
  $("few").textContent = `This model has been trained for ${thousands(training.steps)} steps only: expect noise rather than what you ask for.`;
  $("few").hidden = false;
}

async function watch() {
  try {
    const found = await get("health");
    $("state").textContent = found.running ? `${found.running} running, ${found.waiting} waiting, ${Math.round(found.tokens_per_s)} tokens/s` : "idle";
  } catch { $("state").textContent = "no answer"; }
}

async function start() {
  let settings;
  try { settings = await get("settings"); } catch (error) { fail(error.message); return; }
  $("model").textContent = settings.model;
  $("model").title = settings.checkpoint;
  document.title = `${settings.model} · reelmill`;
  form.n.max = settings.limits.images;
  form.max_tokens.max = settings.limits.tokens;
  for (const [name, value] of Object.entries(settings.defaults)) form.elements[name].value = value;
  outputs();
  tellTraining(settings.training);
  setUp(settings);
  await refresh();
  watch();
  setInterval(() => { if (!document.hidden) watch(); }, 2000);
}

form.addEventListener("submit", (event) => { event.preventDefault(); go(); });
form.addEventListener("input", outputs);
form.addEventListener("keydown", (event) => {
  const sends = current() === "chat" && event.target === form.prompt && !event.shiftKey && !event.isComposing;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey || sends)) { event.preventDefault(); go(); }
  if (event.key === "Escape" && isRunning()) stop();
});
$("stop").addEventListener("click", () => { stop(); $("draw").focus(); });
start();
