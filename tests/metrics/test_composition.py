import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition
from pymatgen.core.periodic_table import Element

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.metrics.composition import composition_fingerprints, magpie_statistics
from matwheel.metrics.distributions import densities, element_counts, total_variation, wasserstein
from tests.metrics.crystals import rock_salt, table_of

compositions = st.dictionaries(st.integers(1, 100), st.integers(1, 5), min_size=1, max_size=4)


def _table(counts: list[dict[int, int]]) -> CrystalTable:
    numbers = [np.array([z for z, n in count.items() for _ in range(n)], dtype=np.int64) for count in counts]
    return CrystalTable.from_crystals(
        [Crystal(str(row), 5 * np.eye(3), np.zeros((len(z), 3)), z) for row, z in enumerate(numbers)]
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, max_examples=30)
@given(st.lists(compositions, min_size=1, max_size=4))
def test_agrees_with_matminer(counts: list[dict[int, int]]) -> None:
    from matminer.featurizers.composition import ElementProperty

    magpie = ElementProperty.from_preset("magpie", impute_nan=False)
    expected = [magpie.featurize(Composition({Element.from_Z(z): n for z, n in count.items()})) for count in counts]
    np.testing.assert_allclose(magpie_statistics(_table(counts)), expected, rtol=1e-12, atol=1e-12)


def test_only_the_ratio_of_elements_counts() -> None:
    small, large, other = composition_fingerprints(_table([{8: 3, 13: 2}, {13: 4, 8: 6}, {8: 3, 21: 2}]))
    np.testing.assert_allclose(small, large, atol=1e-12)
    assert np.linalg.norm(small - other) > 1


def test_crystals_without_atoms_have_none_and_unknown_statistics_are_average() -> None:
    none, known = composition_fingerprints(_table([{}, {2: 1, 100: 1}]))
    assert np.isnan(none).all()
    assert np.isfinite(known).all()


def test_density_and_number_of_elements() -> None:
    salt = rock_salt()
    pure = Crystal("x", np.eye(3), np.zeros((1, 3)), np.array([6]))
    flat = Crystal("x", np.diag([1.0, 1, 0]), np.zeros((1, 3)), np.array([6]))
    table = table_of(salt, pure, flat)
    np.testing.assert_allclose(densities(table)[:2], [salt.to_structure().density, 12.011 * 1.66054], rtol=1e-4)
    assert np.isinf(densities(table)[2])
    assert element_counts(table).tolist() == [2, 1, 1]


def test_distances_of_distributions() -> None:
    assert wasserstein(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == pytest.approx(2)
    assert total_variation(np.array([1, 1, 225, 225]), np.array([225, 1])) == 0
    assert total_variation(np.array([1, 1]), np.array([1, 225])) == pytest.approx(0.5)
    assert np.isnan(wasserstein(np.zeros(0), np.ones(2)))
    assert np.isnan(total_variation(np.zeros(0, dtype=np.int64), np.array([1])))
