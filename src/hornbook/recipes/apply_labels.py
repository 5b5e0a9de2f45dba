"""Labels of one's own, untrained: scores of `label_scores`, calibrated, as shares.

Without a labelled text, what each label gets of texts without content is taken off its score
(`tasks.label_bias`). With some, a temperature besides, so that of the texts with a share of .8 some
80 % are right; how far that is so is measured on texts that the temperature was not fitted to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from hornbook.data.examples import Example, targets_of
from hornbook.data.open import open_dataset
from hornbook.errors import ConfigError, DataError
from hornbook.recipes.apply_plain import Row
from hornbook.recipes.assessing import drawn
from hornbook.recipes.label_scores import Asking, Scorer
from hornbook.tasks.calibration import Calibration, calibration_error, cross_fitted, fit_softmax
from hornbook.tasks.label_bias import CONTENT_FREE, log_odds_apart, log_preferences

FEWEST, MOST = 10, 500  # labelled texts that a temperature is fitted to


@dataclass
class Labelling:
    """Rows (text, labels) to labels and shares; a `Say`.

    several: labels don't exclude one another: the scores are log-odds, and those from 0 are given.
    content_free: whether what a label gets of texts without content is taken off. factor: of the
    scores then, one over the temperature; fitted for `labels` alone, where they are named. notes:
    for the reader.
    """

    scorer: Scorer
    several: bool = False
    content_free: bool = True
    factor: float = 1.0
    labels: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    _free: dict[str, np.ndarray] = field(default_factory=dict)  # a label's scores (K,)

    def __call__(self, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        asked = [(row["text"], tuple(dict.fromkeys(row["labels"]))) for row in rows]
        self._check(asked)
        for (text, names), scores in zip(asked, self.scores(asked), strict=True):
            yield _said(text, names, self.factor * scores, self.several)

    def scores(self, asked: Sequence[Asking]) -> list[np.ndarray]:
        """Each text's scores of its labels (L,), without the labels' own preferences."""
        found = self.scorer(asked)
        if not self.content_free:
            return found
        self._learn(label for _, names in asked for label in names)
        off = log_odds_apart if self.several else log_preferences
        return [
            scores - off(np.stack([self._free[name] for name in names], axis=1))
            for (_, names), scores in zip(asked, found, strict=True)
        ]

    def _learn(self, labels: Iterable[str]) -> None:
        """Score texts without content for the labels that are new."""
        new = [label for label in dict.fromkeys(labels) if label not in self._free]
        if new:
            free = np.stack(self.scorer([(text, new) for text in CONTENT_FREE]))  # (K, L)
            self._free |= dict(zip(new, free.T, strict=True))

    def _check(self, asked: Sequence[Asking]) -> None:
        for _, names in asked if self.labels else ():
            if self.labels != set(names):
                raise ConfigError(
                    f"calibrated were the shares of {', '.join(sorted(self.labels))}, not those "
                    f"of {', '.join(names)}",
                    hint="Name the labels that the labelled texts have, all of them.",
                )


def calibrated(labelling: Labelling, data: str) -> Labelling:
    """The same with a temperature fitted to labelled texts, of which a note says what it brought.

    data: whatever `open_dataset` opens, of which the training part is read, 500 texts at most.
    Raises DataError for texts of several labels or fewer than 10, ConfigError for --several.
    """
    if labelling.several:
        raise ConfigError(
            "--calibrate is for shares that add up to 1, and --several asks for each by itself",
            hint="Leave one of them out.",
        )
    dataset = open_dataset(data)
    examples = [example for example in dataset.train if example.labels]
    names = sorted({label for example in examples for label in example.labels})
    if dataset.multi_label or len(examples) < FEWEST:
        each = "several labels" if dataset.multi_label else "a label"
        raise DataError(
            f"{data} has {len(examples)} texts with {each} each, which calibrate nothing",
            hint=f"Give {FEWEST} texts or more with one label each.",
        )
    chosen = [examples[i] for i in sorted(drawn(len(examples), MOST))]
    scores, targets = _scored(labelling, chosen, names)
    fitted = fit_softmax(scores, targets, with_bias=False)
    return Labelling(
        labelling.scorer,
        content_free=labelling.content_free,
        factor=float(fitted.slope[0]),
        labels=frozenset(names),
        notes=(_brought(scores, targets, fitted, len(examples)),),
    )


def _scored(
    labelling: Labelling, examples: Sequence[Example], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, L) of labelled texts and their targets (N, L) bool."""
    scores = labelling.scores([(example.document.full, names) for example in examples])
    return np.stack(scores), targets_of(examples, names)


def _brought(scores: np.ndarray, targets: np.ndarray, fitted: Calibration, n_all: int) -> str:
    right = targets.argmax(axis=1)
    before = calibration_error(softmax(scores, axis=1), right)
    after = calibration_error(cross_fitted(scores, targets), right)
    n = f"{len(scores):,}" + ("" if len(scores) == n_all else f" of {n_all:,}")
    return (
        f"calibrated on {n} labelled texts: temperature {1 / fitted.slope[0]:.2f}, expected "
        f"calibration error {before:.3f} before, {after:.3f} after, each text judged by a "
        "temperature fitted to others; don't judge the labels on these texts"
    )


def _said(text: str, names: Sequence[str], scores: np.ndarray, several: bool) -> dict[str, Any]:
    shares = _by_name(names, expit(scores) if several else softmax(scores))
    if several:
        given = [name for name, share in shares.items() if share >= 0.5]
        return {"text": text, "labels": given, "shares": shares}
    return {"text": text, "label": next(iter(shares)), "shares": shares}


def _by_name(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    order = np.argsort(-values, kind="stable")
    return {names[i]: round(float(values[i]), 4) for i in order}
