"""Pre-training of a generator on crystals of other data sets, whose labels are not used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from matwheel.data.catalogue import load
from matwheel.data.cells import niggli_reduce
from matwheel.data.checks import usable_rows
from matwheel.data.crystal import CrystalTable, IntArray
from matwheel.data.module import CrystalDataModule
from matwheel.data.rows import BadRow, LoadedTable, Reason, RowReport
from matwheel.data.splits import RandomSplit
from matwheel.flywheel.stages import FitSettings
from matwheel.metrics.validity import reduced_composition

Formula = tuple[tuple[int, int], ...]
"""See `reduced_composition`."""

EMBEDDED = ("elastic_tensor_2015", "piezoelectric_tensor", "flla_2015")
_VOLUME_TOLERANCE = 0.03
"""Crystals of one formula whose volumes per atom differ by less than this fraction are taken to be the same."""


class UnlabelledDataModule(CrystalDataModule):
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
        batch_size: Crystals per batch and process.
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
            dataset=", ".join(datasets),
            conditions=conditions if conditions is not None else ["label"],
            data_dir=data_dir,
            split=RandomSplit(1 - validation, validation, 0.0, seed),
            reduce_cells=reduce_cells,
            max_sites=max_sites,
            cutoff=cutoff,
            max_neighbours=max_neighbours,
            batch_size=batch_size,
            num_workers=num_workers,
            cache_dir=cache_dir,
        )
        self.datasets = tuple(datasets)
        self.held_out = held_out
        self._parts: dict[str, CrystalTable] = {}

    def leave_out(self, parts: Mapping[str, CrystalTable]) -> None:
        """Leave out what has the formula of one of these crystals, before anything is loaded.

        Args:
            parts: Crystals by the name that the report counts them under.
        """
        self._parts = dict(parts)

    def setup(self, stage: str) -> None:
        """Load table, graphs and the validation rows; calling it again changes nothing."""
        if self._real is not None:
            return
        loaded = self._load()
        self.conditions = self.conditions_option or []
        self.target = self.conditions[0]
        self.table = loaded.table
        self.report = loaded.report
        self.split_rows = self.split.split(loaded)
        self._real = self._cached_graphs(self.table)
        self.use_training()

    def left_out(self) -> dict[str, int]:
        """How many crystals there were, how many were left out for each held-out part or as copies, and the rest."""
        bad = self._load().report.bad
        held_out = Counter(row.detail for row in bad if row.reason is Reason.HELD_OUT)
        return {
            "read": self.report.total,
            **{f"formula_{part}": held_out[part] for part in self._parts},
            "repeated": sum(row.reason is Reason.REPEATED for row in bad),
            "used": len(self.table),
        }

    def _load(self) -> LoadedTable:
        if self._loaded is None:
            tables = []
            for name in self.datasets:
                table = usable_rows(load(name, self.data_dir), max_sites=self.max_sites).table
                # Data sets name their crystals alike; properties must not leak into what is called unlabelled.
                ids = np.char.add(f"{Path(name).name}:", table.ids)
                tables.append(replace(table, ids=ids, properties={}))
            table = CrystalTable.concatenate(tables)
            missing = np.full(len(table), np.nan)
            table = table.with_properties(**dict.fromkeys(self.conditions_option or [], missing))
            if self.held_out is not None:
                self._parts[self.held_out] = load(self.held_out, self.data_dir).table
            keep, bad = _distinct(table, self._parts)
            report = RowReport(self.dataset, len(table))
            loaded = LoadedTable(self.dataset, table, np.arange(len(table)), report).take(keep, bad)
            self._loaded = replace(loaded, table=niggli_reduce(loaded.table)) if self.reduce_cells else loaded
        return self._loaded


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
        parts = {"test": known.test_rows, "val": known.val_rows, "train": np.arange(len(known.table))}
        data.leave_out({name: known.table.take(rows) for name, rows in parts.items()})
        data.prepare_data()
        data.setup("fit")
        return data


def _distinct(table: CrystalTable, held_out: Mapping[str, CrystalTable]) -> tuple[IntArray, list[BadRow]]:
    """Rows to use, and why others are not: the first held-out part with a row's formula, or the crystal it repeats."""
    parts = [(part, set(_formulas(crystals))) for part, crystals in held_out.items()]
    volume = np.abs(np.linalg.det(table.lattices)) / table.num_atoms
    first: dict[Formula, list[int]] = defaultdict(list)
    bad = []
    for row, formula in enumerate(_formulas(table)):
        part = next((name for name, formulas in parts if formula in formulas), None)
        like = next((r for r in first[formula] if abs(volume[row] / volume[r] - 1) < _VOLUME_TOLERANCE), None)
        if part is not None:
            bad.append(BadRow(row, str(table.ids[row]), Reason.HELD_OUT, part))
        elif like is not None:
            bad.append(BadRow(row, str(table.ids[row]), Reason.REPEATED, f"as {table.ids[like]}"))
        else:
            first[formula].append(row)
    return np.sort(np.concatenate(list(first.values())).astype(np.int64)), bad


def _formulas(table: CrystalTable) -> list[Formula]:
    return [reduced_composition(numbers) for numbers in np.split(table.atomic_numbers, table.offsets[1:-1])]
