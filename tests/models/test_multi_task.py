"""Several properties at once."""

from pathlib import Path

import pytest
import torch
from torch import nn

from matwheel.models.checkpoints import load_weights
from matwheel.models.multi_task import MultiTaskPredictor, start_from
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
from tests.models.toys import ToyData, quiet_trainer, toy_crystals


def make_learner(num_tasks: int = 2) -> tuple[PropertyPredictor, MultiTaskPredictor]:
    torch.manual_seed(0)
    predictor = PropertyPredictor(CGCNN(hidden_dim=8, num_convs=1, head_dim=8), learning_rate=3e-2)
    return predictor, MultiTaskPredictor(predictor, num_tasks)


def make_data(known: list[list[bool]]) -> ToyData:
    """Toy crystals whose labels are known where it says."""
    data = ToyData(toy_crystals(len(known)))
    data.values = torch.where(torch.tensor(known), data.values, torch.nan)
    return data


def test_only_what_is_known_counts() -> None:
    _, learner = make_learner()
    data = make_data([[True, False], [False, True], [True, True], [False, False]])
    learner.transforms[0].fit(data.values[:, 0])
    learner.transforms[1].fit(data.values[:, 1])
    learner.eval()
    loss, count = learner._loss(data.batch([0, 1, 2, 3]))
    assert count == 4
    expected = []
    for task in range(2):
        rows = [row for row in range(4) if torch.isfinite(data.values[row, task])]
        batch = data.batch(rows)
        scaled = learner.readouts[task](learner.network.represent(batch)).squeeze(1)
        expected.append((scaled - learner.transforms[task](batch.conditions[:, task])).abs().sum())
    torch.testing.assert_close(loss, sum(expected) / 4)
    loss, count = learner._loss(data.batch([3]))
    assert (float(loss), count) == (0.0, 0)


def test_the_body_learns_and_a_predictor_starts_from_it(tmp_path: Path) -> None:
    predictor, learner = make_learner()
    data = make_data([[row % 2 == 0, row % 3 == 0] for row in range(12)])
    trainer = quiet_trainer(max_epochs=40, default_root_dir=tmp_path)
    before = float(learner._loss(data.batch(list(range(12))))[0])
    trainer.fit(learner, data)
    learner.eval()
    assert float(learner._loss(data.batch(list(range(12))))[0]) < before / 2
    trainer.save_checkpoint(tmp_path / "body.ckpt")

    start_from(predictor, tmp_path / "body.ckpt")
    for own, trained in zip(predictor.network.parameters(), learner.network.parameters(), strict=True):
        assert torch.equal(own, trained)
    untrained, _ = make_learner()
    assert torch.equal(predictor.network.output.weight, untrained.network.output.weight)
    assert not torch.equal(predictor.network.embedding.weight, untrained.network.embedding.weight)
    assert not predictor.transform.fitted

    other = PropertyPredictor(CGCNN(hidden_dim=4, num_convs=1, head_dim=8))
    with pytest.raises(ValueError, match=r"body.ckpt does not hold the weights of this network"):
        start_from(other, tmp_path / "body.ckpt")
    with pytest.raises(ValueError, match="checkpoint of MultiTaskPredictor, not of PropertyPredictor"):
        load_weights(predictor, tmp_path / "body.ckpt")


def test_a_network_without_a_body_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a network with a body and a readout, a TransferNetwork, not Linear"):
        MultiTaskPredictor(PropertyPredictor(nn.Linear(1, 1)), 2)
