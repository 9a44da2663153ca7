// Requests to the server: the same endpoints as every other client's.

// Server-sent events of a response: [name, data] each; comments are named "".
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith(":")) { yield ["", JSON.parse(block.slice(1))]; continue; }
      const data = block.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
      if (data === "[DONE]") { yield ["done", null]; continue; }
      if (data) { const parsed = JSON.parse(data); yield [parsed.type ?? (parsed.error ? "error" : "data"), parsed]; }
    }
  }
}

async function problem(response) {
  let message = `the server answers ${response.status}`;
  try { message = (await response.json()).error.message; } catch { /* no JSON: the status says enough */ }
  return message.charAt(0).toUpperCase() + message.slice(1) + ".";
}

export async function get(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(await problem(response));
  return response.json();
}

// The events of a streamed answer; an error of the server is thrown.
export async function* stream(path, body, signal) {
  const response = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...body, stream: true }), signal,
  });
  if (!response.ok) throw new Error(await problem(response));
  for await (const [name, data] of events(response)) {
    if (name === "error") throw new Error(`${data.error.message}.`);
    yield [name, data];
  }
}
