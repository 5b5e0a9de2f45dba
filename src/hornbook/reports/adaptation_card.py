"""The model card of a fine-tuning run: README.md as the Hugging Face hub reads it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from hornbook.errors import DataError
from hornbook.files import write_text
from hornbook.records import AdaptSummary
from hornbook.reports import licences, readable
from hornbook.reports.card_on_test import section, write_test_scores
from hornbook.reports.model_card import Ready, card_templates, code_block

# Of each task: what the hub calls it, and the tags that find it.
HUB_TASKS = {
    "classify": "text-classification",
    "pairs": "text-classification",
    "fill": "fill-mask",
    "tag": "token-classification",
    "answer": "question-answering",
    "translate": "translation",
    "summarize": "summarization",
    "embed": "sentence-similarity",
    "reward": "text-classification",
}
_CHAT = "hornbook chat RUN"
_USE = {
    "classify": "hornbook run classify RUN 'a text'",
    "pairs": "hornbook run pairs RUN 'a text' 'another'",
    "answer": "hornbook run answer RUN 'a question' --context 'the text that the answer is in'",
    "choose": "hornbook run choose RUN 'a text' --option 'what may follow' --option 'another'",
    "fill": "hornbook run fill RUN 'a text with a ___ in it'",
    "embed": "hornbook run similarity RUN 'a text' 'another'",
    "reward": "hornbook run reward RUN 'a question' 'an answer' 'another'",
    **dict.fromkeys(("chat", "dpo", "ipo", "orpo", "kto"), _CHAT),
    "continue": "hornbook run generate RUN 'a text'",
}


def write_run_card(folder: Path) -> Path:
    """Write README.md of a run's folder from its summary.json; returns its path.

    Raises DataError when summary.json is missing or is not one of a fine-tuning run.
    """
    try:
        summary = AdaptSummary.model_validate_json((folder / "summary.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} has no readable record of a fine-tuning run: {error}",
            hint="A finished run of `hornbook finetune` has summary.json.",
        ) from error
    path = folder / "README.md"
    write_text(path, card(summary))
    write_test_scores(folder)  # of a run that was evaluated, and summed up anew
    return path


def card(summary: AdaptSummary) -> str:
    """The card as text; the same record gives the same bytes."""
    usual = f"hornbook run {summary.task} RUN 'a text'"
    return (
        card_templates()
        .get_template("adaptation_card.md.j2")
        .render(
            front_matter=Ready(_front_matter(summary)),
            s=summary,
            corpus=summary.corpus,
            limits=_limits(summary),
            on_test=Ready(section([], summary.n_test)),
            e=summary.environment,
            command=code_block(summary.command),
            use=code_block(_USE.get(summary.task, usual)),
        )
    )


def _front_matter(s: AdaptSummary) -> str:
    """YAML that the hub checks: validation scores in model-index, emissions in grams."""
    hub_task = HUB_TASKS.get(s.task, "text-generation")
    name = readable.excerpt(readable.printable(s.corpus.name), 100)
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": hub_task,
        "tags": ["hornbook", s.task, s.method],
        "base_model": readable.printable(s.base_model),
        **licences.front_matter(s.base_licence, s.corpus.licence),
    }
    if s.emissions_kg is not None and s.energy_source != "none":
        front["co2_eq_emissions"] = {
            "emissions": float(f"{1000 * s.emissions_kg:.6g}"),
            "source": f"codecarbon, {s.energy_source}",
            "training_type": "fine-tuning",
            "hardware_used": readable.printable(s.environment.processor),
        }
    metrics = [
        {"type": m.name, "name": m.name, "value": round(m.value, 6)}
        for m in s.metrics
        if m.value is not None and math.isfinite(m.value)
    ]
    if metrics:
        entry = {
            "task": {"type": hub_task, "name": s.task},
            "dataset": {"type": name, "name": name, "split": "validation"},
            "metrics": metrics,
        }
        front["model-index"] = [{"name": f"{s.task} on {name}", "results": [entry]}]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000).strip()


def _limits(s: AdaptSummary) -> list[str]:
    """Sentences on what the numbers don't promise, drawn from the run itself."""
    said = [
        f"The numbers hold for texts like the {readable.count(s.n_validation)} validation examples "
        f"of {s.corpus.name}; the weights were chosen on these, so that others will score a "
        "little lower.",
        f"What {s.base_model} learnt before, its biases included, is in here too.",
    ]
    if licence := licences.sentence(s.base_licence, s.corpus.licence):
        said.append(licence)
    if s.label_names:
        said.append(
            f"It knows {len(s.label_names)} labels and can't say that a text belongs to another."
        )
    if s.status not in ("finished", "stopped early"):
        said.append(f"The run did not come to its end ({s.status}).")
    if s.n_train < 500:
        said.append(f"It learnt from {readable.count(s.n_train)} examples, which is few.")
    said += [f"{f.what}. {f.cost}" for f in s.findings if f.level == "warn"]
    return said
