"""A predictor from features of crystals, such as trees on composition and cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.targets import TargetTransform, TransformKind
from matwheel.metrics.errors import prediction_errors
from matwheel.predictors.features import Cell, Composition, Features, joined
from matwheel.predictors.predictor import Fitted, Fitting, Labelled, NotPortableError, Predictor
from matwheel.predictors.regressors import Regression, Regressor, Samples, Trees


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
        self.transform: TransformKind = transform
        self.name = name

    def fit(self, training: Labelled, validation: Labelled, context: Fitting) -> Fitted:
        """See `Predictor`."""
        counts = training.weight > 0
        transform = TargetTransform(self.transform)
        target = torch.from_numpy(training.target[counts])
        transform.fit(target)
        samples = Samples(
            _compute(self.features, training.table)[counts], transform(target).numpy(), training.weight[counts]
        )
        of_validation = _compute(self.features, validation.table)

        def error(candidate: Regression) -> float:
            return prediction_errors(validation.target, _predict(candidate, of_validation, transform)).mae

        regression = self.regressor.fit(samples, error, context.seed)
        return FeatureRegression(self.features, regression, self.transform, transform.numbers())


@dataclass(frozen=True)
class FeatureRegression(Fitted):
    """A fitted regression.

    Attributes:
        features: What it sees of a crystal.
        regression: From the features to the transformed target.
        transform: Kind of the transform.
        numbers: What the transform was fitted to, see `TargetTransform.numbers`.
    """

    features: tuple[Features, ...]
    regression: Regression
    transform: TransformKind
    numbers: dict[str, float]

    def __call__(self, table: CrystalTable) -> FloatArray:
        """See `Fitted`."""
        transform = TargetTransform.from_numbers(self.transform, self.numbers)
        return _predict(self.regression, _compute(self.features, table), transform)

    def portable(self) -> FeatureRegression:
        """See `Fitted`."""
        bound = [type(features).__name__ for features in self.features if not features.portable]
        if bound:
            raise NotPortableError(f"the features {', '.join(bound)} exist only inside a run")
        return self


def _predict(regression: Regression, features: FloatArray, transform: TargetTransform) -> FloatArray:
    predicted: FloatArray = transform.prediction(torch.from_numpy(regression(features))).numpy()
    return predicted


def _compute(kinds: Sequence[Features], table: CrystalTable) -> FloatArray:
    features = joined(kinds, table)
    return np.where(np.isfinite(features), features, np.nan)
