"""The first 20 steps of trl's trainers, from the same weights over the same batches, in float32.

Where trl differs it says so: its ORPO adds the prompt's own loss to the chosen answer's, and takes
its mean over all tokens of a micro-batch, so that accumulating changes the loss. The paper has
neither (equations 2 and 6), and there are no such terms where prompts have one token (which nothing
foretells) and the chosen answers of a batch one length.
"""

from __future__ import annotations

import random

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import SequentialSampler
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from hornbook.interop.huggingface import load_model
from hornbook.nn.precision import Precision
from hornbook.preference.encoding import Item
from hornbook.preference.reward import Reward
from hornbook.preference.task import Dpo, Ipo, Orpo
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.schedules import Clock

N_STEPS, N_PAIRS, RATE = 20, 3, 3e-3
SIZES = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 32,
         "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}  # fmt: skip


def pairs(n: int, *, alike: bool = False) -> list[Item]:
    """Random tokens. alike: prompts of one token, chosen answers of five."""
    rng = random.Random(0)

    def tokens(least: int, most: int) -> tuple[int, ...]:
        return tuple(rng.randrange(2, 48) for _ in range(rng.randint(least, most)))

    return [
        Item(
            i,
            tokens(1, 1) if alike else tokens(2, 7),
            (tokens(5, 5) if alike else tokens(1, 6), tokens(1, 6)),
        )
        for i in range(n)
    ]


def words() -> PreTrainedTokenizerFast:
    vocab = {str(i): i for i in range(48)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocab, unk_token="0")), pad_token="0", eos_token="1"
    )


class Watched:
    """trl's trainer: data as they come, already token ids, and each step's loss kept."""

    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)

    def _prepare_dataset(self, dataset, *_):
        return dataset

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        self.seen.append(loss.item())
        return loss


class WatchedOrpo(Watched, ORPOTrainer):
    def tokenize_row(self, feature, model=None):
        row = {}
        prompt = [int(word) for word in feature["prompt"].split()]
        for name in ("chosen", "rejected"):
            answer = [int(word) for word in feature[name].split()]
            row[f"{name}_input_ids"] = prompt + answer
            row[f"{name}_attention_mask"] = [1] * len(prompt + answer)
            row[f"{name}_labels"] = [-100] * len(prompt) + answer
        return row | {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}


def settings(config, folder, **more):
    return config(
        output_dir=str(folder), max_steps=N_STEPS, per_device_train_batch_size=N_PAIRS,
        learning_rate=RATE, lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0,
        max_grad_norm=1.0, adam_epsilon=1e-8, optim="adamw_torch", use_cpu=True, bf16=False,
        gradient_checkpointing=False, save_strategy="no", report_to=[], logging_steps=1000,
        disable_tqdm=True, seed=0, max_length=32, **more,
    )  # fmt: skip


def theirs(trainer, **arguments) -> list[float]:
    """The losses of trl's steps."""
    watched = trainer if trainer is WatchedOrpo else type("W", (Watched, trainer), {})
    run = watched(processing_class=words(), **arguments)
    run.seen = []
    run.train()
    return run.seen


def ours(task, folder, items) -> list[float]:
    """The losses of our steps over the same batches."""
    model = load_model(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    if begin := getattr(task, "begin", None):
        begin(model, items)
    batches = [[task.collate(items[at : at + N_PAIRS])] for at in range(0, len(items), N_PAIRS)]
    steps = train_steps(
        model, task.loss, batches, optimizer, lambda progress: 1.0, Clock(n_steps=N_STEPS + 1),
        make_accelerator(Precision("cpu", "float32", "a test's")), clip=1.0,
    )  # fmt: skip
    return [step.loss for step in steps]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of the same random decoder: with its head for tokens, and with one for a reward."""
    folder = tmp_path_factory.mktemp("random")
    for kind, name, more in (
        (LlamaForCausalLM, "decoder", {}),
        (LlamaForSequenceClassification, "reward", {"num_labels": 1, "problem_type": "regression"}),
    ):
        torch.manual_seed(1)
        kind(LlamaConfig(**SIZES, initializer_range=0.2, **more)).save_pretrained(folder / name)
    return folder


def as_ids(items):
    return Dataset.from_list(
        [
            {"prompt_ids": list(i.stem), "chosen_ids": list(i.branches[0]),
             "rejected_ids": list(i.branches[1])}
            for i in items
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "task"), [("sigmoid", Dpo(None, beta=0.3)), ("ipo", Ipo(None, tau=0.3))]
)
def test_dpo_and_ipo(loss, task, saved, tmp_path):
    items = pairs(N_STEPS * N_PAIRS)
    expected = theirs(
        DPOTrainer,
        model=LlamaForCausalLM.from_pretrained(saved / "decoder"),
        ref_model=LlamaForCausalLM.from_pretrained(saved / "decoder"),
        args=settings(DPOConfig, tmp_path, beta=0.3, loss_type=[loss]),
        train_dataset=as_ids(items),
    )
    assert len(expected) == N_STEPS and len(set(expected)) > N_STEPS / 2
    assert ours(task, saved / "decoder", items) == pytest.approx(expected, rel=1e-4)


def trl_orpo(saved, tmp_path, items, **more):
    rows = [
        {"prompt": " ".join(map(str, i.stem)), "chosen": " ".join(map(str, i.branches[0])),
         "rejected": " ".join(map(str, i.branches[1]))}
        for i in items
    ]  # fmt: skip
    return theirs(
        WatchedOrpo,
        model=LlamaForCausalLM.from_pretrained(saved / "decoder"),
        args=settings(ORPOConfig, tmp_path, beta=0.2, **more),
        train_dataset=Dataset.from_list(rows),
    )


def test_orpo(saved, tmp_path):
    items = pairs(N_STEPS * N_PAIRS, alike=True)
    expected = trl_orpo(saved, tmp_path, items)
    assert len(expected) == N_STEPS and len(set(expected)) > N_STEPS / 2
    found = ours(Orpo(None, weight=0.2), saved / "decoder", items)
    assert found == pytest.approx(expected, rel=1e-4)


def test_orpo_of_a_batch_is_the_mean_of_its_pairs_here_and_not_in_trl(saved, tmp_path):
    """Answers of unlike lengths: one batch of three against three batches of one."""
    items = [Item(i, item.stem[:1], item.branches) for i, item in enumerate(pairs(N_PAIRS))]
    assert len({len(item.branches[0]) for item in items}) > 1
    task, model = Orpo(None, weight=0.2), load_model(saved / "decoder")

    def mean(batch):
        loss = task.loss(model, task.collate(batch))
        return loss.total.item() / loss.n_targets

    apart = sum(mean([item]) for item in items) / N_PAIRS
    assert mean(items) == pytest.approx(apart, rel=1e-5)
    trainer_alone = trl_orpo(saved, tmp_path, items * N_STEPS)[0]
    assert abs(trainer_alone - apart) > 1e-3 * apart


def test_reward(saved, tmp_path):
    items = pairs(N_STEPS * N_PAIRS)
    rows = [
        {"chosen_ids": list(i.stem + i.branches[0]), "rejected_ids": list(i.stem + i.branches[1])}
        for i in items
    ]
    expected = theirs(
        RewardTrainer,
        model=LlamaForSequenceClassification.from_pretrained(saved / "reward"),
        args=settings(RewardConfig, tmp_path),
        train_dataset=Dataset.from_list(rows),
    )
    assert len(expected) == N_STEPS and len(set(expected)) > N_STEPS / 2
    assert ours(Reward(None), saved / "reward", items) == pytest.approx(expected, rel=1e-4)
