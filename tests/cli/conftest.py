"""What tests of commands share: the tiny news and, where a test file asks for it, plain numbers."""

from __future__ import annotations

import pytest
from tiny_news import made


@pytest.fixture(scope="module")
def news(tmp_path_factory):
    """A folder with news.csv and the encoder `tiny`."""
    return made(tmp_path_factory.mktemp("home"))


@pytest.fixture
def float32(monkeypatch):
    """On the processor, whatever else there is."""
    monkeypatch.setenv("HORNBOOK_PRECISION", "float32")
    monkeypatch.setenv("HORNBOOK_DEVICE", "cpu")
