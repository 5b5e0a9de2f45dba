"""Paste a training run into README.md, so that what stands there is one that happened.

hornbook train gpt --data pydocs --time 2m --out RUN > RUN.txt
hornbook generate RUN "Return the" -n 300 --seed 7 > sample.txt
python benchmarks/readme_language_model.py RUN RUN.txt sample.txt
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from hornbook.config import format_duration
from hornbook.files import write_text
from hornbook.records import RunSummary
from hornbook.runs import read_record

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- language model -->", "<!-- end of language model -->"


def section(summary: RunSummary, printed: str, sample: str) -> str:
    """The Markdown between the markers: command, what it printed, a sample of its text."""
    machine = summary.environment
    command = re.sub(r" --out \S+", "", summary.command)
    shown = [line for line in printed.splitlines() if not line.startswith("model ")]
    return "\n".join(
        [
            "```",
            f"$ {command}",
            *(line.rstrip() for line in shown),
            "```",
            "",
            f"{summary.n_parameters:,} parameters, {summary.n_tokens:,} tokens read in "
            f"{format_duration(summary.seconds)} on {machine.n_cpus} cores ({machine.precision}), "
            f"{summary.started[:10]}. What it writes:",
            "",
            "```",
            sample.strip(),
            "```",
        ]
    )


def main() -> None:
    run, printed = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8")
    summary = read_record(run / "summary.json", RunSummary)
    sample = Path(sys.argv[3]).read_text(encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        sys.exit(f"README.md must hold {BEGIN!r} and {END!r} once each")
    head, _, rest = readme.partition(BEGIN)
    tail = rest.partition(END)[2]
    write_text(README, f"{head}{BEGIN}\n{section(summary, printed, sample)}\n{END}{tail}")


if __name__ == "__main__":
    main()
