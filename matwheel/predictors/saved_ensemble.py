"""Predictions of new crystals by one trained predictor, or by several with their spread."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matwheel.data.cells import niggli_reduce
from matwheel.data.rows import LoadedTable
from matwheel.files import VALIDATION_PREDICTIONS
from matwheel.metrics.calibration import Calibration
from matwheel.models.trained import model_files
from matwheel.predictors.saved import SavedPredictor

log = logging.getLogger(__name__)


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
            models: Checkpoints, folders of stages or exported models, or folders of several, see `model_files`.

        Raises:
            ValueError: If there is none, one is given twice or is not a predictor, or they predict different
                properties.
        """
        files = [file for model in models for file in model_files(model)]
        if not files:
            raise ValueError("no model is given: give at least one")
        times = Counter(file.resolve() for file in files)
        if repeated := [file for file in files if times[file.resolve()] > 1]:
            raise ValueError(f"{repeated[0]} is given {times[repeated[0].resolve()]} times: give each model once")
        members = tuple(SavedPredictor.load(file) for file in files)
        targets = {member.target: file for member, file in zip(members, files, strict=True) if member.target}
        if len(targets) > 1:
            found = "; ".join(f"{file} predicts {target!r}" for target, file in targets.items())
            raise ValueError(f"these models predict different properties: {found}. Give models of one property")
        return cls(members, next(iter(targets), None))

    def to(self, device: torch.device) -> PredictorEnsemble:
        """The same predictors with their networks on a device."""
        return replace(self, members=tuple(replace(m, fitted=m.fitted.to(device)) for m in self.members))

    def predict(self, crystals: LoadedTable, interval: float | None = None) -> pd.DataFrame:
        """Predict a property of n crystals, in the unit it was trained in.

        Args:
            crystals: What to predict.
            interval: Probability with which the true value shall lie between `low` and `high`; None for no interval.

        Returns:
            n rows: `id`, `prediction` (the members' mean), with several members `spread` (their standard deviation),
            `low` and `high` if an interval is asked for and the members can be calibrated, else with a warning without,
            and `target`, the known value, if the crystals have a column of the property's name.

        Raises:
            ValueError: If there are too few validation rows for the interval.
        """
        calibration = self._calibration() if interval is not None else None
        if interval is not None and calibration is not None:
            calibration.check(interval)  # before hours of features
        table = crystals.table
        reduced = niggli_reduce(table) if any(member.reduce_cells for member in self.members) else table
        values = np.stack([m.fitted(reduced if m.reduce_cells else table) for m in self.members])
        frame = pd.DataFrame({"id": table.ids, "prediction": values.mean(axis=0)})
        if len(self.members) > 1:
            frame["spread"] = values.std(axis=0, ddof=1)
        if interval is not None and calibration is not None:
            frame["low"], frame["high"] = calibration.interval(values, interval)
        if self.target in table.properties:
            frame["target"] = table.properties[self.target]
        return frame

    def _calibration(self) -> Calibration | None:
        """From the validation rows of all members, which must be the same; None, with a warning, without them."""
        tables = [member.validation for member in self.members if member.validation is not None]
        if len(tables) < len(self.members):
            missing = len(self.members) - len(tables)
            log.warning(
                "no interval: %d of %d models have no %s beside them, which training and export leave there",
                missing,
                len(self.members),
                VALIDATION_PREDICTIONS,
            )
            return None
        first = tables[0]
        if not all(_same_rows(table["target"], first["target"]) for table in tables):
            # A row that one member was validated on and another trained on would make the interval too narrow.
            log.warning("no interval: the models were not validated on the same rows; give models of the same split")
            return None
        predictions = np.stack([table["prediction"].reindex(first.index).to_numpy() for table in tables])
        return Calibration.fit(predictions, first["target"].to_numpy(), self.members[0].transform)


def _same_rows(targets: pd.Series[float], others: pd.Series[float]) -> bool:
    """Whether these are the same crystals; the targets of networks have been rounded to single precision."""
    if set(targets.index) != set(others.index):
        return False
    return bool(np.allclose(targets, others.reindex(targets.index), rtol=1e-6, atol=0))
