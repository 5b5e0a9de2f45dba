"""Gradients by rows change nothing but the time."""

from __future__ import annotations

import copy

import pytest
import torch

from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.layout import Ragged
from hornbook.nn.precision import Precision
from hornbook.tasks.classification import TextClassifier, collate, loss_of
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.rows import by_rows
from hornbook.training.schedules import Clock, linear

# Tokens come twice, come again in a later step, and stay away in between.
STEPS = [
    [[5, 9, 5, 2, *range(5, 45)], [9, 9, 5, 30, 5]],
    [[1, 2, 3], [40, 41, 42, 40]],
    [[5, 5], [9], [2, 9]],
    [[8], [8, 9]],
]


@pytest.fixture
def model():
    torch.manual_seed(0)
    trunk = Bert(BertConfig(50, 64, n_layers=1, n_heads=2, d_model=16, d_ff=32))
    return TextClassifier(trunk, pool=Ragged.mean, d_model=16, n_labels=3)


def _train(model, *, clip, n_pieces=1):
    optimizer = adamw(decay_groups(model.named_parameters(), lr=1e-2, weight_decay=0.1))
    pieces = [[step[i::n_pieces] for i in range(n_pieces)] for step in STEPS]
    batches = [[collate(d, torch.zeros(len(d), dtype=int)) for d in step] for step in pieces]
    return list(
        train_steps(
            model, loss_of, batches, optimizer, linear(0.0), Clock(n_steps=5),
            make_accelerator(Precision("cpu", "float32", "for exactness")), clip=clip,
        )
    )  # fmt: skip


def test_the_same_bits(model):
    other = copy.deepcopy(model)
    dense = _train(model, clip=float("inf"))
    with by_rows(other, at_least=1):
        assert other.trunk.embeddings.tokens.sparse
        rows = _train(other, clip=float("inf"))
    assert not other.trunk.embeddings.tokens.sparse
    assert [step.loss for step in dense] == [step.loss for step in rows]
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_clipped_and_accumulated_they_differ_by_the_order_of_sums(model):
    other = copy.deepcopy(model)
    dense = _train(model, clip=0.5, n_pieces=2)
    with by_rows(other, at_least=1):
        rows = _train(other, clip=0.5, n_pieces=2)
    for one, two in zip(dense, rows, strict=True):
        assert one.gradient_norm == pytest.approx(two.gradient_norm, rel=1e-5)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_small_embeddings_stay_as_they_are(model):
    with by_rows(model):
        assert not any(getattr(part, "sparse", False) for part in model.modules())
