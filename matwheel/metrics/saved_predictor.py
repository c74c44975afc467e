"""A trained predictor from its files, to judge crystals with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.module import CrystalDataModule
from matwheel.models.checkpoints import load_weights
from matwheel.models.predictor import PropertyPredictor

CONFIG = "config.yaml"
_BATCH_SIZE = 256


@dataclass(frozen=True)
class SavedPredictor:
    """A trained predictor with the rule of its graphs.

    Attributes:
        model: In evaluation mode.
        cutoff: A, largest distance of a neighbour in its graphs.
        max_neighbours: Neighbours per atom in its graphs.
    """

    model: PropertyPredictor
    cutoff: float
    max_neighbours: int

    @classmethod
    def load(cls, checkpoint: Path, config: Path | None = None) -> SavedPredictor:
        """Read a checkpoint; nothing in it is executed.

        Args:
            checkpoint: What `python -m matwheel.fit fit` left.
            config: `config.yaml` of the run; by default the one beside the checkpoint or a folder above it.

        Raises:
            ValueError: If there is no config, or it is not of a predictor, or the weights do not fit it.
        """
        if not checkpoint.is_file():
            raise ValueError(f"no such checkpoint: {checkpoint}")
        config = config if config is not None else _find_config(checkpoint)
        options = _parse(config)
        model = options.pop("model")
        load_weights(model, checkpoint)
        if not model.transform.fitted:
            raise ValueError(f"the predictor in {checkpoint} was never trained")
        return cls(model.eval(), options["cutoff"], options["max_neighbours"])

    def predict(self, table: CrystalTable) -> FloatArray:
        """[n], the property of each crystal in the user's units.

        Args:
            table: n crystals with sane cells, see `structure_validity`.
        """
        if not len(table):
            return np.zeros(0)
        graphs = CrystalGraphs.build(table, self.cutoff, self.max_neighbours)
        with torch.inference_mode():
            batches = torch.split(torch.arange(len(table)), _BATCH_SIZE)
            values = [self.model(graphs.batch(rows)) for rows in batches]
        predicted: FloatArray = torch.cat(values).double().numpy()
        return predicted


def _parse(config: Path) -> dict[str, Any]:
    """The untrained model of a run's config, and the options of its graphs."""
    from jsonargparse import ArgumentError
    from lightning.pytorch.cli import LightningArgumentParser

    content = yaml.safe_load(config.read_text())
    if not isinstance(content, dict) or not {"model", "data"} <= set(content):
        raise ValueError(f"{config} is not the config of a run: it has no 'model' and 'data'")
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(PropertyPredictor, "model", subclass_mode=True)
    parser.add_lightning_class_args(CrystalDataModule, "data", subclass_mode=True)
    try:
        options = parser.parse_object({name: content[name] for name in ("model", "data")})
    except ArgumentError as error:
        raise ValueError(f"{config} is not the config of a predictor: {error}") from error
    data = options.data.init_args
    del options["data"]  # only its options are wanted: the data set need not exist here
    model = parser.instantiate_classes(options).model
    return {"model": model, "cutoff": data.cutoff, "max_neighbours": data.max_neighbours}


def _find_config(checkpoint: Path) -> Path:
    for folder in list(checkpoint.resolve().parents)[:2]:
        if (folder / CONFIG).is_file():
            return folder / CONFIG
    raise ValueError(
        f"no {CONFIG} beside {checkpoint} or a folder above it: name the config of the run that made this checkpoint"
    )
