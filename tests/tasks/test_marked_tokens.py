"""Only tokens that are marked are guessed, from within their own text, with the logits of all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged
from hornbook.tasks.language_modeling import Marked, lay, marked_loss, token_log_probs


@pytest.fixture(scope="module")
def model() -> Llama:
    torch.manual_seed(0)
    return Llama(LlamaConfig(50, 32, n_layers=2, n_heads=2, d_model=16, d_ff=24, tied_head=True))


def texts() -> list[Marked]:
    rng = np.random.default_rng(0)
    made = []
    for length in (4, 9, 6):
        learnt = rng.random(length) < 0.5
        learnt[0], learnt[-1] = False, True
        made.append(Marked(rng.integers(0, 50, length), learnt))
    return made


def test_a_batch_gives_each_text_the_loss_that_it_has_alone(model):
    batch = lay(texts())
    found = token_log_probs(model, batch.tokens, batch.layout, batch.places, batch.targets)
    for number, text in enumerate(texts()):
        tokens = torch.tensor(text.tokens)
        everywhere = model.logits(model(tokens, Ragged([len(tokens)]))).log_softmax(-1)
        places = np.flatnonzero(text.learnt)
        expected = everywhere[places - 1, tokens[places]]
        torch.testing.assert_close(found[batch.owners == number], expected)
    loss = marked_loss(model, batch)
    assert loss.n_targets == sum(int(text.learnt.sum()) for text in texts())
    torch.testing.assert_close(loss.total, -found.sum())


def test_rounds_of_logits_change_neither_loss_nor_gradient(model):
    batch = lay(texts())
    gradients = []
    for most in (2**24, 100):  # 100: two rows of logits at once
        model.zero_grad()
        found = token_log_probs(
            model, batch.tokens, batch.layout, batch.places, batch.targets, most=most
        )
        (found * torch.arange(len(found))).sum().backward()
        gradients.append([found.detach(), *(p.grad for p in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_no_logits_are_made_where_nothing_is_guessed(model, monkeypatch):
    rows = []
    whole = model.logits
    monkeypatch.setattr(model, "logits", lambda hidden: rows.append(len(hidden)) or whole(hidden))
    batch = lay(texts())
    marked_loss(model, batch)
    assert rows == [len(batch.targets)] and rows[0] < len(batch.tokens)
