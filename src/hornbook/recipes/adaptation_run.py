"""A fine-tuning run as a folder: opened, looked over, carried out, kept, summed up.

RUN/config.yaml        every setting, decided; repeats the run
    preflight.json     what was found before the first step, and what the run would take
    metrics.jsonl      a line a step and an evaluation
    checkpoints/       the newest and the best
    model/             a Hugging Face folder of the best weights, its head too, and task.json
    adapter/           of lora, dora and qlora: the adapter alone, in PEFT's format, and task.json
    validation.jsonl   a line an example: its number, target, prediction
    summary.json       metrics with intervals, hashes, environment

The test part is never looked at here; what chooses is validation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from torch import nn

from hornbook import files, runs
from hornbook.adapters.methods import Prepared
from hornbook.data.batching import by_length
from hornbook.errors import TrainingError
from hornbook.evaluation.curves import read_curves
from hornbook.evaluation.evaluate import assess, hash_of, with_intervals
from hornbook.evaluation.likelihood import mean_loss
from hornbook.interop.licences import licence_of
from hornbook.nn.precision import precision_asked
from hornbook.recipes.adaptation import Adaptation, AdaptProgress
from hornbook.recipes.adaptation_keeping import keep
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.forgetting import Before, before, forgotten
from hornbook.recipes.preflight import findings_of, in_order
from hornbook.recipes.rehearsal import Rehearsal, rehearse
from hornbook.recipes.targets import targets_of
from hornbook.records import (
    AdaptPlanRecord,
    AdaptSummary,
    CorpusRecord,
    EvaluationRecord,
    FindingRecord,
    ForgettingRecord,
    MetricRecord,
    Metrics,
    PreflightRecord,
    RunStatus,
)
from hornbook.tasks.task import Finding, Parts, Task
from hornbook.training.accelerator import place
from hornbook.training.emissions import Energy, metered, spent
from hornbook.training.listeners import All, Lines
from hornbook.training.listeners import Listener as Hearing

AT_ONCE = 2048  # tokens of a batch of an evaluation
WORST = 1e9  # the score of a metric that has no number, such as a correlation with a constant
TIE = 1e-6  # of the loss is added to a score: of equal ones the lower loss is the better
SAMPLED = 32_768  # tokens of validation read on the way at least; at the end all are


class Listener(Hearing, Protocol):
    """Who is told: each step and evaluation, and the end."""

    def end(self, summary: AdaptSummary) -> None: ...


@dataclass
class Session:
    """A run that is ready to be looked over and carried out."""

    settings: AdaptSettings
    decided: tuple[str, ...]  # settings that nobody gave
    bundle: Any
    parts: Parts
    task: Task
    model: nn.Module
    prepared: Prepared
    folder: Path
    stopping: bool = field(default=False, init=False)
    findings: list[Finding] = field(default_factory=list, init=False)
    plan: AdaptPlanRecord | None = field(default=None, init=False)
    begun: Before | None = field(default=None, init=False)
    forgetting: ForgettingRecord | None = field(default=None, init=False)

    @cached_property
    def train_items(self) -> list[Any]:
        return self.task.items(self.parts.train)

    @cached_property
    def some_validation(self) -> list[Any]:
        """The examples of evaluations on the way: from all over, a twentieth of the run's work."""
        examples = self.parts.validation
        per_example = max(1, self._n_tokens(self.task.items(examples)) // max(1, len(examples)))
        n = max(SAMPLED, self._work() // (4 * self.settings.evaluations)) // per_example
        if n >= len(examples):
            return list(examples)
        return [examples[i] for i in np.linspace(0, len(examples) - 1, n).round().astype(int)]

    def _work(self) -> int:
        """About how many tokens the run reads; 0 where a clock ends it."""
        n_tokens = self._n_tokens(self.train_items)
        if self.settings.steps is not None:
            per_step = self.settings.tokens_per_step
            if self.settings.examples_per_step:
                mean = n_tokens / max(1, len(self.train_items))
                per_step = round(self.settings.examples_per_step * mean)
            return self.settings.steps * per_step
        return round((self.settings.epochs or 0) * n_tokens)

    def _n_tokens(self, items: Sequence[Any]) -> int:
        return sum(map(self.task.length, items))

    def stop(self) -> None:
        """End after the step that is being taken, with a checkpoint of it."""
        self.stopping = True

    def look_over(self, *, measured: bool = True) -> PreflightRecord:
        """Preflight. measured: also rehearse: memory, time, one batch by heart."""
        found = findings_of(self.task, self.parts, self.model)
        if measured and not any(f.level == "stop" for f in found):
            n_looks = self.settings.evaluations + 1
            held_out = self._n_tokens(self.task.items(self.some_validation))
            rehearsed = rehearse(
                Rehearsal(
                    self.model,
                    self.task,
                    self.train_items,
                    self.settings,
                    precision=precision_asked(self.settings.precision),
                    n_validation=held_out,
                    n_looks=n_looks * (1 if self.task.best == "loss" else 2),
                )
            )
            self.plan = rehearsed.plan
            found = [*found, *rehearsed.findings]
        self.findings = in_order(found)
        return PreflightRecord(findings=list(map(_recorded, self.findings)), plan=self.plan)

    def carry_out(self, listener: Listener, *, command: str) -> AdaptSummary | None:
        """Run to the end, keep the best model, sum up; an interrupted run is summed up too.

        Of several processes the first writes and gives the summary, the others give None. Raises
        TrainingError when a loss is not finite; what was good until then is kept all the same.
        """
        if place()[0]:
            self._adaptation().run(All([]))
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        with runs.locked(self.folder):
            write_settings(self.folder / "config.yaml", self.settings)
            if self.findings or self.plan:
                found = list(map(_recorded, self.findings))
                record = PreflightRecord(findings=found, plan=self.plan)
                runs.write_record(self.folder / "preflight.json", record)
            started, failure = runs.now(), None
            written = All([Lines(self.folder / "metrics.jsonl"), listener])
            emissions = self.folder / "emissions.csv"
            device = precision_asked(self.settings.precision).device
            # Ahead of what resumes: with the weights that the run began with.
            self.begun = before(self.model, self.task, self.parts.validation, device=device)
            adaptation = self._adaptation()
            with metered("hornbook finetune", emissions) as energy:
                try:
                    progress = adaptation.run(written, lambda: self.stopping)
                except TrainingError as error:
                    progress, failure = adaptation.progress, error
                    progress.status = "failed"
            energy.kwh, energy.kg = spent(emissions)  # the parts before it was resumed too
            adaptation.take_best()
            found_at_end = []
            if progress.status in ("finished", "stopped early"):
                self._settle()
                found_at_end = self._assess(written, progress)
                self.forgetting = forgotten(self.begun, self.model, self.task, device=device)
            keep(self.folder, self.model, self.task, self.bundle, self.settings)
            summary = self._summary(progress, started, command, energy, found_at_end, failure)
            runs.write_record(self.folder / "summary.json", summary)
        listener.end(summary)
        if failure is not None:
            raise failure
        return summary

    def _adaptation(self) -> Adaptation:
        return Adaptation(
            self.model, self.task, self.train_items, self._validate, self.settings, self.folder
        )

    # Validation

    def _validate(self) -> EvaluationRecord:
        """The loss on a sample of validation; where one of them chooses, or the task wants them
        `watched`, its metrics too."""
        return self._look(self.some_validation)[0]

    def _look(
        self, examples: Sequence[Any], *, with_metrics: bool | None = None
    ) -> tuple[EvaluationRecord, list[Any], list[MetricRecord]]:
        loss, _ = mean_loss(self.model, self.task.loss, self._batches(self.task.items(examples)))
        values: dict[str, float | None] = {}
        score, predictions, metrics = None, [], []
        best = self.task.best
        measured = with_metrics
        if measured is None:
            measured = best != "loss" or getattr(self.task, "watched", False)
        if measured:
            found = assess(self.model, self.task, examples, device=self._device)
            values = {m.name: m.value for m in found.metrics}
            predictions = found.predictions
            if with_metrics:
                metrics = with_intervals(found.metrics)
            if best != "loss":
                chosen = next(m for m in found.metrics if m.name == best)
                score = -chosen.value if chosen.higher_is_better else chosen.value
                score = score + TIE * min(loss, 100.0) if math.isfinite(score) else WORST
        record = EvaluationRecord(
            step=0, tokens=0, seconds=0.0, validation_loss=loss, metrics=values, score=score
        )
        return record, predictions, metrics

    def _batches(self, items: Sequence[Any]) -> Iterator[Any]:
        for batch in by_length([self.task.length(item) for item in items], AT_ONCE):
            yield self.task.collate([items[i] for i in batch], self._device)

    @property
    def _device(self) -> str:
        return next(self.model.parameters()).device.type

    def _assess(self, listener: Hearing, progress: AdaptProgress) -> list[MetricRecord]:
        """The kept weights on all of validation: validation.jsonl, and metrics with intervals."""
        self.model.eval()
        record, predictions, metrics = self._look(self.parts.validation, with_metrics=True)
        listener.hear_evaluation(
            record.model_copy(
                update={
                    "step": progress.step if progress.best_step is None else progress.best_step,
                    "tokens": progress.tokens,
                    "seconds": progress.seconds,
                    "final": True,
                }
            )
        )
        lines = []
        for i, (example, said) in enumerate(zip(self.parts.validation, predictions, strict=True)):
            line = {"id": getattr(example, "id", "") or str(i), **targets_of(example)}
            lines.append(json.dumps(line | {"prediction": said}, ensure_ascii=False))
        files.write_text(self.folder / "validation.jsonl", "\n".join([*lines, ""]))
        return metrics

    def _settle(self) -> None:
        """What some tasks choose once the weights are final, such as thresholds of labels."""
        if settle := getattr(self.task, "settle", None):
            self.model.eval()
            settle(self.model, self.parts.validation, device=self._device, seed=self.settings.seed)

    # What is said of it

    def _summary(
        self,
        progress: AdaptProgress,
        started: str,
        command: str,
        energy: Energy,
        metrics: list[MetricRecord],
        failure: TrainingError | None,
    ) -> AdaptSummary:
        settings, parts = self.settings, self.parts
        written = Metrics.from_lines((self.folder / "metrics.jsonl").read_text(encoding="utf-8"))
        looks = written.evaluations
        kept = written.final or next((e for e in looks if e.step == progress.best_step), None)
        tokenizer = self.bundle.tokenizer
        precision = precision_asked(settings.precision)
        return AdaptSummary(
            model=self.bundle.family,
            n_parameters=self.prepared.n_total,
            corpus=CorpusRecord(
                name=parts.name,
                source=parts.source,
                licence=parts.licence,
                n_train_tokens=self._n_tokens(self.train_items),
                n_validation_tokens=self._n_tokens(self.task.items(parts.validation)),
                notes=parts.notes,
            ),
            unit=f"token of {settings.model}",
            vocab_size=tokenizer.vocab_size,
            status=progress.status,
            message=_message(progress.status, progress, failure),
            n_steps=progress.step,
            n_tokens=progress.tokens,
            seconds=progress.seconds,
            best_step=progress.best_step,
            best_validation_loss=kept.validation_loss if kept else None,
            last_validation_loss=looks[-1].validation_loss if looks else None,
            last_train_loss=progress.recent_loss,
            reading=read_curves(started_from(written), alike=False),
            settings=_plain(settings),
            derived={n: v for n, v in _plain(settings).items() if n in self.decided},
            energy_kwh=energy.kwh,
            emissions_kg=energy.kg,
            energy_source=energy.source,
            environment=runs.environment(device=precision.device, precision=precision.dtype),
            hashes={
                "training examples": hash_of(parts.train),
                "validation examples": hash_of(parts.validation),
                "model.safetensors": files.sha256(self.folder / "model" / "model.safetensors"),
            },
            command=command,
            started=started,
            task=settings.task,
            base_model=settings.model,
            base_licence=licence_of(settings.model),
            method=settings.method,
            n_trained=self.prepared.n_trainable,
            n_train=len(parts.train),
            n_validation=len(parts.validation),
            n_test=None if parts.test is None else len(parts.test),
            label_names=list(parts.label_names),
            best=self.task.best,
            metrics=metrics,
            metrics_before=self._before(looks),
            n_before=len(self.parts.validation if self.begun else self.some_validation),
            forgetting=self.forgetting,
            findings=list(map(_recorded, self.findings)),
            adapt_plan=self.plan,
        )

    def _before(self, looks: Sequence[EvaluationRecord]) -> dict[str, float]:
        """What was measured before the first step, of the examples of looks on the way. Where they
        are fewer than at the end and the metrics hang on how many there are, the loss alone."""
        first = next((look for look in looks if look.step == 0), None)
        if first is None:
            return {}
        fewer = len(self.some_validation) < len(self.parts.validation)
        comparable = not (fewer and getattr(self.task, "pooled", False))
        found = {"loss": first.validation_loss} | (first.metrics if comparable else {})
        if self.begun is not None:  # on all of validation
            found |= self.begun.validation
        return {name: value for name, value in found.items() if value is not None}


def _message(status: RunStatus, progress: AdaptProgress, failure: TrainingError | None) -> str:
    if failure is not None:
        return failure.message
    if status == "interrupted" and progress.best_step is not None:
        return f"Interrupted: model/ holds the best weights so far, of step {progress.best_step}."
    return ""


def started_from(metrics: Metrics) -> Metrics:
    """Without the look before the first step, at which there is no training loss yet."""
    return metrics.model_copy(update={"evaluations": [e for e in metrics.evaluations if e.step]})


def _plain(settings: AdaptSettings) -> dict[str, Any]:
    """Settings as a record holds them: one level, plain values."""
    values = settings.model_dump(mode="json")
    own = values.pop("options")
    columns = values.pop("columns")
    flat = values | {f"column {k}": v for k, v in columns.items()}
    return {n: v if not isinstance(v, dict) else json.dumps(v) for n, v in (flat | own).items()}


def _recorded(finding: Finding) -> FindingRecord:
    return FindingRecord(
        code=finding.code,
        level=finding.level,
        what=finding.what,
        cost=finding.cost,
        mend=finding.mend,
    )


def write_settings(path: Path, settings: AdaptSettings) -> None:
    """config.yaml: what `--resume` goes by."""
    files.write_text(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
