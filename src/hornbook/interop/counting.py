"""Folders of networks on counts: the trunk and gate beside the arrays of `models.counting`.

No other library has this family; its config.json says `hornbook-counting-gpt`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from hornbook.errors import CheckpointError
from hornbook.interop.huggingface import read_config, read_weights, write_config, write_weights
from hornbook.models.counting import Counts, Level
from hornbook.models.counting_gpt import CountingGPT, CountingGPTConfig
from hornbook.models.modern_gpt import ModernGPTConfig

FAMILY = "hornbook-counting-gpt"
PREFIX = "counts."
ARRAYS = ("codes", "starts", "kept", "totals", "discounts")
FOLDED = ("kept", "totals", "discounts")  # of these the whole text's column is kept, not the folds'


def save_counting(folder: Path, model: CountingGPT) -> None:
    """Write config.json and model.safetensors. The folds, for training alone, are left out."""
    config = {
        "model_type": FAMILY,
        "trunk": asdict(model.config.trunk),
        "orders": list(model.config.orders),
        "n_levels": len(model.counts.levels),
    }
    write_config(folder, config)
    arrays = {}
    for n, level in enumerate(model.counts.levels):
        for name in ARRAYS:
            array = getattr(level, name)
            array = array[:, -1:] if name in FOLDED else array
            arrays[f"{PREFIX}{n}.{name}"] = torch.from_numpy(np.ascontiguousarray(array))
    write_weights(folder / "model.safetensors", model.state_dict() | arrays)


def load_counting(folder: Path) -> CountingGPT:
    """Open what `save_counting` wrote. Raises CheckpointError for what is damaged or another's."""
    theirs = read_config(folder, family=FAMILY)
    path = folder / "model.safetensors"
    weights = read_weights(path)
    try:
        config = CountingGPTConfig(ModernGPTConfig(**theirs["trunk"]), tuple(theirs["orders"]))
        levels = [
            Level(*(weights.pop(f"{PREFIX}{n}.{name}").numpy() for name in ARRAYS))
            for n in range(theirs["n_levels"])
        ]
        _check(levels)
        model = CountingGPT(config, Counts(config.vocab_size, tuple(levels)))
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} and config.json do not fit each other: {error}",
            hint="They are not of one model, or damaged: copy or train it again.",
        ) from error
    return model


def _check(levels: list[Level]) -> None:
    """A lookup trusts order and lengths, so they are looked at once."""
    n_contexts = 1
    for level in levels:
        n = len(level.codes)
        if not (
            len(level.starts) == n_contexts + 1 == len(level.totals) + 1 == len(level.discounts) + 1
            and len(level.kept) == n == level.starts[-1]
            and (np.diff(level.codes) > 0).all()
            and (np.diff(level.starts) >= 0).all()
        ):
            raise ValueError("the levels of the counts do not belong together")
        n_contexts = n
