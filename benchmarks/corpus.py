"""The texts that benchmarks run on: Reuters test stories where they are, else docstrings."""

from __future__ import annotations

from hornbook.data.open import open_dataset
from hornbook.errors import UnavailableError


def stories(n: int) -> tuple[str, list[str]]:
    """What they are, and n texts: Reuters-21578 test stories, or docstrings (said) without them."""
    try:
        dataset = open_dataset("reuters")
    except UnavailableError:
        dataset = open_dataset("pydocs")
    examples = dataset.test or dataset.train
    texts = [example.document.full for example in examples[:n]]
    return f"{len(texts)} texts of {dataset.name}", texts
