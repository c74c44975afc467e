"""Dropout by the crystals' own random numbers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matwheel.seeded import seeded_uniform


class SeededDropout(nn.Module):
    """Dropout whose choice for a row depends on its seed alone: not on its batch, nor on who else works on it.

    Args:
        probability: Of hiding a feature in training; the others are scaled up for it.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"dropout is the fraction of features that are hidden, in [0, 1), not {probability}")
        self.probability = probability

    def forward(
        self, x: Float[Tensor, "rows features"], seeds: Int[Tensor, " rows"] | None
    ) -> Float[Tensor, "rows features"]:
        """Hide features.

        Args:
            x: The features.
            seeds: Of the rows; by default torch's own generator decides.
        """
        if not self.training or not self.probability:
            return x
        if seeds is None:
            return nn.functional.dropout(x, self.probability)
        kept = seeded_uniform(seeds, _STREAM, x.shape[1]) >= self.probability
        return torch.where(kept, x / (1 - self.probability), 0.0)


_STREAM = 0
