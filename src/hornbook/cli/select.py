"""`hornbook data select`: which of many unlabelled texts, or pairs, to label next."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.cli.harmless import harmless
from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.recipes.selecting import Pick

_SHOWN = 20  # picks that are printed; all of them are in the file
GUESS, MARGIN = "guess", "margin"  # columns that are added


def select_command(
    run: Annotated[str, typer.Argument(help="A run of finetune classify or pairs.")],
    file: Annotated[Path, typer.Argument(help="Texts without labels: a table, or a text a line.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 50,
    out: Annotated[
        Path | None, typer.Option(help="Write their rows here, as csv, ready to be labelled.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What is read as what: text=COLUMN; of pairs first, second."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Pick the texts (or pairs) that are most worth a label: those a fine-tuned classifier is least
    sure of, and that are unlike one another.

    The most telling stands first. Label them, add them to the training data, and fine-tune again.
    """
    from hornbook.cli.finetune import named
    from hornbook.cli.progress import counting
    from hornbook.cli.run_input import Given, rows_of
    from hornbook.files import write_text
    from hornbook.recipes.selecting import open_picker

    if out is not None and out.exists():
        raise ConfigError(f"{out} is there already", hint="Choose another --out.")
    given = Given(file=file, columns=dict(map(named, column or [])))
    picker = open_picker(run)
    rows = rows_of(picker.task.name, picker.reads, given)
    whole = _whole_rows(file, rows) if out is not None else []
    picks = picker.pick(rows, n, progress=None if quiet else counting("predicted"))
    if out is not None:
        write_text(out, table_of([whole[pick.row] for pick in picks], picks))
    if as_json:
        print(json.dumps([_plain(pick, rows) for pick in picks], indent=2, ensure_ascii=False))
        return
    show(picks, [" | ".join(str(row[name]) for name in picker.reads) for row in rows], n)
    if out is not None:
        print(f"their rows, with what the model guessed: {out}")


def _whole_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """All columns of a table; of a file of lines what is read of them.

    Raises ConfigError for a table with a column that is to be added.
    """
    from hornbook.cli.run_input import TEXT_FILES
    from hornbook.data.rows import read_rows

    if file.suffix.lower() in TEXT_FILES:
        return rows
    table = read_rows(file)
    if taken := [name for name in (GUESS, MARGIN) if name in table.columns]:
        raise ConfigError(
            f"{file} has a column '{taken[0]}', and --out adds one of this name",
            hint=f"Rename it in {file}, or leave it out there.",
        )
    return table.rows


def table_of(rows: Sequence[Mapping[str, Any]], picks: Sequence[Pick]) -> str:
    """The rows as csv, with two columns more: the guess, and how sure the model is of it."""
    names = dict.fromkeys(name for row in rows for name in row) | dict.fromkeys((GUESS, MARGIN))
    written = io.StringIO()
    writer = csv.DictWriter(written, list(names), lineterminator="\n")
    writer.writeheader()
    for row, pick in zip(rows, picks, strict=True):
        said = {GUESS: "; ".join(pick.guess), MARGIN: f"{pick.margin:.3f}"}
        writer.writerow(dict(row) | said)
    return written.getvalue()


def show(picks: Sequence[Pick], texts: Sequence[str], asked: int) -> None:
    """A line a pick, the most telling first."""
    from rich.console import Console
    from rich.text import Text

    shown = picks[:_SHOWN]
    guesses = [", ".join(pick.guess)[:24] or "none" for pick in shown]
    wide = max(5, *map(len, guesses))
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(f"{'row':>7}  margin  {'guess':<{wide}}  text", style="bold"))
    for pick, guess in zip(shown, guesses, strict=True):
        told = f"{pick.row + 1:>7,}  {pick.margin:6.3f}  {guess:<{wide}}  "
        text = " ".join(texts[pick.row].split())
        console.print(Text(harmless(told + text[: max(20, console.width - len(told))])))
    if len(picks) > _SHOWN:
        print(f"and {len(picks) - _SHOWN:,} more")
    if len(picks) < asked:
        print(f"There are no more than {len(picks):,} different ones.")


def _plain(pick: Pick, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    margin = round(pick.margin, 4)
    return {"row": pick.row + 1, "guess": pick.guess, "margin": margin, **rows[pick.row]}
