"""Claims: tagging is learnt at 2x the tokens a second of transformers' Trainer at its defaults, in
no more memory; MiniLM reaches .93 accuracy on EWT's parts of speech and an F1 of .35 on WNUT-17's
entities; there, and on XQuAD's questions, it is no worse than the Trainer at equal settings.

    python benchmarks/adaptation_tag.py [speed memory wnut ewt xquad]
        [--seconds 300] [--turns 5] [--seed 0]

speed, memory: WNUT-17's training sentences; the Trainer at its defaults (8 sentences a batch,
padded to the longest, float32, dropout as in the model's config) and our task over the same batches
in the same order, taking turns of four steps, each in a process of its own; memory is the peak of
one.
wnut, ewt, xquad: both at equal settings (ours: number of texts a step, peak rate, schedule, steps),
on the same texts, the Trainer with its dropout of .1, ours without; metrics of the test part with
95 % intervals and the paired difference. Of XQuAD whole articles are held out. What the Trainer
learnt is opened here and scored by the same code.
--seconds cuts each training of ours; the Trainer takes as many steps as ours.
Needs: pip install 'hornbook[bench]'; HORNBOOK_DATA.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from adaptation_classify import WARM_UP, WEIGHT_DECAY, Trial, judged, learn
from claims import at_least, at_most
from finetuning import BATCH, PEER, TURN, InOrder
from peer_turns import TakingTurns
from transformers import (
    AutoTokenizer,
    BertForQuestionAnswering,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging
from turns import answer_turns, asked_turns

from hornbook import bundle as bundles
from hornbook import files
from hornbook.evaluation.evaluate import with_intervals
from hornbook.interop.catalogue import find_model
from hornbook.interop.huggingface import load_model
from hornbook.nn.precision import choose_precision
from hornbook.tasks.answer import Answer, AnswerItem
from hornbook.tasks.tag import Tag, TagItem
from hornbook.tasks.task import Metric, Parts
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.memory import keep_freed_memory, peak_bytes
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.rows import by_rows
from hornbook.training.schedules import Clock, linear


@dataclass(frozen=True)
class Study:
    """kind: of the task. trial: how both learn it."""

    kind: Any
    trial: Trial


STUDIES = {
    "wnut": Study(Tag, Trial("wnut17", 3e-4, 4, per_step=32, best="F1", floor=0.35)),
    "ewt": Study(Tag, Trial("ud_english_ewt", 3e-4, 1, per_step=64, floor=0.93)),
    "xquad": Study(Answer, Trial("xquad_en/xquad.en.json", 3e-4, 3, per_step=8, best="F1")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    known = ["speed", "memory", *STUDIES]
    parser.add_argument("what", nargs="*", default=known, metavar="WHAT", help=", ".join(known))
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", choices=["hornbook", "trainer", "turns"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if arguments.alone == "turns":
        answer_turns(our_turns(arguments.turns), TURN)
        return
    if arguments.alone:
        peak(arguments.alone)
        return
    chosen = choose_precision()
    print(f"{torch.get_num_threads()} threads; number format: {chosen.dtype} ({chosen.reason})")
    for what in arguments.what:
        if what == "speed":
            speed(arguments.turns)
        elif what == "memory":
            memory()
        elif what in STUDIES:
            quality(what, STUDIES[what], arguments.seconds, arguments.seed)
        else:
            parser.error(f"there is no {what}; known: {', '.join(known)}")


def at(data: str) -> str:
    """A set of the data folder."""
    return next(str(f / data) for f in files.data_folders() if (f / data).exists())


# Speed and memory


def sentences(n: int) -> tuple[Tag, list[TagItem]]:
    parts = Tag.open_data(at(STUDIES["wnut"].trial.data), {}, seed=0)
    task = Tag.make(bundles.open_model("minilm"), parts)
    return task, task.items(parts.train[:n])


def speed(turns: int) -> None:
    n = (turns + 1) * TURN * BATCH
    task, items = sentences(n)
    taking = TakingTurns(asked_turns([__file__, "--alone", "turns", "--turns", str(turns)]), TURN)
    with tempfile.TemporaryDirectory() as scratch:
        at_defaults(task, items, scratch, [taking]).train()
    counted = sum(map(task.length, items[TURN * BATCH :])) / turns
    print(f"speed, WNUT-17, {counted / TURN / BATCH:.0f} tokens a sentence, {BATCH} a step")
    for name, seconds in zip((PEER, "hornbook"), zip(*taking.turns[1:], strict=True), strict=True):
        print(f"    {name:24}{counted / statistics.median(seconds):9.0f} tokens/s")
    ratios = [theirs / ours for theirs, ours in taking.turns[1:]]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"    ratio: {middle:.2f} (quartiles {low:.2f} and {high:.2f})")
    at_least(f"tagging, tokens a second, times {PEER}'s", middle, 2)


def our_turns(turns: int) -> Iterator[float]:
    """Seconds of our steps in the first turn, which warms up, and in so many others."""
    task, items = sentences((turns + 1) * TURN * BATCH)
    return our_seconds(task, items)


def our_seconds(task: Tag, items: Sequence[TagItem]) -> Iterator[float]:
    """Seconds of each of our steps, over the batches that the Trainer takes."""
    keep_freed_memory()  # as the recipe does
    model = task.build(bundles.open_model("minilm"))
    batches = ([task.collate(items[i : i + BATCH])] for i in range(0, len(items), BATCH))
    optimizer = adamw(decay_groups(model.named_parameters(), lr=5e-5, weight_decay=0.0))
    clock = Clock(n_steps=len(items) // BATCH + 1)
    with by_rows(model):
        steps = train_steps(
            model, task.loss, batches, optimizer, linear(0.0), clock, make_accelerator()
        )
        while True:
            start = time.perf_counter()
            if next(steps, None) is None:
                return
            yield time.perf_counter() - start


def at_defaults(task: Tag, items: Sequence[TagItem], scratch: str, callbacks: list[Any]) -> Trainer:
    return InOrder(
        model=peer(task),
        args=TrainingArguments(
            scratch, per_device_train_batch_size=BATCH, num_train_epochs=1, save_strategy="no",
            report_to=[], disable_tqdm=True, use_cpu=True, logging_steps=10**9,
        ),
        train_dataset=[row(item) for item in items],
        data_collator=collator(),
        callbacks=callbacks,
    )  # fmt: skip


def memory() -> None:
    peaks = {}
    for name in ("trainer", "hornbook"):
        told = subprocess.run(
            [sys.executable, __file__, "--alone", name], capture_output=True, text=True, check=True
        )
        peaks[name] = float(told.stdout.split()[-1])
    ratio = peaks["hornbook"] / peaks["trainer"]
    print(f"peak memory: hornbook {peaks['hornbook']:.0f} MB, {PEER} {peaks['trainer']:.0f} MB")
    at_most(f"tagging, peak memory, times {PEER}'s", ratio, 1)


def peak(name: str) -> None:
    """Twelve steps by one of the two, in this process."""
    task, items = sentences(12 * BATCH)
    if name == "hornbook":
        list(islice(our_seconds(task, items), 12))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            at_defaults(task, items, scratch, []).train()
    print(peak_bytes() / 2**20)


# The peer


def peer(task: Tag | Answer) -> PreTrainedModel:
    folder = find_model("minilm")
    if isinstance(task, Answer):
        return BertForQuestionAnswering.from_pretrained(folder)
    return BertForTokenClassification.from_pretrained(
        folder, id2label=dict(enumerate(task.label_names))
    )


def row(item: TagItem | AnswerItem) -> dict[str, Any]:
    if isinstance(item, TagItem):
        return {"input_ids": item.tokens, "labels": item.targets}
    return {
        "input_ids": item.tokens, "token_type_ids": item.segments,
        "start_positions": item.start, "end_positions": item.end,
    }  # fmt: skip


def collator() -> DataCollatorForTokenClassification:
    """Pads to the longest; what has no "labels" (questions) too."""
    return DataCollatorForTokenClassification(AutoTokenizer.from_pretrained(find_model("minilm")))


def peers_metrics(
    task: Tag | Answer, items: Sequence[Any], parts: Parts, trial: Trial, n_steps: int, seed: int
) -> list[Metric]:
    """The Trainer with our settings, and its own shuffling and dropout; scored by our task."""
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=peer(task),
            args=TrainingArguments(
                scratch, per_device_train_batch_size=trial.per_step, max_steps=n_steps,
                learning_rate=trial.lr, weight_decay=WEIGHT_DECAY,
                warmup_steps=round(WARM_UP * n_steps), save_strategy="no", report_to=[],
                disable_tqdm=True, use_cpu=True, seed=seed, logging_steps=10**9,
            ),
            train_dataset=[row(item) for item in items],
            data_collator=collator(),
        )  # fmt: skip
        trainer.train()
        trainer.save_model(scratch)
        learnt = load_model(Path(scratch)).eval()
    return scored(task, learnt, parts)


# Quality


def scored(task: Any, model: torch.nn.Module, parts: Parts) -> list[Metric]:
    test = parts.test or []
    return task.metrics(test, task.predict(model, task.items(test)))


def quality(name: str, study: Study, seconds: float, seed: int) -> None:
    trial = study.trial
    parts = study.kind.open_data(at(trial.data), {}, seed=seed)
    bundle = bundles.open_model("minilm")
    task = study.kind.make(bundle, parts)
    torch.manual_seed(seed)
    model = task.build(bundle)
    items = task.items(parts.train)
    took, n_steps = learn(task, model, items, trial, seconds=seconds, seed=seed)
    ours = scored(task, model.eval(), parts)
    began = time.perf_counter()
    theirs = peers_metrics(task, items, parts, trial, n_steps, seed)
    others = time.perf_counter() - began
    print(
        f"{name}: {len(parts.train):,} learnt, {len(parts.test or ()):,} tested; {n_steps} steps "
        f"of {trial.per_step}, rate {trial.lr:g}; {took:.0f} s, {PEER} {others:.0f} s"
    )
    for note in parts.notes:
        print(f"    {note}")
    for who, metrics in (("hornbook", ours), (PEER, theirs)):
        for m in with_intervals(metrics)[:3]:
            print(f"    {who:24}{m.name:12} {m.value:.4f} ({m.low:.4f} to {m.high:.4f})")
    judged(name, ours, theirs, trial.floor)


if __name__ == "__main__":
    main()
