"""Find the one file of a corpus: in a data folder, else fetch it; its checksum tells it's right."""

from __future__ import annotations

from pathlib import Path

from hornbook import files
from hornbook.errors import DataError, UnavailableError

OFFLINE_HINT = "What works offline: `pydocs`, `pycode`, and your own texts."


def single_file(folder: str, name: str, *, url: str, sha256: str) -> Path:
    """`folder/name` in the first data folder that has it, else fetched into the last of them.

    Raises DataError where a file of that name has another content, UnavailableError where it is
    nowhere and cannot be fetched: it says where it was looked for.
    """
    places = [parent / folder / name for parent in files.data_folders()]
    for path in places:
        if path.is_file():
            found = files.sha256(path)
            if found != sha256:
                raise DataError(
                    f"{path} is not the file expected: SHA-256 {found}, expected {sha256}",
                    hint="Remove it to have it fetched again, or give its path to train on it as "
                    "it is.",
                )
            return path
    try:
        return files.download(url, places[-1], sha256_expected=sha256)
    except UnavailableError as error:
        raise UnavailableError(
            f"{folder}/{name} is not on this machine; looked for: {', '.join(map(str, places))}. "
            f"{error.message}",
            hint=f"Put the file there yourself. {OFFLINE_HINT}",
        ) from error
