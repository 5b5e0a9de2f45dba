"""When a run looks at its validation part."""

from __future__ import annotations

from types import SimpleNamespace

from hornbook.training import looks as module
from hornbook.training.looks import Looks


def due(looks, n_steps):
    """The steps, from 1, after which a look is due."""
    progress = SimpleNamespace(n_evaluations=0)
    return [i for i in range(1, n_steps + 1) if looks.is_due(i / n_steps, progress)]


def test_looks_are_spread_over_a_run():
    assert due(Looks(4, timed=False), 20) == [5, 10, 15, 20]
    assert due(Looks(20, timed=False), 4) == [1, 2, 3, 4]  # one a step at most
    assert due(Looks(0, timed=False), 10) == []


def test_those_before_a_resumption_are_counted():
    looks, progress = Looks(4, timed=False), SimpleNamespace(n_evaluations=2)
    assert [i for i in range(11, 21) if looks.is_due(i / 20, progress)] == [15, 20]


def test_a_timed_run_learns_ten_times_as_long_as_it_looks(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    looks, progress = Looks(100, timed=True), SimpleNamespace(n_evaluations=0)
    assert looks.is_due(0.01, progress)
    with looks.looking():
        now[0] += 2.0
    now[0] += 19.0
    assert not looks.is_due(0.05, progress)
    now[0] += 1.0
    assert looks.is_due(0.06, progress) and not looks.is_due(0.06, progress)
    unhurried = Looks(100, timed=False)
    with unhurried.looking():
        now[0] += 2.0
    assert unhurried.is_due(0.01, SimpleNamespace(n_evaluations=0))
