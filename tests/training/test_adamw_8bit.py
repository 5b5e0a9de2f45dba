"""AdamW in 8 bits: the published map, what is lost by it, and a run that hardly notices."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hornbook.errors import CheckpointError
from hornbook.training import adamw_8bit
from hornbook.training.adamw_8bit import (
    AdamW8bit,
    dynamic_map,
    moments_bytes,
    names_in_8_bits,
    pack,
    state_bytes,
    unpack,
)
from hornbook.training.checkpoints import latest_checkpoint, save_checkpoint
from hornbook.training.optimizers import (
    adamw,
    adamw_in_8_bits,
    assignments,
    decay_groups,
    step_divided,
)

RATES = {"lr": 3e-3, "weight_decay": 0.1}


def there_and_back(x, signed):
    return unpack(*pack(x, signed=signed), signed=signed)


class Small(nn.Module):
    """An embedding, two matrices worth packing, one that is not, and biases."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(50, 100)
        self.up, self.down = nn.Linear(100, 130), nn.Linear(130, 100)
        self.head = nn.Linear(100, 8)

    def forward(self, tokens):
        x = self.tokens(tokens)
        return self.head(x + self.down(torch.relu(self.up(x))))


TOKENS = torch.arange(64) * 7 % 50
TARGETS = TOKENS * 3 % 8


def loss_of(model):
    return nn.functional.cross_entropy(model(TOKENS), TARGETS)


def losses(optimizer_of, n_steps=60):
    model = Small()
    optimizer = optimizer_of(model)
    found = []
    for _ in range(n_steps):
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return torch.tensor(found)


def plain(model):
    return adamw(decay_groups(model.named_parameters(), **RATES))


def packed(model):
    return adamw_in_8_bits(model, **RATES)


# The map


def test_the_signed_map_is_the_published_one():
    """Worked by hand from the definition: a decade has twice the parts of the one below it."""
    values = dynamic_map(signed=True)
    assert len(values.unique()) == 256 and values[127] == 0 and values[255] == 1
    torch.testing.assert_close(values[:127], -values[128:255].flip(0), rtol=0, atol=0)
    smallest = [0.55e-6, 3.25e-6, 7.75e-6, 21.25e-6, 43.75e-6, 66.25e-6, 88.75e-6]
    torch.testing.assert_close(values[128:135], torch.tensor(smallest))
    highest = [1 - 0.9 / 64 * (k + 0.5) for k in (2, 1, 0)]
    torch.testing.assert_close(values[252:255], torch.tensor(highest))
    for i in range(7):
        top = 10.0 ** (i - 6)
        assert int(((values > 0.1 * top) & (values < top)).sum()) == 2**i


def test_the_map_of_squares_has_each_decade_twice_as_fine():
    values = dynamic_map(signed=False)
    assert len(values.unique()) == 256 and values[0] == 0 and values[255] == 1
    torch.testing.assert_close(values[1:4], torch.tensor([3.25e-7, 7.75e-7, 2.125e-6]))
    torch.testing.assert_close(values[254], torch.tensor(1 - 0.9 / 256))
    for i in range(7):
        top = 10.0 ** (i - 6)
        assert int(((values > 0.1 * top) & (values < top)).sum()) == 2 ** (i + 1)


# There and back


