"""The first 20 steps of sentence-transformers, from the same weights over the same batches, in
float32: multiple negatives (with a hard one, cached, at several sizes) and cosine regression."""

from __future__ import annotations

import logging

import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    CosineSimilarityLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)

from hornbook import bundle as bundles
from hornbook.data.alike import Alike
from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.precision import Precision
from hornbook.tasks.embed import Embed
from hornbook.tasks.task import Parts
from hornbook.text.train import train_tokenizer
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, linear

N_STEPS, BATCH, RATE = 20, 6, 1e-3
WORDS = [f"{a}{b}" for a in ("ba", "ke", "lo", "mu") for b in ("ran", "sit", "tor", "vin", "zed")]


def text(i, n):
    return " ".join(WORDS[(i * 7 + j * (i % 5 + 1)) % 20] for j in range(n))


N = N_STEPS * BATCH
PAIRS = [Alike(f"{text(i, 3 + i % 5)} {i}", f"{text(i + 3, 6 - i % 3)} {i}") for i in range(N)]
TRIPLETS = [Alike(p.first, p.second, f"{text(i + 9, 4)} {i}") for i, p in enumerate(PAIRS)]
SCORED = [Alike(p.first, p.second, score=i % 6 / 5) for i, p in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("encoder")
    lines = [f"{one.first} {one.second}" for one in PAIRS]
    tokenizer = train_tokenizer("wordpiece", lambda: lines, 120)
    torch.manual_seed(0)
    model = Bert(BertConfig(tokenizer.vocab_size, 48, 2, 2, 32, 48))
    bundles.save(where, model, tokenizer)
    opened = bundles.load(where)
    Embed.make(opened, Parts("x", PAIRS, PAIRS), max_tokens=40).write_beside(where)
    return where


class Sampler(DefaultBatchSampler):
    """Batches in the data's order."""

    def __init__(self, dataset, batch_size, drop_last, **settings):
        super().__init__(range(len(dataset)), batch_size, drop_last, **settings)


class InOrder(SentenceTransformerTrainer):
    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        self.seen.append(loss.item())
        return loss


def their_losses(folder, examples, make_loss, scratch):
    logging.disable(logging.WARNING)
    model = SentenceTransformer(str(folder), device="cpu")
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = 0.0
    columns = {"anchor": [e.first for e in examples], "positive": [e.second for e in examples]}
    if examples[0].negative is not None:
        columns["negative"] = [e.negative for e in examples]
    if examples[0].score is not None:
        columns["label"] = [e.score for e in examples]
    arguments = SentenceTransformerTrainingArguments(
        str(scratch), per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=RATE,
        weight_decay=0.01, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
        batch_sampler=Sampler,
    )  # fmt: skip
    trainer = InOrder(
        model=model, args=arguments, train_dataset=Dataset.from_dict(columns),
        loss=make_loss(model),
    )  # fmt: skip
    trainer.seen = []
    trainer.train()
    logging.disable(logging.NOTSET)
    return trainer.seen


def our_losses(folder, examples, settings):
    opened = bundles.load(folder)
    task = Embed.make(opened, Parts("x", examples, examples), max_tokens=40, **settings)
    model, items = task.build(opened), task.items(examples)
    optimizer = adamw(decay_groups(model.named_parameters(), lr=RATE, weight_decay=0.01))
    batches = ([task.collate(items[i : i + BATCH])] for i in range(0, N, BATCH))
    steps = train_steps(
        model, task.loss, batches, optimizer, linear(0.0), Clock(n_steps=N_STEPS),
        make_accelerator(Precision("cpu", "float32", "the parity's")),
    )  # fmt: skip
    return [step.loss for step in steps]


@pytest.mark.parametrize(
    ("examples", "loss", "settings"),
    [
        (PAIRS, MultipleNegativesRankingLoss, {}),
        (TRIPLETS, MultipleNegativesRankingLoss, {"chunk": 60}),
        (
            PAIRS,
            lambda model: CachedMultipleNegativesRankingLoss(model, mini_batch_size=2),
            {"chunk": 30},
        ),
        (
            PAIRS,
            lambda model: MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [32, 8]),
            {"sizes": (8, 32)},
        ),
        (SCORED, CosineSimilarityLoss, {}),
    ],
    ids=["pairs", "triplets in chunks", "cached", "sizes", "scores"],
)
def test_twenty_steps(folder, examples, loss, settings, tmp_path):
    expected = their_losses(folder, examples, loss, tmp_path)
    found = our_losses(folder, examples, settings)
    assert len(found) == N_STEPS and len(set(found)) > 15
    assert found == pytest.approx(expected, rel=1e-4)
