"""Preferences as tasks: what a model reads, what it was as the reference, what is said of it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hornbook.adapters import lora
from hornbook.adapters.methods import prepare
from hornbook.bundle import Bundle
from hornbook.data.preferences import Judged, Preference
from hornbook.errors import ConfigError, DataError, TrainingError, UnknownNameError
from hornbook.evaluation.likelihood import mean_loss
from hornbook.interop.huggingface import load_model, save_model
from hornbook.models.bigram import Bigram, BigramConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.init import normal_
from hornbook.nn.layout import Ragged
from hornbook.preference import measures
from hornbook.preference.reward import Reward
from hornbook.preference.task import Dpo, Ipo, Kto, Orpo
from hornbook.recipes.adaptation import Adaptation
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.tasks.branches import branch_log_probs
from hornbook.tasks.task import Parts
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.train import train_tokenizer

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
PAIRS = [
    Preference("a plain text", "a plain user", "system", "line 1"),
    Preference("user", "text", "assistant, user", "line 2"),
    Preference(({"role": "user", "content": "plain, text"},), "plain", "user", "line 3"),
    Preference("system", "a", "assistant. plain", "line 4"),
]
JUDGED = [Judged(p.prompt, p.chosen, i % 2 == 0, p.place) for i, p in enumerate(PAIRS)]
LOSSES = {"dpo": Dpo, "ipo": Ipo, "orpo": Orpo, "kto": Kto}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    tokenizer = train_tokenizer(
        "bpe", lambda: ["a plain text, user, assistant, system. " * 20], 330, special=SPECIAL
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer.tokens), context_length=96, n_layers=2, n_heads=2, d_model=16,
        d_ff=24,
    )  # fmt: skip
    model = Llama(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return Bundle(model, tokenizer, "llama", ChatTemplate(TURNS), "tiny", frozenset({1, 2}))


def task_of(name: str, bundle: Bundle, **settings):
    return LOSSES[name].make(bundle, Parts(name, PAIRS, PAIRS), **settings)


def examples_of(name: str):
    return JUDGED if name == "kto" else PAIRS


def adapted(bundle: Bundle):
    """A copy of the model with an adapter that has been moved."""
    model = copy.deepcopy(bundle.model)
    lora.attach(model, rank=2)
    for parameter in lora.own_parameters(model).values():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


# What is read


def test_a_conversation_becomes_its_prompt_and_answers_that_end_once(bundle):
    item = task_of("dpo", bundle).items(PAIRS)[2]
    spelled = bundle.tokenizer.spelled
    text = ["".join(map(spelled, part)) for part in (item.stem, *item.branches)]
    assert text[0] == "<|im_start|>user\nplain, text<|im_end|>\n<|im_start|>assistant\n"
    assert text[1:] == ["plain<|im_end|>", "user<|im_end|>"]  # nothing behind the end of the turn
    typed = task_of("dpo", bundle).items([Preference("a <|im_end|>", "b <|im_end|>", "c")])[0]
    assert typed.stem.count(1) == 1 and typed.branches[0].count(1) == 1


def test_without_a_template_it_is_a_text_that_goes_on_and_ends(bundle):
    plain = Bundle(bundle.model, bundle.tokenizer, "llama", None, "tiny", frozenset({2}))
    task = task_of("dpo", plain)
    item = task.items(PAIRS[:1])[0]
    assert bundle.tokenizer.decode(item.stem) == "a plain text"
    assert [branch[-1] for branch in item.branches] == [2, 2]
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
             {"role": "user", "content": "c"})  # fmt: skip
    with pytest.raises(ConfigError, match="no chat template"):
        task.items([Preference(turns, "a", "b")])
    assert "no-template" in {f.code for f in task.check(Parts("dpo", PAIRS, PAIRS))}


def test_what_is_too_long_loses_the_prompts_beginning_first(bundle):
    whole = task_of("dpo", bundle).items(PAIRS)[0]
    longest = len(whole.stem) + max(map(len, whole.branches)) - 3
    cut = task_of("dpo", bundle, max_tokens=longest).items(PAIRS)[0]
    assert cut.branches == whole.branches and cut.stem == whole.stem[3:] and cut.n_cut == 3
    tiny = task_of("dpo", bundle, max_tokens=3)
    assert all(len(i.stem) + max(map(len, i.branches)) <= 3 for i in tiny.items(PAIRS))
    (finding,) = [f for f in tiny.check(Parts("dpo", PAIRS, PAIRS)) if f.code == "truncation"]
    assert finding.level == "warn" and "4 of 4" in finding.what
    with pytest.raises(ConfigError, match="reads 96"):
        task_of("dpo", bundle, max_tokens=97)


def test_only_answers_carry_loss(bundle):
    item = task_of("dpo", bundle).items(PAIRS)[0]
    shown = task_of("dpo", bundle).show(item)
    learnt = "".join(part.target for part in shown)
    assert learnt == "a plain user<|im_end|>system<|im_end|>"
    assert "assistant" in "".join(part.text for part in shown if not part.target)


# What it was


@pytest.mark.parametrize("name", LOSSES)
def test_at_the_start_the_loss_is_what_the_paper_says(name, bundle):
    """An adapter that has not moved: log 2, 1 / (2 tau)^2, a half."""
    task = task_of(name, bundle)
    model = copy.deepcopy(bundle.model)
    lora.attach(model, rank=2)
    items = task.items(examples_of(name))
    loss = task.loss(model, task.collate(items))
    first = {"dpo": math.log(2), "ipo": 25.0, "kto": 0.5}
    assert loss.n_targets == 4
    if name in first:
        assert loss.total.item() / 4 == pytest.approx(first[name], rel=1e-4)
    loss.total.backward()
    moved = [p for p in model.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert moved


@pytest.mark.parametrize("name", LOSSES)
def test_the_adapter_switched_off_is_the_reference_that_a_copy_would_be(name, bundle):
    model, items = adapted(bundle), task_of(name, bundle).items(examples_of(name))
    with_adapter, with_copy = task_of(name, bundle), task_of(name, bundle)
    with_copy.reference.begin(bundle.model)
    one = with_adapter.loss(model, with_adapter.collate(items)).total
    other = with_copy.loss(model, with_copy.collate(items)).total
    assert one.item() == pytest.approx(other.item(), rel=1e-6)
    ours, theirs = (t.predict(model, items) for t in (with_adapter, with_copy))
    assert all(a == pytest.approx(b) for a, b in zip(ours, theirs, strict=True))


def test_a_full_model_is_copied_before_it_learns_and_its_reference_stays(bundle):
    task, model = task_of("dpo", bundle), copy.deepcopy(bundle.model)
    items = task.items(PAIRS)
    with pytest.raises(TrainingError, match="not known any more"):
        task.loss(model, task.collate(items))
    task.begin(model, items)
    before = task.predict(model, items)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    after = task.predict(model, items)
    for key in ("reference_chosen", "reference_rejected"):
        assert [p[key] for p in after] == [p[key] for p in before]
    assert all(p["kl"] == pytest.approx(0, abs=1e-4) for p in before)
    assert all(p["kl"] > 1e-3 for p in after)


def test_the_reference_is_asked_once_about_an_item(bundle, monkeypatch):
    task, model = task_of("dpo", bundle), adapted(bundle)
    items = task.items(PAIRS)
    first = task.loss(model, task.collate(items)).total.item()
    monkeypatch.setattr(
        "hornbook.preference.reference.branch_log_probs",
        lambda *_: pytest.fail("the reference was computed again"),
    )
    assert task.loss(model, task.collate(items[::-1])).total.item() == pytest.approx(first)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_stopped_and_resumed_ends_with_the_same_bits(method, bundle, tmp_path):
    """What the reference says of an item is of the same batch, wherever the run began."""
    words = "a plain text user assistant system".split()  # noqa: SIM905
    pairs = [
        Preference(
            " ".join(words[: 1 + i % 5]), " ".join(words[i % 4 :]), words[i % 6] * (1 + i % 3)
        )
        for i in range(40)
    ]
    settings = AdaptSettings(
        task="dpo", model="tiny", data="pairs", lr=0.02, epochs=2, tokens_per_step=150,
        method=method, precision="float32",
    )  # fmt: skip

    def weights(folder, stop_after=None):
        task, model = task_of("dpo", bundle), copy.deepcopy(bundle.model)
        torch.manual_seed(0)
        prepare(model, method, rank=2)
        taken = []
        listener = type("", (), {"hear": taken.append, "hear_evaluation": print})()
        items = task.items(pairs)
        run = Adaptation(model, task, items, None, settings, folder)
        assert run.n_steps > 12
        run.run(listener, lambda: len(taken) == stop_after)
        return model.state_dict()

    whole = weights(tmp_path / "whole")
    weights(tmp_path / "parts", stop_after=3)
    again = weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_reference_knows_the_items_from_the_start(bundle, monkeypatch):
    task, model, told = task_of("dpo", bundle), adapted(bundle), []
    items = task.items(PAIRS)
    task.begin(model, items, progress=lambda done, n: told.append((done, n)))
    monkeypatch.setattr(
        "hornbook.preference.reference.branch_log_probs",
        lambda *_: pytest.fail("the reference was computed again"),
    )
    task._reference(model, task.collate(items[1:3]))
    assert told[-1] == (4, 4)


def test_the_reference_is_read_without_dropout(bundle):
    torch.manual_seed(0)
    config = GPTConfig(len(bundle.tokenizer.tokens), 96, 2, 2, 16, 24, dropout=0.5)
    base = GPT(config).eval()
    task, model = task_of("dpo", bundle), copy.deepcopy(base)
    lora.attach(model, rank=2)
    batch = task.collate(task.items(PAIRS))
    model.train()
    found = task.reference.log_probs(model, batch.items, batch.laid)
    assert model.training
    torch.testing.assert_close(found, branch_log_probs(base, batch.laid).detach())


# Invariants


@pytest.mark.parametrize("name", ["dpo", "ipo", "orpo", "reward"])
def test_a_batch_is_the_sum_of_its_items_in_any_order(name, bundle):
    """So that accumulation changes nothing. (Of kto the baseline is a batch's.)"""
    if name == "reward":
        task = Reward.make(bundle, Parts(name, PAIRS, PAIRS))
        model = task.build(Bundle(copy.deepcopy(bundle.model), bundle.tokenizer, "llama"))
    else:
        task, model = task_of(name, bundle), adapted(bundle)
    items = task.items(PAIRS)
    whole = task.loss(model, task.collate(items))
    apart = [task.loss(model, task.collate([item])) for item in items[::-1]]
    assert whole.total.item() == pytest.approx(sum(x.total.item() for x in apart), rel=1e-5)
    assert whole.n_targets == sum(x.n_targets for x in apart) == 4


def test_log_probabilities_are_those_of_separate_texts(bundle):
    task, model = task_of("dpo", bundle), bundle.model
    items = task.items(PAIRS)
    found = task.predict(model, items)
    for item, said in zip(items, found, strict=True):
        for branch, key in zip(item.branches, ("chosen", "rejected"), strict=True):
            tokens = torch.tensor([*item.stem, *branch])
            with torch.inference_mode():
                logits = model.logits(model(tokens[:-1], Ragged([len(tokens) - 1])))
            rows = logits.log_softmax(-1)[len(item.stem) - 1 :]
            expected = rows.gather(1, torch.tensor(branch)[:, None]).sum().item()
            assert said[key] == pytest.approx(expected, rel=1e-4)
            assert said[f"n_{key}"] == len(branch)
    assert "kl" not in found[0]  # there is no reference


def test_the_divergence_is_of_whole_distributions(bundle):
    task, model = task_of("dpo", bundle), adapted(bundle)
    item = task.items(PAIRS)[1]
    (said,) = task.predict(model, [replace(item, source=0)])
    tokens = torch.tensor([*item.stem, *item.branches[0]])

    def log_probs(model):
        logits = model.logits(model(tokens[:-1], Ragged([len(tokens) - 1])))
        return logits.log_softmax(-1)[len(item.stem) - 1 :]

    with torch.inference_mode():
        ours, theirs = log_probs(model), log_probs(bundle.model)
    expected = (ours.exp() * (ours - theirs)).sum().item()
    assert said["kl"] == pytest.approx(expected, rel=1e-3) and expected > 0


@pytest.mark.parametrize("name", ["dpo", "ipo", "orpo", "kto"])
def test_learning_changes_what_it_should(name, bundle):
    """A few steps on the same items: the loss falls, the metrics rise, the base stays."""
    task = task_of(name, bundle)
    model = copy.deepcopy(bundle.model)
    lora.attach(model, rank=4)
    items = task.items(examples_of(name))
    batch = task.collate(items)
    optimizer = torch.optim.AdamW(lora.own_parameters(model).values(), lr=0.02)
    before, _ = mean_loss(model, task.loss, [batch])
    for _ in range(12):
        optimizer.zero_grad()
        task.loss(model, batch).total.backward()
        optimizer.step()
    after, _ = mean_loss(model, task.loss, [batch])
    assert after < before - 0.1 * abs(before)
    found = {m.name: m.value for m in task.metrics(examples_of(name), task.predict(model, items))}
    assert found["margin"] > 0.05 and found["kl"] > 0
    assert found["order" if name == "kto" else "reward accuracy"] == 1


# What is said


def test_metrics_by_hand():
    """The first pair: -4 over 2 tokens against -9 over 3 is -2 to -3 a token, ahead; the second is
    behind. Gains over the reference are +2 and -3 (margin 1 + 1 = 2), 0 and 0 (margin 0, half)."""
    rows = [
        {"chosen": -4, "rejected": -9, "n_chosen": 2, "n_rejected": 3, "kl": 1,
         "reference_chosen": -6, "reference_rejected": -6},
        {"chosen": -9, "rejected": -4, "n_chosen": 3, "n_rejected": 2, "kl": 3,
         "reference_chosen": -9, "reference_rejected": -4},
    ]  # fmt: skip
    found = {m.name: m for m in measures.of_pairs(rows)}
    assert {name: m.value for name, m in found.items()} == {
        "accuracy": 0.5, "reward accuracy": 0.75, "margin": 1.0, "kl": 2.0
    }  # fmt: skip
    assert not found["kl"].higher_is_better
    bare = [{k: v for k, v in row.items() if k[:2] in ("ch", "re", "n_")} for row in rows]
    assert [m.name for m in measures.of_pairs(bare)] == ["accuracy"]


def test_the_order_of_judged_answers_by_hand():
    """Gains a token 3 and 1 of good ones, 1 and 0 of bad: of four comparisons three and a half."""
    rows = [{"n_tokens": 2, "log_prob": g * 2 - 5, "reference": -5, "kl": 1} for g in (3, 1, 1, 0)]
    found = {m.name: m.value for m in measures.of_judged(np.array([1, 1, 0, 0]), rows)}
    assert found == {"order": 3.5 / 4, "margin": 1.5, "kl": 1.0}


def test_a_card_makes_the_task_again(bundle):
    task = task_of("dpo", bundle, beta=0.3, max_tokens=40)
    again = Dpo.reopen(task.card(), bundle)
    assert again.card() == task.card() == {
        "task": "dpo", "base": "tiny", "max_tokens": 40,
        "settings": {"beta": 0.3, "smoothing": 0.0},
    }  # fmt: skip
    assert again.items(PAIRS) == task.items(PAIRS)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"beta": 0}, ConfigError),
        ({"smoothing": 0.6}, ConfigError),
        ({"betta": 0.1}, UnknownNameError),
    ],
)
def test_settings_are_checked(settings, error, bundle):
    with pytest.raises(error, match=next(iter(settings))):
        task_of("dpo", bundle, **settings)


