"""The bigram's folder: in the same format as the others, though only we read it."""

from __future__ import annotations

from typing import Any

from hornbook.interop.names import Family, Row
from hornbook.models.bigram import Bigram, BigramConfig


def config_to_theirs(ours: BigramConfig) -> dict[str, Any]:
    return {
        "architectures": ["Bigram"],
        "model_type": "hornbook-bigram",
        "vocab_size": ours.vocab_size,
    }


FAMILY = Family(
    "hornbook-bigram",
    "Bigram",
    Bigram,
    lambda config: [Row("table.weight", ("table.weight",))],
    lambda theirs: BigramConfig(theirs["vocab_size"]),
    config_to_theirs,
)
