"""Running text to learn a language from: what a language model is trained and validated on.

`open_corpus` takes a name, a file, a folder, a glob, a table or a name of the hub. A corpus is read
in a stream each time it's gone through, so its size does not matter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from hornbook.data.arrow_files import files_of, is_arrow, saved_parts
from hornbook.data.corpora import CORPORA
from hornbook.data.datasets import DATASETS
from hornbook.data.hub import PREFIX
from hornbook.data.rows import COMPRESSIONS
from hornbook.data.textfiles import (
    LONGEST,
    TABLES,
    after,
    before,
    documents_of,
    gathered,
    holds_many,
    is_text_file,
    pieces_of,
)
from hornbook.data.texttables import hub_texts, texts_of
from hornbook.errors import ConfigError, DataError, UnknownNameError, nearest

FEW = 100  # documents or fewer are divided by their number, more by chance
HIDDEN = (".", "_")  # how the names of files begin that don't belong to a corpus

Documents = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Corpus:
    """Documents to train on and to validate on, each an iterator made anew at every call.

    n_bytes: UTF-8 bytes of all documents where known without reading them; of a folder, its files'
    sizes. one_text: the documents are pieces of one text, in order. notes: sentences for the
    reader; reading may add some, such as how many broken characters there were.
    """

    name: str
    train: Documents
    validation: Documents
    n_bytes: int | None = None
    one_text: bool = False
    notes: list[str] = field(default_factory=list)
    source: str = ""
    licence: str = ""


def of_text(
    name: str, text: str, validation_share: float, *, source: str = "", licence: str = ""
) -> Corpus:
    """One text in memory: the first part of its characters to train on, the last to validate on."""
    cut = int((1 - check_share(validation_share)) * len(text))
    if not text[:cut].strip() or not text[cut:].strip():
        raise DataError(
            f"{name} is too short to be divided: {len(text):,} characters",
            hint="Give more text, or another validation share.",
        )
    return Corpus(
        name,
        train=lambda: iter((text[:cut],)),
        validation=lambda: iter((text[cut:],)),
        n_bytes=len(text.encode("utf-8", "replace")),
        one_text=True,
        notes=[_cut_note(cut, len(text))],
        source=source,
        licence=licence,
    )


def by_document(
    name: str,
    documents: Documents,
    validation_share: float,
    *,
    seed: int = 0,
    source: str = "",
    licence: str = "",
    notes: list[str] | None = None,
) -> Corpus:
    """Many documents: each goes to the part that its text and the seed decide, by a hash.

    So the division needs no second look, doesn't change with the order, and equal documents stay
    together. Up to FEW documents, the share of them is exact and at least one. A single document is
    cut by position. Raises DataError where there are none.
    """
    check_share(validation_share)
    places, lengths, first = [], 0, ""
    for document in islice(documents(), FEW + 1):
        first = first or document
        lengths += len(document)
        places.append(_place(document, seed))
    if not places:
        raise DataError(
            f"{name} holds no text", hint="A corpus has at least one document that isn't empty."
        )
    notes = [] if notes is None else notes
    if len(places) == 1:
        alone = of_text(name, first, validation_share, source=source, licence=licence)
        return replace(alone, notes=[*notes, *alone.notes])
    below = validation_share
    if len(places) <= FEW:
        ranked = sorted(set(places))
        if len(ranked) == 1:
            raise DataError(
                f"{name}: all {len(places)} documents are the same",
                hint="Nothing would be left to validate on; give more text.",
            )
        n = min(max(1, round(validation_share * len(ranked))), len(ranked) - 1)
        below = math.nextafter(ranked[n - 1], 2.0)
        notes.append(f"{n} of {len(ranked)} different documents are for validation.")
    else:
        notes.append(f"A document in {1 / below:.0f} is for validation, by a hash of its text.")

    def part(validation: bool) -> Iterator[str]:
        return (d for d in documents() if (_place(d, seed) < below) == validation)

    return Corpus(
        name,
        train=partial(part, False),
        validation=partial(part, True),
        notes=notes,
        source=source,
        licence=licence,
    )


def open_corpus(
    source: str | Path,
    *,
    text: str | None = None,
    validation_share: float | None = None,
    seed: int = 0,
) -> Corpus:
    """Open running text, whatever it is.

    source: a corpus of the registry ("sherlock"); a file (txt, csv, tsv, jsonl, json, parquet, also
    .gz, .bz2, .xz, .zst; tar); a folder or a glob of such files; "owner/name" or "hf://owner/name"
    of the hub, with ":configuration"; or a labelled data set, whose labels are left aside. A file
    named like a corpus is reached as "./name".
    text: the column of a table, guessed where None. validation_share: None for a corpus's own, .1
    for files. One text is cut by position, several documents are divided by a hash of each and the
    seed. Raises DataError, UnknownNameError with the nearest name, UnavailableError when offline.
    """
    name = str(source)
    if name in CORPORA:
        if text:
            raise ConfigError(
                f"'{name}' is a built-in corpus and has no column '{text}'",
                hint=f"Leave it out; for a file or folder of that name give './{name}'.",
            )
        load = CORPORA.load(name)
        return load() if validation_share is None else load(check_share(validation_share))
    share = check_share(0.1 if validation_share is None else validation_share)
    if name in DATASETS:
        return _of_dataset(name, share, seed)
    notes: list[str] = []
    path = Path(name).expanduser()
    if name.startswith(PREFIX) or (name.count("/") == 1 and not path.exists() and _hub_like(path)):
        name = name.removeprefix(PREFIX)
        documents = partial(hub_texts, name, text, notes)
        return by_document(name, documents, share, seed=seed, source=PREFIX + name, notes=notes)
    if parts := saved_parts(path):
        return _of_parts(path, parts, text, share, seed)
    paths = _files(path)
    if len(paths) == 1 and is_text_file(paths[0]) and not holds_many(paths[0]):
        return _of_one_file(paths[0], share, notes)
    documents = partial(_documents, paths, text, notes)
    label = path.resolve().name if len(paths) > 1 or is_arrow(path) else paths[0].name
    corpus = by_document(label, documents, share, seed=seed, source=name, notes=notes)
    if len(paths) > 1:
        notes.append(f"{len(paths):,} files, in the order of their names.")
    plain = all(is_text_file(p) and p.suffix.lower() not in COMPRESSIONS for p in paths)
    return replace(corpus, n_bytes=sum(p.stat().st_size for p in paths) if plain else None)


def joined(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one: the documents of the first, then those of the second."""
    if len(corpora) == 1:
        return corpora[0]
    sizes = [corpus.n_bytes for corpus in corpora if corpus.n_bytes is not None]
    return Corpus(
        "+".join(corpus.name for corpus in corpora),
        train=lambda: (d for corpus in corpora for d in corpus.train()),
        validation=lambda: (d for corpus in corpora for d in corpus.validation()),
        n_bytes=sum(sizes) if len(sizes) == len(corpora) else None,
        notes=[f"{corpus.name}: {note}" for corpus in corpora for note in corpus.notes],
        source=", ".join(corpus.source for corpus in corpora),
        licence=", ".join(dict.fromkeys(corpus.licence for corpus in corpora if corpus.licence)),
    )


