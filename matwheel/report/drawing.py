"""A crystal as balls and sticks for the viewer of a page: atoms of a cell, their images on its faces, and bonds."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.formula import Formula
from scipy.spatial import cKDTree

from matwheel.data.crystal import Crystal, FloatArray, IntArray
from matwheel.report.numbers import number

_FACE = 0.02
"""Fraction of the cell: an atom this close to a face is drawn on the opposite one, too."""
_TOLERANCE = 0.3
"""A by which a bond may exceed the sum of the covalent radii."""
_RADIUS = 0.5
"""Of the covalent radius: as large as atoms are drawn."""
_MAX_ATOMS = 1000
"""More cannot be told apart in a picture, and slow down the page."""


def drawing(crystal: Crystal) -> dict[str, Any] | None:
    """What the viewer draws, ready for JSON; None if the crystal has no finite cell or too many atoms.

    Args:
        crystal: Atoms may lie anywhere, as generators leave them.

    Returns:
        `cell` [3][3] in A, `elements` (symbol, colour, radius in A), and for each drawn atom its element `kinds` [n]
        and position `atoms` [n][3] in A; `bonds` [m][2] between positions in `atoms`.
    """
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        return None
    if crystal.num_atoms > _MAX_ATOMS:
        return None
    frac, owner = _with_face_images(crystal.frac_coords)
    positions = frac @ crystal.lattice
    numbers, kinds = np.unique(crystal.atomic_numbers, return_inverse=True)
    return {
        "cell": np.round(crystal.lattice, 3).tolist(),
        "elements": [_element(int(z)) for z in numbers],
        "kinds": kinds[owner].tolist(),
        "atoms": np.round(positions, 2).tolist(),
        "bonds": _bonds(positions, crystal.atomic_numbers[owner]).tolist(),
    }


def legend(crystal: Crystal) -> list[dict[str, Any]]:
    """The elements of a crystal with their colours."""
    return [_element(int(z)) for z in np.unique(crystal.atomic_numbers)]


def formula(crystal: Crystal) -> str:
    """Chemical formula, metals first."""
    symbols = [chemical_symbols[z] for z in crystal.atomic_numbers.tolist()]
    text: str = Formula.from_list(symbols).format("metal")
    return text


def facts(crystal: Crystal) -> dict[str, str]:
    """Name and value of each property that a crystal has."""
    return {name: number(value) for name, value in crystal.properties.items() if np.isfinite(value)}


def _element(z: int) -> dict[str, Any]:
    red, green, blue = (round(255 * float(channel)) for channel in jmol_colors[z])
    return {
        "symbol": chemical_symbols[z],
        "colour": f"#{red:02x}{green:02x}{blue:02x}",
        "radius": round(_RADIUS * float(covalent_radii[z]), 2),
    }


def _with_face_images(frac_coords: FloatArray) -> tuple[FloatArray, IntArray]:
    """Atoms moved into the cell, and the images of those on a face; with the atom that each one is."""
    inside = frac_coords % 1.0
    frac: list[FloatArray] = []
    owner: list[int] = []
    for index, position in enumerate(inside):
        steps = [(0, 1) if x < _FACE else (0, -1) if x > 1 - _FACE else (0,) for x in position]
        for shift in itertools.product(*steps):
            frac.append(position + np.array(shift))
            owner.append(index)
    return np.array(frac).reshape(-1, 3), np.array(owner, dtype=np.int64)


def _bonds(positions: FloatArray, atomic_numbers: IntArray) -> IntArray:
    """[m, 2], pairs of atoms that are as close as bonded atoms are."""
    radii = covalent_radii[atomic_numbers]
    pairs = cKDTree(positions).query_pairs(2 * radii.max() + _TOLERANCE, output_type="ndarray").reshape(-1, 2)
    distance = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    bonded: IntArray = pairs[distance < radii[pairs[:, 0]] + radii[pairs[:, 1]] + _TOLERANCE].astype(np.int64)
    return bonded
