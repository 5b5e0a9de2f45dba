"""Numbers and foreign texts as a reader wants them: units, alignment, excerpts, nothing hidden."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

NOTHING = "–"
FIGURE_SPACE = "\u2007"  # as wide as a digit
PUNCTUATION_SPACE = "\u2008"  # as wide as a full stop

# Control characters break a page or hide something: shown as Unicode's pictures of them where there
# are any. Halves of surrogate pairs cannot be written as UTF-8 at all.
_PICTURES = {c: 0x2400 + c for c in range(0x20) if chr(c) not in "\t\n"} | {0x7F: 0x2421}
_REPLACED = {c: 0xFFFD for c in (*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF)}
_VISIBLE = _PICTURES | _REPLACED


def printable(text: str) -> str:
    """Make control characters visible; tabs and line ends stay, `\\r\\n` becomes `\\n`."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def excerpt(text: str, n_characters: int = 280) -> str:
    """The beginning on one line, cut between words where one ends nearby; "…" marks a cut."""
    line = re.sub(r"\s+", " ", text[: 4 * n_characters]).strip()
    if len(line) <= n_characters and len(text) <= 4 * n_characters:
        return line
    cut = line[:n_characters]
    at_word = cut.rfind(" ")
    return (cut[:at_word] if at_word > 0.8 * n_characters else cut).rstrip() + "…"


def finite(value: float | None) -> bool:
    """True for a number that can be drawn and compared."""
    return value is not None and math.isfinite(value)


def score(value: float | None) -> str:
    """0.8834 -> "0.883"."""
    return f"{value:.3f}" if value is not None and math.isfinite(value) else NOTHING


def short_score(value: float | None) -> str:
    """0.8834 -> ".88", for narrow cells; 1.0 -> "1.0"."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.2f}"
    return "1.0" if text == "1.00" else text.removeprefix("0")


def probability(value: float | None) -> str:
    """A p-value or a probability: three decimals, or "< 0.001"."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return "< 0.001" if 0 <= value < 0.001 else f"{value:.3f}"


def count(value: float | None) -> str:
    """4301 -> "4,301"."""
    return f"{value:,.0f}" if value is not None and math.isfinite(value) else NOTHING


def significant(value: float | None, digits: int = 2) -> str:
    """0.01234 -> "0.012", 48.6 -> "49", 4301.2 -> "4,301": all digits before the point are kept."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    exponent = int(
        f"{value:.{digits - 1}e}".partition("e")[2]
    )  # of the rounded value: 0.999 is 1.0
    decimals = max(0, digits - 1 - exponent)
    return f"{value:,.{min(decimals, 9)}f}"


def aligned(values: Sequence[float | None], digits: int = 2, n_decimals: int = 2) -> list[str]:
    """Format a column so that the decimal points stand below each other when set flush right.

    No number gets more than n_decimals; one that would be nothing but noughts becomes "<0.01".
    """
    least = 10.0**-n_decimals
    texts = [
        f"<{least:.{n_decimals}f}"
        if value is not None and 0 < value < least
        else f"{value:.{n_decimals}f}"
        if value is not None and least <= value < 1
        else significant(value, digits)
        for value in values
    ]
    fractions = [len(text.partition(".")[2]) for text in texts]
    widest = max(fractions, default=0)
    return [
        text + (PUNCTUATION_SPACE if widest and not n else "") + FIGURE_SPACE * (widest - n)
        for text, n in zip(texts, fractions, strict=True)
    ]


def duration(seconds: float | None) -> str:
    """Seconds in words: "0.90 µs", "380 ms", "4.2 s", "2 min 05 s", "1 h 12 min"."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if 0 < seconds < 1e-5:
        return f"{significant(1e6 * seconds)} µs"
    if seconds < 1:
        return f"{significant(1000 * seconds)} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(n_bytes: float | None) -> str:
    """Bytes in decimal units: "912 B", "4.3 MB", "1.2 GB"."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return NOTHING
    value, units = float(n_bytes), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 999.5 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{significant(value)} {unit}"
