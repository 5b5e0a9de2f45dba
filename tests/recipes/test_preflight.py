"""Preflight: each thing that would spoil a run is found, with what it costs and how to mend it."""

from __future__ import annotations

import pytest
import tiny_task
import torch
from test_adaptation import settings
from tiny_task import Tiny

from hornbook.data.examples import Document, Example
from hornbook.errors import ConfigError
from hornbook.nn.precision import Precision
from hornbook.recipes.adaptation_settings import usual_rate
from hornbook.recipes.preflight import findings_of, reading_of, refuse
from hornbook.recipes.rehearsal import Rehearsal, activation_bytes, advice, batch_of, rehearse
from hornbook.tasks.task import Finding, Parts

WORDS = "wheat corn ship gold rice oil tin zinc coffee cotton sugar silver copper lead".split()  # noqa: SIM905


def texts(n, start=0):
    return [
        f"{WORDS[i % 14]} {WORDS[(i * 5 + 3) % 14]} {i} rose by {i * 7}"
        for i in range(start, start + n)
    ]


def labelled(rows):
    return [Example(Document(text), (label,), str(i)) for i, (text, label) in enumerate(rows)]


def parts(train, validation, test=None, names=("a", "b")) -> Parts:
    return Parts("x", labelled(train), labelled(validation), test and labelled(test), names)


def codes(found, level=None) -> set[str]:
    return {f.code for f in found if level in (None, f.level)}


GOOD = [(t, "ab"[i % 2]) for i, t in enumerate(texts(40))]
HELD = [(t, "ab"[i % 2]) for i, t in enumerate(texts(10, 100))]


def found_in(of, **more):
    return findings_of(Tiny(), of, tiny_task.Model(), **more)


def test_nothing_is_found_where_nothing_is():
    assert found_in(parts(GOOD, HELD)) == []


def test_a_class_that_vanishes_in_a_part_and_one_that_is_nowhere():
    only_a = [(t, "a") for t, _ in HELD]
    found = found_in(parts(GOOD, only_a))
    (vanished,) = [f for f in found if f.code == "class-not-in-validation"]
    assert "'b'" in vanished.what and "20 examples" in vanished.what
    assert vanished.cost and vanished.mend
    assert "class-not-in-train" in codes(found_in(parts([(t, "a") for t, _ in GOOD], HELD)))
    strange = found_in(parts(GOOD, [*HELD, ("tin and zinc", "c")]))
    assert "label-unknown" in codes(strange)


def test_labels_beyond_the_head_stop():
    found = found_in(parts(GOOD, HELD, names=("a", "b", "c")))
    assert "labels-beyond-head" in codes(found, "stop")
    with pytest.raises(ConfigError, match="3 labels, the head tells 2 apart"):
        refuse(found, strict=False)


def test_copies_within_and_between_parts():
    twice = found_in(parts([*GOOD, *GOOD[:8]], HELD))
    assert "duplicates" in codes(twice, "warn") and "leak" not in codes(twice)
    leak = found_in(parts(GOOD, [*HELD, GOOD[0], GOOD[1]], test=[*HELD, GOOD[3]]))
    said = [f.what for f in leak if f.code == "leak"]
    assert any(w.startswith("2 of 12 validation") for w in said)
    assert any(w.startswith("1 of 11 test") for w in said)
    other = found_in(parts([*GOOD, (GOOD[0][0], "b")], HELD))
    assert "contradictions" in codes(other, "warn")


def test_what_a_task_says_itself_is_not_said_twice():
    class Speaking(Tiny):
        def check(self, parts):
            return [Finding("label-vanished", "warn", "said")]

    only_a = [(t, "a") for t, _ in HELD]
    found = findings_of(Speaking(), parts(GOOD, only_a), tiny_task.Model())
    assert codes(found) == {"label-vanished"}


def test_strict_stops_for_warnings():
    warned = [Finding("x", "warn", "a thing", mend="Mend it.")]
    refuse(warned, strict=False)
    with pytest.raises(ConfigError, match="a thing"):
        refuse(warned, strict=True)


def test_what_is_read_of_an_example():
    assert reading_of(Example(Document("text", "title"), ("label",), "id")) == "text\ntitle"


# The rehearsal


