"""CodeParrot, cleaned: Python files of public repositories. (Without a network: `pycode`.)"""

from __future__ import annotations

from hornbook.data.corpora import CorpusCard
from hornbook.data.corpora.folder_or_hub import folder_or_hub
from hornbook.data.corpus import Corpus

CARD = CorpusCard(
    name="codeparrot",
    summary="Python files of public repositories, cleaned",
    size="about 5.4 million files, 50 GB",
    source="hf://codeparrot/codeparrot-clean",
    licence="each file under its repository's own",
    split="by document, 99.5 % / .5 %",
)


def load(validation_share: float = 0.005) -> Corpus:
    """The files in a folder `codeparrot`; else the hub."""
    return folder_or_hub(CARD, "codeparrot/codeparrot-clean", "content", validation_share)
