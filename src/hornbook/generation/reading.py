"""A model that reads many texts, a few tokens at a time, and says what may come next in each.

A text lies in a slot. Decoders remember what they have read (`nn.slots`), so that each token is
read once; models that cannot (bigram, n-gram, a network on counts) are given the text again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hornbook.models.bigram import Bigram
from hornbook.models.gpt import GPT
from hornbook.models.llama import Llama
from hornbook.models.modern_gpt import ModernGPT
from hornbook.models.ngram import NGram
from hornbook.nn.layout import Ragged
from hornbook.nn.slots import SlotCache
from hornbook.nn.threads import Threads
from hornbook.quantization.weights import is_quantized

UNBOUNDED = 2**31 - 1  # the context of a model that looks a few tokens back and needs no limit
SMALLEST = 1e-30  # a probability below is drawn as if it were this

Scores = Callable[
    [Sequence[int], int], Tensor
]  # a text, n -> logits after its last n tokens (n, V)


class Reader(Protocol):
    """Texts in slots 0 ... n_slots - 1, each at most context_length tokens long."""

    n_slots: int
    context_length: int
    vocab_size: int

    def read(
        self, slots: Sequence[int], tokens: Sequence[Sequence[int]], n_wanted: Sequence[int]
    ) -> Tensor:
        """Read on in some slots. Returns the logits after the last n_wanted[i] tokens of each, end
        to end: (sum(n_wanted), V), float32 on the processor. If it raises, nothing was read."""
        ...

    def length(self, slot: int) -> int:
        """Tokens that a slot holds."""
        ...

    def cut(self, slot: int, length: int) -> None:
        """Forget a slot's tokens from `length` on."""
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Let one slot begin with the first `length` tokens of another."""
        ...


def reader(model: Any, n_slots: int = 1, *, context_length: int | None = None) -> Reader:
    """The way to read for any model that writes. context_length: less than the model's, if given.

    Puts the model into evaluation mode.
    """
    if isinstance(model, torch.nn.Module):
        model.eval()
    own = context_length_of(model)
    longest = min(own, context_length or own)
    if isinstance(model, GPT | Llama | ModernGPT):
        return SlotReader(model, n_slots, longest)
    sized = model if isinstance(model, NGram) else model.config
    return PlainReader(_scores(model), n_slots, longest, sized.vocab_size)


def context_length_of(model: Any) -> int:
    """How many tokens a model reads at most."""
    own: int = getattr(getattr(model, "config", None), "context_length", UNBOUNDED)
    return own


def newest(tokens: Sequence[int], context_length: int) -> list[int]:
    """What a full context is cut to before it takes another token: three quarters, the newest.

    One by one would mean to read all of it again for each token, at its new place.
    """
    return list(tokens[-max(1, context_length - max(1, context_length // 4)) :])


class SlotReader:
    """A decoder with a cache. What a slot gets does not depend on its neighbours, to the last bit.

    A library multiplies a matrix by one row otherwise than by eight, and rounds otherwise. Where
    this model's products do so, single tokens are always read by all slots at once, the idle ones
    reading a token that they forget again.
    """

    def __init__(self, model: Any, n_slots: int, context_length: int) -> None:
        self.n_slots = n_slots
        self.context_length = context_length
        self.vocab_size: int = model.config.vocab_size
        self._model = model
        self._cache = SlotCache(n_slots, context_length)
        self._quantized = is_quantized(model)
        self._threads = Threads()
        self._device = next(model.parameters()).device

    def length(self, slot: int) -> int:
        return self._cache.length(slot)

    def cut(self, slot: int, length: int) -> None:
        self._cache.cut(slot, length)

    def copy(self, source: int, target: int, length: int) -> None:
        self._cache.copy(source, target, length)

    def read(
        self, slots: Sequence[int], tokens: Sequence[Sequence[int]], n_wanted: Sequence[int]
    ) -> Tensor:
        single = all(len(t) == 1 for t in tokens)
        if len(slots) < self.n_slots and single and self._rows_matter:
            return self._read_with_all(slots, tokens, n_wanted)
        if single and self._quantized:  # whose sums are the same with any number of threads
            with self._threads.step(len(slots)):
                return self._read(self._cache, slots, tokens, n_wanted)
        return self._read(self._cache, slots, tokens, n_wanted)

    def _read_with_all(
        self, slots: Sequence[int], tokens: Sequence[Sequence[int]], n_wanted: Sequence[int]
    ) -> Tensor:
        given = dict(zip(slots, tokens, strict=True))
        idle = {
            slot: self.length(slot)
            for slot in range(self.n_slots)
            if slot not in given and self.length(slot) < self.context_length
        }
        everyone = sorted({*given, *idle})
        rows = [given.get(slot, tokens[0]) for slot in everyone]
        logits = self._read(self._cache, everyone, rows, [1] * len(everyone))
        for slot, length in idle.items():
            self.cut(slot, length)
        place = {slot: i for i, slot in enumerate(everyone)}
        return logits[[place[slot] for slot, n in zip(slots, n_wanted, strict=True) if n]]

    @torch.inference_mode()
    def _read(
        self,
        cache: SlotCache,
        slots: Sequence[int],
        tokens: Sequence[Sequence[int]],
        n_wanted: Sequence[int],
    ) -> Tensor:
        before = [cache.length(slot) for slot in slots]
        ids = torch.tensor([token for text in tokens for token in text], device=self._device)
        layout = cache.read(slots, [len(text) for text in tokens], self._device)
        try:
            hidden = self._model(ids, layout)
        except BaseException:
            for slot, length in zip(slots, before, strict=True):
                cache.cut(slot, length)
            raise
        rows: list[int] = []
        end = 0
        for text, n in zip(tokens, n_wanted, strict=True):
            end += len(text)
            rows += range(end - n, end)
        if not rows:
            return torch.empty(0, 0)
        return self._model.logits(hidden if len(rows) == len(ids) else hidden[rows]).float().cpu()

    @cached_property
    def _rows_matter(self) -> bool:
        """Whether a token's logits change with the number of tokens that are read beside it."""
        sizes = sorted({*range(1, min(self.n_slots, 8) + 1), *range(8, self.n_slots, 8)})
        alone = None
        for n in [*sizes, self.n_slots]:
            cache = SlotCache(n, 1)
            logits = self._read(cache, range(n), [[0]] * n, [1] * n)
            alone = logits[:1] if alone is None else alone
            if not torch.equal(logits, alone.expand_as(logits)):
                return True
        return False


