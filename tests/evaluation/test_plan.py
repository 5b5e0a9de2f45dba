"""The plan's numbers against what a model really is, computes and holds."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hornbook.errors import ConfigError
from hornbook.evaluation.dry_run import dry_run
from hornbook.evaluation.plan import (
    Recipe,
    check,
    flops_per_token,
    matrix_parameters,
    plan,
    rule_of_thumb,
)
from hornbook.evaluation.speed import Speed
from hornbook.evaluation.steps import step_of
from hornbook.models import CONFIGS, MODELS
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.presets import outline, preset
from hornbook.records import ClusterRecord, PlanRecord

TINY = GPTConfig(vocab_size=65, context_length=64, n_layers=4, n_heads=4, d_model=128, d_ff=512)
CPU = ClusterRecord(
    n_devices=1,
    device="cpu",
    sharding="none",
    device_bytes=10**9,
    matrix_speed=1e11,
    utilisation=0.5,
    speed_source="measured",
)
SPEED = Speed(peak=1e11, reached=5e10, bandwidth=1e10)


def recipe(**changes) -> Recipe:
    values = {"family": "gpt", "config": TINY, "n_tokens": 76_800, "batch_size": 12}
    return Recipe(**(values | changes))


def gpus(n, sharding, **changes) -> ClusterRecord:
    update = {"n_devices": n, "device": "a100-80", "sharding": sharding, "device_bytes": 80 * 10**9}
    update |= {"matrix_speed": 312e12, "utilisation": 0.4, "speed_source": "stated"}
    return CPU.model_copy(update=update | changes)


def test_the_rule_of_thumb_gives_the_published_examples():
    gigabytes = [rule_of_thumb(p, bits) / 1e9 for p, bits in ((13e9, 16), (13e9, 8), (7e9, 16))]
    assert gigabytes == pytest.approx([31.2, 15.6, 16.8])


@pytest.mark.parametrize("name", ["gpt2", "gpt2-xl", "tinyllama"])
def test_counted_flops_are_the_rule(name):
    """6 N + 12 L d T is what torch's operators do, to a permille, for decoders."""
    family, config = preset(name)
    small = replace(config, n_layers=3, context_length=256)
    cost = dry_run(step_of(family), small, batch_size=2, length=256)
    n = matrix_parameters(outline(family, small))
    rule = flops_per_token(n, small.n_layers, small.d_model, 256)
    assert cost.flops / 512 == pytest.approx(rule, rel=1e-3)


