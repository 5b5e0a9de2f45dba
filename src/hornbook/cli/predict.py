"""`hornbook predict`: labels for new texts, by a model that a study saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    """Predict labels of texts with a saved model."""
    predictor = open_predictor(run, technique)
    documents = list(_documents(texts or [], file, jsonl, text, title))
    if not documents:
        raise ConfigError(
            "there is no text to predict",
            hint='Give texts: hornbook predict RUN "a text", or --file, --jsonl, or - for stdin.',
        )
    for line in predicted_lines(predictor, documents, as_json=as_json, top=top):
        print(line)


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
    names = predictor.problem.label_names
    for start in range(0, len(documents), _AT_ONCE):
        part = documents[start : start + _AT_ONCE]
        scores = predictor.scores(part)
        chosen, probabilities = predictor.decide(scores), predictor.calibrate(scores)
        for document, row, p in zip(part, chosen, probabilities):
            labels = [name for name, given in zip(names, row) if given]
            order = (-p).argsort(kind="stable")[: top or len(names)]
            best = {names[j]: round(float(p[j]), 4) for j in order}
            if as_json:
                found = {"text": document.text, "labels": labels, "probabilities": best}
                yield json.dumps(found, ensure_ascii=False)
            elif top:
                yield "  ".join(f"{name} {value:.3f}" for name, value in best.items())
            else:
                yield ", ".join(labels) or "(no label)"


def _documents(
    texts: list[str], file: Path | None, jsonl: Path | None, field: str, title: str | None
) -> Iterator[Document]:
    from hornbook.data.examples import Document

    for text in texts:
        if text == "-":
            if isinstance(sys.stdin, TextIOWrapper):
                sys.stdin.reconfigure(errors="replace")
            yield from (Document(line) for line in _lines(sys.stdin))
        else:
            yield Document(text)
    if file is not None:
        with _opened(file) as lines:
            yield from (Document(line) for line in _lines(lines))
    if jsonl is not None:
        with _opened(jsonl) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _document_of(line, f"{jsonl}, line {number}", field, title)


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
    return Document(str(row[field]), str(row[title]) if title else "")


def _lines(lines: Iterable[str]) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in lines if line.strip())


def _opened(path: Path):
    if not path.is_file():
        raise DataError(f"there is no file {path}", hint="Paths are seen from this folder.")
    return path.open(encoding="utf-8-sig", errors="replace")
