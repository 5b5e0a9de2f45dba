"""What of tagged texts and a tokenizer would spoil training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hornbook.data.bio import OUTSIDE
from hornbook.tasks.task import Finding, Parts

if TYPE_CHECKING:
    from hornbook.tasks.tag import Tag

LOOKED_AT = 2000  # training texts; the rest is taken to be like them


def findings(task: Tag, parts: Parts) -> list[Finding]:
    """Tags that only one part has, words that are no token, capitals that are lost, windows."""
    found: list[Finding] = []
    if task.head_replaced:
        found.append(Finding("head-replaced", "note", task.head_replaced))
    found += _of_tags(task, parts)
    found += _of_words(task, parts)
    normalizer = str(task.tokenizer.description.get("normalizer") or "")
    if task.kind == "entities" and ("'lowercase': True" in normalizer or "Lowercase" in normalizer):
        found.append(
            Finding(
                "capitals-lost",
                "note",
                "This model reads small letters only.",
                cost="Names are told by their capitals in edited text; without, they cost some F1.",
                mend="Take a model that keeps them, where there is one (cased).",
            )
        )
    if task.kind == "plain" and OUTSIDE in task.label_names:
        found.append(
            Finding(
                "no-beginnings",
                "note",
                f"The tags have an '{OUTSIDE}' but no B- and I-: they are scored word by word.",
                mend="Write entities as B-person, I-person, O to have them scored whole.",
            )
        )
    return found


def _of_tags(task: Tag, parts: Parts) -> list[Finding]:
    found = []
    held = {
        "training": Counter(t for e in parts.train for t in e.tags),
        "validation": Counter(t for e in parts.validation for t in e.tags),
        "test": Counter(t for e in parts.test or () for t in e.tags),
    }
    known = set(task.label_names)
    for part in ("validation", "test"):
        if beyond := {tag: n for tag, n in held[part].items() if tag not in known}:
            found.append(
                Finding(
                    "tag-beyond-head",
                    "warn",
                    f"{len(beyond)} tag(s) of {part} are not in training: {_counted(beyond)}.",
                    cost="The head has no output for them: each counts as missed.",
                    mend="Divide the data anew, or add training texts that have them.",
                )
            )
    if vanished := {t: n for t, n in held["training"].items() if t not in held["validation"]}:
        found.append(
            Finding(
                "tag-vanishes",
                "warn",
                f"{len(vanished)} tag(s) of training are not in validation: {_counted(vanished)}.",
                cost="Nothing says how well they are learnt, and the best checkpoint ignores them.",
                mend="Hold out more, or divide the data anew (--seed).",
            )
        )
    return found


def _of_words(task: Tag, parts: Parts) -> list[Finding]:
    looked_at = parts.train[:LOOKED_AT]
    items = task.items(looked_at)
    found = []
    n_silent = sum(word.n_tokens == 0 for item in items for word in item.words)
    if n_silent:
        found.append(
            Finding(
                "word-without-token",
                "warn",
                f"{n_silent:,} words of {len(looked_at):,} training texts become no token: "
                "the tokenizer drops their characters.",
                cost=f"They carry no loss and get the tag '{task.label_names[0]}'.",
            )
        )
    if n_more := len(items) - len(looked_at):
        found.append(
            Finding(
                "windows",
                "note",
                f"{n_more:,} further windows: some of {len(looked_at):,} training texts are longer "
                f"than {task.max_tokens} tokens. Every word is judged, in one of them.",
            )
        )
    return found


def _counted(tags: dict[str, int]) -> str:
    most = sorted(tags.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{tag} ({n:,})" for tag, n in most[:8]) + (", …" if len(most) > 8 else "")


def listed(names: Sequence[str]) -> str:
    """The first of some names, for a sentence."""
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
