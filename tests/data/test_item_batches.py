"""Batches of items go on where they were left, or say why they cannot."""

from __future__ import annotations

import pytest

from hornbook.data.item_batches import ItemBatches
from hornbook.errors import CheckpointError


def batches(n_items=10, **more):
    return ItemBatches([1] * n_items, tokens_per_batch=4, items_per_batch=2, seed=0, **more)


def test_other_parts_are_refused_where_they_make_other_batches():
    two = batches(n_parts=2)
    for _ in range(5):
        next(two)
    with pytest.raises(CheckpointError, match="in 2 parts a batch and are now in 4"):
        batches(n_parts=4).restore(two.state())
    old = {k: v for k, v in two.state().items() if k != "n_parts_of_all"}
    with pytest.raises(CheckpointError, match="another number of parts"):
        batches(n_parts=2, world_size=2).restore(old)
    with pytest.raises(CheckpointError, match="in 20 parts a batch and are now in 2"):
        batches(n_parts=2).restore(two.state() | {"n_parts_of_all": 20})


def test_other_parts_that_leave_the_batches_alone_go_on():
    two, one = batches(n_parts=2), batches()
    next(two)
    one.restore(two.state())
    for _ in range(7):
        (first, second), (whole,) = next(two), next(one)
        assert sorted(first + second) == sorted(whole)
