"""Checks of single crystals that may be slow or fail: the place for further ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from matwheel.data.crystal import Crystal, CrystalTable, FloatArray
from matwheel.metrics.distributions import total_variation
from matwheel.metrics.figures import Figure, share
from matwheel.metrics.pool import Pool


class StructureCheck(ABC):
    """One number of a crystal, computed in worker processes: instances are sent there once and must allow pickling.

    Attributes:
        column: Name of the number in tables.
        is_class: Whether it names a class, of which a histogram is of interest.
    """

    column: ClassVar[str]
    is_class: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, crystal: Crystal) -> float:
        """The number of one crystal; any exception counts as a failure of this crystal."""

    @abstractmethod
    def summary(self, generated: FloatArray, reference: FloatArray) -> list[Figure]:
        """Aggregates.

        Args:
            generated: [n], of the generated crystals for which there is a number.
            reference: [m], of the reference crystals for which there is a number.
        """


@dataclass(frozen=True)
class CheckValues:
    """What a check gave for n crystals.

    Attributes:
        values: [n], NaN where there is none.
        failures: [n], why there is none; empty where there is one.
    """

    values: FloatArray
    failures: tuple[str, ...]


def run_check(check: StructureCheck, table: CrystalTable, pool: Pool | None = None, label: str = "") -> CheckValues:
    """Apply a check to each crystal of a table with sane cells, see `structure_validity`.

    Args:
        check: The check.
        table: n crystals.
        pool: Processes and time-out.
        label: Title of the progress bar; the check's column by default.
    """
    outcomes = (pool or Pool()).map(check, list(table), label or check.column)
    values = np.array([np.nan if outcome.value is None else outcome.value for outcome in outcomes], dtype=np.float64)
    return CheckValues(values, tuple(outcome.failure for outcome in outcomes))


@dataclass(frozen=True)
class SpaceGroup(StructureCheck):
    """Number of the space group, 1 to 230 (spglib; Togo et al., Sci. Technol. Adv. Mater. Meth. 4, 2384822, 2024).

    Attributes:
        symprec: A, how far atoms may be from symmetric positions.
    """

    symprec: float = 0.1

    column: ClassVar[str] = "space_group"
    is_class: ClassVar[bool] = True

    def __call__(self, crystal: Crystal) -> float:
        """See `StructureCheck`.

        Raises:
            ValueError: If spglib finds no space group (atoms on top of each other at this precision).
        """
        from spglib import get_symmetry_dataset

        cell = (crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist())
        dataset = get_symmetry_dataset(cell, symprec=self.symprec)
        if dataset is None:
            raise ValueError("no space group found")
        return float(dataset.number)

    def summary(self, generated: FloatArray, reference: FloatArray) -> list[Figure]:
        """Share without symmetry, number of space groups, and distance of the histograms."""
        total, of = len(generated), "crystals with a space group"
        numbers, expected = generated.astype(np.int64), reference.astype(np.int64)
        return [
            share("space group P1", numbers == 1, of),
            Figure("different space groups", float(len(np.unique(numbers))), total, of),
            Figure("space groups, total variation", total_variation(numbers, expected), total, of),
        ]


def default_checks() -> Sequence[StructureCheck]:
    """The checks that need nothing but the package's own dependencies."""
    return (SpaceGroup(),)
