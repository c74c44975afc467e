"""Features of crystals: numbers that do not depend on any label. Here those that cost nothing to compute."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pymatgen.core as pmg

from matwheel.data.crystal import CrystalTable, FloatArray, IntArray

_DENSITY_OF_DALTON = 1.66053906660  # g/cm^3 of 1 Da / A^3


class Features(ABC):
    """A few numbers per crystal. Attributes are settings and nothing else.

    Attributes:
        portable: Whether the settings are all there is to them, so that a predictor of them can be written to a file.
    """

    portable: bool = True

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """[f], with the unit in brackets where there is one."""

    @abstractmethod
    def compute(self, table: CrystalTable) -> FloatArray:
        """[n, f], of n crystals; NaN where a feature does not exist."""


class Composition(Features):
    """132 Magpie statistics of the elements (Ward et al., npj Comput. Mater. 2, 16028, 2016), by matminer.

    `matwheel.metrics.composition.magpie_statistics` is the same up to rounding. But where trees cut may hang on the
    last bit, and the numbers of the tree baseline are those of matminer's sums.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return tuple(_magpie().feature_labels())

    def compute(self, table: CrystalTable) -> FloatArray:
        """See `Features`."""
        rows = [_statistics(_counts(crystal.atomic_numbers)) for crystal in table]
        return np.array(rows, dtype=np.float64).reshape(len(table), len(self.names))


class Cell(Features):
    """Volume per atom, number of sites, density and lengths of the cell: blind to where the atoms are."""

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return "volume per atom (A^3)", "sites", "density (g/cm^3)", "a (A)", "b (A)", "c (A)"

    def compute(self, table: CrystalTable) -> FloatArray:
        """See `Features`."""
        volume = np.abs(np.linalg.det(table.lattices))
        weights = [float(_composition(_counts(crystal.atomic_numbers)).weight) for crystal in table]
        density = np.array(weights, dtype=np.float64) * _DENSITY_OF_DALTON / volume
        lengths = np.linalg.norm(table.lattices, axis=2)
        return np.column_stack([volume / table.num_atoms, table.num_atoms, density, lengths])


def joined(features: Sequence[Features], table: CrystalTable) -> FloatArray:
    """[n, sum of f], the features of several kinds side by side."""
    return np.column_stack([one.compute(table) for one in features])


def _counts(atomic_numbers: IntArray) -> tuple[tuple[int, int], ...]:
    """Pairs of atomic number and count."""
    numbers, counts = np.unique(atomic_numbers, return_counts=True)
    return tuple(zip(numbers.tolist(), counts.tolist(), strict=True))


def _composition(counts: tuple[tuple[int, int], ...]) -> pmg.Composition:
    return pmg.Composition(dict(counts))


@lru_cache(maxsize=100_000)
def _statistics(counts: tuple[tuple[int, int], ...]) -> tuple[float, ...]:
    return tuple(_magpie().featurize(_composition(counts)))


@lru_cache(maxsize=1)
def _magpie() -> Any:
    from matminer.featurizers.composition import ElementProperty  # takes seconds to import

    return ElementProperty.from_preset("magpie")
