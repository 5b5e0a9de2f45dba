"""The recipe learns, leaves frozen blocks alone, keeps the best, and plans what fits."""

from __future__ import annotations

import copy

import pytest
import torch

from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.layout import Ragged
from hornbook.recipes.finetune import Settings, Speed, finetune, make_plan, measure_speed
from hornbook.tasks.classification import TextClassifier, run_over

WORDS = {0: [10, 11, 12], 1: [20, 21, 22], 2: [30, 31, 32]}


def _documents(n: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 3, (n,), generator=generator)
    documents = []
    for label in ids.tolist():
        noise = torch.randint(40, 60, (6,), generator=generator).tolist()
        word = WORDS[label][int(torch.randint(0, 3, (1,), generator=generator))]
        documents.append([1, *noise[:3], word, *noise[3:], 2])
    return documents, ids


def _trunk() -> Bert:
    torch.manual_seed(0)
    return Bert(BertConfig(64, 16, n_layers=2, n_heads=2, d_model=32, d_ff=64))


@pytest.mark.parametrize("n_frozen", [0, 1])
def test_it_learns_and_frozen_blocks_stay(n_frozen):
    trunk = _trunk()
    before = copy.deepcopy(trunk.state_dict())
    documents, ids = _documents(300, seed=1)
    validation, their_ids = _documents(90, seed=2)
    told = []

    def score(logits):
        return float((logits.argmax(1) == their_ids).float().mean())

    model = finetune(
        trunk,
        Ragged.mean,
        documents,
        ids,
        3,
        validation,
        score,
        n_frozen=n_frozen,
        seconds=20,
        settings=Settings(lr=3e-3, head_lr_scale=1.0, tokens_per_step=256, max_epochs=10),
        seed=0,
        report=lambda stage, value=None: told.append(value),
    )
    reached = score(run_over(model, validation))
    assert reached > 0.9
    assert reached == pytest.approx(max(v for v in told if v is not None))  # the best was kept
    after = model.trunk.state_dict()
    frozen = [n for n in before if n.startswith(("embeddings.", "blocks.0."))]
    moved = [n for n in frozen if not torch.equal(before[n], after[n])]
    assert bool(moved) == (n_frozen == 0)
    assert all(p.requires_grad for p in trunk.parameters())


def test_the_plan_fits_and_prefers_more_text_to_more_passes():
    lengths = [300] * 1000
    fast = make_plan(lengths, Speed(1e6, 3e5), 60, n_blocks=6, d_model=384)
    assert (fast.max_tokens, fast.n_frozen) == (256, 0)
    slow = make_plan(lengths, Speed(1e4, 2.5e3), 60, n_blocks=6, d_model=384)
    assert slow.max_tokens < 256 and slow.n_frozen == 3
    assert slow.n_passes * sum(min(n, slow.max_tokens) for n in lengths) / 2.5e3 * 0.5 < 60
    hopeless = make_plan(lengths, Speed(100, 30), 10, n_blocks=6, d_model=384)
    assert hopeless.n_passes < 0.15
    short = make_plan(lengths, Speed(1e6, 3e5), 60, n_blocks=4, d_model=256, longest=128)
    assert short.max_tokens == 128


def test_only_a_few_words_are_read_where_nothing_else_would_fit():
    lengths = [40] * 3000
    speed = Speed(6e3, 2e3)
    plans = {n: make_plan(lengths, speed, n, n_blocks=6, d_model=384) for n in (11, 17, 25)}
    assert [plan.max_tokens for plan in plans.values()] == [16, 24, 32]
    assert all(plan.n_passes >= 0.15 for plan in plans.values())


def test_measuring_leaves_no_gradient():
    model = TextClassifier(_trunk(), pool=Ragged.mean, d_model=32, n_labels=3)
    speed = measure_speed(model, _documents(50, seed=3)[0])
    assert speed.forward > speed.training > 0
    assert all(p.grad is None for p in model.parameters())
