"""Windows over tokens: nothing lost, nothing crossing, the same for any number of processes."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from hornbook.data.packing import TokenArray
from hornbook.data.windows import IGNORE, Windows, permuted
from hornbook.errors import CheckpointError, ConfigError, DataError


def documents(*lengths: int) -> TokenArray:
    """Documents of these lengths whose tokens are numbered through from 0."""
    ends = np.cumsum(lengths)
    return TokenArray(np.arange(ends[-1], dtype=np.uint16), ends.astype(np.int64))


def test_the_ignored_target_is_that_of_the_losses():
    from hornbook.nn import losses

    assert losses.IGNORE == IGNORE


@pytest.mark.parametrize("lengths", [(23,), (1, 5, 1, 1, 9, 4), (7, 200, 3), (60, 4)])
@pytest.mark.parametrize("cross", [False, True])
def test_an_epoch_has_each_next_token_once(lengths, cross):
    tokens = documents(*lengths)
    n = len(tokens)
    read = Windows(tokens, context_length=6, batch_size=1, seed=3, cross_documents=cross)
    for _ in range(3):  # epochs
        pairs = []
        for _ in range(read.n_windows):
            inputs, targets = next(read)
            kept = targets != IGNORE
            pairs += zip(inputs[kept].tolist(), targets[kept].tolist())
        ends = {int(end) for end in tokens.ends}
        wanted = [(i, (i + 1) % n) for i in range(n) if cross or i + 1 not in ends]
        assert sorted(pairs) == wanted
    packing = read.packing()
    assert packing.n_targets == len(wanted)
    assert packing.n_slots == 6 * read.n_windows
    assert packing.wasted_share == pytest.approx(1 - len(wanted) / packing.n_slots)


def test_epochs_differ_and_seeds_too():
    def epoch(seed: int, skip: int) -> list[int]:
        read = Windows(documents(1000), context_length=8, batch_size=1, seed=seed)
        return [int(read.at(skip * read.n_windows + i)[0][0, 0]) for i in range(read.n_windows)]

    first, second, other = epoch(0, 0), epoch(0, 1), epoch(1, 0)
    assert len(set(first)) == len(first)
    assert first != second and first != other
    assert len({first_place % 8 for i in range(9) for first_place in epoch(0, i)}) > 3  # cuts
    assert first == epoch(0, 0)


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batches_of_one(world_size):
    one = Windows(documents(100, 57), context_length=5, batch_size=8, seed=0)
    several = [
        Windows(
            documents(100, 57),
            context_length=5,
            batch_size=8,
            seed=0,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    for _ in range(20):
        tokens, targets = next(one)
        parts = [next(read) for read in several]
        np.testing.assert_array_equal(tokens, np.concatenate([p[0] for p in parts]))
        np.testing.assert_array_equal(targets, np.concatenate([p[1] for p in parts]))


def test_restored_it_goes_on_exactly():
    read = Windows(documents(300), context_length=7, batch_size=4, seed=5)
    for _ in range(33):  # into the third epoch
        next(read)
    state = json.loads(json.dumps(read.state()))
    wanted = [next(read) for _ in range(5)]
    again = Windows(documents(300), context_length=7, batch_size=4, seed=5)
    again.restore(state)
    for (tokens, targets), (others, their_targets) in zip(wanted, (next(again) for _ in range(5))):
        np.testing.assert_array_equal(tokens, others)
        np.testing.assert_array_equal(targets, their_targets)
    half = Windows(documents(300), context_length=7, batch_size=2, seed=5)  # another batch size
    half.restore(state)
    np.testing.assert_array_equal(np.concatenate([next(half)[0], next(half)[0]]), wanted[0][0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 6}, "seed was 5, is 6"),
        ({"context_length": 8}, "context_length was 7, is 8"),
        ({"tokens": documents(301)}, "n_tokens was 300, is 301"),
        ({"tokens": documents(299, 1)}, "fingerprint was"),
    ],
)
def test_other_data_or_settings_are_refused_with_the_difference(change, said):
    settings = {"tokens": documents(300), "context_length": 7, "batch_size": 4, "seed": 5}
    state = Windows(**settings).state()
    with pytest.raises(CheckpointError, match=said):
        Windows(**settings | change).restore(state)


@pytest.mark.parametrize("lengths", [(2,), (9,), (10,), (50,), (51,), (30, 1, 1, 40)])
@pytest.mark.parametrize("stride", [1, 3, 9, 10])
def test_in_order_predicts_every_token_once_with_its_context(lengths, stride):
    data = documents(*lengths)
    n, context = len(data), 10
    seen: list[int] = []
    for tokens, targets in Windows.in_order(
        data, context_length=context, batch_size=3, stride=stride
    ):
        assert len(tokens) <= 3
        for row, aims in zip(tokens, targets):
            np.testing.assert_array_equal(row, np.arange(row[0], row[0] + len(row)))
            for place, target in enumerate(aims):
                if target != IGNORE:
                    assert target == row[place] + 1
                    assert place + 1 >= min(target, context - stride)
                    seen.append(int(target))
    firsts = {int(end) for end in data.ends}
    assert sorted(seen) == [i for i in range(1, n) if i not in firsts]


def test_in_order_divides_among_processes():
    def all_of(**options):
        batches = Windows.in_order(documents(500), context_length=8, batch_size=2, **options)
        return sorted(int(t) for _, targets in batches for t in targets.flat if t != IGNORE)

    parts = [all_of(rank=rank, world_size=3) for rank in range(3)]
    assert sorted(token for part in parts for token in part) == all_of()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000])
def test_the_permutation_is_one(n):
    for seed in range(3):
        keys = np.random.default_rng(seed).integers(1 << 63, size=6, dtype=np.uint64)
        assert sorted(permuted(np.arange(n), n, keys)) == list(range(n))


def test_the_permutation_looks_random():
    """Neighbours end up apart: the mean distance of a random order is a third of the length."""
    keys = np.random.default_rng(0).integers(1 << 63, size=6, dtype=np.uint64)
    order = permuted(np.arange(30_000), 30_000, keys)
    assert np.abs(np.diff(order)).mean() == pytest.approx(10_000, rel=0.03)
    assert np.abs(np.corrcoef(order, np.arange(30_000))[0, 1]) < 0.02


def test_what_is_too_short_says_how_long_it_is():
    with pytest.raises(DataError, match="10 tokens, fewer than one window of 10") as error:
        Windows(documents(10), context_length=10, batch_size=1, seed=0)
    assert "at most 9" in error.value.hint
    with pytest.raises(ConfigError, match="batch of 3"):
        Windows(documents(30), context_length=10, batch_size=3, seed=0, world_size=2)
    with pytest.raises(ConfigError, match="stride is 11"):
        next(Windows.in_order(documents(30), context_length=10, batch_size=1, stride=11))


def test_reading_is_never_what_training_waits_for():
    """Five million tokens a second, with documents of a hundred tokens; a quarter is asked here."""
    read = Windows(
        TokenArray(np.zeros(1_000_000, np.uint16), np.arange(100, 1_000_001, 100)),
        context_length=128,
        batch_size=64,
        seed=0,
    )
    next(read)
    start = time.process_time()  # another program's share of the processor is not ours
    for _ in range(50):
        next(read)
    assert 50 * 64 * 128 / (time.process_time() - start) > 1_250_000
