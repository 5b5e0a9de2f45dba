"""Running text as examples: a document each, or a passage each where there is one long text.

How well a model foresees a text is told with an interval over examples, and of a single one there
is none: a book becomes passages of some hundred words, cut where lines end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from hornbook.data.columns import named_columns
from hornbook.data.corpora import CORPORA
from hornbook.data.corpus import Corpus, open_corpus
from hornbook.data.textfiles import cut_place
from hornbook.errors import DataError

PASSAGE = 4000  # characters
MOST_READ = 20_000  # old passages, of a corpus that may have no end
MOST_LEARNT, MOST_VALIDATED = 100_000, 2_000  # documents, which are held in memory


@dataclass(frozen=True, slots=True)
class Passage:
    """A text. ends: whether it comes to its end here, or goes on in what is another example."""

    text: str
    ends: bool = True


@dataclass(frozen=True)
class Divided:
    """Passages to learn from and to validate on, and the corpus that they are of."""

    corpus: Corpus
    train: list[Passage]
    validation: list[Passage]
    notes: list[str] = field(default_factory=list)


def open_passages(data: str, columns: Mapping[str, str], *, seed: int) -> Divided:
    """columns: text. Raises ConfigError for another, and as `data.corpus.open_corpus` does."""
    corpus, texts, held_out, notes = first_texts(data, columns, seed=seed)
    train = list(passages(texts, one_text=corpus.one_text))
    validation = list(passages(held_out, one_text=corpus.one_text))
    if corpus.one_text:
        notes.append(f"Examples are passages of about {PASSAGE:,} characters of the one text.")
    return Divided(corpus, train, validation, notes)


def first_texts(
    data: str, columns: Mapping[str, str], *, seed: int
) -> tuple[Corpus, list[str], list[str], list[str]]:
    """A corpus, its documents to learn from and to validate on, as many as memory bears, and notes.

    columns: text. Raises ConfigError for another, and as `data.corpus.open_corpus` does.
    """
    named = named_columns(columns, ("text",))
    corpus = open_corpus(data, text=named.get("text"), seed=seed)
    train = list(islice(corpus.train(), MOST_LEARNT + 1))
    validation = list(islice(corpus.validation(), MOST_VALIDATED))
    notes = list(corpus.notes)
    if len(train) > MOST_LEARNT:
        train.pop()
        notes.append(
            f"The first {MOST_LEARNT:,} documents are read; `hornbook train` reads a corpus of any "
            "size."
        )
    return corpus, train, validation, notes


def passages(documents: Iterable[str], *, one_text: bool) -> Iterator[Passage]:
    """Each document that is not blank; of one_text, whose pieces they are, its passages."""
    for document in documents:
        while one_text and len(document) > PASSAGE + PASSAGE // 2:
            cut = cut_place(document[: PASSAGE + 1], PASSAGE)
            if document[:cut].strip():
                yield Passage(document[:cut], ends=False)
            document = document[cut:]
        if document.strip():
            yield Passage(document, ends=not one_text)


def old_passages(
    source: str, size: Callable[[Sequence[str]], Sequence[int]], *, most: int
) -> list[Passage]:
    """Texts of the kind that a model is to go on knowing: none of them is ever learnt from.

    Of a built-in corpus its validation part, which a run trained on it has not seen; of anything
    else all. A long document's beginning stands for it. size: texts to what each costs; at most
    about `most` of that is taken, from all over. Raises DataError where there is none.
    """
    corpus = open_corpus(source)
    parts = [corpus.validation()] if source in CORPORA else [corpus.train(), corpus.validation()]
    every = (p for part in parts for p in passages(part, one_text=corpus.one_text))
    found = [_beginning(p) for p in islice(every, MOST_READ)]
    if not found:
        raise DataError(f"{source} holds no text to keep", hint="Give texts of the old kind.")
    some = found[:: max(1, len(found) // 100)]
    mean = max(1.0, sum(size([p.text for p in some])) / len(some))
    n = max(1, round(most / mean))
    if n >= len(found):
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, n).round().astype(int)]


def _beginning(passage: Passage) -> Passage:
    if len(passage.text) <= 2 * PASSAGE:
        return passage
    return Passage(passage.text[: cut_place(passage.text[: PASSAGE + 1], PASSAGE)], ends=False)
