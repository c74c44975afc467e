"""The progress of Lightning's trainers, shown like all other progress."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from matwheel.progress import progress_bar


class TrainingProgress(ProgressBar):
    """Shows the steps of a training over all its epochs, or the batches of an evaluation, with rate and time left.

    Args:
        label: What is trained; what the trainer does by default.
    """

    def __init__(self, label: str | None = None) -> None:
        super().__init__()
        self.label = label
        self._shown = True
        self._bar = progress_bar("", None, "", shown=False)

    def enable(self) -> None:
        """Show it."""
        self._shown = True

    def disable(self) -> None:
        """Do not show it; Lightning calls this in all processes but the first."""
        self._shown = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the step where the training begins or goes on."""
        total = trainer.estimated_stepping_batches
        self._open("training", total if math.isfinite(total) else None, "step", trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Count the step."""
        self._bar.update(trainer.global_step - self._bar.n)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show epoch and metrics."""
        metrics = {name: value for name, value in self.get_metrics(trainer, pl_module).items() if name != "v_num"}
        self._bar.set_postfix({"epoch": trainer.current_epoch + 1, **metrics}, refresh=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove it."""
        self._bar.close()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the batches, unless a training is validated."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._open("validation", sum(trainer.num_val_batches), "batch")

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Count the batch."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._bar.update()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove it."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._bar.close()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the batches."""
        self._open("test", sum(trainer.num_test_batches), "batch")

    def on_test_batch_end(self, *_: Any) -> None:
        """Count the batch."""
        self._bar.update()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove it."""
        self._bar.close()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the batches."""
        self._open("prediction", sum(trainer.num_predict_batches), "batch")

    def on_predict_batch_end(self, *_: Any) -> None:
        """Count the batch."""
        self._bar.update()

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove it."""
        self._bar.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove it."""
        self._bar.close()

    def _open(self, what: str, total: float | None, unit: str, initial: int = 0) -> None:
        self._bar.close()
        self._bar = progress_bar(self.label or what, total, unit, self._shown, initial)
