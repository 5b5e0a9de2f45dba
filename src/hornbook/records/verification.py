"""What `hornbook verify` found: exactness, measured on this machine with this model."""

from __future__ import annotations

from pydantic import Field

from hornbook.records.base import Record
from hornbook.records.training import Finite


class CheckRecord(Record):
    """One property. difference: the largest between two numbers that ought to be the same, as a
    share of the largest of them, or a count; None where it is no number. allowed: the most that
    still holds, 0 where every bit is to be the same. note: what was compared."""

    name: str
    difference: Finite
    allowed: float
    holds: bool
    seconds: float
    note: str = ""


class VerificationRecord(Record):
    """All properties of one model. kind: what it was taken for. left_out: checks, and why."""

    model: str
    kind: str
    n_parameters: int
    holds: bool
    checks: list[CheckRecord]
    left_out: list[str] = Field(default_factory=list)
    seconds: float
    n_threads: int
    at: str = ""
    hornbook: str = ""
