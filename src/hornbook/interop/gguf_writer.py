"""Models as GGUF files, for llama.cpp and what is built on it: Llama and GPT-2, with a tokenizer of
bytes and merges."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from gguf.quants import quantize
from torch import Tensor

from hornbook import files
from hornbook.errors import ConfigError
from hornbook.interop.gguf_tokenizer import CONTROL, NORMAL, UNUSED, USER, pattern_of
from hornbook.interop.huggingface import as_theirs
from hornbook.interop.names import gguf
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer

NUMBERS = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}


def write_gguf(
    path: Path,
    model: Any,
    tokenizer: Tokenizer,
    *,
    name: str,
    numbers: str = "f16",
    template: ChatTemplate | None = None,
    stop_tokens: Collection[int] = (),
) -> None:
    """Write a .gguf file. numbers: how matrices are kept, "f32", "f16" or "q8_0"; vectors are f32.

    Raises ConfigError for a family, a tokenizer or numbers that the file can't have.
    """
    if numbers not in NUMBERS:
        raise ConfigError(
            f"GGUF files are not written with {numbers}", hint=f"Known: {', '.join(NUMBERS)}."
        )
    config, weights = as_theirs(model)
    family = config["model_type"]
    if family not in gguf.NAMES:
        raise ConfigError(
            f"a model of the family '{family}' is not written as GGUF",
            hint=f"These are: {', '.join(gguf.NAMES)}. Others: --to hf.",
        )
    with files.atomic_file(path) as temporary:
        writer = GGUFWriter(temporary, family)
        writer.add_name(name)
        writer.add_file_type(NUMBERS[numbers])
        for key, value in gguf.sizes(config).items():
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
        _add_tokenizer(writer, tokenizer, config["vocab_size"])
        _add_turns(writer, tokenizer, template, sorted(stop_tokens))
        for tensor_name, tensor in gguf.to_gguf(config, weights).items():
            _add_tensor(writer, tensor_name, tensor, numbers)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _add_tensor(writer: GGUFWriter, name: str, tensor: Tensor, numbers: str) -> None:
    kind = GGMLQuantizationType[numbers.upper()]
    block = GGML_QUANT_SIZES[kind][0]
    if tensor.ndim < 2:
        kind = GGMLQuantizationType.F32
    elif tensor.shape[-1] % block:
        kind = GGMLQuantizationType.F16
    writer.add_tensor(name, quantize(tensor.float().numpy(), kind), raw_dtype=kind)


def _add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer, vocab_size: int) -> None:
    """Tokens, merges and the name of the pattern. Rows of the embedding without a token are named
    too, since the file counts them."""
    added = tokenizer.rust.get_added_tokens_decoder()
    types = [
        NORMAL if i not in added else CONTROL if added[i].special else USER
        for i in range(len(tokenizer.tokens))
    ]
    n_more = vocab_size - len(types)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pattern_of(tokenizer))
    writer.add_token_list([*tokenizer.tokens, *(f"[unused{i}]" for i in range(n_more))])
    writer.add_token_types([*types, *[UNUSED] * n_more])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer.description["model"]["merges"]])
    writer.add_add_bos_token(False)


def _add_turns(
    writer: GGUFWriter, tokenizer: Tokenizer, template: ChatTemplate | None, ends: list[int]
) -> None:
    tokens = dict(template.tokens) if template else {}
    ids = {name: tokenizer.control_ids.get(text) for name, text in tokens.items()}
    end = ids.get("eos_token")
    if end is None and ends:
        end = ends[0]
    for add, token in (
        (writer.add_bos_token_id, ids.get("bos_token")),
        (writer.add_eos_token_id, end),
        (writer.add_unk_token_id, ids.get("unk_token")),
        (writer.add_pad_token_id, ids.get("pad_token")),
    ):
        if token is not None:
            add(token)
    if template and template.with_tools:
        both = {"default": template.source, "tool_use": template.with_tools}
        writer.add_chat_template([{"name": n, "template": t} for n, t in both.items()])
    elif template:
        writer.add_chat_template(template.source)
