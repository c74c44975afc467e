import numpy as np
import pytest

from matwheel import baselines
from matwheel.baselines import featurise, predict_dummy, predict_trees
from matwheel.data.crystal import Crystal, CrystalTable


@pytest.fixture
def salts() -> CrystalTable:
    cubic = 5.64 * np.eye(3)
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    return CrystalTable.from_crystals(
        [
            Crystal("NaCl", cubic, sites, np.array([11, 17])),
            Crystal("ClNa", cubic, sites, np.array([17, 11])),
            Crystal(
                "NaCl, twice", cubic * [[1], [1], [2]], np.tile(sites, (2, 1)) / [1, 1, 2], np.array([11, 17, 11, 17])
            ),
            Crystal("KBr", 6.6 * np.eye(3), sites, np.array([19, 35])),
        ]
    )


def test_features_of_known_crystals(salts):
    features = featurise(salts)
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


def test_dummy_is_the_training_median():
    assert predict_dummy(np.array([1.0, 2.0, 50.0]), 2).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("shift", [0.0, -30.0])
def test_trees_learn_positive_and_negative_targets(monkeypatch, shift):
    monkeypatch.setattr(baselines, "NUM_TREES", 40)
    rng = np.random.default_rng(0)
    features = rng.random((200, 3))
    target = np.exp(3 * features[:, 0]) + 5 * features[:, 1] + shift
    train, other = slice(0, 150), slice(150, 200)
    predicted = predict_trees(features[train], target[train], features[other], seed=1)
    assert np.isfinite(predicted).all()
    error = np.abs(predicted - target[other]).mean()
    dummy = np.abs(predict_dummy(target[train], 50) - target[other]).mean()
    assert error < 0.5 * dummy
    np.testing.assert_array_equal(predicted, predict_trees(features[train], target[train], features[other], seed=1))
    assert not np.array_equal(predicted, predict_trees(features[train], target[train], features[other], seed=2))
