"""A trained predictor from its files: to predict and to judge crystals with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.graphs import CrystalGraphs
from matwheel.models.predictor import TARGET, PropertyPredictor
from matwheel.models.trained import TrainedModel

_BATCH_SIZE = 256


@dataclass(frozen=True)
class SavedPredictor:
    """A trained predictor with the rule of its graphs.

    Attributes:
        model: In evaluation mode.
        cutoff: A, largest distance of a neighbour in its graphs.
        max_neighbours: Neighbours per atom in its graphs.
        reduce_cells: Whether it was trained on Niggli-reduced cells.
        target: The property, where the checkpoint names it.
        validation: `prediction` and `target` of the validation rows of its training, by `id`; None where they were not
            kept.
    """

    model: PropertyPredictor
    cutoff: float
    max_neighbours: int
    reduce_cells: bool
    target: str | None
    validation: pd.DataFrame | None

    @classmethod
    def load(cls, checkpoint: Path, config: Path | None = None) -> SavedPredictor:
        """Read a checkpoint; nothing in it is executed.

        Args:
            checkpoint: What `python -m matwheel.fit fit` or `python -m matwheel.export` left.
            config: `config.yaml` of the run; found by `find_config` by default.

        Raises:
            ValueError: If there is no config, or it is not of a predictor, or the weights do not fit it.
        """
        trained = TrainedModel.load(checkpoint, PropertyPredictor, config)
        if not trained.model.transform.fitted:
            raise ValueError(f"the predictor in {checkpoint} was never trained")
        data = trained.config.data_options()
        return cls(
            model=trained.model,
            cutoff=data["cutoff"],
            max_neighbours=data["max_neighbours"],
            reduce_cells=data["reduce_cells"],
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
        graphs = CrystalGraphs.build(table, self.cutoff, self.max_neighbours, progress=True)
        with torch.inference_mode():
            batches = torch.split(torch.arange(len(table)), _BATCH_SIZE)
            values = [self.model(graphs.batch(rows)) for rows in batches]
        predicted: FloatArray = torch.cat(values).double().numpy()
        return predicted


def _read_validation(path: Path | None) -> pd.DataFrame | None:
    """Predictions of validation rows by id, None where there are none.

    Raises:
        ValueError: If the file is damaged.
    """
    if path is None:
        return None
    try:
        table = pd.read_csv(path, dtype={"id": str}, index_col="id", float_precision="round_trip")
        return table[["prediction", "target"]].astype(float)
    except (KeyError, ValueError) as error:  # those of pandas among them
        raise ValueError(
            f"{path} is not a table of predictions: {error}; without the file there are no intervals"
        ) from error
