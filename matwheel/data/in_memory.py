"""A data module of labelled crystals that are in memory."""

from __future__ import annotations

import numpy as np
import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.module import CrystalDataModule
from matwheel.data.rows import RowReport
from matwheel.data.splits import SplitRows

_TARGET = "target"


class InMemoryDataModule(CrystalDataModule):
    """Crystals to train and to validate on, as they are; their graphs are not cached.

    Args:
        training: n crystals; repeats are allowed.
        target: [n], user's units.
        weight: [n], of each crystal in the loss.
        validation: m crystals.
        validation_target: [m], user's units.
        batch_size: See `CrystalDataModule`.
        cutoff: A, see `CrystalDataModule`.
        max_neighbours: See `CrystalDataModule`.
    """

    def __init__(
        self,
        training: CrystalTable,
        target: FloatArray,
        weight: FloatArray,
        validation: CrystalTable,
        validation_target: FloatArray,
        batch_size: int = 64,
        cutoff: float = 8.0,
        max_neighbours: int = 20,
    ) -> None:
        super().__init__("", _TARGET, cutoff=cutoff, max_neighbours=max_neighbours, batch_size=batch_size)
        train, val = np.arange(len(training)), len(training) + np.arange(len(validation))
        values = np.concatenate([target, validation_target])
        self.table = CrystalTable.concatenate([training, validation]).with_properties(**{_TARGET: values})
        self.target, self.conditions = _TARGET, [_TARGET]
        self.report = RowReport(self.dataset, len(self.table))
        self.split_rows = SplitRows(train, val, np.zeros(0, dtype=np.int64), train)
        self._real = CrystalGraphs.build(self.table, cutoff, max_neighbours)
        self.use_training()
        self._per_crystal["weight"][: len(train)] = torch.from_numpy(weight).float()

    def prepare_data(self) -> None:
        """Nothing: all is in memory."""
