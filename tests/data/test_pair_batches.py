"""Batches of pairs: all of them, bounded, of like length, resumable, divided among processes."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from hornbook.data.packing import TokenArray
from hornbook.data.pair_batches import PairBatches, in_order
from hornbook.errors import CheckpointError, DataError

LIMIT = 60


def packed(lengths) -> TokenArray:
    return TokenArray(np.arange(sum(lengths)), np.cumsum(lengths))


@pytest.fixture(scope="module")
def sides():
    """Targets about as long as their sources, as translations are."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 20, 200)
    return packed(lengths), packed(lengths + rng.integers(-1, 2, 200))


def batches(sides, **options) -> PairBatches:
    return PairBatches(*sides, **({"tokens_per_batch": LIMIT, "seed": 3} | options))


def test_an_epoch_has_every_pair_once_in_bounded_batches_of_like_length(sides):
    read = batches(sides)
    for epoch in range(3):
        found = [np.concatenate(parts) for parts in islice(read, read.n_batches)]
        assert read.epoch == epoch
        assert sorted(np.concatenate(found)) == list(range(200))
        assert all(sum(read.lengths[i] for i in batch) <= LIMIT for batch in found)
        next(read)
        read.restore(read.state() | {"epoch": epoch + 1, "number": 0})
    wasted = 1 - np.mean(read.lengths) / max(read.lengths)  # where one batch has them all
    assert batches(sides).padding() < 0.5 * wasted
    one_batch = in_order(read.sources, read.targets, tokens_per_batch=10**6)
    assert sorted(next(one_batch)) == list(range(200))


def test_where_it_stands_is_where_it_goes_on(sides):
    whole = batches(sides)
    expected = [[p.tolist() for p in parts] for parts in islice(whole, 130)]
    assert whole.epoch > 1
    read = batches(sides)
    list(islice(read, 65))
    again = batches(sides)
    again.restore(read.state())
    assert [[p.tolist() for p in parts] for parts in islice(again, 65)] == expected[65:]
    with pytest.raises(CheckpointError, match="seed was 3, is 4"):
        batches(sides, seed=4).restore(read.state())
    with pytest.raises(CheckpointError, match="fingerprint"):
        batches((sides[1], sides[0])).restore(read.state())


def test_processes_and_parts_share_one_batch(sides):
    one = batches(sides, tokens_per_batch=100)
    ranks = [batches(sides, tokens_per_batch=100, rank=r, world_size=2, n_parts=2) for r in (0, 1)]
    for whole, *shares in islice(zip(one, *ranks), 50):
        assert [len(parts) for parts in shares] == [2, 2]
        assert all(len(part) for parts in shares for part in parts)
        assert sorted(np.concatenate([p for parts in shares for p in parts])) == sorted(whole[0])
        assert ranks[0].n_tokens == ranks[1].n_tokens == one.n_tokens
        both = [len(side[i]) for side in (one.sources, one.targets) for i in whole[0]]
        assert one.n_tokens == sum(both) / 2


def test_a_process_is_never_left_without_a_pair():
    lengths = [50] * 7
    read = batches((packed(lengths), packed(lengths)), tokens_per_batch=50, n_parts=2, world_size=2)
    for parts in islice(read, 5):
        assert len(parts) == 2 and all(len(part) for part in parts)
    with pytest.raises(DataError, match="7 pairs can't be divided into 8"):
        batches((packed(lengths), packed(lengths)), n_parts=8)
