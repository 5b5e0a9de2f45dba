"""Counting on the same text: what every language model is printed beside."""

from __future__ import annotations

import numpy as np

from hornbook.data.packing import TokenArray, beginning
from hornbook.data.shards import TokenShards
from hornbook.evaluation.likelihood import bits_per_byte
from hornbook.models import ngram
from hornbook.records import Referee

ORDERS, MORE_ORDERS = 5, 7  # of pieces of words; of characters, which say less each
FEW = 512  # tokens of a vocabulary
MOST_TOKENS = 20_000_000  # more would take minutes and gigabytes
KINDS = {"Witten-Bell": ngram.WITTEN_BELL, "Kneser-Ney": ngram.KNESER_NEY}


def referees(
    train: TokenArray | TokenShards, validation: TokenArray | TokenShards, vocab_size: int
) -> list[Referee]:
    """The bigram, the best order and the highest, by two smoothings; none for a huge text."""
    if len(train) > MOST_TOKENS:
        return []
    found: list[Referee] = []
    highest = MORE_ORDERS if vocab_size <= FEW else ORDERS
    for name, smoothing in KINDS.items():
        counted = ngram.fit(beginning(train, len(train)).tokens, vocab_size, highest, smoothing)
        losses = counted.losses(beginning(validation, len(validation)).tokens)
        if smoothing.by_contexts:  # only its highest order is a model of its own
            orders = [len(losses)]
        else:
            orders = sorted({min(2, len(losses)), int(np.argmin(losses)) + 1})
        for order in orders:
            loss = float(losses[order - 1])
            bits = bits_per_byte(loss, len(validation), validation.n_bytes)
            found.append(
                Referee(name=f"{order}-gram, {name}", order=order, loss=loss, bits_per_byte=bits)
            )
    return found
