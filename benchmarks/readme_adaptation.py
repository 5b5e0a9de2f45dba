"""Adapt a model, measure it, use it, and paste what was printed into README.md.

python benchmarks/readme_adaptation.py
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from hornbook.files import write_text

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- adapt -->", "<!-- end of adapt -->"
COMMANDS = (
    "hornbook finetune classify --model minilm --data pydocs --time 3m --out run --quiet",
    "hornbook evaluate run --on test",
    'hornbook run classify run "Raise the turtle\'s pen and move forward"',
)


def printed(command: str, folder: str) -> str:
    """What a command says on its standard output, on a page of 110 columns."""
    words = [str(Path(sys.executable).with_name("hornbook")), *shlex.split(command)[1:]]
    wide = os.environ | {"COLUMNS": "110"}
    ran = subprocess.run(words, cwd=folder, env=wide, check=True, stdout=subprocess.PIPE, text=True)
    return "\n".join(line.rstrip() for line in ran.stdout.strip().splitlines())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        told = [f"$ {command}\n{printed(command, folder)}" for command in COMMANDS]
    readme = README.read_text(encoding="utf-8")
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        sys.exit(f"README.md must hold {BEGIN!r} and {END!r} once each")
    head, _, rest = readme.partition(BEGIN)
    tail = rest.partition(END)[2]
    section = "\n".join(["```", *told, "```"])
    write_text(README, f"{head}{BEGIN}\n{section}\n{END}{tail}")


if __name__ == "__main__":
    main()
