"""Vectors of texts: losses by hand, large batches in chunks, sizes, what is kept, who opens it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hornbook import bundle as bundles
from hornbook.bundle import Bundle
from hornbook.data.alike import Alike
from hornbook.embeddings.encoder import TextEncoder
from hornbook.errors import ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.tasks.embed import Embed, repeated
from hornbook.tasks.embed_losses import cosine_regression, in_batch_negatives, triplet
from hornbook.tasks.task import Parts
from hornbook.text.train import train_tokenizer

WORDS = ["the", "cat", "sat", "on", "a", "mat", "while", "dogs", "ran", "off", "with", "red"]
WORDS += ["shoes", "and", "blue", "hats", "at", "noon"]


def text(i, n):
    return " ".join(WORDS[(i * 7 + j * (i % 3 + 1)) % len(WORDS)] for j in range(n))


PAIRS = [Alike(text(i, 3 + i % 5), text(i + 11, 4 + i % 3)) for i in range(12)]
TRIPLETS = [Alike(one.first, one.second, text(i + 5, 4)) for i, one in enumerate(PAIRS)]
SCORED = [Alike(one.first, one.second, score=i / 12) for i, one in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def bundle():
    tokenizer = train_tokenizer("wordpiece", lambda: [" ".join(WORDS)] * 5, 90)
    torch.manual_seed(0)
    return Bundle(Bert(BertConfig(tokenizer.vocab_size, 32, 2, 2, 16, 32)), tokenizer, "bert")


def make(bundle, examples, **settings):
    return Embed.make(bundle, Parts("x", examples, examples), **settings)


def gradients(bundle, task, examples):
    model = task.build(bundle)
    loss = task.loss(model, task.collate(task.items(examples)))
    model.zero_grad()
    loss.total.backward()
    return loss.total.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


def test_losses_by_hand():
    """Cosines of (1, 0) with (1, 0), (0, 1) and (3, 4) are 1, 0 and .6."""
    x, y, z = torch.tensor([[2.0, 0]]), torch.tensor([[0.0, 5]]), torch.tensor([[3.0, 4]])
    expected = math.log(1 + math.exp(2 * (0.6 - 1)))
    found = in_batch_negatives(x, torch.cat([x, z]), scale=2.0)
    assert found.item() == pytest.approx(expected)
    mask = torch.tensor([[False, True]])
    assert in_batch_negatives(x, torch.cat([x, z]), excluded=mask).item() == 0
    assert cosine_regression(x, z, torch.tensor([0.5])).item() == pytest.approx(0.01)
    assert triplet(x, z, y, margin=0.7).item() == pytest.approx(0.1)
    assert triplet(x, z, y, margin=0.5).item() == 0


@pytest.mark.parametrize("chunk", [1, 40])
def test_chunks_of_a_batch_are_the_batch(bundle, chunk):
    whole, parts = make(bundle, TRIPLETS), make(bundle, TRIPLETS, chunk=chunk)
    assert len(parts.collate(parts.items(TRIPLETS)).parts) > 2
    loss, gradient = gradients(bundle, whole, TRIPLETS)
    other, cached = gradients(bundle, parts, TRIPLETS)
    assert other == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(cached, gradient, rtol=1e-4, atol=1e-6)


def test_chunks_keep_nothing_of_the_encoder_until_the_way_back(bundle):
    """What a large batch's forward pass leaves for the backward pass is next to nothing."""

    def kept(task):
        sizes = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda x: sizes.append(x.numel()) or x, lambda x: x
        )
        batch = task.collate(task.items(PAIRS * 4))
        with hooks:
            task.loss(task.build(bundle), batch)
        return sum(sizes)

    assert kept(make(bundle, PAIRS, chunk=20)) < 0.2 * kept(make(bundle, PAIRS))


def test_the_order_of_texts_is_kept(bundle):
    task = make(bundle, SCORED)
    batch = task.collate(task.items(SCORED))
    encoder = TextEncoder(bundle.model, bundle.tokenizer, precision="float32")
    vectors = torch.nn.functional.normalize(task._vectors(bundle.model.eval(), batch), dim=-1)
    texts = [one.first for one in SCORED] + [one.second for one in SCORED]
    np.testing.assert_allclose(vectors.detach().numpy(), encoder.encode(texts), atol=1e-5)


