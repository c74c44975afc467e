from dataclasses import replace

import numpy as np
import pytest

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.flywheel.filters import BasicFilter, FilterResult, FilterStep, NoCrystalLeftError
from tests.metrics.crystals import caesium_chloride, doubled

ROCK_SALT = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def _rock_salt(a: float = 5.6, numbers: tuple[int, int] = (11, 17), shift: float = 0.0) -> Crystal:
    coords = (np.array([[0, 0, 0], [0.5, 0.5, 0.5]]) + shift) % 1
    return Crystal("x", a * ROCK_SALT, coords, np.array(numbers))


def _table(*crystals: Crystal) -> CrystalTable:
    """Crystals named by their position."""
    return CrystalTable.from_crystals(replace(crystal, id=str(row)) for row, crystal in enumerate(crystals))


NOTHING = _table()


def _rows(result: FilterResult) -> list[int]:
    return [int(name) for name in result.crystals.ids]


def _steps(result: FilterResult) -> dict[str, tuple[int, int]]:
    return {step.name: (step.before, step.after) for step in result.steps}


def test_each_step_removes_what_it_should_and_counts_it() -> None:
    needle = Crystal("x", np.array([[5.0, 0, 0], [4.99, 0.4, 0], [0, 0, 5]]), np.zeros((1, 3)), np.array([6]))
    long = Crystal("x", np.diag([4.0, 4.0, 300.0]), np.zeros((1, 3)), np.array([6]))
    samples = _table(
        _rock_salt(),
        needle,
        long,
        Crystal("x", 4 * np.eye(3), np.array([[0, 0, 0], [0.05, 0, 0]]), np.array([11, 17])),  # 0.2 A apart
        _rock_salt(numbers=(2, 9)),  # HeF is not neutral
        _rock_salt(a=5.7, shift=0.3),  # the first one again
        _rock_salt(a=4.2, numbers=(12, 8)),  # in the training set
        _rock_salt(a=6.3, numbers=(19, 17)),
    )
    training = _table(_rock_salt(a=4.25, numbers=(12, 8)), caesium_chloride(11, 17))
    result = BasicFilter().apply(samples, training)
    assert _rows(result) == [0, 7]
    assert _steps(result) == {
        "cell": (8, 6),
        "structure": (6, 5),
        "composition": (5, 4),
        "unique": (4, 3),
        "novel": (3, 2),
    }


def test_copies_in_another_cell_or_of_another_volume_are_found() -> None:
    copy = doubled(_rock_salt())
    assert _steps(BasicFilter().apply(_table(copy, _rock_salt(a=6.6)), NOTHING))["unique"] == (2, 1)
    result = BasicFilter().apply(_table(copy, _rock_salt(numbers=(19, 17))), _table(_rock_salt(a=6.3)))
    assert _rows(result) == [1]


def test_steps_are_options() -> None:
    samples = _table(_rock_salt(), _rock_salt(), _rock_salt(numbers=(2, 9)))
    off = BasicFilter(structure=False, composition=False, duplicates=False)
    assert _rows(off.apply(samples, samples)) == [0, 1, 2]
    assert _rows(BasicFilter(composition=False).apply(samples, NOTHING)) == [0, 2]


def test_collapsed_and_broken_cells_are_removed_without_a_warning() -> None:
    flat = np.zeros((3, 3))
    broken = np.full((3, 3), np.nan)
    crystals = [Crystal("x", cell, np.zeros((1, 3)), np.array([6])) for cell in (flat, broken, 4 * np.eye(3))]
    assert _rows(BasicFilter().apply(_table(*crystals), NOTHING)) == [2]


def test_nothing_left_is_an_error_that_names_the_rates() -> None:
    samples = _table(_rock_salt(numbers=(2, 9)), Crystal("x", np.zeros((3, 3)), np.zeros((1, 3)), np.array([6])))
    result = BasicFilter().apply(samples, NOTHING)
    with pytest.raises(NoCrystalLeftError, match=r"cell 1/2, structure 1/1, composition 0/1"):
        result.require_any()
    BasicFilter().apply(_table(_rock_salt()), NOTHING).require_any()


def test_rate_of_nothing_is_not_a_number() -> None:
    assert np.isnan(FilterStep("cell", 0, 0).rate)
    assert FilterStep("cell", 4, 1).rate == 0.25


def test_a_step_counts_passes_and_failures() -> None:
    passed = np.array([True, False, False, False])
    step = FilterStep.of("relaxation", passed, ["", "time-out", "time-out", ""], {"converged": 1.0})
    assert (step.before, step.after, step.failures) == (4, 1, {"time-out": 2})
    assert step.numbers == {"converged": 1.0}
