"""Labels of one's own, untrained: by how near a text's vector is to each label's, or by whether the
text entails a sentence that names the label (Yin, Hay and Roth 2019).

    cosines       softmax over 20 cosines of the text and each label, of a sentence encoder
    entailment    "This text is about {label}.": softmax over the labels' logits of entailment; of
                  several labels each by itself, entailment against contradiction
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import nn

from hornbook.data.labelled import TextPair
from hornbook.errors import ConfigError
from hornbook.nn.precision import choose_precision
from hornbook.recipes.apply_plain import Asked, Row, Say

SHARPNESS = 20.0  # what sentence encoders are trained with: softmax over 20 cosines (Reimers 2020)
HYPOTHESIS = "This text is about {label}."


def by_cosines(encoder: Any) -> Say:
    """As the technique `zero-shot` of `hornbook compare`."""

    def say(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        labels = list(dict.fromkeys(label for row in rows for label in row["labels"]))
        of_label = dict(zip(labels, encoder.encode(labels), strict=True))
        for row, vector in zip(rows, encoder.encode([row["text"] for row in rows]), strict=True):
            names = list(dict.fromkeys(row["labels"]))
            cosines = np.array([float(vector @ of_label[name]) for name in names])
            yield _said(row, names, _softmax(SHARPNESS * cosines)) | {
                "cosines": _by_name(names, cosines)
            }

    return say


def by_entailment(network: nn.Module, task: Any, asked: Asked) -> Say:
    """task: a `ClassifyPairs` whose labels `ends_of` knows. Raises ConfigError for a hypothesis
    without {label}, and where several labels are asked for and nothing says they don't hold."""
    sentence = asked.hypothesis or HYPOTHESIS
    if "{label}" not in sentence:
        raise ConfigError(
            f"the hypothesis '{sentence}' has no place for a label",
            hint=f"Write {{label}} where it belongs, as in '{HYPOTHESIS}'",
        )
    holds, not_ = ends_of(task.label_names)
    if asked.several and not_ is None:
        raise ConfigError(
            f"none of the model's labels ({', '.join(task.label_names)}) is contradiction",
            hint="Leave --several out, or take a model with labels entailment and contradiction.",
        )
    device = choose_precision().device
    network.to(device).eval()

    def say(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        names = [list(dict.fromkeys(row["labels"])) for row in rows]
        pairs = [
            TextPair(row["text"], sentence.replace("{label}", name))
            for row, of_row in zip(rows, names, strict=True)
            for name in of_row
        ]
        logits = task.logits(network, task.items(pairs), device=device)
        starts = np.cumsum([len(of_row) for of_row in names])[:-1]
        for row, of_row, own in zip(rows, names, np.split(logits, starts), strict=True):
            if not asked.several:
                yield _said(row, of_row, _softmax(own[:, holds]))
                continue
            shares = 1 / (1 + np.exp(np.clip(own[:, not_] - own[:, holds], -80, 80)))
            found = _said(row, of_row, shares)
            del found["label"]
            given = [name for name, share in found["shares"].items() if share >= 0.5]
            yield {"text": found["text"], "labels": given, "shares": found["shares"]}

    return say


def ends_of(names: Sequence[str]) -> tuple[int, int | None]:
    """The numbers of the labels entailment and contradiction (or "not entailment").

    The latter is None where neither is there; -1 and None where no label is entailment.
    """
    folded = [name.casefold() for name in names]
    holds = next((i for i, name in enumerate(folded) if name.startswith("entail")), -1)
    against = (i for i, n in enumerate(folded) if n.startswith(("contradict", "not")))
    return holds, next(against, None)


def _said(row: Row, names: Sequence[str], shares: np.ndarray) -> dict[str, Any]:
    best_first = _by_name(names, shares)
    return {"text": row["text"], "label": next(iter(best_first)), "shares": best_first}


def _by_name(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    order = np.argsort(-values, kind="stable")
    return {names[i]: round(float(values[i]), 4) for i in order}


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()
