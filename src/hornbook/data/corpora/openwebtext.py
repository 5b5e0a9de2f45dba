"""OpenWebText (Gokaslan and Cohen 2019): the kind of web pages that GPT-2 was trained on."""

from __future__ import annotations

from hornbook.data.corpora import CorpusCard
from hornbook.data.corpora.folder_or_hub import folder_or_hub
from hornbook.data.corpus import Corpus

CARD = CorpusCard(
    name="openwebtext",
    summary="web pages linked from Reddit, as for GPT-2",
    size="8,013,769 documents, about 40 GB of text",
    source="hf://Skylion007/openwebtext",
    licence="CC0 for the compilation; the pages are their authors'",
    split="by document, 99.5 % / .5 %",
)


def load(validation_share: float = 0.005) -> Corpus:
    """The .xz archives as published, unpacked or not, in a folder `openwebtext`; else the hub."""
    return folder_or_hub(CARD, "Skylion007/openwebtext", "text", validation_share)
