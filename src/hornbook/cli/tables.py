"""What a study prints: its plan beforehand, its leaderboard and advice afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hornbook.compare.layout import StudyFolder
from hornbook.compare.study import Study
from hornbook.config import format_duration
from hornbook.records import LeaderboardRow, Summary

_WIDE = 96  # columns that the whole leaderboard takes


def show_study(study: Study, as_json: bool) -> None:
    """Print the leaderboard, what didn't finish, the advice and where the report is."""
    if as_json:
        print(study.summary.model_dump_json(indent=2))
        return
    console = Console(highlight=False)
    summary = study.summary
    console.print()
    console.print(Text(_heading(summary), style="bold"))
    for note in StudyFolder(study.folder).plan().dataset.notes:
        console.print(Text(f"- {note}", style="dim"))
    if summary.leaderboard:
        console.print(leaderboard(summary.leaderboard, narrow=console.width < _WIDE))
        if sum(row.ties_with_leader for row in summary.leaderboard) > 1:
            text = "= cannot be told apart from the first (paired bootstrap, Holm-corrected)"
            console.print(Text(text, style="dim"))
    for result in summary.not_finished:
        if result.status != "interrupted":
            where = f" (repeat {result.repeat + 1})" if result.repeat else ""
            line = " ".join(result.message.split())
            console.print(Text(f"{result.technique}{where} {result.status}: {line}", "yellow"))
    console.print()
    console.print(Text(summary.advice))
    console.print()
    console.print(Text(f"Report: {study.report}"), soft_wrap=True)
    if summary.best:
        say = f'Use it: hornbook predict {study.folder} "a text"'
        console.print(Text(say), soft_wrap=True)


def leaderboard(rows: Sequence[LeaderboardRow], *, narrow: bool = False) -> Table:
    """Best first; `=` marks what ties with the first. narrow: leave out throughput and memory."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("  technique", no_wrap=True)
    names = ["micro-F1", "95 % interval", "macro-F1", "fit", "a text", "texts/s", "memory"]
    for name in names[:-2] if narrow else names:
        table.add_column(name, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        cells: list[Text | str] = [
            Text(f"{'=' if row.ties_with_leader and i else ' '} {row.technique}"),
            f"{row.micro_f1:.3f}",
            f"{row.ci_low:.3f}–{row.ci_high:.3f}",
            f"{row.macro_f1:.3f}",
            format_duration(row.fit_seconds),
            f"{row.p50_ms:.1f} ms" if row.p50_ms < 100 else f"{row.p50_ms:.0f} ms",
            f"{row.texts_per_second:,.0f}",
            size(row.peak_bytes),
        ]
        table.add_row(*cells[: len(table.columns)], style="bold" if i == 0 else "")
    return table


def show_plan(data: str, asked: Mapping[str, Any], as_json: bool) -> None:
    """Read and divide the data, and print what a study of it would do. Nothing is written."""
    from hornbook.compare.prepare import prepare
    from hornbook.compare.schedule import Shares
    from hornbook.compare.settings import StudySettings
    from hornbook.config import settings_from

    settings = settings_from(StudySettings, dataset=data, **asked)
    prepared = prepare(data, settings)
    found, sources = prepared.plan.dataset, prepared.sources
    notes = [*found.notes, *prepared.audit.findings]
    splits = {"train": found.n_train, "validation": found.n_validation, "test": found.n_test}
    runs = sources * settings.repeats
    if settings.total is None:
        budgets = [settings.budget] * len(runs)
    else:
        budgets = Shares(settings.total).all(runs, elapsed=0.0)
    if as_json:
        plan = {
            "dataset": found.name,
            "splits": splits,
            "n_labels": len(found.label_names),
            "multi_label": found.multi_label,
            "notes": notes,
            "repeats": settings.repeats,
            "total_seconds": settings.total,
            "techniques": [
                {"technique": source.name, "budget_seconds": round(seconds, 1)}
                for source, seconds in zip(sources, budgets)
            ],
        }
        print(json.dumps(plan, indent=2, ensure_ascii=False))
        return
    kind = "several labels a text" if found.multi_label else "one label a text"
    print(f"{found.name}: {len(found.label_names)} labels, {kind}")
    print("   ".join(f"{name} {n:,}" for name, n in splits.items()))
    for note in notes:
        print(f"- {note}")
    print(f"time to fit, at most{', in each repeat' if settings.repeats > 1 else ''}:")
    for source, seconds in zip(sources, budgets):
        print(f"  {source.name:<14} {format_duration(seconds):>7}")
    if settings.total is not None:
        rest = f"{format_duration(settings.total)} in all: what one leaves goes to the others"
    else:
        rest = f"{format_duration(sum(budgets))} in all; scoring the test texts comes on top"
    print(f"{len(runs)} run(s), {rest}")


def size(n_bytes: int) -> str:
    """Bytes as a person reads them: 950 kB, 12 MB, 1.3 GB."""
    amount = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _heading(summary: Summary) -> str:
    parts = ", ".join(f"{n:,} {name}" for name, n in summary.splits.items())
    kind = "several labels a text" if summary.multi_label else "one label a text"
    return (
        f"{summary.dataset}: {summary.n_labels} labels, {kind}; {parts}; "
        f"{format_duration(summary.seconds)}"
    )
