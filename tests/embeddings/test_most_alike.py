"""The most alike of all pairs, found by blocks."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from hornbook.embeddings.alike import most_alike


@pytest.mark.parametrize("block", [1, 4, 7, 50])
@pytest.mark.parametrize("k", [1, 6, 1000])
def test_blocks_find_what_all_pairs_at_once_would(block, k):
    vectors = np.random.default_rng(0).normal(size=(23, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = vectors[15] = vectors[3]  # equal pairs
    vectors = np.round(vectors * 8) / 8  # products of which are exact, so that ties are ties
    cosines = vectors @ vectors.T
    first, second = np.triu_indices(len(vectors), k=1)
    order = np.argsort(-cosines[first, second], kind="stable")[:k]
    found = most_alike(vectors, k, block=block)
    assert [(i, j) for i, j, _ in found] == list(zip(first[order], second[order]))
    assert [c for _, _, c in found] == [float(c) for c in cosines[first, second][order]]


def test_one_vector_has_no_pair():
    assert most_alike(np.ones((1, 3), np.float32), 5) == []


def test_memory_is_of_a_block_and_not_of_all_pairs():
    vectors = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    tracemalloc.start()
    most_alike(vectors, 20, block=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 64 * 4 * 6  # all pairs would be 36 MB and more
