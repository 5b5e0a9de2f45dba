"""Labels of a validation or test part that are probably wrong, by a model that never saw them.

What `data.label_issues` asks of a model made for the purpose is asked here of the fine-tuned one:
its probabilities for texts that it did not learn from (Northcutt et al. 2021), made honest by one
temperature first, as fine-tuned models are surer than they are right (Guo et al. 2017).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hornbook import files
from hornbook.data.label_issues import Doubt, doubts_by_probability, doubts_of_several

TEMPERATURES = np.geomspace(0.25, 8, 41)
FEWEST = 30  # texts: with fewer nothing is usual


def label_doubts(
    labels: Sequence[Sequence[str]], predictions: Sequence[Any], *, seed: int = 0
) -> list[Doubt]:
    """Doubtful rows, the worst first. labels: the given ones of each text.

    predictions: as `tasks.classify` makes them, each with "probabilities" by label; of anything
    else, and of too few texts, there are no doubts.
    """
    if len(labels) < FEWEST or not all(_tells(p) for p in predictions):
        return []
    names = list(predictions[0]["probabilities"])
    column = {name: j for j, name in enumerate(names)}
    rows = [i for i, given in enumerate(labels) if given and all(g in column for g in given)]
    several = "labels" in predictions[0]
    if (not several and any(len(labels[i]) != 1 for i in rows)) or len(rows) < FEWEST:
        return []
    targets = np.zeros((len(rows), len(names)), bool)
    for i, row in enumerate(rows):
        for given in labels[row]:
            targets[i, column[given]] = True
    probability = np.array(
        [[predictions[row]["probabilities"].get(name, 0.0) for name in names] for row in rows]
    )
    logits = np.log(np.clip(probability, 1e-9, 1 - 1e-9))
    if several:
        logits -= np.log1p(-np.clip(probability, 1e-9, 1 - 1e-9))
        carried = targets.any(0)
        targets, names = targets[:, carried], [names[j] for j in np.flatnonzero(carried)]
        if targets.all():
            return []
        suggested, own, order = doubts_of_several(targets, logits[:, carried])
    else:
        suggested, own, order = doubts_by_probability(targets, _cooled(logits, targets))
    return [
        Doubt(rows[i], [names[j] for j in np.flatnonzero(suggested[i])], float(own[i]))
        for i in order
    ]


def list_doubts(
    task: Any,
    examples: Sequence[Any],
    predictions: Sequence[Any],
    path: Path,
    *,
    numbers: Sequence[int] | None = None,
) -> list[str]:
    """Write doubtful labels to `path`, a line of JSON each; a sentence on them, none without any.

    numbers: of the examples, where they are some of the data's. Of a task that has no `labels_of`
    there are none.
    """
    labels_of = getattr(task, "labels_of", None)
    if labels_of is None:
        return []
    given = [labels_of(example) for example in examples]
    doubts = label_doubts(given, predictions)
    if not doubts:
        return []
    lines = [
        {
            "example": doubt.row if numbers is None else numbers[doubt.row],
            "id": getattr(examples[doubt.row], "id", ""),
            "text": _text_of(examples[doubt.row]),
            "given": list(given[doubt.row]),
            "suggested": doubt.suggested,
            "probability": round(doubt.probability, 4),
        }
        for doubt in doubts
    ]
    files.write_text(path, "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines))
    first = lines[0]
    shown = " ".join(str(first["text"]).split())[:80]
    return [
        f"{len(doubts):,} label(s) look wrong to the model, in {path.name}; first: {shown!r} is "
        f"labelled {', '.join(given[doubts[0].row])}, likelier is "
        f"{', '.join(doubts[0].suggested)}. Look at them before trusting the last decimals."
    ]


def _text_of(example: Any) -> str:
    document = getattr(example, "document", None)
    return document.full if document is not None else str(getattr(example, "text", ""))


def _tells(prediction: Any) -> bool:
    return isinstance(prediction, Mapping) and bool(prediction.get("probabilities"))


def _cooled(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Probabilities (N, L) at the temperature under which the given labels are likeliest."""

    def at(temperature: float) -> np.ndarray:
        scaled = logits / temperature
        powers = np.exp(scaled - scaled.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def cost(temperature: float) -> float:
        return float(-np.log(np.maximum(at(temperature)[targets], 1e-12)).mean())

    return at(min(TEMPERATURES, key=cost))
