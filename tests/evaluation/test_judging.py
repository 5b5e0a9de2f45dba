"""Verdicts as figures, worked by hand; what a judge can be trusted with stands in the sentence."""

from __future__ import annotations

import pytest

from hornbook.errors import DataError
from hornbook.evaluation.judging import agreement, judged, winner
from hornbook.records import VerdictRecord


def verdict(a_first: float, b_first: float, *, prompt: str = "", n_a: int = 5, n_b: int = 5):
    return VerdictRecord(
        key=prompt, by="judge", prompt=prompt, verdict=winner(a_first, b_first),
        a_first=a_first, b_first=b_first, n_a=n_a, n_b=n_b,
    )  # fmt: skip


def person(choice: str, shown_first: str, prompt: str = ""):
    return VerdictRecord(
        key=prompt, by="a person", prompt=prompt, verdict=choice, shown_first=shown_first
    )


A, B, FIRST, SECOND = (0.9, 0.8), (0.1, 0.3), (0.9, 0.1), (0.2, 0.7)


def value(record, name: str):
    return next((f.value for f in record.figures if f.name == name), None)


def test_only_both_orders_together_decide():
    assert [winner(*x) for x in (A, B, FIRST, SECOND)] == ["A", "B", "tie", "tie"]
    assert winner(0.5, 0.9) == winner(0.5, 0.1) == "tie"


def test_figures_by_hand():
    """3 A, 1 B, 4 for the first place: (3 + 4/2) / 8, 4 of 8 flip; the first place is chosen once
    of two in a decided pair, twice in FIRST: (4 + 8) / 16."""
    record = judged([verdict(*x) for x in (A, A, A, B, FIRST, FIRST, FIRST, FIRST)])
    assert (record.wins, record.losses, record.ties) == (3, 1, 4)
    assert value(record, "win_rate") == 5 / 8
    assert value(record, "flips") == 4 / 8
    assert value(record, "chose_first") == 12 / 16
    assert value(record, "preferred_longer") is None  # all are of one length
    rate = record.figures[0]
    assert 0 < rate.low < 5 / 8 < rate.high <= 1
    assert "8 pairs are few" in record.says


def test_length_counts_only_where_something_was_decided():
    """Of four decided pairs of unlike lengths three went to the longer; a tie and an equal don't
    count."""
    record = judged(
        [
            verdict(*A, n_a=9, n_b=5), verdict(*A, n_a=9, n_b=5), verdict(*B, n_a=1, n_b=5),
            verdict(*A, n_a=3, n_b=5), verdict(*FIRST, n_a=9), verdict(*A),
        ]
    )  # fmt: skip
    assert value(record, "preferred_longer") == 3 / 4


def test_a_judge_of_places_is_not_trusted():
    record = judged([verdict(*FIRST)] * 40 + [verdict(*A)] * 20)
    assert record.favours == "first" and value(record, "flips") == pytest.approx(2 / 3)
    assert record.says.startswith("The verdict flips with the order in 67% of pairs, mostly for "
                                  "the answer shown first: don't trust")  # fmt: skip
    other = judged([verdict(*SECOND)] * 40 + [verdict(*A)] * 20)
    assert other.favours == "second" and "shown second" in other.says


def test_ties_alone_promise_nothing():
    rate = judged([verdict(*FIRST)] * 40).figures[0]
    assert (rate.value, rate.low, rate.high) == (0.5, None, None)


def test_a_judge_of_lengths_is_named():
    record = judged([verdict(*A, n_a=9), verdict(*B, n_b=9)] * 20)
    assert "longer answer in 100%" in record.says and "can't be told from chance" in record.says


def test_who_is_preferred():
    better = judged([verdict(*A)] * 40, a="new", b="old")
    assert better.says == "new is preferred, with a win rate of 100%."
    assert better.figures[0].low < 1  # forty of forty don't promise the next one
    worse = judged([verdict(*B)] * 38 + [verdict(*A)] * 2, a="new", b="old")
    assert worse.says == "old is preferred, with a win rate of 95%."


def test_kappa_by_hand():
    """Cohen 1960: A/A 20, A/B 5, B/A 10, B/B 15 of 50: p = .7, e = .5 * .6 + .5 * .4, k = .4."""
    mine, human = [], {}
    for i, (one, other) in enumerate(
        [(A, "A")] * 20 + [(A, "B")] * 5 + [(B, "A")] * 10 + [(B, "B")] * 15
    ):
        mine.append(verdict(*one, prompt=str(i)))
        human[str(i)] = other
    found = agreement([*mine, verdict(*A, prompt="not judged by the person")], human)
    assert found.n_pairs == 50 and found.share == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    alike = agreement([verdict(*A, prompt="1")], {"1": "A"})
    assert alike.share == 1 and alike.kappa is None  # chance alone explains it
    with pytest.raises(DataError, match="none of these"):
        agreement(mine, {"another": "A"})


def test_a_person_sees_a_pair_once():
    record = judged([person("A", "A"), person("A", "B"), person("B", "B"), person("tie", "A")])
    assert value(record, "flips") is None
    assert value(record, "chose_first") == pytest.approx(2 / 3)
    assert value(record, "win_rate") == pytest.approx(2.5 / 4)


def test_nothing_is_no_verdict():
    with pytest.raises(DataError, match="no verdict"):
        judged([])
