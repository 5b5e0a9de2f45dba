"""Which of many unlabelled texts, or pairs of texts, to label next, as a fine-tuned classifier sees
them.

picker = open_picker("runs/mail")
for pick in picker.pick([{"text": text} for text in texts], 50): print(texts[pick.row], pick.guess)

What counts is the gradient of one label at the last layer (`evaluation.selection`). Other tasks
have no such one: a text with tagged words, or a written answer, has as many as words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hornbook.data.batching import by_length
from hornbook.data.duplicates import normalised
from hornbook.data.examples import Document, Example
from hornbook.data.labelled import TextPair
from hornbook.errors import ConfigError, DataError
from hornbook.evaluation.selection import margins, select
from hornbook.nn.precision import choose_precision
from hornbook.recipes.adapted import open_task
from hornbook.recipes.subjects import place_of
from hornbook.tasks.classify import TOKENS_PER_BATCH

Row = Mapping[str, Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pick:
    """What is worth a label. row: its place among those given. guess: the model's labels.

    margin: how sure the model is of them, 0 to 1.
    """

    row: int
    guess: tuple[str, ...]
    margin: float


@dataclass(frozen=True)
class Picker:
    """A fine-tuned classifier that picks. reads: what it reads of a row."""

    model: nn.Module
    task: Any

    @property
    def reads(self) -> tuple[str, ...]:
        return ("first", "second") if self.task.name == "pairs" else ("text",)

    def pick(self, rows: Sequence[Row], n: int, *, progress: Progress | None = None) -> list[Pick]:
        """n of the rows, the most telling first; fewer where there are not so many different ones.

        Raises DataError where there is nothing to read.
        """
        task, different = self.task, _different(rows, self.reads)
        if not different:
            raise DataError("there is no text to pick from", hint="Name a file with texts in it.")
        items = task.items([_example(rows[i], self.reads) for i in different])
        device = choose_precision().device
        logits, features = _read(self.model.to(device), task, items, device, progress)
        several = task.problem == "multi_label_classification"
        if several:
            chosen, probabilities = task.decide(logits)
        else:
            probabilities = torch.from_numpy(logits).softmax(1).numpy()
            chosen = np.eye(logits.shape[1])[logits.argmax(1)]
        sure = margins(probabilities, several=several)
        return [
            Pick(
                different[i],
                tuple(task.label_names[j] for j in np.flatnonzero(chosen[i])),
                float(sure[i]),
            )
            for i in select(probabilities - chosen, features, n)
        ]


def open_picker(run: str) -> Picker:
    """run: the folder of a run of `finetune classify` or `pairs`, or its name in `runs/`.

    Raises ConfigError for a run of another task, or of numbers on a scale.
    """
    opened = open_task(place_of(run))
    task: Any = opened.task
    if task.name not in ("classify", "pairs"):
        raise ConfigError(
            f"{run} was fine-tuned for '{task.name}', and what to label next is picked for one "
            "label a text (classify) or a pair (pairs)",
            hint="It is told by how unsure the model is of that one label, and a text with many "
            "tags or words has many. Name a run of hornbook finetune classify or pairs.",
        )
    if task.problem == "regression":
        raise ConfigError(
            f"{run} was fine-tuned for numbers on a scale, and doesn't say how unsure it is",
            hint="Name a run that gives labels.",
        )
    return Picker(opened.model, task)


def _example(row: Row, reads: Sequence[str]) -> Any:
    texts = [str(row[name]) for name in reads]
    return TextPair(*texts) if len(texts) > 1 else Example(Document(*texts), ())


def _different(rows: Sequence[Row], reads: Sequence[str]) -> list[int]:
    """Rows that are none of the same words as one before, without those that lack a text."""
    first: dict[tuple[str, ...], int] = {}
    for i, row in enumerate(rows):
        texts = [str(row[name]) for name in reads]
        if all(text.strip() for text in texts):
            first.setdefault(tuple(map(normalised, texts)), i)
    return list(first.values())


@torch.inference_mode()
def _read(
    model: nn.Module, task: Any, items: Sequence[Any], device: str, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, L), and what the last layer made them of, (N, E); float32, in the items' order."""
    head: Any = model.head
    logits = np.zeros((len(items), head.out.out_features), np.float32)
    features = np.zeros((len(items), head.out.in_features), np.float32)
    seen: list[torch.Tensor] = []
    hook = head.out.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    done = 0
    try:
        for rows in by_length([task.length(item) for item in items], TOKENS_PER_BATCH):
            logits[rows] = model(task.collate([items[i] for i in rows], device)).float().cpu()
            features[rows] = seen.pop().float().cpu()
            done += len(rows)
            if progress:
                progress(done, len(items))
    finally:
        hook.remove()
    return logits, features
