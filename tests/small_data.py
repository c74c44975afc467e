"""A few dozen real crystals in a file, for tests that train."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from matwheel.data.catalogue import load


def write_small_table(
    path: Path, count: int = 40, max_sites: int = 6, properties: tuple[str, ...] = ("poly_total", "band_gap")
) -> Path:
    """Write small cells of the embedded dielectric data set, with some of its properties, as extended XYZ."""
    table = load("mp_poly_total").table
    rows = np.flatnonzero(table.num_atoms <= max_sites)
    rows = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
    frames = [
        Atoms(
            numbers=crystal.atomic_numbers,
            cell=crystal.lattice,
            scaled_positions=crystal.frac_coords,
            pbc=True,
            info={"id": crystal.id, **{name: crystal.properties[name] for name in properties}},
        )
        for crystal in table.take(rows)
    ]
    write(path, frames, format="extxyz")
    return path
