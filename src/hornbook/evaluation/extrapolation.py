"""What more labels would bring: a power law through a metric at several sizes of training data.

    metric(n) = ceiling - slope * n ** -exponent       (Hestness et al. 2017; Viering & Loog 2023)

Fitted by least squares, and fitted again to each of the resamples that gave the points their
intervals, so that the forecast carries the same uncertainty. It is made for two and four times the
data and no more, and refused where the points don't support it.

Letters in shapes: P sizes, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hornbook.evaluation.significance import interval
from hornbook.records import CurvePoint, Forecast, LearningCurveRecord

EXPONENTS = np.linspace(0.05, 2.0, 80)  # found in practice: 0.07 to 0.5, higher where it is easy
AHEAD = (2, 4)  # times the data there are: further on, curves of 5 points are guesses
FEWEST = 4  # points, for a law with three numbers
NOTHING = 0.002  # of a metric: nobody labels for that


@dataclass(frozen=True)
class Law:
    """Of each of R fits: ceiling, slope and exponent, all (R,)."""

    ceiling: np.ndarray
    slope: np.ndarray
    exponent: np.ndarray

    def at(self, n: float) -> np.ndarray:
        return self.ceiling - self.slope * n**-self.exponent


def read_curve(
    points: Sequence[CurvePoint], samples: Sequence[np.ndarray], *, notes: Sequence[str] = ()
) -> LearningCurveRecord:
    """A curve in words, with what twice and four times the data would bring, or why not.

    points: by size, ascending. samples: (R,) of each point, the metric on the same resamples.
    """
    metric = points[-1].metric
    up = 1.0 if metric.higher_is_better else -1.0
    sizes = np.array([point.n_examples for point in points], float)
    found = [np.nan if p.metric.value is None else p.metric.value for p in points]  # 0 is a number
    values = np.stack([np.array(found), *np.stack(samples, 1)])
    finite = np.isfinite(values).all(1)

    def refused(why: str) -> LearningCurveRecord:
        return LearningCurveRecord(
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            points=list(points),
            refusal=why,
            says=why,
            notes=list(notes),
        )

    if len(points) < FEWEST or not finite[0] or finite.sum() < 100:
        return refused(f"{len(points)} sizes with a number are too few to foresee anything from.")
    values = up * values[finite]
    whole = values[1:, -1] - values[1:, 0]
    if interval(whole)[0] <= 0:
        return refused(
            f"{metric.name} did not rise beyond chance from {points[0].n_examples:,} to "
            f"{points[-1].n_examples:,} examples: these points say nothing of what more would "
            "bring. A larger validation part would tell smaller differences apart."
        )
    shares = 0 <= (metric.value or 0.0) <= 1 and metric.higher_is_better
    law = fit(sizes, values, most=1.0 if shares else None)
    halves = np.array([np.subtract(*interval(x)[::-1]) / 2 for x in values[1:].T])
    missed = np.abs(np.stack([law.at(n)[0] for n in sizes]) - values[0])
    if (missed > halves).any():
        return refused(
            f"{metric.name} does not rise along a power law here (it misses a point by "
            f"{missed.max():.3f}), so none is followed. Small parts may have been too small to "
            "learn from: more epochs, or more data."
        )
    n = points[-1].n_examples
    forecasts = [_forecast(law, n, times, values[:, -1], up, shares) for times in AHEAD]
    return LearningCurveRecord(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        points=list(points),
        ceiling=up * float(law.ceiling[0]),
        slope=float(law.slope[0]),
        exponent=float(law.exponent[0]),
        forecasts=forecasts,
        says=_says(metric.name, forecasts[0]),
        notes=list(notes),
    )


def fit(sizes: np.ndarray, values: np.ndarray, *, most: float | None) -> Law:
    """Least squares of R curves (R, P) that rise with sizes (P,): exponents are tried, the rest
    solved. most: what a ceiling can't exceed."""
    best = np.full(len(values), np.inf)
    law = Law(*(np.zeros(len(values)) for _ in range(3)))
    for exponent in EXPONENTS:
        x = sizes**-exponent
        slope, ceiling = _line(x, values)
        if most is not None:
            over = ceiling > most
            through = ((most - values) * x).sum(1) / (x * x).sum()
            ceiling = np.where(over, most, ceiling)
            slope = np.where(over, through, slope)
        falls = slope < 0  # the curve of this resample does not rise: it is flat at its mean
        slope = np.where(falls, 0.0, slope)
        ceiling = np.where(falls, values.mean(1), ceiling)
        error = ((ceiling[:, None] - slope[:, None] * x - values) ** 2).sum(1)
        better = error < best
        best[better] = error[better]
        law.ceiling[better], law.slope[better] = ceiling[better], slope[better]
        law.exponent[better] = exponent
    return law


def _line(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope downwards and height at 0 of the lines through (x, values), one a row."""
    centred = x - x.mean()
    slope = -(values @ centred) / (centred @ centred)
    return slope, values.mean(1) + slope * x.mean()


def _forecast(
    law: Law, n: int, times: int, measured: np.ndarray, up: float, shares: bool
) -> Forecast:
    """From what was measured with n examples on, (1 + R,), along the law of each resample."""
    gains = law.at(times * n) - law.at(n)
    values = np.minimum(measured + gains, 1.0) if shares else measured + gains
    gains = values - measured
    ends = sorted(up * end for end in interval(values[1:]))
    gain_low, gain_high = interval(gains[1:])
    return Forecast(
        n_examples=times * n,
        value=up * float(values[0]),
        low=min(ends[0], up * float(values[0])),
        high=max(ends[1], up * float(values[0])),
        gain=float(gains[0]),
        gain_low=min(gain_low, float(gains[0])),
        gain_high=max(gain_high, float(gains[0])),
    )


def _says(name: str, found: Forecast) -> str:
    """What twice the labels would bring, in words."""
    to = f"{found.gain_low:.3f} to {found.gain_high:.3f}"
    if found.gain_high < NOTHING:
        return (
            f"Twice the labels would bring next to nothing in {name} ({to}): it has levelled off."
        )
    return (
        f"Twice the labels ({found.n_examples:,}) would improve {name} by about {found.gain:.3f} "
        f"({to}), to {found.value:.3f}, if the curve goes on as it went."
    )
