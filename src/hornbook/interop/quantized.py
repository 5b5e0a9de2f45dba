"""A quantised model's folder: config.json says `quantization`, model.safetensors holds the parts.

No other library opens it; `hornbook export` of the model it was made from gives what others read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.huggingface import (
    FAMILIES,
    family_of,
    read_weights,
    write_config,
    write_weights,
)
from hornbook.nn.init import without_first_weights
from hornbook.quantization import tiled, weights

KEY = "quantization"
_PACKED = (torch.int8, torch.uint8)


def is_quantized_folder(config: dict[str, Any]) -> bool:
    """Whether a folder's config.json is of this kind."""
    return isinstance(config.get(KEY), dict) and "bits" in config[KEY]


def save_quantized(folder: Path, model: nn.Module) -> None:
    """Write config.json and model.safetensors of a model that has been quantised."""
    family = family_of(model)
    config = family.config_to_theirs(model.config) | {"architectures": [family.architecture]}
    write_config(folder, config | {KEY: weights.description(model)})
    write_weights(folder / "model.safetensors", model.state_dict())


def load_quantized(folder: Path) -> nn.Module:
    """Open what `save_quantized` wrote. Raises CheckpointError where something does not fit."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    fitting = [f for f in FAMILIES if f.architecture in (config.get("architectures") or ())]
    try:
        described = config[KEY]
        with without_first_weights():
            model = fitting[0].make(fitting[0].config_to_ours(config))
        weights.prepare(model, described["bits"], described.get("group", weights.GROUP))
    except (KeyError, IndexError, TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{path} does not describe a quantised model: {getattr(error, 'message', error)}",
            hint="Make it again with hornbook quantize.",
        ) from error
    found = read_weights(folder / "model.safetensors")
    expected = model.state_dict()
    wrong = [
        name
        for name in sorted(expected.keys() | found.keys())
        if name not in found
        or name not in expected
        or (expected[name].shape, expected[name].dtype) != (found[name].shape, found[name].dtype)
    ]
    if wrong:
        raise CheckpointError(
            f"{folder / 'model.safetensors'} does not fit its config.json: {', '.join(wrong[:5])}",
            hint="Make it again with hornbook quantize.",
        )
    # What is packed anew could not be freed as a part of the file; nor could the file, as long as a
    # gain is a part of it.
    if described["bits"] == 4:
        at_once = _PACKED if tiled.is_compiled() else ()  # `settle` does it
        found = {name: t if t.dtype in at_once else t.clone() for name, t in found.items()}
    model.load_state_dict(found, assign=True)
    del found
    weights.settle(model)
    return model.eval()
