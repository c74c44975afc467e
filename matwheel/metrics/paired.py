"""Is one model better than another? Paired differences of their errors over splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

import numpy as np
from scipy import stats

Errors = Mapping[str, Mapping[int, float]]
"""Test errors of a model by split, then by seed."""
_RESAMPLES = 10_000
_ROUNDING = 1e-12  # of an error, relative
_COVERAGE = {3: 0.75, 4: 0.80, 5: 0.83, 6: 0.86, 7: 0.88, 8: 0.89, 9: 0.90, 10: 0.90}
"""Of the 95 % interval by the number of splits, simulated."""
_FEWEST = 3  # splits from which an interval or a test says anything


@dataclass(frozen=True)
class Paired:
    """Differences of the errors of two models, split by split; negative where the first is better.

    Attributes:
        differences: Error less reference error of each split, in the unit of the errors.
        mean: Their mean.
        low: Lower end of its 95 % interval; nan for fewer than three splits.
        high: Upper end; nan for fewer than three splits.
        p: Two-sided p-value of no difference; nan for fewer than three splits, and where the overlap is unknown or the
            differences do not vary.
        wins: Splits with a negative difference.
        n: Number of splits.
    """

    differences: tuple[float, ...]
    mean: float
    low: float
    high: float
    p: float
    wins: int
    n: int


def paired(errors: Sequence[float], reference: Sequence[float], overlap: float | None, seed: int = 0) -> Paired:
    """Compare two models tested on the same rows of several splits.

    The interval is a percentile bootstrap over splits. The p-value is that of the corrected resampled t-test (Nadeau
    and Bengio, Machine Learning 52, 239, 2003): random splits of one data set share training rows, so that their
    errors are not independent, and the variance of the mean is that of the differences times 1/n + n_test / n_train.
    The interval knows nothing of this correction, and is too narrow for few splits, see `interval_coverage`.

    Args:
        errors: Error of the model on each split.
        reference: Error of the other model on the same splits, in the same order.
        overlap: Test rows per training row of a split, n_test / n_train; 0 for independent data, None if unknown.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If there is no split, the lengths differ, an error is not finite or the overlap negative.
    """
    if len(errors) != len(reference) or not len(errors):
        raise ValueError(f"{len(errors)} errors cannot be paired with {len(reference)}: give both for the same splits")
    differences = np.asarray(errors, dtype=float) - np.asarray(reference, dtype=float)
    if not np.isfinite(differences).all():
        raise ValueError(
            f"errors {list(errors)} and {list(reference)} must be finite: leave out splits without a result"
        )
    if overlap is not None and not overlap >= 0:
        raise ValueError(f"overlap is n_test / n_train of a split and not negative, unlike {overlap}")
    low, high = _interval(differences, seed)
    return Paired(
        differences=tuple(differences.tolist()),
        mean=float(differences.mean()),
        low=low,
        high=high,
        p=_p_value(differences, overlap, _ROUNDING * max(map(abs, [*errors, *reference]))),
        wins=int((differences < 0).sum()),
        n=len(differences),
    )


def interval_coverage(n: int) -> float:
    """Fraction of cases in which the 95 % interval of `paired` holds the true mean.

    For independent, normally distributed differences; less where splits share training rows.

    Args:
        n: Number of splits, at least three; for more than ten the fraction is that of ten, and a little too low.
    """
    return _COVERAGE[min(n, max(_COVERAGE))]


def paired_by_split(errors: Errors, reference: Errors, overlap: float | None) -> tuple[list[str], Paired] | None:
    """Compare two models on the splits that both have; seeds of a split count as one, the mean of those that both have.

    Seeds of a split share its test rows and are no independent evidence. A seed that one model lacks, or whose error is
    not finite, says nothing of the difference.

    Args:
        errors: Errors of the model.
        reference: Errors of the other model.
        overlap: See `paired`.

    Returns:
        Names of the splits and the differences on them; None where the models share no split and seed.
    """
    splits, (ours, theirs) = shared_splits([errors, reference])
    return (splits, paired(ours, theirs, overlap)) if splits else None


def shared_splits(models: Sequence[Errors]) -> tuple[list[str], list[list[float]]]:
    """Errors of models on the splits that all of them have; seeds of a split count as one, the mean of those all have.

    Args:
        models: Errors of each model.

    Returns:
        Names of the splits, and for each model its errors on them.
    """
    first = models[0]
    seeds = {
        split: [
            seed for seed in sorted(first[split]) if all(isfinite(_error(errors, split, seed)) for errors in models)
        ]
        for split in first
    }
    splits = [split for split in first if seeds[split]]
    return splits, [[fmean(errors[split][seed] for seed in seeds[split]) for split in splits] for errors in models]


def _error(errors: Errors, split: str, seed: int) -> float:
    """Error on a split by a seed; nan if there is none."""
    return errors.get(split, {}).get(seed, float("nan"))


def _interval(differences: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean."""
    n = len(differences)
    if n < _FEWEST:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(n, size=(_RESAMPLES, n))
    low, high = np.quantile(differences[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _p_value(differences: np.ndarray, overlap: float | None, rounding: float) -> float:
    """Two-sided p-value of the corrected resampled t-test; nan if differences vary by no more than rounding."""
    n = len(differences)
    if overlap is None or n < _FEWEST or np.ptp(differences) <= rounding:
        return float("nan")
    t = differences.mean() / np.sqrt((1 / n + overlap) * differences.var(ddof=1))
    return float(2 * stats.t.sf(abs(t), df=n - 1))
