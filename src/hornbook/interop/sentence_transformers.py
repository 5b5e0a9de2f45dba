"""The files beside an encoder's weights that sentence-transformers opens it by: the mean over a
text's tokens, then length 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hornbook import files
from hornbook.text.tokenizer import BERT_SPECIALS, Tokenizer

_MODULES = (
    ("", "sentence_transformers.models.Transformer"),
    ("1_Pooling", "sentence_transformers.models.Pooling"),
    ("2_Normalize", "sentence_transformers.models.Normalize"),
)


def write_sentence_modules(
    folder: Path, tokenizer: Tokenizer, d_model: int, max_tokens: int
) -> None:
    """Write modules.json, 1_Pooling/config.json, sentence_bert_config.json and a tokenizer's
    settings into a folder that holds an encoder. max_tokens: read of a text."""
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": kind}
        for i, (path, kind) in enumerate(_MODULES)
    ]
    _write(folder / "modules.json", modules)
    pooling = {"word_embedding_dimension": d_model} | {
        f"pooling_mode_{kind}": kind == "mean_tokens"
        for kind in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    }
    _write(folder / "1_Pooling" / "config.json", pooling)
    reading = {"max_seq_length": max_tokens, "do_lower_case": False}
    _write(folder / "sentence_bert_config.json", reading)
    _write(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    special = {
        name: token
        for name, token in zip(names, BERT_SPECIALS, strict=True)
        if tokenizer.rust.token_to_id(token) is not None
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_tokens}
    _write(folder / "tokenizer_config.json", settings | special)


def _write(path: Path, content: Any) -> None:
    files.write_text(path, json.dumps(content, indent=2) + "\n")
