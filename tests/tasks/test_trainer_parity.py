"""The first 20 steps of transformers' Trainer, from the same weights over the same batches, in
float32: classification (one label, several, a number; pairs), options, hidden and next tokens."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import (
    AutoModelForCausalLM,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForSequenceClassification,
    GPT2ForSequenceClassification,
    LlamaForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from hornbook.interop.huggingface import load_model, save_model
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.heads import MARK, ChoiceScorer, HeadConfig, SequenceClassifier
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.precision import Precision
from hornbook.tasks.choose_pairs import ByPairs, PairsItem
from hornbook.tasks.classify import Classify, TextItem
from hornbook.tasks.continuing import Continue, Window
from hornbook.tasks.fill import Fill, FillItem
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.text.train import train_tokenizer
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, linear

N_STEPS, BATCH, RATE, V = 20, 4, 1e-3, 64
TRUNKS = {
    "bert": lambda: Bert(BertConfig(V, 32, 2, 2, 32, 48)),
    "gpt2": lambda: GPT(GPTConfig(V, 32, 2, 2, 32, 48)),
    "llama": lambda: Llama(LlamaConfig(V, 32, 2, 2, 32, 48, tied_head=True)),
    "nanochat": lambda: ModernGPT(ModernGPTConfig(V, 32, 2, 2, 32, 48)),
}
THEIRS = {
    "bert": BertForSequenceClassification,
    "gpt2": GPT2ForSequenceClassification,
    "llama": LlamaForSequenceClassification,
}


class InOrder(Trainer):
    """The Trainer with its data in order, and each step's loss kept."""

    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        self.seen.append(loss.item())
        return loss