def test_gpt2_takes_the_flops_that_are_published_for_it():
    """nanoGPT's estimate_mfu gives 6 N + 12 L d T = 854 MFLOPs with N = 124M without positions."""
    family, config = preset("gpt2")
    made = plan(Recipe(family, config, n_tokens=10**10, batch_size=512), gpus(8, "ddp"))
    assert made.n_parameters == 124_439_808
    assert made.flops_per_token == pytest.approx(6 * 123_653_376 + 12 * 12 * 768 * 1024, rel=2e-3)
    assert made.seconds == pytest.approx(made.flops / (8 * 312e12 * 0.4), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_deep_stack_is_continued_exactly_from_two_shallow_ones(dtype, checkpointing):
    step, options = step_of("gpt"), {"dtype": dtype, "gradient_checkpointing": checkpointing}
    config = replace(TINY, n_layers=7)
    continued = dry_run(step, config, batch_size=3, length=32, **options)
    whole = dry_run(replace(step, alike=False), config, batch_size=3, length=32, **options)
    for name in ("weights", "trunk", "gradients", "flops", "forward_peak"):
        assert getattr(continued, name) == getattr(whole, name), name
    assert continued.peak == pytest.approx(whole.peak, rel=0.01)


def test_what_is_kept_for_backward_is_what_torch_keeps():
    """Against torch's own hook for saved tensors, in a forward pass with numbers."""
    seen, model = {}, GPT(TINY)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    step = step_of("gpt")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = step.trunk(model, 12, 64)
    cost = dry_run(step, TINY, batch_size=12, length=64)
    assert hidden.shape == (768, 128)
    assert cost.trunk == pytest.approx(sum(seen.values()), rel=0.03)


def test_checkpointing_keeps_less_and_computes_more():
    lean = dry_run(step_of("gpt"), TINY, batch_size=12, length=64, gradient_checkpointing=True)
    full = dry_run(step_of("gpt"), TINY, batch_size=12, length=64)
    assert lean.trunk < 0.2 * full.trunk
    assert 1.2 * full.flops < lean.flops < 1.4 * full.flops


@pytest.mark.parametrize("family", sorted(MODELS))
def test_every_family_can_be_planned(family):
    sizes = {"n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "d_model": 32, "d_ff": 64}
    config = CONFIGS.load(family)(vocab_size=100)
    known = {k: v for k, v in sizes.items() if hasattr(config, k)}
    made = plan(recipe(family=family, config=replace(config, **known), length=16), CPU, SPEED)
    model = MODELS.load(family)(replace(config, **known))
    assert made.n_parameters >= sum(p.numel() for p in model.parameters())
    assert made.memory.total >= 12 * made.n_parameters
    parts = made.memory.model_dump(exclude={"total", "activations_per_layer"})
    assert sum(parts.values()) == made.memory.total
    assert PlanRecord.model_validate_json(made.model_dump_json()) == made


def test_a_run_that_does_not_fit_is_told_settings_that_do():
    tight = CPU.model_copy(update={"device_bytes": 40_000_000})
    made = plan(recipe(), tight, SPEED)
    assert not made.fits
    assert "does not fit" in made.verdict
    assert made.changes[0].startswith("micro_batch_size=6: ")
    smaller = plan(recipe(micro_batch_size=6), tight, SPEED)
    assert smaller.fits
    assert smaller.n_steps == made.n_steps


def test_a_model_that_no_setting_saves_is_said_to_be_too_large():
    made = plan(recipe(), CPU.model_copy(update={"device_bytes": 5_000_000}), SPEED)
    assert len(made.changes) == 1
    assert "a smaller model, or 4 such devices with FSDP" in made.changes[0]


def test_sharding_divides_what_it_says():
    config = replace(TINY, d_model=512, d_ff=2048, n_heads=8)
    whole = plan(recipe(config=config, batch_size=512, micro_batch_size=64), gpus(8, "ddp"))
    shards = plan(recipe(config=config, batch_size=512, micro_batch_size=64), gpus(8, "fsdp"))
    assert shards.memory.weights == -(-whole.memory.weights // 8)
    assert shards.memory.optimizer == -(-whole.memory.optimizer // 8)
    assert shards.memory.activations == whole.memory.activations
    assert shards.memory.total < whole.memory.total
    assert shards.flops == whole.flops


def test_muon_keeps_one_number_where_adamw_keeps_two():
    adamw = plan(recipe(), CPU, SPEED).memory.optimizer
    muon = plan(recipe(optimizer="muon"), CPU, SPEED).memory.optimizer
    matrices = 4 * 12 * 128 * 128  # in four blocks
    assert adamw - muon == 4 * matrices


def test_moments_in_8_bits_take_a_quarter_and_are_offered_where_they_fit():
    least = {"batch_size": 1, "length": 8}  # nothing else can be made smaller
    adamw = plan(recipe(**least), CPU, SPEED)
    packed = plan(recipe(optimizer="adamw-8bit", **least), CPU, SPEED)
    matrices = 4 * 12 * 128 * 128  # in four blocks; the head is the embedding
    saved = adamw.memory.optimizer - packed.memory.optimizer
    assert saved == 6 * matrices - 8 * matrices / 256
    assert packed.seconds > adamw.seconds
    between = round((packed.memory.total + saved / 2) / 0.92)
    made = plan(recipe(**least), CPU.model_copy(update={"device_bytes": between}), SPEED)
    assert not made.fits
    assert any(change.startswith("optimizer=adamw-8bit: ") for change in made.changes)


def test_moments_in_8_bits_are_not_for_fsdp():
    with pytest.raises(ConfigError, match="blocks, which FSDP would cut"):
        plan(recipe(optimizer="adamw-8bit"), gpus(4, "fsdp"))
    sharded = plan(recipe(), gpus(4, "fsdp").model_copy(update={"device_bytes": 3_000_000}))
    assert not sharded.fits and "8bit" not in "".join(sharded.changes)
    large = gpus(4, "ddp").model_copy(update={"device_bytes": 9_000_000})
    for change in plan(recipe(optimizer="adamw-8bit"), large).changes:
        assert "FSDP" not in change


@pytest.mark.parametrize(
    ("batch", "micro", "said"), [(10, None, "cannot give"), (24, 9, "not whole micro-batches")]
)
def test_a_batch_that_cannot_be_divided_is_refused_with_one_that_can(batch, micro, said):
    cluster = gpus(4 if micro is None else 1, "ddp")
    with pytest.raises(ConfigError, match=said) as refused:
        plan(recipe(batch_size=batch, micro_batch_size=micro), cluster)
    assert any(figure in refused.value.hint for figure in ("12", "9"))


def test_the_check_compares_like_with_like():
    made = plan(recipe(), CPU, SPEED)
    half = check(made, seconds=made.seconds / 2, n_tokens=made.n_tokens // 2, peak_bytes=10**8)
    found = {c.quantity: c for c in half}
    assert found["time"].error == pytest.approx(0)
    assert found["speed"].error == pytest.approx(0, abs=1e-6)
    assert found["share of matrix peak"].error == pytest.approx(0, abs=1e-6)
    assert found["peak memory"].error == pytest.approx(made.memory.total / 1e8 - 1)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_the_predicted_peak_is_the_measured_one(monkeypatch):
    """A step with numbers, in a process of its own: within a tenth (memory given back at once,
    so that the C library's heap stays out of it; the whole table is benchmarks/plan.py)."""
    benchmark = Path(__file__).parents[2] / "benchmarks" / "plan.py"
    monkeypatch.syspath_prepend(benchmark.parent)  # as python puts it before a script's run
    bench = runpy.run_path(str(benchmark))
    size, way = "small, 512 pieces", "float32, checkpointing"
    expected = plan(bench["recipe_of"](bench["SIZES"][size], bench["WAYS"][way]), CPU, SPEED)
    command = [sys.executable, str(benchmark), "--train", size, way, "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    measured = json.loads(done.stdout)["bytes"]
    assert expected.memory.total == pytest.approx(measured, rel=0.1)
