// Small tools for the document. Text goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children (nodes or strings). */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Offer `text` as a file to keep. */
export function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Have a screen reader say something, without moving the focus. */
export function say(text) {
  byId("spoken").append(make("span", {}, `${text} `));
  while (byId("spoken").childElementCount > 40) byId("spoken").firstElementChild.remove();
}

/** Arrow keys, Home and End move among a row of elements of which one is in the tab order. */
export function rove(row, items, onMove) {
  row.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1 };
    const ends = { Home: 0, End: all.length - 1 };
    const to = event.key in ends ? ends[event.key] : steps[event.key];
    if (at < 0 || to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const next = all[(to + all.length) % all.length];
    for (const item of all) item.tabIndex = item === next ? 0 : -1;
    next.focus();
    onMove?.(next);
  });
}

/** Keep things for as long as the tab lives; a browser that forbids it forgets them at a reload. */
export const memory = {
  get(name, otherwise) {
    try {
      return JSON.parse(sessionStorage.getItem(`hornbook.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      if (value === null) sessionStorage.removeItem(`hornbook.${name}`);
      else sessionStorage.setItem(`hornbook.${name}`, JSON.stringify(value));
    } catch {
      // Storage is off or full: nothing is lost before the next reload.
    }
  },
};
