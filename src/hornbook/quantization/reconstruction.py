"""What rounding costs most, put back beside the rounded matrix (Zhang et al. 2024, "QERA: an
Analytical Framework for Quantization Error Reconstruction", theorem 1).

With W rounded to W', a layer's output loses (W - W') x. Of all matrices C of a rank, the one that
leaves least of that loss, over the x that the layer sees, is

    C = U U^T (W - W')      U: the leading left singular vectors of (W - W') X

so U (d_out, rank) spans the directions in which the outputs are off most, and C is what W lost in
them. X (d_in, n) are inputs of about a thousand tokens. A plain singular value decomposition of
W - W' (LoftQ: Li et al. 2023) needs no inputs, and misses that some of them are far larger than
others.

    rounded = reconstructed(model, matching(model), lambda: model(tokens, layout))
    attach(model, rounded=rounded)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from hornbook.quantization.four_bits import FourBitLinear

RANK = 8  # .26 bits more for each weight of 1,000 x 1,000
N_BEYOND, N_ROUNDS = 8, 3  # of the search for singular vectors (Halko et al. 2011, section 1.6)


def reconstructed(
    model: nn.Module,
    layers: Mapping[str, nn.Linear],
    run: Callable[[], object],
    *,
    rank: int = RANK,
) -> dict[str, FourBitLinear]:
    """Layers in 4 bits with what their rounding costs most added, those that `run` reaches.

    run: has the model read something; each layer is rounded when it first sees an input, which is
    that of floats, and nothing else is kept. Random numbers are as before, afterwards.
    """
    found: dict[str, FourBitLinear] = {}

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], *, name: str) -> None:
        if name not in found:
            assert isinstance(layer, nn.Linear)
            found[name] = _rounded(layer, inputs[0].flatten(0, -2), rank)

    hooks = [
        layer.register_forward_pre_hook(partial(look, name=name)) for name, layer in layers.items()
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            run()
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return found


def _rounded(layer: nn.Linear, x: Tensor, rank: int) -> FourBitLinear:
    """x: (n, d_in)."""
    rounded = FourBitLinear(layer)
    lost = layer.weight.float() - rounded.weight
    if not lost.any():  # it was in 4 bits already
        return rounded
    left = _leading(lost @ x.float().T, rank)
    rounded.add(left, left.T @ lost)
    return rounded


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """The leading left singular vectors of (d, n): (d, rank), fewer where there are not so many."""
    most = min(matrix.shape)
    with torch.random.fork_rng([matrix.device] if matrix.is_cuda else []):
        torch.manual_seed(0)
        left, _, _ = torch.svd_lowrank(matrix, min(rank + N_BEYOND, most), niter=N_ROUNDS)
    return left[:, :rank]
