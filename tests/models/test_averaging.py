from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.strategies import SingleDeviceStrategy

from matwheel.models.averaging import WeightAverage
from tests.models.toys import ToyData, quiet_trainer, toy_vae


def averaged(folder: Path, *callbacks: Callback) -> dict[str, torch.Tensor]:
    model, checkpoint = toy_vae(), ModelCheckpoint(folder, "last")
    torch.manual_seed(0)
    trainer = quiet_trainer(
        max_epochs=3, enable_checkpointing=True, limit_val_batches=0, callbacks=[*callbacks, checkpoint]
    )
    trainer.fit(model, datamodule=ToyData())
    state = torch.load(checkpoint.best_model_path, weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


class Steps(Callback):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        state = {name: value for name, value in pl_module.state_dict().items() if isinstance(value, torch.Tensor)}
        self.states.append({name: value.clone() for name, value in state.items()})


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_weights_fall_by_the_decay_and_those_before_training_have_none(tmp_path: Path, decay: float) -> None:
    steps = Steps()
    average = averaged(tmp_path, WeightAverage(decay), steps)
    weights = decay ** torch.arange(len(steps.states)).flip(0).double()
    assert len(weights) > 2
    for name, value in average.items():
        if value.is_floating_point():
            each = torch.stack([state[name] for state in steps.states]).double()
            expected = torch.tensordot(weights / weights.sum(), each, 1)
            torch.testing.assert_close(value, expected.to(value), rtol=1e-5, atol=1e-6)


def test_becomes_the_average_of_lightning(tmp_path: Path) -> None:
    ours, theirs = (
        averaged(tmp_path / "a", WeightAverage(0.01)),
        averaged(tmp_path / "b", EMAWeightAveraging(decay=0.01)),
    )
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, theirs[name])


def test_no_decay_is_the_last_step(tmp_path: Path) -> None:
    steps = Steps()
    average = averaged(tmp_path, WeightAverage(0), steps)
    assert all(torch.equal(value, steps.states[-1][name]) for name, value in average.items())


def test_whole_numbers_are_kept(tmp_path: Path) -> None:
    callback = WeightAverage(0.9)
    average, current = [torch.tensor([5, 77, 3])], [torch.tensor([5, 77, 3])]
    callback._update(average, current, 1)
    assert average[0].tolist() == [5, 77, 3]
    averaged(tmp_path, callback)


class OnMeta(SingleDeviceStrategy):
    """Moves the model away from the CPU, as that of an accelerator does."""

    def model_to_device(self) -> None:
        assert self.model is not None
        self.model.to("meta")

    def teardown(self) -> None:
        """There is no way back."""


class Started(Callback):
    """Ends the training at its start."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        raise StopIteration


def test_the_average_is_where_the_model_trains() -> None:
    average, strategy = WeightAverage(), OnMeta(device=torch.device("cpu"))
    with pytest.raises(StopIteration):
        quiet_trainer(callbacks=[average, Started()], strategy=strategy).fit(toy_vae(), datamodule=ToyData())
    assert average._average_model is not None
    state = average._average_model.module.state_dict().values()
    assert {value.device.type for value in state if isinstance(value, torch.Tensor)} == {"meta"}


def test_decay_is_checked() -> None:
    with pytest.raises(ValueError, match="decay must lie in"):
        WeightAverage(1.0)
