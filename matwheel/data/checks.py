"""Which crystals are fit for use: sane cells, known elements, finite targets, bounded size.

The bounds are wide. They catch broken files (a cell in Bohr or nm, atoms on top of each other, a lattice of zeros), not
unusual chemistry: known crystals hold 5 to 130 A^3 per atom, monolayers with 20 to 30 A of vacuum up to 350, and their
shortest bond is that of H2, 0.74 A.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from matwheel.data.crystal import MAX_ATOMIC_NUMBER, Crystal, FloatArray
from matwheel.data.rows import MAX_DETAIL, BadRow, LoadedTable, Reason

if TYPE_CHECKING:
    from pymatgen.core import Structure

MIN_LENGTH, MAX_LENGTH = 1.0, 500.0  # A, of a lattice vector
MIN_VOLUME, MAX_VOLUME = 1.0, 1000.0  # A^3 per atom
MIN_DISTANCE = 0.5  # A; the bound of CDVAE's structural validity (arXiv 2110.06197)
MAX_IMAGES = 1000  # of a cell within `MIN_DISTANCE`; 27 for a cell that is not skewed
MAX_VALUE = float(np.finfo(np.float32).max)  # batches are float32


class BadStructureError(ValueError):
    """A structure that cannot be used.

    Attributes:
        reason: The kind of defect.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(_one_line(detail))
        self.reason = reason


def ordered_crystal(structure: Structure, id: str) -> Crystal:
    """Convert a pymatgen structure.

    Raises:
        BadStructureError: If a site is disordered or holds no element from H to Fm.
    """
    if not structure.is_ordered:
        raise BadStructureError(Reason.DISORDERED, "a site has partial occupancy; give an ordered cell")
    try:
        return Crystal.from_structure(structure, id)
    except ValueError as error:
        raise BadStructureError(Reason.ELEMENT, str(error)) from error


def check_crystal(crystal: Crystal) -> None:
    """Accept a crystal that networks can be trained on.

    Raises:
        BadStructureError: If the structure has no atoms, numbers that are not finite, elements outside H to Fm, a cell
            of absurd size or shape, or atoms closer than `MIN_DISTANCE`.
    """
    check_atoms(crystal)
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        raise BadStructureError(Reason.CELL, "a lattice vector or a coordinate is not a finite number")
    lengths = np.linalg.norm(crystal.lattice, axis=1)
    if not ((lengths >= MIN_LENGTH) & (lengths <= MAX_LENGTH)).all():
        shown = ", ".join(f"{length:.3g}" for length in lengths)
        raise BadStructureError(
            Reason.CELL, f"lattice vectors of {shown} A; {MIN_LENGTH:g} to {MAX_LENGTH:g} A are accepted"
        )
    volume = crystal.volume / crystal.num_atoms
    if not MIN_VOLUME <= volume <= MAX_VOLUME:
        raise BadStructureError(
            Reason.CELL, f"{volume:.3g} A^3 per atom; {MIN_VOLUME:g} to {MAX_VOLUME:g} A^3 are accepted"
        )
    spacing = 1 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)
    if np.prod(2 * np.ceil(MIN_DISTANCE / spacing) + 1) > MAX_IMAGES:
        raise BadStructureError(
            Reason.CELL, f"a cell so skewed that its planes are {spacing.min():.2g} A apart: give the reduced cell"
        )
    distance = shortest_overlap(crystal)
    if distance is not None:
        raise BadStructureError(Reason.OVERLAP, f"atoms {distance:.2f} A apart, nearer than {MIN_DISTANCE:g} A")


def check_atoms(crystal: Crystal) -> None:
    """Accept a crystal that has atoms of known elements, wherever they are.

    Raises:
        BadStructureError: If the structure has no atoms, or elements outside H to Fm.
    """
    if crystal.num_atoms == 0:
        raise BadStructureError(Reason.EMPTY, "the structure has no atoms")
    if not ((crystal.atomic_numbers >= 1) & (crystal.atomic_numbers <= MAX_ATOMIC_NUMBER)).all():
        raise BadStructureError(Reason.ELEMENT, "a site holds no element from H to Fm")


def shortest_overlap(crystal: Crystal) -> float | None:
    """Shortest distance below `MIN_DISTANCE` between two atoms (or an atom and its image) in A, None without such."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cart = np.ascontiguousarray(crystal.frac_coords @ crystal.lattice)
    lattice = np.ascontiguousarray(crystal.lattice)
    centre, neighbour, image, distance = find_points_in_spheres(
        cart, cart, r=MIN_DISTANCE, pbc=np.ones(3, dtype=np.int64), lattice=lattice, tol=1e-8
    )
    others: FloatArray = distance[(centre != neighbour) | (image != 0).any(axis=1)]
    return float(others.min()) if len(others) else None


def usable_rows(
    loaded: LoadedTable,
    required: Sequence[str] = (),
    max_sites: int | None = None,
    may_be_missing: Collection[str] = (),
) -> LoadedTable:
    """Keep the rows that a model for these properties can use.

    Args:
        loaded: What `matwheel.data.catalogue.load` returned.
        required: Properties that must be known and finite: target and conditions.
        max_sites: Largest number of atoms per cell, None for no bound.
        may_be_missing: Those of `required` that a row may be without.

    Raises:
        ValueError: If a property is not a numeric column, or if no row is left.
    """
    for name in required:
        loaded.check_property(name)
    keep, bad = [], []
    for row, source_row in enumerate(loaded.source_rows.tolist()):
        values = (_value_defect(loaded, name, row, source_row, name in may_be_missing) for name in required)
        defect = _size_defect(loaded, row, max_sites) or next(filter(None, values), None)
        if defect is None:
            keep.append(row)
        else:
            bad.append(BadRow(source_row, str(loaded.table.ids[row]), *defect))
    return loaded.take(np.array(keep, dtype=np.int64), bad)


def _size_defect(loaded: LoadedTable, row: int, max_sites: int | None) -> tuple[Reason, str] | None:
    sites = int(loaded.table.num_atoms[row])
    if max_sites is None or sites <= max_sites:
        return None
    return Reason.TOO_MANY_SITES, f"{sites} sites, max_sites is {max_sites}"


def _value_defect(
    loaded: LoadedTable, name: str, row: int, source_row: int, may_be_missing: bool
) -> tuple[Reason, str] | None:
    text = loaded.not_numbers.get(name, {}).get(source_row)
    if text is not None:
        return Reason.NOT_A_NUMBER, _one_line(f"{name} is '{text}'")
    value = loaded.table.properties[name][row]
    if np.isnan(value):
        return None if may_be_missing else (Reason.MISSING, f"{name} is missing")
    if abs(value) > MAX_VALUE:
        return Reason.RANGE, f"{name} is {value:g}; values must fit 32-bit floating point"
    return None


def _one_line(text: str) -> str:
    """Collapse white space and cut: details stand in terminals and CSV cells."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_DETAIL]).split())
    return line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 3] + "..."
