"""What the models' optimisers share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import lightning as L
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def check_learning_rate(learning_rate: float) -> None:
    """Refuse one with which nothing is learnt.

    Raises:
        ValueError: If it is not above 0.
    """
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be above 0 and finite, not {learning_rate}")


def may_fuse(module: L.LightningModule) -> bool:
    """Whether the fused optimiser serves a module: on a CPU, where a loop over tensors costs as much as gradients.

    Not in mixed precision, where Lightning cannot clip the gradients of fused optimisers.
    """
    return module.device.type == "cpu" and not isinstance(module.trainer.precision_plugin, MixedPrecision)


def decayed_groups(parameters: Iterable[nn.Parameter], learning_rate: float, decay: float) -> list[dict[str, Any]]:
    """Groups of an optimiser with weight decay on matrices; biases and norms are left alone."""
    every = list(parameters)
    return [
        {"params": [p for p in every if p.ndim > 1], "lr": learning_rate, "weight_decay": decay},
        {"params": [p for p in every if p.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]


def one_cycle(optimizer: Optimizer, trainer: L.Trainer) -> OptimizerLRScheduler:
    """Rise over the first tenth of all steps, then fall to nearly zero as a cosine.

    Args:
        optimizer: What is scheduled; the learning rates of its groups are the highest.
        trainer: Knows the number of steps.

    Raises:
        ValueError: If it does not.
    """
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise ValueError("the one_cycle schedule needs a known end: set trainer.max_epochs or max_steps")
    rise = 0.15 if steps == 10 else 0.1  # torch divides by the length of the rise less one step
    highest = [group["lr"] for group in optimizer.param_groups]
    cycle = _OneCycle(optimizer, highest, int(steps), pct_start=rise)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class _OneCycle(OneCycleLR):
    """Refuses at once to be continued in a training that goes on after its end, where it has no learning rate."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        end = state_dict["total_steps"]
        if end < self.total_steps:
            raise ValueError(
                f"the learning rate of the checkpoint ends after {end} steps, this training after {self.total_steps}: "
                f"end it there as well with --trainer.max_steps {end}, or start anew without --ckpt_path"
            )
        super().load_state_dict(state_dict)
