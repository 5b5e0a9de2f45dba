"""Where a technique's class comes from: the registry by name, which of some is NAME=MODEL, or a
user's file by `path.py:Class`.

A user's file is read (not run) when the study is set up, so that a wrong path or class name is
found before anything else is; it is run only in the process that fits the technique.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hornbook.compare.technique import Technique
from hornbook.compare.techniques import BUILT_IN, TECHNIQUES, WITH_MODEL
from hornbook.errors import ConfigError, UnknownNameError, nearest

_MEMBERS = ("name", "summary", "fit", "scores", "save", "load")


@dataclass(frozen=True)
class Source:
    """A technique by name, and what it is loaded by: its name, NAME=MODEL, or
    `/absolute/path.py:Class`."""

    name: str
    spec: str
    runs_last: bool = False

    @property
    def is_file(self) -> bool:
        return self.spec.partition("=")[0] not in BUILT_IN

    @property
    def model(self) -> str:
        """The model that a technique of ours is named with; "" for one that needs none."""
        return "" if self.is_file else self.spec.partition("=")[2]

    def load(self) -> type[Technique]:
        """Import the class; for a user's own this runs their file.

        Raises ConfigError when the file cannot be run or the class lacks a member.
        """
        if not self.is_file:
            name = self.spec.partition("=")[0]
            return (WITH_MODEL if name in WITH_MODEL else TECHNIQUES).load(name)
        path, _, attribute = self.spec.rpartition(":")
        cls: Any = getattr(_import_file(Path(path)), attribute, None)
        missing = [member for member in _MEMBERS if not hasattr(cls, member)]
        if missing:
            raise ConfigError(
                f"{self.spec} is no technique: it lacks {', '.join(missing)}",
                hint="The members of a technique are described in hornbook.compare.technique.",
            )
        return cls


def resolve(specs: Iterable[str]) -> list[Source]:
    """The techniques named, in the order in which a study runs them; all when none is named.

    Raises UnknownNameError for an unknown name or class, ConfigError for a file that is missing or
    broken, or for two techniques of one name (a user's own named like one that is built in, too).
    """
    sources = [source_of(spec) for spec in specs] or [source_of(name) for name in TECHNIQUES]
    names = [source.name for source in sources]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"two techniques are named {', '.join(sorted(twice))}",
            hint="Give your own class another `name`.",
        )
    order = list(TECHNIQUES)
    place = {s.name: order.index(s.name) if s.name in order else len(order) for s in sources}
    return sorted(sources, key=lambda s: (s.runs_last, place[s.name]))


def source_of(spec: str) -> Source:
    """One technique by name, NAME=MODEL, or `path.py:Class`."""
    name, _, model = spec.partition("=")
    if name in WITH_MODEL:
        return Source(name, f"{name}={_model_named(name, model)}")
    path, colon, attribute = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return _user_source(Path(path).expanduser(), attribute)
    if spec not in TECHNIQUES:
        raise UnknownNameError(
            f"there is no technique named '{spec}'",
            hint=f"{nearest(spec, [*TECHNIQUES, *WITH_MODEL])} One of your own is given as "
            "path.py:Class.",
        )
    return Source(spec, spec, runs_last=spec == "ensemble")


def _model_named(name: str, model: str) -> str:
    """A model as it is found from any folder. Raises ConfigError where none is named."""
    if not model:
        raise ConfigError(
            f"{name} needs a classifier of pairs that has a label 'entailment', and none is named",
            hint=f"Name one: --technique {name}=runs/entail, a run of hornbook finetune pairs or "
            "a folder that transformers saved.",
        )
    places = (Path(model).expanduser(), Path("runs") / model)
    return next((str(place.resolve()) for place in places if place.exists()), model)


def _user_source(path: Path, attribute: str) -> Source:
    if not path.is_file():
        raise ConfigError(
            f"there is no file {path} with a technique {attribute}",
            hint="--technique takes path.py:Class, with the path seen from here.",
        )
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{path} is not Python: {error}", hint="Mend the file first.") from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if attribute not in classes:
        raise UnknownNameError(
            f"{path} has no class {attribute}",
            hint=nearest(attribute, classes) if classes else "It has no class at all.",
        )
    constants = dict(_constants(classes[attribute]))
    name = constants.get("name")
    if not isinstance(name, str):
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", attribute).lower()
    if not re.fullmatch(r"[\w][\w.-]*", name):
        raise ConfigError(
            f"the name {name!r} of {path}:{attribute} cannot name a folder",
            hint="Use lower case letters, digits and hyphens.",
        )
    if name in BUILT_IN:
        raise ConfigError(
            f"{path}:{attribute} is named '{name}', like a technique that is built in",
            hint=f"Give the class another name, say name = 'my-{name}'.",
        )
    return Source(
        name, f"{path.resolve()}:{attribute}", runs_last=constants.get("needs_members") is True
    )


def _constants(node: ast.ClassDef) -> Iterable[tuple[str, object]]:
    """The class's attributes that are set to a plain constant."""
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        if isinstance(statement.value, ast.Constant):
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value.value


def _import_file(path: Path) -> ModuleType:
    name = f"_hornbook_user_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ConfigError(f"{path} cannot be imported", hint="Is it a Python file?")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their module up here
    sys.path.insert(0, str(path.parent))  # so that the file may import its neighbours
    specification.loader.exec_module(module)
    return module
