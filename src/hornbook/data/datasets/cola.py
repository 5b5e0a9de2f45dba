"""CoLA: sentences of linguistics papers, acceptable English or not. Warstadt et al. 2019."""

from __future__ import annotations

import zipfile

from hornbook.data.datasets import Card
from hornbook.data.datasets.local import local_file
from hornbook.data.examples import Document, Example, TextDataset
from hornbook.errors import DataError

CARD = Card(
    name="cola",
    summary="sentences of linguistics papers, acceptable English or not",
    size="9,594 texts (8,551 train, 1,043 test), 2 labels",
    source="nyu-mll.github.io/CoLA, public part",
    licence="none; excerpts for research (fair use)",
)
LABELS = {"0": "unacceptable", "1": "acceptable"}


def load() -> TextDataset:
    """Read the archive as published; a line is source, label, mark, sentence, with tabs between.

    The test part is GLUE's dev, both of the corpus's dev files: GLUE's own test labels are secret.
    """
    path = local_file("cola", "cola_public.zip", "nyu-mll.github.io/CoLA")
    try:
        with zipfile.ZipFile(path) as archive:
            train = _read(archive, "in_domain_train")
            test = _read(archive, "in_domain_dev") + _read(archive, "out_of_domain_dev")
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path} is not the archive: {error}", hint="Fetch it again.") from error
    return TextDataset(
        name=CARD.name,
        train=train,
        test=test,
        source=CARD.source,
        licence=CARD.licence,
        notes=["The test part is GLUE's dev part, of 1,043 sentences."],
        label_descriptions={
            "acceptable": "a sentence of correct English",
            "unacceptable": "a sentence that breaks a rule of English",
        },
    )


def _read(archive: zipfile.ZipFile, part: str) -> list[Example]:
    text = archive.read(f"cola_public/raw/{part}.tsv").decode("utf-8")
    rows = [line.split("\t") for line in text.split("\n") if line]
    return [
        Example(Document(row[3].strip()), (LABELS[row[1]],), f"{part}:{i}")
        for i, row in enumerate(rows, start=1)
    ]
