"""TREC questions by the kind of answer they ask for, six coarse classes. Li and Roth 2002."""

from __future__ import annotations

from hornbook.data.datasets import Card
from hornbook.data.datasets.local import local_file
from hornbook.data.examples import Document, Example, TextDataset

CARD = Card(
    name="trec",
    summary="questions by the kind of answer they ask for",
    size="5,952 texts (5,452 train, 500 test), 6 labels",
    source="cogcomp.seas.upenn.edu/Data/QA/QC",
    licence="none stated; for research, with citation",
)

DESCRIPTIONS = {
    "ABBR": "an abbreviation or what it stands for",
    "DESC": "a description, definition, reason or manner",
    "ENTY": "a thing: animal, food, colour, product, term",
    "HUM": "a person or a group of people",
    "LOC": "a place",
    "NUM": "a number, date, count or amount",
}


def load() -> TextDataset:
    """Read both parts; a line is COARSE:fine, a space, the question in tokens. Latin-1."""
    train, test = (_read(name) for name in ("train_5500.label", "TREC_10.label"))
    return TextDataset(
        name=CARD.name,
        train=train,
        test=test,
        source=CARD.source,
        licence=CARD.licence,
        label_descriptions=DESCRIPTIONS,
    )


def _read(name: str) -> list[Example]:
    path = local_file("trec_qc", name, CARD.source)
    rows = [line.split(" ", 1) for line in path.read_text(encoding="latin-1").split("\n") if line]
    return [
        Example(Document(text.strip()), (label.partition(":")[0],), f"{name}:{i}")
        for i, (label, text) in enumerate(rows, start=1)
    ]
