"""What a decoder holds in memory while it writes: weights, keys and values, and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hornbook.errors import ConfigError
from hornbook.nn.slots import STEP
from hornbook.quantization import weights

CHUNK = 256  # tokens of a prompt that are read at once
NUMBERS = 4  # bytes of a key, a value, a logit: float32


@dataclass(frozen=True)
class WritingMemory:
    """Bytes: weights and tables; keys and values of all texts at full length; what a forward pass
    holds besides. The program itself comes on top, some 300 MB with torch."""

    weights: int
    cache: int
    working: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.working


def writing_memory(make: Any, config: Any, *, bits: int, context: int, batch: int) -> WritingMemory:
    """Counted from shapes, whatever the size. make: the model's class; bits: 32, 16, 8 or 4.

    Raises ConfigError for a context that is longer than the model's, or layers that 4-bit groups
    don't fit.
    """
    longest = getattr(config, "context_length", None)
    if longest is not None and context > longest:
        raise ConfigError(
            f"a context of {context} tokens is longer than the model's {longest}",
            hint=f"Take at most {longest}.",
        )
    with torch.device("meta"):
        model: nn.Module = make(config)
    if bits < 16:
        weights.prepare(model, bits)
    held = dict(model.named_buffers()) | model.state_dict(keep_vars=True)
    share = 0.5 if bits == 16 else 1
    kept = {id(t): t for t in held.values()}.values()  # what is tied, once
    n_weights = sum(t.nbytes * (share if t.is_floating_point() else 1) for t in kept)
    d_kv = _d_kv(config)
    rounded = -(-context // STEP) * STEP
    cache = 2 * NUMBERS * getattr(config, "n_layers", 0) * d_kv * rounded * batch
    chunk = min(CHUNK, context)
    d_model, d_ff = getattr(config, "d_model", 0), getattr(config, "d_ff", 0)
    # The widest moment of a block: twice d_ff as sums and as floats, their product, its bytes.
    block = chunk * NUMBERS * (4 * d_model + 6 * d_ff)
    scores = chunk * NUMBERS * context  # the mask of who may look at whom
    logits = 3 * batch * NUMBERS * config.vocab_size
    return WritingMemory(round(n_weights), cache, block + scores + logits)


def _d_kv(config: Any) -> int:
    n_heads = getattr(config, "n_heads", None)
    if n_heads is None:
        return 0
    n_kv_heads: int = getattr(config, "n_kv_heads", None) or n_heads
    return n_kv_heads * config.d_model // n_heads
