"""One server for all tests of a module that leave it as it was."""

from __future__ import annotations

import pytest
from small_server import Client, serving


@pytest.fixture(scope="module")
def shared():
    """A server for tests that leave it as it was."""
    with serving() as server:
        yield server


@pytest.fixture
def client(shared) -> Client:
    return shared.client
