// A conversation, with pictures and clips of the person and pictures of the model.

import { $, make, picture } from "./dom.js";
import { answer } from "./answers.js";
import { run } from "./running.js";
import { clear, uploads } from "./uploads.js";
import { tokens } from "./story.js";
import { form, sampling, textSampling } from "./main.js";

let messages = [];

export function restart() {
  messages = [];
  $("turns").replaceChildren();
  $("restart").hidden = true;
  form.prompt.focus();
}

export async function send() {
  const text = form.prompt.value.trim(), sent = [...uploads];
  if (!text && !sent.length) { form.prompt.focus(); return; }
  const media = sent.map(({ uri, kind }) => ({ type: `${kind}_url`, [`${kind}_url`]: { url: uri } }));
  const question = { role: "user", content: [...media, ...(text ? [{ type: "text", text }] : [])] };
  const system = form.system.value.trim();
  const body = { messages: [...(system ? [{ role: "system", content: system }] : []), ...messages, question],
    modalities: form.draws.checked ? ["text", "image"] : ["text"], size: form.shape.value, ...textSampling(), ...sampling(["guidance"]) };
  if (tokens()) body.max_tokens = tokens();
  const asked = make("li", { className: "mine" }, ...sent.map(({ uri, name }) => picture(uri, name)), ...(text ? [make("p", {}, text)] : []));
  const said = make("li", { className: "theirs" });
  $("turns").append(asked, said);
  said.scrollIntoView({ block: "nearest" });
  form.prompt.value = "";
  clear();
  await run(async (signal) => {
    const { content } = await answer(body, said, signal);
    messages.push(question, { role: "assistant", content: content || " " });
    $("restart").hidden = false;
  }, () => {
    // Asked again from where it was: the question goes back into its field.
    if (!said.querySelector("p, img")) { asked.remove(); said.remove(); form.prompt.value = text; uploads.push(...sent); }
  });
  form.prompt.focus();
}

$("restart").addEventListener("click", restart);
