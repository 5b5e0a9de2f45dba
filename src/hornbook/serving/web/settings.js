// How answers are drawn: the fields in the margin, kept for as long as the tab lives.

import { byId, memory } from "./dom.js";

const DEFAULTS = { system: "", temperature: 0.3, top_p: 0.9, max_tokens: 512, seed: "" };

/** Fill the fields and follow them. */
export function start() {
  fill({ ...DEFAULTS, ...memory.get("settings", {}) });
  byId("settings").addEventListener("input", () => {
    memory.set("settings", Object.fromEntries(fields().map((field) => [field.id, field.value])));
    show();
  });
  byId("reset-settings").addEventListener("click", () => {
    memory.set("settings", null);
    fill(DEFAULTS);
  });
}

export const system = () => byId("system").value.trim();

/** The sampling fields of a request. What can't be read as a number is left to the server. */
export function sampling() {
  const number = (id) => byId(id).valueAsNumber;
  const chosen = { temperature: number("temperature"), top_p: number("top_p") };
  for (const name of ["max_tokens", "seed"]) {
    if (Number.isFinite(number(name))) chosen[name] = number(name);
  }
  return chosen;
}

function fill(values) {
  for (const field of fields()) field.value = values[field.id];
  show();
}

function show() {
  for (const output of byId("settings").querySelectorAll("output")) {
    output.value = byId(output.htmlFor[0]).valueAsNumber.toFixed(2);
  }
}

const fields = () => Object.keys(DEFAULTS).map(byId);
