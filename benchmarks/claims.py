"""How a benchmark says what it reached: one line a claim, for people and for `all.py`'s table."""

from __future__ import annotations


def at_least(what: str, reached: float, wanted: float, *, digits: int = 2) -> bool:
    """Say a figure that should be at least so high. Whether it is."""
    return claim(what, f"{reached:.{digits}f}", f"at least {wanted:g}", reached >= wanted)


def at_most(what: str, reached: float, wanted: float, *, digits: int = 2) -> bool:
    """Say a figure that should be at most so high. Whether it is."""
    return claim(what, f"{reached:.{digits}f}", f"at most {wanted:g}", reached <= wanted)


def claim(what: str, reached: str, wanted: str, holds: bool) -> bool:
    """Say what was wanted, and what came."""
    print(f"{'holds' if holds else 'MISSED'}: {what}: {reached} (wanted: {wanted})", flush=True)
    return holds
