"""What a task is: the one place that knows what a label looks like.

A task turns examples into items (tokens and targets), items into batches, a model's outputs into a
loss and into predictions, and predictions into metrics. Everything else, recipes, preflight, the
command line, is the same for all of them and asks a task through `Task`.

    examples --items--> items --collate--> batch --loss--> LossSum
                               items --predict--> predictions --metrics--> [Metric, ...]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from torch import nn

from hornbook.nn.losses import LossSum


@dataclass(frozen=True)
class Metric:
    """A metric over N examples, in a form that can be computed again on any resample of them.

    statistics: (N, K), what each example adds, such as hits and counts. of: sums of the statistics
    (..., K) -> the metric (...). Corpus metrics (F1, BLEU, accuracy) are functions of sums; those
    that are not, such as a rank correlation, give `of_rows`: (N, K) rows -> the metric, instead.
    note: how it is computed, where that is not all one, such as sacreBLEU's signature.
    """

    name: str
    statistics: np.ndarray
    of: Callable[[np.ndarray], np.ndarray] | None = None
    of_rows: Callable[[np.ndarray], float] | None = None
    higher_is_better: bool = True
    note: str = ""

    @property
    def value(self) -> float:
        """The metric of all examples."""
        if self.of_rows is not None:
            return float(self.of_rows(self.statistics))
        assert self.of is not None, "a metric needs `of` or `of_rows`"
        return float(self.of(self.statistics.sum(0)))


@dataclass(frozen=True)
class Shown:
    """A token as a person is shown it. target: what is to be guessed here, "" where no loss is."""

    text: str
    target: str = ""


@dataclass(frozen=True)
class Finding:
    """What preflight found before any weight moved.

    level: "stop" (training would be for nothing), "warn", "note". what: a sentence with numbers.
    cost: what happens if it stays so. mend: what to do. code: a stable name, e.g. "pad-is-eos".
    """

    code: str
    level: Literal["stop", "warn", "note"]
    what: str
    cost: str = ""
    mend: str = ""


class Task(Protocol):
    """One kind of thing to learn, for one model's tokenizer and one set of labels.

    best: name of the metric that chooses among checkpoints, "loss" for the validation loss.
    """

    name: ClassVar[str]
    best: str

    def build(self, bundle: Any) -> nn.Module:
        """The opened model (a `bundle.Bundle`) with the head that the task reads; the trunk stays
        `model.trunk` where there is a head. Raises ConfigError for a family that can't."""
        ...

    def items(self, examples: Sequence[Any]) -> list[Any]:
        """One item an example, or several (windows); each knows its example's number in `source`.

        Raises DataError for an example that is wrong, naming it.
        """
        ...

    def length(self, item: Any) -> int:
        """Tokens that the model reads of an item."""
        ...

    def collate(self, items: Sequence[Any], device: str = "cpu") -> Any:
        """A batch, whatever `loss` reads. The same items give the same batch."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> LossSum:
        """A sum and the count of targets."""
        ...

    def predict(
        self,
        model: nn.Module,
        items: Sequence[Any],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """One prediction an example (not an item), in order, made of plain data (JSON)."""
        ...

    def metrics(self, examples: Sequence[Any], predictions: Sequence[Any]) -> list[Metric]:
        """The field's metrics, the most important first."""
        ...

    def show(self, item: Any) -> list[Shown]:
        """The tokens of an item, with which of them carry loss, for `--show-masks`."""
        ...

    def check(self, parts: Parts) -> list[Finding]:
        """What of these data and this tokenizer would spoil training, of this task alone."""
        ...

    def card(self) -> dict[str, Any]:
        """What has to be kept beside the weights (task.json): `reopen(card, bundle)` of the class
        makes the task again."""
        ...


@dataclass(frozen=True)
class Parts:
    """A task's examples, divided. test is None where the data have none and none was made.

    columns: what was read as what. notes: sentences for the reader: guessed, dropped, divided how.
    label_names: of tasks with labels, in the order of the head's outputs.
    """

    name: str
    train: Sequence[Any]
    validation: Sequence[Any]
    test: Sequence[Any] | None = None
    label_names: tuple[str, ...] = ()
    multi_label: bool = False
    notes: list[str] = field(default_factory=list)
    source: str = ""
    licence: str = ""


class TaskKind(Protocol):
    """What a task's class offers before there is a task (as classmethods)."""

    name: ClassVar[str]

    def open_data(self, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        """Read and divide data. columns: what a person named, by this task's names for them."""
        ...

    def make(self, bundle: Any, parts: Parts, **settings: Any) -> Task:
        """A task for an opened model and these data. settings: `max_tokens` and the task's own."""
        ...

    def reopen(self, card: Mapping[str, Any], bundle: Any) -> Task:
        """The task that a `card` was of."""
        ...
