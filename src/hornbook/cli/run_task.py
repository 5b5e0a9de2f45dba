"""`hornbook run`: a task, a model, texts; what the model says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hornbook.errors import ConfigError

_AT_ONCE = 64  # rows answered together: quick enough, and printed as they come
_READ, _WRITE, _OUTPUT = "What is read", "What is written", "Output"


def command(
    task: Annotated[
        str,
        typer.Argument(
            help="sentiment (classify), ner (tag), qa (answer), fill-mask (fill), translate, "
            "summarize, zero-shot, generate, chat, choose, pairs, embed or similarity."
        ),
    ],
    model: Annotated[
        str, typer.Argument(help="A run, a folder, a name (hornbook models), owner/name.")
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; - reads lines from standard input.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Lines of .txt; rows of .csv, .jsonl, ...", rich_help_panel=_READ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="name=COLUMN of a table, e.g. text=body.", rich_help_panel=_READ),
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="qa: the text that the answer is in.", rich_help_panel=_READ)
    ] = None,
    context_file: Annotated[
        Path | None, typer.Option(help="The same, from a file.", rich_help_panel=_READ)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="zero-shot: a label; repeat, or a,b,c.", rich_help_panel=_READ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="choose: an option; repeat.", rich_help_panel=_READ)
    ] = None,
    aggregation: Annotated[
        str | None,
        typer.Option(
            help="ner: how sub-words become entities: first, simple, average, max, none.",
            rich_help_panel=_READ,
        ),
    ] = None,
    n_tokens: Annotated[
        int | None,
        typer.Option("--tokens", "-n", min=1, help="At most.", rich_help_panel=_WRITE),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token.", rich_help_panel=_WRITE)
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn.", rich_help_panel=_WRITE)] = 0,
    beams: Annotated[
        int | None,
        typer.Option(min=1, help="translate, summarize: paths.", rich_help_panel=_WRITE),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="chat: what it is told first.", rich_help_panel=_WRITE)
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, help="Answers shown of several.", rich_help_panel=_OUTPUT)
    ] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="An object a line.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Run a model on texts: sentiment, names, answers, translations, labels of your own, ..."""
    from hornbook.cli.finetune import named
    from hornbook.cli.run_input import Given, rows_of
    from hornbook.recipes.apply import name_of, use_of

    name, use = name_of(task), use_of(task)
    given = Given(
        texts=texts or (),
        file=file,
        columns=dict(map(named, column or ())),
        context=context,
        context_file=context_file,
        labels=label or (),
        options=option or (),
    )
    rows = rows_of(name, use.reads, given)
    if name == "classify" and (study := _study(model)) is not None:
        _by_study(study, rows, as_json=as_json)
        return
    from hornbook.recipes.apply_plain import Asked

    asked = Asked(top, n_tokens, temperature, seed, beams, system, aggregation)
    _say(name, use.open(model, asked), rows, use.reads[0], as_json=as_json, top=top)


def _say(
    task: str, say: Any, rows: list[dict[str, Any]], first: str, *, as_json: bool, top: int
) -> None:
    """Print what is found, in the rows' order; a row without text is said to have none."""
    at_once = len(rows) if task == "similarity" else _AT_ONCE
    n_shown = 0
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        whole = [row for row in part if all(_filled(value) for value in row.values())]
        found = say(whole) if whole else iter(())
        if task == "similarity":  # of pairs of rows, not of rows
            for one in found:
                if not as_json and n_shown == 4 * top:
                    print("… the others are less alike; --json gives all")
                    return
                n_shown += 1
                _print(task, one, as_json, several=False, top=top)
            continue
        for row in part:
            if all(_filled(value) for value in row.values()):
                _print(task, next(found), as_json, several=len(rows) > 1, top=top)
            elif as_json:
                print(json.dumps(row | {"reason": "no text"}, ensure_ascii=False))
            else:
                print("(no text)")


def _print(task: str, found: dict[str, Any], as_json: bool, *, several: bool, top: int) -> None:
    from hornbook.cli.run_tables import show

    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        show(task, found, several=several, top=top)


def _filled(value: Any) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


def _study(model: str) -> Path | None:
    """A comparison's folder, or a model that one saved: these classify too."""
    for path in (Path(model).expanduser(), Path("runs") / model):
        if (path / "study_record.json").is_file() or (path / "technique.json").is_file():
            return path
    return None


def _by_study(study: Path, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from hornbook.cli.predict import open_predictor, predicted_lines
    from hornbook.data.examples import Document

    documents = [Document(row["text"]) for row in rows]
    if not documents:
        raise ConfigError("there is no text to classify", hint="Give one.")
    for line in predicted_lines(open_predictor(study, None), documents, as_json=as_json, top=0):
        print(line)
