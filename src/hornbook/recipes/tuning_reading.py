"""What a search found, in words: its best trial, whether that beats the defaults, and caveats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hornbook.records import ComparisonRecord, SearchedSetting, TrialRecord


def best_of(trials: Sequence[TrialRecord]) -> int | None:
    """The trial with the least score; of equals the first."""
    scored = [t for t in trials if t.score is not None and t.state == "finished"]
    scored = scored or [t for t in trials if t.score is not None]
    return min(scored, key=lambda t: (t.score, t.number)).number if scored else None


def rounded(params: Mapping[str, Any], space: Sequence[SearchedSetting]) -> dict[str, Any]:
    real = {one.name for one in space if one.low is not None and not one.whole}
    return {n: float(f"{v:.3g}") if n in real else v for n, v in params.items()}


def says(
    trials: Sequence[TrialRecord],
    best: int | None,
    chosen_by: str,
    beside: ComparisonRecord | None,
) -> str:
    """What the search found, a sentence or two."""
    if best is None:
        return "No trial came to an end, so nothing was found."
    found = next(t for t in trials if t.number == best)
    n = sum(t.state == "finished" for t in trials)
    settings = ", ".join(f"{name} {value}" for name, value in found.settings.items())
    said = f"Best of {n} whole trials by {chosen_by}: trial {best} ({settings})."
    if found.defaults:
        return f"{said} These are the defaults: searching found nothing better."
    if beside is None:
        return said
    first = beside.differences[0]
    if first.p_value is not None and first.p_value < 0.05:
        return f"{said} {beside.verdict}"
    return (
        f"{said} On these validation examples it can't be told from the defaults "
        f"(difference {first.difference:+.3f}, p = {first.p_value:.2f}): keep the defaults unless "
        "a larger validation part says otherwise."
        if first.p_value is not None and first.difference is not None
        else said
    )


def notes(trials: Sequence[TrialRecord], best: int | None, folder: Path) -> list[str]:
    n = len(trials)
    notes = []
    if best is not None and n > 1:
        where = next(t.folder for t in trials if t.number == best)
        notes.append(
            f"The best of {n} looks better than it is: it was chosen by these validation examples. "
            f"For a figure to report: hornbook evaluate {folder / where} --on test, once."
        )
    if failed := [t for t in trials if t.state == "failed" and t.message != "interrupted"]:
        notes.append(f"{len(failed)} trial(s) came apart: {failed[0].message}")
    return notes
