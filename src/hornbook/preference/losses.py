"""Losses of preferences, as functions of log-probabilities; one value a pair (or an answer).

What they have in common: `policy` is the model that learns, `reference` the one it started as. The
log-probability of an answer is the sum over its tokens, in nats, given its prompt.

| loss   | reads                       | at the start, policy = reference     |
|--------|-----------------------------|--------------------------------------|
| dpo    | both models' sums           | log 2                                |
| ipo    | both models' means a token  | 1 / (2 tau) squared                  |
| orpo   | the policy's means a token  | whatever the model says              |
| kto    | both models' sums, unpaired | w / 2                                |
| reward | a head's two numbers        | log 2 where they are equal           |
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class LogProbs:
    """Log-probabilities of both answers of B pairs under one model: chosen (B,), rejected (B,)."""

    chosen: Tensor
    rejected: Tensor

    def per_token(self, n_chosen: Tensor, n_rejected: Tensor) -> LogProbs:
        """Sums become means; the numbers of tokens are (B,) each."""
        return LogProbs(self.chosen / n_chosen, self.rejected / n_rejected)


def margins(policy: LogProbs, reference: LogProbs) -> Tensor:
    """By how much more than the reference the policy prefers the chosen answer, nats: (B,)."""
    return (policy.chosen - reference.chosen) - (policy.rejected - reference.rejected)


def dpo(policy: LogProbs, reference: LogProbs, *, beta: float, smoothing: float = 0.0) -> Tensor:
    """Rafailov et al. 2023 ("Direct Preference Optimization"), equation 7: (B,).

    policy, reference: sums. beta: how dear it is to leave the reference. smoothing: the share of
    pairs that may be the wrong way round (Mitchell 2023, "A note on DPO with noisy preferences",
    equation 3); 0 is the paper's loss.
    """
    scaled = beta * margins(policy, reference)
    return -(1 - smoothing) * F.logsigmoid(scaled) - smoothing * F.logsigmoid(-scaled)


def ipo(policy: LogProbs, reference: LogProbs, *, tau: float) -> Tensor:
    """Azar et al. 2023 ("A General Theoretical Paradigm ..."), equation 17: (B,).

    The margin is drawn to 1 / (2 tau) and not beyond, so that pairs that all agree on do not pull
    for ever. policy, reference: means a token, as the authors computed it; of sums, which the
    equation shows, long answers would weigh more.
    """
    return (margins(policy, reference) - 1 / (2 * tau)) ** 2


def orpo(policy: LogProbs, *, weight: float) -> Tensor:
    """The odds ratio's part of Hong et al. 2024 ("ORPO"), equation 7 times lambda: (B,).

    policy: means a token (equation 2), below 0. The whole loss (equation 6) adds the chosen
    answer's own, -policy.chosen; there is no reference.
    """
    log_odds = _log_odds(policy.chosen) - _log_odds(policy.rejected)
    return -weight * F.logsigmoid(log_odds)


def kto(
    policy: Tensor,
    reference: Tensor,
    good: Tensor,
    baseline: Tensor,
    *,
    beta: float,
    weight_good: float = 1.0,
    weight_bad: float = 1.0,
) -> Tensor:
    """Ethayarajh et al. 2024 ("KTO"), equation 8, with lambda_y taken off so that 0 is best: (N,).

    policy, reference: sums (N,) of answers that stand alone; good: (N,) True where a person liked
    it. baseline: z_0, scalar, see `kto_baseline`; no gradient passes through it. weights: lambda_D
    and lambda_U; keep weight_good * n_good / (weight_bad * n_bad) between 1 and 4/3 (section 4.2).
    """
    gain = beta * (policy - reference - baseline.detach())
    liked = weight_good * torch.sigmoid(-gain)  # 1 - sigmoid(x) = sigmoid(-x)
    disliked = weight_bad * torch.sigmoid(gain)
    return torch.where(good, liked, disliked)


def kto_baseline(policy: Tensor, reference: Tensor) -> Tensor:
    """z_0: how far the policy is from the reference on answers that belong to other prompts.

    policy, reference: sums (M,) of such answers. A scalar in nats, not below 0, without gradient
    (section 4.1 of the same).
    """
    return (policy - reference).mean().clamp(min=0).detach()


def reward(chosen: Tensor, rejected: Tensor, *, margin: float = 0.0) -> Tensor:
    """Bradley and Terry 1952, as in Ouyang et al. 2022 ("InstructGPT"), equation 1: (B,).

    chosen, rejected: the rewards (B,) of a model with one output. margin: how much higher the
    chosen one is to be (Touvron et al. 2023, "Llama 2", equation 2).
    """
    return -F.logsigmoid(chosen - rejected - margin)


def _log_odds(log_prob: Tensor) -> Tensor:
    """log p / (1 - p) from log p < 0, without losing p near 0 or 1 (Maechler 2012)."""
    near_one = log_prob > -0.693
    safe = torch.where(near_one, log_prob, torch.full_like(log_prob, -0.5))
    log_rest_near_one = torch.log(-torch.expm1(safe))
    log_rest = torch.log1p(-torch.exp(torch.where(near_one, -1.0, log_prob)))
    return log_prob - torch.where(near_one, log_rest_near_one, log_rest)
