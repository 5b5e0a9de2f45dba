"""GGUF files, llama.cpp's format: a model whole, with its tokenizer and chat template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hornbook.errors import CheckpointError
from hornbook.interop.gguf_file import GGUFFile
from hornbook.interop.gguf_tokenizer import tokenizer
from hornbook.interop.huggingface import built
from hornbook.interop.names import Family, gguf, gpt2, llama
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer

# Tokens with a part to play: the file's name for it, and what templates call it.
_TOKENS = {
    "bos": "bos_token",
    "eos": "eos_token",
    "eot": "eot_token",
    "eom": "eom_token",
    "unknown": "unk_token",
    "padding": "pad_token",
}
FAMILIES: dict[str, Family] = {"llama": llama.FAMILY, "gpt2": gpt2.FAMILY}


@dataclass(frozen=True)
class Contents:
    """What a file holds. ends: the tokens that it says end a text, a turn or a message."""

    model: Any
    family: str
    tokenizer: Tokenizer
    template: ChatTemplate | None
    ends: frozenset[int]


def load_gguf(path: Path) -> Contents:
    """Open a .gguf file; its numbers become float32.

    Raises CheckpointError for a damaged file, another family, formats of numbers and tokenizers
    that aren't known, and tensors that do not fit.
    """
    try:
        return _contents(GGUFFile(path))
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"the fields of {path} do not fit together: {error}", hint="Fetch it again."
        ) from error


def _contents(file: GGUFFile) -> Contents:
    config = gguf.config(file)
    family = FAMILIES[config["model_type"]]
    words = tokenizer(file)
    if words.vocab_size > config["vocab_size"]:
        raise CheckpointError(
            f"{file.path} has {words.vocab_size:,} tokens and vectors for {config['vocab_size']:,}",
            hint="It was put together of two models; fetch it again.",
        )
    model = built(family, config, gguf.weights(file, config), source=file.path)
    said = {kind: file.fields.get(f"tokenizer.ggml.{kind}_token_id") for kind in _TOKENS}
    places = range(len(words.tokens))
    known = {kind: i for kind, i in said.items() if isinstance(i, int) and i in places}
    tokens = {name: words.tokens[known[kind]] for kind, name in _TOKENS.items() if kind in known}
    return Contents(
        model=model,
        family=family.model_type,
        tokenizer=words,
        template=_template(file, tokens),
        ends=frozenset(known[kind] for kind in ("eos", "eot", "eom") if kind in known),
    )


def _template(file: GGUFFile, tokens: dict[str, str]) -> ChatTemplate | None:
    source = file.fields.get("tokenizer.chat_template")
    with_tools = file.fields.get("tokenizer.chat_template.tool_use")
    return ChatTemplate(source, tokens, with_tools) if source else None
