"""What judging answers in pairs writes down: a verdict a pair, and what they come to together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hornbook.records.assessment import MetricRecord
from hornbook.records.base import Record
from hornbook.records.training import Finite

Winner = Literal["A", "B", "tie"]


class VerdictRecord(Record):
    """A line of the verdicts' file. key: of prompt, answers and criteria; by: who judged.

    a_first, b_first: of a model, the share of probability that A is better, shown first and shown
    second. shown_first: of a person, who sees a pair once. n_a, n_b: characters of the answers.
    """

    key: str
    by: str
    prompt: str
    verdict: Winner
    a_first: Finite = None
    b_first: Finite = None
    shown_first: Literal["A", "B"] | None = None
    n_a: int = 0
    n_b: int = 0

    @property
    def flips(self) -> bool:
        """Whether the two orders gave opposite verdicts."""
        if self.a_first is None or self.b_first is None:
            return False
        return (self.a_first > 0.5) != (self.b_first > 0.5)


class AgreementRecord(Record):
    """With a person, on the pairs both judged. kappa: Cohen's, None where chance explains all."""

    n_pairs: int
    share: float
    kappa: Finite = None


class JudgingRecord(Record):
    """figures: win_rate (a tie counts half), flips, chose_first, preferred_longer, each with its
    95 % interval over other prompts; missing where nothing can be said. says: the verdict."""

    a: str
    b: str
    by: str
    n_pairs: int
    wins: int
    losses: int
    ties: int
    figures: list[MetricRecord]
    favours: Literal["first", "second", ""] = ""
    agreement: AgreementRecord | None = None
    says: str
    verdicts: str = ""
    notes: list[str] = Field(default_factory=list)
