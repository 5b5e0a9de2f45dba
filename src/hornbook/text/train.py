"""Train a tokenizer on a corpus of any size: the algorithms of the pages, run by a Rust library.

Only characters, which need no speed, and unigram, which the library does worse, are learnt by their
pages.

Training keeps the different words of a text in memory, and what is found of each; a large corpus
has ever new ones, which is how training runs out of memory. So at most `SAMPLE` bytes are read,
evenly from the whole corpus: a vocabulary of tens of thousands does not get better by more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, processors, trainers

from hornbook.errors import ConfigError, DataError
from hornbook.registry import Registry
from hornbook.text import character, unigram, word
from hornbook.text.byte_level import ALPHABET, byte_level
from hornbook.text.tokenizer import BERT_SPECIALS, END_OF_TEXT, UNKNOWN_CHARACTER, Tokenizer
from hornbook.text.wordpiece import WordPiece, bert_like, inside_words

USUAL_SIZE = 8192  # tokens
SAMPLE = 100_000_000  # bytes of text that a vocabulary is learnt from
UNIGRAM_SAMPLE = 10_000_000  # bytes; its page counts words at about 1 MB a second
UNIGRAM_WORDS = 40_000  # different words; a minute or so
PIECE = 100_000  # characters: a longer document is read in pieces, cut between lines or words

Texts = Callable[[], Iterable[str]]
Say = Callable[[str], None]

_HERE = "hornbook.text.train:"

ALGORITHMS = Registry(
    "tokenizer algorithm",
    {
        "character": _HERE + "train_characters",
        "word": _HERE + "train_words",
        "bpe": _HERE + "train_bpe",
        "wordpiece": _HERE + "train_wordpieces",
        "unigram": _HERE + "train_unigram",
    },
)


def train_tokenizer(
    algorithm: str,
    texts: Texts,
    vocab_size: int | None = None,
    *,
    special: Sequence[str] | None = None,
    min_frequency: int = 2,
    sample: int = SAMPLE,
    say: Say = lambda _: None,
) -> Tokenizer:
    """Learn a vocabulary of at most `vocab_size` tokens from texts, which are read twice.

    vocab_size: USUAL_SIZE where None, but all characters for "character". special: tokens that come
    first, END_OF_TEXT where None, BERT's for wordpiece. min_frequency: how often a pair, and for
    word a word, has to occur. sample: bytes to learn from; a larger corpus is read in part, evenly.
    say: told in sentences what was read, and when the text supports fewer tokens than asked for.
    Raises UnknownNameError for the algorithm, DataError for a corpus without text, ConfigError for
    a vocabulary smaller than its algorithm begins with.
    """
    learn = ALGORITHMS.load(algorithm)
    if special is None:
        special = BERT_SPECIALS if algorithm == "wordpiece" else [END_OF_TEXT]
    if vocab_size is None:
        vocab_size = sys.maxunicode if algorithm == "character" else USUAL_SIZE
    least = len(special) + {"bpe": len(ALPHABET), "unigram": len(ALPHABET)}.get(algorithm, 2)
    if vocab_size < least:
        raise ConfigError(
            f"a vocabulary of {vocab_size} is too small for {algorithm}",
            hint=f"It needs at least {least}: special tokens, and what every text is made of.",
        )
    if algorithm == "unigram":
        sample = min(sample, UNIGRAM_SAMPLE)
    read = sampled(texts, sample, say)
    tokenizer: Tokenizer = learn(read, vocab_size, special=special, min_frequency=min_frequency)
    if tokenizer.vocab_size < vocab_size and algorithm != "character":
        say(
            f"The text supports {tokenizer.vocab_size:,} tokens, {vocab_size:,} were asked for: "
            "no further piece occurs often enough."
        )
    return tokenizer


def train_characters(
    texts: Iterable[str], vocab_size: int, *, special: Sequence[str], min_frequency: int = 1
) -> Tokenizer:
    """Every character of the texts, or the most frequent."""
    return character.train(texts, vocab_size, special=special).tokenizer()


def train_words(
    texts: Iterable[str], vocab_size: int, *, special: Sequence[str], min_frequency: int = 1
) -> Tokenizer:
    """The most frequent of GPT-2's words."""
    rust = byte_level(RustTokenizer(models.WordLevel(unk_token=UNKNOWN_CHARACTER)))
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*special, UNKNOWN_CHARACTER],
        show_progress=False,
    )
    rust.train_from_iterator(texts, trainer)
    learnt = Tokenizer(rust).tokens  # built anew, as "�" is no special token: it is to be read
    return word.Words(learnt, len(special)).tokenizer()