def test_findings(bundle):
    long = [Preference(f"q{i}", "a long answer", "short", str(i)) for i in range(30)]
    found = {f.code: f for f in task_of("dpo", bundle).check(Parts("dpo", long, []))}
    assert found["length-bias"].level == "warn" and "100%" in found["length-bias"].what
    both = [*long[:2], Preference("q0", "short", "a long answer", "row 7")]
    found = {f.code: f for f in task_of("dpo", bundle).check(Parts("dpo", both, []))}
    assert "2 pairs" in found["contradiction"].what and "row 7" in found["contradiction"].what
    lone = [Judged(f"q{i}", "a", i == 0, str(i)) for i in range(10)]
    found = {f.code: f for f in task_of("kto", bundle).check(Parts("kto", lone, []))}
    setting = found["imbalance"].mend.split()[-1]
    name, value = setting.split("=")
    mended = task_of("kto", bundle, **{name: float(value)})
    assert "imbalance" not in {f.code for f in mended.check(Parts("kto", lone, []))}


@pytest.mark.parametrize("kind", [*LOSSES.values(), Reward])
def test_a_template_and_a_tokenizer_that_disagree_are_found(kind, bundle):
    rows = JUDGED if kind is Kto else PAIRS

    def found_of(source, ends=("<|im_end|>",), **tokens):
        stops = frozenset(bundle.tokenizer.id_of(end) for end in ends)
        opened = replace(bundle, template=ChatTemplate(source, tokens), stop_tokens=stops)
        task = kind.make(opened, Parts("x", rows, []))
        named = {"no-end-of-turn", "end-of-turn-unknown", "pad-is-eos"}
        return {(f.code, f.level) for f in task.check(Parts("x", rows, [])) if f.code in named}

    assert found_of(TURNS) == set()
    assert found_of(TURNS, pad_token="<|im_end|>") == {("pad-is-eos", "note")}
    assert found_of(TURNS, ["<|endoftext|>"]) == {("end-of-turn-unknown", "warn")}
    assert found_of(TURNS.replace("<|im_end|>", "")) == {("no-end-of-turn", "warn")}


