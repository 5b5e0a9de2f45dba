"""AdamW whose two moments are kept in 8 bits: Dettmers et al. 2021, "8-bit Optimizers via
Block-wise Quantization" (arXiv 2110.02861).

A moment is a byte for each number and a float32 for each block of 256: 2.03 bytes a weight for both
instead of 8. The byte is a place in a fixed map of 256 values in [-1, 1], or [0, 1] for squares;
the block's largest number is what they are multiplied by, so that an outlier costs its own block
alone precision. The map's values lie in seven decades, more in each than in the one below: a moment
may be small beside its block's largest and is still not lost.

A step unpacks some 65,000 numbers of each moment, updates them in float32 and packs them again; no
more than that is ever unpacked. The paper's "paged" state, which moves between a graphics card's
memory and the machine's, is not done here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

BLOCK = 256  # numbers that share a scale: 2,048 in the paper, 256 in its library since
CHUNK = 256 * BLOCK  # numbers that are unpacked at a time: what a core's own cache holds
FEWEST = 4096  # numbers of a tensor that is worth it; smaller ones matter more than their bytes
STATE = ("exp_avg", "exp_avg_scales", "exp_avg_sq", "exp_avg_sq_scales")
# Blocks are brought to +-2^15 before they become float16, where its 11 bits hold for all decades
# of the map; a block's smallest scale is one that may still be divided so.
_FULL, _LEAST = 2.0**15, 2.0**-111


def dynamic_map(*, signed: bool) -> Tensor:
    """The 256 values of a byte, ascending (sections 1.3 and 2.2, dynamic quantization).

    In the decade up to 10^-i lie 2^(6 - i) values and their negatives, or twice as many without
    negatives, in the middles of equal parts of [.1, 1] times 10^-i; 0 and 1 come on top.
    """
    values = [0.0, 1.0]
    for decade in range(7):
        n_values = 2**decade if signed else 2 ** (decade + 1)
        ends = torch.linspace(0.1, 1, n_values + 1)
        middles = (10.0 ** (decade - 6) * (ends[:-1] + ends[1:]) / 2).tolist()
        values += middles
        values += [-x for x in middles] if signed else []
    return torch.tensor(sorted(values))


@lru_cache
def _tables(signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """The value of each byte (256,), and the byte of each float16, by its bits (65,536,)."""
    values = dynamic_map(signed=signed)
    numbers = torch.arange(2**16).to(torch.int16).view(torch.float16).float() / _FULL
    nearest = torch.bucketize(numbers, (values[1:] + values[:-1]) / 2)
    if not signed:
        # A square that is not 0 must not become 0: the step would be divided by epsilon alone.
        nearest[numbers > 0] = nearest[numbers > 0].clamp(min=1)
    return values.to(device), nearest.to(torch.uint8).to(device)


def pack(x: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Blocks (N, B) as bytes (N, B) and scales (N, 1). A block with a NaN or an infinite number
    comes back without any finite one."""
    scales = x.abs().amax(1, keepdim=True).clamp_(min=_LEAST)
    halves = (x / (scales / _FULL)).half()
    places = halves.view(torch.uint16).to(torch.int32).flatten()
    return _tables(signed, x.device)[1].index_select(0, places).view(x.shape), scales


