"""The run folder: how one is claimed, what it was run with, and lines of JSON written to it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

import hornbook
from hornbook.errors import CheckpointError, StudyError
from hornbook.files import write_text
from hornbook.records import Environment

_PACKAGES = (
    "torch",
    "scikit-learn",
    "numpy",
    "scipy",
    "tokenizers",
    "accelerate",
    "safetensors",
    "codecarbon",
)
M = TypeVar("M", bound=BaseModel)


def default_folder(name: str) -> Path:
    """`runs/<name>-<YYYYMMDD-HHMMSS>`, with a number behind where that exists already."""
    stem = re.sub(r"[^\w.-]+", "-", Path(name).stem or name).strip("-.") or "run"
    path = Path("runs") / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 2
    while path.exists():
        path = path.with_name(f"{path.name.split('_')[0]}_{number}")
        number += 1
    return path


def set_aside(folder: Path) -> None:
    """Move an older run out of the way, to `<folder>.previous`, until `drop_previous`.

    So a new run that fails loses nothing. Where one waits there already, it is the last complete
    run, which an unfinished one doesn't replace.
    """
    if previous(folder):
        shutil.rmtree(folder)
    else:
        folder.rename(_previous(folder))


def drop_previous(folder: Path) -> None:
    """Remove the run set aside, now that the new one is complete."""
    shutil.rmtree(_previous(folder), ignore_errors=True)


def previous(folder: Path) -> Path | None:
    """Where the run that this one replaces was set aside, if one was."""
    return _previous(folder) if _previous(folder).exists() else None


def _previous(folder: Path) -> Path:
    return folder.with_name(folder.name + ".previous")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process. Raises StudyError when another one is writing to it."""
    from filelock import FileLock, Timeout

    lock = FileLock(str(folder / ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StudyError(
            f"{folder} is being written to by another process",
            hint="Wait until it has ended, or choose another folder with --out.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as JSON, atomically."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def read_record(path: Path, kind: type[M]) -> M:
    """Read a record back. Raises StudyError when it is missing, CheckpointError when broken."""
    if not path.is_file():
        raise StudyError(f"there is no {path}", hint="Is this the folder of a finished run?")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{path} is not a valid {kind.__name__}: {where}: {first['msg']}",
            hint="It is damaged, or was written by another version; run the study again.",
        ) from error


def write_lines(path: Path, records: Iterable[BaseModel]) -> None:
    """Write one record a line, atomically."""
    write_text(path, "".join(record.model_dump_json() + "\n" for record in records))


def environment(*, device: str, precision: str) -> Environment:
    """The machine and the versions that are installed, without importing what they are of."""
    import psutil

    return Environment(
        hornbook=hornbook.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        processor=processor(),
        n_cpus=n_cpus(),
        memory_bytes=psutil.virtual_memory().total,
        device=device,
        precision=precision,
        packages=versions(),
    )


def n_cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, as the system gives it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def now() -> str:
    """The time as ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """The installed versions of what decides results, by package."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
