"""Run benchmarks one after the other, and write RESULTS.md: `make bench`.

    python benchmarks/all.py                    # all of them: hours
    python benchmarks/all.py server "adaptation_classify trec cola"
    python benchmarks/all.py --table            # only the table of claims, from what stands there

Each runs in a process of its own, alone: two at once would measure each other. What it prints is
pasted into RESULTS.md between its markers, and the table of claims there is made from that.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
COMMANDS = (
    "language_model",
    "gpt_step",
    "masked_lm",
    "tokenizer_pages",
    "shards",
    "plan",
    "encoding",
    "finetuning",
    "generation",
    "generation_memory",
    "encoding_int8",
    "server",
    "adaptation_classify speed memory",
    "adaptation_classify sms-spam",
    "adaptation_classify trec",
    "adaptation_classify cola",
    "adaptation_classify reuters --seconds 1500",
    "adaptation_classify sst2 --seconds 5400",
    "adaptation_classify imdb --labelled 1000",
    "adaptation_tag speed memory --turns 25",
    "adaptation_tag wnut",
    "adaptation_tag ewt",
    "adaptation_tag xquad",
    "adaptation_chat speed",
    "adaptation_chat speed --float32",
    "adaptation_chat memory --steps 2",
    "adaptation_chat quality",
    "adaptation_qlora",
    "adaptation_preferences --peer",
    "adaptation_embed",
    "adaptation_summarize",
    "translation",
    "quality",
)
CLAIM = re.compile(
    r"^ *(?P<verdict>holds|MISSED): (?P<what>.*): (?P<reached>.*) \(wanted: (?P<wanted>.*)\)$", re.M
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help="A benchmark, its options.")
    parser.add_argument("--table", action="store_true", help="Make the table of claims only.")
    arguments = parser.parse_args()
    failed = []
    for command in [] if arguments.table else arguments.commands or COMMANDS:
        printed = run(command)
        if printed is None:
            failed.append(command)
        else:
            save(with_table(paste(RESULTS.read_text(encoding="utf-8"), command, printed)))
    save(with_table(RESULTS.read_text(encoding="utf-8")))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(command: str) -> str | None:
    """What a benchmark prints, shown meanwhile; None when it fails. Its errors are not kept."""
    name, *options = shlex.split(command)
    path = HERE / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in HERE.glob("*.py")))
        sys.exit(f"there is no benchmark '{name}'; known: {known}")
    print(f"\n== {command}", flush=True)
    lines, began, code = [], time.perf_counter(), commit()
    with subprocess.Popen(
        [sys.executable, "-u", str(path), *options], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        return None
    took = time.perf_counter() - began
    threads = os.environ.get("OMP_NUM_THREADS")
    limit = f", OMP_NUM_THREADS={threads}" if threads else ""
    return "\n".join([f"{date.today()}, {code}, {took:.0f} s{limit}", *lines]).rstrip()


def commit() -> str:
    """Of the code that runs, with a mark where it has been changed since."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(HERE.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/*.py")
    return (git("describe", "--always") or "no commit") + (" and changes" if changed else "")


def markers(command: str) -> tuple[str, str]:
    return f"<!-- output: {command} -->", f"<!-- end of output: {command} -->"


def paste(results: str, command: str, printed: str) -> str:
    """RESULTS.md with what a benchmark printed; a section is added for one that has none."""
    begin, end = markers(command)
    if begin not in results:
        results = f"{results.rstrip()}\n\n## {command}\n\n{begin}\n{end}\n"
    name, *options = command.split(" ")
    shown = " ".join([f"benchmarks/{name}.py", *options])
    text = f"{begin}\n```text\n$ python {shown}\n{printed.replace('```', '')}\n```\n{end}"
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: text, results, flags=re.S)


def with_table(results: str) -> str:
    """RESULTS.md with the table of the claims that stand in it."""
    begin, end = "<!-- claims -->", "<!-- end of claims -->"
    rows = ["| benchmark | claim | wanted | reached | |", "|---|---|---:|---:|---|"]
    for found in re.finditer(r"<!-- output: (.*?) -->(.*?)<!-- end of output", results, re.S):
        for c in CLAIM.finditer(found[2]):
            verdict = "holds" if c["verdict"] == "holds" else "**missed**"
            what = c["what"].replace("|", "\\|")
            rows.append(f"| {found[1]} | {what} | {c['wanted']} | {c['reached']} | {verdict} |")
    text = "\n".join([begin, *rows, end])
    return re.sub(f"{begin}.*?{end}", lambda _: text, results, flags=re.S)


def save(results: str) -> None:
    RESULTS.write_text(results, encoding="utf-8")


if __name__ == "__main__":
    main()
