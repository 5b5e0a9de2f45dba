"""A model that marks answers: a decoder whose head gives one number, learnt from pairs.

The number is read at the answer's last token, the one that ends the turn. transformers opens it as
a classifier with one label (LlamaForSequenceClassification, num_labels 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from hornbook.data.preferences import Prompt, open_pairs
from hornbook.errors import UnknownNameError
from hornbook.models.heads import HeadConfig, SequenceClassifier, bare_trunk
from hornbook.nn.forked import Forked
from hornbook.nn.losses import LossSum
from hornbook.preference import checks, losses, measures
from hornbook.preference.encoding import Encoder, Item, checked
from hornbook.preference.task import decoder_of, shown
from hornbook.tasks.branches import batches, lay, n_read, shape
from hornbook.tasks.task import Finding, Metric, Parts, Shown

_LOOKED_AT = 2000  # examples that are looked at before training
_PADDING = ("<pad>", "[PAD]", "<|pad|>", "<|endoftext|>", "<|finetune_right_pad_id|>")


@dataclass(frozen=True)
class RewardBatch:
    """What `models.heads` reads: prompts with two answers each, chosen and rejected in turn."""

    inputs: Tensor
    layout: Forked
    segments: None = None


@dataclass
class Reward:
    """`losses.reward`: the chosen answer's number above the rejected one's.

    margin: by how much at least it should be.
    """

    name: ClassVar[str] = "reward"
    encoder: Encoder
    margin: float = 0.0
    best = "loss"
    watched = True

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        found = open_pairs(data, columns, seed=seed)
        return Parts(found.name, found.train, found.validation, found.test, notes=found.notes,
                     source=data)  # fmt: skip

    @classmethod
    def make(
        cls, bundle: Any, parts: Parts, *, max_tokens: int | None = None, **settings: Any
    ) -> Self:
        """Raises UnknownNameError for a setting other than margin."""
        if unknown := sorted(settings.keys() - {"margin"}):
            raise UnknownNameError(f"reward has no setting '{unknown[0]}'", hint="It has margin.")
        return cls(Encoder.of(bundle, max_tokens), **settings)

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Self:
        return cls(Encoder.of(bundle, card["max_tokens"]), **card["settings"])

    def build(self, bundle: Any) -> nn.Module:
        """Raises ConfigError for a model that is no decoder."""
        if isinstance(bundle.model, SequenceClassifier) and bundle.model.config.n_labels == 1:
            return bundle.model  # a reward model already
        trunk = bare_trunk(decoder_of(bundle))
        padding = _padding(self.encoder)
        config = HeadConfig(trunk.config, ("reward",), problem="regression", pad_token=padding)
        return SequenceClassifier(trunk, config)

    def items(self, examples: Sequence[Any]) -> list[Item]:
        found = [
            self.encoder.encode(i, e.prompt, (e.chosen, e.rejected)) for i, e in enumerate(examples)
        ]
        return checked(found, [e.place or f"example {i}" for i, e in enumerate(examples)])

    def answered(self, asked: Sequence[tuple[Prompt, Sequence[str]]]) -> list[Item]:
        """Items of prompts with any number of answers each."""
        found = [self.encoder.encode(i, p, answers) for i, (p, answers) in enumerate(asked)]
        return checked(found, [f"prompt {i + 1}" for i in range(len(found))])

    def length(self, item: Item) -> int:
        return n_read(item)

    def collate(self, items: Sequence[Item], device: str = "cpu") -> RewardBatch:
        ordered: list[Item] = sorted(items, key=lambda item: (shape(item), item.source))
        laid = lay(ordered, device)
        return RewardBatch(laid.tokens, laid.layout)

    def loss(self, model: nn.Module, batch: RewardBatch) -> LossSum:
        marks = model(batch)[:, 0].float()
        each = losses.reward(marks[0::2], marks[1::2], margin=self.margin)
        return LossSum(each.sum(), len(each))

    def predict(
        self,
        model: nn.Module,
        items: Sequence[Item],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """The rewards of both answers."""
        marked = self.marks(model, items, device=device, progress=progress)
        return [{"chosen": chosen, "rejected": rejected} for chosen, rejected in marked]

    @torch.inference_mode()
    def marks(
        self,
        model: nn.Module,
        items: Sequence[Item],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[float]]:
        """The reward of each answer, however many a prompt has; in the order of their sources."""
        found: list[list[float]] = [[] for _ in items]
        done = 0
        for batch in batches(items):
            laid = lay([items[i] for i in batch], device)
            marks = iter(model(RewardBatch(laid.tokens, laid.layout))[:, 0].float().tolist())
            for i in batch:
                found[items[i].source] = [next(marks) for _ in items[i].branches]
            done += len(batch)
            if progress:
                progress(done, len(items))
        return found

    def metrics(self, examples: Sequence[Any], predictions: Sequence[Any]) -> list[Metric]:
        return measures.of_rewards(predictions)

    def show(self, item: Item) -> list[Shown]:
        """Only an answer's last token is judged; what stands before it is read."""
        found = shown(self.encoder, item, ("chosen", "rejected"))
        ends = {len(item.stem) + len(item.branches[0]), len(found) - 1}
        said = {min(ends): "higher", max(ends): "lower"}
        return [Shown(part.text, said.get(i, "")) for i, part in enumerate(found)]

    def check(self, parts: Parts) -> list[Finding]:
        some = parts.train[:_LOOKED_AT]
        return [
            *checks.contradictions(parts.train),
            *checks.lengths(parts.train),
            *checks.truncation(self.items(some), self.encoder.max_tokens),
            *checks.unspoken(self.encoder),
        ]

    def card(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "max_tokens": self.encoder.max_tokens,
            "settings": {"margin": self.margin},
        }


def _padding(encoder: Encoder) -> int | None:
    """A token to fill up with elsewhere that never ends an answer: transformers takes the last
    token that is not padding for an answer's end, and would read another one."""
    sample = encoder.encode(0, "a", ("b",)).branches[0]
    known = (encoder.tokenizer.rust.token_to_id(token) for token in _PADDING)
    return next((token for token in known if token is not None and token not in sample), None)
