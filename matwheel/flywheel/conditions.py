"""Which condition values synthetic crystals are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from matwheel.data.crystal import FloatArray, IntArray
from matwheel.data.targets import ScaleKind, TargetTransform, check_scale

_MAX_ROUNDS = 100
_GRID_STEP = 0.02  # standard deviations
_BLOCK = 2**22
"""Pairs of values that are compared at a time."""


@dataclass(frozen=True)
class Disagreement:
    """How far teaching predictors differ on real crystals that they were not trained on.

    Attributes:
        prediction: [p], their mean, user's units.
        spread: [p], their standard deviation, user's units.
    """

    prediction: FloatArray
    spread: FloatArray


class ConditionSampler(ABC):
    """Draws condition values that resemble those of the training crystals.

    All samplers smooth the training values: a training row is chosen, its scalar conditions are moved by a Gaussian
    with the training covariance, shrunk by a bandwidth, in a space where each condition is transformed to zero mean and
    unit variance. Values outside the range of the training values are drawn again. They differ in the rows they prefer.

    Args:
        transform: Scale on which conditions are smoothed; `log` suits properties with a heavy tail.
        bandwidth: Width of the Gaussian relative to the training covariance, or `scott` for Scott's rule.

    Attributes:
        asks_teachers: Whether `draw` needs to be told where teaching predictors disagree.
    """

    asks_teachers = False

    def __init__(self, transform: ScaleKind = "log", bandwidth: float | Literal["scott"] = "scott") -> None:
        if not isinstance(bandwidth, str) and bandwidth < 0:
            raise ValueError(f"the bandwidth must not be negative, got {bandwidth}")
        check_scale(transform)
        self.transform = transform
        self.bandwidth = bandwidth

    def check(self, num_teachers: int, target: str, conditions: list[str]) -> None:
        """Refuse a wheel that this cannot be used in.

        Raises:
            ValueError: If teachers are to be asked and there is a single one, or their target is not the first
                condition.
        """
        if not self.asks_teachers:
            return
        if num_teachers < 2:
            raise ValueError("a single teacher does not disagree: set num_teachers to 2 or more, or other conditions")
        if target != conditions[0]:
            raise ValueError(
                f"teachers predict the target {target!r}: put it first among the conditions {conditions}, or choose "
                "another sampler of conditions"
            )

    def draw(
        self,
        training: FloatArray,
        count: int,
        seed: int,
        categorical: tuple[int, ...] = (),
        disagreement: Disagreement | None = None,
    ) -> FloatArray:
        """Draw condition values.

        Args:
            training: [m, C], conditions of the training crystals in the user's units; rows with NaN are ignored.
            count: How many to draw.
            seed: The same seed gives the same values.
            categorical: Columns that hold classes: they are copied from the chosen row, never smoothed.
            disagreement: Of predictors of the first condition; for samplers that ask teachers.

        Returns:
            [count, C], the user's units, inside the range of the training values.

        Raises:
            ValueError: If no training row is complete.
        """
        training = training[np.isfinite(training).all(1)]
        if not len(training):
            raise ValueError("no training crystal has all conditions: remove a condition that is mostly missing")
        random = np.random.default_rng(seed)
        transforms = [_fitted(self.transform, column) for column in training.T]
        scaled = np.stack([_apply(t, column) for t, column in zip(transforms, training.T, strict=True)], 1)
        scalar = np.setdiff1d(np.arange(training.shape[1]), categorical)
        bandwidth = self._bandwidth(len(training), len(scalar))
        spread = None
        if disagreement is not None:
            predicted = _apply(transforms[0], disagreement.prediction)
            spread = _smoothed(predicted, disagreement.spread, scaled[:, 0], max(bandwidth, _GRID_STEP))
        rows, fixed = self._choose(scaled[:, 0], count, bandwidth, random, spread)
        start = scaled[rows]
        if fixed is not None:
            start[:, 0] = fixed
            scalar = np.setdiff1d(scalar, [0])
        low, high = scaled[:, scalar].min(0), scaled[:, scalar].max(0)
        factor = _covariance_factor(scaled[:, scalar])
        drawn = start.copy()
        pending = np.arange(count)
        for _ in range(_MAX_ROUNDS):
            moved = (
                start[np.ix_(pending, scalar)]
                + bandwidth * random.standard_normal((len(pending), len(scalar))) @ factor
            )
            drawn[np.ix_(pending, scalar)] = np.clip(moved, low, high)
            pending = pending[((moved < low) | (moved > high)).any(1)]
            if not len(pending):
                break
        values = np.stack([_invert(t, column) for t, column in zip(transforms, drawn.T, strict=True)], 1)
        values[:, list(categorical)] = training[rows][:, list(categorical)]
        # The transforms' rounding must not leave the range.
        bounded: FloatArray = np.clip(values, training.min(0), training.max(0))
        return bounded

    def _bandwidth(self, rows: int, dimensions: int) -> float:
        if isinstance(self.bandwidth, str):
            return float(rows ** (-1 / (dimensions + 4)))
        return self.bandwidth

    @abstractmethod
    def _choose(
        self,
        target: FloatArray,
        count: int,
        bandwidth: float,
        random: np.random.Generator,
        spread: FloatArray | None,
    ) -> tuple[IntArray, FloatArray | None]:
        """Training rows to start from and, unless it is to be smoothed as well, the first condition.

        Args:
            target: [m], the first condition of the training rows, transformed.
            count: Number of draws.
            bandwidth: Width of the Gaussian.
            random: Source of randomness.
            spread: [m], how far teaching predictors differ at these values, user's units; None if they were not asked.

        Returns:
            Rows [count] and None, or rows and the transformed first condition [count].
        """


class KernelDensity(ConditionSampler):
    """Conditions distributed as the training labels: a kernel density estimate, joint over all conditions."""

    def _choose(
        self,
        target: FloatArray,
        count: int,
        bandwidth: float,
        random: np.random.Generator,
        spread: FloatArray | None,
    ) -> tuple[IntArray, FloatArray | None]:
        return random.integers(len(target), size=count), None


class UniformTarget(ConditionSampler):
    """The first condition uniform over its transformed range; the others as in the training row closest to it."""

    def _choose(
        self,
        target: FloatArray,
        count: int,
        bandwidth: float,
        random: np.random.Generator,
        spread: FloatArray | None,
    ) -> tuple[IntArray, FloatArray | None]:
        wanted = random.uniform(target.min(), target.max(), size=count)
        order = np.argsort(target, kind="stable")
        middles = (target[order][1:] + target[order][:-1]) / 2
        return order[np.searchsorted(middles, wanted)], wanted


class _Weighted(ConditionSampler):
    """Training rows chosen in proportion to a weight."""

    def __init__(self, power: float, transform: ScaleKind, bandwidth: float | Literal["scott"]) -> None:
        super().__init__(transform, bandwidth)
        if power < 0:
            raise ValueError(f"the power must not be negative, got {power}: 0 is the training distribution")
        self.power = power

    def _choose(
        self,
        target: FloatArray,
        count: int,
        bandwidth: float,
        random: np.random.Generator,
        spread: FloatArray | None,
    ) -> tuple[IntArray, FloatArray | None]:
        weight = self._weight(target, bandwidth, spread) ** self.power
        return random.choice(len(target), size=count, p=weight / weight.sum()), None

    @abstractmethod
    def _weight(self, target: FloatArray, bandwidth: float, spread: FloatArray | None) -> FloatArray:
        """[m], positive; arguments as in `_choose`."""


class TailWeighted(_Weighted):
    """Conditions shifted towards rare values of the first condition.

    Args:
        power: Rows are chosen in proportion to (density of their first condition) ** -power: 0 is the training
            distribution, 1 about uniform.
        transform: See `ConditionSampler`.
        bandwidth: See `ConditionSampler`.
    """

    def __init__(
        self, power: float = 0.5, transform: ScaleKind = "log", bandwidth: float | Literal["scott"] = "scott"
    ) -> None:
        super().__init__(power, transform, bandwidth)

    def _weight(self, target: FloatArray, bandwidth: float, spread: FloatArray | None) -> FloatArray:
        return 1 / _density(target, max(bandwidth, _GRID_STEP))


class WhereTeachersDisagree(_Weighted):
    """Conditions shifted towards values at which the teaching predictors differ: active sampling.

    How far they differ is measured on real crystals that they were not trained on, those without a label and those of
    the validation set, without looking at their labels. It is a function of the mean prediction, smoothed over
    neighbouring values by a Gaussian kernel. Needs `num_teachers` of 2 at least, and the target as the first condition.

    Args:
        power: Rows are chosen in proportion to (standard deviation of the predictions, user's units) ** power: 0 is the
            training distribution.
        transform: See `ConditionSampler`.
        bandwidth: See `ConditionSampler`.
    """

    asks_teachers = True

    def __init__(
        self, power: float = 1.0, transform: ScaleKind = "log", bandwidth: float | Literal["scott"] = "scott"
    ) -> None:
        super().__init__(power, transform, bandwidth)

    def _weight(self, target: FloatArray, bandwidth: float, spread: FloatArray | None) -> FloatArray:
        assert spread is not None, "the teachers were not asked"
        return spread / spread.max() if spread.any() else np.ones(len(target))


def _smoothed(at: FloatArray, values: FloatArray, wanted: FloatArray, width: float) -> FloatArray:
    """[m], mean of values [p] known at [p], weighted by a Gaussian kernel around each of m places (Nadaraya 1964)."""

    def smooth(some: FloatArray) -> FloatArray:
        exponent = -0.5 * ((some[:, None] - at) / width) ** 2
        kernel = np.exp(exponent - exponent.max(1, keepdims=True))  # far from all of them the nearest one counts
        means: FloatArray = (kernel @ values) / kernel.sum(1)
        return means

    return np.concatenate([smooth(some) for some in np.array_split(wanted, 1 + len(wanted) * len(at) // _BLOCK)])


def _covariance_factor(values: FloatArray) -> FloatArray:
    """[C, C] matrix F with F.T @ F the covariance of the values [m, C], which may be singular."""
    covariance = np.atleast_2d(np.cov(values.T, bias=True)) if values.shape[1] else np.zeros((0, 0))
    variances, directions = np.linalg.eigh(covariance)
    factor: FloatArray = np.sqrt(variances.clip(0))[:, None] * directions.T
    return factor


def _density(values: FloatArray, width: float) -> FloatArray:
    """[m], Gaussian kernel density at each of m values of unit variance, from a fine histogram."""
    reach = int(np.ceil(4 * width / _GRID_STEP))
    occupied, place = np.unique(np.round((values - values.min()) / _GRID_STEP).astype(np.int64), return_inverse=True)
    gaps = np.minimum(np.diff(occupied), reach + 1)  # a wider one changes nothing but the memory that it takes
    cell = np.concatenate([[0], np.cumsum(gaps)])[place]
    histogram = np.bincount(cell).astype(np.float64)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _GRID_STEP / width) ** 2)
    smooth = np.convolve(histogram, kernel)[reach : reach + len(histogram)]
    density: FloatArray = smooth[cell]
    return density


def _fitted(kind: ScaleKind, values: FloatArray) -> TargetTransform:
    transform = TargetTransform(kind)
    transform.fit(torch.from_numpy(np.ascontiguousarray(values)))
    return transform


def _apply(transform: TargetTransform, values: FloatArray) -> FloatArray:
    scaled: FloatArray = transform(torch.from_numpy(np.ascontiguousarray(values))).numpy()
    return scaled


def _invert(transform: TargetTransform, scaled: FloatArray) -> FloatArray:
    values: FloatArray = transform.inverse(torch.from_numpy(np.ascontiguousarray(scaled))).numpy()
    return values
