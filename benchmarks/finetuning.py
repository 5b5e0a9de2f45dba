"""Claim: fine-tuning MiniLM runs at 2.5x the tokens per second of transformers' Trainer or more.

    python benchmarks/finetuning.py [--turns 5]

The Trainer runs at its defaults (8 texts a batch, padded to the longest, float32, dropout as in the
model's config, fused AdamW); we run the same batches in the same order, all weights trained, with
our defaults (ragged, the number format chosen by measurement, no dropout). Tokens are the texts'
own, without padding. The two, each in a process of its own, take turns, four steps each, so that a
busy machine slows both alike; the first turn is left out, and the ratio is the median over turns.
Needs: pip install 'hornbook[bench]'.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator

import torch
from claims import at_least
from corpus import stories
from peer_turns import TakingTurns
from torch.utils.data import SequentialSampler
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging
from turns import answer_turns, asked_turns

from hornbook.interop.catalogue import find_model
from hornbook.interop.huggingface import load_bert
from hornbook.nn.layout import Ragged
from hornbook.nn.precision import choose_precision
from hornbook.tasks.classification import TextClassifier, collate, loss_of
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.memory import keep_freed_memory
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.rows import by_rows
from hornbook.training.schedules import Clock, linear

BATCH, N_LABELS, TURN = 8, 90, 4
PEER = "transformers' Trainer"


class InOrder(Trainer):
    """The Trainer with its batches in the data's order, so that ours can be the same."""

    def _get_train_sampler(self, *arguments, **keywords):
        return SequentialSampler(self.train_dataset)


def trainer(
    folder: str, tokens: list[list[int]], targets: torch.Tensor, taking: TakingTurns, scratch: str
) -> Trainer:
    """transformers' Trainer at its defaults."""
    logging.set_verbosity_error()
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=N_LABELS, problem_type="multi_label_classification"
    )
    rows = [{"input_ids": t, "labels": y.tolist()} for t, y in zip(tokens, targets, strict=True)]
    return InOrder(
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
        callbacks=[taking],
    )


def our_steps(tokens: list[list[int]], targets: torch.Tensor) -> Iterator[float]:
    """Seconds of each of our steps, collating included."""
    keep_freed_memory()  # as the recipe does
    trunk, _ = load_bert(find_model("minilm"))
    model = TextClassifier(trunk, pool=Ragged.mean, d_model=trunk.config.d_model, n_labels=N_LABELS)
    optimizer = adamw(decay_groups(model.named_parameters(), lr=5e-5, weight_decay=0.0))
    n_steps = len(tokens) // BATCH
    batches = (
        [collate(tokens[i : i + BATCH], targets[i : i + BATCH])]
        for i in range(0, n_steps * BATCH, BATCH)
    )
    with by_rows(model):
        steps = train_steps(
            model, loss_of, batches, optimizer, linear(0.0), Clock(n_steps=n_steps + 1),
            make_accelerator(),
        )  # fmt: skip
        while True:
            start = time.perf_counter()
            if next(steps, None) is None:
                return
            yield time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    n = (arguments.turns + 1) * TURN * BATCH
    what, texts = stories(n)
    folder = str(find_model("minilm"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(texts, truncation=True, max_length=256)["input_ids"]
    targets = (torch.rand(n, N_LABELS, generator=torch.Generator().manual_seed(0)) < 0.02).float()
    if arguments.ours:
        answer_turns(our_steps(tokens, targets), TURN)
        return
    chosen = choose_precision()
    print(f"{what}; {torch.get_num_threads()} threads; chosen: {chosen.dtype} ({chosen.reason})")

    taking = TakingTurns(asked_turns([__file__, "--ours", "--turns", str(arguments.turns)]), TURN)
    with tempfile.TemporaryDirectory() as scratch:
        trainer(folder, tokens, targets, taking, scratch).train()
    turns = taking.turns[1:]
    counted = sum(len(t) for t in tokens[TURN * BATCH :]) / len(turns)
    for name, seconds in zip((PEER, "hornbook"), zip(*turns, strict=True), strict=True):
        best, middle = (counted / f(seconds) for f in (min, statistics.median))
        print(f"{name:24}{middle:9.0f} tokens/s, {best:.0f} at best")
    low, middle, high = statistics.quantiles([theirs / ours for theirs, ours in turns], n=4)
    print(f"ratio: {middle:.2f} (quartiles {low:.2f} and {high:.2f})")
    at_least(f"fine-tuning MiniLM, tokens a second, times {PEER}'s", middle, 2.5)


if __name__ == "__main__":
    main()
