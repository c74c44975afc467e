"""Pre-training of a generator on crystals of other data sets, whose labels are not used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from matwheel.data.catalogue import load
from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.module import CrystalDataModule
from matwheel.data.rows import BadRow
from matwheel.flywheel.other_crystals import OtherCrystals, held_out, parts_of, repeated
from matwheel.flywheel.stages import FitSettings

EMBEDDED = ("elastic_tensor_2015", "piezoelectric_tensor", "flla_2015")


class UnlabelledDataModule(OtherCrystals):
    """Crystals of several data sets, each once, without labels.

    All conditions are missing (NaN). Crystals of a data set that is held out are left out by reduced formula: no other
    structure of the same composition is kept either. Of crystals with one formula and the same volume per atom within
    3 %, the first is kept. The report counts what was left out, and why.

    Args:
        datasets: Names from the catalogue, or paths of tables; those embedded in the package by default.
        held_out: Name or path of the data set that the generator will be trained on afterwards.
        conditions: Names of the generator's conditions; needed where there are several.
        data_dir: See `CrystalDataModule`.
        validation: Fraction of the crystals for validation.
        seed: Chooses them.
        reduce_cells: See `CrystalDataModule`.
        max_sites: See `CrystalDataModule`.
        cutoff: A, see `CrystalDataModule`.
        max_neighbours: See `CrystalDataModule`.
        batch_size: Crystals per step of the optimiser, divided among the processes.
        num_workers: See `CrystalDataModule`.
        cache_dir: See `CrystalDataModule`.
    """

    def __init__(
        self,
        datasets: Sequence[str] = EMBEDDED,
        held_out: str | None = None,
        conditions: list[str] | None = None,
        data_dir: Path | None = None,
        validation: float = 0.05,
        seed: int = 0,
        reduce_cells: bool = True,
        max_sites: int = 64,
        cutoff: float = 8.0,
        max_neighbours: int = 20,
        batch_size: int = 64,
        num_workers: int = 0,
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__(
            datasets,
            conditions if conditions is not None else ["label"],
            data_dir,
            validation,
            seed,
            reduce_cells,
            max_sites,
            cutoff,
            max_neighbours,
            batch_size,
            num_workers,
            cache_dir,
        )
        self.held_out = held_out

    def _properties(self, name: str, table: CrystalTable) -> dict[str, FloatArray]:
        return dict.fromkeys(self.conditions_option or [], np.full(len(table), np.nan))

    def _not_used(self, table: CrystalTable) -> list[BadRow]:
        if self.held_out is not None:
            self._parts[self.held_out] = load(self.held_out, self.data_dir).table
        bad = held_out(table, self._parts)
        return bad + repeated(table, bad)


@dataclass(frozen=True)
class Pretraining:
    """Pre-training of the generator in a flywheel, without any label.

    Crystals with the formula of any crystal of the wheel's own table, whatever its part, are left out, and so are those
    with more atoms per cell than any of them: the result is the same for all splits of it.

    Attributes:
        datasets: Names from the catalogue, or paths of tables.
        fit: How the generator is trained on them.
    """

    datasets: Sequence[str] = EMBEDDED
    fit: FitSettings = field(default_factory=lambda: FitSettings(max_epochs=15, batch_size=32, ema_decay=0.99))

    def data(self, known: CrystalDataModule) -> UnlabelledDataModule:
        """The crystals to pre-train on, as graphs like those of the wheel's own.

        Args:
            known: The wheel's own crystals, loaded.
        """
        data = UnlabelledDataModule(
            self.datasets,
            conditions=known.conditions,
            data_dir=known.data_dir,
            reduce_cells=known.reduce_cells,
            max_sites=int(known.table.num_atoms.max()),
            cutoff=known.cutoff,
            max_neighbours=known.max_neighbours,
            batch_size=self.fit.batch_size,
            num_workers=known.num_workers,
            cache_dir=known.cache_dir,
        )
        data.leave_out(parts_of(known))
        data.prepare_data()
        data.setup("fit")
        return data
