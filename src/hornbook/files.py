"""The only door to disk layout and the network: atomic writes, checksums, downloads, the cache.

A file or folder written here is either whole or absent: it is made beside its place under a
temporary name, flushed, and renamed. A full disk leaves what was there before as it was.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hornbook.errors import DataError, DownloadError, UnavailableError


def home() -> Path:
    """HORNBOOK_HOME, or the platform's cache folder for hornbook."""
    if folder := os.environ.get("HORNBOOK_HOME"):
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("hornbook", appauthor=False))


def data_folders() -> list[Path]:
    """Where data sets are looked for, in order: HORNBOOK_DATA, then `home()/data`."""
    folders = [Path(f).expanduser() for f in [os.environ.get("HORNBOOK_DATA", "")] if f]
    return [*folders, home() / "data"]


def offline() -> bool:
    """True when HORNBOOK_OFFLINE (or HF_HUB_OFFLINE) says that no socket may be opened."""
    return any(
        os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"}
        for name in ("HORNBOOK_OFFLINE", "HF_HUB_OFFLINE")
    )


def sha256(path: Path) -> str:
    """The file's SHA-256 as 64 hex digits, read in pieces of 1 MiB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(folder: Path, name: str) -> Path:
    """`folder/name`, refused with DataError when it would lie outside the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(
            f"the name {name!r} leads outside {folder}",
            hint="Names may not contain '..' or begin with '/'.",
        )
    return path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it takes the place of `path` when the block ends well.

    A folder that stood there is replaced only then, so that a failed save loses nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(old / "old")
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def folder_size(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def download(
    url: str,
    path: Path,
    *,
    sha256_expected: str | None,
    progress: Callable[[int, int | None], None] | None = None,
    timeout: float = 30.0,
) -> Path:
    """Fetch a URL to a path, once, also when several processes ask at the same time.

    sha256_expected is None only where the caller checks what is inside (an archive whose members'
    checksums are known): then a file that is there is taken as it is.
    progress is called with (bytes so far, bytes in all or None). Raises UnavailableError when
    offline, DownloadError when the transfer fails or the checksum is another than expected.
    """
    from filelock import FileLock

    if path.exists() and sha256_expected in (None, sha256(path)):
        return path
    if offline():
        raise UnavailableError(
            f"{path.name} is not on this machine, and HORNBOOK_OFFLINE forbids to fetch {url}",
            hint=f"Put the file at {path}, or unset HORNBOOK_OFFLINE.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(path) + ".lock"):
        if path.exists() and sha256_expected in (None, sha256(path)):
            return path
        with atomic_file(path) as temporary:
            try:
                _fetch(url, temporary, progress, timeout)
            except (OSError, http.client.HTTPException) as error:
                raise DownloadError(
                    f"could not fetch {url}: {error}",
                    hint=f"Check the network, or put the file at {path} yourself.",
                ) from error
            found = sha256(temporary)
            if sha256_expected not in (None, found):
                raise DownloadError(
                    f"{url} has SHA-256 {found}, expected {sha256_expected}",
                    hint="The file changed at its source or in transit; it was not kept.",
                )
    return path


def _fetch(
    url: str, path: Path, progress: Callable[[int, int | None], None] | None, timeout: float
) -> None:
    with urllib.request.urlopen(url, timeout=timeout) as response, path.open("wb") as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        done = 0
        while piece := response.read(1 << 20):
            file.write(piece)
            done += len(piece)
            if progress:
                progress(done, total)
