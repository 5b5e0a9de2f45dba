"""Claim: fine-tuning MiniLM runs at 2.5x the tokens per second of transformers' Trainer or more.

    python benchmarks/finetuning.py [--steps 12]

The Trainer runs at its defaults (8 texts a batch, padded to the longest, float32, dropout as in the
model's config, fused AdamW); we run the same batches in the same order, all weights trained, with
our defaults (ragged, the number format chosen by measurement, no dropout). Tokens are the texts'
own, without padding. Median seconds of a step, the first two left out, the two taking turns.
Needs: pip install 'hornbook[bench]'.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import torch
from corpus import stories
from torch.utils.data import SequentialSampler
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from hornbook.interop.catalogue import find_model
from hornbook.interop.huggingface import load_bert
from hornbook.nn.layout import Ragged
from hornbook.nn.precision import choose_precision
from hornbook.tasks.classification import TextClassifier, collate, loss_of
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.rows import by_rows
from hornbook.training.schedules import Clock, linear

BATCH, N_LABELS, WARM_UP = 8, 90, 2
PEER = "transformers' Trainer"


class InOrder(Trainer):
    """The Trainer with its batches in the data's order, so that ours can be the same."""

    def _get_train_sampler(self, *arguments, **keywords):
        return SequentialSampler(self.train_dataset)


class StepTimes(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *arguments, **keywords):
        self._start = time.perf_counter()

    def on_step_end(self, *arguments, **keywords):
        self.seconds.append(time.perf_counter() - self._start)


def their_steps(folder: str, tokens: list[list[int]], targets: torch.Tensor) -> list[float]:
    """Seconds of each of the Trainer's steps."""
    logging.set_verbosity_error()
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=N_LABELS, problem_type="multi_label_classification"
    )
    rows = [{"input_ids": t, "labels": y.tolist()} for t, y in zip(tokens, targets, strict=True)]
    times = StepTimes()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = InOrder(
            model=model,
            args=TrainingArguments(
                scratch,
                per_device_train_batch_size=BATCH,
                num_train_epochs=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                logging_steps=10**9,
            ),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder)),
            callbacks=[times],
        )
        trainer.train()
    return times.seconds


def our_steps(tokens: list[list[int]], targets: torch.Tensor) -> list[float]:
    """Seconds of each of our steps, collating included."""
    trunk, _ = load_bert(find_model("minilm"))
    model = TextClassifier(trunk, pool=Ragged.mean, d_model=trunk.config.d_model, n_labels=N_LABELS)
    optimizer = adamw(decay_groups(model.named_parameters(), lr=5e-5, weight_decay=0.0))
    n_steps = len(tokens) // BATCH
    batches = (
        [collate(tokens[i : i + BATCH], targets[i : i + BATCH])]
        for i in range(0, n_steps * BATCH, BATCH)
    )
    seconds, start = [], time.perf_counter()
    with by_rows(model):
        for _ in train_steps(
            model, loss_of, batches, optimizer, linear(0.0), Clock(n_steps=n_steps + 1),
            make_accelerator(),
        ):  # fmt: skip
            seconds.append(time.perf_counter() - start)
            start = time.perf_counter()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    n = (arguments.steps + WARM_UP) * BATCH
    what, texts = stories(n)
    folder = str(find_model("minilm"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(texts, truncation=True, max_length=256)["input_ids"]
    targets = (torch.rand(n, N_LABELS, generator=torch.Generator().manual_seed(0)) < 0.02).float()
    chosen = choose_precision()
    print(f"{what}; {torch.get_num_threads()} threads; chosen: {chosen.dtype} ({chosen.reason})")

    theirs: list[float] = []
    ours: list[float] = []
    for _ in range(arguments.rounds):
        theirs += their_steps(folder, tokens, targets)[WARM_UP:]
        ours += our_steps(tokens, targets)[WARM_UP:]
    counted = sum(len(t) for t in tokens[WARM_UP * BATCH :]) / arguments.steps
    speeds = {}
    for name, seconds in ((PEER, theirs), ("hornbook", ours)):
        speeds[name] = counted / statistics.median(seconds)
        print(f"{name:24}{speeds[name]:9.0f} tokens/s")
    print(f"ratio: {speeds['hornbook'] / speeds[PEER]:.2f} (claim: 2.5)")


if __name__ == "__main__":
    main()
