"""A table of two kinds of texts and a tiny encoder to fine-tune on it, for tests of commands."""

from __future__ import annotations

import random

import torch
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.models.bert import Bert, BertConfig
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.text.train import train_tokenizer

WORDS = {"grain": ("wheat", "corn", "rice", "oats"), "metal": ("gold", "silver", "tin", "zinc")}
OTHERS = ("prices", "of", "the", "rose", "fell", "today", "and", "were", "higher", "in", "may")


def made(folder):
    """news.csv, and the encoder with its head for hidden words in `tiny`."""
    rng, rows = random.Random(0), []
    for i in range(160):
        label = ("grain", "metal")[i % 2]
        words = [*rng.sample(OTHERS, 4), rng.choice(WORDS[label]), str(i)]
        rng.shuffle(words)
        rows.append((" ".join(words), label))
    (folder / "news.csv").write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in rows))
    tokenizer = train_tokenizer("wordpiece", lambda: [t for t, _ in rows], 200)
    torch.manual_seed(0)
    model = MaskedLM(Bert(BertConfig(tokenizer.vocab_size, 32, 2, 2, 32, 64)))
    bundle.save(folder / "tiny", model, tokenizer)
    return folder


def hornbook(*words, **options):
    result = CliRunner().invoke(app, [str(w) for w in words], **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def asking(home):
    return [
        "classify", "--model", home / "tiny", "--data", home / "news.csv", "--quiet",
        "--set", "lr=3e-3", "--set", "tokens_per_step=256", "--set", "evaluations=2",
    ]  # fmt: skip
