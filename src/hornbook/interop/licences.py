"""Under which licence a model is, as the catalogue or the model's own card says."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from hornbook.interop.catalogue import CATALOGUE


def licence_of(model: str) -> str:
    """A model's licence by its name or folder; "" where nothing here says it."""
    if model in CATALOGUE:
        return CATALOGUE[model].licence
    for path in (Path(model).expanduser(), Path("runs") / model):
        beside = path.parent if path.name == "model" else path  # a run's card is above its model
        if said := _of_card(path / "README.md") or _of_card(beside / "README.md"):
            return said
    return ""


def _of_card(path: Path) -> str:
    """`license` of a card's front matter."""
    try:
        front = re.match(r"---\n(.*?)\n---", path.read_text(encoding="utf-8"), re.DOTALL)
        said = yaml.safe_load(front[1])["license"] if front else ""
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return ""
    return said if isinstance(said, str) else ""
