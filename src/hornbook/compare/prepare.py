"""Before anything is fitted: read the data, divide it, audit it, write the plan down."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.compare.layout import StudyFolder
from hornbook.compare.settings import StudyPlan, StudySettings
from hornbook.compare.sources import Source, resolve
from hornbook.config import format_duration, parse_duration
from hornbook.data.examples import Example, TextDataset
from hornbook.errors import DataError
from hornbook.records import Audit, DatasetInfo
from hornbook.runs import environment, now, write_record
from hornbook.training.emissions import country

Rows = Iterable[tuple[str, Any]] | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Prepared:
    """A study that is ready to run.

    repeats: for each, the rows of the pool (train, then validation) to train on and validate on.
    groups: a number for each text of the pool, equal for near-duplicates.
    """

    plan: StudyPlan
    sources: list[Source]
    audit: Audit
    pool: list[Example]
    test: list[Example]
    repeats: list[tuple[list[int], list[int]]]
    groups: np.ndarray

    def write(self, folder: StudyFolder) -> None:
        """Write all that the workers need; study.json, which marks a study, comes last."""
        folder.write_data(self.pool, self.test, self.repeats, self.groups)
        write_record(folder.path / "audit.json", self.audit)
        write_record(folder.path / "study.json", self.plan)


def prepare(
    data: Any, settings: StudySettings, say: Callable[[str], None] = lambda stage: None
) -> Prepared:
    """Read, divide and audit. say: called with what is being done.

    Raises DataError, ConfigError or UnknownNameError for what the user can mend.
    """
    from hornbook.data.audit import audit
    from hornbook.data.splits import make_splits, validation_split
    from hornbook.data.store import fingerprint
    from hornbook.nn.precision import choose_precision

    settings = with_resolved_techniques(settings)  # first: a wrong name is told before any reading
    country()  # likewise a wrong one
    say(f"reading {settings.dataset}")
    dataset = dataset_from(data, settings)
    say(f"dividing {len(dataset.examples):,} texts")
    splits = make_splits(
        dataset,
        seed=settings.seed,
        test_share=settings.test_share,
        validation_share=settings.validation_share,
    )
    pool = splits.train + splits.validation
    n_train = len(splits.train)
    repeats = [(list(range(n_train)), list(range(n_train, len(pool))))]
    row = {id(example): i for i, example in enumerate(pool)}
    for k in range(1, settings.repeats):
        parts = validation_split(
            pool, settings.seed + k, settings.validation_share, group=splits.groups
        )
        train, validation = ([row[id(example)] for example in part] for part in parts)
        repeats.append((train, validation))
    say("auditing")
    found = audit(splits, multi_label=dataset.multi_label)
    precision = choose_precision()
    plan = StudyPlan(
        settings=settings,
        dataset=DatasetInfo(
            name=dataset.name,
            source=dataset.source,
            licence=dataset.licence,
            multi_label=dataset.multi_label,
            n_train=n_train,
            n_validation=len(splits.validation),
            n_test=len(splits.test),
            label_names=splits.label_names,
            sha256=fingerprint(splits.train, splits.validation, splits.test),
            notes=[*dataset.notes, *splits.notes],
        ),
        label_descriptions=dataset.label_descriptions,
        environment=environment(device=precision.device, precision=precision.dtype),
        command=command_of(settings),
        started=now(),
    )
    return Prepared(
        plan, resolve(settings.techniques), found, pool, splits.test, repeats, splits.groups
    )


def with_resolved_techniques(settings: StudySettings) -> StudySettings:
    """The settings with every technique named, in the order in which they run."""
    specs = tuple(source.spec for source in resolve(settings.techniques))
    return settings.model_copy(update={"techniques": specs})


def dataset_from(data: Any, settings: StudySettings) -> TextDataset:
    """The data set that `data` is or names.

    data: a name, a path, a TextDataset, a data frame, or rows: (text, label) pairs or dicts.
    """
    if isinstance(data, TextDataset):
        return data
    if isinstance(data, str | Path):
        from hornbook.data.open import open_dataset

        return open_dataset(
            str(data),
            text=settings.text,
            label=settings.label,
            title=settings.title,
            label_separator=settings.label_separator,
        )
    from hornbook.data.rows import Table
    from hornbook.data.tables import Columns, dataset_of

    rows = _rows(data)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table("the rows given", columns, rows, [f"row {i}" for i in range(len(rows))])
    pairs = not settings.text and columns == ["text", "label"]
    wanted = Columns(
        "text" if pairs else settings.text, "label" if pairs else settings.label, settings.title
    )
    return dataset_of(table, settings.dataset, wanted, settings.label_separator)


def _rows(data: Any) -> list[dict[str, Any]]:
    if hasattr(data, "columns") and hasattr(data, "to_dict"):  # a data frame, of whichever library
        found = data.to_dict("records") if hasattr(data, "iloc") else data.to_dicts()
        return [{str(k): _plain(v) for k, v in row.items()} for row in found]
    rows = []
    for number, row in enumerate(data):
        if isinstance(row, Mapping):
            rows.append({str(k): v for k, v in row.items()})
        elif isinstance(row, tuple | list) and len(row) == 2:
            rows.append({"text": row[0], "label": row[1]})
        else:
            raise DataError(
                f"row {number} is {row!r:.80}, neither a (text, label) pair nor a dict",
                hint="Give pairs, dicts, a data frame, a path or a data set's name.",
            )
    return rows


def _plain(value: Any) -> Any:
    """Lists for arrays: what a data frame read from parquet holds in a column of lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def command_of(settings: StudySettings) -> str:
    """The command that repeats the study."""
    defaults = StudySettings(dataset="")
    words = ["hornbook", "compare", settings.dataset]
    for name in ("text", "label", "title", "label_separator"):
        if value := getattr(settings, name):
            words += [f"--{name.replace('_', '-')}", value]
    specs = [source.spec for source in resolve(settings.techniques)]
    named = [spec for spec in specs if ".py:" not in spec]
    if specs != [source.spec for source in resolve(())]:
        if named:
            words += ["--techniques", ",".join(named)]
        for spec in specs:
            if spec not in named:
                words += ["--technique", spec]
    if settings.total is not None:
        words += ["--total", _exact(settings.total)]
    elif settings.budget != defaults.budget:
        words += ["--budget", _exact(settings.budget)]
    for name in ("repeats", "seed"):
        if getattr(settings, name) != getattr(defaults, name):
            words += [f"--{name}", str(getattr(settings, name))]
    return shlex.join(words)


def _exact(seconds: float) -> str:
    """The duration as a person writes it, where that is all of it; else in seconds."""
    written = format_duration(seconds).replace(" ", "")
    return written if parse_duration(written) == seconds else f"{seconds}s"
