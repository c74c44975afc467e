"""A predictor from features of crystals, such as trees on composition and cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.targets import TargetTransform, TransformKind
from matwheel.metrics.errors import prediction_errors
from matwheel.predictors.features import Cell, Composition, Features, joined
from matwheel.predictors.predictor import Fitted, Fitting, Labelled, Predictor
from matwheel.predictors.regressors import Regression, Regressor, Trees


class FeaturePredictor(Predictor):
    """Regression of the transformed target on features, by default the baseline: trees on composition and cell.

    Args:
        features: The features, side by side; composition and cell by default.
        regressor: The kind of regression; trees by default.
        transform: Map between the property and the variable that is learnt, see `TargetTransform`.
        name: The column `predictor` of the results.
    """

    name: str = ""

    def __init__(
        self,
        features: Sequence[Features] | None = None,
        regressor: Regressor | None = None,
        transform: TransformKind = "log",
        name: str = "trees",
    ) -> None:
        self.features = tuple(features) if features is not None else (Composition(), Cell())
        if not self.features:
            raise ValueError(f"the predictor {name!r} has no features: name at least one kind")
        self.regressor = regressor if regressor is not None else Trees()
        self.transform = transform
        self.name = name

    def fit(self, training: Labelled, validation: Labelled, context: Fitting) -> Fitted:
        """See `Predictor`."""
        counts = training.weight > 0
        transform = TargetTransform(self.transform)
        target = torch.from_numpy(training.target[counts])
        transform.fit(target)

        def predict(regression: Regression, features: FloatArray) -> FloatArray:
            predicted: FloatArray = transform.prediction(torch.from_numpy(regression(features))).numpy()
            return predicted

        of_validation = self._compute(validation.table)
        regression = self.regressor.fit(
            self._compute(training.table)[counts],
            transform(target).numpy(),
            training.weight[counts],
            lambda candidate: prediction_errors(validation.target, predict(candidate, of_validation)).mae,
            context.seed,
        )
        return lambda table: predict(regression, self._compute(table))

    def _compute(self, table: CrystalTable) -> FloatArray:
        features = joined(self.features, table)
        return np.where(np.isfinite(features), features, np.nan)
