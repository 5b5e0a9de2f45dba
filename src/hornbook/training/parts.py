"""Tensors of which each process holds a part, as FSDP leaves them (`fully_shard`: DTensor)."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def whole(x: Tensor) -> Tensor:
    """All of a tensor, on every process: they must all ask. One that is in one piece is itself."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def placed_as(like: Any, x: Tensor) -> Tensor:
    """This process's part of `x`, which every process holds whole; itself where none has parts."""
    if not hasattr(like, "full_tensor"):
        return x
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x, like.device_mesh, like.placements, src_data_rank=None)