@pytest.mark.parametrize("signed", [True, False])
def test_what_comes_back_is_the_nearest_value_of_the_map(signed):
    """But for float16's rounding on the way, and squares that would have become 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 256, generator=generator) * torch.logspace(-12, 6, 200)[:, None]
    x *= 10 ** (-5 * torch.rand(200, 256, generator=generator))  # over the map's decades
    x = x if signed else x.abs()
    largest = x.abs().amax(1, keepdim=True)
    values, relative = dynamic_map(signed=signed), x / largest
    nearest = values[torch.bucketize(relative, (values[1:] + values[:-1]) / 2)]
    error = (there_and_back(x, signed) / largest - relative).abs()
    kept = (nearest != 0) | signed
    excess = error - (nearest - relative).abs()
    assert bool((excess <= 2**-10 * relative.abs() + 1e-9)[kept].all())
    assert error.mean() < (0.0012 if signed else 0.0006)  # of the block's largest
    assert float((error / relative.abs())[relative.abs() > 0.1].max()) < (0.07 if signed else 0.04)


def test_zeros_come_back_as_zeros_and_the_smallest_numbers_as_numbers():
    x = torch.zeros(3, 256)
    x[1, 5], x[2, 5] = 1e-36, 1e-44
    back = there_and_back(x, True)
    assert torch.equal(back[0], x[0]) and bool(back.isfinite().all())
    assert 0 < back[1, 5] < 2e-36 and not back[1:, 6:].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_hidden(bad):
    x = torch.ones(3, 256)
    x[1, 7] = bad
    back = there_and_back(x, True)
    assert not back[1].isfinite().any()
    assert torch.equal(back[[0, 2]], x[[0, 2]])


def test_a_square_is_never_lost():
    """A moment beside a much larger one: its step would be divided by epsilon alone."""
    weight = nn.Parameter(torch.zeros(16, 256))
    optimizer = AdamW8bit([weight], lr=1.0, weight_decay=0.0)
    gradient = torch.full((16, 256), 1e-4)
    gradient[:, 0] = 1.0
    weight.grad = gradient
    optimizer.step()
    before = weight.detach().clone()
    weight.grad = gradient * torch.tensor([1.0] + [0.0] * 255)
    optimizer.step()
    assert float((weight.detach() - before).abs().max()) < 1.5  # rates; 4,204 otherwise


# The optimiser


def test_the_state_is_two_bytes_a_number_and_the_scales():
    weight = nn.Parameter(torch.zeros(300, 301))
    optimizer = AdamW8bit([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    held = [x for name, x in optimizer.state[weight].items() if name != "step"]
    n_bytes = sum(x.untyped_storage().nbytes() for x in held)
    assert n_bytes == state_bytes(300 * 301) == 2 * 90_300 + 8 * 353
    assert n_bytes < 0.26 * 8 * weight.numel()


def test_which_moments_are_packed_and_what_all_of_them_take():
    model = Small()
    assert names_in_8_bits(model) == {"up.weight", "down.weight"}
    others = sum(p.numel() for p in model.parameters()) - 2 * 13_000
    assert moments_bytes(model) == 2 * state_bytes(13_000) + 8 * others
    model.up.requires_grad_(False)
    assert names_in_8_bits(model) == {"down.weight"}
    assert moments_bytes(model) == state_bytes(13_000) + 8 * (others - 130)


def test_embeddings_and_small_tensors_are_adamws_to_the_last_bit():
    ours, theirs = Small(), Small()
    pairs = [(ours, packed(ours)), (theirs, plain(theirs))]
    for step in range(5):
        gradients = [torch.randn_like(p) * (step + 1) for p in theirs.parameters()]
        for model, optimizer in pairs:
            for p, g in zip(model.parameters(), gradients, strict=True):
                p.grad = g.clone()
            step_divided(optimizer, [p.grad for p in model.parameters()], 8.0)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        small = name in {"up.weight", "down.weight"}
        assert torch.equal(p, q) != small
        torch.testing.assert_close(p, q, rtol=0, atol=0.01 if small else 0)


def test_rates_and_decay_are_adamws():
    def scale(name):
        return 5.0 if name.startswith("head") else 0.5 if "up" in name else 1.0

    model = Small()
    named = list(model.named_parameters())
    ours = assignments(named, adamw_in_8_bits(model, lr_scale=scale, **RATES))
    theirs = assignments(named, adamw(decay_groups(named, lr_scale=scale, **RATES)))
    assert [(r.name, r.lr, r.weight_decay) for r in ours] == [
        (r.name, r.lr, r.weight_decay) for r in theirs
    ]
    assert [r.name for r in ours if r.optimizer == "AdamW8bit"] == ["up.weight", "down.weight"]


def test_gradients_divided_by_a_number_are_left_as_they_were():
    torch.manual_seed(0)
    start, gradient = torch.randn(70, 90), torch.randn(70, 90)
    weights = [nn.Parameter(start.clone()) for _ in range(2)]
    divided, whole = (AdamW8bit([w], lr=0.1, weight_decay=0.1) for w in weights)
    for _ in range(2):
        weights[0].grad, weights[1].grad = gradient.clone(), gradient / 8
        step_divided(divided, [weights[0].grad], 8.0)
        whole.step()
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0].grad, gradient)
    weights[0].grad, weights[1].grad = gradient, gradient
    divided.step()  # whoever steps himself has nothing divided
    whole.step()
    assert torch.equal(weights[0], weights[1])


def test_chunks_and_the_last_short_block_change_nothing(monkeypatch):
    torch.manual_seed(0)
    start = torch.randn(3, 256 * 300 + 37)
    weights = []
    for chunk in (adamw_8bit.CHUNK, 256 * 7, start.numel() // 256 * 256 + 256):
        monkeypatch.setattr(adamw_8bit, "CHUNK", chunk)
        weight = nn.Parameter(start.clone())
        optimizer = AdamW8bit([weight])
        for factor in (1.0, -0.3):
            weight.grad = start * factor
            optimizer.step()
        weights.append(weight)
    assert bool((weights[0] != start).all())
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])


def test_a_gradient_in_another_order_is_the_same_gradient():
    torch.manual_seed(0)
    start, gradient = torch.randn(70, 90), torch.randn(70, 90)
    found = []
    for g in (gradient, gradient.t().contiguous().t()):
        weight = nn.Parameter(start.clone())
        weight.grad = g
        AdamW8bit([weight]).step()
        found.append(weight)
    assert torch.equal(*found)


@pytest.mark.parametrize("x", [torch.zeros(80, 90).t(), torch.zeros(80, 90).bfloat16()])
def test_what_cannot_be_packed_is_refused_and_left_to_adamw(x):
    with pytest.raises(ValueError, match="contiguous float32"):
        AdamW8bit([nn.Parameter(x)])
    model = nn.Module()
    model.weight = nn.Parameter(x)
    assert names_in_8_bits(model) == set()


# A run


def far(found, expected):
    """The largest distance of two runs' losses, over what was learnt."""
    return float((found - expected).abs().max() / (expected[0] - expected[-1]))


