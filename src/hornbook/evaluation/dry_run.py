"""A training step on tensors without data: what it holds in memory, and how much it computes.

The real model runs forward and backward under torch's fake tensors, which have shapes and no
contents. A mode sees every operation, adds up the storages that are alive, and notes the largest
sum; torch's own formulas give the FLOPs. So the numbers follow the code, whatever the family,
number format or checkpointing, and a model of 10 GB is measured on a laptop in a second.

Deep stacks of equal blocks are measured at two small depths and continued: every figure is affine
in the number of blocks, if memory's peak is taken apart into the phases between which it moves.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MAPPED = 2**25  # glibc gives larger blocks back as soon as they are freed
FEW, MORE = 2, 4  # depths that a deeper stack is continued from


@dataclass(frozen=True)
class Step:
    """What training a family does: `trunk` gives hidden states, `head` a scalar loss of them."""

    build: Callable[[Any], nn.Module]
    trunk: Callable[[nn.Module, int, int], Tensor]  # model, batch size, length -> hidden
    head: Callable[[nn.Module, Tensor], Tensor]
    alike: bool = True  # whether every block costs what the others do


@dataclass(frozen=True)
class Cost:
    """One forward and backward pass. Bytes, but for `flops` and `n_kernels`.

    trunk, head: what the two keep for the backward pass. The peaks are of all that is alive,
    weights and gradients included: until the loss, in the first and in the second half of backward.
    flops: recomputation included.
    """

    weights: float
    trunk: float
    trunk_heap: float  # of it, in tensors of less than 32 MiB, which glibc keeps in its heap
    head: float
    gradients: float
    forward_peak: float
    early_peak: float
    late_peak: float
    flops: float

    @property
    def peak(self) -> float:
        return max(self.forward_peak, self.early_peak, self.late_peak)


def dry_run(
    step: Step,
    config: Any,
    *,
    batch_size: int,
    length: int,
    dtype: str = "float32",
    gradient_checkpointing: bool = False,
) -> Cost:
    """Cost of a forward and backward pass over (batch_size, length) tokens.

    config: a dataclass; where it has `n_layers`, more than 4 are continued from 2 and 4. dtype: of
    matrix products; weights stay float32 and are cast by autocast.
    """
    measure = partial(
        _measure,
        step,
        batch_size=batch_size,
        length=length,
        dtype=DTYPES[dtype],
        gradient_checkpointing=gradient_checkpointing,
    )
    n_layers = getattr(config, "n_layers", None)
    if not isinstance(n_layers, int) or n_layers <= MORE or not step.alike:
        return measure(config)
    few, more = (
        dataclasses.asdict(measure(dataclasses.replace(config, n_layers=n))) for n in (FEW, MORE)
    )
    depth = (n_layers - FEW) / (MORE - FEW)
    return Cost(**{name: few[name] + depth * (more[name] - few[name]) for name in few})


def _measure(
    step: Step,
    config: Any,
    *,
    batch_size: int,
    length: int,
    dtype: torch.dtype,
    gradient_checkpointing: bool,
) -> Cost:
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = step.build(config).train()
        if gradient_checkpointing:
            for block in _blocks(model):
                run = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
                block.forward = partial(run, block.forward)
        with _Watch() as watch:
            for tensor in (*model.parameters(), *model.buffers()):
                watch.see(tensor)
            weights, weights_heap = watch.now, watch.heap
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                hidden = step.trunk(model, batch_size, length)
                after_trunk, after_trunk_heap = watch.now, watch.heap
                loss = step.head(model, hidden)
            after_head, forward_peak = watch.now, max(watch.timeline)
            del hidden
            watch.timeline = [watch.now]
            loss.backward()
            del loss
            end = watch.now
    half = len(watch.timeline) // 2
    return Cost(
        weights=weights,
        trunk=after_trunk - weights,
        trunk_heap=after_trunk_heap - weights_heap,
        head=after_head - after_trunk,
        gradients=end - weights,
        forward_peak=forward_peak,
        early_peak=max(watch.timeline[: half + 1]),
        late_peak=max(watch.timeline[half:]),
        flops=watch.flops,
    )


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The modules of every list, wherever in the model."""
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    return [block for part in lists for block in part]


class _Watch(TorchDispatchMode):
    """Adds up the storages that are alive; notes the sum after every operation."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, int] = {}
        self.now = self.heap = 0
        self.timeline = [0]
        self.flops = 0

    def see(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self._add(self._alive[key], 1)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._add(self._alive.pop(key, 0), -1)

    def _add(self, n_bytes: int, sign: int) -> None:
        self.now += sign * n_bytes
        self.heap += sign * n_bytes * (n_bytes < MAPPED)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, Tensor):
                self.see(made)
        if count := _FLOPS.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        self.timeline.append(self.now)
        return out


def _attention_flops(q: Tensor, k: Tensor, *args: Any, **kwargs: Any) -> int:
    """Two products over (B, H, T, S, D). The masked half is counted, as is the custom."""
    return 4 * q.numel() * k.shape[2]


def _attention_backward_flops(gradient: Tensor, q: Tensor, k: Tensor, *args: Any, **kw: Any) -> int:
    """Four products; that the fused operator computes one of forward's again is not counted."""
    return 2 * _attention_flops(q, k)


_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_attention_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_FLOPS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    _attention: _attention_flops,
    _attention_backward: _attention_backward_flops,
}
