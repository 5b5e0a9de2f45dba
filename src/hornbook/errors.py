"""What can go wrong, as types: each error says what is wrong and carries a hint on what to do.

A caller catches the type, never the text. The command line prints `message` and `hint` and exits
with `exit_code`; nobody sees a traceback for a mistake of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class HornbookError(Exception):
    """The base: a message (what is wrong, the value) and a hint (what is allowed, what to do)."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(HornbookError):
    """A setting is unknown, of the wrong type, or out of range."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A technique, data set, model or column of that name does not exist."""


class DataError(HornbookError):
    """A file or table cannot be used as it is: broken, empty, of the wrong shape."""


class CheckpointError(HornbookError):
    """Saved weights are corrupt, incomplete, or of another architecture."""


class UnavailableError(HornbookError):
    """Something is not on this machine and could not be fetched: offline, not installed."""


class DownloadError(UnavailableError):
    """A download failed, or its checksum is not the one that was promised."""


class BudgetError(HornbookError):
    """A technique cannot do useful work in the time it was given."""


class TrainingError(HornbookError):
    """Training cannot go on: a loss or a gradient is not finite."""


class StudyError(HornbookError):
    """A run folder is missing, unfinished, in use, or belongs to another study."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names was probably meant; all of them when none is near.

    Returns a sentence fit for a hint: "Did you mean 'body'? Known: body, topic."
    """
    names = list(known)
    by_folded = {n.casefold(): n for n in names}
    close = get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.6)
    listing = f"Known: {', '.join(names[:40])}{', …' if len(names) > 40 else ''}."
    return f"Did you mean '{by_folded[close[0]]}'? {listing}" if close else listing
