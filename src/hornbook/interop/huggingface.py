"""Model folders as Hugging Face writes them: config.json, model.safetensors, tokenizer.json.

What we save opens in transformers; what transformers saves opens here, every key accounted for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hornbook import files
from hornbook.errors import CheckpointError
from hornbook.interop.names import Row, bert, gpt2, nanochat, to_ours, to_theirs
from hornbook.models.bert import Bert
from hornbook.models.gpt import GPT
from hornbook.models.modern_gpt import ModernGPT


def load_bert(folder: Path) -> tuple[Bert, dict[str, Tensor]]:
    """Open a BERT encoder; returns it and what else the file held (the pooler), by their names.

    Raises CheckpointError for a missing or corrupt file, another family, or keys that do not fit.
    """
    config = read_config(folder, family="bert")
    weights = {
        name.removeprefix(bert.PREFIX): tensor
        for name, tensor in read_weights(folder / "model.safetensors").items()
    }
    extras = {name: weights.pop(name) for name in list(weights) if _beside_the_encoder(name)}
    extras = {name: tensor for name, tensor in extras.items() if name not in bert.IGNORED}
    model = Bert(bert.config_to_ours(config))
    fill(model, weights, bert.table(model.config.n_layers))
    return model, extras


def _beside_the_encoder(name: str) -> bool:
    return name in bert.IGNORED or name.startswith(("pooler.", "cls.", "classifier."))


def save_bert(folder: Path, model: Bert, extras: Mapping[str, Tensor] | None = None) -> None:
    """Write config.json and model.safetensors; `extras` are further tensors under their names."""
    theirs = to_theirs(model.state_dict(), bert.table(model.config.n_layers)) | dict(extras or {})
    write_config(folder, bert.config_to_theirs(model.config))
    write_weights(folder / "model.safetensors", theirs)


def load_gpt2(folder: Path) -> GPT:
    """Open a GPT-2. Raises CheckpointError as `load_bert` does."""
    config = read_config(folder, family="gpt2")
    weights = {
        name.removeprefix(gpt2.PREFIX): tensor
        for name, tensor in read_weights(folder / "model.safetensors").items()
    }
    weights = {
        name: tensor
        for name, tensor in weights.items()
        if name not in gpt2.TIED and not name.endswith(gpt2.IGNORED_SUFFIXES)
    }
    model = GPT(gpt2.config_to_ours(config))
    fill(model, weights, gpt2.table(model.config.n_layers))
    return model


def save_gpt2(folder: Path, model: GPT) -> None:
    """Write config.json and model.safetensors as transformers' GPT2Model reads them."""
    write_config(folder, gpt2.config_to_theirs(model.config))
    theirs = to_theirs(model.state_dict(), gpt2.table(model.config.n_layers))
    write_weights(folder / "model.safetensors", theirs)


def load_modern_gpt(folder: Path) -> ModernGPT:
    """Open a NanoChat. Raises CheckpointError as `load_bert` does."""
    config = nanochat.config_to_ours(read_config(folder, family="nanochat"))
    model = ModernGPT(config)
    fill(model, read_weights(folder / "model.safetensors"), nanochat.table(config))
    return model


def save_modern_gpt(folder: Path, model: ModernGPT) -> None:
    """Write config.json and model.safetensors as transformers' NanoChatForCausalLM reads them."""
    write_config(folder, nanochat.config_to_theirs(model.config))
    theirs = to_theirs(model.state_dict(), nanochat.table(model.config))
    write_weights(folder / "model.safetensors", theirs)


def fill(model: nn.Module, weights: Mapping[str, Tensor], table: list[Row]) -> None:
    """Put foreign weights into our model. Raises CheckpointError listing all that does not fit."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict(to_ours(weights, table, shapes))


def read_config(folder: Path, *, family: str) -> dict[str, Any]:
    """A folder's config.json, refused with CheckpointError unless it is of the family."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} has no config.json", hint="A model folder holds config.json and weights."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}", hint="Fetch it again.") from error
    if config.get("model_type") != family:
        raise CheckpointError(
            f"{path} describes a '{config.get('model_type')}', not a '{family}'",
            hint=f"Name a model of the family '{family}'.",
        )
    return config


def write_config(folder: Path, config: dict[str, Any]) -> None:
    files.write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises CheckpointError when it is missing or corrupt."""
    if not path.is_file():
        raise CheckpointError(
            f"there are no weights at {path}", hint="Only safetensors are read, never a pickle."
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {error}",
            hint="It was cut short or damaged: copy, fetch or train it again.",
        ) from error


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors atomically as safetensors."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with files.atomic_file(path) as temporary:
        save_file(whole, temporary, metadata={"format": "pt"})
