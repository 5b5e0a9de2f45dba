"""What an evaluation of a fine-tuned model writes down: metrics with intervals, and comparisons."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hornbook.records.base import Record
from hornbook.records.training import Finite, Setting

Part = Literal["train", "validation", "test", "all"]


class MetricRecord(Record):
    """A metric of n examples; low, high: its 95 % interval over other examples of the kind."""

    name: str
    value: Finite
    low: Finite = None
    high: Finite = None
    n_examples: int = 0
    higher_is_better: bool = True


class DifferenceRecord(Record):
    """A metric of two models on the same examples. difference: ours - theirs, with its interval.

    p_value: two-sided, that both score alike; None where one of them has no number.
    """

    name: str
    ours: Finite
    theirs: Finite
    difference: Finite
    low: Finite = None
    high: Finite = None
    p_value: Finite = None
    higher_is_better: bool = True


class ComparisonRecord(Record):
    """One model against another on the same examples. verdict: a sentence on the first metric."""

    other: str
    differences: list[DifferenceRecord]
    verdict: str


class AssessmentRecord(Record):
    """metrics: the most important first. look: the how manieth look at this test part, 0 elsewhere.

    warnings: sentences on why the figures are not to be trusted. part: "all", of undivided data.
    examples_hash: SHA-256 of the examples, so that two assessments can be told to be of the same.
    part_hash, n_part: of the whole part, where n_examples of it were drawn; by these looks are
    counted. Records of before that lack them, and are taken to be of whole parts.
    columns: what was read as what, by `--column` or as for training; None in records of before.
    predictions: the file with them, beside this record.
    """

    run: str
    task: str
    data: str
    columns: dict[str, str] | None = None
    part: Part
    n_examples: int
    examples_hash: str
    part_hash: str = ""
    n_part: int = 0
    metrics: list[MetricRecord]
    look: int = 0
    seconds: float
    device: str = "cpu"
    at: str = ""
    predictions: str = ""
    against: ComparisonRecord | None = None
    warnings: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @property
    def partial(self) -> bool:
        """Whether these are only some of the part's examples."""
        return self.n_examples < self.n_part


class CurvePoint(Record):
    """A fit on a part of the training data, measured on all of validation."""

    n_examples: int
    metric: MetricRecord
    steps: int = 0
    seconds: float = 0.0


class Forecast(Record):
    """What the metric would be with so many examples; low, high: 95 %, of validation and fit."""

    n_examples: int
    value: float
    low: float
    high: float
    gain: float  # over all the data there are
    gain_low: float
    gain_high: float


class LearningCurveRecord(Record):
    """The metric by the number of training examples: ceiling - slope * n ** -exponent.

    forecasts is empty and refusal says why where nothing can be foreseen from these points.
    """

    metric: str
    higher_is_better: bool
    points: list[CurvePoint]
    ceiling: Finite = None
    slope: Finite = None
    exponent: Finite = None
    forecasts: list[Forecast] = Field(default_factory=list)
    refusal: str = ""
    says: str
    notes: list[str] = Field(default_factory=list)


TrialState = Literal["finished", "pruned", "failed", "out of time"]


class TrialRecord(Record):
    """One trial of a search. score: what is searched for, lower is better; None without one."""

    number: int
    state: TrialState
    defaults: bool = False  # whether nothing in it was searched for
    settings: dict[str, Setting]  # those that were searched
    score: Finite = None
    metrics: dict[str, Finite] = Field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    folder: str = ""
    message: str = ""


class SearchedSetting(Record):
    """A setting and where it was looked for: from low to high, or among choices."""

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: list[Setting] = Field(default_factory=list)


class TuningRecord(Record):
    """tuning.json: a search over settings, by validation alone; one trial is the defaults.

    chosen_by: the metric, or the loss. higher_is_better: of chosen_by, whose score is negated.
    """

    task: str
    model: str
    data: str
    method: str
    chosen_by: str
    higher_is_better: bool
    searched: list[SearchedSetting]
    fixed: dict[str, Setting] = Field(default_factory=dict)
    trials: list[TrialRecord]
    best: int | None = None
    against_defaults: ComparisonRecord | None = None
    seconds: float
    says: str
    notes: list[str] = Field(default_factory=list)
    command: str = ""
    hornbook: str = ""
