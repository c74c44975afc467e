from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.flywheel.labels import Labeller, Teacher
from matwheel.flywheel.ledger import Ledger
from matwheel.flywheel.processes import Processes
from matwheel.flywheel.run import Run
from matwheel.flywheel.trainers import StageTrainers
from matwheel.flywheel.turn import Turn
from matwheel.predictors.ensemble import Ensemble
from matwheel.predictors.median import Median
from matwheel.predictors.predictor import Predictor
from tests.models.toys import toy_crystals


class Asking(Labeller):
    """Asks its predictor."""

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        self.predictors = predictors

    def label(self, crystals: CrystalTable, teacher: Teacher) -> FloatArray:
        teacher.fitted(self.predictors[0])
        return np.ones(len(crystals))


@pytest.mark.parametrize(("predictor", "asked"), [(Median(), [True]), (Ensemble(2), [True, False])])
def test_the_first_process_asks_alone_unless_networks_answer(
    tmp_path: Path, predictor: Predictor, asked: list[bool]
) -> None:
    table, told, asked_in = toy_crystals(6), [], []
    known = SimpleNamespace(table=table, target="dielectric", training_table=table)
    scenario: Any = SimpleNamespace(
        known=known, known_key="crystals", train_rows=np.arange(6), real_arm="F", changes=lambda arm: False
    )
    settings: Any = SimpleNamespace(pseudo_labeller=Asking([predictor]))

    def tell(value: Any) -> Any:
        told.append(value)
        return value

    first = Processes(is_first=True, barrier=lambda: None, broadcast=tell)
    other = Processes(is_first=False, barrier=lambda: None, broadcast=lambda value: told.pop(0))
    for processes in (first, other):
        with Ledger(tmp_path, processes) as ledger:
            turn = Turn(Run(ledger, StageTrainers(), 0), scenario, settings)
            fits: Any = SimpleNamespace(
                stage=lambda one, arm: SimpleNamespace(key=one.name),
                fitted=lambda one, arm, is_first=processes.is_first: asked_in.append(is_first),
            )
            vars(turn)["fits"] = fits
            assert turn.pseudo_labels.tolist() == [1] * 6
    assert asked_in == asked
    assert told == []
