// Labels for texts, by the best technique of a saved comparison.

import { post } from "./api.js";
import { byId, make } from "./dom.js";

const N_SHOWN = 8;
let modelName = () => "";

export function start(chosen) {
  modelName = chosen;
  byId("classify-form").addEventListener("submit", (event) => {
    event.preventDefault();
    classify();
  });
  byId("classify-text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    classify();
  });
}

async function classify() {
  const text = byId("classify-text").value.trim();
  const input = byId("by-line").checked ? text.split("\n").filter((line) => line.trim()) : [text];
  if (!text || !modelName()) return;
  note("Reading…");
  try {
    const { data } = await post("v1/classify", { model: modelName(), input });
    byId("labels").replaceChildren(...data.map((row, i) => result(row, input[row.index ?? i], input.length)));
    note(summary(data));
  } catch (error) {
    byId("labels").replaceChildren();
    note(error.message);
  }
}

function summary(data) {
  if (data.length > 1) return `${data.length} texts labelled.`;
  const said = data[0].predicted;
  return said.length ? `Labelled ${said.join(", ")}.` : "No label is likely enough.";
}

function result({ labels, predicted }, text, n) {
  const sorted = [...labels].sort((a, b) => b.score - a.score);
  // Scores of probabilities fill the bar at 1; others are drawn to the largest of them.
  const full = Math.max(1, ...sorted.map(({ score }) => Math.abs(score)));
  const rows = sorted.map(({ label, score }) => {
    const chosen = predicted.includes(label);
    const bar = make("i", { className: "bar-line" });
    bar.style.setProperty("--share", Math.max(score, 0) / full);
    const name = make("span", { className: "label" }, label);
    if (chosen) name.append(make("b", { className: "tick" }, " predicted"));
    return make("li", { className: chosen ? "mine" : "" }, name, make("span", {}, score.toFixed(3)), bar);
  });
  const list = make("ol", { className: "scores wide" }, ...rows.slice(0, N_SHOWN));
  const section = make("section", { className: "result" }, list);
  if (n > 1) section.prepend(make("h3", {}, text));
  if (rows.length > N_SHOWN) {
    const more = make("button", { type: "button", className: "quiet" }, `All ${rows.length} labels`);
    more.addEventListener("click", () => {
      list.append(...rows.slice(N_SHOWN));
      more.remove();
    });
    section.append(more);
  }
  return section;
}

const note = (text) => {
  byId("classify-note").textContent = text;
};
