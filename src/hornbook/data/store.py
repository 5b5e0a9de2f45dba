"""Examples as JSON lines: how a study keeps its splits and hands them to its processes.

A line is {"id", "text", "title", "labels"}. A fingerprint tells two sets of examples apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from hornbook.data.examples import Document, Example
from hornbook.errors import DataError
from hornbook.files import atomic_file


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write the examples atomically, a line each, in their order."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for example in examples:
            file.write(_line(example) + "\n")


def read_examples(path: Path) -> list[Example]:
    """Read what `write_examples` wrote. Raises DataError naming the file and the line."""
    if not path.is_file():
        raise DataError(f"there is no file {path}", hint="Is the run folder complete?")
    examples = []
    # "\n" alone ends a line: a text may hold U+2028 and the like, which splitlines() cuts at.
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                examples.append(
                    Example(Document(row["text"], row["title"]), tuple(row["labels"]), id=row["id"])
                )
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}, line {number}: not an example: {error!r}",
                    hint='A line is {"id": …, "text": …, "title": …, "labels": […]}.',
                ) from error
    return examples


def fingerprint(*splits: Iterable[Example]) -> str:
    """SHA-256 (64 hex digits) of the texts, titles, labels, ids and their splits, in order."""
    digest = hashlib.sha256()
    for split in splits:
        for example in split:
            digest.update(_line(example).encode("utf-8") + b"\n")
        digest.update(b"--\n")
    return digest.hexdigest()


def _line(example: Example) -> str:
    # ASCII escapes, so that a lone surrogate in a text can be written and read back unchanged.
    return json.dumps(
        {
            "id": example.id,
            "text": example.document.text,
            "title": example.document.title,
            "labels": list(example.labels),
        }
    )
