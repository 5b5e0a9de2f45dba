"""Counts as evidence: against counting by hand, and what a fold may not see."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.counting import load_counting, save_counting
from hornbook.models import ngram
from hornbook.models.counting import bytes_of_counts, count
from hornbook.models.counting_gpt import CountingGPT, CountingGPTConfig
from hornbook.models.modern_gpt import ModernGPTConfig
from hornbook.nn.layout import Ragged

V = 5
TEXT = np.random.default_rng(0).integers(0, V, 300) * np.random.default_rng(1).integers(0, 2, 300)


def by_hand(place: int, order: int, n_folds: int) -> list[float]:
    """Kneser-Ney shares after TEXT[place], n-grams that end in the place's fold not counted."""
    fold = [i * n_folds // len(TEXT) for i in range(len(TEXT))]
    own = fold[place + 1]

    def counts(n: int, without: int | None) -> dict[tuple[int, ...], int]:
        ends = [e for e in range(n - 1, len(TEXT)) if fold[e] != without]
        grams = [tuple(TEXT[e - n + 1 : e + 1].tolist()) for e in ends]
        if n == order:
            return Counter(grams)
        longer = {tuple(TEXT[e - n : e + 1].tolist()) for e in ends if e >= n}
        lefts = Counter(gram[1:] for gram in longer)
        return {gram: max(1, lefts[gram]) for gram in grams}

    shares = [1 / V] * V
    for n in range(1, order + 1):
        context = tuple(TEXT[place + 2 - n : place + 1].tolist())
        discount = [0, *ngram.discounts(np.array(list(counts(n, None).values())))]
        found = counts(n, own)
        followed = [found.get((*context, v), 0) for v in range(V)]
        taken = [discount[min(c, 3)] for c in followed]
        if total := sum(followed):
            shares = [
                (c - d + sum(taken) * share) / total
                for c, d, share in zip(followed, taken, shares, strict=True)
            ]
    return shares


def test_shares_are_those_counted_by_hand_without_the_own_fold():
    places = np.array([5, 98, 99, 150, 298])
    for order in (2, 4):  # of the highest order counted
        shares = np.exp(count(TEXT, V, max_order=order, n_folds=3).evidence(places, [order]))
        for row, place in zip(shares[:, 0], places, strict=True):
            np.testing.assert_allclose(row, by_hand(place, order, 3), rtol=1e-5)
            assert row.sum() == pytest.approx(1, abs=1e-5)


def test_without_a_fold_left_out_they_are_the_referees():
    counted = count(TEXT, V, max_order=4)
    new = np.random.default_rng(2).integers(0, V, 80)
    entries = counted.counts.found(new, np.arange(len(new)))
    whole = np.full(len(new), counted.counts.whole)
    shares = np.exp(counted.counts.log_shares(entries, whole, orders=[4]))
    referee = ngram.fit(TEXT, V, 4, ngram.KNESER_NEY).probabilities(new)
    given = shares[np.arange(len(new) - 1), 0, new[1:]]
    np.testing.assert_allclose(given, referee[-1][1:], rtol=1e-5)


def test_a_context_ends_where_its_document_does():
    counts = count(TEXT, V, max_order=3).counts
    two = np.array([1, 0, 1, 0])
    entries = counts.found(two, np.array([0, 1, 0, 1]))
    assert (entries[1][[0, 2]] == -1).all(), "a bigram reached over a document's beginning"


@pytest.fixture
def model() -> CountingGPT:
    torch.manual_seed(0)
    trunk = ModernGPTConfig(
        vocab_size=V, context_length=16, n_layers=1, n_heads=1, d_model=16, d_ff=32
    )
    counted = count(TEXT, V, max_order=4)
    return CountingGPT(CountingGPTConfig(trunk, orders=(2, 3, 4)), counted.counts)


def test_before_its_first_step_it_is_as_good_as_the_counts(model):
    new = torch.from_numpy(np.random.default_rng(2).integers(0, V, 16))
    layout = Ragged([16], "cpu")
    logits = model.logits(model(new, layout))
    expected = model.evidence(new, layout)[:, -1]  # the longest order's
    torch.testing.assert_close(logits.log_softmax(-1), expected, atol=0.05, rtol=0)


def test_saved_and_opened_it_says_the_same(model, tmp_path):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_counting(tmp_path, model)
    tokens, layout = torch.from_numpy(TEXT[:16]), Ragged([16], "cpu")
    opened = load_counting(tmp_path)
    assert torch.equal(opened.logits(opened(tokens, layout)), model.logits(model(tokens, layout)))


def test_a_damaged_folder_is_refused(model, tmp_path):
    save_counting(tmp_path, model)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"n_levels": 4', '"n_levels": 3'))
    with pytest.raises(CheckpointError, match="do not fit"):
        load_counting(tmp_path)


def test_a_large_vocabulary_is_refused():
    config = CountingGPTConfig(ModernGPTConfig(vocab_size=8192, n_heads=1, d_model=8, d_ff=8))
    with pytest.raises(ConfigError, match="8,192"):
        CountingGPT(config, count(TEXT, V).counts)


def test_the_memory_of_counts_is_foreseen_from_a_beginning():
    text = np.random.default_rng(3).zipf(1.4, 40_000).clip(max=60) - 1
    counted = count(text, 60)
    arrays = [a for level in counted.counts.levels for a in vars(level).values()]
    held = sum(a.nbytes for a in [*arrays, *counted.entries])
    for n_first, close in ((40_000, 0.01), (10_000, 0.15)):
        kept, at_most = bytes_of_counts(text[:n_first], 60, n_tokens=len(text))
        assert kept == pytest.approx(held, rel=close) and at_most > kept
