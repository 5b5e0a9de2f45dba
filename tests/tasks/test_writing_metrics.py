"""Metrics of written texts equal what the libraries give for the whole corpus, and for any part."""

from __future__ import annotations

import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from hornbook.tasks.writing_metrics import bleu, chrf, rouge

WORDS = ["a", "the", "dog", "cats", "running", "runs,", "red", "blue.", "house", "houses", "sees;"]
WORDS += ["two", "men", "man's", "at", "night"]


def texts(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 14))) for _ in range(n)]


@pytest.fixture(scope="module")
def corpus():
    written, first, second = texts(40, 1), texts(40, 2), texts(40, 3)
    written[:5] = first[:5]  # some are right
    written[7], written[8] = "", "x"  # and some are nothing
    targets = [(a, b) if i % 3 else (a,) for i, (a, b) in enumerate(zip(first, second))]
    return written, targets


def streams(targets, rows):
    return [[targets[i][n] if n < len(targets[i]) else None for i in rows] for n in range(2)]


@pytest.mark.parametrize(("ours", "library"), [(bleu, BLEU), (chrf, CHRF)])
@pytest.mark.parametrize("rows", [range(40), [3, 3, 9, 20, 11], [8], [7], [12, 13]])
def test_sums_give_the_score_of_any_part(corpus, ours, library, rows):
    """Also of a part without a hit in some order, or with no words at all."""
    written, targets = corpus
    metric = ours(written, targets)
    expected = library().corpus_score([written[i] for i in rows], streams(targets, rows)).score
    assert float(metric.of(metric.statistics[list(rows)].sum(0))) == pytest.approx(expected)


def test_many_sums_at_once_are_each_by_itself(corpus):
    written, targets = corpus
    for metric in (bleu(written, targets), chrf(written, targets), *rouge(written, targets)):
        drawn = np.random.default_rng(0).integers(0, 40, (6, 40))
        sums = metric.statistics[drawn].sum(1)
        assert metric.of(sums).tolist() == pytest.approx([float(metric.of(s)) for s in sums])


def test_the_note_is_the_librarys_signature(corpus):
    written, targets = corpus
    library = BLEU()
    library.corpus_score(written, streams(targets, range(40)))
    assert bleu(written, targets).note == str(library.get_signature())
    assert "tok:13a" in bleu(written, targets).note
    assert chrf(written, targets).note.startswith("nrefs:var|case:mixed")


def test_rouge_is_the_mean_of_the_best_target(corpus):
    written, targets = corpus
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for metric in rouge(written, targets):
        best = [
            max(scorer.score(target, text)[metric.name].fmeasure for target in several)
            for text, several in zip(written, targets)
        ]
        assert metric.value == pytest.approx(np.mean(best))
    assert rouge(["running dogs"], [("a", "the dog runs")])[0].value == pytest.approx(0.8)
