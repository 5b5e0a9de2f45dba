"""How fast a decoder writes: one text, several at once, and how fast it reads a prompt."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from hornbook.nn.slots import SlotCache


@dataclass(frozen=True)
class GenerationSpeed:
    """Tokens a second, medians: writing one text, `n_streams` texts at once (all together), and
    reading a prompt of n_prompt tokens."""

    decode: float
    streams: float
    prompt: float
    n_streams: int
    n_prompt: int


@torch.inference_mode()
def generation_speed(
    model: Any, *, n_tokens: int = 64, n_prompt: int = 512, n_streams: int = 8, n_before: int = 64
) -> GenerationSpeed:
    """Time a model, after a warm-up; some seconds. n_before: tokens that a text has at first."""
    model.eval()
    context_length = model.config.context_length
    n_prompt = min(n_prompt, context_length)
    n_before = min(n_before, context_length // 2)
    n_tokens = min(n_tokens, context_length - n_before - 1)
    return GenerationSpeed(
        decode=_writing(model, 1, n_before, n_tokens),
        streams=_writing(model, n_streams, n_before, n_tokens),
        prompt=n_prompt / _median(lambda: _prompt(model, SlotCache(1, n_prompt), 0, n_prompt), 3),
        n_streams=n_streams,
        n_prompt=n_prompt,
    )


def _writing(model: Any, n_streams: int, n_before: int, n_tokens: int) -> float:
    """Tokens a second of greedy texts."""
    cache = SlotCache(n_streams, n_before + n_tokens + 1)
    slots, ones = list(range(n_streams)), [1] * n_streams
    tokens = torch.stack([_prompt(model, cache, slot, n_before) for slot in slots]).argmax(-1)

    def step() -> None:
        nonlocal tokens
        tokens = model.logits(model(tokens, cache.read(slots, ones))).argmax(-1)

    return n_streams / _median(step, n_tokens)


def _prompt(model: Any, cache: SlotCache, slot: int, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(slot)
    ids = torch.randint(0, model.config.vocab_size, (n,), generator=generator)
    logits: torch.Tensor = model.logits(model(ids, cache.read([slot], [n]))[-1])
    return logits


def _median(run: Callable[[], object], n: int) -> float:
    run()  # builds kernels
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
