"""Predictions of new crystals by one trained predictor, or by several with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matwheel.data.cells import niggli_reduce
from matwheel.data.rows import LoadedTable
from matwheel.metrics.saved_predictor import SavedPredictor
from matwheel.models.trained import model_files


@dataclass(frozen=True)
class PredictorEnsemble:
    """Predictors of one property.

    Attributes:
        members: At least one.
        target: The property, where a checkpoint names it.
    """

    members: tuple[SavedPredictor, ...]
    target: str | None

    @classmethod
    def load(cls, models: Sequence[Path]) -> PredictorEnsemble:
        """Read predictors; nothing in their files is executed.

        Args:
            models: Checkpoints, exported models, or folders of several, see `model_files`.

        Raises:
            ValueError: If one is not a predictor, or they predict different properties.
        """
        files = [file for model in models for file in model_files(model)]
        members = tuple(SavedPredictor.load(file) for file in files)
        targets = {member.target: file for member, file in zip(members, files, strict=True) if member.target}
        if len(targets) > 1:
            found = "; ".join(f"{file} predicts {target!r}" for target, file in targets.items())
            raise ValueError(f"these models predict different properties: {found}. Give models of one property")
        return cls(members, next(iter(targets), None))

    def predict(self, crystals: LoadedTable) -> pd.DataFrame:
        """Predict a property of n crystals, in the unit it was trained in.

        Returns:
            n rows: `id`, `prediction` (the members' mean), with several members `spread` (their standard deviation),
            and `target`, the known value, if the crystals have a column of the property's name.
        """
        table = crystals.table
        reduced = niggli_reduce(table) if any(member.reduce_cells for member in self.members) else table
        values = np.stack([m.predict(reduced if m.reduce_cells else table) for m in self.members])
        frame = pd.DataFrame({"id": table.ids, "prediction": values.mean(axis=0)})
        if len(self.members) > 1:
            frame["spread"] = values.std(axis=0, ddof=1)
        if self.target in table.properties:
            frame["target"] = table.properties[self.target]
        return frame
