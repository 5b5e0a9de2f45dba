"""Zero-shot labels out of logits of entailment, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from hornbook.errors import ConfigError
from hornbook.recipes.apply_labels import by_entailment, ends_of
from hornbook.recipes.apply_plain import Asked

ROWS = [
    {"text": "gold fell", "labels": ["metal", "corn", "metal"]},
    {"text": "it rained", "labels": ["rain"]},
]
LOGITS = np.array([[0.0, 1.0, 3.0], [2.0, 5.0, 1.0], [1.0, 0.0, 0.5]])


def said(names=("contradiction", "neutral", "entailment"), **asked):
    """What is said of ROWS, and the pairs that were asked."""
    pairs = []
    task = SimpleNamespace(
        label_names=names, items=pairs.extend, logits=lambda *_, **__: LOGITS[:, : len(names)]
    )
    return list(by_entailment(nn.Identity(), task, Asked(**asked))(ROWS)), pairs


def test_one_label_is_a_softmax_over_entailment():
    (first, second), pairs = said()
    assert [(p.first, p.second) for p in pairs] == [
        ("gold fell", "This text is about metal."),
        ("gold fell", "This text is about corn."),
        ("it rained", "This text is about rain."),
    ]
    metal = math.exp(3) / (math.exp(3) + math.exp(1))
    assert first["shares"] == {"metal": round(metal, 4), "corn": round(1 - metal, 4)}
    assert (first["label"], second["shares"]) == ("metal", {"rain": 1.0})


def test_several_labels_are_each_against_contradiction():
    (first, second), pairs = said(several=True, hypothesis="{label}!")
    assert pairs[0].second == "metal!"
    share = {gap: round(1 / (1 + math.exp(-gap)), 4) for gap in (3, -1, -0.5)}
    assert first["shares"] == {"metal": share[3], "corn": share[-1]}
    assert first["labels"] == ["metal"] and "label" not in first
    assert (second["labels"], second["shares"]) == ([], {"rain": share[-0.5]})


def test_labels_are_known_by_their_names():
    assert ends_of(("CONTRADICTION", "NEUTRAL", "ENTAILMENT")) == (2, 0)
    assert ends_of(("entailment", "not_entailment")) == (0, 1)
    assert ends_of(("not_entailment", "entailment")) == (1, 0)
    assert ends_of(("entailment", "neutral"))[1] is None
    assert ends_of(("grain", "metal"))[0] == -1
    with pytest.raises(ConfigError, match="is contradiction"):
        said(("entailment", "neutral", "other"), several=True)
