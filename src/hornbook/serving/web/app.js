// The page's frame: tabs, which model they use, settings, the key.

import { key, models } from "./api.js";
import * as chat from "./chat.js";
import * as classify from "./classify.js";
import { byId, make, memory, rove } from "./dom.js";
import * as settings from "./settings.js";
import * as texts from "./texts.js";
import * as tokens from "./tokens.js";
import * as write from "./write.js";

// What a tab needs of a model, what to say when none has it, and whether settings bear on it.
const TABS = {
  chat: {
    needs: "chat",
    missing: "No served model can chat: it needs a chat template.",
    remedy: "hornbook serve smollm2-135m-instruct",
    focus: "question",
  },
  write: {
    needs: "completions",
    missing: "No served model can go on with a text.",
    remedy: "hornbook serve runs/my-language-model",
    focus: "text",
  },
  tokens: {
    needs: "completions",
    missing: "No served model tells the probabilities of tokens.",
    remedy: "hornbook serve runs/my-language-model",
    focus: "token-text",
  },
  classify: {
    needs: "classify",
    missing: "No served model can classify: serve the folder of a comparison.",
    remedy: "hornbook serve runs/my-comparison",
    focus: "classify-text",
  },
};

let served = null; // the rows of /v1/models, once known
let current = "chat";
let wanted = named(); // the tab that somebody has chosen

const select = byId("model");
const usable = (tab) => (served ?? []).filter((row) => row.capabilities?.includes(TABS[tab].needs));
const chosen = (tab) => () => (current === tab ? select.value : "");

/** The tab that the address names. */
function named() {
  const name = location.hash.slice(1);
  return name in TABS ? name : null;
}

function choose(tab, focus = false) {
  wanted = tab;
  open(tab, focus);
}

function open(tab, focus = false) {
  current = tab;
  for (const name of Object.keys(TABS)) {
    const button = byId(`tab-${name}`);
    button.setAttribute("aria-selected", String(name === tab));
    button.tabIndex = name === tab ? 0 : -1;
    byId(name).hidden = name !== tab;
  }
  byId("system-setting").hidden = tab !== "chat";
  byId("toggle-settings").hidden = tab === "classify";
  byId("settings").classList.toggle("beside-the-point", tab === "classify");
  history.replaceState(null, "", `#${tab}`);
  offer();
  if (focus && usable(tab).length) byId(TABS[tab].focus).focus();
}

/** Fill the choice of models for the open tab, or say why there is none. */
function offer() {
  if (!served) return;
  const rows = usable(current);
  const before = memory.get(`model.${TABS[current].needs}`, "");
  select.replaceChildren(...rows.map(({ id }) => make("option", { value: id }, id)));
  if (rows.some(({ id }) => id === before)) select.value = before;
  select.disabled = rows.length === 0;
  select.title = select.value;
  if (!rows.length) select.append(make("option", {}, "none for this"));
  for (const [name, { missing, remedy }] of Object.entries(TABS)) {
    const without = usable(name).length === 0;
    const panel = byId(name);
    panel.querySelector(".served").hidden = without;
    const why = panel.querySelector(".unserved");
    why.hidden = !without;
    why.replaceChildren(missing, make("code", {}, remedy));
    byId(`tab-${name}`).classList.toggle("without", without);
  }
}

async function load() {
  notice("");
  try {
    const found = await models();
    served = found.data;
    if (found.keeps_texts) texts.keep();
    const first = Object.keys(TABS).find((tab) => usable(tab).length) ?? "chat";
    open(wanted ?? first, !matchMedia("(pointer: coarse)").matches);
  } catch (error) {
    if (error.status !== 401) notice(error.message, "Try again");
    else notice("The server wants a key.", "Type a key", () => wantKey(false));
  }
}

function notice(text, remedy = "", run = load) {
  byId("notice").replaceChildren(text);
  byId("notice").hidden = !text;
  if (!remedy) return;
  const button = make("button", { type: "button", className: "quiet" }, remedy);
  button.addEventListener("click", run);
  byId("notice").append(" ", button);
}

function wantKey(refused) {
  byId("key-note").textContent = refused ? "The key was refused." : "";
  byId("key").value = "";
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
}

function startKey() {
  document.addEventListener("key-wanted", (event) => wantKey(event.detail));
  byId("change-key").addEventListener("click", () => wantKey(false));
  byId("key-cancel").addEventListener("click", () => byId("key-dialog").close());
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(byId("key").value.trim());
    byId("key").value = "";
    byId("key-dialog").close();
    load();
  });
}

function startSettings() {
  const wide = matchMedia("(min-width: 70rem)").matches;
  const toggle = (shown) => {
    byId("settings").hidden = !shown;
    byId("toggle-settings").setAttribute("aria-expanded", String(shown));
    memory.set("settings-open", shown);
  };
  byId("toggle-settings").addEventListener("click", () => toggle(byId("settings").hidden));
  toggle(memory.get("settings-open", wide));
  settings.start();
}

const tabButtons = () => Object.keys(TABS).map((name) => byId(`tab-${name}`));
for (const button of tabButtons()) {
  button.addEventListener("click", () => choose(button.id.slice(4), true));
}
rove(document.querySelector("[role=tablist]"), tabButtons, (button) => choose(button.id.slice(4)));
select.addEventListener("change", () => {
  memory.set(`model.${TABS[current].needs}`, select.value);
  select.title = select.value;
});
addEventListener("hashchange", () => named() && choose(named()));

startKey();
startSettings();
chat.start(chosen("chat"));
write.start(chosen("write"), () => served.find(({ id }) => id === select.value).context_length ?? 1000);
tokens.start(chosen("tokens"));
classify.start(chosen("classify"));
open(wanted ?? "chat");
load();
