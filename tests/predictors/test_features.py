from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matwheel.data.crystal import Crystal, CrystalTable, wrap
from matwheel.metrics.composition import magpie_statistics
from matwheel.predictors.features import Cell, Composition, Features, joined
from matwheel.predictors.layers import Layer

KINDS = [Composition(), Cell(), Layer()]
SITES = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def salts() -> CrystalTable:
    cubic = 5.64 * np.eye(3)
    twice = np.tile(SITES, (2, 1)) / [1, 1, 2]
    return CrystalTable.from_crystals(
        [
            Crystal("NaCl", cubic, SITES, np.array([11, 17])),
            Crystal("ClNa", cubic, SITES, np.array([17, 11])),
            Crystal("NaCl, twice", cubic * [[1], [1], [2]], twice, np.array([11, 17, 11, 17])),
            Crystal("KBr", 6.6 * np.eye(3), SITES, np.array([19, 35])),
        ]
    )


def test_features_of_known_crystals(salts: CrystalTable) -> None:
    features = joined([Composition(), Cell()], salts)
    assert features.shape == (4, 138)
    assert np.isfinite(features).all()
    volume, sites, density, a, b, c = features[:, 132:].T
    np.testing.assert_allclose(volume, [5.64**3 / 2, 5.64**3 / 2, 5.64**3 / 2, 6.6**3 / 2])
    assert sites.tolist() == [2, 2, 4, 2]
    np.testing.assert_allclose(density[0], (22.99 + 35.45) / 6.02214e23 / (5.64e-8) ** 3, rtol=1e-4)
    np.testing.assert_allclose(density[2], density[0])
    np.testing.assert_allclose([a[2], b[2], c[2]], [5.64, 5.64, 11.28])
    np.testing.assert_allclose(features[0], features[1])
    np.testing.assert_allclose(features[0, :132], features[2, :132])
    assert not np.allclose(features[0, :132], features[3, :132])
    np.testing.assert_allclose(features[:, :132], magpie_statistics(salts), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_every_column_has_a_name_and_every_row_is_its_own(kind: Features, salts: CrystalTable) -> None:
    features = kind.compute(salts)
    assert features.shape == (4, len(set(kind.names)))
    np.testing.assert_array_equal(kind.compute(salts.take([2, 0])), features[[2, 0]])
    assert kind.compute(salts.take([])).shape == (0, len(kind.names))


@given(
    axis=st.integers(0, 2),
    vacuum=st.floats(8, 30),
    thickness=st.floats(0.5, 6),
    shift=st.floats(0, 1),
    slant=st.floats(-1, 1),
)
def test_a_layer_is_measured_wherever_it_lies(
    axis: int, vacuum: float, thickness: float, shift: float, slant: float
) -> None:
    height = vacuum + thickness
    lattice = np.diag([3.0, 3.0, height])
    lattice[2, 0] = slant
    frac = wrap(np.array([[0, 0, shift], [0.5, 0.5, thickness / height + shift]]))
    slab = Crystal("slab", lattice, frac, np.array([6, 6]))
    order = np.roll(np.arange(3), axis)
    turned = replace(slab, lattice=slab.lattice[order], frac_coords=slab.frac_coords[:, order])
    expected = [[thickness, vacuum, 4.5, thickness * 4.5]]
    np.testing.assert_allclose(Layer().compute(CrystalTable.from_crystals([turned]))[:, :4], expected, rtol=1e-6)


def test_a_plane_has_no_thickness(salts: CrystalTable) -> None:
    graphene = Crystal("C", np.diag([2.46, 4.26, 20.0]), np.array([[0, 0, 0.5], [0.5, 0.5, 0.5]]), np.array([6, 6]))
    np.testing.assert_allclose(Layer().compute(CrystalTable.from_crystals([graphene]))[0, [0, 3]], 0, atol=1e-9)
    assert (Layer().compute(salts)[:, :4] > 0).all()  # bulk crystals have one as well
