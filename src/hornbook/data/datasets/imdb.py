"""IMDB: film reviews, positive or negative. Maas et al. 2011."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

from hornbook.data.datasets import Card
from hornbook.data.datasets.local import local_file
from hornbook.data.examples import Document, Example, TextDataset
from hornbook.errors import DataError

CARD = Card(
    name="imdb",
    summary="film reviews, positive or negative",
    size="50,000 texts (25,000 train, 25,000 test), 2 labels",
    source="ai.stanford.edu/~amaas/data/sentiment, the labelled part",
    licence="none stated; for research, with citation",
)
LABELS = {"neg": "negative", "pos": "positive"}


def load() -> TextDataset:
    """Read both archives; a member is a review, its folder the label. Line breaks are kept as such.

    Reviews of one film lie side by side in the archive, so take a part only after shuffling.
    """
    return TextDataset(
        name=CARD.name,
        train=_read("aclImdb_train.tar.gz"),
        test=_read("aclImdb_test.tar.gz"),
        source=CARD.source,
        licence=CARD.licence,
        label_descriptions={
            "negative": "a negative, disapproving review of a film",
            "positive": "a positive, approving review of a film",
        },
    )


def _read(name: str) -> list[Example]:
    path = local_file("imdb", name, "ai.stanford.edu/~amaas/data/sentiment")
    examples = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                place = Path(member.name)
                if place.suffix != ".txt" or place.parent.name not in LABELS:
                    continue
                content = archive.extractfile(member)
                text = content.read().decode("utf-8") if content else ""
                text = text.replace("<br />", "\n").strip()
                label = LABELS[place.parent.name]
                number = f"{place.parent.parent.name}/{place.parent.name}/{place.stem}"
                examples.append(Example(Document(text), (label,), number))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is not the archive: {error}", hint="Fetch it again.") from error
    return examples
