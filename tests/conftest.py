"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

SHARED_DATA = Path(os.environ.get("MATWHEEL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of data sets that are not part of the project; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no data folder at {SHARED_DATA}; set MATWHEEL_DATA to run this test")
    return SHARED_DATA


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tests run in parallel processes: more threads each would only fight for the cores."""
    torch.set_num_threads(1)
