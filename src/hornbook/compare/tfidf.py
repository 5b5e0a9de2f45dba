"""TF-IDF features of documents: blocks of word or character n-grams, each weighed on its own.

Counting is the slow part and needs no labels; weighing is fast and is done anew in every fold, from
that fold's training rows alone, exactly as if the others had never been seen.
Letters in shapes: N documents, F features.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer

from hornbook.data.examples import Document

Array = np.ndarray
_WORD = r"(?u)\b\w[\w.&'-]*\w\b|\b\w\b"  # "u.s", "at&t" and "year-on-year" are words
_NUMBER = re.compile(r"\d[\d,.]*")


@dataclass(frozen=True)
class Block:
    """One kind of n-gram. `weight` scales the block, whose rows otherwise have length 1."""

    part: Literal["full", "text", "title"]
    unit: Literal["word", "char_wb"]
    shortest: int
    longest: int
    min_df: int = 2  # documents
    weight: float = 1.0

    def describe(self) -> str:
        unit = "words" if self.unit == "word" else "characters"
        return f"{unit} {self.shortest}-{self.longest}, {self.part}"

    def vectorizer(self, vocabulary: dict[str, int] | None = None) -> CountVectorizer:
        return CountVectorizer(
            analyzer=self.unit,
            ngram_range=(self.shortest, self.longest),
            preprocessor=normalize,
            token_pattern=_WORD if self.unit == "word" else None,
            min_df=self.min_df if vocabulary is None else 1,
            vocabulary=vocabulary,
            dtype=np.float32,
        )

    def texts(self, documents: Sequence[Document]) -> list[str]:
        return [getattr(document, self.part) for document in documents]


def normalize(text: str) -> str:
    """Lower case, and every number as 0: "1,234.5" tells no more of a topic than another one."""
    return _NUMBER.sub(" 0 ", text.lower())


@dataclass(frozen=True, eq=False)
class Counted:
    """The n-gram counts (N, F) of documents under one block, and what each column stands for."""

    block: Block
    vocabulary: list[str]
    counts: sp.csr_matrix


def count(block: Block, documents: Sequence[Document]) -> list[Counted]:
    """Count the n-grams that occur in enough documents: one `Counted`, or none without any."""
    texts = block.texts(documents)
    vectorizer = block.vectorizer()
    if len(texts) < 2 * block.min_df:
        vectorizer.min_df = 1
    analyze = vectorizer.build_analyzer()
    if not any(analyze(text) for text in texts):
        return []  # what follows refuses an empty vocabulary
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # no n-gram is in min_df documents
        return []
    return [Counted(block, vectorizer.get_feature_names_out().tolist(), counts)]


def inverse_frequencies(counted: Sequence[Counted], rows: np.ndarray | None = None) -> list[Array]:
    """Smoothed inverse document frequencies, one array (F,) a block, from the rows named.

    0 for an n-gram that is not in enough of those rows, as if it weren't in the vocabulary.
    """
    frequencies = []
    for part in counted:
        counts = part.counts if rows is None else part.counts[rows]
        n_documents = counts.shape[0]
        df = np.bincount(counts.indices, minlength=counts.shape[1])
        least = part.block.min_df if n_documents >= 2 * part.block.min_df else 1
        idf = np.log((1 + n_documents) / (1 + df)) + 1
        frequencies.append(np.where(df >= least, idf, 0.0).astype(np.float32))
    return frequencies


def weigh(
    blocks: Sequence[Block], counts: Sequence[sp.csr_matrix], frequencies: Sequence[Array]
) -> sp.csr_matrix:
    """Counts of each block (N, F_b) to one feature matrix (N, F) float32.

    Within a block: (1 + log count) * idf, rows scaled to length 1 and then by the block's weight.
    """
    weighed = []
    for block, matrix, idf in zip(blocks, counts, frequencies, strict=True):
        part = matrix.astype(np.float32, copy=True)
        part.data = (1 + np.log(part.data)) * idf[part.indices]
        length = np.sqrt(np.asarray(part.multiply(part).sum(axis=1)).ravel())
        scale = block.weight / np.where(length > 0, length, 1)
        part.data *= np.repeat(scale, np.diff(part.indptr)).astype(np.float32)
        weighed.append(part)
    features = sp.hstack(weighed, format="csr", dtype=np.float32)
    features.eliminate_zeros()
    features.sum_duplicates()  # now, since scipy would do it lazily: in several threads at once
    return features


class Tfidf:
    """Fitted features: turns any documents into (N, F) float32 rows."""

    def __init__(
        self, blocks: Sequence[Block], vocabularies: Sequence[list[str]], idf: Sequence[Array]
    ) -> None:
        self.blocks, self.vocabularies, self.idf = list(blocks), list(vocabularies), list(idf)
        self._vectorizers = [
            block.vectorizer({term: i for i, term in enumerate(vocabulary)})
            for block, vocabulary in zip(blocks, vocabularies, strict=True)
        ]

    @classmethod
    def of(cls, counted: Sequence[Counted]) -> Tfidf:
        """The features of all rows counted."""
        return cls(
            [part.block for part in counted],
            [part.vocabulary for part in counted],
            inverse_frequencies(counted),
        )

    def transform(self, documents: Sequence[Document]) -> sp.csr_matrix:
        counts = [
            vectorizer.transform(block.texts(documents))
            for block, vectorizer in zip(self.blocks, self._vectorizers, strict=True)
        ]
        return weigh(self.blocks, counts, self.idf)

    def to_json(self) -> str:
        """Blocks and vocabularies; the frequencies are arrays and are saved with the weights."""
        return json.dumps(
            {"blocks": [asdict(block) for block in self.blocks], "vocabularies": self.vocabularies}
        )

    @classmethod
    def from_json(cls, text: str, idf: Sequence[Array]) -> Tfidf:
        saved = json.loads(text)
        return cls([Block(**block) for block in saved["blocks"]], saved["vocabularies"], idf)
