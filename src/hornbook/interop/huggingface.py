"""Model folders as Hugging Face writes them: config.json, model.safetensors, tokenizer.json.

What we save opens in transformers; what transformers saves opens here, every key accounted for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hornbook import files
from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.names import (
    Family,
    Row,
    bert,
    bigram,
    gpt2,
    heads,
    llama,
    marian,
    modernbert,
    nanochat,
    to_ours,
    to_theirs,
    without_copies,
)
from hornbook.models.bert import Bert
from hornbook.models.bigram import Bigram
from hornbook.models.encoder_decoder import EncoderDecoder
from hornbook.models.gpt import GPT
from hornbook.models.llama import Llama
from hornbook.models.modern_bert import ModernBert
from hornbook.models.modern_gpt import ModernGPT
from hornbook.nn.init import without_first_weights
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.tasks.next_sentence import BertPretraining

LONGEST_CONTEXT = 1 << 22

FAMILIES: tuple[Family, ...] = (
    bigram.FAMILY,
    gpt2.FAMILY,
    nanochat.FAMILY,
    llama.FAMILY,
    marian.FAMILY,
    bert.MASKED_LM,
    bert.PRETRAINING,
    bert.ENCODER,
    modernbert.MASKED_LM,
    modernbert.ENCODER,
    *modernbert.ALIBI,
    *heads.FAMILIES,
)
# What a model is on the outside -> its family. A trunk with heads is told by its trunk.
_KINDS: dict[tuple[type, type | None], Family] = {
    (Bigram, None): bigram.FAMILY,
    (GPT, None): gpt2.FAMILY,
    (ModernGPT, None): nanochat.FAMILY,
    (Llama, None): llama.FAMILY,
    (EncoderDecoder, None): marian.FAMILY,
    (Bert, None): bert.ENCODER,
    (ModernBert, None): modernbert.ENCODER,
    (MaskedLM, Bert): bert.MASKED_LM,
    (MaskedLM, ModernBert): modernbert.MASKED_LM,
    (BertPretraining, Bert): bert.PRETRAINING,
    **heads.KINDS,
}


def load_model(folder: Path) -> Any:
    """Open any model folder of a family known here; its config.json says which it is.

    Raises CheckpointError for a missing or corrupt file, another family, a setting that the family
    cannot follow, or keys that do not fit, all of them listed.
    """
    config = _config(folder)
    named = (config.get("architectures") or [None])[0]
    of_type = [f for f in FAMILIES if f.model_type == config.get("model_type")]
    fitting = [f for f in of_type if named in (None, f.architecture, *f.also)]
    if not fitting:
        raise CheckpointError(
            f"{folder} holds a {named or config.get('model_type')!r}",
            hint=f"Known: {', '.join(f.architecture for f in FAMILIES)}.",
        )
    return load_as(fitting[0], folder)


def load_as(family: Family, folder: Path) -> Any:
    """Open a folder as a family's model, whatever heads its config.json names.

    Raises CheckpointError as `load_model` does.
    """
    return _filled(family, folder, read_folder(folder))


def _filled(family: Family, folder: Path, weights: dict[str, Tensor]) -> Any:
    theirs = read_config(folder, family=family.model_type)
    return built(family, theirs, weights, source=folder / "config.json")


def built(
    family: Family, theirs: Mapping[str, Any], weights: dict[str, Tensor], *, source: Path
) -> Any:
    """A family's model out of a config and weights as transformers names them.

    source: what an error names. Raises CheckpointError for sizes that are missing or no sizes, a
    setting that the family cannot follow, and weights that do not fit.
    """
    try:
        config = family.config_to_ours(dict(theirs))
        _check_sizes(config, weights, source)
        with without_first_weights():
            model = family.make(config)
    except KeyError as error:
        raise CheckpointError(
            f"{source} does not say {error}", hint="Is it a whole config?"
        ) from error
    except (ConfigError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"no model can be made of the sizes that {source} gives: "
            f"{getattr(error, 'message', error)}",
            hint="Is it the config.json of this model?",
        ) from error
    tidied = without_copies(family.tidy(weights), family.copies(config))
    fill(model, tidied, family.table(config))
    return model


def _check_sizes(config: Any, weights: Mapping[str, Tensor], source: Path) -> None:
    """Refuse, before anything is made, what a damaged number would fill the memory with."""
    n_layers, context = (getattr(config, name, 0) for name in ("n_layers", "context_length"))
    if n_layers > len(weights) or context > LONGEST_CONTEXT:
        raise CheckpointError(
            f"{source} gives {n_layers:,} layers to {len(weights):,} tensors, and a context of "
            f"{context:,} tokens",
            hint=f"Contexts to {LONGEST_CONTEXT:,} are opened. Is the file damaged?",
        )


def save_model(folder: Path, model: Any, *, numbers: torch.dtype | None = None) -> None:
    """Write config.json and model.safetensors as transformers reads them.

    model: a decoder, an encoder, `MaskedLM` or `BertPretraining` around one, a head of
    `models.heads` on a trunk, or the encoder-decoder. numbers: the format to keep them in; the
    model's own when None. Raises ConfigError for anything else.
    """
    config, weights = as_theirs(model)
    if numbers is not None:
        config["dtype"] = str(numbers).removeprefix("torch.")
        weights = {name: tensor.to(numbers) for name, tensor in weights.items()}
    write_config(folder, config)
    write_weights(folder / "model.safetensors", weights)


def as_theirs(model: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A model's config.json and weights as transformers names them.

    Raises ConfigError for a model that transformers has not.
    """
    family = family_of(model)
    config = family.config_to_theirs(model.config) | {"architectures": [family.architecture]}
    return config, to_theirs(model.state_dict(), family.table(model.config))


