"""What to do with a leaderboard, in two sentences: the cheapest of those that tie for the lead.

The floor, which reads no text, is advised only where it leads: that a few test texts cannot tell it
from the others is a reason for more test texts, not for always giving the same label.
"""

from __future__ import annotations

from collections.abc import Sequence

from hornbook.config import format_duration
from hornbook.records import LeaderboardRow

_NEURAL = (
    "zero-shot",
    "zero-shot-nli",
    "embed-knn",
    "embed-logreg",
    "lora",
    "finetune",
    "gpt-scratch",
    "bert-scratch",
)
_LINEAR = "tfidf-svm"
_FLOOR = "majority"


def recommend(leaderboard: Sequence[LeaderboardRow]) -> str | None:
    """The technique that is quickest to fit, then to answer, of those that tie with the leader."""
    return _cheapest(leaderboard).technique if leaderboard else None


def advise(leaderboard: Sequence[LeaderboardRow], n_techniques: int) -> str:
    """Two plain sentences with numbers on which technique to use, and what the others add.

    n_techniques: how many the study was asked to run, finished or not.
    """
    if not leaderboard:
        return (
            "No technique finished, so there is nothing to advise; the reasons stand beside each."
        )
    leader, *others = leaderboard
    tied = [row for row in leaderboard if row.ties_with_leader]
    chosen = _cheapest(leaderboard)
    numbers = (
        f"micro-F1 {chosen.micro_f1:.3f} (95 % interval {chosen.ci_low:.3f} to "
        f"{chosen.ci_high:.3f}), fitted in {format_duration(chosen.fit_seconds)}, "
        f"{_milliseconds(chosen.p50_ms)} a text"
    )
    if not others:
        if n_techniques == 1:
            return f"{chosen.technique} ran alone, with nothing to compare it with: {numbers}."
        return f"Only {chosen.technique} finished: {numbers}."
    if chosen.technique == _FLOOR:
        return (
            f"No technique beats {_FLOOR}, which reads no text: {numbers}. The texts are too few, "
            "or say little about their labels, or the budget is too small to learn from them."
        )
    use = f"Use {chosen.technique}: {numbers}"
    if len(tied) == 1:
        then = _ahead_of(others)
    elif chosen is leader:
        use += "; none scores higher" if _same(leader, tied[1]) else "; it leads"
        use += "" if _floor_ties(tied) else " and none that ties with it is cheaper"
        then = f"{_listed([row.technique for row in tied[1:]])} cannot be told apart from it"
    else:
        score = "the same" if _same(leader, chosen) else f"{leader.micro_f1:.3f}"
        chance = "" if _same(leader, chosen) else ", a lead that may be chance"
        then = f"{leader.technique} scores {score}{chance}{_dearer(leader, chosen)}"
    return f"{use}. {then}{_neural(leaderboard, then)}.{_warning(tied)}"


def _ahead_of(others: Sequence[LeaderboardRow]) -> str:
    if len(others) == 1:
        return f"It is ahead of {others[0].technique} ({others[0].micro_f1:.3f}) beyond chance"
    return (
        f"It is ahead of all others beyond chance; the next, {others[0].technique}, "
        f"reaches {others[0].micro_f1:.3f}"
    )


def _dearer(leader: LeaderboardRow, chosen: LeaderboardRow) -> str:
    """What the leader costs beside the cheaper one that ties with it."""
    fit = format_duration(leader.fit_seconds)
    if fit == format_duration(chosen.fit_seconds):
        return ", and takes as long to fit"
    joined = "and" if leader.p50_ms >= chosen.p50_ms else "though only"
    return f", but takes {fit} to fit {joined} {_milliseconds(leader.p50_ms)} a text"


def _same(one: LeaderboardRow, other: LeaderboardRow) -> bool:
    """Whether a reader sees the same score."""
    return f"{one.micro_f1:.3f}" == f"{other.micro_f1:.3f}"


def _cheapest(leaderboard: Sequence[LeaderboardRow]) -> LeaderboardRow:
    """The cheapest of those that tie with the leader, the floor left out unless it leads."""
    tied = [row for row in leaderboard if row.ties_with_leader]
    if _floor_ties(tied):
        tied = [row for row in tied if row.technique != _FLOOR]
    return min(tied, key=_cost)


def _floor_ties(tied: Sequence[LeaderboardRow]) -> bool:
    return any(row.technique == _FLOOR for row in tied[1:])


def _warning(tied: Sequence[LeaderboardRow]) -> str:
    """Say so when the test texts cannot tell the leader from the floor."""
    if not _floor_ties(tied):
        return ""
    return (
        f" Take none of it as certain: not even {_FLOOR}, which reads no text, can be told apart "
        "from the first; the test texts are too few, or say little about their labels."
    )


def _neural(leaderboard: Sequence[LeaderboardRow], said: str) -> str:
    """Say so when no neural technique beats the linear one. said: what stands before it."""
    by_name = {row.technique: row for row in leaderboard}
    neural = [by_name[name] for name in _NEURAL if name in by_name]
    if _LINEAR not in by_name or not neural:
        return ""
    best = max(neural, key=lambda row: row.micro_f1)
    linear = by_name[_LINEAR]
    if best.micro_f1 > linear.micro_f1:
        return ""
    if best.technique in said:
        return f"; no neural technique beats {_LINEAR} here"
    reached = "equals it" if _same(best, linear) else f"reaches {best.micro_f1:.3f}"
    return (
        f"; no neural technique beats {_LINEAR} ({linear.micro_f1:.3f}) here: the best of them, "
        f"{best.technique}, {reached}"
    )


def _cost(row: LeaderboardRow) -> tuple[float, float]:
    return row.fit_seconds, row.p50_ms


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
