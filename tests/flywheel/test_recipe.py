"""What is copied of a trainer."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from matwheel.flywheel.recipe import recipe_of


def test_fewest_steps_are_carried_if_they_are_set(tmp_path: Path) -> None:
    carried = []
    for options in ({}, {"min_steps": 7}):
        checkpoint = ModelCheckpoint(tmp_path, monitor="val/mae")
        trainer = L.Trainer(accelerator="cpu", callbacks=[checkpoint], logger=False, max_epochs=3, **options)
        carried.append(recipe_of(trainer, Callback()).options)
    assert "min_steps" not in carried[0]
    assert carried[1] == {**carried[0], "min_steps": 7}


@pytest.mark.parametrize("options", [{"max_epochs": 0}, {"max_epochs": 3, "max_steps": 0}])
def test_a_trainer_that_trains_nothing_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/mae")
    trainer = L.Trainer(accelerator="cpu", callbacks=[checkpoint], logger=False, **options)
    with pytest.raises(ValueError, match=r"nothing is trained with max_epochs .* must be other than 0"):
        recipe_of(trainer, Callback())
