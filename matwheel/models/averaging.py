"""Validation and checkpoints with the average of the last steps' weights."""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class WeightAverage(WeightAveraging):
    """Exponential moving average of the weights after each step, those before training left out.

    After n steps the weights of step i count in proportion to decay^(n - i), and sum to 1 (the correction of Adam,
    arXiv 1412.6980, section 3). In the usual average the untrained weights count decay^n: a third with 0.99 and the
    100 steps that a few dozen crystals allow.

    Unlike Lightning's `EMAWeightAveraging` it also leaves buffers of whole numbers, such as the classes of a condition,
    as they are (an average would round them down), and it updates all tensors together, at a tenth of the cost.

    Args:
        decay: Weight of a step against that of the next one.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), not {decay}")
        super().__init__(use_buffers=True, multi_avg_fn=self._update)
        self.decay = decay

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average where the model trains: Lightning makes it before the model is moved there."""
        assert self._average_model is not None
        self._average_model.module.to(pl_module.device)

    @torch.no_grad()
    def _update(self, average: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        """Put the weights of one more step into the average of the first `steps`."""
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, (1 - self.decay) / (1 - self.decay ** (int(steps) + 1)))
        else:
            torch._foreach_copy_(average, current)


def replace_averages(trainer: L.Trainer, model: L.LightningModule) -> None:
    """Forget what a trainer has averaged: what it validates and saves is the model as it is now."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        average = callback._average_model if isinstance(callback, WeightAveraging) else None
        if average is not None:
            average.module.load_state_dict(model.state_dict())
