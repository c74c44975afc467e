import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.metrics.condition_error import condition_error


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(6, 60))
def test_a_perfect_predictor_beats_the_control(seed: int, n: int) -> None:
    asked = np.random.default_rng(seed).permutation(float(n) + np.arange(n))
    result = condition_error(asked, asked, shuffles=200)
    assert result.mae == 0
    assert result.shuffled_mae > 1
    assert result.rank_correlation == pytest.approx(1)
    assert result.p_value < 0.05
    assert result.count == n


def test_blind_conditions_are_no_better_than_the_control() -> None:
    rng = np.random.default_rng(0)
    p_values = [
        condition_error(rng.normal(size=30), rng.normal(size=30), shuffles=100, seed=k).p_value for k in range(200)
    ]
    assert 0.4 < np.mean(p_values) < 0.6
    assert condition_error(np.full(5, 3.0), rng.normal(size=5)).p_value == 1


def test_missing_values_are_left_out() -> None:
    result = condition_error(np.array([1.0, np.nan, 3.0]), np.array([2.0, 2.0, np.nan]))
    assert (result.mae, result.count) == (1, 1)
    assert np.isnan(result.rank_correlation)
    assert np.isnan(condition_error(np.zeros(0), np.zeros(0)).mae)
