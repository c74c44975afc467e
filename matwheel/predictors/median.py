"""The simplest predictor: the same value for every crystal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.predictors.predictor import Fitted, Fitting, Labelled, Predictor


class Median(Predictor):
    """The median of the training labels: the best constant for the absolute error."""

    name: str = "dummy"

    def fit(self, training: Labelled, validation: Labelled, context: Fitting) -> Fitted:
        """See `Predictor`."""
        return Constant(float(np.median(training.target)))


@dataclass(frozen=True)
class Constant(Fitted):
    """Predicts one value, in the user's units."""

    value: float

    def __call__(self, table: CrystalTable) -> FloatArray:
        """See `Fitted`."""
        return np.full(len(table), self.value)
