"""Run benchmarks one after the other: `make bench`, or python benchmarks/all.py NAME ...

Each runs in a process of its own, alone: two at once would measure each other.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CLAIMS = (
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
    "adaptation_classify",
    "adaptation_tag",
    "adaptation_chat",
    "adaptation_preferences",
    "adaptation_embed",
    "translation",
)


def main() -> None:
    names = sys.argv[1:] or CLAIMS
    failed = []
    for name in names:
        path = HERE / f"{name}.py"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in HERE.glob("*.py")))
            sys.exit(f"there is no benchmark '{name}'; known: {known}")
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, str(path)], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
