// Pictures, edited pictures and videos: empty sheets that fill in row by row.

import { $, make, picture } from "./dom.js";
import { stream } from "./api.js";
import { rowsLine, run, say, waiting } from "./running.js";
import { refresh } from "./gallery.js";
import { given, uploads } from "./uploads.js";
import { current, facts } from "./modes.js";
import { form, sampling } from "./main.js";

const PARTIALS = 24;
const sheets = () => $("easel");

function layOut(count, size) {
  sheets().replaceChildren(...Array.from({ length: count }, (_, index) => {
    const sheet = make("div", { className: "sheet" }), bar = make("progress", { max: 1, value: 0, ariaLabel: `Picture ${index + 1}` });
    if (size.includes(":")) sheet.style.aspectRatio = size.replace(":", " / ");
    return make("figure", {}, sheet, bar);
  }));
}

function put(event, prompt) {
  const figure = sheets().children[event.index ?? 0], sheet = figure.firstElementChild, isWhole = event.type.endsWith("completed");
  const kind = isWhole && event.output_format === "mp4" ? "video/mp4" : "image/png";
  sheet.style.aspectRatio = event.size.replace("x", " / ");
  sheet.replaceChildren(picture(`data:${kind};base64,${event.b64_json}`, prompt));
  if (isWhole) figure.querySelector("progress")?.remove();
}

function tell(news, began) {
  const rows = [news.rows].flat();
  if (news.queue_position > 0 && !rows.some(Boolean)) { say(waiting(news)); return; }
  rows.forEach((done, index) => {
    const bar = sheets().children[index].querySelector("progress");
    if (bar) bar.value = done / news.total_rows;
  });
  say(rowsLine(rows.reduce((sum, done) => sum + done, 0), news.total_rows * rows.length, began));
}

function imagesBody() {
  const body = { prompt: form.prompt.value, size: form.size.value, n: form.n.valueAsNumber, negative_prompt: form.negative_prompt.value,
    ...sampling(["guidance", "temperature", "top_k", "top_p"]) };
  if (current() === "edit") return { ...body, size: "auto", task: "x2i", images: given("image"), ...sampling(["image_guidance"]) };
  const { task } = facts().modes.draw;
  return task ? { ...body, task } : body;
}

function videosBody() {
  const body = { prompt: form.prompt.value, seconds: form.seconds.valueAsNumber, fps: form.fps.valueAsNumber, size: form.size.value,
    negative_prompt: form.negative_prompt.value, ...sampling(["guidance", "temperature", "top_k", "top_p"]) };
  const [upload] = uploads;
  return upload ? { ...body, [upload.kind]: upload.uri } : body;
}

// Draw the pictures or the video of a body; returns the last completed event.
export async function drawn(path, body, count, signal) {
  let began = 0, whole = 0, last = null;
  layOut(count, body.size);
  for await (const [name, data] of stream(path, { ...body, partial_images: PARTIALS }, signal)) {
    if (name === "") { began ||= performance.now(); tell(data, began); continue; }
    put(data, body.prompt);
    if (name.endsWith("completed")) { whole += 1; last = data; refresh(); }
  }
  if (whole < count) throw new Error("The server ended before the picture was complete.");
  return last;
}

export function givenUp() {
  sheets().querySelectorAll("progress").forEach((bar) => bar.remove());
  if (!sheets().querySelector("img, video")) sheets().replaceChildren();
}

export function draw() {
  const isVideo = current() === "video", body = isVideo ? videosBody() : imagesBody();
  $("now").scrollIntoView({ block: "nearest" });
  return run((signal) => drawn(isVideo ? "v1/videos/generations" : "v1/images/generations", body, isVideo ? 1 : body.n, signal), givenUp);
}
