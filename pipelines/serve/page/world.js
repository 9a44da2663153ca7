// A world to walk through: each key is a movement, and the answer is what is seen then.
//
// The movements so far are one answer that goes on, as the model learned it: words and a picture by turns. When the
// model has room for no more, the newest picture becomes the first one.

import { $, make } from "./dom.js";
import { answer, partsOf } from "./answers.js";
import { isRunning, run } from "./running.js";
import { drawn, givenUp } from "./draw.js";
import { put, uploads } from "./uploads.js";
import { current, facts } from "./modes.js";
import { form, pictureParts, sampling, textSampling } from "./main.js";

const KEYS = { ArrowUp: "forward", ArrowDown: "back", ArrowLeft: "left", ArrowRight: "right" };
let first = null, steps = [], words = "";  // where it begins, and { said, uri } of each movement since

function show(uri, said) {
  const seen = $("world-view"), earlier = $("world-trail");
  seen.replaceChildren(make("img", { src: uri, alt: said || words || "Where you stand" }));
  const item = make("li", {}, make("img", { src: uri, alt: "" }), make("span", {}, said || "here"));
  earlier.append(item);
  while (earlier.childElementCount > 24) earlier.firstElementChild.remove();
  earlier.scrollLeft = earlier.scrollWidth;
  $("pad").hidden = false;
}

export async function begin() {
  words = form.prompt.value;
  steps = [];
  $("world-trail").replaceChildren();
  $("world-view").replaceChildren();
  $("pad").hidden = true;
  if (uploads.length) {
    first = uploads[0].uri;
    show(first, "");
    look();
    return;
  }
  const { task } = facts().modes.draw;
  const body = { prompt: words, size: form.size.value, n: 1, ...(task ? { task } : {}), ...sampling(["guidance"]) };
  await run(async (signal) => {
    const event = await drawn("v1/images/generations", body, 1, signal);
    first = `data:image/png;base64,${event.b64_json}`;
    $("easel").replaceChildren();
    put(first, "where you stand");
    show(first, "");
  }, () => { givenUp(); $("easel").replaceChildren(); });
  look();
}

function look() {
  $("world-view").focus({ preventScroll: true });
  $("world-view").scrollIntoView({ block: "nearest" });
}

export async function move(direction) {
  if (isRunning() || !first || !form.reportValidity()) return;
  const said = form.elements[`say_${direction}`].value;
  if (steps.length >= facts().limits.world_steps) { first = steps.at(-1).uri; steps = []; }
  const walked = steps.map((step) => `${step.said}\n\n![picture](${step.uri})\n\n`).join("") + said;
  const view = $("world-view").querySelector("img"), size = `${view.naturalWidth}:${view.naturalHeight}`;
  const body = { task: "explore", size, continue_final_message: true, max_pictures: 1, ...textSampling(), ...sampling(["guidance", "image_guidance"]),
    messages: [{ role: "user", content: [{ type: "text", text: words || "Explore." }, ...pictureParts([first])] }, { role: "assistant", content: walked }] };
  const coming = make("div");
  await run(async (signal) => {
    $("world-view").append(coming);
    const { content } = await answer(body, coming, signal, "View");
    const found = partsOf(content).find(({ uri }) => uri);
    if (!found) throw new Error("The model drew no whole picture. Start the server with more --context-tokens, or train it on worlds.");
    steps.push({ said, uri: found.uri });
    show(found.uri, said);
  }, () => coming.remove());
  coming.remove();
  look();
}

document.addEventListener("keydown", (event) => {
  const direction = KEYS[event.key];
  if (current() !== "world" || !direction || event.target.closest?.("input, select, textarea, [role=tab], dialog")) return;
  event.preventDefault();
  move(direction);
});
for (const button of document.querySelectorAll("#pad button")) button.addEventListener("click", () => move(button.dataset.to));
