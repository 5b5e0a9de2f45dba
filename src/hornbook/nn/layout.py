"""How documents of unequal lengths lie in one tensor, and who may look at whom.

Padded: a rectangle (B, T) with a mask; what every textbook shows, and what short rows waste.
Ragged: the documents end to end in one row (T,); every token is a real one, so the linear layers,
which are nearly all the work, do no work for nothing. Attention runs document by document.

A model is the same code for both: it asks the layout for positions, attention and pooling.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.errors import ConfigError


class Layout(Protocol):
    """What a model asks of a batch's layout."""

    def positions(self) -> Tensor:
        """The place of each token in its document, from 0; broadcasts to the tokens' shape."""
        ...

    def longest(self) -> int:
        """Tokens of the longest document, or more where that takes a look at every row."""
        ...

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        causal: bool = False,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Scaled dot-product attention inside each document. In and out: (..., H, D).

        k and v may have fewer heads, (..., G, D): G then divides H. window: how many tokens away
        one may look, on either side; all when None.
        """
        ...

    def attend_to(
        self, memory: Any, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0
    ) -> Tensor:
        """Attention of each document to the one of the same number in `memory`, a layout as this.

        q: (..., H, D) lies as this layout; k and v: (..., H, D) as the memory's.
        """
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


def first_places(layout: Layout, tokens: Tensor) -> Tensor:
    """The first token of each document, (N,): its number, counted through tokens (...)."""
    return layout.first(torch.arange(tokens.numel(), device=tokens.device).view(tokens.shape))


def picked(hidden: Tensor, wanted: Tensor | None) -> Tensor:
    """The states of some tokens: (..., E) -> (n, E). wanted: (n,), counted through; None for all,
    which then stay as they lie.

    What is read of an encoder is often one token a document, or the hidden ones. Its last block
    mixes all tokens and goes on with these alone: the same numbers, for less work.
    """
    return hidden if wanted is None else hidden.flatten(0, -2).index_select(0, wanted)


def check_fits(layout: Layout, context_length: int) -> None:
    """Raise ConfigError when a document is longer than the model's context, both in tokens."""
    if layout.longest() > context_length:
        raise ConfigError(
            f"a document has {layout.longest()} tokens; the model reads {context_length}",
            hint=f"Cut texts at {context_length} tokens, or build a model with "
            f"context_length >= {layout.longest()}.",
        )


def rectangle(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    may_look: Tensor | None,
    *,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of documents of one length. q: (N, T, H, D); k and v: (N, S, G, D) -> as q.

    may_look: broadcasts to (N, H, T, S), or None for all; `causal` and `window` narrow it. The
    queries stand at the end of the keys: the last query is the last key's.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = heads_first(q, k, v, may_look, causal=causal, window=window, dropout=dropout)
    return out.transpose(1, 2)


def heads_first(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    may_look: Tensor | None,
    *,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """As `rectangle`, but q: (N, H, T, D); k and v: (N, G, S, D) -> as q."""
    n_queries, n_keys = q.shape[2], k.shape[2]
    if window is not None and window >= n_keys - 1:
        window = None
    causal = causal and n_queries > 1  # the last key's query may look at all
    only_causal = causal and window is None and may_look is None and n_queries == n_keys
    if (causal or window is not None) and not only_causal:
        keys = torch.arange(n_keys, device=q.device)
        distance = keys[n_keys - n_queries :, None] - keys  # (T, S), above 0 where the key is past
        allowed = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
        if window is not None:
            allowed = allowed & (distance.abs() <= window)
        may_look = allowed if may_look is None else may_look & allowed
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=may_look,
        is_causal=only_causal,
        dropout_p=dropout,
        enable_gqa=q.shape[1] != k.shape[1],
    )


class Padded:
    """A rectangle of tokens; `mask` (B, T) is True at real tokens; padding on either side."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._all_real = bool(mask.all())

    def positions(self) -> Tensor:
        return (self.mask.cumsum(1) - 1).clamp(min=0)

    def longest(self) -> int:
        return self.mask.shape[1]

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        causal: bool = False,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        near, n = None, self.mask.shape[1]
        if not self._all_real:
            # A padding token may look at itself, or its row of the softmax would be 0/0.
            itself = torch.eye(n, dtype=torch.bool, device=q.device)
            near = self.mask[:, None, None, :] | itself  # (B, 1, T, S)
        return rectangle(q, k, v, near, causal=causal, window=window, dropout=dropout)

    def attend_to(
        self, memory: Padded, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0
    ) -> Tensor:
        real = None if memory._all_real else memory.mask[:, None, None, :]  # (B, 1, 1, S)
        return rectangle(q, k, v, real, dropout=dropout)

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

    def longest(self) -> int:
        return max(self.lengths)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        causal: bool = False,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        sizes = [length * n for length, n in self.runs]
        # Heads first before the split: a document is then a view by itself, and needs no others.
        qkv = (x.transpose(0, 1)[None].split(sizes, 2) for x in (q, k, v))  # (1, H, S n, D)
        out = []
        for (length, n), q_, k_, v_ in zip(self.runs, *qkv, strict=True):
            if n > 1:
                q_, k_, v_ = (x[0].unflatten(1, (n, length)).transpose(0, 1) for x in (q_, k_, v_))
            run = heads_first(q_, k_, v_, None, causal=causal, window=window, dropout=dropout)
            out.append(run.transpose(1, 2).flatten(0, 1))
        return out[0] if len(out) == 1 else torch.cat(out)

    def attend_to(
        self, memory: Ragged, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0
    ) -> Tensor:
        pairs = groupby(zip(self.lengths, memory.lengths, strict=True))
        runs = [(t, s, len(list(group))) for (t, s), group in pairs]
        at_q = q.split([t * n for t, _, n in runs])
        at_k, at_v = (x.split([s * n for _, s, n in runs]) for x in (k, v))
        out = []
        for (t, s, n), q_, k_, v_ in zip(runs, at_q, at_k, at_v, strict=True):
            q_, k_, v_ = q_.unflatten(0, (n, t)), k_.unflatten(0, (n, s)), v_.unflatten(0, (n, s))
            out.append(rectangle(q_, k_, v_, None, dropout=dropout).flatten(0, 1))
        return torch.cat(out)

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
