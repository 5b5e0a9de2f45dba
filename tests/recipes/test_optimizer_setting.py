"""The setting `optimizer=adamw-8bit`: taken by runs, counted by plans, named where memory lacks."""

from __future__ import annotations

import pytest
from test_adaptation import Run, plain_numbers, same, settings  # noqa: F401
from test_preflight import rehearsal

from hornbook.config import settings_from
from hornbook.errors import ConfigError
from hornbook.recipes.dial import Asked, resolve
from hornbook.recipes.families import make_optimizer
from hornbook.recipes.rehearsal import rehearse
from hornbook.tasks.language_modeling import LanguageModel
from hornbook.training import adamw_8bit
from hornbook.training.adamw_8bit import AdamW8bit, moments_bytes
from hornbook.training.optimizers import assignments


@pytest.fixture
def packs_little_ones(monkeypatch):
    """The test's matrices have some 1,024 to 3,072 numbers."""
    monkeypatch.setattr(adamw_8bit, "FEWEST", 1024)


def test_a_run_in_8_bits_ends_near_adamws_and_goes_on_with_the_same_bits(
    tmp_path, packs_little_ones
):
    usual = {"optimizer": "adamw-8bit", "layer_decay": 0.9}
    whole, plain = Run(tmp_path / "whole", **usual), Run(tmp_path / "plain", layer_decay=0.9)
    before = whole.weights
    whole.go(), plain.go()
    Run(tmp_path / "parts", stop_after=5, **usual).go()
    resumed = Run(tmp_path / "parts", **usual)
    resumed.go()
    assert same(whole.weights, resumed.weights)
    moved, apart = (
        sum(float((x - others[name]).norm()) for name, x in whole.weights.items())
        for others in (before, plain.weights)
    )
    assert 0 < apart < 0.2 * moved


def test_its_memory_is_counted_and_offered_where_it_would_fit(packs_little_ones):
    big = {"tokens_per_step": 300}
    whole = rehearse(rehearsal(**big), seconds=0.1).plan.memory
    run = rehearsal(**big, optimizer="adamw-8bit")
    packed = rehearse(run, seconds=0.1).plan.memory
    assert packed.optimizer == moments_bytes(run.model) < 0.5 * whole.optimizer
    assert whole.total - packed.total == whole.optimizer - packed.optimizer
    between = int((whole.total + packed.total) / 2 / 0.92)
    found = rehearse(rehearsal(**big, available=between))
    assert any("--set optimizer=adamw-8bit" in change for change in found.plan.changes)
    more = rehearse(rehearsal(**big, available=between, optimizer="adamw-8bit"), seconds=0.1)
    assert more.plan.fits


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ConfigError, match="optimizer"):
        settings(optimizer="adam8")


ASKED = {"family": "llama", "data": "x", "optimizer": "adamw-8bit", "steps": 10, "depth": 2}


def test_a_language_model_takes_it_with_the_rates_of_adamw():
    from hornbook.models.llama import Llama, LlamaConfig

    def rows(optimizer):
        asked = settings_from(Asked, **(ASKED | {"optimizer": optimizer}))
        given = resolve(asked, vocab_size=100, n_tokens=10_000, tokenizer="characters")
        assert given.optimizer == optimizer
        sizes = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_model": 64, "d_ff": 128}
        model = LanguageModel(Llama(LlamaConfig(100, 16, **sizes)))
        made = make_optimizer(model, settings=given)
        assert {group["betas"] for group in made.param_groups} == {(0.9, 0.95)}
        return assignments(list(model.named_parameters()), made)

    ours, theirs = rows("adamw-8bit"), rows("adamw")
    assert [(r.name, r.lr, r.weight_decay) for r in ours] == [
        (r.name, r.lr, r.weight_decay) for r in theirs
    ]
    names = [r.name for r in ours if r.optimizer == AdamW8bit.__name__]
    assert names and not any("tokens" in name for name in names)


def test_sharded_weights_are_refused_with_it():
    with pytest.raises(ConfigError, match="not for sharded"):
        settings_from(Asked, **ASKED, sharded=True)
