"""Masked language modelling: guess the hidden tokens (Devlin et al. 2019, section 3.1, task 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hornbook.nn.layout import Layout, Ragged
from hornbook.nn.losses import LossSum, cross_entropy_sum


@dataclass(frozen=True)
class MaskedBatch:
    """tokens: (T,), some hidden; places: (M,) of the hidden ones; targets: (M,) what they were."""

    tokens: Tensor
    layout: Ragged
    places: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Masking:
    """Which share of tokens to hide, and behind what.

    share: 15 % is BERT's, 30 % the modern encoders' (Portes et al. 2023, section 2.2). Of the
    hidden, 80 % become `mask_token`, 10 % a random token, 10 % stay (Devlin et al., appendix A.1).
    The first `n_specials` ids are never hidden and never drawn.
    """

    mask_token: int
    vocab_size: int
    n_specials: int
    share: float = 0.15

    def collate(
        self,
        documents: Sequence[Sequence[int]],
        generator: torch.Generator | Sequence[torch.Generator],
        device: str = "cpu",
    ) -> MaskedBatch:
        """Lay documents end to end and hide tokens, differently at every call.

        generator: one for all; or one for each document, so that what is hidden in it does not
        depend on what else is in the batch.
        """
        order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
        tokens = torch.tensor([t for i in order for t in documents[i]])
        if isinstance(generator, torch.Generator):
            chance, fate, random = self._draw(len(tokens), generator)
        else:
            drawn = (self._draw(len(documents[i]), generator[i]) for i in order)
            chance, fate, random = (torch.cat(rows) for rows in zip(*drawn, strict=True))
        places = ((chance < self.share) & (tokens >= self.n_specials)).nonzero().squeeze(1)
        targets, fate = tokens[places], fate[places]
        shown = torch.where(fate < 0.9, random[places], targets)
        tokens = tokens.index_put((places,), torch.where(fate < 0.8, self.mask_token, shown))
        layout = Ragged([len(documents[i]) for i in order], device)
        return MaskedBatch(tokens.to(device), layout, places.to(device), targets.to(device))

    def _draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """For each of n tokens: whether it is hidden, behind what, and a random token."""
        chance, fate = torch.rand(2, n, generator=generator)
        random = torch.randint(self.n_specials, self.vocab_size, (n,), generator=generator)
        return chance, fate, random


class Encoder(Protocol):
    """What a trunk offers to be pretrained so: `models.bert` and `models.modern_bert` do."""

    config: Any

    def __call__(
        self, tokens: Tensor, layout: Layout, *, wanted: Tensor | None = None
    ) -> Tensor: ...

    def token_embedding(self) -> Tensor: ...

    def masked_lm_head(self) -> nn.Module: ...


class MaskedLM(nn.Module):
    """An encoder with its masked-LM head; logits, and what only they need of the last block, are
    computed at the hidden places only."""

    def __init__(self, trunk: Encoder) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = trunk.masked_lm_head()

    @property
    def config(self) -> Any:
        return self.trunk.config

    def forward(self, batch: MaskedBatch) -> Tensor:
        """Logits (M, V)."""
        return self.logits(self.trunk(batch.tokens, batch.layout, wanted=batch.places))

    def logits(self, hidden: Tensor) -> Tensor:
        """Which token stands at each of these hidden states? (..., E) -> (..., V)."""
        return self.head(hidden, self.trunk.token_embedding())


def loss_of(model: nn.Module, batch: MaskedBatch) -> LossSum:
    """Cross-entropy over the hidden tokens, in nats."""
    return cross_entropy_sum(model(batch), batch.targets)
