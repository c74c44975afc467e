"""The simplest predictor: the same value for every crystal."""

from __future__ import annotations

import numpy as np

from matwheel.predictors.predictor import Fitted, Fitting, Labelled, Predictor


class Median(Predictor):
    """The median of the training labels: the best constant for the absolute error."""

    name: str = "dummy"

    def fit(self, training: Labelled, validation: Labelled, context: Fitting) -> Fitted:
        """See `Predictor`."""
        median = np.median(training.target)
        return lambda table: np.full(len(table), median)
