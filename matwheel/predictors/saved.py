"""A trained predictor from its files: to predict and to judge crystals with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matwheel.data.cells import niggli_reduce
from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.targets import TargetTransform
from matwheel.files import VALIDATION_PREDICTIONS
from matwheel.models.predictor import TARGET, PropertyPredictor
from matwheel.models.trained import FITTED_SUFFIX, TrainedModel
from matwheel.predictors.graph_network import GraphNetwork
from matwheel.predictors.predictor import Fitted
from matwheel.predictors.predictor_file import read_predictor


@dataclass(frozen=True)
class SavedPredictor:
    """A trained predictor.

    Attributes:
        fitted: Predicts.
        transform: To the scale on which intervals are made, that of its training as a rule.
        reduce_cells: Whether it was trained on Niggli-reduced cells.
        target: The property, where its file names it.
        validation: `prediction` and `target` of the validation rows of its training, by `id`; None where they were not
            kept.
    """

    fitted: Fitted
    transform: TargetTransform
    reduce_cells: bool
    target: str | None
    validation: pd.DataFrame | None

    @classmethod
    def load(cls, path: Path, config: Path | None = None) -> SavedPredictor:
        """Read a predictor; nothing in its file is executed, but files and configs name the classes to build.

        Args:
            path: Checkpoint of a run, exported weights, or the file of a predictor that is no network.
            config: `config.yaml` of the run of a network; found by `find_config` by default.

        Raises:
            ValueError: If there is no config, or it is not of a predictor, or the weights do not fit it, or the file
                cannot be read.
        """
        if path.suffix == FITTED_SUFFIX:
            fitted, about = read_predictor(path)
            return cls(
                fitted=fitted,
                transform=TargetTransform.from_numbers(about.transform, about.numbers),
                reduce_cells=about.reduce_cells,
                target=about.target,
                validation=_read_validation(validation_predictions(path)),
            )
        trained = TrainedModel.load(path, PropertyPredictor, config)
        if not trained.model.transform.fitted:
            raise ValueError(f"the predictor in {path} was never trained")
        return cls(
            fitted=GraphNetwork.of(trained),
            transform=trained.model.transform,
            reduce_cells=trained.config.data_options()["reduce_cells"],
            target=trained.checkpoint.get(TARGET),
            validation=_read_validation(trained.validation_predictions),
        )

    def predict(self, table: CrystalTable) -> FloatArray:
        """[n], the property of each crystal in the user's units.

        Args:
            table: n crystals with sane cells, see `structure_validity`.
        """
        if not len(table):
            return np.zeros(0)
        return self.fitted(niggli_reduce(table) if self.reduce_cells else table)


def validation_predictions(path: Path) -> Path | None:
    """Predictions of the validation rows beside a `.skops` file; None without them, or where they may be another's."""
    table = path.with_name(VALIDATION_PREDICTIONS)
    alone = [*path.parent.glob(f"*{FITTED_SUFFIX}")] == [path]
    return table if table.is_file() and alone else None


def _read_validation(path: Path | None) -> pd.DataFrame | None:
    """Predictions of validation rows by id, None where there are none.

    Raises:
        ValueError: If the file is damaged.
    """
    if path is None:
        return None
    try:
        table = pd.read_csv(path, converters={"id": str}, index_col="id", float_precision="round_trip")
        return table[["prediction", "target"]].astype(float)
    except (KeyError, ValueError) as error:  # those of pandas among them
        raise ValueError(
            f"{path} is not a table of predictions: {error}; without the file there are no intervals"
        ) from error
