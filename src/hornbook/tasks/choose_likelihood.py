"""Choose among options by how likely they are: the model goes on with the context (Gao et al. 2021,
"A framework for few-shot language model evaluation").

    acc         the option whose tokens add up to the highest log-probability is the right one
    acc_norm    the same per byte of UTF-8, so that long options are not behind from the start

Any decoder can, untrained for it. Fine-tuning takes the options' log-probabilities as logits of a
choice: the loss is the cross-entropy of the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hornbook.data.choices import Question
from hornbook.errors import ConfigError
from hornbook.nn.losses import LossSum
from hornbook.tasks.branches import (
    BranchBatch,
    Tokens,
    batches,
    branch_log_probs,
    lay,
    n_read,
    shape,
)
from hornbook.tasks.choose_findings import (
    LOOKED_AT,
    one_place,
    refuse_empty,
    right_ones,
    too_long,
)
from hornbook.tasks.task import Finding, Metric, Parts, Shown


@dataclass(frozen=True)
class ChoiceItem:
    """A context (stem) and its options (branches) as token ids.

    source: the question's number. answer: the right option's. n_bytes: of each option.
    n_cut: tokens that were left out because it was too long.
    """

    source: int
    stem: Tokens
    branches: tuple[Tokens, ...]
    answer: int
    n_bytes: tuple[int, ...]
    n_cut: int = 0


@dataclass(frozen=True)
class ChoiceBatch:
    """laid: contexts with their options. answers: the number of each right one, and how many
    options there are, by question."""

    laid: BranchBatch
    answers: tuple[int, ...]
    n_options: tuple[int, ...]


@dataclass
class ByLikelihood:
    """The option that a decoder finds likeliest. max_tokens: of a context with an option."""

    name: ClassVar[str] = "choose"
    tokenizer: Any
    max_tokens: int
    best = "loss"

    def build(self, bundle: Any) -> nn.Module:
        model = bundle.model
        if not isinstance(model, nn.Module) or not callable(getattr(model, "logits", None)):
            raise ConfigError(
                f"a {type(model).__name__} doesn't say how likely an option is",
                hint="Take a decoder: a Llama, a GPT, or a run of `hornbook train gpt`.",
            )
        return model

    def items(self, examples: Sequence[Question]) -> list[ChoiceItem]:
        return [self._item(i, question) for i, question in enumerate(examples)]

    def _item(self, source: int, question: Question) -> ChoiceItem:
        """The space between context and option belongs to the option, as tokenizers have it."""
        spaced = [option if option[:1].isspace() else f" {option}" for option in question.options]
        stem, *options = self.tokenizer.encode(
            [question.context.rstrip(), *spaced], special=False, read_special=False
        )
        refuse_empty(question.place or f"question {source}", stem, options)
        whole = len(stem) + sum(map(len, options))
        options = [option[: self.max_tokens - 1] for option in options]
        stem = stem[-(self.max_tokens - max(map(len, options))) :]
        n_cut = whole - len(stem) - sum(map(len, options))
        n_bytes = tuple(len(option.strip().encode()) for option in question.options)
        return ChoiceItem(
            source, tuple(stem), tuple(map(tuple, options)), question.answer, n_bytes, n_cut
        )

    def length(self, item: ChoiceItem) -> int:
        return n_read(item)

    def collate(self, items: Sequence[ChoiceItem], device: str = "cpu") -> ChoiceBatch:
        ordered = sorted(items, key=lambda item: (shape(item), item.source))
        return ChoiceBatch(
            lay(ordered, device),
            tuple(item.answer for item in ordered),
            tuple(len(item.branches) for item in ordered),
        )

    def loss(self, model: nn.Module, batch: ChoiceBatch) -> LossSum:
        found: list[Tensor] = []
        log_probs = branch_log_probs(model, batch.laid).split(list(batch.n_options))
        for logits, answer in zip(log_probs, batch.answers, strict=True):
            found.append(-logits.log_softmax(0)[answer])
        return LossSum(torch.stack(found).sum(), len(found))

    @torch.inference_mode()
    def predict(
        self,
        model: nn.Module,
        items: Sequence[ChoiceItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """The options' log-probabilities (nats), and the likeliest option: by the sum, a byte."""
        found: list[Any] = [None] * len(items)
        done = 0
        for batch in batches(items):
            laid = lay([items[i] for i in batch], device)
            log_probs = branch_log_probs(model, laid).tolist()
            for i in batch:
                item, n = items[i], len(items[i].branches)
                scores, log_probs = np.array(log_probs[:n]), log_probs[n:]
                found[item.source] = {
                    "option": int(scores.argmax()),
                    "option_norm": int((scores / item.n_bytes).argmax()),
                    "log_probs": scores.tolist(),
                    "n_bytes": list(item.n_bytes),
                }
            done += len(batch)
            if progress:
                progress(done, len(items))
        return found

    def metrics(self, examples: Sequence[Question], predictions: Sequence[Any]) -> list[Metric]:
        answers = np.array([question.answer for question in examples])
        return [
            right_ones(name, np.array([p[key] for p in predictions]) == answers)
            for name, key in (("acc_norm", "option_norm"), ("acc", "option"))
        ]

    def show(self, item: ChoiceItem) -> list[Shown]:
        spelled = self.tokenizer.spelled
        found = [Shown(spelled(token)) for token in item.stem]
        for number, branch in enumerate(item.branches):
            found.append(Shown(f"\n{number}{' (right)' if number == item.answer else ''}:"))
            found += [Shown(spelled(token), spelled(token)) for token in branch]
        return found

    def check(self, parts: Parts) -> list[Finding]:
        items = self.items(parts.train[:LOOKED_AT])
        return one_place(parts.train) + too_long(items, self.max_tokens)

    def card(self) -> dict[str, Any]:
        return {"task": self.name, "max_tokens": self.max_tokens}
