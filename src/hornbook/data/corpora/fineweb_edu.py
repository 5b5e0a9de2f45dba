"""FineWeb-Edu (Penedo et al. 2024): web pages that a classifier takes for educational."""

from __future__ import annotations

from hornbook.data.corpora import CorpusCard
from hornbook.data.corpora.folder_or_hub import folder_or_hub
from hornbook.data.corpus import Corpus

CARD = CorpusCard(
    name="fineweb-edu",
    summary="educational web pages; the sample of ten billion tokens",
    size="about 9.7 million documents, 10 billion tokens",
    source="hf://HuggingFaceFW/fineweb-edu:sample-10BT",
    licence="ODC-By 1.0",
    split="by document, 99.5 % / .5 %",
)


def load(validation_share: float = 0.005) -> Corpus:
    """The parquet files in a folder `fineweb-edu`; else the hub's sample-10BT."""
    return folder_or_hub(CARD, "HuggingFaceFW/fineweb-edu:sample-10BT", "text", validation_share)
