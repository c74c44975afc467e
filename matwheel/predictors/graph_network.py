"""Trained networks as fitted predictors."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.graphs import CrystalGraphs
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.run_config import CONFIG
from matwheel.models.trained import WEIGHTS, TrainedModel
from matwheel.predictors.predictor import Fitted, NotPortableError

_BATCH_SIZE = 256


@dataclass(frozen=True)
class GraphNetwork(Fitted):
    """A trained network with the rule of its graphs.

    Attributes:
        model: In evaluation mode.
        cutoff: A, largest distance of a neighbour in its graphs.
        max_neighbours: Neighbours per atom in its graphs.
    """

    model: PropertyPredictor
    cutoff: float
    max_neighbours: int

    @classmethod
    def of(cls, trained: TrainedModel[PropertyPredictor]) -> GraphNetwork:
        """A model that was read from its files."""
        data = trained.config.data_options()
        return cls(trained.model, data["cutoff"], data["max_neighbours"])

    def __call__(self, table: CrystalTable) -> FloatArray:
        """See `Fitted`; n crystals with sane cells, see `structure_validity`."""
        if not len(table):
            return np.zeros(0)
        graphs = CrystalGraphs.build(table, self.cutoff, self.max_neighbours, progress=True)
        with torch.inference_mode():
            batches = torch.split(torch.arange(len(table)), _BATCH_SIZE)
            values = [self.model(graphs.batch(rows).to(self.model.device)) for rows in batches]
        predicted: FloatArray = torch.cat(values).cpu().double().numpy()
        return predicted

    def to(self, device: torch.device) -> GraphNetwork:
        """See `Fitted`."""
        return replace(self, model=copy.deepcopy(self.model).to(device))

    def portable(self) -> Fitted:
        """See `Fitted`.

        Raises:
            NotPortableError: Always; see `PortableNetwork`.
        """
        raise NotPortableError("of a network that no config describes only the checkpoint is kept")


class PortableNetwork(Fitted):
    """A trained network by what `TrainedModel.write` writes: its config and its weights.

    Args:
        config: `config.yaml`.
        weights: [bytes], `model.safetensors`.
    """

    def __init__(self, config: str, weights: NDArray[np.uint8]) -> None:
        self.config = config
        self.weights = weights

    @classmethod
    def of(cls, checkpoint: Path) -> PortableNetwork:
        """A trained predictor of a run.

        Raises:
            NotPortableError: If no config describes it.
        """
        with TemporaryDirectory() as name:
            folder = Path(name)
            try:
                TrainedModel.load(checkpoint, PropertyPredictor).write(folder)
            except ValueError as error:
                raise NotPortableError(str(error)) from error
            weights = np.frombuffer((folder / WEIGHTS).read_bytes(), np.uint8)
            return cls((folder / CONFIG).read_text(encoding="utf-8"), weights)

    def __call__(self, table: CrystalTable) -> FloatArray:
        """See `Fitted`."""
        return self._network(table)

    def to(self, device: torch.device) -> GraphNetwork:
        """See `Fitted`."""
        return self._network.to(device)

    def __getstate__(self) -> dict[str, object]:
        return {"config": self.config, "weights": self.weights}

    @cached_property
    def _network(self) -> GraphNetwork:
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / CONFIG).write_text(self.config, encoding="utf-8")
            (folder / WEIGHTS).write_bytes(self.weights.tobytes())
            return GraphNetwork.of(TrainedModel.load(folder / WEIGHTS, PropertyPredictor))
