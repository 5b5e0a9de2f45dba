"""Matrices in tiles: nothing lost on the way there and back, products as the reference's, and the
same bits whatever is beside a row."""

from __future__ import annotations

import copy

import pytest
import torch

from hornbook.interop.quantized import load_quantized, save_quantized
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged
from hornbook.nn.slots import SlotCache
from hornbook.quantization import tiled, tiles, weights
from hornbook.quantization.groups import GroupedLinear
from hornbook.quantization.tiled import ByteTiles, HalfTiles

compiled = pytest.mark.skipif(
    not tiled.is_compiled(), reason="no numba, or a processor that doesn't multiply tiles"
)
GENERATOR = torch.Generator().manual_seed(0)
HALVES = torch.randint(0, 16, (100, 96), generator=GENERATOR).byte()
SCALES = torch.rand(3, 100, 2, generator=GENERATOR).bfloat16()
BYTES = torch.randint(-127, 128, (100, 96), generator=GENERATOR).to(torch.int8)
INPUTS = torch.randn(11, 96, generator=GENERATOR)


def test_tiles_keep_every_value():
    packed = tiles.tiles_of_halves(HALVES)
    assert packed.shape == (7, 3, 256)  # 100 outputs are filled up to 112
    assert torch.equal(tiles.halves_of_tiles(packed, 100), HALVES)
    of_bytes = tiles.tiles_of_bytes(BYTES)
    assert torch.equal(tiles.bytes_of_tiles(of_bytes, 100), BYTES)
    some = torch.tensor([3, 99, 17])
    rows = tiles.rows_of_tiles(of_bytes.numpy(), some.numpy())
    assert torch.equal(torch.from_numpy(rows), BYTES[some])
    beside = tiles.beside(SCALES.transpose(0, 1))
    assert torch.equal(tiles.from_beside(beside, 100), SCALES.transpose(0, 1))


def meant(x: torch.Tensor) -> torch.Tensor:
    """What inputs in grouped bytes stand for, in float64."""
    given = tiles.to_grouped_bytes(x)
    return (given.x8.double().unflatten(1, (-1, 32)) * given.steps.double()[..., None]).flatten(1)


def test_grouped_bytes_are_near_and_a_large_feature_spoils_its_32_alone():
    x = INPUTS.clone()
    x[:, 5] = 1000.0
    error = (meant(x) - x).abs()
    assert error[:, 32:].max() < INPUTS.abs().max() / 250
    assert error[:, 5].max() < 1e-3 * 1000
    given = tiles.to_grouped_bytes(x)
    assert torch.equal(given.sums[:, 1], given.x8[:, 32:64].sum(1, dtype=torch.int32))


@compiled
@pytest.mark.parametrize("n", [1, 3, 8, 11])
def test_products_are_the_references(n):
    x = INPUTS[:n]
    scale, middle = SCALES.double().unbind(2)  # (G, d_out)
    grouped = (HALVES.double() - 8).unflatten(1, (3, 32))
    matrix = (grouped * scale.T[..., None] + middle.T[..., None]).flatten(1)
    found = HalfTiles(HALVES, SCALES).product(x)
    torch.testing.assert_close(found, (meant(x) @ matrix.T).float(), atol=1e-4, rtol=1e-5)
    of_outputs = torch.rand(100, generator=torch.Generator().manual_seed(2))
    found = ByteTiles(BYTES, of_outputs).product(x)
    expected = (meant(x) @ BYTES.double().T * of_outputs).float()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-5)


@compiled
def test_a_rows_result_depends_on_nothing_beside_it():
    for matrix in (HalfTiles(HALVES, SCALES), ByteTiles(BYTES, torch.ones(100))):
        together = matrix.product(INPUTS)
        alone = torch.cat([matrix.product(row[None]) for row in INPUTS])
        assert torch.equal(together, alone)


@compiled
def test_a_matrix_read_back_is_the_one_given():
    halves = HalfTiles(HALVES, SCALES)
    assert torch.equal(halves.values(), HALVES)
    assert torch.equal(halves.scales_and_middles(), SCALES)
    of_outputs = torch.rand(100)
    in_bytes = ByteTiles(BYTES, of_outputs)
    assert torch.equal(in_bytes.values(), BYTES) and torch.equal(in_bytes.scales(), of_outputs)
    some = torch.tensor([[1, 2], [3, 99]])
    torch.testing.assert_close(in_bytes.rows(some), BYTES[some] * of_outputs[some][..., None])


