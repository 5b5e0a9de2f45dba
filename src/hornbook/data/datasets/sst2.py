"""SST-2: sentences of film reviews, positive or negative. Socher et al. 2013."""

from __future__ import annotations

from hornbook.data.datasets import Card
from hornbook.data.datasets.local import local_file
from hornbook.data.examples import Document, Example, TextDataset

CARD = Card(
    name="sst2",
    summary="sentences of film reviews, positive or negative",
    size="9,613 texts (7,792 train, 1,821 test), 2 labels",
    source="Stanford Sentiment Treebank, whole sentences (stsa.binary)",
    licence="none stated; for research, with citation",
)


def load() -> TextDataset:
    """Read the sentences; a line is 0 or 1, a space, the sentence in tokens.

    The treebank's dev part counts as training: a study draws its own validation sets.
    """
    return TextDataset(
        name=CARD.name,
        train=_read("stsa.binary.train") + _read("stsa.binary.dev"),
        test=_read("stsa.binary.test"),
        source=CARD.source,
        licence=CARD.licence,
        notes=["The dev part of 872 sentences counts as training."],
        label_descriptions={
            "negative": "a negative, disapproving opinion of a film",
            "positive": "a positive, approving opinion of a film",
        },
    )


def _read(name: str) -> list[Example]:
    path = local_file("sst2", name, "nlp.stanford.edu/sentiment")
    label = {"0": "negative", "1": "positive"}
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [
        Example(Document(line[2:].strip()), (label[line[0]],), f"{name}:{i}")
        for i, line in enumerate(lines, start=1)
    ]
