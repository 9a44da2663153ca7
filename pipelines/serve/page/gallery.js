// What was generated since the server started: small, then large with its settings.

import { $, make, picture } from "./dom.js";
import { get } from "./api.js";
import { fail } from "./running.js";
import { choose } from "./modes.js";
import { form, outputs } from "./main.js";

const LABELS = { size: "size", seed: "seed", stream: "picture", seconds: "seconds", fps: "frames/s", task: "task", guidance: "guidance",
  image_guidance: "guidance by pictures", negative: "without", temperature: "temperature", top_k: "top-k", top_p: "top-p",
  decode: "decoded", steps: "passes", lag: "codes behind" };
const closer = $("closer");
let entries = [];  // the newest first
let shown = -1;    // which of them the dialog shows

export async function refresh() {
  try { entries = (await get("gallery")).data; } catch (error) { fail(error.message); return; }
  $("empty").hidden = entries.length > 0;
  const known = new Map([...$("pictures").children].map((item) => [item.dataset.name, item]));
  $("pictures").replaceChildren(...entries.map((entry) => known.get(entry.name) ?? item(entry)));
}

function small({ name }) {
  const src = `gallery/${name}`;
  if (!name.endsWith(".mp4")) return make("img", { loading: "lazy", src, alt: "" });
  return make("video", { src: `${src}#t=0.1`, preload: "metadata", muted: true, playsInline: true, tabIndex: -1, ariaHidden: "true" });
}

function item(entry) {
  const caption = make("span", { className: "caption" }, entry.prompt || "(no prompt)");
  const button = make("button", { type: "button" }, make("span", { className: "frame" }, small(entry)), caption);
  button.addEventListener("click", () => open(entries.findIndex((each) => each.name === entry.name)));
  const made = make("li", {}, button);
  made.dataset.name = entry.name;
  return made;
}

function open(index) {
  const entry = entries[index];
  if (!entry) return;
  shown = index;
  $("closer-media").replaceChildren(Object.assign(picture(`gallery/${entry.name}`, entry.prompt), { id: "closer-image" }));
  $("closer-prompt").textContent = entry.prompt || "(no prompt)";
  $("closer-settings").replaceChildren(...Object.entries(LABELS).filter(([name]) => (entry[name] ?? "") !== "").map(([name, label]) => (
    make("div", {}, make("dt", {}, label), make("dd", {}, name === "stream" ? entry[name] + 1 : String(entry[name]))))));
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
  choose(entry.seconds ? "video" : entry.task === "x2i" ? "edit" : "draw");
  for (const name of ["prompt", "guidance", "image_guidance", "temperature", "top_k", "top_p", "seed", "seconds", "fps"]) {
    if (name in entry) form.elements[name].value = entry[name];
  }
  form.negative_prompt.value = entry.negative;
  form.size.value = shape(entry.size);
  form.n.value = entry.stream + 1;  // the pictures of one seed are numbered
  $("more").open = true;
  outputs();
  closer.close();
  form.prompt.focus();
}

$("again").addEventListener("click", again);
$("close").addEventListener("click", () => closer.close());
$("newer").addEventListener("click", () => open(shown - 1));
$("older").addEventListener("click", () => open(shown + 1));
closer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") open(shown - 1);
  if (event.key === "ArrowRight") open(shown + 1);
});
closer.addEventListener("click", (event) => { if (event.target === closer) closer.close(); });
closer.addEventListener("close", () => $("closer-media").replaceChildren());
