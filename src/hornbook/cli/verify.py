"""`hornbook verify`: what is promised to be exact, measured on this machine with a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hornbook.records import CheckRecord, VerificationRecord


def command(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A run, a folder, a name (hornbook models); by default the smallest that is here."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Check on this machine what is promised to be exact; ends with 1 when something isn't.

    Accumulation, resuming, batches, merged adapters, saving, recomputation: each is done in two
    ways that have to agree, and the difference is shown.
    """
    from hornbook import bundle
    from hornbook.recipes.verification import verify
    from hornbook.recipes.verification_subject import smallest_installed, tiny

    name = model or smallest_installed()
    opened = tiny() if name is None else bundle.open_model(name)
    if as_json:
        record = verify(opened)
        print(record.model_dump_json(indent=2))
    else:
        print(f"{opened.name}, on the processor in float32")
        record = verify(opened, heard=_say)
        print(_verdict(record))
    if not record.holds:
        raise typer.Exit(1)


def _say(check: CheckRecord) -> None:
    """A line as soon as it is known, and below it what was compared."""
    tick = "✓" if check.holds else "✗"
    print(f"{tick} {check.name:<44} {_difference(check):<28} {check.seconds:5.1f} s", flush=True)
    print(f"    {check.note}", flush=True)


def _difference(check: CheckRecord) -> str:
    if check.difference == 0:
        return "no difference"
    found = "not comparable" if check.difference is None else f"off by {check.difference:.1e}"
    return f"{found}, {f'{check.allowed:.0e}' if check.allowed else 'none'} allowed"


def _verdict(record: VerificationRecord) -> str:
    lines = [f"left out: {reason}" for reason in record.left_out]
    n_holding = sum(check.holds for check in record.checks)
    lines.append(
        f"{n_holding} of {len(record.checks)} hold ({record.kind}, {record.n_parameters:,} "
        f"parameters; threads: {record.n_threads}; {record.seconds:.0f} s)"
    )
    return "\n".join(lines)
