"""Tokens on disk, in files that are mapped and never loaded: shards.

A folder of one part (train or validation) holds

    manifest.json     what the shards are made of, and a checksum of each; written after each shard
    tokenizer.json    what made them
    00000.tokens      token ids, end to end: uint16 or uint32, little-endian, nothing else
    00000.ends        where documents end, counted from the shard's start: int64

A shard holds whole documents. What reads it is `TokenShards`; what writes it, shard_writer.py.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hornbook import files
from hornbook.data.packing import ends_between
from hornbook.errors import DataError

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
RESIDENT = 1 << 27  # bytes of mapped files, at most, that may be in memory before they are let go
TOUCHED = 1 << 18  # bytes that looking a window up brings in: the system maps 64 KiB at a time
_AGAIN = "The same `hornbook data shard` command writes it again, from there on."


class Shard(BaseModel):
    """One pair of files. n_documents: as read; n_ends: of those that gave tokens.

    text_hash: of the documents read, so that a resumed writer knows whether they are the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    n_tokens: int
    n_documents: int
    n_ends: int
    n_bytes: int
    text_hash: str
    tokens_sha256: str
    ends_sha256: str


class Manifest(BaseModel):
    """What a folder of shards holds. one_text: its documents are pieces of one, without ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    complete: bool = False
    dtype: str
    vocab_size: int
    tokenizer_sha256: str
    end_token: int | None
    one_text: bool
    shard_tokens: int
    shards: list[Shard] = []

    @property
    def n_tokens(self) -> int:
        return sum(shard.n_tokens for shard in self.shards)

    @property
    def n_documents(self) -> int:
        return sum(shard.n_documents for shard in self.shards)

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the text: what bits per byte divide by."""
        return sum(shard.n_bytes for shard in self.shards)


