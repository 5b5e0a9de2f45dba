"""From a corpus to what training reads: a tokenizer, and the tokens of both parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hornbook.data.corpus import Corpus, open_corpus
from hornbook.data.packing import TokenArray, pack_corpus
from hornbook.data.shards import MANIFEST, TokenShards
from hornbook.errors import ConfigError, DataError
from hornbook.recipes.dial import Asked
from hornbook.text.builtin import open_tokenizer
from hornbook.text.tokenizer import Tokenizer
from hornbook.text.train import ALGORITHMS, train_tokenizer

SMALL = 3_000_000  # bytes; below, characters leave more steps to learn from than pieces of words
SHARDED = "as sharded"  # the name of a tokenizer that came with token files
LARGEST = 2_000_000_000  # bytes of text that are tokenized into memory


@dataclass(frozen=True)
class Prepared:
    """A corpus as token ids. name: what the tokenizer is, for people: "character"."""

    corpus: Corpus
    tokenizer: Tokenizer
    name: str
    train: TokenArray | TokenShards
    validation: TokenArray | TokenShards


def prepare(asked: Asked, *, tokenizer: Tokenizer | None = None) -> Prepared:
    """Open the corpus, train or open the tokenizer (given: a resumed run's), tokenize both parts.

    Raises DataError for a text that is empty, too short or too large for memory, ConfigError for a
    tokenizer that doesn't exist.
    """
    if (Path(asked.data) / "train" / MANIFEST).is_file():
        return _from_shards(asked, Path(asked.data))
    corpus = open_corpus(asked.data, text=asked.text)
    if (corpus.n_bytes or 0) > LARGEST:
        raise DataError(
            f"{corpus.name} has {corpus.n_bytes:,} bytes, more than are tokenized into memory",
            hint=f"Write shards once: hornbook data shard {asked.data} --out DIR; then --data DIR.",
        )
    name = asked.tokenizer or _usual(asked, corpus)
    tokenizer = tokenizer or open_or_train(name, corpus, asked.vocab_size)
    return Prepared(corpus, tokenizer, name, *pack_corpus(corpus, tokenizer))


def _from_shards(asked: Asked, folder: Path) -> Prepared:
    """Token files that `hornbook data shard` wrote, with the tokenizer that wrote them."""
    if asked.tokenizer not in (None, SHARDED):
        raise ConfigError(
            f"{folder} holds tokens already, by its own tokenizer",
            hint="Leave --tokenizer out, or give the text itself.",
        )
    train, validation = (TokenShards.open(folder / part) for part in ("train", "validation"))
    nothing: Corpus = Corpus(folder.name, lambda: iter(()), lambda: iter(()), source=str(folder))
    tokenizer = Tokenizer.load(folder / "train" / "tokenizer.json")
    return Prepared(nothing, tokenizer, SHARDED, train, validation)


def open_or_train(name: str, corpus: Corpus, vocab_size: int | None) -> Tokenizer:
    """Train an algorithm on the training part; or open a folder, or one known by name."""
    if name in ALGORITHMS:
        return train_tokenizer(name, corpus.train, vocab_size)
    opened = open_tokenizer(name)
    if vocab_size not in (None, opened.vocab_size):
        raise ConfigError(
            f"the vocabulary of {name} has {opened.vocab_size:,} tokens, not {vocab_size:,}",
            hint="Leave --vocab-size out.",
        )
    return opened


def _usual(asked: Asked, corpus: Corpus) -> str:
    if asked.family in {"bert", "modern-bert"}:
        return "wordpiece"
    if asked.counting:  # which takes a small vocabulary
        return "character"
    return "character" if (corpus.n_bytes or SMALL) < SMALL else "bpe"
