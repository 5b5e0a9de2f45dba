"""`hornbook evaluate`: a fine-tuned model's metrics with intervals, on validation or on test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hornbook.errors import ConfigError, nearest

if TYPE_CHECKING:
    from hornbook.records import AssessmentRecord, ComparisonRecord, MetricRecord

PARTS = ("validation", "test", "train", "all")


def command(
    run: Annotated[str, typer.Argument(help="A run of finetune or align: its folder or name.")],
    data: Annotated[
        str | None, typer.Option(help="Data to evaluate on; those of training by default.")
    ] = None,
    on: Annotated[
        str, typer.Option(help="Which part: validation, test, train; all of other data.")
    ] = "validation",
    against: Annotated[
        str | None, typer.Option(help="Another run, to be compared on the same examples.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What is read as what: name=COLUMN. May be repeated."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Judge a model as it came, at choose, chat, continue, embed, fill, ..."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many examples, drawn at random.", min=1)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write, with --task.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Evaluate a run: the task's metrics, each with its 95 % interval.

    The test part is read here only, and a run keeps count of the looks at it; all of other data
    (--data D --on all) are a test too. To choose between trials of one search by the test part is
    refused, and so is a comparison on examples that one of the two learnt from.
    """
    from hornbook.cli.finetune import named
    from hornbook.cli.progress import counting
    from hornbook.recipes.assessing import evaluate_run
    from hornbook.reports.card_on_test import write_test_scores

    if on not in PARTS:
        raise ConfigError(f"there is no part '{on}'", hint=nearest(on, PARTS))
    record, folder = evaluate_run(
        run,
        part=on,  # type: ignore[arg-type]
        data=data,
        columns=dict(map(named, column)) if column else None,
        against=against,
        task=task,
        limit=limit,
        out=out,
        progress=None if quiet else counting("predicted"),
    )
    ours = task is None  # with --task the folder is any that was named
    card = write_test_scores(folder.parent) if ours and on in ("test", "all") else None
    if as_json:
        print(record.model_dump_json(indent=2))
        return
    show(record, folder)
    if card is not None:
        print(f"the card has the figures too: {card}")


def show(record: AssessmentRecord, folder: Path) -> None:
    """The table, the comparison, and what has to be known of them."""
    from rich.console import Console

    part = "" if record.part == "all" else f"{record.part} "
    print(f"{record.run}: {record.task}, {record.n_examples:,} {part}examples")
    for warning in record.warnings:
        print(f"warning: {warning}")
    console = Console(highlight=False)
    console.print(_metrics(record.metrics))
    if record.against is not None:
        print(f"\nagainst {record.against.other}, on the same examples:")
        console.print(_differences(record.against))
        print(record.against.verdict)
    for note in record.notes:
        print(f"- {note}")
    print(f"predictions {folder / record.predictions}, the record beside them as .json")


def _metrics(metrics: Sequence[MetricRecord]) -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for metric in metrics:
        interval = f"{number(metric.low)} to {number(metric.high)}"
        table.add_row(Text(metric.name), number(metric.value), interval)
    return table


def _differences(against: ComparisonRecord) -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("metric")
    for heading in ("this", "other", "difference", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    for one in against.differences:
        table.add_row(
            Text(one.name),
            number(one.ours),
            number(one.theirs),
            number(one.difference, sign=True),
            f"{number(one.low, sign=True)} to {number(one.high, sign=True)}",
            _p(one.p_value),
        )
    return table


def number(value: float | None, *, sign: bool = False) -> str:
    """0.98421 as 0.984, 31.234 as 31.2; a dash for none."""
    if value is None:
        return "–"
    digits = 3 if abs(value) < 10 else 1
    return f"{value:{'+' if sign else ''}.{digits}f}"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
