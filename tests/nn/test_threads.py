"""Threads: what was faster in a trial is kept, and the caller's number comes back."""

from __future__ import annotations

import time

import pytest
import torch

from hornbook.nn import threads
from hornbook.nn.threads import Threads


@pytest.fixture
def two():
    n = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(n)


@pytest.mark.parametrize("slow", [1, 2])
def test_the_faster_number_is_kept(two, monkeypatch, slow):
    monkeypatch.setattr(threads, "N_TRIED", 2)
    monkeypatch.setattr(threads, "N_KEPT", 6)
    choice, used = Threads(), []
    for _ in range(14):
        with choice.step(1):
            used.append(torch.get_num_threads())
            time.sleep(0.004 if used[-1] == slow else 0.0)
        assert torch.get_num_threads() == 2
    assert used == [2, 2, 1, 1, *[3 - slow] * 6, 2, 2, 1, 1]


def test_another_size_begins_another_trial(two, monkeypatch):
    monkeypatch.setattr(threads, "N_TRIED", 2)
    choice, used = Threads(), []
    for size in (1, 1, 1, 8, 8, 8, 8):
        with choice.step(size):
            used.append(torch.get_num_threads())
    assert used == [2, 2, 1, 2, 2, 1, 1]


def test_an_error_leaves_the_threads_as_they_were(two):
    choice = Threads()
    for _ in range(3):
        with pytest.raises(ValueError), choice.step(1):
            raise ValueError
    assert torch.get_num_threads() == 2
