"""Data sets of the Hugging Face hub, through the library `datasets` (the extra `hub`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from hornbook import files
from hornbook.data.examples import TextDataset
from hornbook.data.rows import Table, class_name
from hornbook.data.tables import Columns, dataset_of
from hornbook.errors import UnavailableError

PREFIX = "hf://"
OFFLINE_HINT = "What works offline: `pydocs`, and your own tables (csv, tsv, jsonl, parquet)."


def load_hub(
    name: str, columns: Columns | None = None, label_separator: str | None = None
) -> TextDataset:
    """Read "owner/name" or "owner/name:configuration" from the hub, or from its local cache.

    The hub's test split is the test split; where it has no labels, the validation split. Raises
    UnavailableError where `datasets` is not installed or the data cannot be fetched.
    """
    name = name.removeprefix(PREFIX)
    found = _load(name)
    return dataset_of(
        _table(f"{PREFIX}{name}", found, columns or Columns()),
        name.partition(":")[0].rpartition("/")[2],
        columns or Columns(),
        label_separator,
    )


def stream_rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a data set's training part (else its first), fetched while they are read.

    Raises UnavailableError as `load_hub` does, also where the connection is lost on the way.
    """
    name = name.removeprefix(PREFIX)
    parts = _load(name, streaming=True)
    try:
        yield from parts["train" if "train" in parts else next(iter(parts))]
    except Exception as error:  # as above
        raise _unavailable(name, error) from error


def _load(name: str, *, streaming: bool = False) -> Any:
    """All parts of a data set, by name."""
    try:
        import datasets
    except ImportError as error:
        raise UnavailableError(
            f"the data set '{name}' of the hub needs the library `datasets`",
            hint="pip install 'hornbook[hub]'. " + OFFLINE_HINT,
        ) from error
    path, _, configuration = name.partition(":")
    mode = datasets.DownloadMode.REUSE_DATASET_IF_EXISTS
    if files.offline():
        datasets.config.HF_HUB_OFFLINE = True  # the library read the environment when imported
    logging.getLogger("datasets").setLevel(logging.ERROR)
    try:
        return datasets.load_dataset(
            path, configuration or None, download_mode=mode, streaming=streaming
        )
    except Exception as error:  # the library lets the errors of half a dozen others through
        raise _unavailable(name, error) from error


def _unavailable(name: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the data set '{name}' could not be had from the hub: {type(error).__name__}: "
        f"{str(error).splitlines()[0] if str(error) else ''}",
        hint="Check the name and the network; a data set with several configurations is named "
        f"owner/name:configuration. {OFFLINE_HINT}",
    )


def _table(name: str, found: Any, columns: Columns) -> Table:
    """All rows of the parts used, with the names of integer classes."""
    parts = {part: found[part] for part in ("train", "validation", "test") if part in found}
    if "train" not in parts:
        first = next(iter(found))
        parts = {"train": found[first]}
    notes = []
    table = Table(name, list(next(iter(parts.values())).column_names), [], [], splits=[])
    for part, rows in parts.items():
        names = {c: n for c, f in rows.features.items() if (n := _names(f))}
        converted = [
            {c: class_name(v, names[c]) if c in names else v for c, v in row.items()}
            for row in rows
        ]
        if part == "test" and names and all(r[c] is None for r in converted for c in names):
            notes.append("The hub's test split has no labels: its validation split is the test.")
            table.splits = ["test" if s == "validation" else s for s in table.splits or []]
            continue
        table.rows += converted
        table.places += [f"{part} row {i}" for i in range(len(converted))]
        table.splits = (table.splits or []) + [part] * len(converted)
    table.notes += notes
    return table


def _names(feature: Any) -> list[str] | None:
    """The class names of a ClassLabel, or of a list of these."""
    return getattr(feature, "names", None) or getattr(
        getattr(feature, "feature", None), "names", None
    )
