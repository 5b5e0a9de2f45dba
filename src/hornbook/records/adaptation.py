"""What adapting a model writes down: findings and a plan beforehand, summary.json at the end."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hornbook.records.assessment import DifferenceRecord, MetricRecord
from hornbook.records.base import Record
from hornbook.records.training import MemoryRecord, RunSummary


class FindingRecord(Record):
    """What preflight found. cost: what happens if it stays so; mend: what to do."""

    code: str
    level: Literal["stop", "warn", "note"]
    what: str
    cost: str = ""
    mend: str = ""


class AdaptPlanRecord(Record):
    """What a run will take, by a few measured steps; memory is counted.

    n_steps and n_tokens: in training, each pass counted. seconds: evaluations included, as far as
    they can be foreseen. advice: on method and rate, by the size of these data.
    """

    model: str
    method: str
    n_parameters: int
    n_trained: int
    n_steps: int
    n_tokens: int
    seconds: float
    tokens_per_second: float
    memory: MemoryRecord
    memory_available: int
    fits: bool
    changes: list[str] = Field(default_factory=list)  # settings that would make it fit
    advice: list[str] = Field(default_factory=list)


class PreflightRecord(Record):
    """preflight.json: all that was found before the first step. plan: None where not measured."""

    findings: list[FindingRecord]
    plan: AdaptPlanRecord | None = None


class ForgettingRecord(Record):
    """Other examples, measured before the first step and with the weights kept.

    metrics: afterwards. differences: after - before of each, paired. says: a sentence on the first.
    """

    data: str
    n_examples: int
    metrics: list[MetricRecord]
    differences: list[DifferenceRecord]
    says: str


class AdaptSummary(RunSummary):
    """summary.json of a fine-tuning run. metrics: of the weights kept, on all of validation."""

    task: str
    base_model: str
    base_licence: str = ""  # "" where nothing says it
    method: str
    n_trained: int  # numbers that learnt
    n_train: int  # examples
    n_validation: int
    n_test: int | None = None  # never looked at by the run
    label_names: list[str] = Field(default_factory=list)
    best: str  # the metric that chose among evaluations
    metrics: list[MetricRecord] = Field(default_factory=list)
    metrics_before: dict[str, float] = Field(default_factory=dict)  # before the first step
    n_before: int | None = None  # validation examples that these are of, from all over
    forgetting: ForgettingRecord | None = None
    findings: list[FindingRecord] = Field(default_factory=list)
    adapt_plan: AdaptPlanRecord | None = None
