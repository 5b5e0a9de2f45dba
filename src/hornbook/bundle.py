"""A saved model whole: weights, config and tokenizer in a folder that other libraries open too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hornbook.errors import CheckpointError
from hornbook.interop.counting import FAMILY as COUNTING
from hornbook.interop.counting import load_counting, save_counting
from hornbook.interop.counts import FAMILY as NGRAM
from hornbook.interop.counts import load_ngram, save_ngram
from hornbook.interop.huggingface import load_model, save_model
from hornbook.models.counting_gpt import CountingGPT
from hornbook.models.ngram import NGram
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer

_LOAD = {COUNTING: load_counting, NGRAM: load_ngram}


@dataclass(frozen=True)
class Bundle:
    """A model with the tokenizer it was trained with.

    family: its name in config.json. template: how it reads a conversation; None where it was never
    taught to. name: what a user called it. stop_tokens: those that end a text or an answer.
    """

    model: Any
    tokenizer: Tokenizer
    family: str
    template: ChatTemplate | None = None
    name: str = ""
    stop_tokens: frozenset[int] = frozenset()


def save(folder: Path, model: Any, tokenizer: Tokenizer) -> None:
    """Write config.json, model.safetensors and tokenizer.json."""
    if isinstance(model, NGram):
        save_ngram(folder, model)
    elif isinstance(model, CountingGPT):
        save_counting(folder, model)
    else:
        save_model(folder, model)
    tokenizer.save(folder / "tokenizer.json")


def load(folder: Path) -> Bundle:
    """Open a model's folder, or a run's, whose model lies in `model/`.

    Raises CheckpointError when there is none, or when it is damaged or of an unknown family.
    """
    inside = folder / "model" if (folder / "model" / "config.json").is_file() else folder
    path = inside / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} holds no model: no config.json there or in its folder 'model'",
            hint="Name the folder of a finished run, or of a model.",
        )
    try:
        family = json.loads(path.read_text(encoding="utf-8"))["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not say what the model is: {error}", hint="Copy or train it again."
        ) from error
    model = _LOAD.get(family, load_model)(inside)
    return Bundle(model, Tokenizer.load(inside / "tokenizer.json"), family)
