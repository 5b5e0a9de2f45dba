"""More tokens for a finished decoder: further rows of its table, and of its head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hornbook.errors import ConfigError


@torch.no_grad()
def grow(model: Any, vocab_size: int, like: Mapping[int, int] | None = None) -> None:
    """Give a decoder room for tokens up to `vocab_size`, in place; what it says of others stays.

    like: new tokens that begin as copies of old ones; the rest begin as the mean of all, where a
    normal of the old vectors has most of its weight (Hewitt 2021, "Initializing New Word
    Embeddings for Pretrained Language Models"). Raises ConfigError for fewer tokens than there are.
    """
    n_old = model.config.vocab_size
    if vocab_size < n_old:
        raise ConfigError(
            f"the model has {n_old:,} tokens, and was to be left with {vocab_size:,}",
            hint="A vocabulary only grows here; tokens that are never used cost little.",
        )
    copied = {new: old for new, old in (like or {}).items() if new >= n_old}
    tables = [model.tokens] + ([model.head] if getattr(model, "head", None) is not None else [])
    for table in tables:
        table.weight = torch.nn.Parameter(_grown(table.weight, vocab_size, copied))
    model.tokens.num_embeddings = vocab_size
    if len(tables) > 1:
        model.head.out_features = vocab_size
    model.config = replace(model.config, vocab_size=vocab_size)


def _grown(weight: Tensor, n_rows: int, like: Mapping[int, int]) -> Tensor:
    rows = weight.mean(0, keepdim=True).repeat(n_rows - len(weight), 1)
    for new, old in like.items():
        rows[new - len(weight)] = weight[old]
    return torch.cat([weight, rows])
