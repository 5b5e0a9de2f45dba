"""int8: linear layers multiply bytes instead of floats, as surgery that can be undone.

    attach(model, run, targets=...)    # run() shows the model some text: how large do inputs get?
    detach(model)                      # the float layers back, to the last bit

Three things keep the rounding small (cosines in experiments/LOG.md):
- Each input channel has its own step and middle, folded into the weight and the bias (Xiao et al.
  2023, "SmoothQuant", equation 3; the shift is Wei et al. 2023, "Outlier Suppression+").
- A few channels of a transformer are ten times as large as the rest. A layer gives such a channel
  several columns, each a fraction of a step apart: they add up to a finer step, and each carries
  a fraction of the weight (Zhao et al. 2019, "Outlier Channel Splitting").
- Between the two layers of a feed-forward there is no room for steps of channels' own, because of
  the GELU. Its hidden units of large range or large weights are left in float32 (Dettmers et al.
  2022, "LLM.int8()").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import ConfigError
from hornbook.nn.feedforward import FeedForward
from hornbook.quantization.kernels import Grid, IntegerWeight, Kernel, Product, choose_kernel

BLOCK_LAYERS = r"blocks\.\d+\.(attention\.(qkv|out)|feed_forward)"
CENTRE = Grid(1.0, 128)  # a column's own step is in the weight
MIGRATION = 0.7  # SmoothQuant's alpha: 1 gives every channel all 255 values, 0 spares the weights
HEADROOM = 1.3  # other texts reach further than those that were shown
FLOOR = 0.5  # quantile of the channels' ranges: no channel is given less
HIDDEN_HEADROOM = 1.4  # of the hidden units, whose ranges vary more from text to text
GROUP_ENDS = (0.3,)  # hidden units by range, a group up to each of these shares and one after
GELU_LEAST = -0.17  # GELU's minimum, at -0.75


@dataclass
class Range:
    """The least and the largest value of each input channel of a layer, (d_in,) both."""

    low: Tensor
    high: Tensor


def observe(model: nn.Module, layers: list[str], run: Callable[[], object]) -> dict[str, Range]:
    """The ranges of the inputs of these layers while `run()` sends something through the model."""
    ranges: dict[str, Range] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach().float().flatten(0, -2)
            low, high = x.amin(0), x.amax(0)
            seen = ranges.get(name, Range(low, high))
            ranges[name] = Range(torch.minimum(seen.low, low), torch.maximum(seen.high, high))

        return note

    handles = [model.get_submodule(n).register_forward_pre_hook(hook(n)) for n in layers]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    if missing := [name for name in layers if name not in ranges]:
        raise ConfigError(f"{missing} saw no inputs", hint="run() must use every layer.")
    return ranges


class Columns:
    """How float inputs (T, d_in) become bytes (T, d_in + n_extra), a weight's columns likewise."""

    def __init__(self, seen: Range, weight: Tensor, n_extra: int) -> None:
        half = (seen.high - seen.low) / 2
        # A channel that was quiet so far may still speak up as loudly as most do.
        half = torch.maximum(half, half.quantile(FLOOR)).clamp(min=1e-4) * HEADROOM
        largest = weight.abs().amax(0).clamp(min=1e-6)
        # One more column at a time to whichever channel's share of the sum is the largest still.
        n_columns = torch.ones_like(half)
        for _ in range(n_extra):
            n_columns[(half * largest / n_columns).argmax()] += 1
        step = half**MIGRATION / (largest / n_columns) ** (1 - MIGRATION)
        step *= (half / step).amax() / 127
        self.extra = torch.arange(len(half)).repeat_interleave(n_columns.long() - 1)
        self.middle = (seen.high + seen.low) / 2
        # Column j of k is rounded (j + 1/2)/k of a step higher, so that all k add up to what
        # rounding to a step of 1/k gives (Hermite's identity).
        parts = n_columns.long().tolist()
        nth = torch.tensor([j for k in parts for j in range(1, k)], dtype=torch.float32)
        self._first = self._offsets(step, torch.zeros_like(half), n_columns)
        self._others = self._offsets(step, nth, n_columns, self.extra)
        self._scale, self._scale_extra = 1 / step, 1 / step[self.extra]
        self._weight_scale = step / n_columns

    def _offsets(
        self, step: Tensor, nth: Tensor, n_columns: Tensor, channel: Tensor | None = None
    ) -> Tensor:
        of = slice(None) if channel is None else channel
        return CENTRE.zero + (nth + 0.5) / n_columns[of] - self.middle[of] / step[of]

    def quantise(self, x: Tensor) -> Tensor:
        d_in, n_extra = x.shape[1], len(self.extra)
        y = torch.empty(len(x), d_in + n_extra)
        torch.addcmul(self._first, x, self._scale, out=y[:, :d_in])
        if n_extra:
            large = x.index_select(1, self.extra)
            torch.addcmul(self._others, large, self._scale_extra, out=y[:, d_in:])
        return y.clamp_(0, 255).byte()  # cut, not rounded: the half is in the offset

    def weight(self, weight: Tensor, bias: Tensor) -> IntegerWeight:
        scaled = weight * self._weight_scale
        return IntegerWeight.round(
            torch.cat([scaled, scaled[:, self.extra]], 1), bias + weight @ self.middle
        )


