"""A modern GPT on top of counting: the network says where the counts are wrong.

Its logits are the network's own plus the log-shares of n-gram counts (`models.counting`), each
order weighted by a gate that the network sets at every place: a product of experts (Hinton 2002)
whose weights depend on the context, as in mixtures of networks and n-grams (Mikolov et al. 2011;
Jozefowicz et al. 2016). Before its first step it is as good as the counts, where a network alone
guesses. For small vocabularies, such as characters: the evidence has an entry a token and an order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hornbook.errors import ConfigError
from hornbook.models.counting import Counts
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.layout import Layout

LARGEST_VOCABULARY = 1024


@dataclass(frozen=True)
class CountingGPTConfig:
    """A modern GPT, and the orders of n-grams whose opinions it hears, growing."""

    trunk: ModernGPTConfig
    orders: tuple[int, ...] = (3, 5, 7)

    @property
    def vocab_size(self) -> int:
        return self.trunk.vocab_size

    @property
    def context_length(self) -> int:
        return self.trunk.context_length


def check_vocabulary(vocab_size: int) -> None:
    """Raise ConfigError where evidence of every token at every place would be too much."""
    if vocab_size > LARGEST_VOCABULARY:
        raise ConfigError(
            f"counting at each place takes a small vocabulary, not {vocab_size:,}",
            hint=f"At most {LARGEST_VOCABULARY:,}; use characters, or leave the counts out.",
        )


class CountingGPT(nn.Module):
    """Token ids (...) -> hidden states with the evidence behind them (..., E + K * V).

    counts: of the text that it is trained on, with at least as many levels as the largest order.
    """

    def __init__(self, config: CountingGPTConfig, counts: Counts) -> None:
        super().__init__()
        check_vocabulary(config.vocab_size)
        self.config = config
        self.counts = counts
        self.trunk = ModernGPT(config.trunk)
        self.gate = nn.Linear(config.trunk.d_model, len(config.orders))
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        with torch.no_grad():  # at first the longest order's opinion, and nothing else
            self.gate.bias[-1] = 1.0

    def forward(self, tokens: Tensor, layout: Layout, evidence: Tensor | None = None) -> Tensor:
        """evidence: (..., K, V) log-shares, in training those of `Counted.evidence`; looked up in
        the whole counts where None."""
        if evidence is None:
            evidence = self.evidence(tokens, layout)
        return torch.cat([self.trunk(tokens, layout), evidence.flatten(-2)], -1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits: (..., E + K * V) -> (..., V)."""
        d_model = self.config.trunk.d_model
        hidden, evidence = hidden[..., :d_model], hidden[..., d_model:]
        evidence = evidence.unflatten(-1, (len(self.config.orders), self.config.vocab_size))
        weights = self.gate(hidden).unsqueeze(-2)  # (..., 1, K)
        return self.trunk.logits(hidden) + (weights @ evidence).squeeze(-2)

    def evidence(self, tokens: Tensor, layout: Layout) -> Tensor:
        """What the counts of the whole text say after each token: (...) -> (..., K, V)."""
        ids = tokens.detach().cpu().numpy().reshape(-1)
        positions = layout.positions().expand(tokens.shape).cpu().numpy().reshape(-1)
        whole = np.full(len(ids), self.counts.whole)
        shares = self.counts.log_shares(
            self.counts.found(ids, positions), whole, self.config.orders
        )
        return torch.from_numpy(shares).view(*tokens.shape, *shares.shape[1:]).to(tokens.device)
