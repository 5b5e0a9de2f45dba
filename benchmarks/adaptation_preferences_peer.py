"""trl's DPOTrainer with peft beside `adaptation_preferences`: the same pairs, in turns with us."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from adaptation_chat import exported
from datasets import Dataset
from peft import LoraConfig
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

from hornbook.bundle import open_model
from hornbook.interop.peft import load_adapter
from hornbook.preference.encoding import Item

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class InOrder(DPOTrainer):
    """trl's trainer with pairs that are token ids already, in the data's order."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class TakingTurns(TrainerCallback):
    """Seconds of each turn: trl's steps, and as many of ours after them."""

    def __init__(self, ours: Iterator[float], turn: int, seconds: float) -> None:
        self.ours, self.turn, self.seconds = ours, turn, seconds
        self.turns: list[tuple[float, float]] = []
        self._taken: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **__: Any) -> Any:
        self._taken.append(time.perf_counter() - self._start)
        if len(self._taken) == self.turn:
            self.turns.append((sum(self._taken), sum(islice(self.ours, self.turn))))
            self._taken = []
            if sum(ours for _, ours in self.turns) >= self.seconds:
                control.should_training_stop = True
        return control


def beside(
    ours: Iterator[float],
    name: str,
    batches: Sequence[Sequence[Item]],
    arguments: argparse.Namespace,
    *,
    turn: int,
    beta: float,
    rank: int,
    alpha: int,
    warm_up: float,
) -> tuple[list[tuple[float, float]], Callable[[], Any]]:
    """Train both. Returns (trl's seconds, ours) of each turn, and what opens trl's adapter here."""
    rows = [
        {"prompt_ids": list(i.stem), "chosen_ids": list(i.branches[0]),
         "rejected_ids": list(i.branches[1])}
        for batch in batches for i in batch
    ]  # fmt: skip
    taking = TakingTurns(ours, turn, arguments.seconds)
    scratch = Path(tempfile.mkdtemp())
    with tempfile.TemporaryDirectory() as weights:  # half a gigabyte, not to be left behind
        folder = exported(Path(weights) / "model", name)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(folder)
    trainer = InOrder(
        model=model,
        args=DPOConfig(
            output_dir=str(scratch), max_steps=len(batches),
            per_device_train_batch_size=len(batches[0]), learning_rate=arguments.rate,
            lr_scheduler_type="linear", warmup_steps=round(warm_up * len(batches)),
            weight_decay=0.0, beta=beta, use_cpu=True, bf16=False, gradient_checkpointing=False,
            save_strategy="no", report_to=[], logging_steps=10**9, disable_tqdm=True,
            max_length=None,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=LAYERS, task_type="CAUSAL_LM"
        ),
        callbacks=[taking],
    )  # fmt: skip
    trainer.train()
    model = trainer.model
    model.save_pretrained(scratch / "adapter")

    def opened() -> Any:
        trained = open_model(arguments.model).model
        load_adapter(scratch / "adapter", trained)
        return trained.eval()

    return taking.turns, opened
