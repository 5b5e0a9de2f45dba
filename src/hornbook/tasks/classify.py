"""Classify texts: one label, any number of labels, or a number on a scale.

    tokens   [CLS] what a film [SEP]      one row of logits a text, at its first token
    target   positive                     (of a decoder at its last), through `models.heads`

Losses are transformers': cross-entropy; a yes or no a label, the mean over labels; squared error.
Of several labels, the thresholds are the decision layer's (`tasks.decision`), fitted to the
validation part when training is done and kept in task.json.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.data.batching import by_length
from hornbook.data.columns import named_columns
from hornbook.data.labelled import open_labelled
from hornbook.errors import CheckpointError, ConfigError, DataError, nearest
from hornbook.models.heads import Problem
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import IGNORE, LossSum, binary_cross_entropy_sum, cross_entropy_sum
from hornbook.tasks.classification import Batch
from hornbook.tasks.decision import Decision
from hornbook.tasks.label_findings import cut_short, label_findings
from hornbook.tasks.metrics import multi_label_metrics, regression_metrics, single_label_metrics
from hornbook.tasks.room import room
from hornbook.tasks.task import Finding, Metric, Parts, Shown
from hornbook.tasks.text_heads import (
    in_the_models_order,
    log_odds,
    reads_last,
    text_classifier,
)

LONGEST = 256  # tokens, where nobody says; more costs time in proportion
SCORE = ("score",)  # the one output of a number on a scale
TOKENS_PER_BATCH = 4096  # when nothing is learnt
MOST_MEASURED = 5000  # texts, when it is only asked how long they are

_METRICS: dict[Problem, tuple[str, ...]] = {
    "single_label_classification": ("accuracy", "macro_f1", "matthews"),
    "multi_label_classification": ("micro_f1", "macro_f1", "samples_f1", "accuracy"),
    "regression": ("pearson", "spearman", "mean_squared_error"),
}


@dataclass(frozen=True, slots=True)
class TextItem:
    """tokens: (T,) ids; segments: (T,) 0 or 1, of a pair. target: the label's number, the numbers
    of several, or a number on a scale; IGNORE or None where unknown."""

    source: int
    tokens: list[int]
    target: int | float | tuple[int, ...] | None
    segments: list[int] | None = None


class Classify:
    """Texts to labels. decision: how several labels are chosen; fitted by `settle`."""

    name: ClassVar[str] = "classify"

    def __init__(
        self,
        tokenizer: Any,
        label_names: Sequence[str],
        problem: Problem,
        *,
        max_tokens: int,
        best: str | None = None,
        decision: Decision | None = None,
        last: bool = False,
    ) -> None:
        known = (*_METRICS[problem], "loss")
        if best is not None and best not in known:
            raise ConfigError(
                f"there is no metric '{best}' to choose by", hint=nearest(best, known)
            )
        self.tokenizer = tokenizer
        self.label_names = tuple(label_names)
        self.problem: Problem = problem
        self.max_tokens = max_tokens
        self.best = best or known[0]
        self.decision = decision
        self.last = last  # whether the head stands on the last token
        self.unread: np.ndarray | None = None  # (L,) what a fresh head says of every text
        self._number = {name: i for i, name in enumerate(self.label_names)}

    # What there is before there is a task

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        """columns: text, label, title, and `separator`, what stands between several labels."""
        named = named_columns(columns, ("text", "label", "title", "separator"))
        separator = named.pop("separator", None)
        found = open_labelled(data, label_separator=separator, seed=seed, **named)
        return Parts(
            found.name,
            found.train,
            found.validation,
            found.test,
            found.label_names,
            found.multi_label,
            found.notes,
            found.source,
            found.licence,
        )

    @classmethod
    def make(
        cls, bundle: Any, parts: Parts, *, max_tokens: int | None = None, best: str | None = None
    ) -> Classify:
        """best: the metric that chooses among checkpoints; accuracy or micro_f1 when None."""
        problem: Problem = (
            "multi_label_classification" if parts.multi_label else "single_label_classification"
        )
        names: tuple[str, ...] = SCORE
        if parts.label_names:
            names = in_the_models_order(parts.label_names, bundle.model)
        else:
            problem = "regression"
        task = cls(
            bundle.tokenizer,
            names,
            problem,
            max_tokens=room(bundle, max_tokens, usual=LONGEST),
            best=best,
            last=reads_last(bundle.model),
        )
        task.unread = task._known_unread(parts.train) if parts.train else None
        return task

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Classify:
        """Raises CheckpointError for a card that is not whole."""
        try:
            saved = card["decision"]
            return cls(
                bundle.tokenizer,
                tuple(card["labels"]),
                card["problem"],
                max_tokens=int(card["max_tokens"]),
                best=card["best"],
                decision=None if saved is None else Decision.from_json(json.dumps(saved)),
                last=reads_last(bundle.model),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"task.json does not say how texts were classified: {error!r}",
                hint="Copy or train the model again.",
            ) from error

    # The task

    def build(self, bundle: Any) -> nn.Module:
        """A fresh head begins with what is known of a text that nobody has read."""
        return text_classifier(bundle, self.label_names, self.problem, unread=self.unread)

    def items(self, examples: Sequence[Any]) -> list[TextItem]:
        """Raises DataError for a text without a token, and where no label is one of the head's."""
        tokens = self.tokenizer.encode(
            [e.document.full for e in examples], max_tokens=self.max_tokens, read_special=False
        )
        self._check_tokens(tokens, examples)
        targets = self._targets(examples)
        return [TextItem(i, t, y) for i, (t, y) in enumerate(zip(tokens, targets, strict=True))]

    def labels_of(self, example: Any) -> tuple[str, ...]:
        """What an example is labelled with; () where that is not known."""
        return example.labels

    def length(self, item: TextItem) -> int:
        return len(item.tokens)

    def collate(self, items: Sequence[TextItem], device: str = "cpu") -> Batch:
        ordered = sorted(items, key=lambda item: -len(item.tokens))
        layout = Ragged([len(item.tokens) for item in ordered], device)
        inputs = torch.tensor([t for item in ordered for t in item.tokens], device=device)
        segments = None
        if any(item.segments for item in ordered):
            rows = [item.segments or [0] * len(item.tokens) for item in ordered]
            segments = torch.tensor([s for row in rows for s in row], device=device)
        return Batch(inputs, layout, self._target_rows(ordered).to(device), segments)

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """In nats; of a number on a scale, its squared error."""
        assert batch.targets is not None
        logits = model(batch)
        if self.problem == "single_label_classification":
            return cross_entropy_sum(logits, batch.targets)
        if self.problem == "multi_label_classification":
            total = binary_cross_entropy_sum(logits, batch.targets).total
            return LossSum(total, batch.targets.numel())
        total = F.mse_loss(logits[:, 0].float(), batch.targets, reduction="sum")
        return LossSum(total, len(batch.targets))

    def predict(
        self,
        model: nn.Module,
        items: Sequence[TextItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """{"label": ..., "probabilities": {...}}, {"labels": [...], ...} or {"number": ...}."""
        return self.told(self.logits(model, items, device=device, progress=progress))

    def told(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """What `predict` says of logits (N, L)."""
        if self.problem == "regression":
            return [{"number": float(x)} for x in logits[:, 0]]
        if self.problem == "single_label_classification":
            probabilities = torch.from_numpy(logits).softmax(1).numpy()
            best = logits.argmax(1)
            return [
                {"label": self.label_names[i], "probabilities": self._by_name(row)}
                for i, row in zip(best, probabilities, strict=True)
            ]
        chosen, probabilities = self.decide(logits)
        return [
            {
                "labels": [self.label_names[i] for i in np.flatnonzero(given)],
                "probabilities": self._by_name(row),
            }
            for given, row in zip(chosen, probabilities, strict=True)
        ]

    @torch.inference_mode()
    def logits(
        self,
        model: nn.Module,
        items: Sequence[TextItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """(N, L) float32, in the items' order."""
        out = np.zeros((len(items), len(self.label_names)), np.float32)
        done = 0
        for rows in by_length([len(item.tokens) for item in items], TOKENS_PER_BATCH):
            # by_length gives the longest first, the order that `collate` keeps.
            batch = self.collate([items[i] for i in rows], device)
            out[rows] = model(batch).float().cpu().numpy()
            done += len(rows)
            if progress:
                progress(done, len(items))
        return out

    def settle(
        self, model: nn.Module, examples: Sequence[Any], *, device: str = "cpu", seed: int = 0
    ) -> None:
        """Fit how several labels are chosen, to the validation part and the finished model."""
        if self.problem != "multi_label_classification":
            return
        items = self.items(examples)
        scores = self.logits(model, items, device=device)
        targets = self._matrix([self._numbers(e) for e in examples])
        self.decision = Decision.fit(scores, targets, multi_label=True, seed=seed)

    def metrics(
        self, examples: Sequence[Any], predictions: Sequence[dict[str, Any]]
    ) -> list[Metric]:
        if self.problem == "regression":
            numbers = np.array([self._number_of(e) for e in examples], float)
            return regression_metrics(numbers, np.array([p["number"] for p in predictions], float))
        if self.problem == "single_label_classification":
            true = [(self._numbers(e) or (IGNORE,))[0] for e in examples]
            best = [self._number[p["label"]] for p in predictions]
            return single_label_metrics(np.array(true), np.array(best), self.label_names)
        chosen = [tuple(self._number[name] for name in p["labels"]) for p in predictions]
        # A label that the head has not is missed: a column of its own keeps it in the counts.
        unknown = np.array([[not self._number.keys() >= {*self.labels_of(e)}] for e in examples])
        targets = np.concatenate([self._matrix([self._numbers(e) for e in examples]), unknown], 1)
        given = np.concatenate([self._matrix(chosen), np.zeros_like(unknown)], 1)
        if not unknown.any():
            targets, given = targets[:, :-1], given[:, :-1]
        return multi_label_metrics(targets, given)

    def show(self, item: TextItem) -> list[Shown]:
        """The target stands at the token that the head reads."""
        if isinstance(item.target, tuple):
            told = ", ".join(self.label_names[i] for i in item.target) or "none"
        elif self.problem == "regression":
            told = "" if item.target is None else f"{item.target:g}"
        else:
            told = "" if item.target in (None, IGNORE) else self.label_names[int(item.target)]
        place = len(item.tokens) - 1 if self.last else 0
        return [
            Shown(self.tokenizer.spelled(token), told if i == place else "")
            for i, token in enumerate(item.tokens)
        ]

    def check(self, parts: Parts) -> list[Finding]:
        """Labels that a part lacks or that are rare, and texts that are cut."""
        findings = cut_short(self._lengths(parts.train), self.max_tokens)
        if self.problem == "regression":
            return findings
        named = {"train": parts.train, "validation": parts.validation, "test": parts.test or ()}
        counts = {
            part: Counter(name for e in examples for name in self.labels_of(e))
            for part, examples in named.items()
        }
        return label_findings(counts, self.label_names) + findings

    def card(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "labels": list(self.label_names),
            "problem": self.problem,
            "max_tokens": self.max_tokens,
            "best": self.best,
            "decision": None if self.decision is None else json.loads(self.decision.to_json()),
        }

    # Its parts

    def _lengths(self, examples: Sequence[Any]) -> list[int]:
        texts = [e.document.full for e in examples[:MOST_MEASURED]]
        return [len(t) for t in self.tokenizer.encode(texts, read_special=False)]

    def _check_tokens(self, tokens: Sequence[Sequence[int]], examples: Sequence[Any]) -> None:
        if empty := [i for i, t in enumerate(tokens) if not t]:
            i = empty[0]
            raise DataError(
                f"example {examples[i].id or i} has no token",
                hint="Take texts out that are empty or of characters the tokenizer leaves out.",
            )

    def _numbers(self, example: Any) -> tuple[int, ...]:
        """Of the labels that the head knows."""
        names = self.labels_of(example)
        return tuple(self._number[name] for name in names if name in self._number)

    def _number_of(self, example: Any) -> float:
        try:
            return float(self.labels_of(example)[0])
        except (ValueError, IndexError) as error:
            raise DataError(
                f"example {example.id}: {self.labels_of(example) or 'nothing'} is no number",
                hint="This model tells numbers on a scale; give one for each example.",
            ) from error

    def _targets(self, examples: Sequence[Any]) -> list[Any]:
        given = [self.labels_of(e) for e in examples]
        if self.problem == "regression":
            return [self._number_of(e) if names else None for e, names in zip(examples, given)]
        numbers = [self._numbers(e) for e in examples]
        if any(given) and not any(numbers):
            names = sorted({name for row in given for name in row})
            raise DataError(
                f"no label of these {len(examples):,} examples is one of the model's: "
                f"{', '.join(names[:8])} against {', '.join(self.label_names[:8])}",
                hint="Name the label column, or write labels as the model was taught them.",
            )
        if self.problem == "multi_label_classification":
            return numbers
        return [row[0] if row else IGNORE for row in numbers]

    def _known_unread(self, examples: Sequence[Any]) -> np.ndarray | None:
        """Of numbers their mean; of several labels each one's log-odds."""
        if self.problem == "regression":
            return np.array([np.mean([self._number_of(e) for e in examples])])
        if self.problem == "multi_label_classification":
            return log_odds(self._matrix([self._numbers(e) for e in examples]))
        return None

    def _target_rows(self, items: Sequence[TextItem]) -> Tensor:
        if self.problem == "multi_label_classification":
            return torch.from_numpy(self._matrix([i.target or () for i in items])).float()  # type: ignore[misc]
        kind = torch.float32 if self.problem == "regression" else torch.int64
        unknown = float("nan") if self.problem == "regression" else IGNORE
        rows = [unknown if item.target is None else item.target for item in items]
        return torch.tensor(rows, dtype=kind)

    def _matrix(self, numbers: Sequence[Sequence[int]]) -> np.ndarray:
        """Numbers of labels as (N, L) bool."""
        matrix = np.zeros((len(numbers), len(self.label_names)), bool)
        for row, own in zip(matrix, numbers, strict=True):
            row[list(own)] = True
        return matrix

    def decide(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels (N, L) bool and probabilities (N, L); before `settle`, even odds and the best."""
        if self.decision is not None:
            return self.decision.predict(logits), self.decision.probabilities(logits)
        best = np.eye(logits.shape[1], dtype=bool)[logits.argmax(1)]
        return best | (logits > 0), 1 / (1 + np.exp(-logits.astype(np.float64)))

    def _by_name(self, row: np.ndarray) -> dict[str, float]:
        pairs = zip(self.label_names, row, strict=True)
        return {name: round(float(p), 6) for name, p in pairs}
