"""The settings a run was begun with: its config.yaml, and what is asked for beside it later."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml

from hornbook.config import Settings, settings_from
from hornbook.errors import ConfigError, StudyError

S = TypeVar("S", bound=Settings)


def read_config(path: Path, kind: type[S], *, of: str, such_as: str) -> S:
    """Read config.yaml. of: what its folder should be; such_as: a line that it could hold.

    Raises StudyError when it is missing, ConfigError when it is damaged or has unknown keys.
    """
    if not path.is_file():
        raise StudyError(f"there is no {path}", hint=f"Name the folder of a {of}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}", hint="Mend it, or start anew.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings", hint=f"Lines such as `{such_as}` are meant.")
    return settings_from(kind, **values)


def refuse_others(folder: Path, begun: Settings, given: dict[str, Any]) -> None:
    """Raise ConfigError where what is given beside a run that goes on is not what it began with."""
    wanted = settings_from(type(begun), **(begun.model_dump() | given))
    different = [
        f"{name} is {getattr(begun, name)!r}, asked for {getattr(wanted, name)!r}"
        for name in given
        if getattr(begun, name) != getattr(wanted, name)
    ]
    if different:
        raise ConfigError(
            f"{folder} was begun with other settings: {'; '.join(different)}",
            hint="Leave them out to go on, or start a new run.",
        )
