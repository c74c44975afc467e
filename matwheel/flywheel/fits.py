"""Predictors beside the trainer's own model: fitted to what the arms of a turn are trained on, and evaluated."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.module import CrystalDataModule
from matwheel.data.targets import TargetTransform
from matwheel.files import PREDICTIONS, VALIDATION_PREDICTIONS, replaced_when_complete
from matwheel.flywheel.arms import ArmName
from matwheel.flywheel.fingerprint import describe
from matwheel.flywheel.ledger import StageResult
from matwheel.flywheel.mixtures import Mixture
from matwheel.flywheel.names import fitted_stage
from matwheel.flywheel.stages import predict_crystals
from matwheel.metrics.errors import prediction_errors
from matwheel.models.trained import FITTED
from matwheel.predictors.graph_network import PortableNetwork
from matwheel.predictors.predictor import Fitted, Fitting, Labelled, NotPortableError, Predictor
from matwheel.predictors.predictor_file import About, write_predictor

if TYPE_CHECKING:
    from matwheel.flywheel.turn import Turn

log = logging.getLogger(__name__)

_NAME = re.compile(r"[\w.+-]+( [\w.+-]+)*")


class Fits:
    """The predictors of one turn. Each is fitted when it is first asked for, unless an earlier run finished it.

    Args:
        turn: Has the crystals that arms are trained on, and trains the trainer's own model.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._mixtures: dict[ArmName, Mixture] = {}
        self._stages: dict[tuple[str, ArmName], StageResult] = {}
        self._fitted: dict[tuple[str, ArmName], Fitted] = {}

    def mixture(self, arm: ArmName) -> Mixture:
        """What an arm is trained on."""
        if arm not in self._mixtures:
            self._mixtures[arm] = self._turn.mixture(arm)
        return self._mixtures[arm]

    def stage(self, predictor: Predictor, arm: ArmName) -> StageResult:
        """Fit a predictor to what an arm is trained on, and evaluate it; leaves its predictions of the test rows."""
        if (predictor.name, arm) not in self._stages:
            self._stages[predictor.name, arm] = self._run_stage(predictor, arm)
        return self._stages[predictor.name, arm]

    def _run_stage(self, predictor: Predictor, arm: ArmName) -> StageResult:
        run, mixture = self._turn.run, self.mixture(arm)
        inputs = {
            **mixture.inputs,
            **{f"part {part.name}": self.stage(part, arm).key for part in predictor.parts},
            **{f"member {member}": self._turn.train(arm, member).stage.key for member in _members(predictor)},
        }

        def work(folder: Path, seed: int) -> dict[str, float]:
            fitted = self._fit(predictor, arm, folder)
            self._fitted[predictor.name, arm] = fitted
            return evaluate(predictor, fitted, mixture.data, folder if run.is_first else None)

        name = fitted_stage(arm, predictor.name, self._turn.suffix_of(arm))
        config = {"predictor": describe(predictor), **mixture.config}
        return run.stage(name, work, config, inputs, purpose=_PURPOSE, alone=not predictor.distributed)

    def fitted(self, predictor: Predictor, arm: ArmName) -> Fitted:
        """A predictor, after its `stage`, fitted to what an arm is trained on."""
        if (predictor.name, arm) not in self._fitted:
            # Another process fitted it, or another run: its folder has what the fit has left.
            folder = self._stages[predictor.name, arm].folder
            self._fitted[predictor.name, arm] = self._fit(predictor, arm, folder)
        return self._fitted[predictor.name, arm]

    def _fit(self, predictor: Predictor, arm: ArmName, folder: Path) -> Fitted:
        run = self._turn.run
        context = Fitting(
            seed=run.seed_for(_PURPOSE),
            folder=folder,
            trainers=run.trainers,
            writes=run.is_first,
            members=[self._member(arm, member) for member in _members(predictor)],
            parts=[self.fitted(part, arm) for part in predictor.parts],
        )
        return fit(predictor, self.mixture(arm).data, context)

    def _member(self, arm: ArmName, member: int) -> Fitted:
        return _Member(self._turn, self._turn.train(arm, member).checkpoint)


