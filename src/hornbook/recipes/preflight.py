"""Preflight: what of these data and this model would spoil a run, before any weight moves.

Whatever the task: labels that the head has no place for, classes that vanish in a part, texts that
are twice there or in two parts at once. What a task knows better it says
itself (`Task.check`), and then it is not said here; what takes a few steps to know stands in
`rehearsal`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import nn

from hornbook.data.duplicates import find_duplicates, normalised
from hornbook.errors import ConfigError
from hornbook.tasks.task import Finding, Parts, Task

# What of an example is not read by the model, or is what it has to say.
_NOT_READ = {"id", "place", "label", "labels", "tags", "answers", "article", "target", "good"}
NEARLY_ALIKE = 20_000  # examples; of more only equal texts are looked for
N_NAMED = 5


def findings_of(task: Task, parts: Parts, model: nn.Module) -> list[Finding]:
    """All that is found without training, the worst first.

    What is cut off of texts a task says itself: only it knows what it reads in windows or in parts.
    """
    own = task.check(parts)
    said = " ".join(f.code for f in own)
    found = [*own, *check_copies(parts)]
    if not any(word in said for word in ("label", "tag", "contradiction")):
        found += check_labels(parts, model)
    return in_order(found)


def in_order(found: Sequence[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(found, key=lambda f: ("stop", "warn", "note").index(f.level))


def refuse(found: Sequence[Finding], *, strict: bool) -> None:
    """Raise ConfigError for what would make training useless; with `strict` for warnings too."""
    levels = {"stop", "warn"} if strict else {"stop"}
    wrong = [f for f in found if f.level in levels]
    if not wrong:
        return
    raise ConfigError(
        "preflight stops the run: " + "; ".join(f.what for f in wrong),
        hint=" ".join(f.mend for f in wrong if f.mend)
        + ("" if any(f.level == "stop" for f in wrong) else " Without --strict it is only said."),
    )


def check_labels(parts: Parts, model: nn.Module) -> Iterator[Finding]:
    """Labels beyond the head, and classes that are in one part and not in another."""
    if not parts.label_names:
        return
    n_outputs = getattr(getattr(model, "head", None), "out_features", None)
    if n_outputs is not None and n_outputs < len(parts.label_names):
        yield Finding(
            "labels-beyond-head",
            "stop",
            f"the data have {len(parts.label_names)} labels, the head tells {n_outputs} apart",
            "Every example of the others would be an error, or count as another label.",
            "Start from the base model, without a head; or leave these labels out.",
        )
    counts = {name: Counter(_labels(part)) for name, part in _named(parts).items()}
    known = set(parts.label_names)
    if unknown := sorted(set().union(*counts.values()) - known):
        yield Finding(
            "label-unknown",
            "warn",
            f"{_names(unknown)}: in the data, but no label of this task",
            "These examples can't be right in any evaluation.",
            "Put examples of them into the training part, or take them out.",
        )
    if not counts["train"]:
        return  # examples that don't carry their labels by name
    if absent := [name for name in parts.label_names if not counts["train"][name]]:
        yield Finding(
            "class-not-in-train",
            "warn",
            f"no training example is {_names(absent)}",
            "The model can't learn what it never sees.",
            "Divide the data anew, or drop these labels.",
        )
    if lost := [n for n in counts["train"] if n in known and not counts["validation"][n]]:
        yield Finding(
            "class-not-in-validation",
            "warn",
            f"{_names(lost)}: in training ({sum(counts['train'][n] for n in lost)} examples), "
            "never in validation",
            "Nothing is known of how well they are learnt, nor does it count for the choice.",
            "Give more examples of them, or a validation part that has some.",
        )
    if rare := [n for n in counts["train"] if 0 < counts["train"][n] < 8]:
        yield Finding(
            "class-rare",
            "note",
            f"fewer than 8 training examples: {_names(rare)}",
            "Such classes are mostly not learnt.",
            "Label more of them; `--curve` says whether more would help.",
        )


def check_copies(parts: Parts) -> Iterator[Finding]:
    """The same text twice in training, in two parts, or under two labels."""
    named = _named(parts)
    texts, owners, labels = [], [], []
    for name, part in named.items():
        for example in part:
            texts.append(_told_apart(example))
            owners.append(name)
            labels.append(tuple(_labels([example])))
    pairs = _copies(texts)
    contradictions, first_excerpt = 0, ""
    within: set[int] = set()
    leaks: defaultdict[str, set[int]] = defaultdict(set)
    for i, j, exact in pairs:
        if owners[i] == owners[j] == "train":
            within.add(max(i, j))
        elif "train" in (owners[i], owners[j]):
            other = i if owners[j] == "train" else j
            leaks[owners[other]].add(other)
        if exact and parts.label_names and labels[i] != labels[j]:
            first_excerpt = first_excerpt or " ".join(texts[i].split())[:60]
            contradictions += 1
    for name, of in leaks.items():
        share = len(of) / max(1, len(named[name]))
        yield Finding(
            "leak",
            "warn" if share >= 0.01 else "note",
            f"{len(of)} of {len(named[name])} {name} texts ({share:.1%}) are, or are nearly, in "
            "training too",
            f"Scores on {name} promise more than new texts will show.",
            "Take them out of the training part, or divide by groups of copies.",
        )
    if within:
        share = len(within) / max(1, len(parts.train))
        yield Finding(
            "duplicates",
            "warn" if share >= 0.1 else "note",
            f"{len(within)} of {len(parts.train)} training texts ({share:.1%}) are copies of "
            "others",
            "Time is spent on them, and they weigh more than once.",
            "Take them out; of labelled texts `hornbook data audit` lists them.",
        )
    if contradictions:
        yield Finding(
            "contradictions",
            "warn",
            f"{contradictions} texts are there twice, with different labels; the first: "
            f"{first_excerpt!r}",
            "No model can be right on both.",
            "Look at them, and correct one of each.",
        )


def reading_of(example: Any) -> str:
    """What the model reads of an example, as one text, whatever the example is."""
    return "\n".join(_strings(example))


def _told_apart(example: Any) -> str:
    """What makes an example another than the next: of questions, not the text that several ask."""
    question = getattr(example, "question", None)
    return question if isinstance(question, str) else reading_of(example)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            if field.name not in _NOT_READ:
                yield from _strings(getattr(value, field.name))
    elif isinstance(value, dict):
        for key, part in value.items():
            if key not in _NOT_READ:
                yield from _strings(part)
    elif isinstance(value, list | tuple) and not (value and isinstance(value[0], int | float)):
        parts = list(value)
        if all(isinstance(part, str) for part in parts):
            yield " ".join(parts)
            return
        for part in parts:
            yield from _strings(part)


def _labels(examples: Sequence[Any]) -> Iterator[str]:
    """Every label of some examples, by the names that data have for them."""
    for example in examples:
        found = getattr(example, "labels", None)
        found = getattr(example, "tags", None) if found is None else found
        if found is not None:
            yield from found
        elif isinstance(label := getattr(example, "label", None), str) and label:
            yield label


def _named(parts: Parts) -> dict[str, Sequence[Any]]:
    return {"train": parts.train, "validation": parts.validation, "test": parts.test or ()}


def _copies(texts: Sequence[str]) -> list[tuple[int, int, bool]]:
    if len(texts) <= NEARLY_ALIKE:
        return [(p.first, p.second, p.exact) for p in find_duplicates(texts)]
    seen: dict[str, int] = {}
    return [
        (first, i, True)
        for i, text in enumerate(map(normalised, texts))
        if text and (first := seen.setdefault(text, i)) != i
    ]


def _names(labels: Any) -> str:
    listed = [f"'{label}'" for label in labels]
    more = f" and {len(listed) - N_NAMED} more" if len(listed) > N_NAMED else ""
    return ", ".join(listed[:N_NAMED]) + more
