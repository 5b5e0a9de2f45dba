"""A model card beside each saved model: README.md as the Hugging Face hub reads it.

Values come from the user's data and files, so each is escaped for Markdown where it is printed.
"""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hornbook.files import write_text
from hornbook.records import DatasetInfo, Environment, LabelScore, LeaderboardRow, TechniqueResult
from hornbook.reports import readable
from hornbook.reports.html import TEMPLATES

N_LABELS = 50


class Ready(str):
    """Text that is Markdown already and is printed as it stands."""


def write_model_card(
    path: Path,
    *,
    result: TechniqueResult,
    row: LeaderboardRow | None,
    dataset: DatasetInfo,
    per_label: list[LabelScore],
    environment: Environment,
    hashes: dict[str, str],
    command: str,
    base_model: str | None = None,
) -> None:
    """Write the card atomically. row: the technique's place in the study, None before it has one.

    hashes: file -> sha256. command: the one that repeats the study. base_model: what was
    fine-tuned, None where training began from nothing.
    """
    labels = sorted(per_label, key=lambda s: (-s.support, s.label))
    template = card_templates().get_template("model_card.md.j2")
    text = template.render(
        front_matter=Ready(_front_matter(result, row, dataset, environment, base_model)),
        result=result,
        row=row,
        dataset=dataset,
        labels=labels[:N_LABELS],
        n_more_labels=max(0, len(labels) - N_LABELS),
        limits=_limits(result, row, dataset, labels, base_model),
        environment=environment,
        hashes=hashes,
        command=code_block(command),
        predict=code_block(
            f'hornbook predict RUN --technique {shlex.quote(result.technique)} "your text here"'
        ),
        base_model=base_model,
    )
    write_text(path, text)


def card_templates() -> ImmutableSandboxedEnvironment:
    # HTML's escapes would show in a README; Markdown's own are applied to every printed value.
    made = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,
        undefined=StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for function in (readable.count, readable.duration, readable.score, readable.size):
        made.filters[function.__name__] = function
    made.filters["significant"] = readable.significant
    return made


def _escaped(value: Any) -> Any:
    """One line of plain text in which nothing is markup; long values are cut."""
    if isinstance(value, Ready) or not isinstance(value, str):
        return value
    line = readable.excerpt(readable.printable(value), 500)
    return re.sub(r"([\\`*_\[\]<>|#~$&])", r"\\\1", line)


def code_block(text: str) -> Ready:
    """A fenced block whose fence is longer than any run of backticks inside."""
    text = readable.printable(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Ready(f"{fence}bash\n{text}\n{fence}")


def _front_matter(
    result: TechniqueResult,
    row: LeaderboardRow | None,
    dataset: DatasetInfo,
    environment: Environment,
    base_model: str | None,
) -> str:
    """YAML that the hub checks: model-index with the test scores, emissions in grams."""
    scores = row or result
    measured = {
        "micro-F1": ("f1", scores.micro_f1),
        "macro-F1": ("f1", scores.macro_f1),
        "subset accuracy" if dataset.multi_label else "accuracy": ("accuracy", scores.accuracy),
    }
    metrics = [
        {"type": kind, "name": name, "value": round(value, 6)}
        for name, (kind, value) in measured.items()
        if value is not None and math.isfinite(value)
    ]
    name = readable.excerpt(readable.printable(dataset.name), 100)
    task = {"type": "text-classification", "name": "Text classification"}
    data = {"type": name, "name": name, "split": "test"}
    entry = {"task": task, "dataset": data, "metrics": metrics}
    technique = readable.excerpt(readable.printable(result.technique), 100)
    front: dict[str, Any] = {
        "library_name": "hornbook",
        "pipeline_tag": "text-classification",
        "tags": ["hornbook", "text-classification", technique],
        "metrics": ["f1", "accuracy"],
    }
    if base_model:
        front["base_model"] = readable.printable(base_model)
    if result.emissions_kg is not None and result.energy_source != "none":
        front["co2_eq_emissions"] = {
            "emissions": float(f"{1000 * result.emissions_kg:.6g}"),
            "source": f"codecarbon, {result.energy_source}",
            "training_type": "fine-tuning" if base_model else "from scratch",
            "hardware_used": readable.printable(environment.processor),
        }
    if metrics:
        front["model-index"] = [{"name": f"{technique} on {name}", "results": [entry]}]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000).strip()


def _limits(
    result: TechniqueResult,
    row: LeaderboardRow | None,
    dataset: DatasetInfo,
    labels: list[LabelScore],
    base_model: str | None,
) -> list[str]:
    """Sentences on what the scores don't promise, drawn from the scores themselves."""
    n_test = readable.count(dataset.n_test)
    said = [
        f"Scores hold for texts like the {n_test} test texts of {dataset.name}; other sources, "
        "languages or times were not tested.",
        f"It knows {readable.count(len(dataset.label_names))} labels and gives every text "
        + ("none, one or several of them." if dataset.multi_label else "exactly one of them.")
        + " It can't say that a text belongs to a label that it has never seen.",
    ]
    if row is not None and row.p_value is not None and not row.ties_with_leader:
        said.append("In its study another technique was better, beyond what chance explains.")
    if row is not None and row.n_repeats == 1:
        said.append(
            "It was fitted once: the interval covers the choice of test texts, not of the seed."
        )
    if rare := [s.label for s in labels if s.support < 10]:
        said.append(
            f"Fewer than 10 test texts, so that the scores are guesses, on: "
            f"{readable.excerpt(', '.join(rare), 200)}."
        )
    if weak := [s.label for s in labels if s.support >= 10 and s.f1 < 0.5]:
        said.append(f"Below 0.5 F1 on: {readable.excerpt(', '.join(weak), 200)}.")
    if result.budget_seconds is not None:
        said.append(
            f"It was given {readable.duration(result.budget_seconds)} to learn; more may help."
        )
    if base_model:
        said.append(f"What {base_model} learnt before, its biases included, is in here too.")
    return said
