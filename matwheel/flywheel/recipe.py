"""How a trainer trains its model, as settings with which other models are trained alike."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    Callback,
    Checkpoint,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
)
from lightning.pytorch.cli import SaveConfigCallback

from matwheel.flywheel.stages import PredictorRecipe

_NOT_OF_RECIPE = (Checkpoint, ProgressBar, ModelSummary, LearningRateMonitor, SaveConfigCallback, BasePredictionWriter)
"""Callbacks that watch a training without changing it."""


def recipe_of(trainer: L.Trainer, wheel: Callback) -> PredictorRecipe:
    """How a trainer trains, as far as it changes the result.

    Args:
        trainer: Made for the fit of one predictor.
        wheel: The callback that trains others like it.

    Raises:
        ValueError: If its training leaves no checkpoint that could be evaluated.
    """
    options: Any = trainer  # Lightning does not declare all of these attributes
    if options.fast_dev_run:
        raise ValueError("fast_dev_run leaves no checkpoint for the flywheel to evaluate: lower max_epochs instead")
    if 0 in (trainer.max_epochs, trainer.max_steps):
        raise ValueError(
            f"nothing is trained with max_epochs {trainer.max_epochs} and max_steps {trainer.max_steps}, but the "
            "flywheel evaluates checkpoints: both must be other than 0"
        )
    checkpoint = trainer.checkpoint_callback
    if not isinstance(checkpoint, ModelCheckpoint):
        raise ValueError("the flywheel evaluates the best checkpoint: add a ModelCheckpoint with a monitor")
    if options.overfit_batches or trainer.val_check_interval != 1.0:
        raise ValueError(
            "the flywheel validates after whole epochs of all batches: leave out val_check_interval and overfit_batches"
        )
    names = [
        "max_epochs",
        "min_epochs",
        "max_steps",
        "gradient_clip_val",
        "accumulate_grad_batches",
        "check_val_every_n_epoch",
        "limit_train_batches",
        "limit_val_batches",
        "log_every_n_steps",
    ]
    if trainer.min_steps:  # keys of stages without it are as they were before it was carried
        names.append("min_steps")
    clipping = trainer.gradient_clip_algorithm
    return PredictorRecipe(
        monitor=checkpoint.monitor,
        mode=checkpoint.mode,
        callbacks=[_copied(c) for c in options.callbacks if not isinstance(c, _NOT_OF_RECIPE) and c is not wheel],
        options={
            **{name: getattr(trainer, name) for name in names},
            "gradient_clip_algorithm": clipping.value if clipping is not None else None,
        },
    )


def _copied(callback: Callback) -> Callback:
    """A copy without the logging functions that Lightning attaches, which would drag the whole trainer along."""
    state = vars(callback)
    attached = {name: state.pop(name) for name in list(state) if name in ("log", "log_dict")}
    try:
        return copy.deepcopy(callback)
    finally:
        state.update(attached)
