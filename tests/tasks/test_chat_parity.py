"""The first 20 steps of trl on completions only, and what it learns besides the answers."""

from __future__ import annotations

import random

import pytest
import torch
from torch.utils.data import SequentialSampler

from hornbook import bundle as bundles
from hornbook.data.conversations import Dialogue
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.precision import Precision
from hornbook.tasks.chat import Chat, ChatParts
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.chatml import END, SOURCE, with_chatml
from hornbook.text.tokenizer import Tokenizer
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, linear

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

N_STEPS, BATCH, RATE = 20, 4, 1e-3
# Nothing behind the end of a turn: what stands there carries loss with trl, see below.
BARE = SOURCE.replace("'<|im_end|>\\n'", "'<|im_end|>'")


@pytest.fixture(scope="module")
def spoken() -> list[tuple[str, str]]:
    rng = random.Random(0)

    def words(n: int) -> str:
        return " ".join(rng.choice(["red", "fox", "runs", "home", "now"]) for _ in range(n))

    return [(words(rng.randint(1, 6)), words(rng.randint(1, 5))) for _ in range(N_STEPS * BATCH)]


def conversations(spoken) -> list[Dialogue]:
    return [
        Dialogue("x", ({"role": "user", "content": q}, {"role": "assistant", "content": a}))
        for q, a in spoken
    ]


def saved_model(folder, byte_tokenizer: Tokenizer, source: str):
    tokenizer, _ = with_chatml(byte_tokenizer)
    template = ChatTemplate(source, {"eos_token": END, "pad_token": "<|endoftext|>"})
    torch.manual_seed(0)
    model = Llama(LlamaConfig(tokenizer.vocab_size, 160, 2, 2, 32, 48, tied_head=True))
    ends = {tokenizer.control_ids[END]}
    bundles.save(folder, model, tokenizer, template=template, stop_tokens=ends)
    return bundles.load(folder)


class InOrder(trl.SFTTrainer):
    """The trainer with its data in order, and each step's loss and labels kept."""

    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.labels.append(inputs["labels"].clone())
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.losses.append(loss.item())
        return loss


def peer(folder, spoken, scratch) -> InOrder:
    rows = [
        {"prompt": list(d.messages[:1]), "completion": list(d.messages[1:])}
        for d in conversations(spoken)
    ]
    trainer = InOrder(
        model=str(folder),
        args=trl.SFTConfig(
            str(scratch), per_device_train_batch_size=BATCH, num_train_epochs=1, bf16=False,
            learning_rate=RATE, weight_decay=0.01, save_strategy="no", report_to=[],
            disable_tqdm=True, use_cpu=True, gradient_checkpointing=False,
            model_init_kwargs={"dtype": "float32"},
        ),
        train_dataset=datasets.Dataset.from_list(rows),
    )  # fmt: skip
    trainer.losses, trainer.labels = [], []
    trainer.train()
    return trainer


def test_the_first_steps_of_completions_only(byte_tokenizer, spoken, tmp_path):
    bundle = saved_model(tmp_path / "model", byte_tokenizer, BARE)
    dialogues = conversations(spoken)
    task = Chat.make(bundle, ChatParts("x", dialogues, dialogues))
    items = task.items(dialogues)
    optimizer = adamw(decay_groups(bundle.model.named_parameters(), lr=RATE, weight_decay=0.01))
    steps = train_steps(
        bundle.model,
        task.loss,
        ([task.collate(items[i : i + BATCH])] for i in range(0, len(items), BATCH)),
        optimizer,
        linear(0.0),
        Clock(n_steps=N_STEPS),
        make_accelerator(Precision("cpu", "float32", "the parity's")),
    )
    ours = [step.loss for step in steps]
    theirs = peer(tmp_path / "model", spoken, tmp_path).losses
    assert len(ours) == N_STEPS and ours[-1] < ours[0] - 0.5
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_trl_also_learns_what_nobody_asks_for(byte_tokenizer, spoken, tmp_path):
    """ChatML ends a turn with <|im_end|> and a line break. Generation stops at the first; trl's
    mask covers both, so that one target in an answer is for nothing, and its loss looks lower."""
    bundle = saved_model(tmp_path / "model", byte_tokenizer, SOURCE)
    dialogues = conversations(spoken)[:BATCH]
    task = Chat.make(bundle, ChatParts("x", dialogues, dialogues))
    trainer = peer(tmp_path / "model", spoken[:BATCH], tmp_path)
    line_break = task.tokenizer.encode(["\n"], special=False)[0][0]
    for item, labels in zip(task.items(dialogues), trainer.labels[0], strict=True):
        learnt = labels[labels != -100].tolist()
        assert learnt == [*item.tokens[item.learnt].tolist(), line_break]
