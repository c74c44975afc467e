"""How processes share batches."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sized

import lightning as L
import torch
from torch.utils.data.distributed import DistributedSampler


class Shares(DistributedSampler[int]):
    """Each process's share of every batch: the processes take turns, so that together they see the same batches as one.

    Unlike in torch's own, every item occurs once. Only where the last batch has fewer items than there are processes
    are the first ones repeated, since no process may be left without.

    Args:
        items: What is shared.
        batch_size: Items per process and step.
        num_processes: How many share.
        process: Whose share this is.
        shuffle: Draw a new order for every epoch, from `seed` and the epoch's number.
    """

    def __init__(
        self, items: Sized, batch_size: int, num_processes: int = 1, process: int = 0, shuffle: bool = False
    ) -> None:
        # As Lightning seeds its own samplers: with what `seed_everything` was given.
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        super().__init__(items, num_processes, process, shuffle, seed)  # type: ignore[arg-type]
        self.count = len(items)
        rest = self.count % (batch_size * num_processes)
        self.total_size = self.count + (num_processes - rest if 0 < rest < num_processes else 0)
        self.num_samples = len(range(process, self.total_size, num_processes))

    def __iter__(self) -> Iterator[int]:
        order = torch.arange(self.count)
        if self.shuffle:
            order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.seed + self.epoch))
        places = torch.arange(self.rank, self.total_size, self.num_replicas)
        return iter(order[places % self.count].tolist())

    @classmethod
    def of(cls, trainer: L.Trainer | None, items: Sized, batch_size: int, shuffle: bool = False) -> tuple[Shares, int]:
        """The share of a trainer's process, and the size of its batches.

        Args:
            trainer: None for one process.
            items: What is shared.
            batch_size: Items of all processes per step.
            shuffle: See the class.
        """
        processes, process = (trainer.world_size, trainer.global_rank) if trainer is not None else (1, 0)
        own = math.ceil(batch_size / processes)
        return cls(items, own, processes, process, shuffle), own
