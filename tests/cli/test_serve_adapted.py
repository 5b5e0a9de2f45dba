"""`hornbook serve` of models that were fine-tuned here: what each can do behind the API."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest
import torch

from hornbook import bundle as bundles
from hornbook.bundle import Bundle
from hornbook.cli import serve
from hornbook.data.alike import Alike
from hornbook.data.examples import Document, Example
from hornbook.errors import ConfigError
from hornbook.models.bert import Bert, BertConfig
from hornbook.recipes.apply import ready
from hornbook.serving.app import create_app
from hornbook.serving.listening import in_thread
from hornbook.tasks.classify import Classify
from hornbook.tasks.embed import Embed
from hornbook.tasks.task import Parts
from hornbook.text.train import train_tokenizer

TEXTS = ["wheat prices fell", "the ship left", "wheat by ship", "corn fell"]


@pytest.fixture
def base():
    tokenizer = train_tokenizer("wordpiece", lambda: TEXTS * 20, 120)
    torch.manual_seed(0)
    return Bundle(Bert(BertConfig(tokenizer.vocab_size, 16, 2, 2, 32, 32)), tokenizer, "bert")


def saved(folder, task, base):
    """A model folder as `hornbook finetune` leaves it."""
    bundles.save(folder, task.build(base), base.tokenizer)
    (folder / "task.json").write_text(json.dumps(task.card()))
    return str(folder)


def classifier(folder, base, *, several: bool):
    labels = [("grain",), ("ship",), ("grain", "ship") if several else ("ship",), ("grain",)]
    rows = [Example(Document(t), names) for t, names in zip(TEXTS, labels, strict=True)]
    parts = Parts("x", rows, rows, label_names=("grain", "ship"), multi_label=several)
    return saved(folder, Classify.make(base, parts), base)


def asked(path, route, **body):
    served = serve.open_models([f"mine={path}"], n_slots=2, n_open=4)
    with in_thread(create_app(served)) as url:
        return httpx.post(f"{url}/v1/{route}", json={"model": "mine"} | body, timeout=30)


@pytest.mark.parametrize("several", [False, True])
def test_a_classifier_says_what_it_says_without_a_server(tmp_path, base, several):
    path = classifier(tmp_path / "run", base, several=several)
    texts = ["wheat fell", "  ", "the corn ship"]
    rows = asked(path, "classify", input=texts).json()["data"]
    assert rows[1]["predicted"] == rows[1]["labels"] == []
    alone = list(ready("classify", path)([{"text": t} for t in texts if t.strip()]))
    for row, said in zip((rows[0], rows[2]), alone, strict=True):
        told = {label["label"]: label["score"] for label in row["labels"]}
        assert told == pytest.approx(said["probabilities"], abs=1e-4)
        assert row["predicted"] == (said["labels"] if several else [said["label"]])


def test_an_encoder_gives_the_sizes_that_it_was_taught(tmp_path, base):
    rows = [Alike(TEXTS[0], TEXTS[1])]
    path = saved(tmp_path / "run", Embed.make(base, Parts("x", rows, rows), sizes=(8, 32)), base)

    def vector(**body):
        return np.array(
            asked(path, "embeddings", input="wheat", **body).json()["data"][0]["embedding"]
        )

    whole, cut = vector(), vector(dimensions=8)
    assert whole.shape == (32,) and cut.shape == (8,)
    np.testing.assert_allclose(cut, whole[:8] / np.linalg.norm(whole[:8]), rtol=1e-5)
    refused = asked(path, "embeddings", input="wheat", dimensions=16)
    assert refused.status_code == 400 and "32, 8 dimensions" in refused.json()["error"]["message"]


def test_what_has_no_route_is_refused_with_what_does_it(tmp_path, base):
    path = classifier(tmp_path / "run", base, several=False)
    card = tmp_path / "run" / "task.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"task": "tag"}))
    with pytest.raises(ConfigError, match="fine-tuned to tag, for which the API has no route"):
        serve.open_models([path], n_slots=2, n_open=4)
