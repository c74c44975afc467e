"""Rows that hold the crystal of an earlier row: in another part of a split they would be known before the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from matwheel.data.compositions import reduced_composition
from matwheel.data.crystal import MAX_ATOMIC_NUMBER, CrystalTable, FloatArray
from matwheel.data.neighbours import periodic_neighbours
from matwheel.data.rows import BadRow, LoadedTable, Reason

LENGTH = 0.002  # relative; more than files with 3 digits lose, less than another calculation of a crystal changes
SITE = 0.004  # of (volume per atom) ** (1/3): 0.01 A
ANGLE = 0.2  # degrees

_CUTOFF = 5.0  # A
_DISTANCES = torch.arange(1.0, _CUTOFF + 0.25, 0.5)  # A
_WIDTH = 0.5  # A
_SIMILAR = 0.03
"""Relative difference of surroundings beyond which crystals are not compared; the tolerances change them by less."""
_CHUNK = 64
_ALL = 10_000  # neighbours, more than there are


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
    for row, crystal in enumerate(table):
        others = first.setdefault(reduced_composition(crystal.atomic_numbers), [])
        differences = np.abs(surroundings[others] - surroundings[row]).max(1, initial=0)
        similar = [others[place] for place in np.flatnonzero(differences <= _SIMILAR * surroundings[row].max())]
        structure = crystal.to_structure() if similar else None
        earlier = next((other for other in similar if matcher.fit(structure, table[other].to_structure())), None)
        if earlier is None:
            others.append(row)
        yield earlier


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
