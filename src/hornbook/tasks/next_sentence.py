"""BERT's second task: does the second text follow the first? (Devlin et al. 2019, section 3.1).

Later work found that it does not help (Liu et al. 2019, RoBERTa, section 4.2); it is here to be
compared. A batch holds pairs, half of them true; its loss joins both tasks'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hornbook.errors import DataError
from hornbook.models.bert import Bert, BertConfig, NextSentenceHead
from hornbook.nn.layout import first_places
from hornbook.nn.losses import LossSum, cross_entropy_sum
from hornbook.tasks.masked_lm import MaskedBatch, Masking

Pair = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class PairBatch:
    """masked: the texts [CLS] a [SEP] b [SEP]; segments: (T,) 0 or 1; follows: (N,) 0 if b does."""

    masked: MaskedBatch
    segments: Tensor
    follows: Tensor


def collate(
    pairs: Sequence[Pair],
    masking: Masking,
    generator: torch.Generator,
    *,
    cls: int,
    sep: int,
    device: str = "cpu",
) -> PairBatch:
    """Join each pair, half of them with the second text of another pair, and hide tokens.

    pairs: token ids without special ones. Raises DataError for fewer than two pairs.
    """
    if len(pairs) < 2:
        raise DataError("a batch of one pair has no wrong second text", hint="Take two or more.")
    swapped = torch.rand(len(pairs), generator=generator) < 0.5
    shift = int(torch.randint(1, len(pairs), (), generator=generator))
    joined = []
    for i, (a, b) in enumerate(pairs):
        if swapped[i]:
            b = pairs[(i + shift) % len(pairs)][1]
        document = [cls, *a, sep, *b, sep]
        joined.append((document, [0] * (len(a) + 2) + [1] * (len(b) + 1), int(swapped[i])))
    joined.sort(key=lambda row: -len(row[0]))  # the order that `Masking.collate` gives documents
    masked = masking.collate([document for document, _, _ in joined], generator, device)
    segments = torch.tensor([s for _, row, _ in joined for s in row], device=device)
    return PairBatch(masked, segments, torch.tensor([f for _, _, f in joined], device=device))


class BertPretraining(nn.Module):
    """BERT with both heads: batch -> masked-LM logits (M, V), next-sentence logits (N, 2)."""

    def __init__(self, trunk: Bert) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = trunk.masked_lm_head()
        self.next_sentence = NextSentenceHead(trunk.config.d_model)

    @property
    def config(self) -> BertConfig:
        return self.trunk.config

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        tokens, layout, places = batch.masked.tokens, batch.masked.layout, batch.masked.places
        wanted = torch.cat([places, first_places(layout, tokens)])
        hidden = self.trunk(tokens, layout, batch.segments, wanted=wanted)
        at_places, first = hidden.split([len(places), len(wanted) - len(places)])
        return self.head(at_places, self.trunk.token_embedding()), self.next_sentence(first)


def loss_of(model: nn.Module, batch: PairBatch) -> LossSum:
    """The mean masked-LM loss plus the mean next-sentence loss, as a sum over hidden tokens.

    The second mean is multiplied by the number of hidden tokens, so that whoever divides the sum by
    the count gets the paper's loss.
    """
    guesses, choices = model(batch)
    tokens = cross_entropy_sum(guesses, batch.masked.targets)
    pairs = cross_entropy_sum(choices, batch.follows)
    weight = max(1, tokens.n_targets) / pairs.n_targets
    return LossSum(tokens.total + weight * pairs.total, max(1, tokens.n_targets))
