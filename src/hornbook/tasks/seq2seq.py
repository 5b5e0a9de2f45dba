"""Sequence to sequence: write the target, given the source (Vaswani et al. 2017).

The decoder is fed the target shifted by one (teacher forcing): from `start` and the first n tokens
it guesses token n + 1, and after the last one `end`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.models.encoder_decoder import EncoderDecoder
from hornbook.nn.cache import KeyValueCache
from hornbook.nn.layout import Padded, Ragged
from hornbook.nn.losses import LossSum, cross_entropy_sum


@dataclass(frozen=True)
class PairBatch:
    """source: (S,) documents end to end; inputs: (T,) `start` and the target; targets: (T,)."""

    source: Tensor
    source_layout: Ragged
    inputs: Tensor
    layout: Ragged
    targets: Tensor


def collate(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    start: int,
    end: int,
    device: str = "cpu",
) -> PairBatch:
    """Lay pairs (source, target) of token ids end to end, pairs of like lengths together."""
    ordered = sorted(pairs, key=lambda pair: (-len(pair[1]), -len(pair[0])))
    return PairBatch(
        torch.tensor([t for source, _ in ordered for t in source], device=device),
        Ragged([len(source) for source, _ in ordered], device),
        torch.tensor([t for _, target in ordered for t in [start, *target]], device=device),
        Ragged([len(target) + 1 for _, target in ordered], device),
        torch.tensor([t for _, target in ordered for t in [*target, end]], device=device),
    )


class Seq2Seq(nn.Module):
    """An encoder-decoder with its tied head: batch -> logits (T, V)."""

    def __init__(self, trunk: EncoderDecoder) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, batch: PairBatch) -> Tensor:
        hidden = self.trunk(batch.source, batch.source_layout, batch.inputs, batch.layout)
        return self.trunk.logits(hidden)


def loss_of(model: nn.Module, batch: PairBatch) -> LossSum:
    """Cross-entropy over the targets and their ends, in nats."""
    return cross_entropy_sum(model(batch), batch.targets)


def smoothed_loss_of(model: nn.Module, batch: PairBatch, smoothing: float = 0.1) -> LossSum:
    """As `loss_of` with a share of each target spread over the vocabulary (section 5.4).

    Not to be compared with a plain loss: its least value is not 0.
    """
    total = F.cross_entropy(
        model(batch).float(), batch.targets, reduction="sum", label_smoothing=smoothing
    )
    return LossSum(total, len(batch.targets))


@torch.inference_mode()
def greedy(
    model: EncoderDecoder,
    sources: Sequence[Sequence[int]],
    *,
    start: int,
    end: int,
    max_tokens: int,
) -> list[list[int]]:
    """The likeliest next token, again and again, until `end` or `max_tokens`; token ids each.

    Training mode is left as it is: call `model.eval()` first.
    """
    device = model.tokens.weight.device
    lengths = torch.tensor([len(source) for source in sources], device=device)
    mask = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
    padded = torch.zeros(mask.shape, dtype=torch.long, device=device)
    padded[mask] = torch.tensor([t for source in sources for t in source], device=device)
    source_layout = Padded(mask)
    memory = model.encode(padded, source_layout)
    cache = KeyValueCache()
    one = torch.ones(len(sources), 1, dtype=torch.bool, device=device)
    token = torch.full((len(sources), 1), start, device=device)
    written = []
    done = torch.zeros(len(sources), dtype=torch.bool, device=device)
    for _ in range(max_tokens):
        hidden = model.decode(token, cache.extend(one), memory, source_layout)
        token = model.logits(hidden).argmax(-1)
        written.append(token)
        done |= token[:, 0] == end
        if done.all():
            break
    rows = torch.cat(written, 1).tolist() if written else [[] for _ in sources]
    return [row[: row.index(end)] if end in row else row for row in rows]
