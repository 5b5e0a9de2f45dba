"""Parity with transformers' Trainer, tagging and extractive answers: same weights, same batches,
the first 20 steps, each loss to 1e-4 relative; float32, no dropout, AdamW alike."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import (
    BertForQuestionAnswering,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from transformers.utils import logging

from hornbook.data.questions import Answer as Place
from hornbook.data.questions import Question
from hornbook.data.tagged import placed
from hornbook.interop.huggingface import save_model
from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.precision import Precision
from hornbook.tasks.answer import Answer
from hornbook.tasks.tag import Tag
from hornbook.text.builtin import bert
from hornbook.text.tokenizer import BERT_SPECIALS, Tokenizer
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, linear

VOCABULARY = [*BERT_SPECIALS, *(f"w{i}" for i in range(60)), *(f"##{i}" for i in "0123456789")]
TOKENIZER = Tokenizer(bert("\n".join(VOCABULARY)))
N_STEPS, BATCH, RATE = 20, 4, 1e-3


class InOrder(Trainer):
    def _get_train_sampler(self, *arguments, **keywords):
        return SequentialSampler(self.train_dataset)


class Unrounded(InOrder):
    """The Trainer rounds what it logs to four places: keep what it computed."""

    def compute_loss(self, *arguments, **keywords):
        loss = super().compute_loss(*arguments, **keywords)
        self.seen.append(float(loss.detach()))
        return loss


def bundle():
    torch.manual_seed(0)
    sizes = BertConfig(len(VOCABULARY), 64, n_layers=2, n_heads=4, d_model=32, d_ff=48)
    return SimpleNamespace(model=Bert(sizes), tokenizer=TOKENIZER)


def their_losses(model, rows, collator, folder):
    logging.set_verbosity_error()
    trainer = Unrounded(
        model=model,
        args=TrainingArguments(
            str(folder),
            per_device_train_batch_size=BATCH,
            max_steps=N_STEPS,
            learning_rate=RATE,
            weight_decay=0.01,
            warmup_steps=4,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            logging_steps=10**9,
        ),
        train_dataset=rows,
        data_collator=collator,
    )
    trainer.seen = []
    trainer.train()
    return trainer.seen


def our_losses(task, model, items):
    groups = decay_groups(model.named_parameters(), lr=RATE, weight_decay=0.01)
    batches = ([task.collate(items[i : i + BATCH])] for i in range(0, len(items), BATCH))
    steps = train_steps(
        model, task.loss, batches, adamw(groups), linear(4 / N_STEPS), Clock(n_steps=N_STEPS),
        make_accelerator(Precision("cpu", "float32", "as the peer")),
    )  # fmt: skip
    return [step.loss for step in steps]


def without_dropout(model):
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    for layer in model.bert.encoder.layer:
        layer.attention.self.dropout.p = 0.0
    return model


def test_tagging_learns_as_the_trainer_does(tmp_path):
    rng = random.Random(0)
    labels = ("O", "B-a", "I-a")
    examples = [
        placed([f"w{rng.randrange(70)}" for _ in range(n)], rng.choices(labels, k=n))
        for n in (rng.randint(2, 14) for _ in range(N_STEPS * BATCH))
    ]
    task = Tag(TOKENIZER, labels, "entities", max_tokens=64)
    model = task.build(bundle())
    save_model(tmp_path / "model", model)
    items = task.items(examples)
    rows = [{"input_ids": item.tokens, "labels": item.targets} for item in items]
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER.rust, **special)
    theirs = their_losses(
        without_dropout(BertForTokenClassification.from_pretrained(tmp_path / "model")),
        rows,
        DataCollatorForTokenClassification(tokenizer),
        tmp_path,
    )
    ours = our_losses(task, model, items)
    assert len(ours) == len(theirs) == N_STEPS and ours[-1] < ours[0]
    assert ours == pytest.approx(theirs, rel=1e-4)


def questions(lengths):
    rng = random.Random(1)
    found = []
    for n in lengths:
        words = [f"w{i}" for i in rng.sample(range(60), n)]
        context, start = " ".join(words), rng.randrange(n - 2)
        text = " ".join(words[start : start + rng.randint(1, 2)])
        found.append(Question("w1 w2", context, (Place(text, context.index(text)),)))
    return found


def as_theirs(task, items):
    rows = []
    longest = max(len(item.tokens) for item in items)
    for item in items:
        padding = [0] * (longest - len(item.tokens))
        rows.append(
            {
                "input_ids": item.tokens + padding,
                "token_type_ids": item.segments + padding,
                "attention_mask": [1] * len(item.tokens) + padding,
                "start_positions": item.start,
                "end_positions": item.end,
            }
        )
    return rows


def test_answering_learns_as_the_trainer_does(tmp_path):
    task = Answer(TOKENIZER, max_tokens=64, stride=8)
    model = task.build(bundle())
    save_model(tmp_path / "model", model)
    items = task.items(questions([20] * (N_STEPS * BATCH)))
    theirs = their_losses(
        without_dropout(BertForQuestionAnswering.from_pretrained(tmp_path / "model")),
        as_theirs(task, items),
        default_data_collator,
        tmp_path,
    )
    ours = our_losses(task, model, items)
    assert len(ours) == len(theirs) == N_STEPS and ours[-1] < ours[0]
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_padding_changes_the_peers_loss_and_not_ours(tmp_path):
    """transformers' loss is over the padding's logits too: how long the longest neighbour is
    changes what an item costs. Ours is over the item's own tokens."""
    task = Answer(TOKENIZER, max_tokens=64, stride=8)
    model = task.build(bundle()).eval()
    save_model(tmp_path / "model", model)
    peer = BertForQuestionAnswering.from_pretrained(tmp_path / "model").eval()
    short, long = task.items(questions([10, 40]))

    def their_loss(rows):
        batch = default_data_collator(rows)
        return float(peer(**batch).loss.detach())

    alone = [their_loss(as_theirs(task, [item])) for item in (short, long)]
    ours = task.loss(model, task.collate([short, long]))
    assert float(ours.total.detach()) / 2 == pytest.approx(sum(alone) / 2, rel=1e-5)
    together = their_loss(as_theirs(task, [short, long]))
    assert together > sum(alone) / 2 + 0.05  # 30 tokens of padding compete with 14
