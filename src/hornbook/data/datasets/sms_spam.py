"""SMS Spam Collection v.1: text messages, ham or spam. Almeida, Gomez Hidalgo, Yamakami 2011."""

from __future__ import annotations

from hornbook.data.datasets import Card
from hornbook.data.datasets.local import local_file
from hornbook.data.examples import Document, Example, TextDataset

CARD = Card(
    name="sms-spam",
    summary="text messages, ham or spam; no split of its own",
    size="5,574 texts, 2 labels",
    source="UCI Machine Learning Repository, data set 228",
    licence="CC BY 4.0",
)


def load() -> TextDataset:
    """Read the messages; a line is the label, a tab, the message. Repeats are kept."""
    path = local_file("sms_spam", "SMSSpamCollection", "archive.ics.uci.edu/dataset/228")
    rows = [line.split("\t", 1) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return TextDataset(
        name=CARD.name,
        train=[Example(Document(row[1]), (row[0],), str(i)) for i, row in enumerate(rows, start=1)],
        source=CARD.source,
        licence=CARD.licence,
        label_descriptions={"ham": "a private text message", "spam": "unwanted advertising"},
    )
