"""A loss over many tokens' logits that never holds all of them: loss and gradient, round by round.

The logits of 4,096 tokens over 8,192 pieces are 134 MB, their gradient as much again, and a step
is busy mapping and reading them. A head's loss is a sum over tokens, so a few hundred at a time can
go through it, forward and backward at once; what is kept is the gradient of what went in. No
product is made twice. (Hsu et al. 2024, "Liger Kernel", section 3.2, do the same in one kernel.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LossOf = Callable[[Tensor, Tensor], Tensor]  # rows (N, E) and targets (N,) to their summed loss

MOST = 2**22  # logits at once, 16 MB of them
# But so many rows at least: every round reads the whole head, and adds to the gradient of all of
# it where it is learnt.
FEWEST_LEARNT, FEWEST_FROZEN = 512, 128


def summed_in_rounds(
    loss_of: LossOf, hidden: Tensor, targets: Tensor, *, vocab_size: int
) -> Tensor:
    """`loss_of(hidden, targets)`, a scalar, from some rows at a time where there are many.

    hidden: (T, E); targets: (T,). loss_of makes `vocab_size` logits of each row and adds up losses
    that depend on their own row alone; whatever weights it reads get their gradient as ever, except
    that hooks of theirs run at each round too. In float16 all rows go at once, since the scale that
    keeps small gradients from vanishing comes after the loss.
    """
    n_rows = MOST // vocab_size
    if len(hidden) <= max(n_rows, FEWEST_FROZEN) or _in_float16(hidden.device.type):
        return loss_of(hidden, targets)
    if not torch.is_grad_enabled():
        n_rows = max(n_rows, FEWEST_FROZEN)
        rounds = zip(hidden.split(n_rows), targets.split(n_rows), strict=True)
        return torch.stack([loss_of(*part) for part in rounds]).sum()
    weights = _leaves(loss_of(hidden[:1].detach(), targets[:1]))
    n_rows = max(n_rows, FEWEST_LEARNT if weights else FEWEST_FROZEN)
    if len(hidden) <= n_rows:
        return loss_of(hidden, targets)
    total: Tensor = _InRounds.apply(loss_of, targets, n_rows, hidden, *weights)
    return total


class _InRounds(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss_of: LossOf, targets: Tensor, n_rows: int, hidden: Tensor, *weights: Tensor
    ) -> Tensor:
        losses, at_hidden = [], torch.empty_like(hidden)
        at_weights: list[Tensor] = []
        for start in range(0, len(hidden), n_rows):
            part = slice(start, start + n_rows)
            with torch.enable_grad():
                rows = hidden[part].detach().requires_grad_()
                loss = loss_of(rows, targets[part])
                at_rows, *more = torch.autograd.grad(loss, (rows, *weights))
            losses.append(loss.detach())
            at_hidden[part] = at_rows
            if at_weights:
                torch._foreach_add_(at_weights, more)
            else:
                at_weights = more
        ctx.save_for_backward(at_hidden, *at_weights)
        return torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Any:
        return None, None, None, *(gradient * outer for gradient in ctx.saved_tensors)


def _in_float16(device: str) -> bool:
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def _leaves(value: Tensor) -> list[Tensor]:
    """The weights that a value was made from: the leaves of its graph, each once."""
    found: dict[Tensor, None] = {}
    seen: set[Any] = set()
    ahead = [value.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found[leaf] = None
        ahead += [before for before, _ in node.next_functions]
    return list(found)
