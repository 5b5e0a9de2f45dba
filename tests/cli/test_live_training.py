"""What is shown of a running training: plain lines, and the moving view."""

from __future__ import annotations

import runpy
from pathlib import Path

from rich.console import Console

from hornbook.cli.live_training import TrainingView, spark, view
from hornbook.records import EvaluationRecord, StepRecord

TESTS = Path(__file__).parents[1]
fake = runpy.run_path(str(TESTS / "reports" / "fake_run.py"))
METRICS = fake["fake_metrics"](n_steps=100, every=50)
SUMMARY = fake["fake_run"](METRICS)


def follow(shown):
    shown.begin(SUMMARY.plan)
    for step in METRICS.steps:
        shown.hear(step)
    for evaluation in METRICS.evaluations:
        shown.hear_evaluation(evaluation)
    shown.end(SUMMARY)


def test_plain_lines_say_plan_steps_evaluations_and_end():
    lines = []
    follow(TrainingView(line=lines.append, every=0))
    text = "\n".join(lines)
    assert "2,692,032 parameters" in text
    assert "It fits" in text
    assert "step 100 of 2,000" in text
    assert "best so far" in text
    assert "sample: KING HENRY:" in text
    assert lines[-1].startswith("finished after")
    assert "planned" in lines[-1]


def test_lines_come_at_most_every_so_often():
    lines = []
    shown = TrainingView(line=lines.append, every=3600)
    for step in METRICS.steps:
        shown.hear(step)
    assert len(lines) == 1


def test_a_refused_step_is_said_at_once():
    lines = []
    shown = TrainingView(line=lines.append, every=3600)
    shown.hear(StepRecord(step=7, tokens=1, seconds=1, loss=float("nan"), lr=1, refused=True))
    assert lines[0] == "step 7: not finite, refused; the weights are as they were"
    assert shown.smooth_loss is None


def test_share_of_the_peak_and_time_left_follow_from_plan_and_step():
    shown = TrainingView()
    shown.begin(SUMMARY.plan)
    step = StepRecord(step=1, tokens=2_048_000, seconds=10, loss=2, lr=1, tokens_per_second=1000)
    shown.hear(step)
    assert shown.progress == 0.25
    assert shown.seconds_left == 30
    assert shown.share_of_peak == 1000 * SUMMARY.plan.flops_per_token / 8.28e11


def test_the_moving_view_can_be_drawn_at_every_stage():
    console = Console(width=90, force_terminal=True, record=True)
    shown = TrainingView()
    console.print(shown.render())
    follow(shown)
    shown.hear_evaluation(
        EvaluationRecord(step=101, tokens=1, seconds=1, validation_loss=None, sample="[red]\nbold")
    )
    console.print(shown.render())
    text = console.export_text()
    assert "validation" in text
    assert "[red] bold" in text


def test_many_losses_are_thinned_out():
    shown = TrainingView()
    for i in range(20_000):
        shown.hear(StepRecord(step=i, tokens=i, seconds=i, loss=20_000 - i, lr=1))
    assert len(shown.losses) < 4096
    assert shown.losses == sorted(shown.losses, reverse=True)


def test_a_spark_line_falls_with_its_values():
    assert spark([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert len(spark(list(range(1000)), 60)) == 60
    assert spark([1.0, 1.0], 60) == "▁▁"


def test_where_there_is_no_terminal_lines_go_to_standard_error(capsys):
    with view() as shown:
        follow(shown)
    out, err = capsys.readouterr()
    assert out == ""
    assert "finished after" in err
    with view(quiet=True) as shown:
        follow(shown)
    assert capsys.readouterr().err == ""
