"""`hornbook run`: a task, a model, texts; what the model says of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.recipes.apply_plain import Asked, Say

_AT_ONCE = 64  # rows answered together: quick enough, and printed as they come
_READ, _WRITE, _OUTPUT = "What is read", "What is written", "Output"


def command(
    task: Annotated[
        str,
        typer.Argument(
            help="sentiment (classify), ner (tag), qa (answer), fill-mask (fill), translate, "
            "summarize, anonymize, zero-shot, generate, chat, choose, pairs, reward, embed or "
            "similarity."
        ),
    ],
    model: Annotated[
        str,
        typer.Argument(
            help="A run, a folder, a name (hornbook models), owner/name; summarize: or textrank."
        ),
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; - reads standard input.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="A text file, .txt or .md; rows of .csv, .jsonl, ...", rich_help_panel=_READ
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="name=COLUMN of a table, e.g. text=body.", rich_help_panel=_READ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER of an adapter on the model; repeat: each answers, the model is in "
            "memory once."
        ),
    ] = None,
    whole: Annotated[
        bool | None,
        typer.Option(
            "--whole/--lines",
            help="Of a text file or -: all is one text (usual of summarize), or each line is.",
            show_default=False,
            rich_help_panel=_READ,
        ),
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="qa: the text that the answer is in.", rich_help_panel=_READ)
    ] = None,
    context_file: Annotated[
        Path | None, typer.Option(help="The same, from a file.", rich_help_panel=_READ)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            "--labels",
            help="zero-shot: a label; repeat, or a,b,c.",
            rich_help_panel=_READ,
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="choose: an option; repeat.", rich_help_panel=_READ)
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(help="reward: an answer to mark; repeat.", rich_help_panel=_READ),
    ] = None,
    hypothesis: Annotated[
        str | None,
        typer.Option(
            help="zero-shot by entailment or likelihood: a sentence with {label} in it.",
            rich_help_panel=_READ,
        ),
    ] = None,
    several: Annotated[
        bool,
        typer.Option(
            "--several",
            help="zero-shot by entailment: any number of labels, each by itself.",
            rich_help_panel=_READ,
        ),
    ] = False,
    content_free: Annotated[
        bool | None,
        typer.Option(
            "--content-free/--as-it-is",
            help="zero-shot: take off what a label gets of texts without content (usual), or not.",
            show_default=False,
            rich_help_panel=_READ,
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="zero-shot: texts with labels, to fit a temperature to.", rich_help_panel=_READ
        ),
    ] = None,
    aggregation: Annotated[
        str | None,
        typer.Option(
            help="ner, anonymize: how sub-words become entities: first, average, max; ner also "
            "simple, none.",
            rich_help_panel=_READ,
        ),
    ] = None,
    n_tokens: Annotated[
        int | None,
        typer.Option("--tokens", "-n", min=1, help="At most.", rich_help_panel=_WRITE),
    ] = None,
    n_sentences: Annotated[
        int | None,
        typer.Option(
            "--sentences", min=1, help="summarize textrank: how many.", rich_help_panel=_WRITE
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="generate, chat: 0 (usual) takes the likeliest token.",
            rich_help_panel=_WRITE,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="generate, chat: of what is drawn.", rich_help_panel=_WRITE),
    ] = None,
    beams: Annotated[
        int | None,
        typer.Option(min=1, help="translate, summarize: paths.", rich_help_panel=_WRITE),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="chat: what it is told first.", rich_help_panel=_WRITE)
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Answers shown of several (5); similarity: pairs (20).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="An object a line.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Run a model on texts: sentiment, names, answers, translations, labels of your own, ..."""
    from hornbook.cli.finetune import named
    from hornbook.cli.run_input import Given, rows_of
    from hornbook.recipes.apply import name_of, ready, use_of
    from hornbook.recipes.apply_plain import Asked

    name, use = name_of(task), use_of(task)
    given = Given(
        texts=texts or (),
        file=file,
        columns=dict(map(named, column or ())),
        whole=whole,
        context=context,
        context_file=context_file,
        labels=label or (),
        options=option or (),
        answers=answer or (),
    )
    asked = Asked(
        top=top,
        n_tokens=n_tokens,
        temperature=temperature,
        seed=seed,
        n_beams=beams,
        system=system,
        aggregation=aggregation,
        hypothesis=hypothesis,
        several=several or None,
        n_sentences=n_sentences,
        content_free=content_free,
        calibrate=calibrate,
    )
    _refuse_unheeded(name, use.heeds, asked)
    rows = rows_of(name, use.reads, given)
    if adapter:
        _by_each(name, model, adapter, asked, rows, as_json=as_json)
        return
    if name == "classify" and (study := _study(model)) is not None:
        _by_study(study, rows, as_json=as_json, top=top or 0)
        return
    say = ready(name, model, asked)
    _note(say)
    _answer(name, say, rows, asked, as_json=as_json)


