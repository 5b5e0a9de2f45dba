"""Tables in Arrow's own files: .arrow, .feather, and folders that `datasets` saved.

Rows are mapped, filtered, sorted and joined by the libraries that people have for it (`datasets`,
pandas, polars, pyarrow); what they leave on the disk is read here (decision 14).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hornbook.errors import DataError

SUFFIXES = (".arrow", ".feather")


def is_arrow(path: Path) -> bool:
    """Whether it is one table: a file by its name, or a folder by `Dataset.save_to_disk`."""
    if path.is_dir():
        return (path / "state.json").is_file() and any(path.glob("*.arrow"))
    return path.suffix.lower() in SUFFIXES and path.is_file()


def saved_parts(folder: Path) -> dict[str, Path]:
    """Parts of a `DatasetDict` that was saved, by name: "train" -> its folder; {} of another."""
    if not (folder / "dataset_dict.json").is_file():
        return {}
    return {p.name: p for p in sorted(folder.iterdir()) if p.is_dir() and is_arrow(p)}


def files_of(path: Path) -> list[Path]:
    """The Arrow files of a table, in order."""
    return sorted(path.glob("*.arrow")) if path.is_dir() else [path]


def read_arrow(path: Path) -> Any:
    """The pyarrow.Table of what `is_arrow`. Raises DataError where a file is no such file."""
    import pyarrow

    return pyarrow.Table.from_batches([b for file in files_of(path) for b in batches(file)])


def batches(file: Path) -> Iterator[Any]:
    """The record batches of one file, mapped into memory. Raises DataError as `read_arrow`."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(file)) as source:
            try:  # `datasets` writes streams, Feather and others files
                reader = pyarrow.ipc.open_file(source)
                yield from map(reader.get_batch, range(reader.num_record_batches))
            except pyarrow.ArrowInvalid:
                source.seek(0)
                yield from pyarrow.ipc.open_stream(source)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{file} cannot be read as Arrow: {str(error).splitlines()[0]}",
            hint="Is the file whole? Files, streams and Feather's second version are known.",
        ) from error
