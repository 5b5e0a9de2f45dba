"""Write documents as token shards: by several processes, the same bytes as by one; resumable.

A shard and then the manifest are renamed into place whole. A writer that was killed is called again
with the same documents: it reads those of the finished shards once more, sees by their hash that
they are the same, and goes on behind them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from hornbook import files
from hornbook.data.corpus import Corpus
from hornbook.data.shards import MANIFEST, TOKENIZER, Manifest, Shard, check_shard, read_manifest
from hornbook.data.tokenizing import GROUP, encode_groups, end_token, grouped, token_type
from hornbook.errors import ConfigError, DataError
from hornbook.runs import locked
from hornbook.text.tokenizer import Tokenizer

SHARD_TOKENS = 1 << 26  # 128 MiB of uint16


@dataclass(frozen=True)
class Written:
    """How far a writer is, resumed shards included. n_bytes: UTF-8 bytes of the text read."""

    n_tokens: int
    n_documents: int
    n_bytes: int
    n_shards: int


Progress = Callable[[Written], None]


def write_shards(
    documents: Iterable[str],
    folder: Path,
    tokenizer: Tokenizer,
    *,
    jobs: int = 1,
    shard_tokens: int = SHARD_TOKENS,
    one_text: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Tokenize documents into shards of at least shard_tokens tokens (the last has fewer).

    The end-of-text token stands behind each document, if the vocabulary has one. one_text: the
    documents are pieces of one text, with nothing between them and no ends. jobs: processes beside
    this one, when more than 1. progress: called after each group of documents.
    Raises DataError where there is no text, or the folder holds shards of other documents;
    ConfigError where it holds those of another tokenizer or other settings; StudyError where
    another process is writing to it.
    """
    if min(jobs, shard_tokens) < 1:
        raise ConfigError(f"jobs is {jobs}, shard_tokens is {shard_tokens}", hint="At least 1.")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        new = folder / f".new-{TOKENIZER}"
        tokenizer.save(new)
        wanted = Manifest(
            dtype=token_type(tokenizer.vocab_size).str,
            vocab_size=tokenizer.vocab_size,
            tokenizer_sha256=files.sha256(new),
            end_token=None if one_text else end_token(tokenizer),
            one_text=one_text,
            shard_tokens=shard_tokens,
        )
        try:
            manifest = _begun(folder, wanted)
            new.replace(folder / TOKENIZER)
        finally:
            new.unlink(missing_ok=True)
        stream = iter(documents)
        _skip(stream, folder, manifest)
        if progress:
            progress(_written(manifest))
        groups = encode_groups(
            grouped(stream), tokenizer, end=wanted.end_token, jobs=jobs, saved=folder / TOKENIZER
        )
        with closing(groups):
            rows = (pair for texts, ids in groups for pair in zip(texts, ids))
            manifest = _write(rows, folder, manifest, progress)
        if progress:
            progress(_written(manifest))
        if not manifest.n_tokens:
            raise DataError("there is no text to write shards of", hint="Is the corpus empty?")
        manifest = manifest.model_copy(update={"complete": True})
        _save(folder, manifest)
    return manifest


def shard_corpus(
    corpus: Corpus,
    folder: Path,
    tokenizer: Tokenizer,
    *,
    jobs: int = 1,
    shard_tokens: int = SHARD_TOKENS,
    progress: Callable[[str, Written], None] | None = None,
) -> tuple[Manifest, Manifest]:
    """Write `folder/train` and `folder/validation`. progress: called with the part's name too."""

    def write(part: str, documents: Iterator[str]) -> Manifest:
        return write_shards(
            documents,
            folder / part,
            tokenizer,
            jobs=jobs,
            shard_tokens=shard_tokens,
            one_text=corpus.one_text,
            progress=(lambda written: progress(part, written)) if progress else None,
        )

    return write("train", corpus.train()), write("validation", corpus.validation())


