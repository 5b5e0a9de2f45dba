"""The bigram model: a language model that is one table. Row a, column b: the logit of b after a.

The smallest thing that trains as the large ones do, with an answer known beforehand: the loss is
least where softmax of row a is the share of each b among the tokens that followed a, which is what
counting finds at once (`from_counts`). Pairs that were never seen would then have logit -inf, so
that counting needs smoothing, and gradients need an end (early stopping, or decay).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hornbook.models import ngram
from hornbook.nn.layout import Layout


@dataclass(frozen=True)
class BigramConfig:
    """A table of vocab_size x vocab_size; of any context only the last token is read."""

    vocab_size: int = 65


class Bigram(nn.Module):
    """Token ids (...) -> next-token logits (..., V). All tokens are alike at first: loss ln V."""

    def __init__(self, config: BigramConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.vocab_size, config.vocab_size)
        nn.init.zeros_(self.table.weight)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Rows of the table: the hidden states are the logits already."""
        return self.table(tokens)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


def from_counts(
    tokens: ArrayLike, vocab_size: int, smoothing: ngram.Smoothing = ngram.WITTEN_BELL
) -> Bigram:
    """The optimum without training: log shares of the pairs in a text (T,), smoothed."""
    counted = ngram.fit(tokens, vocab_size, max_order=2, smoothing=smoothing)
    shares = counted.next(np.arange(vocab_size)[:, None])  # after each token, (V, V)
    model = Bigram(BigramConfig(vocab_size))
    with torch.no_grad():
        model.table.weight.copy_(torch.from_numpy(shares).log())
    return model
