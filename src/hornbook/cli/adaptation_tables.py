"""What `hornbook finetune` prints: what is adapted, preflight, masks, and the run at its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hornbook.cli.plan_tables import bytes_in_words
from hornbook.config import format_duration
from hornbook.records import (
    AdaptPlanRecord,
    AdaptSummary,
    ForgettingRecord,
    PreflightRecord,
)

if TYPE_CHECKING:
    from hornbook.recipes.adaptation_run import Session

N_SHOWN = 3  # examples whose masks are printed
_STYLES = {"stop": "bold red", "warn": "yellow", "note": "dim"}


def show_beginning(session: Session) -> None:
    """What is learnt, on what, and every value that was decided; on standard error."""
    parts, prepared = session.parts, session.prepared
    test = "no test part" if parts.test is None else f"{len(parts.test):,} to test, not looked at"
    _say(
        f"{parts.name}: {len(parts.train):,} examples to learn from, {len(parts.validation):,} to "
        f"validate, {test}"
    )
    if parts.label_names:
        names = ", ".join(parts.label_names[:12]) + (", …" if len(parts.label_names) > 12 else "")
        _say(f"  {len(parts.label_names)} labels: {names}")
    for note in parts.notes:
        _say(f"  {note}")
    share = prepared.n_trainable / max(1, prepared.n_total)
    _say(
        f"{session.settings.model}, {session.settings.method}: {prepared.n_trainable:,} of "
        f"{prepared.n_total:,} numbers learn ({share:.1%})"
    )
    values = session.settings.model_dump()
    told = ", ".join(f"{name} {_short(values[name])}" for name in session.decided)
    if told:
        _say(f"decided here (--set name=value to change): {told}")


def show_preflight(record: PreflightRecord, out: TextIO) -> None:
    """Each finding with what it costs and how to mend it; then what the run will take."""
    console = Console(file=out, highlight=False, soft_wrap=True)
    worst = [f for f in record.findings if f.level != "note"]
    console.print(Text(f"preflight: {_counted(record)}", style="" if worst else "green"))
    for f in record.findings:
        console.print(Text.assemble((f"  {f.level:<4} ", _STYLES[f.level]), f.what))
        for name, words in (("cost", f.cost), ("mend", f.mend)):
            if words:
                console.print(Text(f"       {name}: {words}", style="dim"))
    if record.plan is not None:
        for line in plan_lines(record.plan):
            console.print(Text(line))


def plan_lines(plan: AdaptPlanRecord) -> list[str]:
    """One quantity a line."""
    memory = plan.memory
    lines = []
    if plan.n_steps:
        lines.append(
            f"time         {format_duration(plan.seconds)}: {plan.n_steps:,} steps, "
            f"{plan.n_tokens:,} tokens at {plan.tokens_per_second:,.0f} a second, by steps measured"
        )
    lines.append(
        f"memory       {bytes_in_words(memory.total)} (weights {bytes_in_words(memory.weights)}, "
        f"gradients and optimiser {bytes_in_words(memory.gradients + memory.optimizer)}, "
        f"activations {bytes_in_words(memory.activations)}); "
        f"{bytes_in_words(plan.memory_available)} are free"
    )
    lines += [f"try          {change}" for change in plan.changes]
    return lines + [f"advice       {words}" for words in plan.advice]


def show_masks(session: Session) -> None:
    """Tokens of the first training items: coloured where loss is, dim where none is."""
    console = Console(highlight=False, soft_wrap=True)
    plain = not console.is_terminal or console.no_color
    items, n_lossy, n_tokens = session.train_items, 0, 0
    for number, item in enumerate(items[:N_SHOWN]):
        shown = session.task.show(item)
        n = sum(bool(s.target) for s in shown)
        console.print(
            Text(f"item {number}: {session.task.length(item)} tokens, {n} carry loss", "bold")
        )
        console.print(_coloured(shown, brackets=plain))
        console.print()
    for item in items[:1000]:
        shown = session.task.show(item)
        n_lossy, n_tokens = n_lossy + sum(bool(s.target) for s in shown), n_tokens + len(shown)
    share = n_lossy / max(1, n_tokens)
    console.print(
        f"{n_lossy:,} of {n_tokens:,} tokens of the first {min(1000, len(items)):,} items carry "
        f"loss ({share:.1%}). {'In ⟦ ⟧' if plain else 'Green'}: what is to be guessed (→ what, "
        "where it is not the token itself); the rest is only read."
    )


def _coloured(shown: list[Any], *, brackets: bool) -> Text:
    """brackets: also around each stretch that carries loss, where colours don't show."""
    text = Text()
    apart = "" if any(s.text[:1].isspace() for s in shown[1:]) else " "
    inside = False
    for part in shown:
        if brackets and inside and not part.target:
            text.append("⟧")
        text.append(apart if len(text) else "")
        if brackets and part.target and not inside:
            text.append("⟦")
        inside = bool(part.target)
        if not inside:
            text.append(part.text, "dim")
            continue
        text.append(part.text, "bold green")
        if part.target.strip() and part.target.strip() != part.text.strip():
            text.append(f"→{part.target.strip()}", "green italic")
    return text.append("⟧") if brackets and inside else text


