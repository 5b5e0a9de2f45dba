"""The tokenizer everything else uses: a `tokenizer.json`, run by the Rust `tokenizers` library.

Training goes through the same library; the algorithms' own pages come with pretraining.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from hornbook import files
from hornbook.errors import CheckpointError

BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
END_OF_TEXT = "<|endoftext|>"


class Tokenizer:
    """Texts to lists of token ids, cut at a number of tokens, never padded."""

    def __init__(self, rust: RustTokenizer) -> None:
        rust.no_padding()
        rust.no_truncation()
        self._rust = rust

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Open a tokenizer.json. Raises CheckpointError when it is missing or broken."""
        if not path.is_file():
            raise CheckpointError(f"there is no tokenizer at {path}", hint="Is the model complete?")
        try:
            return cls(RustTokenizer.from_file(str(path)))
        except Exception as error:  # the Rust library raises nothing narrower
            raise CheckpointError(
                f"{path} is not a tokenizer.json: {error}", hint="Fetch or train it again."
            ) from error

    def save(self, path: Path) -> None:
        files.write_text(path, self._rust.to_str(pretty=True))

    @property
    def vocab_size(self) -> int:
        return self._rust.get_vocab_size()

    def id_of(self, token: str) -> int:
        """The id of a token that is known to be in the vocabulary. Raises KeyError otherwise."""
        found = self._rust.token_to_id(token)
        if found is None:
            raise KeyError(token)
        return found

    def encode(
        self, texts: Sequence[str], *, max_tokens: int, special: bool = True
    ) -> list[list[int]]:
        """Token ids of each text, special tokens included, at most `max_tokens` of them."""
        self._rust.enable_truncation(max_tokens)
        try:
            encoded = self._rust.encode_batch_fast(
                [clip(text, max_tokens) for text in texts], add_special_tokens=special
            )
            return [e.ids for e in encoded]
        finally:
            self._rust.no_truncation()

    def decode(self, tokens: Iterable[int]) -> str:
        return self._rust.decode(list(tokens), skip_special_tokens=True)


def clip(text: str, max_tokens: int, *, characters_per_token: int = 32) -> str:
    """The part of a text that can still matter: a token rarely has more than 32 characters.

    Spares tokenizing the rest of a 200,000-character text that is cut at 256 tokens anyway.
    """
    return text[: max_tokens * characters_per_token]


def train_wordpiece(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """BERT's tokenizer (lower-cased WordPiece) with a vocabulary of these texts' own."""
    rust = RustTokenizer(models.WordPiece(unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer(lowercase=True)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=BERT_SPECIALS, show_progress=False
    )
    rust.train_from_iterator(texts, trainer)
    cls, sep = rust.token_to_id("[CLS]"), rust.token_to_id("[SEP]")
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return Tokenizer(rust)


def train_byte_pairs(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """GPT-2's tokenizer (byte-level BPE) with merges of these texts' own; ends with end-of-text."""
    rust = RustTokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rust.train_from_iterator(texts, trainer)
    end = rust.token_to_id(END_OF_TEXT)
    rust.post_processor = processors.TemplateProcessing(
        single=f"$A {END_OF_TEXT}", special_tokens=[(END_OF_TEXT, end)]
    )
    return Tokenizer(rust)
