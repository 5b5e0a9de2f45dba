"""A training run as a folder: planned, trained, kept, summed up, reported.

RUN/config.yaml       every setting, decided; repeats the run
    metrics.jsonl     a line a step and an evaluation
    checkpoints/      the newest and the best
    model/            config.json, model.safetensors, tokenizer.json of the best
    summary.json      the plan beside what happened, referees, hashes, environment
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import yaml

from hornbook import bundle, files, runs
from hornbook.config import settings_from
from hornbook.data.windows import check_length
from hornbook.errors import ConfigError, StudyError
from hornbook.evaluation import plan as planning
from hornbook.evaluation.curves import read_curves
from hornbook.interop.turns import write_bounds
from hornbook.models.counting_gpt import check_vocabulary
from hornbook.models.presets import count_parameters
from hornbook.nn.precision import precision_asked
from hornbook.recipes.begun import read_config, refuse_others
from hornbook.recipes.dial import Asked, Resolved, derived, resolve
from hornbook.recipes.families import PAGES, architecture, counts_bytes
from hornbook.recipes.language_model import SAMPLED, Training
from hornbook.recipes.preparation import Prepared, prepare
from hornbook.recipes.reading import pair_batches, shape_of
from hornbook.recipes.referees import referees
from hornbook.records import (
    CorpusRecord,
    EvaluationRecord,
    Metrics,
    PlanRecord,
    RunStatus,
    RunSummary,
)
from hornbook.tasks.seq2seq import bounds
from hornbook.text.tokenizer import Tokenizer
from hornbook.training.accelerator import place
from hornbook.training.emissions import Energy, country, metered, spent
from hornbook.training.listeners import All, Lines
from hornbook.training.listeners import Listener as Hearing
from hornbook.training.memory import keep_freed_memory, peak_bytes


class Listener(Hearing, Protocol):
    """Who is told: the plan, each step and evaluation, the end."""

    def begin(self, plan: PlanRecord) -> None: ...
    def end(self, summary: RunSummary) -> None: ...


# Settings that others follow from: not to be changed beside a config in which all are decided.
DECISIVE = {"family", "data", "text", "tokenizer", "vocab_size", "depth", "preset"} | {
    "source",
    "target",
    "context_length",
    "counting",
}


def settle(asked: Asked, *, tokenizer: Tokenizer | None = None) -> tuple[Prepared, Resolved]:
    """Read the corpus and decide every setting."""
    prepared = prepare(asked, tokenizer=tokenizer)
    settings = resolve(
        asked,
        vocab_size=prepared.tokenizer.vocab_size,
        n_tokens=len(prepared.train),
        tokenizer=prepared.name,
        longest=prepared.longest,
    )
    if prepared.sources is None:
        check_length(len(prepared.train), settings.context_length)
    else:
        padding = pair_batches(settings, prepared).padding()
        prepared.corpus.notes.append(
            "Batches of pairs of like length: in rectangles, as graphics cards read them, padding "
            f"is {padding:.1%} of the places; a processor reads texts end to end, without any."
        )
    if settings.counting:
        check_vocabulary(settings.vocab_size)
    return prepared, settings


def plan_of(settings: Resolved, prepared: Prepared) -> PlanRecord:
    """What the run will take, on this machine."""
    keep_freed_memory()  # as the run's own steps, which are timed here
    shape = shape_of(settings, prepared)
    per_step = shape.n_rows * shape.length
    n_tokens = per_step * (settings.steps or 1)
    if settings.epochs:
        n_tokens = round(settings.epochs * shape.epoch)
    precision = precision_asked(settings.precision)
    counts, counting = counts_bytes(settings, prepared) if settings.counting else (0, 0)
    recipe = planning.Recipe(
        family=PAGES[settings.family],
        config=architecture(settings),
        n_tokens=n_tokens,
        batch_size=shape.n_rows,
        micro_batch_size=shape.micro,
        length=shape.length,
        precision=precision.dtype,
        gradient_checkpointing=settings.gradient_checkpointing,
        optimizer=settings.optimizer,
        counts=counts,
        counting=counting,
    )
    cluster, speed = planning.this_machine(recipe, device=precision.device)
    made = planning.plan(recipe, cluster, speed)
    if settings.time:
        n_tokens = max(per_step, round(settings.time * made.tokens_per_second))
        made = planning.plan(replace(recipe, n_tokens=n_tokens), cluster, speed)
    return made


@dataclass
class Session:
    """A run that is ready to be carried out.

    decided: what the dial set. before: the most memory held until the model was built, bytes.
    skipped: a sentence for each damaged checkpoint passed over.
    """

    training: Training
    plan: PlanRecord
    decided: dict[str, Any]
    before: int
    skipped: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.training.folder

    def carry_out(self, listener: Listener, *, command: str) -> RunSummary | None:
        """Run to the end, keep the best model, sum up; an interrupted run is summed up too.

        Of several processes the first writes and gives the summary, the others give None.
        """
        training, prepared = self.training, self.training.prepared
        if place()[0]:
            nobody = All([])
            if training.run(nobody) != "interrupted":
                self._take_best(nobody)
            return None
        with runs.locked(self.folder):
            started = runs.now()
            written = All([Lines(self.folder / "metrics.jsonl"), listener])
            emissions = self.folder / "emissions.csv"
            with metered("hornbook train", emissions) as energy:
                status = training.run(written)
            energy.kwh, energy.kg = spent(emissions)  # the parts before it was resumed too
            grown = peak_bytes() - self.before
            if status != "interrupted":
                self._take_best(written)
            with files.atomic_folder(self.folder / "model") as inside:
                bundle.save(inside, training.whole(status).saved, prepared.tokenizer)
                if prepared.sources is not None:
                    start, end = bounds(prepared.tokenizer)
                    write_bounds(inside, start=start, end=end)
            summary = self._summary(status, started, command, grown, energy)
            runs.write_record(self.folder / "summary.json", summary)
        listener.end(summary)
        return summary

    def _message(self, status: RunStatus) -> str:
        """What has to be known of a loss that is not of the whole validation text."""
        if status != "interrupted" or not self.training.sampled:
            return ""
        n_tokens = len(self.training.prepared.validation)
        return (
            f"Interrupted: the loss is of a sample of {SAMPLED:,} of the {n_tokens:,} validation "
            "tokens, counting's is of all of them."
        )

    def _take_best(self, listener: Hearing) -> None:
        self.training.take_best()
        if self.training.sampled:
            listener.hear_evaluation(self.training.evaluate_kept())

    def metrics(self) -> Metrics:
        """All that was written on the way."""
        return Metrics.from_lines((self.folder / "metrics.jsonl").read_text(encoding="utf-8"))

    def _summary(
        self, status: RunStatus, started: str, command: str, grown: int, energy: Energy
    ) -> RunSummary:
        training, prepared, settings = self.training, self.training.prepared, self.training.settings
        progress, metrics = training.progress, self.metrics()
        counted = []
        if training.objective.writes:
            counted = referees(prepared.train, prepared.validation, settings.vocab_size)
            if prepared.sources is not None:
                names = [f"{r.name}, targets alone" for r in counted]
                counted = [r.model_copy(update={"name": n}) for r, n in zip(counted, names)]
        best = metrics.final or _best(metrics.evaluations)
        counting = min((r.loss for r in counted), default=None)
        return RunSummary(
            model=settings.family + (" on counts" if settings.counting else ""),
            n_parameters=count_parameters(training.objective.model),
            corpus=_corpus_record(prepared),
            unit=f"{prepared.name}, {settings.vocab_size:,} in the vocabulary",
            vocab_size=settings.vocab_size,
            bytes_per_token=prepared.validation.n_bytes / len(prepared.validation),
            status=status,
            message=self._message(status),
            n_steps=progress.step,
            n_tokens=progress.tokens,
            seconds=progress.seconds,
            best_step=progress.best_step,
            best_validation_loss=best.validation_loss if best else None,
            best_bits_per_byte=best.bits_per_byte if best else None,
            last_validation_loss=progress.last_loss,
            last_train_loss=progress.recent_loss,
            referees=counted,
            plan=self.plan,
            checks=planning.check(
                self.plan,
                seconds=max(1e-3, progress.seconds),
                n_tokens=max(1, progress.tokens),
                peak_bytes=grown,
            ),
            reading=read_curves(
                metrics,
                vocab_size=settings.vocab_size,
                counting=None if training.sampled else counting,  # of the whole text
                alike=not settings.counting,
            ),
            settings=settings.model_dump(mode="json"),
            derived=self.decided,
            energy_kwh=energy.kwh,
            emissions_kg=energy.kg,
            energy_source=energy.source,
            environment=runs.environment(
                device=training.precision.device, precision=training.precision.dtype
            ),
            hashes={
                "train tokens": prepared.train.fingerprint,
                "validation tokens": prepared.validation.fingerprint,
                **_source_hashes(prepared),
                "model.safetensors": files.sha256(self.folder / "model" / "model.safetensors"),
            },
            command=command,
            started=started,
        )


def asked_for(given: dict[str, Any], config: Path | None = None) -> Asked:
    """The settings that a person gave, over those of a config.yaml where one is named."""
    kept = {} if config is None else read_settings(config).model_dump()
    if kept and (decisive := sorted(DECISIVE & given.keys())):
        raise ConfigError(
            f"{config} has decided sizes and rates already; {' and '.join(decisive)} would change "
            "what they follow from",
            hint="Start anew without --config, or edit a copy of the file.",
        )
    if any(given.get(name) is not None for name in ("time", "steps", "epochs")):
        kept |= {"time": None, "steps": None, "epochs": None}
    return settings_from(Asked, **(kept | given))


def open_new(asked: Asked, out: Path | None, listener: Listener) -> Session:
    """Claim a folder and make everything ready.

    Raises StudyError when the folder holds something, ConfigError when the plan does not fit.
    """
    number, n_processes = place()
    if n_processes > 1:
        _check_for_several(asked, out)
    folder = out or runs.default_folder(f"{asked.family}-{Path(asked.data).stem}")
    if not number and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(
            f"{folder} is not empty",
            hint=f"Choose another --out, or go on with it: --resume {folder}",
        )
    country()  # refused before anything is begun
    prepared, settings = settle(asked)
    plan = plan_of(settings, prepared)
    if not plan.fits:
        raise ConfigError(plan.verdict, hint="What would fit: " + "; ".join(plan.changes))
    listener.begin(plan)
    before = peak_bytes()
    training = Training(settings, prepared, folder)
    if number:
        return Session(training, plan, {}, before)
    folder.mkdir(parents=True, exist_ok=True)
    prepared.tokenizer.save(folder / "tokenizer.json")
    write_settings(folder / "config.yaml", settings)
    runs.write_record(folder / "plan.json", plan)
    return Session(training, plan, derived(asked, settings), before)


def reopen(folder: Path, listener: Listener, given: dict[str, Any]) -> Session:
    """Go on with a run from its last whole checkpoint, or from its start where there is none.

    given: settings named beside it. Raises ConfigError when they differ from the run's,
    CheckpointError when the data are others.
    """
    settings = read_settings(folder / "config.yaml")
    refuse_others(folder, settings, given)
    if (folder / "summary.json").is_file():
        summary = runs.read_record(folder / "summary.json", RunSummary)
        if summary.status == "finished":
            raise StudyError(
                f"{folder} is finished: {summary.n_steps:,} steps",
                hint=f"A longer run: hornbook train --config {folder / 'config.yaml'} --time 10m",
            )
    prepared = prepare(settings, tokenizer=Tokenizer.load(folder / "tokenizer.json"))
    plan = runs.read_record(folder / "plan.json", PlanRecord)
    listener.begin(plan)
    before = peak_bytes()
    training = Training(settings, prepared, folder)
    skipped = training.resume()
    return Session(training, plan, {}, before, skipped)


def _source_hashes(prepared: Prepared) -> dict[str, str]:
    names = ("train sources", "validation sources")
    return {n: s.fingerprint for n, s in zip(names, prepared.sources or (), strict=False)}


def _best(looks: list[EvaluationRecord]) -> EvaluationRecord | None:
    known = [look for look in looks if look.validation_loss is not None]
    return min(known, key=lambda look: look.validation_loss or 0.0, default=None)


def _check_for_several(asked: Asked, out: Path | None) -> None:
    """What several processes have to agree about, they must be told."""
    if out is None:
        raise ConfigError(
            "several processes need one folder", hint="Name it with --out, on a disk all can read."
        )
    if asked.steps is None and asked.epochs is None:
        raise ConfigError(
            "several processes end together only after a number of steps",
            hint="Give --steps or --epochs: their clocks differ.",
        )
    if asked.tokenizer == "unigram":
        raise ConfigError(
            "each process would train a tokenizer of its own",
            hint="Train it first, hornbook tokenizer train; then --tokenizer DIR.",
        )


def write_settings(path: Path, settings: Resolved) -> None:
    """config.yaml: what `hornbook train --config` repeats."""
    files.write_text(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))


def read_settings(path: Path) -> Resolved:
    """Read config.yaml; raises what `begun.read_config` does."""
    return read_config(path, Resolved, of="training run", such_as="depth: 4")


def _corpus_record(prepared: Prepared) -> CorpusRecord:
    corpus = prepared.corpus
    return CorpusRecord(
        name=corpus.name,
        source=corpus.source,
        licence=corpus.licence,
        n_train_tokens=len(prepared.train),
        n_validation_tokens=len(prepared.validation),
        n_train_bytes=prepared.train.n_bytes,
        n_validation_bytes=prepared.validation.n_bytes,
        sha256=prepared.train.fingerprint,
        notes=corpus.notes,
    )
