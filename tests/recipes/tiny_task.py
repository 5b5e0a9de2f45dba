"""A task small enough to see through: which of two letters is more frequent in a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.init import normal_
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import LossSum, cross_entropy_sum
from hornbook.tasks.task import Finding, Metric, Parts, Shown

LABELS = ("a", "b")


@dataclass(frozen=True)
class Letters:
    text: str
    label: str


@dataclass(frozen=True)
class Item:
    source: int
    tokens: list[int]
    target: int


@dataclass(frozen=True)
class Batch:
    tokens: Tensor
    layout: Ragged
    targets: Tensor


class Model(nn.Module):
    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.trunk = Bert(BertConfig(8, 32, 2, 2, 32, 64, dropout=dropout))
        self.head = nn.Linear(32, 2)
        normal_(self.head)

    def forward(self, batch: Batch) -> Tensor:
        hidden = self.trunk(batch.tokens, batch.layout)
        return self.head(batch.layout.first(hidden))


class Tiny:
    """The whole protocol, with nothing to open and nothing to keep."""

    name = "tiny"
    best = "accuracy"

    def build(self, bundle: Any) -> nn.Module:
        return bundle.model

    def items(self, examples: Sequence[Letters]) -> list[Item]:
        return [
            Item(i, [2, *("ab".index(c) + 3 for c in e.text)], LABELS.index(e.label))
            for i, e in enumerate(examples)
        ]

    def length(self, item: Item) -> int:
        return len(item.tokens)

    def collate(self, items: Sequence[Item], device: str = "cpu") -> Batch:
        ordered = sorted(items, key=lambda i: -len(i.tokens))
        return Batch(
            torch.tensor([t for i in ordered for t in i.tokens]),
            Ragged([len(i.tokens) for i in ordered], device),
            torch.tensor([i.target for i in ordered]),
        )

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        return cross_entropy_sum(model(batch), batch.targets)

    @torch.inference_mode()
    def predict(
        self,
        model: nn.Module,
        items: Sequence[Item],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        return [LABELS[int(model(self.collate([item])).argmax())] for item in items]

    def metrics(self, examples: Sequence[Letters], predictions: Sequence[str]) -> list[Metric]:
        hits = [[e.label == p, 1] for e, p in zip(examples, predictions, strict=True)]
        return [Metric("accuracy", np.array(hits, float), of=lambda s: s[..., 0] / s[..., 1])]

    def show(self, item: Item) -> list[Shown]:
        return [Shown("#ab"[t - 2], LABELS[item.target] if t == 2 else "") for t in item.tokens]

    def check(self, parts: Parts) -> list[Finding]:
        return []

    def card(self) -> dict[str, Any]:
        return {"task": self.name}

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Tiny:
        return cls()


def letters(n: int, seed: int = 0) -> list[Letters]:
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(["a", "b"], size=int(rng.integers(3, 12)))) for _ in range(n)]
    return [Letters(t, "a" if 2 * t.count("a") > len(t) else "b") for t in texts]
