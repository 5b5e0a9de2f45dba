"""One file a corpus: `load() -> TextDataset`, and `CARD`, what a reader must know beforehand."""

from __future__ import annotations

from typing import NamedTuple

from hornbook.registry import Registry


class Card(NamedTuple):
    """A corpus in one line of a table. `size` and `source` are for people, not for programs."""

    name: str
    summary: str
    size: str
    source: str
    licence: str


_HERE = "hornbook.data.datasets."

DATASETS = Registry(
    "data set",
    {
        "cola": _HERE + "cola:load",
        "imdb": _HERE + "imdb:load",
        "pydocs": _HERE + "pydocs:load",
        "reuters": _HERE + "reuters:load",
        "sms-spam": _HERE + "sms_spam:load",
        "sst2": _HERE + "sst2:load",
        "trec": _HERE + "trec:load",
    },
)

CARDS = Registry(
    "data set", {name: target.partition(":")[0] + ":CARD" for name, target in DATASETS.items()}
)


def cards() -> list[Card]:
    """The cards of all corpora, in the registry's order. Reads none of them."""
    return [CARDS.load(name) for name in CARDS]
