"""Adapt a model to any task: the loop, its checkpoints, the best kept.

    progress = adapt(model, task, items, validation, settings, folder, listener)

What a task is, `tasks.task` says; nothing here knows one. A run begun in a folder goes on from the
checkpoint that lies there, with the same bits as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hornbook.adapters.fingerprint import fingerprint
from hornbook.data.item_batches import ItemBatches
from hornbook.errors import CheckpointError, ConfigError, TrainingError
from hornbook.nn.precision import precision_asked
from hornbook.recipes.adaptation_settings import AdaptSettings, decided
from hornbook.recipes.rates import make_optimizer, width
from hornbook.records import EvaluationRecord, RunStatus, StepRecord
from hornbook.tasks.task import Task
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
from hornbook.training.loop import Step, train_steps
from hornbook.training.memory import keep_freed_memory, return_freed_memory
from hornbook.training.recomputation import recomputed
from hornbook.training.refused import keep_batch
from hornbook.training.rows import by_rows
from hornbook.training.schedules import SCHEDULES, Clock

Validation = Callable[[], EvaluationRecord]


@dataclass
class AdaptProgress:
    """Where a run stands; all but `status` is kept in its checkpoints. Scores: lower is better."""

    step: int = 0  # steps taken
    tokens: int = 0
    seconds: float = 0.0
    recent_loss: float = 0.0  # of about the last 10 steps, nats a target
    last_score: float | None = None  # of the last evaluation
    best_score: float | None = None
    best_step: int | None = None
    n_worse: int = 0  # evaluations since the best
    n_evaluations: int = 0  # passed or made, of those that the settings ask for
    evaluated_at: int | None = None  # step
    status: RunStatus = "finished"


def adapt(
    model: nn.Module,
    task: Task,
    train_items: Sequence[Any],
    validation: Validation | None,
    settings: AdaptSettings,
    folder: Path,
    listener: Listener,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> AdaptProgress:
    """Train the trainable weights of `model` until steps, epochs, time or patience are up.

    The model ends with its last weights; `take_best` puts those of the best evaluation there.
    validation: evaluates the model; called before the first step, on the way and at the end; step
    and times of what it gives are filled in here. folder: checkpoints/ is kept in it. stop: asked
    after each step. Raises TrainingError when a loss is not finite: the weights of the last good
    step are then in a checkpoint, and the batch in folder/refused.
    """
    return Adaptation(model, task, train_items, validation, settings, folder).run(listener, stop)


class Adaptation:
    """One run over one model and one task, ready at its start or at its last checkpoint."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        train_items: Sequence[Any],
        validation: Validation | None,
        settings: AdaptSettings,
        folder: Path,
    ) -> None:
        self.model, self.task, self.items, self.validation = model, task, train_items, validation
        self.settings = decided(settings, d_model=width(model)).settings
        self.folder = folder
        self.accelerator = make_accelerator(
            precision_asked(settings.precision),
            seed=settings.seed,
            trackers=settings.trackers,
            folder=folder,
        )
        self.device = self.accelerator.device.type
        if settings.micro_batches > 1 and compares(task):
            raise ConfigError(
                f"micro_batches is {settings.micro_batches}, and the loss of '{task.name}' "
                "compares each example with the whole batch: parts would learn something else",
                hint="Leave micro_batches at 1; embed has chunk=4096, which changes nothing.",
            )
        self.batches = ItemBatches(
            [task.length(item) for item in train_items],
            tokens_per_batch=self.settings.tokens_per_step,
            items_per_batch=settings.examples_per_step,
            seed=settings.seed,
            n_parts=settings.micro_batches,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        self.spread = spread(WithLoss(model, task.loss), self.accelerator)
        self.optimizer = make_optimizer(model, self.settings)
        self.progress = AdaptProgress()
        self.skipped: tuple[str, ...] = ()  # a sentence for each damaged checkpoint passed over
        self._drawn: list[list[int]] = []
        self.looks = Looks(self.settings.evaluations, timed=self.settings.time is not None)
        if begin := getattr(task, "begin", None):  # with the base's weights, also when resumed
            with self.accelerator.autocast():  # in the numbers that it learns in
                begin(model, train_items, device=self.device, progress=None)
        self._base = fingerprint(model)
        self.n_steps = self._length()  # before resuming: another epoch has other batches
        self._resume()

    def _length(self) -> int | None:
        """The run's length in steps, by the first epoch's; None where it is sized by time."""
        if self.settings.epochs is None:
            return self.settings.steps
        return max(1, round(self.settings.epochs * self.batches.n_batches))

    def run(self, listener: Listener, stop: Callable[[], bool] = lambda: False) -> AdaptProgress:
        """As `adapt` says."""
        settings = self.settings
        plain = {n: v for n, v in settings.model_dump().items() if not isinstance(v, dict | tuple)}
        start_trackers(self.accelerator, self.folder.name, plain)
        if settings.trackers:
            listener = All([listener, Trackers(self.accelerator)])
        rows: AbstractContextManager[Any] = nullcontext()
        if self.accelerator.num_processes == 1:
            rows = by_rows(self.model)
        saving: AbstractContextManager[Any] = nullcontext()
        if settings.gradient_checkpointing:
            return_freed_memory()
            saving = recomputed(self.model)
        else:
            keep_freed_memory()
        with rows, saving:
            self.progress.status = self._run(listener, stop)
        self.accelerator.end_training()
        self.model.eval()
        return self.progress

    def _run(self, listener: Listener, stop: Callable[[], bool]) -> RunStatus:
        settings, progress = self.settings, self.progress
        began = time.monotonic() - progress.seconds
        if progress.evaluated_at is None and progress.step == 0:
            self._look(listener)
        if self._patience_is_up():  # killed between its last look and its summary
            return "stopped early"
        clock = Clock(n_steps=self.n_steps, seconds=settings.time, spent=progress.seconds)
        steps = train_steps(
            self.spread,
            own_loss,
            self._steps(),
            self.optimizer,
            SCHEDULES[settings.decay](settings.warm_up),
            clock,
            self.accelerator,
            clip=settings.clip,
            first_step=progress.step,
        )
        for step in self._kept_if_given_up(steps):
            progress.step = step.number + 1
            progress.tokens += self.batches.n_tokens
            progress.seconds = time.monotonic() - began
            listener.hear(self._record(step))
            if step.refused:
                self._refuse(step)
            else:
                share = max(0.1, 2 / (progress.step + 1))
                progress.recent_loss += share * (step.loss - progress.recent_loss)
            if self.looks.is_due(step.progress, progress):
                self._look(listener)
                progress.seconds = time.monotonic() - began
                if self._patience_is_up():
                    return "stopped early"
            if agreed(self.accelerator, stop()):
                self.save()
                return "interrupted"
        if progress.evaluated_at != progress.step:
            self._look(listener)
            progress.seconds = time.monotonic() - began
        return "finished"

    def _steps(self) -> Iterator[list[Any]]:
        for parts in self.batches:
            self._drawn = parts
            with in_epoch(self.task, self.batches.epoch):
                drawn = [self.task.collate([self.items[i] for i in p], self.device) for p in parts]
            yield drawn

    def _record(self, step: Step) -> StepRecord:
        return StepRecord(
            step=self.progress.step,
            tokens=self.progress.tokens,
            seconds=self.progress.seconds,
            loss=step.loss,
            lr=step.learning_rate,
            gradient_norm=step.gradient_norm,
            tokens_per_second=self.batches.n_tokens / step.seconds,
            refused=step.refused,
        )

    def _kept_if_given_up(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps; of one that the loop gives up on, the batch and the weights are kept first."""
        try:
            yield from steps
        except TrainingError:
            self.progress.step += 1
            self.progress.tokens += self.batches.n_tokens
            self._keep_batch()
            self.save()
            raise

    def _refuse(self, step: Step) -> None:
        """Keep the batch for a look; end the run when its loss itself was not finite."""
        place, n_items = self._keep_batch()
        if math.isfinite(step.loss):
            return  # a gradient that overflowed: the next may not; two in a row end the run
        self.save()
        raise TrainingError(
            f"the loss of step {self.progress.step} is {step.loss}: its {n_items} examples are "
            f"in {place}, the weights of before in {self.folder / 'checkpoints'}",
            hint="Look at these examples; lower lr, lengthen warm_up, or use --set "
            "precision=float32.",
        )

    def _keep_batch(self) -> tuple[Path, int]:
        """Write the batch drawn last where it can be looked at: there, and how many items."""
        place = self.folder / "refused" / f"step-{self.progress.step:08d}"
        if self.accelerator.num_processes > 1:  # each has its share of the batch
            place /= f"process-{self.accelerator.process_index}"
        items = [self.items[i] for part in self._drawn for i in part]
        keep_batch(place, self.task, items)
        return place, len(items)

    def _patience_is_up(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.progress.n_worse >= patience > 0

    def _look(self, listener: Listener) -> None:
        """Evaluate, tell, and keep a checkpoint."""
        with self.looks.looking():
            self.progress.evaluated_at, self.progress.last_score = self.progress.step, None
            if self.validation is not None:
                self.model.eval()
                listener.hear_evaluation(self._judged(self.validation()))
            self.save()

    def _judged(self, found: EvaluationRecord) -> EvaluationRecord:
        """An evaluation, counted among the better or the worse, with where the run stands."""
        progress = self.progress
        score = found.validation_loss if found.score is None else found.score
        progress.last_score = score
        if score is not None and (progress.best_score is None or score < progress.best_score):
            progress.best_score, progress.best_step, progress.n_worse = score, progress.step, 0
        else:
            progress.n_worse += 1
        return found.model_copy(
            update={
                "step": progress.step,
                "tokens": progress.tokens,
                "seconds": progress.seconds,
                "train_loss": progress.recent_loss if progress.step else None,
            }
        )

    # Checkpoints

    def save(self) -> None:
        """Write a checkpoint of this moment; the newest and the best stay."""
        progress = self.progress
        measured = progress.evaluated_at == progress.step
        kept = asdict(progress)
        del kept["status"]
        save_checkpoint(
            self.folder / "checkpoints",
            progress.step,
            _kept(self.model),
            self.optimizer,
            {"progress": kept, "batches": self.batches.state(), "base": self._base},
            score=progress.last_score if measured else None,
        )

    def _resume(self) -> None:
        found = latest_checkpoint(self.folder / "checkpoints")
        if found is None:
            return
        if found.state["base"] != self._base:
            raise CheckpointError(
                f"{found.folder} was trained on other weights than {self.settings.model} has now",
                hint="Resume with the model that the run was begun with.",
            )
        self.batches.restore(found.state["batches"])
        found.load_into(_kept(self.model), self.optimizer)
        self.progress = AdaptProgress(**found.state["progress"])
        self.skipped = found.skipped

    def take_best(self) -> None:
        """Put the weights of the best evaluation into the model; the last where none was made."""
        if best := best_checkpoint(self.folder / "checkpoints"):
            best.load_into(_kept(self.model))


@contextmanager
def in_epoch(task: Any, epoch: int) -> Iterator[None]:
    """While training batches of an epoch are made: a task with `epoch` hides other words in each.

    Outside it is 0, so that validation is of the same words every time.
    """
    if hasattr(task, "epoch"):
        task.epoch = epoch
    try:
        yield
    finally:
        if hasattr(task, "epoch"):
            task.epoch = 0


def compares(task: Any) -> bool:
    """Whether the task's loss lets the examples of a batch see one another."""
    return getattr(task, "compares", False)


class _Trained:
    """What a checkpoint has to hold of a model whose base stays as it is."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def state_dict(self, keep_vars: bool = True) -> dict[str, Tensor]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.model.named_parameters()


def _kept(model: nn.Module) -> Any:
    whole = all(p.requires_grad for p in model.parameters())
    return model if whole else _Trained(model)