def unpack(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """What `pack` kept, (N, B) in float32."""
    values = _tables(signed, codes.device)[0]
    found = values.index_select(0, codes.to(torch.int32).flatten())
    return found.view(codes.shape).mul_(scales)


def state_bytes(n: int) -> int:
    """Bytes of both moments of a tensor of n numbers, with their scales."""
    return 2 * n + 2 * 4 * math.ceil(n / BLOCK)


def moments_bytes(model: nn.Module) -> int:
    """Bytes of AdamW's moments of all that is trainable, in 8 bits those of `names_in_8_bits`."""
    small = names_in_8_bits(model)
    return sum(
        state_bytes(p.numel()) if name in small else 8 * p.numel()
        for name, p in model.named_parameters()
        if p.requires_grad
    )


def names_in_8_bits(model: nn.Module) -> set[str]:
    """The trainable parameters whose moments bear 8 bits: float32, 4,096 numbers or more, and no
    embedding's, whose rows have gradients of very different sizes (section 2.3)."""
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    return {
        name
        for name, p in model.named_parameters()
        if p.requires_grad
        and p.numel() >= FEWEST
        and p.dtype == torch.float32
        and p.is_contiguous()
        and id(p) not in embeddings
    }


class AdamW8bit(Optimizer):
    """AdamW (Loshchilov and Hutter 2019) with moments in 8 bits, for all that it is given.

    Raises ValueError for parameters that are not contiguous float32, or sharded: a process would
    hold parts of blocks.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        for p in (p for group in self.param_groups for p in group["params"]):
            if hasattr(p, "full_tensor"):
                raise ValueError("moments in 8 bits are not for sharded parameters")
            if p.dtype != torch.float32 or not p.is_contiguous():
                raise ValueError(
                    f"moments in 8 bits are for contiguous float32 parameters, not {p.dtype} of "
                    f"shape {tuple(p.shape)} and strides {p.stride()}"
                )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    if p not in self.state:
                        self.state[p] = _nothing(p)
                    divisor = getattr(self, "grad_scale", None)
                    _update(p, p.grad, self.state[p], group, divisor)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` gave. Raises ValueError when groups or moments are others.

        torch's own would turn bytes into the parameter's number format.
        """
        groups = state_dict["param_groups"]
        super().load_state_dict({"state": {}, "param_groups": groups})
        parameters = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip((i for g in groups for i in g["params"]), parameters, strict=True):
            if i not in state_dict["state"]:
                continue
            given = state_dict["state"][i]
            if set(given) != {"step", *STATE}:
                raise ValueError(f"these are not moments in 8 bits: {sorted(given)}")
            own = {name: given[name].to(p.device, copy=True) for name in STATE}
            self.state[p] = {"step": given["step"].cpu().clone()} | own


def _nothing(p: Tensor) -> dict[str, Tensor]:
    n_blocks = math.ceil(p.numel() / BLOCK)
    sizes = (p.numel(), n_blocks, p.numel(), n_blocks)
    kinds = (torch.uint8, torch.float32) * 2
    state = {
        name: torch.zeros(size, dtype=kind, device=p.device)
        for name, size, kind in zip(STATE, sizes, kinds, strict=True)
    }
    return {"step": torch.tensor(0.0)} | state


def _update(
    p: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any], divisor: Any
) -> None:
    """One step of a parameter, a chunk at a time; its gradient is divided by `divisor`."""
    state["step"] += 1
    n_steps, (beta1, beta2) = float(state["step"]), group["betas"]
    size = group["lr"] / (1 - beta1**n_steps)
    root = math.sqrt(1 - beta2**n_steps)
    weights, gradients = p.view(-1), gradient.reshape(-1)
    for numbers, blocks in _chunks(p.numel()):
        shape = (blocks.stop - blocks.start, -1)
        parts = [state[name][part] for name, part in zip(STATE, (numbers, blocks) * 2, strict=True)]
        m, m_scales, v, v_scales = (part.view(shape) for part in parts)
        g = gradients[numbers].view(shape)
        if divisor is not None:
            g = g / divisor
        average = unpack(m, m_scales, signed=True).lerp_(g, 1 - beta1)
        square = unpack(v, v_scales, signed=False).mul_(beta2).addcmul_(g, g, value=1 - beta2)
        for codes, scales, packed in (
            (m, m_scales, pack(average, signed=True)),
            (v, v_scales, pack(square, signed=False)),
        ):
            codes.copy_(packed[0])
            scales.copy_(packed[1])
        divisors = square.sqrt_().div_(root).add_(group["eps"])
        some = weights[numbers].view(shape).mul_(1 - group["lr"] * group["weight_decay"])
        some.addcdiv_(average, divisors, value=-size)


def _chunks(n: int) -> Iterator[tuple[slice, slice]]:
    """Which numbers and which blocks are taken together; the last, shorter block comes alone."""
    whole = n - n % BLOCK
    for start in range(0, whole, CHUNK):
        stop = min(start + CHUNK, whole)
        yield slice(start, stop), slice(start // BLOCK, stop // BLOCK)
    if whole < n:
        yield slice(whole, n), slice(whole // BLOCK, whole // BLOCK + 1)
