"""What a study is asked to do. Written to study.json, so that a run can be repeated and resumed."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from hornbook.config import Seconds, Settings
from hornbook.records import DatasetInfo, Environment, Record


class StudySettings(Settings):
    """Settings of one study. Durations are seconds; '90s', '5m' and '1h' are understood.

    techniques: names, or `path.py:Class` for a user's own; empty means every one there is.
    budget: for each technique to fit, tuning and pretraining included. total: for the whole study;
    it divides the time among the techniques and takes the place of `budget`.
    """

    dataset: str
    text: str | None = None
    label: str | None = None
    title: str | None = None
    label_separator: str | None = None
    techniques: tuple[str, ...] = ()
    budget: Seconds = 120.0
    total: Seconds | None = None
    repeats: int = Field(default=1, ge=1, le=100)
    seed: int = Field(default=0, ge=0, lt=2**31)
    test_share: float = Field(default=0.2, gt=0, lt=1)
    validation_share: float = Field(default=0.1, gt=0, lt=1)

    @field_validator("techniques")
    @classmethod
    def _each_once(cls, techniques: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(techniques))


def settings_asked(**values: Any) -> dict[str, Any]:
    """Those settings that were given: what is None, or an empty tuple, was not."""
    return {name: value for name, value in values.items() if value not in (None, ())}


class StudyPlan(Record):
    """study.json: written before anything runs. `command` repeats the study."""

    settings: StudySettings
    dataset: DatasetInfo
    label_descriptions: dict[str, str]
    environment: Environment
    command: str
    started: str
