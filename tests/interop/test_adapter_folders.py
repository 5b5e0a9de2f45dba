"""An adapter's folder opened by itself, ours or peft's: its base, its head, what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from hornbook import bundle
from hornbook.adapters.methods import prepare
from hornbook.data.examples import Document, Example
from hornbook.errors import CheckpointError
from hornbook.interop.peft import save_adapter
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.heads import SequenceClassifier, SpanFinder, TokenClassifier
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged
from hornbook.tasks.classify import Classify
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.tasks.task import Parts
from hornbook.text.train import train_tokenizer

TEXTS = ["gold and silver fell", "wheat rose again", "more corn was sold", "tin is dear"]
LAYOUT = Ragged([5, 3])
TOKENS = torch.tensor([5, 9, 12, 7, 6, 11, 8, 10])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """runs/encoder and runs/decoder: two bases with random weights."""
    folder = tmp_path_factory.mktemp("home") / "runs"
    pieces = train_tokenizer("wordpiece", lambda: TEXTS, 90)
    torch.manual_seed(0)
    bert = Bert(BertConfig(pieces.vocab_size, 48, 2, 2, 32, 64))
    bundle.save(folder / "encoder", bert, pieces)
    words = train_tokenizer("bpe", lambda: TEXTS, 290, special=["<|endoftext|>"])
    llama = Llama(LlamaConfig(words.vocab_size, 48, 2, 4, 32, 64, 2))
    bundle.save(folder / "decoder", llama, words, stop_tokens=[words.id_of("<|endoftext|>")])
    return folder


def shake(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


def ours(home, folder, *, name="runs/encoder", method="lora"):
    """An adapter of ours with a head for two labels, and its logits."""
    base = bundle.load(home / "encoder")
    task = Classify.make(base, Parts("x", (), (), label_names=("grain", "metal")))
    model = task.build(base)
    prepare(model, method, rank=2)
    shake(model)
    save_adapter(folder, model, base_name=name)
    (folder / "task.json").write_text(json.dumps({"task": "classify"} | task.card()))
    items = task.items([Example(Document(text), ()) for text in TEXTS])
    return task.logits(model.eval(), items, device="cpu"), items


@pytest.mark.parametrize("method", ["lora", "dora", "qlora"])
def test_ours_opens_from_where_its_base_is_seen(home, method):
    """Named as it was when trained, from the folder that runs/ lies in: found from anywhere."""
    folder = home / f"spam-{method}" / "adapter"
    said, items = ours(home, folder, method=method)
    opened = bundle.open_model(str(folder))
    assert isinstance(opened.model, SequenceClassifier) and opened.path == folder
    assert opened.model.config.label_names == ("grain", "metal")
    assert not any("base" in name for name, _ in opened.model.named_parameters())
    again = Classify.reopen(json.loads((folder / "task.json").read_text()), opened)
    found = again.logits(again.build(opened).eval(), items, device="cpu")
    if method == "qlora":  # beside the base before it was rounded, as peft opens it too
        assert abs(found - said).max() < 0.5 * abs(said).max()
    else:
        assert abs(found - said).max() < 1e-5


def test_another_base_is_refused_with_both_names(home, tmp_path):
    ours(home, tmp_path / "adapter")
    other = bundle.load(home / "encoder")
    with torch.no_grad():
        other.model.token_embedding()[7] += 1
    bundle.save(tmp_path / "other", other.model, other.tokenizer)
    config = tmp_path / "adapter" / "adapter_config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps(said | {"base_model_name_or_path": str(tmp_path / "other")}))
    with pytest.raises(CheckpointError, match=r"was trained on .*other.*other weights than then"):
        bundle.load(tmp_path / "adapter")


def test_a_base_that_is_not_here_is_said_and_never_fetched(home, tmp_path, monkeypatch):
    import huggingface_hub

    def fetch(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "home"))
    ours(home, tmp_path / "adapter", name="someone/their-model")
    with pytest.raises(CheckpointError, match=r"someone/their-model.*not on this machine") as error:
        bundle.load(tmp_path / "adapter")
    assert "adapter_config.json" in error.value.hint
    shutil.copytree(home / "encoder", tmp_path / "home" / "models" / "someone--their-model")
    assert isinstance(bundle.load(tmp_path / "adapter").model, SequenceClassifier)


def test_an_adapter_on_an_adapter_is_refused(home):
    ours(home, home / "first")
    ours(home, home / "second", name="runs/first")
    with pytest.raises(CheckpointError, match="is an adapter too"):
        bundle.load(home / "second")


def test_added_tokens_are_said_to_be_in_the_runs_model(home):
    ours(home, home / "grown" / "adapter")
    larger = train_tokenizer("wordpiece", lambda: [*TEXTS, "xylophones quiver"], 130)
    larger.save(home / "grown" / "adapter" / "tokenizer.json")
    with pytest.raises(CheckpointError, match="tokens, and its base"):
        bundle.load(home / "grown" / "adapter")


def test_heads_for_hidden_words_come_back_and_a_bare_encoder_takes_any(home):
    for made, place in ((MaskedLM, "filled"), (lambda trunk: trunk, "bare")):
        base = bundle.load(home / "encoder")
        model = made(base.model)
        prepare(model, "lora", rank=2)
        shake(model)
        save_adapter(home / place, model, base_name="encoder")
        opened = bundle.load(home / place)
        assert type(opened.model) is type(model)
        trunks = (getattr(m, "trunk", m).eval() for m in (model, opened.model))
        a, b = (trunk(TOKENS, LAYOUT) for trunk in trunks)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    classifier = Classify.make(opened, Parts("x", (), (), label_names=("a", "b"))).build(opened)
    assert isinstance(classifier, SequenceClassifier)


# peft's own


def by_peft(home, folder, task_type, base="encoder", **more):
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    kinds = {
        "SEQ_CLS": (transformers.AutoModelForSequenceClassification, ["query", "value"]),
        "TOKEN_CLS": (transformers.AutoModelForTokenClassification, ["query", "value"]),
        "QUESTION_ANS": (transformers.AutoModelForQuestionAnswering, ["query", "value"]),
        "CAUSAL_LM": (transformers.AutoModelForCausalLM, ["q_proj", "down_proj"]),
    }
    kind, targets = kinds[task_type]
    torch.manual_seed(1)
    theirs = kind.from_pretrained(home / base, **more)
    config = peft.LoraConfig(r=3, target_modules=targets, task_type=task_type)
    adapted = peft.get_peft_model(theirs, config).eval()
    shake(adapted)
    adapted.save_pretrained(folder)
    return adapted


@torch.no_grad()
def test_pefts_decoder_writes_as_in_peft(home, tmp_path):
    theirs = by_peft(home, tmp_path, "CAUSAL_LM", "decoder")
    opened = bundle.load(tmp_path)
    assert opened.stop_tokens and opened.family == "llama"
    ours = opened.model.logits(opened.model(TOKENS[:5], Ragged([5])))
    torch.testing.assert_close(ours, theirs(input_ids=TOKENS[None, :5]).logits[0],
                               atol=2e-5, rtol=1e-4)  # fmt: skip


@pytest.mark.parametrize(
    ("task_type", "kind", "n_labels"),
    [
        ("SEQ_CLS", SequenceClassifier, 3),
        ("TOKEN_CLS", TokenClassifier, 4),
        ("QUESTION_ANS", SpanFinder, 2),
    ],
)
def test_pefts_heads_are_as_wide_as_they_were(home, tmp_path, task_type, kind, n_labels):
    more = {} if task_type == "QUESTION_ANS" else {"num_labels": n_labels}
    theirs = by_peft(home, tmp_path, task_type, **more).base_model.model
    opened = bundle.load(tmp_path)
    assert type(opened.model) is kind and opened.model.config.n_labels == n_labels
    out = theirs.qa_outputs if task_type == "QUESTION_ANS" else theirs.classifier
    weight = out.modules_to_save.default.weight
    torch.testing.assert_close(opened.model.head.out.weight, weight)