def test_kto_needs_two_prompts(bundle):
    with pytest.raises(DataError, match="all answers are to one prompt"):
        task_of("kto", bundle).items([JUDGED[0], JUDGED[0]])


def test_models_that_cannot_are_refused(bundle):
    odd = Bundle(torch.nn.Linear(2, 2), bundle.tokenizer, "odd")
    with pytest.raises(ConfigError, match="Linear"):
        task_of("dpo", bundle).build(odd)
    bigram = Bundle(Bigram(BigramConfig(vocab_size=8)), bundle.tokenizer, "bigram")
    with pytest.raises(ConfigError, match="Bigram"):
        Reward.make(bundle, Parts("reward", PAIRS, PAIRS)).build(bigram)


# The model of rewards


def test_a_reward_model_learns_and_is_opened_again_with_its_head(bundle, tmp_path):
    task = Reward.make(bundle, Parts("reward", PAIRS, PAIRS))
    torch.manual_seed(0)
    model = task.build(Bundle(copy.deepcopy(bundle.model), bundle.tokenizer, "llama"))
    assert model.config.pad_token == 2  # not the end of a turn: transformers would not read there
    plain = Bundle(copy.deepcopy(bundle.model), bundle.tokenizer, "llama", None, "", frozenset({2}))
    untaught = Reward.make(plain, Parts("reward", PAIRS, PAIRS))
    assert untaught.build(plain).config.pad_token is None  # the only one ends its answers
    items = task.items(PAIRS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    batch = task.collate(items)
    for _ in range(15):
        optimizer.zero_grad()
        task.loss(model, batch).total.backward()
        optimizer.step()
    found = task.predict(model, items)
    metrics = {m.name: m.value for m in task.metrics(PAIRS, found)}
    assert metrics["accuracy"] == 1 and metrics["margin"] > 0.1
    save_model(tmp_path, model)
    opened = Bundle(load_model(tmp_path), bundle.tokenizer, "llama", bundle.template, "r",
                    bundle.stop_tokens)  # fmt: skip
    again = Reward.reopen(task.card(), opened)
    for one, other in zip(again.predict(again.build(opened), items), found, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_the_reward_is_transformers_for_the_same_answer(bundle, tmp_path):
    from transformers import LlamaForSequenceClassification

    task = Reward.make(bundle, Parts("reward", PAIRS, PAIRS))
    model = task.build(Bundle(copy.deepcopy(bundle.model), bundle.tokenizer, "llama"))
    normal_(model.head)
    save_model(tmp_path, model)
    theirs = LlamaForSequenceClassification.from_pretrained(tmp_path).eval()
    items = task.items(PAIRS)
    found = task.predict(model, items)
    for item, said in zip(items, found, strict=True):
        rows = [[*item.stem, *branch] for branch in item.branches]
        longest = max(map(len, rows))
        padded = torch.tensor([row + [2] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            logits = theirs(input_ids=padded, attention_mask=mask).logits[:, 0].tolist()
        assert [said["chosen"], said["rejected"]] == pytest.approx(logits, abs=1e-4)
