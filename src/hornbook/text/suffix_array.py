"""Which substrings occur several times? Sort all suffixes: equal beginnings stand side by side.

A suffix is a place in a word, read to the word's end. In the sorted array of suffixes, those that
begin with "the" are neighbours, and what two neighbours have in common (`shared`) says where a run
of equal beginnings ends. Sorting by doubling: once the suffixes are ranked by their first k
characters, the rank at i and the rank at i + k together rank them by 2k; four rounds reach 16.

Source: Manber and Myers 1990. Pieces of words only, so that nothing longer than `longest` counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np


def repeated_substrings(counts: Mapping[str, int], longest: int) -> Iterator[tuple[str, int]]:
    """Substrings of 2 to `longest` characters that occur at least twice, and how often.

    counts: words and how often they occur. A substring that is always followed by the same
    character is left out, since the longer one says more (unless that is longer than `longest`).
    """
    if not counts:
        return
    text = np.array([ord(c) for word in counts for c in word], np.int64)
    left = np.concatenate([np.arange(len(word), 0, -1) for word in counts])  # to the word's end
    times = np.repeat(list(counts.values()), [len(word) for word in counts])
    order = suffix_array(text, left, longest)
    shared = shared_beginnings(text, left, order, longest)
    left_of, times_of = left[order], times[order]
    for length in range(2, longest + 1):
        first = np.flatnonzero(shared < length)  # of each run of equal beginnings
        total = np.add.reduceat(times_of, first)
        goes_on_differently = np.logical_or.reduceat(
            (shared == length) | (left_of == length) | (length == longest), first
        )
        kept = (left_of[first] >= length) & (total >= 2) & goes_on_differently
        for run in np.flatnonzero(kept):
            start = order[first[run]]
            yield "".join(map(chr, text[start : start + length])), int(total[run])


def suffix_array(text: np.ndarray, left: np.ndarray, longest: int) -> np.ndarray:
    """Places in `text` in the order of the (at least) `longest` characters that begin there.

    left: how many characters there are from each place to its word's end; an end sorts first.
    """
    rank = np.unique(text, return_inverse=True)[1] + 1
    known = 1
    while known < longest:
        then = np.zeros_like(rank)
        goes_on = np.flatnonzero(left > known)
        then[goes_on] = rank[goes_on + known]
        rank = np.unique(rank * (len(text) + 1) + then, return_inverse=True)[1] + 1
        known *= 2
    return np.argsort(rank, kind="stable")


def shared_beginnings(
    text: np.ndarray, left: np.ndarray, order: np.ndarray, longest: int
) -> np.ndarray:
    """How many characters each suffix has in common with the one before it, up to `longest`."""
    one, other = order[1:], order[:-1]
    shared = np.zeros(len(order), np.int64)
    same = np.ones(len(one), bool)
    for k in range(longest):
        same &= (left[one] > k) & (left[other] > k)
        at = np.flatnonzero(same)
        same[at] = text[one[at] + k] == text[other[at] + k]
        shared[1:] += same
    return shared
