"""The tokenizer in a GGUF file: tokens, merges and how to cut a text, as a `tokenizers` tokenizer.

A GGUF file says how a text is cut into words by a name only (`tokenizer.ggml.pre`); the patterns
are llama.cpp's (`llama-vocab.cpp`). A name that isn't known here is refused, since other words
would be other tokens.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer

from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.gguf_file import GGUFFile
from hornbook.text.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER, UNUSED = 1, 2, 3, 4, 5  # tokenizer.ggml.token_type

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer(file: GGUFFile) -> Tokenizer:
    """The file's tokenizer. Raises CheckpointError for a kind or a pattern that isn't known."""
    kind, tokens = file["tokenizer.ggml.model"], file["tokenizer.ggml.tokens"]
    types = file.fields.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    if kind not in ("gpt2", "llama") or len(types) != len(tokens):
        raise CheckpointError(
            f"{file.path} has a tokenizer of the kind {kind!r}, {len(tokens):,} tokens and "
            f"{len(types):,} token types",
            hint="Known kinds: gpt2 (byte-level BPE) and llama (SentencePiece's BPE).",
        )
    rust = _byte_level(file, tokens, types) if kind == "gpt2" else _pieces(file, tokens, types)
    added = [
        AddedToken(token, special=t != USER, normalized=False)
        for token, t in zip(tokens, types)
        if t in (CONTROL, USER) or (t == UNKNOWN and kind == "llama")
    ]
    rust.add_tokens(added)
    begins = kind == "llama" or file.fields.get("tokenizer.ggml.pre") in _WHOLE_WORDS
    if file.fields.get("tokenizer.ggml.add_bos_token", begins):
        begin = file["tokenizer.ggml.bos_token_id"]
        rust.post_processor = processors.TemplateProcessing(
            f"{tokens[begin]} $A", special_tokens=[(tokens[begin], begin)]
        )
    return Tokenizer(rust)


def _byte_level(file: GGUFFile, tokens: list[str], types: list[int]) -> RustTokenizer:
    """GPT-2's kind: words of bytes, merged in pairs."""
    name = file.fields.get("tokenizer.ggml.pre", "gpt-2")
    if name not in _WORDS:
        raise CheckpointError(
            f"{file.path} cuts texts into words by {name!r}",
            hint=f"Known: {', '.join(_WORDS)}. By another pattern its tokens would be others.",
        )
    merges = [tuple(pair.split(" ", 1)) for pair in _merges(file, tokens, types)]
    rust = _bpe(file, tokens, merges, ignore_merges=name in _WHOLE_WORDS)
    rust.pre_tokenizer = pre_tokenizers.Sequence(_WORDS[name])
    if name == "qwen2":
        rust.normalizer = normalizers.NFC()
    rust.decoder = decoders.ByteLevel()
    return rust


def _merges(file: GGUFFile, tokens: list[str], types: list[int]) -> list[str]:
    """The list of merges, which only a vocabulary of bare bytes does without."""
    bare = all(len(token) == 1 for token, t in zip(tokens, types) if t == NORMAL)
    return file.fields.get("tokenizer.ggml.merges", []) if bare else file["tokenizer.ggml.merges"]


def _pieces(file: GGUFFile, tokens: list[str], types: list[int]) -> RustTokenizer:
    """SentencePiece's kind: a space is "▁", what is in no piece is bytes."""
    scores = dict(zip(tokens, file["tokenizer.ggml.scores"]))
    known = {token: i for i, token in enumerate(tokens) if types[i] == NORMAL}
    pairs = [
        (token[:cut], token[cut:])
        for token in known
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
    # The best piece is made first, out of the pair whose parts come first.
    pairs.sort(key=lambda pair: (known[pair[0]], known[pair[1]]))
    pairs.sort(key=lambda pair: -scores["".join(pair)])
    unknown = tokens[file.fields.get("tokenizer.ggml.unknown_token_id", 0)]
    rust = _bpe(file, tokens, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    steps: list[Any] = [normalizers.Replace(" ", "▁")]
    ending: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if file.fields.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend("▁"))
        ending.append(decoders.Strip(" ", 1, 0))
    rust.normalizer = normalizers.Sequence(steps)
    rust.decoder = decoders.Sequence(ending)
    return rust


def _bpe(file: GGUFFile, tokens: list[str], merges: list[Any], **settings: Any) -> RustTokenizer:
    vocabulary = {token: i for i, token in enumerate(tokens)}
    try:
        return RustTokenizer(models.BPE(vocab=vocabulary, merges=merges, **settings))
    except Exception as error:  # the Rust library raises nothing narrower
        raise CheckpointError(
            f"the tokenizer in {file.path} does not fit together: {error}", hint="Fetch it again."
        ) from error


def _byte_words(*before: Any, pattern: str | None = None) -> list[Any]:
    if pattern is None:  # GPT-2's own
        return [*before, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


_WHOLE_WORDS = ("llama-bpe", "llama3")  # a word that is a token needs no merges
_DIGITS = pre_tokenizers.Digits(individual_digits=True)
_WORDS = {
    "gpt-2": _byte_words(),
    "smollm": _byte_words(_DIGITS),
    "starcoder": _byte_words(_DIGITS),
    "llama-bpe": _byte_words(pattern=_LLAMA_3),
    "llama3": _byte_words(pattern=_LLAMA_3),
    "qwen2": _byte_words(pattern=_LLAMA_3.replace("{1,3}", "")),
}


def pattern_of(tokenizer: Tokenizer) -> str:
    """The name by which GGUF files know how a tokenizer cuts words.

    Raises ConfigError for one that isn't a byte-level BPE, or cuts them in a way without a name.
    """
    model, steps = tokenizer.description["model"], _steps(tokenizer.description["pre_tokenizer"])
    if model.get("type") == "BPE" and tokenizer.is_byte_level:
        for name, words in _WORDS.items():
            if steps == _steps(json.loads(pre_tokenizers.Sequence(words).__getstate__())):
                return name
    raise ConfigError(
        "this tokenizer has no name in GGUF files",
        hint=f"They know byte-level BPE that cuts words as {', '.join(_WORDS)}. Else: --to hf.",
    )


def _steps(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What cuts a text, one after the other, without what makes no difference to its tokens."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer])
    return [{key: v for key, v in (step or {}).items() if key != "trim_offsets"} for step in steps]
