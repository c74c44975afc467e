"""Features are computed once per crystal, in worker processes, and survive what can happen to their files."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from matwheel.data.crystal import Crystal, FloatArray
from matwheel.metrics.pool import Pool
from matwheel.predictors import stored_features
from matwheel.predictors.stored_features import StoredFeatures
from tests.metrics.crystals import caesium_chloride, rock_salt, table_of


class Atoms(StoredFeatures):
    """Number and sum of the atoms, and whatever a test wants."""

    packages = ("numpy",)

    def __init__(self, factor: float = 1.0, log: str = "") -> None:
        self.factor = factor
        self.log = log

    @property
    def names(self) -> tuple[str, ...]:
        return "atoms", "protons"

    def compute_one(self, crystal: Crystal) -> FloatArray:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write("x")
        if 2 in crystal.atomic_numbers:
            raise ValueError("helium")
        if 10 in crystal.atomic_numbers:
            time.sleep(30)
        if 36 in crystal.atomic_numbers:
            raise OSError("no space left")
        if 18 in crystal.atomic_numbers:
            os._exit(1)
        return self.factor * np.array([crystal.num_atoms, crystal.atomic_numbers.sum()], dtype=np.float64)


@pytest.fixture(autouse=True)
def _new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATWHEEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stored_features, "Pool", lambda: Pool(processes=1, timeout=3.0))
    stored_features._store.cache_clear()


def _as_another_process() -> None:
    stored_features._store.cache_clear()


def _calls(path: Path) -> int:
    return len(path.read_text()) if path.exists() else 0


def test_each_crystal_is_computed_once_whatever_its_table(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    kind = Atoms(log=str(log))
    salt, other = rock_salt(), caesium_chloride()
    table = table_of(salt, other, salt)
    expected = [[2, 28], [2, 28], [2, 28]]
    np.testing.assert_array_equal(kind.compute(table), expected)
    assert _calls(log) == 2  # ids are no part of a crystal
    _as_another_process()
    np.testing.assert_array_equal(kind.compute(table.take([1, 0])), expected[:2])
    assert _calls(log) == 2
    kind.compute(table_of(rock_salt(length=5.0), other))
    assert _calls(log) == 3
    assert kind.compute(table.take([])).shape == (0, 2)


def test_settings_have_features_of_their_own() -> None:
    table = table_of(rock_salt())
    assert Atoms().compute(table)[0, 0] == 2
    assert Atoms(3.0).compute(table)[0, 0] == 6


@pytest.mark.parametrize("number", [18, 36], ids=["a worker that died", "a full disk"])
def test_what_is_no_fault_of_the_crystal_is_tried_again(tmp_path: Path, number: int) -> None:
    """A worker may have been out of memory."""
    log = tmp_path / "calls"
    kind, table = Atoms(log=str(log)), table_of(rock_salt(number, number), rock_salt())
    for expected in (2, 3):
        _as_another_process()
        np.testing.assert_array_equal(np.isnan(kind.compute(table)).any(1), [True, False])
        assert _calls(log) == expected


def test_failures_are_missing_values_and_only_time_outs_are_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "calls"
    kind, table = Atoms(log=str(log)), table_of(rock_salt(2, 2), rock_salt(10, 10), rock_salt())
    for expected in (3, 4):
        _as_another_process()
        features = kind.compute(table)
        np.testing.assert_array_equal(np.isnan(features).any(1), [True, True, False])
        assert _calls(log) == expected
    assert "2 crystals have no features Atoms, such as: ValueError: helium" in caplog.text


def test_a_damaged_file_costs_its_features_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kind, table = Atoms(), table_of(rock_salt(), caesium_chloride())
    kind.compute(table)
    (path,) = (tmp_path / "cache").glob("features-Atoms-*/*.npz")
    path.write_bytes(path.read_bytes()[:50])
    _as_another_process()
    np.testing.assert_array_equal(kind.compute(table), [[2, 28], [2, 28]])
    assert "these features are computed again" in caplog.text


def test_features_that_cannot_be_kept_are_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MATWHEEL_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(Atoms().compute(table_of(rock_salt())), [[2, 28]])
    assert "these features are not kept" in caplog.text
