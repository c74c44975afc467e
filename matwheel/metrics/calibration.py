"""Prediction intervals that cover a chosen part of new crystals, by split-conformal calibration on validation rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from matwheel.data.crystal import FloatArray
from matwheel.data.targets import TargetTransform

_FLOOR = 0.1
"""Least error that is expected, in units of the transformed target: a few models that agree by chance are not certain.
It is a constant, as nothing that is fitted on validation rows besides the scores may enter them."""


@dataclass(frozen=True)
class Calibration:
    """How far predictors were off on rows they were not trained on, relative to how far they disagree.

    The score of a validation row is the error of the mean prediction divided by the error to expect: the standard
    deviation of the members plus a constant, or 1 for a single model. Both are taken on the scale the models learn
    on (the logarithm as a rule), so that intervals are wider above than below and stay within what it can stand for.
    An interval of coverage c is the expected error times the ceil((n + 1) c)-th smallest of n scores, on both
    sides. It then holds the true value of a crystal drawn like the validation rows with a probability of at least
    c, whatever the model (Lei et al., J. Am. Stat. Assoc. 113, 1094, 2018; Papadopoulos et al., ECML 2002). That is
    strictly so for rows that had no part in training; those that chose its epoch make intervals a little too
    narrow.

    Attributes:
        transform: To the scale the models learn on; not fitted on validation rows.
        scores: [n], ascending.
    """

    transform: TargetTransform
    scores: FloatArray

    @classmethod
    def fit(cls, predictions: FloatArray, target: FloatArray, transform: TargetTransform) -> Calibration:
        """Score validation rows.

        Args:
            predictions: [k, n], of each of k members for n validation rows, user's units.
            target: [n], the true values, user's units.
            transform: To the scale the models learn on.
        """
        centre, scale = _centre_and_scale(predictions, transform)
        return cls(transform, np.sort(np.abs(_transformed(target, transform) - centre) / scale))

    def interval(self, predictions: FloatArray, coverage: float) -> tuple[FloatArray, FloatArray]:
        """Intervals around mean predictions.

        Args:
            predictions: [k, m], of each of k members for m crystals, user's units.
            coverage: Probability that an interval holds the true value.

        Returns:
            Lower and upper ends, each [m], user's units.

        Raises:
            ValueError: If there are too few validation rows for this coverage.
        """
        centre, scale = _centre_and_scale(predictions, self.transform)
        margin = self._factor(coverage) * scale
        low, high = (
            self.transform.inverse(torch.from_numpy(end)).numpy() for end in (centre - margin, centre + margin)
        )
        return low, high

    def check(self, coverage: float) -> None:
        """See that there are enough validation rows for a coverage.

        Raises:
            ValueError: If there are not.
        """
        n = len(self.scores)
        if not can_calibrate(n, coverage):
            raise ValueError(
                f"an interval of {coverage:g} cannot be calibrated on {n} validation rows: ask for one above 0 and at "
                f"most {math.floor(1000 * n / (n + 1)) / 1000:g}"
            )

    def _factor(self, coverage: float) -> float:
        self.check(coverage)
        return float(self.scores[_rank(len(self.scores), coverage) - 1])


def can_calibrate(n: int, coverage: float) -> bool:
    """Whether n validation rows are enough for intervals of a coverage."""
    return _rank(n, coverage) <= n


def _rank(n: int, coverage: float) -> int:
    # Rounding must not ask for one row more.
    return math.ceil((n + 1) * coverage - 1e-9) if 0 < coverage < 1 else n + 1


def _centre_and_scale(predictions: FloatArray, transform: TargetTransform) -> tuple[FloatArray, FloatArray]:
    """Mean prediction and error to expect, each [n], on the transformed scale."""
    centre = _transformed(predictions.mean(axis=0), transform)
    if len(predictions) == 1:
        return centre, np.ones_like(centre)
    return centre, _transformed(predictions, transform).std(axis=0, ddof=1) + _FLOOR


def _transformed(values: FloatArray, transform: TargetTransform) -> FloatArray:
    scaled: FloatArray = transform(torch.from_numpy(values)).numpy()
    return scaled
