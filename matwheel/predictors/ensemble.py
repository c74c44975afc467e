"""The trainer's own model several times."""

from __future__ import annotations

import numpy as np

from matwheel.predictors.combination import Combination
from matwheel.predictors.predictor import Fitted, Fitting, Labelled, Predictor


class Ensemble(Predictor):
    """The mean prediction of the trainer's own model under several seeds.

    The first member is the arm's own model, the next ones are those that teach where there are several teachers:
    nothing is trained twice. The mean is taken in the user's units, as by teachers and `matwheel.predict`.

    Args:
        num_members: Number of models.
        name: The column `predictor` of the results.
    """

    name: str = ""
    distributed = True

    def __init__(self, num_members: int = 5, name: str = "ensemble") -> None:
        if num_members < 2:
            raise ValueError(f"an ensemble needs at least 2 members, not {num_members}")
        self.num_members = num_members
        self.name = name

    def fit(self, training: Labelled, validation: Labelled, context: Fitting) -> Fitted:
        """See `Predictor`."""
        count = len(context.members)
        return Combination(tuple(context.members), np.full(count, 1 / count))
