"""What the curves of a run say: the pattern, the numbers it rests on, and what to try next.

`read_curves` asks of a run, in this order, and answers with the first that holds:

    too short       fewer than 3 evaluations, or 20 steps: nothing can be said
    divergence      steps were refused, or the loss rose far above its lowest and stayed there
    no learning     the loss has hardly left where guessing stands
    leak            validation is far below training, or far below what counting reaches while
                    training is not: the validation text has been seen
    overfitting     validation has turned upwards while training went on down, or has been left
                    far behind
    noisy           the loss jumps by more from step to step than it still falls
    still learning  the last quarter brought much: the run ended too early
    plateau         neither curve moved in the last third, and the learning rate was still high
    healthy         none of these

Losses are in nats per token. Thresholds are constants below, each with its reason.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hornbook.records import CurveReading, EvaluationRecord, Evidence, Metrics, Pattern

NOTICEABLE = 0.02  # of a loss: less is within what seeds and samples do to an evaluation
LEAK = 0.15  # of a loss: validation text is never this much easier than training text by chance
LEARNT = 0.05  # of what guessing costs: less than this gained is nothing learnt
GAP = 0.35  # of validation: a model that generalises is not this much better on what it has read
SPIKE = 1.25  # times the lowest smoothed loss: a curve that stays above this has come apart
JUMPY = 0.1  # of a loss: single steps of ordinary batches scatter by a few per cent
UNLIKE = 3.0  # times: what counts as more than noise, or as noise that hides what is learnt
FEWEST_EVALUATIONS, FEWEST_STEPS = 3, 20


@dataclass(frozen=True)
class Curves:
    """A run as read_curves sees it. guessing: ln V, the loss of the even guess, or None; counting:
    the best counting model's loss on the validation text, or None. train, validation: losses at
    the evaluations that have both; at: their steps. alike: whether the two losses compare."""

    steps: list[int]
    losses: list[float]
    rates: list[float]
    n_refused: int
    at: list[int]
    train: list[float]
    validation: list[float]
    guessing: float | None
    counting: float | None
    alike: bool = True


def read_curves(
    metrics: Metrics,
    *,
    vocab_size: int | None = None,
    counting: float | None = None,
    alike: bool = True,
) -> CurveReading:
    """Read a run's curves. counting: the n-gram referee's validation loss, nats per token.

    alike: False where training solves a harder task than validation, so that the two losses don't
    compare: a network on counts learns with a fold of them left out.
    """
    curves = replace(_curves(metrics, vocab_size, counting), alike=alike)
    if len(curves.validation) < FEWEST_EVALUATIONS and len(curves.losses) < FEWEST_STEPS:
        return CurveReading(
            pattern="too short",
            says=f"{len(curves.losses)} steps and {len(curves.validation)} evaluations are too few "
            "to read anything from.",
            advice=["Train longer, or evaluate more often."],
        )
    found = [reading for look in _LOOKS if (reading := look(curves)) is not None]
    first = found[0] if found else _healthy(curves)
    also: list[Pattern] = [reading.pattern for reading in found[1:]]
    return first.model_copy(update={"also": also})


def smoothed(losses: Sequence[float], window: int) -> list[float]:
    """Running medians over `window` values, shorter at both ends: a single spike leaves no mark."""
    half = window // 2
    return [statistics.median(losses[max(0, i - half) : i + half + 1]) for i in range(len(losses))]


def _curves(metrics: Metrics, vocab_size: int | None, counting: float | None) -> Curves:
    steps = [step for step in metrics.steps if step.loss is not None and not step.refused]
    evaluations = [e for e in metrics.evaluations if e.validation_loss is not None]
    return Curves(
        steps=[step.step for step in steps],
        losses=[step.loss or 0.0 for step in steps],
        rates=[step.lr for step in steps],
        n_refused=sum(step.refused or step.loss is None for step in metrics.steps)
        + sum(e.validation_loss is None for e in metrics.evaluations),
        at=[e.step for e in evaluations],
        train=[_train_loss(metrics, e) for e in evaluations],
        validation=[e.validation_loss or 0.0 for e in evaluations],
        guessing=math.log(vocab_size) if vocab_size else None,
        counting=counting,
    )


def _train_loss(metrics: Metrics, evaluation: EvaluationRecord) -> float:
    """As evaluated, else the mean of the twenty steps before; NaN where there are none."""
    if evaluation.train_loss is not None:
        return evaluation.train_loss
    before = [s.loss for s in metrics.steps if s.loss is not None and s.step <= evaluation.step]
    return statistics.fmean(before[-20:]) if before else math.nan


def _divergence(c: Curves) -> CurveReading | None:
    losses = _line(c)
    lowest = min(losses, default=math.inf)
    last = statistics.median(losses[-max(1, len(losses) // 20) :]) if losses else math.inf
    # Above its lowest by a quarter, by more than the noise of single steps, and by more than the
    # swing of a loss that is small already.
    least = max(0.1, UNLIKE * _scatter(c.losses[len(losses) // 2 :], losses[len(losses) // 2 :]))
    apart = bool(losses) and last > SPIKE * lowest and last - lowest > least
    apart = apart or (bool(losses) and last > SPIKE * (c.guessing or losses[0]))
    if not apart and c.n_refused < 2:
        return None
    evidence = [Evidence(name="steps refused", value=float(c.n_refused))]
    if losses:
        evidence += [
            Evidence(name="lowest training loss", value=lowest, unit="nats"),
            Evidence(name="at step", value=float(c.steps[losses.index(lowest)])),
            Evidence(name="last training loss", value=last, unit="nats"),
        ]
    says = (
        f"The training loss rose from {lowest:.3f} to {last:.3f} and stayed there."
        if apart
        else f"{c.n_refused} losses or gradients were not finite."
    )
    return CurveReading(
        pattern="divergence",
        says=says,
        evidence=evidence,
        advice=[
            "Divide the learning rate by three.",
            "Lengthen the warm-up, and clip gradients at 1.",
            "If it comes apart at once, look at the data: data peek shows what the model reads.",
        ],
    )


def _no_learning(c: Curves) -> CurveReading | None:
    final = c.validation[-1] if c.validation else statistics.fmean(c.losses[-10:])
    start = c.guessing or (c.losses[0] if c.losses else c.validation[0])
    gained = start - final
    if gained > LEARNT * start:
        return None
    return CurveReading(
        pattern="no learning",
        says=f"The loss is {final:.3f}; guessing evenly costs {start:.3f}.",
        evidence=[
            Evidence(name="loss at the end", value=final, unit="nats"),
            Evidence(name="even guess", value=start, unit="nats"),
            Evidence(name="gained", value=100 * gained / start, unit="%"),
        ],
        advice=[
            "Raise the learning rate tenfold; if it is already above 0.01, lower it tenfold.",
            "Check that one batch can be memorised (--sanity); if not, the fault is in the code "
            "or the data, not in the settings.",
            "Look at inputs and targets: data peek.",
        ],
    )


def _leak(c: Curves) -> CurveReading | None:
    if not c.validation or not c.alike:
        return None
    train, validation = c.train[-1], c.validation[-1]
    below_train = 1 - validation / train if train > 0 else 0.0
    under_counting = (
        1 - validation / c.counting if c.counting and train > c.counting * (1 - LEAK) else 0.0
    )
    if not (below_train > LEAK or (under_counting > 3 * LEAK and below_train > NOTICEABLE)):
        return None
    evidence = [
        Evidence(name="validation loss", value=validation, unit="nats"),
        Evidence(name="training loss", value=train, unit="nats"),
        Evidence(name="validation below training", value=100 * below_train, unit="%"),
    ]
    if c.counting:
        evidence.append(Evidence(name="counting model", value=c.counting, unit="nats"))
    return CurveReading(
        pattern="leak",
        says=f"Validation, at {validation:.3f}, is {below_train:.0%} below training, at "
        f"{train:.3f}: the text that is validated on has probably been learnt.",
        evidence=evidence,
        advice=[
            "Look for validation passages in the training text; divide by document, not by line.",
            "Remove duplicates before dividing.",
            "If training runs with dropout or masking, measure its loss without them: they alone "
            "can put it above validation.",
        ],
    )


def _overfitting(c: Curves) -> CurveReading | None:
    if len(c.validation) < FEWEST_EVALUATIONS:
        return None
    best = min(range(len(c.validation)), key=c.validation.__getitem__)
    rise = c.validation[-1] / c.validation[best] - 1
    train_fell = c.train[best] - c.train[-1]
    turned = rise > NOTICEABLE and train_fell > 0
    gap = c.validation[-1] - c.train[-1]
    third = c.validation[-1 - max(1, len(c.validation) // 3)]
    still = third - c.validation[-1] < 0.5 * GAP * gap
    by_heart = c.alike and gap > GAP * c.validation[-1] and still
    if not turned and not by_heart:
        return None
    says = (
        f"Validation was best at step {c.at[best]:,} ({c.validation[best]:.3f}) and has risen "
        f"by {rise:.0%} since, while training fell by {train_fell:.3f}."
        if turned
        else f"Validation stands at {c.validation[-1]:.3f} and hardly falls any more, {gap:.3f} "
        f"above training: the text is being learnt by heart."
    )
    return CurveReading(
        pattern="overfitting",
        says=says,
        evidence=[
            Evidence(name="best validation loss", value=c.validation[best], unit="nats"),
            Evidence(name="at step", value=float(c.at[best])),
            Evidence(name="last validation loss", value=c.validation[-1], unit="nats"),
            *([Evidence(name="gap to training", value=gap, unit="nats")] if c.alike else []),
        ],
        advice=[
            f"Use the best checkpoint, of step {c.at[best]:,}; stop there next time.",
            "More text is worth most; then dropout 0.1 to 0.3 and more weight decay.",
            "Or a smaller model: this one can learn its text by heart.",
        ],
    )


def _noisy(c: Curves) -> CurveReading | None:
    """Scatter of single steps around the smoothed curve, against its fall in the last half."""
    if len(c.losses) < 2 * FEWEST_STEPS:
        return None
    half = c.losses[len(c.losses) // 2 :]
    line = smoothed(half, max(5, len(half) // 10))
    scatter = _scatter(half, line)
    third = len(half) // 3
    fall = abs(statistics.fmean(half[:third]) - statistics.fmean(half[-third:]))
    level = statistics.fmean(half)
    if not (scatter > JUMPY * level and scatter > UNLIKE * fall):
        return None
    return CurveReading(
        pattern="noisy",
        says=f"From step to step the loss jumps by {scatter:.3f}, {scatter / level:.0%} of itself; "
        f"the second half of the run lowered it by {fall:.3f}.",
        evidence=[
            Evidence(name="jump from step to step", value=scatter, unit="nats"),
            Evidence(name="fall in the second half", value=fall, unit="nats"),
        ],
        advice=[
            "Make the batch four times as large (accumulate gradients where memory is short), "
            "or halve the learning rate.",
            "Let the learning rate fall to a tenth at the end: noise goes with it.",
        ],
    )


def _still_learning(c: Curves) -> CurveReading | None:
    gained = _gain(c.validation, 0.75) if len(c.validation) >= 4 else _gain(_line(c), 0.75)
    if gained is None or gained <= 2 * NOTICEABLE:
        return None
    return CurveReading(
        pattern="still learning",
        says=f"The last quarter of the run lowered the loss by {gained:.1%}: it ended too early.",
        evidence=[Evidence(name="fall in the last quarter", value=100 * gained, unit="%")],
        advice=[
            "Train twice as long with the same settings, or resume with more tokens.",
            "Where time is what is short: a higher learning rate, or a smaller model.",
        ],
    )


def _plateau(c: Curves) -> CurveReading | None:
    gained = _gain(c.validation, 0.67) if len(c.validation) >= 4 else _gain(_line(c), 0.67)
    if gained is None or abs(gained) >= NOTICEABLE / 4 or not c.rates:
        return None
    rate, peak = c.rates[-1], max(c.rates)
    if rate < 0.3 * peak:
        return None  # a schedule that has come down ends flat, as it should
    return CurveReading(
        pattern="plateau",
        says=f"The last third of the run changed the loss by {gained:.2%}, with the learning rate "
        f"still at {rate / peak:.0%} of its peak.",
        evidence=[
            Evidence(name="fall in the last third", value=100 * gained, unit="%"),
            Evidence(name="learning rate at the end", value=rate),
            Evidence(name="peak learning rate", value=peak),
        ],
        advice=[
            "Let the learning rate fall to a tenth: a curve that is flat at a high rate drops.",
            "If it stays flat, the model is full: more layers or more width.",
        ],
    )


def _healthy(c: Curves) -> CurveReading:
    values = c.validation or c.losses
    says = f"The loss fell from {values[0]:.3f} to {values[-1]:.3f}"
    evidence = [Evidence(name="loss at the end", value=values[-1], unit="nats")]
    advice = ["A larger model or more text is what would lower it further."]
    if not c.alike:
        says += ", on validation; training, which leaves a fold of the counts out, does not compare"
    elif c.validation:
        gap = c.validation[-1] - c.train[-1]
        says += f", with validation {abs(gap):.3f} {'above' if gap >= 0 else 'below'} training"
        evidence.append(Evidence(name="gap to training", value=gap, unit="nats"))
    if c.counting:
        ahead = c.counting - values[-1]
        evidence.append(Evidence(name="ahead of counting", value=ahead, unit="nats"))
        if ahead < 0:
            says += f"; counting reaches {c.counting:.3f}"
            advice.insert(0, "Counting is still better: train longer before anything else.")
    return CurveReading(pattern="healthy", says=says + ".", evidence=evidence, advice=advice)


def _line(c: Curves) -> list[float]:
    return smoothed(c.losses, max(5, len(c.losses) // 20))


def _scatter(losses: Sequence[float], line: Sequence[float]) -> float:
    """The median distance of single losses from their smoothed line."""
    return statistics.median(abs(a - b) for a, b in zip(losses, line, strict=True)) if line else 0.0


def _gain(values: Sequence[float], start: float) -> float | None:
    """By which share the values fell from the place `start` (0..1) to the end."""
    if len(values) < FEWEST_EVALUATIONS:
        return None
    first = values[min(len(values) - 2, int(start * len(values)))]
    return (first - values[-1]) / first if first > 0 else None


_LOOKS: tuple[Callable[[Curves], CurveReading | None], ...] = (
    _divergence,
    _no_learning,
    _leak,
    _overfitting,
    _noisy,
    _still_learning,
    _plateau,
)
