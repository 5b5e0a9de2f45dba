"""One file a corpus of running text: `load() -> Corpus`, and `CARD`, what to know beforehand."""

from __future__ import annotations

from typing import NamedTuple

from hornbook.registry import Registry


class CorpusCard(NamedTuple):
    """A corpus in one line of a table. `size`, `source` and `split` are for people.

    sha256 is that of the one file a corpus consists of; empty where it has many, or none.
    """

    name: str
    summary: str
    size: str
    source: str
    licence: str
    split: str
    sha256: str = ""


_HERE = "hornbook.data.corpora."

CORPORA = Registry(
    "corpus",
    {
        "sherlock": _HERE + "sherlock:load",
        "tinyshakespeare": _HERE + "tinyshakespeare:load",
        "the_verdict": _HERE + "the_verdict:load",
        "pydocs": _HERE + "pydocs:load",
        "pycode": _HERE + "pycode:load",
        "openwebtext": _HERE + "openwebtext:load",
        "fineweb-edu": _HERE + "fineweb_edu:load",
        "tiny-textbooks": _HERE + "tiny_textbooks:load",
        "codeparrot": _HERE + "codeparrot:load",
    },
)

CORPUS_CARDS = Registry(
    "corpus", {name: target.partition(":")[0] + ":CARD" for name, target in CORPORA.items()}
)


def corpus_cards() -> list[CorpusCard]:
    """The cards of all corpora, in the registry's order. Reads none of them."""
    return [CORPUS_CARDS.load(name) for name in CORPUS_CARDS]
