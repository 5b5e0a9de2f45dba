"""What to do with a leaderboard, in two sentences: the cheapest of those that tie for the lead."""

from __future__ import annotations

from collections.abc import Sequence

from hornbook.config import format_duration
from hornbook.records import LeaderboardRow

_NEURAL = (
    "zero-shot",
    "embed-knn",
    "embed-logreg",
    "lora",
    "finetune",
    "gpt-scratch",
    "bert-scratch",
)
_LINEAR = "tfidf-svm"


def recommend(leaderboard: Sequence[LeaderboardRow]) -> str | None:
    """The technique that is quickest to fit, then to answer, of those that tie with the leader."""
    tied = [row for row in leaderboard if row.ties_with_leader]
    return min(tied, key=_cost).technique if tied else None


def advise(leaderboard: Sequence[LeaderboardRow]) -> str:
    """Two plain sentences with numbers on which technique to use, and what the others add."""
    if not leaderboard:
        return (
            "No technique finished, so there is nothing to advise; the reasons stand beside each."
        )
    leader = leaderboard[0]
    tied = [row for row in leaderboard if row.ties_with_leader]
    chosen = min(tied, key=_cost)
    numbers = (
        f"micro-F1 {chosen.micro_f1:.3f} (95 % interval {chosen.ci_low:.3f} to "
        f"{chosen.ci_high:.3f}), fitted in {format_duration(chosen.fit_seconds)}, "
        f"{_milliseconds(chosen.p50_ms)} a text"
    )
    if len(leaderboard) == 1:
        return f"Only {chosen.technique} finished: {numbers}."
    if len(tied) == 1:
        second = leaderboard[1]
        first = f"Use {chosen.technique}: {numbers}."
        then = (
            f"It is ahead of all others beyond chance; the next, {second.technique}, "
            f"reaches {second.micro_f1:.3f}"
        )
    elif chosen is leader:
        first = (
            f"Use {chosen.technique}: {numbers}; it leads and is the cheapest of those that tie."
        )
        then = f"{_listed([row.technique for row in tied[1:]])} cannot be told apart from it"
    else:
        first = f"Use {chosen.technique}: {numbers}."
        then = (
            f"{leader.technique} scores {leader.micro_f1:.3f}, a lead that may be chance, but "
            f"takes {format_duration(leader.fit_seconds)} to fit and "
            f"{_milliseconds(leader.p50_ms)} a text"
        )
    return f"{first} {then}{_neural(leaderboard)}."


def _neural(leaderboard: Sequence[LeaderboardRow]) -> str:
    """Say so when no neural technique reaches the linear one."""
    by_name = {row.technique: row for row in leaderboard}
    neural = [by_name[name] for name in _NEURAL if name in by_name]
    if _LINEAR not in by_name or not neural:
        return ""
    best = max(neural, key=lambda row: row.micro_f1)
    linear = by_name[_LINEAR]
    if best.micro_f1 > linear.micro_f1:
        return ""
    return (
        f"; no neural technique beats {_LINEAR} ({linear.micro_f1:.3f}) here: the best of them, "
        f"{best.technique}, reaches {best.micro_f1:.3f}"
    )


def _cost(row: LeaderboardRow) -> tuple[float, float]:
    return row.fit_seconds, row.p50_ms


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
