"""Opening a fine-tuning run: what is refused, what is handed over, what "before" is measured on."""

from __future__ import annotations

import json

import pytest
import torch

from hornbook import bundle
from hornbook.config import settings_from
from hornbook.errors import ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.quantization.four_bits import FourBitLinear
from hornbook.recipes import adaptation_run
from hornbook.recipes.adaptation_opening import open_new
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.records import EvaluationRecord
from hornbook.text.train import train_tokenizer

TEXTS = [f"{a} and {b} rose in {c}" for a in ("tin", "gold", "zinc", "lead")
         for b in ("corn", "rye", "oats", "rice") for c in ("may", "june", "july")]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    pieces = train_tokenizer("wordpiece", lambda: TEXTS, 120)
    torch.manual_seed(0)
    bundle.save(folder / "encoder", Bert(BertConfig(pieces.vocab_size, 40, 1, 2, 16, 32)), pieces)
    words = train_tokenizer("bpe", lambda: TEXTS, 300, special=["<|endoftext|>"])
    bundle.save(folder / "decoder", GPT(GPTConfig(words.vocab_size, 40, 1, 2, 16, 32)), words)
    (folder / "texts.txt").write_text("\n\n".join(TEXTS))
    rows = [{"question": t, "options": ["may", "june"], "answer": i % 2}
            for i, t in enumerate(TEXTS)]  # fmt: skip
    (folder / "questions_test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    pairs = "".join(f"{t},{t[::-1]}\n" for t in TEXTS)
    judged = [{"prompt": t, "chosen": "may", "rejected": "june"} for t in TEXTS]
    (folder / "judged.jsonl").write_text("".join(json.dumps(r) + "\n" for r in judged))
    (folder / "pairs.csv").write_text("first,second\n" + pairs)
    return folder


def session(home, task, data, model="encoder", **given):
    usual = {"task": task, "model": str(home / model), "data": str(home / data), "steps": 1}
    return open_new(settings_from(AdaptSettings, **usual, **given), home / "out")


def test_data_of_one_part_are_refused_before_anything_is_made(home):
    with pytest.raises(DataError, match="has no train part") as error:
        session(home, "choose", "questions_test.jsonl", "decoder")
    assert "the word test" in error.value.hint


def test_the_seed_of_a_run_chooses_the_hidden_words(home):
    def hidden(seed):
        made = session(home, "fill", "texts.txt", seed=seed)
        shown = made.task.show(made.train_items[0])
        return made.task.seed, [part.target for part in shown]

    assert hidden(0)[0] == 0 and hidden(5)[0] == 5
    assert hidden(5) == hidden(5)
    assert hidden(5)[1] != hidden(0)[1]


@pytest.mark.parametrize("task", ["fill", "embed"])
def test_more_tokens_than_the_model_reads_are_refused(home, task):
    data = "texts.txt" if task == "fill" else "pairs.csv"
    with pytest.raises(ConfigError, match="max_tokens is 41, and the model reads 40"):
        session(home, task, data, max_tokens=41)
    assert session(home, task, data, max_tokens=40).task.max_tokens == 40


def test_preflight_is_told_where_and_in_which_numbers_the_run_learns(home, monkeypatch):
    monkeypatch.setenv("HORNBOOK_DEVICE", "cpu")
    told = []

    def rehearse(run):
        told.append(run.precision)
        raise KeyboardInterrupt

    monkeypatch.setattr(adaptation_run, "rehearse", rehearse)
    made = session(home, "embed", "pairs.csv")  # accelerate has one format a process
    made.settings = made.settings.model_copy(update={"precision": "bfloat16"})
    with pytest.raises(KeyboardInterrupt):
        made.look_over()
    assert (told[0].device, told[0].dtype) == ("cpu", "bfloat16")


def test_a_rank_among_few_is_not_set_beside_one_among_all(home, monkeypatch):
    first = EvaluationRecord(step=0, tokens=0, seconds=0, validation_loss=2.0, metrics={"mrr": 0.5})
    made = session(home, "embed", "pairs.csv")
    assert made._before([first]) == {"loss": 2.0, "mrr": 0.5}
    made = session(home, "embed", "pairs.csv")
    made.some_validation = made.parts.validation[:2]
    assert made._before([first]) == {"loss": 2.0}


@pytest.mark.parametrize(
    ("task", "data", "model"),
    [("fill", "texts.txt", "encoder"), ("dpo", "judged.jsonl", "decoder")],
)
def test_a_model_reads_some_examples_before_it_is_rounded(home, task, data, model):
    """Each layer has put back what its rounding costs, the same whenever the run is opened."""
    opened = [session(home, task, data, model, method="qlora") for _ in range(2)]
    layers = [[m for m in s.model.modules() if isinstance(m, FourBitLinear)] for s in opened]
    assert len(layers[0]) == 4
    for one, again in zip(*layers, strict=True):
        assert one.left is not None and torch.equal(one.weight, again.weight)
