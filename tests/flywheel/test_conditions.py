import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest

from matwheel.flywheel.conditions import (
    ConditionSampler,
    Disagreement,
    KernelDensity,
    TailWeighted,
    UniformTarget,
    WhereTeachersDisagree,
    _smoothed,
)

SAMPLERS = [
    KernelDensity(),
    UniformTarget(),
    TailWeighted(),
    TailWeighted(power=1.0, transform="standardise"),
    WhereTeachersDisagree(),
]
DISAGREEMENT = Disagreement(np.array([1.0, 10.0, 100.0]), np.array([0.1, 0.5, 20.0]))
HEAVY_TAIL = np.exp(np.random.default_rng(0).normal(2.0, 0.8, size=(700, 1)))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
@settings(deadline=None, max_examples=20)
@given(
    training=st.lists(st.tuples(st.floats(-50, 1000), st.floats(0.01, 5), st.integers(0, 3)), min_size=1, max_size=30),
    seed=st.integers(0, 2**31),
)
@example(training=[(0.0, 1.0, 0), (1.6829336919027242e-304, 1.0, 0)], seed=0)  # a range of 1e8 standard deviations
def test_drawn_values_stay_in_the_training_range(
    sampler: ConditionSampler, training: list[tuple[float, float, int]], seed: int
) -> None:
    values = np.array(training, dtype=np.float64)
    drawn = sampler.draw(values, 40, seed, (2,), DISAGREEMENT)
    assert drawn.shape == (40, 3)
    assert (drawn >= values.min(0)).all()
    assert (drawn <= values.max(0)).all()
    assert np.isin(drawn[:, 2], values[:, 2]).all()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_seed_decides(sampler: ConditionSampler) -> None:
    first = sampler.draw(HEAVY_TAIL, 50, seed=1, disagreement=DISAGREEMENT)
    np.testing.assert_array_equal(first, sampler.draw(HEAVY_TAIL, 50, seed=1, disagreement=DISAGREEMENT))
    assert not np.allclose(first, sampler.draw(HEAVY_TAIL, 50, seed=2, disagreement=DISAGREEMENT))


def test_kernel_density_follows_the_training_labels() -> None:
    drawn = KernelDensity().draw(HEAVY_TAIL, 2000, seed=0)
    assert ks_2samp(drawn[:, 0], HEAVY_TAIL[:, 0]).statistic < 0.06
    assert len(np.unique(drawn)) == 2000  # not copies of the training values


def test_kernel_density_keeps_correlations() -> None:
    x = np.random.default_rng(0).normal(size=400)
    training = np.stack([np.exp(x), np.exp(-2 * x)], 1)  # perfectly anticorrelated: a singular covariance
    drawn = np.log(KernelDensity().draw(training, 500, seed=0))
    assert np.corrcoef(drawn.T)[0, 1] < -0.95


def test_a_scale_with_a_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="transform 'none' has a unit"):
        TailWeighted(transform="none")  # type: ignore[arg-type]


def test_uniform_covers_the_logarithmic_range() -> None:
    training = np.exp(np.random.default_rng(0).normal(2.0, 0.3, size=(300, 1)))
    drawn = np.log(UniformTarget().draw(training, 2000, seed=0)[:, 0])
    low, high = np.log(training).min(), np.log(training).max()
    assert kstest(drawn, "uniform", args=(low, high - low)).statistic < 0.05


def test_tail_weighting_draws_more_rare_values() -> None:
    rare = np.quantile(HEAVY_TAIL, 0.95)
    share = {power: (TailWeighted(power).draw(HEAVY_TAIL, 4000, seed=0) > rare).mean() for power in (0.0, 0.5, 1.0)}
    assert share[0.0] == pytest.approx(0.05, abs=0.02)
    assert 1.5 * share[0.0] < share[0.5] < share[1.0]


def test_more_is_asked_for_where_teachers_disagree() -> None:
    low, high = np.quantile(HEAVY_TAIL, [0.3, 0.7])
    predicted = HEAVY_TAIL[:100, 0]
    # They differ three times as much about the values in the middle as about all others.
    disagreement = Disagreement(predicted, np.where((predicted > low) & (predicted < high), 3.0, 1.0))
    share = {}
    for power in (0.0, 1.0, 2.0):
        drawn = WhereTeachersDisagree(power, bandwidth=0.02).draw(HEAVY_TAIL, 4000, 0, disagreement=disagreement)
        share[power] = ((drawn > low) & (drawn < high)).mean()
    assert share[0.0] == pytest.approx(0.4, abs=0.03)
    assert share[1.0] == pytest.approx(3 / (3 + 1.5), abs=0.05)
    assert share[2.0] == pytest.approx(9 / (9 + 1.5), abs=0.05)


def test_teachers_that_agree_everywhere_give_the_training_distribution() -> None:
    agreed = Disagreement(HEAVY_TAIL[:10, 0], np.zeros(10))
    drawn = WhereTeachersDisagree().draw(HEAVY_TAIL, 2000, 0, disagreement=agreed)
    assert ks_2samp(drawn[:, 0], HEAVY_TAIL[:, 0]).statistic < 0.06


def test_a_wheel_must_have_what_active_sampling_asks() -> None:
    sampler = WhereTeachersDisagree()
    sampler.check(2, "gap", ["gap", "density"])
    with pytest.raises(ValueError, match="set num_teachers to 2 or more"):
        sampler.check(1, "gap", ["gap"])
    with pytest.raises(ValueError, match="put it first among the conditions"):
        sampler.check(2, "gap", ["density", "gap"])
    KernelDensity().check(1, "gap", ["density"])
    with pytest.raises(ValueError, match="the power must not be negative"):
        WhereTeachersDisagree(power=-1.0)


def test_missing_values_are_ignored_and_none_left_is_an_error() -> None:
    training = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 6.0]])
    assert (KernelDensity().draw(training, 20, seed=0)[:, 1] >= 5.0).all()
    with pytest.raises(ValueError, match="no training crystal has all conditions"):
        KernelDensity().draw(training[:1], 20, seed=0)


def test_zero_bandwidth_repeats_training_rows() -> None:
    drawn = KernelDensity(bandwidth=0.0).draw(HEAVY_TAIL, 30, seed=0)
    assert np.isclose(drawn[:, 0, None], HEAVY_TAIL[:, 0]).any(1).all()


def test_disagreement_is_smoothed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tens of thousands of crystals, which all are compared with all, fit into memory."""
    at, values, wanted = np.random.default_rng(0).random((3, 100))
    whole = _smoothed(at, values, wanted, 0.1)
    monkeypatch.setattr("matwheel.flywheel.conditions._BLOCK", 700)
    np.testing.assert_allclose(_smoothed(at, values, wanted, 0.1), whole, rtol=1e-12)
