"""Labelled crystals and the context of fits that need nothing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.flywheel.trainers import StageTrainers
from matwheel.predictors.features import Features
from matwheel.predictors.predictor import Fitted, Fitting, Labelled
from tests.models.toys import toy_crystals


class Given(Features):
    """Columns of the table's properties, so that a test decides the features."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns

    def compute(self, table: CrystalTable) -> FloatArray:
        return np.stack([table.properties[name] for name in self.columns], axis=1)


def labelled(features: FloatArray, target: FloatArray, weight: FloatArray | None = None) -> Labelled:
    """Crystals with given features [n, f], under the names f0, f1, ..."""
    columns = {f"f{number}": column for number, column in enumerate(features.T)}
    table = toy_crystals(len(features)).with_properties(**columns)
    return Labelled(table, target, np.ones(len(target)) if weight is None else weight)


def context(folder: Path, parts: Sequence[Fitted] = (), members: Sequence[Fitted] = (), seed: int = 0) -> Fitting:
    return Fitting(seed, folder, StageTrainers(), parts=parts, members=members)
