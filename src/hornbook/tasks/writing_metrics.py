"""Metrics of written texts: BLEU and chrF by sacreBLEU, ROUGE by rouge-score, as sums.

Those libraries count; what their counts add up to is computed here as they do, so that a resample
of the examples costs a sum and not another count. Letters in shapes: N examples; sums may have
further axes in front, (..., K).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from hornbook.tasks.task import Metric

ORDER = 4  # BLEU's longest n-grams, in words
CHARACTERS = 6  # chrF's longest n-grams
BETA = 2  # chrF weighs recall so much more than precision
ROUGES = ("rouge1", "rouge2", "rougeL")


def bleu(written: Sequence[str], targets: Sequence[Sequence[str]]) -> Metric:
    """sacreBLEU of texts (N) and the targets of each, 0 to 100: Papineni et al. 2002, Post 2018.

    Its tokenization (13a) and smoothing (exp) are sacreBLEU's defaults; the note is its signature.
    """
    from sacrebleu.metrics import BLEU

    rows, signature = _counted(BLEU(), written, targets)

    def of(sums: np.ndarray) -> np.ndarray:
        sums = np.asarray(sums, np.float64)
        n_written, n_target = sums[..., 0], sums[..., 1]
        right, total = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
        with np.errstate(divide="ignore", invalid="ignore"):
            # An order without a hit counts 1/2 hit, the next such 1/4: the "exp" of the signature.
            halves = 0.5 ** (right == 0).cumsum(-1)
            precision = np.where(right == 0, halves, right) / total
            short = np.where(n_written < n_target, np.exp(1 - n_target / n_written), 1.0)
            score = 100 * short * np.exp(np.log(precision).mean(-1))
        whole = (total > 0).all(-1) & right.any(-1)
        return np.where(whole, np.nan_to_num(score), 0.0)

    return Metric("bleu", rows, of=of, note=signature)


def chrf(written: Sequence[str], targets: Sequence[Sequence[str]]) -> Metric:
    """chrF2 of texts (N) and the targets of each, 0 to 100 (Popović 2015): F-score over n-grams of
    characters. Of several targets the one that scores best counts."""
    from sacrebleu.metrics import CHRF

    rows, signature = _counted(CHRF(char_order=CHARACTERS, beta=BETA), written, targets)

    def of(sums: np.ndarray) -> np.ndarray:
        triples = np.asarray(sums, np.float64).reshape(*np.shape(sums)[:-1], CHARACTERS, 3)
        given, wanted, right = (triples[..., i] for i in range(3))
        counted = (given > 0) & (wanted > 0)
        n = np.maximum(counted.sum(-1), 1)
        precision = np.where(counted, right / np.maximum(given, 1), 0).sum(-1) / n
        recall = np.where(counted, right / np.maximum(wanted, 1), 0).sum(-1) / n
        below = BETA**2 * precision + recall
        above = (1 + BETA**2) * precision * recall
        return 100 * np.divide(above, below, out=np.zeros_like(below), where=below > 0)

    return Metric("chrf", rows, of=of, note=signature)


def rouge(written: Sequence[str], targets: Sequence[Sequence[str]]) -> list[Metric]:
    """ROUGE-1, -2 and -L, F-scores from 0 to 1 (Lin 2004), words stemmed; the mean over texts.

    Of several targets the best counts, for each of the three (Cachola et al. 2020, section 4.1).
    """
    scorer = _rouge()
    scores = [scorer.score_multi(list(of), text) for text, of in zip(written, targets, strict=True)]
    return [
        Metric(
            name,
            np.array([[one[name].fmeasure, 1.0] for one in scores]).reshape(-1, 2),
            of=lambda s: s[..., 0] / np.maximum(s[..., 1], 1),
            note="rouge-score, stemmed, F",
        )
        for name in ROUGES
    ]


def _counted(
    library: Any, written: Sequence[str], targets: Sequence[Sequence[str]]
) -> tuple[np.ndarray, str]:
    """The statistics of each text, (N, K), and the library's signature of how it counted."""
    most = max((len(of) for of in targets), default=1)
    streams = [[of[i] if i < len(of) else None for of in targets] for i in range(most)]
    found = library._extract_corpus_statistics(list(written), streams)
    return np.array(found, np.float64), str(library.get_signature())


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(ROUGES, use_stemmer=True)
