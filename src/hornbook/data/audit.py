"""Look at the data before anything is fitted: copies, leaks, gaps, rarities, likely wrong labels.

The findings are sentences for whoever owns the data: what it costs, how to mend it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from hornbook.data.duplicates import Pair, find_duplicates
from hornbook.data.examples import Example
from hornbook.data.label_issues import find_label_issues
from hornbook.data.splits import Splits
from hornbook.records import Audit, Duplicate, LabelCount, LabelIssue

N_LISTED = 50  # duplicates, leaks, label issues and pairs of labels: the records keep the first
EXCERPT = 200  # characters


def audit(splits: Splits, *, multi_label: bool, seed: int = 0, threshold: float = 0.8) -> Audit:
    """Examine a study's three parts; a few seconds for ten thousand texts.

    threshold: Jaccard index of word 3-grams from which two texts count as near-duplicates. A
    duplicate is a text that repeats an earlier one. The counts in the record are complete, its
    lists hold the first or likeliest fifty. Label issues are looked for in train and validation;
    the test split is only compared and counted.
    """
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    examples = [e for part in parts.values() for e in part]
    split_of = [name for name, part in parts.items() for _ in part]
    pairs = find_duplicates([e.document.full for e in examples], threshold)
    conflicts = [pair for pair in pairs if not _same_labels(pair, examples)]
    listed = (conflicts + pairs)[: 2 * N_LISTED]  # one of two labels for a text must be wrong
    leaks = _leaks(pairs, split_of)
    copies = {pair.second for pair in pairs if pair.exact}

    learnt = splits.train + splits.validation
    issues = [
        LabelIssue(
            id=learnt[issue.row].id,
            split=split_of[issue.row],
            given=list(learnt[issue.row].labels),
            suggested=issue.suggested,
            given_probability=issue.probability,
            excerpt=_excerpt(learnt[issue.row]),
        )
        for issue in find_label_issues(learnt, multi_label=multi_label, seed=seed)
    ]
    words = np.array([len(e.document.full.split()) for e in examples] or [0])
    p5, median, p95 = np.percentile(words, [5, 50, 95])
    counts = {name: Counter(lb for e in part for lb in e.labels) for name, part in parts.items()}
    labels = sorted(set().union(*counts.values()))
    together = Counter(p for e in examples for p in combinations(sorted(set(e.labels)), 2))
    record = Audit(
        n_texts=len(examples),
        n_labels=len(labels),
        multi_label=multi_label,
        n_empty=int((words == 0).sum()),
        n_exact_duplicates=len(copies),
        n_near_duplicates=len({pair.second for pair in pairs} - copies),
        n_leaks=len(leaks),
        labels_per_text=sum(len(e.labels) for e in examples) / max(1, len(examples)),
        words_p5=float(p5),
        words_median=float(median),
        words_p95=float(p95),
        words_max=int(words.max()),
        label_counts=[
            LabelCount(
                label=label,
                train=counts["train"][label],
                validation=counts["validation"][label],
                test=counts["test"][label],
            )
            for label in labels
        ],
        co_occurrence=[(a, b, n) for (a, b), n in together.most_common(N_LISTED)],
        leaks=[_duplicate(pair, examples, split_of) for pair in leaks[:N_LISTED]],
        duplicates=[
            _duplicate(pair, examples, split_of) for pair in list(dict.fromkeys(listed))[:N_LISTED]
        ],
        label_issues=issues[:N_LISTED],
    )
    findings = _findings(record, len(conflicts), len(issues))
    return record.model_copy(update={"findings": findings})


def _leaks(pairs: Sequence[Pair], split_of: Sequence[str]) -> list[Pair]:
    """The pairs of a test text with a text that is learnt from; each test text once.

    Copies are paired with the first of their kind, and what is learnt from stands before the test
    split: a test text with a twin in training is always paired with a training text.
    """
    found: dict[int, Pair] = {}
    for pair in pairs:  # sorted by their first text
        if split_of[pair.second] == "test" != split_of[pair.first]:
            best = found.get(pair.second)
            if best is None or best.similarity < pair.similarity:
                found[pair.second] = pair
        elif pair.exact and pair.first in found:  # the copy of a test text that leaks leaks too
            found[pair.second] = replace(found[pair.first], second=pair.second)
    return list(found.values())


def _duplicate(pair: Pair, examples: Sequence[Example], split_of: Sequence[str]) -> Duplicate:
    first, second = examples[pair.first], examples[pair.second]
    return Duplicate(
        first_id=first.id,
        second_id=second.id,
        first_split=split_of[pair.first],
        second_split=split_of[pair.second],
        similarity=pair.similarity,
        same_labels=_same_labels(pair, examples),
        excerpt=_excerpt(second),
    )


def _same_labels(pair: Pair, examples: Sequence[Example]) -> bool:
    return set(examples[pair.first].labels) == set(examples[pair.second].labels)


def _excerpt(example: Example) -> str:
    text = " ".join(example.document.full.split())
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def _findings(record: Audit, conflicts: int, n_issues: int) -> list[str]:
    """What the figures mean, the costliest first."""
    found = []
    n_test = sum(count.test for count in record.label_counts)
    if record.n_leaks:
        found.append(
            f"{record.n_leaks:,} test text(s) are near-duplicates of texts that are learnt from: "
            "the scores flatter whatever remembers well. Remove them from either side."
        )
    if conflicts:
        found.append(
            f"{conflicts:,} pair(s) of equal or nearly equal texts carry different labels: no "
            "technique can get both right. Settle which label holds, or allow several."
        )
    if n_issues:
        found.append(
            f"{n_issues:,} text(s) have labels that a model trained on the other texts finds "
            "improbable: some are wrong, some only hard. Read the first of them and mend the "
            "wrong ones, which cost training and scores alike."
        )
    if record.n_empty:
        found.append(
            f"{record.n_empty:,} text(s) hold no word: they can only be guessed. Drop them."
        )
    copies = record.n_exact_duplicates + record.n_near_duplicates
    if copies > 0.02 * record.n_texts:
        found.append(
            f"{copies:,} of {record.n_texts:,} texts repeat an earlier one, wholly or nearly: "
            "training takes longer and learns nothing from them. Keep one of each."
        )
    rare = [c.label for c in record.label_counts if c.train + c.validation < 10]
    if rare:
        found.append(
            f"{len(rare)} label(s) have fewer than 10 texts to learn from ({_list(rare)}): expect "
            "macro-F1 to suffer. Label more of these, or merge them with a neighbour."
        )
    untested = [c.label for c in record.label_counts if not c.test]
    if untested and n_test:
        found.append(
            f"{len(untested)} label(s) have no test text ({_list(untested)}): how well they are "
            "found cannot be known."
        )
    unlearnt = [c.label for c in record.label_counts if c.test and not c.train]
    if unlearnt:
        found.append(
            f"{len(unlearnt)} label(s) of the test split have no training text "
            f"({_list(unlearnt)}): no technique can predict them."
        )
    most = max(record.label_counts, key=lambda c: c.train, default=None)
    n_train = sum(c.train for c in record.label_counts)
    if most and n_train and most.train > 0.5 * n_train and not record.multi_label:
        found.append(
            f"'{most.label}' has {most.train / n_train:.0%} of the training texts: always saying "
            "it scores as much. Read macro-F1, not accuracy."
        )
    if record.words_p95 > 350:
        found.append(
            f"One text in twenty is longer than {record.words_p95:,.0f} words: most transformers "
            "read the first 200 to 400 words only. What matters should stand early."
        )
    return found


def _list(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
