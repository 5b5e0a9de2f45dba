"""Texts that the page keeps, in one SQLite file of the user's own.

Each save is one transaction: it is on the disk, all of it, before the answer says so, and a process
that is killed leaves the file as it was before or as it is after. The journal is SQLite's default,
a file that lies beside this one only during a save, and not a write-ahead log: so the user's texts
are always in the one file that is named, to copy and to carry away. A log would be faster at
hundreds of saves a second; people save a few a minute.

A text has a version, one more with each save. Whoever saves or deletes says which version was seen,
and is refused if there is a newer one, so that nothing is written over that nobody has read.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hornbook.errors import ConfigError, DataError
from hornbook.serving.refusals import Refusal

MOST_TEXTS = 10_000  # in one file
_MAGIC = b"SQLite format 3\0"
_OURS = 0x486F726E  # "Horn", where a SQLite file says whose it is
_FORMAT = 1
_PATIENCE = 5.0  # seconds to wait for another program that writes to the file

_TABLE = """
CREATE TABLE texts (
    id INTEGER PRIMARY KEY,  -- drawn: no text of another file has it, and no later one
    version INTEGER NOT NULL DEFAULT 1,
    created TEXT NOT NULL,
    saved TEXT NOT NULL,
    title TEXT NOT NULL CHECK (typeof(title) = 'text'),
    model TEXT,
    max_tokens INTEGER,
    temperature REAL,
    top_p REAL,
    seed INTEGER,
    text TEXT NOT NULL CHECK (typeof(text) = 'text')
)
"""
_INDEX = "CREATE INDEX by_time ON texts (saved, id)"
SETTINGS = ("max_tokens", "temperature", "top_p", "seed")
_FACTS = f"id, version, created, saved, title, model, {', '.join(SETTINGS)}, characters(text)"


@dataclass(frozen=True)
class Making:
    """How a text was made: the model whose suggestion was last taken, and what it was asked with.

    model: None where no suggestion was taken. settings: those of SETTINGS that were given.
    """

    model: str | None
    settings: Mapping[str, float]


@dataclass(frozen=True)
class Kept:
    """A text as the file has it. created, saved: UTC, ISO 8601. text: None in a list."""

    id: int
    version: int
    created: str
    saved: str
    title: str
    making: Making
    n_characters: int
    text: str | None = None


class Texts:
    """The texts of one file; made where there is none. One thread at a time.

    Raises ConfigError for a place where no file can be, and DataError for a file that is not ours,
    is damaged or cannot be written. A file of somebody else's is read, 100 bytes of it, and nothing
    more. Methods raise Refusal: 404 for a text that is not there, 409 for a version that is not the
    newest, 503 when the disk says no.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # ":memory:" is a name of a file here too
        self._lock = threading.Lock()
        _check_whose(self.path)
        self._file = _open(self.path)

    def close(self) -> None:
        """After the save that is going on."""
        with self._lock:
            self._file.close()

    def page(self, n: int, after: int | None = None) -> tuple[list[Kept], bool]:
        """At most n texts without their contents, last saved first, and whether there are more.

        after: the id of the last one of the page before.
        """
        with self._reading() as file:
            where, values = "", tuple[object, ...]()
            if after is not None:
                last = _find(file, after)
                where, values = " WHERE (saved, id) < (?, ?)", (last.saved, last.id)
            order = " ORDER BY saved DESC, id DESC LIMIT ?"
            query = f"SELECT {_FACTS} FROM texts{where}{order}"
            rows = [_kept(row) for row in file.execute(query, (*values, n + 1))]
        return rows[:n], len(rows) > n

    def read(self, id: int) -> Kept:
        """One text, whole."""
        with self._reading() as file:
            return _find(file, id, text=True)

    def add(self, title: str, text: str, making: Making) -> Kept:
        """Keep a new text. Raises Refusal 400 when the file has MOST_TEXTS."""
        now = _now()
        id = 1 + secrets.randbelow(2**53 - 1)  # what a page's numbers hold
        values = (id, now, now, title, *_columns(making), text)
        names = f"id, created, saved, title, model, {', '.join(SETTINGS)}, text"
        with self._writing() as file:
            if file.execute("SELECT count(*) FROM texts").fetchone()[0] >= MOST_TEXTS:
                raise Refusal(
                    400,
                    f"{MOST_TEXTS:,} texts are kept, the most that a file may hold: delete some",
                    code="too_many_texts",
                )
            places = ", ".join("?" * len(values))
            file.execute(f"INSERT INTO texts ({names}) VALUES ({places})", values)
            return _find(file, id)

    def save(self, id: int, version: int, title: str | None, text: str, making: Making) -> Kept:
        """Put a text in the place of that version of it. title: None leaves it."""
        with self._writing() as file:
            _check_newest(file, id, version)
            settings = ", ".join(f"{name} = ?" for name in SETTINGS)
            return _update(
                file,
                id,
                f"title = coalesce(?, title), model = ?, {settings}, text = ?",
                (title, *_columns(making), text),
            )

    def rename(self, id: int, version: int, title: str) -> Kept:
        with self._writing() as file:
            _check_newest(file, id, version)
            return _update(file, id, "title = ?", (title,))

    def delete(self, id: int, version: int) -> None:
        with self._writing() as file:
            _check_newest(file, id, version)
            file.execute("DELETE FROM texts WHERE id = ?", (id,))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                yield self._file
        except sqlite3.Error as error:
            raise Refusal(503, f"the file of texts says no: {error}", code="no_storage") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, of which all is written or, where something is raised, nothing."""
        with self._reading() as file:
            file.execute("BEGIN IMMEDIATE")  # before looking, so that what was seen still holds
            try:
                yield file
                file.execute("COMMIT")
            finally:
                if file.in_transaction:
                    file.execute("ROLLBACK")


def _check_whose(path: Path) -> None:
    """By the head alone, so that nothing of another program's is opened, locked or changed."""
    try:
        if path.exists() and not path.is_file():  # to open a pipe would wait for ever
            raise ConfigError(f"{path} is no file", hint="--texts takes the name of a file.")
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ConfigError(
                f"{path} cannot be made: there is no folder {path.parent}", hint="Make the folder."
            ) from None
        return
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint=_ANOTHER) from error
    if not head:
        return
    if not head.startswith(_MAGIC):
        raise DataError(f"{path} is no SQLite database; it was left as it is", hint=_ANOTHER)
    whose, form = (int.from_bytes(head[at : at + 4], "big") for at in (68, 60))
    if whose != _OURS:
        raise DataError(
            f"{path} is a database of another program's; it was left as it is", hint=_ANOTHER
        )
    if form > _FORMAT:
        raise DataError(
            f"{path} was made by a newer Hornbook (form {form}; this one knows {_FORMAT})",
            hint="Upgrade: pip install --upgrade 'hornbook[serve]'.",
        )