class _Member(Fitted):
    """The trainer's own model, predicting on the hardware of the run."""

    def __init__(self, turn: Turn, checkpoint: Path) -> None:
        self._turn = turn
        self._checkpoint = checkpoint

    def __call__(self, table: CrystalTable) -> FloatArray:
        turn = self._turn
        model, known, trainers = copy.deepcopy(turn.settings.model), turn.scenario.known, turn.run.trainers
        predicted: FloatArray = predict_crystals(model, [self._checkpoint], known, table, trainers)[0]
        return predicted

    def portable(self) -> PortableNetwork:
        return PortableNetwork.of(self._checkpoint)


_PURPOSE = "predictor"
"""What seeds are derived from, as for the trainer's own model."""


def fit(predictor: Predictor, data: CrystalDataModule, context: Fitting) -> Fitted:
    """Fit a predictor to the training set of a data module, with its validation rows for choices."""
    training = data.training_table
    labelled = Labelled(training, training.properties[data.target], data.training_weight)
    return predictor.fit(labelled, _validation(data), context)


def _validation(data: CrystalDataModule) -> Labelled:
    table = data.table.take(data.val_rows)
    return Labelled(table, table.properties[data.target], np.ones(len(table)))


def evaluate(predictor: Predictor, fitted: Fitted, data: CrystalDataModule, folder: Path | None) -> dict[str, float]:
    """Errors of a predictor on validation and test rows.

    Args:
        predictor: What was fitted.
        fitted: After its fit.
        data: What it was fitted to, with the rows.
        folder: Where to leave its predictions of both and, where it can be written, itself; None for nowhere.
    """
    validation = _validation(data)
    tables = {PREDICTIONS: data.table.take(data.test_rows), VALIDATION_PREDICTIONS: validation.table}
    predicted = {
        PREDICTIONS: fitted(tables[PREDICTIONS]),
        VALIDATION_PREDICTIONS: predictor.held_out(fitted, validation),
    }
    if folder is not None:
        for name, table in tables.items():
            columns = {"id": table.ids, "prediction": predicted[name], "target": table.properties[data.target]}
            with replaced_when_complete(folder / name) as temporary:
                pd.DataFrame(columns).to_csv(temporary, index=False)
        _keep(predictor, fitted, data, folder)
    of_test, of_val = (prediction_errors(tables[name].properties[data.target], predicted[name]) for name in tables)
    return {"val_mae": of_val.mae, **{f"test_{name}": value for name, value in of_test._asdict().items()}}


def _keep(predictor: Predictor, fitted: Fitted, data: CrystalDataModule, folder: Path) -> None:
    """Leave a fitted predictor as a file that predicts without the run."""
    transform = TargetTransform(predictor.transform)
    transform.fit(torch.from_numpy(data.training_table.properties[data.target][data.training_weight > 0]))
    try:
        write_predictor(folder / FITTED, fitted, About.here(predictor.name, data.target, data.reduce_cells, transform))
    except NotPortableError as error:
        log.warning("%s is not kept as a file: %s", predictor.name, error)


def check_predictors(predictors: Sequence[Predictor], taken: Collection[str]) -> None:
    """Accept the predictors of a wheel.

    Args:
        predictors: Those in the results, and those that label; with parts.
        taken: Names of other rows of results.

    Raises:
        ValueError: If a name cannot be that of a folder, or is that of two different predictors.
    """
    known: dict[str, Predictor] = {}
    for predictor in _with_parts(predictors):
        name = predictor.name
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a predictor: use words of letters, digits and . _ + -")
        if name in taken:
            raise ValueError(f"{name!r} is the name of other rows of results: give the predictor another name")
        if describe(known.setdefault(fitted_stage("", name), predictor)) != describe(predictor):
            raise ValueError(f"two different predictors have the name {name!r}: give one of them another name")


def _with_parts(predictors: Sequence[Predictor]) -> Iterator[Predictor]:
    for predictor in predictors:
        yield predictor
        yield from _with_parts(predictor.parts)


def _members(predictor: Predictor) -> range:
    return range(1, predictor.num_members + 1)