def check_share(share: float) -> float:
    """The share if it lies between 0 and 1, neither included. Raises ConfigError otherwise."""
    if not 0 < share < 1:
        raise ConfigError(
            f"the validation share is {share}", hint="It lies between 0 and 1: .1 is a tenth."
        )
    return share


def _place(document: str, seed: int) -> float:
    """Where in [0, 1) a document falls: its text and the seed decide."""
    key = seed.to_bytes(8, "little", signed=True)
    digest = hashlib.blake2b(document.encode("utf-8", "replace"), digest_size=8, key=key)
    return (int.from_bytes(digest.digest(), "little") >> 11) / (1 << 53)


def _of_one_file(path: Path, share: float, notes: list[str]) -> Corpus:
    """One text, however long: cut by position. Reads it once, to know its length."""
    n_characters = n_bytes = 0
    visible = False
    for piece in pieces_of(path, notes):
        n_characters += len(piece)
        n_bytes += len(piece.encode("utf-8", "replace"))
        visible = visible or not piece.isspace()
    if not visible:
        raise DataError(
            f"{path} is empty" if not n_characters else f"{path} holds white space only",
            hint="A corpus has some text to learn from.",
        )
    if n_characters <= LONGEST:
        corpus = of_text(path.name, "".join(pieces_of(path, notes)), share, source=str(path))
        return replace(corpus, notes=[*notes, *corpus.notes])
    cut = int((1 - share) * n_characters)
    notes.append(_cut_note(cut, n_characters))
    return Corpus(
        path.name,
        train=lambda: gathered(before(pieces_of(path, notes), cut)),
        validation=lambda: gathered(after(pieces_of(path, notes), cut)),
        n_bytes=n_bytes,
        one_text=True,
        notes=notes,
        source=str(path),
    )


