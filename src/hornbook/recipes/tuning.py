"""Search over settings (Akiba et al. 2019, "Optuna"): many runs, the best by validation alone.

FOLDER/study.db         optuna's, in SQLite: what is there is not fitted again
       tuning.json      all trials, the best, and whether it beats the defaults beyond chance
       tuning.html      the same as a page with plots
       trials/007/      a run each; of the best and of the defaults the model is kept

Trial 0 (or what goes on with it after an interruption) is the defaults, so that a search ends no
worse than not searching. The test part of the data is not even handed to a trial.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import hornbook
from hornbook import files, runs
from hornbook.config import settings_from
from hornbook.errors import (
    ConfigError,
    HornbookError,
    StudyError,
    TrainingError,
    UnavailableError,
)
from hornbook.evaluation.evaluate import comparison
from hornbook.recipes.adaptation_opening import checked_options, open_new, reopen
from hornbook.recipes.adaptation_run import Session
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.kinds import KINDS
from hornbook.recipes.learning_curve import KEPT, only, predictions_in
from hornbook.recipes.tuning_reading import best_of, notes, rounded, says
from hornbook.recipes.tuning_space import (
    check_ends,
    default_space,
    drawn,
    inside,
    named_space,
    own_settings,
    with_fractions,
)
from hornbook.recipes.tuning_trial import Listener, Watching, goes_on, seconds_in
from hornbook.records import (
    ComparisonRecord,
    SearchedSetting,
    TrialRecord,
    TuningRecord,
)

RECORD = "tuning.json"
ASKED = "search.json"
# What is noted of a trial in study.db. BEFORE: seconds of the trials that it goes on from.
DEFAULTS, GOES_ON, BEFORE = "defaults", "goes on", "seconds before"
INTERRUPTED = "interrupted"
UNPRUNED = 4  # trials that run to their end before any is cut
HOPELESS = 5  # trials that all failed, and nothing else: more would too
N_TRIALS = 12


@dataclass(frozen=True)
class Budget:
    """When a search is over: so many trials, or so many seconds; each from the very beginning."""

    n_trials: int | None = None
    seconds: float | None = None


class Search:
    """A search in a folder, at its start or where it was left."""

    def __init__(
        self,
        settings: AdaptSettings | None,
        folder: Path,
        *,
        given: frozenset[str] = frozenset(),
        wanted: Sequence[str] = (),
        command: str = "",
    ) -> None:
        """settings: None to go on with what lies in the folder. given: those that were fixed.
        wanted: what is searched, as `named_space` reads it."""
        self.folder, self.command = folder, command
        self.stopping = False
        self._optuna = _optuna()
        asked = folder / ASKED
        if asked.is_file():
            kept = json.loads(asked.read_text(encoding="utf-8"))
            self.settings = settings_from(AdaptSettings, **kept["settings"])
            self.space = [SearchedSetting(**one) for one in kept["space"]]
        else:
            if settings is None:
                raise StudyError(f"{folder} is no search", hint="Name the folder of one.")
            if folder.exists() and any(folder.iterdir()):
                raise StudyError(f"{folder} is not empty", hint="Choose another --out.")
            self.settings = settings
            self.space = named_space(wanted, own_settings(settings.task))
            self.space = self.space or default_space(self.judge.settings, given)
            if not self.space:
                raise ConfigError(
                    "everything is fixed, nothing is left to search", hint="Leave out a --set."
                )
            check_ends(self.space, self._possible)
            self.space = with_fractions(self.space, self._possible)

    def keep(self) -> None:
        """Write down what is searched, for `--resume`; where it is written already, nothing."""
        if (self.folder / ASKED).is_file():
            return
        kept = {
            # What nobody said stays unsaid: each trial decides it as a run alone would.
            "settings": self.settings.model_dump(mode="json", exclude_unset=True),
            "space": [one.model_dump() for one in self.space],
        }
        files.write_text(self.folder / ASKED, json.dumps(kept, indent=2) + "\n")

    @cached_property
    def study(self) -> Any:
        """optuna's, opened by `run` alone: a trial that is running there may be another process's
        unless this one holds the folder."""
        optuna = self._optuna
        study = optuna.create_study(
            study_name="tuning",
            storage=f"sqlite:///{(self.folder / 'study.db').resolve()}",
            load_if_exists=True,
            direction="minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED, n_warmup_steps=1),
        )
        # Another seed each time it is opened: the same would draw the same values again.
        n = len(study.trials)
        study.sampler = optuna.samplers.TPESampler(seed=self.settings.seed + n, n_startup_trials=5)
        if not n:
            said = self.judge.settings
            own = own_settings(said.task) | said.options
            usual = inside(own | said.model_dump(), self.space)
            study.enqueue_trial(usual, user_attrs={DEFAULTS: True})
        for trial in study.trials:  # a killed search leaves one that is still running
            if trial.state == optuna.trial.TrialState.RUNNING:
                seconds = seconds_in(self._place(trial.number))
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                study.enqueue_trial(trial.params, user_attrs=_going_on(trial, seconds))
        return study

    @cached_property
    def judge(self) -> Session:
        """A run of the defaults that is never carried out: data, task, and settings all decided."""
        return open_new(self.settings, self.folder / "trials" / "judge")

    def stop(self) -> None:
        """End with the step that is being taken."""
        self.stopping = True

    def run(self, budget: Budget, listener: Listener) -> TuningRecord:
        """Trials until the budget is spent; then the record, which is written after each too.

        Raises StudyError when another process is at this search.
        """
        self.keep()
        with runs.locked(self.folder):
            record = self._record()
            while not self.stopping and not self._spent(budget, record):
                trial = self.study.ask()
                self._one(trial, budget, listener)
                record = self._record()
                runs.write_record(self.folder / RECORD, record)
            runs.write_record(self.folder / RECORD, record)
        return record

    def _spent(self, budget: Budget, record: TuningRecord) -> bool:
        done = [t for t in record.trials if t.message != INTERRUPTED]
        if budget.n_trials is not None and len(done) >= budget.n_trials:
            return True
        if len(done) >= HOPELESS and all(t.state == "failed" for t in done):
            return True
        if budget.seconds is None:
            return False
        whole = sorted(t.seconds for t in record.trials if t.state == "finished")
        usual = whole[len(whole) // 2] if whole else 0.0
        return record.seconds + 0.5 * usual >= budget.seconds

    def _one(self, trial: Any, budget: Budget, listener: Listener) -> None:
        """Carry out a trial and tell optuna."""
        states = self._optuna.trial.TrialState
        values = drawn(trial, self.space)
        listener.begin(trial.number, values)
        place = self._place(trial.number)
        began = time.monotonic()
        left = None if budget.seconds is None else budget.seconds - self._seconds()
        try:
            session = self._session(trial, values, place)
            watching = Watching(self, session, trial, listener, left)
            summary = session.carry_out(watching, command=self.command)
        except HornbookError as error:  # a rate that was too high, values that don't go together
            came_apart = isinstance(error, TrainingError)  # then it names files that are not kept
            message = error.message.partition(": ")[0] if came_apart else error.message
            self._note(trial, place, began, "failed", message)
            self.study.tell(trial.number, state=states.FAIL)
        else:
            assert summary is not None, "a search runs in one process"
            trial.set_user_attr("steps", summary.n_steps)
            trial.set_user_attr("metrics", {m.name: m.value for m in summary.metrics})
            best, why = watching.best, watching.why
            if why == "pruned" or (why == "out of time" and best is None):
                self._note(trial, place, began, why, "")
                self.study.tell(trial.number, state=states.PRUNED)
            elif why == INTERRUPTED:
                self._note(trial, place, began, "failed", INTERRUPTED)
                self.study.tell(trial.number, state=states.FAIL)
                ended = self.study.trials[trial.number]
                going_on = _going_on(ended, _seconds_of(ended))
                self.study.enqueue_trial(trial.params, user_attrs=going_on)
            elif best is None:
                self._note(trial, place, began, "failed", "no evaluation gave a number")
                self.study.tell(trial.number, state=states.FAIL)
            else:
                self._note(trial, place, began, why or "finished", "")
                self.study.tell(trial.number, best)
        self._clear()
        listener.end(self._recorded(self.study.trials[trial.number]))

    def _session(self, trial: Any, values: Mapping[str, Any], place: Path) -> Session:
        """The trial's run; one that was interrupted goes on from its checkpoint."""
        before = trial.user_attrs.get(GOES_ON)
        old = self._place(before) if before is not None else None
        if old is not None and goes_on(old) and not place.exists():
            old.rename(place)
            session = reopen(place, {})
        else:
            shutil.rmtree(place, ignore_errors=True)
            session = open_new(self._with(values), place)
        session.parts = replace(session.parts, test=None)
        return session

    def _with(self, values: Mapping[str, Any]) -> AdaptSettings:
        known = {n: v for n, v in values.items() if n in AdaptSettings.model_fields}
        own = {n: v for n, v in values.items() if n not in AdaptSettings.model_fields}
        if "epochs" in known:
            known |= {"steps": None, "time": None}
        change = known | {"options": {**self.settings.options, **own}}
        said = self.settings.model_dump(exclude_unset=True)
        return settings_from(AdaptSettings, **(said | change))

    def _possible(self, values: Mapping[str, Any]) -> None:
        """Raises ConfigError for values that no run could be given."""
        settings = self._with(values)
        kind = KINDS.load(settings.task)
        own = checked_options(kind, settings)
        if own:  # the task knows best which it takes
            kind.make(self.judge.bundle, self.judge.parts, **own)

    def _place(self, number: int) -> Path:
        """A trial's folder, by its number alone: what a database says is no path to go by."""
        return self.folder / "trials" / f"{int(number):03d}"

    def _note(self, trial: Any, place: Path, began: float, state: str, message: str) -> None:
        for name, value in (
            ("state", state),
            ("message", message),
            ("seconds", time.monotonic() - began),
            ("folder", place.relative_to(self.folder).as_posix() if place.is_dir() else ""),
        ):
            trial.set_user_attr(name, value)

    def _clear(self) -> None:
        """Keep the weights of the defaults and of the best; of the others the lab files."""
        found = self._trials()
        best = best_of(found)
        for trial in found:
            place, failed = self._place(trial.number), trial.state == "failed"
            if (failed or not trial.defaults) and trial.number != best and place.is_dir():
                only(place, KEPT)

    def _seconds(self) -> float:
        """What all trials took, also those that were interrupted and wait to go on."""
        waiting = self._optuna.trial.TrialState.WAITING
        left = [t.user_attrs.get(BEFORE, 0.0) for t in self.study.trials if t.state == waiting]
        return float(sum(t.seconds for t in self._trials()) + sum(left))

    def _trials(self) -> list[TrialRecord]:
        """Trials that have ended; of one that was interrupted and went on, the later alone."""
        went_on = {t.user_attrs[GOES_ON] for t in self.study.trials if GOES_ON in t.user_attrs}
        ended = [t for t in self.study.trials if t.state.is_finished()]
        return [self._recorded(t) for t in ended if t.number not in went_on]

    def _recorded(self, trial: Any) -> TrialRecord:
        said, place = trial.user_attrs, self._place(trial.number)
        return TrialRecord(
            number=trial.number,
            state=said.get("state", "failed"),
            defaults=_is_defaults(trial),
            settings=rounded(trial.params, self.space),
            score=trial.value,
            metrics=said.get("metrics", {}),
            seconds=_seconds_of(trial),
            steps=said.get("steps", 0),
            folder=place.relative_to(self.folder).as_posix() if said.get("folder") else "",
            message=said.get("message", ""),
        )

    def _record(self) -> TuningRecord:
        trials = self._trials()
        best = best_of(trials)
        settings = self.judge.settings
        chosen_by, higher, beside = "loss", False, None
        if best is not None:
            chosen_by, higher, beside = self._beside_defaults(trials, best)
        searched = {one.name for one in self.space}
        plain = settings.model_dump(mode="json", exclude={"options", "columns", "trackers"})
        plain |= settings.options
        return TuningRecord(
            task=settings.task,
            model=settings.model,
            data=settings.data,
            method=settings.method,
            chosen_by=chosen_by,
            higher_is_better=higher,
            searched=self.space,
            fixed={n: v for n, v in plain.items() if n not in searched and v is not None},
            trials=trials,
            best=best,
            against_defaults=beside,
            seconds=self._seconds(),
            says=says(trials, best, chosen_by, beside),
            notes=notes(trials, best, self.folder),
            command=self.command,
            hornbook=hornbook.__version__,
        )

    def _beside_defaults(
        self, trials: Sequence[TrialRecord], best: int
    ) -> tuple[str, bool, ComparisonRecord | None]:
        """What chooses, and the best beside the defaults on the validation examples."""
        task, examples = self.judge.task, self.judge.parts.validation
        found = self._place(best)
        ours = task.metrics(examples, predictions_in(found)) if _whole(found) else []
        names = {m.name: m for m in ours}
        higher = task.best in names and names[task.best].higher_is_better
        first = next((t.number for t in trials if t.defaults), best)
        usual = self._place(first)
        if first == best or not _whole(usual) or not ours:
            return task.best, higher, None
        ours.sort(key=lambda m: m.name != task.best)
        theirs = task.metrics(examples, predictions_in(usual))
        return task.best, higher, comparison("the defaults", ours, theirs)


def _is_defaults(trial: Any) -> bool:
    return bool(trial.user_attrs.get(DEFAULTS, trial.number == 0))


def _going_on(trial: Any, seconds: float) -> dict[str, Any]:
    """What is noted of a trial that takes up an interrupted one under another number."""
    seconds = max(seconds, trial.user_attrs.get(BEFORE, 0.0))
    return {GOES_ON: trial.number, DEFAULTS: _is_defaults(trial), BEFORE: seconds}


def _seconds_of(trial: Any) -> float:
    """Of a trial and of those that it went on from."""
    said = trial.user_attrs
    return float(said.get("seconds", 0.0) + said.get(BEFORE, 0.0))


def _whole(folder: Path) -> bool:
    return (folder / "validation.jsonl").is_file()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UnavailableError(
            "the search needs optuna, which is not installed", hint='pip install "hornbook[tune]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
