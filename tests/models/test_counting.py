"""Counting models: worked by hand, true distributions, the published figures, and the bigram that
gradients bring to the same place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hornbook.errors import CheckpointError, ConfigError, DataError
from hornbook.interop.counts import load_ngram, save_ngram
from hornbook.interop.huggingface import read_weights, write_weights
from hornbook.models.bigram import Bigram, BigramConfig, from_counts
from hornbook.models.ngram import KNESER_NEY, WITTEN_BELL, fit
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import cross_entropy_sum

SMOOTHINGS = pytest.mark.parametrize("smoothing", [WITTEN_BELL, KNESER_NEY], ids=["wb", "kn"])


def noise(n: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    """Tokens that depend on the one before: some pairs are common, some never occur."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([1, 2, 5], size=n, p=[0.6, 0.3, 0.1])
    return np.cumsum(steps * rng.integers(0, 2, n)) % vocab_size


def test_witten_bell_by_hand():
    """Text a b a a, V = 2. Level 1: a 3 times, b once: c = 4, d = 2, backed off 2/6 of 1/2.

    P(a) = 3/6 + 1/6 = 2/3, P(b) = 1/6 + 1/6 = 1/3. After a came b once and a once: c = 2, d = 2:
    P(a | a) = 1/4 + 2/4 * 2/3 = 7/12. After b came a: c = 1, d = 1: P(a | b) = 1/2 + 1/2 * 2/3.
    """
    model = fit([0, 1, 0, 0], vocab_size=2, max_order=2)
    after_a, after_b, after_nothing = model.next([[0], [1], [-1]])
    assert after_nothing == pytest.approx([2 / 3, 1 / 3])
    assert after_a == pytest.approx([7 / 12, 5 / 12])
    assert after_b == pytest.approx([5 / 6, 1 / 6])
    assert model.probabilities([1, 0, 0])[1] == pytest.approx([1 / 3, 5 / 6, 7 / 12])


def test_kneser_ney_counts_what_stands_before():
    """'0 1' occurs 40 times, and 1 after 0 only; 2 stands after many. So after a token that was
    never continued, 2 is likelier than 1, although 1 is far more frequent."""
    text = [0, 1] * 40 + [3, 2, 4, 2, 5, 2, 6, 2, 7, 2, 8]
    kneser_ney = fit(text, 10, 2, KNESER_NEY).next([[9]])[0]
    witten_bell = fit(text, 10, 2, WITTEN_BELL).next([[9]])[0]
    assert kneser_ney[2] > kneser_ney[1]
    assert witten_bell[1] > witten_bell[2]


@SMOOTHINGS
def test_it_is_a_distribution_and_both_ways_of_asking_agree(smoothing):
    model = fit(noise(3000, 17), 17, 5, smoothing)
    text = noise(400, 17, seed=1)
    contexts = np.stack([np.append(np.full(4, -1), text)[i : i + 4] for i in range(len(text))])
    told = model.next(contexts)
    np.testing.assert_allclose(told.sum(1), 1, atol=1e-6)
    assert (told > 0).all()
    expected = model.probabilities(text)[-1]
    np.testing.assert_allclose(told[np.arange(len(text)), text], expected, rtol=1e-5)


def test_longer_contexts_than_it_counted_are_not_read():
    model = fit(noise(500, 9), 9, 3)
    assert np.array_equal(model.next([[8, 8, 8, 1, 2]]), model.next([[1, 2]]))
    assert np.array_equal(model.next([[1, -1, 2]]), model.next([[-1, 2]]))


@SMOOTHINGS
def test_short_texts(smoothing):
    assert len(fit([3], 5, 8, smoothing).levels) == 1
    model = fit([3, 3, 4], 5, 8, smoothing)  # the last trigram has no continuation
    assert len(model.levels) == 3
    np.testing.assert_allclose(model.next([[3, 4], [4, 3], [3, 3]]).sum(1), 1, atol=1e-6)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(DataError, match="no token"):
        fit([], 5)
    with pytest.raises(DataError, match="id 5; the vocabulary has 5"):
        fit([0, 5], 5)
    with pytest.raises(ConfigError, match="max_order is 0"):
        fit([0], 5, 0)


def test_saved_then_loaded(tmp_path):
    model = fit(noise(500, 9), 9, 4, KNESER_NEY)
    save_ngram(tmp_path, model)
    text = noise(100, 9, seed=2)
    assert np.array_equal(load_ngram(tmp_path).probabilities(text), model.probabilities(text))
    weights = read_weights(tmp_path / "model.safetensors")
    weights["3.codes"] = weights["3.codes"].flip(0)
    write_weights(tmp_path / "model.safetensors", weights)
    with pytest.raises(CheckpointError, match="do not fit together"):
        load_ngram(tmp_path)


CORPORA = {
    "tinyshakespeare": (0.9, [3.347, 2.486, 2.049, 1.774, 1.669, 1.698, 1.779, 1.876], 1.517),
    "sherlock": (0.8, [3.094, 2.414, 1.923, 1.593, 1.460, 1.466, 1.533, 1.622], 1.352),
}


@pytest.mark.parametrize("name", CORPORA)
def test_the_figures(data_folder, name):
    """Nats a character over the whole validation text; Kneser-Ney is best at order 7."""
    share, figures, best = CORPORA[name]
    if name == "sherlock":
        path = data_folder / "sherlock_holmes/pg1661.txt"
        body = path.read_text(encoding="utf-8-sig").partition("*** START OF")[2]
        text = body.partition("\n")[2].partition("*** END OF")[0].strip() + "\n"
    else:
        text = (data_folder / "tinyshakespeare/input.txt").read_text(encoding="utf-8")
    _, tokens = np.unique(np.array(list(text)), return_inverse=True)
    cut = int(share * len(tokens))
    model = fit(tokens[:cut], tokens.max() + 1, 8)
    np.testing.assert_allclose(model.losses(tokens[cut:]), figures, atol=6e-4)
    kneser_ney = fit(tokens[:cut], tokens.max() + 1, 7, KNESER_NEY)
    assert kneser_ney.losses(tokens[cut:])[-1] == pytest.approx(best, abs=6e-4)


def test_the_counted_bigram_and_the_bigram_as_a_table_are_one_model():
    tokens = noise(2000, 11)
    model = from_counts(tokens, 11)
    text = torch.from_numpy(noise(300, 11, seed=1))
    logits = model.logits(model(text[:-1], Ragged([299])))
    loss = cross_entropy_sum(logits, text[1:])
    expected = -np.log(fit(tokens, 11, 2).probabilities(text)[1, 1:]).mean()
    assert loss.total.item() / loss.n_targets == pytest.approx(expected, abs=1e-5)


def test_gradients_bring_the_table_to_the_shares_of_the_pairs():
    """Without smoothing the least loss on the training text is the entropy of its pairs."""
    tokens = torch.from_numpy(noise(4000, 11))
    model = Bigram(BigramConfig(11))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    for _ in range(300):
        loss = cross_entropy_sum(model(tokens[:-1], Ragged([3999])), tokens[1:])
        (loss.total / loss.n_targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    pairs = torch.zeros(11, 11).index_put_(
        (tokens[:-1], tokens[1:]), torch.tensor(1.0), accumulate=True
    )
    shares = pairs / pairs.sum(1, keepdim=True)
    least = -(pairs * shares.clamp(min=1e-12).log()).sum() / pairs.sum()
    assert loss.total.item() / loss.n_targets == pytest.approx(least.item(), abs=2e-3)
    torch.testing.assert_close(model.table.weight.softmax(1), shares, atol=0.01, rtol=0)
