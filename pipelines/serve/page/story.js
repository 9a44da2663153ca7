// Stories, instructions, robots' tasks: a page of words and pictures that grows while it is written.

import { $, make } from "./dom.js";
import { answer } from "./answers.js";
import { run, say } from "./running.js";
import { given } from "./uploads.js";
import { form, pictureParts, sampling, textSampling } from "./main.js";

export function write() {
  const words = form.prompt.value, images = given("image");
  const body = { task: form.kind.value, size: form.shape.value, max_tokens: tokens(),
    messages: [{ role: "user", content: [...pictureParts(images), { type: "text", text: words }] }],
    ...textSampling(), ...sampling(["guidance", "image_guidance"]) };
  if (!body.max_tokens) delete body.max_tokens;
  const page = make("article", { className: "page" }, make("h2", {}, words)), body_ = make("div");
  page.append(body_);
  $("story").replaceChildren(page);
  $("now").scrollIntoView({ block: "nearest" });
  return run(async (signal) => {
    const { reason } = await answer(body, body_, signal, "Picture");
    page.append(saved(page, words));
    if (reason === "length") page.append(make("p", { className: "soft" }, "It was cut here: there was no room for more tokens."));
  }, () => { if (!body_.childElementCount) { page.remove(); say(""); } });
}

// A link that saves the page as a file with its pictures inside.
function saved(page, words) {
  const title = make("title", {}, words), copy = page.cloneNode(true);
  copy.querySelectorAll("a, .soft").forEach((each) => each.remove());
  const html = `<!doctype html>\n<meta charset="utf-8">\n${title.outerHTML}\n${copy.outerHTML}\n`;
  const href = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  return make("a", { className: "button plain", href, download: "page.html" }, "Save the page");
}

export const tokens = () => (form.max_tokens.value === "" ? null : form.max_tokens.valueAsNumber);
