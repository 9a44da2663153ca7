// Pictures and clips that a person gives: chosen, dropped or pasted, shown small, taken out again.

import { $, make, picture } from "./dom.js";
import { fail } from "./running.js";

export const uploads = [];  // { uri, kind: "image" or "video", name }
let most = 1, kinds = ["image"], bytes = 0;

// What the present mode takes: how many, and of which kinds.
export function accept(count, accepted, largest) {
  [most, kinds, bytes] = [count, accepted, largest];
  $("upload").multiple = count > 1;
  $("upload").accept = accepted.map((kind) => `${kind}/*`).join(",");
  uploads.splice(0, uploads.length, ...uploads.filter(({ kind }) => accepted.includes(kind)).slice(0, count));
  show();
}

export const given = (kind) => uploads.filter((each) => each.kind === kind).map(({ uri }) => uri);

export function clear() {
  uploads.length = 0;
  show();
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

async function add(files) {
  fail("");
  for (const file of files) {
    const kind = file.type.split("/")[0];
    if (!kinds.includes(kind)) { fail(`${file.name} is no ${kinds.join(" or ")}.`); continue; }
    if (file.size > bytes) { fail(`${file.name} is over ${Math.floor(bytes / 2 ** 20)} MiB.`); continue; }
    if (most === 1) uploads.length = 0;
    if (uploads.length === most) { fail(`At most ${most} pictures; take one out first.`); break; }
    try { uploads.push({ uri: await read(file), kind, name: file.name }); } catch (error) { fail(error.message); }
  }
  show();
}

export function put(uri, name) {
  uploads.splice(0, uploads.length, { uri, kind: "image", name });
  show();
}

function show() {
  $("uploads").replaceChildren(...uploads.map((upload, index) => {
    const out = make("button", { type: "button", className: "plain out", ariaLabel: `Take out ${upload.name}` }, "×");
    out.addEventListener("click", () => { uploads.splice(index, 1); show(); $("upload").focus(); });
    const shown = picture(upload.uri, upload.name);
    shown.controls = false;
    return make("li", {}, shown, out);
  }));
  $("upload-field").classList.toggle("full", uploads.length >= most && most > 1);
}

const drop = $("drop");
$("upload").addEventListener("change", (event) => { add([...event.target.files]); event.target.value = ""; });
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); add([...event.dataTransfer.files]); });
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length && !$("upload-field").hidden) { event.preventDefault(); add(files); }
});
