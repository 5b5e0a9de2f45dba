"""Sequence to sequence: write the target, given the source (Vaswani et al. 2017).

The decoder is fed the target shifted by one (teacher forcing): from `start` and the first n tokens
it guesses token n + 1, and after the last one `end`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import ConfigError
from hornbook.models.encoder_decoder import EncoderDecoder
from hornbook.nn.cache import KeyValueCache
from hornbook.nn.layout import Layout, Padded, Ragged
from hornbook.nn.losses import IGNORE, LossSum, cross_entropy_of
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer

# What begins and what ends a text that is written, the first that a vocabulary has: ours, BERT's,
# Marian's (whose decoder begins with padding).
_BOUNDS = ((END_OF_TEXT, END_OF_TEXT), ("[CLS]", "[SEP]"), ("<pad>", "</s>"))


@dataclass(frozen=True)
class PairBatch:
    """source: (S,) documents end to end; inputs: (T,) `start` and the target; targets: (T,).

    Or rectangles of them: (B, S) and (B, T), targets IGNORE where there is no token.
    """

    source: Tensor
    source_layout: Layout
    inputs: Tensor
    layout: Layout
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


def rectangles(
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    *,
    start: int,
    device: str = "cpu",
) -> PairBatch:
    """Pairs (each side: token ids) as rows of two rectangles, filled up on the right.

    Each target ends with its end. Attention takes one call here, and one a pair of lengths where
    documents lie end to end: right for graphics cards. On a processor the calls cost less than
    what padding wastes.
    """
    source, source_mask = _filled(sources, 0)
    expected, mask = _filled(targets, IGNORE)
    inputs = torch.cat([torch.full((len(targets), 1), start), expected[:, :-1]], 1)
    return PairBatch(
        source.to(device),
        Padded(source_mask.to(device)),
        inputs.masked_fill(~mask, 0).to(device),
        Padded(mask.to(device)),
        expected.to(device),
    )


def _filled(rows: Sequence[np.ndarray], filling: int) -> tuple[Tensor, Tensor]:
    """Rows in a rectangle, and where they stand in it."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    filled = torch.full(mask.shape, filling)
    filled[mask] = torch.from_numpy(np.concatenate(rows).astype(np.int64))
    return filled, mask


def bounds(tokenizer: Tokenizer) -> tuple[int, int]:
    """The tokens that a written text begins and ends with. Raises ConfigError without any."""
    for start, end in _BOUNDS:
        first, last = tokenizer.rust.token_to_id(start), tokenizer.rust.token_to_id(end)
        if first is not None and last is not None:
            return first, last
    raise ConfigError(
        "this tokenizer has no token for the end of a text, and nobody would know where to stop",
        hint=f"One of {', '.join(end for _, end in _BOUNDS)} is needed; train one: --tokenizer bpe",
    )


class Seq2Seq(nn.Module):
    """An encoder-decoder with its tied head: batch -> logits (T, V)."""

    def __init__(self, trunk: EncoderDecoder) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, batch: PairBatch) -> Tensor:
        return self.trunk.logits(self._hidden(batch))

    def loss(self, batch: PairBatch, smoothing: float = 0.0) -> LossSum:
        """As `smoothed_loss_of`; the logits of many tokens are never all there (`nn.rounds`)."""
        return cross_entropy_of(
            self.trunk.logits,
            self._hidden(batch).flatten(0, -2),
            batch.targets.flatten(),
            vocab_size=self.trunk.config.vocab_size,
            smoothing=smoothing,
        )

    def _hidden(self, batch: PairBatch) -> Tensor:
        return self.trunk(batch.source, batch.source_layout, batch.inputs, batch.layout)


def loss_of(model: nn.Module, batch: PairBatch) -> LossSum:
    """Cross-entropy over the targets and their ends, in nats."""
    return smoothed_loss_of(model, batch, smoothing=0.0)


def smoothed_loss_of(model: nn.Module, batch: PairBatch, smoothing: float = 0.1) -> LossSum:
    """As `loss_of` with a share of each target spread over the vocabulary (section 5.4).

    Not to be compared with a plain loss: its least value is not 0.
    """
    if type(model) is Seq2Seq:  # one whose weights are sharded answers to calls alone
        return model.loss(batch, smoothing)
    total = F.cross_entropy(
        model(batch).flatten(0, -2).float(),
        batch.targets.flatten(),
        reduction="sum",
        ignore_index=IGNORE,
        label_smoothing=smoothing,
    )
    return LossSum(total, int((batch.targets != IGNORE).sum()))


def side_by_side(
    sources: Sequence[Sequence[int]], device: torch.device | str
) -> tuple[Tensor, Padded]:
    """Token ids of sources as rows of a rectangle (N, S), filled up on the right."""
    filled, mask = _filled([np.asarray(source) for source in sources], 0)
    return filled.to(device), Padded(mask.to(device))


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
    padded, source_layout = side_by_side(sources, device)
    memory = model.remember(model.encode(padded, source_layout))
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
