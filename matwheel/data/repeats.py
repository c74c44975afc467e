"""Rows that hold the crystal of an earlier row: in another part of a split they would be known before the test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from matwheel.data.crystal import Crystal
from matwheel.data.rows import BadRow, LoadedTable, Reason

RESOLUTION = 1e-4  # A for lengths, else fractions; files with 5 digits or more agree to this


def without_repeats(loaded: LoadedTable, shown: Sequence[str] = ()) -> LoadedTable:
    """Keep the first row of each crystal.

    Crystals are equal if lengths and angles of the cell and all sites are, to 4 decimals; orientation and order of the
    sites are free, origin and choice of the cell are not.

    Args:
        loaded: Rows that can be used; a row that cannot must not stand for its crystal.
        shown: Properties whose values the reason tells where the two rows differ in them.
    """
    first: dict[bytes, int] = {}
    bad = []
    for row, crystal in enumerate(loaded.table):
        earlier = first.setdefault(_key(crystal), row)
        if earlier != row:
            detail = _detail(loaded, row, earlier, shown)
            bad.append(BadRow(int(loaded.source_rows[row]), crystal.id, Reason.REPEATED, detail))
    return loaded.take(np.array(list(first.values()), dtype=np.int64), bad)


def _key(crystal: Crystal) -> bytes:
    lengths = np.linalg.norm(crystal.lattice, axis=1)
    directions = crystal.lattice / lengths[:, None]
    cosines = (directions @ directions.T)[np.triu_indices(3, 1)]
    cell = np.rint(np.concatenate([lengths, cosines]) / RESOLUTION).astype(np.int64)
    whole = np.rint(crystal.frac_coords / RESOLUTION).astype(np.int64) % round(1 / RESOLUTION)
    sites = np.column_stack([crystal.atomic_numbers, whole])
    return np.concatenate([cell, sites[np.lexsort(sites.T)].ravel()]).tobytes()


def _detail(loaded: LoadedTable, row: int, earlier: int, shown: Sequence[str]) -> str:
    table = loaded.table
    where = f"row {loaded.source_rows[earlier]} ({table.ids[earlier]}) has the same crystal"
    values = [(name, table.properties[name][row], table.properties[name][earlier]) for name in shown]
    differing = [f"{name} {there:g} instead of {here:g}" for name, here, there in values if here != there]
    return f"{where}, with {', '.join(differing)}: keep one of them" if differing else where
