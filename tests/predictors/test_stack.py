import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.metrics.errors import prediction_errors
from matwheel.predictors.ensemble import Ensemble
from matwheel.predictors.feature_predictor import FeaturePredictor
from matwheel.predictors.median import Median
from matwheel.predictors.stack import WEIGHTS, Stack, _best_weights, convex_weights
from tests.predictors.fitting import context, labelled


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 4), st.integers(1, 30), st.floats(-1e3, 1e3), st.integers(0, 99))
def test_weights_are_convex_and_no_unit_matters(k: int, n: int, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=n)
    predicted = target + rng.normal(size=(k, n)) * rng.uniform(0.1, 2, (k, 1))
    weights = convex_weights(predicted, target, seed)
    assert (weights >= -1e-9).all()
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_array_equal(weights, convex_weights(predicted, target, seed))

    def least_error(predicted: FloatArray, target: FloatArray) -> float:
        """Of several weights that are equally good any may be found."""
        return float(np.abs(_best_weights(predicted, target, np.ones(n)) @ predicted - target).mean())

    assert least_error(10 * predicted + shift, 10 * target + shift) == pytest.approx(
        10 * least_error(predicted, target), rel=1e-4, abs=1e-6
    )


def test_weights_go_to_those_that_are_right() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=100)
    exact = convex_weights(np.stack([target + 3, target, rng.normal(size=100)]), target, 0)
    np.testing.assert_allclose(exact, [0, 1, 0], atol=1e-9)
    alike = convex_weights(target + rng.normal(size=(2, 100)), target, 0)
    assert 0.3 < alike[0] < 0.7


def test_a_stack_is_better_than_its_members_and_leaves_its_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    target = rng.uniform(1, 10, 200)
    columns = target[:, None] + rng.normal(size=(200, 2))
    parts = [labelled(columns[rows], target[rows]) for rows in (slice(0, 100), slice(100, 200))]

    def column(name: str):
        def predict(table: CrystalTable) -> FloatArray:
            return table.properties[name]

        return predict

    stack = Stack([Median(), FeaturePredictor(name="trees")], name="both")
    fitted = stack.fit(parts[0], parts[0], context(tmp_path, parts=[column("f0"), column("f1")]))
    errors = [prediction_errors(parts[1].target, predict(parts[1].table)).mae for predict in (fitted, column("f0"))]
    assert errors[0] < 0.85 * errors[1]
    weights = json.loads((tmp_path / WEIGHTS).read_text())
    assert list(weights) == ["dummy", "trees"]
    assert sum(weights.values()) == pytest.approx(1)


def test_validation_rows_are_judged_with_the_weights_of_others(tmp_path: Path) -> None:
    """Of twelve members that know nothing, weights fitted to a few rows would look as if they did."""
    rng = np.random.default_rng(0)
    target, guesses = rng.normal(size=25), rng.normal(size=(12, 25))
    validation = labelled(guesses.T, target)
    members = [lambda table, name=f"f{number}": table.properties[name] for number in range(12)]
    stack = Stack([FeaturePredictor(name=f"f{number}") for number in range(12)])
    fitted = stack.fit(validation, validation, context(tmp_path, parts=members))
    seen, unseen = fitted(validation.table), stack.held_out(fitted, validation)
    assert np.abs(seen - target).mean() < 0.85 * np.abs(unseen - target).mean()
    few = labelled(guesses.T[:3], target[:3])
    assert stack.held_out(fitted, few).tolist() == fitted(few.table).tolist()
    assert Median().held_out(fitted, validation).tolist() == seen.tolist()


def test_what_a_stack_needs_is_what_its_members_are() -> None:
    stack = Stack([Ensemble(3), Median()])
    assert [part.name for part in stack.parts] == ["ensemble", "dummy"]
    assert (stack.distributed, stack.num_members) == (True, 0)
    assert not Stack([FeaturePredictor(), Median()]).distributed


def test_an_ensemble_is_the_mean_of_its_members(tmp_path: Path) -> None:
    some = labelled(np.zeros((4, 1)), np.ones(4))
    members = [lambda table, value=value: np.full(len(table), value) for value in (1.0, 5.0)]
    fitted = Ensemble(2).fit(some, some, context(tmp_path, members=members))
    assert fitted(some.table).tolist() == [3.0] * 4


def test_what_cannot_be_is_refused() -> None:
    for members in ([], [Median()], [Median(), Median()]):
        with pytest.raises(ValueError, match="at least two members of different names"):
            Stack(members)
    with pytest.raises(ValueError, match="at least 2 members, not 1"):
        Ensemble(1)
