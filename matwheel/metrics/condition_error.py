"""Whether generated crystals have the property that was asked for, judged by a predictor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matwheel.data.crystal import FloatArray


@dataclass(frozen=True)
class ConditionError:
    """Asked values against predicted ones, with the same crystals under each other's conditions as control.

    Attributes:
        mae: Mean absolute difference, user's units.
        shuffled_mae: Mean of the same over random assignments of the conditions to the crystals.
        p_value: Share of random assignments that are at least as good as the true one: small if conditioning works.
        rank_correlation: Spearman's, of asked and predicted values; NaN where one of them does not vary.
        count: Crystals compared.
    """

    mae: float
    shuffled_mae: float
    p_value: float
    rank_correlation: float
    count: int


def condition_error(asked: FloatArray, predicted: FloatArray, shuffles: int = 1000, seed: int = 0) -> ConditionError:
    """Compare what was asked with what a predictor finds.

    Use a predictor that was trained on real crystals the generator has not seen: one that labelled the generator's
    training data agrees with it in its errors too.

    Args:
        asked: [n], conditions in the user's units.
        predicted: [n], in the same units; pairs with NaN are left out.
        shuffles: Random assignments of the control.
        seed: Of the assignments.
    """
    known = np.isfinite(asked) & np.isfinite(predicted)
    asked, predicted = asked[known], predicted[known]
    if not len(asked):
        return ConditionError(np.nan, np.nan, np.nan, np.nan, 0)
    rng = np.random.default_rng(seed)
    mae = float(np.abs(asked - predicted).mean())
    control = np.array([np.abs(rng.permutation(asked) - predicted).mean() for _ in range(shuffles)])
    # The true assignment is one of all: a p-value of zero cannot be measured.
    p_value = (1 + int((control <= mae * (1 + 1e-12)).sum())) / (1 + shuffles)
    return ConditionError(mae, float(control.mean()), p_value, _rank_correlation(asked, predicted), len(asked))


def _rank_correlation(first: FloatArray, second: FloatArray) -> float:
    from scipy.stats import rankdata

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])
