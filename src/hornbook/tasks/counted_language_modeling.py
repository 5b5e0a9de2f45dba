"""Language modelling on top of counts: each batch brings the evidence of its places along."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from hornbook.models.counting_gpt import CountingGPT
from hornbook.tasks.language_modeling import NextTokenBatch


@dataclass(frozen=True)
class CountedBatch(NextTokenBatch):
    """evidence: (T, K, V) log-shares with the place's own fold left out; None on new text."""

    evidence: Tensor | None = None


class CountedLanguageModel(nn.Module):
    """A network on counts: batch -> logits (T, V)."""

    def __init__(self, trunk: CountingGPT) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, batch: CountedBatch) -> Tensor:
        return self.trunk.logits(self.trunk(batch.tokens, batch.layout, batch.evidence))