def show_run(folder: Path, summary: AdaptSummary, as_json: bool, command: str) -> None:
    """The metrics with their intervals beside those before the first step; where all lies."""
    if as_json:
        print(summary.model_dump_json(indent=2))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(f"on {summary.n_validation:,} validation examples", no_wrap=True)
    for name in ("before", "after", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    before = summary.metrics_before
    if not any(metric.name == "loss" for metric in summary.metrics):  # some tasks measure it too
        loss = summary.best_validation_loss
        table.add_row("loss", _four(before.get("loss")), _four(loss), "")
    for metric in summary.metrics:
        style = "bold" if metric.name == summary.best else ""
        interval = "" if metric.low is None else f"{_four(metric.low)} to {_four(metric.high)}"
        values = _four(before.get(metric.name)), _four(metric.value)
        table.add_row(Text(metric.name), *values, interval, style=style)
    if summary.forgetting:
        _add_old(table, summary.forgetting)
    Console().print(table)
    n_before = summary.n_before
    if before and n_before is not None and n_before < summary.n_validation:
        print(f'"before" was measured on {n_before:,} of them, from all over')
    if summary.forgetting:
        print(summary.forgetting.says)
    if summary.reading is not None and summary.reading.pattern != "healthy":
        print(f"{summary.reading.pattern}: {summary.reading.says}")
        for advice in summary.reading.advice:
            print(f"  {advice}")
    words = f"{summary.status} after {format_duration(summary.seconds)}, {summary.n_steps:,} steps"
    if summary.best_step is not None:
        words += f"; the weights kept are of step {summary.best_step:,}, chosen by {summary.best}"
    print(words)
    if summary.message:
        print(summary.message)
    kept = f"model {folder / 'model'}"
    if (folder / "adapter").is_dir():
        kept += f", adapter {folder / 'adapter'}"
    print(f"{kept}, report {folder / 'report.html'}")
    if summary.status == "interrupted":
        print(f"go on with: hornbook {command} --resume {folder}")
    elif summary.n_test:
        print(f"measure it once, at the end: hornbook evaluate {folder} --on test")


def _add_old(table: Table, old: ForgettingRecord) -> None:
    """Rows of what may have been forgotten, and below each its change: paired."""
    table.add_row(Text(f"on {old.n_examples:,} old texts", "bold"))
    for metric, found in zip(old.metrics, old.differences, strict=True):
        interval = "" if metric.low is None else f"{_four(metric.low)} to {_four(metric.high)}"
        table.add_row(Text(metric.name), _four(found.theirs), _four(metric.value), interval)
        change = "–" if found.difference is None else f"{found.difference:+.4f}"
        interval = "" if found.low is None else f"{found.low:+.4f} to {found.high:+.4f}"
        table.add_row("  change", "", change, interval)


def _counted(record: PreflightRecord) -> str:
    counts = {level: sum(f.level == level for f in record.findings) for level in _STYLES}
    words = {"stop": "to stop for", "warn": "to be warned of", "note": "to be noted"}
    told = [f"{n} {words[level]}" for level, n in counts.items() if n]
    return ", ".join(told) or "nothing found"


def _say(words: str) -> None:
    print(words, file=sys.stderr)


def _four(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
