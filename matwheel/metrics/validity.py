"""Validity of crystals: the two cheap checks of CDVAE (arXiv 2110.06197), for whole tables at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from matwheel.data.compositions import valid_compositions
from matwheel.data.crystal import BoolArray, CrystalTable, FloatArray, IntArray
from matwheel.data.neighbours import Neighbours, periodic_neighbours

_THINNEST_CELL = 0.1
"""Distance of lattice planes relative to the smallest pair distance below which a cell counts as collapsed."""
_LINKED = 4.0
"""A, distance below which atoms hang together."""
_MANY = 100  # neighbours, more than there are within that distance
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
    return valid_compositions(table.atomic_numbers, table.num_atoms)


def in_one_piece(table: CrystalTable) -> BoolArray:
    """[n], whether all atoms of each crystal hang together, those closer than 4 A being linked.

    Molecular crystals do not, nor do some layered ones; generated crystals should as often as real ones. Cells must be
    sane, see `structure_validity`.
    """
    whole = np.ones(len(table), dtype=np.bool_)
    for start in range(0, len(table), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(table)))
        whole[rows] = _pieces(table.take(rows)) == 1
    return whole


def _pieces(table: CrystalTable) -> IntArray:
    """[n], groups of linked atoms of each crystal."""
    edges = _neighbours(table, _LINKED, _MANY)
    links = edges.edge_index.numpy()
    total = len(table.frac_coords)
    graph = coo_array((np.ones(links.shape[1]), (links[0], links[1])), shape=(total, total))
    _, group = connected_components(graph, directed=False)
    owner = np.repeat(np.arange(len(table)), table.num_atoms)
    pairs = np.unique(np.stack([owner, group]), axis=1)
    pieces: IntArray = np.bincount(pairs[0], minlength=len(table))
    return pieces


def _plane_distances(lattices: FloatArray) -> FloatArray:
    """[n, 3], A, distance of the lattice planes along each reciprocal vector."""
    distances: FloatArray = 1 / np.linalg.norm(np.linalg.inv(lattices), axis=1)
    return distances


def _closest_pairs(table: CrystalTable, cutoff: float) -> FloatArray:
    edges = _neighbours(table, cutoff, max_neighbours=1)
    crystal = torch.repeat_interleave(torch.arange(len(table)), torch.from_numpy(table.num_atoms))[edges.edge_index[1]]
    closest: Tensor = torch.full((len(table),), torch.inf, dtype=torch.float64)
    return closest.scatter_reduce_(0, crystal, edges.dist, "amin").numpy()


def _neighbours(table: CrystalTable, cutoff: float, max_neighbours: int) -> Neighbours:
    """The nearest neighbours of each atom within a distance (A)."""
    return periodic_neighbours(
        torch.from_numpy(table.frac_coords),
        torch.from_numpy(table.lattices),
        torch.from_numpy(table.num_atoms),
        cutoff=cutoff,
        max_neighbours=max_neighbours,
        complete_shells=False,
    )
