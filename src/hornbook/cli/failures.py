"""How a command says what went wrong: on its terminal, or to the launcher, which says it once."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

FOLDER = "HORNBOOK_FAILURES"  # where processes of `hornbook launch` leave what they have to say


@dataclass(frozen=True)
class Failure:
    """What one of several processes left: its number, exit code and words, and when it did."""

    rank: int
    exit_code: int
    text: str
    seconds: float  # since 1970


def tell(error: Exception, message: str, hint: str, exit_code: int) -> None:
    """Say an error, a hint and the error's notes, with its traceback under HORNBOOK_DEBUG."""
    lines = [f"error: {message}"]
    if hint:
        lines.append(f"  hint: {hint}")
    lines += [f"  {note}" for note in getattr(error, "__notes__", [])]
    if os.environ.get("HORNBOOK_DEBUG"):
        lines.append("".join(traceback.format_exception(error)).rstrip())
    text = "\n".join(lines)
    if not _left(text, exit_code):
        print(text, file=sys.stderr)


def first_failure(folder: Path) -> Failure | None:
    """What went wrong first, by the clock: what the others say is often but its consequence."""
    found = []
    for path in folder.glob("*.json"):
        try:
            found.append(Failure(**json.loads(path.read_text(encoding="utf-8"))))
        except ValueError:  # killed while it wrote
            continue
    return min(found, key=lambda failure: failure.seconds, default=None)


def _left(text: str, exit_code: int) -> bool:
    """Leave it for the launcher; False where there is none, or no room."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return False
    rank = int(os.environ.get("RANK", 0))
    record = {"rank": rank, "exit_code": exit_code, "text": text, "seconds": time.time()}
    try:
        (Path(folder) / f"{rank}.json").write_text(json.dumps(record), encoding="utf-8")
    except OSError:
        return False
    return True
