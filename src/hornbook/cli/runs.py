"""`hornbook runs`: the fine-tuned runs here, best first, and what spoils the comparison."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hornbook.recipes.leaderboard import Board


def command(
    folder: Annotated[Path, typer.Argument(help="Where the runs lie.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List fine-tuned runs best first, in a table for each set of examples they were measured on.

    Said beside it: test parts looked at more than once, and examples that another run learnt from.
    """
    from hornbook.recipes.leaderboard import boards_of

    boards = boards_of(folder)
    if as_json:
        found = [
            asdict(b) | {"rows": [asdict(r) | {"metric": r.metric.model_dump()} for r in b.rows]}
            for b in boards
        ]
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if not boards:
        print(f"No fine-tuned run in {folder} has been measured.")
    for number, board in enumerate(boards):
        if number:
            print()
        _show(board)
    if any(len(board.rows) > 1 for board in boards):
        print(
            "\nThe first of several is first by luck too: `hornbook evaluate A --against B` tells "
            "whether two differ."
        )


def _show(board: Board) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hornbook.cli.evaluate import number

    part = "" if board.part == "all" else f"{board.part} "
    whole = f" of {board.n_part:,}" if board.n_examples < board.n_part else ""
    print(f"{board.task} on {board.data}, {board.n_examples:,}{whole} {part}examples")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("run", "model", "method"):
        table.add_column(heading, overflow="fold")
    table.add_column(Text(board.rows[0].metric.name), justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("date", no_wrap=True)
    for row in board.rows:
        names = (Text(name) for name in (row.run, row.model, row.method))
        metric = row.metric
        interval = "" if metric.low is None else f"{number(metric.low)} to {number(metric.high)}"
        table.add_row(*names, number(metric.value), interval, row.at[:10])
    Console(highlight=False).print(table)
    for warning in board.warnings:
        print(f"warning: {warning}")
    for row in board.rows:
        if row.n_looks > 1:
            print(
                f"warning: {row.run} was evaluated on this test part {row.n_looks} times: if "
                "anything was chosen after an earlier one, its figure is too good."
            )
        for warning in row.warnings:
            print(f"warning: {row.run}: {warning}")
