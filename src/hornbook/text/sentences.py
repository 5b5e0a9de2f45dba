"""A text's sentences, as punctuation and empty lines divide it."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r".+?(?:[.!?…][\"'’”)\]]*(?=\s)|\n\s*\n|$)", re.S)


def sentences(text: str) -> list[str]:
    """White space is made single. "Dr. No" counts as two: no list of abbreviations is kept."""
    found = (" ".join(match.split()) for match in _SENTENCE.findall(text))
    return [sentence for sentence in found if any(c.isalnum() for c in sentence)]
