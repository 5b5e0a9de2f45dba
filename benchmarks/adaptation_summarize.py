"""Claim: SmolLM2 taught with LoRA to summarise scientific abstracts in a sentence (SciTLDR) writes
better summaries than before, not below trl's SFTTrainer at equal settings.

    HORNBOOK_DATA=… python benchmarks/adaptation_summarize.py [--steps 40] [--tested 60]

The same abstracts in the same order, 8 a step, AdamW with a tenth of warm-up and linear decay,
LoRA of rank 16 on all linear layers of the blocks, both in float32 without checkpointing. ROUGE of
greedy summaries of the first test abstracts, with 95 % intervals; what trl learnt is opened here
and writes by the same code. Both run whole, one after the other.
Needs: pip install 'hornbook[bench]'.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adaptation_chat import PEER, RANK, exported
from claims import claim

from hornbook import bundle as bundles
from hornbook.adapters.methods import prepare
from hornbook.data.written import SourceText
from hornbook.evaluation.evaluate import compared, with_intervals
from hornbook.interop.peft import load_adapter
from hornbook.nn.precision import Precision
from hornbook.tasks.task import Metric
from hornbook.tasks.write import Summarize
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, linear

MODEL, BATCH, WARM_UP = "smollm2-135m-instruct", 8, 0.1


def ours(opened: Any, task: Summarize, learnt: list[SourceText], rate: float) -> float:
    """Teach the model; the seconds that took."""
    model, items = task.build(opened), task.items(learnt)
    torch.manual_seed(0)
    prepare(model, "lora", rank=RANK, alpha=2 * RANK)
    batches = [items[i : i + BATCH] for i in range(0, len(items), BATCH)]
    steps = train_steps(
        model, task.loss, ([task.collate(batch)] for batch in batches),
        adamw(decay_groups(model.named_parameters(), lr=rate, weight_decay=0.0)), linear(WARM_UP),
        Clock(n_steps=len(batches)), make_accelerator(Precision("cpu", "float32", "as the peer")),
    )  # fmt: skip
    began = time.perf_counter()
    losses = [step.loss for step in steps]
    print(f"loss of the first step {losses[0]:.3f}, of the last {losses[-1]:.3f}")
    return time.perf_counter() - began


def theirs(
    folder: Path, task: Summarize, learnt: list[SourceText], rate: float
) -> tuple[Any, float]:
    """trl's model, opened here, and the seconds that its training took."""
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers.utils import logging

    logging.set_verbosity_error()

    class InOrder(trl.SFTTrainer):
        def _get_train_sampler(self, *_: object) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    rows = [
        {"prompt": said("user", task.chat_prompt.format(source=one.source)),
         "completion": said("assistant", one.targets[0])}
        for one in learnt
    ]  # fmt: skip
    n_steps = -(-len(rows) // BATCH)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = InOrder(
            model=str(folder),
            args=trl.SFTConfig(
                scratch, num_train_epochs=1, per_device_train_batch_size=BATCH, learning_rate=rate,
                lr_scheduler_type="linear", warmup_steps=round(WARM_UP * n_steps),
                weight_decay=0.0, bf16=False, gradient_checkpointing=False, save_strategy="no",
                report_to=[], disable_tqdm=True, use_cpu=True, logging_steps=10**9,
                model_init_kwargs={"dtype": "float32"}, seed=0,
            ),
            train_dataset=Dataset.from_list(rows),
            peft_config=LoraConfig(
                r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )  # fmt: skip
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        model: Any = trainer.model
        model.save_pretrained(Path(scratch) / "adapter")
        trained = bundles.load(folder).model
        load_adapter(Path(scratch) / "adapter", trained)
    return trained, seconds


def scored(who: str, task: Summarize, model: Any, test: list[SourceText]) -> list[Metric]:
    began = time.perf_counter()
    written = task.predict(model.eval(), task.items(test))
    metrics = task.metrics(test, written)
    figures = ", ".join(
        f"{m.name} {m.value:.3f} ({m.low:.3f} to {m.high:.3f})" for m in with_intervals(metrics)
    )
    print(f"{who:24}{figures}; {time.perf_counter() - began:.0f} s", flush=True)
    print(f"    {written[0]['text'].strip()}")
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--tested", type=int, default=60)
    given = parser.parse_args()
    folder = Path(os.environ["HORNBOOK_DATA"]) / "scitldr_a"
    parts = Summarize.open_data(str(folder), {}, seed=0)
    rows = np.random.default_rng(0).permutation(len(parts.train))[: given.steps * BATCH]
    learnt = [parts.train[i] for i in rows]
    test = list(parts.test or [])[: given.tested]
    with tempfile.TemporaryDirectory() as scratch:
        model_folder = exported(Path(scratch) / "model", MODEL)
        opened = bundles.load(model_folder)
        task = Summarize.make(opened, parts, n_beams=1)
        print(f"{len(learnt)} abstracts, {BATCH} a step, rate {given.rate:g}; {len(test)} tested; "
              f"{torch.get_num_threads()} threads")  # fmt: skip
        before = scored("before", task, opened.model, test)
        seconds = ours(opened, task, learnt, given.rate)
        after = scored("hornbook", task, opened.model, test)
        peer, others = theirs(model_folder, task, learnt, given.rate)
        its = scored(PEER, task, peer, test)
    print(f"seconds of training: hornbook {seconds:.0f}, {PEER} {others:.0f}")
    for what, other in (("the model before", before), (PEER, its)):
        found = compared(after, other)[0]
        assert found.low is not None and found.high is not None
        is_peer = other is its
        claim(
            f"SciTLDR, {found.name}, hornbook's minus that of {what}",
            f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})",
            "not below 0 by more than its interval" if is_peer else "its interval above 0",
            found.high >= 0 if is_peer else found.low > 0,
        )


if __name__ == "__main__":
    main()
