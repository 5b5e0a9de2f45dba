"""What of a run may leave this machine, and in which words: weights, tokenizer, configs, the card.

Nothing else goes: no data, no predictions (they hold the data's texts), no checkpoints, no lab
files. What goes is read first: a secret stops it, a path of this machine is shortened to its last
name.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hornbook import files
from hornbook.errors import CheckpointError, DataError

CARD = "README.md"
_SUFFIXES = {".json", ".jinja", ".safetensors", ".md"}
_TEXTS = {".json", ".jinja", ".md"}
_TOKENIZERS = {"vocab.txt", "merges.txt"}  # text that is a model's
_VOCABULARIES = {"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt"}  # of paths nothing here
# Why the rest of a run stays, by its first name.
_STAYS = {
    "checkpoints": "moments of the run",
    "validation.jsonl": "holds texts of the data",
    "evaluations": "holds texts of the data",
    "refused": "holds texts of the data",
    "data": "the data",
    "config.yaml": "settings, with paths of this machine",
    "metrics.jsonl": "lab file",
    "summary.json": "lab file, with paths of this machine",
    "preflight.json": "lab file, may quote the data",
    "report.html": "lab file",
    "emissions.csv": "lab file",
    "emissions.unfinished.csv": "lab file",
    "test_looks.jsonl": "lab file",
}
_SECRETS = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "an OpenAI key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "an AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a Google key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]+@",
    "a password": r"(?i)\b(?:password|passwd|secret|api[_-]?key|access[_-]?token)[\"']?\s*[:=]"
    r"\s*[\"']?[^\s\"',;]{8,}",
}
# What stands between the separators of a path. An apostrophe or comma only inside of a name.
_NAME = r"(?:[\w.@+=#%$-]|[',&!](?=\w))+"
# An address, which stays; or a path from the root of a disk on with two names at least: "/srv/a",
# "C:\\Users\\a", "\\\\host\\a", "~/a", "file:///home/a". Backslashes are doubled in JSON; without
# a drive or host they are not a path's but a template's or pattern's ("\n\nHello").
_PLACE = re.compile(
    rf"(?P<address>\b(?!file:)[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`]+)|"
    rf"(?P<path>(?<![\w/.~<\\])(?:file:(?://[\w.-]*)?)?/{_NAME}(?:/{{1,2}}{_NAME})+/?"
    rf"|(?<![\w/.~<\\])(?:file:/{{0,3}})?[A-Za-z]:(?:[\\/]{{1,2}}{_NAME})+[\\/]{{0,2}}"
    rf"|(?<!\\)(?:\\\\\w[\w.-]+(?:\\{_NAME})+|\\{{4}}\w[\w.-]+(?:\\\\{_NAME})+)"
    rf"|(?<![\w/.~])~(?:[A-Za-z_][\w.-]*)?[\\/]{{1,2}}{_NAME}(?:[\\/]{{1,2}}{_NAME})*/?)"
)
_HOME = re.compile(r"(?:file:/{0,3})?(?:/|[A-Za-z]:[\\/]+)(?:home|Users)[\\/]+[^\\/]+[\\/]*")


@dataclass(frozen=True)
class Sent:
    """A file that would go: its place there, its source here, its bytes when it was changed."""

    name: str
    source: Path
    n_bytes: int
    changed: bytes | None = None


@dataclass(frozen=True)
class Parcel:
    """What would go and what stays. left: name -> why. notes: sentences for whoever sends it."""

    run: Path
    sent: list[Sent]
    left: Mapping[str, str]
    card: str
    notes: list[str] = field(default_factory=list)

    @property
    def n_bytes(self) -> int:
        return sum(one.n_bytes for one in self.sent)

    def write(self, folder: Path) -> None:
        """Lay it out in an empty folder, as it would stand on the hub."""
        for one in self.sent:
            target = files.inside(folder, one.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if one.changed is not None:
                target.write_bytes(one.changed)
            else:
                target.write_bytes(one.source.read_bytes())


def pack(run: Path) -> Parcel:
    """Choose and read through what would be shared of a run, or of a model's folder.

    Raises CheckpointError where there is no model or no card, DataError where a file holds what
    looks like a secret.
    """
    model = run / "model" if (run / "model").is_dir() else run
    if not (model / "config.json").is_file() and not (model / "technique.json").is_file():
        raise CheckpointError(
            f"{run} holds no model to share", hint="Name the folder of a finished run."
        )
    card = next((p for p in (run / CARD, model / CARD) if p.is_file()), None)
    if card is None:
        raise CheckpointError(
            f"{run} has no model card ({CARD}), and nobody could tell what the model is",
            hint="`hornbook finetune` writes one; or write what it is, what it was trained on and "
            "how good it is.",
        )
    chosen = {CARD: card}
    chosen |= {n: p for n, p in _below(model) if n != CARD and _fit(p)}
    if (run / "adapter").is_dir():
        adapter = _below(run / "adapter")
        chosen |= {f"adapter/{n}": p for n, p in adapter if n != CARD and _fit(p)}
    notes: list[str] = []
    sent = [_read_through(name, path, notes) for name, path in sorted(chosen.items())]
    (said,) = [one for one in sent if one.name == CARD]
    text = (said.changed or said.source.read_bytes()).decode("utf-8")
    notes += _of_card(text)
    return Parcel(run, sent, _left(run, set(chosen.values())), text, notes)


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files in a folder, by their names seen from it; hidden ones and links out of it aside."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and path.resolve().is_relative_to(folder.resolve()):
            yield name.as_posix(), path


def _fit(path: Path) -> bool:
    return path.suffix in _SUFFIXES or path.name in _TOKENIZERS


def _left(run: Path, chosen: set[Path]) -> dict[str, str]:
    """What stays here, and why, by its first name below the run."""
    left: dict[str, str] = {}
    for path in sorted(run.rglob("*")):
        if not path.is_file() or path in chosen:
            continue
        parts = path.relative_to(run).parts
        if parts[0] in ("model", "adapter"):
            left[path.relative_to(run).as_posix()] = "not a file of a model"
        elif not parts[0].startswith("."):
            left[parts[0]] = _STAYS.get(parts[0], "not a file of a model")
    return left


def _read_through(name: str, path: Path, notes: list[str]) -> Sent:
    """Refuse secrets, shorten paths. Of weights the header is read, which may hold words too."""
    if path.suffix == ".safetensors":
        _check(name, json.dumps(_words_of(path)))
        return Sent(name, path, path.stat().st_size)
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text: {error}", hint="Is it a model's file? Move it away."
        ) from error
    if path.name in _VOCABULARIES:  # tokens may look like anything
        return Sent(name, path, path.stat().st_size)
    _check(name, text)
    found = [place["path"] for place in _PLACE.finditer(text) if place["path"]]
    if not found:
        return Sent(name, path, path.stat().st_size)
    shorter = _PLACE.sub(lambda m: _last(m["path"]) if m["path"] else m[0], text)
    for place in dict.fromkeys(found):
        notes.append(f"{name}: the path {place} goes as '{_last(place)}'.")
    changed = shorter.encode("utf-8")
    return Sent(name, path, len(changed), changed)


def _words_of(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors (`__metadata__`)."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100_000_000:
            raise CheckpointError(f"{path} is damaged", hint="Save the model again.")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise CheckpointError(
                f"{path} is not a safetensors file: {error}", hint="Save the model again."
            ) from error
    return dict(header.get("__metadata__", {}))


def _check(name: str, text: str) -> None:
    for number, line in enumerate(text.split("\n"), 1):
        for what, pattern in _SECRETS.items():
            if found := re.search(pattern, line):
                shown = found[0][:6]
                raise DataError(
                    f"{name}, line {number} holds what looks like {what} ({shown}…)",
                    hint="Take it out (and give it back where it was issued: it may have been "
                    "seen), then share again. Nothing was sent.",
                )


def _last(place: str) -> str:
    """The last name of a path; of somebody's home, whose name it is, none."""
    if _HOME.fullmatch(place):
        return "~"
    return re.split(r"[\\/]+", place.rstrip("\\/"))[-1]


def _of_card(card: str) -> list[str]:
    """What whoever shares it has to know of the card."""
    front = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    notes = []
    if front is None:
        notes.append("The card has no YAML at its top: the hub won't list task, data or metrics.")
    elif "license:" not in front[1]:
        notes.append(
            "The card names no licence: others may not use the model until it does. The base "
            "model's and the data's licences decide which may stand there (license: apache-2.0)."
        )
    return notes
