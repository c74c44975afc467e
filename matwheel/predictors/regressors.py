"""Regressors of scikit-learn: features in, one number out, with weights of samples."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from threadpoolctl import threadpool_limits

from matwheel.data.crystal import FloatArray


class Samples(NamedTuple):
    """What a regression is fitted to.

    Attributes:
        features: [n, f]; NaN where a value is missing, and columns may be constant.
        target: [n], of zero mean and unit variance.
        weight: [n], above 0.
    """

    features: FloatArray
    target: FloatArray
    weight: FloatArray


@dataclass(frozen=True)
class Regression:
    """A fitted regressor.

    Attributes:
        pipeline: Of scikit-learn, from features to the target.
    """

    pipeline: Any

    def __call__(self, features: FloatArray) -> FloatArray:
        """[m] of features [m, f]."""
        with _one_thread():
            predicted: FloatArray = self.pipeline.predict(features)
        return predicted


class Regressor(ABC):
    """A kind of regression and its settings. The result does not depend on the number of threads."""

    @abstractmethod
    def fit(self, samples: Samples, error: Callable[[Regression], float], seed: int) -> Regression:
        """Fit to samples.

        Args:
            samples: What to learn from.
            error: Validation error of a regression, to choose settings by.
            seed: Of whatever is random.
        """


class Trees(Regressor):
    """Extremely randomised trees (Geurts et al., Mach. Learn. 63, 3, 2006).

    Args:
        num_trees: Number of trees.
        max_features: Fraction of the features a tree looks at for each cut.
    """

    def __init__(self, num_trees: int = 500, max_features: float = 0.3) -> None:
        self.num_trees = num_trees
        self.max_features = max_features

    def fit(self, samples: Samples, error: Callable[[Regression], float], seed: int) -> Regression:
        """See `Regressor`."""
        fill = _imputer().fit(samples.features)
        trees = ExtraTreesRegressor(self.num_trees, max_features=self.max_features, random_state=seed, n_jobs=-1)
        trees.fit(fill.transform(samples.features), samples.target, samples.weight)
        trees.set_params(n_jobs=1)  # threads would add up the trees in any order, and rounding would differ
        return Regression(make_pipeline(fill, trees))


class GaussianProcess(Regressor):
    """Gaussian process with a Matern kernel of smoothness 3/2 and noise, all found by marginal likelihood.

    The variance of the noise of a sample is divided by its weight (Rasmussen and Williams, Gaussian Processes for
    Machine Learning, 2006, chapters 2 and 5). A sample that is given several times counts once: copies that agree to
    the last digit would say that there is no noise. Far from all samples it predicts the mean.
    """

    def fit(self, samples: Samples, error: Callable[[Regression], float], seed: int) -> Regression:
        """See `Regressor`."""
        scaler = _scaler().fit(samples.features)
        scaled, target, weight = _distinct(samples._replace(features=scaler.transform(samples.features)))
        # Two standardised samples are about sqrt(2 f) apart.
        apart = float(np.sqrt(scaled.shape[1]))
        shape = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(apart, (0.1 * apart, 100 * apart), nu=1.5)
        with _one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a value at its bound is an answer
            found = GaussianProcessRegressor(shape + WhiteKernel(0.1, (1e-4, 10)), alpha=1e-8).fit(scaled, target)
            kernel, noise = found.kernel_.k1, found.kernel_.k2.noise_level
            process = GaussianProcessRegressor(kernel, alpha=noise / weight, optimizer=None)
            process.fit(scaled, target)
        return Regression(make_pipeline(scaler, process))


class SupportVectors(Regressor):
    """Support vector regression with a Gaussian kernel; penalty and margin are those of the lowest validation error.

    Args:
        penalties: Values of C to choose from.
        margins: Errors that cost nothing to choose from, in standard deviations of the target.
    """

    def __init__(
        self, penalties: Sequence[float] = (1.0, 3.0, 10.0, 30.0), margins: Sequence[float] = (0.03, 0.1, 0.3)
    ) -> None:
        if not penalties or not margins:
            raise ValueError(f"penalties ({penalties}) and margins ({margins}) must each have a value to choose")
        self.penalties = tuple(penalties)
        self.margins = tuple(margins)

    def fit(self, samples: Samples, error: Callable[[Regression], float], seed: int) -> Regression:
        """See `Regressor`."""
        scaler = _scaler().fit(samples.features)
        scaled = scaler.transform(samples.features)

        def regression(penalty: float, margin: float) -> Regression:
            machine = SVR(C=penalty, epsilon=margin).fit(scaled, samples.target, samples.weight)
            return Regression(make_pipeline(scaler, machine))

        return min((regression(penalty, margin) for penalty in self.penalties for margin in self.margins), key=error)


def _distinct(samples: Samples) -> Samples:
    """Each sample once, in the order in which they are first given."""
    _, first = np.unique(np.column_stack(samples), axis=0, return_index=True)
    return Samples(*(column[np.sort(first)] for column in samples))


def _imputer() -> Any:
    """Puts the median of the training samples where a feature is missing, 0 where it always is."""
    return SimpleImputer(strategy="median", keep_empty_features=True)


def _scaler() -> Any:
    """The same, then zero mean and unit variance; what does not vary is 0."""
    return make_pipeline(_imputer(), StandardScaler())


def _one_thread() -> Any:
    """Products of matrices are rounded differently by several threads."""
    return threadpool_limits(1, user_api="blas")
