"""A network beside the trainer's own model."""

from __future__ import annotations

import copy
import json

from matwheel.data.in_memory import InMemoryDataModule
from matwheel.files import write_text_atomically
from matwheel.flywheel.stages import FitSettings
from matwheel.flywheel.trainers import BEST
from matwheel.models.checkpoints import load_weights
from matwheel.models.predictor import PropertyPredictor
from matwheel.predictors.graph_network import GraphNetwork
from matwheel.predictors.predictor import Fitted, Fitting, Labelled, Predictor

NETWORK = "network"
"""Folder of its checkpoints within the stage, so that nobody takes them for those of the trainer's own model."""
FIT = "fit.json"
"""Metrics of a training that is finished."""


class NetworkPredictor(Predictor):
    """Another model than the trainer's own, trained by settings of its own, such as a fine-tuned potential.

    Args:
        model: The untrained model; it is copied.
        name: The column `predictor` of the results.
        settings: How it is trained.
        cutoff: A, of the graphs it sees.
        max_neighbours: Neighbours per atom in them.
    """

    name: str = ""
    distributed = True

    def __init__(
        self,
        model: PropertyPredictor,
        name: str,
        settings: FitSettings | None = None,
        cutoff: float = 8.0,
        max_neighbours: int = 20,
    ) -> None:
        self.model = model
        self.name = name
        self.settings = settings if settings is not None else _SETTINGS
        self.cutoff = cutoff
        self.max_neighbours = max_neighbours

    def fit(self, training: Labelled, validation: Labelled, context: Fitting) -> Fitted:
        """See `Predictor`."""
        model, folder, settings = copy.deepcopy(self.model), context.folder / NETWORK, self.settings
        if not (folder / FIT).is_file():
            data = InMemoryDataModule(
                *training, validation.table, validation.target, settings.batch_size, self.cutoff, self.max_neighbours
            )
            metrics = context.trainers.fit(
                model,
                data,
                folder,
                self.name,
                context.seed,
                settings.monitor,
                callbacks=settings.callbacks(),
                **settings.trainer_options(),
            )
            if context.writes:
                write_text_atomically(folder / FIT, json.dumps(metrics, indent=1))
        load_weights(model, folder / BEST)
        return GraphNetwork(model.eval(), self.cutoff, self.max_neighbours).to(context.trainers.device)


_SETTINGS = FitSettings(max_epochs=40, batch_size=32, gradient_clip_val=None, monitor="val/mae", ema_decay=0.99)
