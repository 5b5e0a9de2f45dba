"""The Verdict, Edith Wharton, 1908: a text small enough to learn by heart in seconds."""

from __future__ import annotations

from hornbook.data.corpora import CorpusCard
from hornbook.data.corpora.single_file import single_file
from hornbook.data.corpus import Corpus, of_text

CARD = CorpusCard(
    name="the_verdict",
    summary="The Verdict, a short story",
    size="20,479 characters, 62 of them different",
    source="Wikisource, by way of rasbt/LLMs-from-scratch, ch02/01_main-chapter-code",
    licence="public domain in the US",
    split="first 90 % / last 10 % of the characters",
    sha256="b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
)

URL = (
    "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/"
    "28c65cdfbc3338e2e040016eea4b7fdf556e4d57/ch02/01_main-chapter-code/the-verdict.txt"
)


def load(validation_share: float = 0.1) -> Corpus:
    """Read the story."""
    path = single_file("the_verdict", "the-verdict.txt", url=URL, sha256=CARD.sha256)
    text = path.read_text(encoding="utf-8")
    return of_text(CARD.name, text, validation_share, source=CARD.source, licence=CARD.licence)
