// Texts on the disk: this one's title and version, and the list of all that are kept.

import { get, post, remove } from "./api.js";
import { byId, make, memory } from "./dom.js";
import { put, saveBy } from "./write.js";

let open = memory.get("open", null); // `{id, version}` of the kept text, saved: as it was then
let saving = Promise.resolve(); // one save after the other, each with the version of the one before

/** Show what keeps texts: the server has a file for them. */
export function keep() {
  if (!byId("titled").hidden) return;
  byId("titled").hidden = false;
  byId("title").value = memory.get("title", "");
  byId("title").addEventListener("input", () => memory.set("title", byId("title").value));
  saveBy((text, making) => {
    saving = saving.then(() => store(text, making));
  });
  byId("new-text").addEventListener("click", () => leave() && show({ title: "", text: "" }));
  byId("show-texts").addEventListener("click", () => list());
  byId("close-texts").addEventListener("click", () => byId("texts").close());
  byId("more-texts").addEventListener("click", () => list(byId("text-list").lastElementChild.dataset.id));
  addEventListener("beforeunload", (event) => changed() && event.preventDefault());
}

async function store(text, making) {
  const title = byId("title").value.trim() || text.trim().split("\n")[0].slice(0, 60) || "Untitled";
  const body = { title, text, ...making };
  try {
    const path = open ? `v1/texts/${open.id}` : "v1/texts";
    const row = await post(path, open ? { version: open.version, ...body } : body);
    hold({ id: row.id, version: row.version, text, title: row.title });
    note(`Saved as version ${row.version}, ${time(row)}.`);
  } catch (error) {
    note(error.message);
    if (error.status !== 409 && error.status !== 404) return;
    // Somebody has saved or deleted it since. Nothing is lost: this becomes a text of its own.
    if (!confirm(`${error.message} Keep yours as a text of its own?`)) return;
    hold(null);
    await store(text, making);
  }
}

function hold(row) {
  open = row;
  memory.set("open", open);
  if (!row) return;
  byId("title").value = row.title;
  memory.set("title", row.title);
}

const changed = () =>
  byId("text").value !== (open?.text ?? "") || byId("title").value.trim() !== (open?.title ?? "");
const leave = () => !changed() || confirm("What you changed isn’t saved. Leave it?");

function show(row) {
  put(row.text, row.model ? { model: row.model, settings: row.settings } : {});
  hold(row.id ? row : null);
  if (!row.id) {
    byId("title").value = "";
    memory.set("title", "");
  }
  byId("texts").close();
  byId("text").focus();
  note("");
}

async function list(after) {
  try {
    const page = await get(`v1/texts?limit=30${after ? `&after=${after}` : ""}`);
    if (!after) byId("text-list").replaceChildren();
    byId("text-list").append(...page.data.map(drawn));
    byId("more-texts").hidden = !page.has_more;
    byId("no-texts").hidden = byId("text-list").childElementCount > 0;
    if (!byId("texts").open) byId("texts").showModal();
  } catch (error) {
    note(error.message);
  }
}

function drawn(row) {
  const facts = [time(row), `${row.n_characters} characters`, row.model, ...made(row.settings)];
  const item = make(
    "li",
    {},
    act(row.title, async () => leave() && show(await get(`v1/texts/${row.id}`))),
    make("p", { className: "hint" }, facts.filter(Boolean).join(", ")),
    act("Rename", async () => {
      const title = prompt("Title", row.title)?.trim();
      if (title) renamed(await post(`v1/texts/${row.id}`, { version: row.version, title }));
    }),
    act("Delete", async () => {
      if (!confirm(`Delete “${row.title}”? It can’t be brought back.`)) return;
      await remove(`v1/texts/${row.id}?version=${row.version}`);
      if (open?.id === row.id) hold(null);
      await list();
    }),
  );
  item.dataset.id = row.id;
  return item;
}

async function renamed(row) {
  if (open?.id === row.id && open.version === row.version - 1) hold({ ...open, version: row.version, title: row.title });
  await list();
}

function act(label, run) {
  const button = make("button", { type: "button", className: "quiet" }, label);
  button.addEventListener("click", () => run().catch((error) => note(error.message)));
  return button;
}

const made = ({ temperature, max_tokens }) =>
  [temperature === undefined ? "" : `temperature ${temperature}`, max_tokens ? `${max_tokens} tokens` : ""];
const time = (row) => new Date(row.saved).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
const note = (text) => {
  byId("write-note").textContent = text;
  byId("texts-note").textContent = text;
};
