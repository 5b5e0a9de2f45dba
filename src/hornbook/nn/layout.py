"""How documents of unequal lengths lie in one tensor, and who may look at whom.

Padded: a rectangle (B, T) with a mask; what every textbook shows, and what short rows waste.
Ragged: the documents end to end in one row (T,); every token is a real one, so the linear layers,
which are nearly all the work, do no work for nothing. Attention runs document by document.

A model is the same code for both: it asks the layout for positions, attention and pooling.
"""

from __future__ import annotations

from itertools import groupby
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Layout(Protocol):
    """What a model asks of a batch's layout."""

    def positions(self) -> Tensor:
        """The place of each token in its document, from 0; broadcasts to the tokens' shape."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, dropout: float) -> Tensor:
        """Scaled dot-product attention inside each document. In and out: (..., H, D)."""
        ...

    def first(self, hidden: Tensor) -> Tensor:
        """Each document's first token: (..., E) -> (N, E)."""
        ...

    def last(self, hidden: Tensor) -> Tensor:
        """Each document's last token: (..., E) -> (N, E)."""
        ...

    def mean(self, hidden: Tensor) -> Tensor:
        """The mean over each document's tokens: (..., E) -> (N, E)."""
        ...


class Padded:
    """A rectangle of tokens; `mask` (B, T) is True at real tokens; padding on either side."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._all_real = bool(mask.all())

    def positions(self) -> Tensor:
        return (self.mask.cumsum(1) - 1).clamp(min=0)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, dropout: float = 0.0
    ) -> Tensor:
        may_look = None
        if not self._all_real:
            may_look = self.mask[:, None, None, :]  # (B, 1, 1, S)
            if causal:
                n = self.mask.shape[1]
                past = torch.ones(n, n, dtype=torch.bool, device=q.device).tril()
                # A padding token may look at itself, or its row of the softmax would be 0/0.
                itself = torch.eye(n, dtype=torch.bool, device=q.device)
                may_look = (may_look & past) | itself
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, D)
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=may_look, is_causal=causal and may_look is None, dropout_p=dropout
        )
        return out.transpose(1, 2)

    def first(self, hidden: Tensor) -> Tensor:
        return hidden[torch.arange(len(hidden)), self.mask.int().argmax(1)]

    def last(self, hidden: Tensor) -> Tensor:
        from_the_right = self.mask.flip(1).int().argmax(1)
        return hidden[torch.arange(len(hidden)), self.mask.shape[1] - 1 - from_the_right]

    def mean(self, hidden: Tensor) -> Tensor:
        weight = self.mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)


class Ragged:
    """Documents end to end: `lengths` in tokens, each at least 1; their sum is T.

    Neighbours of equal length are attended to in one call, so sort documents by length when the
    order is yours to choose.
    """

    def __init__(self, lengths: list[int], device: torch.device | str = "cpu") -> None:
        self.lengths = lengths
        self.device = torch.device(device)
        self.runs = [(length, len(list(group))) for length, group in groupby(lengths)]
        self._ends = torch.tensor(lengths, device=self.device).cumsum(0)

    def positions(self) -> Tensor:
        return torch.cat(
            [torch.arange(length, device=self.device).repeat(n) for length, n in self.runs]
        )

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, dropout: float = 0.0
    ) -> Tensor:
        sizes = [length * n for length, n in self.runs]
        out = []
        for (length, n), *qkv in zip(
            self.runs, q.split(sizes), k.split(sizes), v.split(sizes), strict=True
        ):
            q_, k_, v_ = (x.unflatten(0, (n, length)).transpose(1, 2) for x in qkv)  # (n, H, S, D)
            run = F.scaled_dot_product_attention(q_, k_, v_, is_causal=causal, dropout_p=dropout)
            out.append(run.transpose(1, 2).flatten(0, 1))
        return out[0] if len(out) == 1 else torch.cat(out)

    def first(self, hidden: Tensor) -> Tensor:
        starts = self._ends - torch.tensor(self.lengths, device=self.device)
        return hidden[starts]

    def last(self, hidden: Tensor) -> Tensor:
        return hidden[self._ends - 1]

    def mean(self, hidden: Tensor) -> Tensor:
        sizes = [length * n for length, n in self.runs]
        return torch.cat(
            [
                x.unflatten(0, (n, length)).mean(1)
                for x, (length, n) in zip(hidden.split(sizes), self.runs, strict=True)
            ]
        )
