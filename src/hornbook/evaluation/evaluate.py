"""How good a model is at a task, and how sure that is: any task's metrics with 95 % intervals.

Examples are drawn with replacement, and a metric is computed again on each draw from what its
examples add (`Metric.statistics`); nothing is predicted twice. The interval of a difference is of
the same draws for both models, so that what is hard for both cancels out (Efron and Tibshirani
1993; Koehn 2004). Its p-value is from exchanging what the two said, example by example, as often
as heads come up (Noreen 1989; Riezler and Maxwell 2005): with three examples on which they differ
no more can be said than three tosses of a coin say, which draws do not heed.

Letters in shapes: N examples, K statistics, R resamples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from hornbook.errors import DataError
from hornbook.evaluation.significance import RESAMPLES, draws, interval, paired_p_value
from hornbook.records import ComparisonRecord, DifferenceRecord, MetricRecord
from hornbook.tasks.task import Metric, Task

_AT_ONCE = 256  # exchanges held at a time
SURE = 0.05  # a difference with a smaller p-value is said to be one


@dataclass(frozen=True)
class Assessed:
    """predictions: one an example, plain data. metrics: the most important first."""

    predictions: list[Any]
    metrics: list[Metric]


def assess(
    model: nn.Module,
    task: Task,
    examples: Sequence[Any],
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Assessed:
    """Predict every example and measure. Raises DataError where there is none, or one is lost."""
    if not examples:
        raise DataError("there is no example to evaluate on", hint="Give data that hold some.")
    was_training = model.training
    model.eval()
    try:
        predictions = task.predict(model, task.items(examples), device=device, progress=progress)
    finally:
        model.train(was_training)
    if len(predictions) != len(examples):
        raise DataError(
            f"{len(predictions):,} predictions for {len(examples):,} examples",
            hint=f"A fault of the task '{task.name}': it owes one an example.",
        )
    return Assessed(predictions, task.metrics(examples, predictions))


def with_intervals(
    metrics: Sequence[Metric], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[MetricRecord]:
    """Each metric with its 95 % interval, in the order given."""
    samples = resampled(metrics, resamples=resamples, seed=seed)
    return [
        MetricRecord(
            name=metric.name,
            value=metric.value,
            low=low,
            high=high,
            n_examples=len(metric.statistics),
            higher_is_better=metric.higher_is_better,
        )
        for metric, found in zip(metrics, samples, strict=True)
        for low, high in [_bounds(found, metric)]
    ]


def compared(
    ours: Sequence[Metric],
    theirs: Sequence[Metric],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[DifferenceRecord]:
    """The metrics that both have, ours - theirs, paired by example.

    A metric whose statistics are not of the same columns gets its p-value from draws. Raises
    DataError where the two were not measured on as many examples, or share no metric.
    """
    other = {metric.name: metric for metric in theirs}
    pairs = [(metric, other[metric.name]) for metric in ours if metric.name in other]
    if not pairs:
        raise DataError(
            f"the two have no metric in common: {', '.join(m.name for m in ours)} and "
            f"{', '.join(other)}",
            hint="Compare runs of the same task.",
        )
    for a, b in pairs:
        if len(a.statistics) != len(b.statistics):
            raise DataError(
                f"{a.name} is of {len(a.statistics):,} examples here and of "
                f"{len(b.statistics):,} there",
                hint="A comparison is of the same examples.",
            )
    first = resampled([a for a, _ in pairs], resamples=resamples, seed=seed)
    second = resampled([b for _, b in pairs], resamples=resamples, seed=seed)
    return [
        _difference(a, b, x, y, _exchanged(a, b, resamples, seed))
        for (a, b), x, y in zip(pairs, first, second, strict=True)
    ]


def comparison(
    other: str, ours: Sequence[Metric], theirs: Sequence[Metric], *, seed: int = 0
) -> ComparisonRecord:
    """All differences, and what the first of them says."""
    found = compared(ours, theirs, seed=seed)
    return ComparisonRecord(other=other, differences=found, verdict=verdict(found[0], other))


def verdict(found: DifferenceRecord, other: str) -> str:
    """A sentence: better, worse, or not to be told apart on these examples."""
    if found.p_value is None or found.difference is None:
        return f"{found.name} has no number for one of the two."
    if found.p_value >= SURE:
        return (
            f"No difference in {found.name} can be told from chance here (p = {found.p_value:.3f})."
        )
    better = (found.difference > 0) == found.higher_is_better
    p = f"p = {found.p_value:.3f}" if found.p_value >= 0.001 else "p < 0.001"
    return f"{'Better' if better else 'Worse'} than {other} in {found.name}, beyond chance ({p})."


def resampled(
    metrics: Sequence[Metric], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[np.ndarray]:
    """Each metric on R draws of its N examples: (R,) each. Equal N and seed are equal draws."""
    found = [np.empty(resamples) for _ in metrics]
    for n in {len(metric.statistics) for metric in metrics}:
        start = 0
        for weights in draws(n, resamples=resamples, seed=seed):  # (rows, N)
            for metric, samples in zip(metrics, found, strict=True):
                if len(metric.statistics) == n:
                    samples[start : start + len(weights)] = _on(metric, weights)
            start += len(weights)
    return found


def hash_of(examples: Sequence[Any]) -> str:
    """SHA-256 of examples, whatever dataclasses and plain data they are of."""
    digest = hashlib.sha256()
    for example in examples:
        line = json.dumps(example, default=_plain, sort_keys=True, ensure_ascii=False)
        digest.update(line.encode("utf-8", errors="surrogatepass") + b"\n")
    return digest.hexdigest()


def _on(metric: Metric, weights: np.ndarray) -> np.ndarray:
    """A metric on some draws (rows, N): (rows,)."""
    if metric.of_rows is not None:
        each = np.arange(len(metric.statistics))
        drawn = (np.repeat(each, row.astype(int)) for row in weights)
        return np.array([metric.of_rows(metric.statistics[rows]) for rows in drawn])
    assert metric.of is not None, "a metric needs `of` or `of_rows`"
    return np.asarray(metric.of(weights.astype(np.float64) @ metric.statistics), dtype=float)


def _bounds(samples: np.ndarray, metric: Metric) -> tuple[float | None, float | None]:
    """The percentile interval; of a perfect or a hopeless score what so many examples allow.

    Where every example is right, so is every resample: an interval of width 0 would claim that the
    next example is right too. There the exact interval of a share takes its place (Clopper and
    Pearson 1934, which for 0 failures has its end at 0.025 ** (1 / N)), N the examples that add
    anything: of a rare label's F1 those that have it or were given it.
    """
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return None, None
    low, high = interval(samples)
    if low == high and low in (0.0, 1.0):
        n = int((metric.statistics != 0).any(axis=1).sum())
        if not n:
            return None, None
        least = 0.025 ** (1 / n)
        return (least, 1.0) if high == 1.0 else (0.0, 1 - least)
    return low, high


def _exchanged(a: Metric, b: Metric, resamples: int, seed: int) -> float | None:
    """Two-sided p-value: how often exchanging at random parts the two as far; None where what they
    count is not the same. One is added to both counts, so that it is never 0."""
    if a.statistics.shape[1:] != b.statistics.shape[1:]:
        return None
    found = a.value - b.value
    if not math.isfinite(found):
        return None
    apart = b.statistics - a.statistics
    rows = np.flatnonzero((apart != 0).any(1))  # elsewhere there is nothing to exchange
    rng = np.random.default_rng(seed)
    as_far = n = 0
    for start in range(0, resamples, _AT_ONCE):
        heads = rng.random((min(_AT_ONCE, resamples - start), len(rows))) < 0.5
        for difference in _with_exchanged(a, b, apart, rows, heads):
            if math.isfinite(difference):
                n += 1
                as_far += abs(difference) >= abs(found) - 1e-12
    return (as_far + 1) / (n + 1)


def _with_exchanged(
    a: Metric, b: Metric, apart: np.ndarray, rows: np.ndarray, heads: np.ndarray
) -> np.ndarray:
    """The difference of the two metrics when rows are exchanged where heads (R, M) came up."""
    if a.of is not None and b.of is not None:
        moved = heads.astype(float) @ apart[rows]  # (R, K)
        ours = a.of(a.statistics.sum(0) + moved)
        theirs = b.of(b.statistics.sum(0) - moved)
        return np.asarray(ours - theirs, float)
    differences = []
    for row in heads:
        ours, theirs = a.statistics.copy(), b.statistics.copy()
        these = rows[row]
        ours[these], theirs[these] = b.statistics[these], a.statistics[these]
        assert a.of_rows is not None and b.of_rows is not None, "both are sums, or neither is"
        differences.append(a.of_rows(ours) - b.of_rows(theirs))
    return np.array(differences)


def _difference(
    a: Metric, b: Metric, x: np.ndarray, y: np.ndarray, exchanged: float | None
) -> DifferenceRecord:
    both = np.isfinite(x) & np.isfinite(y)
    low, high = interval(x[both] - y[both]) if both.any() else (None, None)
    p_value = exchanged
    if p_value is None and both.any() and math.isfinite(a.value) and math.isfinite(b.value):
        p_value = paired_p_value(x[both], y[both])
    return DifferenceRecord(
        name=a.name,
        ours=a.value,
        theirs=b.value,
        difference=a.value - b.value,
        low=low,
        high=high,
        p_value=p_value,
        higher_is_better=a.higher_is_better,
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
