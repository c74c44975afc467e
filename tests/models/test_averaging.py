from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, WeightAveraging
from lightning.pytorch.strategies import SingleDeviceStrategy

from matwheel.models.averaging import WeightAverage
from tests.models.toys import ToyData, quiet_trainer, toy_vae


def averaged(folder: Path, callback: WeightAveraging) -> dict[str, torch.Tensor]:
    model, checkpoint = toy_vae(), ModelCheckpoint(folder, "last")
    torch.manual_seed(0)
    trainer = quiet_trainer(
        max_epochs=3, enable_checkpointing=True, limit_val_batches=0, callbacks=[callback, checkpoint]
    )
    trainer.fit(model, datamodule=ToyData())
    state = torch.load(checkpoint.best_model_path, weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def test_equals_the_average_of_lightning_in_all_that_is_not_whole_numbers(tmp_path: Path) -> None:
    ours, theirs = averaged(tmp_path / "a", WeightAverage(0.1)), averaged(tmp_path / "b", EMAWeightAveraging(decay=0.1))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, theirs[name])
    other = averaged(tmp_path / "c", WeightAverage(0.8))
    assert any(not torch.allclose(value, other[name]) for name, value in ours.items())


def test_the_weights_before_training_are_forgotten() -> None:
    callback, average = WeightAverage(0.99), [torch.zeros(3)]
    for step in range(1, 101):
        callback._update(average, [torch.ones(3)], torch.tensor(step))
    assert average[0].min() > 0.999
    callback._update(average, [torch.zeros(3)], torch.tensor(1000))
    assert average[0].min() == pytest.approx(0.99, abs=1e-3)


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
