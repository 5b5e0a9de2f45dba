"""Texts that are alike: labels tell which are, and others are not learnt from."""

from __future__ import annotations

import json

import pytest

from hornbook.data.alike import open_alike
from hornbook.errors import DataError


def opened(path, labels, columns=None, **more):
    rows = (
        {"premise": f"one {i}", "hypothesis": f"other {i}", "label": label} | more
        for i, label in enumerate(labels)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_alike(str(path), columns or {}, seed=0)


@pytest.mark.parametrize(
    "labels",
    [
        (1, 0, 1, 0),
        ("1", "0", 1.0, None),
        (True, False, True, False),
        ("entailment", "neutral", "Entailment", "contradiction"),
        ("entailment", "not_entailment", "entailment", "-"),
        ("duplicate", "not duplicate", "duplicate", -1),
    ],
)
def test_only_pairs_that_are_alike_by_their_label_are_kept(labels, tmp_path):
    found = opened(tmp_path / "a.jsonl", labels)
    assert found.form == "pairs"
    assert sorted(t.first for t in found.train + found.validation) == ["one 0", "one 2"]
    note = "a.jsonl: 2 pair(s) were left out, they are not alike by 'label'."
    assert note in found.notes


def test_labels_that_say_neither_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"line 2: the label '3\.4' in column 'label' says neither"):
        opened(tmp_path / "a.jsonl", (1, 3.4, 0))
    with pytest.raises(DataError, match="no pair of texts with a label of 'label'"):
        opened(tmp_path / "a.jsonl", (0, 0, 0))


def test_a_label_beside_scores_or_negatives_does_not_count(tmp_path):
    found = opened(tmp_path / "a.jsonl", (0, 3.4, 5), {"score": "label"})
    assert found.form == "scored" and len(found.train + found.validation) == 3
    found = opened(tmp_path / "a.jsonl", ("sports", "art"), negative="a third")
    assert found.form == "triplets" and len(found.train + found.validation) == 2
