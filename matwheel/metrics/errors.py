"""Errors of predictions that were made outside a LightningModule."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from matwheel.data.crystal import FloatArray


class Errors(NamedTuple):
    """Errors in the target's unit.

    Attributes:
        mae: Mean absolute error.
        rmse: Root mean square error.
        r2: Coefficient of determination; NaN where the targets do not vary.
    """

    mae: float
    rmse: float
    r2: float


def prediction_errors(target: FloatArray, predicted: FloatArray) -> Errors:
    """Compare predictions [n] with targets [n]; NaN where there are none."""
    if not len(target):
        return Errors(np.nan, np.nan, np.nan)
    residual = predicted - target
    varies = np.ptp(target) > 0  # the mean of equal numbers may differ from them by rounding
    spread = float(((target - target.mean()) ** 2).sum())
    return Errors(
        mae=float(np.abs(residual).mean()),
        rmse=float(np.sqrt((residual**2).mean())),
        r2=1 - float((residual**2).sum()) / spread if varies and spread > 0 else float("nan"),
    )
