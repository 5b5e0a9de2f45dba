"""One batch is learnt by heart, or the cause that was planted is named."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from hornbook.errors import TrainingError
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.nn.losses import IGNORE
from hornbook.nn.precision import Precision
from hornbook.tasks.language_modeling import LanguageModel, NextTokenBatch, collate, loss_of
from hornbook.training.accelerator import make_accelerator
from hornbook.training.optimizers import muon_and_adamw
from hornbook.training.sanity import Trial, check_next_tokens, memorise

DOCUMENTS = [[1, 2, 3, 4, 5, 6, 7], [8, 9, 3, 1], [12, 4, 12, 30]]
BATCH = collate(DOCUMENTS)


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = GPTConfig(40, 16, n_layers=2, n_heads=2, d_model=16, d_ff=32, dropout=0.3)
    return LanguageModel(GPT(config))


def _trial(model, *, batch=BATCH, n_steps=100, loss=loss_of):
    def make_optimizer(model, factor):
        return muon_and_adamw(model.named_parameters(), muon_lr=0.02 * factor, lr=0.01 * factor)

    accelerator = make_accelerator(Precision("cpu", "float32", "for the test"))
    return Trial(model, loss, batch, make_optimizer, accelerator, n_steps)


def test_a_sound_model_learns_it_and_stays_as_it_was(model):
    before = copy.deepcopy(model.state_dict())
    found = memorise(_trial(model))
    assert found.loss < 0.05 and found.first_loss == pytest.approx(3.69, abs=0.2)  # ln 40
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert model.trunk.dropout.p == 0.3


@pytest.mark.parametrize(("rate", "word"), [(0.1, "too low"), (10.0, "too high")])
def test_a_learning_rate_that_is_wrong_is_named(model, rate, word):
    def sgd(model, factor):
        return torch.optim.SGD(model.parameters(), lr=rate * factor)

    with pytest.raises(TrainingError, match=f"learning rate is {word}"):
        memorise(replace(_trial(model), make_optimizer=sgd))


def test_frozen_weights_are_named(model):
    model.requires_grad_(False)
    with pytest.raises(TrainingError, match="All weights are frozen"):
        memorise(_trial(model))
    model.trunk.norm.requires_grad_(True)
    with pytest.raises(TrainingError, match=r"100% of the weights are frozen|9\d% of the weights"):
        memorise(_trial(model, n_steps=60))


def test_weights_that_no_gradient_reaches_are_named(model):
    model.trunk.blocks[0].requires_grad_(True)

    def cut(model, batch):
        hidden = model.trunk(batch.tokens, batch.layout).detach()
        return type(loss_of(model, batch))(
            torch.nn.functional.cross_entropy(
                model.trunk.logits(hidden), batch.targets, ignore_index=IGNORE, reduction="sum"
            ),
            12,
        )

    with pytest.raises(TrainingError, match=r"No gradient reaches .*blocks\.0"):
        memorise(_trial(model, loss=cut, n_steps=20))


def test_contradicting_targets_are_no_matter_of_the_rate(model):
    tokens = torch.tensor([[1, 2], [1, 2]])
    batch = NextTokenBatch(
        tokens.flatten(), collate([[1, 2], [1, 2]]).layout, torch.tensor([5, 6, 7, 8])
    )
    with pytest.raises(TrainingError, match="several targets"):
        memorise(_trial(model, batch=batch, n_steps=40))


def test_a_token_outside_the_vocabulary_is_named(model):
    with pytest.raises(TrainingError, match="outside the model's vocabulary"):
        memorise(_trial(model, batch=collate([[1, 40, 2]])))


def test_a_batch_without_targets_is_named(model):
    with pytest.raises(TrainingError, match="no targets"):
        memorise(_trial(model, batch=collate([[1], [2]])))


def test_shifted_targets_are_told_by_how_much():
    text = torch.arange(60).reshape(3, 20)
    check_next_tokens(text[:, :-1], text[:, 1:])
    ended = text[:, 1:].clone()
    ended[1, 7] = IGNORE
    check_next_tokens(text[:, :-1], ended)
    with pytest.raises(TrainingError, match="the tokens themselves"):
        check_next_tokens(text, text)
    with pytest.raises(TrainingError, match=r"\+2 places on"):
        check_next_tokens(text[:, :-2], text[:, 2:])
    with pytest.raises(TrainingError, match="of the targets are not the next token"):
        check_next_tokens(text[:, :-1], text[:, 1:].flip(0))
