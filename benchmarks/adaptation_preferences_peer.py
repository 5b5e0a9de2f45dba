"""trl's DPOTrainer with peft beside `adaptation_preferences`: the same pairs, in turns with us."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from adaptation_chat import exported
from datasets import Dataset
from peer_turns import TakingTurns
from peft import LoraConfig
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
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
    by_turns = (sum(islice(steps, turn)) for steps in repeat(ours))
    taking = TakingTurns(by_turns, turn, arguments.seconds)
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