def _begun(folder: Path, wanted: Manifest) -> Manifest:
    """The manifest of what is there and whole, less what comes after a damaged shard."""
    if not (folder / MANIFEST).exists():
        found = wanted
    else:
        found = read_manifest(folder)
        theirs, mine = found.model_dump(), wanted.model_dump()
        changed = [k for k in mine if k not in ("shards", "complete") and theirs[k] != mine[k]]
        if changed:
            lines = [f"{key} was {theirs[key]!r}, is {mine[key]!r}" for key in changed]
            raise ConfigError(
                f"{folder} holds shards made otherwise: {'; '.join(lines)}",
                hint="Choose another folder, or remove this one.",
            )
    whole = []
    for shard in found.shards:
        try:
            check_shard(folder, found, shard, checksum=True)
        except DataError:  # it is written again, and with it all that follow
            break
        whole.append(shard)
    if whole != found.shards:
        found = found.model_copy(update={"shards": whole, "complete": False})
        _save(folder, found)
    known = {f"{shard.name}.{kind}" for shard in whole for kind in ("tokens", "ends")}
    for path in [*folder.glob("*.tokens"), *folder.glob("*.ends"), *folder.glob(".*.part")]:
        if path.name not in known:
            path.unlink()
    return found


def _skip(stream: Iterator[str], folder: Path, manifest: Manifest) -> None:
    """Pass over the documents of the finished shards, checking that they are the same."""
    for shard in manifest.shards:
        digest = _TextHash()
        for _ in range(shard.n_documents):
            if (document := next(stream, None)) is None:
                break
            digest.add(document)
        if digest.hexdigest() != shard.text_hash:
            raise DataError(
                f"the documents are not those that {folder / shard.name}.tokens was made of",
                hint="The texts, their order or their division were changed. Choose another "
                "folder, or remove this one.",
            )


def _write(
    rows: Iterator[tuple[str, np.ndarray]],
    folder: Path,
    manifest: Manifest,
    progress: Progress | None,
) -> Manifest:
    """Shard after shard until there are no more documents."""
    for first in rows:
        if manifest.complete:
            raise DataError(
                f"{folder} is complete, but there are more documents than it was made of",
                hint="Choose another folder, or remove this one.",
            )
        shard = _write_shard(chain([first], rows), folder, manifest, progress)
        manifest = manifest.model_copy(update={"shards": [*manifest.shards, shard]})
        _save(folder, manifest)  # only now is the shard there
    return manifest


def _write_shard(
    rows: Iterable[tuple[str, np.ndarray]],
    folder: Path,
    manifest: Manifest,
    progress: Progress | None,
) -> Shard:
    """Documents into a new pair of files until they are long enough."""
    name = f"{len(manifest.shards):05}"
    text = _TextHash()
    n_tokens = n_documents = n_ends = told = 0
    with (
        files.atomic_file(folder / f"{name}.tokens") as tokens_path,
        files.atomic_file(folder / f"{name}.ends") as ends_path,
        tokens_path.open("wb") as tokens_file,
        ends_path.open("wb") as ends_file,
    ):
        sums = hashlib.sha256(), hashlib.sha256()
        for document, ids in rows:
            text.add(document)
            n_documents += 1
            n_tokens += len(ids)
            data = ids.tobytes()
            tokens_file.write(data)
            sums[0].update(data)
            if len(ids) and not manifest.one_text:
                end = n_tokens.to_bytes(8, "little")
                ends_file.write(end)
                sums[1].update(end)
                n_ends += 1
            if progress and text.n_bytes - told >= GROUP:
                told = text.n_bytes
                progress(_written(manifest, n_tokens, n_documents, text.n_bytes))
            if n_tokens >= manifest.shard_tokens:
                break
    return Shard(
        name=name,
        n_tokens=n_tokens,
        n_documents=n_documents,
        n_ends=n_ends,
        n_bytes=text.n_bytes,
        text_hash=text.hexdigest(),
        tokens_sha256=sums[0].hexdigest(),
        ends_sha256=sums[1].hexdigest(),
    )


def _save(folder: Path, manifest: Manifest) -> None:
    files.write_text(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")


def _written(
    manifest: Manifest, n_tokens: int = 0, n_documents: int = 0, n_bytes: int = 0
) -> Written:
    """What the manifest tells, and an unfinished shard."""
    return Written(
        manifest.n_tokens + n_tokens,
        manifest.n_documents + n_documents,
        manifest.n_bytes + n_bytes,
        len(manifest.shards),
    )


class _TextHash:
    """A hash of documents: of their bytes, each with its length before it."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self.n_bytes = 0

    def add(self, document: str) -> None:
        data = document.encode("utf-8", "replace")
        self._digest.update(len(data).to_bytes(8, "little"))
        self._digest.update(data)
        self.n_bytes += len(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
