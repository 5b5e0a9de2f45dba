"""How a study gets its folder: a new one, one in place of an older run, or one to go on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hornbook.compare.layout import StudyFolder
from hornbook.compare.prepare import Prepared, with_resolved_techniques
from hornbook.compare.settings import StudyPlan, StudySettings
from hornbook.config import format_duration, settings_from
from hornbook.errors import StudyError
from hornbook.files import atomic_folder
from hornbook.runs import locked, set_aside


def is_study(folder: Path) -> bool:
    return (folder / "study.json").is_file()


def begin(folder: StudyFolder, prepared: Prepared) -> None:
    """Write what was prepared; a run that stood there is set aside once the new one is whole.

    Raises StudyError when another process is writing to it.
    """
    if folder.path.exists() and not any(folder.path.iterdir()):
        prepared.write(folder)  # perhaps a mounted disk, which nothing can take the place of
        return
    with atomic_folder(folder.path) as whole:
        prepared.write(StudyFolder(whole))
        if folder.path.exists():
            with locked(folder.path):
                pass
            set_aside(folder.path)


def check_free(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless it was said what to do with it."""
    if resume and overwrite:
        raise StudyError("--resume and --overwrite cannot both be asked for", hint="Choose one.")
    if resume and not is_study(folder):
        raise StudyError(
            f"there is no study to resume in {folder}",
            hint="Give the folder of the interrupted run: hornbook compare runs/… --resume",
        )
    if folder.is_file():
        raise StudyError(f"{folder} is a file", hint="--out takes the name of a new folder.")
    if not folder.exists() or not any(folder.iterdir()) or resume:
        return
    if not overwrite:
        raise StudyError(
            f"{folder} exists already",
            hint="Go on with it by --resume, replace it by --overwrite, or choose another --out.",
        )
    if not is_study(folder):
        raise StudyError(
            f"{folder} holds something that is no study, and is not overwritten",
            hint="Choose another folder with --out.",
        )


def check_continues(
    folder: StudyFolder, asked: Mapping[str, Any], out: Path | None, overwrite: bool
) -> None:
    """Refuse settings given beside `--resume` that are not those the study was begun with."""
    check_free(folder.path, True, overwrite)
    if out is not None and out.resolve() != folder.path.resolve():
        raise StudyError(
            f"{folder.path} is resumed where it is; --out {out} cannot apply",
            hint=f"hornbook compare {folder.path} --resume",
        )
    plan = folder.plan()
    settings = settings_from(StudySettings, dataset=plan.settings.dataset, **asked)
    _check_settings(folder, plan.settings, with_resolved_techniques(settings), asked)


def check_same(folder: StudyFolder, plan: StudyPlan) -> None:
    """Refuse to mix results of different data or settings in one folder."""
    old = folder.plan()
    if old.dataset.sha256 != plan.dataset.sha256:
        raise StudyError(
            f"{folder.path} was begun with other data: "
            f"{old.dataset.sha256[:12]}… there, {plan.dataset.sha256[:12]}… now",
            hint="The texts, labels or splits have changed; start anew with another --out.",
        )
    _check_settings(folder, old.settings, plan.settings, StudySettings.model_fields)


def _check_settings(
    folder: StudyFolder, old: StudySettings, new: StudySettings, names: Iterable[str]
) -> None:
    before, now = old.model_dump(), new.model_dump()
    if old.total is not None and new.total is None:
        before["budget"] = None  # the total took its place
    changed = [
        f"{name} was {_in_words(name, before[name])}, is {_in_words(name, now[name])}"
        for name in names
        if before[name] != now[name]
    ]
    if changed:
        raise StudyError(
            f"{folder.path} was begun with other settings: {'; '.join(changed)}",
            hint=f"hornbook compare {folder.path} --resume goes on with those it was begun with.",
        )


def _in_words(name: str, value: Any) -> str:
    if value is None:
        return "not given"
    if name in ("budget", "total"):
        return format_duration(value)
    return ", ".join(value) if isinstance(value, tuple) else str(value)