class Int8Linear(nn.Module):
    """A linear layer in int8, and the float one it stands for. x: (..., d_in) -> (..., d_out)."""

    def __init__(self, base: nn.Linear, seen: Range, kernel: Kernel, n_extra: int) -> None:
        super().__init__()
        self.base = base
        self._columns = Columns(seen, base.weight, n_extra)
        weight = self._columns.weight(base.weight, _bias(base))
        self._product = kernel.prepare(weight, CENTRE, False, None)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        y = self._product(self._columns.quantise(x.flatten(0, -2)))
        return y.unflatten(0, x.shape[:-1])


class Int8FeedForward(nn.Module):
    """Both layers in int8, bytes between them, some hidden units in float. (..., E) -> (..., E)."""

    def __init__(
        self,
        base: FeedForward,
        seen: Range,
        hidden: Range,
        kernel: Kernel,
        n_extra: int,
        n_exact: int,
    ) -> None:
        super().__init__()
        self.base = base
        up, up_bias, down = base.up.weight, _bias(base.up), base.down.weight
        exact = _outstanding(hidden.high, down, n_exact)
        self._exact_up, self._exact_bias = up[exact], up_bias[exact]
        self._exact_down = down[:, exact].T.contiguous()
        rest = torch.ones(down.shape[1], dtype=torch.bool)
        rest[exact] = False
        self._columns = Columns(seen, up[rest], n_extra)
        self._groups: list[tuple[Product, Product]] = []
        bias = _bias(base.down)
        by_range = torch.arange(len(rest))[rest][hidden.high[rest].argsort(descending=True)]
        ends = [round(end * len(by_range)) for end in GROUP_ENDS]
        for units in by_range.tensor_split(ends):
            step = (hidden.high[units].amax().item() * HIDDEN_HEADROOM - GELU_LEAST) / 255
            between = Grid(step, round(-GELU_LEAST / step))
            widen = self._columns.weight(up[units], up_bias[units])
            narrow = IntegerWeight.round(down[:, units], bias)
            self._groups.append(
                (
                    kernel.prepare(widen, CENTRE, True, between),
                    kernel.prepare(narrow, between, False, None),
                )
            )
            bias = torch.zeros_like(bias)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        x8 = self._columns.quantise(flat)
        exact = F.gelu(F.linear(flat, self._exact_up, self._exact_bias))
        y = exact @ self._exact_down
        for up, down in self._groups:
            y += down(up(x8))
        return y.unflatten(0, x.shape[:-1])


def _outstanding(high: Tensor, down: Tensor, n: int) -> Tensor:
    """Hidden units of the largest values, and those with the largest weights for their row."""
    for_its_row = (down.abs() / down.pow(2).mean(1, keepdim=True).sqrt()).amax(0)
    chosen = [ranks.argsort(descending=True).tolist() for ranks in (high, for_its_row)]
    units = dict.fromkeys(unit for pair in zip(*chosen, strict=True) for unit in pair)
    return torch.tensor(list(units)[:n])


def _bias(layer: nn.Linear) -> Tensor:
    if layer.bias is None:
        return torch.zeros(layer.out_features)
    return layer.bias.detach().float()


@torch.no_grad()
def attach(
    model: nn.Module,
    run: Callable[[], object],
    *,
    targets: str = BLOCK_LAYERS,
    kernel: Kernel | None = None,
    n_extra: int = 128,
    n_exact: int = 128,
) -> list[str]:
    """Put int8 in place of each linear layer or GELU feed-forward whose name matches `targets`.

    run() must send representative inputs through the model: values beyond what it showed are cut
    off. n_extra columns go to large inputs; n_exact hidden units stay in float32. Returns the
    names. Raises ConfigError when none matches. The model is for inference in float32 afterwards.
    """
    kernel = kernel or choose_kernel()
    pattern = re.compile(targets)
    found = {
        name: m
        for name, m in model.named_modules()
        if pattern.fullmatch(name)
        and (isinstance(m, nn.Linear) or (isinstance(m, FeedForward) and m.activation is F.gelu))
    }
    if not found:
        raise ConfigError(
            f"no linear layer's or feed-forward's name matches '{targets}'",
            hint=f"There are: {[n for n, m in model.named_modules() if isinstance(m, nn.Linear)]}.",
        )
    inner = [
        name
        for outer, m in found.items()
        for name in ([outer] if isinstance(m, nn.Linear) else [f"{outer}.up", f"{outer}.down"])
    ]
    seen = observe(model, inner, run)
    for name, module in found.items():
        new: nn.Module
        if isinstance(module, FeedForward):
            ranges = seen[f"{name}.up"], seen[f"{name}.down"]
            new = Int8FeedForward(module, *ranges, kernel, n_extra, n_exact)
        else:
            assert isinstance(module, nn.Linear)
            new = Int8Linear(module, seen[name], kernel, n_extra)
        _put(model, name, new)
    return list(found)


def detach(model: nn.Module) -> None:
    """Put the float layers back as they were."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Int8Linear | Int8FeedForward):
            _put(model, name, module.base)


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
