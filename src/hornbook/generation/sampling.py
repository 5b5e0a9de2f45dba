"""Samplers as small transforms of logits that chain: (V,) -> (V,), -inf for what may not be drawn.

choose = chain(temperature(0.8), top_k(50), top_p(0.95))
token = draw(choose(logits), generator)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hornbook.errors import ConfigError

Transform = Callable[[Tensor], Tensor]


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


def draw(logits: Tensor, generator: torch.Generator) -> int:
    """One token id from the distribution of the logits (V,)."""
    return int(torch.multinomial(logits.float().softmax(0), 1, generator=generator))


def _greedy(logits: Tensor) -> Tensor:
    return torch.full_like(logits, -torch.inf).index_fill(0, logits.argmax(), 0.0)
