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
    file = GGUFFile(path)
    config = gguf.config(file)
    family = FAMILIES[config["model_type"]]
    words = tokenizer(file)
    if words.vocab_size > config["vocab_size"]:
        raise CheckpointError(
            f"{path} has {words.vocab_size:,} tokens and vectors for {config['vocab_size']:,}",
            hint="It was put together of two models; fetch it again.",
        )
    model = built(family, config, gguf.weights(file, config), source=path)
    named = {
        f"{kind}_token": _token_id(file, kind) for kind in ("bos", "eos", "unknown", "padding")
    }
    short = {"unknown_token": "unk_token", "padding_token": "pad_token"}
    tokens = {
        short.get(name, name): words.tokens[i]
        for name, i in named.items()
        if i is not None and i < len(words.tokens)
    }
    ends = {_token_id(file, kind) for kind in ("eos", "eot", "eom")} - {None}
    return Contents(
        model=model,
        family=family.model_type,
        tokenizer=words,
        template=_template(file, tokens),
        ends=frozenset(i for i in ends if i is not None),
    )


def _template(file: GGUFFile, tokens: dict[str, str]) -> ChatTemplate | None:
    source = file.fields.get("tokenizer.chat_template")
    with_tools = file.fields.get("tokenizer.chat_template.tool_use")
    return ChatTemplate(source, tokens, with_tools) if source else None


def _token_id(file: GGUFFile, kind: str) -> int | None:
    return file.fields.get(f"tokenizer.ggml.{kind}_token_id")
