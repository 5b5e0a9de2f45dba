"""The first 20 steps of transformers' Trainer on an encoder-decoder, from the same weights over the
same batches, in float32: plain, with label smoothing, and in micro-batches, where it is wrong."""

from __future__ import annotations

import random

import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import MarianMTModel, Trainer, TrainingArguments

from hornbook.interop.huggingface import load_model, save_model
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.nn.precision import Precision
from hornbook.tasks.write import Translate
from hornbook.tasks.write_forms import FromSource, WriteItem
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, linear

N_STEPS, BATCH, RATE, V, END = 20, 4, 2e-3, 48, 0


class Words:
    """What the task asks of a tokenizer when items are made by hand: one token bounds texts."""

    class rust:
        @staticmethod
        def token_to_id(token):
            return {"<|endoftext|>": END}.get(token)


class InOrder(Trainer):
    """The Trainer with its data in order, and the loss of each micro-batch kept."""

    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        self.seen.append(loss.item())
        return loss


@pytest.fixture(scope="module")
def items():
    rng = random.Random(0)

    def text(most):
        return [*(rng.randrange(1, V) for _ in range(rng.randint(2, most))), END]

    return [WriteItem(text(9), text(12 if i % 2 else 3), i) for i in range(N_STEPS * BATCH)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "n_heads": 2, "d_model": 32, "d_ff": 48}
    where = tmp_path_factory.mktemp("model")
    save_model(where, EncoderDecoder(EncoderDecoderConfig(V, 32, **sizes)))
    return where


def theirs(folder, items, scratch, *, size=BATCH, parts=1, smoothing=0.0):
    """The losses of each micro-batch, and the weights at the end."""

    def filled(rows, filler):
        longest = max(map(len, rows))
        return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])

    def collate(members):
        read, written = zip(*((m["read"], m["written"]) for m in members))
        return {
            "input_ids": filled(read, END),
            "attention_mask": filled([[1] * len(row) for row in read], 0),
            "decoder_input_ids": filled([[END, *row[:-1]] for row in written], END),
            "labels": filled(written, -100),
        }

    model = MarianMTModel.from_pretrained(folder)
    for part in (model, *model.modules()):
        for name in ("dropout", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    arguments = TrainingArguments(
        str(scratch), per_device_train_batch_size=size // parts, num_train_epochs=1,
        gradient_accumulation_steps=parts, learning_rate=RATE, weight_decay=0.01,
        label_smoothing_factor=smoothing, save_strategy="no", report_to=[], disable_tqdm=True,
        use_cpu=True, remove_unused_columns=False,
    )  # fmt: skip
    rows = [{"read": item.read, "written": item.written} for item in items]
    trainer = InOrder(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    trainer.seen = []
    trainer.train()
    return trainer.seen, model.model.shared.weight.detach()


def ours(folder, items, *, size=BATCH, parts=1, smoothing=0.0):
    model = load_model(folder)
    task = Translate(FromSource(Words(), 32), Words(), 20, label_smoothing=smoothing)
    optimizer = adamw(decay_groups(model.named_parameters(), lr=RATE, weight_decay=0.01))
    part = size // parts
    batches = (
        [task.collate(items[j : j + part]) for j in range(i, i + size, part)]
        for i in range(0, len(items), size)
    )
    steps = train_steps(
        model, task.loss, batches, optimizer, linear(0.0), Clock(n_steps=len(items) // size),
        make_accelerator(Precision("cpu", "float32", "the parity's")),
    )  # fmt: skip
    return [step.loss for step in steps], model.tokens.weight.detach()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_twenty_steps(folder, items, tmp_path, smoothing):
    """Their smoothing is ours: (1 - e) of the target's, e of the mean over the vocabulary."""
    expected, weights = theirs(folder, items, tmp_path, smoothing=smoothing)
    found, own = ours(folder, items, smoothing=smoothing)
    assert len(found) == N_STEPS and found[-1] < found[0]
    assert found == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(own, weights, rtol=1e-3, atol=1e-4)


def test_micro_batches(folder, items, tmp_path):
    """Halves of a batch are the batch. Of theirs they are not: a Marian's loss is a mean over each
    half's own targets, and the mean of two means weighs the targets of the shorter half more."""
    sorted_items = [x for i in range(0, len(items), 8) for x in sorted(items[i : i + 8], key=_n)]
    whole, _ = theirs(folder, sorted_items, tmp_path, size=8)
    halves, _ = theirs(folder, sorted_items, tmp_path, size=8, parts=2)
    assert ours(folder, sorted_items, size=8, parts=2)[0] == pytest.approx(whole, rel=1e-4)
    mean_of_means = sum(halves[:2]) / 2
    assert abs(mean_of_means / whole[0] - 1) > 1e-3


def _n(item):
    return len(item.written)
