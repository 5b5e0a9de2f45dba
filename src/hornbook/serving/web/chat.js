// The conversation: ask, read along, stop, ask again, change what was asked.

import { stream } from "./api.js";
import { byId, make, memory, save, say } from "./dom.js";
import { render } from "./render.js";
import { sampling, system } from "./settings.js";

const OPENINGS = [
  "Give me three tips for teaching a child to read.",
  "What is a language model?",
  "Write a Python function that counts the vowels in a word.",
];
const ENDS = { length: "cut at the longest answer", stopped: "stopped", failed: "broken off" };

let turns = memory.get("turns", []); // {role, content, model?, end?, tokens?, speed?, error?}
let going = null; // the answer being written: its AbortController
let modelName = () => "";

/** @param chosen a function that gives the model's name */
export function start(chosen) {
  modelName = chosen;
  const question = byId("question");
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(question.value);
  });
  question.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      ask(question.value);
    } else if (event.key === "ArrowUp" && !question.value && !going) {
      const last = turns.findLastIndex((turn) => turn.role === "user");
      if (last < 0) return;
      event.preventDefault();
      edit(last);
    }
  });
  byId("chat").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && going) stop();
  });
  byId("stop").addEventListener("click", stop);
  byId("new-chat").addEventListener("click", () => {
    stop();
    turns = [];
    keep();
    draw();
    question.focus();
    say("New conversation.");
  });
  byId("save-chat").addEventListener("click", () => save("conversation.md", written()));
  byId("openings").append(
    ...OPENINGS.map((text) => {
      const button = make("button", { type: "button" }, text);
      button.addEventListener("click", () => ask(text));
      return make("li", {}, button);
    }),
  );
  draw();
}

function ask(text) {
  if (going || !text.trim() || !modelName()) return;
  turns.push({ role: "user", content: text.trim() });
  byId("question").value = "";
  answer();
}

/** Have the model answer the turns that there are. */
async function answer() {
  const turn = { role: "assistant", content: "", model: modelName() };
  const messages = turns
    .filter((each) => each.content)
    .map(({ role, content }) => ({ role, content }));
  if (system()) messages.unshift({ role: "system", content: system() });
  turns.push(turn);
  going = new AbortController();
  const mine = going;
  draw();
  scroll(true);
  say("The model is answering.");

  const shown = byId("turns").lastElementChild;
  const body = shown.querySelector(".body");
  const speaker = spoken();
  let frame = 0;
  let first = 0;
  let pieces = 0;
  const paint = () => {
    frame = 0;
    const follow = atEnd();
    render(body, turn.content);
    if (follow) scroll();
  };
  try {
    const request = { model: turn.model, messages, ...sampling() };
    const asked = { ...request, stream_options: { include_usage: true } };
    for await (const event of stream("v1/chat/completions", asked, mine.signal)) {
      if (event.usage) turn.tokens = event.usage.completion_tokens;
      const choice = event.choices?.[0];
      if (!choice) continue;
      const piece = choice.delta?.content ?? "";
      if (piece) {
        first ||= performance.now();
        pieces += 1;
        turn.content += piece;
        speaker(piece);
        frame ||= requestAnimationFrame(paint);
      }
      if (choice.finish_reason && choice.finish_reason !== "stop") turn.end = choice.finish_reason;
    }
  } catch (error) {
    turn.end = error.name === "AbortError" ? "stopped" : "failed";
    if (turn.end === "failed") turn.error = error.message;
  }
  cancelAnimationFrame(frame);
  const seconds = (performance.now() - first) / 1000;
  turn.tokens ??= pieces;
  if (first && turn.tokens > 4) turn.speed = (turn.tokens - 1) / seconds;
  if (mine !== going) return; // a new conversation has begun meanwhile
  going = null;
  keep();
  const follow = atEnd();
  draw();
  if (follow) scroll();
  speaker("", true);
  say(turn.error ?? `End of the answer${turn.end ? `: ${ENDS[turn.end] ?? turn.end}` : ""}.`);
}

function stop() {
  const was = going;
  if (!was) return;
  was.abort();
  if (document.activeElement === byId("stop")) byId("question").focus();
}

