"""What `hornbook evaluate` found on test parts, in a run's card.

It stands between two marks, and in model-index: what a person wrote elsewhere in the card stays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hornbook.errors import DataError
from hornbook.files import write_text
from hornbook.records import AdaptSummary, AssessmentRecord
from hornbook.reports import readable
from hornbook.reports.model_card import card_templates

BEGIN, END = "<!-- on test -->", "<!-- end of on test -->"
_FRONT = re.compile(r"---\n(.*?)\n---\n", re.DOTALL)
_MARKED = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}\n?", re.DOTALL)
_MADE_HERE = re.compile(r"^Made from .* by hornbook ", re.MULTILINE)
_UNSEEN = re.compile(r" ?The [\d,]+ test examples were not looked at\.")  # of cards without marks


def write_test_scores(run: Path) -> Path | None:
    """Bring a run's README.md up to date with evaluations/; None where one of them is missing, or
    the README is no card of ours.

    Raises DataError for a card whose YAML cannot be read.
    """
    card, records = run / "README.md", records_of(run)
    if not card.is_file() or not records:
        return None
    text = card.read_text(encoding="utf-8")
    if not (BEGIN in text or _MADE_HERE.search(text)):
        return None
    try:
        task = AdaptSummary.model_validate_json((run / "summary.json").read_bytes()).task
    except (OSError, ValueError):
        task = records[0].task
    write_text(card, with_scores(text, records, task))
    return card


def records_of(run: Path) -> list[AssessmentRecord]:
    """The newest evaluation of each test part, the first looked at first."""
    newest: dict[str, AssessmentRecord] = {}
    found = []
    for path in (run / "evaluations").glob("*.json"):
        try:
            found.append(AssessmentRecord.model_validate_json(path.read_bytes()))
        except ValueError:  # of another version, or cut short: it says nothing here
            continue
    for record in sorted(found, key=lambda record: record.at):
        if record.part in ("test", "all"):
            newest[record.examples_hash] = record
    return list(newest.values())


def section(records: Sequence[AssessmentRecord], n_test: int | None = None) -> str:
    """The part between the marks. n_test: of a test part that nobody has looked at."""
    templates = card_templates()
    templates.filters["data_name"] = name_of
    said = templates.get_template("test_part.md.j2").render(records=records, n_test=n_test)
    return f"{BEGIN}\n{said.strip()}\n{END}\n"


def with_scores(card: str, records: Sequence[AssessmentRecord], hub_task: str) -> str:
    """The card with these figures, and nothing else of it changed but its YAML's form.

    Figures of some of a test part, or not to be relied on, stay out of model-index: whoever reads
    it would take them for the result.
    """
    front = _FRONT.match(card)
    said = section(records)
    body = _UNSEEN.sub("", card[front.end() if front else 0 :])
    if _MARKED.search(body):
        body = _MARKED.sub(lambda _: said, body, count=1)
    elif "\n## Data\n" in body:  # a card of before there were marks
        body = body.replace("\n## Data\n", f"\n{said}\n## Data\n", 1)
    else:
        body = f"{body.rstrip()}\n\n{said}"
    if front is None:
        return body
    try:
        values = yaml.safe_load(front[1])
        (index,) = values.get("model-index") or [{"name": hub_task, "results": []}]
        others = [r for r in index["results"] if r["dataset"].get("split") != "test"]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the card's YAML cannot be read: {error}",
            hint="Mend what stands between the two --- at its top.",
        ) from error
    kind = {"type": values.get("pipeline_tag") or hub_task, "name": hub_task}
    trusted = [record for record in records if not (record.warnings or record.partial)]
    index["results"] = others + [_entry(record, kind) for record in trusted]
    values["model-index"] = [index]
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000).strip()
    return f"---\n{text}\n---\n{body}"


def _entry(record: AssessmentRecord, kind: dict[str, str]) -> dict[str, Any]:
    name = readable.excerpt(readable.printable(name_of(record)), 100)
    return {
        "task": dict(kind),
        "dataset": {"type": name, "name": name, "split": "test"},
        "metrics": [
            {"type": m.name, "name": m.name, "value": round(m.value, 6)}
            for m in record.metrics
            if m.value is not None and math.isfinite(m.value)
        ],
    }


def name_of(record: AssessmentRecord) -> str:
    """The data's name, without the path that leads there."""
    return Path(record.data).stem or record.data
