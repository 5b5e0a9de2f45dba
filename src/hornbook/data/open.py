"""Open labelled texts by a name or a path, whatever they are."""

from __future__ import annotations

from pathlib import Path

from hornbook.data.datasets import DATASETS
from hornbook.data.examples import TextDataset
from hornbook.data.hub import PREFIX, load_hub
from hornbook.data.tables import Columns, load_table
from hornbook.errors import ConfigError, UnknownNameError, nearest


def open_dataset(
    name_or_path: str | Path,
    *,
    text: str | None = None,
    label: str | None = None,
    title: str | None = None,
    label_separator: str | None = None,
    split_column: str | None = None,
) -> TextDataset:
    """A corpus of the registry ("pydocs"), else a file or folder, else a name of the hub.

    The options name columns and are for tables only. "hf://owner/name" is always the hub; a file
    named like a corpus is reached as "./name". Raises UnknownNameError with the nearest name,
    DataError for a path where nothing is, ConfigError for column names with a corpus.
    """
    name = str(name_or_path)
    options = {"text": text, "label": label, "title": title, "split_column": split_column}
    options["label_separator"] = label_separator
    if name in DATASETS:
        if given := [f"{option}={value!r}" for option, value in options.items() if value]:
            raise ConfigError(
                f"'{name}' is a built-in corpus and takes no columns ({', '.join(given)})",
                hint=f"Leave them out; for a file or folder of that name give './{name}'.",
            )
        return DATASETS.load(name)()
    path = Path(name).expanduser()
    if not name.startswith(PREFIX) and (path.exists() or _like_a_path(name)):
        return load_table(path, **options)
    if name.startswith(PREFIX) or name.count("/") == 1:
        columns = Columns(text=text, label=label, title=title, split=split_column)
        return load_hub(name, columns, label_separator)
    raise UnknownNameError(
        f"there is no data set, file or folder named '{name}'",
        hint=f"{nearest(name, DATASETS)} Or give a path (tickets.csv), or a name of the hub "
        "(owner/name).",
    )


def _like_a_path(name: str) -> bool:
    """Whether a name that does not exist was meant as a path, so that the error speaks of files."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or bool(Path(name).suffix)
