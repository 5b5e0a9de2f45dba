"""Learn which answer is better: dpo, ipo and orpo from pairs, kto from answers marked good or bad.

    example    prompt, chosen, rejected
    item       [ prompt | chosen | rejected ]      token ids; the prompt is read once (`nn.forked`)
    loss       log-probabilities of both answers under the model, and under what it was before
    predict    the same numbers, and the divergence from what it was

What it was, is the model with its adapter switched off, or a copy (`preference.reference`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from hornbook.data.preferences import Judged, open_judged, open_pairs, text_of
from hornbook.errors import ConfigError, DataError, UnknownNameError, nearest
from hornbook.nn.losses import LossSum
from hornbook.nn.processes import of_all
from hornbook.preference import checks, losses, measures
from hornbook.preference.encoding import Encoder, Item, checked
from hornbook.preference.losses import LogProbs
from hornbook.preference.reference import Reference
from hornbook.tasks.branches import BranchBatch, batches, branch_log_probs, lay, n_read, shape
from hornbook.tasks.task import Finding, Metric, Parts, Shown

_LOOKED_AT = 2000  # examples that are looked at before training


@dataclass(frozen=True)
class AnswerBatch:
    """Prompts with two answers each. items: what was laid, in this order; good: (B,) bools."""

    items: tuple[Item, ...]
    laid: BranchBatch
    good: Tensor


class _OverAnswers:
    """What these tasks share: two answers an item, by how likely a decoder finds them."""

    name: ClassVar[str]
    best = "loss"
    watched = True  # a loss that falls may have been bought with a divergence that grows
    compares_with_reference: ClassVar[bool] = True  # whether the loss does; the metrics always do
    encoder: Encoder
    reference: Reference
    base: str

    # Before there is a task

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        found = open_pairs(data, columns, seed=seed)
        return Parts(found.name, found.train, found.validation, found.test, notes=found.notes,
                     source=data)  # fmt: skip

    @classmethod
    def make(
        cls, bundle: Any, parts: Parts, *, max_tokens: int | None = None, **settings: Any
    ) -> Self:
        """Raises UnknownNameError for a setting that this loss has not."""
        return cls._made(bundle, bundle.name, max_tokens, settings)

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Self:
        task = cls._made(bundle, card["base"], card["max_tokens"], card["settings"])
        task.reference = Reference(card["base"])
        return task

    @classmethod
    def _made(
        cls, bundle: Any, base: str, max_tokens: int | None, settings: Mapping[str, Any]
    ) -> Self:
        known = {f.name for f in fields(cls)} - _SHARED  # type: ignore[arg-type]
        if unknown := sorted(settings.keys() - known):
            raise UnknownNameError(
                f"{cls.name} has no setting '{unknown[0]}'",
                hint=nearest(unknown[0], known) if known else "It has none of its own.",
            )
        return cls(Encoder.of(bundle, max_tokens), base, **settings)  # type: ignore[call-arg]

    # A task

    def build(self, bundle: Any) -> nn.Module:
        return decoder_of(bundle)

    def begin(
        self,
        model: nn.Module,
        items: Sequence[Item],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Keep what the model is now, where learning would change it, and what it says of these."""
        asked = items if self.compares_with_reference else ()
        self.reference.begin(model, asked, device=device, progress=progress)

    def items(self, examples: Sequence[Any]) -> list[Item]:
        found = [
            self.encoder.encode(i, e.prompt, (e.chosen, e.rejected)) for i, e in enumerate(examples)
        ]
        return checked(found, [e.place or f"example {i}" for i, e in enumerate(examples)])

    def length(self, item: Item) -> int:
        return n_read(item)

    def collate(self, items: Sequence[Item], device: str = "cpu") -> AnswerBatch:
        ordered = tuple(sorted(items, key=lambda item: (shape(item), item.source)))
        good = torch.tensor([item.good for item in ordered], device=device)
        return AnswerBatch(ordered, lay(ordered, device), good)

    def metrics(self, examples: Sequence[Any], predictions: Sequence[Any]) -> list[Metric]:
        return measures.of_pairs(predictions)

    @torch.inference_mode()
    def predict(
        self,
        model: nn.Module,
        items: Sequence[Item],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """Log-probabilities in nats, summed over an answer's tokens; their counts; of the
        reference too, where it is known, and the divergence from it along the first answer."""
        found: list[Any] = [None] * len(items)
        done, known = 0, self.reference.is_known(model)
        for batch in batches(items):
            laid = lay([items[i] for i in batch], device)
            rows = [laid.n_tokens]
            rows += self.reference.beside(model, laid) if known else [branch_log_probs(model, laid)]
            pairs = torch.stack([row.double() for row in rows], 1).unflatten(0, (-1, 2)).tolist()
            for i, pair in zip(batch, pairs, strict=True):
                found[items[i].source] = self._prediction(*pair)
            done += len(batch)
            if progress:
                progress(done, len(items))
        return found

    def _prediction(self, first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
        """Of both answers: tokens, log-probability; of the reference, divergence."""
        said = {"chosen": first[1], "rejected": second[1]}
        said |= {"n_chosen": int(first[0]), "n_rejected": int(second[0])}
        if len(first) > 2:
            said |= {"reference_chosen": first[2], "reference_rejected": second[2], "kl": first[3]}
        return said

    def show(self, item: Item) -> list[Shown]:
        return shown(self.encoder, item, ("chosen", "rejected"))

    def check(self, parts: Parts) -> list[Finding]:
        some = parts.train[:_LOOKED_AT]
        return [
            *checks.contradictions(parts.train),
            *checks.lengths(parts.train),
            *checks.truncation(self.items(some), self.encoder.max_tokens),
            *checks.unspoken(self.encoder),
        ]

    def card(self) -> dict[str, Any]:
        own = [f.name for f in fields(self) if f.name not in _SHARED]  # type: ignore[arg-type]
        return {
            "task": self.name,
            "base": self.base,
            "max_tokens": self.encoder.max_tokens,
            "settings": {name: getattr(self, name) for name in own},
        }

    # What the losses read

    def _policy(self, model: nn.Module, batch: AnswerBatch) -> LogProbs:
        return _paired(branch_log_probs(model, batch.laid))

    def _reference(self, model: nn.Module, batch: AnswerBatch) -> LogProbs:
        return _paired(self.reference.log_probs(model, batch.items, batch.laid))


_SHARED = {"encoder", "base", "reference"}


@dataclass
class Dpo(_OverAnswers):
    """`losses.dpo`: raise the chosen answer over the rejected one, by what the model was before."""

    name: ClassVar[str] = "dpo"
    encoder: Encoder
    base: str = ""
    beta: float = 0.1
    smoothing: float = 0.0
    reference: Reference = field(default_factory=Reference)

    def __post_init__(self) -> None:
        positive("beta", self.beta)
        if not 0 <= self.smoothing < 0.5:
            raise ConfigError(
                f"smoothing is {self.smoothing}", hint="A share of pairs: 0 to less than 0.5."
            )

    def loss(self, model: nn.Module, batch: AnswerBatch) -> LossSum:
        each = losses.dpo(
            self._policy(model, batch),
            self._reference(model, batch),
            beta=self.beta,
            smoothing=self.smoothing,
        )
        return LossSum(each.sum(), len(each))


@dataclass
class Ipo(_OverAnswers):
    """`losses.ipo`: as dpo, to a margin of 1 / (2 tau) nats a token and no further."""

    name: ClassVar[str] = "ipo"
    encoder: Encoder
    base: str = ""
    tau: float = 0.1
    reference: Reference = field(default_factory=Reference)

    def __post_init__(self) -> None:
        positive("tau", self.tau)

    def loss(self, model: nn.Module, batch: AnswerBatch) -> LossSum:
        lengths = _lengths(batch)
        policy = self._policy(model, batch).per_token(*lengths)
        reference = self._reference(model, batch).per_token(*lengths)
        each = losses.ipo(policy, reference, tau=self.tau)
        return LossSum(each.sum(), len(each))


@dataclass
class Orpo(_OverAnswers):
    """`losses.orpo` and the chosen answer's own loss, a mean over its tokens: no reference."""

    name: ClassVar[str] = "orpo"
    compares_with_reference: ClassVar[bool] = False
    encoder: Encoder
    base: str = ""
    weight: float = 0.1
    reference: Reference = field(default_factory=Reference)

    def __post_init__(self) -> None:
        positive("weight", self.weight)

    def loss(self, model: nn.Module, batch: AnswerBatch) -> LossSum:
        policy = self._policy(model, batch).per_token(*_lengths(batch))
        each = losses.orpo(policy, weight=self.weight) - policy.chosen
        return LossSum(each.sum(), len(each))


@dataclass
class Kto(_OverAnswers):
    """`losses.kto`: answers that stand alone, each marked good or bad.

    An item's second branch is another prompt's answer: how likely such have become says how far
    the model has gone from what it was, whatever it is asked.
    """

    name: ClassVar[str] = "kto"
    compares: ClassVar[bool] = True  # answers of a batch with one another
    encoder: Encoder
    base: str = ""
    beta: float = 0.1
    weight_good: float = 1.0
    weight_bad: float = 1.0
    reference: Reference = field(default_factory=Reference)

    def __post_init__(self) -> None:
        for name in ("beta", "weight_good", "weight_bad"):
            positive(name, getattr(self, name))

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        found = open_judged(data, columns, seed=seed)
        return Parts(found.name, found.train, found.validation, found.test, notes=found.notes,
                     source=data)  # fmt: skip

    def items(self, examples: Sequence[Judged]) -> list[Item]:
        if len({text_of(e.prompt) for e in examples}) < 2:
            raise DataError(
                "all answers are to one prompt, and kto compares with answers to others",
                hint="Add answers to other prompts.",
            )
        found = [
            self.encoder.encode(i, e.prompt, (e.completion, _of_another(examples, i)), good=e.good)
            for i, e in enumerate(examples)
        ]
        return checked(found, [e.place or f"example {i}" for i, e in enumerate(examples)])

    def loss(self, model: nn.Module, batch: AnswerBatch) -> LossSum:
        policy, reference = self._policy(model, batch), self._reference(model, batch)
        others = of_all(policy.rejected.detach()), of_all(reference.rejected)
        each = losses.kto(
            policy.chosen,
            reference.chosen,
            batch.good,
            losses.kto_baseline(*others),
            beta=self.beta,
            weight_good=self.weight_good,
            weight_bad=self.weight_bad,
        )
        return LossSum(each.sum(), len(each))

    def _prediction(self, first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
        said: dict[str, Any] = {"n_tokens": int(first[0]), "log_prob": first[1]}
        return said | ({"reference": first[2], "kl": first[3]} if len(first) > 2 else {})

    def metrics(self, examples: Sequence[Judged], predictions: Sequence[Any]) -> list[Metric]:
        return measures.of_judged(np.array([e.good for e in examples], float), predictions)

    def show(self, item: Item) -> list[Shown]:
        return shown(self.encoder, item, ("good" if item.good else "bad",))

    def check(self, parts: Parts) -> list[Finding]:
        some = parts.train[:_LOOKED_AT]
        truncated: list[Finding] = []
        if len({text_of(e.prompt) for e in some}) > 1:
            truncated = checks.truncation(self.items(some), self.encoder.max_tokens)
        return [
            *checks.balance(parts.train, self.weight_good, self.weight_bad),
            *truncated,
            *checks.unspoken(self.encoder),
        ]


def decoder_of(bundle: Any) -> nn.Module:
    """The bundle's model, if it says how likely a next token is. Raises ConfigError otherwise."""
    model = bundle.model
    if not isinstance(model, nn.Module) or not callable(getattr(model, "logits", None)):
        raise ConfigError(
            f"a {type(model).__name__} doesn't say how likely an answer is",
            hint="Take a decoder: a Llama, a GPT, or a run of `hornbook train gpt`.",
        )
    return model


def positive(name: str, value: float) -> None:
    """Raises ConfigError for 0 and less."""
    if not value > 0:
        raise ConfigError(f"{name} is {value}", hint="It must be above 0; 0.1 is usual.")


def shown(encoder: Encoder, item: Item, names: Sequence[str]) -> list[Shown]:
    """The tokens of the prompt, then of each answer under its name, which carry the loss."""
    spelled = encoder.tokenizer.spelled
    found = [Shown(spelled(token)) for token in item.stem]
    for name, branch in zip(names, item.branches):
        found.append(Shown(f"\n{name}: "))
        found += [Shown(spelled(token), spelled(token)) for token in branch]
    return found


def _of_another(examples: Sequence[Judged], i: int) -> str:
    """The answer of the next example with another prompt."""
    n = len(examples)
    others = (examples[(i + step) % n] for step in range(1, n))
    return next(e.completion for e in others if e.prompt != examples[i].prompt)


def _paired(values: Tensor) -> LogProbs:
    """(2B,), first answer and second in turn -> (B,) of each."""
    return LogProbs(values[0::2], values[1::2])


def _lengths(batch: AnswerBatch) -> tuple[Tensor, Tensor]:
    return batch.laid.n_tokens[0::2], batch.laid.n_tokens[1::2]
