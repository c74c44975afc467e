import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest

from matwheel.flywheel.conditions import ConditionSampler, KernelDensity, TailWeighted, UniformTarget

SAMPLERS = [KernelDensity(), UniformTarget(), TailWeighted(), TailWeighted(power=1.0, transform="standardise")]
HEAVY_TAIL = np.exp(np.random.default_rng(0).normal(2.0, 0.8, size=(700, 1)))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
@settings(deadline=None, max_examples=20)
@given(
    training=st.lists(st.tuples(st.floats(-50, 1000), st.floats(0.01, 5), st.integers(0, 3)), min_size=1, max_size=30),
    seed=st.integers(0, 2**31),
)
def test_drawn_values_stay_in_the_training_range(
    sampler: ConditionSampler, training: list[tuple[float, float, int]], seed: int
) -> None:
    values = np.array(training, dtype=np.float64)
    drawn = sampler.draw(values, 40, seed, categorical=(2,))
    assert drawn.shape == (40, 3)
    assert (drawn >= values.min(0)).all()
    assert (drawn <= values.max(0)).all()
    assert np.isin(drawn[:, 2], values[:, 2]).all()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_seed_decides(sampler: ConditionSampler) -> None:
    first = sampler.draw(HEAVY_TAIL, 50, seed=1)
    np.testing.assert_array_equal(first, sampler.draw(HEAVY_TAIL, 50, seed=1))
    assert not np.allclose(first, sampler.draw(HEAVY_TAIL, 50, seed=2))


def test_kernel_density_follows_the_training_labels() -> None:
    drawn = KernelDensity().draw(HEAVY_TAIL, 2000, seed=0)
    assert ks_2samp(drawn[:, 0], HEAVY_TAIL[:, 0]).statistic < 0.06
    assert len(np.unique(drawn)) == 2000  # not copies of the training values


def test_kernel_density_keeps_correlations() -> None:
    x = np.random.default_rng(0).normal(size=400)
    training = np.stack([np.exp(x), np.exp(-2 * x)], 1)  # perfectly anticorrelated: a singular covariance
    drawn = np.log(KernelDensity().draw(training, 500, seed=0))
    assert np.corrcoef(drawn.T)[0, 1] < -0.95


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


def test_missing_values_are_ignored_and_none_left_is_an_error() -> None:
    training = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 6.0]])
    assert (KernelDensity().draw(training, 20, seed=0)[:, 1] >= 5.0).all()
    with pytest.raises(ValueError, match="no training crystal has all conditions"):
        KernelDensity().draw(training[:1], 20, seed=0)


def test_zero_bandwidth_repeats_training_rows() -> None:
    drawn = KernelDensity(bandwidth=0.0).draw(HEAVY_TAIL, 30, seed=0)
    assert np.isclose(drawn[:, 0, None], HEAVY_TAIL[:, 0]).any(1).all()
