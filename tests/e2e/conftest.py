from pathlib import Path

import pytest

from tests.small_data import write_small_table


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("data") / "small.xyz")
