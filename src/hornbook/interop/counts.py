"""Folders of counted models: config.json and the arrays of `models.ngram` as safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hornbook.errors import CheckpointError
from hornbook.interop.huggingface import read_config, read_weights, write_config, write_weights
from hornbook.models.ngram import Level, NGram

FAMILY = "hornbook-ngram"


def save_ngram(folder: Path, model: NGram) -> None:
    """Write config.json and model.safetensors."""
    config = {"model_type": FAMILY, "vocab_size": model.vocab_size, "order": len(model.levels)}
    write_config(folder, config)
    arrays = {
        f"{n}.{name}": torch.from_numpy(getattr(level, name))
        for n, level in enumerate(model.levels, start=1)
        for name in ("codes", "starts", "kept", "backed_off")
    }
    write_weights(folder / "model.safetensors", arrays)


def load_ngram(folder: Path) -> NGram:
    """Open what `save_ngram` wrote. Raises CheckpointError for what is damaged or another's."""
    config = read_config(folder, family=FAMILY)
    path = folder / "model.safetensors"
    arrays = {name: tensor.numpy() for name, tensor in read_weights(path).items()}
    names = ("codes", "starts", "kept", "backed_off")
    wanted = {f"{n}.{name}" for n in range(1, config["order"] + 1) for name in names}
    if arrays.keys() != wanted:
        raise CheckpointError(
            f"{path} does not hold the levels 1 to {config['order']} and nothing else",
            hint="config.json and model.safetensors are not of one model.",
        )
    levels = [
        Level(*(np.ascontiguousarray(arrays[f"{n}.{name}"]) for name in names))
        for n in range(1, config["order"] + 1)
    ]
    for level, below in zip(levels, [None, *levels]):
        _check(level, 1 if below is None else len(below.codes), path)
    return NGram(config["vocab_size"], levels)


def _check(level: Level, n_contexts: int, path: Path) -> None:
    """A lookup trusts the order and the lengths, so they are looked at once."""
    if not (
        len(level.starts) == n_contexts + 1 == len(level.backed_off) + 1
        and len(level.codes) == len(level.kept) == level.starts[-1]
        and (np.diff(level.codes) > 0).all()
        and (np.diff(level.starts) >= 0).all()
    ):
        raise CheckpointError(f"{path}: the levels do not fit together", hint="Count again.")
