"""Which of many unlabelled texts to label next, as a fine-tuned classifier sees them.

for pick in pick_texts("runs/mail", texts, 50): print(pick.row, pick.guess, texts[pick.row])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hornbook.data.batching import by_length
from hornbook.data.duplicates import normalised
from hornbook.data.examples import Document, Example
from hornbook.errors import ConfigError, DataError
from hornbook.evaluation.selection import margins, select
from hornbook.nn.precision import choose_precision
from hornbook.recipes.adapted import open_task
from hornbook.recipes.subjects import place_of
from hornbook.tasks.classify import TOKENS_PER_BATCH

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pick:
    """A text that is worth a label. row: its place among those given. guess: the model's labels.

    margin: how sure the model is of them, 0 to 1.
    """

    row: int
    guess: tuple[str, ...]
    margin: float


def pick_texts(
    run: str, texts: Sequence[str], n: int, *, progress: Progress | None = None
) -> list[Pick]:
    """n of the texts, the most telling first; fewer where there are not so many different ones.

    run: the folder of a run of `finetune classify`, or its name in `runs/`. Raises ConfigError for
    a run of another task, or of numbers on a scale; DataError where there is no text.
    """
    opened = open_task(place_of(run))
    task: Any = opened.task
    if task.name != "classify" or task.problem == "regression":
        what = "numbers on a scale" if task.name == "classify" else f"'{task.name}'"
        raise ConfigError(
            f"{run} was fine-tuned for {what}: texts are picked for one that gives labels",
            hint="Name a run of hornbook finetune classify.",
        )
    rows = _different(texts)
    if not rows:
        raise DataError("there is no text to pick from", hint="Name a file with texts in it.")
    items = task.items([Example(Document(texts[row]), ()) for row in rows])
    device = choose_precision().device
    logits, features = _read(opened.model.to(device), task, items, device, progress)
    several = task.problem == "multi_label_classification"
    if several:
        chosen, probabilities = task.decide(logits)
    else:
        probabilities = torch.from_numpy(logits).softmax(1).numpy()
        chosen = np.eye(logits.shape[1])[logits.argmax(1)]
    sure = margins(probabilities, several=several)
    return [
        Pick(
            rows[i],
            tuple(task.label_names[j] for j in np.flatnonzero(chosen[i])),
            float(sure[i]),
        )
        for i in select(probabilities - chosen, features, n)
    ]


def _different(texts: Sequence[str]) -> list[int]:
    """Rows of texts that are none of the same words as one before."""
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        if text.strip():
            first.setdefault(normalised(text), row)
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
