// The one request that is running: its buttons, how far it is, and what went wrong.

import { $ } from "./dom.js";

let running = null;  // its AbortController

export const isRunning = () => running !== null;
export function say(message) { $("progress").textContent = message; }
export function fail(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}
export function stop() { running?.abort(); }

// Run `work(signal)`; `given up` is called when it was stopped or failed.
export async function run(work, givenUp = () => {}) {
  if (running) return;
  const began = performance.now();
  running = new AbortController();
  document.body.classList.add("running");
  $("draw").disabled = true;
  $("stop").hidden = false;
  fail("");
  say("Sent");
  try {
    await work(running.signal);
    say(`Generated in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  } catch (error) {
    givenUp();
    if (error.name === "AbortError") say("Stopped");
    else { say(""); fail(error instanceof TypeError ? "The server does not answer. Is it still running?" : error.message); }
  } finally {
    running = null;
    document.body.classList.remove("running");
    $("draw").disabled = false;
    $("stop").hidden = true;
  }
}

export const waiting = (news) => `Waiting, ${news.queue_position} ahead of you`;

// Rows done, and the time left by the pace since `began`.
export function rowsLine(done, all, began) {
  const left = done ? Math.ceil((performance.now() - began) / 1000 * (all - done) / done) : 0;
  return `Row ${done} of ${all}` + (left ? `, about ${left} s left` : "");
}
