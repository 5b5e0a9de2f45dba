"""How right answers are: exact match and F1 as SQuAD 2.0's script has them (Rajpurkar et al. 2016,
section 6.1; 2018, section 5)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from hornbook.tasks.task import Metric

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Small letters, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: str) -> float:
    """1 when both are the same after `normalized`."""
    return float(normalized(answer) == normalized(right))


def overlap_f1(answer: str, right: str) -> float:
    """F1 of the words that both have in common; of no answer, 1 when both are none."""
    words, expected = normalized(answer).split(), normalized(right).split()
    if not words or not expected:
        return float(words == expected)
    n_common = sum((Counter(words) & Counter(expected)).values())
    return 2 * n_common / (len(words) + len(expected))


def answer_metrics(right: Sequence[Sequence[str]], answers: Sequence[str]) -> list[Metric]:
    """F1 and exact match; of several right answers the one that is nearest counts.

    right: none where a question has no answer: then only "" is right. Where some have none, F1 of
    both kinds too.
    """
    f1, exact = (
        np.array(
            [
                max(score(answer, each) for each in _counting(rights))
                for rights, answer in zip(right, answers, strict=True)
            ]
        )
        for score in (overlap_f1, exact_match)
    )
    found = [_mean("F1", f1, np.ones(len(f1))), _mean("exact match", exact, np.ones(len(f1)))]
    answered = np.array([bool(rights) for rights in right], float)
    if 0 < answered.sum() < len(answered):
        found.append(_mean("F1 with an answer", f1 * answered, answered))
        found.append(_mean("F1 without", f1 * (1 - answered), 1 - answered))
    return found


def _counting(rights: Sequence[str]) -> list[str]:
    """Those that are more than an article and a comma; "" where there is none."""
    return [right for right in rights if normalized(right)] or [""]


def _mean(name: str, scores: np.ndarray, counts: np.ndarray) -> Metric:
    def of(sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / np.maximum(sums[..., 1], 1)

    return Metric(name, np.stack([scores, counts], 1), of)