def family_of(model: Any) -> Family:
    """The family of a model. Raises ConfigError for one that transformers has not."""
    trunk = getattr(model, "trunk", None)
    family = _KINDS.get((type(model), None if trunk is None else type(trunk)))
    if family is None:
        raise ConfigError(
            f"a {type(model).__name__} has no folder format",
            hint=f"These have: {', '.join(sorted({kind.__name__ for kind, _ in _KINDS}))}.",
        )
    return family


def load_bert(folder: Path) -> tuple[Bert, dict[str, Tensor]]:
    """Open a BERT encoder; returns it and what else the file held (the pooler), by their names.

    Raises CheckpointError for a missing or corrupt file, another family, or keys that do not fit.
    """
    weights = read_folder(folder)
    model = _filled(bert.ENCODER, folder, weights)
    return model, {name: t for name, t in bert.bare(weights).items() if bert.beside(name)}


def pooler_in(folder: Path) -> dict[str, Tensor]:
    """A BERT folder's pooler, named as `models.bert.Pooler` has it; {} where there is none.

    A bare encoder is opened without it; a head for whole texts begins with it, as in transformers.
    """
    if _config(folder).get("model_type") != "bert":
        return {}
    weights = bert.bare(read_folder(folder))
    return {
        name.removeprefix("pooler."): tensor
        for name, tensor in weights.items()
        if name.startswith("pooler.")
    }


def save_bert(folder: Path, model: Bert, extras: Mapping[str, Tensor] | None = None) -> None:
    """Write config.json and model.safetensors; `extras` are further tensors under their names."""
    theirs = to_theirs(model.state_dict(), bert.table(model.config.n_layers)) | dict(extras or {})
    write_config(folder, bert.config_to_theirs(model.config))
    write_weights(folder / "model.safetensors", theirs)


def load_gpt2(folder: Path) -> GPT:
    """Open a GPT-2. Raises CheckpointError as `load_model` does."""
    return load_as(gpt2.FAMILY, folder)


def save_gpt2(folder: Path, model: GPT) -> None:
    """Write config.json and model.safetensors as transformers' GPT2LMHeadModel reads them."""
    save_model(folder, model)


def fill(model: nn.Module, weights: Mapping[str, Tensor], table: list[Row]) -> None:
    """Put foreign weights into our model. Raises CheckpointError listing all that does not fit."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict(to_ours(weights, table, shapes))


def read_config(folder: Path, *, family: str) -> dict[str, Any]:
    """A folder's config.json, refused with CheckpointError unless it is of the family."""
    config = _config(folder)
    if config.get("model_type") != family:
        raise CheckpointError(
            f"{folder / 'config.json'} describes a '{config.get('model_type')}', not a '{family}'",
            hint=f"Name a model of the family '{family}'.",
        )
    return config


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} has no config.json", hint="A model folder holds config.json and weights."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}", hint="Fetch it again.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a JSON object", hint="Fetch it again.")
    return config


def write_config(folder: Path, config: dict[str, Any]) -> None:
    files.write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model folder, whether in one file or in several with an index."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists() or not index.is_file():
        return read_weights(folder / "model.safetensors")
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index} is not an index: {error}", hint="Fetch it again."
        ) from error
    weights: dict[str, Tensor] = {}
    for shard in sorted(shards):
        weights |= read_weights(files.inside(folder, shard))
    return weights


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