def rehearsal(**given) -> Rehearsal:
    torch.manual_seed(0)
    more = {k: given.pop(k) for k in ("available", "n_validation", "n_looks") if k in given}
    task = Tiny()
    items = task.items(tiny_task.letters(60))
    return Rehearsal(tiny_task.Model(), task, items, settings(**given), **more)


def test_a_rehearsal_leaves_the_model_and_the_random_state_alone():
    run = rehearsal()
    before = {name: x.clone() for name, x in run.model.state_dict().items()}
    state = torch.get_rng_state()
    rehearsed = rehearse(run, seconds=100)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(x, before[name]) for name, x in run.model.state_dict().items())
    assert all(p.grad is None for p in run.model.parameters())
    assert rehearsed.findings == () and rehearsed.plan.fits
    assert rehearsed.plan.n_steps == 12 and rehearsed.plan.seconds > 0


def test_memory_too_small_is_said_before_with_what_would_fit():
    big = {"tokens_per_step": 50_000}
    run = rehearsal(**big)
    whole = rehearse(run, seconds=0.1).plan.memory
    assert whole.weights == 4 * sum(p.numel() for p in run.model.parameters())
    assert whole.optimizer == 2 * whole.gradients == 2 * whole.weights
    little = int((whole.total - 0.6 * whole.activations) / 0.92)
    found = rehearse(rehearsal(**big, available=little))
    (finding,) = found.findings
    assert finding.code == "memory" and finding.level == "stop"
    assert any("micro_batches=" in change for change in found.plan.changes)
    n = next(int(c.split("=")[1].split()[0]) for c in found.plan.changes if "micro_" in c)
    assert rehearse(rehearsal(**big, micro_batches=n, available=little), seconds=0.1).plan.fits
    none = rehearse(rehearsal(**big, available=1000))
    assert none.plan.changes == ["a smaller model: no setting tried makes this one fit"]


def test_activations_are_counted_by_what_the_way_back_needs():
    """Twice the tokens keep twice the bytes; frozen weights keep less."""
    run = rehearsal()
    few, many = batch_of(run, 40), batch_of(run, 160)
    free = activation_bytes(run, few).token
    assert activation_bytes(run, many).token == pytest.approx(free, rel=0.3)
    run.model.trunk.requires_grad_(False)
    assert activation_bytes(run, few).token < 0.2 * free


def test_it_is_rehearsed_in_the_numbers_that_the_run_learns_in():
    for dtype in ("float32", "bfloat16"):
        task, used = Tiny(), []
        items = task.items(tiny_task.letters(60))

        def loss(model, batch, used=used):
            used.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
            return Tiny.loss(Tiny(), model, batch)

        task.loss = loss
        precision = Precision("cpu", dtype, "asked for")
        rehearse(Rehearsal(tiny_task.Model(), task, items, settings(), precision), seconds=0.1)
        assert set(used) == {torch.bfloat16 if dtype == "bfloat16" else False}


def test_weights_that_do_not_fit_are_not_moved_to_a_card_that_is_too_small():
    """A device that no machine has: to move there would raise."""
    task = Tiny()
    items = task.items(tiny_task.letters(60))
    card = Precision("cuda:99", "float32", "a fake")
    found = rehearse(Rehearsal(tiny_task.Model(), task, items, settings(), card, available=1000))
    assert [f.code for f in found.findings] == ["memory"] and not found.plan.fits


def test_a_batch_that_is_not_learnt_is_found():
    run = rehearsal()
    run.model.requires_grad_(False)
    run.model.head.bias.requires_grad_(True)  # says the same of every text
    (finding,) = rehearse(run, seconds=100).findings
    assert finding.code == "one-batch" and "by heart" in finding.what and finding.mend


def test_advice_follows_the_size_of_the_data():
    few = advice(settings(), 100, d_model=768)
    many = advice(settings(lr=1e-5, method="lora"), 10_000, d_model=768)
    assert any("--method head" in words for words in few)
    assert any("low for lora" in words for words in many)
    texts = settings().model_copy(update={"task": "continue"})
    assert not any("examples" in words for words in advice(texts, 100, d_model=768))


def test_a_rate_that_was_decided_here_is_not_found_fault_with():
    for d_model in (64, 768, 4096):
        own = settings(lr=usual_rate(settings(), d_model=d_model))
        assert not any("lr" in words for words in advice(own, 100, d_model=d_model))
        high = own.model_copy(update={"lr": 5 * own.lr})
        assert any("high for full" in words for words in advice(high, 100, d_model=d_model))