@compiled
def test_a_layer_in_tiles_is_saved_as_it_came_and_goes_on_with_other_groups():
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(1))
    layer = GroupedLinear(weight, None, 32)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    y = layer(weight[:3])
    assert not len(layer.packed)  # in memory once
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    error = (y - weight[:3] @ layer.weight().T).abs().max() / y.abs().max()
    assert 0 < error < 0.02
    wide = GroupedLinear(weight, None, 64)
    assert wide(weight[:3]).shape == (3, 64) and wide._tiles is None


@pytest.fixture(scope="module")
def small() -> Llama:
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "context_length": 160, "n_layers": 2, "d_model": 96, "d_ff": 192}
    return Llama(LlamaConfig(**sizes, n_heads=6, n_kv_heads=2, tied_head=True)).eval()


@compiled
@torch.inference_mode()
def test_a_step_in_one_call_says_what_block_by_block_says(small):
    model = copy.deepcopy(small)
    weights.attach(model, 4)
    ids = torch.randint(0, 300, (40,), generator=torch.Generator().manual_seed(1))
    whole = model.logits(model(ids, Ragged([40])))
    cache = SlotCache(3, 160)
    steps = torch.cat([model.logits(model(i[None], cache.read([1], [1]))) for i in ids])
    error = (steps - whole).pow(2).mean() / whole.pow(2).mean()
    assert error.sqrt() < 0.02  # the same products; what lies between rounds elsewhere
    cache = SlotCache(3, 160)
    both = [model.logits(model(i.repeat(2), cache.read([0, 2], [1, 1])))[1:] for i in ids]
    assert torch.equal(torch.cat(both), steps)


@compiled
@torch.inference_mode()
def test_a_folder_in_four_bits_opens_with_the_same_bits(small, tmp_path):
    model = copy.deepcopy(small)
    weights.attach(model, 4, keep=False)
    ids = torch.arange(20)
    before = model.logits(model(ids, Ragged([20])))  # it lies in tiles now
    save_quantized(tmp_path, model)
    again = load_quantized(tmp_path)
    assert torch.equal(again.logits(again(ids, Ragged([20]))), before)


@pytest.mark.skipif(not tiled.find_spec("numba"), reason="numba is not installed")
def test_a_processor_that_knows_the_instruction_gets_it_right():
    from hornbook.quantization import tiles_compiled

    assert tiles_compiled.is_right() is tiles_compiled.knows_this_processor()


@compiled
@torch.inference_mode()
def test_a_width_with_a_filling_goes_block_by_block():
    """40 outputs of queries, keys and values are filled up to 48: no head of a step's."""
    config = LlamaConfig(vocab_size=64, context_length=32, n_layers=2, d_model=32, d_ff=64,
                         n_heads=8, n_kv_heads=1, tied_head=True)  # fmt: skip
    torch.manual_seed(0)
    model = Llama(config).eval()
    weights.attach(model, 4)
    ids = torch.arange(12)
    whole = model.logits(model(ids, Ragged([12])))
    cache = SlotCache(2, 32)
    steps = torch.cat([model.logits(model(i[None], cache.read([1], [1]))) for i in ids])
    assert model.blocks[0]._stacked is None
    torch.testing.assert_close(steps, whole, atol=0.05, rtol=0.05)


@compiled
@torch.inference_mode()
def test_what_lies_in_tiles_is_copied_filled_and_cast(small):
    model = copy.deepcopy(small).bfloat16()
    weights.attach(model, 4, keep=False)
    model.float()
    ids = torch.arange(20)

    def logits(of):
        cache = SlotCache(1, 40)
        return torch.cat([of.logits(of(i[None], cache.read([0], [1]))) for i in ids])

    before = logits(model)
    assert before.isfinite().all() and before.abs().max() < 100
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin), before)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    twin.blocks[0].layers[0].norm_1.weight.mul_(2)
    twin.load_state_dict(kept)
    assert torch.equal(logits(twin), before)


@compiled
def test_inputs_of_another_width_are_refused():
    with pytest.raises(ValueError, match="96 inputs"):
        HalfTiles(HALVES, SCALES).product(torch.ones(2, 64))
    with pytest.raises(ValueError, match="96 inputs"):
        ByteTiles(BYTES, torch.ones(100)).product(torch.ones(2, 128))
