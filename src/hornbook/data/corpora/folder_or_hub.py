"""A corpus of many files: a folder of a data folder where it lies, else the hub, in a stream."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hornbook import files
from hornbook.data.corpora import CorpusCard
from hornbook.data.corpora.single_file import OFFLINE_HINT
from hornbook.data.corpus import Corpus, by_document, open_corpus
from hornbook.data.texttables import hub_texts
from hornbook.errors import UnavailableError


def folder_or_hub(card: CorpusCard, hub_name: str, column: str, validation_share: float) -> Corpus:
    """The files in `card.name` of the first data folder that has it, or "owner/name" of the hub.

    Raises UnavailableError where both are out of reach: it says where the files were looked for.
    """
    places = [parent / card.name for parent in files.data_folders()]
    for place in places:
        if place.is_dir():
            found = open_corpus(place, text=column, validation_share=validation_share)
            return replace(found, name=card.name, source=str(place), licence=card.licence)
    notes: list[str] = []
    documents = partial(hub_texts, hub_name, column, notes)
    try:
        return by_document(
            card.name,
            documents,
            validation_share,
            source=card.source,
            licence=card.licence,
            notes=notes,
        )
    except UnavailableError as error:
        raise UnavailableError(
            f"the corpus '{card.name}' is not on this machine; looked for the folders "
            f"{', '.join(map(str, places))}, then at the hub: {error.message}",
            hint="Put its files (txt, jsonl, parquet, tar, also compressed) into one of these "
            f"folders, or pip install 'hornbook[hub]' and connect. {OFFLINE_HINT}",
        ) from error
