// Texts on the disk: this one's title and version, and the list of all that are kept.

import { get, post, remove } from "./api.js";
import { byId, make, memory } from "./dom.js";
import { put, saveBy } from "./write.js";

// The text in the editor: `{id, version, text, title}` as it was saved, `{}` before. Another text is
// another object, so that an answer that comes late belongs to the text that was sent.
let open = memory.get("open", null) ?? {};
let saving = Promise.resolve(); // one save after the other, each with the version of the one before

/** Show what keeps texts: the server has a file for them. */
export function keep() {
  if (!byId("titled").hidden) return;
  byId("titled").hidden = false;
  byId("title").value = memory.get("title", "");
  byId("title").addEventListener("input", () => memory.set("title", byId("title").value));
  saveBy((text, making) => {
    const target = open;
    const title = byId("title").value.trim() || text.trim().split("\n")[0].slice(0, 60) || "Untitled";
    saving = saving.then(() => store(target, { title, text, ...making }));
  });
  byId("new-text").addEventListener("click", () => leave() && show({ title: "", text: "" }));
  byId("show-texts").addEventListener("click", () => list());
  byId("close-texts").addEventListener("click", () => byId("texts").close());
  byId("more-texts").addEventListener("click", () => list(byId("text-list").lastElementChild.dataset.id));
  addEventListener("beforeunload", (event) => changed() && event.preventDefault());
}

async function store(target, body) {
  const kept = Boolean(target.id);
  try {
    const path = kept ? `v1/texts/${target.id}` : "v1/texts";
    const row = await post(path, kept ? { version: target.version, ...body } : body);
    Object.assign(target, { id: row.id, version: row.version, text: body.text, title: row.title });
    note(`${target === open ? "Saved" : `“${row.title}” is saved`} as version ${row.version}, ${time(row)}.`);
    if (target === open) remember();
  } catch (error) {
    note(error.message);
    if (!kept || (error.status !== 409 && error.status !== 404)) return;
    // Somebody has saved or deleted it since. Nothing is lost: this becomes a text of its own.
    if (!confirm(`${error.message} Keep yours as a text of its own?`)) return;
    forget(target);
    await store(target, body);
  }
}

function remember() {
  memory.set("open", open);
  if (!byId("title").value.trim() && open.title) byId("title").value = open.title;
  memory.set("title", byId("title").value);
}

function forget(target) {
  for (const name of Object.keys(target)) delete target[name];
  remember();
}

const changed = () =>
  byId("text").value !== (open.text ?? "") || byId("title").value.trim() !== (open.title ?? "");
const leave = () => !changed() || confirm("What you changed isn’t saved. Leave it?");

function show({ id, version, text, title, model, settings }) {
  put(text, model ? { model, settings } : {});
  open = id ? { id, version, text, title } : {};
  byId("title").value = title;
  remember();
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
      if (open.id === row.id) forget(open);
      await list();
    }),
  );
  item.dataset.id = row.id;
  return item;
}

async function renamed(row) {
  if (open.id === row.id && open.version === row.version - 1) {
    Object.assign(open, { version: row.version, title: row.title });
    byId("title").value = row.title;
    remember();
  }
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
