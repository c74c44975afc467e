"""What to generate: condition values and seeds, handed to the generator in chunks of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler


@dataclass
class SampleRequests:
    """A chunk of crystals to generate.

    Attributes:
        index: [n] int64, position in the whole set of requests.
        seed: [n] int64; a sample depends only on the model, its condition and its seed.
        conditions: [n, C] float32, the user's units.
    """

    index: Tensor
    seed: Tensor
    conditions: Tensor

    def take(self, rows: list[int] | Tensor) -> SampleRequests:
        """Some of the requests, by position in this chunk."""
        return SampleRequests(self.index[rows], self.seed[rows], self.conditions[rows])


class _Chunks(Dataset[SampleRequests]):
    """Requests in chunks that depend on their index alone, whichever of them are missing; a process's turns."""

    def __init__(self, requests: SampleRequests, size: int, rank: int, num_processes: int) -> None:
        self.requests = requests
        self.number = requests.index // size
        self.numbers = torch.unique(self.number).tolist()[rank::num_processes]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, position: int) -> SampleRequests:
        return self.requests.take(torch.nonzero(self.number == self.numbers[position]).flatten())


class ConditionDataModule(L.LightningDataModule):
    """Requests for a generator's `predict`.

    Args:
        values: Condition values in the user's units: one row per sample (`[n, C]`), or one row to be repeated; `.nan`
            for a condition that is left to the generator, if it was trained so.
        num_samples: How many crystals; a single row of `values` is repeated, several are taken in turn.
        seed: Sample i uses the seed `seed + i`, whatever the chunk, process or device it is generated in.
        chunk_size: Crystals generated at a time. Chunk k has the indices from k times this number on; several processes
            take turns with whole chunks, so that the numbers are the same whoever computes them.
    """

    def __init__(
        self,
        values: list[list[float]],
        num_samples: int = 64,
        seed: int = 0,
        chunk_size: int = 64,
    ) -> None:
        super().__init__()
        conditions = torch.tensor(values, dtype=torch.float32)
        if conditions.ndim != 2 or not len(conditions):
            raise ValueError(
                "give the conditions as a list of rows, one value per condition, for example [[5.0]] or "
                f"[[5.0], [20.0]]; got {values!r:.100}"
            )
        if num_samples < 1 or chunk_size < 1:
            raise ValueError(f"num_samples ({num_samples}) and chunk_size ({chunk_size}) must be at least 1")
        if conditions.isinf().any():
            raise ValueError("a condition value is infinite")
        num_samples = int(num_samples)  # one of numpy would overflow
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, not {seed}")
        if seed > 2**63 - num_samples:
            raise ValueError(f"the seeds {seed} to {seed + num_samples - 1} exceed 64 bits: give another one")
        index = torch.arange(num_samples)
        self.requests = SampleRequests(index, seed + index, conditions[index % len(conditions)])
        self.chunk_size = chunk_size
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def predict_dataloader(self) -> DataLoader[SampleRequests]:
        """Chunks of requests in order, those of this process; there may be none."""
        rank, size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        chunks = _Chunks(self.requests, self.chunk_size, rank, size)
        # Lightning's own sampler wants a chunk for every process; this one it leaves alone.
        sampler: DistributedSampler[SampleRequests] = DistributedSampler(chunks, num_replicas=1, rank=0, shuffle=False)
        return DataLoader(chunks, batch_size=1, sampler=sampler, collate_fn=_only)


def _only(chunks: Any) -> Any:
    (chunk,) = chunks
    return chunk
