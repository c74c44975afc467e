"""Reduced cells: of the many cells that describe a crystal, one that is unique and compact.

A generator that learns lengths and angles learns one convention instead of many, and none of its training cells is so
flat that a small error turns it inside out.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from matwheel.data.crystal import CrystalTable, FloatArray, wrap

log = logging.getLogger(__name__)

WHOLE = 1e-3  # largest deviation of a change of basis from whole numbers


def niggli_reduce(table: CrystalTable) -> CrystalTable:
    """Describe each crystal in its Niggli-reduced, right-handed cell (Grosse-Kunstleve et al., Acta Cryst. A60, 1).

    Atoms keep their order and their Cartesian positions up to whole lattice vectors. A cell that cannot be reduced is
    kept; how many were kept is logged as a warning.
    """
    lattices = table.lattices.copy()
    frac_coords = table.frac_coords.copy()
    offsets = table.offsets
    kept: list[str] = []
    for row, lattice in enumerate(table.lattices):
        change = _change_of_basis(lattice)
        if change is None:
            kept.append(str(table.ids[row]))
            continue
        atoms = slice(offsets[row], offsets[row + 1])
        lattices[row] = change @ lattice
        frac_coords[atoms] = wrap(table.frac_coords[atoms] @ np.linalg.inv(change))
    if kept:
        shown = ", ".join(kept[:5]) + (", ..." if len(kept) > 5 else "")
        log.warning("%d of %d cells could not be reduced and are used as they are: %s", len(kept), len(table), shown)
    return replace(table, lattices=lattices, frac_coords=frac_coords)


def _change_of_basis(lattice: FloatArray) -> FloatArray | None:
    """Whole-number matrix whose product with the lattice is the reduced one; None where the reduction fails."""
    from pymatgen.core import Lattice

    try:
        reduced = Lattice(lattice).get_niggli_reduced_lattice().matrix
        exact = reduced @ np.linalg.inv(lattice)
    except (ValueError, ZeroDivisionError, np.linalg.LinAlgError):
        return None
    change: FloatArray = np.round(exact)
    if np.abs(exact - change).max() > WHOLE or round(abs(np.linalg.det(change))) != 1:
        return None
    return change if np.linalg.det(change @ lattice) > 0 else -change
