"""A weighted mean of predictors, with weights that validation rows decide."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog

from matwheel.data.crystal import FloatArray
from matwheel.files import write_text_atomically
from matwheel.predictors.combination import Combination
from matwheel.predictors.predictor import Fitted, Fitting, Labelled, Predictor

WEIGHTS = "weights.json"
"""Weight of each part by name, in the folder of the fit."""
_RESAMPLES = 100
_FOLDS = 5
_ROUNDING = 1e-9  # of the solver: a smaller weight is none


class Stack(Predictor):
    """A convex combination of predictors (Breiman, Mach. Learn. 24, 49, 1996) with a low error on validation rows.

    Args:
        members: The predictors.
        name: The column `predictor` of the results.
    """

    name: str = ""

    def __init__(self, members: Sequence[Predictor], name: str = "stack") -> None:
        names = [member.name for member in members]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"a stack needs at least two members of different names, not {names}")
        self.parts = tuple(members)
        self.distributed = any(member.distributed for member in members)
        self.name = name

    def fit(self, training: Labelled, validation: Labelled, context: Fitting) -> Fitted:
        """See `Predictor`."""
        predicted = np.stack([part(validation.table) for part in context.parts])
        weights = convex_weights(predicted, validation.target, context.seed)
        if context.writes:
            by_name = {part.name: float(weight) for part, weight in zip(self.parts, weights, strict=True)}
            write_text_atomically(context.folder / WEIGHTS, json.dumps(by_name, indent=1))
        return Combination(tuple(context.parts), weights)

    def held_out(self, fitted: Fitted, validation: Labelled) -> FloatArray:
        """See `Predictor`: each fold of the rows with the weights that the others decide."""
        assert isinstance(fitted, Combination)
        predicted, n = np.stack([part(validation.table) for part in fitted.parts]), len(validation.target)
        if n < _FOLDS:
            return fitted.weights @ predicted
        fold = np.random.default_rng(0).permutation(n) % _FOLDS
        combined = np.empty(n)
        for one in range(_FOLDS):
            rest, rows = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
            combined[rows] = convex_weights(predicted[:, rest], validation.target[rest], one) @ predicted[:, rows]
        return combined


def convex_weights(predicted: FloatArray, target: FloatArray, seed: int) -> FloatArray:
    """Weights of a combination with a low mean absolute error, not negative and of sum 1.

    The optimum is found in the target's unit, where the error is convex in the weights, so that it is a linear
    programme. With few rows it jumps from one predictor to another: it is averaged over bootstrap samples of the rows.

    Args:
        predicted: [k, n], of k predictors for n rows.
        target: [n].
        seed: Of the bootstrap.

    Returns:
        [k].
    """
    rng, n = np.random.default_rng(seed), len(target)
    samples = (np.bincount(rng.integers(n, size=n), minlength=n).astype(float) for _ in range(_RESAMPLES))
    weights: FloatArray = np.mean([_best_weights(predicted, target, times) for times in samples], axis=0)
    return weights


def _best_weights(predicted: FloatArray, target: FloatArray, times: FloatArray) -> FloatArray:
    """Minimise the sum of absolute errors, where each row counts a number of times, over weights w.

    It is solved as its dual, which has k constraints instead of 2 n: maximise y t + z, where |y| <= times and
    p y + z <= 0. The weights are the multipliers of the latter.
    """
    drawn = times > 0
    predicted, target, times = predicted[:, drawn], target[drawn], times[drawn]
    constraints = np.concatenate([predicted, np.ones((len(predicted), 1))], axis=1)
    bounds = [*zip(-times, times, strict=True), (None, None)]
    found = linprog(-np.append(target, 1.0), constraints, np.zeros(len(predicted)), bounds=bounds)
    multipliers: FloatArray = -found.ineqlin.marginals
    multipliers[multipliers < _ROUNDING] = 0.0
    weights: FloatArray = multipliers / multipliers.sum()
    return weights
