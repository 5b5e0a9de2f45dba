"""Perplexity of a decoder on a text, with an interval, and how another number format changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hornbook.errors import DataError
from hornbook.evaluation.significance import RESAMPLES, interval
from hornbook.nn.layout import Ragged


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean loss (nats) a token, its 95 % interval, and the mean losses of the windows,
    all of `length` tokens."""

    value: float
    low: float
    high: float
    losses: np.ndarray
    length: int

    @property
    def n_tokens(self) -> int:
        return len(self.losses) * self.length


@torch.inference_mode()
def perplexity(model: Any, tokens: Sequence[int], *, length: int = 512) -> Perplexity:
    """Read the text window by window, each from nothing; what is left at the end is not read.

    The interval is a bootstrap over windows. Raises DataError for less than two windows.
    """
    length = min(length, getattr(model.config, "context_length", length))
    n = (len(tokens) - 1) // length
    if n < 2:
        raise DataError(
            f"{len(tokens)} tokens are less than two windows of {length}", hint="Give more text."
        )
    ids = torch.tensor(tokens[: n * length + 1])
    was_training = model.training
    model.eval()
    losses = []
    for begin in range(0, n * length, length):
        window = ids[begin : begin + length + 1]
        logits = model.logits(model(window[:-1], Ragged([length])))
        losses.append(F.cross_entropy(logits.float(), window[1:]).item())
    model.train(was_training)
    found = np.array(losses)
    low, high = interval(np.exp(_resampled(found)))
    return Perplexity(float(np.exp(found.mean())), low, high, found, length)


def change(before: Perplexity, after: Perplexity) -> tuple[float, float, float]:
    """By what share perplexity has grown on the same windows, and the 95 % interval of that."""
    difference = after.losses - before.losses
    low, high = interval(np.expm1(_resampled(difference)))
    return float(np.expm1(difference.mean())), low, high


def _resampled(losses: np.ndarray) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(0, len(losses), (RESAMPLES, len(losses)))
    return losses[drawn].mean(1)
