"""Rows that hold the crystal of an earlier row: in another part of a split they would be known before the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from matwheel.data.compositions import reduced_composition
from matwheel.data.crystal import MAX_ATOMIC_NUMBER, Crystal, CrystalTable, FloatArray, IntArray
from matwheel.data.neighbours import periodic_neighbours
from matwheel.data.rows import BadRow, LoadedTable, Reason

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

LENGTH = 0.002  # relative; more than files with 3 digits lose, less than another calculation of a crystal changes
SITE = 0.004  # of (volume per atom) ** (1/3): 0.01 A
ANGLE = 0.2  # degrees
_PRIMITIVE = 0.05
"""A; sites that a translation brings so near are the same in a smaller cell. More than files with 3 digits lose; by
default pymatgen averages over displacements of up to 0.25 A, as of a distorted supercell."""

_CUTOFF = 5.0  # A
_DISTANCES = torch.arange(1.0, _CUTOFF + 0.25, 0.5)  # A
_WIDTH = 0.5  # A
_SIMILAR = 0.03
"""Relative difference of surroundings beyond which crystals are not compared; the tolerances change them by less."""
_CHUNK = 64
_ALL = 10_000  # neighbours, more than there are
_NEAREST = 16  # neighbours of a site whose distances are compared
_MARGIN = 1.1  # over the bound of first order


def without_repeats(loaded: LoadedTable, shown: Sequence[str] = ()) -> LoadedTable:
    """Keep the first row of each crystal.

    Crystals are equal if their primitive cells and all sites are, by pymatgen's StructureMatcher within `LENGTH`,
    `SITE` and `ANGLE`: orientation, choice of the cell, origin and order of the sites are free.

    Args:
        loaded: Rows that can be used; a row that cannot must not stand for its crystal.
        shown: Properties whose values the reason tells where the two rows differ in them.
    """
    kept, bad = [], []
    for row, earlier in enumerate(_earlier_rows(loaded.table)):
        if earlier is None:
            kept.append(row)
        else:
            detail = _detail(loaded, row, earlier, shown)
            bad.append(BadRow(int(loaded.source_rows[row]), str(loaded.table.ids[row]), Reason.REPEATED, detail))
    return loaded.take(np.array(kept, dtype=np.int64), bad)


def _earlier_rows(table: CrystalTable) -> Iterator[int | None]:
    """For each row the first one with its crystal, None for the first itself."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(LENGTH, SITE, ANGLE, primitive_cell=True, scale=False)
    surroundings = _surroundings(table)
    first: dict[tuple[tuple[int, int], ...], list[int]] = {}
    reduced: dict[int, _Reduced] = {}
    for row, crystal in enumerate(table):
        others = first.setdefault(reduced_composition(crystal.atomic_numbers), [])
        differences = np.abs(surroundings[others] - surroundings[row]).max(1, initial=0)
        similar = [others[place] for place in np.flatnonzero(differences <= _SIMILAR * surroundings[row].max())]
        for needed in [*similar, row] if similar else []:
            if needed not in reduced:  # once: the matcher would reduce both of every pair
                reduced[needed] = _Reduced.of(table[needed])
        earlier = next((other for other in similar if reduced[other].equals(reduced[row], matcher)), None)
        if earlier is None:
            others.append(row)
        yield earlier


