import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.metrics.validity import in_one_piece, structure_validity


def _crystal(lattice: np.ndarray, frac_coords: list[list[float]], numbers: list[int] | None = None) -> Crystal:
    coords = np.array(frac_coords, dtype=np.float64)
    return Crystal("x", np.asarray(lattice, dtype=np.float64), coords, np.array(numbers or [6] * len(coords)))


def test_one_table_of_good_and_bad_crystals() -> None:
    cube = 4.0 * np.eye(3)
    thin = np.diag([100.0, 100.0, 0.02])
    broken = cube.copy()
    broken[0, 0] = np.nan
    table = CrystalTable.from_crystals(
        [
            _crystal(cube, [[0, 0, 0], [0.5, 0.5, 0.5]]),
            _crystal(cube, [[0, 0, 0], [0.1, 0, 0]]),  # 0.4 A
            _crystal(cube, [[0, 0, 0.02], [0, 0, 0.98]]),  # 0.16 A through the boundary
            _crystal(cube, [[0, 0, 0], [0, 0, 0]]),
            _crystal(0.3 * np.eye(3), [[0, 0, 0]]),  # 0.027 A^3
            _crystal(np.diag([5.0, 5.0, 0.4]), [[0, 0, 0]]),  # the atom meets its own image
            _crystal(thin, [[0, 0, 0]]),
            _crystal(broken, [[0, 0, 0]]),
            _crystal(cube, [[0, np.inf, 0]]),
            _crystal(cube, [[0, 0, 0], [0.13, 0, 0]]),  # 0.52 A
        ]
    )
    result = structure_validity(table)
    assert result.valid.tolist() == [True] + 8 * [False] + [True]
    np.testing.assert_allclose(result.closest_pair[[1, 2, 3, 5]], [0.4, 0.16, 0.0, 0.4], atol=1e-9)
    assert np.isinf(result.closest_pair[[0, 9]]).all()
    assert np.isnan(result.closest_pair[[6, 7, 8]]).all()
    assert structure_validity(table, min_distance=0.55).valid.tolist() == [True] + 9 * [False]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_agrees_with_pymatgen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lattice = Lattice.from_parameters(*rng.uniform(1.5, 4, 3), *rng.uniform(60, 120, 3))
    structure = Structure(lattice, ["C"] * 3, rng.random((3, 3)))
    distances = structure.distance_matrix + 10 * np.eye(3)
    table = CrystalTable.from_crystals([Crystal.from_structure(structure, "x")])
    assert structure_validity(table, min_distance=1.0).valid[0] == (distances.min() >= 1.0)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.filterwarnings("ignore", module="pymatgen")


def test_layers_that_came_apart_are_not_in_one_piece() -> None:
    cell = np.diag([3.0, 3.0, 30.0])
    layer = _crystal(cell, [[0, 0, 0.98], [0.5, 0.5, 0.02], [0, 0.5, 0.1]])  # across the boundary
    torn = _crystal(cell, [[0, 0, 0.98], [0.5, 0.5, 0.02], [0, 0.5, 0.2]])
    chains = _crystal(np.diag([3.0, 9.0, 9.0]), [[0, 0, 0], [0, 0.5, 0.5]])
    assert in_one_piece(CrystalTable.from_crystals([layer, torn, chains] * 100)).tolist() == [True, False, False] * 100
    assert in_one_piece(CrystalTable.from_crystals([layer]).take([])).tolist() == []
