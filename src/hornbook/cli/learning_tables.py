"""What `hornbook finetune --curve` prints: the metric by the number of examples, and forecasts."""

from __future__ import annotations

from pathlib import Path

from hornbook.records import CurvePoint, LearningCurveRecord

_BAR = 32  # characters of the widest bar


def show_curve(record: LearningCurveRecord, folder: Path) -> None:
    """A line a size, forecasts below; then what may be said."""
    print(f"\n{record.metric} by training examples, on the same validation examples:")
    values = [p.metric.value or 0.0 for p in record.points] + [f.value for f in record.forecasts]
    lowest, highest = min(values), max(values)
    for point in record.points:
        metric = point.metric
        print(
            _line(f"{point.n_examples:,}", metric.value, metric.low, metric.high, lowest, highest)
        )
    for forecast in record.forecasts:
        print(
            _line(
                f"{forecast.n_examples:,}?",
                forecast.value,
                forecast.low,
                forecast.high,
                lowest,
                highest,
                mark="·",
            )
        )
    print(record.says)
    for note in record.notes:
        print(f"- {note}")
    print(f"curve {folder / 'learning_curve.json'}")


def point_line(point: CurvePoint) -> str:
    """A fit that has just ended, for standard error."""
    value = "–" if point.metric.value is None else f"{point.metric.value:.4f}"
    return (
        f"curve: {point.n_examples:,} examples, {point.steps:,} steps: {point.metric.name} {value}"
    )


def _line(
    size: str,
    value: float | None,
    low: float | None,
    high: float | None,
    lowest: float,
    highest: float,
    mark: str = "█",
) -> str:
    if value is None:
        return f"{size:>10}  –"
    share = (value - lowest) / ((highest - lowest) or 1.0)
    bar = mark * (1 + round(share * (_BAR - 1)))
    interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"{size:>10}  {value:.4f}  {interval:<16}  {bar}"
