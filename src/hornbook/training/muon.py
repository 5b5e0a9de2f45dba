"""Muon: steps of hidden matrices with all their singular values made alike (Jordan et al. 2024,
"Muon: An optimizer for hidden layers in neural networks").

torch.optim.Muon computes the same, a matrix at a time and always in bfloat16. This page takes
matrices of one shape together, in a number format of one's choice: faster where bfloat16 products
are slow, and where matrices are small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hornbook.training.parts import placed_as, whole

QUINTIC = (3.4445, -4.7750, 2.0315)  # steepest at 0: lifts small singular values fastest
EPSILON = 1e-7


def orthogonalized(matrices: Tensor, n_iterations: int = 5) -> Tensor:
    """About the nearest orthogonal matrix of each: U V^T of its U S V^T. (N, R, C) -> (N, R, C).

    Newton-Schulz iterations of an odd quintic polynomial; singular values end between .7 and 1.2,
    which serves as well as 1. In float32, long matrices are iterated on their small side.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=EPSILON)
    long = x.shape[-1] >= 2 * x.shape[-2]
    iterate = _on_the_small_side if long and x.dtype == torch.float32 else _directly
    x = iterate(x, n_iterations)
    return x.mT if tall else x


def _directly(x: Tensor, n_iterations: int) -> Tensor:
    """x <- (a + b G + c G^2) x, where G = x x^T, each time."""
    a, b, c = QUINTIC
    for _ in range(n_iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _on_the_small_side(x: Tensor, n_iterations: int) -> Tensor:
    """The same, with Q = a + b G + c G^2 gathered: G becomes Q G Q, and x meets their product once.

    A matrix of 384 x 1,536 takes half of the time. Rounding is squared on the way: 1e-4 of the
    result in float32, all of it in bfloat16.
    """
    a, b, c = QUINTIC
    gram = x @ x.mT
    product = None
    for i in range(n_iterations):
        q = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        q.diagonal(dim1=-2, dim2=-1).add_(a)
        product = q if product is None else q @ product
        if i + 1 < n_iterations:
            gram = q @ gram @ q
    return x if product is None else product @ x


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised. Takes matrices only: (R, C) each.

    lr: a step's size; times sqrt(R / C) for tall matrices, so that outputs change as much whatever
    the shape. dtype: of the iterations' products. Raises ValueError for what is no matrix.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        for group in self.param_groups:
            if shapes := [tuple(p.shape) for p in group["params"] if p.ndim != 2]:
                raise ValueError(f"Muon takes matrices, not tensors of shape {shapes[0]}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = self._updates(parameters, group["momentum"])
                size = group["lr"] * math.sqrt(max(1, shape[0] / shape[1]))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, updates, alpha=-size)

    def _updates(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """The orthogonalised momentum of matrices of one shape."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        averages = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, averages, momentum)
        matrices = torch.stack([whole(x) for x in ahead]).to(self.dtype)
        updates = orthogonalized(matrices).to(parameters[0].dtype)
        return [placed_as(p, u) for p, u in zip(parameters, updates, strict=True)]
