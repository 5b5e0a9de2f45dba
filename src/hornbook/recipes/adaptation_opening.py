"""Opening a fine-tuning run: a new one from its settings, or an old one from its folder."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Sequence
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import nn

from hornbook import bundle as bundles
from hornbook import runs
from hornbook.adapters.methods import prepare
from hornbook.errors import ConfigError, DataError, StudyError, nearest
from hornbook.nn.precision import precision_asked
from hornbook.recipes.adaptation_run import Session
from hornbook.recipes.adaptation_settings import AdaptSettings, decided
from hornbook.recipes.begun import read_config, refuse_others
from hornbook.recipes.kinds import KINDS
from hornbook.recipes.rates import width
from hornbook.records import AdaptSummary, PreflightRecord
from hornbook.tasks.task import Finding, Parts, Task
from hornbook.training.accelerator import make_accelerator, place
from hornbook.training.emissions import country

N_READ, N_SPREAD = 1024, 64  # tokens that a model reads before it is rounded, of so many examples
USES = {"train": "learn from", "validation": "choose the best weights by"}


def open_new(settings: AdaptSettings, out: Path | None) -> Session:
    """Open model and data, and make everything ready; nothing is written yet.

    Raises StudyError when the folder holds something, and what model and data raise.
    """
    if place()[1] > 1 and (out is None or settings.time is not None):
        raise ConfigError(
            "several processes need one folder, and end together only after steps or epochs",
            hint="Give --out and --epochs or --steps.",
        )
    folder = out or runs.default_folder(f"{settings.task}-{Path(settings.data).stem}")
    if not place()[0] and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(
            f"{folder} is not empty",
            hint=f"Choose another --out, or go on with it: --resume {folder}",
        )
    country()  # refused before anything is begun
    return _ready(settings, folder)


def reopen(folder: Path, given: dict[str, Any]) -> Session:
    """A run that is to go on from its last whole checkpoint, or from its start.

    given: settings named beside it. Raises ConfigError when they differ from the run's, StudyError
    when it is finished or no run.
    """
    settings = _as_begun(folder, given)
    if (summary := finished(folder)) is not None:
        raise StudyError(
            f"{folder} is finished: {summary.n_steps:,} steps",
            hint=f"Start another one; `hornbook evaluate {folder}` measures this one.",
        )
    session = _ready(settings, folder)
    if (folder / "preflight.json").is_file():
        before = runs.read_record(folder / "preflight.json", PreflightRecord)
        session.plan = before.plan
        session.findings = [Finding(**f.model_dump()) for f in before.findings]
    return session


def open_beside(folder: Path, given: dict[str, Any]) -> Session:
    """A run's data and task, for what is done beside it when it is finished; nothing was learnt by
    the session's model. Raises as `reopen` does."""
    return _ready(_as_begun(folder, given), folder)


def finished(folder: Path) -> AdaptSummary | None:
    """The summary of a run that came to its end; None where it did not."""
    if not (folder / "summary.json").is_file():
        return None
    summary = runs.read_record(folder / "summary.json", AdaptSummary)
    return summary if summary.status in ("finished", "stopped early") else None


def _as_begun(folder: Path, given: dict[str, Any]) -> AdaptSettings:
    settings = read_settings(folder / "config.yaml")
    refuse_others(folder, settings, given)
    return settings


def _ready(settings: AdaptSettings, folder: Path) -> Session:
    kind = KINDS.load(settings.task)
    own = checked_options(kind, settings)
    parts = kind.open_data(settings.data, settings.columns, seed=settings.seed)
    _refuse_empty(parts, settings.data)
    bundle = bundles.open_model(settings.model)
    make_accelerator(precision_asked(settings.precision), seed=settings.seed)  # seeds the head
    if settings.max_tokens is not None:
        own["max_tokens"] = settings.max_tokens
    if "seed" in inspect.signature(kind.make).parameters:  # a task that draws, such as fill
        own["seed"] = settings.seed
    task: Task = kind.make(bundle, parts, **own)
    model = task.build(bundle)
    set_dropout(model, settings.dropout)
    prepared = prepare(
        model,
        settings.method,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.adapter_dropout,
        targets=settings.targets,
        rank_stabilized=settings.rank_stabilized,
        read=partial(read_some, task, model, parts.train),
    )
    chosen = decided(settings, d_model=width(model))
    return Session(chosen.settings, chosen.names, bundle, parts, task, model, prepared, folder)


def read_some(task: Task, model: nn.Module, examples: Sequence[Any]) -> None:
    """Have a model read about a thousand tokens of examples that are drawn, always the same.

    Drawn, since data have an order: by label, by source, or prompts by turns.
    """
    drawn = random.Random(0).sample(range(len(examples)), min(N_SPREAD, len(examples)))
    items, n_tokens = [], 0
    for item in task.items([examples[i] for i in drawn]):
        if n_tokens < N_READ:
            items.append(item)
            n_tokens += task.length(item)
    task.loss(model, task.collate(items))


def _refuse_empty(parts: Parts, data: str) -> None:
    for name in ("train", "validation"):
        if not getattr(parts, name):
            raise DataError(
                f"{data} has no {name} part: nothing to {USES[name]}",
                hint="Name data that have one. Of a file whose name has the word test or "
                "validation all is taken for that part: give the folder, or another name.",
            )


def checked_options(kind: Any, settings: AdaptSettings) -> dict[str, Any]:
    """The task's own settings, as the types that it says they have.

    Raises ConfigError for one that neither the recipe nor the task has, and for a value that is of
    another type.
    """
    parameters = inspect.signature(kind.make).parameters
    types = get_type_hints(kind.make)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):  # it refuses other names itself
        types = {f.name: get_type_hints(kind)[f.name] for f in fields(kind)
                 if f.default is not MISSING}  # fmt: skip
    else:
        own = [n for n in parameters if n not in ("bundle", "parts", "max_tokens")]
        for name in settings.options:
            if name not in own:
                known = [*own, *AdaptSettings.model_fields]
                raise ConfigError(
                    f"neither the recipe nor the task '{settings.task}' has a setting '{name}'",
                    hint=nearest(name, known),
                )
    return {
        name: _typed(name, value, types[name]) if name in types else value
        for name, value in settings.options.items()
    }


def own_defaults(kind: Any) -> dict[str, Any]:
    """A task's own settings with what they are where nobody says."""
    parameters = inspect.signature(kind.make).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return {f.name: f.default for f in fields(kind) if f.default is not MISSING}
    own = {n: p for n, p in parameters.items() if n not in ("bundle", "parts", "max_tokens")}
    return {name: p.default for name, p in own.items() if p.default is not p.empty}


def _typed(name: str, value: Any, kind: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        allowed = kind.__name__ if isinstance(kind, type) else str(kind)
        allowed = re.sub(r"\w+\.(?=\w)", "", allowed)  # without modules
        several = " Several stand in brackets: [64, 32]." if "[int" in allowed else ""
        raise ConfigError(
            f"{name} is {value!r}: {error.errors()[0]['msg']}",
            hint=f"--set {name}=... takes: {allowed}.{several}",
        ) from error


def set_dropout(model: nn.Module, share: float) -> None:
    """Have every part of a model drop this share of numbers while it learns."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = share
        elif isinstance(getattr(part, "dropout", None), float):
            setattr(part, "dropout", share)  # noqa: B010 (what the type checker knows of a module)


def read_settings(path: Path) -> AdaptSettings:
    """Read config.yaml; raises what `begun.read_config` does."""
    return read_config(path, AdaptSettings, of="fine-tuning run", such_as="task: classify")
