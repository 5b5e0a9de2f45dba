"""The Adventures of Sherlock Holmes, Arthur Conan Doyle, 1892: twelve stories, one text."""

from __future__ import annotations

from hornbook.data.corpora import CorpusCard
from hornbook.data.corpora.single_file import single_file
from hornbook.data.corpus import Corpus, of_text
from hornbook.errors import DataError

CARD = CorpusCard(
    name="sherlock",
    summary="The Adventures of Sherlock Holmes, a book",
    size="562,203 characters, 88 of them different",
    source="Project Gutenberg, eBook 1661, as of October 10, 2023",
    licence="public domain in the US; Project Gutenberg licence",
    split="first 80 % / last 20 % of the characters",
    sha256="a3218ac048b5b939f4972527a5486e3631a3619e7e1adfb8412fcbdd3d08c034",
)

# Gutenberg's own copy is edited from time to time; this one is of a commit.
URL = (
    "https://raw.githubusercontent.com/RU-ECE/ECE451-Parallel/"
    "c58dca3a6abedd8041057571c247e9a393cc3b4d/data/pg1661.txt"
)


def load(validation_share: float = 0.2) -> Corpus:
    """Read the book without the byte-order mark and Project Gutenberg's header and licence."""
    path = single_file("sherlock_holmes", "pg1661.txt", url=URL, sha256=CARD.sha256)
    text = without_gutenberg(path.read_text(encoding="utf-8-sig"), str(path))
    return of_text(CARD.name, text, validation_share, source=CARD.source, licence=CARD.licence)


def without_gutenberg(text: str, name: str) -> str:
    """What lies between Project Gutenberg's "*** START OF" and "*** END OF" lines, stripped.

    Raises DataError where these lines are missing.
    """
    _, start, rest = text.partition("*** START OF")
    _, _, rest = rest.partition("\n")
    body, end, _ = rest.partition("*** END OF")
    if not start or not end:
        raise DataError(
            f"{name} has no lines '*** START OF' and '*** END OF'",
            hint="Files of Project Gutenberg do; for another text give its path.",
        )
    return body.strip() + "\n"
