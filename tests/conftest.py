"""Fixtures shared by all tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # times say nothing about correctness
settings.load_profile("any machine")

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


@pytest.fixture(autouse=True)
def _no_open_run() -> Iterator[None]:
    """A run of W&B that a test leaves open would be taken for its own by the next `WandbLogger` of this process."""
    yield
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()
