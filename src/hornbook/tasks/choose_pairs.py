"""Choose among options with an encoder: each is read behind the question, and marked by a head
(Devlin et al. 2019, section 4.4).

    [CLS] she opened the umbrella because [SEP] it was raining [SEP]    ->  2.1
    [CLS] she opened the umbrella because [SEP] it was Tuesday [SEP]    -> -0.4
    segments 0 ...                              1 ...

The softmax over the marks of a question's options are their probabilities; the loss is the
cross-entropy of the right one. Questions may have unequally many options, side by side in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from hornbook.data.batching import by_length
from hornbook.data.choices import Question
from hornbook.errors import ConfigError
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import LossSum, cross_entropy_sum
from hornbook.tasks.choose_findings import (
    LOOKED_AT,
    one_place,
    refuse_empty,
    right_ones,
    too_long,
)
from hornbook.tasks.task import Finding, Metric, Parts, Shown
from hornbook.tasks.text_heads import choice_scorer
from hornbook.text.frame import Frame

TOKENS_PER_BATCH = 4096  # when nothing is learnt


@dataclass(frozen=True, slots=True)
class PairsItem:
    """A question with each of its options, as token ids; segments: 0 or 1 of each token.

    source: the question's number. answer: the right option's. n_cut: tokens that were left out
    because it was too long.
    """

    source: int
    pairs: tuple[list[int], ...]
    segments: tuple[list[int], ...]
    answer: int
    n_cut: int = 0


@dataclass(frozen=True)
class PairsBatch:
    """P pairs of Q questions end to end, the longest first.

    inputs, segments: (T,). rows: (P,), where the pairs of each question lie, question by question;
    n_options: how many each has. answers: (Q,), the right one's number among them.
    """

    inputs: Tensor
    layout: Ragged
    segments: Tensor | None
    rows: Tensor
    n_options: tuple[int, ...]
    answers: Tensor

    def by_question(self, marks: Tensor) -> list[Tensor]:
        """Marks (P, 1), as the pairs lie, to those of each question's options: (K,) each."""
        return list(marks[:, 0].float()[self.rows].split(list(self.n_options)))


@dataclass
class ByPairs:
    """The option that an encoder's head marks highest. max_tokens: of a question with an option."""

    name: ClassVar[str] = "choose"
    tokenizer: Any
    max_tokens: int
    best = "loss"
    _frame: Frame = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._frame = Frame.of(self.tokenizer, pair=True)
        if self.max_tokens < self._frame.n_tokens + 2:
            raise ConfigError(
                f"max_tokens is {self.max_tokens}, and {self._frame.n_tokens} tokens are special",
                hint="Take 16 or more.",
            )

    def build(self, bundle: Any) -> nn.Module:
        return choice_scorer(bundle)

    def items(self, examples: Sequence[Question]) -> list[PairsItem]:
        """Raises DataError for a context or an option without a token, naming its place."""
        return [self._item(i, question) for i, question in enumerate(examples)]

    def _item(self, source: int, question: Question) -> PairsItem:
        """Of what is too long the context's beginning goes, as what is next to the option tells
        most; of an option, what leaves no room for one token of context."""
        context, *options = self.tokenizer.encode(
            [question.context, *question.options], special=False, read_special=False
        )
        refuse_empty(question.place or f"question {source}", context, options)
        room = self.max_tokens - self._frame.n_tokens
        whole = len(context) + sum(map(len, options))
        options = [option[: room - 1] for option in options]
        context = context[-(room - max(map(len, options))) :]
        return PairsItem(
            source,
            tuple(self._frame.around(context, option) for option in options),
            tuple(self._frame.segments_of(len(context), len(option)) for option in options),
            question.answer,
            whole - len(context) - sum(map(len, options)),
        )

    def length(self, item: PairsItem) -> int:
        return sum(map(len, item.pairs))

    def collate(self, items: Sequence[PairsItem], device: str = "cpu") -> PairsBatch:
        pairs = [pair for item in items for pair in item.pairs]
        segments = [row for item in items for row in item.segments]
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i]))
        return PairsBatch(
            torch.tensor([t for i in order for t in pairs[i]], device=device),
            Ragged([len(pairs[i]) for i in order], device),
            torch.tensor([s for i in order for s in segments[i]], device=device),
            torch.tensor(np.argsort(order), device=device),
            tuple(len(item.pairs) for item in items),
            torch.tensor([item.answer for item in items], device=device),
        )

    def loss(self, model: nn.Module, batch: PairsBatch) -> LossSum:
        """In nats, of questions: one with many options weighs no more than one with few."""
        marks = batch.by_question(model(batch))
        # An option that a question does not have has no part in its softmax.
        rows = pad_sequence(marks, batch_first=True, padding_value=-torch.inf)
        return cross_entropy_sum(rows, batch.answers)

    @torch.inference_mode()
    def predict(
        self,
        model: nn.Module,
        items: Sequence[PairsItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """The option with the highest mark; the marks and probabilities of all."""
        found: list[Any] = [None] * len(items)
        done = 0
        for numbers in by_length([self.length(item) for item in items], TOKENS_PER_BATCH):
            batch = self.collate([items[i] for i in numbers], device)
            for i, marks in zip(numbers, batch.by_question(model(batch)), strict=True):
                found[items[i].source] = {
                    "option": int(marks.argmax()),
                    "marks": marks.tolist(),
                    "probabilities": marks.softmax(0).tolist(),
                }
            done += len(numbers)
            if progress:
                progress(done, len(items))
        return found

    def metrics(self, examples: Sequence[Question], predictions: Sequence[Any]) -> list[Metric]:
        hits = [p["option"] == q.answer for p, q in zip(predictions, examples, strict=True)]
        return [right_ones("acc", np.array(hits))]

    def show(self, item: PairsItem) -> list[Shown]:
        """The right one's target stands at the token that the head reads."""
        spelled, found = self.tokenizer.spelled, []
        starts = [0, *accumulate(map(len, item.pairs))]
        for number, pair in enumerate(item.pairs):
            found.append(Shown(f"\n{number}:" if starts[number] else f"{number}:"))
            right = "right" if number == item.answer else ""
            found += [Shown(spelled(t), "" if i else right) for i, t in enumerate(pair)]
        return found

    def check(self, parts: Parts) -> list[Finding]:
        items = self.items(parts.train[:LOOKED_AT])
        return one_place(parts.train) + too_long(items, self.max_tokens)

    def card(self) -> dict[str, Any]:
        return {"task": self.name, "max_tokens": self.max_tokens}
