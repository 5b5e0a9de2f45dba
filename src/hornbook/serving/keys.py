"""API keys: read from a file, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hornbook.errors import ConfigError

SHORTEST = 16  # characters
_MAKE_ONE = "Make one: (umask 077; openssl rand -hex 32 > FILE), or 32 letters of your own."


class Keys:
    """Who may ask. No keys at all: everybody may."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def find(self, given: bytes) -> int | None:
        """Which key this is, by its place in the file; None for a wrong one.

        Hashes are compared, all of them and whole, so that the time tells nothing about a key, not
        even its length.
        """
        digest = _digest(given)
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        return found.index(True) if any(found) else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def read_keys(path: Path) -> Keys:
    """Read a file with a key on each line; blank lines and those that begin with # don't count.

    Raises ConfigError for a file that is missing, unreadable, empty or readable by everybody, and
    for a key that is too short or holds what a header cannot; no message quotes a key.
    """
    try:
        everybody = path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"the key file {path} cannot be read: {reason}", hint=_MAKE_ONE) from None
    if everybody and os.name == "posix":
        raise ConfigError(
            f"the key file {path} can be read or written by everybody on this machine",
            hint=f"chmod 600 {path}",
        )
    found = [(n, line.strip()) for n, line in enumerate(lines, start=1)]
    keys = [(n, key) for n, key in found if key and not key.startswith("#")]
    if not keys:
        raise ConfigError(f"the key file {path} holds no key", hint=_MAKE_ONE)
    for number, key in keys:
        if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"{path}, line {number}: a key is {SHORTEST} or more ASCII characters, no spaces",
                hint=_MAKE_ONE,
            )
    return Keys([key for _, key in keys])
