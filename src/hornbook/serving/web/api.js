// The server's public API: OpenAI's, spoken with fetch. Everything the page knows comes from here.

import { memory } from "./dom.js";

/** What the server (or the way to it) refused, as a sentence to show. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const key = {
  get: () => memory.get("key", ""),
  set: (value) => memory.set("key", value || null),
};

/** What is served: `data` with `{id, capabilities}` each, and whether it `keeps_texts`. */
export const models = () => get("v1/models");

export async function get(path) {
  return (await request(path)).json();
}

export async function remove(path) {
  return (await request(path, null, undefined, "DELETE")).json();
}

/** Send `body`, return the answer's JSON. */
export async function post(path, body, signal) {
  return (await request(path, body, signal)).json();
}

/** Send `body` with `stream`, yield each event's JSON. Ends at [DONE]; an ending without it throws. */
export async function* stream(path, body, signal) {
  const response = await request(path, { ...body, stream: true }, signal);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(sentence(event.error.message));
    yield event;
  }
  throw new ApiError("The connection ended before the answer did.");
}

async function request(path, body, signal, method = "GET") {
  const headers = { Accept: "application/json, text/event-stream" };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  const options = { method, headers, signal, cache: "no-store", credentials: "same-origin" };
  if (body) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server doesn’t answer. Is it still running?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  if (response.status === 401) {
    document.dispatchEvent(new CustomEvent("key-wanted", { detail: Boolean(key.get()) }));
    return new ApiError("The server wants a key.", 401);
  }
  const wait = Number(response.headers.get("Retry-After"));
  const again = wait > 0 ? ` Try again in ${wait} s.` : "";
  let said = "";
  try {
    said = (await response.json()).error.message;
  } catch {
    said = `The server answered ${response.status}`; // not OpenAI's form: a proxy's page, perhaps
  }
  return new ApiError(sentence(said) + again, response.status);
}

function sentence(text) {
  const said = String(text ?? "The server gave no reason").trim();
  return /[.!?]$/.test(said) ? said : `${said}.`;
}

/** The data of server-sent events, whole, however the network cut them. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      // A lone \r at the end may be half of \r\n: it waits for the next piece.
      const parts = buffer.replace(/\r\n/g, "\n").split("\n\n");
      buffer = parts.pop();
      for (const part of parts) {
        const lines = part.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the caller has stopped reading: let go of the connection
  }
}
