"""Tiny Textbooks (Nam Pham 2023): short lessons written by a language model."""

from __future__ import annotations

from hornbook.data.corpora import CorpusCard
from hornbook.data.corpora.folder_or_hub import folder_or_hub
from hornbook.data.corpus import Corpus

CARD = CorpusCard(
    name="tiny-textbooks",
    summary="420,000 short lessons, written by a language model",
    size="about 420,000 documents",
    source="hf://nampdn-ai/tiny-textbooks",
    licence="CC BY-NC-SA 4.0",
    split="by document, 95 % / 5 % of the training part",
)


def load(validation_share: float = 0.05) -> Corpus:
    """The files in a folder `tiny-textbooks`; else the hub, its column `textbook`."""
    return folder_or_hub(CARD, "nampdn-ai/tiny-textbooks", "textbook", validation_share)