def train_bpe(
    texts: Iterable[str], vocab_size: int, *, special: Sequence[str], min_frequency: int = 2
) -> Tokenizer:
    """Byte-pair encoding over GPT-2's words."""
    rust = byte_level(RustTokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special),
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    rust.train_from_iterator(texts, trainer)
    return Tokenizer(rust)


def train_wordpieces(
    texts: Iterable[str], vocab_size: int, *, special: Sequence[str], min_frequency: int = 2
) -> Tokenizer:
    """WordPiece as in BERT, lower-cased; pairs are joined by their count.

    Among pairs of equal counts the library takes the one of lower ids, and it gives ids to the
    pieces "##c" in the order of a hash table, which is another at every call. Named beforehand,
    they have ids of ours, and the same text gives the same vocabulary.
    """
    rust = bert_like(RustTokenizer(models.WordPiece(unk_token="[UNK]")))
    texts = list(texts)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*special, *inside_words(texts)],
        show_progress=False,
    )
    rust.train_from_iterator(texts, trainer)
    return WordPiece(Tokenizer(rust).tokens, len(special)).tokenizer()


def train_unigram(
    texts: Iterable[str], vocab_size: int, *, special: Sequence[str], min_frequency: int = 2
) -> Tokenizer:
    """The unigram model over the bytes of GPT-2's words, by its page, from the frequent words.

    The library's trainer takes a quarter more tokens for the same text, since in its seed a word
    counts once however often it occurs (benchmarks/tokenizer_pages.py has the figures).
    """
    n_words = max(UNIGRAM_WORDS, 2 * vocab_size)
    return unigram.train(texts, vocab_size, special=special, n_words=n_words).tokenizer()


def train_wordpiece(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """BERT's tokenizer (lower-cased WordPiece) with a vocabulary of these texts' own."""
    return train_wordpieces(texts, vocab_size, special=BERT_SPECIALS, min_frequency=0)


def train_byte_pairs(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """GPT-2's tokenizer with merges of these texts' own; what it encodes ends with end-of-text."""
    tokenizer = train_bpe(texts, vocab_size, special=[END_OF_TEXT], min_frequency=0)
    tokenizer.rust.post_processor = processors.TemplateProcessing(
        single=f"$A {END_OF_TEXT}", special_tokens=[(END_OF_TEXT, tokenizer.id_of(END_OF_TEXT))]
    )
    return tokenizer


def sampled(texts: Texts, limit: int, say: Say) -> Iterator[str]:
    """Pieces of the texts, `limit` bytes of them at most, evenly from all of the corpus."""
    total = sum(len(text.encode(errors="replace")) for text in texts())
    if not total:
        raise DataError("the corpus holds no text", hint="Is it the right file, and not empty?")
    if total > limit:
        say(f"Read {limit / 1e6:,.0f} MB of {total / 1e6:,.0f} MB, evenly from the whole corpus.")
    pieces = pieces_of(texts(), min(PIECE, limit // 20 + 1))
    return evenly(pieces, min(1.0, limit / total))


def evenly(texts: Iterable[str], share: float) -> Iterator[str]:
    """Take a text whenever what was taken so far leaves room for it within the share."""
    seen = taken = 0
    for text in texts:
        seen += len(text)
        if taken + len(text) <= share * seen:
            taken += len(text)
            yield text


def pieces_of(texts: Iterable[str], longest: int = PIECE) -> Iterator[str]:
    """Texts, long ones in pieces of at most `longest` characters, cut before a space."""
    for text in texts:
        start = 0
        while len(text) - start > longest:
            space = text.rfind(" ", start + longest // 2, start + longest)
            end = space if space > start else start + longest
            yield text[start:end]
            start = end
        if start < len(text):
            yield text[start:]
