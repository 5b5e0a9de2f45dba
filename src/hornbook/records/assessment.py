"""What an evaluation of a fine-tuned model writes down: metrics with intervals, and comparisons."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hornbook.records.base import Record
from hornbook.records.training import Finite

Part = Literal["train", "validation", "test"]


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

    examples_hash: SHA-256 of the examples, so that two assessments can be told to be of the same.
    predictions: the file with them, beside this record.
    """

    run: str
    task: str
    data: str
    part: Part
    n_examples: int
    examples_hash: str
    metrics: list[MetricRecord]
    look: int = 0
    seconds: float
    device: str = "cpu"
    at: str = ""
    predictions: str = ""
    against: ComparisonRecord | None = None
    notes: list[str] = Field(default_factory=list)
