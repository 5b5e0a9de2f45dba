// A model's text as a document: paragraphs, lists, headings, code. Every word goes in as text.

import { make } from "./dom.js";

const sources = new WeakMap(); // element -> the source it was made from

/**
 * Show `text` in `element`. Called again with more text, it leaves the blocks that haven't changed
 * alone, so that a long answer streams in cheaply and a selection in it stays.
 */
export function render(element, text) {
  const blocks = split(text);
  blocks.forEach((block, i) => {
    const present = element.children[i];
    if (present && sources.get(present) === block) return;
    const made = build(block);
    sources.set(made, block);
    if (present) present.replaceWith(made);
    else element.append(made);
  });
  while (element.children.length > blocks.length) element.lastElementChild.remove();
}

/** Blocks of source: a code fence whole (also one not closed yet), else what blank lines divide. */
export function split(text) {
  const blocks = [];
  let block = [];
  let fence = null;
  const end = () => {
    if (block.length) blocks.push(block.join("\n"));
    block = [];
  };
  for (const line of text.replace(/\r\n?/g, "\n").split("\n")) {
    const mark = line.match(/^ {0,3}(`{3,}|~{3,})/)?.[1];
    if (fence) {
      block.push(line);
      if (mark && mark[0] === fence[0] && mark.length >= fence.length && line.trim() === mark) {
        fence = null;
        end();
      }
    } else if (mark) {
      end();
      fence = mark;
      block.push(line);
    } else if (line.trim() === "") {
      end();
    } else {
      if (block.length && listed(line) !== listed(block[0]) && !/^\s/.test(line)) end();
      if (/^#{1,6} /.test(block[0] ?? "")) end();
      block.push(line);
    }
  }
  end();
  return blocks;
}

const listed = (line) => (/^\s*[-*•] +\S/.test(line) ? "ul" : /^\s*\d+[.)] +\S/.test(line) ? "ol" : "");

function build(block) {
  const lines = block.split("\n");
  if (/^ {0,3}(```|~~~)/.test(block)) return code(lines);
  const heading = lines.length === 1 && block.match(/^#{1,6} +(.*)$/);
  if (heading) return make("p", { className: "heading" }, ...spans(heading[1]));
  const kind = listed(lines[0]);
  return kind ? list(kind, lines) : make("p", {}, ...spans(block));
}

function code(lines) {
  const language = lines[0].replace(/^[ `~]+/, "").trim();
  const closed = lines.length > 1 && /^ {0,3}(`{3,}|~{3,})\s*$/.test(lines.at(-1));
  const body = lines.slice(1, closed ? -1 : undefined).join("\n");
  const pre = make("pre", { tabIndex: 0 }, make("code", {}, body));
  if (language) pre.dataset.language = language;
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  return pre;
}

function list(kind, lines) {
  const items = [];
  for (const line of lines) {
    if (listed(line) || !items.length) items.push(line.replace(/^\s*(?:[-*•]|\d+[.)]) +/, ""));
    else items[items.length - 1] += `\n${line.trim()}`;
  }
  const made = make(kind, {}, ...items.map((item) => make("li", {}, ...spans(item))));
  if (kind === "ol") made.start = Number.parseInt(lines[0], 10) || 1;
  return made;
}

/** `code`, **strong** and *emphasis* inside a line; whatever else is text. */
function spans(text) {
  const pattern = /`([^`\n]+)`|\*\*([^\s*](?:[^*\n]*[^\s*])?)\*\*|\*([^\s*](?:[^*\n]*[^\s*])?)\*/g;
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(pattern)) {
    if (found.index > at) nodes.push(text.slice(at, found.index));
    const [whole, literal, strong, emphasis] = found;
    if (literal) nodes.push(make("code", {}, literal));
    else nodes.push(make(strong ? "strong" : "em", {}, strong ?? emphasis));
    at = found.index + whole.length;
  }
  if (at < text.length) nodes.push(text.slice(at));
  return nodes;
}
