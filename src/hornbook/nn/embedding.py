"""A table of vectors that tokens enter a model by, and may leave it by."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class TokenEmbedding(nn.Embedding):
    """A vector for each token: ids (...) -> (..., E)."""

    def logits(self, hidden: Tensor) -> Tensor:
        """The head that is tied to the table (Press and Wolf 2017): (..., E) -> (..., V)."""
        return F.linear(hidden, self.weight)
