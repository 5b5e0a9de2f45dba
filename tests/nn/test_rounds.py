"""A loss in rounds is the loss of all logits at once, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn import rounds
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import IGNORE, cross_entropy_of, cross_entropy_sum
from hornbook.tasks import seq2seq
from hornbook.tasks.language_modeling import (
    LanguageModel,
    MarkedBatch,
    loss_of,
    marked_loss,
    token_log_probs,
    windows,
)
from hornbook.tasks.seq2seq import Seq2Seq, smoothed_loss_of
from hornbook.training.rows import by_rows

SIZES = {"n_layers": 1, "d_model": 16, "n_heads": 2}
TOKENS = torch.randint(40, (2, 10), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def three_rows(monkeypatch):
    """Three rows a round, at most."""
    monkeypatch.setattr(rounds, "MOST", 1)
    monkeypatch.setattr(rounds, "FEWEST_LEARNT", 3)
    monkeypatch.setattr(rounds, "FEWEST_FROZEN", 3)


def tied():
    torch.manual_seed(0)
    return GPT(GPTConfig(40, 16, **SIZES))


def capped():
    torch.manual_seed(0)
    model = ModernGPT(ModernGPTConfig(40, 16, **SIZES))
    nn.init.normal_(model.head.weight)  # as it begins all its guesses are alike
    return model


def frozen_head():
    model = capped()
    model.head.requires_grad_(False)
    return model


def batch():
    targets = TOKENS.roll(-1, 1)
    targets[:, -1] = IGNORE
    return windows(TOKENS, targets)


def spy(trunk):
    """The numbers of rows that a trunk makes logits of from now on."""
    rows, whole = [], trunk.logits

    def logits(hidden):
        rows.append(len(hidden))
        return whole(hidden)

    trunk.logits = logits
    return rows


def check_same(model, whole, in_rounds, **tolerance):
    """Both give the loss and the gradient of every weight; `in_rounds` with few rows at a time."""
    found = []
    trunk = getattr(model, "trunk", model)
    for loss_of_ in (whole, in_rounds):
        model.zero_grad()
        rows = spy(trunk)
        loss = loss_of_()
        (0.5 * loss).backward()  # whatever comes after the loss is passed on
        del trunk.logits
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append((loss.detach(), gradients, max(rows)))
    (loss, wanted, most), (loss_, gradients, few) = found
    assert most > 3 and few == 3
    torch.testing.assert_close(loss_, loss)
    assert wanted.keys() == gradients.keys() and wanted
    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[name], gradient, msg=name, **tolerance)


@pytest.mark.parametrize("make", [tied, capped, frozen_head])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_all_gradients_are_those_of_all_logits(make, dtype, three_rows):
    model = LanguageModel(make())

    def whole():
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return cross_entropy_sum(model(batch()), batch().targets).total

    def in_rounds():
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = loss_of(model, batch())
        assert loss.n_targets == 18
        return loss.total

    tolerance = {} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.02}
    check_same(model, whole, in_rounds, **tolerance)


def test_a_tied_table_whose_gradient_comes_by_rows(three_rows):
    model = LanguageModel(tied())
    with by_rows(model, at_least=1):
        check_same(
            model,
            lambda: cross_entropy_sum(model(batch()), batch().targets).total,
            lambda: loss_of(model, batch()).total,
        )


def test_marked_tokens(three_rows):
    model = tied()
    places = torch.tensor([0, 1, 2, 5, 11, 12, 17])
    targets = torch.tensor([3, 1, 4, 1, 5, 9, 2])
    owners = torch.zeros(len(places), dtype=torch.long)
    marked = MarkedBatch(TOKENS.flatten(), Ragged([10, 10]), places, targets, owners)
    read = (marked.tokens, marked.layout, places, targets)
    check_same(
        model,
        lambda: -token_log_probs(model, *read).sum(),
        lambda: marked_loss(model, marked).total,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pairs_of_texts(smoothing, three_rows):
    torch.manual_seed(0)
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_ff": 32, "context_length": 16}
    model = Seq2Seq(EncoderDecoder(EncoderDecoderConfig(40, **sizes)))
    pairs = seq2seq.collate([([3, 4, 5], [6, 7, 8, 9]), ([10, 11], [12, 13])], start=1, end=2)

    def whole():
        return F.cross_entropy(
            model(pairs), pairs.targets, reduction="sum", label_smoothing=smoothing
        )

    check_same(model, whole, lambda: smoothed_loss_of(model, pairs, smoothing).total)


def test_two_batches_add_their_gradients_up(three_rows):
    model = LanguageModel(tied())
    loss_of(model, batch()).total.backward()
    once = [p.grad.clone() for p in model.parameters()]
    loss_of(model, batch()).total.backward()
    for p, gradient in zip(model.parameters(), once, strict=True):
        torch.testing.assert_close(p.grad, 2 * gradient)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_gradients_there_are_rounds_too(smoothing, three_rows):
    rows = []
    weight = torch.randn(40, 16)

    def logits_of(hidden):
        rows.append(len(hidden))
        return hidden @ weight.T

    hidden, targets = torch.randn(10, 16), torch.randint(40, (10,))
    with torch.no_grad():
        loss = cross_entropy_of(logits_of, hidden, targets, vocab_size=40, smoothing=smoothing)
    assert rows == [3, 3, 3, 1]
    whole = F.cross_entropy(hidden @ weight.T, targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(loss.total, whole)


def test_in_float16_the_scale_of_the_loss_must_reach_all_gradients(three_rows):
    model = LanguageModel(tied())
    rows = spy(model.trunk)
    with torch.autocast("cpu", torch.float16):
        loss_of(model, batch())
    assert rows == [20]


def test_few_tokens_take_the_plain_way(monkeypatch):
    model = LanguageModel(tied())
    rows = spy(model.trunk)
    loss_of(model, batch())
    assert rows == [20]
    monkeypatch.setattr(rounds, "FEWEST_FROZEN", 10)
    monkeypatch.setattr(rounds, "MOST", 1)
    loss_of(model, batch())  # the head learns: rounds of 512 rows and more
    assert rows[1:] == [1, 20]


def test_a_second_derivative_is_refused(three_rows):
    weight, hidden = torch.randn(40, 16, requires_grad=True), torch.randn(10, 16)
    targets = torch.arange(10)
    loss = cross_entropy_of(lambda rows: rows @ weight.T, hidden, targets, vocab_size=40)
    scaled = loss.total * torch.ones((), requires_grad=True)
    (gradient,) = torch.autograd.grad(scaled, [weight], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
