import random
import warnings

import numpy as np
import pytest
from pymatgen.core import Composition
from pymatgen.core.periodic_table import Element

from matwheel.data.compositions import is_valid_composition, reduced_composition, valid_compositions


def test_known_compositions() -> None:
    valid = ["NaCl", "Al2O3", "BaTiO3", "Si", "C", "FeNi3", "K2Mg", "MgAl2O4"]
    invalid = ["NaF2", "HeO", "K3O", "YF5"]
    for formula, expected in [*((f, True) for f in valid), *((f, False) for f in invalid)]:
        numbers = np.repeat(
            [element.Z for element in Composition(formula)], [int(n) for n in Composition(formula).values()]
        )
        assert is_valid_composition(reduced_composition(numbers)) == expected, formula


def test_agrees_with_smact() -> None:
    from smact.screening import smact_validity

    rng = random.Random(0)
    outcomes = []
    for _ in range(300):
        counts = {rng.randint(1, 100): rng.randint(1, 6) for _ in range(rng.randint(1, 4))}
        composition = Composition({Element.from_Z(z): n for z, n in counts.items()})
        numbers = np.repeat(list(counts), list(counts.values()))
        expected = smact_validity(composition, oxidation_states_set="smact14")
        assert is_valid_composition(reduced_composition(numbers)) == expected, composition
        outcomes.append(expected)
    assert 30 < sum(outcomes) < 270


def test_many_elements_do_not_explode() -> None:
    """Twenty elements with about five states each are 10^14 combinations."""
    numbers = np.array([1, 6, 7, 8, 9, 14, 15, 16, 17, 22, 23, 24, 25, 26, 33, 34, 35, 42, 44, 53])
    assert valid_compositions(numbers, np.array([20])).tolist() == [True]


def test_several_crystals_at_once_and_none() -> None:
    numbers = np.array([11, 17, 11, 9, 9, 14])  # NaCl, NaF2, Si
    assert valid_compositions(numbers, np.array([2, 3, 1])).tolist() == [True, False, True]
    assert valid_compositions(numbers[:0], np.array([], dtype=np.int64)).shape == (0,)


def test_reduced_composition() -> None:
    assert reduced_composition(np.array([8, 13, 8, 13, 8, 8, 8, 8, 13, 13])) == ((8, 3), (13, 2))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.filterwarnings("ignore", module="pymatgen")
