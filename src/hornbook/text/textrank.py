"""TextRank (Mihalcea and Tarau 2004): the sentences of a text that most of the others speak of.

    similarity    the words that two sentences share / (log words of one + log words of the other)
    score         (1 - d) + d * the scores of a sentence's neighbours, each of which divides its own
                  among its neighbours by similarity

Nothing is learnt and nothing is written: a summary is some of the text's own sentences, in its
order. Sentences of one word have no similarity, as its logarithm is 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from hornbook.errors import DataError
from hornbook.text.sentences import sentences

DAMPING = 0.85  # d, as of PageRank (Brin and Page 1998)
MOST = 5000  # sentences: their similarities are 100 MB then
_CLOSE = 1e-4  # the paper's: scores that move less have settled
_ROUNDS = 200
_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class Ranked:
    """A sentence, its number in the text from 0, and its score, about 1 on the mean."""

    text: str
    number: int
    score: float


def summary(text: str, n_sentences: int = 3) -> list[Ranked]:
    """The highest sentences, in the text's order; of equal ones the first.

    Raises DataError for more than MOST sentences.
    """
    found = sentences(text)
    if len(found) > MOST:
        raise DataError(
            f"the text has {len(found):,} sentences; TextRank compares each with each, of at most "
            f"{MOST:,}",
            hint="Summarize its chapters.",
        )
    scores = ranks(similarities([_WORD.findall(sentence.casefold()) for sentence in found]))
    best = np.argsort(-scores, kind="stable")[:n_sentences]
    return [Ranked(found[i], i, float(scores[i])) for i in sorted(best.tolist())]


def similarities(words: list[list[str]]) -> np.ndarray:
    """(S, S) float32 of sentences as words; 0 of a sentence with itself."""
    vocabulary: dict[str, list[int]] = {}
    for i, sentence in enumerate(words):
        for word in dict.fromkeys(sentence):
            vocabulary.setdefault(word, []).append(i)
    shared = np.zeros((len(words), len(words)), np.float32)
    for places in vocabulary.values():
        shared[np.ix_(places, places)] += 1
    np.fill_diagonal(shared, 0)
    lengths = np.array([len(sentence) for sentence in words])
    logs = np.log(np.maximum(lengths, 1)).astype(np.float32)
    told = lengths > 1
    return np.divide(
        shared, logs[:, None] + logs, out=np.zeros_like(shared), where=told[:, None] & told
    )


def ranks(similarity: np.ndarray) -> np.ndarray:
    """The scores (S,), from 1 each until they settle."""
    given = similarity.sum(0)  # what each has to divide
    scores = np.ones(len(similarity), np.float32)
    for _ in range(_ROUNDS):
        shares = np.divide(scores, given, out=np.zeros_like(scores), where=given > 0)
        before, scores = scores, (1 - DAMPING) + DAMPING * (similarity @ shares)
        if np.abs(scores - before).max(initial=0.0) < _CLOSE:
            break
    return scores
