"""Decoders in 8 and 4 bits: close to the float model, no bit changed by neighbours, undone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from hornbook.errors import ConfigError
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.layout import Padded, Ragged
from hornbook.nn.slots import SlotCache
from hornbook.quantization import between, groups, rotation, weights
from hornbook.quantization.products import AsBytes, AsFloats, Reference
from hornbook.quantization.rotation import (
    by_row,
    hadamard,
    is_compiled,
    mix,
    n_mixed,
    orthogonal,
    unmixing,
)

SIZES = {"vocab_size": 300, "context_length": 160, "n_layers": 2, "d_model": 96, "d_ff": 192}
needs_numba = pytest.mark.skipif(not is_compiled(), reason="numba is not installed")


def build(family: str, *, tied: bool = True) -> torch.nn.Module:
    torch.manual_seed(0)
    if family == "llama":
        model = Llama(LlamaConfig(**SIZES, n_heads=6, n_kv_heads=2, tied_head=tied))
    elif family == "gpt":
        model = GPT(GPTConfig(**SIZES, n_heads=6))
    else:
        model = ModernGPT(ModernGPTConfig(**SIZES, n_heads=6))
        torch.nn.init.normal_(model.head.weight, std=0.05)
    with torch.no_grad():  # as trained models are: a feature far larger than the rest
        for name, parameter in model.named_parameters():
            if "norm" in name and parameter.ndim == 1 and name.endswith("weight"):
                parameter[7] = 12.0
    return model.eval()


@pytest.fixture(scope="module", params=[("llama", 8), ("llama", 4), ("gpt", 8), ("gpt", 4)])
def pair(request) -> tuple[torch.nn.Module, torch.nn.Module, int]:
    family, bits = request.param
    model = build(family)
    quantized = copy.deepcopy(model)
    weights.attach(quantized, bits)
    return model, quantized, bits


IDS = torch.randint(0, 300, (90,), generator=torch.Generator().manual_seed(1))


def logits(model, ids: torch.Tensor) -> torch.Tensor:
    return model.logits(model(ids, Ragged([len(ids)])))


@torch.inference_mode()
def test_the_distribution_is_nearly_the_float_models(pair):
    model, quantized, bits = pair
    expected, found = logits(model, IDS), logits(quantized, IDS)
    error = (found - expected).pow(2).mean() / expected.pow(2).mean()
    assert error.sqrt() < {8: 0.02, 4: 0.16}[bits]
    assert quantized.logits(quantized(IDS[:3], Ragged([3]))[-1]).shape == (300,)


@torch.inference_mode()
def test_cached_and_padded_as_uncached(pair):
    _, quantized, _ = pair
    expected = logits(quantized, IDS)
    cache, found = SlotCache(3, 160), []
    for piece in IDS.split([40, 1, 1, 7, 30, 1, 10]):
        hidden = quantized(piece, cache.read([1], [len(piece)]))
        found.append(quantized.logits(hidden))
    error = (torch.cat(found) - expected).pow(2).mean() / expected.pow(2).mean()
    assert error.sqrt() < 0.01
    mask = torch.ones(2, 90, dtype=torch.bool)
    mask[1, :60] = False
    batch = torch.stack([IDS, torch.cat([torch.zeros(60, dtype=torch.long), IDS[:30]])])
    padded = quantized.logits(quantized(batch, Padded(mask)))
    error = (padded[1, 60:] - expected[:30]).pow(2).mean() / expected[:30].pow(2).mean()
    assert error.sqrt() < 0.01


def test_detached_to_the_last_bit():
    model = build("llama", tied=False)
    before = logits(model, IDS)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    for bits in (8, 4):
        weights.attach(model, bits)
        assert weights.is_quantized(model) and not torch.equal(logits(model, IDS), before)
        with pytest.raises(ConfigError, match="already"):
            weights.attach(model, 8)
        weights.detach(model)
        assert torch.equal(logits(model, IDS), before)
        assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    weights.attach(model, 8, keep=False)
    with pytest.raises(ConfigError, match="gone"):
        weights.detach(model)


@needs_numba
@torch.inference_mode()
def test_neighbours_and_company_change_no_bit():
    """A text alone, beside others, beside a prompt, several tokens at once: the same."""
    model = build("llama")
    weights.attach(model, 8, keep=False)

    def run(neighbours: dict[int, int], prompt: bool, at_once: int) -> torch.Tensor:
        cache, out = SlotCache(5, 160), []
        model(IDS[:40], cache.read([2], [40]))
        for slot, n in neighbours.items():
            model(IDS[50 : 50 + n], cache.read([slot], [n]))
        for step in range(40, 52, at_once):
            new = {2: IDS[step : step + at_once]}
            new |= {slot: IDS[step : step + 1] for slot in neighbours}
            if prompt and step == 44:
                new[4] = IDS[:60]
            layout = cache.read(list(new), [len(ids) for ids in new.values()])
            out.append(model.logits(model(torch.cat(list(new.values())), layout)[:at_once]))
        return torch.cat(out)

    alone = run({}, False, 1)
    assert torch.equal(run({0: 3, 1: 30, 3: 17}, False, 1), alone)
    assert torch.equal(run({0: 25}, True, 1), alone)
    assert torch.equal(run({}, False, 4), alone)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_numba)])
def test_neither_threads_nor_company_change_a_turned_row(compiled, monkeypatch):
    monkeypatch.setattr(rotation, "is_compiled", lambda: compiled)
    x, turn = torch.randn(9, 576), orthogonal(576)
    before = torch.get_num_threads()
    found = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            found += [by_row(x[:1], turn), by_row(x, turn)[:1]]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(row, found[0]) for row in found)
    torch.testing.assert_close(found[0], x[:1] @ turn, rtol=1e-4, atol=1e-4)


@needs_numba
@pytest.mark.parametrize("n_rows", [1, 5])
def test_what_is_compiled_does_what_torch_does(n_rows):
    from hornbook.quantization import between_compiled as compiled

    generator = torch.Generator().manual_seed(0)
    d_model, d_ff, shape = 96, 192, (6, 2, 16)
    numbers = lambda *size: torch.randn(*size, generator=generator)  # noqa: E731
    sums = torch.randint(-9999, 9999, (n_rows, 2 * d_ff), generator=generator, dtype=torch.int32)
    scales, steps = numbers(2 * d_ff).abs() / 3e3, numbers(n_rows).abs()
    x, narrow = numbers(n_rows, d_model), torch.empty(n_rows, d_model, dtype=torch.int8)

    def same(expected: between.Bytes, x8: torch.Tensor, found: np.ndarray) -> None:
        assert (expected[0].int() - x8.int()).abs().max() <= 1  # a tie may be rounded either way
        torch.testing.assert_close(torch.from_numpy(found), expected[1], rtol=1e-5, atol=0)

    found = steps.numpy().copy()
    compiled.norm(x.numpy(), 1e-5, narrow.numpy(), found)
    same(between.norm(x, 1e-5), narrow, found)

    stream, found = x.clone(), steps.numpy().copy()
    part = sums[:, :d_model].contiguous(), scales[:d_model]
    compiled.add_and_norm(
        part[0].numpy(), part[1].numpy(), stream.numpy(), 1e-5, narrow.numpy(), found
    )
    same(between.add_and_norm(*part, steps, x, 1e-5), narrow, found)
    torch.testing.assert_close(stream, x)

    wide, expected = torch.empty(n_rows, d_ff, dtype=torch.int8), between.gate(sums, scales, steps)
    for gate in (compiled.gate, compiled.gate_together):
        found = steps.numpy().copy()
        gate(sums.numpy(), scales.numpy(), n_mixed(d_ff), wide.numpy(), found)
        same(expected, wide, found)

    from hornbook.nn.rotary import Rotary

    part = sums[:, :160].contiguous(), scales[:160]
    rotation = Rotary(16, 50)(torch.arange(n_rows) + 20)
    cache = SlotCache(n_rows, 50)
    k, v = numbers(20 * n_rows, 2, 16), numbers(20 * n_rows, 2, 16)
    slots = list(range(n_rows))
    cache.read(slots, [20] * n_rows).attend(numbers(20 * n_rows, 6, 16), k, v, causal=True)
    layout = cache.read(slots, [1] * n_rows)
    expected = between.attend(
        *part, steps, shape, rotation, lambda q, k, v: layout.attend(q, k, v, causal=True)
    )
    keys, values = (t.numpy() for t in cache.layer(0, k))
    cos, sin = (t[:, 0, :8].contiguous().numpy() for t in (rotation.cos, rotation.sin))
    places = layout.positions().numpy()
    results = []
    for attend in (compiled.attend, compiled.attend_together):
        found = steps.numpy().copy()
        rows = layout.rows.numpy()
        attend(
            part[0].numpy(), part[1].numpy(), cos, sin, keys, values, rows, places,
            narrow.numpy(), found,
        )  # fmt: skip
        same(expected, narrow, found)
        results.append((narrow.clone(), found.copy()))
    assert torch.equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])


def test_products_of_bytes_are_exact():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-127, 128, (70, 1536), generator=generator, dtype=torch.int8)
    x8 = torch.randint(-127, 128, (9, 1536), generator=generator, dtype=torch.int8)
    expected = Reference(values)(x8)
    assert expected.abs().max() > 2**16
    for kernel in (AsBytes, AsFloats):
        assert torch.equal(kernel(values)(x8).long(), expected.long())
        out = torch.empty(1, 70, dtype=kernel.dtype)
        assert torch.equal(kernel(values)(x8[3:4], out), expected[3:4].to(kernel.dtype))


def test_turns_change_no_product():
    x, weight = torch.randn(5, 96), torch.randn(7, 96)
    turn = orthogonal(96)
    torch.testing.assert_close(turn @ turn.T, torch.eye(96), atol=1e-5, rtol=0)
    for size, n in ((96, 32), (1536, 128), (33, 1)):
        x, weight = torch.randn(5, size), torch.randn(7, size)
        assert n_mixed(size) == n
        torch.testing.assert_close(mix(x) @ unmixing(weight).T, x @ weight.T, atol=1e-3, rtol=1e-3)
    assert torch.equal(hadamard(8) @ hadamard(8), 8 * torch.eye(8))
    spike = torch.zeros(1, 1536)
    spike[0, 5] = 128.0
    assert mix(spike).abs().max() == 128 and (mix(spike) != 0).sum() == 128


def test_four_bits_keep_what_four_bits_can_say():
    """Weights on a grid of 16 values a group, as GGML's Q4_1 has them, lose next to nothing."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(0, 16, (128, 4, 32), generator=generator)
    steps[..., 0], steps[..., 1] = 0, 15
    scale = (1 + torch.rand(128, 4, 1, generator=generator)) / 64
    weight = (steps * scale - 8 * scale).flatten(1).bfloat16().float()
    layer = groups.GroupedLinear(weight, torch.ones(128), 32)
    assert (layer.weight() - weight).abs().max() < 2**-7 * weight.abs().max()
    x = torch.randn(3, 128, generator=generator)
    exact = x @ layer.weight().T + 1
    before = layer.state_dict()["packed"].clone()
    found = layer._few(x).float() + 1
    assert (found - exact).abs().max() < 0.02 * exact.abs().max()
    assert torch.equal(layer.state_dict()["packed"], before)  # also when kept in torch's format
    torch.testing.assert_close(layer._many(x) + 1, exact)
    assert layer(x).shape == (3, 128)


def test_what_cannot_be_quantised_is_refused():
    with pytest.raises(ConfigError, match="bits is 3"):
        weights.attach(build("llama"), 3)
    with pytest.raises(ConfigError, match="groups of 48"):
        weights.attach(build("llama"), 4, group=48)
    with pytest.raises(ConfigError, match="no layers"):
        weights.attach(torch.nn.Linear(3, 3), 8)


@torch.inference_mode()
def test_a_head_of_its_own_too():
    for family in ("llama", "modern-gpt"):
        model = build(family, tied=False)
        expected = logits(model, IDS)
        weights.attach(model, 8)
        error = (logits(model, IDS) - expected).pow(2).mean() / expected.pow(2).mean()
        assert 0 < error.sqrt() < 0.04
