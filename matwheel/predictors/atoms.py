"""Numbers of the elements and statistics over the atoms of crystals, for features."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from ase.data.vdw_alvarez import vdw_radii
from pymatgen.core import Element

from matwheel.data.crystal import MAX_ATOMIC_NUMBER, CrystalTable, FloatArray

STATISTICS = ("mean", "std", "min", "max")


class ElementNumbers(NamedTuple):
    """Numbers of the elements, each [101] by atomic number; the median of all elements where a value is unknown.

    Attributes:
        electronegativity: Pauling's.
        covalent_radius: A (Cordero et al. 2008).
        van_der_waals_radius: A (Alvarez 2013).
        polarisability: A^3, of the neutral atom (table of Magpie, Ward et al. 2016).
        ionisation_energy: eV, of the first electron.
        valence_electrons: Of the neutral atom, as Magpie counts them.
        column: Of the periodic table.
    """

    electronegativity: FloatArray
    covalent_radius: FloatArray
    van_der_waals_radius: FloatArray
    polarisability: FloatArray
    ionisation_energy: FloatArray
    valence_electrons: FloatArray
    column: FloatArray


@cache
def element_numbers() -> ElementNumbers:
    """Read the tables; they must not be changed."""
    from matminer.utils.data import MagpieData  # takes seconds to import

    magpie = MagpieData()
    elements = [Element.from_Z(number) for number in range(1, MAX_ATOMIC_NUMBER + 1)]

    def from_magpie(name: str) -> FloatArray:
        return _complete([float(magpie.get_elemental_property(element, name)) for element in elements])

    return ElementNumbers(
        electronegativity=from_magpie("Electronegativity"),
        covalent_radius=_complete(covalent_radii[1 : MAX_ATOMIC_NUMBER + 1]),
        van_der_waals_radius=_complete(vdw_radii[1 : MAX_ATOMIC_NUMBER + 1]),
        polarisability=from_magpie("DipolePolarizability"),
        ionisation_energy=from_magpie("FirstIonizationEnergy"),
        valence_electrons=from_magpie("NValence"),
        column=from_magpie("Column"),
    )


def over_atoms(values: FloatArray, table: CrystalTable) -> FloatArray:
    """Statistics of each crystal, in the order of `STATISTICS`.

    Args:
        values: [N], of all atoms.
        table: n crystals with N atoms.

    Returns:
        [n, 4].
    """
    if not len(table):
        return np.zeros((0, len(STATISTICS)))
    first = np.cumsum(table.num_atoms) - table.num_atoms
    mean = np.add.reduceat(values, first) / table.num_atoms
    variance = np.add.reduceat(np.square(values), first) / table.num_atoms - np.square(mean)
    extremes = np.minimum.reduceat(values, first), np.maximum.reduceat(values, first)
    return np.column_stack([mean, np.sqrt(np.maximum(variance, 0)), *extremes])


def _complete(values: list[float] | FloatArray) -> FloatArray:
    """By atomic number from 1; a median takes the place of what is missing, and of what does not exist (0)."""
    known = np.array([np.nan, *values], dtype=np.float64)
    return np.where(np.isfinite(known), known, np.nanmedian(known))
