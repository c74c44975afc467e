"""How the distribution of simple quantities in generated crystals differs from that of a reference."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from matwheel.data.crystal import MAX_ATOMIC_NUMBER, CrystalTable, FloatArray, IntArray

_DENSITY_OF_DALTON = 1.66053906660  # g/cm^3 of 1 Da / A^3


def densities(table: CrystalTable) -> FloatArray:
    """[n], g/cm^3; infinite or NaN for a cell without volume or that is not finite."""
    owner = np.repeat(np.arange(len(table)), table.num_atoms)
    mass = np.bincount(owner, _masses()[table.atomic_numbers], minlength=len(table))
    with np.errstate(divide="ignore", invalid="ignore"):
        density: FloatArray = mass * _DENSITY_OF_DALTON / np.abs(np.linalg.det(table.lattices))
    return density


def element_counts(table: CrystalTable) -> IntArray:
    """[n], number of different elements."""
    owner = np.repeat(np.arange(len(table)), table.num_atoms)
    pairs = np.unique(owner * (MAX_ATOMIC_NUMBER + 1) + table.atomic_numbers)
    return np.bincount(pairs // (MAX_ATOMIC_NUMBER + 1), minlength=len(table))


def wasserstein(values: FloatArray | IntArray, reference: FloatArray | IntArray) -> float:
    """Wasserstein-1 distance of two samples in their unit; NaN if one of them is empty.

    Args:
        values: [n].
        reference: [m].
    """
    from scipy.stats import wasserstein_distance

    if not (len(values) and len(reference)):
        return float("nan")
    return float(wasserstein_distance(values, reference))


def total_variation(values: IntArray, reference: IntArray) -> float:
    """Half the summed differences of two histograms of classes, 0 to 1; NaN if one of the samples is empty.

    Args:
        values: [n], classes 0, 1, ... such as space-group numbers.
        reference: [m].
    """
    if not (len(values) and len(reference)):
        return float("nan")
    size = int(max(values.max(), reference.max())) + 1
    shares = [np.bincount(sample, minlength=size) / len(sample) for sample in (values, reference)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


@lru_cache(maxsize=1)
def _masses() -> FloatArray:
    from pymatgen.core.periodic_table import Element

    numbers = range(1, MAX_ATOMIC_NUMBER + 1)
    return np.array([np.nan, *(float(Element.from_Z(number).atomic_mass) for number in numbers)])
