"""Settings: frozen pydantic models that refuse unknown keys, with refusals a person can read."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from hornbook.errors import ConfigError, nearest

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smh]\s*)+")


class Settings(BaseModel):
    """Base of all settings. Make one with `settings_from`, which explains what it refuses."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Settings)


def settings_from(kind: type[S], **values: Any) -> S:
    """Build settings. Raises ConfigError naming each wrong key, its value and what is allowed."""
    try:
        return kind(**values)
    except ValidationError as error:
        problems, hints = [], []
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                problems.append(f"there is no setting named '{name}'")
                hints.append(nearest(name, kind.model_fields))
            elif not name:  # of several settings together
                problems.append(problem["msg"].removeprefix("Value error, "))
                hints.append("Change one of them.")
            else:
                message = problem["msg"].removeprefix("Value error, ")
                problems.append(f"{name}: {message} (it is {problem['input']!r})")
        raise ConfigError("; ".join(problems), hint=" ".join(hints)) from error


def parse_duration(value: str | int | float) -> float:
    """Seconds from a number of seconds or from text such as '90s', '5m', '1h30m', '120'.

    Raises ConfigError for anything else, and for what is not more than zero.
    """
    seconds = _seconds(value)
    if seconds is None or not 0 < seconds < 1e9:
        raise ConfigError(
            f"{value!r} is not a duration", hint="Write seconds, minutes or hours: 90s, 5m, 1h30m."
        )
    return seconds


def format_duration(seconds: float) -> str:
    """The duration as a person writes it: 0.4s, 45s, 2m 05s, 1h 03m."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def _seconds(value: str | int | float) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip().lower()
    if _DURATION.fullmatch(text):
        return sum(float(part[:-1]) * _UNITS[part[-1]] for part in re.findall(r"[\d.]+[smh]", text))
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _validated_duration(value: Any) -> float:
    try:
        return parse_duration(value)
    except ConfigError as error:
        raise ValueError(error.hint.rstrip(".")) from error


Seconds = Annotated[float, BeforeValidator(_validated_duration)]
