"""A network beside the trainer's own model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from matwheel.flywheel.stages import FitSettings
from matwheel.flywheel.trainers import StageTrainers
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
from matwheel.predictors.graph_network import GraphNetwork
from matwheel.predictors.network import FIT, NETWORK, NetworkPredictor
from matwheel.predictors.predictor import Fitting, Labelled
from tests.models.toys import toy_crystals


def make_predictor() -> NetworkPredictor:
    torch.manual_seed(0)
    model = PropertyPredictor(CGCNN(hidden_dim=8, num_convs=1, head_dim=8), learning_rate=3e-2)
    settings = FitSettings(max_epochs=40, batch_size=8, gradient_clip_val=None, monitor="val/mae", ema_decay=0.5)
    return NetworkPredictor(model, "small", settings)


def labelled(count: int, seed: int, weight: float = 1.0) -> Labelled:
    table = toy_crystals(count, seed)
    starts = table.offsets[:-1]
    target = np.exp(np.add.reduceat(table.atomic_numbers, starts) / table.num_atoms / 10)
    return Labelled(table, target, np.full(count, weight))


def test_it_learns_and_a_second_fit_reads_what_the_first_left(tmp_path: Path) -> None:
    predictor, training, validation = make_predictor(), labelled(40, 0), labelled(12, 1)
    before = [p.clone() for p in predictor.model.parameters()]
    context = Fitting(0, tmp_path, StageTrainers())
    fitted = predictor.fit(training, validation, context)
    predicted = fitted(validation.table)
    error = np.abs(predicted - validation.target).mean()
    assert error < 0.5 * np.abs(np.median(training.target) - validation.target).mean()
    metrics = json.loads((tmp_path / NETWORK / FIT).read_text())
    assert metrics["best"] == pytest.approx(error, rel=1e-4)
    assert all(torch.equal(p, q) for p, q in zip(predictor.model.parameters(), before, strict=True))

    np.testing.assert_array_equal(predictor.fit(training, validation, context)(validation.table), predicted)
    assert json.loads((tmp_path / NETWORK / FIT).read_text()) == metrics
    np.testing.assert_allclose(fitted(validation.table.take([3, 1])), predicted[[3, 1]], rtol=1e-5)


def test_it_predicts_on_the_hardware_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, context = make_predictor(), Fitting(0, tmp_path, StageTrainers())
    monkeypatch.setattr(StageTrainers, "device", torch.device("meta"))
    fitted = NetworkPredictor(predictor.model, "small", FitSettings(max_epochs=1, monitor=None)).fit(
        labelled(8, 0), labelled(4, 1), context
    )
    assert isinstance(fitted, GraphNetwork)
    assert fitted.model.device.type == "meta"


def test_crystals_of_no_weight_teach_nothing(tmp_path: Path) -> None:
    predictor, validation = make_predictor(), labelled(8, 1)
    one = labelled(16, 0)
    wrong = Labelled(one.table, one.target[::-1].copy(), np.r_[np.ones(8), np.zeros(8)])
    right = Labelled(one.table, np.r_[wrong.target[:8], np.full(8, wrong.target[8:].mean())], wrong.weight)
    settings = FitSettings(max_epochs=2, batch_size=16, gradient_clip_val=None, monitor="val/mae")
    predictor = NetworkPredictor(PropertyPredictor(predictor.model.network, loss="mse"), "small", settings)
    predictor.model.transform.kind = "none"  # the transform is fitted to all
    predictions = []
    for number, training in enumerate((wrong, right)):
        fitted = predictor.fit(training, validation, Fitting(0, tmp_path / str(number), StageTrainers()))
        predictions.append(fitted(validation.table))
    np.testing.assert_allclose(*predictions, rtol=1e-5)
