"""Find a corpus that is read from a data folder and cannot be fetched by us."""

from __future__ import annotations

from pathlib import Path

from hornbook import files
from hornbook.errors import UnavailableError


def local_file(folder: str, name: str, home_page: str) -> Path:
    """`folder/name` in the first data folder that has it. Raises UnavailableError, saying where."""
    places = [parent / folder / name for parent in files.data_folders()]
    for path in places:
        if path.is_file():
            return path
    raise UnavailableError(
        f"{folder}/{name} is not on this machine; looked for: {', '.join(map(str, places))}",
        hint=f"It can be had from {home_page}. What works offline: `pydocs`, and your own tables.",
    )
