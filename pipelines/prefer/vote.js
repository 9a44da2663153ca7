"use strict";
// A task at a time: pictures, two questions, an answer that the server has stored before the next task comes.

const QUESTIONS = [["appeal", "Looks"], ["alignment", "Match"]];
const RATINGS = [1, 2, 3, 4, 5];
const find = (id) => document.getElementById(id);
const state = { mode: "rate", voter: "", task: null, said: {}, card: 0, question: 0, busy: false, past: [] };

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...inside);
  return element;
}

async function ask(address, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(address, options);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error?.message ?? `status ${answer.status}`);
  return found;
}

function show(section) {
  for (const name of ["welcome", "voting", "end"]) find(name).hidden = name !== section;
}

function complain(error) {
  const lost = error instanceof TypeError;
  find("problem").textContent = lost ? "The server cannot be reached. Nothing is lost; press Next again." : error.message;
  find("problem").hidden = false;
}

// What is not stored yet outlives a reload.
const draft = () => `reelmill-vote ${state.voter} ${state.mode} ${state.task.number}`;

async function open(number = null) {
  if (state.busy) return;
  state.busy = true;
  try {
    const asked = number === null ? "" : `&number=${number}`;
    const task = await ask(`task?voter=${encodeURIComponent(state.voter)}${asked}`);
    find("problem").hidden = true;
    if (task.number === null) {
      end(task);
      return;
    }
    state.task = task;
    state.card = 0;
    state.question = 0;
    const kept = JSON.parse(localStorage.getItem(draft()) ?? "{}");
    state.said = {};
    for (const id of task.candidates) state.said[id] = { ...task.scores[id], ...kept[id] };
    draw();
    show("voting");
    window.scrollTo(0, 0);
  } catch (error) {
    complain(error);
    if (find("voting").hidden) { find("welcome").hidden = false; alert(find("problem").textContent); }
  } finally {
    state.busy = false;
  }
  fetchAhead(state.task?.next).catch(() => {}); // it is fetched again when it is shown
}

async function fetchAhead(number) {
  if (number === null || number === undefined) return;
  const next = await ask(`task?voter=${encodeURIComponent(state.voter)}&number=${number}`);
  for (const id of next.candidates) new Image().src = `picture/${id}.png`;
}

function draw() {
  const { task } = state, count = task.candidates.length;
  find("prompt").textContent = task.prompt;
  find("where").textContent = `${task.number + 1} of ${task.total} · ${task.done} done`;
  find("progress").max = task.total;
  find("progress").value = task.done;
  find("who").textContent = state.voter;
  find("back").disabled = task.number === 0;
  const cards = find("cards");
  cards.className = "wide";
  const columns = state.mode === "compare" ? 2 : count <= 4 ? count : count <= 6 ? 3 : count <= 8 ? 4 : 5;
  const rows = Math.ceil(count / columns);
  cards.style.setProperty("--columns", columns);
  cards.style.setProperty("--tallest", state.mode === "compare" ? "62dvh" : `${Math.max(22, Math.round((100 - 24 - 13 * rows) / rows))}dvh`);
  cards.replaceChildren(...task.candidates.map(card));
  const panel = find("panel");
  panel.hidden = state.mode !== "compare";
  panel.replaceChildren(...(state.mode === "compare" ? QUESTIONS.map(comparison) : []));
  paint();
}

function card(id, place) {
  const picture = make("img", { src: `picture/${id}.png`, alt: `Picture ${place + 1}`, draggable: "false" });
  const look = make("button", { class: "look", type: "button", "aria-label": `Picture ${place + 1}`, tabindex: "-1",
    onclick: () => (state.mode === "compare" ? lookAt(place) : go(place, 0)) }, picture);
  look.addEventListener("dblclick", () => lookAt(place));
  const larger = make("button", { class: "larger", type: "button", "aria-label": `Picture ${place + 1}, larger`, tabindex: "-1",
    onclick: () => lookAt(place) }, "⤢");
  const figure = make("figure", { class: "card", "data-id": id }, look, make("b", { class: "number" }, String(place + 1)), larger);
  if (state.mode === "rate") {
    figure.append(make("div", { class: "chips" }, ...QUESTIONS.map(([name]) => make("span", { "data-chip": name }))));
    figure.append(make("div", { class: "rows" }, ...QUESTIONS.map(([name, label], question) =>
      row(name, `${label}`, RATINGS.map((value) => [String(value), value]), (value) => rate(place, question, value), `Picture ${place + 1}, ${label}`))));
  }
  return figure;
}

function comparison([name, label], question) {
  const choices = [["1 is better", 0], ["No difference", null], ["2 is better", 1]];
  return row(name, label, choices, (winner) => prefer(question, winner), label);
}

function row(name, label, choices, choose, described) {
  const buttons = choices.map(([text, value]) => make("button", { type: "button", role: "radio", "aria-checked": "false",
    "data-value": String(value), onclick: (event) => { if (event.detail) event.currentTarget.blur(); choose(value); } }, text));
  return make("div", { class: "row", "data-question": name, role: "radiogroup", "aria-label": described },
    make("span", {}, label), make("div", { class: "scale" }, ...buttons));
}

function winner(name) {
  const [one, other] = state.task.candidates.map((id) => state.said[id][name]);
  if (one === undefined) return undefined;
  return one === other ? null : one > other ? 0 : 1;
}

function isWhole() {
  return state.task.candidates.every((id) => QUESTIONS.every(([name]) => state.said[id][name] !== undefined));
}

