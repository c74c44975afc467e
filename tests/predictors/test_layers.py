import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.predictors.layer_binding import _stack
from matwheel.predictors.layers import Layer, find_slab
from tests.metrics.crystals import doubled, moved, table_of
from tests.predictors.layers import A, graphene


def slab(rng: np.random.Generator, vacuum: float = 15.0) -> Crystal:
    """A few atoms in a layer 3 A thick."""
    lattice = np.diag([4.0, 5.0, 3.0 + vacuum]) + np.pad(0.3 * rng.normal(size=(2, 2)), (0, 1))
    frac = rng.random((4, 3)) * [1, 1, 3.0 / (3.0 + vacuum)]
    frac[:2, 2] = 0, 3.0 / (3.0 + vacuum)
    return Crystal("slab", lattice, frac, rng.integers(1, 90, 4))


def named(*crystals: Crystal) -> dict[str, np.ndarray]:
    return dict(zip(Layer().names, Layer().compute(table_of(*crystals)).T, strict=True))


def test_graphene() -> None:
    """Flat, at the distance of two radii of carbon; the energy is the one that can be written down for a plane."""
    found = named(graphene())
    area, radius, alpha, ionisation = A**2 * np.sqrt(3) / 2, 1.77, 1.67, 11.2603
    distance = 0.9 * 2 * radius
    c6 = 1.5 * alpha**2 * ionisation / 2
    assert found["thickness (A)"] == pytest.approx(0, abs=1e-9)
    assert found["empty slab (A)"] == pytest.approx(20)
    assert found["area per atom (A^2)"] == pytest.approx(area / 2)
    assert found["distance of layers (A)"] == pytest.approx(2 * radius)
    assert found["surface electronegativity"] == pytest.approx(2.55)
    assert found["London energy per area (eV/A^2)"] == pytest.approx(
        np.pi / 2 * c6 * 4 / distance**4 / area**2, rel=1e-3
    )


def test_more_polarisable_atoms_bind_more() -> None:
    found = named(graphene(number=6), graphene(number=14))
    assert np.diff(found["London energy per atom (eV)"]) > 0


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_it_depends_neither_on_the_cell_nor_on_the_vacuum(seed: int) -> None:
    crystal = slab(np.random.default_rng(seed))
    more = slab(np.random.default_rng(seed), vacuum=25.0)
    others = moved(crystal, np.random.default_rng(seed)), doubled(crystal), more
    features = Layer().compute(table_of(crystal, *others))
    blind = [number for number, name in enumerate(Layer().names) if name != "empty slab (A)"]
    np.testing.assert_allclose(features[1:, blind], features[[0, 0, 0]][:, blind], rtol=1e-6, atol=1e-6)
    assert features[:, 1] == pytest.approx([15, 15, 15, 25])


def test_no_crystal() -> None:
    assert Layer().compute(CrystalTable.from_crystals([graphene()]).take([])).shape == (0, 23)


def test_layers_are_stacked_the_same_wherever_they_lie_in_a_sheared_cell() -> None:
    """A layer that crosses the boundary of its cell must not be torn along the layer."""
    lattice = np.array([[3.18, 0, 0], [-1.59, 2.754, 0], [1.2, 0.7, 12.0]])
    heights = np.array([[1 / 3, 2 / 3, 0.0], [2 / 3, 1 / 3, 1.56], [2 / 3, 1 / 3, -1.56]])
    positions = heights[:, :2] @ lattice[:2] + np.outer(heights[:, 2], [0, 0, 1.0])

    def bonds(height: float) -> np.ndarray:
        inside = (positions + np.array([0, 0, height])) @ np.linalg.inv(lattice) % 1
        crystal = Crystal("MoS2", lattice, inside, np.array([42, 16, 16]))
        stacked = _stack(crystal, find_slab(crystal), 6.0, (0.0, 0.0)).to_structure()
        return stacked.distance_matrix[np.triu_indices(3, 1)]

    np.testing.assert_allclose(bonds(0.0), bonds(6.0), atol=1e-8)
