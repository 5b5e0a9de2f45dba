"""Paste a study's leaderboard into README.md, so that the table there is one that was measured.

    python benchmarks/readme_leaderboard.py runs/pydocs-... [runs/reuters-... ...]
    python benchmarks/readme_leaderboard.py --readme OTHER.md RUN

README.md holds a pair of markers for each data set: `<!-- leaderboard: NAME -->` and
`<!-- end of leaderboard: NAME -->`. What stands between them is replaced by what RUN says.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from hornbook.config import format_duration
from hornbook.files import write_text
from hornbook.records import LeaderboardRow, StudyRecord
from hornbook.runs import read_record

README = Path(__file__).parent.parent / "README.md"


def section(record: StudyRecord) -> str:
    """The Markdown between the markers: command and machine, table, advice, what did not finish."""
    summary, machine = record.summary, record.environment
    splits = ", ".join(f"{n:,} {name}" for name, n in summary.splits.items())
    kind = "several labels a text" if summary.multi_label else "one label a text"
    memory = f"{machine.memory_bytes / 1e9:.0f} GB"
    lines = [
        f"`{summary.command}`: {summary.n_labels} labels, {kind}; {splits}. "
        f"The study took {format_duration(summary.seconds)} on {machine.n_cpus} cores with "
        f"{memory} ({machine.device}, {machine.precision}, Python {machine.python}), "
        f"{record.started[:10]}.",
        "",
        "|   | technique | micro-F1 | 95 % interval | macro-F1 | fit | a text | memory |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *(_row(row, i) for i, row in enumerate(summary.leaderboard)),
        "",
        "`=` cannot be told apart from the first (paired bootstrap over test texts, corrected by"
        " Holm). Fit: wall-clock, tuning and pretraining included; a mixture's is what it mixes and"
        " its own. A text: median latency of one alone. Memory: its process's peak.",
        "",
        f"> {summary.advice}",
    ]
    unfinished = [f"{r.technique} ({r.status}: {_clause(r.message)})" for r in summary.not_finished]
    if unfinished:
        lines += ["", f"Not in the table: {'; '.join(unfinished)}."]
    return "\n".join(lines)


def pasted(readme: str, name: str, text: str) -> str:
    """The README with the section of that name replaced. Raises ValueError without markers."""
    begin, end = f"<!-- leaderboard: {name} -->", f"<!-- end of leaderboard: {name} -->"
    if readme.count(begin) != 1 or readme.count(end) != 1:
        raise ValueError(f"the README must hold {begin!r} and {end!r} once each")
    between = re.compile(f"({re.escape(begin)}).*({re.escape(end)})", re.DOTALL)
    return between.sub(lambda found: f"{found[1]}\n{text}\n{found[2]}", readme)


def _row(row: LeaderboardRow, place: int) -> str:
    mark = "=" if row.ties_with_leader and place else ""
    latency = f"{row.p50_ms:.1f} ms" if row.p50_ms < 100 else f"{row.p50_ms:.0f} ms"
    cells = [
        mark,
        row.technique,
        f"{row.micro_f1:.3f}",
        f"{row.ci_low:.3f}–{row.ci_high:.3f}",
        f"{row.macro_f1:.3f}",
        format_duration(row.fit_seconds),
        latency,
        f"{row.peak_bytes / 1e6:,.0f} MB",
    ]
    return f"| {' | '.join(cells)} |"


def _clause(message: str) -> str:
    return " ".join(message.split("hint:")[0].split()).rstrip(".")


def main() -> int:
    parser = argparse.ArgumentParser(description="Paste leaderboards into README.md.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished studies")
    parser.add_argument("--readme", type=Path, default=README)
    arguments = parser.parse_args()
    text = arguments.readme.read_text(encoding="utf-8")
    for run in arguments.runs:
        record = read_record(run / "study_record.json", StudyRecord)
        try:
            text = pasted(text, record.summary.dataset, section(record))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    write_text(arguments.readme, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
