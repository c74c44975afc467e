from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, WeightAveraging

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
    ours, theirs = averaged(tmp_path / "a", WeightAverage(0.8)), averaged(tmp_path / "b", EMAWeightAveraging(decay=0.8))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, theirs[name])
    other = averaged(tmp_path / "c", WeightAverage(0.1))
    assert any(not torch.allclose(value, other[name]) for name, value in ours.items())


def test_whole_numbers_are_kept(tmp_path: Path) -> None:
    callback = WeightAverage(0.9)
    average, current = [torch.tensor([5, 77, 3])], [torch.tensor([5, 77, 3])]
    callback._update(average, current, 1)
    assert average[0].tolist() == [5, 77, 3]
    averaged(tmp_path, callback)


def test_decay_is_checked() -> None:
    with pytest.raises(ValueError, match="decay must lie in"):
        WeightAverage(1.0)
