from __future__ import annotations

import pytest

from hornbook.data.datasets import pydocs as pydocs_corpus
from hornbook.data.examples import TextDataset


@pytest.fixture(scope="session")
def pydocs() -> TextDataset:
    return pydocs_corpus.load()
