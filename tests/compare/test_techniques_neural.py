"""The neural techniques on a small problem: learn, hold out, save and load, refuse tiny budgets."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hornbook.compare.technique import Budget, Context, HeldOut, Technique
from hornbook.compare.techniques import TECHNIQUES
from hornbook.data.examples import Document, Labelled, Problem
from hornbook.errors import BudgetError, CheckpointError
from hornbook.tasks.decision import Decision

TOPICS = {
    "cooking": ["soup", "bread", "oven", "recipe", "garlic", "butter", "kitchen", "salt"],
    "football": ["goal", "match", "league", "striker", "coach", "penalty", "stadium", "team"],
    "weather": ["rain", "storm", "cloud", "wind", "forecast", "sunny", "snow", "thunder"],
}
FILLERS = ["the", "a", "of", "in"]


def _labelled(n: int, seed: int) -> Labelled:
    rng = random.Random(seed)
    documents, targets = [], np.zeros((n, len(TOPICS)), bool)
    for i in range(n):
        topic = i % len(TOPICS)
        words = rng.choices(list(TOPICS.values())[topic], k=8) + rng.choices(
            ["the", "a", "of", "in"], k=4
        )
        rng.shuffle(words)
        documents.append(Document(" ".join(words), title="note"))
        targets[i, topic] = True
    return Labelled(documents, targets)


PROBLEM = Problem(tuple(TOPICS), multi_label=False)
TRAIN, VALIDATION, TEST = _labelled(90, 0), _labelled(30, 1), _labelled(30, 2)
BUDGETS = {"zero-shot": 30, "embed-knn": 30, "embed-logreg": 30, "finetune": 20, "lora": 20,
           "bert-scratch": 12, "gpt-scratch": 12}  # fmt: skip
NEEDS_MINILM = {"zero-shot", "embed-knn", "embed-logreg", "finetune", "lora"}


@pytest.mark.parametrize("name", list(BUDGETS))
def test_it_learns_holds_out_saves_and_loads(name, tmp_path, request):
    if name in NEEDS_MINILM:
        request.getfixturevalue("minilm")
    technique = TECHNIQUES.load(name)()
    assert isinstance(technique, Technique)
    told: list[str] = []
    context = Context(
        PROBLEM, Budget(BUDGETS[name]), report=lambda stage, value=None: told.append(stage)
    )
    held_out = technique.fit(TRAIN, VALIDATION, context)
    assert isinstance(held_out, HeldOut) and told
    assert set(range(90, 120)) <= set(held_out.rows.tolist())
    everything = TRAIN + VALIDATION
    decision = Decision.fit(
        held_out.scores, everything.targets[held_out.rows], multi_label=False, seed=0
    )
    technique.save(tmp_path)
    assert not list(tmp_path.rglob("*.pkl")) and not list(tmp_path.rglob("*.bin"))
    loaded = type(technique).load(tmp_path)
    scores = loaded.scores(TEST.documents)
    np.testing.assert_array_equal(scores, technique.scores(TEST.documents))
    right = (decision.predict(scores) & TEST.targets).any(1).mean()
    least = {"zero-shot": 0.6, "gpt-scratch": 0.5, "bert-scratch": 0.5}.get(name, 0.9)
    assert right >= least, f"{right:.2f}"


def test_a_budget_too_small_is_refused_with_an_estimate(minilm):
    technique = TECHNIQUES.load("finetune")()
    with pytest.raises(BudgetError, match=r"training needs about \d+ s"):
        technique.fit(TRAIN, VALIDATION, Context(PROBLEM, Budget(0.01)))
    with pytest.raises(BudgetError, match="encoding 120 texts takes about"):
        TECHNIQUES.load("embed-knn")().fit(TRAIN, VALIDATION, Context(PROBLEM, Budget(0.01)))


def test_a_corrupt_saved_model_is_named(tmp_path, minilm):
    technique = TECHNIQUES.load("embed-logreg")()
    technique.fit(TRAIN, VALIDATION, Context(PROBLEM, Budget(30)))
    technique.save(tmp_path)
    head = tmp_path / "head.safetensors"
    head.write_bytes(head.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="head"):
        type(technique).load(tmp_path)


def test_votes_leave_the_text_itself_out():
    from hornbook.compare.techniques.embed_knn import vote

    vectors = np.eye(3, dtype=np.float32)
    targets = np.eye(3, dtype=bool)
    with_self = vote(vectors, vectors, targets, k=1)
    np.testing.assert_allclose(with_self, np.eye(3), atol=1e-6)
    without = vote(vectors, vectors, targets, k=2, apart=np.arange(3))
    np.testing.assert_allclose(without, (1 - np.eye(3)) / 2, atol=1e-6)
    copies = vote(vectors[[0, 0, 1, 2]], vectors[[0, 0, 1, 2]], targets[[0, 0, 1, 2]], k=3,
                  apart=np.array([7, 7, 1, 2]))  # fmt: skip
    np.testing.assert_allclose(copies[:2], [[0, 0.5, 0.5]] * 2, atol=1e-6)
