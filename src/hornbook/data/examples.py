"""The types that all data is turned into: a document, a labelled document, a data set.

Letters in shapes: N documents, L labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Document:
    """A text to be classified. `title` is empty where the source has none."""

    text: str
    title: str = ""

    @property
    def full(self) -> str:
        """The title and the text as one string."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Example:
    """A document with its labels; `id` is the source's own, or the row number as text."""

    document: Document
    labels: tuple[str, ...]
    id: str = ""


@dataclass(frozen=True)
class TextDataset:
    """Labelled texts with where they come from.

    `test` is None where the source gives no split: `splits.make_splits` then makes one.
    `notes` are sentences for the reader: what was dropped, guessed, or counted. `validation_ids`:
    of the training examples that the source marks as validation.
    """

    name: str
    train: list[Example]
    test: list[Example] | None = None
    multi_label: bool = False
    source: str = ""
    licence: str = ""
    notes: list[str] = field(default_factory=list)
    label_descriptions: dict[str, str] = field(default_factory=dict)
    validation_ids: frozenset[str] = frozenset()

    @property
    def examples(self) -> list[Example]:
        """Train and test together, in that order."""
        return self.train + (self.test or [])


@dataclass(frozen=True)
class Problem:
    """What is to be predicted: the labels (columns of every score matrix, in this order)."""

    label_names: tuple[str, ...]
    multi_label: bool
    label_descriptions: dict[str, str] = field(default_factory=dict)

    @property
    def n_labels(self) -> int:
        return len(self.label_names)


@dataclass(frozen=True)
class Labelled:
    """Documents with their targets as a boolean matrix (N, L).

    groups: a number for each document (N,), equal for near-duplicates, which cross-validation must
    keep together; the numbers of train and of validation mean the same. None: all are different.
    """

    documents: list[Document]
    targets: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.documents)

    def take(self, rows: Sequence[int] | np.ndarray) -> Labelled:
        """The rows named, in that order."""
        rows = np.asarray(rows, int)
        groups = None if self.groups is None else self.groups[rows]
        return Labelled([self.documents[i] for i in rows], self.targets[rows], groups)

    def __add__(self, other: Labelled) -> Labelled:
        groups = None
        if self.groups is not None and other.groups is not None:
            groups = np.concatenate([self.groups, other.groups])
        targets = np.concatenate([self.targets, other.targets])
        return Labelled(self.documents + other.documents, targets, groups)


def targets_of(examples: Iterable[Example], label_names: Sequence[str]) -> np.ndarray:
    """The boolean matrix (N, L) of which example carries which label; other labels are left out."""
    rows = list(examples)
    column = {name: j for j, name in enumerate(label_names)}
    targets = np.zeros((len(rows), len(label_names)), dtype=bool)
    for i, example in enumerate(rows):
        for label in example.labels:
            if label in column:
                targets[i, column[label]] = True
    return targets
