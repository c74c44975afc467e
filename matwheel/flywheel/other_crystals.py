"""Crystals of other data sets, to learn from before the data set that matters: none of a formula that it holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from matwheel.data.catalogue import load
from matwheel.data.cells import niggli_reduce
from matwheel.data.checks import usable_rows
from matwheel.data.compositions import Composition, reduced_compositions
from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.module import CrystalDataModule
from matwheel.data.rows import BadRow, LoadedTable, Reason, RowReport
from matwheel.data.splits import RandomSplit

_VOLUME_TOLERANCE = 0.03
"""Crystals of one formula whose volumes per atom differ by less than this fraction are taken to be the same."""


class OtherCrystals(CrystalDataModule, ABC):
    """Crystals of several data sets, with properties of theirs as conditions and no other.

    What is held out is left out by reduced formula: no other structure of the same composition is kept either. The
    report counts what was left out, and why.

    Args:
        datasets: Names from the catalogue, or paths of tables.
        conditions: Names of the columns.
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
        datasets: Sequence[str],
        conditions: list[str],
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
            conditions=conditions,
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
            self._loaded = self._read()
        return self._loaded

    def _read(self) -> LoadedTable:
        tables = []
        for name in self.datasets:
            table = usable_rows(load(name, self.data_dir), max_sites=self.max_sites).table
            # Data sets name their crystals alike.
            ids = np.char.add(f"{Path(name).name}:", table.ids)
            tables.append(replace(table, ids=ids, properties=self._properties(name, table)))
        table = CrystalTable.concatenate(tables)
        bad = self._not_used(table)
        keep = np.setdiff1d(np.arange(len(table)), [row.row for row in bad])
        report = RowReport(self.dataset, len(table))
        loaded = LoadedTable(self.dataset, table, np.arange(len(table)), report).take(keep, bad)
        return replace(loaded, table=niggli_reduce(loaded.table)) if self.reduce_cells else loaded

    @abstractmethod
    def _properties(self, name: str, table: CrystalTable) -> dict[str, FloatArray]:
        """The conditions of the crystals of a data set."""

    def _not_used(self, table: CrystalTable) -> list[BadRow]:
        """Rows to leave out, and why."""
        return held_out(table, self._parts)


def parts_of(known: CrystalDataModule) -> dict[str, CrystalTable]:
    """All crystals of a data set that was split: a formula that is in several parts counts for the first."""
    rows = {"test": known.test_rows, "val": known.val_rows, "train": np.arange(len(known.table))}
    return {name: known.table.take(part) for name, part in rows.items()}


def held_out(table: CrystalTable, parts: Mapping[str, CrystalTable]) -> list[BadRow]:
    """Rows with the formula of a crystal that is held out, with the first part that it is in."""
    formulas = [(part, set(_formulas(crystals))) for part, crystals in parts.items()]
    bad = []
    for row, formula in enumerate(_formulas(table)):
        part = next((name for name, members in formulas if formula in members), None)
        if part is not None:
            bad.append(BadRow(row, str(table.ids[row]), Reason.HELD_OUT, part))
    return bad


def repeated(table: CrystalTable, skip: Sequence[BadRow]) -> list[BadRow]:
    """Rows that repeat an earlier one, by formula and volume per atom.

    Args:
        table: The crystals.
        skip: Rows that are left out anyway.
    """
    volume = np.abs(np.linalg.det(table.lattices)) / table.num_atoms
    skipped = {row.row for row in skip}
    first: dict[Composition, list[int]] = defaultdict(list)
    bad = []
    for row, formula in enumerate(_formulas(table)):
        if row in skipped:
            continue
        like = next((r for r in first[formula] if abs(volume[row] / volume[r] - 1) < _VOLUME_TOLERANCE), None)
        if like is not None:
            bad.append(BadRow(row, str(table.ids[row]), Reason.REPEATED, f"as {table.ids[like]}"))
        else:
            first[formula].append(row)
    return bad


def _formulas(table: CrystalTable) -> list[Composition]:
    return reduced_compositions(table.atomic_numbers, table.num_atoms)
