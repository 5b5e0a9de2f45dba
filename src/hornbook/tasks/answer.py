"""Answer questions with a stretch of a given text (extractive question answering).

The model reads question and context, and says of each token how likely the answer begins and ends
there (Devlin et al. 2019, section 4.2). A long context is read in windows that overlap. A question
without an answer has it at the first token (section 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from hornbook.data.batching import by_length
from hornbook.data.questions import Question, fault, moved, open_questions
from hornbook.errors import ConfigError, DataError
from hornbook.models.heads import HeadConfig, SpanFinder, bare_trunk
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import LossSum
from hornbook.tasks.answer_findings import findings
from hornbook.tasks.answer_metrics import answer_metrics
from hornbook.tasks.room import room as room_of
from hornbook.tasks.task import Finding, Metric, Parts, Shown
from hornbook.text.encoding import Encoding
from hornbook.text.frame import Frame
from hornbook.text.tokenizer import Tokenizer

LONGEST_QUESTION = 64  # tokens; the rest of a longer one is not read
OUTPUTS = ("start", "end")


@dataclass(frozen=True)
class AnswerItem:
    """A question with a window of its context. start, end: tokens of the answer, the end included;
    0 and 0, the first token, where the answer is not in the window.

    first: the window's first token in the item. places: the characters of its tokens in `context`.
    """

    tokens: list[int]
    segments: list[int]
    start: int
    end: int
    first: int
    places: list[tuple[int, int]]
    context: str
    source: int


@dataclass(frozen=True)
class SpanBatch:
    """Items end to end. starts, ends: (N,) tokens of each item, from its first one on."""

    inputs: Tensor
    layout: Ragged
    segments: Tensor
    starts: Tensor
    ends: Tensor


@dataclass
class Answer:
    """Answers that stand in the context.

    stride: tokens that a window has in common with the one before it. n_best: answers given of a
    question, the likeliest first. longest: tokens of an answer. no_answer: whether a question may
    have none; it then needs to be likelier by `margin` (a difference of logits). misplaced: what to
    do with an answer that is said to stand elsewhere than it does: refuse it, or move it to the
    nearest place of its text.
    """

    name: ClassVar[str] = "answer"
    best: ClassVar[str] = "F1"
    tokenizer: Tokenizer
    max_tokens: int = 384
    stride: int = 128
    n_best: int = 5
    longest: int = 30
    no_answer: bool = False
    margin: float = 0.0
    misplaced: str = "refuse"
    dropout: float = 0.0
    _frame: Frame = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.misplaced not in ("refuse", "move"):
            raise ConfigError(f"misplaced is '{self.misplaced}'", hint="Allowed: refuse, move.")
        self._frame = Frame.of(self.tokenizer, pair=True)
        if not self._frame.before:
            raise ConfigError(
                "this tokenizer puts no token before a text, and a question without an answer has "
                "no place to point at",
                hint="Take an encoder such as minilm.",
            )
        room = self.max_tokens - self._frame.n_tokens
        if room < 16 or not 0 <= self.stride < room // 2 or self.n_best < 1 or self.longest < 1:
            raise ConfigError(
                f"windows of {self.max_tokens} tokens with a stride of {self.stride}, {self.n_best}"
                f" best answers of at most {self.longest} tokens",
                hint="A window needs 16 tokens at least, the stride less than half of it, the "
                "others 1.",
            )

    # Before there is a task

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        """As `data.questions.open_questions`: SQuAD's JSON, jsonl; divided by article."""
        found = open_questions(data, columns, seed=seed)
        return Parts(
            Path(data).expanduser().resolve().name,
            found.train,
            found.validation,
            found.test or None,
            notes=found.notes,
            source=str(data),
        )

    @classmethod
    def make(
        cls, bundle: Any, parts: Parts, *, max_tokens: int | None = None, **settings: Any
    ) -> Answer:
        """A window of 384 tokens when max_tokens is None, with a third in common with the next; the
        model's context where that is less. no_answer: whether training has such questions."""
        window = room_of(bundle, max_tokens, usual=cls.max_tokens)
        settings.setdefault("no_answer", any(not q.answers for q in parts.train))
        settings.setdefault("stride", min(cls.stride, window // 3))
        known = {"stride", "n_best", "longest", "no_answer", "margin", "misplaced", "dropout"}
        if unknown := sorted(settings.keys() - known):
            raise ConfigError(
                f"'answer' has no setting '{unknown[0]}'", hint=f"Known: {', '.join(sorted(known))}"
            )
        return cls(bundle.tokenizer, max_tokens=window, **settings)

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Answer:
        return cls(bundle.tokenizer, **{name: card[name] for name in _KEPT})

    def card(self) -> dict[str, Any]:
        return {"task": self.name} | {name: getattr(self, name) for name in _KEPT}

    def build(self, bundle: Any) -> nn.Module:
        if isinstance(bundle.model, SpanFinder):
            return bundle.model
        trunk = bare_trunk(bundle.model)
        return SpanFinder(trunk, HeadConfig(trunk.config, OUTPUTS, "span", dropout=self.dropout))

    # Items and batches

    def items(self, examples: Sequence[Question]) -> list[AnswerItem]:
        """The windows of each question. Of several right answers the first is learnt.

        Raises DataError for an answer that does not stand where it is said to, with the nearest
        place where it does.
        """
        if self.misplaced == "move":
            examples = [moved(question) for question in examples]
        for question in examples:
            if wrong := fault(question):
                raise DataError(
                    wrong[0].upper() + wrong[1:],
                    hint="Mend the data, or have it moved to the nearest place of its text: --set "
                    "misplaced=move.",
                )
        contexts = list(dict.fromkeys(question.context for question in examples))
        found = self.tokenizer(contexts, special=False, read_special=False)
        encoded = dict(zip(contexts, found, strict=True))
        asked = self.tokenizer.encode(
            [q.question.strip() for q in examples], special=False, read_special=False
        )
        return [
            item
            for number, (question, ids) in enumerate(zip(examples, asked, strict=True))
            for item in self._windows(
                question, ids[:LONGEST_QUESTION], encoded[question.context], number
            )
        ]

    def _windows(
        self, question: Question, asked: list[int], context: Encoding, source: int
    ) -> Iterator[AnswerItem]:
        asked = asked[: (self.max_tokens - self._frame.n_tokens) // 2]
        room = self.max_tokens - self._frame.n_tokens - len(asked)
        first = len(self._frame.before) + len(asked) + len(self._frame.between)
        span = _tokens_of(question, context)
        begin, n = 0, len(context)
        while True:
            end = min(n, begin + room)
            inside = span is not None and begin <= span[0] and span[1] < end
            shift = first - begin
            yield AnswerItem(
                self._frame.around(asked, context.ids[begin:end]),
                self._frame.segments_of(len(asked), end - begin),
                span[0] + shift if span and inside else 0,
                span[1] + shift if span and inside else 0,
                first,
                context.offsets[begin:end],
                question.context,
                source,
            )
            if end == n:
                return
            begin = end - min(self.stride, room // 2)

    def length(self, item: AnswerItem) -> int:
        return len(item.tokens)

    def collate(self, items: Sequence[AnswerItem], device: str = "cpu") -> SpanBatch:
        ordered = sorted(items, key=lambda item: -len(item.tokens))
        return SpanBatch(
            torch.tensor([t for item in ordered for t in item.tokens], device=device),
            Ragged([len(item.tokens) for item in ordered], device),
            torch.tensor([s for item in ordered for s in item.segments], device=device),
            torch.tensor([item.start for item in ordered], device=device),
            torch.tensor([item.end for item in ordered], device=device),
        )

    def loss(self, model: nn.Module, batch: SpanBatch) -> LossSum:
        """The mean of the cross-entropies of start and end over an item's tokens, in nats; summed
        over items."""
        logits = model(batch).float().split(batch.layout.lengths)
        rows = pad_sequence(list(logits), batch_first=True, padding_value=-torch.inf)  # (N, T, 2)
        total = F.cross_entropy(rows[..., 0], batch.starts, reduction="sum")
        total = total + F.cross_entropy(rows[..., 1], batch.ends, reduction="sum")
        return LossSum(total / 2, len(batch.starts))

    # Predictions

    @torch.inference_mode()
    def predict(
        self,
        model: nn.Module,
        items: Sequence[AnswerItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Of each question: answer, start, end (characters of the context), score and n_best.

        score: a probability among the n best. An answer of "" at -1 is none; no_answer: by how much
        its logit is above that of the best answer.
        """
        logits: list[np.ndarray] = [np.empty((0, 2))] * len(items)
        done = 0
        for numbers in by_length([len(item.tokens) for item in items], 2048):
            batch = self.collate([items[i] for i in numbers], device)
            rows = model(batch).float().cpu().split(batch.layout.lengths)
            for i, row in zip(numbers, rows, strict=True):
                logits[i] = row.numpy()
            done += len(numbers)
            if progress:
                progress(done, len(items))
        found: dict[int, list[tuple[AnswerItem, np.ndarray]]] = {}
        for item, row in zip(items, logits, strict=True):
            found.setdefault(item.source, []).append((item, row))
        return [self._answer(found[i]) for i in range(max(found, default=-1) + 1)]

    def _answer(self, windows: Sequence[tuple[AnswerItem, np.ndarray]]) -> dict[str, Any]:
        """The best answers of all windows of a question."""
        context = windows[0][0].context
        scores: dict[tuple[int, int], float] = {}
        for item, row in windows:
            for span, score in self._candidates(item, row[:, 0], row[:, 1]):
                scores[span] = max(score, scores.get(span, -np.inf))
        ranked = sorted(scores.items(), key=lambda pair: -pair[1])[: self.n_best]
        # The window that is least sure that the answer is elsewhere.
        none = min(float(row[0].sum()) for _, row in windows)
        answers = [(context[s:e], s, e, score) for (s, e), score in ranked]
        above = none - answers[0][3] if answers else np.inf
        if self.no_answer or not answers:
            answers.append(("", -1, -1, none))
            answers.sort(key=lambda a: -(a[3] - self.margin if a[1] < 0 else a[3]))
        logits = np.array([score for *_, score in answers])
        shares = np.exp(logits - logits.max())
        n_best = [
            {"answer": text, "start": start, "end": end, "score": round(float(share), 6)}
            for (text, start, end, _), share in zip(answers, shares / shares.sum(), strict=True)
        ]
        given = n_best[0] | {"n_best": n_best}
        return given | {"no_answer": round(above, 4)} if self.no_answer else given

    def _candidates(
        self, item: AnswerItem, starts: np.ndarray, ends: np.ndarray
    ) -> Iterator[tuple[tuple[int, int], float]]:
        """The likeliest spans of a window: characters, and the sum of both logits."""
        n = len(item.places)
        if n == 0:
            return
        starts, ends = starts[item.first :][:n], ends[item.first :][:n]
        # (n, longest): the score of an answer of 1, 2, ... tokens from each token on.
        padded = np.concatenate([ends, np.full(self.longest, -np.inf, ends.dtype)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.longest)[:n]
        scores = (starts[:, None] + windows).ravel()
        most = min(4 * self.n_best, int(np.isfinite(scores).sum()))
        for place in np.argpartition(-scores, most - 1)[:most]:
            start, more = divmod(int(place), self.longest)
            span = (item.places[start][0], item.places[start + more][1])
            if span[0] < span[1]:
                yield span, float(scores[place])

    def metrics(
        self, examples: Sequence[Question], predictions: Sequence[Mapping[str, Any]]
    ) -> list[Metric]:
        """F1 over words and exact match, as SQuAD's script has them, from 0 to 1."""
        return answer_metrics(
            [[answer.text for answer in question.answers] for question in examples],
            [prediction["answer"] for prediction in predictions],
        )

    # For people

    def show(self, item: AnswerItem) -> list[Shown]:
        spelled = self.tokenizer.tokens
        named = {item.start: "start", item.end: "end"}
        if item.start == item.end:
            named = {item.start: "start and end"}
        return [Shown(spelled[token], named.get(i, "")) for i, token in enumerate(item.tokens)]

    def check(self, parts: Parts) -> list[Finding]:
        return findings(self, parts)


_KEPT = ("max_tokens", "stride", "n_best", "longest", "no_answer", "margin", "misplaced")


def _tokens_of(question: Question, context: Encoding) -> tuple[int, int] | None:
    """The first and the last token of the first answer, in the context's; None without one."""
    if not question.answers:
        return None
    answer = question.answers[0]
    end = answer.start + len(answer.text)
    inside = [i for i, (s, e) in enumerate(context.offsets) if s < end and e > answer.start]
    return (inside[0], inside[-1]) if inside else None


def marked(context: str, start: int, end: int, *, around: int = 80) -> tuple[str, str, str]:
    """An answer in its source: what stands before it, itself, what follows, for a display.

    around: characters shown on each side, whole words; "…" stands for more. start -1: no answer.
    """
    if start < 0:
        return "", "", ""
    before, after = context[:start], context[end:]
    if len(before) > around:
        before = "…" + before[-around:].partition(" ")[2]
    if len(after) > around:
        after = after[:around].rpartition(" ")[0] + "…"
    return before, context[start:end], after