def test_equal_texts_are_no_negatives_of_each_other(bundle):
    task = make(bundle, PAIRS)
    twice = [PAIRS[0], PAIRS[1], Alike(PAIRS[2].first, PAIRS[0].second)]
    batch = task.collate(task.items(twice))
    excluded = repeated(batch.numbers[:3], batch.numbers[3:])
    assert excluded.tolist() == [[False, False, True], [False] * 3, [True, False, False]]
    negative = [Alike("cat", "dogs", "hats"), Alike("mat", "cat", "dogs")]
    task = make(bundle, negative)
    batch = task.collate(task.items(negative))
    excluded = repeated(batch.numbers[:2], batch.numbers[2:])
    assert excluded.tolist() == [[False, True, False, True], [False] * 4]


def test_sizes_add_up(bundle):
    """The loss at sizes 4 and 16 is the loss at 4 and the loss at 16."""
    losses = {
        sizes: gradients(bundle, make(bundle, PAIRS, sizes=sizes), PAIRS)
        for sizes in ((4,), (16,), (4, 16))
    }
    assert losses[4, 16][0] == pytest.approx(losses[4,][0] + losses[16,][0], rel=1e-5)
    both = losses[4,][1] + losses[16,][1]
    torch.testing.assert_close(losses[4, 16][1], both, rtol=1e-4, atol=1e-4)
    assert losses[16,][0] == pytest.approx(gradients(bundle, make(bundle, PAIRS), PAIRS)[0])
    with pytest.raises(ConfigError, match="can't be cut at 32"):
        make(bundle, PAIRS, sizes=(8, 32))


@pytest.mark.parametrize(
    ("examples", "loss"),
    [(PAIRS, "in-batch"), (TRIPLETS, "in-batch"), (TRIPLETS, "triplet"), (SCORED, "cosine")],
)
def test_learning_raises_the_metric(bundle, examples, loss):
    torch.manual_seed(1)
    fresh = Bundle(Bert(bundle.model.config), bundle.tokenizer, "bert")
    task = make(fresh, examples, loss=loss, sizes=(8,))
    model, items = task.build(fresh), task.items(examples)
    before = task.metrics(examples, task.predict(model, items))
    assert task.best == before[0].name
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        task.loss(model, task.collate(items)).total.backward()
        optimizer.step()
    after = task.metrics(examples, task.predict(model, items))
    assert after[0].value > max(0.9, before[0].value)


def test_sentence_transformers_and_our_encoder_open_it(bundle, tmp_path):
    from sentence_transformers import SentenceTransformer

    task = make(bundle, SCORED, max_tokens=6)
    bundles.save(tmp_path, bundle.model, bundle.tokenizer)
    task.write_beside(tmp_path)
    texts = [one.first for one in SCORED] + ["the cat " * 20]
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    assert theirs.max_seq_length == 6
    vectors = theirs.encode(texts)
    ours = TextEncoder.open(str(tmp_path), max_tokens=6, precision="float32").encode(texts)
    np.testing.assert_allclose(vectors, ours, atol=1e-5)
    again = Embed.reopen(task.card(), bundles.load(tmp_path))
    assert again == task or again.card() == task.card()
    said = again.predict(again.build(bundles.load(tmp_path)), again.items(SCORED))
    assert [one["cosine"] for one in said] == pytest.approx((ours[:12] * _seconds(tmp_path)).sum(1))


def _seconds(folder):
    encoder = TextEncoder.open(str(folder), max_tokens=6, precision="float32")
    return encoder.encode([one.second for one in SCORED])


def test_what_does_not_fit_is_refused(bundle):
    with pytest.raises(ConfigError, match="doesn't read pairs"):
        make(bundle, PAIRS, loss="cosine")
    decoder = Bundle(GPT(GPTConfig(90, 16, 1, 2, 16, 32)), bundle.tokenizer, "gpt2")
    with pytest.raises(ConfigError, match="not an encoder"):
        make(decoder, PAIRS)
    with pytest.raises(DataError, match="example 2 has scored"):
        make(bundle, PAIRS).items([PAIRS[0], SCORED[0]])


def test_many_seconds_of_one_first_are_said(bundle):
    examples = [Alike("cat", f"{word} hats") for word in WORDS]
    task = make(bundle, examples)
    (finding,) = task.check(Parts("x", examples, examples))
    assert finding.code == "several-positives" and finding.level == "warn"


def test_only_a_text_that_is_cut_is_said_to_be(bundle):
    """Two texts that are read whole may come to more together than one may have."""
    one = Alike(text(1, 7), text(2, 7))
    task = make(bundle, [one], max_tokens=10)
    assert task.length(task.items([one])[0]) > 10
    (long,) = make(bundle, [one], max_tokens=6).check(Parts("x", [one], []))
    assert task.check(Parts("x", [one], [])) == []
    assert long.code == "cut-short" and "100.0% of the texts" in long.what
