import numpy as np
import pytest

from matwheel.metrics.fingerprints import structure_fingerprint
from matwheel.predictors.structure_features import Environments, PotentialFeatures, Symmetry, Voronoi
from tests.metrics.crystals import caesium_chloride, doubled, moved, rock_salt

KINDS = [Environments(), Voronoi(), Symmetry()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_a_crystal_is_the_same_in_any_orientation(kind) -> None:
    salt = rock_salt()
    features = kind.compute_one(salt)
    assert features.shape == (len(set(kind.names)),)
    assert np.isfinite(features).all()
    if not isinstance(kind, Symmetry):  # whose number of operations is that of the cell
        np.testing.assert_allclose(kind.compute_one(moved(salt, np.random.default_rng(0))), features, atol=1e-3)
        np.testing.assert_allclose(kind.compute_one(doubled(salt)), features, atol=1e-3)
    assert not np.allclose(kind.compute_one(caesium_chloride()), features)


def test_environments_extend_the_fingerprint() -> None:
    np.testing.assert_allclose(Environments().compute_one(rock_salt())[:61], structure_fingerprint(rock_salt()))


def test_symmetry_of_rock_salt() -> None:
    found = dict(zip(Symmetry().names, Symmetry().compute_one(rock_salt()), strict=True))
    assert (found["spacegroup_num"], found["is_centrosymmetric"]) == (225, True)


def test_features_of_a_pretrained_potential() -> None:
    pytest.importorskip("chgnet", reason='needs the optional dependencies: pip install "matwheel[potentials]"')
    from chgnet.model import CHGNet as Network

    kind, salt = PotentialFeatures(), rock_salt()
    theirs = Network.load(use_device="cpu", verbose=False).predict_structure(
        salt.to_structure(), task="e", return_crystal_feas=True
    )["crystal_fea"]
    features = kind.compute_one(salt)
    assert features.shape == theirs.shape == (len(kind.names),)
    np.testing.assert_allclose(features, theirs, atol=1e-4)
    np.testing.assert_allclose(kind.compute_one(moved(salt, np.random.default_rng(0))), features, atol=1e-3)
