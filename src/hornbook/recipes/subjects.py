"""What is evaluated: a fine-tuned run at its task, or a model as it came at one without a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hornbook import bundle as bundles
from hornbook import runs
from hornbook.errors import CheckpointError, ConfigError
from hornbook.models.heads import ChoiceScorer
from hornbook.recipes.adapted import Opened, open_task
from hornbook.recipes.kinds import KINDS

# Tasks that a model can be judged at as it came: nothing new stands on it.
WITHOUT_HEAD = ("choose", "chat", "continue", "fill", "embed", "translate", "summarize")


@dataclass(frozen=True)
class Subject:
    """What is evaluated. folder: where the record goes. settings: what it was trained with, {} for
    a model as it came. name: what it is called beside others."""

    name: str
    folder: Path
    opened: Opened
    settings: Mapping[str, Any]

    @property
    def tuned(self) -> bool:
        return bool(self.settings)


def folder_of(run: str) -> Path:
    """A run by its folder, its model's or its adapter's, or by its name in `runs/`.

    Raises CheckpointError where there is none.
    """
    return _around(place_of(run))


def place_of(run: str) -> Path:
    """The folder that was named: a run's, or its `model` or `adapter`, as `folder_of` takes them.

    Raises CheckpointError where there is none.
    """
    for path in _places(run):
        if path.is_dir():
            return path
    raise CheckpointError(
        f"there is no run {run}", hint="Name a run's folder; `hornbook models` lists those here."
    )


def settings_of(run: Path) -> dict[str, Any]:
    """config.yaml of a run; {} where there is none. Raises CheckpointError when it is damaged."""
    path = run / "config.yaml"
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise CheckpointError(
            f"{path} is damaged: {error}", hint="Name the data: --data D"
        ) from error
    return found if isinstance(found, dict) else {}


def is_tuned(model: str) -> bool:
    """Whether a name is that of a fine-tuning run's folder, its model's or its adapter's."""
    return any("method" in settings_of(_around(path)) for path in _places(model))


def tuned(run: str) -> Subject:
    """A fine-tuned run. Raises CheckpointError where there is none."""
    folder = folder_of(run)
    return Subject(folder.name, folder, open_task(place_of(run)), settings_of(folder))


def untrained(
    model: str,
    task: str,
    data: str | None,
    columns: Mapping[str, str] | None,
    out: Path | None,
) -> Subject:
    """A model as it came, at a task that needs no head of its own.

    Raises ConfigError for a task that needs one, without data, for a model that was fine-tuned, and
    for an `out` that is a fine-tuned run's.
    """
    if task not in WITHOUT_HEAD:
        raise ConfigError(
            f"a model that was not fine-tuned can't be judged at '{task}': its head would be noise",
            hint=f"hornbook finetune {task} --model {model} …; as they came models can be judged "
            f"at: {', '.join(WITHOUT_HEAD)}.",
        )
    if data is None:
        raise ConfigError("--task needs data to judge by", hint="Add --data D.")
    opened = bundles.open_model(model)
    if opened.path is not None:
        _refuse_fine_tuned(model, opened.path.resolve())
    kind = KINDS.load(task)
    parts = kind.open_data(data, dict(columns or {}), seed=0)
    made = kind.make(opened, parts)
    network = made.build(opened)
    if isinstance(network, ChoiceScorer) and network is not opened.model:
        raise ConfigError(
            f"{model} is an encoder, whose head for options would be noise before it is taught",
            hint=f"hornbook finetune {task} --model {model} …; as they came decoders can be "
            "judged at it.",
        )
    name = Path(model).name
    if out is not None and is_tuned(str(out)):
        raise ConfigError(
            f"{out} is a fine-tuned run, and keeps figures and looks of its own",
            hint="Name another folder with --out, or none.",
        )
    folder = out or runs.default_folder(f"evaluate-{name}")
    folder.mkdir(parents=True, exist_ok=True)
    return Subject(name, folder, Opened(opened, network.eval(), made), {})


def _refuse_fine_tuned(model: str, path: Path) -> None:
    """Such a run has its own division of the data and its own count of looks at the test part.

    Raises ConfigError.
    """
    runs_of = (p for p in (path, path.parent) if "method" in settings_of(p))
    run = next(runs_of, path if (path / "task.json").is_file() else None)
    if run is not None:
        raise ConfigError(
            f"{model} was fine-tuned, and --task is for models as they came",
            hint=f"Evaluate it without --task: hornbook evaluate {run} --on validation",
        )


def _around(path: Path) -> Path:
    """The run that a folder `model` or `adapter` lies in: it says how data are divided, and keeps
    the looks at them. Any other folder is itself."""
    inside = path.resolve()
    if inside.name in ("model", "adapter") and "method" in settings_of(inside.parent):
        return inside.parent
    return path


def _places(run: str) -> tuple[Path, Path]:
    return Path(run).expanduser(), Path("runs") / run