def _of_parts(
    path: Path, parts: Mapping[str, Path], text: str | None, share: float, seed: int
) -> Corpus:
    """A set that `datasets` saved: its training part, and its validation part if it has one."""
    if "train" not in parts:
        raise DataError(
            f"{path} has no part 'train', but {', '.join(parts)}", hint="Name one: PATH/PART."
        )
    notes: list[str] = []
    if left := [name for name in parts if name not in ("train", "validation")]:
        notes.append(f"Left out: {', '.join(left)}.")
    train, validation = (
        partial(_documents, files_of(parts[name]) if name in parts else [], text, notes)
        for name in ("train", "validation")
    )
    name = path.resolve().name
    if "validation" not in parts:
        return by_document(name, train, share, seed=seed, source=str(path), notes=notes)
    return Corpus(name, train, validation, notes=notes, source=str(path))


def _of_dataset(name: str, share: float, seed: int) -> Corpus:
    dataset = DATASETS.load(name)()
    texts = [example.document.full for example in dataset.train]
    return by_document(
        name,
        lambda: iter(texts),
        share,
        seed=seed,
        source=dataset.source,
        licence=dataset.licence,
        notes=[f"The {len(texts):,} training texts of a labelled data set; its test is left out."],
    )


def _documents(paths: Sequence[Path], text: str | None, notes: list[str]) -> Iterator[str]:
    for path in paths:
        yield from documents_of(path, notes) if is_text_file(path) else texts_of(path, text, notes)


def _files(path: Path) -> list[Path]:
    """The files meant by a path: itself, those of a folder, or of a glob, in order of names."""
    if is_arrow(path):
        return files_of(path)
    if path.is_dir():
        found = [p for p in sorted(path.rglob("*")) if p.is_file() and not _hidden(p, path)]
        if not found:
            raise DataError(f"{path} holds no files", hint="Give a folder with texts in it.")
        # Beside tables lie licences and read-me files, which are not what is meant.
        return [p for p in found if not is_text_file(p)] or found
    if path.is_file():
        return [path]
    if any(sign in str(path) for sign in "*?["):
        pattern = str(path.relative_to(path.anchor))
        if found := sorted(p for p in Path(path.anchor).glob(pattern) if p.is_file()):
            return found
        raise DataError(f"no file fits {path}", hint="Quote the glob: 'texts/**/*.txt'.")
    if str(path) == path.name and not path.suffix:
        known = dict.fromkeys([*CORPORA, *DATASETS])
        raise UnknownNameError(
            f"there is no corpus, file or folder named '{path}'",
            hint=f"{nearest(path.name, known)} Or give a path (book.txt), or a name of the hub "
            "(owner/name).",
        )
    beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    raise DataError(
        f"there is no file {path}",
        hint=nearest(path.name, beside) if beside else f"There is no folder {path.parent}.",
    )


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(HIDDEN) for part in path.relative_to(folder).parts)


def _hub_like(path: Path) -> bool:
    """Whether "a/b" that doesn't exist was meant as a name of the hub, not as a path."""
    suffixes = (".txt", ".md", ".gz", ".bz2", ".xz", ".zst", ".tar", *TABLES)
    return (
        str(path)[0] not in "./~"
        and path.suffix.lower() not in suffixes
        and not any(sign in str(path) for sign in "*?[")
        and not path.parent.is_dir()
    )


def _cut_note(cut: int, n: int) -> str:
    return f"The first {cut:,} of {n:,} characters are to train on, the rest to validate on."
