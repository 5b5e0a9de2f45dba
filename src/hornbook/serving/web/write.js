// The editor: after a pause the model suggests, in grey, how the text might go on.

import { stream } from "./api.js";
import { byId, memory, save, say } from "./dom.js";
import { sampling } from "./settings.js";

const PAUSE = 600; // milliseconds without a key
const PROMPT = 6000; // characters before the cursor that the model is shown, at most
const A_TOKEN = 6; // characters of a token, more or less: a window that slides drops the rest

let suggestion = "";
let place = 0; // where it stands in the text
let accepting = false;
let timer = 0;
let asking = null;
let modelName = () => "";
let contextLength = () => PROMPT;
let field;

/** @param chosen gives the model's name, @param context the number of tokens that it reads */
export function start(chosen, context) {
  modelName = chosen;
  contextLength = context;
  field = byId("text");
  field.value = memory.get("text", "");
  making = memory.get("making", {});
  blank = !field.value;
  field.addEventListener("input", typed);
  field.addEventListener("keydown", pressed);
  field.addEventListener("blur", dismiss);
  document.addEventListener("selectionchange", () => {
    // A cursor that has gone elsewhere leaves the suggestion without a place.
    if (suggestion && document.activeElement === field && cursor() !== place) dismiss();
  });
  byId("take").addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays
  byId("take").addEventListener("click", () => accept(suggestion));
  byId("length").addEventListener("change", dismiss);
  byId("save-text").addEventListener("click", () => keep());
  byId("write").addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "s" || !(event.ctrlKey || event.metaKey) || event.altKey) return;
    event.preventDefault(); // the browser would save the page
    keep();
  });
  byId("clear-text").addEventListener("click", () => {
    dismiss();
    field.focus();
    field.select();
    insert(""); // as if deleted by hand, so that undo brings it back
    note("Cleared. Ctrl+Z brings it back.");
  });
  show();
}

let keep = () => save("text.txt", field.value);
let making = {}; // the model and the settings of the suggestion that was last taken
let blank = true; // whether nothing stood in the editor at the last key

/** Save by `store(text, making)` from now on, instead of as a download. */
export function saveBy(store) {
  keep = () => store(field.value, making);
}

/** Put another text in the place of this one; there is nothing to undo. */
export function put(text, made = {}) {
  dismiss();
  field.value = text;
  making = made;
  blank = !text;
  memory.set("text", text);
  memory.set("making", making);
  show();
}

function pressed(event) {
  if (event.isComposing) return;
  const control = event.ctrlKey || event.metaKey;
  if (event.key === " " && event.ctrlKey) {
    event.preventDefault();
    suggest();
  } else if (!suggestion) {
    if (event.key === "Escape") dismiss();
  } else if (event.key === "Tab" && !event.shiftKey) {
    event.preventDefault();
    accept(suggestion);
  } else if (event.key === "ArrowRight" && (control || event.altKey)) {
    event.preventDefault();
    accept(suggestion.match(/^\s*\S+/)?.[0] ?? suggestion);
  } else if (event.key === "Escape") {
    event.preventDefault();
    dismiss();
    note("");
  }
}

function typed(event) {
  memory.set("text", field.value);
  if (blank && !accepting && event.inputType?.startsWith("insert")) {
    making = {}; // begun anew, by hand; what undo brings back keeps its own
    memory.set("making", making);
  }
  blank = !field.value;
  const typed = event.inputType === "insertText" ? event.data : null;
  if (typed && suggestion.startsWith(typed) && suggestion.length > typed.length && !accepting) {
    suggestion = suggestion.slice(typed.length); // along the suggestion: the rest of it stays
    place = cursor();
    show();
    return;
  }
  if (accepting) return;
  dismiss();
  note("");
  timer = setTimeout(suggest, PAUSE);
}

function accept(part) {
  const { temperature, top_p, seed } = sampling();
  making = { model: modelName(), settings: { max_tokens: Number(byId("length").value), temperature, top_p, seed } };
  memory.set("making", making);
  const rest = suggestion.slice(part.length);
  accepting = true;
  suggestion = rest;
  insert(part);
  accepting = false;
  place = cursor();
  show();
  memory.set("text", field.value);
  if (!rest) {
    stopAsking();
    timer = setTimeout(suggest, PAUSE);
    say("Taken.");
  }
}

/** Replace the selection in a way that the browser's undo knows. */
function insert(text) {
  const done = text
    ? document.execCommand("insertText", false, text)
    : document.execCommand("delete");
  if (!done) field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
}

async function suggest() {
  dismiss();
  const length = Number(byId("length").value);
  const before = field.value.slice(0, cursor());
  const still = document.activeElement === field && field.selectionStart === field.selectionEnd;
  if (!length || !before.trim() || !still || !modelName()) return;
  asking = new AbortController();
  const mine = asking;
  place = cursor();
  const shown = before.slice(-Math.min(PROMPT, A_TOKEN * contextLength()));
  const body = { ...sampling(), model: modelName(), prompt: shown, max_tokens: length, slide: true };
  if (length < 40) body.stop = ["\n"];
  try {
    for await (const event of stream("v1/completions", body, mine.signal)) {
      if (mine !== asking) return;
      suggestion += event.choices?.[0]?.text ?? "";
      // Spaces after a space would be seen as nothing, or as a gap.
      if (/\s$/.test(before)) suggestion = suggestion.replace(/^ +/, "");
      show();
    }
    if (suggestion) say(`Suggestion: ${suggestion}`);
    else note("The model would end here.");
  } catch (error) {
    if (error.name !== "AbortError") note(error.message);
  } finally {
    if (mine === asking) asking = null;
  }
}

function dismiss() {
  stopAsking();
  suggestion = "";
  show();
}

function stopAsking() {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
}

/**
 * The mirror lies under the field with the same letters in the same places. While there is a
 * suggestion, the mirror is what one sees and the field is a pane of glass with a cursor.
 */
function show() {
  const [before, ghost, after] = byId("mirror").children;
  before.textContent = field.value.slice(0, suggestion ? place : undefined);
  ghost.textContent = suggestion;
  after.textContent = `${suggestion ? field.value.slice(place) : ""}\n`; // a last line takes room
  byId("sheet").classList.toggle("ghosting", Boolean(suggestion));
  byId("take").disabled = !suggestion;
}

const cursor = () => field.selectionStart;
const note = (text) => {
  byId("write-note").textContent = text;
};