class PlainReader:
    """A model without a memory: it reads each text anew, one text at a time."""

    def __init__(self, scores: Scores, n_slots: int, context_length: int, vocab_size: int) -> None:
        self.n_slots = n_slots
        self.context_length = context_length
        self.vocab_size = vocab_size
        self._scores = scores
        self._texts: list[list[int]] = [[] for _ in range(n_slots)]

    def length(self, slot: int) -> int:
        return len(self._texts[slot])

    def cut(self, slot: int, length: int) -> None:
        del self._texts[slot][length:]

    def copy(self, source: int, target: int, length: int) -> None:
        self._texts[target] = self._texts[source][:length]

    @torch.inference_mode()
    def read(
        self, slots: Sequence[int], tokens: Sequence[Sequence[int]], n_wanted: Sequence[int]
    ) -> Tensor:
        texts = [[*self._texts[s], *t] for s, t in zip(slots, tokens, strict=True)]
        parts = [self._scores(t, n) for t, n in zip(texts, n_wanted, strict=True) if n]
        for slot, text in zip(slots, texts, strict=True):
            self._texts[slot] = text
        return torch.cat(parts).float().cpu() if parts else torch.empty(0, 0)


def _scores(model: Any) -> Scores:
    """How a model without a cache says what comes after each of a text's last tokens."""
    if isinstance(model, NGram):
        n_before = max(1, len(model.levels) - 1)

        def counted(text: Sequence[int], n: int) -> Tensor:
            padded = [-1] * n_before + list(text)  # -1: nothing stands there
            ends = range(len(padded) - n + 1, len(padded) + 1)
            shares = model.next([padded[end - n_before : end] for end in ends])
            return torch.from_numpy(np.log(np.maximum(shares, SMALLEST)))

        return counted

    device = next(model.parameters()).device
    looks_back = 1 if isinstance(model, Bigram) else UNBOUNDED

    def network(text: Sequence[int], n: int) -> Tensor:
        text = text[-(looks_back + n - 1) :]
        hidden = model(torch.tensor(text, device=device), Ragged([len(text)], device.type))
        return model.logits(hidden[-n:])

    return network
