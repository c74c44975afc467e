"""Validity of crystals: the two cheap checks of CDVAE (arXiv 2110.06197), for whole tables at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matwheel.data.crystal import CrystalTable, FloatArray, IntArray
from matwheel.data.neighbours import periodic_neighbours

BoolArray = NDArray[np.bool_]

_THINNEST_CELL = 0.1
"""Distance of lattice planes relative to the smallest pair distance below which a cell counts as collapsed."""
_CHUNK = 256


@dataclass(frozen=True)
class StructureValidity:
    """Geometry of each crystal of a table.

    Attributes:
        valid: [n], no pair of atoms too close (periodic images included) and the cell neither flat nor broken.
        closest_pair: [n], A, distance of the closest pair; infinite where none is closer than the limit, NaN where the
            cell is too thin or not finite.
        volume: [n], A^3, NaN where the cell is not finite.
    """

    valid: BoolArray
    closest_pair: FloatArray
    volume: FloatArray


def structure_validity(table: CrystalTable, min_distance: float = 0.5, min_volume: float = 0.1) -> StructureValidity:
    """Check each crystal for atoms that are too close and for collapsed cells.

    Args:
        table: The crystals.
        min_distance: A; closer pairs make a crystal invalid.
        min_volume: A^3; smaller cells make a crystal invalid.
    """
    finite: BoolArray = np.asarray(np.isfinite(table.lattices).all(axis=(1, 2)))
    volume = np.full(len(table), np.nan)
    volume[finite] = np.abs(np.linalg.det(table.lattices[finite]))
    owner = np.repeat(np.arange(len(table)), table.num_atoms)
    finite[owner[~np.isfinite(table.frac_coords).all(1)]] = False
    sane = finite & (table.num_atoms > 0) & (volume >= min_volume)
    sane[sane] = _plane_distances(table.lattices[sane]).min(1, initial=np.inf) >= _THINNEST_CELL * min_distance

    closest = np.where(sane, np.inf, np.nan)
    rows = np.flatnonzero(sane)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        closest[chunk] = _closest_pairs(table.take(chunk), min_distance)
    return StructureValidity(sane & ~(closest < min_distance), closest, volume)


def composition_validity(table: CrystalTable) -> BoolArray:
    """[n], whether each crystal's composition passes `is_valid_composition`."""
    offsets = table.offsets
    return np.array(
        [
            is_valid_composition(reduced_composition(table.atomic_numbers[offsets[row] : offsets[row + 1]]))
            for row in range(len(table))
        ],
        dtype=np.bool_,
    )


def reduced_composition(atomic_numbers: IntArray) -> tuple[tuple[int, int], ...]:
    """Pairs of (atomic number, count), counts divided by their greatest common divisor, sorted."""
    counts = Counter(atomic_numbers.tolist())
    divisor = gcd(*counts.values())
    return tuple(sorted((number, count // divisor) for number, count in counts.items()))


@lru_cache(maxsize=100_000)
def is_valid_composition(composition: tuple[tuple[int, int], ...]) -> bool:
    """Whether oxidation states exist that make a composition neutral with anions more electronegative than cations.

    As in SMACT's `smact_validity` (Davies et al., Chem 1, 617, 2016) with its oxidation states of 2014, which CDVAE
    uses: single elements and alloys of metals pass, and all atoms of one element share one state. SMACT tries all
    combinations of states. Here the elements are divided by electronegativity into those that may be cations and those
    that may be anions, and for each division the set of reachable charges is grown element by element: the same answer
    in a time that cannot explode.

    Args:
        composition: Pairs of (atomic number, count) as from `reduced_composition`.
    """
    if len(composition) == 1 or all(_element(number).is_metal for number, _ in composition):
        return True
    elements = [_element(number) for number, _ in composition]
    if any(not element.oxidation_states or element.electronegativity is None for element in elements):
        return False
    # The most electronegative cation of a valid assignment is the boundary of a division that allows it.
    boundaries = {element.electronegativity for element in elements if element.electronegativity is not None}
    counts = [count for _, count in composition]
    return any(_reaches_neutral(elements, counts, boundary) for boundary in boundaries)


def _reaches_neutral(elements: list[_Element], counts: list[int], boundary: float) -> bool:
    charges = {0}
    for element, count in zip(elements, counts, strict=True):
        is_cation = element.electronegativity is not None and element.electronegativity <= boundary
        steps = [count * state for state in element.oxidation_states if (state >= 0 if is_cation else state <= 0)]
        charges = {charge + step for charge in charges for step in steps}
    return 0 in charges


@dataclass(frozen=True)
class _Element:
    oxidation_states: tuple[int, ...]
    electronegativity: float | None
    is_metal: bool


@lru_cache(maxsize=128)
def _element(atomic_number: int) -> _Element:
    import smact
    from pymatgen.core.periodic_table import Element

    symbol = Element.from_Z(atomic_number).symbol
    element = smact.Element(symbol)
    return _Element(tuple(element.oxidation_states_smact14 or ()), element.pauling_eneg, symbol in smact.metals)


def _plane_distances(lattices: FloatArray) -> FloatArray:
    """[n, 3], A, distance of the lattice planes along each reciprocal vector."""
    distances: FloatArray = 1 / np.linalg.norm(np.linalg.inv(lattices), axis=1)
    return distances


def _closest_pairs(table: CrystalTable, cutoff: float) -> FloatArray:
    num_atoms = torch.from_numpy(table.num_atoms)
    edges = periodic_neighbours(
        torch.from_numpy(table.frac_coords),
        torch.from_numpy(table.lattices),
        num_atoms,
        cutoff=cutoff,
        max_neighbours=1,
        complete_shells=False,
    )
    crystal = torch.repeat_interleave(torch.arange(len(table)), num_atoms)[edges.edge_index[1]]
    closest: Tensor = torch.full((len(table),), torch.inf, dtype=torch.float64)
    return closest.scatter_reduce_(0, crystal, edges.dist, "amin").numpy()
