"""What others wrote, before a terminal shows it."""

from __future__ import annotations

# A terminal obeys some characters: a text is not to move its cursor or change its title.
_OBEYED = {i: "�" for i in (*range(32), 127, *range(128, 160)) if chr(i) not in "\n\t"}


def harmless(text: str) -> str:
    """The text without characters that a terminal obeys; line breaks and tabs stay."""
    return text.translate(_OBEYED)
