"""The docstrings of the running Python's standard library as running text: always at hand.

A document is the docstrings of one source file, in its order, without doctest examples. The
labelled set of the same name (data/datasets/pydocs.py) blanks the names of modules; here they stay.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

from hornbook.data.corpora import CorpusCard
from hornbook.data.corpus import Corpus, by_document
from hornbook.data.datasets import pydocs
from hornbook.errors import UnavailableError

CARD = CorpusCard(
    name="pydocs",
    summary="docstrings of Python's standard library; built in, works offline",
    size="about 1.5 million characters in 500 documents (Python 3.11)",
    source="the running interpreter's standard library",
    licence="PSF-2.0",
    split="by document, 90 % / 10 %",
)


def load(validation_share: float = 0.1) -> Corpus:
    """Read the docstrings; takes seconds each time the documents are gone through.

    Raises UnavailableError where the interpreter came without its library's sources.
    """
    texts = list(_documents(Path(sysconfig.get_paths()["stdlib"])))
    if len(texts) < 10:
        raise no_sources()
    return by_document(
        CARD.name, lambda: iter(texts), validation_share, source=CARD.source, licence=CARD.licence
    )


def no_sources() -> UnavailableError:
    return UnavailableError(
        "this Python came without the sources of its standard library",
        hint="Use your own text, or another Python.",
    )


def _documents(folder: Path) -> Iterator[str]:
    """A document a source file; a docstring seen before, in the same words, is left out."""
    seen: set[str] = set()
    for path in pydocs.sources(folder):
        texts = [text for _, text in pydocs.docstrings(pydocs.parse(path)) if text not in seen]
        seen.update(texts)
        if document := "\n\n".join(text for text in texts if text):
            yield document + "\n"
