import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matwheel.data.crystal import FloatArray
from matwheel.data.targets import TargetTransform, TransformKind
from matwheel.metrics.calibration import Calibration, can_calibrate

_KINDS = st.sampled_from(["none", "standardise", "log"])
_VALUES = st.floats(0.5, 1e3, width=32)


def _transform(kind: TransformKind, target: FloatArray) -> TargetTransform:
    transform = TargetTransform(kind)
    transform.fit(torch.from_numpy(np.append(target, 1.0)))
    return transform


@given(
    rows=st.integers(4, 20).flatmap(lambda n: arrays(np.float64, (4, n), elements=_VALUES)),
    members=st.integers(1, 3),
    coverage=st.floats(0.05, 0.75),
    kind=_KINDS,
)
def test_each_row_in_turn_is_covered_as_often_as_promised(
    rows: FloatArray, members: int, coverage: float, kind: TransformKind
) -> None:
    """The guarantee of the method, without chance: it holds for any predictions, if rows are left out in turn."""
    target, predictions, n = rows[0], rows[1 : 1 + members], rows.shape[1]
    transform = _transform(kind, target)
    covered = 0
    for row in range(n):
        others = np.delete(np.arange(n), row)
        calibration = Calibration.fit(predictions[:, others], target[others], transform)
        low, high = calibration.interval(predictions[:, [row]], coverage)
        slack = 1e-9 * (1 + np.abs(target[row]))
        covered += bool(low[0] - slack <= target[row] <= high[0] + slack)
    assert covered >= coverage * n - 1e-6


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 5))
def test_new_rows_are_covered_and_not_by_too_much(seed: int, members: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.lognormal(-1, 0.7, 1200)  # rows differ in how hard they are
    target = np.exp(rng.normal(2, 1, 1200) + noise * rng.normal(size=1200))
    predictions = np.exp(np.log(target) + noise * rng.normal(size=(members, 1200)))
    transform = _transform("log", target)
    calibration = Calibration.fit(predictions[:, :400], target[:400], transform)
    for coverage in (0.68, 0.9):
        low, high = calibration.interval(predictions[:, 400:], coverage)
        assert abs(((low <= target[400:]) & (target[400:] <= high)).mean() - coverage) < 0.12


@given(seed=st.integers(0, 1000), kind=_KINDS)
def test_an_interval_holds_its_prediction_and_grows_with_coverage(seed: int, kind: TransformKind) -> None:
    rng = np.random.default_rng(seed)
    target, predictions = rng.lognormal(1, 1, 50), rng.lognormal(1, 1, (3, 50))
    calibration = Calibration.fit(predictions, target, _transform(kind, target))
    (low, high), (wide_low, wide_high) = (calibration.interval(predictions, c) for c in (0.5, 0.9))
    mean = predictions.mean(axis=0)
    tolerance = 1e-9 * (1 + np.abs(mean))
    assert (wide_low <= low).all()
    assert (low <= mean + tolerance).all()
    assert (mean <= high + tolerance).all()
    assert (high <= wide_high).all()
    if kind == "log":
        assert (high - mean >= mean - low - tolerance).all()


@pytest.mark.parametrize("coverage", [0.95, 0.0, 1.0, -1.0, float("nan")])
def test_a_coverage_that_the_rows_cannot_carry_is_refused(coverage: float) -> None:
    target = np.linspace(1, 2, 9)
    calibration = Calibration.fit(target[None] + 0.1, target, _transform("log", target))
    calibration.interval(target[None], 0.9)  # the 9th of 9 scores
    with pytest.raises(
        ValueError, match=r"cannot be calibrated on 9 validation rows: ask for one above 0 and at most 0.9"
    ):
        calibration.interval(target[None], coverage)
    assert can_calibrate(9, 0.9)
    assert not can_calibrate(9, coverage)
