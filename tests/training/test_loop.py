"""The loop: accumulation equals the big batch, the clock ends it, a bad gradient stops it."""

from __future__ import annotations

import copy
import itertools
import math
import weakref

import pytest
import torch

from hornbook.errors import TrainingError
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.nn.losses import LossSum
from hornbook.nn.precision import Precision
from hornbook.tasks.language_modeling import LanguageModel, collate, loss_of
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import _norm, train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, cosine, linear, warm_up_stable_decay

FLOAT32 = Precision("cpu", "float32", "for exactness")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(GPT(GPTConfig(40, 16, n_layers=2, n_heads=2, d_model=16, d_ff=32)))


def test_the_norm_of_many_numbers_is_right():
    torch.manual_seed(0)
    gradients = [torch.randn(6_000_000) * 1e-3, torch.randn(300, 200).t(), torch.zeros(3)]
    exact = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    assert abs(_norm(gradients) / exact - 1) < 1e-4  # torch's vector_norm: 1.7e-4 too small
    assert math.isnan(_norm([*gradients, torch.tensor([math.nan])]))


def test_gradients_are_let_go_before_the_next_step(model):
    alive = []

    def watched(model, batch):
        assert not any(gradient() for gradient in alive), "an old one lies beside the next step's"
        return loss_of(model, batch)

    def make(model):
        optimizer = _adamw(model)
        parameters = list(model.parameters())

        def keep(*_):
            alive[:] = [weakref.ref(p.grad) for p in parameters]

        optimizer.register_step_pre_hook(keep)
        return optimizer

    _run(model, [collate([[1, 2, 3, 4]])], loss=watched, make=make)
    assert alive


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


def _poisoned(*bad):
    """A loss that is not a number at these calls, counted from 0."""
    calls = itertools.count()

    def loss(model, batch):
        good = loss_of(model, batch)
        return LossSum(good.total * float("nan"), good.n_targets) if next(calls) in bad else good

    return loss


def _weights(model):
    return copy.deepcopy(model.state_dict())


def _same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_that_is_not_finite_is_refused_and_the_next_goes_on(model):
    optimizer = _adamw(model)
    batches = [[collate(DOCUMENTS)]] * 5
    steps = train_steps(
        model, _poisoned(2), batches, optimizer, linear(), Clock(n_steps=5),
        make_accelerator(FLOAT32),
    )  # fmt: skip
    first, second = next(steps), next(steps)
    before, moments = _weights(model), copy.deepcopy(optimizer.state_dict()["state"])
    third = next(steps)
    assert (first.refused, second.refused, third.refused) == (False, False, True)
    assert math.isnan(third.loss) and _same(before, model.state_dict())
    for index, moment in optimizer.state_dict()["state"].items():
        assert all(torch.equal(moments[index][key], value) for key, value in moment.items())
    rest = list(steps)
    assert [s.number for s in rest] == [3, 4] and not any(s.refused for s in rest)
    assert not _same(before, model.state_dict())


def test_two_in_a_row_stop_with_the_last_good_weights(model):
    before = _weights(model)
    with pytest.raises(TrainingError, match="steps 0 and 1"):
        _run(model, [collate(DOCUMENTS)], loss=_poisoned(0, 1))
    assert _same(before, model.state_dict())
    refused = [s.refused for s in _run(model, [collate(DOCUMENTS)], loss=_poisoned(0, 2))]
    assert refused == [True, False, True]


def test_an_overflow_in_float16_lowers_the_loss_scale_instead(model):
    """The scale is of no consequence for the weights, and overflows under it stop nothing."""
    other = copy.deepcopy(model)
    _run(model, [collate(DOCUMENTS)])
    accelerator = make_accelerator(FLOAT32)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    calls = itertools.count()

    def overflowing(model, batch):
        good = loss_of(model, batch)
        return LossSum(good.total * (math.inf if next(calls) < 3 else 1), good.n_targets)

    optimizer = _adamw(other)
    steps = list(
        train_steps(
            other, overflowing, [[collate(DOCUMENTS)]] * 6, optimizer,
            lambda progress: linear()((progress - 0.5) * 2), Clock(n_steps=6), accelerator,
        )
    )  # fmt: skip
    assert [s.refused for s in steps] == [True] * 3 + [False] * 3
    assert accelerator.scaler.get_scale() == 2.0**13
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)  # scaled by powers of two


def test_it_goes_on_from_a_later_step(model):
    other = copy.deepcopy(model)
    whole = _run(model, [collate(DOCUMENTS)], n_steps=6)
    optimizer, parts = _adamw(other), []
    for first in (0, 2):
        steps = train_steps(
            other, loss_of, [[collate(DOCUMENTS)]] * 4, optimizer, linear(), Clock(n_steps=6),
            make_accelerator(FLOAT32), first_step=first,
        )  # fmt: skip
        parts += itertools.islice(steps, 2 if first == 0 else None)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
    assert [s.number for s in parts] == list(range(6))
    assert [s.loss for s in parts] == [s.loss for s in whole]
    assert [s.learning_rate for s in parts] == [s.learning_rate for s in whole]


def test_no_target_crosses_a_document():
    batch = collate([[1, 2, 3], [4, 5]])
    assert batch.targets.tolist() == [2, 3, -100, 5, -100]


def test_schedules_rise_and_fall():
    for schedule, end in (
        (linear(0.1), 0.0),
        (cosine(0.1, 0.1), 0.1),
        (warm_up_stable_decay(0.1, 0.3), 0.0),
    ):
        values = [schedule(p / 100) for p in range(101)]
        assert values[0] < 0.05 and max(values) == pytest.approx(1.0, abs=0.01)
        assert values[-1] == pytest.approx(end, abs=1e-9)
        peak = max(i for i, value in enumerate(values) if value == max(values))
        assert values[: peak + 1] == sorted(values[: peak + 1])
        assert values[peak:] == sorted(values[peak:], reverse=True)


def test_between_warm_up_and_decay_the_rate_stays():
    schedule = warm_up_stable_decay(0.1, 0.2, floor=0.1)
    assert {schedule(p / 100) for p in range(10, 81)} == {1.0}
    assert schedule(0.9) == pytest.approx(0.55)


def test_a_resumed_clock_counts_the_time_before():
    assert Clock(seconds=100.0, spent=50.0)(0) == pytest.approx(0.5, abs=0.01)


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
