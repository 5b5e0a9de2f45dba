"""For losses in which the examples of a batch see one another: the rows of all processes.

Most losses are sums over examples, and the loop adds them up over processes. Those that compare
with the rest of the batch (negatives of in-batch learning, KTO's baseline) need the rest to be the
same however many processes share it.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def learns_with_others() -> bool:
    """Whether several processes are taking a step together. Without gradients they are not: each
    evaluates for itself."""
    return (
        torch.is_grad_enabled()
        and dist.is_available()
        and dist.is_initialized()
        and dist.get_world_size() > 1
    )


def of_all(rows: Tensor) -> Tensor:
    """The rows (n, ...) of all processes (N, ...): this process's first, gradients go back to
    whoever they are of. Processes may have different numbers, and all must ask.

    Where nobody else takes the step, the rows themselves.
    """
    if not learns_with_others():
        return rows
    counts = [
        torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(dist.get_world_size())
    ]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    n_rows = [int(count) for count in counts]
    padding = rows.new_zeros(max(n_rows) - len(rows), *rows.shape[1:])
    filled = torch.cat([rows, padding]).contiguous()
    if rows.requires_grad:
        parts = list(all_gather(filled))
    else:
        parts = [torch.empty_like(filled) for _ in n_rows]
        dist.all_gather(parts, filled)
    parts = [part[:n] for part, n in zip(parts, n_rows, strict=True)]
    mine = dist.get_rank()
    return torch.cat([parts[mine], *parts[:mine], *parts[mine + 1 :]])
