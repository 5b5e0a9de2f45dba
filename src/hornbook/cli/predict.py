"""`hornbook predict`: labels for new texts, by a model that a study saved.

Every line of a file gives one line of output, so that the two can be put side by side; a line
without text (empty, blank, or null) gets no label and says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from hornbook.compare.predictor import Predictor
    from hornbook.data.examples import Document

_AT_ONCE = 256  # texts predicted together: enough to be quick, few enough to print as they come


def command(
    run: Annotated[Path, typer.Argument(help="A study's folder, or a saved model's.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; '-' reads lines from standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file with a text on each line.")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="A file with a JSON object a line.")] = None,
    text: Annotated[str, typer.Option(help="The field with the text, for --jsonl.")] = "text",
    title: Annotated[
        str | None, typer.Option(help="The field with the title, for --jsonl.")
    ] = None,
    technique: Annotated[
        str | None,
        typer.Option(help="Which technique's model, or your own's path.py:Class; best by default."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for each text.")] = False,
    top: Annotated[int, typer.Option(help="Show the N most probable labels.", min=0)] = 0,
) -> None:
    """Predict labels of texts with a saved model, a line for each; "(no text)" for an empty one."""
    predictor = open_predictor(run, technique)
    documents = list(_documents(texts or [], file, jsonl, text, title))
    if not documents:
        raise ConfigError(
            "there is no text to predict",
            hint='Give texts: hornbook predict RUN "a text", or --file, --jsonl, or - for stdin.',
        )
    for line in predicted_lines(predictor, documents, as_json=as_json, top=top):
        print(line)
    if n_empty := sum(not _has_text(document) for document in documents):
        print(f"{n_empty:,} of {len(documents):,} hold no text: no label", file=sys.stderr)


def open_predictor(run: Path, technique: str | None) -> Predictor:
    """The model of a study, or of a model folder. With path.py:Class that file is run."""
    from hornbook.compare.predictor import Predictor
    from hornbook.compare.sources import source_of
    from hornbook.compare.study import Study, open_study

    source = source_of(technique) if technique and ".py:" in technique else None
    if (run / "technique.json").is_file():
        return Predictor.open(run, source=source)
    study = open_study(run)
    if source is not None:
        return Study(run, [source]).technique(source.name)
    return study.technique(technique) if technique else study.best


def predicted_lines(
    predictor: Predictor, documents: list[Document], *, as_json: bool, top: int
) -> Iterator[str]:
    """A line for each text: its labels; with `top`, the most probable ones; or an object."""
    for start in range(0, len(documents), _AT_ONCE):
        part = documents[start : start + _AT_ONCE]
        filled = [document for document in part if _has_text(document)]
        lines = _lines_of(predictor, filled, as_json, top) if filled else iter(())
        for document in part:
            if _has_text(document):
                yield next(lines)
            elif as_json:
                nothing = {"text": document.text, "labels": [], "probabilities": {}}
                yield json.dumps(nothing | {"reason": "no text"})
            else:
                yield "(no text)"


def _has_text(document: Document) -> bool:
    return bool(document.full.strip())


def _lines_of(
    predictor: Predictor, documents: list[Document], as_json: bool, top: int
) -> Iterator[str]:
    names = predictor.problem.label_names
    scores = predictor.scores(documents)
    chosen, probabilities = predictor.decide(scores), predictor.calibrate(scores)
    for document, row, p in zip(documents, chosen, probabilities):
        labels = [name for name, given in zip(names, row) if given]
        order = (-p).argsort(kind="stable")[: top or len(names)]
        best = {names[j]: round(float(p[j]), 4) for j in order}
        if as_json:
            found = {"text": document.text, "labels": labels, "probabilities": best}
            yield json.dumps(found, ensure_ascii=False)
        elif top:
            yield "  ".join(f"{_on_a_line(name)} {value:.3f}" for name, value in best.items())
        else:
            yield ", ".join(map(_on_a_line, labels)) or "(no label)"


def _on_a_line(label: str) -> str:
    """A label may hold line breaks; its line of output may not."""
    return " ".join(label.split())


def _documents(
    texts: list[str], file: Path | None, jsonl: Path | None, field: str, title: str | None
) -> Iterator[Document]:
    from hornbook.data.examples import Document

    for text in texts:
        if text == "-":
            yield from map(Document, _lines(sys.stdin.buffer.read(), "standard input"))
        else:
            yield Document(text)
    if file is not None:
        yield from map(Document, _lines(_bytes(file), str(file)))
    if jsonl is not None:
        for number, line in enumerate(_lines(_bytes(jsonl), str(jsonl)), start=1):
            place = f"{jsonl}, line {number}"
            yield _document_of(line, place, field, title) if line.strip() else Document("")


def _document_of(line: str, place: str, field: str, title: str | None) -> Document:
    from hornbook.data.examples import Document

    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: not JSON: {error}", hint="Each line is one object.") from error
    wanted = [field, *([title] if title else [])]
    missing = [name for name in wanted if not isinstance(row, dict) or name not in row]
    if missing:
        known = list(row) if isinstance(row, dict) else []
        raise DataError(
            f"{place}: there is no field '{missing[0]}'",
            hint=nearest(missing[0], known) if known else "Each line is one object.",
        )
    return Document(*(_text_of(row[name], f"{place}: '{name}'") for name in wanted))


def _text_of(value: Any, place: str) -> str:
    """A field as text; null is none at all. Raises DataError for what is no text."""
    if isinstance(value, dict | list):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise DataError(f"{place} is {kind}", hint="A text is a string, a number or null.")
    return "" if value is None else str(value)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"there is no file {path}", hint="Paths are seen from this folder.")
    return path.read_bytes()


def _lines(data: bytes, name: str) -> list[str]:
    """The lines, without their ends; only a line feed ends one. Raises DataError when binary."""
    from hornbook.data.rows import decode

    text, notes = decode(data, name)
    for note in notes:
        print(note, file=sys.stderr)
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
