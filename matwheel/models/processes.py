"""What keeps training the same for any number of processes: a crystal's random numbers, and its weight in a step."""

from __future__ import annotations

import lightning as L
import torch
from jaxtyping import Int
from torch import Tensor

from matwheel.seeded import derive_seeds


def step_seeds(trainer: L.Trainer, count: int, device: torch.device) -> Int[Tensor, " count"]:
    """Seeds for the crystals of a training step, by their places in the whole batch.

    Processes take turns in it (`matwheel.data.shares`), and their torch generators must be seeded alike.

    Args:
        trainer: Knows the processes.
        count: Crystals of this process.
        device: Where the seeds are wanted.
    """
    step = torch.randint(2**63 - 1, (1,))
    place = trainer.global_rank + trainer.world_size * torch.arange(count)
    return derive_seeds(step, place).to(device)


def weight_of_share(trainer: L.Trainer, count: int) -> Tensor | float:
    """Factor of this process's mean loss.

    The gradient, averaged over processes, becomes that of the mean over the whole batch, also where they share the last
    batch of an epoch unevenly.

    Args:
        trainer: Knows the processes.
        count: Crystals, or labels, of this process.
    """
    if trainer.world_size == 1:
        return 1.0
    own = torch.tensor(float(count), device=trainer.strategy.root_device)
    total = trainer.strategy.reduce(own.clone(), reduce_op="sum")
    return own * trainer.world_size / total.clamp_min(1)  # a step may have no known label at all
