"""The loop: accumulation equals the big batch, the clock ends it, a bad gradient stops it."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from hornbook.errors import TrainingError
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.nn.precision import Precision
from hornbook.tasks.language_modeling import LanguageModel, collate, loss_of
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, cosine, linear

FLOAT32 = Precision("cpu", "float32", "for exactness")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(GPT(GPTConfig(40, 16, n_layers=2, n_heads=2, d_model=16, d_ff=32)))


def _adamw(model):
    return adamw(decay_groups(model.named_parameters(), lr=1e-2, weight_decay=0.1))


def _sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.5)


def _run(model, micro_batches, n_steps=3, loss=loss_of, clip=1.0, make=_adamw):
    optimizer = make(model)
    return list(
        train_steps(
            model,
            loss,
            [micro_batches] * (n_steps + 2),
            optimizer,
            linear(),
            Clock(n_steps=n_steps),
            make_accelerator(FLOAT32),
            clip=clip,
        )
    )


DOCUMENTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [4, 5], [7, 8, 9], [3] * 6, [2, 9, 2]]


def test_accumulation_equals_the_big_batch_for_unequal_token_counts(model):
    other = copy.deepcopy(model)
    # Plain gradient steps: AdamW would blow up the rounding of gradients that are zero in theory.
    whole = _run(model, [collate(DOCUMENTS)], make=_sgd)
    parts = [collate(DOCUMENTS[:1]), collate(DOCUMENTS[1:3]), collate(DOCUMENTS[3:])]
    pieces = _run(other, parts, make=_sgd)
    assert [s.n_targets for s in pieces] == [s.n_targets for s in whole] == [18] * 3
    for one, many in zip(whole, pieces, strict=True):
        assert math.isclose(one.loss, many.loss, rel_tol=1e-5)
        assert math.isclose(one.gradient_norm, many.gradient_norm, rel_tol=1e-4)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=1e-5)


def test_gradients_are_those_of_the_mean_loss(model):
    reference = copy.deepcopy(model)
    batch = collate(DOCUMENTS)
    loss = loss_of(reference, batch)
    (loss.total / loss.n_targets).backward()
    norm = torch.cat([p.grad.flatten() for p in reference.parameters()]).norm()
    step = _run(model, [batch], n_steps=1)[0]
    assert math.isclose(step.gradient_norm, float(norm), rel_tol=1e-5)
    assert math.isclose(step.loss, loss.total.item() / loss.n_targets, rel_tol=1e-6)


def test_it_learns(model):
    steps = _run(model, [collate(DOCUMENTS)], n_steps=60)
    assert len(steps) == 60 and steps[-1].loss < 0.5 * steps[0].loss


def test_a_bad_gradient_stops_before_the_weights_change(model):
    before = copy.deepcopy(model.state_dict())

    def poisoned(model, batch):
        loss = loss_of(model, batch)
        return type(loss)(loss.total * float("nan"), loss.n_targets)

    with pytest.raises(TrainingError, match="step 0"):
        _run(model, [collate(DOCUMENTS)], loss=poisoned)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_no_target_crosses_a_document():
    batch = collate([[1, 2, 3], [4, 5]])
    assert batch.targets.tolist() == [2, 3, -100, 5, -100]


def test_schedules_rise_and_fall():
    for schedule, end in ((linear(0.1), 0.0), (cosine(0.1, 0.1), 0.1)):
        values = [schedule(p / 100) for p in range(101)]
        assert values[0] < 0.05 and max(values) == pytest.approx(1.0, abs=0.01)
        assert values[-1] == pytest.approx(end, abs=1e-9)
        peak = values.index(max(values))
        assert values[: peak + 1] == sorted(values[: peak + 1])
        assert values[peak:] == sorted(values[peak:], reverse=True)


def test_the_clock_takes_whichever_is_further():
    assert Clock(n_steps=10)(5) == 0.5
    assert Clock(n_steps=10, seconds=1e-9)(1) == 1.0
    with pytest.raises(ValueError, match="needs"):
        Clock()


def test_decay_spares_biases_and_norms(model):
    groups = decay_groups(model.named_parameters(), lr=1.0, weight_decay=0.1)
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    for parameter in model.parameters():
        assert (id(parameter) in decayed) == (parameter.ndim >= 2)
