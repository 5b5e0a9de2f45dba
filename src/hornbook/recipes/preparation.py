"""From a corpus to what training reads: a tokenizer, and the tokens of both parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hornbook.data.corpus import Corpus, open_corpus
from hornbook.data.packing import TokenArray, pack_corpus
from hornbook.data.pairs import open_pairs
from hornbook.data.shards import MANIFEST, TokenShards
from hornbook.data.tokenizing import encode_documents, grouped
from hornbook.errors import ConfigError, DataError
from hornbook.models.presets import preset
from hornbook.recipes.dial import ENCODERS, Asked
from hornbook.tasks.seq2seq import bounds
from hornbook.text.builtin import open_tokenizer
from hornbook.text.tokenizer import BERT_SPECIALS, Tokenizer
from hornbook.text.train import ALGORITHMS, train_tokenizer

SMALL = 3_000_000  # bytes; below, characters leave more steps to learn from than pieces of words
SHARDED = "as sharded"  # the name of a tokenizer that came with token files
LARGEST = 2_000_000_000  # bytes of text that are tokenized into memory


LONGEST_PAIR = 256  # tokens of a side, where nobody says what the model reads


@dataclass(frozen=True)
class Prepared:
    """A corpus as token ids. name: what the tokenizer is, for people: "character".

    sources: of pairs of texts, what each document of both parts is written from; a pair's two
    documents end with the token for the end of a text. longest: tokens of the longest of them.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    name: str
    train: TokenArray | TokenShards
    validation: TokenArray | TokenShards
    sources: tuple[TokenArray, TokenArray] | None = None
    longest: int | None = None


def prepare(asked: Asked, *, tokenizer: Tokenizer | None = None) -> Prepared:
    """Open the corpus, train or open the tokenizer (given: a resumed run's), tokenize both parts.

    Raises DataError for a text that is empty, too short or too large for memory, ConfigError for a
    tokenizer that doesn't exist.
    """
    if asked.family == "seq2seq":
        return _from_pairs(asked, tokenizer)
    if (Path(asked.data) / "train" / MANIFEST).is_file():
        return _from_shards(asked, Path(asked.data))
    corpus = open_corpus(asked.data, text=asked.text)
    if (corpus.n_bytes or 0) > LARGEST:
        raise DataError(
            f"{corpus.name} has {corpus.n_bytes:,} bytes, more than are tokenized into memory",
            hint=f"Write shards once: hornbook data shard {asked.data} --out DIR; then --data DIR.",
        )
    name = asked.tokenizer or _usual(asked, corpus)
    tokenizer = tokenizer or open_or_train(name, corpus, asked.vocab_size, asked.family)
    _check_tokenizer(asked.family, name, tokenizer)
    return Prepared(corpus, tokenizer, name, *pack_corpus(corpus, tokenizer))


def _from_pairs(asked: Asked, tokenizer: Tokenizer | None) -> Prepared:
    """Pairs of texts, by one vocabulary for both sides (Vaswani et al. 2017, section 5.1).

    Pairs of which a side is longer than the model's context are left out, and said.
    """
    pairs = open_pairs(asked.data, source=asked.source, target=asked.target, text=asked.text)
    corpus = pairs.corpus()
    name = asked.tokenizer or "bpe"
    tokenizer = tokenizer or open_or_train(name, corpus, asked.vocab_size)
    end = bounds(tokenizer)[1]
    context = asked.context_length
    if context is None:
        context = preset(asked.preset)[1].context_length if asked.preset else LONGEST_PAIR
    packed, longest = [], 0
    for part, given in (("train", pairs.train), ("validation", pairs.validation)):
        sides = [_encoded([pair[side] for pair in given], tokenizer, end) for side in (0, 1)]
        kept = [i for i, (s, t) in enumerate(zip(*sides)) if max(len(s), len(t)) <= context]
        if n_left_out := len(given) - len(kept):
            corpus.notes.append(
                f"{n_left_out:,} of {len(given):,} pairs of the {part} part have a side of more "
                f"than {context} tokens and were left out (--context for more)."
            )
        if not kept:
            raise DataError(
                f"no pair of {corpus.name} fits into {context} tokens",
                hint="Take a longer --context, or cut the texts.",
            )
        longest = max(longest, *(len(side[i]) for side in sides for i in kept))
        n_bytes = sum(len(given[i][1].encode("utf-8", "replace")) for i in kept)
        packed.append([_packed([side[i] for i in kept], n_bytes) for side in sides])
    (train_sources, train), (validation_sources, validation) = packed
    sources = train_sources, validation_sources
    return Prepared(corpus, tokenizer, name, train, validation, sources, longest)


def _encoded(texts: list[str], tokenizer: Tokenizer, end: int) -> list[np.ndarray]:
    groups = grouped(texts)
    return [row for group in groups for row in encode_documents(group, tokenizer, end=end)]


def _packed(rows: list[np.ndarray], n_bytes: int) -> TokenArray:
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    return TokenArray(np.concatenate(rows), ends, n_bytes)


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
    _check_tokenizer(asked.family, f"of {folder}", tokenizer)
    return Prepared(nothing, tokenizer, SHARDED, train, validation)


def open_or_train(name: str, corpus: Corpus, vocab_size: int | None, family: str = "") -> Tokenizer:
    """Train an algorithm on the training part; or open a folder, or one known by name.

    An encoder's vocabulary, whatever the algorithm, begins with BERT's special tokens.
    """
    if name in ALGORITHMS:
        special = BERT_SPECIALS if family in ENCODERS else None
        return train_tokenizer(name, corpus.train, vocab_size, special=special)
    opened = open_tokenizer(name)
    if vocab_size not in (None, opened.vocab_size):
        raise ConfigError(
            f"the vocabulary of {name} has {opened.vocab_size:,} tokens, not {vocab_size:,}",
            hint="Leave --vocab-size out.",
        )
    return opened


def _check_tokenizer(family: str, name: str, tokenizer: Tokenizer) -> None:
    """An encoder's has a token to hide others behind."""
    if family in ENCODERS and tokenizer.rust.token_to_id("[MASK]") is None:
        raise ConfigError(
            f"the tokenizer {name} has no token [MASK] to hide others behind, as {family} needs",
            hint="Let one be trained here (--tokenizer wordpiece or bpe), or take "
            "bert-base-uncased.",
        )


def _usual(asked: Asked, corpus: Corpus) -> str:
    if asked.family in ENCODERS:
        return "wordpiece"
    if asked.counting:  # which takes a small vocabulary
        return "character"
    return "character" if (corpus.n_bytes or SMALL) < SMALL else "bpe"
