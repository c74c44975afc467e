from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from matwheel.metrics.errors import prediction_errors
from matwheel.predictors.feature_predictor import FeaturePredictor
from matwheel.predictors.median import Median
from matwheel.predictors.predictor import Labelled
from matwheel.predictors.regressors import GaussianProcess, Regressor, SupportVectors, Trees
from tests.predictors.fitting import Given, context, labelled

REGRESSORS = [Trees(40), GaussianProcess(), SupportVectors()]
KINDS = pytest.mark.parametrize("regressor", REGRESSORS, ids=lambda regressor: type(regressor).__name__)
HERE = context(Path("unused"))


def _predictor(regressor: Regressor, columns: int = 3) -> FeaturePredictor:
    return FeaturePredictor([Given([f"f{number}" for number in range(columns)])], regressor)


def _parts(shift: float = 0.0, n: int = 200, seed: int = 0) -> tuple[Labelled, Labelled, Labelled]:
    """Training, validation and test crystals whose target follows from two of their three features."""
    features = np.random.default_rng(seed).random((n, 3))
    target = np.exp(3 * features[:, 0]) + 5 * features[:, 1] + shift
    train, val, test = slice(0, n - 100), slice(n - 100, n - 50), slice(n - 50, n)
    return tuple(labelled(features[rows], target[rows]) for rows in (train, val, test))  # type: ignore[return-value]


def _mae(predictor: FeaturePredictor | Median, parts: tuple[Labelled, Labelled, Labelled]) -> float:
    fitted = predictor.fit(parts[0], parts[1], HERE)
    return prediction_errors(parts[2].target, fitted(parts[2].table)).mae


@KINDS
@pytest.mark.parametrize("shift", [0.0, -30.0])
def test_positive_and_negative_targets_are_learnt(regressor: Regressor, shift: float) -> None:
    parts = _parts(shift)
    assert _mae(_predictor(regressor), parts) < 0.5 * _mae(Median(), parts)


@KINDS
def test_a_fit_is_repeatable_by_any_number_of_threads(regressor: Regressor) -> None:
    training, validation, test = _parts()
    predictions = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            predictions.append(_predictor(regressor).fit(training, validation, HERE)(test.table))
    np.testing.assert_array_equal(*predictions)


@KINDS
def test_constant_missing_and_infinite_features_do_no_harm(regressor: Regressor) -> None:
    parts = _parts()
    rng = np.random.default_rng(1)

    def spoilt(part: Labelled) -> Labelled:
        n = len(part.target)
        some = np.where(rng.random(n) < 0.3, np.nan, rng.random(n))
        columns = {"f3": np.full(n, 7.0), "f4": np.full(n, np.nan), "f5": some, "f6": np.where(some > 0.5, np.inf, 1.0)}
        return part._replace(table=part.table.with_properties(**columns))

    assert _mae(_predictor(regressor, 7), tuple(map(spoilt, parts))) < 0.7 * _mae(Median(), parts)  # type: ignore[arg-type]


def test_repeats_do_not_tell_a_gaussian_process_that_there_is_no_noise() -> None:
    rng = np.random.default_rng(0)
    features = rng.random((80, 3))
    once = labelled(features, 5 * features[:, 1] + rng.normal(size=80))
    rows = np.arange(80).repeat(2)
    twice = Labelled(once.table.take(rows), once.target[rows], once.weight[rows])
    elsewhere = labelled(rng.random((50, 3)), np.zeros(50))
    fits = (_predictor(GaussianProcess()).fit(part, elsewhere, HERE)(elsewhere.table) for part in (once, twice))
    np.testing.assert_allclose(*fits, rtol=1e-6)


@KINDS
def test_crystals_without_weight_are_not_learnt_from(regressor: Regressor) -> None:
    training, validation, test = _parts(n=150)
    wild = training._replace(target=training.target * 100, weight=np.zeros(len(training.target)))
    both = Labelled(
        training.table.take([*range(len(training.target))] * 2),
        np.concatenate([training.target, wild.target]),
        np.concatenate([training.weight, wild.weight]),
    )
    alone, mixed = (_predictor(regressor).fit(part, validation, HERE)(test.table) for part in (training, both))
    np.testing.assert_array_equal(alone, mixed)


@KINDS
def test_a_light_crystal_counts_less(regressor: Regressor) -> None:
    # Two labels of the same crystals: the heavier one wins.
    training, validation, _ = _parts(n=140)
    both = training.table.take([*range(len(training.target))] * 2)
    target = np.concatenate([training.target, 3 * training.target])
    low, high = (
        np.median(_predictor(regressor).fit(Labelled(both, target, weight), validation, HERE)(training.table))
        for weight in (np.repeat([1.0, 0.05], len(training.target)), np.repeat([0.05, 1.0], len(training.target)))
    )
    assert low < 0.8 * high


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1e3]))
def test_the_unit_does_not_matter(seed: int, scale: float) -> None:
    training, validation, test = _parts(seed=seed, n=150)
    here = _predictor(SupportVectors()).fit(training, validation, HERE)(test.table)
    scaled = (part._replace(target=part.target * scale) for part in (training, validation))
    there = _predictor(SupportVectors()).fit(*scaled, HERE)(test.table)
    np.testing.assert_allclose(there, here * scale, rtol=0.05)  # the optimiser stops early


def test_seeds_differ() -> None:
    training, validation, test = _parts()
    one, other = (
        _predictor(Trees(10)).fit(training, validation, context(Path("unused"), seed=seed))(test.table)
        for seed in (1, 2)
    )
    assert not np.array_equal(one, other)


def test_settings_of_support_vectors_are_chosen_on_validation() -> None:
    training, validation, test = _parts()
    errors = {
        (penalty, margin): prediction_errors(
            validation.target,
            _predictor(SupportVectors([penalty], [margin])).fit(training, validation, HERE)(validation.table),
        ).mae
        for penalty in (0.01, 3.0)
        for margin in (0.1, 2.0)
    }
    best = min(errors, key=lambda pair: errors[pair])
    chosen = _predictor(SupportVectors([0.01, 3.0], [0.1, 2.0])).fit(training, validation, HERE)(test.table)
    alone = _predictor(SupportVectors([best[0]], [best[1]])).fit(training, validation, HERE)(test.table)
    np.testing.assert_array_equal(chosen, alone)


def test_dummy_is_the_training_median() -> None:
    training = labelled(np.zeros((3, 1)), np.array([1.0, 2.0, 50.0]))
    assert Median().fit(training, training, HERE)(training.table.take([0, 1])).tolist() == [2.0, 2.0]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="'x' has no features"):
        FeaturePredictor([], name="x")
    with pytest.raises(ValueError, match="must each have a value"):
        SupportVectors([])
