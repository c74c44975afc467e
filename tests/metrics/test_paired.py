import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from matwheel.metrics.paired import interval_coverage, paired, paired_by_split, shared_splits

ERRORS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=3, max_size=10)
OVERLAPS = st.floats(0, 2)


def _columns(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    errors, reference = np.array(pairs).T
    assume(np.std(errors - reference) > 1e-3)  # below, rounding decides
    return errors, reference


@given(ERRORS, OVERLAPS, st.floats(-50, 50))
def test_errors_common_to_both_models_cancel(pairs: list[tuple[float, float]], overlap: float, shift: float) -> None:
    errors, reference = _columns(pairs)
    plain, shifted = paired(errors, reference, overlap), paired(errors + shift, reference + shift, overlap)
    for name in ("differences", "mean", "low", "high", "p"):
        np.testing.assert_allclose(getattr(shifted, name), getattr(plain, name), rtol=1e-6, atol=1e-9)


@given(ERRORS, OVERLAPS)
def test_exchanged_models_change_the_sign(pairs: list[tuple[float, float]], overlap: float) -> None:
    errors, reference = _columns(pairs)
    one, other = paired(errors, reference, overlap), paired(reference, errors, overlap)
    np.testing.assert_allclose([other.mean, other.low, other.high], [-one.mean, -one.high, -one.low], atol=1e-9)
    assert other.p == pytest.approx(one.p)
    assert other.wins + one.wins == one.n - one.differences.count(0)


@given(ERRORS)
def test_without_overlap_it_is_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    errors, reference = _columns(pairs)
    assert paired(errors, reference, 0).p == pytest.approx(stats.ttest_rel(errors, reference).pvalue)


@given(ERRORS, OVERLAPS, OVERLAPS)
def test_more_overlap_is_less_evidence(pairs: list[tuple[float, float]], one: float, more: float) -> None:
    errors, reference = _columns(pairs)
    assert paired(errors, reference, one).p <= paired(errors, reference, one + more).p


@given(ERRORS, st.integers(0, 9))
def test_interval_holds_the_mean_and_lies_within_the_differences(pairs: list[tuple[float, float]], seed: int) -> None:
    errors, reference = _columns(pairs)
    found, again = paired(errors, reference, None, seed), paired(errors, reference, None, seed)
    assert min(found.differences) - 1e-9 <= found.low <= found.high <= max(found.differences) + 1e-9
    assert (found.low, found.high) == (again.low, again.high)


@pytest.mark.parametrize("n", [3, 5])
def test_coverage_of_the_interval(n: int) -> None:
    drawn = np.random.default_rng(0).standard_normal((600, n))
    found = [paired(errors, np.zeros(n), None) for errors in drawn]
    assert np.mean([one.low <= 0 <= one.high for one in found]) == pytest.approx(interval_coverage(n), abs=0.04)
    assert interval_coverage(12) == interval_coverage(10)


def test_figures_of_an_example() -> None:
    found = paired([1.0, 2.0, 4.0, 3.0, 5.0], [2.0, 2.5, 3.5, 5.0, 6.0], overlap=0.25)
    assert found.differences == (-1.0, -0.5, 0.5, -2.0, -1.0)
    assert (found.mean, found.wins, found.n) == (-0.8, 4, 5)
    t = 0.8 / math.sqrt((0.2 + 0.25) * 0.825)
    assert found.p == pytest.approx(2 * stats.t.sf(t, df=4))
    assert found.low < found.mean < found.high


def test_what_cannot_be_said_is_nan() -> None:
    assert math.isnan(paired([1.0, 2.0], [2.0, 4.0], 0.2).low)
    assert math.isnan(paired([1.0], [2.0], 0.2).p)
    assert math.isnan(paired([1.0, 2.0], [2.0, 4.0], 0.2).p)
    assert math.isnan(paired([1.0, 2.0, 3.0], [2.0, 4.0, 1.0], None).p)
    assert math.isnan(paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.2).p)


@pytest.mark.parametrize(
    ("errors", "reference", "overlap", "message"),
    [
        ([], [], 0.2, "cannot be paired"),
        ([1.0], [1.0, 2.0], 0.2, "1 errors cannot be paired with 2"),
        ([1.0, math.nan], [1.0, 2.0], 0.2, "must be finite"),
        ([1.0], [1.0], -0.2, "unlike -0.2"),
    ],
)
def test_errors_that_cannot_be_compared(
    errors: list[float], reference: list[float], overlap: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        paired(errors, reference, overlap)


def test_models_are_compared_by_what_both_have() -> None:
    errors = {"a": {0: 1.0, 1: 3.0}, "b": {0: 5.0}, "c": {2: 1.0}, "d": {0: 4.0}, "mine": {0: 0.0}}
    reference = {"b": {0: 4.0, 1: 90.0}, "a": {1: 1.0, 0: 2.0}, "c": {3: 1.0}, "d": {0: 7.0}}
    found = paired_by_split(errors, reference, overlap=0.25)
    assert found == (["a", "b", "d"], paired([2.0, 5.0, 4.0], [1.5, 4.0, 7.0], overlap=0.25))
    assert paired_by_split({"c": {2: 1.0}}, reference, None) is None


def test_errors_on_what_all_models_have() -> None:
    models = [
        {"a": {0: 1.0, 1: 3.0}, "b": {0: 5.0}, "c": {0: 1.0}},
        {"a": {0: 2.0, 1: 4.0}, "b": {0: 6.0}},
        {"b": {0: 7.0}, "a": {1: 5.0}, "c": {0: 1.0}},
    ]
    assert shared_splits(models) == (["a", "b"], [[3.0, 5.0], [4.0, 6.0], [5.0, 7.0]])
    assert shared_splits([{"a": {0: 1.0}}, {"b": {0: 1.0}}]) == ([], [[], []])


def test_differences_that_vary_by_rounding_alone_have_no_p_value() -> None:
    assert math.isnan(paired([0.3, 0.5, 0.7, 1.1], [0.2, 0.4, 0.6, 1.0], 0.2).p)


def test_errors_that_are_not_finite_are_left_out() -> None:
    ours = {"a": {0: math.nan, 1: 2.0}, "b": {0: 3.0}, "c": {0: math.inf}}
    theirs = {"a": {0: 1.0, 1: 1.0}, "b": {0: 1.0}, "c": {0: 1.0}}
    found = paired_by_split(ours, theirs, None)
    assert found is not None
    assert found[0] == ["a", "b"]
    assert found[1].differences == (1.0, 2.0)
