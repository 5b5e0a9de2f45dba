"""Several continuations of one beginning, the beginning read once.

    Ragged   [ p p p a a | p p p b b b ]     two documents: 11 tokens
    Forked   [ p p p a a b b b ]             a stem of 3, branches of 2 and 3: 8 tokens

A token looks at its stem and at what lies before it in its own branch, never into another branch,
and its position counts from the stem's beginning: the numbers are those of separate documents.
What comes of the stem flows back to it from all branches at once. Causal models only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from hornbook.errors import ConfigError
from hornbook.nn.layout import rectangle

Shape = tuple[int, tuple[int, ...]]  # tokens of the stem, of each branch


class Forked:
    """A layout of documents end to end, each a stem and its branches, in tokens, 1 at least each.

    Neighbours of one shape are attended to in one call.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, Sequence[int]]], device: torch.device | str = "cpu"
    ) -> None:
        self.shapes: list[Shape] = [(stem, tuple(branches)) for stem, branches in shapes]
        self.device = torch.device(device)
        self.runs = [(shape, len(list(group))) for shape, group in groupby(self.shapes)]
        self._places = {shape: _places(shape, self.device) for shape in set(self.shapes)}
        lengths = [length for stem, branches in self.shapes for length in (stem, *branches)]
        ends = torch.tensor(lengths, device=self.device).cumsum(0)
        is_branch = [part > 0 for _, branches in self.shapes for part in range(1 + len(branches))]
        self._ends = ends[torch.tensor(is_branch, device=self.device)]

    def positions(self) -> Tensor:
        return torch.cat([self._places[shape][0].repeat(n) for shape, n in self.runs])

    def longest(self) -> int:
        return max(stem + max(branches) for stem, branches in self.shapes)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        causal: bool = False,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """As `Layout.attend`. Raises ConfigError unless causal."""
        if not causal:
            raise ConfigError(
                "branches of one beginning are for causal models",
                hint="An encoder's beginning is another with each continuation: use Ragged.",
            )
        sizes = [len(self._places[shape][0]) * n for shape, n in self.runs]
        out = []
        for (shape, n), *qkv in zip(
            self.runs, q.split(sizes), k.split(sizes), v.split(sizes), strict=True
        ):
            positions, may_look = self._places[shape]
            if window is not None:
                may_look = may_look & (positions[:, None] - positions <= window)
            q_, k_, v_ = (x.unflatten(0, (n, len(positions))) for x in qkv)  # (n, S, H, D)
            out.append(rectangle(q_, k_, v_, may_look, dropout=dropout).flatten(0, 1))
        return out[0] if len(out) == 1 else torch.cat(out)

    def attend_to(
        self, memory: Any, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0
    ) -> Tensor:
        raise ConfigError(
            "branches of one beginning have no other text to look at",
            hint="For encoder-decoders use Ragged.",
        )

    def first(self, hidden: Tensor) -> Tensor:
        """The stem's first token, once for each branch: (T, E) -> (N, E)."""
        lengths = torch.tensor([stem + sum(b) for stem, b in self.shapes], device=self.device)
        starts = lengths.cumsum(0) - lengths
        n_branches = torch.tensor([len(b) for _, b in self.shapes], device=self.device)
        return hidden[starts.repeat_interleave(n_branches)]

    def last(self, hidden: Tensor) -> Tensor:
        """Each branch's last token, branch after branch: (T, E) -> (N, E)."""
        return hidden[self._ends - 1]

    def mean(self, hidden: Tensor) -> Tensor:
        """The mean over each branch and its stem: (T, E) -> (N, E)."""
        out, at = [], 0
        for stem, branches in self.shapes:
            total, at = hidden[at : at + stem].sum(0), at + stem
            for length in branches:
                out.append((total + hidden[at : at + length].sum(0)) / (stem + length))
                at += length
        return torch.stack(out)


def _places(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of one document of S tokens: positions (S,), and who may look at whom (S, S)."""
    stem, branches = shape
    lengths = torch.tensor([stem, *branches], device=device)
    part = torch.arange(len(lengths), device=device).repeat_interleave(lengths)  # 0: the stem
    steps = [torch.arange(stem, device=device)]
    steps += [torch.arange(stem, stem + length, device=device) for length in branches]
    positions = torch.cat(steps)
    same = (part[:, None] == part) | (part == 0)
    return positions, same & (positions <= positions[:, None])
