"""Data of the latent prior: the latents of crystals, encoded once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Batch

from matwheel.data.crystal import FloatArray, IntArray
from matwheel.data.module import CrystalDataModule, TrainingStatistics
from matwheel.data.shares import Shares


class LatentBatch(NamedTuple):
    """Latents of n crystals.

    Attributes:
        latents: [n, D].
        conditions: [n, C], user's units.
        position: [n] int64, place in the set.
        row: [n] int64, row in the table of the crystals' data module, to find the id.
    """

    latents: Tensor
    conditions: Tensor
    position: Tensor
    row: Tensor


class LatentEncoder(Protocol):
    """A model whose encoder does not change while it trains."""

    @property
    def device(self) -> torch.device:
        """Where it is."""
        ...

    def encode(self, batch: Batch) -> Tensor:
        """[B, D], the latents of crystals."""


class LatentDataModule(L.LightningDataModule):
    """Latents of the crystals of a data module, for training a model behind a frozen encoder.

    The crystals are encoded when the loaders are made, that is once per fit and on the accelerator. An epoch then costs
    no more than the small model that is trained.

    Args:
        crystals: Where the crystals come from.
        batch_size: Latents per step of the optimiser, divided among the processes.
    """

    def __init__(self, crystals: CrystalDataModule, batch_size: int = 64) -> None:
        super().__init__()
        self.crystals = crystals
        self.batch_size = batch_size

    @property
    def conditions(self) -> list[str]:
        """Names of the conditions."""
        return self.crystals.conditions

    def prepare_data(self) -> None:
        """Build the graph cache."""
        self.crystals.prepare_data()

    def setup(self, stage: str) -> None:
        """Load the crystals."""
        self.crystals.setup(stage)

    def training_crystals(self) -> Iterable[Batch]:
        """The training crystals themselves, in order."""
        return self.crystals.ordered_dataloader(self.crystals.train_rows)

    def training_ids(self) -> list[str]:
        """Names of the training crystals, in order."""
        return self.crystals.ids(torch.from_numpy(self.crystals.train_rows))

    def ids(self, rows: Tensor) -> list[str]:
        """Names of the crystals of a batch (its `row`)."""
        return self.crystals.ids(rows)

    def training_statistics(self) -> TrainingStatistics:
        """Statistics of the crystals trained on."""
        return self.crystals.training_statistics()

    def train_dataloader(self) -> DataLoader[LatentBatch]:
        """Shuffled latents of the training crystals."""
        return self._loader(self._encoded(self.crystals.train_rows), shuffle=True)

    def val_dataloader(self) -> DataLoader[LatentBatch]:
        """Latents of the validation crystals."""
        return self._loader(self._encoded(self.crystals.val_rows))

    def test_dataloader(self) -> DataLoader[LatentBatch]:
        """Latents of the test crystals."""
        return self._loader(self._encoded(self.crystals.test_rows))

    def _encoded(self, rows: IntArray) -> LatentBatch:
        if self.trainer is None:
            raise RuntimeError("latents are encoded by the model of a Trainer: give this data module to one")
        position = torch.arange(len(rows))
        if not len(rows):  # a split may do without validation
            return LatentBatch(torch.zeros(0, 0), torch.zeros(0, len(self.conditions)), position, position)
        encoder = cast(LatentEncoder, self.trainer.lightning_module)
        latents, conditions = [], []
        for batch in self.crystals.ordered_dataloader(rows):
            latents.append(encoder.encode(batch.to(encoder.device)).cpu())
            conditions.append(batch.conditions.cpu())
        return LatentBatch(torch.cat(latents), torch.cat(conditions), position, torch.from_numpy(rows))

    def _loader(self, latents: LatentBatch, shuffle: bool = False) -> DataLoader[LatentBatch]:
        assert self.trainer is not None
        dataset = _Latents(latents)
        shares = Shares.of(self.trainer, dataset, self.batch_size, shuffle)
        return DataLoader(dataset, batch_size=None, sampler=shares, collate_fn=_identity)


def latent_features(encoder: LatentEncoder, batches: Iterable[Batch]) -> FloatArray:
    """What a trained generator makes of crystals, as features for other models, such as trees.

    Args:
        encoder: A `LatentPrior`, which holds the autoencoder.
        batches: n crystals in order, such as `CrystalDataModule.predict_dataloader()`.

    Returns:
        [n, D], the means of their latents.
    """
    latents = [encoder.encode(batch.to(encoder.device)).double().cpu().numpy() for batch in batches]
    features: FloatArray = np.concatenate(latents)
    return features


class _Latents(Dataset[LatentBatch]):
    def __init__(self, latents: LatentBatch) -> None:
        self.latents = latents

    def __len__(self) -> int:
        return len(self.latents.position)

    def __getitem__(self, positions: list[int]) -> LatentBatch:
        return LatentBatch(*(column[positions] for column in self.latents))


def _identity(batch: Any) -> Any:
    return batch
