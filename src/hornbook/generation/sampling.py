"""Samplers as small transforms of logits that chain: (V,) -> (V,), -inf for what may not be drawn.

choose = chain(temperature(0.8), top_k(50), top_p(0.95))
token = draw(choose(logits), generator)

`drawing` does the same in a tenth of the time, for large vocabularies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hornbook.errors import ConfigError

Transform = Callable[[Tensor], Tensor]

BLOCK = 256  # shares are added up by so many at a time, to find the place of a draw quickly


def chain(*transforms: Transform) -> Transform:
    """The transforms one after the other."""

    def choose(logits: Tensor) -> Tensor:
        for transform in transforms:
            logits = transform(logits)
        return logits

    return choose


def temperature(value: float) -> Transform:
    """Divide logits: below 1 sharper, above 1 flatter; 0 leaves the likeliest token alone."""
    if not 0 <= value < float("inf"):
        raise ConfigError(f"the temperature is {value}", hint="Use 0 (greedy) or more, e.g. 0.8.")
    if value == 0:
        return _greedy
    return lambda logits: logits / value


def top_k(k: int) -> Transform:
    """Keep the k likeliest tokens (Fan et al. 2018, section 5.4)."""
    if k < 1:
        raise ConfigError(f"top-k is {k}", hint="Use 1 or more; leave it out to keep all tokens.")

    def keep(logits: Tensor) -> Tensor:
        if k >= logits.numel():
            return logits
        kept = torch.full_like(logits, -torch.inf)
        values, tokens = logits.topk(k)
        return kept.scatter(0, tokens, values)

    return keep


def top_p(p: float) -> Transform:
    """Keep the likeliest tokens that together have probability p (Holtzman et al. 2020, eq. 2)."""
    if not 0 < p <= 1:
        raise ConfigError(f"top-p is {p}", hint="Use more than 0 and at most 1, e.g. 0.95.")

    def keep(logits: Tensor) -> Tensor:
        values, tokens = logits.sort(descending=True)
        before = values.softmax(0).cumsum(0) - values.softmax(0)  # the first is always kept
        return logits.scatter(0, tokens, values.masked_fill(before >= p, -torch.inf))

    return keep


def min_p(share: float) -> Transform:
    """Keep tokens at least `share` times as likely as the likeliest (Nguyen et al. 2024)."""
    if not 0 < share <= 1:
        raise ConfigError(f"min-p is {share}", hint="Use more than 0 and at most 1, e.g. 0.05.")

    def keep(logits: Tensor) -> Tensor:
        floor = logits.max() + torch.log(torch.tensor(share))
        return logits.masked_fill(logits < floor, -torch.inf)

    return keep


def repetition_penalty(penalty: float, seen: Mapping[int, int]) -> Transform:
    """Make tokens less likely that were seen: logits above 0 divided, below 0 multiplied by penalty
    (Keskar et al. 2019, section 4.1). seen: how often, growing while one writes."""
    if not 0 < penalty < float("inf"):
        raise ConfigError(f"the repetition penalty is {penalty}", hint="1 is none; 1.1 is usual.")

    def lower(logits: Tensor) -> Tensor:
        tokens = torch.tensor(list(seen), dtype=torch.long)
        there = logits[tokens]
        return logits.scatter(0, tokens, torch.where(there > 0, there / penalty, there * penalty))

    return lower


def presence_penalty(penalty: float, written: Mapping[int, int]) -> Transform:
    """Take `penalty` from the logits of tokens that were written, once (OpenAI's API reference)."""
    return _penalty("presence", penalty, written, lambda count: 1.0)


def frequency_penalty(penalty: float, written: Mapping[int, int]) -> Transform:
    """Take `penalty` from the logits of tokens for each time they were written."""
    return _penalty("frequency", penalty, written, float)


def logit_bias(bias: Mapping[int, float]) -> Transform:
    """Add to the logits of some tokens; -inf forbids one. Raises ConfigError for NaN."""
    if any(value != value for value in bias.values()):
        raise ConfigError("a logit bias is not a number", hint="Use -100 to 100.")
    tokens = torch.tensor(list(bias), dtype=torch.long)
    values = torch.tensor(list(bias.values()), dtype=torch.float32)
    return lambda logits: logits.index_add(0, tokens, values.to(logits.dtype))


def _penalty(
    name: str, penalty: float, written: Mapping[int, int], weight: Callable[[int], float]
) -> Transform:
    if not -float("inf") < penalty < float("inf"):
        raise ConfigError(f"the {name} penalty is {penalty}", hint="Use -2 to 2; 0 is none.")

    def lower(logits: Tensor) -> Tensor:
        tokens = torch.tensor(list(written), dtype=torch.long)
        taken = torch.tensor([-penalty * weight(n) for n in written.values()])
        return logits.index_add(0, tokens, taken.to(logits.dtype))

    return lower


def draw(logits: Tensor, generator: torch.Generator) -> int:
    """One token id from the distribution of the logits (V,)."""
    return pick(logits.float().softmax(0).numpy(), generator)


def pick(weights: NDArray[np.float32], generator: torch.Generator) -> int:
    """One place, each as likely as its weight (N,) is of their sum; by one random number."""
    sums = np.add.reduceat(weights, np.arange(0, len(weights), BLOCK), dtype=np.float64).cumsum()
    # In (0, 1], so that what has no weight at all is never met.
    goal = (1 - float(torch.rand((), generator=generator, dtype=torch.float64))) * sums[-1]
    block = int(sums.searchsorted(goal))
    start = block * BLOCK
    inside = weights[start : start + BLOCK].cumsum(dtype=np.float64)
    rest = goal - (sums[block - 1] if block else 0.0)
    # Sums rounded otherwise may end a hair below: the last place that weighs anything then.
    return start + int(inside.searchsorted(min(rest, inside[-1])))


def _greedy(logits: Tensor) -> Tensor:
    return torch.full_like(logits, -torch.inf).index_fill(0, logits.argmax(), 0.0)
