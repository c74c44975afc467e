import numpy as np
import pytest

from matwheel.data.crystal import Crystal
from matwheel.predictors.layer_binding import GAPS, LayerBinding
from tests.metrics.crystals import doubled, moved, table_of
from tests.predictors.layers import graphene

pytest.importorskip("chgnet", reason='needs pip install "matwheel[potentials]"')


def salt_layers(gap: float) -> Crystal:
    """Square layers of lithium and oxygen, which bind each other as salts do."""
    return Crystal("salt", np.diag([2.8, 2.8, 2.0 + gap]), np.array([[0, 0, 0.0], [0.5, 0.5, 0.0]]), np.array([3, 8]))


@pytest.fixture(autouse=True)
def _no_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MATWHEEL_CACHE", str(tmp_path))


def named(*crystals: Crystal) -> dict[str, np.ndarray]:
    features = LayerBinding()
    return dict(zip(features.names, np.array([features.compute_one(crystal) for crystal in crystals]).T, strict=True))


def test_layers_of_a_salt_bind_more_than_those_of_graphite() -> None:
    found = named(salt_layers(15.0), graphene())
    salt, carbon = found["lowest energy (eV)"]
    assert salt < -0.1 < carbon < 0.01
    curve = [found[f"energy at {gap} A (eV)"][0] for gap in GAPS]
    assert min(curve) == salt
    assert GAPS[int(np.argmin(curve))] == found["gap of the lowest energy (A)"][0]


def test_neither_cell_nor_vacuum_matter() -> None:
    crystal = salt_layers(15.0)
    others = moved(crystal, np.random.default_rng(0)), doubled(crystal), salt_layers(25.0)
    features = np.array([LayerBinding().compute_one(one) for one in (crystal, *others)])
    # In another cell of the layer the registries are others: what is left is the stack without a shift.
    same = LayerBinding().names.index("lowest energy of layers on top of each other (eV)")
    np.testing.assert_allclose(features[:, same], features[0, same], atol=1e-4)
    np.testing.assert_allclose(features[3], features[0], atol=1e-4)


def test_what_the_potential_does_not_know_is_missing() -> None:
    table = table_of(graphene(number=96))
    assert np.isnan(LayerBinding().compute(table)).all()
