"""Train a language model on prepared tokens: build, run the loop, evaluate, keep the best."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from hornbook.errors import CheckpointError
from hornbook.evaluation.likelihood import bits_per_byte, mean_loss
from hornbook.nn.losses import LossSum
from hornbook.nn.precision import precision_asked
from hornbook.recipes.dial import Resolved
from hornbook.recipes.families import Objective, build, make_optimizer
from hornbook.recipes.preparation import Prepared
from hornbook.recipes.reading import open_reading
from hornbook.records import EvaluationRecord, RunStatus, StepRecord
from hornbook.training.accelerator import (
    WithLoss,
    agreed,
    make_accelerator,
    own_loss,
    spread,
    start_trackers,
)
from hornbook.training.checkpoints import best_checkpoint, latest_checkpoint, save_checkpoint
from hornbook.training.listeners import All, Listener, Trackers
from hornbook.training.looks import Looks
from hornbook.training.loop import train_steps
from hornbook.training.memory import keep_freed_memory, return_freed_memory
from hornbook.training.recomputation import recomputed
from hornbook.training.sanity import Memorised, Trial, memorise
from hornbook.training.schedules import SCHEDULES, Clock

SAMPLED = 32_768  # validation tokens of an evaluation on the way; the last one reads them all


@dataclass
class Progress:
    """Where a run stands: what a checkpoint keeps beside weights and optimiser."""

    step: int = 0  # steps taken
    tokens: int = 0
    seconds: float = 0.0
    recent_loss: float = 0.0  # of about the last 10 steps, nats
    last_loss: float | None = None  # of the last evaluation
    best_loss: float | None = None
    best_step: int | None = None
    n_worse: int = 0  # evaluations since the best
    n_evaluations: int = 0  # passed or made, of those that the settings ask for
    evaluated_at: int | None = None  # step


class Training:
    """One run of a language model, from its first or its last checkpoint to its end."""

    def __init__(self, settings: Resolved, prepared: Prepared, folder: Path) -> None:
        began = time.monotonic()
        self.settings, self.prepared, self.folder = settings, prepared, folder
        self.precision = precision_asked(settings.precision)
        self.accelerator = make_accelerator(
            self.precision, seed=settings.seed, trackers=settings.trackers, folder=folder
        )
        self.objective: Objective = build(settings, prepared, self.accelerator.device.type)
        self.spread, self.loss_of = self._spread()
        self.optimizer = make_optimizer(self.objective.model, settings=settings)
        place = self.accelerator.process_index, self.accelerator.num_processes
        self.reading = open_reading(settings, prepared, self.objective, place)
        self.progress = Progress(seconds=time.monotonic() - began)  # counting is learning too
        self._stopping = False
        self.looks = Looks(settings.evaluations, timed=settings.time is not None)

    def resume(self) -> tuple[str, ...]:
        """Go on from the last whole checkpoint, or from the start; says which were damaged."""
        found = latest_checkpoint(self.folder / "checkpoints")
        if found is None:
            return ()
        found.load_into(self.objective.model, self.optimizer)
        _check_validation(found.state, self.prepared)
        self.reading.restore(found.state["windows"])
        self.progress = Progress(**found.state["progress"])
        return found.skipped

    def _spread(self) -> tuple[nn.Module, Callable[[nn.Module, Any], LossSum]]:
        """The model as all processes train it, and its loss.

        A call of it ends in the loss, so that the loss may go in rounds (`nn.rounds`). A sharded
        one ends in all logits: evaluations call it too.
        """
        model = self.objective.model
        loss_of = self.objective.training_loss or self.objective.loss_of
        if self.settings.sharded:
            return spread(model, self.accelerator, sharded=True), loss_of
        return spread(WithLoss(model, loss_of), self.accelerator), own_loss

    @property
    def sampled(self) -> bool:
        """Whether evaluations on the way read only a part of the validation text."""
        return len(self.prepared.validation) > SAMPLED

    def stop(self) -> None:
        """End after the step that is being taken, with a checkpoint of it."""
        self._stopping = True

    def run(self, listener: Listener) -> RunStatus:
        """Train until time, steps or patience are up; returns why it ended."""
        start_trackers(self.accelerator, self.folder.name, _plain(self.settings))
        saving: Callable[[nn.Module], AbstractContextManager[Any]] = nullcontext
        if self.settings.gradient_checkpointing:
            return_freed_memory()
            saving = recomputed
        else:
            keep_freed_memory()
        if self.settings.trackers:
            listener = All([listener, Trackers(self.accelerator)])
        with saving(self.objective.model):
            status = self._run(listener)
        self.accelerator.end_training()
        return status

    def memorise(self) -> Memorised:
        """Learn one batch by heart, on a copy. Raises TrainingError with the likely cause."""
        return memorise(
            Trial(
                model=self.objective.model,
                loss_of=self.objective.loss_of,
                batch=self.reading.one(),
                make_optimizer=partial(make_optimizer, settings=self.settings),
                accelerator=self.accelerator,
            )
        )

    def _run(self, listener: Listener) -> RunStatus:
        settings, progress = self.settings, self.progress
        began = time.monotonic() - progress.seconds
        clock = Clock(n_steps=self.n_steps(), seconds=settings.time, spent=progress.seconds)
        for step in train_steps(
            self.spread,
            self.loss_of,
            self.reading.steps(),
            self.optimizer,
            SCHEDULES[settings.decay](settings.warm_up),
            clock,
            self.accelerator,
            clip=settings.clip,
            first_step=progress.step,
        ):
            progress.step = step.number + 1
            progress.tokens += self.reading.n_read
            progress.seconds = time.monotonic() - began
            share = max(0.1, 2 / (progress.step + 1))
            if not step.refused:
                progress.recent_loss += share * (step.loss - progress.recent_loss)
            listener.hear(
                StepRecord(
                    step=progress.step,
                    tokens=progress.tokens,
                    seconds=progress.seconds,
                    loss=step.loss,
                    lr=step.learning_rate,
                    gradient_norm=step.gradient_norm,
                    tokens_per_second=self.reading.n_read / step.seconds,
                    refused=step.refused,
                )
            )
            if self.looks.is_due(step.progress, progress):
                self._look(listener)
                progress.seconds = time.monotonic() - began
                if settings.patience and progress.n_worse >= settings.patience:
                    return "stopped early"
            if agreed(self.accelerator, self._stopping):
                self.save()
                return "interrupted"
        if progress.evaluated_at != progress.step:
            self._look(listener)
        return "finished"

    def _look(self, listener: Listener) -> None:
        """Evaluate, tell, and keep a checkpoint."""
        with self.looks.looking():
            listener.hear_evaluation(self.evaluate())
            self.save()

    def evaluate(self) -> EvaluationRecord:
        """The loss on a sample of the validation text (on all of it where it is short)."""
        progress = self.progress
        loss, n_tokens = self._loss(SAMPLED)
        progress.last_loss, progress.evaluated_at = loss, progress.step
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.n_worse = loss, progress.step, 0
        else:
            progress.n_worse += 1
        # On counts the two are not alike: training leaves a fold of them out.
        train_loss = None if self.settings.counting else progress.recent_loss
        return self._record(loss, n_tokens, progress.step, train_loss)

    def evaluate_kept(self) -> EvaluationRecord:
        """The loss of the best weights, which the model now has, on the whole validation text."""
        step = self.progress.best_step or self.progress.step
        record = self._record(*self._loss(None), step, None)
        return record.model_copy(update={"final": True})

    def _loss(self, most: int | None) -> tuple[float, int]:
        """The loss on so many tokens of the validation part, and how many they were."""
        batches, n_tokens = self.reading.validation(most)
        return mean_loss(self.objective.model, self.objective.loss_of, batches)[0], n_tokens

    def _record(
        self, loss: float, n_tokens: int, step: int, train_loss: float | None
    ) -> EvaluationRecord:
        whole = self.prepared.validation
        # Hidden tokens are guessed from both sides: their loss says nothing about bytes.
        n_bytes = n_tokens / len(whole) * whole.n_bytes if self.objective.writes else 0
        return EvaluationRecord(
            step=step,
            tokens=self.progress.tokens,
            seconds=self.progress.seconds,
            train_loss=train_loss,
            validation_loss=loss,
            # Of all tokens, as counting's: the first of a document, which is not guessed, too.
            bits_per_byte=bits_per_byte(loss, n_tokens, round(n_bytes)),
            sample=self.reading.sample(),
        )

    def save(self) -> None:
        """Write a checkpoint of this moment; the newest and the best stay.

        A loss is a score of the weights it was measured with, and of no others.
        """
        progress = self.progress
        measured = progress.evaluated_at == progress.step
        save_checkpoint(
            self.folder / "checkpoints",
            progress.step,
            self.objective.model,
            self.optimizer,
            {
                "progress": asdict(progress),
                "windows": self.reading.state(),
                "validation": self.prepared.validation.fingerprint,
            },
            score=progress.last_loss if measured else None,
        )

    def take_best(self) -> None:
        """Put the weights of the best checkpoint into the model."""
        best = best_checkpoint(self.folder / "checkpoints")
        if best is not None:
            best.load_into(self.objective.model)

    def whole(self, status: RunStatus) -> Objective:
        """The model in one piece: where processes hold parts of it, read from a checkpoint.

        Which is the best one, but of an interrupted run the last.
        """
        if not self.settings.sharded or self.accelerator.num_processes == 1:
            return self.objective
        objective = build(self.settings, self.prepared, "cpu")
        chosen = latest_checkpoint if status == "interrupted" else best_checkpoint
        kept = chosen(self.folder / "checkpoints")
        if kept is not None:
            kept.load_into(objective.model)
        return objective

    def n_steps(self) -> int | None:
        """The length of the run in steps, where it is not sized by time."""
        settings = self.settings
        if settings.epochs is None:
            return settings.steps
        return self.reading.n_steps(settings.epochs)


def _plain(settings: Resolved) -> dict[str, str | int | float | bool | None]:
    """Settings as trackers take them."""
    values = settings.model_dump()
    return {name: v if not isinstance(v, tuple) else ",".join(v) for name, v in values.items()}


def _check_validation(state: dict[str, Any], prepared: Prepared) -> None:
    """The best so far was measured on the same text; checkpoints of before didn't say on which."""
    found = prepared.validation.fingerprint
    known = state.get("validation", found)
    if known != found:
        raise CheckpointError(
            "the validation data are others than when the run was begun: their fingerprint was "
            f"{known}, is {found}",
            hint="Resume with the same data, or start a new run: losses would not compare.",
        )
