import json

import numpy as np
import pytest
from ase.data import covalent_radii
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matwheel.data.crystal import Crystal
from matwheel.report.drawing import drawing, facts, formula

ROCK_SALT = Crystal("NaCl", 5.64 * np.eye(3), np.array([[0, 0, 0], [0.5, 0, 0]]), np.array([11, 17]))


@given(
    arrays(np.float64, (3, 3), elements=st.floats(-0.3, 0.3)),
    arrays(np.float64, (4, 3), elements=st.floats(-3, 3)),
    st.lists(st.integers(1, 96), min_size=4, max_size=4),
)
def test_drawn_atoms_are_images_and_bonds_are_short(strain: np.ndarray, frac: np.ndarray, numbers: list[int]) -> None:
    lattice = 4 * (np.eye(3) + strain)
    drawn = drawing(Crystal("x", lattice, frac, np.array(numbers)))
    assert drawn is not None
    json.dumps(drawn, allow_nan=False)
    symbols = [element["symbol"] for element in drawn["elements"]]
    positions = np.array(drawn["atoms"])
    assert len(symbols) == len(set(numbers))
    assert len(positions) == len(drawn["kinds"]) >= 4
    inside = positions @ np.linalg.inv(lattice)
    assert inside.min() > -0.1
    assert inside.max() < 1.1
    difference = inside[:, None] - frac[None]
    shift = np.abs(difference - np.round(difference)).max(-1)
    assert (shift.min(1) < 0.02).all()  # positions are rounded
    assert (shift.min(0) < 0.02).all()
    for i, j in drawn["bonds"]:
        assert i != j
        assert np.linalg.norm(positions[i] - positions[j]) < 2 * covalent_radii[1:97].max() + 0.35


def test_atoms_on_a_corner_and_an_edge_are_repeated() -> None:
    drawn = drawing(ROCK_SALT)
    assert drawn is not None
    assert drawn["kinds"].count(0) == 8
    assert drawn["kinds"].count(1) == 4
    assert len(drawn["bonds"]) == 8  # each chlorine has a sodium on both sides


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_drawn(value: float) -> None:
    assert drawing(Crystal("x", np.full((3, 3), value), np.zeros((1, 3)), np.array([1]))) is None
    assert drawing(Crystal("x", np.eye(3), np.full((1, 3), value), np.array([1]))) is None


def test_too_many_atoms_are_not_drawn() -> None:
    assert drawing(Crystal("x", 90 * np.eye(3), np.random.default_rng(0).random((2000, 3)), np.full(2000, 6))) is None


def test_formula_and_facts() -> None:
    assert formula(ROCK_SALT) == "NaCl"
    crystal = Crystal("x", np.eye(3), np.zeros((1, 3)), np.array([1]), {"gap": 1.25, "missing": float("nan")})
    assert facts(crystal) == {"gap": "1.25"}
