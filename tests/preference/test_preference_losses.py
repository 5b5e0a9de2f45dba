"""Each loss of preferences against a pencil: small whole numbers, and what comes of them."""

from __future__ import annotations

import math

import pytest
import torch

from hornbook.preference.losses import (
    LogProbs,
    dpo,
    ipo,
    kto,
    kto_baseline,
    margins,
    orpo,
    reward,
)


def pair(chosen: float, rejected: float) -> LogProbs:
    return LogProbs(torch.tensor([chosen]), torch.tensor([rejected]))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_dpo_by_hand():
    """Policy -10 and -12, reference -11 and -10: the chosen gained 1, the rejected lost 2, so the
    margin is 3; times beta .5 is 1.5, and -log(1 / (1 + e^-1.5)) = log(1 + .22313) = .20141."""
    policy, reference = pair(-10, -12), pair(-11, -10)
    assert margins(policy, reference).item() == 3
    assert dpo(policy, reference, beta=0.5).item() == pytest.approx(0.20141, abs=1e-5)
    # One pair in ten the wrong way round: .9 * .20141 + .1 * log(1 + e^1.5) = .18127 + .17014
    smoothed = dpo(policy, reference, beta=0.5, smoothing=0.1).item()
    assert smoothed == pytest.approx(0.35141, abs=1e-5)
    assert dpo(policy, policy, beta=0.5).item() == pytest.approx(math.log(2))


def test_the_gradient_of_dpo_by_hand():
    """d/dm -log sigmoid(beta m) = -beta sigmoid(-beta m): the chosen is pushed up by as much as the
    rejected is pushed down (section 4 of the paper)."""
    policy = LogProbs(torch.tensor([-10.0], requires_grad=True),
                      torch.tensor([-12.0], requires_grad=True))  # fmt: skip
    dpo(policy, pair(-11, -10), beta=0.5).sum().backward()
    assert policy.chosen.grad.item() == pytest.approx(-0.5 * sigmoid(-1.5))
    assert policy.rejected.grad.item() == pytest.approx(0.5 * sigmoid(-1.5))


def test_ipo_by_hand():
    """Sums -10 over 5 tokens and -12 over 4 are -2 and -3 a token; the reference's -11 and -10 are
    -2.2 and -2.5. The margin is (.2) - (-.5) = .7; tau .25 asks for 2: (.7 - 2)^2 = 1.69."""
    tokens = torch.tensor([5.0]), torch.tensor([4.0])
    policy, reference = pair(-10, -12).per_token(*tokens), pair(-11, -10).per_token(*tokens)
    assert ipo(policy, reference, tau=0.25).item() == pytest.approx(1.69)
    assert ipo(policy, policy, tau=0.25).item() == pytest.approx(4)


def test_orpo_by_hand():
    """Probabilities .8 and .5 a token have odds 4 and 1; log 4 = 1.38629, and
    -log sigmoid(log 4) = -log(4/5) = .22314; lambda .1 makes it .022314."""
    policy = pair(math.log(0.8), math.log(0.5))
    assert orpo(policy, weight=0.1).item() == pytest.approx(0.022314, abs=1e-6)
    assert orpo(pair(-1, -1), weight=1).item() == pytest.approx(math.log(2))


def test_orpo_keeps_its_digits_at_both_ends():
    """p = 1 - 1e-6 has odds 1e6 and p = e^-20 has odds e^-20: in float32 1 - p would be off."""
    sure, unlikely = -1e-6, -20.0
    chosen = torch.tensor([sure], requires_grad=True)
    rejected = torch.tensor([unlikely], requires_grad=True)
    loss = orpo(LogProbs(rejected, chosen), weight=1)  # the wrong way round, so that it is large
    assert loss.item() == pytest.approx(20 + math.log(1e6), rel=1e-5)
    loss.sum().backward()
    assert torch.isfinite(chosen.grad).all() and torch.isfinite(rejected.grad).all()


def test_kto_by_hand():
    """Answers of other prompts gained .5 and 1.5: z_0 = 1. A liked answer gained 3: sigmoid(.5 *
    (1 - 3)) = .26894. A disliked one gained -1: sigmoid(.5 * (-1 - 1)) = .26894, times its weight
    2 is .53788."""
    baseline = kto_baseline(torch.tensor([-9.5, -8.5]), torch.tensor([-10.0, -10.0]))
    assert baseline.item() == 1
    losses = kto(torch.tensor([-7.0, -11.0]), torch.tensor([-10.0, -10.0]),
                 torch.tensor([True, False]), baseline, beta=0.5, weight_bad=2)  # fmt: skip
    assert losses.tolist() == pytest.approx([0.26894, 0.53788], abs=1e-5)


def test_the_baseline_of_kto_is_not_below_zero_and_has_no_gradient():
    policy = torch.tensor([-12.0], requires_grad=True)
    baseline = kto_baseline(policy, torch.tensor([-10.0]))
    assert baseline.item() == 0 and not baseline.requires_grad


def test_reward_by_hand():
    """Rewards 2 and .5: -log sigmoid(1.5) = .20141; a margin of 1 leaves .5: .47408."""
    chosen, rejected = torch.tensor([2.0]), torch.tensor([0.5])
    assert reward(chosen, rejected).item() == pytest.approx(0.20141, abs=1e-5)
    assert reward(chosen, rejected, margin=1).item() == pytest.approx(0.47408, abs=1e-5)
    assert reward(chosen, chosen).item() == pytest.approx(math.log(2))
