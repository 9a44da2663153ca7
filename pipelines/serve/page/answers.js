// An answer of the chat endpoint while it is streamed: words, pictures, and the picture that is being drawn.

import { make } from "./dom.js";
import { stream } from "./api.js";
import { rowsLine, say, waiting } from "./running.js";

const PICTURE = /!\[[^\]\n]*\]\((data:(?:image|video)\/[^)\s]*)\)/g;

// The parts of a content: { text } and { uri }.
export function partsOf(content) {
  const parts = [];
  let place = 0;
  for (const found of content.matchAll(PICTURE)) {
    parts.push({ text: content.slice(place, found.index) }, { uri: found[1] });
    place = found.index + found[0].length;
  }
  return [...parts, { text: content.slice(place) }].filter(({ text }) => text === undefined || text.trim());
}

// Words as paragraphs; a thought, which comes as a quotation, as one. The model's text is never markup.
function paragraphs(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => (
    line.startsWith("> ") ? make("blockquote", {}, line.slice(2)) : make("p", {}, line)));
}

// Put `content` into `place`, and `drawing` (a data URI, or null) as its last picture.
function show(place, content, drawing, label) {
  const parts = partsOf(content);
  let pictures = 0;
  const wanted = parts.flatMap((part) => {
    if (!part.uri) return paragraphs(part.text);
    pictures += 1;
    return [place.querySelector(`img[data-number="${pictures}"]`) ?? Object.assign(
      make("img", { src: part.uri, alt: `${label} ${pictures}` }), { number: pictures })];
  });
  wanted.filter((each) => each.number).forEach((each) => { each.dataset.number = each.number; });
  if (drawing) {
    const being = place.querySelector("img.being") ?? make("img", { className: "being", alt: "The picture that is being drawn" });
    being.src = drawing;
    wanted.push(being);
  }
  place.replaceChildren(...wanted);
}

// Stream the answer to `body` into the element `place`; returns its content.
export async function answer(body, place, signal, label = "Picture") {
  let content = "", drawing = null, began = 0, reason = null, pictures = 0;
  for await (const [name, data] of stream("v1/chat/completions", { ...body, previews: true }, signal)) {
    if (name === "data" && data.choices?.length) {
      const choice = data.choices[0];
      reason = choice.finish_reason ?? reason;
      if (!choice.delta.content) continue;
      content += choice.delta.content;
      if (choice.delta.content.includes("](data:")) { drawing = null; began = 0; pictures += 1; }
    } else if (name === "") {
      if (data.queue_position > 0 && !data.tokens) { say(waiting(data)); continue; }
      drawing = data.preview ?? drawing;
      const of = pictures ? `Picture ${pictures + 1}: ` : "";
      if (data.rows) { began ||= performance.now(); say(of + rowsLine(data.rows, data.total_rows, began)); } else say(`${data.tokens} tokens`);
    }
    show(place, content, drawing, label);
  }
  if (reason === null) throw new Error("The server ended before the answer was complete.");
  show(place, content, null, label);
  if (!content.trim()) place.replaceChildren(make("p", { className: "soft" }, "The model had nothing to say."));
  return { content, reason };
}
