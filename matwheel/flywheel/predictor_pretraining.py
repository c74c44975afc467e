"""Pre-training of the predictor on the labels of other data sets."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import lightning as L
import numpy as np

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.module import CrystalDataModule
from matwheel.data.rows import LoadedTable
from matwheel.flywheel.fingerprint import Json, data_fingerprint, describe
from matwheel.flywheel.other_crystals import OtherCrystals, parts_of
from matwheel.flywheel.run import Run
from matwheel.flywheel.stages import FitSettings, pretrain_predictor
from matwheel.flywheel.trainers import BEST
from matwheel.models.multi_task import MultiTaskPredictor, start_from
from matwheel.models.predictor import PropertyPredictor

LABELS: Mapping[str, Sequence[str]] = {
    "flla_2015": ("formation_energy_per_atom", "e_above_hull"),
    "elastic_tensor_2015": ("K_VRH", "G_VRH", "poisson_ratio"),
    "piezoelectric_tensor": ("eij_max",),
    "mp_poly_total": ("poly_total", "n", "band_gap"),
}
"""Properties of the embedded data sets, by data set."""


class LabelledDataModule(OtherCrystals):
    """Crystals of other data sets with their labels, and training crystals with labels other than the target.

    The conditions are called `DATASET:PROPERTY`, those of the training crystals by the property alone. No validation or
    test row of the data set that is learned from afterwards is among the crystals, and no crystal of another data set
    with the formula of any of its rows.

    Args:
        labels: Properties by name from the catalogue or path of a table. The data set itself is passed over.
        own: Properties of the data set itself.
        known: The data set, loaded. Graphs are made like its own.
        batch_size: Crystals per step of the optimiser.
    """

    def __init__(
        self, labels: Mapping[str, Sequence[str]], own: Sequence[str], known: CrystalDataModule, batch_size: int
    ) -> None:
        self.labels = {name: tuple(properties) for name, properties in labels.items() if name != known.dataset}
        self.own = tuple(own)
        if not self.labels:
            raise ValueError(
                f"there is no data set to learn from first, other than {known.dataset}: name one in labels"
            )
        super().__init__(
            list(self.labels),
            _tasks(self.labels) + list(own),
            data_dir=known.data_dir,
            reduce_cells=known.reduce_cells,
            max_sites=known.max_sites,
            cutoff=known.cutoff,
            max_neighbours=known.max_neighbours,
            batch_size=batch_size,
            num_workers=known.num_workers,
            cache_dir=known.cache_dir,
        )
        for name in own:
            if name == known.target or name not in known.table.properties:
                others = [other for other in known.table.properties if other != known.target]
                raise ValueError(
                    f"{known.dataset} has no further property {name!r} to learn from: choose from "
                    f"{', '.join(others) or 'none'}"
                )
        self._training = known.table.take(np.unique(known.train_rows)) if own else None
        self.leave_out(parts_of(known))

    def _read(self) -> LoadedTable:
        loaded = super()._read()
        for task in _tasks(self.labels):
            if not np.isfinite(loaded.table.properties[task]).any():
                raise ValueError(
                    f"no crystal with {task} is left to learn from without the formulas that are held out: take it out "
                    "of the labels"
                )
        if self._training is None:
            return loaded
        columns = {name: self._training.properties[name] for name in self.own}
        table = CrystalTable.concatenate([loaded.table, replace(self._training, properties=columns)])
        return replace(loaded, table=table, source_rows=np.arange(len(table)))

    def _properties(self, name: str, table: CrystalTable) -> dict[str, FloatArray]:
        missing = [label for label in self.labels[name] if label not in table.properties]
        if missing:
            raise ValueError(f"{name} has no property {missing[0]!r}: choose from {', '.join(table.properties)}")
        labels = self.labels[name]
        return dict(zip(_tasks({name: labels}), (table.properties[label] for label in labels), strict=True))


@dataclass(frozen=True)
class PredictorPretraining:
    """The predictor's network first learns from the labels of other data sets; all arms start from its body.

    Attributes:
        labels: Properties by data set, names from the catalogue or paths of tables.
        own: Properties of the wheel's own data set other than the target, learned from the labelled training crystals
            only. The result then differs between splits.
        fit: How the network is trained on them; at the model's learning rate.
        learning_rate: The arms' highest learning rate, lower than that of a network that has yet to learn everything.
    """

    labels: Mapping[str, Sequence[str]] = field(default_factory=lambda: LABELS)
    own: Sequence[str] = ()
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(max_epochs=20, batch_size=64, gradient_clip_val=None, ema_decay=0.99)
    )
    learning_rate: float = 3e-3

    def pretrained(self, run: Run, known: CrystalDataModule, model: L.LightningModule) -> PropertyPredictor:
        """A copy of a predictor whose network has the body that was trained.

        Args:
            run: Runs the stage.
            known: The wheel's own crystals; nothing but structures and the properties `own` is used.
            model: The untrained predictor.

        Raises:
            ValueError: If it is no predictor with a `TransferNetwork`.
        """
        if not isinstance(model, PropertyPredictor):
            raise ValueError(f"predictor_pretraining needs a PropertyPredictor, not {type(model).__name__}")
        data = LabelledDataModule(self.labels, self.own, known, self.fit.batch_size)
        data.prepare_data()
        data.setup("fit")
        learner = MultiTaskPredictor(model, len(data.conditions))

        def work(folder: Path, seed: int) -> dict[str, float]:
            metrics = pretrain_predictor(copy.deepcopy(learner), data, self.fit, seed, folder, run.trainers)
            return {**data.left_out(), **metrics}

        config: Json = {"model": describe(learner), "fit": describe(self.fit)}
        stage = run.stage("predictor-pretraining", work, config, {"data": data_fingerprint(data)})
        started = copy.deepcopy(model)
        start_from(started, stage.folder / BEST)
        started.learning_rate = self.learning_rate
        return started


def _tasks(labels: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{Path(dataset).name}:{label}" for dataset, properties in labels.items() for label in properties]
