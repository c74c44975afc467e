from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.flywheel.generation import LearnedGeneration
from matwheel.flywheel.labels import Labeller, Teacher
from matwheel.flywheel.ledger import Ledger
from matwheel.flywheel.processes import Processes
from matwheel.flywheel.run import Run
from matwheel.flywheel.trainers import StageTrainers
from matwheel.flywheel.turn import Turn
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.predictors.ensemble import Ensemble
from matwheel.predictors.median import Median
from matwheel.predictors.predictor import Predictor
from tests.models.toys import toy_crystals, toy_vae


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


def test_latents_are_computed_on_the_hardware_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(generator: LatentPrior, data: Any) -> None:
        assert generator.device.type == "meta"
        raise StopIteration

    monkeypatch.setattr("matwheel.flywheel.turn.load_weights", lambda *_: None)
    monkeypatch.setattr("matwheel.flywheel.turn.latents_predictor", note)
    monkeypatch.setattr(StageTrainers, "device", torch.device("meta"))
    generation = object.__new__(LearnedGeneration)
    generation.recipe = SimpleNamespace(prior=KernelPrior(toy_vae()))  # type: ignore[assignment]
    vars(generation)["prior"] = SimpleNamespace(folder=tmp_path, key="prior")
    scenario: Any = SimpleNamespace(known=None, known_key="crystals", generator_labels="true")
    settings: Any = SimpleNamespace(model=PropertyPredictor(torch.nn.Linear(1, 1)))
    with Ledger(tmp_path) as ledger:
        turn = Turn(Run(ledger, StageTrainers(), 0), scenario, settings)
        turn._generations["true"] = generation
        with pytest.raises(StopIteration):
            turn.reuse("latents")
