"""Text files as streams of documents, in memory that does not grow with the file.

Plain text, also compressed (.gz, .bz2, .xz, .zst), and tar archives of such files, also nested, as
OpenWebText is published. UTF-8 or UTF-16 with a mark; line ends become "\\n"; a character is never
cut in two. What isn't text is refused; what isn't quite UTF-8 is repaired and said.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from hornbook.data.arrow_files import SUFFIXES
from hornbook.data.rows import COMPRESSIONS, PARQUET, TEXT_FORMS, decode
from hornbook.errors import DataError

LONGEST = 1 << 20  # characters of a document: a longer text is cut at a line's end
PIECE = 1 << 19  # bytes read at once
_BREAK = re.compile(r"\S\n(?=\S)")  # where tokenizers that split at spaces don't look across


@contextmanager
def reading(name: object) -> Iterator[None]:
    """Turn what decompressors and the system raise into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, tarfile.TarError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name} cannot be read: {reason}",
            hint="Is it whole, readable, and compressed as its name says? Fetch it again if it was "
            "fetched.",
        ) from error


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed as its name says."""
    match path.suffix.lower():
        case ".zst":
            import pyarrow

            return cast(BinaryIO, pyarrow.input_stream(str(path), compression="zstd"))
        case suffix:
            return _decompressed(path.open("rb"), suffix)


def _decompressed(file: BinaryIO, suffix: str) -> BinaryIO:
    match suffix:
        case ".gz" | ".tgz":
            return cast(BinaryIO, gzip.GzipFile(fileobj=file))
        case ".bz2":
            return cast(BinaryIO, bz2.BZ2File(file))
        case ".xz":
            return cast(BinaryIO, lzma.LZMAFile(file))
        case ".zst":
            import pyarrow

            return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.PythonFile(file), "zstd"))
    return file


def pieces_of(path: Path, notes: list[str]) -> Iterator[str]:
    """The text of a file in pieces of at most a few million characters.

    notes: what had to be repaired is added, once. Raises DataError where the file is an archive, is
    binary or damaged.
    """
    with reading(path), open_bytes(path) as file:
        yield from decoded(file, str(path), notes)


def documents_of(path: Path, notes: list[str]) -> Iterator[str]:
    """A text file as one document, or several where it is longer than LONGEST; a tar's members.

    Documents without a visible character are left out.
    """
    with reading(path), open_bytes(path) as file:
        yield from _documents(file, str(path), notes)


def _documents(file: BinaryIO, name: str, notes: list[str]) -> Iterator[str]:
    start = _fill(file, 512)
    if not is_tar(start):
        yield from gathered(decoded(file, name, notes, start))
        return
    stream: Any = _Rejoined(start, file)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                suffix = Path(member.name).suffix.lower()
                inner = _decompressed(cast(BinaryIO, content), suffix)
                yield from _documents(inner, f"{name}: {member.name}", notes)


def is_tar(start: bytes) -> bool:
    """Whether the first 512 bytes are those of a tar archive."""
    return start[257:262] == b"ustar"


class _Rejoined:
    """Bytes already read, then the rest of a file: all that tarfile's stream mode asks for."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start = io.BytesIO(start)
        self._rest = rest

    def read(self, n: int) -> bytes:
        return self._start.read(n) or self._rest.read(n)


def _fill(file: BinaryIO, n: int) -> bytes:
    """The next n bytes, fewer only at the end."""
    found = b""
    while len(found) < n and (more := file.read(n - len(found))):
        found += more
    return found


def decoded(file: BinaryIO, name: str, notes: list[str], start: bytes = b"") -> Iterator[str]:
    """Bytes as text, in pieces. `start` was read before.

    A short file that isn't UTF-8 is read as the encoding its bytes suggest (data/rows.py); in a
    longer one broken characters are replaced by U+FFFD, if they are rare. Both are noted.
    """
    start += _fill(file, PIECE - len(start))
    if len(start) < PIECE:
        if start:
            text, found = decode(start, name)
            _note(notes, found)
            yield text.replace("\r\n", "\n").replace("\r", "\n")
        return
    encoding = "utf-8"
    if start.startswith(BOM_UTF8):
        start = start[len(BOM_UTF8) :]
    elif start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        encoding = "utf-16"
    decoder: Any = io.IncrementalNewlineDecoder(getincrementaldecoder(encoding)("replace"), True)
    n_broken = n_read = 0
    data = start
    while data:
        if encoding == "utf-8" and b"\0" in data:
            raise DataError(
                f"{name} is a binary file (a zero byte at position {n_read + data.index(0):,})",
                hint="Give text: txt, jsonl, csv, parquet, also compressed (.gz, .bz2, .xz, .zst).",
            )
        text = decoder.decode(data)
        broken = text.count("\ufffd") - data.count(b"\xef\xbf\xbd")
        if broken > 0.01 * len(text):
            raise DataError(
                f"{name} is not {encoding.upper()} text: {broken:,} broken characters in the "
                f"{len(data):,} bytes from position {n_read:,}",
                hint="Convert it: iconv -f LATIN1 -t UTF-8 IN > OUT (or whatever its encoding is).",
            )
        n_broken += max(0, broken)
        n_read += len(data)
        yield text
        data = file.read(PIECE)
    if rest := decoder.decode(b"", final=True):
        n_broken += rest.count("\ufffd")
        yield rest
    if n_broken:
        _note(notes, [f"{name}: {n_broken:,} broken character(s) were replaced by '\ufffd'."])


def _note(notes: list[str], found: Iterable[str]) -> None:
    notes.extend(note for note in found if note not in notes)


def before(pieces: Iterable[str], n: int) -> Iterator[str]:
    """The first n characters of a text given in pieces."""
    for piece in pieces:
        if n <= 0:
            return
        yield piece[:n]
        n -= len(piece)


def after(pieces: Iterable[str], n: int) -> Iterator[str]:
    """A text given in pieces without its first n characters."""
    for piece in pieces:
        if len(piece) > n:
            yield piece[n:]
        n = max(0, n - len(piece))


def gathered(pieces: Iterable[str], longest: int = LONGEST) -> Iterator[str]:
    """A text given in pieces as documents of at most `longest` characters, cut at line ends.

    Only the last can lack a visible character, and then it is left out.
    """
    held = ""
    for piece in chain(pieces):
        held += piece
        while len(held) > longest:
            end = cut_place(held, longest)
            yield held[:end]
            held = held[end:]
    if held.strip():
        yield held


def cut_place(text: str, longest: int) -> int:
    """Where to cut a text of more than `longest` characters: after a line, if one ends in sight.

    The last line end between two visible characters in the last tenth; there most tokenizers give
    the same tokens whether the text is cut or not.
    """
    ends = [m.end() for m in _BREAK.finditer(text, longest - longest // 10, longest + 1)]
    return next((end for end in reversed(ends) if end <= longest), longest)


def is_text_file(path: Path) -> bool:
    """Whether the name says that it is not a table: .txt, .md, .py, .xz of these, or anything."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return not suffixes or suffixes[-1] not in TABLES


TABLES = (*TEXT_FORMS, *PARQUET, *SUFFIXES)


def holds_many(path: Path) -> bool:
    """Whether a text file is a tar archive, and so holds several documents."""
    with reading(path), open_bytes(path) as file:
        return is_tar(_fill(file, 512))
