"""Verdicts on pairs of answers as figures: who wins, and what the judge can be trusted with.

A judge that looks at where an answer stands, or at how long it is, says little about which is
better (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", section 3.3):
so both orders are asked, a verdict that flips with them is a tie (section 3.4), and the biases
stand beside the win rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from hornbook.errors import DataError
from hornbook.evaluation.evaluate import with_intervals
from hornbook.records import AgreementRecord, JudgingRecord, MetricRecord, VerdictRecord, Winner
from hornbook.tasks.task import Metric

MANY_FLIPS = 0.4  # GPT-4 flips in a third of close pairs, GPT-3.5 in half (table 2)
OFTEN_LONGER = 0.8
FEW = 30  # pairs, of which no figure is worth much


def winner(a_first: float, b_first: float) -> Winner:
    """The verdict of two orders, each the probability that A is better: A or B where both say so.

    An even 0.5 is nobody's.
    """
    if a_first > 0.5 and b_first > 0.5:
        return "A"
    if a_first < 0.5 and b_first < 0.5:
        return "B"
    return "tie"


def judged(
    verdicts: Sequence[VerdictRecord],
    *,
    a: str = "A",
    b: str = "B",
    human: Mapping[str, Winner] | None = None,
) -> JudgingRecord:
    """The figures of verdicts by one judge. a, b: what the two are called. human: a person's
    verdicts, as `agreement` takes them. Raises DataError where there is no verdict, or a person
    judged none of these."""
    if not verdicts:
        raise DataError("there is no verdict", hint="Judge a pair at least.")
    counts = Counter(verdict.verdict for verdict in verdicts)
    figures = _figures(verdicts)
    found = JudgingRecord(
        a=a,
        b=b,
        by=verdicts[0].by,
        n_pairs=len(verdicts),
        wins=counts["A"],
        losses=counts["B"],
        ties=counts["tie"],
        figures=figures,
        favours=_favours(figures),
        agreement=None if human is None else agreement(verdicts, human),
        says="",
    )
    return found.model_copy(update={"says": says(found)})


def agreement(verdicts: Sequence[VerdictRecord], human: Mapping[str, Winner]) -> AgreementRecord:
    """The share of equal verdicts, and Cohen's kappa: how much of what chance leaves open is agreed
    on, (p - e) / (1 - e) with e the agreement of two who judge as often so, but by chance (Cohen
    1960, equation 1).

    human: by a verdict's key, which is of prompt, answers and criteria; by its prompt where no key
    is known. Raises DataError where nothing was judged by both.
    """
    theirs_on = [human.get(v.key) or human.get(v.prompt) for v in verdicts]
    both = [(v.verdict, said) for v, said in zip(verdicts, theirs_on, strict=True) if said]
    if not both:
        raise DataError(
            "the person judged none of these pairs",
            hint="What --ask wrote counts for the same answers, A and B alike, by the same "
            "--criteria; by hand: a line of prompt and verdict (A, B or tie) for each.",
        )
    n = len(both)
    share = sum(one == other for one, other in both) / n
    mine, theirs = Counter(one for one, _ in both), Counter(other for _, other in both)
    chance = sum(mine[side] * theirs[side] for side in mine) / n**2
    kappa = None if chance == 1 else (share - chance) / (1 - chance)
    return AgreementRecord(n_pairs=n, share=share, kappa=kappa)


def says(found: JudgingRecord) -> str:
    """The verdict, the judge's own faults first where they are large."""
    figures = {figure.name: figure for figure in found.figures}
    rate = figures["win_rate"]
    low, high = rate.low or 0.0, 1.0 if rate.high is None else rate.high
    sentences = []
    if (flips := figures.get("flips")) and (flips.value or 0) >= MANY_FLIPS:
        side = f", mostly for the answer shown {found.favours}" if found.favours else ""
        sentences.append(
            f"The verdict flips with the order in {flips.value:.0%} of pairs{side}: don't trust "
            "this judge here."
        )
    longer = figures.get("preferred_longer")
    if longer and (longer.value or 0) >= OFTEN_LONGER and (longer.low or 0) > 0.5:
        sentences.append(
            f"It prefers the longer answer in {longer.value:.0%} of the pairs it decides: length "
            "may be all it sees."
        )
    if low > 0.5 or high < 0.5:
        better, share = (found.a, rate.value) if low > 0.5 else (found.b, 1 - (rate.value or 0))
        sentences.append(f"{better} is preferred, with a win rate of {share:.0%}.")
    else:
        sentences.append("Which of the two is better can't be told from chance.")
    if found.n_pairs < FEW:
        sentences.append(f"{found.n_pairs} pairs are few.")
    return " ".join(sentences)


def _figures(verdicts: Sequence[VerdictRecord]) -> list[MetricRecord]:
    """Each a ratio of sums over prompts, so that a resample of prompts has it too."""
    rows = [
        ("win_rate", [({"A": 1.0, "tie": 0.5, "B": 0.0}[v.verdict], 1.0) for v in verdicts]),
        ("flips", [(float(v.flips), float(v.a_first is not None)) for v in verdicts]),
        ("chose_first", [_first(v) for v in verdicts]),
        ("preferred_longer", [_longer(v) for v in verdicts]),
    ]
    metrics = [
        Metric(name, np.array(pairs), of=_ratio, higher_is_better=name == "win_rate")
        for name, pairs in rows
        if sum(count for _, count in pairs)
    ]
    found = with_intervals(metrics)
    if all(verdict.verdict == "tie" for verdict in verdicts):  # every resample is alike then
        found[0] = found[0].model_copy(update={"low": None, "high": None})
    return found


def _first(verdict: VerdictRecord) -> tuple[float, float]:
    """How often the answer shown first was chosen, and of how many choices. Half is fair."""
    if verdict.a_first is not None and verdict.b_first is not None:
        return float(verdict.a_first > 0.5) + float(verdict.b_first < 0.5), 2.0
    if verdict.shown_first is None or verdict.verdict == "tie":
        return 0.0, 0.0
    return float(verdict.verdict == verdict.shown_first), 1.0


def _longer(verdict: VerdictRecord) -> tuple[float, float]:
    if verdict.verdict == "tie" or verdict.n_a == verdict.n_b:
        return 0.0, 0.0
    return float((verdict.verdict == "A") == (verdict.n_a > verdict.n_b)), 1.0


def _favours(figures: Sequence[MetricRecord]) -> Literal["first", "second", ""]:
    """Which place is chosen more often than the other, beyond chance."""
    first = next((figure for figure in figures if figure.name == "chose_first"), None)
    if first is None or first.low is None or first.high is None:
        return ""
    return "first" if first.low > 0.5 else "second" if first.high < 0.5 else ""


def _ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample without any is left out
        return sums[..., 0] / sums[..., 1]
