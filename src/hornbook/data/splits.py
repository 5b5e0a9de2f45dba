"""Divide a data set into train, validation and test, so that every technique sees the same parts.

A test split that comes with the data is kept as it is. Every split made here is seeded and
stratified, keeps near-duplicates on one side, and leaves each label at least one training text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hornbook.data.duplicates import find_duplicates, groups
from hornbook.data.examples import Example, TextDataset, targets_of
from hornbook.errors import ConfigError, DataError

FEW = 30  # test texts; with fewer a bootstrap interval is too narrow


@dataclass(frozen=True)
class Splits:
    """The three parts of a study; `label_names` are sorted and have a training text each.

    `notes` are sentences for the reader: what was divided how, and what that costs. `groups`: a
    number for each text of train, then of validation, equal for near-duplicates.
    """

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    label_names: list[str]
    notes: list[str] = field(default_factory=list)
    groups: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


def make_splits(
    dataset: TextDataset,
    *,
    seed: int,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    max_train: int | None = None,
) -> Splits:
    """Divide a data set; the same seed gives the same parts.

    test_share: of all texts, where the data has no test split. validation_share: of what is not
    test. max_train: use about this many labelled texts, training and validation together.
    Raises ConfigError for a share outside 0..1, DataError where nothing can be divided.
    """
    examples = dataset.examples
    if len({frozenset(e.labels) for e in dataset.train}) < 2:
        where = "texts" if dataset.test is None else "training texts"
        raise DataError(
            f"{dataset.name}: all {len(dataset.train):,} {where} carry the same label",
            hint="Classification needs two labels at least; is it the right label column?",
        )
    pairs = find_duplicates([e.document.full for e in examples])
    group = groups(len(examples), pairs)
    notes = []
    if n := len(dataset.validation_ids):
        notes.append(f"{n:,} validation rows count as training: each repeat draws its own set.")
    if dataset.test is not None:
        test_rows = np.arange(len(dataset.train), len(examples))
        pool = np.arange(len(dataset.train))
        n_leaks = np.isin(group[test_rows], group[pool]).sum()
        notes.append(f"The test split of {len(test_rows):,} texts came with the data.")
        if n_leaks:
            notes.append(
                f"{n_leaks:,} of its texts are near-duplicates of training texts and were kept, so "
                "that scores compare with those of others."
            )
    else:
        held_out = _held_out(examples, group, test_share, seed, "test_share")
        test_rows, pool = np.flatnonzero(held_out), np.flatnonzero(~held_out)
        notes.append(
            f"The data has no test split: {len(test_rows):,} of {len(examples):,} texts were set "
            f"aside, stratified by label, near-duplicates on one side (seed {seed})."
        )
    if max_train is not None and max_train < len(pool):
        share = 1 - max_train / len(pool)
        left_out = _held_out([examples[i] for i in pool], group[pool], share, seed, "max_train")
        notes.append(f"{(~left_out).sum():,} of {len(pool):,} training texts are used, as asked.")
        pool = pool[~left_out]

    labelled = [examples[i] for i in pool]
    out = _held_out(labelled, group[pool], validation_share, seed, "validation_share")
    train, validation = _parts(labelled, out)
    test = [examples[i] for i in test_rows]
    label_names = sorted({label for e in train for label in e.labels})
    notes += _unseen(test, set(label_names)) + _untested(test, label_names)
    learnt = np.concatenate([group[pool][~out], group[pool][out]])
    return Splits(train, validation, test, label_names, notes, learnt)


def validation_split(
    examples: list[Example], seed: int, share: float = 0.1, *, group: np.ndarray | None = None
) -> tuple[list[Example], list[Example]]:
    """Divide labelled texts into train and validation; another seed draws another validation set.

    Every label of `examples` keeps a training text, so that all draws have the same labels.
    group: a number for each text (N,), equal for texts that must stay together; by default these
    are the near-duplicates. Raises DataError where there are too few texts to divide.
    """
    if group is None:
        group = groups(len(examples), find_duplicates([e.document.full for e in examples]))
    return _parts(examples, _held_out(examples, group, share, seed, "validation_share"))


def _parts(examples: list[Example], held_out: np.ndarray) -> tuple[list[Example], list[Example]]:
    """Those that are not held out, and those that are."""
    kept = [e for e, out in zip(examples, held_out) if not out]
    return kept, [e for e, out in zip(examples, held_out) if out]


def _held_out(
    examples: list[Example], group: np.ndarray, share: float, seed: int, setting: str
) -> np.ndarray:
    """Which of the examples are held out (N,): about the share of each label, whole groups."""
    if not 0 < share < 1:
        raise ConfigError(
            f"{setting} leads to a share of {share:g} held out", hint="It must lie between 0 and 1."
        )
    numbers, group = np.unique(group, return_inverse=True)
    label_names = sorted({label for e in examples for label in e.labels})
    targets = np.zeros((len(numbers), len(label_names)), dtype=bool)  # of groups: any member's
    np.logical_or.at(targets, group, targets_of(examples, label_names))

    if len(numbers) < 2:
        raise DataError(
            f"{len(examples):,} texts cannot be divided: all are near-duplicates of one another",
            hint="Add different texts; a score on copies of training texts would mean nothing.",
        )
    # The splitters deal out groups by their number; a label's last training text is never held out.
    out = _stratified(targets, share, seed)
    for row in np.flatnonzero(out):
        if (targets[row] & ~targets[~out].any(axis=0)).any():
            out[row] = False
    if not out.any():
        raise DataError(
            f"{len(examples):,} texts are too few to hold out {share:.0%} of them with each label "
            "still in training",
            hint="Add texts, merge rare labels, or hold out a larger share.",
        )
    return out[group]


def _stratified(targets: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows are held out (N,) for targets (N, L): of each label the same share, if it can be.

    Single labels go through scikit-learn; several a text, and classes too small for it, through
    iterative stratification (Sechidis et al. 2011), which is slower.
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
    from sklearn.model_selection import StratifiedShuffleSplit

    out = np.zeros(len(targets), dtype=bool)
    n_out = max(1, round(share * len(targets)))
    per_label = targets.sum(axis=0)
    rows = np.flatnonzero(~targets[:, per_label < 2].any(axis=1))  # the only one of a label stays
    if (targets.sum(axis=1) == 1).all() and min(n_out, len(rows) - n_out) >= (
        per_label > 1
    ).sum() > 0:
        splitter = StratifiedShuffleSplit(n_splits=1, test_size=n_out, random_state=seed)
        _, held = next(splitter.split(rows, targets[rows].argmax(axis=1)))
        out[rows[held]] = True
    else:
        splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
        # A column of its own for each row's being a row: it balances the sizes of the parts.
        _, held = next(splitter.split(targets, np.c_[targets, np.ones(len(targets))].astype(int)))
        out[held] = True
    return out


def _untested(test: list[Example], label_names: list[str]) -> list[str]:
    """Say what the test split is too small to tell."""
    notes = []
    tested = {label for e in test for label in e.labels}
    if untested := [label for label in label_names if label not in tested]:
        notes.append(
            f"{len(untested)} label(s) have no test text ({', '.join(untested[:10])}"
            f"{', …' if len(untested) > 10 else ''}): each counts as 0 in macro-F1."
        )
    if len(test) < FEW:
        notes.append(
            f"There are only {len(test)} test texts: each of them moves a score by "
            f"{1 / len(test):.2f}, and the intervals are narrower than they should be."
        )
    return notes


def _unseen(test: list[Example], label_names: set[str]) -> list[str]:
    """Say which labels of the test split no training text has, and what that does to the scores."""
    unseen = sorted({label for e in test for label in e.labels} - label_names)
    if not unseen:
        return []
    n_texts = sum(not label_names.issuperset(e.labels) for e in test)
    return [
        f"{len(unseen)} label(s) of the test split have no training text "
        f"({', '.join(unseen[:10])}{', …' if len(unseen) > 10 else ''}; {n_texts:,} test texts). "
        "No technique can give them: each counts as missed in micro-F1 and accuracy; macro-F1 is "
        "the mean over the labels of the training texts."
    ]
