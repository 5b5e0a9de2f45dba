"""Tiny Shakespeare: 40,000 lines of the plays, the usual test of small language models."""

from __future__ import annotations

from hornbook.data.corpora import CorpusCard
from hornbook.data.corpora.single_file import single_file
from hornbook.data.corpus import Corpus, of_text

CARD = CorpusCard(
    name="tinyshakespeare",
    summary="40,000 lines of Shakespeare's plays",
    size="1,115,394 characters, 65 of them different",
    source="karpathy/char-rnn, data/tinyshakespeare/input.txt",
    licence="text in the public domain",
    split="first 90 % (1,003,854) / last 10 % (111,540) of the characters",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)

URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/"
    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt"
)


def load(validation_share: float = 0.1) -> Corpus:
    """Read the text as it is, cut where nanoGPT cuts it."""
    path = single_file("tinyshakespeare", "input.txt", url=URL, sha256=CARD.sha256)
    text = path.read_text(encoding="utf-8")
    return of_text(CARD.name, text, validation_share, source=CARD.source, licence=CARD.licence)
