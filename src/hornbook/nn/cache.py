"""Keys and values of tokens already read, so that generation reads each token once.

    cache = KeyValueCache()
    hidden = model(prompt, cache.extend(prompt_mask))      # (B, T), (B, T)
    hidden = model(token, cache.extend(one_more))          # (B, 1), (B, 1)

The caller owns the cache; a model knows nothing of it: what it gets is one more layout, which tells
positions from where the cache ends and lets each layer look at what it kept. Causal models only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hornbook.nn.layout import rectangle


class KeyValueCache:
    """What every attention layer of one model has seen of B documents."""

    def __init__(self) -> None:
        self._mask: Tensor | None = None  # (B, tokens read)
        self._kept: list[Tensor] = []  # a layer each: (2, B, room, G, D)

    @property
    def n_read(self) -> int:
        """Tokens read so far, padding included."""
        return 0 if self._mask is None else self._mask.shape[1]

    def extend(self, mask: Tensor) -> Continued:
        """The layout of the next forward pass; mask (B, T): True at real tokens, padding left."""
        self._mask = mask if self._mask is None else torch.cat([self._mask, mask], 1)
        return Continued(self, self._mask, mask.shape[1])

    def take(self, rows: Tensor) -> None:
        """Go on with these documents (their numbers) in this order, one of them maybe twice."""
        if self._mask is not None:
            self._mask = self._mask[rows]
            self._kept = [kept.index_select(1, rows) for kept in self._kept]

    def keep(self, layer: int, start: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's new keys and values (B, T, G, D); return all of them, (B, S, G, D)."""
        new = torch.stack([k, v])
        end = start + new.shape[2]
        if layer == len(self._kept):
            self._kept.append(new)
        elif end > self._kept[layer].shape[2]:  # double the room, so that copies are rare
            room = new.new_empty(*new.shape[:2], max(start, end - start), *new.shape[3:])
            self._kept[layer] = torch.cat([self._kept[layer][:, :, :start], new, room], 2)
        else:
            self._kept[layer][:, :, start:end] = new
        kept = self._kept[layer][:, :, :end]
        return kept[0], kept[1]


class Continued:
    """The layout of T new tokens a document after those in a cache; good for one forward pass."""

    def __init__(self, cache: KeyValueCache, mask: Tensor, n_new: int) -> None:
        self._cache = cache
        self._mask = mask  # (B, S): what was read and what is new
        self._n_new = n_new
        self._layer = 0
        itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)[-n_new:]
        self._may_look = None if bool(mask.all()) else mask[:, None, None] | itself

    def longest(self) -> int:
        return int(self._mask.sum(1).max())

    def positions(self) -> Tensor:
        return (self._mask.cumsum(1) - 1).clamp(min=0)[:, -self._n_new :]

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
        assert causal, "a bidirectional model would have to read everything anew"
        start = self._mask.shape[1] - self._n_new
        k, v = self._cache.keep(self._layer, start, k, v)
        self._layer += 1
        return rectangle(q, k, v, self._may_look, causal=True, window=window, dropout=dropout)

    def attend_to(
        self, memory: Any, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0
    ) -> Tensor:
        real = memory.mask[:, None, None, :]  # the memory lies padded, as the new tokens do
        return rectangle(q, k, v, real, dropout=dropout)

    def first(self, hidden: Tensor) -> Tensor:
        return hidden[:, 0]

    def last(self, hidden: Tensor) -> Tensor:
        return hidden[:, -1]

    def mean(self, hidden: Tensor) -> Tensor:
        weight = self._mask[:, -self._n_new :].unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)
