"""How a model's folder says that a conversation is written, and what ends an answer.

Beside the weights lie tokenizer_config.json (the chat template, the names of tokens),
generation_config.json (what ends an answer), and in newer folders chat_template.jinja.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hornbook import files
from hornbook.errors import CheckpointError
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer

# Tokens that end a text or a turn in the families there are, whatever their files say.
ENDS = (
    "<|endoftext|>",
    "<|im_end|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<eos>",
    "</s>",
    "<｜end▁of▁sentence｜>",
)
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")


def read_template(folder: Path) -> ChatTemplate | None:
    """A folder's chat template, None where there is none. Raises CheckpointError for broken JSON.

    chat_template.jinja goes before tokenizer_config.json; of several templates "default" is the
    one, and "tool_use" that for conversations with tools.
    """
    config = _read(folder / "special_tokens_map.json") | _read(folder / "tokenizer_config.json")
    tokens = {name: text for name in _TOKENS if (text := _spelled(config.get(name)))}
    source = config.get("chat_template")
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        source = jinja.read_text(encoding="utf-8", errors="replace")
    if isinstance(source, list):
        named = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
        default = named.get("default") or next(iter(named.values()), None)
        return ChatTemplate(default, tokens, named.get("tool_use")) if default else None
    return ChatTemplate(source, tokens) if isinstance(source, str) and source else None


def read_ends(folder: Path, tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that a folder's files say end a text or an answer.

    Only special tokens: a number that no file has thought about (0) may stand for a letter. Raises
    CheckpointError for broken JSON.
    """
    said: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        ends = _read(folder / name).get("eos_token_id")
        said |= {i for i in (ends if isinstance(ends, list) else [ends]) if isinstance(i, int)}
    named = _spelled(_read(folder / "tokenizer_config.json").get("eos_token"))
    if named in tokenizer.control_ids:
        said.add(tokenizer.control_ids[named])
    return frozenset(said & tokenizer.special_ids)


def known_ends(tokenizer: Tokenizer) -> frozenset[int]:
    """Special tokens of a tokenizer that end a text or a turn by their name."""
    control = tokenizer.control_ids
    return frozenset(control[name] for name in ENDS if name in control)


def write_turns(
    folder: Path,
    tokenizer: Tokenizer,
    *,
    template: ChatTemplate | None,
    stop_tokens: Collection[int],
    context_length: int | None,
) -> None:
    """Write tokenizer_config.json and generation_config.json, and the ends into a config.json that
    is there.

    They are what transformers and vLLM read a tokenizer, a template and the ends of answers from.
    """
    ends = sorted(stop_tokens)
    tokens = dict(template.tokens) if template else {}
    if ends and "eos_token" not in tokens:
        tokens["eos_token"] = tokenizer.tokens[ends[0]]
    of_tokenizer: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens}
    if context_length:
        of_tokenizer["model_max_length"] = context_length
    if template:
        of_tokenizer["chat_template"] = template.source
        if template.with_tools:
            of_tokenizer["chat_template"] = [
                {"name": "default", "template": template.source},
                {"name": "tool_use", "template": template.with_tools},
            ]
    ids = {
        f"{name}_token_id": tokenizer.control_ids.get(tokens.get(f"{name}_token", ""))
        for name in ("bos", "pad")
    }
    ids = {name: i for name, i in ids.items() if i is not None}
    first = tokenizer.control_ids.get(tokens.get("eos_token", ""))
    eos = {"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {}
    _write(folder / "tokenizer_config.json", of_tokenizer)
    _write(folder / "generation_config.json", ids | eos)
    eos = {"eos_token_id": first} if first is not None else {}
    if (folder / "config.json").is_file():  # an adapter has none
        _write(folder / "config.json", _read(folder / "config.json") | ids | eos)


def write_bounds(folder: Path, *, start: int, end: int) -> None:
    """generation_config.json of an encoder-decoder: with which tokens transformers begins and ends
    what it writes."""
    tokens = {"decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": end}
    _write(folder / "generation_config.json", tokens)


def _spelled(token: object) -> str | None:
    """A token's text, written as such or as an object with its properties."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}", hint="Fetch it again.") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a JSON object", hint="Fetch it again.")
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    files.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
