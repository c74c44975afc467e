"""A weighted mean of fitted predictors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.predictors.predictor import Fitted


@dataclass(frozen=True)
class Combination(Fitted):
    """The mean of predictions in the user's units: what the target transform of a part is, is its own matter.

    Attributes:
        parts: k predictors.
        weights: [k], of sum 1.
    """

    parts: tuple[Fitted, ...]
    weights: FloatArray

    def __call__(self, table: CrystalTable) -> FloatArray:
        """See `Fitted`."""
        combined: FloatArray = self.weights @ np.stack([part(table) for part in self.parts])
        return combined

    def to(self, device: torch.device) -> Combination:
        """See `Fitted`."""
        return Combination(tuple(part.to(device) for part in self.parts), self.weights)

    def portable(self) -> Combination:
        """See `Fitted`; without what has no weight."""
        counts = self.weights > 0
        parts = [part.portable() for part, needed in zip(self.parts, counts, strict=True) if needed]
        return Combination(tuple(parts), self.weights[counts])