class TokenShards:
    """The tokens of a folder as one row, read where they lie: `Windows` and slices.

    Memory holds RESIDENT bytes of it at most, whatever its size.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._starts = np.cumsum([0, *(shard.n_tokens for shard in manifest.shards)])
        self._maps: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._resident = 0
        n_ends = sum(shard.n_ends for shard in manifest.shards)
        n_bytes = len(self) * np.dtype(manifest.dtype).itemsize + 8 * n_ends
        self._fits = n_bytes <= RESIDENT

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = True) -> TokenShards:
        """Open a folder of shards. verify: also compare checksums, at a second or so a gigabyte.

        Raises DataError where the folder isn't one, is unfinished, or a shard is missing, cut short
        or changed: the error names it.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if not manifest.complete:
            raise DataError(
                f"the shards in {folder} are not finished: {len(manifest.shards)} are written",
                hint="The same `hornbook data shard` command goes on where it was stopped.",
            )
        for shard in manifest.shards:
            check_shard(folder, manifest, shard, checksum=verify)
        return cls(folder, manifest)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def n_bytes(self) -> int:
        return self.manifest.n_bytes

    @property
    def fingerprint(self) -> str:
        sums = [shard.tokens_sha256 + shard.ends_sha256 for shard in self.manifest.shards]
        return hashlib.sha256("".join(sums).encode()).hexdigest()[:32]

    def __getitem__(self, part: slice) -> np.ndarray:
        """Tokens as they are stored: a view where they lie in one shard, else a copy."""
        start, stop, step = part.indices(len(self))
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        pieces = []
        while start < stop:
            begin, end = int(self._starts[first]), int(self._starts[first + 1])
            pieces.append(self._map(first)[0][start - begin : min(stop, end) - begin])
            self._touch(pieces[-1].nbytes)
            start, first = end, first + 1
        if not pieces:
            return np.empty(0, self.manifest.dtype)
        return (pieces[0] if len(pieces) == 1 else np.concatenate(pieces))[::step]

    def gather(self, starts: np.ndarray, length: int) -> np.ndarray:
        """`length` tokens from each start: (B,) -> (B, length) int64."""
        found = np.empty((len(starts), length), dtype=np.int64)
        owner = np.searchsorted(self._starts, starts, side="right") - 1
        whole = starts + length <= self._starts[owner + 1]
        for number in np.unique(owner[whole]):
            rows = np.flatnonzero(whole & (owner == number))
            places = (starts[rows] - self._starts[number])[:, None] + np.arange(length)
            found[rows] = self._map(int(number))[0][places]
            self._touch(len(rows) * TOUCHED)
        for row in np.flatnonzero(~whole):
            found[row] = self[int(starts[row]) : int(starts[row]) + length]
        return found

    def ends_between(self, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Document ends e, start < e <= stop, of each of B ranges: which range, and e."""
        if self.manifest.one_text:
            return ends_between(np.array([len(self)]), starts, stops)
        last = len(self.manifest.shards) - 1
        first = np.searchsorted(self._starts, starts, side="right").clip(1, last + 1) - 1
        final = np.searchsorted(self._starts, stops, side="left").clip(1, last + 1) - 1
        owners = np.unique(np.concatenate([first, final]))
        if (final - first > 1).any():
            owners = np.arange(first.min(), final.max() + 1)
        all_rows, all_ends = [], []
        for number in owners.tolist():
            rows = np.flatnonzero((first <= number) & (number <= final))
            begin = self._starts[number]
            within, ends = ends_between(
                self._map(number)[1], starts[rows] - begin, stops[rows] - begin
            )
            all_rows.append(rows[within])
            all_ends.append(ends + begin)
            self._touch(len(rows) * TOUCHED + ends.nbytes)
        return np.concatenate(all_rows), np.concatenate(all_ends)

    def _map(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if number not in self._maps:
            shard = self.manifest.shards[number]
            tokens = _mapped(self.folder / f"{shard.name}.tokens", np.dtype(self.manifest.dtype))
            self._maps[number] = (tokens, _mapped(self.folder / f"{shard.name}.ends", np.int64))
        return self._maps[number]

    def _touch(self, n_bytes: int) -> None:
        """Let all maps go when much has been looked at; they are made again where needed.

        Pages of a mapped file count as this process' memory until then, and of a large file they
        would fill it.
        """
        self._resident += n_bytes
        if self._resident > RESIDENT and not self._fits:
            self._maps.clear()
            self._resident = 0


def _mapped(path: Path, kind: np.dtype | type) -> np.ndarray:
    """A file's numbers, without reading them."""
    if not path.stat().st_size:
        return np.empty(0, kind)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), kind)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder. Raises DataError where there is none or it can't be understood."""
    path = folder / MANIFEST
    if not path.is_file():
        below = [p.name for p in (folder / "train", folder / "validation") if p.is_dir()]
        raise DataError(
            f"there are no shards in {folder}: it has no {MANIFEST}",
            hint=f"Its parts are {' and '.join(below)}: open one of them."
            if below
            else "Make them: hornbook data shard TEXT --out DIR",
        )
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise DataError(
            f"{path} is not a manifest of shards: {str(error).splitlines()[0]}",
            hint="Remove the folder and write the shards again.",
        ) from error


def check_shard(folder: Path, manifest: Manifest, shard: Shard, *, checksum: bool) -> None:
    """Raise DataError naming the file where a shard is missing, of another length, or changed."""
    sizes = {
        "tokens": (shard.n_tokens * np.dtype(manifest.dtype).itemsize, shard.tokens_sha256),
        "ends": (shard.n_ends * 8, shard.ends_sha256),
    }
    for kind, (size, sha256) in sizes.items():
        path = files.inside(folder, f"{shard.name}.{kind}")
        if not path.is_file():
            raise DataError(f"the shard {path} is missing", hint=_AGAIN)
        found = path.stat().st_size
        if found != size:
            change = "cut short" if found < size else "too long"
            raise DataError(
                f"the shard {path} is {change}: {found:,} bytes, expected {size:,}", hint=_AGAIN
            )
        if checksum and files.sha256(path) != sha256:
            raise DataError(
                f"the shard {path} was changed or damaged: its SHA-256 is not the one in "
                f"{MANIFEST}",
                hint=_AGAIN,
            )
