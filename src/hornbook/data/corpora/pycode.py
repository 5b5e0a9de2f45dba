"""The source code of the running Python's standard library: code that is always at hand."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

from hornbook.data.corpora import CorpusCard
from hornbook.data.corpora.pydocs import no_sources
from hornbook.data.corpus import Corpus, by_document
from hornbook.data.datasets import pydocs

CARD = CorpusCard(
    name="pycode",
    summary="source code of Python's standard library; built in, works offline",
    size="about 11 million characters in 600 documents (Python 3.11)",
    source="the running interpreter's standard library",
    licence="PSF-2.0",
    split="by document, 90 % / 10 %",
)


def load(validation_share: float = 0.1) -> Corpus:
    """A document is a source file; tests and what merely ships with Python are left out.

    Raises UnavailableError where the interpreter came without its library's sources.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    if len(pydocs.sources(folder)) < 10:
        raise no_sources()
    return by_document(
        CARD.name,
        lambda: _documents(folder),
        validation_share,
        source=CARD.source,
        licence=CARD.licence,
    )


def _documents(folder: Path) -> Iterator[str]:
    for path in pydocs.sources(folder):
        if (text := path.read_text(encoding="utf-8", errors="replace")).strip():
            yield text
