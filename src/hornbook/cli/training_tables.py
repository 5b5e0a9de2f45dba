"""What `hornbook train` prints at the end: the run beside its plan and beside counting."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from hornbook.cli.live_training import ended_in_words
from hornbook.cli.plan_tables import plan_lines
from hornbook.config import settings_from
from hornbook.errors import ConfigError, nearest
from hornbook.records import RunSummary

HIGHEST_ORDER = 20

if TYPE_CHECKING:
    from hornbook.recipes.dial import Asked
    from hornbook.recipes.preparation import Prepared
    from hornbook.recipes.training_run import Session


def show_plan(asked: Asked, as_json: bool) -> None:
    """Every decided setting and what the run would take; nothing is trained."""
    from hornbook.recipes.dial import derived
    from hornbook.recipes.training_run import plan_of, settle

    prepared, settings = settle(asked)
    plan = plan_of(settings, prepared)
    if as_json:
        print(plan.model_dump_json(indent=2))
        return
    show_corpus(prepared)
    show_decided(derived(asked, settings))
    for line in plan_lines(plan):
        print(line)


def show_beginning(session: Session) -> None:
    """What is trained on, and every value that the dial decided; on standard error."""
    with redirect_stdout(sys.stderr):
        show_corpus(session.training.prepared)
        show_decided(session.decided)


def show_corpus(prepared: Prepared) -> None:
    corpus = prepared.corpus
    print(
        f"{corpus.name}: {len(prepared.train):,} tokens to train on, "
        f"{len(prepared.validation):,} to validate on; {prepared.name} tokenizer, "
        f"{prepared.tokenizer.vocab_size:,} in the vocabulary"
    )
    for note in corpus.notes:
        print(f"  {note}")


def show_decided(decided: dict[str, Any]) -> None:
    words = ", ".join(f"{name} {_short(value)}" for name, value in decided.items())
    print(f"decided here (--set name=value to change): {words}")


def show_run(folder: Path, summary: RunSummary, as_json: bool) -> None:
    """The losses beside the referees', the pattern found, and where everything lies."""
    if as_json:
        print(summary.model_dump_json(indent=2))
        return
    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("on the validation text", no_wrap=True)
    for name in ("nats a token", "bits per byte"):
        table.add_column(name, justify="right", no_wrap=True)
    rows: list[tuple[str, float | None, float | None]] = [
        (r.name, r.loss, r.bits_per_byte) for r in summary.referees
    ]
    rows.append((summary.model, summary.best_validation_loss, summary.best_bits_per_byte))
    for name, loss, bits in sorted(rows, key=lambda row: -(row[1] or 0)):
        table.add_row(name, _four(loss), _four(bits), style="bold" if name == summary.model else "")
    console.print(table)
    if summary.reading is not None:
        print(f"{summary.reading.pattern}: {summary.reading.says}")
        for advice in summary.reading.advice:
            print(f"  {advice}")
    print(ended_in_words(summary))
    if summary.message:
        print(summary.message)
    print(f"model {folder / 'model'}, report {folder / 'report.html'}")
    if summary.status == "interrupted":
        print(f"go on with: hornbook train --resume {folder}")


def show_ngram(
    given: dict[str, Any], refused: Sequence[str], out: Path | None, as_json: bool
) -> None:
    """Count, and say how well each order foresees the validation text; kept where --out says.

    refused: options that were given and have no meaning here.
    """
    from hornbook import bundle
    from hornbook.data.packing import beginning
    from hornbook.evaluation.likelihood import bits_per_byte
    from hornbook.models import ngram
    from hornbook.recipes.dial import Asked
    from hornbook.recipes.preparation import prepare

    if refused:
        raise ConfigError(
            f"counting takes no --{' and no --'.join(refused)}",
            hint="It is done in one pass: leave them out.",
        )
    if "data" not in given:
        raise ConfigError(
            "what to count is not said",
            hint="Give --data: a corpus such as sherlock, a file or a folder.",
        )
    order = given.pop("order", 5)
    if type(order) is not int or not 1 <= order <= HIGHEST_ORDER:
        raise ConfigError(
            f"the order of n-grams is {order!r}",
            hint=f"A number from 1 to {HIGHEST_ORDER}: --set order=5",
        )
    allowed = {"family", "data", "text", "tokenizer", "vocab_size"}
    for name in given:
        if name not in allowed:
            raise ConfigError(
                f"counting has no setting '{name}'", hint=nearest(name, [*allowed, "order"])
            )
    prepared = prepare(settings_from(Asked, **(given | {"family": "bigram"})))
    counted = ngram.fit(
        beginning(prepared.train, len(prepared.train)).tokens, prepared.tokenizer.vocab_size, order
    )
    losses = counted.losses(beginning(prepared.validation, len(prepared.validation)).tokens)
    n = len(prepared.validation)
    rows = [
        {
            "order": i,
            "loss": float(loss),
            "bits_per_byte": bits_per_byte(float(loss), n, prepared.validation.n_bytes),
        }
        for i, loss in enumerate(losses, 1)
    ]
    if as_json:
        import json

        print(json.dumps(rows, indent=2))
    else:
        show_corpus(prepared)
        print("order  nats a token  bits per byte")
        for row in rows:
            print(f"{row['order']:>5}  {_four(row['loss']):>12}  {_four(row['bits_per_byte']):>13}")
    if out is not None:
        bundle.save(out, counted, prepared.tokenizer)


def _four(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
