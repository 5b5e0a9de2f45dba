"""Keys and values of many conversations at once, each at its own length: continuous batching.

    cache = SlotCache(n_slots=8, context_length=2048)
    hidden = model(tokens, cache.read([0, 3], [1, 1]))       # slots 0 and 3 read a token each
    hidden = model(tokens, cache.read([0, 3, 1], [1, 1, 90]))  # and slot 1 its prompt meanwhile

Tokens lie end to end, as in `layout.Ragged`. As with `cache.KeyValueCache` the model knows nothing
of it: it gets one more layout. Causal models only.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.errors import ConfigError
from hornbook.nn.layout import Ragged, rectangle

STEP = 64  # keys a call looks at are a multiple of it, so that neighbours' lengths change no bit


class SlotCache:
    """What every attention layer of one model has seen of `n_slots` conversations."""

    def __init__(self, n_slots: int, context_length: int) -> None:
        if n_slots < 1:
            raise ConfigError(f"n_slots is {n_slots}", hint="Take 1 or more.")
        self.n_slots = n_slots
        self.context_length = context_length
        self._lengths = [0] * n_slots
        self._kept: list[tuple[Tensor, Tensor]] = []  # a layer each: (n_slots, G, room, D) twice
        self._arrays: list[tuple[Any, Any]] = []  # the same memory

    def length(self, slot: int) -> int:
        """Tokens that a slot has read."""
        return self._lengths[slot]

    def read(
        self, slots: Sequence[int], n_new: Sequence[int], device: torch.device | str = "cpu"
    ) -> Reading:
        """The layout of one forward pass in which slots[i] reads n_new[i] more tokens.

        They count as read from now on; if the pass fails, `cut`. Raises ConfigError when a slot
        is named twice or would exceed the context.
        """
        if len(set(slots)) != len(slots) or len(slots) != len(n_new) or min(n_new, default=0) < 1:
            raise ConfigError(
                f"slots {list(slots)} cannot read {list(n_new)} tokens",
                hint="Name each slot once, with one token or more.",
            )
        starts = [self._lengths[slot] for slot in slots]
        ends = [start + n for start, n in zip(starts, n_new, strict=True)]
        if max(ends) > self.context_length:
            raise ConfigError(
                f"a conversation would have {max(ends)} tokens; the model reads "
                f"{self.context_length}",
                hint="Shorten it, or cut its oldest tokens.",
            )
        for slot, end in zip(slots, ends, strict=True):
            self._lengths[slot] = end
        return Reading(self, list(slots), starts, list(n_new), device)

    def cut(self, slot: int, length: int) -> None:
        """Forget a slot's tokens from `length` on; 0 empties it."""
        if not 0 <= length <= self._lengths[slot]:
            raise ConfigError(
                f"slot {slot} has {self._lengths[slot]} tokens, not {length}",
                hint=f"Take 0 to {self._lengths[slot]}.",
            )
        self._lengths[slot] = length

    @torch.no_grad()
    def copy(self, source: int, target: int, length: int) -> None:
        """Let `target` begin with the first `length` tokens of `source`: a shared prompt."""
        if not 0 <= length <= self._lengths[source]:
            raise ConfigError(
                f"slot {source} has {self._lengths[source]} tokens, not {length}",
                hint=f"Take 0 to {self._lengths[source]}.",
            )
        for layer in self._kept:
            for kept in layer:
                kept[target, :, :length] = kept[source, :, :length]
        self._lengths[target] = length

    @property
    def n_bytes(self) -> int:
        """Memory held when all slots are full."""
        return sum(kept.nbytes for layer in self._kept for kept in layer)

    def layer(self, number: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, (n_slots, G, room, D). like: its new ones, (..., G, D)."""
        while len(self._kept) <= number:
            room = -(-self.context_length // STEP) * STEP
            shape = (self.n_slots, like.shape[-2], room, like.shape[-1])
            self._kept.append((_zeros(like, *shape), _zeros(like, *shape)))
            self._arrays.clear()
        return self._kept[number]

    def arrays(self, n_layers: int, like: Tensor) -> list[tuple[Any, Any]]:
        """`layer` of all layers as numpy sees them, on the processor."""
        self.layer(n_layers - 1, like)
        if not self._arrays:
            self._arrays = [(k.numpy(), v.numpy()) for k, v in self._kept]
        return self._arrays


def _zeros(like: Tensor, *shape: int) -> Tensor:
    # Zeros, not whatever was there: a masked key's share is 0, and 0 * NaN would be NaN.
    with torch.inference_mode(False):  # else nobody outside of inference mode could add to it
        if like.device.type != "cpu":
            return torch.zeros(*shape, dtype=like.dtype, device=like.device)
        # The system gives pages of zeros when they are first written: room costs nothing. Small
        # pages, which numpy wouldn't take: a token would cost megabytes in each layer.
        pages = mmap.mmap(-1, math.prod(shape) * like.element_size())
        return torch.frombuffer(pages, dtype=like.dtype).view(shape)


class Reading(Ragged):
    """The layout of new tokens after those in the slots of a cache; good for one forward pass."""

    def __init__(
        self,
        cache: SlotCache,
        slots: list[int],
        starts: list[int],
        n_new: list[int],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(n_new, device)
        self._cache = cache
        self.slots = slots
        self._starts = starts
        self._longest = max(start + n for start, n in zip(starts, n_new, strict=True))
        self._layer = 0
        if self.runs == [(1, len(slots))]:
            self._positions = torch.tensor(starts, device=self.device)
            self.rows = torch.tensor(slots, device=self.device)
        else:
            spans = zip(slots, starts, n_new, strict=True)
            parts = [
                (torch.arange(start, start + n), torch.full((n,), slot)) for slot, start, n in spans
            ]
            self._positions = torch.cat([places for places, _ in parts]).to(self.device)
            self.rows = torch.cat([rows for _, rows in parts]).to(self.device)
        self._calls = _calls(slots, n_new)
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def longest(self) -> int:
        return self._longest

    def positions(self) -> Tensor:
        return self._positions

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
        keys, values = self._cache.layer(self._layer, k)
        self._layer += 1
        keys[self.rows, :, self._positions] = k.detach()
        values[self.rows, :, self._positions] = v.detach()
        out = [
            self._together(q[begin : begin + n], keys, values, first, last, window)
            if n == last - first
            else self._alone(q[begin : begin + n], keys, values, first, last, window)
            for begin, n, first, last in self._calls
        ]
        return out[0] if len(out) == 1 else torch.cat(out)

    def memory(self, n_layers: int, like: Tensor) -> list[tuple[Any, Any]]:
        """All layers' keys and values, (n_slots, G, room, D), as numpy sees them.
        like: tokens of their kind, (..., G, D)."""
        return self._cache.arrays(n_layers, like)

    def divided(self, n_few: int) -> list[tuple[Tensor | None, Reading]]:
        """Slots with up to `n_few` new tokens and those with more: for each its tokens' places,
        None for all, and a layout of its own."""
        if len({n <= n_few for n in self.lengths}) == 1:
            return [(None, self)]
        parts: list[tuple[Tensor | None, Reading]] = []
        document = torch.arange(len(self.slots)).repeat_interleave(torch.tensor(self.lengths))
        for few in (True, False):
            chosen = [i for i, n in enumerate(self.lengths) if (n <= n_few) is few]
            slots, starts, n_new = (
                [x[i] for i in chosen] for x in (self.slots, self._starts, self.lengths)
            )
            own = Reading(self._cache, slots, starts, n_new, self.device)
            places = torch.isin(document, torch.tensor(chosen)).nonzero().squeeze(1)
            parts.append((places, own))
        return parts

    def _alone(
        self, q: Tensor, keys: Tensor, values: Tensor, first: int, last: int, window: int | None
    ) -> Tensor:
        """Slots[first] reads many tokens: q (T, H, D) -> as q."""
        slot, end = self.slots[first], self._starts[first] + len(q)
        k, v = (x[slot : slot + 1, :, :end].transpose(1, 2) for x in (keys, values))
        return rectangle(q[None], k, v, None, causal=True, window=window)[0]

    def _together(
        self, q: Tensor, keys: Tensor, values: Tensor, first: int, last: int, window: int | None
    ) -> Tensor:
        """Neighbouring slots read a token each: q (n, H, D) -> as q."""
        n_keys = -(-(max(self._starts[first:last]) + 1) // STEP) * STEP
        near = slice(self.slots[first], self.slots[first] + last - first)
        k, v = keys[near, :, :n_keys], values[near, :, :n_keys]
        mask = self._masks.get((first, window))
        if mask is None:
            places = torch.arange(n_keys, device=self.device)
            own = self._positions[self._token(first) : self._token(first) + len(q), None]
            looks = places <= own
            if window is not None:
                looks &= places >= own - window
            mask = torch.zeros(looks.shape, dtype=q.dtype, device=q.device)
            mask = mask.masked_fill_(~looks, -torch.inf)[:, None, None]
            self._masks[first, window] = mask  # the same in every layer
        # Queries that share a key stand where a row of queries would: (n, G, H/G, D).
        grouped = q.unflatten(1, (k.shape[1], -1))
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).flatten(1, 2)

    def _token(self, document: int) -> int:
        return sum(self.lengths[:document])


def _calls(slots: list[int], n_new: list[int]) -> list[tuple[int, int, int, int]]:
    """(first token, tokens, first document, last + 1) of what one attention call does: neighbours
    in the cache with a token each, or one slot with more."""
    joints = [0]
    for i, ((slot, n), (next_slot, next_n)) in enumerate(
        pairwise(zip(slots, n_new, strict=True)), 1
    ):
        if not (n == next_n == 1 and next_slot == slot + 1):
            joints.append(i)
    calls, begin = [], 0
    for first, last in pairwise([*joints, len(slots)]):
        n = sum(n_new[first:last])
        calls.append((begin, n, first, last))
        begin += n
    return calls