_ANOTHER = "Name a file that isn't there yet, and it will be made: --texts my-texts.sqlite"


def _open(path: Path) -> sqlite3.Connection:
    """Open our file and write to it once, so that one that cannot be written is known at once."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # what one writes is one's own
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}", hint=_WRITABLE) from error
    file = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    file.create_function("characters", 1, len, deterministic=True)  # `length` ends at a NUL
    try:
        file.execute("PRAGMA synchronous = EXTRA")  # a save outlives a power cut too
        file.execute("BEGIN IMMEDIATE")
        if not file.execute("PRAGMA schema_version").fetchone()[0]:
            file.execute(_TABLE)
            file.execute(_INDEX)
            file.execute(f"PRAGMA application_id = {_OURS}")
        (state,) = file.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        file.execute(f"SELECT {_FACTS}, text FROM texts LIMIT 1")
        file.execute(f"PRAGMA user_version = {_FORMAT}")
        file.execute("COMMIT")
    except sqlite3.Error as error:
        file.close()
        raise DataError(f"{path} cannot be used: {error}", hint=_hint(error)) from error
    return file


_WRITABLE = "Make it writable, and its folder: a save needs a moment's journal beside it."


def _hint(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "Another program is writing to it: end that first."
    if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):
        return _WRITABLE
    return "It is damaged: name another file; `sqlite3 FILE .recover` saves what can be read."


def _find(file: sqlite3.Connection, id: int, *, text: bool = False) -> Kept:
    """A text, whole if asked. Raises Refusal 404."""
    columns = f"{_FACTS}, text" if text else _FACTS
    row = file.execute(f"SELECT {columns} FROM texts WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise Refusal(404, f"there is no text {id}; it may have been deleted", code="no_such_text")
    return _kept(row)


def _check_newest(file: sqlite3.Connection, id: int, version: int) -> None:
    """Raises Refusal: 404 for a text that is gone, 409 for one that was saved since."""
    newest = _find(file, id).version
    if newest != version:
        raise Refusal(
            409,
            f"text {id} has been saved since: it is at version {newest}, and this was made from"
            f" version {version}; nothing was written",
            code="newer_version",
            param="version",
        )


def _update(file: sqlite3.Connection, id: int, change: str, values: tuple[object, ...]) -> Kept:
    change = f"UPDATE texts SET version = version + 1, saved = ?, {change} WHERE id = ?"
    file.execute(change, (_now(), *values, id))
    return _find(file, id)


def _columns(making: Making) -> tuple[object, ...]:
    return (making.model, *(making.settings.get(name) for name in SETTINGS))


def _kept(row: tuple[Any, ...]) -> Kept:
    id, version, created, saved, title, model, *rest = row
    settings = dict(zip(SETTINGS, rest))
    given = {name: value for name, value in settings.items() if value is not None}
    n_characters, *text = rest[len(SETTINGS) :]
    return Kept(id, version, created, saved, title, Making(model, given), n_characters, *text)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
