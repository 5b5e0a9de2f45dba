"""Batches, probes and masks do what their docstrings say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hornbook.data.batching import by_length, endless_batches, epoch_batches
from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.layout import Ragged
from hornbook.tasks.classification import TextClassifier, class_targets, collate, loss_of, run_over
from hornbook.tasks.masked_lm import Masking
from hornbook.tasks.probe import fit_probe, folded, standardize


def test_run_over_keeps_the_documents_order():
    torch.manual_seed(0)
    trunk = Bert(BertConfig(50, 16, n_layers=1, n_heads=2, d_model=8, d_ff=16))
    model = TextClassifier(trunk, pool=Ragged.mean, d_model=8, n_labels=3).eval()
    documents = [[5] * n for n in (3, 9, 1, 4, 9, 2)]
    together = run_over(model, documents, tokens_per_batch=12)
    for document, row in zip(documents, together, strict=True):
        torch.testing.assert_close(run_over(model, [document])[0], row)


def test_collate_keeps_targets_with_their_documents():
    batch = collate([[1], [2, 2, 2], [3, 3]], torch.tensor([10, 20, 30]))
    assert batch.inputs.tolist() == [2, 2, 2, 3, 3, 1]
    assert batch.targets.tolist() == [20, 30, 10]


def test_pooling_by_hand():
    layout = Ragged([2, 2, 1])
    hidden = torch.tensor([[0.0], [2.0], [4.0], [8.0], [5.0]])
    assert layout.first(hidden).flatten().tolist() == [0, 4, 5]
    assert layout.last(hidden).flatten().tolist() == [2, 8, 5]
    assert layout.mean(hidden).flatten().tolist() == [1, 6, 5]
    assert layout.positions().tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("c", [0.05, 1.0])
def test_the_probe_finds_scikit_learns_optimum(c):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)).astype(np.float32)
    y = (x @ rng.normal(size=(6, 4)) + rng.normal(size=(200, 4))).argmax(1)
    ours = fit_probe(torch.from_numpy(x), torch.from_numpy(y), 4, c=c)
    theirs = LogisticRegression(C=c, tol=1e-8, max_iter=2000).fit(x, y)
    np.testing.assert_allclose(ours.weight.numpy(), theirs.coef_, atol=2e-3)

    several = np.stack([y == 0, y >= 2], axis=1)
    ours = fit_probe(torch.from_numpy(x), torch.from_numpy(several).float(), 2, c=c)
    for j in range(2):
        theirs = LogisticRegression(C=c, tol=1e-8, max_iter=2000).fit(x, several[:, j])
        np.testing.assert_allclose(ours.weight[j].numpy(), theirs.coef_[0], atol=2e-3)


def test_folding_a_probe_into_raw_features():
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(50, 5)
    standard, mean, std = standardize(x)
    layer = fit_probe(standard, torch.arange(50) % 3, 3, c=1.0)
    torch.testing.assert_close(folded(layer, mean, std)(x), layer(standard), atol=1e-4, rtol=1e-4)


def test_losses_count_targets():
    torch.manual_seed(0)
    trunk = Bert(BertConfig(50, 16, n_layers=1, n_heads=2, d_model=8, d_ff=16))
    model = TextClassifier(trunk, pool=Ragged.mean, d_model=8, n_labels=3)
    targets = np.array([[1, 0, 0], [0, 0, 1]], bool)
    for multi_label in (False, True):
        batch = collate([[1, 2], [3]], class_targets(targets, multi_label))
        loss = loss_of(model, batch)
        assert loss.n_targets == 2 and loss.total > 0


def test_every_document_once_an_epoch_and_no_batch_too_large():
    lengths = [1 + (7 * i) % 50 for i in range(300)]
    import random

    batches = epoch_batches(lengths, 120, random.Random(0))
    assert sorted(i for batch in batches for i in batch) == list(range(300))
    assert max(sum(lengths[i] for i in batch) for batch in batches) <= 120
    full = [sum(lengths[i] for i in batch) for batch in batches]
    assert np.mean(full) > 0.8 * 120
    assert [b for _, b in endless_batches(lengths, 120, 3, n_epochs=1)] == [
        b for _, b in endless_batches(lengths, 120, 3, n_epochs=1)
    ]


def test_documents_of_a_batch_are_alike_in_length():
    """What padding such a batch would waste stays under a tenth, though ours are not padded."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 257, size=2000).tolist()
    import random

    batches = epoch_batches(lengths, 2048, random.Random(0))
    real = sum(lengths)
    padded = sum(len(b) * max(lengths[i] for i in b) for b in batches)
    assert 1 - real / padded < 0.1
    assert by_length([500], 100) == [[0]]


def test_masking_hides_the_share_it_says():
    masking = Masking(mask_token=4, vocab_size=1000, n_specials=5)
    document = [2, *range(10, 400), 3]
    batch = masking.collate([document] * 40, torch.Generator().manual_seed(0))
    original = torch.tensor(document * 40)
    assert torch.equal(original[batch.places], batch.targets)
    share = len(batch.places) / len(original)
    assert 0.14 < share < 0.16
    hidden = batch.tokens[batch.places]
    assert 0.78 < (hidden == 4).float().mean() < 0.82
    assert 0.08 < (hidden == batch.targets).float().mean() < 0.12
    assert (batch.targets >= 5).all()
    untouched = torch.ones(len(original), dtype=torch.bool)
    untouched[batch.places] = False
    assert torch.equal(batch.tokens[untouched], original[untouched])
