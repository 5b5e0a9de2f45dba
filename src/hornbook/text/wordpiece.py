"""WordPiece: join the pair that belongs together most, then read words from the longest piece.

Byte pairs are joined when they are frequent; here, when they are frequent for what their parts are:

    score(a, b) = count(ab) / (count(a) * count(b))

which is how much likelier the text gets, a pair at a time, when a and b become one. So "qu" comes
early, since q is hardly ever without u, and rare letters that stand side by side come earlier
still; `min_frequency` keeps those out that were seen only a few times. A piece that continues a
word begins with "##". Reading takes the longest piece of the vocabulary that begins the word, then
the longest that goes on; a word that cannot be finished is [UNK] whole.

Every join changes the scores of all pairs its parts are in. Instead of following them, all are
computed anew for each join, by numpy, from counts that are kept up to date.

Source: Schuster and Nakajima 2012, section 3, for the score; reading and "##" as in BERT (Devlin et
al. 2019), whose text is also lower-cased and cut at spaces and punctuation. The trainer of the
`tokenizers` library joins by count alone: a vocabulary of its own, the same file and reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from hornbook.text.bpe import Pair, join
from hornbook.text.tokenizer import BERT_SPECIALS, Tokenizer

MAX_CHARACTERS = 100  # a longer word is [UNK], as in BERT

_normalizer = normalizers.BertNormalizer(lowercase=True)
_splitter = pre_tokenizers.BertPreTokenizer()
_decoder = decoders.WordPiece()


@dataclass(frozen=True)
class WordPiece:
    """A vocabulary, id by position; special tokens first, [UNK] among them."""

    tokens: Sequence[str]
    n_special: int = len(BERT_SPECIALS)
    _id_of: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_id_of", {token: i for i, token in enumerate(self.tokens)})

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without [CLS] and [SEP]."""
        return [i for word in words(text) for i in self._encode_word(word)]

    def _encode_word(self, word: str) -> list[int]:
        unknown = [self._id_of["[UNK]"]]
        ids: list[int] = []
        start = 0
        while start < len(word) <= MAX_CHARACTERS:
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in self._id_of:
                    ids.append(self._id_of[piece])
                    start = end
                    break
            else:
                return unknown
        return ids or unknown

    def decode(self, ids: Iterable[int]) -> str:
        """Words with a space between any two: case, accents and spacing don't come back."""
        pieces = [self.tokens[i] for i in ids if i >= self.n_special]
        return _decoder.decode(pieces)

    def tokenizer(self) -> Tokenizer:
        """The same vocabulary, run by the `tokenizers` library; it adds [CLS] and [SEP]."""
        model = models.WordPiece(
            vocab=self._id_of, unk_token="[UNK]", max_input_chars_per_word=MAX_CHARACTERS
        )
        rust = bert_like(RustTokenizer(model))
        rust.add_special_tokens(list(self.tokens[: self.n_special]))
        return Tokenizer(wrapped(rust))

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        self.tokenizer().save(path)


def words(text: str) -> list[str]:
    """BERT's words: lower case without accents, cut at spaces and around each punctuation mark."""
    cleaned = _normalizer.normalize_str(text)
    return [word for word, _ in _splitter.pre_tokenize_str(cleaned)]


def inside_words(texts: Iterable[str]) -> list[str]:
    """The pieces "##c" of all characters that some word goes on with, in their order."""
    both: set[tuple[str, str]] = set()
    for text in texts:
        both.update(pairwise(_normalizer.normalize_str(text)))
    uncut = (b for a, b in both if [w for w, _ in _splitter.pre_tokenize_str(a + b)] == [a + b])
    return sorted({f"##{character}" for character in uncut})


def train(
    texts: Iterable[str],
    vocab_size: int,
    *,
    min_frequency: int = 5,
    special: Sequence[str] = tuple(BERT_SPECIALS),
) -> WordPiece:
    """Learn a vocabulary of `vocab_size` tokens: special ones, characters, and what is joined.

    There are fewer when no pair is left that occurs `min_frequency` times.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words(text))
    spelled = {word: [word[0], *("##" + c for c in word[1:])] for word in counts}
    tokens = [*special, *sorted({piece for pieces in spelled.values() for piece in pieces})]
    id_of = {token: i for i, token in enumerate(tokens)}
    ids = [[id_of[piece] for piece in spelled[word]] for word in counts]
    _join_by_score(ids, list(counts.values()), tokens, vocab_size, min_frequency)
    return WordPiece(tokens, len(special))


def _join_by_score(
    words: Sequence[list[int]],
    times: Sequence[int],
    tokens: list[str],
    vocab_size: int,
    min_frequency: int,
) -> None:
    """Join pairs in `words` and append to `tokens`, best score first; among equals, the older."""
    id_of = {token: i for i, token in enumerate(tokens)}
    table = _Table(vocab_size)
    for w, word in enumerate(words):
        np.add.at(table.count_of, word, times[w])
        for both in pairwise(word):
            table.add(both, times[w], w)
    while len(tokens) < vocab_size:
        if (pair := table.best(min_frequency)) is None:
            break
        joined = tokens[pair[0]] + tokens[pair[1]].removeprefix("##")
        new = id_of.setdefault(joined, len(tokens))
        if new == len(tokens):
            tokens.append(joined)
        for w in table.found_in.pop(pair):
            before = len(words[w])
            for changed, by in join(words[w], pair, new):
                table.add(changed, by * times[w], w)
            n_joined = (before - len(words[w])) * times[w]
            table.count_of[pair[0]] -= n_joined
            table.count_of[pair[1]] -= n_joined
            table.count_of[new] += n_joined
        table.forget(pair)


class _Table:
    """Counts of tokens and of pairs, in arrays: row r says how often left[r] right[r] occurs."""

    def __init__(self, vocab_size: int) -> None:
        self.count_of = np.zeros(vocab_size, np.int64)
        self.found_in: dict[Pair, set[int]] = {}
        self._row_of: dict[Pair, int] = {}
        self._rows = np.zeros((3, 1024), np.int64)  # left, right, count

    def add(self, pair: Pair, by: int, word: int) -> None:
        row = self._row_of.setdefault(pair, len(self._row_of))
        if row == self._rows.shape[1]:
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)], axis=1)
        self._rows[:2, row] = pair
        self._rows[2, row] += by
        if by > 0:
            self.found_in.setdefault(pair, set()).add(word)

    def forget(self, pair: Pair) -> None:
        self._rows[2, self._row_of[pair]] = 0

    def best(self, min_frequency: int) -> Pair | None:
        """The pair of the highest score among those that occur often enough, if there is one."""
        left, right, count = self._rows[:, : len(self._row_of)]
        often = np.flatnonzero(count >= max(min_frequency, 1))
        if not len(often):
            return None
        parts = self.count_of[left[often]] * self.count_of[right[often]]
        row = often[np.argmax(count[often] / parts)]
        return int(left[row]), int(right[row])


def bert_like(rust: RustTokenizer) -> RustTokenizer:
    """Give a WordPiece model of the `tokenizers` library BERT's way from text to words."""
    rust.normalizer = _normalizer
    rust.pre_tokenizer = _splitter
    rust.decoder = _decoder
    return rust


def wrapped(rust: RustTokenizer) -> RustTokenizer:
    """Have [CLS] and [SEP] put around a text and between the two of a pair."""
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, rust.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return rust
