"""Features of crystals: numbers that do not depend on any label. Here those that cost nothing to compute."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache

import numpy as np
from pymatgen.core import Element

from matwheel.data.crystal import MAX_ATOMIC_NUMBER, CrystalTable, FloatArray
from matwheel.metrics.composition import magpie_names, magpie_statistics

_DENSITY_OF_DALTON = 1.66053906660  # g/cm^3 of 1 Da / A^3


class Features(ABC):
    """A few numbers per crystal. Attributes are settings and nothing else."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """[f], with the unit in brackets where there is one."""

    @abstractmethod
    def compute(self, table: CrystalTable) -> FloatArray:
        """[n, f], of n crystals; NaN where a feature does not exist."""


class Composition(Features):
    """132 Magpie statistics of the elements, see `magpie_statistics`."""

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return magpie_names()

    def compute(self, table: CrystalTable) -> FloatArray:
        """See `Features`."""
        return magpie_statistics(table)


class Cell(Features):
    """Volume per atom, number of sites, density and lengths of the cell: blind to where the atoms are."""

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return "volume per atom (A^3)", "sites", "density (g/cm^3)", "a (A)", "b (A)", "c (A)"

    def compute(self, table: CrystalTable) -> FloatArray:
        """See `Features`."""
        volume = np.abs(np.linalg.det(table.lattices))
        owner = np.repeat(np.arange(len(table)), table.num_atoms)
        mass = np.bincount(owner, _masses()[table.atomic_numbers], minlength=len(table))
        density = mass * _DENSITY_OF_DALTON / volume
        lengths = np.linalg.norm(table.lattices, axis=2)
        return np.column_stack([volume / table.num_atoms, table.num_atoms, density, lengths])


def joined(features: Sequence[Features], table: CrystalTable) -> FloatArray:
    """[n, sum of f], the features of several kinds side by side."""
    return np.column_stack([one.compute(table) for one in features])


@cache
def _masses() -> FloatArray:
    """[101], Da, by atomic number."""
    return np.array([0.0, *(float(Element.from_Z(z).atomic_mass) for z in range(1, MAX_ATOMIC_NUMBER + 1))])