function paint() {
  const { task } = state, comparing = state.mode === "compare";
  [...find("cards").children].forEach((figure, place) => {
    figure.classList.toggle("here", !comparing && place === state.card);
    if (comparing) return;
    const said = state.said[task.candidates[place]];
    QUESTIONS.forEach(([name, label], question) => {
      const line = figure.querySelector(`[data-question=${name}]`), chip = figure.querySelector(`[data-chip=${name}]`);
      line.classList.toggle("here", place === state.card && question === state.question);
      mark(line, said[name]);
      chip.textContent = `${label} ${said[name] ?? "–"}`;
      chip.classList.toggle("said", said[name] !== undefined);
    });
  });
  if (comparing) {
    [...find("panel").children].forEach((line, question) => {
      line.classList.toggle("here", question === state.question);
      mark(line, winner(QUESTIONS[question][0]));
    });
  }
  find("save").disabled = !isWhole();
}

function mark(line, value) {
  for (const button of line.querySelectorAll("button")) {
    button.setAttribute("aria-checked", String(value !== undefined && button.dataset.value === String(value)));
  }
}

function keep() {
  localStorage.setItem(draft(), JSON.stringify(state.said));
}

function rate(place, question, value) {
  state.said[state.task.candidates[place]][QUESTIONS[question][0]] = value;
  keep();
  if (question === 0) go(place, 1);
  else if (place + 1 < state.task.candidates.length) go(place + 1, 0);
  else go(place, 1);
}

function prefer(question, better) {
  state.task.candidates.forEach((id, place) => {
    state.said[id][QUESTIONS[question][0]] = better === null ? 0.5 : Number(place === better);
  });
  keep();
  state.question = Math.min(question + 1, QUESTIONS.length - 1);
  paint();
}

function go(place, question) {
  const count = state.task.candidates.length, moved = place !== state.card;
  state.card = Math.min(Math.max(place, 0), count - 1);
  if (state.mode === "rate") state.question = question;
  paint();
  if (moved) find("cards").children[state.card].scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function lookAt(place) {
  go(place, 0);
  zoom();
}

function zoom() {
  const dialog = find("zoom");
  dialog.querySelector("img").src = `picture/${state.task.candidates[state.card]}.png`;
  if (!dialog.open) dialog.showModal();
}

async function save() {
  if (state.busy || !isWhole()) return;
  state.busy = true;
  find("save").disabled = true;
  const scores = state.task.candidates.map((id) => ({ candidate_id: id, ...state.said[id] }));
  try {
    await ask("vote", { voter: state.voter, scores });
    localStorage.removeItem(draft());
  } catch (error) {
    complain(error);
    state.busy = false;
    find("save").disabled = false;
    return;
  }
  state.busy = false;
  await forward();
}

async function forward() {
  const { number, next } = state.task;
  state.past.push(number);
  await open(next ?? null);
}

async function skip() {
  // After the last one come those that were skipped before.
  const { number } = state.task;
  await forward();
  if (state.task.number === number) end(state.task);
}

function end(task) {
  const left = task.total - task.done;
  find("thanks").textContent = left ? "Thank you" : "All done, thank you";
  find("count").textContent = `${task.done} of ${task.total} tasks have your answers. ` +
    (left ? "You can do the rest later." : "You can close this page.");
  show("end");
}

async function back() {
  const number = state.past.pop() ?? state.task.number - 1;
  if (number >= 0) await open(number);
}

const DIRECTIONS = { ArrowLeft: 0, ArrowRight: 1, 1: 0, 2: 1, ArrowDown: null, 0: null };

function key(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || find("voting").hidden || find("keys").open) return;
  const name = event.key;
  const onButton = event.target instanceof HTMLButtonElement, zoomed = find("zoom").open;
  if (name === "Enter" && !onButton) save();
  else if (name === "Backspace") back();
  else if (name === "?") find("keys").showModal();
  else if (name.toLowerCase() === "s") skip();
  else if (name === " " && !onButton) { if (zoomed) find("zoom").close(); else zoom(); }
  else if (zoomed && state.mode === "compare" && name.startsWith("Arrow")) go(1 - state.card, 0);
  else if (state.mode === "compare" && name in DIRECTIONS) prefer(state.question, DIRECTIONS[name]);
  else if (state.mode === "rate" && RATINGS.includes(Number(name)) && name.length === 1) rate(state.card, state.question, Number(name));
  else if (state.mode === "rate" && name === "ArrowRight") go(state.card + 1, 0);
  else if (state.mode === "rate" && name === "ArrowLeft") go(state.card - 1, 0);
  else if (state.mode === "rate" && (name === "ArrowDown" || name === "ArrowUp")) go(state.card, 1 - state.question);
  else return;
  event.preventDefault();
  if (zoomed && name !== " ") zoom();
}

function start(voter) {
  state.voter = voter.trim();
  localStorage.setItem("reelmill-voter", state.voter);
  state.past = [];
  open();
}

document.addEventListener("keydown", key);
find("save").addEventListener("click", save);
find("skip").addEventListener("click", skip);
find("back").addEventListener("click", back);
find("again").addEventListener("click", () => open(0));
find("help").addEventListener("click", () => find("keys").showModal());
find("keys").querySelector("button").addEventListener("click", () => find("keys").close());
find("zoom").addEventListener("click", () => find("zoom").close());
find("who").addEventListener("click", () => { show("welcome"); find("name").select(); });
find("welcome").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start(find("name").value);
});

ask("poll").then((poll) => {
  state.mode = poll.mode;
  document.body.className = poll.mode === "compare" ? "comparing" : "rating";
  const voter = localStorage.getItem("reelmill-voter") ?? "";
  find("name").value = voter;
  if (voter) start(voter);
  else { show("welcome"); find("name").focus(); }
}, (error) => { document.body.textContent = error.message; });
