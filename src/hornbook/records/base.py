"""What all records have in common, and the machine they were made on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

EnergySource = Literal["measured", "estimated", "none"]


class Record(BaseModel):
    """Base of all records: frozen, and refusing keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Environment(Record):
    """The machine and the versions a study ran with."""

    hornbook: str
    python: str
    platform: str
    processor: str
    n_cpus: int
    memory_bytes: int
    device: str
    precision: str
    packages: dict[str, str]
