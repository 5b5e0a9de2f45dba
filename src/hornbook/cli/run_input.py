"""What `hornbook run` reads: texts given, a file or standard input by lines or whole, a table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hornbook.errors import ConfigError, DataError

TEXT_FILES = ("", ".txt", ".md", ".text")
WHOLE = ("summarize",)  # tasks for which a file of text is one text


@dataclass(frozen=True)
class Given:
    """What was given beside the texts, by its name in a row.

    whole: whether a file of text, or standard input, is one text; None as the task usually has it.
    """

    texts: Sequence[str] = ()
    file: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    whole: bool | None = None
    context: str | None = None
    context_file: Path | None = None
    labels: Sequence[str] = ()
    options: Sequence[str] = ()
    answers: Sequence[str] = ()

    @property
    def table(self) -> Path | None:
        """The file, where it is a table."""
        is_text = self.file is None or self.file.suffix.lower() in TEXT_FILES
        return None if is_text else self.file


def rows_of(task: str, reads: Sequence[str], given: Given) -> list[dict[str, Any]]:
    """A row for each text, question, pair or prompt. Raises ConfigError for what is missing."""
    same = _same_for_all(task, reads, given)
    if given.file is not None and given.texts:
        raise ConfigError("--file and texts don't go together", hint="Give one of them.")
    if given.table is not None:
        from hornbook.cli.run_rows import rows_of_table

        if given.whole is not None:
            raise ConfigError(
                "--whole and --lines are for files of text, and a table has rows",
                hint="Leave them out.",
            )
        return rows_of_table(task, given.table, reads, same, given.columns)
    if given.columns:
        raise ConfigError("--column is for tables", hint="Name one: --file texts.csv.")
    texts = _texts(task, given)
    if not texts and given.file is not None:
        raise DataError(f"{given.file} is empty", hint="Each line of it is a text.")
    if not texts:
        raise ConfigError(
            "there is nothing to read",
            hint=f'hornbook run {task} MODEL "a text"; or --file F; or - for standard input.',
        )
    if "second" in reads:
        if len(texts) % 2:
            raise ConfigError(
                f"{len(texts)} text(s) make no pairs", hint="Give two texts, or a table: --file F."
            )
        return [{"first": a, "second": b} for a, b in zip(texts[::2], texts[1::2], strict=True)]
    if "answers" in reads and "answers" not in same:
        if len(texts) < 2:
            raise ConfigError(
                f"{task} needs a prompt and its answers, and there is one text",
                hint='Give more texts, --answer "…" (repeat), or a table: --file F.',
            )
        return [{"prompt": texts[0], "answers": texts[1:]}]
    return [{reads[0]: text} | same for text in texts]


def _texts(task: str, given: Given) -> list[str]:
    """A text file's or standard input's lines, or the whole of it; texts as they were given."""
    whole = task in WHOLE if given.whole is None else given.whole
    if given.file is None and "-" not in given.texts and given.whole is not None:
        raise ConfigError(
            "--whole and --lines are for a file of text or standard input",
            hint="Name it: --file article.txt; or - for standard input.",
        )
    texts: list[str] = []
    for text in [None] if given.file is not None else given.texts:
        if text not in (None, "-"):
            texts.append(str(text))
            continue
        name = "standard input" if given.file is None else str(given.file)
        data = sys.stdin.buffer.read() if given.file is None else _bytes(given.file)
        if not whole:
            texts += _lines(data, name)
            continue
        texts.append(_text(data, name))
        if given.whole is None:
            print(f"{name} is read as one text; --lines: each line is one.", file=sys.stderr)
    return texts


def _same_for_all(task: str, reads: Sequence[str], given: Given) -> dict[str, Any]:
    """What is not a row's own: the context of all questions, labels, options."""
    same: dict[str, Any] = {}
    context = given.context
    if given.context_file is not None:
        context = _text(_bytes(given.context_file), str(given.context_file))
    for name, value, how in (
        ("context", context, '--context "…" or --context-file F'),
        ("labels", _split(given.labels), "--label urgent --label later"),
        ("options", list(given.options), "--option one --option two"),
        ("answers", list(given.answers), ""),  # may be among the texts
    ):
        if name not in reads:
            if value:
                raise ConfigError(f"{task} reads no {name}", hint=f"It reads {', '.join(reads)}.")
        elif value:
            same[name] = value
        elif how and given.table is None:
            raise ConfigError(f"{task} needs {name}", hint=f"Give {how}.")
    return same


def _split(labels: Sequence[str]) -> list[str]:
    """--label a --label b, or --label a,b."""
    return [part.strip() for label in labels for part in label.split(",") if part.strip()]


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"there is no file {path}", hint="Paths are seen from this folder.")
    return path.read_bytes()


def _text(data: bytes, name: str) -> str:
    from hornbook.data.rows import decode

    text, notes = decode(data, name)
    for note in notes:
        print(note, file=sys.stderr)
    return text


def _lines(data: bytes, name: str) -> list[str]:
    lines = _text(data, name).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
