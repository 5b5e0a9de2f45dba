// The token view: where a text is cut, how sure the model was, and what else it had in mind.

import { post } from "./api.js";
import { byId, make, rove } from "./dom.js";
import { sampling } from "./settings.js";

const N_ALTERNATIVES = 5;
let modelName = () => "";

export function start(chosen) {
  modelName = chosen;
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    read();
  });
  byId("token-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) read();
  });
  rove(byId("token-view"), () => [...byId("token-view").querySelectorAll("[role=button]")]);
  const scale = [0.9, 0.5, 0.25, 0.05, 0.005].map((p) => shaded(make("i", {}, percent(p)), p));
  byId("token-legend").append("Sure ", ...scale, " surprised");
}

async function read() {
  const prompt = byId("token-text").value;
  const more = byId("token-more").valueAsNumber || 0;
  if (!prompt || !modelName()) return;
  note("Reading…");
  try {
    const answer = await post("v1/completions", {
      ...sampling(),
      model: modelName(),
      prompt,
      max_tokens: more,
      echo: true,
      logprobs: N_ALTERNATIVES,
    });
    show(scored(answer.choices[0].logprobs, answer.usage.prompt_tokens));
  } catch (error) {
    byId("token-result").hidden = true;
    note(error.message);
  }
}

/** OpenAI's parallel lists as one list of tokens; those after the prompt are the model's own. */
function scored({ tokens, token_logprobs, top_logprobs }, n_prompt) {
  return tokens.map((text, i) => {
    const top = Object.entries(top_logprobs?.[i] ?? {}).map(([word, value]) => [word, Math.exp(value)]);
    const logprob = token_logprobs[i] ?? null;
    const p = logprob === null ? null : Math.exp(logprob);
    return { text, p, top: top.sort((a, b) => b[1] - a[1]), made: i >= n_prompt };
  });
}

function show(tokens) {
  const view = byId("token-view");
  view.replaceChildren(...tokens.map(drawn));
  const known = tokens.filter((token) => token.p !== null && !token.made);
  const nats = -known.reduce((sum, token) => sum + Math.log(token.p), 0) / known.length;
  const made = tokens.filter((token) => token.made).length;
  const facts = [`${tokens.length - made} tokens read`];
  if (known.length) facts.push(`perplexity ${Math.exp(nats).toFixed(1)}`);
  if (made) facts.push(`${made} written (underlined)`);
  note(`${facts.join(", ")}.`);
  byId("token-result").hidden = false;
  const first = view.querySelector("[role=button]");
  if (first) first.tabIndex = 0;
  const open = tokens.findIndex((token) => token.top.length);
  if (open >= 0) describe(tokens[open], view.querySelectorAll("[role=button]")[open]);
}

function drawn(token) {
  // A space before a word stays outside the shade, so that words stand apart as in print.
  const [, space, rest] = token.text.match(/^( ?)([^]*)$/);
  const shade = shaded(make("span", { className: "shade" }), token.p);
  (rest || "␣").split("\n").forEach((line, i) => {
    if (i) shade.append(make("b", { className: "mark" }, "↵"), "\n");
    shade.append(line);
  });
  const element = make("span", { className: "token", tabIndex: -1 }, rest ? space : "", shade);
  element.setAttribute("role", "button");
  element.setAttribute("aria-label", `${visible(token.text)}, ${token.p === null ? "first" : percent(token.p)}`);
  if (token.made) element.classList.add("made");
  for (const kind of ["mouseenter", "focus", "click"]) {
    element.addEventListener(kind, () => describe(token, element));
  }
  return element;
}

function describe(token, element) {
  byId("token-view").querySelector(".chosen")?.classList.remove("chosen");
  element.classList.add("chosen");
  const title = make("h3", {}, make("code", {}, visible(token.text)));
  const fact = make("p", { className: "hint" }, sentence(token));
  const rows = token.top.map(([word, p]) => {
    const bar = make("i", { className: "bar-line" });
    bar.style.setProperty("--share", p);
    const mine = word === token.text;
    return make("li", { className: mine ? "mine" : "" }, make("code", {}, visible(word)), make("span", {}, percent(p)), bar);
  });
  const list = make("ol", { className: "scores" }, ...rows);
  byId("token-card").replaceChildren(title, fact, list);
}

function sentence(token) {
  if (token.p === null) return "The first token: nothing stands before it to guess from.";
  const rank = token.top.findIndex(([word]) => word === token.text);
  const place = rank === 0 ? ", its first guess" : rank > 0 ? `, its guess number ${rank + 1}` : "";
  return `The model gave it ${percent(token.p)}${place}.`;
}

/** The less likely, the redder: each halving of the probability adds the same. */
function shaded(element, p) {
  const bits = p === null ? 0 : Math.min(Math.max(-Math.log2(p) - 0.15, 0), 10);
  element.style.setProperty("--doubt", `${(bits * 5.5).toFixed(1)}%`);
  return element;
}

function percent(p) {
  const value = 100 * p;
  if (value < 0.01) return "under 0.01 %";
  return `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)} %`;
}

const visible = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "∅";
const note = (text) => {
  byId("token-note").textContent = text;
};
