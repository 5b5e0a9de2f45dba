"""Find texts that are the same or nearly so, in time and memory that grow with the texts only.

Texts are compared as sets of word 3-grams ("shingles", Broder 1997). Two sets with a Jaccard index
of at least t must share one of the rarest few shingles of each (prefix filtering, Chaudhuri et al.
2006), so only texts that meet in such a shingle are compared. Where more than `NEIGHBOURS` texts
have it in common, each is compared with so many next to it in length, those of one length in random
order: that bounds time and memory, joins a family of form letters into one group all the same, and
pairs each letter in a test split with some in training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

WORDS_PER_SHINGLE = 3
NEIGHBOURS = 20
# A run of word characters; Chinese and Japanese write no spaces, so there each sign is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two positions, first < second, and the Jaccard index of their shingles."""

    first: int
    second: int
    similarity: float
    exact: bool  # the same words in the same order


def normalised(text: str) -> str:
    """The words of a text in lower case with one space between; the text itself if it has none."""
    folded = text.casefold()
    return " ".join(_WORD.findall(folded)) or folded.strip()


def find_duplicates(texts: Sequence[str], threshold: float = 0.8) -> list[Pair]:
    """Pairs of equal or similar texts, sorted by position; texts without a character are left out.

    Every exact copy is paired with the first text that it equals, and only these first texts are
    compared for similarity: n copies of a text give n - 1 pairs. threshold: Jaccard index, 0..1.
    """
    first_seen: dict[str, int] = {}
    pairs = []
    for i, text in enumerate(map(normalised, texts)):
        if text and (first := first_seen.setdefault(text, i)) != i:
            pairs.append(Pair(first, i, 1.0, exact=True))
    positions = np.fromiter(first_seen.values(), np.int64, len(first_seen))
    for a, b, similarity in _similar([t.split() for t in first_seen if t], threshold):
        pairs.append(Pair(int(positions[a]), int(positions[b]), similarity, exact=False))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def groups(n_texts: int, pairs: Iterable[Pair]) -> np.ndarray:
    """A group number for each text (n_texts,): texts linked by pairs, if in a chain, share one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = np.array([(p.first, p.second) for p in pairs], dtype=np.int64).reshape(-1, 2)
    ones = np.ones(len(links), dtype=np.int8)
    graph = coo_array((ones, (links[:, 0], links[:, 1])), shape=(n_texts, n_texts))
    return connected_components(graph, directed=False)[1]


def _similar(texts: list[list[str]], threshold: float) -> Iterable[tuple[int, int, float]]:
    """Pairs of word lists (first < second) with Jaccard index >= threshold, and the index."""
    from scipy.sparse import csr_array

    if len(texts) < 2:
        return
    text, shingle = _shingles(texts)
    n_shingles_in = np.bincount(text, minlength=len(texts))
    candidates = _candidates(text, shingle, n_shingles_in, threshold)
    ones = np.ones(len(text), dtype=np.int32)
    table = csr_array((ones, (text, shingle)), shape=(len(texts), int(shingle.max()) + 1))
    for block in np.array_split(candidates, len(candidates) // 20_000 + 1):
        first, second = block.T
        shared = table[first].multiply(table[second]).sum(axis=1)
        index = shared / (n_shingles_in[first] + n_shingles_in[second] - shared)
        for row in np.flatnonzero(index >= threshold):
            yield int(first[row]), int(second[row]), float(index[row])


def _shingles(texts: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Text and shingle number of each different shingle of each text; rare shingles number lowest.

    A text shorter than a shingle is one shingle as a whole.
    """
    numbers: dict[str, int] = {}
    codes, owners = [], []
    base = np.uint64(len(set().union(*texts)) + 1)  # unique up to 2.6 million words, then a hash
    for i, words in enumerate(texts):
        ids = np.array([numbers.setdefault(w, len(numbers) + 1) for w in words], dtype=np.uint64)
        if len(ids) < WORDS_PER_SHINGLE:
            ids = np.pad(ids, (0, WORDS_PER_SHINGLE - len(ids)))
        n = len(ids) - WORDS_PER_SHINGLE + 1
        code = np.zeros(n, dtype=np.uint64)
        for k in range(WORDS_PER_SHINGLE):
            code = code * base + ids[k : k + n]
        code = np.unique(code)
        codes.append(code)
        owners.append(np.full(len(code), i, dtype=np.int64))
    _, shingle, frequency = np.unique(
        np.concatenate(codes), return_inverse=True, return_counts=True
    )
    by_rarity = np.argsort(np.argsort(frequency, kind="stable"), kind="stable")
    return np.concatenate(owners), by_rarity[shingle]


def _candidates(
    text: np.ndarray, shingle: np.ndarray, n_shingles_in: np.ndarray, threshold: float
) -> np.ndarray:
    """Pairs (n, 2) of texts that share one of their rarest shingles and are of similar length."""
    order = np.lexsort((shingle, text))
    text, shingle = text[order], shingle[order]
    starts = np.concatenate([[0], np.cumsum(n_shingles_in)[:-1]])
    rank = np.arange(len(text)) - starts[text]
    # With index >= t, the first n - ceil(t n) + 1 shingles of each, rarest first, must meet.
    needed = np.ceil(threshold * n_shingles_in - 1e-9).astype(np.int64)
    rare = rank <= (n_shingles_in - needed)[text]
    text, shingle = text[rare], shingle[rare]

    shuffled = np.random.default_rng(0).permutation(len(n_shingles_in))
    order = np.lexsort((shuffled[text], n_shingles_in[text], shingle))
    text, shingle = text[order], shingle[order]
    found = [np.empty((0, 2), dtype=np.int64)]
    for step in range(1, NEIGHBOURS + 1):
        meet = np.flatnonzero(shingle[step:] == shingle[:-step])
        if not len(meet):
            break
        shorter, longer = text[meet], text[meet + step]
        similar_length = n_shingles_in[shorter] >= threshold * n_shingles_in[longer] - 1e-9
        both = np.stack([shorter[similar_length], longer[similar_length]], axis=1)
        found.append(np.unique(np.sort(both, axis=1), axis=0))
    return np.unique(np.concatenate(found), axis=0)
