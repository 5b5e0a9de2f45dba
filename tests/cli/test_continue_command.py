"""hornbook finetune continue on what `hornbook train gpt` makes, and what else such a run can be
adapted to: labels, rewards, conversations, preferences."""

from __future__ import annotations

import json
import random

import pytest
import torch
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.errors import DataError
from hornbook.models.heads import SequenceClassifier
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.recipes.adaptation_run import Session
from hornbook.recipes.adapted import open_task
from hornbook.recipes.apply import ready
from hornbook.records import AdaptSummary, Metrics
from hornbook.text.train import train_tokenizer

OLD = "wheat corn rice barley oats rye".split()  # noqa: SIM905
NEW = "gold silver tin zinc copper lead".split()  # noqa: SIM905
QUICK = ("--set", "lr=0.01", "--set", "tokens_per_step=200", "--set", "evaluations=1",
         "--set", "precision=float32", "--quiet")  # fmt: skip


def hornbook(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(path, made):
    path.write_text("".join(json.dumps(row) + "\n" for row in made))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A modern GPT as `hornbook train gpt` saves it, old and new texts, labels, preferences."""
    folder = tmp_path_factory.mktemp("home")
    rng = random.Random(0)

    def text(words):
        return " ".join(rng.choices(words, k=12))

    old = [text(OLD) for _ in range(30)]
    (folder / "new").mkdir()
    for i in range(40):
        (folder / "new" / f"{i:02}.txt").write_text(text(NEW))
    rows(folder / "old.jsonl", [{"text": t} for t in old])
    pairs = [(text(OLD), "grain") if i % 2 else (text(NEW), "metal") for i in range(60)]
    rows(folder / "labelled.jsonl", [{"text": t, "label": label} for t, label in pairs])
    asked = [{"prompt": text(OLD), "chosen": NEW[i % 6], "rejected": OLD[i % 6]} for i in range(30)]
    rows(folder / "pairs.jsonl", asked)
    rows(
        folder / "talks.jsonl", [{"prompt": a["prompt"], "completion": a["chosen"]} for a in asked]
    )
    words = " ".join(OLD + NEW)
    tokenizer = train_tokenizer("bpe", lambda: [words] * 5, 320, special=("<|endoftext|>",))
    torch.manual_seed(0)
    model = ModernGPT(ModernGPTConfig(tokenizer.vocab_size, 96, 2, 2, 32, 48))
    bundle.save(folder / "ours", model, tokenizer)
    return folder


def adapt(home, command, task, data, out, *more):
    told = hornbook(
        command, task, "--model", home / "ours", "--data", home / data, "--out", out, *QUICK, *more
    )
    assert told.exit_code == 0, told.stderr
    return told


@pytest.fixture(scope="module")
def run(home):
    keep = f"keep={home / 'old.jsonl'}"
    told = adapt(home, "finetune", "continue", "new", home / "run", "--steps", 12, "--set", keep)
    return home / "run", told


def test_what_is_learnt_and_forgotten_is_in_the_table_the_record_and_the_card(home, run):
    folder, told = run
    for words in ("perplexity", "bits_per_byte", "on 30 old texts", "change", "Forgot"):
        assert words in told.stdout
    summary = AdaptSummary.model_validate_json((folder / "summary.json").read_bytes())
    now = {m.name: m for m in summary.metrics}
    assert now["perplexity"].value < summary.metrics_before["perplexity"]
    assert now["perplexity"].low < now["perplexity"].value < now["perplexity"].high
    old = summary.forgetting
    assert old.n_examples == 30 and old.data == str(home / "old.jsonl")
    bits = old.differences[1]
    assert bits.name == "bits_per_byte" and bits.p_value is not None
    assert bits.low <= bits.ours - bits.theirs <= bits.high and bits.ours == old.metrics[1].value
    card = (folder / "README.md").read_text()
    assert old.says in card and "hornbook run generate RUN" in card
    assert "never learnt from" in (folder / "report.html").read_text()


def test_the_figures_are_those_of_an_evaluation(home, run):
    """Before, of the model as it came; after, of the run as it was saved."""
    folder, _ = run
    summary = AdaptSummary.model_validate_json((folder / "summary.json").read_bytes())
    task = open_task(folder).task
    for model, side in (
        (bundle.open_model(str(home / "ours")).model, "theirs"),
        (bundle.open_model(str(folder)).model, "ours"),
    ):
        _, kept = type(task).make(
            bundle.open_model(str(folder)), None, keep=str(home / "old.jsonl")
        ).beside()  # fmt: skip
        found = task.metrics(kept, task.predict(model.eval(), task.items(kept)))
        for metric, told in zip(found, summary.forgetting.differences, strict=True):
            assert getattr(told, side) == pytest.approx(metric.value, rel=1e-4)
    base = bundle.open_model(str(home / "ours")).model.eval()
    held_out = task.open_data(str(home / "new"), {}, seed=0).validation
    found = task.metrics(held_out, task.predict(base, task.items(held_out)))
    assert summary.metrics_before == pytest.approx({m.name: m.value for m in found}, rel=1e-4)
    told = hornbook("evaluate", home / "ours", "--task", "continue", "--data", home / "new",
                    "--out", home / "as-it-came", "--on", "validation")  # fmt: skip
    assert "bits_per_byte" in told.stdout


def test_a_run_goes_on_with_texts_and_opens_elsewhere(run):
    transformers = pytest.importorskip("transformers")
    folder, _ = run
    (said,) = ready("continue", str(folder))([{"text": "gold silver"}])
    assert set(said["written"].split()) & set(NEW)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "model")
    opened = open_task(folder)
    item = opened.task.items(opened.task.open_data(str(folder.parent / "new"), {}, seed=0).train)[0]
    batch = opened.task.collate([item])
    with torch.no_grad():
        logits = theirs(batch.tokens[None].long()).logits[0]
        ours = opened.model.logits(opened.model(batch.tokens, batch.layout))
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)


def test_masks_are_shown_and_old_texts_that_are_none_refused(home):
    shown = hornbook("finetune", "continue", "--model", home / "ours", "--data", home / "new",
                     "--show-masks").stdout  # fmt: skip
    assert "carry loss" in shown and "⟦" in shown
    with pytest.raises(DataError, match="nothing"):
        adapt(home, "finetune", "continue", "new", home / "x", "--set", "keep=/nothing.jsonl")


def test_interrupted_and_resumed_is_uninterrupted(home, monkeypatch):
    """With an adapter; what is forgotten is against the model as it came, not as it is resumed."""
    keep = f"keep={home / 'old.jsonl'}"
    how = ("--steps", 6, "--method", "lora", "--set", "rank=2", "--set", keep)
    adapt(home, "finetune", "continue", "new", home / "whole", *how)
    carry_out = Session.carry_out

    def stopped(self, listener, *, command):
        heard = listener.hear
        listener.hear = lambda step: (heard(step), self.stop() if step.step == 3 else None)
        return carry_out(self, listener, command=command)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "carry_out", stopped)
        told = hornbook("finetune", "continue", "--model", home / "ours", "--data", home / "new",
                        "--out", home / "parts", *QUICK, *how)  # fmt: skip
    assert told.exit_code == 130
    hornbook("finetune", "--resume", home / "parts", "--quiet")
    one, other = (home / name for name in ("whole", "parts"))
    losses = [
        [s.loss for s in Metrics.from_lines((f / "metrics.jsonl").read_text()).steps]
        for f in (one, other)
    ]
    assert losses[0] == losses[1]
    weights = [(f / "model" / "model.safetensors").read_bytes() for f in (one, other)]
    assert weights[0] == weights[1]
    assert (other / "adapter" / "adapter_config.json").is_file()
    told = [
        AdaptSummary.model_validate_json((f / "summary.json").read_bytes()) for f in (one, other)
    ]
    assert told[0].forgetting == told[1].forgetting is not None


@pytest.mark.parametrize("method", ["full", "lora"])
def test_texts_are_classified_with_a_run_of_ours(home, method):
    out = home / f"classify-{method}"
    adapt(home, "finetune", "classify", "labelled.jsonl", out, "--steps", 8, "--method", method)
    opened = open_task(out)
    assert isinstance(opened.model, SequenceClassifier)
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["architectures"] == ["NanoChatForSequenceClassification"]
    lines = [json.loads(line) for line in (out / "validation.jsonl").read_text().splitlines()]
    parts = type(opened.task).open_data(str(home / "labelled.jsonl"), {}, seed=0)
    said = opened.task.predict(opened.model, opened.task.items(parts.validation))
    for line, now in zip(lines, said, strict=True):
        for label, share in line["prediction"]["probabilities"].items():
            assert now["probabilities"][label] == pytest.approx(share, abs=1e-4)
    assert "NanoChatModel" in (out / "README.md").read_text()
    assert (out / "adapter").is_dir() == (method == "lora")


def test_rewards_preferences_and_conversations_with_a_run_of_ours(home):
    adapt(home, "align", "reward", "pairs.jsonl", home / "reward", "--steps", 4)
    assert isinstance(open_task(home / "reward").model, SequenceClassifier)
    adapt(home, "align", "dpo", "pairs.jsonl", home / "dpo", "--steps", 4, "--method", "lora")
    assert isinstance(open_task(home / "dpo").model, ModernGPT)
    own = ("--set", "template=chatml", "--set", "n_answers=2", "--set", "answer_tokens=4")
    adapt(home, "finetune", "chat", "talks.jsonl", home / "chat", "--steps", 4, *own)
    opened = open_task(home / "chat")
    assert isinstance(opened.model, ModernGPT) and opened.bundle.template is not None
