from __future__ import annotations

import os
from pathlib import Path

import pytest

from hornbook.data.datasets import pydocs as pydocs_corpus
from hornbook.data.examples import TextDataset


@pytest.fixture(scope="session")
def pydocs() -> TextDataset:
    return pydocs_corpus.load()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    if not (folder := os.environ.get("HORNBOOK_DATA")):
        pytest.skip("HORNBOOK_DATA is not set: it names the folder with the public data sets")
    return Path(folder)
