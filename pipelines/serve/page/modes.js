// What the page can be asked for: which fields a mode has, and what the model has learned of it.

import { $, make } from "./dom.js";
import { accept } from "./uploads.js";
import { fail, isRunning, say } from "./running.js";

// fields: elements with one of these names in data-field are shown. uploads: how many, of which kinds.
export const MODES = {
  draw: { label: "Draw", button: "Draw", prompt: "Prompt", placeholder: "a windmill turning on a hill, at dusk",
    fields: ["prompt", "size", "count", "negative", "codes"], what: "pictures",
    empty: "Your picture appears here, row by row." },
  edit: { label: "Edit", button: "Edit", prompt: "What to change", placeholder: "make the disc red",
    fields: ["prompt", "upload", "count", "images", "negative", "codes"], what: "edited pictures",
    uploads: ["references", ["image"]], upload: "Pictures to edit or to refer to",
    empty: "Add a picture and say what to change." },
  video: { label: "Video", button: "Generate", prompt: "Prompt", placeholder: "waves on a beach",
    fields: ["prompt", "upload", "size", "clock", "negative", "codes"], what: "videos",
    uploads: [1, ["image", "video"]], upload: "Begin with a picture, or continue a clip (optional)",
    empty: "A video from words, one that begins with a picture, or one that continues your clip." },
  story: { label: "Story", button: "Write", prompt: "What it is about", placeholder: "A fox builds a raft.",
    fields: ["prompt", "kind", "upload", "shape", "images", "words", "tokens"], what: "stories",
    uploads: ["references", ["image"]], upload: "Pictures that it refers to (optional)",
    empty: "The story grows here while it is drawn." },
  world: { label: "World", button: "Begin", prompt: "What there is to see", placeholder: "a street in an old town",
    fields: ["prompt", "upload", "size", "steps", "images", "words"], what: "worlds",
    uploads: [1, ["image"]], upload: "Where you stand (without a picture, one is drawn)",
    empty: "Begin, then walk by the arrow keys." },
  chat: { label: "Chat", button: "Send", prompt: "Message", placeholder: "What is in this picture?",
    fields: ["prompt", "upload", "chat", "shape", "words", "tokens"], what: "conversations",
    uploads: [4, ["image", "video"]], upload: "Pictures or clips (optional)",
    empty: "Ask about a picture or a clip, or talk." },
};
const KINDS = { story: "A story", howto: "Instructions, step by step", vla: "A robot's task" };
let settings = null, mode = "draw";

export const current = () => mode;
export const facts = () => settings;

function note() {
  const { what } = MODES[mode], own = settings.modes[mode];
  const of = mode === "story" ? own.tasks[$("kind").value] : own.learned;
  const name = mode === "story" ? { story: "stories", howto: "instructions", vla: "a robot's tasks" }[$("kind").value] : what;
  const caption = mode === "chat" ? " A picture sent without words gets a caption." : "";
  $("note").textContent = of === false ? `This model has not been trained on ${name}: expect little sense.${caption}` : "";
  $("note").hidden = of !== false;
}

export function choose(name, focus = false) {
  if (isRunning() && name !== mode) return;
  if (name !== mode) { $("easel").replaceChildren(); say(""); fail(""); }
  mode = name;
  const chosen = MODES[mode];
  document.body.dataset.mode = mode;
  for (const tab of $("tabs").children) {
    const is = tab.dataset.mode === mode;
    tab.ariaSelected = String(is);
    tab.tabIndex = is ? 0 : -1;
    if (is && focus) tab.focus();
  }
  for (const field of document.querySelectorAll("[data-field]")) {
    field.hidden = !field.dataset.field.split(" ").some((each) => chosen.fields.includes(each));
    field.querySelectorAll("input, select").forEach((each) => { each.disabled = field.hidden; });
  }
  $("prompt-label").textContent = chosen.prompt;
  $("prompt").placeholder = chosen.placeholder;
  $("prompt").required = ["draw", "edit", "story"].includes(mode);
  $("draw").textContent = chosen.button;
  $("upload-label").textContent = chosen.upload ?? "";
  $("keys").replaceChildren(...(mode === "chat" ? [make("kbd", {}, "Enter"), " sends"] : [make("kbd", {}, "Ctrl"), " ", make("kbd", {}, "Enter"), ` ${chosen.button.toLowerCase()}s`]));
  for (const id of ["easel", "story", "turns"]) $(id).dataset.empty = chosen.empty;
  const [count, kinds] = chosen.uploads ?? [0, []];
  accept(count === "references" ? settings.limits.references : count, kinds, settings.limits.upload_bytes);
  document.querySelectorAll("[data-panel]").forEach((panel) => {
    panel.hidden = !panel.dataset.panel.split(" ").includes(mode);
  });
  note();
  history.replaceState(null, "", `#${mode}`);
}

// The tabs of all modes that the model's documents have room for.
export function setUp(found) {
  settings = found;
  const names = Object.keys(MODES).filter((name) => name in settings.modes);
  $("tabs").replaceChildren(...names.map((name) => {
    const unlearned = settings.modes[name].learned === false;
    const tab = make("button", { type: "button", role: "tab", id: `tab-${name}`, className: unlearned ? "unlearned" : "",
      title: unlearned ? `Not trained on ${MODES[name].what}` : "" }, MODES[name].label);
    tab.setAttribute("aria-controls", "form");
    tab.dataset.mode = name;
    tab.addEventListener("click", () => choose(name));
    return tab;
  }));
  $("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(names[(names.indexOf(mode) + step + names.length) % names.length], true);
  });
  if (settings.modes.story) {
    const tasks = settings.modes.story.tasks, known = Object.keys(tasks).filter((task) => tasks[task] !== false);
    $("kind").replaceChildren(...Object.keys(tasks).map((task) => (
      make("option", { value: task }, KINDS[task] + (tasks[task] === false ? " (not learned)" : "")))));
    $("kind").value = known[0] ?? "story";
    $("kind").addEventListener("change", note);
  }
  const asked = location.hash.slice(1);
  choose(names.includes(asked) ? asked : names.find((name) => settings.modes[name].learned !== false) ?? "draw");
}
