"""Listeners: lines survive a kill, patience ends, the best is kept."""

from __future__ import annotations

import math

from hornbook.records import EvaluationRecord, Metrics, StepRecord
from hornbook.training.listeners import All, EarlyStop, Lines, WhenBest


def _step(number):
    return StepRecord(step=number, tokens=number, seconds=1.0, loss=2.0, lr=0.1)


def _evaluation(step, loss):
    return EvaluationRecord(step=step, tokens=step, seconds=1.0, validation_loss=loss)


def test_lines_are_there_at_once_and_a_torn_one_goes(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    lines = Lines(path)
    lines.hear(_step(1))
    lines.hear_evaluation(_evaluation(1, 3.0))
    assert path.read_text().count("\n") == 2
    with path.open("a") as file:
        file.write('{"kind": "step", "st')
    Lines(path).hear(_step(2))
    metrics = Metrics.from_lines(path.read_text())
    assert [s.step for s in metrics.steps] == [1, 2] and len(metrics.evaluations) == 1


def test_patience_counts_evaluations_since_the_best():
    reasons = []
    stop = EarlyStop(2, reasons.append, at_least=0.1)
    for step, loss in enumerate([3.0, 2.0, 2.5, 1.5, 1.45, math.nan, 1.0]):
        stop.hear_evaluation(_evaluation(step, loss))
        assert len(reasons) == (step >= 5)
    assert "since step 3 (1.5)" in reasons[0]


def test_the_best_is_told_and_all_are_told_in_order():
    best, told = [], []
    listener = All(
        [WhenBest(lambda e: best.append(e.step)), WhenBest(lambda e: told.append("second"))]
    )
    for step, loss in enumerate([3.0, math.nan, 2.0, 2.0, 1.0]):
        listener.hear(_step(step))
        listener.hear_evaluation(_evaluation(step, loss))
    assert best == [0, 2, 4] and told == ["second"] * 3