def their_losses(model, rows, padding, tmp_path):
    """rows: inputs and labels by name; padding: what fills each of them up."""

    def collate(members):
        batch = {}
        for name, filler in padding.items():
            values = [m[name] for m in members]
            if filler is not None:
                longest = max(map(len, values))
                values = [[*v, *[filler] * (longest - len(v))] for v in values]
            batch[name] = torch.tensor(np.array(values))
        return batch

    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attn_pdrop"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    for part in model.modules():  # attention keeps a number of its own
        if hasattr(part, "dropout_prob") or hasattr(part, "attention_dropout"):
            part.dropout_prob = part.attention_dropout = 0.0
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=RATE,
        weight_decay=0.01, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
        remove_unused_columns=False,
    )  # fmt: skip
    trainer = InOrder(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    trainer.seen = []
    trainer.train()
    return trainer.seen


def our_losses(model, task, items):
    optimizer = adamw(decay_groups(model.named_parameters(), lr=RATE, weight_decay=0.01))
    batches = ([task.collate(items[i : i + BATCH])] for i in range(0, len(items), BATCH))
    accelerator = make_accelerator(Precision("cpu", "float32", "the parity's"))
    steps = train_steps(
        model, task.loss, batches, optimizer, linear(0.0), Clock(n_steps=N_STEPS), accelerator
    )
    return [step.loss for step in steps]


def texts(rng, n):
    return [[rng.randrange(1, V) for _ in range(rng.randint(3, 12))] for _ in range(n)]


class Words:
    """What a task asks of a tokenizer when items are made by hand."""

    special_ids = frozenset({0, 1, 2, 3, 4})
    vocab_size = V

    class rust:
        @staticmethod
        def token_to_id(token):
            return {"[MASK]": 4}.get(token)


@pytest.mark.parametrize(
    ("trunk", "problem"),
    [
        ("bert", "single_label_classification"),
        ("bert", "multi_label_classification"),
        ("bert", "regression"),
        ("gpt2", "single_label_classification"),
        ("llama", "single_label_classification"),
    ],
)
def test_classification(trunk, problem, tmp_path):
    rng = random.Random(0)
    torch.manual_seed(0)
    names = ("score",) if problem == "regression" else ("a", "b", "c")
    body = TRUNKS[trunk]()
    model = SequenceClassifier(body, HeadConfig(body.config, names, problem, pad_token=0))
    save_model(tmp_path, model)
    rows, items = [], []
    for i, tokens in enumerate(texts(rng, N_STEPS * BATCH)):
        segments = [0] * 2 + [1] * (len(tokens) - 2) if trunk == "bert" else None
        row = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}
        if segments:
            row["token_type_ids"] = segments
        target = rng.randrange(3)
        if problem == "multi_label_classification":
            target = tuple(j for j in range(3) if rng.random() < 0.4)
            row["labels"] = [float(j in target) for j in range(3)]
        elif problem == "regression":
            target = rng.random() * 5
            row["labels"] = np.float32(target)
        else:
            row["labels"] = target
        rows.append(row)
        items.append(TextItem(i, tokens, target, segments))
    padding = {"input_ids": 0, "attention_mask": 0, "labels": None}
    if trunk == "bert":
        padding["token_type_ids"] = 0
    theirs = THEIRS[trunk].from_pretrained(tmp_path)
    expected = their_losses(theirs, rows, padding, tmp_path)
    task = Classify(Words, names, problem, max_tokens=32)
    found = our_losses(load_model(tmp_path), task, items)
    assert len(found) == N_STEPS
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_options(tmp_path):
    """Of three options each: transformers' batch is a rectangle, and ours need not be."""
    rng = random.Random(0)
    torch.manual_seed(0)
    body = TRUNKS["bert"]()
    save_model(tmp_path, ChoiceScorer(body, HeadConfig(body.config, MARK, "choice")))
    rows, items = [], []
    for i in range(N_STEPS * BATCH):
        pairs = tuple(texts(rng, 3))
        segments = tuple([0] * 2 + [1] * (len(pair) - 2) for pair in pairs)
        items.append(PairsItem(i, pairs, segments, rng.randrange(3)))
        filled = [[0] * (12 - len(pair)) for pair in pairs]
        rows.append(
            {
                "input_ids": [p + f for p, f in zip(pairs, filled, strict=True)],
                "token_type_ids": [s + f for s, f in zip(segments, filled, strict=True)],
                "attention_mask": [[1] * len(p) + f for p, f in zip(pairs, filled, strict=True)],
                "labels": items[-1].answer,
            }
        )
    theirs = BertForMultipleChoice.from_pretrained(tmp_path)
    expected = their_losses(theirs, rows, dict.fromkeys(rows[0]), tmp_path)
    tokenizer = train_tokenizer("wordpiece", lambda: ["a b c"], 40)
    found = our_losses(load_model(tmp_path), ByPairs(tokenizer, max_tokens=32), items)
    assert len(found) == N_STEPS
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_hidden_words(tmp_path):
    rng = random.Random(0)
    torch.manual_seed(0)
    save_model(tmp_path, MaskedLM(Bert(BertConfig(V, 32, 2, 2, 32, 48))))
    task = Fill(Words, share=0.3)
    rows, items = [], []
    for i, text in enumerate(texts(rng, N_STEPS * BATCH)):
        tokens = np.array([5 + t % (V - 5) for t in text])
        item = FillItem(i, i, tokens, np.arange(len(tokens)) // 2)
        shown, hidden = task._hidden(item, 0)
        labels = np.where(hidden, tokens, -100)
        row = {"input_ids": shown.tolist(), "attention_mask": [1] * len(tokens)}
        rows.append(row | {"labels": labels.tolist()})
        items.append(item)
    padding = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    theirs = BertForMaskedLM.from_pretrained(tmp_path)
    expected = their_losses(theirs, rows, padding, tmp_path)
    found = our_losses(load_model(tmp_path), task, items)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("trunk", ["gpt2", "llama", "nanochat"])
def test_next_tokens(trunk, tmp_path):
    rng = random.Random(0)
    torch.manual_seed(0)
    save_model(tmp_path, TRUNKS[trunk]())
    rows, items = [], []
    for i, tokens in enumerate(texts(rng, N_STEPS * BATCH)):
        row = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}
        # The first token is never guessed. Where it has a label the Trainer counts it with GPT-2
        # all the same, and divides the sum of a text's losses by one too many.
        rows.append(row | {"labels": [-100, *tokens[1:]]})
        items.append(Window(np.array(tokens), np.arange(len(tokens)) > 0, i))
    padding = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    expected = their_losses(theirs, rows, padding, tmp_path)
    found = our_losses(
        load_model(tmp_path), Continue(train_tokenizer("bpe", lambda: ["a"], 260)), items
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)