@dataclass(frozen=True)
class _Reduced:
    """A primitive cell, Niggli-reduced as the matcher does it, and what equal ones share.

    Attributes:
        structure: The cell.
        atomic_numbers: [n] of its sites.
        distances: [n, `_NEAREST`], A, of each site to its nearest neighbours, `_CUTOFF` for all beyond it.
        strain: Relative change of distances that `LENGTH` and `ANGLE` allow at most.
        shift: Change of distances that `SITE` allows at most, A.
    """

    structure: Structure
    atomic_numbers: IntArray
    distances: FloatArray
    strain: float
    shift: float

    @classmethod
    def of(cls, crystal: Crystal) -> _Reduced:
        structure = crystal.to_structure().get_reduced_structure().get_primitive_structure(_PRIMITIVE)
        primitive = Crystal.from_structure(structure, crystal.id)
        directions = primitive.lattice / np.linalg.norm(primitive.lattice, axis=1, keepdims=True)
        cosines = directions @ directions.T
        # Of the metric, for axes of length 1: r^2 = x G x changes by x dG x, where x^2 is at most r^2 over the least
        # eigenvalue of G.
        change = 2 * LENGTH * np.abs(cosines) + np.radians(ANGLE) * (1 - np.eye(3))
        strain = np.linalg.eigvalsh(change)[-1] / (2 * np.linalg.eigvalsh(cosines)[0])
        shift = 2 * SITE * (primitive.volume / primitive.num_atoms) ** (1 / 3)
        return cls(structure, primitive.atomic_numbers, _nearest(primitive), _MARGIN * strain, _MARGIN * shift)

    def equals(self, other: _Reduced, matcher: StructureMatcher) -> bool:
        """Whether the matcher finds them equal; it is asked only if each site has a counterpart by its distances."""
        if len(self.distances) != len(other.distances):
            return False
        here, there = self.distances[:, None], other.distances[None]
        close = np.abs(here - there) <= self.strain * np.maximum(here, there) + self.shift
        pairs = close.all(2) & (self.atomic_numbers[:, None] == other.atomic_numbers)
        return bool(pairs.any(0).all() and pairs.any(1).all()) and matcher.fit(
            other.structure, self.structure, skip_structure_reduction=True
        )


def _nearest(crystal: Crystal) -> FloatArray:
    """[n, `_NEAREST`] distances of each site to its nearest neighbours, A, `_CUTOFF` for all beyond it."""
    table = CrystalTable.from_crystals([crystal])
    cells = torch.from_numpy(table.frac_coords), torch.from_numpy(table.lattices), torch.from_numpy(table.num_atoms)
    edges = periodic_neighbours(*cells, cutoff=_CUTOFF, max_neighbours=_ALL)
    centres, distances = edges.edge_index[1].numpy(), edges.dist.numpy()
    nearest = np.full((crystal.num_atoms, _NEAREST), _CUTOFF)
    for site in range(crystal.num_atoms):
        found = np.sort(distances[centres == site])[:_NEAREST]
        nearest[site, : len(found)] = found
    return nearest


def _surroundings(table: CrystalTable) -> FloatArray:
    """[n, K], smoothed numbers of neighbours by distance, elements weighted: least, mean and largest of all atoms.

    They do not depend on the cell that was chosen and hardly on errors of rounding, so that only the few crystals in
    which they are similar need be compared.
    """
    weight = torch.from_numpy(np.random.default_rng(0).uniform(0.5, 1.5, MAX_ATOMIC_NUMBER + 1))
    parts: list[torch.Tensor] = []
    for start in range(0, len(table), _CHUNK):
        part = table.take(np.arange(start, min(start + _CHUNK, len(table))))
        num_atoms = torch.from_numpy(part.num_atoms)
        cells = torch.from_numpy(part.frac_coords), torch.from_numpy(part.lattices), num_atoms
        edges = periodic_neighbours(*cells, cutoff=_CUTOFF, max_neighbours=_ALL)
        neighbour, centre = edges.edge_index
        of_atom = weight[torch.from_numpy(part.atomic_numbers)]
        fades = torch.cos(edges.dist * (0.5 * torch.pi / _CUTOFF)) ** 2
        of_pair = of_atom[neighbour] * of_atom[centre] * fades
        near = torch.exp(-0.5 * ((edges.dist[:, None] - _DISTANCES) / _WIDTH) ** 2) * of_pair[:, None]
        numbers = near.new_zeros(len(of_atom), len(_DISTANCES)).index_add_(0, centre, near)
        for of_crystal in torch.split(numbers, num_atoms.tolist()):
            parts.append(torch.cat([of_crystal.amin(0), of_crystal.mean(0), of_crystal.amax(0)]))
    surroundings: FloatArray = torch.stack(parts).numpy()
    return surroundings


def _detail(loaded: LoadedTable, row: int, earlier: int, shown: Sequence[str]) -> str:
    table = loaded.table
    where = f"row {loaded.source_rows[earlier]} ({table.ids[earlier]}) has the same crystal"
    values = [(name, table.properties[name][row], table.properties[name][earlier]) for name in shown]
    known = [(name, here, there) for name, here, there in values if np.isfinite(here)]
    differing = [f"{name} {there:g} instead of {here:g}" for name, here, there in known if here != there]
    return f"{where}, with {', '.join(differing)}: keep one of them" if differing else where
