"""A new vocabulary in an old tokenizer's ways: the same normalizing, cutting and special tokens.

What made the old one suit its texts is kept, but for the vocabulary, which is learnt from other
texts: source code, another language, the words of a trade.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from tokenizers import AddedToken, trainers
from tokenizers import Tokenizer as RustTokenizer

from hornbook.errors import ConfigError
from hornbook.text.byte_level import ALPHABET
from hornbook.text.tokenizer import Tokenizer
from hornbook.text.train import SAMPLE, Say, Texts, sampled

EMPTY = {
    "BPE": {"vocab": {}, "merges": []},
    "WordPiece": {"vocab": {}},
    "Unigram": {"vocab": [], "unk_id": None},
    "WordLevel": {"vocab": {}},
}


def adapt(
    old: Tokenizer,
    texts: Texts,
    vocab_size: int,
    *,
    sample: int = SAMPLE,
    say: Say = lambda _: None,
) -> Tokenizer:
    """Learn `vocab_size` tokens from texts, with everything else as in `old`.

    Special tokens come first, in their old order, and get new ids. Raises ConfigError for a model
    that no trainer is known for.
    """
    description = copy.deepcopy(old.description)
    kind = description["model"]["type"]
    if kind not in EMPTY:
        raise ConfigError(f"there is no trainer for '{kind}'", hint=f"Known: {', '.join(EMPTY)}.")
    special = [t["content"] for t in description["added_tokens"] if t["special"]]
    unknown = description["model"].get("unk_token")
    if unknown is not None and unknown not in special:
        special.append(unknown)  # the model needs it
    template = description["post_processor"]
    byte_level = "ByteLevel" in json.dumps(description["pre_tokenizer"])
    description |= {"added_tokens": [], "post_processor": None}
    description["model"] |= EMPTY[kind]
    rust = RustTokenizer.from_str(json.dumps(description))
    trainer = _trainer(kind, vocab_size, special, ALPHABET if byte_level else [], unknown)
    rust.train_from_iterator(sampled(texts, sample, say), trainer)
    learnt = json.loads(rust.to_str())
    learnt["post_processor"] = _with_new_ids(template, rust)
    plain = {unknown} - {t["content"] for t in old.description["added_tokens"]}
    learnt["added_tokens"] = [t for t in learnt["added_tokens"] if t["content"] not in plain]
    adapted = Tokenizer(RustTokenizer.from_str(json.dumps(learnt)))
    words = [t for t in old.description["added_tokens"] if not t["special"]]
    adapted.rust.add_tokens([_added(token) for token in words])
    if adapted.vocab_size < vocab_size:
        say(f"The text supports {adapted.vocab_size:,} tokens, {vocab_size:,} were asked for.")
    return Tokenizer(adapted.rust)


def _added(token: dict) -> AddedToken:
    options = ("single_word", "lstrip", "rstrip", "normalized")
    return AddedToken(token["content"], **{option: token[option] for option in options})


def _trainer(
    kind: str, vocab_size: int, special: list[str], alphabet: list[str], unknown: str | None
) -> trainers.Trainer:
    options: dict[str, Any] = {
        "vocab_size": vocab_size,
        "special_tokens": special,
        "show_progress": False,
    }
    if kind == "BPE":
        return trainers.BpeTrainer(**options, min_frequency=2, initial_alphabet=alphabet)
    if kind == "WordPiece":
        return trainers.WordPieceTrainer(**options, min_frequency=2)
    if kind == "Unigram":
        return trainers.UnigramTrainer(**options, initial_alphabet=alphabet, unk_token=unknown)
    return trainers.WordLevelTrainer(**options, min_frequency=2)


def _with_new_ids(template: dict | None, rust: RustTokenizer) -> dict | None:
    """The old template names special tokens with their ids; they have new ones now."""
    if template is None or template["type"] != "TemplateProcessing":
        return template
    template = copy.deepcopy(template)
    for entry in template["special_tokens"].values():
        entry["ids"] = [rust.token_to_id(token) for token in entry["tokens"]]
    return template
