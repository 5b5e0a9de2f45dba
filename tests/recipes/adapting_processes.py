"""Adapt a tiny model to every task by as many processes as there are.

    torchrun --nproc-per-node 2 adapting_processes.py FOLDER      (or accelerate launch)

Each process writes FOLDER/rank-R.json: of every task the losses and gradient norms of its steps.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hornbook.adapters.methods import prepare
from hornbook.bundle import Bundle
from hornbook.config import settings_from
from hornbook.data.alike import Alike
from hornbook.data.choices import Question as Choice
from hornbook.data.conversations import Dialogue
from hornbook.data.examples import Document, Example
from hornbook.data.labelled import TextPair
from hornbook.data.passages import Passage
from hornbook.data.preferences import Judged, Preference
from hornbook.data.questions import Answer as Place
from hornbook.data.questions import Question
from hornbook.data.tagged import placed
from hornbook.data.written import SourceText
from hornbook.errors import TrainingError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.losses import LossSum
from hornbook.recipes.adaptation import adapt
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.kinds import KINDS
from hornbook.tasks.chat import ChatParts
from hornbook.tasks.task import Parts
from hornbook.text.chatml import END, with_chatml
from hornbook.text.train import train_tokenizer

N_STEPS, N_EXAMPLES, AT_ONCE = 3, 20, 7  # an odd number a step: processes have unequal shares
TEXT = "the cat sat on a mat while dogs ran off with red shoes and blue hats at noon"
WORDS = TEXT.split()
LABELS = ("animal", "thing", "time")
TAGS = ("O", "B-animal", "B-thing")


def text(i: int, n: int = 5) -> str:
    return " ".join(random.Random(i).choices(WORDS, k=n))


def encoder() -> Bundle:
    tokenizer = train_tokenizer("wordpiece", lambda: [TEXT] * 5, 90)
    config = BertConfig(tokenizer.vocab_size, 48, n_layers=2, n_heads=2, d_model=32, d_ff=48)
    return Bundle(Bert(config), tokenizer, "bert")


def decoder() -> Bundle:
    bare = train_tokenizer("bpe", lambda: [TEXT] * 5, 300, special=("<|endoftext|>",))
    tokenizer, template = with_chatml(bare)
    sizes = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_model": 32, "d_ff": 48}
    model = Llama(LlamaConfig(tokenizer.vocab_size, 160, tied_head=True, **sizes))
    ends = frozenset({tokenizer.control_ids[END]})
    return Bundle(model, tokenizer, "llama", template, "tiny", ends)


def pair_model() -> Bundle:
    special = ["<|endoftext|>", "<s>", "<e>"]
    tokenizer = train_tokenizer("bpe", lambda: [TEXT] * 5, 300, special=special)
    config = EncoderDecoderConfig(tokenizer.vocab_size, 48, 1, 2, 32, 48)
    return Bundle(EncoderDecoder(config), tokenizer, "marian", name="ours")


def classified() -> Parts:
    examples = [Example(Document(text(i)), (LABELS[i % 3],), str(i)) for i in range(N_EXAMPLES)]
    return Parts("x", examples, examples[:3], label_names=LABELS)


def paired() -> Parts:
    pairs = [TextPair(text(i), text(i + 50), LABELS[i % 3]) for i in range(N_EXAMPLES)]
    return Parts("x", pairs, pairs[:3], label_names=LABELS)


def tagged() -> Parts:
    texts = []
    for i in range(N_EXAMPLES):
        words = text(i, 3 + i % 5).split()
        texts.append(placed(words, [TAGS[len(word) % 3] for word in words], id=str(i)))
    return Parts("x", texts, texts[:3], label_names=TAGS)


def asked() -> Parts:
    questions = []
    for i in range(N_EXAMPLES):
        context = text(i, 12)
        word = context.split()[i % 12]
        place = Place(word, context.index(word))
        questions.append(Question(text(i + 50, 3), context, (place,), id=str(i)))
    return Parts("x", questions, questions[:3])


def written() -> Parts:
    sources = [SourceText(text(i, 2 + i % 4), (text(i + 50, 3),)) for i in range(N_EXAMPLES)]
    return Parts("x", sources, sources[:3])


def hidden() -> Parts:
    documents = [Document(text(i, 8 + i % 9)) for i in range(N_EXAMPLES)]
    return Parts("x", documents, documents[:3])


def continued() -> Parts:
    texts = [Passage(text(i, 8 + i % 9), ends=i % 2 == 0) for i in range(N_EXAMPLES)]
    return Parts("x", texts, texts[:3])


def talked() -> ChatParts:
    dialogues = []
    for i in range(N_EXAMPLES):
        said = [text(i, 3), text(i + 50, 1 + i % 5)] * (1 + i % 2)
        roles = ("user", "assistant") * len(said)
        messages = tuple({"role": r, "content": c} for r, c in zip(roles, said))
        dialogues.append(Dialogue(f"line {i}", messages))
    return ChatParts("x", tuple(dialogues), tuple(dialogues[:3]))


def alike() -> Parts:
    pairs = [Alike(text(i, 3), text(i + 50, 4 + i % 3)) for i in range(N_EXAMPLES)]
    pairs[3] = Alike(pairs[8].first, pairs[8].second)  # no wrong answers to each other
    return Parts("x", pairs, pairs[:3])


def chosen() -> Parts:
    choices = [
        Choice(text(i, 4), (text(i + 50, 1), text(i + 90, 2), text(i + 130, 3)), i % 3, str(i))
        for i in range(N_EXAMPLES)
    ]
    return Parts("x", choices, choices[:3])


def preferred() -> Parts:
    pairs = [
        Preference(text(i, 3), text(i + 50, 2), text(i + 90, 3), str(i)) for i in range(N_EXAMPLES)
    ]
    return Parts("x", pairs, pairs[:3])


def judged() -> Parts:
    rows = [Judged(text(i, 3), text(i + 50, 2), i % 2 == 0, str(i)) for i in range(N_EXAMPLES)]
    return Parts("x", rows, rows[:3])


# task: method, bundle, parts; every method once at least
CASES: dict[str, tuple[str, Callable[[], Bundle], Callable[[], Any]]] = {
    "classify": ("full", encoder, classified),
    "pairs": ("dora", encoder, paired),
    "tag": ("last-1", encoder, tagged),
    "answer": ("head", encoder, asked),
    "fill": ("full", encoder, hidden),
    "continue": ("lora", decoder, continued),
    "translate": ("full", pair_model, written),
    "summarize": ("lora", decoder, written),
    "chat": ("qlora", decoder, talked),
    "embed": ("full", encoder, alike),
    "choose": ("full", decoder, chosen),
    "dpo": ("lora", decoder, preferred),
    "ipo": ("full", decoder, preferred),
    "orpo": ("lora", decoder, preferred),
    "kto": ("lora", decoder, judged),
    "reward": ("full", decoder, preferred),
}


class Losses:
    """Hears a run: loss and gradient norm of each step."""

    def __init__(self) -> None:
        self.found: list[tuple[float, float]] = []

    def hear(self, step: Any) -> None:
        self.found.append((step.loss, step.gradient_norm))

    def hear_evaluation(self, evaluation: Any) -> None:
        pass


def losses(
    name: str, folder: Path, *, spoilt: bool = False, parts_of_a_step: int = 1
) -> list[tuple[float, float]]:
    method, make_bundle, make_parts = CASES[name]
    torch.manual_seed(0)
    bundle, parts = make_bundle(), make_parts()
    task = KINDS.load(name).make(bundle, parts)
    if spoilt:
        fine = task.loss
        object.__setattr__(task, "loss", lambda *both: LossSum(fine(*both).total * math.nan, 1))
    model = task.build(bundle)
    prepare(model, method, rank=2)
    settings = settings_from(
        AdaptSettings, task=name, model="tiny", data="x", method=method, lr=1e-2, steps=N_STEPS,
        examples_per_step=AT_ONCE, micro_batches=parts_of_a_step, evaluations=1,
    )  # fmt: skip
    heard = Losses()
    items = task.items(parts.train)
    adapt(model, task, items, None, settings, folder / name, heard)
    return heard.found


def all_losses(folder: Path) -> dict[str, list[tuple[float, float]]]:
    os.environ |= {"HORNBOOK_DEVICE": "cpu", "HORNBOOK_PRECISION": "float32"}
    torch.set_num_threads(1)
    end = Accelerator.end_training
    Accelerator.end_training = lambda self: None  # it parts the processes, and there are more tasks
    try:
        return {name: losses(name, folder) for name in CASES}
    finally:
        Accelerator.end_training = end


def main(folder: Path) -> None:
    found = all_losses(folder)
    with contextlib.suppress(TrainingError):
        losses("classify", folder / "spoilt", spoilt=True)
    rank = torch.distributed.get_rank()
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
