"""A saved model whole: weights, config, tokenizer and how it is spoken to, in a folder that other
libraries open too, in a .gguf file, or as an adapter beside its base."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hornbook.adapters import lora
from hornbook.adapters.heads import SwitchedHead
from hornbook.errors import CheckpointError
from hornbook.interop import peft
from hornbook.interop.adapter_folder import base_of, holds_adapter, with_head
from hornbook.interop.catalogue import CATALOGUE, find_model, model_at
from hornbook.interop.counting import FAMILY as COUNTING
from hornbook.interop.counting import load_counting, save_counting
from hornbook.interop.counts import FAMILY as NGRAM
from hornbook.interop.counts import load_ngram, save_ngram
from hornbook.interop.huggingface import load_model, save_model
from hornbook.interop.quantized import is_quantized_folder, load_quantized, save_quantized
from hornbook.interop.turns import known_ends, read_ends, read_template, write_turns
from hornbook.models.counting_gpt import CountingGPT
from hornbook.models.ngram import NGram
from hornbook.quantization.weights import is_quantized
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer

_LOAD = {COUNTING: load_counting, NGRAM: load_ngram}


@dataclass(frozen=True)
class Bundle:
    """A model with the tokenizer it was trained with.

    family: its name in config.json. template: how it reads a conversation; None where it was never
    taught to. name: what a user called it. stop_tokens: those that end a text or an answer. path:
    the folder or the file it was opened from.
    """

    model: Any
    tokenizer: Tokenizer
    family: str
    template: ChatTemplate | None = None
    name: str = ""
    stop_tokens: frozenset[int] = frozenset()
    path: Path | None = None


def save(
    folder: Path,
    model: Any,
    tokenizer: Tokenizer,
    *,
    template: ChatTemplate | None = None,
    stop_tokens: Collection[int] = (),
    numbers: torch.dtype | None = None,
) -> None:
    """Write config.json, model.safetensors and tokenizer.json; with a template or stop tokens also
    tokenizer_config.json and generation_config.json, which say them.

    numbers: the format to keep weights in, their own when None; counts keep theirs.
    """
    if isinstance(model, NGram):
        save_ngram(folder, model)
    elif isinstance(model, CountingGPT):
        save_counting(folder, model)
    elif is_quantized(model):
        save_quantized(folder, model)
    else:
        save_model(folder, model, numbers=numbers)
    tokenizer.save(folder / "tokenizer.json")
    if template or stop_tokens:
        context_length = getattr(getattr(model, "config", None), "context_length", None)
        write_turns(
            folder,
            tokenizer,
            template=template,
            stop_tokens=stop_tokens,
            context_length=context_length,
        )


def open_model(name: str) -> Bundle:
    """Open a model by name: a path, a run in `runs/`, a catalogue name, or one of the hub.

    Raises UnknownNameError for a name nobody knows, UnavailableError when it can't be had here,
    CheckpointError as `load` does.
    """
    path, run = Path(name).expanduser(), Path("runs") / name
    if not path.exists() or (name in CATALOGUE and not model_at(path)):
        in_runs = run.is_dir() and run.resolve().parent == Path("runs").resolve()
        path = run if in_runs else find_model(name)
    return replace(load(path), name=name)


def load(path: Path) -> Bundle:
    """Open a model's folder, a run's, whose model lies in `model/`, a .gguf file, or an adapter's
    folder as peft writes it: its base, with the adapter merged into it.

    Raises CheckpointError when there is none, when it is damaged or of an unknown family, and for
    an adapter whose base is not here or is another one.
    """
    if path.is_file():
        return _from_gguf(path)
    inside = path / "model" if (path / "model" / "config.json").is_file() else path
    if holds_adapter(inside):
        return _from_adapter(inside)
    config = inside / "config.json"
    if not config.is_file():
        if lone := model_at(inside):
            return _from_gguf(lone)
        raise CheckpointError(
            f"{path} holds no model: no config.json there or in its folder 'model'",
            hint="Name the folder of a finished run, of a model or of an adapter, or a .gguf file.",
        )
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
        family = said["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{config} does not say what the model is: {error}", hint="Copy or train it again."
        ) from error
    open_ = load_quantized if is_quantized_folder(said) else _LOAD.get(family, load_model)
    model = open_(inside)
    tokenizer = Tokenizer.load(inside / "tokenizer.json")
    return Bundle(
        model,
        tokenizer,
        family,
        template=read_template(inside),
        name=path.name,
        stop_tokens=read_ends(inside, tokenizer) | known_ends(tokenizer),
        path=inside,
    )


def _from_adapter(folder: Path) -> Bundle:
    config = peft.read_settings(folder)
    base = load(base_of(folder, config))
    found = with_adapter(base, folder, str(config.get("base_model_name_or_path") or ""))
    lora.merge(found.model)
    return found


def with_adapter(base: Bundle, folder: Path, base_name: str, adapter: str = lora.DEFAULT) -> Bundle:
    """A model with what an adapter's folder holds, active and not merged. base_name: what the base
    is called.

    Its weights are the base's own, so that several adapters share them, each under its name, to be
    switched by `lora.using`; a head is of its own. The tokenizer is the base's, unless one was
    saved with the adapter. Raises CheckpointError as `peft.load_adapter`, and for a tokenizer that
    the base has no room for.
    """
    config = peft.read_settings(folder)
    tokenizer, template, ends = base.tokenizer, base.template, base.stop_tokens
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        template = read_template(folder) or template
        ends = (read_ends(folder, tokenizer) or ends) | known_ends(tokenizer)
    sizes = getattr(getattr(base.model, "trunk", base.model), "config", None)
    if tokenizer.vocab_size > (room := getattr(sizes, "vocab_size", tokenizer.vocab_size)):
        raise CheckpointError(
            f"the adapter in {folder} goes with {tokenizer.vocab_size:,} tokens, and its base "
            f"{base.path} has {room:,}",
            hint="What was added to the vocabulary stands in the run's folder 'model': open that.",
        )
    model: Any = with_head(base, folder, config)
    if model is base.model and hasattr(model, "trunk"):  # the next adapter brings another head
        model = copy.deepcopy(model, {id(model.trunk): model.trunk})
    peft.load_adapter(folder, model, base_name=base_name, adapter=adapter)
    if isinstance(getattr(model, "head", None), SwitchedHead):
        model.head = model.head.current  # nobody else's: there is nothing to switch
    return replace(
        base,
        model=model,
        tokenizer=tokenizer,
        template=template,
        name=folder.name,
        stop_tokens=ends,
        path=folder,
    )


def _from_gguf(path: Path) -> Bundle:
    from hornbook.interop.gguf import load_gguf

    found = load_gguf(path)
    return Bundle(
        found.model,
        found.tokenizer,
        found.family,
        template=found.template,
        name=path.stem,
        stop_tokens=found.ends | known_ends(found.tokenizer),
        path=path,
    )
