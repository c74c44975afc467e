"""How processes share batches."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sized

import lightning as L
import torch
from torch.utils.data.distributed import DistributedSampler


class Shares(DistributedSampler[list[int]]):
    """Each process's share of every batch: the processes take turns, so that together they see the same batches as one.

    Unlike torch's own it yields batches, and every item occurs once. Only where the last batch has fewer items than
    there are processes are some of them repeated, since no process may be left without.

    Args:
        items: What is shared.
        batch_size: Items of all processes per step.
        num_processes: How many share.
        process: Whose share this is.
        shuffle: Draw a new order for every epoch, from `seed` and the epoch's number.

    Raises:
        ValueError: If a batch has fewer items than there are processes.
    """

    def __init__(
        self, items: Sized, batch_size: int, num_processes: int = 1, process: int = 0, shuffle: bool = False
    ) -> None:
        if batch_size < num_processes:
            raise ValueError(
                f"{num_processes} processes cannot share batches of {batch_size}: take fewer devices, or a batch_size "
                f"of at least {num_processes}"
            )
        # As Lightning seeds its own samplers: with what `seed_everything` was given.
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        super().__init__(items, num_processes, process, shuffle, seed)  # type: ignore[arg-type]
        self.count = len(items)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.count)
        if self.shuffle:
            order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.seed + self.epoch))
        for start in range(0, self.count, self.batch_size):
            batch: list[int] = order[start : start + self.batch_size].tolist()
            yield batch[self.rank :: self.num_replicas] or [batch[self.rank % len(batch)]]

    @classmethod
    def of(cls, trainer: L.Trainer | None, items: Sized, batch_size: int, shuffle: bool = False) -> Shares:
        """The share of a trainer's process, for a `DataLoader` with this as its sampler and `batch_size` None.

        Args:
            trainer: None for one process.
            items: What is shared.
            batch_size: Items of all processes per step.
            shuffle: See the class.

        Raises:
            ValueError: If a batch has fewer items than there are processes.
        """
        processes, process = (trainer.world_size, trainer.global_rank) if trainer is not None else (1, 0)
        return cls(items, batch_size, processes, process, shuffle)