def test_a_run_has_nearly_adamws_losses(monkeypatch):
    expected = losses(plain)
    assert expected[-1] < 0.1 * expected[0]
    assert far(losses(packed), expected) < 0.002

    def broken(signed, device):  # equal steps instead of decades: most squares are lost
        values = torch.linspace(-1 if signed else 0, 1, 256)
        numbers = torch.arange(2**16).to(torch.int16).view(torch.float16).float() / 2**15
        return values, torch.bucketize(numbers, (values[1:] + values[:-1]) / 2).to(torch.uint8)

    monkeypatch.setattr(adamw_8bit, "_tables", broken)
    assert not far(losses(packed), expected) < 0.05  # so the bound can be missed


def test_steps_stay_as_long_as_adamws():
    """Over 400 steps of noise, of sizes that differ by 30 within a block: rounding anew at each
    step neither shortens nor lengthens them for good."""
    torch.manual_seed(0)
    sizes = torch.exp(torch.randn(16, 256))
    weights = [nn.Parameter(torch.zeros(16, 256)) for _ in range(2)]
    optimizers = [
        AdamW8bit([weights[0]], lr=1e-3, weight_decay=0.0),
        torch.optim.AdamW([weights[1]], lr=1e-3, weight_decay=0.0),
    ]
    ratios = []
    for _ in range(400):
        gradient = sizes * (torch.randn(16, 256) + 0.1)
        moved = []
        for weight, optimizer in zip(weights, optimizers, strict=True):
            before = weight.detach().clone()
            weight.grad = gradient.clone()
            optimizer.step()
            moved.append((weight.detach() - before).norm())
        ratios.append(moved[0] / moved[1])
    early, late = torch.stack(ratios[40:140]).mean(), torch.stack(ratios[-100:]).mean()
    assert 0.95 < float(late) < 1.08 and abs(float(late - early)) < 0.03


def test_a_resumed_run_goes_on_with_the_same_bits(tmp_path):
    def step(model, optimizer):
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()

    model = Small()
    optimizer = packed(model)
    for _ in range(3):
        step(model, optimizer)
    save_checkpoint(tmp_path, 3, model, optimizer, {})
    other = Small()
    nn.init.zeros_(other.up.weight)
    resumed = packed(other)
    latest_checkpoint(tmp_path).load_into(other, resumed)
    for pair in ((model, optimizer), (other, resumed)):
        for _ in range(3):
            step(*pair)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
    codes = resumed.optimizers[0].state[other.up.weight]["exp_avg"]
    assert codes.dtype == torch.uint8  # torch's own loading would have made it float32


def test_what_is_loaded_is_not_shared():
    model = Small()
    optimizer = packed(model)
    loss_of(model).backward()
    optimizer.step()
    kept = copy.deepcopy(optimizer.state_dict())
    twin = packed(model)
    twin.load_state_dict(optimizer.state_dict())
    twin.step()
    for i, state in optimizer.optimizers[0].state_dict()["state"].items():
        assert all(torch.equal(x, kept["state"][i][name]) for name, x in state.items())


def test_moments_of_another_optimiser_are_refused(tmp_path):
    model = Small()
    optimizer = plain(model)
    loss_of(model).backward()
    optimizer.step()
    save_checkpoint(tmp_path, 1, model, optimizer, {})
    with pytest.raises(CheckpointError, match=r"another optimiser's: .*not moments in 8 bits"):
        latest_checkpoint(tmp_path).load_into(model, packed(model))