function again() {
  while (turns.at(-1)?.role === "assistant") turns.pop();
  answer();
}

/** Put a message of the user's into a field; sending it drops what came after. */
function edit(index) {
  const shown = byId("turns").children[index];
  const field = make("textarea", { value: turns[index].content, className: "rewrite" });
  field.setAttribute("aria-label", "Change your message; what came after it will go");
  const send = make("button", { type: "button", className: "main" }, "Send again");
  const cancel = make("button", { type: "button", className: "quiet" }, "Leave it");
  const close = () => {
    draw();
    byId("question").focus();
  };
  const submit = () => {
    if (!field.value.trim()) return;
    turns = [...turns.slice(0, index), { role: "user", content: field.value.trim() }];
    byId("question").focus();
    answer();
  };
  send.addEventListener("click", submit);
  cancel.addEventListener("click", close);
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    } else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      submit();
    }
  });
  shown.querySelector(".body").replaceWith(make("div", { className: "body" }, field));
  shown.querySelector(".acts").replaceChildren(send, cancel);
  field.focus();
}

function draw() {
  const empty = turns.length === 0;
  byId("primer").hidden = !empty;
  byId("turns").replaceChildren(...turns.map(drawn));
  byId("turns").setAttribute("aria-busy", String(Boolean(going)));
  byId("new-chat").disabled = byId("save-chat").disabled = empty;
  byId("send").hidden = Boolean(going);
  byId("stop").hidden = !going;
}

function drawn(turn, index) {
  const mine = turn.role === "user";
  const last = index === turns.length - 1;
  const writing = going && last;
  const body = make("div", { className: "body" });
  if (mine) body.append(make("p", {}, turn.content));
  else render(body, turn.content);
  const acts = make("div", { className: "acts" });
  if (!going) acts.append(...(mine ? [act("Edit", () => edit(index))] : answered(turn, last)));
  const name = mine ? "You" : (turn.model ?? "Model");
  const article = make(
    "article",
    { className: `turn ${turn.role}${writing ? " writing" : ""}` },
    make("h3", { className: "speaker", title: name }, name),
    make("div", { className: "said" }, body, acts),
  );
  if (turn.error) body.append(make("p", { className: "error" }, turn.error));
  return article;
}

function answered(turn, last) {
  const facts = [];
  if (turn.tokens) facts.push(`${turn.tokens} token${turn.tokens === 1 ? "" : "s"}`);
  if (turn.speed) facts.push(`${turn.speed.toFixed(turn.speed < 10 ? 1 : 0)} a second`);
  if (turn.end) facts.push(ENDS[turn.end] ?? turn.end);
  const acts = [];
  if (last) acts.push(act(turn.error ? "Try again" : "Answer again", again));
  if (turn.content && navigator.clipboard) acts.push(act("Copy", () => copy(turn.content)));
  return [...acts, make("span", { className: "facts" }, facts.join(", "))];
}

function act(name, run) {
  const button = make("button", { type: "button", className: "quiet" }, name);
  if (name === "Edit") button.title = "The last one: ↑ in an empty message field";
  button.addEventListener("click", run);
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("The browser did not allow copying.");
  }
}

/** Sentences and lines for a screen reader as they get whole: single tokens would be noise. */
function spoken() {
  let waiting = "";
  return (piece, end = false) => {
    waiting += piece;
    const cut = end ? waiting.length : waiting.search(/(?<!\d)[.!?…]\s|\n/) + 1;
    const whole = waiting.slice(0, cut).replace(/[*`#]+/g, "").trim();
    if (whole) say(whole);
    waiting = waiting.slice(cut);
  };
}

function written() {
  const parts = turns.map((turn) => `**${turn.role === "user" ? "You" : turn.model}**\n\n${turn.content}`);
  return `${parts.join("\n\n")}\n`;
}

const keep = () => memory.set("turns", turns.length ? turns : null);
const page = document.documentElement;
const atEnd = () => page.scrollHeight - page.clientHeight - page.scrollTop < 120;
const scroll = () => page.scrollTo({ top: page.scrollHeight, behavior: "instant" });
