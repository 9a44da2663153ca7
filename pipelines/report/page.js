"use strict";
// Moving bounds: counts come with the page, nothing is fetched.
const movable = JSON.parse(document.getElementById("movable").textContent);
const shorten = (x) => (Math.abs(x) >= 1000 ? Math.round(x).toLocaleString("en") : String(Number(x.toPrecision(3))));

function within(part, low, high) {
  const upto = high === null ? part.total : part.upto[high];
  const below = low === null ? 0 : part.below[low];
  return Math.max(upto - below, 0) + part.missing;
}

for (const form of document.querySelectorAll("form.move")) {
  const rule = movable[form.dataset.rule];
  const read = (side) => (form.elements[side] ? Number(form.elements[side].value) : null);
  const rejectsNothing = (side, at) => at === (side === "min" ? 0 : rule.steps.length - 1);
  const words = (side, at) => (rejectsNothing(side, at) ? "no bound" : shorten(rule.steps[at]));
  const now = within(rule.sure, rule.min, rule.max);
  const show = () => {
    const low = read("min"), high = read("max");
    const kept = within(rule.sure, low, high), waits = within(rule.open, low, high);
    const change = kept - now;
    const sets = [];
    for (const [side, at] of [["min", low], ["max", high]]) {
      if (at === null) continue;
      form.querySelector(`output[name=${side}-value]`).value = words(side, at);
      form.elements[side].setAttribute("aria-valuetext", words(side, at));
      const line = form.closest("article").querySelector(`line.moved.${side}`);
      const x = 6 + rule.places[at] * 348;
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      line.classList.toggle("home", at === rule[side]);
      const bound = rejectsNothing(side, at) ? rule.steps[at] : Number(rule.steps[at].toPrecision(4));
      if (at !== rule[side]) sets.push(`--set rules.${form.dataset.rule}.${side}=${bound}`);
    }
    const signed = change === 0 ? "as now" : `${change > 0 ? "+" : "−"}${Math.abs(change).toLocaleString("en")}`;
    const waiting = waits ? `; ${waits.toLocaleString("en")} more wait for a score` : "";
    form.querySelector("output.kept").value = `keeps ${kept.toLocaleString("en")} (${signed})${waiting}`;
    const command = form.querySelector("code");
    command.textContent = sets.length ? `reelmill select OUT NAME ${sets.join(" ")}` : "";
    command.hidden = !sets.length;
  };
  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
}

// Keys: j and k go through the clips, p stops and starts what moves, ? shows the keys.
const clips = [...document.querySelectorAll(".clip")];
const help = document.getElementById("keys");
function step(by) {
  const at = clips.indexOf(document.activeElement.closest?.(".clip"));
  const next = clips[at < 0 ? (by > 0 ? 0 : clips.length - 1) : Math.min(Math.max(at + by, 0), clips.length - 1)];
  if (!next) return;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "center" });
}
const button = document.getElementById("pause");
function pause() {
  const paused = document.documentElement.classList.toggle("paused");
  button?.setAttribute("aria-pressed", String(paused));
  if (button) button.textContent = paused ? "Play" : "Pause";
}
button?.addEventListener("click", pause);
if (button && matchMedia("(prefers-reduced-motion: reduce)").matches) pause();
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "p") pause();
  else if (event.key === "?") help.open = !help.open;
  else return;
  event.preventDefault();
});
