"""The number format: measured by default, asked for by name, refused when unknown."""

from __future__ import annotations

import pytest

from hornbook.errors import ConfigError
from hornbook.nn import precision


@pytest.fixture(autouse=True)
def free_choice(monkeypatch):
    monkeypatch.delenv("HORNBOOK_PRECISION", raising=False)
    monkeypatch.setenv("HORNBOOK_DEVICE", "cpu")


@pytest.mark.parametrize(
    ("speedup", "dtype"), [(0.5, "float32"), (1.1, "float32"), (3.0, "bfloat16")]
)
def test_bfloat16_is_taken_where_it_wins_clearly(monkeypatch, speedup, dtype):
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda: speedup)
    chosen = precision.choose_precision()
    assert chosen.dtype == dtype and f"{speedup:.1f}x" in chosen.reason


def test_the_speedup_is_measured_once():
    precision.bfloat16_speedup.cache_clear()
    first = precision.bfloat16_speedup()
    assert 0.05 < first < 50
    assert precision.bfloat16_speedup() == first


def test_it_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("HORNBOOK_PRECISION", "bfloat16")
    assert precision.choose_precision().dtype == "bfloat16"
    monkeypatch.setenv("HORNBOOK_PRECISION", "float8")
    with pytest.raises(ConfigError, match="float8"):
        precision.choose_precision()
