"""What a study of techniques writes down."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hornbook.records.base import EnergySource, Environment, Record

Status = Literal["ok", "skipped", "failed", "killed", "interrupted"]


class TechniqueResult(Record):
    """One technique, one repeat: a line of results.jsonl. Scores are None unless status is ok."""

    technique: str
    repeat: int
    status: Status
    micro_f1: float | None = None
    macro_f1: float | None = None
    weighted_f1: float | None = None
    accuracy: float | None = None  # subset accuracy where the problem is multi-label
    validation_micro_f1: float | None = None
    budget_seconds: float | None = None
    fit_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    texts_per_second: float | None = None
    size_bytes: int | None = None
    energy_kwh: float | None = None
    emissions_kg: float | None = None
    energy_source: EnergySource = "none"
    decision: str = ""  # the decision layer in words: "global threshold 0.31, at least one label"
    settings: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    message: str = ""  # why it was skipped, failed or killed; a hint on what to do


class LeaderboardRow(Record):
    """One technique over its repeats. Scores are means; the interval is of micro-F1, 95 %."""

    technique: str
    micro_f1: float
    macro_f1: float
    weighted_f1: float
    accuracy: float
    ci_low: float
    ci_high: float
    p_value: float | None = None  # against the leader, Holm-corrected; None for the leader itself
    ties_with_leader: bool
    fit_seconds: float
    cpu_seconds: float
    peak_bytes: int
    p50_ms: float
    p95_ms: float
    texts_per_second: float
    size_bytes: int
    energy_kwh: float
    energy_source: EnergySource
    n_repeats: int


class LabelScore(Record):
    """One label's test scores under one technique."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float


class Confusion(Record):
    """`count` test texts of label `truth` were given label `predicted` and not their own."""

    truth: str
    predicted: str
    count: int


class HardText(Record):
    """A test text that techniques get wrong, or whose label is probably wrong."""

    id: str
    text: str
    truth: list[str]
    predicted: list[str]
    n_wrong: int  # by how many of n_techniques
    n_techniques: int
    probability: float  # the leader's for the true label (the least of them)


class Duplicate(Record):
    """Two texts that are the same or nearly so; similarity is the Jaccard index of word 3-grams."""

    first_id: str
    second_id: str
    first_split: str
    second_split: str
    similarity: float
    same_labels: bool
    excerpt: str


class LabelIssue(Record):
    """A training text whose given labels a cross-validated model finds improbable."""

    id: str
    split: str
    given: list[str]
    suggested: list[str]
    given_probability: float
    excerpt: str


class LabelCount(Record):
    label: str
    train: int
    validation: int
    test: int


class Audit(Record):
    """What is to be known of the data before anything is fitted."""

    n_texts: int
    n_labels: int
    multi_label: bool
    n_empty: int
    n_exact_duplicates: int
    n_near_duplicates: int
    n_leaks: int  # test texts that are near-duplicates of a train or validation text
    labels_per_text: float
    words_p5: float
    words_median: float
    words_p95: float
    words_max: int
    label_counts: list[LabelCount]
    co_occurrence: list[tuple[str, str, int]] = Field(default_factory=list)
    leaks: list[Duplicate] = Field(default_factory=list)
    duplicates: list[Duplicate] = Field(default_factory=list)
    label_issues: list[LabelIssue] = Field(default_factory=list)
    findings: list[str] = Field(default_factory=list)  # sentences: what it costs, how to mend it


class DatasetInfo(Record):
    name: str
    source: str
    licence: str
    multi_label: bool
    n_train: int
    n_validation: int
    n_test: int
    label_names: list[str]
    sha256: str  # of the texts, labels and splits, in order
    notes: list[str] = Field(default_factory=list)


class Summary(Record):
    """summary.json: the study's outcome for programs. `leaderboard` is best first."""

    dataset: str
    splits: dict[str, int]
    n_labels: int
    multi_label: bool
    leaderboard: list[LeaderboardRow]
    not_finished: list[TechniqueResult] = Field(default_factory=list)
    best: str | None
    recommended: str | None  # the cheapest that ties with the leader, the floor aside
    advice: str
    command: str
    seconds: float


class StudyRecord(Record):
    """All that report.html is made from; written as study_record.json beside it."""

    summary: Summary
    results: list[TechniqueResult]
    dataset: DatasetInfo
    audit: Audit
    per_label: dict[str, list[LabelScore]]  # by technique
    confusions: dict[str, list[Confusion]]  # by technique, most frequent first
    hardest: list[HardText]
    mislabelled: list[HardText]
    settings: dict[str, str | int | float | bool | list[str] | None]
    environment: Environment
    hashes: dict[str, str]  # file or model -> sha256
    started: str  # ISO 8601, UTC