def _note(say: Say) -> None:
    """What there is to know of a thing that answers, before it does."""
    for note in getattr(say, "notes", ()):
        print(note, file=sys.stderr)


def _answer(
    task: str, say: Say, rows: list[dict[str, Any]], asked: Asked, *, as_json: bool
) -> None:
    if task == "similarity":
        _say_pairs(say, rows, as_json=as_json)
    else:
        _say(task, say, rows, as_json=as_json, top=asked.top or 5)


def _by_each(
    task: str,
    model: str,
    adapters: Sequence[str],
    asked: Asked,
    rows: list[dict[str, Any]],
    *,
    as_json: bool,
) -> None:
    """What each adapter says of all rows, one adapter after the other."""
    from hornbook.recipes.apply_adapters import each_ready

    folders: dict[str, str] = {}
    for one in adapters:
        name, _, folder = one.partition("=")
        if not name.strip() or not folder or name in folders:
            raise ConfigError(
                f"--adapter {one} is not NAME=FOLDER with a name of its own",
                hint="E.g. --adapter spam=runs/spam --adapter tone=runs/tone",
            )
        folders[name] = folder
    for name, say in each_ready(task, model, folders, asked).items():
        if not as_json:
            print(f"{name}:")
        _note(say)
        said = partial(_with_name, name, say) if as_json else say
        _answer(task, said, rows, asked, as_json=as_json)


def _with_name(name: str, say: Say, rows: Sequence[Any]) -> Iterator[dict[str, Any]]:
    return ({"adapter": name} | found for found in say(rows))


def _refuse_unheeded(task: str, heeds: Sequence[str], asked: Asked) -> None:
    """Raises ConfigError for what was asked and makes no difference to this task."""
    for field in fields(asked):
        if getattr(asked, field.name) is not None and field.name not in heeds:
            heeded = ", ".join(_option(name) for name in heeds)
            raise ConfigError(
                f"{task} has no use for {_option(field.name)}",
                hint=f"It heeds {heeded}." if heeded else "Leave it out.",
            )


def _option(name: str) -> str:
    return "--" + name.removeprefix("n_").replace("_", "-")


def _say(task: str, say: Say, rows: list[dict[str, Any]], *, as_json: bool, top: int) -> None:
    """Print what is found, in the rows' order; a row without text is said to have none."""
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        whole = [row for row in part if _is_whole(row)]
        found = iter(say(whole)) if whole else iter(())
        for row in part:
            if _is_whole(row):
                _print(task, next(found), as_json, several=len(rows) > 1, top=top)
            elif as_json:
                print(json.dumps(row | {"reason": "no text"}, ensure_ascii=False))
            else:
                print("(no text)")


def _say_pairs(say: Say, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print the pairs that are most alike, and how many there are besides."""
    whole = [row for row in rows if _is_whole(row)]
    n_shown = 0
    for found in say(whole):
        _print("similarity", found, as_json, several=False, top=1)
        n_shown += 1
    n_pairs = len(whole) * (len(whole) - 1) // 2
    if n_pairs > n_shown:
        print(f"The {n_shown} most alike of {n_pairs:,} pairs; --top N shows N.", file=sys.stderr)


def _print(task: str, found: dict[str, Any], as_json: bool, *, several: bool, top: int) -> None:
    from hornbook.cli.run_tables import show

    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        show(task, found, several=several, top=top)


def _is_whole(row: Mapping[str, Any]) -> bool:
    """Whether no text of it is empty."""
    return all(value.strip() if isinstance(value, str) else value for value in row.values())


def _study(model: str) -> Path | None:
    """A comparison's folder, or a model that one saved: these classify too."""
    for path in (Path(model).expanduser(), Path("runs") / model):
        if (path / "study_record.json").is_file() or (path / "technique.json").is_file():
            return path
    return None


def _by_study(study: Path, rows: list[dict[str, Any]], *, as_json: bool, top: int) -> None:
    from hornbook.cli.predict import open_predictor, predicted_lines
    from hornbook.data.examples import Document

    documents = [Document(row["text"]) for row in rows]
    if not documents:
        raise ConfigError("there is no text to classify", hint="Give one.")
    for line in predicted_lines(open_predictor(study, None), documents, as_json=as_json, top=top):
        print(line)
